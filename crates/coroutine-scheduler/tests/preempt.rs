//! Making way: who goes to the head, who to the tail, and who keeps the rest of
//! a slice.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{oversubscribed, started};
use coroutine_scheduler::level::{LevelSet, Share};
use coroutine_scheduler::policy::{Facts, Place, Requeue};
use coroutine_scheduler::{
    CoroutineScheduler, Policy, Priority, SchedulerConfig, SchedulingPolicy, SpawnOptions,
    checkpoint, interval, is_preempted, spawn_with, yield_now,
};
use parking_lot::Mutex;

/// What happened, in order.
type Log = Arc<Mutex<Vec<&'static str>>>;

fn note(log: &Log, what: &'static str) {
    log.lock().push(what);
}

fn run_all(scheduler: &CoroutineScheduler) {
    while scheduler.run_one().is_some() {}
}

/// Asks the running coroutine to make way for an urgent one.
fn spawn_urgent(log: &Log) {
    let log = Arc::clone(log);
    let options = SpawnOptions::new().priority(Priority::RealTime);
    let _detached = spawn_with(options, async move { note(&log, "urgent") }).unwrap();
    assert!(is_preempted(), "it is asked to make way");
}

/// Computes for so long, without a safepoint.
fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn who_makes_way_goes_on_first_and_who_yields_goes_on_last() {
    for (yields, expected) in [
        (false, ["first", "urgent", "first again", "second"]),
        (true, ["first", "urgent", "second", "first again"]),
    ] {
        let scheduler = CoroutineScheduler::new(SchedulerConfig {
            time_slice: Duration::from_secs(10),
            ..oversubscribed(1)
        })
        .unwrap();
        let log = Log::default();
        let (a, b) = (Arc::clone(&log), Arc::clone(&log));
        let body = async move {
            note(&a, "first");
            spawn_urgent(&a);
            if yields {
                yield_now().await;
            } else {
                checkpoint().await;
            }
            note(&a, "first again");
        };
        let _first = scheduler.spawn(body).unwrap();
        let _second = scheduler.spawn(async move { note(&b, "second") }).unwrap();
        run_all(&scheduler);
        assert_eq!(*log.lock(), expected);
    }
}

#[test]
fn who_is_interrupted_keeps_only_the_rest_of_its_slice() {
    const ROUNDS_MAX: usize = 200;
    for is_pinned in [false, true] {
        let scheduler = CoroutineScheduler::new(SchedulerConfig {
            time_slice: Duration::from_millis(5),
            ..oversubscribed(1)
        })
        .unwrap();
        let (log, other_ran) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let ran = Arc::clone(&other_ran);
        let hog = async move {
            // Interrupted each time before its slice is over.
            for round in 0..ROUNDS_MAX {
                if ran.load(Ordering::Relaxed) {
                    return round;
                }
                spin(Duration::from_millis(1));
                spawn_urgent(&log);
                checkpoint().await;
            }
            ROUNDS_MAX
        };
        let options = if is_pinned {
            SpawnOptions::new().pinned_to(0)
        } else {
            SpawnOptions::new()
        };
        let hog = scheduler.spawn_with(options.clone(), hog).unwrap();
        let other = async move { other_ran.store(true, Ordering::Relaxed) };
        let _other = scheduler.spawn_with(options, other).unwrap();
        run_all(&scheduler);
        let n_rounds = hog.join().unwrap();
        assert!(n_rounds < ROUNDS_MAX, "an equal starves behind it");
    }
}

#[test]
fn interrupted_urgent_ones_go_before_their_equals() {
    /// Interrupts urgent ones, too.
    #[derive(Debug)]
    struct Ruthless;
    impl Policy for Ruthless {
        fn name(&self) -> &'static str {
            "ruthless"
        }
        fn slice(&self, _: Priority) -> Option<Duration> {
            Some(Duration::from_secs(10))
        }
        fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
            ready.most_urgent()
        }
        fn preempts(&self, _: Priority, _: Priority) -> bool {
            true
        }
    }
    let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), Box::new(Ruthless)).unwrap();
    let log = Log::default();
    let a = Arc::clone(&log);
    let options = SpawnOptions::new().priority(Priority::RealTime);
    let body = async move {
        spawn_urgent(&a);
        checkpoint().await;
        note(&a, "the first one goes on");
    };
    let _first = scheduler.spawn_with(options, body).unwrap();
    run_all(&scheduler);
    assert_eq!(*log.lock(), ["the first one goes on", "urgent"]);
}

