//! Spawning, joining, waking, cancelling, panicking: what every coroutine does.

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineScheduler, CoroutineState, JoinError, Priority, SchedulerConfig, SpawnError,
    SpawnOptions, sleep, spawn, timeout, yield_now,
};
use parking_lot::Mutex;

#[test]
fn results_come_back() {
    let scheduler = started(oversubscribed(4));
    let handles: Vec<_> = (0..10_000_u64)
        .map(|n| scheduler.spawn(async move { n * 2 }).unwrap())
        .collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().unwrap(), n * 2);
    }
    let stats = scheduler.get_stats();
    assert_eq!(stats.total_coroutines, 10_000);
}

#[test]
fn coroutines_spawn_and_await_others() {
    async fn fib(n: u32) -> u64 {
        if n < 2 {
            return n.into();
        }
        let left = spawn(Box::pin(fib_boxed(n - 1))).unwrap();
        let right = spawn(Box::pin(fib_boxed(n - 2))).unwrap();
        left.await.unwrap() + right.await.unwrap()
    }
    fn fib_boxed(n: u32) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(fib(n))
    }
    let scheduler = started(oversubscribed(4));
    let handle = scheduler.spawn(fib(15)).unwrap();
    assert_eq!(handle.join().unwrap(), 610);
}

/// Who waits for many is not woken for each: behind those that are ready, it
/// finds them done.
#[test]
fn a_joiner_of_many_runs_seldom() {
    let config = SchedulerConfig {
        hand_off: false,
        ..oversubscribed(1)
    };
    let scheduler = started(config);
    let joiner = scheduler.spawn(async {
        let handles: Vec<_> = (0..100_usize)
            .map(|n| spawn(async move { n }).unwrap())
            .collect();
        let mut n_polls = 0;
        let mut all = std::pin::pin!(async {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.unwrap();
            }
            sum
        });
        let sum = poll_fn(|cx| {
            n_polls += 1;
            all.as_mut().poll(cx)
        })
        .await;
        (sum, n_polls)
    });
    let (sum, n_polls) = joiner.unwrap().join().unwrap();
    assert_eq!(sum, 4950);
    // The last one spawned comes first, from the place of what is next.
    assert!(n_polls <= 4, "polled {n_polls} times for 100 joins");
}

/// A cell that one side fills and the other waits for.
#[derive(Default)]
struct Signal(Mutex<(bool, Option<Waker>)>);

