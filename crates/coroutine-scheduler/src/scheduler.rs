//! [`CoroutineScheduler`]: builds the vCPUs, spawns, controls, shuts down.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::clock::{self, Clock};
use crate::coroutine::stackful::{BODY_BYTES_MAX, Stackful};
use crate::coroutine::{Coroutine, CoroutineId, CoroutineInfo};
use crate::error::{ConfigError, ControlError, SpawnError, StartError};
use crate::level::LevelSet;
use crate::monitor::{self, Monitor};
use crate::phase::Phase;
use crate::policy::{BuiltIn, Facts, Policy};
use crate::preempt;
use crate::stack::Stacks;
use crate::stats::{Quantiles, SchedulerStats, VCPUStats, VCpuInfo};
use crate::task::header::{Extras, Header, Traits};
use crate::task::registry::Registry;
use crate::task::state::{self, State, Then};
use crate::task::{JoinHandle, TaskRef};
use crate::tokio_context::TokioContext;
use crate::trace::RunRecord;
use crate::vcpu::handoff::Handoffs;
use crate::vcpu::idle::IdleSet;
use crate::vcpu::{self, Local, Ran, Vcpu, enter};
use crate::{Priority, SchedulerConfig, balance};

/// Counters of threads that are no vCPU, spread over this many words.
const N_OUTSIDER_SHARDS: usize = 8;

/// What vCPUs, handles and tasks share.
pub(crate) struct Shared {
    pub(crate) config: SchedulerConfig,
    pub(crate) policy: AnyPolicy,
    /// Whether the policy wants to know what coroutines used.
    pub(crate) policy_counts: bool,
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
    pub(crate) threads: Mutex<Vec<thread::JoinHandle<()>>>,
    pub(crate) stacks: Stacks,
    pub(crate) own: Weak<Shared>,
    n_ended_elsewhere: AtomicU64,
    n_placed: AtomicUsize,
    n_balances: AtomicU64,
    n_migrations: AtomicU64,
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
}

/// Counts threads that have a task in hand without being a vCPU (rule T3).
#[derive(Debug, Default)]
pub(crate) struct Outsiders([CachePadded<AtomicUsize>; N_OUTSIDER_SHARDS]);

pub(crate) struct Outside<'a>(&'a AtomicUsize);

impl Outsiders {
    pub(crate) fn enter(&self) -> Outside<'_> {
        let counter = &self.0[outsider_shard()];
        counter.fetch_add(1, Ordering::SeqCst);
        Outside(counter)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|n| n.load(Ordering::SeqCst) == 0)
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn outsider_shard() -> usize {
    static N_THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = N_THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER
        .try_with(|number| number % N_OUTSIDER_SHARDS)
        .unwrap_or(0)
}

