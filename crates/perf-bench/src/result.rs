//! What one benchmark yielded, and whether it may be believed.

use std::fmt;
use std::io::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::alloc::Allocations;
use crate::error::{IdError, MetricError};
use crate::histogram::PercentileCurve;
use crate::metrics::Metrics;
use crate::report;
use crate::sample::{Event, Phase, Sample};
use crate::stats::summary::Summary;
use crate::units::Unit;

/// Names a benchmark: `group/function` or `group/function/params`.
///
/// ```
/// use perf_bench::BenchmarkId;
///
/// let id: BenchmarkId = "gc/binary_trees/n=18".parse()?;
/// assert_eq!((id.group(), id.params()), ("gc", Some("n=18")));
/// # Ok::<(), perf_bench::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BenchmarkId {
    group: String,
    function: String,
    params: Option<String>,
}

impl BenchmarkId {
    /// An id without parameters.
    ///
    /// # Errors
    /// If a part is empty or contains a slash or control character.
    pub fn new(group: &str, function: &str) -> Result<Self, IdError> {
        Ok(Self {
            group: part(group)?,
            function: part(function)?,
            params: None,
        })
    }

    /// The same with parameters, such as `n=18`.
    ///
    /// # Errors
    /// If they are empty or contain a slash or control character.
    pub fn with_params(mut self, params: &str) -> Result<Self, IdError> {
        self.params = Some(part(params)?);
        Ok(self)
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The parameters, if any.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        self.params.as_deref()
    }
}

fn part(text: &str) -> Result<String, IdError> {
    // Slashes separate, and ids become paths and table cells.
    if text.is_empty() || text.contains(|c: char| c == '/' || c.is_control()) {
        return Err(IdError::Part {
            found: text.to_owned(),
        });
    }
    Ok(text.to_owned())
}

impl FromStr for BenchmarkId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [group, function] => Self::new(group, function),
            [group, function, params] => Self::new(group, function)?.with_params(params),
            _ => Err(IdError::Shape {
                found: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for BenchmarkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.function)?;
        match &self.params {
            Some(params) => write!(f, "/{params}"),
            None => Ok(()),
        }
    }
}

/// What an iteration allocates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocatedPerIter {
    /// Allocations.
    pub count: f64,
    /// Bytes asked for.
    pub bytes: f64,
}

/// Whether a result may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It ran, and what it computed is right.
    Pass,
    /// It did not run to its end.
    Fail {
        /// What happened.
        reason: String,
    },
    /// It was stopped from outside, which says nothing about it.
    Interrupted {
        /// What stopped it.
        reason: String,
    },
    /// It ran, but what it computed is wrong or the setting was not as assumed:
    /// its numbers mean nothing.
    Invalid {
        /// What is wrong.
        reason: String,
    },
}

impl Status {
    /// `pass`, `fail`, `interrupted` or `invalid`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail { .. } => "fail",
            Self::Interrupted { .. } => "interrupted",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// Why it is not a pass.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail { reason } | Self::Interrupted { reason } | Self::Invalid { reason } => {
                Some(reason)
            }
        }
    }

    /// Whether it is a pass.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        *self == Self::Pass
    }
}

/// A value measured for a row of the KPI table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredKpi {
    pub(crate) id: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
}

impl MeasuredKpi {
    /// The id of the row.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value, finite, in [`unit`](Self::unit).
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The unit it was measured in, convertible to that of the row.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }
}

/// What one benchmark yielded: metrics, raw samples, values for KPI rows, status.
///
/// ```
/// use std::time::Duration;
/// use perf_bench::{BenchmarkResult, Metrics, Unit};
///
/// let mut result = BenchmarkResult::new("jit/compile".parse()?);
/// result.push_metrics(Metrics::new("cold", Duration::from_micros(90), 3));
/// result.record_kpi("jit.compile_us_per_block", 30.0, Unit::Microsecond)?;
/// let (expected, found) = (7, 7);
/// if found != expected {
///     result.mark_invalid(format!("guest printed {found}, expected {expected}"));
/// }
/// assert!(result.status().is_pass());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkResult {
    pub(crate) id: BenchmarkId,
    pub(crate) threads: u32,
    pub(crate) status: Status,
    pub(crate) metrics: Vec<Metrics>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) curves: Vec<PercentileCurve>,
    pub(crate) allocated: Option<AllocatedPerIter>,
    pub(crate) kpis: Vec<MeasuredKpi>,
    pub(crate) warnings: Vec<String>,
}

