//! Addition, multiplication, division, square root and fused multiply-add
//! (IEEE 754-2019 §5.4.1).
//!
//! Each function answers NaN and infinity first, then builds one [`Number`].

use super::number::{
    Number, Value, infinity, invalid, nan_result, round_pack, shift_right_jam, unpack, zero,
};
use super::{Flags, Format, Rounding, negate, signaling_flags};

/// `a + b`.
pub fn add<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding) -> (F::Bits, Flags) {
    if let Some(nan) = nan_result::<F>(&[a, b]) {
        return nan;
    }
    add_values::<F>(unpack::<F>(a), unpack::<F>(b), rm)
}

/// `a - b`.
pub fn sub<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding) -> (F::Bits, Flags) {
    add::<F>(a, negate::<F>(b), rm)
}

/// `a * b`.
pub fn mul<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding) -> (F::Bits, Flags) {
    if let Some(nan) = nan_result::<F>(&[a, b]) {
        return nan;
    }
    match product(unpack::<F>(a), unpack::<F>(b)) {
        None => invalid::<F>(),
        Some(Value::Infinite(sign)) => infinity::<F>(sign),
        Some(Value::Finite(number)) => round_pack::<F>(number, rm),
    }
}

/// `a * b + c`, rounded once.
///
/// ∞ × 0 raises NV even if c is a quiet NaN: IEEE 754-2019 §7.2 c leaves that
/// open, RISC-V "Single-Precision Floating-Point Computational Instructions"
/// demands it.
pub fn fused_mul_add<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
) -> (F::Bits, Flags) {
    if let Some((nan, flags)) = nan_result::<F>(&[a, b]) {
        return (nan, flags | signaling_flags::<F>(&[c]));
    }
    let Some(product) = product(unpack::<F>(a), unpack::<F>(b)) else {
        return invalid::<F>();
    };
    if let Some(nan) = nan_result::<F>(&[c]) {
        return nan;
    }
    add_values::<F>(product, unpack::<F>(c), rm)
}

/// `a / b`; a finite number divided by zero raises DZ (IEEE 754-2019 §7.3).
pub fn div<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding) -> (F::Bits, Flags) {
    if let Some(nan) = nan_result::<F>(&[a, b]) {
        return nan;
    }
    let (a, b) = (unpack::<F>(a), unpack::<F>(b));
    let sign = a.sign() != b.sign();
    match (a, b) {
        (Value::Infinite(_), Value::Infinite(_)) => invalid::<F>(),
        (Value::Infinite(_), Value::Finite(_)) => infinity::<F>(sign),
        (Value::Finite(_), Value::Infinite(_)) => zero::<F>(sign),
        (Value::Finite(x), Value::Finite(y)) => match (x.sig, y.sig) {
            (0, 0) => invalid::<F>(),
            (_, 0) => (infinity::<F>(sign).0, Flags::DZ),
            (0, _) => zero::<F>(sign),
            _ => round_pack::<F>(quotient(x, y), rm),
        },
    }
}

/// Square root; of −0 it is −0, of anything else negative NV (IEEE 754-2019 §5.4.1).
pub fn sqrt<F: Format>(a: F::Bits, rm: Rounding) -> (F::Bits, Flags) {
    if let Some(nan) = nan_result::<F>(&[a]) {
        return nan;
    }
    let value = unpack::<F>(a);
    match value {
        _ if value.is_zero() => zero::<F>(value.sign()),
        _ if value.sign() => invalid::<F>(),
        Value::Infinite(sign) => infinity::<F>(sign),
        Value::Finite(x) => round_pack::<F>(root(x), rm),
    }
}

fn add_values<F: Format>(a: Value, b: Value, rm: Rounding) -> (F::Bits, Flags) {
    match (a, b) {
        (Value::Infinite(s), Value::Infinite(t)) if s != t => invalid::<F>(),
        (Value::Infinite(sign), _) | (_, Value::Infinite(sign)) => infinity::<F>(sign),
        (Value::Finite(x), Value::Finite(y)) => round_pack::<F>(sum(x, y, rm), rm),
    }
}

/// The sum, jammed.
///
/// Operands have at most 106 bits and are moved up to place 125, so the low 20
/// places of both are zero. A shift that loses bits is therefore by more than
/// 20, and then subtraction cancels one place at most: the jammed bit stays far
/// below where any format rounds.
fn sum(x: Number, y: Number, rm: Rounding) -> Number {
    match (x.sig, y.sig) {
        (0, 0) if x.sign == y.sign => return x,
        (0, 0) => return exact_zero(rm),
        (0, _) => return y,
        (_, 0) => return x,
        _ => {}
    }
    let (x, y) = (x.normalized(), y.normalized());
    let (high, low) = if x.exp >= y.exp { (x, y) } else { (y, x) };
    let low_sig = shift_right_jam(low.sig, high.exp.abs_diff(low.exp));
    if high.sign == low.sign {
        let sig = high.sig + low_sig;
        return Number { sig, ..high };
    }
    match high.sig.checked_sub(low_sig) {
        Some(0) => exact_zero(rm),
        Some(sig) => Number { sig, ..high },
        // Only possible with equal exponents.
        None => Number {
            sig: low_sig - high.sig,
            ..low
        },
    }
}

/// `x - x` is +0, but −0 when rounding down (IEEE 754-2019 §6.3).
fn exact_zero(rm: Rounding) -> Number {
    Number {
        sign: rm == Rounding::Rdn,
        exp: 0,
        sig: 0,
    }
}

/// The exact product, of at most 106 bits; `None` for ∞ × 0.
fn product(a: Value, b: Value) -> Option<Value> {
    let sign = a.sign() != b.sign();
    match (a, b) {
        (Value::Finite(x), Value::Finite(y)) => Some(Value::Finite(Number {
            sign,
            exp: x.exp + y.exp,
            sig: x.sig * y.sig,
        })),
        _ if a.is_zero() || b.is_zero() => None,
        _ => Some(Value::Infinite(sign)),
    }
}

/// The quotient of nonzero numbers, jammed. It has at least 126 − 53 bits.
fn quotient(x: Number, y: Number) -> Number {
    let x_high = x.normalized();
    let whole = x_high.sig / y.sig;
    let rest = x_high.sig % y.sig;
    Number {
        sign: x.sign != y.sign,
        exp: x_high.exp - y.exp,
        sig: whole | u128::from(rest != 0),
    }
}

/// The square root of a positive number, jammed. It has 63 bits.
fn root(x: Number) -> Number {
    let high = x.normalized();
    // The exponent must be even to be halved.
    let odd = high.exp & 1;
    let (exp, sig) = (high.exp - odd, high.sig << odd);
    let whole = sig.isqrt();
    Number {
        sign: false,
        exp: exp / 2,
        sig: whole | u128::from(whole * whole != sig),
    }
}
