//! Paths: opening, finding, making and removing files of the host by name.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::unistd::AccessFlags;
use rustix::fs::{
    self, Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timestamps,
    Uid,
};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::uptr::{UserPtr, word};
use super::{Call, Next, Reply, host_errno};
use crate::kernel::Kernel;
use crate::vfs::synthetic::Entry;
use crate::vfs::{FileKind, OpenFile, synthetic};

const AT_FDCWD: i32 = -100;

impl Kernel {
    /// The directory that `path` is relative to. An absolute path needs none,
    /// so whatever the guest passed is fine then.
    fn directory<'a>(&'a self, fd: u64, path: &[u8]) -> Result<BorrowedFd<'a>, Errno> {
        if path.first() == Some(&b'/') {
            return Ok(CWD);
        }
        if fd as u32 as i32 == AT_FDCWD {
            return Ok(self.cwd.as_ref().map_or(CWD, |dir| dir.as_fd()));
        }
        Ok(self.files.get(fd)?.as_fd())
    }

    /// The path at `path` and the directory it is relative to.
    pub(super) fn path_at(&self, dir: u64, path: u64) -> Result<(BorrowedFd<'_>, Vec<u8>), Errno> {
        let path = UserPtr(path).read_path(&self.memory)?;
        Ok((self.directory(dir, &path)?, path))
    }

    /// As [`path_at`](Kernel::path_at), where the path may also be one of the
    /// kernel that leads on to a file of the host: `/proc/self/exe`,
    /// `/dev/stdin` and the like. The flags are those to ask the host with.
    pub(super) fn resolve(
        &self,
        dir: u64,
        path: u64,
        flags: AtFlags,
    ) -> Result<(BorrowedFd<'_>, Vec<u8>, AtFlags), Errno> {
        let (dir, path) = self.path_at(dir, path)?;
        if flags.contains(AtFlags::SYMLINK_NOFOLLOW) {
            return Ok((dir, path, flags));
        }
        Ok(match synthetic::lookup(self, &path) {
            Some(Entry::Exe) => (CWD, self.program_path()?.to_vec(), flags),
            Some(Entry::Fd(fd)) => {
                let file = self.files.get(fd.into())?.as_fd();
                (file, Vec::new(), flags | AtFlags::EMPTY_PATH)
            }
            _ => (dir, path, flags),
        })
    }

    /// Opens what is at `path`, relative to the working directory, for a call
    /// that keeps no descriptor.
    pub(super) fn open_path(&self, path: u64, flags: OFlags) -> Result<OpenFile, Errno> {
        let path = UserPtr(path).read_path(&self.memory)?;
        let here = AT_FDCWD as u32;
        self.open_host(here.into(), &path, flags, Mode::empty())
    }

    /// Opens a host file for the guest.
    fn open_host(
        &self,
        dir: u64,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OpenFile, Errno> {
        let directory = self.directory(dir, path)?;
        // What the guest opens is never inherited by programs of the host.
        let flags = flags | OFlags::CLOEXEC;
        // O_TMPFILE has the bit of O_DIRECTORY, too: all of it must be there.
        let creates = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
        let mode = if creates {
            mode & !permissions(self.umask.into())
        } else {
            Mode::empty()
        };
        // A magic link of /proc/self/fd would open the host process' files.
        let no_magic = ResolveFlags::NO_MAGICLINKS;
        let fd = match fs::openat2(directory, path, flags, mode, no_magic) {
            // Old kernels and some containers do not have the call.
            Err(Errno::NOSYS | Errno::PERM) => fs::openat(directory, path, flags, mode)?,
            opened => opened?,
        };
        if synthetic::is_of_host_process(&fd) {
            return Err(Errno::NOENT);
        }
        OpenFile::new(fd)
    }
}

pub(super) fn openat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, mode, ..] = *call.args;
    let path = UserPtr(path).read_path(&p.memory)?;
    let flags = open_flags(flags as u32);
    let file = match synthetic::open(p, &path, flags) {
        Some(opened) => opened?,
        None => Arc::new(p.open_host(dir, &path, flags, permissions(mode))?),
    };
    let close_on_exec = flags.contains(OFlags::CLOEXEC);
    Ok(Next::Done(p.files.insert(file, close_on_exec, 0)?.into()))
}

