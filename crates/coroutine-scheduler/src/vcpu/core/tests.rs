//! Order, places and marks, on vCPUs that tests drive by hand.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::common::oversubscribed;
use crate::scheduler::run_one_on;
use crate::{CoroutineScheduler, SchedulerConfig, SchedulingPolicy, SpawnOptions};

#[test]
fn a_vcpu_that_falls_asleep_leaves_no_mark_of_what_a_thief_took() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let shared = scheduler.shared();
    for level in Priority::ALL {
        let made = scheduler.create_coroutine(level, 1, async {}).unwrap();
        let home = scheduler.schedule(&made).unwrap();
        let grip = shared.vcpus[home].claim().unwrap();
        let local = Local::new(shared, home, grip, false);
        assert!(local.has_any_work());
        assert!(shared.waits(level), "{level:?}: it is there to be taken");
        let thief = shared.vcpus[1 - home].claim().unwrap();
        let thief = Local::new(shared, 1 - home, thief, false);
        let stolen = thief.steal(level).unwrap();
        assert!(shared.waits(level));
        // As between its last search and its sleep. The inbox's own mark
        // keeps it awake once.
        let _ = local.has_any_work();
        local.empty_inbox();
        assert!(!local.has_any_work());
        assert!(!shared.waits(level), "{level:?}");
        enter(&thief, || thief.run(stolen));
        made.join().unwrap();
        for vcpu in &shared.vcpus {
            vcpu.release();
        }
    }
}

/// Spawns `bodies` in a coroutine on `vcpu`, and runs that.
fn spawn_at<F>(scheduler: &CoroutineScheduler, vcpu: usize, bodies: Vec<F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let options = SpawnOptions::new().pinned_to(vcpu);
    let spawns = async move {
        for body in bodies {
            drop(crate::spawn(body).unwrap());
        }
    };
    let spawner = scheduler.spawn_with(options, spawns).unwrap();
    assert_eq!(
        run_one_on(scheduler.shared(), vcpu),
        Some(spawner.id()),
        "nothing else is there"
    );
}

/// Numbers in the order in which they run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    async fn note(self, number: u32) {
        self.0.lock().push(number);
    }

    /// Spawns in a coroutine on `vcpu` what notes these numbers, and runs that.
    fn spawn_at(
        &self,
        scheduler: &CoroutineScheduler,
        vcpu: usize,
        numbers: impl Iterator<Item = u32>,
    ) {
        let bodies = numbers.map(|number| self.clone().note(number));
        spawn_at(scheduler, vcpu, bodies.collect());
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn in_order(vcpu_count: usize) -> CoroutineScheduler {
    CoroutineScheduler::new(SchedulerConfig {
        policy: SchedulingPolicy::Fcfs,
        ..oversubscribed(vcpu_count)
    })
    .unwrap()
}

/// Nobody is lost, and who came first goes first, also beside those that stay.
#[test]
fn what_is_stolen_keeps_its_order_and_its_place() {
    const COUNT: u32 = 60;
    const STAYS: [u32; 2] = [1_000, 1_001];
    let scheduler = in_order(2);
    let shared = scheduler.shared();
    let log = Log::default();
    log.spawn_at(&scheduler, 0, 0..COUNT);
    let stays = |number| {
        let options = SpawnOptions::new().pinned_to(1);
        drop(
            scheduler
                .spawn_with(options, log.clone().note(number))
                .unwrap(),
        );
    };
    stays(STAYS[0]);
    let thief = Local::new(shared, 1, shared.vcpus[1].claim().unwrap(), false);
    let first = thief.steal(Priority::Normal).unwrap();
    enter(&thief, || thief.run(first));
    shared.vcpus[1].release();
    let stolen = scheduler.get_stats().vcpus[1].stolen_coroutines as u32;
    assert!((2..COUNT).contains(&stolen), "{stolen}");
    stays(STAYS[1]);
    let expected = [0, STAYS[0]].into_iter().chain(1..stolen);
    let expected: Vec<u32> = expected.chain([STAYS[1]]).collect();
    while run_one_on(shared, 1).is_some() {}
    assert_eq!(log.take(), expected);
    while run_one_on(shared, 0).is_some() {}
    assert_eq!(log.take(), (stolen..COUNT).collect::<Vec<u32>>());
    assert_eq!(shared.registry.count(), 0);
}

#[test]
fn a_policy_that_keeps_order_keeps_it_however_many_wait() {
    let scheduler = in_order(1);
    let log = Log::default();
    log.spawn_at(&scheduler, 0, 0..2_000);
    while scheduler.run_one().is_some() {}
    assert_eq!(log.take(), (0..2_000).collect::<Vec<u32>>());
}

#[test]
fn new_ones_beyond_those_in_order_go_newest_first_and_all_run_once() {
    const LAST: u32 = 1_999;
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    log.spawn_at(&scheduler, 0, 0..=LAST);
    while scheduler.run_one().is_some() {}
    let mut ran = log.take();
    // The one in the LIFO slot, the newest of the surplus, the first in order.
    assert_eq!(ran[..5], [LAST, LAST - 1, 0, LAST - 2, 1]);
    ran.sort_unstable();
    assert_eq!(ran, (0..=LAST).collect::<Vec<u32>>());
}

/// A tree's branches are done before others are opened: what lives at once is
/// a small part of it.
#[test]
fn of_a_tree_few_are_alive_at_once() {
    fn node(depth: u32) -> std::pin::Pin<Box<dyn Future<Output = u32> + Send>> {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            let children: Vec<_> = (0..10)
                .map(|_| crate::spawn(node(depth - 1)).unwrap())
                .collect();
            let mut sum = 0;
            for child in children {
                sum += child.await.unwrap();
            }
            sum
        })
    }
    let most_alive = |scheduler: CoroutineScheduler| {
        let root = scheduler.spawn(node(5)).unwrap();
        let mut most = 0;
        while scheduler.run_one().is_some() {
            most = most.max(scheduler.shared().registry.count());
        }
        assert_eq!(root.join().unwrap(), 100_000);
        most
    };
    let most = most_alive(CoroutineScheduler::new(oversubscribed(1)).unwrap());
    assert!(most < 10_000, "{most}");
    let most = most_alive(in_order(1));
    assert!(
        most > 100_000,
        "in order all leaves are there at once, not {most}"
    );
}

