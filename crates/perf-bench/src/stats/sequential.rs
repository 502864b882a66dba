//! Group-sequential decision: look at growing data at times fixed beforehand, and
//! stop as soon as it is clear.
//!
//! The data are logarithms of ratios, change over base, one per pair of processes.
//! At a look m is their 20 % trimmed mean, se Yuen's standard error and t Student's
//! quantile:
//!
//! ```text
//!  lo = m − t(a)·se     hi = m + t(b)·se
//!
//!  lo > 0 and m > margin       candidate   slower, by an amount that matters
//!  hi < 0 and m < −margin      improved
//!  hi < limit and m ≤ margin   unchanged   slower by less than the limit
//!  otherwise                   look again later; inconclusive at the last look
//!
//!  look at      10       20      40      80 pairs
//!  a          0.9995    0.999   0.998   0.9967
//!  b          0.998     0.995   0.99    0.99
//! ```
//!
//! The margin (2.5 %) keeps effects too small to act on, the limit (5 %) is what
//! must be ruled out. Early looks have to be surer, as in O'Brien and Fleming
//! (1979), because every look is another chance to err. With a = 0.9967 and b = 0.99
//! throughout, 0.9 % of comparisons of equal code with 4.4 % process noise became
//! candidates and 97.7 % of slowdowns of 5 % did; spent this way it is 0.4 % and
//! 98.6 %, for five more pairs on average.
//!
//! It stops as soon as nothing is worse, so a small improvement may well be
//! reported as unchanged. What happens to a *candidate* (confirmation, layouts,
//! correction for many benchmarks) is not decided here.

use crate::stats::trimmed::Estimate;

/// When to look and what to call a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The looks, by ascending number of pairs.
    pub looks: Vec<LookAt>,
    /// ln of the smallest ratio worth acting on.
    pub margin: f64,
    /// ln of the ratio that "unchanged" rules out.
    pub limit: f64,
}

/// One look of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LookAt {
    /// Pairs it takes; at least 5.
    pub pairs: usize,
    /// Confidence of the lower bound, which a candidate has above 0.
    pub lower_confidence: f64,
    /// Confidence of the upper bound: below the limit is unchanged, below 0 may be
    /// improved.
    pub upper_confidence: f64,
}

/// Fraction of the pairs cut from either end.
pub const TRIM: f64 = 0.2;

impl Plan {
    /// Looks at 10, 20, 40 and 80 pairs; margin 2.5 %, limit 5 %.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            looks: [
                (10, 0.9995, 0.998),
                (20, 0.999, 0.995),
                (40, 0.998, 0.99),
                (80, 0.9967, 0.99),
            ]
            .map(|(pairs, lower_confidence, upper_confidence)| LookAt {
                pairs,
                lower_confidence,
                upper_confidence,
            })
            .to_vec(),
            margin: 1.025_f64.ln(),
            limit: 1.05_f64.ln(),
        }
    }

    /// The same with every look at twice as many pairs: for code whose time depends
    /// on where its memory lies.
    #[must_use]
    pub fn with_doubled_looks(mut self) -> Self {
        for look in &mut self.looks {
            look.pairs *= 2;
        }
        self
    }

    /// For several threads: twice as many pairs, margin 5 %, limit 10 %.
    #[must_use]
    pub fn threaded() -> Self {
        Self {
            margin: 1.05_f64.ln(),
            limit: 1.10_f64.ln(),
            ..Self::standard().with_doubled_looks()
        }
    }

    /// Pairs at the last look.
    ///
    /// # Panics
    /// If there are no looks.
    #[must_use]
    pub fn pairs_max(&self) -> usize {
        self.last().pairs
    }

    fn last(&self) -> LookAt {
        *self.looks.last().expect("a plan has looks")
    }

    /// Replays the looks over `ln_ratios`, in the order they were measured, and
    /// stops at the first that decides; pairs beyond it are not looked at. Pure:
    /// calling it after each pair or once at the end gives the same decision.
    ///
    /// ```
    /// use perf_bench::stats::sequential::{Decision, Plan};
    ///
    /// let slower = [0.09, 0.11, 0.10, 0.10, 0.12, 0.08, 0.10, 0.11, 0.09, 0.10];
    /// let look = Plan::standard().decide(&slower);
    /// assert_eq!((look.decision, look.pairs), (Decision::Candidate, 10));
    /// assert_eq!(Plan::standard().decide(&slower[..9]).decision, Decision::GoOn { pairs: 10 });
    /// ```
    ///
    /// # Panics
    /// If the plan has no looks, the first is below 5 pairs, or a ratio is NaN.
    #[must_use]
    pub fn decide(&self, ln_ratios: &[f64]) -> Look {
        let mut seen = Look {
            decision: Decision::Inconclusive,
            looks: 0,
            pairs: 0,
            estimate: None,
        };
        for at in &self.looks {
            assert!(at.pairs >= 5, "a look at {} pairs says nothing", at.pairs);
            if ln_ratios.len() < at.pairs {
                seen.decision = Decision::GoOn { pairs: at.pairs };
                return seen;
            }
            let estimate = Estimate::trimmed(&ln_ratios[..at.pairs], TRIM);
            seen.looks += 1;
            seen.pairs = at.pairs;
            seen.estimate = Some(estimate);
            if let Some(decision) = self.judge(&estimate, at) {
                seen.decision = decision;
                return seen;
            }
        }
        assert!(seen.looks > 0, "a plan has looks");
        seen
    }

    fn judge(&self, estimate: &Estimate, at: &LookAt) -> Option<Decision> {
        let lo = estimate.bound(1.0 - at.lower_confidence);
        let hi = estimate.bound(at.upper_confidence);
        if lo > 0.0 && estimate.mean > self.margin {
            Some(Decision::Candidate)
        } else if hi < 0.0 && estimate.mean < -self.margin {
            Some(Decision::Improved)
        } else if hi < self.limit && estimate.mean <= self.margin {
            Some(Decision::Unchanged)
        } else {
            None
        }
    }
}