/// Flags of `open` for the host. RISC-V and x86-64 both use the asm-generic
/// values; bits that neither knows are dropped, as `open` has always done.
fn open_flags(guest: u32) -> OFlags {
    let known = OFlags::ACCMODE
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOCTTY
        | OFlags::TRUNC
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::SYNC
        | OFlags::DSYNC
        | OFlags::ASYNC
        | OFlags::DIRECT
        | OFlags::LARGEFILE
        | OFlags::DIRECTORY
        | OFlags::NOFOLLOW
        | OFlags::NOATIME
        | OFlags::CLOEXEC
        | OFlags::PATH
        | OFlags::TMPFILE;
    OFlags::from_bits_retain(guest & known.bits())
}

pub(super) fn permissions(mode: u64) -> Mode {
    Mode::from_bits_retain(mode as u32 & 0o7777)
}

/// Flags of a call on a path, `EINVAL` for any that are not in `known`.
pub(super) fn at_flags(flags: u64, known: AtFlags) -> Result<AtFlags, Errno> {
    let flags = AtFlags::from_bits_retain(flags as u32);
    if flags.difference(known).is_empty() {
        Ok(flags)
    } else {
        Err(Errno::INVAL)
    }
}

pub(super) fn getcwd(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [buffer, bytes, ..] = *call.args;
    let path = match &p.cwd {
        None => rustix::process::getcwd(Vec::new())?.into_bytes_with_nul(),
        Some(dir) => path_of(dir)?.into_bytes_with_nul(),
    };
    if (path.len() as u64) > bytes {
        return Err(Errno::RANGE);
    }
    UserPtr(buffer).write(&p.memory, &path)?;
    Ok(Next::Done(path.len() as u64))
}

/// Where a host file is, as the host sees it.
fn path_of(file: &impl AsFd) -> Result<std::ffi::CString, Errno> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    fs::readlink(link, Vec::new())
}

pub(super) fn chdir(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let dir = p.open_path(call.args[0], OFlags::PATH | OFlags::DIRECTORY)?;
    p.cwd = Some(Arc::new(dir));
    Ok(Next::Done(0))
}

pub(super) fn fchdir(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let dir = p.files.get(call.args[0])?;
    if dir.kind != FileKind::Directory {
        return Err(Errno::NOTDIR);
    }
    fs::accessat(dir, c".", Access::EXEC_OK, AtFlags::empty())?;
    p.cwd = Some(Arc::clone(dir));
    Ok(Next::Done(0))
}

pub(super) fn readlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, buffer, bytes, ..] = *call.args;
    let path = UserPtr(path).read_path(&p.memory)?;
    if bytes.cast_signed() <= 0 || bytes > i32::MAX as u64 {
        return Err(Errno::INVAL);
    }
    let target = match synthetic::lookup(p, &path) {
        Some(Entry::Exe) => p.program_path()?.to_vec(),
        Some(Entry::Fd(fd)) => path_of(p.files.get(fd.into())?)?.into_bytes(),
        Some(_) => return Err(Errno::INVAL),
        None => fs::readlinkat(p.directory(dir, &path)?, &path[..], Vec::new())?.into_bytes(),
    };
    let fits = target.len().min(bytes as usize);
    UserPtr(buffer).write(&p.memory, &target[..fits])?;
    Ok(Next::Done(fits as u64))
}

pub(super) fn faccessat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    check_access(p, call, AtFlags::empty())
}

pub(super) fn faccessat2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let known = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    check_access(p, call, at_flags(call.args[3], known)?)
}

fn check_access(p: &Kernel, call: &Call<'_>, flags: AtFlags) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let mode = mode as u32;
    if mode & !7 != 0 {
        return Err(Errno::INVAL);
    }
    let (dir, path, flags) = p.resolve(dir, path, flags)?;
    // Through nix: rustix refuses most flags before the host sees them.
    let mode = AccessFlags::from_bits_retain(mode.cast_signed());
    let flags = nix::fcntl::AtFlags::from_bits_retain(flags.bits().cast_signed());
    nix::unistd::faccessat(dir, &path[..], mode, flags).map_err(host_errno)?;
    Ok(Next::Done(0))
}

