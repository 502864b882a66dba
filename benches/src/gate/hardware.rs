//! Counts of this thread by the kernel's `perf_event_open`, where the host lets it:
//! most virtual machines have no counter of instructions, and some containers refuse
//! the call.

use anyhow::{Context as _, Result};
use perf_event::Builder;
use perf_event::events::{Event, Hardware};

/// Instructions in user mode while `body` runs.
///
/// # Errors
/// If this host does not count them, or `body` fails.
pub(super) fn instructions_of(body: impl FnOnce() -> Result<u64>) -> Result<u64> {
    count(Hardware::INSTRUCTIONS, body)
}

fn count(event: impl Into<Event>, body: impl FnOnce() -> Result<u64>) -> Result<u64> {
    let refused = "this host gives no counter (perf_event_open)";
    let mut counter = Builder::new().kind(event).build().context(refused)?;
    counter.enable().context(refused)?;
    let done = body();
    counter.disable().context(refused)?;
    done?;
    let counts = counter.read_count_and_time().context(refused)?;
    // Others may have had the counter for a part of the time.
    anyhow::ensure!(
        counts.time_running == counts.time_enabled && counts.count > 0,
        "the counter did not run all the time"
    );
    Ok(counts.count)
}

#[cfg(test)]
mod tests {
    use perf_event::events::Software;

    use super::*;

    fn spin(turns: u64) -> Result<u64> {
        Ok((0..turns).fold(0, |sum, turn| std::hint::black_box(sum ^ turn)))
    }

    /// The clock of a thread is counted on every host that has the call.
    #[test]
    fn what_the_host_counts_grows_and_what_it_refuses_is_told() {
        match count(Software::TASK_CLOCK, || spin(100_000)) {
            Ok(ns) => assert!(ns > 0),
            Err(error) => assert!(
                format!("{error:#}").contains("perf_event_open"),
                "{error:#}"
            ),
        }
        match [1_000, 100_000].map(|turns| instructions_of(|| spin(turns))) {
            [Ok(few), Ok(many)] => assert!(many > 10 * few, "{few} and {many}"),
            [Err(error), _] | [_, Err(error)] => {
                assert!(format!("{error:#}").contains("counter"), "{error:#}");
            }
        }
        let failed = count(Software::TASK_CLOCK, || anyhow::bail!("the body's"));
        assert!(failed.is_err());
    }
}
