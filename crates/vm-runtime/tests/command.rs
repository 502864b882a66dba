//! The command with operands that are wrong: a message that names what is
//! wrong, the documented status, and never a panic.

#![cfg(feature = "cli")]

mod common;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use vm_runtime::EngineKind;

use common::{TempDir, elf_of, tiny_elf};

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
    // It was shown with zeros behind it that the file does not have.
    let one = file("one", b"x");
    refused(&["run", &one], 126, &[&one, "begins with 78 and not 7f"]);
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
        &["invalid value '-1'", "--count is", "from 1 to"],
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
    // It did not say whose stack.
    let named = format!("hartloom: {path}: mapping the stack: ");
    refused(
        &["run", "--memory", "16K", &path],
        125,
        &[&named, "--memory"],
    );
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

/// Rust's library opens `/dev/null` for a file that is closed, and takes writing
/// to one that is open for reading only for done: nothing was said of either.
#[test]
fn printing_to_a_file_that_takes_nothing_is_an_error() {
    let dir = TempDir::new("closed-output");
    let path = dir.path("tiny");
    std::fs::write(&path, tiny_elf()).unwrap();
    for verb in [
        &["--help"][..],
        &["run", "--help"],
        &["syscalls"],
        &["completions", "zsh"],
        &["dump", &path],
    ] {
        for redirection in [">&-", "1</dev/null"] {
            let output = Command::new("sh")
                .args(["-c", &format!("exec \"$@\" {redirection}"), "sh"])
                .arg(env!("CARGO_BIN_EXE_hartloom"))
                .args(verb)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let status = output.status.code();
            assert_eq!(status, Some(125), "{verb:?} {redirection}: {said}");
            assert!(said.contains("not open for writing"), "{verb:?}: {said}");
        }
    }
}

/// What `--stats` and `--strace` could not say was lost without a word. The
/// guest's own status is only replaced where it would say that all is well.
#[test]
fn stats_and_traces_that_are_lost_show_in_the_status() {
    let dir = TempDir::new("lost-stats");
    let path = dir.path("guest");
    let run = |flag: &str, status: u32, stderr: Stdio| {
        let source = format!("li a7, 172; ecall; li a7, 93; li a0, {status}; ecall");
        std::fs::write(&path, elf_of(&source)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hartloom"));
        command.args(["run", flag, &path]).stderr(stderr);
        command.status().unwrap().code()
    };
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let read_only = || File::open("/dev/null").unwrap();
    let broken = || std::io::pipe().unwrap().1;
    for flag in ["--stats", "--stats=json", "--strace"] {
        assert_eq!(run(flag, 0, full().into()), Some(125), "{flag}");
        assert_eq!(run(flag, 3, full().into()), Some(3), "{flag}");
        // Whoever closes the pipe has seen enough.
        assert_eq!(run(flag, 0, broken().into()), Some(0), "{flag}");
        // Here nothing runs, so no status is lost.
        assert_eq!(run(flag, 3, read_only().into()), Some(125), "{flag}");
        assert_eq!(run(flag, 0, Stdio::null()), Some(0), "{flag}");
    }
    assert_eq!(
        run_from_shell(&dir, "", "li a7, 93; ecall", "2>&-"),
        Some(0)
    );
    let script = "exec \"$0\" run --stats \"$1\" 2>&-";
    let closed = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_hartloom"), &path])
        .status();
    assert_eq!(closed.unwrap().code(), Some(125));
}

/// They went to the terminal as they are, and could end lines and command it.
#[test]
fn names_of_files_are_escaped_in_messages() {
    let dir = TempDir::new("names");
    for (name, shown) in [
        (&b"a\nb\x1b[31m"[..], r"a\nb\u{1b}[31m"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("ärger 名".as_bytes(), "ärger 名"),
    ] {
        let path = [dir.path("").as_bytes(), name].concat();
        let path = OsStr::from_bytes(&path);
        let check = |verb: &str, flags: &[&str], part: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_hartloom"));
            let output = command.arg(verb).args(flags).arg(path).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.starts_with("hartloom: "), "{said:?}");
            assert!(said.contains(&format!("{shown}: {part}")), "{said:?}");
            assert_eq!(said.matches(char::is_control).count(), 1, "{said:?}");
        };
        let _ = std::fs::remove_file(path);
        check("run", &[], "no such file");
        check("dump", &[], "no such file");
        std::fs::write(path, "x").unwrap();
        check("run", &[], "not an ELF program");
        // It ends by a signal, with a message of another place.
        std::fs::write(path, elf_of("ebreak")).unwrap();
        check("run", &[], "SIGTRAP");
        check("dump", &["--addr", "0x10001"], "--addr");
        check("dump", &["--addr", "0x90000000"], "nothing is executable");
        check("dump", &["--clif"], "--clif");
        check("dump", &["--function", "f"], "no function is called");
    }
}

