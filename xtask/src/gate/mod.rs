//! `cargo xtask gate`: is this tree slower than its base?
//!
//! ```text
//!  build ──> workers of both sides, in several layouts
//!  talk  ──> one worker: requests, answers, what it does wrong
//!  measure   counters, then pairs of processes as perf_bench::gate asks
//!  callgrind instructions
//!  calibrate the same build against itself, many times
//!  history   what earlier gates measured, and where it changed
//! ```
//!
//! What is measured is in benches/src/gate/, how it is judged in
//! `perf_bench::gate`.

mod build;
pub(crate) mod calibrate;
mod callgrind;
mod history;
mod measure;
mod talk;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use perf_bench::gate::{BenchmarkEvidence, Calibration, Evidence, GateReport, Kind, Rules, Stage};
use perf_bench::report::text;
use perf_bench::{Context, Format, KpiTable, Report};

use crate::bench::{build_info, nothing_selected};
use crate::workspace::{
    Interrupt, Outcome, Workspace, make_run_dir, output_width, print_text, tell, time_stamp,
    write_file,
};
use build::{Builds, find_base};
use callgrind::Callgrind;
use measure::{Bench, CONTROL, Settings, Side, Workers};
use talk::{Fault, Listed};

/// Builds this tree and its base, measures both side by side and says for each
/// benchmark whether it got slower: exact counters, instruction counts where
/// valgrind is installed, and wall time of interleaved processes in several code
/// layouts. Writes the report in every format to target/gate/RUN/.
///
/// Exit status: 0 nothing is slower, 1 something is, confirmed, 2 it cannot be
/// told (noise, a busy machine, sides that do different work), 3 wrong usage or a
/// side that does not build, 130 interrupted.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask gate                         this tree against where it left main
  cargo xtask gate --base HEAD~1 interp/   one suite, against the commit before
  cargo xtask gate --quick                 fewer layouts and shorter runs
  cargo xtask gate --calibrate --aa 200 --inject 0.05
                                           measures how often the gate is wrong here
  cargo xtask gate --history               what earlier gates measured, and where it changed")]
pub(crate) struct Args {
    /// Benchmarks whose name contains this text.
    filter: Option<String>,
    /// The revision to compare with; without it, where HEAD left main.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Fewer layouts, shorter runs, instructions counted once.
    #[arg(long)]
    quick: bool,
    /// More instructions fail the gate even if wall time is unchanged.
    #[arg(long)]
    strict: bool,
    /// Repeats what was drawn at random.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Measures this build against itself and writes the error rates to
    /// target/gate/calibration.json, which later gates print.
    #[arg(long, conflicts_with_all = ["base", "strict"])]
    calibrate: bool,
    /// Gates of the same code.
    #[arg(long, requires = "calibrate", default_value_t = 200, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    aa: u64,
    /// Gates of each slowdown, in turn with those of the same code; without it, half
    /// as many as those.
    #[arg(long, requires = "calibrate", value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    injected: Option<u64>,
    /// Slowdowns to find, 0.05 being 5 %.
    #[arg(long, requires = "calibrate", default_value = "0.05", value_name = "SHARES",
          value_delimiter = ',', value_parser = parse_share)]
    inject: Vec<f64>,
    /// Adds to the rates measured before on this CPU instead of replacing them.
    #[arg(long, requires = "calibrate")]
    add: bool,
    /// Shows what earlier gates measured and at which commits it changed; measures
    /// nothing.
    #[arg(long, conflicts_with_all = ["calibrate", "base", "quick", "strict", "seed"])]
    history: bool,
}

/// A share of work to add; below a thousandth a run of few iterations cannot
/// express it.
fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.01..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text} is no share from 0.01 to 1")),
    }
}

impl Args {
    fn settings(&self) -> Settings {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let drawn = clock.map_or(1, |since| since.as_secs());
        // Longer samples make processes of the same code no more alike.
        let sample_ns = 500_000;
        let (layouts, rounds) = if self.quick { (2, 8) } else { (8, 12) };
        Settings {
            layouts,
            rounds,
            sample_ns,
            patience: Duration::from_secs(30),
            seed: self.seed.unwrap_or(drawn),
            inject: 0.0,
        }
    }

