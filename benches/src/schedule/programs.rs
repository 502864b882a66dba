//! The programs schedulers are compared by, written once against [`Runtime`].
//!
//! `vm-benches` runs them on ours for the rows of the KPI table; the workspace
//! `benches/peers` includes this file and runs them on the others, too, so a
//! row and a ratio mean the same program. Each checks what it computed.
//!
//! | Program | One operation |
//! |---|---|
//! | [`yield_many`] | a future that is ready gives its turn to others that are |
//! | [`spawn_many`] | spawn, run and drop of a future, joined by the hundred |
//! | [`chained_spawn`] | a future spawns the next one and ends |
//! | [`ping_pong`] | one of two futures wakes the other and waits: a hop |
//! | [`skynet`] | a node of a tree with ten children each, joined: a leaf |
//! | [`remote_spawn`] | a thread that is no worker spawns a future that runs |
//! | [`wake_idle`] | spawn from outside until it runs, the pool being asleep |

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What the programs need of a scheduler.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Spawns; for code that the scheduler runs.
    fn spawn<F>(&self, body: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static;

    /// Spawns and lets go.
    fn detach<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// The same, for threads that are no workers.
    fn detach_from_outside<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// Gives up the turn.
    fn yield_now() -> impl Future<Output = ()> + Send;

    /// Runs on the workers and waits, on a thread that is none of them.
    fn block_on<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static;
}

/// Time that a number of operations took.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How many.
    pub ops: u64,
    /// Elapsed.
    pub wall: Duration,
    /// User and system time of the whole process.
    pub cpu: Duration,
}

impl Run {
    /// Measures `body`, which does `ops` operations and says whether what it
    /// computed is right.
    ///
    /// # Errors
    /// What `body` says is wrong.
    pub fn measure(ops: u64, body: impl FnOnce() -> Result<(), String>) -> Result<Run, String> {
        let (cpu, start) = (process_cpu(), Instant::now());
        body()?;
        let wall = start.elapsed();
        let cpu = process_cpu().saturating_sub(cpu);
        Ok(Run { ops, wall, cpu })
    }
}

/// CPU time of this process so far.
#[must_use]
pub fn process_cpu() -> Duration {
    cpu_of(ClockId::ProcessCPUTime)
}

/// CPU time of this thread so far.
#[must_use]
pub fn thread_cpu() -> Duration {
    cpu_of(ClockId::ThreadCPUTime)
}

fn cpu_of(clock: ClockId) -> Duration {
    // Neither clock runs backwards or starts before zero.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// `what` has to be as expected.
///
/// # Errors
/// If it is not.
pub fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}"))
}

/// A place for one value, and whoever waits for it. Deliberately the plainest
/// thing that can wake: the same lock for every scheduler, no allocation.
#[derive(Debug)]
pub struct Slot<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new((None, None)))
    }
}

impl<T> Slot<T> {
    /// Puts a value there, over any that nobody took.
    pub fn put(&self, value: T) {
        let waker = {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.0 = Some(value);
            slot.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for a value and takes it; for one at a time.
    pub fn take(&self) -> impl Future<Output = T> + '_ {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    match &mut slot.1 {
                        Some(waker) => waker.clone_from(cx.waker()),
                        place => *place = Some(cx.waker().clone()),
                    }
                    Poll::Pending
                }
            }
        })
    }
}

/// A future that names itself.
type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `tasks` futures that each give up their turn `yields` times.
///
/// # Errors
/// If not all of them did.
pub fn yield_many<R: Runtime>(runtime: &R, tasks: u64, yields: u64) -> Result<Run, String> {
    Run::measure(tasks * yields, || yield_all(runtime, tasks, yields))
}

/// The same, not measured.
///
/// # Errors
/// If not all of them did.
pub fn yield_all<R: Runtime>(runtime: &R, tasks: u64, yields: u64) -> Result<(), String> {
    let total = Arc::new(AtomicU64::new(0));
    let (inner, count) = (runtime.clone(), Arc::clone(&total));
    runtime.block_on(async move {
        let spawned: Vec<_> = (0..tasks)
            .map(|_| {
                let count = Arc::clone(&count);
                inner.spawn(async move {
                    for _ in 0..yields {
                        R::yield_now().await;
                    }
                    count.fetch_add(yields, Ordering::Relaxed);
                })
            })
            .collect();
        for task in spawned {
            task.await;
        }
    });
    expect("yields", total.load(Ordering::Relaxed), tasks * yields)
}

