//! `hartloom`: runs RV64GC Linux programs from the command line.
//!
//! [`flags`] is what can be said, [`run`] and [`dump`] are what is done. Exit
//! statuses are documented in the help, which `flags` holds.

#![deny(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use vm_runtime::{LoadError, syscall_table, syscall_table_markdown};

mod dump;
mod flags;
mod run;

use flags::{Flags, STATUS_OWN_ERROR, Verb};

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(message) => {
            // Help and version come this way too, and are no errors. Where the
            // message cannot be written, its status is what is left.
            let _ = message.print();
            let failed = message.exit_code() != 0;
            return ExitCode::from(if failed { STATUS_OWN_ERROR } else { 0 });
        }
    };
    let done = match flags.verb {
        Verb::Run(args) => run::run(args),
        Verb::Dump(args) => printed(dump::dump(&args)),
        Verb::Syscalls { markdown } => printed(print_syscalls(markdown)),
        Verb::Completions { shell } => printed(print_completions(shell)),
    };
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

/// Whoever closes the pipe has read enough: that is no error.
fn printed(done: anyhow::Result<()>) -> anyhow::Result<u8> {
    match done {
        Err(error)
            if error.downcast_ref::<io::Error>().map(io::Error::kind)
                == Some(io::ErrorKind::BrokenPipe) =>
        {
            Ok(0)
        }
        done => done.map(|()| 0),
    }
}

fn print_syscalls(markdown: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if markdown {
        out.write_all(syscall_table_markdown().as_bytes())?;
        return Ok(());
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
    Ok(())
}

fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "hartloom", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}
