//! What a review found: misuse that safe code can reach, and promises that were
//! kept for some only.

mod common;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, panic_any};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::{oversubscribed, started};
use coroutine_scheduler::level::{LevelSet, Share};
use coroutine_scheduler::{
    ControlError, CoroutineScheduler, CoroutineState, Fairness, JoinError, Policy, Priority,
    SchedulerConfig, SchedulerHandle, SpawnError, SpawnOptions, StartError, TaskGroup, blocking,
    checkpoint, is_preempted, scope, sleep, spawn_with, stackful, with_preempt_word, yield_now,
};

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}

#[test]
fn a_coroutine_of_another_scheduler_is_not_scheduled_here() {
    let here = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let there = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let keeps = here
        .create_coroutine(Priority::Normal, 0, async { 1 })
        .unwrap();
    let foreign = there
        .create_coroutine(Priority::Normal, 0, async { 2 })
        .unwrap();
    assert!(here.schedule(&foreign).is_err());
    assert_eq!(here.run_one(), None);
    assert_eq!(
        (here.coroutines().len(), there.coroutines().len()),
        (1, 1),
        "each is still where it was"
    );
    there.schedule(&foreign).unwrap();
    assert!(there.run_one().is_some());
    assert_eq!(foreign.join().unwrap(), 2);
    here.schedule(&keeps).unwrap();
    assert!(here.run_one().is_some());
    assert_eq!(keeps.join().unwrap(), 1);
}

#[test]
fn a_scheduler_that_is_driven_by_hand_does_not_start_meanwhile() {
    let scheduler = Arc::new(CoroutineScheduler::new(oversubscribed(1)).unwrap());
    let inner = Arc::downgrade(&scheduler);
    let body = async move {
        let scheduler = inner.upgrade().unwrap();
        let started = scheduler.start();
        // Had a thread come, it would hold this vCPU as well.
        yield_now().await;
        matches!(started, Err(StartError::Driven))
    };
    let refused = scheduler.spawn(body).unwrap();
    while scheduler.run_one().is_some() {}
    assert!(refused.join().unwrap());
    scheduler.start().unwrap();
    assert_eq!(scheduler.spawn(async { 3 }).unwrap().join().unwrap(), 3);
}

