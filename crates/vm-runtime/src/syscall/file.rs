//! Files: by descriptor, and by path on the host.
//!
//! Bulk data moves in chunks through one buffer of the process, so that no
//! guest length decides an allocation. What Linux would do with a buffer that
//! is partly bad is done here: the good part counts, and `EFAULT` is the
//! answer only where nothing was moved. A read never takes more from a pipe
//! than the guest has room for.
//!
//! ```text
//!   write: guest ──Cursor::copy_out──> chunk ──host write──>
//!   read:  guest <──Cursor::copy_in─── chunk <──host read───
//! ```

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{
    self, Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags,
    SeekFrom, Stat, Statx, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;
use rustix::termios::{self, SpecialCodeIndex as Code};
use vm_core::mem::GuestMemory;

use super::uptr::{Cursor, IOVEC_COUNT_MAX, Record, UserPtr, UserSlice, half, word};
use super::{Call, Next, Reply, signal};
use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::vfs::{FileKind, OpenFile, synthetic};

/// Bytes that are copied at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// A write of this size to a pipe that polls as writable does not block
/// (`PIPE_BUF`).
const PIPE_ATOMIC_BYTES: u64 = 4096;

/// How long a wait lasts before the preempt word is looked at again.
pub(super) const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

const AT_FDCWD: i32 = -100;

// ---- transfers -----------------------------------------------------------

pub(super) fn read(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, start, bytes, ..] = *call.args;
    transfer_in(p, call, fd, &[UserSlice::new(start, bytes)], None)
}

pub(super) fn pread64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, start, bytes, offset, ..] = *call.args;
    let offset = checked_offset(offset)?;
    transfer_in(p, call, fd, &[UserSlice::new(start, bytes)], Some(offset))
}

pub(super) fn readv(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let slices = io_vector(p, call)?;
    transfer_in(p, call, call.args[0], &slices, None)
}

pub(super) fn write(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, start, bytes, ..] = *call.args;
    transfer_out(p, call, fd, &[UserSlice::new(start, bytes)], None)
}

pub(super) fn pwrite64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, start, bytes, offset, ..] = *call.args;
    let offset = checked_offset(offset)?;
    transfer_out(p, call, fd, &[UserSlice::new(start, bytes)], Some(offset))
}

pub(super) fn writev(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let slices = io_vector(p, call)?;
    transfer_out(p, call, call.args[0], &slices, None)
}

fn checked_offset(offset: u64) -> Result<u64, Errno> {
    if offset > i64::MAX as u64 {
        Err(Errno::INVAL)
    } else {
        Ok(offset)
    }
}

/// The vector of a call, copied once so that the guest cannot change it
/// between check and use.
fn io_vector(p: &Kernel, call: &Call<'_>) -> Result<Vec<UserSlice>, Errno> {
    let [_, vector, count, ..] = *call.args;
    if count > IOVEC_COUNT_MAX {
        return Err(Errno::INVAL);
    }
    let mut slices = Vec::with_capacity(count as usize);
    for i in 0..count {
        let entry = UserPtr(vector).at(16 * i).read::<16>(&p.memory)?;
        let slice = UserSlice::new(word(&entry, 0), word(&entry, 8));
        if slice.bytes > i64::MAX as u64 {
            return Err(Errno::INVAL);
        }
        slices.push(slice);
    }
    Ok(slices)
}

fn transfer_in(
    p: &mut Kernel,
    call: &Call<'_>,
    fd: u64,
    slices: &[UserSlice],
    at: Option<u64>,
) -> Reply {
    let Kernel {
        files,
        memory,
        bounce,
        ..
    } = p;
    let file = &**files.get(fd)?;
    if !file.readable {
        return Err(Errno::BADF);
    }
    if file.kind == FileKind::Directory {
        return Err(Errno::ISDIR);
    }
    let total = Cursor::total(slices);
    let mut cursor = Cursor::new(slices);
    let mut done = 0;
    while done < total {
        let want = cursor.writable(memory, (total - done).min(CHUNK_BYTES));
        if want == 0 {
            return partial(done, Errno::FAULT);
        }
        if at.is_none() && !wait_until_ready(file, PollFlags::IN, call) {
            return Ok(if done > 0 {
                Next::Done(done)
            } else {
                Next::Interrupted
            });
        }
        let chunk = chunk(bounce, want);
        let got = match at {
            None => rustix::io::read(file, &mut *chunk),
            Some(at) => rustix::io::pread(file, &mut *chunk, at + done),
        };
        match got {
            Ok(got) => {
                // The room was checked, and this process has one thread.
                cursor.copy_in(memory, &chunk[..got]);
                done += got as u64;
                if (got as u64) < want || file.kind != FileKind::Regular {
                    break;
                }
            }
            Err(Errno::INTR) if !call.is_preempted() => {}
            Err(Errno::INTR) if done == 0 => return Ok(Next::Interrupted),
            Err(errno) => return partial(done, errno),
        }
    }
    Ok(Next::Done(done))
}