/// What a look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Slower by more than the margin; to be confirmed.
    Candidate,
    /// Slower by less than the limit, if at all.
    Unchanged,
    /// Faster by more than the margin.
    Improved,
    /// Not clear yet.
    GoOn {
        /// Pairs needed at the next look, in total.
        pairs: usize,
    },
    /// Not clear at the last look.
    Inconclusive,
}

/// A decision and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// The decision.
    pub decision: Decision,
    /// How many looks were taken.
    pub looks: usize,
    /// How many pairs the latest look saw.
    pub pairs: usize,
    /// What it saw; `None` before the first look.
    pub estimate: Option<Estimate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` ratios around `center`, alternating by `spread`.
    fn around(center: f64, spread: f64, n: usize) -> Vec<f64> {
        (0..n)
            .map(|i| center + if i % 2 == 0 { spread } else { -spread })
            .collect()
    }

    #[track_caller]
    fn check(center: f64, spread: f64, n: usize, decision: Decision, pairs: usize) {
        let look = Plan::standard().decide(&around(center, spread, n));
        assert_eq!((look.decision, look.pairs), (decision, pairs));
    }

    #[test]
    fn clear_data_decide_at_the_first_look() {
        check(0.0, 0.001, 80, Decision::Unchanged, 10);
        check(0.10, 0.001, 80, Decision::Candidate, 10);
        check(-0.10, 0.001, 80, Decision::Improved, 10);
        // Sure, but too small to act on.
        check(0.02, 0.001, 80, Decision::Unchanged, 10);
        check(-0.02, 0.001, 80, Decision::Unchanged, 10);
    }

    #[test]
    fn unclear_data_take_more_looks() {
        check(0.0, 0.03, 80, Decision::Unchanged, 20);
        check(0.06, 0.06, 80, Decision::Candidate, 40);
        check(0.0, 0.5, 80, Decision::Inconclusive, 80);
    }

    #[test]
    fn too_few_pairs_ask_for_the_next_look() {
        check(0.0, 0.5, 0, Decision::GoOn { pairs: 10 }, 0);
        check(0.0, 0.5, 39, Decision::GoOn { pairs: 40 }, 20);
    }

    #[test]
    fn what_comes_after_the_decision_is_not_looked_at() {
        let mut data = around(0.0, 0.001, 80);
        data[10..].fill(1.0);
        assert_eq!(Plan::standard().decide(&data).decision, Decision::Unchanged);
    }

    #[test]
    fn identical_measurements_are_unchanged() {
        let look = Plan::standard().decide(&[0.0; 10]);
        assert_eq!(look.decision, Decision::Unchanged);
    }
}
