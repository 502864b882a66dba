//! Time: ticks of the time-stamp counter where something is measured often,
//! nanoseconds of the monotonic clock where deadlines are kept.
//!
//! - **C1** `_rdtsc` reads a counter and touches nothing. Every x86-64 CPU has
//!   it; those of the last decade count at one rate on all cores.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Reads the time-stamp counter, in about 20 ns; the monotonic clock takes
/// two to three times that.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: C1.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    now_ns()
}

/// The rate: found once per process, by watching both clocks for a moment.
pub(crate) fn ns_per_tick() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_micros(500) {
            std::hint::spin_loop();
        }
        let (elapsed, last) = (start.elapsed(), ticks());
        elapsed.as_nanos() as f64 / last.wrapping_sub(first).max(1) as f64
    })
}

/// Ticks as nanoseconds, to about a thousandth.
pub(crate) fn ticks_to_ns(ticks: u64) -> u64 {
    (ticks as f64 * ns_per_tick()) as u64
}

/// Nanoseconds as ticks.
pub(crate) fn ns_to_ticks(ns: u64) -> u64 {
    (ns as f64 / ns_per_tick()) as u64
}

/// Nanoseconds of the monotonic clock since the process first asked.
pub(crate) fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    start.elapsed().as_nanos() as u64
}

/// The clock that a scheduler's timers follow.
#[derive(Clone, Default)]
pub enum Clock {
    /// The host's monotonic clock.
    #[default]
    Real,
    /// One that moves only when it is told to: for tests and simulations.
    Virtual(VirtualClock),
}

impl Clock {
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Self::Real => now_ns(),
            Self::Virtual(clock) => clock.ns.load(Ordering::Acquire),
        }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real => f.write_str("Real"),
            Self::Virtual(_) => f.debug_tuple("Virtual").field(&self.now_ns()).finish(),
        }
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Clock) -> bool {
        match (self, other) {
            (Self::Real, Self::Real) => true,
            (Self::Virtual(a), Self::Virtual(b)) => Arc::ptr_eq(&a.ns, &b.ns),
            _ => false,
        }
    }
}

/// Time that somebody else moves; begins at 0. Clones are the same clock. A
/// scheduler with such a clock is told of its moves by
/// [`CoroutineScheduler::advance`](crate::CoroutineScheduler::advance).
#[derive(Clone, Debug, Default)]
pub struct VirtualClock {
    ns: Arc<AtomicU64>,
}

impl VirtualClock {
    pub(crate) fn advance(&self, by: Duration) -> u64 {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.ns.fetch_add(ns, Ordering::AcqRel).saturating_add(ns)
    }
}
