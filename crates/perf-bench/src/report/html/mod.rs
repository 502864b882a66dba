//! One self-contained page: style and charts are inline, there is no script, and
//! nothing is loaded. It is well-formed XML inside, fits a phone, and follows the
//! reader's choice of dark or light.

mod plot;

use std::fmt::Write as _;

use self::plot::{Axis, ForestRow, Plot, bar, forest};
use crate::fingerprint::Context;
use crate::gate::{Calibration, Comparison, GateReport, Kind, Pair, Verdict};
use crate::histogram::PercentileCurve;
use crate::kpi::{KpiEntry, Verdict as KpiVerdict};
use crate::report::Report;
use crate::report::markup::Escaped;
use crate::result::{BenchmarkResult, Status};
use crate::sample::{Event, Phase, Sample};
use crate::stats::summary::Summary;
use crate::units::{Direction, Unit, format_number};

/// The page of a report.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut out = String::from(concat!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n",
        "<title>Benchmark report</title>\n<style>\n",
        include_str!("style.css"),
        "</style></head><body>\n<h1>Benchmark report</h1>\n",
    ));
    write_headline(&mut out, report);
    if let Some(gate) = &report.gate {
        write_gate(&mut out, gate);
    }
    write_kpis(&mut out, &report.kpis);
    write_benchmarks(&mut out, &report.benchmarks);
    if let Some(gate) = &report.gate {
        write_calibration(&mut out, &gate.calibration);
    }
    write_environment(&mut out, &report.context);
    out.push_str("</body></html>\n");
    out
}

const fn class_of(comparison: &Comparison) -> &'static str {
    match comparison.verdict {
        // Slower in some layouts: nothing to fail for, something to know.
        Verdict::Unchanged if comparison.cause.is_some() => "warn",
        verdict => class_of_verdict(verdict),
    }
}

const fn class_of_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Improved => "good",
        Verdict::Unchanged => "plain",
        Verdict::Regressed => "bad",
        Verdict::Inconclusive | Verdict::Invalid => "warn",
    }
}

const fn class_of_kpi(verdict: KpiVerdict) -> &'static str {
    match verdict {
        KpiVerdict::Pass => "good",
        KpiVerdict::BelowBar => "warn",
        KpiVerdict::Fail => "bad",
        KpiVerdict::Missing => "plain",
    }
}

fn class_of_status(result: &BenchmarkResult) -> &'static str {
    match result.status() {
        Status::Pass => "good",
        Status::Interrupted { .. } => "warn",
        Status::Fail { .. } | Status::Invalid { .. } => "bad",
    }
}

fn badge(class: &str, text: &str) -> String {
    format!("<span class=\"badge {class}\">{}</span>", Escaped(text))
}

/// What one must know without scrolling.
fn write_headline(out: &mut String, report: &Report) {
    out.push_str("<p>");
    if let Some(gate) = &report.gate {
        for verdict in [
            Verdict::Regressed,
            Verdict::Invalid,
            Verdict::Inconclusive,
            Verdict::Improved,
            Verdict::Unchanged,
        ] {
            let count = gate.count(verdict);
            if count > 0 {
                let text = format!("{count} {verdict}");
                let _ = write!(out, "{} ", badge(class_of_verdict(verdict), &text));
            }
        }
    }
    let failed = report
        .benchmarks
        .iter()
        .filter(|r| !r.status().is_pass())
        .count();
    if failed > 0 {
        let _ = write!(out, "{} ", badge("bad", &format!("{failed} did not pass")));
    }
    let counts = report.kpi_counts();
    for (count, verdict) in [
        (counts.fail, KpiVerdict::Fail),
        (counts.below_bar, KpiVerdict::BelowBar),
        (counts.pass, KpiVerdict::Pass),
        (counts.missing, KpiVerdict::Missing),
    ] {
        if count > 0 {
            let text = format!("KPIs: {count} {verdict}");
            let _ = write!(out, "{} ", badge(class_of_kpi(verdict), &text));
        }
    }
    out.push_str("</p>\n");
    for warning in &report.warnings {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", Escaped(warning));
    }
}

