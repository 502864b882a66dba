//! Distributions of many single values, such as pauses and wake-up delays.
//!
//! A mean hides what users notice. [`Histogram`] keeps every value to three
//! significant digits, in constant memory and a few nanoseconds per value;
//! [`PercentileCurve`] is its shape, small enough to be part of every report.

use serde::{Deserialize, Serialize};

use crate::units::Unit;

/// Steps of the curve between a share of values and half of what is above it.
const STEPS_PER_HALVING: u32 = 5;

/// Counts values by magnitude (high dynamic range): from 0 to `u64::MAX`, each kept
/// to 0.1 %.
///
/// ```
/// use perf_bench::{Histogram, Unit};
///
/// let mut pauses = Histogram::new();
/// for pause_ns in 1..=1000 {
///     pauses.record(pause_ns);
/// }
/// let curve = pauses.curve("pause", Unit::Nanosecond).unwrap();
/// assert_eq!((curve.count(), curve.at(0.5), curve.max()), (1000, 500.0, 1000.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// A histogram without values.
    #[must_use]
    pub fn new() -> Self {
        const DIGITS: u8 = 3;
        Self {
            counts: hdrhistogram::Histogram::new(DIGITS).expect("0 to 5 digits are possible"),
        }
    }

    /// Adds one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Adds one value `count` times. Counts saturate.
    #[inline]
    pub fn record_many(&mut self, value: u64, count: u64) {
        self.counts
            .record_n(value, count)
            .expect("the histogram grows up to any value of 64 bits");
    }

    /// Adds the values of another, say of another thread.
    pub fn merge(&mut self, other: &Self) {
        self.counts
            .add(&other.counts)
            .expect("the histogram grows up to any value of 64 bits");
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// Its shape, under a name and in the unit of the recorded values; `None`
    /// without values.
    #[must_use]
    pub fn curve(&self, name: &str, unit: Unit) -> Option<PercentileCurve> {
        if self.counts.is_empty() {
            return None;
        }
        let (min, max) = (self.counts.min() as f64, self.counts.max() as f64);
        let mut points: Vec<PercentilePoint> = Vec::new();
        for step in self.counts.iter_quantiles(STEPS_PER_HALVING) {
            let point = PercentilePoint {
                quantile: step.quantile(),
                // A bucket's upper end may exceed what was recorded.
                value: (step.value_iterated_to() as f64).clamp(min, max),
            };
            match points.last_mut() {
                Some(last) if last.quantile >= point.quantile => last.value = point.value,
                _ => points.push(point),
            }
        }
        Some(PercentileCurve {
            name: name.to_owned(),
            unit,
            count: self.count(),
            min,
            mean: self.counts.mean(),
            points,
        })
    }
}

/// A point of a [`PercentileCurve`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PercentilePoint {
    /// Share of the values that are at most `value`, in 0 to 1.
    pub quantile: f64,
    /// The value.
    pub value: f64,
}

/// The shape of a distribution: values over quantiles, denser towards the tail.
/// Never empty; both coordinates ascend; the last point is the maximum, at 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PercentileCurve {
    name: String,
    unit: Unit,
    count: u64,
    min: f64,
    mean: f64,
    points: Vec<PercentilePoint>,
}

impl PercentileCurve {
    /// What the values are.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Their unit.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.min
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The largest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.at(1.0)
    }

    /// The points, both coordinates ascending.
    #[must_use]
    pub fn points(&self) -> &[PercentilePoint] {
        &self.points
    }

    /// The value that a share of `quantile` does not exceed: that of the first
    /// point at or above it, so never an underestimate.
    #[must_use]
    pub fn at(&self, quantile: f64) -> f64 {
        self.points
            .iter()
            .find(|point| point.quantile >= quantile)
            .or(self.points.last())
            .map_or(self.min, |point| point.value)
    }

    /// Whether what was read back has the shape promised above.
    pub(crate) fn is_sound(&self) -> bool {
        let ascends = self
            .points
            .is_sorted_by(|a, b| a.quantile < b.quantile && a.value <= b.value);
        let in_range = |point: &PercentilePoint| {
            (0.0..=1.0).contains(&point.quantile) && point.value.is_finite()
        };
        ascends
            && self.points.iter().all(in_range)
            && self.points.last().is_some_and(|last| last.quantile == 1.0)
            && self.min.is_finite()
            && self.mean.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: impl IntoIterator<Item = u64>) -> PercentileCurve {
        let mut histogram = Histogram::new();
        for value in values {
            histogram.record(value);
        }
        histogram.curve("values", Unit::Nanosecond).unwrap()
    }

    #[track_caller]
    fn within_a_thousandth(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= expected * 1e-3,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn quantiles_of_even_values() {
        let curve = curve(1..=1_000_000);
        // The curve has points at these quantiles only roughly; it errs upwards.
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let found = curve.at(quantile);
            assert!(found >= quantile * 1e6 * 0.999, "{quantile}: {found}");
            assert!(found <= (quantile + (1.0 - quantile) * 0.2) * 1e6 * 1.001);
        }
        within_a_thousandth(curve.max(), 1e6);
        within_a_thousandth(curve.mean(), 500_000.5);
        assert_eq!((curve.count(), curve.min()), (1_000_000, 1.0));
    }

    #[test]
    fn every_curve_is_sound() {
        for values in [
            vec![0],
            vec![7; 1000],
            vec![0, u64::MAX],
            (0..64).map(|bit| 1 << bit).collect(),
            (0..5000).map(|i| i * i).collect(),
        ] {
            let curve = curve(values);
            assert!(curve.is_sound(), "{curve:?}");
        }
    }

    #[test]
    fn no_values_have_no_shape() {
        assert_eq!(Histogram::new().curve("none", Unit::Count), None);
    }

    #[test]
    fn merging_is_recording_in_one() {
        let (mut a, mut b, mut all) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..1000 {
            let part = if value % 3 == 0 { &mut a } else { &mut b };
            part.record(value * 1_000_003);
            all.record(value * 1_000_003);
        }
        a.merge(&b);
        assert_eq!(a, all);
    }

    #[test]
    fn a_few_large_values_do_not_vanish() {
        let mut histogram = Histogram::new();
        histogram.record_many(100, 999_999);
        histogram.record(50_000_000);
        let curve = histogram.curve("pauses", Unit::Nanosecond).unwrap();
        within_a_thousandth(curve.at(0.999), 100.0);
        within_a_thousandth(curve.max(), 5e7);
    }
}
