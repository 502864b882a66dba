//! What doing nothing costs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use coroutine_scheduler::{VcpuState, yield_now};
use perf_bench::{BenchmarkResult, Direction, Event, Metrics, Unit};

use super::ours::VCPUS;
use super::programs::{self, Runtime as _};
use super::{set_up, start};
use crate::jit::sample;
use crate::lab::{Lab, Measured};

/// CPU time of a scheduler that has had nothing to do for 100 ms, while
/// thousands of its coroutines wait.
pub(super) fn idle(lab: &Lab, mut result: BenchmarkResult) -> Result<Measured> {
    const NAME: &str = "idle";
    const SETTLE: Duration = Duration::from_millis(100);
    let window = Duration::from_secs(if lab.is_quick { 1 } else { 10 });
    set_up(&mut result, VCPUS);
    let ours = start(|config| config.thread_name = NAME.to_owned())?;
    let scheduler = ours.scheduler();
    for _ in 0..10_000 {
        drop(scheduler.spawn(std::future::pending::<()>())?);
    }
    ours.block_on(yield_now());
    let settled = Instant::now() + Duration::from_secs(10);
    while scheduler
        .vcpus()
        .iter()
        .any(|vcpu| vcpu.state != VcpuState::Idle)
    {
        if Instant::now() > settled {
            result.mark_invalid("a vCPU without work did not fall asleep for 10 s");
            return Ok(Measured::Done(result));
        }
        thread::yield_now();
    }
    // Only time passes from here on: that is what is measured.
    programs::stay_idle(SETTLE);
    let (before, begin) = (threads_named(NAME)?, Instant::now());
    programs::stay_idle(window);
    let (after, wall) = (threads_named(NAME)?, begin.elapsed());
    if after.n_threads != before.n_threads || (after.n_threads as usize) < VCPUS {
        result.mark_invalid(format!(
            "{} threads, then {}",
            before.n_threads, after.n_threads
        ));
    }
    let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
    let wakeups = after.n_switches.saturating_sub(before.n_switches);
    let share = cpu_ns as f64 / wall.as_nanos() as f64;
    if !after.is_exact {
        result.warn("CPU time in ticks of 10 ms: this host has no /proc/self/task/*/schedstat");
    }
    let metrics = Metrics::new("idle", wall, 0)
        .with(
            "wakeups per second",
            wakeups as f64 / wall.as_secs_f64(),
            Unit::PerSecond,
            Direction::Lower,
        )?
        .with(
            "CPU time per second",
            cpu_ns as f64 / wall.as_secs_f64(),
            Unit::Nanosecond,
            Direction::Lower,
        )?
        .with(
            "threads",
            after.n_threads as f64,
            Unit::Count,
            Direction::Lower,
        )?;
    result.push_metrics(metrics);
    result.extend_samples([sample(Event::CpuNs, 0, cpu_ns, 1)]);
    result.record_kpi("sched.idle_cpu_pct", share, Unit::Ratio)?;
    Ok(Measured::Done(result))
}

/// What the threads of one name have used so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Used {
    n_threads: u64,
    cpu_ns: u64,
    /// Every switch away from a thread that slept began with a wakeup.
    n_switches: u64,
    is_exact: bool,
}

/// Sums `/proc/self/task/*` over threads called `name` and a dash.
fn threads_named(name: &str) -> Result<Used> {
    const TICKS_PER_SECOND: u64 = 100;
    let mut used = Used {
        is_exact: true,
        ..Used::default()
    };
    for entry in fs::read_dir("/proc/self/task").context("cannot list this process's threads")? {
        let dir = entry?.path();
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        // A thread may end between the listing and the reading.
        let (Ok(comm), Ok(status), Ok(stat)) = (read("comm"), read("status"), read("stat")) else {
            continue;
        };
        if comm
            .trim_end()
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_none()
        {
            continue;
        }
        used.n_threads += 1;
        used.n_switches += switches_of(&status).context("no context switches in status")?;
        let exact = read("schedstat").ok().and_then(|text| {
            let ns = text.split_whitespace().next()?;
            ns.parse::<u64>().ok()
        });
        used.cpu_ns += match exact {
            Some(ns) => ns,
            None => {
                used.is_exact = false;
                let ticks = ticks_of(&stat).context("no CPU time in stat")?;
                ticks * (1_000_000_000 / TICKS_PER_SECOND)
            }
        };
    }
    Ok(used)
}

/// Voluntary and other context switches of `/proc/*/status`.
fn switches_of(status: &str) -> Option<u64> {
    let lines = status
        .lines()
        .filter(|line| line.contains("voluntary_ctxt_switches:"));
    let counts: Vec<u64> = lines
        .filter_map(|line| line.split_whitespace().last()?.parse().ok())
        .collect();
    (counts.len() == 2).then(|| counts.iter().sum())
}

/// User and system time of `/proc/*/stat`: fields 14 and 15, counted behind the
/// name in parentheses, which may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_survive_odd_names() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("7 (a"), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t12\n";
        assert_eq!(switches_of(status), Some(42));
        assert_eq!(switches_of("voluntary_ctxt_switches:\t30\n"), None);
    }

    #[test]
    fn threads_are_found_by_name() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let (is_named, named) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("findme-0".to_owned())
            .spawn(move || {
                // A thread names itself, before this.
                is_named.send(()).unwrap();
                wait.recv()
            })
            .unwrap();
        named.recv().unwrap();
        assert_eq!(threads_named("findme").unwrap().n_threads, 1);
        assert_eq!(threads_named("find").unwrap().n_threads, 0);
        drop(send);
        assert!(thread.join().unwrap().is_err());
    }
}
