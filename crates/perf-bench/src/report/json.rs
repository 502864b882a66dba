//! The `vm-bench.v1` document, schema in `schema/vm-bench.v1.schema.json`.
//!
//! The types here are the document's shape. They carry derived numbers (summary,
//! throughput) for readers in other languages; reading the document back ignores
//! those and derives them again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ReportError;
use crate::fingerprint::Context;
use crate::gate::GateReport;
use crate::histogram::PercentileCurve;
use crate::kpi::KpiEntry;
use crate::metrics::{CustomMetric, Metrics};
use crate::report::Report;
use crate::result::{AllocatedPerIter, BenchmarkId, BenchmarkResult, MeasuredKpi, Status};
use crate::sample::{Event, Sample};
use crate::stats::summary::Summary;
use crate::units::Unit;

/// Value of the document's `schema` key.
pub const SCHEMA: &str = "vm-bench.v1";

#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    context: Context,
    benchmarks: Vec<BenchmarkDocument>,
    kpis: Vec<KpiEntry>,
    /// Absent in documents of earlier versions.
    #[serde(default)]
    gate: Option<GateReport>,
    warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct BenchmarkDocument {
    id: String,
    group: String,
    function: String,
    params: Option<String>,
    threads: u32,
    status: StatusName,
    reason: Option<String>,
    warnings: Vec<String>,
    #[serde(skip_deserializing)]
    unit: Option<Unit>,
    #[serde(skip_deserializing)]
    summary: Option<Summary>,
    metrics: Vec<MetricsDocument>,
    kpis: Vec<MeasuredKpi>,
    samples: Vec<Sample>,
    /// Absent in documents of earlier versions.
    #[serde(default)]
    percentiles: Vec<PercentileCurve>,
    /// Absent in documents of earlier versions.
    #[serde(default)]
    allocated_per_iter: Option<AllocatedPerIter>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StatusName {
    Pass,
    Fail,
    Interrupted,
    Invalid,
}

#[derive(Serialize, Deserialize)]
struct MetricsDocument {
    name: String,
    elapsed_ns: u64,
    operations: u64,
    #[serde(skip_deserializing)]
    ops_per_s: Option<f64>,
    #[serde(skip_deserializing)]
    ns_per_op: Option<f64>,
    custom: Vec<CustomMetric>,
}

/// The report as a JSON document, indented, with a newline at the end.
///
/// No number in it is NaN or infinite: what could be is refused where it is
/// recorded or absent where it is derived, and absent numbers are `null`.
#[must_use]
pub fn write(report: &Report) -> String {
    let document = Document {
        schema: SCHEMA.to_owned(),
        context: report.context.clone(),
        benchmarks: report.benchmarks.iter().map(to_document).collect(),
        kpis: report.kpis.clone(),
        gate: report.gate.clone(),
        warnings: report.warnings.clone(),
    };
    let mut text = serde_json::to_string_pretty(&document)
        .expect("keys are strings and no serializer of ours fails");
    text.push('\n');
    text
}

/// Reads a document of [`SCHEMA`].
///
/// # Errors
/// If the text is not JSON, names another schema, or has another shape.
pub fn read(text: &str) -> Result<Report, ReportError> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        schema: String,
    }
    // Before the shape: a document of another version deserves to hear that, and
    // not which key is missing.
    let probe: Probe = serde_json::from_str(text).map_err(malformed)?;
    if probe.schema != SCHEMA {
        return Err(ReportError::Schema {
            found: probe.schema,
        });
    }
    let document: Document = serde_json::from_str(text).map_err(malformed)?;
    if let Some(flaw) = document.gate.as_ref().and_then(GateReport::flaw) {
        return Err(malformed(flaw));
    }
    Ok(Report {
        context: document.context,
        benchmarks: document
            .benchmarks
            .into_iter()
            .map(from_document)
            .collect::<Result<_, _>>()?,
        kpis: document.kpis,
        gate: document.gate,
        warnings: document.warnings,
    })
}

fn malformed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Malformed {
        message: error.to_string(),
    }
}

fn to_document(result: &BenchmarkResult) -> BenchmarkDocument {
    BenchmarkDocument {
        id: result.id.to_string(),
        group: result.id.group().to_owned(),
        function: result.id.function().to_owned(),
        params: result.id.params().map(str::to_owned),
        threads: result.threads,
        status: match result.status {
            Status::Pass => StatusName::Pass,
            Status::Fail { .. } => StatusName::Fail,
            Status::Interrupted { .. } => StatusName::Interrupted,
            Status::Invalid { .. } => StatusName::Invalid,
        },
        reason: result.status.reason().map(str::to_owned),
        warnings: result.warnings.clone(),
        unit: result.primary_event().map(Event::unit),
        summary: result.summary(),
        metrics: result
            .metrics
            .iter()
            .map(|metrics| MetricsDocument {
                name: metrics.name().to_owned(),
                elapsed_ns: metrics.elapsed_ns(),
                operations: metrics.operations(),
                ops_per_s: metrics.throughput(),
                ns_per_op: metrics.latency_ns(),
                custom: metrics.customs().to_vec(),
            })
            .collect(),
        kpis: result.kpis.clone(),
        samples: result.samples.clone(),
        percentiles: result.curves.clone(),
        allocated_per_iter: result.allocated,
    }
}

fn from_document(document: BenchmarkDocument) -> Result<BenchmarkResult, ReportError> {
    let reason = document.reason.unwrap_or_default();
    let id: BenchmarkId = document.id.parse().map_err(malformed)?;
    if let Some(curve) = document.percentiles.iter().find(|c| !c.is_sound()) {
        return Err(malformed(format_args!(
            "{id}: the percentiles of {:?} do not ascend to 1",
            curve.name()
        )));
    }
    Ok(BenchmarkResult {
        id,
        threads: document.threads,
        status: match document.status {
            StatusName::Pass => Status::Pass,
            StatusName::Fail => Status::Fail { reason },
            StatusName::Interrupted => Status::Interrupted { reason },
            StatusName::Invalid => Status::Invalid { reason },
        },
        metrics: document
            .metrics
            .into_iter()
            .map(|metrics| {
                Metrics::restore(
                    metrics.name,
                    Duration::from_nanos(metrics.elapsed_ns),
                    metrics.operations,
                    metrics.custom,
                )
            })
            .collect(),
        samples: document.samples,
        curves: document.percentiles,
        allocated: document.allocated_per_iter,
        kpis: document.kpis,
        warnings: document.warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_named_before_the_shape_is_looked_at() {
        let error = read(r#"{"schema": "vm-bench.v9"}"#).unwrap_err();
        assert!(error.to_string().contains("vm-bench.v9"), "{error}");
        assert_eq!(
            read("{}").unwrap_err(),
            ReportError::Schema {
                found: String::new()
            }
        );
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_place() {
        for text in ["", "[1", r#"{"schema": "vm-bench.v1"}"#] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains("line 1"), "{message}");
        }
    }
}
