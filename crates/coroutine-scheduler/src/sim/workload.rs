//! What there is to run: from CSV text, from a generator, or built by hand.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::Placement;
use super::random::Random;
use crate::Priority;

/// No time in a workload is later or longer than this: 10^15 ns, eleven days.
pub const TIME_NS_MAX: u64 = 1_000_000_000_000_000;

/// A coroutine to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// When it arrives, in nanoseconds from the start.
    pub arrival_ns: u64,
    /// How long it has to run altogether, in nanoseconds; at least 1.
    pub work_ns: u64,
    /// What it is spawned with.
    pub priority: Priority,
    /// By when after its arrival it should have ended, in nanoseconds.
    pub deadline_ns: Option<u64>,
    /// How its work is cut into requests; `None` for one request.
    pub burst: Option<Burst>,
    /// What pictures call it; `None` for its number.
    pub name: Option<String>,
}

impl Job {
    /// One request, no deadline.
    #[must_use]
    pub const fn new(arrival_ns: u64, work_ns: u64, priority: Priority) -> Job {
        Job {
            arrival_ns,
            work_ns,
            priority,
            deadline_ns: None,
            burst: None,
            name: None,
        }
    }
}

/// Work in pieces, as an interactive program does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How long each piece runs, in nanoseconds; at least 1.
    pub run_ns: u64,
    /// How long it waits for its user afterwards, in nanoseconds; 0 makes it a
    /// yield.
    pub wait_ns: u64,
}

/// Jobs in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    jobs: Vec<Job>,
}

impl Workload {
    /// Sorts by arrival; equals keep their order.
    #[must_use]
    pub fn new(mut jobs: Vec<Job>) -> Workload {
        jobs.sort_by_key(|job| job.arrival_ns);
        Workload { jobs }
    }

    /// The jobs. Reports count them in this order, from 0.
    #[must_use]
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Reads comma-separated values. The first line names the columns, in any
    /// order:
    ///
    /// | Column | |
    /// |---|---|
    /// | `arrival_us` | when it arrives |
    /// | `work_us` | how long it runs altogether |
    /// | `priority` | `low`, `normal`, `high` or `real-time` |
    /// | `deadline_us` | by when after its arrival it should have ended; may be empty or missing |
    /// | `burst_us`, `wait_us` | runs and waits alternately for so long; may be empty or missing |
    /// | `name` | for pictures; may be empty or missing |
    ///
    /// Times are microseconds with up to three decimals, at most
    /// [`TIME_NS_MAX`]. There is no quoting: a value has no comma.
    ///
    /// # Errors
    /// Names line and column of the first thing that is wrong, and what would
    /// be right.
    pub fn from_csv(text: &str) -> Result<Workload, WorkloadError> {
        let mut lines = (1..).zip(text.lines());
        let (_, header) = lines.next().unwrap_or((1, ""));
        let columns = Column::of_header(header)?;
        let jobs: Result<Vec<Job>, WorkloadError> = lines
            .map(|(line, text)| parse_line(line, text, &columns))
            .collect();
        Ok(Workload::new(jobs?))
    }
}

/// Where a text is no workload, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            problem,
        } = self;
        write!(f, "line {line}, column {column}: {problem}")
    }
}

impl Error for WorkloadError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Arrival,
    Work,
    Priority,
    Deadline,
    Burst,
    Wait,
    Name,
}

