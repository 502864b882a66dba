//! The protocols in every interleaving that loom finds, with up to a bound of
//! preemptions where there are too many. The types are the crate's own; below
//! them are [`sync`](crate::sync)'s.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coroutine-scheduler --lib loom_tests`

mod task;
mod inbox;
mod idle;
mod handoff;
mod monitor;
mod shutdown;

use crate::sync::{AtomicU32, Ordering};

/// Explores `model` with at most so many preemptions.
fn explore(preemptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// Something that one thread at a time may touch, each after the one before.
/// The two counts differ if it was otherwise: a load that did not see the last
/// store makes `n_seen` fall behind.
#[derive(Debug, Default)]
struct Exclusive {
    n_seen: AtomicU32,
    n_touched: AtomicU32,
}

impl Exclusive {
    fn touch(&self) {
        let n_seen = self.n_seen.load(Ordering::Relaxed);
        self.n_seen.store(n_seen + 1, Ordering::Relaxed);
        // A read-modify-write is never behind.
        self.n_touched.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was touched, all threads having been joined.
    fn count(&self) -> u32 {
        let n_touched = self.n_touched.load(Ordering::Relaxed);
        let n_seen = self.n_seen.load(Ordering::Relaxed);
        assert_eq!(n_seen, n_touched, "two threads at once, or in no order");
        n_touched
    }
}

/// A count that any thread raises.
#[derive(Debug, Default)]
struct Count(AtomicU32);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
