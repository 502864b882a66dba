//! The thread that watches the clock while vCPUs are busy: slices that are
//! over, deadlines whose vCPU is in a long run, aborts and pauses of what runs,
//! boosts, balancing.
//!
//! Each turn of its loop first does *errands*, what threads that may be weak
//! should not do themselves, and then *looks* at the vCPUs. It sleeps without an
//! end while every vCPU sleeps, and to the next moment of interest otherwise
//! ([`next_look`] says who may bring that forward, and how): it costs nothing
//! when idle.

mod next_look;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::clock;
use crate::coroutine::{Coroutine, CoroutineId};
use crate::policy::Policy;
use crate::preempt::{CANCEL, HIGHER, PAUSE, SLICE};
use crate::scheduler::Shared;
use crate::task::state;
use crate::vcpu::park::Parker;
use crate::{Priority, host, vcpu::Vcpu};
pub(crate) use next_look::NextLook;

/// The least time between two looks.
const TICK_MIN: Duration = Duration::from_micros(50);
/// How often homes are looked at.
pub(crate) const BALANCE_EVERY: Duration = Duration::from_millis(100);

/// How long a coroutine that runs while `RealTime` waits may take to make way
/// before the monitor looks whether it could have; in a system call that is
/// enough to lose the vCPU.
pub(crate) const ANSWER_NS: u64 = 100_000;

/// Processor time after which a thread has had its chance to answer. What the
/// kernel does meanwhile is charged to it (interrupts, other processes' page
/// tables): bursts of half a millisecond were measured on a busy host.
const CHANCE_NS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Monitor {
    parker: Parker,
    pub(crate) next_look: NextLook,
}

impl Monitor {
    /// A vCPU is awake again.
    #[inline]
    pub(crate) fn vcpu_awoke(&self) {
        if self.next_look.is_dormant() {
            self.parker.unpark();
        }
    }

    /// There is a deadline that it should not sleep over. Who calls has put it
    /// where the monitor looks.
    pub(crate) fn expect_by(&self, deadline_ns: u64) {
        if self.next_look.expect_by(deadline_ns) {
            self.parker.unpark();
        }
    }

    /// There is an errand for it.
    pub(crate) fn call(&self) {
        self.parker.unpark();
    }

    pub(crate) fn stop(&self) {
        self.parker.unpark();
    }
}

/// What it saw of a vCPU at the last look.
#[derive(Clone, Copy, Default)]
struct Seen {
    running: u64,
    /// When it was asked to make way; 0 if it was not.
    asked_ns: u64,
    /// What its thread had used of a processor then.
    asked_cpu_ns: Option<u64>,
    /// What it counted as running, and when, as it was taken for `RealTime`:
    /// until it runs something, its new thread is on its way to that.
    taken: Option<(u64, u64)>,
}

/// What waits for vCPUs while others are watched.
#[derive(Clone, Copy)]
struct Urgency {
    /// `RealTime` that this vCPU could run waits.
    waits: bool,
    /// No vCPU that was taken before is on its way to it.
    may_take: bool,
}

/// Turns that it asks the host for. It has a few microseconds to do, on CPUs
/// that vCPUs keep busy: with turns like theirs, one wake in a hundred waited
/// for the end of one of those, 2 to 4 ms, and what was due with it.
const TURN_NS: u64 = 100_000;