    fn callgrind_runs(&self) -> u32 {
        if self.quick { 1 } else { 2 }
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    if args.history {
        print_text(&history::show(workspace, args.filter.as_deref())?)?;
        return Ok(Outcome::Fine);
    }
    let base = match args.calibrate {
        true => None,
        false => Some(find_base(workspace, args.base.as_deref())?),
    };
    let interrupt = Interrupt::watch()?;
    // Before any work: a gate that cannot be written down should not start.
    let time = time_stamp();
    let run = match args.calibrate {
        true => None,
        false => Some(make_run_dir(&workspace.target().join("gate"), &time)?),
    };
    let done = measured(
        workspace,
        args,
        base.as_deref(),
        &time,
        run.as_deref(),
        &interrupt,
    );
    if let Some(run) = run {
        // Succeeds only where nothing was written there.
        let _ = std::fs::remove_dir(run);
    }
    done
}

fn measured(
    workspace: &Workspace,
    args: &Args,
    base: Option<&str>,
    time: &str,
    run: Option<&Path>,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let mut notes = Vec::new();
    // Before the builds, which take minutes: it may be damaged.
    let calibration = match args.calibrate && !args.add {
        true => calibrate::Known::default(),
        false => calibrate::load(workspace, &mut notes)?,
    };
    let mut builds = match Builds::start(workspace, base) {
        Err(_) if interrupt.is_set() => return Ok(Outcome::Interrupted),
        built => built?,
    };
    if !builds.has_layouts() {
        notes.push("layout fixed: this linker cannot shuffle sections".to_owned());
    }
    if !builds.has_same_lockfile() {
        notes.push("Cargo.lock differs: other crates are compared, too".to_owned());
    }
    let settings = args.settings();
    let seed = settings.seed;
    let Some(run) = run else {
        let earlier = &calibration.rows;
        return calibrate(workspace, args, &mut builds, settings, earlier, interrupt);
    };

    let started = Instant::now();
    let scratch = workspace.target().join("gate-build");
    let callgrind = Callgrind::find(&scratch, args.callgrind_runs(), &mut notes)?;
    let mut bench = Bench::new(&mut builds, settings, interrupt);
    let Some(benchmarks) = select(&mut bench, args.filter.as_deref(), &mut notes)? else {
        return Ok(Outcome::Interrupted);
    };
    let mut evidence = Evidence {
        benchmarks,
        ..Evidence::default()
    };
    for benchmark in &mut evidence.benchmarks {
        let row = calibration
            .rows
            .iter()
            .find(|row| row.id == benchmark.id.to_string());
        benchmark.advisory = row.is_some_and(|row| row.is_advisory());
    }
    let rules = Rules {
        strict: args.strict,
        ..Rules::default()
    };
    let judged = judge(
        &mut bench,
        &mut evidence,
        callgrind.as_ref(),
        &rules,
        &mut notes,
    )?;
    let is_whole = judged.is_some();
    let Some(mut gate) = judged.or_else(|| Bench::judged_so_far(&mut evidence, &rules)) else {
        tell("interrupted: nothing was judged");
        return Ok(Outcome::Interrupted);
    };
    if !is_whole {
        notes.push("partial results: the gate was interrupted".to_owned());
    }
    gate.reproduce = base.map(|base| reproduce(args, base, seed));
    gate.calibration = calibration.rows;
    let code = gate.exit_code();

    let mut context = Context::detect(build_info(workspace));
    context.profile = "gate".to_owned();
    context.seed = Some(seed);
    context.layout = match builds.has_layouts() {
        true => "shuffled".to_owned(),
        false => "fixed".to_owned(),
    };
    let mut report = Report::new(context, Vec::new(), &KpiTable::empty());
    report.gate = Some(gate);
    report.warnings.append(&mut notes);
    for &format in Format::ALL {
        write_file(&run.join(format.file_name()), &report.render(format))?;
    }
    print_text(&report.to_text(output_width()))?;
    // Last: a history that cannot be written takes no report along.
    let kept = history::keep(workspace, &evidence, time, &report.context)?;
    let seconds = started.elapsed().as_secs_f64();
    tell(format_args!(
        "\nwritten to {}; {kept}; measuring took {seconds:.0} s",
        run.display()
    ));
    match is_whole {
        true => outcome(code),
        false => Ok(Outcome::Interrupted),
    }
}

/// Exit status of a gate's code.
fn outcome(code: u8) -> Result<Outcome> {
    match code {
        0 => Ok(Outcome::Fine),
        1 => Ok(Outcome::Failed),
        2 => Ok(Outcome::Unclear),
        other => bail!("{other} is no exit code of a gate"),
    }
}

fn reproduce(args: &Args, base: &str, seed: u64) -> String {
    let command = format!("cargo xtask gate --base {base} --seed {seed}");
    let flags = [(args.quick, " --quick"), (args.strict, " --strict")];
    with_flags(command, flags, args.filter.as_deref())
}

/// A command with those of the flags that are given, and the filter.
fn with_flags(mut command: String, flags: [(bool, &str); 2], filter: Option<&str>) -> String {
    for (is_given, flag) in flags {
        if is_given {
            command.push_str(flag);
        }
    }
    if let Some(filter) = filter {
        command.push(' ');
        command.push_str(filter);
    }
    command
}

/// All stages. `None` for Ctrl-C, which also ends a cargo that links a layout.
fn judge(
    bench: &mut Bench<'_>,
    evidence: &mut Evidence,
    callgrind: Option<&Callgrind>,
    rules: &Rules,
    notes: &mut Vec<String>,
) -> Result<Option<GateReport>> {
    match stages(bench, evidence, callgrind, rules, notes) {
        Err(_) if bench.is_interrupted() => Ok(None),
        judged => judged,
    }
}

fn stages(
    bench: &mut Bench<'_>,
    evidence: &mut Evidence,
    callgrind: Option<&Callgrind>,
    rules: &Rules,
    notes: &mut Vec<String>,
) -> Result<Option<GateReport>> {
    for benchmark in &mut evidence.benchmarks {
        if benchmark.invalid.is_some() {
            continue;
        }
        tell(format_args!("counting {}", benchmark.id));
        if bench.count(benchmark)?.is_none() {
            return Ok(None);
        }
        // Counts follow the thread that asks, and other threads do the work.
        let is_countable = benchmark.invalid.is_none() && benchmark.kind != Kind::Threaded;
        if !is_countable {
            continue;
        }
        match bench.count_instructions(callgrind, benchmark)? {
            None => return Ok(None),
            Some(Ok(())) => {}
            Some(Err(reason)) => notes.push(format!(
                "instructions of {} were not counted: {reason}",
                benchmark.id
            )),
        }
    }
    tell("measuring");
    bench.judge(evidence, rules)
}

/// The benchmarks both sides have, as far as the filter lets. `None` for Ctrl-C.
fn select(
    bench: &mut Bench<'_>,
    filter: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<BenchmarkEvidence>>> {
    let change = match bench.list(Side::Change)? {
        Ok(listed) => listed,
        Err(Fault::Interrupted) => return Ok(None),
        Err(Fault::Worker(reason)) => bail!("{reason}"),
    };
    let base = match bench.list(Side::Base)? {
        Ok(listed) => listed,
        Err(Fault::Interrupted) => return Ok(None),
        Err(Fault::Worker(reason)) => bail!(
            "{reason}; a base older than the gate cannot be compared: give a later one with --base"
        ),
    };
    pick(&change, &base, filter, notes).map(Some)
}

fn pick(
    change: &[Listed],
    base: &[Listed],
    filter: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<BenchmarkEvidence>> {
    let mut benchmarks = Vec::new();
    let all = change.iter().filter(|listed| listed.id != CONTROL);
    let chosen = all
        .clone()
        .filter(|listed| filter.is_none_or(|text| listed.id.contains(text)));
    for listed in chosen.clone() {
        let Some(before) = base.iter().find(|before| before.id == listed.id) else {
            notes.push(format!(
                "left out, since the base has no such benchmark: {}",
                listed.id
            ));
            continue;
        };
        let mut evidence = BenchmarkEvidence::new(listed.id.parse()?, listed.kind);
        if before.work != listed.work {
            evidence.invalid = Some("its source or input is not the same on both sides".to_owned());
        }
        benchmarks.push(evidence);
    }
    if chosen.count() == 0 {
        let names: Vec<String> = all.map(|listed| listed.id.clone()).collect();
        let everywhere = "`cargo xtask gate` without a filter";
        let message = nothing_selected(filter.unwrap_or_default(), &names, everywhere);
        bail!(message);
    }
    if benchmarks.is_empty() {
        bail!("the base has none of these benchmarks: give a later one with --base");
    }
    Ok(benchmarks)
}

fn calibrate(
    workspace: &Workspace,
    args: &Args,
    workers: &mut dyn Workers,
    settings: Settings,
    earlier: &[Calibration],
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let mut bench = Bench::new(workers, settings, interrupt);
    let Some(benchmarks) = select(&mut bench, args.filter.as_deref(), &mut Vec::new())? else {
        return Ok(Outcome::Interrupted);
    };
    match bench.link(&[Stage::Screen, Stage::Confirm]) {
        Err(_) if interrupt.is_set() => return Ok(Outcome::Interrupted),
        linked => linked?,
    }
    let revision = build_info(workspace).git.revision;
    let plan = calibrate::Plan {
        same: args.aa,
        injected: args.injected.unwrap_or(args.aa.div_ceil(2)),
        effects: &args.inject,
    };
    let mut kept = None;
    let left = calibrate::measure(&mut bench, &benchmarks, plan, |rows| {
        kept = Some(calibrate::store(workspace, earlier, rows, &revision)?);
        Ok(())
    })?;
    let has_some = kept.is_some();
    if let Some((rows, path)) = kept {
        print_text(&text::calibration(&rows, output_width()))?;
        tell(format_args!("written to {}", path.display()));
    }
    let Some(left) = left else {
        return Ok(Outcome::Fine);
    };
    tell(format_args!(
        "interrupted; the rest: {}",
        rest(args, &left, args.add || has_some)
    ));
    Ok(Outcome::Interrupted)
}

/// The command that does the gates that are left.
fn rest(args: &Args, left: &calibrate::Plan<'_>, add: bool) -> String {
    let effects: Vec<String> = left.effects.iter().map(f64::to_string).collect();
    let command = format!(
        "cargo xtask gate --calibrate --aa {} --injected {} --inject {}",
        left.same.max(1),
        left.injected.max(1),
        effects.join(",")
    );
    let flags = [(add, " --add"), (args.quick, " --quick")];
    with_flags(command, flags, args.filter.as_deref())
}

#[cfg(test)]
mod tests;
