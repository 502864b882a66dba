//! IEEE 754 arithmetic in integers: what every engine has to agree with.
//!
//! The functions take and return raw bit patterns and answer the exception
//! flags next to the result; nothing here has state. Two families share the
//! same names:
//!
//! * `float::add`, `mul`, … use integers only. They are the reference: all five
//!   rounding modes, exact flags, the RISC-V choices where IEEE 754 leaves one.
//! * [`fast`]`::add`, `mul`, … use the host's floating-point unit where it
//!   provably gives the same answer and call the first family otherwise.
//!
//! Formats are types, [`F32`] and [`F64`]; registers hold an `F32` boxed in 64
//! bits, see [`box_f32`].
//!
//! ```
//! use vm_core::isa::float::{self, F64, Flags, Rounding};
//!
//! let third = float::div::<F64>(1f64.to_bits(), 3f64.to_bits(), Rounding::Rup);
//! assert_eq!(third, (0x3fd5_5555_5555_5556, Flags::NX));
//! ```
//!
//! Choices RISC-V makes ("RISC-V Unprivileged ISA", chapter "F" extension):
//!
//! * every NaN result is the canonical NaN; payloads are never propagated
//!   ("NaN Generation and Propagation");
//! * tininess is detected after rounding ("Subnormal Arithmetic");
//! * `fma` of ∞ × 0 raises [`Flags::NV`] even when the addend is a quiet NaN;
//! * float to integer saturates, and NaN becomes the largest integer;
//! * `min` and `max` are minimumNumber and maximumNumber of IEEE 754-2019 §9.6.
//!
//! Not here: which mode an instruction uses (`frm` and the `rm` field), fflags
//! as a CSR, sign extension of `fcvt.w*` results. Those belong to the engines.

// Maintainers: start with `number`, whose `round_pack` is the only place that
// rounds into a format. `arith` and `convert` compute an exact (or jammed)
// `Number` and hand it over. tests/float_exact.rs compares with rustc_apfloat.

mod arith;
mod convert;
pub mod fast;
mod number;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

pub use arith::{add, div, fused_mul_add, mul, sqrt, sub};
pub use convert::{Integer, from_int, narrow, to_int, widen};

/// Rounding direction, numbered as in the `rm` field and `frm`.
///
/// IEEE 754-2019 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rounding {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards −∞.
    Rdn = 2,
    /// Up, towards +∞.
    Rup = 3,
    /// To nearest, ties to max magnitude.
    Rmm = 4,
}

impl Rounding {
    /// All modes in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Rne, Self::Rtz, Self::Rdn, Self::Rup, Self::Rmm];

    /// The mode with this number; `None` for 5 and 6 (reserved), 7 (dynamic)
    /// and anything wider than the field.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Rne),
            1 => Some(Self::Rtz),
            2 => Some(Self::Rdn),
            3 => Some(Self::Rup),
            4 => Some(Self::Rmm),
            _ => None,
        }
    }

    /// Its name in assembly.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rne => "rne",
            Self::Rtz => "rtz",
            Self::Rdn => "rdn",
            Self::Rup => "rup",
            Self::Rmm => "rmm",
        }
    }
}

