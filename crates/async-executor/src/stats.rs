//! What the engines counted. Units are in the names; everything only grows,
//! so that a difference of two snapshots describes what lies between them.

/// Counts of an interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterpStats {
    /// Guest instructions retired.
    pub insts: u64,
    /// Blocks entered.
    pub blocks: u64,
    /// Blocks decoded.
    pub blocks_decoded: u64,
    /// Times that decoded blocks were compared with memory: `fence.i`, or a
    /// change of executable pages.
    pub revalidations: u64,
    /// Decoded blocks dropped because their bytes or permissions changed.
    pub blocks_invalidated: u64,
}

/// Counts of compiled code, shared by the executors of a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitStats {
    /// Regions compiled, those compiled again included.
    pub regions_compiled: u64,
    /// Basic blocks in them.
    pub blocks_compiled: u64,
    /// Guest instructions in them; an inlined one counts each time.
    pub insts_compiled: u64,
    /// Those of them that go through the interpreter.
    pub insts_not_translated: u64,
    /// Host instructions emitted; 0 unless
    /// [`JitConfig::count_host_insts`](crate::JitConfig::count_host_insts) is
    /// set.
    pub host_insts: u64,
    /// Host code emitted, in bytes; that of dropped regions included.
    pub code_bytes: u64,
    /// Time spent compiling, on whatever threads.
    pub compile_ns: u64,
    /// Regions that could not be compiled; their blocks stay interpreted.
    pub regions_failed: u64,
    /// Regions compiled in vain: the code had changed, or there was no room.
    pub regions_discarded: u64,
    /// Times that code memory was full: all code was dropped and what was hot
    /// compiled again.
    pub caches_retired: u64,
    /// Compile threads that the host refused; what they would have compiled
    /// stays interpreted.
    pub compile_threads_refused: u64,
    /// Times that the host had no address space for code, when it was first to
    /// run or in [`Executor::prepare`](crate::Executor::prepare). It has a
    /// cache each for runs without a budget, for those with one, and for single
    /// blocks: the executor interprets from then on what it has none for, until
    /// `prepare` succeeds or it runs another memory.
    pub caches_refused: u64,
    /// Regions dropped because their guest code changed.
    pub regions_invalidated: u64,
    /// Entries into compiled code from the run loop.
    pub code_entries: u64,
    /// Instructions that compiled code handed to the interpreter singly.
    pub insts_interpreted_from_code: u64,
}

/// Both engines of a hybrid executor, counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HybridStats {
    /// The interpreter's part, of this executor.
    pub interp: InterpStats,
    /// The compiled part, of all executors of the context.
    pub jit: JitStats,
}
