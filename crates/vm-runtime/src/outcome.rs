//! How a whole guest program ended.

use std::fmt;

use vm_core::GuestAddr;

use crate::signal::{DefaultAction, Signal};

/// How a guest program ended, or why its run came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It asked to end, with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled {
        /// Which one.
        signal: Signal,
        /// Where it was.
        pc: GuestAddr,
        /// What led to the signal, for people.
        why: String,
        /// The program's handler, which should have been called instead:
        /// handlers are not run yet.
        handler: Option<GuestAddr>,
    },
    /// It waits for something that nobody is left to do. On Linux it would
    /// hang.
    Deadlocked {
        /// The call that waits.
        pc: GuestAddr,
        /// For what.
        why: String,
    },
    /// The preempt word was set. The program has not ended: running it again
    /// goes on where it was, the interrupted call included.
    Interrupted,
}

impl Outcome {
    /// The exit status that a shell would show: that of the guest, 128 plus
    /// the number of a signal, 125 for a deadlock, 130 when interrupted.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            // As wait(2) does: the low eight bits.
            Outcome::Exited(status) => (status & 0xff) as u8,
            Outcome::Signalled { signal, .. } => 128 + signal.number(),
            Outcome::Deadlocked { .. } => 125,
            Outcome::Interrupted => 130,
        }
    }

    /// Whether people should be told why: a fault of the program or a handler
    /// that was not run, and not the quiet end by a signal such as `SIGPIPE`.
    #[must_use]
    pub fn deserves_message(&self) -> bool {
        match self {
            Outcome::Signalled {
                signal, handler, ..
            } => signal.default_action() == DefaultAction::Abort || handler.is_some(),
            Outcome::Deadlocked { .. } => true,
            Outcome::Exited(_) | Outcome::Interrupted => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(status) => write!(f, "exited with status {}", status & 0xff),
            Outcome::Signalled {
                signal,
                why,
                handler,
                ..
            } => {
                write!(f, "{signal}: {why}")?;
                let number = signal.number();
                match handler {
                    None => Ok(()),
                    Some(handler) => write!(
                        f,
                        "; signal {number} has a handler, which hartloom does not run yet (at {handler})"
                    ),
                }
            }
            Outcome::Deadlocked { why, .. } => write!(f, "deadlock: {why}"),
            Outcome::Interrupted => f.write_str("interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Outcome::Exited(256 + 7).exit_status(), 7);
        assert_eq!(Outcome::Exited(-1).exit_status(), 255);
        let pc = GuestAddr(0);
        let end = Outcome::Signalled {
            signal: Signal::SEGV,
            pc,
            why: String::new(),
            handler: None,
        };
        assert_eq!(end.exit_status(), 139);
        assert!(end.deserves_message());
        assert_eq!(Outcome::Interrupted.exit_status(), 130);
    }
}
