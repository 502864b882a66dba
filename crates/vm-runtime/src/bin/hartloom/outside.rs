//! What comes from outside while a guest runs, turned into the preempt word:
//! `SIGPIPE`, and Ctrl-C and SIGTERM where there is something to say at the end.
//!
//! Rust's runtime ignores `SIGPIPE`, so that writing to a pipe without readers
//! is an error, which the guest is told in its own way. One that somebody else
//! sends is to reach the guest as well. The kernel tells both apart: a write
//! raises the signal in this process' name. `SIGXFSZ` is ignored for the same
//! reason: the guest gets its own.
//!
//! Rules of the unsafe code:
//!
//! - **O1** The handler calls what may be called in one, and stores to atomics.

use std::ffi::{c_int, c_void};
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::{flag, low_level};

use crate::inherited;

/// Not zero where a run is to come back. There is one run in this process.
pub(crate) static PREEMPT: AtomicU32 = AtomicU32::new(0);
/// Somebody sent `SIGPIPE`.
static PIPE_CAME: AtomicBool = AtomicBool::new(false);

/// From here on, [`pipe_came`] says whether somebody sent `SIGPIPE`. What our
/// parent had us ignore stays ignored.
pub(crate) fn watch_pipe() -> io::Result<()> {
    if is_ignored(SIGPIPE) {
        return Ok(());
    }
    // On the other stack, since compiled code may have used most of this one.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(pipe), flags, SigSet::empty());
    // SAFETY: O1: the handler keeps to it.
    unsafe { sigaction(Signal::SIGPIPE, &action) }?;
    Ok(())
}

/// From here on, a file that would become too large is an error and no more.
pub(crate) fn ignore_file_sizes() -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: O1: there is no handler.
    unsafe { sigaction(Signal::SIGXFSZ, &ignore) }?;
    Ok(())
}

extern "C" fn pipe(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: O1: the kernel calls with what is known of the signal.
    let info = unsafe { &*info };
    // SAFETY: O1: who sends this signal leaves a process, or a 0 where that is
    // none of ours.
    let sender = unsafe { info.si_pid() };
    if sender != rustix::process::getpid().as_raw_nonzero().get() {
        PIPE_CAME.store(true, Ordering::Release);
        PREEMPT.store(1, Ordering::Release);
    }
}

/// Whether somebody sent `SIGPIPE` since it was asked last.
pub(crate) fn pipe_came() -> bool {
    PIPE_CAME.swap(false, Ordering::Acquire)
}

fn is_ignored(signal: c_int) -> bool {
    inherited::ignored_signals() >> (signal - 1) & 1 != 0
}

/// Ctrl-C and SIGTERM, turned into the preempt word so that the run ends in
/// an orderly way. The second one ends hartloom at once.
pub(crate) struct Interrupts {
    caught: Arc<AtomicUsize>,
}

impl Interrupts {
    pub(crate) fn catch() -> io::Result<Interrupts> {
        let caught = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let (mut reader, writer) = UnixStream::pair()?;
        // As shells do for background jobs.
        for signal in [SIGINT, SIGTERM].into_iter().filter(|&s| !is_ignored(s)) {
            // In this order: the first signal finds `again` not yet set.
            flag::register_conditional_default(signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&caught), signal.unsigned_abs() as usize)?;
            low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                // A byte is a signal. The stream only ends where all of them
                // are ignored.
                if reader.read_exact(&mut [0]).is_ok() {
                    PREEMPT.store(1, Ordering::Release);
                }
            })?;
        Ok(Interrupts { caught })
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.caught.load(Ordering::Acquire) != 0
    }

    /// Dies by the signal that was caught, so that shells see that.
    pub(crate) fn end_as_by_default(&self) {
        let signal = i32::try_from(self.caught.load(Ordering::Acquire)).unwrap_or(SIGINT);
        // Where it comes back, the exit status says it in another way.
        let _ = low_level::emulate_default_handler(signal);
    }
}
