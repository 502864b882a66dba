//! From two builds to verdicts: measures what `perf_bench::gate::decide` asks for.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use perf_bench::Summary;
use perf_bench::gate::{
    BenchmarkEvidence, Comparison, Counter, CounterRule, Evidence, GateReport, Kind, Pair, Rules,
    Stage, Step, Target, Verdict, decide,
};
use perf_bench::stats::rng::Rng;

use super::callgrind::{Callgrind, compare_counts};
use super::talk::{Fault, Listed, Talk};
use crate::workspace::{Interrupt, tell};

/// The benchmark whose sides are the same file.
pub(super) const CONTROL: &str = "control/sum";

/// Which build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Base,
    Change,
}

impl Side {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Change => "change",
        }
    }
}

/// Where code lies in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Layout {
    /// As the linker likes it.
    Plain,
    /// Sections shuffled with this seed, which is not 0: that would be another
    /// order at each link.
    Seed(u64),
}

/// Builds, or has built.
pub(super) trait Workers {
    /// The worker of a side.
    fn worker(&mut self, side: Side, layout: Layout) -> Result<PathBuf>;
    /// Whether layouts can be chosen.
    fn has_layouts(&self) -> bool;
}

/// What may be set.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Layouts per side and stage.
    pub(super) layouts: u64,
    /// Runs of a process that count.
    pub(super) rounds: u32,
    /// Time of a run to aim at.
    pub(super) sample_ns: u64,
    /// What an answer may take.
    pub(super) patience: Duration,
    /// For everything that is drawn.
    pub(super) seed: u64,
    /// Share of work added to the change, to see whether it is found.
    pub(super) inject: f64,
}

/// Fewest iterations of a run: one more of them is 5 %.
const ITERS_MIN: u64 = 20;

/// Processes of either side whose instructions the CPU counts, and iterations of
/// each: what interrupts add is then little.
const CPU_COUNT_RUNS: u32 = 3;
const CPU_COUNT_ITERS: u64 = 20;

