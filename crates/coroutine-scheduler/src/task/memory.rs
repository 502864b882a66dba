//! Where the memory of tasks comes from: each thread keeps what was freed on
//! it for the next tasks.
//!
//! Programs spawn by the hundred. What an allocator keeps at hand per thread
//! and size is less than that (glibc: seven), and its long way is a third of a
//! spawn.
//!
//! - **B1** A block in a list was allocated with its class's layout and belongs
//!   to nobody else; its first word is the list's.
//! - **B2** A layout has one class, or none: a block comes back to the class
//!   that it was taken from, or to the allocator.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

/// Sizes of classes are 8 more than a multiple of this: allocators put a word
/// of theirs before each block.
const STEP: usize = 16;
/// Larger tasks, some 500 bytes, are the allocator's.
const CLASSES: usize = 32;
/// Bytes that a class keeps on a thread.
const KEPT_BYTES: usize = 32 << 10;

/// A block that nobody needs.
struct Free {
    next: Option<NonNull<Free>>,
}

#[derive(Default)]
struct Class {
    first: Cell<Option<NonNull<Free>>>,
    n_kept: Cell<usize>,
}

struct Classes([Class; CLASSES]);

thread_local! {
    static CLASSES_HERE: Classes = Classes(Default::default());
}

impl Drop for Classes {
    fn drop(&mut self) {
        for (index, class) in self.0.iter().enumerate() {
            while let Some(block) = class.pop() {
                // SAFETY: B1.
                unsafe { dealloc(block.as_ptr(), layout_of(index)) };
            }
        }
    }
}

impl Class {
    fn pop(&self) -> Option<NonNull<u8>> {
        let block = self.first.get()?;
        // SAFETY: B1.
        self.first.set(unsafe { block.as_ref() }.next);
        self.n_kept.set(self.n_kept.get() - 1);
        Some(block.cast())
    }

    /// # Safety
    /// B1 holds for `block` and this class from now on.
    unsafe fn push(&self, block: NonNull<u8>) {
        let free = block.cast::<Free>();
        let next = self.first.replace(Some(free));
        // SAFETY: B1: blocks have room for a word, and are aligned to two.
        unsafe { free.write(Free { next }) };
        self.n_kept.set(self.n_kept.get() + 1);
    }
}

/// The class of a layout.
const fn class_of(layout: Layout) -> Option<usize> {
    let index = (layout.size() + 7) / STEP;
    if layout.align() <= STEP && layout.size() >= 8 && index < CLASSES {
        Some(index)
    } else {
        None
    }
}

const fn bytes_of(class: usize) -> usize {
    class * STEP + 8
}

/// What blocks of a class are allocated with.
fn layout_of(class: usize) -> Layout {
    Layout::from_size_align(bytes_of(class), STEP).expect("small, and a power of two")
}

/// Memory for `layout`; [`give_back`] takes it.
///
/// Ends the process where there is none, as `Box` does.
pub(super) fn take(layout: Layout) -> NonNull<u8> {
    let (kept, layout) = match class_of(layout) {
        // After the thread's end of locals there is no list.
        Some(class) => {
            let kept = CLASSES_HERE.try_with(|classes| classes.0[class].pop());
            (kept.ok().flatten(), layout_of(class))
        }
        None => (None, layout),
    };
    kept.unwrap_or_else(|| {
        // SAFETY: tasks have headers, so the size is not 0.
        NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
    })
}

/// Takes memory back, to keep it here or to free it.
///
/// # Safety
/// `block` comes from [`take`] with the same layout, and nobody uses it.
pub(super) unsafe fn give_back(block: NonNull<u8>, layout: Layout) {
    let Some(class) = class_of(layout) else {
        // SAFETY: B2.
        return unsafe { dealloc(block.as_ptr(), layout) };
    };
    let is_kept = CLASSES_HERE.try_with(|classes| {
        let list = &classes.0[class];
        let has_room = list.n_kept.get() < KEPT_BYTES / bytes_of(class);
        if has_room {
            // SAFETY: B1, by B2 and the caller's promise.
            unsafe { list.push(block) };
        }
        has_room
    });
    if is_kept != Ok(true) {
        // SAFETY: B2.
        unsafe { dealloc(block.as_ptr(), layout_of(class)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_class_holds_what_belongs_to_it_and_wastes_less_than_a_step() {
        for size in 8..=bytes_of(CLASSES - 1) {
            let class = class_of(layout(size, 8)).unwrap();
            let bytes = bytes_of(class);
            assert!(bytes >= size && bytes - size < STEP, "{size} in {bytes}");
        }
        let too_large = bytes_of(CLASSES - 1) + 1;
        assert_eq!(class_of(layout(too_large, 8)), None);
        assert_eq!(class_of(layout(64, 64)), None);
    }

    #[test]
    fn what_comes_back_is_given_again_up_to_a_limit() {
        // On a thread of its own, whose lists are empty.
        let thread = std::thread::spawn(|| {
            let layout = layout(152, 8);
            let room = KEPT_BYTES / 152;
            let blocks: Vec<_> = (0..room + 10).map(|_| take(layout)).collect();
            for &block in &blocks {
                // SAFETY: taken above, not used.
                unsafe { give_back(block, layout) };
            }
            let class = class_of(layout).unwrap();
            let kept = || CLASSES_HERE.with(|classes| classes.0[class].n_kept.get());
            assert_eq!(kept(), room);
            let again = take(layout);
            assert_eq!(again, blocks[room - 1]);
            assert_eq!(kept(), room - 1);
            // SAFETY: taken above, not used.
            unsafe { give_back(again, layout) };
        });
        thread.join().unwrap();
    }
}
