//! The convention between Rust and generated code, drawn.
//!
//! A compiled region is a function of Cranelift's `tail` convention, which on
//! x86-64 passes and preserves registers like System V:
//!
//! ```text
//!   rdi  hart: *mut HartState        rax  where the guest goes on:
//!   rsi  base: host of guest 0            even: an address
//!   rdx  pc: the entry's address          odd: address | 1, an exit is pending
//! ```
//!
//! Guest registers live in host registers inside a region and in the hart
//! across every call, return and exit; so any frame can go on from any state,
//! and a frame that finds another address in rax than the one it waits for
//! just returns it further.
//!
//! Words of [`HartState::engine`](vm_core::hart::HartState::engine) while code
//! runs (index, meaning):
//!
//! ```text
//!    0 SLOTS        host address of the slot of guest address 0
//!    1 PREEMPT      host address of the preempt word
//!    2 STACK_LIMIT  lowest rsp at which a region may still start
//!    3 COLD         code that interprets on from rdx (an uncompiled address)
//!    4 STEP         code that interprets the one instruction at rsi
//!    5 RUN          the run these belong to: *mut Run
//!    6 UNWIND       rsp of the innermost entry into generated code
//!    7 MXCSR        low half: the guest's MXCSR while Rust runs
//!    8 BUDGET       guest instructions left (regions that count)
//!    9 FAULT_PC     host pc of a fault, 0 while there was none
//!   10 FAULT_ADDR   guest address that it accessed
//!   11 FAULT_WRITE  1 if it was a write
//!   12 SINK         results that exist for their flags only
//!   13 STALE        registers whose value in the hart is an older one, when a
//!                   region was left for the interpreter (see `region::Flow`),
//!                   and bit 0 if it was left at a poll
//! ```

use vm_core::hart::layout;

pub(crate) const SLOTS: usize = 0;
pub(crate) const PREEMPT: usize = 1;
pub(crate) const STACK_LIMIT: usize = 2;
pub(crate) const COLD: usize = 3;
pub(crate) const STEP: usize = 4;
pub(crate) const RUN: usize = 5;
pub(crate) const UNWIND: usize = 6;
pub(crate) const MXCSR: usize = 7;
pub(crate) const BUDGET: usize = 8;
pub(crate) const FAULT_PC: usize = 9;
pub(crate) const FAULT_ADDR: usize = 10;
pub(crate) const FAULT_WRITE: usize = 11;
pub(crate) const SINK: usize = 12;
pub(crate) const STALE: usize = 13;

/// In STALE, where `x0` would be.
pub(crate) const POLLED: u64 = 1;

/// Offset of an engine word from the hart pointer.
pub(crate) const fn word(index: usize) -> i32 {
    layout::ENGINE + 8 * index as i32
}
