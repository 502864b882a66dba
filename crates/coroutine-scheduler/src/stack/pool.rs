//! Which stack is whose: reuse, limits, and memory that goes back.
//!
//! A stack goes round: from its vCPU's cache to a coroutine and back. The cache
//! gives the one that came last, whose top is still in the processor's caches.
//! Those that nobody needed for a while give their memory back and go to the
//! depot, where every vCPU finds them.
//!
//! ```text
//!            take                      too many, or unused for long
//!   coroutine <───── warm (by vCPU) ────────────> depot: cold ──┐
//!            ─────>       ^                                     │ refill
//!             give        └── cold (by vCPU) <──────────────────┘
//! ```
//!
//! **Permits** are counted at the spawn, so that it is the spawn that fails
//! when there are too many; the stack itself is taken when the coroutine first
//! runs. Those that wait for their first turn thus share a few stacks.
//!
//! **Unused for long**: each cache keeps the least number of warm stacks it has
//! had in the present period. So many were not needed in all of it, and are
//! trimmed at its end: the oldest ones, since the youngest are taken first.
//! (A time for each stack would cost a clock reading each time.)
//!
//! Locks: a cache's, then the depot's; never two caches at once. The host is
//! asked to take memory with no cache locked, as that takes microseconds.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::slab::{Made, Slab};
use super::{Base, Slot, StackConfig, StackError, StackStats};

/// Stacks that a vCPU takes from the depot at once.
const REFILL: usize = 32;
/// Stacks that give their memory back at once: neighbours do so in one call.
const TRIM: usize = 64;
/// Looks for a stack that is on its way from one list to another.
const LOOKS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct StackPool {
    slab: Slab,
    caches: Box<[CachePadded<VcpuStacks>]>,
    depot: Mutex<Depot>,
    idle_stacks_max: usize,
    idle_time: Duration,
    period_start_ns: AtomicU64,
    n_trimmed: AtomicU64,
    n_lost: AtomicUsize,
    next_vcpu: AtomicUsize,
}

#[derive(Debug, Default)]
struct VcpuStacks {
    /// Stackful coroutines at it, started or not.
    n_live: AtomicUsize,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Used before; the one that came last at the end.
    warm: VecDeque<Slot>,
    /// Without memory.
    cold: Vec<Slot>,
    /// The least length of `warm` in this period.
    warm_min: usize,
    n_taken: u64,
    n_given: u64,
    n_reused: u64,
}

#[derive(Debug, Default)]
struct Depot {
    made: Made,
    cold: Vec<Slot>,
}

impl StackPool {
    /// For so many vCPUs; `idle_stacks_max` is for each of them.
    pub(crate) fn new(config: &StackConfig, n_vcpus: usize) -> Result<StackPool, StackError> {
        Ok(StackPool {
            slab: Slab::new(config)?,
            caches: (0..n_vcpus).map(|_| CachePadded::default()).collect(),
            depot: Mutex::default(),
            idle_stacks_max: config.idle_stacks_max,
            idle_time: config.idle_time,
            period_start_ns: AtomicU64::new(0),
            n_trimmed: AtomicU64::new(0),
            n_lost: AtomicUsize::new(0),
            next_vcpu: AtomicUsize::new(0),
        })
    }

