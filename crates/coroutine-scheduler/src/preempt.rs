//! Making running coroutines make way.
//!
//! Each vCPU has one word, 0 while nothing is asked. Bodies that run long poll
//! it (a guest's compiled code does at its back-edges) and then return to their
//! `await`: [`checkpoint`] does both. The bits say why, so that the vCPU knows
//! where the coroutine goes:
//!
//! ```text
//!   SLICE   its time is over, equals wait      to the tail of its level
//!   HIGHER  something more urgent is ready     to the head: its turn goes on,
//!                                              with what is left of its slice
//!   CANCEL  it was aborted, or all is closing  its body is dropped
//!   PAUSE   somebody paused it                 suspended
//! ```
//!
//! The word is a request, and cleared before each run: raising it too late
//! costs the next coroutine a needless turn, nothing else; too early, and it is
//! lost, so the monitor raises CANCEL and PAUSE again and again while they hold.
//! Who yields while it is raised has yielded, and goes to the tail.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use crossbeam_utils::CachePadded;

use crate::Priority;
use crate::policy::Policy;
use crate::scheduler::Shared;
use crate::vcpu::{self, Turn, Vcpu};

/// The slice is over.
pub const SLICE: u32 = 1;
/// Something more urgent is ready.
pub const HIGHER: u32 = 1 << 1;
/// The coroutine was aborted, or the scheduler shuts down.
pub const CANCEL: u32 = 1 << 2;
/// The coroutine was paused.
pub const PAUSE: u32 = 1 << 3;

/// Calls `body` with the preempt word of the vCPU that runs this coroutine, for
/// code that polls it by itself. Outside of a coroutine the word is one that
/// nobody raises. A stackful coroutine may wait inside: the word is that of its
/// vCPU afterwards, too.
///
/// An abort or a pause by a [`Coroutine`](crate::Coroutine) raises it within a
/// slice, or 100 ms where slices are longer. In [`blocking`](crate::blocking)
/// there is no vCPU: the word is raised at its end, and [`is_preempted`] alone
/// sees aborts and pauses before. Where the caller drives
/// ([`run_one`](crate::CoroutineScheduler::run_one)) there is no monitor, and
/// only calls through a [`SchedulerHandle`](crate::SchedulerHandle) raise it.
pub fn with_preempt_word<R>(body: impl FnOnce(&AtomicU32) -> R) -> R {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    // Counted: a stackful body may be suspended inside (rule L2).
    let grip = vcpu::on_current(|local| {
        local.say_where();
        Arc::clone(local.grip())
    });
    match grip {
        Some(grip) => body(&grip.preempt),
        None => body(&NEVER),
    }
}

/// Whether the running coroutine is asked to make way.
#[inline]
#[must_use]
pub fn is_preempted() -> bool {
    let is_asked = vcpu::on_current(|local| {
        // A handle's abort or pause raises the word late, and that of a thread
        // without a vCPU never: the task's own state says so at once.
        if local.grip().preempt.load(Ordering::Relaxed) != 0 {
            local.say_where();
            return true;
        }
        (local.task.get()).is_some_and(|task| task.header().state.is_stopped())
    });
    is_asked.unwrap_or(false)
}

/// A safepoint: goes on at once unless the coroutine is asked to make way.
#[derive(Debug, Default)]
#[must_use = "it makes way only when awaited"]
pub struct Checkpoint {
    was_pending: bool,
}

/// Makes way if asked to; await it wherever a long computation can stop.
pub fn checkpoint() -> Checkpoint {
    Checkpoint::default()
}

impl Future for Checkpoint {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.was_pending || !is_preempted() {
            return Poll::Ready(());
        }
        self.was_pending = true;
        give_turn(cx, Turn::MakesWay)
    }
}

/// Gives up the turn; see [`yield_now`].
#[derive(Debug, Default)]
#[must_use = "it gives up the turn only when awaited"]
pub struct YieldNow {
    was_pending: bool,
}

/// Lets others of the same level run first. In a coroutine of this crate this
/// is a trip through the queue; elsewhere the waker is woken.
pub fn yield_now() -> YieldNow {
    YieldNow::default()
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.was_pending {
            return Poll::Ready(());
        }
        self.was_pending = true;
        give_turn(cx, Turn::Yields)
    }
}

