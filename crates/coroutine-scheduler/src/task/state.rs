//! The state word of a task: one atomic that says who may touch the rest.
//!
//! ```text
//!   63        36 35         8 7                                             0
//!  ┌────────────┬────────────┬───────────────────────────────────────────────┐
//!  │ references │ wakes      │ JOIN_WAKER JOIN CREATED PARKED PAUSED CLOSED DONE │
//!  └────────────┴────────────┴───────────────────────────────────────────────┘
//! ```
//!
//! **Wakes.** A task is in exactly one queue, or in the hands of exactly one
//! thread, iff `wakes > 0` and it is neither PARKED nor CREATED nor DONE. Who
//! raises `wakes` from 0 queues it; who runs it notes `wakes` before the poll
//! and takes that many off after it. Anything left means a wake during the
//! poll, and the task goes on without a change of the word. (Counting wakes
//! instead of keeping a RUNNING and a NOTIFIED bit saves one read-modify-write
//! per run; nexosim does the same.)
//!
//! **Bits**, when each can be set, and when it is cleared:
//!
//! | Bit | Set | Cleared |
//! |---|---|---|
//! | DONE | by the thread that runs it: the body is gone, the output is there | never |
//! | CLOSED | by anyone before DONE: never poll it again, drop the body | never |
//! | PAUSED | by anyone, not while CREATED or DONE | by a resume or an abort |
//! | PARKED | with or after PAUSED, when no queue and no thread has the task | with PAUSED |
//! | CREATED | at birth: nobody has submitted it | by submit or abort |
//! | JOIN | at birth: a join handle exists | by that handle's drop |
//! | JOIN_WAKER | by the join handle: the waker field is set and the runner's to read | by the handle, before DONE |
//!
//! **Fields.** The body and the output belong to the thread that runs the task
//! until it sets DONE; afterwards the output is the join handle's if JOIN was
//! set at that moment, else it is dropped by that thread. The waker field
//! belongs to the handle while JOIN_WAKER is clear, to the thread that sets
//! DONE once it finds JOIN_WAKER set.
//!
//! **References** keep the memory: one of the registry until DONE, one of the
//! join handle, one per waker. Being queued holds none, since the registry
//! does until DONE.

use crate::CoroutineState;
use crate::state::IllegalTransition;
use crate::sync::{AtomicU64, Ordering};

pub(crate) const DONE: u64 = 1;
pub(crate) const CLOSED: u64 = 1 << 1;
pub(crate) const PAUSED: u64 = 1 << 2;
pub(crate) const PARKED: u64 = 1 << 3;
pub(crate) const CREATED: u64 = 1 << 4;
pub(crate) const JOIN: u64 = 1 << 5;
pub(crate) const JOIN_WAKER: u64 = 1 << 6;

const WAKE: u64 = 1 << 8;
const REF: u64 = 1 << 36;
const FIELD_MAX: u64 = (1 << 28) - 1;

/// Above this many wakes another one need not be counted: a poll never begins
/// with as many (see [`State::begin`]), so one of them is surely its notice.
const WAKES_ENOUGH: u64 = 1 << 27;
/// A poll that would begin with more wakes starts the count anew.
const WAKES_AT_BEGIN_MAX: u64 = 1 << 20;
/// Beyond this many references the process ends, as with [`std::sync::Arc`]:
/// only leaking them gets there.
const REFS_MAX: u64 = 1 << 27;

const fn wakes(word: u64) -> u64 {
    (word / WAKE) & FIELD_MAX
}

const fn refs(word: u64) -> u64 {
    word / REF
}

/// What the caller owes after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// To queue the task: it is the caller's now.
    Queue,
    /// To free its memory.
    Free,
}

/// What a thread that took the task from a queue does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Begin {
    /// Poll it, and tell [`State::end`] this number.
    Poll(u64),
    /// Forget it: it is paused, and whoever resumes it queues it again.
    Parked,
    /// Drop its body and call [`State::finish`].
    Close,
}

/// What the thread that polled it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum End {
    /// Nothing: a wake, or a resume, will queue it.
    Left,
    /// Queue it again.
    Again,
    /// Drop its body and call [`State::finish`].
    Close,
}

/// The word.
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

impl State {
    /// Of a new task, with a join handle, referred to by that and by the
    /// registry.
    pub(crate) fn created() -> State {
        State(AtomicU64::new(CREATED | JOIN | (2 * REF)))
    }

