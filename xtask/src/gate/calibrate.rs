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
use crate::workspace::{Workspace, read_text, tell, time_stamp, write_file};

/// Rates of another procedure say nothing: raise it with what changes how a process
/// is measured, or what a body of the gate does under the same name.
pub(crate) const PROCEDURE: u32 = 2;

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// [`PROCEDURE`]; 0 was not written down.
    #[serde(default)]
    procedure: u32,
    /// Rates of another CPU say nothing.
    cpu: String,
    /// When the latest gates were run, and of which commit.
    time: String,
    revision: String,
    rows: Vec<Calibration>,
}

/// What is known of this machine.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) rows: Vec<Calibration>,
    /// When and at which commit, as words; empty without rows.
    pub(crate) origin: String,
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.target().join("gate/calibration.json")
}

/// Rates measured before on this machine; none if never.
pub(crate) fn load(workspace: &Workspace, notes: &mut Vec<String>) -> Result<Known> {
    load_from(&path(workspace), &Fingerprint::detect().cpu, notes)
}

fn load_from(path: &Path, cpu: &str, notes: &mut Vec<String>) -> Result<Known> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notes.push(
                "error rates are not known here: `cargo xtask gate --calibrate` measures them"
                    .to_owned(),
            );
            return Ok(Known::default());
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
    if stored.procedure != PROCEDURE {
        notes.push(
            "error rates were measured by another version of the gate: calibrate again".to_owned(),
        );
        return Ok(Known::default());
    }
    if stored.cpu != cpu {
        notes.push(format!(
            "error rates were measured on another CPU ({}): calibrate again",
            stored.cpu
        ));
        return Ok(Known::default());
    }
    Ok(Known {
        origin: format!("{} at {}", stored.time, stored.revision),
        rows: stored.rows,
    })
}

/// Writes the rates down, on top of `earlier` ones; gives what was written and
/// where. A benchmark that is no longer measured is dropped.
pub(super) fn store(
    workspace: &Workspace,
    earlier: &[Calibration],
    rows: &[Calibration],
    revision: &str,
) -> Result<(Vec<Calibration>, PathBuf)> {
    let path = path(workspace);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let with_earlier = |row: &Calibration| {
        let before = earlier.iter().find(|before| before.id == row.id);
        before.map_or_else(|| row.clone(), |before| before.clone().with(row))
    };
    let stored = Stored {
        procedure: PROCEDURE,
        cpu: Fingerprint::detect().cpu,
        time: time_stamp(),
        revision: revision.to_owned(),
        rows: rows.iter().map(with_earlier).collect(),
    };
    let mut text = serde_json::to_string_pretty(&stored)?;
    text.push('\n');
    write_file(&path, &text)?;
    Ok((stored.rows, path))
}

/// Which gates a calibration consists of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan<'a> {
    /// Gates of the same code; at least one.
    pub(super) same: u64,
    /// Gates of each effect; at least one.
    pub(super) injected: u64,
    /// Slowdowns, 0.05 being 5 %.
    pub(super) effects: &'a [f64],
}

impl Plan<'_> {
    /// Whether step `step` of as many as there are of the most has one of `count`
    /// gates: they are spread evenly, so that a busy hour meets all kinds alike, and
    /// all kinds begin in the first step.
    fn has(&self, count: u64, step: u64) -> bool {
        let begun = |steps: u64| (steps * count).div_ceil(self.steps());
        begun(step + 1) > begun(step)
    }

    fn steps(&self) -> u64 {
        self.same.max(self.injected)
    }
}

