//! The six policies by name, and as one type.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Facts, Fcfs, Interrupts, Levels, Mlfq, Place, Policy, Requeue, RoundRobin};
use crate::level::{LevelSet, Share};
use crate::{Fairness, Priority};

/// Which built-in policy decides.
///
/// ```
/// use coroutine_scheduler::policy::SchedulingPolicy;
///
/// let policy: SchedulingPolicy = "mlfq".parse()?;
/// assert_eq!(policy, SchedulingPolicy::Mlfq);
/// assert_eq!(SchedulingPolicy::default().to_string(), "load-balancing");
/// # Ok::<(), coroutine_scheduler::policy::UnknownPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchedulingPolicy {
    /// [`Fcfs`]: one queue, no turns.
    Fcfs,
    /// [`RoundRobin`]: one queue, equal turns.
    RoundRobin,
    /// [`Levels`] that nobody interrupts: turns within a level.
    Priority,
    /// [`Mlfq`]: levels that learn who is interactive.
    Mlfq,
    /// [`Levels`], and `RealTime` interrupts.
    #[default]
    LoadBalancing,
    /// [`Levels`], and everything more urgent interrupts.
    Preemptive,
}

impl SchedulingPolicy {
    /// Every policy, simplest first.
    pub const ALL: [Self; 6] = [
        Self::Fcfs,
        Self::RoundRobin,
        Self::Priority,
        Self::Mlfq,
        Self::LoadBalancing,
        Self::Preemptive,
    ];

    /// `fcfs`, `round-robin`, `priority`, `mlfq`, `load-balancing` or
    /// `preemptive`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fcfs => "fcfs",
            Self::RoundRobin => "round-robin",
            Self::Priority => "priority",
            Self::Mlfq => "mlfq",
            Self::LoadBalancing => "load-balancing",
            Self::Preemptive => "preemptive",
        }
    }
}

impl fmt::Display for SchedulingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SchedulingPolicy {
    type Err = UnknownPolicy;

    /// Takes what [`name`](Self::name) gives.
    ///
    /// # Errors
    /// For anything else; the error lists the names.
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == text);
        found.ok_or_else(|| UnknownPolicy {
            name: text.to_owned(),
        })
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    /// What was asked for.
    pub name: String,
}

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = SchedulingPolicy::ALL.map(SchedulingPolicy::name).join(", ");
        write!(f, "no policy is called {:?}; there are {names}", self.name)
    }
}

impl Error for UnknownPolicy {}

/// A built-in policy with its settings. Its calls are a `match`, which the
/// compiler inlines; a policy of one's own goes into a `Box<dyn Policy>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltIn {
    /// See [`SchedulingPolicy::Fcfs`].
    Fcfs(Fcfs),
    /// See [`SchedulingPolicy::RoundRobin`].
    RoundRobin(RoundRobin),
    /// See [`SchedulingPolicy::Priority`], [`SchedulingPolicy::LoadBalancing`]
    /// and [`SchedulingPolicy::Preemptive`].
    Levels(Levels),
    /// See [`SchedulingPolicy::Mlfq`].
    Mlfq(Mlfq),
}

impl BuiltIn {
    /// `time_slice` and `fairness` are ignored by policies that have no use for
    /// them.
    #[must_use]
    pub const fn new(
        policy: SchedulingPolicy,
        time_slice: Duration,
        fairness: Fairness,
    ) -> BuiltIn {
        use SchedulingPolicy as Name;
        let interrupts = match policy {
            Name::LoadBalancing => Interrupts::RealTime,
            Name::Preemptive => Interrupts::Always,
            _ => Interrupts::Never,
        };
        match policy {
            Name::Fcfs => Self::Fcfs(Fcfs),
            Name::RoundRobin => Self::RoundRobin(RoundRobin::new(time_slice)),
            Name::Mlfq => Self::Mlfq(Mlfq::new(time_slice, fairness)),
            Name::Priority | Name::LoadBalancing | Name::Preemptive => {
                Self::Levels(Levels::new(interrupts, time_slice, fairness))
            }
        }
    }
}

/// Asks the policy inside.
macro_rules! ask {
    ($built_in:ident, $policy:ident => $call:expr) => {
        match $built_in {
            BuiltIn::Fcfs($policy) => $call,
            BuiltIn::RoundRobin($policy) => $call,
            BuiltIn::Levels($policy) => $call,
            BuiltIn::Mlfq($policy) => $call,
        }
    };
}

