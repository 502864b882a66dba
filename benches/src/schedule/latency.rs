//! How soon something runs: woken, stolen, due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use coroutine_scheduler::{Priority, SpawnOptions, checkpoint, interval, now, spawn_with};
use perf_bench::stats::summary::quantile;
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use super::ours::VCPUS;
use super::programs::{self, Runtime as _, process_cpu, spin};
use super::witness::Accounts;
use super::{set_up, start};
use crate::contest::nanoseconds;
use crate::jit::sample;
use crate::lab::{Lab, Measured};

/// From a spawn outside until the future runs, all vCPUs being asleep.
pub(super) fn wake(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
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
pub(super) fn steal(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
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

/// Beside hogs that come to a safepoint every few microseconds as guest code
/// does.
pub(super) fn ticker(lab: &Lab, result: BenchmarkResult) -> Result<Measured> {
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
pub(super) fn ticker_opaque(lab: &Lab, result: BenchmarkResult) -> Result<Measured> {
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

/// Parts of a ticker's run, each with a p99 of its own; the figure is their
/// median. A shared host takes a CPU away for milliseconds: it did for more than
/// 2 ms in 1 % of the time where this was written, from threads that only read
/// the clock. A p99 of the whole run is then the host's.
///
/// So the figure does not see what happens in two of five parts, however bad.
/// Beside it are the p99 of the whole run ("lateness"), that of the best and of
/// the worst part, and as witnesses the host's own accounts of what it kept from
/// the hogs: where they say little and the worst part is far from the median, it
/// was the scheduler.
const PARTS: usize = 5;

/// A `RealTime` ticker of a millisecond beside twice as many hogs as vCPUs; the
/// figure is the median of the p99 of its [`PARTS`].
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
    let ticks: u64 = if lab.is_quick { 2_500 } else { 5_000 };
    set_up(&mut result, VCPUS);
    let ours = start(|_| {})?;
    let scheduler = ours.scheduler();
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..2 * VCPUS as u64)
        .map(|seed| scheduler.spawn(hog(Arc::clone(&stop), seed)))
        .collect::<Result<_, _>>()?;
    let accounts = Accounts::now();
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
    let mut host = Metrics::new("host", wall, ticks);
    accounts.push_since(&mut host, wall)?;
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
    push_latencies(&mut result, "lateness", &late)?;
    let parts = p99_of_parts(&late);
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
            "p99 of the best part",
            parts[0] / 1e3,
            Unit::Microsecond,
            Direction::Lower,
        )?
        .with(
            "p99 of the worst part",
            parts[PARTS - 1] / 1e3,
            Unit::Microsecond,
            Direction::Lower,
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
    result.push_metrics(host);
    result.record_kpi(kpi, parts[PARTS / 2], Unit::Nanosecond)?;
    Ok(Measured::Done(result))
}

/// Of each part, in nanoseconds, the least first.
fn p99_of_parts(late_ns: &[u64]) -> [f64; PARTS] {
    let mut p99s = [0.0; PARTS];
    for (part, p99) in late_ns.chunks(late_ns.len().div_ceil(PARTS)).zip(&mut p99s) {
        *p99 = quantile(&sorted(part), 0.99);
    }
    p99s.sort_unstable_by(f64::total_cmp);
    p99s
}

fn sorted(latencies_ns: &[u64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = latencies_ns.iter().map(|&ns| ns as f64).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
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
    let sorted = sorted(latencies_ns);
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
