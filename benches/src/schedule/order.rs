//! Who did the work, and who was picked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use coroutine_scheduler::{Fairness, Priority, SpawnOptions, spawn, spawn_with, yield_now};
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use super::ours::{Ours, VCPUS};
use super::programs::{self, Runtime as _, Slot, process_cpu, spin};
use super::{set_up, start};
use crate::contest::nanoseconds;
use crate::jit::sample;
use crate::lab::{Lab, Measured};

/// Pieces of computing, all spawned by one coroutine: how evenly the vCPUs were
/// busy with them.
pub(super) fn balance(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const ROUNDS: u64 = 50_000;
    let pieces: u64 = if lab.is_quick { 2_000 } else { 10_000 };
    set_up(&mut result, VCPUS);
    let ours = start(|_| {})?;
    let scheduler = ours.scheduler();
    ours.block_on(async {});
    let busy = || -> Vec<Duration> {
        let stats = scheduler.get_stats();
        stats.vcpus.iter().map(|vcpu| vcpu.busy_time).collect()
    };
    let busy_before = busy();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let root = scheduler.spawn(async move {
        let spawned: Vec<_> = (0..pieces)
            .map(|piece| spawn(async move { spin(ROUNDS, piece) }))
            .collect();
        let mut sum = 0_u64;
        for piece in spawned {
            let value = piece.expect("there is room").await;
            sum = sum.wrapping_add(value.expect("it computes and ends"));
        }
        sum
    })?;
    let sum = root.join().map_err(|error| anyhow!("{error}"))?;
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    let busy: Vec<f64> = busy()
        .iter()
        .zip(&busy_before)
        .map(|(after, before)| after.saturating_sub(*before).as_secs_f64())
        .collect();
    let expected = (0..pieces).fold(0_u64, |sum, piece| {
        sum.wrapping_add(closed_form(ROUNDS, piece))
    });
    if let Err(why) = programs::expect("sum of the pieces", sum, expected) {
        result.mark_invalid(why);
    }
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    let most = busy.iter().copied().fold(0.0, f64::max);
    if mean * busy.len() as f64 > 1.05 * wall.as_secs_f64() * busy.len() as f64 {
        result.mark_invalid("vCPUs were busy for longer than it took");
    }
    let imbalance = most / mean - 1.0;
    let metrics = Metrics::new("pieces", wall, pieces)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / pieces as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "busy share of the vCPUs",
            mean / wall.as_secs_f64(),
            Unit::Ratio,
            Direction::Higher,
        )?;
    result.push_metrics(metrics);
    result.extend_samples([sample(Event::WallNs, 0, nanoseconds(wall), pieces)]);
    result.record_kpi("sched.imbalance_pct", imbalance, Unit::Ratio)?;
    Ok(Measured::Done(result))
}

/// What [`spin`] gives, by the square-and-multiply of its step.
fn closed_form(rounds: u64, seed: u64) -> u64 {
    let (mut factor, mut term) = (6_364_136_223_846_793_005_u64, 1_442_695_040_888_963_407_u64);
    let (mut value, mut left) = (seed, rounds);
    while left > 0 {
        if left & 1 == 1 {
            value = value.wrapping_mul(factor).wrapping_add(term);
        }
        // Twice the step x -> f x + t.
        term = term.wrapping_mul(factor).wrapping_add(term);
        factor = factor.wrapping_mul(factor);
        left >>= 1;
    }
    value
}

/// What has been made ready and not been picked yet, as the bodies see it.
#[derive(Debug, Default)]
struct Observed {
    ready: [AtomicU64; 4],
    n_picks: AtomicU64,
    n_inversions: AtomicU64,
    by_level: [AtomicU64; 4],
}

impl Observed {
    fn made_ready(&self, priority: Priority) {
        self.ready[priority.level()].fetch_add(1, Ordering::Relaxed);
    }

