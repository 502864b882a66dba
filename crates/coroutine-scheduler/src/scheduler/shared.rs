//! What vCPUs, handles and tasks share.

use std::fmt;
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use crate::coroutine::{Coroutine, CoroutineInfo};
use crate::level::LevelSet;
use crate::monitor::{self, Monitor};
use crate::phase::Phase;
use crate::policy::{BuiltIn, Facts, Policy};
use crate::stack::Stacks;
use crate::stall::Stalls;
use crate::stats::VCPUStats;
use crate::task::TaskRef;
use crate::task::registry::Registry;
use crate::tokio_context::TokioContext;
use crate::vcpu::handoff::Handoffs;
use crate::vcpu::idle::IdleSet;
use crate::vcpu::{self, Vcpu};
use crate::{Priority, SchedulerConfig, balance, clock, preempt};

/// Counters of threads that are no vCPU, spread over this many words.
pub(super) const N_OUTSIDER_SHARDS: usize = 8;

/// What vCPUs, handles and tasks share.
pub(crate) struct Shared {
    pub(crate) config: SchedulerConfig,
    pub(crate) policy: AnyPolicy,
    /// Whether the policy wants to know what coroutines used.
    pub(crate) policy_counts: bool,
    /// Levels whose arrivals may take a vCPU from something less urgent.
    pub(crate) preempting: LevelSet,
    /// Whether equals run in the order in which they came, however many.
    pub(crate) keeps_order: bool,
    initial_levels: [Priority; 4],
    pub(crate) vcpus: Box<[CachePadded<Vcpu>]>,
    pub(crate) idle: IdleSet,
    /// By level: the vCPUs at which something may wait to be stolen.
    pub(crate) waiting: CachePadded<[AtomicU64; 4]>,
    pub(crate) registry: Registry,
    pub(crate) monitor: Monitor,
    pub(crate) outsiders: Outsiders,
    pub(crate) spin_ticks: u64,
    ns_per_tick: f64,
    pub(crate) n_boosts: AtomicU32,
    pub(crate) phase: Phase,
    pub(crate) tokio: TokioContext,
    n_orders: AtomicU64,
    n_orders_at_head: AtomicU64,
    pub(crate) handoffs: Handoffs,
    pub(crate) stalls: Stalls,
    pub(crate) threads: Mutex<Vec<thread::JoinHandle<()>>>,
    pub(crate) stacks: Stacks,
    pub(crate) own: Weak<Shared>,
    pub(super) watchers: Watchers,
    last_balance: Mutex<Look>,
    pub(super) n_balances: AtomicU64,
    pub(super) n_migrations: AtomicU64,
}

/// What the balancer saw at a look.
#[derive(Debug)]
struct Look {
    ticks: u64,
    /// Of each vCPU, ticks in coroutines.
    busy: Vec<u64>,
}

impl Look {
    fn at(vcpus: &[CachePadded<Vcpu>], now: u64) -> Look {
        Look {
            ticks: now,
            busy: vcpus.iter().map(|vcpu| vcpu.busy_ticks(now)).collect(),
        }
    }

    fn shares(&self, vcpus: &[CachePadded<Vcpu>], now: u64) -> Vec<f64> {
        let ticks = now.saturating_sub(self.ticks).max(1) as f64;
        let vcpus = vcpus.iter().zip(&self.busy);
        vcpus
            .map(|(vcpu, before)| vcpu.busy_ticks(now).saturating_sub(*before) as f64)
            .map(|busy| (busy / ticks).min(1.0))
            .collect()
    }
}

/// Equals of the `RealTime` heap are numbered upwards from here, and downwards
/// from below it where they go to the head.
const FIRST_ORDER: u64 = 1 << 63;

/// A built-in policy, or a user's.
#[derive(Debug)]
pub(crate) enum AnyPolicy {
    BuiltIn(BuiltIn),
    Own(Box<dyn Policy>),
}

