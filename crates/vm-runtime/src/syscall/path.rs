//! Paths: opening, finding, making and removing files of the host by name.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::unistd::AccessFlags;
use rustix::fs::OFlags;
use rustix::fs::{self, Access, AtFlags, CWD, FileType, Gid, Mode, RenameFlags, Timestamps, Uid};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::resolve::{AT_FDCWD, Found, host_path, open_plain};
use super::uptr::{UserPtr, word};
use super::{Call, Next, Reply, host_errno};
use crate::kernel::Kernel;
use crate::vfs::synthetic::Entry;
use crate::vfs::{FileKind, OpenFile, synthetic};

impl Kernel {
    /// Opens a host file for the guest.
    fn open_host(
        &self,
        dir: u64,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OpenFile, Errno> {
        // O_TMPFILE has the bit of O_DIRECTORY, too: all of it must be there.
        let creates = flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE);
        let mode = match creates {
            true => self.unmasked(mode),
            false => Mode::empty(),
        };
        OpenFile::new(open_plain(self.directory(dir, path)?, path, flags, mode)?)
    }

    /// What the guest's mask leaves of the permissions of a new file.
    fn unmasked(&self, mode: Mode) -> Mode {
        mode & !permissions(self.umask.into())
    }
}

/// The working directory, for calls that take only a path.
pub(super) const HERE: u64 = AT_FDCWD as u32 as u64;

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
    let flags = OFlags::from_bits_retain(guest & known.bits());
    if flags.contains(OFlags::PATH) {
        // Linux ignores what else is said, but openat2 refuses it.
        return flags & (OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC);
    }
    flags
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
    fs::readlink(host_path(file.as_fd()), Vec::new())
}

pub(super) fn chdir(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let dir = match p.object(HERE, call.args[0], AtFlags::empty())? {
        Found::Opened(dir) => dir,
        Found::Held(dir) => rustix::io::fcntl_dupfd_cloexec(dir, 0)?,
    };
    enter(p, Arc::new(OpenFile::new(dir)?))
}

pub(super) fn fchdir(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let dir = Arc::clone(p.files.get(call.args[0])?);
    enter(p, dir)
}

fn enter(p: &mut Kernel, dir: Arc<OpenFile>) -> Reply {
    if dir.kind != FileKind::Directory {
        return Err(Errno::NOTDIR);
    }
    fs::accessat(&dir, c".", Access::EXEC_OK, AtFlags::empty())?;
    p.cwd = Some(dir);
    Ok(Next::Done(0))
}

pub(super) fn readlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, buffer, bytes, ..] = *call.args;
    if bytes.cast_signed() <= 0 || bytes > i32::MAX as u64 {
        return Err(Errno::INVAL);
    }
    let name = UserPtr(path).read_path(&p.memory)?;
    let target = match synthetic::lookup(p, &name) {
        Some(Entry::Exe) => p.program_path()?.to_vec(),
        Some(Entry::Fd(fd)) => {
            let file = p.files.get(fd.into()).map_err(|_| Errno::NOENT)?;
            path_of(file)?.into_bytes()
        }
        Some(Entry::Missing) => return Err(Errno::NOENT),
        Some(_) => return Err(Errno::INVAL),
        None => {
            let (dir, name) = p.entry(dir, path)?;
            fs::readlinkat(dir, name, Vec::new())?.into_bytes()
        }
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
    let file = p.object(dir, path, flags)?;
    // Through nix: rustix refuses most flags before the host sees them.
    let mode = AccessFlags::from_bits_retain(mode.cast_signed());
    let flags = flags | AtFlags::EMPTY_PATH;
    let flags = nix::fcntl::AtFlags::from_bits_retain(flags.bits().cast_signed());
    nix::unistd::faccessat(file, c"", mode, flags).map_err(host_errno)?;
    Ok(Next::Done(0))
}

pub(super) fn mkdirat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let (dir, name) = p.entry(dir, path)?;
    fs::mkdirat(dir, name, p.unmasked(permissions(mode)))?;
    Ok(Next::Done(0))
}

pub(super) fn unlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::REMOVEDIR)?;
    let (dir, name) = p.entry(dir, path)?;
    fs::unlinkat(dir, name, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn symlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [target, dir, path, ..] = *call.args;
    let target = UserPtr(target).read_path(&p.memory)?;
    let (dir, name) = p.entry(dir, path)?;
    fs::symlinkat(target, dir, name)?;
    Ok(Next::Done(0))
}

/// Links what a path leads to, or the link that it names. A file without a
/// name (`O_TMPFILE`) gets one through its descriptor.
pub(super) fn linkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::SYMLINK_FOLLOW | AtFlags::EMPTY_PATH)?;
    let (new_dir, new) = p.entry(new_dir, new)?;
    let no_path =
        flags.contains(AtFlags::EMPTY_PATH) && UserPtr(old).read_path(&p.memory)?.is_empty();
    if no_path {
        // The host asks for more rights than for a path, so it is asked.
        let file = p.directory(old_dir, b"")?;
        fs::linkat(file, c"", new_dir, new, AtFlags::EMPTY_PATH)?;
    } else if flags.contains(AtFlags::SYMLINK_FOLLOW) {
        let file = p.object(old_dir, old, AtFlags::empty())?;
        file.by_path(|old| fs::linkat(CWD, old, new_dir, new, AtFlags::SYMLINK_FOLLOW))?;
    } else {
        let (old_dir, old) = p.entry(old_dir, old)?;
        fs::linkat(old_dir, old, new_dir, new, AtFlags::empty())?;
    }
    Ok(Next::Done(0))
}

pub(super) fn renameat2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = RenameFlags::from_bits_retain(flags as u32);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    let (old_dir, old) = p.entry(old_dir, old)?;
    let (new_dir, new) = p.entry(new_dir, new)?;
    fs::renameat_with(old_dir, old, new_dir, new, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn fchmodat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    change_mode(p, call, AtFlags::empty())
}

pub(super) fn fchmodat2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    change_mode(p, call, at_flags(call.args[3], known)?)
}

fn change_mode(p: &Kernel, call: &Call<'_>, flags: AtFlags) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    // The path of a symbolic link's descriptor leads to the link itself.
    let file = p.object(dir, path, flags)?;
    file.by_path(|file| fs::chmodat(CWD, file, permissions(mode), AtFlags::empty()))?;
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
    let (dir, name) = p.entry(dir, path)?;
    fs::mknodat(dir, name, kind, p.unmasked(permissions(mode)), 0)?;
    Ok(Next::Done(0))
}

pub(super) fn truncate(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [path, bytes, ..] = *call.args;
    let bytes = i64::try_from(bytes).map_err(|_| Errno::INVAL)?;
    let file = p.object(HERE, path, AtFlags::empty())?;
    file.by_path(|file| nix::unistd::truncate(file, bytes))
        .map_err(host_errno)?;
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
    let file = p.object(dir, path, flags)?;
    let (owner, group) = owners(owner, group);
    fs::chownat(file, c"", owner, group, AtFlags::EMPTY_PATH)?;
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
        let file = p.object(dir, path, flags)?;
        file.by_path(|file| fs::utimensat(CWD, file, &times, AtFlags::empty()))?;
    }
    Ok(Next::Done(0))
}
