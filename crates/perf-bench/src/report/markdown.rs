//! Markdown for a comment on a change or the summary of a CI job: the verdict
//! first, then what moved, by magnitude; the rest folded away.

use std::fmt::Write as _;

use crate::gate::{Calibration, Comparison, GateReport, Verdict};
use crate::kpi::Verdict as KpiVerdict;
use crate::report::Report;
use crate::report::markup::Escaped;
use crate::units::{Unit, format_number};

/// The page of a report.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut out = String::new();
    if let Some(gate) = &report.gate {
        write_gate(&mut out, gate);
    }
    write_benchmarks(&mut out, report);
    write_kpis(&mut out, report);
    for warning in &report.warnings {
        let _ = writeln!(out, "> warning: {}\n", Cell(warning));
    }
    write_environment(&mut out, report);
    out
}

/// Text that stays in its table cell and is no markup.
struct Cell<'a>(&'a str);

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = Escaped(self.0).to_string().replace('\n', " ");
        for character in text.chars() {
            if matches!(character, '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~') {
                f.write_str("\\")?;
            }
            std::fmt::Write::write_char(f, character)?;
        }
        Ok(())
    }
}

fn write_gate(out: &mut String, gate: &GateReport) {
    let verdict = match gate.exit_code() {
        0 => "No regression",
        1 => "Regressed",
        _ => "Not clear",
    };
    let _ = writeln!(out, "## {verdict}: {}\n", gate.verdicts());

    let mut sorted: Vec<&Comparison> = gate.comparisons.iter().collect();
    let magnitude = |comparison: &Comparison| comparison.ratio.map_or(0.0, |r| r.ln().abs());
    sorted.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));
    let (quiet, moved): (Vec<_>, Vec<_>) = sorted
        .into_iter()
        .partition(|c| c.verdict == Verdict::Unchanged && c.cause.is_none());
    write_comparisons(out, &moved);
    for comparison in &moved {
        let _ = writeln!(
            out,
            "- **{}** {}: {}",
            comparison.verdict,
            Cell(&comparison.id),
            Cell(&comparison.reason)
        );
    }
    let warned = gate.comparisons.iter();
    for (comparison, warning) in warned.flat_map(|c| c.warnings.iter().map(move |w| (c, w))) {
        let _ = writeln!(
            out,
            "- warning: {}: {}",
            Cell(&comparison.id),
            Cell(warning)
        );
    }
    out.push('\n');
    if !quiet.is_empty() {
        fold(out, &format!("{} unchanged", quiet.len()), |out| {
            write_comparisons(out, &quiet);
        });
    }
    fold(out, "Error rates of this gate", |out| {
        write_calibration(out, &gate.calibration);
    });
    if let Some(command) = &gate.reproduce {
        let _ = writeln!(out, "Reproduce: <code>{}</code>\n", Escaped(command));
    }
}

fn write_comparisons(out: &mut String, comparisons: &[&Comparison]) {
    if comparisons.is_empty() {
        return;
    }
    out.push_str("| benchmark | base | change | difference \\[99 %\\] | Ir | verdict |\n");
    out.push_str("|---|--:|--:|--:|--:|---|\n");
    for comparison in comparisons {
        let time =
            |ns: Option<f64>| ns.map_or("-".to_owned(), |ns| Unit::Nanosecond.of(ns).to_string());
        let ratio = match (comparison.ratio, comparison.interval) {
            (Some(ratio), Some(interval)) => format!(
                "{} \\[{}, {}\\]",
                percent(ratio),
                percent(interval.lo),
                percent(interval.hi)
            ),
            _ => "-".to_owned(),
        };
        let ir = comparison
            .ir_delta
            .map_or("-".to_owned(), |delta| percent(1.0 + delta));
        let cause = comparison
            .cause
            .map_or(String::new(), |cause| format!(" ({cause})"));
        let advisory = if comparison.advisory {
            ", advisory"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {ratio} | {ir} | {}{cause}{advisory} |",
            Cell(&comparison.id),
            time(comparison.base_ns()),
            time(comparison.change_ns()),
            comparison.verdict
        );
    }
    out.push('\n');
}

/// A ratio as a change in percent, with its sign.
fn percent(ratio: f64) -> String {
    format!("{:+.2} %", 100.0 * (ratio - 1.0))
}

