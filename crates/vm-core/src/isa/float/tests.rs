//! Exact expectations, one line each; random comparisons are in
//! tests/float_exact.rs.

use super::*;

/// Runs every line of `cases` on both families and compares bits and flags.
///
/// `op operands = results : flags`, in hex. Results and flags are given once
/// for all modes or five times, in the order rne rtz rdn rup rmm; flags are
/// letters of `VZOUX` or `-`.
#[track_caller]
fn check(cases: &str) {
    for line in cases.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        let (left, flags) = line.split_once(':').expect("flags");
        let (input, results) = left.split_once('=').expect("results");
        let mut input = input.split_whitespace();
        let op = input.next().expect("operation");
        let operands: Vec<u64> = input.map(hex).collect();
        let results: Vec<u64> = results.split_whitespace().map(hex).collect();
        let flags: Vec<Flags> = flags.split_whitespace().map(letters).collect();
        let pick = |index: usize, len: usize| if len == 1 { 0 } else { index };

        for (index, rm) in Rounding::ALL.into_iter().enumerate() {
            let expected = (
                results[pick(index, results.len())],
                flags[pick(index, flags.len())],
            );
            let exact = run(op, &operands, rm, None);
            assert_eq!(exact, expected, "{line} in {rm:?}: {:#x}", exact.0);
            for sticky in [Flags::NONE, Flags::NX] {
                let (bits, flags) = run(op, &operands, rm, Some(sticky));
                assert_eq!(
                    (bits, flags | sticky),
                    (expected.0, expected.1 | sticky),
                    "fast {line} in {rm:?}: {bits:#x}"
                );
            }
        }
    }
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).expect("hex digits")
}

fn letters(letters: &str) -> Flags {
    letters.chars().fold(Flags::NONE, |flags, letter| {
        flags
            | match letter {
                'V' => Flags::NV,
                'Z' => Flags::DZ,
                'O' => Flags::OF,
                'U' => Flags::UF,
                'X' => Flags::NX,
                _ => Flags::NONE,
            }
    })
}

/// The operation called `op`, in the fast family if `sticky` is given.
fn run(op: &str, operands: &[u64], rm: Rounding, sticky: Option<Flags>) -> (u64, Flags) {
    let (name, format) = op.split_once('.').expect("name.format");
    match format {
        "s" => run_in::<F32>(name, operands, rm, sticky),
        "d" => run_in::<F64>(name, operands, rm, sticky),
        _ => panic!("no format {format}"),
    }
}

fn run_in<F: Format>(
    name: &str,
    operands: &[u64],
    rm: Rounding,
    sticky: Option<Flags>,
) -> (u64, Flags) {
    let float = |n: usize| F::bits(operands[n]);
    let raw = |(bits, flags): (F::Bits, Flags)| (bits.into(), flags);
    let truth = |(value, flags): (bool, Flags)| (u64::from(value), flags);
    /// One operation, from the family asked for.
    macro_rules! family {
        ($function:ident::<$($types:ty),*>($($operand:expr),*)) => {
            match sticky {
                None => $function::<$($types),*>($($operand,)* rm),
                Some(sticky) => fast::$function::<$($types),*>($($operand,)* rm, sticky),
            }
        };
    }
    match name {
        "add" => raw(family!(add::<F>(float(0), float(1)))),
        "sub" => raw(family!(sub::<F>(float(0), float(1)))),
        "mul" => raw(family!(mul::<F>(float(0), float(1)))),
        "div" => raw(family!(div::<F>(float(0), float(1)))),
        "sqrt" => raw(family!(sqrt::<F>(float(0)))),
        "fma" => raw(family!(fused_mul_add::<F>(float(0), float(1), float(2)))),
        "min" => raw(min::<F>(float(0), float(1))),
        "max" => raw(max::<F>(float(0), float(1))),
        "eq" => truth(eq::<F>(float(0), float(1))),
        "lt" => truth(lt::<F>(float(0), float(1))),
        "le" => truth(le::<F>(float(0), float(1))),
        "class" => (u64::from(classify::<F>(float(0))), Flags::NONE),
        "sgnj" => (sgnj::<F>(float(0), float(1)).into(), Flags::NONE),
        "sgnjn" => (sgnjn::<F>(float(0), float(1)).into(), Flags::NONE),
        "sgnjx" => (sgnjx::<F>(float(0), float(1)).into(), Flags::NONE),
        "neg" => (negate::<F>(float(0)).into(), Flags::NONE),
        "w" => {
            let (value, flags) = family!(to_int::<F, i32>(float(0)));
            (u64::from(value as u32), flags)
        }
        "wu" => {
            let (value, flags) = family!(to_int::<F, u32>(float(0)));
            (u64::from(value), flags)
        }
        "l" => {
            let (value, flags) = family!(to_int::<F, i64>(float(0)));
            (value as u64, flags)
        }
        "lu" => family!(to_int::<F, u64>(float(0))),
        "from_w" => raw(family!(from_int::<F, i32>(operands[0] as i32))),
        "from_wu" => raw(family!(from_int::<F, u32>(operands[0] as u32))),
        "from_l" => raw(family!(from_int::<F, i64>(operands[0] as i64))),
        "from_lu" => raw(family!(from_int::<F, u64>(operands[0]))),
        // Named after the operand's format, as the table is read.
        "narrow" => {
            let (value, flags) = match sticky {
                None => narrow(operands[0], rm),
                Some(sticky) => fast::narrow(operands[0], rm, sticky),
            };
            (u64::from(value), flags)
        }
        "widen" => match sticky {
            None => widen(operands[0] as u32),
            Some(_) => fast::widen(operands[0] as u32),
        },
        _ => panic!("no operation {name}"),
    }
}

