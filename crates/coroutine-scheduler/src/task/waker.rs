//! Wakers of tasks.
//!
//! - **W1** The data pointer of every waker made here is a [`TaskRef`] with a
//!   counted reference, except for the one that [`with_waker`] lends: it is
//!   never dropped, and its clones are counted.

use std::mem::ManuallyDrop;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::raw::TaskRef;
use super::state::Then;
use crate::vcpu;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// Lends a waker of `task`, which the caller has in hand, without counting a
/// reference.
#[inline]
pub(crate) fn with_waker<R>(task: TaskRef, body: impl FnOnce(&Waker) -> R) -> R {
    let raw = RawWaker::new(task.as_ptr(), &VTABLE);
    // SAFETY: W1: the functions below keep the contract of `RawWakerVTable`.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw) });
    body(&waker)
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
