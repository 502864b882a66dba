//! Threaded code: each instruction does its work and calls the next one.
//!
//! A record holds the function that executes it. Such a function ends in a
//! call of the next record's function with the same arguments, which optimised
//! builds turn into a jump: there is no loop to return to, each instruction
//! has its own indirect jump for the branch predictor to learn, and the six
//! arguments stay in the same host registers all the way.
//!
//! Invariants
//! - **T1** Depth is bounded even in builds that keep the calls: a slice has
//!   at most [`SLICE_INSTS`] instructions, then everything returns to `core`.
//! - **T2** [`At`] says how many instructions are left of the slice; a record
//!   that is no instruction does not count down.
//! - **T3** Budget and preempt word are looked at where control leaves a
//!   straight run, that is at most [`STRAIGHT_MAX`] instructions apart.

// A loop over a match was the first version. On random straight code it ran at
// 170 to 680 million instructions/s, depending on where the linker put things:
// one indirect jump serves all instructions, and what the predictor keeps of
// its history is mostly jumps back to the loop. (Zen 4, rustc 1.95.)

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use vm_core::XReg;
use vm_core::hart::HartState;
use vm_core::isa::float::{self, F32, F64, fast};
use vm_core::isa::{Inst, Op};
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap};

use super::cache::{CHUNK_RECORDS, Cache, Chunk, Record, STRAIGHT_MAX, split};
use super::exec::{Flow, Machine, immediate, legal};
use super::operands::{Operands, Zero, zero_result};
use super::system::CsrOp;
use super::{atomic, float as fp, int, mem, muldiv, system};
use crate::exit::Exit;

/// Executes the record at a place and everything after it.
pub(super) type Step = fn(&mut HartState, &Run<'_>, &GuestMemory, &Chunk, At, &Record) -> Pause;

/// Most instructions between two returns to `core` (T1). With debug
/// assertions, calls are probably calls.
pub(super) const SLICE_INSTS: u64 = if cfg!(debug_assertions) { 256 } else { 4096 };

/// What a slice has beside registers and memory.
pub(super) struct Run<'r> {
    pub(super) cache: &'r Cache,
    pub(super) preempt: &'r AtomicU32,
    /// What `instret` will read when nothing is left of the slice.
    pub(super) retired_at_end: u64,
    /// Heat at which a block is hot.
    pub(super) threshold: u32,
    pub(super) nested: bool,
    pub(super) depth: Cell<u32>,

    // Why it paused.
    /// Where.
    pub(super) at: Cell<At>,
    pub(super) exit: Cell<Exit>,
    /// `Pause::Miss`: the record to be linked. `Pause::Hot`: the block.
    pub(super) record: Cell<u32>,
    /// `Pause::Miss`: whether control came by an event.
    pub(super) event: Cell<bool>,
}

/// Where a slice is: the place of a record in its chunk, how many straight runs
/// have begun, and how many instructions are left before that record. In one
/// register, and one addition moves place and count on (T2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct At(u64);

impl At {
    // Where its parts begin: the place at bit 0, straight runs begun, and what
    // is left on top, so that comparing needs no mask.
    const BEGUN: u32 = 16;
    const LEFT: u32 = 32;

    #[inline(always)]
    pub(super) const fn new(i: usize, left: u64) -> At {
        At(left << At::LEFT | i as u64)
    }

    /// Its place.
    #[inline(always)]
    pub(super) const fn i(self) -> usize {
        self.0 as usize % CHUNK_RECORDS
    }

    #[inline(always)]
    pub(super) const fn left(self) -> u64 {
        self.0 >> At::LEFT
    }

    /// Behind the instruction.
    #[inline(always)]
    pub(super) const fn next(self) -> At {
        At(self.0.wrapping_add(1).wrapping_sub(1 << At::LEFT))
    }

    /// Elsewhere, in a straight run that begins there.
    #[inline(always)]
    const fn moved(self, i: usize) -> At {
        At((self.0 & !((1 << At::BEGUN) - 1) | i as u64) + (1 << At::BEGUN))
    }

