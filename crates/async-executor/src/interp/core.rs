//! The engine: runs from record to record until something stops it.
//!
//! ```text
//!  run ──> find or decode the block at pc ──> chase: record after record,
//!   ^                                          block after block by links
//!   └── a miss, fence.i, preempt word, budget ─────┘
//!   └── fewer instructions left than a straight run may take: careful, one by one
//! ```
//!
//! Counting and polling cost nothing inside a straight run: its length is
//! known from where it began, and the budget is compared when it ends.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_core::addr::PAGE_BYTES;
use vm_core::hart::HartState;
use vm_core::isa::format::{J, Jalr};
use vm_core::isa::{Decoded, Inst};
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap, XReg};

use super::cache::{CHUNK_RECORDS, Cache, NONE, RECORDS_MAX, Record, STRAIGHT_MAX, split};
use super::exec::{Flow, Machine, Micro};
use super::tier::{Control, Stop, Tier};
use super::block::{self, BLOCK_INSTS_MAX};
use crate::exit::Exit;
use crate::stats::InterpStats;

/// How many events pass before a tier that said no is asked again.
const ASK_AGAIN_EVENTS: u32 = 32;

/// Entries of the decode cache of [`InterpCore::step`].
const STEP_ENTRIES: usize = 256;

/// The reference engine, and the profile of the others.
pub(crate) struct InterpCore {
    cache: Cache,
    /// Instructions decoded by single steps, by pc.
    steps: Box<[Step; STEP_ENTRIES]>,
    /// The memory that `cache` was decoded from, and its code epoch.
    source: Option<(u64, u64)>,
    stats: InterpStats,
}

#[derive(Clone, Copy)]
struct Step {
    pc: u64,
    decoded: Decoded,
}

/// Why [`InterpCore::chase`] came back.
enum Leave {
    /// `state.pc` has no record, or record `from` no link to it yet.
    Miss { from: Option<u32>, event: bool },
    /// At a safepoint, the preempt word was not zero or little budget is left.
    Poll,
    /// `fence.i`; `state.pc` is behind it.
    Refetch,
    Stop(Stop),
}