/// Accrued exceptions, with the bits of `fflags`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No exception.
    pub const NONE: Self = Self(0);
    /// Inexact.
    pub const NX: Self = Self(1);
    /// Underflow.
    pub const UF: Self = Self(2);
    /// Overflow.
    pub const OF: Self = Self(4);
    /// Division by zero.
    pub const DZ: Self = Self(8);
    /// Invalid operation.
    pub const NV: Self = Self(16);

    const NAMES: [(Self, &str); 5] = [
        (Self::NV, "NV"),
        (Self::DZ, "DZ"),
        (Self::OF, "OF"),
        (Self::UF, "UF"),
        (Self::NX, "NX"),
    ];

    /// The flags in an `fflags` value; bits above the five are dropped, as a
    /// write to the CSR does.
    #[inline]
    pub const fn from_bits_truncate(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// The value of `fflags`.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` is raised.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is raised.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    /// `NV|NX`, highest bit first, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

/// A binary interchange format (IEEE 754-2019 §3.4). Sealed: [`F32`] and [`F64`].
pub trait Format: layout::Layout {}

/// binary32, the format of `F` instructions (`.s`); bits are a `u32`.
#[derive(Clone, Copy, Debug)]
pub enum F32 {}

/// binary64, the format of `D` instructions (`.d`); bits are a `u64`.
#[derive(Clone, Copy, Debug)]
pub enum F64 {}

impl Format for F32 {}
impl Format for F64 {}

/// What makes a format, seen from inside. Unnameable outside, hence the seal.
mod layout {
    use std::fmt::{Debug, LowerHex};
    use std::ops::{Add, Div, Mul, Neg, Sub};

    /// Field widths, masks, and the host type of the same format.
    ///
    /// Masks are `u64` for both formats so that the algorithms exist once.
    pub trait Layout: Copy + Debug + 'static {
        /// Raw bits of a value.
        type Bits: Copy + Eq + Debug + LowerHex + Into<u64>;
        /// The host's type of this format, for the fast paths.
        type Host: HostFloat;

        /// Significand bits including the hidden one: p in IEEE 754-2019 table 3.5.
        const PRECISION: u32;
        /// Largest exponent of a finite number: emax.
        const EMAX: i32;
        /// Smallest exponent of a normal number: emin.
        const EMIN: i32 = 1 - Self::EMAX;

        /// Bits of the trailing significand field.
        const FRACTION_BITS: u32 = Self::PRECISION - 1;
        /// Lowest fraction bit's weight is 2 to this power in subnormals.
        const MIN_QUANTUM: i32 = Self::EMIN - Self::FRACTION_BITS as i32;
        /// The sign bit.
        const SIGN: u64;
        /// Everything but the sign.
        const MAGNITUDE: u64 = Self::SIGN - 1;
        /// The hidden bit's place, also the smallest normal number.
        const HIDDEN: u64 = 1 << Self::FRACTION_BITS;
        /// The fraction field.
        const FRACTION: u64 = Self::HIDDEN - 1;
        /// +∞, also the mask of the exponent field.
        const INFINITY: u64 = Self::MAGNITUDE & !Self::FRACTION;
        /// Set in quiet NaNs, clear in signaling ones.
        const QUIET: u64 = Self::HIDDEN >> 1;

        /// Narrows to the raw type; the upper bits are zero by construction.
        fn bits(raw: u64) -> Self::Bits;
        /// The same bits as a host number.
        fn to_host(bits: Self::Bits) -> Self::Host;
        /// The bits of a host number.
        fn from_host(value: Self::Host) -> Self::Bits;
    }

    /// The host operations the fast paths use: each one rounding, to nearest even.
    pub trait HostFloat:
        Copy
        + PartialOrd
        + Add<Output = Self>
        + Sub<Output = Self>
        + Mul<Output = Self>
        + Div<Output = Self>
        + Neg<Output = Self>
    {
        /// +0.
        const ZERO: Self;
        /// Smallest normal number.
        const MIN_NORMAL: Self;
        /// +∞.
        const INFINITY: Self;
        /// 2^(emin + p): products above it have an error term that does not underflow.
        const RESIDUE_MIN: Self;
        /// 2^62, below which truncation to `i64` is in range.
        const TWO_62: Self;

        /// Magnitude.
        fn abs(self) -> Self;
        /// Square root.
        fn sqrt(self) -> Self;
        /// `self * factor + addend`, rounded once.
        fn mul_add(self, factor: Self, addend: Self) -> Self;
        /// Nearest host number.
        fn from_i64(value: i64) -> Self;
        /// Truncation.
        fn to_i64(self) -> i64;
    }

    macro_rules! layout {
        ($format:ty, $bits:ty, $host:ident, precision $precision:literal, emax $emax:literal) => {
            impl Layout for $format {
                type Bits = $bits;
                type Host = $host;
                const PRECISION: u32 = $precision;
                const EMAX: i32 = $emax;
                const SIGN: u64 = 1 << (<$bits>::BITS - 1);

                #[inline]
                fn bits(raw: u64) -> $bits {
                    raw as $bits
                }
                #[inline]
                fn to_host(bits: $bits) -> $host {
                    $host::from_bits(bits)
                }
                #[inline]
                fn from_host(value: $host) -> $bits {
                    value.to_bits()
                }
            }

            impl HostFloat for $host {
                const ZERO: Self = 0.0;
                const MIN_NORMAL: Self = $host::MIN_POSITIVE;
                const INFINITY: Self = $host::INFINITY;
                const RESIDUE_MIN: Self = $host::MIN_POSITIVE * (1_u64 << $precision) as $host;
                const TWO_62: Self = (1_u64 << 62) as $host;

                #[inline]
                fn abs(self) -> Self {
                    self.abs()
                }
                #[inline]
                fn sqrt(self) -> Self {
                    self.sqrt()
                }
                #[inline]
                fn mul_add(self, factor: Self, addend: Self) -> Self {
                    self.mul_add(factor, addend)
                }
                #[inline]
                fn from_i64(value: i64) -> Self {
                    value as $host
                }
                #[inline]
                fn to_i64(self) -> i64 {
                    self as i64
                }
            }
        };
    }

    layout!(super::F32, u32, f32, precision 24, emax 127);
    layout!(super::F64, u64, f64, precision 53, emax 1023);
}

