//! The benchmarks that need several crates, over the real ones.
//!
//! ```text
//!  benches/guests ──> Lab: guests, programs, wall budget
//!                      │
//!  JitBenchmark        │  each workload: real work, checked, measured
//!  CrossArchBenchmark ─┼─> perf_bench::BenchmarkResult ──> JSON lines ──> xtask
//!  PerfBenchmark       │
//!  ScheduleBenchmark   │
//!                      └─> Contest: the same guest natively, under QEMU and
//!                          under each engine, interleaved
//! ```
//!
//! A workload measures rows of `benches/kpis.csv`. Its number counts only if
//! what was computed is right: a guest's output is compared with the expected
//! one at every run, and a result that is wrong is `invalid`. What this machine
//! lacks (a compiler, QEMU) makes a workload *skipped*, with the reason; no
//! constant ever stands for a measurement.
//!
//! Start with [`lab`] (what a workload is given), then [`jit`], [`cross_arch`],
//! [`schedule`] and [`perf`]; [`contest`] runs whole processes, [`in_process`] runs guests in
//! this one; [`gate`] has the bodies by which two builds are compared. The other
//! suites of the KPI table arrive with their subsystems.

#![deny(unsafe_code)]

pub mod guests;
pub mod lab;
pub mod protocol;

pub mod contest;
pub mod in_process;
pub mod native;
#[allow(
    unsafe_code,
    reason = "wait4, for the resource usage of a child: rule W1"
)]
pub mod process;

pub mod cross_arch;
pub mod jit;
pub mod perf;
pub mod schedule;

pub mod gate;

pub use cross_arch::CrossArchBenchmark;
pub use jit::JitBenchmark;
pub use lab::{Lab, Measured, Suite, Workload};
pub use perf::PerfBenchmark;
pub use schedule::ScheduleBenchmark;

/// Allocations are counted in every program of this package.
#[global_allocator]
static ALLOCATOR: perf_bench::alloc::CountingAllocator = perf_bench::alloc::CountingAllocator;

/// Every workload, in the order they run: what is short and needs a quiet
/// machine first.
#[must_use]
pub fn workloads() -> Vec<&'static Workload> {
    [
        PerfBenchmark::WORKLOADS,
        ScheduleBenchmark::WORKLOADS,
        CrossArchBenchmark::WORKLOADS,
        JitBenchmark::WORKLOADS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The end of a program of this package, with its error told.
#[expect(clippy::print_stderr, reason = "the message of a command-line tool")]
#[must_use]
pub fn exit_code(result: anyhow::Result<()>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// The table of targets.
pub const KPI_TABLE: &str = include_str!("../kpis.csv");
