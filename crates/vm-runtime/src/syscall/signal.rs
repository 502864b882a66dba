//! Signals that a program sends itself, and what it wants done about them.
//!
//! Dispositions and masks are kept as Linux keeps them. Default actions
//! happen; handlers are not called yet, and a signal that one waits for ends
//! the program with a message that says so.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use vm_core::GuestAddr;

use super::uptr::{Record, UserPtr, half, word};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::outcome::Outcome;
use crate::signal::{DefaultAction, Signal};

/// `SIG_DFL` and `SIG_IGN`; anything else is a handler's address.
const DEFAULT: u64 = 0;
const IGNORE: u64 = 1;

/// What the guest set for one signal: `struct sigaction` of RISC-V, which has
/// no restorer.
#[derive(Clone, Copy, Debug, Default)]
struct Action {
    handler: u64,
    flags: u64,
    mask: u64,
}

/// `stack_t`: where handlers would run.
#[derive(Clone, Copy, Debug)]
struct AltStack {
    start: u64,
    flags: u32,
    bytes: u64,
}

/// A thread's signals.
#[derive(Debug)]
pub(crate) struct Signals {
    actions: [Action; Signal::HIGHEST as usize],
    blocked: u64,
    pending: u64,
    alt_stack: AltStack,
}

const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
const MINSIGSTKSZ: u64 = 2048;

impl Signals {
    /// As a program finds them, some of them ignored: bit n-1 for signal n.
    pub(crate) fn new(ignored: u64) -> Signals {
        let ignored = ignored & !(Signal::KILL.bit() | Signal::STOP.bit());
        let action = |index| Action {
            handler: if ignored >> index & 1 != 0 {
                IGNORE
            } else {
                DEFAULT
            },
            ..Action::default()
        };
        Signals {
            actions: std::array::from_fn(action),
            blocked: 0,
            pending: 0,
            alt_stack: AltStack {
                start: 0,
                flags: SS_DISABLE,
                bytes: 0,
            },
        }
    }

    fn action(&self, signal: Signal) -> Action {
        self.actions[usize::from(signal.number()) - 1]
    }

    /// The handler that the guest installed for a signal.
    pub(crate) fn handler(&self, signal: Signal) -> Option<GuestAddr> {
        let handler = self.action(signal).handler;
        (handler != DEFAULT && handler != IGNORE).then_some(GuestAddr(handler))
    }

    fn is_blocked(&self, signal: Signal) -> bool {
        self.blocked & signal.bit() != 0 && signal != Signal::KILL && signal != Signal::STOP
    }

    /// Whether a signal that arrives is to act now. One that is blocked waits.
    pub(crate) fn arrives(&mut self, signal: Signal) -> bool {
        if self.is_blocked(signal) {
            self.pending |= signal.bit();
            return false;
        }
        !self.is_ignored(signal)
    }

    /// Whether a signal that arrives is dropped.
    fn is_ignored(&self, signal: Signal) -> bool {
        match self.action(signal).handler {
            IGNORE => true,
            DEFAULT => {
                matches!(
                    signal.default_action(),
                    DefaultAction::Ignore | DefaultAction::Stop
                )
            }
            _ => false,
        }
    }
}

/// Sends a signal to the guest: what it did, and what the call answers where
/// the guest lives on.
pub(super) fn raise(p: &mut Kernel, call: &Call<'_>, signal: Signal, answer: Errno) -> Reply {
    match deliver(p, call, signal) {
        Some(outcome) => Ok(Next::End(outcome)),
        None => Err(answer),
    }
}

/// What a call comes to that would make a file too large: with a limit of file
/// sizes (`ulimit -f`) it is a signal as well. Whoever runs us ignores that one,
/// so that the host says `EFBIG`.
#[cold]
pub(super) fn file_too_large(p: &mut Kernel, call: &Call<'_>) -> Reply {
    match getrlimit(Resource::Fsize).current {
        Some(_) => raise(p, call, Signal::XFSZ, Errno::FBIG),
        None => Err(Errno::FBIG),
    }
}

/// `None` where the guest lives on.
fn deliver(p: &mut Kernel, call: &Call<'_>, signal: Signal) -> Option<Outcome> {
    if !p.signals.arrives(signal) {
        return None;
    }
    let why = format!("raised by the program itself, at {}", p.place(call.pc));
    Some(p.fault(signal, call.pc, why))
}

/// Delivers what is pending and no longer blocked.
fn deliver_pending(p: &mut Kernel, call: &Call<'_>) -> Option<Outcome> {
    let due = p.signals.pending & !p.signals.blocked;
    if due == 0 {
        return None;
    }
    p.signals.pending &= !due;
    (1..=u64::from(Signal::HIGHEST))
        .filter_map(Signal::new)
        .filter(|signal| due & signal.bit() != 0)
        .filter(|&signal| !p.signals.is_ignored(signal))
        .map(|signal| {
            // By itself or from outside.
            let why = format!(
                "pending until the program unblocked it, at {}",
                p.place(call.pc)
            );
            p.fault(signal, call.pc, why)
        })
        .next()
}

/// Sends to this process, the only one that there is for the guest.
fn send(p: &mut Kernel, call: &Call<'_>, signal: u64) -> Reply {
    let number = signal as u32;
    if number == 0 {
        return Ok(Next::Done(0)); // only asks whether there is somebody
    }
    let signal = Signal::new(number.into()).ok_or(Errno::INVAL)?;
    Ok(deliver(p, call, signal).map_or(Next::Done(0), Next::End))
}

