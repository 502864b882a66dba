//! [`CoroutineScheduler`]: builds the vCPUs, starts and drives them, shuts down.

mod handle;
mod shared;
mod spawn;
mod vcpu;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::SchedulerConfig;
use crate::clock::Clock;
use crate::coroutine::CoroutineId;
use crate::error::{ConfigError, ControlError, StartError};
use crate::policy::{BuiltIn, Policy};
use crate::vcpu::{Local, Ran, employer, enter, is_needed_by, is_on_vcpu};

pub use handle::SchedulerHandle;
pub(crate) use shared::{AnyPolicy, Shared};
pub(crate) use spawn::spawn_stackful_on;
pub use spawn::{SpawnOptions, spawn, spawn_with};
pub use vcpu::VCPU;

/// Runs coroutines on a pool of vCPUs. Dropping it shuts it down, in one of its
/// own coroutines without waiting for that.
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
    /// by [`run_one`](Self::run_one), and a
    /// [`join`](crate::JoinHandle::join) waits without end if nobody does.
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
            if !vcpu.claim_for_thread() {
                shared.vcpus[..index].iter().for_each(|vcpu| vcpu.release());
                return Err(StartError::Driven);
            }
        }
        if !shared.phase.start() {
            shared.vcpus.iter().for_each(|vcpu| vcpu.release());
            return Err(StartError::NotNew);
        }
        // A weak thread's children compete as little as it does; and whether this
        // one is weak in a coroutine of another scheduler may change meanwhile.
        let theirs = Arc::clone(shared);
        let made =
            employer().and_then(|employer| employer.do_on_monitor(move || theirs.make_threads()));
        let started = made.unwrap_or_else(|| shared.make_threads());
        started.map_err(|error| {
            // Some vCPUs have a thread and others none: all lose it before
            // their coroutines are closed, here.
            shared.phase.end();
            shared.close_errands();
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
    /// then nobody will run it. One that is paused while this waits is noticed
    /// within 10 ms.
    ///
    /// # Panics
    /// On a vCPU, of any scheduler: that would keep it from running what is
    /// waited for. Await the coroutine's handle there.
    pub fn execute_coroutine(&self, id: CoroutineId) -> Result<Duration, ControlError> {
        assert!(
            !is_on_vcpu(),
            "execute_coroutine would block a vCPU; await the coroutine's handle instead"
        );
        let start = std::time::Instant::now();
        let shared = self.shared();
        let coroutine = self.coroutine(id)?;
        while !coroutine.is_finished() {
            let from = coroutine.state();
            match from {
                // Nobody will run it, however long this waits.
                crate::CoroutineState::Created | crate::CoroutineState::Suspended => {
                    let to = crate::CoroutineState::Running;
                    return Err(crate::IllegalTransition { from, to }.into());
                }
                _ => {}
            }
            if !shared.phase.is_new() {
                shared
                    .watchers
                    .wait(&shared.idle, || coroutine.is_finished());
            } else if self.run_one().is_none() {
                // What it waits for, a timer say, nobody else looks after.
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
    /// On one of its own threads, or in one of its coroutines, which would wait
    /// for itself.
    pub fn shutdown(&self) {
        assert!(
            !is_needed_by(self.shared()),
            "a scheduler cannot be shut down from its own thread or coroutine"
        );
        shut_down(self.shared());
    }
}

/// A shutdown. On one of its own threads, that is in a coroutine that was its
/// last owner or a waker that one of its timers woke, it goes on beside that:
/// nobody can wait for it there.
impl Drop for CoroutineScheduler {
    fn drop(&mut self) {
        if !is_needed_by(self.shared()) {
            return shut_down(self.shared());
        }
        let shared = Arc::clone(self.shared());
        let name = format!("{}-end", shared.config.thread_name);
        let ends = thread::Builder::new().name(name).spawn(move || {
            // Refused, it is slower; nothing else changes.
            let _is_restored = shared.restore_standing();
            shut_down(&shared);
        });
        // Without a thread for it, its own threads keep it as it is.
        drop(ends);
    }
}

fn shut_down(shared: &Shared) {
    if shared.phase.close() {
        shared.close_all();
        shared.note_end();
    }
    shared.join_threads();
    // Where there were no threads, and for what slipped in at the very end.
    shared.run_the_rest();
    shared.phase.end();
}

/// Runs one coroutine of a vCPU that has no thread.
pub(crate) fn run_one_on(shared: &Shared, index: usize) -> Option<CoroutineId> {
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
