//! Loads and stores of integer registers.

use vm_core::mem::{GuestMemory, Scalar};
use vm_core::{GuestAddr, Trap};

/// `base + offset`, modulo 2⁶⁴.
#[inline(always)]
pub(super) const fn address(base: u64, offset: i32) -> GuestAddr {
    GuestAddr(base).wrapping_offset(offset as i64)
}

/// How a loaded value fills its register.
#[inline(always)]
pub(super) fn load<T: Scalar>(
    memory: &GuestMemory,
    addr: GuestAddr,
    extend: impl FnOnce(T) -> u64,
) -> Result<u64, Trap> {
    memory.load::<T>(addr).map(extend)
}

#[inline(always)]
pub(super) fn store<T: Scalar>(
    memory: &GuestMemory,
    addr: GuestAddr,
    value: u64,
) -> Result<(), Trap> {
    memory.store(addr, T::from_u64(value))
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
