//! All coroutines of a scheduler that are not done: for lookups by id, limits,
//! listings and shutdown.
//!
//! Sharded, so that vCPUs seldom meet: one shard per vCPU and some for other
//! threads. A coroutine is added to the shard of who spawns it, and removed by
//! whoever ends it, which is often another vCPU: adding takes the shard's lock,
//! removing one read-modify-write of the coroutine's page.
//!
//! ```text
//!   under the shard's lock               by anyone
//!   slots  [ task, uses | task, uses … ]
//!   added  [ 0 1 1 0 … ] ─ differ ─ [ 0 1 0 0 … | LOOKED_AT ]  removed
//!            a page's slots are taken where the two differ
//! ```
//!
//! A slot is taken by a flip of its bit in `added`, and freed by one in
//! `removed`. Who adds looks at `removed` once a page, so the two sides share
//! that line once in 32 coroutines, not at each.
//!
//! **Looking.** A task that is in the registry may be removed and freed at any
//! time. Who looks at a page has the shard's lock and sets LOOKED_AT; who
//! removes one and finds that set waits for the lock before it frees:
//!
//! ```text
//!   who looks, with the lock           who removes
//!   1 set LOOKED_AT, read `removed`    1 flip the bit, read LOOKED_AT
//!   2 take references of those taken   2 set? take the lock and let it go
//!   3 clear LOOKED_AT                  3 give up the registry's reference
//! ```
//!
//! Both first steps change the same word: either the task is seen as removed, or
//! who removes it waits.
//!
//! **Counting.** Each place counts what it ended, before it removes it; each
//! shard, what was added. Read in this order they never give less than there
//! are: who sees none is right. Who looks at every page sees the ends of all
//! that it finds removed.
//!
//! **Ids** name shard and slot, and which of the slot's tasks is meant; the task
//! itself knows its id. A slot that has had as many tasks as ids can tell apart
//! gets no more: no id comes twice.
//!
//! **The limit** is on slots: as many are made as coroutines may live. Who finds
//! none free in its shard, and can make none, takes all locks: then nobody adds,
//! and there is a free slot somewhere or there are as many as may be.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64 as Number;

use crossbeam_utils::CachePadded;

use super::raw::TaskRef;
use crate::coroutine::CoroutineId;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};

/// Limit of `max_coroutines`: slots are numbered by 32 bits.
pub(crate) const COROUTINES_MAX: usize = 1 << 31;

/// Slots of a page: what a thief takes at most at once, so that what it ends is
/// seldom in the page that is being filled.
const PAGE: usize = 32;
/// Pages that are looked at for a free slot before another one is made, unless
/// half of all slots were free at the last look at all of them.
const PAGES_A_TURN: usize = 4;

const SHARD_BITS: u32 = 8;
const SLOT_BITS: u32 = 32;
/// Tasks that a slot has in all, so many as the 24 bits left tell apart; none
/// of them is 0.
const USES_MAX: u32 = (1 << 24) - 1;

/// Tasks that [`Registry::some`] gives at most, and slots that it looks at.
const TASKS_A_LOOK: usize = 256;
const SLOTS_A_LOOK: usize = 1 << 14;

#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[CachePadded<Shard>]>,
    /// The first ones are those of vCPUs, which one thread at a time writes.
    n_vcpus: usize,
    coroutines_max: usize,
    /// Slots that may still be made.
    slots_left: CachePadded<AtomicUsize>,
    next_look: Mutex<Place>,
    /// Where each slot's uses begin to be numbered.
    first_use: u32,
}

#[derive(Debug, Default)]
struct Place {
    shard: usize,
    page: usize,
}

/// Of this process; no model's, so not from `sync`.
static N_REGISTRIES: Number = Number::new(0);

/// Between the first uses of two schedulers: the golden ratio of the 24 bits
/// that there are, by which many in a row stay far from each other.
const FIRST_USES_APART: u64 = 0x9e_3779;

#[derive(Debug)]
struct Shard {
    slots: Mutex<Slots>,
    /// How many were added to it; written under the lock.
    n_added: AtomicU64,
    removed: RemovedWords,
    /// How many were ended at this place, of whichever shard.
    n_ended: CachePadded<AtomicU64>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    pages: Vec<Page>,
    /// The page that is being filled, and those of its slots that were seen free
    /// and have not been taken since.
    page: usize,
    free: u32,
    /// The page that is looked at next, and how many free slots there were in
    /// those before it.
    next_look: usize,
    n_free_before: usize,
    /// Half of the slots were free when all pages had been looked at.
    is_half_free: bool,
    /// Pages whose slots were given back to be made elsewhere.
    given_back: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The one that is there, or was.
    task: Option<TaskRef>,
    n_uses: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    added: u32,
    /// Slots that there are: used up ones go, and so do those given back.
    usable: u32,
}

