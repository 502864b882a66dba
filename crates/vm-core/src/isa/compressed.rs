//! The 16-bit forms: `u16 → Inst` and back, from one table.
//!
//! A row of [`COMPRESSED`] says where each operand of the 32-bit instruction
//! lies in the half word. [`expand`] gathers them along the row; [`compress`]
//! scatters them along each row in turn and keeps the first half word that
//! expands to the instruction again, so the two cannot disagree. A new row
//! needs no code.
//!
//! Encodings: The RISC-V Instruction Set Manual, Volume I, "C" Extension,
//! "RVC Instruction Set Listings". HINTs expand to the instruction without
//! effect that they abbreviate; reserved encodings expand to nothing.

use super::format;
use super::inst::{Inst, Op};

/// A 16-bit form: the instruction it stands for and where its operands lie.
#[derive(Clone, Copy, Debug)]
pub struct CompressedRow {
    /// Its name in assembly.
    pub mnemonic: &'static str,
    /// Bits that a half word of this form has where `mask` is set.
    pub matches: u16,
    /// Bits that tell this form from others; the first row that matches wins.
    pub mask: u16,
    /// The instruction it expands to.
    pub op: Op,
    /// Operands in assembly, by name: `rd`, `rs1`, `rs2`, `imm`.
    pub syntax: &'static str,
    pub(super) rd: Slot,
    pub(super) rs1: Slot,
    pub(super) rs2: Slot,
    pub(super) imm: Imm,
    reserved: Reserved,
}

/// Where a register number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The instruction has no such operand.
    No,
    /// Always this register.
    Is(u16),
    /// Five bits from this bit up.
    Full(u16),
    /// Three bits from this bit up: registers 8 to 15.
    Short(u16),
}

/// Where the bits of an immediate lie and where the 32-bit word has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Imm {
    /// Lowest bit in the half word, lowest bit in the immediate, bits.
    pieces: &'static [(u16, u16, u16)],
    /// Highest bit of the immediate, if it is sign-extended.
    sign: Option<u32>,
    /// From and to the 32-bit word.
    extract: fn(u32) -> i32,
    insert: fn(i32) -> u32,
}

/// What a form reserves beyond its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserved {
    Nothing,
    ImmZero,
    RdZero,
    Rs1Zero,
}

impl Slot {
    const fn get(self, half: u16) -> u32 {
        (match self {
            Slot::No => 0,
            Slot::Is(number) => number,
            Slot::Full(low) => (half >> low) & 31,
            Slot::Short(low) => 8 + ((half >> low) & 7),
        }) as u32
    }

    const fn put(self, number: u32) -> u16 {
        let number = number as u16;
        match self {
            Slot::No | Slot::Is(_) => 0,
            Slot::Full(low) => (number & 31) << low,
            Slot::Short(low) => (number & 7) << low,
        }
    }
}

impl Imm {
    pub(super) fn get(&self, half: u16) -> i32 {
        let mut imm = 0_u32;
        for &(low, at, bits) in self.pieces {
            let piece = (half >> low) & ((1 << bits) - 1);
            imm |= u32::from(piece) << at;
        }
        match self.sign {
            Some(high) => (imm << (31 - high)).cast_signed() >> (31 - high),
            None => imm.cast_signed(),
        }
    }

    fn put(&self, imm: i32) -> u16 {
        let imm = imm.cast_unsigned();
        let mut half = 0;
        for &(low, at, bits) in self.pieces {
            half |= ((imm >> at) as u16 & ((1 << bits) - 1)) << low;
        }
        half
    }
}

mod imm {
    //! Immediates of the forms, named after the manual's formats.
    use super::{Imm, format};

    const fn imm(
        pieces: &'static [(u16, u16, u16)],
        sign: Option<u32>,
        extract: fn(u32) -> i32,
        insert: fn(i32) -> u32,
    ) -> Imm {
        Imm {
            pieces,
            sign,
            extract,
            insert,
        }
    }
    const fn i(pieces: &'static [(u16, u16, u16)], sign: Option<u32>) -> Imm {
        imm(pieces, sign, format::imm_i, format::put_imm_i)
    }
    const fn s(pieces: &'static [(u16, u16, u16)]) -> Imm {
        imm(pieces, None, format::imm_s, format::put_imm_s)
    }

