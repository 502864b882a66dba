//! Levels by priority.

use std::time::Duration;

use super::Policy;
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// One level for each priority, turns within a level, and an urgent arrival
/// waits until the slice of whoever runs is over. How levels share is
/// [`Fairness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityPolicy {
    time_slice: Duration,
    fairness: Fairness,
}

impl PriorityPolicy {
    /// With turns of `time_slice` within a level.
    #[must_use]
    pub const fn new(time_slice: Duration, fairness: Fairness) -> PriorityPolicy {
        PriorityPolicy {
            time_slice,
            fairness,
        }
    }
}

impl Policy for PriorityPolicy {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn slice(&self, _: Priority) -> Option<Duration> {
        Some(self.time_slice)
    }

    #[inline]
    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        share.pick(ready, self.fairness, now_ns)
    }
}
