//! What it costs to run another architecture's programs: starting one, a system
//! call, translated code per instruction, time spent translating.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};
use vm_core::isa::asm::assemble;
use vm_runtime::{EngineKind, build_engine};

use crate::contest::{difference, nanoseconds, ratio};
use crate::guests::Size;
use crate::in_process::{self, Ended};
use crate::jit::{counter, engine_named, or_skip, over_guests, sample, uncounted};
use crate::lab::{Lab, Measured, Suite, Workload};
use crate::process;

/// Costs of crossing from one architecture to another.
#[derive(Clone, Copy, Debug)]
pub struct CrossArchBenchmark;

impl Suite for CrossArchBenchmark {
    const WORKLOADS: &'static [Workload] = &[
        Workload {
            id: "cross_arch/hello",
            kpis: &["xarch.hello_ms"],
            body: hello,
        },
        Workload {
            id: "cross_arch/syscall",
            kpis: &["xarch.syscall_ns"],
            body: syscall,
        },
        Workload {
            id: "cross_arch/instructions",
            kpis: &["xarch.host_insns_per_guest_insn"],
            body: instruction_ratio,
        },
        Workload {
            id: "cross_arch/translation",
            kpis: &["xarch.translation_overhead_pct"],
            body: translation_share,
        },
    ];
}

/// A static hello: the whole process, from spawn to exit, default engine.
fn hello(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let guest = lab.guests.named("hello")?;
    let expected = lab.guests.expected(guest, Size::Quick)?;
    let rounds = if lab.is_quick { 40 } else { 200 };
    for round in 0..rounds {
        let mut command = Command::new(lab.hartloom()?);
        command
            .arg("run")
            .arg(lab.guests.elf(guest))
            .args(guest.args(Size::Quick));
        let run = process::run(&mut command, Duration::from_secs(60))?;
        if run.status != Some(0) || run.stdout != expected {
            result.mark_invalid(format!(
                "status {:?}, {}",
                run.status,
                difference(&expected, &run.stdout)
            ));
            return Ok(Measured::Done(result));
        }
        result.extend_samples([sample(Event::WallNs, round, nanoseconds(run.wall), 1)]);
    }
    result.push_metrics(Metrics::from_samples("processes", result.samples()));
    if let Some(summary) = result.summary() {
        result.record_kpi("xarch.hello_ms", summary.median, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}

/// Round trips of `getpid`, minus the same loop without the call.
///
/// The guest checks that every answer is the first one, and exits with 0 only
/// then; the process counts the calls.
fn syscall(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const CALLS: u64 = 100_000;
    let program = |body: &str| {
        assemble(&format!(
            "li a7, 172\necall\nmv s1, a0\nli s2, 0\nli s0, {CALLS}\n\
             again:\n{body}\nsub t0, a0, s1\nor s2, s2, t0\naddi s0, s0, -1\nbnez s0, again\n\
             snez a0, s2\nli a7, 93\necall\n"
        ))
    };
    let (with_call, without) = (program("ecall")?, program("nop")?);
    let rounds = if lab.is_quick { 10 } else { 50 };
    let default = EngineKind::default();
    for &kind in EngineKind::ALL {
        let mut best = [u64::MAX; 2];
        for round in 0..rounds {
            for (index, (code, n_calls)) in [(&with_call, CALLS + 2), (&without, 2)]
                .into_iter()
                .enumerate()
            {
                let mut engine = build_engine(kind);
                let ended = match in_process::run_code(code, 0, &mut *engine) {
                    Ok(ended) if ended.syscalls == n_calls => ended,
                    Ok(ended) => {
                        result
                            .mark_invalid(format!("{} calls, expected {n_calls}", ended.syscalls));
                        return Ok(Measured::Done(result));
                    }
                    Err(error) => {
                        result.mark_invalid(format!("{error:#}"));
                        return Ok(Measured::Done(result));
                    }
                };
                let cpu_ns = nanoseconds(ended.cpu);
                best[index] = best[index].min(cpu_ns);
                if kind == default && index == 0 {
                    result.extend_samples([sample(Event::CpuNs, round, cpu_ns, CALLS)]);
                }
            }
        }
        let net_ns = best[0].saturating_sub(best[1]);
        result.push_metrics(Metrics::new(
            format!("getpid, {}", kind.name()),
            Duration::from_nanos(net_ns),
            CALLS,
        ));
        if kind == default {
            result.record_kpi(
                "xarch.syscall_ns",
                net_ns as f64 / CALLS as f64,
                Unit::Nanosecond,
            )?;
        }
    }
    Ok(Measured::Done(result))
}

/// Host instructions emitted per guest instruction compiled, over every guest.
fn instruction_ratio(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let (mut host, mut guest) = (0, 0);
    for ended in or_skip!(over_guests(lab, "jit", &mut result)?) {
        let of = |name| ended.counters.get(name).ok_or_else(|| uncounted(name));
        host += or_skip!(of(counter::HOST_INSTS));
        guest += or_skip!(of(counter::INSTS_COMPILED));
    }
    if let Some(value) = ratio(host, guest) {
        result.record_kpi("xarch.host_insns_per_guest_insn", value, Unit::Ratio)?;
    }
    Ok(Measured::Done(result))
}

/// Time spent compiling over time spent running, on guests of about a second:
/// the largest share of three with much code.
fn translation_share(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let guests: &[&str] = if lab.is_quick {
        &["coremix"]
    } else {
        &["coremix", "bytecode", "strings"]
    };
    let mut largest: Option<f64> = None;
    for name in guests {
        let mut engine = or_skip!(engine_named("jit"));
        let guest = lab.guests.named(name)?;
        let ended: Ended = match in_process::run_guest(lab, guest, Size::Full, &mut *engine) {
            Ok(ended) => ended,
            Err(error) => {
                result.mark_invalid(format!("{error:#}"));
                return Ok(Measured::Done(result));
            }
        };
        let compile_ns = or_skip!(
            ended
                .counters
                .get(counter::COMPILE_NS)
                .ok_or_else(|| uncounted(counter::COMPILE_NS))
        );
        let Some(share) = ratio(compile_ns, nanoseconds(ended.wall)) else {
            continue;
        };
        result.push_metrics(Metrics::new(*name, ended.wall, 1).with(
            "translating",
            share,
            Unit::Ratio,
            Direction::Lower,
        )?);
        largest = Some(largest.map_or(share, |known| known.max(share)));
    }
    if let Some(share) = largest {
        result.record_kpi("xarch.translation_overhead_pct", share, Unit::Ratio)?;
    }
    Ok(Measured::Done(result))
}