impl Shared {
    fn new(config: SchedulerConfig, policy: AnyPolicy, own: Weak<Shared>) -> Shared {
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
            initial_levels,
            vcpus: (0..n_vcpus)
                .map(|i| CachePadded::new(Vcpu::new(i, n_records)))
                .collect(),
            idle: IdleSet::new(n_vcpus),
            waiting: CachePadded::default(),
            registry: Registry::new(n_vcpus + N_OUTSIDER_SHARDS, config.max_coroutines),
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
            threads: Mutex::default(),
            stacks: Stacks::default(),
            own,
            n_ended_elsewhere: AtomicU64::new(0),
            n_placed: AtomicUsize::new(0),
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
        let next = self.n_placed.fetch_add(1, Ordering::Relaxed) % n_vcpus;
        if !self.config.enable_load_balancing || !self.policy.balances() {
            return next;
        }
        // The least loaded, beginning with another one each time.
        (0..n_vcpus)
            .map(|i| (next + i) % n_vcpus)
            .min_by_key(|&vcpu| self.vcpus[vcpu].load())
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
    fn send_threads_home(&self) {
        for vcpu in &self.vcpus {
            vcpu.parker.unpark();
        }
        self.dismiss_spares();
        self.monitor.stop();
    }

    fn join_threads(&self) {
        // More may come while these end.
        while let Some(thread) = { self.threads.lock().pop() } {
            // Bodies' panics are caught; one of ours should not be hidden.
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn close_all(&self) {
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
    fn run_the_rest(&self) {
        while self.registry.count() > 0 || !self.outsiders.is_empty() {
            let ran = (0..self.vcpus.len()).find_map(|index| run_one_on(self, index));
            if ran.is_none() {
                thread::yield_now();
            }
        }
    }

    pub(crate) fn spawn_monitor(&self) -> std::io::Result<()> {
        self.spawn_thread("mon", monitor::run)
    }

    /// Ends a task in hand on a thread that has no vCPU.
    pub(crate) fn finish_elsewhere(&self, task: TaskRef) {
        self.n_ended_elsewhere.fetch_add(1, Ordering::Relaxed);
        self.end(task);
    }

    /// Ends a task in hand whose body is gone; who calls counts it.
    pub(crate) fn end(&self, task: TaskRef) {
        // First: who is told of the end may spawn another in its place.
        self.registry.remove(task.header().id());
        task.finish_and_release();
        self.note_end();
    }

    /// Whether something of a level waits to be taken, marks aside.
    pub(crate) fn waits_really(&self, level: Priority) -> bool {
        self.waits(level) && self.vcpus.iter().any(|vcpu| vcpu.has_stealable(level))
    }

    /// Every 100 ms: moves homes if the vCPUs' shares are far apart.
    pub(crate) fn balance_by_time(&self) {
        if self.config.enable_load_balancing && self.policy.balances() {
            self.balance();
        }
    }

    fn balance(&self) -> usize {
        let utilizations: Vec<f64> = self
            .vcpus
            .iter()
            .map(|vcpu| vcpu.counters.snapshot().utilization())
            .collect();
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

/// How a coroutine is to be; see [`SchedulerHandle::spawn_with`].
#[derive(Clone, Debug, Default)]
pub struct SpawnOptions {
    priority: Priority,
    is_pinned: bool,
    vcpu: Option<usize>,
    extras: Extras,
}

impl SpawnOptions {
    /// `Normal`, unnamed, anywhere, without budget or deadline.
    #[must_use]
    pub fn new() -> SpawnOptions {
        SpawnOptions::default()
    }

    /// How urgent it is.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> SpawnOptions {
        self.priority = priority;
        self
    }

    /// A name for reports.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> SpawnOptions {
        self.extras.name = Some(name.into());
        self
    }

    /// Cycles it may use, as its info shows them; what happens beyond is its
    /// body's to decide.
    #[must_use]
    pub fn budget(mut self, cycles: u64) -> SpawnOptions {
        self.extras.budget_cycles = Some(cycles);
        self
    }

    /// When it should have started at the latest, on the scheduler's clock:
    /// among `RealTime` ones the earliest goes first, and late starts are
    /// counted.
    #[must_use]
    pub fn deadline(mut self, at: Duration) -> SpawnOptions {
        self.extras.deadline_ns = u64::try_from(at.as_nanos()).ok();
        self
    }

    /// Keeps it on one vCPU.
    #[must_use]
    pub fn pinned_to(mut self, vcpu: usize) -> SpawnOptions {
        self.is_pinned = true;
        self.vcpu = Some(vcpu);
        self
    }
}

/// Spawns and asks, from any thread. Clones are the same scheduler; one keeps
/// its memory, not its threads.
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    shared: Arc<Shared>,
}

impl SchedulerHandle {
    /// That of the scheduler that runs this code; `None` outside of a coroutine.
    #[must_use]
    pub fn current() -> Option<SchedulerHandle> {
        let shared = vcpu::on_current(|local| local.shared().own.upgrade());
        shared.flatten().map(|shared| SchedulerHandle { shared })
    }

    /// Spawns a coroutine of `Normal` priority.
    ///
    /// # Errors
    /// If there are too many, or the scheduler shuts down.
    #[track_caller]
    pub fn spawn<F>(&self, body: F) -> Result<JoinHandle<F::Output>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_on(
            &self.shared,
            SpawnOptions::default(),
            body,
            Location::caller(),
        )
    }

    /// Spawns a coroutine as `options` say.
    ///
    /// # Errors
    /// If there are too many, or the scheduler shuts down.
    ///
    /// # Panics
    /// If it is to be pinned to a vCPU that does not exist.
    #[track_caller]
    pub fn spawn_with<F>(
        &self,
        options: SpawnOptions,
        body: F,
    ) -> Result<JoinHandle<F::Output>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_on(&self.shared, options, body, Location::caller())
    }

    /// Spawns a coroutine that runs on a stack of its own: its body is ordinary
    /// code, which stops with [`stackful::wait`](crate::stackful::wait). It stays
    /// on one vCPU, see [`stackful`](crate::stackful).
    ///
    /// # Errors
    /// If there are too many, there is no stack for it, or the scheduler shuts
    /// down.
    ///
    /// # Panics
    /// If it is to be pinned to a vCPU that does not exist.
    #[track_caller]
    pub fn spawn_stackful<T, F>(
        &self,
        options: SpawnOptions,
        body: F,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_stackful_on(&self.shared, options, body, Location::caller())
    }

    pub(crate) fn spawn_stackful_at<T, F>(
        &self,
        options: SpawnOptions,
        location: &'static Location<'static>,
        body: F,
    ) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_stackful_on(&self.shared, options, body, location)
    }