/// A waker that is used after a wait inside of the future that has it.
#[test]
fn the_waker_of_a_wait_lives_through_waits_inside_of_it() {
    let scheduler = started(oversubscribed(1));
    let seen: Arc<parking_lot::Mutex<Vec<usize>>> = Arc::default();
    let place = Arc::clone(&seen);
    let body = move || {
        let mut n_polls = 0;
        stackful::wait(poll_fn(|cx| {
            n_polls += 1;
            if n_polls > 1 {
                return Poll::Ready(());
            }
            place.lock().push(std::ptr::from_ref(cx.waker()).addr());
            stackful::wait(sleep(Duration::from_millis(1)));
            stackful::yield_turn();
            let here = std::hint::black_box(0_u8);
            place.lock().push(std::ptr::from_ref(&here).addr());
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
    };
    let options = SpawnOptions::new();
    let handle = scheduler.spawn_stackful(options, body).unwrap();
    handle.join().unwrap();
    let seen = seen.lock();
    // The slab's stacks are far from the threads': the waker has to be on the
    // coroutine's own, which is there as long as the wait.
    assert!(seen[0].abs_diff(seen[1]) < 1 << 20, "{seen:x?}");
}

#[test]
fn an_abort_by_handle_reaches_who_polls_for_it() {
    // A vCPU is free all the time: nobody else has a reason to ask.
    let scheduler = started(oversubscribed(2));
    for is_pause in [false, true] {
        let runs = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&runs);
        let hog = scheduler
            .spawn(async move {
                theirs.store(true, Ordering::SeqCst);
                loop {
                    checkpoint().await;
                }
            })
            .unwrap();
        wait_for(&runs);
        if is_pause {
            hog.pause().unwrap();
            while hog.state() != CoroutineState::Suspended {
                thread::yield_now();
            }
        }
        hog.abort().unwrap();
        let result: Result<(), JoinError> = hog.join();
        assert!(result.unwrap_err().is_cancelled());
    }
}

/// As compiled code of a guest does: nothing but the word is polled.
fn poll_the_word() {
    with_preempt_word(|word| {
        while word.load(Ordering::Relaxed) == 0 {
            std::hint::spin_loop();
        }
    });
}

#[test]
fn an_abort_or_a_pause_by_handle_raises_the_word() {
    for preemptive in [true, false] {
        let scheduler = started(SchedulerConfig {
            preemptive,
            ..oversubscribed(2)
        });
        for is_pause in [false, true] {
            let n_turns = Arc::new(AtomicUsize::new(0));
            let theirs = Arc::clone(&n_turns);
            let hog = scheduler
                .spawn(async move {
                    loop {
                        theirs.fetch_add(1, Ordering::SeqCst);
                        poll_the_word();
                        yield_now().await;
                    }
                })
                .unwrap();
            while n_turns.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            if is_pause {
                hog.pause().unwrap();
                while hog.state() != CoroutineState::Suspended {
                    thread::yield_now();
                }
                let n_before = n_turns.load(Ordering::SeqCst);
                hog.resume().unwrap();
                while n_turns.load(Ordering::SeqCst) == n_before {
                    thread::yield_now();
                }
            }
            hog.abort().unwrap();
            let result: Result<(), JoinError> = hog.join();
            assert!(result.unwrap_err().is_cancelled());
        }
    }
}

#[test]
fn after_blocking_code_the_word_is_raised() {
    let scheduler = started(oversubscribed(1));
    let hog = scheduler.spawn(async {
        blocking(|| ());
        poll_the_word();
        checkpoint().await;
        // On a vCPU again: nobody asks for anything.
        is_preempted()
    });
    assert!(!hog.unwrap().join().unwrap());
}

#[test]
fn after_blocking_code_that_panicked_the_word_is_raised() {
    let scheduler = started(oversubscribed(1));
    let hog = scheduler.spawn(async {
        let caught = std::panic::catch_unwind(|| blocking(|| panic!("caught below")));
        assert!(caught.is_err());
        poll_the_word();
        7
    });
    assert_eq!(hog.unwrap().join().unwrap(), 7);
}

#[test]
fn a_scope_ends_though_a_member_only_polls() {
    let scheduler = started(oversubscribed(3));
    let body = scope(async |group| {
        group
            .spawn(async {
                loop {
                    checkpoint().await;
                }
            })
            .unwrap();
        group
            .spawn(async {
                sleep(Duration::from_millis(5)).await;
                panic!("the scope fails")
            })
            .unwrap();
    });
    let handle = scheduler.spawn(body).unwrap();
    assert!(handle.join().unwrap().is_err());
}

#[test]
fn an_abort_reaches_who_polls_on_a_thread_without_vcpu() {
    let scheduler = started(oversubscribed(1));
    let runs = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&runs);
    let hog = scheduler
        .spawn(async move {
            blocking(|| {
                theirs.store(true, Ordering::SeqCst);
                while !is_preempted() {
                    thread::yield_now();
                }
            });
        })
        .unwrap();
    wait_for(&runs);
    scheduler.abort_coroutine(hog.id()).unwrap();
    // It has no other end.
    drop(hog.join());
}

/// Nothing but an arrival makes anybody give way: slices have no end.
#[derive(Debug)]
struct ArrivalsOnly;

impl Policy for ArrivalsOnly {
    fn name(&self) -> &'static str {
        "arrivals-only"
    }
    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }
    fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        ready.most_urgent()
    }
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        arriving > running
    }
}

