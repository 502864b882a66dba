//! Is the change slower than its base? One verdict per benchmark, with its cause,
//! and one exit code.
//!
//! A pure library: it measures nothing. Give [`decide`] what has been measured so
//! far ([`Evidence`]); it answers with what to measure next or with the verdicts.
//! Calling it again with more evidence continues; no state is kept in between, so a
//! stored run replays to the same verdicts.
//!
//! ```text
//!  0 counters   exact, no noise     beyond its limit ──────────────> regressed
//!                                   other guest work ──────────────> invalid
//!  1 Ir         callgrind, repeats  beyond its limit ─> regressed, unless wall
//!                                   time says unchanged (then a warning)
//!  2 screen     pairs of processes  unchanged | improved ──────────> done
//!                                   never clear ───────────────────> inconclusive
//!  3 confirm    candidates again, fresh processes; both agree and Holm's
//!               correction over all candidates holds, or it is not confirmed
//!  4 relayout   if Ir and counters say nothing changed: twice the layouts;
//!               gone ──> layout-suspect, still there ──> regressed, real
//!
//!  control      the same code on both sides, in every stage: if its interval is
//!               more than 1 % off zero, twice, the runner is contaminated and no
//!               wall time of the run counts
//! ```
//!
//! What a pair is (layouts drawn, order randomised, rounds interleaved) is the
//! caller's business; here it is two numbers.

mod decide;
mod evidence;

pub use decide::{Request, Rules, Stage, Step, Target, decide};
pub use evidence::{
    Base, BenchmarkEvidence, Counter, CounterRule, Evidence, Instructions, Kind, Pair,
};

use serde::{Deserialize, Serialize};

use crate::stats::Interval;
use crate::stats::proportion::wilson;
use crate::stats::summary::Summary;
use crate::units::format_number;

/// How a benchmark of the change stands against its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Faster by more than the margin.
    Improved,
    /// Not slower by as much as the limit.
    Unchanged,
    /// Slower, confirmed.
    Regressed,
    /// Not clear.
    Inconclusive,
    /// The two sides cannot be compared, or one computed the wrong thing.
    Invalid,
}

impl Verdict {
    /// Every verdict, the worst first.
    pub const ALL: &[Self] = &[
        Self::Regressed,
        Self::Invalid,
        Self::Inconclusive,
        Self::Unchanged,
        Self::Improved,
    ];

    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
            Self::Invalid => "invalid",
        }
    }

    /// Exit code of a gate whose only benchmark has this verdict: 0 pass, 1
    /// regressed, 2 not to be judged.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Improved | Self::Unchanged => 0,
            Self::Regressed => 1,
            Self::Inconclusive | Self::Invalid => 2,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Exit code of a gate that could not run: bad usage, or a side did not build.
pub const EXIT_USAGE: u8 = 3;

/// Why a verdict is what it is, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The code does more, or takes longer in every layout.
    Real,
    /// Slower in the layouts drawn first, not in twice as many: where the linker
    /// put the code, not what it does.
    LayoutSuspect,
    /// The control, the same code on both sides, differed from itself.
    ContaminatedRunner,
    /// The base is a stored run, not measured beside the change: half of all alarms
    /// from such wall times are false, so only counters were compared.
    ColdBaseline,
}

