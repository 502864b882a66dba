//! The scheduler's queues against one queue in a list: whatever is spawned,
//! woken, paused and aborted, the same coroutine runs next.

mod common;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use common::{oversubscribed, started};
use coroutine_scheduler::{
    CoroutineId, CoroutineScheduler, Fairness, JoinHandle, Priority, SchedulerConfig, SpawnOptions,
    spawn_with, yield_now,
};
use parking_lot::Mutex;
use proptest::prelude::*;

fn strict() -> SchedulerConfig {
    SchedulerConfig {
        fairness: Fairness::Strict,
        preemptive: false,
        ..oversubscribed(1)
    }
}

/// How a poll of a coroutine ends.
#[derive(Clone, Copy, Debug)]
enum Step {
    Yield,
    /// Waits for a wake.
    Wait,
    /// Wakes another one, and yields.
    Wake(usize),
}

/// What is done from outside.
#[derive(Clone, Debug)]
enum Op {
    /// Pinned to the vCPU, or not.
    Spawn(Priority, bool, Vec<Step>),
    Run,
    Wake(usize),
    Pause(usize),
    Resume(usize),
    Abort(usize),
}

type Wakers = Arc<Mutex<HashMap<usize, Waker>>>;

/// Numbered coroutines on one vCPU that this thread drives.
struct Live {
    scheduler: CoroutineScheduler,
    handles: Vec<JoinHandle<()>>,
    numbers: HashMap<CoroutineId, usize>,
    wakers: Wakers,
}

impl Live {
    fn new() -> Live {
        Live {
            scheduler: CoroutineScheduler::new(strict()).unwrap(),
            handles: Vec::new(),
            numbers: HashMap::new(),
            wakers: Wakers::default(),
        }
    }

    fn spawn(&mut self, priority: Priority, is_pinned: bool, steps: Vec<Step>) {
        let number = self.handles.len();
        let wakers = Arc::clone(&self.wakers);
        let body = async move {
            for step in steps {
                match step {
                    Step::Yield => yield_now().await,
                    Step::Wait => wait(number, &wakers).await,
                    Step::Wake(other) => {
                        wake(other, &wakers);
                        yield_now().await;
                    }
                }
            }
        };
        let options = SpawnOptions::new().priority(priority);
        let options = if is_pinned {
            options.pinned_to(0)
        } else {
            options
        };
        let handle = self.scheduler.spawn_with(options, body).unwrap();
        self.numbers.insert(handle.id(), number);
        self.handles.push(handle);
    }

    fn run(&self) -> Option<usize> {
        let id = self.scheduler.run_one()?;
        Some(self.numbers[&id])
    }
}

async fn wait(number: usize, wakers: &Wakers) {
    let mut was_pending = false;
    poll_fn(|cx| {
        if was_pending {
            return Poll::Ready(());
        }
        was_pending = true;
        wakers.lock().insert(number, cx.waker().clone());
        Poll::Pending
    })
    .await;
}

