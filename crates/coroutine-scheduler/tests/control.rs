//! All 36 pairs of states, asked of live coroutines: what the calls allow and
//! what they refuse, naming both states.

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use common::oversubscribed;
use coroutine_scheduler::{
    ControlError, CoroutineScheduler, CoroutineState, JoinHandle, Priority, yield_now,
};
use parking_lot::Mutex;

use CoroutineState::{Created, Dead, Ready, Running, Suspended, Waiting};

/// A coroutine in a state, and what keeps it there. For Running, calls are made
/// from inside of it.
struct Stage {
    scheduler: CoroutineScheduler,
    coroutine: JoinHandle<()>,
    waker: Arc<Mutex<Option<Waker>>>,
}

fn stage(state: CoroutineState) -> Stage {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let waker = Arc::new(Mutex::new(None));
    let place = Arc::clone(&waker);
    let waits_once = poll_fn(move |cx| {
        if place.lock().replace(cx.waker().clone()).is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let coroutine = scheduler
        .create_coroutine(Priority::Normal, 0, waits_once)
        .unwrap();
    if state != Created {
        scheduler.schedule(&coroutine).unwrap();
    }
    if matches!(state, Waiting | Dead) {
        while scheduler.run_one().is_some() {}
    }
    if state == Suspended {
        coroutine.pause().unwrap();
    }
    if state == Dead {
        waker.lock().as_ref().unwrap().wake_by_ref();
        while scheduler.run_one().is_some() {}
    }
    assert_eq!(coroutine.state(), state);
    Stage {
        scheduler,
        coroutine,
        waker,
    }
}

/// Tries to bring it to `to` by the calls that do that; `Err` when refused.
fn drive(stage: &Stage, to: CoroutineState) -> Result<(), ControlError> {
    let Stage {
        scheduler,
        coroutine,
        waker,
    } = stage;
    match to {
        Ready if coroutine.state() == Created => scheduler.schedule(coroutine).map(|_| ()),
        Ready if coroutine.state() == Waiting => {
            waker.lock().as_ref().unwrap().wake_by_ref();
            Ok(())
        }
        Ready => coroutine.resume(),
        Suspended => coroutine.pause(),
        Dead => coroutine.abort(),
        Created | Running | Waiting => unreachable!("no call asks for that"),
    }
}

#[test]
fn calls_allow_what_the_table_allows() {
    for from in [Created, Ready, Waiting, Suspended, Dead] {
        for to in [Ready, Suspended, Dead] {
            let stage = stage(from);
            let outcome = drive(&stage, to);
            if from == to && to == Suspended {
                assert_eq!(outcome, Ok(()), "pausing twice changes nothing");
            } else if from.can_become(to) {
                assert_eq!(outcome, Ok(()), "{from} to {to}");
                assert_eq!(stage.coroutine.state(), to, "{from} to {to}");
            } else {
                let Err(ControlError::Illegal(error)) = outcome else {
                    panic!("{from} to {to}: {outcome:?}")
                };
                assert_eq!((error.from, error.to), (from, to));
                assert_eq!(stage.coroutine.state(), from);
            }
        }
    }
}

/// Nobody can ask for Created, Running or Waiting: a coroutine comes there by
/// being made, picked, or awaiting. What it does then is in the state diagram.
#[test]
fn nothing_else_happens_by_itself() {
    for from in [Created, Suspended, Dead] {
        let stage = stage(from);
        assert_eq!(stage.scheduler.run_one(), None, "{from} is not picked");
        if let Some(waker) = stage.waker.lock().as_ref() {
            waker.wake_by_ref();
        }
        assert_eq!(stage.coroutine.state(), from, "a wake changes nothing");
    }
}

#[test]
fn a_running_one_is_paused_resumed_and_aborted_at_its_safepoint() {
    let scheduler = CoroutineScheduler::new(oversubscribed(1)).unwrap();
    let own: Arc<Mutex<Option<coroutine_scheduler::Coroutine>>> = Arc::default();
    let body = {
        let own = Arc::clone(&own);
        async move {
            let me = own.lock().clone().unwrap();
            assert_eq!(me.state(), Running);
            assert!(me.resume().is_err(), "it is not paused");
            me.pause().unwrap();
            assert_eq!(me.state(), Running, "until the safepoint");
            yield_now().await;
            me.abort().unwrap();
            yield_now().await;
            unreachable!("aborted at the safepoint before");
        }
    };
    let coroutine = scheduler.spawn(body).unwrap();
    *own.lock() = Some(coroutine.coroutine());
    assert!(scheduler.run_one().is_some());
    assert_eq!(coroutine.state(), Suspended);
    assert_eq!(scheduler.run_one(), None);
    coroutine.resume().unwrap();
    assert!(scheduler.run_one().is_some());
    assert_eq!(coroutine.state(), Dead);
    assert!(coroutine.join().unwrap_err().is_cancelled());
}
