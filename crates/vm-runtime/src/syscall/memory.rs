//! The address space: heap, mappings, protection.
//!
//! Every range is checked by `GuestMemory`, which also enforces the memory
//! limit; what it refuses becomes `EINVAL` or `ENOMEM`.

use rustix::io::Errno;
use vm_core::GuestAddr;
use vm_core::addr::{PAGE_BYTES, round_up_to_pages};
use vm_core::error::MemoryError;
use vm_core::mem::{MAP_HIGHEST, MAP_LOWEST, Prot, SPACE_BYTES};

use super::transfer::read_into;
use super::uptr::{UserPtr, UserSlice};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::space::Backing;
use crate::vfs::FileKind;

const MAP_SHARED: u32 = 0x01;
const MAP_PRIVATE: u32 = 0x02;
const MAP_SHARED_VALIDATE: u32 = 0x03;
const MAP_TYPE: u32 = 0x0f;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

fn errno(error: MemoryError) -> Errno {
    match error {
        MemoryError::Unaligned { .. } => Errno::INVAL,
        _ => Errno::NOMEM,
    }
}

/// Whole pages for a length that is not 0; `ENOMEM` where no space is so large.
fn whole_pages(bytes: u64) -> Result<u64, Errno> {
    match round_up_to_pages(bytes) {
        Some(pages) if pages <= SPACE_BYTES => Ok(pages),
        _ => Err(Errno::NOMEM),
    }
}

/// What the low bits of a protection allow; the others mean nothing to `mmap`.
fn protection(bits: u64) -> Prot {
    let mut prot = Prot::NONE;
    for (bit, allowed) in [(1, Prot::READ), (2, Prot::WRITE), (4, Prot::EXEC)] {
        if bits & bit != 0 {
            prot |= allowed;
        }
    }
    prot
}

/// The part of a range of whole pages in which something can be mapped.
fn mappable(start: u64, bytes: u64) -> Option<(GuestAddr, u64)> {
    let end = start.saturating_add(bytes).min(MAP_HIGHEST.0);
    let start = start.max(MAP_LOWEST.0);
    (start < end).then(|| (GuestAddr(start), end - start))
}

/// Moves the end of the heap. Like Linux, answers where the end is after
/// all, which is the old one when it cannot move.
pub(super) fn brk(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let Kernel { space, memory, .. } = p;
    let wanted = GuestAddr(call.args[0]);
    let mapped_end = |brk: GuestAddr| round_up_to_pages(brk.0);
    if wanted >= space.brk_start
        && wanted < space.mmap_top
        && let (Some(old), Some(new)) = (mapped_end(space.brk), mapped_end(wanted))
    {
        let moved = if new > old {
            let (start, bytes) = (GuestAddr(old), new - old);
            memory.is_free(start, bytes)
                && memory.map(start, bytes, Prot::READ | Prot::WRITE).is_ok()
        } else {
            new == old || memory.unmap(GuestAddr(new), old - new).is_ok()
        };
        if moved {
            space.note(old.min(new)..old.max(new), None);
            space.brk = wanted;
        }
    }
    Ok(Next::Done(space.brk.0))
}

pub(super) fn mmap(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [addr, bytes, prot, flags, fd, offset] = *call.args;
    let flags = flags as u32;
    let prot = protection(prot);
    if bytes == 0 || offset % PAGE_BYTES != 0 {
        return Err(Errno::INVAL);
    }
    let bytes = whole_pages(bytes)?;
    let shared = match flags & MAP_TYPE {
        MAP_PRIVATE => false,
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::INVAL),
    };
    let file = if flags & MAP_ANONYMOUS != 0 {
        None
    } else {
        Some(p.files.get(fd)?.clone())
    };
    if let Some(file) = &file {
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Errno::OVERFLOW);
        }
        if !file.readable {
            return Err(Errno::ACCESS);
        }
        if file.kind != FileKind::Regular {
            return Err(Errno::NODEV);
        }
        if shared && prot.contains(Prot::WRITE) {
            // Writes would have to reach the file; programs fall back to
            // write(2) when told so.
            return Err(Errno::NODEV);
        }
    }

    let start = place(p, GuestAddr(addr), bytes, flags)?;
    let Kernel {
        space,
        memory,
        bounce,
        ..
    } = p;
    match file {
        None => {
            memory.map(start, bytes, prot).map_err(errno)?;
            let backing = shared.then_some(Backing::SharedAnonymous);
            space.note(start.0..start.0 + bytes, backing);
        }
        Some(file) => {
            memory
                .map(start, bytes, Prot::READ | Prot::WRITE)
                .map_err(errno)?;
            let backing = match shared {
                true => Backing::SharedFile,
                false => Backing::PrivateFile,
            };
            space.note(start.0..start.0 + bytes, Some(backing));
            let read = read_into(
                memory,
                bounce,
                &file,
                UserSlice::new(start.0, bytes),
                offset,
            );
            let done = read.and_then(|()| memory.protect(start, bytes, prot).map_err(errno));
            if let Err(error) = done {
                let _ = memory.unmap(start, bytes);
                space.note(start.0..start.0 + bytes, None);
                return Err(error);
            }
        }
    }
    Ok(Next::Done(start.0))
}

