//! Programs on disk: from ELF bytes to guest memory that a hart can run.
//!
//! ```text
//!   bytes ──ElfImage::parse──> ElfImage ──load──> Loaded ──build_stack──> sp
//!                              (checked)          (mapped)
//! ```
//!
//! What runs: little-endian ELF64 for RISC-V, linked statically, at fixed
//! addresses (`ET_EXEC`) or position-independent (`ET_DYN` without an
//! interpreter). Not here: dynamic linking, relocation (a static PIE relocates
//! itself), reading files.
//!
//! The file is hostile until parsed. Rules of this module:
//!
//! - Every byte is read through a bounds check, every sum is checked, every
//!   count has a limit; no input makes it panic, recurse, or allocate more
//!   than a small multiple of the file's size.
//! - What [`ElfImage`] says about segments is true of the file it came from;
//!   [`load`] checks again what depends on the bytes it is handed.
//! - What only the guest itself reads (`PT_TLS`, `PT_GNU_RELRO`, `PT_PHDR`) is
//!   noted and not checked: a lie there harms the guest alone.
//!
//! ```
//! use vm_core::elf::{ElfError, ElfImage};
//!
//! // What cannot run is refused with a reason that names the way out.
//! let refused = ElfImage::parse(b"#!/bin/sh\n").unwrap_err();
//! assert!(matches!(refused, ElfError::NotElf { .. }));
//! ```

mod error;
mod load;
mod parse;
mod stack;
mod symbols;

pub use error::{ElfError, StackError};
pub use load::{DEFAULT_PIE_BASE, Loaded, load};
pub use parse::{ElfImage, ElfKind, MemoryRange, PROGRAM_HEADER_BYTES, SEGMENT_COUNT_MAX, Segment};
pub use stack::{
    ARGUMENT_BYTES_MAX, DEFAULT_STACK_BYTES, DEFAULT_STACK_TOP, HWCAP_RV64GC, Ids, STACK_BYTES_MIN,
    STRING_BYTES_MAX, StackParams, auxv, build_stack,
};
pub use symbols::{SYMBOL_COUNT_MAX, Symbol, Symbols};

/// The little-endian integer at `at` of a header; `at` is a constant offset
/// inside it.
fn le16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

/// As [`le16`], four bytes.
fn le32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from(le16(header, at)) | u32::from(le16(header, at + 2)) << 16
}

/// As [`le16`], eight bytes.
fn le64<const N: usize>(header: &[u8; N], at: usize) -> u64 {
    u64::from(le32(header, at)) | u64::from(le32(header, at + 4)) << 32
}

/// `bytes` of the file from `offset` on, `None` where they are not all there.
fn slice(file: &[u8], offset: u64, bytes: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(bytes)?).ok()?;
    file.get(start..end)
}
