//! What this process was started with and finds changed in `main`: Rust's
//! runtime opens `/dev/null` where a standard file is closed, and ignores
//! `SIGPIPE`. A guest is to find what its parent left. And limits under which
//! that runtime, or `main`, would abort: they are refused with a message. Where
//! not even the host's loader can work, it is the loader that ends the process,
//! or the kernel.
//!
//! The host's loader calls what stands in `.init_array` before that. Rules of
//! the unsafe code:
//!
//! - **I1** What runs there is one thread, before Rust's runtime is set up: it
//!   calls the C library for facts alone, and stores them in atomics, or ends
//!   the process. It neither allocates nor panics.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::libc;

use crate::flags::STATUS_OWN_ERROR;

/// Highest number of a signal.
const SIGNAL_HIGHEST: i32 = 64;

/// Least limit of the stack. Compiling takes most, 80 KiB in a debug build.
const STACK_BYTES_MIN: libc::rlim_t = 128 << 10;
/// Least address space that is left: for the first allocations and the stack on
/// which Rust's runtime handles signals. What a guest needs is refused later,
/// with its size.
const ROOM_BYTES_MIN: usize = 2 << 20;

/// Bit n for descriptor n.
static CLOSED: AtomicU8 = AtomicU8::new(0);
/// Bit n for descriptor n: those that are closed or open for reading only.
static UNWRITABLE: AtomicU8 = AtomicU8::new(0);
/// Bit n-1 for signal n.
static IGNORED: AtomicU64 = AtomicU64::new(0);

// SAFETY: I1: entries of this section are called with the arguments of `main`,
// which a function of the C convention may leave alone.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // First, and in little: there may be one page of stack left.
    let mut stack = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: I1: asks for a limit, which a local takes.
    if unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut stack) } == 0
        && stack.rlim_cur < STACK_BYTES_MIN
    {
        refuse(b"hartloom: the limit of the stack is less than 128 KiB; raise it (ulimit -s)\n");
    }
    if !is_room_left() {
        refuse(
            b"hartloom: the limits of address space and data leave less than 2 MiB; raise them (ulimit -v, -d)\n",
        );
    }
    for fd in 0..3 {
        // SAFETY: I1: asks for flags; any number may be asked about.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        if flags == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
        if flags == -1 || flags & libc::O_ACCMODE == libc::O_RDONLY {
            UNWRITABLE.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
    for signal in 1..=SIGNAL_HIGHEST {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: I1: asks what is set and sets nothing. Where the C library
        // keeps the signal to itself, the zeros stay.
        unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: all fields are integers or pointers, for which zeros do.
        let action = unsafe { action.assume_init() };
        if action.sa_sigaction == libc::SIG_IGN {
            IGNORED.fetch_or(1 << (signal - 1), Ordering::Relaxed);
        }
    }
}

/// Whether there is address space to begin with: maps some, and gives it back.
fn is_room_left() -> bool {
    // SAFETY: I1: pages of which nothing is known are nobody's.
    let room = unsafe {
        libc::mmap(
            ptr::null_mut(),
            ROOM_BYTES_MIN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if room == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: I1: just mapped, and nothing points there.
    unsafe { libc::munmap(room, ROOM_BYTES_MIN) };
    true
}

/// Ends this process with a message and the status of errors of its own.
fn refuse(message: &[u8]) -> ! {
    // SAFETY: I1: the bytes are those of a slice. Where they cannot be written,
    // the status is left.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    // SAFETY: I1: ends the process without calling anything of it.
    unsafe { libc::_exit(STATUS_OWN_ERROR.into()) }
}

/// Which of the standard files this process was started without.
pub(crate) fn closed_stdio() -> [bool; 3] {
    let closed = CLOSED.load(Ordering::Relaxed);
    [0, 1, 2].map(|fd| closed >> fd & 1 != 0)
}

/// Whether nothing can be written to standard output or error: closed, or open
/// for reading only. Rust's library takes either for written.
pub(crate) fn is_unwritable(file: impl AsRawFd) -> bool {
    UNWRITABLE.load(Ordering::Relaxed) >> file.as_raw_fd() & 1 != 0
}

/// The signals that it was started with ignored: bit n-1 for signal n.
pub(crate) fn ignored_signals() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}
