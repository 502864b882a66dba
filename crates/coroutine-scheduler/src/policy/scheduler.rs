//! [`Scheduler`]: any policy as four operations over a plain ready queue, for
//! one vCPU, without threads and without code to run.
//!
//! It is the form in which textbooks state a scheduler, and of use where
//! somebody else switches: a kernel, a model, a test. The live vCPUs ask the
//! same [`Policy`] over their own queues.
//!
//! ```
//! use std::time::Duration;
//! use coroutine_scheduler::policy::{RoundRobinScheduler, Scheduler as _};
//! use coroutine_scheduler::{CoroutineId, CoroutineInfo, Priority};
//!
//! let mut scheduler = RoundRobinScheduler::round_robin(Duration::from_millis(10));
//! scheduler.add(CoroutineInfo::ready(CoroutineId::new(1), Priority::Normal))?;
//! scheduler.add(CoroutineInfo::ready(CoroutineId::new(2), Priority::Normal))?;
//! let mut order = Vec::new();
//! while let Some(current) = scheduler.pick_next() {
//!     order.push(current.id.get());
//!     if order.len() == 4 {
//!         break;
//!     }
//!     scheduler.tick(Duration::from_millis(10));
//! }
//! assert_eq!(order, [1, 2, 1, 2]);
//! # Ok::<(), coroutine_scheduler::IllegalTransition>(())
//! ```

use std::panic::Location;
use std::time::Duration;

use super::{Facts, Interrupts, Levels, Policy, Requeue, RoundRobin, pick_ready};
use crate::level::{LevelSet, Share};
use crate::{
    CoroutineId, CoroutineInfo, CoroutineState, Fairness, IllegalTransition, Priority, ReadyQueue,
};

/// Who runs next on one vCPU.
pub trait Scheduler {
    /// Queues a coroutine.
    ///
    /// # Errors
    /// If its state is not `Ready`: nothing else can be picked. The record is
    /// dropped.
    fn add(&mut self, coroutine: CoroutineInfo) -> Result<(), IllegalTransition>;

    /// Takes the next one: it is `Running` afterwards, with a fresh slice, and
    /// is the [`current`](Self::current) one. A current one is put back first,
    /// as by [`yield_current`](Self::yield_current). `None` if nothing is ready:
    /// then the vCPU is idle.
    fn pick_next(&mut self) -> Option<&CoroutineInfo>;

    /// Takes a coroutine out, whether queued or current; its state stays what it
    /// is. `None` if it is not here.
    fn remove(&mut self, id: CoroutineId) -> Option<CoroutineInfo>;

    /// How many are queued; the current one is not.
    fn ready_count(&self) -> usize;

    /// Ends the current turn. A `Running` coroutine goes back to its queue and
    /// is `Ready`; one that in the meantime waits, is paused or has ended does
    /// not, and its record is returned.
    fn yield_current(&mut self) -> Option<CoroutineInfo>;

    /// The one that has the vCPU.
    fn current(&self) -> Option<&CoroutineInfo>;

    /// The same, for whoever runs it: to count cycles, and to set the state with
    /// which it ends its turn.
    fn current_mut(&mut self) -> Option<&mut CoroutineInfo>;
}

/// Turns of equal length, first come, first served.
pub type RoundRobinScheduler = PolicyScheduler<RoundRobin>;

/// The most urgent first; turns among equals.
pub type PriorityScheduler = PolicyScheduler<Levels>;

/// A [`Policy`] over a [`ReadyQueue`]. Time passes when
/// [`tick`](Self::tick) says so.
#[derive(Debug)]
pub struct PolicyScheduler<P> {
    policy: P,
    queue: ReadyQueue<Entry>,
    current: Option<Turn>,
    share: Share,
    now_ns: u64,
    boost_at_ns: Option<u64>,
}

/// A coroutine and what a policy wants to know of it.
#[derive(Debug)]
struct Entry {
    info: CoroutineInfo,
    used_ns: u64,
    ready_since_ns: u64,
    /// What was left when it was interrupted.
    slice_left_ns: Option<u64>,
}

impl Entry {
    fn facts(&self, now_ns: u64) -> Facts {
        Facts {
            priority: self.info.priority,
            level: self.info.level,
            used_ns: self.used_ns,
            waited_ns: now_ns - self.ready_since_ns,
        }
    }

    fn go_to(&mut self, level: Priority) {
        if self.info.level != level {
            self.info.level = level;
            self.used_ns = 0;
        }
    }
}

