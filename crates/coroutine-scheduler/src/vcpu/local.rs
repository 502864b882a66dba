//! What this thread is: which vCPU it runs, and which coroutine.
//!
//! - **L1** The pointer is set by [`enter`] for the time of its call, on this
//!   thread only, to a `Local` that outlives the call; so does what `outer`
//!   points to, that of a call around it.
//! - **L2** No stack is suspended while it borrows a `Local`: where the caller
//!   drives, that is gone when the turn ends. Code of others runs inside of
//!   [`on_current`] only while the core is held, and then suspending panics;
//!   other code of theirs gets what counts by itself (a grip) or outlives every
//!   body (the scheduler, by rule T3 of tasks: [`on_current_shared`]).

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::Vcpu;
use super::core::Core;
use super::grip::Grip;
use crate::scheduler::Shared;
use crate::task::{TaskRef, waker};

/// A thread in its run loop.
pub(crate) struct Local<'a> {
    shared: &'a Shared,
    index: usize,
    grip: Arc<Grip>,
    is_thread: bool,
    /// The task in hand.
    pub(crate) task: Cell<Option<TaskRef>>,
    /// How its body ends this turn.
    pub(crate) turn: Cell<Turn>,
    /// Cycles that it charged in this run.
    pub(crate) charged: Cell<u64>,
    /// What this thread was before: a coroutine may drive another scheduler.
    outer: Cell<*const Local<'static>>,
}

/// How a body that has not ended ends its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By waiting for a wake.
    Waits,
    /// It stays ready and lets others go first.
    Yields,
    /// It stays ready, and stops only because it was asked to.
    MakesWay,
}

thread_local! {
    static LOCAL: Cell<*const Local<'static>> = const { Cell::new(ptr::null()) };
    /// Whose thread this is; compared only.
    static EMPLOYER: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

impl<'a> Local<'a> {
    /// `is_thread`: this thread is the scheduler's and does nothing else.
    pub(crate) fn new(
        shared: &'a Shared,
        index: usize,
        grip: Arc<Grip>,
        is_thread: bool,
    ) -> Local<'a> {
        Local {
            shared,
            index,
            grip,
            is_thread,
            task: Cell::new(None),
            turn: Cell::new(Turn::Waits),
            charged: Cell::new(0),
            outer: Cell::new(ptr::null()),
        }
    }

    pub(crate) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// The number of the vCPU; it may be lost.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn vcpu(&self) -> &'a Vcpu {
        &self.shared.vcpus[self.index]
    }

    pub(crate) fn grip(&self) -> &Arc<Grip> {
        &self.grip
    }

    pub(crate) fn is_thread(&self) -> bool {
        self.is_thread
    }

    /// For the holder of the vCPU: between polls, or in [`Local::while_held`].
    #[inline]
    pub(crate) fn core(&self) -> &'a Core {
        self.vcpu().core.get(&self.grip)
    }

    /// Whether `waker` is that of the task in hand.
    #[inline]
    fn is_running(&self, waker: &std::task::Waker) -> bool {
        let task = self.task.get();
        task.is_some_and(|task| waker::is_of(waker, task))
    }

    /// Calls `body` unless the vCPU is lost.
    #[inline]
    pub(crate) fn while_held<R>(&self, body: impl FnOnce() -> R) -> Option<R> {
        let result = self.grip.while_held(&self.shared.idle, body);
        if result.is_none() {
            self.say_where();
        }
        result
    }

    /// The coroutine calls the scheduler: if it was asked to, it says where.
    #[inline]
    pub(crate) fn say_where(&self) {
        if self.grip.takes_ask_where() && self.task.get().is_some() {
            self.grip.say_where();
        }
    }
}

/// Makes `local` this thread's while `body` runs.
pub(crate) fn enter<R>(local: &Local<'_>, body: impl FnOnce() -> R) -> R {
    struct Restore(*const Local<'static>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LOCAL.set(self.0);
        }
    }
    let restore = Restore(LOCAL.replace(ptr::from_ref(local).cast()));
    local.outer.set(restore.0);
    body()
}

/// Whether this thread runs a vCPU.
pub(crate) fn is_on_vcpu() -> bool {
    !LOCAL.get().is_null()
}

/// Calls `body` with this thread's vCPU, if it runs one.
#[inline]
pub(crate) fn on_current<R>(body: impl FnOnce(&Local<'_>) -> R) -> Option<R> {
    let local = LOCAL.get();
    // SAFETY: L1: not null means that `enter` is on this thread's stack.
    (!local.is_null()).then(|| body(unsafe { &*local }))
}

/// Calls `body` with the scheduler that runs this code, for a `body` that may
/// run code of others: see L2.
#[inline]
pub(crate) fn on_current_shared<R>(body: impl FnOnce(&Shared) -> R) -> Option<R> {
    let shared = on_current(|local| NonNull::from(local.shared))?;
    // SAFETY: L2: this thread is in one of its polls.
    Some(body(unsafe { shared.as_ref() }))
}

/// Calls `body` with this thread's vCPU, if that belongs to `shared`.
#[inline]
pub(crate) fn on_local<R>(
    shared: NonNull<Shared>,
    body: impl FnOnce(&Local<'_>) -> R,
) -> Option<R> {
    on_current(|local| ptr::eq(local.shared, shared.as_ptr()).then(|| body(local))).flatten()
}

/// Calls `find` with this thread's vCPU, if it runs one, and with that of each
/// call around it, until it gives something.
fn find_outwards<R>(mut find: impl FnMut(&Local<'_>) -> Option<R>) -> Option<R> {
    let mut local = LOCAL.get();
    while !local.is_null() {
        // SAFETY: L1.
        let outer = unsafe { &*local };
        if let Some(found) = find(outer) {
            return Some(found);
        }
        local = outer.outer.get();
    }
    None
}

/// The scheduler one of whose vCPU threads this is, in one of its coroutines: it
/// may take the vCPU at any moment, and the thread is a weak one then.
pub(crate) fn employer() -> Option<Arc<Shared>> {
    find_outwards(|local| local.is_thread.then(|| local.shared.own.upgrade())).flatten()
}

/// This thread is one of `shared`'s from now on, to its end.
pub(crate) fn work_for(shared: &Shared) {
    EMPLOYER.set(ptr::from_ref(shared));
}

/// Whether this thread cannot wait for `shared` to end: it is one of its threads
/// (a vCPU's, a spare one, the monitor), or runs one of its coroutines, in which
/// there may be other schedulers that are driven by hand.
pub(crate) fn is_needed_by(shared: &Shared) -> bool {
    let runs_it = find_outwards(|local| ptr::eq(local.shared, shared).then_some(()));
    runs_it.is_some() || ptr::eq(EMPLOYER.get(), shared)
}

/// Whether the coroutine with this waker runs on this thread and its stack may
/// be left now: not in code that borrows the vCPU (L2).
#[inline]
pub(crate) fn may_suspend(waker: &std::task::Waker) -> bool {
    on_current(|local| local.is_running(waker) && local.grip.is_loose()).unwrap_or(false)
}

/// The running coroutine ends its turn and stays ready. `false` if `waker` is
/// not its own: then it has to be woken.
#[inline]
pub(crate) fn end_turn(waker: &std::task::Waker, turn: Turn) -> bool {
    let ended = on_current(|local| {
        let is_own = local.is_running(waker);
        if is_own {
            local.turn.set(turn);
            local.say_where();
        }
        is_own
    });
    ended.unwrap_or(false)
}
