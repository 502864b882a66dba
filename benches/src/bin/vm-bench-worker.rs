//! The measured process. Writes one JSON object per line (see
//! `vm_benches::protocol`); `cargo xtask bench`, `compare` and
//! `gate` read them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, Subcommand};
use perf_bench::{BenchmarkResult, BenchmarkSuite, BoxError, Progress};

use vm_benches::contest::{Contest, Contestant, engine, peers};
use vm_benches::guests::{Guests, Size};
use vm_benches::protocol::{Event, Planned, finished, send};
use vm_benches::{Lab, Measured, workloads};

/// Measures; usually started by `cargo xtask bench`.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Says what there is.
    List(Common),
    /// Runs benchmarks.
    Run {
        #[command(flatten)]
        common: Common,
        /// Ends itself after this long, between two benchmarks or rounds.
        #[arg(long)]
        wall_seconds: Option<u64>,
    },
    /// Runs guests under every contestant.
    Compare {
        #[command(flatten)]
        common: Common,
        /// Rounds per guest.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Engines to run.
        #[arg(long, value_delimiter = ',')]
        engines: Vec<String>,
    },
    /// Answers the requests of `cargo xtask gate` (see `vm_benches::gate`).
    Gate,
}

#[derive(clap::Args)]
struct Common {
    /// Benchmarks or guests whose name contains this.
    filter: Option<String>,
    /// Small inputs, few rounds.
    #[arg(long)]
    quick: bool,
    /// The command `hartloom`.
    #[arg(long)]
    hartloom: Option<PathBuf>,
    /// Directory of the guests' manifest.
    #[arg(long, default_value = "benches/guests")]
    guests: PathBuf,
    /// Where native builds of guests are kept.
    #[arg(long, default_value = "target/bench-native")]
    scratch: PathBuf,
}

impl Common {
    fn lab(&self, wall_seconds: Option<u64>) -> Result<Lab> {
        Ok(Lab {
            guests: Guests::load(&self.guests)?,
            hartloom: self.hartloom.clone(),
            // Compilers run in another directory.
            scratch: std::path::absolute(&self.scratch).context("no current directory")?,
            is_quick: self.quick,
            deadline: wall_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            ended: Default::default(),
        })
    }
}

fn main() -> ExitCode {
    vm_benches::exit_code(match Cli::parse().verb {
        Verb::List(common) => plan(&common).map(|_| ()),
        Verb::Run {
            common,
            wall_seconds,
        } => run(&common, wall_seconds),
        Verb::Compare {
            common,
            rounds,
            engines,
        } => compare(&common, rounds, &engines),
        Verb::Gate => vm_benches::gate::serve(std::io::stdin().lock(), std::io::stdout().lock()),
    })
}

/// Sends the plan; names of what the filter selects.
fn plan(common: &Common) -> Result<Vec<&'static str>> {
    let all = workloads();
    let is_selected = |id: &str, kpis: &[&str]| match &common.filter {
        None => true,
        Some(filter) => {
            id.contains(filter.as_str()) || kpis.iter().any(|kpi| kpi.contains(filter.as_str()))
        }
    };
    let benchmarks: Vec<Planned<'_>> = all
        .iter()
        .map(|workload| Planned {
            id: workload.id,
            kpis: workload.kpis,
            selected: is_selected(workload.id, workload.kpis),
        })
        .collect();
    let selected = benchmarks
        .iter()
        .filter(|b| b.selected)
        .map(|b| b.id)
        .collect();
    send(&Event::Plan { benchmarks })?;
    Ok(selected)
}

fn run(common: &Common, wall_seconds: Option<u64>) -> Result<()> {
    let lab = common.lab(wall_seconds)?;
    let selected = plan(common)?;
    if selected.is_empty() {
        let all = workloads();
        let names = all
            .iter()
            .flat_map(|w| std::iter::once(w.id).chain(w.kpis.iter().copied()));
        return Ok(send(&Event::NothingSelected {
            names: names.collect(),
        })?);
    }
    // A skipped workload yields no result; the suite knows only results.
    let skipped = RefCell::new(None::<String>);
    let mut suite = BenchmarkSuite::new("vm-benches");
    for workload in workloads() {
        if !selected.contains(&workload.id) {
            continue;
        }
        let (lab, skipped) = (&lab, &skipped);
        suite.add(workload.id, move |result: BenchmarkResult| {
            let id = result.id().clone();
            let measured = if lab.is_out_of_time() {
                Measured::Skipped("cut: the wall limit was reached".to_owned())
            } else {
                (workload.body)(lab, result).map_err(BoxError::from)?
            };
            Ok::<_, BoxError>(match measured {
                Measured::Done(result) => result,
                Measured::Skipped(reason) => {
                    skipped.replace(Some(reason));
                    BenchmarkResult::new(id)
                }
            })
        })?;
    }
    let mut lost = Ok(());
    suite.run_with(None, &mut |progress| {
        let sent = match progress {
            Progress::Started { index, total, id } => send(&Event::Started {
                index,
                total,
                id: &id.to_string(),
            }),
            Progress::Finished { result, .. } => match skipped.take() {
                Some(reason) => send(&Event::Skipped {
                    id: &result.id().to_string(),
                    reason: &reason,
                }),
                None => send(&finished(result.clone())),
            },
            _ => Ok(()),
        };
        if lost.is_ok() {
            lost = sent;
        }
    })?;
    Ok(lost?)
}

fn compare(common: &Common, rounds: u32, engines: &[String]) -> Result<()> {
    let lab = common.lab(None)?;
    let is_selected = |name: &str| {
        common
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
    };
    let names: Vec<&str> = lab.guests.iter().map(|guest| guest.name.as_str()).collect();
    if !names.iter().any(|name| is_selected(name)) {
        return Ok(send(&Event::NothingSelected { names })?);
    }
    let (mut contestants, missing) = peers(&lab);
    for text in &missing {
        send(&Event::Note { text })?;
    }
    for name in engines {
        match engine(name) {
            Some(kind) => contestants.push(Contestant::Hartloom(kind)),
            None => send(&Event::Note {
                text: &format!("this build has no engine {name}"),
            })?,
        }
    }
    if contestants.is_empty() {
        return Err(anyhow!("there is nothing to compare"));
    }
    let size = if common.quick {
        Size::Quick
    } else {
        Size::Full
    };
    let mut contest = Contest::new(&lab, contestants, size, |guest| is_selected(&guest.name))?;
    let total = contest.rows().len();
    for index in 0..total {
        let id = contest.rows()[index].guest.clone();
        send(&Event::Started {
            index,
            total,
            id: &id,
        })?;
        for _ in 0..rounds {
            contest.round(index)?;
        }
        send(&Event::Row {
            row: contest.rows()[index].to_json(),
        })?;
    }
    Ok(())
}
