//! Who runs when: six policies behind one trait of decisions.
//!
//! A [`Policy`] decides; it holds no queue and starts no thread. The live vCPUs
//! ask it with their work-stealing queues beside them, the simulator asks the
//! same code with plain ones, and [`PolicyScheduler`] puts it behind the four
//! operations of the trait [`Scheduler`]. All arithmetic of levels is in
//! [`level`](crate::level).
//!
//! ```text
//!   ready ──level──> queue of that level ──pick──> runs for slice(level)
//!     ^                                              │
//!     └──────requeue: which level, head or tail <────┘ yielded, spent, preempted
//! ```

mod fcfs;
mod round_robin;
mod levels;
mod mlfq;

mod built_in;
mod scheduler;

use std::fmt;
use std::time::Duration;

use crate::Priority;
use crate::level::{LevelSet, Share};

pub use built_in::{BuiltIn, SchedulingPolicy, UnknownPolicy};
pub use fcfs::Fcfs;
pub use levels::{Interrupts, Levels};
pub use mlfq::Mlfq;
pub use round_robin::RoundRobin;
pub use scheduler::{PolicyScheduler, PriorityScheduler, RoundRobinScheduler, Scheduler};

/// What a policy may know of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it was spawned with.
    pub priority: Priority,
    /// The level it last queued at; `priority` for a new one.
    pub level: Priority,
    /// Time it has run at this level since it came to it, in nanoseconds.
    pub used_ns: u64,
    /// Time since it last was ready at this level without being picked, in
    /// nanoseconds.
    pub waited_ns: u64,
}

/// Why a running coroutine goes back to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// By itself.
    Yielded,
    /// Its slice was over.
    SliceSpent,
    /// Something more urgent came.
    Preempted,
}

/// Where it goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The level.
    pub level: Priority,
    /// Whether before its equals: it had not used up its turn.
    pub at_head: bool,
}

/// Decisions of scheduling. Pure: the same question gets the same answer, on
/// live threads and in the simulator.
///
/// A policy must not panic: on a thread of a scheduler that ends the process,
/// with a message, since nobody could go on with that thread's coroutines. Nor
/// may it wait on the stack of the coroutine that runs: that panics.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Its name in lower case.
    fn name(&self) -> &'static str;

    /// The level at which a coroutine queues that was spawned or woken.
    fn level(&self, facts: &Facts) -> Priority {
        facts.priority
    }

    /// Where a coroutine goes that could run on.
    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        Place {
            level: self.level(facts),
            at_head: why == Requeue::Preempted,
        }
    }

    /// How long one may run at a level while equals wait; `None` for as long
    /// as it wants.
    fn slice(&self, level: Priority) -> Option<Duration>;

    /// The level to take the next coroutine from. `ready` are the levels that
    /// have some, `share` is this vCPU's account. `None`, or a level that is not
    /// in `ready`, means the most urgent one there.
    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority>;

    /// Whether one that becomes ready at `arriving` should take the vCPU from
    /// one that runs at `running`, when no vCPU is idle.
    ///
    /// Asked for all pairs when the scheduler is made: a level below `RealTime`
    /// that preempts none then is not asked about again.
    fn preempts(&self, arriving: Priority, running: Priority) -> bool {
        let _ = (arriving, running);
        false
    }

    /// How often all coroutines go back to their own priority's level; `None`
    /// for never.
    fn boost_every(&self) -> Option<Duration> {
        None
    }

    /// Whether new coroutines go where the load is least, and homes move.
    fn balances(&self) -> bool {
        true
    }

    /// Whether equals at a vCPU run in the order in which they became ready,
    /// whatever that costs. Otherwise the one that was woken last may go first a
    /// few times, and while many wait new ones go newest first: see the crate's
    /// README. The simulator has plain queues, which always keep it.
    fn keeps_order(&self) -> bool {
        true
    }
}

/// What `policy` picks, as far as it is `ready`.
#[inline]
pub(crate) fn pick_ready<P: Policy + ?Sized>(
    policy: &P,
    ready: LevelSet,
    share: &mut Share,
    now_ns: u64,
) -> Option<Priority> {
    let picked = policy.pick(ready, share, now_ns);
    let picked = picked.filter(|level| ready.has(*level));
    picked.or(ready.most_urgent())
}
