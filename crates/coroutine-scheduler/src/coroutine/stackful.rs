//! Coroutines with a stack of their own: ordinary code that can stop anywhere.
//!
//! The body of a future can stop at its `await`s only. A stackful coroutine
//! stops in the middle of any call, by [`wait`] or [`yield_turn`], however deep.
//! It is one more task in the same queues: its turn switches to the stack, its
//! wait switches back.
//!
//! ```
//! use std::time::Duration;
//! use coroutine_scheduler::{
//!     CoroutineScheduler, SchedulerConfig, SpawnOptions, sleep, stackful,
//! };
//!
//! fn sum_slowly(n: u64) -> u64 {
//!     if n == 0 {
//!         return 0;
//!     }
//!     stackful::wait(sleep(Duration::from_micros(10)));
//!     n + sum_slowly(n - 1)
//! }
//!
//! let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
//! scheduler.start()?;
//! let sum = scheduler.spawn_stackful(SpawnOptions::new(), || sum_slowly(10))?;
//! assert_eq!(sum.join()?, 55);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Where it runs.** On one vCPU, chosen at the spawn: the one it is pinned to,
//! else the one with the fewest stackful coroutines. Once started it stays on
//! that vCPU's thread, so locals need not be `Send`, and a vCPU with started
//! stacks is not handed to another thread. Where a scheduler is driven by
//! `run_one`, all turns of one coroutine have to be on one thread.
//!
//! **How it ends early.** An abort, or the scheduler's end, makes the `wait` or
//! `yield_turn` that it is stopped in unwind: locals are dropped in order, as by
//! a panic (without the panic hook). So:
//!
//! - `catch_unwind` in the body catches this, too. The next `wait` or turn
//!   unwinds again, and what the body returns in the end is dropped: its handle
//!   answers `Cancelled`. A body that catches it and never stops again keeps its
//!   vCPU.
//! - A panic out of a destructor that runs meanwhile ends the process, as
//!   always in Rust.
//! - A destructor that waits while its thread unwinds cannot switch away (the
//!   thread counts panics, not the stack): it blocks the vCPU's thread until the
//!   future is ready.
//!
//! If a started one is dropped on a thread that is not its own, which happens
//! only where `run_one` was called on several threads, its locals are not
//! dropped; stack and address space stay to the end of the process.
//!
//! **Overflow.** Below each stack is a guard. Who runs into it is named on
//! stderr, with the spawn site, and the process aborts; nobody else's stack is
//! harmed.
//!
//! - **K1** A started stack is switched to on the thread only that started it:
//!   its number is compared each time.
//! - **K2** `RUNNING` is null, or points to the frame on the stack that this
//!   thread runs on. The stack's own side sets it after each switch to it, and
//!   resets it before each switch away.
//! - **K3** The waker that a frame lends lies in the frame, on the coroutine's
//!   own stack: a poll's would be gone after a wait inside of the future that
//!   has it. It counts no reference. The task outlives the frame, since its
//!   body does not outlive DONE.
//! - **K4** The pool is the scheduler's, so rule T3 of tasks covers it: a body
//!   is dropped before its task is done.

use std::cell::Cell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use corosensei::stack::Stack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::coroutine::CoroutineId;
use crate::error::SpawnError;
use crate::scheduler::{self, SpawnOptions};
use crate::stack::guard::SignalStack;
use crate::stack::{Base, Permit, Slot, StackPool};
use crate::task::join::block_on;
use crate::task::{TaskRef, waker};
use crate::vcpu::{self, Turn};
use crate::{JoinHandle, preempt};

/// Bodies above this size are boxed at the spawn: they move to the stack, whose
/// first page is to be enough for small ones.
pub(crate) const BODY_BYTES_MAX: usize = 512;

/// A stackful coroutine as a future: a poll is a turn on the stack.
pub(crate) struct Stackful<F, T> {
    pool: NonNull<StackPool>,
    vcpu: u32,
    place: Place<F, T>,
}

