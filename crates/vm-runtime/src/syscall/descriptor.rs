//! Descriptors: what is done with an open file besides moving its bytes.

use std::sync::Arc;

use rustix::fs::{self, FallocateFlags, FileType, MemfdFlags, OFlags, RawDir, SealFlags};
use rustix::io::Errno;

use super::path::{owners, permissions};
use super::uptr::{Cursor, Record, UserPtr, UserSlice};
use super::{Call, Next, Reply, host_errno, lock};
use crate::kernel::Kernel;
use crate::vfs::OpenFile;

pub(super) fn close(p: &mut Kernel, call: &Call<'_>) -> Reply {
    p.files.close(call.args[0])?;
    Ok(Next::Done(0))
}

pub(super) fn dup(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let file = Arc::clone(p.files.get(call.args[0])?);
    Ok(Next::Done(p.files.insert(file, false, 0)?.into()))
}

pub(super) fn dup3(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old, new, flags, ..] = *call.args;
    let flags = flags as u32;
    if flags & !OFlags::CLOEXEC.bits() != 0 || old as u32 == new as u32 {
        return Err(Errno::INVAL);
    }
    let file = Arc::clone(p.files.get(old)?);
    Ok(Next::Done(p.files.insert_at(new, file, flags != 0)?.into()))
}

pub(super) fn pipe2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    use rustix::pipe::{PipeFlags, pipe_with};
    let [ends, flags, ..] = *call.args;
    let flags = flags as u32;
    let known = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::DIRECT;
    if flags & !known.bits() != 0 {
        return Err(Errno::INVAL);
    }
    let host_flags = PipeFlags::from_bits_retain(flags) | PipeFlags::CLOEXEC;
    let (reader, writer) = pipe_with(host_flags)?;
    let close_on_exec = flags & OFlags::CLOEXEC.bits() != 0;
    let reader = Arc::new(OpenFile::new(reader)?);
    let writer = Arc::new(OpenFile::new(writer)?);
    let reader = p.files.insert(reader, close_on_exec, 0)?;
    let writer = p.files.insert(writer, close_on_exec, 0);
    let told = writer.and_then(|writer| {
        let pair = Record::<8>::new().u32(0, reader).u32(4, writer);
        UserPtr(ends).write(&p.memory, &pair.0)
    });
    if let Err(errno) = told {
        // Nothing stays open that the guest does not know of.
        for fd in [Ok(reader), writer].into_iter().flatten() {
            let _ = p.files.close(fd.into());
        }
        return Err(errno);
    }
    Ok(Next::Done(0))
}

pub(super) fn fcntl(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const F_DUPFD: u32 = 0;
    const F_GETFD: u32 = 1;
    const F_SETFD: u32 = 2;
    const F_GETFL: u32 = 3;
    const F_SETFL: u32 = 4;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    const F_SETPIPE_SZ: u32 = 1031;
    const F_GETPIPE_SZ: u32 = 1032;
    const F_ADD_SEALS: u32 = 1033;
    const F_GET_SEALS: u32 = 1034;
    const FD_CLOEXEC: u64 = 1;

    let [fd, command, arg, ..] = *call.args;
    let file = p.files.get(fd)?;
    let value = match command as u32 {
        command @ (F_DUPFD | F_DUPFD_CLOEXEC) => {
            let lowest = u32::try_from(arg).map_err(|_| Errno::INVAL)?;
            let file = Arc::clone(file);
            match p.files.insert(file, command == F_DUPFD_CLOEXEC, lowest) {
                // As Linux says for a lowest number beyond the limit.
                Err(_) if lowest >= p.limits.open_files() => return Err(Errno::INVAL),
                inserted => inserted?.into(),
            }
        }
        F_GETFD => u64::from(p.files.close_on_exec(fd)?) * FD_CLOEXEC,
        F_SETFD => {
            p.files.set_close_on_exec(fd, arg & FD_CLOEXEC != 0)?;
            0
        }
        F_GETFL => {
            let flags = fs::fcntl_getfl(file)?;
            let flags = if file.writable {
                flags
            } else {
                flags & !OFlags::WRONLY & !OFlags::RDWR
            };
            u64::from(flags.bits())
        }
        F_SETFL => {
            let changeable = OFlags::APPEND | OFlags::NONBLOCK | OFlags::DIRECT | OFlags::NOATIME;
            let flags = OFlags::from_bits_retain(arg as u32) & changeable;
            fs::fcntl_setfl(file, flags)?;
            file.set_nonblocking(flags.contains(OFlags::NONBLOCK));
            0
        }
        F_GETPIPE_SZ => rustix::pipe::fcntl_getpipe_size(file)? as u64,
        F_SETPIPE_SZ => {
            let bytes = usize::try_from(arg as u32).map_err(|_| Errno::INVAL)?;
            rustix::pipe::fcntl_setpipe_size(file, bytes)? as u64
        }
        F_ADD_SEALS => {
            fs::fcntl_add_seals(file, SealFlags::from_bits_retain(arg as u32))?;
            0
        }
        F_GET_SEALS => fs::fcntl_get_seals(file)?.bits().into(),
        lock::F_GETLK
        | lock::F_SETLK
        | lock::F_SETLKW
        | lock::F_OFD_GETLK
        | lock::F_OFD_SETLK
        | lock::F_OFD_SETLKW => return lock::record_lock(p, call),
        _ => return Err(Errno::INVAL),
    };
    Ok(Next::Done(value))
}

