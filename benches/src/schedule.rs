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

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use coroutine_scheduler::{
    Fairness, Priority, SpawnOptions, VcpuState, checkpoint, interval, now, spawn, spawn_with,
    stackful, yield_now,
};
use perf_bench::stats::summary::quantile;
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use crate::contest::nanoseconds;
use crate::jit::sample;
use crate::lab::{Lab, Measured, Suite, Workload};

pub mod ours;
pub mod programs;

use ours::{Ours, VCPUS};
use programs::{Run, Runtime as _, Slot, process_cpu, spin};

/// Costs, latencies and order of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleBenchmark;

impl Suite for ScheduleBenchmark {
    const WORKLOADS: &'static [Workload] = &[
        // First: memory that others have freed would hide some of it.
        Workload {
            id: "schedule/live",
            kpis: &["sched.live_coroutines", "sched.bytes_per_task"],
            body: live,
        },
        Workload {
            id: "schedule/idle",
            kpis: &["sched.idle_cpu_pct"],
            body: idle,
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
            body: wake,
        },
        Workload {
            id: "schedule/steal",
            kpis: &["sched.steal_us_p50"],
            body: steal,
        },
        Workload {
            id: "schedule/balance",
            kpis: &["sched.imbalance_pct"],
            body: balance,
        },
        Workload {
            id: "schedule/order",
            kpis: &["sched.priority_accuracy_pct"],
            body: order,
        },
        Workload {
            id: "schedule/ticker",
            kpis: &["sched.rt_wake_us_p99"],
            body: ticker,
        },
        Workload {
            id: "schedule/ticker_opaque",
            kpis: &["sched.rt_wake_opaque_ms_p99"],
            body: ticker_opaque,
        },
        Workload {
            id: "schedule/stackful",
            kpis: &["sched.raw_switch_ns", "sched.guarded_stacks"],
            body: on_stacks,
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

/// A million futures that wait, all at once, and what they take of memory.
///
/// Resident memory at half of them tells whether the rest costs the same: if
/// not, something else of this process was measured.
fn live(_: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const COROUTINES: u64 = 1_000_000;
    set_up(&mut result, VCPUS);
    let ours = start(|config| config.max_coroutines = COROUTINES as usize)?;
    let scheduler = ours.scheduler();
    // The stacks and first pages of the threads, which are no future's.
    ours.block_on(yield_now());
    let (cpu, begin) = (process_cpu(), Instant::now());
    let mut resident = vec![resident_bytes()?];
    for half in 1..=2 {
        for _ in 0..COROUTINES / 2 {
            drop(scheduler.spawn(std::future::pending::<()>())?);
        }
        let n_spawned = half * COROUTINES / 2;
        // Parked is what has run once and waits.
        let executions = || -> u64 {
            let stats = scheduler.get_stats();
            stats.vcpus.iter().map(|vcpu| vcpu.executions).sum()
        };
        while executions() < n_spawned {
            if begin.elapsed() > Duration::from_secs(60) {
                result.mark_invalid(format!("after a minute {} futures have run", executions()));
                return Ok(Measured::Done(result));
            }
            thread::yield_now();
        }
        resident.push(resident_bytes()?);
    }
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    let alive = scheduler.get_stats().active_coroutines as u64;
    if let Err(why) = programs::expect("coroutines alive", alive, COROUTINES) {
        result.mark_invalid(why);
    }
    let one_more = scheduler.spawn(async {});
    if one_more.is_ok() {
        result.mark_invalid("max_coroutines was not a limit");
    }
    let per_task = |from: f64, to: f64, count: u64| (to - from) / count as f64;
    let bytes = per_task(resident[0], resident[2], COROUTINES);
    let halves = [
        per_task(resident[0], resident[1], COROUTINES / 2),
        per_task(resident[1], resident[2], COROUTINES / 2),
    ];
    if (halves[0] - halves[1]).abs() > bytes * 0.25 {
        result.warn(format!(
            "the first half of the futures took {:.0} B each, the second {:.0} B: \
             memory that was free before is not counted",
            halves[0], halves[1]
        ));
    }
    let shutdown = Instant::now();
    drop(ours);
    let metrics = Metrics::new("spawn and park", wall, COROUTINES)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / COROUTINES as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with("first half", halves[0], Unit::Byte, Direction::Lower)?
        .with("second half", halves[1], Unit::Byte, Direction::Lower)?
        .with(
            "shutdown",
            shutdown.elapsed().as_secs_f64() * 1e3,
            Unit::Millisecond,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.record_kpi("sched.live_coroutines", alive as f64, Unit::Count)?;
    result.record_kpi("sched.bytes_per_task", bytes, Unit::Byte)?;
    Ok(Measured::Done(result))
}

/// From a spawn outside until the future runs, all vCPUs being asleep.
fn wake(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let wakes = if lab.is_quick { 1_500 } else { 10_000 };
    set_up(&mut result, VCPUS);
    let ours = start(|_| {})?;
    ours.block_on(async {});
    let parks = || -> u64 {
        let stats = ours.scheduler().get_stats();
        stats.vcpus.iter().map(|vcpu| vcpu.parks).sum()
    };
    let parks_before = parks();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let latencies = match programs::wake_idle(&ours, wakes) {
        Ok(latencies) => latencies,
        Err(why) => {
            result.mark_invalid(why);
            return Ok(Measured::Done(result));
        }
    };
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    // Whoever was awake was not woken: that would be another measurement.
    let n_parks = parks() - parks_before;
    if n_parks < wakes * 9 / 10 {
        result.mark_invalid(format!("{n_parks} times asleep in {wakes} wakes"));
    }
    let of = push_latencies(&mut result, "spawn to run", &latencies)?;
    let metrics = Metrics::new("with the pauses between", wall, wakes).with(
        "CPU time per wake",
        cpu.as_nanos() as f64 / wakes as f64,
        Unit::Nanosecond,
        Direction::Lower,
    )?;
    result.push_metrics(metrics);
    result.record_kpi("sched.latency_us_p99", of.p99, Unit::Nanosecond)?;
    Ok(Measured::Done(result))
}

/// From a push on a vCPU that goes on computing until the future starts on the
/// other one, which searches.
///
/// The pusher keeps its vCPU, so whatever starts has been stolen; a vCPU
/// searches for 20 µs while another one runs, so it does when the next push
/// comes.
fn steal(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let pushes: u64 = if lab.is_quick { 5_000 } else { 50_000 };
    set_up(&mut result, VCPUS);
    // It must not lose its vCPU for keeping it.
    let ours = start(|config| config.hand_off = false)?;
    let scheduler = ours.scheduler();
    let before = scheduler.get_stats();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let pusher = scheduler.spawn(async move {
        let here = thread::current().id();
        let started_ns = Arc::new(AtomicU64::new(0));
        let n_here = Arc::new(AtomicU64::new(0));
        let mut all = Vec::with_capacity(pushes as usize);
        for push in 0..pushes {
            // The other one ends what it had and searches again.
            std::hint::black_box(spin(2_000, push));
            let (started, same) = (Arc::clone(&started_ns), Arc::clone(&n_here));
            // Low goes to the queue others steal from at once; the place for
            // what runs next is its own vCPU's.
            let low = SpawnOptions::new().priority(Priority::Low);
            let pushed = Instant::now();
            let task = spawn_with(low, async move {
                let ns = nanoseconds(pushed.elapsed());
                if thread::current().id() == here {
                    same.fetch_add(1, Ordering::Relaxed);
                }
                started.store(ns.max(1), Ordering::Release);
            });
            drop(task.expect("there is room for two"));
            let ns = loop {
                match started_ns.swap(0, Ordering::Acquire) {
                    0 if pushed.elapsed() > Duration::from_secs(2) => return Err(push),
                    0 => std::hint::spin_loop(),
                    ns => break ns,
                }
            };
            all.push(ns);
        }
        Ok((all, n_here.load(Ordering::Relaxed)))
    })?;
    let ended = pusher.join().map_err(|error| anyhow!("{error}"))?;
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    let (latencies, n_here) = match ended {
        Ok(ended) => ended,
        Err(push) => {
            result.mark_invalid(format!("nobody stole push {push} within 2 s"));
            return Ok(Measured::Done(result));
        }
    };
    let after = scheduler.get_stats();
    let steals = |stats: &coroutine_scheduler::SchedulerStats| -> u64 {
        stats.vcpus.iter().map(|vcpu| vcpu.steals).sum()
    };
    let n_steals = steals(&after) - steals(&before);
    if n_here > 0 || n_steals < pushes {
        result.mark_invalid(format!(
            "{n_steals} steals for {pushes} pushes, {n_here} ran where they were pushed"
        ));
    }
    let parks = |stats: &coroutine_scheduler::SchedulerStats| -> u64 {
        stats.vcpus.iter().map(|vcpu| vcpu.parks).sum()
    };
    let of = push_latencies(&mut result, "push to start", &latencies)?;
    let metrics = Metrics::new("with the work between", wall, pushes)
        .with(
            "CPU time per push",
            cpu.as_nanos() as f64 / pushes as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "pushes that found it asleep (at most)",
            (parks(&after) - parks(&before)) as f64 / pushes as f64,
            Unit::Ratio,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.record_kpi("sched.steal_us_p50", of.p50, Unit::Nanosecond)?;
    Ok(Measured::Done(result))
}

/// Pieces of computing, all spawned by one coroutine: how evenly the vCPUs were
/// busy with them.
fn balance(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const ROUNDS: u64 = 50_000;
    let pieces: u64 = if lab.is_quick { 2_000 } else { 10_000 };
    set_up(&mut result, VCPUS);
    let ours = start(|_| {})?;
    let scheduler = ours.scheduler();
    ours.block_on(async {});
    let busy = || -> Vec<Duration> {
        let stats = scheduler.get_stats();
        stats.vcpus.iter().map(|vcpu| vcpu.busy_time).collect()
    };
    let busy_before = busy();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let root = scheduler.spawn(async move {
        let spawned: Vec<_> = (0..pieces)
            .map(|piece| spawn(async move { spin(ROUNDS, piece) }))
            .collect();
        let mut sum = 0_u64;
        for piece in spawned {
            let value = piece.expect("there is room").await;
            sum = sum.wrapping_add(value.expect("it computes and ends"));
        }
        sum
    })?;
    let sum = root.join().map_err(|error| anyhow!("{error}"))?;
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    let busy: Vec<f64> = busy()
        .iter()
        .zip(&busy_before)
        .map(|(after, before)| after.saturating_sub(*before).as_secs_f64())
        .collect();
    let expected = (0..pieces).fold(0_u64, |sum, piece| {
        sum.wrapping_add(closed_form(ROUNDS, piece))
    });
    if let Err(why) = programs::expect("sum of the pieces", sum, expected) {
        result.mark_invalid(why);
    }
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    let most = busy.iter().copied().fold(0.0, f64::max);
    if mean * busy.len() as f64 > 1.05 * wall.as_secs_f64() * busy.len() as f64 {
        result.mark_invalid("vCPUs were busy for longer than it took");
    }
    let imbalance = most / mean - 1.0;
    let metrics = Metrics::new("pieces", wall, pieces)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / pieces as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "busy share of the vCPUs",
            mean / wall.as_secs_f64(),
            Unit::Ratio,
            Direction::Higher,
        )?;
    result.push_metrics(metrics);
    result.extend_samples([sample(Event::WallNs, 0, nanoseconds(wall), pieces)]);
    result.record_kpi("sched.imbalance_pct", imbalance, Unit::Ratio)?;
    Ok(Measured::Done(result))
}

/// What [`spin`] gives, by the square-and-multiply of its step.
fn closed_form(rounds: u64, seed: u64) -> u64 {
    let (mut factor, mut term) = (6_364_136_223_846_793_005_u64, 1_442_695_040_888_963_407_u64);
    let (mut value, mut left) = (seed, rounds);
    while left > 0 {
        if left & 1 == 1 {
            value = value.wrapping_mul(factor).wrapping_add(term);
        }
        // Twice the step x -> f x + t.
        term = term.wrapping_mul(factor).wrapping_add(term);
        factor = factor.wrapping_mul(factor);
        left >>= 1;
    }
    value
}

/// What has been made ready and not been picked yet, as the bodies see it.
#[derive(Debug, Default)]
struct Observed {
    ready: [AtomicU64; 4],
    n_picks: AtomicU64,
    n_inversions: AtomicU64,
    by_level: [AtomicU64; 4],
}

impl Observed {
    fn made_ready(&self, priority: Priority) {
        self.ready[priority.level()].fetch_add(1, Ordering::Relaxed);
    }

    /// The body runs: was anything more urgent left behind?
    fn picked(&self, priority: Priority) {
        let level = priority.level();
        self.n_picks.fetch_add(1, Ordering::Relaxed);
        self.by_level[level].fetch_add(1, Ordering::Relaxed);
        self.ready[level].fetch_sub(1, Ordering::Relaxed);
        let is_inversion = self.ready[level + 1..]
            .iter()
            .any(|ready| ready.load(Ordering::Relaxed) > 0);
        self.n_inversions
            .fetch_add(u64::from(is_inversion), Ordering::Relaxed);
    }
}

/// Strict mode on one vCPU: whenever a coroutine runs, nothing more urgent was
/// ready.
///
/// A source, itself `Low`, spawns bursts of random priorities and gives up its
/// turn; each body makes another coroutine ready half-way, by spawning or by
/// waking, of any priority. One thread runs all of it, so that the bodies know
/// exactly what is ready when they are picked. The scheduler's own account of
/// inversions has to agree.
fn order(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const PICKS_MIN: u64 = 100_000;
    const BURST: u64 = 64;
    let bursts: u64 = if lab.is_quick { 1_000 } else { 5_000 };
    set_up(&mut result, 1);
    let ours = Ours::start(1, |config| {
        config.fairness = Fairness::Strict;
        // A second thread would make the bodies' account a guess.
        config.hand_off = false;
    })
    .map_err(|why| anyhow!("the scheduler does not start: {why}"))?;
    let scheduler = ours.scheduler();
    let observed = Arc::new(Observed::default());
    // One sleeper of each priority, woken by whoever is at its half-way.
    let sleepers: Arc<[Slot<bool>; 4]> = Arc::default();
    let awake: Arc<[AtomicBool; 4]> = Arc::default();
    let (cpu, begin) = (process_cpu(), Instant::now());
    let (o, s, a) = (
        Arc::clone(&observed),
        Arc::clone(&sleepers),
        Arc::clone(&awake),
    );
    let source = async move {
        let observed = o;
        let go = |priority: Priority, body: Box<dyn FnOnce() + Send>| {
            let seen = Arc::clone(&observed);
            seen.made_ready(priority);
            let task = spawn_with(SpawnOptions::new().priority(priority), async move {
                seen.picked(priority);
                body();
                seen.made_ready(priority);
                yield_now().await;
                seen.picked(priority);
            });
            task.expect("there is room for a burst")
        };
        let sleeping: Vec<_> = Priority::ALL
            .into_iter()
            .map(|priority| {
                let (seen, sleepers, awake) =
                    (Arc::clone(&observed), Arc::clone(&s), Arc::clone(&a));
                seen.made_ready(priority);
                awake[priority.level()].store(true, Ordering::Relaxed);
                let task = spawn_with(SpawnOptions::new().priority(priority), async move {
                    seen.picked(priority);
                    awake[priority.level()].store(false, Ordering::Relaxed);
                    loop {
                        let goes_on = sleepers[priority.level()].take().await;
                        seen.picked(priority);
                        awake[priority.level()].store(false, Ordering::Relaxed);
                        if !goes_on {
                            break;
                        }
                    }
                });
                task.expect("there is room for four")
            })
            .collect();
        let turn = async || {
            observed.made_ready(Priority::Low);
            yield_now().await;
            observed.picked(Priority::Low);
        };
        // Until all of them sleep: a wake before that would be no pick.
        while a.iter().any(|awake| awake.load(Ordering::Relaxed)) {
            turn().await;
        }

        let wake = {
            let (seen, sleepers, awake) = (Arc::clone(&observed), Arc::clone(&s), Arc::clone(&a));
            move |priority: Priority, goes_on: bool| {
                if !awake[priority.level()].swap(true, Ordering::Relaxed) {
                    seen.made_ready(priority);
                    sleepers[priority.level()].put(goes_on);
                }
            }
        };
        let mut state = 1_u64;
        let mut random = move |n: u64| {
            state = spin(1, state);
            (state >> 33) % n
        };
        for _ in 0..bursts {
            let mut burst = Vec::with_capacity(BURST as usize);
            for _ in 0..BURST {
                let of = |n: u64| Priority::ALL[n as usize];
                let (own, other) = (of(random(4)), of(random(4)));
                let body: Box<dyn FnOnce() + Send> = match random(3) {
                    0 => Box::new(|| {}),
                    1 => {
                        let wake = wake.clone();
                        Box::new(move || wake(other, true))
                    }
                    _ => {
                        let seen = Arc::clone(&observed);
                        Box::new(move || {
                            seen.made_ready(other);
                            let options = SpawnOptions::new().priority(other);
                            let task = spawn_with(options, async move { seen.picked(other) });
                            drop(task.expect("there is room for a burst"));
                        })
                    }
                };
                burst.push(go(own, body));
            }
            turn().await;
        }
        while a.iter().any(|awake| awake.load(Ordering::Relaxed)) {
            turn().await;
        }
        for priority in Priority::ALL {
            wake(priority, false);
        }
        sleeping
    };
    // The source is made ready from outside, before anything is counted.
    observed.made_ready(Priority::Low);
    let seen = Arc::clone(&observed);
    let low = SpawnOptions::new().priority(Priority::Low);
    let source = scheduler.spawn_with(low, async move {
        seen.picked(Priority::Low);
        source.await
    })?;
    let sleeping = source.join().map_err(|error| anyhow!("{error}"))?;
    for sleeper in sleeping {
        sleeper.join().map_err(|error| anyhow!("{error}"))?;
    }
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));

    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let executions = || -> u64 {
        let stats = scheduler.get_stats();
        stats.vcpus.iter().map(|vcpu| vcpu.executions).sum()
    };
    // A run is counted when it is over, which is after its body has ended.
    let patience = Instant::now() + Duration::from_secs(1);
    while executions() != get(&observed.n_picks) && Instant::now() < patience {
        thread::yield_now();
    }
    let stats = scheduler.get_stats();
    let n_picks = get(&observed.n_picks);
    let n_inversions = get(&observed.n_inversions);
    let executions = executions();
    let fewest = observed.by_level.iter().map(get).min().unwrap_or(0);
    if executions != n_picks {
        result.mark_invalid(format!("{executions} runs, of which bodies saw {n_picks}"));
    }
    if n_picks < PICKS_MIN || fewest < n_picks / 10 {
        result.mark_invalid(format!("{n_picks} picks, {fewest} of the rarest priority"));
    }
    let left: Vec<u64> = observed.ready.iter().map(get).collect();
    if left != [0; 4] {
        result.mark_invalid(format!("ready and never picked, by priority: {left:?}"));
    }
    if (n_inversions == 0) != (stats.priority_inversions == 0) {
        result.warn(format!(
            "bodies saw {n_inversions} inversions, the scheduler counts {}: the greater counts",
            stats.priority_inversions
        ));
    }
    let worst = n_inversions.max(stats.priority_inversions);
    let metrics = Metrics::new("picks", wall, n_picks)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / n_picks as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "inversions seen by bodies",
            n_inversions as f64,
            Unit::Count,
            Direction::Lower,
        )?
        .with(
            "inversions counted by the scheduler",
            stats.priority_inversions as f64,
            Unit::Count,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.record_kpi(
        "sched.priority_accuracy_pct",
        1.0 - worst as f64 / n_picks as f64,
        Unit::Ratio,
    )?;
    Ok(Measured::Done(result))
}

/// Beside hogs that come to a safepoint every few microseconds as guest code
/// does.
fn ticker(lab: &Lab, result: BenchmarkResult) -> Result<Measured> {
    ticker_beside(
        lab,
        result,
        "sched.rt_wake_us_p99",
        |stop: Arc<AtomicBool>, seed| async move {
            let mut n_pieces = 0;
            while !stop.load(Ordering::Relaxed) {
                std::hint::black_box(spin(programs::HOG_PIECE, seed));
                n_pieces += 1;
                checkpoint().await;
            }
            n_pieces
        },
    )
}

/// Beside hogs that never come to one: their vCPUs have to be taken from them.
fn ticker_opaque(lab: &Lab, result: BenchmarkResult) -> Result<Measured> {
    let kpi = "sched.rt_wake_opaque_ms_p99";
    ticker_beside(lab, result, kpi, |stop: Arc<AtomicBool>, seed| async move {
        let mut n_pieces = 0;
        while !stop.load(Ordering::Relaxed) {
            std::hint::black_box(spin(programs::HOG_PIECE, seed));
            n_pieces += 1;
        }
        n_pieces
    })
}

/// A `RealTime` ticker of a millisecond beside twice as many hogs as vCPUs.
/// Each hog gives how many pieces of work it did until it was told to stop. A
/// stall of ten periods is ten late ticks, not one.
fn ticker_beside<H>(
    lab: &Lab,
    mut result: BenchmarkResult,
    kpi: &str,
    hog: fn(Arc<AtomicBool>, u64) -> H,
) -> Result<Measured>
where
    H: Future<Output = u64> + Send + 'static,
{
    const PERIOD: Duration = Duration::from_millis(1);
    let ticks: u64 = if lab.is_quick { 1_000 } else { 5_000 };
    set_up(&mut result, VCPUS);
    let ours = start(|_| {})?;
    let scheduler = ours.scheduler();
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..2 * VCPUS as u64)
        .map(|seed| scheduler.spawn(hog(Arc::clone(&stop), seed)))
        .collect::<Result<_, _>>()?;
    let (cpu, begin) = (process_cpu(), Instant::now());
    let urgent = SpawnOptions::new().priority(Priority::RealTime);
    let ticker = scheduler.spawn_with(urgent, async move {
        let mut interval = interval(PERIOD);
        let mut late = Vec::with_capacity(ticks as usize);
        let mut expected = None;
        while (late.len() as u64) < ticks {
            let due = interval.tick().await;
            let at = now();
            // What the interval left out for lateness was due all the same.
            let mut tick = expected.unwrap_or(due);
            while tick <= due {
                late.push(nanoseconds(at.saturating_sub(tick)));
                tick += PERIOD;
            }
            expected = Some(tick);
        }
        late
    })?;
    let late = ticker.join().map_err(|error| anyhow!("{error}"))?;
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    stop.store(true, Ordering::Relaxed);
    let pieces = hogs
        .into_iter()
        .map(|hog| hog.join().map_err(|error| anyhow!("{error}")))
        .collect::<Result<Vec<u64>>>()?;
    let stats = scheduler.get_stats();
    if pieces.contains(&0) {
        result.mark_invalid(format!("a hog got no turn: pieces {pieces:?}"));
    }
    if wall < Duration::from_millis(ticks - 1) {
        result.mark_invalid(format!("{ticks} ticks of 1 ms in {wall:?}"));
    }
    let of = push_latencies(&mut result, "lateness", &late)?;
    let preemptions: u64 = stats.vcpus.iter().map(|vcpu| vcpu.preemptions).sum();
    let per_second = |n: u64| n as f64 / wall.as_secs_f64();
    let metrics = Metrics::new("hogs", wall, pieces.iter().sum())
        .with(
            "busy CPUs",
            cpu.as_secs_f64() / wall.as_secs_f64(),
            Unit::Ratio,
            Direction::Higher,
        )?
        .with(
            "preemptions per second",
            per_second(preemptions),
            Unit::PerSecond,
            Direction::Lower,
        )?
        .with(
            "vCPUs taken from hogs per second",
            per_second(stats.handoffs),
            Unit::PerSecond,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.record_kpi(kpi, of.p99, Unit::Nanosecond)?;
    Ok(Measured::Done(result))
}

/// Coroutines with a stack: what a switch of stacks costs, below all
/// scheduling, and 200,000 of them stopped in the middle of a call at once.
fn on_stacks(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const STACKS: u64 = 200_000;
    set_up(&mut result, VCPUS);
    let switches: u64 = if lab.is_quick { 500_000 } else { 5_000_000 };
    raw_switch(&mut result, switches)?;

    let ours = start(|config| config.max_coroutines = STACKS as usize + 1)?;
    let scheduler = ours.scheduler();
    // The threads' own memory, which is no coroutine's.
    ours.block_on(yield_now());
    let resident = resident_bytes()?;
    let (cpu, begin) = (process_cpu(), Instant::now());
    let gates: Arc<Vec<Slot<u64>>> = Arc::new((0..STACKS).map(|_| Slot::default()).collect());
    let spawned: Vec<_> = (0..STACKS as usize)
        .map(|index| {
            let gates = Arc::clone(&gates);
            scheduler.spawn_stackful(SpawnOptions::new(), move || {
                let here = std::hint::black_box(index as u64);
                stackful::wait(gates[index].take()) + here
            })
        })
        .collect::<Result<_, _>>()?;
    let in_use = || scheduler.get_stats().stacks.in_use as u64;
    while in_use() < STACKS {
        if begin.elapsed() > Duration::from_secs(60) {
            result.mark_invalid(format!("after a minute {} have started", in_use()));
            return Ok(Measured::Done(result));
        }
        thread::yield_now();
    }
    let (wall, cpu) = (begin.elapsed(), process_cpu().saturating_sub(cpu));
    let stacks = scheduler.get_stats().stacks;
    let bytes = (resident_bytes()? - resident) / STACKS as f64;
    if let Err(why) = programs::expect("stacks in use", stacks.in_use as u64, STACKS) {
        result.mark_invalid(why);
    }
    for (index, gate) in (0..).zip(gates.iter()) {
        gate.put(index);
    }
    let mut sum = 0;
    for coroutine in spawned {
        sum += coroutine.join().map_err(|error| anyhow!("{error}"))?;
    }
    // Each gave twice its index.
    if let Err(why) = programs::expect("sum", sum, STACKS * (STACKS - 1)) {
        result.mark_invalid(why);
    }
    let metrics = Metrics::new("spawn, start and stop", wall, STACKS)
        .with(
            "CPU time",
            cpu.as_nanos() as f64 / STACKS as f64,
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with("resident, each", bytes, Unit::Byte, Direction::Lower)?;
    result.push_metrics(metrics);
    result.record_kpi("sched.guarded_stacks", stacks.in_use as f64, Unit::Count)?;
    Ok(Measured::Done(result))
}

/// Into a coroutine and back, by the switch that the scheduler's turns on
/// stacks are made of.
fn raw_switch(result: &mut BenchmarkResult, pairs: u64) -> Result<()> {
    const ROUNDS: u32 = 15;
    let mut coroutine = corosensei::Coroutine::new(|yielder, first: u64| {
        let mut value = first;
        loop {
            value = yielder.suspend(value + 1);
        }
    });
    let mut value = 0;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..pairs / u64::from(ROUNDS) {
            value = match coroutine.resume(value) {
                corosensei::CoroutineResult::Yield(value) => value,
                corosensei::CoroutineResult::Return(never) => never,
            };
        }
        let wall = begin.elapsed();
        let ops = pairs / u64::from(ROUNDS);
        result.extend_samples([sample(Event::WallNs, round, nanoseconds(wall), ops)]);
    }
    let expected = pairs / u64::from(ROUNDS) * u64::from(ROUNDS);
    if let Err(why) = programs::expect("switches", value, expected) {
        result.mark_invalid(why);
    }
    let mut each: Vec<f64> = result
        .samples()
        .iter()
        .map(|sample| sample.count as f64 / sample.iters as f64)
        .collect();
    each.sort_unstable_by(f64::total_cmp);
    result.record_kpi(
        "sched.raw_switch_ns",
        quantile(&each, 0.5),
        Unit::Nanosecond,
    )?;
    coroutine.force_unwind();
    Ok(())
}

/// CPU time of a scheduler that has had nothing to do for 100 ms, while
/// thousands of its coroutines wait.
fn idle(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const NAME: &str = "idle";
    const SETTLE: Duration = Duration::from_millis(100);
    let window = Duration::from_secs(if lab.is_quick { 1 } else { 10 });
    set_up(&mut result, VCPUS);
    let ours = start(|config| config.thread_name = NAME.to_owned())?;
    let scheduler = ours.scheduler();
    for _ in 0..10_000 {
        drop(scheduler.spawn(std::future::pending::<()>())?);
    }
    ours.block_on(yield_now());
    let settled = Instant::now() + Duration::from_secs(10);
    while scheduler
        .vcpus()
        .iter()
        .any(|vcpu| vcpu.state != VcpuState::Idle)
    {
        if Instant::now() > settled {
            result.mark_invalid("a vCPU without work did not fall asleep for 10 s");
            return Ok(Measured::Done(result));
        }
        thread::yield_now();
    }
    // Only time passes from here on: that is what is measured.
    programs::stay_idle(SETTLE);
    let (before, begin) = (threads_named(NAME)?, Instant::now());
    programs::stay_idle(window);
    let (after, wall) = (threads_named(NAME)?, begin.elapsed());
    if after.n_threads != before.n_threads || (after.n_threads as usize) < VCPUS {
        result.mark_invalid(format!(
            "{} threads, then {}",
            before.n_threads, after.n_threads
        ));
    }
    let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
    let wakeups = after.n_switches.saturating_sub(before.n_switches);
    let share = cpu_ns as f64 / wall.as_nanos() as f64;
    if !after.is_exact {
        result.warn("CPU time in ticks of 10 ms: this host has no /proc/self/task/*/schedstat");
    }
    let metrics = Metrics::new("idle", wall, 0)
        .with(
            "wakeups per second",
            wakeups as f64 / wall.as_secs_f64(),
            Unit::PerSecond,
            Direction::Lower,
        )?
        .with(
            "CPU time per second",
            cpu_ns as f64 / wall.as_secs_f64(),
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "threads",
            after.n_threads as f64,
            Unit::Count,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.extend_samples([sample(Event::CpuNs, 0, cpu_ns, 1)]);
    result.record_kpi("sched.idle_cpu_pct", share, Unit::Ratio)?;
    Ok(Measured::Done(result))
}

/// What the threads of one name have used so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Used {
    n_threads: u64,
    cpu_ns: u64,
    /// Every switch away from a thread that slept began with a wakeup.
    n_switches: u64,
    is_exact: bool,
}

/// Sums `/proc/self/task/*` over threads called `name` and a dash.
fn threads_named(name: &str) -> Result<Used> {
    const TICKS_PER_SECOND: u64 = 100;
    let mut used = Used {
        is_exact: true,
        ..Used::default()
    };
    for entry in fs::read_dir("/proc/self/task").context("cannot list this process's threads")? {
        let dir = entry?.path();
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        // A thread may end between the listing and the reading.
        let (Ok(comm), Ok(status), Ok(stat)) = (read("comm"), read("status"), read("stat")) else {
            continue;
        };
        if comm
            .trim_end()
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_none()
        {
            continue;
        }
        used.n_threads += 1;
        used.n_switches += switches_of(&status).context("no context switches in status")?;
        let exact = read("schedstat").ok().and_then(|text| {
            let ns = text.split_whitespace().next()?;
            ns.parse::<u64>().ok()
        });
        used.cpu_ns += match exact {
            Some(ns) => ns,
            None => {
                used.is_exact = false;
                let ticks = ticks_of(&stat).context("no CPU time in stat")?;
                ticks * (1_000_000_000 / TICKS_PER_SECOND)
            }
        };
    }
    Ok(used)
}

/// Voluntary and other context switches of `/proc/*/status`.
fn switches_of(status: &str) -> Option<u64> {
    let lines = status
        .lines()
        .filter(|line| line.contains("voluntary_ctxt_switches:"));
    let counts: Vec<u64> = lines
        .filter_map(|line| line.split_whitespace().last()?.parse().ok())
        .collect();
    (counts.len() == 2).then(|| counts.iter().sum())
}

/// User and system time of `/proc/*/stat`: fields 14 and 15, counted behind the
/// name in parentheses, which may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of this process.
fn resident_bytes() -> Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .context("no resident pages in /proc/self/statm")?;
    Ok(pages as f64 * rustix::param::page_size() as f64)
}