fn transfer_out(
    p: &mut Kernel,
    call: &Call<'_>,
    fd: u64,
    slices: &[UserSlice],
    at: Option<u64>,
) -> Reply {
    let Kernel {
        files,
        memory,
        bounce,
        ..
    } = p;
    let file = &**files.get(fd)?;
    if !file.writable {
        return Err(Errno::BADF);
    }
    let total = Cursor::total(slices);
    let mut cursor = Cursor::new(slices);
    // A blocking pipe is fed in pieces that cannot block once it polls ready.
    let step = match file.kind {
        FileKind::Fifo if !file.is_nonblocking() => PIPE_ATOMIC_BYTES,
        _ => CHUNK_BYTES,
    };
    let mut done = 0;
    while done < total {
        let chunk = chunk(bounce, (total - done).min(step));
        let good = cursor.copy_out(memory, chunk);
        if good == 0 {
            return partial(done, Errno::FAULT);
        }
        let chunk = &chunk[..good];
        let sent = loop {
            if file.kind == FileKind::Fifo && !wait_until_ready(file, PollFlags::OUT, call) {
                return Ok(if done > 0 {
                    Next::Done(done)
                } else {
                    Next::Interrupted
                });
            }
            let sent = match at {
                None => rustix::io::write(file, chunk),
                Some(at) => match at.checked_add(done) {
                    Some(at) => rustix::io::pwrite(file, chunk, at),
                    None => Err(Errno::FBIG),
                },
            };
            match sent {
                Err(Errno::INTR) if !call.is_preempted() => {}
                Err(Errno::INTR) if done == 0 => return Ok(Next::Interrupted),
                sent => break sent,
            }
        };
        match sent {
            Ok(sent) => {
                done += sent as u64;
                if sent < good {
                    break;
                }
            }
            Err(Errno::PIPE) if done == 0 => {
                return signal::raise(p, call, Signal::PIPE, Errno::PIPE);
            }
            Err(errno) => return partial(done, errno),
        }
    }
    Ok(Next::Done(done))
}

/// What was moved before the error counts, as on Linux.
fn partial(done: u64, errno: Errno) -> Reply {
    if done > 0 {
        Ok(Next::Done(done))
    } else {
        Err(errno)
    }
}

/// The first bytes of the process' buffer, which grows to [`CHUNK_BYTES`] at
/// most.
fn chunk(bounce: &mut Vec<u8>, bytes: u64) -> &mut [u8] {
    debug_assert!(bytes <= CHUNK_BYTES);
    let bytes = bytes as usize;
    if bounce.len() < bytes {
        bounce.resize(bytes.next_power_of_two().max(4096), 0);
    }
    &mut bounce[..bytes]
}

/// Waits for a file that can block. `false` when the run is to end first.
fn wait_until_ready(file: &OpenFile, wanted: PollFlags, call: &Call<'_>) -> bool {
    if file.kind == FileKind::Regular || file.is_nonblocking() {
        return true;
    }
    loop {
        let preempted = call.is_preempted();
        let patience = if preempted {
            Timespec::default()
        } else {
            PATIENCE
        };
        match rustix::event::poll(&mut [PollFd::new(file, wanted)], Some(&patience)) {
            Ok(0) | Err(Errno::INTR) if preempted => return false,
            Ok(0) | Err(Errno::INTR) => {}
            // Ready, or an error that the call itself will report.
            Ok(_) | Err(_) => return true,
        }
    }
}

// ---- descriptors ---------------------------------------------------------

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
        _ => return Err(Errno::INVAL),
    };
    Ok(Next::Done(value))
}

