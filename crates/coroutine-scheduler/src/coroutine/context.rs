//! What a coroutine tells of itself, for others to read while it does not run.
//!
//! A future's state is its fields and a stack's is on the stack: the scheduler
//! switches between them without saving anything, and nobody else can read
//! either. Who has something to show (the registers of a machine that it runs,
//! to a debugger or a snapshot) saves it at a safepoint, as bytes.
//!
//! ```
//! use coroutine_scheduler::{
//!     CoroutineScheduler, SchedulerConfig, SpawnOptions, checkpoint, is_preempted, save_context,
//! };
//!
//! let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
//! let options = SpawnOptions::new().keeps_context();
//! let counts = scheduler.spawn_with(options, async {
//!     for n in 1_u64.. {
//!         if is_preempted() {
//!             assert!(save_context(&n.to_le_bytes()), "it keeps one");
//!             checkpoint().await;
//!         }
//!     }
//! })?;
//! scheduler.start()?;
//! let at = loop {
//!     if scheduler.pause_coroutine(counts.id()).is_ok() && counts.state().is_waiting() {
//!         // It stays as it is until it is resumed.
//!         if let Ok(bytes) = counts.load_context() {
//!             break u64::from_le_bytes(bytes.try_into().expect("it saved eight"));
//!         }
//!         counts.resume()?; // It had not begun.
//!     }
//! };
//! assert!(at >= 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use parking_lot::Mutex;

use super::Coroutine;
use crate::error::ControlError;
use crate::{CoroutineState, vcpu};

/// Where a coroutine that keeps one has its context. A clone is an empty one:
/// options can be used for many coroutines.
#[derive(Debug, Default)]
pub(crate) struct Place(Mutex<Option<Vec<u8>>>);

impl Clone for Place {
    fn clone(&self) -> Place {
        Place::default()
    }
}

/// Keeps `context` as what the running coroutine is from here on until it saves
/// again: the place for it is before a [`checkpoint`](crate::checkpoint) that
/// will make way, or before it waits. Costs a lock and a copy. `false` if it is
/// kept nowhere: the coroutine was spawned without
/// [`keeps_context`](crate::SpawnOptions::keeps_context), or this is none.
#[must_use = "false: it is kept nowhere"]
pub fn save_context(context: &[u8]) -> bool {
    let task = vcpu::on_current(|local| local.task.get()).flatten();
    let place = task.as_ref().and_then(|task| task.header().context());
    let Some(place) = place else {
        return false;
    };
    let mut kept = place.0.lock();
    let kept = kept.get_or_insert_default();
    kept.clear();
    kept.extend_from_slice(context);
    true
}

impl Coroutine {
    /// What it saved last by [`save_context`], if it does not run now. Pause it
    /// first for what it is to stay true, and see that
    /// [`is_waiting`](CoroutineState::is_waiting); of one that has ended it is
    /// what it was at last.
    ///
    /// # Errors
    /// If it runs, or has saved nothing.
    pub fn load_context(&self) -> Result<Vec<u8>, ControlError> {
        let nothing = ControlError::NoContext(self.id());
        let task = self.task();
        let place = task.header().context().ok_or(nothing)?;
        let kept = place.0.lock();
        // Under the lock: what a run saves is seen together with the run, so
        // what is there without one was the last word of the run before.
        if self.state() == CoroutineState::Running {
            return Err(ControlError::Running(self.id()));
        }
        kept.clone().ok_or(nothing)
    }
}
