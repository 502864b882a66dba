//! What waits at one level of a vCPU: first come, first served; and where many
//! wait, new ones beside that, newest first.
//!
//! ```text
//!   has run, or from outside ────> in order ──┐
//!   new ── few wait, no surplus ──────^       ├── turn by turn ──> pop
//!    └──── else ─────────────────> surplus ───┘
//! ```
//!
//! Now and then the surplus gives its oldest. Who is in line with those in order
//! and lies elsewhere, pinned ones, has its turns with them: whose turn it is
//! comes first.
//!
//! A program that divides its work spawns more than can run. In the order in
//! which they came, all branches of its tree are open before the first one is
//! done; newest first, one is done before the next is opened, as on a call
//! stack, and what waits and lives stays few. The oldest are the greatest
//! branches: thieves take those. (Blumofe and Leiserson, "Scheduling
//! Multithreaded Computations by Work Stealing", 1999.)
//!
//! What is in order keeps its order, and nobody in the surplus waits for ever.

use std::cell::Cell;

use crate::sync::{Steal, Stealer, Worker};

/// So many wait in order before new ones go to the surplus.
pub(crate) const IN_ORDER_MAX: usize = 256;
/// While there is a surplus, one of so many pops takes its oldest.
const OLDEST_EVERY: u32 = 64;

/// The near end, for the vCPU's own thread.
#[derive(Debug)]
pub(crate) struct LevelQueue<T> {
    pub(super) in_order: Worker<T>,
    surplus: Worker<T>,
    /// Gives the oldest.
    surplus_stealer: Stealer<T>,
    /// Pops while there was a surplus.
    n_turns: Cell<u32>,
    /// How often one was wanted from elsewhere.
    n_steals: Cell<u32>,
}

/// The far end, for everybody.
#[derive(Debug)]
pub(crate) struct LevelStealer<T> {
    in_order: Stealer<T>,
    surplus: Stealer<T>,
}

impl<T> LevelQueue<T> {
    pub(crate) fn new() -> LevelQueue<T> {
        let surplus = Worker::new_lifo();
        LevelQueue {
            in_order: Worker::new_fifo(),
            surplus_stealer: surplus.stealer(),
            surplus,
            n_turns: Cell::new(0),
            n_steals: Cell::new(0),
        }
    }

    pub(crate) fn stealer(&self) -> LevelStealer<T> {
        LevelStealer {
            in_order: self.in_order.stealer(),
            surplus: self.surplus.stealer(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.surplus.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len() + self.surplus.len()
    }

    /// Whether new ones go to the surplus, which until it is empty is all of them.
    #[inline]
    pub(crate) fn overflows(&self) -> bool {
        !self.surplus.is_empty() || self.in_order.len() >= IN_ORDER_MAX
    }

    /// Behind those that came before.
    #[inline]
    pub(crate) fn push(&self, item: T) {
        self.in_order.push(item);
    }

    /// To be the first of the surplus.
    pub(crate) fn push_surplus(&self, item: T) {
        self.surplus.push(item);
    }

    /// The next one: of the surplus, or what `in_line` gives, which knows who is
    /// in line with those in order and is not here.
    #[inline]
    pub(crate) fn pop(&self, in_line: impl Fn() -> Option<T>) -> Option<T> {
        if self.surplus.is_empty() {
            return in_line();
        }
        let turn = self.n_turns.get().wrapping_add(1);
        self.n_turns.set(turn);
        if turn.is_multiple_of(OLDEST_EVERY) {
            // A thief that is faster has taken that one.
            if let Steal::Success(oldest) = self.surplus_stealer.steal() {
                return Some(oldest);
            }
        }
        if turn.is_multiple_of(2) {
            in_line().or_else(|| self.surplus.pop())
        } else {
            self.surplus.pop().or_else(in_line)
        }
    }
}

impl<T> LevelStealer<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.surplus.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.len_in_order() + self.surplus.len()
    }

    pub(crate) fn len_in_order(&self) -> usize {
        self.in_order.len()
    }

