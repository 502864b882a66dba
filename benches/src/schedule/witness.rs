//! What the host kept from this process, by its own accounts: so that a reader
//! of a latency can tell the host's part from the scheduler's.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use perf_bench::{Direction, Metrics, Unit};

/// What the host had accounted so far.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Of each thread of this process, by its number.
    threads: HashMap<OsString, Thread>,
    /// Time that the machine's CPUs were taken away by what runs it, all summed.
    stolen: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Thread {
    ran_ns: u64,
    /// Ready, and not running: the host ran others.
    waited_ns: u64,
}

impl Accounts {
    /// Where /proc does not say, nothing is accounted.
    pub(super) fn now() -> Accounts {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
        let threads = tasks.flatten().filter_map(|task| {
            // One that has ended meanwhile has none.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name(), thread_of(&text)?))
        });
        Accounts {
            threads: threads.collect(),
            stolen: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|text| stolen_of(&text)),
        }
    }

    /// Adds what came since: how long the thread that ran most waited for a CPU
    /// (for threads of this process, too), and how many CPUs were stolen from the
    /// whole machine, both relative to `wall`. What the host does not account is
    /// left out.
    pub(super) fn push_since(&self, metrics: &mut Metrics, wall: Duration) -> Result<()> {
        let now = Accounts::now();
        let since = now.threads.iter().map(|(number, now)| {
            let before = self.threads.get(number).copied().unwrap_or_default();
            Thread {
                ran_ns: now.ran_ns.saturating_sub(before.ran_ns),
                waited_ns: now.waited_ns.saturating_sub(before.waited_ns),
            }
        });
        if let Some(busiest) = since.max_by_key(|thread| thread.ran_ns) {
            metrics.push(
                "busiest thread ready and not run",
                busiest.waited_ns as f64 / wall.as_nanos() as f64,
                Unit::Ratio,
                Direction::Lower,
            )?;
        }
        if let (Some(now), Some(before)) = (now.stolen, self.stolen) {
            metrics.push(
                "CPUs stolen from the machine",
                now.saturating_sub(before).as_secs_f64() / wall.as_secs_f64(),
                Unit::Ratio,
                Direction::Lower,
            )?;
        }
        Ok(())
    }
}

/// By `/proc/PID/task/TID/schedstat`: time run, time ready, turns.
fn thread_of(schedstat: &str) -> Option<Thread> {
    let mut fields = schedstat.split_ascii_whitespace().map(str::parse);
    Some(Thread {
        ran_ns: fields.next()?.ok()?,
        waited_ns: fields.next()?.ok()?,
    })
}

/// By `/proc/stat`: the eighth number of the line of all CPUs, in hundredths of
/// a second.
fn stolen_of(stat: &str) -> Option<Duration> {
    let all = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: u64 = all.split_ascii_whitespace().nth(8)?.parse().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_as_the_kernel_writes_them() {
        let thread = thread_of("120 7 3\n").unwrap();
        assert_eq!((thread.ran_ns, thread.waited_ns), (120, 7));
        assert_eq!(thread_of(""), None);
        let stat = "cpu  1 2 3 4 5 6 7 81 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(stolen_of(stat), Some(Duration::from_millis(810)));
        assert_eq!(stolen_of("cpu0 1 2 3 4 5 6 7 8 9 10\n"), None);
        assert_eq!(stolen_of("cpu 1 2 3\n"), None, "an old kernel's");
    }
}
