//! An inbox between senders, its owner and a thief.

use loom::sync::Arc;
use loom::thread;

use super::explore;
use crate::Priority;
use crate::sync::Worker;
use crate::vcpu::inbox::Inbox;

fn empty(inbox: &Inbox<u32>, deques: &[Worker<u32>; 3], got: &mut Vec<u32>) {
    if !inbox.seems_empty() {
        inbox.empty_into(
            |level| &deques[level],
            |level, _| {
                assert!(!deques[level.level()].is_empty(), "it came with something");
            },
        );
    }
    for deque in deques {
        got.extend(std::iter::from_fn(|| deque.pop()));
    }
}

#[test]
fn everything_arrives_once_and_a_mark_is_never_missing() {
    explore(3, || {
        let inbox = Arc::new(Inbox::default());
        let to = Arc::clone(&inbox);
        let sender = thread::spawn(move || {
            to.push(1, Priority::Normal);
            to.push(2, Priority::High);
        });
        let from = Arc::clone(&inbox);
        let thief = thread::spawn(move || {
            let own = Worker::new_fifo();
            from.steal_into(&own, Priority::Normal)
        });
        let deques = [0; 3].map(|_| Worker::new_fifo());
        let mut got = Vec::new();
        empty(&inbox, &deques, &mut got);
        sender.join().unwrap();
        got.extend(thief.join().unwrap());
        // What is still there is marked.
        empty(&inbox, &deques, &mut got);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(inbox.len(), 0);
    });
}

#[test]
fn one_sender_s_work_stays_in_order() {
    explore(3, || {
        let inbox = Arc::new(Inbox::default());
        let senders: Vec<_> = [10, 20]
            .into_iter()
            .map(|first| {
                let to = Arc::clone(&inbox);
                thread::spawn(move || {
                    to.push(first, Priority::Low);
                    to.push(first + 1, Priority::Low);
                })
            })
            .collect();
        let deques = [0; 3].map(|_| Worker::new_fifo());
        let mut got = Vec::new();
        empty(&inbox, &deques, &mut got);
        for sender in senders {
            sender.join().unwrap();
        }
        empty(&inbox, &deques, &mut got);
        let of = |first: u32| got.iter().copied().filter(move |n| n / 10 == first / 10);
        assert!(of(10).eq([10, 11]) && of(20).eq([20, 21]), "{got:?}");
    });
}

/// A mark that is still there is not set again: then its owner sees what came.
#[test]
fn what_comes_under_a_stale_mark_is_not_left_behind() {
    explore(3, || {
        let inbox = Arc::new(Inbox::default());
        inbox.push(1, Priority::Normal);
        // A thief leaves the mark.
        assert_eq!(
            inbox.steal_into(&Worker::new_fifo(), Priority::Normal),
            Some(1)
        );
        let to = Arc::clone(&inbox);
        let sender = thread::spawn(move || to.push(2, Priority::Normal));
        let deques = [0; 3].map(|_| Worker::new_fifo());
        let mut got = Vec::new();
        empty(&inbox, &deques, &mut got);
        sender.join().unwrap();
        empty(&inbox, &deques, &mut got);
        assert_eq!(got, [2]);
    });
}