    /// Straight runs begun by moves.
    pub(super) const fn begun(self) -> u64 {
        self.0 >> At::BEGUN & ((1 << (At::LEFT - At::BEGUN)) - 1)
    }
}

/// Why a slice returned. `state.pc` is where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The record `Run::record` is not linked to pc.
    Miss,
    /// A safepoint: the preempt word may be raised, the slice may be over.
    Poll,
    /// `fence.i`.
    Refetch,
    /// For the caller: `Run::exit`.
    Exit,
    /// The block `Run::record` at pc has become hot.
    Hot,
    /// The return that ends a nested run.
    Returned,
}

impl Run<'_> {
    /// Instructions retired before `at`.
    #[inline(always)]
    pub(super) fn retired(&self, at: At) -> u64 {
        self.retired_at_end.wrapping_sub(at.left())
    }

    #[inline(always)]
    fn pause(&self, state: &mut HartState, pc: u64, at: At, why: Pause) -> Pause {
        state.pc = pc;
        self.at.set(at);
        why
    }

    fn enters_call(&self) {
        self.depth.set(self.depth.get().wrapping_add(1));
    }
}

/// The meaning of one instruction, as a type so that code is made for each.
pub(super) trait Meaning {
    fn execute<const SLOW: bool>(m: &mut Machine<'_, '_, SLOW>, a: &Operands) -> Flow;
}

macro_rules! types {
    ($m:ident $a:ident: $($Variant:ident($Format:ident) => $meaning:expr;)*) => {
        mod ops {
            $(pub(super) struct $Variant;)*
        }

        $(impl Meaning for ops::$Variant {
            #[inline(always)]
            #[allow(unused_variables, reason = "some have no operands or no effect")]
            fn execute<const SLOW: bool>($m: &mut Machine<'_, '_, SLOW>, $a: &Operands) -> Flow {
                $meaning
            }
        })*

        /// An instruction as a record has it.
        pub(super) fn decoded(inst: Inst, events: Events) -> (Step, Operands) {
            match inst {
                $(Inst::$Variant(a) => (pick::<ops::$Variant>(inst, events), Operands::from(a)),)*
            }
        }
    };
}
super::exec::meanings!(types);

/// The step of an instruction on its own.
fn pick<O: Meaning>(inst: Inst, events: Events) -> Step {
    let event = is_event(inst, events);
    match inst {
        Inst::Jal(a) if a.rd == XReg::Zero && event => jump::<true>,
        Inst::Jal(a) if a.rd == XReg::Zero => jump::<false>,
        Inst::Jalr(a) if a.rd == XReg::Zero && a.rs1 == XReg::Ra && { a.imm } == 0 && event => ret,
        _ if event => step::<O, true, false>,
        _ if zero_result(inst) == Zero::Effects => step::<O, false, true>,
        _ => step::<O, false, false>,
    }
}

/// Whether anybody wants to know what becomes hot, and how deep calls are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    Counted,
    Ignored,
}

/// Whether going where it goes counts towards compilation.
fn is_event(inst: Inst, events: Events) -> bool {
    match inst {
        _ if events == Events::Ignored => false,
        Inst::Beq(a)
        | Inst::Bne(a)
        | Inst::Blt(a)
        | Inst::Bge(a)
        | Inst::Bltu(a)
        | Inst::Bgeu(a) => a.imm <= 0,
        Inst::Jal(a) => a.imm <= 0 || a.rd == XReg::Ra,
        Inst::Jalr(_) => true,
        _ => false,
    }
}

/// One step for two neighbours of a block, where that is worth its code.
pub(super) fn pair_of(first: Inst, second: Inst, events: Events) -> Option<Step> {
    let repairs_zero = |inst| zero_result(inst) == Zero::Effects;
    if repairs_zero(first) || repairs_zero(second) {
        return None;
    }
    pairs(first, second, is_event(second, events))
}

