//! Benchmarks one's own function: `cargo run --release -p perf-bench --example
//! own_function`.

use std::hint::black_box;
use std::io::Write as _;

use perf_bench::{BenchmarkSuite, BoxError, BuildInfo, Context, KpiTable, Metrics, Sampler, Unit};

/// The function to measure.
fn fibonacci(n: u32) -> u64 {
    (0..n).fold((0_u64, 1_u64), |(a, b), _| (b, a + b)).0
}

/// What it should reach. The last column says what the bar was compared with.
const TARGETS: &str = "\
id,suite,metric,unit,direction,requirement,bar,anchor
fibonacci.ns,demo,fibonacci(90),ns,lower,1000,100,one addition per step
";

fn main() -> Result<(), BoxError> {
    let mut suite = BenchmarkSuite::new("demo");
    suite.add("demo/fibonacci/n=90", |mut result| {
        // A wrong answer is not a number.
        if fibonacci(90) != 2_880_067_194_370_816_120 {
            result.mark_invalid("fibonacci(90) is wrong");
        }
        // Without black_box the compiler would compute the constant once.
        let samples = Sampler::quick().run(|| fibonacci(black_box(90)));
        result.push_metrics(Metrics::from_samples("calls", &samples));
        result.extend_samples(samples);
        if let Some(summary) = result.summary() {
            result.record_kpi("fibonacci.ns", summary.median, Unit::Nanosecond)?;
        }
        Ok::<_, BoxError>(result)
    })?;

    let context = Context::detect(BuildInfo::default());
    let report = suite.run().into_report(context, &KpiTable::parse(TARGETS)?);
    std::io::stdout().write_all(report.to_text(100).as_bytes())?;
    Ok(())
}
