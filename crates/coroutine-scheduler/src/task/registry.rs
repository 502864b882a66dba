//! All coroutines of a scheduler that are not done: for lookups by id, limits,
//! listings and shutdown.
//!
//! Sharded, so that vCPUs seldom meet at a lock: one shard per vCPU and some
//! for other threads. An id names shard and slot, and which
//! of the slot's tasks is meant; the task itself knows its id. A slot that has
//! had as many tasks as ids can tell apart gets no more: no id comes twice.
//! Permits for `max_coroutines` lie in the shards in small heaps, and in the
//! middle; who finds none anywhere is refused.

use std::sync::atomic::AtomicU64;

use crossbeam_utils::CachePadded;

use super::raw::TaskRef;
use crate::coroutine::CoroutineId;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// Limit of `max_coroutines`: slots are numbered by 32 bits.
pub(crate) const COROUTINES_MAX: usize = 1 << 31;

/// Permits that a shard takes from the middle at once.
const PERMITS: usize = 32;

const SHARD_BITS: u32 = 8;
const SLOT_BITS: u32 = 32;
/// Tasks that a slot has in all, so many as the 24 bits left tell apart; none
/// of them is 0.
const USES_MAX: u32 = (1 << 24) - 1;

/// Tasks that [`Registry::some`] gives at most, and slots that it looks at.
const TASKS_A_LOOK: usize = 256;
const SLOTS_A_LOOK: usize = 1 << 14;
/// Slots that it looks at before it lets go of their shard's lock: each may be
/// a miss of the caches, and spawns wait meanwhile.
const SLOTS_A_LOCK: usize = 64;

#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[CachePadded<Shard>]>,
    permits_left: CachePadded<AtomicUsize>,
    next_look: Mutex<Place>,
    /// Where each slot's uses begin to be numbered.
    first_use: u32,
}

#[derive(Debug, Default)]
struct Place {
    shard: usize,
    slot: usize,
}

/// Of this process; no model's, so not from `sync`.
static N_REGISTRIES: AtomicU64 = AtomicU64::new(0);

/// Between the first uses of two schedulers: the golden ratio of the 24 bits
/// that there are, by which many in a row stay far from each other.
const FIRST_USES_APART: u64 = 0x9e_3779;

#[derive(Debug)]
struct Shard {
    slots: Mutex<Slots>,
    /// Coroutines in it; written under the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    first_free: Option<u32>,
    permits: usize,
}

/// A task, or the next free slot and how often this one was used.
#[derive(Debug)]
enum Slot {
    Task(TaskRef),
    Free { next: Option<u32>, n_uses: u32 },
}

impl Registry {
    pub(crate) fn new(n_shards: usize, coroutines_max: usize) -> Registry {
        assert!(n_shards <= 1 << SHARD_BITS, "shards are numbered by 8 bits");
        let number = N_REGISTRIES.fetch_add(1, Ordering::Relaxed);
        let first_use = number.wrapping_mul(FIRST_USES_APART) % u64::from(USES_MAX);
        let shard = || Shard {
            slots: Mutex::default(),
            count: AtomicUsize::new(0),
        };
        Registry {
            shards: (0..n_shards).map(|_| CachePadded::new(shard())).collect(),
            permits_left: CachePadded::new(AtomicUsize::new(coroutines_max)),
            next_look: Mutex::default(),
            first_use: first_use as u32,
        }
    }

    /// Adds the task that `make` makes, and gives it its id; `None`, without
    /// making one, if as many live as may.
    pub(crate) fn add(&self, shard: usize, make: impl FnOnce() -> TaskRef) -> Option<TaskRef> {
        let mut slots = self.shards[shard].slots.lock();
        if slots.permits == 0 {
            slots.permits = self.take_permits();
            if slots.permits == 0 {
                drop(slots);
                // What lies unused elsewhere counts, too.
                if !self.take_permit_elsewhere() {
                    return None;
                }
                slots = self.shards[shard].slots.lock();
                slots.permits += 1;
            }
        }
        slots.permits -= 1;
        let task = make();
        self.insert(shard, slots, task);
        Some(task)
    }

    #[cold]
    fn take_permit_elsewhere(&self) -> bool {
        self.shards.iter().any(|shard| {
            let mut slots = shard.slots.lock();
            let has_one = slots.permits > 0;
            slots.permits -= usize::from(has_one);
            has_one
        })
    }