    pub(super) const NONE: Imm = imm(&[], None, |_| 0, |_| 0);
    pub(super) const SPN: Imm = i(&[(11, 4, 2), (7, 6, 4), (6, 2, 1), (5, 3, 1)], None);
    pub(super) const LW: Imm = i(&[(10, 3, 3), (6, 2, 1), (5, 6, 1)], None);
    pub(super) const LD: Imm = i(&[(10, 3, 3), (5, 6, 2)], None);
    pub(super) const SW: Imm = s(LW.pieces);
    pub(super) const SD: Imm = s(LD.pieces);
    pub(super) const CI: Imm = i(&[(12, 5, 1), (2, 0, 5)], Some(5));
    pub(super) const SHAMT: Imm = i(CI.pieces, None);
    pub(super) const SP16: Imm = i(
        &[(12, 9, 1), (6, 4, 1), (5, 6, 1), (3, 7, 2), (2, 5, 1)],
        Some(9),
    );
    pub(super) const LUI: Imm = imm(
        &[(12, 17, 1), (2, 12, 5)],
        Some(17),
        |w| (w & 0xffff_f000).cast_signed(),
        |imm| imm.cast_unsigned() & 0xffff_f000,
    );
    pub(super) const J: Imm = imm(
        &[
            (12, 11, 1),
            (11, 4, 1),
            (9, 8, 2),
            (8, 10, 1),
            (7, 6, 1),
            (6, 7, 1),
            (3, 1, 3),
            (2, 5, 1),
        ],
        Some(11),
        format::imm_j,
        format::put_imm_j,
    );
    pub(super) const B: Imm = imm(
        &[(12, 8, 1), (10, 3, 2), (5, 6, 2), (3, 1, 2), (2, 5, 1)],
        Some(8),
        format::imm_b,
        format::put_imm_b,
    );
    pub(super) const LWSP: Imm = i(&[(12, 5, 1), (4, 2, 3), (2, 6, 2)], None);
    pub(super) const LDSP: Imm = i(&[(12, 5, 1), (5, 3, 2), (2, 6, 3)], None);
    pub(super) const SWSP: Imm = s(&[(9, 2, 4), (7, 6, 2)]);
    pub(super) const SDSP: Imm = s(&[(10, 3, 3), (7, 6, 3)]);
}

macro_rules! rows {
    ($($mnemonic:literal $match:literal $mask:literal => $op:ident $rd:ident $rs1:ident $rs2:ident $imm:ident $reserved:ident $syntax:literal;)*) => {
        /// All 16-bit forms of RV64, by quadrant and funct3.
        pub static COMPRESSED: &[CompressedRow] = &[$(CompressedRow {
            mnemonic: $mnemonic,
            matches: $match,
            mask: $mask,
            op: Op::$op,
            syntax: $syntax,
            rd: slot::$rd,
            rs1: slot::$rs1,
            rs2: slot::$rs2,
            imm: imm::$imm,
            reserved: Reserved::$reserved,
        },)*];

        // A static cannot be read by constants: its bits once more.
        const BITS: &[u16] = &[$($match,)*];
    };
}

mod slot {
    //! Sources of register numbers: `R7` are five bits from bit 7, `P7` three.
    use super::Slot;
    pub(super) const NO: Slot = Slot::No;
    pub(super) const X0: Slot = Slot::Is(0);
    pub(super) const RA: Slot = Slot::Is(1);
    pub(super) const SP: Slot = Slot::Is(2);
    pub(super) const R7: Slot = Slot::Full(7);
    pub(super) const R2: Slot = Slot::Full(2);
    pub(super) const P7: Slot = Slot::Short(7);
    pub(super) const P2: Slot = Slot::Short(2);
}

