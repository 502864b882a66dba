//! may: stackful coroutines. The same programs, in its own words, since its
//! coroutines have no waker.
//!
//! Rule P1: `may::coroutine::spawn` is unsafe because a coroutine may move to
//! another thread, where thread-local data differs, and because its stack is
//! small and not grown. No body here keeps a reference to thread-local data
//! over a place where it may be switched, and none recurses or has large
//! locals: trees are spawned, not called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use may::coroutine::{self, JoinHandle};
use may::sync::mpsc;

use crate::program::{Answer, Contestant, Program, Scale, Ticks, latencies, nanoseconds};
use crate::programs::{HOG_PIECE, IDLE_BEFORE_WAKE, Run, expect, spin, stay_idle};

struct May {
    workers: usize,
}

/// Configures may, whose scheduler is one for the process.
pub(crate) fn may(workers: usize) -> Box<dyn Contestant> {
    may::config().set_workers(workers);
    Box::new(May { workers })
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: P1.
    unsafe { coroutine::spawn(body) }
}

fn joined<T>(handle: JoinHandle<T>) -> Result<T, String> {
    handle.join().map_err(|_| "a coroutine panicked".to_owned())
}

impl Contestant for May {
    fn name(&self) -> &'static str {
        "may"
    }

    fn run(&mut self, program: Program, scale: Scale) -> Answer {
        match program {
            Program::Yield => {
                let (tasks, yields) = scale.yields();
                yield_many(tasks, yields).into()
            }
            Program::Spawn => spawn_many(scale.spawns() / 10).into(),
            // Fewer: at tens of microseconds each they would take most of the time.
            Program::Chained => chained_spawn(scale.links() / 50).into(),
            Program::PingPong => ping_pong(scale.round_trips()).into(),
            // Tried: with a hundred thousand leaves already, each a stack with its
            // guard, mmap refuses, and whatever runs next suffers from it.
            Program::Skynet => Answer::Cannot(
                "so many stacks at once exceed the mappings of a process (vm.max_map_count)",
            ),
            Program::Remote(spawners) => remote_spawn(spawners, scale.remote_spawns()).into(),
            Program::Wake => latencies(|| wake_idle(scale.wakes())),
            Program::Ticker => latencies(|| ticker(self.workers, scale)),
            Program::RawSwitch => Answer::Unfit,
        }
    }
}

fn yield_many(tasks: u64, yields: u64) -> Result<Run, String> {
    Run::measure(tasks * yields, || {
        let root = spawn(move || -> Result<u64, String> {
            let spawned: Vec<_> = (0..tasks)
                .map(|_| {
                    spawn(move || {
                        for _ in 0..yields {
                            coroutine::yield_now();
                        }
                        yields
                    })
                })
                .collect();
            spawned.into_iter().map(joined).sum()
        });
        expect("yields", joined(root)??, tasks * yields)
    })
}

fn spawn_many(tasks: u64) -> Result<Run, String> {
    const BATCH: u64 = 100;
    let tasks = tasks.next_multiple_of(BATCH);
    Run::measure(tasks, || {
        let root = spawn(move || -> Result<u64, String> {
            let mut n_joined = 0;
            for _ in 0..tasks / BATCH {
                let batch: Vec<_> = (0..BATCH).map(|_| spawn(|| 1)).collect();
                n_joined += batch.into_iter().map(joined).sum::<Result<u64, _>>()?;
            }
            Ok(n_joined)
        });
        expect("coroutines joined", joined(root)??, tasks)
    })
}

fn chained_spawn(length: u64) -> Result<Run, String> {
    fn link(left: u64, at: u64, end: mpsc::Sender<u64>) {
        if left == 0 {
            // The receiver waits for it.
            let _ = end.send(at);
        } else {
            drop(spawn(move || link(left - 1, at + 1, end)));
        }
    }
    Run::measure(length, || {
        let root = spawn(move || {
            let (end, last) = mpsc::channel();
            drop(spawn(move || link(length, 0, end)));
            last.recv().map_err(|error| error.to_string())
        });
        expect("links", joined(root)??, length)
    })
}

fn ping_pong(rounds: u64) -> Result<Run, String> {
    Run::measure(2 * rounds, || {
        let root = spawn(move || -> Result<u64, String> {
            let (there, inbox) = mpsc::channel::<u64>();
            let (outbox, back) = mpsc::channel::<u64>();
            let partner = spawn(move || {
                for value in inbox.iter() {
                    if outbox.send(value + 1).is_err() {
                        break;
                    }
                }
            });
            let mut sum = 0;
            for round in 0..rounds {
                there.send(round).map_err(|error| error.to_string())?;
                sum += back.recv().map_err(|error| error.to_string())?;
            }
            drop(there);
            joined(partner)?;
            Ok(sum)
        });
        expect("sum of answers", joined(root)??, rounds * (rounds + 1) / 2)
    })
}

fn remote_spawn(spawners: u64, tasks: u64) -> Result<Run, String> {
    let tasks = tasks.next_multiple_of(spawners);
    let left = Arc::new(AtomicU64::new(tasks));
    let start = Arc::new(std::sync::Barrier::new(spawners as usize + 1));
    let main = thread::current();
    let threads: Vec<_> = (0..spawners)
        .map(|_| {
            let (left, start, main) = (Arc::clone(&left), Arc::clone(&start), main.clone());
            thread::spawn(move || {
                start.wait();
                for _ in 0..tasks / spawners {
                    let (left, main) = (Arc::clone(&left), main.clone());
                    drop(spawn(move || {
                        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                            main.unpark();
                        }
                    }));
                }
            })
        })
        .collect();
    let run = Run::measure(tasks, || {
        start.wait();
        while left.load(Ordering::Acquire) > 0 {
            thread::park();
        }
        Ok(())
    });
    for thread in threads {
        thread
            .join()
            .map_err(|_| "a spawning thread panicked".to_owned())?;
    }
    run
}

fn wake_idle(wakes: u64) -> Result<Vec<u64>, String> {
    (0..wakes)
        .map(|_| {
            stay_idle(IDLE_BEFORE_WAKE);
            let spawned = Instant::now();
            joined(spawn(move || nanoseconds(spawned.elapsed())))
        })
        .collect()
}

fn ticker(workers: usize, scale: Scale) -> Result<Vec<u64>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..2 * workers as u64)
        .map(|seed| {
            let stop = Arc::clone(&stop);
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(spin(HOG_PIECE, seed));
                    coroutine::yield_now();
                }
            })
        })
        .collect();
    let (send, receive) = std::sync::mpsc::channel();
    let is_over = Arc::clone(&stop);
    let mut ticks = Ticks::new(scale);
    let ticker = spawn(move || {
        while let Some(due) = ticks.next_due(&is_over) {
            coroutine::sleep(due.saturating_duration_since(Instant::now()));
            ticks.note_arrival();
        }
        // The receiver waits for it.
        let _ = send.send(ticks.into_late());
    });
    let in_time = receive.recv_timeout(scale.ticker_limit());
    stop.store(true, Ordering::Relaxed);
    let late = in_time
        .or_else(|_| receive.recv())
        .map_err(|_| "the ticker ended early".to_owned())?;
    joined(ticker)?;
    for hog in hogs {
        joined(hog)?;
    }
    Ok(late)
}
