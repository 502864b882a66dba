//! Runs a program under limits and reports how it ended:
//! `cargo run --example run_elf -- benches/guests/bin/hello.elf`

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use vm_runtime::{EngineKind, Outcome, Process, ProcessConfig, build_engine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("usage: run_elf PROGRAM".into());
    };

    // At most 256 MiB, and nothing of our environment.
    let config = ProcessConfig {
        memory_bytes_limit: 256 << 20,
        ..ProcessConfig::default()
    };
    let mut process = Process::load(Path::new(&path), &[b"guest"], &[b"LANG=C"], config)?;
    let mut engine = build_engine(EngineKind::default());

    // At most ten seconds: whoever sets the word gets the run back.
    let preempt = Arc::new(AtomicU32::new(0));
    let timer = Arc::clone(&preempt);
    let (ended, watch) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        // The sender lives as long as the run.
        if watch.recv_timeout(Duration::from_secs(10)) == Err(RecvTimeoutError::Timeout) {
            timer.store(1, Ordering::Release);
        }
    });

    let outcome = process.run(&mut *engine, &preempt);
    drop(ended);
    let stats = process.stats();
    let mut out = std::io::stdout();
    match outcome {
        Outcome::Interrupted => writeln!(out, "still running after 10 s")?,
        ended => writeln!(out, "{ended}, after {} system calls", stats.syscalls)?,
    }
    Ok(())
}
