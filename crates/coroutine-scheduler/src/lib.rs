//! The rules by which coroutines are scheduled, as data and pure functions.
//!
//! So far: the four [`Priority`] levels, the states of a coroutine with every
//! legal transition ([`CoroutineState`]), and the order in which ready work is
//! taken ([`ReadyQueue`]). Not here yet: vCPUs, stealing, timers, stackful
//! coroutines. Never here: guests and I/O; whoever runs a guest hart does that
//! inside a coroutine, and this crate does not know.
//!
//! ```
//! use coroutine_scheduler::{CoroutineState, Priority, ReadyQueue};
//!
//! let mut queue = ReadyQueue::new();
//! queue.push(Priority::Low, "collect statistics");
//! queue.push(Priority::RealTime, "audio");
//! queue.push(Priority::Normal, "guest thread");
//! assert_eq!(queue.pop(), Some((Priority::RealTime, "audio")));
//!
//! let mut state = CoroutineState::Ready;
//! state.advance(CoroutineState::Running)?;
//! assert!(state.advance(CoroutineState::Created).is_err());
//! # Ok::<(), coroutine_scheduler::IllegalTransition>(())
//! ```

#![deny(unsafe_code)]

pub mod priority;
pub mod queue;
pub mod state;

pub use priority::Priority;
pub use queue::ReadyQueue;
pub use state::{CoroutineState, IllegalTransition};

// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