/// Futures that [`spawn_many`] joins at a time.
const BATCH: u64 = 100;

/// `tasks` empty futures, a hundred at a time.
///
/// # Errors
/// If not all of them ran.
pub fn spawn_many<R: Runtime>(runtime: &R, tasks: u64) -> Result<Run, String> {
    let tasks = tasks.next_multiple_of(BATCH);
    Run::measure(tasks, || spawn_all(runtime, tasks))
}

/// The same, not measured.
///
/// # Errors
/// If not all of them ran.
pub fn spawn_all<R: Runtime>(runtime: &R, tasks: u64) -> Result<(), String> {
    let ran = Arc::new(AtomicU64::new(0));
    let (inner, count) = (runtime.clone(), Arc::clone(&ran));
    let tasks = tasks.next_multiple_of(BATCH);
    runtime.block_on(async move {
        let mut batch = Vec::with_capacity(BATCH as usize);
        for _ in 0..tasks / BATCH {
            batch.extend((0..BATCH).map(|_| inner.spawn(async {})));
            let n_spawned = batch.len() as u64;
            for task in batch.drain(..) {
                task.await;
            }
            count.fetch_add(n_spawned, Ordering::Relaxed);
        }
    });
    expect("futures joined", ran.load(Ordering::Relaxed), tasks)
}

/// A chain of `length` futures, each of which spawns the next.
///
/// # Errors
/// If the last one is not the last one.
pub fn chained_spawn<R: Runtime>(runtime: &R, length: u64) -> Result<Run, String> {
    fn link<R: Runtime>(runtime: R, left: u64, at: u64, end: Arc<Slot<u64>>) -> Boxed {
        Box::pin(async move {
            if left == 0 {
                end.put(at);
            } else {
                let next = link(runtime.clone(), left - 1, at + 1, end);
                runtime.detach(next);
            }
        })
    }
    let last = Arc::new(AtomicU64::new(0));
    let (inner, seen) = (runtime.clone(), Arc::clone(&last));
    Run::measure(length, || {
        runtime.block_on(async move {
            let end = Arc::new(Slot::default());
            inner.detach(link(inner.clone(), length, 0, Arc::clone(&end)));
            seen.store(end.take().await, Ordering::Relaxed);
        });
        expect("links", last.load(Ordering::Relaxed), length)
    })
}

/// Two futures that wake each other in turn, `rounds` times there and back.
///
/// # Errors
/// If what comes back is not what went out.
pub fn ping_pong<R: Runtime>(runtime: &R, rounds: u64) -> Result<Run, String> {
    let sum = Arc::new(AtomicU64::new(0));
    let (inner, total) = (runtime.clone(), Arc::clone(&sum));
    Run::measure(2 * rounds, || {
        runtime.block_on(async move {
            let there = Arc::new(Slot::default());
            let back = Arc::new(Slot::default());
            let (inbox, outbox) = (Arc::clone(&there), Arc::clone(&back));
            let partner = inner.spawn(async move {
                for _ in 0..rounds {
                    let value: u64 = inbox.take().await;
                    outbox.put(value + 1);
                }
            });
            let mut sum = 0;
            for round in 0..rounds {
                there.put(round);
                sum += back.take().await;
            }
            partner.await;
            total.store(sum, Ordering::Relaxed);
        });
        let expected = rounds * (rounds + 1) / 2;
        expect("sum of answers", sum.load(Ordering::Relaxed), expected)
    })
}

/// A tree of futures, ten children to each, with `leaves` (a power of ten) at
/// its end that send their numbers up (github.com/atemerev/skynet).
///
/// # Errors
/// If the sum is wrong.
pub fn skynet<R: Runtime>(runtime: &R, leaves: u64) -> Result<Run, String> {
    fn node<R: Runtime>(runtime: R, first: u64, size: u64, up: Arc<AtomicU64>) -> Boxed {
        Box::pin(async move {
            if size == 1 {
                up.fetch_add(first, Ordering::Relaxed);
                return;
            }
            let (below, sum) = (size / 10, Arc::new(AtomicU64::new(0)));
            let mut children = Vec::with_capacity(10);
            for child in 0..10 {
                let child = node(
                    runtime.clone(),
                    first + child * below,
                    below,
                    Arc::clone(&sum),
                );
                children.push(runtime.spawn(child));
            }
            for child in children {
                child.await;
            }
            up.fetch_add(sum.load(Ordering::Relaxed), Ordering::Relaxed);
        })
    }
    let sum = Arc::new(AtomicU64::new(0));
    let root = node(runtime.clone(), 0, leaves, Arc::clone(&sum));
    Run::measure(leaves, || {
        runtime.block_on(root);
        let expected = leaves * (leaves - 1) / 2;
        expect("sum of leaves", sum.load(Ordering::Relaxed), expected)
    })
}

