//! Headers and segments: total, every count bounded. Names as in the System V
//! ABI, chapters 4 and 5, and the RISC-V ELF psABI, "File Header".
//!
//! Only what running needs is checked, so a file cut off inside its section
//! headers or debug information is accepted, as by Linux; one cut off inside
//! its header, program headers or loaded contents is not.

use std::fmt;
use std::ops::Range;

use super::error::ElfError;
use super::{le16, le32, le64, slice};
use crate::addr::{GuestAddr, PAGE_BYTES, round_up_to_pages};
use crate::mem::{MAP_HIGHEST, MAP_LOWEST, Prot};

/// Bytes of an ELF64 program header (`AT_PHENT`).
pub const PROGRAM_HEADER_BYTES: u16 = 56;

/// Most program headers that a file may have. Linkers write about 10.
pub const SEGMENT_COUNT_MAX: u16 = 128;

const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"\x7fELF";
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_RISCV: u16 = 243;
const EF_RISCV_RVE: u32 = 8;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_TLS: u32 = 7;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PT_GNU_RELRO: u32 = 0x6474_e552;

const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// Bytes of an interpreter's path that an error repeats.
const INTERPRETER_BYTES_SHOWN: u64 = 200;

/// Where a program may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfKind {
    /// At the addresses in the file (`ET_EXEC`).
    Fixed,
    /// Anywhere; it relocates itself (`ET_DYN`, a static PIE).
    PositionIndependent,
}

/// A part of memory that a program header describes, before any bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: GuestAddr,
    /// Length.
    pub bytes: u64,
}

/// A part of the file to be loaded (`PT_LOAD`), checked. Addresses are before
/// any bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which program header it is, from 0.
    pub index: usize,
    /// First byte in memory.
    pub start: GuestAddr,
    /// Bytes in memory, at least 1; those beyond the file's are zero.
    pub memory_bytes: u64,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes in the file, at most `memory_bytes`.
    pub file_bytes: u64,
    /// What its pages allow.
    pub prot: Prot,
    /// A power of two.
    pub align: u64,
}

impl Segment {
    /// The address behind its last byte.
    #[must_use]
    pub fn end(&self) -> GuestAddr {
        // `ElfImage::parse` saw that this is at most MAP_HIGHEST.
        GuestAddr(self.start.0 + self.memory_bytes)
    }

    /// Addresses of the whole pages that it touches.
    #[must_use]
    pub fn pages(&self) -> Range<GuestAddr> {
        let end = round_up_to_pages(self.end().0).unwrap_or(MAP_HIGHEST.0);
        self.start.page_start()..GuestAddr(end)
    }
}

/// A program, described and checked; its contents stay in the file.
///
/// True of every image: it has a segment; segments ascend and share no byte
/// (adjacent ones may share a page, see [`load`](super::load())); each lies in the
/// space that guests can map, its contents in the file; the entry is even and
/// in a page that will be executable.
#[derive(Clone, Debug)]
pub struct ElfImage {
    kind: ElfKind,
    entry: GuestAddr,
    flags: u32,
    segments: Vec<Segment>,
    program_headers: Option<GuestAddr>,
    program_header_count: u16,
    tls: Option<MemoryRange>,
    relro: Option<MemoryRange>,
    executable_stack: bool,
}

