//! Multi-level feedback: what runs long sinks, what waits often stays up.
//!
//! The rules are those of Arpaci-Dusseau, "Operating Systems: Three Easy
//! Pieces", chapter 8: a higher level runs first (1), equals take turns (2),
//! all start on top (3, here: at the level of their priority), a coroutine that
//! has used up its allotment at a level goes one down, however many turns that
//! took (4), and once in a while all go back up (5).

use std::time::Duration;

use super::{Facts, Place, Policy, Requeue};
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// How often everybody goes back to the level of its priority.
const BOOST_EVERY: Duration = Duration::from_millis(100);

/// Learns who is interactive. The allotment of a level is its slice, and the
/// account goes on over waits and yields: giving up the vCPU shortly before the
/// slice ends buys nothing. `RealTime` never sinks and nothing rises above its
/// priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlfq {
    /// By [`Priority::level`].
    slices: [Duration; 4],
    fairness: Fairness,
}

impl Mlfq {
    /// With turns of `time_slice` at `RealTime`, and twice as long ones at each
    /// level down: 2, 4 and 8 times. Who sank is asked less often.
    #[must_use]
    pub const fn new(time_slice: Duration, fairness: Fairness) -> Mlfq {
        Mlfq {
            slices: [
                time_slice.saturating_mul(8),
                time_slice.saturating_mul(4),
                time_slice.saturating_mul(2),
                time_slice,
            ],
            fairness,
        }
    }
}

impl Policy for Mlfq {
    fn name(&self) -> &'static str {
        "mlfq"
    }

    fn level(&self, facts: &Facts) -> Priority {
        if facts.priority == Priority::RealTime {
            return Priority::RealTime;
        }
        let level = facts.level.level();
        if u128::from(facts.used_ns) < self.slices[level].as_nanos() {
            return facts.level;
        }
        Priority::ALL[level.saturating_sub(1)]
    }

    /// Who sinks has had its turn, even if it was preempted that very moment.
    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        let level = self.level(facts);
        Place {
            level,
            at_head: why == Requeue::Preempted && level == facts.level,
        }
    }

    fn slice(&self, level: Priority) -> Option<Duration> {
        Some(self.slices[level.level()])
    }

    #[inline]
    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        share.pick(ready, self.fairness, now_ns)
    }

    #[inline]
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        arriving > running
    }

    fn boost_every(&self) -> Option<Duration> {
        Some(BOOST_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a coroutine queues that used `used_us` at `level`, slices 1 ms.
    #[track_caller]
    fn check(priority: Priority, level: Priority, used_us: u64, expected: Priority) {
        let policy = Mlfq::new(Duration::from_millis(1), Fairness::Strict);
        let facts = Facts {
            priority,
            level,
            used_ns: used_us * 1_000,
            waited_ns: 0,
        };
        assert_eq!(policy.level(&facts), expected);
        for why in [Requeue::Yielded, Requeue::SliceSpent] {
            let place = policy.requeue(&facts, why);
            assert_eq!((place.level, place.at_head), (expected, false));
        }
        let preempted = policy.requeue(&facts, Requeue::Preempted);
        assert_eq!(preempted.at_head, expected == level);
    }

    #[test]
    fn an_allotment_lasts_as_long_as_the_slice_of_its_level() {
        use Priority::{High, Low, Normal, RealTime};
        check(Normal, Normal, 0, Normal);
        check(Normal, Normal, 3_999, Normal);
        check(Normal, Normal, 4_000, Low);
        check(High, High, 2_000, Normal);
        check(High, Normal, 3_999, Normal);
        check(High, Normal, 4_000, Low);
        check(Low, Low, 1_000_000, Low);
        check(RealTime, RealTime, 1_000_000, RealTime);
    }
}
