//! Runs the scheduler's programs on ours and on other schedulers, in turn, and
//! writes one JSON object per line. `cargo xtask compare --suite sched` and
//! `cargo xtask bench` build it, spawn it and read it (xtask/src/peers.rs); by
//! hand it is `cargo run --release --manifest-path benches/peers/Cargo.toml`.
//!
//! ```text
//!  round 0 (warm-up)  yield: ours tokio smol may Go   spawn: ours tokio …
//!  round 1            yield: tokio smol may Go ours   spawn: tokio smol …
//! ```
//! Every round runs every program on every scheduler, another one first each
//! time: what else the machine does meets all of them, and a run that is cut
//! short has something of each. All schedulers live in this one process, those
//! whose turn it is not asleep; Go is a process of its own.
//!
//! Start with [`program`] (what is run), then [`futures`] (schedulers of
//! futures), `coroutines`, `others`.

#![deny(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool"
)]

#[allow(
    unsafe_code,
    reason = "may's spawn is unsafe: rule P1 stands in the module"
)]
mod coroutines;
mod futures;
mod others;
mod program;

// One source with vm-benches: a row of the KPI table and a ratio mean the same.
#[path = "../../src/schedule/ours.rs"]
#[allow(dead_code, reason = "vm-benches uses all of it")]
mod ours;
#[path = "../../src/schedule/programs.rs"]
#[allow(dead_code, reason = "vm-benches uses all of it")]
mod programs;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};

use program::{Answer, Contestant, Figures, Program, Scale};

/// Runs scheduler programs on several schedulers, interleaved.
#[derive(Parser)]
struct Cli {
    /// Programs whose name contains this.
    filter: Option<String>,
    /// Only these schedulers, by their names.
    #[arg(long)]
    only: Vec<String>,
    /// Measured rounds; one more warms up.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Small inputs.
    #[arg(long)]
    quick: bool,
    /// Only the programs the KPI rows come from.
    #[arg(long)]
    kpi: bool,
    /// Worker threads of each scheduler.
    #[arg(long, default_value_t = ours::VCPUS)]
    workers: usize,
    /// Starts no new round after this long.
    #[arg(long)]
    wall_seconds: Option<u64>,
    /// The program built from go/, to be run as one more scheduler.
    #[arg(long)]
    go: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sched-peers: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line at once: what is measured must not be lost with the process.
fn send(event: &Value) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{event}")
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("nobody reads: {error}"))
}

fn run(cli: &Cli) -> Result<(), String> {
    let is_selected = |program: &Program| {
        (!cli.kpi || program.is_kpi())
            && cli
                .filter
                .as_ref()
                .is_none_or(|filter| program.name().contains(filter.as_str()))
    };
    let programs: Vec<Program> = Program::ALL.iter().copied().filter(is_selected).collect();
    if programs.is_empty() {
        let names: Vec<&str> = Program::ALL.iter().map(|program| program.name()).collect();
        return send(&json!({"event": "nothing_selected", "names": names}));
    }
    let mut contestants: Vec<Box<dyn Contestant>> = vec![
        futures::ours(cli.workers)?,
        futures::tokio(cli.workers)?,
        futures::smol(cli.workers),
        coroutines::may(cli.workers),
        others::rayon(cli.workers)?,
        others::corosensei(),
    ];
    if let Some(path) = &cli.go {
        contestants.push(others::go(path.clone(), cli.workers));
    }
    if !cli.only.is_empty() {
        let names: Vec<&str> = contestants.iter().map(|one| one.name()).collect();
        if let Some(other) = cli.only.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(format!(
                "no scheduler is named {other}: {}",
                names.join(", ")
            ));
        }
        contestants.retain(|one| cli.only.iter().any(|name| name == one.name()));
    }
    let scale = Scale {
        is_quick: cli.quick,
    };
    let deadline = cli
        .wall_seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // A pair that went wrong once is not asked again.
    let mut is_out = vec![vec![false; contestants.len()]; programs.len()];
    for round in 0..=cli.rounds {
        if round > 1 && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let text = format!("the wall limit left {} of {} rounds", round - 1, cli.rounds);
            return send(&json!({"event": "note", "text": text}));
        }
        let id = match round {
            0 => "warm-up".to_owned(),
            _ => format!("round {round} of {}", cli.rounds),
        };
        send(&json!({"event": "started", "index": round, "total": cli.rounds + 1, "id": id}))?;
        if round == 1 {
            send_unless_idle()?;
        }
        for (program, is_out) in programs.iter().zip(&mut is_out) {
            for turn in 0..contestants.len() {
                let index = (turn + round as usize) % contestants.len();
                if is_out[index] {
                    continue;
                }
                let row = match contestants[index].run(*program, scale) {
                    Answer::Unfit => {
                        is_out[index] = true;
                        continue;
                    }
                    Answer::Done(figures) => figures.json(),
                    Answer::Cannot(why) => {
                        is_out[index] = true;
                        json!({"status": "cannot", "reason": why})
                    }
                    Answer::Wrong(why) => {
                        is_out[index] = true;
                        json!({"status": "invalid", "reason": why})
                    }
                    Answer::Failed(why) => {
                        is_out[index] = true;
                        json!({"status": "failed", "reason": why})
                    }
                };
                if round > 0 || row["status"] != "ok" {
                    send(&event_of(*program, contestants[index].name(), round, row))?;
                }
            }
        }
    }
    Ok(())
}

/// Whoever does not sleep when it has nothing to do would be in everybody's
/// figures: all have run by now, and none has work.
fn send_unless_idle() -> Result<(), String> {
    const WINDOW: Duration = Duration::from_millis(100);
    programs::stay_idle(WINDOW);
    let (before, start) = (programs::process_cpu(), Instant::now());
    programs::stay_idle(WINDOW);
    let used = programs::process_cpu().saturating_sub(before);
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
    if share <= 0.02 {
        return Ok(());
    }
    let text = format!(
        "with nothing to do the process used {:.0} % of a CPU",
        share * 100.0
    );
    send(&json!({"event": "note", "text": text}))
}

/// One sample, with its coordinates.
fn event_of(program: Program, runtime: &str, round: u32, mut row: Value) -> Value {
    row["program"] = json!(program.name());
    row["is_kpi"] = json!(program.is_kpi());
    row["runtime"] = json!(runtime);
    row["round"] = json!(round);
    json!({"event": "row", "row": row})
}

impl Figures {
    fn json(&self) -> Value {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut row = json!({
            "status": "ok",
            "ops": self.run.ops,
            "wall_ns": ns(self.run.wall),
            "cpu_ns": ns(self.run.cpu),
        });
        if let Some(latency) = &self.latency {
            row["latency"] = json!({
                "p50_ns": latency.p50_ns,
                "p99_ns": latency.p99_ns,
                "max_ns": latency.max_ns,
            });
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_right_on_every_scheduler_that_fits() {
        let mut contestants = [
            futures::ours(2).unwrap(),
            futures::tokio(2).unwrap(),
            futures::smol(2),
            coroutines::may(2),
            others::rayon(2).unwrap(),
            others::corosensei(),
        ];
        let scale = Scale { is_quick: true };
        for &program in Program::ALL {
            let mut n_done = 0;
            for contestant in &mut contestants {
                match contestant.run(program, scale) {
                    Answer::Done(_) => n_done += 1,
                    Answer::Unfit | Answer::Cannot(_) => {}
                    Answer::Wrong(why) | Answer::Failed(why) => {
                        panic!("{}, {}: {why}", program.name(), contestant.name())
                    }
                }
            }
            assert!(n_done > 0, "{} runs on nothing", program.name());
        }
    }
}
