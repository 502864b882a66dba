//! The same operations through the host's floating-point unit where that is
//! provably the same.
//!
//! The idea is QEMU's "hardfloat" (fpu/softfloat.c; E. G. Cota and L. P.
//! Carloni, "Cross-ISA Machine Instrumentation using Fast and Scalable Dynamic
//! Binary Translation", VEE 2019): reading the host's flags costs more than the
//! operation, but most programs set NX once and never look again. With NX
//! already raised and the default rounding mode, a result that cannot overflow,
//! underflow or be invalid needs no flags at all. Here results that are cheaply
//! seen to be exact take the same way, in every mode and without NX.
//!
//! Every function takes `sticky`, the current fflags, and answers flags with
//! this promise only: `sticky | flags` is what the function of the same name in
//! [`float`](super) would leave behind. The result bits are always the same.
//!
//! Two things are assumed of the host: Rust's own floating-point environment
//! (round to nearest, subnormals kept), so an engine that runs guest code with
//! other MXCSR contents restores the default before it calls here; and nothing
//! about NaNs, since no host NaN is ever returned.

use super::layout::HostFloat;
use super::{Flags, Format, Integer, Rounding};

/// Whether the host's rounding is the wanted one and its NX needs no report.
#[inline]
fn rounds_like_host(rm: Rounding, sticky: Flags) -> bool {
    rm == Rounding::Rne && sticky.contains(Flags::NX)
}

/// Whether a rounded result excludes overflow, underflow and invalid operands.
///
/// The smallest normal number itself is left out: it may have been tiny before
/// its rounding. NaN fails both comparisons.
#[inline]
fn is_safe<H: HostFloat>(result: H) -> bool {
    let magnitude = result.abs();
    magnitude > H::MIN_NORMAL && magnitude < H::INFINITY
}

/// `a + b`, as [`float::add`](super::add).
#[inline]
pub fn add<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    match host_sum(F::to_host(a), F::to_host(b), rm, sticky) {
        Some(sum) => (F::from_host(sum), Flags::NONE),
        None => super::add::<F>(a, b, rm),
    }
}

/// `a - b`, as [`float::sub`](super::sub).
#[inline]
pub fn sub<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    match host_sum(F::to_host(a), -F::to_host(b), rm, sticky) {
        Some(sum) => (F::from_host(sum), Flags::NONE),
        None => super::sub::<F>(a, b, rm),
    }
}

/// A finite sum needs no lower bound: when it is subnormal or zero it is exact
/// (Hauser, "Handling Floating-Point Exceptions in Numeric Programs", 1996).
#[inline]
fn host_sum<H: HostFloat>(x: H, y: H, rm: Rounding, sticky: Flags) -> Option<H> {
    let sum = x + y;
    let finite = sum.abs() < H::INFINITY; // and no NaN
    if !finite || rounds_like_host(rm, sticky) {
        return finite.then_some(sum);
    }
    // 2Sum (Knuth, TAOCP 2, §4.2.2, theorem B): the error of the sum is itself
    // a number. NaN, and the overflow 2Sum may run into, are not equal to zero.
    let y_part = sum - x;
    let x_part = sum - y_part;
    let error = (x - x_part) + (y - y_part);
    // The sign of a zero sum depends on the mode.
    (error == H::ZERO && (sum != H::ZERO || rm == Rounding::Rne)).then_some(sum)
}

/// `a * b`, as [`float::mul`](super::mul).
#[inline]
pub fn mul<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    let (x, y) = (F::to_host(a), F::to_host(b));
    let product = x * y;
    let usable = if rounds_like_host(rm, sticky) {
        is_safe(product)
    } else {
        // The error of a product is a number, unless it underflows.
        is_safe(product)
            && product.abs() > F::Host::RESIDUE_MIN
            && x.mul_add(y, -product) == F::Host::ZERO
    };
    // Zero times finite is exact; zero times infinity is not equal to zero.
    let exact_zero = product == F::Host::ZERO && (x == F::Host::ZERO || y == F::Host::ZERO);
    if usable || exact_zero {
        return (F::from_host(product), Flags::NONE);
    }
    super::mul::<F>(a, b, rm)
}

