//! Loads and stores of integer registers.

use vm_core::GuestAddr;
use vm_core::mem::{GuestMemory, Scalar};

/// `base + offset`, modulo 2⁶⁴.
#[inline(always)]
pub(super) const fn address(base: u64, offset: i32) -> GuestAddr {
    GuestAddr(base).wrapping_offset(offset as i64)
}

/// What a load gives where that takes no more than a look at one page; `None`
/// sends the instruction to its slow step, which may call.
#[inline(always)]
pub(super) fn load_fast<T: Scalar>(memory: &GuestMemory, addr: GuestAddr) -> Option<T> {
    memory.load_fast(addr)
}

/// As [`load_fast`]; whether it stored.
#[inline(always)]
pub(super) fn store_fast<T: Scalar>(memory: &GuestMemory, addr: GuestAddr, value: T) -> bool {
    memory.store_fast(addr, value)
}

/// Sign extensions of loads.
#[inline(always)]
pub(super) fn sext8(value: u8) -> u64 {
    i64::from(value.cast_signed()).cast_unsigned()
}

#[inline(always)]
pub(super) fn sext16(value: u16) -> u64 {
    i64::from(value.cast_signed()).cast_unsigned()
}

#[inline(always)]
pub(super) fn sext32(value: u32) -> u64 {
    i64::from(value.cast_signed()).cast_unsigned()
}
