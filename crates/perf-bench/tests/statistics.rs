//! Statistics against SciPy, and against what they promise in repeated trials.
//!
//! `tests/fixtures/statistics.json` is what `statistics.py` beside it printed; the
//! SciPy version is in it. The trials are seeded, so each is one fixed computation
//! and cannot fail now and then.

use perf_bench::stats::Interval;
use perf_bench::stats::bootstrap;
use perf_bench::stats::distribution::{
    normal_cdf, normal_quantile, student_t_quantile, student_t_upper_tail,
};
use perf_bench::stats::multiple::holm;
use perf_bench::stats::proportion::wilson;
use perf_bench::stats::rng::Rng;
use perf_bench::stats::sequential::{Decision, Plan};
use perf_bench::stats::summary::quantile;
use perf_bench::stats::trimmed::Estimate;
use proptest::prelude::*;
use serde_json::Value;

fn fixtures() -> Value {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

/// Rows of a table of the fixtures; an empty one would check nothing.
fn rows(fixtures: &Value, table: &str) -> Vec<Value> {
    let rows = fixtures[table].as_array().unwrap().clone();
    assert!(!rows.is_empty(), "{table}");
    rows
}

fn number(row: &Value, key: &str) -> f64 {
    row[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {row}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}

fn samples(fixtures: &Value, row: &Value, key: &str) -> Vec<f64> {
    numbers(&fixtures["samples"][row[key].as_str().unwrap()])
}

/// Equal to 1e-9 of the expected value, however small that is.
#[track_caller]
fn close(found: f64, expected: f64, row: &Value) {
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs(),
        "found {found:e}, SciPy says {expected:e}: {row}"
    );
}

#[track_caller]
fn close_interval(found: Interval, expected: &Value) {
    close(found.lo, number(expected, "lo"), expected);
    close(found.hi, number(expected, "hi"), expected);
}

#[test]
fn quantiles_agree_with_scipy() {
    let fixtures = fixtures();
    for row in rows(&fixtures, "quantiles") {
        let mut sorted = samples(&fixtures, &row, "samples");
        sorted.sort_by(f64::total_cmp);
        close(
            quantile(&sorted, number(&row, "q")),
            number(&row, "value"),
            &row,
        );
    }
}

#[test]
fn trimmed_means_agree_with_scipy() {
    let fixtures = fixtures();
    for row in rows(&fixtures, "trimmed_means") {
        let samples = samples(&fixtures, &row, "samples");
        let estimate = Estimate::trimmed(&samples, number(&row, "trim"));
        close(estimate.mean, number(&row, "mean"), &row);
    }
}

#[track_caller]
fn check_yuen(estimate: &Estimate, row: &Value) {
    let statistic = number(row, "statistic");
    close(estimate.mean / estimate.standard_error, statistic, row);
    close(estimate.df, number(row, "df"), row);
    close(estimate.p_above(0.0), number(row, "p_above"), row);
    close_interval(estimate.interval(0.95), row);
}

#[test]
fn the_standard_error_of_one_trimmed_sample_agrees_with_scipy() {
    let fixtures = fixtures();
    for row in rows(&fixtures, "yuen_one") {
        let samples = samples(&fixtures, &row, "samples");
        check_yuen(&Estimate::trimmed(&samples, number(&row, "trim")), &row);
    }
}

#[test]
fn yuens_test_of_two_samples_agrees_with_scipy() {
    let fixtures = fixtures();
    for row in rows(&fixtures, "yuen_two") {
        let trim = number(&row, "trim");
        let a = Estimate::trimmed(&samples(&fixtures, &row, "a"), trim);
        let b = Estimate::trimmed(&samples(&fixtures, &row, "b"), trim);
        check_yuen(&a.minus(&b), &row);
    }
}

#[test]
fn student_and_normal_agree_with_scipy() {
    let fixtures = fixtures();
    for row in rows(&fixtures, "student_quantiles") {
        let t = student_t_quantile(number(&row, "p"), number(&row, "df"));
        close(t, number(&row, "t"), &row);
    }
    for row in rows(&fixtures, "student_tails") {
        let p = student_t_upper_tail(number(&row, "t"), number(&row, "df"));
        close(p, number(&row, "p"), &row);
    }
    for row in rows(&fixtures, "normal_quantiles") {
        close(normal_quantile(number(&row, "p")), number(&row, "x"), &row);
    }
    for row in rows(&fixtures, "normal_cdf") {
        close(normal_cdf(number(&row, "x")), number(&row, "p"), &row);
    }
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

#[test]
fn bootstrap_intervals_agree_with_scipy_on_the_same_resamples() {
    let fixtures = fixtures();
    for table in ["bootstrap_means", "bootstrap_medians"] {
        let statistic = if table == "bootstrap_means" {
            mean
        } else {
            median
        };
        for row in rows(&fixtures, table) {
            let samples = samples(&fixtures, &row, "samples");
            let replicates = numbers(&row["replicates"]);
            for interval in rows(&row, "intervals") {
                let level = number(&interval, "level");
                let found = match interval["method"].as_str().unwrap() {
                    "percentile" => bootstrap::percentile(&replicates, level),
                    _ => bootstrap::bca(&samples, statistic, &replicates, level),
                };
                close_interval(found, &interval);
            }
        }
    }
}

#[test]
fn wilsons_interval_agrees_with_scipy() {
    for row in rows(&fixtures(), "wilson") {
        let count = |key: &str| row[key].as_u64().unwrap();
        let found = wilson(count("k"), count("n"), number(&row, "level"));
        close_interval(found, &row);
    }
}

#[test]
fn holm_agrees_with_its_definition() {
    let row = &fixtures()["holm"];
    let found = holm(&numbers(&row["p"]));
    for (found, expected) in found.into_iter().zip(numbers(&row["adjusted"])) {
        close(found, expected, row);
    }
}

/// Share of 2,000 trials in which the interval of `n` samples holds `truth`.
fn coverage(
    seed: u64,
    n: usize,
    truth: f64,
    draw: impl Fn(&mut Rng) -> f64,
    interval: impl Fn(&[f64], u64) -> Interval,
) -> f64 {
    const TRIALS: u64 = 2_000;
    let mut rng = Rng::new(seed);
    let held = (0..TRIALS)
        .filter(|&trial| {
            let samples: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
            interval(&samples, trial).contains(truth)
        })
        .count();
    held as f64 / TRIALS as f64
}

#[track_caller]
fn covers(found: f64) {
    assert!((0.935..=0.965).contains(&found), "covers {found}");
}

#[test]
fn intervals_of_trimmed_means_cover_95_percent() {
    let interval = |samples: &[f64], _| Estimate::trimmed(samples, 0.2).interval(0.95);
    // Process noise, as measured: mostly quiet, one process in ten disturbed.
    let disturbed = |rng: &mut Rng| {
        let quiet = rng.uniform() < 0.9;
        rng.normal() * if quiet { 0.022 } else { 0.088 }
    };
    for (seed, n) in [(1, 10), (2, 20), (3, 40), (4, 80)] {
        covers(coverage(seed, n, 0.0, Rng::normal, interval));
        covers(coverage(seed + 10, n, 0.0, disturbed, interval));
    }
}

#[test]
fn bootstrap_intervals_cover_95_percent() {
    covers(coverage(21, 60, 0.0, Rng::normal, |samples, seed| {
        let replicates = bootstrap::replicates(samples, mean, 400, seed);
        bootstrap::percentile(&replicates, 0.95)
    }));
    // Skewed, where the plain percentile interval falls short.
    let skewed = |rng: &mut Rng| -rng.uniform().ln_1p();
    let truth = 1.0 - 2.0 * 2.0_f64.ln();
    covers(coverage(22, 60, truth, skewed, |samples, seed| {
        let replicates = bootstrap::replicates(samples, mean, 400, seed);
        bootstrap::bca(samples, mean, &replicates, 0.95)
    }));
}

/// How often `Plan::standard` decides what, over `trials` of pairs whose ratio has
/// a true logarithm of `effect` and noise `sd` per process.
fn shares(seed: u64, trials: u32, effect: f64, sd: f64) -> impl Fn(Decision) -> f64 {
    let plan = Plan::standard();
    let mut rng = Rng::new(seed);
    let decisions: Vec<Decision> = (0..trials)
        .map(|_| {
            let data: Vec<f64> = (0..plan.pairs_max())
                .map(|_| effect + sd * (rng.normal() - rng.normal()))
                .collect();
            plan.decide(&data).decision
        })
        .collect();
    move |wanted| {
        let count = decisions.iter().filter(|found| **found == wanted).count();
        count as f64 / f64::from(trials)
    }
}

#[track_caller]
fn at_least(found: f64, wanted: f64) {
    assert!(found >= wanted, "share {found}");
}

#[test]
fn looks_have_the_promised_power() {
    for (seed, sd) in [(31, 0.022), (32, 0.044)] {
        let slower = shares(seed, 2_000, 1.05_f64.ln(), sd);
        let faster = shares(seed + 10, 2_000, -(1.2_f64.ln()), sd);
        let same = shares(seed + 20, 10_000, 0.0, sd);
        at_least(slower(Decision::Candidate), 0.95);
        at_least(faster(Decision::Improved), 0.95);
        at_least(1.0 - same(Decision::Candidate), 0.995);
        at_least(same(Decision::Unchanged), 0.9);
    }
}

fn any_samples() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.0..1.0_f64, 10..100)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scaling_the_samples_scales_the_estimate(samples in any_samples(), factor in 1e-3..1e3_f64) {
        let before = Estimate::trimmed(&samples, 0.2);
        let scaled: Vec<f64> = samples.iter().map(|x| x * factor).collect();
        let after = Estimate::trimmed(&scaled, 0.2);
        let tolerance = 1e-12 * factor;
        prop_assert!((after.mean - before.mean * factor).abs() <= tolerance);
        prop_assert!((after.standard_error - before.standard_error * factor).abs() <= tolerance);
        prop_assert_eq!(after.df, before.df);
    }

    #[test]
    fn the_order_of_samples_does_not_matter(samples in any_samples()) {
        let reversed: Vec<f64> = samples.iter().rev().copied().collect();
        prop_assert_eq!(Estimate::trimmed(&samples, 0.2), Estimate::trimmed(&reversed, 0.2));
    }

    #[test]
    fn swapping_the_sides_mirrors_estimate_and_decision(samples in any_samples(), shift in -0.2..0.2_f64) {
        let ratios: Vec<f64> = samples.iter().map(|x| shift + 0.1 * x).collect();
        let swapped: Vec<f64> = ratios.iter().map(|z| -z).collect();
        let (a, b) = (Estimate::trimmed(&ratios, 0.2), Estimate::trimmed(&swapped, 0.2));
        prop_assert!((a.mean + b.mean).abs() < 1e-15);
        let (a, b) = (a.interval(0.95), b.interval(0.95));
        prop_assert!((a.lo + b.hi).abs() < 1e-12 && (a.hi + b.lo).abs() < 1e-12);

        let mut plan = Plan::standard();
        plan.looks.truncate(1);
        let (found, mirrored) = (plan.decide(&ratios).decision, plan.decide(&swapped).decision);
        if found == Decision::Candidate {
            prop_assert_eq!(mirrored, Decision::Improved);
        }
        prop_assert!(found != Decision::Improved || mirrored != Decision::Improved);
    }

    #[test]
    fn later_pairs_do_not_change_a_decision(samples in any_samples()) {
        let plan = Plan::standard();
        let all = plan.decide(&samples);
        if !matches!(all.decision, Decision::GoOn { .. }) {
            prop_assert_eq!(plan.decide(&samples[..all.pairs]), all);
        }
    }
}
