//! What can go wrong, and what to do about it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;

use crate::stack::StackError;
use crate::state::IllegalTransition;
use crate::task::CoroutineId;

/// A field of [`SchedulerConfig`](crate::SchedulerConfig) that cannot be
/// honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            expected,
        } = self;
        write!(f, "{field} is {value}; it has to be {expected}")
    }
}

impl Error for ConfigError {}

/// Why the scheduler did not start.
#[derive(Debug)]
pub enum StartError {
    /// It has been started, or shut down, before.
    NotNew,
    /// Some thread runs it by hand right now, or another one starts it.
    Driven,
    /// The host made no thread.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNew => f.write_str("a scheduler starts once; make another"),
            Self::Driven => {
                f.write_str("a thread is in run_one; start the scheduler before or afterwards")
            }
            Self::Thread(_) => {
                f.write_str("the host refused a thread; lower vcpu_count or its limits")
            }
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotNew | Self::Driven => None,
            Self::Thread(source) => Some(source),
        }
    }
}

/// Why a coroutine was not spawned. Its body is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// `max_coroutines` are alive.
    TooManyCoroutines {
        /// The limit.
        limit: usize,
    },
    /// `ready_queue_size` are ready.
    ReadyQueueFull {
        /// The limit.
        limit: usize,
    },
    /// `active_max` of a pool are alive.
    PoolFull {
        /// The limit.
        limit: usize,
    },
    /// There is no stack for it.
    NoStack(StackError),
    /// The scheduler is shutting down.
    ShutDown,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyCoroutines { limit } => {
                write!(f, "{limit} coroutines are alive, which is max_coroutines")
            }
            Self::ReadyQueueFull { limit } => {
                write!(f, "{limit} coroutines are ready, which is ready_queue_size")
            }
            Self::PoolFull { limit } => {
                write!(
                    f,
                    "{limit} coroutines of the pool are alive, which is active_max"
                )
            }
            Self::NoStack(error) => error.fmt(f),
            Self::ShutDown => f.write_str("the scheduler is shutting down"),
        }
    }
}

impl Error for SpawnError {}

impl From<StackError> for SpawnError {
    fn from(error: StackError) -> Self {
        Self::NoStack(error)
    }
}

/// Why a coroutine could not be paused, resumed, aborted or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// No coroutine has this id: it has ended, or never was.
    Unknown(CoroutineId),
    /// Its state does not allow that.
    Illegal(IllegalTransition),
    /// There is no such vCPU.
    NoSuchVcpu {
        /// Its number.
        vcpu: usize,
        /// How many there are.
        count: usize,
    },
    /// It runs right now; what was asked needs it ready or waiting.
    Running(CoroutineId),
    /// It stays on its vCPU, because it was pinned or has a stack there.
    Pinned(CoroutineId),
    /// It has saved no context.
    NoContext(CoroutineId),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no coroutine {id} (any more)"),
            Self::Illegal(error) => error.fmt(f),
            Self::NoSuchVcpu { vcpu, count } => {
                write!(f, "there is no vCPU {vcpu}: they are 0 to {}", count - 1)
            }
            Self::Running(id) => write!(f, "coroutine {id} is running"),
            Self::Pinned(id) => write!(f, "coroutine {id} is pinned to its vCPU"),
            Self::NoContext(id) => write!(
                f,
                "coroutine {id} has saved no context: its body has to call save_context, and its \
                 spawn SpawnOptions::keeps_context"
            ),
        }
    }
}

impl Error for ControlError {}

impl From<IllegalTransition> for ControlError {
    fn from(error: IllegalTransition) -> Self {
        Self::Illegal(error)
    }
}

/// Why a coroutine gave no result.
pub enum JoinError {
    /// It was aborted, or the scheduler shut down before it ended.
    Cancelled(CoroutineId),
    /// It panicked.
    Panicked {
        /// Which one.
        id: CoroutineId,
        /// What it panicked with, for [`std::panic::resume_unwind`].
        payload: Box<dyn Any + Send>,
    },
}

impl JoinError {
    /// Whether it was aborted.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// The panic's message, if it was one and is text.
    #[must_use]
    pub fn panic_message(&self) -> Option<&str> {
        let Self::Panicked { payload, .. } = self else {
            return None;
        };
        let text = payload.downcast_ref::<&str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(id) => write!(f, "coroutine {id} was cancelled"),
            Self::Panicked { id, .. } => {
                let message = self.panic_message().unwrap_or("something that is no text");
                write!(f, "coroutine {id} panicked: {message}")
            }
        }
    }
}

impl Error for JoinError {}
