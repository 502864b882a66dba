//! What a guest calls a pointer: an allegation until it is checked.
//!
//! Every access goes through the guest's page table; a bad pointer becomes
//! `EFAULT` for the guest and is never an error of ours. Nothing here
//! allocates what a guest asks for: strings are bounded by `PATH_MAX`, bulk
//! data moves through a caller's buffer.

use rustix::io::Errno;
use vm_core::GuestAddr;
use vm_core::addr::PAGE_BYTES;
use vm_core::mem::{Atom, GuestMemory, Prot, Scalar};

/// Longest path, its NUL included (`PATH_MAX`).
pub(crate) const PATH_BYTES_MAX: usize = 4096;

/// End of the addresses that a program can have, where pointers are checked
/// before anything happens (`access_ok`): 2³⁸, as on Linux with Sv39. Less of
/// them can be mapped here.
const USER_SPACE_BYTES: u64 = 1 << 38;

/// Most bytes of one read or write (`MAX_RW_COUNT` of Linux).
pub(crate) const TRANSFER_BYTES_MAX: u64 = 0x7fff_f000;

/// Most entries of an I/O vector (`UIO_MAXIOV`).
pub(crate) const IOVEC_COUNT_MAX: u64 = 1024;

/// An address that a guest passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserPtr(pub(crate) u64);

impl UserPtr {
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `offset` bytes on, modulo 2⁶⁴; the access decides whether
    /// there is anything.
    pub(crate) fn at(self, offset: u64) -> UserPtr {
        UserPtr(self.0.wrapping_add(offset))
    }

    fn addr(self) -> GuestAddr {
        GuestAddr(self.0)
    }

    /// Copies a structure out.
    pub(crate) fn read<const N: usize>(self, memory: &GuestMemory) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        memory
            .read_bytes(self.addr(), &mut bytes)
            .map_err(|_| Errno::FAULT)?;
        Ok(bytes)
    }

    /// Copies an integer out.
    pub(crate) fn load<T: Scalar>(self, memory: &GuestMemory) -> Result<T, Errno> {
        memory.load(self.addr()).map_err(|_| Errno::FAULT)
    }

    /// Copies an integer in.
    pub(crate) fn store<T: Scalar>(self, memory: &GuestMemory, value: T) -> Result<(), Errno> {
        memory.store(self.addr(), value).map_err(|_| Errno::FAULT)
    }

    /// Reads an aligned word as an atomic.
    pub(crate) fn load_atomic<T: Atom>(self, memory: &GuestMemory) -> Result<T, Errno> {
        if !self.addr().is_aligned(T::BYTES) {
            return Err(Errno::INVAL);
        }
        self.load(memory)
    }

    /// Copies bytes in, all or none.
    pub(crate) fn write(self, memory: &GuestMemory, bytes: &[u8]) -> Result<(), Errno> {
        memory
            .write_bytes(self.addr(), bytes)
            .map_err(|_| Errno::FAULT)
    }

    /// As [`write`](UserPtr::write), but a null pointer means that the guest
    /// does not want to know.
    pub(crate) fn write_unless_null(self, memory: &GuestMemory, bytes: &[u8]) -> Result<(), Errno> {
        if self.is_null() {
            Ok(())
        } else {
            self.write(memory, bytes)
        }
    }

    /// Copies a path out, without its NUL.
    pub(crate) fn read_path(self, memory: &GuestMemory) -> Result<Vec<u8>, Errno> {
        let path = memory.read_c_string(self.addr(), PATH_BYTES_MAX);
        path.map_err(|_| Errno::FAULT)?.ok_or(Errno::NAMETOOLONG)
    }
}

/// A range that a guest passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserSlice {
    pub(crate) start: UserPtr,
    pub(crate) bytes: u64,
}

impl UserSlice {
    pub(crate) fn new(start: u64, bytes: u64) -> UserSlice {
        UserSlice {
            start: UserPtr(start),
            bytes,
        }
    }

    /// Whether a program could have all of it, mapped or not.
    pub(crate) fn is_in_user_space(self) -> bool {
        self.bytes <= USER_SPACE_BYTES && self.start.0 <= USER_SPACE_BYTES - self.bytes
    }

    /// How many bytes from `offset` on, at most `want`, allow `prot`.
    fn prefix(self, memory: &GuestMemory, offset: u64, want: u64, prot: Prot) -> u64 {
        let start = self.start.at(offset);
        let want = want.min(self.bytes - offset);
        let mut good = 0;
        while good < want {
            let addr = start.at(good).addr();
            if !memory.prot(addr).is_some_and(|p| p.contains(prot)) {
                break;
            }
            good += PAGE_BYTES - addr.0 % PAGE_BYTES;
        }
        good.min(want)
    }
}

