//! The command with operands that are wrong: a message that names what is
//! wrong, the documented status, and never a panic.

#![cfg(feature = "cli")]

mod common;

use std::process::{Command, Output};

use common::{TempDir, tiny_elf};

fn hartloom(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hartloom"))
        .args(args)
        .output()
        .unwrap()
}

/// Fails with `status`, and with a message that has all of `parts`.
#[track_caller]
fn refused(args: &[&str], status: i32, parts: &[&str]) {
    let output = hartloom(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for part in parts {
        assert!(said.contains(part), "{args:?} should say {part:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(said.trim_end().lines().count() <= 12, "{said}");
}

#[test]
fn programs_that_cannot_run_are_named_with_the_reason() {
    let dir = TempDir::new("bad-programs");
    let file = |name: &str, contents: &[u8]| {
        let path = dir.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let missing = dir.path("missing");
    refused(&["run", &missing], 127, &[&missing, "no such file"]);
    refused(&["run", ""], 127, &["\"\": no such file"]);
    let inside_a_file = format!("{}/x", file("plain", b"x"));
    refused(&["run", &inside_a_file], 126, &[&inside_a_file]);
    let directory = dir.path("");
    refused(&["run", &directory], 126, &[&directory, "a directory"]);
    refused(&["run", "/dev/zero"], 126, &["/dev/zero", "special file"]);
    let empty = file("empty", b"");
    refused(&["run", &empty], 126, &[&empty, "the file is empty"]);
    let script = file("script", b"#!/bin/sh\necho hi\n");
    refused(&["run", &script], 126, &[&script, "script"]);
    let elf = tiny_elf();
    for cut in [1, 3, 4, 20, 63, 64, 100, 119] {
        let truncated = file("truncated", &elf[..cut]);
        refused(&["run", &truncated], 126, &[&truncated, "truncated"]);
    }
    let host = std::env::current_exe().unwrap();
    let host = host.to_str().unwrap();
    refused(&["run", host], 126, &[host, "x86-64", "243"]);
    refused(&["dump", host], 126, &[host, "x86-64"]);
    refused(&["dump", &missing], 127, &[&missing]);
    // Root may read everything, so this says nothing there.
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        let secret = file("secret", &elf);
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
        refused(&["run", &secret], 126, &[&secret, "ermission", "read it"]);
    }
}

#[test]
fn flags_that_are_wrong_are_named() {
    refused(&["run", "--bogus", "x"], 125, &["--bogus"]);
    refused(&["run"], 125, &["PROG"]);
    assert_eq!(hartloom(&[]).status.code(), Some(125), "prints the help");
    refused(&["frobnicate"], 125, &["frobnicate"]);
    for size in [
        "0",
        "0M",
        "garbage",
        "-1",
        "1.5G",
        "5G",
        "",
        "99999999999999999999",
    ] {
        refused(
            &["run", &format!("--memory={size}"), "x"],
            125,
            &["--memory"],
        );
    }
    refused(
        &["run", "--memory", "-1", "x"],
        125,
        &["invalid value '-1'", "64M"],
    );
    refused(
        &["dump", "x", "--count", "-1"],
        125,
        &["invalid value '-1'"],
    );
    refused(&["dump", "x", "--count", "0"], 125, &["invalid value '0'"]);
    refused(&["dump", "x", "--addr", "-1"], 125, &["invalid value '-1'"]);
    refused(&["run", "--engine", "warp", "x"], 125, &["warp", "interp"]);
    refused(&["run", "--stats=xml", "x"], 125, &["xml", "json"]);
    refused(
        &["run", "--env", "novalue", "x"],
        125,
        &["novalue", "NAME=VALUE"],
    );
    refused(&["completions", "csh"], 125, &["csh", "bash"]);
    refused(&["dump", "x", "--addr", "zz"], 125, &["zz"]);
}

#[test]
fn too_little_memory_is_an_error_that_says_how_much_there_is() {
    let dir = TempDir::new("memory");
    let path = dir.path("tiny");
    std::fs::write(&path, tiny_elf()).unwrap();
    refused(
        &["run", "--memory", "1K", &path],
        125,
        &["--memory", "1024"],
    );
    refused(&["run", "--memory", "16K", &path], 125, &["--memory"]);
    // The message of the error below is in that of the one above.
    let output = hartloom(&["run", "--memory", "1K", &path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("exceed").count(), 1, "{said}");
}

/// What is printed and lost is an error; what nobody wants to read is none.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let dir = TempDir::new("output");
    let path = dir.path("tiny");
    std::fs::write(&path, tiny_elf()).unwrap();
    for args in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["syscalls"],
        &["syscalls", "--markdown"],
        &["completions", "bash"],
        &["dump", &path],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_hartloom"))
            .args(args)
            .stdout(full.unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{args:?}: {said}");
        assert!(said.contains("standard output"), "{args:?}: {said}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_hartloom"))
            .args(args)
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(said.is_empty(), "{args:?}: {said}");
    }
}

#[test]
fn an_engine_runs_the_smallest_program() {
    let dir = TempDir::new("tiny");
    let path = dir.path("tiny");
    // All registers are 0 at the start: system call 0, which is unknown; then
    // the zeros behind it are no instruction.
    std::fs::write(&path, tiny_elf()).unwrap();
    let output = hartloom(&["run", "--strace", "--stats=json", &path]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(132), "{said}");
    let mut lines = said.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("syscall_0(") && first.ends_with("ENOSYS (not supported by hartloom)")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .contains("SIGILL: illegal instruction")
    );
    let stats: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(stats["format"], "hartloom-run-stats.v1");
    assert_eq!(stats["exit_status"], 132);
    assert_eq!(stats["syscalls_unknown"], 1);
    assert_eq!(lines.next(), None);
}

#[test]
fn help_says_what_statuses_mean_and_lists_are_printed() {
    let help = String::from_utf8(hartloom(&["--help"]).stdout).unwrap();
    for part in ["Examples:", "126", "127", "128+N", "run", "dump"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(hartloom(&["--help"]).status.code(), Some(0));
    assert_eq!(hartloom(&["--version"]).status.code(), Some(0));
    let table = String::from_utf8(hartloom(&["syscalls"]).stdout).unwrap();
    assert!(table.contains("  64  write "), "{table}");
    let page = String::from_utf8(hartloom(&["syscalls", "--markdown"]).stdout).unwrap();
    assert_eq!(page, vm_runtime::syscall_table_markdown());
    for shell in ["bash", "zsh", "fish"] {
        let script = hartloom(&["completions", shell]).stdout;
        assert!(
            String::from_utf8(script).unwrap().contains("hartloom"),
            "{shell}"
        );
    }
}

#[test]
fn dump_shows_the_instructions_asked_for() {
    let dir = TempDir::new("dump");
    let path = dir.path("tiny");
    std::fs::write(&path, tiny_elf()).unwrap();
    let output = hartloom(&["dump", &path, "--addr", "0x10078", "--count", "1"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "   10078:  00000073   ecall\n"
    );
    let whole = hartloom(&["dump", &path]);
    assert!(
        String::from_utf8(whole.stdout)
            .unwrap()
            .contains("   10078:  00000073   ecall\n")
    );
    refused(&["dump", &path, "--addr", "0x10079"], 125, &["odd"]);
    refused(
        &["dump", &path, "--addr", "0x90000000"],
        125,
        &["nothing is executable"],
    );
    refused(
        &["dump", &path, "--function", "main"],
        125,
        &["main", "stripped", "--addr 0x10000"],
    );
    // As dump prints it: a decimal number to us.
    refused(
        &["dump", &path, "--addr", "10078"],
        125,
        &["executable at 0x275e", "did you mean 0x10078?"],
    );
}

/// They named a function, and no program of this repository has names.
#[test]
fn the_examples_of_dump_work_on_the_programs_here() {
    let help = String::from_utf8(hartloom(&["dump", "--help"]).stdout).unwrap();
    let mut n_examples = 0;
    for line in help.lines() {
        let Some(example) = line.trim().strip_prefix("hartloom dump benches/") else {
            continue;
        };
        // What the example shows stands behind two spaces.
        let words = example.split("  ").next().unwrap();
        let program = format!("../../benches/{words}");
        let mut args = vec!["dump"];
        args.extend(program.split(' '));
        let output = hartloom(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
        n_examples += 1;
    }
    assert_eq!(n_examples, 3, "{help}");
}

#[test]
fn the_page_of_system_calls_is_what_the_command_prints() {
    let printed = hartloom(&["syscalls", "--markdown"]).stdout;
    let page = std::fs::read("../../docs/syscalls.md").unwrap();
    assert!(
        page == printed,
        "docs/syscalls.md is not what the table says: run `cargo xtask codegen`"
    );
}

/// A guest's 4 GiB fit, the compiler's arena does not: an error, since
/// interpreting instead would be many times slower without a word.
#[test]
fn too_little_address_space_for_code_is_an_error_and_no_slow_run() {
    let guest = "../../benches/guests/bin/hello.elf";
    for (engine, expected) in [("jit", 125), ("hybrid", 125), ("interp", 0)] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 9500000 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_hartloom"))
            .args(["run", "--engine", engine, guest, "1"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(expected), "{engine}: {output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            message.contains("compiled code"),
            expected == 125,
            "{message}"
        );
    }
}
