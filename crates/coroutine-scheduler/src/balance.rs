//! Load and its spread: arithmetic over utilisations and queue lengths.

use crate::{CoroutineInfo, CoroutineState};

/// Mean squared distance from the mean; 0 of nothing.
#[must_use]
pub fn variance(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
}

/// Standard deviation over mean; 0 where the mean is.
#[must_use]
pub fn coefficient_of_variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    if mean > 0.0 {
        variance(values).sqrt() / mean
    } else {
        0.0
    }
}

/// Largest over mean, minus 1; 0 where the mean is.
#[must_use]
pub fn max_over_mean(values: &[f64]) -> f64 {
    let mean = mean(values);
    if mean > 0.0 {
        values.iter().copied().fold(0.0, f64::max) / mean - 1.0
    } else {
        0.0
    }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether utilisations are so far apart that homes should move: most minus
/// least is more than `threshold` of the mean.
#[must_use]
pub fn should_balance(utilizations: &[f64], threshold: f64) -> bool {
    let most = utilizations.iter().copied().fold(0.0, f64::max);
    let least = utilizations.iter().copied().fold(f64::INFINITY, f64::min);
    !utilizations.is_empty() && most - least > mean(utilizations) * threshold
}

/// Where a new coroutine goes: the least loaded vCPU, the first of equals.
#[must_use]
pub fn least_loaded(loads: &[usize]) -> Option<usize> {
    (0..loads.len()).min_by_key(|&vcpu| loads[vcpu])
}

/// Which of the coroutines at a vCPU should move: ready or waiting ones only,
/// the least urgent first, among equals the one that has run least (it has the
/// least to lose in caches).
#[must_use]
pub fn select_coroutine_to_migrate(candidates: &[CoroutineInfo]) -> Option<&CoroutineInfo> {
    candidates
        .iter()
        .filter(|info| {
            matches!(
                info.state,
                CoroutineState::Ready | CoroutineState::Waiting | CoroutineState::Suspended
            )
        })
        .min_by_key(|info| (info.priority, info.run_time, info.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], expected: [f64; 3]) {
        let found = [
            variance(values),
            coefficient_of_variation(values),
            max_over_mean(values),
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{values:?}: {found}");
        }
    }

    #[test]
    fn spread() {
        check(&[], [0.0, 0.0, 0.0]);
        check(&[0.0, 0.0], [0.0, 0.0, 0.0]);
        check(&[0.5, 0.5], [0.0, 0.0, 0.0]);
        check(&[1.0, 0.0], [0.25, 1.0, 1.0]);
        check(
            &[0.9, 0.7, 0.8],
            [0.02 / 3.0, (0.02_f64 / 3.0).sqrt() / 0.8, 0.125],
        );
    }

    #[test]
    fn balancing_starts_above_the_threshold() {
        assert!(!should_balance(&[0.5, 0.5], 0.3));
        assert!(!should_balance(&[0.57, 0.43], 0.3));
        assert!(should_balance(&[0.58, 0.42], 0.3));
        assert!(!should_balance(&[], 0.3));
        assert!(!should_balance(&[0.0, 0.0], 0.3));
    }

    #[test]
    fn the_least_loaded_is_the_first_of_equals() {
        assert_eq!(least_loaded(&[3, 1, 1]), Some(1));
        assert_eq!(least_loaded(&[]), None);
    }
}
