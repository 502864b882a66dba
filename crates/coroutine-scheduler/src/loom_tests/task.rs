//! The task's word: who has it in hand, whose the fields are.

use loom::sync::Arc;
use loom::thread;

use super::{Count, Exclusive, explore};
use crate::sync::{AtomicU32, Ordering};
use crate::task::state::{self, Begin, End, State, Then};

struct Task {
    state: State,
    body: Exclusive,
    n_closed: Count,
    /// What the body waits for, and how much of it the last poll saw.
    signals: AtomicU32,
    seen: AtomicU32,
}

impl Task {
    /// In the hands of its maker.
    fn ready() -> Arc<Task> {
        Arc::new(Task {
            state: State::ready(),
            body: Exclusive::default(),
            n_closed: Count::default(),
            signals: AtomicU32::new(0),
            seen: AtomicU32::new(0),
        })
    }

    /// What a vCPU does with a task from its queue.
    fn run(&self) {
        loop {
            match self.state.begin() {
                Begin::Parked => return,
                Begin::Close => return self.close(),
                Begin::Poll(seen) => {
                    self.body.touch();
                    let signals = self.signals.load(Ordering::Relaxed);
                    self.seen.store(signals, Ordering::Relaxed);
                    match self.state.end(seen, false) {
                        End::Again => {}
                        End::Left => return,
                        End::Close => return self.close(),
                    }
                }
            }
        }
    }

    fn close(&self) {
        self.body.touch();
        self.n_closed.add();
        self.state.finish();
    }

    fn carry_out(&self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Queue => self.run(),
            Then::Free => panic!("the registry's reference is still there"),
        }
    }

    fn signal(&self, bit: u32) {
        self.signals.fetch_or(bit, Ordering::Relaxed);
        self.carry_out(self.state.wake(false));
    }

    fn pause_and_resume(&self) {
        if self.state.pause().is_ok()
            && let Ok(then) = self.state.resume()
        {
            self.carry_out(then);
        }
    }

    fn abort(&self) {
        let then = self.state.abort().expect("nobody else ends it");
        self.carry_out(then);
    }
}

/// Runs these beside a vCPU that runs the task.
fn beside_a_run(others: &[fn(&Task)]) -> Arc<Task> {
    let task = Task::ready();
    let threads: Vec<_> = others
        .iter()
        .map(|other| {
            let (task, other) = (Arc::clone(&task), *other);
            thread::spawn(move || other(&task))
        })
        .collect();
    task.run();
    for thread in threads {
        thread.join().unwrap();
    }
    task.body.count();
    task
}