macro_rules! pairs {
    (first: $($A:ident)*; second: $seconds:tt;) => {
        fn pairs(first: Inst, second: Inst, event: bool) -> Option<Step> {
            match first.op() {
                $(Op::$A => pairs!(@second $A second event $seconds),)*
                _ => None,
            }
        }
    };
    (@second $A:ident $second:ident $event:ident [$($B:ident)*; $($C:ident)*]) => {
        match $second.op() {
            $(Op::$B => Some(pair::<ops::$A, ops::$B, false> as Step),)*
            $(Op::$C if $event => Some(pair::<ops::$A, ops::$C, true> as Step),
            Op::$C => Some(pair::<ops::$A, ops::$C, false> as Step),)*
            _ => None,
        }
    };
}
// What straight code is made of: more than half of what our guests execute.
// Worth 10 % of their speed, and 150 KB of code of which each uses little.
#[rustfmt::skip] // three short lists
pairs! {
    first: Addi Add Addiw Addw Sub Mul Slli Srli Slliw Srliw Andi Xor Or And Ld Lw Lbu Sd Sw Sb Fld Flw;
    second: [
        Addi Add Addiw Addw Sub Mul Slli Srli Slliw Srliw Andi Xor Or And Ld Lw Lbu Sd Sw Sb Fld Flw Fsd Fsw;
        Beq Bne Blt Bge Bltu Bgeu Jal
    ];
}

fn step<O: Meaning, const EVENT: bool, const ZERO: bool>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    record: &Record,
) -> Pause {
    let mut machine = Machine::<false> {
        state,
        run,
        memory,
        chunk,
        at,
    };
    let flow = O::execute(&mut machine, &record.operands);
    if flow == Flow::Slow {
        return slow_step::<O>(state, run, memory, chunk, at, record);
    }
    if ZERO {
        state.x[0] = 0;
    }
    follow::<EVENT>(flow, state, run, memory, chunk, at, record)
}

/// A step that may call.
#[cold]
#[inline(never)]
fn slow_step<O: Meaning>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    record: &Record,
) -> Pause {
    let mut machine = Machine::<true> {
        state,
        run,
        memory,
        chunk,
        at,
    };
    let flow = O::execute(&mut machine, &record.operands);
    state.x[0] = 0;
    follow::<false>(flow, state, run, memory, chunk, at, record)
}

fn pair<A: Meaning, B: Meaning, const EVENT: bool>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    record: &Record,
) -> Pause {
    let mut machine = Machine::<false> {
        state: &mut *state,
        run,
        memory,
        chunk,
        at,
    };
    match A::execute(&mut machine, &record.operands) {
        Flow::Next => {}
        Flow::Slow => return slow_step::<A>(state, run, memory, chunk, at, record),
        flow => return follow::<false>(flow, state, run, memory, chunk, at, record),
    }
    let at = at.next();
    let record = &chunk.records[at.i()];
    let mut machine = Machine::<false> {
        state: &mut *state,
        run,
        memory,
        chunk,
        at,
    };
    match B::execute(&mut machine, &record.operands) {
        Flow::Slow => slow_step::<B>(state, run, memory, chunk, at, record),
        flow => follow::<EVENT>(flow, state, run, memory, chunk, at, record),
    }
}

#[inline(always)]
fn follow<const EVENT: bool>(
    flow: Flow,
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    record: &Record,
) -> Pause {
    match flow {
        Flow::Next => {
            let at = at.next();
            let next = &chunk.records[at.i()];
            (next.step)(state, run, memory, chunk, at, next)
        }
        Flow::Branch(target) => {
            let link = chunk.link(at.i()).get();
            go::<EVENT>(state, run, memory, chunk, at, at.next(), target, link)
        }
        Flow::Jump(target) => {
            if EVENT && record.operands.rd == XReg::Ra {
                run.enters_call();
            }
            let link = chunk.link(at.i()).get();
            go::<EVENT>(state, run, memory, chunk, at, at.next(), target, link)
        }
        Flow::Indirect(target) => {
            if EVENT && record.operands.rd == XReg::Ra {
                run.enters_call();
            }
            indirect::<EVENT>(state, run, memory, chunk, at, target)
        }
        Flow::Refetch => run.pause(state, chunk.next(at.i()), at.next(), Pause::Refetch),
        Flow::Leave => run.pause(state, chunk.pc(at.i()), at, Pause::Exit),
        Flow::Illegal => illegal(state, run, memory, chunk, at),
        Flow::Slow => unreachable!("steps repeat it slowly"),
    }
}