/// A pinned `RealTime` coroutine makes a lower one give way at once: there is no
/// end of a slice to wait for.
#[test]
fn a_pinned_coroutine_preempts_like_any_other() {
    for is_stackful in [false, true] {
        let policy = Box::new(ArrivalsOnly);
        let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), policy).unwrap();
        scheduler.start().unwrap();
        let runs = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&runs);
        let low = SpawnOptions::new().priority(Priority::Low);
        let hog = scheduler
            .spawn_with(low, async move {
                theirs.store(true, Ordering::SeqCst);
                loop {
                    checkpoint().await;
                }
            })
            .unwrap();
        wait_for(&runs);
        let urgent = SpawnOptions::new().priority(Priority::RealTime);
        let handle = if is_stackful {
            scheduler.spawn_stackful(urgent, || ()).unwrap()
        } else {
            scheduler.spawn_with(urgent.pinned_to(0), async {}).unwrap()
        };
        handle.join().unwrap();
        let _: Result<(), _> = hog.abort();
    }
}

/// A payload whose drop panics with another such one.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.fetch_add(1, Ordering::SeqCst) < 5 && !thread::panicking() {
            panic_any(Bomb(Arc::clone(&self.0)));
        }
    }
}

#[test]
fn a_payload_that_panics_in_its_drop_ends_its_coroutine_alone() {
    let scheduler = started(oversubscribed(1));
    let n_drops = Arc::new(AtomicUsize::new(0));
    let bomb = Bomb(Arc::clone(&n_drops));
    // Nobody wants the result: the vCPU drops it.
    drop(scheduler.spawn(async move { panic_any(bomb) }).unwrap());
    let after = scheduler.spawn(async { 4 }).unwrap();
    assert_eq!(after.join().unwrap(), 4);
}

/// Among `RealTime`, the earliest deadline is first.
#[test]
fn deadlines_hold_for_pinned_ones() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let order: Arc<parking_lot::Mutex<Vec<u64>>> = Arc::default();
    for deadline in [30, 10, 20] {
        let order = Arc::clone(&order);
        let options = SpawnOptions::new()
            .priority(Priority::RealTime)
            .deadline(Duration::from_secs(1000 + deadline))
            .pinned_to(0);
        let body = async move { order.lock().push(deadline) };
        drop(scheduler.spawn_with(options, body).unwrap());
    }
    while scheduler.run_one().is_some() {}
    assert_eq!(*order.lock(), [10, 20, 30]);
}

#[test]
fn a_timer_survives_a_waker_that_panics() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of somebody else's")
        }
    }
    let scheduler = started(oversubscribed(1));
    let body = async {
        let mut pinned = Box::pin(sleep(Duration::from_millis(5)));
        let waker = Waker::from(Arc::new(Panics));
        let polled = pinned.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        sleep(Duration::from_millis(50)).await;
        5
    };
    let handle = scheduler.spawn(body).unwrap();
    assert_eq!(handle.join().unwrap(), 5);
}

#[test]
fn periods_without_end_do_not_overflow() {
    let scheduler = started(oversubscribed(1));
    let handle = scheduler
        .spawn(async { coroutine_scheduler::interval(Duration::MAX).tick().await })
        .unwrap();
    while handle.state() != CoroutineState::Waiting {
        assert!(!handle.is_finished(), "it ended at once");
        thread::yield_now();
    }
    handle.abort().unwrap();
    assert!(handle.join().unwrap_err().is_cancelled());
}

