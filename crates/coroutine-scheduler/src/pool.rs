//! [`CoroutinePool`]: a bounded set of stackful coroutines that share what is
//! costly to make.
//!
//! Stacks are reused by the scheduler anyway ([`stack`](crate::stack)). A pool
//! adds a bound of its own, something of the user's that each coroutine works
//! with and the next one finds again (a *kit*: buffers, a parser, an
//! interpreter), and an account of who is alive.
//!
//! ```
//! use coroutine_scheduler::{CoroutinePool, CoroutineScheduler, PoolConfig, SchedulerConfig};
//!
//! let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
//! scheduler.start()?;
//! let pool = CoroutinePool::with_factory(
//!     scheduler.handle(),
//!     PoolConfig::default(),
//!     || Vec::<u64>::with_capacity(1024),
//! );
//! for n in 1..=3 {
//!     let sum = pool.spawn(move |numbers| {
//!         numbers.clear();
//!         numbers.extend(1..=n);
//!         numbers.iter().sum::<u64>()
//!     })?;
//!     assert_eq!(sum.join()?, n * (n + 1) / 2);
//! }
//! assert_eq!(pool.stats().made, 1, "one after another, they share one");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A kit goes to the coroutine that starts, and back when its body returns. It
//! is dropped where the body panics or is aborted: nobody knows in which state
//! it is then. The one that came back last is the next one given.
//!
//! The pool's lock is taken when a coroutine starts and when it ends, not at the
//! spawn. A coroutine is *active* from the spawn to its end.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::coroutine::{CoroutineId, CoroutineInfo};
use crate::error::SpawnError;
use crate::{JoinHandle, SchedulerHandle, SpawnOptions, clock, vcpu};

/// What a pool allows and keeps.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Coroutines alive at once; a spawn beyond that is refused. Default
    /// 100,000.
    pub active_max: usize,
    /// Kits kept while nobody works with them. Default 256.
    pub idle_max: usize,
    /// Kits that nobody has worked with for this long are dropped, when
    /// something ends or [`CoroutinePool::trim`] is called. Default 10 s.
    pub idle_time: Duration,
    /// How each coroutine is spawned.
    pub options: SpawnOptions,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig {
            active_max: 100_000,
            idle_max: 256,
            idle_time: Duration::from_secs(10),
            options: SpawnOptions::new(),
        }
    }
}

/// A pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Coroutines that have been spawned and have not ended.
    pub active: usize,
    /// Kits that nobody works with.
    pub idle: usize,
    /// Coroutines spawned so far.
    pub spawned: u64,
    /// Kits that the factory made.
    pub made: u64,
    /// Times that a coroutine got a kit that another had used.
    pub reused: u64,
    /// Kits dropped because they were not needed for long, or too many.
    pub trimmed: u64,
    /// Kits dropped because their coroutine panicked or was aborted.
    pub spoilt: u64,
}

impl PoolStats {
    /// Kits in all, idle or not; at most, since those that have not started
    /// have none yet.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.active + self.idle
    }
}

/// See the [module](self). Clones are the same pool; dropping it leaves its
/// coroutines running.
pub struct CoroutinePool<K = ()> {
    handle: SchedulerHandle,
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    config: PoolConfig,
    factory: Box<dyn Fn() -> K + Send + Sync>,
    n_active: AtomicUsize,
    n_spawned: AtomicU64,
    kits: Mutex<Kits<K>>,
}

struct Kits<K> {
    /// With when it came back; the last at the end.
    idle: Vec<(u64, K)>,
    /// Coroutines that have started, in places that stay theirs.
    started: Vec<Option<CoroutineId>>,
    free_places: Vec<usize>,
    stats: PoolStats,
}

impl CoroutinePool<()> {
    /// A pool of coroutines that need nothing but a stack.
    #[must_use]
    pub fn new(handle: SchedulerHandle, config: PoolConfig) -> CoroutinePool<()> {
        CoroutinePool::with_factory(handle, config, || ())
    }
}

