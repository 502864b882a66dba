//! The host's side of guest memory: one reservation of address space, and the
//! protection of its pages. Rules M1 and M2 of the parent module.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

/// Address space reserved at each side of the guest's.
pub(super) const GUARD_BYTES: usize = 64 << 10;

/// Entries of the page table: one per page of the 4 GiB space.
pub(super) const PAGE_COUNT: usize = 1 << 20;

/// Bytes of the space itself.
const BYTES: usize = PAGE_COUNT * 4096;

/// Reserved host addresses: guard, space, guard, then the page table, which
/// the kernel zeroes and allocates on demand.
pub(super) struct Reservation {
    start: NonNull<c_void>,
}

// SAFETY: M1: the reservation is plain address space that the struct owns; no
// thread-bound state is attached to it.
unsafe impl Send for Reservation {}
// SAFETY: M1, and M3: shared access goes through atomics only.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Bytes of host address space that a reservation takes.
    pub(super) const TOTAL_BYTES: usize = BYTES + 2 * GUARD_BYTES + PAGE_COUNT;

    /// Reserves the space; nothing in it is accessible yet.
    pub(super) fn new() -> io::Result<Reservation> {
        // SAFETY: a fresh private mapping at an address of the kernel's
        // choice overlaps nothing (M1).
        let start = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                Self::TOTAL_BYTES,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        let reservation = Reservation { start };
        // SAFETY: M1: the page table's bytes end the reservation just made.
        unsafe {
            mm::mprotect(
                reservation.table_start().cast(),
                PAGE_COUNT,
                MprotectFlags::READ | MprotectFlags::WRITE,
            )
        }?;
        reservation.tie_together()?;
        Ok(reservation)
    }

    /// Makes all pages of the space equal to the host but for their
    /// protection, so that neighbours of the same protection are one mapping
    /// whatever happened to them.
    ///
    /// Linux merges two private mappings unless each was written to before it
    /// met the other (they have different `anon_vma`s then). So the space gets
    /// its one while it is still whole: all that is split off inherits it, and
    /// nothing of the space is ever mapped anew. (With
    /// `vm.overcommit_memory` = 2 it also keeps apart what was ever writable,
    /// so that a guest there can come to more mappings than runs.)
    fn tie_together(&self) -> io::Result<()> {
        const FIRST_BYTES: usize = 4096;
        self.protect(0, FIRST_BYTES, true, true)?;
        // SAFETY: M1, M3: the first page of the space, writable since the line
        // above; nobody else knows of the reservation yet.
        let first = unsafe { AtomicU8::from_ptr(self.base()) };
        first.store(1, Ordering::Relaxed);
        self.protect(0, FIRST_BYTES, false, false)?;
        self.discard(0, FIRST_BYTES)
    }

    fn table_start(&self) -> *mut u8 {
        // SAFETY: M1: in bounds of the reservation.
        unsafe {
            self.start
                .as_ptr()
                .cast::<u8>()
                .add(BYTES + 2 * GUARD_BYTES)
        }
    }

    /// What each page allows.
    #[inline(always)]
    pub(super) fn page_table(&self) -> &[AtomicU8; PAGE_COUNT] {
        // SAFETY: M1: readable and writable since `new`, zero is a valid
        // AtomicU8, and nothing but atomics ever touches it.
        unsafe { &*self.table_start().cast::<[AtomicU8; PAGE_COUNT]>() }
    }

    /// First byte of the space.
    #[inline(always)]
    pub(super) fn base(&self) -> *mut u8 {
        // SAFETY: M1: the guard lies inside the reservation.
        unsafe { self.start.as_ptr().cast::<u8>().add(GUARD_BYTES) }
    }

    fn at(&self, offset: usize, bytes: usize) -> *mut c_void {
        assert!(
            offset <= BYTES && bytes <= BYTES - offset,
            "range outside the space"
        );
        // SAFETY: M1: the line above keeps it inside the reservation.
        unsafe { self.base().add(offset) }.cast()
    }

    /// Makes a range accessible as given; its contents stay.
    pub(super) fn protect(
        &self,
        offset: usize,
        bytes: usize,
        write: bool,
        read: bool,
    ) -> io::Result<()> {
        let flags = match (read, write) {
            (_, true) => MprotectFlags::READ | MprotectFlags::WRITE,
            (true, false) => MprotectFlags::READ,
            (false, false) => MprotectFlags::empty(),
        };
        // SAFETY: M1 (checked by `at`); M2 is kept by the caller's order.
        unsafe { mm::mprotect(self.at(offset, bytes), bytes, flags) }?;
        Ok(())
    }

    /// Drops the contents of a range: it reads as zero from now on. Its
    /// protection stays. Where the process has locked its memory
    /// (`mlockall`), the whole space is unlocked: locked pages cannot be
    /// dropped.
    pub(super) fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let start = self.at(offset, bytes);
        let drop_pages = || {
            // SAFETY: M1: pages of our own reservation, which M3 keeps free of
            // references that would see them change.
            unsafe { mm::madvise(start, bytes, Advice::LinuxDontNeed) }
        };
        match drop_pages() {
            Err(Errno::INVAL) => {
                // All of it at once: a part would become a mapping of its own.
                // SAFETY: M1: our own reservation; no contents change.
                unsafe { mm::munlock(self.start.as_ptr(), Self::TOTAL_BYTES) }?;
                Ok(drop_pages()?)
            }
            done => Ok(done?),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: M1: the mapping is ours and no access outlives `self`.
        let released = unsafe { mm::munmap(self.start.as_ptr(), Self::TOTAL_BYTES) };
        debug_assert!(
            released.is_ok(),
            "releasing our own reservation cannot fail"
        );
    }
}
