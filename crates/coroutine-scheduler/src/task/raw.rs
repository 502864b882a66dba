//! Tasks in memory: a typed cell behind an untyped reference.
//!
//! - **T1** A `TaskRef` points to a live cell while its holder is entitled to
//!   it: a counted reference (registry, join handle, waker), or the task in
//!   hand, which the registry's reference covers until DONE.
//! - **T2** The stage is touched by the thread that has the task in hand, until
//!   it sets DONE; afterwards by the join handle if JOIN was set then, else by
//!   that same thread once more.
//! - **T3** A scheduler waits, before it goes, until all of its tasks are done
//!   and no thread is between taking a task in hand and having queued it. So
//!   `shared` is valid for whoever has the task in hand.
//! - **T4** A vtable is that of the cell's type: both are made in [`TaskRef::new`].

use std::alloc::Layout;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::header::Header;
use super::memory;
use super::state::{self, Then};
use crate::error::JoinError;
use crate::scheduler::Shared;

/// An untyped reference to a task; whether it is counted depends on who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: T1, T2: what is reached through it is atomic or guarded by the state
// word; bodies and outputs are `Send` (checked where tasks are made), or stay
// on one thread (pinned).
unsafe impl Send for TaskRef {}
// SAFETY: the same.
unsafe impl Sync for TaskRef {}

/// What depends on the body's type.
pub(crate) struct Vtable {
    /// Polls the body; whether it ended. Panics count as ends.
    poll: unsafe fn(TaskRef, &mut Context<'_>) -> bool,
    /// Drops the body; the output becomes `Cancelled`.
    close: unsafe fn(TaskRef),
    /// Moves the output to `*mut Poll<Result<T, JoinError>>`.
    take_output: unsafe fn(TaskRef, *mut ()),
    drop_output: unsafe fn(TaskRef),
    free: unsafe fn(TaskRef),
}

enum Stage<F: Future> {
    Body(F),
    Output(Result<F::Output, JoinError>),
    Gone,
}

#[repr(C)]
struct Cell<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

impl TaskRef {
    /// A task that nobody knows yet, with two references: the registry's and
    /// the join handle's.
    pub(crate) fn new<F: Future>(
        body: F,
        header: impl FnOnce(&'static Vtable) -> Header,
    ) -> TaskRef {
        let vtable = const {
            &Vtable {
                poll: poll::<F>,
                close: close::<F>,
                take_output: take_output::<F>,
                drop_output: drop_output::<F>,
                free: free::<F>,
            }
        };
        let value = Cell {
            header: header(vtable),
            stage: UnsafeCell::new(Stage::Body(body)),
        };
        let cell = memory::take(Layout::new::<Cell<F>>()).cast::<Cell<F>>();
        // SAFETY: fresh memory of the type's layout.
        unsafe { cell.write(value) };
        TaskRef(cell.cast())
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: T1.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn as_ptr(self) -> *const () {
        self.0.as_ptr().cast()
    }

    /// # Safety
    /// `ptr` comes from [`TaskRef::as_ptr`], and T1 holds.
    pub(crate) unsafe fn from_ptr(ptr: *const ()) -> TaskRef {
        // SAFETY: it came from a `NonNull`.
        TaskRef(unsafe { NonNull::new_unchecked(ptr.cast_mut().cast()) })
    }

    /// The scheduler of a task in hand.
    pub(crate) fn shared<'a>(self) -> &'a Shared {
        // SAFETY: T3.
        unsafe { self.header().shared.as_ref() }
    }

    /// Polls the body of a task in hand; whether it ended.
    #[inline]
    pub(crate) fn poll(self, cx: &mut Context<'_>) -> bool {
        // SAFETY: T2, T4.
        unsafe { (self.header().vtable.poll)(self, cx) }
    }

    /// Drops the body of a task in hand.
    pub(crate) fn close(self) {
        // SAFETY: T2, T4.
        unsafe { (self.header().vtable.close)(self) }
    }

    /// Ends a task in hand, its body having ended, and gives up the registry's
    /// reference. DONE is for others to see: where there are none, nothing is
    /// set.
    pub(crate) fn finish_and_release(self) {
        if self.header().state.is_last() {
            // SAFETY: T2: no handle wants it; T4.
            unsafe { (self.header().vtable.drop_output)(self) }
            self.free();
        } else {
            self.finish();
            self.release();
        }
    }

    /// Marks a task in hand as done, its body having ended: gives output and
    /// news to the join handle. The registry's reference stays the caller's.
    fn finish(self) {
        let header = self.header();
        let word = header.state.finish();
        if word & state::JOIN_WAKER != 0 {
            // SAFETY: JOIN_WAKER was set when DONE was: the field is ours.
            let waker = unsafe { (*header.join_waker.get()).take() };
            if let Some(waker) = waker {
                // A foreign waker may panic; that is not this task's affair.
                wake_foreign(waker);
            }
        }
        if word & state::JOIN == 0 {
            // SAFETY: T2: no handle wants it; T4.
            unsafe { (header.vtable.drop_output)(self) }
        }
    }

    // For the join handle only. `JoinHandle` is the one holder of JOIN, and
    // calls these as `state` says; they are here to keep it free of unsafe code.

    /// Moves the output out of a done task; `Pending` if it has been taken.
    pub(super) fn take_own_output<T>(self) -> Poll<Result<T, JoinError>> {
        debug_assert!(self.header().state.load() & state::DONE != 0);
        let mut out: Poll<Result<T, JoinError>> = Poll::Pending;
        // SAFETY: T2: done, and the handle is the caller; T4, with the handle's
        // `T` that of the body it was made with.
        unsafe { (self.header().vtable.take_output)(self, (&raw mut out).cast()) };
        out
    }

    /// Drops the output of a done task, if it is still there.
    pub(super) fn drop_own_output(self) {
        debug_assert!(self.header().state.load() & state::DONE != 0);
        // SAFETY: T2, T4, as above.
        unsafe { (self.header().vtable.drop_output)(self) }
    }

    /// Writes the waker field, which is the handle's while JOIN_WAKER is clear.
    pub(super) fn set_own_join_waker(self, waker: Option<Waker>) {
        // SAFETY: the handle has not offered the field, or has taken it back.
        unsafe { *self.header().join_waker.get() = waker };
    }

    /// Gives up a counted reference.
    pub(crate) fn release(self) {
        if self.header().state.release() == Then::Free {
            self.free();
        }
    }

    /// Frees the memory, the last reference being gone.
    pub(crate) fn free(self) {
        // SAFETY: T4; nobody refers to it any more.
        unsafe { (self.header().vtable.free)(self) }
    }
}

/// Wakes a waker that may be anybody's: if it panics, that is not the affair of
/// who wakes it.
pub(crate) fn wake_foreign(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        discard(payload);
    }
}

/// Drops what somebody panicked with. If that panics in turn, what comes of it
/// is left alone: it could go on for ever.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// # Safety
/// T4: the task's cell is a `Cell<F>`; T2 for the returned pointer.
unsafe fn stage<F: Future>(task: TaskRef) -> *mut Stage<F> {
    let cell = task.0.cast::<Cell<F>>().as_ptr();
    // SAFETY: T1, T4.
    unsafe { (*cell).stage.get() }
}

/// Replaces a stage whose drop may panic; gives what it panicked with.
///
/// # Safety
/// T2.
unsafe fn replace<F: Future>(
    stage: *mut Stage<F>,
    next: Stage<F>,
) -> Result<(), Box<dyn Any + Send>> {
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: T2. The place is written below whatever the drop does.
        unsafe { std::ptr::drop_in_place(stage) }
    }));
    // SAFETY: T2: what was there is dropped.
    unsafe { stage.write(next) };
    dropped
}

