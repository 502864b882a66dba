//! What holds of every summary, whatever the samples.

use perf_bench::Summary;
use proptest::prelude::*;

fn samples() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1e6..1e6_f64, 1..200)
}

/// Equal up to rounding of values as large as `magnitude`.
fn close(a: f64, b: f64, magnitude: f64) -> bool {
    (a - b).abs() <= 1e-9 * magnitude.max(1.0)
}

fn locations(summary: &Summary) -> [f64; 6] {
    [
        summary.min,
        summary.q25,
        summary.median,
        summary.mean,
        summary.p99,
        summary.max,
    ]
}

fn spreads(summary: &Summary) -> [f64; 2] {
    [summary.mad, summary.std_dev.unwrap_or(0.0)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scaling_scales_location_and_spread(samples in samples(), factor in 1e-3..1e3_f64) {
        let before = Summary::of(&samples).unwrap();
        let scaled: Vec<f64> = samples.iter().map(|x| x * factor).collect();
        let after = Summary::of(&scaled).unwrap();
        prop_assert_eq!(before.n, after.n);
        for (a, b) in locations(&before).into_iter().zip(locations(&after)) {
            prop_assert!(close(a * factor, b, 1e6 * factor), "{} {}", a * factor, b);
        }
        for (a, b) in spreads(&before).into_iter().zip(spreads(&after)) {
            prop_assert!(close(a * factor, b, 1e6 * factor), "{} {}", a * factor, b);
        }
    }

    #[test]
    fn shifting_shifts_location_and_keeps_spread(samples in samples(), by in -1e6..1e6_f64) {
        let before = Summary::of(&samples).unwrap();
        let shifted: Vec<f64> = samples.iter().map(|x| x + by).collect();
        let after = Summary::of(&shifted).unwrap();
        for (a, b) in locations(&before).into_iter().zip(locations(&after)) {
            prop_assert!(close(a + by, b, 2e6), "{} {}", a + by, b);
        }
        for (a, b) in spreads(&before).into_iter().zip(spreads(&after)) {
            prop_assert!(close(a, b, 2e6), "{} {}", a, b);
        }
    }

    #[test]
    fn order_does_not_matter(samples in samples()) {
        let reversed: Vec<f64> = samples.iter().rev().copied().collect();
        prop_assert_eq!(Summary::of(&samples), Summary::of(&reversed));
    }

    #[test]
    fn the_fields_are_ordered_and_finite(samples in samples()) {
        let s = Summary::of(&samples).unwrap();
        prop_assert!(s.min <= s.q25 && s.q25 <= s.median && s.median <= s.p99 && s.p99 <= s.max);
        prop_assert!(close(s.mean.clamp(s.min, s.max), s.mean, 1e6));
        prop_assert!(s.mad >= 0.0 && s.mad <= s.max - s.min);
        prop_assert_eq!(s.std_dev.is_some(), samples.len() > 1);
        prop_assert!(locations(&s).into_iter().chain(spreads(&s)).all(f64::is_finite));
    }
}