/// Pending, and ready again: without the waker where the vCPU can see it by
/// itself, which saves the atomics of a wake.
#[inline]
fn give_turn(cx: &mut Context<'_>, turn: Turn) -> Poll<()> {
    if !vcpu::end_turn(cx.waker(), turn) {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

impl Shared {
    /// Asks the vCPU that runs the least urgent coroutine to make way for
    /// `level`, if the policy wants that.
    pub(crate) fn preempt_for(&self, level: Priority) {
        self.preempt_among(&self.vcpus, level);
    }

    /// The same for what only one vCPU can run.
    pub(crate) fn preempt_vcpu_for(&self, vcpu: usize, level: Priority) {
        self.preempt_among(std::slice::from_ref(&self.vcpus[vcpu]), level);
    }

    fn preempt_among(&self, vcpus: &[CachePadded<Vcpu>], level: Priority) {
        let is_urgent = level == Priority::RealTime;
        if !self.config.preemptive || !(is_urgent || self.preempting.has(level)) {
            return;
        }
        // Who is between two coroutines may have just found something else, and
        // cannot be asked yet. One load for both: it may begin to run meanwhile.
        let mut is_any_between = false;
        let running = vcpus.iter().filter_map(|vcpu| {
            let Some(running) = vcpu.running_level() else {
                is_any_between |= !vcpu.is_asleep();
                return None;
            };
            self.policy
                .preempts(level, running)
                .then_some((running, vcpu))
        });
        let asked = running.min_by_key(|(running, _)| *running);
        if let Some((_, vcpu)) = asked {
            vcpu.ask(HIGHER);
        }
        // Where all run `RealTime` there is nothing to expect.
        if asked.is_some() || (is_any_between && is_urgent) {
            // Who does not answer soon loses its vCPU, and who was not asked is.
            let by_ns = crate::clock::now_ns() + crate::monitor::ANSWER_NS;
            self.monitor.expect_by(by_ns);
        }
    }

    /// Asks every vCPU.
    pub(crate) fn preempt_all(&self, why: u32) {
        for vcpu in &self.vcpus {
            vcpu.ask(why);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::CoroutineScheduler;
    use crate::common::oversubscribed;

    /// Which levels may is asked when the scheduler is made.
    #[test]
    fn who_runs_is_asked_to_make_way_as_the_policy_says() {
        for policy in crate::SchedulingPolicy::ALL {
            let config = crate::SchedulerConfig {
                policy,
                ..oversubscribed(1)
            };
            let scheduler = CoroutineScheduler::new(config).unwrap();
            let shared = scheduler.shared();
            let vcpu = &shared.vcpus[0];
            let grip = vcpu.claim().unwrap();
            for (arriving, running) in Priority::ALL
                .map(|a| Priority::ALL.map(|r| (a, r)))
                .concat()
            {
                vcpu.running
                    .store(running.level() as u64 + 1, Ordering::SeqCst);
                grip.preempt.store(0, Ordering::SeqCst);
                shared.preempt_for(arriving);
                let is_asked = grip.preempt.load(Ordering::SeqCst) == HIGHER;
                let wants = shared.policy.preempts(arriving, running);
                assert_eq!(is_asked, wants, "{policy}: {arriving:?}, {running:?}");
            }
            vcpu.running.store(0, Ordering::SeqCst);
            vcpu.release();
        }
    }

    /// As two that wake each other, on vCPUs that run nothing else.
    #[test]
    fn among_real_time_alone_the_monitor_expects_nothing() {
        const RUNS: u64 = 1 << 8;
        let running = |level: Priority| RUNS | (level.level() as u64 + 1);
        let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
        let shared = scheduler.shared();
        let next_look = &shared.monitor.next_look;
        let expects_when = |runs: [u64; 2], is_asleep: [u8; 2]| {
            for (vcpu, (runs, is_asleep)) in
                shared.vcpus.iter().zip(runs.into_iter().zip(is_asleep))
            {
                vcpu.running.store(runs, Ordering::SeqCst);
                vcpu.is_asleep.store(is_asleep, Ordering::SeqCst);
            }
            let expects_after = |preempt: &dyn Fn()| {
                next_look.begin_look();
                let until = next_look.end_look(u64::MAX);
                preempt();
                next_look.until() != Some(until)
            };
            [
                expects_after(&|| shared.preempt_for(Priority::RealTime)),
                expects_after(&|| shared.preempt_vcpu_for(1, Priority::RealTime)),
            ]
        };
        let (real, low) = (running(Priority::RealTime), running(Priority::Low));
        assert_eq!(expects_when([real, real], [0, 0]), [false, false]);
        assert_eq!(expects_when([real, RUNS], [0, 1]), [false, false], "asleep");
        // One of them may be about to run something else.
        assert_eq!(expects_when([real, RUNS], [0, 0]), [true, true]);
        assert_eq!(expects_when([real, low], [0, 0]), [true, true]);
        assert_eq!(expects_when([low, real], [0, 0]), [true, false]);
        for vcpu in &shared.vcpus {
            vcpu.running.store(RUNS, Ordering::SeqCst);
            vcpu.is_asleep.store(1, Ordering::SeqCst);
        }
    }
}