unsafe fn poll<F: Future>(task: TaskRef, cx: &mut Context<'_>) -> bool {
    // SAFETY: T2, T4: this thread has the task in hand.
    let stage = unsafe { stage::<F>(task) };
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: T2.
        let body = match unsafe { &mut *stage } {
            // SAFETY: the cell never moves, and the body is dropped in place.
            Stage::Body(body) => unsafe { Pin::new_unchecked(body) },
            Stage::Output(_) | Stage::Gone => unreachable!("a done task is not in hand"),
        };
        body.poll(cx)
    }));
    let id = task.header().id();
    let output = match result {
        Ok(Poll::Pending) => return false,
        Ok(Poll::Ready(output)) => Ok(output),
        Err(payload) => Err(JoinError::Panicked { id, payload }),
    };
    let has_result = output.is_ok();
    // SAFETY: T2.
    match unsafe { replace(stage, Stage::Output(output)) } {
        Ok(()) => {}
        Err(payload) if has_result => {
            let error = JoinError::Panicked { id, payload };
            // SAFETY: T2. The result is lost: its coroutine did not end well.
            unsafe { replace(stage, Stage::Output(Err(error))) }.unwrap_or_else(discard);
        }
        Err(payload) => discard(payload),
    }
    true
}

unsafe fn close<F: Future>(task: TaskRef) {
    let id = task.header().id();
    // SAFETY: T2, T4.
    let stage = unsafe { stage::<F>(task) };
    let cancelled = Stage::Output(Err(JoinError::Cancelled(id)));
    // SAFETY: T2.
    if let Err(payload) = unsafe { replace(stage, cancelled) } {
        let error = JoinError::Panicked { id, payload };
        // SAFETY: T2.
        unsafe { replace(stage, Stage::Output(Err(error))) }.unwrap_or_else(discard);
    }
}

unsafe fn take_output<F: Future>(task: TaskRef, out: *mut ()) {
    // SAFETY: T2, T4.
    let stage = unsafe { stage::<F>(task) };
    // SAFETY: T2: the stage is valid, and this thread's.
    let taken = unsafe { stage.replace(Stage::Gone) };
    if let Stage::Output(output) = taken {
        // SAFETY: `out` has the type that `TaskRef::take_own_output` gives it.
        let out = unsafe { &mut *out.cast::<Poll<Result<F::Output, JoinError>>>() };
        *out = Poll::Ready(output);
    }
}

unsafe fn drop_output<F: Future>(task: TaskRef) {
    // SAFETY: T2, T4.
    let stage = unsafe { stage::<F>(task) };
    // SAFETY: T2. A panic in the drop of an unwanted output has no reader.
    unsafe { replace(stage, Stage::Gone) }.unwrap_or_else(discard);
}

unsafe fn free<F: Future>(task: TaskRef) {
    let cell = task.0.cast::<Cell<F>>();
    #[cfg(all(loom, test))]
    task.header().state.bury();
    // SAFETY: T4; nobody refers to it any more, and it is not used after this.
    unsafe { cell.drop_in_place() };
    #[cfg(not(all(loom, test)))]
    // SAFETY: taken for this layout in `new`.
    unsafe {
        memory::give_back(cell.cast(), Layout::new::<Cell<F>>())
    };
}