impl ElfImage {
    /// Checks and describes the program in `file`.
    ///
    /// # Errors
    /// [`ElfError`], a variant for each thing that can be wrong. Never panics,
    /// and allocates less than 16 KiB, whatever the bytes are.
    pub fn parse(file: &[u8]) -> Result<ElfImage, ElfError> {
        let header = FileHeader::parse(file)?;
        let mut image = ElfImage {
            kind: header.kind,
            entry: header.entry,
            flags: header.flags,
            segments: Vec::new(),
            program_headers: None,
            program_header_count: header.program_header_count,
            tls: None,
            relro: None,
            executable_stack: false,
        };
        let table = header.program_headers(file)?;
        let (table, _) = table.as_chunks::<{ PROGRAM_HEADER_BYTES as usize }>();
        for (index, raw) in table.iter().enumerate() {
            let header = ProgramHeader::parse(raw);
            match header.kind {
                PT_LOAD => image.add_segment(&header, index, file.len() as u64)?,
                PT_INTERP => {
                    return Err(ElfError::Dynamic {
                        interpreter: header.interpreter(file),
                    });
                }
                PT_PHDR => image.program_headers = Some(header.addr),
                PT_TLS => image.tls = Some(header.memory_range()),
                PT_GNU_RELRO => image.relro = Some(header.memory_range()),
                PT_GNU_STACK => image.executable_stack = header.flags & PF_X != 0,
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err(ElfError::NoSegments);
        }
        image.check_entry()?;
        // Without PT_PHDR, the segment that holds the headers says where they are.
        let bytes = table.len() as u64 * u64::from(PROGRAM_HEADER_BYTES);
        image.program_headers = image.program_headers.or_else(|| {
            let held = |s: &&Segment| {
                header.program_header_offset >= s.offset
                    && header.program_header_offset - s.offset + bytes <= s.file_bytes
            };
            let segment = image.segments.iter().find(held)?;
            segment
                .start
                .checked_add(header.program_header_offset - segment.offset)
        });
        Ok(image)
    }

    fn add_segment(
        &mut self,
        header: &ProgramHeader,
        index: usize,
        file_bytes: u64,
    ) -> Result<(), ElfError> {
        if header.file_bytes > header.memory_bytes {
            return Err(ElfError::SegmentSizes {
                index,
                file_bytes: header.file_bytes,
                memory_bytes: header.memory_bytes,
            });
        }
        if header.memory_bytes == 0 {
            return Ok(()); // Linux maps nothing for it either.
        }
        let align = header.align.max(1); // 0 and 1 both mean "any"
        if !align.is_power_of_two() {
            return Err(ElfError::SegmentAlign { index, align });
        }
        // A segment without contents (only .bss) may have any offset.
        if header.file_bytes > 0 {
            let end = header.offset.checked_add(header.file_bytes);
            if end.is_none_or(|end| end > file_bytes) {
                return Err(ElfError::SegmentFileRange {
                    index,
                    offset: header.offset,
                    bytes: header.file_bytes,
                    file_bytes,
                });
            }
            if header.addr.0 % PAGE_BYTES != header.offset % PAGE_BYTES {
                return Err(ElfError::SegmentIncongruent {
                    index,
                    addr: header.addr,
                    offset: header.offset,
                });
            }
        }
        // A PIE begins near 0 and is moved up; it may not be larger than the
        // space in any case. Together with "ascending, not overlapping" this
        // bounds the sum of all segments by the space.
        let (lowest, highest) = match self.kind {
            ElfKind::Fixed => (MAP_LOWEST.0, MAP_HIGHEST.0),
            ElfKind::PositionIndependent => (0, MAP_HIGHEST.0 - MAP_LOWEST.0),
        };
        let end = header.addr.checked_add(header.memory_bytes);
        let Some(_) = end.filter(|end| header.addr.0 >= lowest && end.0 <= highest) else {
            return Err(ElfError::SegmentOutside {
                index,
                start: header.addr,
                bytes: header.memory_bytes,
            });
        };
        let segment = Segment {
            index,
            start: header.addr,
            memory_bytes: header.memory_bytes,
            offset: header.offset,
            file_bytes: header.file_bytes,
            prot: header.prot(),
            align,
        };
        if let Some(previous) = self.segments.last() {
            if segment.end() <= previous.start {
                let previous_start = previous.start;
                return Err(ElfError::SegmentOrder {
                    index,
                    start: segment.start,
                    previous_start,
                });
            }
            if segment.start < previous.end() {
                let previous_end = previous.end();
                return Err(ElfError::SegmentOverlap {
                    index,
                    start: segment.start,
                    previous_end,
                });
            }
        }
        self.segments.push(segment);
        Ok(())
    }

    fn check_entry(&self) -> Result<(), ElfError> {
        let entry = self.entry;
        if entry.0 == 0 {
            // ELF says so: "if the file has no associated entry point, this
            // member holds zero". A shared library's headers may lie there, in
            // an executable segment.
            return Err(ElfError::EntryNone);
        }
        if entry.0 & 1 != 0 {
            // The hardware would clear the bit; our engines rely on even pcs.
            return Err(ElfError::EntryOdd { entry });
        }
        let executable = |s: &Segment| s.prot.contains(Prot::EXEC);
        let inside = self
            .segments
            .iter()
            .any(|s| executable(s) && (s.start..s.end()).contains(&entry));
        // The later of two segments that share a page decides about it.
        let page_owner = self
            .segments
            .iter()
            .rev()
            .find(|s| s.pages().contains(&entry));
        if inside && page_owner.is_some_and(executable) {
            Ok(())
        } else {
            Err(ElfError::EntryOutside { entry })
        }
    }

    /// Whether its addresses are fixed.
    #[must_use]
    pub fn kind(&self) -> ElfKind {
        self.kind
    }

    /// Address of the first instruction, before any bias.
    #[must_use]
    pub fn entry(&self) -> GuestAddr {
        self.entry
    }

    /// `e_flags`: bit 0 is RVC, bits 1 and 2 the floating-point ABI, bit 4
    /// TSO. All are fine here: accesses on the host are at least as ordered.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What to load, ascending; at least one, at most [`SEGMENT_COUNT_MAX`].
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whole pages from its first to its last segment, before any bias.
    #[must_use]
    pub fn pages(&self) -> Range<GuestAddr> {
        // `parse` accepts no image without segments.
        let start = self
            .segments
            .first()
            .map_or(GuestAddr(0), |s| s.pages().start);
        let end = self.segments.last().map_or(start, |s| s.pages().end);
        start..end
    }

    /// The largest alignment that a segment asks for, at least a page; what a
    /// base must be a multiple of.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.segments
            .iter()
            .map(|s| s.align)
            .fold(PAGE_BYTES, u64::max)
    }

