//! What loom can explore.
//!
//! Queues are plain ones behind a lock: loom has none without locks, and how
//! crossbeam's work inside is crossbeam's to test. Barriers on all threads do
//! not exist, so both sides fence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::Condvar;
use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// As parking_lot's: without poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no model panics with a lock")
    }
}

/// A futex by its definition: comparing and falling asleep are one step.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    word: AtomicU32,
    step: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// For good, or without any time: that is over at once, and looks like a
    /// signal.
    pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
        if timeout == Some(Duration::ZERO) {
            return;
        }
        let step = self.step.lock();
        if self.word.load(Ordering::Acquire) == expected {
            drop(self.sleepers.wait(step));
        }
    }

    pub(crate) fn wake(&self) {
        let _step = self.step.lock();
        self.sleepers.notify_one();
    }
}

pub(crate) fn register_barrier_on_all() -> bool {
    false
}

pub(crate) fn barrier_on_all() -> bool {
    false
}

/// Loom takes sequentially consistent accesses for acquire and release ones
/// (its documentation says so); a fence stands for what they have beyond that.
pub(crate) fn order_of_accesses() {
    fence(Ordering::SeqCst);
}

#[derive(Debug)]
pub(crate) enum Steal<T> {
    Empty,
    Success(T),
    #[expect(dead_code, reason = "only queues without locks have to try again")]
    Retry,
}

type Queue<T> = Mutex<VecDeque<T>>;

/// Who sees it empty has not locked it: that would give an order that real ones
/// do not have.
#[derive(Debug)]
pub(crate) struct Injector<T> {
    queue: Queue<T>,
    count: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Worker<T> {
    queue: Arc<Queue<T>>,
    is_lifo: bool,
}

#[derive(Debug)]
pub(crate) struct Stealer<T>(Arc<Queue<T>>);

impl<T> Default for Injector<T> {
    fn default() -> Injector<T> {
        Injector {
            queue: Mutex::new(VecDeque::new()),
            count: AtomicUsize::new(0),
        }
    }
}

impl<T> Injector<T> {
    pub(crate) fn push(&self, item: T) {
        self.queue.lock().push_back(item);
        self.count.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn steal_batch(&self, to: &Worker<T>) -> Steal<()> {
        give(self.steal_batch_and_pop(to), to)
    }

    pub(crate) fn steal_batch_and_pop(&self, _: &Worker<T>) -> Steal<T> {
        if self.is_empty() {
            return Steal::Empty;
        }
        let taken = take(&self.queue);
        if matches!(taken, Steal::Success(_)) {
            self.count.fetch_sub(1, Ordering::Release);
        }
        taken
    }
}

impl<T> Worker<T> {
    pub(crate) fn new_fifo() -> Worker<T> {
        Worker::new(false)
    }

    pub(crate) fn new_lifo() -> Worker<T> {
        Worker::new(true)
    }

    fn new(is_lifo: bool) -> Worker<T> {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        Worker { queue, is_lifo }
    }

    pub(crate) fn stealer(&self) -> Stealer<T> {
        Stealer(Arc::clone(&self.queue))
    }

    pub(crate) fn push(&self, item: T) {
        self.queue.lock().push_back(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let mut queue = self.queue.lock();
        if self.is_lifo {
            queue.pop_back()
        } else {
            queue.pop_front()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Stealer<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn steal(&self) -> Steal<T> {
        take(&self.0)
    }

    pub(crate) fn steal_batch(&self, to: &Worker<T>) -> Steal<()> {
        give(take(&self.0), to)
    }

    pub(crate) fn steal_batch_and_pop(&self, _: &Worker<T>) -> Steal<T> {
        take(&self.0)
    }
}

fn take<T>(from: &Queue<T>) -> Steal<T> {
    let item = from.lock().pop_front();
    item.map_or(Steal::Empty, Steal::Success)
}

/// A batch is one here.
fn give<T>(stolen: Steal<T>, to: &Worker<T>) -> Steal<()> {
    match stolen {
        Steal::Success(item) => {
            to.push(item);
            Steal::Success(())
        }
        Steal::Empty | Steal::Retry => Steal::Empty,
    }
}