    /// Takes the memory of all stacks that are not in use; gives how many had
    /// some. Those that nobody needs for a while lose it anyway.
    pub fn trim_stacks(&self) -> usize {
        self.shared.stacks.trim()
    }

    /// Makes a coroutine that is not ready yet: [`schedule`](Self::schedule)
    /// makes it so.
    ///
    /// # Errors
    /// If there are too many, or the scheduler shuts down.
    #[track_caller]
    pub fn create_coroutine<F>(
        &self,
        priority: Priority,
        cycles: u64,
        body: F,
    ) -> Result<JoinHandle<F::Output>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let options = SpawnOptions::new().priority(priority).budget(cycles);
        make(
            &self.shared,
            State::created(),
            options,
            body,
            Location::caller(),
        )
    }

    /// Makes a created coroutine ready; gives the vCPU that it goes to.
    ///
    /// # Errors
    /// If it has been scheduled before, has ended, or is another scheduler's.
    pub fn schedule(&self, coroutine: &Coroutine) -> Result<usize, ControlError> {
        let task = coroutine.task();
        let header = task.header();
        // Each queues its own only: a task ends in its scheduler's registry.
        if header.shared != NonNull::from(&*self.shared) {
            return Err(ControlError::Unknown(coroutine.id()));
        }
        let place = header.assigned().unwrap_or_else(|| self.shared.place());
        let Ok(then) = header.state.submit() else {
            let from = header.observed();
            let to = crate::CoroutineState::Ready;
            return Err(crate::IllegalTransition { from, to }.into());
        };
        if then == Then::Queue {
            header.assign(place);
            self.shared.push_from_outside(task);
        }
        Ok(place)
    }

    fn find(&self, id: CoroutineId) -> Result<Coroutine, ControlError> {
        let task = self.shared.registry.find(id);
        task.map(Coroutine::new).ok_or(ControlError::Unknown(id))
    }

    /// The coroutine with this id.
    ///
    /// # Errors
    /// If there is none, or it has ended.
    pub fn coroutine(&self, id: CoroutineId) -> Result<Coroutine, ControlError> {
        self.find(id)
    }

    /// All that is known of a coroutine.
    ///
    /// # Errors
    /// If there is none, or it has ended.
    pub fn get_coroutine_info(&self, id: CoroutineId) -> Result<CoroutineInfo, ControlError> {
        Ok(self.find(id)?.info())
    }

    /// Pauses a coroutine, see [`Coroutine::pause`]; one that runs is asked to
    /// come to a safepoint.
    ///
    /// # Errors
    /// If there is none, or its state does not allow it.
    pub fn pause_coroutine(&self, id: CoroutineId) -> Result<(), ControlError> {
        let coroutine = self.find(id)?;
        coroutine.pause()?;
        self.ask(&coroutine, preempt::PAUSE);
        Ok(())
    }

    /// Ends a pause, see [`Coroutine::resume`].
    ///
    /// # Errors
    /// If there is none, or it is not paused.
    pub fn resume_coroutine(&self, id: CoroutineId) -> Result<(), ControlError> {
        self.find(id)?.resume()
    }

    /// Ends a coroutine, see [`Coroutine::abort`]; one that runs is asked to
    /// come to a safepoint.
    ///
    /// # Errors
    /// If there is none, or it has ended.
    pub fn abort_coroutine(&self, id: CoroutineId) -> Result<(), ControlError> {
        let coroutine = self.find(id)?;
        coroutine.abort()?;
        self.ask(&coroutine, preempt::CANCEL);
        Ok(())
    }

    fn ask(&self, coroutine: &Coroutine, why: u32) {
        if let Some(vcpu) = coroutine.task().header().running_on() {
            self.shared.vcpus[vcpu].ask(why);
        }
    }

    /// Makes a vCPU the home of a coroutine that does not run: it will be ready
    /// there. One that is in a queue already runs from there once more.
    ///
    /// # Errors
    /// If there is no such coroutine or vCPU, or it runs or is pinned.
    pub fn migrate_coroutine(&self, id: CoroutineId, vcpu: usize) -> Result<(), ControlError> {
        let count = self.shared.vcpus.len();
        if vcpu >= count {
            return Err(ControlError::NoSuchVcpu { vcpu, count });
        }
        let coroutine = self.find(id)?;
        let task = coroutine.task();
        let header = task.header();
        if header.traits.is_pinned {
            return Err(ControlError::Pinned(id));
        }
        if header.running_on().is_some() {
            return Err(ControlError::Running(id));
        }
        header.assign(vcpu);
        self.shared.n_migrations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The vCPU to which a new coroutine would go.
    #[must_use]
    pub fn select_target_vcpu(&self) -> usize {
        self.shared.place()
    }

    /// Whether the vCPUs' busy shares are further apart than the threshold.
    #[must_use]
    pub fn should_balance(&self) -> bool {
        let status = self.get_load_balance_status();
        let utilizations: Vec<f64> = status.iter().map(|(_, share)| *share).collect();
        balance::should_balance(&utilizations, self.shared.config.load_balance_threshold)
    }

    /// Moves homes if that is due; gives how many.
    pub fn balance_load(&self) -> usize {
        if self.shared.config.enable_load_balancing {
            self.shared.balance()
        } else {
            0
        }
    }

    /// Each vCPU and its busy share.
    #[must_use]
    pub fn get_load_balance_status(&self) -> Vec<(usize, f64)> {
        let shares = self
            .shared
            .vcpus
            .iter()
            .map(|v| v.counters.snapshot().utilization());
        shares.enumerate().collect()
    }

    /// Counters and distributions, now.
    #[must_use]
    pub fn get_stats(&self) -> SchedulerStats {
        let shared = &*self.shared;
        let counters = || shared.vcpus.iter().map(|vcpu| &vcpu.counters);
        let vcpus: Vec<VCPUStats> = counters().map(|c| c.snapshot()).collect();
        let sum = |field: fn(&VCPUStats) -> u64| vcpus.iter().map(field).sum::<u64>();
        let active = shared.registry.count();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SchedulerStats {
            total_coroutines: sum(|v| v.ended) + get(&shared.n_ended_elsewhere) + active as u64,
            active_coroutines: active,
            context_switches: sum(|v| v.context_switches),
            cpu_utilization: vcpus.iter().map(VCPUStats::utilization).sum::<f64>()
                / vcpus.len() as f64,
            load_balances: get(&shared.n_balances),
            migrations: get(&shared.n_migrations),
            priority_inversions: counters().map(|c| get(&c.inversions)).sum(),
            deadline_misses: counters().map(|c| get(&c.deadline_misses)).sum(),
            latency: Quantiles::of(counters().map(|c| &c.latency)),
            poll_time: Quantiles::of(counters().map(|c| &c.poll_time)),
            handoffs: get(&shared.handoffs.n_handoffs),
            handoffs_refused: get(&shared.handoffs.n_refused),
            weak_threads: shared.handoffs.n_weak.load(Ordering::Relaxed),
            stacks: shared.stacks.stats(),
            vcpus,
        }
    }

    /// The last runs of each vCPU, by start; empty unless
    /// [`trace_runs`](SchedulerConfig::trace_runs) is set. See
    /// [`chrome_trace`](crate::trace::chrome_trace).
    #[must_use]
    pub fn trace(&self) -> Vec<RunRecord> {
        let vcpus = || self.shared.vcpus.iter();
        let starts = vcpus().map(|vcpu| vcpu.start_ticks.load(Ordering::Relaxed));
        let zero = starts.filter(|ticks| *ticks != 0).min().unwrap_or(0);
        let rings = vcpus().enumerate();
        let mut runs: Vec<_> = rings
            .flat_map(|(i, vcpu)| vcpu.ring.read(i, zero))
            .collect();
        runs.sort_by_key(|run| run.start);
        runs
    }

    /// Counters and distributions in the text format that Prometheus scrapes.
    #[must_use]
    pub fn prometheus(&self) -> String {
        crate::stats::prometheus(&self.get_stats())
    }

    /// Coroutines that neither end their turn nor poll the preempt word, and
    /// have been left alone with their thread for it.
    #[must_use]
    pub fn stuck(&self) -> Vec<CoroutineInfo> {
        let stuck = self.shared.stuck().into_iter();
        stuck
            .filter_map(|id| self.get_coroutine_info(id).ok())
            .collect()
    }

    /// Each vCPU, now.
    #[must_use]
    pub fn vcpus(&self) -> Vec<VCpuInfo> {
        let now = clock::ticks();
        let info = |(id, vcpu): (usize, &CachePadded<Vcpu>)| {
            let stats = vcpu.counters.snapshot();
            let start = vcpu.start_ticks.load(Ordering::Relaxed);
            let total = if start == 0 {
                0
            } else {
                now.saturating_sub(start)
            };
            let busy = vcpu.counters.busy_ticks.load(Ordering::Relaxed);
            VCpuInfo {
                id,
                state: vcpu.state(),
                total_cycles: total,
                available_cycles: total.saturating_sub(busy),
                coroutine_count: vcpu.n_ready(),
                utilization: stats.utilization(),
            }
        };
        self.shared.vcpus.iter().enumerate().map(info).collect()
    }

    /// All coroutines that have not ended.
    #[must_use]
    pub fn coroutines(&self) -> Vec<CoroutineInfo> {
        let all = self.shared.registry.all();
        all.into_iter()
            .map(|task| Coroutine::new(task).info())
            .collect()
    }

    /// Coroutines that nothing can wake any more: they wait, and no waker of
    /// theirs exists. Name and spawn site are in their info.
    #[must_use]
    pub fn leaked(&self) -> Vec<CoroutineInfo> {
        let all = self.shared.registry.all();
        all.into_iter()
            .map(Coroutine::new)
            // This look holds a reference, too.
            .filter(|c| state::is_stranded(c.task().header().state.load(), 1))
            .map(|c| c.info())
            .collect()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SchedulerConfig {
        &self.shared.config
    }
}

#[track_caller]
fn assert_vcpu(shared: &Shared, options: &SpawnOptions) {
    if let Some(vcpu) = options.vcpu {
        let count = shared.vcpus.len();
        assert!(
            vcpu < count,
            "there is no vCPU {vcpu}: they are 0 to {}",
            count - 1
        );
    }
}

pub(crate) fn spawn_on<F>(
    shared: &Shared,
    options: SpawnOptions,
    body: F,
    location: &'static Location<'static>,
) -> Result<JoinHandle<F::Output>, SpawnError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let handle = make(shared, State::ready(), options, body, location)?;
    vcpu::queue_woken(handle.task());
    Ok(handle)
}