fn write_gate(out: &mut String, gate: &GateReport) {
    out.push_str("<section><h2>Change against base</h2>\n");
    let mut rows: Vec<&Comparison> = gate.comparisons.iter().collect();
    let magnitude = |c: &Comparison| c.ratio.map_or(0.0, |ratio| ratio.ln().abs());
    rows.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));

    let intervals: Vec<ForestRow<'_>> = rows
        .iter()
        .filter_map(|comparison| {
            let (ratio, interval) = comparison.ratio.zip(comparison.interval)?;
            Some(ForestRow {
                label: &comparison.id,
                class: class_of(comparison),
                value: percent(ratio),
                lo: percent(interval.lo),
                hi: percent(interval.hi),
            })
        })
        .collect();
    if !intervals.is_empty() {
        let plan = Kind::Compute.plan();
        let rules = [
            ("axis", 0.0),
            ("margin", percent(plan.margin.exp())),
            ("limit", percent(plan.limit.exp())),
        ];
        out.push_str(&forest(
            &intervals,
            &rules,
            tick_percent,
            signed_percent,
            &format!(
                "Time of the change over that of the base, with 99 % interval; right is slower. \
                 Dashed: {} and {}, the margin and the limit of code with one thread.",
                tick_percent(rules[1].1),
                tick_percent(rules[2].1)
            ),
        ));
    }
    for comparison in rows {
        write_comparison(out, comparison);
    }
    if let Some(control) = &gate.control {
        let text = match (control.ratio, control.interval) {
            (Some(ratio), Some(interval)) => format!(
                "Control, the same code on both sides: {} ({} to {}) over {} pairs{}.",
                signed_percent(percent(ratio)),
                signed_percent(percent(interval.lo)),
                signed_percent(percent(interval.hi)),
                control.pairs,
                if control.contaminated {
                    ": the runner is contaminated"
                } else {
                    ""
                }
            ),
            _ => "The control could not be measured.".to_owned(),
        };
        let _ = writeln!(out, "<p class=\"dim\">{}</p>", Escaped(text));
    }
    if let Some(command) = &gate.reproduce {
        let _ = writeln!(out, "<p>Reproduce: <code>{}</code></p>", Escaped(command));
    }
    out.push_str("</section>\n");
}

fn write_comparison(out: &mut String, comparison: &Comparison) {
    let quiet = comparison.verdict == Verdict::Unchanged && comparison.cause.is_none();
    let cause = comparison
        .cause
        .map_or(String::new(), |cause| format!(", {cause}"));
    let advisory = if comparison.advisory {
        ", advisory"
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<details{}><summary><code>{}</code> {}{}</summary>\n<p>{}.</p>",
        if quiet { "" } else { " open=\"open\"" },
        Escaped(&comparison.id),
        badge(
            class_of(comparison),
            &format!("{}{cause}{advisory}", comparison.verdict)
        ),
        comparison.ratio.map_or(String::new(), |ratio| format!(
            " <b>{}</b>",
            signed_percent(percent(ratio))
        )),
        Escaped(&comparison.reason),
    );
    for warning in &comparison.warnings {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", Escaped(warning));
    }
    let mut facts = Vec::new();
    if let (Some(base), Some(change)) = (comparison.base_ns(), comparison.change_ns()) {
        let time = |ns| Unit::Nanosecond.of(ns).to_string();
        facts.push(format!("base {}, change {}", time(base), time(change)));
        let pairs = comparison.pairs().count();
        facts.push(format!("{pairs} pairs, looks taken: {}", comparison.looks));
    }
    if let Some(p) = comparison.p {
        facts.push(format!("corrected p {}", format_number(p)));
    }
    if let Some(delta) = comparison.ir_delta {
        facts.push(format!("instructions {}", signed_percent(100.0 * delta)));
    }
    if !facts.is_empty() {
        let _ = writeln!(out, "<p class=\"dim\">{}</p>", Escaped(facts.join("; ")));
    }
    if comparison.pairs().next().is_some() {
        out.push_str("<div class=\"figures\">\n");
        out.push_str(&densities(comparison));
        out.push_str(&ratios(comparison));
        out.push_str("</div>\n");
    }
    out.push_str("</details>\n");
}

