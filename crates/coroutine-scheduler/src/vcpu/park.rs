//! One vCPU's sleep: a token that a wake leaves and a park takes.

use std::time::Duration;

use rustix::thread::futex;

use crate::sync::{AtomicU32, Ordering};

const EMPTY: u32 = 0;
const TOKEN: u32 = 1;
const PARKED: u32 = 2;

/// Belongs to the vCPU, not to the thread that runs it just now.
#[derive(Debug, Default)]
pub(crate) struct Parker(AtomicU32);

impl Parker {
    /// Sleeps until there is a token or the time is over; takes the token.
    /// Gives whether there was one. One thread at a time.
    pub(crate) fn park(&self, timeout: Option<Duration>) -> bool {
        if self.take() {
            return true;
        }
        let parked = self
            .0
            .compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire);
        if parked.is_ok() {
            let timeout = timeout.map(|t| futex::Timespec {
                tv_sec: t.as_secs().min(i64::MAX as u64).cast_signed(),
                tv_nsec: t.subsec_nanos().into(),
            });
            // Early returns (a signal) look like timeouts; callers loop.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, PARKED, timeout.as_ref());
        }
        self.0.swap(EMPTY, Ordering::Acquire) == TOKEN
    }

    fn take(&self) -> bool {
        self.0
            .compare_exchange(TOKEN, EMPTY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Leaves a token and wakes who sleeps.
    pub(crate) fn unpark(&self) {
        if self.0.swap(TOKEN, Ordering::Release) == PARKED {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }
}