impl fmt::Debug for InterpCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterpCore").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl InterpCore {
    pub(crate) fn new() -> InterpCore {
        InterpCore::with_records_max(RECORDS_MAX)
    }

    /// With room for that many records; a chunk's at least.
    pub(crate) fn with_records_max(records_max: usize) -> InterpCore {
        assert!(records_max >= CHUNK_RECORDS, "a chunk must fit");
        let nothing = Step { pc: u64::MAX, decoded: NOP };
        InterpCore {
            cache: Cache::new(records_max),
            steps: Box::new([nothing; STEP_ENTRIES]),
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
                return self.careful(state, memory, control, T::ENABLED);
            }
            let at = match self.block_at(memory, state.pc, from.take()) {
                Ok(at) => at,
                Err(trap) => return Stop::Exit(Exit::Trap(trap)),
            };
            if T::ENABLED && event && self.is_hot(at, state.pc, tier) {
                return Stop::Handover;
            }
            event = false;
            let budget = control.budget;
            let left = self.chase(at, state, memory, control, tier);
            self.stats.insts += budget - control.budget;
            match left {
                Leave::Miss { from: f, event: e } => (from, event) = (f, e),
                Leave::Poll if control.budget == 0 => return Stop::Exit(Exit::BudgetSpent),
                Leave::Poll if is_raised(control.preempt) => return Stop::Exit(Exit::Preempted),
                Leave::Poll => {}
                Leave::Refetch => self.revalidate(memory),
                Leave::Stop(stop) => return stop,
            }
        }
    }

    /// Runs just the instruction at `state.pc`. `None`: it retired and pc
    /// moved on.
    pub(crate) fn step(&mut self, state: &mut HartState, memory: &GuestMemory) -> Option<Exit> {
        self.attach(memory);
        self.step_attached(state, memory).err()
    }

    /// Runs the block at `state.pc` to its end, as [`block::discover`] has it.
    pub(crate) fn run_block(&mut self, state: &mut HartState, memory: &GuestMemory) -> Exit {
        self.attach(memory);
        let page = state.pc / PAGE_BYTES;
        for n in 0..BLOCK_INSTS_MAX {
            let decoded = match self.decoded_at(memory, state.pc) {
                Ok(decoded) => decoded,
                Err(trap) if n == 0 => return Exit::Trap(trap),
                Err(_) => break,
            };
            if let Err(exit) = self.retire(state, memory, decoded) {
                return exit;
            }
            if block::end_of(decoded.inst).is_some() || state.pc / PAGE_BYTES != page {
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
        self.steps.fill(Step { pc: u64::MAX, decoded: NOP });
        self.stats.revalidations += 1;
        self.stats.blocks_invalidated += self.cache.revalidate(memory);
    }

    /// Forgets everything decoded; the counts stay.
    pub(crate) fn flush(&mut self) {
        self.cache.clear();
        self.steps.fill(Step { pc: u64::MAX, decoded: NOP });
    }

    pub(crate) fn stats(&self) -> InterpStats {
        self.stats
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

    fn block_at(
        &mut self,
        memory: &GuestMemory,
        pc: u64,
        from: Option<u32>,
    ) -> Result<u32, Trap> {
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

    /// Counts an event at the block with first record `at`; whether it is
    /// handed over.
    #[inline(always)]
    fn is_hot<T: Tier>(&self, at: u32, pc: u64, tier: &mut T) -> bool {
        let heat = self.cache.heat(at);
        heat.set(heat.get().saturating_add(1));
        heat.get() >= tier.threshold() && self.ask(at, pc, tier)
    }

    #[cold]
    fn ask<T: Tier>(&self, at: u32, pc: u64, tier: &mut T) -> bool {
        let hands_over = tier.hot(pc, self);
        if !hands_over {
            let again = tier.threshold().saturating_sub(ASK_AGAIN_EVENTS);
            self.cache.heat(at).set(again);
        }
        hands_over
    }

    /// The dispatch loop. On return `control.budget` and `state.pc` are exact.
    // A sketch of its costs: per instruction one load of the tag, one indirect
    // jump, loads of operand numbers and registers, one store: 8 to 12 host
    // instructions; per taken jump some 15 more.
    #[inline(never)]
    fn chase<T: Tier>(
        &self,
        at: u32,
        state: &mut HartState,
        memory: &GuestMemory,
        control: &mut Control<'_>,
        tier: &mut T,
    ) -> Leave {
        let chunks = self.cache.chunks.as_slice();
        let preempt = control.preempt;
        let mut left = control.budget;
        // What `instret` reads when nothing more has been run than before.
        let retired_before = self.stats.insts.wrapping_add(left);

        // The next record, and the one where this straight run began: their
        // distance is what it has executed. `i` never leaves the chunk (C1);
        // the mask says so to the compiler.
        let mut here = at;
        let mut chunk = &chunks[split(here).0];
        let mut i = split(here).1;
        let mut begun = i;

        /// Leaves at once; `$n` instructions of this straight run retired.
        macro_rules! leave {
            ($pc:expr, $n:expr, $leave:expr) => {{
                state.pc = $pc;
                control.budget = left - $n as u64;
                return $leave;
            }};
        }
        /// The straight run is over after `$n` instructions; the next one
        /// begins at `$target`, whose first record `$link` says.
        macro_rules! go {
            ($target:expr, $n:expr, $event:expr, $link:expr) => {{
                left -= $n as u64;
                if left < STRAIGHT_MAX as u64 || is_raised(preempt) {
                    leave!($target, 0, Leave::Poll);
                }
                let link: u32 = $link;
                let Some(next) = chunks.get(split(link).0) else {
                    let from = here + (i - 1 - begun) as u32;
                    leave!($target, 0, Leave::Miss { from: Some(from), event: $event });
                };
                if T::ENABLED && $event && self.is_hot(link, $target, tier) {
                    leave!($target, 0, Leave::Stop(Stop::Handover));
                }
                here = link;
                chunk = next;
                i = split(link).1;
                begun = i;
            }};
        }

        loop {
            let record = &chunk.records[i % CHUNK_RECORDS];
            i += 1;
            let mut machine = Machine {
                state: &mut *state,
                memory,
                record,
                retired: || retired_before.wrapping_sub(left).wrapping_add((i - begun) as u64 - 1),
                target: 0,
                exit: Exit::BudgetSpent,
            };
            let flow = machine.execute();
            let (target, exit) = (machine.target, machine.exit);
            match flow {
                Flow::Next => {}
                Flow::Branch => {
                    let event = target <= record.pc();
                    go!(target, i - begun, event, record.link.get());
                }
                Flow::Goto => {
                    go!(record.pc(), i - begun - 1, false, record.link.get());
                }
                Flow::Jump => {
                    let is_call = T::ENABLED
                        && matches!(&record.op, Micro::Jal(a) if control.calls(a));
                    let event = is_call || target <= record.pc();
                    go!(target, i - begun, event, record.link.get());
                }
                Flow::Indirect => {
                    if T::ENABLED
                        && let Micro::Jalr(a) = &record.op
                        && !control.passes(a)
                    {
                        leave!(target, i - begun, Leave::Stop(Stop::Returned));
                    }
                    go!(target, i - begun, true, {
                        // Most indirect jumps go where they went last.
                        let last = record.link.get();
                        match self.cache.get(last) {
                            Some(first) if first.pc() == target => last,
                            _ => {
                                let at = self.cache.find(target);
                                record.link.set(at);
                                at
                            }
                        }
                    });
                }
                Flow::Aside => {
                    let retired = retired_before.wrapping_sub(left).wrapping_add((i - begun) as u64 - 1);
                    let decoded = self.cache.asides[record.link.get() as usize];
                    let pc = record.pc();
                    if let Err(exit) = one(state, memory, decoded, pc, retired) {
                        leave!(pc, i - begun - 1, Leave::Stop(Stop::Exit(exit)));
                    }
                }
                Flow::Refetch => leave!(record.next(), i - begun, Leave::Refetch),
                Flow::Leave => {
                    let stop = Leave::Stop(Stop::Exit(exit));
                    leave!(record.pc(), i - begun - 1, stop)
                }
                Flow::Illegal => {
                    let stop = Leave::Stop(Stop::Exit(illegal(record.op)));
                    leave!(record.pc(), i - begun - 1, stop)
                }
            }
        }
    }

    /// Runs instruction by instruction, for the last few of a budget.
    #[cold]
    fn careful(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        control: &mut Control<'_>,
        tiering: bool,
    ) -> Stop {
        while control.budget > 0 {
            let (flow, inst) = match self.step_attached(state, memory) {
                Ok(done) => done,
                Err(exit) => return Stop::Exit(exit),
            };
            control.budget -= 1;
            let safepoint = match flow {
                Flow::Branch => true,
                Flow::Jump => {
                    if let Inst::Jal(a) = inst
                        && tiering
                    {
                        control.calls(&a);
                    }
                    true
                }
                Flow::Indirect => {
                    if let Inst::Jalr(a) = inst
                        && tiering
                        && !control.passes(&a)
                    {
                        return Stop::Returned;
                    }
                    true
                }
                _ => false,
            };
            if safepoint && control.budget > 0 && is_raised(control.preempt) {
                return Stop::Exit(Exit::Preempted);
            }
        }
        Stop::Exit(Exit::BudgetSpent)
    }

    fn step_attached(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
    ) -> Result<(Flow, Inst), Exit> {
        let decoded = self.decoded_at(memory, state.pc).map_err(Exit::Trap)?;
        let flow = self.retire(state, memory, decoded)?;
        Ok((flow, decoded.inst))
    }

    fn decoded_at(&mut self, memory: &GuestMemory, pc: u64) -> Result<Decoded, Trap> {
        let entry = &mut self.steps[(pc / 2) as usize % STEP_ENTRIES];
        if entry.pc != pc {
            let decoded = block::fetch(memory, GuestAddr(pc))?;
            *entry = Step { pc, decoded };
        }
        Ok(entry.decoded)
    }

    /// Executes the instruction at `state.pc` and counts it.
    fn retire(
        &mut self,
        state: &mut HartState,
        memory: &GuestMemory,
        decoded: Decoded,
    ) -> Result<Flow, Exit> {
        let flow = one(state, memory, decoded, state.pc, self.stats.insts)?;
        if flow == Flow::Refetch {
            self.revalidate(memory);
        }
        self.stats.insts += 1;
        Ok(flow)
    }
}

const NOP: Decoded = Decoded {
    inst: Inst::Addi(vm_core::isa::format::I { rd: XReg::Zero, rs1: XReg::Zero, imm: 0 }),
    len: 4,
};

/// Executes one instruction out of the dispatch loop. Moves pc when it retires.
#[inline(never)]
fn one(
    state: &mut HartState,
    memory: &GuestMemory,
    decoded: Decoded,
    pc: u64,
    retired: u64,
) -> Result<Flow, Exit> {
    let record = Record::new(Micro::from(decoded.inst), pc as u32, decoded.len);
    let mut machine = Machine {
        state: &mut *state,
        memory,
        record: &record,
        retired: || retired,
        target: 0,
        exit: Exit::BudgetSpent,
    };
    let flow = machine.execute();
    let (target, exit) = (machine.target, machine.exit);
    state.x[0] = 0;
    state.pc = match flow {
        Flow::Next | Flow::Refetch => record.next(),
        Flow::Branch | Flow::Jump | Flow::Indirect => target,
        Flow::Leave => return Err(exit),
        Flow::Illegal => return Err(illegal(record.op)),
        Flow::Goto | Flow::Aside => unreachable!("no instruction becomes one"),
    };
    Ok(flow)
}

/// Only instructions that have no compressed form can become illegal after
/// they were decoded, so that encoding gives the very bits.
#[cold]
fn illegal(op: Micro) -> Exit {
    let bits = op.inst().map_or(0, Inst::encode);
    Exit::Trap(Trap { cause: Cause::IllegalInstruction, tval: u64::from(bits) })
}

#[inline(always)]
fn is_raised(preempt: &AtomicU32) -> bool {
    preempt.load(Ordering::Relaxed) != 0
}

impl Control<'_> {
    /// Keeps `depth` over a `jal`; whether it is a call.
    #[inline(always)]
    fn calls(&mut self, a: &J) -> bool {
        let is_call = a.rd == XReg::Ra;
        self.depth += u32::from(is_call);
        is_call
    }

    /// Keeps `depth` over a `jalr`; `false`: it is the return that ends a
    /// nested run.
    #[inline(always)]
    fn passes(&mut self, a: &Jalr) -> bool {
        if a.rd == XReg::Ra {
            self.depth += 1;
        } else if a.rd == XReg::Zero && a.rs1 == XReg::Ra && { a.imm } == 0 {
            if self.depth == 0 && self.nested {
                return false;
            }
            self.depth = self.depth.saturating_sub(1);
        }
        true
    }
}