pub(crate) fn spawn_stackful_on<T, F>(
    shared: &Shared,
    options: SpawnOptions,
    body: F,
    location: &'static Location<'static>,
) -> Result<JoinHandle<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    assert_vcpu(shared, &options);
    let pool = shared
        .stacks
        .get_or_make(&shared.config.stacks, shared.vcpus.len())?;
    let here = vcpu::on_local(NonNull::from(shared), |local| local.index());
    let permit = pool.admit(options.vcpu, here)?;
    let options = options.pinned_to(permit.vcpu());
    if size_of::<F>() <= BODY_BYTES_MAX {
        spawn_on(shared, options, Stackful::new(permit, body), location)
    } else {
        let body = Box::new(body);
        spawn_on(shared, options, Stackful::new(permit, body), location)
    }
}

/// A coroutine in this `state`: created, or ready and in the caller's hands.
fn make<F>(
    shared: &Shared,
    state: State,
    options: SpawnOptions,
    body: F,
    location: &'static Location<'static>,
) -> Result<JoinHandle<F::Output>, SpawnError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    assert_vcpu(shared, &options);
    let config = &shared.config;
    if config.ready_queue_size < config.max_coroutines {
        let n_ready: usize = shared.vcpus.iter().map(|vcpu| vcpu.n_ready()).sum();
        if n_ready >= config.ready_queue_size {
            let limit = config.ready_queue_size;
            return Err(SpawnError::ReadyQueueFull { limit });
        }
    }
    let here = vcpu::on_local(NonNull::from(shared), |local| local.index());
    let shard = here.unwrap_or_else(|| shared.vcpus.len() + outsider_shard());
    let SpawnOptions {
        priority,
        is_pinned,
        vcpu,
        extras,
    } = options;
    let extras = (extras != Extras::default()).then(|| Box::new(extras));
    let traits = Traits {
        priority,
        is_pinned,
    };
    let level = shared.initial_level(priority);
    let is_in_hand = state.is_new_in_hand();
    let make = || {
        let task = TaskRef::new(body, |vtable| {
            Header::new(
                vtable,
                state,
                NonNull::from(shared),
                traits,
                location,
                extras,
            )
        });
        task.header().set_level(level);
        if let Some(vcpu) = vcpu {
            task.header().assign(vcpu);
        }
        task
    };
    let limit = config.max_coroutines;
    let added = shared.registry.add(shard, make);
    let task = added.ok_or(SpawnError::TooManyCoroutines { limit })?;
    let handle = JoinHandle::new(task);
    if shared.phase.refuses_spawns() {
        refuse(shared, task, is_in_hand);
        return Err(SpawnError::ShutDown);
    }
    Ok(handle)
}

