//! Conversions between integers and formats, and between the two formats
//! (IEEE 754-2019 §5.4.1, §5.8; RISC-V "Floating-Point Conversion and Move").

use super::number::{Number, Value, infinity, nan_result, round_pack, unpack};
use super::{F32, F64, Flags, Format, Rounding, canonical_nan, is_nan, signaling_flags};

/// An integer type of the `fcvt` instructions. Sealed: `i32`, `u32`, `i64`, `u64`.
pub trait Integer: range::Range {}

impl Integer for i32 {}
impl Integer for u32 {}
impl Integer for i64 {}
impl Integer for u64 {}

/// Integers as part of a wider one. Unnameable outside, hence the seal.
mod range {
    /// The limits of the type and the way there and back.
    pub trait Range: Copy + Into<i128> + TryFrom<i128> + TryFrom<i64> {
        /// Smallest value.
        const MIN: Self;
        /// Largest value.
        const MAX: Self;
    }

    macro_rules! range {
        ($($integer:ident)*) => {$(
            impl Range for $integer {
                const MIN: Self = $integer::MIN;
                const MAX: Self = $integer::MAX;
            }
        )*};
    }

    range!(i32 u32 i64 u64);
}

/// A float as an integer (`fcvt.w.d` and the like).
///
/// Out of range saturates and raises NV alone; NaN counts as too large. In
/// range, a fraction lost raises NX; what counts is the rounded value, so −0.9
/// towards zero is a valid unsigned 0.
pub fn to_int<F: Format, I: Integer>(a: F::Bits, rm: Rounding) -> (I, Flags) {
    if is_nan::<F>(a) {
        return (I::MAX, Flags::NV);
    }
    let value = unpack::<F>(a);
    let limit = if value.sign() { I::MIN } else { I::MAX };
    let Value::Finite(number) = value else {
        return (limit, Flags::NV);
    };
    // Only huge values are not below 2^(64 + 53): zero has a small exponent.
    if number.exp > 64 {
        return (limit, Flags::NV);
    }
    let (magnitude, inexact) = number.round_at(0, rm);
    let magnitude = magnitude as i128;
    let integer = if number.sign { -magnitude } else { magnitude };
    match I::try_from(integer) {
        Err(_) => (limit, Flags::NV),
        Ok(integer) if inexact => (integer, Flags::NX),
        Ok(integer) => (integer, Flags::NONE),
    }
}

/// An integer as a float (`fcvt.d.w` and the like); 0 becomes +0.
pub fn from_int<F: Format, I: Integer>(value: I, rm: Rounding) -> (F::Bits, Flags) {
    let value: i128 = value.into();
    let number = Number {
        sign: value < 0,
        exp: 0,
        sig: value.unsigned_abs(),
    };
    round_pack::<F>(number, rm)
}

/// A double as a single (`fcvt.s.d`).
pub fn narrow(a: u64, rm: Rounding) -> (u32, Flags) {
    convert::<F64, F32>(a, rm)
}

/// A single as a double (`fcvt.d.s`); exact, so there is no mode.
pub fn widen(a: u32) -> (u64, Flags) {
    convert::<F32, F64>(a, Rounding::Rne)
}

fn convert<A: Format, B: Format>(a: A::Bits, rm: Rounding) -> (B::Bits, Flags) {
    if nan_result::<A>(&[a]).is_some() {
        return (canonical_nan::<B>(), signaling_flags::<A>(&[a]));
    }
    match unpack::<A>(a) {
        Value::Infinite(sign) => infinity::<B>(sign),
        Value::Finite(number) => round_pack::<B>(number, rm),
    }
}
