//! Atomics, locks, queues and the futex under the protocols: the real ones, or
//! loom's in its models (`--cfg loom`, see `loom_tests`).

#[cfg(all(loom, test))]
mod in_models;
#[cfg(not(all(loom, test)))]
mod real;

#[cfg(all(loom, test))]
pub(crate) use in_models::*;
#[cfg(not(all(loom, test)))]
pub(crate) use real::*;
