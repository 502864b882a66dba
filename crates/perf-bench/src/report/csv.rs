//! CSV for spreadsheets and scripts: a summary, all metrics, or all raw samples.
//!
//! Numbers are written in full precision, an absent one as an empty cell.

use crate::gate::{Comparison, Verdict};
use crate::report::Report;
use crate::result::BenchmarkResult;
use crate::sample::Event;
use crate::units::{Direction, Unit};

/// Columns of [`summary`]. Those of bytes per second and of instruction counts stay
/// empty until something measures them; they are here so that scripts need not change
/// then.
pub const SUMMARY_COLUMNS: [&str; 23] = [
    "group",
    "function",
    "value",
    "threads",
    "unit",
    "n",
    "min",
    "q25",
    "median",
    "mean",
    "mad",
    "std_dev",
    "p99",
    "ops_per_s",
    "bytes_per_s",
    "allocs_per_iter",
    "bytes_per_iter",
    "ir",
    "vs_base_pct",
    "ci_lo_pct",
    "ci_hi_pct",
    "verdict",
    "status",
];

/// Columns of [`metrics`].
pub const METRICS_COLUMNS: [&str; 9] = [
    "group",
    "function",
    "params",
    "metrics",
    "name",
    "value",
    "unit",
    "direction",
    "status",
];

/// Columns of [`samples`].
pub const SAMPLES_COLUMNS: [&str; 12] = [
    "arch",
    "build",
    "layout",
    "benchmark",
    "params",
    "process",
    "round",
    "order",
    "phase",
    "event",
    "count",
    "iters",
];

/// One row per benchmark: the summary of its samples per iteration.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut out = Rows::new(SUMMARY_COLUMNS);
    for result in &report.benchmarks {
        let mut row = Row::<23>::default();
        row.set(0, result.id().group());
        row.set(1, result.id().function());
        row.set(2, result.id().params().unwrap_or_default());
        row.set(3, result.threads());
        row.set(5, 0);
        if let Some(summary) = result.summary() {
            row.set(4, result.primary_event().map_or(Unit::Count, Event::unit));
            row.set(5, summary.n);
            row.set(6, summary.min);
            row.set(7, summary.q25);
            row.set(8, summary.median);
            row.set(9, summary.mean);
            row.set(10, summary.mad);
            row.set_if(11, summary.std_dev);
            row.set(12, summary.p99);
        }
        row.set_if(13, result.throughput());
        row.set_if(15, result.allocated().map(|allocated| allocated.count));
        row.set_if(16, result.allocated().map(|allocated| allocated.bytes));
        let id = result.id().to_string();
        if let Some(comparison) = report.comparisons().iter().find(|c| c.id == id) {
            compare(&mut row, comparison);
        }
        row.set(22, result.status().name());
        out.push(row);
    }
    // What was only compared: its times are those of the change, by process.
    for comparison in report.comparisons() {
        let measured = |result: &BenchmarkResult| result.id().to_string() == comparison.id;
        if report.benchmarks.iter().any(measured) {
            continue;
        }
        let mut row = Row::<23>::default();
        for (column, part) in comparison.id.splitn(3, '/').enumerate() {
            row.set(column, part);
        }
        row.set(5, comparison.pairs().count());
        if let Some(median) = comparison.change_ns() {
            row.set(4, Unit::Nanosecond);
            row.set(8, median);
        }
        compare(&mut row, comparison);
        row.set(
            22,
            if comparison.verdict == Verdict::Invalid {
                "invalid"
            } else {
                "pass"
            },
        );
        out.push(row);
    }
    out.finish()
}

/// The cells of a comparison with another build.
fn compare(row: &mut Row<23>, comparison: &Comparison) {
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    row.set_if(18, comparison.ratio.map(percent));
    row.set_if(19, comparison.interval.map(|interval| percent(interval.lo)));
    row.set_if(20, comparison.interval.map(|interval| percent(interval.hi)));
    row.set(21, comparison.verdict);
}