    fn take_permits(&self) -> usize {
        let mut taken = 0;
        let _ = self
            .permits_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                taken = left.min(PERMITS);
                (taken > 0).then(|| left - taken)
            });
        taken
    }

    fn insert(&self, shard: usize, mut slots: MutexGuard<'_, Slots>, task: TaskRef) {
        let place = &self.shards[shard];
        let (index, n_uses) = match slots.first_free {
            Some(index) => {
                let slot = std::mem::replace(&mut slots.slots[index as usize], Slot::Task(task));
                let Slot::Free { next, n_uses } = slot else {
                    unreachable!("the list of free slots has free slots")
                };
                slots.first_free = next;
                (index, n_uses)
            }
            None => {
                slots.slots.push(Slot::Task(task));
                (slots.slots.len() as u32 - 1, 0)
            }
        };
        let id = u64::from(self.name_of_use(n_uses)) << (SHARD_BITS + SLOT_BITS)
            | u64::from(index) << SHARD_BITS
            | shard as u64;
        task.header().id.store(id, Ordering::Relaxed);
        let count = place.count.load(Ordering::Relaxed) + 1;
        place.count.store(count, Ordering::Relaxed);
    }

    /// What ids say of a slot's use, the first of which is 0.
    fn name_of_use(&self, n_uses: u32) -> u32 {
        (self.first_use + n_uses) % USES_MAX + 1
    }

    /// How often the slot of an id was used up to that one, itself counted.
    fn uses_up_to(&self, id: CoroutineId) -> u32 {
        let name = (id.0 >> (SHARD_BITS + SLOT_BITS)) as u32;
        (name - 1 + USES_MAX - self.first_use) % USES_MAX + 1
    }

    /// Removes a task that is in it. The registry's reference is then the
    /// caller's.
    pub(crate) fn remove(&self, id: CoroutineId) {
        let (shard, index) = parts(id);
        let place = &self.shards[shard];
        let mut slots = place.slots.lock();
        let n_uses = self.uses_up_to(id);
        let next = if n_uses < USES_MAX {
            slots.first_free.replace(index as u32)
        } else {
            // Used up: in no list.
            None
        };
        slots.slots[index] = Slot::Free { next, n_uses };
        slots.permits += 1;
        if slots.permits > 2 * PERMITS {
            slots.permits -= PERMITS;
            self.permits_left.fetch_add(PERMITS, Ordering::Relaxed);
        }
        let count = place.count.load(Ordering::Relaxed) - 1;
        // Who sees that none is left sees what the tasks did before they went.
        place.count.store(count, Ordering::Release);
    }

    /// The task with this id, with a reference for the caller.
    pub(crate) fn find(&self, id: CoroutineId) -> Option<TaskRef> {
        let (shard, index) = parts(id);
        let slots = self.shards.get(shard)?.slots.lock();
        let &Slot::Task(task) = slots.slots.get(index)? else {
            return None;
        };
        // Under the lock the registry's own reference is there.
        (task.header().id() == id).then(|| {
            task.header().state.retain();
            task
        })
    }

    /// How many there are, now and here and there.
    pub(crate) fn count(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.count.load(Ordering::Acquire))
            .sum()
    }

    /// Some tasks that `are_meant`, each once and with a reference for the
    /// caller; other ones at each call, and at a cost that does not grow with
    /// their number. No lock is held for long.
    pub(crate) fn some(&self, are_meant: impl Fn(TaskRef) -> bool) -> Vec<TaskRef> {
        let mut some = Vec::new();
        let mut slots_left = SLOTS_A_LOOK;
        let mut next = self.next_look.lock();
        let (first_shard, first_slot) = (next.shard, next.slot);
        // The shard where the last look ended comes twice: its beginning, which
        // is behind that, at last.
        let mut shards_left = self.shards.len();
        while slots_left > 0 && some.len() < TASKS_A_LOOK {
            let slots = self.shards[next.shard].slots.lock();
            let is_last = shards_left == 0;
            let end = if is_last {
                first_slot.min(slots.slots.len())
            } else {
                slots.slots.len()
            };
            let from = next.slot.min(end);
            let to = end.min(from + SLOTS_A_LOCK.min(slots_left));
            next.slot = to;
            for (index, slot) in (from..to).zip(&slots.slots[from..to]) {
                if let &Slot::Task(task) = slot
                    && are_meant(task)
                {
                    task.header().state.retain();
                    some.push(task);
                    if some.len() == TASKS_A_LOOK {
                        next.slot = index + 1;
                        break;
                    }
                }
            }
            slots_left -= to - from;
            let is_at_end = next.slot == end;
            drop(slots);
            if is_at_end && is_last {
                debug_assert_eq!(next.shard, first_shard, "once around");
                break;
            }
            if is_at_end {
                next.shard = (next.shard + 1) % self.shards.len();
                next.slot = 0;
                shards_left -= 1;
            }
        }
        some
    }

    /// All tasks, each with a reference for the caller.
    pub(crate) fn all(&self) -> Vec<TaskRef> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let slots = shard.slots.lock();
            for slot in &slots.slots {
                if let &Slot::Task(task) = slot {
                    task.header().state.retain();
                    all.push(task);
                }
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
                            if let Slot::Free { n_uses, .. } = slot {
                                *n_uses = USES_MAX - 10;
                                skipped += 1;
                            }
                        }
                    }
                    assert_eq!(skipped, 1, "one slot is used again and again");
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
        for slot in 0..=COUNT {
            for shard in 0..registry.shards.len() {
                *registry.next_look.lock() = Place { shard, slot };
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
