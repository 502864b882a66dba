//! Coroutines with stacks: waiting anywhere, ending early, overflow, reuse.

mod common;

use std::cell::RefCell;
use std::future::poll_fn;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use common::{oversubscribed, started};
use coroutine_scheduler::stack::Guards;
use coroutine_scheduler::{
    CoroutinePool, CoroutineScheduler, CoroutineState, JoinError, JoinHandle, PoolConfig, Priority,
    SchedulerConfig, SpawnError, SpawnOptions, StackConfig, StackError, is_preempted, sleep, spawn,
    stackful, yield_now,
};
use parking_lot::Mutex;

fn plain() -> SpawnOptions {
    SpawnOptions::new()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// Some tests need a process of their own, since they look at its memory or end
// it: they run this file again, just themselves.

const CHILD: &str = "STACKFUL_CHILD";

fn run_child(test: &str, kind: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, kind)
        .output()
        .unwrap()
}

/// Whether this is the process for `test` alone; else makes one and waits.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let child = run_child(test, "alone");
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{stderr}");
    false
}

/// What a child that ends by a signal says, and the signal.
fn last_words(test: &str, kind: &str) -> (String, Option<i32>) {
    let child = run_child(test, kind);
    let stderr = String::from_utf8_lossy(&child.stderr).into_owned();
    (stderr, child.status.signal())
}

