//! `cargo xtask compare`: our engines beside qemu-riscv64 and native code; with
//! `--suite sched`, our scheduler beside others (`peers` has what that means).
//!
//! The worker runs the programs, one round of all contestants after the other,
//! so that whatever the machine does meanwhile meets all of them. Here its rows
//! become ratios. CPU time (user and system) is compared, wall time is shown:
//! on a busy machine the one is steadier, for background compilation the other
//! is what a person waits for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::bench::{build, build_info, nothing_selected, place_args, row_of};
use crate::peers;
use crate::worker::{self, End, Event};
use crate::workspace::{
    Interrupt, Outcome, Workspace, file_run, make_run_dir, print_text, tell, time_stamp, write_file,
};

/// Runs every guest program natively (the same source, host compiler), under
/// qemu-riscv64 and under hartloom with each engine; N interleaved rounds, of
/// which the minimum and the median are kept. Prints times and ratios, writes
/// compare.csv and compare.json to target/compare/RUN/.
///
/// With --suite sched: runs the programs of benches/peers on our scheduler,
/// tokio, async-executor (smol's), may, rayon, corosensei and, where `go` is
/// installed, Go; interleaved, two workers each. Prints times, ratios and the
/// two KPI values made of them, writes sched.csv, sched.json and sched.txt. The
/// filter selects programs; --engines has no meaning there.
///
/// What is not installed is named and left out. Output that differs from the
/// expected one makes a time `invalid`, which is exit status 1.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask compare                    all guests, full size, 5 rounds
  cargo xtask compare --quick            small inputs: start-up and compilation show
  cargo xtask compare --rounds 9 sha     guests with `sha` in their name
  cargo xtask compare --engines jit      one engine
  cargo xtask compare --suite sched      schedulers, all programs, 9 rounds
  cargo xtask compare --suite sched --quick --rounds 3 yield")]
pub(crate) struct Args {
    /// Guests or programs whose name contains this text.
    filter: Option<String>,
    /// What is compared.
    #[arg(long, value_enum, default_value_t = Suite::Guests)]
    suite: Suite,
    /// The quick size of every guest or program.
    #[arg(long)]
    quick: bool,
    /// Rounds; 5 of guests, 9 of schedulers, unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Engines of hartloom to run.
    #[arg(long, value_delimiter = ',', default_values = ["jit", "hybrid", "interp"],
          value_parser = ["jit", "hybrid", "interp"])]
    engines: Vec<String>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// Guest programs on engines, QEMU and natively.
    Guests,
    /// Scheduler programs on schedulers.
    Sched,
}

impl Suite {
    const fn rounds(self) -> u32 {
        match self {
            Self::Guests => 5,
            Self::Sched => 9,
        }
    }
}

/// One guest under every contestant.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    guest: String,
    class: String,
    size: String,
    contestants: BTreeMap<String, Times>,
}

/// What one contestant needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Times {
    /// `ok`, `invalid` (wrong output) or `failed` (did not end well).
    status: String,
    reason: Option<String>,
    rounds: u32,
    cpu_ns_min: u64,
    cpu_ns_median: u64,
    wall_ns_min: u64,
    wall_ns_median: u64,
}

impl Row {
    fn valid(&self, contestant: &str) -> Option<&Times> {
        self.contestants
            .get(contestant)
            .filter(|times| times.status == "ok")
    }

    /// CPU time of `slow` over that of `fast`.
    fn cpu_ratio(&self, slow: &str, fast: &str) -> Option<f64> {
        ratio(self.valid(slow)?.cpu_ns_min, self.valid(fast)?.cpu_ns_min)
    }

    /// Wall time of hybrid over that of the better pure engine.
    fn hybrid_ratio(&self) -> Option<f64> {
        let best = self
            .valid("jit")?
            .wall_ns_min
            .min(self.valid("interp")?.wall_ns_min);
        ratio(self.valid("hybrid")?.wall_ns_min, best)
    }
}

fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

/// The document compare.json holds.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: &'static str,
    context: perf_bench::Context,
    rows: &'a [Row],
    summary: &'a [Figure],
    notes: &'a [String],
}

/// A number over several guests.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    name: String,
    value: f64,
    n_guests: usize,
    /// The guest of a minimum or maximum.
    guest: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    match args.suite {
        Suite::Guests => run_guests(workspace, args),
        Suite::Sched => run_schedulers(workspace, args),
    }
}

