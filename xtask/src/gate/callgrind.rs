//! Instruction counts of the measured function, by valgrind's callgrind: where the
//! CPU does not count them for us, as in most virtual machines.
//!
//! Caches are not modelled: only instructions are used, and those do not depend
//! on them. valgrind hides what it does not know of the CPU from both sides alike.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use perf_bench::gate::Instructions;

use super::talk::{Fault, Talk};
use crate::workspace::{Interrupt, version_of};

/// How to count.
pub(super) struct Callgrind {
    /// Words before the worker's path.
    prefix: Vec<OsString>,
    /// Where it may write.
    scratch: PathBuf,
    /// Runs of each side; two show whether they repeat.
    runs: u32,
}

/// Iterations of a counted run.
const ITERS: u64 = 3;
/// Under valgrind everything takes some 50 times as long.
const PATIENCE: Duration = Duration::from_secs(120);

impl Callgrind {
    /// `None` without valgrind. What is missing besides is noted.
    pub(super) fn find(scratch: &Path, runs: u32, notes: &mut Vec<String>) -> Result<Option<Self>> {
        if version_of("valgrind")?.is_none() {
            notes.push("no valgrind: only the CPU may count instructions".to_owned());
            return Ok(None);
        }
        let mut prefix: Vec<OsString> = Vec::new();
        // Not every container may switch it off.
        let may = Command::new("setarch").args(["-R", "true"]).output();
        if may.is_ok_and(|output| output.status.success()) {
            prefix.extend(["setarch", "-R"].map(OsString::from));
        } else {
            notes.push("addresses stayed random while instructions were counted".to_owned());
        }
        prefix.extend(
            [
                "valgrind",
                "--tool=callgrind",
                "--quiet",
                "--cache-sim=no",
                "--collect-atstart=no",
                "--toggle-collect=*gate_iterations*",
            ]
            .map(OsString::from),
        );
        Ok(Some(Self {
            prefix,
            scratch: scratch.to_owned(),
            runs,
        }))
    }

    /// Counts both sides, base first.
    pub(super) fn compare(
        &self,
        id: &str,
        programs: &[PathBuf; 2],
        interrupt: &Interrupt,
    ) -> Result<Instructions, Fault> {
        compare_counts(programs, self.runs, |program| {
            self.count(id, program, interrupt)
        })
    }

    fn count(&self, id: &str, program: &Path, interrupt: &Interrupt) -> Result<u64, Fault> {
        let file = self.scratch.join("callgrind.out");
        let [first, rest @ ..] = &self.prefix[..] else {
            unreachable!("it begins with a program");
        };
        let mut out = OsString::from("--callgrind-out-file=");
        out.push(&file);
        let mut command = Command::new(first);
        command.args(rest).arg(out).arg(program).arg("gate");
        let mut talk = Talk::start(command, None, PATIENCE, interrupt)?;
        talk.prepare(id)?;
        talk.run(ITERS)?;
        talk.quit()?;
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Fault::Worker(format!("no counts of callgrind: {error}")))?;
        let _ = std::fs::remove_file(&file);
        total_of(&text).ok_or_else(|| Fault::Worker("callgrind counted nothing of it".to_owned()))
    }
}

/// Counts both sides so often each, base first.
pub(super) fn compare_counts(
    programs: &[PathBuf; 2],
    runs: u32,
    count: impl Fn(&Path) -> Result<u64, Fault>,
) -> Result<Instructions, Fault> {
    let count = |program: &PathBuf| -> Result<Vec<u64>, Fault> {
        (0..runs).map(|_| count(program)).collect()
    };
    Ok(Instructions {
        base: count(&programs[0])?,
        change: count(&programs[1])?,
        limit: 0.0,
    })
}

/// The sum at the end of callgrind's file.
fn total_of(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"))?;
    let total = line.trim().parse().ok()?;
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_at_the_end_and_not_zero() {
        let file = "version: 1\nevents: Ir\nsummary: 7\n\nfn=(1) a\n1 7\n\ntotals: 7\n";
        assert_eq!(total_of(file), Some(7));
        assert_eq!(total_of("events: Ir\ntotals: 0\n"), None);
        assert_eq!(total_of("half a file"), None);
    }
}