    /// Address of its program headers in memory, before any bias; `None`
    /// where they are not loaded. Not checked when it comes from `PT_PHDR`.
    #[must_use]
    pub fn program_headers(&self) -> Option<GuestAddr> {
        self.program_headers
    }

    /// How many program headers it has (`AT_PHNUM`).
    #[must_use]
    pub fn program_header_count(&self) -> u16 {
        self.program_header_count
    }

    /// Template of thread-local storage, as the file claims. The guest's libc
    /// finds it by itself.
    #[must_use]
    pub fn tls(&self) -> Option<MemoryRange> {
        self.tls
    }

    /// What the guest's libc makes read-only after relocation, as the file
    /// claims.
    #[must_use]
    pub fn relro(&self) -> Option<MemoryRange> {
        self.relro
    }

    /// Whether `PT_GNU_STACK` asks for an executable stack. Without one the
    /// stack is not executable, as on RISC-V Linux.
    #[must_use]
    pub fn executable_stack(&self) -> bool {
        self.executable_stack
    }
}

impl fmt::Display for ElfImage {
    /// One line per segment, for dumps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ElfKind::Fixed => "fixed",
            ElfKind::PositionIndependent => "position-independent",
        };
        writeln!(f, "{kind}, entry {}, flags {:#x}", self.entry, self.flags)?;
        for s in &self.segments {
            let Segment {
                index,
                start,
                prot,
                file_bytes,
                memory_bytes,
                offset,
                ..
            } = s;
            writeln!(
                f,
                "segment {index}: {start}..{} {prot:?}, {file_bytes:#x} of {memory_bytes:#x} bytes at offset {offset:#x}",
                s.end()
            )?;
        }
        Ok(())
    }
}

struct FileHeader {
    kind: ElfKind,
    entry: GuestAddr,
    flags: u32,
    program_header_offset: u64,
    program_header_count: u16,
}

