//! What a simulation tells, and tables of several of them.

use std::fmt::Write as _;

use super::SimConfig;
use super::engine::Coroutine;
use super::trace::Trace;
use super::workload::Job;
use crate::{CoroutineId, Priority};

/// What one policy made of a workload. All times are virtual.
#[derive(Clone, Debug, PartialEq)]
pub struct SimReport {
    /// The policy's name.
    pub policy: &'static str,
    /// How many vCPUs there were.
    pub vcpu_count: usize,
    /// When the last coroutine ended, or when the simulation was cut.
    pub end_ns: u64,
    /// One entry for each job, in the workload's order.
    pub coroutines: Vec<CoroutineReport>,
    /// Jain's index (Jain, Chiu, Hawe, "A Quantitative Measure of Fairness",
    /// DEC-TR-301, 1984) of the coroutines' shares. A share is what a coroutine
    /// ran of the time in which it wanted to: 1 is a vCPU of its own. 1 if all
    /// shares are equal, 1/n if one of n has everything.
    pub fairness: f64,
    /// Times from a request's being ready to its being done, of all priorities.
    /// A coroutine without bursts is one request; each burst is one.
    pub response: Spread,
    /// The same by [`Priority::level`].
    pub response_of: [Spread; 4],
    /// Coroutines that ended, per second.
    pub throughput: f64,
    /// Time that coroutines ran, by total time, of each vCPU. Switches do not
    /// count as running.
    pub utilisation: Vec<f64>,
    /// Variance of `utilisation`.
    pub imbalance_variance: f64,
    /// Busiest vCPU over the mean, less 1.
    pub imbalance: f64,
    /// The longest time anybody was ready without running.
    pub starvation_ns_max: u64,
    /// Coroutines that ended after their deadline, or were not done by it.
    pub deadline_misses: u64,
    /// Starts of another coroutine than the one before.
    pub n_switches: u64,
    /// Turns that something more urgent cut short.
    pub n_preemptions: u64,
    /// Coroutines queued at one vCPU and taken to another.
    pub n_migrations: u64,
    /// Starts while something at a higher level was ready where the vCPU could
    /// have taken it. Fair sharing makes some on purpose.
    pub n_inversions: u64,
    /// Everything that happened.
    pub trace: Trace,
    /// Sorted, by level.
    responses_ns: [Vec<u64>; 4],
}

/// What became of one coroutine.
#[derive(Clone, Debug, PartialEq)]
pub struct CoroutineReport {
    /// Its number in the workload, from 0.
    pub id: CoroutineId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it was spawned with.
    pub priority: Priority,
    /// When it arrived.
    pub arrival_ns: u64,
    /// When it first got a vCPU; `None` if never.
    pub start_ns: Option<u64>,
    /// When it ended; `None` if it was cut.
    pub end_ns: Option<u64>,
    /// From arrival to end, less what it waited for its user; `None` if it was
    /// cut.
    pub response_ns: Option<u64>,
    /// Time it was ready without running, altogether.
    pub waited_ns: u64,
    /// The longest of these times.
    pub wait_ns_max: u64,
    /// Time it ran.
    pub ran_ns: u64,
    /// Times it got a vCPU.
    pub n_turns: u64,
    /// Times it was taken to another vCPU.
    pub n_migrations: u64,
    /// Whether it has a deadline and missed it.
    pub missed_deadline: bool,
}

/// A distribution of times, in nanoseconds. Percentiles are values that occur
/// (nearest rank).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many there were; all else is 0 if none.
    pub count: usize,
    /// Arithmetic mean.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

impl Spread {
    fn of(sorted_ns: &[u64]) -> Spread {
        let count = sorted_ns.len();
        let Some(max_ns) = sorted_ns.last().copied() else {
            return Spread::default();
        };
        let rank = |percent: usize| sorted_ns[(count * percent).div_ceil(100).max(1) - 1];
        let sum: u128 = sorted_ns.iter().map(|ns| u128::from(*ns)).sum();
        Spread {
            count,
            mean_ns: sum as f64 / count as f64,
            p50_ns: rank(50),
            p99_ns: rank(99),
            max_ns,
        }
    }
}

/// (Σx)² / (n Σx²), after Jain, Chiu and Hawe; 1 for nothing at all.
#[must_use]
pub fn jain_index(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let sum_of_squares: f64 = shares.iter().map(|x| x * x).sum();
    if sum_of_squares > 0.0 {
        sum * sum / (shares.len() as f64 * sum_of_squares)
    } else {
        1.0
    }
}