impl<K: Send + 'static> CoroutinePool<K> {
    /// A pool whose coroutines work with what `factory` makes. It is called on
    /// a coroutine's stack, so it may wait, when there is no idle kit.
    #[must_use]
    pub fn with_factory(
        handle: SchedulerHandle,
        config: PoolConfig,
        factory: impl Fn() -> K + Send + Sync + 'static,
    ) -> CoroutinePool<K> {
        let inner = Arc::new(Inner {
            config,
            factory: Box::new(factory),
            n_active: AtomicUsize::new(0),
            n_spawned: AtomicU64::new(0),
            kits: Mutex::new(Kits {
                idle: Vec::new(),
                started: Vec::new(),
                free_places: Vec::new(),
                stats: PoolStats::default(),
            }),
        });
        CoroutinePool { handle, inner }
    }

    /// Spawns a stackful coroutine of the pool: see
    /// [`SchedulerHandle::spawn_stackful`].
    ///
    /// # Errors
    /// If the pool or the scheduler has too many, there is no stack, or the
    /// scheduler shuts down.
    ///
    /// # Panics
    /// If the pool's options pin it to a vCPU that does not exist.
    #[track_caller]
    pub fn spawn<T, F>(&self, body: F) -> Result<JoinHandle<T>, SpawnError>
    where
        F: FnOnce(&mut K) -> T + Send + 'static,
        T: Send + 'static,
    {
        let location = Location::caller();
        let inner = Arc::clone(&self.inner);
        let limit = inner.config.active_max;
        let before = inner.n_active.fetch_add(1, Ordering::Relaxed);
        // Counted down again by its drop, wherever that happens.
        let active = Active(inner);
        if before >= limit {
            return Err(SpawnError::PoolFull { limit });
        }
        let options = self.inner.config.options.clone();
        let spawned = self.handle.spawn_stackful_at(options, location, move || {
            let mut job = active.begin();
            let output = body(&mut job.kit);
            job.end();
            output
        })?;
        self.inner.n_spawned.fetch_add(1, Ordering::Relaxed);
        Ok(spawned)
    }

    /// What it has and had.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let kits = self.inner.kits.lock();
        PoolStats {
            active: self.inner.n_active.load(Ordering::Relaxed),
            idle: kits.idle.len(),
            spawned: self.inner.n_spawned.load(Ordering::Relaxed),
            ..kits.stats
        }
    }

    /// Drops all idle kits and takes the memory of all unused stacks of the
    /// scheduler; gives how many kits it dropped.
    pub fn trim(&self) -> usize {
        let dropped = {
            let mut kits = self.inner.kits.lock();
            let dropped = std::mem::take(&mut kits.idle);
            kits.stats.trimmed += dropped.len() as u64;
            dropped
        };
        self.handle.trim_stacks();
        dropped.len()
    }

    /// Its coroutines that nothing can wake any more: they wait, and no waker
    /// of theirs exists. Name and spawn site are in their info. Abort them to
    /// have their stacks back.
    #[must_use]
    pub fn leaks(&self) -> Vec<CoroutineInfo> {
        let leaked = self.handle.leaked();
        if leaked.is_empty() {
            return leaked;
        }
        let mut own: Vec<CoroutineId> = {
            let kits = self.inner.kits.lock();
            kits.started.iter().copied().flatten().collect()
        };
        own.sort_unstable();
        let mut leaked = leaked;
        leaked.retain(|info| own.binary_search(&info.id).is_ok());
        leaked
    }
}

/// One active coroutine more, until it is dropped.
struct Active<K>(Arc<Inner<K>>);

impl<K> Drop for Active<K> {
    fn drop(&mut self) {
        self.0.n_active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K> Active<K> {
    /// On the coroutine's stack.
    fn begin(self) -> Job<K> {
        let id = vcpu::on_current(|local| Some(local.task.get()?.header().id())).flatten();
        let (place, kit) = {
            let mut kits = self.0.kits.lock();
            let place = kits.free_places.pop().unwrap_or(kits.started.len());
            if place == kits.started.len() {
                kits.started.push(None);
            }
            kits.started[place] = id;
            let kit = kits.idle.pop().map(|(_, kit)| kit);
            if kit.is_some() {
                kits.stats.reused += 1;
            } else {
                kits.stats.made += 1;
            }
            (place, kit)
        };
        let started = Started {
            active: self,
            place,
            has_left: false,
        };
        Job {
            kit: kit.unwrap_or_else(|| (started.active.0.factory)()),
            started,
        }
    }
}

/// A coroutine at work.
struct Job<K> {
    kit: K,
    started: Started<K>,
}

/// Its entry among those that have started.
struct Started<K> {
    active: Active<K>,
    place: usize,
    /// Whether the body has returned, and the entry is gone.
    has_left: bool,
}

impl<K> Job<K> {
    /// The body has returned: the kit goes back.
    fn end(self) {
        let Job { kit, mut started } = self;
        started.has_left = true;
        let inner = &*started.active.0;
        let now = clock::ticks();
        let old_ticks = clock::ns_to_ticks(inner.config.idle_time.as_nanos() as u64);
        let mut unneeded = Vec::new();
        {
            let mut kits = inner.kits.lock();
            kits.leave(started.place);
            kits.idle.push((now, kit));
            let n_old = match kits.idle.first() {
                Some((since, _)) if now.saturating_sub(*since) > old_ticks => kits
                    .idle
                    .partition_point(|(since, _)| now.saturating_sub(*since) > old_ticks),
                _ => 0,
            };
            let n_surplus = kits.idle.len().saturating_sub(inner.config.idle_max);
            let n_unneeded = n_old.max(n_surplus);
            if n_unneeded > 0 {
                kits.stats.trimmed += n_unneeded as u64;
                unneeded.extend(kits.idle.drain(..n_unneeded));
            }
        }
        // Dropped outside of the lock: kits are the user's.
        drop(unneeded);
    }
}

impl<K> Drop for Started<K> {
    fn drop(&mut self) {
        if !self.has_left {
            let mut kits = self.active.0.kits.lock();
            kits.leave(self.place);
            kits.stats.spoilt += 1;
        }
    }
}

impl<K> Kits<K> {
    fn leave(&mut self, place: usize) {
        self.started[place] = None;
        self.free_places.push(place);
    }
}

impl<K> Clone for CoroutinePool<K> {
    fn clone(&self) -> CoroutinePool<K> {
        CoroutinePool {
            handle: self.handle.clone(),
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Send + 'static> fmt::Debug for CoroutinePool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoroutinePool")
            .field("config", &self.inner.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
