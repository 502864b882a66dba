//! Load-reserved, store-conditional and AMOs.
//!
//! A reservation is the address, width and value of the last LR. An SC to the
//! same address and width succeeds if memory still holds that value, by
//! compare-exchange. It may therefore succeed after others changed the value
//! and changed it back, as in other user-mode emulators; compilers' loops do
//! not depend on the difference. Without a reservation it accesses nothing, so
//! it does not fault where a store would.
//!
//! AMOs and successful SCs are compare-exchanges, which on x86-64 order
//! everything: `aq` and `rl` ask for nothing more.

use std::sync::atomic::{Ordering, fence};

use vm_core::hart::{HartState, NO_RESERVATION};
use vm_core::mem::{Atom, GuestMemory};
use vm_core::{Cause, GuestAddr, Trap};

use super::int::sext32;
use super::operands::Operands;

/// What AMOs need of `u32` and `u64` beyond memory access.
pub(super) trait Width: Atom + Ord {
    /// The value as a register holds it.
    fn extend(self) -> u64;
    /// Order as signed integers.
    fn signed_min(self, other: Self) -> Self;
    /// Order as signed integers.
    fn signed_max(self, other: Self) -> Self;
}

impl Width for u32 {
    #[inline(always)]
    fn extend(self) -> u64 {
        sext32(u64::from(self))
    }
    fn signed_min(self, other: u32) -> u32 {
        self.cast_signed().min(other.cast_signed()).cast_unsigned()
    }
    fn signed_max(self, other: u32) -> u32 {
        self.cast_signed().max(other.cast_signed()).cast_unsigned()
    }
}

impl Width for u64 {
    #[inline(always)]
    fn extend(self) -> u64 {
        self
    }
    fn signed_min(self, other: u64) -> u64 {
        self.cast_signed().min(other.cast_signed()).cast_unsigned()
    }
    fn signed_max(self, other: u64) -> u64 {
        self.cast_signed().max(other.cast_signed()).cast_unsigned()
    }
}

/// `rl`: memory accesses before come first.
const RELEASE: i32 = 1;

/// `lr`: loads and reserves.
#[inline(never)]
pub(super) fn lr<T: Width>(
    state: &mut HartState,
    memory: &GuestMemory,
    a: &Operands,
) -> Result<(), Trap> {
    let addr = GuestAddr(state.x[a.rs1.index()]);
    if !addr.is_aligned(T::BYTES) {
        return Err(Trap {
            cause: Cause::LoadMisaligned,
            tval: addr.0,
        });
    }
    if a.imm & RELEASE != 0 {
        fence(Ordering::SeqCst); // the one order that x86-64 loads do not keep
    }
    let value = memory.load::<T>(addr)?;
    fence(Ordering::Acquire);
    state.reservation_addr = addr.0;
    state.reservation_value = value.to_u64();
    state.reservation_bytes = T::BYTES;
    state.x[a.rd.index()] = value.extend();
    Ok(())
}

/// `sc`: stores if the reservation still holds; ends it in any case.
#[inline(never)]
pub(super) fn sc<T: Width>(
    state: &mut HartState,
    memory: &GuestMemory,
    a: &Operands,
) -> Result<(), Trap> {
    let addr = GuestAddr(state.x[a.rs1.index()]);
    if !addr.is_aligned(T::BYTES) {
        return Err(Trap {
            cause: Cause::StoreMisaligned,
            tval: addr.0,
        });
    }
    let reserved = state.reservation_addr == addr.0 && state.reservation_bytes == T::BYTES;
    let old = T::from_u64(state.reservation_value);
    let new = T::from_u64(state.x[a.rs2.index()]);
    let stored = reserved && memory.compare_exchange(addr, old, new)?;
    state.reservation_addr = NO_RESERVATION;
    state.x[a.rd.index()] = u64::from(!stored);
    Ok(())
}

/// `amo*`: `update(memory, register)` replaces what memory holds.
#[inline(never)]
pub(super) fn amo<T: Width>(
    state: &mut HartState,
    memory: &GuestMemory,
    a: &Operands,
    update: impl Fn(T, T) -> T,
) -> Result<(), Trap> {
    let addr = GuestAddr(state.x[a.rs1.index()]);
    let operand = T::from_u64(state.x[a.rs2.index()]);
    let old = memory.fetch_update(addr, |value| update(value, operand))?;
    state.x[a.rd.index()] = old.extend();
    Ok(())
}
