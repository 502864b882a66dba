//! Signal numbers of Linux on RISC-V, with their names and default actions.

use std::fmt;

/// A signal, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

/// What a signal does where the guest has set nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process; the cause is a fault of the program, worth a message.
    Abort,
    /// Nothing.
    Ignore,
    /// Would stop the process; nothing here can continue it, so nothing.
    Stop,
}

impl Signal {
    /// Illegal instruction.
    pub const ILL: Signal = Signal(4);
    /// Breakpoint.
    pub const TRAP: Signal = Signal(5);
    /// `abort()`.
    pub const ABRT: Signal = Signal(6);
    /// Misaligned or impossible access.
    pub const BUS: Signal = Signal(7);
    /// A file would become larger than the limit allows.
    pub const XFSZ: Signal = Signal(25);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// Access to an address that is not mapped, or not that way.
    pub const SEGV: Signal = Signal(11);
    /// Write to a pipe without readers.
    pub const PIPE: Signal = Signal(13);
    /// Cannot be caught.
    pub const STOP: Signal = Signal(19);

    /// Highest number.
    pub const HIGHEST: u8 = 64;

    /// The signal of this number, `None` for 0 and above 64.
    #[must_use]
    pub const fn new(number: u64) -> Option<Signal> {
        if number >= 1 && number <= Signal::HIGHEST as u64 {
            Some(Signal(number as u8))
        } else {
            None
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its bit in a guest's `sigset_t`.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// What it does by default.
    #[must_use]
    pub const fn default_action(self) -> DefaultAction {
        match self.0 {
            3..=8 | 11 | 24 | 25 | 31 => DefaultAction::Abort,
            17 | 18 | 23 | 28 => DefaultAction::Ignore,
            19..=22 => DefaultAction::Stop,
            _ => DefaultAction::Terminate,
        }
    }

    /// Its name, `None` for real-time signals.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 31] = [
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ];
        NAMES.get(usize::from(self.0) - 1).copied()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_actions_agree() {
        let named = [
            (Signal::ILL, "SIGILL"),
            (Signal::TRAP, "SIGTRAP"),
            (Signal::ABRT, "SIGABRT"),
            (Signal::BUS, "SIGBUS"),
            (Signal::KILL, "SIGKILL"),
            (Signal::SEGV, "SIGSEGV"),
            (Signal::PIPE, "SIGPIPE"),
            (Signal::STOP, "SIGSTOP"),
        ];
        for (signal, name) in named {
            assert_eq!(signal.to_string(), name);
        }
        assert_eq!(Signal::new(64).unwrap().to_string(), "signal 64");
        assert_eq!(Signal::new(0), None);
        assert_eq!(Signal::new(65), None);
        assert_eq!(Signal::SEGV.default_action(), DefaultAction::Abort);
        assert_eq!(Signal::PIPE.default_action(), DefaultAction::Terminate);
        assert_eq!(Signal::new(64).unwrap().bit(), 1 << 63);
    }
}
