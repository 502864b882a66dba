//! [`SchedulerConfig`]: every knob with its default, its cost, and the values
//! that make no sense.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::ConfigError;
use crate::policy::SchedulingPolicy;
use crate::stack::StackConfig;

/// vCPUs at most: the sets of idle and of waiting vCPUs are one word each.
pub const VCPUS_MAX: usize = 64;

/// How levels share a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fairness {
    /// Urgent levels first, but nobody starves: `RealTime` and `High` together
    /// leave at least 5 % of each 100 ms to the rest while the rest waits, and
    /// `Low` gets one turn for every eight of `Normal`.
    #[default]
    Fair,
    /// Nothing runs while anything more urgent is ready, on whichever vCPU. A
    /// busy level starves those below it.
    Strict,
}

/// How a thread that lost its vCPU runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeakClass {
    /// With the least share (niceness 19), until its coroutine lets go. Where
    /// the host does not let it rise again, it ends then.
    #[default]
    Nice,
    /// Only with what nobody else wants (`SCHED_IDLE`), until its coroutine lets
    /// go. For computations that take no locks: one that is held by such a
    /// thread on a busy host stalls all who need it, the allocator's included. So
    /// it is with the scheduler's own, which a spawn or a wake in that poll takes
    /// for a moment. Where the host does not let it rise again (without
    /// `CAP_SYS_NICE` or `RLIMIT_NICE` it does not), the thread ends its
    /// coroutine's turn idle as well, under the scheduler's locks, and then
    /// itself; the next hand-off costs a new one. Threads that the coroutine
    /// makes meanwhile stay idle. A thread of a class that is not the host's
    /// ordinary one is left as it is.
    Idle,
    /// As an equal: for coroutines that hold locks the others need.
    Same,
}

/// What a scheduler is made of. Fields can be set one by one over
/// `SchedulerConfig::default()`; [`validate`](Self::validate) says which of
/// them cannot be honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Worker threads. Default: the CPUs this process may use. More than those
    /// is refused unless `oversubscribe` is set, and so are more than
    /// [`VCPUS_MAX`].
    pub vcpu_count: usize,
    /// Allows more vCPUs than CPUs. They then take turns as the host decides,
    /// and latencies are the host's. Default false.
    pub oversubscribe: bool,
    /// Coroutines alive at once. Default 4,194,304; one costs about 110 bytes beside
    /// its body.
    pub max_coroutines: usize,
    /// Coroutines ready at once, as far as spawning is concerned: a spawn
    /// beyond it is refused, a wake or `schedule` never is. Those paused or
    /// aborted in a queue count until it is their turn; spawns at the same moment
    /// may exceed it by their number. Default: `max_coroutines`.
    pub ready_queue_size: usize,
    /// How long a coroutine keeps its vCPU while others of its level wait, if
    /// its body polls the preempt word. Default 1 ms. Shorter slices answer
    /// sooner and cost a switch each.
    pub time_slice: Duration,
    /// Whether running coroutines are asked to make way at all. Default true;
    /// false leaves every coroutine its vCPU until it waits or yields.
    pub preemptive: bool,
    /// Whether a vCPU goes to another thread while its coroutine neither ends
    /// its turn nor polls the preempt word, and others wait. Default true.
    /// Needs `preemptive`; costs a thread for each coroutine that is stuck.
    pub hand_off: bool,
    /// How the thread of such a coroutine competes for CPUs from then on.
    /// Default [`WeakClass::Nice`].
    pub weak_class: WeakClass,
    /// Whether new coroutines go to the least loaded vCPU and homes are moved
    /// every 100 ms. Default true. Idle vCPUs steal in either case.
    pub enable_load_balancing: bool,
    /// Spread of utilisation (most minus least, relative to the mean) above
    /// which homes are moved. Default 0.3.
    pub load_balance_threshold: f64,
    /// Who runs when. Default [`SchedulingPolicy::LoadBalancing`].
    pub policy: SchedulingPolicy,
    /// How levels share. Default [`Fairness::Fair`].
    pub fairness: Fairness,
    /// Runs that each vCPU remembers for
    /// [`trace`](crate::SchedulerHandle::trace); 32 bytes each and a few
    /// nanoseconds a run. At most 16,777,216. Default 0: off.
    pub trace_runs: usize,
    /// Stacks of stackful coroutines: how large, how many, how kept.
    pub stacks: StackConfig,
    /// What timers follow. Default: the host's monotonic clock.
    pub clock: Clock,
    /// Threads are called this, a dash and a number. Default `vcpu`.
    pub thread_name: String,
}

