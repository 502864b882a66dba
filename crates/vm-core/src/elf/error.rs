//! Why a program cannot be loaded or started.

use std::fmt;

use crate::addr::GuestAddr;
use crate::error::MemoryError;
use crate::mem::{Fault, MAP_HIGHEST, MAP_LOWEST};

/// Why an ELF file was refused. `index` counts program headers from 0, as
/// `readelf -l` lists them.
#[derive(Debug)]
#[non_exhaustive]
pub enum ElfError {
    /// The file does not begin with the ELF magic.
    NotElf {
        /// Its first bytes, zeros where it is shorter.
        found: [u8; 4],
        /// How many of those the file has.
        found_bytes: u8,
    },
    /// The file ends inside its own header.
    HeaderTruncated {
        /// Length of the file.
        file_bytes: u64,
    },
    /// Not a 64-bit ELF.
    Class {
        /// `e_ident[EI_CLASS]`; 2 is 64-bit.
        found: u8,
    },
    /// Not little-endian.
    Endianness {
        /// `e_ident[EI_DATA]`; 1 is little-endian.
        found: u8,
    },
    /// A version of the format other than 1.
    Version {
        /// `e_ident[EI_VERSION]` or `e_version`.
        found: u32,
    },
    /// Neither an executable nor a static PIE.
    Type {
        /// `e_type`; 2 is `ET_EXEC`, 3 `ET_DYN`.
        found: u16,
    },
    /// Built for another processor.
    Machine {
        /// `e_machine`; 243 is RISC-V.
        found: u16,
    },
    /// Built for RV64E, which has 16 registers and another calling convention.
    Rve {
        /// `e_flags`.
        flags: u32,
    },
    /// Program headers of an unknown size.
    ProgramHeaderSize {
        /// `e_phentsize`; 56 is what ELF64 says.
        found: u16,
    },
    /// More program headers than any linker writes.
    ProgramHeaderCount {
        /// `e_phnum`.
        found: u16,
        /// The most that is accepted.
        limit: u16,
    },
    /// The program headers are not all inside the file.
    ProgramHeadersOutside {
        /// `e_phoff`.
        offset: u64,
        /// Their size together.
        bytes: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// The program wants a dynamic linker.
    Dynamic {
        /// Which one, shortened and made printable.
        interpreter: String,
    },
    /// Nothing is to be loaded.
    NoSegments,
    /// A segment's alignment is no power of two.
    SegmentAlign {
        /// Which program header.
        index: usize,
        /// `p_align`.
        align: u64,
    },
    /// A segment has more bytes in the file than in memory.
    SegmentSizes {
        /// Which program header.
        index: usize,
        /// `p_filesz`.
        file_bytes: u64,
        /// `p_memsz`.
        memory_bytes: u64,
    },
    /// A segment's contents are not all inside the file.
    SegmentFileRange {
        /// Which program header.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        bytes: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// Address and file offset of a segment differ within a page, so that no
    /// kernel could map it.
    SegmentIncongruent {
        /// Which program header.
        index: usize,
        /// `p_vaddr`.
        addr: GuestAddr,
        /// `p_offset`.
        offset: u64,
    },
    /// A segment lies outside what guests can map.
    SegmentOutside {
        /// Which program header.
        index: usize,
        /// Its first byte, where it was to be loaded.
        start: GuestAddr,
        /// `p_memsz`.
        bytes: u64,
    },
    /// A segment begins inside the one before it.
    SegmentOverlap {
        /// Which program header.
        index: usize,
        /// Its first byte.
        start: GuestAddr,
        /// End of the segment before it.
        previous_end: GuestAddr,
    },
    /// A segment lies below the one before it.
    SegmentOrder {
        /// Which program header.
        index: usize,
        /// Its first byte.
        start: GuestAddr,
        /// First byte of the segment before it.
        previous_start: GuestAddr,
    },
    /// The entry is 0, by which a file says that it has none.
    EntryNone,
    /// The entry is an odd address.
    EntryOdd {
        /// `e_entry`.
        entry: GuestAddr,
    },
    /// The entry is not in a page that will be executable.
    EntryOutside {
        /// `e_entry`.
        entry: GuestAddr,
    },
    /// No place of this size begins at the wanted base.
    BaseOutside {
        /// Where the image was to begin, aligned as it asks.
        base: GuestAddr,
        /// Its size in memory.
        bytes: u64,
    },
    /// Pages that the program needs are mapped already.
    InUse {
        /// First byte of the range.
        start: GuestAddr,
        /// Its length.
        bytes: u64,
    },
    /// The pages could not be mapped.
    Memory(MemoryError),
    /// Pages just mapped were gone when the segment was copied: somebody else
    /// changes the same address space.
    Disturbed(Fault),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::NotElf {
                found: [b'#', b'!', ..],
                ..
            } => {
                write!(
                    f,
                    "a script, not an ELF program; run its interpreter and pass it the script"
                )
            }
            ElfError::NotElf { found, found_bytes } => {
                f.write_str("not an ELF program: it begins with")?;
                for byte in &found[..usize::from(*found_bytes).min(found.len())] {
                    write!(f, " {byte:02x}")?;
                }
                f.write_str(" and not 7f 45 4c 46; name a program that riscv64-linux-gnu-gcc -static made")
            }
            ElfError::HeaderTruncated { file_bytes: 0 } => {
                write!(f, "the file is empty; build or copy the program again")
            }
            ElfError::HeaderTruncated { file_bytes } => write!(
                f,
                "the file ends after {file_bytes} of the 64 bytes of its ELF header; it is truncated"
            ),
            ElfError::Class { found } => write!(
                f,
                "ELF class {found} and not 2 (64-bit); compile for rv64gc, as riscv64-linux-gnu-gcc does"
            ),
            ElfError::Endianness { found } => write!(
                f,
                "ELF data encoding {found} and not 1 (little-endian); compile for little-endian RISC-V"
            ),
            ElfError::Version { found } => {
                write!(f, "ELF version {found} and not 1; the ELF is damaged")
            }
            ElfError::Type { found } => write!(
                f,
                "ELF type {found} is neither 2 (executable) nor 3 (position-independent executable); link it into a program"
            ),
            ElfError::Machine { found } => {
                write!(f, "built for machine {found}")?;
                if let Some(name) = machine_name(*found) {
                    write!(f, " ({name})")?;
                }
                write!(
                    f,
                    " and not 243 (RISC-V); compile it with riscv64-linux-gnu-gcc -static"
                )
            }
            ElfError::Rve { flags } => write!(
                f,
                "flags {flags:#x} ask for the RV64E register set; compile for rv64gc"
            ),
            ElfError::ProgramHeaderSize { found } => write!(
                f,
                "program headers of {found} bytes and not 56; the ELF is damaged or hostile"
            ),
            ElfError::ProgramHeaderCount { found, limit } => write!(
                f,
                "{found} program headers exceed the limit of {limit}; the ELF is damaged or hostile"
            ),
            ElfError::ProgramHeadersOutside {
                offset,
                bytes,
                file_bytes,
            } => write!(
                f,
                "program headers of {bytes:#x} bytes at offset {offset:#x} reach beyond the file's {file_bytes:#x} bytes; the file is truncated or hostile"
            ),
            ElfError::Dynamic { interpreter } => write!(
                f,
                "dynamically linked (wants {interpreter}), which is not supported yet; link it with -static"
            ),
            ElfError::NoSegments => write!(
                f,
                "no loadable segment has any bytes; an object file or debug information is not a program"
            ),
            ElfError::SegmentAlign { index, align } => write!(
                f,
                "segment {index}: alignment {align:#x} is no power of two; the ELF is damaged or hostile"
            ),
            ElfError::SegmentSizes {
                index,
                file_bytes,
                memory_bytes,
            } => write!(
                f,
                "segment {index}: file size {file_bytes:#x} exceeds memory size {memory_bytes:#x}; the ELF is damaged or hostile"
            ),
            ElfError::SegmentFileRange {
                index,
                offset,
                bytes,
                file_bytes,
            } => write!(
                f,
                "segment {index}: {bytes:#x} bytes at offset {offset:#x} reach beyond the file's {file_bytes:#x} bytes; the file is truncated or hostile"
            ),
            ElfError::SegmentIncongruent {
                index,
                addr,
                offset,
            } => write!(
                f,
                "segment {index}: address {addr} and file offset {offset:#x} differ in their low 12 bits, so it cannot be mapped by pages; link without -n and -N"
            ),
            ElfError::SegmentOutside {
                index,
                start,
                bytes,
            } => write!(
                f,
                "segment {index}: {bytes:#x} bytes at {start} reach outside {MAP_LOWEST}..{MAP_HIGHEST}, where guests can map; link it inside"
            ),
            ElfError::SegmentOverlap {
                index,
                start,
                previous_end,
            } => write!(
                f,
                "segment {index}: begins at {start}, before the segment in front of it ends at {previous_end}; the ELF is damaged or hostile"
            ),
            ElfError::SegmentOrder {
                index,
                start,
                previous_start,
            } => write!(
                f,
                "segment {index}: at {start} lies below the segment in front of it at {previous_start}; ELF asks for ascending addresses"
            ),
            ElfError::EntryNone => f.write_str(
                "the entry is 0x0, so there is nothing to begin with; a shared library is not a program, else name the entry to the linker (-e)",
            ),
            ElfError::EntryOdd { entry } => {
                write!(f, "entry {entry} is odd; the ELF is damaged or hostile")
            }
            ElfError::EntryOutside { entry } => write!(
                f,
                "entry {entry} lies in no executable segment; a shared library is not a program, else check the linker script"
            ),
            ElfError::BaseOutside { base, bytes } => write!(
                f,
                "{bytes:#x} bytes of program at base {base} reach outside {MAP_LOWEST}..{MAP_HIGHEST}, where guests can map; choose another base"
            ),
            ElfError::InUse { start, bytes } => write!(
                f,
                "{bytes:#x} bytes at {start} are mapped already; load into an empty address space"
            ),
            ElfError::Memory(error) => write!(f, "mapping the program: {error}"),
            ElfError::Disturbed(fault) => write!(
                f,
                "{fault} while copying the program; nothing else may change its memory meanwhile"
            ),
        }
    }
}