/// How the times of either side are distributed over processes.
fn densities(comparison: &Comparison) -> String {
    let side = |time: fn(&Pair) -> f64| -> Vec<f64> { comparison.pairs().map(time).collect() };
    let sides = [
        ("base", side(|pair| pair.base_ns)),
        ("change", side(|pair| pair.change_ns)),
    ];
    let all = || sides.iter().flat_map(|(_, times)| times.iter().copied());
    let (scale, unit) = time_scale(all().fold(0.0, f64::max));
    let x = Axis::around(all().map(|time| time / scale));
    let curves: Vec<_> = sides
        .iter()
        .map(|(name, times)| (*name, density(times, x, scale)))
        .collect();
    let heights = || {
        curves
            .iter()
            .flat_map(|(_, curve)| curve.iter().map(|(_, y)| *y))
    };
    // Room on top for the names.
    let top = heights().fold(0.0, f64::max) * 1.25;
    let mut plot = Plot::new(x, Axis::around([0.0, top]).from(0.0), 190.0);
    let ticks = x.ticks(4.0);
    for tick in ticks {
        plot.x_tick(tick, plain(tick));
    }
    plot.x_title(&format!("{unit} per iteration, one mark per process"));
    for (row, ((name, curve), (_, times))) in curves.iter().zip(&sides).enumerate() {
        plot.line(name, curve, true);
        for time in times {
            plot.rug(name, time / scale, row as f64);
        }
    }
    plot.note("base text", x.lo(), 0.0, "base");
    plot.note("change text", x.lo(), 1.0, "change");
    plot.figure("Density of the times of either side")
}

/// Gaussian kernel density, with Silverman's bandwidth.
fn density(times: &[f64], x: Axis, scale: f64) -> Vec<(f64, f64)> {
    const POINTS: u32 = 80;
    let Ok(summary) = Summary::of(times) else {
        return Vec::new();
    };
    // The narrower of two measures of spread; where one is zero, a single step of
    // the drawing.
    let step = x
        .points(POINTS)
        .nth(1)
        .map_or(1.0, |second| second - x.lo());
    let spread = summary.std_dev.unwrap_or(0.0).min(1.4826 * summary.mad) / scale;
    let bandwidth = (0.9 * spread * (times.len() as f64).powf(-0.2)).max(step);
    x.points(POINTS)
        .map(|at| {
            let kernels = times.iter().map(|time| {
                let z = (at - time / scale) / bandwidth;
                (-0.5 * z * z).exp()
            });
            (at, kernels.sum::<f64>() / (bandwidth * times.len() as f64))
        })
        .collect()
}

/// The ratio of every pair, in the order measured, stage by stage.
fn ratios(comparison: &Comparison) -> String {
    let values: Vec<f64> = comparison
        .pairs()
        .map(|pair| percent(pair.change_ns / pair.base_ns))
        .collect();
    let interval = comparison.interval.map(|i| (percent(i.lo), percent(i.hi)));
    let ends = interval.into_iter().flat_map(|(lo, hi)| [lo, hi]);
    let y = Axis::around(values.iter().copied().chain([0.0]).chain(ends));
    let x = Axis::around([-0.5, values.len() as f64 - 0.5]);
    let mut plot = Plot::new(x, y, 190.0);
    for tick in y.ticks(5.0) {
        plot.y_tick(tick, tick_percent(tick));
    }
    plot.x_title("pairs of processes, in the order measured");
    if let Some((lo, hi)) = interval {
        plot.y_band(class_of(comparison), lo, hi);
    }
    plot.y_rule("axis", 0.0);
    let mut begin = 0.0;
    for (name, pairs) in [
        ("screen", &comparison.screen),
        ("confirm", &comparison.confirm),
        ("relayout", &comparison.relayout),
    ] {
        if !pairs.is_empty() {
            if begin > 0.0 {
                plot.x_rule("margin", begin - 0.5);
            }
            plot.note("dim", begin - 0.5, -1.0, name);
            begin += pairs.len() as f64;
        }
    }
    for (index, value) in values.iter().enumerate() {
        let title = format!("pair {index}: {}", signed_percent(*value));
        plot.dot("point", index as f64, *value, &title);
    }
    plot.figure("Ratio of every pair; the band is the 99 % interval of the verdict")
}