#[test]
fn sums_round_in_all_modes() {
    check(
        "
        # exact
        add.s 3f800000 40000000 = 40400000 : -
        sub.d 4008000000000000 3ff0000000000000 = 4000000000000000 : -
        # 1 + 2^-24 is a tie with an even lower neighbour, 1+ulp + 2^-24 with an odd one
        add.s 3f800000 33800000 = 3f800000 3f800000 3f800000 3f800001 3f800001 : X
        add.s 3f800001 33800000 = 3f800002 3f800001 3f800001 3f800002 3f800002 : X
        add.s bf800000 b3800000 = bf800000 bf800000 bf800001 bf800000 bf800001 : X
        # just above and just below the tie
        add.s 3f800000 33800001 = 3f800001 3f800000 3f800000 3f800001 3f800001 : X
        add.s 3f800000 337fffff = 3f800000 3f800000 3f800000 3f800001 3f800000 : X
        # far apart: only the jammed bit is left of the small operand
        add.d 3ff0000000000000 0000000000000001 = 3ff0000000000000 3ff0000000000000 3ff0000000000000 3ff0000000000001 3ff0000000000000 : X
        sub.d 3ff0000000000000 0000000000000001 = 3ff0000000000000 3fefffffffffffff 3fefffffffffffff 3ff0000000000000 3ff0000000000000 : X
        # x - x is -0 only when rounding down
        sub.d 3ff0000000000000 3ff0000000000000 = 0 0 8000000000000000 0 0 : -
        add.s 00000000 80000000 = 0 0 80000000 0 0 : -
        add.s 80000000 80000000 = 80000000 : -
        add.s 00000000 00000000 = 0 : -
        add.s 80000000 00000001 = 1 : -
        # subnormal sums are exact and do not underflow
        add.s 00000001 00000001 = 2 : -
        add.s 007fffff 00000001 = 800000 : -
        sub.s 00800001 00800000 = 1 : -
        sub.s 00800000 00000001 = 7fffff : -
        ",
    );
}

#[test]
fn overflow_depends_on_mode_and_sign() {
    check(
        "
        add.s 7f7fffff 7f7fffff = 7f800000 7f7fffff 7f7fffff 7f800000 7f800000 : OX
        add.s ff7fffff ff7fffff = ff800000 ff7fffff ff800000 ff7fffff ff800000 : OX
        mul.d 7fefffffffffffff 4000000000000000 = 7ff0000000000000 7fefffffffffffff 7fefffffffffffff 7ff0000000000000 7ff0000000000000 : OX
        # half an ulp above the largest overflows only where it rounds up
        add.s 7f7fffff 73000000 = 7f800000 7f7fffff 7f7fffff 7f800000 7f800000 : OX X X OX OX
        add.s 7f7fffff 72ffffff = 7f7fffff 7f7fffff 7f7fffff 7f800000 7f7fffff : X X X OX X
        narrow.s 47efffffe0000000 = 7f7fffff : -
        narrow.s 47effffff0000000 = 7f800000 7f7fffff 7f7fffff 7f800000 7f800000 : OX X X OX OX
        narrow.s 7fefffffffffffff = 7f800000 7f7fffff 7f7fffff 7f800000 7f800000 : OX
        narrow.s ffefffffffffffff = ff800000 ff7fffff ff800000 ff7fffff ff800000 : OX
        ",
    );
}