/// One row per number of each of the results' metrics, derived ones included. A
/// result without metrics has one row with empty cells, so that a failed benchmark
/// does not vanish.
#[must_use]
pub fn metrics(results: &[BenchmarkResult]) -> String {
    let mut out = Rows::new(METRICS_COLUMNS);
    for result in results {
        let blank = || {
            let mut row = Row::<9>::default();
            row.set(0, result.id().group());
            row.set(1, result.id().function());
            row.set(2, result.id().params().unwrap_or_default());
            row.set(8, result.status().name());
            row
        };
        if result.metrics().is_empty() {
            out.push(blank());
        }
        for metrics in result.metrics() {
            let named = |name: &str, unit: Unit, direction: Option<Direction>| {
                let mut row = blank();
                row.set(3, metrics.name());
                row.set(4, name);
                row.set(6, unit);
                row.set_if(7, direction);
                row
            };
            let mut row = named("elapsed", Unit::Nanosecond, Some(Direction::Lower));
            row.set(5, metrics.elapsed_ns());
            out.push(row);
            let mut row = named("operations", Unit::Count, None);
            row.set(5, metrics.operations());
            out.push(row);
            let mut row = named("throughput", Unit::PerSecond, Some(Direction::Higher));
            row.set_if(5, metrics.throughput());
            out.push(row);
            let mut row = named("latency", Unit::Nanosecond, Some(Direction::Lower));
            row.set_if(5, metrics.latency_ns());
            out.push(row);
            for custom in metrics.customs() {
                let mut row = named(custom.name(), custom.unit(), Some(custom.direction()));
                row.set(5, custom.value());
                out.push(row);
            }
        }
    }
    out.finish()
}

/// One row per raw sample. `build` is the revision (with `+dirty`) and profile.
#[must_use]
pub fn samples(report: &Report) -> String {
    let context = &report.context;
    let dirty = match context.git.dirty {
        Some(true) => "+dirty",
        Some(false) | None => "",
    };
    let build = format!("{}{dirty}-{}", context.git.revision, context.profile);
    let mut out = Rows::new(SAMPLES_COLUMNS);
    for result in &report.benchmarks {
        let id = result.id();
        for sample in result.samples() {
            let mut row = Row::<12>::default();
            row.set(0, &context.fingerprint.arch);
            row.set(1, &build);
            row.set(2, &context.layout);
            row.set(3, format_args!("{}/{}", id.group(), id.function()));
            row.set(4, id.params().unwrap_or_default());
            row.set(5, sample.process);
            row.set(6, sample.round);
            row.set(7, sample.order);
            row.set(8, sample.phase.name());
            row.set(9, &sample.event);
            row.set(10, sample.count);
            row.set(11, sample.iters);
            out.push(row);
        }
    }
    out.finish()
}

/// Cells of one row, empty until set.
struct Row<const N: usize>([String; N]);

impl<const N: usize> Default for Row<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| String::new()))
    }
}

impl<const N: usize> Row<N> {
    fn set(&mut self, column: usize, value: impl std::fmt::Display) {
        self.0[column] = value.to_string();
    }

    fn set_if(&mut self, column: usize, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }
}

/// The quoting is the csv crate's; writing to memory cannot fail, and rows have
/// the length of the header by their type.
struct Rows<const N: usize>(::csv::Writer<Vec<u8>>);

impl<const N: usize> Rows<N> {
    fn new(columns: [&str; N]) -> Self {
        let mut rows = Self(::csv::Writer::from_writer(Vec::new()));
        rows.push(Row(columns.map(str::to_owned)));
        rows
    }

    fn push(&mut self, row: Row<N>) {
        self.0
            .write_record(&row.0)
            .expect("rows of one length, written to memory");
    }

    fn finish(self) -> String {
        let bytes = self.0.into_inner().expect("flushing to memory");
        String::from_utf8(bytes).expect("cells are strings")
    }
}
