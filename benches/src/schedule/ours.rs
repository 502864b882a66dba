//! The programs' [`Runtime`] on `coroutine-scheduler`. Statistics and
//! priorities cannot be turned off there, so every figure includes them.

use std::future::Future;
use std::sync::Arc;

use coroutine_scheduler::{CoroutineScheduler, SchedulerConfig, spawn, yield_now};

use super::programs::Runtime;

/// A scheduler; the last clone shuts it down.
#[derive(Clone, Debug)]
pub struct Ours {
    scheduler: Arc<CoroutineScheduler>,
    /// It has no threads: who waits runs it.
    is_driven: bool,
}

/// The vCPUs that the figures of the design assume.
pub const VCPUS: usize = 2;

impl Ours {
    /// Starts `vcpus`, more than there are CPUs if need be, as `change` wants
    /// the rest.
    ///
    /// # Errors
    /// If the host refuses a thread.
    pub fn start(vcpus: usize, change: impl FnOnce(&mut SchedulerConfig)) -> Result<Ours, String> {
        let mut config = SchedulerConfig {
            vcpu_count: vcpus,
            oversubscribe: true,
            ..SchedulerConfig::default()
        };
        change(&mut config);
        let scheduler = CoroutineScheduler::new(config).map_err(|error| error.to_string())?;
        scheduler.start().map_err(|error| error.to_string())?;
        Ok(Ours {
            scheduler: Arc::new(scheduler),
            is_driven: false,
        })
    }

    /// One vCPU without a thread, run by whoever waits in
    /// [`block_on`](Runtime::block_on).
    ///
    /// # Errors
    /// If its configuration is refused.
    pub fn by_hand() -> Result<Ours, String> {
        let config = SchedulerConfig {
            vcpu_count: 1,
            ..SchedulerConfig::default()
        };
        let scheduler = CoroutineScheduler::new(config).map_err(|error| error.to_string())?;
        Ok(Ours {
            scheduler: Arc::new(scheduler),
            is_driven: true,
        })
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> &CoroutineScheduler {
        &self.scheduler
    }
}

/// Programs stay far below every limit of the configuration.
const ROOM: &str = "there is room for it";
/// Nor do their futures panic.
const ENDS: &str = "it neither panics nor is aborted";

impl Runtime for Ours {
    fn spawn<F>(&self, body: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = spawn(body).expect(ROOM);
        async { handle.await.expect(ENDS) }
    }

    fn detach<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(spawn(body).expect(ROOM));
    }

    fn detach_from_outside<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.scheduler.spawn(body).expect(ROOM));
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_now()
    }

    fn block_on<F>(&self, body: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.scheduler.spawn(body).expect(ROOM);
        while self.is_driven && self.scheduler.run_one().is_some() {}
        handle.join().expect(ENDS);
    }
}
