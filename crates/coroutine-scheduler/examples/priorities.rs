//! Four priorities beside each other: what is urgent is done first, what is not
//! still gets on. Each coroutine counts primes and makes way when asked to.

#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Duration;

use coroutine_scheduler::{
    CoroutineScheduler, Priority, SchedulerConfig, SpawnOptions, checkpoint, interval, now,
};

fn is_prime(n: u64) -> bool {
    (2..)
        .take_while(|d| d * d <= n)
        .all(|d| !n.is_multiple_of(d))
}

async fn count_primes(end: u64) -> (u64, Duration) {
    let mut count = 0;
    for n in 2..end {
        count += u64::from(is_prime(n));
        checkpoint().await;
    }
    (count, now())
}

async fn tick(times: u32) -> Duration {
    let mut ticks = interval(Duration::from_millis(1));
    let mut latest = Duration::ZERO;
    for _ in 0..times {
        let due = ticks.tick().await;
        latest = latest.max(now() - due);
    }
    latest
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
    scheduler.start()?;
    let options = |priority| SpawnOptions::new().priority(priority);
    let counters: Vec<_> = [Priority::Low, Priority::Normal, Priority::High]
        .into_iter()
        .map(|priority| {
            let counter = scheduler.spawn_with(options(priority), count_primes(400_000));
            counter.map(|counter| (priority, counter))
        })
        .collect::<Result<_, _>>()?;
    let ticker = scheduler.spawn_with(options(Priority::RealTime), tick(50))?;
    println!("a tick was late by {:?} at most", ticker.join()?);
    for (priority, counter) in counters {
        let (count, at) = counter.join()?;
        println!("{priority:<9} counted {count} primes by {at:?}");
    }
    Ok(())
}
