//! What is run: the programs, how large they are, and what comes out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::programs::Run;

/// A program, as on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Yield,
    Spawn,
    Chained,
    PingPong,
    Skynet,
    /// From this many outside threads.
    Remote(u64),
    Wake,
    Ticker,
    RawSwitch,
}

impl Program {
    /// In the order they run.
    pub(crate) const ALL: &[Program] = &[
        Program::Yield,
        Program::Spawn,
        Program::Chained,
        Program::PingPong,
        Program::Skynet,
        Program::Remote(1),
        Program::Remote(2),
        Program::Remote(4),
        Program::Remote(8),
        Program::Wake,
        Program::Ticker,
        Program::RawSwitch,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Yield => "yield",
            Program::Spawn => "spawn",
            Program::Chained => "chained",
            Program::PingPong => "pingpong",
            Program::Skynet => "skynet",
            Program::Remote(1) => "remote-1",
            Program::Remote(2) => "remote-2",
            Program::Remote(4) => "remote-4",
            Program::Remote(_) => "remote-8",
            Program::Wake => "wake",
            Program::Ticker => "ticker",
            Program::RawSwitch => "raw-switch",
        }
    }

    /// Whether it counts towards `sched.vs_tokio` and `sched.vs_best_peer`.
    pub(crate) fn is_kpi(self) -> bool {
        use Program::{Chained, PingPong, Skynet, Spawn, Yield};
        matches!(self, Yield | Spawn | Chained | PingPong | Skynet)
    }
}

/// How large the programs are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) is_quick: bool,
}

impl Scale {
    fn of(self, quick: u64, full: u64) -> u64 {
        if self.is_quick { quick } else { full }
    }

    /// Tasks, and yields of each.
    pub(crate) fn yields(self) -> (u64, u64) {
        (200, self.of(250, 1_000))
    }

    pub(crate) fn spawns(self) -> u64 {
        self.of(20_000, 100_000)
    }

    pub(crate) fn links(self) -> u64 {
        self.of(20_000, 100_000)
    }

    pub(crate) fn round_trips(self) -> u64 {
        self.of(5_000, 20_000)
    }

    pub(crate) fn leaves(self) -> u64 {
        self.of(100_000, 1_000_000)
    }

    pub(crate) fn remote_spawns(self) -> u64 {
        self.of(16_000, 80_000)
    }

    pub(crate) fn wakes(self) -> u64 {
        self.of(200, 1_000)
    }

    /// Of a millisecond each.
    pub(crate) fn ticks(self) -> u64 {
        self.of(200, 1_000)
    }

    /// When the hogs are sent home: a scheduler may let the ticker wait for as
    /// long as they run, and then this is its lateness.
    pub(crate) fn ticker_limit(self) -> Duration {
        PERIOD * self.of(1_000, 3_000) as u32
    }

    pub(crate) fn switches(self) -> u64 {
        self.of(200_000, 2_000_000)
    }
}

/// One round of one program on one scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) run: Run,
    /// Of programs that are about one.
    pub(crate) latency: Option<Latency>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

/// How a round ended.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Figures),
    /// It computed the wrong thing.
    Wrong(String),
    /// It did not come to an end.
    Failed(String),
    /// The program is beyond this scheduler, as the text says.
    Cannot(&'static str),
    /// This scheduler has nothing of the kind.
    Unfit,
}

impl From<Result<Run, String>> for Answer {
    fn from(result: Result<Run, String>) -> Answer {
        match result {
            Ok(run) => Answer::Done(Figures { run, latency: None }),
            Err(why) => Answer::Wrong(why),
        }
    }
}

/// A scheduler.
pub(crate) trait Contestant {
    fn name(&self) -> &'static str;
    fn run(&mut self, program: Program, scale: Scale) -> Answer;
}

/// Runs what gives latencies, with the time of all of it around.
pub(crate) fn latencies(body: impl FnOnce() -> Result<Vec<u64>, String>) -> Answer {
    let mut all = Vec::new();
    let run = Run::measure(1, || {
        all = body()?;
        Ok(())
    });
    match run {
        Err(why) => Answer::Wrong(why),
        Ok(_) if all.is_empty() => Answer::Wrong("no latencies".to_owned()),
        Ok(run) => {
            let latency = Some(quantiles(&mut all));
            let run = Run {
                ops: all.len() as u64,
                ..run
            };
            Answer::Done(Figures { run, latency })
        }
    }
}

/// By nearest rank; of at least one.
pub(crate) fn quantiles(all: &mut [u64]) -> Latency {
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1];
    Latency {
        p50_ns: at(50),
        p99_ns: at(99),
        max_ns: at(100),
    }
}

/// Time between two ticks.
const PERIOD: Duration = Duration::from_millis(1);

/// When a ticker is to wake, and how late it did. After a late tick the next
/// whole period is due, as with intervals; those left out were due all the
/// same, and count.
pub(crate) struct Ticks {
    due: Instant,
    late: Vec<u64>,
    wanted: u64,
}

impl Ticks {
    /// From now on, also for one that gets its first turn late.
    pub(crate) fn new(scale: Scale) -> Ticks {
        let wanted = scale.ticks();
        Ticks {
            due: Instant::now(),
            late: Vec::with_capacity(wanted as usize),
            wanted,
        }
    }

    /// The next one to wait for; `None` after the last, or once one has come and
    /// `is_over`.
    pub(crate) fn next_due(&mut self, is_over: &AtomicBool) -> Option<Instant> {
        let has_ended = !self.late.is_empty() && is_over.load(Ordering::Relaxed);
        if has_ended || self.late.len() as u64 >= self.wanted {
            return None;
        }
        self.due += PERIOD;
        Some(self.due)
    }

    /// The one that was waited for has come.
    pub(crate) fn note_arrival(&mut self) {
        let now = Instant::now();
        self.note(now);
        while self.due + PERIOD < now {
            self.due += PERIOD;
            self.note(now);
        }
    }

    fn note(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        self.late.push(nanoseconds(late));
    }

    /// Nanoseconds by which each was late.
    pub(crate) fn into_late(self) -> Vec<u64> {
        self.late
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = Program::ALL.iter().map(|program| program.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Program::ALL.len());
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut all: Vec<u64> = (1..=100).rev().collect();
        let expected = Latency {
            p50_ns: 50,
            p99_ns: 99,
            max_ns: 100,
        };
        assert_eq!(quantiles(&mut all), expected);
        assert_eq!(quantiles(&mut [7]).p99_ns, 7);
    }
}
