//! `cargo xtask test`: every test, and what they covered, in a few lines.
//!
//! Tests speak to this verb through lines on their standard output:
//!
//! ```text
//!  filetests: 61 files, 240 cases, on 3 engines: interp, jit, hybrid
//!  compared: guest programs with qemu-riscv64 (26)
//!  skipped: objdump comparison: riscv64-linux-gnu-objdump is not installed
//! ```
//! The last two name one of the [`PEERS`]. libtest shows the output of passing tests only on request and in a section of
//! its own. Of that section only such lines are shown; all else passes through.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::workspace::{Outcome, Workspace, print_line};

/// Whom our results are compared with, where they are installed.
const PEERS: &[&str] = &[
    "qemu-riscv64",
    "riscv64-linux-gnu-objdump",
    "riscv64-linux-gnu-gcc",
];

/// Runs `cargo test --workspace`, then says how many tests passed, how many
/// corpus files ran on how many engines, and which comparisons with installed
/// tools ran or were skipped. The last line is `N passed, N failed`.
///
/// Needs Rust and its linker, nothing else.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                     everything
  cargo xtask test -- --package vm-core    arguments for cargo test
  cargo xtask test -- filetests        tests with this in their name
  RUN_SLOW_TESTS=1 cargo xtask test    with the long variants")]
