//! The hart run loop of the compiling engines: interpreter and compiled code
//! take turns until something is for the caller.
//!
//! ```text
//!   run ── drive ──┬─ slot of pc set ──> enter ──> compiled regions
//!            ^     │                                 │        │ cold slot
//!            │     └─ else ──> interpreter           │        v
//!            │          │ hot: compile, or queue     │    interpret_from
//!            │          │ compiled: hand over        │      = drive, nested:
//!            └──────────┴────────────────────────────┘      ends with the
//!                                                           guest function
//! ```
//!
//! A nested drive keeps the host frames below it, so that a compiled caller
//! of a cold function finds its way back by an ordinary return. An exit for
//! the caller is kept in [`Run::pending`]; the odd return value unwinds all
//! frames down to [`Tiered::run`].
//!
//! Rules of the unsafe code here:
//!
//! - **X1** A [`Run`] and the hart it belongs to are reached through raw
//!   pointers only while generated code may run; references to them are made
//!   for stretches without such code and dropped before `enter`.
//! - **X2** The engine words of the hart are set by [`Tiered::run`] for its
//!   duration; RUN points to its `Run`, which outlives every entry.
//! - **X3** `enter` gets code from the cache that the `Run` keeps alive, and
//!   the memory for which its address space was looked up.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_core::hart::{Hart, HartState};
use vm_core::isa::format::Kind as FormatKind;
use vm_core::isa::{Op, decode};
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap};

use crate::cache::arena::ARENA_BYTES;
use crate::cache::{CodeCache, Wanted};
use crate::config::JitConfig;
use crate::context::{AsyncExecutionContext, Counts, Kind, RunCounts};
use crate::enter::{self, fflags_of, mxcsr_of};
use crate::error::EngineError;
use crate::exit::{Budget, Exit};
use crate::fault::{self, Frame};
use crate::interp::{Control, InterpCore, NoTier, Stop, Tier};
use crate::jit::abi;
use crate::jit::compile::Compiler;
use crate::jit::region::{ALL_REGS, Region, writes_of};
use crate::stack;
use crate::stats::InterpStats;

/// Most instructions that the interpreter adds to a preempted run so that its
/// registers are exact; a region is not larger.
const CATCH_UP_INSTS_MAX: usize = 1 << 16;

/// Who waits for a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The guest does.
    Foreground,
    /// Nobody: the guest is interpreted meanwhile.
    Background,
}

/// An interpreter with compiled code beside it.
pub(crate) struct Tiered {
    core: InterpCore,
    tier: TierState,
    /// Interpreter revalidations that compiled code has followed.
    validated: u64,
    seen: Option<(u64, u64)>,
    /// Until the interpreter, alone, has retired so many instructions, nothing
    /// is compiled; 0 from then on, and in the foreground.
    warm_up_insts: u64,
}

struct TierState {
    context: AsyncExecutionContext,
    mode: Mode,
    compiler: Compiler,
    /// The caches in use, kept alive here, but for the one that is lent to a
    /// run: the hart enters and leaves too often to count references.
    caches: [Option<Arc<CodeCache>>; 3],
    space: u64,
    /// By kind: the host had no room for a cache of `space` and is not asked
    /// again, but by [`Tiered::prepare`].
    is_refused: [bool; 3],
    /// A cache was lent that has not been validated here.
    is_unseen: bool,
    counts: Arc<RunCounts>,
}

/// One call of [`Tiered::run`].
struct Run<'a> {
    tiered: &'a mut Tiered,
    memory: &'a GuestMemory,
    cache: &'a Arc<CodeCache>,
    /// Beside the run, not in it: it is lent out while generated code runs,
    /// and nested calls write to the run meanwhile.
    frame: &'a Frame,
    preempt: &'a AtomicU32,
    stack: StackLimit,
    budget_counts: bool,
    pending: Option<Exit>,
    /// A poll found the preempt word raised.
    polled: bool,
}