fn write_kpis(out: &mut String, kpis: &[KpiEntry]) {
    if kpis.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>KPIs</h2>\n<p class=\"dim\">Each bar is logarithmic and better when \
         shorter. Solid mark: requirement; dashed: our bar.</p>\n\
         <div class=\"scroll\"><table><thead><tr><th>KPI</th><th>verdict</th><th></th>\
         <th class=\"n\">value</th><th class=\"n\">requirement</th><th class=\"n\">bar</th></tr>\
         </thead><tbody>\n",
    );
    for kpi in kpis {
        let class = class_of_kpi(kpi.verdict);
        let bound = |bound: Option<f64>| bound.map_or("\u{2013}".to_owned(), |b| b.to_string());
        let value = kpi.value.map_or("\u{2013}".to_owned(), format_number);
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td>\
             <td class=\"n\">{} <small>{}</small></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Escaped(&kpi.id),
            badge(class, kpi.verdict.name()),
            kpi_bar(kpi).unwrap_or_else(|| why_missing(kpi)),
            Escaped(value),
            Escaped(kpi.unit.symbol()),
            bound(kpi.requirement),
            bound(kpi.bar),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

/// Stands where the bar would be.
fn why_missing(kpi: &KpiEntry) -> String {
    let reason = kpi.reason.as_deref().unwrap_or_default();
    format!("<small>{}</small>", Escaped(reason))
}

/// The value against its bounds; `None` without value, bound or direction.
fn kpi_bar(kpi: &KpiEntry) -> Option<String> {
    let (value, direction) = kpi.value.zip(kpi.direction)?;
    let reference = kpi.requirement.or(kpi.bar)?;
    // How bad a number is: its ratio to the reference, upside down where more is
    // better; a percentage near 100 by what is missing.
    let cost = |number: f64| match direction {
        Direction::Lower => number / reference,
        Direction::Higher if kpi.unit == Unit::Percent && reference < 100.0 => {
            (100.0 - number) / (100.0 - reference)
        }
        Direction::Higher => reference / number,
    };
    // Four decades, three of them better than the reference.
    let share = |number: f64| {
        let cost = cost(number);
        if cost.is_nan() || cost <= 0.0 {
            // 0 of 0, or nothing missing: as good as can be.
            return if direction.meets(number, reference) {
                0.0
            } else {
                1.0
            };
        }
        ((cost.log10() + 3.0) / 4.0).clamp(0.0, 1.0)
    };
    let class = class_of_kpi(kpi.verdict);
    Some(bar(
        class,
        share(value),
        kpi.requirement.map(share),
        kpi.bar.map(share),
    ))
}

fn write_benchmarks(out: &mut String, results: &[BenchmarkResult]) {
    if results.is_empty() {
        return;
    }
    out.push_str("<section><h2>Benchmarks</h2>\n");
    for result in results {
        let unit = result.primary_event().map_or(Unit::Count, Event::unit);
        let summary = result.summary();
        let _ = writeln!(
            out,
            "<details{}><summary><code>{}</code> {} {}</summary>",
            if result.status().is_pass() {
                ""
            } else {
                " open=\"open\""
            },
            Escaped(result.id().to_string()),
            badge(class_of_status(result), result.status().name()),
            summary.map_or(String::new(), |s| format!("<b>{}</b>", unit.of(s.median)))
        );
        if let Some(reason) = result.status().reason() {
            let _ = writeln!(out, "<pre>{}</pre>", Escaped(reason));
        }
        for warning in result.warnings() {
            let _ = writeln!(out, "<p class=\"warning\">{}</p>", Escaped(warning));
        }
        if let Some(s) = summary {
            let _ = writeln!(
                out,
                "<p class=\"dim\">{} samples: min {}, q25 {}, median {}, p99 {}, max {}; MAD {}</p>",
                s.n,
                unit.of(s.min),
                unit.of(s.q25),
                unit.of(s.median),
                unit.of(s.p99),
                unit.of(s.max),
                unit.of(s.mad)
            );
        }
        write_metrics(out, result);
        let charts: String = std::iter::once(run_order(result))
            .flatten()
            .chain(result.curves().iter().map(percentiles))
            .collect();
        if !charts.is_empty() {
            let _ = writeln!(out, "<div class=\"figures\">\n{charts}</div>");
        }
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

fn write_metrics(out: &mut String, result: &BenchmarkResult) {
    let mut rows = String::new();
    for metrics in result.metrics() {
        let mut row = |name: &str, value: String| {
            let _ = writeln!(
                rows,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{value}</td></tr>",
                Escaped(metrics.name()),
                Escaped(name)
            );
        };
        if let Some(rate) = metrics.throughput() {
            row("throughput", Unit::PerSecond.of(rate).to_string());
        }
        if let Some(latency) = metrics.latency_ns() {
            row("latency", Unit::Nanosecond.of(latency).to_string());
        }
        for custom in metrics.customs() {
            row(custom.name(), custom.unit().of(custom.value()).to_string());
        }
    }
    if !rows.is_empty() {
        let _ = writeln!(
            out,
            "<div class=\"scroll\"><table><tbody>\n{rows}</tbody></table></div>"
        );
    }
}

/// Every sample of the primary event, in the order measured: drift and steps that a
/// summary hides.
fn run_order(result: &BenchmarkResult) -> Option<String> {
    /// More points than a chart has room for.
    const POINTS_MAX: usize = 400;
    let event = result.primary_event()?;
    let samples: Vec<(&Sample, f64)> = result
        .samples()
        .iter()
        .filter(|sample| sample.event == *event)
        .filter_map(|sample| Some((sample, sample.per_iter()?)))
        .collect();
    let stride = samples.len().div_ceil(POINTS_MAX).max(1);
    let measured = samples.iter().filter(|(s, _)| s.phase == Phase::Measure);
    let is_time = event.unit() == Unit::Nanosecond;
    let largest = measured
        .clone()
        .map(|(_, value)| *value)
        .fold(0.0, f64::max);
    let (scale, unit) = if is_time {
        time_scale(largest)
    } else {
        (1.0, event.name())
    };
    // Warm-up may be far off; it must not flatten the rest.
    let y = Axis::around(measured.map(|(_, value)| value / scale));
    let x = Axis::around([-0.5, samples.len() as f64 - 0.5]);
    let mut plot = Plot::new(x, y, 190.0);
    for tick in y.ticks(5.0) {
        plot.y_tick(tick, plain(tick));
    }
    let shown = match stride {
        1 => "samples, in the order measured".to_owned(),
        _ => format!("one of {stride} of {} samples", samples.len()),
    };
    plot.x_title(&format!("{shown}; {unit} per iteration"));
    let mut process = samples.first()?.0.process;
    for (index, (sample, value)) in samples.iter().enumerate() {
        if sample.process != process {
            process = sample.process;
            plot.x_rule("margin", index as f64 - 0.5);
        }
        if index % stride == 0 {
            let class = match sample.phase {
                Phase::Warmup => "point warmup",
                Phase::Measure => "point",
            };
            let title = format!(
                "process {}, {}: {}",
                sample.process,
                sample.phase.name(),
                event.unit().of(*value)
            );
            plot.dot(class, index as f64, value / scale, &title);
        }
    }
    Some(plot.figure("Run order; hollow points are warm-up, lines part processes"))
}

/// The values over quantiles, the tail stretched: every step right is ten times
/// rarer.
fn percentiles(curve: &PercentileCurve) -> String {
    let rarity = |quantile: f64| {
        // The largest of n values is as rare as one in n.
        let rest = (1.0 - quantile).max(1.0 / curve.count() as f64);
        -rest.log10()
    };
    let is_time = curve.unit() == Unit::Nanosecond;
    let (scale, unit) = if is_time {
        time_scale(curve.max())
    } else {
        (1.0, curve.unit().symbol())
    };
    let mut points: Vec<(f64, f64)> = vec![(0.0, curve.min())];
    points.extend(
        curve
            .points()
            .iter()
            .map(|point| (rarity(point.quantile), point.value)),
    );
    // A tail far above the median leaves nothing to see on a linear axis.
    let logarithmic = curve.min() > 0.0 && curve.max() > 20.0 * curve.at(0.5);
    let height = |value: f64| {
        if logarithmic {
            value.log10()
        } else {
            value / scale
        }
    };
    let last = points.last().map_or(1.0, |(x, _)| x.max(1.0));
    let y = Axis::around(points.iter().map(|(_, value)| height(*value)));
    let mut plot = Plot::new(Axis::around([0.0, last]).from(0.0), y, 190.0);
    for decade in 0..=last.floor() as i32 {
        let share = 100.0 * (1.0 - 10_f64.powi(-decade));
        let digits = usize::try_from(decade - 2).unwrap_or(0);
        plot.x_tick(f64::from(decade), format!("{share:.digits$}"));
    }
    if logarithmic {
        let (lo, hi) = (curve.min().log10().floor(), curve.max().log10().ceil());
        for decade in lo as i32..=hi as i32 {
            let at = f64::from(decade);
            if at >= curve.min().log10() && at <= curve.max().log10() {
                plot.y_tick(at, curve.unit().of(10_f64.powi(decade)));
            }
        }
    } else {
        for tick in y.ticks(5.0) {
            plot.y_tick(tick, plain(tick));
        }
    }
    let steps: Vec<(f64, f64)> = points
        .iter()
        .map(|(x, value)| (*x, height(*value)))
        .collect();
    plot.line("base", &steps, true);
    let axis = if logarithmic { "logarithmic" } else { unit };
    plot.x_title(&format!("percentile; {axis}, {} values", curve.count()));
    plot.figure(&format!(
        "{}: median {}, p99 {}, max {}",
        curve.name(),
        curve.unit().of(curve.at(0.5)),
        curve.unit().of(curve.at(0.99)),
        curve.unit().of(curve.max())
    ))
}

fn write_calibration(out: &mut String, calibration: &[Calibration]) {
    out.push_str("<section><h2>Error rates of this gate</h2>\n");
    if calibration.is_empty() {
        out.push_str("<p>Not measured on this machine.</p></section>\n");
        return;
    }
    out.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>benchmark</th>\
         <th class=\"n\">equal code, first stage</th><th class=\"n\">confirmed</th>\
         <th>slowdowns found</th><th class=\"n\">seconds</th></tr></thead><tbody>\n",
    );
    for row in calibration {
        let found: Vec<String> = row.detection.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{}</td><td class=\"n\">{:.1}</td></tr>",
            Escaped(&row.id),
            if row.is_advisory() {
                format!(" {}", badge("plain", "advisory"))
            } else {
                String::new()
            },
            row.screen_alarms,
            row.confirmed_alarms,
            found.join("<br/>"),
            row.seconds
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn write_environment(out: &mut String, context: &Context) {
    let machine = &context.fingerprint;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let dirty = match context.git.dirty {
        Some(true) => " with local changes",
        Some(false) | None => "",
    };
    let rows = [
        ("CPU", machine.cpu.clone()),
        ("architecture", machine.arch.clone()),
        (
            "CPUs",
            or_unknown(machine.cores.map(|cores| cores.to_string())),
        ),
        ("system", machine.kernel.clone()),
        ("clock", machine.clock.clone()),
        (
            "virtual machine",
            or_unknown(
                machine
                    .virt
                    .map(|virt| if virt { "yes" } else { "no" }.to_owned()),
            ),
        ),
        ("compiler", context.rustc.clone()),
        ("profile", context.profile.clone()),
        ("revision", format!("{}{dirty}", context.git.revision)),
        ("layout", context.layout.clone()),
        (
            "load",
            or_unknown(context.load.map(|load| load.to_string())),
        ),
        (
            "seed",
            or_unknown(context.seed.map(|seed| seed.to_string())),
        ),
    ];
    out.push_str("<section><h2>Environment</h2>\n<table><tbody>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", Escaped(value));
    }
    out.push_str("</tbody></table></section>\n");
}

/// The factor and the name of the unit that suit a time in nanoseconds.
fn time_scale(ns: f64) -> (f64, &'static str) {
    match ns {
        ns if ns >= 1e9 => (1e9, "s"),
        ns if ns >= 1e6 => (1e6, "ms"),
        ns if ns >= 1e3 => (1e3, "us"),
        _ => (1.0, "ns"),
    }
}

fn percent(ratio: f64) -> f64 {
    100.0 * (ratio - 1.0)
}

fn signed_percent(percent: f64) -> String {
    // Zero has no sign.
    if percent.abs() < 0.005 {
        return "0 %".to_owned();
    }
    let digits = usize::from(percent.abs() < 10.0) + usize::from(percent.abs() < 1.0);
    format!("{percent:+.digits$} %")
}

/// A round number without trailing zeros.
fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-6 {
        return format_number(value);
    }
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

fn tick_percent(percent: f64) -> String {
    let sign = if percent > 0.0 { "+" } else { "" };
    format!("{sign}{} %", plain(percent))
}