fn run_schedulers(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let run_dir = RunDir::make(workspace, &format!("{}-sched", time_stamp()))?;
    let interrupt = Interrupt::watch()?;
    let (program, go) = (peers::build(workspace), peers::build_go(workspace));
    if interrupt.is_set() {
        return Ok(Outcome::Interrupted);
    }
    let program = program.map_err(anyhow::Error::msg)?;
    let order = peers::Order {
        program: &program,
        go: go.as_deref().ok(),
        filter: args.filter.as_deref(),
        rounds: args.rounds.unwrap_or(args.suite.rounds()),
        quick: args.quick,
        kpi: false,
        wall: None,
    };
    let bar = spinner();
    let measured = peers::run(&order, &interrupt, |_, _, id| match &bar {
        Some(bar) => bar.set_message(id.to_owned()),
        None => tell(id),
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let (mut table, end) = match measured? {
        peers::Run::Measured(table, end) => (table, end),
        peers::Run::NothingSelected(names) => {
            let filter = args.filter.as_deref().unwrap_or_default();
            let message = nothing_selected(filter, &names, &names.join(", "));
            tell(format_args!("error: {message}"));
            return Ok(Outcome::Unusable);
        }
    };
    table.notes.extend(go.err());
    table.notes.extend(stopped(&end));
    let text = table.to_text();
    let run_dir = run_dir.path();
    let context = perf_bench::Context::detect(build_info(workspace));
    write_file(&run_dir.join("sched.csv"), &table.to_csv())?;
    write_file(&run_dir.join("sched.json"), &table.to_json(&context)?)?;
    write_file(&run_dir.join("sched.txt"), &text)?;
    let is_whole = args.filter.is_none() && end != End::Interrupted;
    let filed = file_run(run_dir, is_whole)?;
    print_text(&text)?;
    tell(format_args!("\n{filed}"));
    Ok(outcome(&end, table.is_right()))
}

/// Where a run is written. Made before any work, since a run that cannot be
/// written down should not start; removed where nothing came of it.
struct RunDir(PathBuf);

impl RunDir {
    fn make(workspace: &Workspace, name: &str) -> Result<Self> {
        make_run_dir(&workspace.target().join("compare"), name).map(Self)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Only ever removes an empty one.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What a reader of partial results should know.
fn stopped(end: &End) -> Option<String> {
    match end {
        End::Interrupted => Some("partial results: the run was interrupted".to_owned()),
        End::Broke(how) => Some(format!("partial results: {how}")),
        End::Done | End::OutOfTime => None,
    }
}

fn outcome(end: &End, is_right: bool) -> Outcome {
    match end {
        End::Interrupted => Outcome::Interrupted,
        End::Broke(_) => Outcome::Failed,
        End::Done | End::OutOfTime => Outcome::from(is_right),
    }
}

fn spinner() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    })
}

fn run_guests(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let run_dir = RunDir::make(workspace, &time_stamp())?;
    let interrupt = Interrupt::watch()?;
    let Some(built) = build(workspace, &interrupt)? else {
        return Ok(Outcome::Interrupted);
    };
    let mut list = vec!["compare".to_owned()];
    list.extend(place_args(workspace, &built));
    let rounds = args.rounds.unwrap_or(args.suite.rounds());
    list.push(format!("--rounds={rounds}"));
    list.push(format!("--engines={}", args.engines.join(",")));
    if args.quick {
        list.push("--quick".to_owned());
    }
    list.extend(args.filter.clone());

    let bar = spinner();
    let (mut rows, mut notes, mut nothing) = (Vec::<Row>::new(), Vec::new(), None);
    let end = worker::run(
        &built.worker,
        &list,
        || false,
        &interrupt,
        |event| {
            match event {
                Event::NothingSelected { names } => nothing = Some(names),
                Event::Note { text } => notes.push(text),
                Event::Started { index, total, id } => {
                    let text = format!("[{}/{total}] {id}", index + 1);
                    match &bar {
                        Some(bar) => bar.set_message(text),
                        None => tell(text),
                    }
                }
                event => {
                    if let Some(row) = row_of(event) {
                        rows.push(serde_json::from_value(row).context("not a row of compare")?);
                    }
                }
            }
            Ok(())
        },
    );
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let end = end?;
    if let Some(names) = nothing {
        let filter = args.filter.as_deref().unwrap_or_default();
        let message = nothing_selected(filter, &names, &names.join(", "));
        tell(format_args!("error: {message}"));
        return Ok(Outcome::Unusable);
    }
    notes.extend(stopped(&end));

    let summary = summarise(&rows);
    // Files first: what was measured is not lost with standard output.
    let run_dir = run_dir.path();
    write(workspace, run_dir, &rows, &summary, &notes)?;
    let is_whole = args.filter.is_none() && end != End::Interrupted;
    let filed = file_run(run_dir, is_whole)?;
    print_text(&render(&rows, &summary, &notes))?;
    tell(format_args!("\n{filed}"));
    let is_right = rows
        .iter()
        .flat_map(|row| row.contestants.values())
        .all(|times| times.status == "ok");
    Ok(outcome(&end, is_right))
}

/// The figures of the acceptance table: geometric means over guests, and the
/// worst single ones.
fn summarise(rows: &[Row]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let of_class = |class: &'static str| move |row: &&Row| class.is_empty() || row.class == class;
    let mut mean = |name: &str, class: &'static str, value: &dyn Fn(&Row) -> Option<f64>| {
        let values: Vec<f64> = rows
            .iter()
            .filter(of_class(class))
            .filter_map(value)
            .collect();
        if !values.is_empty() {
            let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
            figures.push(Figure {
                name: name.to_owned(),
                value: (logarithms / values.len() as f64).exp(),
                n_guests: values.len(),
                guest: None,
            });
        }
    };
    for engine in ["jit", "hybrid", "interp"] {
        mean(&format!("qemu / {engine}, geometric mean"), "", &|r| {
            r.cpu_ratio("qemu", engine)
        });
    }
    mean("jit / native, geometric mean, int", "int", &|r| {
        r.cpu_ratio("jit", "native")
    });
    mean("jit / native, geometric mean, fp", "fp", &|r| {
        r.cpu_ratio("jit", "native")
    });
    mean("jit / native, geometric mean, all", "", &|r| {
        r.cpu_ratio("jit", "native")
    });
    mean("qemu / native, geometric mean, all", "", &|r| {
        r.cpu_ratio("qemu", "native")
    });

    let mut extreme = |name: &str, sign: f64, value: &dyn Fn(&Row) -> Option<f64>| {
        let values: Vec<(f64, &str)> = rows
            .iter()
            .filter_map(|row| Some((value(row)?, row.guest.as_str())))
            .collect();
        let found = values
            .iter()
            .min_by(|a, b| (sign * a.0).total_cmp(&(sign * b.0)));
        if let Some((value, guest)) = found {
            figures.push(Figure {
                name: name.to_owned(),
                value: *value,
                n_guests: values.len(),
                guest: Some((*guest).to_owned()),
            });
        }
    };
    extreme("qemu / jit, smallest", 1.0, &|row| {
        row.cpu_ratio("qemu", "jit")
    });
    extreme("jit / native, largest", -1.0, &|row| {
        row.cpu_ratio("jit", "native")
    });
    extreme(
        "hybrid / best engine (wall), largest",
        -1.0,
        &Row::hybrid_ratio,
    );
    figures
}