/// A position in an I/O vector, moving on as bytes are copied.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    slices: &'a [UserSlice],
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(slices: &'a [UserSlice]) -> Cursor<'a> {
        Cursor { slices, offset: 0 }
    }

    /// Bytes of the whole vector, cut to what one call may move.
    pub(crate) fn total(slices: &[UserSlice]) -> u64 {
        let sum = slices
            .iter()
            .fold(0_u64, |sum, s| sum.saturating_add(s.bytes));
        sum.min(TRANSFER_BYTES_MAX)
    }

    /// How many of the next `want` bytes the guest may write to.
    pub(crate) fn writable(&self, memory: &GuestMemory, want: u64) -> u64 {
        let mut good = 0;
        let mut offset = self.offset;
        for slice in self.slices {
            let ask = (want - good).min(slice.bytes - offset);
            let prefix = slice.prefix(memory, offset, ask, Prot::WRITE);
            good += prefix;
            if prefix < ask || good == want {
                break;
            }
            offset = 0;
        }
        good
    }

    /// Fills `buffer` from the guest as far as it is readable; says how far.
    pub(crate) fn copy_out(&mut self, memory: &GuestMemory, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(slice) = self.slices.first() {
            let room = (buffer.len() - done) as u64;
            let ask = room.min(slice.bytes - self.offset);
            let good = slice.prefix(memory, self.offset, ask, Prot::READ);
            let start = slice.start.at(self.offset).addr();
            let target = &mut buffer[done..done + good as usize];
            if memory.read_bytes(start, target).is_err() {
                break;
            }
            done += good as usize;
            if !self.advance(good, ask) || done == buffer.len() {
                break;
            }
        }
        done
    }

    /// Scatters `bytes` to the guest as far as it is writable; says how far.
    pub(crate) fn copy_in(&mut self, memory: &GuestMemory, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(slice) = self.slices.first() {
            let ask = ((bytes.len() - done) as u64).min(slice.bytes - self.offset);
            let good = slice.prefix(memory, self.offset, ask, Prot::WRITE);
            let start = slice.start.at(self.offset).addr();
            if memory
                .write_bytes(start, &bytes[done..done + good as usize])
                .is_err()
            {
                break;
            }
            done += good as usize;
            if !self.advance(good, ask) || done == bytes.len() {
                break;
            }
        }
        done
    }

    /// Moves on by `good` bytes; whether there were as many as asked.
    fn advance(&mut self, good: u64, ask: u64) -> bool {
        self.offset += good;
        if self.slices.first().is_some_and(|s| s.bytes == self.offset) {
            self.slices = &self.slices[1..];
            self.offset = 0;
        }
        good == ask
    }
}

/// A structure laid out for the guest, field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Record<N> {
    pub(crate) fn new() -> Record<N> {
        Record([0; N])
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Record<N> {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u16(self, at: usize, value: u16) -> Record<N> {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn u32(self, at: usize, value: u32) -> Record<N> {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn u64(self, at: usize, value: u64) -> Record<N> {
        self.bytes(at, &value.to_le_bytes())
    }

    pub(crate) fn i64(self, at: usize, value: i64) -> Record<N> {
        self.bytes(at, &value.to_le_bytes())
    }
}

/// The little-endian word at `at` of a structure copied out.
pub(crate) fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// As [`word`], four bytes.
pub(crate) fn half<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x2_0000;

    fn memory() -> GuestMemory {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory
            .map(GuestAddr(AT), 2 * PAGE_BYTES, Prot::READ | Prot::WRITE)
            .unwrap();
        memory
    }

    #[test]
    fn bad_pointers_are_the_guests_fault() {
        let memory = memory();
        let end = AT + 2 * PAGE_BYTES;
        for bad in [
            0,
            AT - 1,
            end - 3,
            end,
            u64::MAX,
            u64::MAX - 3,
            1 << 32,
            1 << 63,
        ] {
            assert_eq!(
                UserPtr(bad).read::<4>(&memory),
                Err(Errno::FAULT),
                "{bad:#x}"
            );
            assert_eq!(
                UserPtr(bad).write(&memory, &[1; 4]),
                Err(Errno::FAULT),
                "{bad:#x}"
            );
        }
        assert_eq!(UserPtr(end - 4).read::<4>(&memory), Ok([0; 4]));
        UserPtr(AT)
            .write(&memory, &[b'x'; 2 * PAGE_BYTES as usize])
            .unwrap();
        let path = UserPtr(AT).read_path(&memory);
        assert_eq!(path, Err(Errno::NAMETOOLONG));
        assert_eq!(UserPtr(end - 2).read_path(&memory), Err(Errno::FAULT));
    }

    #[test]
    fn vectors_are_copied_up_to_the_first_bad_byte() {
        let memory = memory();
        let end = AT + 2 * PAGE_BYTES;
        UserPtr(AT).write(&memory, b"abcdef").unwrap();
        let slices = [
            UserSlice::new(AT + 4, 2),
            UserSlice::new(0xdead, 0),
            UserSlice::new(AT, 3),
            UserSlice::new(end - 1, 5),
        ];
        assert_eq!(Cursor::total(&slices), 10);
        let mut buffer = [0; 10];
        let mut cursor = Cursor::new(&slices);
        assert_eq!(cursor.writable(&memory, 10), 6);
        assert_eq!(cursor.copy_out(&memory, &mut buffer[..3]), 3);
        assert_eq!(cursor.copy_out(&memory, &mut buffer[3..]), 3);
        assert_eq!(&buffer[..6], b"efabc\0");
        assert_eq!(cursor.copy_out(&memory, &mut buffer), 0);
        let mut cursor = Cursor::new(&slices);
        assert_eq!(cursor.copy_in(&memory, b"0123456789"), 6);
        assert_eq!(UserPtr(AT).read(&memory), Ok(*b"234d01"));
    }
}
