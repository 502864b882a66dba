//! [`VCPU`]: one vCPU as seen from outside.

use std::sync::atomic::Ordering;

use super::SchedulerHandle;
use super::shared::Shared;
use crate::clock;
use crate::coroutine::Coroutine;
use crate::stats::{VCPUStats, VCpuInfo, VcpuState};
use crate::vcpu::Vcpu;

/// One vCPU: a view, by [`SchedulerHandle::vcpu`], that asks anew each time.
/// Clones are the same vCPU. What it says has been true at some moment of the
/// call.
#[derive(Clone, Debug)]
pub struct VCPU {
    scheduler: SchedulerHandle,
    index: usize,
}

impl VCPU {
    /// That with a number, if there is one.
    pub(super) fn new(scheduler: &SchedulerHandle, index: usize) -> Option<VCPU> {
        (index < scheduler.shared.vcpus.len()).then(|| VCPU {
            scheduler: scheduler.clone(),
            index,
        })
    }

    fn vcpu(&self) -> &Vcpu {
        &self.scheduler.shared.vcpus[self.index]
    }

    /// Its number, from 0.
    #[must_use]
    pub fn id(&self) -> usize {
        self.index
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> VcpuState {
        self.vcpu().state()
    }

    /// What it runs; `None` between coroutines. One that has lost the vCPU while
    /// it was stuck is not its current one any more.
    #[must_use]
    pub fn current(&self) -> Option<Coroutine> {
        let vcpu = self.vcpu();
        vcpu.running_level()?;
        let id = vcpu.running_id.load(Ordering::Relaxed);
        let task = self
            .scheduler
            .shared
            .registry
            .find(crate::CoroutineId(id))?;
        let coroutine = Coroutine::new(task);
        // Or it has ended its turn meanwhile.
        let runs_here = coroutine.task().header().running_on() == Some(self.index);
        runs_here.then_some(coroutine)
    }

    /// How many are ready in its queues, what it runs not counted. Which ones is
    /// not said: they may change vCPU at any moment, without a note in each.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.scheduler.shared.n_ready_at(self.index)
    }

    /// What it has done since it started.
    #[must_use]
    pub fn stats(&self) -> VCPUStats {
        self.scheduler.shared.vcpu_stats(self.index)
    }

    /// The same and its load, as plain data.
    #[must_use]
    pub fn info(&self) -> VCpuInfo {
        info(&self.scheduler.shared, self.index, clock::ticks())
    }
}

/// Of one vCPU at a moment, in ticks.
pub(super) fn info(shared: &Shared, id: usize, now: u64) -> VCpuInfo {
    let vcpu = &shared.vcpus[id];
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
        coroutine_count: shared.n_ready_at(id),
        utilization: shared.vcpu_stats(id).utilization(),
    }
}
