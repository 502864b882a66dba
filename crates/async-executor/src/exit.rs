//! What a run is asked and what it can answer. Nothing calls upwards: a run
//! returns, and whoever called it decides.

use std::fmt;
use std::sync::atomic::AtomicU32;

use vm_core::Trap;
use vm_core::hart::Hart;
use vm_core::mem::GuestMemory;

use crate::error::EngineError;

/// Why a run of a hart ended. The hart's pc says where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Exit {
    /// The budget is used up to the last instruction (or, for
    /// [`Executor::execute`], the block has ended).
    BudgetSpent,
    /// The preempt word was not zero at a safepoint.
    Preempted,
    /// The guest asks its environment; pc is the `ecall`, which takes 4 bytes.
    Ecall,
    /// The guest ran into an `ebreak`; pc is that instruction.
    Breakpoint,
    /// The instruction at pc trapped and changed nothing.
    Trap(Trap),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::BudgetSpent => f.write_str("budget spent"),
            Exit::Preempted => f.write_str("preempted"),
            Exit::Ecall => f.write_str("ecall"),
            Exit::Breakpoint => f.write_str("breakpoint"),
            Exit::Trap(trap) => write!(f, "{trap}"),
        }
    }
}

/// How much a run may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Budget {
    /// Until something else ends the run.
    #[default]
    Unlimited,
    /// Exactly this many guest instructions, unless something else ends the
    /// run before. Engines count, which costs some speed.
    Instructions(u64),
}

/// One way to make a hart run. All engines are interchangeable: the same
/// hart, memory and budget end in the same state, with three exceptions in
/// compiled code. `instret` counts what was interpreted: there it advances with
/// each read of it, and never goes back, while the interpreter's is exact. An
/// address of 4 GiB or more counts modulo 4 GiB, where the
/// interpreter faults. After a trap by a load or store, registers may be those
/// from earlier in the function unless
/// [`JitConfig::exact_faults`](crate::JitConfig::exact_faults) is set; cause,
/// pc and address are exact.
pub trait Executor {
    /// Runs `hart` until the budget is spent, `preempt` is not zero at a
    /// safepoint (every backward jump, call and indirect jump comes to one),
    /// or the guest does what only the caller can answer.
    ///
    /// It takes what it finds of host stack, up to 512 KiB: guest calls are
    /// host calls in compiled code, until the stack has 32 KiB left. Then they
    /// start over with an empty one, so guest recursion has no limit. Where
    /// fewer than 48 KiB are left, all is interpreted, which takes 16 KiB. The
    /// stack is the calling thread's; on another one, a coroutine's,
    /// [`JitConfig::coroutine_stack_bytes`](crate::JitConfig::coroutine_stack_bytes)
    /// says how much there is. Bounds are asked for once per thread: the main
    /// thread's stack limit must not shrink afterwards.
    fn run(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: Budget,
        preempt: &AtomicU32,
    ) -> Exit;

    /// Runs the one block at the hart's pc: up to and with the next branch,
    /// jump, environment call or page end. [`Exit::BudgetSpent`] says that it
    /// ended in the ordinary way.
    fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit;

    /// Takes from the host, before the first run with `memory`, what running it
    /// needs beyond the memory itself: address space for compiled code, for
    /// instance. Without this call an engine takes it at the first run, and
    /// interprets where it is refused.
    ///
    /// # Errors
    /// If the host refuses; runs then still work, interpreted.
    fn prepare(&mut self, memory: &GuestMemory) -> Result<(), EngineError> {
        let _ = memory;
        Ok(())
    }

    /// Forgets everything decoded and compiled.
    fn flush(&mut self);
}
