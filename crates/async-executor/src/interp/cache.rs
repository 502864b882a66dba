//! Decoded blocks: records one behind the other, links between them, and the
//! way from a pc to its record.
//!
//! ```text
//!  records  [ addi | lw | bne ][ add | sd | GOTO ]      one per instruction
//!                          |  \__ falls into its successor, decoded in place
//!                          \_link______________________> any block's first
//!  index    page of pc -> table -> first record of the block at pc
//! ```
//!
//! Invariants
//! - **C1** A block's records are followed by the records of the block that
//!   control falls into, or by a [`GOTO`] there; those whose last
//!   instruction never falls through have neither.
//! - **C2** No more than [`STRAIGHT_MAX`] instructions stand between a block's
//!   first record and a record that leaves for another place, whichever way
//!   branches go.
//! - **C3** A link is [`NONE`] or the first record of a block in the index.
//!   Nothing else refers to records, so that dropping a block is: take it out
//!   of the index, put a `GOTO` at its first record, cut all links.
//! - **C4** Records are never moved or reused before [`Cache::clear`].

use std::cell::Cell;

use vm_core::addr::PAGE_BYTES;
use vm_core::isa::format::I;
use vm_core::isa::{Decoded, Inst};
use vm_core::mem::{GuestMemory, Prot, SPACE_BYTES};
use vm_core::{GuestAddr, Trap, XReg};

use super::block::{self, BLOCK_INSTS_MAX, End};
use super::operands::{Operands, Zero, zero_result};
use super::thread::{self, Events, Step};

/// Most instructions executed between two looks at the budget.
pub(super) const STRAIGHT_MAX: usize = BLOCK_INSTS_MAX;

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// Most records before everything is forgotten: 7 MiB in all.
pub(super) const RECORDS_MAX: usize = 1 << 18;

/// An instruction in threaded code: 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) step: Step,
    pub(super) operands: Operands,
}

const _: () = assert!(size_of::<Record>() == 16);

/// A block that stands in the index.
struct Cached {
    pc: u32,
    first: u32,
    /// Its instructions as they were in memory.
    bytes: Box<[u8]>,
}

/// First records by pc.
struct Index {
    /// Table of a page; 0 is the empty one.
    pages: Vec<u32>,
    tables: Vec<Box<[u32; SLOTS]>>,
}

/// Instructions can stand at every second byte of a page.
const SLOTS: usize = (PAGE_BYTES / 2) as usize;

impl Index {
    fn new() -> Index {
        // Zeroed pages of the host cost nothing until they are used.
        let pages = vec![0; (SPACE_BYTES / PAGE_BYTES) as usize];
        Index {
            pages,
            tables: vec![Box::new([NONE; SLOTS])],
        }
    }

    #[inline(always)]
    fn get(&self, pc: u64) -> u32 {
        match self.pages.get((pc / PAGE_BYTES) as usize) {
            Some(&page) => self.tables[page as usize][slot(pc)],
            None => NONE,
        }
    }

    fn set(&mut self, pc: u32, first: u32) {
        let page = &mut self.pages[pc as usize / PAGE_BYTES as usize];
        if *page == 0 {
            *page = self.tables.len() as u32;
            self.tables.push(Box::new([NONE; SLOTS]));
        }
        self.tables[*page as usize][slot(u64::from(pc))] = first;
    }
}

#[inline(always)]
fn slot(pc: u64) -> usize {
    (pc % PAGE_BYTES / 2) as usize
}

/// Records side by side, and in the same places what is wanted of them less
/// often. A fixed size, and a power of two, so that an index can be masked
/// instead of compared: a branch more per instruction, though never taken,
/// takes so much of the branch predictor's history that loops ran half as
/// fast (measured, Zen 4).
pub(super) struct Chunk {
    pub(super) records: [Record; CHUNK_RECORDS],
    /// Addresses; bit 0 is set for a 2-byte form.
    pc_forms: [u32; CHUNK_RECORDS],
    /// Where jumps go, as a first record or [`NONE`].
    links: [Cell<u32>; CHUNK_RECORDS],
    /// Events counted at each first record, for tiering.
    pub(super) heat: [Cell<u32>; CHUNK_RECORDS],
    /// Which chunk it is.
    pub(super) number: usize,
}

/// Records of a chunk: 28 KiB in all.
pub(super) const CHUNK_RECORDS: usize = 1024;

