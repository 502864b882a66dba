//! `cargo xtask bench`: build, run the worker, gather, write, print.
//!
//! The worker's results arrive one by one and are kept from then on, so a run
//! that is interrupted, cut or crashes still leaves a report, which says so.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use perf_bench::{
    BenchmarkResult, BuildInfo, Context, Format, GitState, KpiTable, Report, Status, Verdict,
};
use serde_json::Value;

use crate::baseline::{self, Baseline, parse_name};
use crate::peers;
use crate::stored::STORED;
use crate::worker::{self, End, Event, Planned};
use crate::workspace::{
    Interrupt, Outcome, Workspace, file_run, make_run_dir, output_width, print_text, tell,
    time_stamp, version_of, write_file,
};

/// A quick run's wall budget after the build. The README promises 60 s; the rest
/// is for starting, gathering and writing.
const QUICK_BUDGET: Duration = Duration::from_secs(50);
/// What of it is kept for the other schedulers.
const PEERS_BUDGET: Duration = Duration::from_secs(7);
/// Rounds of these, quick and full: enough for an interval, and for a narrow one.
const PEERS_ROUNDS: (u32, u32) = (6, 11);
/// A benchmark that says nothing for so long hangs; the longest takes some minutes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// What the worker gets to end by itself before it is ended.
const GRACE: Duration = Duration::from_secs(4);

/// Why a row has no value whose benchmark was not asked for.
const FILTERED: &str = "filtered";

/// Builds vm-bench-worker and hartloom in release mode, runs the benchmarks on
/// the prebuilt guest programs, prints results and every row of
/// benches/kpis.csv, and writes summary.csv, samples.csv, metrics.csv,
/// report.json and report.txt to target/bench/RUN/. target/bench/latest then points
/// there, unless a filter or Ctrl-C left something out.
///
/// A row nobody measured has the verdict `missing`; the report says why.
///
/// Other schedulers (benches/peers) are built and run, too, where cargo can get
/// their sources; nothing else depends on that.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench --quick        a first look, under a minute after the build
  cargo xtask bench                everything, with more rounds and long guests
  cargo xtask bench jit/           benchmarks with `jit/` in their name
  cargo xtask bench interp.mips    the benchmark that measures this KPI row
  cargo xtask bench --list         names, and the rows they measure
  cargo xtask bench --save before  keeps the run under a name
  cargo xtask bench --baseline before   shows a kept run beside this one")]
