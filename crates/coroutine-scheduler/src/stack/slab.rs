//! The address space of all stacks of a scheduler, in equal slots.
//!
//! - **A1** The mapping is this slab's alone: made in [`Slab::new`], never moved
//!   or shared. It goes when the slab does, unless [`Slab::keep_forever`] was
//!   called.
//! - **A2** Slots below `n_made` are readable and writable above their guard,
//!   and their guard is in place; both never change.
//! - **A3** A slot is used by who got it from the pool, until given back.
//!   [`Slab::discard`] is called for slots that nobody uses.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use corosensei::stack::Stack;
use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

use super::guard::{self, Region};
use super::{Guards, StackConfig, StackError};

/// Slots that become usable in one step.
const SLOTS_AT_ONCE: usize = 512;

/// Number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

/// Where a stack begins: all that switching to it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    base: NonZeroUsize,
    bytes: u32,
}

// SAFETY: A2, A3: there is a guard at `limit`, at least 16 KiB above it, and
// the slot is in use while there is a coroutine on it.
unsafe impl Stack for Base {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.base
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        let limit = self.base.get() - self.bytes as usize;
        NonZeroUsize::new(limit).unwrap_or(self.base)
    }
}

impl Base {
    /// The lowest address that can be used: above the guard, which is a page.
    pub(crate) fn lowest(&self) -> usize {
        self.limit().get() + rustix::param::page_size()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab {
    start: NonNull<c_void>,
    bytes: usize,
    slot_bytes: usize,
    guard_bytes: usize,
    n_slots: usize,
    has_light_guards: bool,
    is_kept: AtomicBool,
    region: Region,
}

// SAFETY: A1: the pointer is to memory of the slab's own; what is done with it
// here are system calls, which the host orders.
unsafe impl Send for Slab {}
// SAFETY: the same.
unsafe impl Sync for Slab {}

/// Usable part of the slab, grown by one caller at a time (the pool's lock).
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Slots that have their guard.
    pub(crate) n_slots: usize,
    /// Slots whose memory may be used; at least as many.
    n_writable: usize,
}

impl Slab {
    /// Reserves the address space.
    pub(crate) fn new(config: &StackConfig) -> Result<Slab, StackError> {
        let page = rustix::param::page_size();
        let guard_bytes = page;
        let slot_bytes = config.stack_bytes.next_multiple_of(page) + guard_bytes;
        let bytes = slot_bytes.saturating_mul(config.stacks_max);
        let reserve = |errno: Errno| StackError::Reserve {
            bytes,
            errno: errno.raw_os_error(),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a new mapping, wherever the host likes.
        let start =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), flags) };
        let start = NonNull::new(start.map_err(reserve)?).ok_or(reserve(Errno::NOMEM))?;
        // A huge page under 30 stacks would make each of them cost 64 KiB.
        // SAFETY: A1. A host without huge pages refuses, and that is as good.
        let _ = unsafe { mm::madvise(start.as_ptr(), bytes, Advice::LinuxNoHugepage) };
        let has_light_guards = config.guards == Guards::Auto && guard::has_light_guards();
        let n_slots = if has_light_guards {
            config.stacks_max
        } else {
            config.stacks_max.min(guard::mapped_guards_max())
        };
        let region = Region::register(start.addr().get(), bytes, slot_bytes, guard_bytes);
        Ok(Slab {
            start,
            bytes,
            slot_bytes,
            guard_bytes,
            n_slots,
            has_light_guards,
            is_kept: AtomicBool::new(false),
            region,
        })
    }

    /// How many slots there can be.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_slots
    }

    pub(crate) fn has_light_guards(&self) -> bool {
        self.has_light_guards
    }

    /// Bytes of a stack that can be used.
    pub(crate) fn stack_bytes(&self) -> usize {
        self.slot_bytes - self.guard_bytes
    }

    fn slot_start(&self, slot: usize) -> NonNull<c_void> {
        assert!(
            slot < self.n_slots,
            "slots are numbered below {}",
            self.n_slots
        );
        // SAFETY: A1: within the mapping, as was checked.
        unsafe { self.start.byte_add(slot * self.slot_bytes) }
    }

    /// Makes one more slot usable and gives its number.
    pub(crate) fn make(&self, made: &mut Made) -> Result<Slot, StackError> {
        let slot = made.n_slots;
        if slot >= self.n_slots {
            return Err(self.limit());
        }
        let refused = |errno: Errno| StackError::Refused {
            errno: errno.raw_os_error(),
        };
        if self.has_light_guards {
            if slot == made.n_writable {
                let n_more = SLOTS_AT_ONCE.min(self.n_slots - slot);
                self.allow(slot * self.slot_bytes, n_more * self.slot_bytes)
                    .map_err(refused)?;
                made.n_writable += n_more;
            }
            // SAFETY: A1; nobody uses the slot yet.
            unsafe { guard::install(self.slot_start(slot), self.guard_bytes) }.map_err(refused)?;
        } else {
            let stack = slot * self.slot_bytes + self.guard_bytes;
            let allowed = self.allow(stack, self.slot_bytes - self.guard_bytes);
            allowed.map_err(|errno| match errno {
                Errno::NOMEM => StackError::Mappings { limit: slot },
                errno => refused(errno),
            })?;
            made.n_writable += 1;
        }
        made.n_slots += 1;
        Ok(Slot(slot as u32))
    }

    /// Why there is no slot beyond the last.
    pub(crate) fn limit(&self) -> StackError {
        let limit = self.n_slots;
        if self.has_light_guards || limit * self.slot_bytes == self.bytes {
            StackError::InUse { limit }
        } else {
            StackError::Mappings { limit }
        }
    }

    fn allow(&self, offset: usize, bytes: usize) -> Result<(), Errno> {
        assert!(offset + bytes <= self.bytes, "within the slab");
        // SAFETY: A1: within the mapping, as was checked.
        let at = unsafe { self.start.byte_add(offset) };
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: A1, A2: what was inaccessible becomes usable.
        unsafe { mm::mprotect(at.as_ptr(), bytes, access) }
    }

    /// Where the stack of a slot begins.
    pub(crate) fn base(&self, slot: Slot) -> Base {
        let limit = self.slot_start(slot.0 as usize).addr();
        Base {
            // A slot is at most 1 GiB and a guard.
            base: limit.saturating_add(self.slot_bytes),
            bytes: self.slot_bytes as u32,
        }
    }

    /// Gives the memory of slots back to the host; they read as zeros when they
    /// are touched again. Their guards stay.
    pub(crate) fn discard(&self, slots: &mut [Slot]) {
        slots.sort_unstable();
        for run in slots.chunk_by(|a, b| a.0 + 1 == b.0) {
            let at = self.slot_start(run[0].0 as usize);
            let bytes = run.len() * self.slot_bytes;
            // SAFETY: A1, A3: nobody uses these slots. Refused, they keep it.
            let _ = unsafe { mm::madvise(at.as_ptr(), bytes, Advice::LinuxDontNeed) };
        }
    }

    /// The memory stays to the end of the process: something may point into it.
    pub(crate) fn keep_forever(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        self.region.forget();
        // SAFETY: A1: the pool goes, so no coroutine is on any slot.
        let _ = unsafe { mm::munmap(self.start.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use corosensei::stack::STACK_ALIGNMENT;

    use super::*;

    #[test]
    fn every_stack_has_what_was_asked_for() {
        for guards in [Guards::Auto, Guards::Mapped] {
            let config = StackConfig {
                stack_bytes: 20 << 10,
                stacks_max: 40,
                guards,
                ..StackConfig::default()
            };
            let slab = Slab::new(&config).unwrap();
            assert!(slab.stack_bytes() >= config.stack_bytes);
            let mut made = Made::default();
            let mut last = 0;
            for _ in 0..40 {
                let slot = slab.make(&mut made).unwrap();
                let base = slab.base(slot);
                assert_eq!(base.base().get() % STACK_ALIGNMENT, 0);
                let usable = base.base().get() - base.limit().get() - slab.guard_bytes;
                assert!(usable >= config.stack_bytes, "{usable}");
                assert!(base.limit().get() >= last, "slots do not overlap");
                last = base.base().get();
            }
            let error = slab.make(&mut made).unwrap_err();
            assert_eq!(error, StackError::InUse { limit: 40 });
        }
    }
}