    /// Counts one more coroutine; at `vcpu` if it has to be there, else where
    /// there are fewest, `here` if that is one of them.
    pub(crate) fn admit(
        &self,
        vcpu: Option<usize>,
        here: Option<usize>,
    ) -> Result<Permit<'_>, StackError> {
        let vcpu = vcpu.unwrap_or_else(|| self.least_loaded(here));
        let permit = Permit { pool: self, vcpu };
        self.caches[vcpu].n_live.fetch_add(1, Ordering::SeqCst);
        if self.n_live() > self.slab.n_slots() {
            return Err(self.slab.limit());
        }
        Ok(permit)
    }

    fn least_loaded(&self, here: Option<usize>) -> usize {
        let n_vcpus = self.caches.len();
        let first = here.unwrap_or_else(|| self.next_vcpu.fetch_add(1, Ordering::Relaxed));
        let order = (0..n_vcpus).map(|i| (first + i) % n_vcpus);
        let load = |vcpu: &usize| self.caches[*vcpu].n_live.load(Ordering::Relaxed);
        order.min_by_key(load).unwrap_or(0)
    }

    fn n_live(&self) -> usize {
        let live = self.caches.iter();
        live.map(|c| c.n_live.load(Ordering::SeqCst)).sum()
    }

    /// One coroutine less; undoes [`StackPool::admit`].
    #[inline]
    pub(crate) fn dismiss(&self, vcpu: usize) {
        self.caches[vcpu].n_live.fetch_sub(1, Ordering::Relaxed);
    }

    /// A stack for a coroutine that has been admitted.
    #[inline]
    pub(crate) fn take(&self, vcpu: usize) -> Result<(Slot, Base), StackError> {
        let mut cache = self.caches[vcpu].cache.lock();
        cache.n_taken += 1;
        let slot = if let Some(slot) = cache.warm.pop_back() {
            cache.warm_min = cache.warm_min.min(cache.warm.len());
            cache.n_reused += 1;
            slot
        } else {
            drop(cache);
            self.take_cold(vcpu).inspect_err(|_| {
                self.caches[vcpu].cache.lock().n_taken -= 1;
            })?
        };
        Ok((slot, self.slab.base(slot)))
    }

    #[cold]
    fn take_cold(&self, vcpu: usize) -> Result<Slot, StackError> {
        let mut n_looks = 0;
        loop {
            let refused = {
                let mut cache = self.caches[vcpu].cache.lock();
                let refilled = if cache.cold.is_empty() {
                    self.refill(&mut cache.cold)
                } else {
                    Ok(())
                };
                if let Some(slot) = cache.cold.pop() {
                    return Ok(slot);
                }
                refilled
            };
            for other in &self.caches {
                let mut cache = other.cache.lock();
                // The oldest: its owner needs it last.
                let slot = cache.cold.pop().or_else(|| cache.warm.pop_front());
                if let Some(slot) = slot {
                    cache.warm_min = cache.warm_min.min(cache.warm.len());
                    return Ok(slot);
                }
            }
            // Whoever is admitted finds one, if the host gives them: perhaps
            // another thread has it in hand, to trim it.
            n_looks += 1;
            if n_looks > LOOKS_MAX {
                return refused.and(Err(self.slab.limit()));
            }
            std::thread::yield_now();
        }
    }

    fn refill(&self, cold: &mut Vec<Slot>) -> Result<(), StackError> {
        let mut depot = self.depot.lock();
        let n_left = depot.cold.len().saturating_sub(REFILL);
        cold.extend(depot.cold.drain(n_left..));
        if cold.is_empty() {
            cold.push(self.slab.make(&mut depot.made)?);
            while cold.len() < REFILL
                && let Ok(slot) = self.slab.make(&mut depot.made)
            {
                cold.push(slot);
            }
        }
        // The lowest are used first: fewer page tables.
        cold.sort_unstable_by(|a, b| b.cmp(a));
        Ok(())
    }

    /// A stack whose coroutine has ended.
    #[inline]
    pub(crate) fn give(&self, vcpu: usize, slot: Slot) {
        let mut cache = self.caches[vcpu].cache.lock();
        cache.n_given += 1;
        cache.warm.push_back(slot);
        if cache.warm.len() > self.idle_stacks_max {
            let n_oldest = TRIM.min(cache.warm.len());
            let oldest = cache.warm.drain(..n_oldest).collect();
            cache.warm_min = cache.warm_min.min(cache.warm.len());
            drop(cache);
            self.cool(oldest);
        }
    }

    /// A stack that can neither be used again nor unmapped: what is on it could
    /// not be dropped.
    pub(crate) fn lose(&self) {
        self.slab.keep_forever();
        self.n_lost.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    fn cool(&self, mut slots: Vec<Slot>) {
        self.slab.discard(&mut slots);
        self.n_trimmed
            .fetch_add(slots.len() as u64, Ordering::Relaxed);
        self.depot.lock().cold.extend(slots);
    }

    /// Takes the memory of all unused stacks; gives how many had some.
    pub(crate) fn trim(&self) -> usize {
        self.trim_caches(|cache| cache.warm.len())
    }

    /// The same for those that were not needed in the last whole period, if it
    /// is over.
    pub(crate) fn trim_by_time(&self, now_ns: u64) -> usize {
        let start = self.period_start_ns.load(Ordering::Relaxed);
        if u128::from(now_ns.saturating_sub(start)) < self.idle_time.as_nanos() {
            return 0;
        }
        self.period_start_ns.store(now_ns, Ordering::Relaxed);
        self.trim_caches(|cache| cache.warm_min.min(cache.warm.len()))
    }

    fn trim_caches(&self, n_unneeded: impl Fn(&Cache) -> usize) -> usize {
        let mut n_trimmed = 0;
        for place in &self.caches {
            let oldest: Vec<Slot> = {
                let mut cache = place.cache.lock();
                let n = n_unneeded(&cache);
                let oldest = cache.warm.drain(..n).collect();
                cache.warm_min = cache.warm.len();
                oldest
            };
            n_trimmed += oldest.len();
            if !oldest.is_empty() {
                self.cool(oldest);
            }
        }
        n_trimmed
    }

    /// After how long somebody should call [`StackPool::trim_by_time`]; `None`
    /// if that would do nothing.
    pub(crate) fn trim_after(&self) -> Option<Duration> {
        let has_warm = |c: &CachePadded<VcpuStacks>| !c.cache.lock().warm.is_empty();
        self.caches.iter().any(has_warm).then_some(self.idle_time)
    }

    pub(crate) fn stats(&self) -> StackStats {
        let mut stats = StackStats {
            stack_bytes: self.slab.stack_bytes(),
            has_light_guards: self.slab.has_light_guards(),
            coroutines: self.n_live(),
            trimmed: self.n_trimmed.load(Ordering::Relaxed),
            lost: self.n_lost.load(Ordering::Relaxed),
            ..StackStats::default()
        };
        let mut given = stats.lost as u64;
        for place in &self.caches {
            let cache = place.cache.lock();
            stats.taken += cache.n_taken;
            stats.reused += cache.n_reused;
            stats.idle += cache.warm.len();
            given += cache.n_given;
        }
        stats.in_use = stats.taken.saturating_sub(given) as usize;
        stats.made = self.depot.lock().made.n_slots;
        stats
    }
}

