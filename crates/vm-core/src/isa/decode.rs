//! Words to instructions: `u32 → Result<Decoded, DecodeError>`.
//!
//! Rows are found by opcode and funct3: 256 buckets, computed when the crate
//! is compiled; the few rows of a bucket are tried in order. Decoding never
//! allocates.

use super::compressed;
use super::inst::{Inst, TABLE};
use crate::error::DecodeError;

/// An instruction and the bytes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decoded {
    /// The instruction; a compressed one expanded.
    pub inst: Inst,
    /// Length in bytes: 2 or 4.
    pub len: u8,
}

/// Decodes the instruction at the start of `bits`, whose low half comes first
/// in memory. Only the low half is looked at when it is a compressed form.
///
/// # Errors
/// [`DecodeError`] for a reserved, custom or unsupported encoding.
#[inline]
pub fn decode(bits: u32) -> Result<Decoded, DecodeError> {
    if bits & 3 == 3 {
        match decode32(bits) {
            Some(inst) => Ok(Decoded { inst, len: 4 }),
            None => Err(DecodeError { bits, len: 4 }),
        }
    } else {
        let half = (bits & 0xffff) as u16;
        match compressed::expand(half) {
            Some(inst) => Ok(Decoded { inst, len: 2 }),
            None => Err(DecodeError {
                bits: u32::from(half),
                len: 2,
            }),
        }
    }
}

fn decode32(w: u32) -> Option<Inst> {
    let bucket = bucket_of(w);
    let rows = &ORDER[START[bucket] as usize..START[bucket + 1] as usize];
    let row = rows
        .iter()
        .map(|&i| &TABLE[usize::from(i)])
        .find(|row| w & row.mask == row.matches)?;
    Inst::with_operands(row.op, w)
}

const fn bucket_of(w: u32) -> usize {
    // Opcode bits 2..=6, funct3 above them.
    (((w >> 2) & 31) | ((w >> 12) & 7) << 5) as usize
}

const fn in_bucket(row: usize, bucket: usize) -> bool {
    let selector = TABLE_BITS[row].1 & 0x707c;
    let w = (((bucket as u32) & 31) << 2) | (((bucket as u32) >> 5) << 12);
    w & selector == TABLE_BITS[row].0 & selector
}

// `TABLE` is a static, which constants cannot read: its bits once more.
macro_rules! bits_of_rows {
    ($($method:ident $Variant:ident $mnemonic:literal $Format:ident $match:literal $mask:literal $ext:ident $semantics:literal;)*) => {
        const TABLE_BITS: &[(u32, u32)] = &[$(($match, $mask),)*];
    };
}
super::table::for_each_inst!(bits_of_rows);

const ENTRY_COUNT: usize = {
    let mut n = 0;
    let mut bucket = 0;
    while bucket < 256 {
        let mut row = 0;
        while row < TABLE_BITS.len() {
            if in_bucket(row, bucket) {
                n += 1;
            }
            row += 1;
        }
        bucket += 1;
    }
    n
};

// Row numbers, bucket after bucket, and where each bucket starts.
static ORDER: [u8; ENTRY_COUNT] = INDEX.0;
static START: [u16; 257] = INDEX.1;

const INDEX: ([u8; ENTRY_COUNT], [u16; 257]) = {
    let mut order = [0; ENTRY_COUNT];
    let mut start = [0; 257];
    let mut n = 0;
    let mut bucket = 0;
    while bucket < 256 {
        let mut row = 0;
        while row < TABLE_BITS.len() {
            if in_bucket(row, bucket) {
                order[n] = row as u8;
                n += 1;
            }
            row += 1;
        }
        bucket += 1;
        start[bucket] = n as u16;
    }
    (order, start)
};
