//! Who holds a vCPU: the protocol by which a thread that is stuck in a
//! coroutine loses it.
//!
//! A thread touches the [`Core`] of its vCPU between polls, and in the middle
//! of one when the coroutine spawns or wakes. While the coroutine merely
//! computes, somebody else may *take* the vCPU and let another thread run it
//! (the new *strong* executor); the old thread is *weak* from then on: it ends
//! this one poll, its spawns and wakes go the way of any other thread's, and
//! then it leaves.
//!
//! ```text
//!          ask                     settle
//!   HELD ───────> ASKED ──────────────────────> TAKEN
//!     ^             │  the holder was not busy     the holder is weak
//!     └─────────────┘
//!   the holder was, or got busy first
//!
//!   holder, to touch the core            taker
//!   1 busy = 1                           1 hold: HELD -> ASKED
//!   2 light barrier                      2 heavy barrier
//!   3 hold: HELD: it is ours             3 busy = 1: ASKED -> HELD
//!           ASKED -> HELD: ours            else ASKED -> TAKEN
//!           TAKEN: weak
//! ```
//!
//! Step 2 is that of [`idle`](super::idle): either the holder sees ASKED or the
//! taker sees `busy`. A compare-and-swap out of ASKED decides between the two,
//! so the holder never waits for the taker. `busy` stays 1 between polls. There
//! is one taker at a time, the monitor: a second one could settle what the first
//! has asked.
//!
//! - **G1** A [`CoreCell`] is touched by the thread only whose grip is the
//!   vCPU's present one, while `busy` is 1 and HELD was seen after that. Who
//!   takes a vCPU has seen `busy` 0 with acquire ordering, so what the old
//!   holder did to the core has happened before.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32 as Word};
use std::sync::{Arc, OnceLock};

use super::core::Core;
use super::idle::IdleSet;
use crate::sync::{AtomicU32, Ordering};

const HELD: u32 = 0;
const ASKED: u32 = 1;
const TAKEN: u32 = 2;

/// What became of [`Grip::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Take {
    /// The holder is weak from now on.
    Taken,
    /// The holder was busy, or got busy first.
    Kept,
    /// The host does not let this process order its threads.
    Refused,
}

/// One thread's hold on a vCPU.
#[derive(Debug)]
pub(crate) struct Grip {
    hold: AtomicU32,
    busy: AtomicU32,
    /// The preempt word: not 0 asks who runs to make way. See `preempt`.
    pub(crate) preempt: Word,
    /// The thread, for the host; 0 where it did not say.
    pub(crate) thread: AtomicI32,
    /// The coroutine is asked to say where it is: see `stall`.
    is_asked_where: AtomicBool,
    /// What it said.
    next_seen: Arc<NextSeen>,
    /// Who took the vCPU has changed the standing of the thread, if it will.
    is_settled: OnceLock<()>,
}

/// Where a coroutine was that had lost its vCPU: shared between its thread and
/// the table of stalls, for its thread should hold no lock of that.
pub(crate) type NextSeen = OnceLock<Arc<Backtrace>>;

impl Grip {
    /// Of a thread that is between polls.
    pub(crate) fn new() -> Grip {
        Grip {
            hold: AtomicU32::new(HELD),
            busy: AtomicU32::new(1),
            preempt: Word::new(0),
            thread: AtomicI32::new(0),
            is_asked_where: AtomicBool::new(false),
            next_seen: Arc::default(),
            is_settled: OnceLock::new(),
        }
    }

    /// The host's number of the thread, as far as known.
    pub(crate) fn thread(&self) -> Option<i32> {
        let thread = self.thread.load(Ordering::Relaxed);
        (thread != 0).then_some(thread)
    }

    /// Who has just lost the vCPU should say where it is, and says it there.
    pub(crate) fn ask_where(&self) -> Arc<NextSeen> {
        self.is_asked_where.store(true, Ordering::Relaxed);
        Arc::clone(&self.next_seen)
    }

    /// Says so. For the thread, which may be weak: holds no lock of ours.
    #[cold]
    pub(crate) fn say_where(&self) {
        // A vCPU is lost once: nobody has said so before.
        let _ = self.next_seen.set(Arc::new(Backtrace::force_capture()));
    }

    /// The thread, which has lost the vCPU, keeps the standing that it has now.
    pub(crate) fn settle_standing(&self) {
        // Once, as the vCPU is lost once.
        let _ = self.is_settled.set(());
    }

    /// Waits for that: what the thread then does to its standing lasts. Holds
    /// nothing that others wait for.
    pub(crate) fn wait_until_settled(&self) {
        self.is_settled.wait();
    }

