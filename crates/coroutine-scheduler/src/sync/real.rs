//! What the host has.

use std::time::Duration;

pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
pub(crate) use parking_lot::Mutex;
use rustix::thread::{MembarrierCommand, futex, membarrier};
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A word that threads sleep on.
#[derive(Debug, Default)]
pub(crate) struct Futex(AtomicU32);

impl Futex {
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sleeps while the word is `expected`, until a wake or the time is over, or
    /// for no reason: callers loop.
    pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
        let timeout = timeout.map(|t| futex::Timespec {
            tv_sec: t.as_secs().min(i64::MAX as u64).cast_signed(),
            tv_nsec: t.subsec_nanos().into(),
        });
        let _ = futex::wait(&self.0, futex::Flags::PRIVATE, expected, timeout.as_ref());
    }

    /// Wakes one.
    pub(crate) fn wake(&self) {
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }
}

/// Lets this process use [`barrier_on_all`]; whether the host does.
pub(crate) fn register_barrier_on_all() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// A full fence on every running thread of this process; `false` if the host
/// refuses.
pub(crate) fn barrier_on_all() -> bool {
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

/// The order that sequentially consistent accesses have among each other: here
/// they have it already.
#[inline]
pub(crate) fn order_of_accesses() {}
