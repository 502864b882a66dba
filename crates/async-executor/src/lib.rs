//! Runs one RV64 hart until somebody above has to decide something.
//!
//! Not here: coroutines, system calls, files. Start with [`exit`] (what a run
//! can answer), then `interp` (the reference engine), `executor`, `jit`.
//!
//! Unsafe code stands in the modules that say so below: the code arena, the
//! entry into generated code and its way back, and the fault handler.

#![deny(unsafe_code)]

pub mod exit;
pub mod stats;
pub mod interp;

pub use exit::{Budget, Executor, Exit};
pub use interp::InterpreterExecutor;
pub use stats::InterpStats;
