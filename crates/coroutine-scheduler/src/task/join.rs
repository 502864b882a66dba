//! [`JoinHandle`]: the result of a coroutine, awaited or waited for.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::raw::TaskRef;
use super::state;
use crate::coroutine::Coroutine;
use crate::error::JoinError;

/// The result of a coroutine. A future that any executor can poll; threads wait
/// with [`join`](Self::join). Dropping it lets the coroutine run on, detached;
/// its result is then dropped. Derefs to the [`Coroutine`], for its state.
pub struct JoinHandle<T> {
    coroutine: Coroutine,
    /// Whether the waker field may be the runner's.
    has_offered: bool,
    result: PhantomData<fn() -> T>,
}

impl<T> JoinHandle<T> {
    /// Takes over the join handle's reference.
    pub(crate) fn new(task: TaskRef) -> JoinHandle<T> {
        JoinHandle {
            coroutine: Coroutine::new(task),
            has_offered: false,
            result: PhantomData,
        }
    }

    /// Whether it has ended, in whichever way.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.coroutine.is_finished()
    }

    /// Another handle of the coroutine, without its result.
    #[must_use]
    pub fn coroutine(&self) -> Coroutine {
        self.coroutine.clone()
    }

    /// Blocks this thread until the coroutine has ended. Nothing runs it before
    /// the scheduler is [started](crate::CoroutineScheduler::start), unless
    /// another thread does by [`run_one`](crate::CoroutineScheduler::run_one):
    /// until then, this waits.
    ///
    /// # Errors
    /// If it panicked, was aborted, or its scheduler shut down.
    ///
    /// # Panics
    /// On a vCPU: that would keep it from running what is waited for. Await the
    /// handle there. And if a poll of the handle has given the result already.
    pub fn join(self) -> Result<T, JoinError> {
        assert!(
            !crate::vcpu::is_on_vcpu(),
            "join would block a vCPU; await the handle instead"
        );
        block_on(self)
    }

    pub(crate) fn task(&self) -> TaskRef {
        self.coroutine.task()
    }
}

impl<T> Deref for JoinHandle<T> {
    type Target = Coroutine;

    fn deref(&self) -> &Coroutine {
        &self.coroutine
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    /// When polled again after it gave the result.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task();
        let state = &task.header().state;
        let is_done = state.load() & state::DONE != 0
            || (self.has_offered && !state.take_back_join_waker())
            || {
                task.set_own_join_waker(Some(cx.waker().clone()));
                self.has_offered = true;
                !state.offer_join_waker()
            };
        if !is_done {
            return Poll::Pending;
        }
        let output = task.take_own_output::<T>();
        assert!(output.is_ready(), "a join handle gives its result once");
        output
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let task = self.task();
        match task.header().state.drop_join() {
            Ok(()) => task.set_own_join_waker(None),
            Err(()) => task.drop_own_output(),
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.coroutine).finish()
    }
}

/// Runs a future on this thread, parking it in between.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        thread::park();
    }
}
