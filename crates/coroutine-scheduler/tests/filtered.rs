//! A host that refuses `membarrier`: from the beginning, or once the scheduler
//! has registered for it. Each in a process of its own, since a filter stays.

mod common;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::oversubscribed;
use coroutine_scheduler::{CoroutineScheduler, sleep, spawn, yield_now};
use rustix::thread::{MembarrierCommand, membarrier};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const CHILD: &str = "FILTERED_CHILD";

/// This thread, and those that it makes, get `EPERM` for `membarrier`.
fn refuse_membarrier() {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_membarrier, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    assert!(membarrier(MembarrierCommand::RegisterPrivateExpedited).is_err());
}

/// Coroutines on two vCPUs that wake each other and sleep.
fn run_some(scheduler: &CoroutineScheduler) {
    for round in 0..20_u64 {
        let sum = scheduler
            .spawn(async move {
                let parts: Vec<_> = (0..20)
                    .map(|part| {
                        spawn(async move {
                            yield_now().await;
                            sleep(Duration::from_micros(50 * part)).await;
                            part
                        })
                    })
                    .collect();
                let mut sum = 0;
                for part in parts {
                    sum += part.unwrap().await.unwrap();
                }
                sum + round
            })
            .unwrap();
        assert_eq!(sum.join().unwrap(), 190 + round);
    }
}

/// `is_late`: the filter comes when the scheduler is there already.
fn check(is_late: bool) {
    if !is_late {
        refuse_membarrier();
    }
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    if is_late {
        refuse_membarrier();
    }
    scheduler.start().unwrap();
    run_some(&scheduler);
    let stop = Arc::new(AtomicBool::new(false));
    let n_running = Arc::new(AtomicUsize::new(0));
    let hogs: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            let n_running = Arc::clone(&n_running);
            let body = async move {
                n_running.fetch_add(1, Ordering::SeqCst);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            scheduler.spawn(body).unwrap()
        })
        .collect();
    // Both vCPUs are busy: nobody is free for what comes now.
    while n_running.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    if is_late {
        // Without an order between the threads no vCPU is taken, and the
        // statistics say so.
        let waits = scheduler.spawn(async {}).unwrap();
        while scheduler.get_stats().handoffs_refused == 0 {
            thread::yield_now();
        }
        assert_eq!(scheduler.get_stats().handoffs, 0);
        assert!(!waits.is_finished(), "both vCPUs are kept");
        stop.store(true, Ordering::Relaxed);
        waits.join().unwrap();
    } else {
        // With full fences everything is as ever.
        run_some(&scheduler);
        assert!(scheduler.get_stats().handoffs >= 1);
        stop.store(true, Ordering::Relaxed);
    }
    for hog in hogs {
        hog.join().unwrap();
    }
    run_some(&scheduler);
}

#[test]
fn a_refused_barrier_loses_nothing_and_takes_nothing() {
    const NAME: &str = "a_refused_barrier_loses_nothing_and_takes_nothing";
    if let Ok(when) = std::env::var(CHILD) {
        return check(when == "late");
    }
    for when in ["early", "late"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, when)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{when}: {stderr}");
    }
}