// Without a source: the message has that of the error below in it, and whoever
// prints the chain would say it twice.
impl std::error::Error for ElfError {}

impl From<MemoryError> for ElfError {
    fn from(error: MemoryError) -> ElfError {
        ElfError::Memory(error)
    }
}

/// Machines that people mix up with ours.
fn machine_name(machine: u16) -> Option<&'static str> {
    Some(match machine {
        3 => "x86",
        40 => "ARM",
        62 => "x86-64",
        183 => "AArch64",
        258 => "LoongArch",
        _ => return None,
    })
}

/// Why the initial stack could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum StackError {
    /// Arguments and environment are too long together; Linux answers `E2BIG`.
    TooLong {
        /// Bytes of the strings with their NULs and of the pointers to them.
        bytes: u64,
        /// A quarter of the stack, or
        /// [`ARGUMENT_BYTES_MAX`](super::ARGUMENT_BYTES_MAX) if that is less.
        limit_bytes: u64,
    },
    /// One string is too long; Linux answers `E2BIG`.
    StringTooLong {
        /// "argument", "environment string" or "program path".
        what: &'static str,
        /// Which one, from 0.
        index: usize,
        /// Its length with its NUL.
        bytes: u64,
    },
    /// A string has a NUL inside, which C strings cannot carry.
    Nul {
        /// "argument", "environment string" or "program path".
        what: &'static str,
        /// Which one, from 0.
        index: usize,
    },
    /// The stack cannot hold what every program is given.
    TooSmall {
        /// Size of the stack.
        bytes: u64,
        /// The smallest there can be.
        needed_bytes: u64,
    },
    /// Pages of the stack are mapped already.
    InUse {
        /// Lowest address of the stack.
        start: GuestAddr,
        /// Its size.
        bytes: u64,
    },
    /// The pages could not be mapped.
    Memory(MemoryError),
    /// Pages just mapped were gone when they were filled: somebody else
    /// changes the same address space.
    Disturbed(Fault),
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackError::TooLong { bytes, limit_bytes } => write!(
                f,
                "arguments and environment take {bytes} bytes, more than the {limit_bytes} that a stack of this size gives them; pass fewer, or a larger stack"
            ),
            StackError::StringTooLong { what, index, bytes } => write!(
                f,
                "{what} {index} takes {bytes} bytes, more than the {} of one string; pass it in a file",
                super::STRING_BYTES_MAX
            ),
            StackError::Nul { what, index } => {
                write!(f, "{what} {index} has a NUL byte inside; remove it")
            }
            StackError::TooSmall {
                bytes,
                needed_bytes,
            } => write!(
                f,
                "a stack of {bytes:#x} bytes is too small for a program to start; give it at least {needed_bytes:#x}"
            ),
            StackError::InUse { start, bytes } => write!(
                f,
                "{bytes:#x} bytes at {start} are mapped already; choose another place for the stack"
            ),
            StackError::Memory(error) => write!(f, "mapping the stack: {error}"),
            StackError::Disturbed(fault) => write!(
                f,
                "{fault} while filling the stack; nothing else may change its memory meanwhile"
            ),
        }
    }
}

// Without a source: the message has that of the error below in it, and whoever
// prints the chain would say it twice.
impl std::error::Error for StackError {}

impl From<MemoryError> for StackError {
    fn from(error: MemoryError) -> StackError {
        StackError::Memory(error)
    }
}