enum Place<F, T> {
    New(F),
    On(Started<T>),
    Gone,
}

struct Started<T> {
    slot: Slot,
    /// The thread that it belongs to.
    thread: u32,
    coroutine: Coroutine<(), (), T, Base>,
}

// SAFETY: before its start it is its body, which is `Send` (checked where it is
// made); after that K1. The pool is `Sync`.
unsafe impl<F: Send, T: Send> Send for Stackful<F, T> {}

impl<F, T> Unpin for Stackful<F, T> {}

impl<F, T> Stackful<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    pub(crate) fn new(permit: Permit<'_>, body: F) -> Stackful<F, T> {
        let (pool, vcpu) = permit.into_parts();
        Stackful {
            pool,
            vcpu: vcpu as u32,
            place: Place::New(body),
        }
    }

    /// Takes a stack and puts the body on it; `false` if this thread has lost
    /// its vCPU.
    ///
    /// # Panics
    /// If there is no stack.
    fn start(&mut self) -> bool {
        let keeps_vcpu = vcpu::on_current(|local| {
            let held = local.while_held(|| {
                // Seen by who wants to take the vCPU, once it has seen that we
                // are in a poll: see `grip`.
                local.vcpu().n_stacks.fetch_add(1, Ordering::Relaxed);
            });
            held.and(local.task.get())
        });
        let Some(Some(task)) = keeps_vcpu else {
            return false;
        };
        let taken = self.pool().take(self.vcpu as usize);
        let (slot, base) = taken.unwrap_or_else(|error| {
            release_vcpu(self.vcpu);
            panic!("{error}");
        });
        let Place::New(body) = std::mem::replace(&mut self.place, Place::Gone) else {
            unreachable!("only new ones are started");
        };
        let coroutine = Coroutine::with_stack(base, move |yielder: &Yielder<(), ()>, ()| {
            let frame = Frame {
                yielder,
                waker: waker::lent(task),
                has_turn: Cell::new(true),
                outer: Cell::new(ptr::null()),
                task,
                base,
            };
            frame.enter();
            let _leave = Leave(&frame);
            body()
        });
        self.place = Place::On(Started {
            slot,
            thread: this_thread(),
            coroutine,
        });
        true
    }
}

impl<F, T> Stackful<F, T> {
    fn pool(&self) -> &StackPool {
        // SAFETY: K4.
        unsafe { self.pool.as_ref() }
    }

    /// Gives the stack back, the coroutine on it having ended.
    #[inline]
    fn give_back(&mut self) {
        if let Place::On(started) = std::mem::replace(&mut self.place, Place::Gone) {
            debug_assert!(started.coroutine.done(), "somebody is still on it");
            drop(started.coroutine);
            self.pool().give(self.vcpu as usize, started.slot);
            release_vcpu(self.vcpu);
        }
    }

    /// Unwinds what is on the stack.
    #[cold]
    fn unwind(&mut self) {
        let Place::On(started) = &mut self.place else {
            return;
        };
        if started.thread == this_thread() {
            started.coroutine.force_unwind();
        } else {
            self.leave_behind();
        }
    }

    /// On a thread that is not its own: nothing on the stack may be touched.
    #[cold]
    fn leave_behind(&mut self) {
        if let Place::On(started) = std::mem::replace(&mut self.place, Place::Gone) {
            std::mem::forget(started.coroutine);
            self.pool().lose();
            release_vcpu(self.vcpu);
        }
    }
}

/// One started stack less keeps the thread at the vCPU.
fn release_vcpu(vcpu: u32) {
    vcpu::on_current(|local| {
        let vcpu = &local.shared().vcpus[vcpu as usize];
        vcpu.n_stacks.fetch_sub(1, Ordering::Release);
    });
}

