//! The scheduler's programs, as in the table of targets but small.
//!
//! Most of what is spent on a turn or a spawn is spent by one vCPU alone, and
//! without threads it repeats: those bodies drive the vCPU on the thread that is
//! measured, are judged like any computation, and have counters. What threads do to
//! each other is in the one body that has threads; how often what is stolen or
//! woken there depends on the host, so it has no counters.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Error, Result};
use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig, spawn, yield_now};
use perf_bench::gate::Kind;

use super::{Body, Gated, no_counters};
use crate::schedule::ours::{Ours, VCPUS};
use crate::schedule::programs::{Runtime, spawn_all, yield_all};

const WORK: &[&[u8]] = &[
    include_bytes!("scheduler.rs"),
    include_bytes!("../schedule/programs.rs"),
];

pub(super) const GATED: &[Gated] = &[
    Gated {
        id: "sched/yield",
        kind: Kind::Compute,
        work: WORK,
        prepare: || by_hand(|runtime| yield_all(runtime, 16, 16)),
        counters: no_counters,
    },
    Gated {
        id: "sched/spawn",
        kind: Kind::Compute,
        work: WORK,
        prepare: || by_hand(|runtime| spawn_all(runtime, 100)),
        counters: no_counters,
    },
    Gated {
        id: "sched/pool",
        kind: Kind::Threaded,
        work: WORK,
        prepare: || on_threads(|runtime| spawn_all(runtime, 400)),
        counters: no_counters,
    },
];

/// One vCPU, run by whoever waits.
#[derive(Clone)]
struct ByHand(Arc<CoroutineScheduler>);

/// Programs stay far below every limit of the configuration.
const ROOM: &str = "there is room for it";
/// Nor do their futures panic.
const ENDS: &str = "it neither panics nor is aborted";

impl Runtime for ByHand {
    fn spawn<F>(&self, body: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = spawn(body).expect(ROOM);
        async { handle.await.expect(ENDS) }
    }

    fn detach<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(spawn(body).expect(ROOM));
    }

    fn detach_from_outside<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.0.spawn(body).expect(ROOM));
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_now()
    }

    fn block_on<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.0.spawn(body).expect(ROOM);
        while self.0.run_one().is_some() {}
        handle.join().expect(ENDS);
    }
}

/// The programs check what they computed; what they give is how they end.
type Program<R> = fn(&R) -> Result<(), String>;

fn by_hand(program: Program<ByHand>) -> Result<Body> {
    let config = SchedulerConfig {
        vcpu_count: 1,
        ..SchedulerConfig::default()
    };
    let runtime = ByHand(Arc::new(CoroutineScheduler::new(config)?));
    Ok(Box::new(move || done(program(&runtime))))
}

fn on_threads(program: Program<Ours>) -> Result<Body> {
    let runtime = Ours::start(VCPUS, |_| {}).map_err(Error::msg)?;
    Ok(Box::new(move || done(program(&runtime))))
}

fn done(ran: Result<(), String>) -> Result<u64> {
    ran.map(|()| 0).map_err(Error::msg)
}