#[test]
fn underflow_needs_tiny_after_rounding_and_inexact() {
    check(
        "
        # exact subnormal results raise nothing
        mul.s 00800000 3f000000 = 400000 : -
        div.s 00800000 40000000 = 400000 : -
        # min normal × (1 - 2^-24) has 24 bits, so it is tiny in every mode, even
        # where it ends up as min normal
        mul.s 00800000 3f7fffff = 800000 7fffff 7fffff 800000 800000 : UX
        mul.s 80800000 3f7fffff = 80800000 807fffff 80800000 807fffff 80800000 : UX
        fma.s 00800000 3f7fffff 00000000 = 800000 7fffff 7fffff 800000 800000 : UX
        mul.d 0010000000000000 3fefffffffffffff = 10000000000000 fffffffffffff fffffffffffff 10000000000000 10000000000000 : UX
        fma.d 0010000000000000 3ff0000000000000 0 = 10000000000000 : -
        # min normal × (1 - 2^-26): not tiny where 24 bits round up
        narrow.s 380ffffff8000000 = 800000 7fffff 7fffff 800000 800000 : X UX UX X X
        narrow.s b80ffffff8000000 = 80800000 807fffff 80800000 807fffff 80800000 : X UX X UX X
        # min normal × (1 - 2^-25): a tie at 24 bits; to even is up, so not tiny
        narrow.s 380ffffff0000000 = 800000 7fffff 7fffff 800000 800000 : X UX UX X X
        # below that tie: tiny unless up
        narrow.s 380fffffefffffff = 800000 7fffff 7fffff 800000 800000 : UX UX UX X UX
        narrow.s b80fffffefffffff = 80800000 807fffff 80800000 807fffff 80800000 : UX UX X UX UX
        # half the smallest subnormal, and less
        narrow.s 3690000000000000 = 0 0 0 1 1 : UX
        narrow.s 3690000000000001 = 1 0 0 1 1 : UX
        narrow.s 368fffffffffffff = 0 0 0 1 0 : UX
        narrow.s b68fffffffffffff = 80000000 80000000 80000001 80000000 80000000 : UX
        narrow.s 0000000000000001 = 0 0 0 1 0 : UX
        mul.d 0000000000000001 0000000000000001 = 0 0 0 1 0 : UX
        mul.d 8000000000000001 0000000000000001 = 8000000000000000 8000000000000000 8000000000000001 8000000000000000 8000000000000000 : UX
        div.s 00000001 7f7fffff = 0 0 0 1 0 : UX
        div.s 00000001 40000000 = 0 0 0 1 1 : UX
        div.s 00000003 40000000 = 2 1 1 2 2 : UX
        ",
    );
}

#[test]
fn quotients_and_roots() {
    check(
        "
        div.d 3ff0000000000000 4008000000000000 = 3fd5555555555555 3fd5555555555555 3fd5555555555555 3fd5555555555556 3fd5555555555555 : X
        div.s 3f800000 40400000 = 3eaaaaab 3eaaaaaa 3eaaaaaa 3eaaaaab 3eaaaaab : X
        div.s 40c00000 40000000 = 40400000 : -
        div.s 3f800000 80000000 = ff800000 : Z
        div.s 00000000 80000000 = 7fc00000 : V
        div.s 00000000 c0000000 = 80000000 : -
        div.s 7f800000 80000000 = ff800000 : -
        div.s bf800000 7f800000 = 80000000 : -
        div.s ff800000 7f800000 = 7fc00000 : V
        # the largest quotient there is
        div.d 7fefffffffffffff 0000000000000001 = 7ff0000000000000 7fefffffffffffff 7fefffffffffffff 7ff0000000000000 7ff0000000000000 : OX
        sqrt.s 40800000 = 40000000 : -
        sqrt.d 4000000000000000 = 3ff6a09e667f3bcd 3ff6a09e667f3bcc 3ff6a09e667f3bcc 3ff6a09e667f3bcd 3ff6a09e667f3bcd : X
        sqrt.d 0000000000000001 = 1e60000000000000 : -
        sqrt.s 00000001 = 1a3504f3 1a3504f3 1a3504f3 1a3504f4 1a3504f3 : X
        sqrt.s 7f7fffff = 5f7fffff 5f7fffff 5f7fffff 5f800000 5f7fffff : X
        sqrt.s 80000000 = 80000000 : -
        sqrt.s 00000000 = 0 : -
        sqrt.s 80000001 = 7fc00000 : V
        sqrt.s ff800000 = 7fc00000 : V
        sqrt.s 7f800000 = 7f800000 : -
        ",
    );
}

