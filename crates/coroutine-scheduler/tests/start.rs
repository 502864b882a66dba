//! A start for which the host has too few threads. In a process of its own,
//! since it takes address space from it.

mod common;

use std::process::Command;

use common::oversubscribed;
use coroutine_scheduler::{SpawnError, SpawnOptions, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CHILD: &str = "START_CHILD";

/// Leaves so many bytes of address space.
fn leave(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let page = rustix::param::page_size() as u64;
    let limit = Rlimit {
        current: Some(pages * page + bytes),
        maximum: getrlimit(Resource::As).maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
}

/// With room for no thread, or for some of eight.
fn check(bytes: u64) {
    let scheduler = coroutine_scheduler::CoroutineScheduler::new(oversubscribed(8)).unwrap();
    let handles: Vec<_> = (0..8)
        .map(|vcpu| {
            let options = SpawnOptions::new().pinned_to(vcpu);
            let body = std::future::pending::<()>();
            scheduler.spawn_with(options, body).unwrap()
        })
        .chain([scheduler.spawn(std::future::pending()).unwrap()])
        .collect();
    leave(bytes);
    let error = scheduler.start().unwrap_err();
    assert!(matches!(error, StartError::Thread(_)), "{error}");
    for handle in handles {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
    assert_eq!(scheduler.get_stats().active_coroutines, 0);
    assert_eq!(scheduler.spawn(async {}).unwrap_err(), SpawnError::ShutDown);
}

#[test]
fn a_start_that_fails_half_way_ends_everything() {
    if let Ok(bytes) = std::env::var(CHILD) {
        return check(bytes.parse().unwrap());
    }
    // A thread's stack takes 2 MiB.
    for bytes in [1 << 20, 5 << 20, 9 << 20] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["a_start_that_fails_half_way_ends_everything", "--exact"])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, bytes.to_string())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{bytes}: {stderr}");
    }
}
