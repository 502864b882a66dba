//! Coroutines that never let go, and others that run all the same.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineScheduler, CoroutineState, Doing, Priority, SchedulerConfig, SpawnOptions, Stall,
    StallEnd, WeakClass, blocking, is_preempted, sleep, spawn, yield_now,
};

/// Computes until told to stop, without a safepoint.
fn hog(stop: &AtomicBool) -> u64 {
    let mut x = 1_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1000 {
            x = std::hint::black_box(x.wrapping_mul(3).wrapping_add(1));
        }
    }
    x
}

/// Raises the flag when it goes, so that a failing test ends.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn check_others_run(config: SchedulerConfig, n_hogs: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let scheduler = started(config);
    let stopper = Stop(Arc::clone(&stop));
    let hogs: Vec<_> = (0..n_hogs)
        .map(|_| {
            let stop = Arc::clone(&stop);
            scheduler.spawn(async move { hog(&stop) }).unwrap()
        })
        .collect();
    for _ in 0..20 {
        let handle = scheduler
            .spawn(async {
                yield_now().await;
                sleep(Duration::from_micros(100)).await;
                spawn(async { 7 }).unwrap().await.unwrap()
            })
            .unwrap();
        assert_eq!(handle.join().unwrap(), 7);
    }
    let stats = scheduler.get_stats();
    assert!(stats.handoffs >= 1, "{stats:?}");
    assert_eq!(scheduler.stuck().len(), stats.weak_threads);
    drop(stopper);
    for hog in hogs {
        hog.join().unwrap();
    }
    assert_eq!(scheduler.get_stats().active_coroutines, 0);
}

#[test]
fn a_stuck_vcpu_goes_to_another_thread() {
    check_others_run(oversubscribed(1), 1);
    check_others_run(oversubscribed(2), 3);
    let config = SchedulerConfig {
        weak_class: WeakClass::Same,
        ..oversubscribed(1)
    };
    check_others_run(config, 2);
}

#[test]
fn a_weak_coroutine_goes_on_as_any_other() {
    let scheduler = started(oversubscribed(1));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Stop(Arc::clone(&stop));
    let spawned = Arc::new(AtomicUsize::new(0));
    let stuck = {
        let (stop, spawned) = (Arc::clone(&stop), Arc::clone(&spawned));
        scheduler
            .spawn(async move {
                hog(&stop);
                // Weak by now: spawns, sleeps and turns work as before.
                let count = Arc::clone(&spawned);
                let child = spawn(async move { count.fetch_add(1, Ordering::Relaxed) }).unwrap();
                yield_now().await;
                sleep(Duration::from_millis(1)).await;
                child.await.unwrap();
                spawned.load(Ordering::Relaxed)
            })
            .unwrap()
    };
    scheduler.spawn(async {}).unwrap().join().unwrap();
    drop(stopper);
    assert_eq!(stuck.join().unwrap(), 1);
    let info = scheduler.get_stats();
    assert_eq!(info.weak_threads, 0);
}

#[test]
fn blocking_code_keeps_nobody_waiting() {
    let scheduler = started(oversubscribed(1));
    let (sender, receiver) = std::sync::mpsc::channel::<u32>();
    let waits = scheduler
        .spawn(async move { blocking(|| receiver.recv().unwrap()) })
        .unwrap();
    let sends = scheduler
        .spawn(async move {
            yield_now().await;
            sender.send(5).unwrap();
        })
        .unwrap();
    sends.join().unwrap();
    assert_eq!(waits.join().unwrap(), 5);
    assert_eq!(blocking(|| 1), 1, "outside of coroutines it is just a call");
}