#[test]
fn a_wake_leads_to_a_poll_that_sees_its_cause() {
    explore(3, || {
        let task = beside_a_run(&[|task| task.signal(1), |task| task.signal(2)]);
        assert_eq!(task.seen.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_pause_loses_no_wake() {
    explore(3, || {
        let task = beside_a_run(&[|task| task.signal(1), Task::pause_and_resume]);
        assert_eq!(task.seen.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_aborted_task_is_closed_once() {
    explore(3, || {
        let task = beside_a_run(&[|task| task.signal(1), Task::abort]);
        assert_eq!(task.n_closed.get(), 1);
    });
    explore(3, || {
        let task = beside_a_run(&[Task::pause_and_resume, Task::abort]);
        assert_eq!(task.n_closed.get(), 1);
    });
    explore(3, || {
        let pause = |task: &Task| {
            let _is_paused = task.state.pause();
        };
        let task = beside_a_run(&[pause, Task::abort]);
        assert_eq!(task.n_closed.get(), 1);
    });
}

/// A task at its end, and its join handle.
#[derive(Default)]
struct Joined {
    field: Exclusive,
    output: Exclusive,
    n_dropped: Count,
    n_woken: Count,
}

impl Joined {
    /// As `TaskRef::finish`.
    fn finish(&self, state: &State) {
        self.output.touch();
        let word = state.finish();
        if word & state::JOIN_WAKER != 0 {
            self.field.touch();
            self.n_woken.add();
        }
        if word & state::JOIN == 0 {
            self.output.touch();
            self.n_dropped.add();
        }
    }

    /// As `TaskRef::finish_and_release`; whether it is to be freed.
    fn end(&self, state: &State) -> bool {
        if state.is_last() {
            self.output.touch();
            self.n_dropped.add();
            return true;
        }
        self.finish(state);
        state.release() == Then::Free
    }

    /// As a poll of `JoinHandle`; whether it is ready.
    fn poll(&self, state: &State, has_offered: bool) -> bool {
        state.load() & state::DONE != 0 || (has_offered && !state.take_back_join_waker()) || {
            self.field.touch();
            !state.offer_join_waker()
        }
    }

    /// As the drop of `JoinHandle`.
    fn drop_handle(&self, state: &State) {
        match state.drop_join() {
            Ok(()) => self.field.touch(),
            Err(()) => {
                self.output.touch();
                self.n_dropped.add();
            }
        }
    }
}

#[test]
fn a_join_handle_that_waits_is_woken() {
    explore(3, || {
        let shared = Arc::new((State::ready(), Joined::default()));
        let theirs = Arc::clone(&shared);
        let runner = thread::spawn(move || theirs.1.finish(&theirs.0));
        let (state, joined) = &*shared;
        let is_ready = joined.poll(state, false) || joined.poll(state, true);
        if is_ready {
            joined.output.touch();
        }
        runner.join().unwrap();
        assert!(is_ready || joined.n_woken.get() == 1);
        joined.field.count();
        joined.output.count();
    });
}

#[test]
fn an_output_is_dropped_once_whoever_is_first() {
    explore(3, || {
        let shared = Arc::new((State::ready(), Joined::default()));
        let theirs = Arc::clone(&shared);
        let runner = thread::spawn(move || theirs.1.finish(&theirs.0));
        let (state, joined) = &*shared;
        let _is_ready = joined.poll(state, false);
        joined.drop_handle(state);
        runner.join().unwrap();
        assert_eq!(joined.n_dropped.get(), 1);
        joined.field.count();
        joined.output.count();
    });
}

#[test]
fn the_last_reference_frees_once() {
    explore(3, || {
        let task = Task::ready();
        task.state.retain();
        let _word = task.state.finish();
        let give_up: [fn(&State) -> Then; 3] =
            [State::release, |state| state.wake(true), State::release];
        let threads: Vec<_> = give_up
            .into_iter()
            .map(|give_up| {
                let task = Arc::clone(&task);
                thread::spawn(move || {
                    task.body_is_used_before(|| give_up(&task.state));
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(task.n_closed.get(), 1);
    });
}

/// The end may find itself alone, and then changes no word that others see.
#[test]
fn an_end_with_nobody_left_frees_once() {
    explore(3, || {
        let shared = Arc::new((State::ready(), Joined::default()));
        shared.0.retain();
        let runs = |theirs: Arc<(State, Joined)>, part: fn(&State, &Joined) -> bool| {
            thread::spawn(move || part(&theirs.0, &theirs.1))
        };
        let runner = runs(Arc::clone(&shared), |state, joined| joined.end(state));
        let waker = runs(Arc::clone(&shared), |state, _| {
            state.wake(true) == Then::Free
        });
        let (state, joined) = &*shared;
        joined.drop_handle(state);
        let mut n_freed = u32::from(state.release() == Then::Free);
        for thread in [runner, waker] {
            n_freed += u32::from(thread.join().unwrap());
        }
        assert_eq!(n_freed, 1);
        assert_eq!(joined.n_dropped.get(), 1);
        joined.field.count();
        joined.output.count();
    });
}

impl Task {
    /// Every holder's use of the memory is over when the last one frees it.
    fn body_is_used_before(&self, give_up: impl FnOnce() -> Then) {
        self.signals.fetch_add(1, Ordering::Relaxed);
        if give_up() == Then::Free {
            assert_eq!(self.signals.load(Ordering::Relaxed), 3, "still in use");
            self.n_closed.add();
        }
    }
}
