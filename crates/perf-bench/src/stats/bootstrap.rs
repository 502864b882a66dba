//! Bootstrap intervals: for statistics whose error has no formula, such as a
//! quartile or a ratio of medians.
//!
//! Resample with replacement, compute the statistic of each resample, and read the
//! interval off the distribution of these *replicates* (Efron and Tibshirani 1993,
//! "An Introduction to the Bootstrap", chapters 13 and 14).

use crate::stats::distribution::{normal_cdf, normal_quantile};
use crate::stats::rng::Rng;
use crate::stats::summary::quantile;
use crate::stats::{Interval, ascending};

/// `statistic` of `count` resamples of `samples`, drawn with `seed`.
///
/// ```
/// use perf_bench::stats::bootstrap::{bca, replicates};
/// use perf_bench::stats::summary::quantile;
///
/// let q25 = |samples: &[f64]| {
///     let mut sorted = samples.to_vec();
///     sorted.sort_by(f64::total_cmp);
///     quantile(&sorted, 0.25)
/// };
/// let samples: Vec<f64> = (0..40).map(f64::from).collect();
/// let interval = bca(&samples, q25, &replicates(&samples, q25, 999, 1), 0.95);
/// assert!(interval.contains(9.75));
/// ```
///
/// # Panics
/// If there are no samples.
#[must_use]
pub fn replicates(
    samples: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    count: usize,
    seed: u64,
) -> Vec<f64> {
    assert!(!samples.is_empty(), "no samples to resample");
    let mut rng = Rng::new(seed);
    let mut resample = vec![0.0; samples.len()];
    (0..count)
        .map(|_| {
            resample.fill_with(|| samples[rng.below(samples.len())]);
            statistic(&resample)
        })
        .collect()
}

/// The percentile interval: the middle `level` of the replicates. Simple, but off
/// where the statistic is biased or its error depends on its value; prefer
/// [`bca`].
///
/// # Panics
/// If there are no replicates, one is NaN, or `level` is not within 0 to 1.
#[must_use]
pub fn percentile(replicates: &[f64], level: f64) -> Interval {
    let sorted = ascending(replicates);
    let tail = 0.5 * (1.0 - level);
    Interval {
        lo: quantile(&sorted, tail),
        hi: quantile(&sorted, 1.0 - tail),
    }
}

/// The bias-corrected and accelerated interval: the percentile interval with its
/// ends moved by the bias (share of replicates below the estimate) and by the
/// acceleration (skewness of the leave-one-out estimates).
///
/// Where all replicates lie on one side of the estimate, or leaving a sample out
/// never changes it, the corrections do not exist and the plain percentile interval
/// is returned.
///
/// # Panics
/// If there are fewer than two samples, no replicates, one is NaN, or `level` is
/// not within 0 to 1.
#[must_use]
pub fn bca(
    samples: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    replicates: &[f64],
    level: f64,
) -> Interval {
    assert!(samples.len() >= 2, "leaving out the only sample");
    let estimate = statistic(samples);
    let sorted = ascending(replicates);

    // Ties count half to either side.
    let below = sorted.iter().filter(|r| **r < estimate).count();
    let up_to = sorted.iter().filter(|r| **r <= estimate).count();
    let bias = normal_quantile((below + up_to) as f64 / (2 * sorted.len()) as f64);

    let left_out: Vec<f64> = (0..samples.len())
        .map(|index| {
            let mut rest = samples.to_vec();
            rest.remove(index);
            statistic(&rest)
        })
        .collect();
    let center = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let power = |k| left_out.iter().map(|x| (center - x).powi(k)).sum::<f64>();
    let acceleration = power(3) / (6.0 * power(2).powf(1.5));

    if !bias.is_finite() || !acceleration.is_finite() {
        return percentile(replicates, level);
    }
    let tail = 0.5 * (1.0 - level);
    let end = |p: f64| {
        let z = bias + normal_quantile(p);
        quantile(&sorted, normal_cdf(bias + z / (1.0 - acceleration * z)))
    };
    Interval {
        lo: end(tail),
        hi: end(1.0 - tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(samples: &[f64]) -> f64 {
        samples.iter().sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn the_seed_decides() {
        let samples = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(
            replicates(&samples, mean, 50, 3),
            replicates(&samples, mean, 50, 3)
        );
        assert_ne!(
            replicates(&samples, mean, 50, 3),
            replicates(&samples, mean, 50, 4)
        );
    }

    #[test]
    fn samples_that_do_not_vary_have_an_interval_of_no_width() {
        let same = [3.0; 5];
        let replicates = replicates(&same, mean, 100, 1);
        let expected = Interval { lo: 3.0, hi: 3.0 };
        assert_eq!(bca(&same, mean, &replicates, 0.95), expected);
        assert_eq!(percentile(&replicates, 0.95), expected);
    }
}
