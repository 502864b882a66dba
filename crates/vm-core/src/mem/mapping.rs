//! Which pages are mapped, and with which permissions.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reserve::{PAGE_COUNT, Reservation};
use crate::addr::{GuestAddr, PAGE_BYTES};
use crate::error::MemoryError;
use crate::trap::Trap;

/// Size of the guest's address space.
pub const SPACE_BYTES: u64 = 1 << 32;
/// Lowest address that can be mapped.
pub const MAP_LOWEST: GuestAddr = GuestAddr(0x1_0000);
/// End of what can be mapped.
pub const MAP_HIGHEST: GuestAddr = GuestAddr(SPACE_BYTES - (1 << 20));

/// A guest access that its page does not allow.
pub type Fault = Trap;

/// What a page allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Prot(u8);

impl Prot {
    /// Mapped, but nothing is allowed.
    pub const NONE: Prot = Prot(0);
    /// Loads.
    pub const READ: Prot = Prot(1);
    /// Stores; implies loads.
    pub const WRITE: Prot = Prot(2);
    /// Fetches; implies loads.
    pub const EXEC: Prot = Prot(4);

    /// Whether everything that `other` allows is allowed.
    #[must_use]
    pub const fn contains(self, other: Prot) -> bool {
        self.0 & other.0 == other.0
    }

    /// Its bits in a page-table entry.
    #[inline(always)]
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    /// With what is implied: both `WRITE` and `EXEC` make a page readable.
    const fn closed(self) -> Prot {
        if self.0 & (Prot::WRITE.0 | Prot::EXEC.0) != 0 {
            Prot(self.0 | Prot::READ.0)
        } else {
            self
        }
    }
}

impl BitOr for Prot {
    type Output = Prot;
    fn bitor(self, other: Prot) -> Prot {
        Prot(self.0 | other.0)
    }
}

impl BitOrAssign for Prot {
    fn bitor_assign(&mut self, other: Prot) {
        self.0 |= other.0;
    }
}

