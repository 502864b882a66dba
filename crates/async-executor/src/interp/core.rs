//! The engine: slices of threaded code, and what happens between them.
//!
//! ```text
//!  run ──> find or decode the block at pc ──> slice (thread): step after step,
//!   ^                                         block after block by links
//!   └── a miss, fence.i, preempt word, budget, a hot block ─────┘
//!   └── less budget than a straight run may take: careful, one by one
//! ```

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::AtomicU32;

use vm_core::addr::PAGE_BYTES;
use vm_core::hart::HartState;
use vm_core::isa::{Decoded, Inst};
use vm_core::mem::GuestMemory;
use vm_core::{GuestAddr, Trap, XReg};

use super::block::{self, BLOCK_INSTS_MAX};
use super::cache::{CHUNK_RECORDS, Cache, Chunk, NONE, RECORDS_MAX, Record, STRAIGHT_MAX, split};
use super::operands::Operands;
use super::thread::{self, At, Events, Pause, Run, SLICE_INSTS, is_raised};
use super::tier::{Control, NoTier, Stop, Tier};
use crate::exit::Exit;
use crate::stats::InterpStats;

/// How many events pass before a tier that said no is asked again.
const ASK_AGAIN_EVENTS: u32 = 32;

/// The reference engine, and the profile of the others.
pub(crate) struct InterpCore {
    cache: Cache,
    /// Instructions decoded by single steps, each with a halt behind it.
    singles: Box<Chunk>,
    single_insts: Box<[Option<Inst>; SINGLES]>,
    /// The memory that all this was decoded from, and its code epoch.
    source: Option<(u64, u64)>,
    stats: InterpStats,
}

/// Places for single steps, by pc.
const SINGLES: usize = CHUNK_RECORDS / 2;