/// Runs the gates of `plan`. Hands over the rates after each step, so that a run that
/// ends early leaves those it has. `None` at its end; after Ctrl-C, what is left.
pub(super) fn measure<'p>(
    bench: &mut Bench<'_>,
    benchmarks: &[BenchmarkEvidence],
    plan: Plan<'p>,
    mut on_step: impl FnMut(&[Calibration]) -> Result<()>,
) -> Result<Option<Plan<'p>>> {
    let none = Rate { hits: 0, trials: 0 };
    let mut rows: Vec<Calibration> = benchmarks
        .iter()
        .map(|benchmark| Calibration {
            id: benchmark.id.to_string(),
            kind: Some(benchmark.kind),
            screen_alarms: none,
            confirmed_alarms: none,
            detection: plan
                .effects
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
    let started = Instant::now();
    let mut left = plan;
    for step in 0..plan.steps() {
        let mut after = rows.clone();
        let (has_same, has_injected) = (plan.has(plan.same, step), plan.has(plan.injected, step));
        if has_same {
            let Some(gate) = run_gate(bench, benchmarks, seeds.next_u64(), 0.0)? else {
                return Ok(Some(left));
            };
            for (row, outcome) in after.iter_mut().zip(gate) {
                row.screen_alarms = row.screen_alarms + once(outcome.is_candidate);
                row.confirmed_alarms = row.confirmed_alarms + once(outcome.is_confirmed);
                let trials = row.confirmed_alarms.trials as f64;
                row.seconds += (outcome.seconds - row.seconds) / trials;
            }
        }
        if has_injected {
            for (index, &effect) in plan.effects.iter().enumerate() {
                let Some(gate) = run_gate(bench, benchmarks, seeds.next_u64(), effect)? else {
                    return Ok(Some(left));
                };
                for (row, outcome) in after.iter_mut().zip(gate) {
                    let found = &mut row.detection[index].found;
                    *found = *found + once(outcome.is_confirmed);
                }
            }
        }
        rows = after;
        left.same -= u64::from(has_same);
        left.injected -= u64::from(has_injected);
        let (done, all) = (step + 1, plan.steps());
        let ahead = started.elapsed().as_secs_f64() * (all - done) as f64 / done as f64;
        tell(format_args!(
            "[{done}/{all}, {} left] {}",
            in_words(ahead),
            so_far(&rows)
        ));
        on_step(&rows)?;
    }
    Ok(None)
}

/// How one benchmark came out of a gate.
struct OfGate {
    is_candidate: bool,
    is_confirmed: bool,
    /// Its share of the gate's time.
    seconds: f64,
}

/// One gate, with that share of work added. `None` for Ctrl-C.
fn run_gate(
    bench: &mut Bench<'_>,
    benchmarks: &[BenchmarkEvidence],
    seed: u64,
    effect: f64,
) -> Result<Option<Vec<OfGate>>> {
    bench.restart(seed, effect);
    let mut evidence = Evidence {
        benchmarks: benchmarks.to_vec(),
        ..Evidence::default()
    };
    let started = Instant::now();
    let Some(report) = bench.judge(&mut evidence, &Rules::default())? else {
        return Ok(None);
    };
    let seconds = started.elapsed().as_secs_f64() / benchmarks.len() as f64;
    let outcomes = report.comparisons.iter().map(|comparison| {
        ensure!(
            comparison.verdict != Verdict::Invalid,
            "{}: {}",
            comparison.id,
            comparison.reason
        );
        Ok(OfGate {
            is_candidate: !comparison.confirm.is_empty(),
            is_confirmed: comparison.verdict == Verdict::Regressed,
            seconds,
        })
    });
    outcomes.collect::<Result<_>>().map(Some)
}

fn once(is_hit: bool) -> Rate {
    Rate {
        hits: u64::from(is_hit),
        trials: 1,
    }
}

fn in_words(seconds: f64) -> String {
    match (seconds / 60.0).ceil() as u64 {
        0 | 1 => format!("{seconds:.0} s"),
        minutes @ 2..120 => format!("{minutes} min"),
        minutes => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// What is not as it should be: alarms, and slowdowns that were not found.
fn so_far(rows: &[Calibration]) -> String {
    let mut bad = Vec::new();
    for row in rows {
        let alarms = row.confirmed_alarms;
        if alarms.hits > 0 {
            bad.push(format!(
                "{}: {} of {} false alarms",
                row.id, alarms.hits, alarms.trials
            ));
        }
        for Detection { effect, found } in &row.detection {
            let missed = found.trials - found.hits;
            if missed > 0 {
                let percent = 100.0 * effect;
                bad.push(format!(
                    "{}: {missed} of {} +{percent} % missed",
                    row.id, found.trials
                ));
            }
        }
    }
    if bad.is_empty() {
        return "no false alarm, all found".to_owned();
    }
    bad.join("; ")
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
        let nothing = Known::default();
        assert_eq!(load_from(&path, "a", &mut notes).unwrap(), nothing);
        assert!(notes[0].contains("--calibrate"), "{notes:?}");
        let rate = |hits, trials| Rate { hits, trials };
        let row = |trials| Calibration {
            id: "a/b".to_owned(),
            kind: None,
            screen_alarms: rate(1, trials),
            confirmed_alarms: rate(0, trials),
            detection: Vec::new(),
            seconds: 1.0,
        };
        let write_as = |procedure, row: Calibration| {
            let stored = Stored {
                procedure,
                cpu: "a".to_owned(),
                time: "now".to_owned(),
                revision: "abc".to_owned(),
                rows: vec![row],
            };
            std::fs::write(&path, serde_json::to_string(&stored).unwrap()).unwrap();
        };
        write_as(PROCEDURE - 1, row(20));
        assert_eq!(load_from(&path, "a", &mut notes).unwrap(), nothing);
        assert!(notes[1].contains("another version"), "{notes:?}");
        let write = |row| write_as(PROCEDURE, row);
        write(row(20));
        let known = load_from(&path, "a", &mut notes).unwrap();
        assert_eq!(
            (&known.rows[..], &*known.origin),
            (&[row(20)][..], "now at abc")
        );
        assert_eq!(load_from(&path, "b", &mut notes).unwrap(), nothing);
        assert!(notes[2].contains("another CPU"), "{notes:?}");
        write(row(0));
        for text in [None, Some(&b"{"[..]), Some(b"[]"), Some(b"\xff\xfe")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = format!("{:#}", load_from(&path, "a", &mut notes).unwrap_err());
            assert!(error.contains("damaged"), "{error}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn rates_of_two_nights_add_up() {
        let dir = std::env::temp_dir().join(format!("xtask-nights-{}", std::process::id()));
        let workspace = Workspace::at(dir);
        let row = |id: &str| Calibration {
            id: id.to_owned(),
            kind: None,
            screen_alarms: Rate { hits: 1, trials: 9 },
            confirmed_alarms: Rate { hits: 0, trials: 9 },
            detection: Vec::new(),
            seconds: 1.0,
        };
        let first = [row("a/b"), row("a/gone")];
        let (kept, _) = store(&workspace, &[], &first, "abc").unwrap();
        let (kept, _) = store(&workspace, &kept, &[row("a/b"), row("a/new")], "def").unwrap();
        let known = load(&workspace, &mut Vec::new()).unwrap();
        assert_eq!(known.rows, kept);
        let trials: Vec<_> = kept
            .iter()
            .map(|r| (&*r.id, r.screen_alarms.trials))
            .collect();
        assert_eq!(trials, [("a/b", 18), ("a/new", 9)]);
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
