//! Operand formats: which fields an instruction word has, and how they are
//! shuffled. One struct per format; [`Format`] is all the table needs of it.
//!
//! Immediates are kept as the value that the semantics add, already
//! sign-extended and scaled: `lui`'s is shifted, a branch's is in bytes.
//! Layouts: The RISC-V Instruction Set Manual, Volume I, "Immediate Encoding
//! Variants".

use super::float::Rounding;
use crate::reg::{FReg, RegSets, XReg};

/// A format as a value: the struct of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the structs are documented")]
pub enum Kind {
    Nullary,
    R,
    R1,
    I,
    Jalr,
    Sh64,
    Sh32,
    Load,
    S,
    B,
    U,
    J,
    Fence,
    Csr,
    Csri,
    Amo,
    Lr,
    FLoad,
    FStore,
    FR,
    FR1,
    FR4,
    FRn,
    FCmp,
    FToX,
    FToXn,
    XToF,
    XToFn,
}

/// What the table needs of an operand format.
pub trait Format: Copy + Sized {
    /// Which it is.
    const KIND: Kind;
    /// Operands of the word `w`, or `None` where the format reserves them.
    fn extract(w: u32) -> Option<Self>;
    /// The operands' bits; the caller adds the row's match bits.
    /// Immediates out of range are cut to their field.
    fn insert(self) -> u32;
    /// Registers read and written.
    fn regs(self) -> RegSets;
}

/// Rounding mode field of a floating-point instruction: one of the modes of
/// [`Rounding`], or that the mode is in `frm`. Arithmetic takes a [`Rounding`],
/// so that `frm` cannot be forgotten on the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rm {
    /// To nearest, ties to even.
    Rne = Rounding::Rne as u8,
    /// Towards zero.
    Rtz = Rounding::Rtz as u8,
    /// Down.
    Rdn = Rounding::Rdn as u8,
    /// Up.
    Rup = Rounding::Rup as u8,
    /// To nearest, ties away from zero.
    Rmm = Rounding::Rmm as u8,
    /// As `frm` says.
    Dyn = 7,
}

impl Rm {
    /// The mode of the low three bits, `None` for the reserved 5 and 6.
    pub const fn from_bits(bits: u32) -> Option<Rm> {
        let bits = (bits & 7) as u8;
        match Rounding::from_bits(bits) {
            Some(mode) => Some(Rm::of(mode)),
            None if bits == Rm::Dyn as u8 => Some(Rm::Dyn),
            None => None,
        }
    }

    /// The field of an instruction that rounds this way whatever `frm` says.
    pub const fn of(mode: Rounding) -> Rm {
        match mode {
            Rounding::Rne => Rm::Rne,
            Rounding::Rtz => Rm::Rtz,
            Rounding::Rdn => Rm::Rdn,
            Rounding::Rup => Rm::Rup,
            Rounding::Rmm => Rm::Rmm,
        }
    }

    /// How it rounds; `None` where `frm` decides.
    pub const fn rounding(self) -> Option<Rounding> {
        Rounding::from_bits(self as u8)
    }

    /// Its name in assembly.
    pub const fn name(self) -> &'static str {
        match self.rounding() {
            Some(mode) => mode.name(),
            None => "dyn",
        }
    }
}

