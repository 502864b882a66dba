//! Numbers between unpacking and packing, and the one place that rounds.
//!
//! A finite value is an integer times a power of two. Operations build such a
//! [`Number`] without loss, or with all lost bits *jammed*: or-ed into the
//! lowest bit. An odd lowest bit then stands for "somewhere strictly between
//! the even neighbours", which rounds alike in every mode as long as at least
//! two bits are dropped afterwards; 128 bits leave room for that.

use super::{Flags, Format, Rounding, canonical_nan, is_nan, signaling_flags};

/// The finite value `(-1)^sign × sig × 2^exp`; `sig` is below 2^127.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    pub(super) sign: bool,
    pub(super) exp: i32,
    pub(super) sig: u128,
}

/// An operand that is no NaN.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Infinity, with its sign.
    Infinite(bool),
    /// Zero has `sig == 0`.
    Finite(Number),
}

impl Value {
    pub(super) fn sign(self) -> bool {
        match self {
            Self::Infinite(sign) | Self::Finite(Number { sign, .. }) => sign,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        matches!(self, Self::Finite(Number { sig: 0, .. }))
    }
}

/// Takes a pattern apart. NaN has to be handled before.
pub(super) fn unpack<F: Format>(a: F::Bits) -> Value {
    let bits: u64 = a.into();
    let sign = bits & F::SIGN != 0;
    let field = (bits & F::INFINITY) >> F::FRACTION_BITS;
    let fraction = bits & F::FRACTION;
    if field == F::INFINITY >> F::FRACTION_BITS {
        debug_assert_eq!(fraction, 0, "NaN has no value");
        return Value::Infinite(sign);
    }
    // Subnormals share the exponent of field 1 and lack the hidden bit.
    let (exp, sig) = match field {
        0 => (F::MIN_QUANTUM, fraction),
        _ => (F::MIN_QUANTUM + field as i32 - 1, fraction | F::HIDDEN),
    };
    Value::Finite(Number {
        sign,
        exp,
        sig: u128::from(sig),
    })
}

/// The result if an operand is NaN (IEEE 754-2019 §6.2.3, RISC-V "NaN
/// Generation and Propagation"): canonical, NV for a signaling one.
pub(super) fn nan_result<F: Format>(operands: &[F::Bits]) -> Option<(F::Bits, Flags)> {
    operands
        .iter()
        .any(|&a| is_nan::<F>(a))
        .then(|| (canonical_nan::<F>(), signaling_flags::<F>(operands)))
}

/// Default result of an invalid operation (IEEE 754-2019 §7.2).
pub(super) fn invalid<F: Format>() -> (F::Bits, Flags) {
    (canonical_nan::<F>(), Flags::NV)
}

/// An exact infinity.
pub(super) fn infinity<F: Format>(sign: bool) -> (F::Bits, Flags) {
    (signed::<F>(sign, F::INFINITY), Flags::NONE)
}

/// An exact zero.
pub(super) fn zero<F: Format>(sign: bool) -> (F::Bits, Flags) {
    (signed::<F>(sign, 0), Flags::NONE)
}

fn signed<F: Format>(sign: bool, magnitude: u64) -> F::Bits {
    F::bits(if sign { magnitude | F::SIGN } else { magnitude })
}

impl Number {
    /// The same value with the highest bit of `sig` at place 125, which leaves
    /// one place for a carry below the limit of 2^127.
    ///
    /// `sig` must be neither zero nor above.
    pub(super) fn normalized(self) -> Self {
        let shift = self.sig.leading_zeros() - 2;
        Self {
            sig: self.sig << shift,
            exp: self.exp - shift as i32,
            ..self
        }
    }

    /// The value in units of `2^quantum`, rounded to an integer, and whether
    /// that lost anything. The sign matters for the directed modes only.
    ///
    /// This is IEEE 754-2019 §4.3.
    pub(super) fn round_at(self, quantum: i32, rm: Rounding) -> (u128, bool) {
        if quantum <= self.exp {
            return (self.sig << (self.exp - quantum), false);
        }
        let (sig, shift) = match quantum - self.exp {
            // Below half a unit: any such value rounds like a quarter.
            128.. => (u128::from(self.sig != 0), 2),
            shift => (self.sig, shift),
        };
        let kept = sig >> shift;
        let lost = sig - (kept << shift);
        let half = 1 << (shift - 1);
        let up = match rm {
            Rounding::Rne => lost > half || (lost == half && kept & 1 == 1),
            Rounding::Rtz => false,
            Rounding::Rdn => lost != 0 && self.sign,
            Rounding::Rup => lost != 0 && !self.sign,
            Rounding::Rmm => lost >= half,
        };
        (kept + u128::from(up), lost != 0)
    }
}

/// `sig >> shift` with the lost bits jammed into the lowest place.
pub(super) fn shift_right_jam(sig: u128, shift: u32) -> u128 {
    let kept = sig.checked_shr(shift).unwrap_or(0);
    let restored = kept.checked_shl(shift).unwrap_or(0);
    kept | u128::from(restored != sig)
}

/// Rounds a number into a format: the end of every operation.
///
/// A zero keeps its sign and is exact. Overflow is IEEE 754-2019 §7.4;
/// underflow §7.5 with tininess after rounding, raised if also inexact.
pub(super) fn round_pack<F: Format>(number: Number, rm: Rounding) -> (F::Bits, Flags) {
    if number.sig == 0 {
        return zero::<F>(number.sign);
    }
    // value = 1.xxx × 2^exponent; the quantum is its last place at full precision.
    let exponent = number.exp + 127 - number.sig.leading_zeros() as i32;
    if exponent > F::EMAX {
        return overflow::<F>(number.sign, rm);
    }
    let full_quantum = exponent - F::FRACTION_BITS as i32;
    let quantum = full_quantum.max(F::MIN_QUANTUM);
    let (kept, inexact) = number.round_at(quantum, rm);

    // Adding instead of or-ing lets the hidden bit, if there is one, count the
    // exponent field up by one, and a carry out of the fraction by another.
    let field = (quantum - F::MIN_QUANTUM) as u64;
    let magnitude = (field << F::FRACTION_BITS) + kept as u64;
    if magnitude >= F::INFINITY {
        return overflow::<F>(number.sign, rm);
    }

    let mut flags = Flags::NONE;
    if inexact {
        flags |= Flags::NX;
        // "After rounding" means: as if the exponent range were unbounded. A
        // value just below the smallest normal number may round up to it.
        if exponent < F::EMIN {
            let (unbounded, _) = number.round_at(full_quantum, rm);
            let carry = (unbounded >> F::PRECISION) as i32;
            if exponent + carry < F::EMIN {
                flags |= Flags::UF;
            }
        }
    }
    (signed::<F>(number.sign, magnitude), flags)
}

/// Infinity or the largest finite number (IEEE 754-2019 §7.4).
fn overflow<F: Format>(sign: bool, rm: Rounding) -> (F::Bits, Flags) {
    let to_infinity = match rm {
        Rounding::Rne | Rounding::Rmm => true,
        Rounding::Rtz => false,
        Rounding::Rdn => sign,
        Rounding::Rup => !sign,
    };
    let magnitude = F::INFINITY - u64::from(!to_infinity);
    (signed::<F>(sign, magnitude), Flags::OF | Flags::NX)
}
