//! The tests that the requirement documents name, on real work.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineScheduler, CoroutineState, Priority, ReadyQueue, SchedulerConfig, SpawnOptions,
    VcpuState, balance, yield_now,
};
use parking_lot::Mutex;

/// Work that an optimiser cannot leave out.
fn work(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x: u64, i| {
        std::hint::black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(i))
    })
}

#[test]
fn test_coroutine_creation() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let coroutine = scheduler
        .create_coroutine(Priority::High, 1000, async { work(10) })
        .unwrap();
    let info = scheduler.get_coroutine_info(coroutine.id()).unwrap();
    assert_eq!(info.state, CoroutineState::Created);
    assert_eq!(info.priority, Priority::High);
    assert_eq!(info.cycles_remaining, Some(1000));
    assert_eq!(info.assigned_vcpu, None);
}

#[test]
fn test_coroutine_creation_and_scheduling() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let coroutine = scheduler
        .create_coroutine(Priority::Normal, 1000, async { work(10) })
        .unwrap();
    scheduler.schedule(&coroutine).unwrap();
    let info = scheduler.get_coroutine_info(coroutine.id()).unwrap();
    assert!(info.assigned_vcpu.is_some());
    assert!(
        scheduler.schedule(&coroutine).is_err(),
        "it is ready already"
    );
}

#[test]
fn test_coroutine_state_transitions() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let seen = Arc::new(Mutex::new(None));
    let coroutine = {
        let (seen, handle) = (Arc::clone(&seen), scheduler.handle());
        let body = async move {
            yield_now().await;
            let all = handle.coroutines();
            *seen.lock() = Some(all[0].state);
        };
        scheduler
            .create_coroutine(Priority::Normal, 1, body)
            .unwrap()
    };
    let mut states = vec![coroutine.state()];
    scheduler.schedule(&coroutine).unwrap();
    states.push(coroutine.state());
    while scheduler.run_one().is_some() {
        states.push(coroutine.state());
    }
    use CoroutineState::{Created, Dead, Ready, Running};
    assert_eq!(states, [Created, Ready, Ready, Dead]);
    assert_eq!(*seen.lock(), Some(Running));
}

#[test]
fn test_vcpu_creation() {
    let scheduler = CoroutineScheduler::new(oversubscribed(3)).unwrap();
    let vcpus = scheduler.vcpus();
    assert_eq!(vcpus.len(), 3);
    assert!(
        vcpus
            .iter()
            .all(|v| v.state == VcpuState::Idle && v.coroutine_count == 0)
    );
}

#[test]
fn test_vcpu_enqueue_dequeue() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    for _ in 0..5 {
        let _detached = scheduler.spawn(async {}).unwrap();
    }
    assert_eq!(scheduler.vcpus()[0].coroutine_count, 5);
    assert!(scheduler.run_one().is_some());
    assert_eq!(scheduler.vcpus()[0].coroutine_count, 4);
    // The queue by itself, too.
    let mut queue = ReadyQueue::new();
    queue.push(Priority::Low, 1);
    assert_eq!(queue.pop(), Some((Priority::Low, 1)));
    assert_eq!(queue.pop(), None);
}

#[test]
fn test_scheduler_creation() {
    let scheduler = started(SchedulerConfig::default());
    assert!(scheduler.start().is_err(), "once is enough");
    assert_eq!(scheduler.get_stats().active_coroutines, 0);
}

#[test]
fn test_scheduler_submit_and_steal() {
    // All are born on vCPU 0, whose thread is busy: the others have to steal.
    let scheduler = started(oversubscribed(4));
    let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let birth = {
        let threads = Arc::clone(&threads);
        let handle = scheduler.handle();
        scheduler
            .spawn(async move {
                let born: Vec<_> = (0..64)
                    .map(|_| {
                        let threads = Arc::clone(&threads);
                        let body = async move {
                            work(2_000_000);
                            threads.lock().insert(std::thread::current().id());
                        };
                        handle.spawn(body).unwrap()
                    })
                    .collect();
                for one in born {
                    one.await.unwrap();
                }
            })
            .unwrap()
    };
    birth.join().unwrap();
    assert!(threads.lock().len() > 1, "nobody stole");
    let stats = scheduler.get_stats();
    assert!(stats.vcpus.iter().map(|v| v.stolen_coroutines).sum::<u64>() > 0);
}

#[test]
fn test_vcpu_assignment() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let pinned = SpawnOptions::new().pinned_to(1);
    let coroutine = scheduler.spawn_with(pinned, yield_now()).unwrap();
    assert_eq!(coroutine.info().assigned_vcpu, Some(1));
    assert!(
        scheduler.migrate_coroutine(coroutine.id(), 0).is_err(),
        "pinned"
    );
    let free = scheduler.spawn(std::future::pending::<()>()).unwrap();
    while scheduler.run_one().is_some() {}
    scheduler.migrate_coroutine(free.id(), 1).unwrap();
    assert_eq!(free.info().assigned_vcpu, Some(1));
    assert!(
        scheduler.migrate_coroutine(free.id(), 2).is_err(),
        "no such vCPU"
    );
}

