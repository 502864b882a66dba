//! Aligned tables for people.
//!
//! Only the first column of a table, which holds names, ever gives way to a narrow
//! terminal: it is shortened in its middle. Numbers are never cut; when they alone
//! exceed the width, the table does, too.

use std::fmt::Write as _;

use crate::baseline::Moved;
use crate::fingerprint::{Context, UNKNOWN};
use crate::gate::{Calibration, GateReport, Verdict};
use crate::kpi::KpiEntry;
use crate::metrics::Metrics;
use crate::report::Report;
use crate::result::BenchmarkResult;
use crate::sample::Event;
use crate::units::{Unit, format_number};

/// Columns to aim at when the width of the output is not known.
pub const DEFAULT_WIDTH: usize = 100;

/// Stands where there is no value.
const ABSENT: &str = "-";

/// The whole report: circumstances, results, metrics, warnings, KPI table; of a gate
/// alone, only what it has. The last line counts the verdicts.
#[must_use]
pub fn report(report: &Report, width: usize) -> String {
    let mut out = context(&report.context);
    let is_gate_alone = report.gate.is_some() && report.benchmarks.is_empty();
    if !is_gate_alone {
        out.push('\n');
        out.push_str(&results(&report.benchmarks, width));
    }
    let metrics = metrics_table(&report.benchmarks);
    if !metrics.rows.is_empty() {
        out.push('\n');
        out.push_str(&metrics.render(width));
    }
    let percentiles = percentiles_table(&report.benchmarks);
    if !percentiles.rows.is_empty() {
        out.push('\n');
        out.push_str(&percentiles.render(width));
    }
    if let Some(gate) = &report.gate {
        out.push('\n');
        out.push_str(&comparisons(gate, width));
    }
    if !report.warnings.is_empty() {
        out.push('\n');
        for warning in &report.warnings {
            line(&mut out, format_args!("warning: {warning}"));
        }
    }
    out.push('\n');
    match &report.gate {
        Some(gate) if is_gate_alone && report.kpis.is_empty() => {
            line(&mut out, format_args!("gate: {}", gate.verdicts()));
        }
        _ => {
            out.push_str(&kpis(&report.kpis, width));
            line(&mut out, format_args!("KPIs: {}", report.kpi_counts()));
        }
    }
    out
}

/// A table with one row per result, then one line per result that did not pass
/// and per warning.
#[must_use]
pub fn results(results: &[BenchmarkResult], width: usize) -> String {
    let mut table = Table::new(&[
        "benchmark",
        "n",
        "min",
        "median",
        "mad",
        "p99",
        "ops/s",
        "status",
    ]);
    for result in results {
        let unit = result.primary_event().map_or(Unit::Count, Event::unit);
        let show = |value: f64| unit.of(value).to_string();
        let summary = result.summary();
        table.row([
            result.id().to_string(),
            optional(summary, |s| s.n.to_string()),
            optional(summary, |s| show(s.min)),
            optional(summary, |s| show(s.median)),
            optional(summary, |s| show(s.mad)),
            optional(summary, |s| show(s.p99)),
            optional(result.throughput(), |rate| {
                Unit::PerSecond.of(rate).to_string()
            }),
            result.status().name().to_owned(),
        ]);
    }
    let mut out = table.render(width);
    for result in results {
        if let Some(reason) = result.status().reason() {
            let status = result.status().name();
            // Panics of assertions have several lines.
            let reason = reason.replace('\n', "\n  ");
            line(
                &mut out,
                format_args!("{status}: {}: {reason}", result.id()),
            );
        }
        for warning in result.warnings() {
            line(
                &mut out,
                format_args!("warning: {}: {warning}", result.id()),
            );
        }
    }
    out
}

/// One result: a heading, its metrics, and what went wrong.
#[must_use]
pub fn result(result: &BenchmarkResult) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!("{}: {}", result.id(), result.status().name()),
    );
    if let Some(reason) = result.status().reason() {
        line(&mut out, format_args!("  reason: {reason}"));
    }
    for warning in result.warnings() {
        line(&mut out, format_args!("  warning: {warning}"));
    }
    if let Some(summary) = result.summary() {
        let unit = result.primary_event().map_or(Unit::Count, Event::unit);
        line(
            &mut out,
            format_args!(
                "  per iteration: median {}, min {}, p99 {} ({} samples)",
                unit.of(summary.median),
                unit.of(summary.min),
                unit.of(summary.p99),
                summary.n
            ),
        );
    }
    for metrics in result.metrics() {
        line(
            &mut out,
            format_args!("  {}: {}", metrics.name(), headline(metrics)),
        );
        for custom in metrics.customs() {
            line(
                &mut out,
                format_args!(
                    "    {}: {} ({} is better)",
                    custom.name(),
                    custom.unit().of(custom.value()),
                    custom.direction()
                ),
            );
        }
    }
    for curve in result.curves() {
        line(
            &mut out,
            format_args!(
                "  {}: median {}, p99 {}, max {} ({} values)",
                curve.name(),
                curve.unit().of(curve.at(0.5)),
                curve.unit().of(curve.at(0.99)),
                curve.unit().of(curve.max()),
                curve.count()
            ),
        );
    }
    for kpi in result.kpis() {
        line(
            &mut out,
            format_args!("  KPI {}: {}", kpi.id(), kpi.unit().of(kpi.value())),
        );
    }
    out
}