impl Column {
    /// Name, and whether it has to be there.
    const TABLE: [(Column, &'static str, bool); 7] = [
        (Column::Arrival, "arrival_us", true),
        (Column::Work, "work_us", true),
        (Column::Priority, "priority", true),
        (Column::Deadline, "deadline_us", false),
        (Column::Burst, "burst_us", false),
        (Column::Wait, "wait_us", false),
        (Column::Name, "name", false),
    ];

    fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    fn of_header(header: &str) -> Result<Vec<Column>, WorkloadError> {
        let refuse = |column, problem| {
            Err(WorkloadError {
                line: 1,
                column,
                problem,
            })
        };
        let mut columns = Vec::new();
        for (column, name) in (1..).zip(header.split(',')) {
            let found = Self::TABLE.into_iter().find(|(_, known, _)| *known == name);
            let Some((found, ..)) = found else {
                let known = Self::TABLE.map(|(_, name, _)| name).join(", ");
                return refuse(column, format!("{name:?} is no column; there are {known}"));
            };
            if columns.contains(&found) {
                return refuse(column, format!("{name} is there twice"));
            }
            columns.push(found);
        }
        for (column, name, has_to_be) in Self::TABLE {
            if has_to_be && !columns.contains(&column) {
                return refuse(columns.len() + 1, format!("the column {name} is missing"));
            }
        }
        if columns.contains(&Column::Burst) != columns.contains(&Column::Wait) {
            let problem = "burst_us and wait_us come together".to_owned();
            return refuse(columns.len() + 1, problem);
        }
        Ok(columns)
    }
}

fn parse_line(line: usize, text: &str, columns: &[Column]) -> Result<Job, WorkloadError> {
    let refuse = |column, problem| {
        Err(WorkloadError {
            line,
            column,
            problem,
        })
    };
    let n_values = text.split(',').count();
    if n_values != columns.len() {
        let expected = columns.len();
        let column = n_values.min(expected) + 1;
        return refuse(
            column,
            format!("{n_values} values under {expected} columns"),
        );
    }
    let mut job = Job::new(0, 0, Priority::Normal);
    let (mut burst_ns, mut wait_ns) = (None, None);
    let mut wait_column = 0;
    for ((index, value), column) in (1..).zip(text.split(',')).zip(columns) {
        let result = match column {
            Column::Arrival => parse_us(value).map(|ns| job.arrival_ns = ns),
            Column::Work => parse_us(value)
                .and_then(at_least_one)
                .map(|ns| job.work_ns = ns),
            Column::Priority => parse_priority(value).map(|priority| job.priority = priority),
            Column::Deadline => optional(value, parse_us).map(|ns| job.deadline_ns = ns),
            Column::Burst => optional(value, |value| parse_us(value).and_then(at_least_one))
                .map(|ns| burst_ns = ns),
            Column::Wait => {
                wait_column = index;
                optional(value, parse_us).map(|ns| wait_ns = ns)
            }
            Column::Name => optional(value, parse_name).map(|name| job.name = name),
        };
        if let Err(problem) = result {
            return refuse(index, format!("{}: {problem}", column.name()));
        }
    }
    job.burst = match (burst_ns, wait_ns) {
        (Some(run_ns), Some(wait_ns)) => Some(Burst { run_ns, wait_ns }),
        (None, None) => None,
        _ => {
            let problem = "burst_us and wait_us are both there or both empty".to_owned();
            return refuse(wait_column, problem);
        }
    };
    Ok(job)
}

fn optional<T>(
    value: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match value {
        "" => Ok(None),
        _ => parse(value).map(Some),
    }
}

/// Exactly: no floating-point number is involved.
fn parse_us(value: &str) -> Result<u64, String> {
    let wrong = || format!("{value:?} is no time in microseconds, such as 1500 or 0.25");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, decimals) = value.split_once('.').unwrap_or((value, "0"));
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 3 {
        return Err(wrong());
    }
    let part: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let whole: Option<u64> = whole.parse().ok();
    whole
        .and_then(|us| us.checked_mul(1_000)?.checked_add(part))
        .filter(|ns| *ns <= TIME_NS_MAX)
        .ok_or_else(|| format!("{value} µs is more than {}", TIME_NS_MAX / 1_000))
}

fn at_least_one(ns: u64) -> Result<u64, String> {
    match ns {
        0 => Err("0 is too short; a piece of work takes at least 0.001".to_owned()),
        _ => Ok(ns),
    }
}

fn parse_priority(value: &str) -> Result<Priority, String> {
    let found = Priority::ALL.into_iter().find(|p| p.name() == value);
    found.ok_or_else(|| {
        let names = Priority::ALL.map(Priority::name).join(", ");
        format!("{value:?} is no priority; there are {names}")
    })
}

fn parse_name(value: &str) -> Result<String, String> {
    if value.chars().count() > 32 || value.chars().any(|c| c.is_control() || c == '"') {
        return Err(format!(
            "{value:?} is no name: at most 32 characters, no quotes"
        ));
    }
    Ok(value.to_owned())
}