    /// The same, in the hands of its maker, who queues it.
    pub(crate) fn ready() -> State {
        State(AtomicU64::new(JOIN | WAKE | (2 * REF)))
    }

    /// Of a new task: whether its maker has it in hand.
    pub(crate) fn is_new_in_hand(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CREATED == 0
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Changes the word by `change` until nobody interferes; `None` refuses.
    fn update<T>(&self, mut change: impl FnMut(u64) -> Result<(u64, T), u64>) -> Result<T, u64> {
        let mut word = self.load();
        loop {
            let (next, outcome) = change(word)?;
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(outcome),
                Err(now) => word = now,
            }
        }
    }

    // Life.

    /// A created task becomes ready.
    pub(crate) fn submit(&self) -> Result<Then, u64> {
        self.update(|word| {
            if word & CREATED == 0 || word & (DONE | CLOSED) != 0 {
                return Err(word);
            }
            Ok(((word & !CREATED) + WAKE, Then::Queue))
        })
    }

    /// Wakes it; `and_release` gives up a reference in the same step.
    pub(crate) fn wake(&self, and_release: bool) -> Then {
        let word = self.0.load(Ordering::Relaxed);
        if word & DONE != 0 {
            return if and_release {
                self.release()
            } else {
                Then::Nothing
            };
        }
        let counted = if wakes(word) < WAKES_ENOUGH { WAKE } else { 0 };
        let released = if and_release { REF } else { 0 };
        // Even a wake that is not counted is a read-modify-write: what was
        // written before it is seen by the poll that follows.
        let word = self
            .0
            .fetch_add(counted.wrapping_sub(released), Ordering::AcqRel);
        if and_release && refs(word) == 1 {
            return Then::Free;
        }
        if wakes(word) == 0 && word & (DONE | PARKED | CREATED) == 0 {
            Then::Queue
        } else {
            Then::Nothing
        }
    }

