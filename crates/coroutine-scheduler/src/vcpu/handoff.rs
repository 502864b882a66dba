//! Hand-off: another thread goes on with the vCPU of one that is stuck.
//!
//! The monitor takes vCPUs whose coroutine neither ends its poll nor polls the
//! preempt word while others wait ([`Shared::take_stuck`]); [`blocking`] gives
//! the vCPU away at once. Spare threads wait to take over; there are made as
//! many as are needed, up to a limit, and one stays parked for each vCPU.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use parking_lot::Mutex;
use rustix::process::{Pid, setpriority_process};

use super::local::on_current;
use super::park::Parker;
use super::{Grip, Take, Vcpu};
use crate::config::WeakClass;
use crate::coroutine::CoroutineId;
use crate::host::{self, Standing};
use crate::preempt;
use crate::scheduler::Shared;
use crate::stall::StallEnd;

/// Weak threads at once, for each vCPU.
const WEAK_PER_VCPU: usize = 4;
/// Niceness of a weak thread of class [`WeakClass::Nice`].
const WEAK_NICE: i32 = 19;

/// Threads without a vCPU: weak ones, and spares.
#[derive(Debug, Default)]
pub(crate) struct Handoffs {
    spares: Mutex<Vec<Arc<Spare>>>,
    pub(crate) n_weak: AtomicUsize,
    pub(crate) n_handoffs: AtomicU64,
    /// Times a stuck coroutine kept its vCPU because there were too many weak
    /// threads, no thread could be made, or the barrier was refused.
    pub(crate) n_refused: AtomicU64,
    /// Those of them that were for too many weak threads.
    pub(crate) n_limit_hits: AtomicU64,
    /// Coroutines on weak threads.
    stuck: Mutex<Vec<CoroutineId>>,
    n_threads: AtomicUsize,
    /// Of the scheduler's threads, once it was started.
    standing: OnceLock<Standing>,
    errands: Mutex<Errands>,
}

/// What the monitor does for threads that may be weak.
#[derive(Default)]
struct Errands {
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    /// There is no monitor, and there will be none.
    is_closed: bool,
}

impl fmt::Debug for Errands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errands")
            .field("n_waiting", &self.waiting.len())
            .field("is_closed", &self.is_closed)
            .finish()
    }
}

#[derive(Debug, Default)]
struct Spare {
    parker: Parker,
    vcpu: Mutex<Option<usize>>,
}

/// How a thread's time at a vCPU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The scheduler is done.
    Over,
    /// Somebody else has the vCPU.
    Lost,
}

impl Shared {
    /// What a vCPU thread does all its life: run a vCPU, lose it, wait for
    /// another one.
    pub(crate) fn vcpu_thread(&self, mut vcpu: usize) {
        let _entered = self.tokio.enter();
        while super::run(self, vcpu) == Left::Lost {
            // Refused by the host: a nicer thread should have no vCPU.
            if !self.restore_standing() {
                return;
            }
            match self.wait_as_spare() {
                Some(next) => vcpu = next,
                None => return,
            }
        }
    }

    /// Notes the standing of this thread for those that it is about to make.
    pub(crate) fn note_standing(&self) {
        if let Some(standing) = Standing::own() {
            self.handoffs.standing.get_or_init(|| standing);
        }
    }

    /// Makes this thread, which was weak or made by a weak one, compete as the
    /// scheduler's threads do; whether it does.
    pub(crate) fn restore_standing(&self) -> bool {
        match (self.handoffs.standing.get(), Standing::own()) {
            (Some(&own), Some(now)) => now == own || own.restore(now),
            // Where it cannot be read it was not changed either.
            _ => true,
        }
    }