/// What a running coroutine makes ready goes before anything less urgent on
/// every vCPU, though its own does not come to it.
#[test]
fn strict_holds_over_vcpus_for_what_a_running_one_makes_ready() {
    let scheduler = started(SchedulerConfig {
        fairness: Fairness::Strict,
        hand_off: false,
        ..oversubscribed(2)
    });
    let stop = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::new(AtomicBool::new(false));
    let has_run = Arc::new(AtomicBool::new(false));
    let n_picks = Arc::new(AtomicUsize::new(0));
    let lows: Vec<_> = (0..2)
        .map(|_| {
            let (stop, is_ready) = (Arc::clone(&stop), Arc::clone(&is_ready));
            let (has_run, n_picks) = (Arc::clone(&has_run), Arc::clone(&n_picks));
            let low = SpawnOptions::new().priority(Priority::Low);
            let body = async move {
                while !stop.load(Ordering::SeqCst) {
                    if is_ready.load(Ordering::SeqCst) && !has_run.load(Ordering::SeqCst) {
                        n_picks.fetch_add(1, Ordering::SeqCst);
                    }
                    yield_now().await;
                }
            };
            scheduler.spawn_with(low, body).unwrap()
        })
        .collect();
    let spawner = scheduler.spawn(async move {
        let high = SpawnOptions::new().priority(Priority::High);
        let was_run = Arc::clone(&has_run);
        let child = async move { has_run.store(true, Ordering::SeqCst) };
        let child = spawn_with(high, child).unwrap();
        is_ready.store(true, Ordering::SeqCst);
        // This vCPU is not free before the other one has run it.
        wait_for(&was_run);
        child.await.unwrap();
    });
    spawner.unwrap().join().unwrap();
    stop.store(true, Ordering::SeqCst);
    for low in lows {
        low.join().unwrap();
    }
    // The one that was picked when it came.
    let n_picks = n_picks.load(Ordering::SeqCst);
    assert!(n_picks <= 1, "{n_picks} picks of Low while High was ready");
}

/// Who makes something more urgent ready makes way for it, as for an arrival
/// from elsewhere, where the policy preempts.
#[test]
fn what_a_running_one_makes_ready_preempts_it() {
    let policy = Box::new(ArrivalsOnly);
    let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), policy).unwrap();
    scheduler.start().unwrap();
    let low = SpawnOptions::new().priority(Priority::Low);
    let body = async {
        let high = SpawnOptions::new().priority(Priority::High);
        let child = spawn_with(high, async {}).unwrap();
        while !child.is_finished() {
            checkpoint().await;
        }
    };
    scheduler.spawn_with(low, body).unwrap().join().unwrap();
}

#[test]
fn what_nobody_will_run_is_not_waited_for() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let created = scheduler
        .create_coroutine(Priority::Normal, 0, async { 1 })
        .unwrap();
    let id = created.coroutine().id();
    assert!(scheduler.execute_coroutine(id).is_err());
    scheduler.schedule(&created.coroutine()).unwrap();
    scheduler.pause_coroutine(id).unwrap();
    assert!(scheduler.execute_coroutine(id).is_err());
    scheduler.resume_coroutine(id).unwrap();
    scheduler.execute_coroutine(id).unwrap();
    assert_eq!(created.join().unwrap(), 1);
}

#[derive(Debug)]
struct Broken;

impl Policy for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }
    fn pick(&self, _: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        panic!("this policy is broken")
    }
}

/// In a child process, which it ends.
#[test]
fn a_policy_that_panics_ends_the_process_and_says_why() {
    const CHILD: &str = "REVIEW_BROKEN_POLICY";
    if std::env::var_os(CHILD).is_some() {
        let scheduler =
            CoroutineScheduler::with_policy(oversubscribed(1), Box::new(Broken)).unwrap();
        scheduler.start().unwrap();
        let _ = scheduler.spawn(async {}).unwrap().join();
        unreachable!("the vCPU's thread is gone");
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "a_policy_that_panics_ends_the_process_and_says_why",
            "--exact",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success());
    assert!(stderr.contains("in a Policy?"), "{stderr}");
    assert!(stderr.contains("this policy is broken"), "{stderr}");
}

