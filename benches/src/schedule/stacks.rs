//! Coroutines on stacks of their own.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use coroutine_scheduler::{SpawnOptions, stackful, yield_now};
use perf_bench::stats::summary::quantile;
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use super::live::resident_bytes;
use super::ours::VCPUS;
use super::programs::{self, Runtime as _, Slot, process_cpu};
use super::{set_up, start};
use crate::contest::nanoseconds;
use crate::jit::sample;
use crate::lab::{Lab, Measured};

/// Coroutines with a stack: what a switch of stacks costs, below all
/// scheduling, and 200,000 of them stopped in the middle of a call at once.
pub(super) fn on_stacks(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
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
