//! Deadlines: `sleep`, `sleep_until`, `timeout`, `interval`.
//!
//! Each vCPU has a list of deadlines, ordered by time. The vCPU looks at the
//! first one between two coroutines, sleeps no longer than until then, and the
//! monitor looks after those whose vCPU is busy. A deadline that is dropped is
//! removed: it wakes nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::task::wake_foreign;
use crate::vcpu;

/// Deadlines of one vCPU.
#[derive(Debug)]
pub(crate) struct TimerList {
    entries: Mutex<Entries>,
    /// The first one, in nanoseconds; `u64::MAX` without any.
    next_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    /// By deadline, then by order of arrival.
    by_time: BTreeMap<(u64, u64), Waker>,
    n_inserted: u64,
}

impl Default for TimerList {
    fn default() -> TimerList {
        TimerList {
            entries: Mutex::default(),
            next_ns: AtomicU64::new(u64::MAX),
        }
    }
}

impl TimerList {
    /// When the first deadline is.
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns.load(Ordering::Acquire)
    }

    /// Gives the entry's key, and whether it is now the first one.
    fn insert(&self, deadline_ns: u64, waker: Waker) -> ((u64, u64), bool) {
        let mut entries = self.entries.lock();
        let key = (deadline_ns, entries.n_inserted);
        entries.n_inserted += 1;
        entries.by_time.insert(key, waker);
        (key, self.note_first(&entries) == deadline_ns)
    }

    /// Replaces the waker; `false` if the entry has fired.
    fn update(&self, key: (u64, u64), waker: &Waker) -> bool {
        match self.entries.lock().by_time.get(&key) {
            None => return false,
            Some(place) if place.will_wake(waker) => return true,
            Some(_) => {}
        }
        // Made, and the old one dropped, outside of the lock: both may be
        // somebody's code, which may have timers here.
        let mut waker = waker.clone();
        match self.entries.lock().by_time.get_mut(&key) {
            None => return false,
            Some(place) => std::mem::swap(place, &mut waker),
        }
        drop(waker);
        true
    }

    fn remove(&self, key: (u64, u64)) {
        let removed = {
            let mut entries = self.entries.lock();
            let removed = entries.by_time.remove(&key);
            self.note_first(&entries);
            removed
        };
        // Outside of the lock: it may be the last reference to a coroutine.
        drop(removed);
    }

    fn note_first(&self, entries: &Entries) -> u64 {
        let first = entries.by_time.first_key_value();
        let first_ns = first.map_or(u64::MAX, |(key, _)| key.0);
        self.next_ns.store(first_ns, Ordering::Release);
        first_ns
    }

    /// Wakes whose time has come; gives how many.
    pub(crate) fn fire(&self, now_ns: u64) -> usize {
        if self.next_ns() > now_ns {
            return 0;
        }
        let due = {
            let mut entries = self.entries.lock();
            let later = entries.by_time.split_off(&(now_ns.saturating_add(1), 0));
            let due = std::mem::replace(&mut entries.by_time, later);
            self.note_first(&entries);
            due
        };
        let n_due = due.len();
        for waker in due.into_values() {
            wake_foreign(waker);
        }
        n_due
    }

    /// Drops every entry without waking anybody.
    pub(crate) fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries.lock());
        self.next_ns.store(u64::MAX, Ordering::Release);
        drop(entries);
    }
}

/// Waits until a moment; see [`sleep`].
pub struct Sleep {
    deadline: Deadline,
    entry: Option<((u64, u64), Arc<TimerList>)>,
}

enum Deadline {
    /// Not polled yet: counts from the first poll.
    In(Duration),
    At(u64),
}

impl Sleep {
    /// Whether its time has come, at the last poll.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.deadline, Deadline::At(0))
    }
}

/// Waits for at least `duration`, counted from the first poll, on the clock of
/// the scheduler that polls it.
///
/// # Panics
/// The future, when polled outside of a coroutine.
#[must_use = "it waits only when awaited"]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        deadline: Deadline::In(duration),
        entry: None,
    }
}

/// Waits until the scheduler's clock shows `time`, see [`now`](crate::now).
///
/// # Panics
/// The future, when polled outside of a coroutine.
#[must_use = "it waits only when awaited"]
pub fn sleep_until(time: Duration) -> Sleep {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Sleep {
        deadline: Deadline::At(ns.max(1)),
        entry: None,
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if let Some((key, list)) = &self.entry
            && list.update(*key, cx.waker())
        {
            return Poll::Pending;
        }
        // New, or fired: fired ones are over unless the clock says otherwise.
        let (clock, list) = vcpu::timers().expect("timers work inside coroutines only");
        let now_ns = clock.now_ns();
        let deadline_ns = match self.deadline {
            Deadline::At(ns) => ns,
            Deadline::In(duration) => {
                let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                now_ns.saturating_add(ns).max(1)
            }
        };
        if deadline_ns <= now_ns {
            self.entry = None;
            self.deadline = Deadline::At(0);
            return Poll::Ready(());
        }
        self.deadline = Deadline::At(deadline_ns);
        let (key, is_first) = list.insert(deadline_ns, cx.waker().clone());
        self.entry = Some((key, list));
        if is_first {
            vcpu::timer_came_first(deadline_ns);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, list)) = self.entry.take() {
            list.remove(key);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("is_over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// The time given to [`timeout`] was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over before the work was done")
    }
}

impl std::error::Error for Elapsed {}

/// Awaits `future` for at most `duration`.
///
/// # Errors
/// If the time is over first; `future` is dropped then.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(duration));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Ticks at a fixed period; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    next: Option<Duration>,
}

/// Ticks every `period`, first one period from the first
/// [`tick`](Interval::tick). A tick that nobody awaited in time is not made up
/// for: the next one comes at the next multiple of the period.
///
/// # Panics
/// If `period` is zero.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period");
    Interval { period, next: None }
}

impl Interval {
    /// Waits for the next tick; gives when it was due.
    ///
    /// # Panics
    /// Outside of a coroutine.
    pub async fn tick(&mut self) -> Duration {
        let now = crate::now();
        let mut due = self.next.unwrap_or(now.saturating_add(self.period));
        if due < now {
            let missed = (now - due).as_nanos() / self.period.as_nanos();
            let missed = u32::try_from(missed + 1).unwrap_or(u32::MAX);
            due = due.saturating_add(self.period.saturating_mul(missed));
        }
        self.next = Some(due.saturating_add(self.period));
        sleep_until(due).await;
        due
    }
}
