//! What a scheduler counts, cheap enough to leave on: each counter is written
//! by one vCPU with plain stores, and read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::balance;
use crate::clock::{ticks, ticks_to_ns};
use crate::stack::StackStats;
use crate::task::header::add_own;

/// Counters of one vCPU, in ticks where they are times.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) executions: AtomicU64,
    /// Runs that ended on a thread that had lost the vCPU; written by any.
    pub(crate) weak_executions: AtomicU64,
    pub(crate) switches: AtomicU64,
    pub(crate) busy_ticks: AtomicU64,
    pub(crate) idle_ticks: AtomicU64,
    /// When it fell asleep, if it sleeps: idle time that is not booked yet.
    pub(crate) asleep_since: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) stolen_coroutines: AtomicU64,
    pub(crate) parks: AtomicU64,
    pub(crate) preemptions: AtomicU64,
    pub(crate) inversions: AtomicU64,
    pub(crate) deadline_misses: AtomicU64,
    pub(crate) latency: Histogram,
    pub(crate) poll_time: Histogram,
}

const SUB_BITS: u32 = 2;
const N_BUCKETS: usize = (64 << SUB_BITS) as usize;

/// Ticks by magnitude: four buckets for each power of two, so a quantile is off
/// by an eighth at most.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU64; N_BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([const { AtomicU64::new(0) }; N_BUCKETS])
    }
}

fn bucket_of(ticks: u64) -> usize {
    let ticks = ticks.max(1 << SUB_BITS);
    let log = ticks.ilog2();
    let sub = (ticks >> (log - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (log as usize) << SUB_BITS | sub as usize
}

/// Middle of a bucket.
fn middle_of(bucket: usize) -> u64 {
    let (log, sub) = (bucket >> SUB_BITS, bucket & ((1 << SUB_BITS) - 1));
    let Some(shift) = (log as u32).checked_sub(SUB_BITS) else {
        return 0;
    };
    let low = ((1 << SUB_BITS) + sub as u64) << shift;
    low + (1 << shift) / 2
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&self, ticks: u64) {
        add_own(&self.0[bucket_of(ticks)], 1);
    }

    fn add_to(&self, sums: &mut [u64; N_BUCKETS]) {
        for (sum, bucket) in sums.iter_mut().zip(&self.0) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
}

/// How a time was distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// How many were recorded.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 90 of 100.
    pub p90: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// 999 of 1,000.
    pub p999: Duration,
    /// All of them. Like the others within an eighth.
    pub max: Duration,
}

impl Quantiles {
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Quantiles {
        let mut sums = [0; N_BUCKETS];
        histograms.for_each(|histogram| histogram.add_to(&mut sums));
        let count: u64 = sums.iter().sum();
        if count == 0 {
            return Quantiles::default();
        }
        let at = |share: f64| {
            let rank = ((count as f64 * share).ceil() as u64).clamp(1, count);
            let mut below = 0;
            let bucket = sums.iter().position(|n| {
                below += n;
                below >= rank
            });
            Duration::from_nanos(ticks_to_ns(middle_of(bucket.unwrap_or(0))))
        };
        Quantiles {
            count,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

/// What one vCPU has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VCPUStats {
    /// Times it ran a coroutine.
    pub executions: u64,
    /// Times it went from one coroutine to another.
    pub context_switches: u64,
    /// Time in coroutines.
    pub busy_time: Duration,
    /// Time asleep or in search of work.
    pub idle_time: Duration,
    /// Times it took work from another vCPU, having none as urgent.
    pub steals: u64,
    /// Coroutines that came from other vCPUs' queues: by `steals`, and by
    /// evening out queues while it has work itself, which those do not count.
    pub stolen_coroutines: u64,
    /// Times it fell asleep.
    pub parks: u64,
    /// Times a coroutine gave it up because it was asked to.
    pub preemptions: u64,
    /// Coroutines that ended on it.
    pub ended: u64,
}

impl VCPUStats {
    /// Busy time as a share of all time, 0 to 1; 0 before there is any.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let all = (self.busy_time + self.idle_time).as_secs_f64();
        if all > 0.0 {
            self.busy_time.as_secs_f64() / all
        } else {
            0.0
        }
    }
}

impl Counters {
    pub(crate) fn snapshot(&self, ended: u64) -> VCPUStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |ticks| Duration::from_nanos(ticks_to_ns(ticks));
        let asleep_for = match get(&self.asleep_since) {
            0 => 0,
            since => ticks().saturating_sub(since),
        };
        VCPUStats {
            executions: get(&self.executions) + get(&self.weak_executions),
            context_switches: get(&self.switches),
            busy_time: time(get(&self.busy_ticks)),
            idle_time: time(get(&self.idle_ticks) + asleep_for),
            steals: get(&self.steals),
            stolen_coroutines: get(&self.stolen_coroutines),
            parks: get(&self.parks),
            preemptions: get(&self.preemptions),
            ended,
        }
    }
}

/// A vCPU at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VCpuInfo {
    /// Its number.
    pub id: usize,
    /// What it is doing.
    pub state: VcpuState,
    /// Ticks of the time-stamp counter since it started.
    pub total_cycles: u64,
    /// Those in which it ran nothing.
    pub available_cycles: u64,
    /// Coroutines ready at it, what it runs not counted.
    pub coroutine_count: usize,
    /// Busy share, 0 to 1.
    pub utilization: f64,
}

