//! The corpus: every `.rvt` file under `filetests/` on every engine.
//!
//! `filetests/format.rs` describes the files. A case that fails prints how;
//! `UPDATE_EXPECT=1 cargo test -p async-executor --test filetests` writes what
//! the reference engine found into the `post:` lines, for a person to read
//! against the manual before it is committed.

#[path = "filetests/format.rs"]
mod format;
#[path = "filetests/machine.rs"]
mod machine;
#[path = "filetests/qemu.rs"]
mod qemu;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_executor::{Executor, HybridExecutor, InterpreterExecutor, JitConfig, JitExecutor};
use vm_core::isa::asm::assemble;
use vm_core::isa::{TABLE, compressed::COMPRESSED, decode};

use format::File;

/// Name of an engine; its first word is the name that a file's `engines`
/// header uses.
type Engine = (&'static str, fn() -> Box<dyn Executor>);

/// All engines in all configurations. The first is the reference.
const ENGINES: &[Engine] = &[
    ("interp", || Box::new(InterpreterExecutor::new())),
    ("jit", || {
        Box::new(JitExecutor::new(eager(JitConfig::foreground())))
    }),
    ("jit for a single hart", || {
        Box::new(JitExecutor::new(alone(eager(JitConfig::foreground()))))
    }),
    ("hybrid", || {
        Box::new(HybridExecutor::new(eager(JitConfig::background())))
    }),
    ("hybrid that warms up", || {
        let mut config = JitConfig::background();
        config.exact_faults = true;
        Box::new(HybridExecutor::new(config))
    }),
    ("hybrid for a single hart", || {
        Box::new(HybridExecutor::new(alone(eager(JitConfig::background()))))
    }),
];

/// Cases are short: what they test has to be compiled at once, and a fault
/// has to leave the registers that a case states.
fn eager(mut config: JitConfig) -> JitConfig {
    config.threshold = 0;
    config.warm_up_insts = 0;
    config.exact_faults = true;
    config
}

fn alone(mut config: JitConfig) -> JitConfig {
    config.single_hart = true;
    config
}

#[test]
fn every_case_on_every_engine() {
    let bless = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut files = corpus();
    let (mut n_cases, mut failures) = (0, Vec::new());
    for file in &mut files {
        let mut blessed = false;
        for i in 0..file.cases.len() {
            n_cases += 1;
            for &(name, make) in ENGINES {
                if !file.wants(name) {
                    continue;
                }
                let case = &file.cases[i];
                let found = match machine::run(file, case, &mut *make()) {
                    Ok(found) => found,
                    Err(error) => {
                        failures.push(format!("{}: {error}", file.place(case)));
                        break;
                    }
                };
                let differences = machine::differences(file, case, &found);
                if differences.is_empty() {
                    continue;
                }
                if bless && name == ENGINES[0].0 {
                    file.cases[i].post = machine::expectations(file, case, &found);
                    blessed = true;
                    continue;
                }
                let place = file.place(case);
                failures.push(format!("{place} on {name}\n{differences}"));
            }
        }
        if blessed {
            file.save();
        }
    }
    let names: Vec<&str> = ENGINES.iter().map(|(name, _)| *name).collect();
    let n_files = files.len();
    eprintln!(
        "filetests: {n_files} files, {n_cases} cases, on {} engines: {}",
        names.len(),
        names.join(", ")
    );
    assert!(
        failures.is_empty(),
        "{}\n\n{} failures; UPDATE_EXPECT=1 rewrites the post: lines",
        failures.join("\n\n"),
        failures.len()
    );
}

#[test]
fn every_instruction_occurs() {
    let (mut long, mut short) = (BTreeSet::new(), BTreeSet::new());
    for file in corpus() {
        for case in &file.cases {
            let Ok(bytes) = assemble(&case.code.join("\n")) else {
                continue;
            };
            // Data among the code may be misread, but not every instruction.
            let mut at = 0;
            while at + 2 <= bytes.len() {
                let half = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
                let high = bytes
                    .get(at + 2..at + 4)
                    .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
                let bits = u32::from(half) | u32::from(high) << 16;
                match decode(bits) {
                    Ok(decoded) if decoded.len == 4 => {
                        long.insert(decoded.inst.op());
                    }
                    Ok(_) => {
                        let row = COMPRESSED.iter().find(|row| half & row.mask == row.matches);
                        short.extend(row.map(|row| row.mnemonic));
                    }
                    Err(_) => {}
                }
                at += if half & 3 == 3 { 4 } else { 2 };
            }
        }
    }
    let missing: Vec<&str> = TABLE
        .iter()
        .filter(|row| !long.contains(&row.op))
        .map(|row| row.mnemonic)
        .chain(
            COMPRESSED
                .iter()
                .map(|row| row.mnemonic)
                .filter(|name| !short.contains(name)),
        )
        .collect();
    assert!(
        missing.is_empty(),
        "add cases to tests/filetests for: {}",
        missing.join(", ")
    );
}

#[test]
fn qemu_agrees() {
    let files = corpus();
    let cases: Vec<_> = files
        .iter()
        .filter(|file| file.qemu)
        .flat_map(|file| file.cases.iter().map(move |case| (file, case)))
        .collect();
    let skipped: Vec<&str> = files
        .iter()
        .filter(|file| !file.qemu)
        .map(|file| file.name.as_str())
        .collect();
    match qemu::compare(&cases) {
        Err(missing) => eprintln!("skipped: filetests with qemu-riscv64: {missing}"),
        Ok(comparison) => {
            eprintln!(
                "compared: {} filetest cases with qemu-riscv64; not {} cases with a budget or a misaligned atomic, and {}",
                comparison.compared,
                comparison.excluded,
                skipped.join(", ")
            );
            assert!(
                comparison.differences.is_empty(),
                "{}",
                comparison.differences.join("\n\n")
            );
        }
    }
}

fn corpus() -> Vec<File> {
    let root = Path::new("tests/filetests");
    let mut paths = Vec::new();
    find(root, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no .rvt files under {}", root.display());
    paths.iter().map(|path| File::read(root, path)).collect()
}

fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rvt") {
            found.push(path);
        }
    }
}
