//! From a path that a guest passed to a file of the host: the one way there.
//!
//! ```text
//!   a file        object ──> O_PATH descriptor ──> f…(fd, "", AT_EMPTY_PATH)
//!   a name of it  entry  ──> its directory, and the last component
//! ```
//!
//! A path can lead into `/proc/self/fd` of the process that runs us, by its
//! spelling or by a link that the guest made. So no call passes a whole path
//! on to the host: names that the kernel answers itself are recognised first,
//! everything else is opened with `RESOLVE_NO_MAGICLINKS`, and what belongs to
//! the host process after all is not there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::uptr::UserPtr;
use crate::kernel::Kernel;
use crate::vfs::synthetic::{self, Entry};

pub(super) const AT_FDCWD: i32 = -100;

/// A file of the host: one that the guest has open, or one opened to find it.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Held(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Found<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Found::Held(fd) => *fd,
            Found::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Found<'_> {
    /// Acts on it by a path of the host, which leads there only so long: for
    /// calls that take no descriptor, or none that was opened with `O_PATH`.
    pub(super) fn by_path<T>(&self, act: impl FnOnce(&Path) -> T) -> T {
        act(&host_path(self.as_fd()))
    }
}

/// Where the host has a file of this process.
pub(super) fn host_path(file: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Opens without following links that are not made of a path; files of the
/// process that runs us do not exist.
///
/// Where the host has no `openat2` (before Linux 5.6, under gVisor or an old
/// valgrind), this is `ENOSYS`: `openat` would follow such links.
pub(super) fn open_plain(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    // What the guest opens is never inherited by programs of the host.
    let flags = flags | OFlags::CLOEXEC;
    let fd = fs::openat2(dir, path, flags, mode, ResolveFlags::NO_MAGICLINKS)?;
    match synthetic::is_of_host_process(&fd) {
        true => Err(Errno::NOENT),
        false => Ok(fd),
    }
}

impl Kernel {
    /// The directory that `path` is relative to. An absolute path needs none,
    /// so whatever the guest passed is fine then.
    pub(super) fn directory<'a>(&'a self, fd: u64, path: &[u8]) -> Result<BorrowedFd<'a>, Errno> {
        if path.first() == Some(&b'/') {
            return Ok(CWD);
        }
        if fd as u32 as i32 == AT_FDCWD {
            return Ok(self.cwd.as_ref().map_or(CWD, |dir| dir.as_fd()));
        }
        Ok(self.files.get(fd)?.as_fd())
    }

    /// The file that a path leads to, as `O_PATH` or as the guest has it open.
    /// Of the flags, `SYMLINK_NOFOLLOW` and `EMPTY_PATH` matter.
    pub(super) fn object(&self, dir: u64, path: u64, flags: AtFlags) -> Result<Found<'_>, Errno> {
        let path = UserPtr(path).read_path(&self.memory)?;
        let directory = self.directory(dir, &path)?;
        if path.is_empty() && flags.contains(AtFlags::EMPTY_PATH) {
            return match directory.as_raw_fd() {
                AT_FDCWD => open_object(CWD, b".", flags),
                _ => Ok(Found::Held(directory)),
            };
        }
        let follows = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
        match synthetic::lookup(self, &path) {
            Some(Entry::Fd(fd)) => {
                let file = self.files.get(fd.into()).map_err(|_| Errno::NOENT)?.as_fd();
                match follows {
                    true => Ok(Found::Held(file)),
                    // The host's number is another.
                    false => open_link(&host_path(file)),
                }
            }
            Some(Entry::Exe) if follows => open_object(CWD, self.program_path()?, flags),
            Some(Entry::Exe) => open_link(Path::new("/proc/self/exe")),
            Some(Entry::Missing) => Err(Errno::NOENT),
            _ => open_object(directory, &path, flags),
        }
    }

    /// The directory that a path's last component is in, and that component,
    /// which is not followed.
    pub(super) fn entry(&self, dir: u64, path: u64) -> Result<(Found<'_>, Vec<u8>), Errno> {
        let mut path = UserPtr(path).read_path(&self.memory)?;
        let directory = self.directory(dir, &path)?;
        // Slashes at the end say that it is a directory, and stay with it.
        let end = path.iter().rposition(|&byte| byte != b'/').unwrap_or(0);
        let Some(slash) = path[..end].iter().rposition(|&byte| byte == b'/') else {
            return Ok((Found::Held(directory), path));
        };
        let name = path.split_off(slash + 1);
        let parent = open_plain(
            directory,
            &path,
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        Ok((Found::Opened(parent), name))
    }
}

/// Opens a link of the host process, of which all that is asked is what a link
/// is like.
fn open_link(path: &Path) -> Result<Found<'static>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map(Found::Opened)
}

fn open_object(dir: BorrowedFd<'_>, path: &[u8], flags: AtFlags) -> Result<Found<'static>, Errno> {
    let nofollow = match flags.contains(AtFlags::SYMLINK_NOFOLLOW) {
        true => OFlags::NOFOLLOW,
        false => OFlags::empty(),
    };
    open_plain(dir, path, OFlags::PATH | nofollow, Mode::empty()).map(Found::Opened)
}