/// `spawners` threads that are no workers spawn `tasks` futures together; the
/// time ends when all of them have run.
///
/// # Errors
/// If too many of them ran.
pub fn remote_spawn<R: Runtime>(runtime: &R, spawners: u64, tasks: u64) -> Result<Run, String> {
    let tasks = tasks.next_multiple_of(spawners);
    let left = Arc::new(AtomicU64::new(tasks));
    // They wait for each other and for this thread: making threads is not part
    // of the program.
    let start = Arc::new(Barrier::new(spawners as usize + 1));
    let main = thread::current();
    let threads: Vec<_> = (0..spawners)
        .map(|_| {
            let (runtime, left, start) = (runtime.clone(), Arc::clone(&left), Arc::clone(&start));
            let main = main.clone();
            thread::spawn(move || {
                start.wait();
                for _ in 0..tasks / spawners {
                    let (left, main) = (Arc::clone(&left), main.clone());
                    runtime.detach_from_outside(async move {
                        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                            main.unpark();
                        }
                    });
                }
            })
        })
        .collect();
    let run = Run::measure(tasks, || {
        start.wait();
        loop {
            match left.load(Ordering::Acquire) {
                0 => return Ok(()),
                n if n > tasks => return Err(format!("{tasks} spawned, more ran")),
                _ => thread::park(),
            }
        }
    });
    for thread in threads {
        thread
            .join()
            .map_err(|_| "a spawning thread panicked".to_owned())?;
    }
    run
}

/// Lets time pass without anything to do.
#[expect(
    clippy::disallowed_methods,
    reason = "being idle is what is measured, and only time makes it so"
)]
pub fn stay_idle(duration: Duration) {
    thread::sleep(duration);
}

/// How long the pool is left alone before it is woken, so that its workers
/// sleep and do not just search.
pub const IDLE_BEFORE_WAKE: Duration = Duration::from_micros(200);

/// Nanoseconds from spawning on a pool that sleeps until the future runs, for
/// each of `wakes` wakes.
///
/// # Errors
/// If a future did not run.
pub fn wake_idle<R: Runtime>(runtime: &R, wakes: u64) -> Result<Vec<u64>, String> {
    let latest = Arc::new(AtomicU64::new(0));
    let mut all = Vec::with_capacity(wakes as usize);
    for _ in 0..wakes {
        stay_idle(IDLE_BEFORE_WAKE);
        let (seen, main) = (Arc::clone(&latest), thread::current());
        let spawned = Instant::now();
        runtime.detach_from_outside(async move {
            let ns = u64::try_from(spawned.elapsed().as_nanos()).unwrap_or(u64::MAX);
            seen.store(ns.max(1), Ordering::Release);
            main.unpark();
        });
        let start = Instant::now();
        let ns = loop {
            match latest.swap(0, Ordering::Acquire) {
                0 if start.elapsed() > Duration::from_secs(5) => {
                    return Err("a future did not run for 5 s".to_owned());
                }
                0 => thread::park_timeout(Duration::from_secs(1)),
                ns => break ns,
            }
        };
        all.push(ns);
    }
    Ok(all)
}

/// A piece of work that keeps a CPU for a few microseconds, and its result.
#[must_use]
pub fn spin(rounds: u64, seed: u64) -> u64 {
    let mut value = seed;
    for _ in 0..rounds {
        // Constants of Knuth's MMIX generator.
        value = std::hint::black_box(
            value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        );
    }
    value
}

/// Rounds of [`spin`] between two places where a hog may be stopped: some
/// 2 µs, like compiled guest code between two back-edges with a call.
pub const HOG_PIECE: u64 = 2_000;