pub(super) fn lseek(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, offset, whence, ..] = *call.args;
    let file = p.files.get(fd)?;
    let offset = offset.cast_signed();
    let unsigned = || u64::try_from(offset).map_err(|_| Errno::INVAL);
    let to = match whence as u32 {
        0 => SeekFrom::Start(unsigned()?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        3 => SeekFrom::Data(unsigned()?),
        4 => SeekFrom::Hole(unsigned()?),
        _ => return Err(Errno::INVAL),
    };
    Ok(Next::Done(fs::seek(file, to)?))
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

/// Entries are encoded as the host's kernel does, so that what it gave for a
/// buffer of this size fits the guest's.
pub(super) fn getdents64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const ENTRIES_BYTES_MAX: u64 = 32 << 10;
    const HEADER_BYTES: usize = 19;

    let [fd, start, bytes, ..] = *call.args;
    let Kernel {
        files,
        memory,
        bounce,
        ..
    } = p;
    let file = &**files.get(fd)?;
    let slice = [UserSlice::new(start, bytes)];
    let room = Cursor::new(&slice).writable(memory, bytes.min(ENTRIES_BYTES_MAX));
    if room == 0 && bytes != 0 {
        return Err(Errno::FAULT);
    }
    let mut buffer = Vec::with_capacity(room as usize);
    let mut entries = RawDir::new(file, buffer.spare_capacity_mut());
    bounce.clear();
    loop {
        let entry = match entries.next() {
            None => break,
            Some(entry) => entry?,
        };
        let name = entry.file_name().to_bytes_with_nul();
        let record_bytes = (HEADER_BYTES + name.len()).next_multiple_of(8);
        let begin = bounce.len();
        bounce.extend_from_slice(&entry.ino().to_le_bytes());
        bounce.extend_from_slice(&entry.next_entry_cookie().to_le_bytes());
        bounce.extend_from_slice(&(record_bytes as u16).to_le_bytes());
        bounce.push(directory_type(entry.file_type()));
        bounce.extend_from_slice(name);
        bounce.resize(begin + record_bytes, 0);
        if entries.is_buffer_empty() {
            break;
        }
    }
    UserPtr(start).write(memory, bounce)?;
    Ok(Next::Done(bounce.len() as u64))
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

// ---- terminals -----------------------------------------------------------

/// `struct termios` of the kernel: four words of modes, the line discipline,
/// and 19 special codes, of which 17 have a meaning.
const TERMIOS_BYTES: usize = 36;
const SPECIAL_CODES: [Code; 17] = [
    Code::VINTR,
    Code::VQUIT,
    Code::VERASE,
    Code::VKILL,
    Code::VEOF,
    Code::VTIME,
    Code::VMIN,
    Code::VSWTC,
    Code::VSTART,
    Code::VSTOP,
    Code::VSUSP,
    Code::VEOL,
    Code::VREPRINT,
    Code::VDISCARD,
    Code::VWERASE,
    Code::VLNEXT,
    Code::VEOL2,
];

pub(super) fn ioctl(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const TCGETS: u32 = 0x5401;
    const TCSETS: u32 = 0x5402;
    const TCSETSW: u32 = 0x5403;
    const TCSETSF: u32 = 0x5404;
    const TIOCGPGRP: u32 = 0x540f;
    const TIOCGWINSZ: u32 = 0x5413;
    const FIONREAD: u32 = 0x541b;
    const FIONBIO: u32 = 0x5421;
    const FIONCLEX: u32 = 0x5450;
    const FIOCLEX: u32 = 0x5451;

    let [fd, request, arg, ..] = *call.args;
    let file = Arc::clone(p.files.get(fd)?);
    let arg = UserPtr(arg);
    match request as u32 {
        TCGETS => {
            let modes = termios::tcgetattr(&file)?;
            let mut record = Record::<TERMIOS_BYTES>::new()
                .u32(0, modes.input_modes.bits())
                .u32(4, modes.output_modes.bits())
                .u32(8, modes.control_modes.bits())
                .u32(12, modes.local_modes.bits())
                .bytes(16, &[modes.line_discipline]);
            for (i, code) in SPECIAL_CODES.into_iter().enumerate() {
                record = record.bytes(17 + i, &[modes.special_codes[code]]);
            }
            arg.write(&p.memory, &record.0)?;
        }
        request @ (TCSETS | TCSETSW | TCSETSF) => {
            use rustix::termios::{
                ControlModes, InputModes, LocalModes, OptionalActions, OutputModes,
            };
            let wanted = arg.read::<TERMIOS_BYTES>(&p.memory)?;
            let mut modes = termios::tcgetattr(&file)?;
            modes.input_modes = InputModes::from_bits_retain(half(&wanted, 0));
            modes.output_modes = OutputModes::from_bits_retain(half(&wanted, 4));
            modes.control_modes = ControlModes::from_bits_retain(half(&wanted, 8));
            modes.local_modes = LocalModes::from_bits_retain(half(&wanted, 12));
            for (i, code) in SPECIAL_CODES.into_iter().enumerate() {
                modes.special_codes[code] = wanted[17 + i];
            }
            let when = match request {
                TCSETS => OptionalActions::Now,
                TCSETSW => OptionalActions::Drain,
                _ => OptionalActions::Flush,
            };
            termios::tcsetattr(&file, when, &modes)?;
        }
        TIOCGWINSZ => {
            let size = termios::tcgetwinsize(&file)?;
            let record = Record::<8>::new()
                .u16(0, size.ws_row)
                .u16(2, size.ws_col)
                .u16(4, size.ws_xpixel)
                .u16(6, size.ws_ypixel);
            arg.write(&p.memory, &record.0)?;
        }
        TIOCGPGRP => {
            let group = termios::tcgetpgrp(&file)?;
            arg.store::<u32>(&p.memory, group.as_raw_nonzero().get().cast_unsigned())?;
        }
        FIONREAD => {
            let bytes = rustix::io::ioctl_fionread(&file)?;
            arg.store::<u32>(&p.memory, u32::try_from(bytes).unwrap_or(i32::MAX as u32))?;
        }
        FIONBIO => {
            let on = arg.load::<u32>(&p.memory)? != 0;
            rustix::io::ioctl_fionbio(&file, on)?;
            file.set_nonblocking(on);
        }
        request @ (FIOCLEX | FIONCLEX) => p.files.set_close_on_exec(fd, request == FIOCLEX)?,
        _ => return Err(Errno::NOTTY),
    }
    Ok(Next::Done(0))
}

// ---- paths ---------------------------------------------------------------

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

fn permissions(mode: u64) -> Mode {
    Mode::from_bits_retain(mode as u32 & 0o7777)
}

/// Flags of a call on a path, `EINVAL` for any that are not in `known`.
fn at_flags(flags: u64, known: AtFlags) -> Result<AtFlags, Errno> {
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
    let path = UserPtr(call.args[0]).read_path(&p.memory)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let here = AT_FDCWD as u32;
    let dir = p.open_host(here.into(), &path, flags, Mode::empty())?;
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
        Some(synthetic::Entry::Exe) => p.program_path().ok_or(Errno::NOENT)?.to_vec(),
        Some(synthetic::Entry::Fd(fd)) => path_of(p.files.get(fd.into())?)?.into_bytes(),
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
    let path = UserPtr(path).read_path(&p.memory)?;
    let path = match synthetic::lookup(p, &path) {
        Some(synthetic::Entry::Exe) => p.program_path().ok_or(Errno::NOENT)?.to_vec(),
        _ => path,
    };
    let access = Access::from_bits_retain(mode);
    fs::accessat(p.directory(dir, &path)?, &path[..], access, flags)?;
    Ok(Next::Done(0))
}

pub(super) fn mkdirat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let path = UserPtr(path).read_path(&p.memory)?;
    let mode = permissions(mode) & !permissions(p.umask.into());
    fs::mkdirat(p.directory(dir, &path)?, &path[..], mode)?;
    Ok(Next::Done(0))
}