/// The thread's loop.
pub(crate) fn run(shared: &Shared) {
    // Refused, it is late more often; nothing else changes.
    let _is_taken = host::ask_for_short_turns(TURN_NS);
    let monitor = &shared.monitor;
    let mut seen = vec![Seen::default(); shared.vcpus.len()];
    let slice_ns = shared.config.time_slice.as_nanos() as u64;
    let boost_ns = shared
        .policy
        .boost_every()
        .map(|every| every.as_nanos() as u64);
    let (mut next_boost, mut next_balance) = (0, 0);
    let mut is_wake_late = false;
    while !shared.is_over() {
        shared.run_errands();
        if all_sleep(shared) {
            monitor.next_look.sleep();
            if all_sleep(shared) && !shared.is_over() {
                // Unless unused stacks have memory to give back.
                monitor.parker.park(shared.stacks.trim_after());
                shared.stacks.trim_by_time(clock::now_ns());
            }
            // Who awakes now need not wake it.
            monitor.next_look.begin_look();
            continue;
        }
        monitor.next_look.begin_look();
        let now = clock::now_ns();
        let mut next = now + slice_ns.min(BALANCE_EVERY.as_nanos() as u64);
        let is_real = !shared.config.clock.is_virtual();
        for vcpu in shared.vcpus.iter().filter(|_| is_real) {
            let due = vcpu.timers.next_ns();
            // Parked vCPUs wake by themselves, and those between two
            // coroutines look, too; what is a little late is ours, and so is
            // what is late in any case: a body's drop may take its time.
            let is_late = due.saturating_add(ANSWER_NS) <= now;
            if (vcpu.running_level().is_some() && due <= now) || is_late {
                vcpu.timers.fire(now);
            }
            let due = vcpu.timers.next_ns();
            if due > now {
                next = next.min(due);
            }
        }
        for vcpu in &shared.vcpus {
            ask_if_stopped(shared, vcpu);
        }
        if shared.config.preemptive {
            let mut is_any_urgent = false;
            for index in 0..seen.len() {
                // Anew each time: one that was just taken goes to one of them.
                let n_urgent = shared.n_urgent();
                // Those that stay here wait for nobody else.
                let waits_here = shared.vcpus[index].pinned_levels().has(Priority::RealTime);
                let urgency = Urgency {
                    waits: n_urgent > 0 || waits_here,
                    // Who is coming matters only where somebody waits.
                    may_take: waits_here
                        || (n_urgent > 0 && n_urgent > n_coming(shared, &seen, now, slice_ns)),
                };
                is_any_urgent |= urgency.waits;
                watch(shared, index, &mut seen[index], now, urgency);
            }
            if is_any_urgent {
                next = next.min(now + ANSWER_NS);
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
            shared.stacks.trim_by_time(now);
        }
        is_wake_late = shared.look_after_wakes(is_wake_late);
        let until = monitor.next_look.end_look(next);
        let wait = Duration::from_nanos(until.saturating_sub(clock::now_ns()));
        monitor.parker.park(Some(wait.max(TICK_MIN)));
    }
    shared.close_errands();
}

fn all_sleep(shared: &Shared) -> bool {
    shared.vcpus.iter().all(|vcpu| vcpu.is_asleep())
}

/// Asks a coroutine that was aborted or paused for a safepoint: who polls the
/// word by itself sees nothing else of that.
///
/// A handle cannot raise the word, since it may outlive the scheduler and its
/// vCPUs. And who raises it from outside may do so before the run clears it:
/// here that is no loss, there is another look.
fn ask_if_stopped(shared: &Shared, vcpu: &Vcpu) {
    if vcpu.running_level().is_none() {
        return;
    }
    let id = CoroutineId(vcpu.running_id.load(Ordering::Relaxed));
    let Some(running) = shared.registry.find(id).map(Coroutine::new) else {
        return;
    };
    let word = running.task().header().state.load();
    if word & state::CLOSED != 0 {
        vcpu.ask(CANCEL);
    } else if word & state::PAUSED != 0 {
        vcpu.ask(PAUSE);
    }
}

/// How many vCPUs are about to look for work: those in search of it, and those
/// that were taken for `RealTime` and have run nothing since, for a slice.
fn n_coming(shared: &Shared, seen: &[Seen], now: u64, slice_ns: u64) -> usize {
    let is_coming = |(vcpu, seen): (&CachePadded<Vcpu>, &Seen)| {
        seen.taken.is_some_and(|(running, at)| {
            vcpu.running.load(Ordering::SeqCst) == running && now.saturating_sub(at) < slice_ns
        })
    };
    let taken = shared.vcpus.iter().zip(seen);
    taken.filter(|both| is_coming(*both)).count() + shared.idle.n_searching()
}

/// Looks at what one vCPU runs. While others wait for it, a coroutine is asked
/// to make way when its slice is over; one that has not answered a slice later
/// (or very soon, while `RealTime` waits that no other vCPU is on its way to)
/// loses the vCPU.
fn watch(shared: &Shared, index: usize, seen: &mut Seen, now: u64, urgency: Urgency) {
    let vcpu = &shared.vcpus[index];
    let running = vcpu.running.load(Ordering::SeqCst);
    if seen.running != running {
        *seen = Seen {
            running,
            taken: seen.taken,
            ..Seen::default()
        };
    }
    let Some(level) = vcpu.running_level() else {
        return;
    };
    let is_urgent = urgency.waits && level < Priority::RealTime;
    let Some(slice) = shared.policy.slice(level) else {
        return;
    };
    let slice_ns = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    let start = vcpu.slice_start_ticks.load(Ordering::Relaxed);
    let ran_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(start));
    let takes_soon = is_urgent && urgency.may_take;
    let is_spent = !takes_soon && ran_ns >= slice_ns && is_waited_for(shared, vcpu);
    if !is_urgent && !is_spent {
        return;
    }
    if seen.asked_ns == 0 {
        seen.asked_ns = now;
        vcpu.ask(if is_urgent { HIGHER } else { SLICE });
        // Afterwards: what it uses from here on, it uses with the word raised.
        seen.asked_cpu_ns = vcpu.thread().and_then(host::thread_cpu_ns);
        return;
    }
    let patience_ns = match (takes_soon, is_spent) {
        (true, _) => ANSWER_NS,
        (false, true) => slice_ns,
        (false, false) => return,
    };
    let is_late = now.saturating_sub(seen.asked_ns) >= patience_ns;
    let is_taken = shared.config.hand_off
        && is_late
        && could_answer(vcpu, seen, patience_ns)
        && shared.take_stuck(index, running);
    if is_taken && takes_soon {
        seen.taken = Some((vcpu.running.load(Ordering::SeqCst), now));
    }
}

