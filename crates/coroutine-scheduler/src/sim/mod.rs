//! A simulator: the same policies over a virtual clock.
//!
//! [`simulate`] takes a [`Workload`], a [`Policy`](crate::policy::Policy) and
//! the shape of a machine, and tells what would happen: who ran when and where,
//! how long requests took, how fair it was. It asks exactly the code that the
//! live vCPUs ask. One seed gives one trace, bit for bit and on every platform:
//! there are no threads, and all of the simulation is integer arithmetic.
//!
//! ```
//! use std::time::Duration;
//! use coroutine_scheduler::policy::{Fcfs, RoundRobin};
//! use coroutine_scheduler::sim::{SimConfig, Workload, simulate};
//!
//! let workload = Workload::from_csv("arrival_us,work_us,priority,deadline_us\n\
//!     0,9000,normal,\n\
//!     0,1000,normal,5000\n")?;
//! let config = SimConfig { vcpu_count: 1, switch_ns: 0, ..SimConfig::default() };
//! let fcfs = simulate(&config, &Fcfs, &workload)?;
//! let turns = simulate(&config, &RoundRobin::new(Duration::from_millis(1)), &workload)?;
//! assert_eq!(fcfs.coroutines[1].end_ns, Some(10_000_000));
//! assert_eq!(turns.coroutines[1].end_ns, Some(2_000_000));
//! assert_eq!((fcfs.deadline_misses, turns.deadline_misses), (1, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the model leaves out: the cost of a steal, caches, the host's own
//! scheduler, and the balancer that moves homes. Its times compare policies;
//! they predict no machine.

mod random;
mod workload;
mod trace;
mod engine;
mod report;
mod svg;

use std::fmt;

pub use engine::simulate;
pub use report::{
    CoroutineReport, SimReport, Spread, comparison_table, coroutine_table, jain_index,
};
pub use svg::comparison_svg;
pub use trace::{Event, Trace, What};
pub use workload::{Burst, Generator, Job, TIME_NS_MAX, UnknownGenerator, Workload, WorkloadError};

/// The simulated machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Decides whom a vCPU steals from. Default 1.
    pub seed: u64,
    /// vCPUs, 1 to 64. Default 2.
    pub vcpu_count: usize,
    /// What it costs a vCPU to start another coroutine than the one it ran
    /// last, in nanoseconds. Default 1000.
    pub switch_ns: u64,
    /// Whether a vCPU may take what is queued at another: when it has nothing,
    /// or when something more urgent waits there. Default true.
    pub stealing: bool,
    /// Where new coroutines go. Default [`Placement::LeastLoaded`].
    pub placement: Placement,
    /// Ends the simulation at this time even if coroutines are left. Default
    /// `None`; has to be set if some never end.
    pub until_ns: Option<u64>,
    /// Whether the report keeps every event, at 16 bytes each. The hash is there
    /// in either case. Default false.
    pub keeps_trace: bool,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            seed: 1,
            vcpu_count: 2,
            switch_ns: 1_000,
            stealing: true,
            placement: Placement::default(),
            until_ns: None,
            keeps_trace: false,
        }
    }
}

/// Where new coroutines go. Woken ones go where they ran last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// To the vCPU with the fewest coroutines ready or running, the lowest
    /// number among equals; in turn, if the policy does not balance.
    #[default]
    LeastLoaded,
    /// To the vCPUs in turn.
    RoundRobin,
    /// All to vCPU 0: what stealing makes of a skewed birth.
    First,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 3] = [Self::LeastLoaded, Self::RoundRobin, Self::First];

    /// `least-loaded`, `round-robin` or `first`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastLoaded => "least-loaded",
            Self::RoundRobin => "round-robin",
            Self::First => "first",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests;
