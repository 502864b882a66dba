//! Wakers of tasks.
//!
//! - **W1** The data pointer of every waker made here is a [`TaskRef`] with a
//!   counted reference, except for those that [`lent`] makes: they are never
//!   dropped, their users keep the task alive, and their clones are counted.

use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::raw::TaskRef;
use super::state::Then;
use crate::vcpu;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker of `task` that counts no reference: for whoever has the task in hand
/// as long as the waker is used.
#[inline]
pub(crate) fn lent(task: TaskRef) -> ManuallyDrop<Waker> {
    let raw = RawWaker::new(task.as_ptr(), &VTABLE);
    // SAFETY: W1: the functions below keep the contract of `RawWakerVTable`.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// Lends a waker of `task`, which the caller has in hand.
#[inline]
pub(crate) fn with_waker<R>(task: TaskRef, body: impl FnOnce(&Waker) -> R) -> R {
    body(&lent(task))
}

/// Whether `waker` wakes `task` and nothing else.
#[inline]
pub(crate) fn is_of(waker: &Waker, task: TaskRef) -> bool {
    waker.data() == task.as_ptr() && std::ptr::eq(waker.vtable(), &raw const VTABLE)
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: W1.
    unsafe { TaskRef::from_ptr(data) }.header().state.retain();
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: W1.
    let task = unsafe { TaskRef::from_ptr(data) };
    match task.header().state.wake(true) {
        Then::Nothing => {}
        Then::Queue => vcpu::queue_woken(task),
        Then::Free => task.free(),
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: W1.
    let task = unsafe { TaskRef::from_ptr(data) };
    if task.header().state.wake(false) == Then::Queue {
        vcpu::queue_woken(task);
    }
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: W1.
    unsafe { TaskRef::from_ptr(data) }.release();
}