#[test]
fn what_nobody_can_steal_counts_as_ready() {
    let scheduler = CoroutineScheduler::new(SchedulerConfig {
        ready_queue_size: 1,
        ..oversubscribed(1)
    })
    .unwrap();
    let handle = scheduler.handle();
    let body = scheduler.spawn(async move {
        let n_ready = || handle.vcpus()[0].coroutine_count;
        assert_eq!(n_ready(), 0);
        // To the place for what runs next.
        let first = handle.spawn(async {}).unwrap();
        assert_eq!(n_ready(), 1);
        let refused = handle.spawn(async {}).map(drop);
        first.await.unwrap();
        assert_eq!(n_ready(), 0);
        // To the head of its queue: something urgent interrupts it.
        let urgent = SpawnOptions::new().priority(Priority::RealTime);
        let theirs = handle.clone();
        let seen = async move { theirs.vcpus()[0].coroutine_count };
        let seen = handle.spawn_with(urgent, seen).unwrap();
        checkpoint().await;
        (refused, seen.await.unwrap())
    });
    while scheduler.run_one().is_some() {}
    let (refused, n_seen) = body.unwrap().join().unwrap();
    assert_eq!(refused, Err(SpawnError::ReadyQueueFull { limit: 1 }));
    assert_eq!(n_seen, 1);
}

/// The counter itself: by a policy that picks the wrong way round.
#[test]
fn inversions_are_seen_where_nobody_can_steal() {
    #[derive(Debug)]
    struct Backwards;
    impl Policy for Backwards {
        fn name(&self) -> &'static str {
            "backwards"
        }
        fn slice(&self, _: Priority) -> Option<Duration> {
            None
        }
        fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
            Priority::ALL.into_iter().find(|level| ready.has(*level))
        }
    }
    for is_pinned in [true, false] {
        let config = SchedulerConfig {
            fairness: Fairness::Strict,
            ..oversubscribed(1)
        };
        let scheduler = CoroutineScheduler::with_policy(config, Box::new(Backwards)).unwrap();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            let options = SpawnOptions::new().priority(priority);
            let options = if is_pinned {
                options.pinned_to(0)
            } else {
                options
            };
            drop(scheduler.spawn_with(options, async {}).unwrap());
        }
        while scheduler.run_one().is_some() {}
        assert_eq!(scheduler.get_stats().priority_inversions, 2);
    }
}

#[test]
fn an_id_is_unknown_to_another_scheduler() {
    let [here, there] = [(); 2].map(|()| CoroutineScheduler::new(oversubscribed(1)).unwrap());
    let spawn_some = |scheduler: &CoroutineScheduler| -> Vec<_> {
        (0..100)
            .map(|_| scheduler.spawn(std::future::pending::<()>()).unwrap())
            .collect()
    };
    let (ours, theirs) = (spawn_some(&here), spawn_some(&there));
    for (our, their) in ours.iter().zip(&theirs) {
        assert_ne!(our.id(), their.id());
        let unknown = ControlError::Unknown(our.id());
        assert_eq!(there.abort_coroutine(our.id()).unwrap_err(), unknown);
        assert_eq!(there.pause_coroutine(our.id()).unwrap_err(), unknown);
        assert!(there.get_coroutine_info(our.id()).is_err());
    }
    assert_eq!(
        (here.coroutines().len(), there.coroutines().len()),
        (100, 100)
    );
}

#[test]
fn a_thread_that_was_weak_is_as_nice_as_before() {
    const OWN: i32 = 3;
    let niceness = || rustix::process::getpriority_process(None).unwrap();
    // Of this thread, and so of those that it makes.
    rustix::process::setpriority_process(None, OWN).unwrap();
    let scheduler = started(oversubscribed(1));
    for _ in 0..10 {
        let hog = scheduler.spawn(async move {
            while niceness() == OWN {
                std::hint::spin_loop();
            }
        });
        // It waits for the hog's vCPU, and runs on the thread that takes it.
        let next = scheduler.spawn(async move { niceness() });
        assert_eq!(next.unwrap().join().unwrap(), OWN);
        hog.unwrap().join().unwrap();
    }
}