/// Lowest rsp at which a region that makes calls may start, looked up when
/// something is hot: most short programs never ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StackLimit {
    Unknown,
    /// There is too little to run compiled code at all.
    TooLittle,
    At(u64),
}

impl StackLimit {
    /// Where it is, if compiled code can run on this stack.
    #[inline]
    fn get(&mut self, config: &JitConfig) -> Option<u64> {
        if *self == StackLimit::Unknown {
            *self = stack::limit(config).map_or(StackLimit::TooLittle, StackLimit::At);
        }
        match *self {
            StackLimit::At(limit) => Some(limit),
            StackLimit::TooLittle | StackLimit::Unknown => None,
        }
    }
}

/// What the fault handler needs to know of a run.
fn frame_of(state: *mut HartState, memory: &GuestMemory, cache: &CodeCache) -> Frame {
    let code = cache.arena.entry(0).addr();
    Frame {
        hart: state,
        code: code..code + ARENA_BYTES,
        memory: memory.host_range(),
        base: memory.host_base().addr(),
    }
}

impl<'a> Run<'a> {
    fn new(
        tiered: &'a mut Tiered,
        frame: &'a Frame,
        memory: &'a GuestMemory,
        cache: &'a Arc<CodeCache>,
        preempt: &'a AtomicU32,
    ) -> Run<'a> {
        Run {
            tiered,
            memory,
            frame,
            budget_counts: cache.flavour.counting,
            cache,
            preempt,
            stack: StackLimit::Unknown,
            pending: None,
            polled: false,
        }
    }
}

impl Run<'_> {
    /// Offset of the code at the hart's pc, 0 where there is none, or no stack
    /// to run it on. The hart then has the limit of that.
    #[inline(always)]
    fn lookup(&mut self, state: &mut HartState) -> u32 {
        let offset = self.cache.lookup(state.pc);
        if offset == 0 {
            return 0;
        }
        let Some(limit) = self.stack.get(self.tiered.tier.context.config()) else {
            return 0;
        };
        state.engine[abi::STACK_LIMIT] = limit;
        offset
    }
}

/// What the interpreter asks while it runs below a `Run`.
struct RunTier<'a> {
    state: &'a mut TierState,
    memory: &'a GuestMemory,
    cache: &'a Arc<CodeCache>,
    /// Compiled code at this address has just declined.
    declined: Option<u64>,
    stack: &'a mut StackLimit,
    /// The rounding mode is one that compiled code can have.
    enabled: bool,
}

impl Tier for RunTier<'_> {
    fn threshold(&self) -> u32 {
        self.state.context.config().threshold
    }

    fn hot(&mut self, pc: u64, core: &InterpCore) -> bool {
        if self.cache.is_retired() {
            return true; // nothing comes of it any more: on with another
        }
        if !self.enabled || self.declined.take() == Some(pc) {
            return false;
        }
        if self.stack.get(self.state.context.config()).is_none() {
            return false;
        }
        if self.cache.lookup(pc) != 0 {
            return true;
        }
        if self.state.mode == Mode::Background && !self.state.context.has_background() {
            return false;
        }
        let Wanted::Compile(entry) = self.cache.want(pc) else {
            return false;
        };
        let generation = self.cache.generation();
        let limits = self.state.context.config().limits();
        let executed = |pc| core.was_executed(pc);
        let Some(region) = Region::discover(entry, self.memory, &executed, limits) else {
            self.cache.refuse(entry);
            return false;
        };
        match self.state.mode {
            Mode::Foreground => {
                let context = &self.state.context;
                context.compile_now(&mut self.state.compiler, self.cache, &region, generation)
                    && entry == pc
            }
            Mode::Background => {
                if !self
                    .state
                    .context
                    .compile_later(self.cache, region, generation)
                {
                    self.cache.unwant(entry);
                }
                false
            }
        }
    }
}

