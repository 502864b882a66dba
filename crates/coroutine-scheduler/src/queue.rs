//! Ready work: four queues, the most urgent one first.
//!
//! Strict order: nothing is taken while anything more urgent waits, and equals
//! are taken in the order they came. A low level can therefore wait forever
//! beside a busy high one; a policy that shares is a matter of whoever picks the
//! level, through [`ReadyQueue::pop_level`].

use std::collections::VecDeque;

use crate::Priority;

/// Items that are ready, by priority, each level first in, first out.
#[derive(Clone, Debug)]
pub struct ReadyQueue<T> {
    /// Indexed by [`Priority::level`].
    levels: [VecDeque<T>; 4],
    /// Bit `level` is set while that level has items: the next one to take is
    /// found without looking at the queues.
    occupied: u8,
}

impl<T> ReadyQueue<T> {
    /// An empty queue; allocates with the first push.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            levels: [const { VecDeque::new() }; 4],
            occupied: 0,
        }
    }

    /// Appends behind its equals.
    pub fn push(&mut self, priority: Priority, item: T) {
        self.levels[priority.level()].push_back(item);
        self.occupied |= 1 << priority.level();
    }

    /// Puts back what was taken too early, before its equals.
    pub fn push_front(&mut self, priority: Priority, item: T) {
        self.levels[priority.level()].push_front(item);
        self.occupied |= 1 << priority.level();
    }

    /// Takes the oldest item of the most urgent level that has one.
    pub fn pop(&mut self) -> Option<(Priority, T)> {
        let priority = self.most_urgent()?;
        Some((priority, self.pop_level(priority)?))
    }

    /// Takes the oldest item of one level.
    pub fn pop_level(&mut self, priority: Priority) -> Option<T> {
        let level = &mut self.levels[priority.level()];
        let item = level.pop_front()?;
        if level.is_empty() {
            self.occupied &= !(1 << priority.level());
        }
        Some(item)
    }

    /// The most urgent level with an item.
    #[must_use]
    pub fn most_urgent(&self) -> Option<Priority> {
        let level = self.occupied.checked_ilog2()?;
        Some(Priority::ALL[level as usize])
    }

    /// Removes the oldest item that `is_it` recognises, wherever it is.
    pub fn remove(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Option<(Priority, T)> {
        for priority in Priority::ALL.into_iter().rev() {
            let level = &mut self.levels[priority.level()];
            let Some(index) = level.iter().position(&mut is_it) else {
                continue;
            };
            let item = level.remove(index)?;
            if level.is_empty() {
                self.occupied &= !(1 << priority.level());
            }
            return Some((priority, item));
        }
        None
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.levels.iter().map(VecDeque::len).sum()
    }

    /// How many items of one priority there are.
    #[must_use]
    pub fn len_of(&self, priority: Priority) -> usize {
        self.levels[priority.level()].len()
    }

    /// Whether nothing is ready.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.occupied == 0
    }
}

impl<T> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `R1 L1 N1 …`: pushes each, then pops all and joins what came.
    #[track_caller]
    fn check(pushed: &str, expected: &str) {
        let mut queue = ReadyQueue::new();
        for item in pushed.split_whitespace() {
            queue.push(priority_of(item), item);
        }
        let mut popped = Vec::new();
        while let Some((priority, item)) = queue.pop() {
            assert_eq!(priority, priority_of(item));
            popped.push(item);
        }
        assert_eq!(popped.join(" "), expected);
        assert!(queue.is_empty());
    }

    fn priority_of(item: &str) -> Priority {
        match item.as_bytes()[0] {
            b'R' => Priority::RealTime,
            b'H' => Priority::High,
            b'N' => Priority::Normal,
            _ => Priority::Low,
        }
    }

    #[test]
    fn urgent_first_and_equals_in_order() {
        check("L1 N1 H1 R1", "R1 H1 N1 L1");
        check("N1 N2 N3", "N1 N2 N3");
        check("N1 R1 N2 L1 R2 H1", "R1 R2 H1 N1 N2 L1");
        check("", "");
    }

    #[test]
    fn what_comes_while_popping_is_ordered_too() {
        let mut queue = ReadyQueue::new();
        queue.push(Priority::Normal, 1);
        queue.push(Priority::Normal, 2);
        assert_eq!(queue.pop(), Some((Priority::Normal, 1)));
        queue.push(Priority::High, 3);
        queue.push_front(Priority::Normal, 1);
        assert_eq!(queue.most_urgent(), Some(Priority::High));
        assert_eq!(queue.pop(), Some((Priority::High, 3)));
        assert_eq!(queue.pop(), Some((Priority::Normal, 1)));
        assert_eq!(queue.pop_level(Priority::Low), None);
        assert_eq!((queue.len(), queue.len_of(Priority::Normal)), (1, 1));
    }

    #[test]
    fn removal_keeps_the_rest_in_order() {
        let mut queue = ReadyQueue::new();
        for item in ["N1", "N2", "N3", "H1"] {
            queue.push(priority_of(item), item);
        }
        assert_eq!(
            queue.remove(|item| *item == "N2"),
            Some((Priority::Normal, "N2"))
        );
        assert_eq!(queue.remove(|item| *item == "N2"), None);
        assert_eq!(
            queue.remove(|item| *item == "H1"),
            Some((Priority::High, "H1"))
        );
        assert_eq!(queue.most_urgent(), Some(Priority::Normal));
        assert_eq!(queue.pop(), Some((Priority::Normal, "N1")));
        assert_eq!(queue.pop(), Some((Priority::Normal, "N3")));
        assert_eq!(queue.pop(), None);
    }

    /// A list that is searched from the front is the specification.
    #[test]
    fn agrees_with_a_sorted_list_over_a_long_mix() {
        let mut queue = ReadyQueue::new();
        let mut model: Vec<(Priority, u64)> = Vec::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for item in 0..20_000 {
            // Xorshift (Marsaglia 2003): the same mix at every run.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed % 5 < 3 {
                let priority = Priority::ALL[(seed >> 32) as usize % 4];
                queue.push(priority, item);
                model.push((priority, item));
            } else {
                let most_urgent = model.iter().map(|(priority, _)| *priority).max();
                let index = model
                    .iter()
                    .position(|(priority, _)| Some(*priority) == most_urgent);
                assert_eq!(queue.pop(), index.map(|index| model.remove(index)));
            }
            assert_eq!(queue.len(), model.len());
        }
    }
}
