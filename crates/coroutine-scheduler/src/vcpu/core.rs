//! What only the thread that runs a vCPU touches: the near ends of its queues,
//! the LIFO slot, the account of levels; and the loop around them.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use super::handoff::Left;
use super::idle::Rest;
use super::level_queue::{LevelQueue, LevelStealer};
use super::local::{Local, Turn, enter};
use super::{AT_HEAD, N_QUEUES, Vcpu};
use crate::clock;
use crate::level::{LevelSet, Share};
use crate::policy::{Facts, Place, Policy, Requeue, pick_ready};
use crate::preempt;
use crate::scheduler::Shared;
use crate::sync::{Steal, order_of_accesses};
use crate::task::header::add_own;
use crate::task::state::{Begin, End};
use crate::task::{TaskRef, waker};
use crate::{Fairness, Priority};

/// Runs in a row from the LIFO slot before the queue has its turn.
const LIFO_RUN_MAX: u8 = 3;
/// Every so many runs the timers and inboxes of the others are looked after,
/// too.
const TEND_EVERY: u32 = 64;
/// Every so many wakes from here, one is timed.
const TIME_EVERY: u32 = 8;
/// Coroutines that are stolen at once, but for the first batch: some 10 µs.
const STEAL_MAX: usize = 4096;
/// What crossbeam takes in one step.
const BATCH: usize = 32;
/// How long a vCPU that found nothing keeps looking while others run.
const SPIN: Duration = Duration::from_micros(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    index: usize,
    queues: [LevelQueue<TaskRef>; N_QUEUES],
    /// Levels whose queue may have something; the same are marked in
    /// `Shared::waiting`.
    marks: Cell<LevelSet>,
    lifo: Cell<Option<TaskRef>>,
    /// By level: how many ran in a row from it.
    lifo_runs: [Cell<u8>; N_QUEUES],
    /// A task ends: who is woken meanwhile has waited for it.
    is_ending: Cell<bool>,
    /// The heads of the queues, the very first one at the end: those whose turn
    /// was interrupted.
    heads: RefCell<[Vec<TaskRef>; N_QUEUES]>,
    /// Levels that have one there, and how many there are.
    head_marks: Cell<LevelSet>,
    n_heads: Cell<usize>,
    share: Cell<Share>,
    n_runs: Cell<u32>,
    n_wakes: Cell<u32>,
    random: Cell<u32>,
    /// End of the last run, which is the start of the next.
    last_ticks: Cell<u64>,
    last_task: Cell<Option<TaskRef>>,
    /// When the first deadline of this vCPU is, in ticks.
    deadline_ticks: Cell<u64>,
}

impl Core {
    pub(crate) fn new(index: usize) -> Core {
        Core {
            index,
            queues: std::array::from_fn(|_| LevelQueue::new()),
            marks: Cell::new(LevelSet::EMPTY),
            lifo: Cell::new(None),
            lifo_runs: Default::default(),
            is_ending: Cell::new(false),
            heads: RefCell::default(),
            head_marks: Cell::new(LevelSet::EMPTY),
            n_heads: Cell::new(0),
            share: Cell::default(),
            n_runs: Cell::new(0),
            n_wakes: Cell::new(0),
            random: Cell::new(0x9e37_79b9 ^ (index as u32 + 1)),
            last_ticks: Cell::new(0),
            last_task: Cell::new(None),
            deadline_ticks: Cell::new(u64::MAX),
        }
    }

    pub(crate) fn stealers(&self) -> [LevelStealer<TaskRef>; N_QUEUES] {
        std::array::from_fn(|level| self.queues[level].stealer())
    }

    pub(crate) fn note_deadline(&self, deadline_ns: u64) {
        let ns = deadline_ns.saturating_sub(clock::now_ns());
        let ticks = clock::ticks().saturating_add(clock::ns_to_ticks(ns));
        self.deadline_ticks
            .set(self.deadline_ticks.get().min(ticks));
    }

    /// Xorshift (Marsaglia 2003): victims need no better.
    fn random(&self) -> u32 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random.set(x);
        x
    }
}

