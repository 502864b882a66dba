//! Reading and writing: bytes between guest memory and files of the host.
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

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use vm_core::mem::GuestMemory;

use super::uptr::{Cursor, IOVEC_COUNT_MAX, TRANSFER_BYTES_MAX, UserPtr, UserSlice, word};
use super::{Call, Next, Reply, signal};
use crate::kernel::Kernel;
use crate::signal::Signal;
use crate::vfs::{FileKind, OpenFile};

/// Bytes that are copied at a time.
const CHUNK_BYTES: u64 = 256 << 10;

/// Most bytes that one call copies between files.
const COPY_BYTES_MAX: u64 = 16 << 20;

/// A write of this size to a pipe that polls as writable does not block
/// (`PIPE_BUF`).
const PIPE_ATOMIC_BYTES: u64 = 4096;

/// How long a wait lasts before the preempt word is looked at again.
pub(super) const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The buffer between guest and host.
#[derive(Debug, Default)]
pub(crate) struct Bounce(Vec<u8>);

impl Bounce {
    /// Files opened with `O_DIRECT` want buffers at multiples of their
    /// blocks, which this is one of.
    const ALIGN_BYTES: usize = 4096;

    /// Its first bytes; it grows to little more than [`CHUNK_BYTES`].
    fn first(&mut self, bytes: u64) -> &mut [u8] {
        debug_assert!(bytes <= CHUNK_BYTES);
        let bytes = bytes as usize;
        let room = bytes.next_power_of_two() + Self::ALIGN_BYTES;
        if self.0.len() < room {
            self.0.resize(room, 0);
        }
        let skipped = self.0.as_ptr().align_offset(Self::ALIGN_BYTES);
        &mut self.0[skipped..skipped + bytes]
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

pub(super) fn read(p: &mut Kernel, call: &Call<'_>) -> Reply {
    transfer_buffer(p, call, Way::In, None)
}

pub(super) fn write(p: &mut Kernel, call: &Call<'_>) -> Reply {
    transfer_buffer(p, call, Way::Out, None)
}

pub(super) fn pread64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let at = checked_offset(call.args[3])?;
    transfer_buffer(p, call, Way::In, Some(at))
}

pub(super) fn pwrite64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let at = checked_offset(call.args[3])?;
    transfer_buffer(p, call, Way::Out, Some(at))
}

pub(super) fn readv(p: &mut Kernel, call: &Call<'_>) -> Reply {
    transfer_vector(p, call, Way::In, None)
}

pub(super) fn writev(p: &mut Kernel, call: &Call<'_>) -> Reply {
    transfer_vector(p, call, Way::Out, None)
}

pub(super) fn preadv(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let at = checked_offset(call.args[3])?;
    transfer_vector(p, call, Way::In, Some(at))
}

pub(super) fn pwritev(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let at = checked_offset(call.args[3])?;
    transfer_vector(p, call, Way::Out, Some(at))
}

fn transfer_buffer(p: &mut Kernel, call: &Call<'_>, way: Way, at: Option<u64>) -> Reply {
    let [fd, start, bytes, ..] = *call.args;
    check_access(p, fd, way)?;
    transfer(p, call, way, &[UserSlice::new(start, bytes)], at)
}

fn transfer_vector(p: &mut Kernel, call: &Call<'_>, way: Way, at: Option<u64>) -> Reply {
    check_access(p, call.args[0], way)?;
    let slices = io_vector(p, call)?;
    transfer(p, call, way, &slices, at)
}

/// Whether the descriptor was opened for it: asked before anything else.
fn check_access(p: &Kernel, fd: u64, way: Way) -> Result<(), Errno> {
    let file = p.files.get(fd)?;
    match (way, file.readable, file.writable) {
        (Way::In, true, _) | (Way::Out, _, true) => Ok(()),
        _ => Err(Errno::BADF),
    }
}

/// Linux refuses what no program could have before it moves anything; what
/// is merely not mapped counts as far as it is.
fn transfer(
    p: &mut Kernel,
    call: &Call<'_>,
    way: Way,
    slices: &[UserSlice],
    at: Option<u64>,
) -> Reply {
    if !slices.iter().all(|slice| slice.is_in_user_space()) {
        return Err(Errno::FAULT);
    }
    match way {
        Way::In => transfer_in(p, call, slices, at),
        Way::Out => transfer_out(p, call, slices, at),
    }
}