fn write_calibration(out: &mut String, calibration: &[Calibration]) {
    if calibration.is_empty() {
        out.push_str("Not measured on this machine.\n");
        return;
    }
    out.push_str("| benchmark | equal code, first stage | confirmed | found | s |\n");
    out.push_str("|---|--:|--:|---|--:|\n");
    for row in calibration {
        let found: Vec<String> = row.detection.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.1} |",
            Cell(&row.id),
            Cell(&row.screen_alarms.to_string()),
            Cell(&row.confirmed_alarms.to_string()),
            Cell(&found.join("; ")),
            row.seconds
        );
    }
}

fn write_benchmarks(out: &mut String, report: &Report) {
    if report.benchmarks.is_empty() {
        return;
    }
    let bad = report.benchmarks.iter().filter(|r| !r.status().is_pass());
    for result in bad {
        let _ = writeln!(
            out,
            "- **{}** {}: {}",
            result.status().name(),
            Cell(&result.id().to_string()),
            Cell(result.status().reason().unwrap_or_default())
        );
    }
    out.push('\n');
    fold(
        out,
        &format!("{} benchmarks", report.benchmarks.len()),
        |out| {
            out.push_str("| benchmark | n | median | MAD | p99 | throughput | status |\n");
            out.push_str("|---|--:|--:|--:|--:|--:|---|\n");
            for result in &report.benchmarks {
                let unit = result
                    .primary_event()
                    .map_or(Unit::Count, |event| event.unit());
                let show = |value: f64| unit.of(value).to_string();
                let cells = result.summary().map_or("0 | - | - | -".to_owned(), |s| {
                    format!(
                        "{} | {} | {} | {}",
                        s.n,
                        show(s.median),
                        show(s.mad),
                        show(s.p99)
                    )
                });
                let rate = result
                    .throughput()
                    .map_or("-".to_owned(), |rate| Unit::PerSecond.of(rate).to_string());
                let _ = writeln!(
                    out,
                    "| {} | {cells} | {rate} | {} |",
                    Cell(&result.id().to_string()),
                    result.status().name()
                );
            }
        },
    );
}

fn write_kpis(out: &mut String, report: &Report) {
    if report.kpis.is_empty() {
        return;
    }
    let title = format!("KPIs: {}", report.kpi_counts());
    let failing = report
        .kpis
        .iter()
        .filter(|kpi| kpi.verdict == KpiVerdict::Fail);
    for kpi in failing {
        let _ = writeln!(out, "- **KPI** {} misses its requirement", Cell(&kpi.id));
    }
    out.push('\n');
    fold(out, &title, |out| {
        out.push_str("| KPI | value | unit | requirement | bar | verdict |\n");
        out.push_str("|---|--:|---|--:|--:|---|\n");
        for kpi in &report.kpis {
            let bound = |bound: Option<f64>| bound.map_or("-".to_owned(), |b| b.to_string());
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                Cell(&kpi.id),
                kpi.value.map_or("-".to_owned(), format_number),
                kpi.unit,
                bound(kpi.requirement),
                bound(kpi.bar),
                kpi.reason.as_deref().map_or_else(
                    || kpi.verdict.to_string(),
                    |reason| format!("{}: {}", kpi.verdict, Cell(reason))
                )
            );
        }
    });
}

fn write_environment(out: &mut String, report: &Report) {
    let context = &report.context;
    let machine = &context.fingerprint;
    fold(out, "Environment", |out| {
        let dirty = if context.git.dirty == Some(true) {
            " with local changes"
        } else {
            ""
        };
        let cores = machine
            .cores
            .map_or("?".to_owned(), |cores| cores.to_string());
        let lines = [
            format!("{}, {cores} CPUs, {}", machine.cpu, machine.arch),
            format!("{}, clock {}", machine.kernel, machine.clock),
            format!("{}, profile {}", context.rustc, context.profile),
            format!(
                "revision {}{dirty}, layout {}",
                context.git.revision, context.layout
            ),
        ];
        for line in lines {
            let _ = writeln!(out, "- {}", Cell(&line));
        }
    });
}

fn fold(out: &mut String, title: &str, body: impl FnOnce(&mut String)) {
    // GitHub renders Markdown inside HTML only after an empty line.
    let _ = writeln!(out, "<details><summary>{}</summary>\n", Escaped(title));
    body(out);
    out.push_str("\n</details>\n\n");
}
