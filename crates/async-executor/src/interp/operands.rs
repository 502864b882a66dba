//! The operands of any instruction in one shape of eight bytes.
//!
//! | field | holds |
//! |---|---|
//! | `rd`, `rs1`, `rs2`, `rs3` | register numbers, integer or floating-point as the instruction has them; `rs1` also the immediate of `csrr*i` |
//! | `imm` | immediate, shift amount, CSR number, rounding mode, or aq and rl |

use vm_core::isa::Inst;
use vm_core::isa::format::{self, Kind};
use vm_core::{FReg, XReg};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operands {
    pub(super) rd: XReg,
    pub(super) rs1: XReg,
    pub(super) rs2: XReg,
    pub(super) rs3: XReg,
    pub(super) imm: i32,
}

impl Operands {
    pub(super) const NONE: Operands = Operands {
        rd: XReg::Zero,
        rs1: XReg::Zero,
        rs2: XReg::Zero,
        rs3: XReg::Zero,
        imm: 0,
    };
}

/// A field of a format as a field of [`Operands`].
trait Field<T> {
    fn get(self) -> T;
}

macro_rules! fields {
    ($($From:ty => $To:ty: $value:ident $get:expr;)*) => {$(
        impl Field<$To> for $From {
            fn get(self) -> $To {
                let $value = self;
                $get
            }
        }
    )*};
}

fields! {
    XReg => XReg: r r;
    FReg => XReg: r XReg::from_bits(r.index() as u32);
    u8 => XReg: number XReg::from_bits(u32::from(number));
    i32 => i32: imm imm;
    u8 => i32: small i32::from(small);
    u16 => i32: csr i32::from(csr);
    format::Rm => i32: rm rm as i32;
}

/// `Format: field of it = field of ours, …`
macro_rules! formats {
    ($($Format:ident: $($field:ident = $ours:ident),*;)*) => {$(
        impl From<format::$Format> for Operands {
            #[allow(clippy::needless_update, reason = "one format fills all fields")]
            fn from(a: format::$Format) -> Operands {
                let _ = a;
                Operands { $($ours: Field::get({ a.$field }),)* ..Operands::NONE }
            }
        }
    )*};
}

formats! {
    Nullary: ;
    R: rd = rd, rs1 = rs1, rs2 = rs2;
    R1: rd = rd, rs1 = rs1;
    I: rd = rd, rs1 = rs1, imm = imm;
    Jalr: rd = rd, rs1 = rs1, imm = imm;
    Sh64: rd = rd, rs1 = rs1, shamt = imm;
    Sh32: rd = rd, rs1 = rs1, shamt = imm;
    Load: rd = rd, rs1 = rs1, imm = imm;
    S: rs1 = rs1, rs2 = rs2, imm = imm;
    B: rs1 = rs1, rs2 = rs2, imm = imm;
    U: rd = rd, imm = imm;
    J: rd = rd, imm = imm;
    Fence: rd = rd, rs1 = rs1, imm = imm;
    Csr: rd = rd, rs1 = rs1, csr = imm;
    Csri: rd = rd, uimm = rs1, csr = imm;
    Amo: rd = rd, rs1 = rs1, rs2 = rs2, ordering = imm;
    Lr: rd = rd, rs1 = rs1, ordering = imm;
    FLoad: rd = rd, rs1 = rs1, imm = imm;
    FStore: rs1 = rs1, rs2 = rs2, imm = imm;
    FR: rd = rd, rs1 = rs1, rs2 = rs2, rm = imm;
    FR1: rd = rd, rs1 = rs1, rm = imm;
    FR4: rd = rd, rs1 = rs1, rs2 = rs2, rs3 = rs3, rm = imm;
    FRn: rd = rd, rs1 = rs1, rs2 = rs2;
    FCmp: rd = rd, rs1 = rs1, rs2 = rs2;
    FToX: rd = rd, rs1 = rs1, rm = imm;
    FToXn: rd = rd, rs1 = rs1;
    XToF: rd = rd, rs1 = rs1, rm = imm;
    XToFn: rd = rd, rs1 = rs1;
}

/// Whether an instruction's result is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// It has none, or it goes elsewhere than to `x0`; or the instruction
    /// repairs `x0` itself.
    No,
    /// It is, and it was all that the instruction does.
    Pure,
    /// It is, but the instruction does more: it can trap, store, raise flags.
    Effects,
}

pub(super) fn zero_result(inst: Inst) -> Zero {
    let rd_is_zero = inst.encode() >> 7 & 31 == 0;
    match inst.op().row().format {
        Kind::R | Kind::R1 | Kind::I | Kind::Sh64 | Kind::Sh32 | Kind::U if rd_is_zero => {
            Zero::Pure
        }
        Kind::Load | Kind::Amo | Kind::Lr | Kind::FCmp | Kind::FToX | Kind::FToXn if rd_is_zero => {
            Zero::Effects
        }
        _ => Zero::No,
    }
}
