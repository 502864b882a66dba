//! Levels as sets, and which of them is next: arithmetic without queues.

use crate::{Fairness, Priority};

/// A set of levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelSet(u8);

impl LevelSet {
    /// No level.
    pub const EMPTY: LevelSet = LevelSet(0);
    /// Every level.
    pub const ALL: LevelSet = LevelSet(0b1111);

    /// Of the four low bits, bit 0 for `Low`.
    #[must_use]
    pub const fn from_bits(bits: u8) -> LevelSet {
        LevelSet(bits & 0b1111)
    }

    /// As bits, bit 0 for `Low`.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// With one level more.
    #[must_use]
    pub const fn with(self, level: Priority) -> LevelSet {
        LevelSet(self.0 | 1 << level.level())
    }

    /// Without one level.
    #[must_use]
    pub const fn without(self, level: Priority) -> LevelSet {
        LevelSet(self.0 & !(1 << level.level()))
    }

    /// Whether it has `level`.
    #[must_use]
    pub const fn has(self, level: Priority) -> bool {
        self.0 >> level.level() & 1 != 0
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The most urgent one.
    #[inline]
    #[must_use]
    pub const fn most_urgent(self) -> Option<Priority> {
        match self.0.checked_ilog2() {
            Some(level) => Some(Priority::ALL[level as usize]),
            None => None,
        }
    }

    const URGENT: LevelSet = LevelSet(0b1100);
    const ORDINARY: LevelSet = LevelSet(0b0011);

    const fn and(self, other: LevelSet) -> LevelSet {
        LevelSet(self.0 & other.0)
    }
}

/// Length of the window in which the urgent levels' share is capped.
pub const WINDOW_NS: u64 = 100_000_000;
/// What `RealTime` and `High` may take of it while others wait.
pub const URGENT_NS_MAX: u64 = WINDOW_NS / 100 * 95;
/// Turns of `Normal` for one of `Low`.
pub const NORMAL_TURNS: u8 = 8;

/// One vCPU's account for fair sharing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    window_start_ns: u64,
    urgent_ns: u64,
    normal_turns: u8,
}

impl Share {
    /// Notes that something ran at `level`.
    #[inline]
    pub fn charge(&mut self, level: Priority, ran_ns: u64) {
        if level >= Priority::High {
            self.urgent_ns += ran_ns;
        }
    }

    /// Which of the levels in `ready` is next.
    #[inline]
    pub fn pick(&mut self, ready: LevelSet, fairness: Fairness, now_ns: u64) -> Option<Priority> {
        match fairness {
            Fairness::Strict => ready.most_urgent(),
            Fairness::Fair => self.pick_fair(ready, now_ns),
        }
    }

    #[inline]
    fn pick_fair(&mut self, ready: LevelSet, now_ns: u64) -> Option<Priority> {
        let ordinary = ready.and(LevelSet::ORDINARY);
        let urgent = ready.and(LevelSet::URGENT);
        if !urgent.is_empty() {
            if now_ns.saturating_sub(self.window_start_ns) >= WINDOW_NS {
                self.window_start_ns = now_ns;
                self.urgent_ns = 0;
            }
            if ordinary.is_empty() || self.urgent_ns < URGENT_NS_MAX {
                return urgent.most_urgent();
            }
        }
        if ordinary.bits() == LevelSet::ORDINARY.bits() {
            if self.normal_turns >= NORMAL_TURNS {
                self.normal_turns = 0;
                return Some(Priority::Low);
            }
            self.normal_turns += 1;
            return Some(Priority::Normal);
        }
        ordinary.most_urgent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_takes_the_most_urgent() {
        let mut share = Share::default();
        for bits in 0..16 {
            let ready = LevelSet::from_bits(bits);
            let expected = Priority::ALL.into_iter().rev().find(|l| ready.has(*l));
            assert_eq!(share.pick(ready, Fairness::Strict, 0), expected);
        }
    }

    #[test]
    fn low_gets_one_turn_for_eight_of_normal() {
        let mut share = Share::default();
        let both = LevelSet::EMPTY.with(Priority::Low).with(Priority::Normal);
        let n_low = (0..900)
            .filter(|_| share.pick(both, Fairness::Fair, 0) == Some(Priority::Low))
            .count();
        assert_eq!(n_low, 100);
    }

    #[test]
    fn urgent_work_leaves_a_twentieth_while_others_wait() {
        let mut share = Share::default();
        let (mut now, mut urgent_ns) = (0, 0);
        while now < 10 * WINDOW_NS {
            let level = share.pick(LevelSet::ALL, Fairness::Fair, now).unwrap();
            let ran_ns = 1_000_000;
            share.charge(level, ran_ns);
            now += ran_ns;
            urgent_ns += if level >= Priority::High { ran_ns } else { 0 };
        }
        assert_eq!(urgent_ns, 10 * URGENT_NS_MAX);
        // Alone it takes everything.
        let alone = LevelSet::EMPTY.with(Priority::High);
        assert_eq!(share.pick(alone, Fairness::Fair, now), Some(Priority::High));
    }
}
