//! Where time comes from.
//!
//! Everything that measures is generic over [`Clock`], so that tests move time by
//! hand instead of asserting on wall time. A mark stays in the clock's own
//! representation until it is subtracted: converting at each reading would put
//! arithmetic between the reading and the measured code.

use std::sync::OnceLock;
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

/// The CPU's time stamp counter where that is invariant (one rate, going on in sleep
/// states, all of which the CPU has to say of it), elsewhere the operating system's
/// monotonic clock. A reading takes 6 to 9 ns instead of 20 to 25.
///
/// The first of a process counts ticks against the monotonic clock for about a
/// millisecond, 200 ms at most, and all others have the same rate. It is known to
/// some 50 parts per million; the monotonic clock may be slewed by another 500 by
/// whoever sets the time. So an interval of a second can be off by half a
/// millisecond, and one of a microsecond by less than a nanosecond. Time in which the
/// machine was suspended or moved to another host is not counted.
///
/// Readings are not ordered with the code around them: the CPU may begin some
/// instructions of the measured code before the first, or end some after the second.
/// That is a few nanoseconds, and matters for bodies that take no longer than that: a
/// [`Sampler`](crate::Sampler) times many of those at once.
///
/// Without the crate's feature `counter` it is the monotonic clock everywhere.
#[derive(Clone, Copy, Debug)]
pub struct CounterClock(&'static Inner);

#[cfg(feature = "counter")]
type Inner = quanta::Clock;
#[cfg(not(feature = "counter"))]
type Inner = SinceFirst;

/// Nanoseconds of the monotonic clock since the process's first reading, by the
/// methods of `quanta::Clock`.
#[cfg(not(feature = "counter"))]
#[derive(Debug)]
struct SinceFirst(Instant);

#[cfg(not(feature = "counter"))]
impl SinceFirst {
    fn new() -> Self {
        Self(Instant::now())
    }

    #[inline]
    fn raw(&self) -> u64 {
        duration_ns(self.0.elapsed())
    }

    #[inline]
    fn delta(&self, earlier: u64, later: u64) -> Duration {
        Duration::from_nanos(later.saturating_sub(earlier))
    }
}

impl CounterClock {
    /// The process's only one.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        static CLOCK: OnceLock<Inner> = OnceLock::new();
        Self(CLOCK.get_or_init(Inner::new))
    }
}

impl Default for CounterClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for CounterClock {
    type Mark = u64;

    #[inline]
    fn mark(&self) -> u64 {
        self.0.raw()
    }

    #[inline]
    fn between(&self, earlier: u64, later: u64) -> Duration {
        self.0.delta(earlier, later)
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

    /// Both clocks are read around the same work, one pair of readings inside the
    /// other: however long that takes, and however often the host interrupts it, the
    /// inner interval cannot be the longer one, and the outer not shorter.
    #[test]
    fn the_counter_and_the_monotonic_clock_agree() {
        /// What the documentation allows for, with room for a first measurement of
        /// the rate that the host interrupted.
        const OFF_MAX: f64 = 0.005;
        const READING: Duration = Duration::from_micros(1);
        let (counter, monotonic) = (CounterClock::new(), MonotonicClock);
        let around = monotonic.mark();
        let outer = counter.mark();
        let inner = monotonic.mark();
        let mut end = monotonic.mark();
        while monotonic.between(inner, end) < Duration::from_millis(20) {
            end = monotonic.mark();
        }
        let inside = monotonic.between(inner, end);
        let counted = counter.between(outer, counter.mark());
        let outside = monotonic.between(around, monotonic.mark());
        assert!(
            counted + READING >= inside.mul_f64(1.0 - OFF_MAX),
            "{counted:?} around {inside:?}"
        );
        assert!(
            counted <= outside.mul_f64(1.0 + OFF_MAX) + READING,
            "{counted:?} inside {outside:?}"
        );
        assert_eq!(counter.between(2, 1), Duration::ZERO);
    }

    #[test]
    fn long_durations_saturate() {
        assert_eq!(duration_ns(Duration::MAX), u64::MAX);
    }
}
