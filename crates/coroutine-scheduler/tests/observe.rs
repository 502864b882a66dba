//! What can be seen of a scheduler from outside.

mod common;

use std::sync::{Arc, mpsc};

use common::{oversubscribed, started};
use coroutine_scheduler::trace::chrome_trace;
use coroutine_scheduler::{
    ControlError, CoroutineScheduler, CoroutineState, Priority, SchedulerConfig, SpawnOptions,
    VcpuState, checkpoint, is_preempted, save_context, yield_now,
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

#[test]
fn a_vcpu_shows_what_it_runs_and_what_waits_there() {
    let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
    assert!(scheduler.vcpu(2).is_none());
    let vcpu = scheduler.vcpu(1).unwrap();
    assert_eq!((vcpu.id(), vcpu.state()), (1, VcpuState::Idle));
    assert!(vcpu.current().is_none());
    let seen = Arc::new(parking_lot::Mutex::new(None));
    let looks = {
        let (vcpu, seen) = (vcpu.clone(), Arc::clone(&seen));
        let body = async move {
            let current = vcpu.current().map(|current| current.id());
            *seen.lock() = Some((vcpu.state(), current, vcpu.ready_count()));
        };
        let here = SpawnOptions::new().pinned_to(1);
        scheduler.spawn_with(here, body).unwrap()
    };
    let waits = SpawnOptions::new().pinned_to(1);
    let _waits = scheduler.spawn_with(waits, yield_now()).unwrap();
    let _elsewhere = scheduler.spawn_with(SpawnOptions::new().pinned_to(0), yield_now());
    assert_eq!(vcpu.ready_count(), 2);
    while !looks.is_finished() {
        scheduler.run_one().unwrap();
    }
    let (state, current, n_ready) = seen.lock().take().unwrap();
    assert_eq!(
        (state, current, n_ready),
        (VcpuState::Running, Some(looks.id()), 1)
    );
    assert_eq!((vcpu.stats().executions, vcpu.info().id), (1, 1));
    let info = scheduler.vcpus()[1];
    assert_eq!((info.id, info.coroutine_count), (1, vcpu.ready_count()));
}

#[test]
fn a_context_is_there_for_others_while_its_coroutine_does_not_run() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let handle = scheduler.handle();
    let body = async move {
        let own = handle.coroutines()[0].id;
        assert!(save_context(&[1]));
        let seen = handle.load_context(own);
        yield_now().await;
        assert!(save_context(&[2, 3]));
        seen
    };
    let options = SpawnOptions::new().keeps_context();
    let saves = scheduler.spawn_with(options.clone(), body).unwrap();
    let id = saves.id();
    assert_eq!(saves.load_context(), Err(ControlError::NoContext(id)));
    assert_eq!(scheduler.run_one(), Some(id));
    assert_eq!(scheduler.load_context(id), Ok(vec![1]));
    assert_eq!(scheduler.run_one(), Some(id));
    assert_eq!(saves.load_context(), Ok(vec![2, 3]), "its last words");
    assert_eq!(scheduler.load_context(id), Err(ControlError::Unknown(id)));
    assert_eq!(saves.join().unwrap(), Err(ControlError::Running(id)));
    // Another one by the same options has a place of its own.
    let other = scheduler.spawn_with(options, yield_now()).unwrap();
    let nothing = ControlError::NoContext(other.id());
    assert_eq!(other.load_context(), Err(nothing));
    assert!(nothing.to_string().contains("keeps_context"));
    // And who did not ask for one has none.
    let unkept = scheduler.spawn(async { save_context(&[1]) }).unwrap();
    while scheduler.run_one().is_some() {}
    assert!(!unkept.join().unwrap());
    assert!(!save_context(&[1]), "outside of coroutines");
}

/// What is loaded from one that is paused is what it was at that safepoint: it
/// itself says what it was when it goes on.
#[test]
fn a_paused_coroutine_shows_the_state_it_goes_on_from() {
    let scheduler = started(oversubscribed(2));
    let (sender, went_on_from) = mpsc::channel();
    let body = async move {
        let mut n = 0_u64;
        loop {
            n += 1;
            if is_preempted() {
                assert!(save_context(&n.to_le_bytes()));
                checkpoint().await;
                sender.send(n).unwrap();
            }
        }
    };
    let options = SpawnOptions::new().keeps_context();
    let counts = scheduler.spawn_with(options, body).unwrap();
    let mut n_looks = 0;
    while n_looks < 50 {
        scheduler.pause_coroutine(counts.id()).unwrap();
        while counts.state() != CoroutineState::Suspended {
            std::thread::yield_now();
        }
        // What it went on from before: turns that it gave up needlessly.
        went_on_from.try_iter().for_each(drop);
        let shown = counts.load_context();
        // Or it had just begun its turn as it was paused, and runs to its next
        // safepoint.
        let again = counts.load_context();
        assert!(
            again == shown || again.is_err(),
            "{again:?} after {shown:?}"
        );
        counts.resume().unwrap();
        // Unless it was paused before it began.
        if let Ok(bytes) = shown {
            let n = u64::from_le_bytes(bytes.try_into().unwrap());
            assert_eq!(went_on_from.recv().unwrap(), n);
            n_looks += 1;
        }
    }
    counts.abort().unwrap();
    assert!(counts.join().unwrap_err().is_cancelled());
}
