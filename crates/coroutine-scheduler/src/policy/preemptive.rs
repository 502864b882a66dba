//! Levels by priority, and every more urgent arrival interrupts.

use std::time::Duration;

use super::Policy;
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// As [`PriorityPolicy`](super::PriorityPolicy), but whoever becomes ready at a
/// higher level takes the vCPU at once. The interrupted one goes to the head of
/// its level and keeps what is left of its slice. Shortest answers for urgent
/// work, most switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preemptive {
    time_slice: Duration,
    fairness: Fairness,
}

impl Preemptive {
    /// With turns of `time_slice` within a level.
    #[must_use]
    pub const fn new(time_slice: Duration, fairness: Fairness) -> Preemptive {
        Preemptive {
            time_slice,
            fairness,
        }
    }
}

impl Policy for Preemptive {
    fn name(&self) -> &'static str {
        "preemptive"
    }

    fn slice(&self, _: Priority) -> Option<Duration> {
        Some(self.time_slice)
    }

    #[inline]
    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        share.pick(ready, self.fairness, now_ns)
    }

    #[inline]
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        arriving > running
    }
}
