//! The kernel that a guest program sees.
//!
//! ```text
//!   ecall ──> table ──> handler(&mut Kernel, &Call) ──> Reply
//!               │                                         │
//!               └── tracer, filter, docs/syscalls.md      └── perform: a0, pc
//! ```
//!
//! Handlers all have one signature and never see the hart: what is to happen
//! is their [`Next`], and [`Kernel::syscall`] alone makes it happen.
//! Numbers are those of the asm-generic table, which RISC-V uses.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use vm_core::hart::Hart;
use vm_core::{GuestAddr, XReg};

use crate::kernel::Kernel;
use crate::outcome::Outcome;

pub(crate) mod table;
mod trace;
pub(crate) mod uptr;

mod descriptor;
mod event;
mod futex;
mod lock;
mod memory;
mod path;
mod process;
mod resolve;
pub(crate) mod signal;
mod stat;
mod terminal;
mod time;
mod transfer;

pub(crate) use process::Limits;
pub(crate) use time::Waiting;
pub(crate) use transfer::Bounce;

/// Length of `ecall`, which has no compressed form.
const ECALL_BYTES: u64 = 4;

/// A call as the guest made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// a0 to a5, where they are: copying them as a block just after the guest
    /// stored them one by one would stall (store forwarding), and most calls
    /// want few of them.
    pub(crate) args: &'a [u64; 6],
    /// Where it was made.
    pub(crate) pc: GuestAddr,
    /// Not zero when the run is to end, so that nothing waits for long.
    pub(crate) preempt: &'a AtomicU32,
}

impl Call<'_> {
    /// Whether the run is to end.
    pub(crate) fn is_preempted(&self) -> bool {
        self.preempt.load(Ordering::Relaxed) != 0
    }
}

/// What is to happen after a call.
#[derive(Debug)]
pub(crate) enum Next {
    /// The guest goes on with this result.
    Done(u64),
    /// The guest goes on with result 0, after the engine has forgotten all
    /// code it knows.
    FlushCode,
    /// The preempt word was set while waiting: nothing has happened, and the
    /// call is to be made again.
    Interrupted,
    /// The guest has ended.
    End(Outcome),
}

/// What a handler answers: the next step, or the guest's `errno`. Error
/// numbers are the same on RISC-V and on x86-64.
pub(crate) type Reply = Result<Next, Errno>;

/// A handler.
pub(crate) type Handler = fn(&mut Kernel, &Call<'_>) -> Reply;

/// An error of the host, as `nix` names it.
fn host_errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

/// What the run loop does after a call was performed.
#[derive(Debug)]
pub(crate) enum Effect {
    Continue,
    FlushCode,
    Interrupted,
    End(Outcome),
}

impl Kernel {
    /// Answers the `ecall` at the hart's pc.
    #[inline]
    pub(crate) fn syscall(&mut self, hart: &mut Hart, preempt: &AtomicU32) -> Effect {
        let number = hart.x(XReg::A7);
        let index = match usize::try_from(number) {
            Ok(number) if number < table::NUMBER_COUNT => number,
            _ => table::UNKNOWN,
        };
        let args = hart.state.x[XReg::A0.index()..].first_chunk();
        let call = Call {
            args: args.expect("a0 to a5 are registers"),
            pc: hart.pc(),
            preempt,
        };
        self.counts[index] += 1;
        let reply = match table::HANDLERS[index](self, &call) {
            Err(Errno::FBIG) => signal::file_too_large(self, &call),
            reply => reply,
        };
        if self.strace.is_some() {
            trace::line(self, number, &call, &reply);
        }
        perform(hart, reply)
    }
}

/// The one place where a call changes the hart.
#[inline]
fn perform(hart: &mut Hart, reply: Reply) -> Effect {
    let (value, effect) = match reply {
        Ok(Next::Done(value)) => (value, Effect::Continue),
        Err(errno) => {
            let negative = i64::from(-errno.raw_os_error());
            (negative.cast_unsigned(), Effect::Continue)
        }
        Ok(Next::FlushCode) => (0, Effect::FlushCode),
        Ok(Next::Interrupted) => return Effect::Interrupted,
        Ok(Next::End(outcome)) => return Effect::End(outcome),
    };
    hart.set_x(XReg::A0, value);
    hart.state.pc = hart.state.pc.wrapping_add(ECALL_BYTES);
    effect
}