impl TierState {
    /// Lends the cache of `memory` for a kind of code, `None` where the host
    /// has no room for one: then what would run in it is interpreted. Who wants
    /// to know beforehand asks [`Tiered::prepare`].
    #[inline]
    fn lend(&mut self, memory: &GuestMemory, kind: Kind) -> Option<Arc<CodeCache>> {
        let held = self.held(memory, kind);
        if held.is_some() || self.is_refused[kind as usize] {
            return held;
        }
        self.acquire(kind).ok()
    }

    /// Lends the cache in use, if there is one that takes code.
    #[inline]
    fn held(&mut self, memory: &GuestMemory, kind: Kind) -> Option<Arc<CodeCache>> {
        if self.space != memory.identity() {
            self.caches = [const { None }; 3];
            self.space = memory.identity();
            self.is_refused = [false; 3];
        }
        // One that is retired goes, and its code, before there is a new one.
        self.caches[kind as usize]
            .take()
            .filter(|cache| !cache.is_retired())
    }

    /// Asks for a cache where none is in use, and remembers a refusal.
    #[cold]
    fn acquire(&mut self, kind: Kind) -> Result<Arc<CodeCache>, EngineError> {
        let cache = self.context.cache(self.space, kind);
        self.is_refused[kind as usize] = cache.is_err();
        if cache.is_err() {
            Counts::add(&self.context.counts().caches_refused, 1);
        }
        // Others may have filled it before code changed.
        self.is_unseen = true;
        cache
    }

    /// Takes a cache back.
    #[inline]
    fn keep(&mut self, kind: Kind, cache: Arc<CodeCache>) {
        self.caches[kind as usize] = Some(cache);
    }
}

impl Tiered {
    pub(crate) fn new(context: AsyncExecutionContext, mode: Mode) -> Tiered {
        fault::install();
        let counts = context.join();
        // Where others have compiled, the guest is no short one.
        let has_code = context.counts().regions.load(Ordering::Relaxed) > 0;
        let warm_up_insts = match mode {
            Mode::Background if !has_code => context.config().warm_up_insts,
            Mode::Background | Mode::Foreground => 0,
        };
        let core = match warm_up_insts {
            0 => InterpCore::new(),
            _ => InterpCore::alone(),
        };
        Tiered {
            core,
            tier: TierState {
                context,
                mode,
                compiler: Compiler::default(),
                caches: [const { None }; 3],
                space: 0,
                is_refused: [false; 3],
                is_unseen: false,
                counts,
            },
            validated: 0,
            seen: None,
            warm_up_insts,
        }
    }

    pub(crate) fn context(&self) -> &AsyncExecutionContext {
        &self.tier.context
    }

    pub(crate) fn interp_stats(&self) -> InterpStats {
        self.core.stats()
    }

    /// Makes room for the code of `memory`, as
    /// [`Executor::prepare`](crate::Executor::prepare) says.
    pub(crate) fn prepare(&mut self, memory: &GuestMemory) -> Result<(), EngineError> {
        if self.warm_up_insts != 0 {
            // It may never come to code: looking is enough.
            return CodeCache::probe();
        }
        let cache = match self.tier.held(memory, Kind::Free) {
            Some(cache) => cache,
            None => self.tier.acquire(Kind::Free)?,
        };
        self.tier.keep(Kind::Free, cache);
        Ok(())
    }

    pub(crate) fn flush(&mut self) {
        self.core.flush();
        self.tier.context.flush();
    }

    /// Runs as [`Executor::run`](crate::Executor::run) says. Small, so that a
    /// program that warms up does not pay for what it may never come to.
    #[inline]
    pub(crate) fn run(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: Budget,
        preempt: &AtomicU32,
    ) -> Exit {
        let (kind, mut budget) = match budget {
            Budget::Unlimited => (Kind::Free, u64::MAX),
            Budget::Instructions(n) => (Kind::Counting, n.min(i64::MAX as u64)),
        };
        if self.warm_up_insts != 0
            && let Some(exit) = self.warm_up(hart, memory, &mut budget, preempt)
        {
            return exit;
        }
        self.run_in_caches(hart, memory, kind, budget, preempt)
    }

