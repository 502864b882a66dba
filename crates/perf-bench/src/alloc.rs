//! Counts what a thread allocates: exact, unlike time.
//!
//! ```
//! use perf_bench::alloc::{CountingAllocator, count_allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let (text, counted) = count_allocations(|| "text".to_owned());
//! let counted = counted.expect("the allocator is installed");
//! assert_eq!((text.as_str(), counted.count, counted.bytes), ("text", 1, 4));
//! ```
//!
//! One counter per thread, so counting costs no atomic operation, and what other
//! threads do meanwhile does not show.
//!
//! # Rules of the unsafe code
//!
//! - **N1** Every call goes to [`System`] with the arguments it came with, and its
//!   answer goes back unchanged: both contracts are the same.
//! - **N2** Counting neither allocates nor unwinds: cells of the thread with constant
//!   first values and no destructor, wrapping sums.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// The system's allocator, which also counts. To be the program's
/// `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What was asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Allocations, and reallocations.
    pub count: u64,
    /// Bytes asked for; of a reallocation, its new size.
    pub bytes: u64,
}

thread_local! {
    static COUNTED: Cell<Allocations> = const {
        Cell::new(Allocations { count: 0, bytes: 0 })
    };
}

impl std::ops::AddAssign for Allocations {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

fn so_far() -> Allocations {
    COUNTED.with(Cell::get)
}

fn count(bytes: usize) {
    COUNTED.with(|counted| {
        let Allocations { count, bytes: sum } = counted.get();
        counted.set(Allocations {
            count: count.wrapping_add(1),
            bytes: sum.wrapping_add(bytes as u64),
        });
    });
}

// SAFETY: N1, N2.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: N1.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: N1.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: N1.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: N1.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What this thread allocates while `body` runs; `None` if the program's allocator
/// is not a [`CountingAllocator`].
pub fn count_allocations<T>(body: impl FnOnce() -> T) -> (T, Option<Allocations>) {
    let probed = so_far();
    drop(black_box(Box::new(0_u8)));
    let before = so_far();
    let result = body();
    let after = so_far();
    let counted = (probed != before).then(|| Allocations {
        count: after.count.wrapping_sub(before.count),
        bytes: after.bytes.wrapping_sub(before.bytes),
    });
    (result, counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_allocator_nothing_is_counted() {
        assert_eq!(count_allocations(|| vec![1, 2]), (vec![1, 2], None));
    }

    #[test]
    fn every_way_to_memory_is_counted_once() {
        let layout = Layout::from_size_align(24, 8).unwrap();
        let before = so_far();
        // SAFETY: the layout has a size.
        let pointer = unsafe { CountingAllocator.alloc(layout) };
        // SAFETY: it came from there with that layout, and 48 is no overflow.
        let pointer = unsafe { CountingAllocator.realloc(pointer, layout, 48) };
        let larger = Layout::from_size_align(48, 8).unwrap();
        // SAFETY: as above, with the layout it has now.
        unsafe { CountingAllocator.dealloc(pointer, larger) };
        // SAFETY: the layout has a size.
        let zeroed = unsafe { CountingAllocator.alloc_zeroed(layout) };
        // SAFETY: it is readable for as long as the layout says.
        assert_eq!(unsafe { zeroed.read() }, 0);
        // SAFETY: it came from there with that layout.
        unsafe { CountingAllocator.dealloc(zeroed, layout) };
        let after = so_far();
        assert_eq!(
            (after.count - before.count, after.bytes - before.bytes),
            (3, 24 + 48 + 24)
        );
    }
}