/// A record's chunk and its place there.
#[inline(always)]
pub(super) const fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK_RECORDS, id as usize % CHUNK_RECORDS)
}

impl Chunk {
    pub(super) fn new(number: usize) -> Box<Chunk> {
        // From a constant, it is made where it stays and not on the stack,
        // which may be a small one.
        #[expect(clippy::declare_interior_mutable_const, reason = "a pattern to copy")]
        const EMPTY: Chunk = Chunk {
            records: [const {
                Record {
                    step: thread::goto,
                    operands: Operands::NONE,
                }
            }; CHUNK_RECORDS],
            pc_forms: [0; CHUNK_RECORDS],
            links: [const { Cell::new(NONE) }; CHUNK_RECORDS],
            heat: [const { Cell::new(0) }; CHUNK_RECORDS],
            number: 0,
        };
        let mut chunk = Box::new(EMPTY);
        chunk.number = number;
        chunk
    }

    /// Puts a record, not linked. It stands for `len` bytes at `pc`.
    pub(super) fn put(&mut self, i: usize, record: Record, pc: u32, len: u8) {
        self.records[i] = record;
        self.pc_forms[i] = pc | u32::from(len == 2);
        self.links[i].set(NONE);
        self.heat[i].set(0);
    }

    #[inline(always)]
    pub(super) fn pc(&self, i: usize) -> u64 {
        u64::from(self.pc_forms[i % CHUNK_RECORDS] & !1)
    }

    /// Address behind the instruction.
    #[inline(always)]
    pub(super) fn next(&self, i: usize) -> u64 {
        // 2-byte form: pc_form = pc + 1, and pc + 2 is wanted.
        let pc_form = u64::from(self.pc_forms[i % CHUNK_RECORDS]);
        pc_form + 4 - 3 * (pc_form & 1)
    }

    #[inline(always)]
    pub(super) fn link(&self, i: usize) -> &Cell<u32> {
        &self.links[i % CHUNK_RECORDS]
    }
}

pub(super) struct Cache {
    pub(super) chunks: Vec<Box<Chunk>>,
    /// Records used of the last chunk; as good as full when there is none.
    used: usize,
    blocks: Vec<Cached>,
    index: Index,
    records_max: usize,
    events: Events,
    /// Whether the last record is one that control falls out of.
    ends_in_goto: bool,
    /// Instructions from the start of the last chain of blocks decoded in
    /// place to the end of `records`.
    tail_insts: usize,
    /// Memory of [`Cache::decode`] between calls.
    scratch: Vec<Decoded>,
}

impl Cache {
    pub(super) fn new(records_max: usize, events: Events) -> Cache {
        Cache {
            chunks: Vec::new(),
            used: CHUNK_RECORDS,
            blocks: Vec::new(),
            index: Index::new(),
            records_max,
            events,
            ends_in_goto: false,
            tail_insts: 0,
            scratch: Vec::new(),
        }
    }

    /// First record of the block at `pc`, or [`NONE`].
    #[inline(always)]
    pub(super) fn find(&self, pc: u64) -> u32 {
        self.index.get(pc)
    }

    pub(super) fn clear(&mut self) {
        self.restart(self.events);
    }

    /// Begins anew, with records of that kind.
    pub(super) fn restart(&mut self, events: Events) {
        *self = Cache::new(self.records_max, events);
    }

    /// Links record `from` to the block whose first record is `to`.
    pub(super) fn link(&self, from: u32, to: u32) {
        let (chunk, i) = split(from);
        self.chunks[chunk].link(i).set(to);
    }

    #[inline(always)]
    pub(super) fn heat(&self, id: u32) -> &Cell<u32> {
        let (chunk, i) = split(id);
        &self.chunks[chunk].heat[i]
    }

