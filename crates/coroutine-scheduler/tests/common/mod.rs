//! Schedulers for tests, in the crate and beside it.
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub(crate) mod watchdog;

use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig};

/// As many vCPUs as a test wants, however few CPUs there are.
pub(crate) fn oversubscribed(vcpu_count: usize) -> SchedulerConfig {
    watchdog::end_if_it_hangs();
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
