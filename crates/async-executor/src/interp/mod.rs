//! [`InterpreterExecutor`]: the reference engine.
//!
//! Decodes a block when control first reaches it, then runs its records; no
//! compile cost, exact in everything. `exec` says what each instruction does,
//! the families beside it how; `thread` strings them together; `cache` keeps
//! what was decoded; `core` drives, also below the tiering engines (`tier`).

pub(crate) use crate::block;

mod exec;
mod operands;
mod thread;
mod cache;
mod core;
mod tier;

mod atomic;
mod float;
mod int;
mod mem;
mod muldiv;
mod system;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU32;

use vm_core::hart::Hart;
use vm_core::mem::GuestMemory;

pub(crate) use self::core::InterpCore;
pub(crate) use self::system::orders_stores_before_loads;
pub(crate) use self::tier::{Control, Stop, Tier};
use crate::exit::{Budget, Executor, Exit};
use crate::stats::InterpStats;

/// Runs guests by interpretation.
///
/// ```
/// use std::sync::atomic::AtomicU32;
/// use async_executor::{Budget, Executor, Exit, InterpreterExecutor};
/// use vm_core::{GuestAddr, XReg, hart::Hart, isa::asm::assemble};
/// use vm_core::mem::{GuestMemory, Prot};
///
/// let memory = GuestMemory::new(1 << 20)?;
/// let text = GuestAddr(0x1_0000);
/// memory.map(text, 4096, Prot::READ | Prot::WRITE)?;
/// let code = assemble("addi a0, a0, 2\nmul a0, a0, a0\nebreak")?;
/// memory.write_bytes(text, &code).unwrap(); // mapped writable just now
/// memory.protect(text, 4096, Prot::EXEC)?;
/// let mut hart = Hart::new(text);
/// hart.set_x(XReg::A0, 4);
/// let exit = InterpreterExecutor::new()
///     .run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
/// assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, 36));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct InterpreterExecutor {
    core: InterpCore,
}

impl Default for InterpreterExecutor {
    fn default() -> InterpreterExecutor {
        InterpreterExecutor::new()
    }
}

impl InterpreterExecutor {
    /// An interpreter that has decoded nothing yet.
    #[must_use]
    pub fn new() -> InterpreterExecutor {
        InterpreterExecutor {
            core: InterpCore::alone(),
        }
    }

    /// What has been counted since [`InterpreterExecutor::new`].
    #[must_use]
    pub fn stats(&self) -> InterpStats {
        self.core.stats()
    }
}

impl Executor for InterpreterExecutor {
    fn run(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: Budget,
        preempt: &AtomicU32,
    ) -> Exit {
        let budget = match budget {
            Budget::Unlimited => u64::MAX,
            Budget::Instructions(n) => n,
        };
        self.core
            .run_alone(&mut hart.state, memory, budget, preempt)
    }

    fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        self.core.run_block(&mut hart.state, memory)
    }

    fn flush(&mut self) {
        self.core.flush();
    }
}
