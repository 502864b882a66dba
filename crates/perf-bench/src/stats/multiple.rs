//! Many tests at once: with fifty benchmarks at 1 % each, two gates in five would
//! raise an alarm.

/// Holm's adjusted p-values, in the order given: the tests whose value is at most
/// α may be rejected together with a chance of at most α that any rejection is
/// wrong, however the tests depend on each other (Holm 1979, Scand. J. Statist. 6).
///
/// ```
/// use perf_bench::stats::multiple::holm;
///
/// let adjusted = holm(&[0.01, 0.04, 0.03]);
/// assert!(adjusted.iter().zip([0.03, 0.06, 0.06]).all(|(a, b)| (a - b).abs() < 1e-15));
/// ```
///
/// # Panics
/// If a value is not within 0 to 1.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    for &p in p_values {
        assert!((0.0..=1.0).contains(&p), "p-value {p} is not in 0..=1");
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        // Never below that of a smaller p-value: rejections come in order.
        largest = largest.max((left * p_values[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_test_needs_no_correction_and_none_are_fine() {
        assert_eq!(holm(&[0.2]), [0.2]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn adjusted_values_keep_the_order_and_stay_probabilities() {
        assert_eq!(holm(&[0.9, 0.5, 0.5]), [1.0, 1.0, 1.0]);
    }
}
