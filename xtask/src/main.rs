//! The repository's own commands: `cargo xtask VERB`.
//!
//! ```text
//!  bench ──spawns──> vm-bench-worker ──JSON lines──> report files ──> report
//!  compare ──spawns──> vm-bench-worker compare ──JSON lines──> ratios
//!  gate ──spawns──> vm-bench-worker gate of two builds ──answers──> verdicts
//!  bench, compare --suite sched ──spawn──> benches/peers ──JSON lines──> ratios
//!  sim ──spawns──> sched-sim: tables, pictures
//!  gate --calibrate, coverage ──files──> bench
//!  test, tidy, codegen, guests, ci: cargo and the files of the tree
//! ```
//!
//! The doc comments of [`Verb`] are the help. What is measured lives in
//! `benches/`, how it is reported in `perf-bench`: this program builds, spawns,
//! watches the clock and writes files. It never links what it measures.

#![deny(unsafe_code)]

mod workspace;

mod baseline;
mod bench;
mod compare;
mod coverage;
mod gate;
mod peers;
mod report;
#[cfg(test)]
mod scripts;
mod sim;
mod stored;
mod worker;

mod ci;
mod codegen;
mod guests;
mod layers;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::{Interrupt, Outcome, Workspace, print_line, printed, tell};

/// Builds, tests, measures and checks this repository.
///
/// Exit status, for every verb: 0 all is well, 1 something failed (a test, a
/// benchmark, a check), 2 the gate could not tell, 3 wrong usage, a build error or files that cannot be
/// written, 130 interrupted.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Measures, prints the table with all targets, writes target/bench/RUN/.
    Bench(bench::Args),
    /// Renders a stored benchmark run again.
    Report(report::Args),
    /// Runs every test and says what ran, on how many engines.
    Test(test::Args),
    /// Times guest programs against qemu-riscv64 and native builds, or our
    /// scheduler against others, interleaved.
    Compare(compare::Args),
    /// Says whether a change is slower than its base, with an exit status for CI.
    Gate(gate::Args),
    /// Says which share of the product's lines the tests run.
    Coverage(coverage::Args),
    /// Compares scheduling policies on a simulated machine.
    Sim(sim::Args),
    /// Rebuilds the guest programs of the benchmarks, or checks them.
    Guests(GuestsArgs),
    /// Writes the documentation that is generated from tables.
    Codegen(codegen::Args),
    /// Checks what the compiler does not: layers, inventories, tables, hashes.
    Tidy(tidy::Args),
    /// Runs what continuous integration runs, in its order.
    Ci(ci::Args),
}

/// Without --check, rebuilds benches/guests/bin with the cross compiler and
/// verifies every program's output natively and under qemu-riscv64.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask guests           rebuild all (needs gcc-riscv64-linux-gnu)
  cargo xtask guests --check   compare files with the manifest's hashes
  UPDATE_EXPECT=1 cargo xtask guests   also accept changed output")]
struct GuestsArgs {
    /// Changes nothing; compares hashes and, with the recorded compiler, a fresh build.
    #[arg(long)]
    check: bool,
}

fn guests(workspace: &Workspace, args: &GuestsArgs) -> Result<Outcome> {
    // Whatever is written is written whole, and what was built is removed.
    let interrupt = Interrupt::watch()?;
    let done = match args.check {
        true => guests::check(workspace.root()).map(Some),
        false => guests::rebuild(workspace.root(), &interrupt).map(|()| None),
    };
    // Compilers hear Ctrl-C too, and what they then say is no error of theirs.
    if interrupt.is_set() {
        return Ok(Outcome::Interrupted);
    }
    let Some(report) = done? else {
        return Ok(Outcome::Fine);
    };
    print_line(&report)?;
    Ok(Outcome::from(report.is_clean()))
}

fn run(verb: Verb) -> Result<Outcome> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Bench(args) => bench::run(&workspace, &args),
        Verb::Report(args) => report::run(&workspace, &args),
        Verb::Test(args) => test::run(&workspace, &args),
        Verb::Compare(args) => compare::run(&workspace, &args),
        Verb::Gate(args) => gate::run(&workspace, &args),
        Verb::Coverage(args) => coverage::run(&workspace, &args),
        Verb::Sim(_) => sim::run(&workspace),
        Verb::Guests(args) => guests(&workspace, &args),
        Verb::Codegen(args) => codegen::run(&workspace, &args),
        Verb::Tidy(args) => tidy::run(&workspace, &args),
        Verb::Ci(args) => ci::run(&workspace, &args),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // Where the message cannot be written, its status is left.
            let _ = error.print();
            return Outcome::Unusable.exit_code();
        }
        // Help and version are errors to clap that ask for exit status 0.
        Err(help) => return ended(printed(help.print()).map(|()| Outcome::Fine)),
    };
    ended(run(cli.verb))
}

fn ended(done: Result<Outcome>) -> ExitCode {
    match done {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            tell(format_args!("error: {error:#}"));
            Outcome::Unusable.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples() {
        for verb in Cli::command().get_subcommands() {
            let help = verb
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("cargo xtask {}", verb.get_name())),
                "{} has no example in its help",
                verb.get_name()
            );
        }
    }
}
