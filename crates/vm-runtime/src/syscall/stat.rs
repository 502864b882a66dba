//! What a file is: size, kind, owner, times, and the file system it is in.

use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, Stat, StatFs, Statx, StatxFlags, StatxTimestamp};

use super::path::{HERE, at_flags};
use super::uptr::{Record, UserPtr};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;

/// Finding a file by its path mounts nothing, so the flag that forbids it is
/// no matter.
const KNOWN: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::EMPTY_PATH);

pub(super) fn fstat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, buffer, ..] = *call.args;
    tell_stat(p, p.files.get(fd)?, buffer)
}

pub(super) fn newfstatat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, buffer, flags, ..] = *call.args;
    tell_stat(p, p.object(dir, path, at_flags(flags, KNOWN)?)?, buffer)
}

fn tell_stat(p: &Kernel, file: impl AsFd, buffer: u64) -> Reply {
    let stat = fs::fstat(file)?;
    UserPtr(buffer).write(&p.memory, &guest_stat(&stat).0)?;
    Ok(Next::Done(0))
}

pub(super) fn statx(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, mask, buffer, ..] = *call.args;
    let sync = AtFlags::STATX_FORCE_SYNC | AtFlags::STATX_DONT_SYNC;
    let flags = at_flags(flags, KNOWN | sync)?;
    let file = p.object(dir, path, flags)?;
    let mask = StatxFlags::from_bits_retain(mask as u32);
    let statx = fs::statx(file, c"", flags & sync | AtFlags::EMPTY_PATH, mask)?;
    UserPtr(buffer).write(&p.memory, &guest_statx(&statx).0)?;
    Ok(Next::Done(0))
}

pub(super) fn fstatfs(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, buffer, ..] = *call.args;
    tell_statfs(p, p.files.get(fd)?, buffer)
}

pub(super) fn statfs(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [path, buffer, ..] = *call.args;
    tell_statfs(p, p.object(HERE, path, AtFlags::empty())?, buffer)
}

fn tell_statfs(p: &Kernel, file: impl AsFd, buffer: u64) -> Reply {
    let statfs = fs::fstatfs(file)?;
    UserPtr(buffer).write(&p.memory, &guest_statfs(&statfs).0)?;
    Ok(Next::Done(0))
}

/// `struct statfs` of asm-generic/statfs.h, which is x86-64's too.
/// The file system's id stays 0, which says that there is none: it is of use
/// in calls that only root may make.
fn guest_statfs(s: &StatFs) -> Record<120> {
    Record::new()
        .i64(0, s.f_type)
        .i64(8, s.f_bsize)
        .u64(16, s.f_blocks)
        .u64(24, s.f_bfree)
        .u64(32, s.f_bavail)
        .u64(40, s.f_files)
        .u64(48, s.f_ffree)
        .i64(64, s.f_namelen)
        .i64(72, s.f_frsize)
        .i64(80, s.f_flags)
}

/// `struct stat` of asm-generic/stat.h, which RISC-V uses and x86-64 does not.
fn guest_stat(s: &Stat) -> Record<128> {
    Record::new()
        .u64(0, s.st_dev)
        .u64(8, s.st_ino)
        .u32(16, s.st_mode)
        .u32(20, s.st_nlink as u32)
        .u32(24, s.st_uid)
        .u32(28, s.st_gid)
        .u64(32, s.st_rdev)
        .i64(48, s.st_size)
        .u32(56, s.st_blksize as u32)
        .i64(64, s.st_blocks)
        .i64(72, s.st_atime)
        .u64(80, s.st_atime_nsec)
        .i64(88, s.st_mtime)
        .u64(96, s.st_mtime_nsec)
        .i64(104, s.st_ctime)
        .u64(112, s.st_ctime_nsec)
}

/// `struct statx`, which is the same everywhere.
fn guest_statx(s: &Statx) -> Record<256> {
    let time = |record: Record<256>, at: usize, t: &StatxTimestamp| {
        record.i64(at, t.tv_sec).u32(at + 8, t.tv_nsec)
    };
    let record = Record::new()
        .u32(0, s.stx_mask)
        .u32(4, s.stx_blksize)
        .u64(8, s.stx_attributes.bits())
        .u32(16, s.stx_nlink)
        .u32(20, s.stx_uid)
        .u32(24, s.stx_gid)
        .u16(28, s.stx_mode)
        .u64(32, s.stx_ino)
        .u64(40, s.stx_size)
        .u64(48, s.stx_blocks)
        .u64(56, s.stx_attributes_mask.bits())
        .u32(128, s.stx_rdev_major)
        .u32(132, s.stx_rdev_minor)
        .u32(136, s.stx_dev_major)
        .u32(140, s.stx_dev_minor)
        .u64(144, s.stx_mnt_id);
    let record = time(record, 64, &s.stx_atime);
    let record = time(record, 80, &s.stx_btime);
    let record = time(record, 96, &s.stx_ctime);
    time(record, 112, &s.stx_mtime)
}
