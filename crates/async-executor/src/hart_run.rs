//! [`HartRun`]: a run as a future, for executors of coroutines. It knows none
//! of them: it yields by waking itself and returning `Pending`.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};

use vm_core::hart::Hart;
use vm_core::mem::GuestMemory;

use crate::exit::{Budget, Executor, Exit};

/// Runs a hart slice by slice until it needs its environment.
///
/// Each poll runs at most one slice. When the slice is spent, or the preempt
/// word was raised (whoever raised it lowers it again), the future wakes
/// itself and is pending, so that others get their turn. It completes with
/// any other [`Exit`], and goes on from there when polled again.
///
/// ```
/// use std::sync::atomic::AtomicU32;
/// use std::task::{Context, Poll, Waker};
/// use std::pin::pin;
/// use async_executor::{Budget, Exit, HartRun, InterpreterExecutor};
/// use vm_core::{GuestAddr, XReg, hart::Hart, isa::asm::assemble};
/// use vm_core::mem::{GuestMemory, Prot};
///
/// let memory = GuestMemory::new(1 << 20)?;
/// let text = GuestAddr(0x1_0000);
/// memory.map(text, 4096, Prot::READ | Prot::WRITE)?;
/// memory.write_bytes(text, &assemble("loop: addi a0, a0, -1\nbnez a0, loop\nebreak")?).unwrap();
/// memory.protect(text, 4096, Prot::EXEC)?;
/// let mut hart = Hart::new(text);
/// hart.set_x(XReg::A0, 100);
/// let (mut engine, preempt) = (InterpreterExecutor::new(), AtomicU32::new(0));
/// let slice = Budget::Instructions(64);
/// let mut run = pin!(HartRun::new(&mut engine, &mut hart, &memory, slice, &preempt));
/// let mut context = Context::from_waker(Waker::noop());
/// let mut polls = 0;
/// let exit = loop {
///     polls += 1;
///     if let Poll::Ready(exit) = run.as_mut().poll(&mut context) {
///         break exit;
///     }
/// };
/// // 200 instructions and the breakpoint, 64 at a time.
/// assert_eq!((exit, polls), (Exit::Breakpoint, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct HartRun<'a> {
    executor: &'a mut dyn Executor,
    hart: &'a mut Hart,
    memory: &'a GuestMemory,
    slice: Budget,
    preempt: &'a AtomicU32,
}

impl<'a> HartRun<'a> {
    /// A run that yields after each `slice`. [`Budget::Unlimited`] yields only
    /// when `preempt` is raised.
    pub fn new(
        executor: &'a mut dyn Executor,
        hart: &'a mut Hart,
        memory: &'a GuestMemory,
        slice: Budget,
        preempt: &'a AtomicU32,
    ) -> HartRun<'a> {
        HartRun {
            executor,
            hart,
            memory,
            slice,
            preempt,
        }
    }
}

impl std::fmt::Debug for HartRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HartRun")
            .field("pc", &self.hart.pc())
            .field("slice", &self.slice)
            .finish_non_exhaustive()
    }
}

impl Future for HartRun<'_> {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        match this
            .executor
            .run(this.hart, this.memory, this.slice, this.preempt)
        {
            Exit::BudgetSpent | Exit::Preempted => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            exit => Poll::Ready(exit),
        }
    }
}