pub(super) fn lseek(p: &mut Kernel, call: &Call<'_>) -> Reply {
    use nix::unistd::Whence::{SeekCur, SeekData, SeekEnd, SeekHole, SeekSet};

    let [fd, offset, whence, ..] = *call.args;
    let file = p.files.get(fd)?;
    let whence = [SeekSet, SeekCur, SeekEnd, SeekData, SeekHole]
        .into_iter()
        .nth(whence as u32 as usize)
        .ok_or(Errno::INVAL)?;
    // Through nix: rustix takes no negative positions, for which hosts have
    // several errors.
    let at = nix::unistd::lseek(file, offset.cast_signed(), whence).map_err(host_errno)?;
    Ok(Next::Done(at.cast_unsigned()))
}

pub(super) fn ftruncate(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, bytes, ..] = *call.args;
    let file = p.files.get(fd)?;
    if bytes > i64::MAX as u64 || !file.writable {
        return Err(Errno::INVAL);
    }
    fs::ftruncate(file, bytes)?;
    Ok(Next::Done(0))
}

pub(super) fn fallocate(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, mode, offset, bytes, ..] = *call.args;
    let file = p.files.get(fd)?;
    if !file.writable {
        return Err(Errno::BADF);
    }
    let mode = FallocateFlags::from_bits_retain(mode as u32);
    fs::fallocate(file, mode, offset, bytes)?;
    Ok(Next::Done(0))
}

pub(super) fn memfd_create(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const NAME_BYTES_MAX: usize = 249;
    let [name, flags, ..] = *call.args;
    let name = UserPtr(name).read_path(&p.memory)?;
    let flags = MemfdFlags::from_bits_retain(flags as u32);
    let known = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    if name.len() > NAME_BYTES_MAX || !(known | MemfdFlags::EXEC).contains(flags) {
        return Err(Errno::INVAL);
    }
    let fd = fs::memfd_create(name, flags | MemfdFlags::CLOEXEC)?;
    let file = Arc::new(OpenFile::new(fd)?);
    let close_on_exec = flags.contains(MemfdFlags::CLOEXEC);
    Ok(Next::Done(p.files.insert(file, close_on_exec, 0)?.into()))
}

pub(super) fn sync(_: &mut Kernel, _: &Call<'_>) -> Reply {
    fs::sync();
    Ok(Next::Done(0))
}

pub(super) fn fsync(p: &mut Kernel, call: &Call<'_>) -> Reply {
    fs::fsync(p.files.get(call.args[0])?)?;
    Ok(Next::Done(0))
}

pub(super) fn fdatasync(p: &mut Kernel, call: &Call<'_>) -> Reply {
    fs::fdatasync(p.files.get(call.args[0])?)?;
    Ok(Next::Done(0))
}

pub(super) fn fadvise64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    p.files.get(call.args[0])?;
    Ok(Next::Done(0))
}

pub(super) fn fchmod(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, mode, ..] = *call.args;
    fs::fchmod(p.files.get(fd)?, permissions(mode))?;
    Ok(Next::Done(0))
}

pub(super) fn fchown(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, owner, group, ..] = *call.args;
    let (owner, group) = owners(owner, group);
    fs::fchown(p.files.get(fd)?, owner, group)?;
    Ok(Next::Done(0))
}

/// Entries are encoded as the host's kernel does, so that what it gave for a
/// buffer of this size fits the guest's.
pub(super) fn getdents64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const ENTRIES_BYTES_MAX: u64 = 32 << 10;
    const HEADER_BYTES: usize = 19;

    let [fd, start, bytes, ..] = *call.args;
    // A count of 32 bits to Linux.
    let bytes = u64::from(bytes as u32);
    let file = &**p.files.get(fd)?;
    let slice = [UserSlice::new(start, bytes)];
    let room = Cursor::new(&slice).writable(&p.memory, bytes.min(ENTRIES_BYTES_MAX));
    if room == 0 && bytes != 0 {
        return Err(Errno::FAULT);
    }
    let mut buffer = Vec::with_capacity(room as usize);
    let mut entries = RawDir::new(file, buffer.spare_capacity_mut());
    let mut told = Vec::with_capacity(room as usize);
    loop {
        let entry = match entries.next() {
            None => break,
            Some(entry) => entry?,
        };
        let name = entry.file_name().to_bytes_with_nul();
        let record_bytes = (HEADER_BYTES + name.len()).next_multiple_of(8);
        let begin = told.len();
        told.extend_from_slice(&entry.ino().to_le_bytes());
        told.extend_from_slice(&entry.next_entry_cookie().to_le_bytes());
        told.extend_from_slice(&(record_bytes as u16).to_le_bytes());
        told.push(directory_type(entry.file_type()));
        told.extend_from_slice(name);
        told.resize(begin + record_bytes, 0);
        if entries.is_buffer_empty() {
            break;
        }
    }
    UserPtr(start).write(&p.memory, &told)?;
    Ok(Next::Done(told.len() as u64))
}

fn directory_type(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    }
}
