//! What every task has, whatever its body.

use std::cell::UnsafeCell;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use super::raw::Vtable;
use super::state::{self, State};
use crate::coroutine::{CoroutineId, CoroutineInfo, context};
use crate::scheduler::Shared;
use crate::{CoroutineState, Priority};

/// `assigned` and `running_on` where there is no vCPU.
const NO_VCPU: u8 = u8::MAX;

/// The typed part's predecessor in memory.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) state: State,
    pub(crate) vtable: &'static Vtable,
    /// The scheduler it belongs to. Alive until the task is done (rule T3).
    pub(crate) shared: NonNull<Shared>,
    /// Its place in the registry; written before anyone else knows the task.
    pub(crate) id: AtomicU64,
    pub(crate) spawned_at: &'static Location<'static>,
    /// When it last became ready, in ticks; 0 where nobody measured.
    pub(crate) ready_ticks: AtomicU64,
    /// Cycles charged, or ticks on a vCPU. Written by whoever runs it.
    pub(crate) used_cycles: AtomicU64,
    /// Ticks on a vCPU in all.
    pub(crate) run_ticks: AtomicU64,
    pub(crate) n_executions: AtomicU32,
    /// Use of the present level, in 1,024 ticks.
    level_kiloticks: AtomicU32,
    /// The boost that last brought it back to its own level, modulo 256.
    pub(crate) n_boosts: AtomicU8,
    level: AtomicU8,
    /// What it has used of its slice, in 65,536ths, where its turn was
    /// interrupted; else 0.
    pub(crate) slice_used: AtomicU16,
    assigned: AtomicU8,
    running_on: AtomicU8,
    pub(crate) traits: Traits,
    /// Whose it is: see `state`.
    pub(crate) join_waker: UnsafeCell<Option<Waker>>,
    pub(crate) extras: Option<Box<Extras>>,
}

/// What does not change after the spawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) priority: Priority,
    /// Stays on its vCPU.
    pub(crate) is_pinned: bool,
}

/// What few tasks have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) name: Option<String>,
    pub(crate) budget_cycles: Option<u64>,
    /// In nanoseconds of the scheduler's clock.
    pub(crate) deadline_ns: Option<u64>,
    pub(crate) context: Option<context::Place>,
}

impl Extras {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        let Extras {
            name,
            budget_cycles,
            deadline_ns,
            context,
        } = self;
        name.is_none() && budget_cycles.is_none() && deadline_ns.is_none() && context.is_none()
    }
}

impl Header {
    pub(crate) fn new(
        vtable: &'static Vtable,
        state: State,
        shared: NonNull<Shared>,
        traits: Traits,
        spawned_at: &'static Location<'static>,
        extras: Option<Box<Extras>>,
    ) -> Header {
        Header {
            state,
            vtable,
            shared,
            id: AtomicU64::new(0),
            spawned_at,
            ready_ticks: AtomicU64::new(0),
            used_cycles: AtomicU64::new(0),
            run_ticks: AtomicU64::new(0),
            n_executions: AtomicU32::new(0),
            level_kiloticks: AtomicU32::new(0),
            n_boosts: AtomicU8::new(0),
            level: AtomicU8::new(traits.priority.level() as u8),
            slice_used: AtomicU16::new(0),
            assigned: AtomicU8::new(NO_VCPU),
            running_on: AtomicU8::new(NO_VCPU),
            traits,
            join_waker: UnsafeCell::new(None),
            extras,
        }
    }

