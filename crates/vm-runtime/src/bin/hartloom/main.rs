//! `hartloom`: runs RV64GC Linux programs from the command line.
//!
//! [`flags`] is what can be said, [`run`] and [`dump`] are what is done,
//! [`inherited`] is what the parent left, [`outside`] what others send. Exit statuses are documented in the
//! help, which `flags` holds. [`knobs`] are for whoever works on the compiler.

#![deny(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use clap::{CommandFactory as _, Parser as _};
use vm_runtime::{LoadError, syscall_table, syscall_table_markdown};

mod dump;
mod flags;
#[allow(
    unsafe_code,
    reason = "looks at signals and descriptors before Rust's runtime changes them: rule I1"
)]
mod inherited;
mod knobs;
#[allow(unsafe_code, reason = "sets a signal handler: rule O1")]
mod outside;
mod run;

use flags::{Flags, STATUS_OWN_ERROR, Verb};

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(message) => {
            let printed = message.print();
            if message.exit_code() != 0 {
                // Where the message cannot be written, its status is left.
                return ExitCode::from(STATUS_OWN_ERROR);
            }
            // Help and version come this way too, and are no errors.
            return ended(printed_all(printed.map_err(Into::into)));
        }
    };
    let done = match flags.verb {
        Verb::Run(args) => run::run(args),
        Verb::Dump(args) => printed_all(dump::dump(&args)),
        Verb::Syscalls { markdown } => printed_all(print_syscalls(markdown)),
        Verb::Completions { shell } => printed_all(print_completions(shell)),
    };
    ended(done)
}

/// Says what went wrong, and with which status to end.
fn ended(done: anyhow::Result<u8>) -> ExitCode {
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "hartloom: {error:#}");
            ExitCode::from(status_of(&error))
        }
    }
}

/// What the shell is told about an error of ours.
fn status_of(error: &anyhow::Error) -> u8 {
    error
        .downcast_ref::<LoadError>()
        .map_or(STATUS_OWN_ERROR, LoadError::exit_status)
}

/// The end of what only prints. Whoever closes the pipe has read enough: that
/// is no error. Any other failure to write is one of standard output, since
/// files that are read have their name in their error.
fn printed_all(done: anyhow::Result<()>) -> anyhow::Result<u8> {
    let kind = |error: &anyhow::Error| error.downcast_ref::<io::Error>().map(io::Error::kind);
    match done {
        Ok(()) if inherited::is_unwritable(io::stdout()) => bail!(
            "standard output is not open for writing, so what was asked for is lost; open it (> FILE)"
        ),
        Ok(()) => Ok(0),
        Err(error) => match kind(&error) {
            Some(io::ErrorKind::BrokenPipe) => Ok(0),
            Some(_) => Err(error.context("standard output cannot be written")),
            None => Err(error),
        },
    }
}

fn print_syscalls(markdown: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if markdown {
        out.write_all(syscall_table_markdown().as_bytes())?;
        return Ok(out.flush()?);
    }
    for row in syscall_table() {
        let line = format!(
            "{:>4}  {:<20} {:<11} {}",
            row.number,
            row.name,
            row.class.name(),
            row.note
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    // What is still buffered would be lost without a word.
    Ok(out.flush()?)
}

fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "hartloom", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}
