//! Other schedulers beside ours: builds benches/peers, reads its samples, makes
//! ratios of them. `compare --suite sched` prints all of it; `bench` takes the
//! two KPI rows.
//!
//! A ratio is made within one round, where the two ran within a second of each
//! other, and the median over the rounds is its value. The interval around it
//! are order statistics of those ratios: no distribution is assumed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use perf_bench::{BenchmarkResult, Direction, Metrics, Unit};
use serde::{Deserialize, Serialize};

use crate::worker::{self, End, Event, Planned};
use crate::workspace::{Interrupt, Workspace};

/// As `bench` lists it.
pub(crate) const ID: &str = "schedule/vs_peers";
const KPIS: [&str; 2] = ["sched.vs_tokio", "sched.vs_best_peer"];

/// The programs whose ratios the KPI rows are made of.
const KPI_PROGRAMS: [&str; 5] = ["yield", "spawn", "chained", "pingpong", "skynet"];

/// Who can be the best peer: schedulers whose tasks can wait, in the same
/// process. rayon's cannot, and Go is not installed everywhere: a bar must not
/// depend on that.
const KPI_PEERS: [&str; 3] = ["tokio", "async-executor", "may"];

const OURS: &str = "ours";
const RUNTIMES: [&str; 7] = [
    OURS,
    "tokio",
    "async-executor",
    "may",
    "rayon",
    "corosensei",
    "go",
];

/// The benchmark as part of a plan.
pub(crate) fn planned(filter: Option<&str>) -> Planned {
    let names = || std::iter::once(ID).chain(KPIS);
    Planned {
        id: ID.to_owned(),
        kpis: KPIS.map(str::to_owned).to_vec(),
        selected: filter.is_none_or(|filter| names().any(|name| name.contains(filter))),
    }
}