impl fmt::Debug for InterpCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterpCore")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl InterpCore {
    pub(crate) fn new() -> InterpCore {
        InterpCore::with(RECORDS_MAX, Events::Counted)
    }

    /// One that no compiled code stands beside: nothing becomes hot, and runs
    /// are not nested.
    pub(crate) fn alone() -> InterpCore {
        InterpCore::with(RECORDS_MAX, Events::Ignored)
    }

    /// Goes on with compiled code beside it. What was decoded until now does
    /// not count events, and is decoded again.
    pub(crate) fn accompany(&mut self) {
        self.cache.restart(Events::Counted);
    }

    /// With room for that many records; a chunk's at least.
    pub(super) fn with(records_max: usize, events: Events) -> InterpCore {
        assert!(records_max >= CHUNK_RECORDS, "a chunk must fit");
        InterpCore {
            cache: Cache::new(records_max, events),
            singles: Chunk::new(0),
            single_insts: Box::new([None; SINGLES]),
            source: None,
            stats: InterpStats::default(),
        }
    }

    /// Runs from `state.pc`. On return `state.pc` is exact.
    pub(crate) fn run<T: Tier>(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        control: &mut Control<'_>,
        tier: &mut T,
    ) -> Stop {
        self.attach(memory);
        let mut from = None;
        let mut event = true;
        loop {
            if control.budget < STRAIGHT_MAX as u64 {
                return self.careful(state, memory, control);
            }
            let at = match self.block_at(memory, state.pc, from.take()) {
                Ok(at) => at,
                Err(trap) => return Stop::Exit(Exit::Trap(trap)),
            };
            if event {
                let heat = self.cache.heat(at);
                heat.set(heat.get().wrapping_add(1));
                if heat.get() >= tier.threshold() && self.hands_over(at, state.pc, tier) {
                    return Stop::Handover;
                }
                event = false;
            }

            let slice = control.budget.min(SLICE_INSTS);
            let (chunk, i) = split(at);
            let chunk = &self.cache.chunks[chunk];
            let run = Run {
                cache: &self.cache,
                preempt: control.preempt,
                retired_at_end: state.instret.wrapping_add(slice),
                threshold: tier.threshold(),
                nested: control.nested,
                depth: Cell::new(control.depth),
                at: Cell::new(At::new(i, slice)),
                exit: Cell::new(Exit::BudgetSpent),
                record: Cell::new(0),
                event: Cell::new(false),
            };
            let record = &chunk.records[i];
            let pause = (record.step)(state, &run, memory, chunk, At::new(i, slice), record);
            let Run {
                at,
                exit,
                record,
                depth,
                event: by_event,
                ..
            } = run;
            let retired = slice - at.get().left();
            control.budget -= retired;
            control.depth = depth.get();
            self.stats.insts += retired;
            state.instret = state.instret.wrapping_add(retired);
            self.stats.blocks += 1 + at.get().begun();
            match pause {
                Pause::Miss => (from, event) = (Some(record.get()), by_event.get()),
                Pause::Poll if control.budget == 0 => return Stop::Exit(Exit::BudgetSpent),
                Pause::Poll if is_raised(control.preempt) => return Stop::Exit(Exit::Preempted),
                Pause::Poll => {}
                Pause::Refetch => self.revalidate(memory),
                Pause::Hot => {
                    if self.hands_over(record.get(), state.pc, tier) {
                        return Stop::Handover;
                    }
                }
                Pause::Exit => return Stop::Exit(exit.get()),
                Pause::Returned => return Stop::Returned,
            }
        }
    }

    /// The same with no compiled code beside it. [`Exit::BudgetSpent`] leaves
    /// nothing of the budget.
    #[inline]
    pub(crate) fn run_alone(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        budget: u64,
        preempt: &AtomicU32,
    ) -> Exit {
        let mut control = Control {
            budget,
            preempt,
            nested: false,
            depth: 0,
        };
        match self.run(state, memory, &mut control, &mut NoTier) {
            Stop::Exit(exit) => exit,
            Stop::Handover | Stop::Returned => unreachable!("no tier, not nested"),
        }
    }

    /// Runs just the instruction at `state.pc`. `None`: it retired and pc
    /// moved on.
    pub(crate) fn step(&mut self, state: &mut HartState, memory: &GuestMemory) -> Option<Exit> {
        self.attach(memory);
        let single = self.single_at(memory, state.pc);
        single
            .and_then(|single| self.retire(state, memory, single))
            .err()
    }

    /// Runs the block at `state.pc` to its end, as [`block::discover`] has it.
    pub(crate) fn run_block(&mut self, state: &mut HartState, memory: &GuestMemory) -> Exit {
        let start = GuestAddr(state.pc);
        self.run_rest_of_block(state, memory, start)
    }

    /// The same for a block that began at `start` and has been executed, in
    /// whatever way, up to `state.pc`.
    pub(crate) fn run_rest_of_block(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        start: GuestAddr,
    ) -> Exit {
        self.attach(memory);
        for n in insts_between(memory, start, state.pc)..BLOCK_INSTS_MAX {
            let single = match self.single_at(memory, state.pc) {
                Ok(single) => single,
                Err(exit) if n == 0 => return exit,
                Err(_) => break,
            };
            if let Err(exit) = self.retire(state, memory, single) {
                return exit;
            }
            let same_page = state.pc / PAGE_BYTES == start.0 / PAGE_BYTES;
            if block::end_of(single.inst).is_some() || !same_page {
                break;
            }
        }
        Exit::BudgetSpent
    }

    /// Whether a block that starts at `pc` has been executed.
    pub(crate) fn was_executed(&self, pc: u64) -> bool {
        self.cache.find(pc) != NONE
    }

    /// Drops blocks whose bytes or permissions changed.
    pub(crate) fn revalidate(&mut self, memory: &GuestMemory) {
        self.single_insts.fill(None);
        self.stats.revalidations += 1;
        self.stats.blocks_invalidated += self.cache.revalidate(memory);
    }

    /// Forgets everything decoded; the counts stay.
    pub(crate) fn flush(&mut self) {
        self.cache.clear();
        self.single_insts.fill(None);
    }

    pub(crate) fn stats(&self) -> InterpStats {
        self.stats
    }

    /// Instructions retired so far.
    #[inline]
    pub(crate) fn insts(&self) -> u64 {
        self.stats.insts
    }

    /// How often decoded code was held against memory.
    pub(crate) fn revalidations(&self) -> u64 {
        self.stats.revalidations
    }

    /// Makes sure that what is decoded is what `memory` holds.
    #[inline]
    fn attach(&mut self, memory: &GuestMemory) {
        let source = Some((memory.identity(), memory.code_epoch()));
        if self.source != source {
            self.revalidate(memory);
            self.source = source;
        }
    }

    fn block_at(&mut self, memory: &GuestMemory, pc: u64, from: Option<u32>) -> Result<u32, Trap> {
        let at = self.cache.find(pc);
        if at == NONE {
            let at = self.cache.decode(memory, pc, from)?;
            self.stats.blocks_decoded += 1;
            return Ok(at);
        }
        if let Some(from) = from {
            self.cache.link(from, at);
        }
        Ok(at)
    }

    /// Asks the tier about a block that is hot.
    fn hands_over<T: Tier>(&self, at: u32, pc: u64, tier: &mut T) -> bool {
        let hands_over = tier.hot(pc, self);
        if !hands_over {
            let again = match tier.threshold() {
                u32::MAX => 0, // nobody there: not for another 2^32 events
                threshold => threshold.saturating_sub(ASK_AGAIN_EVENTS),
            };
            self.cache.heat(at).set(again);
        }
        hands_over
    }

    /// Runs instruction by instruction, for the last few of a budget.
    #[cold]
    fn careful(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        control: &mut Control<'_>,
    ) -> Stop {
        while control.budget > 0 {
            let single = match self.single_at(memory, state.pc) {
                Ok(single) => single,
                Err(exit) => return Stop::Exit(exit),
            };
            if let Err(exit) = self.retire(state, memory, single) {
                return Stop::Exit(exit);
            }
            control.budget -= 1;
            if !control.follows(single.inst) {
                return Stop::Returned;
            }
            let is_safepoint =
                matches!(block::end_of(single.inst), Some(end) if end != block::End::Runs);
            if is_safepoint && control.budget > 0 && is_raised(control.preempt) {
                return Stop::Exit(Exit::Preempted);
            }
        }
        Stop::Exit(Exit::BudgetSpent)
    }

    fn single_at(&mut self, memory: &GuestMemory, pc: u64) -> Result<Single, Exit> {
        let place = (pc / 2) as usize % SINGLES;
        let i = 2 * place;
        if let Some(inst) = self.single_insts[place]
            && self.singles.pc(i) == pc
        {
            return Ok(Single { i, inst });
        }
        let Decoded { inst, len } = block::fetch(memory, GuestAddr(pc)).map_err(Exit::Trap)?;
        let pc = pc as u32; // fetched, so it lies in the 4 GiB
        let (step, operands) = thread::decoded(inst, Events::Ignored);
        self.singles.put(i, Record { step, operands }, pc, len);
        let halt = Record {
            step: thread::halt,
            operands: Operands::NONE,
        };
        self.singles.put(i + 1, halt, pc + u32::from(len), 4);
        self.single_insts[place] = Some(inst);
        Ok(Single { i, inst })
    }

    /// Executes the instruction at `state.pc` and counts it.
    fn retire(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        single: Single,
    ) -> Result<(), Exit> {
        let i = single.i;
        let run = Run {
            cache: &self.cache,
            preempt: &AtomicU32::new(0),
            retired_at_end: state.instret.wrapping_add(1),
            threshold: u32::MAX,
            nested: false,
            depth: Cell::new(0),
            at: Cell::new(At::new(i, 1)),
            exit: Cell::new(Exit::BudgetSpent),
            record: Cell::new(0),
            event: Cell::new(false),
        };
        let record = &self.singles.records[i];
        let pause = (record.step)(state, &run, memory, &self.singles, At::new(i, 1), record);
        state.x[0] = 0;
        match pause {
            Pause::Exit => return Err(run.exit.get()),
            Pause::Refetch => self.revalidate(memory),
            Pause::Poll | Pause::Miss | Pause::Hot | Pause::Returned => {}
        }
        self.stats.insts += 1;
        state.instret = state.instret.wrapping_add(1);
        Ok(())
    }
}

/// How many instructions a block has between its start and `pc`.
fn insts_between(memory: &GuestMemory, start: GuestAddr, pc: u64) -> usize {
    let (mut at, mut n) = (start, 0);
    while at.0 != pc && n < BLOCK_INSTS_MAX {
        let Ok(decoded) = block::fetch(memory, at) else {
            break;
        };
        at = at.wrapping_offset(i64::from(decoded.len));
        n += 1;
    }
    n
}

/// An instruction ready to be executed on its own.
#[derive(Clone, Copy)]
struct Single {
    /// Its place among the singles.
    i: usize,
    inst: Inst,
}

impl Control<'_> {
    /// Keeps `depth`; `false` for the return that ends a nested run.
    fn follows(&mut self, inst: Inst) -> bool {
        match inst {
            Inst::Jal(a) if a.rd == XReg::Ra => self.depth += 1,
            Inst::Jalr(a) if a.rd == XReg::Ra => self.depth += 1,
            Inst::Jalr(a) if (a.rd, a.rs1, { a.imm }) == (XReg::Zero, XReg::Ra, 0) => {
                if self.depth == 0 && self.nested {
                    return false;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        true
    }
}
