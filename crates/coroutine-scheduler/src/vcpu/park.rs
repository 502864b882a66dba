//! One vCPU's sleep: a token that a wake leaves and a park takes.

use std::time::Duration;

use crate::sync::{Futex, Ordering};

const EMPTY: u32 = 0;
/// A bit: there is a token.
const TOKEN: u32 = 1;
/// A bit: somebody sleeps, or is being woken.
const PARKED: u32 = 2;

/// Belongs to the vCPU, not to the thread that runs it just now.
#[derive(Debug, Default)]
pub(crate) struct Parker(Futex);

impl Parker {
    /// Sleeps until there is a token or the time is over; takes the token.
    /// Gives whether there was one. One thread at a time.
    pub(crate) fn park(&self, timeout: Option<Duration>) -> bool {
        if self.take() {
            return true;
        }
        let parked =
            self.0
                .word()
                .compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire);
        if parked.is_ok() {
            // Early returns (a signal) look like timeouts; callers loop.
            self.0.wait(PARKED, timeout);
        }
        self.0.word().swap(EMPTY, Ordering::Acquire) & TOKEN != 0
    }

    fn take(&self) -> bool {
        self.0
            .word()
            .compare_exchange(TOKEN, EMPTY, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Leaves a token and wakes who sleeps, also where a token was there already:
    /// its sender may have lost the CPU before it could wake anybody.
    pub(crate) fn unpark(&self) {
        if self.leave_token() {
            self.0.wake();
        }
    }

    /// The first step of [`Parker::unpark`]; whether there is a second one.
    pub(crate) fn leave_token(&self) -> bool {
        self.0.word().fetch_or(TOKEN, Ordering::Release) & PARKED != 0
    }
}