    #[inline(never)]
    fn run_in_caches(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        kind: Kind,
        mut budget: u64,
        preempt: &AtomicU32,
    ) -> Exit {
        loop {
            match self.run_in_a_cache(hart, memory, kind, budget, preempt) {
                Ok(exit) => return exit,
                Err(left) => budget = left,
            }
        }
    }

    /// Runs in the cache that there is for `kind`. When that is retired, the
    /// error is what is left of the budget.
    #[inline(always)]
    fn run_in_a_cache(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        kind: Kind,
        budget: u64,
        preempt: &AtomicU32,
    ) -> Result<Exit, u64> {
        let Some(cache) = self.tier.lend(memory, kind) else {
            return Ok(self.interpret(hart, memory, budget, preempt).0);
        };
        self.follow(memory, &cache);
        let state: *mut HartState = &raw mut hart.state;
        let frame = frame_of(state, memory, &cache);
        let mut run = Run::new(self, &frame, memory, &cache, preempt);
        let run: *mut Run<'_> = &raw mut run;
        // SAFETY: X1, X2: both pointers come from live locals, and nothing
        // else refers to them until `drive` is done.
        let exit = unsafe {
            set_words(run, state, budget);
            let back = drive(run, state, false);
            debug_assert!(back & 1 == 1, "the outermost drive ends for good only");
            match (*run).pending.take() {
                Some(exit) => Ok(exit),
                None if (*run).budget_counts => Err((*state).engine[abi::BUDGET]),
                None => Err(budget),
            }
        };
        self.tier.keep(kind, cache);
        exit
    }