/// The NaN every `F32` operation answers: quiet, positive, no payload.
pub const CANONICAL_F32: u32 = 0x7fc0_0000;

/// The NaN every `F64` operation answers: quiet, positive, no payload.
pub const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;

/// The upper half of a register that holds a single.
const BOX: u64 = 0xffff_ffff_0000_0000;

/// A single as a 64-bit register holds it: upper half all ones.
///
/// RISC-V "D" extension, "NaN Boxing of Narrower Values".
#[inline]
pub const fn box_f32(bits: u32) -> u64 {
    // `From` is not const; widening is lossless all the same.
    #[allow(clippy::cast_lossless, reason = "u64::from is not usable in const fn")]
    let low = bits as u64;
    BOX | low
}

/// The single in a 64-bit register; [`CANONICAL_F32`] if it is not boxed.
#[inline]
pub const fn unbox_f32(register: u64) -> u32 {
    if register & BOX == BOX {
        register as u32
    } else {
        CANONICAL_F32
    }
}

/// `a` with the sign of `b` (`fsgnj`). Raises nothing, changes no NaN.
#[inline]
pub fn sgnj<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::bits((a.into() & F::MAGNITUDE) | (b.into() & F::SIGN))
}

/// `a` with the opposite of `b`'s sign (`fsgnjn`).
#[inline]
pub fn sgnjn<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::bits((a.into() & F::MAGNITUDE) | (!b.into() & F::SIGN))
}

/// `a` with the exclusive or of both signs (`fsgnjx`).
#[inline]
pub fn sgnjx<F: Format>(a: F::Bits, b: F::Bits) -> F::Bits {
    F::bits(a.into() ^ (b.into() & F::SIGN))
}

/// `a` with its sign flipped, NaN or not.
///
/// The other three fused multiplications are [`fused_mul_add`] of negated
/// operands: `fmsub` negates c, `fnmsub` a, `fnmadd` a and c.
#[inline]
pub fn negate<F: Format>(a: F::Bits) -> F::Bits {
    F::bits(a.into() ^ F::SIGN)
}

fn is_nan<F: Format>(a: F::Bits) -> bool {
    a.into() & F::MAGNITUDE > F::INFINITY
}

fn is_signaling<F: Format>(a: F::Bits) -> bool {
    is_nan::<F>(a) && a.into() & F::QUIET == 0
}

fn canonical_nan<F: Format>() -> F::Bits {
    F::bits(F::INFINITY | F::QUIET)
}

/// NV if an operand is a signaling NaN (IEEE 754-2019 §7.2 a).
fn signaling_flags<F: Format>(operands: &[F::Bits]) -> Flags {
    if operands.iter().any(|&a| is_signaling::<F>(a)) {
        Flags::NV
    } else {
        Flags::NONE
    }
}

