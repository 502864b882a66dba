//! `cargo xtask sim`: builds the simulator of scheduling policies and runs it.
//!
//! It is a program of `benches/`, because this one links nothing of the product.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::{Outcome, Workspace};

#[path = "../../benches/src/bin/sched-sim/args.rs"]
mod args;

pub(crate) use args::Args;

pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    let program = workspace.build_release("vm-benches", "sched-sim")?;
    // In the caller's directory, where its files are. The first word is this
    // program, the second the verb: there are no flags before it.
    let status = Command::new(&program)
        .args(std::env::args_os().skip(2))
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(match status.success() {
        true => Outcome::Fine,
        // It has said what.
        false => Outcome::Unusable,
    })
}