#[derive(Debug)]
struct Turn {
    entry: Entry,
    /// `None` for as long as it wants.
    slice_left_ns: Option<u64>,
}

impl RoundRobinScheduler {
    /// With turns of `time_slice`.
    #[must_use]
    pub fn round_robin(time_slice: Duration) -> Self {
        Self::new(RoundRobin::new(time_slice))
    }
}

impl PriorityScheduler {
    /// With turns of `time_slice` within a level; `fairness` says whether a busy
    /// level starves those below it.
    #[must_use]
    pub fn priority(time_slice: Duration, fairness: Fairness) -> Self {
        Self::new(Levels::new(Interrupts::Never, time_slice, fairness))
    }
}

impl<P: Policy> PolicyScheduler<P> {
    /// Empty, at time 0.
    #[must_use]
    pub fn new(policy: P) -> Self {
        let boost_at_ns = policy.boost_every().map(nanoseconds);
        Self {
            policy,
            queue: ReadyQueue::new(),
            current: None,
            share: Share::default(),
            now_ns: 0,
            boost_at_ns,
        }
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// Lets time pass, in which the current coroutine runs, if there is one.
    /// Whether it should make way now: its slice is over, or something is ready
    /// that the policy lets interrupt it.
    pub fn tick(&mut self, elapsed: Duration) -> bool {
        let elapsed_ns = nanoseconds(elapsed);
        self.now_ns = self.now_ns.saturating_add(elapsed_ns);
        if let Some(turn) = &mut self.current {
            let info = &mut turn.entry.info;
            info.run_time = info.run_time.saturating_add(elapsed);
            self.share.charge(info.level, elapsed_ns);
            turn.entry.used_ns = turn.entry.used_ns.saturating_add(elapsed_ns);
            if let Some(left_ns) = &mut turn.slice_left_ns {
                *left_ns = left_ns.saturating_sub(elapsed_ns);
            }
        }
        if self.boost_at_ns.is_some_and(|at_ns| at_ns <= self.now_ns) {
            self.boost();
        }
        self.reason_to_make_way().is_some()
    }

    fn reason_to_make_way(&self) -> Option<Requeue> {
        let turn = self.current.as_ref()?;
        if turn.slice_left_ns == Some(0) {
            return Some(Requeue::SliceSpent);
        }
        let arriving = self.queue.most_urgent()?;
        let running = turn.entry.info.level;
        let interrupts = self.policy.preempts(arriving, running);
        interrupts.then_some(Requeue::Preempted)
    }

    /// Everybody back to where its priority puts it, in the order of the levels
    /// they come from.
    fn boost(&mut self) {
        let every_ns = self.policy.boost_every().map_or(u64::MAX, nanoseconds);
        self.boost_at_ns = Some(self.now_ns.saturating_add(every_ns));
        let mut queued = std::mem::take(&mut self.queue);
        while let Some((_, mut entry)) = queued.pop() {
            self.reset(&mut entry);
            self.queue.push(entry.info.level, entry);
        }
        if let Some(mut turn) = self.current.take() {
            self.reset(&mut turn.entry);
            // No longer than others get there.
            let slice_ns = self.policy.slice(turn.entry.info.level).map(nanoseconds);
            turn.slice_left_ns = match (turn.slice_left_ns, slice_ns) {
                (Some(left_ns), Some(slice_ns)) => Some(left_ns.min(slice_ns)),
                (left_ns, slice_ns) => left_ns.or(slice_ns),
            };
            self.current = Some(turn);
        }
    }

    fn reset(&self, entry: &mut Entry) {
        entry.info.level = entry.info.priority;
        entry.used_ns = 0;
        entry.info.level = self.policy.level(&entry.facts(self.now_ns));
    }

    fn levels(&self) -> LevelSet {
        Priority::ALL
            .into_iter()
            .filter(|level| self.queue.len_of(*level) > 0)
            .fold(LevelSet::EMPTY, LevelSet::with)
    }
}

impl<P: Policy> Scheduler for PolicyScheduler<P> {
    fn add(&mut self, coroutine: CoroutineInfo) -> Result<(), IllegalTransition> {
        if coroutine.state != CoroutineState::Ready {
            return Err(IllegalTransition {
                from: coroutine.state,
                to: CoroutineState::Running,
            });
        }
        let mut entry = Entry {
            info: coroutine,
            used_ns: 0,
            ready_since_ns: self.now_ns,
            slice_left_ns: None,
        };
        entry.go_to(self.policy.level(&entry.facts(self.now_ns)));
        self.queue.push(entry.info.level, entry);
        Ok(())
    }

