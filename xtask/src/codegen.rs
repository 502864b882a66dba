//! `cargo xtask codegen`: pages that the product prints from its own tables.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::workspace::{Outcome, Workspace, print_line, write_file};

/// Writes docs/isa-table.md and docs/syscalls.md from the instruction and system
/// call tables.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask codegen            after a change of a table
  cargo xtask codegen --check    exit status 1 if a page is out of date")]
pub(crate) struct Args {
    /// Changes nothing; says which pages are out of date.
    #[arg(long)]
    check: bool,
}

/// Page, and the cargo arguments of the command that prints it.
const PAGES: &[(&str, &[&str])] = &[
    (
        "docs/isa-table.md",
        &[
            "run",
            "--quiet",
            "--package",
            "vm-core",
            "--example",
            "isa_table",
        ],
    ),
    (
        "docs/syscalls.md",
        &[
            "run",
            "--quiet",
            "--package",
            "vm-runtime",
            "--bin",
            "hartloom",
            "--",
            "syscalls",
            "--markdown",
        ],
    ),
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let stale = stale_pages(workspace)?;
    for (page, fresh) in &stale {
        if args.check {
            print_line(complaint(page))?;
        } else {
            write_file(&workspace.root().join(page), fresh)?;
            print_line(format_args!("wrote {page}"))?;
        }
    }
    Ok(Outcome::from(stale.is_empty() || !args.check))
}

/// One sentence per page that is not what the tables say, for `tidy`.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    let stale = stale_pages(workspace)?;
    Ok(stale.iter().map(|(page, _)| complaint(page)).collect())
}

fn complaint(page: &str) -> String {
    format!("{page} is out of date; run `cargo xtask codegen`")
}

/// Pages that are not what the tables say, and what they should be.
fn stale_pages(workspace: &Workspace) -> Result<Vec<(&'static str, String)>> {
    let mut stale = Vec::new();
    for (page, command) in PAGES {
        let fresh = print(workspace, command)?;
        if !fs::read_to_string(workspace.root().join(page)).is_ok_and(|known| known == fresh) {
            stale.push((*page, fresh));
        }
    }
    Ok(stale)
}

fn print(workspace: &Workspace, args: &[&str]) -> Result<String> {
    let mut command = workspace.cargo();
    command.args(args);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success() && !output.stdout.is_empty(),
        "{command:?} ended with {} and printed {} bytes",
        output.status,
        output.stdout.len()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed no text"))
}