/// What a vCPU is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VcpuState {
    /// It sleeps, or has no thread.
    #[default]
    Idle,
    /// It runs a coroutine.
    Running,
    /// It is awake, between coroutines or in search of one.
    Waiting,
}

/// All of a scheduler at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerStats {
    /// Coroutines spawned so far.
    pub total_coroutines: u64,
    /// Those alive.
    pub active_coroutines: usize,
    /// Sum over the vCPUs.
    pub context_switches: u64,
    /// Mean busy share of the vCPUs, 0 to 1.
    pub cpu_utilization: f64,
    /// Times homes were moved by the balancer.
    pub load_balances: u64,
    /// Coroutines moved by it or by hand.
    pub migrations: u64,
    /// Picks that left something more urgent waiting, in strict mode: at most one
    /// for each vCPU and arrival, that which the arrival overlaps. Among coroutines
    /// of one vCPU that wake each other this is 0.
    pub priority_inversions: u64,
    /// `RealTime` coroutines that ran first after their deadline.
    pub deadline_misses: u64,
    /// From ready to running: every wake from outside, and every eighth of the
    /// others.
    pub latency: Quantiles,
    /// Time of one run of a coroutine.
    pub poll_time: Quantiles,
    /// Times a vCPU went to another thread because its coroutine was stuck or
    /// blocked.
    pub handoffs: u64,
    /// Times it could not: too many weak threads, or none to be had, or a filter
    /// forbids the `membarrier` that it takes.
    pub handoffs_refused: u64,
    /// Those of them that were for too many weak threads: four for each vCPU. Who
    /// keeps it is in [`stalls`](crate::SchedulerHandle::stalls).
    pub weak_limit_hits: u64,
    /// Threads now that lost their vCPU and have not ended their poll.
    pub weak_threads: usize,
    /// Stacks of stackful coroutines.
    pub stacks: StackStats,
    /// Each vCPU.
    pub vcpus: Vec<VCPUStats>,
}

impl SchedulerStats {
    /// Variance of the vCPUs' busy shares.
    #[must_use]
    pub fn imbalance_variance(&self) -> f64 {
        balance::variance(&self.utilizations())
    }

    /// Standard deviation of the busy shares over their mean.
    #[must_use]
    pub fn imbalance_cov(&self) -> f64 {
        balance::coefficient_of_variation(&self.utilizations())
    }

    /// Most busy time of a vCPU over the mean, minus 1.
    #[must_use]
    pub fn imbalance_max_over_mean(&self) -> f64 {
        let busy: Vec<f64> = self
            .vcpus
            .iter()
            .map(|vcpu| vcpu.busy_time.as_secs_f64())
            .collect();
        balance::max_over_mean(&busy)
    }

    fn utilizations(&self) -> Vec<f64> {
        self.vcpus.iter().map(VCPUStats::utilization).collect()
    }
}

