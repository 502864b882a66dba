//! Advisory locks on files. They are the host's, so that a guest and other
//! programs of the host see each other's.
//!
//! A call that waits for a lock asks for it again and again instead of waiting
//! in the host: that could not be interrupted by the preempt word. So it gets
//! no `EDEADLK`, and those who wait in the host come first.

use nix::fcntl::FcntlArg;
use nix::libc;
use rustix::fs::{self, FlockOperation};
use rustix::io::Errno;
use rustix::thread::{ClockId, Timespec};
use rustix::time::clock_gettime;

use super::time::{Waited, add};
use super::uptr::{Record, UserPtr, half, word};
use super::{Call, Next, Reply, host_errno};
use crate::kernel::Kernel;

/// How long to let others go on before a lock is asked for again.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// Bytes of a `struct flock`, the same everywhere with 64 bits.
const RECORD_BYTES: usize = 32;

/// Commands of `fcntl` that are about locks.
pub(super) const F_GETLK: u32 = 5;
pub(super) const F_SETLK: u32 = 6;
pub(super) const F_SETLKW: u32 = 7;
pub(super) const F_OFD_GETLK: u32 = 36;
pub(super) const F_OFD_SETLK: u32 = 37;
pub(super) const F_OFD_SETLKW: u32 = 38;

pub(super) fn flock(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const LOCK_SH: u32 = 1;
    const LOCK_EX: u32 = 2;
    const LOCK_NB: u32 = 4;
    const LOCK_UN: u32 = 8;

    let [fd, operation, ..] = *call.args;
    let operation = operation as u32;
    let host_operation = match operation & !LOCK_NB {
        LOCK_SH => FlockOperation::NonBlockingLockShared,
        LOCK_EX => FlockOperation::NonBlockingLockExclusive,
        LOCK_UN => FlockOperation::NonBlockingUnlock,
        _ => return Err(Errno::INVAL),
    };
    let waits = operation & LOCK_NB == 0;
    acquire(p, call, waits, |p| {
        fs::flock(p.files.get(fd)?, host_operation)
    })
}

/// `fcntl` with a command about a lock on a part of a file.
pub(super) fn record_lock(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [fd, command, at, ..] = *call.args;
    let command = command as u32;
    let at = UserPtr(at);
    let mut wanted = read_record(at, p)?;
    let waits = matches!(command, F_SETLKW | F_OFD_SETLKW);
    match command {
        F_GETLK | F_OFD_GETLK => {
            let arg = match command {
                F_GETLK => FcntlArg::F_GETLK(&mut wanted),
                _ => FcntlArg::F_OFD_GETLK(&mut wanted),
            };
            nix::fcntl::fcntl(p.files.get(fd)?, arg).map_err(host_errno)?;
            at.write(&p.memory, &guest_record(&wanted).0)?;
            Ok(Next::Done(0))
        }
        _ => acquire(p, call, waits, |p| {
            let arg = match command {
                F_SETLK | F_SETLKW => FcntlArg::F_SETLK(&wanted),
                _ => FcntlArg::F_OFD_SETLK(&wanted),
            };
            let done = nix::fcntl::fcntl(p.files.get(fd)?, arg);
            done.map(drop).map_err(host_errno)
        }),
    }
}

/// Asks until the lock is had, or once where the guest does not want to wait.
fn acquire(
    p: &mut Kernel,
    call: &Call<'_>,
    waits: bool,
    mut ask: impl FnMut(&Kernel) -> Result<(), Errno>,
) -> Reply {
    loop {
        match ask(p) {
            Ok(()) => return Ok(Next::Done(0)),
            Err(Errno::AGAIN | Errno::ACCESS) if waits => {}
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let until = add(clock_gettime(ClockId::Monotonic), RETRY);
        if p.wait_until(call, ClockId::Monotonic, until) == Waited::Interrupted {
            // Made again, the call asks at once: there is no time to keep.
            p.keep_waiting(call, None);
            return Ok(Next::Interrupted);
        }
    }
}

fn read_record(at: UserPtr, p: &Kernel) -> Result<libc::flock, Errno> {
    let raw = at.read::<RECORD_BYTES>(&p.memory)?;
    let (kind, whence) = (half(&raw, 0) as u16, (half(&raw, 0) >> 16) as u16);
    Ok(libc::flock {
        l_type: kind.cast_signed(),
        l_whence: whence.cast_signed(),
        l_start: word(&raw, 8).cast_signed(),
        l_len: word(&raw, 16).cast_signed(),
        l_pid: half(&raw, 24).cast_signed(),
    })
}

fn guest_record(lock: &libc::flock) -> Record<RECORD_BYTES> {
    Record::new()
        .u16(0, lock.l_type.cast_unsigned())
        .u16(2, lock.l_whence.cast_unsigned())
        .i64(8, lock.l_start)
        .i64(16, lock.l_len)
        .u32(24, lock.l_pid.cast_unsigned())
}
