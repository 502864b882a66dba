//! Knobs of the compiling engines, with default and cost.

use crate::context::Kind;
use crate::jit::compile::host_has_fma;
use crate::jit::region::Limits;
use crate::jit::translate::Flavour;

/// When and how guest code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JitConfig {
    /// Events (taken back-edges, calls, indirect jumps, entries) at a block
    /// after which its region is compiled. Lower compiles more and with less
    /// of a profile; 0 compiles at the first arrival. Default: 30 in
    /// [`JitConfig::foreground`], 400 in [`JitConfig::background`]; whichever
    /// an executor is given counts, however it compiles.
    pub threshold: u32,
    /// Guest instructions that an executor interprets before anything is
    /// compiled in the background; one that compiles while the guest waits
    /// does so from the first instruction on, whatever this says. A program
    /// that is over by then has nothing to gain, and the host's CPUs and caches
    /// are shared with the compiler: on the measured machine it costs such
    /// programs a quarter of their time. Default: 2,000,000 (about two
    /// milliseconds) in [`JitConfig::background`].
    pub warm_up_insts: u64,
    /// Guest instructions of a region, inlined ones included, after which no
    /// further block is added; those already found are completed, up to twice
    /// this number: no region is larger than `2 * region_insts_max`. Compile
    /// time grows a little faster. Default 400.
    pub region_insts_max: usize,
    /// Most guest instructions of a callee that is inlined; 0 turns inlining
    /// off. Default 80.
    pub inline_insts_max: usize,
    /// How deep a function is inlined in itself. Default 1.
    pub inline_recursion_max: usize,
    /// Registers are exact when a guest access faults, at the price of a store
    /// per changed register before each access (about half of the speed).
    /// Off by default: the trap has the exact pc and address, and registers
    /// may show values from before.
    pub exact_faults: bool,
    /// No other hart, and nothing else, reads or writes the guest's memory
    /// while code runs: read-modify-writes become plain loads and stores, and
    /// fences cost nothing. Must be off for a context whose executors run harts
    /// of the same memory on several threads, and for memory that another
    /// process maps too: atomics would lose updates there. Off by default.
    pub single_hart: bool,
    /// Host stack that a run may take below its caller where it is not on the
    /// stack of its thread, whose bounds the system knows, but on a
    /// coroutine's. With more than is there, deep guest recursion overflows
    /// that stack; with less than the default, 48 KiB, guests are interpreted
    /// there, which takes 16 KiB.
    pub coroutine_stack_bytes: usize,
    /// Most bytes of host code that a guest has at a time. When it is full, all
    /// of it is dropped and what is hot is compiled again, so too little costs
    /// time; executors that do not run meanwhile keep theirs until they run
    /// again. Default and largest value: 128 MiB, least 64 KiB (others mean
    /// the nearest of these); memory is taken as code comes.
    pub code_bytes_max: usize,
    /// Count the host instructions of what is compiled
    /// ([`JitStats::host_insts`](crate::JitStats::host_insts)), by decoding
    /// it. Costs half a millisecond once, for the decoder's tables, and a few
    /// percent of compile time. Off by default.
    pub count_host_insts: bool,
}

impl JitConfig {
    /// Defaults for compiling while the guest waits.
    #[must_use]
    pub fn foreground() -> JitConfig {
        JitConfig {
            threshold: 30,
            warm_up_insts: 0,
            region_insts_max: 400,
            inline_insts_max: 80,
            inline_recursion_max: 1,
            exact_faults: false,
            single_hart: false,
            coroutine_stack_bytes: 48 << 10,
            code_bytes_max: 128 << 20,
            count_host_insts: false,
        }
    }

    /// Defaults for compiling in the background.
    #[must_use]
    pub fn background() -> JitConfig {
        JitConfig {
            threshold: 400,
            warm_up_insts: 2_000_000,
            ..JitConfig::foreground()
        }
    }

    pub(crate) fn flavour(&self, kind: Kind) -> Flavour {
        Flavour {
            counting: kind == Kind::Counting,
            single: kind == Kind::Single,
            exact_faults: self.exact_faults,
            single_hart: self.single_hart,
            fma: host_has_fma(),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            insts: self.region_insts_max.max(1),
            inline_insts: self.inline_insts_max,
            inline_depth: 4,
            inline_recursion: self.inline_recursion_max,
            one_page: false,
        }
    }
}

impl Default for JitConfig {
    fn default() -> JitConfig {
        JitConfig::foreground()
    }
}