/// What the engine counts on its way.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) n_switches: u64,
    pub(super) n_preemptions: u64,
    pub(super) n_inversions: u64,
    /// By level of the priority.
    pub(super) responses_ns: [Vec<u64>; 4],
}

impl SimReport {
    #[expect(clippy::too_many_arguments, reason = "the engine taken apart, once")]
    pub(super) fn new(
        policy: &'static str,
        config: &SimConfig,
        end_ns: u64,
        jobs: &[Job],
        coroutines: &[Coroutine],
        busy_ns: Vec<u64>,
        counters: Counters,
        trace: Trace,
    ) -> SimReport {
        let Counters {
            n_switches,
            n_preemptions,
            n_inversions,
            mut responses_ns,
        } = counters;
        responses_ns
            .iter_mut()
            .for_each(|list| list.sort_unstable());
        let all = merged(&responses_ns);

        let shares: Vec<f64> = jobs
            .iter()
            .zip(coroutines)
            .filter(|(_, coroutine)| coroutine.arrived)
            .filter_map(|(job, coroutine)| {
                let present_ns = coroutine.ended_ns.unwrap_or(end_ns) - job.arrival_ns;
                let wanting_ns = present_ns - coroutine.slept_ns;
                (wanting_ns > 0).then(|| coroutine.ran_ns as f64 / wanting_ns as f64)
            })
            .collect();
        let utilisation: Vec<f64> = busy_ns.iter().map(|busy| ratio(*busy, end_ns)).collect();
        let mean = utilisation.iter().sum::<f64>() / utilisation.len() as f64;
        let most = utilisation.iter().copied().fold(0.0, f64::max);
        let variance = utilisation
            .iter()
            .map(|u| (u - mean) * (u - mean))
            .sum::<f64>()
            / utilisation.len() as f64;

        let reports: Vec<CoroutineReport> = (0..)
            .zip(jobs.iter().zip(coroutines))
            .map(|(id, (job, coroutine))| report_of(id, job, coroutine, end_ns))
            .collect();
        let n_ended = reports.iter().filter(|c| c.end_ns.is_some()).count();
        SimReport {
            policy,
            vcpu_count: config.vcpu_count,
            end_ns,
            fairness: jain_index(&shares),
            response: Spread::of(&all),
            response_of: responses_ns.each_ref().map(|list| Spread::of(list)),
            throughput: ratio(n_ended as u64, end_ns) * 1e9,
            imbalance_variance: variance,
            imbalance: if mean > 0.0 { most / mean - 1.0 } else { 0.0 },
            utilisation,
            starvation_ns_max: reports.iter().map(|c| c.wait_ns_max).max().unwrap_or(0),
            deadline_misses: reports.iter().filter(|c| c.missed_deadline).count() as u64,
            n_switches,
            n_preemptions,
            n_migrations: reports.iter().map(|c| c.n_migrations).sum(),
            n_inversions,
            trace,
            coroutines: reports,
            responses_ns,
        }
    }

    /// Response times of all requests that were done, shortest first.
    #[must_use]
    pub fn responses_ns(&self) -> Vec<u64> {
        merged(&self.responses_ns)
    }

    /// Response times of one priority, shortest first.
    #[must_use]
    pub fn responses_of(&self, priority: Priority) -> &[u64] {
        &self.responses_ns[priority.level()]
    }
}

fn report_of(id: u64, job: &Job, coroutine: &Coroutine, end_ns: u64) -> CoroutineReport {
    let done_ns = coroutine.ended_ns.unwrap_or(u64::MAX);
    let due_ns = job
        .deadline_ns
        .map(|after| job.arrival_ns.saturating_add(after));
    CoroutineReport {
        id: CoroutineId::new(id),
        name: job.name.clone(),
        priority: job.priority,
        arrival_ns: job.arrival_ns,
        start_ns: coroutine.started_ns,
        end_ns: coroutine.ended_ns,
        response_ns: coroutine
            .ended_ns
            .map(|ended| ended - job.arrival_ns - coroutine.slept_ns),
        waited_ns: coroutine.waited_ns,
        wait_ns_max: coroutine.wait_ns_max,
        ran_ns: coroutine.ran_ns,
        n_turns: coroutine.n_turns,
        n_migrations: coroutine.n_moves,
        // A deadline beyond the cut is not missed yet.
        missed_deadline: due_ns.is_some_and(|due| done_ns > due && end_ns > due),
    }
}

