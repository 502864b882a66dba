//! Guest addresses as a type of their own: never mixed with host pointers or
//! lengths, printed in hex.

use std::fmt;

/// Bytes of a guest page.
pub const PAGE_BYTES: u64 = 4096;

/// An address as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestAddr(pub u64);

impl GuestAddr {
    /// The address `bytes` above, `None` past the end of the address space.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<GuestAddr> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(GuestAddr(sum)),
            None => None,
        }
    }

    /// The address `offset` away, modulo 2⁶⁴ as guest arithmetic is.
    #[must_use]
    pub const fn wrapping_offset(self, offset: i64) -> GuestAddr {
        GuestAddr(self.0.wrapping_add_signed(offset))
    }

    /// The start of its page.
    #[must_use]
    pub const fn page_start(self) -> GuestAddr {
        GuestAddr(self.0 & !(PAGE_BYTES - 1))
    }

    /// Whether it is a multiple of `bytes`, a power of two.
    #[must_use]
    pub const fn is_aligned(self, bytes: u64) -> bool {
        self.0 & (bytes - 1) == 0
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// `bytes` rounded up to whole pages, `None` where that overflows.
#[must_use]
pub const fn round_up_to_pages(bytes: u64) -> Option<u64> {
    match bytes.checked_add(PAGE_BYTES - 1) {
        Some(sum) => Some(sum & !(PAGE_BYTES - 1)),
        None => None,
    }
}
