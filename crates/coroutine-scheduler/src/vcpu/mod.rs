//! A vCPU: queues, timers and counters, and the thread that works them off.
//!
//! ```text
//!   wakes and spawns here ─> LIFO slot ─> queue of the level ──┐ steal
//!   ... of pinned ones    ─> pinned                            ├──────> others
//!   from other threads    ─> inbox of the level ───────────────┘
//!
//!   find ──> run ──> park          find: inbox, then pick a level, then
//!    ^ ^──────┘        │                 its queues or another vCPU's
//!    └────────wake─────┘
//! ```
//!
//! [`Vcpu`] is what everybody may touch, [`Core`] what only the thread that
//! runs the vCPU does. A level that may have stealable work is marked in
//! `Shared::waiting`, by vCPU: set when a queue may have become non-empty,
//! cleared by the owner alone, who then looks again. So marks may be stale but
//! never missing, and reading them is enough to know that nothing waits.
//!
//! `RealTime` is a heap by deadline under a lock in [`Vcpu`]: for everybody,
//! and never in the LIFO slot.
//!
//! A thread shuts down in steps: 1 the scheduler closes every coroutine, 2 the
//! vCPUs drop bodies until none is left, 3 the last one tells all, 4 each
//! leaves its loop and ends.

mod core;
#[allow(unsafe_code, reason = "a core's place, touched by its holder: rule G1")]
pub(crate) mod grip;
pub(crate) mod handoff;
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod level_queue;
#[allow(unsafe_code, reason = "the pointer to this thread's core: rule L1")]
mod local;
pub(crate) mod park;

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::Priority;
use crate::clock::{self, Clock};
use crate::coroutine::CoroutineId;
use crate::level::LevelSet;
use crate::scheduler::Shared;
use crate::stall::{Seen, StallEnd};
use crate::stats::{Counters, VcpuState};
use crate::sync::order_of_accesses;
use crate::task::TaskRef;
use crate::task::header::add_own;
use crate::timer::TimerList;
use crate::trace::Ring;
use inbox::Inbox;
use level_queue::LevelStealer;
use park::Parker;

pub(crate) use self::core::{Core, Ran, run, spin_ticks};
pub(crate) use grip::{CoreCell, Grip, Holder, NextSeen, Take};
pub(crate) use local::{
    Local, Turn, employer, end_turn, enter, is_needed_by, is_on_vcpu, may_suspend, on_current,
    on_current_shared, on_local, work_for,
};

/// Levels with queues for thieves: all but `RealTime`.
pub(crate) const N_QUEUES: usize = 3;

/// What everybody may touch of a vCPU.
#[derive(Debug)]
pub(crate) struct Vcpu {
    /// Thieves read it, and nobody writes to its lines.
    pub(crate) stealers: CachePadded<[LevelStealer<TaskRef>; N_QUEUES]>,
    inbox: Inbox<TaskRef>,
    realtime: Mutex<BinaryHeap<Urgent>>,
    /// By level.
    pinned: Mutex<[VecDeque<Pinned>; 4]>,
    pinned_marks: AtomicU8,
    /// By level: how many its queue has been given in order so far, and one. Its
    /// thread writes.
    n_queued: [AtomicU64; N_QUEUES],
    pub(crate) timers: Arc<TimerList>,
    pub(crate) parker: Parker,
    /// Started stacks, which keep the thread at this vCPU.
    pub(crate) n_stacks: AtomicUsize,
    /// How many are in its LIFO slot and at its heads, where nobody steals.
    pub(crate) n_private: AtomicUsize,
    /// What it runs: a count of runs, and the level plus 1 in the low byte; the
    /// byte is 0 between coroutines.
    pub(crate) running: AtomicU64,
    /// The id of what it runs, or ran last.
    pub(crate) running_id: AtomicU64,
    /// When the slice of what it runs began.
    pub(crate) slice_start_ticks: AtomicU64,
    pub(crate) start_ticks: AtomicU64,
    /// In a line of its own: others read it at each wake.
    pub(crate) is_asleep: CachePadded<AtomicU8>,
    pub(crate) counters: Counters,
    pub(crate) ring: Ring,
    /// In lines that only its holder touches.
    pub(crate) core: CachePadded<CoreCell>,
    pub(crate) holder: Mutex<Holder>,
    /// That of whoever drives it for a turn. Nobody takes it or gives it away.
    by_hand: Arc<Grip>,
}