/// Where a new mapping goes.
fn place(p: &Kernel, wanted: GuestAddr, bytes: u64, flags: u32) -> Result<GuestAddr, Errno> {
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if !wanted.is_aligned(PAGE_BYTES) {
            return Err(Errno::INVAL);
        }
        let in_space = wanted
            .checked_add(bytes)
            .is_some_and(|end| end.0 <= SPACE_BYTES);
        if flags & MAP_FIXED_NOREPLACE != 0 && !p.memory.is_free(wanted, bytes) {
            return Err(if in_space { Errno::EXIST } else { Errno::NOMEM });
        }
        return Ok(wanted);
    }
    let hint = wanted.page_start();
    let below_stack = hint
        .checked_add(bytes)
        .is_some_and(|end| end <= p.space.mmap_top);
    if hint.0 != 0 && below_stack && p.memory.is_free(hint, bytes) {
        return Ok(hint);
    }
    p.memory.find_gap(bytes, p.space.mmap_top).map_err(errno)
}

pub(super) fn munmap(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [start, bytes, ..] = *call.args;
    let bytes = round_up_to_pages(bytes).unwrap_or(0);
    if bytes == 0 || start % PAGE_BYTES != 0 || !UserSlice::new(start, bytes).is_in_user_space() {
        return Err(Errno::INVAL);
    }
    if let Some((start, bytes)) = mappable(start, bytes) {
        p.memory.unmap(start, bytes).map_err(errno)?;
        p.space.note(start.0..start.0 + bytes, None);
    }
    Ok(Next::Done(0))
}

/// Changes pages up to the first that it cannot change, as Linux does.
pub(super) fn mprotect(p: &mut Kernel, call: &Call<'_>) -> Reply {
    /// Bits that mean something somewhere; `PROT_SEM` is one of them.
    const KNOWN: u64 = 15;

    let [start, bytes, bits, ..] = *call.args;
    // PROT_GROWSDOWN and the like apply to mappings that grow: none here.
    if bits & !KNOWN != 0 || start % PAGE_BYTES != 0 {
        return Err(Errno::INVAL);
    }
    if bytes == 0 {
        return Ok(Next::Done(0));
    }
    let bytes = round_up_to_pages(bytes).ok_or(Errno::NOMEM)?;
    let prot = protection(bits);
    let mapped = p.memory.mapped_prefix(GuestAddr(start), bytes);
    // Writes would be lost: they do not reach the file.
    let shared = match prot.contains(Prot::WRITE) {
        true => {
            let range = start..start.saturating_add(mapped);
            p.space
                .first_backed(range, |backing| backing == Backing::SharedFile)
        }
        false => None,
    };
    let good = shared.map_or(mapped, |shared| shared - start);
    if good > 0 {
        p.memory
            .protect(GuestAddr(start), good, prot)
            .map_err(errno)?;
    }
    match shared {
        Some(_) => Err(Errno::ACCESS),
        None if mapped < bytes => Err(Errno::NOMEM),
        None => Ok(Next::Done(0)),
    }
}

pub(super) fn mremap(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const MAYMOVE: u32 = 1;
    const FIXED: u32 = 2;

    let [old, old_bytes, new_bytes, flags, fixed, ..] = *call.args;
    let flags = flags as u32;
    let may_move = flags & MAYMOVE != 0;
    if flags & !(MAYMOVE | FIXED) != 0
        || (flags & FIXED != 0 && !may_move)
        || old % PAGE_BYTES != 0
        || old_bytes == 0
        || new_bytes == 0
    {
        return Err(Errno::INVAL);
    }
    let old_bytes = whole_pages(old_bytes).map_err(|_| Errno::INVAL)?;
    let new_bytes = whole_pages(new_bytes)?;
    let from = GuestAddr(old);
    // One mapping has one protection; a range of several is not one.
    let prot = p.memory.uniform_prot(from, old_bytes).ok_or(Errno::FAULT)?;
    if new_bytes > old_bytes
        && p.space
            .first_backed(old..old + old_bytes, |_| true)
            .is_some()
    {
        // What would come behind a file's pages is more of the file, which is
        // not known any more; behind shared memory it is nothing at all.
        return Err(Errno::NODEV);
    }
    if flags & FIXED != 0 {
        let apart =
            fixed.checked_add(new_bytes).is_some_and(|end| end <= old) || old + old_bytes <= fixed;
        if fixed % PAGE_BYTES != 0 || !apart {
            return Err(Errno::INVAL);
        }
        return move_pages(p, from, old_bytes, GuestAddr(fixed), new_bytes);
    }
    if new_bytes <= old_bytes {
        if new_bytes < old_bytes {
            let tail = GuestAddr(old + new_bytes);
            p.memory.unmap(tail, old_bytes - new_bytes).map_err(errno)?;
            p.space.note(tail.0..old + old_bytes, None);
        }
        return Ok(Next::Done(old));
    }
    let grown = GuestAddr(old + old_bytes);
    let added = new_bytes - old_bytes;
    let room = grown
        .checked_add(added)
        .is_some_and(|end| end <= p.space.mmap_top);
    if room && p.memory.is_free(grown, added) {
        p.memory.map(grown, added, prot).map_err(errno)?;
        return Ok(Next::Done(old));
    }
    if !may_move {
        return Err(Errno::NOMEM);
    }
    let to = p
        .memory
        .find_gap(new_bytes, p.space.mmap_top)
        .map_err(errno)?;
    move_pages(p, from, old_bytes, to, new_bytes)
}

