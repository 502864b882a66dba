//! The scheduler: what futures cost, how soon they run, whether order holds.
//!
//! ```text
//!  schedule/live ................ a million at once, memory of each
//!  schedule/{yield,spawn,…} ..... the programs of `programs`, shared with peers
//!  schedule/{wake,steal,ticker} . one latency each, as a distribution
//!  schedule/{balance,order} ..... who did the work; who was picked
//!  schedule/idle ................ what doing nothing costs
//! ```
//!
//! Everything runs on the real scheduler with two vCPUs, statistics and
//! priorities on. Medians, because with more threads than one both tails are
//! the host's. What compares us with others is `benches/peers`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use perf_bench::stats::summary::quantile;
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use crate::contest::nanoseconds;
use crate::jit::sample;
use crate::lab::{Lab, Measured, Suite, Workload};

mod idle;
mod latency;
mod live;
mod order;
pub mod ours;
pub mod programs;
mod stacks;
mod witness;

use ours::{Ours, VCPUS};
use programs::Run;

/// Costs, latencies and order of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleBenchmark;

impl Suite for ScheduleBenchmark {
    const WORKLOADS: &'static [Workload] = &[
        // First: memory that others have freed would hide some of it.
        Workload {
            id: "schedule/live",
            kpis: &["sched.live_coroutines", "sched.bytes_per_task"],
            body: live::live,
        },
        Workload {
            id: "schedule/idle",
            kpis: &["sched.idle_cpu_pct"],
            body: idle::idle,
        },
        Workload {
            id: "schedule/yield",
            kpis: &["sched.switch_ns"],
            body: |lab, result| {
                let yields = if lab.is_quick { 250 } else { 1_000 };
                program(lab, result, "sched.switch_ns", |ours| {
                    programs::yield_many(ours, 200, yields)
                })
            },
        },
        Workload {
            id: "schedule/spawn",
            kpis: &["sched.create_ns"],
            body: |lab, result| {
                let tasks = if lab.is_quick { 20_000 } else { 100_000 };
                program(lab, result, "sched.create_ns", |ours| {
                    programs::spawn_many(ours, tasks)
                })
            },
        },
        Workload {
            id: "schedule/chained_spawn",
            kpis: &["sched.chained_spawn_ns"],
            body: |lab, result| {
                let length = if lab.is_quick { 20_000 } else { 100_000 };
                program(lab, result, "sched.chained_spawn_ns", |ours| {
                    programs::chained_spawn(ours, length)
                })
            },
        },
        Workload {
            id: "schedule/pingpong",
            kpis: &["sched.pingpong_ns"],
            body: |lab, result| {
                let rounds = if lab.is_quick { 10_000 } else { 40_000 };
                program(lab, result, "sched.pingpong_ns", |ours| {
                    programs::ping_pong(ours, rounds)
                })
            },
        },
        Workload {
            id: "schedule/skynet",
            kpis: &["sched.skynet_ms"],
            body: skynet,
        },
        Workload {
            id: "schedule/wake",
            kpis: &["sched.latency_us_p99"],
            body: latency::wake,
        },
        Workload {
            id: "schedule/steal",
            kpis: &["sched.steal_us_p50"],
            body: latency::steal,
        },
        Workload {
            id: "schedule/balance",
            kpis: &["sched.imbalance_pct"],
            body: order::balance,
        },
        Workload {
            id: "schedule/order",
            kpis: &["sched.priority_accuracy_pct"],
            body: order::order,
        },
        Workload {
            // The median of five parts' p99: see `latency::PARTS`.
            id: "schedule/ticker",
            kpis: &["sched.rt_wake_us_p99"],
            body: latency::ticker,
        },
        Workload {
            id: "schedule/ticker_opaque",
            kpis: &["sched.rt_wake_opaque_ms_p99"],
            body: latency::ticker_opaque,
        },
        Workload {
            id: "schedule/stackful",
            kpis: &["sched.raw_switch_ns", "sched.guarded_stacks"],
            body: stacks::on_stacks,
        },
        // Cannot be measured yet.
        Workload {
            id: "schedule/ring",
            kpis: &["sched.ring_noop_ns"],
            body: |_, _| not_yet("guests have no submission ring yet"),
        },
    ];
}