#[test]
fn fused_rounds_once() {
    check(
        "
        # (1 + 2^-23)² - 1 - 2^-22 = 2^-46
        fma.s 3f800001 3f800001 bf800002 = 28800000 : -
        # (1 + 2^-12)² = 1 + 2^-11 + 2^-24 ties; a subnormal addend breaks the tie
        fma.s 3f800800 3f800800 00000000 = 3f801000 3f801000 3f801000 3f801001 3f801001 : X
        fma.s 3f800800 3f800800 00000001 = 3f801001 3f801000 3f801000 3f801001 3f801001 : X
        fma.s 3f800800 3f800800 80000001 = 3f801000 3f801000 3f801000 3f801001 3f801000 : X
        # product overflows, sum does not
        fma.d 7fefffffffffffff 4000000000000000 ffefffffffffffff = 7fefffffffffffff : -
        # exact cancellation, and zeros of both signs
        fma.s 40000000 40000000 c0800000 = 0 0 80000000 0 0 : -
        fma.s 80000000 3f800000 00000000 = 0 0 80000000 0 0 : -
        fma.s 80000000 3f800000 80000000 = 80000000 : -
        fma.s 80000000 3f800000 00000001 = 1 : -
        # a product far below the addend, and far above
        fma.d 0000000000000001 0000000000000001 bff0000000000000 = bff0000000000000 bfefffffffffffff bff0000000000000 bfefffffffffffff bff0000000000000 : X
        fma.d 7fe0000000000000 3ff0000000000000 8000000000000001 = 7fe0000000000000 7fdfffffffffffff 7fdfffffffffffff 7fe0000000000000 7fe0000000000000 : X
        # infinities
        fma.s 7f800000 3f800000 ff800000 = 7fc00000 : V
        fma.s 7f800000 bf800000 ff800000 = ff800000 : -
        fma.s 3f800000 3f800000 ff800000 = ff800000 : -
        # 0 × ∞ is invalid whatever is added
        fma.s 00000000 7f800000 3f800000 = 7fc00000 : V
        fma.s 7f800000 80000000 7fc00001 = 7fc00000 : V
        fma.d 7ff0000000000000 0 fff8000000000000 = 7ff8000000000000 : V
        # a NaN factor is not
        fma.s 7fc00000 00000000 7fc00001 = 7fc00000 : -
        fma.s 7fc00000 00000000 7f800001 = 7fc00000 : V
        ",
    );
}

#[test]
fn nans_are_canonical_and_signaling_ones_invalid() {
    check(
        "
        add.s 7fc12345 3f800000 = 7fc00000 : -
        add.s ffffffff 3f800000 = 7fc00000 : -
        add.s 7f800001 3f800000 = 7fc00000 : V
        add.s 7fc00000 ffbfffff = 7fc00000 : V
        add.s 7f800000 ff800000 = 7fc00000 : V
        sub.s 7f800000 7f800000 = 7fc00000 : V
        sub.s 7f800000 ff800000 = 7f800000 : -
        sub.d 3ff0000000000000 fff0000000000001 = 7ff8000000000000 : V
        mul.d 7ff0000000000000 8000000000000000 = 7ff8000000000000 : V
        mul.d fff0000000000000 c000000000000000 = 7ff0000000000000 : -
        mul.d fff8000000000001 0 = 7ff8000000000000 : -
        div.d 7ff7ffffffffffff 0 = 7ff8000000000000 : V
        sqrt.d fff8000000000000 = 7ff8000000000000 : -
        sqrt.d fff4000000000000 = 7ff8000000000000 : V
        narrow.s 7ff8000020000000 = 7fc00000 : -
        narrow.s fff0000000000001 = 7fc00000 : V
        widen.d ffc00001 = 7ff8000000000000 : -
        widen.d 7fa00000 = 7ff8000000000000 : V
        ",
    );
}

