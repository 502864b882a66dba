//! What has been measured.

use serde::{Deserialize, Serialize};

use crate::result::BenchmarkId;
use crate::stats::sequential::Plan;

/// What a benchmark's time depends on, which decides how many pairs are taken and
/// how large a change must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Instructions: process noise of about 2 %; with allocation 4 %.
    Compute,
    /// Where its memory lies: about 8 %. Twice the pairs.
    MemoryBound,
    /// Several threads. Twice the pairs, margin 5 %, limit 10 %; give medians
    /// rather than lower quartiles.
    Threaded,
}

impl Kind {
    /// When to look, and what to call a change.
    #[must_use]
    pub fn plan(self) -> Plan {
        match self {
            Self::Compute => Plan::standard(),
            Self::MemoryBound => Plan::standard().with_doubled_looks(),
            Self::Threaded => Plan::threaded(),
        }
    }
}

/// One process of either side, run side by side: the lower quartile of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Of the base, per iteration, in nanoseconds.
    pub base_ns: f64,
    /// Of the change.
    pub change_ns: f64,
}

impl Pair {
    /// ln(change / base); `None` unless both are positive and finite.
    #[must_use]
    pub fn ln_ratio(self) -> Option<f64> {
        let usable = |ns: f64| ns.is_finite() && ns > 0.0;
        (usable(self.base_ns) && usable(self.change_ns))
            .then(|| (self.change_ns / self.base_ns).ln())
    }
}

/// How an exact counter may differ between the sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CounterRule {
    /// Not at all: it counts the work to be done, such as guest instructions.
    Equal,
    /// It may grow by this share, 0.01 being 1 %, and shrink at will: a size.
    GrowthAtMost(f64),
}

/// A counter without noise, from one run of either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value in the base.
    pub base: u64,
    /// Its value in the change.
    pub change: u64,
    /// How the two may differ.
    pub rule: CounterRule,
}

/// Whether a count grew by more than a share of `limit`. A growth of exactly the
/// limit does not, whatever the last bit of the product says.
pub(super) fn exceeds(base: u64, change: u64, limit: f64) -> bool {
    let allowed = (base as f64 * (1.0 + limit) * (1.0 + 1e-12)).floor();
    change > base && change as f64 > allowed
}

/// Instruction counts of callgrind, several runs of either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Instructions {
    /// Runs of the base; at least one.
    pub base: Vec<u64>,
    /// Runs of the change; at least one.
    pub change: Vec<u64>,
    /// Growth allowed, 0.01 being 1 %; below 0.005 it is 0.005.
    pub limit: f64,
}

/// What instruction counts say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum InstructionsSay {
    /// There are none.
    Nothing,
    /// Runs of one side differ among themselves by this share.
    Unstable(f64),
    /// They grew by this share.
    Grew {
        /// The growth, negative for fewer.
        delta: f64,
        /// Whether that exceeds the limit.
        exceeds: bool,
    },
}

impl Instructions {
    pub(super) fn say(&self) -> InstructionsSay {
        /// Runs of the same code, apart by more than this, do not repeat.
        const SPREAD_MAX: f64 = 0.0005;
        /// Growth below this is not worth a reader's time, whatever the limit.
        const LIMIT_MIN: f64 = 0.005;
        let range = |runs: &[u64]| {
            let (low, high) = (*runs.iter().min()?, *runs.iter().max()?);
            (low > 0).then_some((low, high))
        };
        let (Some(base), Some(change)) = (range(&self.base), range(&self.change)) else {
            return InstructionsSay::Nothing;
        };
        let growth = |from: u64, to: u64| to as f64 / from as f64 - 1.0;
        let spread = growth(base.0, base.1).max(growth(change.0, change.1));
        if spread > SPREAD_MAX {
            return InstructionsSay::Unstable(spread);
        }
        // Lowest against lowest: what varies only ever adds.
        InstructionsSay::Grew {
            delta: growth(base.0, change.0),
            exceeds: exceeds(base.0, change.0, self.limit.max(LIMIT_MIN)),
        }
    }
}

/// How the base was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// In pairs with the change.
    SideBySide,
    /// Earlier: its counters compare, its wall times do not.
    Stored,
}

/// Everything measured of one benchmark so far.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BenchmarkEvidence {
    /// Which one.
    pub id: BenchmarkId,
    /// What its time depends on.
    pub kind: Kind,
    /// Whether it is known to be too noisy here; see
    /// [`Calibration::is_advisory`](super::Calibration::is_advisory).
    pub advisory: bool,
    /// How the base was measured.
    pub base: Base,
    /// Why the sides cannot be compared: another guest or benchmark source, a wrong
    /// result, a crash, no base.
    pub invalid: Option<String>,
    /// Exact counters.
    pub counters: Vec<Counter>,
    /// Instruction counts, where valgrind is there.
    pub instructions: Option<Instructions>,
    /// Screening pairs.
    pub screen: Vec<Pair>,
    /// Confirming pairs: other processes, layouts and seed.
    pub confirm: Vec<Pair>,
    /// Pairs over twice the layouts.
    pub relayout: Vec<Pair>,
}

impl BenchmarkEvidence {
    /// A benchmark of which nothing has been measured.
    #[must_use]
    pub fn new(id: BenchmarkId, kind: Kind) -> Self {
        Self {
            id,
            kind,
            advisory: false,
            base: Base::SideBySide,
            invalid: None,
            counters: Vec::new(),
            instructions: None,
            screen: Vec::new(),
            confirm: Vec::new(),
            relayout: Vec::new(),
        }
    }
}

/// Everything measured so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The control: the same code on both sides.
    pub control: Vec<Pair>,
    /// The benchmarks.
    pub benchmarks: Vec<BenchmarkEvidence>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &[u64], change: &[u64], expected: InstructionsSay) {
        let instructions = Instructions {
            base: base.to_vec(),
            change: change.to_vec(),
            limit: 0.0,
        };
        assert_eq!(instructions.say(), expected);
    }

    #[test]
    fn instruction_counts_repeat_or_say_nothing() {
        let grew = |delta, exceeds| InstructionsSay::Grew { delta, exceeds };
        check(&[1000, 1000], &[1000], grew(0.0, false));
        check(&[1000], &[1005], grew(1005.0 / 1000.0 - 1.0, false));
        check(&[1000], &[1010], grew(1010.0 / 1000.0 - 1.0, true));
        check(&[], &[1000], InstructionsSay::Nothing);
        check(&[0], &[1000], InstructionsSay::Nothing);
        check(
            &[1000, 1001],
            &[1000],
            InstructionsSay::Unstable(1001.0 / 1000.0 - 1.0),
        );
    }

    #[test]
    fn only_positive_times_have_a_ratio() {
        for (base_ns, change_ns) in [
            (0.0, 1.0),
            (1.0, -1.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
        ] {
            assert_eq!(Pair { base_ns, change_ns }.ln_ratio(), None);
        }
        let pair = Pair {
            base_ns: 2.0,
            change_ns: 1.0,
        };
        assert_eq!(pair.ln_ratio(), Some(-std::f64::consts::LN_2));
    }
}
