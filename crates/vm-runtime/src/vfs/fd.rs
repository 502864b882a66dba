//! The guest's file descriptors.
//!
//! A guest's number never reaches the host: it selects a slot here, and the
//! slot owns a host file that this guest opened or was given. So a guest
//! cannot name a file that the host process has open for itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// Most descriptors whatever the guest's limits say.
pub(crate) const FD_COUNT_MAX: u32 = 4096;

/// What reading and writing must know about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Never blocks; short reads mean its end.
    Regular,
    /// Cannot be read.
    Directory,
    /// Blocks; writes of up to 4096 bytes are atomic.
    Fifo,
    /// Terminals, sockets, devices: one host call per guest call.
    Other,
}

/// An open file description: shared by the descriptors that `dup` made.
#[derive(Debug)]
pub(crate) struct OpenFile {
    fd: OwnedFd,
    pub(crate) kind: FileKind,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    nonblocking: AtomicBool,
}

impl OpenFile {
    /// Wraps a host file, with the access it was opened for.
    pub(crate) fn new(fd: OwnedFd) -> Result<OpenFile, Errno> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        let stat = rustix::fs::fstat(&fd)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            FileType::Fifo => FileKind::Fifo,
            _ => FileKind::Other,
        };
        let path_only = flags.contains(OFlags::PATH);
        let access = flags & OFlags::ACCMODE;
        Ok(OpenFile {
            fd,
            kind,
            readable: !path_only && access != OFlags::WRONLY,
            writable: !path_only && access != OFlags::RDONLY,
            nonblocking: AtomicBool::new(flags.contains(OFlags::NONBLOCK)),
        })
    }

    /// The same, but writes are refused here although the host would not.
    pub(crate) fn read_only(fd: OwnedFd) -> Result<OpenFile, Errno> {
        let file = OpenFile::new(fd)?;
        Ok(OpenFile {
            writable: false,
            ..file
        })
    }

    /// Whether the guest asked not to wait. Changes by other processes that
    /// share the file go unnoticed.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[derive(Clone, Debug)]
struct Descriptor {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// Guest descriptor numbers to open files.
#[derive(Debug)]
pub(crate) struct FdTable {
    slots: Vec<Option<Descriptor>>,
    limit: u32,
}

impl FdTable {
    /// Without descriptors; numbers stay below `limit`.
    pub(crate) fn new(limit: u32) -> FdTable {
        FdTable {
            slots: Vec::new(),
            limit: limit.min(FD_COUNT_MAX),
        }
    }

    /// Changes the limit; descriptors above it stay open, as on Linux.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit.min(u64::from(FD_COUNT_MAX)) as u32;
    }

    fn slot(&self, fd: u64) -> Result<&Descriptor, Errno> {
        // The kernel takes the low 32 bits of a descriptor argument.
        let index = fd as u32 as usize;
        self.slots
            .get(index)
            .and_then(Option::as_ref)
            .ok_or(Errno::BADF)
    }

    /// The open file behind a descriptor.
    pub(crate) fn get(&self, fd: u64) -> Result<&Arc<OpenFile>, Errno> {
        self.slot(fd).map(|d| &d.file)
    }

    /// Gives `file` the lowest free number from `lowest` on.
    pub(crate) fn insert(
        &mut self,
        file: Arc<OpenFile>,
        close_on_exec: bool,
        lowest: u32,
    ) -> Result<u32, Errno> {
        let free = (lowest..self.limit)
            .find(|&fd| self.slots.get(fd as usize).is_none_or(Option::is_none))
            .ok_or(Errno::MFILE)?;
        self.place(free, file, close_on_exec);
        Ok(free)
    }

    /// Gives `file` the number `fd`, closing what had it.
    pub(crate) fn insert_at(
        &mut self,
        fd: u64,
        file: Arc<OpenFile>,
        close_on_exec: bool,
    ) -> Result<u32, Errno> {
        let fd = fd as u32;
        if fd >= self.limit {
            return Err(Errno::BADF);
        }
        self.place(fd, file, close_on_exec);
        Ok(fd)
    }

    fn place(&mut self, fd: u32, file: Arc<OpenFile>, close_on_exec: bool) {
        let index = fd as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(Descriptor {
            file,
            close_on_exec,
        });
    }

    /// Closes a descriptor; the host file goes with the last one.
    pub(crate) fn close(&mut self, fd: u64) -> Result<(), Errno> {
        let slot = self.slots.get_mut(fd as u32 as usize).ok_or(Errno::BADF)?;
        slot.take().map(drop).ok_or(Errno::BADF)
    }

    /// Whether a descriptor is to be closed by `execve`.
    pub(crate) fn close_on_exec(&self, fd: u64) -> Result<bool, Errno> {
        self.slot(fd).map(|d| d.close_on_exec)
    }

    pub(crate) fn set_close_on_exec(&mut self, fd: u64, on: bool) -> Result<(), Errno> {
        let slot = self
            .slots
            .get_mut(fd as u32 as usize)
            .and_then(Option::as_mut);
        slot.ok_or(Errno::BADF)?.close_on_exec = on;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> Arc<OpenFile> {
        let fd = rustix::fs::open("/dev/null", OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        Arc::new(OpenFile::new(fd).unwrap())
    }

    #[test]
    fn numbers_are_the_lowest_free_and_end_at_the_limit() {
        let mut table = FdTable::new(4);
        for expected in 0..4 {
            assert_eq!(table.insert(null(), false, 0), Ok(expected));
        }
        assert_eq!(table.insert(null(), false, 0), Err(Errno::MFILE));
        table.close(1).unwrap();
        assert_eq!(table.close(1), Err(Errno::BADF));
        assert_eq!(table.insert(null(), false, 2), Err(Errno::MFILE));
        assert_eq!(table.insert(null(), false, 0), Ok(1));
        assert_eq!(table.insert_at(4, null(), false), Err(Errno::BADF));
        assert!(table.get(u64::from(u32::MAX)).is_err());
        assert!(table.get(1 << 32).is_ok(), "the low 32 bits count");
    }
}
