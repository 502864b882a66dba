//! Schedulers of futures: ours, tokio, and smol's executor.
//!
//! All run the same futures; only spawning, yielding and timers are their own.
//! Hogs make way in the cheapest manner a scheduler has: ours polls the preempt
//! word, tokio consumes budget, smol's has nothing but a yield.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use coroutine_scheduler::{Priority, SpawnOptions};

use crate::ours::Ours;
use crate::program::{Answer, Contestant, Program, Scale, Ticks, latencies};
use crate::programs::{self, Runtime};

/// What the ticker needs beside.
trait Ticking: Runtime {
    /// Where a hog may be stopped.
    fn safepoint() -> impl Future<Output = ()> + Send;

    fn sleep_until(moment: Instant) -> impl Future<Output = ()> + Send;

    /// Spawns from outside, as urgently as it can.
    fn detach_urgently<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static;
}

struct Futures<R> {
    name: &'static str,
    runtime: R,
    workers: usize,
}

impl<R: Ticking> Contestant for Futures<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, program: Program, scale: Scale) -> Answer {
        let runtime = &self.runtime;
        match program {
            Program::Yield => {
                let (tasks, yields) = scale.yields();
                programs::yield_many(runtime, tasks, yields).into()
            }
            Program::Spawn => programs::spawn_many(runtime, scale.spawns()).into(),
            Program::Chained => programs::chained_spawn(runtime, scale.links()).into(),
            Program::PingPong => programs::ping_pong(runtime, scale.round_trips()).into(),
            Program::Skynet => programs::skynet(runtime, scale.leaves()).into(),
            Program::Remote(spawners) => {
                programs::remote_spawn(runtime, spawners, scale.remote_spawns()).into()
            }
            Program::Wake => latencies(|| programs::wake_idle(runtime, scale.wakes())),
            Program::Ticker => latencies(|| Ok(ticker(runtime, self.workers, scale))),
            Program::RawSwitch => Answer::Unfit,
        }
    }
}

/// Nanoseconds by which each tick was late, beside two hogs for each worker.
fn ticker<R: Ticking>(runtime: &R, workers: usize, scale: Scale) -> Vec<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let n_hogs = 2 * workers as u64;
    let ended = Arc::new(AtomicU64::new(0));
    for seed in 0..n_hogs {
        let (stop, ended) = (Arc::clone(&stop), Arc::clone(&ended));
        runtime.detach_from_outside(async move {
            while !stop.load(Ordering::Relaxed) {
                std::hint::black_box(programs::spin(programs::HOG_PIECE, seed));
                R::safepoint().await;
            }
            ended.fetch_add(1, Ordering::Release);
        });
    }
    let (send, receive) = std::sync::mpsc::channel();
    let is_over = Arc::clone(&stop);
    let mut ticks = Ticks::new(scale);
    runtime.detach_urgently(async move {
        while let Some(due) = ticks.next_due(&is_over) {
            R::sleep_until(due).await;
            ticks.note_arrival();
        }
        // The receiver waits for it.
        let _ = send.send(ticks.into_late());
    });
    let in_time = receive.recv_timeout(scale.ticker_limit());
    stop.store(true, Ordering::Relaxed);
    let late = in_time.or_else(|_| receive.recv()).unwrap_or_default();
    while ended.load(Ordering::Acquire) < n_hogs {
        std::thread::yield_now();
    }
    late
}

/// Ours, statistics and priorities on, as always.
pub(crate) fn ours(workers: usize) -> Result<Box<dyn Contestant>, String> {
    Ok(Box::new(Futures {
        name: "ours",
        runtime: Ours::start(workers, |_| {})?,
        workers,
    }))
}

impl Ticking for Ours {
    fn safepoint() -> impl Future<Output = ()> + Send {
        coroutine_scheduler::checkpoint()
    }

    fn sleep_until(moment: Instant) -> impl Future<Output = ()> + Send {
        let left = moment.saturating_duration_since(Instant::now());
        coroutine_scheduler::sleep_until(coroutine_scheduler::now() + left)
    }

    fn detach_urgently<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let urgent = SpawnOptions::new().priority(Priority::RealTime);
        let handle = self.scheduler().spawn_with(urgent, body);
        drop(handle.expect("there is room for it"));
    }
}

/// tokio's multi-threaded runtime.
#[derive(Clone)]
struct Tokio(Arc<tokio::runtime::Runtime>);

pub(crate) fn tokio(workers: usize) -> Result<Box<dyn Contestant>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .build()
        .map_err(|error| format!("tokio does not start: {error}"))?;
    Ok(Box::new(Futures {
        name: "tokio",
        runtime: Tokio(Arc::new(runtime)),
        workers,
    }))
}

impl Runtime for Tokio {
    fn spawn<F>(&self, body: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = tokio::spawn(body);
        async { handle.await.expect("it does not panic") }
    }

    fn detach<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(tokio::spawn(body));
    }

    fn detach_from_outside<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.0.spawn(body));
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn block_on<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // On a worker: `Runtime::block_on` alone would run it on this thread.
        let handle = self.0.spawn(body);
        self.0.block_on(handle).expect("it does not panic");
    }
}

impl Ticking for Tokio {
    fn safepoint() -> impl Future<Output = ()> + Send {
        tokio::task::consume_budget()
    }

    fn sleep_until(moment: Instant) -> impl Future<Output = ()> + Send {
        tokio::time::sleep_until(moment.into())
    }

    fn detach_urgently<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.detach_from_outside(body);
    }
}

/// smol's executor, in its fastest form, which lives as long as the process.
#[derive(Clone)]
struct Smol(&'static smol_executor::StaticExecutor);

pub(crate) fn smol(workers: usize) -> Box<dyn Contestant> {
    static EXECUTOR: smol_executor::StaticExecutor = smol_executor::StaticExecutor::new();
    for _ in 0..workers {
        std::thread::spawn(|| {
            async_io::block_on(EXECUTOR.run(std::future::pending::<()>()));
        });
    }
    Box::new(Futures {
        name: "async-executor",
        runtime: Smol(&EXECUTOR),
        workers,
    })
}

impl Runtime for Smol {
    fn spawn<F>(&self, body: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(body)
    }

    fn detach<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(body).detach();
    }

    fn detach_from_outside<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.detach(body);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        // As futures-lite has it: wake, pending once.
        let mut was_pending = false;
        std::future::poll_fn(move |cx| {
            if was_pending {
                return std::task::Poll::Ready(());
            }
            was_pending = true;
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
    }

    fn block_on<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let is_done = Arc::new(AtomicBool::new(false));
        let (ended, main) = (Arc::clone(&is_done), std::thread::current());
        self.detach(async move {
            body.await;
            ended.store(true, Ordering::Release);
            main.unpark();
        });
        while !is_done.load(Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl Ticking for Smol {
    fn safepoint() -> impl Future<Output = ()> + Send {
        Self::yield_now()
    }

    fn sleep_until(moment: Instant) -> impl Future<Output = ()> + Send {
        let timer = async_io::Timer::at(moment);
        async {
            timer.await;
        }
    }

    fn detach_urgently<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.detach(body);
    }
}
