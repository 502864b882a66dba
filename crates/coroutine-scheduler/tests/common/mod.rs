//! Schedulers for tests.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io::Write;
use std::sync::Once;
use std::time::Duration;

use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig};

/// As many vCPUs as a test wants, however few CPUs there are.
pub(crate) fn oversubscribed(vcpu_count: usize) -> SchedulerConfig {
    end_if_it_hangs();
    SchedulerConfig {
        vcpu_count,
        oversubscribe: true,
        ..SchedulerConfig::default()
    }
}

pub(crate) fn started(config: SchedulerConfig) -> CoroutineScheduler {
    let scheduler = CoroutineScheduler::new(config).expect("a config that can be honoured");
    scheduler.start().expect("the host has threads");
    scheduler
}

/// A lost wake would keep a test, and whoever runs it, waiting for ever: after
/// ten minutes the process aborts.
fn end_if_it_hangs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let watch = || {
            let end = std::time::Instant::now() + Duration::from_secs(600);
            while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
                std::thread::park_timeout(left);
            }
            let _ = std::io::stderr().write_all(b"\na test hangs: aborted after ten minutes\n");
            std::process::abort();
        };
        std::thread::spawn(watch);
    });
}
