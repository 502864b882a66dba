//! JUnit XML: benchmarks, comparisons and KPI rows as test cases.
//!
//! | Here | There |
//! |---|---|
//! | regressed; a KPI that misses its requirement | failure |
//! | inconclusive; interrupted; a KPI without a value | skipped |
//! | invalid; a benchmark that failed | error |
//! | all else | passed |
//!
//! An advisory comparison never fails. Elements and attributes are those that the
//! schema of Jenkins' xUnit plugin knows (junit-10.xsd).

use std::fmt::Write as _;

use crate::gate::{Comparison, Verdict};
use crate::kpi::{KpiEntry, Verdict as KpiVerdict};
use crate::report::Report;
use crate::report::markup::Escaped;
use crate::result::{BenchmarkResult, Status};

/// How a test case ends: the element, its type and its message.
struct Case {
    name: String,
    end: Option<(&'static str, &'static str, String)>,
    output: Option<String>,
}

/// The document of a report.
#[must_use]
pub fn write(report: &Report) -> String {
    let suites = [
        (
            "benchmarks",
            report.benchmarks.iter().map(measured).collect(),
        ),
        (
            "comparisons",
            report.comparisons().iter().map(compared).collect(),
        ),
        (
            "kpis",
            report.kpis.iter().map(judged).collect::<Vec<Case>>(),
        ),
    ];
    let total = |element| {
        let cases = suites.iter().flat_map(|(_, cases)| cases);
        count(cases, element)
    };
    let tests: usize = suites.iter().map(|(_, cases)| cases.len()).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"benchmarks\" tests=\"{tests}\" failures=\"{}\" errors=\"{}\">",
        total("failure"),
        total("error")
    );
    for (suite, cases) in &suites {
        if cases.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            cases.len(),
            count(cases, "failure"),
            count(cases, "error"),
            count(cases, "skipped")
        );
        for case in cases {
            write_case(&mut out, suite, case);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn count<'a>(cases: impl IntoIterator<Item = &'a Case>, element: &str) -> usize {
    let ends = cases.into_iter().filter_map(|case| case.end.as_ref());
    ends.filter(|(found, ..)| *found == element).count()
}

fn write_case(out: &mut String, suite: &str, case: &Case) {
    let name = Escaped(&case.name);
    let _ = write!(out, "    <testcase classname=\"{suite}\" name=\"{name}\"");
    if case.end.is_none() && case.output.is_none() {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    if let Some((element, kind, message)) = &case.end {
        let message = Escaped(message);
        let _ = writeln!(
            out,
            "      <{element} type=\"{kind}\" message=\"{message}\"/>"
        );
    }
    if let Some(output) = &case.output {
        let _ = writeln!(out, "      <system-out>{}</system-out>", Escaped(output));
    }
    out.push_str("    </testcase>\n");
}

fn measured(result: &BenchmarkResult) -> Case {
    let end = match result.status() {
        Status::Pass => None,
        Status::Fail { reason } | Status::Invalid { reason } => {
            Some(("error", result.status().name(), reason.clone()))
        }
        Status::Interrupted { reason } => Some(("skipped", result.status().name(), reason.clone())),
    };
    let warnings = result.warnings();
    Case {
        name: result.id().to_string(),
        end,
        output: (!warnings.is_empty()).then(|| warnings.join("\n")),
    }
}

fn compared(comparison: &Comparison) -> Case {
    let reason = || match comparison.cause {
        Some(cause) => format!("{} ({cause})", comparison.reason),
        None => comparison.reason.clone(),
    };
    let element = match comparison.verdict {
        Verdict::Improved | Verdict::Unchanged => None,
        Verdict::Invalid => Some("error"),
        Verdict::Regressed | Verdict::Inconclusive if comparison.advisory => Some("skipped"),
        Verdict::Regressed => Some("failure"),
        Verdict::Inconclusive => Some("skipped"),
    };
    let mut output = vec![format!("{}: {}", comparison.verdict, reason())];
    output.extend(comparison.warnings.iter().cloned());
    Case {
        name: comparison.id.clone(),
        end: element.map(|element| (element, comparison.verdict.name(), reason())),
        output: Some(output.join("\n")),
    }
}

fn judged(kpi: &KpiEntry) -> Case {
    let bound = |bound: Option<f64>| {
        bound.map_or("none".to_owned(), |bound| format!("{bound} {}", kpi.unit))
    };
    let value = kpi.value.map_or("not measured".to_owned(), |value| {
        format!("{value} {}", kpi.unit)
    });
    let mut message = format!(
        "{value}; requirement {}, bar {}",
        bound(kpi.requirement),
        bound(kpi.bar)
    );
    if let Some(reason) = &kpi.reason {
        let _ = write!(message, "; {reason}");
    }
    let element = match kpi.verdict {
        KpiVerdict::Pass | KpiVerdict::BelowBar => None,
        KpiVerdict::Fail => Some("failure"),
        KpiVerdict::Missing => Some("skipped"),
    };
    Case {
        name: kpi.id.clone(),
        end: element.map(|element| (element, kpi.verdict.name(), message.clone())),
        output: element
            .is_none()
            .then(|| format!("{}: {message}", kpi.verdict)),
    }
}