    fn pick_next(&mut self) -> Option<&CoroutineInfo> {
        self.yield_current();
        let levels = self.levels();
        let level = pick_ready(&self.policy, levels, &mut self.share, self.now_ns)?;
        let mut entry = self.queue.pop_level(level)?;
        entry.info.state = CoroutineState::Running;
        entry.info.executions += 1;
        let fresh = self.policy.slice(level).map(nanoseconds);
        let slice_left_ns = entry.slice_left_ns.take().or(fresh);
        let turn = Turn {
            entry,
            slice_left_ns,
        };
        Some(&self.current.insert(turn).entry.info)
    }

    fn remove(&mut self, id: CoroutineId) -> Option<CoroutineInfo> {
        let current = self.current.take_if(|turn| turn.entry.info.id == id);
        if let Some(turn) = current {
            return Some(turn.entry.info);
        }
        let (_, entry) = self.queue.remove(|entry| entry.info.id == id)?;
        Some(entry.info)
    }

    fn ready_count(&self) -> usize {
        self.queue.len()
    }

    fn yield_current(&mut self) -> Option<CoroutineInfo> {
        let why = self.reason_to_make_way().unwrap_or(Requeue::Yielded);
        let Turn {
            mut entry,
            slice_left_ns,
        } = self.current.take()?;
        if entry.info.state != CoroutineState::Running {
            return Some(entry.info);
        }
        entry.info.state = CoroutineState::Ready;
        entry.ready_since_ns = self.now_ns;
        let place = self.policy.requeue(&entry.facts(self.now_ns), why);
        entry.go_to(place.level);
        if place.at_head {
            entry.slice_left_ns = slice_left_ns;
            self.queue.push_front(place.level, entry);
        } else {
            self.queue.push(place.level, entry);
        }
        None
    }

    fn current(&self) -> Option<&CoroutineInfo> {
        Some(&self.current.as_ref()?.entry.info)
    }

    fn current_mut(&mut self) -> Option<&mut CoroutineInfo> {
        Some(&mut self.current.as_mut()?.entry.info)
    }
}

impl CoroutineInfo {
    /// The record of a coroutine that is ready and has never run.
    #[must_use]
    #[track_caller]
    pub fn ready(id: CoroutineId, priority: Priority) -> CoroutineInfo {
        CoroutineInfo {
            id,
            name: None,
            state: CoroutineState::Ready,
            priority,
            level: priority,
            cycles_executed: 0,
            cycles_remaining: None,
            run_time: Duration::ZERO,
            executions: 0,
            assigned_vcpu: None,
            spawned_at: Location::caller(),
        }
    }
}

/// Durations beyond 584 years count as that.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{BuiltIn, SchedulingPolicy};

    const SLICE: Duration = Duration::from_millis(1);

    fn scheduler(policy: SchedulingPolicy) -> PolicyScheduler<BuiltIn> {
        PolicyScheduler::new(BuiltIn::new(policy, SLICE, Fairness::Strict))
    }

    fn record(id: u64, priority: Priority) -> CoroutineInfo {
        CoroutineInfo::ready(CoroutineId::new(id), priority)
    }

    fn priority_of(initial: u8) -> Priority {
        let mut all = Priority::ALL.into_iter();
        all.find(|p| p.name().as_bytes()[0] == initial.to_ascii_lowercase())
            .unwrap()
    }

    /// Adds `N1 R2 …`, then gives `n_turns` turns of a whole slice: who had them.
    #[track_caller]
    fn check(policy: SchedulingPolicy, added: &str, n_turns: usize, expected: &str) {
        let mut scheduler = scheduler(policy);
        for word in added.split_whitespace() {
            let priority = priority_of(word.as_bytes()[0]);
            let id = word[1..].parse().unwrap();
            scheduler.add(record(id, priority)).unwrap();
        }
        let mut order = Vec::new();
        for _ in 0..n_turns {
            let picked = scheduler.pick_next().unwrap();
            assert_eq!(picked.state, CoroutineState::Running);
            order.push(picked.id.to_string());
            scheduler.tick(SLICE);
        }
        assert_eq!(order.join(" "), expected, "{policy}");
    }

