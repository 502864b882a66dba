//! Decoded blocks: records one behind the other, links between them, and the
//! way from a pc to its record.
//!
//! ```text
//!  records  [ addi | lw | bne ][ add | sd | Goto ]      one per instruction
//!                          |  \__ falls into its successor, decoded in place
//!                          \_link______________________> any block's first
//!  index    page of pc -> table -> first record of the block at pc
//! ```
//!
//! Invariants
//! - **C1** A block's records are followed by the records of the block that
//!   control falls into, or by a [`Micro::Goto`] there; those whose last
//!   instruction never falls through have neither.
//! - **C2** No more than [`STRAIGHT_MAX`] instructions stand between a block's
//!   first record and a record that leaves for another place, whichever way
//!   branches go.
//! - **C3** A link is [`NONE`] or the first record of a block in the index.
//!   Nothing else refers to records, so that dropping a block is: take it out
//!   of the index, put a `Goto` at its first record, cut all links.
//! - **C4** Records are never moved or reused before [`Cache::clear`].

use std::cell::Cell;

use vm_core::addr::PAGE_BYTES;
use vm_core::isa::format::I;
use vm_core::isa::{Decoded, Inst};
use vm_core::mem::{GuestMemory, Prot, SPACE_BYTES};
use vm_core::{GuestAddr, Trap, XReg};

use super::exec::Micro;
use super::block::{self, BLOCK_INSTS_MAX, End};

/// Most instructions executed between two looks at the budget.
pub(super) const STRAIGHT_MAX: usize = BLOCK_INSTS_MAX;

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// Most records before everything is forgotten: 5 MiB with their heat.
pub(super) const RECORDS_MAX: usize = 1 << 18;

/// An instruction as the dispatch loop wants it: 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) op: Micro,
    /// Its address; bit 0 is set for a 2-byte form.
    pc_form: u32,
    /// Where its jump goes, as a first record or [`NONE`].
    pub(super) link: Cell<u32>,
}

const _: () = assert!(size_of::<Record>() == 16);

impl Record {
    /// A record of one instruction, not linked.
    pub(super) fn new(op: Micro, pc: u32, len: u8) -> Record {
        Record { op, pc_form: pc | u32::from(len == 2), link: Cell::new(NONE) }
    }

    #[inline(always)]
    pub(super) fn pc(&self) -> u64 {
        u64::from(self.pc_form & !1)
    }

    /// Address behind it.
    #[inline(always)]
    pub(super) fn next(&self) -> u64 {
        // 2-byte form: pc_form = pc + 1, and pc + 2 is wanted.
        u64::from(self.pc_form) + 4 - 3 * u64::from(self.pc_form & 1)
    }
}

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
        Index { pages, tables: vec![Box::new([NONE; SLOTS])] }
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

/// Records side by side. A fixed size, and a power of two, so that the
/// dispatch loop can mask its index instead of comparing it: a branch more per
/// instruction, though never taken, takes so much of the branch predictor's
/// history that loops ran half as fast (measured, Zen 4).
pub(super) struct Chunk {
    pub(super) records: [Record; CHUNK_RECORDS],
    /// Events counted at each first record, for tiering.
    pub(super) heat: [Cell<u32>; CHUNK_RECORDS],
}

/// Records of a chunk: 20 KiB with their heat.
pub(super) const CHUNK_RECORDS: usize = 1024;

/// A record's chunk and its place there.
#[inline(always)]
pub(super) const fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK_RECORDS, id as usize % CHUNK_RECORDS)
}

impl Chunk {
    fn new() -> Chunk {
        Chunk {
            records: std::array::from_fn(|_| Record::new(Micro::Goto, 0, 4)),
            heat: std::array::from_fn(|_| Cell::new(0)),
        }
    }
}

pub(super) struct Cache {
    pub(super) chunks: Vec<Box<Chunk>>,
    /// Records used of the last chunk; as good as full when there is none.
    used: usize,
    pub(super) asides: Vec<Decoded>,
    blocks: Vec<Cached>,
    index: Index,
    records_max: usize,
    /// Instructions from the start of the last chain of blocks decoded in
    /// place to the end of `records`.
    tail_insts: usize,
    /// Memory of [`Cache::decode`] between calls.
    scratch: Vec<Decoded>,
}