/// Builds the peers; needs their sources, from the network or cargo's cache.
///
/// # Errors
/// In words for a report: it is no failure of ours.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf, String> {
    let target = workspace.target().join("peers");
    let mut command = workspace.cargo();
    command
        // Not --locked: what our scheduler depends on may have changed, and only
        // that is then added.
        .args(["build", "--release", "--manifest-path"])
        .arg(workspace.root().join("benches/peers/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // One try: without a network it should not take minutes to say so.
        .env("CARGO_NET_RETRY", "0")
        .stdin(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(target.join("release/sched-peers")),
        Ok(_) => Err(
            "benches/peers does not build (cargo's messages are above; the first build needs a \
             network)"
                .to_owned(),
        ),
        Err(error) => Err(format!("cannot run {command:?}: {error}")),
    }
}

/// Builds the Go program.
///
/// # Errors
/// In words for a note.
pub(crate) fn build_go(workspace: &Workspace) -> Result<PathBuf, String> {
    let target = workspace.target().join("peers");
    let binary = target.join("sched-go");
    let mut command = std::process::Command::new("go");
    command
        .arg("build")
        .arg("-o")
        .arg(&binary)
        .arg("main.go")
        .current_dir(workspace.root().join("benches/peers/go"))
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .stdin(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(binary),
        Ok(status) => Err(format!(
            "benches/peers/go does not build ({status}): no Go figures"
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("go is not installed (Debian package golang-go): no Go figures".to_owned())
        }
        Err(error) => Err(format!("go cannot be run ({error}): no Go figures")),
    }
}

/// How a run of the peers is to be.
pub(crate) struct Order<'a> {
    pub(crate) program: &'a Path,
    pub(crate) go: Option<&'a Path>,
    pub(crate) filter: Option<&'a str>,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    /// Only what the KPI rows need.
    pub(crate) kpi: bool,
    pub(crate) wall: Option<Duration>,
}

/// What came of it.
pub(crate) enum Run {
    Measured(Table, End),
    NothingSelected(Vec<String>),
}

/// Spawns the peers and gathers their samples; `on_round` hears of each round.
///
/// # Errors
/// If the program cannot be run or writes something else.
pub(crate) fn run(
    order: &Order<'_>,
    interrupt: &Interrupt,
    mut on_round: impl FnMut(u32, u32, &str),
) -> Result<Run> {
    let mut args = vec![format!("--rounds={}", order.rounds)];
    if order.quick {
        args.push("--quick".to_owned());
    }
    if order.kpi {
        args.push("--kpi".to_owned());
    }
    if let Some(wall) = order.wall {
        args.push(format!("--wall-seconds={}", wall.as_secs().max(1)));
    }
    if let Some(go) = order.go {
        args.push("--go".to_owned());
        args.push(go.display().to_string());
    }
    args.extend(order.filter.map(str::to_owned));
    // It ends itself between two rounds; one that hangs is ended.
    let deadline = order.wall.map(|wall| Instant::now() + wall * 2);
    let mut table = Table::default();
    let mut nothing = None;
    let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    let end = worker::run(order.program, &args, is_late, interrupt, |event| {
        match event {
            Event::Started { index, total, id } => {
                on_round(to_u32(index), to_u32(total), &id);
            }
            Event::Row { row } => {
                let sample: Sample =
                    serde_json::from_value(row).context("not a sample of the peers")?;
                table.samples.push(sample);
            }
            Event::Note { text } => table.notes.push(text),
            Event::NothingSelected { names } => nothing = Some(names),
            Event::Plan { .. } | Event::Finished { .. } | Event::Skipped { .. } => {}
        }
        Ok(())
    })?;
    Ok(match nothing {
        Some(names) => Run::NothingSelected(names),
        None => Run::Measured(table, end),
    })
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// One round of one program on one scheduler, as the peers write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    program: String,
    runtime: String,
    round: u32,
    /// `ok`, `invalid` (wrong result), `failed`, or `cannot` (it is beyond this
    /// scheduler, which is no failure of the run).
    status: String,
    reason: Option<String>,
    #[serde(default)]
    ops: u64,
    #[serde(default)]
    wall_ns: u64,
    #[serde(default)]
    cpu_ns: u64,
    latency: Option<Latency>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Latency {
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

impl Sample {
    fn is_ok(&self) -> bool {
        self.status == "ok" && self.ops > 0
    }

    /// What ratios are made of, in nanoseconds: elapsed time of an operation;
    /// of latencies the 99th percentile.
    fn value(&self) -> f64 {
        match self.latency {
            Some(latency) => latency.p99_ns as f64,
            None => self.wall_ns as f64 / self.ops as f64,
        }
    }

    /// Beside it: CPU time of an operation; of latencies the median.
    fn beside(&self) -> f64 {
        match self.latency {
            Some(latency) => latency.p50_ns as f64,
            None => self.cpu_ns as f64 / self.ops as f64,
        }
    }
}

/// A median and where it lies with at least 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
    /// Whether the rounds suffice for 95 %; `low` and `high` are the extremes
    /// otherwise.
    pub(crate) is_95: bool,
}

impl Interval {
    /// Of at least one value.
    fn of(values: &[f64]) -> Option<Interval> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let rank = median_rank(n);
        let at = rank.unwrap_or(0);
        Some(Interval {
            median: median(&sorted)?,
            low: sorted[at],
            high: sorted[n - 1 - at],
            rounds: n,
            is_95: rank.is_some(),
        })
    }
}

/// Of ascending values.
fn median(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    let (low, high) = (*sorted.get(n.checked_sub(1)? / 2)?, *sorted.get(n / 2)?);
    Some(f64::midpoint(low, high))
}

/// The highest index such that the values at it and at its mirror image enclose
/// the median with 95 %: fewer than 2.5 % of a fair coin's `n` throws have that
/// many heads or fewer. `None` below six values.
fn median_rank(n: usize) -> Option<usize> {
    let mut probability = 0.5_f64.powi(i32::try_from(n).ok()?);
    let mut below = 0.0;
    for k in 0..n {
        below += probability;
        if below > 0.025 {
            return k.checked_sub(1);
        }
        probability *= (n - k) as f64 / (k + 1) as f64;
    }
    None
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Table {
    samples: Vec<Sample>,
    pub(crate) notes: Vec<String>,
}

/// One program's figures, for people and for files.
#[derive(Clone, Debug, Serialize)]
struct Row {
    program: String,
    is_latency: bool,
    /// By runtime: the median of what ratios are made of, and what is beside.
    medians: BTreeMap<String, (f64, f64)>,
    /// Ours over each other's.
    ratios: BTreeMap<String, Interval>,
    best_peer: Option<String>,
}

/// A KPI row's value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Kpi {
    pub(crate) id: &'static str,
    /// The median of the programs' ratios.
    pub(crate) value: f64,
    /// Of the medians of the single rounds.
    pub(crate) interval: Interval,
}

impl Table {
    /// In the order they ran, those nobody did at the end.
    fn programs(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let (done, not): (Vec<&Sample>, Vec<&Sample>) =
            self.samples.iter().partition(|sample| sample.is_ok());
        let names = done.into_iter().chain(not);
        let names = names.map(|sample| sample.program.as_str());
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// Right rounds only; one wrong result and none of that pair counts.
    fn of<'a>(&'a self, program: &'a str, runtime: &'a str) -> Vec<&'a Sample> {
        let all = self
            .samples
            .iter()
            .filter(|sample| sample.program == program && sample.runtime == runtime);
        let all: Vec<&Sample> = all.collect();
        match all.iter().all(|sample| sample.is_ok()) {
            true => all,
            false => Vec::new(),
        }
    }

    fn median(&self, program: &str, runtime: &str, of: fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.of(program, runtime).into_iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        median(&values)
    }

    /// Ours over another's, round by round.
    fn ratios(&self, program: &str, other: &str) -> BTreeMap<u32, f64> {
        let others: BTreeMap<u32, f64> = self
            .of(program, other)
            .into_iter()
            .map(|sample| (sample.round, sample.value()))
            .collect();
        self.of(program, OURS)
            .into_iter()
            .filter_map(|ours| {
                let other = others.get(&ours.round).filter(|value| **value > 0.0)?;
                Some((ours.round, ours.value() / other))
            })
            .collect()
    }

    fn best_peer(&self, program: &str) -> Option<&'static str> {
        let median = |peer| Some((self.median(program, peer, Sample::value)?, peer));
        let peers = KPI_PEERS.into_iter().filter_map(median);
        peers
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, peer)| peer)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |program: &str| Row {
            program: program.to_owned(),
            is_latency: self
                .samples
                .iter()
                .any(|sample| sample.program == program && sample.latency.is_some()),
            medians: RUNTIMES
                .into_iter()
                .filter_map(|runtime| {
                    let value = self.median(program, runtime, Sample::value)?;
                    let beside = self.median(program, runtime, Sample::beside)?;
                    Some((runtime.to_owned(), (value, beside)))
                })
                .collect(),
            ratios: RUNTIMES
                .into_iter()
                .filter(|runtime| *runtime != OURS)
                .filter_map(|runtime| {
                    let ratios: Vec<f64> = self.ratios(program, runtime).into_values().collect();
                    Some((runtime.to_owned(), Interval::of(&ratios)?))
                })
                .collect(),
            best_peer: self.best_peer(program).map(str::to_owned),
        };
        self.programs().into_iter().map(row).collect()
    }

    /// The values of the two rows, each if all its programs have ratios.
    pub(crate) fn kpis(&self) -> Vec<Kpi> {
        let tokio = |_: &str| Some("tokio");
        let best = |program: &str| self.best_peer(program);
        let kpis = [self.kpi(KPIS[0], tokio), self.kpi(KPIS[1], best)];
        kpis.into_iter().flatten().collect()
    }

    fn kpi(&self, id: &'static str, peer_of: impl Fn(&str) -> Option<&'static str>) -> Option<Kpi> {
        let ratios: Vec<BTreeMap<u32, f64>> = KPI_PROGRAMS
            .into_iter()
            .map(|program| Some(self.ratios(program, peer_of(program)?)))
            .collect::<Option<_>>()?;
        let medians: Vec<f64> = ratios
            .iter()
            .map(|ratios| middle(ratios.values().copied()))
            .collect::<Option<_>>()?;
        let rounds: BTreeSet<u32> = ratios.iter().flat_map(|of| of.keys().copied()).collect();
        // Rounds that every program has.
        let by_round: Vec<f64> = rounds
            .into_iter()
            .filter_map(|round| {
                let all: Option<Vec<f64>> =
                    ratios.iter().map(|of| of.get(&round).copied()).collect();
                middle(all?)
            })
            .collect();
        Some(Kpi {
            id,
            value: middle(medians)?,
            interval: Interval::of(&by_round)?,
        })
    }

    /// What went wrong or was beyond a scheduler: once for each pair.
    fn complaints(&self) -> Vec<String> {
        let samples = self.samples.iter().filter(|sample| !sample.is_ok());
        samples
            .map(|sample| {
                let reason = sample.reason.as_deref().unwrap_or("no operations");
                let (program, runtime) = (&sample.program, &sample.runtime);
                format!("{}: {program}, {runtime}: {reason}", sample.status)
            })
            .collect()
    }

    /// Whether every result was right.
    pub(crate) fn is_right(&self) -> bool {
        let is_right = |sample: &Sample| sample.is_ok() || sample.status == "cannot";
        self.samples.iter().all(is_right)
    }

    /// As `bench` reports it.
    ///
    /// # Errors
    /// If a value is not finite.
    pub(crate) fn into_result(self) -> Result<BenchmarkResult> {
        let mut result = BenchmarkResult::new(ID.parse()?);
        result.set_threads(2);
        for note in &self.notes {
            result.warn(note.clone());
        }
        let (cannot, wrong): (Vec<String>, Vec<String>) = self
            .complaints()
            .into_iter()
            .partition(|text| text.starts_with("cannot"));
        for text in cannot {
            result.warn(text);
        }
        if let Some(first) = wrong.into_iter().next() {
            result.mark_invalid(first);
        }
        for program in self.programs() {
            for runtime in RUNTIMES {
                let samples = self.of(program, runtime);
                let sum = |of: fn(&Sample) -> u64| samples.iter().map(|s| of(s)).sum::<u64>();
                let ops = sum(|sample| sample.ops);
                if ops == 0 {
                    continue;
                }
                let wall = Duration::from_nanos(sum(|sample| sample.wall_ns));
                let mut metrics = Metrics::new(format!("{program}, {runtime}"), wall, ops);
                let cpu_ns = sum(|sample| sample.cpu_ns) as f64 / ops as f64;
                metrics.push("CPU time", cpu_ns, Unit::Nanosecond, Direction::Lower)?;
                let ratios = self.ratios(program, runtime);
                if runtime != OURS
                    && let Some(ratio) = middle(ratios.into_values())
                {
                    metrics.push("ours to it", ratio, Unit::Ratio, Direction::Lower)?;
                }
                result.push_metrics(metrics);
            }
        }
        for kpi in self.kpis() {
            let Interval { low, high, .. } = kpi.interval;
            let metrics = Metrics::new(kpi.id, Duration::ZERO, 0)
                .with("low", low, Unit::Ratio, Direction::Lower)?
                .with("high", high, Unit::Ratio, Direction::Lower)?;
            result.push_metrics(metrics);
            result.record_kpi(kpi.id, kpi.value, Unit::Ratio)?;
        }
        Ok(result)
    }

    /// The document of `compare`.
    pub(crate) fn to_json(&self, context: &perf_bench::Context) -> Result<String> {
        let document = serde_json::json!({
            "schema": "hartloom-compare-sched.v1",
            "context": context,
            "programs": self.rows(),
            "kpis": self.kpis(),
            "notes": self.notes,
            "samples": self.samples,
        });
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        Ok(text)
    }

    /// The samples, one a line.
    pub(crate) fn to_csv(&self) -> String {
        let mut csv =
            String::from("program,runtime,round,status,ops,wall_ns,cpu_ns,p50_ns,p99_ns,max_ns\n");
        for sample in &self.samples {
            let latency = sample.latency.map_or(",,".to_owned(), |latency| {
                format!("{},{},{}", latency.p50_ns, latency.p99_ns, latency.max_ns)
            });
            // No field can hold a comma or quote: names are of our making.
            let _ = writeln!(
                csv,
                "{},{},{},{},{},{},{},{latency}",
                sample.program,
                sample.runtime,
                sample.round,
                sample.status,
                sample.ops,
                sample.wall_ns,
                sample.cpu_ns,
            );
        }
        csv
    }

    /// Tables and KPI values for people.
    pub(crate) fn to_text(&self) -> String {
        let rows = self.rows();
        let shown: Vec<&str> = RUNTIMES
            .into_iter()
            .filter(|runtime| rows.iter().any(|row| row.medians.contains_key(*runtime)))
            .collect();
        let mut text = String::new();
        for is_latency in [false, true] {
            let rows: Vec<&Row> = rows
                .iter()
                .filter(|row| row.is_latency == is_latency && !row.medians.is_empty())
                .collect();
            if rows.is_empty() {
                continue;
            }
            text.push_str(match is_latency {
                false => "nanoseconds for one operation: elapsed (CPU), medians of the rounds\n\n",
                true => "microseconds: p99 (p50), medians of the rounds\n\n",
            });
            let mut header = vec!["program".to_owned()];
            header.extend(shown.iter().map(|name| (*name).to_owned()));
            let mut lines = vec![header];
            for row in &rows {
                let mut line = vec![row.program.clone()];
                line.extend(shown.iter().map(|name| {
                    let figures = row.medians.get(*name);
                    figures.map_or("-".to_owned(), |(value, beside)| match is_latency {
                        false => format!("{} ({})", number(*value), number(*beside)),
                        true => format!("{} ({})", number(value / 1e3), number(beside / 1e3)),
                    })
                }));
                lines.push(line);
            }
            align(&mut text, &lines);
            text.push('\n');
        }
        let with_ratios: Vec<&Row> = rows.iter().filter(|row| !row.ratios.is_empty()).collect();
        if !with_ratios.is_empty() {
            text.push_str(
                "ours / other, below 1 is faster: median [interval]; * the best peer\n\n",
            );
            let others: Vec<&str> = shown
                .iter()
                .copied()
                .filter(|name| with_ratios.iter().any(|row| row.ratios.contains_key(*name)))
                .collect();
            let mut header = vec!["program".to_owned()];
            header.extend(others.iter().map(|name| (*name).to_owned()));
            let mut lines = vec![header];
            for row in with_ratios {
                let mut line = vec![row.program.clone()];
                line.extend(others.iter().map(|name| {
                    let best = if row.best_peer.as_deref() == Some(*name) {
                        "*"
                    } else {
                        ""
                    };
                    row.ratios
                        .get(*name)
                        .map_or("-".to_owned(), |ratio| format!("{best}{}", range(ratio)))
                }));
                lines.push(line);
            }
            align(&mut text, &lines);
            text.push('\n');
        }
        let kpis = self.kpis();
        for kpi in &kpis {
            let interval = range(&Interval {
                median: kpi.value,
                ..kpi.interval
            });
            let _ = writeln!(text, "{:<20} {interval}", kpi.id);
        }
        if kpis.is_empty() {
            let _ = writeln!(
                text,
                "no KPI values: they need {} on ours and a peer",
                KPI_PROGRAMS.join(", ")
            );
        }
        let rounds = kpis.iter().map(|kpi| kpi.interval);
        let rounds = rounds.chain(rows.iter().flat_map(|row| row.ratios.values().copied()));
        if let Some(few) = rounds
            .filter(|interval| !interval.is_95)
            .map(|i| i.rounds)
            .min()
        {
            let _ = writeln!(
                text,
                "note: {few} rounds are too few for 95 %: intervals are the extremes (6 suffice)"
            );
        }
        for complaint in self.complaints() {
            let _ = writeln!(text, "{complaint}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

/// The median, of values in any order.
fn middle(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    median(&values)
}

fn range(interval: &Interval) -> String {
    format!(
        "{:.2} [{:.2}, {:.2}]",
        interval.median, interval.low, interval.high
    )
}

/// Three digits or so.
fn number(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Columns, the first to the left, the others to the right.
fn align(text: &mut String, lines: &[Vec<String>]) {
    let n_columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..n_columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn sample(program: &str, runtime: &str, round: u32, ns: u64) -> Sample {
        Sample {
            program: program.to_owned(),
            runtime: runtime.to_owned(),
            round,
            status: "ok".to_owned(),
            reason: None,
            ops: 10,
            wall_ns: ns * 10,
            cpu_ns: ns * 20,
            latency: None,
        }
    }

    /// Ours takes `ours` and tokio 100 in each of the programs, over three
    /// rounds the first of which is slow for both.
    fn table(ours: [u64; 5]) -> Table {
        let mut table = Table::default();
        for round in 1..=3 {
            let slow = if round == 1 { 7 } else { 1 };
            for (program, ours) in KPI_PROGRAMS.into_iter().zip(ours) {
                table
                    .samples
                    .push(sample(program, OURS, round, ours * slow));
                table
                    .samples
                    .push(sample(program, "tokio", round, 100 * slow));
            }
        }
        table
    }

    fn fail(table: &mut Table, runtime: &str, status: &str) {
        table.samples.push(Sample {
            status: status.to_owned(),
            reason: Some("sum of leaves".to_owned()),
            ..sample("skynet", runtime, 0, 0)
        });
    }

    #[test]
    fn ranks_enclose_the_median_with_95_percent() {
        // Tables of the sign test: n = 6, 9, 12, 20 leave 0, 1, 2, 5 out.
        let ranks = [5, 6, 9, 12, 20].map(median_rank);
        assert_eq!(ranks, [None, Some(0), Some(1), Some(2), Some(5)]);
        assert_eq!(median_rank(0), None);
        let interval = Interval::of(&[9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        assert_eq!(
            (interval.low, interval.median, interval.high, interval.is_95),
            (2.0, 5.0, 8.0, true)
        );
        assert_eq!(Interval::of(&[]), None);
        assert!(!Interval::of(&[1.0]).unwrap().is_95);
    }

    #[test]
    fn a_slow_round_moves_no_ratio() {
        let table = table([50, 60, 70, 80, 90]);
        let kpis = table.kpis();
        assert_eq!(kpis[0].id, "sched.vs_tokio");
        assert!((kpis[0].value - 0.7).abs() < 1e-9, "{kpis:?}");
        assert!((kpis[0].interval.high - 0.7).abs() < 1e-9, "{kpis:?}");
    }

    #[test]
    fn the_best_peer_is_the_best_of_each_program() {
        let mut table = table([50, 50, 50, 50, 50]);
        for round in 1..=3 {
            let ns = if round == 1 { 280 } else { 40 };
            table.samples.push(sample("yield", "may", round, ns));
            // Nobody can wait there: not asked.
            table.samples.push(sample("spawn", "rayon", round, 1));
        }
        assert_eq!(table.best_peer("yield"), Some("may"));
        assert_eq!(table.best_peer("spawn"), Some("tokio"));
        let rows = table.rows();
        assert!((rows[0].ratios["may"].median - 1.25).abs() < 1e-9);
        assert!((table.kpis()[1].value - 0.5).abs() < 1e-9);
        assert!(table.to_text().contains("*1.25 [1.25, 1.25]"));
    }

    #[test]
    fn a_wrong_result_is_no_ratio_and_fails() {
        let mut table = table([50; 5]);
        fail(&mut table, OURS, "invalid");
        assert!(table.kpis().is_empty());
        assert!(!table.is_right());
        let text = table.to_text();
        assert!(
            text.contains("invalid: skynet, ours: sum of leaves"),
            "{text}"
        );
        assert!(text.contains("no KPI values"), "{text}");
        let result = table.into_result().unwrap();
        assert_eq!(result.status().name(), "invalid");
    }

    #[test]
    fn what_is_beyond_a_peer_is_said_and_no_failure() {
        let mut table = table([50; 5]);
        fail(&mut table, "may", "cannot");
        assert!(table.is_right());
        assert_eq!(table.kpis().len(), 2);
        let result = table.into_result().unwrap();
        assert!(result.status().is_pass());
        let kpis: Vec<&str> = result.kpis().iter().map(|kpi| kpi.id()).collect();
        assert_eq!(kpis, KPIS);
        assert!(result.warnings()[0].contains("skynet, may"));
    }

    #[test]
    fn a_program_without_a_peer_leaves_no_kpi() {
        let mut table = table([50; 5]);
        table.samples.retain(|sample| sample.program != "chained");
        assert!(table.kpis().is_empty());
    }

    #[test]
    fn latencies_are_compared_at_p99_and_shown_in_microseconds() {
        let mut table = Table::default();
        for (runtime, p99_ns) in [(OURS, 40_000), ("tokio", 80_000)] {
            let latency = Some(Latency {
                p50_ns: 5_000,
                p99_ns,
                max_ns: 100_000,
            });
            table.samples.push(Sample {
                latency,
                ..sample("wake", runtime, 1, 1)
            });
        }
        assert!((table.rows()[0].ratios["tokio"].median - 0.5).abs() < 1e-9);
        let text = table.to_text();
        assert!(text.contains("40.0 (5.0)"), "{text}");
        assert!(text.contains("1 rounds are too few"), "{text}");
        assert!(table.to_csv().ends_with(",5000,80000,100000\n"));
    }

    #[test]
    fn the_filter_selects_by_name_and_row() {
        for filter in [None, Some("sched"), Some("vs_tokio"), Some("schedule/")] {
            assert!(planned(filter).selected, "{filter:?}");
        }
        assert!(!planned(Some("jit/")).selected);
    }

    #[test]
    fn what_the_peers_write_is_read() {
        let script = r#"
            echo '{"event":"started","index":0,"total":2,"id":"warm-up"}'
            echo '{"event":"note","text":"busy"}'
            echo '{"event":"row","row":{"program":"yield","is_kpi":true,"runtime":"ours","round":1,"status":"ok","ops":4,"wall_ns":8,"cpu_ns":9}}'
            echo '{"event":"row","row":{"program":"skynet","is_kpi":true,"runtime":"may","round":0,"status":"cannot","reason":"stacks"}}'
        "#;
        let dir = std::env::temp_dir().join(format!("xtask-peers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("peers");
        crate::scripts::write(&path, &format!("#!/bin/sh\n{script}"));
        let order = Order {
            program: &path,
            go: None,
            filter: None,
            rounds: 1,
            quick: true,
            kpi: true,
            wall: None,
        };
        let interrupt = Interrupt::of(Arc::default());
        let mut rounds = Vec::new();
        let run = run(&order, &interrupt, |_, _, id| rounds.push(id.to_owned())).unwrap();
        let Run::Measured(table, end) = run else {
            panic!("something was selected");
        };
        assert_eq!((end, rounds), (End::Done, vec!["warm-up".to_owned()]));
        assert_eq!(table.median("yield", OURS, Sample::value), Some(2.0));
        assert_eq!(table.notes, ["busy"]);
        assert_eq!(table.complaints(), ["cannot: skynet, may: stacks"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