/// Waits for something that another thread does; should it not come, to the
/// watchdog's end.
fn eventually(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A queue between coroutines of any kind.
#[derive(Default)]
struct Channel(Mutex<(Vec<u64>, Vec<Waker>)>);

impl Channel {
    fn send(&self, value: u64) {
        let wakers = {
            let mut inner = self.0.lock();
            inner.0.push(value);
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    async fn receive(&self) -> u64 {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            if inner.0.is_empty() {
                inner.1.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(inner.0.remove(0))
        })
        .await
    }
}

/// Notes its drop.
struct Note(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Note {
    fn drop(&mut self) {
        self.1.lock().push(self.0);
    }
}

fn wait_forever() {
    stackful::wait(std::future::pending::<()>());
}

#[test]
fn results_come_back() {
    let scheduler = started(oversubscribed(3));
    let handles: Vec<_> = (0..1000_u64)
        .map(|n| {
            let body = move || {
                stackful::yield_turn();
                n * 2
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        })
        .collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().unwrap(), n * 2);
    }
    let stacks = scheduler.get_stats().stacks;
    assert_eq!((stacks.taken, stacks.in_use, stacks.lost), (1000, 0, 0));
    // Each vCPU takes a few at once, and some are on their way to be used again.
    assert!(stacks.made <= 1200, "{stacks:?}");
    assert!(stacks.stack_bytes >= 64 << 10);
}

#[test]
fn it_waits_for_timers_channels_and_handles() {
    let scheduler = started(oversubscribed(2));
    let channel = Arc::new(Channel::default());
    let to = Arc::clone(&channel);
    let sum = scheduler
        .spawn_stackful(plain(), move || {
            let start = coroutine_scheduler::now();
            stackful::wait(sleep(Duration::from_millis(5)));
            assert!(coroutine_scheduler::now() - start >= Duration::from_millis(5));
            let child = stackful::spawn(plain(), || 100).unwrap();
            let future = spawn(async { 1000 }).unwrap();
            let received = stackful::wait(channel.receive());
            received + stackful::wait(child).unwrap() + stackful::wait(future).unwrap()
        })
        .unwrap();
    let sender = scheduler.spawn(async move { to.send(7) }).unwrap();
    sender.join().unwrap();
    assert_eq!(sum.join().unwrap(), 1107);
}

#[test]
fn futures_and_stacks_pass_messages_on() {
    const ROUNDS: u64 = 2000;
    let scheduler = started(oversubscribed(2));
    let (there, back) = (Arc::new(Channel::default()), Arc::new(Channel::default()));
    let (there2, back2) = (Arc::clone(&there), Arc::clone(&back));
    let echo = scheduler
        .spawn(async move {
            for _ in 0..ROUNDS {
                let n = there2.receive().await;
                back2.send(n + 1);
            }
        })
        .unwrap();
    let stack = scheduler
        .spawn_stackful(plain(), move || {
            for n in 0..ROUNDS {
                there.send(n);
                assert_eq!(stackful::wait(back.receive()), n + 1);
            }
        })
        .unwrap();
    stack.join().unwrap();
    echo.join().unwrap();
}

#[test]
fn it_stays_on_its_thread() {
    let scheduler = started(oversubscribed(4));
    let handles: Vec<_> = (0..100)
        .map(|_| {
            let body = || {
                // Neither `Send` nor moved: allowed, since the thread is kept.
                let local = Rc::new(RefCell::new(0));
                let other = Rc::clone(&local);
                let thread = std::thread::current().id();
                for _ in 0..50 {
                    *other.borrow_mut() += 1;
                    stackful::yield_turn();
                    stackful::wait(yield_now());
                    assert_eq!(std::thread::current().id(), thread);
                }
                *local.borrow()
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        })
        .collect();
    for handle in handles {
        assert_eq!(handle.join().unwrap(), 50);
    }
}

#[test]
fn it_runs_where_it_is_pinned_and_evenly_else() {
    let scheduler = started(oversubscribed(3));
    let pinned = plain().pinned_to(2);
    let handle = scheduler.spawn_stackful(pinned, wait_forever).unwrap();
    assert_eq!(handle.info().assigned_vcpu, Some(2));
    let others: Vec<_> = (0..8)
        .map(|_| scheduler.spawn_stackful(plain(), wait_forever).unwrap())
        .collect();
    let mut counts = [0; 3];
    for handle in others.iter().chain([&handle]) {
        counts[handle.info().assigned_vcpu.unwrap()] += 1;
    }
    assert_eq!(counts, [3; 3]);
    let error = scheduler.migrate_coroutine(handle.id(), 0).unwrap_err();
    assert!(error.to_string().contains("pinned"), "{error}");
}

#[test]
fn priorities_hold_for_both_kinds() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for (name, priority) in [
        ("low", Priority::Low),
        ("high", Priority::High),
        ("urgent", Priority::RealTime),
    ] {
        let future = Note(name, Arc::clone(&order));
        let stack = Note(name, Arc::clone(&order));
        let options = plain().priority(priority);
        let _detached = scheduler
            .spawn_with(options.clone(), async move { drop(future) })
            .unwrap();
        let _detached = scheduler
            .spawn_stackful(options, move || drop(stack))
            .unwrap();
    }
    while scheduler.run_one().is_some() {}
    let order = std::mem::take(&mut *order.lock());
    assert_eq!(order, ["urgent", "urgent", "high", "high", "low", "low"]);
}

#[test]
fn long_runners_make_way_when_asked() {
    let scheduler = started(SchedulerConfig {
        time_slice: Duration::from_micros(200),
        ..oversubscribed(1)
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let hog = scheduler
        .spawn_stackful(plain(), move || {
            let mut n_asked = 0;
            while !stop.load(Ordering::Relaxed) {
                if is_preempted() {
                    n_asked += 1;
                    stackful::checkpoint();
                }
            }
            n_asked
        })
        .unwrap();
    eventually(|| hog.state() == CoroutineState::Running);
    // On the same vCPU, so it needs the hog to make way.
    let stop = move || is_over.store(true, Ordering::Relaxed);
    let other = scheduler.spawn_stackful(plain(), stop).unwrap();
    other.join().unwrap();
    assert!(hog.join().unwrap() > 0, "it was asked");
}

#[test]
fn recursion_goes_as_deep_as_the_stack() {
    fn depth(n: u32) -> u32 {
        let frame = [n; 32];
        if n == 0 {
            stackful::yield_turn();
            return std::hint::black_box(frame)[31];
        }
        depth(n - 1) + std::hint::black_box(frame)[n as usize % 32] - (n - 1)
    }
    let config = SchedulerConfig {
        stacks: StackConfig {
            stack_bytes: 1 << 20,
            stacks_max: 100,
            ..StackConfig::default()
        },
        ..oversubscribed(2)
    };
    let scheduler = started(config);
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let body = || {
                let left = stackful::stack_left().unwrap();
                assert!(left > 1_000_000 && left < 1 << 21, "{left}");
                depth(3000)
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        })
        .collect();
    for handle in handles {
        assert_eq!(handle.join().unwrap(), 3000);
    }
    assert_eq!(stackful::stack_left(), None);
}

#[test]
fn a_panic_ends_only_its_coroutine() {
    let scheduler = started(oversubscribed(1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Note("a", Arc::clone(&order)), Note("b", Arc::clone(&order)));
    let bad = scheduler
        .spawn_stackful(plain(), move || {
            let _first = first;
            let _second = second;
            stackful::yield_turn();
            panic!("on purpose");
        })
        .unwrap();
    let good = scheduler.spawn_stackful(plain(), || 1).unwrap();
    let error: JoinError = bad.join().unwrap_err();
    assert_eq!(error.panic_message(), Some("on purpose"));
    assert_eq!(*order.lock(), ["b", "a"]);
    assert_eq!(good.join().unwrap(), 1);
    assert_eq!(scheduler.get_stats().stacks.in_use, 0);
}

#[test]
fn a_panic_in_one_does_not_show_in_another() {
    // The thread's count of panics is back at 0 before another stack runs.
    let scheduler = started(oversubscribed(1));
    for _ in 0..10 {
        let bad = scheduler
            .spawn_stackful(plain(), || -> () {
                let caught = catch_unwind(|| panic!("caught"));
                assert!(caught.is_err());
                stackful::yield_turn();
                panic!("on purpose");
            })
            .unwrap();
        let good = scheduler
            .spawn_stackful(plain(), || {
                stackful::yield_turn();
                std::thread::panicking()
            })
            .unwrap();
        assert!(!good.join().unwrap());
        bad.join().unwrap_err();
    }
}

/// Suspended in the middle of some calls, with something to drop in each.
fn suspended_with_notes(
    scheduler: &CoroutineScheduler,
    order: &Arc<Mutex<Vec<&'static str>>>,
) -> JoinHandle<()> {
    fn inner(order: Arc<Mutex<Vec<&'static str>>>) {
        let _inner = Note("inner", order);
        wait_forever();
    }
    let order = Arc::clone(order);
    let captured = Note("captured", Arc::clone(&order));
    scheduler
        .spawn_stackful(plain(), move || {
            let _captured = captured;
            let _outer = Note("outer", Arc::clone(&order));
            inner(order);
        })
        .unwrap()
}

#[test]
fn an_abort_drops_locals_in_order() {
    let scheduler = started(oversubscribed(2));
    let order = Arc::new(Mutex::new(Vec::new()));
    let handle = suspended_with_notes(&scheduler, &order);
    eventually(|| handle.state() == CoroutineState::Waiting);
    handle.abort().unwrap();
    assert!(handle.join().unwrap_err().is_cancelled());
    assert_eq!(*order.lock(), ["inner", "outer", "captured"]);
    assert_eq!(scheduler.get_stats().stacks.in_use, 0);
}

#[test]
fn an_abort_before_the_start_needs_no_stack() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let handle = suspended_with_notes(&scheduler, &order);
    handle.abort().unwrap();
    while scheduler.run_one().is_some() {}
    assert!(handle.join().unwrap_err().is_cancelled());
    assert_eq!(*order.lock(), ["captured"]);
    let stacks = scheduler.get_stats().stacks;
    assert_eq!((stacks.taken, stacks.coroutines), (0, 0));
}

#[test]
fn the_end_of_the_scheduler_unwinds_every_stack() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let scheduler = started(oversubscribed(2));
    let handles: Vec<_> = (0..50)
        .map(|_| suspended_with_notes(&scheduler, &order))
        .collect();
    eventually(|| {
        let waits = |handle: &JoinHandle<()>| handle.state() == CoroutineState::Waiting;
        handles.iter().all(waits)
    });
    drop(scheduler);
    let count = |name| order.lock().iter().filter(|n| **n == name).count();
    assert_eq!(["inner", "outer", "captured"].map(count), [50; 3]);
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
}

#[test]
fn a_body_that_catches_the_unwinding_is_unwound_again() {
    let scheduler = started(oversubscribed(1));
    let n_caught = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_caught);
    let stubborn = scheduler
        .spawn_stackful(plain(), move || {
            for _ in 0..3 {
                if catch_unwind(AssertUnwindSafe(wait_forever)).is_err() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            7
        })
        .unwrap();
    eventually(|| stubborn.state() == CoroutineState::Waiting);
    stubborn.abort().unwrap();
    assert!(stubborn.join().unwrap_err().is_cancelled(), "and not 7");
    assert_eq!(n_caught.load(Ordering::Relaxed), 3);
    assert_eq!(scheduler.get_stats().stacks.in_use, 0);
}

#[test]
fn another_panic_while_it_is_unwound_is_reported() {
    let scheduler = started(oversubscribed(1));
    let handle = scheduler
        .spawn_stackful(plain(), || -> () {
            let _ = catch_unwind(AssertUnwindSafe(wait_forever));
            panic!("after all");
        })
        .unwrap();
    eventually(|| handle.state() == CoroutineState::Waiting);
    handle.abort().unwrap();
    let error = handle.join().unwrap_err();
    assert_eq!(error.panic_message(), Some("after all"));
    assert_eq!(scheduler.get_stats().stacks.in_use, 0);
}

#[test]
fn a_destructor_may_wait_while_it_is_unwound() {
    struct SaysGoodbye(Arc<Channel>);
    impl Drop for SaysGoodbye {
        fn drop(&mut self) {
            stackful::yield_turn();
            let n = stackful::wait(async {
                yield_now().await;
                sleep(Duration::from_millis(2)).await;
                5
            });
            self.0.send(n);
        }
    }
    // Its vCPU is blocked meanwhile; the monitor sees to its timers.
    let scheduler = started(oversubscribed(1));
    let channel = Arc::new(Channel::default());
    let goodbye = SaysGoodbye(Arc::clone(&channel));
    let handle = scheduler
        .spawn_stackful(plain(), move || {
            let _goodbye = goodbye;
            wait_forever();
        })
        .unwrap();
    eventually(|| handle.state() == CoroutineState::Waiting);
    handle.abort().unwrap();
    assert!(handle.join().unwrap_err().is_cancelled());
    let received = scheduler.spawn(async move { channel.receive().await });
    assert_eq!(received.unwrap().join().unwrap(), 5);
}

#[test]
fn waiting_elsewhere_is_an_error_that_says_so() {
    let scheduler = started(oversubscribed(1));
    let wrong = scheduler
        .spawn(async { stackful::wait(std::future::ready(1)) })
        .unwrap();
    let error = wrong.join().unwrap_err();
    let message = error.panic_message().unwrap();
    assert!(message.contains("spawn_stackful"), "{message}");
    // A scheduler inside a stack runs coroutines that are not that stack.
    let inside = scheduler
        .spawn_stackful(plain(), || {
            assert!(stackful::is_on_stack());
            let inner = CoroutineScheduler::new(oversubscribed(1)).unwrap();
            let wrong = inner.spawn(async { stackful::wait(yield_now()) }).unwrap();
            let stack = inner
                .spawn_stackful(plain(), || stackful::wait(async { 4 }))
                .unwrap();
            while inner.run_one().is_some() {}
            let error = stackful::wait(wrong).unwrap_err();
            assert!(error.panic_message().unwrap().contains("spawn_stackful"));
            stackful::wait(stack).unwrap() + stackful::wait(async { 5 })
        })
        .unwrap();
    assert_eq!(inside.join().unwrap(), 9);
}

#[test]
fn pauses_hold_it_back() {
    let scheduler = started(oversubscribed(1));
    let channel = Arc::new(Channel::default());
    let from = Arc::clone(&channel);
    let handle = scheduler
        .spawn_stackful(plain(), move || stackful::wait(from.receive()))
        .unwrap();
    eventually(|| handle.state() == CoroutineState::Waiting);
    handle.pause().unwrap();
    channel.send(3);
    assert_eq!(handle.state(), CoroutineState::Suspended);
    handle.resume().unwrap();
    assert_eq!(handle.join().unwrap(), 3);
}

#[test]
fn large_bodies_and_results_arrive() {
    let scheduler = started(oversubscribed(2));
    let large = [7_u64; 1000];
    let handle = scheduler
        .spawn_stackful(plain(), move || {
            stackful::yield_turn();
            large
        })
        .unwrap();
    assert_eq!(handle.join().unwrap(), large);
    #[repr(align(128))]
    #[derive(Clone, Copy)]
    struct Aligned(u64);
    let aligned = Aligned(3);
    let handle = scheduler
        .spawn_stackful(plain(), move || {
            stackful::yield_turn();
            assert!((&raw const aligned).is_aligned());
            aligned.0
        })
        .unwrap();
    assert_eq!(handle.join().unwrap(), 3);
}

#[test]
fn stacks_that_are_unwound_on_another_thread_are_given_up() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let [aborted, resumed] = [0; 2].map(|_| suspended_with_notes(&scheduler, &order));
    while scheduler.run_one().is_some() {}
    let channel = Arc::new(Channel::default());
    let from = Arc::clone(&channel);
    let receives = scheduler
        .spawn_stackful(plain(), move || stackful::wait(from.receive()))
        .unwrap();
    while scheduler.run_one().is_some() {}
    std::thread::scope(|scope| {
        scope.spawn(|| {
            aborted.abort().unwrap();
            channel.send(1);
            while scheduler.run_one().is_some() {}
        });
    });
    assert!(aborted.join().unwrap_err().is_cancelled());
    let error = receives.join().unwrap_err();
    let message = error.panic_message().unwrap();
    assert!(message.contains("another thread"), "{message}");
    assert_eq!(scheduler.get_stats().stacks.lost, 2);
    assert_eq!(*order.lock(), [""; 0], "nothing was touched");
    resumed.abort().unwrap();
    while scheduler.run_one().is_some() {}
    assert_eq!(*order.lock(), ["inner", "outer", "captured"]);
}

#[test]
fn a_vcpu_with_stacks_keeps_its_thread() {
    // `blocking` would give the vCPU to another thread.
    let scheduler = started(oversubscribed(2));
    let handles: Vec<_> = (0..20)
        .map(|n| {
            let body = move || {
                let thread = std::thread::current().id();
                for _ in 0..20 {
                    coroutine_scheduler::blocking(|| {
                        std::thread::park_timeout(Duration::from_micros(50));
                    });
                    stackful::wait(sleep(Duration::from_micros(10 * n)));
                    assert_eq!(std::thread::current().id(), thread);
                }
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        })
        .collect();
    // Futures that hog make the monitor look for vCPUs to take.
    let hogs: Vec<_> = (0..20)
        .map(|_| {
            let hog = async {
                let end = Instant::now() + Duration::from_millis(3);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            };
            scheduler.spawn(hog).unwrap()
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    for hog in hogs {
        hog.join().unwrap();
    }
    assert_eq!(scheduler.get_stats().stacks.lost, 0);
}

#[test]
fn a_stack_starts_on_the_thread_that_keeps_the_vcpu() {
    // Starts race with the monitor, which takes vCPUs from hogs.
    let scheduler = started(SchedulerConfig {
        time_slice: Duration::from_micros(50),
        ..oversubscribed(2)
    });
    for _ in 0..300 {
        let hog = scheduler
            .spawn(async {
                let end = Instant::now() + Duration::from_micros(300);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            })
            .unwrap();
        let stacks = [0; 4].map(|_| {
            let body = || {
                let end = Instant::now() + Duration::from_micros(100);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                stackful::yield_turn();
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        });
        for stack in stacks {
            stack.join().unwrap();
        }
        hog.join().unwrap();
    }
    let stacks = scheduler.get_stats().stacks;
    assert_eq!((stacks.lost, stacks.in_use), (0, 0));
}

#[test]
fn limits_are_errors_that_name_them() {
    let config = |guards| SchedulerConfig {
        stacks: StackConfig {
            stacks_max: 3,
            guards,
            ..StackConfig::default()
        },
        ..oversubscribed(2)
    };
    for guards in [Guards::Auto, Guards::Mapped] {
        let scheduler = started(config(guards));
        let handles: Vec<_> = (0..3)
            .map(|_| scheduler.spawn_stackful(plain(), wait_forever).unwrap())
            .collect();
        let error = scheduler.spawn_stackful(plain(), || ()).unwrap_err();
        assert_eq!(error, SpawnError::NoStack(StackError::InUse { limit: 3 }));
        for handle in handles {
            handle.abort().unwrap();
            let _ = handle.join();
        }
        let handle = scheduler.spawn_stackful(plain(), || 1).unwrap();
        assert_eq!(handle.join().unwrap(), 1, "there is room again");
    }
}

/// Suspends so many at once; gives the resident bytes of each.
fn suspend_many(count: usize, stacks: StackConfig) -> (usize, usize) {
    let config = SchedulerConfig {
        stacks,
        ..oversubscribed(2)
    };
    let scheduler = started(config);
    scheduler
        .spawn_stackful(plain(), || ())
        .unwrap()
        .join()
        .unwrap();
    let mut handles = Vec::with_capacity(count);
    let before = resident_bytes();
    let n_waiting = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let n_waiting = Arc::clone(&n_waiting);
        let body = move || {
            n_waiting.fetch_add(1, Ordering::Relaxed);
            wait_forever();
        };
        handles.push(scheduler.spawn_stackful(plain(), body).unwrap());
    }
    eventually(|| n_waiting.load(Ordering::Relaxed) == count);
    eventually(|| handles.last().unwrap().state() == CoroutineState::Waiting);
    let each = resident_bytes().saturating_sub(before) / count;
    let in_use = scheduler.get_stats().stacks.in_use;
    for handle in &handles {
        handle.abort().unwrap();
    }
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    (in_use, each)
}

#[test]
fn very_many_can_be_suspended() {
    if !is_alone("very_many_can_be_suspended") {
        return;
    }
    let is_slow = std::env::var_os("RUN_SLOW_TESTS").is_some();
    let count = if is_slow { 200_000 } else { 20_000 };
    let (in_use, each) = suspend_many(count, StackConfig::default());
    assert_eq!(in_use, count);
    assert!(each <= 4700, "{each} bytes resident for each");
}

#[test]
fn mapped_guards_do_too_and_say_where_they_end() {
    let stacks = StackConfig {
        guards: Guards::Mapped,
        ..StackConfig::default()
    };
    let (in_use, _) = suspend_many(2000, stacks.clone());
    assert_eq!(in_use, 2000);
    let scheduler = CoroutineScheduler::new(SchedulerConfig {
        stacks,
        ..oversubscribed(1)
    })
    .unwrap();
    let mut handles = Vec::new();
    let limit = loop {
        match scheduler.spawn_stackful(plain(), || ()) {
            Ok(handle) => handles.push(handle),
            Err(SpawnError::NoStack(error @ StackError::Mappings { limit })) => {
                assert!(error.to_string().contains("vm.max_map_count"), "{error}");
                break limit;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(handles.len(), limit);
}

#[test]
fn stacks_are_reused() {
    let scheduler = started(oversubscribed(1));
    for n in 0..1000 {
        let handle = scheduler.spawn_stackful(plain(), move || n).unwrap();
        assert_eq!(handle.join().unwrap(), n);
    }
    let stacks = scheduler.get_stats().stacks;
    assert_eq!(stacks.taken, 1000);
    assert!(stacks.reused >= 900, "{stacks:?}");
    assert!(stacks.made <= 64, "{stacks:?}");
}

/// Runs some that touch most of their stack, all at once.
fn touch_stacks(scheduler: &CoroutineScheduler, count: usize) {
    let n_touched = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..count)
        .map(|_| {
            let n_touched = Arc::clone(&n_touched);
            let body = move || {
                let mut bytes = [1_u8; 48 << 10];
                std::hint::black_box(&mut bytes);
                n_touched.fetch_add(1, Ordering::Relaxed);
                while n_touched.load(Ordering::Relaxed) < count {
                    stackful::yield_turn();
                }
                std::hint::black_box(&mut bytes);
            };
            scheduler.spawn_stackful(plain(), body).unwrap()
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
}

#[test]
fn trimmed_stacks_give_their_memory_back() {
    if !is_alone("trimmed_stacks_give_their_memory_back") {
        return;
    }
    let config = SchedulerConfig {
        stacks: StackConfig {
            idle_stacks_max: 1000,
            // The monitor would trim, too, should this take long.
            idle_time: Duration::from_secs(3600),
            ..StackConfig::default()
        },
        ..oversubscribed(1)
    };
    let scheduler = started(config);
    touch_stacks(&scheduler, 1);
    let before = resident_bytes();
    touch_stacks(&scheduler, 500);
    let idle = scheduler.get_stats().stacks.idle;
    assert!(idle >= 500, "{idle}");
    let with_idle = resident_bytes();
    assert!(with_idle > before + 500 * (40 << 10), "they are kept warm");
    assert_eq!(scheduler.trim_stacks(), idle);
    let after = resident_bytes();
    assert!(after < with_idle - 500 * (40 << 10), "{with_idle} {after}");
    let stacks = scheduler.get_stats().stacks;
    assert_eq!((stacks.idle, stacks.trimmed), (0, idle as u64));
    touch_stacks(&scheduler, 500);
    assert_eq!(scheduler.get_stats().stacks.made, stacks.made, "used again");
}

#[test]
fn idle_stacks_are_trimmed_by_themselves() {
    let config = SchedulerConfig {
        stacks: StackConfig {
            idle_time: Duration::from_millis(20),
            ..StackConfig::default()
        },
        ..oversubscribed(1)
    };
    let scheduler = started(config);
    touch_stacks(&scheduler, 100);
    // The scheduler sleeps by now, so the monitor does it.
    eventually(|| {
        let stacks = scheduler.get_stats().stacks;
        stacks.idle == 0 && stacks.trimmed > 0
    });
}

#[test]
fn a_pool_bounds_reuses_and_names_its_leaks() {
    let scheduler = started(oversubscribed(2));
    let n_made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_made);
    let config = PoolConfig {
        active_max: 4,
        idle_max: 2,
        idle_time: Duration::from_secs(3600),
        options: plain().name("worker"),
    };
    let pool = CoroutinePool::with_factory(scheduler.handle(), config, move || {
        count.fetch_add(1, Ordering::Relaxed)
    });
    for _ in 0..100 {
        let handle = pool.spawn(|kit| *kit).unwrap();
        assert_eq!(handle.join().unwrap(), 0, "always the same kit");
    }
    eventually(|| pool.stats().active == 0);
    let leaky: Vec<_> = (0..4)
        .map(|_| pool.spawn(|_| wait_forever()).unwrap())
        .collect();
    let error = pool.spawn(|_| ()).unwrap_err();
    assert_eq!(error, SpawnError::PoolFull { limit: 4 });
    // Somebody else's leak is not this pool's.
    let _other = scheduler.spawn(std::future::pending::<()>()).unwrap();
    eventually(|| pool.leaks().len() == 4);
    for leak in pool.leaks() {
        assert_eq!(leak.name.as_deref(), Some("worker"));
        assert!(leak.spawned_at.file().ends_with("stackful.rs"));
    }
    for handle in leaky {
        handle.abort().unwrap();
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    eventually(|| pool.stats().active == 0);
    assert!(pool.leaks().is_empty());
    let stats = pool.stats();
    assert_eq!((stats.spawned, stats.made), (104, 4));
    assert_eq!((stats.reused, stats.spoilt, stats.idle), (100, 4, 0));
    // Four at once; two kits are kept.
    let n_working = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let n_working = Arc::clone(&n_working);
            let body = move |kit: &mut usize| {
                n_working.fetch_add(1, Ordering::Relaxed);
                while n_working.load(Ordering::Relaxed) < 4 {
                    stackful::yield_turn();
                }
                *kit
            };
            pool.spawn(body).unwrap()
        })
        .collect();
    for handle in handles {
        handle.join().unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.trimmed), (2, 2), "{stats:?}");
    assert_eq!(pool.trim(), 2);
    assert_eq!((pool.stats().idle, pool.stats().size()), (0, 0));
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn endless(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 16]);
    endless(frame[3] + 1) + frame[5]
}

#[test]
fn an_overflow_names_the_coroutine() {
    if let Some(kind) = std::env::var_os(CHILD) {
        let guards = if kind == "mapped" {
            Guards::Mapped
        } else {
            Guards::Auto
        };
        let scheduler = started(SchedulerConfig {
            stacks: StackConfig {
                guards,
                ..StackConfig::default()
            },
            ..oversubscribed(2)
        });
        let options = plain().name("too deep");
        // Neighbours of the one that overflows.
        let others = [0; 8].map(|_| scheduler.spawn_stackful(plain(), wait_forever).unwrap());
        let deep = scheduler.spawn_stackful(options, || endless(0)).unwrap();
        let _ = deep.join();
        drop(others);
        return;
    }
    for kind in ["light", "mapped"] {
        let (stderr, signal) = last_words("an_overflow_names_the_coroutine", kind);
        assert_eq!(signal, Some(6), "aborted: {stderr}");
        assert!(stderr.contains("coroutine \"too deep\""), "{stderr}");
        assert!(stderr.contains("tests/stackful.rs:"), "{stderr}");
        assert!(stderr.contains("overflowed its stack of 6"), "{stderr}");
    }
}

#[test]
fn other_faults_are_what_they_were() {
    if std::env::var_os(CHILD).is_some() {
        let scheduler = started(oversubscribed(1));
        let handle = scheduler.spawn_stackful(plain(), || ()).unwrap();
        handle.join().unwrap();
        // On a thread's stack: the standard library's message.
        std::thread::spawn(|| endless(0)).join().unwrap();
        return;
    }
    let (stderr, signal) = last_words("other_faults_are_what_they_were", "");
    assert_eq!(signal, Some(6), "{stderr}");
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
    assert!(!stderr.contains("coroutine"), "{stderr}");
}
