//! [`TaskGroup`]: coroutines that end with who spawned them.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::JoinHandle;
use crate::coroutine::Coroutine;
use crate::error::{JoinError, SpawnError};
use crate::{SchedulerHandle, SpawnOptions};

/// Coroutines of one purpose: their results come in the order in which they end,
/// and dropping the group aborts those that have not. [`scope`] waits for them
/// besides.
///
/// An abort takes effect at the next safepoint, so a coroutine may run on for a
/// moment after its group was dropped; after [`finish`](Self::finish) none does.
pub struct TaskGroup<T> {
    handle: SchedulerHandle,
    /// By number; free where its result was given.
    members: Vec<Option<JoinHandle<T>>>,
    free: Vec<usize>,
    /// Members whose result has not been given.
    n_open: usize,
    /// Their bodies are gone, their handles not ready when last asked.
    ending: Vec<usize>,
    ended: Arc<Mutex<Ended>>,
}

/// What the members tell the group.
#[derive(Debug, Default)]
struct Ended {
    /// Numbers of members whose bodies are gone.
    numbers: Vec<usize>,
    waker: Option<Waker>,
}

/// Part of a member's body: its drop is the body's end, however that comes.
struct Member {
    number: usize,
    ended: Arc<Mutex<Ended>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let waker = {
            let mut ended = self.ended.lock();
            ended.numbers.push(self.number);
            ended.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> TaskGroup<T> {
    /// Without members. Inside a coroutine, `SchedulerHandle::current` gives the
    /// handle.
    #[must_use]
    pub fn new(handle: SchedulerHandle) -> TaskGroup<T> {
        TaskGroup {
            handle,
            members: Vec::new(),
            free: Vec::new(),
            n_open: 0,
            ending: Vec::new(),
            ended: Arc::default(),
        }
    }

    /// Spawns a member of `Normal` priority.
    ///
    /// # Errors
    /// If there are too many coroutines, or the scheduler shuts down.
    #[track_caller]
    pub fn spawn<F>(&mut self, body: F) -> Result<Coroutine, SpawnError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.spawn_with(SpawnOptions::new(), body)
    }

    /// Spawns a member as `options` say.
    ///
    /// # Errors
    /// If there are too many coroutines, or the scheduler shuts down.
    ///
    /// # Panics
    /// If it is to be pinned to a vCPU that does not exist.
    #[track_caller]
    pub fn spawn_with<F>(&mut self, options: SpawnOptions, body: F) -> Result<Coroutine, SpawnError>
    where
        F: Future<Output = T> + Send + 'static,
    {
        // A refused one tells its number, too: nobody else may have it.
        let number = self.free.pop().unwrap_or(self.members.len());
        if number == self.members.len() {
            self.members.push(None);
        }
        let member = Member {
            number,
            ended: Arc::clone(&self.ended),
        };
        let body = async move {
            let _member = member;
            body.await
        };
        let handle = self.handle.spawn_with(options, body)?;
        let coroutine = handle.coroutine();
        self.members[number] = Some(handle);
        self.n_open += 1;
        Ok(coroutine)
    }

    /// Members whose result has not been given yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_open
    }

    /// Whether every result has been given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_open == 0
    }

    /// The result of the member that ends next; `None` when there is none left.
    /// Dropping the future loses no result.
    pub async fn next(&mut self) -> Option<Result<T, JoinError>> {
        if self.is_empty() {
            return None;
        }
        Some(poll_fn(|cx| self.poll_next(cx)).await)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        // Outside of the lock: wakers may run somebody's code, and that may end a
        // member.
        let waker = cx.waker().clone();
        let old = {
            let mut ended = self.ended.lock();
            self.ending.append(&mut ended.numbers);
            ended.waker.replace(waker)
        };
        drop(old);
        let mut next = 0;
        while let Some(&number) = self.ending.get(next) {
            let Some(handle) = &mut self.members[number] else {
                // It was refused at its spawn.
                self.ending.swap_remove(next);
                self.free.push(number);
                continue;
            };
            // Its end is announced just before it can be seen.
            match Pin::new(handle).poll(cx) {
                Poll::Pending => next += 1,
                Poll::Ready(result) => {
                    self.ending.swap_remove(next);
                    self.members[number] = None;
                    self.n_open -= 1;
                    self.free.push(number);
                    return Poll::Ready(result);
                }
            }
        }
        Poll::Pending
    }

    /// Waits for all members; gives their results in the order in which they
    /// ended. If one fails, the others are aborted and waited for.
    ///
    /// # Errors
    /// The first failure.
    pub async fn finish(mut self) -> Result<Vec<T>, JoinError> {
        let mut results = Ok(Vec::with_capacity(self.len()));
        while let Some(result) = self.next().await {
            match (&mut results, result) {
                (Ok(results), Ok(result)) => results.push(result),
                (Ok(_), Err(error)) => {
                    results = Err(error);
                    self.abort_all();
                }
                (Err(_), _) => {}
            }
        }
        results
    }
}

impl<T> TaskGroup<T> {
    /// Aborts every member; their results say so, unless they end first.
    pub fn abort_all(&self) {
        for member in self.members.iter().flatten() {
            // Those that have ended need no abort.
            let _ = member.abort();
        }
    }
}

impl<T> Drop for TaskGroup<T> {
    fn drop(&mut self) {
        self.abort_all();
    }
}

impl<T> fmt::Debug for TaskGroup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// Runs `body` with a group of its own and waits until its members have ended:
/// none outlives the call. If a member fails, the others are aborted; if the
/// future of this call is dropped, all are.
///
/// ```
/// use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig, scope};
///
/// let scheduler = CoroutineScheduler::new(SchedulerConfig::default())?;
/// scheduler.start()?;
/// let sum = scheduler.spawn(async {
///     scope(async |group| {
///         for n in 1..=10_u64 {
///             group.spawn(async move { n * n }).expect("there is room for ten");
///         }
///         let mut sum = 0;
///         while let Some(square) = group.next().await {
///             sum += square.expect("none of them panics");
///         }
///         sum
///     })
///     .await
/// })?;
/// assert_eq!(sum.join()??, 385);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first failure of a member whose result `body` did not take.
///
/// # Panics
/// Outside of a coroutine.
pub async fn scope<T, R>(body: impl AsyncFnOnce(&mut TaskGroup<T>) -> R) -> Result<R, JoinError>
where
    T: Send + 'static,
{
    let handle = SchedulerHandle::current().expect("a scope works inside coroutines only");
    let mut group = TaskGroup::new(handle);
    let result = body(&mut group).await;
    group.finish().await?;
    Ok(result)
}