pub(super) fn kill(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [target, signal, ..] = *call.args;
    let target = target as i32;
    // Itself, its group, or (-1) everybody: all of them are this process.
    let own = [p.pid, 0, -p.pid, -1];
    if !own.contains(&target) {
        return Err(Errno::SRCH);
    }
    send(p, call, signal)
}

pub(super) fn tkill(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [thread, signal, ..] = *call.args;
    to_thread(p, call, thread, signal)
}

pub(super) fn tgkill(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [group, thread, signal, ..] = *call.args;
    if group as i32 <= 0 {
        return Err(Errno::INVAL);
    }
    if group as i32 != p.pid {
        return Err(Errno::SRCH);
    }
    to_thread(p, call, thread, signal)
}

fn to_thread(p: &mut Kernel, call: &Call<'_>, thread: u64, signal: u64) -> Reply {
    match thread as i32 {
        ..=0 => Err(Errno::INVAL),
        thread if thread == p.pid => send(p, call, signal),
        _ => Err(Errno::SRCH),
    }
}

pub(super) fn rt_sigaction(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [signal, new, old, set_bytes, ..] = *call.args;
    let (new, old) = (UserPtr(new), UserPtr(old));
    if set_bytes != 8 {
        return Err(Errno::INVAL);
    }
    let signal = Signal::new((signal as u32).into()).ok_or(Errno::INVAL)?;
    let wanted = match new.is_null() {
        true => None,
        false if matches!(signal, Signal::KILL | Signal::STOP) => return Err(Errno::INVAL),
        false => Some(new.read::<24>(&p.memory)?),
    };
    let had = p.signals.action(signal);
    let record = Record::<24>::new()
        .u64(0, had.handler)
        .u64(8, had.flags)
        .u64(16, had.mask);
    old.write_unless_null(&p.memory, &record.0)?;
    if let Some(wanted) = wanted {
        let action = Action {
            handler: word(&wanted, 0),
            flags: word(&wanted, 8),
            mask: word(&wanted, 16),
        };
        p.signals.actions[usize::from(signal.number()) - 1] = action;
        if p.signals.is_ignored(signal) {
            p.signals.pending &= !signal.bit();
        }
    }
    Ok(Next::Done(0))
}

pub(super) fn rt_sigprocmask(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const BLOCK: u32 = 0;
    const UNBLOCK: u32 = 1;
    const SETMASK: u32 = 2;

    let [how, new, old, set_bytes, ..] = *call.args;
    let (new, old) = (UserPtr(new), UserPtr(old));
    if set_bytes != 8 {
        return Err(Errno::INVAL);
    }
    let had = p.signals.blocked;
    if !new.is_null() {
        let set = new.load::<u64>(&p.memory)?;
        let blocked = match how as u32 {
            BLOCK => had | set,
            UNBLOCK => had & !set,
            SETMASK => set,
            _ => return Err(Errno::INVAL),
        };
        p.signals.blocked = blocked & !(Signal::KILL.bit() | Signal::STOP.bit());
    }
    // On Linux, too, the mask stays changed when this pointer is bad.
    old.write_unless_null(&p.memory, &had.to_le_bytes())?;
    Ok(deliver_pending(p, call).map_or(Next::Done(0), Next::End))
}

pub(super) fn rt_sigpending(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [set, set_bytes, ..] = *call.args;
    if set_bytes > 8 {
        return Err(Errno::INVAL);
    }
    let pending = (p.signals.pending & p.signals.blocked).to_le_bytes();
    UserPtr(set).write(&p.memory, &pending[..set_bytes as usize])?;
    Ok(Next::Done(0))
}

/// Nobody has been called, so there is nothing to return from: the frame is
/// not one of ours, which Linux answers with `SIGSEGV`.
pub(super) fn rt_sigreturn(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let why = format!(
        "rt_sigreturn without a signal frame at {}",
        p.place(call.pc)
    );
    Ok(Next::End(p.fault(Signal::SEGV, call.pc, why)))
}

pub(super) fn sigaltstack(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [new, old, ..] = *call.args;
    let (new, old) = (UserPtr(new), UserPtr(old));
    let had = p.signals.alt_stack;
    if !new.is_null() {
        let raw = new.read::<24>(&p.memory)?;
        let wanted = AltStack {
            start: word(&raw, 0),
            flags: half(&raw, 8),
            bytes: word(&raw, 16),
        };
        p.signals.alt_stack = match wanted.flags & !SS_AUTODISARM {
            SS_DISABLE => AltStack {
                start: 0,
                flags: SS_DISABLE,
                bytes: 0,
            },
            0 | 1 if wanted.bytes < MINSIGSTKSZ => return Err(Errno::NOMEM),
            0 | 1 => AltStack {
                flags: wanted.flags & SS_AUTODISARM,
                ..wanted
            },
            _ => return Err(Errno::INVAL),
        };
    }
    let record = Record::<24>::new()
        .u64(0, had.start)
        .u32(8, had.flags)
        .u64(16, had.bytes);
    old.write_unless_null(&p.memory, &record.0)?;
    Ok(Next::Done(0))
}
