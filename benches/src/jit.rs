//! The engines: compile speed, code cache, speed against native code and QEMU.
//!
//! What only counters can tell (blocks compiled, time spent compiling) comes
//! from the engine's own statistics under the names in [`counter`]; an engine
//! that lacks one skips the row instead of guessing.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use async_executor::{Budget, Exit};
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Phase, Sample, Unit};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};
use vm_runtime::{Engine, build_engine};

use crate::contest::{self, Contest, Contestant, Row, engine, geometric_mean, nanoseconds, ratio};
use crate::guests::{Class, Size};
use crate::in_process::{self, Ended};
use crate::lab::{Lab, Measured, Suite, Workload};

/// Compile speed, cache, and speed of the engines.
#[derive(Clone, Copy, Debug)]
pub struct JitBenchmark;

impl Suite for JitBenchmark {
    const WORKLOADS: &'static [Workload] = &[
        Workload {
            id: "jit/batch5",
            kpis: &["jit.batch5_us"],
            body: batch_of_five,
        },
        Workload {
            id: "jit/block_entry",
            kpis: &["jit.blocks_per_s"],
            body: block_entry,
        },
        Workload {
            id: "jit/cache_hit",
            kpis: &["jit.cache_hit_ns"],
            body: cache_hit,
        },
        Workload {
            id: "interp/mips",
            kpis: &["interp.mips"],
            body: interpreter_speed,
        },
        Workload {
            id: "jit/compile",
            kpis: &["jit.compile_us_per_block", "jit.compile_ns_per_insn"],
            body: compile_speed,
        },
        Workload {
            id: "jit/cache_share",
            kpis: &["jit.cache_hit_pct"],
            body: cache_share,
        },
        Workload {
            id: "jit/vs_peers",
            kpis: &[
                "jit.slowdown_int_vs_native",
                "jit.slowdown_fp_vs_native",
                "jit.speedup_vs_qemu",
                "jit.min_speedup_vs_qemu",
            ],
            body: against_peers,
        },
        Workload {
            id: "hybrid/vs_engines",
            kpis: &["hybrid.vs_best_engine"],
            body: hybrid_against_engines,
        },
    ];
}

/// Names of counters an engine may have, as in its statistics.
pub mod counter {
    /// Guest instructions the interpreter retired.
    pub const INTERP_INSTS: &str = "interp_insts";
    /// Guest blocks turned into host code.
    pub const BLOCKS_COMPILED: &str = "jit_blocks_compiled";
    /// Guest instructions turned into host code.
    pub const INSTS_COMPILED: &str = "jit_insts_compiled";
    /// Time spent on that, in nanoseconds, on whichever thread.
    pub const COMPILE_NS: &str = "jit_compile_ns";
    /// Host instructions emitted.
    pub const HOST_INSTS: &str = "jit_host_insts";
    /// Blocks entered from the cache.
    pub const CACHE_HITS: &str = "jit_cache_hits";
    /// Blocks that were not in the cache when they were entered.
    pub const CACHE_MISSES: &str = "jit_cache_misses";
}

/// An engine by name, or the reason to skip.
pub(crate) fn engine_named(name: &str) -> Result<Box<dyn Engine>, String> {
    match engine(name) {
        Some(kind) => Ok(build_engine(kind)),
        None => Err(format!("this build has no engine {name}")),
    }
}

/// Unwraps what may be missing on this machine, or skips the workload.
macro_rules! or_skip {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(reason) => return Ok(Measured::Skipped(reason)),
        }
    };
}
pub(crate) use or_skip;

/// Guest instructions per second over the integer guests, together.
fn interpreter_speed(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let (mut total_insts, mut total_ns) = (0_u64, 0_u64);
    for guest in lab.guests.iter().filter(|guest| guest.class == Class::Int) {
        if lab.is_out_of_time() {
            return Ok(Measured::Skipped("the wall limit was reached".to_owned()));
        }
        let mut best: Option<(u64, u64)> = None;
        for round in 0..lab.rounds() {
            let mut engine = or_skip!(engine_named("interp"));
            let ended = match in_process::run_guest(lab, guest, lab.size(), &mut *engine) {
                Ok(ended) => ended,
                Err(error) => {
                    result.mark_invalid(format!("{error:#}"));
                    return Ok(Measured::Done(result));
                }
            };
            let insts = ended
                .counters
                .get(counter::INTERP_INSTS)
                .context("the interpreter does not count instructions")?;
            let cpu_ns = nanoseconds(ended.cpu);
            result.extend_samples([sample(Event::CpuNs, round, cpu_ns, insts)]);
            if best.is_none_or(|(_, known)| cpu_ns < known) {
                best = Some((insts, cpu_ns));
            }
        }
        let Some((insts, cpu_ns)) = best else {
            continue;
        };
        let metrics = Metrics::new(guest.name.clone(), Duration::from_nanos(cpu_ns), insts);
        result.push_metrics(metrics);
        total_insts += insts;
        total_ns += cpu_ns;
    }
    if let Some(per_ns) = ratio(total_insts, total_ns) {
        result.record_kpi("interp.mips", per_ns * 1e3, Unit::MegaPerSecond)?;
    }
    Ok(Measured::Done(result))
}

