//! The engines to choose from, in one place.

use async_executor::{
    Executor, HybridExecutor, InterpStats, InterpreterExecutor, JitConfig, JitExecutor, JitStats,
};

/// Which engine runs a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum EngineKind {
    /// The interpreter: starts at once, runs slowly; the reference.
    Interp,
    /// The compiler: compiles what is warm while the guest waits.
    Jit,
    /// Both: interprets, compiles in the background, and switches over.
    #[default]
    Hybrid,
}

impl EngineKind {
    /// All engines, for tests that want each.
    pub const ALL: &'static [EngineKind] =
        &[EngineKind::Interp, EngineKind::Jit, EngineKind::Hybrid];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Interp => "interp",
            EngineKind::Jit => "jit",
            EngineKind::Hybrid => "hybrid",
        }
    }
}

/// An executor that says what it counted.
pub trait Engine: Executor {
    /// Names (unit last) and values, which only grow.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// Makes an engine for a [`Process`](crate::Process).
#[must_use]
pub fn build_engine(kind: EngineKind) -> Box<dyn Engine> {
    build_engine_with(kind, jit_config(kind))
}

/// Makes an engine that compiles as `config` says, if it compiles.
#[must_use]
pub fn build_engine_with(kind: EngineKind, config: JitConfig) -> Box<dyn Engine> {
    match kind {
        EngineKind::Interp => Box::new(InterpreterExecutor::new()),
        EngineKind::Jit => Box::new(JitExecutor::new(config)),
        EngineKind::Hybrid => Box::new(HybridExecutor::new(config)),
    }
}

/// How engines compile for a [`Process`](crate::Process), which has one hart
/// and shares its memory with nobody, so that its atomics need not be atomic
/// ([`JitConfig::single_hart`]).
#[must_use]
pub fn jit_config(kind: EngineKind) -> JitConfig {
    let mut config = match kind {
        EngineKind::Interp | EngineKind::Jit => JitConfig::foreground(),
        EngineKind::Hybrid => JitConfig::background(),
    };
    config.single_hart = true;
    config
}

impl Engine for InterpreterExecutor {
    fn counters(&self) -> Vec<(&'static str, u64)> {
        interpreted(self.stats())
    }
}

impl Engine for JitExecutor {
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let stats = self.all_stats();
        [interpreted(stats.interp), compiled(stats.jit)].concat()
    }
}

impl Engine for HybridExecutor {
    fn counters(&self) -> Vec<(&'static str, u64)> {
        let stats = self.stats();
        [interpreted(stats.interp), compiled(stats.jit)].concat()
    }
}

fn interpreted(stats: InterpStats) -> Vec<(&'static str, u64)> {
    vec![
        ("interp_insts", stats.insts),
        ("interp_blocks", stats.blocks),
        ("interp_blocks_decoded", stats.blocks_decoded),
        ("interp_blocks_invalidated", stats.blocks_invalidated),
    ]
}

fn compiled(stats: JitStats) -> Vec<(&'static str, u64)> {
    vec![
        ("jit_regions_compiled", stats.regions_compiled),
        ("jit_regions_failed", stats.regions_failed),
        ("jit_regions_discarded", stats.regions_discarded),
        ("jit_caches_retired", stats.caches_retired),
        ("jit_regions_invalidated", stats.regions_invalidated),
        ("jit_compile_threads_refused", stats.compile_threads_refused),
        ("jit_caches_refused", stats.caches_refused),
        ("jit_blocks_compiled", stats.blocks_compiled),
        ("jit_insts_compiled", stats.insts_compiled),
        ("jit_insts_not_translated", stats.insts_not_translated),
        ("jit_host_insts", stats.host_insts),
        ("jit_code_bytes", stats.code_bytes),
        ("jit_compile_ns", stats.compile_ns),
        ("jit_code_entries", stats.code_entries),
        (
            "jit_insts_interpreted_from_code",
            stats.insts_interpreted_from_code,
        ),
    ]
}