    /// The body runs: was anything more urgent left behind?
    fn picked(&self, priority: Priority) {
        let level = priority.level();
        self.n_picks.fetch_add(1, Ordering::Relaxed);
        self.by_level[level].fetch_add(1, Ordering::Relaxed);
        self.ready[level].fetch_sub(1, Ordering::Relaxed);
        let is_inversion = self.ready[level + 1..]
            .iter()
            .any(|ready| ready.load(Ordering::Relaxed) > 0);
        self.n_inversions
            .fetch_add(u64::from(is_inversion), Ordering::Relaxed);
    }
}

/// Strict mode on one vCPU: whenever a coroutine runs, nothing more urgent was
/// ready.
///
/// A source, itself `Low`, spawns bursts of random priorities and gives up its
/// turn; each body makes another coroutine ready half-way, by spawning or by
/// waking, of any priority. One thread runs all of it, so that the bodies know
/// exactly what is ready when they are picked. The scheduler's own account of
/// inversions has to agree.
pub(super) fn order(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const PICKS_MIN: u64 = 100_000;
    const BURST: u64 = 64;
    let bursts: u64 = if lab.is_quick { 1_000 } else { 5_000 };
    set_up(&mut result, 1);
    let ours = Ours::start(1, |config| {
        config.fairness = Fairness::Strict;
        // A second thread would make the bodies' account a guess.
        config.hand_off = false;
    })
    .map_err(|why| anyhow!("the scheduler does not start: {why}"))?;
    let scheduler = ours.scheduler();
    let observed = Arc::new(Observed::default());
    // One sleeper of each priority, woken by whoever is at its half-way.
    let sleepers: Arc<[Slot<bool>; 4]> = Arc::default();
    let awake: Arc<[AtomicBool; 4]> = Arc::default();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let (o, s, a) = (
        Arc::clone(&observed),
        Arc::clone(&sleepers),
        Arc::clone(&awake),
    );
    let source = async move {
        let observed = o;
        let go = |priority: Priority, body: Box<dyn FnOnce() + Send>| {
            let seen = Arc::clone(&observed);
            seen.made_ready(priority);
            let task = spawn_with(SpawnOptions::new().priority(priority), async move {
                seen.picked(priority);
                body();
                seen.made_ready(priority);
                yield_now().await;
                seen.picked(priority);
            });
            task.expect("there is room for a burst")
        };
        let sleeping: Vec<_> = Priority::ALL
            .into_iter()
            .map(|priority| {
                let (seen, sleepers, awake) =
                    (Arc::clone(&observed), Arc::clone(&s), Arc::clone(&a));
                seen.made_ready(priority);
                awake[priority.level()].store(true, Ordering::Relaxed);
                let task = spawn_with(SpawnOptions::new().priority(priority), async move {
                    seen.picked(priority);
                    awake[priority.level()].store(false, Ordering::Relaxed);
                    loop {
                        let goes_on = sleepers[priority.level()].take().await;
                        seen.picked(priority);
                        awake[priority.level()].store(false, Ordering::Relaxed);
                        if !goes_on {
                            break;
                        }
                    }
                });
                task.expect("there is room for four")
            })
            .collect();
        let turn = async || {
            observed.made_ready(Priority::Low);
            yield_now().await;
            observed.picked(Priority::Low);
        };
        // Until all of them sleep: a wake before that would be no pick.
        while a.iter().any(|awake| awake.load(Ordering::Relaxed)) {
            turn().await;
        }

        let wake = {
            let (seen, sleepers, awake) = (Arc::clone(&observed), Arc::clone(&s), Arc::clone(&a));
            move |priority: Priority, goes_on: bool| {
                if !awake[priority.level()].swap(true, Ordering::Relaxed) {
                    seen.made_ready(priority);
                    sleepers[priority.level()].put(goes_on);
                }
            }
        };
        let mut state = 1_u64;
        let mut random = move |n: u64| {
            state = spin(1, state);
            (state >> 33) % n
        };
        for _ in 0..bursts {
            let mut burst = Vec::with_capacity(BURST as usize);
            for _ in 0..BURST {
                let of = |n: u64| Priority::ALL[n as usize];
                let (own, other) = (of(random(4)), of(random(4)));
                let body: Box<dyn FnOnce() + Send> = match random(3) {
                    0 => Box::new(|| {}),
                    1 => {
                        let wake = wake.clone();
                        Box::new(move || wake(other, true))
                    }
                    _ => {
                        let seen = Arc::clone(&observed);
                        Box::new(move || {
                            seen.made_ready(other);
                            let options = SpawnOptions::new().priority(other);
                            let task = spawn_with(options, async move { seen.picked(other) });
                            drop(task.expect("there is room for a burst"));
                        })
                    }
                };
                burst.push(go(own, body));
            }
            turn().await;
        }
        while a.iter().any(|awake| awake.load(Ordering::Relaxed)) {
            turn().await;
        }
        for priority in Priority::ALL {
            wake(priority, false);
        }
        sleeping
    };
    // The source is made ready from outside, before anything is counted.
    observed.made_ready(Priority::Low);
    let seen = Arc::clone(&observed);
    let low = SpawnOptions::new().priority(Priority::Low);
    let source = scheduler.spawn_with(low, async move {
        seen.picked(Priority::Low);
        source.await
    })?;
    let sleeping = source.join().map_err(|error| anyhow!("{error}"))?;
    for sleeper in sleeping {
        sleeper.join().map_err(|error| anyhow!("{error}"))?;
    }
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));

    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let executions = || -> u64 {
        let stats = scheduler.get_stats();
        stats.vcpus.iter().map(|vcpu| vcpu.executions).sum()
    };
    // A run is counted when it is over, which is after its body has ended.
    let patience = Instant::now() + Duration::from_secs(1);
    while executions() != get(&observed.n_picks) && Instant::now() < patience {
        thread::yield_now();
    }
    let stats = scheduler.get_stats();
    let n_picks = get(&observed.n_picks);
    let n_inversions = get(&observed.n_inversions);
    let executions = executions();
    let fewest = observed.by_level.iter().map(get).min().unwrap_or(0);
    if executions != n_picks {
        result.mark_invalid(format!("{executions} runs, of which bodies saw {n_picks}"));
    }
    if n_picks < PICKS_MIN || fewest < n_picks / 10 {
        result.mark_invalid(format!("{n_picks} picks, {fewest} of the rarest priority"));
    }
    let left: Vec<u64> = observed.ready.iter().map(get).collect();
    if left != [0; 4] {
        result.mark_invalid(format!("ready and never picked, by priority: {left:?}"));
    }
    if (n_inversions == 0) != (stats.priority_inversions == 0) {
        result.warn(format!(
            "bodies saw {n_inversions} inversions, the scheduler counts {}: the greater counts",
            stats.priority_inversions
        ));
    }
    let worst = n_inversions.max(stats.priority_inversions);
    let metrics = Metrics::new("picks", wall, n_picks)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / n_picks as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "inversions seen by bodies",
            n_inversions as f64,
            Unit::Count,
            Direction::Lower,
        )?
        .with(
            "inversions counted by the scheduler",
            stats.priority_inversions as f64,
            Unit::Count,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.record_kpi(
        "sched.priority_accuracy_pct",
        1.0 - worst as f64 / n_picks as f64,
        Unit::Ratio,
    )?;
    Ok(Measured::Done(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_compute_what_the_closed_form_says() {
        for (rounds, seed) in [(0, 9), (1, 9), (2, 0), (1_000, 3), (1_027, u64::MAX)] {
            assert_eq!(spin(rounds, seed), closed_form(rounds, seed));
        }
    }

    #[test]
    fn an_inversion_is_seen() {
        let observed = Observed::default();
        observed.made_ready(Priority::Low);
        observed.made_ready(Priority::High);
        observed.picked(Priority::Low);
        observed.picked(Priority::High);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(
            (get(&observed.n_picks), get(&observed.n_inversions)),
            (2, 1)
        );
    }
}