/// In a word of `removed`: somebody looks at the page.
const LOOKED_AT: u64 = 1 << 63;

/// The words of a shard's pages. They do not move: segments, each twice as large
/// as the one before, made under the shard's lock.
#[derive(Debug, Default)]
struct RemovedWords([OnceLock<Box<[RemovedWord]>>; N_SEGMENTS]);

/// A word in a line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct RemovedWord(AtomicU64);

const FIRST_SEGMENT: usize = 4;
const N_SEGMENTS: usize = 25;

impl RemovedWords {
    fn place(page: usize) -> (usize, usize) {
        let number = page + FIRST_SEGMENT;
        let segment = (number / FIRST_SEGMENT).ilog2() as usize;
        (segment, number - (FIRST_SEGMENT << segment))
    }

    /// That of a page that was made.
    #[inline]
    fn get(&self, page: usize) -> &AtomicU64 {
        let (segment, index) = RemovedWords::place(page);
        let words = self.0[segment].get().expect("the page was made");
        &words[index].0
    }

    /// With the shard's lock.
    fn make(&self, page: usize) {
        let (segment, _) = RemovedWords::place(page);
        self.0[segment].get_or_init(|| {
            let words = 0..FIRST_SEGMENT << segment;
            words.map(|_| RemovedWord::default()).collect()
        });
    }
}

impl Slots {
    /// Free slots of a page.
    fn free_in(&self, removed: &RemovedWords, page: usize) -> u32 {
        let removed = removed.get(page).load(Ordering::Acquire) as u32;
        let page = self.pages[page];
        !(page.added ^ removed) & page.usable
    }

