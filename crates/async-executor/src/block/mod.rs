//! A block: straight-line guest instructions with one entry.

mod discover;

pub(crate) use discover::{BLOCK_INSTS_MAX, End, discover, end_of, fetch};
