//! `cargo xtask ci`: what continuous integration runs. `.ci/run` and the
//! workflow call the same commands; this is the same list for a desk.

use anyhow::{Context as _, Result};

use crate::workspace::{Outcome, Workspace, print_line, tell};

/// Runs tests, lints, formatting, documentation, tidy and a quick benchmark, in
/// the order of .ci/run. Goes on after a failure, so that one run names them all.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask ci                everything
  cargo xtask ci --no-bench     without the minute of benchmarks")]
pub(crate) struct Args {
    /// Leaves out the benchmarks.
    #[arg(long)]
    no_bench: bool,
}

/// Name and cargo arguments of each step.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    (
        "lint",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    ),
    ("documentation", &["doc", "--no-deps", "--workspace"]),
    ("test", &["xtask", "test"]),
    ("tidy", &["xtask", "tidy"]),
    ("bench", &["xtask", "bench", "--quick"]),
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let mut failed = Vec::new();
    for (name, cargo_args) in STEPS {
        if args.no_bench && *name == "bench" {
            continue;
        }
        tell(format_args!("\nci: {name}: cargo {}", cargo_args.join(" ")));
        let mut command = workspace.cargo();
        command.args(*cargo_args);
        if *name == "documentation" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        let status = command
            .status()
            .with_context(|| format!("cannot run {command:?}"))?;
        if !status.success() {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        print_line("ci: all steps passed")?;
    } else {
        print_line(format_args!("ci: failed: {}", failed.join(", ")))?;
    }
    Ok(Outcome::from(failed.is_empty()))
}