fn move_pages(
    p: &mut Kernel,
    from: GuestAddr,
    old_bytes: u64,
    to: GuestAddr,
    new_bytes: u64,
) -> Reply {
    p.memory
        .remap(from, old_bytes, to, new_bytes)
        .map_err(errno)?;
    p.space
        .note_move(from.0..from.0 + old_bytes, to.0, new_bytes);
    Ok(Next::Done(to.0))
}

pub(super) fn msync(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [start, bytes, ..] = *call.args;
    if start % PAGE_BYTES != 0 {
        return Err(Errno::INVAL);
    }
    let bytes = whole_pages(bytes)?;
    if !p.memory.allows(GuestAddr(start), bytes, Prot::NONE) {
        return Err(Errno::NOMEM);
    }
    Ok(Next::Done(0))
}

/// Whole pages from the one that holds `start`, which must be mapped.
fn mapped_pages(p: &Kernel, start: u64, bytes: u64) -> Result<u64, Errno> {
    let offset = start % PAGE_BYTES;
    let bytes = bytes.checked_add(offset).ok_or(Errno::INVAL)?;
    let bytes = whole_pages(bytes)?;
    if bytes != 0
        && !p
            .memory
            .allows(GuestAddr(start - offset), bytes, Prot::NONE)
    {
        return Err(Errno::NOMEM);
    }
    Ok(bytes / PAGE_BYTES)
}

/// Memory is never taken away from a guest, so that locking it changes
/// nothing.
pub(super) fn mlock(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [start, bytes, ..] = *call.args;
    mapped_pages(p, start, bytes)?;
    Ok(Next::Done(0))
}

pub(super) fn mlockall(_: &mut Kernel, call: &Call<'_>) -> Reply {
    // MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT; the last not alone.
    match call.args[0] as u32 {
        1 | 2 | 3 | 5 | 6 | 7 => Ok(Next::Done(0)),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn munlockall(_: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(Next::Done(0))
}

/// All that is mapped counts as present.
pub(super) fn mincore(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [start, bytes, vector, ..] = *call.args;
    if start % PAGE_BYTES != 0 {
        return Err(Errno::INVAL);
    }
    let n_pages = mapped_pages(p, start, bytes)?;
    // At most a byte for each page that is mapped: the limit bounds it.
    UserPtr(vector).write(&p.memory, &vec![1; n_pages as usize])?;
    Ok(Next::Done(0))
}

pub(super) fn madvise(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const DONTNEED: u32 = 4;
    const FREE: u32 = 8;

    let [start, bytes, advice, ..] = *call.args;
    let advice = advice as u32;
    // Advice that may be ignored is: 0 to 3 (access patterns), COLD, PAGEOUT,
    // (NO)HUGEPAGE, (UN)MERGEABLE, (DO|DONT)DUMP, DONTFORK, DOFORK.
    let known = matches!(advice, 0..=4 | 8 | 10..=17 | 20 | 21);
    if start % PAGE_BYTES != 0 || !known {
        return Err(Errno::INVAL);
    }
    if bytes == 0 {
        return Ok(Next::Done(0));
    }
    let bytes = round_up_to_pages(bytes).ok_or(Errno::INVAL)?;
    let end = start.checked_add(bytes).ok_or(Errno::INVAL)?;
    if matches!(advice, DONTNEED | FREE)
        && let Some((start, bytes)) = mappable(start, bytes)
    {
        // What a file or others have is not lost by not being needed here. To
        // free it is an error, which Linux finds when it comes to it.
        let range = start.0..start.0 + bytes;
        let stop = match advice {
            FREE => p.space.first_backed(range.clone(), |_| true),
            _ => None,
        };
        for part in p
            .space
            .private_parts(range.start..stop.unwrap_or(range.end))
        {
            let bytes = part.end - part.start;
            p.memory.zero(GuestAddr(part.start), bytes).map_err(errno)?;
        }
        if stop.is_some() {
            return Err(Errno::INVAL);
        }
    }
    // Gaps are skipped and then reported.
    match p.memory.allows(GuestAddr(start), end - start, Prot::NONE) {
        true => Ok(Next::Done(0)),
        false => Err(Errno::NOMEM),
    }
}

/// Guests that generate code call this where others would use `fence.i`.
pub(super) fn riscv_flush_icache(_: &mut Kernel, call: &Call<'_>) -> Reply {
    const LOCAL: u64 = 1;
    if call.args[2] & !LOCAL != 0 {
        return Err(Errno::INVAL);
    }
    Ok(Next::FlushCode)
}
