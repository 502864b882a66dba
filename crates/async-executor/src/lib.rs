//! Runs one RV64 hart until somebody above has to decide something.
//!
//! Not here: coroutines, system calls, files. Start with [`exit`] (what a run
//! can answer), then [`interp`] (the reference engine), `executor`, [`jit`].
//!
//! Three engines behind one contract, [`Executor`]: [`InterpreterExecutor`]
//! is the reference, [`JitExecutor`] compiles while the guest waits,
//! [`HybridExecutor`] interprets and compiles in the background. Executors of
//! one guest share code through an [`AsyncExecutionContext`].
//!
//! ```
//! use std::sync::atomic::AtomicU32;
//! use async_executor::{Budget, Executor, Exit, JitExecutor};
//! use vm_core::{GuestAddr, XReg, hart::Hart, isa::asm::assemble};
//! use vm_core::mem::{GuestMemory, Prot};
//!
//! let memory = GuestMemory::new(1 << 20)?;
//! let text = GuestAddr(0x1_0000);
//! memory.map(text, 4096, Prot::READ | Prot::WRITE)?;
//! let sum = assemble("loop: add a0, a0, a1\naddi a1, a1, -1\nbnez a1, loop\nebreak")?;
//! memory.write_bytes(text, &sum).unwrap();
//! memory.protect(text, 4096, Prot::EXEC)?;
//! let mut hart = Hart::new(text);
//! hart.set_x(XReg::A1, 1000);
//! let exit = JitExecutor::default().run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
//! assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, 500_500));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unsafe code stands in five modules: `cache::arena` (executable memory),
//! `enter` (the way into generated code and back), `fault` (host faults become
//! guest traps), `stack` (the bounds of a thread's stack) and `executor` (the
//! loop around them).

#![deny(unsafe_code)]

pub mod exit;
mod config;
mod error;
pub mod stats;
mod block;
pub mod interp;
pub mod jit;
mod hybrid;
mod cache;
mod context;
mod hart_run;
#[allow(unsafe_code, reason = "enters generated code: rules E1 to E3")]
mod enter;
#[allow(
    unsafe_code,
    reason = "signal handler for faults of generated code: rules F1, F2"
)]
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one rule covers the accesses of a block"
)]
mod fault;
#[allow(
    unsafe_code,
    reason = "asks the system for the bounds of a thread's stack: rule S1"
)]
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one rule covers the accesses of a block"
)]
mod stack;
#[allow(
    unsafe_code,
    reason = "the run loop around generated code: rules X1 to X3"
)]
#[allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one rule covers the accesses of a block"
)]
mod executor;

pub use config::JitConfig;
pub use context::AsyncExecutionContext;
pub use error::{CompileError, EngineError};
pub use exit::{Budget, Executor, Exit};
pub use hart_run::HartRun;
pub use hybrid::{HybridExecutor, Preference};
pub use interp::InterpreterExecutor;
pub use jit::JitExecutor;
pub use stats::{HybridStats, InterpStats, JitStats};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
