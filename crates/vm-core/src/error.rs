//! Errors of this crate, one type per family of operations. Each keeps its
//! operands and says what to do next.

use std::fmt;

use crate::addr::GuestAddr;
use crate::mem::PROCESS_RUNS_MAX;

/// A word that is no instruction of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The bits; of a compressed form only the low 16 count.
    pub bits: u32,
    /// Bytes that the encoding takes, judged by its low bits: 2 or 4.
    pub len: u8,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.len) * 2;
        write!(
            f,
            "{:#0width$x} is no RV64GC, Zba, Zbb, Zbc, Zbs, Zbkx or Zicond instruction",
            self.bits,
            width = digits + 2
        )
    }
}

impl std::error::Error for DecodeError {}

/// Why guest memory could not be set up or changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum MemoryError {
    /// The host gave no address space or memory.
    Host {
        /// What was being done.
        operation: &'static str,
        /// How many bytes it was for.
        bytes: u64,
        /// What the host said.
        source: std::io::Error,
    },
    /// Address or length is not a multiple of the page size.
    Unaligned {
        /// First byte of the range.
        start: GuestAddr,
        /// Its length.
        bytes: u64,
    },
    /// The range lies outside what guests can map.
    OutOfSpace {
        /// First byte of the range.
        start: GuestAddr,
        /// Its length.
        bytes: u64,
    },
    /// The range holds pages that are not mapped.
    NotMapped {
        /// First byte of the range.
        start: GuestAddr,
        /// Its length.
        bytes: u64,
    },
    /// No gap is large enough.
    NoGap {
        /// Length asked for.
        bytes: u64,
    },
    /// The memory limit would be exceeded.
    Limit {
        /// Bytes asked for beyond those mapped.
        bytes: u64,
        /// Bytes mapped already.
        mapped_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Pages of different permissions would alternate too often.
    Runs {
        /// Most runs of pages with the same permissions, of one address space
        /// or of all in the process.
        limit: usize,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryError::Host {
                operation,
                bytes,
                source,
            } => write!(
                f,
                "the host refused to {operation} {bytes} bytes: {source}; raise the limits of address space and data (ulimit -v, -d) or free memory"
            ),
            MemoryError::Unaligned { start, bytes } => {
                write!(
                    f,
                    "{bytes:#x} bytes at {start} are not whole pages of 0x1000 bytes"
                )
            }
            MemoryError::OutOfSpace { start, bytes } => write!(
                f,
                "{bytes:#x} bytes at {start} reach outside 0x10000..0xfff00000, where guests can map"
            ),
            MemoryError::NotMapped { start, bytes } => {
                write!(f, "{bytes:#x} bytes at {start} are not all mapped")
            }
            MemoryError::NoGap { bytes } => {
                write!(f, "no gap of {bytes:#x} bytes is left in the guest's 4 GiB")
            }
            MemoryError::Limit {
                bytes,
                mapped_bytes,
                limit_bytes,
            } => write!(
                f,
                "{bytes} more bytes than the {mapped_bytes} mapped exceed the memory limit of {limit_bytes}; raise it (hartloom: --memory)"
            ),
            MemoryError::Runs {
                limit: PROCESS_RUNS_MAX,
            } => write!(
                f,
                "all guests of the process together have more than {PROCESS_RUNS_MAX} runs of pages with the same permissions; end some, or give neighbouring pages the same ones"
            ),
            MemoryError::Runs { limit } => write!(
                f,
                "more than {limit} runs of pages with the same permissions; give neighbouring pages the same ones"
            ),
        }
    }
}

// Without a source: the message has that of the host in it, and whoever prints
// the chain would say it twice.
impl std::error::Error for MemoryError {}