    /// The record that comes next.
    fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK_RECORDS - CHUNK_RECORDS + self.used) as u32
    }

    /// Decodes the block at `pc`, which is not in the index. `from` is the
    /// record which control came from, if it can be linked; gives the first
    /// record.
    ///
    /// # Errors
    /// The trap of the block's first instruction.
    pub(super) fn decode(
        &mut self,
        memory: &GuestMemory,
        pc: u64,
        from: Option<u32>,
    ) -> Result<u32, Trap> {
        let mut insts = std::mem::take(&mut self.scratch);
        let found = block::discover(memory, GuestAddr(pc), &mut insts);
        let first = found.map(|end| self.place(memory, pc, &insts, end, from));
        self.scratch = insts;
        first
    }

    fn place(
        &mut self,
        memory: &GuestMemory,
        pc: u64,
        insts: &[Decoded],
        end: End,
        mut from: Option<u32>,
    ) -> u32 {
        let needs = insts.len() + 1;
        let mut falls_in = from.is_some_and(|from| {
            !self.chunks.is_empty()
                && from + 1 == self.end()
                && self.ends_in_goto
                && self.tail_insts + insts.len() <= STRAIGHT_MAX // C2
        });
        if self.used + needs > CHUNK_RECORDS + usize::from(falls_in) {
            falls_in = false;
            if (self.chunks.len() + 1) * CHUNK_RECORDS > self.records_max {
                self.clear();
                from = None;
            }
            self.chunks.push(Chunk::new(self.chunks.len()));
            self.used = 0;
        }
        if falls_in {
            self.used -= 1; // C1: over the `Goto`
            self.tail_insts += insts.len();
        } else {
            self.tail_insts = insts.len();
        }

        let first = self.end();
        let mut at = pc as u32; // fetched, so it lies in the 4 GiB
        for (n, &decoded) in insts.iter().enumerate() {
            let record = self.record_of(decoded.inst, insts.get(n + 1).map(|next| next.inst));
            self.push(record, at, decoded.len);
            at += u32::from(decoded.len);
        }
        self.ends_in_goto = end != End::Leaves;
        if self.ends_in_goto {
            self.push(GOTO, at, 4);
        }

        let mut bytes = vec![0; (at - pc as u32) as usize].into_boxed_slice();
        // What can be fetched can be read.
        let read = memory.read_bytes(GuestAddr(pc), &mut bytes);
        debug_assert!(read.is_ok());
        self.blocks.push(Cached {
            pc: pc as u32,
            first,
            bytes,
        });
        self.index.set(pc as u32, first);
        if let Some(from) = from
            && !falls_in
        {
            self.link(from, first);
        }
        first
    }

    /// The record of `inst`, which `next` follows in the same block.
    fn record_of(&self, inst: Inst, next: Option<Inst>) -> Record {
        let inst = without_effect_on_zero(inst);
        let (step, operands) = thread::decoded(inst, self.events);
        let pair =
            next.and_then(|next| thread::pair_of(inst, without_effect_on_zero(next), self.events));
        Record {
            step: pair.unwrap_or(step),
            operands,
        }
    }

    fn push(&mut self, record: Record, pc: u32, len: u8) {
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.put(self.used, record, pc, len);
            self.used += 1;
        }
    }

    /// Drops the blocks that memory no longer holds as they were decoded, or
    /// no longer lets be fetched. Gives their number.
    pub(super) fn revalidate(&mut self, memory: &GuestMemory) -> u64 {
        let mut now = Vec::new();
        let (mut dropped, mut kept) = (Vec::new(), Vec::new());
        for block in self.blocks.drain(..) {
            let start = GuestAddr(u64::from(block.pc));
            now.resize(block.bytes.len(), 0);
            let same = memory.allows(start, block.bytes.len() as u64, Prot::EXEC)
                && memory.read_bytes(start, &mut now).is_ok()
                && *now == *block.bytes;
            if same { &mut kept } else { &mut dropped }.push(block);
        }
        self.blocks = kept;
        if dropped.is_empty() {
            return 0;
        }
        for block in &dropped {
            self.index.set(block.pc, NONE); // C3
            let (chunk, i) = split(block.first);
            self.chunks[chunk].put(i, GOTO, block.pc, 4);
        }
        for chunk in &self.chunks {
            chunk.links.iter().for_each(|link| link.set(NONE));
        }
        self.tail_insts = STRAIGHT_MAX; // what ends the records may be gone
        dropped.len() as u64
    }
}

/// Control goes on at the record's pc; no instruction.
const GOTO: Record = Record {
    step: thread::goto,
    operands: Operands::NONE,
};

/// `inst`, or what does nothing where that is all it does.
fn without_effect_on_zero(inst: Inst) -> Inst {
    match zero_result(inst) {
        Zero::Pure => Inst::Addi(I {
            rd: XReg::Zero,
            rs1: XReg::Zero,
            imm: 0,
        }),
        Zero::No | Zero::Effects => inst,
    }
}