/// One coroutine's place among those that may be alive.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    pool: &'a StackPool,
    vcpu: usize,
}

impl Permit<'_> {
    /// Where the coroutine has to run.
    pub(crate) fn vcpu(&self) -> usize {
        self.vcpu
    }

    /// The caller undoes the counting.
    pub(crate) fn into_parts(self) -> (NonNull<StackPool>, usize) {
        let permit = ManuallyDrop::new(self);
        (NonNull::from(permit.pool), permit.vcpu)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.pool.dismiss(self.vcpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(stacks_max: usize, idle_stacks_max: usize) -> StackPool {
        let config = StackConfig {
            stacks_max,
            idle_stacks_max,
            ..StackConfig::default()
        };
        StackPool::new(&config, 2).unwrap()
    }

    #[test]
    fn the_last_one_back_is_the_next_one_taken() {
        let pool = pool(10, 10);
        let (a, _) = pool.take(0).unwrap();
        let (b, _) = pool.take(0).unwrap();
        assert_ne!(a, b);
        pool.give(0, a);
        pool.give(0, b);
        assert_eq!(pool.take(0).unwrap().0, b);
        let stats = pool.stats();
        assert_eq!((stats.taken, stats.reused), (3, 1));
        assert_eq!((stats.in_use, stats.idle), (1, 1));
    }

    #[test]
    fn as_many_as_there_may_be_can_be_had() {
        let pool = pool(40, 10);
        let permits: Vec<_> = (0..40).map(|_| pool.admit(None, None).unwrap()).collect();
        let error = pool.admit(None, None).unwrap_err();
        assert_eq!(error, StackError::InUse { limit: 40 });
        let at_first = permits.iter().filter(|p| p.vcpu() == 0).count();
        assert_eq!(at_first, 20, "spread evenly");
        // Those that lie in the other vCPU's cache, too.
        let one = pool.take(1).unwrap().0;
        let mut all: Vec<_> = (0..39).map(|_| pool.take(0).unwrap().0).collect();
        all.push(one);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40);
        drop(permits);
        assert_eq!(pool.stats().coroutines, 0);
    }

    #[test]
    fn too_many_idle_ones_give_their_memory_back() {
        let pool = pool(1000, 100);
        let all: Vec<_> = (0..1000).map(|_| pool.take(0).unwrap().0).collect();
        for slot in all {
            pool.give(0, slot);
        }
        let stats = pool.stats();
        assert!(stats.idle <= 100, "{stats:?}");
        assert_eq!(stats.trimmed, 1000 - stats.idle as u64);
        assert_eq!(stats.in_use, 0);
    }

    #[test]
    fn what_a_whole_period_did_not_need_is_trimmed() {
        let pool = pool(100, 100);
        let period = 1_000_000_000;
        let all: Vec<_> = (0..10).map(|_| pool.take(0).unwrap().0).collect();
        for slot in all {
            pool.give(0, slot);
        }
        assert!(pool.trim_after().is_some());
        assert_eq!(pool.trim_by_time(period), 0, "they were in use in it");
        assert_eq!(pool.trim_by_time(period + 1), 0, "the next is not over");
        // Three at a time are needed in the second one.
        let some: Vec<_> = (0..3).map(|_| pool.take(0).unwrap().0).collect();
        for slot in some {
            pool.give(0, slot);
        }
        assert_eq!(pool.trim_by_time(2 * period), 7);
        assert_eq!(pool.trim_by_time(3 * period), 3);
        assert_eq!(pool.trim_after(), None);
    }
}
