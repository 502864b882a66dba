//! The same guest under several contestants: natively, under qemu-riscv64, under
//! each engine of hartloom. Whole processes, one round of all contestants after
//! the other, in an order that rotates: whatever else the machine does meets
//! them alike.
//!
//! A time counts only if the output was right in every round.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use vm_runtime::EngineKind;

use crate::guests::{Class, Guest, Size};
use crate::lab::Lab;
use crate::native::{self, Compiler};
use crate::process;

/// Debian's user-mode emulator.
pub const QEMU: &str = "qemu-riscv64";

/// Longest time a guest may take; the slowest contestant needs well under a
/// minute for the full size on an idle machine.
const GUEST_LIMIT: Duration = Duration::from_secs(600);

/// Who runs a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// The same source, compiled for the host.
    Native,
    /// `qemu-riscv64`.
    Qemu,
    /// `hartloom run --engine`.
    Hartloom(EngineKind),
}

impl Contestant {
    /// `native`, `qemu`, or the engine's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Qemu => "qemu",
            Self::Hartloom(engine) => engine.name(),
        }
    }
}

/// The engine of that name, if this build has it.
#[must_use]
pub fn engine(name: &str) -> Option<EngineKind> {
    EngineKind::ALL
        .iter()
        .copied()
        .find(|engine| engine.name() == name)
}

/// One run of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// User and system time.
    pub cpu_ns: u64,
    /// Elapsed time.
    pub wall_ns: u64,
}

/// All runs of one guest by one contestant.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Times of right runs, in the order they were run.
    pub rounds: Vec<Time>,
    /// What went wrong first: the output, or the run itself.
    pub fault: Option<Fault>,
}

/// Why there is no time.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It ran and printed something else.
    WrongOutput(String),
    /// It did not end well.
    Failed(String),
}

impl Fault {
    /// In words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::WrongOutput(reason) | Self::Failed(reason) => reason,
        }
    }
}

impl Times {
    /// The shortest CPU time, if every run was right.
    #[must_use]
    pub fn cpu_ns_min(&self) -> Option<u64> {
        self.min(|time| time.cpu_ns)
    }

    /// The shortest elapsed time, if every run was right.
    #[must_use]
    pub fn wall_ns_min(&self) -> Option<u64> {
        self.min(|time| time.wall_ns)
    }

    fn min(&self, of: impl Fn(&Time) -> u64) -> Option<u64> {
        if self.fault.is_some() {
            return None;
        }
        self.rounds.iter().map(of).min()
    }

    fn to_json(&self) -> Value {
        let sorted = |of: fn(&Time) -> u64| {
            let mut values: Vec<u64> = self.rounds.iter().map(of).collect();
            values.sort_unstable();
            values
        };
        let (cpu, wall) = (sorted(|time| time.cpu_ns), sorted(|time| time.wall_ns));
        let first = |values: &[u64]| values.first().copied().unwrap_or(0);
        let middle = |values: &[u64]| values.get(values.len() / 2).copied().unwrap_or(0);
        json!({
            "status": match &self.fault {
                None => "ok",
                Some(Fault::WrongOutput(_)) => "invalid",
                Some(Fault::Failed(_)) => "failed",
            },
            "reason": self.fault.as_ref().map(Fault::reason),
            "rounds": self.rounds.len(),
            "cpu_ns_min": first(&cpu),
            "cpu_ns_median": middle(&cpu),
            "wall_ns_min": first(&wall),
            "wall_ns_median": middle(&wall),
        })
    }
}

/// One guest under every contestant.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub guest: String,
    /// Which mean it counts towards.
    pub class: Class,
    /// How much work it did.
    pub size: Size,
    /// By [`Contestant::name`].
    pub times: BTreeMap<&'static str, Times>,
    expected: Vec<u8>,
    native: Option<PathBuf>,
}