// Fields of a 32-bit word. `x_`/`f_` read a register, `put_` its inverse.
const fn field(w: u32, low: u32, bits: u32) -> u32 {
    (w >> low) & ((1 << bits) - 1)
}
const fn x_rd(w: u32) -> XReg {
    XReg::from_bits(w >> 7)
}
const fn x_rs1(w: u32) -> XReg {
    XReg::from_bits(w >> 15)
}
const fn x_rs2(w: u32) -> XReg {
    XReg::from_bits(w >> 20)
}
const fn f_rd(w: u32) -> FReg {
    FReg::from_bits(w >> 7)
}
const fn f_rs1(w: u32) -> FReg {
    FReg::from_bits(w >> 15)
}
const fn f_rs2(w: u32) -> FReg {
    FReg::from_bits(w >> 20)
}
const fn f_rs3(w: u32) -> FReg {
    FReg::from_bits(w >> 27)
}
const fn put(rd: usize, rs1: usize, rs2: usize) -> u32 {
    ((rd << 7) | (rs1 << 15) | (rs2 << 20)) as u32
}
pub(super) const fn put_rm(rm: Rm) -> u32 {
    (rm as u32) << 12
}
pub(super) const fn imm_i(w: u32) -> i32 {
    w.cast_signed() >> 20
}
pub(super) const fn put_imm_i(imm: i32) -> u32 {
    imm.cast_unsigned() << 20
}
pub(super) const fn imm_s(w: u32) -> i32 {
    ((w.cast_signed() >> 25) << 5) | field(w, 7, 5).cast_signed()
}
pub(super) const fn put_imm_s(imm: i32) -> u32 {
    let imm = imm.cast_unsigned();
    (field(imm, 5, 7) << 25) | (field(imm, 0, 5) << 7)
}
pub(super) const fn imm_b(w: u32) -> i32 {
    ((w.cast_signed() >> 31) << 12)
        | ((field(w, 7, 1) << 11) | (field(w, 25, 6) << 5) | (field(w, 8, 4) << 1)).cast_signed()
}
pub(super) const fn put_imm_b(imm: i32) -> u32 {
    let imm = imm.cast_unsigned();
    (field(imm, 12, 1) << 31)
        | (field(imm, 5, 6) << 25)
        | (field(imm, 1, 4) << 8)
        | (field(imm, 11, 1) << 7)
}
pub(super) const fn imm_j(w: u32) -> i32 {
    ((w.cast_signed() >> 31) << 20)
        | ((field(w, 12, 8) << 12) | (field(w, 20, 1) << 11) | (field(w, 21, 10) << 1))
            .cast_signed()
}
pub(super) const fn put_imm_j(imm: i32) -> u32 {
    let imm = imm.cast_unsigned();
    (field(imm, 20, 1) << 31)
        | (field(imm, 1, 10) << 21)
        | (field(imm, 11, 1) << 20)
        | (field(imm, 12, 8) << 12)
}

const fn x_set(r: XReg) -> u32 {
    r.bit() & !1
}

