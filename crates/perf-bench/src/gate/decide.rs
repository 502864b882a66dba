//! From evidence to verdicts, or to what is missing.

use super::evidence::{
    Base, BenchmarkEvidence, CounterRule, Evidence, InstructionsSay, Pair, exceeds,
};
use super::{Cause, Comparison, ControlSummary, GateReport, Verdict};
use crate::stats::Interval;
use crate::stats::multiple::holm;
use crate::stats::sequential::{Decision, Look, LookAt, Plan, TRIM};
use crate::stats::trimmed::Estimate;

/// What may be set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Whether more instructions fail the gate even if wall time is unchanged.
    pub strict: bool,
    /// Chance that any benchmark of a gate is wrongly confirmed, by wall time.
    pub family_error: f64,
}

impl Default for Rules {
    /// Not strict; 1 %.
    fn default() -> Self {
        Self {
            strict: false,
            family_error: 0.01,
        }
    }
}

/// A part of the procedure that takes pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// All benchmarks.
    Screen,
    /// Candidates again, with other processes, layouts and seed.
    Confirm,
    /// Confirmed ones over twice the layouts.
    Relayout,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The control; its pairs are of no stage.
    Control,
    /// The benchmark at that index.
    Benchmark(usize, Stage),
}

/// How many pairs there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of what.
    pub target: Target,
    /// How many in total, those there are included.
    pub pairs: usize,
}

/// The answer of [`decide`].
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure these, interleaved, and ask again. Never empty, and always more than
    /// there is, so that asking comes to an end.
    Measure(Vec<Request>),
    /// The verdicts.
    Done(GateReport),
}

/// Confidence of reported intervals.
const REPORT_LEVEL: f64 = 0.99;

/// Judges `evidence`. See the [module](super) for the stages.
///
/// ```
/// use perf_bench::gate::{BenchmarkEvidence, Evidence, Kind, Pair, Rules, Step, Target, decide};
///
/// let pair = |change_ns| Pair { base_ns: 100.0, change_ns };
/// let mut evidence = Evidence::default();
/// evidence.benchmarks.push(BenchmarkEvidence::new("jit/sum".parse()?, Kind::Compute));
/// let report = loop {
///     match decide(&evidence, &Rules::default()) {
///         Step::Done(report) => break report,
///         Step::Measure(requests) => {
///             for request in requests {
///                 // Measure here; this benchmark is 10 % slower, the control is not.
///                 match request.target {
///                     Target::Control => evidence.control.resize(request.pairs, pair(100.0)),
///                     Target::Benchmark(index, stage) => evidence.benchmarks[index]
///                         .pairs_mut(stage)
///                         .resize(request.pairs, pair(110.0)),
///                 }
///             }
///         }
///     }
/// };
/// assert_eq!(report.exit_code(), 1);
/// # Ok::<(), perf_bench::IdError>(())
/// ```
#[must_use]
pub fn decide(evidence: &Evidence, rules: &Rules) -> Step {
    let mut states: Vec<State> = evidence
        .benchmarks
        .iter()
        .map(|benchmark| assess(benchmark, rules))
        .collect();
    correct_for_many(&mut states, &evidence.benchmarks, rules);
    for (state, benchmark) in states.iter_mut().zip(&evidence.benchmarks) {
        if let State::Confirmed(confirmed) = state {
            *state = attribute(confirmed, benchmark);
        }
    }

    let requests: Vec<Request> = states
        .iter()
        .enumerate()
        .filter_map(|(index, state)| match state {
            State::Needs { stage, pairs, .. } => Some(Request {
                target: Target::Benchmark(index, *stage),
                pairs: *pairs,
            }),
            State::Confirmed(_) | State::Settled(_) => None,
        })
        .collect();
    let (control_request, control) = judge_control(evidence, &requests);
    let requests: Vec<Request> = control_request.into_iter().chain(requests).collect();
    if !requests.is_empty() {
        return Step::Measure(requests);
    }

    let contaminated = control.as_ref().is_some_and(|control| control.contaminated);
    let comparisons = states
        .into_iter()
        .zip(&evidence.benchmarks)
        .map(|(state, benchmark)| {
            let State::Settled(settled) = state else {
                unreachable!("what is needed was requested, what is confirmed attributed");
            };
            comparison(*settled, benchmark, contaminated)
        })
        .collect();
    Step::Done(GateReport {
        comparisons,
        control,
        ..GateReport::default()
    })
}

