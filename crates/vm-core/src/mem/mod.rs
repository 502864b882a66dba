//! Guest memory: a reserved 4 GiB range of host addresses with guards,
//! permissions per page, and faults as precise data.
//!
//! ```text
//!  host   |guard 64 KiB|        4 GiB guest space          |guard 64 KiB|
//!  guest  |            0x0 ......................0xffff_ffff|            |
//!                       |64 KiB|                   |1 MiB|
//!                        never mapped: null and -errno pointers fault
//! ```
//!
//! Generated code computes `base + zext32(register) + immediate` without a
//! check: an immediate is below 2 KiB in size, so the access lands in the
//! space or in a guard, and the host's own page protection does the rest. The
//! interpreter checks all 64 bits of an address against the page table below.
//! Both see the same permissions because [`GuestMemory`] changes them
//! together.
//!
//! The host has one mapping for each run of pages that are protected alike,
//! and no more; [`RUNS_MAX`] bounds what guests can make of that.
//!
//! Rules that the unsafe code of `reserve` and `access` relies on:
//!
//! - **M1** The reservation lives as long as its [`GuestMemory`]; nothing
//!   outside it is ever reached through it.
//! - **M2** A page whose entry in the page table has `READ` is host-readable,
//!   one with `WRITE` host-writable. To grant, the host page changes first
//!   and the entry after; to revoke, the entry first.
//! - **M3** Guest memory is never borrowed as a Rust reference to plain data:
//!   all access is by atomics, so that guests racing with each other or with
//!   the host are defined behaviour.
//! - **M4** Changing permissions while another thread accesses the same pages
//!   can make that access fault on the host; whoever unmaps pages stops the
//!   harts of that space first (`&self` methods that map are not for running
//!   harts; the runtime calls them between runs).
//!
//! `W` implies `R` and so does `X`, as in Linux on most machines.

#[allow(
    unsafe_code,
    reason = "loads, stores and atomics on the reservation: rules M1 to M4"
)]
mod access;
#[allow(
    unsafe_code,
    reason = "reserves, protects and releases host addresses: rules M1, M2"
)]
mod reserve;
mod mapping;

pub use access::{Atom, Scalar};
pub use mapping::{
    Fault, GuestMemory, MAP_HIGHEST, MAP_LOWEST, PROCESS_RUNS_MAX, Prot, RUNS_GRANTED, RUNS_MAX,
    SPACE_BYTES,
};
