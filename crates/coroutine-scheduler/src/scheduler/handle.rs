//! [`SchedulerHandle`]: spawns, asks and controls, from any thread.

use std::future::Future;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shared::Shared;
use super::spawn::{SpawnOptions, make, spawn_on, spawn_stackful_on};
use super::vcpu::{VCPU, info};
use crate::coroutine::{Coroutine, CoroutineId, CoroutineInfo};
use crate::error::{ControlError, SpawnError};
use crate::stall::Stall;
use crate::stats::{Quantiles, SchedulerStats, VCPUStats, VCpuInfo};
use crate::task::JoinHandle;
use crate::task::state::{self, State, Then};
use crate::trace::RunRecord;
use crate::vcpu;
use crate::{Priority, SchedulerConfig, balance, clock, preempt};

/// Spawns and asks, from any thread. Clones are the same scheduler; one keeps
/// its memory, not its threads.
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    pub(super) shared: Arc<Shared>,
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

    /// Each vCPU and its busy share, 0 to 1, since the balancer looked last: once
    /// started it does so every 100 ms.
    #[must_use]
    pub fn get_load_balance_status(&self) -> Vec<(usize, f64)> {
        self.shared.busy_shares().into_iter().enumerate().collect()
    }

    /// Counters and distributions, now.
    #[must_use]
    pub fn get_stats(&self) -> SchedulerStats {
        let shared = &*self.shared;
        let counters = || shared.vcpus.iter().map(|vcpu| &vcpu.counters);
        let all = 0..shared.vcpus.len();
        let vcpus: Vec<VCPUStats> = all.map(|id| shared.vcpu_stats(id)).collect();
        let sum = |field: fn(&VCPUStats) -> u64| vcpus.iter().map(field).sum::<u64>();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SchedulerStats {
            active_coroutines: shared.registry.count_alive(),
            total_coroutines: shared.registry.n_added(),
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
            weak_limit_hits: get(&shared.handoffs.n_limit_hits),
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

    /// Coroutines that kept others waiting so far, one for each spawn site: see
    /// [`Stall`]. They are seen where vCPUs are taken from them: without
    /// [`hand_off`](SchedulerConfig::hand_off), or where the caller drives, there
    /// are none.
    #[must_use]
    pub fn stalls(&self) -> Vec<Stall> {
        self.shared.stalls.all()
    }

    /// Each vCPU, now.
    #[must_use]
    pub fn vcpus(&self) -> Vec<VCpuInfo> {
        let now = clock::ticks();
        let all = 0..self.shared.vcpus.len();
        all.map(|id| info(&self.shared, id, now)).collect()
    }

    /// One vCPU, by its number; `None` if there are not so many.
    #[must_use]
    pub fn vcpu(&self, id: usize) -> Option<VCPU> {
        VCPU::new(self, id)
    }

    /// What a coroutine saved last, see [`Coroutine::load_context`].
    ///
    /// # Errors
    /// If there is none, it runs, or it has saved nothing.
    pub fn load_context(&self, id: CoroutineId) -> Result<Vec<u8>, ControlError> {
        self.find(id)?.load_context()
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