/// Half a gigabyte for each vCPU.
const TRACE_RUNS_MAX: usize = 1 << 24;

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        const COROUTINES: usize = 1 << 22;
        SchedulerConfig {
            vcpu_count: host_cpus().min(VCPUS_MAX),
            oversubscribe: false,
            max_coroutines: COROUTINES,
            ready_queue_size: COROUTINES,
            time_slice: Duration::from_millis(1),
            preemptive: true,
            hand_off: true,
            weak_class: WeakClass::default(),
            enable_load_balancing: true,
            load_balance_threshold: 0.3,
            policy: SchedulingPolicy::default(),
            fairness: Fairness::default(),
            trace_runs: 0,
            stacks: StackConfig::default(),
            clock: Clock::Real,
            thread_name: "vcpu".to_owned(),
        }
    }
}

/// CPUs this process may use.
pub(crate) fn host_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl SchedulerConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field whose value cannot be honoured, and what would do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: &dyn std::fmt::Display, expected: String| {
            Err(ConfigError {
                field,
                value: value.to_string(),
                expected,
            })
        };
        let cpus = host_cpus();
        let vcpus_max = if self.oversubscribe {
            VCPUS_MAX
        } else {
            cpus.min(VCPUS_MAX)
        };
        if !(1..=vcpus_max).contains(&self.vcpu_count) {
            let mut expected = format!("1 to {vcpus_max} (this process may use {cpus} CPUs");
            if !self.oversubscribe {
                expected += "; oversubscribe allows more";
            }
            expected.push(')');
            return refuse("vcpu_count", &self.vcpu_count, expected);
        }
        if !(1..=crate::task::registry::COROUTINES_MAX).contains(&self.max_coroutines) {
            let expected = format!("1 to {}", crate::task::registry::COROUTINES_MAX);
            return refuse("max_coroutines", &self.max_coroutines, expected);
        }
        if self.ready_queue_size == 0 {
            return refuse("ready_queue_size", &0, "at least 1".to_owned());
        }
        let slices = Duration::from_micros(10)..=Duration::from_secs(10);
        if !slices.contains(&self.time_slice) {
            let value = format!("{:?}", self.time_slice);
            return refuse("time_slice", &value, "10 µs to 10 s".to_owned());
        }
        let threshold = self.load_balance_threshold;
        if !(threshold > 0.0 && threshold <= 10.0) {
            let expected = "above 0, at most 10 (0.3 is 30 %)".to_owned();
            return refuse("load_balance_threshold", &threshold, expected);
        }
        if self.trace_runs > TRACE_RUNS_MAX {
            let expected = format!("0 to {TRACE_RUNS_MAX}");
            return refuse("trace_runs", &self.trace_runs, expected);
        }
        if let Some((field, value, expected)) = self.stacks.first_bad_field() {
            return refuse(field, &value, expected.to_owned());
        }
        let name = &self.thread_name;
        if name.is_empty() || name.len() > 10 || name.contains('\0') {
            let expected = "1 to 10 bytes without NUL: Linux keeps 15 with the number".to_owned();
            return refuse("thread_name", &format!("{name:?}"), expected);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut SchedulerConfig), field: &str) {
        let mut config = SchedulerConfig::default();
        change(&mut config);
        let error = config.validate().expect_err("an impossible value");
        assert_eq!(error.field, field);
        assert!(error.to_string().contains(field), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        SchedulerConfig::default().validate().unwrap();
        check(|c| c.vcpu_count = 0, "vcpu_count");
        check(|c| c.vcpu_count = host_cpus() + 1, "vcpu_count");
        check(|c| c.max_coroutines = 0, "max_coroutines");
        check(|c| c.max_coroutines = usize::MAX, "max_coroutines");
        check(|c| c.ready_queue_size = 0, "ready_queue_size");
        check(|c| c.trace_runs = usize::MAX, "trace_runs");
        check(|c| c.time_slice = Duration::ZERO, "time_slice");
        check(|c| c.time_slice = Duration::MAX, "time_slice");
        for threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            check(
                |c| c.load_balance_threshold = threshold,
                "load_balance_threshold",
            );
        }
        check(|c| c.stacks.stacks_max = 0, "stacks.stacks_max");
        check(|c| c.thread_name = String::new(), "thread_name");
    }
}
