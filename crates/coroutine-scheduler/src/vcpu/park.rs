//! One vCPU's sleep: a token that a wake leaves and a park takes.

use std::time::Duration;

use crate::sync::{Futex, Ordering};

/// A bit: there is a token.
const TOKEN: u32 = 1;
/// A bit: somebody sleeps, or is being woken.
const PARKED: u32 = 2;
/// A bit: this sleep has been ended for certain; others need not.
const WOKEN: u32 = 4;
/// Above the bits, sleeps are counted: who was late ends no other one.
const SLEEP: u32 = 8;

/// Belongs to the vCPU, not to the thread that runs it just now.
#[derive(Debug, Default)]
pub(crate) struct Parker(Futex);

impl Parker {
    /// Sleeps until there is a token or the time is over; takes the token.
    /// Gives whether there was one. One thread at a time.
    pub(crate) fn park(&self, timeout: Option<Duration>) -> bool {
        let word = self.0.word();
        let awake = word.load(Ordering::Relaxed);
        if awake & TOKEN == 0 {
            let parked = awake | PARKED;
            let is_parked =
                word.compare_exchange(awake, parked, Ordering::Acquire, Ordering::Relaxed);
            if is_parked.is_ok() {
                // Early returns (a signal) look like timeouts; callers loop.
                self.0.wait(parked, timeout);
            }
        }
        // Only here the count changes, and bits of this sleep go.
        let next = (awake & !(SLEEP - 1)).wrapping_add(SLEEP);
        word.swap(next, Ordering::Acquire) & TOKEN != 0
    }

    /// Leaves a token and wakes who sleeps, also where a token was there already:
    /// its sender may have lost the CPU before it could wake anybody. Once a
    /// wake has been done, the others of this sleep are without a call.
    pub(crate) fn unpark(&self) {
        if let Some(asleep) = self.leave_token() {
            self.0.wake();
            let word = self.0.word();
            let woken = asleep | WOKEN;
            // If it is another sleep by now, or somebody was faster: no matter.
            let _ = word.compare_exchange(asleep, woken, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The first step of [`Parker::unpark`]; the word, if there is a second one.
    pub(crate) fn leave_token(&self) -> Option<u32> {
        let word = self.0.word().fetch_or(TOKEN, Ordering::Release) | TOKEN;
        (word & (PARKED | WOKEN) == PARKED).then_some(word)
    }
}
