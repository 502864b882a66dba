//! Where things are in a guest's address space: program, heap, mappings,
//! stack. The pages themselves are [`GuestMemory`](vm_core::mem::GuestMemory)'s.
//!
//! ```text
//!   0x10000 ── program ── heap (brk) ──>      <── mmap ── 1 MiB ── stack ── top
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use vm_core::GuestAddr;
use vm_core::addr::PAGE_BYTES;

/// Pages that stay free below the stack, so that running past its end faults
/// instead of reaching a mapping (`stack_guard_gap` of Linux).
pub(crate) const STACK_GAP_BYTES: u64 = 256 * PAGE_BYTES;

/// The layout of one address space.
#[derive(Debug)]
pub(crate) struct Space {
    /// Pages of the program's segments.
    pub(crate) image: Range<GuestAddr>,
    /// Where the heap begins.
    pub(crate) brk_start: GuestAddr,
    /// Where it ends now.
    pub(crate) brk: GuestAddr,
    /// New mappings go below.
    pub(crate) mmap_top: GuestAddr,
    /// All of the stack.
    pub(crate) stack: Range<GuestAddr>,
    /// Ranges read from files, disjoint, by start.
    files: BTreeMap<u64, FileRange>,
}

/// A range read from a file: dropping its pages must not make them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileRange {
    end: u64,
    /// What is written there would have to reach the file.
    shared: bool,
}

impl Space {
    /// A space that holds a program and a stack.
    pub(crate) fn new(image: Range<GuestAddr>, stack: Range<GuestAddr>) -> Space {
        let brk_start = image.end;
        let mmap_top = GuestAddr(stack.start.0.saturating_sub(STACK_GAP_BYTES));
        let program = FileRange {
            end: image.end.0,
            shared: false,
        };
        let files = BTreeMap::from([(image.start.0, program)]);
        Space {
            image,
            brk_start,
            brk: brk_start,
            mmap_top,
            stack,
            files,
        }
    }

    /// Notes that a range was read from a file.
    pub(crate) fn note_file(&mut self, range: Range<u64>, shared: bool) {
        self.forget_file(range.clone());
        let end = range.end;
        self.files.insert(range.start, FileRange { end, shared });
    }

    /// Notes that a range is anonymous or unmapped now.
    pub(crate) fn forget_file(&mut self, range: Range<u64>) {
        self.take_files(range);
    }

    /// Notes that pages have moved to where something else may have been, of
    /// which `new_bytes` are new.
    pub(crate) fn move_files(&mut self, from: Range<u64>, to: u64, new_bytes: u64) {
        let moved = self.take_files(from.clone());
        self.forget_file(to..to + new_bytes);
        for (start, file) in moved {
            let (start, end) = (start - from.start, file.end - from.start);
            if start < new_bytes {
                self.note_file(to + start..to + end.min(new_bytes), file.shared);
            }
        }
    }

    /// Takes out what of a range was read from files.
    fn take_files(&mut self, range: Range<u64>) -> Vec<(u64, FileRange)> {
        let parts = self.files_in(range);
        for &(start, part) in &parts {
            // Each lies within one that is known, of which the rest stays.
            if let Some((&whole_start, &whole)) = self.files.range(..=start).next_back() {
                self.files.remove(&whole_start);
                if whole_start < start {
                    let end = start;
                    self.files.insert(whole_start, FileRange { end, ..whole });
                }
                if part.end < whole.end {
                    self.files.insert(part.end, whole);
                }
            }
        }
        parts
    }

    /// What of a range was read from files, in order.
    fn files_in(&self, range: Range<u64>) -> Vec<(u64, FileRange)> {
        // Ranges are disjoint: at most one begins below and reaches in.
        let before = self.files.range(..range.start).next_back();
        let within = self.files.range(range.clone());
        let clipped = before.into_iter().chain(within).map(|(&start, &file)| {
            let end = file.end.min(range.end);
            (start.max(range.start), FileRange { end, ..file })
        });
        clipped.filter(|(start, file)| *start < file.end).collect()
    }

    /// The parts of a range that were not read from files.
    pub(crate) fn anonymous_parts(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut from = range.start;
        for (start, file) in self.files_in(range.clone()) {
            if start > from {
                parts.push(from..start);
            }
            from = file.end;
        }
        if from < range.end {
            parts.push(from..range.end);
        }
        parts
    }

    /// Where in a range the first page is that is shared with a file.
    pub(crate) fn first_shared(&self, range: Range<u64>) -> Option<u64> {
        let files = self.files_in(range);
        files
            .iter()
            .find(|(_, file)| file.shared)
            .map(|(start, _)| *start)
    }

    /// Whether a named range begins or ends here.
    pub(crate) fn is_boundary(&self, addr: GuestAddr) -> bool {
        [self.image.end, self.stack.start].contains(&addr)
    }