pub(crate) struct Args {
    /// Runs benchmarks whose name, or one of whose KPI rows, contains this text.
    filter: Option<String>,
    /// Small inputs, few rounds and a wall limit of 50 s; says what was cut.
    #[arg(long)]
    quick: bool,
    /// Lists benchmarks and runs none.
    #[arg(long)]
    list: bool,
    /// Keeps this run under that name, in target/bench/baselines/.
    #[arg(long, value_name = "NAME", value_parser = parse_name, conflicts_with = "list")]
    save: Option<String>,
    /// Shows the run kept under that name beside this one, if it is of this machine.
    #[arg(long, value_name = "NAME", value_parser = parse_name, conflicts_with = "list")]
    baseline: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let table_path = workspace.root().join("benches/kpis.csv");
    let table_text = std::fs::read_to_string(&table_path)
        .with_context(|| format!("cannot read {}", table_path.display()))?;
    let table = KpiTable::parse(&table_text)?;
    // Before any work: a run that cannot be compared or written down should not start.
    let baseline = args.baseline.as_ref();
    let baseline = baseline
        .map(|name| Baseline::load(workspace, name, args.quick))
        .transpose()?;
    let run_dir = match args.list {
        true => None,
        false => {
            let suffix = if args.quick { "-quick" } else { "" };
            let name = format!("{}{suffix}", time_stamp());
            Some(make_run_dir(&workspace.target().join("bench"), &name)?)
        }
    };
    let remove_unused = || {
        // Only ever removes the empty directory made above.
        let _ = run_dir.as_deref().map(std::fs::remove_dir);
    };
    let interrupt = Interrupt::watch()?;
    let Some(built) = build(workspace, &interrupt).inspect_err(|_| remove_unused())? else {
        remove_unused();
        return Ok(Outcome::Interrupted);
    };
    let planned_peers = peers::planned(args.filter.as_deref());
    let peers = (planned_peers.selected && !args.list).then(|| peers::build(workspace));
    if interrupt.is_set() {
        remove_unused();
        return Ok(Outcome::Interrupted);
    }
    let mut gathering = Gathering::new(args);
    let started = Instant::now();
    let budget = match &peers {
        Some(Ok(_)) => QUICK_BUDGET - PEERS_BUDGET,
        _ => QUICK_BUDGET,
    };
    let deadline = args.quick.then(|| started + budget);
    let heard = Cell::new(started);
    let mut end = worker::run(
        &built.worker,
        &worker_args(workspace, &built, args, budget),
        || match deadline {
            Some(deadline) => Instant::now() >= deadline + GRACE,
            None => heard.get().elapsed() >= PATIENCE,
        },
        &interrupt,
        |event| {
            heard.set(Instant::now());
            gathering.take(event)
        },
    )
    .inspect_err(|_| remove_unused())?;
    if end == End::OutOfTime && deadline.is_none() {
        let minutes = PATIENCE.as_secs() / 60;
        end = End::Broke(format!("the worker said nothing for {minutes} minutes"));
    }
    gathering.add_to_plan(planned_peers);
    for stored in STORED {
        gathering.add_to_plan(stored.planned(args.filter.as_deref()));
    }
    if let Some(built) = peers
        && matches!(end, End::Done | End::OutOfTime)
    {
        gathering.run_peers(built, args, &interrupt, &mut end)?;
    }
    gathering.add_stored(workspace);
    gathering.progress.clear();
    gathering.note_empty_plan();

    if let Some(names) = &gathering.nothing_selected {
        remove_unused();
        let filter = args.filter.as_deref().unwrap_or_default();
        let message = nothing_selected(filter, names, "--list");
        tell(format_args!("error: {message}"));
        return Ok(Outcome::Unusable);
    }
    let Some(run_dir) = run_dir else {
        print_text(&listing(&gathering.plan))?;
        return Ok(Outcome::Fine);
    };

    let report = gathering.into_report(&end, args, &build_info(workspace), &table);
    // Files first: what was measured is not lost with standard output.
    for &format in Format::ALL {
        write_file(&run_dir.join(format.file_name()), &report.render(format))?;
    }
    let filed = file_run(&run_dir, is_whole(args, &end))?;
    print_text(&report.to_text(output_width()))?;
    if let Some(baseline) = baseline {
        let beside = baseline.compare(&report, output_width())?;
        write_file(&run_dir.join("baseline.txt"), &beside)?;
        print_text(&format!("\n{beside}"))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    tell(format_args!("\n{filed}; it took {seconds:.0} s"));
    match &args.save {
        Some(name) if end == End::Interrupted => {
            tell(format_args!("not kept as {name}: the run was interrupted"))
        }
        Some(name) => {
            let path = baseline::save(workspace, name, args.quick, &report)?;
            tell(format_args!("kept as {}", path.display()));
        }
        None => {}
    }
    Ok(outcome(&report, &end))
}

/// Whether the run is one of everything, as far as this machine and its time
/// allow. A worker that crashed has had its chance: hiding that behind an older
/// run would be worse.
fn is_whole(args: &Args, end: &End) -> bool {
    args.filter.is_none() && *end != End::Interrupted
}

/// A benchmark that could not measure or computed the wrong thing fails the run;
/// a KPI below its bar does not: that is a result.
fn outcome(report: &Report, end: &End) -> Outcome {
    match end {
        End::Interrupted => Outcome::Interrupted,
        End::Broke(_) => Outcome::Failed,
        End::Done | End::OutOfTime => {
            Outcome::from(report.benchmarks.iter().all(|b| b.status().is_pass()))
        }
    }
}

/// The two programs of a run.
pub(crate) struct Built {
    pub(crate) worker: PathBuf,
    pub(crate) hartloom: PathBuf,
}

/// Builds them; `None` if Ctrl-C came meanwhile, which cargo hears too.
pub(crate) fn build(workspace: &Workspace, interrupt: &Interrupt) -> Result<Option<Built>> {
    let built = || -> Result<Built> {
        Ok(Built {
            hartloom: workspace.build_release("vm-runtime", "hartloom")?,
            worker: workspace.build_release("vm-benches", "vm-bench-worker")?,
        })
    };
    let built = built();
    match interrupt.is_set() {
        true => Ok(None),
        false => built.map(Some),
    }
}

/// The flags both verbs hand to the worker.
pub(crate) fn place_args(workspace: &Workspace, built: &Built) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    vec![
        "--hartloom".to_owned(),
        path(&built.hartloom),
        "--guests".to_owned(),
        path(&workspace.root().join("benches/guests")),
        "--scratch".to_owned(),
        path(&workspace.target().join("bench-native")),
    ]
}

