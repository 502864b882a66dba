//! Coroutines that kept others waiting: who, from where, doing what, and where
//! they were seen next.
//!
//! The monitor notes a stall when it takes a vCPU from a coroutine, or would
//! have to and cannot. What a thread was doing is the host's word, at that
//! moment. *Where* it was cannot be had from outside without stopping it by a
//! signal, which would be the process's business and not a library's; so the
//! coroutine says it itself, the next time it calls this crate in the same poll
//! (a safepoint, a wake, a spawn, a timer). Stalls are kept by spawn site, so
//! there are as many as the program has sites, and backtraces are made for the
//! 1st, 2nd, 4th, 8th … of a site.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::coroutine::{Coroutine, CoroutineId};
use crate::host;
use crate::scheduler::Shared;
use crate::vcpu::{Grip, NextSeen};

/// Coroutines of one spawn site that kept others waiting for longer than a
/// slice, without answering the preempt word. All fields but `count` and
/// `next_seen` are of the last one.
#[derive(Clone, Debug)]
pub struct Stall {
    /// Where they were spawned.
    pub spawned_at: &'static Location<'static>,
    /// How many times that was seen so far.
    pub count: u64,
    /// Which coroutine.
    pub id: CoroutineId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The vCPU at which it was.
    pub vcpu: usize,
    /// What became of the vCPU.
    pub end: StallEnd,
    /// How long its turn had lasted by then.
    pub ran: Duration,
    /// What its thread was doing then.
    pub doing: Doing,
    /// Where one of them called this crate next in that poll, having lost its
    /// vCPU: the code that kept others waiting lies before that. It is of the
    /// 1st, 2nd, 4th, 8th … of a site, whichever said so last; `None` if all of
    /// these kept their vCPU, or ended the poll without such a call, or have not
    /// made one yet. Lines and names are looked up when it is displayed, which
    /// takes its time.
    pub next_seen: Option<Arc<Backtrace>>,
}

/// What became of the vCPU of a coroutine that kept others waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallEnd {
    /// Another thread has it.
    HandedOff,
    /// Nothing: a started stack keeps its thread there.
    KeptByStack,
    /// Nothing: as many threads as may be, four for each vCPU, have lost theirs
    /// and are not done.
    KeptByLimit,
    /// Nothing: the host gave no thread, or forbids the `membarrier` that it
    /// takes.
    KeptByHost,
}

/// What a thread was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doing {
    /// It ran, or would have if the host had let it.
    Computing,
    /// It waited in the system call with this number.
    SystemCall(u32),
    /// The host does not say (no /proc, a filter).
    Unknown,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(
            f,
            ", spawned at {}, kept vCPU {}",
            self.spawned_at, self.vcpu
        )?;
        write!(
            f,
            " from others for {:?} {}; {}",
            self.ran, self.doing, self.end
        )?;
        if self.count > 1 {
            write!(f, " ({} times so far)", self.count)?;
        }
        match &self.next_seen {
            Some(backtrace) => write!(f, "\nseen next at:\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HandedOff => "another thread goes on there",
            Self::KeptByStack => "they wait on, since a started stack keeps the thread",
            Self::KeptByLimit => {
                "they wait on, since too many threads are stuck: use fewer coroutines that block, \
                 or checkpoints in them"
            }
            Self::KeptByHost => "they wait on, since the host gave no thread for them",
        })
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Computing => f.write_str("computing"),
            Self::SystemCall(number) => write!(f, "in system call {number}"),
            Self::Unknown => f.write_str("(doing what, the host does not say)"),
        }
    }
}

/// See the module. The monitor takes the lock, so no weak thread does but where
/// its coroutine asks for all stalls: the host may let it wait inside.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// One for each spawn site that had any.
    sites: Vec<Site>,
    /// Of each vCPU, up to the last that had any, which run was noted last and as
    /// what: the monitor sees one that keeps its vCPU again and again.
    noted: Vec<Option<(u64, StallEnd)>>,
}

