//! What the worker tells its parent: one JSON object per line. Read by
//! xtask/src/worker.rs.

use std::io::{self, Write as _};

use perf_bench::{BenchmarkResult, Context, KpiTable, Report};
use serde::Serialize;
use serde_json::Value;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Every benchmark there is.
    Plan {
        /// In the order they run.
        benchmarks: Vec<Planned<'a>>,
    },
    /// The filter selects nothing.
    NothingSelected {
        /// What it could have been.
        names: Vec<&'a str>,
    },
    /// A benchmark is about to run.
    Started {
        /// Its index among those selected.
        index: usize,
        /// How many are selected.
        total: usize,
        /// Its name.
        id: &'a str,
    },
    /// A benchmark has ended.
    Finished {
        /// A `vm-bench.v1` document with one benchmark.
        report: Value,
    },
    /// A benchmark lacks something of this machine.
    Skipped {
        /// Its name.
        id: &'a str,
        /// What is missing.
        reason: &'a str,
    },
    /// Something readers of the numbers should know.
    Note {
        /// In words.
        text: &'a str,
    },
    /// One guest under every contestant.
    Row {
        /// As in [`contest`](crate::contest).
        row: Value,
    },
}

/// A benchmark of the plan.
#[derive(Debug, Serialize)]
pub struct Planned<'a> {
    /// Its name.
    pub id: &'a str,
    /// The KPI rows it measures.
    pub kpis: &'a [&'a str],
    /// Whether it is to run.
    pub selected: bool,
}

/// A finished benchmark, in the format of stored reports.
#[must_use]
pub fn finished(result: BenchmarkResult) -> Event<'static> {
    let report = Report::new(Context::unknown(), vec![result], &KpiTable::empty());
    // Our own writer: what it writes parses.
    let report = serde_json::from_str(&report.to_json()).unwrap_or(Value::Null);
    Event::Finished { report }
}

/// Writes a line to standard output at once: what is measured must not be lost
/// when the process ends.
///
/// # Errors
/// If nobody reads any more.
pub fn send(event: &Event<'_>) -> io::Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}
