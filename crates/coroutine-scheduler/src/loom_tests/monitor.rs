//! The monitor's next look and those who have deadlines for it.

use loom::sync::Arc;
use loom::thread;

use super::explore;
use crate::monitor::NextLook;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::vcpu::park::Parker;

/// When it would look if there were nothing.
const FAR: u64 = 1_000;

struct Watched {
    next: NextLook,
    parker: Parker,
    /// As a vCPU's timers: what a look sees.
    due: AtomicU64,
}

impl Watched {
    fn new() -> Arc<Watched> {
        Arc::new(Watched {
            next: NextLook::default(),
            parker: Parker::default(),
            due: AtomicU64::new(FAR),
        })
    }

    /// As a timer that has become the first one.
    fn expect_by(&self, deadline_ns: u64) {
        self.due.fetch_min(deadline_ns, Ordering::Relaxed);
        if self.next.expect_by(deadline_ns) {
            self.parker.unpark();
        }
    }

    /// Looks until it would look by then. Where it sleeps over that, it does so
    /// for ever: loom would report that.
    fn look_until_it_expects(&self, deadline_ns: u64) {
        loop {
            self.next.begin_look();
            let due = self.due.load(Ordering::Relaxed);
            if self.next.end_look(due) <= deadline_ns {
                return;
            }
            self.parker.park(None);
        }
    }
}

#[test]
fn no_deadline_is_slept_over() {
    explore(3, || {
        let watched = Watched::new();
        let theirs = Arc::clone(&watched);
        let has_deadline = thread::spawn(move || theirs.expect_by(5));
        watched.look_until_it_expects(5);
        has_deadline.join().unwrap();
    });
}

#[test]
fn of_two_deadlines_the_earlier_one_counts() {
    explore(2, || {
        let watched = Watched::new();
        let others = [5, 7].map(|deadline_ns| {
            let theirs = Arc::clone(&watched);
            thread::spawn(move || theirs.expect_by(deadline_ns))
        });
        watched.look_until_it_expects(5);
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn nobody_is_dormant_beside_a_vcpu_that_is_awake() {
    explore(3, || {
        let both = Arc::new((NextLook::default(), Parker::default(), AtomicU32::new(1)));
        both.0.begin_look();
        let theirs = Arc::clone(&both);
        let awakes = thread::spawn(move || {
            let (next, parker, is_asleep) = &*theirs;
            is_asleep.store(0, Ordering::SeqCst);
            if next.is_dormant() {
                parker.unpark();
            }
        });
        let (next, parker, is_asleep) = &*both;
        next.sleep();
        if is_asleep.load(Ordering::SeqCst) != 0 {
            // For ever, if nobody wakes it: loom would report that.
            parker.park(None);
        }
        awakes.join().unwrap();
    });
}
