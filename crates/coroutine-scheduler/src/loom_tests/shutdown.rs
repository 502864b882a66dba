//! A shutdown beside spawns and ends: nobody is left, and one thread sees that.

use std::panic::Location;
use std::ptr::NonNull;

use loom::sync::Arc;
use loom::thread;

use super::{Count, explore};
use crate::Priority;
use crate::phase::Phase;
use crate::task::header::{Header, Traits};
use crate::task::registry::Registry;
use crate::task::state::{State, Then};
use crate::task::{JoinHandle, TaskRef};
use crate::vcpu::park::Parker;

/// The place in the registry of threads that are no vCPU, of which there are two.
const OTHERS: usize = 2;

struct Scheduler {
    phase: Phase,
    registry: Registry,
    /// The thread that waits for the end.
    parker: Parker,
    n_over: Count,
}

impl Scheduler {
    fn new() -> Arc<Scheduler> {
        Arc::new(Scheduler {
            phase: Phase::new(),
            registry: Registry::new(2, 1, 10),
            parker: Parker::default(),
            n_over: Count::default(),
        })
    }

    fn add(&self, shard: usize, state: State) -> (TaskRef, JoinHandle<()>) {
        let make = || {
            TaskRef::new(std::future::pending::<()>(), |vtable| {
                let traits = Traits {
                    priority: Priority::Normal,
                    is_pinned: false,
                };
                // No body of a model asks for its scheduler.
                let shared = NonNull::dangling();
                Header::new(vtable, state, shared, traits, Location::caller(), None)
            })
        };
        let task = self.registry.add(shard, make).expect("there is room");
        (task, JoinHandle::new(task))
    }

    /// As `spawn_on` of a created one.
    fn spawn(&self, shard: usize) -> JoinHandle<()> {
        let (task, handle) = self.add(shard, State::created());
        if self.phase.refuses_spawns() {
            self.abort(task);
        }
        handle
    }

    fn abort(&self, task: TaskRef) {
        if task.header().state.abort() == Ok(Then::Queue) {
            self.end(task, OTHERS);
        }
    }

    /// As `Shared::end`, with the task in hand.
    fn end(&self, task: TaskRef, place: usize) {
        task.close();
        self.registry.remove(task.header().id(), place);
        task.finish_and_release();
        self.note_end();
    }

    fn note_end(&self) {
        if self.phase.is_over_now(|| self.registry.count() > 0) {
            self.n_over.add();
            self.parker.unpark();
        }
    }

    /// As `CoroutineScheduler::shutdown`.
    fn shut_down(&self) {
        if self.phase.close() {
            for task in self.registry.all() {
                self.abort(task);
                task.release();
            }
            self.note_end();
        }
        while !self.phase.is_over() {
            self.parker.park(None);
        }
    }

    /// All threads having been joined.
    fn assert_empty(&self) {
        assert_eq!((self.n_over.get(), self.registry.count()), (1, 0));
    }
}

#[test]
fn the_last_to_end_is_noticed_once() {
    explore(3, || {
        let scheduler = Scheduler::new();
        // In different shards, each in the hands of a vCPU.
        let (threads, handles): (Vec<_>, Vec<_>) = (0..2)
            .map(|shard| {
                let (task, handle) = scheduler.add(shard, State::ready());
                let theirs = Arc::clone(&scheduler);
                (thread::spawn(move || theirs.end(task, shard)), handle)
            })
            .unzip();
        scheduler.shut_down();
        for thread in threads {
            thread.join().unwrap();
        }
        scheduler.assert_empty();
        assert!(handles.iter().all(JoinHandle::is_finished));
    });
}

#[test]
fn a_spawn_is_refused_or_closed() {
    explore(3, || {
        let scheduler = Scheduler::new();
        let (_task, waits) = scheduler.add(0, State::created());
        let theirs = Arc::clone(&scheduler);
        let spawner = thread::spawn(move || theirs.spawn(1));
        scheduler.shut_down();
        let spawned = spawner.join().unwrap();
        assert!(waits.is_finished() && spawned.is_finished());
        scheduler.assert_empty();
    });
}

#[test]
fn two_shutdowns_end_it_once() {
    explore(3, || {
        let scheduler = Scheduler::new();
        let (_task, waits) = scheduler.add(0, State::created());
        let theirs = Arc::clone(&scheduler);
        let other = thread::spawn(move || {
            if theirs.phase.close() {
                for task in theirs.registry.all() {
                    theirs.abort(task);
                    task.release();
                }
                theirs.note_end();
            }
        });
        scheduler.shut_down();
        other.join().unwrap();
        scheduler.assert_empty();
        assert!(waits.is_finished());
    });
}

/// Whoever looks keeps what it sees; who ends it meanwhile waits.
#[test]
fn a_look_beside_an_end_sees_no_freed_task() {
    explore(3, || {
        let scheduler = Scheduler::new();
        let (task, handle) = scheduler.add(0, State::ready());
        // The registry's reference is the only one.
        drop(handle);
        let theirs = Arc::clone(&scheduler);
        let end = thread::spawn(move || theirs.end(task, 1));
        for task in scheduler.registry.some(|_| true) {
            task.release();
        }
        end.join().unwrap();
        assert_eq!(scheduler.registry.count(), 0);
        // The slot is free again.
        let (task, _handle) = scheduler.add(0, State::ready());
        let id = task.header().id();
        scheduler.registry.find(id).expect("it is there").release();
        scheduler.end(task, OTHERS);
    });
}