impl Row {
    /// CPU time of `slow` over that of `fast`, where both were right.
    #[must_use]
    pub fn cpu_ratio(&self, slow: &str, fast: &str) -> Option<f64> {
        let of = |name| self.times.get(name).and_then(Times::cpu_ns_min);
        ratio(of(slow)?, of(fast)?)
    }

    /// Elapsed time of `name`, where it was right.
    #[must_use]
    pub fn wall_ns(&self, name: &str) -> Option<u64> {
        self.times.get(name).and_then(Times::wall_ns_min)
    }

    /// As `compare` reports it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let contestants: serde_json::Map<String, Value> = self
            .times
            .iter()
            .filter(|(_, times)| !times.rounds.is_empty() || times.fault.is_some())
            .map(|(name, times)| ((*name).to_owned(), times.to_json()))
            .collect();
        json!({
            "guest": self.guest,
            "class": self.class.name(),
            "size": self.size.name(),
            "contestants": contestants,
        })
    }
}

/// A ratio of two times, if the second is one.
#[must_use]
pub fn ratio(numerator: u64, denominator: u64) -> Option<f64> {
    (denominator > 0).then(|| numerator as f64 / denominator as f64)
}

/// Guests and contestants, ready to run.
#[derive(Debug)]
pub struct Contest<'a> {
    lab: &'a Lab,
    contestants: Vec<Contestant>,
    compiler: Option<Compiler>,
    rows: Vec<Row>,
    n_runs: usize,
}

/// Which of the peers this machine has; what it lacks, in words.
#[must_use]
pub fn peers(lab: &Lab) -> (Vec<Contestant>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    if Compiler::find(lab).is_some() {
        found.push(Contestant::Native);
    } else {
        let name = &lab.guests.native().compiler;
        missing.push(format!("{name} is not installed: no native times"));
    }
    if native::version_of(QEMU).is_some() {
        found.push(Contestant::Qemu);
    } else {
        missing.push(format!(
            "{QEMU} is not installed (Debian package qemu-user): no QEMU times"
        ));
    }
    (found, missing)
}