/// Ends a task that never ran: the scheduler began to shut down meanwhile. One
/// that is not `is_in_hand` is in the hands of who closes it, here or there.
#[cold]
fn refuse(shared: &Shared, task: TaskRef, is_in_hand: bool) {
    if is_in_hand || task.header().state.abort() == Ok(Then::Queue) {
        task.close();
        shared.finish_elsewhere(task);
    }
}

/// Spawns on the scheduler that runs this code.
///
/// # Errors
/// If there are too many, or the scheduler shuts down.
///
/// # Panics
/// Outside of a coroutine.
#[track_caller]
pub fn spawn<F>(body: F) -> Result<JoinHandle<F::Output>, SpawnError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_with(SpawnOptions::default(), body)
}

/// The same, as `options` say.
///
/// # Errors
/// If there are too many, or the scheduler shuts down.
///
/// # Panics
/// Outside of a coroutine, or if it is to be pinned to a vCPU that does not
/// exist.
#[track_caller]
pub fn spawn_with<F>(options: SpawnOptions, body: F) -> Result<JoinHandle<F::Output>, SpawnError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let location = Location::caller();
    vcpu::on_current(|local| spawn_on(local.shared(), options, body, location))
        .expect("spawn works inside coroutines only; use a SchedulerHandle elsewhere")
}