/// The text exposition format of Prometheus, version 0.0.4.
pub(crate) fn prometheus(stats: &SchedulerStats) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP coroutine_{name} {help}");
        let _ = writeln!(out, "# TYPE coroutine_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "coroutine_{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let each = |field: &dyn Fn(&VCPUStats) -> f64| -> Vec<(String, f64)> {
        let vcpus = stats.vcpus.iter().enumerate();
        vcpus
            .map(|(i, vcpu)| (format!("{{vcpu=\"{i}\"}}"), field(vcpu)))
            .collect()
    };
    let quantiles = |q: &Quantiles| -> Vec<(String, f64)> {
        [
            ("0.5", q.p50),
            ("0.9", q.p90),
            ("0.99", q.p99),
            ("0.999", q.p999),
        ]
        .map(|(name, time)| (format!("{{quantile=\"{name}\"}}"), time.as_secs_f64()))
        .to_vec()
    };
    metric(
        "spawned_total",
        "counter",
        "Coroutines spawned.",
        &one(stats.total_coroutines as f64),
    );
    metric(
        "alive",
        "gauge",
        "Coroutines alive.",
        &one(stats.active_coroutines as f64),
    );
    metric(
        "executions_total",
        "counter",
        "Runs of coroutines.",
        &each(&|v| v.executions as f64),
    );
    metric(
        "switches_total",
        "counter",
        "Changes of coroutine.",
        &each(&|v| v.context_switches as f64),
    );
    metric(
        "busy_seconds_total",
        "counter",
        "Time in coroutines.",
        &each(&|v| v.busy_time.as_secs_f64()),
    );
    metric(
        "idle_seconds_total",
        "counter",
        "Time without one.",
        &each(&|v| v.idle_time.as_secs_f64()),
    );
    metric(
        "steals_total",
        "counter",
        "Times work was taken from another vCPU.",
        &each(&|v| v.steals as f64),
    );
    metric(
        "preemptions_total",
        "counter",
        "Turns ended on request.",
        &each(&|v| v.preemptions as f64),
    );
    metric(
        "handoffs_total",
        "counter",
        "vCPUs that went to another thread.",
        &one(stats.handoffs as f64),
    );
    metric(
        "handoffs_refused_total",
        "counter",
        "vCPUs that had to stay with a stuck coroutine, at each look.",
        &one(stats.handoffs_refused as f64),
    );
    metric(
        "weak_limit_hits_total",
        "counter",
        "Those of them for too many weak threads.",
        &one(stats.weak_limit_hits as f64),
    );
    metric(
        "weak_threads",
        "gauge",
        "Threads that lost their vCPU.",
        &one(stats.weak_threads as f64),
    );
    metric(
        "priority_inversions_total",
        "counter",
        "Picks beside something more urgent.",
        &one(stats.priority_inversions as f64),
    );
    metric(
        "deadline_misses_total",
        "counter",
        "Starts after the deadline.",
        &one(stats.deadline_misses as f64),
    );
    metric(
        "imbalance_variance",
        "gauge",
        "Variance of the busy shares.",
        &one(stats.imbalance_variance()),
    );
    metric(
        "latency_seconds",
        "summary",
        "From ready to running.",
        &quantiles(&stats.latency),
    );
    metric(
        "poll_seconds",
        "summary",
        "One run.",
        &quantiles(&stats.poll_time),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_close() {
        let mut last = 0;
        for ticks in (2..40).flat_map(|log| [1_u64 << log, (1 << log) + (1 << log) / 3]) {
            let bucket = bucket_of(ticks);
            assert!(bucket >= last, "{ticks}");
            last = bucket;
            let off = middle_of(bucket).abs_diff(ticks) as f64 / ticks as f64;
            assert!(off <= 0.125, "{ticks} counts as {}", middle_of(bucket));
        }
        assert!(bucket_of(u64::MAX) < N_BUCKETS);
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let histogram = Histogram::default();
        let unit = crate::clock::ns_to_ticks(1_000_000);
        for ms in 1..=100 {
            histogram.record(ms * unit);
        }
        let quantiles = Quantiles::of([&histogram].into_iter());
        assert_eq!(quantiles.count, 100);
        for (value, ms) in [(quantiles.p50, 50.0), (quantiles.p99, 99.0)] {
            let off = value.as_secs_f64() * 1e3 / ms;
            assert!((0.8..1.2).contains(&off), "{value:?} for {ms} ms");
        }
    }
}