/// Compile time by the engine's own account, over every guest.
fn compile_speed(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let (mut blocks, mut insts, mut ns) = (0, 0, 0);
    for ended in or_skip!(over_guests(lab, "jit", &mut result)?) {
        let of = |name| ended.counters.get(name).ok_or_else(|| uncounted(name));
        blocks += or_skip!(of(counter::BLOCKS_COMPILED));
        insts += or_skip!(of(counter::INSTS_COMPILED));
        ns += or_skip!(of(counter::COMPILE_NS));
    }
    result.push_metrics(Metrics::new(
        "blocks compiled",
        Duration::from_nanos(ns),
        blocks,
    ));
    result.push_metrics(Metrics::new(
        "instructions compiled",
        Duration::from_nanos(ns),
        insts,
    ));
    if let (Some(per_block), Some(per_inst)) = (ratio(ns, blocks), ratio(ns, insts)) {
        result.record_kpi("jit.compile_us_per_block", per_block, Unit::Nanosecond)?;
        result.record_kpi("jit.compile_ns_per_insn", per_inst, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}

/// Share of block executions that found compiled code, over every guest.
fn cache_share(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let (mut hits, mut misses) = (0, 0);
    for ended in or_skip!(over_guests(lab, "jit", &mut result)?) {
        let of = |name| ended.counters.get(name).ok_or_else(|| uncounted(name));
        hits += or_skip!(of(counter::CACHE_HITS));
        misses += or_skip!(of(counter::CACHE_MISSES));
    }
    if let Some(share) = ratio(hits, hits + misses) {
        result.record_kpi("jit.cache_hit_pct", share, Unit::Ratio)?;
    }
    Ok(Measured::Done(result))
}

pub(crate) fn uncounted(name: &str) -> String {
    format!("the engine does not count {name}")
}

/// Runs every guest once on a fresh engine. A guest that goes wrong makes the
/// result invalid, and the list ends there.
pub(crate) fn over_guests(
    lab: &Lab,
    name: &str,
    result: &mut BenchmarkResult,
) -> Result<Result<Vec<Ended>, String>> {
    let mut all = Vec::new();
    for guest in lab.guests.iter() {
        if lab.is_out_of_time() {
            return Ok(Err(format!(
                "the wall limit was reached after {} guests",
                all.len()
            )));
        }
        let mut engine = match engine_named(name) {
            Ok(engine) => engine,
            Err(reason) => return Ok(Err(reason)),
        };
        match in_process::run_guest(lab, guest, lab.size(), &mut *engine) {
            Ok(ended) => all.push(ended),
            Err(error) => {
                result.mark_invalid(format!("{error:#}"));
                break;
            }
        }
    }
    Ok(Ok(all))
}

/// Five blocks that nobody has compiled yet, until all five have run once.
///
/// Every round uses memory, hart and engine that are new, so nothing is warm but
/// the host's own caches.
fn batch_of_five(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    or_skip!(engine_named("jit"));
    const BLOCKS: u64 = 5;
    // Each adds to a0 and jumps on; the branch never taken ends a block, too.
    let mut text = String::new();
    for block in 1..=BLOCKS {
        text.push_str(&format!(
            "addi a0, a0, {block}\nslli a1, a0, 3\nxor a2, a2, a1\nadd a3, a3, a2\nj block{block}\n\
             nop\nblock{block}:\n"
        ));
    }
    text.push_str("ebreak\n");
    let rounds = if lab.is_quick { 30 } else { 300 };
    for round in 0..rounds {
        let bare = Bare::new(&text)?;
        let mut engine = or_skip!(engine_named("jit"));
        let mut hart = bare.hart();
        let (exits, elapsed) = perf_bench::Timer::measure(|| {
            let mut n_spent = 0_u64;
            // `execute` runs the block at pc, compiling it first.
            while engine.execute(&mut hart, &bare.memory) == Exit::BudgetSpent {
                n_spent += 1;
            }
            n_spent
        });
        if exits != BLOCKS || hart.x(XReg::A0) != BLOCKS * (BLOCKS + 1) / 2 {
            result.mark_invalid(format!("{exits} blocks ran, a0 is {}", hart.x(XReg::A0)));
            return Ok(Measured::Done(result));
        }
        result.extend_samples([sample(Event::WallNs, round, nanoseconds(elapsed), 1)]);
    }
    result.push_metrics(Metrics::from_samples("batches", result.samples()));
    if let Some(summary) = result.summary() {
        result.record_kpi("jit.batch5_us", summary.median, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}

/// Blocks entered per second: a loop of four blocks that jump to each other, run
/// for a known number of turns.
fn block_entry(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let mut engine = or_skip!(engine_named("jit"));
    const BLOCKS_PER_TURN: u64 = 4;
    const TURNS: u64 = 1 << 20;
    let text = "again:\naddi a0, a0, 1\nbeq a0, zero, out\n\
                addi a1, a1, 3\nbeq a1, zero, out\n\
                xor a2, a2, a1\nbltu a0, zero, out\n\
                addi a3, a3, -1\nbne a3, zero, again\n\
                out:\nebreak\n";
    let bare = Bare::new(text)?;
    let mut is_right = true;
    let mut turn = |engine: &mut dyn Engine| {
        let mut hart = bare.hart();
        hart.set_x(XReg::A3, TURNS);
        let preempt = AtomicU32::new(0);
        let exit = engine.run(&mut hart, &bare.memory, Budget::Unlimited, &preempt);
        is_right &= exit == Exit::Breakpoint && hart.x(XReg::A0) == TURNS;
    };
    let sampler = perf_bench::Sampler {
        iters: Some(1),
        ..lab.sampler()
    };
    let samples = sampler.run(|| turn(&mut *engine));
    if !is_right {
        result.mark_invalid("the loop did not run as often as asked");
        return Ok(Measured::Done(result));
    }
    let blocks = TURNS * BLOCKS_PER_TURN;
    result.extend_samples(samples.into_iter().map(|s| Sample { iters: blocks, ..s }));
    result.push_metrics(Metrics::from_samples("blocks entered", result.samples()));
    if let Some(summary) = result.summary().filter(|summary| summary.q25 > 0.0) {
        result.record_kpi("jit.blocks_per_s", 1e9 / summary.q25, Unit::PerSecond)?;
    }
    Ok(Measured::Done(result))
}

/// A warm lookup in the code cache, minus an empty loop.
fn cache_hit(_: &Lab, _: BenchmarkResult) -> Result<Measured> {
    or_skip!(engine_named("jit"));
    Ok(Measured::Skipped(
        "the code cache offers no lookup to measure yet".to_owned(),
    ))
}

/// Code at an address, without a process around it.
struct Bare {
    memory: GuestMemory,
    start: GuestAddr,
}

impl Bare {
    fn new(text: &str) -> Result<Self> {
        let start = GuestAddr(0x1_0000);
        let memory = GuestMemory::new(1 << 20)?;
        memory.map(start, 4096, Prot::READ | Prot::WRITE)?;
        memory
            .write_bytes(start, &assemble(text)?)
            .map_err(|trap| anyhow!("cannot place the code: {trap}"))?;
        memory.protect(start, 4096, Prot::READ | Prot::EXEC)?;
        Ok(Self { memory, start })
    }

    fn hart(&self) -> Hart {
        Hart::new(self.start)
    }
}

/// The JIT beside native code and QEMU: whole processes, CPU time.
fn against_peers(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let Some(jit) = engine("jit") else {
        return Ok(Measured::Skipped("this build has no engine jit".to_owned()));
    };
    let (mut contestants, missing) = contest::peers(lab);
    if contestants.is_empty() {
        return Ok(Measured::Skipped(missing.join("; ")));
    }
    for what in &missing {
        result.warn(what.clone());
    }
    contestants.push(Contestant::Hartloom(jit));
    let mut contest = Contest::new(lab, contestants, lab.size(), |_| true)?;
    if !contest.run(lab.rounds(), lab.deadline_of(Duration::from_secs(16)))? {
        return Ok(Measured::Skipped(
            "the wall limit was reached in the first round".to_owned(),
        ));
    }
    if let Some(fault) = contest.fault_of("jit") {
        result.mark_invalid(fault);
        return Ok(Measured::Done(result));
    }
    for name in ["native", "qemu"] {
        if let Some(fault) = contest.fault_of(name) {
            result.warn(format!("{fault}: left out"));
        }
    }
    record(&mut result, contest.rows(), &["native", "qemu", "jit"])?;

    let class = |class| move |row: &&Row| row.class == class;
    let slowdown = |row: &Row| row.cpu_ratio("jit", "native");
    let rows = contest.rows();
    let int: Vec<f64> = rows
        .iter()
        .filter(class(Class::Int))
        .filter_map(slowdown)
        .collect();
    let fp: Vec<f64> = rows
        .iter()
        .filter(class(Class::Fp))
        .filter_map(slowdown)
        .collect();
    let speedup: Vec<f64> = rows
        .iter()
        .filter_map(|row| row.cpu_ratio("qemu", "jit"))
        .collect();
    for (id, value) in [
        ("jit.slowdown_int_vs_native", geometric_mean(&int)),
        ("jit.slowdown_fp_vs_native", geometric_mean(&fp)),
        ("jit.speedup_vs_qemu", geometric_mean(&speedup)),
        (
            "jit.min_speedup_vs_qemu",
            speedup.iter().copied().reduce(f64::min),
        ),
    ] {
        if let Some(value) = value {
            result.record_kpi(id, value, Unit::Ratio)?;
        }
    }
    Ok(Measured::Done(result))
}

/// Hybrid beside the pure engines: elapsed time, since what it promises is that
/// nobody waits longer than with the better choice. Short guests, and in a full
/// run long ones too.
fn hybrid_against_engines(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let mut contestants = Vec::new();
    for name in ["jit", "interp", "hybrid"] {
        match engine(name) {
            Some(kind) => contestants.push(Contestant::Hartloom(kind)),
            None => {
                return Ok(Measured::Skipped(format!(
                    "this build has no engine {name}"
                )));
            }
        }
    }
    let mut worst: Option<(f64, String)> = None;
    let sizes: &[Size] = if lab.is_quick {
        &[Size::Quick]
    } else {
        &[Size::Quick, Size::Full]
    };
    for &size in sizes {
        let mut contest = Contest::new(lab, contestants.clone(), size, |_| true)?;
        if !contest.run(lab.rounds(), lab.deadline_of(Duration::from_secs(12)))? {
            return Ok(Measured::Skipped(
                "the wall limit was reached in the first round".to_owned(),
            ));
        }
        if let Some(fault) = ["hybrid", "jit", "interp"]
            .iter()
            .find_map(|e| contest.fault_of(e))
        {
            result.mark_invalid(fault);
            return Ok(Measured::Done(result));
        }
        record(&mut result, contest.rows(), &["hybrid", "jit", "interp"])?;
        for row in contest.rows() {
            let (Some(hybrid), Some(jit), Some(interp)) = (
                row.wall_ns("hybrid"),
                row.wall_ns("jit"),
                row.wall_ns("interp"),
            ) else {
                bail!("{} has no times", row.guest);
            };
            if let Some(value) = ratio(hybrid, jit.min(interp))
                && worst.as_ref().is_none_or(|(known, _)| value > *known)
            {
                worst = Some((value, format!("{} ({})", row.guest, size.name())));
            }
        }
    }
    if let Some((value, guest)) = worst {
        result.record_kpi("hybrid.vs_best_engine", value, Unit::Ratio)?;
        result.push_metrics(
            Metrics::new(format!("worst: {guest}"), Duration::ZERO, 0).with(
                "hybrid / best engine",
                value,
                Unit::Ratio,
                Direction::Lower,
            )?,
        );
    }
    Ok(Measured::Done(result))
}

/// Raw times of every run, and per guest the shortest as a metric.
fn record(result: &mut BenchmarkResult, rows: &[Row], names: &[&str]) -> Result<()> {
    for row in rows {
        let mut metrics = Metrics::new(
            format!("{} ({})", row.guest, row.size.name()),
            Duration::ZERO,
            0,
        );
        for name in names {
            let Some(times) = row.times.get(name) else {
                continue;
            };
            for (round, time) in (0..).zip(&times.rounds) {
                let event = Event::Counter(format!("{}.{name}.cpu_ns", row.guest));
                result.extend_samples([sample(event, round, time.cpu_ns, 1)]);
            }
            if let (Some(cpu), Some(wall)) = (times.cpu_ns_min(), times.wall_ns_min()) {
                metrics.push(
                    format!("{name} CPU"),
                    cpu as f64,
                    Unit::Nanosecond,
                    Direction::Lower,
                )?;
                metrics.push(
                    format!("{name} wall"),
                    wall as f64,
                    Unit::Nanosecond,
                    Direction::Lower,
                )?;
            }
        }
        result.push_metrics(metrics);
    }
    Ok(())
}

pub(crate) fn sample(event: Event, round: u32, count: u64, iters: u64) -> Sample {
    Sample {
        process: 0,
        round,
        order: round,
        phase: Phase::Measure,
        event,
        count,
        iters,
    }
}
