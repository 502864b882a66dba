//! The scheduler's programs, as in the table of targets but small.
//!
//! Most of what is spent on a turn or a spawn is spent by one vCPU alone, and
//! without threads it repeats: those bodies drive the vCPU on the thread that is
//! measured, are judged like any computation, and have counters. What threads do to
//! each other is in the one body that has threads; how often what is stolen or
//! woken there depends on the host, so it has no counters.

use anyhow::{Error, Result};
use perf_bench::gate::Kind;

use super::{Body, Gated, no_counters};
use crate::schedule::ours::{Ours, VCPUS};
use crate::schedule::programs::{spawn_all, yield_all};

const WORK: &[&[u8]] = &[
    include_bytes!("scheduler.rs"),
    include_bytes!("../schedule/ours.rs"),
    include_bytes!("../schedule/programs.rs"),
];

pub(super) const GATED: &[Gated] = &[
    Gated {
        id: "sched/yield",
        kind: Kind::Compute,
        work: WORK,
        prepare: || on(Ours::by_hand(), |runtime| yield_all(runtime, 16, 16)),
        counters: no_counters,
    },
    Gated {
        id: "sched/spawn",
        kind: Kind::Compute,
        work: WORK,
        prepare: || on(Ours::by_hand(), |runtime| spawn_all(runtime, 100)),
        counters: no_counters,
    },
    Gated {
        id: "sched/pool",
        kind: Kind::Threaded,
        work: WORK,
        prepare: || {
            let started = Ours::start(VCPUS, |_| {});
            on(started, |runtime| spawn_all(runtime, 400))
        },
        counters: no_counters,
    },
];

/// The programs check what they computed; what they give is how they end.
fn on(runtime: Result<Ours, String>, program: fn(&Ours) -> Result<(), String>) -> Result<Body> {
    let runtime = runtime.map_err(Error::msg)?;
    Ok(Box::new(move || {
        program(&runtime).map(|()| 0).map_err(Error::msg)
    }))
}
