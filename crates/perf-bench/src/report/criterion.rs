//! The directory tree of criterion 0.8, which `critcmp` and others read.
//!
//! ```text
//!  GROUP/FUNCTION/PARAMS/new/     estimates.json  benchmark.json  sample.json
//!                       /base/    the same, if another build was compared
//!                       /change/  estimates.json, if another build was compared
//! ```
//!
//! What was compared has one sample per process; otherwise samples are as measured.
//! Criterion knows wall time only, and results that passed only: others are left
//! out. Intervals are percentile bootstrap intervals at 95 %, as criterion's.

use std::collections::HashSet;

use serde::Serialize;

use crate::gate::Comparison;
use crate::report::Report;
use crate::result::{BenchmarkId, BenchmarkResult};
use crate::sample::{Event, Phase};
use crate::stats::bootstrap::{percentile, replicates};
use crate::stats::summary::Summary;

/// A file of an export that has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Path relative to the directory of the export; parts are separated by `/`,
    /// none is `.` or `..`.
    pub path: String,
    /// Content.
    pub content: String,
}

/// Resamples of an interval; criterion draws 100,000, which takes it minutes.
const RESAMPLES: usize = 1_000;
const LEVEL: f64 = 0.95;

/// The tree of a report.
#[must_use]
pub fn files(report: &Report) -> Vec<ExportFile> {
    let mut tree = Tree::default();
    for result in &report.benchmarks {
        let id = result.id().to_string();
        let compared = report.comparisons().iter().any(|c| c.id == id);
        let samples = wall_samples(result);
        if compared || !result.status().is_pass() || samples.is_empty() {
            continue;
        }
        let names = Names::of(result.id(), &mut tree.directories);
        tree.side(&names, "new", &samples);
    }
    for comparison in report.comparisons() {
        let (Ok(id), true) = (
            comparison.id.parse::<BenchmarkId>(),
            comparison.pairs().next().is_some(),
        ) else {
            continue;
        };
        let names = Names::of(&id, &mut tree.directories);
        let base: Vec<_> = comparison.pairs().map(|pair| (1, pair.base_ns)).collect();
        let change: Vec<_> = comparison.pairs().map(|pair| (1, pair.change_ns)).collect();
        tree.side(&names, "base", &base);
        tree.side(&names, "new", &change);
        tree.change(&names, comparison);
    }
    tree.files
}

/// Iterations and nanoseconds of the measured samples of wall time.
fn wall_samples(result: &BenchmarkResult) -> Vec<(u64, f64)> {
    result
        .samples()
        .iter()
        .filter(|sample| sample.phase == Phase::Measure && sample.event == Event::WallNs)
        .filter(|sample| sample.iters > 0)
        .map(|sample| (sample.iters, sample.count as f64))
        .collect()
}

/// `benchmark.json`, in criterion's order of keys.
#[derive(Clone, Serialize)]
struct Names {
    group_id: String,
    function_id: String,
    value_str: Option<String>,
    throughput: Option<()>,
    full_id: String,
    directory_name: String,
    title: String,
}

impl Names {
    fn of(id: &BenchmarkId, taken: &mut HashSet<String>) -> Self {
        let parts = [Some(id.group()), Some(id.function()), id.params()];
        let parts: Vec<String> = parts.into_iter().flatten().map(file_name).collect();
        let wanted = parts.join("/");
        // Different names may become the same file name; criterion counts, too.
        let directory_name = (1..)
            .map(|count| match count {
                1 => wanted.clone(),
                _ => format!("{wanted}_{count}"),
            })
            .find(|name| !taken.contains(name))
            .expect("numbers do not run out");
        taken.insert(directory_name.clone());
        Self {
            group_id: id.group().to_owned(),
            function_id: id.function().to_owned(),
            value_str: id.params().map(str::to_owned),
            throughput: None,
            full_id: id.to_string(),
            directory_name,
            title: id.to_string(),
        }
    }
}

/// A part of an id as the name of a directory: criterion's replacements and length,
/// and no name that means another directory.
fn file_name(part: &str) -> String {
    const LENGTH_MAX: usize = 64;
    if part.chars().all(|c| c == '.') {
        return "_".repeat(part.len());
    }
    let mut name = String::new();
    for character in part.chars() {
        let safe = match character {
            '?' | '"' | '/' | '\\' | '*' | '<' | '>' | ':' | '|' | '^' => '_',
            other => other,
        };
        if name.len() + safe.len_utf8() > LENGTH_MAX {
            break;
        }
        name.push(safe);
    }
    name
}