impl Signal {
    fn set(&self) {
        let waker = {
            let mut inner = self.0.lock();
            inner.0 = true;
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            if inner.0 {
                return Poll::Ready(());
            }
            inner.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn no_wake_from_another_thread_is_lost() {
    let scheduler = started(oversubscribed(4));
    for _ in 0..200 {
        let signals: Vec<_> = (0..50).map(|_| Arc::new(Signal::default())).collect();
        let handles: Vec<_> = signals
            .iter()
            .map(|signal| {
                let signal = Arc::clone(signal);
                scheduler.spawn(async move { signal.wait().await }).unwrap()
            })
            .collect();
        for signal in &signals {
            signal.set();
        }
        for handle in handles {
            handle.join().unwrap();
        }
    }
}

#[test]
fn yields_take_turns() {
    let mut config = oversubscribed(1);
    config.vcpu_count = 1;
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for name in 0..3 {
        let order = Arc::clone(&order);
        let _detached = scheduler
            .spawn(async move {
                for _ in 0..3 {
                    order.lock().push(name);
                    yield_now().await;
                }
            })
            .unwrap();
    }
    while scheduler.run_one().is_some() {}
    assert_eq!(*order.lock(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_panic_ends_only_its_coroutine() {
    let scheduler = started(oversubscribed(2));
    let bad = scheduler
        .spawn(async {
            yield_now().await;
            panic!("on purpose");
        })
        .unwrap();
    let good = scheduler.spawn(async { 1 }).unwrap();
    let error = bad.join().unwrap_err();
    assert_eq!(error.panic_message(), Some("on purpose"));
    assert_eq!(good.join().unwrap(), 1);
}

#[test]
fn a_panic_in_a_drop_is_reported_by_the_handle() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let scheduler = started(oversubscribed(2));
    let bomb = Bomb;
    let waits = scheduler
        .spawn(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        })
        .unwrap();
    waits.abort().unwrap();
    assert_eq!(waits.join().unwrap_err().panic_message(), Some("dropped"));
    assert_eq!(scheduler.spawn(async { 2 }).unwrap().join().unwrap(), 2);
}

#[test]
fn aborts_drop_the_body_in_every_state() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let body = |drops: &Arc<AtomicUsize>| {
        let count = Count(Arc::clone(drops));
        async move {
            let _count = count;
            std::future::pending::<()>().await;
        }
    };
    let created = scheduler
        .create_coroutine(Priority::Normal, 0, body(&drops))
        .unwrap();
    let ready = scheduler.spawn(body(&drops)).unwrap();
    assert_eq!(created.state(), CoroutineState::Created);
    assert_eq!(ready.state(), CoroutineState::Ready);
    let waiting = scheduler.spawn(body(&drops)).unwrap();
    let suspended = scheduler.spawn(body(&drops)).unwrap();
    ready.pause().unwrap();
    while scheduler.run_one().is_some() {}
    ready.resume().unwrap();
    suspended.pause().unwrap();
    assert_eq!(waiting.state(), CoroutineState::Waiting);
    assert_eq!(suspended.state(), CoroutineState::Suspended);
    for handle in [&created, &ready, &waiting, &suspended] {
        handle.abort().unwrap();
        assert_eq!(handle.state(), CoroutineState::Dead);
    }
    while scheduler.run_one().is_some() {}
    assert_eq!(drops.load(Ordering::Relaxed), 4);
    for handle in [created, ready, waiting, suspended] {
        assert!(matches!(handle.join(), Err(JoinError::Cancelled(_))));
    }
}

#[test]
fn a_pause_holds_wakes_back() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let signal = Arc::new(Signal::default());
    let waits = {
        let signal = Arc::clone(&signal);
        scheduler.spawn(async move { signal.wait().await }).unwrap()
    };
    while scheduler.run_one().is_some() {}
    scheduler.pause_coroutine(waits.id()).unwrap();
    assert!(waits.state().is_waiting());
    signal.set();
    assert_eq!(scheduler.run_one(), None);
    assert_eq!(waits.state(), CoroutineState::Suspended);
    scheduler.resume_coroutine(waits.id()).unwrap();
    assert_eq!(waits.state(), CoroutineState::Ready);
    assert!(
        scheduler.resume_coroutine(waits.id()).is_err(),
        "not paused"
    );
    assert_eq!(scheduler.run_one(), Some(waits.id()));
    waits.join().unwrap();
}

#[test]
fn limits_are_errors_that_name_them() {
    let config = SchedulerConfig {
        max_coroutines: 3,
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let handles: Vec<_> = (0..3)
        .map(|_| scheduler.spawn(std::future::ready(())).unwrap())
        .collect();
    let error = scheduler.spawn(async {}).unwrap_err();
    assert_eq!(error, SpawnError::TooManyCoroutines { limit: 3 });
    while scheduler.run_one().is_some() {}
    drop(handles);
    let _detached = scheduler.spawn(async {}).unwrap();

    let config = SchedulerConfig {
        ready_queue_size: 2,
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let _two = [0, 1].map(|_| scheduler.spawn(async {}).unwrap());
    let error = scheduler.spawn(async {}).unwrap_err();
    assert_eq!(error, SpawnError::ReadyQueueFull { limit: 2 });
    // One that is made only is not ready.
    let made = scheduler.create_coroutine(Priority::Normal, 0, async {});
    scheduler.schedule(&made.unwrap()).unwrap();
}

/// However often whoever counts is interrupted.
#[test]
fn no_more_are_counted_as_ready_than_live() {
    const N_YIELDERS: usize = 4;
    let config = SchedulerConfig {
        ready_queue_size: 2 * N_YIELDERS,
        ..oversubscribed(1)
    };
    let scheduler = started(config);
    for _ in 0..N_YIELDERS {
        let yields = async {
            loop {
                yield_now().await;
            }
        };
        drop(scheduler.spawn(yields).unwrap());
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let n_ready = scheduler.vcpu(0).unwrap().ready_count();
                    assert!(n_ready <= N_YIELDERS, "{n_ready}");
                }
            });
        }
    });
}