impl Cache {
    pub(super) fn new(records_max: usize) -> Cache {
        Cache {
            chunks: Vec::new(),
            used: CHUNK_RECORDS,
            asides: Vec::new(),
            blocks: Vec::new(),
            index: Index::new(),
            records_max,
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
        *self = Cache::new(self.records_max);
    }

    /// Links record `from` to the block whose first record is `to`.
    pub(super) fn link(&self, from: u32, to: u32) {
        self.record(from).link.set(to);
    }

    #[inline(always)]
    fn record(&self, id: u32) -> &Record {
        let (chunk, i) = split(id);
        &self.chunks[chunk].records[i]
    }

    #[inline(always)]
    pub(super) fn get(&self, id: u32) -> Option<&Record> {
        let (chunk, i) = split(id);
        self.chunks.get(chunk).map(|chunk| &chunk.records[i])
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
                && self.record(from).op == Micro::Goto
                && self.tail_insts + insts.len() <= STRAIGHT_MAX // C2
        });
        if self.used + needs > CHUNK_RECORDS + usize::from(falls_in) {
            falls_in = false;
            if (self.chunks.len() + 1) * CHUNK_RECORDS > self.records_max {
                self.clear();
                from = None;
            }
            self.chunks.push(Box::new(Chunk::new()));
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
        for &decoded in insts {
            let record = self.record_of(decoded, at);
            self.push(record);
            at += u32::from(decoded.len);
        }
        if end != End::Leaves {
            self.push(Record::new(Micro::Goto, at, 4));
        }

        let mut bytes = vec![0; (at - pc as u32) as usize].into_boxed_slice();
        // What can be fetched can be read.
        let read = memory.read_bytes(GuestAddr(pc), &mut bytes);
        debug_assert!(read.is_ok());
        self.blocks.push(Cached { pc: pc as u32, first, bytes });
        self.index.set(pc as u32, first);
        if let Some(from) = from
            && !falls_in
        {
            self.link(from, first);
        }
        first
    }

    fn push(&mut self, record: Record) {
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.records[self.used] = record;
            self.used += 1;
        }
    }

    fn record_of(&mut self, decoded: Decoded, pc: u32) -> Record {
        let op = match zero_result(decoded.inst) {
            Zero::No => Micro::from(decoded.inst),
            Zero::Pure => Micro::Addi(I { rd: XReg::Zero, rs1: XReg::Zero, imm: 0 }),
            Zero::Effects => Micro::Aside,
        };
        let record = Record::new(op, pc, decoded.len);
        if op == Micro::Aside {
            record.link.set(self.asides.len() as u32);
            self.asides.push(decoded);
        }
        record
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
            let chunk = &mut self.chunks[chunk];
            chunk.records[i] = Record::new(Micro::Goto, block.pc, 4);
            chunk.heat[i].set(0);
        }
        for record in self.chunks.iter().flat_map(|chunk| &chunk.records) {
            if record.op != Micro::Aside {
                record.link.set(NONE);
            }
        }
        self.tail_insts = STRAIGHT_MAX; // what ends the records may be gone
        dropped.len() as u64
    }
}

/// Whether an instruction's result is thrown away.
enum Zero {
    /// It has none, or it goes elsewhere than to `x0`; or the instruction
    /// repairs `x0` itself.
    No,
    /// It is, and it was all that the instruction does.
    Pure,
    /// It is, but the instruction does more: it can trap, store, raise flags.
    Effects,
}

fn zero_result(inst: Inst) -> Zero {
    let rd_is_zero = inst.encode() >> 7 & 31 == 0;
    match inst.op().row().format {
        "R" | "R1" | "I" | "Sh64" | "Sh32" | "U" if rd_is_zero => Zero::Pure,
        "Load" | "Amo" | "Lr" | "FCmp" | "FToX" | "FToXn" if rd_is_zero => Zero::Effects,
        _ => Zero::No,
    }
}