fn not_yet(reason: &str) -> Result<Measured> {
    Ok(Measured::Skipped(reason.to_owned()))
}

fn start(change: impl FnOnce(&mut coroutine_scheduler::SchedulerConfig)) -> Result<Ours> {
    Ours::start(VCPUS, change).map_err(|why| anyhow!("the scheduler does not start: {why}"))
}

/// With fewer CPUs than vCPUs every figure is the host's.
fn set_up(result: &mut BenchmarkResult, vcpus: usize) {
    result.set_threads(u32::try_from(vcpus).unwrap_or(u32::MAX));
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    if cpus < vcpus {
        result.warn(format!(
            "{vcpus} vCPUs on {cpus} CPU: they take turns as the host decides"
        ));
    }
}

/// Repeats a program after one unmeasured run; the median of the operation's
/// time is the row's value.
fn program(
    lab: &Lab,
    mut result: BenchmarkResult,
    kpi: &str,
    run: impl Fn(&Ours) -> Result<Run, String>,
) -> Result<Measured> {
    let (rounds, least) = if lab.is_quick { (15, 5) } else { (31, 11) };
    if let Some(ns) = repeat(lab, &mut result, rounds, least, run)? {
        result.record_kpi(kpi, ns, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}

/// Nanoseconds of one operation, the median over rounds; `None` if a round went
/// wrong, which the result then says.
fn repeat(
    lab: &Lab,
    result: &mut BenchmarkResult,
    rounds: u32,
    rounds_min: u32,
    run: impl Fn(&Ours) -> Result<Run, String>,
) -> Result<Option<f64>> {
    set_up(result, VCPUS);
    let ours = start(|_| {})?;
    let deadline = lab.deadline_of(Duration::from_millis(700));
    let mut runs: Vec<Run> = Vec::new();
    for round in 0..=rounds {
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over && round > rounds_min {
            break;
        }
        match run(&ours) {
            // The first one fills free lists and wakes CPUs.
            Ok(_) if round == 0 && rounds > 1 => {}
            Ok(run) => runs.push(run),
            Err(why) => {
                result.mark_invalid(why);
                return Ok(None);
            }
        }
    }
    let per_op = |of: fn(&Run) -> Duration| {
        let mut all: Vec<f64> = runs
            .iter()
            .map(|run| of(run).as_nanos() as f64 / run.ops as f64)
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        quantile(&all, 0.5)
    };
    let (wall_ns, cpu_ns) = (per_op(|run| run.wall), per_op(|run| run.cpu));
    for (round, run) in (0..).zip(&runs) {
        result.extend_samples([
            sample(Event::WallNs, round, nanoseconds(run.wall), run.ops),
            sample(Event::CpuNs, round, nanoseconds(run.cpu), run.ops),
        ]);
    }
    let metrics = Metrics::from_samples("elapsed", result.samples())
        .with("median", wall_ns, Unit::Nanosecond, Direction::Lower)?
        .with("CPU time", cpu_ns, Unit::Nanosecond, Direction::Lower)?;
    result.push_metrics(metrics);
    let stats = ours.scheduler().get_stats();
    let per_switch = |n: u64| n as f64 / stats.context_switches.max(1) as f64;
    let steals = stats.vcpus.iter().map(|vcpu| vcpu.steals).sum();
    let parks = stats.vcpus.iter().map(|vcpu| vcpu.parks).sum();
    let metrics = Metrics::new("scheduler", Duration::ZERO, 0)
        .with(
            "steals per switch",
            per_switch(steals),
            Unit::Count,
            Direction::Lower,
        )?
        .with(
            "parks per switch",
            per_switch(parks),
            Unit::Count,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    Ok(Some(wall_ns))
}

fn skynet(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const LEAVES: u64 = 1_000_000;
    let rounds = if lab.is_quick { 2 } else { 7 };
    let run = |ours: &Ours| programs::skynet(ours, LEAVES);
    if let Some(ns) = repeat(lab, &mut result, rounds, 1, run)? {
        result.record_kpi("sched.skynet_ms", ns * LEAVES as f64, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}