    /// Runs the block at the hart's pc in compiled form.
    pub(crate) fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        let Some(stack_limit) = stack::limit(self.context().config()) else {
            return self.core.run_block(&mut hart.state, memory);
        };
        let Some(cache) = self.tier.lend(memory, Kind::Single) else {
            return self.core.run_block(&mut hart.state, memory);
        };
        self.follow(memory, &cache);
        let exit = if mxcsr_of(0, hart.state.frm).is_some()
            && let Some(offset) = self.single(&cache, memory, hart.state.pc)
        {
            self.enter_single(hart, memory, &cache, offset, stack_limit)
        } else {
            self.core.run_block(&mut hart.state, memory)
        };
        self.tier.keep(Kind::Single, cache);
        exit
    }

    /// Offset of the code of the one block at `pc`, compiled now if need be.
    /// It stays good whoever forgets it meanwhile: looked up again, the slot
    /// may be empty.
    fn single(&mut self, cache: &CodeCache, memory: &GuestMemory, pc: u64) -> Option<NonZero<u32>> {
        NonZero::new(cache.lookup(pc)).or_else(|| {
            self.compile_single(cache, memory, pc);
            NonZero::new(cache.lookup(pc))
        })
    }

    /// Runs the block at the hart's pc in the interpreter: a block that is run
    /// once is not worth compiling.
    pub(crate) fn interpret_block(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        self.core.run_block(&mut hart.state, memory)
    }

    /// Compiles the blocks at `pcs` that are not compiled yet; gives how many.
    /// Where code memory is full, what came last stays.
    pub(crate) fn batch(&mut self, memory: &GuestMemory, pcs: &[u64]) -> usize {
        let mut compiled = 0;
        for &pc in pcs {
            compiled += usize::from(self.batch_one(memory, pc));
        }
        compiled
    }

    /// A cache that is full is retired with what it holds, and takes no more:
    /// the block goes to the next one.
    fn batch_one(&mut self, memory: &GuestMemory, pc: u64) -> bool {
        loop {
            let Some(cache) = self.tier.lend(memory, Kind::Single) else {
                return false;
            };
            self.follow(memory, &cache);
            let is_new = cache.lookup(pc) == 0 && self.compile_single(&cache, memory, pc);
            let is_retired = cache.is_retired();
            self.tier.keep(Kind::Single, cache);
            if is_new || !is_retired {
                return is_new;
            }
        }
    }

    /// Whether compiled code exists for `pc` that does not count.
    pub(crate) fn is_compiled(&mut self, memory: &GuestMemory, pc: u64) -> bool {
        [Kind::Free, Kind::Single].into_iter().any(|kind| {
            let Some(cache) = self.tier.lend(memory, kind) else {
                return false;
            };
            let is_compiled = cache.lookup(pc) != 0;
            self.tier.keep(kind, cache);
            is_compiled
        })
    }

    fn compile_single(&mut self, cache: &CodeCache, memory: &GuestMemory, pc: u64) -> bool {
        let generation = cache.generation();
        let Some(region) = Region::single(pc, memory) else {
            return false;
        };
        let TierState {
            context, compiler, ..
        } = &mut self.tier;
        context.compile_now(compiler, cache, &region, generation)
    }

    fn enter_single(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        cache: &Arc<CodeCache>,
        offset: NonZero<u32>,
        stack_limit: u64,
    ) -> Exit {
        static NEVER: AtomicU32 = AtomicU32::new(0);
        let state: *mut HartState = &raw mut hart.state;
        let frame = frame_of(state, memory, cache);
        let mut run = Run::new(self, &frame, memory, cache, &NEVER);
        let run: *mut Run<'_> = &raw mut run;
        // SAFETY: X1, X2, X3: as in `run`.
        unsafe {
            set_words(run, state, u64::MAX);
            (*state).engine[abi::STACK_LIMIT] = stack_limit;
            let start = (*state).pc;
            let back = enter_code(run, state, offset.get(), false);
            if let Some(exit) = (*run).pending.take() {
                return exit;
            }
            (*state).pc = back & !1;
            if back & 1 == 0 {
                return Exit::BudgetSpent;
            }
            // What comes here is the interpreter's: a call of the environment,
            // or an instruction that could not be finished.
            let core = &mut (*run).tiered.core;
            core.run_rest_of_block(&mut *state, memory, GuestAddr(start))
        }
    }

    /// Interprets what is left of the warm-up; `None` when that is over.
    #[inline]
    fn warm_up(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: &mut u64,
        preempt: &AtomicU32,
    ) -> Option<Exit> {
        let left = self.warm_up_insts.saturating_sub(self.core.insts());
        let slice = left.min(*budget);
        let (exit, unused) = self.interpret(hart, memory, slice, preempt);
        if exit != Exit::BudgetSpent || slice == *budget {
            return Some(exit);
        }
        *budget -= slice - unused;
        self.warm_up_insts = 0;
        self.core.accompany();
        None
    }

    /// Interprets, with no compiled code beside it; also gives what is left of
    /// the budget.
    #[inline]
    fn interpret(
        &mut self,
        hart: &mut Hart,
        memory: &GuestMemory,
        budget: u64,
        preempt: &AtomicU32,
    ) -> (Exit, u64) {
        let mut control = Control {
            budget,
            preempt,
            nested: false,
            depth: 0,
        };
        match self
            .core
            .run(&mut hart.state, memory, &mut control, &mut NoTier)
        {
            Stop::Exit(exit) => (exit, control.budget),
            Stop::Handover | Stop::Returned => unreachable!("no tier, not nested"),
        }
    }

    /// Before compiled code runs: drops what no longer is what memory holds.
    #[inline]
    fn follow(&mut self, memory: &GuestMemory, lent: &CodeCache) {
        let seen = Some((memory.identity(), memory.code_epoch()));
        if self.seen != seen {
            self.seen = seen;
            self.core.revalidate(memory);
        }
        if self.validated != self.core.revalidations() || self.tier.is_unseen {
            self.validate(memory, lent);
        }
    }

    #[cold]
    fn validate(&mut self, memory: &GuestMemory, lent: &CodeCache) {
        self.validated = self.core.revalidations();
        self.tier.is_unseen = false;
        let kept = self.tier.caches.iter().flatten().map(Arc::as_ref);
        let dropped: usize = kept.chain([lent]).map(|c| c.validate(memory)).sum();
        Counts::add(&self.tier.context.counts().invalidated, dropped as u64);
    }
}