    /// A free slot, if there is one in the pages that are looked at; it is to be
    /// taken by [`Slots::put`].
    fn find_free(&mut self, place: &Shard, slots_left: &AtomicUsize, all: bool) -> Option<usize> {
        let mut n_looks = if all || self.is_half_free {
            self.pages.len()
        } else {
            PAGES_A_TURN.min(self.pages.len())
        };
        loop {
            while self.free == 0 {
                n_looks = n_looks.checked_sub(1)?;
                self.look_for_free(&place.removed);
            }
            let bit = self.free.trailing_zeros() as usize;
            self.free &= self.free - 1;
            let index = self.page * PAGE + bit;
            if self.slots[index].n_uses < USES_MAX {
                return Some(index);
            }
            // Used up: its room is another one's.
            self.pages[self.page].usable &= !(1 << bit);
            slots_left.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next page becomes the one that is being filled.
    fn look_for_free(&mut self, removed: &RemovedWords) {
        self.page = self.next_look;
        self.free = self.free_in(removed, self.page);
        self.n_free_before += self.free.count_ones() as usize;
        self.next_look += 1;
        if self.next_look == self.pages.len() {
            self.next_look = 0;
            let n_free = std::mem::take(&mut self.n_free_before);
            self.is_half_free = n_free * 2 >= self.slots.len();
        }
    }

    /// Makes so many slots in a page, or some less: how many.
    fn grow(&mut self, removed: &RemovedWords, n_slots: usize) -> usize {
        let mut usable = 0;
        while usable == 0 {
            self.page = self.given_back.pop().unwrap_or(self.pages.len());
            if self.page == self.pages.len() {
                removed.make(self.page);
                let n_slots = self.slots.len() + PAGE;
                self.slots.resize(n_slots, Slot::default());
                self.pages.push(Page::default());
            }
            // One that was given back has used up ones, or nothing else.
            let slots = self.slots[self.page * PAGE..].iter().take(PAGE);
            let fresh = slots.enumerate().filter(|(_, slot)| slot.n_uses < USES_MAX);
            usable = fresh.take(n_slots).map(|(bit, _)| 1 << bit).sum();
        }
        self.pages[self.page].usable = usable;
        self.free = usable;
        usable.count_ones() as usize
    }

    /// Gives back the slots of pages in which all are free: how many.
    fn give_back(&mut self, removed: &RemovedWords) -> usize {
        let mut n_slots = 0;
        for page in 0..self.pages.len() {
            let usable = self.pages[page].usable;
            if usable != 0 && self.free_in(removed, page) == usable {
                self.pages[page].usable = 0;
                self.given_back.push(page);
                n_slots += usable.count_ones() as usize;
                if page == self.page {
                    self.free = 0;
                }
            }
        }
        n_slots
    }

    /// Takes a free slot for a task; how often it was used before.
    fn put(&mut self, index: usize, task: TaskRef) -> u32 {
        let slot = &mut self.slots[index];
        let n_uses = slot.n_uses;
        slot.task = Some(task);
        slot.n_uses += 1;
        let page = &mut self.pages[index / PAGE];
        page.added ^= 1 << (index % PAGE);
        n_uses
    }

    /// Calls `body` with those tasks of a page that are in `slots`. None of them is
    /// freed meanwhile.
    fn look_at(
        &self,
        removed: &RemovedWords,
        page: usize,
        slots: u32,
        mut body: impl FnMut(TaskRef),
    ) {
        let word = removed.get(page);
        let removed = word.fetch_or(LOOKED_AT, Ordering::AcqRel) as u32;
        let mut taken = (self.pages[page].added ^ removed) & slots;
        while taken != 0 {
            let index = page * PAGE + taken.trailing_zeros() as usize;
            taken &= taken - 1;
            if let Some(task) = self.slots[index].task {
                body(task);
            }
        }
        word.fetch_and(!LOOKED_AT, Ordering::Release);
    }
}

impl Registry {
    /// `n_others`: shards for threads that are no vCPU.
    pub(crate) fn new(n_vcpus: usize, n_others: usize, coroutines_max: usize) -> Registry {
        let n_shards = n_vcpus + n_others;
        assert!(n_shards <= 1 << SHARD_BITS, "shards are numbered by 8 bits");
        let number = N_REGISTRIES.fetch_add(1, Ordering::Relaxed);
        let first_use = number.wrapping_mul(FIRST_USES_APART) % u64::from(USES_MAX);
        let shard = || Shard {
            slots: Mutex::default(),
            n_added: AtomicU64::new(0),
            removed: RemovedWords::default(),
            n_ended: CachePadded::new(AtomicU64::new(0)),
        };
        Registry {
            shards: (0..n_shards).map(|_| CachePadded::new(shard())).collect(),
            n_vcpus,
            coroutines_max,
            slots_left: CachePadded::new(AtomicUsize::new(coroutines_max)),
            next_look: Mutex::default(),
            first_use: first_use as u32,
        }
    }

    /// Adds the task that `make` makes, and gives it its id; `None`, without
    /// making one, if as many live as may.
    pub(crate) fn add(&self, shard: usize, make: impl FnOnce() -> TaskRef) -> Option<TaskRef> {
        let place = &self.shards[shard];
        let mut slots = place.slots.lock();
        let found = slots
            .find_free(place, &self.slots_left, false)
            .or_else(|| self.find_free_in_new(place, &mut slots));
        if let Some(index) = found {
            return Some(self.put(shard, &mut slots, index, make));
        }
        drop(slots);
        self.add_at_limit(shard, make)
    }

    fn find_free_in_new(&self, place: &Shard, slots: &mut Slots) -> Option<usize> {
        let mut n_slots = 0;
        let _ = self
            .slots_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                n_slots = left.min(PAGE);
                (n_slots > 0).then(|| left - n_slots)
            });
        if n_slots == 0 {
            return None;
        }
        let n_made = slots.grow(&place.removed, n_slots);
        let rest = n_slots - n_made;
        self.slots_left.fetch_add(rest, Ordering::Relaxed);
        slots.find_free(place, &self.slots_left, false)
    }

