//! What gates have measured over time, one JSON object per line, and where it
//! changed.
//!
//! Times of different days are compared only here, and only to see trends: a verdict
//! never rests on them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::HistoryError;
use crate::gate::BenchmarkEvidence;
use crate::stats::changepoint::change_points;
use crate::stats::summary::Summary;

/// One benchmark in one gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When: `YYYYMMDD-HHMMSS`, universal time.
    pub time: String,
    /// What was measured: a commit.
    pub revision: String,
    /// Where; series of different CPUs are kept apart.
    pub cpu: String,
    /// Which benchmark.
    pub id: String,
    /// Median over the processes, in nanoseconds, if time was measured.
    pub ns: Option<f64>,
    /// Instructions, if they were counted.
    pub ir: Option<u64>,
    /// The exact counters.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

impl HistoryEntry {
    /// What a gate measured of the change. `None` if nothing of it counts.
    #[must_use]
    pub fn of(
        benchmark: &BenchmarkEvidence,
        time: &str,
        revision: &str,
        cpu: &str,
    ) -> Option<Self> {
        if benchmark.invalid.is_some() {
            return None;
        }
        let pairs = [&benchmark.screen, &benchmark.confirm, &benchmark.relayout];
        let times: Vec<f64> = pairs
            .into_iter()
            .flatten()
            .filter(|pair| pair.ln_ratio().is_some())
            .map(|pair| pair.change_ns)
            .collect();
        let counts = benchmark.instructions.as_ref();
        Some(Self {
            time: time.to_owned(),
            revision: revision.to_owned(),
            cpu: cpu.to_owned(),
            id: benchmark.id.to_string(),
            ns: Summary::of(&times).ok().map(|summary| summary.median),
            ir: counts.and_then(|counts| counts.change.iter().min().copied()),
            counters: benchmark
                .counters
                .iter()
                .map(|counter| (counter.name.clone(), counter.change))
                .collect(),
        })
    }

    /// Its line, with the end of the line.
    ///
    /// # Panics
    /// Never: strings and finite numbers are JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("strings and numbers are JSON");
        line.push('\n');
        line
    }

    fn quantities(&self) -> impl Iterator<Item = (&str, f64)> {
        let counters = self.counters.iter();
        let exact = |value: u64| value as f64;
        [("ns", self.ns), ("ir", self.ir.map(exact))]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .chain(counters.map(move |(name, value)| (name.as_str(), exact(*value))))
    }
}

/// All entries of a history, in its order.
///
/// # Errors
/// If a line is not an entry; the error names it.
pub fn parse(text: &str) -> Result<Vec<HistoryEntry>, HistoryError> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let damaged = |message: String| HistoryError {
                line: index + 1,
                message,
            };
            let entry: HistoryEntry =
                serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
            match entry.ns {
                Some(ns) if ns.is_nan() || ns <= 0.0 => Err(damaged(format!("{ns} ns is no time"))),
                _ => Ok(entry),
            }
        })
        .collect()
}

/// One quantity of one benchmark on one CPU, over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The CPU.
    pub cpu: String,
    /// The benchmark.
    pub id: String,
    /// `ns`, `ir` or a counter's name.
    pub quantity: String,
    /// How many values there are.
    pub n: usize,
    /// The latest.
    pub latest: f64,
    /// Where its level changed, oldest first.
    pub changes: Vec<Change>,
}

/// A step to another level.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The first commit measured on the new level.
    pub revision: String,
    /// When that was.
    pub time: String,
    /// New level over old, of medians.
    pub ratio: f64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            revision,
            time,
            ratio,
        } = self;
        let percent = 100.0 * (ratio - 1.0);
        let short = revision.get(..12).unwrap_or(revision);
        write!(f, "{percent:+.2} % at {short} ({time})")
    }
}

/// Every series, by benchmark and quantity, with its changes.
#[must_use]
pub fn series(entries: &[HistoryEntry]) -> Vec<Series> {
    type Values<'a> = Vec<(&'a HistoryEntry, f64)>;
    let mut by_key: BTreeMap<(&str, &str, &str), Values<'_>> = BTreeMap::new();
    for entry in entries {
        for (quantity, value) in entry.quantities() {
            let key = (entry.id.as_str(), quantity, entry.cpu.as_str());
            by_key.entry(key).or_default().push((entry, value));
        }
    }
    by_key
        .into_iter()
        .map(|((id, quantity, cpu), values)| Series {
            cpu: cpu.to_owned(),
            id: id.to_owned(),
            quantity: quantity.to_owned(),
            n: values.len(),
            latest: values.last().map_or(0.0, |(_, value)| *value),
            changes: changes(&values),
        })
        .collect()
}

