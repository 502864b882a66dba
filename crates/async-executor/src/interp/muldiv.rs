//! Multiplication and division (M), and the carry-less product (Zbc).
//!
//! Division never traps: by zero the quotient has all bits set and the
//! remainder is the dividend; the one signed overflow wraps (Volume I,
//! "Division Operations", table of results).

#[inline(always)]
pub(super) const fn mulh(a: u64, b: u64) -> u64 {
    ((a.cast_signed() as i128 * b.cast_signed() as i128) >> 64) as u64
}

#[inline(always)]
pub(super) const fn mulhsu(a: u64, b: u64) -> u64 {
    // The unsigned factor fits the signed product with a bit to spare.
    (a.cast_signed() as i128)
        .wrapping_mul(b as i128)
        .wrapping_shr(64) as u64
}

#[inline(always)]
pub(super) const fn mulhu(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// The four divisions for one width.
macro_rules! divisions {
    ($Unsigned:ident: $div:ident $divu:ident $rem:ident $remu:ident) => {
        #[inline(always)]
        pub(super) const fn $div(a: $Unsigned, b: $Unsigned) -> $Unsigned {
            match b {
                0 => $Unsigned::MAX,
                _ => a
                    .cast_signed()
                    .wrapping_div(b.cast_signed())
                    .cast_unsigned(),
            }
        }

        #[inline(always)]
        pub(super) const fn $divu(a: $Unsigned, b: $Unsigned) -> $Unsigned {
            match b {
                0 => $Unsigned::MAX,
                _ => a / b,
            }
        }

        #[inline(always)]
        pub(super) const fn $rem(a: $Unsigned, b: $Unsigned) -> $Unsigned {
            match b {
                0 => a,
                _ => a
                    .cast_signed()
                    .wrapping_rem(b.cast_signed())
                    .cast_unsigned(),
            }
        }

        #[inline(always)]
        pub(super) const fn $remu(a: $Unsigned, b: $Unsigned) -> $Unsigned {
            match b {
                0 => a,
                _ => a % b,
            }
        }
    };
}
divisions!(u64: div divu rem remu);
divisions!(u32: divw divuw remw remuw);

/// All 127 bits of the carry-less product.
#[inline(never)]
const fn carryless(a: u64, b: u64) -> u128 {
    let mut product = 0;
    let mut rest = b;
    while rest != 0 {
        product ^= (a as u128) << rest.trailing_zeros();
        rest &= rest - 1;
    }
    product
}

pub(super) const fn clmul(a: u64, b: u64) -> u64 {
    carryless(a, b) as u64
}

pub(super) const fn clmulh(a: u64, b: u64) -> u64 {
    (carryless(a, b) >> 64) as u64
}

pub(super) const fn clmulr(a: u64, b: u64) -> u64 {
    (carryless(a, b) >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_has_the_results_of_the_manuals_table() {
        let min = i64::MIN.cast_unsigned();
        assert_eq!((div(7, 0), rem(7, 0)), (u64::MAX, 7));
        assert_eq!((divu(7, 0), remu(7, 0)), (u64::MAX, 7));
        assert_eq!((div(min, u64::MAX), rem(min, u64::MAX)), (min, 0));
        assert_eq!(
            (divw(1 << 31, u32::MAX), remw(1 << 31, u32::MAX)),
            (1 << 31, 0)
        );
    }

    #[test]
    fn high_products_differ_by_sign() {
        let minus = u64::MAX;
        assert_eq!(mulh(minus, minus), 0);
        assert_eq!(mulhu(minus, minus), minus - 1);
        assert_eq!(mulhsu(minus, minus), minus);
        assert_eq!(mulhsu(1 << 63, minus), 1 << 63);
    }

    #[test]
    fn carryless_products_agree_with_each_other() {
        let (a, b) = (0xdead_beef_0123_4567, 0x8000_0000_0000_0003);
        assert_eq!(clmul(3, 3), 5);
        assert_eq!(clmulr(a, b), clmulh(a, b) << 1 | clmul(a, b) >> 63);
    }
}
