//! Floating point: registers in and out of `vm_core::isa::float`, which does
//! the arithmetic; rounding modes and fflags, which are the hart's.
//!
//! Each function answers `None` where `frm` holds a reserved mode and the
//! instruction uses it: an illegal instruction. "Implementations must treat
//! the rm field as usual" even where it cannot matter (Volume I, "F"), so
//! exact conversions check it too.
//!
//! All out of line: a call costs less than the registers that this code would
//! take from the dispatch loop around it.

use vm_core::hart::HartState;
use vm_core::isa::float::{
    self, F32, F64, Flags, Format, Integer, Rounding, fast,
};
use vm_core::isa::format::{FCmp, FR, FR1, FR4, FRn, FToX, Rm, XToF};

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

#[inline(always)]
fn rounding(state: &HartState, rm: Rm) -> Option<Rounding> {
    match rm {
        Rm::Rne => Some(Rounding::Rne),
        Rm::Rtz => Some(Rounding::Rtz),
        Rm::Rdn => Some(Rounding::Rdn),
        Rm::Rup => Some(Rounding::Rup),
        Rm::Rmm => Some(Rounding::Rmm),
        Rm::Dyn => Rounding::from_bits(state.frm as u8),
    }
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
#[inline(never)]
pub(super) fn binary<F: Width>(
    state: &mut HartState,
    a: &FR,
    op: impl Fn(F::Bits, F::Bits, Rounding, Flags) -> (F::Bits, Flags),
) -> Option<()> {
    let rm = rounding(state, a.rm)?;
    let (x, y) = (F::read(state.f[a.rs1.index()]), F::read(state.f[a.rs2.index()]));
    let (result, flags) = op(x, y, rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
    Some(())
}

/// Square root.
#[inline(never)]
pub(super) fn sqrt<F: Width>(state: &mut HartState, a: &FR1) -> Option<()> {
    let rm = rounding(state, a.rm)?;
    let (result, flags) = fast::sqrt::<F>(F::read(state.f[a.rs1.index()]), rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
    Some(())
}

/// `±(rs1 × rs2) ± rs3`: the four fused multiplications differ in which
/// operands are negated first.
#[inline(never)]
pub(super) fn fused<F: Width, const NEGATE_PRODUCT: bool, const NEGATE_ADDEND: bool>(
    state: &mut HartState,
    a: &FR4,
) -> Option<()> {
    let rm = rounding(state, a.rm)?;
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
#[inline(never)]
pub(super) fn select<F: Width>(
    state: &mut HartState,
    a: &FRn,
    op: impl Fn(F::Bits, F::Bits) -> (F::Bits, Flags),
) {
    let (x, y) = (F::read(state.f[a.rs1.index()]), F::read(state.f[a.rs2.index()]));
    let (result, flags) = op(x, y);
    state.f[a.rd.index()] = F::boxed(result);
    raise(state, flags);
}

/// Two operands, neither rounding nor flags: `fsgnj*`.
#[inline(always)]
pub(super) fn sign<F: Width>(
    state: &mut HartState,
    a: &FRn,
    op: impl Fn(F::Bits, F::Bits) -> F::Bits,
) {
    let (x, y) = (F::read(state.f[a.rs1.index()]), F::read(state.f[a.rs2.index()]));
    state.f[a.rd.index()] = F::boxed(op(x, y));
}

/// A comparison.
#[inline(never)]
pub(super) fn compare<F: Width>(
    state: &mut HartState,
    a: &FCmp,
    op: impl Fn(F::Bits, F::Bits) -> (bool, Flags),
) {
    let (x, y) = (F::read(state.f[a.rs1.index()]), F::read(state.f[a.rs2.index()]));
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
#[inline(never)]
pub(super) fn to_int<F: Width, I: Whole>(state: &mut HartState, a: &FToX) -> Option<()> {
    let rm = rounding(state, a.rm)?;
    let bits = F::read(state.f[a.rs1.index()]);
    let (integer, flags) = fast::to_int::<F, I>(bits, rm, sticky(state));
    state.x[a.rd.index()] = integer.to_register();
    raise(state, flags);
    Some(())
}

/// `fcvt.*` from an integer to a float.
#[inline(never)]
pub(super) fn from_int<F: Width, I: Whole>(state: &mut HartState, a: &XToF) -> Option<()> {
    let rm = rounding(state, a.rm)?;
    let integer = I::from_register(state.x[a.rs1.index()]);
    let (bits, flags) = fast::from_int::<F, I>(integer, rm, sticky(state));
    state.f[a.rd.index()] = F::boxed(bits);
    raise(state, flags);
    Some(())
}

/// `fcvt.s.d`
#[inline(never)]
pub(super) fn narrow(state: &mut HartState, a: &FR1) -> Option<()> {
    let rm = rounding(state, a.rm)?;
    let (bits, flags) = fast::narrow(state.f[a.rs1.index()], rm, sticky(state));
    state.f[a.rd.index()] = float::box_f32(bits);
    raise(state, flags);
    Some(())
}

/// `fcvt.d.s`
#[inline(never)]
pub(super) fn widen(state: &mut HartState, a: &FR1) -> Option<()> {
    rounding(state, a.rm)?;
    let (bits, flags) = fast::widen(float::unbox_f32(state.f[a.rs1.index()]));
    state.f[a.rd.index()] = bits;
    raise(state, flags);
    Some(())
}

/// The class mask of a register.
#[inline(never)]
pub(super) fn classify<F: Width>(register: u64) -> u64 {
    u64::from(float::classify::<F>(F::read(register)))
}
