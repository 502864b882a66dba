//! Feature `tokio`: its sockets and timers inside our coroutines.
//!
//! tokio's types ask the thread that polls them for their runtime. With
//! [`with_tokio`](CoroutineScheduler::with_tokio) each of our threads answers with
//! the one that was given: its driver then wakes our coroutines as it wakes its
//! own tasks, through their wakers. tokio keeps its threads, and whatever
//! `tokio::spawn` is given goes there; ours run nothing of it.

use std::sync::OnceLock;

use tokio::runtime::{EnterGuard, Handle};

use crate::CoroutineScheduler;

/// The runtime that our threads are entered in, if any.
#[derive(Debug, Default)]
pub(crate) struct TokioContext(OnceLock<Handle>);

impl TokioContext {
    /// Until the guard is dropped, on this thread.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.get().map(Handle::enter)
    }
}

impl CoroutineScheduler {
    /// Enters tokio's runtime on each thread of this scheduler, so that tokio's
    /// sockets, timers and file operations work in its coroutines. The runtime
    /// has to be driven by threads of its own, and to outlive the scheduler;
    /// `tokio::spawn` goes to it, [`spawn`](crate::spawn) stays here.
    ///
    /// # Panics
    /// If the scheduler has been started, or has a runtime already.
    #[must_use]
    pub fn with_tokio(self, runtime: Handle) -> CoroutineScheduler {
        let shared = self.shared();
        assert!(
            !shared.phase.is_started(),
            "tokio's runtime has to be known before the threads start"
        );
        let is_first = shared.tokio.0.set(runtime).is_ok();
        assert!(is_first, "a scheduler has one tokio runtime at most");
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use crate::common::oversubscribed;
    use crate::{CoroutineScheduler, SpawnOptions, scope, spawn, stackful};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    fn scheduler(runtime: &tokio::runtime::Runtime) -> CoroutineScheduler {
        let scheduler = CoroutineScheduler::new(oversubscribed(2)).unwrap();
        scheduler.with_tokio(runtime.handle().clone())
    }

    async fn echo(mut stream: TcpStream) {
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes).await.unwrap() {
                0 => return,
                n => stream.write_all(&bytes[..n]).await.unwrap(),
            }
        }
    }

    async fn ask(address: std::net::SocketAddr, number: u32) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for round in 0..20 {
            let sent = format!("{number}:{round}");
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut received = vec![0; sent.len()];
            stream.read_exact(&mut received).await.unwrap();
            assert_eq!(received, sent.as_bytes());
        }
    }

    #[test]
    fn a_tokio_echo_runs_inside_our_coroutines() {
        let runtime = runtime();
        let scheduler = scheduler(&runtime);
        scheduler.start().unwrap();
        let all = scheduler.spawn(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let _detached = spawn(echo(stream)).unwrap();
                }
            })
            .unwrap();
            scope(async |clients| {
                for number in 0..8 {
                    clients.spawn(ask(address, number)).unwrap();
                }
            })
            .await
            .unwrap();
            server.abort().unwrap();
            assert!(server.await.unwrap_err().is_cancelled());
        });
        all.unwrap().join().unwrap();
    }

    #[test]
    fn tokio_s_timers_and_tasks_work_from_ours_and_from_stacks() {
        let runtime = runtime();
        let scheduler = scheduler(&runtime);
        scheduler.start().unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        let future = scheduler.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let theirs = tokio::spawn(async move { name() }).await.unwrap();
            (name(), theirs)
        });
        let (ours, theirs) = future.unwrap().join().unwrap();
        assert!(ours.unwrap().starts_with("vcpu-"), "we poll ours");
        assert!(!theirs.unwrap().starts_with("vcpu-"), "tokio polls its own");
        let stack = scheduler.spawn_stackful(SpawnOptions::new(), || {
            stackful::wait(tokio::time::sleep(Duration::from_millis(1)));
            5
        });
        assert_eq!(stack.unwrap().join().unwrap(), 5);
    }

    #[test]
    #[should_panic(expected = "one tokio runtime")]
    fn a_second_runtime_is_refused() {
        let runtime = runtime();
        let _scheduler = scheduler(&runtime).with_tokio(runtime.handle().clone());
    }
}