fn changes(values: &[(&HistoryEntry, f64)]) -> Vec<Change> {
    // Of ratios rather than differences; a count may be 0.
    let logarithms: Vec<f64> = values.iter().map(|(_, value)| value.ln_1p()).collect();
    let steps = change_points(&logarithms);
    let ends = steps.iter().skip(1).copied().chain([values.len()]);
    let mut before = 0;
    let median = |range: std::ops::Range<usize>| {
        let level: Vec<f64> = values[range].iter().map(|(_, value)| *value).collect();
        Summary::of(&level).map_or(f64::NAN, |summary| summary.median)
    };
    steps
        .iter()
        .zip(ends)
        .map(|(&step, end)| {
            let ratio = (1.0 + median(step..end)) / (1.0 + median(before..step));
            before = step;
            let (entry, _) = values[step];
            Change {
                revision: entry.revision.clone(),
                time: entry.time.clone(),
                ratio,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Counter, CounterRule, Instructions, Kind, Pair};

    fn entry(index: u64, ns: f64) -> HistoryEntry {
        HistoryEntry {
            time: format!("t{index}"),
            revision: format!("r{index}"),
            cpu: "a".to_owned(),
            id: "s/a".to_owned(),
            ns: Some(ns),
            ir: Some(1000),
            counters: BTreeMap::new(),
        }
    }

    #[test]
    fn lines_read_back() {
        let entries = vec![entry(1, 10.5), entry(2, 11.0)];
        let text: String = entries.iter().map(HistoryEntry::to_line).collect();
        assert_eq!(parse(&text).unwrap(), entries);
        assert_eq!(parse("\n").unwrap(), []);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let good = entry(1, 10.5).to_line();
        for bad in ["{", "[]", "{\"time\":1}", "half a li"] {
            let error = parse(&format!("{good}{bad}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
        let no_time = entry(1, 0.0).to_line();
        assert!(parse(&no_time).unwrap_err().to_string().contains("no time"));
    }

    #[test]
    fn a_step_names_the_commit_where_it_began() {
        let entries: Vec<_> = (0..20)
            .map(|i| entry(i, if i < 12 { 1000.0 } else { 1100.0 } + (i * 7 % 5) as f64))
            .collect();
        let all = series(&entries);
        let of = |quantity: &str| all.iter().find(|s| s.quantity == quantity).unwrap();
        assert!(of("ir").changes.is_empty());
        let [change] = &of("ns").changes[..] else {
            panic!("{:?}", of("ns"));
        };
        assert_eq!(change.revision, "r12");
        assert!((change.ratio - 1.1).abs() < 0.01, "{change}");
    }

    #[test]
    fn machines_are_kept_apart() {
        let mut other = entry(2, 5.0);
        other.cpu = "b".to_owned();
        assert_eq!(series(&[entry(1, 10.0), other]).len(), 4);
    }

    #[test]
    fn only_what_counts_is_kept() {
        let mut benchmark = BenchmarkEvidence::new("s/a".parse().unwrap(), Kind::Compute);
        benchmark.instructions = Some(Instructions {
            base: vec![1],
            change: vec![8, 7],
            limit: 0.0,
        });
        benchmark.counters = vec![Counter {
            name: "insts".to_owned(),
            base: 1,
            change: 2,
            rule: CounterRule::Equal,
        }];
        let pair = |change_ns| Pair {
            base_ns: 1.0,
            change_ns,
        };
        benchmark.screen = vec![pair(3.0), pair(f64::NAN), pair(5.0), pair(4.0)];
        let kept = HistoryEntry::of(&benchmark, "t", "r", "c").unwrap();
        assert_eq!(
            (kept.ns, kept.ir, kept.counters["insts"]),
            (Some(4.0), Some(7), 2)
        );
        benchmark.invalid = Some("crashed".to_owned());
        assert_eq!(HistoryEntry::of(&benchmark, "t", "r", "c"), None);
    }
}