/// A table with one row per distribution of single values.
fn percentiles_table(results: &[BenchmarkResult]) -> Table {
    let mut table = Table::new(&["distribution", "n", "p50", "p90", "p99", "p99.9", "max"]);
    for result in results {
        for curve in result.curves() {
            let show = |value: f64| curve.unit().of(value).to_string();
            table.row([
                format!("{} {}", result.id(), curve.name()),
                curve.count().to_string(),
                show(curve.at(0.5)),
                show(curve.at(0.9)),
                show(curve.at(0.99)),
                show(curve.at(0.999)),
                show(curve.max()),
            ]);
        }
    }
    table
}

/// The comparison with another build: a table, a line per reason, then how often
/// such a verdict is wrong.
#[must_use]
pub fn comparisons(gate: &GateReport, width: usize) -> String {
    let mut table = Table::new(&[
        "compared", "pairs", "base", "change", "ratio", "99 %", "verdict",
    ]);
    for comparison in &gate.comparisons {
        let time = |ns| optional(ns, |ns| Unit::Nanosecond.of(ns).to_string());
        table.row([
            comparison.id.clone(),
            comparison.pairs().count().to_string(),
            time(comparison.base_ns()),
            time(comparison.change_ns()),
            optional(comparison.ratio, |ratio| format!("{ratio:.4}")),
            optional(comparison.interval, |i| {
                format!("{:.4} to {:.4}", i.lo, i.hi)
            }),
            match comparison.advisory {
                true => format!("{}, advisory", comparison.verdict),
                false => comparison.verdict.to_string(),
            },
        ]);
    }
    let mut out = table.render(width);
    for comparison in &gate.comparisons {
        if comparison.verdict != Verdict::Unchanged || comparison.cause.is_some() {
            let cause = comparison
                .cause
                .map_or(String::new(), |cause| format!(" ({cause})"));
            line(
                &mut out,
                format_args!(
                    "{}{cause}: {}: {}",
                    comparison.verdict, comparison.id, comparison.reason
                ),
            );
        }
        for warning in &comparison.warnings {
            line(
                &mut out,
                format_args!("warning: {}: {warning}", comparison.id),
            );
        }
    }
    out.push('\n');
    out.push_str(&calibration(&gate.calibration, width));
    out
}

/// Measured error rates of the gate: a table with Wilson's intervals at 95 %, or
/// one line if they were never measured here.
#[must_use]
pub fn calibration(rows: &[Calibration], width: usize) -> String {
    if rows.is_empty() {
        return "error rates of this gate: not measured on this machine\n".to_owned();
    }
    let mut table = Table::new(&[
        "error rates",
        "gates",
        "alarms",
        "confirmed",
        "s each",
        "finds",
    ]);
    for row in rows {
        let mut finds: Vec<String> = row.detection.iter().map(ToString::to_string).collect();
        if row.is_advisory() {
            finds.push("advisory".to_owned());
        }
        table.row([
            row.id.clone(),
            row.confirmed_alarms.trials.to_string(),
            row.screen_alarms.to_string(),
            row.confirmed_alarms.to_string(),
            format!("{:.1}", row.seconds),
            finds.join(", "),
        ]);
    }
    table.render(width)
}

/// Values beside those of a stored run.
#[must_use]
pub fn moved(values: &[Moved], width: usize) -> String {
    let mut table = Table::new(&["beside the baseline", "unit", "then", "now", "ratio", "is"]);
    for value in values {
        table.row([
            value.id.clone(),
            value.unit.symbol().to_owned(),
            format_number(value.before),
            format_number(value.now),
            optional(value.ratio(), |ratio| format!("{ratio:.3}")),
            value.word().to_owned(),
        ]);
    }
    table.render(width)
}

fn headline(metrics: &Metrics) -> String {
    let elapsed = Unit::Nanosecond.of(metrics.elapsed_ns() as f64);
    let mut text = format!("{} operations in {elapsed}", metrics.operations());
    if let (Some(rate), Some(latency)) = (metrics.throughput(), metrics.latency_ns()) {
        let _ = write!(
            text,
            ", {}, {} each",
            Unit::PerSecond.of(rate),
            Unit::Nanosecond.of(latency)
        );
    }
    text
}

/// The KPI table, every row in its own unit so that value and bounds compare at
/// a glance.
#[must_use]
pub fn kpis(entries: &[KpiEntry], width: usize) -> String {
    let mut table = Table::new(&["id", "value", "unit", "requirement", "bar", "verdict"]);
    for entry in entries {
        table.row([
            entry.id.clone(),
            optional(entry.value, format_number),
            entry.unit.to_string(),
            // Bounds as they stand in the table, not rounded.
            optional(entry.requirement, |bound| bound.to_string()),
            optional(entry.bar, |bound| bound.to_string()),
            entry.verdict.to_string(),
        ]);
    }
    table.render(width)
}

