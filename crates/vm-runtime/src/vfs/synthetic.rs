//! Paths that describe the process, and so must describe the guest and not
//! the host process that carries it.
//!
//! Known by their spelling: what `/proc/self`, `/proc/thread-self`,
//! `/proc/PID`, `/dev/fd` and `/dev/std*` have for the guest. However else a
//! path leads into the host process' own `/proc` directory, the file is
//! refused after opening: see [`is_of_host_process`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, MemfdFlags, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;
use vm_core::GuestAddr;
use vm_core::addr::PAGE_BYTES;
use vm_core::mem::{MAP_HIGHEST, MAP_LOWEST, Prot};

use super::{FileKind, OpenFile};
use crate::kernel::Kernel;

/// A path of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The program.
    Exe,
    /// A descriptor of the guest.
    Fd(u32),
    /// What is mapped.
    Maps,
    /// The arguments, each with its NUL.
    Cmdline,
    /// The program's short name.
    Comm,
    /// Anything else of the process: not there.
    Missing,
}

/// What `path` is, where it is one of the kernel.
pub(crate) fn lookup(kernel: &Kernel, path: &[u8]) -> Option<Entry> {
    let path = &*without_detours(path);
    match path {
        b"/dev/stdin" => return Some(Entry::Fd(0)),
        b"/dev/stdout" => return Some(Entry::Fd(1)),
        b"/dev/stderr" => return Some(Entry::Fd(2)),
        _ => {}
    }
    if let Some(number) = path.strip_prefix(b"/dev/fd/") {
        return Some(descriptor(number));
    }
    let rest = path.strip_prefix(b"/proc/")?;
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    let (who, what) = (&rest[..slash], &rest[slash + 1..]);
    if who != b"self" && who != b"thread-self" && who != kernel.pid.to_string().as_bytes() {
        return None;
    }
    Some(match what {
        b"exe" => Entry::Exe,
        b"maps" => Entry::Maps,
        b"cmdline" => Entry::Cmdline,
        b"comm" => Entry::Comm,
        _ => what.strip_prefix(b"fd/").map_or(Entry::Missing, descriptor),
    })
}

/// An absolute path without `//` and `/./`, which change nothing.
fn without_detours(path: &[u8]) -> Cow<'_, [u8]> {
    let is_detour = |part: &[u8]| part.is_empty() || part == b".";
    let mut parts = path.split(|&byte| byte == b'/');
    // In front of the first slash there is nothing; a slash at the end says
    // that it is a directory, and these are not.
    if parts.next() != Some(b"") || !parts.clone().any(is_detour) || path.ends_with(b"/") {
        return Cow::Borrowed(path);
    }
    let parts = parts.filter(|part| !is_detour(part));
    Cow::Owned(
        parts
            .flat_map(|part| [b"/", part])
            .flatten()
            .copied()
            .collect(),
    )
}

/// As in `/proc/self/fd`: decimal digits, and none too many.
fn descriptor(number: &[u8]) -> Entry {
    let is_plain = number == b"0"
        || number
            .first()
            .is_some_and(|digit| (b'1'..=b'9').contains(digit));
    let number = std::str::from_utf8(number).ok().filter(|_| is_plain);
    let number = number.and_then(|number| number.parse().ok());
    number.map_or(Entry::Missing, Entry::Fd)
}

/// Opens `path`, where it is one of the kernel. A descriptor is shared and
/// not opened anew, so its position is too.
pub(crate) fn open(
    kernel: &Kernel,
    path: &[u8],
    flags: OFlags,
) -> Option<Result<Arc<OpenFile>, Errno>> {
    let entry = lookup(kernel, path)?;
    let file = match entry {
        Entry::Fd(fd) => match kernel.files.get(fd.into()) {
            Ok(file) => Some(Arc::clone(file)),
            Err(_) => return Some(Err(Errno::NOENT)),
        },
        _ => None,
    };
    if let Some(refused) = refusal(entry, file.as_deref(), flags) {
        return Some(Err(refused));
    }
    let text = match entry {
        Entry::Fd(_) | Entry::Missing => return file.map(Ok),
        Entry::Exe => return Some(open_program(kernel)),
        Entry::Maps => maps(kernel).into_bytes(),
        Entry::Cmdline => kernel.cmdline.clone(),
        Entry::Comm => [&kernel.comm[..], b"\n"].concat(),
    };
    Some(text_file(&text).and_then(OpenFile::read_only).map(Arc::new))
}