/// Workloads made from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// Arrivals independent of each other, work exponentially distributed
    /// around 100 µs, 5 % `RealTime`, 15 % `High`, 60 % `Normal`, 20 % `Low`.
    Poisson,
    /// Arrivals independent of each other; 99.5 % run 4 µs and 0.5 % run 10 ms,
    /// the mix on which turns matter most (Shinjuku, NSDI 2019, uses such
    /// ones).
    Bimodal,
    /// All arrive at once and, by [`Generator::placement`], at one vCPU; work
    /// exponentially distributed around 1 ms.
    Skewed,
}

impl Generator {
    /// Every generator.
    pub const ALL: [Self; 3] = [Self::Poisson, Self::Bimodal, Self::Skewed];

    /// `poisson`, `bimodal` or `skewed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Bimodal => "bimodal",
            Self::Skewed => "skewed",
        }
    }

    /// Where its coroutines are born.
    #[must_use]
    pub const fn placement(self) -> Placement {
        match self {
            Self::Poisson | Self::Bimodal => Placement::LeastLoaded,
            Self::Skewed => Placement::First,
        }
    }

    /// `count` jobs for `vcpu_count` vCPUs. They arrive so fast that
    /// `load_percent` of what the vCPUs could do is asked for, 1 to 1000;
    /// anything else counts as the nearest of those.
    #[must_use]
    pub fn generate(self, seed: u64, count: u32, vcpu_count: usize, load_percent: u32) -> Workload {
        const SHORT_NS: u64 = 4_000;
        const LONG_NS: u64 = 10_000_000;
        let mut random = Random::new(seed);
        let mean_work_ns = match self {
            Self::Poisson => 100_000,
            Self::Bimodal => (995 * SHORT_NS + 5 * LONG_NS) / 1_000,
            Self::Skewed => 1_000_000,
        };
        let capacity = u64::from(load_percent.clamp(1, 1_000)) * (vcpu_count.max(1) as u64);
        let mean_gap_ns = mean_work_ns * 100 / capacity;
        let mut at_ns = 0_u64;
        let jobs = (0..count).map(|_| {
            let priority = match self {
                Self::Poisson => match random.below(100) {
                    0..5 => Priority::RealTime,
                    5..20 => Priority::High,
                    20..80 => Priority::Normal,
                    _ => Priority::Low,
                },
                Self::Bimodal | Self::Skewed => Priority::Normal,
            };
            let work_ns = match self {
                Self::Bimodal if random.below(1_000) < 5 => LONG_NS,
                Self::Bimodal => SHORT_NS,
                Self::Poisson | Self::Skewed => random.exponential(mean_work_ns).max(1),
            };
            if self != Self::Skewed {
                at_ns = at_ns.saturating_add(random.exponential(mean_gap_ns));
            }
            Job::new(at_ns.min(TIME_NS_MAX), work_ns, priority)
        });
        Workload::new(jobs.collect())
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Generator {
    type Err = UnknownGenerator;

    /// Takes what [`name`](Self::name) gives.
    ///
    /// # Errors
    /// For anything else; the error lists the names.
    fn from_str(text: &str) -> Result<Self, UnknownGenerator> {
        let found = Self::ALL.into_iter().find(|g| g.name() == text);
        found.ok_or_else(|| UnknownGenerator {
            name: text.to_owned(),
        })
    }
}

/// No generator has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownGenerator {
    /// What was asked for.
    pub name: String,
}

impl fmt::Display for UnknownGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Generator::ALL.map(Generator::name).join(", ");
        write!(
            f,
            "no generator is called {:?}; there are {names}",
            self.name
        )
    }
}