#[test]
fn nobody_waits_for_ever_behind_those_that_yield_and_those_that_are_new() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    // A spawner that goes on for ever, beside enough that yield.
    let yields = |i: u32| {
        let log = log.clone();
        async move {
            if i == 0 {
                for _ in 0..400 {
                    drop(crate::spawn(std::future::ready(())).unwrap());
                }
                drop(crate::spawn(log.note(7)).unwrap());
                for _ in 0..400 {
                    drop(crate::spawn(std::future::ready(())).unwrap());
                }
            }
            loop {
                crate::yield_now().await;
                if i < 100 {
                    drop(crate::spawn(std::future::ready(())).unwrap());
                    drop(crate::spawn(std::future::ready(())).unwrap());
                }
            }
        }
    };
    spawn_at(&scheduler, 0, (0..300).map(yields).collect());
    let n_runs = (1..)
        .find(|_| {
            scheduler.run_one().unwrap();
            !log.0.lock().is_empty()
        })
        .unwrap();
    assert!(n_runs < 64 * 1_300, "{n_runs}");
}

/// Pinned ones are in line with those in order, and the surplus waits for
/// neither.
#[test]
fn new_ones_do_not_wait_for_pinned_ones_that_yield() {
    const COUNT: u32 = 1_000;
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    log.spawn_at(&scheduler, 0, 0..COUNT);
    let yields = async {
        loop {
            crate::yield_now().await;
        }
    };
    let pinned = SpawnOptions::new().pinned_to(0);
    drop(scheduler.spawn_with(pinned, yields).unwrap());
    for _ in 0..3 * COUNT {
        scheduler.run_one().unwrap();
    }
    assert_eq!(log.take().len() as u32, COUNT);
}

/// It is behind those that came before it, and not behind the surplus once
/// thieves have taken them.
#[test]
fn a_pinned_one_does_not_wait_for_the_end_of_the_surplus() {
    const N_BEFORE: usize = 1_000;
    fn goes_on() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async { drop(crate::spawn(goes_on()).unwrap()) })
    }
    async fn spawns() {
        for _ in 0..N_BEFORE {
            drop(crate::spawn(goes_on()).unwrap());
        }
    }
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let shared = scheduler.shared();
    let schedule = |made: crate::JoinHandle<()>| {
        scheduler.migrate_coroutine(made.id(), 0).unwrap();
        assert_eq!(scheduler.schedule(&made).unwrap(), 0);
    };
    for _ in 0..N_BEFORE {
        let made = scheduler.create_coroutine(Priority::Normal, 1, async {});
        schedule(made.unwrap());
    }
    let log = Log::default();
    let pinned = SpawnOptions::new().pinned_to(0);
    drop(scheduler.spawn_with(pinned, log.clone().note(0)).unwrap());
    let thief = Local::new(shared, 1, shared.vcpus[1].claim().unwrap(), false);
    while shared.vcpus[0].has_stealable(Priority::Normal) {
        let stolen = thief.steal(Priority::Normal).unwrap();
        enter(&thief, || thief.run(stolen));
    }
    shared.vcpus[1].release();
    let made = scheduler.create_coroutine(Priority::Normal, 1, spawns());
    schedule(made.unwrap());
    for _ in 0..8 * N_BEFORE {
        run_one_on(shared, 0).unwrap();
    }
    assert_eq!(log.take(), [0]);
}

