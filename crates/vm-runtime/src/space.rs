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
    /// Ranges that are not private anonymous memory, disjoint, by start.
    backed: BTreeMap<u64, Backed>,
}

/// What is behind a range that is not private anonymous memory: dropping its
/// pages must not make them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Read from a file; what is written stays here.
    PrivateFile,
    /// Read from a file; what is written would have to reach it.
    SharedFile,
    /// Anonymous memory that others could see.
    SharedAnonymous,
}

/// A range of one backing, up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backed {
    end: u64,
    backing: Backing,
}

impl Space {
    /// A space that holds a program and a stack. What of the program came from
    /// its file is noted afterwards.
    pub(crate) fn new(image: Range<GuestAddr>, stack: Range<GuestAddr>) -> Space {
        let brk_start = image.end;
        let mmap_top = GuestAddr(stack.start.0.saturating_sub(STACK_GAP_BYTES));
        Space {
            image,
            brk_start,
            brk: brk_start,
            mmap_top,
            stack,
            backed: BTreeMap::new(),
        }
    }

    /// Notes what is behind a range now: `None` for private anonymous memory,
    /// or for nothing at all.
    pub(crate) fn note(&mut self, range: Range<u64>, backing: Option<Backing>) {
        self.take(range.clone());
        if let Some(backing) = backing {
            let end = range.end;
            self.backed.insert(range.start, Backed { end, backing });
        }
    }

    /// Notes that pages have moved to where something else may have been, of
    /// which `new_bytes` are new.
    pub(crate) fn note_move(&mut self, from: Range<u64>, to: u64, new_bytes: u64) {
        let moved = self.take(from.clone());
        self.note(to..to + new_bytes, None);
        for (start, part) in moved {
            let (start, end) = (start - from.start, part.end - from.start);
            if start < new_bytes {
                let range = to + start..to + end.min(new_bytes);
                self.note(range, Some(part.backing));
            }
        }
    }

    /// Takes out what is backed of a range.
    fn take(&mut self, range: Range<u64>) -> Vec<(u64, Backed)> {
        let parts = self.backed_in(range);
        for &(start, part) in &parts {
            // Each lies within one that is known, of which the rest stays.
            if let Some((&whole_start, &whole)) = self.backed.range(..=start).next_back() {
                self.backed.remove(&whole_start);
                if whole_start < start {
                    let end = start;
                    self.backed.insert(whole_start, Backed { end, ..whole });
                }
                if part.end < whole.end {
                    self.backed.insert(part.end, whole);
                }
            }
        }
        parts
    }

    /// What is backed of a range, in order.
    fn backed_in(&self, range: Range<u64>) -> Vec<(u64, Backed)> {
        // Ranges are disjoint: at most one begins below and reaches in.
        let before = self.backed.range(..range.start).next_back();
        let within = self.backed.range(range.clone());
        let clipped = before.into_iter().chain(within).map(|(&start, &part)| {
            let end = part.end.min(range.end);
            (start.max(range.start), Backed { end, ..part })
        });
        clipped.filter(|(start, part)| *start < part.end).collect()
    }

    /// The parts of a range that are private anonymous memory or nothing.
    pub(crate) fn private_parts(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut from = range.start;
        for (start, part) in self.backed_in(range.clone()) {
            if start > from {
                parts.push(from..start);
            }
            from = part.end;
        }
        if from < range.end {
            parts.push(from..range.end);
        }
        parts
    }

    /// Where in a range the first page is that has such a backing.
    pub(crate) fn first_backed(
        &self,
        range: Range<u64>,
        is_meant: impl Fn(Backing) -> bool,
    ) -> Option<u64> {
        let parts = self.backed_in(range);
        let first = parts.iter().find(|(_, part)| is_meant(part.backing));
        first.map(|(start, _)| *start)
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
    fn backed_ranges_are_cut_where_something_else_takes_their_place() {
        let mut space = space();
        space.note(0x10_0000..0x20_0000, Some(Backing::PrivateFile));
        space.note(0x14_0000..0x18_0000, None);
        let parts = space.private_parts(0x0f_0000..0x21_0000);
        assert_eq!(
            parts,
            [
                0x0f_0000..0x10_0000,
                0x14_0000..0x18_0000,
                0x20_0000..0x21_0000
            ]
        );
        assert_eq!(space.private_parts(0x11_0000..0x12_0000), []);
        space.note(0x14_0000..0x18_0000, Some(Backing::SharedAnonymous));
        assert_eq!(space.private_parts(0x10_0000..0x20_0000), []);
        space.note(0..0x100_0000, None);
        assert_eq!(
            space.private_parts(0x10_0000..0x20_0000),
            vec![0x10_0000..0x20_0000]
        );
    }

    #[test]
    fn shared_ranges_stay_so_when_they_are_cut_and_moved() {
        let is_shared = |backing| backing == Backing::SharedFile;
        let mut space = space();
        space.note(0x10_0000..0x20_0000, Some(Backing::SharedFile));
        space.note(0x20_0000..0x21_0000, Some(Backing::PrivateFile));
        space.note(0x12_0000..0x13_0000, None);
        assert_eq!(space.first_backed(0..0x40_0000, is_shared), Some(0x10_0000));
        assert_eq!(space.first_backed(0x12_0000..0x13_0000, is_shared), None);
        assert_eq!(
            space.first_backed(0x12_8000..0x40_0000, is_shared),
            Some(0x13_0000)
        );
        assert_eq!(space.first_backed(0x20_0000..0x40_0000, is_shared), None);
        // A part of a range, cut, over something else.
        space.note(0x30_1000..0x38_0000, Some(Backing::PrivateFile));
        space.note_move(0x1f_0000..0x21_0000, 0x30_0000, 0x1_8000);
        assert_eq!(
            space.first_backed(0x1f_0000..0x40_0000, is_shared),
            Some(0x30_0000)
        );
        assert_eq!(space.first_backed(0x31_0000..0x40_0000, is_shared), None);
        assert_eq!(
            space.private_parts(0x1e_0000..0x40_0000),
            [0x1f_0000..0x30_0000, 0x38_0000..0x40_0000]
        );
        space.note_move(0x30_0000..0x31_8000, 0x50_0000, 0x4_0000);
        assert_eq!(
            space.private_parts(0x50_0000..0x54_0000),
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
