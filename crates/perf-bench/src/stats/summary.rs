//! Condenses a slice of samples into nine numbers.

use serde::{Deserialize, Serialize};

use crate::error::SummaryError;

/// Location and spread of a set of samples.
///
/// Scaling all samples scales every field but `n`; shifting them shifts the
/// location fields and leaves `mad` and `std_dev`.
///
/// ```
/// use perf_bench::Summary;
///
/// let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0, 100.0])?;
/// assert_eq!((summary.median, summary.mean), (3.0, 22.0));
/// assert_eq!(summary.mad, 1.0); // the outlier does not move it
/// # Ok::<(), perf_bench::SummaryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Smallest sample.
    pub min: f64,
    /// Lower quartile: of the location estimates the least moved by a noisy
    /// neighbour, which only ever makes code slower.
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median of the absolute deviations from the median, not scaled by the
    /// 1.4826 that would estimate a normal distribution's standard deviation.
    pub mad: f64,
    /// Sample standard deviation (divisor n − 1); `None` for a single sample,
    /// which says nothing about spread.
    pub std_dev: Option<f64>,
    /// 99th percentile; with fewer than 100 samples an interpolation close to the
    /// maximum.
    pub p99: f64,
    /// Largest sample.
    pub max: f64,
}

/// Squares of samples within this bound, summed over 10^8 of them, are finite.
const MAGNITUDE_MAX: f64 = 1e150;

impl Summary {
    /// Summarises `samples`, in any order.
    ///
    /// # Errors
    /// If there are none, or one is NaN, infinite or beyond ±1e150.
    pub fn of(samples: &[f64]) -> Result<Self, SummaryError> {
        if samples.is_empty() {
            return Err(SummaryError::Empty);
        }
        for (index, &value) in samples.iter().enumerate() {
            // NaN fails the comparison, too.
            if !(-MAGNITUDE_MAX..=MAGNITUDE_MAX).contains(&value) {
                return Err(SummaryError::OutOfRange { index, value });
            }
        }
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let median = quantile(&sorted, 0.5);
        let mean = mean(&sorted);

        let mut deviations: Vec<f64> = sorted.iter().map(|x| (x - median).abs()).collect();
        deviations.sort_unstable_by(f64::total_cmp);

        Ok(Self {
            n,
            min: sorted[0],
            q25: quantile(&sorted, 0.25),
            median,
            mean,
            mad: quantile(&deviations, 0.5),
            std_dev: std_dev(&sorted, mean),
            p99: quantile(&sorted, 0.99),
            max: sorted[n - 1],
        })
    }
}

/// The `q` quantile of ascending samples, interpolated linearly between the two
/// closest ranks (Hyndman and Fan 1996, definition 7: the default of R and NumPy).
///
/// # Panics
/// If `sorted` is empty or `q` is outside 0 to 1.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    assert!(!sorted.is_empty(), "quantile of no samples");
    assert!((0.0..=1.0).contains(&q), "quantile {q} is not in 0..=1");
    let rank = q * (sorted.len() - 1) as f64;
    let below = rank.floor();
    let low = sorted[below as usize];
    let high = sorted[rank.ceil() as usize];
    low + (high - low) * (rank - below)
}

/// Mean in two passes: the second adds the rounding error of the first.
pub(super) fn mean(samples: &[f64]) -> f64 {
    let n = samples.len() as f64;
    let first = samples.iter().sum::<f64>() / n;
    first + samples.iter().map(|x| x - first).sum::<f64>() / n
}

/// Two passes, because the textbook `E[x²] − E[x]²` cancels when the spread is
/// small against the mean, which is what timings look like.
fn std_dev(samples: &[f64], mean: f64) -> Option<f64> {
    if samples.len() < 2 {
        return None;
    }
    let squares: f64 = samples.iter().map(|x| (x - mean) * (x - mean)).sum();
    Some((squares / (samples.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        let tolerance = 1e-9 * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= tolerance,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn the_first_hundred_numbers() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(&samples).unwrap();
        assert_eq!(summary.n, 100);
        close(summary.min, 1.0);
        close(summary.q25, 25.75);
        close(summary.median, 50.5);
        close(summary.mean, 50.5);
        close(summary.mad, 25.0);
        // sqrt(n (n + 1) / 12)
        close(summary.std_dev.unwrap(), 29.011_491_975_882_016);
        close(summary.p99, 99.01);
        close(summary.max, 100.0);
    }

    #[test]
    fn one_sample_has_no_spread() {
        let summary = Summary::of(&[7.0]).unwrap();
        assert_eq!(summary.std_dev, None);
        assert_eq!(
            (summary.min, summary.median, summary.p99, summary.mad),
            (7.0, 7.0, 7.0, 0.0)
        );
    }

    #[test]
    fn equal_samples_have_spread_zero() {
        let summary = Summary::of(&[0.1; 1000]).unwrap();
        close(summary.mean, 0.1);
        assert_eq!(summary.mad, 0.0);
        assert!(summary.std_dev.unwrap() < 1e-15);
    }

    #[test]
    fn a_small_spread_on_a_large_mean_survives() {
        // NIST StRD NumAcc4: mean 10000000.2, standard deviation 0.1.
        let samples: Vec<f64> = std::iter::once(10_000_000.2)
            .chain((0..500).flat_map(|_| [10_000_000.1, 10_000_000.3]))
            .collect();
        let summary = Summary::of(&samples).unwrap();
        close(summary.mean, 10_000_000.2);
        assert!((summary.std_dev.unwrap() - 0.1).abs() < 1e-8);
    }

    #[test]
    fn a_triangular_distribution_has_its_known_moments() {
        // A triangular distribution on 0..2 has mean 1, variance 1/6 and
        // MAD 1 − 1/√2; its quantile function is closed, so no random numbers.
        let n = 100_000;
        let samples: Vec<f64> = (0..n)
            .map(|i| {
                let p = (f64::from(i) + 0.5) / f64::from(n);
                if p < 0.5 {
                    (2.0 * p).sqrt()
                } else {
                    2.0 - (2.0 * (1.0 - p)).sqrt()
                }
            })
            .collect();
        let summary = Summary::of(&samples).unwrap();
        assert!((summary.mean - 1.0).abs() < 1e-6);
        assert!((summary.std_dev.unwrap() - (1.0_f64 / 6.0).sqrt()).abs() < 1e-5);
        assert!((summary.mad - (1.0 - 0.5_f64.sqrt())).abs() < 1e-4);
    }

    #[test]
    fn bad_samples_are_refused_with_their_position() {
        assert_eq!(Summary::of(&[]), Err(SummaryError::Empty));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e151] {
            let error = Summary::of(&[1.0, bad]).unwrap_err();
            assert!(
                matches!(error, SummaryError::OutOfRange { index: 1, .. }),
                "{error}"
            );
        }
        let extreme = Summary::of(&[-1e150, 1e150]).unwrap();
        assert!(extreme.std_dev.unwrap().is_finite());
    }

    #[test]
    #[should_panic(expected = "not in 0..=1")]
    fn quantiles_outside_the_unit_interval_are_a_bug() {
        let _ = quantile(&[1.0], 1.5);
    }
}
