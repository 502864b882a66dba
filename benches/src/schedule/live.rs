//! Very many at once: what each takes of memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use coroutine_scheduler::yield_now;
use perf_bench::{BenchmarkResult, Direction, Metrics, Unit};

use super::ours::VCPUS;
use super::programs::{self, Runtime as _, process_cpu};
use super::{set_up, start};
use crate::lab::{Lab, Measured};

/// A million futures that wait, all at once, and what they take of memory.
///
/// Resident memory at half of them tells whether the rest costs the same: if
/// not, something else of this process was measured.
pub(super) fn live(_: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
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

/// Resident memory of this process.
pub(super) fn resident_bytes() -> Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .context("no resident pages in /proc/self/statm")?;
    Ok(pages as f64 * rustix::param::page_size() as f64)
}
