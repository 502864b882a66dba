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
//!   control falls into, or by a [`Op::Goto`] there; those whose last
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

use super::block::{self, BLOCK_INSTS_MAX, End};

/// Most instructions executed between two looks at the budget.
pub(super) const STRAIGHT_MAX: usize = BLOCK_INSTS_MAX;

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// Most records before everything is forgotten: 6 MiB with their heat.
pub(super) const RECORDS_MAX: usize = 1 << 18;

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// An instruction that leaves `x0` at 0.
    Inst(Inst),
    /// Control goes on at the record's pc; counts as no instruction.
    Goto,
    /// An instruction whose result goes to `x0` but which must be executed
    /// all the same: `link` is its place among [`Cache::asides`].
    Aside,
}

/// An instruction as the dispatch loop wants it: 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) op: Op,
    /// Its address; bit 0 is set for a 2-byte form.
    pc_form: u32,
    /// Where its jump goes, as a first record or [`NONE`].
    pub(super) link: Cell<u32>,
}

const _: () = assert!(size_of::<Record>() == 16);

impl Record {
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

pub(super) struct Cache {
    pub(super) records: Vec<Record>,
    /// Events counted at each first record, for tiering.
    pub(super) heat: Vec<Cell<u32>>,
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
            records: Vec::new(),
            heat: Vec::new(),
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
        self.records[from as usize].link.set(to);
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
        if self.records.len() + insts.len() + 1 > self.records_max {
            self.clear();
            from = None;
        }
        let falls_in = from.is_some_and(|from| {
            from as usize + 1 == self.records.len()
                && self.records[from as usize].op == Op::Goto
                && self.tail_insts + insts.len() <= STRAIGHT_MAX // C2
        });
        if falls_in {
            self.records.pop(); // C1
            self.tail_insts += insts.len();
        } else {
            self.tail_insts = insts.len();
        }

        let first = self.records.len() as u32;
        let mut at = pc as u32; // fetched, so it lies in the 4 GiB
        for &decoded in insts {
            self.push(decoded, at);
            at += u32::from(decoded.len);
        }
        if end != End::Leaves {
            self.records.push(Record { op: Op::Goto, pc_form: at, link: Cell::new(NONE) });
        }
        self.heat.resize(self.records.len(), Cell::new(0));

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

    fn push(&mut self, decoded: Decoded, pc: u32) {
        let mut link = NONE;
        let op = match zero_result(decoded.inst) {
            Zero::No => Op::Inst(decoded.inst),
            Zero::Pure => {
                Op::Inst(Inst::Addi(I { rd: XReg::Zero, rs1: XReg::Zero, imm: 0 }))
            }
            Zero::Effects => {
                link = self.asides.len() as u32;
                self.asides.push(decoded);
                Op::Aside
            }
        };
        let pc_form = pc | u32::from(decoded.len == 2);
        self.records.push(Record { op, pc_form, link: Cell::new(link) });
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
            let first = &mut self.records[block.first as usize];
            *first = Record { op: Op::Goto, pc_form: block.pc, link: Cell::new(NONE) };
            self.heat[block.first as usize].set(0);
        }
        for record in &self.records {
            if record.op != Op::Aside {
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