    /// Moves some and gives the one of these that is next: of the surplus and of
    /// those in order in turn, as far as there are both. The owner, whose turns
    /// are the same, may be busy with one for long.
    pub(crate) fn steal_and_pop(&self, to: &LevelQueue<T>) -> Option<T> {
        let new = || until_settled(|| self.surplus.steal_batch_and_pop(&to.surplus));
        let in_order = || until_settled(|| self.in_order.steal_batch_and_pop(&to.in_order));
        let turn = to.n_steals.get().wrapping_add(1);
        to.n_steals.set(turn);
        if turn.is_multiple_of(2) {
            in_order().or_else(new)
        } else {
            new().or_else(in_order)
        }
    }

    /// Moves some, from the surplus if there is any. It may be in vain, where
    /// the owner takes one meanwhile.
    pub(crate) fn steal(&self, to: &LevelQueue<T>) -> Steal<()> {
        match self.surplus.steal_batch(&to.surplus) {
            Steal::Empty => self.in_order.steal_batch(&to.in_order),
            other => other,
        }
    }
}

fn until_settled<T>(mut steal: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn with(
        in_order: impl IntoIterator<Item = u32>,
        surplus: impl IntoIterator<Item = u32>,
    ) -> LevelQueue<u32> {
        let queue = LevelQueue::new();
        in_order.into_iter().for_each(|item| queue.push(item));
        surplus
            .into_iter()
            .for_each(|item| queue.push_surplus(item));
        queue
    }

    fn pop(queue: &LevelQueue<u32>) -> Option<u32> {
        queue.pop(|| queue.in_order.pop())
    }

    fn popped(queue: &LevelQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| pop(queue)).collect()
    }

    #[test]
    fn what_is_in_order_keeps_its_order_and_the_surplus_goes_newest_first() {
        assert_eq!(popped(&with(0..5, [])), [0, 1, 2, 3, 4]);
        assert_eq!(popped(&with([], 10..15)), [14, 13, 12, 11, 10]);
        let both = popped(&with(0..3, 10..15));
        assert_eq!(both, [14, 0, 13, 1, 12, 2, 11, 10]);
    }

    #[test]
    fn neither_queue_waits_for_the_end_of_the_other() {
        let queue = with(0..300, 1_000..1_300);
        let mut oldest = 1_000;
        // Both get two for each that leave.
        for turn in 1..=10_000_u32 {
            let item = pop(&queue).unwrap();
            if turn.is_multiple_of(OLDEST_EVERY) {
                assert_eq!(item, oldest);
                oldest += 1;
            } else {
                assert_eq!(
                    item < 1_000,
                    turn.is_multiple_of(2),
                    "{item} at turn {turn}"
                );
            }
            for new in 0..2 {
                queue.push(new);
                queue.push_surplus(5_000 + 2 * turn + new);
            }
            if oldest == 1_100 {
                return;
            }
        }
        panic!("the oldest still wait");
    }

    #[test]
    fn thieves_take_the_oldest_of_the_surplus_and_then_in_order() {
        let queue = with(0..3, 10..13);
        let stealer = queue.stealer();
        let thief = LevelQueue::new();
        // Half of three, and of those the newest first.
        assert_eq!(stealer.steal_and_pop(&thief), Some(11));
        while let Steal::Success(()) = stealer.steal(&thief) {}
        assert!(stealer.is_empty() && queue.is_empty());
        assert_eq!((thief.in_order.len(), thief.len()), (3, 5));
        let mut all = popped(&thief);
        let in_order: Vec<u32> = all.iter().copied().filter(|item| *item < 10).collect();
        assert_eq!(in_order, [0, 1, 2]);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 10, 12]);
    }

    #[test]
    fn thieves_leave_nobody_in_order_behind_a_surplus_that_grows() {
        let queue = with(0..3, []);
        let stealer = queue.stealer();
        let thief = LevelQueue::new();
        let steal = || {
            (10..20).for_each(|item| queue.push_surplus(item));
            stealer.steal_and_pop(&thief).unwrap()
        };
        let stolen = [steal(), steal(), steal(), steal()];
        assert_eq!(stolen.map(|item| item < 10), [false, true, false, true]);
    }

    #[test]
    fn a_surplus_alone_is_seen_from_both_ends() {
        let queue = with([], 10..13);
        let stealer = queue.stealer();
        assert!(!queue.is_empty() && !stealer.is_empty());
        assert_eq!((queue.len(), stealer.len()), (3, 3));
        assert_eq!(stealer.len_in_order(), 0);
        assert!(queue.overflows());
    }
}
