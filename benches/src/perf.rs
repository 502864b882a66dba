//! The measuring itself.

use anyhow::Result;
use perf_bench::alloc::count_allocations;
use perf_bench::{BenchmarkResult, Metrics, Timer, Unit};

use crate::lab::{Lab, Measured, Suite, Workload};

/// Costs of `perf-bench`.
#[derive(Clone, Copy, Debug)]
pub struct PerfBenchmark;

impl Suite for PerfBenchmark {
    const WORKLOADS: &'static [Workload] = &[Workload {
        id: "perf_bench/timer_pair",
        kpis: &["bench.timer_pair_ns"],
        body: timer_pair,
    }];
}

/// Start and stop of a timer around nothing.
fn timer_pair(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    let samples = lab.sampler().run(|| {
        let mut timer = Timer::new();
        timer.start();
        timer.stop()
    });
    let (_, allocated) = count_allocations(|| {
        let mut timer = Timer::new();
        timer.start();
        timer.stop()
    });
    if let Some(allocated) = allocated {
        result.set_allocations(allocated, 1);
    }
    result.push_metrics(Metrics::from_samples("start + stop", &samples));
    result.extend_samples(samples);
    if let Some(summary) = result.summary() {
        // Of compute-bound samples the quartile is the steadiest: neighbours on
        // the machine only ever add.
        result.record_kpi("bench.timer_pair_ns", summary.q25, Unit::Nanosecond)?;
    }
    Ok(Measured::Done(result))
}
