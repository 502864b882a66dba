//! Where other threads leave work for a vCPU.
//!
//! ```text
//!   sender                        owner
//!   1 push                        1 take the marks (swap 0)
//!   2 mark the level, unless      2 take from the queues of marked levels
//!     after a barrier it is
//! ```
//!
//! A mark is never missing: what is pushed and not yet marked will be, and what
//! was marked before step 1 of the owner is in the queue by step 2. Thieves take
//! from the queues and leave the marks, which may thus be stale.

use super::N_QUEUES;
use crate::Priority;
use crate::level::LevelSet;
use crate::sync::{AtomicU32, Injector, Ordering, Steal, Worker, fence};

/// Batches taken from one level at once.
const BATCHES_MAX: u32 = 8;

/// See the module. All levels but `RealTime`.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queues: [Injector<T>; N_QUEUES],
    /// Levels whose queue may have something.
    marks: AtomicU32,
}

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        Inbox {
            queues: Default::default(),
            marks: AtomicU32::new(0),
        }
    }
}

impl<T> Inbox<T> {
    pub(crate) fn push(&self, item: T, level: Priority) {
        self.queues[level.level()].push(item);
        // The owner takes the mark before it looks: a mark that is still there is
        // for this one, too. In a flood it stays in everybody's cache.
        fence(Ordering::SeqCst);
        let mark = 1 << level.level();
        if self.marks.load(Ordering::SeqCst) & mark == 0 {
            self.marks.fetch_or(mark, Ordering::SeqCst);
        }
    }

    /// Levels that may have something.
    pub(crate) fn marks(&self) -> LevelSet {
        LevelSet::from_bits(self.marks.load(Ordering::SeqCst) as u8)
    }

    /// For a first look, which another one follows before anybody sleeps.
    #[inline]
    pub(crate) fn seems_empty(&self) -> bool {
        self.marks.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn is_empty(&self, level: Priority) -> bool {
        self.queues[level.level()].is_empty()
    }

    pub(crate) fn len_of(&self, level: Priority) -> usize {
        self.queues[level.level()].len()
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(Injector::len).sum()
    }

    /// The owner takes what is there into its deques, in the order it came, and
    /// hears of each level that had something, and how much. A flood is taken in
    /// parts, for others to help.
    pub(crate) fn empty_into<'a>(
        &self,
        deque_of: impl Fn(usize) -> &'a Worker<T>,
        had_some: impl Fn(Priority, usize),
    ) where
        T: 'a,
    {
        let marks = self.marks.swap(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for (level, queue) in self.queues.iter().enumerate() {
            if marks >> level & 1 == 0 {
                continue;
            }
            let deque = deque_of(level);
            let mut n_batches = 0;
            let before = deque.len();
            while n_batches < BATCHES_MAX {
                match queue.steal_batch(deque) {
                    Steal::Success(()) => n_batches += 1,
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
            if n_batches > 0 {
                // Less what thieves take meanwhile.
                let n = deque.len().saturating_sub(before);
                had_some(Priority::ALL[level], n);
            }
            if n_batches == BATCHES_MAX && !queue.is_empty() {
                self.marks.fetch_or(1 << level, Ordering::SeqCst);
            }
        }
    }

    /// A thief takes some of one level into its deque, and one in hand.
    pub(crate) fn steal_into(&self, deque: &Worker<T>, level: Priority) -> Option<T> {
        loop {
            match self.queues[level.level()].steal_batch_and_pop(deque) {
                Steal::Success(item) => return Some(item),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }
}