impl<'a> Contest<'a> {
    /// Sets up: reads expected output, builds native programs where asked for.
    ///
    /// # Errors
    /// If a file is missing or a native program does not build.
    pub fn new(
        lab: &'a Lab,
        contestants: Vec<Contestant>,
        size: Size,
        selected: impl Fn(&Guest) -> bool,
    ) -> Result<Self> {
        let compiler = match contestants.contains(&Contestant::Native) {
            true => Compiler::find(lab),
            false => None,
        };
        let rows = lab
            .guests
            .iter()
            .filter(|guest| selected(guest))
            .map(|guest| {
                Ok(Row {
                    guest: guest.name.clone(),
                    class: guest.class,
                    size,
                    times: contestants
                        .iter()
                        .map(|c| (c.name(), Times::default()))
                        .collect(),
                    expected: lab.guests.expected(guest, size)?,
                    native: None,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            lab,
            contestants,
            compiler,
            rows,
            n_runs: 0,
        })
    }

    /// The guests so far.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Runs one guest once under every contestant.
    ///
    /// # Errors
    /// If a contestant cannot be started at all. What a guest does wrong is a
    /// [`Fault`] of its times.
    pub fn round(&mut self, index: usize) -> Result<()> {
        let guest = self.lab.guests.named(&self.rows[index].guest)?;
        let n_contestants = self.contestants.len();
        for turn in 0..n_contestants {
            let contestant = &self.contestants[(turn + self.n_runs) % n_contestants];
            let size = self.rows[index].size;
            let mut command = match contestant {
                Contestant::Native => {
                    let known = self.rows[index].native.clone();
                    let program = match (known, &self.compiler) {
                        (Some(program), _) => program,
                        (None, Some(compiler)) => compiler.build(self.lab, guest)?,
                        (None, None) => continue,
                    };
                    self.rows[index].native = Some(program.clone());
                    Command::new(program)
                }
                Contestant::Qemu => {
                    let mut command = Command::new(QEMU);
                    command.arg(self.lab.guests.elf(guest));
                    command
                }
                Contestant::Hartloom(engine) => {
                    let mut command = Command::new(self.lab.hartloom()?);
                    command
                        .args(["run", "--engine", engine.name()])
                        .arg(self.lab.guests.elf(guest));
                    command
                }
            };
            command.args(guest.args(size));
            let row = &mut self.rows[index];
            let times = row.times.entry(contestant.name()).or_default();
            if times.fault.is_some() {
                continue;
            }
            match process::run(&mut command, GUEST_LIMIT) {
                Err(error) => times.fault = Some(Fault::Failed(format!("{error:#}"))),
                Ok(run) if run.status != Some(0) => {
                    let how = match run.status {
                        Some(status) => format!("exit status {status}"),
                        None => "ended by a signal".to_owned(),
                    };
                    times.fault = Some(Fault::Failed(how));
                }
                Ok(run) if run.stdout != row.expected => {
                    times.fault = Some(Fault::WrongOutput(difference(&row.expected, &run.stdout)));
                }
                Ok(run) => times.rounds.push(Time {
                    cpu_ns: nanoseconds(run.cpu()),
                    wall_ns: nanoseconds(run.wall),
                }),
            }
        }
        self.n_runs += 1;
        Ok(())
    }

    /// Rounds over all guests: at least one of each, more until `deadline`.
    /// `false` if the time did not suffice for one.
    ///
    /// # Errors
    /// As [`round`](Self::round).
    pub fn run(&mut self, rounds: u32, deadline: Option<Instant>) -> Result<bool> {
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        for round in 0..rounds {
            for index in 0..self.rows.len() {
                if round > 0 && is_late() {
                    return Ok(true);
                }
                if self.lab.is_out_of_time() {
                    return Ok(false);
                }
                self.round(index)
                    .with_context(|| self.rows[index].guest.clone())?;
            }
        }
        Ok(true)
    }

    /// The first thing that went wrong for `contestant`.
    #[must_use]
    pub fn fault_of(&self, contestant: &str) -> Option<String> {
        self.rows.iter().find_map(|row| {
            let fault = row.times.get(contestant)?.fault.as_ref()?;
            Some(format!(
                "{} under {contestant}: {}",
                row.guest,
                fault.reason()
            ))
        })
    }
}

/// Nanoseconds, saturating after 584 years.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The first lines that differ.
#[must_use]
pub fn difference(expected: &[u8], found: &[u8]) -> String {
    let (expected, found) = (
        String::from_utf8_lossy(expected),
        String::from_utf8_lossy(found),
    );
    let (mut left, mut right) = (expected.lines(), found.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                return format!(
                    "line {number}: expected {:?}, found {:?}",
                    a.unwrap_or("<end>"),
                    b.unwrap_or("<end>")
                );
            }
        }
    }
    "differs in line ends only".to_owned()
}

/// The geometric mean; `None` of nothing.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
    Some((logarithms / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_output_leaves_no_time() {
        let mut times = Times::default();
        times.rounds.push(Time {
            cpu_ns: 5,
            wall_ns: 9,
        });
        times.rounds.push(Time {
            cpu_ns: 3,
            wall_ns: 11,
        });
        assert_eq!(
            (times.cpu_ns_min(), times.wall_ns_min()),
            (Some(3), Some(9))
        );
        times.fault = Some(Fault::WrongOutput("line 1".to_owned()));
        assert_eq!((times.cpu_ns_min(), times.wall_ns_min()), (None, None));
    }

    #[test]
    fn differences_name_their_line() {
        assert_eq!(
            difference(b"a\nb\n", b"a\nc\n"),
            "line 2: expected \"b\", found \"c\""
        );
        assert_eq!(
            difference(b"a\n", b""),
            "line 1: expected \"a\", found \"<end>\""
        );
    }

    #[test]
    fn the_geometric_mean_of_inverses_is_one() {
        let mean = geometric_mean(&[4.0, 0.25]).unwrap();
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
