//! A host that refuses `membarrier`: from the beginning, or once the scheduler
//! has registered for it; and one that lets no thread rise. Each in a process of
//! its own, since a filter stays.

mod common;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::oversubscribed;
use coroutine_scheduler::{
    CoroutineScheduler, SchedulerConfig, WeakClass, sleep, spawn, yield_now,
};
use rustix::thread::{MembarrierCommand, gettid, membarrier};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

const CHILD: &str = "FILTERED_CHILD";

/// This thread, and those that it makes, get `EPERM` for a system call.
fn refuse(call: i64, rules: Vec<SeccompRule>) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn refuse_membarrier() {
    refuse(libc::SYS_membarrier, Vec::new());
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

/// Runs a test again, in a process of its own that is told `what`.
fn run_in_child(test: &str, what: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, what)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{what}: {stderr}");
}

#[test]
fn a_refused_barrier_loses_nothing_and_takes_nothing() {
    const NAME: &str = "a_refused_barrier_loses_nothing_and_takes_nothing";
    if let Ok(when) = std::env::var(CHILD) {
        return check(when == "late");
    }
    for when in ["early", "late"] {
        run_in_child(NAME, when);
    }
}

/// As without `CAP_SYS_NICE` and `RLIMIT_NICE`, which those who run the tests
/// may have.
#[test]
fn an_idle_thread_that_may_not_rise_ends() {
    const NAME: &str = "an_idle_thread_that_may_not_rise_ends";
    if std::env::var(CHILD).is_err() {
        return run_in_child(NAME, "idle");
    }
    const CLASS: u8 = 1;
    let is_ordinary = SeccompCondition::new(
        CLASS,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        libc::SCHED_OTHER as u64,
    );
    let rule = SeccompRule::new(vec![is_ordinary.unwrap()]).unwrap();
    refuse(libc::SYS_sched_setscheduler, vec![rule]);
    let scheduler = CoroutineScheduler::new(SchedulerConfig {
        weak_class: WeakClass::Idle,
        ..oversubscribed(1)
    })
    .unwrap();
    scheduler.start().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        let stops = Arc::clone(&stop);
        let hog = scheduler.spawn(async move {
            let weak = gettid();
            while !stops.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            yield_now().await;
            assert_ne!(gettid(), weak, "it has no vCPU any more");
            weak
        });
        scheduler.spawn(async {}).unwrap().join().unwrap();
        stop.store(true, Ordering::Relaxed);
        let weak = hog.unwrap().join().unwrap().as_raw_nonzero();
        let thread = format!("/proc/self/task/{weak}");
        while std::path::Path::new(&thread).exists() {
            thread::yield_now();
        }
        stop.store(false, Ordering::Relaxed);
    }
    assert!(scheduler.get_stats().handoffs >= 3);
    run_some(&scheduler);
}
