//! Where time comes from.
//!
//! Everything that measures is generic over [`Clock`], so that tests move time by
//! hand instead of asserting on wall time. A mark stays in the clock's own
//! representation until it is subtracted: converting at each reading would put
//! arithmetic between the reading and the measured code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A monotonic source of time.
pub trait Clock {
    /// One reading, meaningful only to the clock that gave it.
    type Mark: Copy + std::fmt::Debug;

    /// Reads the clock.
    fn mark(&self) -> Self::Mark;

    /// Time from `earlier` to `later`; zero if they are the other way round.
    fn between(&self, earlier: Self::Mark, later: Self::Mark) -> Duration;
}

/// The operating system's monotonic clock, through [`Instant`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    type Mark = Instant;

    #[inline]
    fn mark(&self) -> Instant {
        Instant::now()
    }

    #[inline]
    fn between(&self, earlier: Instant, later: Instant) -> Duration {
        later.saturating_duration_since(earlier)
    }
}

/// A clock that moves only when told to: for tests of code that measures.
///
/// ```
/// use std::time::Duration;
/// use perf_bench::{ManualClock, Timer};
///
/// let clock = ManualClock::new();
/// let mut timer = Timer::with_clock(&clock);
/// timer.start();
/// clock.advance(Duration::from_micros(3));
/// assert_eq!(timer.stop(), Duration::from_micros(3));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ns: AtomicU64,
}

impl ManualClock {
    /// A clock at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves time forward; what exceeds `u64` nanoseconds (584 years) is dropped.
    pub fn advance(&self, by: Duration) {
        // Relaxed: the counter orders nothing but itself.
        self.now_ns.fetch_add(duration_ns(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    type Mark = u64;

    fn mark(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn between(&self, earlier: u64, later: u64) -> Duration {
        Duration::from_nanos(later.saturating_sub(earlier))
    }
}

impl<C: Clock> Clock for &C {
    type Mark = C::Mark;

    fn mark(&self) -> C::Mark {
        (**self).mark()
    }

    fn between(&self, earlier: C::Mark, later: C::Mark) -> Duration {
        (**self).between(earlier, later)
    }
}

/// Whole nanoseconds of a duration, saturating at `u64::MAX` (584 years).
#[inline]
pub(crate) fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_the_wrong_order_are_zero_apart() {
        let clock = ManualClock::new();
        let earlier = clock.mark();
        clock.advance(Duration::from_nanos(7));
        let later = clock.mark();
        assert_eq!(clock.between(earlier, later), Duration::from_nanos(7));
        assert_eq!(clock.between(later, earlier), Duration::ZERO);
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let clock = MonotonicClock;
        let marks: Vec<_> = (0..1000).map(|_| clock.mark()).collect();
        assert!(marks.is_sorted());
    }

    #[test]
    fn long_durations_saturate() {
        assert_eq!(duration_ns(Duration::MAX), u64::MAX);
    }
}