// Rows with the same quadrant and funct3 stand together, narrow masks first.
rows! {
    // mnemonic    match  mask      op     rd rs1 rs2 imm  reserved syntax
    "c.addi4spn" 0x0000 0xe003 => Addi   P2 SP NO SPN   ImmZero "rd, rs1, imm";
    "c.fld"      0x2000 0xe003 => Fld    P2 P7 NO LD    Nothing "rd, imm(rs1)";
    "c.lw"       0x4000 0xe003 => Lw     P2 P7 NO LW    Nothing "rd, imm(rs1)";
    "c.ld"       0x6000 0xe003 => Ld     P2 P7 NO LD    Nothing "rd, imm(rs1)";
    "c.fsd"      0xa000 0xe003 => Fsd    NO P7 P2 SD    Nothing "rs2, imm(rs1)";
    "c.sw"       0xc000 0xe003 => Sw     NO P7 P2 SW    Nothing "rs2, imm(rs1)";
    "c.sd"       0xe000 0xe003 => Sd     NO P7 P2 SD    Nothing "rs2, imm(rs1)";

    "c.nop"      0x0001 0xffff => Addi   X0 X0 NO NONE  Nothing "";
    "c.addi"     0x0001 0xe003 => Addi   R7 R7 NO CI    Nothing "rd, imm";
    "c.addiw"    0x2001 0xe003 => Addiw  R7 R7 NO CI    RdZero  "rd, imm";
    "c.li"       0x4001 0xe003 => Addi   R7 X0 NO CI    Nothing "rd, imm";
    "c.addi16sp" 0x6101 0xef83 => Addi   SP SP NO SP16  ImmZero "rd, imm";
    "c.lui"      0x6001 0xe003 => Lui    R7 NO NO LUI   ImmZero "rd, imm";
    "c.srli"     0x8001 0xec03 => Srli   P7 P7 NO SHAMT Nothing "rd, imm";
    "c.srai"     0x8401 0xec03 => Srai   P7 P7 NO SHAMT Nothing "rd, imm";
    "c.andi"     0x8801 0xec03 => Andi   P7 P7 NO CI    Nothing "rd, imm";
    "c.sub"      0x8c01 0xfc63 => Sub    P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.xor"      0x8c21 0xfc63 => Xor    P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.or"       0x8c41 0xfc63 => Or     P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.and"      0x8c61 0xfc63 => And    P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.subw"     0x9c01 0xfc63 => Subw   P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.addw"     0x9c21 0xfc63 => Addw   P7 P7 P2 NONE  Nothing "rd, rs2";
    "c.j"        0xa001 0xe003 => Jal    X0 NO NO J     Nothing "imm";
    "c.beqz"     0xc001 0xe003 => Beq    NO P7 X0 B     Nothing "rs1, imm";
    "c.bnez"     0xe001 0xe003 => Bne    NO P7 X0 B     Nothing "rs1, imm";

    "c.slli"     0x0002 0xe003 => Slli   R7 R7 NO SHAMT Nothing "rd, imm";
    "c.fldsp"    0x2002 0xe003 => Fld    R7 SP NO LDSP  Nothing "rd, imm(rs1)";
    "c.lwsp"     0x4002 0xe003 => Lw     R7 SP NO LWSP  RdZero  "rd, imm(rs1)";
    "c.ldsp"     0x6002 0xe003 => Ld     R7 SP NO LDSP  RdZero  "rd, imm(rs1)";
    "c.jr"       0x8002 0xf07f => Jalr   X0 R7 NO NONE  Rs1Zero "rs1";
    "c.mv"       0x8002 0xf003 => Add    R7 X0 R2 NONE  Nothing "rd, rs2";
    "c.ebreak"   0x9002 0xffff => Ebreak NO NO NO NONE  Nothing "";
    "c.jalr"     0x9002 0xf07f => Jalr   RA R7 NO NONE  Nothing "rs1";
    "c.add"      0x9002 0xf003 => Add    R7 R7 R2 NONE  Nothing "rd, rs2";
    "c.fsdsp"    0xa002 0xe003 => Fsd    NO SP R2 SDSP  Nothing "rs2, imm(rs1)";
    "c.swsp"     0xc002 0xe003 => Sw     NO SP R2 SWSP  Nothing "rs2, imm(rs1)";
    "c.sdsp"     0xe002 0xe003 => Sd     NO SP R2 SDSP  Nothing "rs2, imm(rs1)";
}

const fn bucket_of(half: u16) -> usize {
    ((half & 3) << 3 | half >> 13) as usize
}

