//! When the monitor looks next: one word between it and everybody who has a
//! deadline for it.
//!
//! ```text
//!            begin_look             end_look(next)
//!   until ──────────────> looks ───────────────────> until: the earlier of
//!     ^  \                 ^  \                       `next` and what was noted
//!     └──┘                 └──┘
//!   expect_by lowers it,    expect_by notes the earliest
//!   and unparks             deadline, and lets it sleep on that
//!
//!   DORMANT <──sleep── any    begin_look ends it. expect_by leaves it as it is:
//!                             whose vCPU is awake has ended it already.
//! ```
//!
//! Who expects a look has put what it is about where the monitor will see it.
//! Either the look sees that, or `expect_by` sees the look (fences on both
//! sides) and what it notes then is in the exchange of `end_look`: nothing is
//! lost, and a deadline in the middle of a look costs no token, with which the
//! monitor would look again at once however far the deadline was.

use crate::sync::{AtomicU64, Ordering, fence, order_of_accesses};

/// It looks now: the rest is the earliest deadline noted meanwhile.
const LOOKS: u64 = 1 << 63;
/// It sleeps until a vCPU awakes, and looks then; with [`LOOKS`], nothing was
/// noted. Later than any deadline.
const DORMANT: u64 = LOOKS - 1;

/// See the module. Times are nanoseconds of the scheduler's clock.
#[derive(Debug)]
pub(crate) struct NextLook {
    word: AtomicU64,
}

impl Default for NextLook {
    /// Of a monitor that is about to look.
    fn default() -> NextLook {
        NextLook {
            word: AtomicU64::new(LOOKS | DORMANT),
        }
    }
}

impl NextLook {
    /// There is a deadline that it should not sleep over; whether it has to be
    /// woken for that. Who calls has put it where a look sees it.
    pub(crate) fn expect_by(&self, deadline_ns: u64) -> bool {
        fence(Ordering::SeqCst);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word == DORMANT || deadline_ns >= word & !LOOKS {
                return false;
            }
            let is_looking = word & LOOKS;
            let lowered = is_looking | deadline_ns;
            let swapped = self.word.compare_exchange_weak(
                word,
                lowered,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return is_looking == 0,
                Err(now) => word = now,
            }
        }
    }

    /// Whether it sleeps until a vCPU awakes. For who has just done so, by a
    /// sequentially consistent store.
    #[inline]
    pub(crate) fn is_dormant(&self) -> bool {
        order_of_accesses();
        self.word.load(Ordering::SeqCst) == DORMANT
    }

    // The monitor's.

    /// What was there before is seen by the look, what comes is noted.
    pub(crate) fn begin_look(&self) {
        // Exchanges throughout: each write follows the one that it has read.
        self.word.swap(LOOKS | DORMANT, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It has seen that it should look at `next_ns`; gives that, or an earlier
    /// deadline that was noted meanwhile.
    pub(crate) fn end_look(&self, next_ns: u64) -> u64 {
        // Dormant it would miss deadlines while vCPUs are awake.
        let next_ns = next_ns.min(DORMANT - 1);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let until = next_ns.min(word & !LOOKS);
            let swapped =
                self.word
                    .compare_exchange_weak(word, until, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return until,
                Err(now) => word = now,
            }
        }
    }

    /// It is going to sleep until a vCPU awakes, and looks afterwards whether
    /// one is awake.
    pub(crate) fn sleep(&self) {
        self.word.swap(DORMANT, Ordering::SeqCst);
        order_of_accesses();
    }

    /// Until when it sleeps; `None` while it looks or is dormant.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn until(&self) -> Option<u64> {
        let word = self.word.load(Ordering::SeqCst);
        (word < DORMANT).then_some(word)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_during_a_look_is_noted_and_wakes_nobody() {
        let next = NextLook::default();
        assert!(!next.expect_by(700));
        assert!(!next.expect_by(900), "later than what was noted");
        assert!(!next.expect_by(500));
        assert_eq!(next.until(), None);
        assert_eq!(next.end_look(800), 500);
        assert_eq!(next.until(), Some(500));
        // And is not remembered beyond the look that is for it.
        next.begin_look();
        assert_eq!(next.end_look(800), 800);
        next.begin_look();
        assert!(!next.expect_by(900));
        assert_eq!(next.end_look(800), 800, "the earlier one");
    }

    #[test]
    fn a_sleep_is_cut_short_once_for_each_earlier_deadline() {
        let next = NextLook::default();
        assert_eq!(next.end_look(800), 800);
        assert!(!next.expect_by(800));
        assert!(next.expect_by(600));
        assert!(!next.expect_by(600), "it has been woken for that");
        assert!(next.expect_by(0));
        assert_eq!(next.until(), Some(0));
    }

    #[test]
    fn who_is_dormant_is_woken_by_vcpus_only() {
        let next = NextLook::default();
        assert!(!next.is_dormant(), "it will look");
        next.sleep();
        assert!(!next.expect_by(1));
        assert!(next.is_dormant());
        next.begin_look();
        assert!(!next.is_dormant());
        // Nothing ever: it sleeps, and is not dormant.
        let until = next.end_look(u64::MAX);
        assert!(!next.is_dormant() && next.expect_by(until - 1));
    }
}
