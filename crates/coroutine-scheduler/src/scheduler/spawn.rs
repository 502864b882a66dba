//! Spawning: how a coroutine is to be, and where it goes.

use std::future::Future;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::Duration;

use super::shared::Shared;
use crate::Priority;
use crate::coroutine::context::Place;
use crate::coroutine::stackful::{BODY_BYTES_MAX, Stackful};
use crate::error::SpawnError;
use crate::task::header::{Extras, Header, Traits};
use crate::task::state::{State, Then};
use crate::task::{JoinHandle, TaskRef};
use crate::vcpu;

/// How a coroutine is to be; see
/// [`spawn_with`](crate::SchedulerHandle::spawn_with).
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
    /// among `RealTime` ones at a vCPU the earliest goes first, and late starts
    /// are counted.
    #[must_use]
    pub fn deadline(mut self, at: Duration) -> SpawnOptions {
        self.extras.deadline_ns = u64::try_from(at.as_nanos()).ok();
        self
    }

    /// Gives it a place for what its body saves of itself: see
    /// [`save_context`](crate::save_context).
    #[must_use]
    pub fn keeps_context(mut self) -> SpawnOptions {
        self.extras.context = Some(Place::default());
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

pub(super) fn spawn_on<F>(
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
pub(super) fn make<F>(
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
    let is_in_hand = state.is_new_in_hand();
    let limit = config.ready_queue_size;
    if is_in_hand && limit < config.max_coroutines && shared.n_ready() >= limit {
        return Err(SpawnError::ReadyQueueFull { limit });
    }
    let here = vcpu::on_local(NonNull::from(shared), |local| local.index());
    let shard = here.unwrap_or_else(|| shared.place_of_others());
    let SpawnOptions {
        priority,
        is_pinned,
        vcpu,
        extras,
    } = options;
    let extras = (!extras.is_empty()).then(|| Box::new(extras));
    let traits = Traits {
        priority,
        is_pinned,
    };
    let level = shared.initial_level(priority);
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
    vcpu::on_current_shared(|shared| spawn_on(shared, options, body, location))
        .expect("spawn works inside coroutines only; use a SchedulerHandle elsewhere")
}
