//! [`HybridExecutor`]: interprets first, compiles what is hot on another
//! thread, and goes over to compiled code while the guest runs.

use std::sync::atomic::AtomicU32;

use vm_core::hart::Hart;
use vm_core::mem::GuestMemory;

use crate::config::JitConfig;
use crate::context::AsyncExecutionContext;
use crate::error::EngineError;
use crate::executor::{Mode, Tiered};
use crate::exit::{Budget, Executor, Exit};
use crate::interp::InterpreterExecutor;
use crate::stats::HybridStats;

/// Which engine a hybrid executor leans to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Interpret, compile what is hot in the background.
    #[default]
    Automatic,
    /// Never compile.
    Interpreter,
    /// Compile while the guest waits, without the warm-up of
    /// [`JitConfig::warm_up_insts`]. How early is up to
    /// [`JitConfig::threshold`]: with that of [`JitConfig::foreground`] soon,
    /// with that of [`JitConfig::background`] after 400 events.
    Jit,
}

/// Both engines behind one contract.
#[derive(Debug)]
pub struct HybridExecutor {
    engine: Engine,
    preference: Preference,
}

enum Engine {
    Interp(Box<InterpreterExecutor>),
    Tiered(Box<Tiered>),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Engine::Interp(interp) => interp.fmt(f),
            Engine::Tiered(tiered) => tiered.context().fmt(f),
        }
    }
}

impl HybridExecutor {
    /// An executor with a cache and a compile thread of its own. The thread
    /// starts with the first hot region.
    #[must_use]
    pub fn new(config: JitConfig) -> HybridExecutor {
        HybridExecutor::with_context(AsyncExecutionContext::new(config), Preference::Automatic)
    }

    /// An executor that shares code, counts and the compile thread.
    #[must_use]
    pub fn with_context(context: AsyncExecutionContext, preference: Preference) -> HybridExecutor {
        let engine = match preference {
            Preference::Automatic => {
                Engine::Tiered(Box::new(Tiered::new(context, Mode::Background)))
            }
            Preference::Jit => Engine::Tiered(Box::new(Tiered::new(context, Mode::Foreground))),
            Preference::Interpreter => Engine::Interp(Box::default()),
        };
        HybridExecutor { engine, preference }
    }

    /// Which engine it leans to.
    #[must_use]
    pub fn preference(&self) -> Preference {
        self.preference
    }

    /// The counts of both engines, apart.
    #[must_use]
    pub fn stats(&self) -> HybridStats {
        match &self.engine {
            Engine::Interp(interp) => HybridStats {
                interp: interp.stats(),
                ..HybridStats::default()
            },
            Engine::Tiered(tiered) => HybridStats {
                interp: tiered.interp_stats(),
                jit: tiered.context().stats(),
            },
        }
    }
}

impl Default for HybridExecutor {
    fn default() -> HybridExecutor {
        HybridExecutor::new(JitConfig::background())
    }
}

impl Executor for HybridExecutor {
    fn run(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: Budget,
        preempt: &AtomicU32,
    ) -> Exit {
        match &mut self.engine {
            Engine::Interp(interp) => interp.run(hart, memory, budget, preempt),
            Engine::Tiered(tiered) => tiered.run(hart, memory, budget, preempt),
        }
    }

    fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        match &mut self.engine {
            Engine::Interp(interp) => interp.execute(hart, memory),
            Engine::Tiered(tiered) => match self.preference {
                Preference::Jit => tiered.execute(hart, memory),
                _ => tiered.interpret_block(hart, memory),
            },
        }
    }

    fn prepare(&mut self, memory: &GuestMemory) -> Result<(), EngineError> {
        match &mut self.engine {
            Engine::Interp(_) => Ok(()),
            Engine::Tiered(tiered) => tiered.prepare(memory),
        }
    }

    fn flush(&mut self) {
        match &mut self.engine {
            Engine::Interp(interp) => interp.flush(),
            Engine::Tiered(tiered) => tiered.flush(),
        }
    }
}
