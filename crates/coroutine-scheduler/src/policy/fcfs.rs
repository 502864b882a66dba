//! First come, first served.

use std::time::Duration;

use super::{Facts, Policy};
use crate::Priority;
use crate::level::{LevelSet, Share};

/// Everything in one queue, and who runs keeps its vCPU until it waits, yields
/// or ends. Fewest switches; one long coroutine delays all behind it.
/// Priorities mean nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fcfs;

impl Policy for Fcfs {
    fn name(&self) -> &'static str {
        "fcfs"
    }

    fn level(&self, _: &Facts) -> Priority {
        Priority::Normal
    }

    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }

    #[inline]
    fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        ready.most_urgent()
    }
}
