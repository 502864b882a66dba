//! What can be seen of a scheduler from outside.

mod common;

use std::sync::Arc;

use common::{oversubscribed, started};
use coroutine_scheduler::trace::chrome_trace;
use coroutine_scheduler::{
    CoroutineScheduler, Priority, SchedulerConfig, SpawnOptions, VcpuState, yield_now,
};

#[test]
fn the_trace_has_every_run_in_order() {
    let config = SchedulerConfig {
        trace_runs: 100,
        ..oversubscribed(1)
    };
    let scheduler = CoroutineScheduler::new(config).unwrap();
    let options = SpawnOptions::new().name("twice").priority(Priority::High);
    let handle = scheduler.spawn_with(options, yield_now()).unwrap();
    let id = handle.id();
    while scheduler.run_one().is_some() {}
    let runs = scheduler.trace();
    assert_eq!(runs.len(), 2);
    assert!(
        runs.iter()
            .all(|run| run.id == id && run.level == Priority::High)
    );
    assert!(runs[0].start + runs[0].duration <= runs[1].start + runs[1].duration);
    let json = chrome_trace(&runs, |_| handle.name().map(str::to_owned));
    assert_eq!(json.matches("\"twice\"").count(), 2);
}

#[test]
fn prometheus_text_names_every_vcpu() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    let _detached = scheduler.spawn(async {}).unwrap();
    while scheduler.run_one().is_some() {}
    let text = scheduler.prometheus();
    assert!(text.contains("\ncoroutine_spawned_total 1\n"), "{text}");
    for vcpu in 0..2 {
        assert!(text.contains(&format!("coroutine_executions_total{{vcpu=\"{vcpu}\"}} ")));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn a_dump_says_who_is_where_and_from_where() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let names = ["one", "two"];
    let _handles = names.map(|name| {
        let options = SpawnOptions::new().name(name).budget(100);
        scheduler
            .spawn_with(options, std::future::pending::<()>())
            .unwrap()
    });
    let dump = scheduler.coroutines();
    let seen: Vec<_> = dump
        .iter()
        .map(|info| info.name.as_deref().unwrap())
        .collect();
    assert_eq!(seen, names);
    assert!(
        dump.iter()
            .all(|info| info.spawned_at.file().ends_with("observe.rs"))
    );
}

#[test]
fn charged_cycles_count_instead_of_ticks() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let left = Arc::new(parking_lot::Mutex::new(None));
    let place = Arc::clone(&left);
    let body = async move {
        coroutine_scheduler::charge(30);
        yield_now().await;
        *place.lock() = coroutine_scheduler::charge(50);
    };
    let options = SpawnOptions::new().budget(100);
    let handle = scheduler.spawn_with(options, body).unwrap();
    while scheduler.run_one().is_some() {}
    assert_eq!(*left.lock(), Some(20));
    assert_eq!(handle.info().cycles_executed, 80);
    assert_eq!(handle.info().cycles_remaining, Some(20));
    assert_eq!(
        coroutine_scheduler::charge(1),
        None,
        "outside of coroutines"
    );
}

#[test]
fn a_vcpu_that_sleeps_is_idle_meanwhile() {
    let scheduler = started(oversubscribed(1));
    scheduler.spawn(async {}).unwrap().join().unwrap();
    let sleeps = loop {
        let stats = scheduler.get_stats().vcpus[0];
        if scheduler.vcpus()[0].state == VcpuState::Idle {
            break stats;
        }
        std::thread::yield_now();
    };
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(20) {
        std::thread::yield_now();
    }
    let later = scheduler.get_stats().vcpus[0];
    assert!(later.idle_time > sleeps.idle_time, "{later:?}");
    assert_eq!(later.executions, sleeps.executions);
}