pub(super) fn unlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::REMOVEDIR)?;
    let path = UserPtr(path).read_path(&p.memory)?;
    fs::unlinkat(p.directory(dir, &path)?, &path[..], flags)?;
    Ok(Next::Done(0))
}

pub(super) fn symlinkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [target, dir, path, ..] = *call.args;
    let target = UserPtr(target).read_path(&p.memory)?;
    let path = UserPtr(path).read_path(&p.memory)?;
    fs::symlinkat(&target[..], p.directory(dir, &path)?, &path[..])?;
    Ok(Next::Done(0))
}

pub(super) fn linkat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = at_flags(flags, AtFlags::SYMLINK_FOLLOW)?;
    let old = UserPtr(old).read_path(&p.memory)?;
    let new = UserPtr(new).read_path(&p.memory)?;
    let old_dir = p.directory(old_dir, &old)?;
    fs::linkat(
        old_dir,
        &old[..],
        p.directory(new_dir, &new)?,
        &new[..],
        flags,
    )?;
    Ok(Next::Done(0))
}

pub(super) fn renameat2(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [old_dir, old, new_dir, new, flags, ..] = *call.args;
    let flags = RenameFlags::from_bits_retain(flags as u32);
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    let old = UserPtr(old).read_path(&p.memory)?;
    let new = UserPtr(new).read_path(&p.memory)?;
    let old_dir = p.directory(old_dir, &old)?;
    let new_dir = p.directory(new_dir, &new)?;
    fs::renameat_with(old_dir, &old[..], new_dir, &new[..], flags)?;
    Ok(Next::Done(0))
}