impl BenchmarkResult {
    /// A passing result with nothing in it, of one thread.
    #[must_use]
    pub fn new(id: BenchmarkId) -> Self {
        Self {
            id,
            threads: 1,
            status: Status::Pass,
            metrics: Vec::new(),
            samples: Vec::new(),
            curves: Vec::new(),
            allocated: None,
            kpis: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A result that consists of a failure.
    #[must_use]
    pub fn failed(id: BenchmarkId, reason: impl Into<String>) -> Self {
        let mut result = Self::new(id);
        result.mark_failed(reason);
        result
    }

    /// A result of which nothing is known, because something stopped the benchmark.
    #[must_use]
    pub fn interrupted(id: BenchmarkId, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            status: Status::Interrupted { reason },
            ..Self::new(id)
        }
    }

    /// Sets the number of threads that ran the body.
    pub fn set_threads(&mut self, threads: u32) {
        self.threads = threads;
    }

    /// Adds metrics. The first with a throughput is the one of summaries.
    pub fn push_metrics(&mut self, metrics: Metrics) {
        self.metrics.push(metrics);
    }

    /// Adds raw samples.
    pub fn extend_samples(&mut self, samples: impl IntoIterator<Item = Sample>) {
        self.samples.extend(samples);
    }

    /// Adds the shape of a distribution of single values.
    pub fn push_curve(&mut self, curve: PercentileCurve) {
        self.curves.push(curve);
    }

    /// Sets what `iters` iterations of it allocated, as
    /// [`count_allocations`](crate::alloc::count_allocations) found.
    ///
    /// # Panics
    /// If there were no iterations.
    pub fn set_allocations(&mut self, counted: Allocations, iters: u64) {
        assert!(iters > 0, "no iteration allocated anything");
        self.allocated = Some(AllocatedPerIter {
            count: counted.count as f64 / iters as f64,
            bytes: counted.bytes as f64 / iters as f64,
        });
    }

    /// Records the value of a KPI row, in any unit that converts to the row's.
    ///
    /// # Errors
    /// If the value is not finite or this result has one for the row already.
    pub fn record_kpi(
        &mut self,
        id: impl Into<String>,
        value: f64,
        unit: Unit,
    ) -> Result<(), MetricError> {
        let id = id.into();
        if !value.is_finite() {
            return Err(MetricError::NotFinite { name: id, value });
        }
        if self.kpis.iter().any(|kpi| kpi.id == id) {
            return Err(MetricError::Duplicate { name: id });
        }
        self.kpis.push(MeasuredKpi { id, value, unit });
        Ok(())
    }

    /// Adds something readers of the numbers should know.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Marks the result failed. The first reason stays: later ones follow from it.
    pub fn mark_failed(&mut self, reason: impl Into<String>) {
        if self.status.is_pass() {
            self.status = Status::Fail {
                reason: reason.into(),
            };
        }
    }

    /// Marks the result invalid. The first reason stays: later ones follow from it.
    pub fn mark_invalid(&mut self, reason: impl Into<String>) {
        if self.status.is_pass() {
            self.status = Status::Invalid {
                reason: reason.into(),
            };
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &BenchmarkId {
        &self.id
    }

    /// Threads that ran the body.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Whether it may be believed.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Its metrics, in the order they were added.
    #[must_use]
    pub fn metrics(&self) -> &[Metrics] {
        &self.metrics
    }

    /// Its raw samples, in the order they were added.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Its distributions of single values, in the order they were added.
    #[must_use]
    pub fn curves(&self) -> &[PercentileCurve] {
        &self.curves
    }

    /// What an iteration allocates, if it was counted.
    #[must_use]
    pub fn allocated(&self) -> Option<AllocatedPerIter> {
        self.allocated
    }

    /// The values it measured for KPI rows.
    #[must_use]
    pub fn kpis(&self) -> &[MeasuredKpi] {
        &self.kpis
    }

    /// What readers of the numbers should know.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The event [`summary`](Self::summary) is about: wall time if it was
    /// sampled, otherwise that of the first measured sample.
    #[must_use]
    pub fn primary_event(&self) -> Option<&Event> {
        let mut measured = self
            .samples
            .iter()
            .filter(|sample| sample.phase == Phase::Measure)
            .map(|sample| &sample.event)
            .peekable();
        let first = measured.peek().copied();
        measured.find(|event| **event == Event::WallNs).or(first)
    }

    /// Summary of the measured samples of the primary event, per iteration and in
    /// the event's unit; `None` without such samples.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let event = self.primary_event()?;
        let values: Vec<f64> = self
            .samples
            .iter()
            .filter(|sample| sample.phase == Phase::Measure && sample.event == *event)
            .filter_map(Sample::per_iter)
            .collect();
        // A u64 per iteration is always in range, so the error can only be "none".
        Summary::of(&values).ok()
    }

    /// Throughput of the first metrics that have one, in operations per second.
    #[must_use]
    pub fn throughput(&self) -> Option<f64> {
        self.metrics.iter().find_map(Metrics::throughput)
    }

    /// Every metric as one CSV row; columns as in [`report::csv::metrics`].
    #[must_use]
    pub fn to_csv(&self) -> String {
        report::csv::metrics(std::slice::from_ref(self))
    }

    /// Prints the result to standard output, as [`Display`](fmt::Display) has it.
    ///
    /// # Errors
    /// If standard output cannot be written, for instance a closed pipe.
    pub fn print(&self) -> io::Result<()> {
        write!(io::stdout().lock(), "{self}")
    }
}

impl fmt::Display for BenchmarkResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&report::text::result(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_back() {
        for text in ["a/b", "a/b/n=1", "gc/binary trees/n=18, 128 MB"] {
            assert_eq!(text.parse::<BenchmarkId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in ["", "a", "a/b/c/d", "/b", "a/", "a/b/", "a/b\n"] {
            assert!(text.parse::<BenchmarkId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_first_reason_stays() {
        let mut result = BenchmarkResult::new("a/b".parse().unwrap());
        result.mark_invalid("wrong checksum");
        result.mark_failed("gave up");
        assert_eq!(result.status().name(), "invalid");
        assert_eq!(result.status().reason(), Some("wrong checksum"));
    }

    #[test]
    fn kpi_values_are_finite_and_single() {
        let mut result = BenchmarkResult::new("a/b".parse().unwrap());
        assert!(result.record_kpi("k", f64::NAN, Unit::Ratio).is_err());
        assert!(result.record_kpi("k", 1.0, Unit::Ratio).is_ok());
        assert!(result.record_kpi("k", 2.0, Unit::Ratio).is_err());
        assert_eq!(result.kpis().len(), 1);
    }

    #[test]
    fn wall_time_is_summarised_before_counters() {
        let sample = |event, count| Sample {
            process: 0,
            round: 0,
            order: 0,
            phase: Phase::Measure,
            event,
            count,
            iters: 2,
        };
        let mut result = BenchmarkResult::new("a/b".parse().unwrap());
        assert_eq!(result.summary(), None);
        result.extend_samples([sample(Event::Counter("insns".to_owned()), 500)]);
        assert_eq!(result.summary().unwrap().median, 250.0);
        result.extend_samples([sample(Event::WallNs, 10)]);
        assert_eq!(result.primary_event(), Some(&Event::WallNs));
        assert_eq!(result.summary().unwrap().median, 5.0);
    }
}