/// Every poll may lose its vCPU: nothing is lost or run twice.
#[test]
fn takeovers_at_every_turn_lose_nothing() {
    let config = SchedulerConfig {
        time_slice: Duration::from_micros(10),
        ..oversubscribed(3)
    };
    let scheduler = started(config);
    let done = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..60)
        .map(|i| {
            let done = Arc::clone(&done);
            let priority = Priority::ALL[i % 4];
            let options = SpawnOptions::new().priority(priority);
            let body = async move {
                for round in 0..20_u64 {
                    if round % 5 == 0 {
                        blocking(|| std::hint::black_box((0..20_000).sum::<u64>()));
                    }
                    let x = (0..5_000).fold(round, |x, i| std::hint::black_box(x ^ i));
                    std::hint::black_box(x);
                    spawn(async {}).unwrap().await.unwrap();
                    yield_now().await;
                }
                done.fetch_add(1, Ordering::Relaxed);
            };
            scheduler.spawn_with(options, body).unwrap()
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), 60);
    let stats = scheduler.get_stats();
    assert!(stats.handoffs > 0);
    assert_eq!(stats.total_coroutines, 60 + 60 * 20);
}

#[test]
fn runs_that_end_weakly_are_counted() {
    let scheduler = started(oversubscribed(1));
    for _ in 0..10 {
        let handle = scheduler.spawn(async { blocking(|| ()) }).unwrap();
        handle.join().unwrap();
    }
    let stats = scheduler.get_stats();
    assert!(stats.handoffs > 0, "{stats:?}");
    assert_eq!(stats.vcpus[0].executions, 10);
}

#[test]
fn who_drives_by_hand_keeps_the_vcpu_while_it_blocks() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let thread = std::thread::current().id();
    let handle = scheduler
        .spawn(async move {
            for _ in 0..3 {
                blocking(|| ());
                yield_now().await;
                assert_eq!(std::thread::current().id(), thread);
            }
        })
        .unwrap();
    let mut n_runs = 0;
    while scheduler.run_one().is_some() {
        n_runs += 1;
    }
    handle.join().unwrap();
    assert_eq!((n_runs, scheduler.get_stats().handoffs), (4, 0));
}

#[test]
fn a_destructor_may_block() {
    struct Blocks(Arc<AtomicUsize>);
    impl Drop for Blocks {
        fn drop(&mut self) {
            blocking(|| self.0.fetch_add(1, Ordering::Relaxed));
        }
    }
    let scheduler = started(oversubscribed(2));
    let n_dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let blocks = Blocks(Arc::clone(&n_dropped));
        let handle = scheduler
            .spawn(async move {
                let _blocks = blocks;
                std::future::pending::<()>().await;
            })
            .unwrap();
        handle.abort().unwrap();
        assert!(handle.join().unwrap_err().is_cancelled());
        scheduler.spawn(async {}).unwrap().join().unwrap();
    }
    assert_eq!(n_dropped.load(Ordering::Relaxed), 50);
    drop(scheduler);
}

/// It is no poll, so nobody takes its vCPU: the README says so. What may run
/// elsewhere does.
#[test]
fn a_destructor_that_does_not_end_keeps_one_vcpu_only() {
    struct Waits(std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<()>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.1.send(()).unwrap();
            self.0.recv().unwrap_err();
        }
    }
    let scheduler = started(oversubscribed(2));
    let (end, ended) = std::sync::mpsc::channel();
    let (says, said) = std::sync::mpsc::channel();
    let waits = Waits(ended, says);
    let handle = scheduler
        .spawn(async move {
            let _waits = waits;
            std::future::pending::<()>().await;
        })
        .unwrap();
    handle.abort().unwrap();
    said.recv().unwrap();
    for _ in 0..50 {
        scheduler.spawn(yield_now()).unwrap().join().unwrap();
    }
    assert_eq!(handle.state(), CoroutineState::Running);
    drop(end);
    assert!(handle.join().unwrap_err().is_cancelled());
}

/// Looks again until there is one as it should be.
fn stall_with(scheduler: &CoroutineScheduler, is_it: impl Fn(&Stall) -> bool) -> Stall {
    loop {
        if let Some(stall) = scheduler.stalls().into_iter().find(&is_it) {
            return stall;
        }
        std::thread::yield_now();
    }
}

/// A function of its own in a backtrace, as the poll of an `async fn` need not be.
#[inline(never)]
fn comes_to_a_safepoint_late(stop: &AtomicBool) -> bool {
    std::hint::black_box(hog(stop));
    // In the middle: a last call might leave no frame.
    std::hint::black_box(is_preempted())
}

