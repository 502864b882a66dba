//! Who sleeps, who searches, and how nobody sleeps beside work.
//!
//! A vCPU that runs out of work *searches* (looks into the others' queues), at
//! most half of them at once, and then *sleeps*. Whoever makes work ready wakes
//! one sleeper, unless somebody searches already: a searcher that finds
//! something wakes the next before it goes to work, so wakes spread as long as
//! there is work.
//!
//! The two sides cannot miss each other:
//!
//! ```text
//!   maker of work                       vCPU that goes to sleep
//!   1 queue it, mark its level          1 stop searching, enter the set
//!   2 barrier                           2 barrier
//!   3 read `searching` and the set      3 read all marks again
//! ```
//!
//! Whatever the interleaving, the maker sees the sleeper or the sleeper sees
//! the work.
//!
//! Whether a vCPU has been woken is decided by the set alone: who takes it out
//! has counted it as a searcher, and otherwise it takes itself out and counts.
//! Tokens merely end sleeps. One that is late ends a later sleep for nothing, as
//! a signal may.
//!
//! A token may be very late: its sender took the vCPU out and lost the CPU, at
//! niceness 19 as weak threads are, say. Until it comes the vCPU counts as a
//! searcher, for whose sake nobody else is woken. So whoever wants a vCPU that
//! sleeps outside of the set leaves it a token, too, and the monitor does at
//! each look; a vCPU that is known to sleep looks whether it is still in the
//! set. At the second look at something that waits, the monitor takes a sleeper
//! out whoever searches.
//!
//! Work is made far more often than vCPUs fall asleep, so the barriers are
//! unequal where Linux lets them: the sleeper's is a `membarrier` on all running
//! threads (a few microseconds), the maker's only keeps the compiler from
//! reordering. Kernels without it get full fences on both sides. Threads that
//! are no vCPU, and who marks with a fence or a sequentially consistent access
//! each time (inboxes, `RealTime`, pinned ones), need no barrier: steps 1 and 3
//! are in the one order of such accesses. A barrier that is refused later (a
//! filter came) is made up for by the monitor, which looks for work beside
//! sleepers; vCPUs are not taken then.

use std::sync::atomic::compiler_fence;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{barrier_on_all, register_barrier_on_all};

/// What [`IdleSet::rest`] wants of a vCPU.
pub(crate) trait Rest {
    /// Whether nothing will ever come.
    fn is_over(&self) -> bool;

    /// As a searcher: looks everywhere. If there is something, it has ended the
    /// search and gives `true`.
    fn search(&self) -> bool;

    /// Whether there is anything, by all marks.
    fn has_any_work(&self) -> bool;

    /// Sleeps until a token comes, or it is time, or for no reason.
    fn sleep(&self);
}

/// The set of sleepers, one bit a vCPU, and the count of searchers.
#[derive(Debug)]
pub(crate) struct IdleSet {
    sleepers: AtomicU64,
    n_searching: AtomicU32,
    searchers_max: u32,
    /// Whether sleepers use `membarrier`.
    is_unequal: bool,
}

impl IdleSet {
    pub(crate) fn new(n_vcpus: usize) -> IdleSet {
        IdleSet {
            sleepers: AtomicU64::new(0),
            n_searching: AtomicU32::new(0),
            searchers_max: (n_vcpus as u32).div_ceil(2),
            is_unequal: register_barrier_on_all(),
        }
    }

    /// The barrier of a vCPU that has made work.
    #[inline]
    pub(crate) fn light_barrier(&self) {
        if self.is_unequal {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The barrier of whoever is rare: a sleeper, a taker. `false` if it orders
    /// nothing against the light ones: registered, and refused now (a filter
    /// came). A sleeper can live with that, since the monitor looks again; a
    /// taker cannot.
    pub(crate) fn heavy_barrier(&self) -> bool {
        if self.is_unequal && barrier_on_all() {
            return true;
        }
        fence(Ordering::SeqCst);
        !self.is_unequal
    }

    /// After a barrier, or a sequentially consistent mark: a sleeper to wake,
    /// taken out of the set and counted as a searcher. `None` while somebody
    /// searches or nobody sleeps.
    #[inline]
    pub(crate) fn take_sleeper(&self) -> Option<usize> {
        if self.sleepers.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.take_sleeper_slow()
    }

    #[cold]
    fn take_sleeper_slow(&self) -> Option<usize> {
        if self.n_searching.load(Ordering::SeqCst) != 0 {
            return None;
        }
        self.take_any_sleeper()
    }

    /// The same whoever searches.
    pub(crate) fn take_any_sleeper(&self) -> Option<usize> {
        loop {
            let sleepers = self.sleepers.load(Ordering::SeqCst);
            if sleepers == 0 {
                return None;
            }
            let vcpu = sleepers.trailing_zeros() as usize;
            if self.take(vcpu) {
                return Some(vcpu);
            }
        }
    }

    /// Takes one sleeper out of the set and counts it as a searcher; `false`
    /// if it does not sleep.
    pub(crate) fn take(&self, vcpu: usize) -> bool {
        let bit = 1 << vcpu;
        if self.sleepers.load(Ordering::SeqCst) & bit == 0 {
            return false;
        }
        // Counted first: in between, work may be missed by nobody else.
        self.n_searching.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
            return true;
        }
        self.n_searching.fetch_sub(1, Ordering::SeqCst);
        false
    }

    /// Whether a vCPU may begin to search; it then counts as a searcher.
    pub(crate) fn begin_search(&self) -> bool {
        if self.n_searching.load(Ordering::Relaxed) >= self.searchers_max {
            return false;
        }
        self.n_searching.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// A searcher has found work; whether it was the last one, who wakes the
    /// next.
    pub(crate) fn end_search(&self) -> bool {
        self.n_searching.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Enters the set; afterwards the vCPU looks at all marks once more.
    pub(crate) fn enter(&self, vcpu: usize, was_searching: bool) {
        self.sleepers.fetch_or(1 << vcpu, Ordering::SeqCst);
        if was_searching {
            self.n_searching.fetch_sub(1, Ordering::SeqCst);
        }
        let _ = self.heavy_barrier();
    }

    /// Leaves the set as a searcher, unless somebody has taken it out already
    /// and counted it.
    pub(crate) fn leave(&self, vcpu: usize) {
        let bit = 1 << vcpu;
        // As a rule it has been woken. Nobody else enters it.
        if self.sleepers.load(Ordering::SeqCst) & bit == 0 {
            return;
        }
        self.n_searching.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
            self.n_searching.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A vCPU has nothing to do: searches, and sleeps until there is something.
    pub(crate) fn rest(&self, vcpu: usize, rester: &impl Rest) {
        let mut is_searching = self.begin_search();
        if is_searching && rester.search() {
            return;
        }
        loop {
            if rester.is_over() {
                if is_searching {
                    self.end_search();
                }
                return;
            }
            self.enter(vcpu, is_searching);
            if !rester.has_any_work() {
                rester.sleep();
            }
            self.leave(vcpu);
            is_searching = true;
            if rester.search() {
                return;
            }
        }
    }

    /// How many look for work, or are being woken to.
    pub(crate) fn n_searching(&self) -> usize {
        self.n_searching.load(Ordering::SeqCst) as usize
    }

    pub(crate) fn sleepers(&self) -> u64 {
        self.sleepers.load(Ordering::SeqCst)
    }

    pub(crate) fn has(&self, vcpu: usize) -> bool {
        self.sleepers() >> vcpu & 1 != 0
    }
}