/// The thread's loop: runs coroutines until the scheduler is done, or the vCPU
/// is lost.
pub(crate) fn run(shared: &Shared, index: usize) -> Left {
    let vcpu = &shared.vcpus[index];
    // Claimed on this thread's behalf where it takes over from another.
    let Some(grip) = vcpu.holder.lock().grip.clone() else {
        return Left::Over;
    };
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    grip.thread.store(thread, Ordering::Relaxed);
    let local = Local::new(shared, index, grip, true);
    local.start();
    let left = enter(&local, || {
        while !shared.is_over() {
            match local.find() {
                Some(task) => {
                    if local.run(task) == Ran::Lost {
                        return Left::Lost;
                    }
                }
                None => local.search_or_park(),
            }
        }
        Left::Over
    });
    if left == Left::Over {
        vcpu.is_asleep.store(1, Ordering::SeqCst);
        vcpu.release();
    }
    left
}

/// What became of an attempt to run a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It ran.
    Yes,
    /// It is paused.
    Paused,
    /// It ran so long that somebody else has the vCPU now.
    Lost,
}

impl Local<'_> {
    pub(crate) fn start(&self) {
        let now = clock::ticks();
        self.core().last_ticks.set(now);
        let vcpu = self.vcpu();
        if vcpu.start_ticks.load(Ordering::Relaxed) == 0 {
            vcpu.start_ticks.store(now, Ordering::Relaxed);
        }
        self.awake();
    }

    /// The vCPU is awake: the monitor has to watch it.
    fn awake(&self) {
        // Sequentially consistent: either we see it dormant, or it sees us.
        self.vcpu().is_asleep.store(0, Ordering::SeqCst);
        self.shared().monitor.vcpu_awoke();
    }

    // Making work ready.

    /// A task that became ready by what runs here.
    pub(crate) fn push_woken(&self, task: TaskRef) {
        let core = self.core();
        self.shared().see_boost_of_woken(task);
        let header = task.header();
        let level = header.level();
        let n_wakes = core.n_wakes.get().wrapping_add(1);
        core.n_wakes.set(n_wakes);
        let ready_ticks = if n_wakes.is_multiple_of(TIME_EVERY) {
            clock::ticks()
        } else {
            0
        };
        header.ready_ticks.store(ready_ticks, Ordering::Relaxed);
        if header.traits.is_pinned {
            let home = header.assigned().unwrap_or(core.index);
            header.assign(home);
            let shared = self.shared();
            let urgent_order = shared.urgent_order(level, false);
            shared.vcpus[home].push_pinned(task, level, false, urgent_order);
            if home != core.index {
                self.shared().idle.light_barrier();
            }
            self.shared().wake_vcpu_for(home, level);
            return;
        }
        header.assign(core.index);
        match level {
            Priority::RealTime => self.push_urgent(task),
            Priority::Low => self.push(task, level),
            // Where levels are strict it has to be where the others see it, and
            // take it before they run anything less urgent.
            _ if self.shared().keeps_order || self.shared().config.fairness == Fairness::Strict => {
                self.push(task, level);
            }
            // Who waits for many would be woken for each of them: behind those
            // that are ready, all may be done when it runs.
            Priority::Normal | Priority::High
                if core.is_ending.get() && !core.queues[level.level()].is_empty() =>
            {
                self.push(task, level);
            }
            Priority::Normal | Priority::High => {
                let other = core.lifo.replace(Some(task));
                self.note_private();
                if let Some(other) = other {
                    self.push(other, other.header().level());
                }
            }
        }
        // Whoever runs here made it ready, and goes on.
        let running = self.vcpu().running_level();
        if level < Priority::RealTime && running.is_some_and(|running| running < level) {
            self.shared().preempt_vcpu_for(core.index, level);
        }
    }

    fn push_urgent(&self, task: TaskRef) {
        let shared = self.shared();
        self.vcpu().push_urgent(task, shared.next_order());
        shared.mark_waiting(self.core().index, Priority::RealTime);
        shared.wake_for(Priority::RealTime);
    }

    /// Behind its equals, or to the surplus, and lets somebody know.
    fn push(&self, task: TaskRef, level: Priority) {
        let queue = &self.core().queues[level.level()];
        let is_new = || task.header().n_executions.load(Ordering::Relaxed) == 0;
        if !self.shared().keeps_order && queue.overflows() && is_new() {
            queue.push_surplus(task);
        } else {
            queue.push(task);
            self.vcpu().note_queued(level.level(), 1);
        }
        self.mark(level);
        self.shared().idle.light_barrier();
        self.shared().wake_sleeper();
    }

    #[inline]
    fn mark(&self, level: Priority) {
        let core = self.core();
        if !core.marks.get().has(level) {
            core.marks.set(core.marks.get().with(level));
            self.shared().mark_waiting(core.index, level);
        }
    }

    /// A level has nothing here any more, unless something has just come: then it
    /// is marked again, and that is what is given.
    fn unmark(&self, level: Priority) -> bool {
        let core = self.core();
        core.marks.set(core.marks.get().without(level));
        self.shared().waiting[level.level()].fetch_and(!(1 << core.index), Ordering::SeqCst);
        order_of_accesses();
        // Who has come since then has not seen the mark gone.
        let has_mail = match level {
            Priority::RealTime => !self.vcpu().realtime.lock().is_empty(),
            _ => self.vcpu().inbox.marks().has(level),
        };
        if has_mail {
            self.shared().mark_waiting(core.index, level);
        }
        has_mail
    }

    /// Marks of what thieves have taken: nobody would clear them in a sleep, and
    /// meanwhile every vCPU that looks would look here.
    fn clear_stale_marks(&self) {
        let core = self.core();
        for level in Priority::ALL {
            let waiting = self.shared().waiting[level.level()].load(Ordering::Relaxed);
            if waiting >> core.index & 1 != 0 && !self.vcpu().has_stealable(level) {
                self.unmark(level);
            }
        }
    }

    // Finding work.

    /// The next task, from here or, if that is more urgent, from elsewhere.
    #[inline]
    pub(crate) fn find(&self) -> Option<TaskRef> {
        let core = self.core();
        let vcpu = self.vcpu();
        if core.last_ticks.get() >= core.deadline_ticks.get() {
            self.fire_timers();
        }
        let n_runs = core.n_runs.get();
        if n_runs.is_multiple_of(TEND_EVERY) {
            self.tend();
        }
        if !vcpu.inbox.seems_empty() {
            self.empty_inbox();
        }
        let mut excluded = LevelSet::EMPTY;
        loop {
            let here = self.levels_here(vcpu);
            let mut ready = here;
            let elsewhere = self.shared().waiting_elsewhere(core.index);
            // What waits elsewhere counts only above what is here.
            for level in [Priority::RealTime, Priority::High, Priority::Normal] {
                if here.has(level) {
                    break;
                }
                if elsewhere.has(level) && !excluded.has(level) && !here.is_empty() {
                    ready = ready.with(level);
                }
            }
            if ready.is_empty() {
                return None;
            }
            let mut share = core.share.get();
            let now_ns = self.shared().share_clock_ns(core.last_ticks.get());
            let level = pick_ready(&self.shared().policy, ready, &mut share, now_ns);
            core.share.set(share);
            let level = level?;
            let found = if here.has(level) {
                self.pop(level)
            } else {
                self.steal(level)
            };
            if found.is_some() {
                return found;
            }
            if here.has(level) {
                if self.unmark(level) {
                    // In between it was not marked, and whoever looked then may
                    // sleep, while this vCPU runs something else.
                    self.shared().idle.light_barrier();
                    self.shared().wake_sleeper();
                }
            } else {
                excluded = excluded.with(level);
            }
        }
    }

    fn levels_here(&self, vcpu: &Vcpu) -> LevelSet {
        let core = self.core();
        let urgent = self.shared().waiting[3].load(Ordering::Relaxed) >> core.index & 1;
        let stealable = core.marks.get().bits() | (urgent as u8) << 3;
        LevelSet::from_bits(stealable | self.private_levels(vcpu).bits())
    }

    /// Levels of what only this vCPU can take; unlike marks never stale.
    fn private_levels(&self, vcpu: &Vcpu) -> LevelSet {
        let core = self.core();
        let levels =
            LevelSet::from_bits(vcpu.pinned_levels().bits() | core.head_marks.get().bits());
        match core.lifo.get() {
            Some(task) => levels.with(task.header().level()),
            None => levels,
        }
    }

    /// The next one of a level from this vCPU's own queues: whose turn was
    /// interrupted, a few times who was woken last, and then whoever came first,
    /// whether it may be stolen or not, or one of the surplus.
    fn pop(&self, level: Priority) -> Option<TaskRef> {
        let core = self.core();
        let vcpu = self.vcpu();
        if level == Priority::RealTime {
            // By their deadlines, wherever they are.
            let pinned = vcpu.pop_pinned_if(level, |one| one.urgency() < vcpu.first_urgent());
            let other = pinned.or_else(|| vcpu.pop_urgent());
            return other.or_else(|| vcpu.pop_pinned(level));
        }
        if let Some(task) = vcpu.pop_pinned_if(level, |one| one.order == AT_HEAD) {
            return Some(task);
        }
        if core.head_marks.get().has(level) {
            return self.pop_head(level);
        }
        let lifo = core
            .lifo
            .get()
            .filter(|task| task.header().level() == level);
        let index = level.level();
        let lifo_run = &core.lifo_runs[index];
        if lifo.is_some() && lifo_run.get() < LIFO_RUN_MAX {
            lifo_run.set(lifo_run.get() + 1);
            return self.take_lifo();
        }
        lifo_run.set(0);
        let queue = &core.queues[index];
        let in_line = || {
            let pinned = vcpu.pop_pinned_if(level, |one| one.order <= vcpu.n_left(index));
            let other = pinned.or_else(|| queue.in_order.pop());
            // Thieves may have taken from the inbox who came before it.
            other.or_else(|| vcpu.pop_pinned(level))
        };
        let popped = queue.pop(in_line);
        popped.or_else(|| lifo.and_then(|_| self.take_lifo()))
    }

    fn take_lifo(&self) -> Option<TaskRef> {
        let task = self.core().lifo.take();
        self.note_private();
        task
    }

    /// Before its equals.
    fn push_head(&self, task: TaskRef, level: Priority) {
        let core = self.core();
        core.heads.borrow_mut()[level.level()].push(task);
        core.head_marks.set(core.head_marks.get().with(level));
        core.n_heads.set(core.n_heads.get() + 1);
        self.note_private();
    }

    fn pop_head(&self, level: Priority) -> Option<TaskRef> {
        let core = self.core();
        let mut heads = core.heads.borrow_mut();
        let task = heads[level.level()].pop();
        core.n_heads
            .set(core.n_heads.get() - usize::from(task.is_some()));
        if heads[level.level()].is_empty() {
            core.head_marks.set(core.head_marks.get().without(level));
        }
        self.note_private();
        task
    }

    /// Lets others know how much is here that nobody can steal.
    #[inline]
    fn note_private(&self) {
        let core = self.core();
        let n_private = usize::from(core.lifo.get().is_some()) + core.n_heads.get();
        self.vcpu().n_private.store(n_private, Ordering::Relaxed);
    }

    fn empty_inbox(&self) {
        let vcpu = self.vcpu();
        let queues = &self.core().queues;
        let in_order = |level: usize| &queues[level].in_order;
        vcpu.inbox.empty_into(in_order, |level, n| {
            vcpu.note_queued(level.level(), n);
            self.mark(level);
        });
    }

    /// Takes work of one level from another vCPU.
    fn steal(&self, level: Priority) -> Option<TaskRef> {
        let core = self.core();
        let shared = self.shared();
        let waiting = shared.waiting[level.level()].load(Ordering::SeqCst) & !(1 << core.index);
        if waiting == 0 {
            return None;
        }
        let n_vcpus = shared.vcpus.len();
        let start = core.random() as usize % n_vcpus;
        let victims = (0..n_vcpus).map(|i| (start + i) % n_vcpus);
        for victim in victims.filter(|victim| waiting >> victim & 1 != 0) {
            let from = &shared.vcpus[victim];
            let stolen = if level == Priority::RealTime {
                from.pop_urgent()
            } else {
                self.steal_batch(from, level)
            };
            if let Some(task) = stolen {
                let counters = &self.vcpu().counters;
                add_own(&counters.steals, 1);
                add_own(&counters.stolen_coroutines, 1);
                return Some(task);
            }
        }
        None
    }

    fn steal_batch(&self, from: &Vcpu, level: Priority) -> Option<TaskRef> {
        let index = level.level();
        if !from.has_stealable(level) {
            return None;
        }
        // First: what comes is for others to see, however long this takes.
        self.mark(level);
        let task = self.bring(level, |queue| {
            let stolen = from.stealers[index].steal_and_pop(queue);
            stolen.or_else(|| from.inbox.steal_into(&queue.in_order, level))
        });
        if task.is_some() {
            self.take_half(from, level);
        }
        if self.core().queues[index].is_empty() {
            self.unmark(level);
        }
        task
    }

    /// Takes half of what waits at another vCPU, or some more or less, which
    /// takes several batches: who takes little of much is soon back.
    fn take_half(&self, from: &Vcpu, level: Priority) {
        let stealer = &from.stealers[level.level()];
        let n_batches = (stealer.len() / 2).min(STEAL_MAX).div_ceil(BATCH);
        let mut n_taken = 0;
        // A batch fails where the owner takes one meanwhile, so it may be in vain.
        for _ in 0..2 * n_batches {
            match self.bring(level, |queue| stealer.steal(queue)) {
                Steal::Success(()) => n_taken += 1,
                Steal::Retry => {}
                Steal::Empty => break,
            }
            if n_taken == n_batches {
                break;
            }
        }
        if n_taken > 0 {
            // For a moment they were nowhere, and whoever looked then may sleep.
            self.shared().idle.light_barrier();
            self.shared().wake_sleeper();
        }
    }

    /// Lets `steal` bring work of a level here, and counts it, less what thieves
    /// take meanwhile.
    fn bring<R>(&self, level: Priority, steal: impl FnOnce(&LevelQueue<TaskRef>) -> R) -> R {
        let queue = &self.core().queues[level.level()];
        let (n_in_order, n_before) = (queue.in_order.len(), queue.len());
        let result = steal(queue);
        let n_in_order = queue.in_order.len().saturating_sub(n_in_order);
        self.vcpu().note_queued(level.level(), n_in_order);
        let n = queue.len().saturating_sub(n_before);
        add_own(&self.vcpu().counters.stolen_coroutines, n as u64);
        result
    }

    /// Once in a while: deadlines of vCPUs that are busy with one coroutine.
    fn tend(&self) {
        if self.shared().config.clock.is_virtual() {
            return;
        }
        let now_ns = clock::now_ns();
        for vcpu in &self.shared().vcpus {
            vcpu.timers.fire(now_ns);
        }
    }

    fn fire_timers(&self) {
        let core = self.core();
        core.deadline_ticks.set(u64::MAX);
        let timers = &self.vcpu().timers;
        if !self.shared().config.clock.is_virtual() {
            timers.fire(clock::now_ns());
        }
        let next_ns = timers.next_ns();
        if next_ns != u64::MAX {
            core.note_deadline(next_ns);
        }
    }

    // Having no work.

    #[cold]
    fn search_or_park(&self) {
        self.shared().idle.rest(self.core().index, self);
    }

    fn search_once(&self) -> bool {
        let vcpu = self.vcpu();
        if vcpu.has_own_work() || !vcpu.inbox.marks().is_empty() {
            return true;
        }
        let now = clock::ticks();
        if now >= self.core().deadline_ticks.get() {
            self.account_idle();
            self.fire_timers();
        }
        if !self.levels_here(vcpu).is_empty() {
            return true;
        }
        for level in Priority::ALL.into_iter().rev() {
            if let Some(task) = self.steal(level) {
                match level {
                    Priority::RealTime => self.push_urgent_quietly(task, true),
                    _ => self.push_head(task, level),
                }
                return true;
            }
        }
        false
    }

    fn push_urgent_quietly(&self, task: TaskRef, at_head: bool) {
        let shared = self.shared();
        let order = if at_head {
            shared.order_at_head()
        } else {
            shared.next_order()
        };
        self.vcpu().push_urgent(task, order);
        shared.mark_waiting(self.core().index, Priority::RealTime);
    }

    /// Time since the last note was idle.
    fn account_idle(&self) {
        let now = clock::ticks();
        let since = now.saturating_sub(self.core().last_ticks.get());
        add_own(&self.vcpu().counters.idle_ticks, since);
        self.core().last_ticks.set(now);
    }

    // Running.

    /// Runs a task that was taken from a queue.
    pub(crate) fn run(&self, task: TaskRef) -> Ran {
        let header = task.header();
        let seen = match header.state.begin() {
            Begin::Poll(seen) => seen,
            Begin::Parked => return Ran::Paused,
            Begin::Close => {
                self.close(task);
                return Ran::Yes;
            }
        };
        let core = self.core();
        let shared = self.shared();
        let vcpu = self.vcpu();
        let level = header.level();
        let start = core.last_ticks.get();
        core.n_runs.set(core.n_runs.get().wrapping_add(1));
        let ready = header.ready_ticks.load(Ordering::Relaxed);
        if ready != 0 {
            header.ready_ticks.store(0, Ordering::Relaxed);
            vcpu.counters.latency.record(start.saturating_sub(ready));
        }
        if level == Priority::RealTime {
            self.check_deadline(task);
        }
        if shared.config.fairness == Fairness::Strict {
            self.count_inversions(level);
        }
        header.assign(core.index);
        header.set_running_on(Some(core.index));
        let grip = self.grip();
        grip.preempt.store(0, Ordering::Relaxed);
        let used = self.take_slice_used(task, level);
        vcpu.slice_start_ticks
            .store(start.saturating_sub(used), Ordering::Relaxed);
        vcpu.running_id.store(header.id().get(), Ordering::Relaxed);
        let running = (vcpu.running.load(Ordering::Relaxed) | 0xff) + 1;
        vcpu.running
            .store(running | (level.level() as u64 + 1), Ordering::Release);
        self.task.set(Some(task));
        self.turn.set(Turn::Waits);
        self.charged.set(0);

        grip.loosen();
        let has_ended = waker::with_waker(task, |waker| task.poll(&mut Context::from_waker(waker)));

        let now = clock::ticks();
        let ran = now.saturating_sub(start);
        if !grip.tighten(&shared.idle) {
            self.end_as_weak(task, seen, has_ended, ran);
            return Ran::Lost;
        }
        core.last_ticks.set(now);
        self.task.set(None);
        vcpu.running.store(running, Ordering::Release);
        let asked = grip.preempt.load(Ordering::Relaxed);
        self.account(task, level, ran);
        header.set_running_on(None);
        if has_ended {
            self.finish(task);
            return Ran::Yes;
        }
        let account = shared.policy_counts.then(|| {
            let account = header.account();
            // Where a wake queues it, should it wait now.
            self.settle_level(task);
            account
        });
        match header.state.end(seen, self.turn.get() != Turn::Waits) {
            End::Left => {}
            End::Again => {
                if let Some(account) = account {
                    header.set_account(account);
                }
                self.requeue(task, asked, now);
            }
            End::Close => self.close(task),
        }
        Ran::Yes
    }

    /// The end of a poll on a thread that has lost its vCPU: nothing of that
    /// may be touched, the task is still in hand.
    #[cold]
    fn end_as_weak(&self, task: TaskRef, seen: u64, has_ended: bool, ran: u64) {
        let header = task.header();
        let shared = self.shared();
        // First: what follows takes locks that others need, the monitor's
        // included. (Refused, it is as before; the thread sees to that when it is
        // done here.)
        self.grip().wait_until_settled();
        let _is_restored = shared.restore_standing();
        // Before anybody goes on with the task, who may look.
        shared.note_unstuck(header.id());
        shared.handoffs.n_weak.fetch_sub(1, Ordering::SeqCst);
        self.task.set(None);
        header.note_run(self.charged.get(), ran);
        // The vCPU's other counters are its new holder's.
        let counters = &self.vcpu().counters;
        counters.weak_executions.fetch_add(1, Ordering::Relaxed);
        header.set_running_on(None);
        if has_ended {
            return shared.finish_elsewhere(task);
        }
        match header.state.end(seen, self.turn.get() != Turn::Waits) {
            End::Left => {}
            End::Again => shared.push_from_outside(task),
            End::Close => {
                task.close();
                shared.finish_elsewhere(task);
            }
        }
    }

    /// Gives the vCPU to another thread in the middle of a poll, if it can be.
    /// A destructor of a closed body is no poll: who drops it has the core. Nor
    /// is there a thread to give it to where the caller drives.
    pub(crate) fn give_away(&self) {
        let has_stacks = self.vcpu().n_stacks.load(Ordering::Relaxed) != 0;
        if self.is_thread() && self.grip().is_loose() && !has_stacks {
            self.shared().give_away(self.index(), self.grip());
        }
    }

    fn account(&self, task: TaskRef, level: Priority, ran: u64) {
        let header = task.header();
        let core = self.core();
        let counters = &self.vcpu().counters;
        header.note_run(self.charged.get(), ran);
        if self.shared().policy_counts {
            header.add_level_ticks(ran);
            self.shared().see_boost(task);
        }
        add_own(&counters.executions, 1);
        add_own(&counters.busy_ticks, ran);
        counters.poll_time.record(ran);
        let start = core.last_ticks.get().wrapping_sub(ran);
        self.vcpu().ring.record(header.id(), level, start, ran);
        if core.last_task.replace(Some(task)) != Some(task) {
            add_own(&counters.switches, 1);
        }
        if level >= Priority::High {
            let mut share = core.share.get();
            share.charge(level, clock::ticks_to_ns(ran));
            core.share.set(share);
        }
    }

    /// A task that can go on goes back to a queue.
    fn requeue(&self, task: TaskRef, asked: u32, now: u64) {
        let core = self.core();
        let header = task.header();
        let level = header.level();
        let why = self.why_again(level, asked, now);
        if why != Requeue::Yielded {
            add_own(&self.vcpu().counters.preemptions, 1);
        }
        let place = if self.shared().policy_counts {
            self.shared().policy.requeue(&self.facts(task), why)
        } else {
            Place {
                level,
                at_head: why == Requeue::Preempted,
            }
        };
        if place.level != level {
            header.move_to(place.level);
        }
        if place.at_head {
            let used = self.slice_used(level, now).clamp(1, u16::MAX.into());
            header.slice_used.store(used as u16, Ordering::Relaxed);
        }
        if core.n_wakes.get().is_multiple_of(TIME_EVERY) {
            header.ready_ticks.store(now, Ordering::Relaxed);
        }
        core.n_wakes.set(core.n_wakes.get().wrapping_add(1));
        let level = place.level;
        if header.traits.is_pinned {
            let urgent_order = self.shared().urgent_order(level, place.at_head);
            self.vcpu()
                .push_pinned(task, level, place.at_head, urgent_order);
            return;
        }
        if level == Priority::RealTime {
            self.push_urgent_quietly(task, place.at_head);
            return;
        }
        if place.at_head {
            self.push_head(task, level);
            return;
        }
        let queue = &core.queues[level.level()];
        // Alone it will be back at once: nobody has to be woken for it.
        let is_alone = core.lifo.get().is_none() && queue.is_empty();
        queue.push(task);
        self.vcpu().note_queued(level.level(), 1);
        self.mark(level);
        if !is_alone {
            self.shared().idle.light_barrier();
            self.shared().wake_sleeper();
        }
    }

    /// Why it goes on, by what its body did: who is asked to make way and yields
    /// all the same has had its turn.
    fn why_again(&self, level: Priority, asked: u32, now: u64) -> Requeue {
        if self.turn.get() != Turn::MakesWay {
            return Requeue::Yielded;
        }
        if asked & preempt::SLICE != 0 {
            return Requeue::SliceSpent;
        }
        if asked & preempt::HIGHER == 0 {
            return Requeue::Yielded;
        }
        if self.slice_used(level, now) > u16::MAX.into() {
            return Requeue::SliceSpent;
        }
        Requeue::Preempted
    }

    /// How much of its slice the coroutine that ran until `now` has used, in
    /// 65,536ths.
    fn slice_used(&self, level: Priority, now: u64) -> u64 {
        let Some(slice_ticks) = self.slice_ticks(level) else {
            return 0;
        };
        let start = self.vcpu().slice_start_ticks.load(Ordering::Relaxed);
        now.saturating_sub(start).saturating_mul(1 << 16) / slice_ticks
    }

    /// Ticks that count as run already: the turn was interrupted, and goes on.
    #[inline]
    fn take_slice_used(&self, task: TaskRef, level: Priority) -> u64 {
        let slice_used = &task.header().slice_used;
        let used = slice_used.load(Ordering::Relaxed);
        if used == 0 {
            return 0;
        }
        slice_used.store(0, Ordering::Relaxed);
        let slice_ticks = self.slice_ticks(level).unwrap_or(0);
        ((u128::from(slice_ticks) * u128::from(used)) >> 16) as u64
    }

    fn slice_ticks(&self, level: Priority) -> Option<u64> {
        let slice = self.shared().policy.slice(level)?;
        let ns = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
        Some(clock::ns_to_ticks(ns).max(1))
    }

    /// Policies with an account: the level at which a wake queues the task.
    fn settle_level(&self, task: TaskRef) {
        let header = task.header();
        let level = self.shared().policy.level(&self.facts(task));
        if level != header.level() {
            header.move_to(level);
        }
    }

    fn facts(&self, task: TaskRef) -> Facts {
        let header = task.header();
        Facts {
            priority: header.traits.priority,
            level: header.level(),
            used_ns: clock::ticks_to_ns(header.level_ticks()),
            waited_ns: 0,
        }
    }

    /// Drops the body of a closed task in hand, with the core held and nothing
    /// running, by the account of others: no stack may be left by a destructor
    /// (L2), so nobody takes the vCPU, however long that is.
    fn close(&self, task: TaskRef) {
        let header = task.header();
        header.set_running_on(Some(self.core().index));
        self.task.set(Some(task));
        task.close();
        self.task.set(None);
        header.set_running_on(None);
        self.finish(task);
    }

    fn finish(&self, task: TaskRef) {
        let core = self.core();
        if core.last_task.get() == Some(task) {
            core.last_task.set(None);
        }
        core.is_ending.set(true);
        self.shared().end(task, core.index);
        core.is_ending.set(false);
    }

    fn check_deadline(&self, task: TaskRef) {
        let header = task.header();
        let deadline_ns = header.deadline_ns();
        let is_first = header.n_executions.load(Ordering::Relaxed) == 0;
        if is_first && deadline_ns != u64::MAX && self.shared().config.clock.now_ns() > deadline_ns
        {
            add_own(&self.vcpu().counters.deadline_misses, 1);
        }
    }

    fn count_inversions(&self, level: Priority) {
        let private = self.private_levels(self.vcpu());
        let waits = |above: Priority| private.has(above) || self.shared().waits_really(above);
        let mut above = Priority::ALL.into_iter().filter(|other| *other > level);
        if above.any(waits) {
            add_own(&self.vcpu().counters.inversions, 1);
        }
    }
}