/// Entry of the `RealTime` heap: earliest deadline first, then first come.
#[derive(Debug, PartialEq, Eq)]
struct Urgent {
    deadline_ns: u64,
    order: u64,
    task: TaskRef,
}

/// One that stays here, and its place among its equals that do not.
#[derive(Debug)]
struct Pinned {
    /// It is next once so many have left the order of its level; of `RealTime`,
    /// the order of [`Urgent`].
    order: u64,
    task: TaskRef,
}

/// Before all that are in order.
const AT_HEAD: u64 = 0;

impl Ord for Urgent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // The heap gives the greatest.
        (other.deadline_ns, other.order).cmp(&(self.deadline_ns, self.order))
    }
}

impl PartialOrd for Urgent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Vcpu {
    pub(crate) fn new(index: usize, n_records: usize) -> Vcpu {
        let core = Core::new(index);
        Vcpu {
            stealers: CachePadded::new(core.stealers()),
            inbox: Inbox::default(),
            realtime: Mutex::default(),
            pinned: Mutex::default(),
            pinned_marks: AtomicU8::new(0),
            n_queued: [const { AtomicU64::new(AT_HEAD + 1) }; N_QUEUES],
            timers: Arc::default(),
            parker: Parker::default(),
            n_stacks: AtomicUsize::new(0),
            n_private: AtomicUsize::new(0),
            running: AtomicU64::new(0),
            running_id: AtomicU64::new(0),
            slice_start_ticks: AtomicU64::new(0),
            start_ticks: AtomicU64::new(0),
            is_asleep: CachePadded::new(AtomicU8::new(1)),
            counters: Counters::default(),
            ring: Ring::new(n_records),
            core: CachePadded::new(CoreCell::new(core)),
            holder: Mutex::default(),
            by_hand: Arc::new(Grip::new()),
        }
    }

    /// Makes this thread its holder for some turns, by the same grip each time:
    /// code that is suspended with the preempt word goes on with a live one.
    /// `None` if it has a holder.
    pub(crate) fn claim(&self) -> Option<Arc<Grip>> {
        self.claim_with(|| Arc::clone(&self.by_hand))
    }

    /// Makes a thread that is to come its holder; `false` if it has one.
    pub(crate) fn claim_for_thread(&self) -> bool {
        self.claim_with(|| Arc::new(Grip::new())).is_some()
    }

    fn claim_with(&self, grip: impl FnOnce() -> Arc<Grip>) -> Option<Arc<Grip>> {
        let mut holder = self.holder.lock();
        if holder.grip.is_some() {
            return None;
        }
        Some(Arc::clone(holder.grip.insert(grip())))
    }

    /// The holder leaves.
    pub(crate) fn release(&self) {
        self.holder.lock().grip = None;
    }

    /// The host's number of the thread that holds it, as far as known.
    pub(crate) fn thread(&self) -> Option<i32> {
        self.holder.lock().grip.as_ref()?.thread()
    }