    /// All slots have been made, and none was seen free here.
    #[cold]
    fn add_at_limit(&self, shard: usize, make: impl FnOnce() -> TaskRef) -> Option<TaskRef> {
        // In one order, and nobody else takes two.
        let shards = self.shards.iter();
        let mut all: Vec<_> = shards.map(|shard| shard.slots.lock()).collect();
        // Nobody adds now: so many there were when the first end was read.
        if self.count() >= self.coroutines_max {
            return None;
        }
        for (place, slots) in self.shards.iter().zip(&mut all) {
            let n_slots = slots.give_back(&place.removed);
            self.slots_left.fetch_add(n_slots, Ordering::Relaxed);
        }
        if let Some(index) = self.find_free_in_new(&self.shards[shard], &mut all[shard]) {
            return Some(self.put(shard, &mut all[shard], index, make));
        }
        // Beside others that live.
        let mut slots = self.shards.iter().zip(&mut all).enumerate();
        let found = slots.find_map(|(shard, (place, slots))| {
            let index = slots.find_free(place, &self.slots_left, true)?;
            Some((shard, index))
        });
        found.map(|(shard, index)| self.put(shard, &mut all[shard], index, make))
    }

    fn put(
        &self,
        shard: usize,
        slots: &mut Slots,
        index: usize,
        make: impl FnOnce() -> TaskRef,
    ) -> TaskRef {
        let task = make();
        let n_uses = slots.put(index, task);
        let name = (self.first_use + n_uses) % USES_MAX + 1;
        let id = u64::from(name) << (SHARD_BITS + SLOT_BITS)
            | (index as u64) << SHARD_BITS
            | shard as u64;
        task.header().id.store(id, Ordering::Relaxed);
        let n_added = &self.shards[shard].n_added;
        n_added.store(n_added.load(Ordering::Relaxed) + 1, Ordering::Release);
        task
    }

    /// Removes a task that is in it, and counts it as ended at `place`: a vCPU
    /// that this thread holds, or one for other threads. The registry's
    /// reference is then the caller's.
    #[inline]
    pub(crate) fn remove(&self, id: CoroutineId, place: usize) {
        let n_ended = &self.shards[place].n_ended;
        if place < self.n_vcpus {
            n_ended.store(n_ended.load(Ordering::Relaxed) + 1, Ordering::Release);
        } else {
            n_ended.fetch_add(1, Ordering::Release);
        }
        let (shard, index) = parts(id);
        let shard = &self.shards[shard];
        let word = shard.removed.get(index / PAGE);
        let before = word.fetch_xor(1 << (index % PAGE), Ordering::AcqRel);
        if before & LOOKED_AT != 0 {
            drop(shard.slots.lock());
        }
    }

    /// The task with this id, with a reference for the caller.
    pub(crate) fn find(&self, id: CoroutineId) -> Option<TaskRef> {
        let (shard, index) = parts(id);
        let place = self.shards.get(shard)?;
        let slots = place.slots.lock();
        slots.slots.get(index)?;
        let mut found = None;
        slots.look_at(&place.removed, index / PAGE, 1 << (index % PAGE), |task| {
            if task.header().id() == id {
                task.header().state.retain();
                found = Some(task);
            }
        });
        found
    }

    /// How many were ever added.
    pub(crate) fn n_added(&self) -> u64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.n_added.load(Ordering::Acquire))
            .sum()
    }

    /// How many were ended at a place.
    pub(crate) fn n_ended_at(&self, place: usize) -> u64 {
        self.shards[place].n_ended.load(Ordering::Acquire)
    }

    /// How many there are, for people: as [`count`](Self::count), but a reader
    /// that loses its CPU in the middle looks again.
    pub(crate) fn count_alive(&self) -> usize {
        const LOOKS: usize = 3;
        let looks = (0..LOOKS).map(|_| self.count());
        looks.min().unwrap_or(0)
    }

    /// How many there are, now and here and there; never less.
    pub(crate) fn count(&self) -> usize {
        let n_ended: u64 = (0..self.shards.len()).map(|i| self.n_ended_at(i)).sum();
        (self.n_added() - n_ended) as usize
    }

    /// Some tasks that `are_meant`, each once and with a reference for the
    /// caller; other ones at each call, and at a cost that does not grow with
    /// their number. No lock is held for longer than a page takes.
    pub(crate) fn some(&self, are_meant: impl Fn(TaskRef) -> bool) -> Vec<TaskRef> {
        let mut some = Vec::new();
        let mut next = self.next_look.lock();
        let (first_shard, first_page) = (next.shard, next.page);
        // The shard where the last look ended comes twice: its beginning, which
        // is behind that, at last.
        let mut shards_left = self.shards.len();
        let mut pages_left = SLOTS_A_LOOK / PAGE;
        while pages_left > 0 && some.len() + PAGE <= TASKS_A_LOOK {
            let place = &self.shards[next.shard];
            let slots = place.slots.lock();
            let is_last = shards_left == 0;
            let end = if is_last {
                first_page.min(slots.pages.len())
            } else {
                slots.pages.len()
            };
            if next.page < end {
                slots.look_at(&place.removed, next.page, u32::MAX, |task| {
                    if are_meant(task) {
                        task.header().state.retain();
                        some.push(task);
                    }
                });
                next.page += 1;
                pages_left -= 1;
                continue;
            }
            if is_last {
                debug_assert_eq!(next.shard, first_shard, "once around");
                break;
            }
            next.shard = (next.shard + 1) % self.shards.len();
            next.page = 0;
            shards_left -= 1;
        }
        some
    }

    /// All tasks, each with a reference for the caller. Looks at every page.
    pub(crate) fn all(&self) -> Vec<TaskRef> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let slots = shard.slots.lock();
            for page in 0..slots.pages.len() {
                slots.look_at(&shard.removed, page, u32::MAX, |task| {
                    task.header().state.retain();
                    all.push(task);
                });
            }
        }
        all
    }
}

