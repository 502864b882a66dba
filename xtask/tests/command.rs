//! The command where its operands are wrong or its output cannot be written: a
//! message, the documented status, and never a panic.

use std::fs::File;
use std::process::{Command, Output, Stdio};

/// Runs a verb with this standard output.
fn xtask(args: &[&str], stdout: impl Into<Stdio>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(stdout)
        .output()
        .unwrap()
}

#[track_caller]
fn check(args: &[&str], stdout: impl Into<Stdio>, status: i32, part: &str) {
    let output = xtask(args, stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    assert!(said.contains(part), "{args:?} should say {part:?}: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
}

#[test]
fn output_on_a_full_disk_is_an_error_and_no_panic() {
    for args in [
        &["--help"][..],
        &["bench", "--help"],
        &["tidy", "--no-build"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        check(args, full, 3, "cannot write to standard output");
    }
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    for args in [&["--help"][..], &["guests", "--check"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        check(args, writer, 0, "");
    }
}

#[test]
fn wrong_operands_are_named() {
    check(&["frobnicate"], Stdio::null(), 3, "frobnicate");
    check(&["bench", "--bogus"], Stdio::null(), 3, "--bogus");
    check(&[], Stdio::null(), 3, "Usage");
    let missing = "no-run-of-this-name";
    check(
        &["report", missing],
        Stdio::null(),
        3,
        "target/bench/no-run",
    );
    check(&["report", "--format", "xml"], Stdio::null(), 3, "xml");
}
