//! Loads, stores, fetches and atomics of harts, and bulk copies of hosts.
//! Rules M1 to M4 of the parent module.
//!
//! A hart's access is checked against the page table in one comparison and
//! one load; what crosses a page or is misaligned goes a slower way. Ordinary
//! accesses are relaxed atomics, which on x86-64 are plain moves and stronger
//! than RVWMO asks.

use std::iter::StepBy;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::mapping::{Fault, GuestMemory, Prot, SPACE_BYTES};
use crate::addr::{GuestAddr, PAGE_BYTES};
use crate::trap::{Cause, Trap};

/// An integer that harts load and store. Sealed.
pub trait Scalar: Copy + Eq + private::Sealed {
    /// Its width.
    const BYTES: u64;
    /// From its little-endian bytes, zero-extended.
    fn from_u64(bits: u64) -> Self;
    /// Zero-extended.
    fn to_u64(self) -> u64;
}

/// An integer on which AMOs work. Sealed.
pub trait Atom: Scalar {}

mod private {
    pub trait Sealed {
        /// # Safety
        /// `host` is aligned for the type and readable (M2).
        unsafe fn load_relaxed(host: *mut u8) -> Self;
        /// # Safety
        /// `host` is aligned for the type and writable (M2).
        unsafe fn store_relaxed(host: *mut u8, value: Self);
        /// # Safety
        /// `host` is aligned for the type and writable (M2).
        unsafe fn compare_exchange(host: *mut u8, old: Self, new: Self) -> Result<Self, Self>
        where
            Self: Sized;
    }
}