    /// What the monitor sees of a coroutine that runs here and makes no way.
    fn stall(&self, index: usize, running: u64, id: CoroutineId, end: StallEnd) -> Seen {
        let start = self.slice_start_ticks.load(Ordering::Relaxed);
        let ran_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(start));
        Seen {
            vcpu: index,
            running,
            id,
            ran: Duration::from_nanos(ran_ns),
            end,
        }
    }

    /// Asks who runs to make way.
    pub(crate) fn ask(&self, why: u32) {
        if let Some(grip) = &self.holder.lock().grip {
            grip.preempt.fetch_or(why, Ordering::Relaxed);
        }
    }

    /// What is in its queues.
    fn n_stealable(&self) -> usize {
        // A length is the difference of two words, read one after the other: a
        // reader that loses its CPU in between counts all that came meanwhile.
        let len = |stealer: &LevelStealer<TaskRef>| stealer.len().min(stealer.len());
        self.stealers.iter().map(len).sum()
    }

    /// What is ready at it, as far as can be seen from outside.
    pub(crate) fn n_ready(&self) -> usize {
        let queues = self.n_stealable();
        let pinned: usize = self.pinned.lock().iter().map(VecDeque::len).sum();
        let private = self.n_private.load(Ordering::Relaxed);
        queues + self.inbox.len() + pinned + self.realtime.lock().len() + private
    }

    /// The same and what it runs, without locks: for placing. `waiting` are the
    /// levels that may have something.
    pub(crate) fn load(&self, waiting: LevelSet) -> usize {
        let queues = self.stealers.iter().zip(Priority::ALL);
        let queues = queues.filter(|(_, level)| waiting.has(*level));
        let queues: usize = queues.map(|(stealer, _)| stealer.len()).sum();
        let inboxes = self.inbox.marks().bits().count_ones() as usize;
        queues + inboxes + usize::from(self.running_level().is_some())
    }

    /// Ticks in coroutines until `now`, those of what it runs included.
    pub(crate) fn busy_ticks(&self, now: u64) -> u64 {
        let ended = self.counters.busy_ticks.load(Ordering::Relaxed);
        if self.running_level().is_none() {
            return ended;
        }
        let start = self.slice_start_ticks.load(Ordering::Relaxed);
        ended + now.saturating_sub(start)
    }

    /// The level of what it runs.
    pub(crate) fn running_level(&self) -> Option<Priority> {
        let byte = self.running.load(Ordering::Acquire) & 0xff;
        Some(Priority::ALL[usize::try_from(byte.checked_sub(1)?).ok()?])
    }

    /// Whether it sleeps, or has been woken and has not noticed yet. In the one
    /// order of sequentially consistent accesses, as wakes need it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.is_asleep.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn state(&self) -> VcpuState {
        if self.running_level().is_some() {
            VcpuState::Running
        } else if self.is_asleep() {
            VcpuState::Idle
        } else {
            VcpuState::Waiting
        }
    }

    fn push_urgent(&self, task: TaskRef, order: u64) {
        let deadline_ns = task.header().deadline_ns();
        self.realtime.lock().push(Urgent {
            deadline_ns,
            order,
            task,
        });
    }

    pub(crate) fn n_urgent(&self) -> usize {
        self.realtime.lock().len()
    }

    fn pop_urgent(&self) -> Option<TaskRef> {
        self.realtime.lock().pop().map(|urgent| urgent.task)
    }

    /// Something is here for its own thread only.
    fn has_own_work(&self) -> bool {
        self.pinned_marks.load(Ordering::SeqCst) != 0
    }

    /// Queues a `Normal` task and marks it, and wakes nobody for it.
    #[cfg(test)]
    pub(crate) fn push_unseen(&self, shared: &Shared, index: usize, task: TaskRef) {
        task.header().assign(index);
        self.inbox.push(task, Priority::Normal);
        shared.mark_waiting(index, Priority::Normal);
    }

    /// Something of a level is here for whoever takes it.
    pub(crate) fn has_stealable(&self, level: Priority) -> bool {
        let index = level.level();
        match level {
            Priority::RealTime => !self.realtime.lock().is_empty(),
            _ => !self.stealers[index].is_empty() || !self.inbox.is_empty(level),
        }
    }

    /// Something is here that no other vCPU can take.
    pub(crate) fn has_private_work(&self) -> bool {
        self.n_private.load(Ordering::Relaxed) != 0 || self.has_own_work()
    }

    /// The queue of a level has been given so many more in order. For its thread.
    #[inline]
    fn note_queued(&self, level: usize, n: usize) {
        add_own(&self.n_queued[level], n as u64);
    }

    /// How many that were in order at a level have left, and one: by thieves, too.
    fn n_left(&self, level: usize) -> u64 {
        let n_queued = self.n_queued[level].load(Ordering::Relaxed);
        n_queued.saturating_sub(self.stealers[level].len_in_order() as u64)
    }

    /// Behind those of its level that are in order and the inbox by now, or
    /// before them; of `RealTime`, by deadline and `urgent_order`.
    fn push_pinned(&self, task: TaskRef, level: Priority, at_head: bool, urgent_order: u64) {
        let mut queues = self.pinned.lock();
        let queue = &mut queues[level.level()];
        if level == Priority::RealTime {
            let pinned = Pinned {
                order: urgent_order,
                task,
            };
            let place = queue.partition_point(|other| other.urgency() < pinned.urgency());
            queue.insert(place, pinned);
        } else if at_head {
            let order = AT_HEAD;
            queue.push_front(Pinned { order, task });
        } else {
            let n_queued = self.n_queued[level.level()].load(Ordering::Relaxed);
            let order = n_queued + self.inbox.len_of(level) as u64;
            queue.push_back(Pinned { order, task });
        }
        self.pinned_marks
            .fetch_or(1 << level.level(), Ordering::SeqCst);
    }

    fn pop_pinned(&self, level: Priority) -> Option<TaskRef> {
        self.pop_pinned_if(level, |_| true)
    }

    /// The first one that stays here, if it `is_next`.
    fn pop_pinned_if(
        &self,
        level: Priority,
        is_next: impl FnOnce(&Pinned) -> bool,
    ) -> Option<TaskRef> {
        if !self.pinned_levels().has(level) {
            return None;
        }
        let mut queues = self.pinned.lock();
        let queue = &mut queues[level.level()];
        if !is_next(queue.front()?) {
            return None;
        }
        let pinned = queue.pop_front()?;
        if queue.is_empty() {
            self.pinned_marks
                .fetch_and(!(1 << level.level()), Ordering::SeqCst);
        }
        Some(pinned.task)
    }

    /// Deadline and order of the first `RealTime` one that any vCPU may take;
    /// without any, of one behind all others.
    fn first_urgent(&self) -> (u64, u64) {
        let realtime = self.realtime.lock();
        realtime.peek().map_or((u64::MAX, u64::MAX), |urgent| {
            (urgent.deadline_ns, urgent.order)
        })
    }

    pub(crate) fn pinned_levels(&self) -> LevelSet {
        LevelSet::from_bits(self.pinned_marks.load(Ordering::Relaxed))
    }
}

