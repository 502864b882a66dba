//! Guests in this process: exact counters, no start of a process in the time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use perf_bench::Timer;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::{ClockId, clock_gettime};
use vm_runtime::{
    Engine, EngineKind, Outcome, Process, ProcessConfig, Stdio, build_engine_with, jit_config,
};

use crate::contest::difference;
use crate::guests::{Guest, Size};
use crate::lab::Lab;

/// A run to the end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// CPU time of the calling thread while the guest ran, without loading.
    pub cpu: Duration,
    /// Elapsed time of the same.
    pub wall: Duration,
    /// What the engine counted meanwhile.
    pub counters: Counters,
    /// System calls the guest made.
    pub syscalls: u64,
}

/// Differences of an engine's counters.
#[derive(Clone, Debug, Default)]
pub struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    /// What `name` counted; `None` if the engine has no such counter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// Sum of all counters whose name begins and ends so, if there is any.
    #[must_use]
    pub fn sum(&self, prefix: &str, suffix: &str) -> Option<u64> {
        let mut found = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(suffix))
            .map(|(_, value)| *value)
            .peekable();
        found.peek()?;
        Some(found.sum())
    }

    fn since(engine: &dyn Engine, before: &[(&'static str, u64)]) -> Self {
        let known = |name| {
            before
                .iter()
                .find(|(n, _)| *n == name)
                .map_or(0, |(_, value)| *value)
        };
        Self(
            engine
                .counters()
                .into_iter()
                .map(|(name, value)| (name, value.saturating_sub(known(name))))
                .collect(),
        )
    }
}

/// Runs that have ended, by engine and guest, for workloads that want counters
/// and not time.
#[derive(Debug, Default)]
pub struct EndedRuns(RefCell<HashMap<(&'static str, String, Size), Ended>>);

impl EndedRuns {
    /// Keeps a run.
    pub fn keep(&self, engine: EngineKind, guest: &Guest, size: Size, ended: &Ended) {
        let key = (engine.name(), guest.name.clone(), size);
        self.0.borrow_mut().insert(key, ended.clone());
    }

    fn get(&self, engine: EngineKind, guest: &Guest, size: Size) -> Option<Ended> {
        let key = (engine.name(), guest.name.clone(), size);
        self.0.borrow().get(&key).cloned()
    }
}

/// What a fresh engine counts when it runs a guest; runs it if that has not been
/// done yet.
///
/// # Errors
/// As [`run_guest`].
pub fn counted(lab: &Lab, guest: &Guest, kind: EngineKind) -> Result<Ended> {
    if let Some(ended) = lab.ended.get(kind, guest, lab.size()) {
        return Ok(ended);
    }
    let mut config = jit_config(kind);
    config.count_host_insts = true;
    let mut engine = build_engine_with(kind, config);
    let ended = run_guest(lab, guest, lab.size(), &mut *engine)?;
    lab.ended.keep(kind, guest, lab.size(), &ended);
    Ok(ended)
}

/// Runs a guest of the manifest; an error if its output is not the expected one.
///
/// # Errors
/// If it cannot be loaded, does not exit with 0, or prints something else.
pub fn run_guest(lab: &Lab, guest: &Guest, size: Size, engine: &mut dyn Engine) -> Result<Ended> {
    let output = std::fs::File::from(memfd_create("guest-output", MemfdFlags::CLOEXEC)?);
    let config = config(&output)?;
    let path = lab.guests.elf(guest);
    let args: Vec<&[u8]> = std::iter::once(guest.name.as_str())
        .chain(guest.args(size).iter().map(String::as_str))
        .map(str::as_bytes)
        .collect();
    let mut process = Process::load(&path, &args, &[], config)?;
    let ended = run(&mut process, engine, 0).with_context(|| guest.name.clone())?;
    let printed = contents(&output)?;
    let expected = lab.guests.expected(guest, size)?;
    if printed != expected {
        bail!("{}: {}", guest.name, difference(&expected, &printed));
    }
    Ok(ended)
}

/// Runs a program made of these instructions, which must exit with `status`.
///
/// # Errors
/// If it does not.
pub fn run_code(code: &[u8], status: i32, engine: &mut dyn Engine) -> Result<Ended> {
    let config = ProcessConfig {
        memory_bytes_limit: 64 << 20,
        stdio: Stdio::Null,
        ..ProcessConfig::default()
    };
    let mut process = Process::from_bytes("assembled", elf_of(code), &[b"assembled"], &[], config)?;
    run(&mut process, engine, status)
}

fn run(process: &mut Process, engine: &mut dyn Engine, status: i32) -> Result<Ended> {
    let before = engine.counters();
    let preempt = AtomicU32::new(0);
    let mut timer = Timer::new();
    let cpu_before = thread_cpu();
    timer.start();
    let outcome = process.run(engine, &preempt);
    let wall = timer.stop();
    let cpu = thread_cpu().saturating_sub(cpu_before);
    if outcome != Outcome::Exited(status) {
        bail!("{outcome}, expected exit status {status}");
    }
    Ok(Ended {
        cpu,
        wall,
        counters: Counters::since(engine, &before),
        syscalls: process.stats().syscalls,
    })
}

/// CPU time this thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn config(output: &std::fs::File) -> Result<ProcessConfig> {
    let null = || -> Result<OwnedFd> { Ok(std::fs::File::open("/dev/null")?.into()) };
    Ok(ProcessConfig {
        stdio: Stdio::Files([null()?, output.try_clone()?.into(), null()?]),
        ..ProcessConfig::default()
    })
}

fn contents(output: &std::fs::File) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let bytes = usize::try_from(output.metadata()?.len())?;
    let mut printed = vec![0; bytes];
    output.read_exact_at(&mut printed, 0)?;
    Ok(printed)
}

/// A static ELF with one segment: a header, a program header, the code.
///
/// Layout after the ELF-64 object file format, version 1.5: figures 2 and 6.
fn elf_of(code: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: u64 = 64;
    const PROGRAM_HEADER_BYTES: u64 = 56;
    const BASE: u64 = 0x1_0000;
    const RISCV: u16 = 243;
    let start = HEADER_BYTES + PROGRAM_HEADER_BYTES;
    let bytes = start + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, RISCV] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes());
    // Entry, program headers, no sections.
    for word in [BASE + start, HEADER_BYTES, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    // RVC and double-float ABI.
    elf.extend_from_slice(&5_u32.to_le_bytes());
    for half in [
        HEADER_BYTES as u16,
        PROGRAM_HEADER_BYTES as u16,
        1,
        64,
        0,
        0,
    ] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    for word in [1_u32, 5] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    for word in [0, BASE, BASE, bytes, bytes, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(code);
    elf
}