impl Error for UnknownGenerator {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error's text, after the header `arrival_us,work_us,priority,deadline_us`.
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let text = format!("arrival_us,work_us,priority,deadline_us\n0,1,low,\n{line}\n");
        let error = Workload::from_csv(&text).unwrap_err();
        assert_eq!((error.line, error.to_string().as_str()), (3, expected));
    }

    #[track_caller]
    fn check_header(header: &str, column: usize, expected: &str) {
        let error = Workload::from_csv(header).unwrap_err();
        assert_eq!((error.line, error.column), (1, column), "{error}");
        assert!(error.problem.contains(expected), "{error}");
    }

    #[test]
    fn a_workload_is_read() {
        let text = "work_us,arrival_us,priority,deadline_us,burst_us,wait_us,name\r\n\
            1500,20,real-time,3000,,,\r\n\
            0.25,0,low,,0.05,1,editor\r\n";
        let editor = Job {
            burst: Some(Burst {
                run_ns: 50,
                wait_ns: 1_000,
            }),
            name: Some("editor".to_owned()),
            ..Job::new(0, 250, Priority::Low)
        };
        let urgent = Job {
            deadline_ns: Some(3_000_000),
            ..Job::new(20_000, 1_500_000, Priority::RealTime)
        };
        let workload = Workload::from_csv(text).unwrap();
        assert_eq!(workload.jobs(), [editor, urgent], "in order of arrival");
    }

    #[test]
    fn wrong_lines_are_named_with_their_column() {
        check("0,1,low", "line 3, column 4: 3 values under 4 columns");
        check("0,1,low,,", "line 3, column 5: 5 values under 4 columns");
        check("", "line 3, column 2: 1 values under 4 columns");
        let us = |value: &str, column: usize, name: &str| {
            format!(
                "line 3, column {column}: {name}: {value:?} is no time in microseconds, such as 1500 or 0.25"
            )
        };
        check("-1,1,low,", &us("-1", 1, "arrival_us"));
        check(" 1,1,low,", &us(" 1", 1, "arrival_us"));
        check("0,1e3,low,", &us("1e3", 2, "work_us"));
        check("0,1.2345,low,", &us("1.2345", 2, "work_us"));
        check("0,.5,low,", &us(".5", 2, "work_us"));
        check("0,1,low,soon", &us("soon", 4, "deadline_us"));
        check(
            "0,0.000,low,",
            "line 3, column 2: work_us: 0 is too short; a piece of work takes at least 0.001",
        );
        check(
            "1000000000001,1,low,",
            "line 3, column 1: arrival_us: 1000000000001 µs is more than 1000000000000",
        );
        check(
            "99999999999999999999999,1,low,",
            "line 3, column 1: arrival_us: 99999999999999999999999 µs is more than 1000000000000",
        );
        check(
            "0,1,urgent,",
            "line 3, column 3: priority: \"urgent\" is no priority; there are low, normal, high, real-time",
        );
    }

    #[test]
    fn wrong_headers_are_named() {
        check_header("", 1, "\"\" is no column");
        check_header("arrival_us,work", 2, "\"work\" is no column; there are");
        check_header("arrival_us,work_us,work_us", 3, "twice");
        check_header("arrival_us,work_us", 3, "priority is missing");
        check_header("arrival_us,work_us,priority,burst_us", 5, "together");
    }

    #[test]
    fn half_a_burst_is_refused() {
        let text = "arrival_us,work_us,priority,burst_us,wait_us\n0,1,low,1,\n";
        let error = Workload::from_csv(text).unwrap_err();
        assert_eq!((error.line, error.column), (2, 5), "{error}");
    }

    #[test]
    fn generators_ask_for_the_load_they_were_told() {
        for generator in [Generator::Poisson, Generator::Bimodal] {
            let workload = generator.generate(3, 100_000, 4, 80);
            assert_eq!(workload, generator.generate(3, 100_000, 4, 80));
            assert_ne!(workload, generator.generate(4, 100_000, 4, 80));
            let work_ns: u64 = workload.jobs().iter().map(|job| job.work_ns).sum();
            let span_ns = workload.jobs().last().unwrap().arrival_ns;
            let load = work_ns as f64 / span_ns as f64 / 4.0;
            assert!((0.74..0.86).contains(&load), "{generator}: {load}");
        }
    }

    #[test]
    fn names_are_read_back_and_listed() {
        for generator in Generator::ALL {
            assert_eq!(generator.name().parse(), Ok(generator));
        }
        let error = "pareto".parse::<Generator>().unwrap_err().to_string();
        assert!(error.ends_with("there are poisson, bimodal, skewed"));
    }
}
