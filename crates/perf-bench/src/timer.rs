//! A stopwatch with nanosecond precision.

use std::time::Duration;

use crate::clock::{Clock, CounterClock, duration_ns};

/// A stopwatch: stopped or running, it accumulates the time it ran.
///
/// Precision is that of the clock: nanoseconds with [`CounterClock`], which also says
/// how right they are. The first timer of a process measures that clock's rate.
///
/// # Time two parts of a loop and leave out the third
///
/// ```
/// use perf_bench::Timer;
///
/// let mut timer = Timer::new();
/// for input in 0..10_u64 {
///     timer.start();
///     let squared = std::hint::black_box(input * input);
///     timer.stop();
///     assert_eq!(squared, input * input); // checked off the clock
/// }
/// println!("{} ns", timer.elapsed_ns());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timer<C: Clock = CounterClock> {
    clock: C,
    accumulated: Duration,
    running_since: Option<C::Mark>,
}

impl Timer {
    /// A stopped timer at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(CounterClock::new())
    }

    /// A timer at zero that runs already.
    #[must_use]
    pub fn started() -> Self {
        let mut timer = Self::new();
        timer.start();
        timer
    }

    /// Runs `body` once and says how long it took.
    ///
    /// The result goes through [`std::hint::black_box`], so that the compiler
    /// cannot drop a body whose result the caller ignores.
    #[inline]
    pub fn measure<T>(body: impl FnOnce() -> T) -> (T, Duration) {
        let mut timer = Self::started();
        let value = std::hint::black_box(body());
        let elapsed = timer.stop();
        (value, elapsed)
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock> Timer<C> {
    /// A stopped timer at zero that reads `clock`.
    #[must_use]
    pub fn with_clock(clock: C) -> Self {
        Self {
            clock,
            accumulated: Duration::ZERO,
            running_since: None,
        }
    }

    /// Starts or continues. A running timer is left as it is.
    #[inline]
    pub fn start(&mut self) {
        if self.running_since.is_none() {
            // The reading comes last, so that none of our own work is timed.
            self.running_since = Some(self.clock.mark());
        }
    }

    /// Stops and returns the accumulated time. A stopped timer is left as it is.
    #[inline]
    pub fn stop(&mut self) -> Duration {
        // The reading comes first, for the same reason as in `start`.
        let now = self.clock.mark();
        if let Some(since) = self.running_since.take() {
            self.accumulated += self.clock.between(since, now);
        }
        self.accumulated
    }

    /// Returns the accumulated time, then starts again from zero.
    #[inline]
    pub fn restart(&mut self) -> Duration {
        let elapsed = self.stop();
        self.accumulated = Duration::ZERO;
        self.start();
        elapsed
    }

    /// Stops and forgets the accumulated time.
    pub fn reset(&mut self) {
        self.running_since = None;
        self.accumulated = Duration::ZERO;
    }

    /// Whether the timer runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running_since.is_some()
    }

    /// Time accumulated so far; a running timer goes on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match self.running_since {
            Some(since) => self.accumulated + self.clock.between(since, self.clock.mark()),
            None => self.accumulated,
        }
    }

    /// [`elapsed`](Self::elapsed) in whole nanoseconds, saturating at 584 years.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        duration_ns(self.elapsed())
    }

    /// [`elapsed`](Self::elapsed) in microseconds.
    #[must_use]
    pub fn elapsed_us(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e6
    }

    /// [`elapsed`](Self::elapsed) in milliseconds.
    #[must_use]
    pub fn elapsed_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }

    /// [`elapsed`](Self::elapsed) in seconds.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn laps_add_up_and_pauses_do_not_count() {
        let clock = ManualClock::new();
        let mut timer = Timer::with_clock(&clock);
        for _ in 0..3 {
            timer.start();
            clock.advance(Duration::from_nanos(10));
            timer.stop();
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(timer.elapsed_ns(), 30);
    }

    #[test]
    fn starting_twice_keeps_the_first_start() {
        let clock = ManualClock::new();
        let mut timer = Timer::with_clock(&clock);
        timer.start();
        clock.advance(Duration::from_nanos(5));
        timer.start();
        clock.advance(Duration::from_nanos(5));
        assert_eq!(timer.stop(), Duration::from_nanos(10));
        assert_eq!(timer.stop(), Duration::from_nanos(10));
    }

    #[test]
    fn restart_returns_the_lap_and_reset_forgets_it() {
        let clock = ManualClock::new();
        let mut timer = Timer::with_clock(&clock);
        timer.start();
        clock.advance(Duration::from_nanos(4));
        assert_eq!(timer.restart(), Duration::from_nanos(4));
        assert!(timer.is_running());
        clock.advance(Duration::from_nanos(6));
        assert_eq!(timer.elapsed(), Duration::from_nanos(6));
        timer.reset();
        assert!(!timer.is_running());
        assert_eq!(timer.elapsed(), Duration::ZERO);
    }

    #[test]
    fn measure_returns_what_the_body_returned() {
        let (value, _elapsed) = Timer::measure(|| 6 * 7);
        assert_eq!(value, 42);
    }
}