impl FileHeader {
    fn parse(file: &[u8]) -> Result<FileHeader, ElfError> {
        // What is too short to tell is cut off, and not of another kind.
        let shown = file.len().min(4);
        if file[..shown] != MAGIC[..shown] {
            let mut found = [0; 4];
            found[..shown].copy_from_slice(&file[..shown]);
            return Err(ElfError::NotElf {
                found,
                found_bytes: shown as u8,
            });
        }
        let Some(h) = file.first_chunk::<HEADER_BYTES>() else {
            return Err(ElfError::HeaderTruncated {
                file_bytes: file.len() as u64,
            });
        };
        match h[4] {
            2 => {}
            found => return Err(ElfError::Class { found }),
        }
        match h[5] {
            1 => {}
            found => return Err(ElfError::Endianness { found }),
        }
        for found in [u32::from(h[6]), le32(h, 20)] {
            if found != 1 {
                return Err(ElfError::Version { found });
            }
        }
        // The machine first: "built for x86-64" helps more than its type.
        match le16(h, 18) {
            EM_RISCV => {}
            found => return Err(ElfError::Machine { found }),
        }
        let kind = match le16(h, 16) {
            ET_EXEC => ElfKind::Fixed,
            ET_DYN => ElfKind::PositionIndependent,
            found => return Err(ElfError::Type { found }),
        };
        let flags = le32(h, 48);
        if flags & EF_RISCV_RVE != 0 {
            return Err(ElfError::Rve { flags });
        }
        let program_header_count = le16(h, 56);
        if program_header_count == 0 {
            return Err(ElfError::NoSegments); // then e_phentsize may be 0 too
        }
        match le16(h, 54) {
            PROGRAM_HEADER_BYTES => {}
            found => return Err(ElfError::ProgramHeaderSize { found }),
        }
        if program_header_count > SEGMENT_COUNT_MAX {
            return Err(ElfError::ProgramHeaderCount {
                found: program_header_count,
                limit: SEGMENT_COUNT_MAX,
            });
        }
        Ok(FileHeader {
            kind,
            entry: GuestAddr(le64(h, 24)),
            flags,
            program_header_offset: le64(h, 32),
            program_header_count,
        })
    }

    fn program_headers<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], ElfError> {
        let offset = self.program_header_offset;
        let bytes = u64::from(self.program_header_count) * u64::from(PROGRAM_HEADER_BYTES);
        let outside = || ElfError::ProgramHeadersOutside {
            offset,
            bytes,
            file_bytes: file.len() as u64,
        };
        slice(file, offset, bytes).ok_or_else(outside)
    }
}

struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    addr: GuestAddr,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

impl ProgramHeader {
    fn parse(raw: &[u8; PROGRAM_HEADER_BYTES as usize]) -> ProgramHeader {
        ProgramHeader {
            kind: le32(raw, 0),
            flags: le32(raw, 4),
            offset: le64(raw, 8),
            addr: GuestAddr(le64(raw, 16)),
            file_bytes: le64(raw, 32),
            memory_bytes: le64(raw, 40),
            align: le64(raw, 48),
        }
    }

    fn memory_range(&self) -> MemoryRange {
        MemoryRange {
            start: self.addr,
            bytes: self.memory_bytes,
        }
    }

    fn prot(&self) -> Prot {
        let mut prot = Prot::NONE;
        for (flag, allowed) in [(PF_R, Prot::READ), (PF_W, Prot::WRITE), (PF_X, Prot::EXEC)] {
            if self.flags & flag != 0 {
                prot |= allowed;
            }
        }
        prot
    }

    /// The path that PT_INTERP names, as far as it is there.
    fn interpreter(&self, file: &[u8]) -> String {
        let bytes = self.file_bytes.min(INTERPRETER_BYTES_SHOWN);
        let path = slice(file, self.offset, bytes).unwrap_or_default();
        let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
        // Escaped: the text goes to a terminal and comes from a stranger.
        path.escape_ascii().to_string()
    }
}