#[cold]
#[inline(never)]
fn illegal(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
) -> Pause {
    let pc = chunk.pc(at.i());
    let bits = memory.fetch(GuestAddr(pc)).unwrap_or_default();
    let trap = Trap {
        cause: Cause::IllegalInstruction,
        tval: u64::from(bits),
    };
    run.exit.set(Exit::Trap(trap));
    run.pause(state, pc, at, Pause::Exit)
}

/// `jal` without a link.
fn jump<const EVENT: bool>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    record: &Record,
) -> Pause {
    let target = chunk
        .pc(at.i())
        .wrapping_add(i64::from(record.operands.imm).cast_unsigned());
    let link = chunk.link(at.i()).get();
    go::<EVENT>(state, run, memory, chunk, at, at.next(), target, link)
}

/// `jalr zero, 0(ra)`, where depth is kept.
fn ret(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    _: &Record,
) -> Pause {
    let target = state.x[XReg::Ra.index()] & !1;
    let depth = run.depth.get();
    if depth == 0 && run.nested {
        return run.pause(state, target, at.next(), Pause::Returned);
    }
    run.depth.set(depth.saturating_sub(1));
    indirect::<true>(state, run, memory, chunk, at, target)
}

/// Goes on at the record's own pc: no instruction, but what stands behind a
/// block whose successor stands elsewhere or is not decoded yet.
pub(super) fn goto(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    _: &Record,
) -> Pause {
    let link = chunk.link(at.i()).get();
    go::<false>(state, run, memory, chunk, at, at, chunk.pc(at.i()), link)
}

/// Stops at the record's own pc; stands behind a single instruction.
pub(super) fn halt(
    state: &mut HartState,
    run: &Run<'_>,
    _: &GuestMemory,
    chunk: &Chunk,
    at: At,
    _: &Record,
) -> Pause {
    run.pause(state, chunk.pc(at.i()), at, Pause::Poll)
}

/// Goes to `target`, most probably where it went last time.
#[inline(always)]
fn indirect<const EVENT: bool>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    at: At,
    target: u64,
) -> Pause {
    let link = chunk.link(at.i());
    let (c, j) = split(link.get());
    match run.cache.chunks.get(c) {
        Some(last) if last.pc(j) == target => {}
        _ => link.set(run.cache.find(target)),
    }
    go::<EVENT>(state, run, memory, chunk, at, at.next(), target, link.get())
}

/// Ends a straight run at `end` and begins the next one at `target`, whose
/// first record is `link`.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "the arguments of a step, and where to"
)]
fn go<const EVENT: bool>(
    state: &mut HartState,
    run: &Run<'_>,
    memory: &GuestMemory,
    chunk: &Chunk,
    from: At,
    end: At,
    target: u64,
    link: u32,
) -> Pause {
    if end.left() < STRAIGHT_MAX as u64 || is_raised(run.preempt) {
        return run.pause(state, target, end, Pause::Poll);
    }
    let (c, j) = split(link);
    // Mostly the same chunk: then the next record does not wait for the
    // chunk's address.
    let next = if c == chunk.number {
        chunk
    } else {
        let Some(next) = run.cache.chunks.get(c) else {
            run.record
                .set((chunk.number * CHUNK_RECORDS + from.i()) as u32);
            run.event.set(EVENT);
            return run.pause(state, target, end, Pause::Miss);
        };
        next
    };
    if EVENT {
        let heat = &next.heat[j];
        heat.set(heat.get().wrapping_add(1));
        if heat.get() >= run.threshold {
            run.record.set(link);
            return run.pause(state, target, end, Pause::Hot);
        }
    }
    let record = &next.records[j];
    (record.step)(state, run, memory, next, end.moved(j), record)
}

#[inline(always)]
pub(super) fn is_raised(preempt: &AtomicU32) -> bool {
    preempt.load(Ordering::Relaxed) != 0
}