fn worker_args(workspace: &Workspace, built: &Built, args: &Args, budget: Duration) -> Vec<String> {
    let verb = if args.list { "list" } else { "run" };
    let mut list = vec![verb.to_owned()];
    list.extend(place_args(workspace, built));
    if args.quick {
        list.push("--quick".to_owned());
        list.push(format!("--wall-seconds={}", budget.as_secs()));
    }
    list.extend(args.filter.clone());
    list
}

/// What has arrived so far.
struct Gathering {
    plan: Vec<Planned>,
    results: Vec<BenchmarkResult>,
    skipped: Vec<(String, String)>,
    notes: Vec<String>,
    running: Option<String>,
    nothing_selected: Option<Vec<String>>,
    progress: Progress,
}

impl Gathering {
    fn new(args: &Args) -> Self {
        Self {
            plan: Vec::new(),
            results: Vec::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
            running: None,
            nothing_selected: None,
            progress: Progress::new(!args.list),
        }
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Plan { benchmarks } => self.plan = benchmarks,
            Event::NothingSelected { names } => self.nothing_selected = Some(names),
            Event::Started { index, total, id } => {
                self.progress.started(index, total, &id);
                self.running = Some(id);
            }
            Event::Finished { report } => {
                let report = Report::from_json(&report.to_string())?;
                for result in report.benchmarks {
                    self.progress.finished(&result);
                    self.results.push(result);
                }
                self.running = None;
            }
            Event::Skipped { id, reason } => {
                self.progress.line(&format!("{id}: skipped: {reason}"));
                self.skipped.push((id, reason));
                self.running = None;
            }
            Event::Note { text } => self.notes.push(text),
            Event::Row { .. } => {}
        }
        Ok(())
    }

    /// Behind the worker's own, which knows nothing of it.
    fn add_to_plan(&mut self, planned: Planned) {
        if planned.selected {
            self.nothing_selected = None;
        } else if let Some(names) = &mut self.nothing_selected {
            names.push(planned.id.clone());
            names.extend(planned.kpis.iter().cloned());
        }
        self.plan.push(planned);
    }

    /// A listing has no run that would say so.
    fn note_empty_plan(&mut self) {
        if !self.plan.iter().any(|planned| planned.selected) {
            let all = self.plan.iter().flat_map(|planned| {
                let rows = planned.kpis.iter().cloned();
                std::iter::once(planned.id.clone()).chain(rows)
            });
            self.nothing_selected.get_or_insert_with(|| all.collect());
        }
    }

    /// Runs the other schedulers, as one more benchmark. Where they cannot be
    /// built, its rows are missing with the reason.
    fn run_peers(
        &mut self,
        built: Result<PathBuf, String>,
        args: &Args,
        interrupt: &Interrupt,
        end: &mut End,
    ) -> Result<()> {
        let id = peers::ID.to_owned();
        let program = match built {
            Ok(program) => program,
            Err(reason) => return self.take(Event::Skipped { id, reason }),
        };
        let total = self.plan.iter().filter(|planned| planned.selected).count();
        let index = total.saturating_sub(1);
        self.take(Event::Started {
            index,
            total,
            id: id.clone(),
        })?;
        let (quick, full) = PEERS_ROUNDS;
        let order = peers::Order {
            program: &program,
            go: None,
            filter: None,
            rounds: if args.quick { quick } else { full },
            quick: args.quick,
            kpi: true,
            wall: args.quick.then_some(PEERS_BUDGET - Duration::from_secs(1)),
        };
        let measured = peers::run(&order, interrupt, |_, _, _| {})?;
        let peers::Run::Measured(table, peers_end) = measured else {
            // It is not given a filter.
            return Ok(());
        };
        let result = match peers_end {
            End::Broke(how) => BenchmarkResult::failed(id.parse()?, how),
            End::Interrupted => {
                *end = End::Interrupted;
                return Ok(());
            }
            End::Done | End::OutOfTime => table.into_result()?,
        };
        self.progress.finished(&result);
        self.results.push(result);
        self.running = None;
        Ok(())
    }

    /// Adds what other verbs have measured. A damaged file of theirs spoils their
    /// rows only.
    fn add_stored(&mut self, workspace: &Workspace) {
        for stored in STORED {
            let id = stored.planned(None).id;
            let is_selected = |planned: &Planned| planned.id == id && planned.selected;
            if !self.plan.iter().any(is_selected) {
                continue;
            }
            match stored.read(workspace) {
                Ok(Ok(result)) => self.results.push(result),
                Ok(Err(reason)) => self.skipped.push((id, reason)),
                Err(error) => self.skipped.push((id, format!("{error:#}"))),
            }
        }
    }

    /// Every KPI row without a value gets a reason among the warnings.
    fn into_report(
        mut self,
        end: &End,
        args: &Args,
        build: &BuildInfo,
        table: &KpiTable,
    ) -> Report {
        let running = self.running.take();
        let stopped = match end {
            End::Done => None,
            End::Interrupted => Some("the run was interrupted".to_owned()),
            End::OutOfTime => Some(format!(
                "the wall limit of {} s was reached",
                QUICK_BUDGET.as_secs()
            )),
            End::Broke(how) => Some(how.clone()),
        };
        if let (Some(id), Some(why)) = (&running, &stopped) {
            match (end, id.parse()) {
                (End::Interrupted, Ok(id)) => {
                    let result = BenchmarkResult::interrupted(id, why.clone());
                    self.results.push(result);
                }
                (End::Broke(_), Ok(id)) => {
                    self.results.push(BenchmarkResult::failed(id, why.clone()));
                }
                _ => self.skipped.push((id.clone(), why.clone())),
            }
        }
        let mut report = Report::new(Context::detect(build.clone()), self.results, table);
        let warnings = &mut report.warnings;
        if let Some(why) = &stopped {
            warnings.push(format!("partial results: {why}"));
        }
        warnings.append(&mut self.notes);
        if args.quick {
            warnings.push(
                "a quick run: small guests and few rounds, so start-up and compilation weigh more \
                 than in a full run; its verdicts are a first look"
                    .to_owned(),
            );
        }

        let missing: BTreeSet<&str> = report
            .kpis
            .iter()
            .filter(|kpi| kpi.verdict == Verdict::Missing)
            .map(|kpi| kpi.id.as_str())
            .collect();
        let mut reasons = BTreeMap::new();
        let mut n_filtered = 0;
        for planned in &self.plan {
            let rows: Vec<&str> = planned
                .kpis
                .iter()
                .map(String::as_str)
                .filter(|id| missing.contains(id))
                .collect();
            let result = report
                .benchmarks
                .iter()
                .find(|r| r.id().to_string() == planned.id);
            let skip = self.skipped.iter().find(|(id, _)| *id == planned.id);
            let why = match (skip, result) {
                (Some((_, reason)), _) => reason.clone(),
                (None, Some(result)) => match result.status() {
                    Status::Pass => "it gave no value for them".to_owned(),
                    status => format!("it is {}", status.name()),
                },
                (None, None) if !planned.selected => {
                    n_filtered += 1;
                    FILTERED.to_owned()
                }
                (None, None) => stopped
                    .clone()
                    .unwrap_or_else(|| "it did not run".to_owned()),
            };
            reasons.extend(rows.iter().map(|id| ((*id).to_owned(), why.clone())));
            if why == FILTERED {
                continue;
            }
            if !rows.is_empty() {
                warnings.push(format!(
                    "not measured: {} ({}: {why})",
                    rows.join(", "),
                    planned.id
                ));
            } else if skip.is_some() {
                warnings.push(format!("skipped: {} ({why})", planned.id));
            }
        }
        if n_filtered > 0 {
            warnings.push(format!(
                "the filter leaves out {n_filtered} of {} benchmarks",
                self.plan.len()
            ));
        }
        let unowned: Vec<&str> = missing
            .iter()
            .copied()
            .filter(|id| !reasons.contains_key(*id))
            .collect();
        if !unowned.is_empty() {
            warnings.push(format!(
                "no benchmark exists yet for {} KPI rows: {}",
                unowned.len(),
                unowned.join(", ")
            ));
        }
        for kpi in &mut report.kpis {
            if kpi.verdict == Verdict::Missing {
                let reason = reasons.remove(&kpi.id);
                kpi.reason = Some(reason.unwrap_or_else(|| "no benchmark exists yet".to_owned()));
            }
        }
        report
    }
}