fn parts(id: CoroutineId) -> (usize, usize) {
    let shard = (id.0 & ((1 << SHARD_BITS) - 1)) as usize;
    let index = (id.0 >> SHARD_BITS & ((1 << SLOT_BITS) - 1)) as usize;
    (shard, index)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::common::{oversubscribed, started};
    use crate::{CoroutineScheduler, SchedulerConfig};

    use super::*;

    /// A scheduler of one vCPU, with so many coroutines that never end.
    fn with_waiting(count: usize) -> CoroutineScheduler {
        let config = SchedulerConfig {
            vcpu_count: 1,
            ..SchedulerConfig::default()
        };
        let scheduler = CoroutineScheduler::new(config).unwrap();
        for _ in 0..count {
            drop(scheduler.spawn(std::future::pending::<()>()).unwrap());
        }
        scheduler
    }

    /// The 16,777,215 uses of a slot, but for those in the middle.
    #[test]
    fn an_id_comes_once_however_many_are_spawned() {
        const N_SPAWNS: usize = 100;
        for _ in 0..3 {
            // Each registry begins elsewhere.
            let scheduler = with_waiting(0);
            let registry = &scheduler.shared().registry;
            let mut ids = std::collections::BTreeSet::new();
            for i in 0..N_SPAWNS {
                if i == N_SPAWNS / 2 {
                    // As after so many spawns more.
                    let mut skipped = 0;
                    for shard in &registry.shards {
                        for slot in &mut shard.slots.lock().slots {
                            if slot.n_uses > 0 {
                                slot.n_uses = USES_MAX - 1;
                                skipped += 1;
                            }
                        }
                    }
                    assert!(skipped > 0, "they were used");
                }
                let handle = scheduler.spawn(async {}).unwrap();
                assert!(ids.insert(handle.id()), "{i}: {} came before", handle.id());
                let n_alive = ids
                    .iter()
                    .filter(|id| registry.find(**id).map(crate::Coroutine::new).is_some());
                assert_eq!(n_alive.count(), 1);
                assert_eq!(scheduler.run_one(), Some(handle.id()));
            }
            assert_eq!(registry.count(), 0);
        }
    }

    fn limited(coroutines_max: usize) -> CoroutineScheduler {
        let config = SchedulerConfig {
            vcpu_count: 1,
            max_coroutines: coroutines_max,
            ..SchedulerConfig::default()
        };
        CoroutineScheduler::new(config).unwrap()
    }

    fn n_pages(registry: &Registry) -> usize {
        let shards = registry.shards.iter();
        shards.map(|shard| shard.slots.lock().pages.len()).sum()
    }

    #[test]
    fn a_used_up_slot_leaves_its_room_to_another() {
        let scheduler = limited(1);
        let registry = &scheduler.shared().registry;
        let use_once = || {
            let handle = scheduler.spawn(async {}).unwrap();
            let refused = scheduler.spawn(async {});
            refused.expect_err("there is one already");
            assert_eq!(scheduler.run_one(), Some(handle.id()));
        };
        for _ in 0..5 {
            use_once();
            let shards = registry.shards.iter().map(|shard| shard.slots.lock());
            for mut slots in shards {
                for slot in &mut slots.slots {
                    if slot.n_uses > 0 {
                        slot.n_uses = USES_MAX - 1;
                    }
                }
            }
            // The last one that it has.
            use_once();
        }
    }

    /// However many live long, what comes and goes needs few slots.
    #[test]
    fn pages_are_used_again_behind_full_ones() {
        for n_pending in [0, 1, 31, 128, 1000] {
            let scheduler = with_waiting(n_pending);
            while scheduler.run_one().is_some() {}
            for _ in 0..10_000 {
                let handle = scheduler.spawn(async {}).unwrap();
                assert_eq!(scheduler.run_one(), Some(handle.id()));
            }
            let n_pages = n_pages(&scheduler.shared().registry);
            let n_full = n_pending.div_ceil(PAGE);
            assert!(n_pages <= 2 * n_full + 4, "{n_pages} beside {n_full}");
        }
    }

    /// What one shard had at its peak is there for others.
    #[test]
    fn slots_go_to_the_shard_that_needs_them() {
        const MAX: usize = 10 * PAGE;
        let scheduler = limited(MAX);
        for _ in 0..MAX {
            drop(scheduler.spawn(async {}).unwrap());
        }
        scheduler.spawn(async {}).expect_err("all are there");
        while scheduler.run_one().is_some() {}
        // In the vCPU's shard, all but the one that spawns them.
        let spawner = scheduler.spawn(async {
            for _ in 1..MAX {
                drop(crate::spawn(std::future::pending::<()>()).unwrap());
            }
            crate::spawn(async {}).expect_err("all are there");
        });
        assert_eq!(scheduler.run_one(), Some(spawner.unwrap().id()));
        let registry = &scheduler.shared().registry;
        let shards = registry.shards.iter();
        let n_made: Vec<u32> = shards
            .map(|shard| {
                let slots = shard.slots.lock();
                slots
                    .pages
                    .iter()
                    .map(|page| page.usable.count_ones())
                    .sum()
            })
            .collect();
        assert_eq!(n_made.iter().sum::<u32>(), MAX as u32);
        assert!(n_made[0] as usize >= MAX - PAGE, "{n_made:?}");
    }

    /// A place that somebody has left is found, wherever it is.
    #[test]
    fn who_keeps_to_the_limit_is_never_refused() {
        const MAX: usize = 2;
        const N_THREADS: usize = 4;
        let scheduler = started(SchedulerConfig {
            max_coroutines: MAX,
            ..oversubscribed(2)
        });
        let n_alive = std::sync::Mutex::new(0);
        let one_less = std::sync::Condvar::new();
        std::thread::scope(|scope| {
            for _ in 0..N_THREADS {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let alive = n_alive.lock().unwrap();
                        let mut alive = one_less.wait_while(alive, |n| *n == MAX).unwrap();
                        *alive += 1;
                        drop(alive);
                        scheduler.spawn(async {}).unwrap().join().unwrap();
                        *n_alive.lock().unwrap() -= 1;
                        one_less.notify_one();
                    }
                });
            }
        });
    }

    #[test]
    fn looks_are_bounded_and_see_all_in_turn() {
        const COUNT: usize = 3 * TASKS_A_LOOK + 7;
        let scheduler = with_waiting(COUNT);
        let registry = &scheduler.shared().registry;
        let ids_of = |are_meant: &dyn Fn(TaskRef) -> bool| -> Vec<_> {
            let some = registry.some(are_meant).into_iter();
            some.map(|task| crate::Coroutine::new(task).id()).collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let ids = ids_of(&|_| true);
            assert!(ids.len() <= TASKS_A_LOOK);
            seen.extend(ids);
        }
        assert_eq!(seen.len(), COUNT);
        assert_eq!(ids_of(&|_| false), []);
    }

    /// However few there are and wherever the last look ended.
    #[test]
    fn a_look_gives_no_task_twice() {
        const COUNT: usize = 100;
        let scheduler = with_waiting(COUNT);
        let registry = &scheduler.shared().registry;
        for page in 0..=COUNT.div_ceil(PAGE) {
            for shard in 0..registry.shards.len() {
                *registry.next_look.lock() = Place { shard, page };
                let some = registry.some(|_| true);
                let ids: Vec<_> = some
                    .into_iter()
                    .map(|task| crate::Coroutine::new(task).id())
                    .collect();
                let different: std::collections::BTreeSet<_> = ids.iter().collect();
                assert_eq!((ids.len(), different.len()), (COUNT, COUNT));
            }
        }
    }
}
