//! What only some programs fit: rayon forks and joins, corosensei switches
//! stacks, Go is a process of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::corosensei::{Coroutine, CoroutineResult};
use ::rayon::iter::{
    IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _,
};
use serde::Deserialize;

use crate::program::{Answer, Contestant, Figures, Latency, Program, Scale, quantiles};
use crate::programs::{Run, expect};

/// Its tasks run to their end and cannot wait, so it is shown beside the others
/// and no best peer.
struct Rayon(::rayon::ThreadPool);

pub(crate) fn rayon(workers: usize) -> Result<Box<dyn Contestant>, String> {
    ::rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .build()
        .map(|pool| Box::new(Rayon(pool)) as Box<dyn Contestant>)
        .map_err(|error| format!("rayon does not start: {error}"))
}

impl Contestant for Rayon {
    fn name(&self) -> &'static str {
        "rayon"
    }

    fn run(&mut self, program: Program, scale: Scale) -> Answer {
        match program {
            Program::Spawn => {
                let (tasks, ran) = (scale.spawns(), AtomicU64::new(0));
                Run::measure(tasks, || {
                    self.0.scope(|scope| {
                        for _ in 0..tasks {
                            scope.spawn(|_| {
                                ran.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                    expect("tasks run", ran.load(Ordering::Relaxed), tasks)
                })
                .into()
            }
            Program::Skynet => {
                let leaves = scale.leaves();
                Run::measure(leaves, || {
                    let sum = self.0.install(|| node(0, leaves));
                    expect("sum of leaves", sum, leaves * (leaves - 1) / 2)
                })
                .into()
            }
            _ => Answer::Unfit,
        }
    }
}

fn node(first: u64, size: u64) -> u64 {
    if size == 1 {
        return first;
    }
    let below = size / 10;
    (0..10_u32)
        .into_par_iter()
        .with_max_len(1)
        .map(|child| node(first + u64::from(child) * below, below))
        .sum()
}

/// Into a coroutine and out again, on one thread and without a scheduler.
struct Corosensei;

pub(crate) fn corosensei() -> Box<dyn Contestant> {
    Box::new(Corosensei)
}

impl Contestant for Corosensei {
    fn name(&self) -> &'static str {
        "corosensei"
    }

    fn run(&mut self, program: Program, scale: Scale) -> Answer {
        if program != Program::RawSwitch {
            return Answer::Unfit;
        }
        let pairs = scale.switches();
        let mut coroutine = Coroutine::<u64, u64, u64>::new(|yielder, mut value| {
            while value != u64::MAX {
                value = yielder.suspend(value + 1);
            }
            value
        });
        Run::measure(pairs, || {
            let mut sum = 0_u64;
            for value in 0..pairs {
                match coroutine.resume(value) {
                    CoroutineResult::Yield(next) => sum += next,
                    CoroutineResult::Return(_) => return Err("it ended early".to_owned()),
                }
            }
            let end = coroutine.resume(u64::MAX);
            if !matches!(end, CoroutineResult::Return(_)) {
                return Err("it did not end".to_owned());
            }
            expect("sum of answers", sum, pairs * (pairs + 1) / 2)
        })
        .into()
    }
}

/// `go/main.go`, built. One process for each round and program: it warms up by
/// itself, and prints one JSON object.
struct Go {
    path: PathBuf,
    workers: usize,
}

pub(crate) fn go(path: PathBuf, workers: usize) -> Box<dyn Contestant> {
    Box::new(Go { path, workers })
}

/// What the Go program prints.
#[derive(Deserialize)]
struct Printed {
    ops: u64,
    wall_ns: u64,
    cpu_ns: u64,
    #[serde(default)]
    latencies_ns: Vec<u64>,
    #[serde(default)]
    wrong: String,
}

impl Contestant for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn run(&mut self, program: Program, scale: Scale) -> Answer {
        let (size, more) = match program {
            Program::Yield => scale.yields(),
            Program::Spawn => (scale.spawns(), 0),
            Program::Chained => (scale.links(), 0),
            Program::PingPong => (scale.round_trips(), 0),
            Program::Skynet => (scale.leaves(), 0),
            Program::Ticker => (scale.ticks(), scale.ticker_limit().as_millis() as u64),
            // Go has no threads that are none of its own.
            Program::Remote(_) | Program::Wake | Program::RawSwitch => return Answer::Unfit,
        };
        let output = Command::new(&self.path)
            .args([program.name(), &size.to_string(), &more.to_string()])
            .env("GOMAXPROCS", self.workers.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = match output {
            Ok(output) if output.status.success() => output,
            Ok(output) => return Answer::Failed(format!("the Go program: {}", output.status)),
            Err(error) => return Answer::Failed(format!("{}: {error}", self.path.display())),
        };
        match read_go(&output.stdout) {
            Ok(figures) => Answer::Done(figures),
            Err(why) => Answer::Wrong(why),
        }
    }
}

fn read_go(stdout: &[u8]) -> Result<Figures, String> {
    let mut printed: Printed = serde_json::from_slice(stdout)
        .map_err(|error| format!("the Go program printed no figures: {error}"))?;
    if !printed.wrong.is_empty() {
        return Err(printed.wrong);
    }
    let run = Run {
        ops: printed.ops,
        wall: Duration::from_nanos(printed.wall_ns),
        cpu: Duration::from_nanos(printed.cpu_ns),
    };
    let latency: Option<Latency> =
        (!printed.latencies_ns.is_empty()).then(|| quantiles(&mut printed.latencies_ns));
    Ok(Figures { run, latency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_prints_is_read() {
        let figures = read_go(br#"{"ops":2,"wall_ns":10,"cpu_ns":12}"#).unwrap();
        assert_eq!((figures.run.ops, figures.latency), (2, None));
        let line = br#"{"ops":2,"wall_ns":10,"cpu_ns":12,"latencies_ns":[9,1]}"#;
        assert_eq!(read_go(line).unwrap().latency.unwrap().p50_ns, 1);
        let wrong = br#"{"ops":2,"wall_ns":10,"cpu_ns":12,"wrong":"sum"}"#;
        assert_eq!(read_go(wrong).unwrap_err(), "sum");
        assert!(read_go(b"panic").is_err());
    }
}
