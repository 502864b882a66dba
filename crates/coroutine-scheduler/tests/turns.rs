//! Whose turn it is: promises to those that stay at their vCPU, and to those
//! that wait beside urgent work.

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineScheduler, Fairness, Priority, SchedulerConfig, SpawnOptions, spawn_with, stackful,
    yield_now,
};

/// Where each run of their level is followed by one of another level, too.
#[test]
fn who_stays_at_its_vcpu_has_its_turn_beside_those_that_move() {
    for fairness in [Fairness::Fair, Fairness::Strict] {
        for is_stackful in [false, true] {
            check_turn_of_one_that_stays(fairness, is_stackful);
        }
    }
}

fn check_turn_of_one_that_stays(fairness: Fairness, is_stackful: bool) {
    let scheduler = CoroutineScheduler::new(SchedulerConfig {
        fairness,
        preemptive: false,
        ..oversubscribed(1)
    })
    .unwrap();
    // Two loops that each make something more urgent ready in each turn.
    let n_turns: Vec<_> = (0..2)
        .map(|_| {
            let n_turns = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&n_turns);
            let body = async move {
                loop {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let options = SpawnOptions::new().priority(Priority::High);
                    drop(spawn_with(options, async {}).unwrap());
                    yield_now().await;
                }
            };
            drop(scheduler.spawn(body).unwrap());
            n_turns
        })
        .collect();
    let n_stays = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_stays);
    if is_stackful {
        let body = move || -> () {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                stackful::yield_turn();
            }
        };
        let stays = scheduler.spawn_stackful(SpawnOptions::new(), body);
        drop(stays.unwrap());
    } else {
        let body = async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        let stays = scheduler.spawn_with(SpawnOptions::new().pinned_to(0), body);
        drop(stays.unwrap());
    }
    for _ in 0..500 {
        scheduler.run_one().unwrap();
    }
    // First come, first served: each as often as the others.
    let n_stays = n_stays.load(Ordering::Relaxed);
    for n_turns in n_turns {
        let n_turns = n_turns.load(Ordering::Relaxed);
        assert!(
            n_turns.abs_diff(n_stays) <= 1,
            "{fairness:?}, stackful: {is_stackful}: {n_stays} turns beside {n_turns}"
        );
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
fn one_urgent_arrival_takes_one_vcpu() {
    const N_VCPUS: usize = 8;
    let scheduler = started(SchedulerConfig {
        // No slice ends: what is taken is taken for the urgent ones.
        time_slice: Duration::from_secs(10),
        ..oversubscribed(N_VCPUS)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let _stopper = Stop(Arc::clone(&stop));
    let n_running = Arc::new(AtomicUsize::new(0));
    for _ in 0..N_VCPUS {
        let (stop, n_running) = (Arc::clone(&stop), Arc::clone(&n_running));
        let body = async move {
            n_running.fetch_add(1, Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        drop(scheduler.spawn(body).unwrap());
    }
    while n_running.load(Ordering::Relaxed) < N_VCPUS {
        thread::yield_now();
    }
    let options = SpawnOptions::new().priority(Priority::RealTime);
    let urgent = scheduler.spawn_with(options, async {}).unwrap();
    urgent.join().unwrap();
    let stats = scheduler.get_stats();
    assert_eq!((stats.handoffs, stats.weak_threads), (1, 1), "{stats:?}");
}

/// One vCPU computes, the other has nothing: who waits at the first will be
/// ready at the other.
#[test]
fn homes_move_from_a_busy_vcpu_to_an_idle_one() {
    let scheduler = started(oversubscribed(2));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Stop(Arc::clone(&stop));
    let ends = Arc::clone(&stop);
    let busy = async move {
        let mut waiting = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            if waiting.len() < 1000 {
                // Some are stolen before they run, and wait at the other one.
                waiting.push(spawn_with(SpawnOptions::new(), pending::<()>()).unwrap());
            }
            for _ in 0..1000 {
                std::hint::spin_loop();
            }
            yield_now().await;
        }
        for one in waiting {
            one.abort().unwrap();
        }
    };
    let busy = scheduler.spawn_with(SpawnOptions::new().pinned_to(0), busy);
    while scheduler.get_stats().migrations == 0 {
        thread::yield_now();
    }
    assert!(scheduler.get_stats().load_balances > 0);
    drop(stopper);
    busy.unwrap().join().unwrap();
}