pub(super) fn fchmodat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, mode, ..] = *call.args;
    let path = UserPtr(path).read_path(&p.memory)?;
    fs::chmodat(
        p.directory(dir, &path)?,
        &path[..],
        permissions(mode),
        AtFlags::empty(),
    )?;
    Ok(Next::Done(0))
}

// ---- what a file is ------------------------------------------------------

pub(super) fn fstat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, buffer, ..] = *call.args;
    let stat = fs::fstat(p.files.get(fd)?)?;
    UserPtr(buffer).write(&p.memory, &guest_stat(&stat).0)?;
    Ok(Next::Done(0))
}

pub(super) fn newfstatat(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, buffer, flags, ..] = *call.args;
    let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let flags = at_flags(flags, known)?;
    let path = UserPtr(path).read_path(&p.memory)?;
    let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
    let stat = match synthetic::lookup(p, &path).filter(|_| follow) {
        Some(synthetic::Entry::Exe) => fs::stat(p.program_path().ok_or(Errno::NOENT)?)?,
        Some(synthetic::Entry::Fd(fd)) => fs::fstat(p.files.get(fd.into())?)?,
        _ => fs::statat(p.directory(dir, &path)?, &path[..], flags)?,
    };
    UserPtr(buffer).write(&p.memory, &guest_stat(&stat).0)?;
    Ok(Next::Done(0))
}

pub(super) fn statx(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [dir, path, flags, mask, buffer, ..] = *call.args;
    let known = AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::EMPTY_PATH
        | AtFlags::STATX_FORCE_SYNC
        | AtFlags::STATX_DONT_SYNC;
    let flags = at_flags(flags, known)?;
    let path = UserPtr(path).read_path(&p.memory)?;
    let mask = StatxFlags::from_bits_retain(mask as u32);
    let follow = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
    let statx = match synthetic::lookup(p, &path).filter(|_| follow) {
        Some(synthetic::Entry::Exe) => {
            fs::statx(CWD, p.program_path().ok_or(Errno::NOENT)?, flags, mask)?
        }
        Some(synthetic::Entry::Fd(fd)) => fs::statx(
            p.files.get(fd.into())?,
            c"",
            flags | AtFlags::EMPTY_PATH,
            mask,
        )?,
        _ => fs::statx(p.directory(dir, &path)?, &path[..], flags, mask)?,
    };
    UserPtr(buffer).write(&p.memory, &guest_statx(&statx).0)?;
    Ok(Next::Done(0))
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

/// Fills guest memory from a file, for `mmap`; bytes beyond its end stay.
pub(super) fn read_into(
    memory: &GuestMemory,
    bounce: &mut Vec<u8>,
    file: &OpenFile,
    target: UserSlice,
    offset: u64,
) -> Result<(), Errno> {
    let slices = [target];
    let mut cursor = Cursor::new(&slices);
    let mut done = 0;
    while done < target.bytes {
        let chunk = chunk(bounce, (target.bytes - done).min(CHUNK_BYTES));
        let at = offset.checked_add(done).ok_or(Errno::OVERFLOW)?;
        match rustix::io::pread(file, &mut *chunk, at) {
            Ok(0) => break,
            Ok(got) => {
                cursor.copy_in(memory, &chunk[..got]);
                done += got as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