    /// Whether it is to be polled no more, for good or for now. A hint: for
    /// who runs it and can stop.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (CLOSED | PAUSED) != 0
    }

    /// Called with the task in hand, before a poll.
    #[inline]
    pub(crate) fn begin(&self) -> Begin {
        let word = self.load();
        if word & (CLOSED | PAUSED) == 0 && wakes(word) <= WAKES_AT_BEGIN_MAX {
            return Begin::Poll(wakes(word));
        }
        self.begin_slow()
    }

    #[cold]
    fn begin_slow(&self) -> Begin {
        let outcome = self.update(|word| {
            Ok(if word & CLOSED != 0 {
                (word, Begin::Close)
            } else if word & PAUSED != 0 {
                (word | PARKED, Begin::Parked)
            } else {
                (word - (wakes(word) - 1) * WAKE, Begin::Poll(1))
            })
        });
        outcome.unwrap_or(Begin::Close)
    }

    /// Called after a poll that gave `Pending`, with what [`begin`](Self::begin)
    /// gave. `wants_turn`: the body asked to go on without waking itself.
    #[inline]
    pub(crate) fn end(&self, seen: u64, wants_turn: bool) -> End {
        let word = self.load();
        if word & (CLOSED | PAUSED) == 0 && (wants_turn || wakes(word) > seen) {
            return End::Again;
        }
        let outcome = self.update(|word| {
            if word & CLOSED != 0 {
                return Ok((word, End::Close));
            }
            let is_ready = wants_turn || wakes(word) > seen;
            if word & PAUSED != 0 {
                // What came meanwhile stays counted: the resume queues it.
                let rest = if is_ready {
                    word - (wakes(word) - 1) * WAKE
                } else {
                    word - seen * WAKE
                };
                return Ok((rest | PARKED, End::Left));
            }
            Ok(if is_ready {
                (word, End::Again)
            } else {
                (word - seen * WAKE, End::Left)
            })
        });
        outcome.unwrap_or(End::Close)
    }

    /// Sets DONE; gives the word before.
    pub(crate) fn finish(&self) -> u64 {
        self.0.fetch_or(DONE, Ordering::AcqRel)
    }

    // Control from any thread.

    /// Pauses it. `is_running` is a hint for the error only.
    pub(crate) fn pause(&self) -> Result<(), IllegalTransition> {
        let outcome = self.update(|word| {
            if word & (DONE | CLOSED | CREATED) != 0 {
                return Err(word);
            }
            let parked = if wakes(word) == 0 { PARKED } else { 0 };
            Ok((word | PAUSED | parked, ()))
        });
        outcome.map_err(|word| IllegalTransition {
            from: observed(word, false),
            to: CoroutineState::Suspended,
        })
    }

    /// Ends a pause.
    pub(crate) fn resume(&self) -> Result<Then, IllegalTransition> {
        let outcome = self.update(|word| {
            if word & PAUSED == 0 || word & (DONE | CLOSED) != 0 {
                return Err(word);
            }
            let then = if word & PARKED != 0 && wakes(word) > 0 {
                Then::Queue
            } else {
                Then::Nothing
            };
            Ok((word & !(PAUSED | PARKED), then))
        });
        outcome.map_err(|word| IllegalTransition {
            from: observed(word, false),
            to: CoroutineState::Ready,
        })
    }

    /// Closes it: whoever gets hold of it next drops the body.
    pub(crate) fn abort(&self) -> Result<Then, IllegalTransition> {
        let outcome = self.update(|word| {
            if word & DONE != 0 {
                return Err(word);
            }
            if word & CLOSED != 0 {
                return Ok((word, Then::Nothing));
            }
            let is_free = wakes(word) == 0 || word & (PARKED | CREATED) != 0;
            let woken = if wakes(word) == 0 { WAKE } else { 0 };
            let next = ((word | CLOSED) & !(PAUSED | PARKED | CREATED)) + woken;
            let then = if is_free { Then::Queue } else { Then::Nothing };
            Ok((next, then))
        });
        outcome.map_err(|word| IllegalTransition {
            from: observed(word, false),
            to: CoroutineState::Dead,
        })
    }

    // The join handle's side.

    /// The handle has written the waker field; `false` if the task is done and
    /// the field stays the handle's.
    pub(crate) fn offer_join_waker(&self) -> bool {
        self.update(|word| {
            if word & DONE != 0 {
                return Err(word);
            }
            Ok((word | JOIN_WAKER, ()))
        })
        .is_ok()
    }

    /// The handle wants the waker field back; `false` if the task is done.
    pub(crate) fn take_back_join_waker(&self) -> bool {
        self.update(|word| {
            if word & DONE != 0 {
                return Err(word);
            }
            Ok((word & !JOIN_WAKER, ()))
        })
        .is_ok()
    }

    /// The handle goes. `Ok`: before DONE; its waker field is its own again.
    /// `Err`: after it; the output is the handle's to drop.
    pub(crate) fn drop_join(&self) -> Result<(), ()> {
        self.update(|word| {
            if word & DONE != 0 {
                return Err(word);
            }
            Ok((word & !(JOIN | JOIN_WAKER), ()))
        })
        .map_err(|_| ())
    }

    // References.

    pub(crate) fn retain(&self) {
        let word = self.0.fetch_add(REF, Ordering::Relaxed);
        debug_assert!(refs(word) > 0, "it was freed");
        if refs(word) > REFS_MAX {
            std::process::abort();
        }
    }

    /// Whether the reference that the caller holds, with the task in hand and
    /// out of the registry, is the only one: no handle, no waker, and nobody
    /// who could make another.
    pub(crate) fn is_last(&self) -> bool {
        let word = self.0.load(Ordering::Acquire);
        refs(word) == 1 && word & JOIN == 0
    }

    /// Its memory is to be freed; in models it stays, and this is what those find
    /// who still use it.
    #[cfg(all(loom, test))]
    pub(crate) fn bury(&self) {
        self.0.store(0, Ordering::Release);
    }

    pub(crate) fn release(&self) -> Then {
        let word = self.0.fetch_sub(REF, Ordering::AcqRel);
        if refs(word) == 1 {
            Then::Free
        } else {
            Then::Nothing
        }
    }
}

/// What `word` amounts to for an onlooker, with whether a vCPU has it.
pub(crate) fn observed(word: u64, is_running: bool) -> CoroutineState {
    if word & DONE != 0 {
        CoroutineState::Dead
    } else if is_running {
        CoroutineState::Running
    } else if word & CLOSED != 0 {
        CoroutineState::Dead
    } else if word & CREATED != 0 {
        CoroutineState::Created
    } else if word & PAUSED != 0 {
        CoroutineState::Suspended
    } else if wakes(word) > 0 {
        CoroutineState::Ready
    } else {
        CoroutineState::Waiting
    }
}