macro_rules! scalars {
    ($($Int:ident $Atomic:ident)*) => {$(
        impl private::Sealed for $Int {
            #[inline(always)]
            unsafe fn load_relaxed(host: *mut u8) -> Self {
                // SAFETY: M3, and the caller's promise: aligned and readable.
                unsafe { $Atomic::from_ptr(host.cast()) }.load(Ordering::Relaxed)
            }
            #[inline(always)]
            unsafe fn store_relaxed(host: *mut u8, value: Self) {
                // SAFETY: M3, and the caller's promise: aligned and writable.
                unsafe { $Atomic::from_ptr(host.cast()) }.store(value, Ordering::Relaxed);
            }
            #[inline(always)]
            unsafe fn compare_exchange(host: *mut u8, old: Self, new: Self) -> Result<Self, Self> {
                // SAFETY: M3, and the caller's promise: aligned and writable.
                unsafe { $Atomic::from_ptr(host.cast()) }
                    .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            }
        }
        impl Scalar for $Int {
            const BYTES: u64 = size_of::<$Int>() as u64;
            #[inline(always)]
            fn from_u64(bits: u64) -> Self {
                bits as $Int
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
        }
    )*};
}
scalars! { u8 AtomicU8 u16 AtomicU16 u32 AtomicU32 u64 AtomicU64 }
impl Atom for u32 {}
impl Atom for u64 {}

impl GuestMemory {
    /// Loads as a hart does; misaligned addresses are fine.
    ///
    /// # Errors
    /// A load page fault at the first byte that is not readable.
    #[inline(always)]
    pub fn load<T: Scalar>(&self, addr: GuestAddr) -> Result<T, Fault> {
        if let Some(host) = self.fast_host::<T>(addr, Prot::READ) {
            // SAFETY: M2: `fast_host` found it readable and aligned.
            return Ok(unsafe { T::load_relaxed(host) });
        }
        self.load_slow(addr)
    }

    /// Stores as a hart does; misaligned addresses are fine.
    ///
    /// # Errors
    /// A store page fault at the first byte that is not writable; nothing has
    /// been stored then.
    #[inline(always)]
    pub fn store<T: Scalar>(&self, addr: GuestAddr, value: T) -> Result<(), Fault> {
        if let Some(host) = self.fast_host::<T>(addr, Prot::WRITE) {
            // SAFETY: M2: `fast_host` found it writable and aligned.
            unsafe { T::store_relaxed(host, value) };
            return Ok(());
        }
        self.store_slow(addr, value)
    }

    /// What [`GuestMemory::load`] gives, where that takes no more than a look
    /// at one page: aligned, mapped, readable. `None` where it takes more.
    #[inline(always)]
    pub fn load_fast<T: Scalar>(&self, addr: GuestAddr) -> Option<T> {
        let host = self.fast_host::<T>(addr, Prot::READ)?;
        // SAFETY: M2: `fast_host` found it readable and aligned.
        Some(unsafe { T::load_relaxed(host) })
    }

    /// Does what [`GuestMemory::store`] does, where that takes no more than a
    /// look at one page; says whether it did.
    #[inline(always)]
    pub fn store_fast<T: Scalar>(&self, addr: GuestAddr, value: T) -> bool {
        let Some(host) = self.fast_host::<T>(addr, Prot::WRITE) else {
            return false;
        };
        // SAFETY: M2: `fast_host` found it writable and aligned.
        unsafe { T::store_relaxed(host, value) };
        true
    }

    /// Fetches the instruction at `pc`: 32 bits, of which only the low half
    /// was read when that is a compressed form.
    ///
    /// # Errors
    /// An instruction page fault at the first byte that is not executable.
    #[inline]
    pub fn fetch(&self, pc: GuestAddr) -> Result<u32, Fault> {
        let low = self.fetch_half(pc)?;
        if low & 3 != 3 {
            return Ok(u32::from(low));
        }
        let high = self.fetch_half(pc.wrapping_offset(2))?;
        Ok(u32::from(low) | u32::from(high) << 16)
    }

    #[inline]
    fn fetch_half(&self, pc: GuestAddr) -> Result<u16, Fault> {
        if let Some(host) = self.fast_host::<u16>(pc, Prot::EXEC) {
            // SAFETY: M2: `fast_host` found it aligned and executable, and all
            // permissions imply READ.
            return Ok(unsafe { private::Sealed::load_relaxed(host) });
        }
        self.check(pc, 2, Prot::EXEC, Cause::InstructionPageFault)?;
        Ok(self.gather(pc, 2) as u16)
    }

    /// Reads, lets `update` choose the new value and writes it, atomically.
    /// Gives the old value.
    ///
    /// # Errors
    /// A misaligned-store trap, or a store page fault.
    #[inline]
    pub fn fetch_update<T: Atom>(
        &self,
        addr: GuestAddr,
        mut update: impl FnMut(T) -> T,
    ) -> Result<T, Fault> {
        let host = self.atomic_host::<T>(addr)?;
        // SAFETY: M2: `atomic_host` found it readable, writable and aligned.
        let mut old = unsafe { T::load_relaxed(host) };
        loop {
            // SAFETY: as above.
            match unsafe { T::compare_exchange(host, old, update(old)) } {
                Ok(old) => return Ok(old),
                Err(now) => old = now,
            }
        }
    }

    /// Writes `new` where `old` stands, atomically; says whether it did.
    ///
    /// # Errors
    /// A misaligned-store trap, or a store page fault.
    #[inline]
    pub fn compare_exchange<T: Atom>(
        &self,
        addr: GuestAddr,
        old: T,
        new: T,
    ) -> Result<bool, Fault> {
        let host = self.atomic_host::<T>(addr)?;
        // SAFETY: M2: `atomic_host` found it readable, writable and aligned.
        Ok(unsafe { T::compare_exchange(host, old, new) }.is_ok())
    }

    /// Copies guest bytes out.
    ///
    /// # Errors
    /// A load page fault at the first byte that is not readable; `bytes` is
    /// unchanged then.
    pub fn read_bytes(&self, start: GuestAddr, bytes: &mut [u8]) -> Result<(), Fault> {
        self.check(start, bytes.len() as u64, Prot::READ, Cause::LoadPageFault)?;
        let (head, body, tail) = split_at_words(start, bytes.len());
        for i in head.chain(tail) {
            // SAFETY: M2: checked above for the whole range.
            bytes[i] = unsafe { private::Sealed::load_relaxed(self.host_at(start, i)) };
        }
        for i in body {
            // SAFETY: M2: checked above for the whole range; aligned.
            let word: u64 = unsafe { private::Sealed::load_relaxed(self.host_at(start, i)) };
            bytes[i..i + 8].copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }

    /// Copies bytes to the guest.
    ///
    /// # Errors
    /// A store page fault at the first byte that is not writable; nothing has
    /// been written then.
    pub fn write_bytes(&self, start: GuestAddr, bytes: &[u8]) -> Result<(), Fault> {
        self.check(
            start,
            bytes.len() as u64,
            Prot::WRITE,
            Cause::StorePageFault,
        )?;
        let (head, body, tail) = split_at_words(start, bytes.len());
        for i in head.chain(tail) {
            // SAFETY: M2: checked above for the whole range.
            unsafe { private::Sealed::store_relaxed(self.host_at(start, i), bytes[i]) };
        }
        for i in body {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i..i + 8]);
            let word = u64::from_le_bytes(word);
            // SAFETY: M2: checked above for the whole range; aligned.
            unsafe { private::Sealed::store_relaxed(self.host_at(start, i), word) };
        }
        Ok(())
    }

    /// Reads a string up to its NUL, which is left out; `None` where no NUL
    /// comes within `limit` bytes.
    ///
    /// # Errors
    /// A load page fault at the first byte that is not readable.
    pub fn read_c_string(&self, start: GuestAddr, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::new();
        let mut addr = start;
        while bytes.len() < limit {
            match self.load::<u8>(addr)? {
                0 => return Ok(Some(bytes)),
                byte => bytes.push(byte),
            }
            addr = addr.wrapping_offset(1);
        }
        Ok(None)
    }

    /// Host address for an aligned access within one page that allows it.
    #[inline(always)]
    fn fast_host<T: Scalar>(&self, addr: GuestAddr, prot: Prot) -> Option<*mut u8> {
        if addr.0 >= SPACE_BYTES || addr.0 & (T::BYTES - 1) != 0 {
            return None;
        }
        let entry =
            self.reservation.page_table()[(addr.0 / PAGE_BYTES) as usize].load(Ordering::Relaxed);
        (entry & prot.bits() != 0).then(|| self.host(addr))
    }

    fn atomic_host<T: Atom>(&self, addr: GuestAddr) -> Result<*mut u8, Fault> {
        if !addr.is_aligned(T::BYTES) {
            return Err(Trap {
                cause: Cause::StoreMisaligned,
                tval: addr.0,
            });
        }
        self.fast_host::<T>(addr, Prot::WRITE).ok_or(Trap {
            cause: Cause::StorePageFault,
            tval: addr.0,
        })
    }

    #[cold]
    fn load_slow<T: Scalar>(&self, addr: GuestAddr) -> Result<T, Fault> {
        self.check(addr, T::BYTES, Prot::READ, Cause::LoadPageFault)?;
        Ok(T::from_u64(self.gather(addr, T::BYTES)))
    }

    #[cold]
    fn store_slow<T: Scalar>(&self, addr: GuestAddr, value: T) -> Result<(), Fault> {
        self.check(addr, T::BYTES, Prot::WRITE, Cause::StorePageFault)?;
        for i in 0..T::BYTES {
            let byte = (value.to_u64() >> (8 * i)) as u8;
            // SAFETY: M2: the whole range was checked.
            unsafe { private::Sealed::store_relaxed(self.host(GuestAddr(addr.0 + i)), byte) };
        }
        Ok(())
    }

    /// The little-endian value of up to eight bytes that were checked.
    fn gather(&self, addr: GuestAddr, bytes: u64) -> u64 {
        (0..bytes).rev().fold(0, |value, i| {
            // SAFETY: M2: the caller checked the range; all permissions imply READ.
            let byte: u8 =
                unsafe { private::Sealed::load_relaxed(self.host(GuestAddr(addr.0 + i))) };
            value << 8 | u64::from(byte)
        })
    }

    /// Fails with `cause` at the first byte whose page does not allow `prot`.
    fn check(&self, start: GuestAddr, bytes: u64, prot: Prot, cause: Cause) -> Result<(), Fault> {
        let mut addr = start;
        let mut left = bytes;
        while left > 0 {
            if !self.prot(addr).is_some_and(|p| p.contains(prot)) {
                return Err(Trap {
                    cause,
                    tval: addr.0,
                });
            }
            let step = (PAGE_BYTES - addr.0 % PAGE_BYTES).min(left);
            addr = addr.wrapping_offset(step.cast_signed());
            left -= step;
        }
        Ok(())
    }

    #[inline(always)]
    fn host_at(&self, start: GuestAddr, offset: usize) -> *mut u8 {
        self.host(GuestAddr(start.0 + offset as u64))
    }

    #[inline(always)]
    fn host(&self, addr: GuestAddr) -> *mut u8 {
        debug_assert!(addr.0 < SPACE_BYTES);
        // SAFETY: M1: every caller has found `addr` below the space's end.
        unsafe { self.reservation.base().add(addr.0 as usize) }
    }
}