/// Whether the thread of a vCPU has had the time to answer since it was asked:
/// it ran for so long, or sleeps in a system call. One that the host has put
/// behind other threads could not, and would be no better off as another one.
/// (Without this, a busy host makes coroutines lose their vCPU that poll the
/// word all the time.)
fn could_answer(vcpu: &Vcpu, seen: &Seen, patience_ns: u64) -> bool {
    let Some(thread) = vcpu.thread() else {
        return true;
    };
    match (seen.asked_cpu_ns, host::thread_cpu_ns(thread)) {
        (Some(asked), Some(now)) if now.saturating_sub(asked) < patience_ns.max(CHANCE_NS) => {
            host::is_runnable(thread) != Some(true)
        }
        _ => true,
    }
}

/// Whether something waits at this vCPU that nobody else takes: what only it
/// can run, or anything at all while no vCPU is free.
fn is_waited_for(shared: &Shared, vcpu: &Vcpu) -> bool {
    vcpu.has_private_work() || (shared.idle.sleepers() == 0 && vcpu.n_ready() > 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::common::{oversubscribed, started};
    use crate::{CoroutineScheduler, SchedulerConfig};

    fn without_hand_off(vcpu_count: usize, thread_name: &str) -> CoroutineScheduler {
        started(SchedulerConfig {
            hand_off: false,
            thread_name: thread_name.to_owned(),
            ..oversubscribed(vcpu_count)
        })
    }

    /// Work that wakes nobody, beside a sleeper that `spoil` is told of: the wake
    /// is late, and not lost.
    fn check_a_late_wake(spoil: impl Fn(&Shared, usize)) {
        let scheduler = without_hand_off(2, "late");
        let shared = scheduler.shared();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        // Keeps one vCPU, and the monitor awake.
        let hog = scheduler.spawn(async move {
            while !stops.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let busy = loop {
            let busy = shared
                .vcpus
                .iter()
                .position(|v| v.running_level().is_some());
            if let Some(busy) = busy
                && shared.idle.sleepers() == 1 << (1 - busy)
                && shared.vcpus[1 - busy].is_asleep()
            {
                break busy;
            }
            thread::yield_now();
        };
        spoil(shared, 1 - busy);
        let made = scheduler.create_coroutine(Priority::Normal, 1, async {});
        let made = made.unwrap();
        let task = made.task();
        let then = task.header().state.submit().unwrap();
        assert_eq!(then, state::Then::Queue);
        // All of a push but for the wake.
        shared.vcpus[busy].push_unseen(shared, busy, task);
        made.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        hog.unwrap().join().unwrap();
    }

    /// As where the host refuses the barrier by which a maker of work and a
    /// sleeper see each other.
    #[test]
    fn a_sleeper_that_missed_a_wake_is_woken_at_the_next_look() {
        check_a_late_wake(|_, _| ());
    }

    #[test]
    fn a_sleeper_whose_waker_has_stopped_is_woken_at_the_next_look() {
        check_a_late_wake(|shared, sleeper| assert!(shared.idle.take(sleeper)));
    }

    #[test]
    fn a_sleeper_beside_a_stopped_searcher_is_woken_at_the_second_look() {
        check_a_late_wake(|shared, _| assert!(shared.idle.begin_search()));
    }

    #[test]
    fn the_monitor_asks_for_short_turns() {
        let may_ask = thread::spawn(|| host::ask_for_short_turns(TURN_NS));
        let may_ask = may_ask.join().unwrap();
        let scheduler = without_hand_off(1, "short");
        let next_look = &scheduler.shared().monitor.next_look;
        // Its first look comes afterwards.
        while next_look.until().is_none() && !next_look.is_dormant() {
            thread::yield_now();
        }
        assert_eq!(host::has_asked_for_short_turns("short-mon"), Some(may_ask));
    }
}
