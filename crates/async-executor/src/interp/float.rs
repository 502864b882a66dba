//! Floating point: registers in and out of `vm_core::isa::float`, which does
//! the arithmetic; rounding modes and fflags, which are the hart's.
//!
//! Each function answers `None` where `frm` holds a reserved mode and the
//! instruction uses it: an illegal instruction. "Implementations must treat
//! the rm field as usual" even where it cannot matter (Volume I, "F"), so
//! exact conversions check it too.

use super::operands::Operands;
use vm_core::hart::HartState;
use vm_core::isa::float::{self, F32, F64, Flags, Format, Integer, Rounding, fast};

/// A format as a 64-bit register holds it.
pub(super) trait Width: Format {
    /// The value in `register`; what is not NaN-boxed reads as NaN.
    fn read(register: u64) -> Self::Bits;
    /// `bits` NaN-boxed.
    fn boxed(bits: Self::Bits) -> u64;
}

impl Width for F32 {
    #[inline(always)]
    fn read(register: u64) -> u32 {
        float::unbox_f32(register)
    }
    #[inline(always)]
    fn boxed(bits: u32) -> u64 {
        float::box_f32(bits)
    }
}

impl Width for F64 {
    #[inline(always)]
    fn read(register: u64) -> u64 {
        register
    }
    #[inline(always)]
    fn boxed(bits: u64) -> u64 {
        bits
    }
}

/// The mode that `rm` asks for; it stands in `imm`.
#[inline(always)]
fn rounding(state: &HartState, a: &Operands) -> Option<Rounding> {
    const DYNAMIC: i32 = 7;
    let mode = if a.imm == DYNAMIC {
        state.frm as u8
    } else {
        a.imm as u8
    };
    Rounding::from_bits(mode)
}

#[inline(always)]
fn sticky(state: &HartState) -> Flags {
    Flags::from_bits_truncate(state.fflags as u8)
}

#[inline(always)]
fn raise(state: &mut HartState, flags: Flags) {
    state.fflags |= u32::from(flags.bits());
}

/// Two operands and a rounding.
#[inline(always)]
pub(super) fn binary<F: Width>(
    state: &mut HartState,
    a: &Operands,
    op: impl Fn(F::Bits, F::Bits, Rounding, Flags) -> (F::Bits, Flags),
) -> Option<()> {
    let rm = rounding(state, a)?;
    let (x, y) = (
        F::read(state.f[a.rs1.index()]),
        F::read(state.f[a.rs2.index()]),
    );
    let (result, flags) = op(x, y, rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
    Some(())
}

/// Square root.
#[inline(always)]
pub(super) fn sqrt<F: Width>(state: &mut HartState, a: &Operands) -> Option<()> {
    let rm = rounding(state, a)?;
    let (result, flags) = fast::sqrt::<F>(F::read(state.f[a.rs1.index()]), rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
    Some(())
}

/// `±(rs1 × rs2) ± rs3`: the four fused multiplications differ in which
/// operands are negated first.
#[inline(always)]
pub(super) fn fused<F: Width, const NEGATE_PRODUCT: bool, const NEGATE_ADDEND: bool>(
    state: &mut HartState,
    a: &Operands,
) -> Option<()> {
    let rm = rounding(state, a)?;
    let mut x = F::read(state.f[a.rs1.index()]);
    let y = F::read(state.f[a.rs2.index()]);
    let mut z = F::read(state.f[a.rs3.index()]);
    if NEGATE_PRODUCT {
        x = float::negate::<F>(x);
    }
    if NEGATE_ADDEND {
        z = float::negate::<F>(z);
    }
    let (result, flags) = fast::fused_mul_add::<F>(x, y, z, rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
    Some(())
}

/// Two operands, no rounding: `fmin`, `fmax`.
#[inline(always)]
pub(super) fn select<F: Width>(
    state: &mut HartState,
    a: &Operands,
    op: impl Fn(F::Bits, F::Bits) -> (F::Bits, Flags),
) {
    let (x, y) = (
        F::read(state.f[a.rs1.index()]),
        F::read(state.f[a.rs2.index()]),
    );
    let (result, flags) = op(x, y);
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
}

/// Two operands, neither rounding nor flags: `fsgnj*`.
#[inline(always)]
pub(super) fn sign<F: Width>(
    state: &mut HartState,
    a: &Operands,
    op: impl Fn(F::Bits, F::Bits) -> F::Bits,
) {
    let (x, y) = (
        F::read(state.f[a.rs1.index()]),
        F::read(state.f[a.rs2.index()]),
    );
    state.f[a.rd.index()] = F::boxed(op(x, y));
}

/// A comparison.
#[inline(always)]
pub(super) fn compare<F: Width>(
    state: &mut HartState,
    a: &Operands,
    op: impl Fn(F::Bits, F::Bits) -> (bool, Flags),
) {
    let (x, y) = (
        F::read(state.f[a.rs1.index()]),
        F::read(state.f[a.rs2.index()]),
    );
    let (holds, flags) = op(x, y);
    state.x[a.rd.index()] = u64::from(holds);
    raise(state, flags);
}

/// An integer of a conversion, as a register holds it. 32-bit results are
/// sign-extended, unsigned ones too.
pub(super) trait Whole: Integer {
    fn to_register(self) -> u64;
    fn from_register(register: u64) -> Self;
}

macro_rules! wholes {
    ($($Int:ident via $Signed:ident)*) => {$(
        impl Whole for $Int {
            #[inline(always)]
            fn to_register(self) -> u64 {
                i64::from(self as $Signed).cast_unsigned()
            }
            #[inline(always)]
            fn from_register(register: u64) -> $Int {
                register as $Int
            }
        }
    )*};
}
wholes! { i32 via i32 u32 via i32 i64 via i64 u64 via i64 }

/// `fcvt.*` from a float to an integer.
#[inline(always)]
pub(super) fn to_int<F: Width, I: Whole>(state: &mut HartState, a: &Operands) -> Option<()> {
    let rm = rounding(state, a)?;
    let bits = F::read(state.f[a.rs1.index()]);
    let (integer, flags) = fast::to_int::<F, I>(bits, rm, sticky(state));
    state.x[a.rd.index()] = integer.to_register();
    raise(state, flags);
    Some(())
}

/// `fcvt.*` from an integer to a float.
#[inline(always)]
pub(super) fn from_int<F: Width, I: Whole>(state: &mut HartState, a: &Operands) -> Option<()> {
    let rm = rounding(state, a)?;
    let integer = I::from_register(state.x[a.rs1.index()]);
    let (bits, flags) = fast::from_int::<F, I>(integer, rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(bits);
    raise(state, flags);
    Some(())
}

/// `fcvt.s.d`
#[inline(always)]
pub(super) fn narrow(state: &mut HartState, a: &Operands) -> Option<()> {
    let rm = rounding(state, a)?;
    let (bits, flags) = fast::narrow(state.f[a.rs1.index()], rm, sticky(state));
    state.f[a.rd.index()] = float::box_f32(bits);
    raise(state, flags);
    Some(())
}

/// `fcvt.d.s`
#[inline(always)]
pub(super) fn widen(state: &mut HartState, a: &Operands) -> Option<()> {
    rounding(state, a)?;
    let (bits, flags) = fast::widen(float::unbox_f32(state.f[a.rs1.index()]));
    state.f[a.rd.index()] = bits;
    raise(state, flags);
    Some(())
}

/// The class mask of a register.
#[inline(always)]
pub(super) fn classify<F: Width>(register: u64) -> u64 {
    u64::from(float::classify::<F>(F::read(register)))
}