#[test]
fn a_stall_says_who_it_was_and_where_it_was_seen_next() {
    let scheduler = started(oversubscribed(1));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Stop(Arc::clone(&stop));
    assert!(scheduler.stalls().is_empty());
    let options = SpawnOptions::new().name("late");
    let body = async move { comes_to_a_safepoint_late(&stop) };
    let line = line!() + 1;
    let late = scheduler.spawn_with(options, body).unwrap();
    scheduler.spawn(async {}).unwrap().join().unwrap();
    let stall = stall_with(&scheduler, |stall| stall.id == late.id());
    assert_eq!((stall.spawned_at.line(), stall.count), (line, 1));
    assert_eq!(stall.name.as_deref(), Some("late"));
    assert_eq!((stall.vcpu, stall.end), (0, StallEnd::HandedOff));
    assert!(stall.ran >= Duration::from_millis(1), "{stall}");
    assert!([Doing::Computing, Doing::Unknown].contains(&stall.doing));
    assert!(stall.next_seen.is_none(), "it is there still");
    drop(stopper);
    assert!(late.join().unwrap(), "it was asked to make way");
    let stall = &scheduler.stalls()[0];
    let text = stall.to_string();
    assert!(text.contains("(late), spawned at "), "{text}");
    assert!(text.contains("comes_to_a_safepoint_late"), "{text}");
}

#[test]
fn a_stall_in_a_system_call_says_which() {
    let scheduler = started(oversubscribed(1));
    let (sender, receiver) = std::sync::mpsc::channel::<u32>();
    let waits = scheduler.spawn(async move { receiver.recv().unwrap() });
    let waits = waits.unwrap();
    scheduler.spawn(async {}).unwrap().join().unwrap();
    let stall = stall_with(&scheduler, |stall| stall.id == waits.id());
    let futex = Doing::SystemCall(libc::SYS_futex as u32);
    assert!([futex, Doing::Unknown].contains(&stall.doing), "{stall}");
    sender.send(5).unwrap();
    assert_eq!(waits.join().unwrap(), 5);
    assert!(scheduler.stalls()[0].next_seen.is_none(), "nothing called");
}

/// Of many from one site the last is kept, and of those that keep their vCPU
/// the reason why.
#[test]
fn too_many_stuck_ones_are_told_of() {
    let scheduler = started(oversubscribed(1));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Stop(Arc::clone(&stop));
    // One more than a vCPU may lose threads.
    let hogs: Vec<_> = (0..5)
        .map(|_| {
            let stop = Arc::clone(&stop);
            scheduler.spawn(async move { hog(&stop) }).unwrap()
        })
        .collect();
    let waits = scheduler.spawn(async {}).unwrap();
    let stall = stall_with(&scheduler, |stall| stall.end == StallEnd::KeptByLimit);
    assert_eq!((stall.count, stall.id), (5, hogs[4].id()));
    assert!(stall.to_string().contains("too many threads are stuck"));
    let stats = scheduler.get_stats();
    assert!(stats.weak_limit_hits > 0 && stats.handoffs_refused >= stats.weak_limit_hits);
    assert_eq!((stats.handoffs, stats.weak_threads), (4, 4));
    assert!(
        scheduler
            .prometheus()
            .contains("coroutine_weak_limit_hits_total ")
    );
    assert!(!waits.is_finished());
    drop(stopper);
    for hog in hogs {
        hog.join().unwrap();
    }
    waits.join().unwrap();
}

#[test]
fn a_vcpu_kept_by_a_stack_is_told_of() {
    let scheduler = started(oversubscribed(1));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Stop(Arc::clone(&stop));
    let keeps = {
        let stop = Arc::clone(&stop);
        let options = SpawnOptions::new().name("keeps");
        scheduler.spawn_stackful(options, move || hog(&stop))
    };
    let keeps = keeps.unwrap();
    let waits = scheduler.spawn(async {}).unwrap();
    let stall = stall_with(&scheduler, |stall| stall.id == keeps.id());
    assert_eq!(stall.end, StallEnd::KeptByStack);
    assert_eq!((stall.count, stall.name.as_deref()), (1, Some("keeps")));
    assert!(!waits.is_finished() && scheduler.get_stats().handoffs == 0);
    drop(stopper);
    keeps.join().unwrap();
    waits.join().unwrap();
}