/// Everybody who goes on sinks one level and goes to the head there. Notes
/// what it was asked.
#[derive(Debug, Default)]
struct SinksToTheHead(Arc<Mutex<Vec<(Priority, Requeue)>>>);

impl Policy for SinksToTheHead {
    fn name(&self) -> &'static str {
        "sinks-to-the-head"
    }
    fn level(&self, facts: &Facts) -> Priority {
        Priority::ALL[facts
            .level
            .level()
            .saturating_sub(usize::from(facts.used_ns > 0))]
    }
    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        self.0.lock().push((facts.level, why));
        Place {
            level: self.level(facts),
            at_head: true,
        }
    }
    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }
    fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        ready.most_urgent()
    }
}

#[test]
fn what_a_policy_says_of_who_goes_on_stands() {
    let asked = Arc::default();
    let policy = Box::new(SinksToTheHead(Arc::clone(&asked)));
    let scheduler = CoroutineScheduler::with_policy(oversubscribed(1), policy).unwrap();
    let log = Log::default();
    let names = [["a", "a low"], ["b", "b low"], ["c", "c low"]];
    for [name, low] in names {
        let log = Arc::clone(&log);
        let body = async move {
            spin(Duration::from_micros(10));
            note(&log, name);
            yield_now().await;
            note(&log, low);
        };
        let _detached = scheduler.spawn(body).unwrap();
    }
    run_all(&scheduler);
    // Each newcomer goes to the head of the lower level, so the last is first.
    let expected = ["a", "b", "c", "c low", "b low", "a low"];
    assert_eq!(*log.lock(), expected);
    // Asked before it has moved.
    assert_eq!(*asked.lock(), [(Priority::Normal, Requeue::Yielded); 3]);
}

#[test]
fn with_feedback_who_sank_goes_behind_its_new_equals() {
    let scheduler = CoroutineScheduler::new(SchedulerConfig {
        policy: SchedulingPolicy::Mlfq,
        time_slice: Duration::from_micros(10),
        ..oversubscribed(1)
    })
    .unwrap();
    let log = Log::default();
    let low = Arc::clone(&log);
    let options = SpawnOptions::new().priority(Priority::Low);
    let _low = scheduler
        .spawn_with(options, async move { note(&low, "low") })
        .unwrap();
    let hog = Arc::clone(&log);
    let body = async move {
        // Four slices are the allotment of its level.
        spin(Duration::from_millis(1));
        spawn_urgent(&hog);
        checkpoint().await;
        note(&hog, "sunk");
    };
    let hog = scheduler.spawn(body).unwrap();
    run_all(&scheduler);
    assert_eq!(*log.lock(), ["urgent", "low", "sunk"]);
    assert_eq!(hog.info().level, Priority::Low);
}

/// Four hogs that poll the word and a ticker that interrupts them every
/// millisecond, on two vCPUs: everybody gets on, and nobody loses its vCPU,
/// however busy the host is.
#[test]
fn polite_hogs_share_beside_a_ticker_and_keep_their_vcpus() {
    let scheduler = started(oversubscribed(2));
    let stop = Arc::new(AtomicBool::new(false));
    let options = SpawnOptions::new().priority(Priority::RealTime);
    let _ticker = scheduler
        .spawn_with(options, async {
            let mut ticks = interval(Duration::from_millis(1));
            loop {
                ticks.tick().await;
            }
        })
        .unwrap();
    let n_turns: Arc<[AtomicUsize; 4]> = Arc::default();
    let hogs: Vec<_> = (0..4)
        .map(|i| {
            let (stop, n_turns) = (Arc::clone(&stop), Arc::clone(&n_turns));
            let body = async move {
                while !stop.load(Ordering::Relaxed) {
                    if is_preempted() {
                        n_turns[i].fetch_add(1, Ordering::Relaxed);
                        checkpoint().await;
                    }
                }
            };
            scheduler.spawn(body).unwrap()
        })
        .collect();
    // More threads than CPUs: the host puts vCPUs behind them for long.
    let rivals: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let is_fair = || n_turns.iter().all(|n| n.load(Ordering::Relaxed) >= 50);
    // Should somebody starve, this has no end but the watchdog's.
    while !is_fair() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let stats = scheduler.get_stats();
    stop.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.join().unwrap();
    }
    for rival in rivals {
        rival.join().unwrap();
    }
    // They answer whenever they run. (Where this host is a guest, its own may
    // stop a CPU unseen. By the wall clock alone there were dozens.)
    assert!(stats.handoffs <= 2, "{stats:?}");
}