/// Measures pairs.
pub(super) struct Bench<'a> {
    pub(super) workers: &'a mut dyn Workers,
    pub(super) settings: Settings,
    interrupt: &'a Interrupt,
    rng: Rng,
    cpus: Vec<usize>,
    iters: HashMap<String, u64>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        workers: &'a mut dyn Workers,
        settings: Settings,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self {
            workers,
            rng: Rng::new(settings.seed),
            settings,
            interrupt,
            cpus: allowed_cpus(),
            iters: HashMap::new(),
        }
    }

    /// Starts again with another seed and that much work added.
    pub(super) fn restart(&mut self, seed: u64, inject: f64) {
        self.rng = Rng::new(seed);
        self.settings.inject = inject;
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }

    /// A worker as it stands on the disk.
    fn plain(&mut self, side: Side) -> Result<PathBuf> {
        self.workers.worker(side, Layout::Plain)
    }

    fn talk(&self, program: &Path, cpu: Option<usize>) -> Result<Talk<'a>, Fault> {
        let mut command = Command::new(program);
        command.arg("gate");
        Talk::start(command, cpu, self.settings.patience, self.interrupt)
    }

    /// What both sides list; the reason if one cannot.
    pub(super) fn list(&mut self, side: Side) -> Result<Result<Vec<Listed>, Fault>> {
        let program = self.plain(side)?;
        let listed = self.talk(&program, None).and_then(|mut talk| talk.list());
        Ok(listed.map_err(|fault| fault.of(side.name())))
    }

    /// Stage 0. `None` for Ctrl-C.
    pub(super) fn count(&mut self, evidence: &mut BenchmarkEvidence) -> Result<Option<()>> {
        let mut sides = Vec::new();
        for side in [Side::Base, Side::Change] {
            let program = self.plain(side)?;
            let id = evidence.id.to_string();
            let counted = self.talk(&program, None).and_then(|mut talk| {
                talk.prepare(&id)?;
                talk.counters()
            });
            match counted.map_err(|fault| fault.of(side.name())) {
                Ok(counters) => sides.push(counters),
                Err(Fault::Interrupted) => return Ok(None),
                Err(Fault::Worker(reason)) => {
                    evidence.invalid = Some(reason);
                    return Ok(Some(()));
                }
            }
        }
        let [base, change] = &sides[..] else {
            unreachable!("both or an early return");
        };
        evidence.counters = change
            .iter()
            .filter_map(|now| {
                let before = base.iter().find(|counter| counter.name == now.name)?;
                Some(Counter {
                    name: now.name.clone(),
                    base: before.value,
                    change: now.value,
                    rule: now
                        .growth
                        .map_or(CounterRule::Equal, CounterRule::GrowthAtMost),
                })
            })
            .collect();
        Ok(Some(()))
    }

    /// Stage 1: by the CPU where it counts them for us, which takes no time, and
    /// else by callgrind. The reason if there are no counts; `None` for Ctrl-C.
    pub(super) fn count_instructions(
        &mut self,
        callgrind: Option<&Callgrind>,
        evidence: &mut BenchmarkEvidence,
    ) -> Result<Option<Result<(), String>>> {
        let id = evidence.id.to_string();
        let programs = [self.plain(Side::Base)?, self.plain(Side::Change)?];
        let by_cpu = compare_counts(&programs, CPU_COUNT_RUNS, |program| {
            let mut talk = self.talk(program, None)?;
            talk.prepare(&id)?;
            talk.instructions(CPU_COUNT_ITERS)
        });
        let counted = match (by_cpu, callgrind) {
            (Err(Fault::Worker(_)), Some(callgrind)) => {
                callgrind.compare(&id, &programs, self.interrupt)
            }
            (counted, _) => counted,
        };
        match counted {
            Ok(instructions) => {
                evidence.instructions = Some(instructions);
                Ok(Some(Ok(())))
            }
            Err(Fault::Interrupted) => Ok(None),
            Err(Fault::Worker(reason)) => Ok(Some(Err(reason))),
        }
    }

    /// Stages 2 to 4. `None` for Ctrl-C.
    pub(super) fn judge(
        &mut self,
        evidence: &mut Evidence,
        rules: &Rules,
    ) -> Result<Option<GateReport>> {
        loop {
            let mut requests = match decide(evidence, rules) {
                Step::Done(report) => return Ok(Some(report)),
                Step::Measure(requests) => requests,
            };
            // Interleaved: one pair of each, in another order each time.
            while !requests.is_empty() {
                for index in (1..requests.len()).rev() {
                    requests.swap(index, self.rng.below(index + 1));
                }
                for request in &requests {
                    let (id, kind, stage) = match request.target {
                        Target::Control => (CONTROL.to_owned(), Kind::Compute, None),
                        Target::Benchmark(index, stage) => {
                            let benchmark = &evidence.benchmarks[index];
                            (benchmark.id.to_string(), benchmark.kind, Some(stage))
                        }
                    };
                    let pair = self.pair(&id, kind, stage)?;
                    match (request.target, pair) {
                        (_, Err(Fault::Interrupted)) => return Ok(None),
                        (Target::Control, Ok(pair)) => evidence.control.push(pair),
                        (Target::Control, Err(Fault::Worker(reason))) => {
                            tell(format_args!("the control cannot be measured: {reason}"));
                            // Judged as no time, hence contaminated.
                            let no_time = Pair {
                                base_ns: f64::NAN,
                                change_ns: f64::NAN,
                            };
                            evidence.control.resize(request.pairs, no_time);
                        }
                        (Target::Benchmark(index, stage), Ok(pair)) => {
                            evidence.benchmarks[index].pairs_mut(stage).push(pair);
                        }
                        (Target::Benchmark(index, _), Err(Fault::Worker(reason))) => {
                            evidence.benchmarks[index].invalid = Some(reason);
                        }
                    }
                }
                requests.retain(|request| match request.target {
                    Target::Control => evidence.control.len() < request.pairs,
                    Target::Benchmark(index, stage) => {
                        let benchmark = &evidence.benchmarks[index];
                        benchmark.invalid.is_none() && benchmark.pairs(stage).len() < request.pairs
                    }
                });
            }
        }
    }

    /// The verdicts there are when Ctrl-C ends it: what was not judged by then is
    /// invalid, with that reason. `None` if nothing was judged.
    pub(super) fn judged_so_far(evidence: &mut Evidence, rules: &Rules) -> Option<GateReport> {
        let report = loop {
            let requests = match decide(evidence, rules) {
                Step::Done(report) => break report,
                Step::Measure(requests) => requests,
            };
            let mut is_control_alone = true;
            for request in requests {
                let Target::Benchmark(index, _) = request.target else {
                    continue;
                };
                is_control_alone = false;
                let benchmark = &mut evidence.benchmarks[index];
                benchmark.invalid = Some("interrupted before it was judged".to_owned());
                // Half a look says nothing, and the control would have to keep up.
                for pairs in [
                    &mut benchmark.screen,
                    &mut benchmark.confirm,
                    &mut benchmark.relayout,
                ] {
                    pairs.clear();
                }
            }
            if is_control_alone {
                // Without it, wall times are not to be trusted.
                return None;
            }
        };
        let is_judged = |comparison: &Comparison| comparison.verdict != Verdict::Invalid;
        report.comparisons.iter().any(is_judged).then_some(report)
    }

    /// The seeds of a stage's layouts: the next stage never sees them again.
    fn layout_seeds(&self, stage: Stage) -> Range<u64> {
        let each = self.settings.layouts;
        match stage {
            Stage::Screen => 1..1 + each,
            Stage::Confirm => 1 + each..1 + 2 * each,
            Stage::Relayout => 1 + 2 * each..1 + 4 * each,
        }
    }

    /// A layout of those a stage draws from.
    fn draw_layout(&mut self, stage: Stage) -> Layout {
        if !self.workers.has_layouts() {
            return Layout::Plain;
        }
        let seeds = self.layout_seeds(stage);
        let count = usize::try_from(seeds.end - seeds.start).unwrap_or(1);
        Layout::Seed(seeds.start + self.rng.below(count) as u64)
    }

    /// Has all layouts of some stages made, which takes longer than measuring with
    /// them.
    pub(super) fn link(&mut self, stages: &[Stage]) -> Result<()> {
        if !self.workers.has_layouts() {
            return Ok(());
        }
        tell("linking all layouts");
        for &stage in stages {
            for seed in self.layout_seeds(stage) {
                for side in [Side::Base, Side::Change] {
                    self.workers.worker(side, Layout::Seed(seed))?;
                }
            }
        }
        Ok(())
    }

    /// Two processes side by side, in lock-step, one running at a time. Without a
    /// stage, the same file twice.
    fn pair(&mut self, id: &str, kind: Kind, stage: Option<Stage>) -> Result<Result<Pair, Fault>> {
        let programs = match stage {
            Some(stage) => {
                let [base, change] = [(); 2].map(|()| self.draw_layout(stage));
                [
                    self.workers.worker(Side::Base, base)?,
                    self.workers.worker(Side::Change, change)?,
                ]
            }
            None => {
                let layout = self.draw_layout(Stage::Screen);
                let same = self.workers.worker(Side::Change, layout)?;
                [same.clone(), same]
            }
        };
        let iters = match self.iterations(id, &programs[1]) {
            Ok(iters) => iters,
            Err(fault) => return Ok(Err(fault.of(Side::Change.name()))),
        };
        let inject = if stage.is_some() {
            self.settings.inject
        } else {
            0.0
        };
        Ok(self.run_pair(id, kind, &programs, iters, inject))
    }

    fn run_pair(
        &mut self,
        id: &str,
        kind: Kind,
        programs: &[PathBuf; 2],
        iters: u64,
        inject: f64,
    ) -> Result<Pair, Fault> {
        let names = [Side::Base, Side::Change].map(Side::name);
        let cpu = match kind {
            Kind::Threaded => None,
            Kind::Compute | Kind::MemoryBound if self.cpus.is_empty() => None,
            Kind::Compute | Kind::MemoryBound => Some(self.cpus[self.rng.below(self.cpus.len())]),
        };
        let mut talks = [None, None];
        for side in self.order() {
            let mut command = Command::new(&programs[side]);
            // Where the stack begins depends on the size of the environment.
            let padding = "x".repeat(self.rng.below(4096));
            command.arg("gate").env("GATE_PADDING", padding);
            let mut talk = Talk::start(command, cpu, self.settings.patience, self.interrupt)
                .map_err(|fault| fault.of(names[side]))?;
            talk.prepare(id).map_err(|fault| fault.of(names[side]))?;
            talks[side] = Some(talk);
        }
        let mut times = [Vec::new(), Vec::new()];
        // The first round warms up.
        for round in 0..=self.settings.rounds {
            let iters = divisible(self.jittered(iters), inject);
            let mut checksums = [0; 2];
            for side in self.order() {
                let Some(talk) = &mut talks[side] else {
                    unreachable!("both were started");
                };
                let share = if side == 1 { 1.0 + inject } else { 1.0 };
                let work = (iters as f64 * share).round() as u64;
                let (ns, checksum) = talk.run(work).map_err(|fault| fault.of(names[side]))?;
                checksums[side] = checksum;
                if round > 0 {
                    times[side].push(ns as f64 / iters as f64);
                }
            }
            if checksums[0] != checksums[1] {
                return Err(Fault::Worker(format!(
                    "{} computed {}, {} computed {}",
                    names[0], checksums[0], names[1], checksums[1]
                )));
            }
        }
        let [base_ns, change_ns] = times.map(|times| {
            let summary = Summary::of(&times);
            summary.map_or(f64::NAN, |summary| match kind {
                Kind::Threaded => summary.median,
                Kind::Compute | Kind::MemoryBound => summary.q25,
            })
        });
        Ok(Pair { base_ns, change_ns })
    }

    fn order(&mut self) -> [usize; 2] {
        let first = self.rng.below(2);
        [first, 1 - first]
    }

    /// By up to a tenth either way, so that no rhythm of the host is met; not
    /// where rounding would show.
    fn jittered(&mut self, iters: u64) -> u64 {
        if iters < 10 * ITERS_MIN {
            return iters;
        }
        let tenth = iters / 10;
        let off = self.rng.below(usize::try_from(2 * tenth + 1).unwrap_or(1));
        iters - tenth + off as u64
    }

    /// Iterations of a run, found once per benchmark and the same for both sides.
    fn iterations(&mut self, id: &str, program: &Path) -> Result<u64, Fault> {
        const ITERS_MAX: u64 = 1 << 32;
        if let Some(&iters) = self.iters.get(id) {
            return Ok(iters);
        }
        let mut talk = self.talk(program, None)?;
        talk.prepare(id)?;
        let mut iters = 1;
        let found = loop {
            let (ns, _) = talk.run(iters)?;
            if ns >= self.settings.sample_ns / 2 || iters >= ITERS_MAX {
                let wanted = self.settings.sample_ns as f64 / ns.max(1) as f64;
                break (iters as f64 * wanted) as u64;
            }
            iters *= 2;
        };
        let found = found.clamp(ITERS_MIN, ITERS_MAX);
        self.iters.insert(id.to_owned(), found);
        Ok(found)
    }
}

