//! From image to guest memory.

use super::error::ElfError;
use super::parse::{ElfImage, ElfKind, Segment};
use super::slice;
use std::ops::Range;

use crate::addr::{GuestAddr, PAGE_BYTES};
use crate::error::MemoryError;
use crate::mem::{GuestMemory, MAP_HIGHEST, MAP_LOWEST, Prot};

/// Where a position-independent program goes unless told otherwise: low, so
/// that its heap has most of the space above.
pub const DEFAULT_PIE_BASE: GuestAddr = GuestAddr(0x10_0000);

/// A program in memory, and what its start needs to know. Addresses are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Address of the first instruction (`AT_ENTRY`).
    pub entry: GuestAddr,
    /// What was added, modulo 2⁶⁴, to every address in the file; 0 for a
    /// program with fixed addresses.
    pub bias: u64,
    /// First page of the program.
    pub base: GuestAddr,
    /// Where its heap begins: the page behind its highest segment.
    pub brk_start: GuestAddr,
    /// Its program headers (`AT_PHDR`), `None` where they are not loaded.
    pub program_headers: Option<GuestAddr>,
    /// How many those are (`AT_PHNUM`).
    pub program_header_count: u16,
}

impl Loaded {
    /// The pages of each segment of `image` that have bytes of the file; the
    /// others hold zeros (`.bss`).
    pub fn pages_of_file<'a>(
        &self,
        image: &'a ElfImage,
    ) -> impl Iterator<Item = Range<GuestAddr>> + use<'a> {
        let bias = self.bias;
        let segments = image.segments().iter().filter(|s| s.file_bytes > 0);
        segments.map(move |segment| {
            let start = GuestAddr(segment.start.0.wrapping_add(bias));
            let bytes = segment.file_bytes + start.0 % PAGE_BYTES;
            let start = start.page_start();
            start..start.wrapping_offset(bytes.next_multiple_of(PAGE_BYTES).cast_signed())
        })
    }
}

/// Maps the segments of `image`, whose contents are in `file`, with the
/// permissions they ask for.
///
/// `base` is where the first page of a position-independent program goes,
/// rounded up to the alignment it asks for; [`DEFAULT_PIE_BASE`] for `None`.
/// A program with fixed addresses ignores it.
///
/// Bytes of its pages that no segment has (`.bss`, the rest of a last page)
/// are zero; nothing else of the file becomes visible. A page that two
/// adjacent segments share holds the bytes of both and the permissions of the
/// later, as a page does that Linux maps twice. (Merging permissions instead
/// would make pages writable and executable that on Linux are not.)
///
/// # Errors
/// [`ElfError::BaseOutside`], [`ElfError::InUse`] where pages are mapped
/// already, [`ElfError::Memory`] beyond the memory limit, and
/// [`ElfError::SegmentFileRange`] when `file` is shorter than the one that was
/// parsed. Nothing is mapped then.
pub fn load(
    image: &ElfImage,
    file: &[u8],
    memory: &GuestMemory,
    base: Option<GuestAddr>,
) -> Result<Loaded, ElfError> {
    let bias = choose_bias(image, base.unwrap_or(DEFAULT_PIE_BASE))?;
    let moved = |addr: GuestAddr| GuestAddr(addr.0.wrapping_add(bias));

    // Decide everything before the first change.
    let mut placed = Vec::with_capacity(image.segments().len());
    let mut mapped_end = GuestAddr(0);
    let mut new_bytes = 0;
    for segment in image.segments() {
        let contents = contents(segment, file)?;
        let pages = segment.pages();
        let pages = moved(pages.start)..moved(pages.end);
        // A first page shared with the segment before is mapped by that one.
        let fresh_start = pages.start.max(mapped_end);
        mapped_end = pages.end;
        let fresh_bytes = pages.end.0.saturating_sub(fresh_start.0);
        new_bytes += fresh_bytes;
        let start = moved(segment.start);
        placed.push(Placed {
            start,
            contents,
            pages,
            fresh_start,
            fresh_bytes,
            prot: segment.prot,
        });
    }
    let mapped_bytes = memory.mapped_bytes();
    if new_bytes > memory.limit_bytes().saturating_sub(mapped_bytes) {
        let limit_bytes = memory.limit_bytes();
        return Err(MemoryError::Limit {
            bytes: new_bytes,
            mapped_bytes,
            limit_bytes,
        }
        .into());
    }
    for p in placed.iter().filter(|p| p.fresh_bytes > 0) {
        if !memory.is_free(p.fresh_start, p.fresh_bytes) {
            return Err(ElfError::InUse {
                start: p.fresh_start,
                bytes: p.fresh_bytes,
            });
        }
    }

    if let Err(error) = fill(&placed, memory) {
        for p in placed.iter().filter(|p| p.fresh_bytes > 0) {
            // The first error is the one to report.
            let _ = memory.unmap(p.fresh_start, p.fresh_bytes);
        }
        return Err(error);
    }
    let pages = image.pages();
    Ok(Loaded {
        entry: moved(image.entry()),
        bias,
        base: moved(pages.start),
        brk_start: moved(pages.end),
        program_headers: image.program_headers().map(moved),
        program_header_count: image.program_header_count(),
    })
}

/// A segment at its final place.
struct Placed<'a> {
    start: GuestAddr,
    contents: &'a [u8],
    pages: Range<GuestAddr>,
    /// First page that no earlier segment has mapped.
    fresh_start: GuestAddr,
    fresh_bytes: u64,
    prot: Prot,
}

fn fill(placed: &[Placed<'_>], memory: &GuestMemory) -> Result<(), ElfError> {
    for p in placed.iter().filter(|p| p.fresh_bytes > 0) {
        memory.map(p.fresh_start, p.fresh_bytes, Prot::READ | Prot::WRITE)?;
    }
    for p in placed {
        memory
            .write_bytes(p.start, p.contents)
            .map_err(ElfError::Disturbed)?;
    }
    for p in placed {
        // In order: the later segment decides about a shared page.
        memory.protect(p.pages.start, p.pages.end.0 - p.pages.start.0, p.prot)?;
    }
    Ok(())
}

fn contents<'a>(segment: &Segment, file: &'a [u8]) -> Result<&'a [u8], ElfError> {
    if segment.file_bytes == 0 {
        return Ok(&[]); // its offset may be anything
    }
    slice(file, segment.offset, segment.file_bytes).ok_or(ElfError::SegmentFileRange {
        index: segment.index,
        offset: segment.offset,
        bytes: segment.file_bytes,
        file_bytes: file.len() as u64,
    })
}

fn choose_bias(image: &ElfImage, wanted: GuestAddr) -> Result<u64, ElfError> {
    let pages = image.pages();
    let bytes = pages.end.0 - pages.start.0;
    if image.kind() == ElfKind::Fixed {
        return Ok(0); // `parse` saw that it lies in the space
    }
    // What is aligned is the bias, modulo 2⁶⁴: addresses in the file already
    // are as their segments ask, and stay so when moved by a multiple.
    let align_mask = image.align() - 1;
    let bias = wanted
        .0
        .wrapping_sub(pages.start.0)
        .wrapping_add(align_mask)
        & !align_mask;
    let base = GuestAddr(pages.start.0.wrapping_add(bias));
    let end = base.checked_add(bytes);
    if base >= MAP_LOWEST && end.is_some_and(|end| end <= MAP_HIGHEST) {
        Ok(bias)
    } else {
        Err(ElfError::BaseOutside { base, bytes })
    }
}
