//! C programs compiled for RV64GC and run by the command, on every engine.
//!
//! Output and status are compared with what the row expects and, where
//! qemu-riscv64 is installed, with what it makes of the same program. Without
//! a cross compiler the rows are skipped. The programs of benches/guests need
//! no compiler and run always. Lines that begin with `compared: ` or `skipped: `
//! say which of this happened; `cargo xtask test` gathers them.

#![cfg(feature = "cli")]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use common::TempDir;
use vm_runtime::EngineKind;

const COMPILER: &str = "riscv64-linux-gnu-gcc";
const QEMU: &str = "qemu-riscv64";

/// The command of this tree. Asked for at run time: what the compiler was told
/// names the tree of the build, from which this one may have been copied.
fn hartloom() -> Command {
    Command::new(std::env::var_os("CARGO_BIN_EXE_hartloom").unwrap())
}

/// Longer than any guest here takes, even interpreted without optimisation.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

/// As a shell would say it.
fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits for a child to end, which it must.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let pid = child.id().to_string();
    let (ended, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watch.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
        late
    });
    let status = child.wait().unwrap();
    drop(ended);
    assert!(!watchdog.join().unwrap(), "did not end");
    status
}

/// Runs a command to its end, which must come.
#[track_caller]
fn run(command: &mut Command, input: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let reader = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(Box::new(child.stdout.take().unwrap()));
    let stderr = reader(Box::new(child.stderr.take().unwrap()));
    let status = wait(&mut child);
    feeder.join().unwrap();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    Run {
        status: shell_status(status),
        stdout,
        stderr,
    }
}

fn installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Says something to `cargo xtask test`, hence through the output that libtest
/// captures and shows in its order.
#[expect(clippy::print_stdout, reason = "cargo xtask test reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// Whether a program is missing, in which case `what` is said to be skipped.
fn lacks(program: &str, what: &str) -> bool {
    let is_missing = !installed(program);
    if is_missing {
        say(&format!("skipped: {what}: {program} is not installed"));
    }
    is_missing
}

/// A program of tests/guests, compiled.
fn compile(dir: &TempDir, source: &str, flags: &[&str]) -> PathBuf {
    // Cargo runs tests in the directory of their package.
    let source_path = Path::new("tests/guests").join(source);
    let program = dir.0.join(format!("{source}{}.elf", flags.concat()));
    let output = Command::new(COMPILER)
        .args(["-O1", "-g0", "-w", "-o"])
        .arg(&program)
        .arg(source_path)
        .args(flags)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// How programs are linked: static always, and as a static PIE where the C
/// library has the start file for it.
fn links() -> Vec<&'static [&'static str]> {
    let mut links = vec![&["-static", "-lm"][..]];
    let found = Command::new(COMPILER)
        .arg("-print-file-name=rcrt1.o")
        .output()
        .unwrap()
        .stdout;
    // A file that is not found is printed as it was asked for.
    if found.starts_with(b"/") {
        links.push(&["-static-pie", "-fPIE", "-lm"]);
    } else {
        say("skipped: static PIE with a C library, whose rcrt1.o is not installed");
    }
    links
}

/// How a program is run and what is expected.
struct Row {
    source: &'static str,
    args: &'static [&'static str],
    input: &'static str,
    status: i32,
    /// A part of standard output.
    stdout: &'static str,
    /// A part of what hartloom says.
    stderr: &'static str,
}

const fn row(
    source: &'static str,
    args: &'static [&'static str],
    status: i32,
    stdout: &'static str,
    stderr: &'static str,
) -> Row {
    Row {
        source,
        args,
        input: "",
        status,
        stdout,
        stderr,
    }
}

/// In arguments, `DIR` is a fresh directory.
const ROWS: &[Row] = &[
    row("files.c", &["DIR"], 0, "sum 49995000 first 0", ""),
    row("malloc.c", &[], 0, "malloc fine, refused 1", ""),
    row(
        "args.c",
        &["a b", "--strace", "", "-x"],
        42,
        "[a b]\n[--strace]\n[]\n[-x]\nyes 0\n",
        "",
    ),
    row(
        "clock.c",
        &[],
        0,
        "slept 1\nnow 1\nrandom 1\nusage 0\nclock 1\ncpus 1\n",
        "",
    ),
    row("math.c", &[], 0, "jumps 3", ""),
    row(
        "maps.c",
        &["DIR/map"],
        0,
        "bss 0 0\nbss 0 7\nmaps 1 stack 1",
        "",
    ),
    Row {
        source: "echo.c",
        args: &[],
        input: "one\ntwo\nthree",
        status: 3,
        stdout: "one\ntwo\nthree",
        stderr: "3 lines",
    },
    row("pie.c", &[], 42, "position-independent\n", ""),
    row("fault.c", &["7"], 7, "before 7", ""),
    row("fault.c", &["abort"], 134, "before abort", "SIGABRT"),
    row(
        "fault.c",
        &["null"],
        139,
        "before null",
        "SIGSEGV: load page fault (address 0x0) at 0x",
    ),
    row(
        "fault.c",
        &["write-text"],
        139,
        "before",
        "SIGSEGV: store page fault",
    ),
    row(
        "fault.c",
        &["jump"],
        139,
        "before jump",
        "SIGSEGV: instruction page fault",
    ),
    row(
        "fault.c",
        &["illegal"],
        132,
        "before illegal",
        "SIGILL: illegal instruction (bits 0x0)",
    ),
    row(
        "fault.c",
        &["overflow"],
        139,
        "before overflow",
        "looks like stack overflow",
    ),
    row(
        "fault.c",
        &["break"],
        133,
        "before break",
        "SIGTRAP: breakpoint at 0x",
    ),
    row("fault.c", &["term"], 143, "before term", ""),
    row(
        "fault.c",
        &["misaligned"],
        135,
        "before misaligned",
        "SIGBUS: misaligned",
    ),
];