macro_rules! ask {
    ($any:ident.$method:ident($($arg:expr),*)) => {
        match $any {
            AnyPolicy::BuiltIn(policy) => policy.$method($($arg),*),
            AnyPolicy::Own(policy) => policy.$method($($arg),*),
        }
    };
}

impl Policy for AnyPolicy {
    fn name(&self) -> &'static str {
        ask!(self.name())
    }
    fn level(&self, facts: &Facts) -> Priority {
        ask!(self.level(facts))
    }
    fn requeue(&self, facts: &Facts, why: crate::policy::Requeue) -> crate::policy::Place {
        ask!(self.requeue(facts, why))
    }
    fn slice(&self, level: Priority) -> Option<Duration> {
        ask!(self.slice(level))
    }
    #[inline]
    fn pick(
        &self,
        ready: LevelSet,
        share: &mut crate::level::Share,
        now_ns: u64,
    ) -> Option<Priority> {
        ask!(self.pick(ready, share, now_ns))
    }
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        ask!(self.preempts(arriving, running))
    }
    fn boost_every(&self) -> Option<Duration> {
        ask!(self.boost_every())
    }
    fn balances(&self) -> bool {
        ask!(self.balances())
    }
    fn keeps_order(&self) -> bool {
        ask!(self.keeps_order())
    }
}

/// Threads that are no vCPU, by shards of them.
#[derive(Debug, Default)]
pub(crate) struct Outsiders([CachePadded<OutsiderShard>; N_OUTSIDER_SHARDS]);

#[derive(Debug, Default)]
struct OutsiderShard {
    /// How many have a task in hand (rule T3).
    n_inside: AtomicUsize,
    /// Here, since they change this line anyway.
    n_placed: AtomicUsize,
}

pub(crate) struct Outside<'a>(&'a AtomicUsize);

impl Outsiders {
    pub(crate) fn enter(&self) -> Outside<'_> {
        let counter = &self.0[outsider_shard()].n_inside;
        counter.fetch_add(1, Ordering::SeqCst);
        Outside(counter)
    }

    fn is_empty(&self) -> bool {
        let mut all = self.0.iter();
        all.all(|shard| shard.n_inside.load(Ordering::SeqCst) == 0)
    }

    /// Where something new of a shard goes, all else equal: the shards begin
    /// apart, and each takes one vCPU after the other.
    fn next_place(&self, shard: usize, n_vcpus: usize) -> usize {
        let first = shard * (n_vcpus / N_OUTSIDER_SHARDS).max(1);
        let n_placed = self.0[shard].n_placed.fetch_add(1, Ordering::Relaxed);
        first.wrapping_add(n_placed) % n_vcpus
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often a watcher looks by itself: a pause tells nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Threads that wait for an end without having the join handle. They are rare,
/// so the barriers are those of `idle`: the light one is at each end.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    n_watchers: AtomicUsize,
    lock: Mutex<()>,
    told: Condvar,
}