/// Offsets of `len` bytes from `start`: those before the first aligned word,
/// those of the words (in steps of 8), those after the last.
fn split_at_words(
    start: GuestAddr,
    len: usize,
) -> (Range<usize>, StepBy<Range<usize>>, Range<usize>) {
    let head = (start.0.wrapping_neg() as usize & 7).min(len);
    let tail = head + (len - head) / 8 * 8;
    (0..head, (head..tail).step_by(8), tail..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: GuestAddr = GuestAddr(0x2_0000);

    fn memory() -> GuestMemory {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory
            .map(AT, 2 * PAGE_BYTES, Prot::READ | Prot::WRITE)
            .unwrap();
        memory
    }

    #[test]
    fn misaligned_accesses_across_pages_agree_with_bytes() {
        let memory = memory();
        let addr = GuestAddr(AT.0 + PAGE_BYTES - 3);
        memory.store(addr, 0x0807_0605_0403_0201_u64).unwrap();
        assert_eq!(memory.load::<u64>(addr), Ok(0x0807_0605_0403_0201));
        assert_eq!(memory.load::<u16>(GuestAddr(addr.0 + 2)), Ok(0x0403));
        let mut bytes = [0; 11];
        memory
            .read_bytes(GuestAddr(addr.0 - 1), &mut bytes)
            .unwrap();
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
    }

    #[test]
    fn faults_name_the_first_forbidden_byte_and_change_nothing() {
        let memory = memory();
        let end = AT.0 + 2 * PAGE_BYTES;
        let fault = |cause, tval| Err::<(), _>(Trap { cause, tval });
        assert_eq!(
            memory.store(GuestAddr(end - 4), u64::MAX),
            fault(Cause::StorePageFault, end)
        );
        assert_eq!(memory.load::<u32>(GuestAddr(end - 4)), Ok(0));
        assert_eq!(
            memory.load::<u64>(GuestAddr(end - 4)).map(drop),
            fault(Cause::LoadPageFault, end)
        );
        for addr in [0, 0xffff, u64::MAX, u64::MAX - 8, 1 << 32, (1 << 32) + AT.0] {
            let result = memory.load::<u64>(GuestAddr(addr)).map(drop);
            assert_eq!(result, fault(Cause::LoadPageFault, addr), "{addr:#x}");
        }
        memory.protect(AT, PAGE_BYTES, Prot::READ).unwrap();
        assert_eq!(
            memory.write_bytes(AT, &[1]),
            fault(Cause::StorePageFault, AT.0)
        );
        assert_eq!(
            memory.fetch(AT).map(drop),
            fault(Cause::InstructionPageFault, AT.0)
        );
    }

    #[test]
    fn a_fetch_at_a_page_end_needs_the_next_page_only_for_long_forms() {
        let memory = memory();
        let last = GuestAddr(AT.0 + PAGE_BYTES - 2);
        memory.store(last, 0x0001_u16).unwrap(); // c.nop
        memory.protect(AT, PAGE_BYTES, Prot::EXEC).unwrap();
        assert_eq!(memory.fetch(last), Ok(1));
        memory
            .protect(AT, PAGE_BYTES, Prot::READ | Prot::WRITE)
            .unwrap();
        memory.store(last, 0x0013_u16).unwrap(); // low half of nop
        memory.protect(AT, PAGE_BYTES, Prot::EXEC).unwrap();
        let tval = AT.0 + PAGE_BYTES;
        assert_eq!(
            memory.fetch(last),
            Err(Trap {
                cause: Cause::InstructionPageFault,
                tval
            })
        );
    }

    #[test]
    fn atomics_refuse_misaligned_addresses_before_touching_memory() {
        let memory = memory();
        let tval = AT.0 + 4;
        let misaligned = Trap {
            cause: Cause::StoreMisaligned,
            tval,
        };
        assert_eq!(
            memory.fetch_update::<u64>(GuestAddr(tval), |v| v + 1),
            Err(misaligned)
        );
        assert_eq!(
            memory.fetch_update::<u32>(GuestAddr(tval), |v| v + 1),
            Ok(0)
        );
        assert_eq!(memory.compare_exchange(GuestAddr(tval), 1_u32, 5), Ok(true));
        assert_eq!(
            memory.compare_exchange(GuestAddr(tval), 1_u32, 6),
            Ok(false)
        );
        assert_eq!(memory.load::<u32>(GuestAddr(tval)), Ok(5));
    }

    #[test]
    fn mapping_keeps_count_and_finds_gaps() {
        let memory = memory();
        assert_eq!(memory.mapped_bytes(), 2 * PAGE_BYTES);
        assert!(
            memory.map(AT, 1 << 21, Prot::READ).is_err(),
            "beyond the limit"
        );
        assert!(
            memory.map(GuestAddr(0), PAGE_BYTES, Prot::READ).is_err(),
            "null page"
        );
        assert!(
            memory
                .map(GuestAddr(AT.0 + 1), PAGE_BYTES, Prot::READ)
                .is_err()
        );
        let gap = memory
            .find_gap(PAGE_BYTES, GuestAddr(AT.0 + 2 * PAGE_BYTES))
            .unwrap();
        assert_eq!(gap, GuestAddr(AT.0 - PAGE_BYTES));
        memory.unmap(AT, PAGE_BYTES).unwrap();
        assert_eq!(memory.mapped_bytes(), PAGE_BYTES);
        assert!(memory.protect(AT, 2 * PAGE_BYTES, Prot::READ).is_err());
        let epoch = memory.code_epoch();
        memory.map(AT, PAGE_BYTES, Prot::EXEC).unwrap();
        assert_ne!(memory.code_epoch(), epoch);
    }
}