    pub(crate) fn id(&self) -> CoroutineId {
        CoroutineId(self.id.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn level(&self) -> Priority {
        Priority::ALL[usize::from(self.level.load(Ordering::Relaxed) & 3)]
    }

    #[inline]
    pub(crate) fn set_level(&self, level: Priority) {
        self.level.store(level.level() as u8, Ordering::Relaxed);
    }

    /// Ticks that it has run at its level.
    pub(crate) fn level_ticks(&self) -> u64 {
        u64::from(self.level_kiloticks.load(Ordering::Relaxed)) << 10
    }

    /// A run shorter than a unit counts as one: many short ones add up.
    pub(crate) fn add_level_ticks(&self, ticks: u64) {
        let units = u32::try_from((ticks >> 10).max(1)).unwrap_or(u32::MAX);
        let all = self.level_kiloticks.load(Ordering::Relaxed);
        self.level_kiloticks
            .store(all.saturating_add(units), Ordering::Relaxed);
    }

    /// Level and use of it, see [`Header::set_account`].
    pub(crate) fn account(&self) -> (Priority, u32) {
        let used = self.level_kiloticks.load(Ordering::Relaxed);
        (self.level(), used)
    }

    /// Makes both what they were; for whoever has the task in hand.
    pub(crate) fn set_account(&self, (level, kiloticks): (Priority, u32)) {
        self.set_level(level);
        self.level_kiloticks.store(kiloticks, Ordering::Relaxed);
    }

    /// Notes a run of so many ticks; for whoever has the task in hand. `charged`
    /// cycles count instead of them where the body charged any.
    pub(crate) fn note_run(&self, charged: u64, ran: u64) {
        let executions = self.n_executions.load(Ordering::Relaxed);
        self.n_executions
            .store(executions.wrapping_add(1), Ordering::Relaxed);
        let used = if charged == 0 { ran } else { charged };
        add_own(&self.used_cycles, used);
        add_own(&self.run_ticks, ran);
    }

    /// Goes to another level, with a fresh account.
    pub(crate) fn move_to(&self, level: Priority) {
        self.set_level(level);
        self.level_kiloticks.store(0, Ordering::Relaxed);
    }

    /// The vCPU it was last queued or run at.
    #[inline]
    pub(crate) fn assigned(&self) -> Option<usize> {
        vcpu(self.assigned.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn assign(&self, vcpu: usize) {
        self.assigned.store(vcpu as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn running_on(&self) -> Option<usize> {
        vcpu(self.running_on.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_running_on(&self, vcpu: Option<usize>) {
        let on = vcpu.map_or(NO_VCPU, |vcpu| vcpu as u8);
        self.running_on.store(on, Ordering::Relaxed);
    }

    pub(crate) fn observed(&self) -> CoroutineState {
        state::observed(self.state.load(), self.running_on().is_some())
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.extras.as_ref()?.name.as_deref()
    }

    pub(crate) fn budget_cycles(&self) -> Option<u64> {
        self.extras.as_ref()?.budget_cycles
    }

    pub(crate) fn context(&self) -> Option<&context::Place> {
        self.extras.as_ref()?.context.as_ref()
    }

    /// For `RealTime`: earliest first, those without one last.
    pub(crate) fn deadline_ns(&self) -> u64 {
        let deadline = self.extras.as_ref().and_then(|extras| extras.deadline_ns);
        deadline.unwrap_or(u64::MAX)
    }

    pub(crate) fn info(&self, ticks_to_ns: impl Fn(u64) -> u64) -> CoroutineInfo {
        let used = self.used_cycles.load(Ordering::Relaxed);
        let run_ns = ticks_to_ns(self.run_ticks.load(Ordering::Relaxed));
        CoroutineInfo {
            id: self.id(),
            name: self.name().map(str::to_owned),
            state: self.observed(),
            priority: self.traits.priority,
            level: self.level(),
            cycles_executed: used,
            cycles_remaining: self.budget_cycles().map(|all| all.saturating_sub(used)),
            run_time: std::time::Duration::from_nanos(run_ns),
            executions: self.n_executions.load(Ordering::Relaxed).into(),
            assigned_vcpu: self.assigned(),
            spawned_at: self.spawned_at,
        }
    }
}

fn vcpu(number: u8) -> Option<usize> {
    (number != NO_VCPU).then_some(number.into())
}

/// For counters that one thread at a time writes and others read.
#[inline]
pub(crate) fn add_own(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}
