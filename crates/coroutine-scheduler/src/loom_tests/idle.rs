//! Sleepers and makers of work: a sleeper beside work would be a deadlock, which
//! loom reports.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::explore;
use crate::Priority;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Worker, order_of_accesses};
use crate::vcpu::idle::{IdleSet, Rest};
use crate::vcpu::inbox::Inbox;
use crate::vcpu::park::Parker;

const N_VCPUS: usize = 2;
const LEVEL: Priority = Priority::Normal;

struct Vcpus {
    idle: IdleSet,
    parkers: [Parker; N_VCPUS],
    /// Anybody takes from any.
    inboxes: [Inbox<u32>; N_VCPUS],
    /// As `Shared::waiting` of a level. Looked at before the queues, whose locks
    /// here would give an order that the real ones do not have.
    waiting: AtomicU64,
    n_taken: AtomicU32,
    /// So many waits of a vCPU end at once, as by signals.
    n_early: AtomicU32,
    is_asleep: [AtomicU32; N_VCPUS],
}

impl Vcpus {
    fn new() -> Arc<Vcpus> {
        Arc::new(Vcpus {
            idle: IdleSet::new(N_VCPUS),
            parkers: Default::default(),
            inboxes: Default::default(),
            waiting: AtomicU64::new(0),
            n_taken: AtomicU32::new(0),
            n_early: AtomicU32::new(0),
            is_asleep: Default::default(),
        })
    }

    fn push(&self, vcpu: usize) {
        self.inboxes[vcpu].push(7, LEVEL);
        // As `Shared::mark_waiting`.
        if self.waiting.load(Ordering::SeqCst) >> vcpu & 1 == 0 {
            self.waiting.fetch_or(1 << vcpu, Ordering::SeqCst);
        }
    }

    /// As `Shared::push_from_outside`.
    fn push_from_outside(&self, target: usize) {
        self.push(target);
        order_of_accesses();
        if !self.wake_vcpu(target) {
            self.wake_sleeper();
        }
    }

    fn wake_vcpu(&self, vcpu: usize) -> bool {
        let was_taken = self.idle.take(vcpu);
        order_of_accesses();
        if was_taken || self.is_asleep[vcpu].load(Ordering::SeqCst) != 0 {
            self.parkers[vcpu].unpark();
        }
        was_taken
    }

    /// As a vCPU that has made work for others.
    fn push_from_vcpu(&self, own: usize) {
        self.push(own);
        self.idle.light_barrier();
        self.wake_sleeper();
    }

    fn wake_sleeper(&self) -> bool {
        let sleeper = self.idle.take_sleeper();
        if let Some(sleeper) = sleeper {
            self.parkers[sleeper].unpark();
        }
        sleeper.is_some()
    }

    fn sleep(&self, vcpu: usize) {
        self.is_asleep[vcpu].store(1, Ordering::SeqCst);
        order_of_accesses();
        if self.idle.has(vcpu) {
            self.park(vcpu);
        }
        self.is_asleep[vcpu].store(0, Ordering::SeqCst);
    }

    fn park(&self, vcpu: usize) {
        let n_early = self.n_early.load(Ordering::Relaxed);
        let timeout = (n_early > 0).then_some(Duration::ZERO);
        self.n_early
            .store(n_early.saturating_sub(1), Ordering::Relaxed);
        self.parkers[vcpu].park(timeout);
    }