impl Pinned {
    /// Less is earlier, as for [`Urgent`].
    fn urgency(&self) -> (u64, u64) {
        (self.task.header().deadline_ns(), self.order)
    }
}

/// Queues a task that has just become ready and is in this thread's hands.
pub(crate) fn queue_woken(task: TaskRef) {
    let here = on_local(task.header().shared, |local| {
        local.while_held(|| local.push_woken(task))
    });
    if here.flatten().is_none() {
        task.shared().push_from_outside(task);
    }
}

/// The clock and the timers of the vCPU that this thread runs.
pub(crate) fn timers() -> Option<(Clock, Arc<TimerList>)> {
    on_current(|local| {
        let timers = &local.vcpu().timers;
        (local.shared().config.clock.clone(), Arc::clone(timers))
    })
}

/// A deadline has become this vCPU's first one.
pub(crate) fn timer_came_first(deadline_ns: u64) {
    on_current(|local| {
        let noted = local.while_held(|| local.core().note_deadline(deadline_ns));
        if noted.is_none() {
            // Whoever has the vCPU now may sleep over it.
            local.shared().wake_vcpu(local.index());
        }
        // The monitor goes by the host's clock, and has no say in others.
        if !local.shared().config.clock.is_virtual() {
            local.shared().monitor.expect_by(deadline_ns);
        }
    });
}

/// The time of the current scheduler's clock; outside of one, the host's.
pub(crate) fn now_ns() -> u64 {
    on_current(|local| local.shared().config.clock.now_ns()).unwrap_or_else(clock::now_ns)
}