/// Declares a format: its fields, how they leave and enter a word, and the
/// registers they read and write.
macro_rules! format {
    (
        $(#[$doc:meta])*
        $Name:ident { $($field:ident: $Type:ty = $extract:expr),* $(,)? }
        insert($self:ident) $insert:expr;
        regs { $($set:ident: $bits:expr),* $(,)? }
    ) => {
        $(#[$doc])*
        // packed: six bytes at most, so that `Inst` with its tag takes eight.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(Rust, packed(2))]
        pub struct $Name {
            $(#[doc = concat!("Field `", stringify!($field), "`.")] pub $field: $Type,)*
        }

        impl Format for $Name {
            const KIND: Kind = Kind::$Name;

            #[inline]
            fn extract(w: u32) -> Option<Self> {
                let _ = w;
                Some($Name { $($field: $extract(w)?,)* })
            }

            #[inline]
            fn insert($self) -> u32 {
                $insert
            }

            #[inline]
            #[allow(unused_variables, reason = "formats without registers read no field")]
            fn regs($self) -> RegSets {
                RegSets { $($set: $bits,)* ..RegSets::default() }
            }
        }
    };
}

/// Lifts a total field reader to the fallible form the macro wants.
macro_rules! ok {
    ($reader:expr) => {
        |w: u32| Some($reader(w))
    };
}

format! {
    /// No operands.
    Nullary {}
    insert(self) 0;
    regs {}
}

format! {
    /// `op rd, rs1, rs2`
    R { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), rs2: XReg = ok!(x_rs2) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index());
    regs { x_reads: x_set(self.rs1) | x_set(self.rs2), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, rs1`
    R1 { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0);
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, rs1, imm` with a signed 12-bit immediate
    I { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), imm: i32 = ok!(imm_i) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_imm_i(self.imm);
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `jalr rd, imm(rs1)`
    Jalr { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), imm: i32 = ok!(imm_i) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_imm_i(self.imm);
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, rs1, shamt` with a shift amount below 64
    Sh64 { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), shamt: u8 = |w| Some(field(w, 20, 6) as u8) }
    insert(self) put(self.rd.index(), self.rs1.index(), usize::from(self.shamt & 63));
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, rs1, shamt` with a shift amount below 32
    Sh32 { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), shamt: u8 = |w| Some(field(w, 20, 5) as u8) }
    insert(self) put(self.rd.index(), self.rs1.index(), usize::from(self.shamt & 31));
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, imm(rs1)`: a load
    Load { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), imm: i32 = ok!(imm_i) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_imm_i(self.imm);
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op rs2, imm(rs1)`: a store
    S { rs1: XReg = ok!(x_rs1), rs2: XReg = ok!(x_rs2), imm: i32 = ok!(imm_s) }
    insert(self) put(0, self.rs1.index(), self.rs2.index()) | put_imm_s(self.imm);
    regs { x_reads: x_set(self.rs1) | x_set(self.rs2) }
}

format! {
    /// `op rs1, rs2, target`: a branch; `imm` is relative to this instruction
    B { rs1: XReg = ok!(x_rs1), rs2: XReg = ok!(x_rs2), imm: i32 = ok!(imm_b) }
    insert(self) put(0, self.rs1.index(), self.rs2.index()) | put_imm_b(self.imm);
    regs { x_reads: x_set(self.rs1) | x_set(self.rs2) }
}

format! {
    /// `op rd, imm` with the immediate in the upper 20 bits
    U { rd: XReg = ok!(x_rd), imm: i32 = |w: u32| Some((w & 0xffff_f000).cast_signed()) }
    insert(self) put(self.rd.index(), 0, 0) | (self.imm.cast_unsigned() & 0xffff_f000);
    regs { x_writes: x_set(self.rd) }
}

format! {
    /// `jal rd, target`; `imm` is relative to this instruction
    J { rd: XReg = ok!(x_rd), imm: i32 = ok!(imm_j) }
    insert(self) put(self.rd.index(), 0, 0) | put_imm_j(self.imm);
    regs { x_writes: x_set(self.rd) }
}

format! {
    /// `fence` and `fence.i` with all the fields that the base ISA ignores
    Fence { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), imm: i32 = ok!(imm_i) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_imm_i(self.imm);
    regs {}
}

format! {
    /// `csrr* rd, csr, rs1`
    Csr { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), csr: u16 = |w| Some(field(w, 20, 12) as u16) }
    insert(self) put(self.rd.index(), self.rs1.index(), usize::from(self.csr & 0xfff));
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `csrr*i rd, csr, uimm` with a 5-bit immediate
    Csri { rd: XReg = ok!(x_rd), uimm: u8 = |w| Some(field(w, 15, 5) as u8), csr: u16 = |w| Some(field(w, 20, 12) as u16) }
    insert(self) put(self.rd.index(), usize::from(self.uimm & 31), usize::from(self.csr & 0xfff));
    regs { x_writes: x_set(self.rd) }
}

format! {
    /// `amo* rd, rs2, (rs1)` and `sc.*`; `ordering` is aq (2) and rl (1)
    Amo { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), rs2: XReg = ok!(x_rs2), ordering: u8 = |w| Some(field(w, 25, 2) as u8) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index()) | (u32::from(self.ordering & 3) << 25);
    regs { x_reads: x_set(self.rs1) | x_set(self.rs2), x_writes: x_set(self.rd) }
}

