//! The seam between the interpreter and whoever drives it with compiled code
//! beside it.

use std::sync::atomic::AtomicU32;

use super::core::InterpCore;
use crate::exit::Exit;

/// What a tiering driver tells the interpreter: where compiled code may take
/// over. The pure interpreter has [`NoTier`], which compiles away.
pub(crate) trait Tier {
    /// Events (taken back-edges, calls, indirect jumps, entries by `run`)
    /// after which an entry is reported as hot.
    fn threshold(&self) -> u32;
    /// The block at `pc` has seen `threshold` events or more. `true`: stop
    /// with [`Stop::Handover`], compiled code runs from `pc`. After `false`
    /// the interpreter asks again some 32 events later.
    fn hot(&mut self, pc: u64, core: &InterpCore) -> bool;
}

/// No compiled code anywhere.
pub(crate) struct NoTier;

impl Tier for NoTier {
    fn threshold(&self) -> u32 {
        u32::MAX
    }
    fn hot(&mut self, _: u64, _: &InterpCore) -> bool {
        false
    }
}

/// Why the core stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Exit(Exit),
    /// `state.pc` is an entry for which [`Tier::hot`] said `true`.
    Handover,
    /// A guest return (`jalr zero, 0(ra)`) at call depth 0 of a nested run:
    /// `state.pc` is where it goes.
    Returned,
}

/// What bounds a run of the core.
#[derive(Debug)]
pub(crate) struct Control<'a> {
    /// Instructions left; `u64::MAX` is as good as unlimited. Exact.
    pub(crate) budget: u64,
    pub(crate) preempt: &'a AtomicU32,
    /// Stop with [`Stop::Returned`] at a guest return when `depth` is 0.
    pub(crate) nested: bool,
    /// Guest calls (`jal`, `jalr` with rd = ra) made and not yet returned
    /// from; stays at 0 on returns when not nested.
    pub(crate) depth: u32,
}