/// Fills the engine words.
///
/// # Safety
/// X1, X2.
unsafe fn set_words(run: *mut Run<'_>, state: *mut HartState, budget: u64) {
    // SAFETY: X1: no generated code runs now.
    let (run_ref, state) = unsafe { (&mut *run, &mut *state) };
    let words = &mut state.engine;
    words[abi::SLOTS] = run_ref.cache.arena.slots().expose_provenance() as u64;
    words[abi::PREEMPT] = std::ptr::from_ref(run_ref.preempt).expose_provenance() as u64;
    words[abi::STACK_LIMIT] = u64::MAX; // until something is entered
    words[abi::COLD] = enter::cold as *const () as u64;
    words[abi::STEP] = enter::step as *const () as u64;
    words[abi::RUN] = run.expose_provenance() as u64;
    words[abi::BUDGET] = budget.min(i64::MAX as u64);
    words[abi::FAULT_PC] = 0;
    words[abi::STALE] = 0;
}

/// Runs the guest from `state.pc`. Nested, it ends where the guest function
/// that it began in returns, and gives that address; else it ends with an odd
/// value when an exit is pending or the cache retired.
///
/// # Safety
/// X1, X2.
unsafe fn drive(run: *mut Run<'_>, state: *mut HartState, nested: bool) -> u64 {
    let mut depth = 0;
    let mut declined = None;
    loop {
        // SAFETY: X1: between entries.
        let compiled = unsafe {
            let (run, state) = (&mut *run, &mut *state);
            match declined {
                None if mxcsr_of(0, state.frm).is_some() => run.lookup(state),
                _ => 0,
            }
        };
        let offset = if compiled != 0 {
            compiled
        } else {
            // SAFETY: X1: between entries.
            let (run, state) = unsafe { (&mut *run, &mut *state) };
            if run.cache.is_retired() {
                return state.pc | 1;
            }
            match interpret_until_hot(run, state, nested, &mut depth, declined.take()) {
                Stop::Exit(exit) => {
                    run.pending = Some(exit);
                    return 1;
                }
                Stop::Returned => return state.pc,
                Stop::Handover => {}
            }
            run.tiered.follow(run.memory, run.cache);
            let offset = run.lookup(state);
            if offset == 0 || mxcsr_of(0, state.frm).is_none() {
                continue; // dropped, or made unusable by what was interpreted
            }
            offset
        };
        // SAFETY: X1, X2, X3.
        let mut back = unsafe { enter_code(run, state, offset, !nested) };
        // SAFETY: X1: between entries.
        unsafe {
            if (*run).pending.is_some() {
                return 1;
            }
            (*state).pc = back & !1;
            if back & 1 == 1 {
                catch_up(run, state);
                if (*run).pending.is_some() {
                    return 1;
                }
                back = (*state).pc | 1;
                if nested {
                    return back;
                }
            }
            // Guest recursion without end comes by here and by no other poll.
            // Code that declined instead goes on in the interpreter, which comes
            // to a safepoint of its own: it may have declined its first
            // instruction, and a preempt word that stays raised would keep
            // the guest there for good.
            let at_safepoint = back & 1 == 0 || std::mem::take(&mut (*run).polled);
            if at_safepoint && (*run).preempt.load(Ordering::Relaxed) != 0 {
                if !nested {
                    (*run).pending = Some(Exit::Preempted);
                }
                return back | 1;
            }
            if back & 1 == 1 {
                if is_ecall(&*run, &*state) {
                    (*run).pending = Some(Exit::Ecall);
                    return 1;
                }
                // For the interpreter: it decides what is there.
                declined = Some((*state).pc);
            } else if depth == 0 && nested {
                // The guest function that we began in is done.
                return back;
            } else {
                depth = depth.saturating_sub(1);
            }
        }
    }
}

