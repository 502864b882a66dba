//! The default: fair levels, and only `RealTime` interrupts.

use std::time::Duration;

use super::Policy;
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// Levels by priority that share as [`Fairness`] says; only an arrival at
/// `RealTime` takes the vCPU from somebody, all others wait for the end of a
/// slice. So throughput is that of [`PriorityPolicy`](super::PriorityPolicy),
/// and what must be prompt still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadBalancing {
    time_slice: Duration,
    fairness: Fairness,
}

impl LoadBalancing {
    /// With turns of `time_slice` within a level.
    #[must_use]
    pub const fn new(time_slice: Duration, fairness: Fairness) -> LoadBalancing {
        LoadBalancing {
            time_slice,
            fairness,
        }
    }
}

impl Policy for LoadBalancing {
    fn name(&self) -> &'static str {
        "load-balancing"
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
        arriving == Priority::RealTime && running < Priority::RealTime
    }
}
