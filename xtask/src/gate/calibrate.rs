//! How often the gate is wrong on this machine: gates of one build against itself,
//! as it is and with work added.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use perf_bench::Fingerprint;
use perf_bench::gate::{BenchmarkEvidence, Calibration, Detection, Evidence, Rate, Rules, Verdict};
use perf_bench::stats::rng::Rng;
use serde::{Deserialize, Serialize};

use super::measure::Bench;
use crate::workspace::{Workspace, tell, write_file};

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// Rates of another CPU say nothing.
    cpu: String,
    rows: Vec<Calibration>,
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.target().join("gate/calibration.json")
}

/// Rates measured before on this machine; none if never.
pub(super) fn load(workspace: &Workspace, notes: &mut Vec<String>) -> Result<Vec<Calibration>> {
    load_from(&path(workspace), &Fingerprint::detect().cpu, notes)
}

fn load_from(path: &Path, cpu: &str, notes: &mut Vec<String>) -> Result<Vec<Calibration>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notes.push(
                "error rates are not known here: `cargo xtask gate --calibrate` measures them"
                    .to_owned(),
            );
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let advice = || {
        format!(
            "{} is damaged: remove it, or calibrate again",
            path.display()
        )
    };
    let stored: Stored = serde_json::from_str(&text).with_context(advice)?;
    let is_rate = |rate: &Rate| rate.trials > 0 && rate.hits <= rate.trials;
    let all_rates = stored.rows.iter().all(|row| {
        let found = row.detection.iter().map(|detection| &detection.found);
        [&row.screen_alarms, &row.confirmed_alarms]
            .into_iter()
            .chain(found)
            .all(is_rate)
    });
    ensure!(all_rates, "{}", advice());
    if stored.cpu != cpu {
        notes.push(format!(
            "error rates were measured on another CPU ({}): calibrate again",
            stored.cpu
        ));
        return Ok(Vec::new());
    }
    Ok(stored.rows)
}

/// Writes the rates down; gives where.
pub(super) fn store(workspace: &Workspace, rows: Vec<Calibration>) -> Result<PathBuf> {
    let path = path(workspace);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let stored = Stored {
        cpu: Fingerprint::detect().cpu,
        rows,
    };
    let mut text = serde_json::to_string_pretty(&stored)?;
    text.push('\n');
    write_file(&path, &text)?;
    Ok(path)
}

/// Gates of each size of effect, `trials` of each; 0 among them is the same code.
/// `None` for Ctrl-C.
pub(super) fn measure(
    bench: &mut Bench<'_>,
    benchmarks: &[BenchmarkEvidence],
    trials: u64,
    effects: &[f64],
) -> Result<Option<Vec<Calibration>>> {
    let none = Rate { hits: 0, trials };
    let mut rows: Vec<Calibration> = benchmarks
        .iter()
        .map(|benchmark| Calibration {
            id: benchmark.id.to_string(),
            screen_alarms: none,
            confirmed_alarms: none,
            detection: effects
                .iter()
                .map(|&effect| Detection {
                    effect,
                    found: none,
                })
                .collect(),
            seconds: 0.0,
        })
        .collect();
    let mut seeds = Rng::new(bench.settings.seed);
    for trial in 0..trials {
        // Same code and slowdowns in turn, so that a busy hour meets all alike.
        for index in 0..=effects.len() {
            let effect = index.checked_sub(1).map(|index| effects[index]);
            bench.restart(seeds.next_u64(), effect.unwrap_or(0.0));
            let mut evidence = Evidence {
                benchmarks: benchmarks.to_vec(),
                ..Evidence::default()
            };
            let started = Instant::now();
            let Some(report) = bench.judge(&mut evidence, &Rules::default())? else {
                return Ok(None);
            };
            let seconds = started.elapsed().as_secs_f64();
            for (row, comparison) in rows.iter_mut().zip(&report.comparisons) {
                ensure!(
                    comparison.verdict != Verdict::Invalid,
                    "{}: {}",
                    comparison.id,
                    comparison.reason
                );
                let is_confirmed = u64::from(comparison.verdict == Verdict::Regressed);
                match index.checked_sub(1) {
                    None => {
                        row.screen_alarms.hits += u64::from(!comparison.confirm.is_empty());
                        row.confirmed_alarms.hits += is_confirmed;
                        row.seconds += seconds / (trials * benchmarks.len() as u64) as f64;
                    }
                    Some(index) => row.detection[index].found.hits += is_confirmed,
                }
            }
        }
        tell(format_args!("[{}/{trials}] {}", trial + 1, so_far(&rows)));
    }
    Ok(Some(rows))
}

fn so_far(rows: &[Calibration]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let found: Vec<String> = row
                .detection
                .iter()
                .map(|detection| detection.found.hits.to_string())
                .collect();
            format!(
                "{}: {} alarms, {} found",
                row.id,
                row.confirmed_alarms.hits,
                found.join("/")
            )
        })
        .collect();
    rows.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_back_on_the_same_cpu_and_damage_is_named() {
        let dir = std::env::temp_dir().join(format!("xtask-rates-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("calibration.json");
        let mut notes = Vec::new();
        assert_eq!(load_from(&path, "a", &mut notes).unwrap(), []);
        assert!(notes[0].contains("--calibrate"), "{notes:?}");
        let rate = |hits, trials| Rate { hits, trials };
        let row = |trials| Calibration {
            id: "a/b".to_owned(),
            screen_alarms: rate(1, trials),
            confirmed_alarms: rate(0, trials),
            detection: Vec::new(),
            seconds: 1.0,
        };
        let write = |row: Calibration| {
            let stored = Stored {
                cpu: "a".to_owned(),
                rows: vec![row],
            };
            std::fs::write(&path, serde_json::to_string(&stored).unwrap()).unwrap();
        };
        write(row(20));
        assert_eq!(load_from(&path, "a", &mut notes).unwrap(), [row(20)]);
        assert_eq!(load_from(&path, "b", &mut notes).unwrap(), []);
        assert!(notes[1].contains("another CPU"), "{notes:?}");
        write(row(0));
        for text in [None, Some("{"), Some("[]")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = format!("{:#}", load_from(&path, "a", &mut notes).unwrap_err());
            assert!(error.contains("damaged"), "{error}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