#[test]
fn programs_behave_as_elsewhere() {
    if lacks(COMPILER, "compiled guest programs") {
        return;
    }
    let qemu = !lacks(QEMU, "compiled guest programs with QEMU");
    let mut n_runs = 0;
    let dir = TempDir::new("programs");
    let scratch = dir.0.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let links = links();
    for row in ROWS {
        let freestanding = [&[
            "-static-pie",
            "-fPIE",
            "-nostdlib",
            "-Wl,--no-dynamic-linker",
        ][..]];
        let links = if row.source == "pie.c" {
            &freestanding[..]
        } else {
            &links[..]
        };
        for &flags in links {
            let program = compile(&dir, row.source, flags);
            let scratch = scratch.to_str().unwrap();
            let args: Vec<String> = row.args.iter().map(|a| a.replace("DIR", scratch)).collect();
            let reference = qemu.then(|| {
                let mut command = Command::new(QEMU);
                command
                    .arg(&program)
                    .args(&args)
                    .env("HARTLOOM_TEST", "yes");
                run(&mut command, row.input)
            });
            for engine in EngineKind::ALL {
                let mut command = hartloom();
                command.args([
                    "run",
                    "--engine",
                    engine.name(),
                    "--env",
                    "HARTLOOM_TEST=yes",
                ]);
                command.arg(&program).args(&args);
                let ours = run(&mut command, row.input);
                let what = format!(
                    "{} {:?} {flags:?} on {}",
                    row.source,
                    row.args,
                    engine.name()
                );
                assert_eq!(ours.status, row.status, "{what}: {ours:?}");
                assert!(ours.stdout.contains(row.stdout), "{what}: {ours:?}");
                assert!(ours.stderr.contains(row.stderr), "{what}: {ours:?}");
                if let Some(reference) = &reference {
                    assert_eq!(ours.stdout, reference.stdout, "{what} against {QEMU}");
                    assert_eq!(ours.status, reference.status, "{what} against {QEMU}");
                }
                n_runs += 1;
            }
        }
    }
    let what = format!("{n_runs} runs of programs that {COMPILER} compiled");
    say(&format!("compared: {what}, with what they should print"));
    if qemu {
        say(&format!("compared: {what}, with {QEMU}"));
    }
}

#[test]
fn a_closed_pipe_ends_the_program_as_it_would_natively() {
    if lacks(COMPILER, "a closed pipe") {
        return;
    }
    let dir = TempDir::new("closed-pipe");
    let program = compile(&dir, "fault.c", &["-static"]);
    let mut child = hartloom()
        .arg("run")
        .arg(&program)
        .arg("pipe")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(shell_status(wait(&mut child)), 141);
}

/// The signal to interrupt with: shells start background jobs with SIGINT
/// ignored, and what is ignored stays so in their children.
fn interrupt() -> (&'static str, i32) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status
        .lines()
        .find_map(|l| l.strip_prefix("SigIgn:"))
        .unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    if ignored & (1 << 1) == 0 {
        ("-INT", 2)
    } else {
        ("-TERM", 15)
    }
}

#[test]
fn an_interrupt_ends_a_waiting_program() {
    if lacks(COMPILER, "an interrupt of a guest") {
        return;
    }
    let dir = TempDir::new("interrupt");
    let program = compile(&dir, "echo.c", &["-static"]);
    let (name, number) = interrupt();
    for flags in [&[][..], &["--stats=json"][..]] {
        let mut child = hartloom()
            .arg("run")
            .args(flags)
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it has answered, it waits for more, and handlers are in place.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"one\n").unwrap();
        let mut answer = [0; 4];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut answer)
            .unwrap();
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = wait(&mut child);
        assert_eq!(
            status.signal(),
            Some(number),
            "{flags:?}: dies as a native program"
        );
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(
            said.contains("\"outcome\":\"interrupted\""),
            !flags.is_empty(),
            "{said}"
        );
    }
}

#[test]
fn benchmark_guests_print_what_is_expected() {
    let guests = Path::new("../../benches/guests");
    let manifest = std::fs::read(guests.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let qemu = !lacks(QEMU, "benchmark guests with QEMU");
    let mut n_guests = 0;
    for guest in manifest["guests"].as_array().unwrap() {
        let program = guests.join(text(&guest["elf"]["path"]));
        let expected = guests.join(text(&guest["quick"]["expected"]["path"]));
        let expected = std::fs::read_to_string(expected).unwrap();
        let args = guest["quick"]["args"].as_array().unwrap();
        let args: Vec<String> = args.iter().map(text).collect();
        let check = |command: &mut Command| {
            let found = run(command.arg(&program).args(&args), "");
            assert_eq!(found.stdout, expected, "{command:?}: {}", found.stderr);
            assert_eq!(found.status, 0, "{command:?}");
        };
        for engine in EngineKind::ALL {
            check(hartloom().args(["run", "--engine", engine.name()]));
        }
        if qemu {
            check(&mut Command::new(QEMU));
        }
        n_guests += 1;
    }
    let engines = EngineKind::ALL.len();
    let what = format!("{n_guests} benchmark guests on {engines} engines");
    say(&format!("compared: {what}, with native output"));
    if qemu {
        say(&format!("compared: {what}, with {QEMU}"));
    }
}
