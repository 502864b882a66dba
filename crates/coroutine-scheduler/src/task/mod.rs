//! The control block of a coroutine: one allocation from spawn to the last
//! reference.
//!
//! ```text
//!   Header ┌───────────────────────────┐ <── TaskRef: queues, wakers, handles
//!          │ state   (see `state`)     │
//!          │ vtable: what the body is  │
//!          │ scheduler, id, spawn site │
//!          │ level, home, times        │
//!          │ join waker, extras        │
//!          ├───────────────────────────┤
//!   Stage  │ body, then output         │
//!          └───────────────────────────┘
//! ```

pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod join;
#[allow(
    unsafe_code,
    reason = "blocks of memory and lists of them: rules B1, B2"
)]
mod memory;
#[allow(unsafe_code, reason = "allocation and type erasure: rules T1 to T4")]
pub(crate) mod raw;
pub(crate) mod registry;
pub(crate) mod state;
#[allow(unsafe_code, reason = "the waker's table of functions: rule W1")]
pub(crate) mod waker;

pub(crate) use crate::coroutine::CoroutineId;
pub use group::{TaskGroup, scope};
pub use join::JoinHandle;
pub(crate) use raw::TaskRef;
