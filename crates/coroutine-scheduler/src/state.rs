//! What a coroutine is doing, and what it may do next.
//!
//! ```text
//!  Created ─spawn─> Ready ─pick─> Running ─return, panic, abort─> Dead
//!                   ^  ^  <─yield, slice,─┘ │  │
//!                   │  │     preempt        │  │
//!                   │  └──wake── Waiting <──┘  │
//!                resume           ^ │ await    │
//!                   │      resume │ │ pause    │ pause, at the
//!                   │   (no wake) │ v          │ next safepoint
//!                   └──────── Suspended <──────┘
//!                                 ^──pause── Ready
//!  Created, Ready, Waiting, Suspended ─abort─> Dead
//! ```

use std::error::Error;
use std::fmt;

/// What a coroutine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CoroutineState {
    /// It exists, nobody has spawned it.
    #[default]
    Created,
    /// It could run and is queued.
    Ready,
    /// A vCPU runs it.
    Running,
    /// It waits for a wake. Also known as blocked.
    Waiting,
    /// Somebody paused it; only a resume brings it back.
    Suspended,
    /// It has ended, in whichever way. Also known as done or terminated.
    Dead,
}

impl CoroutineState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Ready,
        Self::Running,
        Self::Waiting,
        Self::Suspended,
        Self::Dead,
    ];

    /// Whether a coroutine in this state may be in `next` afterwards. Staying is
    /// no transition: a second wake of a ready coroutine changes nothing and asks
    /// nobody.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        use CoroutineState::{Created, Dead, Ready, Running, Suspended, Waiting};
        matches!(
            (self, next),
            (Created, Ready | Dead)
                | (Ready, Running | Suspended | Dead)
                | (Running, Ready | Waiting | Suspended | Dead)
                | (Waiting, Ready | Suspended | Dead)
                | (Suspended, Ready | Waiting | Dead)
        )
    }

    /// Goes over to `next`.
    ///
    /// # Errors
    /// If that transition does not exist; the state then stays what it is.
    pub fn advance(&mut self, next: Self) -> Result<(), IllegalTransition> {
        if !self.can_become(next) {
            return Err(IllegalTransition {
                from: *self,
                to: next,
            });
        }
        *self = next;
        Ok(())
    }

    /// Whether it waits for somebody else: for a wake or for a resume.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Waiting | Self::Suspended)
    }

    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Suspended => "suspended",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for CoroutineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A transition that no rule allows, or none by the call that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalTransition {
    /// The state it was in, and still is.
    pub from: CoroutineState,
    /// The state it was to be in.
    pub to: CoroutineState,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        if from.can_become(*to) {
            return write!(
                f,
                "a {from} coroutine cannot become {to} by this call: resume is for suspended \
                 ones, schedule for created ones"
            );
        }
        write!(
            f,
            "a {from} coroutine cannot become {to}; from there it can become "
        )?;
        let mut allowed = CoroutineState::ALL
            .into_iter()
            .filter(|next| from.can_become(*next));
        let Some(first) = allowed.next() else {
            return f.write_str("nothing any more");
        };
        write!(f, "{first}")?;
        allowed.try_for_each(|next| write!(f, ", {next}"))
    }
}

impl Error for IllegalTransition {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are `from`, columns `to`, both in the order of `ALL`: the drawing
    /// above once more, as a table.
    const TABLE: [&str; 6] = [
        // Created Ready Running Waiting Suspended Dead
        ".R...D", // Created
        "..R.SD", // Ready
        ".R.WSD", // Running
        ".R..SD", // Waiting
        ".R.W.D", // Suspended
        "......", // Dead
    ];

    #[test]
    fn all_36_pairs() {
        let mut n_pairs = 0;
        for (row, from) in TABLE.into_iter().zip(CoroutineState::ALL) {
            for (cell, to) in row.chars().zip(CoroutineState::ALL) {
                let mut state = from;
                let outcome = state.advance(to);
                if cell == '.' {
                    assert_eq!(outcome, Err(IllegalTransition { from, to }));
                    assert_eq!(state, from, "a refused transition changes nothing");
                } else {
                    assert_eq!(outcome, Ok(()), "{from} to {to}");
                    assert_eq!(state, to);
                }
                n_pairs += 1;
            }
        }
        assert_eq!(n_pairs, 36);
    }

    #[test]
    fn refusals_say_what_would_do() {
        let message = |from, to| IllegalTransition { from, to }.to_string();
        assert_eq!(
            message(CoroutineState::Created, CoroutineState::Running),
            "a created coroutine cannot become running; from there it can become ready, dead"
        );
        assert!(message(CoroutineState::Dead, CoroutineState::Ready).ends_with("nothing any more"));
        // Where the transition exists, it is the call that does not fit.
        let resumed = message(CoroutineState::Waiting, CoroutineState::Ready);
        assert!(
            resumed.contains("resume is for suspended ones"),
            "{resumed}"
        );
    }

    #[test]
    fn a_paused_coroutine_counts_as_waiting() {
        let waiting: Vec<_> = CoroutineState::ALL
            .into_iter()
            .filter(|state| state.is_waiting())
            .collect();
        assert_eq!(
            waiting,
            [CoroutineState::Waiting, CoroutineState::Suspended]
        );
    }
}