const CONTESTANTS: [&str; 5] = ["native", "qemu", "jit", "hybrid", "interp"];

fn render(rows: &[Row], summary: &[Figure], notes: &[String]) -> String {
    let mut table: Vec<Vec<String>> = vec![
        [
            "guest", "class", "native", "qemu", "jit", "hybrid", "interp",
        ]
        .into_iter()
        .chain(["jit/native", "qemu/jit", "qemu/hybrid", "hybrid/best"])
        .map(str::to_owned)
        .collect(),
    ];
    for row in rows {
        let mut cells = vec![row.guest.clone(), row.class.clone()];
        cells.extend(CONTESTANTS.map(|name| match row.contestants.get(name) {
            None => "-".to_owned(),
            Some(times) if times.status == "ok" => seconds(times.cpu_ns_min),
            Some(times) => times.status.clone(),
        }));
        let ratios = [
            row.cpu_ratio("jit", "native"),
            row.cpu_ratio("qemu", "jit"),
            row.cpu_ratio("qemu", "hybrid"),
            row.hybrid_ratio(),
        ];
        cells.extend(ratios.map(|ratio| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"))));
        table.push(cells);
    }
    let n_columns = table[0].len();
    let widths: Vec<usize> = (0..n_columns)
        .map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::from("CPU seconds (user + system), minimum over the rounds\n\n");
    for row in &table {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(text, "{cell:<width$}"),
                1 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    for figure in summary {
        let where_ = match &figure.guest {
            Some(guest) => guest.clone(),
            None => format!("{} guests", figure.n_guests),
        };
        let _ = writeln!(text, "{:<38} {:>7.2}  {where_}", figure.name, figure.value);
    }
    for row in rows {
        for (name, times) in &row.contestants {
            if let Some(reason) = &times.reason {
                let _ = writeln!(text, "{}: {}, {name}: {reason}", times.status, row.guest);
            }
        }
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn seconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e9)
}

fn write(
    workspace: &Workspace,
    run_dir: &Path,
    rows: &[Row],
    summary: &[Figure],
    notes: &[String],
) -> Result<()> {
    let mut csv = String::from(
        "guest,class,size,contestant,status,rounds,cpu_ns_min,cpu_ns_median,wall_ns_min,wall_ns_median\n",
    );
    for row in rows {
        for (name, times) in &row.contestants {
            // No field can hold a comma or quote: names are of our making.
            let _ = writeln!(
                csv,
                "{},{},{},{name},{},{},{},{},{},{}",
                row.guest,
                row.class,
                row.size,
                times.status,
                times.rounds,
                times.cpu_ns_min,
                times.cpu_ns_median,
                times.wall_ns_min,
                times.wall_ns_median
            );
        }
    }
    write_file(&run_dir.join("compare.csv"), &csv)?;
    let document = Document {
        schema: "hartloom-compare.v1",
        context: perf_bench::Context::detect(build_info(workspace)),
        rows,
        summary,
        notes,
    };
    let mut json = serde_json::to_string_pretty(&document)?;
    json.push('\n');
    write_file(&run_dir.join("compare.json"), &json)?;
    write_file(&run_dir.join("compare.txt"), &render(rows, summary, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cpu_ms: u64, status: &str) -> Times {
        let ns = cpu_ms * 1_000_000;
        Times {
            status: status.to_owned(),
            reason: (status != "ok").then(|| "checksum differs".to_owned()),
            rounds: 3,
            cpu_ns_min: ns,
            cpu_ns_median: ns,
            wall_ns_min: ns,
            wall_ns_median: ns,
        }
    }

    fn row(guest: &str, class: &str, cpu_ms: &[(&str, u64)]) -> Row {
        Row {
            guest: guest.to_owned(),
            class: class.to_owned(),
            size: "full".to_owned(),
            contestants: cpu_ms
                .iter()
                .map(|(name, ms)| ((*name).to_owned(), times(*ms, "ok")))
                .collect(),
        }
    }

    #[track_caller]
    fn figure(figures: &[Figure], name: &str) -> Figure {
        let found = figures.iter().find(|figure| figure.name == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {figures:?}"))
            .clone()
    }

    #[test]
    fn means_are_geometric_and_extremes_name_their_guest() {
        let rows = [
            row("a", "int", &[("native", 100), ("jit", 200), ("qemu", 400)]),
            row("b", "fp", &[("native", 100), ("jit", 100), ("qemu", 800)]),
        ];
        let figures = summarise(&rows);
        assert_eq!(
            figure(&figures, "qemu / jit, geometric mean").value.round(),
            4.0
        );
        assert_eq!(
            figure(&figures, "jit / native, geometric mean, int")
                .value
                .round(),
            2.0
        );
        let smallest = figure(&figures, "qemu / jit, smallest");
        assert_eq!(
            (smallest.value, smallest.guest.as_deref()),
            (2.0, Some("a"))
        );
    }

    #[test]
    fn wrong_output_is_no_number() {
        let mut wrong = row("a", "int", &[("native", 100), ("qemu", 400)]);
        wrong
            .contestants
            .insert("jit".to_owned(), times(1, "invalid"));
        assert_eq!(wrong.cpu_ratio("qemu", "jit"), None);
        let text = render(&[wrong], &[], &[]);
        assert!(text.contains("invalid: a, jit: checksum differs"), "{text}");
    }

    #[test]
    fn what_is_missing_leaves_its_figures_out() {
        let rows = [row(
            "a",
            "int",
            &[("jit", 200), ("interp", 900), ("hybrid", 220)],
        )];
        let figures = summarise(&rows);
        assert_eq!(figures.len(), 1);
        assert!((figures[0].value - 1.1).abs() < 1e-9);
    }
}