/// Quantiles in nanoseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

/// Adds latencies as metrics and samples.
fn push_latencies(
    result: &mut BenchmarkResult,
    name: &str,
    latencies_ns: &[u64],
) -> Result<Latency> {
    let mut sorted: Vec<f64> = latencies_ns.iter().map(|&ns| ns as f64).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let total: u64 = latencies_ns.iter().sum();
    let mut metrics = Metrics::new(name, Duration::from_nanos(total), latencies_ns.len() as u64);
    for (name, q) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ] {
        metrics.push(
            name,
            quantile(&sorted, q) / 1e3,
            Unit::Microsecond,
            Direction::Lower,
        )?;
    }
    result.push_metrics(metrics);
    // All of them would make a report of megabytes: every so many-th, in order.
    let step = latencies_ns.len().div_ceil(2_000).max(1);
    result.extend_samples(
        (0..)
            .zip(latencies_ns)
            .step_by(step)
            .map(|(round, ns)| sample(Event::WallNs, round, *ns, 1)),
    );
    Ok(Latency {
        p50: quantile(&sorted, 0.5),
        p99: quantile(&sorted, 0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_survive_odd_names() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("7 (a"), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t12\n";
        assert_eq!(switches_of(status), Some(42));
        assert_eq!(switches_of("voluntary_ctxt_switches:\t30\n"), None);
    }

    #[test]
    fn the_pieces_compute_what_the_closed_form_says() {
        for (rounds, seed) in [(0, 9), (1, 9), (2, 0), (1_000, 3), (1_027, u64::MAX)] {
            assert_eq!(spin(rounds, seed), closed_form(rounds, seed));
        }
    }

    #[test]
    fn an_inversion_is_seen() {
        let observed = Observed::default();
        observed.made_ready(Priority::Low);
        observed.made_ready(Priority::High);
        observed.picked(Priority::Low);
        observed.picked(Priority::High);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(
            (get(&observed.n_picks), get(&observed.n_inversions)),
            (2, 1)
        );
    }

    #[test]
    fn threads_are_found_by_name() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let (is_named, named) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("findme-0".to_owned())
            .spawn(move || {
                // A thread names itself, before this.
                is_named.send(()).unwrap();
                wait.recv()
            })
            .unwrap();
        named.recv().unwrap();
        assert_eq!(threads_named("findme").unwrap().n_threads, 1);
        assert_eq!(threads_named("find").unwrap().n_threads, 0);
        drop(send);
        assert!(thread.join().unwrap().is_err());
    }
}