/// Order of two values; zeros are equal, NaN has no order.
fn order<F: Format>(a: F::Bits, b: F::Bits) -> Option<Ordering> {
    // A pattern is sign and magnitude, and magnitudes order as integers.
    let key = |bits: F::Bits| {
        let magnitude = (bits.into() & F::MAGNITUDE) as i64;
        if bits.into() & F::SIGN != 0 {
            -magnitude
        } else {
            magnitude
        }
    };
    if is_nan::<F>(a) || is_nan::<F>(b) {
        return None;
    }
    Some(key(a).cmp(&key(b)))
}

/// `a == b` (`feq`), quiet: NV for a signaling NaN only.
pub fn eq<F: Format>(a: F::Bits, b: F::Bits) -> (bool, Flags) {
    let equal = order::<F>(a, b) == Some(Ordering::Equal);
    (equal, signaling_flags::<F>(&[a, b]))
}

/// `a < b` (`flt`), signaling: NV for any NaN.
pub fn lt<F: Format>(a: F::Bits, b: F::Bits) -> (bool, Flags) {
    match order::<F>(a, b) {
        Some(order) => (order.is_lt(), Flags::NONE),
        None => (false, Flags::NV),
    }
}

/// `a <= b` (`fle`), signaling: NV for any NaN.
pub fn le<F: Format>(a: F::Bits, b: F::Bits) -> (bool, Flags) {
    match order::<F>(a, b) {
        Some(order) => (order.is_le(), Flags::NONE),
        None => (false, Flags::NV),
    }
}

/// The smaller number (`fmin`); a NaN loses against a number, −0 is below +0.
///
/// minimumNumber, IEEE 754-2019 §9.6: a signaling NaN raises NV and still loses.
pub fn min<F: Format>(a: F::Bits, b: F::Bits) -> (F::Bits, Flags) {
    select::<F>(a, b, Ordering::Less)
}

/// The larger number (`fmax`); a NaN loses against a number, +0 is above −0.
///
/// maximumNumber, IEEE 754-2019 §9.6: a signaling NaN raises NV and still loses.
pub fn max<F: Format>(a: F::Bits, b: F::Bits) -> (F::Bits, Flags) {
    select::<F>(a, b, Ordering::Greater)
}

/// The operand which lies on the `wanted` side of the other.
fn select<F: Format>(a: F::Bits, b: F::Bits, wanted: Ordering) -> (F::Bits, Flags) {
    let negative = |bits: F::Bits| bits.into() & F::SIGN != 0;
    let picked = match order::<F>(a, b) {
        // Equal values differ in nothing but a zero's sign.
        Some(Ordering::Equal) if negative(b).cmp(&negative(a)) == wanted => a,
        Some(Ordering::Equal) => b,
        Some(order) if order == wanted => a,
        Some(_) => b,
        None if !is_nan::<F>(a) => a,
        None if !is_nan::<F>(b) => b,
        None => canonical_nan::<F>(),
    };
    (picked, signaling_flags::<F>(&[a, b]))
}

/// The mask of `fclass`: exactly one of ten bits.
///
/// | bit | class | bit | class |
/// |---|---|---|---|
/// | 0 | −∞ | 5 | positive subnormal |
/// | 1 | negative normal | 6 | positive normal |
/// | 2 | negative subnormal | 7 | +∞ |
/// | 3 | −0 | 8 | signaling NaN |
/// | 4 | +0 | 9 | quiet NaN |
pub fn classify<F: Format>(a: F::Bits) -> u16 {
    let magnitude = a.into() & F::MAGNITUDE;
    // Counted from zero upwards; negative classes mirror the positive ones.
    let distance = if is_nan::<F>(a) {
        return if is_signaling::<F>(a) { 1 << 8 } else { 1 << 9 };
    } else if magnitude == F::INFINITY {
        3
    } else if magnitude >= F::HIDDEN {
        2
    } else if magnitude > 0 {
        1
    } else {
        0
    };
    if a.into() & F::SIGN != 0 {
        1 << (3 - distance)
    } else {
        1 << (4 + distance)
    }
}
