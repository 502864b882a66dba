//! One thread runs a few jobs in slices: urgent ones first, equals in turn.
//!
//! Each job counts primes in ranges of numbers, one range per slice.

#![allow(clippy::print_stdout, reason = "an example")]

use std::time::{Duration, Instant};

use coroutine_scheduler::{CoroutineState, IllegalTransition, Priority, ReadyQueue};

struct Job {
    name: &'static str,
    state: CoroutineState,
    next: u64,
    end: u64,
    n_primes: usize,
    busy: Duration,
}

impl Job {
    fn new(name: &'static str, end: u64) -> Self {
        Self {
            name,
            state: CoroutineState::Created,
            next: 2,
            end,
            n_primes: 0,
            busy: Duration::ZERO,
        }
    }

    /// Works off one slice.
    fn resume(&mut self) {
        let start = Instant::now();
        let slice_end = (self.next + 20_000).min(self.end);
        self.n_primes += (self.next..slice_end).filter(|n| is_prime(*n)).count();
        self.next = slice_end;
        self.busy += start.elapsed();
    }
}

fn is_prime(n: u64) -> bool {
    (2..)
        .take_while(|d| d * d <= n)
        .all(|d| !n.is_multiple_of(d))
}

fn main() -> Result<(), IllegalTransition> {
    let mut queue = ReadyQueue::new();
    for (priority, mut job) in [
        (Priority::Low, Job::new("statistics", 60_000)),
        (Priority::Normal, Job::new("guest 1", 100_000)),
        (Priority::Normal, Job::new("guest 2", 100_000)),
        (Priority::High, Job::new("compile", 40_000)),
    ] {
        job.state.advance(CoroutineState::Ready)?;
        queue.push(priority, job);
    }
    while let Some((priority, mut job)) = queue.pop() {
        job.state.advance(CoroutineState::Running)?;
        job.resume();
        if job.next < job.end {
            job.state.advance(CoroutineState::Ready)?;
            queue.push(priority, job);
        } else {
            job.state.advance(CoroutineState::Dead)?;
            println!(
                "{:<10} ({priority}): {} primes below {}, {:?} of work",
                job.name, job.n_primes, job.end, job.busy
            );
        }
    }
    Ok(())
}