impl Watchers {
    /// Waits for some coroutine's end, or a moment, unless it `has_ended`.
    pub(super) fn wait(&self, idle: &IdleSet, has_ended: impl FnOnce() -> bool) {
        self.n_watchers.fetch_add(1, Ordering::Relaxed);
        // Where it is refused, there is the next look.
        let _ = idle.heavy_barrier();
        let mut guard = self.lock.lock();
        if !has_ended() {
            self.told.wait_for(&mut guard, LOOK_AGAIN);
        }
        drop(guard);
        self.n_watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// A coroutine is done.
    #[inline]
    fn tell(&self, idle: &IdleSet) {
        idle.light_barrier();
        if self.n_watchers.load(Ordering::Relaxed) != 0 {
            // Who has not seen it done is waiting when this has the lock.
            drop(self.lock.lock());
            self.told.notify_all();
        }
    }
}

pub(super) fn outsider_shard() -> usize {
    static N_THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = N_THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER
        .try_with(|number| number % N_OUTSIDER_SHARDS)
        .unwrap_or(0)
}

fn preempting(policy: &AnyPolicy) -> LevelSet {
    let mut all = LevelSet::EMPTY;
    for arriving in Priority::ALL {
        let preempts = |running| policy.preempts(arriving, running);
        if Priority::ALL.into_iter().any(preempts) {
            all = all.with(arriving);
        }
    }
    all
}

impl Shared {
    pub(super) fn new(config: SchedulerConfig, policy: AnyPolicy, own: Weak<Shared>) -> Shared {
        let n_vcpus = config.vcpu_count;
        let n_records = config.trace_runs;
        let facts = |priority| Facts {
            priority,
            level: priority,
            used_ns: 0,
            waited_ns: 0,
        };
        let initial_levels = Priority::ALL.map(|priority| policy.level(&facts(priority)));
        let policy_counts = match &policy {
            AnyPolicy::BuiltIn(BuiltIn::Mlfq(_)) | AnyPolicy::Own(_) => true,
            AnyPolicy::BuiltIn(_) => false,
        };
        Shared {
            policy_counts,
            preempting: preempting(&policy),
            keeps_order: policy.keeps_order(),
            initial_levels,
            vcpus: (0..n_vcpus)
                .map(|i| CachePadded::new(Vcpu::new(i, n_records)))
                .collect(),
            idle: IdleSet::new(n_vcpus),
            waiting: CachePadded::default(),
            registry: Registry::new(n_vcpus, N_OUTSIDER_SHARDS, config.max_coroutines),
            monitor: Monitor::default(),
            outsiders: Outsiders::default(),
            spin_ticks: vcpu::spin_ticks(),
            ns_per_tick: clock::ns_per_tick(),
            n_boosts: AtomicU32::new(0),
            phase: Phase::new(),
            tokio: TokioContext::default(),
            n_orders: AtomicU64::new(FIRST_ORDER),
            n_orders_at_head: AtomicU64::new(FIRST_ORDER - 1),
            handoffs: Handoffs::default(),
            stalls: Stalls::default(),
            threads: Mutex::default(),
            stacks: Stacks::default(),
            own,
            watchers: Watchers::default(),
            last_balance: Mutex::new(Look {
                ticks: clock::ticks(),
                busy: vec![0; n_vcpus],
            }),
            n_balances: AtomicU64::new(0),
            n_migrations: AtomicU64::new(0),
            config,
            policy,
        }
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.phase.is_over()
    }

    pub(crate) fn initial_level(&self, priority: Priority) -> Priority {
        self.initial_levels[priority.level()]
    }

    pub(crate) fn next_order(&self) -> u64 {
        self.n_orders.fetch_add(1, Ordering::Relaxed)
    }

    /// Before all that there were.
    pub(crate) fn order_at_head(&self) -> u64 {
        self.n_orders_at_head.fetch_sub(1, Ordering::Relaxed)
    }

    pub(crate) fn waits(&self, level: Priority) -> bool {
        self.waiting[level.level()].load(Ordering::SeqCst) != 0
    }

    pub(crate) fn anything_waits(&self) -> bool {
        Priority::ALL.into_iter().any(|level| self.waits(level))
    }

    pub(crate) fn others_run(&self, own: usize) -> bool {
        let mut others = self.vcpus.iter().enumerate().filter(|(i, _)| *i != own);
        others.any(|(_, vcpu)| vcpu.running_level().is_some())
    }

