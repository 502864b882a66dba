//! The command where its operands are wrong or its output cannot be written: a
//! message, the documented status, and never a panic.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

#[path = "../src/scripts.rs"]
mod scripts;

/// The program of this tree, as in `crates/vm-runtime/tests/guest_programs.rs`.
fn program() -> Command {
    Command::new(std::env::var_os("CARGO_BIN_EXE_xtask").unwrap())
}

/// Runs a verb with this standard output.
fn xtask(args: &[&str], stdout: impl Into<Stdio>) -> Output {
    program()
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
        "bench/no-run-of-this-name",
    );
    check(&["report", "--format", "xml"], Stdio::null(), 3, "xml");
}

/// Before anything is built: no wrong operand costs minutes.
#[test]
fn what_a_gate_or_a_baseline_needs_is_asked_for_first() {
    for (args, part) in [
        (
            &["gate", "--base", "no-such-revision"][..],
            "no-such-revision",
        ),
        (&["gate", "--seed", "x"], "--seed"),
        (&["gate", "--calibrate", "--base", "HEAD"], "--base"),
        (&["gate", "--calibrate", "--aa", "0"], "--aa"),
        (&["gate", "--history", "--quick"], "--history"),
        (
            &["bench", "--quick", "--baseline", "no-such-run"],
            "bench --quick --save no-such-run",
        ),
        (&["bench", "--save", "a/b"], "--save"),
        (&["bench", "--save", "../a"], "a name has letters"),
        (&["coverage", "--stored", "--html"], "--stored"),
    ] {
        check(args, Stdio::null(), 3, part);
    }
}

/// The program, run by cargo for the package in `package` or, without one, by
/// hand, in the directory `current`.
fn from_elsewhere(package: Option<&Path>, current: &Path) -> Output {
    let mut command = program();
    command.args(["report", "none"]).current_dir(current);
    command.env_remove("CARGO_MANIFEST_DIR");
    command.env_remove("CARGO_TARGET_DIR");
    command.envs(package.map(|package| ("CARGO_MANIFEST_DIR", package)));
    command.stdin(Stdio::null()).output().unwrap()
}

/// A tree with a package of this name.
fn tree(dir: &str, package: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("xtask-{}-{dir}", std::process::id()));
    fs::create_dir_all(root.join("src")).unwrap();
    fs::write(root.join("src/lib.rs"), "").unwrap();
    let manifest = format!("[package]\nname = \"{package}\"\nversion = \"1.0.0\"\n[workspace]\n");
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    root
}

/// The place of the build was baked in: a copied checkout worked on the original.
#[test]
fn a_checkout_that_moved_works_on_itself() {
    let (moved, foreign) = (tree("moved", "xtask"), tree("foreign", "other"));
    let check = |package, current: &Path, expected: &str| {
        let output = from_elsewhere(package, current);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(expected), "{expected:?}: {said}");
    };
    let inside = moved.join("target/bench/none");
    let inside = inside.to_str().unwrap();
    check(Some(&moved), Path::new("/"), inside);
    check(None, &moved.join("src"), inside);
    check(None, Path::new("/"), "inside a checkout");
    check(None, &foreign, "another workspace");
    for root in [moved, foreign] {
        fs::remove_dir_all(root).unwrap();
    }
}

/// Without cargo it said to run it inside a checkout, where it was.
#[test]
fn tools_that_are_missing_are_named() {
    for (args, cargo, part) in [
        (&["report"][..], None, "cargo is not in PATH"),
        (&["guests"], std::env::var_os("CARGO"), "apt-get install"),
    ] {
        let mut command = program();
        command
            .args(args)
            .env("PATH", "/nonexistent")
            .env_remove("CARGO");
        command.envs(cargo.map(|path| ("CARGO", path)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
}

/// Answers as `vm-bench-worker gate` does.
const WORKER: &str = r#"#!/bin/sh
while read -r verb n; do case $verb in
list) echo '{"benchmarks":[{"id":"control/sum","kind":"compute","work":1},{"id":"a/b","kind":"compute","work":1}]}' ;;
prepare) echo '"ready"' ;;
run) echo "{\"ran\":{\"ns\":$((n * 1000)),\"checksum\":7}}" ;;
counters) echo '{"counters":[]}' ;;
quit) exit 0 ;;
esac; done
"#;

/// In the place of cargo: "builds" the worker, and hands on all else.
const CARGO: &str = r#"#!/bin/sh
[ "$1" = rustc ] || exec "$REAL_CARGO" "$@"
while [ $# -gt 0 ]; do [ "$1" = --target-dir ] && dir=$2; shift; done
mkdir -p "$dir/gate" && cp worker "$dir/gate/vm-bench-worker"
"#;

/// A calibration in that tree, with those scripts.
fn calibration(root: &Path) -> Command {
    let mut command = program();
    command
        .args(["gate", "--calibrate", "--quick"])
        .current_dir(root)
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_MANIFEST_DIR", root)
        .env("REAL_CARGO", std::env::var_os("CARGO").unwrap())
        .env("CARGO", root.join("cargo"))
        .stdin(Stdio::null());
    command
}

/// It was read when both sides had been built, minutes later.
#[test]
fn damaged_rates_are_told_before_anything_is_built() {
    let root = tree("damaged", "xtask");
    scripts::write(&root.join("cargo"), CARGO);
    fs::create_dir_all(root.join("target/gate")).unwrap();
    fs::write(root.join("target/gate/calibration.json"), b"\xff{").unwrap();
    let output = calibration(&root).arg("--add").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("calibration.json is damaged"), "{said}");
    assert!(!said.contains("building"), "{said}");
    fs::remove_dir_all(root).unwrap();
}

/// A terminal signals the whole group, and `timeout` both the process and its group:
/// the second signal ended the gate at once, and its workers wrote "Broken pipe".
#[test]
fn ctrl_c_to_the_whole_group_keeps_what_a_calibration_has() {
    let root = tree("ctrl-c", "xtask");
    scripts::write(&root.join("worker"), WORKER);
    scripts::write(&root.join("cargo"), CARGO);
    let mut command = calibration(&root);
    command
        .args(["--aa", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().unwrap();
    let group = Pid::from_raw(child.id().cast_signed());
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.starts_with("[1/100000") {
            for _ in 0..5 {
                killpg(group, Signal::SIGINT).unwrap();
            }
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; the rest: "), "{said}");
    assert!(!said.contains("Broken pipe"), "{said}");
    assert!(root.join("target/gate/calibration.json").exists(), "{said}");
    fs::remove_dir_all(root).unwrap();
}
