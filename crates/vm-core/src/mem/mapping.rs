//! Which pages are mapped, and with which permissions.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Range};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Most runs of pages with the same permissions, gaps included. Each can cost
/// the host one mapping of its own, of which Linux gives a process 65,530
/// (`vm.max_map_count`): the rest is for all else that the process does.
pub const RUNS_MAX: usize = 16_384;

/// Most runs of all address spaces of the process together, for the same
/// reason. The first [`RUNS_GRANTED`] of each do not count.
pub const PROCESS_RUNS_MAX: usize = 2 * RUNS_MAX;

/// So many runs an address space can have whatever others have taken.
pub const RUNS_GRANTED: usize = 256;

/// Runs of all address spaces of the process, beyond what is granted.
static PROCESS_RUNS: AtomicUsize = AtomicUsize::new(0);

/// Bytes that move at a time: so much more than the limit is in use then.
const MOVE_BYTES: usize = 256 << 10;

/// Pages with the same entry in the page table.
struct Run {
    pages: Range<usize>,
    entry: u8,
}

impl Run {
    fn is_mapped(&self) -> bool {
        self.entry & MAPPED != 0
    }
}

/// What is counted about the page table.
struct Count {
    bytes: u64,
    runs: Runs,
}

/// How many runs an address space has; also counted for the process.
struct Runs(usize);

impl Runs {
    /// Those of an address space without mappings.
    fn one() -> Runs {
        Runs(1)
    }

    /// Those that count for the process.
    fn counted(runs: usize) -> usize {
        runs.saturating_sub(RUNS_GRANTED)
    }

    fn set(&mut self, runs: usize) {
        let more = Runs::counted(runs).wrapping_sub(Runs::counted(self.0));
        PROCESS_RUNS.fetch_add(more, Ordering::Relaxed);
        self.0 = runs;
    }

    /// Whether there may be so many, where this address space may have `most`;
    /// the error is the limit. Address spaces that ask at once may all be told
    /// yes: a change of one makes two more runs, so that the sum goes little
    /// over its bound.
    fn check(&self, runs: usize, most: usize) -> Result<(), usize> {
        let (now, then) = (Runs::counted(self.0), Runs::counted(runs));
        let elsewhere = PROCESS_RUNS.load(Ordering::Relaxed).wrapping_sub(now);
        if runs > most {
            Err(RUNS_MAX)
        } else if then > now && then + elsewhere > PROCESS_RUNS_MAX {
            Err(PROCESS_RUNS_MAX)
        } else {
            Ok(())
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A guest's address space. Cheap to create: pages cost when touched.
pub struct GuestMemory {
    pub(super) reservation: Reservation,
    limit_bytes: u64,
    /// The lock also serialises changes of the page table.
    count: Mutex<Count>,
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
            count: Mutex::new(Count {
                bytes: 0,
                runs: Runs::one(),
            }),
            code_epoch: AtomicU64::new(0),
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Bytes mapped now, whatever their permissions.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.lock().bytes
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
    /// Where it succeeds, a [`protect`](GuestMemory::protect) of the same
    /// range does not fail for want of runs of this address space.
    ///
    /// # Errors
    /// For a range of incomplete pages, outside the mappable space, beyond
    /// the memory limit, beyond [`RUNS_MAX`] or [`PROCESS_RUNS_MAX`], or
    /// refused by the host; nothing has changed then.
    pub fn map(&self, start: GuestAddr, bytes: u64, prot: Prot) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let mut count = self.lock();
        let had = self.runs(pages.clone());
        self.check_limit(&count, bytes, mapped_bytes(&had))?;
        let entry = MAPPED | prot.closed().0;
        self.check_runs(&count, &had, entry, RUNS_MAX - 2)?;
        self.set(&mut count, &had, entry)?;
        self.discard(&had)
    }

    /// Unmaps a range; pages of it that are not mapped do not matter.
    ///
    /// # Errors
    /// For a range of incomplete pages or outside the mappable space, and
    /// where it would split what is mapped into more than [`RUNS_MAX`] runs, or
    /// [`PROCESS_RUNS_MAX`]; nothing has changed then.
    pub fn unmap(&self, start: GuestAddr, bytes: u64) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let mut count = self.lock();
        let had = self.runs(pages);
        self.check_runs(&count, &had, 0, RUNS_MAX)?;
        self.set(&mut count, &had, 0)?;
        self.discard(&had)
    }

    /// Gives mapped pages new permissions; their contents stay.
    ///
    /// # Errors
    /// Where some page is not mapped, for a bad range, beyond [`RUNS_MAX`] or
    /// [`PROCESS_RUNS_MAX`], or when the host refuses; nothing has changed then.
    pub fn protect(&self, start: GuestAddr, bytes: u64, prot: Prot) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let mut count = self.lock();
        let had = self.runs(pages);
        if !had.iter().all(Run::is_mapped) {
            return Err(MemoryError::NotMapped { start, bytes });
        }
        let entry = MAPPED | prot.closed().0;
        self.check_runs(&count, &had, entry, RUNS_MAX)?;
        self.set(&mut count, &had, entry)
    }