#[test]
fn a_coroutine_may_be_the_last_owner_of_its_scheduler() {
    for panics in [false, true] {
        let scheduler = Arc::new(started(oversubscribed(2)));
        let waits = scheduler.spawn(std::future::pending::<()>()).unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let own = Arc::clone(&scheduler);
        let handle = scheduler
            .spawn(async move {
                let own = own;
                // The last one: the test has dropped its own before it sends.
                receiver.recv().unwrap();
                assert!(!panics, "it is dropped while the stack unwinds");
                drop(own);
                3
            })
            .unwrap();
        drop(scheduler);
        sender.send(()).unwrap();
        let result = handle.join();
        assert_eq!(result.is_ok(), !panics);
        let waits = waits.join();
        assert!(waits.unwrap_err().is_cancelled());
    }
}

/// What a stackful body borrows from its vCPU lasts over its waits, also where
/// every turn is a call of the caller's.
#[test]
fn the_preempt_word_lives_through_waits_inside_of_its_use() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let handle = scheduler.handle();
    let body = move || {
        with_preempt_word(|word| {
            stackful::yield_turn();
            // It is the vCPU's word still.
            let current = SchedulerHandle::current().unwrap();
            let own = current.coroutines()[0].id;
            handle.pause_coroutine(own).unwrap();
            let is_raised = word.load(Ordering::Relaxed) != 0;
            handle.resume_coroutine(own).unwrap();
            word.store(0xdead_beef, Ordering::Relaxed);
            is_raised
        })
    };
    let handle = scheduler.spawn_stackful(SpawnOptions::new(), body).unwrap();
    assert!(scheduler.run_one().is_some());
    // Where the word would be, had it gone with the turn.
    let others: Vec<_> = (0..100).map(|_| Box::new([0_u64; 4])).collect();
    assert!(scheduler.run_one().is_some());
    assert!(others.iter().all(|other| **other == [0; 4]));
    assert!(handle.join().unwrap(), "nobody raises this word");
}

/// A policy is asked in the middle of a turn, with the vCPU in hand.
#[test]
fn a_policy_that_waits_on_a_stack_is_stopped() {
    #[derive(Debug)]
    struct Waits(Arc<AtomicUsize>);
    impl Policy for Waits {
        fn name(&self) -> &'static str {
            "waits"
        }
        fn slice(&self, _: Priority) -> Option<Duration> {
            None
        }
        fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
            ready.most_urgent()
        }
        fn preempts(&self, _: Priority, _: Priority) -> bool {
            let caught = std::panic::catch_unwind(stackful::yield_turn);
            self.0
                .fetch_add(usize::from(caught.is_err()), Ordering::SeqCst);
            drop(caught.map(|()| panic!("it was suspended")));
            false
        }
    }
    let n_stopped = Arc::new(AtomicUsize::new(0));
    let policy = Waits(Arc::clone(&n_stopped));
    let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), Box::new(policy)).unwrap();
    let body = || {
        let high = SpawnOptions::new().priority(Priority::High);
        drop(spawn_with(high, async {}).unwrap());
    };
    let handle = scheduler.spawn_stackful(SpawnOptions::new(), body).unwrap();
    while scheduler.run_one().is_some() {}
    handle.join().unwrap();
    assert!(n_stopped.load(Ordering::SeqCst) > 0);
}

/// A waker whose drop runs code.
struct OnDrop(parking_lot::Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OnDrop {
    fn waker(code: impl FnOnce() + Send + 'static) -> Waker {
        let code: Box<dyn FnOnce() + Send> = Box::new(code);
        Waker::from(Arc::new(OnDrop(parking_lot::Mutex::new(Some(code)))))
    }
}

impl std::task::Wake for OnDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let code = self.0.lock().take();
        code.expect("it is dropped once")();
    }
}