pub(crate) struct Args {
    /// Passed on to cargo test.
    #[arg(last = true)]
    cargo_args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let mut command = workspace.cargo();
    command.args(["test", "--no-fail-fast"]);
    let picks_packages = args
        .cargo_args
        .iter()
        .any(|arg| arg == "-p" || arg.starts_with("--package"));
    if !picks_packages {
        command.arg("--workspace");
    }
    command
        .args(&args.cargo_args)
        .args(["--", "--show-output"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = child
        .stdout
        .take()
        .context("cargo test has no standard output")?;
    let mut summary = Summary::default();
    // Tests run on where nobody can read of them; at the end that is an error.
    let mut printed = Ok(());
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read the output of cargo test")?;
        // Tests of hostile input may print anything.
        let line = String::from_utf8_lossy(&line);
        if summary.take(&line) {
            printed = printed.and_then(|()| print_line(&line));
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    summary.end(status.success(), args.cargo_args.is_empty());
    printed?;
    print_line(format_args!("\n{summary}"))?;
    Ok(Outcome::from(summary.n_failed == 0))
}

/// What the output said so far.
#[derive(Debug, Default)]
struct Summary {
    n_passed: u64,
    n_failed: u64,
    n_ignored: u64,
    n_targets: u64,
    corpus: Vec<String>,
    compared: BTreeSet<String>,
    skipped: BTreeSet<String>,
    is_in_shown_output: bool,
    note: Option<String>,
}

impl Summary {
    /// Reads a line; whether it is to be printed.
    fn take(&mut self, line: &str) -> bool {
        let text = line.trim();
        if let Some(counts) = text.strip_prefix("test result: ") {
            self.is_in_shown_output = false;
            self.n_targets += 1;
            self.count(counts);
            return true;
        }
        match text {
            // Passing tests' output lies between this and the next section.
            "successes:" => self.is_in_shown_output = true,
            "failures:" => self.is_in_shown_output = false,
            _ => {}
        }
        if text.starts_with("filetests: ") {
            if !self.corpus.iter().any(|known| known == text) {
                self.corpus.push(text.to_owned());
            }
        } else if let Some(what) = text.strip_prefix("compared: ") {
            self.compared.insert(what.to_owned());
        } else if let Some(what) = text.strip_prefix("skipped: ") {
            self.skipped.insert(what.to_owned());
        } else {
            return !self.is_in_shown_output;
        }
        // Repeated in the summary.
        !self.is_in_shown_output
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`
    fn count(&mut self, counts: &str) {
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.n_passed += number,
                "failed" => self.n_failed += number,
                "ignored" => self.n_ignored += number,
                _ => {}
            }
        }
    }

    /// A target that does not build, or a test process that dies, reports no
    /// failed test: it counts as one, so that the last line cannot mislead. So does
    /// a comparison of which nobody says whether it ran.
    fn end(&mut self, is_success: bool, is_everything: bool) {
        let silent = |peer: &&&str| self.comparisons(peer) == (0, 0);
        self.note = if !is_success {
            (self.n_failed == 0)
                .then(|| "a test program did not build or did not end by itself; see above".into())
        } else if is_everything {
            let silent = PEERS.iter().find(silent);
            silent.map(|peer| format!("no test says whether it compared with {peer}"))
        } else {
            None
        };
        self.n_failed += u64::from(self.note.is_some());
    }

    /// Comparisons with a peer that ran, and that did not.
    fn comparisons(&self, peer: &str) -> (usize, usize) {
        let naming = |lines: &BTreeSet<String>| lines.iter().filter(|l| l.contains(peer)).count();
        (naming(&self.compared), naming(&self.skipped))
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.corpus.is_empty() {
            writeln!(f, "filetests: did not run")?;
        }
        for line in &self.corpus {
            writeln!(f, "{line}")?;
        }
        for what in &self.compared {
            writeln!(f, "compared: {what}")?;
        }
        for what in &self.skipped {
            writeln!(f, "skipped: {what}")?;
        }
        for peer in PEERS {
            let (n_ran, n_skipped) = self.comparisons(peer);
            writeln!(
                f,
                "comparisons with {peer}: {n_ran} ran, {n_skipped} skipped"
            )?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "{} test programs", self.n_targets)?;
        write!(f, "{} passed, {} failed", self.n_passed, self.n_failed)?;
        if self.n_ignored > 0 {
            write!(f, ", {} skipped", self.n_ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, is_success: bool) -> (Summary, String) {
        let mut summary = Summary::default();
        let shown: Vec<&str> = text.lines().filter(|line| summary.take(line)).collect();
        summary.end(is_success, false);
        (summary, shown.join("\n"))
    }

    const OUTPUT: &str = "\
running 2 tests
test corpus ... ok
test objdump ... ok

successes:

---- corpus stdout ----
filetests: 61 files, 240 cases, on 3 engines: interp, jit, hybrid
chatter

---- objdump stdout ----
skipped: disassembly with riscv64-linux-gnu-objdump, which is not installed
compared: 9 guest programs with qemu-riscv64

successes:
    corpus
    objdump

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn counts_add_up_over_targets() {
        let (summary, _) = read(OUTPUT, false);
        let text = summary.to_string();
        assert!(text.ends_with("6 passed, 1 failed, 2 skipped"), "{text}");
        assert!(
            text.contains("filetests: 61 files, 240 cases, on 3 engines"),
            "{text}"
        );
        for line in [
            "skipped: disassembly with riscv64-linux-gnu-objdump, which is not installed",
            "compared: 9 guest programs with qemu-riscv64",
            "comparisons with qemu-riscv64: 1 ran, 0 skipped",
            "comparisons with riscv64-linux-gnu-objdump: 0 ran, 1 skipped",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}: {text}");
        }
    }

    #[test]
    fn output_of_passing_tests_stays_hidden_and_that_of_failing_ones_does_not() {
        let (_, shown) = read(OUTPUT, false);
        assert!(!shown.contains("chatter"), "{shown}");
        let failing = "failures:\n\n---- a stdout ----\nexpected 1, found 2\n";
        assert_eq!(read(failing, false).1, failing.trim_end());
    }

    #[test]
    fn a_build_failure_counts_as_a_failure() {
        let (summary, _) = read("", false);
        let text = summary.to_string();
        assert!(text.ends_with("\n0 passed, 1 failed"), "{text}");
        assert!(text.contains("did not build"), "{text}");
    }

    /// Tests once said `note: ` where `skipped: ` was read: nobody noticed that no
    /// comparison was counted.
    #[test]
    fn a_comparison_that_nobody_speaks_of_is_a_failure() {
        let said = "compared: 9 guest programs with qemu-riscv64\n\
            skipped: riscv64-linux-gnu-gcc is not installed\n";
        let objdump = "skipped: riscv64-linux-gnu-objdump is not installed\n";
        let check = |text: String, is_everything, n_failed| {
            let (mut summary, _) = read(&text, true);
            summary.end(true, is_everything);
            assert_eq!(summary.n_failed, n_failed, "{summary}");
        };
        check(said.to_owned(), false, 0);
        check(said.to_owned(), true, 1);
        check(format!("{said}{objdump}"), true, 0);
    }

    #[test]
    fn success_without_ignored_tests_has_the_short_form() {
        let line = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured";
        let (summary, _) = read(line, true);
        assert!(summary.to_string().ends_with("\n3 passed, 0 failed"));
    }
}
