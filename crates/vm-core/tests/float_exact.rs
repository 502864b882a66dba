//! `isa::float` against other implementations, in all rounding modes, with flags.
//!
//! * `rustc_apfloat` for sums, products, quotients, fused products, conversions;
//! * an integer proof for square roots, which `rustc_apfloat` lacks;
//! * the host for comparisons and for the fast paths' agreement.
//!
//! Operands are all combinations of edge values, then random ones shaped so that
//! cancellation, ties and the ends of the exponent range come up often. The
//! sequence is fixed: a failure prints operands and comes back on every run.
//!
//! Where `rustc_apfloat` answers differently, on purpose, we compare this much:
//!
//! * NaN: it propagates payloads, we answer the canonical NaN. Both must be NaN.
//! * Underflow: it looks at the result in the format, so a number that rounds
//!   *to* the smallest normal number raises nothing there, while RISC-V may
//!   call it tiny. UF is not compared for that one result; the table in
//!   src/isa/float/tests.rs has its cases.
//! * Overflow: where a mode answers the largest finite number instead of an
//!   infinity it reports inexact alone, against IEEE 754-2019 §7.4. OF is not
//!   compared for that one result; the table has its cases as well.
//! * fma with a NaN operand: IEEE 754 leaves open what ∞ × 0 plus NaN raises, so
//!   flags are compared with the RISC-V rule, written out in `fused`.

use std::cmp::Ordering;
use std::fmt::Debug;

use rustc_apfloat::ieee::{Double, Single};
use rustc_apfloat::{Float, FloatConvert, Round, Status};
use vm_core::isa::float::{self, F32, F64, Flags, Format, Integer, Rounding, fast};

/// Random combinations per operation and format; each runs in all five modes.
const RANDOM_CASES: usize = 25_000;

/// A format and its counterpart in `rustc_apfloat`.
trait Reference: Format {
    type Other: Float + Debug;

    /// The host's opinion, to compare comparisons.
    fn host_order(a: Self::Bits, b: Self::Bits) -> Option<Ordering>;
}

impl Reference for F32 {
    type Other = Single;

    fn host_order(a: u32, b: u32) -> Option<Ordering> {
        f32::from_bits(a).partial_cmp(&f32::from_bits(b))
    }
}

impl Reference for F64 {
    type Other = Double;