#[derive(Serialize)]
struct Estimates {
    mean: Estimate,
    median: Estimate,
    median_abs_dev: Estimate,
    slope: Option<Estimate>,
    std_dev: Estimate,
}

#[derive(Serialize)]
struct ChangeEstimates {
    mean: Estimate,
    median: Estimate,
}

#[derive(Serialize)]
struct Estimate {
    confidence_interval: ConfidenceInterval,
    point_estimate: f64,
    standard_error: f64,
}

#[derive(Serialize)]
struct ConfidenceInterval {
    confidence_level: f64,
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Serialize)]
struct SavedSample {
    sampling_mode: &'static str,
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Estimate {
    fn of(samples: &[f64], statistic: impl Fn(&Summary) -> f64) -> Self {
        let apply = |samples: &[f64]| {
            let summary = Summary::of(samples).expect("times are finite and there is one");
            statistic(&summary)
        };
        let replicates = replicates(samples, apply, RESAMPLES, 0);
        let interval = percentile(&replicates, LEVEL);
        let spread = Summary::of(&replicates)
            .ok()
            .and_then(|summary| summary.std_dev);
        Self {
            confidence_interval: ConfidenceInterval {
                confidence_level: LEVEL,
                lower_bound: interval.lo,
                upper_bound: interval.hi,
            },
            point_estimate: apply(samples),
            standard_error: spread.unwrap_or(0.0),
        }
    }
}

#[derive(Default)]
struct Tree {
    directories: HashSet<String>,
    files: Vec<ExportFile>,
}

impl Tree {
    fn push(&mut self, names: &Names, side: &str, file: &str, content: &impl Serialize) {
        let content = serde_json::to_string(content).expect("structs of numbers and strings");
        self.files.push(ExportFile {
            path: format!("{}/{side}/{file}", names.directory_name),
            content,
        });
    }

    fn side(&mut self, names: &Names, side: &str, samples: &[(u64, f64)]) {
        let per_iter: Vec<f64> = samples.iter().map(|(n, ns)| ns / *n as f64).collect();
        // A single sample has no spread; criterion has no way to say so.
        let std_dev = |summary: &Summary| summary.std_dev.unwrap_or(0.0);
        let estimates = Estimates {
            mean: Estimate::of(&per_iter, |summary| summary.mean),
            median: Estimate::of(&per_iter, |summary| summary.median),
            median_abs_dev: Estimate::of(&per_iter, |summary| summary.mad),
            slope: None,
            std_dev: Estimate::of(&per_iter, std_dev),
        };
        let saved = SavedSample {
            sampling_mode: "Flat",
            iters: samples.iter().map(|(n, _)| *n as f64).collect(),
            times: samples.iter().map(|(_, ns)| *ns).collect(),
        };
        self.push(names, side, "estimates.json", &estimates);
        self.push(names, side, "benchmark.json", names);
        self.push(names, side, "sample.json", &saved);
    }

    /// Criterion states a change as ratio − 1.
    fn change(&mut self, names: &Names, comparison: &Comparison) {
        let changes: Vec<f64> = comparison
            .pairs()
            .map(|pair| pair.change_ns / pair.base_ns - 1.0)
            .filter(|change| change.is_finite())
            .collect();
        if changes.is_empty() {
            return;
        }
        let estimates = ChangeEstimates {
            mean: Estimate::of(&changes, |summary| summary.mean),
            median: Estimate::of(&changes, |summary| summary.median),
        };
        self.push(names, "change", "estimates.json", &estimates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_tree_and_apart() {
        let mut taken = HashSet::new();
        let mut directory = |id: &str| {
            let id: BenchmarkId = id.parse().unwrap();
            Names::of(&id, &mut taken).directory_name
        };
        assert_eq!(directory("../..."), "__/___");
        assert_eq!(directory("a/b:c"), "a/b_c");
        assert_eq!(directory("a/b?c"), "a/b_c_2");
        let long = "\u{e9}".repeat(100);
        assert_eq!(directory(&format!("a/{long}")).len(), 2 + 64);
    }
}