/// Dead from the abort on, and ended once its body is gone.
#[test]
fn who_waits_for_an_aborted_one_waits_until_its_body_is_gone() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let aborted = scheduler.spawn(async move {
        let _holds = holds;
        std::future::pending::<()>().await;
    });
    let aborted = aborted.unwrap();
    aborted.abort().unwrap();
    assert_eq!(aborted.state(), CoroutineState::Dead);
    assert!(!aborted.is_finished() && !aborted.coroutine().is_finished());
    scheduler.execute_coroutine(aborted.id()).unwrap();
    assert!(aborted.is_finished() && aborted.coroutine().is_finished());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn shutdown_drops_what_lives_and_refuses_more() {
    let scheduler = started(oversubscribed(2));
    let held = Arc::new(());
    let handles: Vec<_> = (0..100)
        .map(|_| {
            let held = Arc::clone(&held);
            let body = async move {
                let _held = held;
                sleep(Duration::from_secs(3600)).await;
            };
            scheduler.spawn(body).unwrap()
        })
        .collect();
    let handle = scheduler.handle();
    drop(scheduler);
    assert_eq!(Arc::strong_count(&held), 1);
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    assert_eq!(handle.spawn(async {}).unwrap_err(), SpawnError::ShutDown);
}

#[test]
fn a_waker_may_outlive_everything() {
    let scheduler = started(oversubscribed(2));
    let kept = Arc::new(Mutex::new(None));
    let keeper = Arc::clone(&kept);
    let handle = scheduler
        .spawn(poll_fn(move |cx| {
            *keeper.lock() = Some(cx.waker().clone());
            Poll::Ready(())
        }))
        .unwrap();
    handle.join().unwrap();
    drop(scheduler);
    let waker = kept.lock().take().unwrap();
    waker.wake_by_ref();
    let clone = waker.clone();
    clone.wake();
    drop(waker);
}

#[test]
fn timers_fire_in_order_on_a_virtual_clock() {
    let clock = coroutine_scheduler::VirtualClock::default();
    let config = SchedulerConfig {
        clock: coroutine_scheduler::Clock::Virtual(clock),
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for ms in [30, 10, 20] {
        let order = Arc::clone(&order);
        let _detached = scheduler
            .spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                order.lock().push(ms);
            })
            .unwrap();
    }
    let late = scheduler
        .spawn(timeout(
            Duration::from_millis(15),
            std::future::pending::<()>(),
        ))
        .unwrap();
    let run = || while scheduler.run_one().is_some() {};
    run();
    assert_eq!(scheduler.advance(Duration::from_millis(9)), 0);
    assert_eq!(scheduler.advance(Duration::from_millis(6)), 2);
    run();
    assert!(late.join().unwrap().is_err());
    scheduler.advance(Duration::from_millis(15));
    run();
    assert_eq!(*order.lock(), [10, 20, 30]);
}

#[test]
fn leaks_are_named() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let options = SpawnOptions::new().name("forgotten");
    let _handle = scheduler
        .spawn_with(options, std::future::pending::<()>())
        .unwrap();
    let sleeps = scheduler.spawn(sleep(Duration::from_secs(100))).unwrap();
    assert!(scheduler.leaked().is_empty(), "they are ready");
    while scheduler.run_one().is_some() {}
    let leaked = scheduler.leaked();
    assert_eq!(leaked.len(), 1, "the sleeper has a timer: {leaked:?}");
    assert_eq!(leaked[0].name.as_deref(), Some("forgotten"));
    assert!(leaked[0].spawned_at.file().ends_with("spawn_join.rs"));
    sleeps.abort().unwrap();
}