/// As many iterations, or a few more, so that the share to add to them is as good as
/// whole: 5 % of 25 would be 1, which is 4 %.
fn divisible(iters: u64, share: f64) -> u64 {
    const OFF_MAX: f64 = 0.01;
    let is_whole = |iters: &u64| {
        let more = *iters as f64 * share;
        (more - more.round()).abs() <= OFF_MAX * more
    };
    let found = (iters..=iters.saturating_add(1000)).find(is_whole);
    found.unwrap_or(iters)
}

/// CPUs this process may run on; none if the host does not say.
fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu) == Ok(true))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::divisible;

    /// 25 iterations had 4 % added, and 30 had 6.7 %.
    #[test]
    fn work_added_is_the_share_that_was_asked_for() {
        for (iters, share, expected) in [
            (25, 0.0, 25),
            (25, 0.05, 40),
            (20, 0.05, 20),
            (20, 0.02, 50),
            (21, 0.1, 30),
            (30, 0.03, 67),
            (100_001, 0.05, 100_001),
        ] {
            assert_eq!(divisible(iters, share), expected, "{share} of {iters}");
        }
        for iters in 20..500 {
            for percent in 1..=100 {
                let share = f64::from(percent) / 100.0;
                let found = divisible(iters, share);
                let added = (found as f64 * share).round() / found as f64;
                assert!((added / share - 1.0).abs() < 0.0101, "{share} of {iters}");
            }
        }
    }
}
