//! Runs coroutines on a pool of vCPUs: work stealing, with priorities that hold.
//!
//! A coroutine is a future, or code on a stack of its own ([`stackful`]).
//! [`CoroutineScheduler`] runs as many as you like on a few threads, the most
//! urgent first; a [`JoinHandle`] gives the result.
//! Never here: guests and I/O. Whoever runs a guest hart does that inside a
//! coroutine, and this crate does not know.
//!
//! ```
//! use std::time::Duration;
//! use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig, sleep, spawn, yield_now};
//!
//! let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
//! scheduler.start()?;
//! let total = scheduler.spawn(async {
//!     let parts: Vec<_> = (0..4_u64)
//!         .map(|part| spawn(async move {
//!             yield_now().await;
//!             sleep(Duration::from_millis(1)).await;
//!             part * 10
//!         }).expect("there is room for five"))
//!         .collect();
//!     let mut total = 0;
//!     for part in parts {
//!         total += part.await.expect("it neither panics nor is aborted");
//!     }
//!     total
//! })?;
//! assert_eq!(total.join()?, 60);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Start with [`scheduler`], then `task` (the control block and its protocol),
//! `vcpu` (queues and the loop), [`policy`] (who is next). The protocols are in
//! the modules' heads.
//!
//! Feature `tokio` (off by default): `CoroutineScheduler::with_tokio` lets
//! tokio's sockets and timers work inside coroutines.

#![deny(unsafe_code)]

pub mod config;
pub mod error;
mod sync;
mod phase;

pub mod scheduler;

pub mod coroutine;
pub mod stack;
pub mod pool;
pub mod state;
mod task;

pub mod level;
pub mod priority;
pub mod queue;

pub mod policy;

pub mod preempt;
pub mod balance;
mod vcpu;
mod monitor;
pub mod stall;
#[cfg(any(feature = "tokio", all(test, not(loom))))]
pub mod tokio_context;
#[cfg(not(any(feature = "tokio", all(test, not(loom)))))]
#[path = "tokio_context_disabled.rs"]
mod tokio_context;

#[allow(unsafe_code, reason = "the time-stamp counter: rule C1")]
pub mod clock;
#[allow(unsafe_code, reason = "clocks and classes of threads: rules H1 to H3")]
mod host;
pub mod timer;

pub mod stats;
pub mod sim;
pub mod trace;

use std::time::Duration;

pub use clock::{Clock, VirtualClock};
pub use config::{Fairness, SchedulerConfig, WeakClass};
pub use coroutine::context::save_context;
pub use coroutine::{Coroutine, CoroutineId, CoroutineInfo, stackful};
pub use error::{ConfigError, ControlError, JoinError, SpawnError, StartError};
pub use policy::{
    Policy, PolicyScheduler, PriorityScheduler, RoundRobinScheduler, Scheduler, SchedulingPolicy,
};
pub use pool::{CoroutinePool, PoolConfig, PoolStats};
pub use preempt::{checkpoint, is_preempted, with_preempt_word, yield_now};
pub use priority::Priority;
pub use queue::ReadyQueue;
pub use scheduler::{CoroutineScheduler, SchedulerHandle, SpawnOptions, VCPU, spawn, spawn_with};
pub use stack::{StackConfig, StackError, StackStats};
pub use stall::{Doing, Stall, StallEnd};
pub use state::{CoroutineState, IllegalTransition};
pub use stats::{SchedulerStats, VCPUStats, VCpuInfo, VcpuState};
pub use task::{JoinHandle, TaskGroup, scope};
pub use timer::{interval, sleep, sleep_until, timeout};
pub use vcpu::handoff::blocking;

/// The time of the scheduler that runs this coroutine, from a start of its own;
/// outside of one, the host's monotonic clock from the process's first use.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(vcpu::now_ns())
}

/// Charges cycles to the running coroutine, for bodies that know better than
/// the time-stamp counter what they used (guest instructions, for instance).
/// Gives what is left of its budget; `None` without one, or outside of a
/// coroutine.
pub fn charge(cycles: u64) -> Option<u64> {
    vcpu::charge(cycles)
}

// What tests beside the crate use is there for those in it, by the same name.
#[cfg(test)]
extern crate self as coroutine_scheduler;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(all(loom, test))]
mod loom_tests;

// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
