//! Rates that were counted: so many of so many.

use crate::stats::Interval;
use crate::stats::distribution::normal_quantile;

/// Wilson's score interval for `successes` of `trials`, two-sided at confidence
/// `level`. Unlike the textbook interval it is right near 0 and 1, where error
/// rates are: 0 of 300 says "below 1.3 %", not "exactly 0".
///
/// ```
/// use perf_bench::stats::proportion::wilson;
///
/// let none_of_300 = wilson(0, 300, 0.95);
/// assert_eq!(none_of_300.lo, 0.0);
/// assert!((none_of_300.hi - 0.0126).abs() < 1e-4);
/// ```
///
/// # Panics
/// If there are no trials, more successes than trials, or `level` is not within 0
/// to 1.
#[must_use]
pub fn wilson(successes: u64, trials: u64, level: f64) -> Interval {
    assert!(trials > 0, "a rate of no trials");
    assert!(successes <= trials, "{successes} of {trials}");
    let (k, n) = (successes as f64, trials as f64);
    let z = normal_quantile(0.5 * (1.0 + level));
    let square = z * z;
    let center = (k + 0.5 * square) / (n + square);
    let half = z / (n + square) * (k * (n - k) / n + 0.25 * square).sqrt();
    Interval {
        // At the ends the two terms cancel only up to rounding.
        lo: if successes == 0 { 0.0 } else { center - half },
        hi: if successes == trials {
            1.0
        } else {
            center + half
        },
    }
}