    /// Makes the mapped pages of a range zero and gives their memory back.
    ///
    /// # Errors
    /// For a bad range, or when the host refuses.
    pub fn zero(&self, start: GuestAddr, bytes: u64) -> Result<(), MemoryError> {
        let pages = check_range(start, bytes)?;
        let _serialised = self.lock();
        let had = self.runs(pages);
        self.retire_code(&had, 0);
        self.discard(&had)
    }

    /// Moves mapped pages that all have the same permissions to where they
    /// replace what is mapped, cut or with zeroed pages behind them if the new
    /// length is another. The memory limit needs to allow the larger of both
    /// lengths and not their sum.
    ///
    /// # Errors
    /// As [`map`](GuestMemory::map), and where the pages are not mapped alike;
    /// nothing has changed then.
    ///
    /// # Panics
    /// If both ranges overlap.
    pub fn remap(
        &self,
        from: GuestAddr,
        old_bytes: u64,
        to: GuestAddr,
        new_bytes: u64,
    ) -> Result<(), MemoryError> {
        let (source, target) = (check_range(from, old_bytes)?, check_range(to, new_bytes)?);
        assert!(
            source.end <= target.start || target.end <= source.start,
            "moving pages onto themselves"
        );
        let mut count = self.lock();
        let (source, target) = (self.runs(source), self.runs(target));
        let entry = match &source[..] {
            [run] if run.is_mapped() => run.entry,
            _ => {
                return Err(MemoryError::NotMapped {
                    start: from,
                    bytes: old_bytes,
                });
            }
        };
        self.check_limit(&count, new_bytes, mapped_bytes(&target) + old_bytes)?;
        // Both ends of both ranges.
        self.check_runs(&count, &target, entry, RUNS_MAX - 4)?;
        let open = MAPPED | Prot::READ.0 | Prot::WRITE.0;
        self.set(&mut count, &target, open)?;
        if entry & Prot::READ.0 == 0
            && let Err(error) = self.set(&mut count, &source, MAPPED | Prot::READ.0)
        {
            self.restore(&mut count, &target);
            return Err(error);
        }
        if let Err(error) = self.discard(&target) {
            // Its contents are lost where it replaced anything, as if this
            // had gone on; the pages to be moved are whole.
            self.restore(&mut count, &source);
            self.restore(&mut count, &target);
            return Err(error);
        }
        // From here on nothing fails: all contents arrive.
        let mut piece = vec![0; MOVE_BYTES.min(old_bytes.min(new_bytes) as usize)];
        let mut done = 0;
        while done < old_bytes.min(new_bytes) {
            let bytes = (piece.len() as u64).min(old_bytes.min(new_bytes) - done);
            let (from, to) = (GuestAddr(from.0 + done), GuestAddr(to.0 + done));
            self.copy(from, to, &mut piece[..bytes as usize]);
            let first = (from.0 / PAGE_BYTES) as usize;
            let pages = first..first + (bytes / PAGE_BYTES) as usize;
            let _ = self.discard(&[Run { pages, entry }]);
            done += bytes;
        }
        for (runs, entry) in [(&target, entry), (&source, 0)] {
            let now = self.runs(span(runs));
            if self.set(&mut count, &now, entry).is_err() {
                // There is room for these runs, so that the host is out of
                // memory: it leaves pages more open than they should be.
                self.set_entries(span(runs), entry);
                self.recount(&mut count);
            }
        }
        self.discard(&source)
    }