fn merged(lists: &[Vec<u64>; 4]) -> Vec<u64> {
    let mut all = lists.concat();
    all.sort_unstable();
    all
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Tables of several reports for people, a row for each: what requests got, the
/// same by priority, and what it took.
#[must_use]
pub fn comparison_table(reports: &[SimReport]) -> String {
    let got = table(
        &[
            "policy",
            "p50",
            "p99",
            "mean",
            "worst wait",
            "fairness",
            "missed",
        ],
        reports.iter().map(|report| {
            vec![
                report.policy.to_owned(),
                time(report.response.p50_ns as f64),
                time(report.response.p99_ns as f64),
                time(report.response.mean_ns),
                time(report.starvation_ns_max as f64),
                format!("{:.3}", report.fairness),
                report.deadline_misses.to_string(),
            ]
        }),
    );
    let occurring: Vec<Priority> = Priority::ALL
        .into_iter()
        .rev()
        .filter(|p| reports.iter().any(|r| r.response_of[p.level()].count > 0))
        .collect();
    let headers: Vec<String> = std::iter::once("policy".to_owned())
        .chain(
            occurring
                .iter()
                .flat_map(|p| [format!("{p} p50"), "p99".to_owned()]),
        )
        .collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let by_priority = table(
        &headers,
        reports.iter().map(|report| {
            let times = occurring.iter().flat_map(|priority| {
                let spread = &report.response_of[priority.level()];
                [time(spread.p50_ns as f64), time(spread.p99_ns as f64)]
            });
            std::iter::once(report.policy.to_owned())
                .chain(times)
                .collect()
        }),
    );
    let took = table(
        &[
            "policy",
            "end",
            "done/s",
            "busy",
            "uneven",
            "switches",
            "preempted",
            "moved",
            "inverted",
            "trace",
        ],
        reports.iter().map(|report| {
            let busy = report.utilisation.iter().sum::<f64>() / report.utilisation.len() as f64;
            vec![
                report.policy.to_owned(),
                time(report.end_ns as f64),
                format!("{:.0}", report.throughput),
                format!("{:.1} %", busy * 100.0),
                format!("{:.1} %", report.imbalance * 100.0),
                report.n_switches.to_string(),
                report.n_preemptions.to_string(),
                report.n_migrations.to_string(),
                report.n_inversions.to_string(),
                format!("{:016x}", report.trace.hash),
            ]
        }),
    );
    format!(
        "Response times of requests (simulated)\n\n{got}\n\
         The same by priority\n\n{by_priority}\n\
         What it took\n\n{took}"
    )
}

/// A table of one report for people: a row for each coroutine.
#[must_use]
pub fn coroutine_table(report: &SimReport) -> String {
    let maybe = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| time(ns as f64));
    table(
        &[
            "coroutine",
            "priority",
            "arrival",
            "start",
            "end",
            "response",
            "waited",
            "worst",
            "turns",
            "moved",
            "deadline",
        ],
        report.coroutines.iter().map(|coroutine| {
            vec![
                coroutine
                    .name
                    .clone()
                    .unwrap_or_else(|| coroutine.id.to_string()),
                coroutine.priority.name().to_owned(),
                time(coroutine.arrival_ns as f64),
                maybe(coroutine.start_ns),
                maybe(coroutine.end_ns),
                maybe(coroutine.response_ns),
                time(coroutine.waited_ns as f64),
                time(coroutine.wait_ns_max as f64),
                coroutine.n_turns.to_string(),
                coroutine.n_migrations.to_string(),
                if coroutine.missed_deadline {
                    "missed"
                } else {
                    ""
                }
                .to_owned(),
            ]
        }),
    )
}

/// The first column to the left, the others to the right.
fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let headers = headers.iter().map(|header| (*header).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width_of).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Three digits and a unit.
pub(super) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let decimals = match value {
        _ if ns < 1e3 => 0,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ns: f64, expected: &str) {
        assert_eq!(time(ns), expected);
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        check(0.0, "0 ns");
        check(999.0, "999 ns");
        check(1_500.0, "1.50 µs");
        check(50_000.0, "50.0 µs");
        check(999_400.0, "999 µs");
        check(12_345_678.0, "12.3 ms");
        check(600_000_000_000.0, "600 s");
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        let spread = Spread::of(&(1..=200).collect::<Vec<_>>());
        assert_eq!(
            (spread.p50_ns, spread.p99_ns, spread.max_ns),
            (100, 198, 200)
        );
        assert_eq!((spread.count, spread.mean_ns), (200, 100.5));
        let one = Spread::of(&[7]);
        assert_eq!((one.p50_ns, one.p99_ns), (7, 7));
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["fcfs", "1 µs"], ["round-robin", "20 ms"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let text = table(&["policy", "p50"], rows.into_iter());
        assert_eq!(
            text,
            "policy         p50\nfcfs          1 µs\nround-robin  20 ms\n"
        );
    }
}