// Where the rows of a quadrant and funct3 start; quadrant 3 has none.
static START: [u8; 33] = {
    let mut start = [0; 33];
    let mut row = 0;
    let mut bucket = 0;
    while bucket < 32 {
        start[bucket] = row as u8;
        while row < BITS.len() && bucket_of(BITS[row]) == bucket {
            row += 1;
        }
        bucket += 1;
    }
    assert!(row == BITS.len(), "rows are ordered by quadrant and funct3");
    start[32] = row as u8;
    start
};

impl CompressedRow {
    /// The row of `half`, before its operands are looked at.
    fn find(half: u16) -> Option<&'static CompressedRow> {
        let bucket = bucket_of(half);
        let rows = &COMPRESSED[usize::from(START[bucket])..usize::from(START[bucket + 1])];
        rows.iter().find(|row| half & row.mask == row.matches)
    }

    fn expand(&self, half: u16) -> Option<Inst> {
        let (rd, rs1, rs2) = (self.rd.get(half), self.rs1.get(half), self.rs2.get(half));
        let imm = self.imm.get(half);
        let reserved = match self.reserved {
            Reserved::Nothing => false,
            Reserved::ImmZero => imm == 0,
            Reserved::RdZero => rd == 0,
            Reserved::Rs1Zero => rs1 == 0,
        };
        if reserved {
            return None;
        }
        let word = (rd << 7) | (rs1 << 15) | (rs2 << 20) | (self.imm.insert)(imm);
        Inst::with_operands(self.op, word)
    }

    /// Names of the operands in [`syntax`](Self::syntax).
    pub(super) fn operand_names(&self) -> impl Iterator<Item = &'static str> {
        self.syntax.split(", ").filter(|name| !name.is_empty())
    }

    /// The half word of this row that expands to `inst`.
    pub(super) fn compress(&self, inst: Inst) -> Option<u16> {
        if inst.op() != self.op {
            return None;
        }
        let word = inst.encode();
        let half = self.matches
            | self.rd.put((word >> 7) & 31)
            | self.rs1.put((word >> 15) & 31)
            | self.rs2.put((word >> 20) & 31)
            | self.imm.put((self.imm.extract)(word));
        // Operands that do not fit were cut, and a narrower row may own the
        // result: only what expands to the same instruction is right.
        let owner = CompressedRow::find(half)?;
        (owner.mnemonic == self.mnemonic && owner.expand(half) == Some(inst)).then_some(half)
    }
}

/// The instruction that a 16-bit form stands for; `None` where the encoding
/// is reserved, or `half` is the start of a longer instruction.
#[must_use]
pub fn expand(half: u16) -> Option<Inst> {
    CompressedRow::find(half)?.expand(half)
}

/// The 16-bit form of `inst`, if it has one. Where it has several, the one of
/// the first row of [`COMPRESSED`].
///
/// ```
/// use vm_core::isa::{asm::assemble_inst, compressed::compress};
///
/// let short = assemble_inst("addi sp, sp, 16").unwrap();
/// assert_eq!(compress(short), Some(0x0141));
/// let long = assemble_inst("addi sp, sp, 1600").unwrap();
/// assert_eq!(compress(long), None);
/// ```
#[must_use]
pub fn compress(inst: Inst) -> Option<u16> {
    COMPRESSED.iter().find_map(|row| row.compress(inst))
}

