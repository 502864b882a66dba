//! [`JitExecutor`]: blocks to host code by Cranelift, a region at a time.
//!
//! ```text
//!   hot pc ──region──> Region + Flow ──translate──> CLIF ──compile──> host code
//!            (profile: what the interpreter has decoded)        ──> cache, slot
//! ```

pub(crate) mod abi;
pub(crate) mod compile;
pub mod dump;
pub(crate) mod region;
pub(crate) mod translate;

use std::sync::atomic::AtomicU32;

use vm_core::GuestAddr;
use vm_core::hart::Hart;
use vm_core::mem::GuestMemory;

use crate::config::JitConfig;
use crate::context::AsyncExecutionContext;
use crate::error::EngineError;
use crate::executor::{Mode, Tiered};
use crate::exit::{Budget, Executor, Exit};
use crate::stats::{HybridStats, InterpStats, JitStats};

/// Compiles a region as soon as it is a little warm, while the guest waits.
/// What is cold, or cannot be translated, is interpreted.
pub struct JitExecutor {
    tiered: Tiered,
}

impl JitExecutor {
    /// An executor with a cache of its own.
    #[must_use]
    pub fn new(config: JitConfig) -> JitExecutor {
        JitExecutor::with_context(AsyncExecutionContext::new(config))
    }

    /// An executor that shares code and counts with others.
    #[must_use]
    pub fn with_context(context: AsyncExecutionContext) -> JitExecutor {
        JitExecutor {
            tiered: Tiered::new(context, Mode::Foreground),
        }
    }

    /// The context it shares.
    #[must_use]
    pub fn context(&self) -> &AsyncExecutionContext {
        self.tiered.context()
    }

    /// Compiles the blocks at `pcs`, as far as they are not compiled and can
    /// be; gives how many were.
    pub fn batch(&mut self, memory: &GuestMemory, pcs: &[GuestAddr]) -> usize {
        let pcs: Vec<u64> = pcs.iter().map(|pc| pc.0).collect();
        self.tiered.batch(memory, &pcs)
    }

    /// Whether there is compiled code for `pc`, that of runs with a budget
    /// aside.
    pub fn is_compiled(&mut self, memory: &GuestMemory, pc: GuestAddr) -> bool {
        self.tiered.is_compiled(memory, pc.0)
    }

    /// What was compiled and entered, by all executors of the context.
    #[must_use]
    pub fn stats(&self) -> JitStats {
        self.tiered.context().stats()
    }

    /// What this executor interpreted on the way.
    #[must_use]
    pub fn interp_stats(&self) -> InterpStats {
        self.tiered.interp_stats()
    }

    /// Both.
    #[must_use]
    pub fn all_stats(&self) -> HybridStats {
        HybridStats {
            interp: self.interp_stats(),
            jit: self.stats(),
        }
    }
}

impl Default for JitExecutor {
    fn default() -> JitExecutor {
        JitExecutor::new(JitConfig::foreground())
    }
}

impl std::fmt::Debug for JitExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JitExecutor")
            .field("stats", &self.all_stats())
            .finish_non_exhaustive()
    }
}

impl Executor for JitExecutor {
    fn run(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: Budget,
        preempt: &AtomicU32,
    ) -> Exit {
        self.tiered.run(hart, memory, budget, preempt)
    }

    fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        self.tiered.execute(hart, memory)
    }

    fn prepare(&mut self, memory: &GuestMemory) -> Result<(), EngineError> {
        self.tiered.prepare(memory)
    }

    fn flush(&mut self) {
        self.tiered.flush();
    }
}