impl<F, T> Future for Stackful<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if matches!(this.place, Place::New(_)) && !this.start() {
            // The thread that has the vCPU now will start it.
            if !vcpu::end_turn(cx.waker(), Turn::Yields) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let Place::On(started) = &mut this.place else {
            panic!("a coroutine that has ended was polled");
        };
        if started.thread != this_thread() {
            this.leave_behind();
            panic!("run_one went on with a started stack on another thread; call it on one only");
        }
        match started.coroutine.resume(()) {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(value) => {
                this.give_back();
                Poll::Ready(value)
            }
        }
    }
}

impl<F, T> Drop for Stackful<F, T> {
    fn drop(&mut self) {
        /// What happens even if a destructor on the stack panics.
        struct Last<'a, F, T>(&'a mut Stackful<F, T>);
        impl<F, T> Drop for Last<'_, F, T> {
            fn drop(&mut self) {
                self.0.give_back();
                self.0.pool().dismiss(self.0.vcpu as usize);
            }
        }
        let last = Last(self);
        if matches!(&last.0.place, Place::On(started) if !started.coroutine.done()) {
            last.0.unwind();
        }
    }
}

// The stack's own side.

/// At the bottom of a stack in use.
struct Frame<'y> {
    yielder: &'y Yielder<(), ()>,
    /// See K3.
    waker: ManuallyDrop<Waker>,
    /// Not while the stack is unwound from outside.
    has_turn: Cell<bool>,
    /// Whose stack the thread came from.
    outer: Cell<*const Frame<'static>>,
    task: TaskRef,
    base: Base,
}

thread_local! {
    static RUNNING: Cell<*const Frame<'static>> = const { Cell::new(ptr::null()) };
}

impl Frame<'_> {
    /// K2: after a switch to this stack.
    #[inline]
    fn enter(&self) {
        self.outer.set(RUNNING.replace(ptr::from_ref(self).cast()));
    }

    /// Switches away and, with the next turn, comes back; or unwinds.
    #[inline]
    fn suspend(&self) {
        struct Back<'a, 'y>(&'a Frame<'y>);
        impl Drop for Back<'_, '_> {
            #[inline]
            fn drop(&mut self) {
                self.0.enter();
            }
        }
        self.has_turn.set(false);
        RUNNING.set(self.outer.get());
        let back = Back(self);
        self.yielder.suspend(());
        drop(back);
        self.has_turn.set(true);
    }

    /// The waker of the turn, if there is one and if it is this coroutine that
    /// the thread runs: a scheduler inside it may be running another.
    #[inline]
    fn waker(&self) -> Option<&Waker> {
        if !self.has_turn.get() {
            return None;
        }
        assert!(vcpu::may_suspend(&self.waker), "{NOT_ON_A_STACK}");
        Some(&self.waker)
    }
}

/// K2: before the last switch away.
struct Leave<'a, 'y>(&'a Frame<'y>);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        RUNNING.set(self.0.outer.get());
    }
}

const NOT_ON_A_STACK: &str =
    "only a stackful coroutine can wait here; await the future, or use spawn_stackful";

#[inline]
fn with_frame<R>(body: impl FnOnce(&Frame<'_>) -> R) -> Option<R> {
    let frame = RUNNING.get();
    // SAFETY: K2: the frame is on the stack that this code runs on.
    (!frame.is_null()).then(|| body(unsafe { &*frame }))
}

/// Stops this stackful coroutine until `future` is ready; gives its output.
/// Meanwhile the vCPU runs others. Any future will do: timers, join handles,
/// channels.
///
/// A lock that is held across this keeps everybody else of the vCPU from it, as
/// one held across an `await` does.
///
/// # Panics
/// Outside of a stackful coroutine. Unwinds if the coroutine is aborted: see the
/// [module](self).
pub fn wait<F: Future>(future: F) -> F::Output {
    let waited = with_frame(|frame| {
        let mut future = pin!(future);
        loop {
            if let Some(waker) = frame.waker() {
                let mut cx = Context::from_waker(waker);
                if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                    return output;
                }
            }
            if thread::panicking() {
                return block_on(future);
            }
            frame.suspend();
        }
    });
    waited.expect(NOT_ON_A_STACK)
}

