//! Threads that lose their vCPU become nicer, and no others.

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use common::{oversubscribed, started};
use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig, WeakClass, blocking, yield_now};
use parking_lot::Mutex;
use rustix::process::{getpriority_process, setpriority_process};

/// Of the threads here, so that nobody takes the default for it.
const OWN: i32 = 3;

fn niceness() -> i32 {
    getpriority_process(None).unwrap()
}

/// Whether this thread is of class `SCHED_IDLE`, by the last fields of its `stat`.
fn is_idle() -> bool {
    const SCHED_IDLE: &str = "5";
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, after) = stat.rsplit_once(") ").unwrap();
    after.split(' ').nth(38).unwrap() == SCHED_IDLE
}

/// Until the monitor has taken the vCPU.
fn compute_until_weak() {
    while niceness() == OWN {
        std::hint::spin_loop();
    }
}

/// Raises the flag when it goes, so that a failing test ends.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_weak_thread_that_blocks_makes_no_nice_threads_for_vcpus() {
    setpriority_process(None, OWN).unwrap();
    let scheduler = started(oversubscribed(1));
    let stop = Arc::new(AtomicBool::new(false));
    // When this test ends in whatever way, before the scheduler does.
    let stopper = Stop(Arc::clone(&stop));
    let (sender, receiver) = mpsc::channel();
    let hog = |blocks: bool| {
        let (stop, sender) = (Arc::clone(&stop), sender.clone());
        let body = async move {
            compute_until_weak();
            for _ in 0..if blocks { 3 } else { 0 } {
                blocking(|| ());
            }
            sender.send(()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        scheduler.spawn(body).unwrap()
    };
    // Each takes a thread from the vCPU, and the next one comes from the spares.
    let mut hogs = Vec::new();
    for blocks in [true, false, false] {
        hogs.push(hog(blocks));
        let next = scheduler.spawn(async { niceness() }).unwrap();
        assert_eq!(next.join().unwrap(), OWN);
        receiver.recv().unwrap();
    }
    assert_eq!(scheduler.get_stats().handoffs, 3);
    drop(stopper);
    for hog in hogs {
        hog.join().unwrap();
    }
}

/// State and niceness of a thread of this process.
fn look_at(name: &str) -> Option<(u8, i32)> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads.flatten().find_map(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let (_, its_name) = before.split_once('(')?;
        let mut fields = after.split(' ');
        let state = fields.next()?.bytes().next()?;
        (its_name == name).then_some((state, fields.nth(15)?.parse().ok()?))
    })
}

#[test]
fn the_thread_that_ends_a_scheduler_is_no_nicer_than_others() {
    setpriority_process(None, OWN).unwrap();
    let scheduler = started(SchedulerConfig {
        thread_name: "owned".to_owned(),
        ..oversubscribed(1)
    });
    let place = Arc::new(Mutex::new(None::<CoroutineScheduler>));
    let (sender, receiver) = mpsc::channel();
    let owner = Arc::clone(&place);
    let last = scheduler.spawn(async move {
        compute_until_weak();
        while owner.lock().take().is_none() {
            std::hint::spin_loop();
        }
        // It waits for this coroutine, which does not end before it waits.
        let (_, its_niceness) = loop {
            match look_at("owned-end") {
                Some(looks) if looks.0 == b'S' => break looks,
                _ => std::hint::spin_loop(),
            }
        };
        sender.send((niceness(), its_niceness)).unwrap();
    });
    scheduler.spawn(async {}).unwrap().join().unwrap();
    *place.lock() = Some(scheduler);
    let (weak, ends) = receiver.recv().unwrap();
    assert!(weak > OWN);
    assert_eq!(ends, OWN);
    drop(last);
}

/// Also where the host would not let them rise again: they never sink.
#[test]
fn a_scheduler_started_by_a_weak_coroutine_is_no_nicer_than_others() {
    setpriority_process(None, OWN).unwrap();
    for is_driven in [false, true] {
        let scheduler = started(oversubscribed(1));
        let starts = scheduler.spawn(async move {
            compute_until_weak();
            let inner = || {
                let inner = started(SchedulerConfig {
                    hand_off: false,
                    ..oversubscribed(1)
                });
                let asks = inner.spawn(async { niceness() }).unwrap();
                while !asks.is_finished() {
                    std::thread::yield_now();
                }
                drop(inner);
                asks
            };
            let asks = if is_driven {
                // Between the two there is one without threads of its own.
                let between = CoroutineScheduler::new(oversubscribed(1)).unwrap();
                let place = Arc::new(Mutex::new(None));
                let asks = Arc::clone(&place);
                let _ran = between.spawn(async move { *place.lock() = Some(inner()) });
                while between.run_one().is_some() {}
                asks.lock().take().unwrap()
            } else {
                inner()
            };
            asks.await.unwrap()
        });
        scheduler.spawn(async {}).unwrap().join().unwrap();
        let inner = starts.unwrap().join().unwrap();
        assert_eq!(inner, OWN, "driven: {is_driven}");
    }
}

#[test]
fn an_idle_weak_thread_lets_go_of_its_coroutine() {
    let scheduler = started(SchedulerConfig {
        weak_class: WeakClass::Idle,
        ..oversubscribed(1)
    });
    let hogs: Vec<_> = (0..3)
        .map(|_| {
            let hog = scheduler.spawn(async {
                // It allocates, and so do the others.
                while !is_idle() {
                    std::hint::black_box(vec![0_u8; 1000]);
                }
                yield_now().await;
                is_idle()
            });
            let next = scheduler.spawn(async { is_idle() }).unwrap();
            assert!(!next.join().unwrap());
            hog.unwrap()
        })
        .collect();
    for hog in hogs {
        assert!(!hog.join().unwrap(), "a vCPU's thread runs it on");
    }
    let stats = scheduler.get_stats();
    assert!(stats.handoffs >= 3 && stats.weak_threads == 0, "{stats:?}");
}
