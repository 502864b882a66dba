//! Runs guest programs: the Linux that an RV64GC program sees.
//!
//! A [`Process`] is a program in an address space of its own. It runs on any
//! [`Executor`](async_executor::Executor), answers system calls from one
//! table ([`syscall_table`]), and ends with an [`Outcome`].
//!
//! Not here: instructions (`vm-core`), engines (`async-executor`). Not yet:
//! threads, calling signal handlers, `execve`; see the table for what else
//! differs from Linux.
//!
//! ```no_run
//! use std::sync::atomic::AtomicU32;
//! use vm_runtime::{EngineKind, Process, ProcessConfig, build_engine};
//!
//! // Run a static program with 64 MiB of memory on the interpreter.
//! let config = ProcessConfig { memory_bytes_limit: 64 << 20, ..Default::default() };
//! let path = std::path::Path::new("hello");
//! let mut process = Process::load(path, &[b"hello"], &[b"LANG=C"], config)?;
//! let mut engine = build_engine(EngineKind::Interp);
//! let outcome = process.run(&mut *engine, &AtomicU32::new(0));
//! assert_eq!(outcome.exit_status(), 0);
//! # Ok::<(), vm_runtime::LoadError>(())
//! ```
//!
//! # What guests can do to the host
//!
//! Guest memory is reached through checked accesses only, and a guest's file
//! descriptor never names one of the host process. Paths, however, are the
//! host's: a guest reads and writes what the user who runs it may. Confining
//! that is the sandbox's work, which is not built yet.
//!
//! # Features
//!
//! - `cli` (default): the command `hartloom` and what only it needs. Without
//!   it the library depends on our own crates and `rustix`.

#![deny(unsafe_code)]

mod config;
mod engine;
mod error;
mod kernel;
mod outcome;
mod process;
mod program;
mod signal;
mod space;
mod syscall;
mod vfs;

pub use config::{DEFAULT_MEMORY_BYTES, MEMORY_BYTES_MAX, ProcessConfig, Stdio};
pub use engine::{Engine, EngineKind, build_engine, build_engine_with, jit_config};
pub use error::{LoadError, PROGRAM_BYTES_MAX, Printable};
pub use kernel::ProcessStats;
pub use outcome::Outcome;
pub use process::Process;
pub use signal::{DefaultAction, Signal};
pub use syscall::table::{Arg, Class, SyscallRow, syscall_table, syscall_table_markdown};