/// See [`charge`](crate::charge).
pub(crate) fn charge(cycles: u64) -> Option<u64> {
    on_current(|local| {
        let task = local.task.get()?;
        let charged = local.charged.get().saturating_add(cycles);
        local.charged.set(charged);
        let header = task.header();
        let used = header.used_cycles.load(Ordering::Relaxed);
        let budget = header.budget_cycles()?;
        Some(budget.saturating_sub(used.saturating_add(charged)))
    })?
}

impl Shared {
    /// Queues a task from a thread that is no vCPU of this scheduler.
    pub(crate) fn push_from_outside(&self, task: TaskRef) {
        let guard = self.outsiders.enter();
        self.see_boost_of_woken(task);
        let header = task.header();
        let level = header.level();
        header.ready_ticks.store(clock::ticks(), Ordering::Relaxed);
        let target = header.assigned().unwrap_or_else(|| self.place());
        header.assign(target);
        let vcpu = &self.vcpus[target];
        if header.traits.is_pinned {
            vcpu.push_pinned(task, level, false, self.urgent_order(level, false));
            self.wake_vcpu_for(target, level);
        } else {
            if level == Priority::RealTime {
                vcpu.push_urgent(task, self.next_order());
            } else {
                vcpu.inbox.push(task, level);
            }
            self.mark_waiting(target, level);
            order_of_accesses();
            if !self.wake_vcpu(target) {
                self.wake_for(level);
            }
        }
        drop(guard);
    }

    /// Policies with an account: after a boost a task in hand has a fresh one.
    fn see_boost(&self, task: TaskRef) {
        let header = task.header();
        let boosts = self.n_boosts.load(Ordering::Relaxed) as u8;
        if header.n_boosts.swap(boosts, Ordering::Relaxed) != boosts {
            header.move_to(self.initial_level(header.traits.priority));
        }
    }

    /// The same before it is queued: who has slept over a boost does not queue
    /// where it had sunk to.
    #[inline]
    fn see_boost_of_woken(&self, task: TaskRef) {
        if self.policy_counts {
            self.see_boost(task);
        }
    }

    /// The place of a pinned one among `RealTime` equals; other levels have
    /// none in common.
    fn urgent_order(&self, level: Priority, at_head: bool) -> u64 {
        match (level, at_head) {
            (Priority::RealTime, false) => self.next_order(),
            (Priority::RealTime, true) => self.order_at_head(),
            _ => 0,
        }
    }

    /// Something has been queued: in the inbox, which is marked, under the heap's
    /// lock, or by the owner itself. The owner clears the mark before it looks
    /// again: one that is still there is for this, too.
    fn mark_waiting(&self, vcpu: usize, level: Priority) {
        let waiting = &self.waiting[level.level()];
        if waiting.load(Ordering::SeqCst) >> vcpu & 1 == 0 {
            waiting.fetch_or(1 << vcpu, Ordering::SeqCst);
        }
    }

    /// Makes sure that somebody looks at new work of a level: wakes a sleeper,
    /// or asks a vCPU that runs something less urgent.
    pub(crate) fn wake_for(&self, level: Priority) {
        if !self.wake_sleeper() && level > Priority::Low {
            self.preempt_for(level);
        }
    }

    /// After a barrier: wakes a sleeper, unless somebody searches; whether it
    /// did.
    #[inline]
    pub(crate) fn wake_sleeper(&self) -> bool {
        let sleeper = self.idle.take_sleeper();
        if let Some(sleeper) = sleeper {
            self.vcpus[sleeper].parker.unpark();
        }
        sleeper.is_some()
    }

    /// Wakes a vCPU if it sleeps; whether nobody else was about to.
    pub(crate) fn wake_vcpu(&self, vcpu: usize) -> bool {
        let was_taken = self.idle.take(vcpu);
        order_of_accesses();
        // If not, by somebody who may have lost the CPU before the token.
        if was_taken || self.vcpus[vcpu].is_asleep() {
            self.vcpus[vcpu].parker.unpark();
        }
        was_taken
    }

