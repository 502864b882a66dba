//! A second opinion on the corpus: the same cases under `qemu-riscv64`.
//!
//! `qemu_harness.c` is compiled once. It maps each case's pages, enters it by
//! returning from a signal handler with its registers, and dumps all state
//! when the case runs into an `ebreak` or a fault. So expected values have
//! been computed by somebody who has not seen our code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_executor::{Budget, InterpreterExecutor};

use super::format::{Case, File};
use super::machine::{self, State, TEXT};

pub(crate) struct Comparison {
    pub(crate) compared: usize,
    pub(crate) excluded: usize,
    pub(crate) differences: Vec<String>,
}

const COMPILER: &str = "riscv64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-riscv64";
const LIMITER: &str = "timeout";

/// Runs the cases under QEMU.
///
/// # Errors
/// What is missing here for that.
pub(crate) fn compare(cases: &[(&File, &Case)]) -> Result<Comparison, String> {
    for tool in [COMPILER, EMULATOR, LIMITER] {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("filetests-qemu");
    std::fs::create_dir_all(&directory).unwrap();
    let harness = compile(&directory);

    let mut chosen = Vec::new();
    let mut input = Vec::new();
    for &(file, case) in cases {
        let before = State::before(case).unwrap();
        let found = machine::run(file, case, &mut InterpreterExecutor::new()).unwrap();
        let is_comparable =
            before.budget == Budget::Unlimited && !found.exit.contains("misaligned");
        if is_comparable {
            write_case(&mut input, &before, &found, file.text_is_writable);
            chosen.push((file, case, found));
        }
    }
    let mut blob = (chosen.len() as u64).to_le_bytes().to_vec();
    blob.append(&mut input);
    let input = directory.join("cases.bin");
    std::fs::write(&input, blob).unwrap();
    let output = run(&harness, &input);

    let mut differences = Vec::new();
    let mut words = output
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    for (file, case, found) in &chosen {
        let mut qemu = found.clone();
        let Some(signal) = words.next() else {
            differences.push(format!("{}: QEMU ended before its end", file.place(case)));
            break;
        };
        qemu.pc = words.next().unwrap();
        qemu.x[1..].fill_with(|| words.next().unwrap());
        qemu.f.fill_with(|| words.next().unwrap());
        let fcsr = words.next().unwrap() as u32;
        (qemu.fflags, qemu.frm) = (fcsr & 31, fcsr >> 5);
        for chunk in qemu.data.chunks_exact_mut(8) {
            chunk.copy_from_slice(&words.next().unwrap().to_le_bytes());
        }
        // Compared with what the file says, not with what our engine did.
        let mut text = machine::differences(file, case, &qemu);
        let expected_signal = match &found.exit {
            exit if exit.starts_with("trap illegal") => 4,
            exit if exit.starts_with("trap") => 11,
            _ => 5,
        };
        if (qemu.pc, signal) != (found.pc, expected_signal) {
            text += &format!("  ended at {:#x} by signal {signal}\n", qemu.pc);
        }
        if !text.is_empty() {
            differences.push(format!("{} under QEMU\n{text}", file.place(case)));
        }
    }
    let compared = chosen.len();
    Ok(Comparison {
        compared,
        excluded: cases.len() - compared,
        differences,
    })
}

fn compile(directory: &Path) -> PathBuf {
    let source = Path::new("tests/filetests/qemu_harness.c");
    let harness = directory.join("harness");
    let compiled = Command::new(COMPILER)
        .args([
            "-O1",
            "-Wall",
            "-Werror",
            "-ffreestanding",
            "-fno-stack-protector",
        ])
        .args([
            "-static",
            "-nostdlib",
            "-Wl,--no-relax",
            "-Wl,-Ttext-segment=0x4000000",
            "-o",
        ])
        .arg(&harness)
        .arg(source)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    harness
}

fn run(harness: &Path, input: &Path) -> Vec<u8> {
    // A case that does not end is ended by `timeout`; the output is then short.
    let output = Command::new(LIMITER)
        .args(["120", EMULATOR])
        .arg(harness)
        .arg(input)
        .output();
    output.unwrap().stdout
}

/// What `read_case` of the harness reads.
fn write_case(out: &mut Vec<u8>, before: &State, found: &State, text_is_writable: bool) {
    let mut text = before.text.clone();
    if found.exit.starts_with("ecall") {
        // Linux would answer the call; the state at this point is what counts.
        let at = (found.pc - TEXT.0) as usize;
        text[at..at + 4].copy_from_slice(&0x0010_0073_u32.to_le_bytes());
    }
    let mut word = |value: u64| out.write_all(&value.to_le_bytes()).unwrap();
    before.x[1..].iter().for_each(|&x| word(x));
    before.f.iter().for_each(|&f| word(f));
    word(u64::from(before.fflags | before.frm << 5));
    word(u64::from(text_is_writable));
    word(text.len() as u64);
    for bytes in [&text, &before.data] {
        for chunk in bytes.chunks_exact(8) {
            word(u64::from_le_bytes(chunk.try_into().unwrap()));
        }
    }
}
