//! Whole programs: loaded, run, ended.

use std::sync::atomic::AtomicU32;

use anyhow::{Result, ensure};
use perf_bench::gate::Kind;
use vm_runtime::{EngineKind, Outcome, Process, ProcessConfig, Stdio, build_engine};

use super::{Body, Counter, Gated};

const HELLO: &[u8] = include_bytes!("../../guests/bin/hello.elf");
const WORK: &[&[u8]] = &[include_bytes!("programs.rs"), HELLO];

pub(super) const GATED: &[Gated] = &[Gated {
    id: "process/hello",
    kind: Kind::Compute,
    work: WORK,
    prepare: hello,
    counters: called,
}];

/// Address space, ELF, first blocks, a system call, and the end of it all; gives
/// how many system calls it made.
fn say_hello() -> Result<u64> {
    let config = ProcessConfig {
        memory_bytes_limit: 64 << 20,
        stdio: Stdio::Null,
        ..ProcessConfig::default()
    };
    let mut process = Process::from_bytes("hello", HELLO.to_vec(), &[b"hello", b"1"], &[], config)?;
    let mut engine = build_engine(EngineKind::Interp);
    let outcome = process.run(&mut *engine, &AtomicU32::new(0));
    ensure!(outcome == Outcome::Exited(0), "hello ended: {outcome}");
    Ok(process.stats().syscalls)
}

fn hello() -> Result<Body> {
    Ok(Box::new(say_hello))
}

fn called() -> Result<Vec<Counter>> {
    Ok(vec![Counter::equal("syscalls", say_hello()?)])
}
