//! Turns of equal length.

use std::time::Duration;

use super::{Facts, Policy};
use crate::Priority;
use crate::level::{LevelSet, Share};

/// Everything in one queue, everybody for one slice. With n coroutines nobody
/// waits longer than n - 1 slices and switches. Priorities mean nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundRobin {
    time_slice: Duration,
}

impl RoundRobin {
    /// With turns of `time_slice`.
    #[must_use]
    pub const fn new(time_slice: Duration) -> RoundRobin {
        RoundRobin { time_slice }
    }
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn level(&self, _: &Facts) -> Priority {
        Priority::Normal
    }

    fn slice(&self, _: Priority) -> Option<Duration> {
        Some(self.time_slice)
    }

    #[inline]
    fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        ready.most_urgent()
    }
}
