//! What can be told of a coroutine: plain data.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::{CoroutineState, Priority};

/// Names one coroutine of its scheduler, and never another one of it. Ids of
/// different schedulers may be equal: they begin at different numbers, so that
/// one given to the wrong scheduler is most likely
/// [`Unknown`](crate::ControlError::Unknown) there, but that is no guarantee. A
/// [`Coroutine`](crate::Coroutine) is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoroutineId(pub(crate) u64);

impl CoroutineId {
    /// As a number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// From a number: for schedulers that are not this crate's, and for tests.
    #[must_use]
    pub const fn new(id: u64) -> CoroutineId {
        CoroutineId(id)
    }
}

impl fmt::Display for CoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A coroutine at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CoroutineInfo {
    /// Which one.
    pub id: CoroutineId,
    /// The name it was given, if any.
    pub name: Option<String>,
    /// What it is doing.
    pub state: CoroutineState,
    /// What it was spawned with.
    pub priority: Priority,
    /// The level it queues at now.
    pub level: Priority,
    /// Cycles its body charged, or counted by the time-stamp counter where the
    /// body charges nothing.
    pub cycles_executed: u64,
    /// What is left of its budget; `None` without one.
    pub cycles_remaining: Option<u64>,
    /// Time on a vCPU.
    pub run_time: Duration,
    /// Times it was run.
    pub executions: u64,
    /// The vCPU it was last queued or run at; `None` before the first.
    pub assigned_vcpu: Option<usize>,
    /// Where it was spawned.
    pub spawned_at: &'static Location<'static>,
}