/// Lets the interpreter run from where compiled code is absent, or has declined.
fn interpret_until_hot(
    run: &mut Run<'_>,
    state: &mut HartState,
    nested: bool,
    depth: &mut u32,
    declined: Option<u64>,
) -> Stop {
    let Tiered { core, tier, .. } = &mut *run.tiered;
    let budget = if run.budget_counts {
        state.engine[abi::BUDGET]
    } else {
        u64::MAX
    };
    let mut control = Control {
        budget,
        preempt: run.preempt,
        nested,
        depth: *depth,
    };
    let mut tier = RunTier {
        state: tier,
        memory: run.memory,
        cache: run.cache,
        declined,
        stack: &mut run.stack,
        enabled: mxcsr_of(0, state.frm).is_some(),
    };
    let stop = core.run(state, run.memory, &mut control, &mut tier);
    *depth = control.depth;
    if run.budget_counts {
        state.engine[abi::BUDGET] = control.budget;
    }
    stop
}

/// Enters the code at `offset` for `state.pc`, and with `goes_on` what guest
/// returns out of it lead to; afterwards flags are in the
/// hart again and a fault is the pending exit.
///
/// # Safety
/// X1, X2, X3; the hart's rounding mode has an MXCSR.
unsafe fn enter_code(run: *mut Run<'_>, state: *mut HartState, offset: u32, goes_on: bool) -> u64 {
    // SAFETY: X1: not entered yet.
    let (code, base, pc, frame) = unsafe {
        let (run, state) = (&*run, &mut *state);
        let mxcsr = mxcsr_of(state.fflags, state.frm).unwrap_or(enter::MXCSR_DEFAULT);
        state.engine[abi::MXCSR] = u64::from(mxcsr);
        RunCounts::one(&run.tiered.tier.counts.entries);
        let base = run.memory.host_base();
        (run.cache.arena.entry(offset), base, state.pc, run.frame)
    };
    // SAFETY: X3 is what E1 asks for; the frame outlives the entry (F2).
    let back = unsafe { fault::with_frame(frame, || enter::enter(code, state, base, pc, goes_on)) };
    // SAFETY: X1: left again.
    unsafe {
        let state = &mut *state;
        state.fflags = fflags_of(state.engine[abi::MXCSR] as u32);
        let fault_pc = std::mem::take(&mut state.engine[abi::FAULT_PC]);
        if fault_pc != 0 {
            let run = &mut *run;
            let pc = run.cache.guest_pc(fault_pc as usize).unwrap_or(state.pc);
            // A read-modify-write may begin with a host load.
            let writes = state.engine[abi::FAULT_WRITE] != 0 || is_amo(run.memory, pc);
            let cause = if writes {
                Cause::StorePageFault
            } else {
                Cause::LoadPageFault
            };
            state.pc = pc;
            run.pending = Some(Exit::Trap(Trap {
                cause,
                tval: state.engine[abi::FAULT_ADDR],
            }));
        }
    }
    back
}

/// Interprets until registers that compiled code had not stored are
/// overwritten. From where it left, every way comes to that before it ends or
/// meets the same instruction again (see `region::Flow`), so it is not long;
/// only a memory fault can come first, and then registers need not be exact.
///
/// # Safety
/// X1, X2.
unsafe fn catch_up(run: *mut Run<'_>, state: *mut HartState) {
    // SAFETY: X1: between entries.
    let (run, state) = unsafe { (&mut *run, &mut *state) };
    let mut stale = std::mem::take(&mut state.engine[abi::STALE]);
    run.polled |= stale & abi::POLLED != 0;
    stale &= ALL_REGS;
    debug_assert!(
        stale == 0 || !run.budget_counts,
        "code that counts stores all registers"
    );
    // Code that changes while it runs, without fence.i, can break the promise.
    let mut left = CATCH_UP_INSTS_MAX;
    while stale != 0 && left > 0 {
        left -= 1;
        let at = run.memory.fetch(GuestAddr(state.pc)).map(decode);
        RunCounts::one(&run.tiered.tier.counts.steps);
        if let Some(exit) = run.tiered.core.step(state, run.memory) {
            run.pending = Some(exit);
            return;
        }
        if let Ok(Ok(decoded)) = at {
            stale &= !writes_of(decoded.inst);
        }
    }
}