impl BitAnd for Prot {
    type Output = Prot;
    fn bitand(self, other: Prot) -> Prot {
        Prot(self.0 & other.0)
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Prot::READ, 'r'), (Prot::WRITE, 'w'), (Prot::EXEC, 'x')] {
            let shown = if self.contains(bit) { letter } else { '-' };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

/// Bit of a page-table entry beside those of [`Prot`]: the page is mapped.
const MAPPED: u8 = 8;

/// A guest's address space. Cheap to create: pages cost when touched.
pub struct GuestMemory {
    pub(super) reservation: Reservation,
    limit_bytes: u64,
    /// Mapped bytes; the lock also serialises changes of the page table.
    mapped_bytes: Mutex<u64>,
    code_epoch: AtomicU64,
    identity: u64,
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory")
            .field("mapped_bytes", &self.mapped_bytes())
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

impl GuestMemory {
    /// An empty address space in which at most `limit_bytes` can be mapped.
    ///
    /// # Errors
    /// [`MemoryError::Host`] where the host has no 4 GiB of addresses to
    /// reserve (no memory is taken yet).
    pub fn new(limit_bytes: u64) -> Result<GuestMemory, MemoryError> {
        let reservation = Reservation::new().map_err(|source| MemoryError::Host {
            operation: "reserve address space of",
            bytes: Reservation::TOTAL_BYTES as u64,
            source,
        })?;
        Ok(GuestMemory {
            reservation,
            limit_bytes,
            mapped_bytes: Mutex::new(0),
            code_epoch: AtomicU64::new(0),
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Bytes mapped now, whatever their permissions.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        *self.lock()
    }

    /// Most bytes that may be mapped at a time.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// A number that no other address space of this process has had: what was
    /// decoded from one memory is told from what was decoded from another.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Counts changes after which code decoded before may be gone or
    /// different: executable pages mapped, unmapped or with new permissions.
    #[must_use]
    pub fn code_epoch(&self) -> u64 {
        self.code_epoch.load(Ordering::Acquire)
    }

    /// Permissions of the page at `addr`, `None` where nothing is mapped.
    #[must_use]
    pub fn prot(&self, addr: GuestAddr) -> Option<Prot> {
        let page = usize::try_from(addr.0 / PAGE_BYTES).ok()?;
        let entry = self
            .reservation
            .page_table()
            .get(page)?
            .load(Ordering::Relaxed);
        (entry & MAPPED != 0).then_some(Prot(entry & 7))
    }

    /// Maps zeroed pages, replacing what was mapped there.
    ///
    /// # Errors
    /// For a range of incomplete pages, outside the mappable space, beyond
    /// the memory limit, or refused by the host; nothing has changed then.
    pub fn map(&self, start: GuestAddr, bytes: u64, prot: Prot) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let mut mapped_bytes = self.lock();
        let already = pages
            .clone()
            .filter(|&p| self.entry(p) & MAPPED != 0)
            .count() as u64;
        let added = bytes - already * PAGE_BYTES;
        if *mapped_bytes + added > self.limit_bytes {
            return Err(MemoryError::Limit {
                bytes: added,
                mapped_bytes: *mapped_bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        self.retire_code(pages.clone(), prot);
        self.set_entries(pages.clone(), 0); // M2: revoke before the host page changes
        *mapped_bytes = *mapped_bytes + added - bytes;
        host_result(
            "discard",
            bytes,
            self.reservation.discard(start.0 as usize, bytes as usize),
        )?;
        let prot = prot.closed();
        self.protect_host(start, bytes, prot)?;
        self.set_entries(pages, MAPPED | prot.0); // M2: grant after
        *mapped_bytes += bytes;
        Ok(())
    }

    /// Unmaps a range; pages of it that are not mapped do not matter.
    ///
    /// # Errors
    /// For a range of incomplete pages or outside the mappable space.
    pub fn unmap(&self, start: GuestAddr, bytes: u64) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let mut mapped_bytes = self.lock();
        let gone = pages
            .clone()
            .filter(|&p| self.entry(p) & MAPPED != 0)
            .count() as u64;
        self.retire_code(pages.clone(), Prot::NONE);
        self.set_entries(pages, 0);
        *mapped_bytes -= gone * PAGE_BYTES;
        host_result(
            "discard",
            bytes,
            self.reservation.discard(start.0 as usize, bytes as usize),
        )
    }

    /// Gives mapped pages new permissions; their contents stay.
    ///
    /// # Errors
    /// Where some page is not mapped (nothing has changed then), for a bad
    /// range, or when the host refuses.
    pub fn protect(&self, start: GuestAddr, bytes: u64, prot: Prot) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let _serialised = self.lock();
        if pages.clone().any(|p| self.entry(p) & MAPPED == 0) {
            return Err(MemoryError::NotMapped { start, bytes });
        }
        let prot = prot.closed();
        self.retire_code(pages.clone(), prot);
        for page in pages.clone() {
            // M2: what is revoked goes first.
            self.set_entries(page..page + 1, self.entry(page) & (MAPPED | prot.0));
        }
        self.protect_host(start, bytes, prot)?;
        self.set_entries(pages, MAPPED | prot.0);
        Ok(())
    }

    /// Whether the whole range is mapped and allows `prot`.
    #[must_use]
    pub fn allows(&self, start: GuestAddr, bytes: u64, prot: Prot) -> bool {
        if bytes == 0 {
            return true;
        }
        let Some(last) = start.checked_add(bytes - 1).filter(|a| a.0 < SPACE_BYTES) else {
            return false;
        };
        (start.0 / PAGE_BYTES..=last.0 / PAGE_BYTES)
            .all(|p| self.entry(p as usize) & (MAPPED | prot.0) == MAPPED | prot.0)
    }

    /// Whether no page of the range is mapped.
    #[must_use]
    pub fn is_free(&self, start: GuestAddr, bytes: u64) -> bool {
        check_range(start, bytes)
            .is_ok_and(|pages| pages.into_iter().all(|p| self.entry(p) & MAPPED == 0))
    }

    /// The highest gap of `bytes` that ends at or below `end`.
    ///
    /// # Errors
    /// [`MemoryError::NoGap`], and [`MemoryError::Unaligned`] for a length
    /// that is not whole pages.
    pub fn find_gap(&self, bytes: u64, end: GuestAddr) -> Result<GuestAddr, MemoryError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
            return Err(MemoryError::Unaligned {
                start: GuestAddr(0),
                bytes,
            });
        }
        let wanted = bytes / PAGE_BYTES;
        let lowest = MAP_LOWEST.0 / PAGE_BYTES;
        let mut page = end.min(MAP_HIGHEST).0 / PAGE_BYTES;
        let mut free = 0;
        while page > lowest {
            page -= 1;
            free = if self.entry(page as usize) & MAPPED == 0 {
                free + 1
            } else {
                0
            };
            if free == wanted {
                return Ok(GuestAddr(page * PAGE_BYTES));
            }
        }
        Err(MemoryError::NoGap { bytes })
    }

    /// Host address of guest address 0, for generated code.
    #[must_use]
    pub fn host_base(&self) -> *mut u8 {
        self.reservation.base()
    }

    /// Host addresses of the space and its guards: what generated code can
    /// reach.
    #[must_use]
    pub fn host_range(&self) -> std::ops::Range<usize> {
        let base = self.host_base().addr();
        let guard = super::reserve::GUARD_BYTES;
        base - guard..base + SPACE_BYTES as usize + guard
    }

    /// The guest address behind a host address, `None` where it lies neither
    /// in the space nor in its guards. An address in a guard comes out as the
    /// (negative or too large) address that reached it.
    #[must_use]
    pub fn guest_addr_of_host(&self, host: usize) -> Option<GuestAddr> {
        let offset = host.wrapping_sub(self.host_base().addr()).cast_signed();
        let guard = super::reserve::GUARD_BYTES as isize;
        let space = SPACE_BYTES as isize;
        (-guard..space + guard)
            .contains(&offset)
            .then_some(GuestAddr(offset as i64 as u64))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // Nothing panics while it is held, so poison carries no news.
        self.mapped_bytes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn entry(&self, page: usize) -> u8 {
        self.reservation.page_table()[page].load(Ordering::Relaxed)
    }

    fn set_entries(&self, pages: std::ops::Range<usize>, entry: u8) {
        for e in &self.reservation.page_table()[pages] {
            e.store(entry, Ordering::Release);
        }
    }

    /// Moves the code epoch on if a page is or becomes executable.
    fn retire_code(&self, pages: std::ops::Range<usize>, prot: Prot) {
        if prot.contains(Prot::EXEC) || pages.into_iter().any(|p| self.entry(p) & Prot::EXEC.0 != 0)
        {
            self.code_epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn protect_host(&self, start: GuestAddr, bytes: u64, prot: Prot) -> Result<(), MemoryError> {
        let (read, write) = (prot.contains(Prot::READ), prot.contains(Prot::WRITE));
        let done = self
            .reservation
            .protect(start.0 as usize, bytes as usize, write, read);
        host_result("protect", bytes, done)
    }
}

fn host_result(
    operation: &'static str,
    bytes: u64,
    done: std::io::Result<()>,
) -> Result<(), MemoryError> {
    done.map_err(|source| MemoryError::Host {
        operation,
        bytes,
        source,
    })
}

/// Page numbers of a range of whole, mappable pages.
fn check_range(start: GuestAddr, bytes: u64) -> Result<std::ops::Range<usize>, MemoryError> {
    if !start.is_aligned(PAGE_BYTES) || bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
        return Err(MemoryError::Unaligned { start, bytes });
    }
    match start.checked_add(bytes) {
        Some(end) if start >= MAP_LOWEST && end <= MAP_HIGHEST => {
            let pages = (start.0 / PAGE_BYTES) as usize..(end.0 / PAGE_BYTES) as usize;
            debug_assert!(pages.end <= PAGE_COUNT);
            Ok(pages)
        }
        _ => Err(MemoryError::OutOfSpace { start, bytes }),
    }
}