impl BenchmarkEvidence {
    /// The pairs of a stage.
    #[must_use]
    pub fn pairs(&self, stage: Stage) -> &[Pair] {
        match stage {
            Stage::Screen => &self.screen,
            Stage::Confirm => &self.confirm,
            Stage::Relayout => &self.relayout,
        }
    }

    /// The pairs of a stage, to add to.
    #[must_use]
    pub fn pairs_mut(&mut self, stage: Stage) -> &mut Vec<Pair> {
        match stage {
            Stage::Screen => &mut self.screen,
            Stage::Confirm => &mut self.confirm,
            Stage::Relayout => &mut self.relayout,
        }
    }
}

/// Where a benchmark is on its way to a verdict.
enum State {
    Needs {
        stage: Stage,
        pairs: usize,
    },
    /// Slower in two stages, by wall time.
    Confirmed(Confirmed),
    Settled(Box<Settled>),
}

struct Confirmed {
    estimate: Estimate,
    looks: usize,
    p: f64,
}

/// A verdict that only a contaminated runner can change.
struct Settled {
    verdict: Verdict,
    cause: Option<Cause>,
    reason: String,
    warnings: Vec<String>,
    estimate: Option<Estimate>,
    looks: usize,
    p: Option<f64>,
    /// Whether it rests on wall time.
    by_wall: bool,
}

impl Settled {
    fn new(verdict: Verdict, reason: String) -> Self {
        Self {
            verdict,
            cause: None,
            reason,
            warnings: Vec::new(),
            estimate: None,
            looks: 0,
            p: None,
            by_wall: false,
        }
    }

    fn by_wall(verdict: Verdict, reason: String, look: &Look) -> Self {
        Self {
            estimate: look.estimate,
            looks: look.looks,
            by_wall: true,
            ..Self::new(verdict, reason)
        }
    }