/// Whether the hart is at an `ecall` that it has the budget for: the most
/// frequent reason to leave code, and one that needs no interpreter.
#[inline]
fn is_ecall(run: &Run<'_>, state: &HartState) -> bool {
    (!run.budget_counts || state.engine[abi::BUDGET] != 0)
        && run.memory.fetch(GuestAddr(state.pc)) == Ok(Op::Ecall.row().matches)
}

fn is_amo(memory: &GuestMemory, pc: u64) -> bool {
    let decoded = memory
        .fetch(GuestAddr(pc))
        .ok()
        .and_then(|bits| decode(bits).ok());
    decoded.is_some_and(|d| d.inst.op().row().format == FormatKind::Amo)
}

/// Called by generated code that reaches an address without code.
pub(crate) extern "sysv64" fn interpret_from(state: *mut HartState, pc: u64) -> u64 {
    let rsp = stack::here() as u64;
    // SAFETY: X1, X2: generated code waits for this call; the words are those
    // of its run.
    unsafe {
        (*state).pc = pc;
        let run =
            std::ptr::with_exposed_provenance_mut::<Run<'_>>((*state).engine[abi::RUN] as usize);
        if rsp < (*state).engine[abi::STACK_LIMIT] || (*run).cache.is_retired() {
            return pc; // start over with an empty stack, or other code
        }
        (*state).fflags = fflags_of((*state).engine[abi::MXCSR] as u32);
        let before = (*run).tiered.core.revalidations();
        let mut back = drive(run, state, true);
        if (*run).tiered.core.revalidations() != before {
            // Code changed: the compiled callers below may be what changed.
            let run = &mut *run;
            run.tiered.follow(run.memory, run.cache);
            back |= 1;
        }
        match mxcsr_of((*state).fflags, (*state).frm) {
            Some(mxcsr) => (*state).engine[abi::MXCSR] = u64::from(mxcsr),
            // Frames below run with the host's rounding: they must go.
            None => {
                let word = mxcsr_of((*state).fflags, 0).unwrap_or(enter::MXCSR_DEFAULT);
                (*state).engine[abi::MXCSR] = u64::from(word);
                back |= 1;
            }
        }
        back
    }
}

/// Called by generated code for one instruction that it does not contain.
pub(crate) extern "sysv64" fn interpret_one(state: *mut HartState, pc: u64) -> u64 {
    // SAFETY: X1, X2: as above.
    unsafe {
        let run =
            std::ptr::with_exposed_provenance_mut::<Run<'_>>((*state).engine[abi::RUN] as usize);
        let (run, state) = (&mut *run, &mut *state);
        RunCounts::one(&run.tiered.tier.counts.steps);
        state.pc = pc;
        state.fflags = fflags_of(state.engine[abi::MXCSR] as u32);
        if let Some(exit) = run.tiered.core.step(state, run.memory) {
            run.pending = Some(exit);
        }
        match mxcsr_of(state.fflags, state.frm) {
            Some(mxcsr) => state.engine[abi::MXCSR] = u64::from(mxcsr),
            None => {
                // The instruction retired; what follows is the interpreter's.
                let word = mxcsr_of(state.fflags, 0).unwrap_or(enter::MXCSR_DEFAULT);
                state.engine[abi::MXCSR] = u64::from(word);
                return state.pc | 1;
            }
        }
        if run.pending.is_some() {
            state.pc | 1
        } else {
            0
        }
    }
}