#[test]
fn comparisons() {
    check(
        "
        eq.s 00000000 80000000 = 1 : -
        eq.s 3f800000 3f800001 = 0 : -
        eq.s 7fc00000 7fc00000 = 0 : -
        eq.s 7fc00000 7f800001 = 0 : V
        lt.s 80000000 00000000 = 0 : -
        lt.s bf800000 80000001 = 1 : -
        lt.s bf800000 bf800001 = 0 : -
        lt.d fff0000000000000 7ff0000000000000 = 1 : -
        lt.d 3ff0000000000000 7ff8000000000000 = 0 : V
        le.s 00000000 80000000 = 1 : -
        le.s 3f800001 3f800000 = 0 : -
        le.s ffc00000 3f800000 = 0 : V
        min.s 00000000 80000000 = 80000000 : -
        min.s 80000000 00000000 = 80000000 : -
        max.s 00000000 80000000 = 0 : -
        max.s 80000000 00000000 = 0 : -
        min.s bf800000 3f800000 = bf800000 : -
        max.s bf800000 3f800000 = 3f800000 : -
        min.s c0000000 bf800000 = c0000000 : -
        max.s ff800000 7fc00000 = ff800000 : -
        min.s 7fc00001 40000000 = 40000000 : -
        min.s 7f800001 40000000 = 40000000 : V
        max.d 4000000000000000 7ff0000000000001 = 4000000000000000 : V
        max.d fff8000000000001 7ff8000000000002 = 7ff8000000000000 : -
        min.d fff0000000000001 7ff8000000000002 = 7ff8000000000000 : V
        ",
    );
}

#[test]
fn classes_and_signs() {
    check(
        "
        class.s ff800000 = 1 : -
        class.s ff7fffff = 2 : -
        class.s 80800000 = 2 : -
        class.s 807fffff = 4 : -
        class.s 80000000 = 8 : -
        class.s 00000000 = 10 : -
        class.s 00000001 = 20 : -
        class.s 00800000 = 40 : -
        class.s 7f7fffff = 40 : -
        class.s 7f800000 = 80 : -
        class.s 7f800001 = 100 : -
        class.s ffbfffff = 100 : -
        class.s ffc00000 = 200 : -
        class.d 000fffffffffffff = 20 : -
        class.d 0010000000000000 = 40 : -
        class.d 7ff4000000000000 = 100 : -
        class.d 7ff8000000000000 = 200 : -
        sgnj.s 3f800000 ff800001 = bf800000 : -
        sgnj.s ff800001 00000000 = 7f800001 : -
        sgnjn.s 3f800000 80000000 = 3f800000 : -
        sgnjn.s 3f800000 00000000 = bf800000 : -
        sgnjx.s bf800000 80000000 = 3f800000 : -
        sgnjx.s bf800000 00000000 = bf800000 : -
        sgnjx.d 7ff8000000000000 8000000000000000 = fff8000000000000 : -
        neg.s 7fc00000 = ffc00000 : -
        neg.d 8000000000000000 = 0 : -
        ",
    );
}

#[test]
fn floats_to_integers() {
    check(
        "
        # 2.5, -2.5, 0.5, 1.5
        w.s 40200000 = 2 2 2 3 3 : X
        w.s c0200000 = fffffffe fffffffe fffffffd fffffffe fffffffd : X
        w.d 3fe0000000000000 = 0 0 0 1 1 : X
        l.d 3ff8000000000000 = 2 1 1 2 2 : X
        w.s 80000000 = 0 : -
        lu.s 80000000 = 0 : -
        # what rounds to zero is a valid unsigned number, what rounds to -1 is not
        wu.s bf000000 = 0 : X X V X V
        lu.d bfeccccccccccccd = 0 : V X V X V
        lu.d bff0000000000000 = 0 : V
        wu.s 80000001 = 0 : X X V X X
        # edges of the ranges
        w.d 41dfffffffc00000 = 7fffffff : -
        w.d 41dfffffffe00000 = 7fffffff : V X X V V
        w.d 41e0000000000000 = 7fffffff : V
        w.d c1e0000000000000 = 80000000 : -
        w.d c1e0000000100000 = 80000000 : X X V X V
        w.d c1e0000000200000 = 80000000 : V
        wu.d 41efffffffe00000 = ffffffff : -
        wu.d 41f0000000000000 = ffffffff : V
        l.d 43dfffffffffffff = 7ffffffffffffc00 : -
        l.d 43e0000000000000 = 7fffffffffffffff : V
        l.d c3e0000000000000 = 8000000000000000 : -
        l.d c3e0000000000001 = 8000000000000000 : V
        lu.d 43efffffffffffff = fffffffffffff800 : -
        lu.d 43f0000000000000 = ffffffffffffffff : V
        lu.s 5f7fffff = ffffff0000000000 : -
        # the largest of all, infinities, NaN
        l.d 7fefffffffffffff = 7fffffffffffffff : V
        l.d ffefffffffffffff = 8000000000000000 : V
        w.s 7f800000 = 7fffffff : V
        w.s ff800000 = 80000000 : V
        wu.s ff800000 = 0 : V
        wu.s 7f800000 = ffffffff : V
        w.s ffc00000 = 7fffffff : V
        lu.s 7f800001 = ffffffffffffffff : V
        lu.d fff8000000000000 = ffffffffffffffff : V
        # tiny
        l.d 0000000000000001 = 0 0 0 1 0 : X
        l.d 8000000000000001 = 0 0 ffffffffffffffff 0 0 : X
        ",
    );
}

