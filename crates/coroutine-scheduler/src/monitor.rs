//! The thread that watches the clock while vCPUs are busy: slices that are
//! over, deadlines whose vCPU is in a long run, boosts, balancing.
//!
//! It sleeps without an end while every vCPU sleeps, and to the next moment of
//! interest otherwise: it costs nothing when idle.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::policy::Policy;
use crate::preempt::SLICE;
use crate::scheduler::Shared;
use crate::vcpu::park::Parker;
use crate::{Priority, vcpu::Vcpu};

/// The least time between two looks.
const TICK_MIN: Duration = Duration::from_micros(50);
/// How often homes are looked at.
pub(crate) const BALANCE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Monitor {
    parker: Parker,
    /// Whether it sleeps until a vCPU awakes.
    is_dormant: AtomicU32,
    /// When it looks next.
    next_look_ns: AtomicU64,
}

impl Default for Monitor {
    fn default() -> Monitor {
        Monitor {
            parker: Parker::default(),
            is_dormant: AtomicU32::new(0),
            next_look_ns: AtomicU64::new(u64::MAX),
        }
    }
}

impl Monitor {
    /// A vCPU is awake again.
    #[inline]
    pub(crate) fn vcpu_awoke(&self) {
        if self.is_dormant.load(Ordering::SeqCst) != 0 {
            self.parker.unpark();
        }
    }

    /// There is a deadline that it should not sleep over.
    pub(crate) fn expect_by(&self, deadline_ns: u64) {
        let next = self.next_look_ns.load(Ordering::Relaxed);
        if next != u64::MAX && deadline_ns < next {
            self.parker.unpark();
        }
    }

    pub(crate) fn stop(&self) {
        self.parker.unpark();
    }
}

/// What it saw of a vCPU at the last look.
#[derive(Clone, Copy, Default)]
struct Seen {
    running: u64,
}

/// The thread's loop.
pub(crate) fn run(shared: &Shared) {
    let monitor = &shared.monitor;
    let mut seen = vec![Seen::default(); shared.vcpus.len()];
    let slice_ns = shared.config.time_slice.as_nanos() as u64;
    let boost_ns = shared
        .policy
        .boost_every()
        .map(|every| every.as_nanos() as u64);
    let (mut next_boost, mut next_balance) = (0, 0);
    while !shared.is_over() {
        if all_sleep(shared) {
            monitor.next_look_ns.store(u64::MAX, Ordering::SeqCst);
            monitor.is_dormant.store(1, Ordering::SeqCst);
            if all_sleep(shared) && !shared.is_over() {
                monitor.parker.park(None);
            }
            monitor.is_dormant.store(0, Ordering::SeqCst);
            continue;
        }
        let now = clock::now_ns();
        let mut next = now + slice_ns.min(BALANCE_EVERY.as_nanos() as u64);
        let is_real = !shared.config.clock.is_virtual();
        for vcpu in shared.vcpus.iter().filter(|_| is_real) {
            let due = vcpu.timers.next_ns();
            // Parked vCPUs wake by themselves, and those between two
            // coroutines look, too; what is a little late is ours.
            if vcpu.running_level().is_some() && due <= now {
                vcpu.timers.fire(now);
            }
            let due = vcpu.timers.next_ns();
            if due > now {
                next = next.min(due);
            }
        }
        if shared.config.preemptive {
            for (vcpu, seen) in shared.vcpus.iter().zip(&mut seen) {
                check_slice(shared, vcpu, seen);
            }
        }
        if let Some(boost_ns) = boost_ns
            && now >= next_boost
        {
            next_boost = now + boost_ns;
            shared.n_boosts.fetch_add(1, Ordering::Relaxed);
        }
        if now >= next_balance {
            next_balance = now + BALANCE_EVERY.as_nanos() as u64;
            shared.balance_by_time();
        }
        // A second pair of eyes: nobody sleeps while something waits.
        if shared.idle.sleepers() != 0 && shared.anything_waits() {
            shared.wake_for(Priority::Low);
        }
        monitor.next_look_ns.store(next, Ordering::Relaxed);
        let wait = Duration::from_nanos(next.saturating_sub(clock::now_ns()));
        monitor.parker.park(Some(wait.max(TICK_MIN)));
    }
}

fn all_sleep(shared: &Shared) -> bool {
    shared
        .vcpus
        .iter()
        .all(|vcpu| vcpu.is_asleep.load(Ordering::SeqCst) != 0)
}

/// Raises SLICE where one coroutine has had its vCPU for a slice while others
/// wait there.
fn check_slice(shared: &Shared, vcpu: &Vcpu, seen: &mut Seen) {
    let running = vcpu.running.load(Ordering::Acquire);
    let was_same = std::mem::replace(&mut seen.running, running) == running;
    let Some(level) = vcpu.running_level().filter(|_| was_same) else {
        return;
    };
    let Some(slice) = shared.policy.slice(level) else {
        return;
    };
    let start = vcpu.run_start_ticks.load(Ordering::Relaxed);
    let ran_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(start));
    if u128::from(ran_ns) >= slice.as_nanos() && vcpu.n_ready() > 0 {
        vcpu.preempt.fetch_or(SLICE, Ordering::Relaxed);
    }
}
