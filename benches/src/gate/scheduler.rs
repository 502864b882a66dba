//! The scheduler's programs, as in the table of targets but small.
//!
//! They have no counters: how often what is stolen or woken depends on the host.

use anyhow::{Error, Result};
use perf_bench::gate::Kind;

use super::{Body, Gated, no_counters};
use crate::schedule::ours::{Ours, VCPUS};
use crate::schedule::programs::{Run, spawn_many, yield_many};

const WORK: &[&[u8]] = &[
    include_bytes!("scheduler.rs"),
    include_bytes!("../schedule/programs.rs"),
];

pub(super) const GATED: &[Gated] = &[
    Gated {
        id: "sched/yield",
        kind: Kind::Threaded,
        work: WORK,
        prepare: || on(1, |runtime| yield_many(runtime, 16, 500)),
        counters: no_counters,
    },
    Gated {
        id: "sched/spawn",
        kind: Kind::Threaded,
        work: WORK,
        prepare: || on(VCPUS, |runtime| spawn_many(runtime, 4000)),
        counters: no_counters,
    },
];

fn on(vcpus: usize, program: fn(&Ours) -> Result<Run, String>) -> Result<Body> {
    let runtime = Ours::start(vcpus, |_| {}).map_err(Error::msg)?;
    // The programs check what they computed.
    Ok(Box::new(move || {
        program(&runtime).map(|run| run.ops).map_err(Error::msg)
    }))
}
