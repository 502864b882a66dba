//! Times code, collects counters and samples, judges them against a table of
//! targets, and reports: one value, several formats.
//!
//! ```text
//!  Timer, Sampler ──> Sample ─────────┐
//!                       (raw, kept)   ├─> BenchmarkResult ─┐
//!  elapsed + operations ──> Metrics ──┤    pass | fail |   │
//!  a value for a target ──> kpi ──────┘    invalid         │
//!                                                          │
//!  BenchmarkSuite: runs many, survives panics ──> SuiteRun ┤
//!  KpiTable (CSV): requirement and bar per row ────────────┼─> Report
//!  Context: machine, compiler, revision ───────────────────┘     │
//!        text · CSV · JSON · Markdown · JUnit · other tools' <──┘
//! ```
//!
//! Not here: any knowledge of what is measured (virtual machines included), and
//! threads or processes (the caller spawns those). A wrong answer is never a
//! number: results that are not `pass` lend no value to a KPI row, and no NaN or
//! infinity enters a report.
//!
//! # Benchmark a function of one's own
//!
//! ```
//! use perf_bench::{BenchmarkSuite, Context, KpiTable, Metrics, Sampler, Unit};
//!
//! let table = KpiTable::parse(
//!     "id,suite,metric,unit,direction,requirement,bar,anchor\n\
//!      sum.ns,demo,sum of 1000 numbers,ns,lower,1000000,500,\n",
//! )?;
//! let mut suite = BenchmarkSuite::new("demo");
//! suite.add("demo/sum", |mut result| {
//!     let numbers: Vec<u64> = (0..1000).collect();
//!     let samples = Sampler::quick().run(|| numbers.iter().sum::<u64>());
//!     result.push_metrics(Metrics::from_samples("sum", &samples));
//!     result.extend_samples(samples);
//!     if let Some(summary) = result.summary() {
//!         result.record_kpi("sum.ns", summary.median, Unit::Nanosecond)?;
//!     }
//!     Ok::<_, perf_bench::MetricError>(result)
//! })?;
//! let report = suite.run().into_report(Context::unknown(), &table);
//! assert!(report.to_text(100).contains("sum.ns"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading order
//!
//! [`clock`] and [`timer`] measure; [`units`] says in what; [`sample`] and
//! [`sampler`] keep the raw values; [`stats`] condenses them, [`histogram`] the single
//! ones; [`metrics`], [`result`] and [`suite`] say what was run; [`kpi`] judges
//! against targets, [`gate`] against another build, [`baseline`] shows a stored run
//! beside, [`history`] many; [`fingerprint`]
//! says where; [`report`] renders; [`error`] lists what can go wrong.

#![deny(unsafe_code)]

pub mod clock;
pub mod timer;

pub mod units;

pub mod sample;
pub mod sampler;
pub mod stats;

#[allow(
    unsafe_code,
    reason = "an allocator that counts and hands on: rules N1, N2"
)]
pub mod alloc;
pub mod histogram;
pub mod metrics;
pub mod result;
pub mod suite;

pub mod baseline;
pub mod gate;
pub mod history;

pub mod fingerprint;
pub mod kpi;
pub mod report;

pub mod error;

pub use clock::{Clock, CounterClock, ManualClock, MonotonicClock};
pub use error::{
    IdError, KpiMeasureError, KpiTableError, MetricError, ReportError, SuiteError, SummaryError,
    UnitError,
};
pub use fingerprint::{BuildInfo, Context, Fingerprint, GitState};
pub use histogram::{Histogram, PercentileCurve, PercentilePoint};
pub use kpi::{KpiCounts, KpiEntry, KpiRow, KpiTable, Verdict};
pub use metrics::{CustomMetric, Metrics};
pub use report::{Format, Report};
pub use result::{BenchmarkId, BenchmarkResult, MeasuredKpi, Status};
pub use sample::{Event, Phase, Sample};
pub use sampler::Sampler;
pub use stats::summary::Summary;
pub use suite::{Benchmark, BenchmarkSuite, BoxError, Progress, SuiteRun};
pub use timer::Timer;
pub use units::{Dimension, Direction, Quantity, Unit};

// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