pub(super) fn mkdirat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let (dir, path) = p.path_at(dir, path)?;
    let mode = permissions(mode) & !permissions(p.umask.into());
    fs::mkdirat(dir, path, mode)?;
    Ok(Next::Done(0))
}

pub(super) fn unlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::REMOVEDIR)?;
    let (dir, path) = p.path_at(dir, path)?;
    fs::unlinkat(dir, path, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn symlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [target, dir, path, ..] = *call.args;
    let target = UserPtr(target).read_path(&p.memory)?;
    let (dir, path) = p.path_at(dir, path)?;
    fs::symlinkat(target, dir, path)?;
    Ok(Next::Done(0))
}

pub(super) fn linkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::SYMLINK_FOLLOW)?;
    let (old_dir, old) = p.path_at(old_dir, old)?;
    let (new_dir, new) = p.path_at(new_dir, new)?;
    fs::linkat(old_dir, old, new_dir, new, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn renameat2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = RenameFlags::from_bits_retain(flags as u32);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    let (old_dir, old) = p.path_at(old_dir, old)?;
    let (new_dir, new) = p.path_at(new_dir, new)?;
    fs::renameat_with(old_dir, old, new_dir, new, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn fchmodat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let (dir, path) = p.path_at(dir, path)?;
    fs::chmodat(dir, path, permissions(mode), AtFlags::empty())?;
    Ok(Next::Done(0))
}

pub(super) fn mknodat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let kind = match FileType::from_raw_mode(mode as u32) {
        // What Linux takes no type for: a regular file.
        FileType::Unknown if mode as u32 & 0o170_000 == 0 => FileType::RegularFile,
        kind @ (FileType::RegularFile | FileType::Fifo) => kind,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket => {
            return Err(Errno::PERM);
        }
        _ => return Err(Errno::INVAL),
    };
    let (dir, path) = p.path_at(dir, path)?;
    let mode = permissions(mode) & !permissions(p.umask.into());
    fs::mknodat(dir, path, kind, mode, 0)?;
    Ok(Next::Done(0))
}

pub(super) fn truncate(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [path, bytes, ..] = *call.args;
    if bytes > i64::MAX as u64 {
        return Err(Errno::INVAL);
    }
    // A FIFO would wait for a reader otherwise.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match p.open_path(path, flags) {
        Ok(file) if file.kind == FileKind::Regular => fs::ftruncate(&file, bytes)?,
        Ok(_) | Err(Errno::NXIO) => return Err(Errno::INVAL),
        Err(errno) => return Err(errno),
    }
    Ok(Next::Done(0))
}

/// An owner and a group to change to; all ones leave what is there.
pub(super) fn owners(owner: u64, group: u64) -> (Option<Uid>, Option<Gid>) {
    let id = |id: u64| Some(id as u32).filter(|&id| id != u32::MAX);
    (id(owner).map(Uid::from_raw), id(group).map(Gid::from_raw))
}

pub(super) fn fchownat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, owner, group, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let (dir, path) = p.path_at(dir, path)?;
    let (owner, group) = owners(owner, group);
    fs::chownat(dir, path, owner, group, flags)?;
    Ok(Next::Done(0))
}

/// Without a path it is the directory's descriptor whose times change
/// (`futimens`).
pub(super) fn utimensat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    /// `UTIME_NOW`.
    const NOW: i64 = (1 << 30) - 1;

    let [dir, path, times, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
    let times = match UserPtr(times) {
        times if times.is_null() => [0, NOW, 0, NOW],
        times => {
            let raw = times.read::<32>(&p.memory)?;
            [0, 8, 16, 24].map(|at| word(&raw, at).cast_signed())
        }
    };
    let [access_sec, access_nsec, change_sec, change_nsec] = times;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: access_sec,
            tv_nsec: access_nsec,
        },
        last_modification: Timespec {
            tv_sec: change_sec,
            tv_nsec: change_nsec,
        },
    };
    if UserPtr(path).is_null() && dir as u32 as i32 != AT_FDCWD {
        if !flags.is_empty() {
            return Err(Errno::INVAL);
        }
        fs::futimens(p.files.get(dir)?, &times)?;
    } else {
        let (dir, path) = p.path_at(dir, path)?;
        fs::utimensat(dir, path, &times, flags)?;
    }
    Ok(Next::Done(0))
}
