//! [`Coroutine`]: a handle by which one is watched and controlled.

pub mod context;
mod info;
#[allow(unsafe_code, reason = "switching stacks: rules K1 to K4")]
pub mod stackful;

use std::fmt;

pub use info::{CoroutineId, CoroutineInfo};

use crate::error::ControlError;
use crate::task::TaskRef;
use crate::task::state::{self, Then};
use crate::{CoroutineState, Priority, clock, vcpu};

/// A coroutine, from any thread, for as long as the handle lives: also after
/// its end. Clones are the same coroutine.
pub struct Coroutine {
    task: TaskRef,
}

impl Coroutine {
    /// Takes over a counted reference.
    pub(crate) fn new(task: TaskRef) -> Coroutine {
        Coroutine { task }
    }

    pub(crate) fn task(&self) -> TaskRef {
        self.task
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> CoroutineId {
        self.task.header().id()
    }

    /// Its name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.task.header().name()
    }

    /// What it is doing now.
    #[must_use]
    pub fn state(&self) -> CoroutineState {
        self.task.header().observed()
    }

    /// What it was spawned with.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.task.header().traits.priority
    }

    /// All that is known of it.
    #[must_use]
    pub fn info(&self) -> CoroutineInfo {
        self.task.header().info(clock::ticks_to_ns)
    }

    /// Whether it has ended, in whichever way. One that was aborted is
    /// [`Dead`](crate::CoroutineState::Dead) from then on, and ends when its body
    /// has been dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.header().state.load() & state::DONE != 0
    }

    /// Keeps it from running on: at once, or from its next safepoint if it
    /// runs now. Wakes that come meanwhile are kept. Pausing a paused one
    /// changes nothing.
    ///
    /// # Errors
    /// If it has not been submitted, or has ended.
    pub fn pause(&self) -> Result<(), ControlError> {
        Ok(self.task.header().state.pause()?)
    }

    /// Ends a pause: it is ready again, or waits if it waited and nobody woke
    /// it.
    ///
    /// # Errors
    /// If it is not paused.
    pub fn resume(&self) -> Result<(), ControlError> {
        self.carry_out(self.task.header().state.resume()?);
        Ok(())
    }

    /// Ends it: its body is dropped, at once or from its next safepoint, and
    /// its handle answers that it was cancelled, or what the body returns in the
    /// very poll that is going on.
    ///
    /// The vCPU that drops the body does nothing else until its destructors
    /// are done, and no other thread takes it meanwhile, not even in
    /// [`blocking`](crate::blocking): they should be short.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn abort(&self) -> Result<(), ControlError> {
        self.carry_out(self.task.header().state.abort()?);
        Ok(())
    }

    fn carry_out(&self, then: Then) {
        match then {
            Then::Queue => vcpu::queue_woken(self.task),
            Then::Nothing | Then::Free => {}
        }
    }
}

impl Clone for Coroutine {
    fn clone(&self) -> Coroutine {
        self.task.header().state.retain();
        Coroutine { task: self.task }
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        self.task.release();
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
