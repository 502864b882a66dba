//! Integer operations as functions of values: RV64I, Zba, Zbb, Zbs, Zicond.
//!
//! Operations that `u64` has by name (`wrapping_add`, `swap_bytes`, …) are not
//! repeated here. Shifts take their amount modulo the width, as the ISA does;
//! `wrapping_shl` and its kin do the same.

/// The low word, sign-extended: what every `*w` instruction leaves.
#[inline(always)]
pub(super) const fn sext32(value: u64) -> u64 {
    value as u32 as i32 as i64 as u64
}

/// The low word, zero-extended: the operand of every `*.uw` instruction.
#[inline(always)]
pub(super) const fn zext32(value: u64) -> u64 {
    value as u32 as u64
}

/// A 32-bit operation on the low words, its result sign-extended.
#[inline(always)]
pub(super) fn word(a: u64, b: u64, op: impl FnOnce(u32, u32) -> u32) -> u64 {
    sext32(u64::from(op(a as u32, b as u32)))
}

#[inline(always)]
pub(super) const fn slt(a: u64, b: u64) -> u64 {
    (a.cast_signed() < b.cast_signed()) as u64
}

#[inline(always)]
pub(super) const fn sltu(a: u64, b: u64) -> u64 {
    (a < b) as u64
}

#[inline(always)]
pub(super) const fn sll(a: u64, b: u64) -> u64 {
    a.wrapping_shl(b as u32)
}

#[inline(always)]
pub(super) const fn srl(a: u64, b: u64) -> u64 {
    a.wrapping_shr(b as u32)
}

#[inline(always)]
pub(super) const fn sra(a: u64, b: u64) -> u64 {
    a.cast_signed().wrapping_shr(b as u32).cast_unsigned()
}

#[inline(always)]
pub(super) const fn sraw(a: u32, b: u32) -> u32 {
    a.cast_signed().wrapping_shr(b).cast_unsigned()
}

/// `(a << N) + b`, of `sh1add` to `sh3add`.
#[inline(always)]
pub(super) const fn shadd<const N: u32>(a: u64, b: u64) -> u64 {
    (a << N).wrapping_add(b)
}

#[inline(always)]
pub(super) const fn max(a: u64, b: u64) -> u64 {
    if a.cast_signed() > b.cast_signed() {
        a
    } else {
        b
    }
}

#[inline(always)]
pub(super) const fn min(a: u64, b: u64) -> u64 {
    if a.cast_signed() < b.cast_signed() {
        a
    } else {
        b
    }
}

#[inline(always)]
pub(super) const fn rol(a: u64, b: u64) -> u64 {
    a.rotate_left(b as u32 & 63)
}

#[inline(always)]
pub(super) const fn ror(a: u64, b: u64) -> u64 {
    a.rotate_right(b as u32 & 63)
}

/// Every byte that is not zero becomes 0xff.
#[inline(always)]
pub(super) const fn orc_b(a: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // Bit 7 of each byte: whether the byte has any bit. No carry leaves a byte.
    let any = (((a & LOW) + LOW) | a) & !LOW;
    (any >> 7) * 0xff
}

/// One bit, at `b` modulo 64.
#[inline(always)]
pub(super) const fn bit(b: u64) -> u64 {
    1 << (b & 63)
}

#[inline(always)]
pub(super) const fn bext(a: u64, b: u64) -> u64 {
    srl(a, b) & 1
}

#[inline(always)]
pub(super) const fn czero_eqz(a: u64, b: u64) -> u64 {
    if b == 0 { 0 } else { a }
}

#[inline(always)]
pub(super) const fn czero_nez(a: u64, b: u64) -> u64 {
    if b != 0 { 0 } else { a }
}

/// Nibble `i` is the nibble of `a` that nibble `i` of `b` numbers.
pub(super) fn xperm4(a: u64, b: u64) -> u64 {
    (0..16).fold(0, |out, i| {
        let chosen = (b >> (4 * i)) & 15;
        out | ((a >> (4 * chosen)) & 15) << (4 * i)
    })
}

/// Byte `i` is the byte of `a` that byte `i` of `b` numbers, 0 if there is
/// none.
pub(super) fn xperm8(a: u64, b: u64) -> u64 {
    (0..8).fold(0, |out, i| {
        let chosen = (b >> (8 * i)) & 255;
        let byte = if chosen < 8 {
            (a >> (8 * chosen)) & 255
        } else {
            0
        };
        out | byte << (8 * i)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orc_b_looks_at_each_byte_alone() {
        assert_eq!(orc_b(0), 0);
        assert_eq!(orc_b(u64::MAX), u64::MAX);
        assert_eq!(orc_b(0x0100_8000_0000_00ff), 0xff00_ff00_0000_00ff);
        for byte in 0..=255_u64 {
            let expected = if byte == 0 { 0 } else { 0xff };
            assert_eq!(orc_b(byte << 8), expected << 8);
        }
    }
}
