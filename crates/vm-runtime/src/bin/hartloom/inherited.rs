//! What this process was started with and finds changed in `main`: Rust's
//! runtime opens `/dev/null` where a standard file is closed, and ignores
//! `SIGPIPE`. A guest is to find what its parent left.
//!
//! The host's loader calls what stands in `.init_array` before that. Rules of
//! the unsafe code:
//!
//! - **I1** What runs there is one thread, before Rust's runtime is set up: it
//!   calls the C library for facts alone, and stores them in atomics. It
//!   neither allocates nor panics.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::libc;

/// Highest number of a signal.
const SIGNAL_HIGHEST: i32 = 64;

/// Bit n for descriptor n.
static CLOSED: AtomicU8 = AtomicU8::new(0);
/// Bit n-1 for signal n.
static IGNORED: AtomicU64 = AtomicU64::new(0);

// SAFETY: I1: entries of this section are called with the arguments of `main`,
// which a function of the C convention may leave alone.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for fd in 0..3 {
        // SAFETY: I1: asks for flags; any number may be asked about.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
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

/// Which of the standard files this process was started without.
pub(crate) fn closed_stdio() -> [bool; 3] {
    let closed = CLOSED.load(Ordering::Relaxed);
    [0, 1, 2].map(|fd| closed >> fd & 1 != 0)
}

/// The signals that it was started with ignored: bit n-1 for signal n.
pub(crate) fn ignored_signals() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}