format! {
    /// `lr.* rd, (rs1)`; `ordering` is aq (2) and rl (1)
    Lr { rd: XReg = ok!(x_rd), rs1: XReg = ok!(x_rs1), ordering: u8 = |w| Some(field(w, 25, 2) as u8) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | (u32::from(self.ordering & 3) << 25);
    regs { x_reads: x_set(self.rs1), x_writes: x_set(self.rd) }
}

format! {
    /// `op fd, imm(rs1)`: a floating-point load
    FLoad { rd: FReg = ok!(f_rd), rs1: XReg = ok!(x_rs1), imm: i32 = ok!(imm_i) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_imm_i(self.imm);
    regs { x_reads: x_set(self.rs1), f_writes: self.rd.bit() }
}

format! {
    /// `op fs2, imm(rs1)`: a floating-point store
    FStore { rs1: XReg = ok!(x_rs1), rs2: FReg = ok!(f_rs2), imm: i32 = ok!(imm_s) }
    insert(self) put(0, self.rs1.index(), self.rs2.index()) | put_imm_s(self.imm);
    regs { x_reads: x_set(self.rs1), f_reads: self.rs2.bit() }
}

format! {
    /// `op fd, fs1, fs2, rm`
    FR { rd: FReg = ok!(f_rd), rs1: FReg = ok!(f_rs1), rs2: FReg = ok!(f_rs2), rm: Rm = |w| Rm::from_bits(w >> 12) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index()) | put_rm(self.rm);
    regs { f_reads: self.rs1.bit() | self.rs2.bit(), f_writes: self.rd.bit() }
}

format! {
    /// `op fd, fs1, rm`
    FR1 { rd: FReg = ok!(f_rd), rs1: FReg = ok!(f_rs1), rm: Rm = |w| Rm::from_bits(w >> 12) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_rm(self.rm);
    regs { f_reads: self.rs1.bit(), f_writes: self.rd.bit() }
}

format! {
    /// `op fd, fs1, fs2, fs3, rm`
    FR4 { rd: FReg = ok!(f_rd), rs1: FReg = ok!(f_rs1), rs2: FReg = ok!(f_rs2), rs3: FReg = ok!(f_rs3), rm: Rm = |w| Rm::from_bits(w >> 12) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index()) | ((self.rs3 as u32) << 27) | put_rm(self.rm);
    regs { f_reads: self.rs1.bit() | self.rs2.bit() | self.rs3.bit(), f_writes: self.rd.bit() }
}

format! {
    /// `op fd, fs1, fs2` without rounding
    FRn { rd: FReg = ok!(f_rd), rs1: FReg = ok!(f_rs1), rs2: FReg = ok!(f_rs2) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index());
    regs { f_reads: self.rs1.bit() | self.rs2.bit(), f_writes: self.rd.bit() }
}

format! {
    /// `op rd, fs1, fs2`: a comparison
    FCmp { rd: XReg = ok!(x_rd), rs1: FReg = ok!(f_rs1), rs2: FReg = ok!(f_rs2) }
    insert(self) put(self.rd.index(), self.rs1.index(), self.rs2.index());
    regs { f_reads: self.rs1.bit() | self.rs2.bit(), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, fs1, rm`: floating point to integer
    FToX { rd: XReg = ok!(x_rd), rs1: FReg = ok!(f_rs1), rm: Rm = |w| Rm::from_bits(w >> 12) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_rm(self.rm);
    regs { f_reads: self.rs1.bit(), x_writes: x_set(self.rd) }
}

format! {
    /// `op rd, fs1` without rounding
    FToXn { rd: XReg = ok!(x_rd), rs1: FReg = ok!(f_rs1) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0);
    regs { f_reads: self.rs1.bit(), x_writes: x_set(self.rd) }
}

format! {
    /// `op fd, rs1, rm`: integer to floating point
    XToF { rd: FReg = ok!(f_rd), rs1: XReg = ok!(x_rs1), rm: Rm = |w| Rm::from_bits(w >> 12) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0) | put_rm(self.rm);
    regs { x_reads: x_set(self.rs1), f_writes: self.rd.bit() }
}

format! {
    /// `op fd, rs1` without rounding
    XToFn { rd: FReg = ok!(f_rd), rs1: XReg = ok!(x_rs1) }
    insert(self) put(self.rd.index(), self.rs1.index(), 0);
    regs { x_reads: x_set(self.rs1), f_writes: self.rd.bit() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_fields_are_the_rounding_modes_and_dynamic() {
        for bits in 0..8_u8 {
            let field = Rm::from_bits(u32::from(bits) | 0xfff8);
            assert_eq!(field.and_then(Rm::rounding), Rounding::from_bits(bits));
            assert_eq!(field.is_some(), !matches!(bits, 5 | 6), "{bits}");
            assert!(field.is_none_or(|field| field as u8 == bits));
        }
        assert_eq!(Rm::from_bits(7), Some(Rm::Dyn));
        for mode in Rounding::ALL {
            assert_eq!(Rm::of(mode).rounding(), Some(mode));
            assert_eq!(Rm::of(mode).name(), mode.name());
        }
        assert_eq!(Rm::Dyn.name(), "dyn");
    }
}