    /// Copies through `piece`, leaving out pages of zeros: those are there.
    fn copy(&self, from: GuestAddr, to: GuestAddr, piece: &mut [u8]) {
        let read = self.read_bytes(from, piece);
        debug_assert!(read.is_ok(), "both ranges were opened");
        for (page, to) in piece
            .chunks(PAGE_BYTES as usize)
            .zip((to.0..).step_by(PAGE_BYTES as usize))
        {
            if page.iter().any(|&byte| byte != 0) {
                let written = self.write_bytes(GuestAddr(to), page);
                debug_assert!(written.is_ok(), "both ranges were opened");
            }
        }
    }

    /// The permissions of a range of whole pages, where all are mapped alike.
    #[must_use]
    pub fn uniform_prot(&self, start: GuestAddr, bytes: u64) -> Option<Prot> {
        match &self.runs(check_range(start, bytes).ok()?)[..] {
            [run] if run.is_mapped() => Some(Prot(run.entry & 7)),
            _ => None,
        }
    }

    /// How many of `bytes` from the page of `start` on are mapped without a
    /// gap.
    #[must_use]
    pub fn mapped_prefix(&self, start: GuestAddr, bytes: u64) -> u64 {
        let first = start.0 / PAGE_BYTES;
        let pages = first..(first + bytes.div_ceil(PAGE_BYTES)).min(PAGE_COUNT as u64);
        let mapped = pages.take_while(|&p| self.entry(p as usize) & MAPPED != 0);
        (mapped.count() as u64 * PAGE_BYTES).min(bytes)
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
    pub fn host_range(&self) -> Range<usize> {
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

    fn lock(&self) -> MutexGuard<'_, Count> {
        // Nothing panics while it is held, so poison carries no news.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, page: usize) -> u8 {
        self.reservation.page_table()[page].load(Ordering::Relaxed)
    }

    fn set_entries(&self, pages: Range<usize>, entry: u8) {
        for e in &self.reservation.page_table()[pages] {
            e.store(entry, Ordering::Release);
        }
    }

    /// What a range that is not empty consists of.
    fn runs(&self, pages: Range<usize>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for page in pages {
            let entry = self.entry(page);
            match runs.last_mut() {
                Some(run) if run.entry == entry => run.pages.end = page + 1,
                _ => runs.push(Run {
                    pages: page..page + 1,
                    entry,
                }),
            }
        }
        runs
    }

    fn check_limit(&self, count: &Count, bytes: u64, freed: u64) -> Result<(), MemoryError> {
        if count.bytes + bytes > self.limit_bytes + freed {
            return Err(MemoryError::Limit {
                bytes: bytes.saturating_sub(freed),
                mapped_bytes: count.bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        Ok(())
    }

    /// How many runs there are when those of `had` have become one.
    fn runs_after(&self, count: &Count, had: &[Run], entry: u8) -> usize {
        let Range { start, end } = span(had);
        let (before, behind) = (self.entry(start - 1), self.entry(end));
        let first = had.first().map_or(0, |run| run.entry);
        let last = had.last().map_or(0, |run| run.entry);
        let seams = |a: u8, b: u8| usize::from(before != a) + usize::from(b != behind);
        count.runs.0 + seams(entry, entry) + 1 - seams(first, last) - had.len()
    }

    /// Refuses more runs than `most`.
    fn check_runs(
        &self,
        count: &Count,
        had: &[Run],
        entry: u8,
        most: usize,
    ) -> Result<(), MemoryError> {
        let runs = self.runs_after(count, had, entry);
        let checked = count.runs.check(runs, most);
        checked.map_err(|limit| MemoryError::Runs { limit })
    }

    /// Gives the pages of `had` one entry; their contents stay. Where the host
    /// refuses, nothing has changed.
    fn set(&self, count: &mut Count, had: &[Run], entry: u8) -> Result<(), MemoryError> {
        let pages = span(had);
        self.retire_code(had, entry);
        for run in had {
            // M2: what is revoked goes first.
            self.set_entries(run.pages.clone(), run.entry & entry);
        }
        let open = |entry: u8| entry & (Prot::READ.0 | Prot::WRITE.0);
        if had.iter().any(|run| open(run.entry) != open(entry))
            && let Err(error) = self.protect_host(&pages, entry)
        {
            self.restore(count, had);
            return Err(error);
        }
        let runs = self.runs_after(count, had, entry);
        count.runs.set(runs);
        count.bytes -= mapped_bytes(had);
        if entry & MAPPED != 0 {
            count.bytes += (pages.len() as u64) * PAGE_BYTES;
        }
        self.set_entries(pages, entry);
        Ok(())
    }

    /// Puts the pages of `had` back to what they were.
    fn restore(&self, count: &mut Count, had: &[Run]) {
        for run in had {
            // M2: what is revoked goes first.
            for e in &self.reservation.page_table()[run.pages.clone()] {
                e.fetch_and(run.entry, Ordering::AcqRel);
            }
            // A page that the host does not open again is mapped even so.
            let entry = match self.protect_host(&run.pages, run.entry) {
                Ok(()) => run.entry,
                Err(_) => run.entry & MAPPED,
            };
            self.set_entries(run.pages.clone(), entry);
        }
        self.recount(count);
    }

    fn recount(&self, count: &mut Count) {
        let runs = self.runs(0..PAGE_COUNT);
        count.bytes = mapped_bytes(&runs);
        count.runs.set(runs.len());
    }

    /// Drops what is in the mapped pages of `had`.
    fn discard(&self, had: &[Run]) -> Result<(), MemoryError> {
        for run in had.iter().filter(|run| run.is_mapped()) {
            let (start, bytes) = host_extent(&run.pages);
            host_result("discard", bytes, self.reservation.discard(start, bytes))?;
        }
        Ok(())
    }

    /// Moves the code epoch on if a page is or becomes executable.
    fn retire_code(&self, had: &[Run], entry: u8) {
        if had
            .iter()
            .any(|run| (run.entry | entry) & Prot::EXEC.0 != 0)
        {
            self.code_epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn protect_host(&self, pages: &Range<usize>, entry: u8) -> Result<(), MemoryError> {
        let prot = Prot(entry & 7);
        let (start, bytes) = host_extent(pages);
        let (read, write) = (prot.contains(Prot::READ), prot.contains(Prot::WRITE));
        let done = self.reservation.protect(start, bytes, write, read);
        host_result("protect", bytes, done)
    }
}

/// All pages of neighbouring runs.
fn span(runs: &[Run]) -> Range<usize> {
    let start = runs.first().map_or(0, |run| run.pages.start);
    start..runs.last().map_or(start, |run| run.pages.end)
}

/// Mapped bytes of some runs.
fn mapped_bytes(runs: &[Run]) -> u64 {
    let mapped = runs.iter().filter(|run| run.is_mapped());
    mapped.map(|run| run.pages.len() as u64 * PAGE_BYTES).sum()
}

/// Where pages begin in the reservation, and their bytes.
fn host_extent(pages: &Range<usize>) -> (usize, usize) {
    let page_bytes = PAGE_BYTES as usize;
    (pages.start * page_bytes, pages.len() * page_bytes)
}

fn host_result(
    operation: &'static str,
    bytes: usize,
    done: std::io::Result<()>,
) -> Result<(), MemoryError> {
    done.map_err(|source| MemoryError::Host {
        operation,
        bytes: bytes as u64,
        source,
    })
}

/// Page numbers of a range of whole, mappable pages.
fn check_range(start: GuestAddr, bytes: u64) -> Result<Range<usize>, MemoryError> {
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