/// Its stall's `next_seen` is what was said before the last one was asked.
#[derive(Debug)]
struct Site {
    stall: Stall,
    /// Where says it who was asked last.
    asked: Option<Arc<NextSeen>>,
}

impl Site {
    fn next_seen(&self) -> Option<Arc<Backtrace>> {
        let said = self.asked.as_ref().and_then(|asked| asked.get());
        said.or(self.stall.next_seen.as_ref()).cloned()
    }
}

/// A stall as the monitor sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) vcpu: usize,
    /// The vCPU's count of runs.
    pub(crate) running: u64,
    pub(crate) id: CoroutineId,
    pub(crate) ran: Duration,
    pub(crate) end: StallEnd,
}

impl Table {
    /// Notes that, unless it has done so already.
    fn note(&mut self, seen: Seen, coroutine: &Coroutine, grip: &Grip) {
        if self.noted.len() <= seen.vcpu {
            self.noted.resize(seen.vcpu + 1, None);
        }
        let noted = self.noted[seen.vcpu].replace((seen.running, seen.end));
        let is_same_run = noted.is_some_and(|(running, _)| running == seen.running);
        if is_same_run && noted.is_some_and(|(_, end)| end == seen.end) {
            return;
        }
        let spawned_at = coroutine.task().header().spawned_at;
        let mut sites = self.sites.iter_mut();
        let site = sites.find(|site| site.stall.spawned_at == spawned_at);
        let before = site.as_ref().map_or(0, |site| site.stall.count);
        let next_seen = site.as_ref().and_then(|site| site.next_seen());
        let stall = Stall {
            spawned_at,
            // It was kept at first, and has lost its vCPU now.
            count: before + u64::from(!is_same_run || before == 0),
            id: seen.id,
            name: coroutine.name().map(str::to_owned),
            vcpu: seen.vcpu,
            end: seen.end,
            ran: seen.ran,
            doing: grip.thread().map_or(Doing::Unknown, host::doing),
            next_seen,
        };
        let is_asked = seen.end == StallEnd::HandedOff && stall.count.is_power_of_two();
        let asked = is_asked.then(|| grip.ask_where());
        match site {
            Some(site) => {
                site.stall = stall;
                // Who was asked before may say it still, unless another one is.
                site.asked = asked.or_else(|| site.asked.take());
            }
            None => self.sites.push(Site { stall, asked }),
        }
    }
}

impl Stalls {
    pub(crate) fn all(&self) -> Vec<Stall> {
        let table = self.0.lock();
        let stall = |site: &Site| Stall {
            next_seen: site.next_seen(),
            ..site.stall.clone()
        };
        table.sites.iter().map(stall).collect()
    }
}

impl Shared {
    /// For the monitor; `grip` is that of the coroutine's thread.
    pub(crate) fn note_stall(&self, grip: &Grip, seen: Seen) {
        // Unless it has ended meanwhile.
        let Some(coroutine) = self.registry.find(seen.id).map(Coroutine::new) else {
            return;
        };
        self.stalls.0.lock().note(seen, &coroutine, grip);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::checkpoint;
    use crate::common::{oversubscribed, started};

    /// The host may let a weak thread wait wherever it is. Where it says where it
    /// is, and where it ends its poll, the monitor does not wait for it.
    #[test]
    fn a_weak_thread_says_where_it_is_without_the_tables_lock() {
        let scheduler = started(oversubscribed(1));
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let late = scheduler.spawn(async move {
            while !stops.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            checkpoint().await;
        });
        scheduler.spawn(async {}).unwrap().join().unwrap();
        while scheduler.stalls().is_empty() {
            std::thread::yield_now();
        }
        let table = scheduler.shared().stalls.0.lock();
        stop.store(true, Ordering::Relaxed);
        late.unwrap().join().unwrap();
        drop(table);
        let stall = &scheduler.stalls()[0];
        assert_eq!(stall.end, StallEnd::HandedOff);
        assert!(stall.next_seen.is_some(), "{stall}");
    }
}