    /// Lets the monitor do what a weak thread should not: threads that it made
    /// would compete as little as it does. `None` if there is no monitor any
    /// more. For coroutines, on a vCPU thread.
    pub(crate) fn do_on_monitor<R: Send + 'static>(
        &self,
        errand: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, receiver) = mpsc::channel();
        let errand = Box::new(move || {
            // Who waits for it does not go before it is done.
            let _ = sender.send(errand());
        });
        {
            let mut errands = self.handoffs.errands.lock();
            if errands.is_closed {
                return None;
            }
            errands.waiting.push(errand);
        }
        self.monitor.call();
        receiver.recv().ok()
    }

    /// The monitor's side, at each look.
    pub(crate) fn run_errands(&self) {
        // Not under the lock: they take their time.
        let waiting = std::mem::take(&mut self.handoffs.errands.lock().waiting);
        for errand in waiting {
            errand();
        }
    }

    /// No monitor comes any more: who waits for one hears of it.
    pub(crate) fn close_errands(&self) {
        let mut errands = self.handoffs.errands.lock();
        errands.is_closed = true;
        errands.waiting.clear();
    }

    fn wait_as_spare(&self) -> Option<usize> {
        let spare = Arc::new(Spare::default());
        {
            let mut spares = self.handoffs.spares.lock();
            if spares.len() >= self.vcpus.len() || self.is_over() {
                return None;
            }
            spares.push(Arc::clone(&spare));
        }
        self.wait_for_vcpu(&spare)
    }

    /// The vCPU that a spare is given; `None` when the scheduler is over.
    fn wait_for_vcpu(&self, spare: &Spare) -> Option<usize> {
        loop {
            spare.parker.park(None);
            let vcpu = spare.vcpu.lock().take();
            if vcpu.is_some() || self.is_over() {
                return vcpu;
            }
        }
    }

    /// The scheduler is over: spares go home.
    pub(crate) fn dismiss_spares(&self) {
        for spare in self.handoffs.spares.lock().drain(..) {
            spare.parker.unpark();
        }
    }

    /// Takes a vCPU whose coroutine has run since `running` was seen, and gives
    /// it to another thread; whether it did.
    pub(crate) fn take_stuck(&self, index: usize, running: u64) -> bool {
        let vcpu = &self.vcpus[index];
        let Some(grip) = vcpu.holder.lock().grip.clone() else {
            return false;
        };
        let note = |end| {
            let id = CoroutineId(vcpu.running_id.load(Ordering::Relaxed));
            if vcpu.running.load(Ordering::SeqCst) == running {
                self.note_stall(&grip, vcpu.stall(index, running, id, end));
            }
            false
        };
        // A started stack stays on its thread, and so does its vCPU. (Looked at
        // again below, where the holder cannot start one unseen.)
        let has_stacks = || vcpu.n_stacks.load(Ordering::Acquire) != 0;
        if has_stacks() {
            return note(StallEnd::KeptByStack);
        }
        let spare = match self.admit_spare() {
            Ok(spare) => spare,
            Err(why) => return note(why),
        };
        let mut id = 0;
        let is_still = || {
            id = vcpu.running_id.load(Ordering::Relaxed);
            vcpu.running.load(Ordering::SeqCst) == running && !has_stacks()
        };
        let stall = |id| vcpu.stall(index, running, CoroutineId(id), StallEnd::HandedOff);
        let take = grip.take(&self.idle, is_still);
        if take == Take::Refused {
            self.handoffs.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        if take != Take::Taken {
            self.keep_spare(spare);
            return take == Take::Refused && note(StallEnd::KeptByHost);
        }
        self.handoffs.stuck.lock().push(CoroutineId(id));
        let seen = stall(id);
        let thread = grip.thread.load(Ordering::Relaxed);
        // Refused by a filter or a limit: it then competes as an equal.
        let _is_taken = match self.config.weak_class {
            WeakClass::Nice => setpriority_process(Pid::from_raw(thread), WEAK_NICE).is_ok(),
            WeakClass::Idle => host::make_idle(thread),
            WeakClass::Same => true,
        };
        self.hand_to(vcpu, index, spare);
        // Should its poll have ended meanwhile, it has waited for this.
        grip.settle_standing();
        // At last: others wait for the vCPU.
        self.note_stall(&grip, seen);
        true
    }

    /// The holder of a vCPU gives it away: it is going to block.
    pub(crate) fn give_away(&self, index: usize, grip: &Grip) {
        // Only where it has the vCPU: a weak thread is nicer than others, and
        // so would be the threads that it makes.
        if let Some(spare) = grip.give_away(&self.idle, || self.admit_spare().ok()) {
            self.hand_to(&self.vcpus[index], index, spare);
            grip.settle_standing();
        }
    }

    /// A spare was not needed after all.
    fn keep_spare(&self, spare: Arc<Spare>) {
        self.handoffs.spares.lock().push(spare);
        if self.is_over() {
            // Those that were there have been dismissed already.
            self.dismiss_spares();
        }
    }

    /// The vCPU is free: its next holder is `spare`.
    fn hand_to(&self, vcpu: &Vcpu, index: usize, spare: Arc<Spare>) {
        self.handoffs.n_weak.fetch_add(1, Ordering::SeqCst);
        self.handoffs.n_handoffs.fetch_add(1, Ordering::Relaxed);
        let running = vcpu.running.load(Ordering::Relaxed);
        vcpu.running.store((running | 0xff) + 1, Ordering::SeqCst);
        vcpu.holder.lock().grip = Some(Arc::new(Grip::new()));
        *spare.vcpu.lock() = Some(index);
        spare.parker.unpark();
    }

    /// A thread for a vCPU, unless there are too many weak ones already or none
    /// is to be had: then the refusal is counted.
    fn admit_spare(&self) -> Result<Arc<Spare>, StallEnd> {
        let limit = WEAK_PER_VCPU * self.vcpus.len();
        let spare = if self.handoffs.n_weak.load(Ordering::SeqCst) < limit {
            self.find_spare().ok_or(StallEnd::KeptByHost)
        } else {
            self.handoffs.n_limit_hits.fetch_add(1, Ordering::Relaxed);
            Err(StallEnd::KeptByLimit)
        };
        if spare.is_err() {
            self.handoffs.n_refused.fetch_add(1, Ordering::Relaxed);
        }
        spare
    }

    /// A thread that waits for a vCPU: a parked one, or a new one.
    fn find_spare(&self) -> Option<Arc<Spare>> {
        if let Some(spare) = self.handoffs.spares.lock().pop() {
            return Some(spare);
        }
        let spare = Arc::new(Spare::default());
        let theirs = Arc::clone(&spare);
        let number = self.vcpus.len() + self.handoffs.n_threads.fetch_add(1, Ordering::Relaxed);
        let body = move |shared: &Shared| {
            if let Some(vcpu) = shared.wait_for_vcpu(&theirs) {
                shared.vcpu_thread(vcpu);
            }
        };
        self.spawn_thread(&number.to_string(), body).ok()?;
        Some(spare)
    }

    /// Another thread of this scheduler; joined when it shuts down.
    pub(crate) fn spawn_thread(
        &self,
        name: &str,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<()> {
        let name = format!("{}-{name}", self.config.thread_name);
        let Some(shared) = self.own.upgrade() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let thread = thread::Builder::new().name(name).spawn(move || {
            precise_timers();
            super::work_for(&shared);
            let bomb = Bomb;
            body(&shared);
            std::mem::forget(bomb);
        })?;
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// Coroutines that run on weak threads.
    pub(crate) fn stuck(&self) -> Vec<CoroutineId> {
        self.handoffs.stuck.lock().clone()
    }

    pub(crate) fn note_unstuck(&self, id: CoroutineId) {
        self.handoffs.stuck.lock().retain(|stuck| *stuck != id);
    }
}

/// Linux rounds sleeps up by 50 µs unless a thread asks for better.
pub(crate) fn precise_timers() {
    let least = std::num::NonZeroU64::new(1);
    // Where a filter forbids it, sleeps are less exact; nothing else changes.
    let _ = rustix::thread::set_current_timer_slack(least);
}

/// Runs code that blocks its thread (a system call, a lock of somebody else's)
/// or computes for long, in a coroutine. The vCPU goes to another thread first,
/// so nobody waits for it; the coroutine then ends its poll on this one.
/// Outside of a coroutine it just runs the code.
///
/// Where a started stack keeps the thread at its vCPU, or there are too many
/// such threads already, the code runs all the same and the vCPU waits.
///
/// Afterwards, also after a panic of the code, the coroutine is asked to make
/// way: its next safepoint takes it back to a vCPU.
pub fn blocking<R>(body: impl FnOnce() -> R) -> R {
    on_current(|local| {
        local.say_where();
        local.give_away();
    });
    let _asks = AsksIfLost;
    body()
}

/// The end of [`blocking`], by a panic as well: that may be caught.
struct AsksIfLost;

impl Drop for AsksIfLost {
    fn drop(&mut self) {
        on_current(|local| {
            let grip = local.grip();
            if grip.is_lost() {
                // Nobody else raises the word of a thread without a vCPU.
                grip.preempt.fetch_or(preempt::SLICE, Ordering::Relaxed);
            }
        });
    }
}

/// Ends the process when a thread of the scheduler unwinds. Bodies, their
/// outputs and foreign wakers do not get that far; what does, a policy of
/// somebody's or a fault here, leaves a vCPU whose coroutines would wait for
/// ever, and with them everybody else.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(
            io::stderr(),
            "coroutine-scheduler: thread {name} panicked outside of a coroutine (in a Policy?): \
             its coroutines cannot go on, the process ends"
        );
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rustix::process::getpriority_process;

    use super::*;
    use crate::common::{oversubscribed, started};
    use crate::{Priority, SchedulerConfig, SpawnOptions, spawn, yield_now};

    /// Takes every vCPU from whatever it runs, again and again, without waiting
    /// for anything: a monitor whose patience is 0.
    fn take_all(shared: &Shared, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for (index, vcpu) in shared.vcpus.iter().enumerate() {
                if vcpu.running_level().is_some() {
                    shared.take_stuck(index, vcpu.running.load(Ordering::SeqCst));
                }
            }
        }
    }

    /// Whether this host lets a thread rise again that it has made nicer.
    fn may_rise() -> bool {
        let rises = || {
            let own = Standing::own().unwrap();
            setpriority_process(None, WEAK_NICE).unwrap();
            own.restore(Standing::own().unwrap())
        };
        thread::spawn(rises).join().unwrap()
    }

    /// Otherwise the monitor, which takes that lock, may wait for a thread that
    /// the host lets wait.
    #[test]
    fn a_weak_thread_rises_before_it_takes_a_lock_of_the_monitors() {
        let scheduler = started(oversubscribed(1));
        let shared = scheduler.shared();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let (sender, receiver) = mpsc::channel();
        let hog = scheduler.spawn(async move {
            let thread = rustix::thread::gettid();
            sender.send((thread, getpriority_process(None))).unwrap();
            while !stops.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let (weak, own) = receiver.recv().unwrap();
        scheduler.spawn(async {}).unwrap().join().unwrap();
        while getpriority_process(Some(weak)) != Ok(WEAK_NICE) {
            thread::yield_now();
        }
        let stuck = loop {
            let stuck = shared.handoffs.stuck.lock();
            if !stuck.is_empty() {
                break stuck;
            }
        };
        stop.store(true, Ordering::Relaxed);
        // Else nothing can be seen of it.
        let may_rise = may_rise();
        while may_rise && getpriority_process(Some(weak)) != own {
            thread::yield_now();
        }
        assert_eq!(
            *stuck,
            [hog.as_ref().unwrap().id()],
            "it waits for the lock"
        );
        drop(stuck);
        hog.unwrap().join().unwrap();
        assert!(scheduler.stuck().is_empty());
    }

    #[test]
    fn a_monitor_without_patience_loses_nothing() {
        for weak_class in [WeakClass::Nice, WeakClass::Same, WeakClass::Idle] {
            let scheduler = started(SchedulerConfig {
                // The monitor proper: one taker at a time.
                hand_off: false,
                weak_class,
                ..oversubscribed(2)
            });
            let stop = AtomicBool::new(false);
            let n_done = Arc::new(AtomicUsize::new(0));
            let batch = || {
                let handles: Vec<_> = (0..40)
                    .map(|i| {
                        let n_done = Arc::clone(&n_done);
                        let options = SpawnOptions::new().priority(Priority::ALL[i % 4]);
                        let body = async move {
                            for round in 0..50_u64 {
                                let x = (0..50_000).fold(round, |x, i| std::hint::black_box(x ^ i));
                                std::hint::black_box(x);
                                let child = spawn(async { 1 }).unwrap();
                                yield_now().await;
                                crate::sleep(std::time::Duration::from_micros(10)).await;
                                n_done.fetch_add(child.await.unwrap(), Ordering::Relaxed);
                            }
                        };
                        scheduler.spawn_with(options, body).unwrap()
                    })
                    .collect();
                for handle in handles {
                    handle.join().unwrap();
                }
            };
            let mut n_batches = 0;
            thread::scope(|scope| {
                scope.spawn(|| take_all(scheduler.shared(), &stop));
                // The host may not let it take anything for a while.
                while scheduler.get_stats().handoffs == 0 {
                    batch();
                    n_batches += 1;
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert_eq!(n_done.load(Ordering::Relaxed), n_batches * 40 * 50);
            let stats = scheduler.get_stats();
            assert_eq!(
                (stats.total_coroutines, stats.active_coroutines),
                (n_batches as u64 * (40 + 40 * 50), 0)
            );
        }
    }
}
