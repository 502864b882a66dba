//! One worker that answers requests, seen from outside. Written by
//! benches/src/gate/.
//!
//! Whatever it does wrong (an end, silence, nonsense) is a [`Fault`] with the
//! reason: evidence about a build, not an error of ours.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use perf_bench::gate::Kind;
use serde::Deserialize;

use crate::worker::{Group, describe, lines_of};
use crate::workspace::Interrupt;

/// One answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Benchmarks(Vec<Listed>),
    Ready,
    Ran { ns: u64, checksum: u64 },
    Instructions(CpuCount),
    Counters(Vec<Counted>),
    Error(String),
}

/// What the CPU counted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CpuCount {
    Counted(u64),
    Refused(String),
}

/// A benchmark that a worker has.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// Two workers with different ones do different work.
    pub(super) work: u64,
}

/// A counter without noise.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Counted {
    pub(super) name: String,
    pub(super) value: u64,
    /// The share by which it may grow; `None` for not at all.
    pub(super) growth: Option<f64>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The worker's doing, in words.
    Worker(String),
    /// Ctrl-C.
    Interrupted,
}

impl Fault {
    /// The same, with who it was.
    pub(super) fn of(self, who: &str) -> Self {
        match self {
            Self::Worker(what) => Self::Worker(format!("{who}: {what}")),
            Self::Interrupted => Self::Interrupted,
        }
    }
}

/// A running worker; ended when dropped.
pub(super) struct Talk<'a> {
    group: Group,
    requests: ChildStdin,
    lines: Receiver<std::io::Result<String>>,
    patience: Duration,
    interrupt: &'a Interrupt,
}

impl<'a> Talk<'a> {
    /// Starts it, on one CPU if there is one given. An answer may take `patience`.
    pub(super) fn start(
        mut command: Command,
        cpu: Option<usize>,
        patience: Duration,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Fault> {
        let fault = |what: String| Fault::Worker(what);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| fault(format!("{command:?} does not start: {error}")))?;
        let mut group = Group(child);
        if let Some(cpu) = cpu {
            let mut only = CpuSet::new();
            only.set(cpu)
                .and_then(|()| sched_setaffinity(group.id(), &only))
                .map_err(|error| fault(format!("cannot be bound to CPU {cpu}: {error}")))?;
        }
        let requests = group.0.stdin.take();
        let requests = requests.ok_or_else(|| fault("has no standard input".to_owned()))?;
        let lines = lines_of(&mut group.0).map_err(|error| fault(format!("{error:#}")))?;
        Ok(Self {
            group,
            requests,
            lines,
            patience,
            interrupt,
        })
    }

    pub(super) fn list(&mut self) -> Result<Vec<Listed>, Fault> {
        match self.ask("list")? {
            Answer::Benchmarks(listed) => Ok(listed),
            other => Err(unexpected("list", &other)),
        }
    }

    pub(super) fn prepare(&mut self, id: &str) -> Result<(), Fault> {
        match self.ask(&format!("prepare {id}"))? {
            Answer::Ready => Ok(()),
            other => Err(unexpected("prepare", &other)),
        }
    }

    /// Nanoseconds and checksum of that many iterations.
    pub(super) fn run(&mut self, iters: u64) -> Result<(u64, u64), Fault> {
        match self.ask(&format!("run {iters}"))? {
            Answer::Ran { ns, checksum } => Ok((ns, checksum)),
            other => Err(unexpected("run", &other)),
        }
    }

    /// Instructions of that many iterations, by the CPU; where it does not count
    /// them, a fault says why.
    pub(super) fn instructions(&mut self, iters: u64) -> Result<u64, Fault> {
        match self.ask(&format!("instructions {iters}"))? {
            Answer::Instructions(CpuCount::Counted(count)) => Ok(count),
            Answer::Instructions(CpuCount::Refused(why)) => Err(Fault::Worker(why)),
            other => Err(unexpected("instructions", &other)),
        }
    }

    pub(super) fn counters(&mut self) -> Result<Vec<Counted>, Fault> {
        match self.ask("counters")? {
            Answer::Counters(counters) => Ok(counters),
            other => Err(unexpected("counters", &other)),
        }
    }

    /// Lets it end by itself, which must be a good end.
    pub(super) fn quit(mut self) -> Result<(), Fault> {
        // One that is gone already is told by how it ended.
        let _ = self.requests.write_all(b"quit\n");
        match self.next_line()? {
            None => self.ended(),
            Some(line) => Err(Fault::Worker(format!("wrote {line:?} instead of ending"))),
        }
    }

    fn ask(&mut self, request: &str) -> Result<Answer, Fault> {
        // One that is gone has no answer either, and that says how it ended.
        let _ = self.requests.write_all(format!("{request}\n").as_bytes());
        let Some(line) = self.next_line()? else {
            self.ended()?;
            return Err(Fault::Worker(format!(
                "ended before it answered {request:?}"
            )));
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Error(what)) => Err(Fault::Worker(what)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(Fault::Worker(format!(
                "answered {request:?} with {line:?}, which is no answer"
            ))),
        }
    }

    /// `None` at the end of its output.
    fn next_line(&mut self) -> Result<Option<String>, Fault> {
        let deadline = Instant::now() + self.patience;
        loop {
            if self.interrupt.is_set() {
                return Err(Fault::Interrupted);
            }
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(line)) => return Ok(Some(line)),
                Ok(Err(error)) => return Err(Fault::Worker(format!("cannot be read: {error}"))),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    let seconds = self.patience.as_secs_f64();
                    return Err(Fault::Worker(format!("gave no answer within {seconds} s")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// How it ended whose output is over. One that lives on without output is
    /// ended.
    fn ended(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.group.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(Fault::Worker(describe(status))),
                Ok(None) if Instant::now() < deadline => std::thread::yield_now(),
                Ok(None) => {
                    return Err(Fault::Worker("closed its output and stayed".to_owned()));
                }
                Err(error) => {
                    return Err(Fault::Worker(format!("cannot be waited for: {error}")));
                }
            }
        }
    }
}

fn unexpected(request: &str, answer: &Answer) -> Fault {
    Fault::Worker(format!("answered {request:?} with {answer:?}"))
}