fn context(context: &Context) -> String {
    let machine = &context.fingerprint;
    let cores = optional(machine.cores, |cores| cores.to_string());
    let virt = match machine.virt {
        Some(true) => "virtual machine",
        Some(false) => "bare metal",
        None => "virtualisation unknown",
    };
    let dirty = match context.git.dirty {
        Some(true) => " with local changes",
        Some(false) => "",
        None if context.git.revision == UNKNOWN => "",
        None => " (local changes unknown)",
    };
    let aslr = match context.aslr {
        Some(true) => "on",
        Some(false) => "off",
        None => UNKNOWN,
    };
    let load = optional(context.load, |load| format!("{load:.2}"));
    let seed = optional(context.seed, |seed| seed.to_string());
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "machine  {} ({}), {cores} cores, {virt}",
            machine.cpu, machine.arch
        ),
    );
    line(
        &mut out,
        format_args!(
            "system   {}, clock {}, load {load}, ASLR {aslr}",
            machine.kernel, machine.clock
        ),
    );
    line(
        &mut out,
        format_args!(
            "build    {}, profile {}, revision {}{dirty}, layout {}, seed {seed}",
            context.rustc, context.profile, context.git.revision, context.layout
        ),
    );
    out
}

fn metrics_table(results: &[BenchmarkResult]) -> Table {
    let mut table = Table::new(&["benchmark: metrics", "metric", "value", "better"]);
    for result in results {
        for metrics in result.metrics() {
            let name = format!("{}: {}", result.id(), metrics.name());
            if let Some(latency) = metrics.latency_ns() {
                table.row([
                    name.clone(),
                    "latency".to_owned(),
                    Unit::Nanosecond.of(latency).to_string(),
                    "lower".to_owned(),
                ]);
            }
            for custom in metrics.customs() {
                table.row([
                    name.clone(),
                    custom.name().to_owned(),
                    custom.unit().of(custom.value()).to_string(),
                    custom.direction().to_string(),
                ]);
            }
        }
    }
    table
}

fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| ABSENT.to_owned(), show)
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The first column and the last are words and go left, those between go right.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: usize = 2;

/// A name shortened further than this says nothing.
const NAME_WIDTH_MIN: usize = 16;

impl Table {
    fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len());
        self.rows.push(cells.into());
    }

    fn render(&self, width: usize) -> String {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let mut widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                all()
                    .map(|row| chars(&row[column]))
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        let others: usize = widths[1..].iter().map(|width| width + GAP).sum();
        widths[0] = widths[0].min(width.saturating_sub(others).max(NAME_WIDTH_MIN));

        let mut out = String::new();
        for (index, row) in all().enumerate() {
            let mut text = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    let _ = write!(text, "{:<width$}", shorten(cell, width));
                } else if column == row.len() - 1 {
                    let _ = write!(text, "{:GAP$}{cell}", "");
                } else {
                    let _ = write!(text, "{:GAP$}{cell:>width$}", "");
                }
            }
            line(&mut out, format_args!("{}", text.trim_end()));
            if index == 0 {
                let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
                line(&mut out, format_args!("{}", rules.join("  ")));
            }
        }
        out
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// Keeps both ends, since ids differ in group as well as in parameters.
fn shorten(text: &str, width: usize) -> String {
    let length = chars(text);
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(2);
    let head = kept.div_ceil(2);
    let tail = kept - head;
    text.chars()
        .take(head)
        .chain("..".chars())
        .chain(text.chars().skip(length - tail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "value", "unit"]);
        table.row([
            "group/a_rather_long_function/n=100".to_owned(),
            "1.5".to_owned(),
            "us".to_owned(),
        ]);
        table.row(["short".to_owned(), "1000".to_owned(), "ns".to_owned()]);
        table
    }

    #[test]
    fn columns_align() {
        assert_eq!(
            table().render(100),
            "\
name                                value  unit
----------------------------------  -----  ----
group/a_rather_long_function/n=100    1.5  us
short                                1000  ns
"
        );
    }

    #[test]
    fn a_narrow_table_shortens_names_and_keeps_numbers() {
        assert_eq!(
            table().render(33),
            "\
name                  value  unit
--------------------  -----  ----
group/a_r..ion/n=100    1.5  us
short                  1000  ns
"
        );
    }

    #[test]
    fn no_width_at_all_is_no_panic() {
        for width in 0..40 {
            let text = table().render(width);
            assert!(text.contains("1000  ns"), "{text}");
        }
    }

    #[test]
    fn wide_characters_are_cut_between_characters() {
        assert_eq!(
            shorten("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 4),
            "\u{e9}..\u{e9}"
        );
    }
}