impl Cause {
    /// The word used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::LayoutSuspect => "layout-suspect",
            Self::ContaminatedRunner => "contaminated-runner",
            Self::ColdBaseline => "cold-baseline",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The outcome of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// `group/function` or `group/function/params`.
    pub id: String,
    /// What its time depends on, hence how it was measured.
    pub kind: Kind,
    /// Whether its verdict is for information only and does not fail the gate.
    pub advisory: bool,
    /// How the change stands.
    pub verdict: Verdict,
    /// Why, if that is known.
    pub cause: Option<Cause>,
    /// The same as a sentence.
    pub reason: String,
    /// What did not decide but should be known.
    pub warnings: Vec<String>,
    /// Change over base, from the confirming pairs if there are any; above 1 is
    /// slower. `None` if the verdict needed no wall time.
    pub ratio: Option<f64>,
    /// Interval of the ratio at 99 %.
    pub interval: Option<Interval>,
    /// p-value of "not slower" after confirmation, corrected for the number of
    /// candidates.
    pub p: Option<f64>,
    /// Looks taken, over all stages.
    pub looks: usize,
    /// Change of the instruction count, 0.01 being 1 % more.
    pub ir_delta: Option<f64>,
    /// The screening pairs, in the order they were measured.
    pub screen: Vec<Pair>,
    /// The confirming pairs.
    pub confirm: Vec<Pair>,
    /// The pairs of twice the layouts.
    pub relayout: Vec<Pair>,
}

impl Comparison {
    /// All pairs of all stages.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.screen
            .iter()
            .chain(&self.confirm)
            .chain(&self.relayout)
    }

    /// Median over all processes of the base, in nanoseconds.
    #[must_use]
    pub fn base_ns(&self) -> Option<f64> {
        self.median(|pair| pair.base_ns)
    }

    /// Median over all processes of the change, in nanoseconds.
    #[must_use]
    pub fn change_ns(&self) -> Option<f64> {
        self.median(|pair| pair.change_ns)
    }

    fn median(&self, side: impl Fn(&Pair) -> f64) -> Option<f64> {
        let times: Vec<f64> = self.pairs().map(side).collect();
        Summary::of(&times).ok().map(|summary| summary.median)
    }

    /// What it contributes to the exit code of the gate.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            // Numbers of an advisory benchmark are only for information; wrong
            // results are not a matter of noise.
            Verdict::Regressed | Verdict::Inconclusive if self.advisory => 0,
            verdict => verdict.exit_code(),
        }
    }
}

/// How the control, the same code on both sides, differed from itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ControlSummary {
    /// One side over the other; `None` if it could not be measured.
    pub ratio: Option<f64>,
    /// Interval of the ratio at 99 %.
    pub interval: Option<Interval>,
    /// Pairs it rests on.
    pub pairs: usize,
    /// Whether it was off by too much, twice.
    pub contaminated: bool,
}

/// A rate that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How often it happened.
    pub hits: u64,
    /// Out of how many; at least 1.
    pub trials: u64,
}

impl Rate {
    /// The share.
    #[must_use]
    pub fn share(self) -> f64 {
        self.hits as f64 / self.trials as f64
    }

    /// Wilson's interval at 95 %.
    ///
    /// # Panics
    /// If there were no trials.
    #[must_use]
    pub fn interval(self) -> Interval {
        wilson(self.hits, self.trials, 0.95)
    }
}

/// The share in percent and its interval: `0.50 % [0.14, 1.80]`.
///
/// # Panics
/// If there were no trials.
impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let interval = self.interval();
        let [share, lo, hi] = [self.share(), interval.lo, interval.hi].map(|part| 100.0 * part);
        write!(f, "{share:.2} % [{lo:.2}, {hi:.2}]")
    }
}

impl std::ops::Add for Rate {
    type Output = Self;

    /// Of both counts together.
    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            trials: self.trials + other.trials,
        }
    }
}

/// Measured error rates of the gate on one benchmark, on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The benchmark.
    pub id: String,
    /// What its time depends on; `None` if that was not written down.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Alarms of the screening stage with the same code on both sides.
    pub screen_alarms: Rate,
    /// Alarms that were confirmed.
    pub confirmed_alarms: Rate,
    /// Slowdowns injected, and how many of each were confirmed.
    pub detection: Vec<Detection>,
    /// Mean time of one gate, in seconds.
    pub seconds: f64,
}

/// How often a slowdown of known size was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The slowdown, 0.05 being 5 %.
    pub effect: f64,
    /// How many were found.
    pub found: Rate,
}

/// The slowdown and how often it was found: `+5 %: 98.50 % [95.68, 99.49]`.
impl std::fmt::Display for Detection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let effect = format_number(100.0 * self.effect);
        write!(f, "+{effect} %: {}", self.found)
    }
}