#[test]
fn a_replaced_waker_may_own_a_timer_of_the_same_list() {
    let scheduler = started(oversubscribed(1));
    let body = poll_fn(|cx| {
        let mut inner = Box::pin(sleep(Duration::from_secs(1000)));
        assert!(inner.as_mut().poll(cx).is_pending());
        let waker = OnDrop::waker(move || drop(inner));
        let mut outer = Box::pin(sleep(Duration::from_secs(1000)));
        let polled = outer.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        // The timer has the last one, and gets another.
        assert!(outer.as_mut().poll(cx).is_pending());
        Poll::Ready(6)
    });
    assert_eq!(scheduler.spawn(body).unwrap().join().unwrap(), 6);
}

#[test]
fn a_replaced_waker_may_end_a_member_of_the_group() {
    let scheduler = Arc::new(CoroutineScheduler::new(oversubscribed(1)).unwrap());
    let mut group = TaskGroup::<()>::new(scheduler.handle());
    let member = group.spawn(std::future::pending()).unwrap();
    assert!(scheduler.run_one().is_some());
    let theirs = Arc::clone(&scheduler);
    let waker = OnDrop::waker(move || {
        member.abort().unwrap();
        assert!(theirs.run_one().is_some());
    });
    let mut next = Box::pin(group.next());
    let polled = next.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(waker);
    // The group has the last one, and gets another: the member ends just after
    // the group has looked.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(next.as_mut().poll(&mut cx).is_pending());
    match next.as_mut().poll(&mut cx) {
        Poll::Ready(Some(Err(error))) => assert!(error.is_cancelled()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn execute_coroutine_refuses_to_block_a_vcpu() {
    for is_started in [true, false] {
        let config = SchedulerConfig {
            hand_off: false,
            ..oversubscribed(1)
        };
        let scheduler = Arc::new(CoroutineScheduler::new(config).unwrap());
        let waits = scheduler.spawn(std::future::pending::<()>()).unwrap();
        let id = waits.id();
        let theirs = Arc::downgrade(&scheduler);
        let body = async move { theirs.upgrade().unwrap().execute_coroutine(id) };
        let blocks = scheduler.spawn(body).unwrap();
        if is_started {
            scheduler.start().unwrap();
        } else {
            while scheduler.run_one().is_some() {}
        }
        assert!(matches!(blocks.join(), Err(JoinError::Panicked { .. })));
    }
}

#[test]
fn execute_coroutine_sees_an_end_and_a_pause_on_other_threads() {
    let scheduler = started(oversubscribed(1));
    for is_paused in [false, true] {
        let (sender, receiver) = mpsc::channel();
        let waits = scheduler
            .spawn(poll_fn(move |cx| {
                // The first poll only; the waker is dropped with the channel.
                let _ = sender.send(cx.waker().clone());
                Poll::<()>::Pending
            }))
            .unwrap();
        let _waker = receiver.recv().unwrap();
        thread::scope(|scope| {
            let result = scope.spawn(|| scheduler.execute_coroutine(waits.id()));
            if is_paused {
                waits.pause().unwrap();
                assert!(result.join().unwrap().is_err());
            } else {
                waits.abort().unwrap();
                // It may have ended before the other thread looked for it.
                let result = result.join().unwrap();
                assert!(matches!(result, Ok(_) | Err(ControlError::Unknown(_))));
            }
        });
    }
}

#[test]
fn the_last_owner_may_be_a_coroutine_of_a_scheduler_inside() {
    let outer = Arc::new(started(oversubscribed(1)));
    let waits = outer.spawn(std::future::pending::<()>()).unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    let own = Arc::clone(&outer);
    let handle = outer
        .spawn(async move {
            receiver.recv().unwrap();
            let inner = CoroutineScheduler::new(oversubscribed(1)).unwrap();
            let drops = inner.spawn(async move { drop(own) }).unwrap();
            assert!(inner.run_one().is_some());
            assert!(drops.is_finished());
            8
        })
        .unwrap();
    drop(outer);
    sender.send(()).unwrap();
    assert_eq!(handle.join().unwrap(), 8);
    assert!(waits.join().unwrap_err().is_cancelled());
}

#[test]
fn a_shutdown_from_a_scheduler_inside_is_refused() {
    let outer = Arc::new(CoroutineScheduler::new(oversubscribed(1)).unwrap());
    let theirs = Arc::downgrade(&outer);
    let body = async move {
        let inner = CoroutineScheduler::new(oversubscribed(1)).unwrap();
        let shuts = inner.spawn(async move { theirs.upgrade().unwrap().shutdown() });
        assert!(inner.run_one().is_some());
        shuts.unwrap().await
    };
    let refused = outer.spawn(body).unwrap();
    while outer.run_one().is_some() {}
    assert!(matches!(
        refused.join().unwrap(),
        Err(JoinError::Panicked { .. })
    ));
}

/// The monitor fires timers while their vCPU is in a long run.
#[test]
fn the_last_owner_may_be_a_waker_on_the_monitors_thread() {
    struct Owner {
        scheduler: parking_lot::Mutex<Option<Arc<CoroutineScheduler>>>,
        outcome: mpsc::Sender<(bool, Option<String>)>,
        is_over: Arc<AtomicBool>,
    }
    impl std::task::Wake for Owner {
        fn wake(self: Arc<Self>) {
            let last = self.scheduler.lock().take();
            let dropped = std::panic::catch_unwind(AssertUnwindSafe(|| drop(last)));
            let thread = thread::current().name().map(str::to_owned);
            self.outcome.send((dropped.is_ok(), thread)).unwrap();
            self.is_over.store(true, Ordering::SeqCst);
        }
    }
    let scheduler = Arc::new(started(oversubscribed(1)));
    let waits = scheduler.spawn(std::future::pending::<()>()).unwrap();
    let (dropped_here, receiver) = mpsc::channel::<()>();
    let (sender, outcome) = mpsc::channel();
    let own = Arc::clone(&scheduler);
    let hog = scheduler
        .spawn(async move {
            receiver.recv().unwrap();
            let is_over = Arc::new(AtomicBool::new(false));
            let waker = Waker::from(Arc::new(Owner {
                scheduler: parking_lot::Mutex::new(Some(own)),
                outcome: sender,
                is_over: Arc::clone(&is_over),
            }));
            let mut timer = Box::pin(sleep(Duration::from_millis(1)));
            let polled = timer.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            wait_for(&is_over);
        })
        .unwrap();
    drop(scheduler);
    dropped_here.send(()).unwrap();
    let monitor = Some("vcpu-mon".to_owned());
    assert_eq!(outcome.recv().unwrap(), (true, monitor));
    // It is aborted while it runs: its end comes first, or the abort.
    drop(hog.join());
    assert!(waits.join().unwrap_err().is_cancelled());
}

/// Its answer for all questions.
#[derive(Debug)]
struct Always(Option<Priority>);

impl Policy for Always {
    fn name(&self) -> &'static str {
        "always"
    }
    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }
    fn pick(&self, _: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        self.0
    }
}

#[test]
fn a_level_that_is_not_ready_is_not_picked() {
    for answer in [None, Some(Priority::High), Some(Priority::RealTime)] {
        let policy = Box::new(Always(answer));
        let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), policy).unwrap();
        let order: Arc<parking_lot::Mutex<Vec<Priority>>> = Arc::default();
        for priority in [Priority::Low, Priority::Normal] {
            let order = Arc::clone(&order);
            let body = async move { order.lock().push(priority) };
            let options = SpawnOptions::new().priority(priority);
            drop(scheduler.spawn_with(options, body).unwrap());
        }
        while scheduler.run_one().is_some() {}
        assert_eq!(*order.lock(), [Priority::Normal, Priority::Low]);
    }
}