fn wake(number: usize, wakers: &Wakers) {
    let waker = wakers.lock().get(&number).cloned();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One coroutine as the model has it.
#[derive(Debug)]
struct Modelled {
    priority: Priority,
    steps: std::vec::IntoIter<Step>,
    is_queued: bool,
    /// It could run: it is queued, or would be but for a pause.
    is_ready: bool,
    is_paused: bool,
    is_closed: bool,
    has_ended: bool,
    /// It has waited once, so somebody can wake it.
    has_waker: bool,
}

/// The specification: one list, searched from the front.
#[derive(Debug, Default)]
struct Model {
    all: Vec<Modelled>,
    queue: Vec<usize>,
}

impl Model {
    fn spawn(&mut self, priority: Priority, steps: Vec<Step>) {
        self.all.push(Modelled {
            priority,
            steps: steps.into_iter(),
            is_queued: false,
            is_ready: true,
            is_paused: false,
            is_closed: false,
            has_ended: false,
            has_waker: false,
        });
        self.enqueue(self.all.len() - 1);
    }

    fn enqueue(&mut self, number: usize) {
        assert!(!self.all[number].is_queued, "in one place at a time");
        self.all[number].is_queued = true;
        self.queue.push(number);
    }

    fn most_urgent(&self) -> Option<Priority> {
        self.queue.iter().map(|&n| self.all[n].priority).max()
    }

    fn next(&mut self) -> Option<usize> {
        loop {
            let level = self.most_urgent()?;
            let first = self
                .queue
                .iter()
                .position(|&n| self.all[n].priority == level)?;
            let number = self.queue[first];
            if !self.all[number].is_paused {
                return Some(number);
            }
            self.dequeue(number);
        }
    }

    fn dequeue(&mut self, number: usize) {
        self.queue.retain(|&n| n != number);
        self.all[number].is_queued = false;
    }

    /// What a run of it does.
    fn run(&mut self, number: usize) {
        self.dequeue(number);
        let one = &mut self.all[number];
        if one.is_closed {
            one.has_ended = true;
            return;
        }
        match one.steps.next() {
            None => one.has_ended = true,
            Some(Step::Wait) => {
                one.is_ready = false;
                one.has_waker = true;
            }
            Some(Step::Yield) => self.enqueue(number),
            Some(Step::Wake(other)) => {
                self.wake(other);
                self.enqueue(number);
            }
        }
    }

    fn wake(&mut self, number: usize) {
        let Some(one) = self.all.get_mut(number) else {
            return;
        };
        if one.has_ended || one.is_ready || !one.has_waker {
            return;
        }
        one.is_ready = true;
        if !one.is_paused {
            self.enqueue(number);
        }
    }

    fn pause(&mut self, number: usize) -> bool {
        let one = &mut self.all[number];
        let is_alive = !one.has_ended && !one.is_closed;
        one.is_paused |= is_alive;
        is_alive
    }

    fn resume(&mut self, number: usize) -> bool {
        let one = &mut self.all[number];
        if !one.is_paused || one.has_ended || one.is_closed {
            return false;
        }
        one.is_paused = false;
        if one.is_ready && !one.is_queued {
            self.enqueue(number);
        }
        true
    }

    fn abort(&mut self, number: usize) -> bool {
        let one = &mut self.all[number];
        if one.has_ended {
            return false;
        }
        (one.is_closed, one.is_ready, one.is_paused) = (true, true, false);
        if !one.is_queued {
            self.enqueue(number);
        }
        true
    }
}

/// From outside everything has its place: the order is the model's.
fn check_order(ops: Vec<Op>) {
    let (mut live, mut model) = (Live::new(), Model::default());
    for op in ops {
        let n = live.handles.len();
        match op {
            Op::Spawn(priority, is_pinned, steps) => {
                live.spawn(priority, is_pinned, steps.clone());
                model.spawn(priority, steps);
            }
            Op::Run => {
                let expected = model.next();
                assert_eq!(live.run(), expected);
                expected.into_iter().for_each(|number| model.run(number));
            }
            Op::Wake(i) => {
                wake(i, &live.wakers);
                model.wake(i);
            }
            Op::Pause(i) if i < n => {
                assert_eq!(live.handles[i].pause().is_ok(), model.pause(i));
            }
            Op::Resume(i) if i < n => {
                assert_eq!(live.handles[i].resume().is_ok(), model.resume(i));
            }
            Op::Abort(i) if i < n => {
                assert_eq!(live.handles[i].abort().is_ok(), model.abort(i));
            }
            Op::Pause(_) | Op::Resume(_) | Op::Abort(_) => {}
        }
    }
    loop {
        let expected = model.next();
        assert_eq!(live.run(), expected);
        match expected {
            Some(number) => model.run(number),
            None => break,
        }
    }
    for (handle, one) in live.handles.iter().zip(&model.all) {
        assert_eq!(handle.is_finished(), one.has_ended);
    }
    assert_eq!(live.scheduler.get_stats().priority_inversions, 0);
}

/// Wakes from inside may go before their equals, and never before anything more
/// urgent.
fn check_levels(ops: Vec<Op>) {
    let (mut live, mut model) = (Live::new(), Model::default());
    let run = |live: &Live, model: &mut Model| {
        let Some(number) = live.run() else {
            assert_eq!(model.next(), None, "it is ready and does not run");
            return false;
        };
        assert!(model.queue.contains(&number), "{number} is not ready");
        assert_eq!(Some(model.all[number].priority), model.most_urgent());
        model.run(number);
        true
    };
    for op in ops {
        match op {
            Op::Spawn(priority, is_pinned, steps) => {
                live.spawn(priority, is_pinned, steps.clone());
                model.spawn(priority, steps);
            }
            Op::Wake(i) => {
                wake(i, &live.wakers);
                model.wake(i);
            }
            Op::Abort(i) if i < live.handles.len() => {
                assert_eq!(live.handles[i].abort().is_ok(), model.abort(i));
            }
            _ => {
                run(&live, &mut model);
            }
        }
    }
    while run(&live, &mut model) {}
    for (handle, one) in live.handles.iter().zip(&model.all) {
        assert_eq!(handle.is_finished(), one.has_ended);
    }
    assert_eq!(live.scheduler.get_stats().priority_inversions, 0);
}

fn priority() -> impl Strategy<Value = Priority> {
    prop::sample::select(Priority::ALL.to_vec())
}

fn ops(step: impl Strategy<Value = Step> + Clone + 'static) -> impl Strategy<Value = Vec<Op>> {
    let steps = prop::collection::vec(step, 0..5);
    let op = prop_oneof![
        3 => (priority(), any::<bool>(), steps)
            .prop_map(|(priority, is_pinned, steps)| Op::Spawn(priority, is_pinned, steps)),
        6 => Just(Op::Run),
        3 => (0..12_usize).prop_map(Op::Wake),
        1 => (0..12_usize).prop_map(Op::Pause),
        1 => (0..12_usize).prop_map(Op::Resume),
        1 => (0..12_usize).prop_map(Op::Abort),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn what_comes_from_outside_runs_in_the_order_of_one_queue(
        ops in ops(prop_oneof![Just(Step::Yield), Just(Step::Wait)])
    ) {
        check_order(ops);
    }

    #[test]
    fn wakes_from_inside_keep_to_their_level(
        ops in ops(prop_oneof![
            Just(Step::Yield),
            Just(Step::Wait),
            (0..12_usize).prop_map(Step::Wake),
        ])
    ) {
        check_levels(ops);
    }
}

/// On a thread of its own: 100,000 picks, not one past something more urgent.
#[test]
fn a_strict_vcpu_makes_no_inversions() {
    const N_COROUTINES: usize = 400;
    const N_YIELDS: usize = 250;
    let scheduler = started(SchedulerConfig {
        preemptive: true,
        ..strict()
    });
    let root = scheduler.spawn(async {
        let all: Vec<_> = (0..N_COROUTINES)
            .map(|i| {
                let options = SpawnOptions::new().priority(Priority::ALL[i * 7 % 4]);
                let body = async move {
                    for round in 0..N_YIELDS {
                        if (round + i) % 50 == 0 {
                            let urgent = SpawnOptions::new().priority(Priority::ALL[round % 4]);
                            spawn_with(urgent, async {}).unwrap().await.unwrap();
                        }
                        yield_now().await;
                    }
                };
                spawn_with(options, body).unwrap()
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
    });
    root.unwrap().join().unwrap();
    let stats = scheduler.get_stats();
    assert!(stats.vcpus[0].executions >= 100_000, "{stats:?}");
    assert_eq!(stats.priority_inversions, 0);
}