    #[test]
    fn the_order_of_turns() {
        use SchedulingPolicy::{Fcfs, Mlfq, Priority, RoundRobin};
        check(Fcfs, "N1 R2 L3", 4, "1 2 3 1");
        check(RoundRobin, "N1 R2 L3", 7, "1 2 3 1 2 3 1");
        check(Priority, "L1 N2 R3 H4 R5", 4, "3 5 3 5");
        check(Priority, "L1 N2 N3", 4, "2 3 2 3");
        // Two slices are the allotment of High, four that of Normal.
        check(Mlfq, "H1 N2", 8, "1 1 2 1 2 1 2 1");
        check(Mlfq, "R1 N2", 3, "1 1 1");
    }

    #[test]
    fn only_a_ready_coroutine_is_added() {
        let mut scheduler = scheduler(SchedulingPolicy::RoundRobin);
        for state in CoroutineState::ALL {
            let info = CoroutineInfo {
                state,
                ..record(1, Priority::Normal)
            };
            let outcome = scheduler.add(info);
            if state == CoroutineState::Ready {
                assert_eq!(outcome, Ok(()));
            } else {
                assert_eq!(outcome.unwrap_err().from, state);
            }
        }
        assert_eq!(scheduler.ready_count(), 1);
    }

    #[test]
    fn a_yield_puts_back_only_who_runs() {
        let mut scheduler = scheduler(SchedulingPolicy::RoundRobin);
        assert!(scheduler.pick_next().is_none(), "idle");
        assert!(scheduler.yield_current().is_none());
        scheduler.add(record(1, Priority::Normal)).unwrap();
        scheduler.pick_next().unwrap();
        assert_eq!(scheduler.ready_count(), 0);
        assert!(scheduler.yield_current().is_none());
        assert!(scheduler.current().is_none());
        assert_eq!(scheduler.ready_count(), 1);

        scheduler.pick_next().unwrap();
        let current = scheduler.current_mut().unwrap();
        current.state.advance(CoroutineState::Waiting).unwrap();
        let left = scheduler.yield_current().unwrap();
        assert_eq!(left.state, CoroutineState::Waiting);
        assert_eq!(left.executions, 2);
        assert_eq!(scheduler.ready_count(), 0);
    }

    #[test]
    fn removal_finds_the_current_and_the_queued() {
        let mut scheduler = scheduler(SchedulingPolicy::Priority);
        for id in 1..=3 {
            scheduler.add(record(id, Priority::Normal)).unwrap();
        }
        scheduler.pick_next().unwrap();
        assert!(scheduler.remove(CoroutineId::new(9)).is_none());
        let queued = scheduler.remove(CoroutineId::new(2)).unwrap();
        assert_eq!(queued.state, CoroutineState::Ready);
        let current = scheduler.remove(CoroutineId::new(1)).unwrap();
        assert_eq!(current.state, CoroutineState::Running);
        assert!(scheduler.current().is_none());
        assert_eq!(scheduler.pick_next().unwrap().id, CoroutineId::new(3));
    }

    #[test]
    fn a_pick_resets_the_slice_and_an_interruption_keeps_it() {
        let mut scheduler = scheduler(SchedulingPolicy::Preemptive);
        scheduler.add(record(1, Priority::Normal)).unwrap();
        scheduler.add(record(2, Priority::Normal)).unwrap();
        scheduler.pick_next().unwrap();
        assert!(!scheduler.tick(SLICE / 4 * 3));
        scheduler.add(record(3, Priority::High)).unwrap();
        assert!(scheduler.tick(Duration::ZERO), "3 interrupts");
        assert_eq!(scheduler.pick_next().unwrap().id, CoroutineId::new(3));
        scheduler.remove(CoroutineId::new(3)).unwrap();
        // Back to 1 with its last quarter.
        assert_eq!(scheduler.pick_next().unwrap().id, CoroutineId::new(1));
        assert!(scheduler.tick(SLICE / 4));
        assert_eq!(scheduler.pick_next().unwrap().id, CoroutineId::new(2));
        assert!(!scheduler.tick(SLICE / 4 * 3));
        assert!(scheduler.tick(SLICE / 4));
    }

    #[test]
    fn a_boost_brings_back_who_sank() {
        let mut scheduler = scheduler(SchedulingPolicy::Mlfq);
        scheduler.add(record(1, Priority::High)).unwrap();
        scheduler.add(record(2, Priority::High)).unwrap();
        for _ in 0..50 {
            scheduler.pick_next().unwrap();
            scheduler.tick(SLICE);
        }
        assert_eq!(scheduler.current().unwrap().level, Priority::Low);
        scheduler.tick(Duration::from_millis(50));
        assert_eq!(scheduler.current().unwrap().level, Priority::High);
        assert_eq!(scheduler.queue.most_urgent(), Some(Priority::High));
    }
}
