//! The engines: compile speed, code cache, speed against native code and QEMU.
//!
//! What only counters can tell (blocks compiled, time spent compiling) comes
//! from the engine's own statistics under the names in [`counter`]; an engine
//! that lacks one skips the row instead of guessing.

use std::hint::black_box;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use async_executor::{Budget, Executor as _, Exit, InterpreterExecutor, JitExecutor};
use perf_bench::alloc::{Allocations, count_allocations};
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Phase, Sample, Unit};
use vm_core::elf::ElfImage;
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::isa::{Inst, decode};
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};
use vm_runtime::{Engine, Process, ProcessConfig, Stdio, build_engine};

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
    /// Guest instructions that compiled code handed to the interpreter singly.
    pub const STEPPED_INSTS: &str = "jit_insts_interpreted_from_code";
    /// Guest blocks turned into host code.
    pub const BLOCKS_COMPILED: &str = "jit_blocks_compiled";
    /// Guest instructions turned into host code.
    pub const INSTS_COMPILED: &str = "jit_insts_compiled";
    /// Time spent on that, in nanoseconds, on whichever thread.
    pub const COMPILE_NS: &str = "jit_compile_ns";
    /// Host instructions emitted.
    pub const HOST_INSTS: &str = "jit_host_insts";
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
    let rounds = if lab.is_quick { 1 } else { lab.rounds() };
    for guest in lab.guests.iter().filter(|guest| guest.class == Class::Int) {
        if lab.is_out_of_time() {
            return Ok(Measured::Skipped("the wall limit was reached".to_owned()));
        }
        let mut best: Option<(u64, u64)> = None;
        for round in 0..rounds {
            let mut engine = or_skip!(engine_named("interp"));
            let ended = match in_process::run_guest(lab, guest, lab.size(), &mut *engine) {
                Ok(ended) => ended,
                Err(error) => {
                    result.mark_invalid(format!("{error:#}"));
                    return Ok(Measured::Done(result));
                }
            };
            if let Some(kind) = contest::engine("interp") {
                lab.ended.keep(kind, guest, lab.size(), &ended);
            }
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

/// Share of execution served from compiled code, over every guest.
///
/// The interpreter, run alone, says how many instructions a guest executes;
/// beside the JIT it executes only what had no code yet. Engines count no block
/// executions (that would cost them), so the share is one of instructions.
fn cache_share(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let (mut total, mut missed) = (0, 0);
    for ended in or_skip!(over_guests(lab, "interp", &mut result)?) {
        let insts = ended.counters.get(counter::INTERP_INSTS);
        total += or_skip!(insts.ok_or_else(|| uncounted(counter::INTERP_INSTS)));
    }
    for ended in or_skip!(over_guests(lab, "jit", &mut result)?) {
        for name in [counter::INTERP_INSTS, counter::STEPPED_INSTS] {
            missed += or_skip!(ended.counters.get(name).ok_or_else(|| uncounted(name)));
        }
    }
    if let Some(share) = ratio(missed, total) {
        result.warn("weighted by instructions: engines do not count executions of blocks");
        result.record_kpi("jit.cache_hit_pct", 1.0 - share, Unit::Ratio)?;
    }
    Ok(Measured::Done(result))
}

pub(crate) fn uncounted(name: &str) -> String {
    format!("the engine does not count {name}")
}

/// What every guest counts, once, on a fresh engine. A guest that goes wrong makes the
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
        let Some(kind) = engine(name) else {
            return Ok(Err(format!("this build has no engine {name}")));
        };
        match in_process::counted(lab, guest, kind) {
            Ok(ended) => all.push(ended),
            Err(error) => {
                result.mark_invalid(format!("{error:#}"));
                break;
            }
        }
    }
    Ok(Ok(all))
}

