//! A scheduler's life: new, started, closing, over.
//!
//! ```text
//!   NEW ─start─> STARTED ─┐
//!    └────────────────────┴─ close ─> CLOSING ─ the last coroutine ends ─> OVER
//! ```
//!
//! Nobody is missed by a shutdown, and the end is seen by exactly one:
//!
//! ```text
//!   spawn                  close                      end of a coroutine
//!   1 register             1 CLOSING                  1 unregister
//!   2 CLOSING? undo it     2 abort all registered     2 CLOSING, and none left?
//!                          3 none left? OVER            then OVER
//! ```
//!
//! Registering is under a lock that step 2 of `close` takes, too: so it sees the
//! coroutine or the spawn sees CLOSING. Who unregisters counts the end first, and
//! then changes a word that step 2 changes, too: so it counts the end, or who
//! unregisters sees CLOSING. Of those who unregister at the same time, each fences
//! before it looks whether any is left, and the last one to do so sees all.

use crate::sync::{AtomicU32, Ordering, fence};

const NEW: u32 = 0;
const STARTED: u32 = 1;
const CLOSING: u32 = 2;
const OVER: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Phase(AtomicU32);

impl Phase {
    pub(crate) fn new() -> Phase {
        Phase(AtomicU32::new(NEW))
    }

    pub(crate) fn is_new(&self) -> bool {
        self.0.load(Ordering::SeqCst) == NEW
    }

    /// Whether it was new, and is started now.
    pub(crate) fn start(&self) -> bool {
        let started = (self.0).compare_exchange(NEW, STARTED, Ordering::SeqCst, Ordering::SeqCst);
        started.is_ok()
    }

    /// Whether the vCPUs have threads.
    pub(crate) fn is_started(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STARTED
    }

    /// No spawns from now on; whether the caller is the first to say so.
    pub(crate) fn close(&self) -> bool {
        self.0.fetch_max(CLOSING, Ordering::SeqCst) < CLOSING
    }

    /// Whether spawns are refused. For a coroutine that is registered.
    pub(crate) fn refuses_spawns(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= CLOSING
    }

    /// A coroutine has been unregistered, or all have been aborted. Whether this
    /// makes it over: nobody `is_left`, and who asks is the first to see that.
    #[inline]
    pub(crate) fn is_over_now(&self, is_left: impl FnOnce() -> bool) -> bool {
        self.0.load(Ordering::Relaxed) == CLOSING && self.is_over_now_slow(is_left)
    }

    #[cold]
    fn is_over_now_slow(&self, is_left: impl FnOnce() -> bool) -> bool {
        fence(Ordering::SeqCst);
        !is_left() && self.0.swap(OVER, Ordering::SeqCst) != OVER
    }

    /// It is over, whoever is left.
    pub(crate) fn end(&self) {
        self.0.store(OVER, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OVER
    }
}
