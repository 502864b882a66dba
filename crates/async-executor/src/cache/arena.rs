//! Executable memory and the slot table in front of the guest's text, in one
//! reservation of host addresses.
//!
//! ```text
//!  execute view              slot table: a u32 per two bytes of guest space
//!  |arena, 128 MiB |slots of 4 GiB of guest addresses: 8 GiB, zero-filled  |
//!  ^ slots - ARENA           ^ slots + 2 * pc
//!
//!  write view (elsewhere)
//!  |the same pages |
//! ```
//!
//! A slot holds the offset of the code for that guest address; 0 is the stub
//! at the arena's start, which hands over to the interpreter. So a fresh page
//! of the table is right as the kernel gives it, a direct transfer is a load
//! and an indirect call, nothing is ever patched, and unlinking is one store.
//!
//! - **A1** Both views show the pages of one sealed memfd: one is writable
//!   and never executable, the other executable and never writable.
//! - **A2** Code is written before its offset is published in a slot
//!   (release), and never changed afterwards; bytes at or above `used` belong
//!   to the one writer that holds the lock.
//! - **A3** The reservation lives as long as the [`Arena`]; whoever runs its
//!   code holds an `Arc` of it.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{self, MapFlags, ProtFlags};

/// Room for code. Generated code knows it: entry = slots - this + offset.
pub(crate) const ARENA_BYTES: usize = 128 << 20;

const SLOTS_BYTES: usize = 8 << 30;

/// Room for the stub, aligned as all code is.
const STUB_BYTES: usize = 16;

/// Least room for code that an arena can be limited to.
pub(crate) const LIMIT_BYTES_MIN: usize = 64 << 10;

/// Code of one cache and its slot table.
pub(crate) struct Arena {
    execute: NonNull<u8>,
    write: NonNull<u8>,
    used: Mutex<usize>,
    limit_bytes: usize,
}

// SAFETY: A3: the views are address space owned by the struct, without ties
// to a thread.
unsafe impl Send for Arena {}
// SAFETY: A2: shared writes go through atomics or under the lock.
unsafe impl Sync for Arena {}

/// The arena has no room for this much code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArenaFull;