    /// The same, or asks who runs there to make way for `level`.
    pub(crate) fn wake_vcpu_for(&self, vcpu: usize, level: Priority) {
        if !self.wake_vcpu(vcpu) && level > Priority::Low {
            self.preempt_vcpu_for(vcpu, level);
        }
    }

    /// A second pair of eyes, the monitor's: nobody sleeps while something waits,
    /// whatever keeps those that should have woken it. Gives whether something
    /// waits for a searcher, and hears whether that was so at the look before.
    pub(crate) fn look_after_wakes(&self, was_late: bool) -> bool {
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            if vcpu.is_asleep() && !self.idle.has(index) {
                vcpu.parker.unpark();
            }
        }
        let waits = |level| self.waits_really(level);
        if self.idle.sleepers() == 0 || !Priority::ALL.into_iter().any(waits) {
            return false;
        }
        let is_late = !self.wake_sleeper();
        if is_late
            && was_late
            && let Some(sleeper) = self.idle.take_any_sleeper()
        {
            self.vcpus[sleeper].parker.unpark();
        }
        is_late
    }

    /// Levels at which something may wait at a vCPU.
    pub(crate) fn waiting_at(&self, vcpu: usize) -> LevelSet {
        self.waiting_among(1 << vcpu)
    }

    /// Levels at which something waits at other vCPUs than `own`.
    #[inline]
    pub(crate) fn waiting_elsewhere(&self, own: usize) -> LevelSet {
        self.waiting_among(!(1 << own))
    }

    /// Levels that are marked by one of these vCPUs.
    #[inline]
    fn waiting_among(&self, vcpus: u64) -> LevelSet {
        let mut bits = 0;
        for (level, waiting) in self.waiting.iter().enumerate() {
            let is_marked = waiting.load(Ordering::Relaxed) & vcpus != 0;
            bits |= u8::from(is_marked) << level;
        }
        LevelSet::from_bits(bits)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Poll, Waker};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::common::{oversubscribed, started};
    use crate::{CoroutineScheduler, SchedulerConfig, SchedulingPolicy};

    #[test]
    fn who_slept_over_a_boost_wakes_at_its_own_level() {
        let scheduler = CoroutineScheduler::new(SchedulerConfig {
            vcpu_count: 1,
            policy: SchedulingPolicy::Mlfq,
            time_slice: Duration::from_micros(10),
            ..SchedulerConfig::default()
        })
        .unwrap();
        let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
        let place = Arc::clone(&waker);
        let mut n_polls = 0;
        let body = poll_fn(move |cx| {
            // Longer than the allotment of its level, four slices.
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            *place.lock() = Some(cx.waker().clone());
            n_polls += 1;
            if n_polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        });
        let sinks = scheduler.spawn(body).unwrap();
        let wake = || waker.lock().take().unwrap().wake();
        assert_eq!(scheduler.run_one(), Some(sinks.id()));
        assert_eq!(sinks.info().level, Priority::Low);
        wake();
        assert_eq!(sinks.info().level, Priority::Low, "there was no boost");
        assert_eq!(scheduler.run_one(), Some(sinks.id()));
        scheduler.shared().n_boosts.fetch_add(1, Ordering::Relaxed);
        wake();
        assert_eq!(sinks.info().level, Priority::Normal);
        assert_eq!(scheduler.run_one(), Some(sinks.id()));
        sinks.join().unwrap();
    }

    /// The monitor is dormant meanwhile: all sleep.
    #[test]
    fn who_wants_a_vcpu_whose_waker_has_stopped_wakes_it() {
        let scheduler = started(oversubscribed(1));
        let shared = scheduler.shared();
        for _ in 0..100 {
            let vcpu = &shared.vcpus[0];
            while !vcpu.is_asleep() || !shared.idle.take(0) {
                std::thread::yield_now();
            }
            scheduler.spawn(async {}).unwrap().join().unwrap();
        }
    }
}
