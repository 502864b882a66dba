//! A line per call for `--strace`: `write(1, 0x12345, 6) = 6`.

use std::fmt::Write as _;
use std::io::Write as _;

use rustix::io::Errno;
use vm_core::GuestAddr;
use vm_core::mem::GuestMemory;

use super::table::{self, Arg, Class};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::signal::Signal;

/// Bytes of a path that are shown.
const PATH_SHOWN_BYTES: usize = 256;

/// Writes the line of a call. Where it cannot be written, tracing ends and
/// the guest goes on.
#[cold]
pub(super) fn line(p: &mut Kernel, number: u64, call: &Call<'_>, reply: &Reply) {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = describe(&mut text, &p.memory, number, call, reply);
    if let Some(out) = &mut p.strace
        && out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
    {
        p.strace = None;
    }
}

fn describe(
    text: &mut String,
    memory: &GuestMemory,
    number: u64,
    call: &Call<'_>,
    reply: &Reply,
) -> std::fmt::Result {
    let row = table::find(number);
    match row {
        Some(row) => write!(text, "{}(", row.name)?,
        None => write!(text, "syscall_{number}(")?,
    }
    let kinds = row.map_or(&[Arg::Pointer; 6][..], |row| row.args);
    for (i, (kind, value)) in kinds.iter().zip(*call.args).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        argument(text, memory, *kind, value)?;
    }
    text.push_str(") = ");
    match reply {
        Ok(Next::Done(value)) if row.is_some_and(|row| row.class == Class::Memory) => {
            write!(text, "{value:#x}")?;
        }
        Ok(Next::Done(value)) => write!(text, "{}", value.cast_signed())?,
        Ok(Next::FlushCode) => text.push('0'),
        Ok(Next::Interrupted) => text.push_str("? (interrupted, to be made again)"),
        Ok(Next::End(outcome)) => write!(text, "? ({outcome})")?,
        Err(errno) => {
            let number = errno.raw_os_error();
            match errno_name(*errno) {
                Some(name) => write!(text, "-1 {name}")?,
                None => write!(text, "-1 errno {number}")?,
            }
            if *errno == Errno::NOSYS {
                text.push_str(" (not supported by hartloom)");
            }
        }
    }
    text.push('\n');
    Ok(())
}

fn argument(text: &mut String, memory: &GuestMemory, kind: Arg, value: u64) -> std::fmt::Result {
    match kind {
        Arg::DirFd if value as u32 as i32 == -100 => write!(text, "AT_FDCWD"),
        Arg::Fd | Arg::DirFd | Arg::Int => write!(text, "{}", value as u32 as i32),
        Arg::Path => match memory.read_c_string(GuestAddr(value), PATH_SHOWN_BYTES) {
            Ok(Some(path)) => write!(text, "\"{}\"", path.escape_ascii()),
            Ok(None) | Err(_) => pointer(text, value),
        },
        Arg::Pointer => pointer(text, value),
        Arg::Length => write!(text, "{value}"),
        Arg::Offset => write!(text, "{}", value.cast_signed()),
        Arg::Flags => write!(text, "{value:#x}"),
        Arg::Mode => write!(text, "{:#o}", value as u32),
        Arg::Signal => match Signal::new((value as u32).into()) {
            Some(signal) => write!(text, "{signal}"),
            None => write!(text, "{}", value as u32 as i32),
        },
    }
}

fn pointer(text: &mut String, value: u64) -> std::fmt::Result {
    if value == 0 {
        write!(text, "NULL")
    } else {
        write!(text, "{value:#x}")
    }
}

/// Names of asm-generic/errno.h, which x86-64 shares.
fn errno_name(errno: Errno) -> Option<&'static str> {
    const FIRST: [&str; 40] = [
        "EPERM",
        "ENOENT",
        "ESRCH",
        "EINTR",
        "EIO",
        "ENXIO",
        "E2BIG",
        "ENOEXEC",
        "EBADF",
        "ECHILD",
        "EAGAIN",
        "ENOMEM",
        "EACCES",
        "EFAULT",
        "ENOTBLK",
        "EBUSY",
        "EEXIST",
        "EXDEV",
        "ENODEV",
        "ENOTDIR",
        "EISDIR",
        "EINVAL",
        "ENFILE",
        "EMFILE",
        "ENOTTY",
        "ETXTBSY",
        "EFBIG",
        "ENOSPC",
        "ESPIPE",
        "EROFS",
        "EMLINK",
        "EPIPE",
        "EDOM",
        "ERANGE",
        "EDEADLK",
        "ENAMETOOLONG",
        "ENOLCK",
        "ENOSYS",
        "ENOTEMPTY",
        "ELOOP",
    ];
    let number = usize::try_from(errno.raw_os_error()).ok()?;
    match number {
        75 => Some("EOVERFLOW"),
        95 => Some("EOPNOTSUPP"),
        110 => Some("ETIMEDOUT"),
        _ => FIRST.get(number.checked_sub(1)?).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn lines_look_like_those_of_strace() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let preempt = AtomicU32::new(0);
        let check = |number, args, reply: Reply, expected: &str| {
            let call = Call {
                args: &args,
                pc: GuestAddr(0),
                preempt: &preempt,
            };
            let mut text = String::new();
            describe(&mut text, &memory, number, &call, &reply).unwrap();
            assert_eq!(text, format!("{expected}\n"));
        };
        check(
            64,
            [1, 0x12345, 6, 0, 0, 0],
            Ok(Next::Done(6)),
            "write(1, 0x12345, 6) = 6",
        );
        check(
            56,
            [-100_i64 as u64, 0x99, 0x8000, 0o644, 0, 0],
            Err(Errno::FAULT),
            "openat(AT_FDCWD, 0x99, 0x8000, 0o644) = -1 EFAULT",
        );
        check(214, [0; 6], Ok(Next::Done(0x5000)), "brk(NULL) = 0x5000");
        check(
            500,
            [1, 0, 0, 0, 0, 0],
            Err(Errno::NOSYS),
            "syscall_500(0x1, NULL, NULL, NULL, NULL, NULL) = -1 ENOSYS (not supported by hartloom)",
        );
        assert_eq!(errno_name(Errno::LOOP), Some("ELOOP"));
        assert_eq!(errno_name(Errno::NOSYS), Some("ENOSYS"));
    }
}
