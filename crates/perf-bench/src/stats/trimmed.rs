//! Trimmed means and their standard error, one sample and two.
//!
//! After Yuen (1974), "The two-sample trimmed t for unequal population variances",
//! Biometrika 61: cut g = ⌊γn⌋ samples from either end, take the mean of the h = n
//! − 2g that remain, and estimate its variance from the *winsorised* samples, in
//! which what was cut is replaced by its neighbour:
//!
//! ```text
//!  se² = Σ (w − mean(w))² / (h (h − 1)),     h − 1 degrees of freedom
//! ```

use crate::stats::distribution::{student_t_quantile, student_t_upper_tail};
use crate::stats::summary::mean;
use crate::stats::{Interval, ascending};

/// A location with its standard error and degrees of freedom.
///
/// ```
/// use perf_bench::stats::trimmed::Estimate;
///
/// let quiet = Estimate::trimmed(&[9.0, 10.0, 11.0, 10.0, 10.5, 9.5], 0.2);
/// let disturbed = Estimate::trimmed(&[9.0, 10.0, 99.0, 10.0, 10.5, 9.5], 0.2);
/// assert_eq!(quiet.mean, disturbed.mean);
/// assert!(quiet.interval(0.95).contains(10.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The trimmed mean, or a difference of two.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom of Student's t; infinite if neither of two samples
    /// varies.
    pub df: f64,
}

impl Estimate {
    /// Of one sample, with a fraction `trim` cut from either end.
    ///
    /// # Panics
    /// If `trim` is not in 0 to below ½, fewer than two samples remain, or one is
    /// NaN.
    #[must_use]
    pub fn trimmed(samples: &[f64], trim: f64) -> Self {
        assert!(
            (0.0..0.5).contains(&trim),
            "trimming {trim} of either end leaves nothing"
        );
        let mut sorted = ascending(samples);
        let n = sorted.len();
        // Not n·γ alone: 5 × 0.2 must cut one, whatever the last bit says.
        let cut = (n as f64 * trim * (1.0 + 1e-12)).floor() as usize;
        let kept = n - 2 * cut;
        assert!(kept >= 2, "{kept} of {n} samples are left after trimming");
        let center = mean(&sorted[cut..n - cut]);

        let (first, last) = (sorted[cut], sorted[n - cut - 1]);
        sorted[..cut].fill(first);
        sorted[n - cut..].fill(last);
        let winsorised = mean(&sorted);
        let squares: f64 = sorted.iter().map(|w| (w - winsorised).powi(2)).sum();
        let kept = kept as f64;
        Self {
            mean: center,
            standard_error: (squares / (kept * (kept - 1.0))).sqrt(),
            df: kept - 1.0,
        }
    }

    /// This estimate minus an independent `other`; degrees of freedom after Welch.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let (a, b) = (self.standard_error.powi(2), other.standard_error.powi(2));
        let df = if a + b > 0.0 {
            (a + b).powi(2) / (a * a / self.df + b * b / other.df)
        } else {
            f64::INFINITY
        };
        Self {
            mean: self.mean - other.mean,
            standard_error: (a + b).sqrt(),
            df,
        }
    }

    /// The mean moved by `t(p)` standard errors, t being Student's quantile: an
    /// upper bound at confidence `p`, a lower one for `p` below ½.
    ///
    /// # Panics
    /// If `p` is not within 0 to 1.
    #[must_use]
    pub fn bound(&self, p: f64) -> f64 {
        if self.standard_error == 0.0 {
            // Nothing varied; a bound at infinity would make this NaN.
            return self.mean;
        }
        self.mean + student_t_quantile(p, self.df.min(DF_MAX)) * self.standard_error
    }

    /// Two-sided interval at confidence `level`.
    ///
    /// # Panics
    /// If `level` is not within 0 to 1.
    #[must_use]
    pub fn interval(&self, level: f64) -> Interval {
        let tail = 0.5 * (1.0 - level);
        Interval {
            lo: self.bound(tail),
            hi: self.bound(1.0 - tail),
        }
    }

    /// One-sided p-value of "not above `null`": how often a location of `null` or
    /// less gives an estimate at least this high.
    #[must_use]
    pub fn p_above(&self, null: f64) -> f64 {
        if self.standard_error == 0.0 {
            return if self.mean > null { 0.0 } else { 1.0 };
        }
        let t = (self.mean - null) / self.standard_error;
        student_t_upper_tail(t, self.df.min(DF_MAX))
    }
}

/// Above this Student's t is the normal distribution to all digits.
const DF_MAX: f64 = 1e16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_trimming_it_is_the_ordinary_t() {
        let estimate = Estimate::trimmed(&[1.0, 2.0, 3.0, 4.0], 0.0);
        assert_eq!((estimate.mean, estimate.df), (2.5, 3.0));
        // Standard deviation √(5/3) over √4.
        assert!((estimate.standard_error - (5.0_f64 / 12.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_fifth_of_five_is_one() {
        let estimate = Estimate::trimmed(&[-100.0, 1.0, 2.0, 3.0, 100.0], 0.2);
        assert_eq!((estimate.mean, estimate.df), (2.0, 2.0));
    }

    #[test]
    fn samples_that_do_not_vary_have_no_error() {
        let same = Estimate::trimmed(&[0.25; 10], 0.2);
        assert_eq!(same.standard_error, 0.0);
        assert_eq!((same.bound(1.0), same.bound(0.0)), (0.25, 0.25));
        assert_eq!((same.p_above(0.0), same.p_above(0.25)), (0.0, 1.0));
        let difference = same.minus(&same);
        assert_eq!((difference.mean, difference.bound(0.99)), (0.0, 0.0));
    }

    #[test]
    #[should_panic(expected = "left after trimming")]
    fn too_few_samples_are_a_bug() {
        let _ = Estimate::trimmed(&[1.0], 0.2);
    }
}
