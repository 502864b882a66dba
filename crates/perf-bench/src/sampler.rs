//! Takes samples of a function: finds a batch size, warms up, measures rounds.
//!
//! ```text
//!  calibrate: 1, ~10, ~100 … iterations, until a batch takes batch_ns_min
//!  warm up:   warmup_rounds batches  ┐ phase `warmup`: kept, not summarised
//!  measure:   rounds batches           phase `measure`
//! ```
//! A batch costs one pair of clock readings (tens of ns) and a loop, so with
//! batches of a millisecond the harness adds less than 0.01 % and, per iteration,
//! under a nanosecond.

use std::hint::black_box;
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock, duration_ns};
use crate::sample::{Event, Phase, Sample};

/// How to sample a function.
///
/// Start from [`Sampler::default`] or [`Sampler::quick`] and change fields:
///
/// ```
/// use perf_bench::Sampler;
///
/// let sampler = Sampler { rounds: 5, ..Sampler::quick() };
/// let samples = sampler.run(|| (1..=20_u64).product::<u64>());
/// assert!(samples.iter().all(|sample| sample.iters > 0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Batches run before measuring. Default 3, quick 1.
    pub warmup_rounds: u32,
    /// Batches measured, at least one. Default 30, quick 10.
    pub rounds: u32,
    /// Shortest batch; below some 100 µs the clock and interrupts show. Default
    /// 1 ms.
    pub batch_ns_min: u64,
    /// No new batch starts after this long, once one was measured. Default 3 s,
    /// quick 0.5 s.
    pub time_ns_max: u64,
    /// Iterations of a batch; `None` finds them. Fixed iterations make counters
    /// comparable between runs.
    pub iters: Option<u64>,
    /// Written into each sample.
    pub process: u32,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            warmup_rounds: 3,
            rounds: 30,
            batch_ns_min: 1_000_000,
            time_ns_max: 3_000_000_000,
            iters: None,
            process: 0,
        }
    }
}

/// Bounds calibration on a clock that stands still.
const ITERS_MAX: u64 = 1 << 32;

impl Sampler {
    /// For a first look: fewer rounds, at most half a second.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            warmup_rounds: 1,
            rounds: 10,
            time_ns_max: 500_000_000,
            ..Self::default()
        }
    }

    /// Samples the wall time of `body`, whose result goes through
    /// [`black_box`]; inputs the compiler knows should go through it, too.
    pub fn run<T>(&self, body: impl FnMut() -> T) -> Vec<Sample> {
        self.run_with_clock(&MonotonicClock, body)
    }

    /// [`run`](Self::run) with another clock.
    pub fn run_with_clock<C: Clock, T>(
        &self,
        clock: &C,
        mut body: impl FnMut() -> T,
    ) -> Vec<Sample> {
        let start = clock.mark();
        let out_of_time = || duration_ns(clock.between(start, clock.mark())) >= self.time_ns_max;
        let mut batch = |iters: u64| -> Duration {
            let before = clock.mark();
            for _ in 0..iters {
                black_box(body());
            }
            let after = clock.mark();
            clock.between(before, after)
        };

        let mut samples = Vec::new();
        let mut push = |phase, round, elapsed, iters| {
            let order = u32::try_from(samples.len()).unwrap_or(u32::MAX);
            samples.push(Sample {
                process: self.process,
                round,
                order,
                phase,
                event: Event::WallNs,
                count: duration_ns(elapsed),
                iters,
            });
        };

        let mut warmup_round = 0;
        let iters = match self.iters {
            Some(iters) => iters.max(1),
            None => {
                let mut iters = 1;
                loop {
                    let elapsed = batch(iters);
                    push(Phase::Warmup, warmup_round, elapsed, iters);
                    warmup_round += 1;
                    let elapsed_ns = duration_ns(elapsed);
                    if elapsed_ns >= self.batch_ns_min || iters >= ITERS_MAX || out_of_time() {
                        break iters;
                    }
                    iters = next_iters(iters, elapsed_ns, self.batch_ns_min);
                }
            }
        };
        for _ in 0..self.warmup_rounds {
            if out_of_time() {
                break;
            }
            push(Phase::Warmup, warmup_round, batch(iters), iters);
            warmup_round += 1;
        }
        for round in 0..self.rounds.max(1) {
            if round > 0 && out_of_time() {
                break;
            }
            push(Phase::Measure, round, batch(iters), iters);
        }
        samples
    }
}

/// Aims 20 % past the shortest batch, at most tenfold: the first calls are cold
/// and would promise too few iterations otherwise.
fn next_iters(iters: u64, elapsed_ns: u64, batch_ns_min: u64) -> u64 {
    let factor = if elapsed_ns == 0 {
        10.0
    } else {
        (1.2 * batch_ns_min as f64 / elapsed_ns as f64).clamp(1.2, 10.0)
    };
    ((iters as f64 * factor).ceil() as u64).clamp(iters + 1, ITERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn measured(samples: &[Sample]) -> Vec<&Sample> {
        samples
            .iter()
            .filter(|sample| sample.phase == Phase::Measure)
            .collect()
    }

    #[test]
    fn batches_grow_until_they_are_long_enough() {
        let clock = ManualClock::new();
        let samples =
            Sampler::default().run_with_clock(&clock, || clock.advance(Duration::from_nanos(100)));
        let measured = measured(&samples);
        assert_eq!(measured.len(), 30);
        for sample in measured {
            assert_eq!(sample.per_iter(), Some(100.0));
            assert!((1_000_000..2_000_000).contains(&sample.count), "{sample:?}");
        }
        let orders: Vec<_> = samples.iter().map(|sample| sample.order).collect();
        assert!(orders.iter().copied().eq(0..samples.len() as u32));
    }

    #[test]
    fn a_slow_body_is_measured_once_and_the_limit_holds() {
        let clock = ManualClock::new();
        let samples =
            Sampler::quick().run_with_clock(&clock, || clock.advance(Duration::from_secs(2)));
        // One to calibrate, which used up the time; one measured regardless.
        assert_eq!(samples.len(), 2);
        assert_eq!(measured(&samples).len(), 1);
        assert_eq!(samples[1].iters, 1);
    }

    #[test]
    fn fixed_iterations_are_taken_as_given() {
        let clock = ManualClock::new();
        let mut calls = 0_u64;
        let sampler = Sampler {
            warmup_rounds: 2,
            rounds: 3,
            iters: Some(7),
            process: 4,
            ..Sampler::default()
        };
        let samples = sampler.run_with_clock(&clock, || calls += 1);
        assert_eq!(calls, 5 * 7);
        assert_eq!(samples.len(), 5);
        assert!(samples.iter().all(|s| s.iters == 7 && s.process == 4));
    }

    #[test]
    fn growth_is_bounded_both_ways() {
        assert_eq!(next_iters(1, 0, 1_000_000), 10);
        assert_eq!(next_iters(10, 999_999, 1_000_000), 13);
        assert_eq!(next_iters(100, 1, 1_000_000), 1000);
        assert_eq!(next_iters(ITERS_MAX - 1, 0, 1), ITERS_MAX);
    }
}