/// A panic or abort of ours says nothing of the limit. What the host's loader
/// and kernel refuse before any code of ours runs is theirs.
#[test]
fn limits_too_small_to_begin_with_are_refused_with_a_message() {
    const COUNTED: &str = "LLVM_PROFILE_FILE";
    let run = |limit: &str| {
        let output = Command::new("sh")
            .args(["-c", &format!("{limit} && exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_hartloom"))
            .args(["run", "../../benches/guests/bin/hello.elf", "1"])
            // It stands on the stack. Where lines are counted, they are counted
            // where this says.
            .env_clear()
            .envs(std::env::var_os(COUNTED).map(|file| (COUNTED, file)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, said)
    };
    for kib in [24, 32, 64, 127] {
        let (status, said) = run(&format!("ulimit -s {kib}"));
        assert_eq!(status.code(), Some(125), "{kib}: {said}");
        assert!(said.contains("ulimit -s"), "{kib}: {said}");
    }
    let mut n_early = 0;
    for kib in (4_000..32_000).step_by(250) {
        let (status, said) = run(&format!("ulimit -v {kib}"));
        match status.code() {
            Some(125) => assert!(said.contains("ulimit -v"), "{kib}: {said}"),
            Some(127) => assert!(said.contains("loading shared libraries"), "{kib}: {said}"),
            _ => assert_eq!(status.signal(), Some(11), "{kib}: {status} {said}"),
        }
        n_early += u32::from(said.contains("leave less than 2 MiB"));
    }
    assert!(n_early > 0, "no limit was met before main");
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

/// Runs a program from a shell that does something first; gives the status.
fn run_from_shell(dir: &TempDir, before: &str, source: &str, after: &str) -> Option<i32> {
    let (status, said) = run_and_said(dir, before, source, after);
    assert!(said.is_empty(), "{said}");
    status
}

/// The same, with what is said on standard error.
fn run_and_said(dir: &TempDir, before: &str, source: &str, after: &str) -> (Option<i32>, String) {
    let path = dir.path("guest");
    std::fs::write(&path, elf_of(source)).unwrap();
    let script = format!("{before} exec \"$@\" {after}");
    let output = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_hartloom"), "run"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Rust's runtime ignores SIGPIPE for itself, whatever the parent did.
#[test]
fn a_program_finds_those_signals_ignored_that_the_parent_ignored() {
    // rt_sigaction(signal, NULL, sp - 64, 8), then exit with what is there.
    let asks = |signal: u32| {
        format!(
            "li a7, 134; li a0, {signal}; li a1, 0; addi a2, sp, -64; li a3, 8; ecall
             ld a0, -64(sp); li a7, 93; ecall"
        )
    };
    let dir = TempDir::new("inherited-signals");
    for (before, signal, expected) in [
        ("", 13, 0),
        ("trap '' PIPE;", 13, 1),
        ("trap '' PIPE;", 15, 0),
        ("trap '' TERM HUP;", 15, 1),
        ("trap '' TERM HUP;", 13, 0),
    ] {
        let status = run_from_shell(&dir, before, &asks(signal), "");
        assert_eq!(status, Some(expected), "signal {signal} after {before:?}");
    }
    // And a write to a pipe without readers then answers EPIPE.
    let writes = "
        li a7, 59; addi a0, sp, -64; li a1, 0; ecall
        lw a0, -64(sp); li a7, 57; ecall
        lw a0, -60(sp); mv a1, sp; li a2, 1; li a7, 64; ecall
        neg a0, a0; li a7, 93; ecall";
    assert_eq!(run_from_shell(&dir, "trap '' PIPE;", writes, ""), Some(32));
    assert_eq!(run_from_shell(&dir, "", writes, ""), Some(128 + 13));
}

/// Rust's runtime ignores it for itself, and so nothing happened.
#[test]
fn a_sigpipe_from_outside_does_what_the_program_wants() {
    // sigaction(SIGPIPE, action), write a byte, read one, exit with how many.
    let source = |handler: u32| {
        format!(
            "li t0, {handler}; sd t0, -64(sp); sd zero, -56(sp); sd zero, -48(sp)
             li a7, 134; li a0, 13; addi a1, sp, -64; li a2, 0; li a3, 8; ecall
             li a7, 64; li a0, 1; mv a1, sp; li a2, 1; ecall
             li a7, 63; li a0, 0; addi a1, sp, -64; li a2, 1; ecall
             li a7, 93; ecall"
        )
    };
    let dir = TempDir::new("sigpipe");
    let path = dir.path("guest");
    for (before, handler, status, message) in [
        ("", 0, 128 + 13, ""),
        ("", 1, 0, ""),
        ("", 0x1234, 128 + 13, "handler"),
        ("trap '' PIPE;", 0, 128 + 13, ""),
        ("trap '' PIPE;", 1, 0, ""),
    ] {
        // What the parent ignores stays so for us, whatever the guest sets.
        let status = if before.is_empty() { status } else { 0 };
        for stats in [None, Some("--stats=json")] {
            std::fs::write(&path, elf_of(&source(handler))).unwrap();
            let mut child = Command::new("sh")
                .args(["-c", &format!("{before} exec \"$@\""), "sh"])
                .args([env!("CARGO_BIN_EXE_hartloom"), "run"])
                .args(stats)
                .arg(&path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // It waits for input from then on.
            let out = child.stdout.as_mut().unwrap();
            out.read_exact(&mut [0]).unwrap();
            let id = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(id, rustix::process::Signal::PIPE).unwrap();
            // Its end is what lets the others end.
            let input = child.stdin.take().filter(|_| status != 0);
            let output = child.wait_with_output().unwrap();
            drop(input);
            let said = String::from_utf8_lossy(&output.stderr);
            let case = format!("{before:?} {handler} {stats:?}: {said}");
            assert_eq!(output.status.code(), Some(status), "{case}");
            assert!(said.contains(message), "{case}");
            assert!(
                stats.is_some() || !message.is_empty() || said.is_empty(),
                "{case}"
            );
        }
    }
}

/// Ignored or blocked, a file that would become too large is an error to the
/// program; otherwise it ends by the signal.
#[test]
fn a_limit_of_file_sizes_is_a_signal_to_the_program_and_not_to_its_host() {
    const EFBIG: i32 = 27;
    const SIGXFSZ: i32 = 25;
    // rt_sigaction(25, {handler, 0, 0}, NULL, 8); then the call, and its error
    // is the status.
    let source = |handler: u32, call: &str| {
        format!(
            "li t0, {handler}; sd t0, -64(sp); sd zero, -56(sp); sd zero, -48(sp)
             li a7, 134; li a0, 25; addi a1, sp, -64; li a2, 0; li a3, 8; ecall
             {call}; ecall; neg a0, a0; li a7, 93; ecall"
        )
    };
    let dir = TempDir::new("sigxfsz");
    let after = format!("> {}", dir.path("out"));
    for call in [
        "li a7, 64; li a0, 1; mv a1, sp; li a2, 1",
        "li a7, 46; li a0, 1; li a1, 0x100000",
    ] {
        for (before, handler, expected) in [
            ("", 0, 128 + SIGXFSZ),
            ("", 1, EFBIG),
            ("trap '' XFSZ;", 1, EFBIG),
        ] {
            // Compiled code needs a file of its own.
            let interp = "set -- \"$1\" run --engine interp \"$3\"";
            let before = format!("{before} ulimit -f 0; {interp};");
            let (status, said) = run_and_said(&dir, &before, &source(handler, call), &after);
            assert_eq!(status, Some(expected), "{before} {handler}: {call}: {said}");
            assert_eq!(said.contains("SIGXFSZ"), expected != EFBIG, "{said}");
        }
    }
}

/// Rust's runtime opens `/dev/null` in the place of a closed standard file.
#[test]
fn standard_files_that_are_closed_are_closed_for_the_program() {
    const EBADF: i32 = 9;
    // fcntl(fd, F_GETFD)
    let asks = |fd: u32| {
        format!(
            "li a7, 25; li a0, {fd}; li a1, 1; ecall
             neg a0, a0; li a7, 93; ecall"
        )
    };
    let dir = TempDir::new("inherited-files");
    for (after, closed) in [("", 9), ("<&-", 0), (">&-", 1), ("2>&-", 2)] {
        for fd in 0..3 {
            let status = run_from_shell(&dir, "", &asks(fd), after);
            let expected = if fd == closed { EBADF } else { 0 };
            assert_eq!(status, Some(expected), "{fd} with {after:?}");
        }
    }
}

#[test]
fn a_signal_that_has_a_handler_ends_the_program_with_a_message() {
    let dir = TempDir::new("handler");
    let path = dir.path("guest");
    // rt_sigaction(signal, {0x1234, 0, 0}, NULL, 8), then it comes.
    let handles = |signal: u32, then: &str| {
        format!(
            "li t0, 0x1234; sd t0, -64(sp); sd zero, -56(sp); sd zero, -48(sp)
             li a7, 134; li a0, {signal}; addi a1, sp, -64; li a2, 0; li a3, 8; ecall
             li a7, 172; ecall
             li a1, {signal}; {then}"
        )
    };
    let kill = "li a7, 129; ecall";
    for (signal, then) in [
        (1, kill),
        (6, kill),
        (10, kill),
        (14, kill),
        (15, kill),
        (17, kill),
        (34, kill),
        (11, "ld a0, 0(zero)"),
        (5, "ebreak"),
    ] {
        std::fs::write(&path, elf_of(&handles(signal, then))).unwrap();
        let output = hartloom(&["run", &path]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(128 + signal as i32), "{said}");
        let expected =
            format!("signal {signal} has a handler, which hartloom does not run yet (at 0x1234)");
        assert!(said.starts_with("hartloom: "), "{said}");
        assert!(said.trim_end().ends_with(&expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// The guest's files stand beside those of hartloom, which opens one more to
/// look at a path.
#[test]
fn a_program_can_open_as_many_files_as_its_limit_says() {
    const EMFILE: i32 = 24;
    // Opens until it fails; exits with why, or with 1 after another count.
    let source = "
        li s0, 3
     1: li a7, 56; li a0, -100; la a1, path; li a2, 0; ecall
        bltz a0, 2f; addi s0, s0, 1; j 1b
     2: neg a0, a0; li t0, 1024; beq s0, t0, 3f; li a0, 1
     3: li a7, 93; ecall
     path: .dword 0x6c756e2f7665642f, 0x6c # /dev/null";
    let dir = TempDir::new("open-files");
    let status = run_from_shell(&dir, "ulimit -S -n 300;", source, "");
    assert_eq!(status, Some(EMFILE));
}

/// A quarter of the memory; what the program asks for is what there is.
#[test]
fn the_stack_is_as_large_as_its_limit_says_and_small_memory_is_blamed() {
    let dir = TempDir::new("stack");
    let path = dir.path("guest");
    // prlimit64(0, RLIMIT_STACK, NULL, sp - 64); touch the last word of that
    // many bytes below the top; then the one below, which ends it.
    let source = "
        li a7, 261; li a0, 0; li a1, 3; li a2, 0; addi a3, sp, -64; ecall
        ld t0, -64(sp); li t1, 0xfff00000; sub t1, t1, t0
        sd zero, 0(t1); sd zero, -8(t1)";
    std::fs::write(&path, elf_of(source)).unwrap();
    for (memory, bytes, small) in [("1M", 256 << 10, true), ("64M", 8 << 20, false)] {
        let output = hartloom(&["run", "--memory", memory, &path]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(139), "{said}");
        assert!(
            said.contains(&format!("the stack of {bytes} bytes")),
            "{said}"
        );
        assert_eq!(said.contains("--memory"), small, "{said}");
    }
    let argument = "x".repeat(100 << 10);
    refused(
        &["run", "--memory", "1M", &path, &argument],
        125,
        &["--memory"],
    );
    let help = String::from_utf8(hartloom(&["run", "--help"]).stdout).unwrap();
    assert!(help.contains("stack"), "{help}");
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

/// A guest's 4 GiB fit, what the compiler needs does not: an error that names
/// the limit, since interpreting instead would be many times slower without a
/// word. (A file beyond the limit of sizes would end the process by a signal.)
#[test]
fn too_little_for_compiled_code_is_an_error_and_no_slow_run() {
    let guest = "../../benches/guests/bin/hello.elf";
    let too_little = [
        ("ulimit -v 9500000", "ulimit -v"),
        ("ulimit -f 1000", "ulimit -f"),
        ("ulimit -n 6", "ulimit -n"),
    ];
    for (limit, advice) in too_little {
        for (engine, expected) in [("jit", 125), ("hybrid", 125), ("interp", 0)] {
            let output = Command::new("sh")
                .args(["-c", &format!("{limit} && exec \"$@\""), "sh"])
                .arg(env!("CARGO_BIN_EXE_hartloom"))
                .args(["run", "--engine", engine, guest, "1"])
                .output()
                .unwrap();
            let status = output.status.code();
            assert_eq!(status, Some(expected), "{limit}, {engine}: {output:?}");
            let message = String::from_utf8_lossy(&output.stderr);
            let is_told = message.contains("compiled code") && message.contains(advice);
            assert_eq!(is_told, expected == 125, "{limit}, {engine}: {message}");
        }
    }
}

/// Standard output that cannot be duplicated is no closed one.
#[test]
fn too_few_descriptors_lose_no_output() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 4 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_hartloom"))
        .args(["run", "--engine", "interp"])
        .args(["../../benches/guests/bin/hello.elf", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("Too many open files"), "{message}");
}

/// Guest recursion in compiled code is host recursion.
#[test]
fn deep_recursion_is_no_matter_of_the_hosts_stack_limit() {
    // f(n) = n == 0 ? 0 : 1 + f(n - 1); exit(f(300000) % 100 + 42)
    let code = "
        li a0, 300000
        jal ra, f
        li a1, 100
        remu a0, a0, a1
        addi a0, a0, 42
        li a7, 93
        ecall
        f: beqz a0, done
        addi sp, sp, -8
        sw ra, 0(sp)
        addi a0, a0, -1
        jal ra, f
        addi a0, a0, 1
        lw ra, 0(sp)
        addi sp, sp, 8
        done: ret";
    let dir = TempDir::new("stack-limit");
    let path = dir.path("recursion");
    std::fs::write(&path, elf_of(code)).unwrap();
    for engine in EngineKind::ALL {
        for limit in ["128", "256", "512", "8192", "unlimited"] {
            let output = Command::new("sh")
                .args(["-c", &format!("ulimit -Ss {limit} && exec \"$@\""), "sh"])
                .args([env!("CARGO_BIN_EXE_hartloom"), "run", "--engine"])
                .args([engine.name(), &path])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(42), "{engine:?} {limit}: {said}");
        }
    }
}

/// Garbage in them was ignored once, and the run was not what was asked for.
#[test]
fn knobs_of_the_environment_that_are_wrong_are_named() {
    let dir = TempDir::new("knobs");
    let path = dir.path("tiny");
    std::fs::write(&path, elf_of("li a7, 93\nli a0, 42\necall")).unwrap();
    let names = [
        "HARTLOOM_THRESHOLD",
        "HARTLOOM_REGION_LIMIT",
        "HARTLOOM_INLINE_MAX",
        "HARTLOOM_INLINE_RECURSION",
    ];
    let run = |name: &str, value: &str, verb: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hartloom"));
        command.args(verb).arg(&path).env(name, value);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    for name in names {
        for value in ["", "many", "-1", "1.5", "99999999999"] {
            for verb in [&["run"][..], &["dump", "--addr", "0x10078", "--host"]] {
                let (status, said) = run(name, value, verb);
                assert_eq!(status, Some(125), "{name}={value} {verb:?}: {said}");
                assert!(said.contains(name), "{said}");
                assert!(said.contains(&format!("{value:?}")), "{said}");
            }
        }
        let (status, said) = run(name, "0", &["run", "--engine", "jit"]);
        assert_eq!(status, Some(42), "{name}=0: {said}");
    }
}