/// Lets others of the same level run first.
///
/// # Panics
/// Outside of a stackful coroutine. Unwinds if the coroutine is aborted: see the
/// [module](self).
#[inline]
pub fn yield_turn() {
    end_turn(Turn::Yields);
}

#[inline]
fn end_turn(turn: Turn) {
    let yielded = with_frame(|frame| {
        if thread::panicking() {
            return thread::yield_now();
        }
        if let Some(waker) = frame.waker() {
            vcpu::end_turn(waker, turn);
        }
        frame.suspend();
    });
    yielded.expect(NOT_ON_A_STACK);
}

/// A safepoint: gives up the turn if the coroutine is asked to make way. Call it
/// in long computations; it costs a few loads.
///
/// # Panics
/// As [`yield_turn`], and only if it would give up the turn.
#[inline]
pub fn checkpoint() {
    if preempt::is_preempted() {
        end_turn(Turn::MakesWay);
    }
}

/// Whether this code runs on a coroutine's own stack, where [`wait`] works.
#[must_use]
pub fn is_on_stack() -> bool {
    !RUNNING.get().is_null()
}

/// Bytes of this coroutine's stack that are left: for recursions that would
/// rather stop than overflow. `None` outside of a stackful coroutine.
#[must_use]
pub fn stack_left() -> Option<usize> {
    let here = 0_u8;
    let here = ptr::from_ref(&here).addr();
    with_frame(|frame| here.saturating_sub(frame.base.lowest()))
}

/// Spawns a stackful coroutine on the scheduler that runs this code; see
/// [`SchedulerHandle::spawn_stackful`](crate::SchedulerHandle::spawn_stackful).
///
/// # Errors
/// If there are too many, or the scheduler shuts down.
///
/// # Panics
/// Outside of a coroutine, or if it is to be pinned to a vCPU that does not
/// exist.
#[track_caller]
pub fn spawn<T, F>(options: SpawnOptions, body: F) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let location = Location::caller();
    let spawned = vcpu::on_current_shared(|shared| {
        scheduler::spawn_stackful_on(shared, options, body, location)
    });
    spawned.expect("spawn works inside coroutines only; use a SchedulerHandle elsewhere")
}

/// The stack that a thread runs on, for the signal handler.
pub(crate) struct RunningStack<'a> {
    /// With its guard.
    pub(crate) stack: Range<usize>,
    pub(crate) usable_bytes: usize,
    pub(crate) id: CoroutineId,
    pub(crate) name: Option<&'a str>,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// Async-signal-safe where `body` is. `None` outside of stackful coroutines.
pub(crate) fn with_running<R>(body: impl FnOnce(&RunningStack<'_>) -> R) -> Option<R> {
    with_frame(|frame| {
        let header = frame.task.header();
        let base = frame.base.base().get();
        body(&RunningStack {
            stack: frame.base.limit().get()..base,
            usable_bytes: base - frame.base.lowest(),
            id: header.id(),
            name: header.name(),
            spawned_at: header.spawned_at,
        })
    })
}

/// A number that no other thread of the process has, or had.
#[inline]
fn this_thread() -> u32 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    /// Asked for by each thread that starts or resumes a stack, so this is
    /// where such a thread gets what overflows need.
    #[cold]
    fn first_time() -> u32 {
        static N_THREADS: AtomicU32 = AtomicU32::new(0);
        thread_local! {
            static SIGNAL_STACK: Cell<Option<SignalStack>> = const { Cell::new(None) };
        }
        SIGNAL_STACK.set(SignalStack::if_needed());
        let before = N_THREADS.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX - 1, "threads are numbered by 32 bits");
        NUMBER.set(before + 1);
        before + 1
    }
    match NUMBER.get() {
        0 => first_time(),
        number => number,
    }
}