impl Policy for BuiltIn {
    fn name(&self) -> &'static str {
        ask!(self, policy => policy.name())
    }

    #[inline]
    fn level(&self, facts: &Facts) -> Priority {
        ask!(self, policy => policy.level(facts))
    }

    #[inline]
    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        ask!(self, policy => policy.requeue(facts, why))
    }

    #[inline]
    fn slice(&self, level: Priority) -> Option<Duration> {
        ask!(self, policy => policy.slice(level))
    }

    #[inline]
    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        ask!(self, policy => policy.pick(ready, share, now_ns))
    }

    #[inline]
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        ask!(self, policy => policy.preempts(arriving, running))
    }

    fn boost_every(&self) -> Option<Duration> {
        ask!(self, policy => policy.boost_every())
    }

    fn balances(&self) -> bool {
        ask!(self, policy => policy.balances())
    }

    fn keeps_order(&self) -> bool {
        ask!(self, policy => policy.keeps_order())
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn level(&self, facts: &Facts) -> Priority {
        (**self).level(facts)
    }

    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        (**self).requeue(facts, why)
    }

    fn slice(&self, level: Priority) -> Option<Duration> {
        (**self).slice(level)
    }

    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        (**self).pick(ready, share, now_ns)
    }

    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        (**self).preempts(arriving, running)
    }

    fn boost_every(&self) -> Option<Duration> {
        (**self).boost_every()
    }

    fn balances(&self) -> bool {
        (**self).balances()
    }

    fn keeps_order(&self) -> bool {
        (**self).keeps_order()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(policy: SchedulingPolicy) -> BuiltIn {
        BuiltIn::new(policy, Duration::from_millis(1), Fairness::Fair)
    }

    /// Which priorities may interrupt a `Normal` one, as a string of levels;
    /// slice of `Normal` in milliseconds; levels of the four priorities.
    #[track_caller]
    fn check(policy: SchedulingPolicy, interrupts: &str, slice_ms: u64, levels: &str) {
        let inside = built_in(policy);
        // A box has to give the same answers.
        let boxed: Box<dyn Policy> = Box::new(inside);
        for asked in [&inside as &dyn Policy, &boxed] {
            assert_eq!(asked.name(), policy.name());
            let interrupting = Priority::ALL
                .into_iter()
                .filter(|arriving| asked.preempts(*arriving, Priority::Normal))
                .map(initial);
            assert_eq!(interrupting.collect::<String>(), interrupts, "{policy}");
            let slice = asked.slice(Priority::Normal).unwrap_or_default();
            assert_eq!(slice, Duration::from_millis(slice_ms), "{policy}");
            let queued = Priority::ALL.into_iter().map(|priority| {
                initial(asked.level(&Facts {
                    priority,
                    level: priority,
                    used_ns: 0,
                    waited_ns: 0,
                }))
            });
            assert_eq!(queued.collect::<String>(), levels, "{policy}");
            let is_boosted = policy == SchedulingPolicy::Mlfq;
            assert_eq!(asked.boost_every().is_some(), is_boosted);
            assert!(asked.balances());
            let has_levels = matches!(inside, BuiltIn::Levels(_));
            assert_eq!(asked.keeps_order(), !has_levels, "{policy}");
            assert_eq!(
                asked.pick(LevelSet::ALL, &mut Share::default(), 0),
                Some(Priority::RealTime)
            );
        }
    }

    fn initial(priority: Priority) -> char {
        priority.name().as_bytes()[0].into()
    }

    #[test]
    fn what_each_policy_answers() {
        check(SchedulingPolicy::Fcfs, "", 0, "nnnn");
        check(SchedulingPolicy::RoundRobin, "", 1, "nnnn");
        check(SchedulingPolicy::Priority, "", 1, "lnhr");
        check(SchedulingPolicy::Mlfq, "hr", 4, "lnhr");
        check(SchedulingPolicy::LoadBalancing, "r", 1, "lnhr");
        check(SchedulingPolicy::Preemptive, "hr", 1, "lnhr");
    }

    #[test]
    fn names_are_read_back_and_listed() {
        for policy in SchedulingPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let error = "fair".parse::<SchedulingPolicy>().unwrap_err().to_string();
        assert_eq!(
            error,
            "no policy is called \"fair\"; there are fcfs, round-robin, priority, mlfq, \
             load-balancing, preemptive"
        );
    }
}