    /// Time for the account of levels: near enough.
    #[inline]
    pub(crate) fn share_clock_ns(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    /// Where something new goes that comes from no vCPU.
    pub(crate) fn place(&self) -> usize {
        let n_vcpus = self.vcpus.len();
        let next = self.outsiders.next_place(outsider_shard(), n_vcpus);
        if !self.config.enable_load_balancing || !self.policy.balances() {
            return next;
        }
        // The least loaded, beginning with another one each time.
        (0..n_vcpus)
            .map(|i| (next + i) % n_vcpus)
            .min_by_key(|&vcpu| self.vcpus[vcpu].load(self.waiting_at(vcpu)))
            .unwrap_or(next)
    }

    /// A coroutine has ended, or all have been aborted.
    #[inline]
    pub(crate) fn note_end(&self) {
        if self.phase.is_over_now(|| self.registry.count() > 0) {
            self.send_threads_home();
        }
    }

    /// The scheduler is over: its threads end.
    pub(super) fn send_threads_home(&self) {
        for vcpu in &self.vcpus {
            vcpu.parker.unpark();
        }
        self.dismiss_spares();
        self.monitor.stop();
    }

    pub(super) fn join_threads(&self) {
        // More may come while these end.
        while let Some(thread) = { self.threads.lock().pop() } {
            // Bodies' panics are caught; one of ours should not be hidden.
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    pub(super) fn close_all(&self) {
        for task in self.registry.all() {
            let coroutine = Coroutine::new(task);
            // Those that end by themselves meanwhile need no abort.
            let _ = coroutine.abort();
        }
        self.preempt_all(preempt::CANCEL);
        for vcpu in &self.vcpus {
            vcpu.timers.clear();
        }
    }

    /// Without threads: runs what is left on this one.
    pub(super) fn run_the_rest(&self) {
        while self.registry.count() > 0 || !self.outsiders.is_empty() {
            let ran = (0..self.vcpus.len()).find_map(|index| super::run_one_on(self, index));
            if ran.is_none() {
                thread::yield_now();
            }
        }
    }

    /// How many are ready at one vCPU.
    pub(super) fn n_ready_at(&self, id: usize) -> usize {
        self.vcpus[id].n_ready().min(self.registry.count_alive())
    }

    /// How many are ready.
    pub(super) fn n_ready(&self) -> usize {
        let all = self.vcpus.iter().map(|vcpu| vcpu.n_ready());
        all.sum::<usize>().min(self.registry.count_alive())
    }

    pub(super) fn vcpu_stats(&self, id: usize) -> VCPUStats {
        self.vcpus[id]
            .counters
            .snapshot(self.registry.n_ended_at(id))
    }

    /// This thread's place in the registry where it has no vCPU.
    pub(super) fn place_of_others(&self) -> usize {
        self.vcpus.len() + outsider_shard()
    }

    /// The vCPUs' threads, then the monitor's.
    pub(super) fn make_threads(&self) -> std::io::Result<()> {
        self.note_standing();
        for index in 0..self.vcpus.len() {
            let body = move |shared: &Shared| shared.vcpu_thread(index);
            self.spawn_thread(&index.to_string(), body)?;
        }
        self.spawn_thread("mon", monitor::run)
    }

    /// Ends a task in hand on a thread that has no vCPU.
    pub(crate) fn finish_elsewhere(&self, task: TaskRef) {
        self.end(task, self.place_of_others());
    }

    /// Ends a task in hand whose body is gone, at a vCPU that this thread holds
    /// or at the place of others.
    pub(crate) fn end(&self, task: TaskRef, place: usize) {
        // First: who is told of the end may spawn another in its place.
        self.registry.remove(task.header().id(), place);
        task.finish_and_release();
        self.watchers.tell(&self.idle);
        self.note_end();
    }

    /// Whether something of a level waits to be taken, marks aside.
    pub(crate) fn waits_really(&self, level: Priority) -> bool {
        self.waits(level) && self.vcpus.iter().any(|vcpu| vcpu.has_stealable(level))
    }

    /// How many `RealTime` coroutines wait that any vCPU may take.
    pub(crate) fn n_urgent(&self) -> usize {
        if !self.waits(Priority::RealTime) {
            return 0;
        }
        self.vcpus.iter().map(|vcpu| vcpu.n_urgent()).sum()
    }

    /// Every 100 ms: moves homes if the vCPUs' shares are far apart.
    pub(crate) fn balance_by_time(&self) {
        if self.config.enable_load_balancing && self.policy.balances() {
            self.balance();
        }
    }

    /// Each vCPU's busy share since the balancer looked last, 0 to 1: what was
    /// before says nothing of where there is room now.
    pub(super) fn busy_shares(&self) -> Vec<f64> {
        self.last_balance.lock().shares(&self.vcpus, clock::ticks())
    }

    pub(super) fn balance(&self) -> usize {
        let utilizations = {
            let mut last = self.last_balance.lock();
            let now = clock::ticks();
            let shares = last.shares(&self.vcpus, now);
            *last = Look::at(&self.vcpus, now);
            shares
        };
        if !balance::should_balance(&utilizations, self.config.load_balance_threshold) {
            return 0;
        }
        self.n_balances.fetch_add(1, Ordering::Relaxed);
        // Stealing moves what is ready. What waits is moved here: it will be
        // ready at the vCPU that has been least busy.
        let by_load = |cmp: fn(&f64, &f64) -> std::cmp::Ordering| {
            (0..utilizations.len()).max_by(|&a, &b| cmp(&utilizations[a], &utilizations[b]))
        };
        let (Some(most), Some(least)) = (
            by_load(|a, b| a.total_cmp(b)),
            by_load(|a, b| b.total_cmp(a)),
        ) else {
            return 0;
        };
        let could_move = |task: TaskRef| {
            let header = task.header();
            header.assigned() == Some(most) && !header.traits.is_pinned
        };
        let candidates = self.registry.some(could_move).into_iter();
        let at_most: Vec<Coroutine> = candidates.map(Coroutine::new).collect();
        let infos: Vec<CoroutineInfo> = at_most.iter().map(Coroutine::info).collect();
        let Some(chosen) = balance::select_coroutine_to_migrate(&infos) else {
            return 0;
        };
        for coroutine in &at_most {
            if coroutine.id() == chosen.id {
                coroutine.task().header().assign(least);
                self.n_migrations.fetch_add(1, Ordering::Relaxed);
                return 1;
            }
        }
        0
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::common::oversubscribed;
    use crate::task::header::add_own;
    use crate::{CoroutineScheduler, yield_now};

    #[test]
    fn who_spawns_to_two_schedulers_in_turn_uses_all_vcpus_of_both() {
        let config = SchedulerConfig {
            enable_load_balancing: false,
            ..oversubscribed(2)
        };
        let both = [0; 2].map(|_| CoroutineScheduler::new(config.clone()).unwrap());
        let mut places = [Vec::new(), Vec::new()];
        for _ in 0..2 {
            for (scheduler, places) in both.iter().zip(&mut places) {
                places.push(scheduler.select_target_vcpu());
            }
        }
        for mut places in places {
            places.sort_unstable();
            assert_eq!(places, [0, 1]);
        }
    }

    #[test]
    fn threads_that_spawn_once_each_use_all_vcpus() {
        for n_vcpus in [2, 8, 16, 64] {
            let outsiders = Outsiders::default();
            let threads = 0..n_vcpus.max(N_OUTSIDER_SHARDS);
            let mut places: Vec<usize> = threads
                .map(|thread| outsiders.next_place(thread % N_OUTSIDER_SHARDS, n_vcpus))
                .collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), n_vcpus);
        }
    }

    /// Once a vCPU has been busy for long, and later another one.
    #[test]
    fn homes_move_by_what_vcpus_did_lately() {
        let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
        let shared = scheduler.shared();
        let works = |vcpu: usize, ms: u64| {
            let ticks = clock::ns_to_ticks(ms * 1_000_000);
            add_own(&shared.vcpus[vcpu].counters.busy_ticks, ticks);
        };
        let body = async {
            loop {
                yield_now().await;
            }
        };
        let moves = scheduler.spawn(body).unwrap();
        works(0, 3_600_000);
        let home = || moves.info().assigned_vcpu.unwrap();
        scheduler.migrate_coroutine(moves.id(), 0).unwrap();
        assert_eq!((shared.balance(), home()), (1, 1));
        works(1, 100);
        assert_eq!((shared.balance(), home()), (1, 0));
        assert_eq!(shared.balance(), 0, "neither has done anything since");
        assert_eq!(scheduler.get_stats().load_balances, 2);
    }
}