#[test]
fn integers_to_floats_and_between_formats() {
    check(
        "
        from_w.s 0 = 0 : -
        from_w.s ffffffff = bf800000 : -
        from_w.d 80000000 = c1e0000000000000 : -
        from_wu.d ffffffff = 41efffffffe00000 : -
        from_w.s 7fffffff = 4f000000 4effffff 4effffff 4f000000 4f000000 : X
        from_w.s 80000001 = cf000000 ceffffff cf000000 ceffffff cf000000 : X
        # 2^24 + 1 ties
        from_w.s 1000001 = 4b800000 4b800000 4b800000 4b800001 4b800001 : X
        from_l.d 7fffffffffffffff = 43e0000000000000 43dfffffffffffff 43dfffffffffffff 43e0000000000000 43e0000000000000 : X
        from_l.d 8000000000000000 = c3e0000000000000 : -
        from_lu.d ffffffffffffffff = 43f0000000000000 43efffffffffffff 43efffffffffffff 43f0000000000000 43f0000000000000 : X
        from_lu.s ffffffffffffffff = 5f800000 5f7fffff 5f7fffff 5f800000 5f800000 : X
        # between two singles: rounding to double first would make it a tie
        from_l.s 8000004000000001 = deffffff deffffff df000000 deffffff deffffff : X
        from_lu.s 8000008000000001 = 5f000001 5f000000 5f000000 5f000001 5f000001 : X
        widen.d 3f800000 = 3ff0000000000000 : -
        widen.d 00000001 = 36a0000000000000 : -
        widen.d 807fffff = b80fffffc0000000 : -
        widen.d ff800000 = fff0000000000000 : -
        widen.d 80000000 = 8000000000000000 : -
        narrow.s 3ff0000000000000 = 3f800000 : -
        narrow.s 8000000000000000 = 80000000 : -
        narrow.s 7ff0000000000000 = 7f800000 : -
        narrow.s 36a0000000000000 = 1 : -
        narrow.s 3ff0000010000000 = 3f800000 3f800000 3f800000 3f800001 3f800001 : X
        narrow.s 3ff0000030000000 = 3f800002 3f800001 3f800001 3f800002 3f800002 : X
        ",
    );
}

#[test]
fn singles_are_boxed() {
    assert_eq!(box_f32(0x3f80_0000), 0xffff_ffff_3f80_0000);
    assert_eq!(unbox_f32(0xffff_ffff_3f80_0000), 0x3f80_0000);
    assert_eq!(unbox_f32(0xffff_fffe_3f80_0000), CANONICAL_F32);
    assert_eq!(unbox_f32(0x0000_0000_3f80_0000), CANONICAL_F32);
    assert_eq!(canonical_nan::<F32>(), CANONICAL_F32);
    assert_eq!(canonical_nan::<F64>(), CANONICAL_F64);
}

#[test]
fn modes_and_flags_have_the_architected_numbers() {
    for (number, mode) in (0..).zip(Rounding::ALL) {
        assert_eq!(Rounding::from_bits(number), Some(mode));
        assert_eq!(mode as u8, number);
    }
    for reserved in [5, 6, 7, 8, 255] {
        assert_eq!(Rounding::from_bits(reserved), None);
    }
    let mut flags = Flags::NX | Flags::NV;
    assert_eq!(flags.bits(), 0x11);
    assert!(flags.contains(Flags::NV) && !flags.contains(Flags::NV | Flags::DZ));
    flags |= Flags::from_bits_truncate(0xec);
    assert_eq!(format!("{flags:?}"), "NV|DZ|OF|NX");
    assert_eq!(format!("{:?}", Flags::NONE), "none");
    assert!(Flags::default().is_empty());
}
