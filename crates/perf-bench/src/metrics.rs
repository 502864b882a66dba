//! What one measurement yielded: time, operations, and custom values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::duration_ns;
use crate::error::MetricError;
use crate::sample::{Event, Phase, Sample};
use crate::timer::Timer;
use crate::units::{Direction, Unit};

/// A named value with its unit and the direction in which it gets better.
/// Always finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomMetric {
    name: String,
    value: f64,
    unit: Unit,
    direction: Direction,
}

impl CustomMetric {
    /// Its name, unique within its [`Metrics`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value, in [`unit`](Self::unit).
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Its unit.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Which way is better.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

/// Elapsed time, operations and custom metrics of one measurement.
///
/// ```
/// use std::time::Duration;
/// use perf_bench::{Direction, Metrics, Unit};
///
/// let metrics = Metrics::new("compile", Duration::from_millis(2), 100)
///     .with("code size", 4096.0, Unit::Byte, Direction::Lower)?;
/// assert_eq!(metrics.throughput(), Some(50_000.0)); // operations per second
/// assert_eq!(metrics.latency_ns(), Some(20_000.0)); // per operation
/// # Ok::<(), perf_bench::MetricError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    name: String,
    elapsed: Duration,
    operations: u64,
    custom: Vec<CustomMetric>,
}

impl Metrics {
    /// `operations` operations that took `elapsed` together. Both may be zero:
    /// then there is no throughput and no latency.
    #[must_use]
    pub fn new(name: impl Into<String>, elapsed: Duration, operations: u64) -> Self {
        Self {
            name: name.into(),
            elapsed,
            operations,
            custom: Vec::new(),
        }
    }

    /// Runs `body` once, counting it as `operations` operations.
    pub fn measure<T>(
        name: impl Into<String>,
        operations: u64,
        body: impl FnOnce() -> T,
    ) -> (T, Self) {
        let (value, elapsed) = Timer::measure(body);
        (value, Self::new(name, elapsed, operations))
    }

    /// Total wall time and iterations of the measured (not warm-up) samples.
    #[must_use]
    pub fn from_samples(name: impl Into<String>, samples: &[Sample]) -> Self {
        let (mut elapsed_ns, mut operations) = (0_u64, 0_u64);
        for sample in samples {
            if sample.phase == Phase::Measure && sample.event == Event::WallNs {
                elapsed_ns = elapsed_ns.saturating_add(sample.count);
                operations = operations.saturating_add(sample.iters);
            }
        }
        Self::new(name, Duration::from_nanos(elapsed_ns), operations)
    }

    /// Adds a custom metric.
    ///
    /// # Errors
    /// If the value is not finite or the name is taken.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: Unit,
        direction: Direction,
    ) -> Result<(), MetricError> {
        let name = name.into();
        if !value.is_finite() {
            return Err(MetricError::NotFinite { name, value });
        }
        if self.custom(&name).is_some() {
            return Err(MetricError::Duplicate { name });
        }
        self.custom.push(CustomMetric {
            name,
            value,
            unit,
            direction,
        });
        Ok(())
    }

    /// [`push`](Self::push), for chaining.
    ///
    /// # Errors
    /// If the value is not finite or the name is taken.
    pub fn with(
        mut self,
        name: impl Into<String>,
        value: f64,
        unit: Unit,
        direction: Direction,
    ) -> Result<Self, MetricError> {
        self.push(name, value, unit, direction)?;
        Ok(self)
    }

    /// What was measured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long all operations took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// [`elapsed`](Self::elapsed) in whole nanoseconds, saturating at 584 years.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        duration_ns(self.elapsed)
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Operations per second; `None` if there were none or no time passed, since
    /// neither "zero" nor "infinitely fast" was observed.
    #[must_use]
    pub fn throughput(&self) -> Option<f64> {
        self.is_rated()
            .then(|| self.operations as f64 / self.elapsed.as_secs_f64())
    }

    /// Nanoseconds per operation; `None` in the same cases as
    /// [`throughput`](Self::throughput).
    #[must_use]
    pub fn latency_ns(&self) -> Option<f64> {
        self.is_rated()
            .then(|| self.elapsed.as_nanos() as f64 / self.operations as f64)
    }

    fn is_rated(&self) -> bool {
        self.operations > 0 && !self.elapsed.is_zero()
    }

    /// The custom metrics, in the order they were added.
    #[must_use]
    pub fn customs(&self) -> &[CustomMetric] {
        &self.custom
    }

    /// The custom metric of that name.
    #[must_use]
    pub fn custom(&self, name: &str) -> Option<&CustomMetric> {
        self.custom.iter().find(|metric| metric.name == name)
    }

    /// Rebuilds stored metrics, whose custom part was checked when it was made.
    pub(crate) fn restore(
        name: String,
        elapsed: Duration,
        operations: u64,
        custom: Vec<CustomMetric>,
    ) -> Self {
        Self {
            name,
            elapsed,
            operations,
            custom,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_done_or_no_time_means_no_rate() {
        for (elapsed_ns, operations) in [(0, 0), (0, 5), (5, 0)] {
            let metrics = Metrics::new("m", Duration::from_nanos(elapsed_ns), operations);
            assert_eq!(metrics.throughput(), None);
            assert_eq!(metrics.latency_ns(), None);
        }
    }

    #[test]
    fn rates_stay_finite_at_the_ends_of_their_range() {
        let fast = Metrics::new("fast", Duration::from_nanos(1), u64::MAX);
        let slow = Metrics::new("slow", Duration::MAX, 1);
        for metrics in [fast, slow] {
            assert!(metrics.throughput().unwrap().is_finite());
            assert!(metrics.latency_ns().unwrap().is_finite());
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_refused() {
        for bad in [f64::NAN, f64::INFINITY] {
            let error = Metrics::new("m", Duration::ZERO, 0)
                .with("hit rate", bad, Unit::Percent, Direction::Higher)
                .unwrap_err();
            assert!(error.to_string().contains("hit rate"), "{error}");
        }
    }

    #[test]
    fn a_name_serves_once() {
        let mut metrics = Metrics::new("m", Duration::ZERO, 0);
        metrics
            .push("size", 1.0, Unit::Byte, Direction::Lower)
            .unwrap();
        assert_eq!(
            metrics.push("size", 2.0, Unit::Byte, Direction::Lower),
            Err(MetricError::Duplicate {
                name: "size".to_owned()
            })
        );
        assert_eq!(metrics.custom("size").unwrap().value(), 1.0);
    }

    #[test]
    fn warmup_is_not_part_of_the_metrics() {
        let sample = |phase, count| Sample {
            process: 0,
            round: 0,
            order: 0,
            phase,
            event: Event::WallNs,
            count,
            iters: 10,
        };
        let metrics = Metrics::from_samples(
            "m",
            &[
                sample(Phase::Warmup, 1_000_000),
                sample(Phase::Measure, 100),
                sample(Phase::Measure, 300),
            ],
        );
        assert_eq!(metrics.operations(), 20);
        assert_eq!(metrics.latency_ns(), Some(20.0));
    }
}
