//! All coroutines of a scheduler that are not done: for lookups by id, limits,
//! listings and shutdown.
//!
//! Sharded, so that vCPUs seldom meet at a lock: one shard per vCPU and some
//! for other threads. An id names shard and slot, and which
//! of the slot's tasks is meant; the task itself knows its id.
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

/// Tasks that [`Registry::some`] gives at most, and slots that it looks at.
const TASKS_A_LOOK: usize = 256;
const SLOTS_A_LOOK: usize = 1 << 14;

#[derive(Debug)]
pub(crate) struct Registry {
    shards: Box<[CachePadded<Shard>]>,
    permits_left: CachePadded<AtomicUsize>,
    next_look: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    shard: usize,
    slot: usize,
}

/// Of this process; no model's, so not from `sync`.
static N_REGISTRIES: AtomicU64 = AtomicU64::new(0);

/// Between the first ids of two schedulers: the golden ratio of the 24 bits
/// that there are, by which many in a row stay far from each other.
const FIRST_IDS_APART: u64 = 0x9e_3779;

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
    /// Tells a slot's tasks from each other in their ids.
    n_added: u64,
}

/// A task, or the next free slot.
#[derive(Debug)]
enum Slot {
    Task(TaskRef),
    Free { next: Option<u32> },
}

impl Registry {
    pub(crate) fn new(n_shards: usize, coroutines_max: usize) -> Registry {
        assert!(n_shards <= 1 << SHARD_BITS, "shards are numbered by 8 bits");
        let n_added = N_REGISTRIES.fetch_add(1, Ordering::Relaxed) * FIRST_IDS_APART;
        let shard = || Shard {
            slots: Mutex::new(Slots {
                n_added,
                ..Slots::default()
            }),
            count: AtomicUsize::new(0),
        };
        Registry {
            shards: (0..n_shards).map(|_| CachePadded::new(shard())).collect(),
            permits_left: CachePadded::new(AtomicUsize::new(coroutines_max)),
            next_look: Mutex::default(),
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
        let index = match slots.first_free {
            Some(index) => {
                let slot = std::mem::replace(&mut slots.slots[index as usize], Slot::Task(task));
                let Slot::Free { next } = slot else {
                    unreachable!("the list of free slots has free slots")
                };
                slots.first_free = next;
                index
            }
            None => {
                slots.slots.push(Slot::Task(task));
                slots.slots.len() as u32 - 1
            }
        };
        slots.n_added += 1;
        let id = slots.n_added << (SHARD_BITS + SLOT_BITS)
            | u64::from(index) << SHARD_BITS
            | shard as u64;
        task.header().id.store(id, Ordering::Relaxed);
        let count = place.count.load(Ordering::Relaxed) + 1;
        place.count.store(count, Ordering::Relaxed);
    }

    /// Removes a task that is in it. The registry's reference is then the
    /// caller's.
    pub(crate) fn remove(&self, id: CoroutineId) {
        let (shard, index) = parts(id);
        let place = &self.shards[shard];
        let mut slots = place.slots.lock();
        let next = slots.first_free.replace(index as u32);
        slots.slots[index] = Slot::Free { next };
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

    /// Some tasks that `are_meant`, each with a reference for the caller; other
    /// ones at each call, and at a cost that does not grow with their number.
    pub(crate) fn some(&self, are_meant: impl Fn(TaskRef) -> bool) -> Vec<TaskRef> {
        let mut some = Vec::new();
        let mut slots_left = SLOTS_A_LOOK;
        let mut next = self.next_look.lock();
        // The shard where the last look ended comes twice: its beginning, which
        // is behind that, at last.
        for _ in 0..=self.shards.len() {
            let slots = self.shards[next.shard].slots.lock();
            let from = next.slot.min(slots.slots.len());
            let to = slots.slots.len().min(from + slots_left);
            for (index, slot) in (from..to).zip(&slots.slots[from..to]) {
                if let &Slot::Task(task) = slot
                    && are_meant(task)
                {
                    task.header().state.retain();
                    some.push(task);
                    if some.len() == TASKS_A_LOOK {
                        next.slot = index + 1;
                        return some;
                    }
                }
            }
            slots_left -= to - from;
            if slots_left == 0 {
                next.slot = to;
                return some;
            }
            next.shard = (next.shard + 1) % self.shards.len();
            next.slot = 0;
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

    #[test]
    fn looks_are_bounded_and_see_all_in_turn() {
        const COUNT: usize = 3 * TASKS_A_LOOK + 7;
        let scheduler = CoroutineScheduler::new(SchedulerConfig {
            vcpu_count: 1,
            ..SchedulerConfig::default()
        })
        .unwrap();
        for _ in 0..COUNT {
            drop(scheduler.spawn(std::future::pending::<()>()).unwrap());
        }
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
}