/// Copies between files without a way through the guest.
pub(super) fn sendfile(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [target, source, offset, count, ..] = *call.args;
    let (target, source) = (&**p.files.get(target)?, &**p.files.get(source)?);
    if !target.writable || !source.readable {
        return Err(Errno::BADF);
    }
    let at = UserPtr(offset);
    let mut from = match at.is_null() {
        true => None,
        false => Some(checked_offset(at.load(&p.memory)?)?),
    };
    let count = checked_offset(count)?.min(TRANSFER_BYTES_MAX);
    let step = step(target);
    let mut done = 0;
    let reply = loop {
        if done == count {
            break Ok(Next::Done(done));
        }
        if target.kind == FileKind::Fifo && !wait_until_ready(target, PollFlags::OUT, call) {
            break interrupted(done);
        }
        let want = (count - done).min(step) as usize;
        match rustix::fs::sendfile(target, source, from.as_mut(), want) {
            Ok(0) => break Ok(Next::Done(done)),
            Ok(sent) => {
                done += sent as u64;
                if call.is_preempted() {
                    break interrupted(done);
                }
            }
            Err(Errno::INTR) if !call.is_preempted() => {}
            Err(Errno::INTR) => break interrupted(done),
            Err(errno) => break partial(done, errno),
        }
    };
    if let Some(from) = from {
        at.store(&p.memory, from)?;
    }
    match reply {
        Err(Errno::PIPE) => signal::raise(p, call, Signal::PIPE, Errno::PIPE),
        reply => reply,
    }
}

pub(super) fn copy_file_range(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [source, source_at, target, target_at, count, flags] = *call.args;
    if flags != 0 {
        return Err(Errno::INVAL);
    }
    let (source, target) = (p.files.get(source)?, p.files.get(target)?);
    if !target.writable || !source.readable {
        return Err(Errno::BADF);
    }
    let offset = |at: u64| match UserPtr(at) {
        at if at.is_null() => Ok(None),
        at => checked_offset(at.load(&p.memory)?).map(Some),
    };
    let (mut from, mut to) = (offset(source_at)?, offset(target_at)?);
    // Both are regular files, or the host refuses. It copies all that it is
    // asked to before it comes back, so that is bounded.
    let count = checked_offset(count)?.min(COPY_BYTES_MAX) as usize;
    let copied = rustix::fs::copy_file_range(source, from.as_mut(), target, to.as_mut(), count)?;
    for (at, moved) in [(source_at, from), (target_at, to)] {
        if let Some(moved) = moved {
            UserPtr(at).store(&p.memory, moved)?;
        }
    }
    Ok(Next::Done(copied as u64))
}

/// How much to write at a time: a blocking pipe is fed in pieces that cannot
/// block once it polls ready.
fn step(target: &OpenFile) -> u64 {
    match target.kind {
        FileKind::Fifo if !target.is_nonblocking() => PIPE_ATOMIC_BYTES,
        _ => CHUNK_BYTES,
    }
}

/// A position in a file or a count of its bytes, which are signed to Linux.
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
        slices.push(UserSlice::new(word(&entry, 0), word(&entry, 8)));
    }
    if slices.iter().any(|slice| slice.bytes > i64::MAX as u64) {
        return Err(Errno::INVAL);
    }
    Ok(slices)
}

fn transfer_in(p: &mut Kernel, call: &Call<'_>, slices: &[UserSlice], at: Option<u64>) -> Reply {
    let Kernel {
        files,
        memory,
        bounce,
        ..
    } = p;
    let file = &**files.get(call.args[0])?;
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
            return interrupted(done);
        }
        let chunk = bounce.first(want);
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

fn transfer_out(p: &mut Kernel, call: &Call<'_>, slices: &[UserSlice], at: Option<u64>) -> Reply {
    let Kernel {
        files,
        memory,
        bounce,
        ..
    } = p;
    let file = &**files.get(call.args[0])?;
    let total = Cursor::total(slices);
    let mut cursor = Cursor::new(slices);
    let step = step(file);
    let mut done = 0;
    while done < total {
        let chunk = bounce.first((total - done).min(step));
        let good = cursor.copy_out(memory, chunk);
        if good == 0 {
            return partial(done, Errno::FAULT);
        }
        let chunk = &chunk[..good];
        let sent = loop {
            if file.kind == FileKind::Fifo && !wait_until_ready(file, PollFlags::OUT, call) {
                return interrupted(done);
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

/// The same where the run is to end: only a call that moved nothing is made
/// again.
fn interrupted(done: u64) -> Reply {
    Ok(match done {
        0 => Next::Interrupted,
        done => Next::Done(done),
    })
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

/// Fills guest memory from a file, for `mmap`; bytes beyond its end stay.
pub(super) fn read_into(
    memory: &GuestMemory,
    bounce: &mut Bounce,
    file: &OpenFile,
    target: UserSlice,
    offset: u64,
) -> Result<(), Errno> {
    let slices = [target];
    let mut cursor = Cursor::new(&slices);
    let mut done = 0;
    while done < target.bytes {
        let chunk = bounce.first((target.bytes - done).min(CHUNK_BYTES));
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