#[test]
fn who_has_run_keeps_its_order_beside_a_surplus() {
    const COUNT: u32 = 1_000;
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    let body = |i| {
        let log = log.clone();
        async move {
            log.clone().note(i).await;
            crate::yield_now().await;
            log.note(COUNT + i).await;
        }
    };
    spawn_at(&scheduler, 0, (0..COUNT).map(body).collect());
    while scheduler.run_one().is_some() {}
    let ran = log.take();
    let (first, again): (Vec<u32>, Vec<u32>) = ran.iter().partition(|n| **n < COUNT);
    assert_eq!(first.len() as u32, COUNT);
    assert!(again.iter().map(|number| number - COUNT).eq(first));
    let place = |number| ran.iter().position(|other| *other == number);
    let last_in_order = crate::vcpu::level_queue::IN_ORDER_MAX as u32 - 1;
    assert!(
        place(again[0]) > place(last_in_order),
        "who yields goes behind who waits in order"
    );
}

#[test]
fn who_is_woken_keeps_its_order_beside_a_surplus() {
    const LAST: u32 = 599;
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    let wakers: Arc<Mutex<Vec<_>>> = Arc::default();
    for i in 0..=LAST {
        let (log, wakers) = (log.clone(), Arc::clone(&wakers));
        let mut has_waited = false;
        let waits = std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut has_waited, true) {
                return std::task::Poll::Ready(());
            }
            wakers.lock().push(cx.waker().clone());
            std::task::Poll::Pending
        });
        let body = async move {
            waits.await;
            log.note(i).await;
        };
        drop(scheduler.spawn(body).unwrap());
    }
    while scheduler.run_one().is_some() {}
    let wakes = async move {
        for _ in 0..=LAST {
            drop(crate::spawn(std::future::ready(())).unwrap());
        }
        for waker in std::mem::take(&mut *wakers.lock()) {
            waker.wake();
        }
    };
    drop(scheduler.spawn(wakes).unwrap());
    while scheduler.run_one().is_some() {}
    // The one in the LIFO slot first.
    let expected = std::iter::once(LAST).chain(0..LAST);
    assert_eq!(log.take(), expected.collect::<Vec<u32>>());
}

/// It has its place among those in order, whatever joins the surplus.
#[test]
fn the_surplus_does_not_count_before_a_pinned_one() {
    const STAYS: u32 = 5_000;
    const COUNT: u32 = 1_000;
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let log = Log::default();
    let spawner = log.clone();
    let spawns = async move {
        for i in 0..COUNT {
            if i == COUNT / 2 {
                let pinned = SpawnOptions::new().pinned_to(0);
                let stays = spawner.clone().note(STAYS);
                drop(crate::spawn_with(pinned, stays).unwrap());
            }
            drop(crate::spawn(spawner.clone().note(i)).unwrap());
        }
    };
    drop(scheduler.spawn(spawns).unwrap());
    while scheduler.run_one().is_some() {}
    let mut ran = log.take();
    assert_eq!(ran.len() as u32, COUNT + 1);
    assert!(ran.pop() != Some(STAYS), "it waits for none of the surplus");
    let n_in_order = crate::vcpu::level_queue::IN_ORDER_MAX as u32;
    ran.retain(|number| *number < n_in_order || *number == STAYS);
    let expected = (0..n_in_order).chain([STAYS]);
    assert_eq!(ran, expected.collect::<Vec<u32>>());
}

/// What a thief brings to its surplus does not either.
#[test]
fn a_stolen_surplus_does_not_count_before_a_pinned_one() {
    const STAYS: u32 = 5_000;
    const BEFORE: u32 = 4_000;
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let shared = scheduler.shared();
    let log = Log::default();
    log.spawn_at(&scheduler, 0, 0..1_000);
    let before = log.clone().note(BEFORE);
    let made = scheduler.create_coroutine(Priority::Normal, 1, before);
    let made = made.unwrap();
    scheduler.migrate_coroutine(made.id(), 1).unwrap();
    assert_eq!(scheduler.schedule(&made).unwrap(), 1);
    let pinned = SpawnOptions::new().pinned_to(1);
    drop(
        scheduler
            .spawn_with(pinned, log.clone().note(STAYS))
            .unwrap(),
    );
    // Before it has seen what came to its inbox.
    let thief = Local::new(shared, 1, shared.vcpus[1].claim().unwrap(), false);
    let stolen = thief.steal(Priority::Normal).unwrap();
    enter(&thief, || thief.run(stolen));
    shared.vcpus[1].release();
    let queue = &shared.vcpus[1].stealers[Priority::Normal.level()];
    assert!(queue.len() > queue.len_in_order(), "it has a surplus");
    while run_one_on(shared, 1).is_some() {}
    let mut ran = log.take();
    ran.retain(|number| *number >= BEFORE);
    assert_eq!(ran, [BEFORE, STAYS]);
}