/// The row of a 16-bit form: its `c.` mnemonic and syntax. `None` where
/// [`expand`] gives none.
#[must_use]
pub fn row_of(half: u16) -> Option<&'static CompressedRow> {
    let row = CompressedRow::find(half)?;
    row.expand(half).map(|_| row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::asm::assemble_inst;

    #[test]
    fn every_half_word_survives_the_round_trip() {
        let mut count = 0;
        for half in 0..=u16::MAX {
            let Some(inst) = expand(half) else { continue };
            assert_ne!(half & 3, 3, "{half:#06x} is no 16-bit form");
            let canonical = compress(inst).unwrap_or_else(|| panic!("{half:#06x}: {inst:?}"));
            assert_eq!(
                expand(canonical),
                Some(inst),
                "{half:#06x} against {canonical:#06x}"
            );
            let row = row_of(half).unwrap();
            assert_eq!(row.compress(inst), Some(half), "{}", row.mnemonic);
            count += 1;
        }
        // Three quadrants less what the manual reserves: c.addi4spn with 0,
        // funct3 4 of quadrant 0, c.addiw x0, c.lui and c.addi16sp with 0, two
        // of c.subw's group, c.lwsp and c.ldsp to x0, c.jr x0.
        assert_eq!(count, 3 * 0x4000 - (8 + 2048 + 64 + 32 + 128 + 64 + 64 + 1));
    }

    #[test]
    fn forms_stand_for_what_the_manual_says() {
        let forms = [
            ("c.addi4spn a0, sp, 16", "addi a0, sp, 16"),
            ("c.fld fa0, 248(a1)", "fld fa0, 248(a1)"),
            ("c.lw a0, 124(a1)", "lw a0, 124(a1)"),
            ("c.ld a0, 8(a1)", "ld a0, 8(a1)"),
            ("c.fsd fa0, 8(a1)", "fsd fa0, 8(a1)"),
            ("c.sw a0, 64(a1)", "sw a0, 64(a1)"),
            ("c.sd a0, 8(a1)", "sd a0, 8(a1)"),
            ("c.nop", "addi zero, zero, 0"),
            ("c.addi t6, -32", "addi t6, t6, -32"),
            ("c.addiw t6, 0", "addiw t6, t6, 0"),
            ("c.li t6, 31", "addi t6, zero, 31"),
            ("c.addi16sp sp, -512", "addi sp, sp, -512"),
            ("c.lui t6, 0xfffe0", "lui t6, 0xfffe0"),
            ("c.srli a0, 63", "srli a0, a0, 63"),
            ("c.srai a0, 1", "srai a0, a0, 1"),
            ("c.andi a0, -1", "andi a0, a0, -1"),
            ("c.sub a0, a1", "sub a0, a0, a1"),
            ("c.xor a0, a1", "xor a0, a0, a1"),
            ("c.or a0, a1", "or a0, a0, a1"),
            ("c.and a0, a1", "and a0, a0, a1"),
            ("c.subw a0, a1", "subw a0, a0, a1"),
            ("c.addw a0, a1", "addw a0, a0, a1"),
            ("c.j -2048", "jal zero, -2048"),
            ("c.beqz a0, -256", "beq a0, zero, -256"),
            ("c.bnez a0, 254", "bne a0, zero, 254"),
            ("c.slli t6, 63", "slli t6, t6, 63"),
            ("c.fldsp ft0, 504(sp)", "fld ft0, 504(sp)"),
            ("c.lwsp t6, 252(sp)", "lw t6, 252(sp)"),
            ("c.ldsp t6, 504(sp)", "ld t6, 504(sp)"),
            ("c.jr t6", "jalr zero, 0(t6)"),
            ("c.mv t5, t6", "add t5, zero, t6"),
            ("c.ebreak", "ebreak"),
            ("c.jalr t6", "jalr ra, 0(t6)"),
            ("c.add t5, t6", "add t5, t5, t6"),
            ("c.fsdsp ft0, 504(sp)", "fsd ft0, 504(sp)"),
            ("c.swsp t6, 252(sp)", "sw t6, 252(sp)"),
            ("c.sdsp t6, 504(sp)", "sd t6, 504(sp)"),
        ];
        assert_eq!(forms.len(), COMPRESSED.len());
        for (row, (short, long)) in COMPRESSED.iter().zip(forms) {
            assert!(
                short.starts_with(row.mnemonic),
                "{short} in the place of {}",
                row.mnemonic
            );
            let inst = assemble_inst(short).unwrap_or_else(|e| panic!("{short}: {e}"));
            assert_eq!(inst.to_string(), long, "{short}");
        }
    }

    #[test]
    fn reserved_half_words_expand_to_nothing() {
        let reserved = [
            0x0000, // all zero: defined illegal
            0x0004, // c.addi4spn a0', 0
            0x8000, // quadrant 0, funct3 4
            0x2001, // c.addiw x0, 0
            0x6001, // c.lui x0, 0
            0x6101, // c.addi16sp 0
            0x6181, // c.lui gp, 0
            0x9c41, // c.subw's group, third
            0x9c61, // c.subw's group, fourth
            0x4002, // c.lwsp x0
            0x6002, // c.ldsp x0
            0x8002, // c.jr x0
        ];
        for half in reserved {
            assert_eq!(expand(half), None, "{half:#06x}");
        }
    }
}