/// Runs coroutines on a pool of vCPUs. Dropping it shuts it down.
///
/// ```
/// use coroutine_scheduler::{CoroutineScheduler, Priority, SchedulerConfig, SpawnOptions};
///
/// let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
/// scheduler.start()?;
/// let urgent = SpawnOptions::new().priority(Priority::High).name("sum");
/// let sum = scheduler.spawn_with(urgent, async { (1..=100).sum::<u32>() })?;
/// assert_eq!(sum.join()?, 5050);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CoroutineScheduler {
    handle: SchedulerHandle,
}

impl std::ops::Deref for CoroutineScheduler {
    type Target = SchedulerHandle;

    fn deref(&self) -> &SchedulerHandle {
        &self.handle
    }
}

impl CoroutineScheduler {
    /// A scheduler without threads: until [`start`](Self::start) it is driven
    /// by [`run_one`](Self::run_one).
    ///
    /// # Errors
    /// If a field of `config` cannot be honoured; the error names it.
    pub fn new(config: SchedulerConfig) -> Result<CoroutineScheduler, ConfigError> {
        let policy = BuiltIn::new(config.policy, config.time_slice, config.fairness);
        Self::build(config, AnyPolicy::BuiltIn(policy))
    }

    /// The same with a policy of the caller's; `config.policy` is not looked
    /// at.
    ///
    /// # Errors
    /// If a field of `config` cannot be honoured; the error names it.
    pub fn with_policy(
        config: SchedulerConfig,
        policy: Box<dyn Policy>,
    ) -> Result<CoroutineScheduler, ConfigError> {
        Self::build(config, AnyPolicy::Own(policy))
    }

