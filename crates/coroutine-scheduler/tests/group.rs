//! Groups and scopes: nobody outlives who spawned it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineScheduler, JoinError, SchedulerConfig, SchedulerHandle, SpawnError, TaskGroup, scope,
    yield_now,
};

/// Counts its life.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn for_ever(alive: Alive) -> usize {
    let _alive = alive;
    std::future::pending().await
}

#[test]
fn results_come_in_the_order_of_ends() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let handle = scheduler.handle();
    let results = scheduler
        .spawn(async move {
            let mut group = TaskGroup::new(handle);
            for n in [5_usize, 1, 3] {
                let body = async move {
                    for _ in 0..n {
                        yield_now().await;
                    }
                    n
                };
                group.spawn(body).unwrap();
            }
            let mut results = Vec::new();
            while let Some(result) = group.next().await {
                results.push(result.unwrap());
            }
            assert!(group.is_empty() && group.next().await.is_none());
            results
        })
        .unwrap();
    while scheduler.run_one().is_some() {}
    assert_eq!(results.join().unwrap(), [1, 3, 5]);
}

#[test]
fn a_group_serves_many_one_after_another() {
    let scheduler = started(oversubscribed(2));
    let sum = scheduler
        .spawn(async {
            let mut group = TaskGroup::new(SchedulerHandle::current().unwrap());
            let mut sum = 0;
            for n in 0..1000_usize {
                if group.len() == 10 {
                    sum += group.next().await.unwrap().unwrap();
                }
                group.spawn(async move { n }).unwrap();
            }
            sum + group.finish().await.unwrap().into_iter().sum::<usize>()
        })
        .unwrap();
    assert_eq!(sum.join().unwrap(), 999 * 1000 / 2);
}

#[test]
fn a_failure_aborts_the_others_and_waits_for_them() {
    let scheduler = started(oversubscribed(2));
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let outcome = scheduler
        .spawn(async move {
            let members = Arc::clone(&count);
            let outcome = scope(async |group| {
                for _ in 0..10 {
                    group.spawn(for_ever(Alive::new(&members))).unwrap();
                }
                group.spawn(async { panic!("on purpose") }).unwrap();
            })
            .await;
            assert_eq!(count.load(Ordering::SeqCst), 0, "none outlives the scope");
            outcome
        })
        .unwrap();
    let error: JoinError = outcome.join().unwrap().unwrap_err();
    assert_eq!(error.panic_message(), Some("on purpose"));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn an_aborted_scope_aborts_its_members() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let parent = scheduler
        .spawn(async move {
            scope(async |group| {
                for _ in 0..3 {
                    group.spawn(for_ever(Alive::new(&count))).unwrap();
                }
            })
            .await
        })
        .unwrap();
    while scheduler.run_one().is_some() {}
    assert_eq!(alive.load(Ordering::SeqCst), 3, "the scope waits for them");
    parent.abort().unwrap();
    while scheduler.run_one().is_some() {}
    assert!(parent.join().unwrap_err().is_cancelled());
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(scheduler.get_stats().active_coroutines, 0);
}

#[test]
fn what_is_refused_is_no_member() {
    let config = SchedulerConfig {
        max_coroutines: 3,
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let handle = scheduler.handle();
    let results = scheduler
        .spawn(async move {
            let mut group = TaskGroup::new(handle);
            for n in 0..2 {
                group.spawn(async move { n }).unwrap();
            }
            for _ in 0..3 {
                let error = group.spawn(async { 9 }).unwrap_err();
                assert_eq!(error, SpawnError::TooManyCoroutines { limit: 3 });
            }
            assert_eq!(group.len(), 2);
            let first = group.next().await.unwrap().unwrap();
            group.spawn(async { 7 }).unwrap();
            let mut results = group.finish().await.unwrap();
            results.push(first);
            results.sort_unstable();
            results
        })
        .unwrap();
    while scheduler.run_one().is_some() {}
    assert_eq!(results.join().unwrap(), [0, 1, 7]);
}

#[test]
fn outside_of_coroutines_there_is_no_current_scheduler() {
    let _scheduler = started(oversubscribed(1));
    assert!(SchedulerHandle::current().is_none());
}