/// Whether nothing can ever wake it: it waits, and only the registry, perhaps a
/// join handle, and `n_onlookers` who know themselves refer to it.
pub(crate) fn is_stranded(word: u64, n_onlookers: u64) -> bool {
    let waits = observed(word, false) == CoroutineState::Waiting;
    let handle = u64::from(word & JOIN != 0);
    waits && refs(word) <= 1 + handle + n_onlookers
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wake_during_the_poll_is_not_lost() {
        let state = State::created();
        assert_eq!(state.submit(), Ok(Then::Queue));
        let Begin::Poll(seen) = state.begin() else {
            panic!("nobody closed it")
        };
        assert_eq!(state.wake(false), Then::Nothing, "it is in hand");
        assert_eq!(state.end(seen, false), End::Again);
        let Begin::Poll(seen) = state.begin() else {
            panic!("nobody closed it")
        };
        assert_eq!(state.end(seen, false), End::Left);
        assert_eq!(observed(state.load(), false), CoroutineState::Waiting);
        assert_eq!(state.wake(false), Then::Queue);
        assert_eq!(state.wake(false), Then::Nothing, "queued already");
    }

    #[test]
    fn a_pause_keeps_the_wakes_that_come_meanwhile() {
        let state = State::created();
        assert_eq!(state.submit(), Ok(Then::Queue));
        state.pause().unwrap();
        assert_eq!(state.begin(), Begin::Parked);
        assert_eq!(state.wake(false), Then::Nothing);
        assert_eq!(state.resume(), Ok(Then::Queue));
        // Paused while it waits, with no wake: it waits again.
        let Begin::Poll(seen) = state.begin() else {
            panic!("resumed")
        };
        assert_eq!(state.end(seen, false), End::Left);
        state.pause().unwrap();
        assert_eq!(observed(state.load(), false), CoroutineState::Suspended);
        assert_eq!(state.resume(), Ok(Then::Nothing));
        assert_eq!(observed(state.load(), false), CoroutineState::Waiting);
    }

    #[test]
    fn a_pause_of_a_running_task_holds_at_its_end() {
        for wants_turn in [false, true] {
            let state = State::created();
            assert_eq!(state.submit(), Ok(Then::Queue));
            let Begin::Poll(seen) = state.begin() else {
                panic!("nobody closed it")
            };
            state.pause().unwrap();
            assert_eq!(state.end(seen, wants_turn), End::Left);
            let then = if wants_turn {
                Then::Queue
            } else {
                Then::Nothing
            };
            assert_eq!(state.resume(), Ok(then));
        }
    }

    #[test]
    fn aborts_queue_what_nobody_has() {
        let created = State::created();
        assert_eq!(created.abort(), Ok(Then::Queue));
        assert_eq!(created.begin(), Begin::Close);
        let ready = State::created();
        assert_eq!(ready.submit(), Ok(Then::Queue));
        assert_eq!(ready.abort(), Ok(Then::Nothing));
        assert_eq!(ready.begin(), Begin::Close);
        let _ = ready.finish();
        assert!(ready.abort().is_err() && ready.pause().is_err() && ready.resume().is_err());
        assert_eq!(ready.wake(false), Then::Nothing);
    }

    #[test]
    fn references_end_with_the_last() {
        let state = State::created();
        state.retain();
        assert_eq!(state.release(), Then::Nothing);
        assert_eq!(state.release(), Then::Nothing);
        assert_eq!(state.release(), Then::Free);
    }

    #[test]
    fn wakes_do_not_overflow() {
        let state = State::created();
        assert_eq!(state.submit(), Ok(Then::Queue));
        let Begin::Poll(seen) = state.begin() else {
            panic!("nobody closed it")
        };
        state
            .0
            .fetch_add((WAKES_ENOUGH - 1) * WAKE, Ordering::Relaxed);
        let before = state.load();
        assert_eq!(state.wake(false), Then::Nothing);
        assert_eq!(state.load(), before, "enough is enough");
        assert_eq!(state.end(seen, false), End::Again);
        assert_eq!(state.begin(), Begin::Poll(1), "the count starts anew");
        assert_eq!(state.end(1, false), End::Left);
    }
}