impl Calibration {
    /// The same with the gates of another calibration of the same benchmark. Effects
    /// that only one of them injected are kept as they are.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        let (mine, theirs) = (
            self.confirmed_alarms.trials as f64,
            other.confirmed_alarms.trials as f64,
        );
        if mine + theirs > 0.0 {
            self.seconds = (self.seconds * mine + other.seconds * theirs) / (mine + theirs);
        }
        self.screen_alarms = self.screen_alarms + other.screen_alarms;
        self.confirmed_alarms = self.confirmed_alarms + other.confirmed_alarms;
        for theirs in &other.detection {
            let same = |mine: &&mut Detection| mine.effect == theirs.effect;
            match self.detection.iter_mut().find(same) {
                Some(mine) => mine.found = mine.found + theirs.found,
                None => self.detection.push(*theirs),
            }
        }
        self
    }

    /// Whether the benchmark is too noisy here to fail a gate: there were false
    /// alarms, and more than 1 % of them cannot be ruled out, or fewer than 95 % of
    /// slowdowns of 5 % are found. A calibration too short to rule them out that saw
    /// none is no reason to let slowdowns pass.
    #[must_use]
    pub fn is_advisory(&self) -> bool {
        let alarms = self.confirmed_alarms;
        (alarms.hits > 0 && alarms.interval().hi > 0.01)
            || self
                .detection
                .iter()
                .any(|detection| detection.effect == 0.05 && detection.found.share() < 0.95)
    }
}

/// The outcome of a gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GateReport {
    /// One per benchmark, in the order of the evidence.
    pub comparisons: Vec<Comparison>,
    /// The control; `None` if no wall time was needed.
    pub control: Option<ControlSummary>,
    /// The command that repeats this gate, for readers of the report.
    pub reproduce: Option<String>,
    /// Error rates measured before on this machine; empty if never calibrated.
    pub calibration: Vec<Calibration>,
}

impl GateReport {
    /// 1 if a benchmark that counts has regressed, otherwise 2 if one could not be
    /// judged, otherwise 0. A gate that compared nothing could not judge anything.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let codes = self.comparisons.iter().map(Comparison::exit_code);
        // A confirmed regression outweighs what is unclear.
        codes
            .max_by_key(|code| match code {
                0 => 0,
                1 => 2,
                _ => 1,
            })
            .unwrap_or(2)
    }

    /// What is wrong with a report that was read back, if anything: renderers rely
    /// on times being positive and on rates being of something.
    pub(crate) fn flaw(&self) -> Option<String> {
        let comparisons = self.comparisons.iter();
        let no_time = comparisons
            .filter(|comparison| comparison.pairs().any(|pair| pair.ln_ratio().is_none()))
            .map(|comparison| format!("{}: a pair is no time", comparison.id));
        let no_rate = self.calibration.iter().filter_map(|row| {
            let found = row.detection.iter().map(|detection| detection.found);
            let bad = [row.screen_alarms, row.confirmed_alarms]
                .into_iter()
                .chain(found)
                .find(|rate| rate.trials == 0 || rate.hits > rate.trials)?;
            Some(format!(
                "{}: a rate is {} of {}",
                row.id, bad.hits, bad.trials
            ))
        });
        no_time.chain(no_rate).next()
    }

    /// How many benchmarks have which verdict, in words: `1 regressed, 2 unchanged`.
    #[must_use]
    pub fn verdicts(&self) -> String {
        let counts: Vec<String> = Verdict::ALL
            .iter()
            .map(|&verdict| (self.count(verdict), verdict))
            .filter(|(count, _)| *count > 0)
            .map(|(count, verdict)| format!("{count} {verdict}"))
            .collect();
        counts.join(", ")
    }

    /// How many benchmarks have a verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.comparisons
            .iter()
            .filter(|comparison| comparison.verdict == verdict)
            .count()
    }
}
