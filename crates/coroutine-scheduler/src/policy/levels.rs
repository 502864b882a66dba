//! Levels by priority.

use std::time::Duration;

use super::Policy;
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// Which arrivals take the vCPU from who runs there at a lower level. All
/// others wait for the end of its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// None.
    Never,
    /// Those at `RealTime`: throughput is that of [`Interrupts::Never`], and
    /// what must be prompt still is.
    RealTime,
    /// Every one: shortest answers for urgent work, most switches.
    Always,
}

/// One level for each priority, and turns within a level. How levels share is
/// [`Fairness`]. Who is interrupted goes to the head of its level and keeps what
/// is left of its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    interrupts: Interrupts,
    time_slice: Duration,
    fairness: Fairness,
}

impl Levels {
    /// With turns of `time_slice` within a level.
    #[must_use]
    pub const fn new(interrupts: Interrupts, time_slice: Duration, fairness: Fairness) -> Levels {
        Levels {
            interrupts,
            time_slice,
            fairness,
        }
    }
}

impl Policy for Levels {
    fn name(&self) -> &'static str {
        match self.interrupts {
            Interrupts::Never => "priority",
            Interrupts::RealTime => "load-balancing",
            Interrupts::Always => "preemptive",
        }
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
        let may_interrupt = match self.interrupts {
            Interrupts::Never => false,
            Interrupts::RealTime => arriving == Priority::RealTime,
            Interrupts::Always => true,
        };
        may_interrupt && arriving > running
    }

    fn keeps_order(&self) -> bool {
        false
    }
}