    fn because(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    fn warn(mut self, warning: String) -> Self {
        self.warnings.push(warning);
        self
    }
}

impl From<Settled> for State {
    fn from(settled: Settled) -> Self {
        Self::Settled(Box::new(settled))
    }
}

/// Stages 0 to 3 of one benchmark, without regard to the others.
fn assess(benchmark: &BenchmarkEvidence, rules: &Rules) -> State {
    if let Some(reason) = &benchmark.invalid {
        return Settled::new(Verdict::Invalid, reason.clone()).into();
    }
    if let Some(settled) = judge_counters(benchmark) {
        return settled.into();
    }
    if benchmark.base == Base::Stored {
        let settled = Settled::new(
            Verdict::Inconclusive,
            "the base is a stored run, with which wall times do not compare; measure both sides together"
                .to_owned(),
        )
        .because(Cause::ColdBaseline);
        return weigh_instructions(settled, benchmark, rules).into();
    }
    let [screen, confirm] =
        match [Stage::Screen, Stage::Confirm].map(|stage| ln_ratios(benchmark, stage)) {
            [Ok(screen), Ok(confirm)] => [screen, confirm],
            [Err(reason), _] | [_, Err(reason)] => {
                return Settled::new(Verdict::Invalid, reason).into();
            }
        };
    let plan = benchmark.kind.plan();
    let first = plan.decide(&screen);
    let seen = first
        .estimate
        .map_or(0.0, |estimate| estimate.mean.exp() - 1.0);
    let settled = match first.decision {
        Decision::GoOn { pairs } => {
            return State::Needs {
                stage: Stage::Screen,
                pairs,
            };
        }
        Decision::Unchanged => Settled::by_wall(
            Verdict::Unchanged,
            format!("not slower by {} or more", percent(plan.limit.exp() - 1.0)),
            &first,
        ),
        Decision::Improved => Settled::by_wall(
            Verdict::Improved,
            format!("{} faster", percent(-seen)),
            &first,
        ),
        Decision::Inconclusive => Settled::by_wall(
            Verdict::Inconclusive,
            format!("not clear after {} pairs", first.pairs),
            &first,
        ),
        Decision::Candidate => match confirm_candidate(&plan, &first, seen, &confirm) {
            State::Settled(settled) => *settled,
            other => return other,
        },
    };
    weigh_instructions(settled, benchmark, rules).into()
}

/// Stage 0. `None` if the counters are fine or there are none.
fn judge_counters(benchmark: &BenchmarkEvidence) -> Option<Settled> {
    let describe = |counter: &super::Counter| {
        format!(
            "{} was {}, is {}",
            counter.name, counter.base, counter.change
        )
    };
    let other_work = benchmark
        .counters
        .iter()
        .find(|counter| counter.rule == CounterRule::Equal && counter.base != counter.change);
    if let Some(counter) = other_work {
        return Some(Settled::new(
            Verdict::Invalid,
            format!(
                "{}, but must be equal: the two builds did not do the same work",
                describe(counter)
            ),
        ));
    }
    benchmark.counters.iter().find_map(|counter| {
        let CounterRule::GrowthAtMost(limit) = counter.rule else {
            return None;
        };
        exceeds(counter.base, counter.change, limit).then(|| {
            Settled::new(
                Verdict::Regressed,
                format!("{}, more than {} up", describe(counter), percent(limit)),
            )
            .because(Cause::Real)
        })
    })
}

/// Stage 1, once wall time has been judged.
fn weigh_instructions(settled: Settled, benchmark: &BenchmarkEvidence, rules: &Rules) -> Settled {
    match instructions(benchmark) {
        InstructionsSay::Nothing | InstructionsSay::Grew { exceeds: false, .. } => settled,
        InstructionsSay::Unstable(spread) => settled.warn(format!(
            "instruction counts of the same code differ by {}, so they are not used",
            percent(spread)
        )),
        InstructionsSay::Grew { delta, .. } => {
            let more = format!("{} more instructions", percent(delta));
            match settled.verdict {
                Verdict::Unchanged | Verdict::Improved if !rules.strict => {
                    settled.warn(format!("{more}, though wall time is not up"))
                }
                _ => Settled {
                    verdict: Verdict::Regressed,
                    cause: Some(Cause::Real),
                    reason: more,
                    by_wall: false,
                    ..settled
                },
            }
        }
    }
}

fn instructions(benchmark: &BenchmarkEvidence) -> InstructionsSay {
    benchmark
        .instructions
        .as_ref()
        .map_or(InstructionsSay::Nothing, super::Instructions::say)
}

fn ln_ratios(benchmark: &BenchmarkEvidence, stage: Stage) -> Result<Vec<f64>, String> {
    let pairs = benchmark.pairs(stage).iter().enumerate();
    pairs
        .map(|(index, pair)| {
            pair.ln_ratio().ok_or_else(|| {
                format!(
                    "pair {index} of {stage:?} is {} ns against {} ns, which is no time",
                    pair.base_ns, pair.change_ns
                )
            })
        })
        .collect()
}

/// Stage 3 of one candidate.
fn confirm_candidate(plan: &Plan, first: &Look, seen: f64, confirm: &[f64]) -> State {
    let second = plan.decide(confirm);
    let looks = first.looks + second.looks;
    let not_confirmed = |verdict, reason: String| {
        let mut settled = Settled::by_wall(verdict, reason, &second);
        settled.looks = looks;
        settled.into()
    };
    match second.decision {
        Decision::GoOn { pairs } => State::Needs {
            stage: Stage::Confirm,
            pairs,
        },
        Decision::Candidate => {
            // All pairs up to the latest full look: when the correction for many
            // candidates asks for more, they count.
            let full = |look: &&LookAt| look.pairs <= confirm.len();
            let latest = plan.looks.iter().rfind(full);
            let pairs = latest.map_or(second.pairs, |look| look.pairs);
            let estimate = Estimate::trimmed(&confirm[..pairs], TRIM);
            State::Confirmed(Confirmed {
                estimate,
                looks: first.looks + plan.looks.iter().filter(full).count(),
                p: estimate.p_above(0.0),
            })
        }
        Decision::Unchanged | Decision::Improved => not_confirmed(
            Verdict::Unchanged,
            format!("{} slower at first, not confirmed", percent(seen)),
        ),
        Decision::Inconclusive => not_confirmed(
            Verdict::Inconclusive,
            format!(
                "{} slower at first, neither confirmed nor refuted",
                percent(seen)
            ),
        ),
    }
}

/// Holm's correction over all confirmed candidates. One that does not hold asks for
/// the next look; after the last it is inconclusive.
fn correct_for_many(states: &mut [State], benchmarks: &[BenchmarkEvidence], rules: &Rules) {
    let confirmed: Vec<usize> = (0..states.len())
        .filter(|&index| matches!(states[index], State::Confirmed(_)))
        .collect();
    let p_values: Vec<f64> = confirmed
        .iter()
        .map(|&index| match &states[index] {
            State::Confirmed(confirmed) => confirmed.p,
            _ => unreachable!("filtered above"),
        })
        .collect();
    for (&index, adjusted) in confirmed.iter().zip(holm(&p_values)) {
        let State::Confirmed(candidate) = &mut states[index] else {
            unreachable!("filtered above");
        };
        candidate.p = adjusted;
        let plan = benchmarks[index].kind.plan();
        if adjusted <= rules.family_error && candidate.estimate.mean > plan.margin {
            continue;
        }
        let there = benchmarks[index].confirm.len();
        let next = plan.looks.iter().find(|look| look.pairs > there);
        states[index] = match next {
            Some(look) => State::Needs {
                stage: Stage::Confirm,
                pairs: look.pairs,
            },
            None => {
                let unsure = Settled {
                    estimate: Some(candidate.estimate),
                    looks: candidate.looks,
                    p: Some(adjusted),
                    by_wall: true,
                    ..Settled::new(
                        Verdict::Inconclusive,
                        format!(
                            "slower, but not surely enough among {} candidates",
                            confirmed.len()
                        ),
                    )
                };
                weigh_instructions(unsure, &benchmarks[index], rules).into()
            }
        };
    }
}

/// Stage 4: what made a confirmed candidate slower.
fn attribute(confirmed: &Confirmed, benchmark: &BenchmarkEvidence) -> State {
    /// Growth of instructions below this leaves only the layout as an explanation.
    const IR_EQUAL: f64 = 0.001;
    let slower = percent(confirmed.estimate.mean.exp() - 1.0);
    let regressed = Settled {
        cause: Some(Cause::Real),
        estimate: Some(confirmed.estimate),
        looks: confirmed.looks,
        p: Some(confirmed.p),
        by_wall: true,
        ..Settled::new(Verdict::Regressed, format!("{slower} slower, confirmed"))
    };
    let delta = match instructions(benchmark) {
        InstructionsSay::Grew {
            delta,
            exceeds: false,
        } => delta,
        // Proof enough without any wall time.
        InstructionsSay::Grew { delta, .. } => {
            let more = percent(delta);
            return Settled {
                reason: format!("{slower} slower, confirmed, with {more} more instructions"),
                by_wall: false,
                ..regressed
            }
            .into();
        }
        // Without instruction counts there is no reason to blame the layout.
        InstructionsSay::Nothing => return regressed.into(),
        InstructionsSay::Unstable(_) => {
            return weigh_instructions(regressed, benchmark, &Rules::default()).into();
        }
    };
    let same_counters = benchmark.counters.iter().all(|c| c.base == c.change);
    if delta.abs() > IR_EQUAL || !same_counters {
        return regressed.into();
    }
    let ratios = match ln_ratios(benchmark, Stage::Relayout) {
        Ok(ratios) => ratios,
        Err(reason) => return Settled::new(Verdict::Invalid, reason).into(),
    };
    let plan = benchmark.kind.plan();
    let look = plan.decide(&ratios);
    if let Decision::GoOn { pairs } = look.decision {
        return State::Needs {
            stage: Stage::Relayout,
            pairs,
        };
    }
    let gone = look
        .estimate
        .is_some_and(|estimate| estimate.mean < plan.margin);
    let mut settled = if gone {
        Settled::by_wall(
            Verdict::Unchanged,
            format!("{slower} slower in the layouts drawn first, not in twice as many"),
            &look,
        )
        .because(Cause::LayoutSuspect)
        .warn("the code is the same and does the same; where it lies in memory differs".to_owned())
    } else {
        regressed
    };
    settled.looks = confirmed.looks + look.looks;
    settled.into()
}

/// Whether the runner treats the same code alike, or which pairs are missing to
/// tell. There are as many pairs of it as of the benchmark with the most.
fn judge_control(
    evidence: &Evidence,
    requests: &[Request],
) -> (Option<Request>, Option<ControlSummary>) {
    /// ln of the ratio at which it is contaminated for sure.
    const OFF_MAX: f64 = 0.009_950_330_853_168_083; // ln 1.01
    let taken = |stage| {
        let there = evidence
            .benchmarks
            .iter()
            .enumerate()
            .map(|(index, benchmark)| {
                let wanted = requests
                    .iter()
                    .find(|request| request.target == Target::Benchmark(index, stage))
                    .map_or(0, |request| request.pairs);
                wanted.max(benchmark.pairs(stage).len())
            });
        there.max().unwrap_or(0)
    };
    let pairs = taken(Stage::Screen) + taken(Stage::Confirm) + taken(Stage::Relayout);
    if pairs == 0 {
        return (None, None);
    }
    let pairs = pairs.max(Plan::standard().looks[0].pairs);
    let missing = |pairs| {
        let request = Request {
            target: Target::Control,
            pairs,
        };
        (Some(request), None)
    };
    if evidence.control.len() < pairs {
        return missing(pairs);
    }
    let ratios: Vec<f64> = evidence
        .control
        .iter()
        .filter_map(|pair| pair.ln_ratio())
        .collect();
    if ratios.len() < evidence.control.len() {
        // Not even the control can be measured.
        let summary = ControlSummary {
            ratio: None,
            interval: None,
            pairs: ratios.len(),
            contaminated: true,
        };
        return (None, Some(summary));
    }
    let off = |ratios: &[f64]| {
        let interval = Estimate::trimmed(ratios, TRIM).interval(REPORT_LEVEL);
        interval.lo > OFF_MAX || interval.hi < -OFF_MAX
    };
    let extended = 2 * pairs;
    let first_off = off(&ratios[..pairs]);
    if first_off && ratios.len() < extended {
        return missing(extended);
    }
    let used = if first_off { extended } else { pairs };
    let estimate = Estimate::trimmed(&ratios[..used], TRIM);
    let summary = ControlSummary {
        ratio: Some(ratio(estimate.mean)),
        interval: Some(as_ratio(&estimate)),
        pairs: used,
        contaminated: first_off && off(&ratios[..extended]),
    };
    (None, Some(summary))
}

/// The ratio of that logarithm; kept finite, since reports have no infinity.
fn ratio(ln: f64) -> f64 {
    ln.exp().min(f64::MAX)
}

fn as_ratio(estimate: &Estimate) -> Interval {
    let interval = estimate.interval(REPORT_LEVEL);
    Interval {
        lo: ratio(interval.lo),
        hi: ratio(interval.hi),
    }
}

fn comparison(
    mut settled: Settled,
    benchmark: &BenchmarkEvidence,
    contaminated: bool,
) -> Comparison {
    if contaminated && settled.by_wall {
        settled.warnings.push(format!(
            "it would be {}: {}",
            settled.verdict, settled.reason
        ));
        settled.verdict = Verdict::Inconclusive;
        settled.cause = Some(Cause::ContaminatedRunner);
        settled.reason =
            "the control differs from itself; run again on a quieter machine".to_owned();
    }
    Comparison {
        id: benchmark.id.to_string(),
        kind: benchmark.kind,
        advisory: benchmark.advisory,
        verdict: settled.verdict,
        cause: settled.cause,
        reason: settled.reason,
        warnings: settled.warnings,
        ratio: settled.estimate.map(|estimate| ratio(estimate.mean)),
        interval: settled.estimate.as_ref().map(as_ratio),
        p: settled.p,
        looks: settled.looks,
        ir_delta: match instructions(benchmark) {
            InstructionsSay::Grew { delta, .. } => Some(delta),
            InstructionsSay::Nothing | InstructionsSay::Unstable(_) => None,
        },
        screen: usable(&benchmark.screen),
        confirm: usable(&benchmark.confirm),
        relayout: usable(&benchmark.relayout),
    }
}

/// The pairs that are times: no NaN or zero enters a report. A verdict that rests
/// on others is `invalid` and quotes the first.
fn usable(pairs: &[Pair]) -> Vec<Pair> {
    let is_usable = |pair: &&Pair| pair.ln_ratio().is_some();
    pairs.iter().filter(is_usable).copied().collect()
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