/// `a / b`, as [`float::div`](super::div).
#[inline]
pub fn div<F: Format>(a: F::Bits, b: F::Bits, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    let (x, y) = (F::to_host(a), F::to_host(b));
    let quotient = x / y;
    // A quotient by infinity is zero, by zero infinite: both unsafe.
    let usable = is_safe(quotient)
        && (rounds_like_host(rm, sticky)
            || (x.abs() > F::Host::RESIDUE_MIN && quotient.mul_add(y, -x) == F::Host::ZERO));
    if usable {
        return (F::from_host(quotient), Flags::NONE);
    }
    super::div::<F>(a, b, rm)
}

/// Square root, as [`float::sqrt`](super::sqrt).
#[inline]
pub fn sqrt<F: Format>(a: F::Bits, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    let x = F::to_host(a);
    let root = x.sqrt();
    let usable = is_safe(root)
        && (rounds_like_host(rm, sticky)
            || (x > F::Host::RESIDUE_MIN && root.mul_add(root, -x) == F::Host::ZERO));
    if usable {
        return (F::from_host(root), Flags::NONE);
    }
    super::sqrt::<F>(a, rm)
}

/// `a * b + c`, as [`float::fused_mul_add`](super::fused_mul_add).
#[inline]
pub fn fused_mul_add<F: Format>(
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    rm: Rounding,
    sticky: Flags,
) -> (F::Bits, Flags) {
    // Exactness is not cheap to see here: the error of a fused operation takes
    // two numbers.
    if rounds_like_host(rm, sticky) {
        let result = F::to_host(a).mul_add(F::to_host(b), F::to_host(c));
        if is_safe(result) {
            return (F::from_host(result), Flags::NONE);
        }
    }
    super::fused_mul_add::<F>(a, b, c, rm)
}

/// A float as an integer, as [`float::to_int`](super::to_int).
///
/// The host truncates, whatever its rounding mode: that serves integers in all
/// modes, and fractions when the mode is towards zero, as in C.
#[inline]
pub fn to_int<F: Format, I: Integer>(a: F::Bits, rm: Rounding, sticky: Flags) -> (I, Flags) {
    let x = F::to_host(a);
    if x.abs() < F::Host::TWO_62 {
        let whole = x.to_i64();
        let exact = F::Host::from_i64(whole) == x;
        if (exact || (rm == Rounding::Rtz && sticky.contains(Flags::NX)))
            && let Ok(integer) = I::try_from(whole)
        {
            return (integer, Flags::NONE);
        }
    }
    super::to_int::<F, I>(a, rm)
}

/// An integer as a float, as [`float::from_int`](super::from_int).
#[inline]
pub fn from_int<F: Format, I: Integer>(value: I, rm: Rounding, sticky: Flags) -> (F::Bits, Flags) {
    let wide: i128 = value.into();
    if let Ok(integer) = i64::try_from(wide)
        && (integer.unsigned_abs() <= 1 << F::PRECISION || rounds_like_host(rm, sticky))
    {
        return (F::from_host(F::Host::from_i64(integer)), Flags::NONE);
    }
    super::from_int::<F, I>(value, rm)
}

/// A double as a single, as [`float::narrow`](super::narrow).
#[inline]
pub fn narrow(a: u64, rm: Rounding, sticky: Flags) -> (u32, Flags) {
    let wide = f64::from_bits(a);
    let result = wide as f32;
    if is_safe(result) && (f64::from(result) == wide || rounds_like_host(rm, sticky)) {
        return (result.to_bits(), Flags::NONE);
    }
    super::narrow(a, rm)
}

/// A single as a double, as [`float::widen`](super::widen).
#[inline]
pub fn widen(a: u32) -> (u64, Flags) {
    let x = f32::from_bits(a);
    if x.is_nan() {
        return super::widen(a);
    }
    (f64::from(x).to_bits(), Flags::NONE)
}