/// A bar on a terminal, plain lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    is_on: bool,
}

impl Progress {
    fn new(is_on: bool) -> Self {
        let bar = (is_on && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed:>4} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, is_on }
    }

    fn started(&self, index: usize, total: usize, id: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(index as u64);
                bar.set_message(id.to_owned());
            }
            None => self.line(&format!("[{}/{total}] {id}", index + 1)),
        }
    }

    fn finished(&self, result: &BenchmarkResult) {
        let status = result.status();
        if let Some(reason) = status.reason() {
            self.line(&format!("{}: {}: {reason}", result.id(), status.name()));
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.is_on => tell(text),
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn listing(plan: &[Planned]) -> String {
    let mut text = String::new();
    for planned in plan.iter().filter(|planned| planned.selected) {
        text.push_str(&format!("{:<28} {}\n", planned.id, planned.kpis.join(", ")));
    }
    text
}

/// The compiler and revision, which only the build knows.
pub(crate) fn build_info(workspace: &Workspace) -> BuildInfo {
    let git = |args: &[&str]| -> Option<String> {
        let output = Command::new("git")
            .args(args)
            .current_dir(workspace.root())
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let unknown = || perf_bench::fingerprint::UNKNOWN.to_owned();
    BuildInfo {
        rustc: version_of("rustc").ok().flatten().unwrap_or_else(unknown),
        profile: "release".to_owned(),
        git: GitState {
            revision: git(&["rev-parse", "HEAD"]).unwrap_or_else(unknown),
            dirty: git(&["status", "--porcelain"]).map(|changes| !changes.is_empty()),
        },
    }
}

/// The message for a filter that matches nothing, nearest names first; `all`
/// is where to find the others.
pub(crate) fn nothing_selected(filter: &str, names: &[String], all: &str) -> String {
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (nearness(filter, name), name.as_str()))
        .collect();
    near.sort();
    let names: Vec<&str> = near.iter().take(5).map(|(_, name)| *name).collect();
    format!(
        "nothing is called {filter:?}; near names: {}\n       all of them: {all}",
        names.join(", ")
    )
}

/// Edits from `filter` to the closest part of `name`: dropping characters of the
/// name before and after that part is free (Sellers 1980).
fn nearness(filter: &str, name: &str) -> usize {
    let (pattern, text): (Vec<char>, Vec<char>) = (
        filter.to_lowercase().chars().collect(),
        name.to_lowercase().chars().collect(),
    );
    let mut row = vec![0_usize; text.len() + 1];
    for (i, wanted) in pattern.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, found) in text.iter().enumerate() {
            let replaced = diagonal + usize::from(wanted != found);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.into_iter().min().unwrap_or(pattern.len())
}

/// A row of a worker as a value of its own, for `compare`.
pub(crate) fn row_of(event: Event) -> Option<Value> {
    match event {
        Event::Row { row } => Some(row),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_bench::Unit;

    const TABLE: &str = "id,suite,metric,unit,direction,requirement,bar,anchor\n\
        a.ns,s,m,ns,lower,100,20,\n\
        b.ns,s,m,ns,lower,100,20,\n\
        c.ns,s,m,ns,lower,100,20,\n";

    fn args() -> Args {
        Args {
            filter: None,
            quick: true,
            list: false,
            save: None,
            baseline: None,
        }
    }

    fn gathering() -> Gathering {
        let mut gathering = Gathering::new(&Args {
            list: true,
            ..args()
        });
        let planned = |id: &str, kpi: &str| Planned {
            id: id.to_owned(),
            kpis: vec![kpi.to_owned()],
            selected: true,
        };
        let benchmarks = vec![planned("s/a", "a.ns"), planned("s/b", "b.ns")];
        gathering.take(Event::Plan { benchmarks }).unwrap();
        gathering
    }

    fn finished(id: &str, kpi: &str) -> Event {
        let mut result = BenchmarkResult::new(id.parse().unwrap());
        result.record_kpi(kpi, 7.0, Unit::Nanosecond).unwrap();
        let report = Report::new(Context::unknown(), vec![result], &KpiTable::empty());
        Event::Finished {
            report: serde_json::from_str(&report.to_json()).unwrap(),
        }
    }

    fn started(id: &str) -> Event {
        Event::Started {
            index: 0,
            total: 2,
            id: id.to_owned(),
        }
    }

    fn report(gathering: Gathering, end: &End) -> Report {
        let table = KpiTable::parse(TABLE).unwrap();
        gathering.into_report(end, &args(), &BuildInfo::default(), &table)
    }

    #[track_caller]
    fn warns(report: &Report, text: &str) {
        assert!(
            report.warnings.iter().any(|w| w.contains(text)),
            "{text}: {:?}",
            report.warnings
        );
    }

    #[test]
    fn an_interrupted_run_keeps_what_it_has_and_says_so() {
        let mut gathering = gathering();
        gathering.take(started("s/a")).unwrap();
        gathering.take(finished("s/a", "a.ns")).unwrap();
        gathering.take(started("s/b")).unwrap();
        let report = report(gathering, &End::Interrupted);
        assert_eq!(report.kpis[0].value, Some(7.0));
        assert_eq!(report.kpis[1].value, None);
        assert_eq!(report.kpis.len(), 3);
        assert_eq!(report.benchmarks[1].status().name(), "interrupted");
        warns(&report, "partial results: the run was interrupted");
        assert!(!is_whole(&args(), &End::Interrupted));
        warns(&report, "no benchmark exists yet for 1 KPI rows: c.ns");
        assert_eq!(outcome(&report, &End::Interrupted), Outcome::Interrupted);
    }

    #[test]
    fn rows_without_a_value_have_a_reason() {
        let mut gathering = gathering();
        gathering.plan[1].selected = false;
        gathering.take(finished("s/a", "a.ns")).unwrap();
        let report = report(gathering, &End::Done);
        let reasons: Vec<_> = report.kpis.iter().map(|k| k.reason.as_deref()).collect();
        assert_eq!(
            reasons,
            [None, Some("filtered"), Some("no benchmark exists yet")]
        );
        assert_eq!(report.kpis[1].verdict, Verdict::Missing);
        warns(&report, "the filter leaves out 1 of 2 benchmarks");
        let filter = Some("s/a".to_owned());
        let filtered = Args { filter, ..args() };
        assert!(!is_whole(&filtered, &End::Done) && is_whole(&args(), &End::OutOfTime));
    }

    #[test]
    fn what_the_wall_limit_cut_is_named_and_no_failure() {
        let mut gathering = gathering();
        gathering.take(finished("s/a", "a.ns")).unwrap();
        gathering.take(started("s/b")).unwrap();
        let report = report(gathering, &End::OutOfTime);
        warns(&report, "not measured: b.ns (s/b: the wall limit");
        assert_eq!(outcome(&report, &End::OutOfTime), Outcome::Fine);
    }

    #[test]
    fn a_worker_that_dies_fails_the_run() {
        let mut gathering = gathering();
        gathering.take(started("s/a")).unwrap();
        let end = End::Broke("the worker was ended by signal 11".to_owned());
        let report = report(gathering, &end);
        assert_eq!(report.benchmarks[0].status().name(), "fail");
        assert_eq!(outcome(&report, &end), Outcome::Failed);
    }

    #[test]
    fn skipped_benchmarks_leave_their_reason() {
        let mut gathering = gathering();
        gathering
            .take(Event::Skipped {
                id: "s/b".to_owned(),
                reason: "no cc".to_owned(),
            })
            .unwrap();
        gathering.take(finished("s/a", "a.ns")).unwrap();
        let report = report(gathering, &End::Done);
        warns(&report, "not measured: b.ns (s/b: no cc)");
        assert_eq!(outcome(&report, &End::Done), Outcome::Fine);
    }

    #[test]
    fn peers_that_cannot_be_built_are_missing_with_the_reason() {
        let mut gathering = gathering();
        gathering.add_to_plan(Planned {
            kpis: vec!["c.ns".to_owned()],
            ..peers::planned(None)
        });
        let interrupt = Interrupt::of(std::sync::Arc::default());
        let (built, mut end) = (Err("no network".to_owned()), End::Done);
        gathering
            .run_peers(built, &args(), &interrupt, &mut end)
            .unwrap();
        let report = report(gathering, &end);
        warns(
            &report,
            "not measured: c.ns (schedule/vs_peers: no network)",
        );
        assert_eq!(outcome(&report, &end), Outcome::Fine);
    }

    #[test]
    fn a_filter_may_select_peers_alone() {
        let mut gathering = gathering();
        let nothing = Event::NothingSelected {
            names: vec!["s/a".to_owned()],
        };
        gathering.take(nothing).unwrap();
        gathering.add_to_plan(peers::planned(Some("nowhere")));
        let names = gathering.nothing_selected.as_ref().unwrap();
        assert!(names.iter().any(|name| name == peers::ID), "{names:?}");
        gathering.add_to_plan(peers::planned(Some("vs_tokio")));
        assert_eq!(gathering.nothing_selected, None);
    }

    /// It ended well, having printed nothing.
    #[test]
    fn a_listing_of_nothing_is_wrong_usage() {
        let mut gathering = gathering();
        gathering.note_empty_plan();
        assert_eq!(gathering.nothing_selected, None);
        for planned in &mut gathering.plan {
            planned.selected = false;
        }
        gathering.note_empty_plan();
        let names = gathering.nothing_selected.unwrap();
        assert_eq!(names, ["s/a", "a.ns", "s/b", "b.ns"]);
    }

    #[test]
    fn near_names_come_first() {
        let names = ["jit/compile", "interp/mips", "jit.cache_hit_ns"].map(str::to_owned);
        let message = nothing_selected("jti/compile", &names, "--list");
        assert!(message.contains("near names: jit/compile"), "{message}");
        assert_eq!(nearness("mips", "interp/mips"), 0);
    }
}