    fn host_order(a: u64, b: u64) -> Option<Ordering> {
        f64::from_bits(a).partial_cmp(&f64::from_bits(b))
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A fraction field: random, sparse, all but all ones, or zero.
    fn fraction<F: Reference>(&mut self) -> u64 {
        let bit = |r: &mut Self| 1 << r.below(u64::from(F::FRACTION_BITS));
        let mask = F::FRACTION;
        match self.below(5) {
            0 => 0,
            1 => bit(self) | bit(self),
            2 => mask ^ bit(self),
            3 => mask << self.below(u64::from(F::FRACTION_BITS)) & mask,
            _ => self.next() & mask,
        }
    }

    /// A pattern with an exponent close to `near`'s, anywhere, or at an end.
    fn float<F: Reference>(&mut self, near: u64) -> u64 {
        let fields = F::INFINITY >> F::FRACTION_BITS;
        let field = match self.below(8) {
            0 => self.below(3),
            1 => fields - self.below(3),
            2 => self.below(fields),
            // Around one and one's neighbours, where products stay in range.
            3 => fields / 2 + self.below(8) - 4,
            // Subnormal when multiplied by something similar.
            4 => fields / 4 + self.below(64) - 32,
            _ => {
                let near = (near & F::INFINITY) >> F::FRACTION_BITS;
                let reach = u64::from(F::FRACTION_BITS) + 4;
                (near + self.below(2 * reach))
                    .saturating_sub(reach)
                    .min(fields)
            }
        };
        let sign = if self.below(2) == 0 { 0 } else { F::SIGN };
        sign | field << F::FRACTION_BITS | self.fraction::<F>()
    }

    fn integer(&mut self) -> u64 {
        let value = self.next() >> self.below(64);
        match self.below(4) {
            // Few significant bits, so that roundings tie.
            0 => value & (u64::MAX << self.below(64)),
            1 => (1_u64 << self.below(64)).wrapping_sub(self.below(3)),
            2 => value.wrapping_neg(),
            _ => value,
        }
    }
}

/// Values with a reputation, of both signs.
fn edges<F: Reference>() -> Vec<u64> {
    let one = (F::INFINITY / 2) & !F::FRACTION;
    let power = |exponent: i64| one.wrapping_add_signed(exponent << F::FRACTION_BITS);
    let mut positive = vec![
        0,
        1,
        2,
        3,
        F::QUIET,
        F::HIDDEN - 1,
        F::HIDDEN,
        F::HIDDEN + 1,
        F::HIDDEN * 2 - 1,
        F::HIDDEN * 2,
        one - 2,
        one - 1,
        one,
        one + 1,
        one + 2,
        one + F::QUIET, // 1.5
        power(1),
        power(1) + F::QUIET, // 3
        power(-1),
        power(-1) + 1,
        power(-i64::from(F::FRACTION_BITS)),
        power(-i64::from(F::FRACTION_BITS) - 1),
        power(-i64::from(F::FRACTION_BITS) - 1) + 1,
        F::INFINITY - F::HIDDEN,
        F::INFINITY - 2,
        F::INFINITY - 1,
        F::INFINITY,
        F::INFINITY + 1,               // signaling
        F::INFINITY | F::QUIET,        // canonical
        F::INFINITY | F::QUIET | 0x15, // quiet with payload
        F::INFINITY | (F::QUIET - 1),  // signaling, all ones
    ];
    // Where integers end, and where they stop having fractions.
    for exponent in [31, 32, 63, 64, i64::from(F::FRACTION_BITS)] {
        positive.extend([power(exponent) - 1, power(exponent), power(exponent) + 1]);
    }
    positive
        .iter()
        .flat_map(|&bits| [bits, bits | F::SIGN])
        .collect()
}

/// Edge values of doubles seen as singles: their ties and ends of range.
fn narrowing_edges() -> Vec<u64> {
    let halfway = 1 << 28; // of a single's last place, in a double's fraction
    let mut values = Vec::new();
    for single in edges::<F32>() {
        let (wide, _) = float::widen(single as u32);
        for offset in [0, 1, halfway - 1, halfway, halfway + 1, 2 * halfway - 1] {
            values.extend([wide.wrapping_add(offset), wide.wrapping_sub(offset)]);
        }
    }
    // Below singles: around half the smallest subnormal, 2^-150.
    for field in [0x368_u64, 0x369, 0x36a] {
        values.extend([field << 52, (field << 52) + 1, (field << 52) - 1]);
    }
    values
}

fn other_mode(rm: Rounding) -> Round {
    match rm {
        Rounding::Rne => Round::NearestTiesToEven,
        Rounding::Rtz => Round::TowardZero,
        Rounding::Rdn => Round::TowardNegative,
        Rounding::Rup => Round::TowardPositive,
        Rounding::Rmm => Round::NearestTiesToAway,
    }
}

fn flags_of(status: Status) -> Flags {
    [
        (Status::INVALID_OP, Flags::NV),
        (Status::DIV_BY_ZERO, Flags::DZ),
        (Status::OVERFLOW, Flags::OF),
        (Status::UNDERFLOW, Flags::UF),
        (Status::INEXACT, Flags::NX),
    ]
    .into_iter()
    .filter(|&(from, _)| status.contains(from))
    .fold(Flags::NONE, |flags, (_, flag)| flags | flag)
}

fn other<F: Reference>(raw: u64) -> F::Other {
    F::Other::from_bits(u128::from(raw))
}

fn is_nan<F: Reference>(raw: u64) -> bool {
    raw & F::MAGNITUDE > F::INFINITY
}

fn is_signaling<F: Reference>(raw: u64) -> bool {
    is_nan::<F>(raw) && raw & (F::QUIET) == 0
}

/// Compares one result, minus the differences listed at the top.
#[track_caller]
fn same<F: Reference>(
    case: &dyn Debug,
    ours: (F::Bits, Flags),
    theirs: rustc_apfloat::StatusAnd<impl Float>,
) {
    let (bits, mut flags) = (ours.0.into(), ours.1);
    let mut expected_flags = flags_of(theirs.status);
    let mut expected_bits = theirs.value.to_bits() as u64;
    if theirs.value.is_nan() {
        expected_bits = F::INFINITY | F::QUIET;
    }
    let uncompared = match bits & F::MAGNITUDE {
        magnitude if magnitude == F::HIDDEN => Flags::UF,
        magnitude if magnitude == F::INFINITY - 1 => Flags::OF,
        _ => Flags::NONE,
    };
    if flags.contains(Flags::NX) {
        flags |= uncompared;
        expected_flags |= uncompared;
    }
    assert!(
        (bits, flags) == (expected_bits, expected_flags),
        "{case:x?}: {bits:#x} {flags:?}, rustc_apfloat has {expected_bits:#x} {expected_flags:?}"
    );
}

/// The fast family must lead to the same state, NX raised before or not.
#[track_caller]
fn same_fast<T: PartialEq + Debug>(
    case: &dyn Debug,
    exact: (T, Flags),
    fast: impl Fn(Flags) -> (T, Flags),
) {
    for sticky in [Flags::NONE, Flags::NX] {
        let (value, flags) = fast(sticky);
        assert!(
            value == exact.0 && flags | sticky == exact.1 | sticky,
            "{case:x?}: fast {value:x?} {flags:?}, exact {exact:x?}"
        );
    }
}

/// Calls `check` on pairs: all of the edges, then random ones.
fn for_pairs<F: Reference>(seed: u64, mut check: impl FnMut(u64, u64, Rounding)) {
    let mut random = Random(seed);
    let mut all_modes = |a, b| Rounding::ALL.map(|rm| check(a, b, rm));
    let edges = edges::<F>();
    for &a in &edges {
        for &b in &edges {
            all_modes(a, b);
        }
    }
    for _ in 0..RANDOM_CASES {
        let a = random.float::<F>(edges[0]);
        all_modes(a, random.float::<F>(a));
    }
}

fn arithmetic<F: Reference>() {
    for_pairs::<F>(1, |a, b, rm| {
        let (x, y, mode) = (other::<F>(a), other::<F>(b), other_mode(rm));
        let (a, b) = (F::bits(a), F::bits(b));

        let case = ("add", a, b, rm);
        let sum = float::add::<F>(a, b, rm);
        same::<F>(&case, sum, x.add_r(y, mode));
        same_fast(&case, sum, |sticky| fast::add::<F>(a, b, rm, sticky));

        let case = ("sub", a, b, rm);
        let difference = float::sub::<F>(a, b, rm);
        same::<F>(&case, difference, x.sub_r(y, mode));
        same_fast(&case, difference, |sticky| fast::sub::<F>(a, b, rm, sticky));

        let case = ("mul", a, b, rm);
        let product = float::mul::<F>(a, b, rm);
        same::<F>(&case, product, x.mul_r(y, mode));
        same_fast(&case, product, |sticky| fast::mul::<F>(a, b, rm, sticky));

        let case = ("div", a, b, rm);
        let quotient = float::div::<F>(a, b, rm);
        same::<F>(&case, quotient, x.div_r(y, mode));
        same_fast(&case, quotient, |sticky| fast::div::<F>(a, b, rm, sticky));
    });
}

#[test]
fn arithmetic_of_singles() {
    arithmetic::<F32>();
}

#[test]
fn arithmetic_of_doubles() {
    arithmetic::<F64>();
}

fn fused<F: Reference>() {
    let check = |a: u64, b: u64, c: u64| {
        let invalid_product = {
            let magnitudes = (a & F::MAGNITUDE, b & F::MAGNITUDE);
            magnitudes == (0, F::INFINITY) || magnitudes == (F::INFINITY, 0)
        };
        for rm in Rounding::ALL {
            let case = ("fma", a, b, c, rm);
            let mut theirs = other::<F>(a).mul_add_r(other::<F>(b), other::<F>(c), other_mode(rm));
            if [a, b, c].into_iter().any(is_nan::<F>) {
                let signaling = [a, b, c].into_iter().any(is_signaling::<F>);
                theirs.status = match signaling || invalid_product {
                    true => Status::INVALID_OP,
                    false => Status::OK,
                };
                theirs.value = F::Other::qnan(None);
            }
            let [a, b, c] = [a, b, c].map(F::bits);
            let ours = float::fused_mul_add::<F>(a, b, c, rm);
            same::<F>(&case, ours, theirs);
            same_fast(&case, ours, |sticky| {
                fast::fused_mul_add::<F>(a, b, c, rm, sticky)
            });
        }
    };
    // A third of the edges: cubes grow quickly.
    let edges: Vec<u64> = edges::<F>().into_iter().step_by(3).collect();
    for &a in &edges {
        for &b in &edges {
            for &c in &edges {
                check(a, b, c);
            }
        }
    }
    let mut random = Random(2);
    for _ in 0..2 * RANDOM_CASES {
        let a = random.float::<F>(0);
        let b = random.float::<F>(a);
        // Half of the addends cancel against the product, or nearly.
        let (a_bits, b_bits) = (F::bits(a), F::bits(b));
        let (product, _) = float::mul::<F>(a_bits, b_bits, Rounding::Rne);
        let product: u64 = product.into();
        let c = match random.below(4) {
            0 => product ^ F::SIGN,
            1 => (product ^ F::SIGN)
                .wrapping_add(random.below(5))
                .wrapping_sub(2),
            _ => random.float::<F>(product),
        };
        check(a, b, c & (F::SIGN | F::MAGNITUDE));
    }
}

#[test]
fn fused_of_singles() {
    fused::<F32>();
}

#[test]
fn fused_of_doubles() {
    fused::<F64>();
}

fn to_integer<F: Reference, I>(a: u64, rm: Rounding)
where
    I: Integer + PartialEq + Debug,
{
    let (low, _) = float::to_int::<F64, I>(f64::NEG_INFINITY.to_bits(), rm);
    let (high, _) = float::to_int::<F64, I>(f64::INFINITY.to_bits(), rm);
    let width = 8 * size_of::<I>();
    let mut exact = false;
    let case = (std::any::type_name::<I>(), a, rm);
    let signed = low.into() < 0;
    let (integer, status) = if signed {
        let theirs = other::<F>(a).to_i128_r(width, other_mode(rm), &mut exact);
        (theirs.value, theirs.status)
    } else {
        let theirs = other::<F>(a).to_u128_r(width, other_mode(rm), &mut exact);
        (theirs.value as i128, theirs.status)
    };
    // Saturation is the architecture's; which values saturate is compared.
    let integer = match status {
        Status::INVALID_OP if is_nan::<F>(a) || a & F::SIGN == 0 => high.into(),
        Status::INVALID_OP => low.into(),
        _ => integer,
    };
    let a = F::bits(a);
    let ours = float::to_int::<F, I>(a, rm);
    let (value, flags) = ours;
    assert!(
        (value.into(), flags) == (integer, flags_of(status)),
        "{case:x?}: {value:?} {flags:?}, expected {integer} {status:?}"
    );
    same_fast(&case, ours, |sticky| fast::to_int::<F, I>(a, rm, sticky));
}

fn from_integer<F: Reference, I: Integer>(value: I, rm: Rounding) {
    let wide: i128 = value.into();
    let case = (std::any::type_name::<I>(), wide, rm);
    let ours = float::from_int::<F, I>(value, rm);
    let theirs = F::Other::from_i128_r(wide, other_mode(rm));
    same::<F>(&case, ours, theirs);
    same_fast(&case, ours, |sticky| {
        fast::from_int::<F, I>(value, rm, sticky)
    });
}

fn integers<F: Reference>() {
    let mut random = Random(3);
    let one = F::INFINITY / 2;
    let mut floats = edges::<F>();
    for _ in 0..RANDOM_CASES {
        // From 1/16 to 2^70.
        let near_integers = one + (random.below(75) << F::FRACTION_BITS);
        let anywhere = random.float::<F>(near_integers);
        let field = near_integers.wrapping_sub(4 << F::FRACTION_BITS) & F::INFINITY;
        floats.extend([anywhere, (anywhere & !F::INFINITY) | field]);
    }
    for &a in &floats {
        for rm in Rounding::ALL {
            to_integer::<F, i32>(a, rm);
            to_integer::<F, u32>(a, rm);
            to_integer::<F, i64>(a, rm);
            to_integer::<F, u64>(a, rm);
        }
    }
    for _ in 0..RANDOM_CASES {
        let value = random.integer();
        for rm in Rounding::ALL {
            from_integer::<F, i32>(value as i32, rm);
            from_integer::<F, u32>(value as u32, rm);
            from_integer::<F, i64>(value as i64, rm);
            from_integer::<F, u64>(value, rm);
        }
    }
}

#[test]
fn integers_and_singles() {
    integers::<F32>();
}

#[test]
fn integers_and_doubles() {
    integers::<F64>();
}

#[test]
fn between_formats() {
    let mut random = Random(4);
    let mut doubles = edges::<F64>();
    doubles.extend(narrowing_edges());
    for _ in 0..4 * RANDOM_CASES {
        // Half of them within the range of singles and its neighbourhood.
        let (near, _) = float::widen(random.float::<F32>(0) as u32);
        let low_bits = random.fraction::<F64>() & 0x3fff_ffff;
        doubles.extend([random.float::<F64>(near), near ^ low_bits]);
    }
    for &a in &doubles {
        for rm in Rounding::ALL {
            let case = ("narrow", a, rm);
            let mut loses = false;
            let theirs = FloatConvert::<Single>::convert_r(
                Double::from_bits(u128::from(a)),
                other_mode(rm),
                &mut loses,
            );
            let ours = float::narrow(a, rm);
            same::<F32>(&case, ours, theirs);
            same_fast(&case, ours, |sticky| fast::narrow(a, rm, sticky));
        }
    }
    let mut singles = edges::<F32>();
    singles.extend((0..RANDOM_CASES).map(|_| random.float::<F32>(0)));
    for &a in &singles {
        let case = ("widen", a);
        let mut loses = false;
        let theirs = FloatConvert::<Double>::convert_r(
            Single::from_bits(u128::from(a)),
            Round::NearestTiesToEven,
            &mut loses,
        );
        let ours = float::widen(a as u32);
        same::<F64>(&case, ours, theirs);
        same_fast(&case, ours, |_| fast::widen(a as u32));
    }
}

/// Checks a root without computing one: `r ≤ √a < r + ulp`, in integers.
fn root<F: Reference>(a: u64) {
    // a = sig × 2^exp for a positive finite a.
    let split = |bits: u64| {
        let field = (bits >> F::FRACTION_BITS) as i32;
        let fraction = bits & F::FRACTION;
        match field {
            0 => (u128::from(fraction), 1),
            _ => (u128::from(fraction | F::HIDDEN), field),
        }
    };
    let bias = (F::INFINITY >> F::FRACTION_BITS) as i32 / 2 + F::FRACTION_BITS as i32;

    let (down, flags) = float::sqrt::<F>(F::bits(a), Rounding::Rtz);
    let down: u64 = down.into();
    let (root_sig, root_field) = split(down);
    let (sig, field) = split(a);
    // Both in units of the root's last place squared.
    let shift = (field - bias) - 2 * (root_field - bias);
    let square = sig << shift;
    assert_eq!(square >> shift, sig, "fits");
    assert!(root_sig * root_sig <= square, "sqrt {a:#x} above");
    assert!(
        (root_sig + 1) * (root_sig + 1) > square,
        "sqrt {a:#x} below"
    );

    let exact = root_sig * root_sig == square;
    let expected_flags = if exact { Flags::NONE } else { Flags::NX };
    assert_eq!(flags, expected_flags, "sqrt {a:#x}");
    // √a is no tie: it would need one bit more than r, its square twice as many
    // as a has.
    let above_half = 4 * square > (2 * root_sig + 1) * (2 * root_sig + 1);
    for rm in Rounding::ALL {
        let up = match rm {
            Rounding::Rne | Rounding::Rmm => above_half,
            Rounding::Rtz | Rounding::Rdn => false,
            Rounding::Rup => !exact,
        };
        let expected = down + u64::from(up);
        let (bits, flags) = float::sqrt::<F>(F::bits(a), rm);
        let bits: u64 = bits.into();
        assert_eq!(
            (bits, flags),
            (expected, expected_flags),
            "sqrt {a:#x} {rm:?}"
        );
    }
}

fn roots<F: Reference>() {
    let mut random = Random(5);
    let mut values = edges::<F>();
    for _ in 0..2 * RANDOM_CASES {
        // Half of them squares, or next to one.
        let a = random.float::<F>(0);
        let short = F::bits(a & !((1 << (F::FRACTION_BITS / 2 + 1)) - 1));
        let (square, _) = float::mul::<F>(short, short, Rounding::Rne);
        let square: u64 = square.into();
        let beside = square.wrapping_add(random.below(3)).wrapping_sub(1);
        values.extend([a, beside & (F::SIGN | F::MAGNITUDE)]);
    }
    for a in values {
        if a > 0 && a < F::INFINITY {
            root::<F>(a);
        }
        let a = F::bits(a);
        for rm in Rounding::ALL {
            let case = ("sqrt", a, rm);
            same_fast(&case, float::sqrt::<F>(a, rm), |sticky| {
                fast::sqrt::<F>(a, rm, sticky)
            });
        }
    }
}

#[test]
fn roots_of_singles() {
    roots::<F32>();
}

#[test]
fn roots_of_doubles() {
    roots::<F64>();
}

fn comparisons<F: Reference>() {
    for_pairs::<F>(6, |a, b, _| {
        let signaling = match is_signaling::<F>(a) || is_signaling::<F>(b) {
            true => Flags::NV,
            false => Flags::NONE,
        };
        let (x, y) = (F::bits(a), F::bits(b));
        let order = F::host_order(x, y);
        let ordered = match order {
            Some(_) => Flags::NONE,
            None => Flags::NV,
        };
        let case = (a, b);
        let is = |wanted: fn(Ordering) -> bool| order.is_some_and(wanted);
        assert_eq!(
            float::eq::<F>(x, y),
            (is(Ordering::is_eq), signaling),
            "{case:x?}"
        );
        assert_eq!(
            float::lt::<F>(x, y),
            (is(Ordering::is_lt), ordered),
            "{case:x?}"
        );
        assert_eq!(
            float::le::<F>(x, y),
            (is(Ordering::is_le), ordered),
            "{case:x?}"
        );

        // The smaller and the larger one, a negative zero being the smaller.
        let negative = |bits: u64| bits & F::SIGN != 0;
        let (low, high) = match order {
            Some(Ordering::Less) => (a, b),
            Some(Ordering::Greater) => (b, a),
            Some(Ordering::Equal) if negative(a) => (a, b),
            Some(Ordering::Equal) => (b, a),
            None if !is_nan::<F>(a) => (a, a),
            None if !is_nan::<F>(b) => (b, b),
            None => ((F::INFINITY | F::QUIET), (F::INFINITY | F::QUIET)),
        };
        assert_eq!(
            float::min::<F>(x, y),
            (F::bits(low), signaling),
            "{case:x?}"
        );
        assert_eq!(
            float::max::<F>(x, y),
            (F::bits(high), signaling),
            "{case:x?}"
        );
    });
}

#[test]
fn comparisons_of_singles() {
    comparisons::<F32>();
}

#[test]
fn comparisons_of_doubles() {
    comparisons::<F64>();
}