#[test]
fn test_vcpu_stats() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    for _ in 0..10 {
        let _detached = scheduler.spawn(async { work(10_000) }).unwrap();
    }
    while scheduler.run_one().is_some() {}
    let stats = scheduler.get_stats().vcpus[0];
    assert_eq!((stats.executions, stats.ended), (10, 10));
    assert!(stats.context_switches >= 9 && !stats.busy_time.is_zero());
    assert!((0.0..=1.0).contains(&stats.utilization()));
}

#[test]
fn test_load_imbalance_calculation() {
    assert_eq!(balance::variance(&[0.5, 0.5, 0.5]), 0.0);
    assert!((balance::variance(&[1.0, 0.0]) - 0.25).abs() < 1e-12);
    let scheduler = started(oversubscribed(2));
    let stats = scheduler.get_stats();
    assert!(stats.imbalance_variance() >= 0.0 && stats.imbalance_cov() >= 0.0);
}

#[test]
fn test_scheduler_stats() {
    let scheduler = started(oversubscribed(2));
    let handles: Vec<_> = (0..100)
        .map(|_| scheduler.spawn(yield_now()).unwrap())
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    let stats = scheduler.get_stats();
    assert_eq!((stats.total_coroutines, stats.active_coroutines), (100, 0));
    assert!(stats.vcpus.iter().map(|v| v.executions).sum::<u64>() >= 200);
    assert!(stats.poll_time.count >= 200 && stats.latency.count > 0);
}

#[test]
fn test_priority_scheduling() {
    let config = SchedulerConfig {
        fairness: coroutine_scheduler::Fairness::Strict,
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for priority in [
        Priority::Low,
        Priority::RealTime,
        Priority::Normal,
        Priority::High,
    ] {
        let order = Arc::clone(&order);
        let options = SpawnOptions::new().priority(priority);
        let _detached = scheduler
            .spawn_with(options, async move { order.lock().push(priority) })
            .unwrap();
    }
    while scheduler.run_one().is_some() {}
    use Priority::{High, Low, Normal, RealTime};
    assert_eq!(*order.lock(), [RealTime, High, Normal, Low]);
    assert_eq!(scheduler.get_stats().priority_inversions, 0);
}

#[test]
fn test_load_balancing() {
    let scheduler = CoroutineScheduler::new(oversubscribed(4)).unwrap();
    for _ in 0..100 {
        let _detached = scheduler.spawn(std::future::pending::<()>()).unwrap();
    }
    // 100 coroutines on 4 vCPUs, placed by load: a spread below 30 %.
    let counts: Vec<f64> = scheduler
        .vcpus()
        .iter()
        .map(|v| v.coroutine_count as f64)
        .collect();
    let most = counts.iter().copied().fold(0.0, f64::max);
    let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((most - least) / 25.0 < 0.3, "{counts:?}");
    assert!(!scheduler.should_balance());
    assert_eq!(scheduler.balance_load(), 0, "there is nothing to move");
}

#[test]
fn test_concurrent_scheduling() {
    let scheduler = Arc::new(started(oversubscribed(4)));
    let ran = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..50)
        .map(|_| {
            let (scheduler, ran) = (Arc::clone(&scheduler), Arc::clone(&ran));
            std::thread::spawn(move || {
                let body = async move {
                    yield_now().await;
                    ran.fetch_add(1, Ordering::Relaxed);
                };
                scheduler.spawn(body).unwrap().join().unwrap();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(ran.load(Ordering::Relaxed), 50);
    assert_eq!(scheduler.get_stats().total_coroutines, 50);
}

#[test]
fn test_coroutine_pause_resume() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let coroutine = scheduler.spawn(async { work(1) }).unwrap();
    scheduler.pause_coroutine(coroutine.id()).unwrap();
    let info = scheduler.get_coroutine_info(coroutine.id()).unwrap();
    assert!(info.state.is_waiting());
    scheduler.resume_coroutine(coroutine.id()).unwrap();
    let info = scheduler.get_coroutine_info(coroutine.id()).unwrap();
    assert_eq!(info.state, CoroutineState::Ready);
}

#[test]
fn test_execute_coroutine_gives_its_latency() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let coroutine = scheduler.spawn(async { work(1000) }).unwrap();
    let latency = scheduler.execute_coroutine(coroutine.id()).unwrap();
    assert!(latency > Duration::ZERO);
    assert_eq!(coroutine.state(), CoroutineState::Dead);
    assert!(scheduler.execute_coroutine(coroutine.id()).is_err());
}

#[test]
fn ten_thousand_coroutines_are_alive_at_once() {
    let scheduler = started(oversubscribed(2));
    let handles: Vec<_> = (0..20_000)
        .map(|_| scheduler.spawn(std::future::pending::<()>()).unwrap())
        .collect();
    assert_eq!(scheduler.get_stats().active_coroutines, 20_000);
    drop(scheduler);
    assert!(
        handles
            .into_iter()
            .all(|h| h.join().unwrap_err().is_cancelled())
    );
}