    /// Rests and works until so much has been done.
    fn run(&self, own: usize, n_taken: u32) {
        let vcpu = One { vcpus: self, own };
        while self.n_taken.load(Ordering::Relaxed) < n_taken {
            self.idle.rest(own, &vcpu);
            let spare = Worker::new_fifo();
            for inbox in &self.inboxes {
                if inbox.steal_into(&spare, LEVEL).is_some() {
                    self.n_taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

struct One<'a> {
    vcpus: &'a Vcpus,
    own: usize,
}

impl Rest for One<'_> {
    fn is_over(&self) -> bool {
        false
    }

    fn search(&self) -> bool {
        let found = self.has_any_work();
        if found {
            self.vcpus.idle.end_search();
        }
        found
    }

    fn has_any_work(&self) -> bool {
        self.clear_stale_mark();
        let waiting = self.vcpus.waiting.load(Ordering::SeqCst);
        let mut inboxes = self.vcpus.inboxes.iter().enumerate();
        inboxes.any(|(vcpu, inbox)| waiting >> vcpu & 1 != 0 && !inbox.is_empty(LEVEL))
    }

    fn sleep(&self) {
        self.vcpus.sleep(self.own);
    }
}

impl One<'_> {
    /// As `Local::clear_stale_marks`, by `Local::unmark`.
    fn clear_stale_mark(&self) {
        let Vcpus {
            inboxes, waiting, ..
        } = self.vcpus;
        let own = 1 << self.own;
        if waiting.load(Ordering::SeqCst) & own != 0 && inboxes[self.own].is_empty(LEVEL) {
            waiting.fetch_and(!own, Ordering::SeqCst);
            order_of_accesses();
            if inboxes[self.own].marks().has(LEVEL) {
                waiting.fetch_or(own, Ordering::SeqCst);
            }
        }
    }
}

/// The part of the monitor that looks after wakes.
impl Vcpus {
    /// As `Shared::look_after_wakes`.
    fn look(&self, was_late: bool) -> bool {
        for (vcpu, parker) in self.parkers.iter().enumerate() {
            if self.is_asleep[vcpu].load(Ordering::SeqCst) != 0 && !self.idle.has(vcpu) {
                parker.unpark();
            }
        }
        if self.idle.sleepers() == 0 || self.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let is_late = !self.wake_sleeper();
        if is_late
            && was_late
            && let Some(sleeper) = self.idle.take_any_sleeper()
        {
            self.parkers[sleeper].unpark();
        }
        is_late
    }

    /// One that is awake since a vCPU is.
    fn watch(&self, n_taken: u32) {
        let mut is_wake_late = false;
        while self.n_taken.load(Ordering::SeqCst) < n_taken {
            is_wake_late = self.look(is_wake_late);
            // Until the next look.
            thread::yield_now();
        }
    }
}

#[test]
fn work_from_outside_wakes_who_sleeps() {
    explore(3, || {
        let vcpus = Vcpus::new();
        let theirs = Arc::clone(&vcpus);
        let outsider = thread::spawn(move || theirs.push_from_outside(0));
        vcpus.run(0, 1);
        outsider.join().unwrap();
    });
}

#[test]
fn work_for_one_vcpu_wakes_another_where_that_one_sleeps() {
    explore(3, || {
        let vcpus = Vcpus::new();
        let theirs = Arc::clone(&vcpus);
        let outsider = thread::spawn(move || theirs.push_from_outside(1));
        // vCPU 1 runs something long meanwhile, vCPU 0 has nothing.
        vcpus.run(0, 1);
        outsider.join().unwrap();
    });
}

#[test]
fn two_makers_wake_one_sleeper() {
    explore(2, || {
        let vcpus = Vcpus::new();
        let [a, b] = [0; 2].map(|_| Arc::clone(&vcpus));
        let outsider = thread::spawn(move || a.push_from_outside(0));
        let vcpu = thread::spawn(move || b.push_from_vcpu(1));
        vcpus.run(0, 2);
        outsider.join().unwrap();
        vcpu.join().unwrap();
    });
}

#[test]
fn a_sleep_that_ends_early_loses_no_later_wake() {
    explore(3, || {
        let vcpus = Vcpus::new();
        vcpus.n_early.store(2, Ordering::Relaxed);
        let theirs = Arc::clone(&vcpus);
        let vcpu = thread::spawn(move || {
            theirs.push_from_vcpu(1);
            theirs.push_from_vcpu(1);
        });
        vcpus.run(0, 2);
        vcpu.join().unwrap();
        assert_eq!(vcpus.idle.n_searching(), 0);
    });
}

#[test]
fn a_stale_mark_that_is_cleared_hides_no_work() {
    explore(3, || {
        let vcpus = Vcpus::new();
        // A thief was here.
        vcpus.waiting.fetch_or(1, Ordering::SeqCst);
        let theirs = Arc::clone(&vcpus);
        let outsider = thread::spawn(move || theirs.push_from_outside(0));
        vcpus.run(0, 1);
        outsider.join().unwrap();
    });
}

/// One thread takes vCPU 0 out of the set and loses its CPU for good after
/// `step`. Work from another one arrives all the same, without a monitor: that
/// is dormant while all sleep.
fn check_a_slow_waker(step: impl Fn(&Parker) + Copy + Send + Sync + 'static) {
    explore(2, move || {
        let vcpus = Vcpus::new();
        let [a, b] = [0; 2].map(|_| Arc::clone(&vcpus));
        let slow = thread::spawn(move || {
            if a.idle.take(0) {
                step(&a.parkers[0]);
            }
        });
        let outsider = thread::spawn(move || b.push_from_outside(0));
        vcpus.run(0, 1);
        slow.join().unwrap();
        outsider.join().unwrap();
    });
}

#[test]
fn a_waker_that_stops_before_the_token_keeps_nobody_asleep() {
    check_a_slow_waker(|_| ());
}

#[test]
fn a_waker_that_stops_after_the_token_keeps_nobody_asleep() {
    check_a_slow_waker(|parker| {
        parker.leave_token();
    });
}

/// Work of a vCPU, which may have any other one woken.
fn check_the_monitor(step: impl Fn(&Vcpus) + Copy + Send + Sync + 'static) {
    explore(2, move || {
        let vcpus = Vcpus::new();
        let [a, b, c] = [0; 3].map(|_| Arc::clone(&vcpus));
        let slow = thread::spawn(move || step(&a));
        let vcpu = thread::spawn(move || b.push_from_vcpu(1));
        let monitor = thread::spawn(move || c.watch(1));
        vcpus.run(0, 1);
        for thread in [slow, vcpu, monitor] {
            thread.join().unwrap();
        }
    });
}

#[test]
fn the_monitor_wakes_who_was_taken_by_a_waker_that_stops() {
    check_the_monitor(|vcpus| {
        vcpus.idle.take(0);
    });
}

#[test]
fn the_monitor_wakes_a_sleeper_beside_a_searcher_that_stops() {
    // Or a waker that has counted and not yet taken.
    check_the_monitor(|vcpus| {
        vcpus.idle.begin_search();
    });
}

#[test]
fn a_parker_keeps_a_token_for_who_comes_later() {
    explore(3, || {
        let parker = Arc::new(Parker::default());
        let theirs = Arc::clone(&parker);
        let waker = thread::spawn(move || theirs.unpark());
        assert!(parker.park(None), "it sleeps until there is one");
        waker.join().unwrap();
    });
}

/// The second wake may find the first one done, in the same sleep or an earlier
/// one.
#[test]
fn a_wake_that_another_one_has_done_for_this_sleep_is_done_for_no_other() {
    explore(3, || {
        let parker = Arc::new(Parker::default());
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let theirs = Arc::clone(&parker);
                thread::spawn(move || {
                    theirs.unpark();
                    theirs.unpark();
                })
            })
            .collect();
        assert!(parker.park(None));
        for waker in wakers {
            waker.join().unwrap();
        }
        // A token is left, or all came for the first sleep.
        let last = Arc::clone(&parker);
        let last = thread::spawn(move || last.unpark());
        assert!(parker.park(None));
        last.join().unwrap();
    });
}

/// The first waker wakes, and notes that once another sleep has begun, whose own
/// waker stops after the token. Who comes then has to wake all the same.
#[test]
fn a_wake_that_is_noted_late_is_noted_for_no_later_sleep() {
    explore(3, || {
        let parker = Arc::new(Parker::default());
        let [first, second] = [0; 2].map(|_| Arc::clone(&parker));
        let first = thread::spawn(move || first.unpark());
        // What comes late ends a sleep for nothing.
        while !parker.park(None) {}
        let second = thread::spawn(move || {
            second.leave_token();
            second.unpark();
        });
        while !parker.park(None) {}
        first.join().unwrap();
        second.join().unwrap();
    });
}