impl Rest for Local<'_> {
    fn is_over(&self) -> bool {
        self.shared().is_over()
    }

    /// For a while, if others are running.
    fn search(&self) -> bool {
        let shared = self.shared();
        let core = self.core();
        let start = clock::ticks();
        let end = start.saturating_add(shared.spin_ticks);
        loop {
            let has_work = self.search_once();
            if has_work {
                self.account_idle();
                if shared.idle.end_search() && shared.anything_waits() {
                    shared.wake_for(Priority::Low);
                }
                return true;
            }
            let spins = clock::ticks() < end && shared.others_run(core.index);
            if !spins || shared.is_over() {
                return false;
            }
            for _ in 0..32 {
                std::hint::spin_loop();
            }
        }
    }

    fn has_any_work(&self) -> bool {
        let vcpu = self.vcpu();
        let shared = self.shared();
        self.clear_stale_marks();
        let waits = |level| shared.waits_really(level);
        Priority::ALL.into_iter().any(waits)
            || vcpu.has_own_work()
            || !vcpu.inbox.marks().is_empty()
            || self.shared().is_over()
    }

    /// At most until the first deadline.
    fn sleep(&self) {
        let vcpu = self.vcpu();
        let shared = self.shared();
        vcpu.is_asleep.store(1, Ordering::SeqCst);
        let timeout = if shared.config.clock.is_virtual() {
            None
        } else {
            let next_ns = vcpu.timers.next_ns();
            let wait_ns = next_ns.saturating_sub(clock::now_ns());
            (next_ns != u64::MAX).then(|| Duration::from_nanos(wait_ns))
        };
        self.account_idle();
        let asleep_since = &vcpu.counters.asleep_since;
        asleep_since.store(self.core().last_ticks.get(), Ordering::Relaxed);
        // Taken out before it was known to sleep: whoever wanted it since then
        // has not woken it.
        order_of_accesses();
        if shared.idle.has(self.core().index) {
            vcpu.parker.park(timeout);
        }
        asleep_since.store(0, Ordering::Relaxed);
        add_own(&vcpu.counters.parks, 1);
        self.awake();
        self.account_idle();
        let next_ns = vcpu.timers.next_ns();
        if next_ns != u64::MAX {
            self.core().note_deadline(next_ns);
        }
    }
}

/// How long searchers spin, in ticks.
pub(crate) fn spin_ticks() -> u64 {
    clock::ns_to_ticks(SPIN.as_nanos() as u64)
}

#[cfg(all(test, not(loom)))]
mod tests;