    /// What `/proc/self/maps` calls the mapping that begins here.
    pub(crate) fn name_of(&self, start: GuestAddr) -> &'static str {
        if self.stack.contains(&start) {
            "[stack]"
        } else if (self.brk_start..self.brk).contains(&start) {
            "[heap]"
        } else {
            ""
        }
    }

    /// Whether an access at `addr` looks like one that ran past the end of the
    /// stack: right below it, or in a frame at `sp` too large for the gap, where
    /// nothing is mapped at `sp`. Compiled code may leave an older `sp`, so that
    /// not all rests on it.
    pub(crate) fn is_below_stack(&self, addr: GuestAddr, sp: GuestAddr) -> bool {
        let end = self.stack.start;
        let in_gap = addr < end && addr.0 + STACK_GAP_BYTES >= end.0;
        let in_frame =
            (self.brk..end).contains(&sp) && (sp.0..sp.0 + STACK_GAP_BYTES).contains(&addr.0);
        in_gap || in_frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        let at = GuestAddr;
        Space::new(at(0x1_0000)..at(0x2_0000), at(0x80_0000)..at(0x90_0000))
    }

    #[test]
    fn file_ranges_are_cut_where_something_else_takes_their_place() {
        let mut space = space();
        space.note_file(0x10_0000..0x20_0000, false);
        space.forget_file(0x14_0000..0x18_0000);
        let parts = space.anonymous_parts(0x0f_0000..0x21_0000);
        assert_eq!(
            parts,
            [
                0x0f_0000..0x10_0000,
                0x14_0000..0x18_0000,
                0x20_0000..0x21_0000
            ]
        );
        assert_eq!(space.anonymous_parts(0x11_0000..0x12_0000), []);
        space.note_file(0x14_0000..0x18_0000, false);
        assert_eq!(space.anonymous_parts(0x10_0000..0x20_0000), []);
        space.forget_file(0..0x100_0000);
        assert_eq!(
            space.anonymous_parts(0x10_0000..0x20_0000),
            vec![0x10_0000..0x20_0000]
        );
    }

    #[test]
    fn shared_ranges_stay_so_when_they_are_cut_and_moved() {
        let mut space = space();
        space.note_file(0x10_0000..0x20_0000, true);
        space.note_file(0x20_0000..0x21_0000, false);
        space.forget_file(0x12_0000..0x13_0000);
        assert_eq!(space.first_shared(0..0x40_0000), Some(0x10_0000));
        assert_eq!(space.first_shared(0x12_0000..0x13_0000), None);
        assert_eq!(space.first_shared(0x12_8000..0x40_0000), Some(0x13_0000));
        assert_eq!(space.first_shared(0x20_0000..0x40_0000), None);
        // A part of a range, cut, over something else.
        space.note_file(0x30_1000..0x38_0000, false);
        space.move_files(0x1f_0000..0x21_0000, 0x30_0000, 0x1_8000);
        assert_eq!(space.first_shared(0x1f_0000..0x40_0000), Some(0x30_0000));
        assert_eq!(space.first_shared(0x31_0000..0x40_0000), None);
        assert_eq!(
            space.anonymous_parts(0x1e_0000..0x40_0000),
            [0x1f_0000..0x30_0000, 0x38_0000..0x40_0000]
        );
        space.move_files(0x30_0000..0x31_8000, 0x50_0000, 0x4_0000);
        assert_eq!(
            space.anonymous_parts(0x50_0000..0x54_0000),
            vec![0x51_8000..0x54_0000]
        );
    }

    #[test]
    fn a_fault_below_the_stack_is_an_overflow() {
        let mut space = space();
        space.stack = GuestAddr(0x8000_0000)..GuestAddr(0x8080_0000);
        let low = 0x8000_0000;
        assert!(space.is_below_stack(GuestAddr(low - 8), GuestAddr(low - 16)));
        assert!(space.is_below_stack(GuestAddr(low - 0x2000), GuestAddr(low - 0x3000)));
        // sp from before some calls.
        assert!(space.is_below_stack(GuestAddr(low - 8), GuestAddr(low + 0x8_0000)));
        // A frame of 100 MiB.
        let far = low - (100 << 20);
        assert!(space.is_below_stack(GuestAddr(far + 16), GuestAddr(far)));
        assert!(!space.is_below_stack(GuestAddr(far + 16), GuestAddr(low + 16)));
        assert!(!space.is_below_stack(GuestAddr(0), GuestAddr(low + 8)));
        assert!(!space.is_below_stack(GuestAddr(u64::MAX), GuestAddr(low + 8)));
        assert!(!space.is_below_stack(GuestAddr(8), GuestAddr(0)));
    }
}
