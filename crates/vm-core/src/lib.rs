//! The RV64GC architecture as data and pure functions. Runs nothing.
//!
//! Here: registers and instructions ([`isa`], from one table), the state of a
//! hart ([`hart`]), guest memory with permissions and precise faults
//! ([`mem`]), programs on disk ([`elf`]). Not here: anything that executes
//! (`async-executor`), system calls or threads (`vm-runtime`).
//!
//! ```
//! use vm_core::isa::{asm::assemble, decode};
//! use vm_core::mem::{GuestMemory, Prot};
//! use vm_core::GuestAddr;
//!
//! // Assemble one instruction, put it into guest memory, decode it again.
//! let code = assemble("addi a0, a0, 1")?;
//! let memory = GuestMemory::new(1 << 20)?;
//! let text = GuestAddr(0x10_0000);
//! memory.map(text, 4096, Prot::READ | Prot::WRITE)?;
//! memory.write_bytes(text, &code).unwrap();
//! memory.protect(text, 4096, Prot::READ | Prot::EXEC)?;
//! let decoded = decode(memory.fetch(text).unwrap())?;
//! assert_eq!(decoded.inst.to_string(), "addi a0, a0, 1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unsafe code stands in `mem::reserve` (the host reservation) and
//! `mem::access` (loads, stores, atomics) only.

#![deny(unsafe_code)]

pub mod addr;
pub mod csr;
pub mod elf;
pub mod error;
pub mod hart;
pub mod isa;
pub mod mem;
pub mod reg;
pub mod trap;

pub use addr::GuestAddr;
pub use reg::{FReg, XReg};
pub use trap::{Cause, Trap};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