/// Why an entry cannot be opened like that; a descriptor comes with its file.
fn refusal(entry: Entry, file: Option<&OpenFile>, flags: OFlags) -> Option<Errno> {
    let is_link = matches!(entry, Entry::Fd(_) | Entry::Exe);
    let is_directory = file.is_some_and(|file| file.kind == FileKind::Directory);
    let wants_write = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC);
    if entry == Entry::Missing {
        Some(Errno::NOENT)
    } else if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        Some(Errno::EXIST)
    } else if flags.contains(OFlags::DIRECTORY) && !is_directory {
        Some(Errno::NOTDIR)
    } else if is_link && flags.contains(OFlags::NOFOLLOW) {
        Some(Errno::LOOP)
    } else if file.is_none() && wants_write {
        Some(Errno::ACCESS)
    } else {
        None
    }
}

fn open_program(kernel: &Kernel) -> Result<Arc<OpenFile>, Errno> {
    let path = kernel.program_path()?;
    let fd = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    OpenFile::new(fd).map(Arc::new)
}

/// A file of this contents that is nowhere in the file system.
fn text_file(text: &[u8]) -> Result<OwnedFd, Errno> {
    let fd = fs::memfd_create(c"proc", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(text).and_then(|()| file.rewind());
    written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(file.into())
}

/// Whether a file just opened belongs to a process, on whichever mount of
/// procfs: memory and files of the process that runs us are there under the
/// number of each of its threads, and no guest may touch them. Those of others
/// are refused with them.
pub(crate) fn is_of_host_process(fd: &OwnedFd) -> bool {
    // What cannot be told is refused.
    let in_proc = fs::fstatfs(fd).map_or(true, |s| s.f_type == PROC_SUPER_MAGIC);
    if !in_proc {
        return false;
    }
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    fs::readlink(link, Vec::new()).map_or(true, |path| {
        let mut components = path.as_bytes().split(|byte| *byte == b'/');
        components.any(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
    })
}

/// The text of `/proc/self/maps`. Runs of pages with the same permissions
/// stand as one mapping.
fn maps(kernel: &Kernel) -> String {
    let mut text = String::new();
    let mut run: Option<(GuestAddr, Prot)> = None;
    let mut addr = MAP_LOWEST;
    while addr <= MAP_HIGHEST {
        let prot = if addr < MAP_HIGHEST {
            kernel.memory.prot(addr)
        } else {
            None
        };
        let splits = kernel.space.is_boundary(addr);
        match run {
            Some((start, had)) if splits || prot != Some(had) => {
                let name = kernel.space.name_of(start);
                let access = [(Prot::READ, 'r'), (Prot::WRITE, 'w'), (Prot::EXEC, 'x')]
                    .map(|(bit, letter)| if had.contains(bit) { letter } else { '-' });
                let access = String::from_iter(access);
                // Writing to a string cannot fail.
                let _ = write!(
                    text,
                    "{:08x}-{:08x} {access}p 00000000 00:00 0",
                    start.0, addr.0
                );
                let _ = if name.is_empty() {
                    writeln!(text)
                } else {
                    writeln!(text, "                          {name}")
                };
                run = prot.map(|prot| (addr, prot));
            }
            Some(_) => {}
            None => run = prot.map(|prot| (addr, prot)),
        }
        addr = GuestAddr(addr.0 + PAGE_BYTES);
    }
    text
}