impl Arena {
    /// Reserves the addresses. Memory is taken as code and slots come.
    pub(crate) fn new(limit_bytes: usize) -> io::Result<Arena> {
        let limit_bytes = limit_bytes.clamp(LIMIT_BYTES_MIN, ARENA_BYTES);
        let file = rustix::fs::memfd_create(
            "hartloom-code",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        rustix::fs::ftruncate(&file, ARENA_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: A3: fresh mappings at addresses of the kernel's choice.
        let execute = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                ARENA_BYTES + SLOTS_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let unmap = |start: *mut c_void, bytes| {
            // SAFETY: A3: mapped in this function and not used again.
            let _ = unsafe { mm::munmap(start, bytes) };
        };
        // SAFETY: A1: replaces the first part of the reservation just made.
        let placed = unsafe {
            mm::mmap(
                execute,
                ARENA_BYTES,
                ProtFlags::READ | ProtFlags::EXEC,
                MapFlags::SHARED | MapFlags::FIXED,
                &file,
                0,
            )
        };
        if let Err(e) = placed {
            unmap(execute, ARENA_BYTES + SLOTS_BYTES);
            return Err(e.into());
        }
        // SAFETY: A1: the write view, wherever the kernel puts it.
        let write = unsafe {
            mm::mmap(
                ptr::null_mut(),
                ARENA_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let write = write.inspect_err(|_| unmap(execute, ARENA_BYTES + SLOTS_BYTES))?;
        let (Some(execute), Some(write)) =
            (NonNull::new(execute.cast()), NonNull::new(write.cast()))
        else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let arena = Arena {
            execute,
            write,
            used: Mutex::new(0),
            limit_bytes,
        };
        // Offset 0: tail-jump to what the engine word names.
        let stub = crate::enter::cold_entry_code();
        arena
            .append(&stub)
            .map_err(|ArenaFull| io::ErrorKind::OutOfMemory)?;
        Ok(arena)
    }

    /// Most code that fits into an arena without any.
    pub(crate) fn region_bytes_max(&self) -> usize {
        self.limit_bytes - STUB_BYTES
    }

    /// Address of the slot of guest address 0.
    pub(crate) fn slots(&self) -> *mut u8 {
        // SAFETY: A3: in bounds of the reservation.
        unsafe { self.execute.as_ptr().add(ARENA_BYTES) }
    }

    /// Where the code at `offset` is executed.
    pub(crate) fn entry(&self, offset: u32) -> *const u8 {
        assert!((offset as usize) < ARENA_BYTES, "offset outside the arena");
        // SAFETY: A3: checked above.
        unsafe { self.execute.as_ptr().add(offset as usize) }
    }

    /// Offset of a host pc, `None` where it is not in this arena.
    pub(crate) fn offset_of(&self, host_pc: usize) -> Option<u32> {
        let offset = host_pc.checked_sub(self.execute.as_ptr().addr())?;
        (offset < ARENA_BYTES).then_some(offset as u32)
    }

    /// The slot of `pc`, whose upper half does not count.
    #[inline(always)]
    pub(crate) fn slot(&self, pc: u64) -> &AtomicU32 {
        let offset = (pc as u32 as usize & !1) * 2;
        // SAFETY: A3: twice an even number below 2³² is in bounds.
        let slot = unsafe { self.slots().add(offset) };
        // SAFETY: A3: a multiple of 4, and only ever accessed as atomic u32.
        unsafe { AtomicU32::from_ptr(slot.cast()) }
    }

    /// Writes code and gives its offset. It runs once a slot names it.
    pub(crate) fn append(&self, code: &[u8]) -> Result<u32, ArenaFull> {
        let mut used = self.used.lock();
        let start = used.next_multiple_of(STUB_BYTES);
        let end = start.checked_add(code.len()).ok_or(ArenaFull)?;
        if end > self.limit_bytes {
            return Err(ArenaFull);
        }
        // SAFETY: A3: `end` is in bounds.
        let place = unsafe { self.write.as_ptr().add(start) };
        // SAFETY: A2: the range lies above everything published, and the lock
        // is held.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), place, code.len()) };
        *used = end;
        Ok(start as u32)
    }

    /// Makes transfers to `pc` go to `offset` (0: to the interpreter).
    pub(crate) fn publish(&self, pc: u64, offset: u32) {
        self.slot(pc).store(offset, Ordering::Release);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: A3: nobody holds the arena any more, so no code of it runs.
        let released =
            unsafe { mm::munmap(self.execute.as_ptr().cast(), ARENA_BYTES + SLOTS_BYTES) };
        debug_assert!(
            released.is_ok(),
            "releasing our own reservation cannot fail"
        );
        // SAFETY: A3: as above.
        let released = unsafe { mm::munmap(self.write.as_ptr().cast(), ARENA_BYTES) };
        debug_assert!(released.is_ok(), "releasing our own mapping cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_code_is_never_changed() {
        let arena = Arena::new(LIMIT_BYTES_MIN).unwrap();
        let code = |n: u8| vec![n; 100];
        let at = |offset| {
            let entry = arena.entry(offset);
            // SAFETY: A3: `append` put 100 bytes there.
            unsafe { std::slice::from_raw_parts(entry, 100) }.to_vec()
        };
        let first = arena.append(&code(1)).unwrap();
        arena.publish(0x1_0000, first);
        let mut n: u8 = 1;
        let mut last = first;
        while let Ok(offset) = arena.append(&code(n.wrapping_add(1))) {
            n = n.wrapping_add(1);
            assert_eq!(at(offset), code(n));
            // Published anew, or unlinked: slots change, code does not.
            arena.publish(0x1_0000, offset * u32::from(n % 2));
            assert_eq!(at(last), code(n.wrapping_sub(1)));
            last = offset;
        }
        assert!(last as usize > LIMIT_BYTES_MIN - 300, "{last}");
        assert_eq!(at(first), code(1));
    }
}
