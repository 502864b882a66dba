//! A vCPU between its holder and who takes it.

use loom::sync::Arc;
use loom::thread;

use super::{Exclusive, explore};
use crate::sync::{AtomicU32, Ordering};
use crate::vcpu::idle::IdleSet;
use crate::vcpu::{Grip, Take};

struct Held {
    grip: Grip,
    idle: IdleSet,
    core: Exclusive,
    /// Which poll it is in.
    running: AtomicU32,
}

impl Held {
    fn new() -> Arc<Held> {
        Arc::new(Held {
            grip: Grip::new(),
            idle: IdleSet::new(1),
            core: Exclusive::default(),
            running: AtomicU32::new(0),
        })
    }

    /// A poll; whether the vCPU is still this thread's.
    fn poll(&self, body: impl FnOnce(&Held)) -> bool {
        self.core.touch();
        let running = self.running.load(Ordering::Relaxed);
        self.running.store(running + 1, Ordering::Release);
        self.grip.loosen();
        body(self);
        let is_held = self.grip.tighten(&self.idle);
        if is_held {
            self.core.touch();
        }
        is_held
    }

    /// Whether it took the vCPU, in the poll that it looked at.
    fn take(&self) -> bool {
        let seen = self.running.load(Ordering::SeqCst);
        let taken = self
            .grip
            .take(&self.idle, || self.running.load(Ordering::SeqCst) == seen)
            == Take::Taken;
        if taken {
            self.core.touch();
        }
        taken
    }
}

#[test]
fn a_vcpu_has_one_holder() {
    explore(3, || {
        let held = Held::new();
        let theirs = Arc::clone(&held);
        let taker = thread::spawn(move || theirs.take());
        let is_held = held.poll(|_| ()) && held.poll(|_| ());
        let is_taken = taker.join().unwrap();
        assert_ne!(is_held, is_taken);
        held.core.count();
    });
}

#[test]
fn the_core_is_touched_within_a_poll_by_its_holder_only() {
    explore(3, || {
        let held = Held::new();
        let theirs = Arc::clone(&held);
        let taker = thread::spawn(move || theirs.take());
        let is_held = held.poll(|held| {
            // As a spawn or a wake in the poll.
            held.grip.while_held(&held.idle, || held.core.touch());
        });
        let is_taken = taker.join().unwrap();
        assert_ne!(is_held, is_taken);
        held.core.count();
    });
}

#[test]
fn one_that_asks_again_takes_at_most_once() {
    explore(3, || {
        let held = Held::new();
        let theirs = Arc::clone(&held);
        let taker = thread::spawn(move || theirs.take() || theirs.take());
        let is_held = held.poll(|_| ()) && held.poll(|_| ());
        let is_taken = taker.join().unwrap();
        assert_ne!(is_held, is_taken);
        held.core.count();
    });
}

#[test]
fn who_finds_nobody_to_give_a_vcpu_to_keeps_it() {
    explore(3, || {
        let held = Held::new();
        let theirs = Arc::clone(&held);
        let taker = thread::spawn(move || theirs.take());
        let is_held = held.poll(|held| {
            let next = held.grip.give_away(&held.idle, || {
                held.core.touch();
                None::<()>
            });
            assert_eq!(next, None);
        });
        let is_taken = taker.join().unwrap();
        assert_ne!(is_held, is_taken);
        held.core.count();
    });
}

#[test]
fn who_gives_a_vcpu_away_does_so_once() {
    explore(3, || {
        let held = Held::new();
        let theirs = Arc::clone(&held);
        let taker = thread::spawn(move || theirs.take());
        let given = AtomicU32::new(0);
        let is_held = held.poll(|held| {
            let next = held.grip.give_away(&held.idle, || {
                // As making a thread for it: the vCPU cannot be taken meanwhile.
                held.core.touch();
                Some(())
            });
            if next.is_some() {
                // On behalf of the next holder.
                held.core.touch();
                given.fetch_add(1, Ordering::Relaxed);
            }
        });
        let is_taken = taker.join().unwrap();
        assert!(!is_held);
        assert_ne!(is_taken, given.load(Ordering::Relaxed) == 1);
        held.core.count();
    });
}