/// Five blocks that nobody has compiled yet, in one call, and then all of them
/// once more for the warm time.
///
/// The blocks are those of a guest program, in the order of its code; the
/// executor has its cache already. Afterwards each block runs compiled and
/// interpreted from the same state, which must end the same.
fn batch_of_five(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const BLOCKS: usize = 5;
    let text = GuestText::load(lab, "coremix")?;
    let mut executor = JitExecutor::default();
    let (first, starts) = text.block_starts.split_first().context("no blocks")?;
    executor.batch(text.memory(), &[*first]);

    let rounds = if lab.is_quick { 60 } else { usize::MAX };
    let mut interpreter = InterpreterExecutor::new();
    let (mut warm_ns, mut n_insts) = (0, executor.stats().insts_compiled);
    let mut allocated = Allocations::default();
    for (round, batch) in (0..).zip(starts.chunks_exact(BLOCKS).take(rounds)) {
        let ((n_compiled, cold), counted) = count_allocations(|| {
            perf_bench::Timer::measure(|| executor.batch(text.memory(), batch))
        });
        allocated += counted.unwrap_or_default();
        let (n_again, warm) = perf_bench::Timer::measure(|| executor.batch(text.memory(), batch));
        if (n_compiled, n_again) != (BLOCKS, 0) {
            let why = format!("{n_compiled} blocks compiled, then {n_again}");
            result.mark_invalid(why);
            return Ok(Measured::Done(result));
        }
        for &pc in batch {
            if let Err(why) = text.agree(pc, &mut executor, &mut interpreter) {
                result.mark_invalid(why);
                return Ok(Measured::Done(result));
            }
        }
        result.extend_samples([sample(Event::WallNs, round, nanoseconds(cold), 1)]);
        warm_ns += nanoseconds(warm);
    }
    n_insts = executor.stats().insts_compiled - n_insts;
    let n_batches = result.samples().len() as u64;
    result.set_allocations(allocated, n_batches.max(1));
    let mut cold = Metrics::from_samples("cold batches", result.samples());
    if let Some(per_block) = ratio(n_insts, n_batches * BLOCKS as u64) {
        cold.push(
            "guest instructions per block",
            per_block,
            Unit::Count,
            Direction::Lower,
        )?;
    }
    result.push_metrics(cold);
    result.push_metrics(Metrics::new(
        "warm batches",
        Duration::from_nanos(warm_ns),
        n_batches,
    ));
    if let Some(summary) = result.summary() {
        result.record_kpi("jit.batch5_us", summary.median, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}

/// Blocks entered per second. What counts is a ring of blocks that reach each
/// other through registers, so that every entry is a lookup; direct jumps are
/// merged into regions, which is why a loop of those enters nothing and is only
/// shown. The third figure is a call of the executor for each block.
fn block_entry(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const BLOCKS_PER_TURN: u64 = 4;
    const TURNS: u64 = 1 << 18;
    let ring = "la s2, one\nla s3, two\nla s4, three\nla s5, four\n\
                one:\naddi a0, a0, 1\njr s3\n\
                two:\naddi a1, a1, 3\njr s4\n\
                three:\nxor a2, a2, a1\njr s5\n\
                four:\naddi a3, a3, -1\nbeq a3, zero, out\njr s2\n\
                out:\nebreak\n";
    let direct = "again:\naddi a0, a0, 1\nbeq a0, zero, out\n\
                  addi a1, a1, 3\nbeq a1, zero, out\n\
                  xor a2, a2, a1\nbltu a0, zero, out\n\
                  addi a3, a3, -1\nbne a3, zero, again\n\
                  out:\nebreak\n";
    for (name, code) in [
        ("through registers", ring),
        ("merged by the compiler", direct),
    ] {
        let bare = Bare::new(code)?;
        let mut executor = JitExecutor::default();
        let mut is_right = true;
        let sampler = perf_bench::Sampler {
            iters: Some(1),
            ..lab.sampler()
        };
        let samples = sampler.run(|| {
            let mut hart = bare.hart();
            hart.set_x(XReg::A3, TURNS);
            let preempt = AtomicU32::new(0);
            let exit = executor.run(&mut hart, &bare.memory, Budget::Unlimited, &preempt);
            is_right &= exit == Exit::Breakpoint && hart.x(XReg::A0) == TURNS;
        });
        if !is_right {
            result.mark_invalid(format!("{name}: the loop did not run as often as asked"));
            return Ok(Measured::Done(result));
        }
        let samples: Vec<Sample> = samples
            .into_iter()
            .map(|sample| Sample {
                iters: TURNS * BLOCKS_PER_TURN,
                ..sample
            })
            .collect();
        result.push_metrics(Metrics::from_samples(name, &samples));
        if code == ring {
            result.extend_samples(samples);
        }
    }
    if let Some(summary) = result.summary().filter(|summary| summary.median > 0.0) {
        result.record_kpi("jit.blocks_per_s", 1e9 / summary.median, Unit::PerSecond)?;
    }

    let bare = Bare::new("one:\naddi a0, a0, 1\nj two\ntwo:\naddi a0, a0, 1\nj one\n")?;
    let mut executor = JitExecutor::default();
    let mut hart = bare.hart();
    let mut n_calls = 0;
    let samples = lab.sampler().run(|| {
        n_calls += 1;
        executor.execute(&mut hart, &bare.memory)
    });
    if hart.x(XReg::A0) != n_calls {
        result.mark_invalid(format!("{n_calls} calls, but a0 is {}", hart.x(XReg::A0)));
    }
    result.push_metrics(Metrics::from_samples("a call of execute() each", &samples));
    Ok(Measured::Done(result))
}

/// A warm lookup in the code cache, minus the same loop without it. The
/// addresses are those of 64 compiled blocks, in turn.
fn cache_hit(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const LOOKUPS: usize = 64;
    let text = GuestText::load(lab, "coremix")?;
    let pcs: Vec<GuestAddr> = text.block_starts.iter().copied().take(LOOKUPS).collect();
    let mut executor = JitExecutor::default();
    let n_compiled = executor.batch(text.memory(), &pcs);
    if n_compiled != LOOKUPS {
        result.mark_invalid(format!("{n_compiled} of {LOOKUPS} blocks compiled"));
        return Ok(Measured::Done(result));
    }
    let sampler = lab.sampler();
    let mut n_found = 0_usize;
    let with = sampler.run(|| {
        n_found = 0;
        for pc in &pcs {
            n_found += usize::from(executor.is_compiled(text.memory(), black_box(*pc)));
        }
        n_found
    });
    if n_found != LOOKUPS {
        result.mark_invalid(format!("{n_found} of {LOOKUPS} lookups hit"));
        return Ok(Measured::Done(result));
    }
    let without = sampler.run(|| {
        let mut n_even = 0_usize;
        for pc in &pcs {
            n_even += usize::from(black_box(*pc).0 & 1 == 0);
        }
        n_even
    });
    let per_lookup = |samples: Vec<Sample>| -> Vec<Sample> {
        samples
            .into_iter()
            .map(|s| Sample {
                iters: s.iters * LOOKUPS as u64,
                ..s
            })
            .collect()
    };
    let (with, without) = (per_lookup(with), per_lookup(without));
    result.push_metrics(Metrics::from_samples("lookups", &with));
    result.push_metrics(Metrics::from_samples("empty loop", &without));
    let empty_ns = median_of(&without).context("no samples of the empty loop")?;
    let hit_ns = median_of(&with).context("no samples of lookups")?;
    result.extend_samples(with);
    result.record_kpi(
        "jit.cache_hit_ns",
        (hit_ns - empty_ns).max(0.0),
        Unit::Nanosecond,
    )?;
    Ok(Measured::Done(result))
}

/// Median per iteration of the measured samples.
fn median_of(samples: &[Sample]) -> Option<f64> {
    let values: Vec<f64> = samples
        .iter()
        .filter(|sample| sample.phase == Phase::Measure)
        .filter_map(Sample::per_iter)
        .collect();
    perf_bench::Summary::of(&values)
        .ok()
        .map(|summary| summary.median)
}

/// A guest program in memory, not run, and where its blocks begin.
struct GuestText {
    process: Process,
    /// The same once more: what the interpreter changes, the JIT must not see.
    twin: Process,
    block_starts: Vec<GuestAddr>,
}

impl GuestText {
    /// Loads a guest and finds, by decoding its code from one end to the other,
    /// every instruction that follows a branch or jump.
    fn load(lab: &Lab, name: &str) -> Result<Self> {
        let guest = lab.guests.named(name)?;
        let path = lab.guests.elf(guest);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = ElfImage::parse(&bytes)?;
        let load = |bytes: Vec<u8>| {
            let config = ProcessConfig {
                stdio: Stdio::Null,
                ..ProcessConfig::default()
            };
            Process::from_bytes(name, bytes, &[name.as_bytes()], &[], config)
        };
        let (process, twin) = (load(bytes.clone())?, load(bytes)?);
        let mut block_starts = Vec::new();
        let code = image
            .segments()
            .iter()
            .filter(|segment| segment.prot.contains(Prot::EXEC));
        for segment in code {
            let (mut pc, end) = (
                segment.start,
                GuestAddr(segment.start.0 + segment.file_bytes),
            );
            let mut is_start = true;
            while pc < end {
                let decoded = process
                    .memory()
                    .fetch(pc)
                    .ok()
                    .and_then(|bits| decode(bits).ok());
                let Some(decoded) = decoded else {
                    // Padding, or data between functions.
                    pc = GuestAddr(pc.0 + 2);
                    is_start = false;
                    continue;
                };
                if is_start {
                    block_starts.push(pc);
                }
                is_start = ends_block(decoded.inst);
                pc = GuestAddr(pc.0 + u64::from(decoded.len));
            }
        }
        Ok(Self {
            process,
            twin,
            block_starts,
        })
    }

    fn memory(&self) -> &GuestMemory {
        self.process.memory()
    }

    /// Runs the block at `pc` on both engines, from a hart without history.
    fn agree(
        &self,
        pc: GuestAddr,
        jit: &mut JitExecutor,
        interpreter: &mut InterpreterExecutor,
    ) -> Result<(), String> {
        let (mut left, mut right) = (Hart::new(pc), Hart::new(pc));
        let exits = (
            jit.execute(&mut left, self.memory()),
            interpreter.execute(&mut right, self.twin.memory()),
        );
        let agree = match exits {
            // Registers are not promised after a trap (see JitConfig); addresses
            // of the fault are the differential tests' business.
            (Exit::Trap(a), Exit::Trap(b)) => a.cause == b.cause,
            (a, b) => a == b && XReg::ALL.iter().all(|reg| left.x(*reg) == right.x(*reg)),
        };
        if !agree || left.pc() != right.pc() {
            return Err(format!(
                "the block at {pc} ends with {} and {}",
                exits.0, exits.1
            ));
        }
        Ok(())
    }
}

/// Whether control may go elsewhere behind it.
fn ends_block(inst: Inst) -> bool {
    matches!(
        inst,
        Inst::Beq(_)
            | Inst::Bne(_)
            | Inst::Blt(_)
            | Inst::Bge(_)
            | Inst::Bltu(_)
            | Inst::Bgeu(_)
            | Inst::Jal(_)
            | Inst::Jalr(_)
            | Inst::Ecall(_)
            | Inst::Ebreak(_)
    )
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
    if !contest.run(lab.rounds(), lab.deadline_of(Duration::from_secs(14)))? {
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
    record(&mut result, contest.rows(), &["native", "qemu", "jit"]);
    for row in contest.rows() {
        let mut metrics = Metrics::new(row.guest.clone(), Duration::ZERO, 0);
        for (name, slow, fast, better) in [
            ("jit / native", "jit", "native", Direction::Lower),
            ("qemu / jit", "qemu", "jit", Direction::Higher),
        ] {
            if let Some(value) = row.cpu_ratio(slow, fast) {
                metrics.push(name, value, Unit::Ratio, better)?;
            }
        }
        result.push_metrics(metrics);
    }

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
    let mut worst: Option<f64> = None;
    // The interpreter's share would take a quick run's time.
    let some = [
        "hello", "bigcode", "syscalls", "fib", "qsort", "coremix", "matmul", "sieve",
    ];
    let is_chosen = |name: &str| !lab.is_quick || some.contains(&name);
    if lab.is_quick {
        result.warn(format!("on {} guests: {}", some.len(), some.join(", ")));
    }
    let sizes: &[Size] = if lab.is_quick {
        &[Size::Quick]
    } else {
        &[Size::Quick, Size::Full]
    };
    for &size in sizes {
        let mut contest = Contest::new(lab, contestants.clone(), size, |g| is_chosen(&g.name))?;
        if !contest.run(lab.rounds(), lab.deadline_of(Duration::from_secs(8)))? {
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
        record(&mut result, contest.rows(), &["interp", "jit", "hybrid"]);
        for row in contest.rows() {
            let (Some(hybrid), Some(jit), Some(interp)) = (
                row.wall_ns("hybrid"),
                row.wall_ns("jit"),
                row.wall_ns("interp"),
            ) else {
                bail!("{} has no times", row.guest);
            };
            let Some(value) = ratio(hybrid, jit.min(interp)) else {
                continue;
            };
            result.push_metrics(
                Metrics::new(
                    format!("{} ({})", row.guest, size.name()),
                    Duration::ZERO,
                    0,
                )
                .with(
                    "hybrid / best engine",
                    value,
                    Unit::Ratio,
                    Direction::Lower,
                )?,
            );
            if worst.is_none_or(|known| value > known) {
                worst = Some(value);
            }
        }
    }
    if let Some(value) = worst {
        result.record_kpi("hybrid.vs_best_engine", value, Unit::Ratio)?;
    }
    Ok(Measured::Done(result))
}

/// Raw CPU and elapsed times of every run. First, for the summary, the CPU time
/// of all guests together in each complete round under the last of `names`.
fn record(result: &mut BenchmarkResult, rows: &[Row], names: &[&str]) {
    let rounds_of = |row: &Row, name: &str| row.times.get(name).map_or(0, |t| t.rounds.len());
    if let Some(subject) = names.last() {
        let n_complete = rows
            .iter()
            .map(|row| rounds_of(row, subject))
            .min()
            .unwrap_or(0);
        for (round, index) in (0..).zip(0..n_complete) {
            let all = rows.iter().filter_map(|row| row.times.get(subject));
            let cpu_ns = all.map(|times| times.rounds[index].cpu_ns).sum();
            result.extend_samples([sample(Event::CpuNs, round, cpu_ns, 1)]);
        }
    }
    for row in rows {
        for name in names {
            let Some(times) = row.times.get(name) else {
                continue;
            };
            for (round, time) in (0..).zip(&times.rounds) {
                for (what, ns) in [("cpu_ns", time.cpu_ns), ("wall_ns", time.wall_ns)] {
                    let event = format!("{}.{}.{name}.{what}", row.guest, row.size.name());
                    result.extend_samples([sample(Event::Counter(event), round, ns, 1)]);
                }
            }
        }
    }
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