    /// Whether this thread, the holder, should say where it is; once.
    #[inline]
    pub(crate) fn takes_ask_where(&self) -> bool {
        self.is_asked_where.load(Ordering::Relaxed)
            && self.is_asked_where.swap(false, Ordering::Relaxed)
    }

    /// A poll begins: from now on the vCPU may be taken.
    #[inline]
    pub(crate) fn loosen(&self) {
        self.busy.store(0, Ordering::Release);
    }

    /// Whether this thread, the holder, is in a poll and does not touch the core.
    pub(crate) fn is_loose(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Whether somebody else has the vCPU for good. For the holder.
    pub(crate) fn is_lost(&self) -> bool {
        self.hold.load(Ordering::Relaxed) == TAKEN
    }

    /// A poll has ended, or wants the core; `false` if the vCPU is lost.
    #[inline]
    pub(crate) fn tighten(&self, idle: &IdleSet) -> bool {
        self.busy.store(1, Ordering::Relaxed);
        idle.light_barrier();
        let mut hold = self.hold.load(Ordering::Acquire);
        // If the taker is first to settle it, what it settled counts: it may
        // have found us busy.
        while hold == ASKED {
            match self.settle(HELD) {
                Ok(()) => return true,
                Err(now) => hold = now,
            }
        }
        hold == HELD
    }

    /// `Err`: somebody else has, and to what.
    fn settle(&self, to: u32) -> Result<(), u32> {
        self.hold
            .compare_exchange(ASKED, to, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Calls `body` with the vCPU held, in a poll or outside of one; `None` if
    /// it is lost.
    #[inline]
    pub(crate) fn while_held<R>(&self, idle: &IdleSet, body: impl FnOnce() -> R) -> Option<R> {
        if self.busy.load(Ordering::Relaxed) == 1 {
            // Between polls, where it cannot be taken; or lost before.
            return (!self.is_lost()).then(body);
        }
        if !self.tighten(idle) {
            return None;
        }
        let result = body();
        self.loosen();
        Some(result)
    }

    /// Takes the vCPU from its holder if that is in a poll and, once it cannot
    /// leave it unseen, `is_still` what the caller meant.
    pub(crate) fn take(&self, idle: &IdleSet, is_still: impl FnOnce() -> bool) -> Take {
        let asked = self
            .hold
            .compare_exchange(HELD, ASKED, Ordering::AcqRel, Ordering::Relaxed);
        if asked.is_err() {
            return Take::Kept;
        }
        let is_ordered = idle.heavy_barrier();
        let is_free = is_ordered && self.busy.load(Ordering::Acquire) == 0 && is_still();
        if is_free {
            return match self.settle(TAKEN) {
                Ok(()) => Take::Taken,
                Err(_) => Take::Kept,
            };
        }
        // Or the holder has settled it already, to the same.
        let _ = self.settle(HELD);
        if is_ordered {
            Take::Kept
        } else {
            Take::Refused
        }
    }

    /// The holder itself gives the vCPU away, in the middle of a poll, to what
    /// `find_next` gives while it still has it; `None` if that is nothing, or
    /// the vCPU is lost already.
    pub(crate) fn give_away<T>(
        &self,
        idle: &IdleSet,
        find_next: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        if !self.tighten(idle) {
            return None;
        }
        let next = find_next();
        if next.is_some() {
            // A taker may be between its steps: what it then settles fails.
            self.hold.swap(TAKEN, Ordering::AcqRel);
        } else {
            self.loosen();
        }
        next
    }
}

/// The core of a vCPU, in the one place where all of its holders find it.
pub(crate) struct CoreCell(Core);

// SAFETY: G1: one thread at a time.
unsafe impl Sync for CoreCell {}
// SAFETY: nothing in it is bound to a thread.
unsafe impl Send for CoreCell {}

impl CoreCell {
    pub(crate) fn new(core: Core) -> CoreCell {
        CoreCell(core)
    }

    /// For the holder of the vCPU, see G1.
    #[inline]
    pub(super) fn get(&self, grip: &Grip) -> &Core {
        debug_assert!(
            grip.busy.load(Ordering::Relaxed) == 1 && grip.hold.load(Ordering::Relaxed) != TAKEN,
            "the core is touched by its holder only"
        );
        &self.0
    }
}

impl fmt::Debug for CoreCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in it belongs to its holder.
        f.debug_struct("CoreCell").finish_non_exhaustive()
    }
}

/// Present grip of a vCPU, and whether a thread has it at all.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    pub(crate) grip: Option<Arc<Grip>>,
}