    fn build(config: SchedulerConfig, policy: AnyPolicy) -> Result<Self, ConfigError> {
        config.validate()?;
        let shared = Arc::new_cyclic(|own| Shared::new(config, policy, own.clone()));
        Ok(CoroutineScheduler {
            handle: SchedulerHandle { shared },
        })
    }

    /// A handle that can be cloned and kept.
    #[must_use]
    pub fn handle(&self) -> SchedulerHandle {
        self.handle.clone()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Starts the vCPUs' threads and the monitor's.
    ///
    /// # Errors
    /// If it was started before, or [`run_one`](Self::run_one) is at it just
    /// now (then it can be started afterwards), or the host refuses a thread;
    /// then none is left running, and the scheduler is shut down.
    pub fn start(&self) -> Result<(), StartError> {
        let shared = self.shared();
        if !shared.phase.is_new() {
            return Err(StartError::NotNew);
        }
        // Held from now on: nobody runs them by hand any more. (A thread takes
        // over the grip that it finds, so it has to be the one made here.)
        for (index, vcpu) in shared.vcpus.iter().enumerate() {
            if vcpu.claim().is_none() {
                shared.vcpus[..index].iter().for_each(|vcpu| vcpu.release());
                return Err(StartError::Driven);
            }
        }
        if !shared.phase.start() {
            shared.vcpus.iter().for_each(|vcpu| vcpu.release());
            return Err(StartError::NotNew);
        }
        let mut started = Ok(());
        for index in 0..shared.vcpus.len() {
            let body = move |shared: &Shared| shared.vcpu_thread(index);
            started = started.and_then(|()| shared.spawn_thread(&index.to_string(), body));
        }
        started = started.and_then(|()| shared.spawn_monitor());
        started.map_err(|error| {
            // Some vCPUs have a thread and others none: all lose it before
            // their coroutines are closed, here.
            shared.phase.end();
            shared.send_threads_home();
            shared.join_threads();
            for vcpu in &shared.vcpus {
                vcpu.release();
            }
            shared.close_all();
            shared.run_the_rest();
            StartError::Thread(error)
        })
    }

    /// Runs one coroutine on this thread, as one vCPU after the other would.
    /// `None` if none is ready, or if the vCPUs have threads of their own.
    pub fn run_one(&self) -> Option<CoroutineId> {
        let shared = &**self.shared();
        if shared.phase.is_started() {
            return None;
        }
        (0..shared.vcpus.len()).find_map(|index| run_one_on(shared, index))
    }

    /// Waits until a coroutine has ended, running it on this thread if the
    /// vCPUs have none; gives how long that took.
    ///
    /// # Errors
    /// If there is no such coroutine, or it was never scheduled or is paused:
    /// then nobody will run it.
    pub fn execute_coroutine(&self, id: CoroutineId) -> Result<Duration, ControlError> {
        let start = std::time::Instant::now();
        let coroutine = self.coroutine(id)?;
        loop {
            let from = coroutine.state();
            match from {
                crate::CoroutineState::Dead => break,
                // Nobody will run it, however long this waits.
                crate::CoroutineState::Created | crate::CoroutineState::Suspended => {
                    let to = crate::CoroutineState::Running;
                    return Err(crate::IllegalTransition { from, to }.into());
                }
                _ => {}
            }
            if self.run_one().is_none() {
                thread::yield_now();
            }
        }
        Ok(start.elapsed())
    }

    /// Moves a virtual clock and wakes whose time has come; gives how many.
    ///
    /// # Panics
    /// If the scheduler follows the real clock.
    pub fn advance(&self, by: Duration) -> usize {
        let shared = self.shared();
        let Clock::Virtual(clock) = &shared.config.clock else {
            panic!("only a virtual clock can be moved");
        };
        let now_ns = clock.advance(by);
        shared
            .vcpus
            .iter()
            .map(|vcpu| vcpu.timers.fire(now_ns))
            .sum()
    }

    /// Ends every coroutine and every thread: 1 no more spawns, 2 every
    /// coroutine is closed (those that run, at their next safepoint), 3 the
    /// vCPUs drop their bodies, 4 the threads end. Handles answer `Cancelled`.
    /// A coroutine that never comes to a safepoint keeps this waiting.
    ///
    /// # Panics
    /// On one of its own vCPUs, which would wait for itself.
    pub fn shutdown(&self) {
        let shared = &**self.shared();
        let is_here = vcpu::on_local(NonNull::from(shared), |_| ()).is_some();
        assert!(
            !is_here,
            "a scheduler cannot be shut down from its own vCPU"
        );
        if shared.phase.close() {
            shared.close_all();
            shared.note_end();
        }
        shared.join_threads();
        // Where there were no threads, and for what slipped in at the very end.
        shared.run_the_rest();
        shared.phase.end();
    }
}

impl Drop for CoroutineScheduler {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Runs one coroutine of a vCPU that has no thread.
fn run_one_on(shared: &Shared, index: usize) -> Option<CoroutineId> {
    let grip = shared.vcpus[index].claim()?;
    let _entered = shared.tokio.enter();
    let local = Local::new(shared, index, grip, false);
    local.start();
    let id = enter(&local, || {
        loop {
            let task = local.find()?;
            let id = task.header().id();
            if local.run(task) != Ran::Paused {
                return Some(id);
            }
        }
    });
    shared.vcpus[index].is_asleep.store(1, Ordering::Relaxed);
    shared.vcpus[index].release();
    id
}
