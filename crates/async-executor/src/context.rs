//! [`AsyncExecutionContext`]: the code cache and the counts that several
//! executors share, and the thread that compiles in the background.

use std::collections::HashMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::cache::{CodeCache, Published};
use crate::config::JitConfig;
use crate::error::EngineError;
use crate::jit::compile::{Compiler, count_host_insts};
use crate::jit::region::Region;
use crate::stack;
use crate::stats::JitStats;

/// Requests that wait for the background compiler at most; further hot
/// regions stay interpreted and ask again.
const QUEUE_MAX: usize = 256;

/// Host stack that a compilation may take.
const COMPILE_STACK_BYTES: usize = 1 << 20;

/// Code and counts shared by executors of the same guest, on any threads.
///
/// Cheap to clone; clones share. Looking up compiled code takes no lock.
#[derive(Clone)]
pub struct AsyncExecutionContext {
    inner: Arc<Inner>,
}

struct Inner {
    config: JitConfig,
    counts: Counts,
    runs: Mutex<Vec<Arc<RunCounts>>>,
    /// Caches by address space and kind of code. Executors keep theirs alive.
    caches: Mutex<HashMap<(u64, Kind), Weak<CodeCache>>>,
    queue: Mutex<Option<Sender<Job>>>,
    /// The host refused the thread behind the queue; it is not asked again.
    queue_refused: AtomicBool,
    /// Host stack that a compilation may take.
    compile_stack_bytes: usize,
}

/// Kinds of code that an address space can have side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Regions that chain.
    Free,
    /// The same, counting instructions.
    Counting,
    /// One block each, for [`Executor::execute`](crate::Executor::execute).
    Single,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) regions: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) insts: AtomicU64,
    pub(crate) stepped: AtomicU64,
    pub(crate) host_insts: AtomicU64,
    pub(crate) code_bytes: AtomicU64,
    pub(crate) compile_ns: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) threads_refused: AtomicU64,
    pub(crate) caches_refused: AtomicU64,
    pub(crate) retired: AtomicU64,
    pub(crate) invalidated: AtomicU64,
}

/// What one executor counts while it runs, often: its own, since a shared
/// counter would cost as much as what is counted.
#[derive(Default)]
pub(crate) struct RunCounts {
    pub(crate) entries: AtomicU64,
    pub(crate) steps: AtomicU64,
}

impl RunCounts {
    /// Counts one. Only the executor that the counter belongs to may.
    #[inline]
    pub(crate) fn one(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

pub(crate) struct Job {
    cache: Weak<CodeCache>,
    region: Region,
    generation: u64,
}

impl AsyncExecutionContext {
    /// A context without any code yet.
    #[must_use]
    pub fn new(config: JitConfig) -> AsyncExecutionContext {
        let inner = Inner {
            config,
            counts: Counts::default(),
            runs: Mutex::default(),
            caches: Mutex::default(),
            queue: Mutex::default(),
            queue_refused: AtomicBool::new(false),
            compile_stack_bytes: COMPILE_STACK_BYTES,
        };
        AsyncExecutionContext {
            inner: Arc::new(inner),
        }
    }

    /// How it compiles.
    #[must_use]
    pub fn config(&self) -> &JitConfig {
        &self.inner.config
    }

    /// What its executors compiled and ran, all together.
    #[must_use]
    pub fn stats(&self) -> JitStats {
        let c = &self.inner.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (mut code_entries, mut insts_interpreted_from_code) = (0, 0);
        for run in &*self.inner.runs.lock() {
            code_entries += get(&run.entries);
            insts_interpreted_from_code += get(&run.steps);
        }
        JitStats {
            regions_compiled: get(&c.regions),
            blocks_compiled: get(&c.blocks),
            insts_compiled: get(&c.insts),
            insts_not_translated: get(&c.stepped),
            host_insts: get(&c.host_insts),
            code_bytes: get(&c.code_bytes),
            compile_ns: get(&c.compile_ns),
            regions_failed: get(&c.failed),
            regions_discarded: get(&c.discarded),
            caches_retired: get(&c.retired),
            compile_threads_refused: get(&c.threads_refused),
            caches_refused: get(&c.caches_refused),
            regions_invalidated: get(&c.invalidated),
            code_entries,
            insts_interpreted_from_code,
        }
    }

    /// Forgets all compiled code, of all executors. Those that run compiled
    /// code now leave it at the next transfer between regions.
    pub fn flush(&self) {
        for cache in self.inner.caches.lock().values().filter_map(Weak::upgrade) {
            cache.unlink_all();
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    /// Counters for one more executor. Those of executors that are gone are
    /// merged, so that the list is no longer than there are executors.
    pub(crate) fn join(&self) -> Arc<RunCounts> {
        let mine = Arc::new(RunCounts::default());
        let mut runs = self.inner.runs.lock();
        let (alive, gone): (Vec<_>, Vec<_>) =
            runs.drain(..).partition(|run| Arc::strong_count(run) > 1);
        let sum = |of: fn(&RunCounts) -> &AtomicU64| {
            AtomicU64::new(gone.iter().map(|run| of(run).load(Ordering::Relaxed)).sum())
        };
        *runs = alive;
        runs.push(Arc::new(RunCounts {
            entries: sum(|run| &run.entries),
            steps: sum(|run| &run.steps),
        }));
        runs.push(Arc::clone(&mine));
        mine
    }

    /// The cache of an address space.
    pub(crate) fn cache(&self, space: u64, kind: Kind) -> Result<Arc<CodeCache>, EngineError> {
        let mut caches = self.inner.caches.lock();
        if let Some(cache) = caches.get(&(space, kind)).and_then(Weak::upgrade) {
            return Ok(cache);
        }
        caches.retain(|_, cache| cache.strong_count() > 0);
        let config = &self.inner.config;
        let cache = Arc::new(CodeCache::new(config.flavour(kind), config.code_bytes_max)?);
        caches.insert((space, kind), Arc::downgrade(&cache));
        Ok(cache)
    }

    /// Compiles a region on this thread and publishes it.
    pub(crate) fn compile_now(
        &self,
        compiler: &mut Compiler,
        cache: &CodeCache,
        region: &Region,
        generation: u64,
    ) -> bool {
        let inner = &self.inner;
        if stack::has_left(inner.compile_stack_bytes) {
            return inner.compile(compiler, cache, region, generation);
        }
        // A thread for one region takes a few percent of what Cranelift does.
        thread::scope(|scope| {
            let compile = || inner.compile(compiler, cache, region, generation);
            match inner.thread().spawn_scoped(scope, compile) {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => {
                    Counts::add(&inner.counts.threads_refused, 1);
                    cache.refuse(region.entry);
                    false
                }
            }
        })
    }

    /// Whether [`AsyncExecutionContext::compile_later`] can ever do it.
    pub(crate) fn has_background(&self) -> bool {
        !self.inner.queue_refused.load(Ordering::Relaxed)
    }

    /// Puts a region in the queue of the background compiler; `false` if the
    /// queue is full, or the host refuses the thread that would empty it.
    pub(crate) fn compile_later(
        &self,
        cache: &Arc<CodeCache>,
        region: Region,
        generation: u64,
    ) -> bool {
        let mut queue = self.inner.queue.lock();
        if queue.is_none() && self.has_background() {
            let (sender, receiver) = bounded(QUEUE_MAX);
            let inner = Arc::downgrade(&self.inner);
            let work = move || compile_in_background(&inner, &receiver);
            if self.inner.thread().spawn(work).is_ok() {
                *queue = Some(sender);
            } else {
                Counts::add(&self.inner.counts.threads_refused, 1);
                self.inner.queue_refused.store(true, Ordering::Relaxed);
            }
        }
        let Some(sender) = &*queue else {
            return false;
        };
        let job = Job {
            cache: Arc::downgrade(cache),
            region,
            generation,
        };
        match sender.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Inner {
    /// Compiles and publishes; whether that worked.
    fn compile(
        &self,
        compiler: &mut Compiler,
        cache: &CodeCache,
        region: &Region,
        generation: u64,
    ) -> bool {
        let counts = &self.counts;
        if cache.generation() != generation {
            Counts::add(&counts.discarded, 1);
            return false;
        }
        let Ok(compiled) = compiler.compile(region, cache.flavour) else {
            Counts::add(&counts.failed, 1);
            cache.refuse(region.entry);
            return false;
        };
        Counts::add(&counts.regions, 1);
        Counts::add(&counts.blocks, compiled.blocks as u64);
        Counts::add(&counts.insts, compiled.insts as u64);
        Counts::add(&counts.stepped, compiled.stepped as u64);
        if self.config.count_host_insts {
            Counts::add(&counts.host_insts, count_host_insts(&compiled.code));
        }
        Counts::add(&counts.code_bytes, compiled.code.len() as u64);
        Counts::add(&counts.compile_ns, compiled.compile_ns);
        let published = cache.publish(region, compiled, generation);
        if published == Published::Full {
            self.retire(cache);
        }
        if published != Published::Yes {
            Counts::add(&counts.discarded, 1);
        }
        published == Published::Yes
    }

    /// Makes room: whoever looks for this cache from now on gets a new one.
    fn retire(&self, full: &CodeCache) {
        let mut caches = self.caches.lock();
        caches.retain(|_, cache| !std::ptr::eq(cache.as_ptr(), full));
        if !full.is_retired() {
            full.retire();
            Counts::add(&self.counts.retired, 1);
        }
    }

    fn thread(&self) -> thread::Builder {
        thread::Builder::new()
            .name("hartloom-compile".to_owned())
            .stack_size(2 * self.compile_stack_bytes)
    }
}

impl fmt::Debug for AsyncExecutionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncExecutionContext")
            .field("stats", &self.stats())
            .finish()
    }
}

/// The background thread. It ends when the context is gone: the sender goes
/// with it, and jobs hold their cache weakly.
fn compile_in_background(inner: &Weak<Inner>, jobs: &Receiver<Job>) {
    let mut compiler = Compiler::default();
    for job in jobs {
        let (Some(inner), Some(cache)) = (inner.upgrade(), job.cache.upgrade()) else {
            continue;
        };
        inner.compile(&mut compiler, &cache, &job.region, job.generation);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::{Budget, Executor, Exit, HybridExecutor, Preference};
    use vm_core::hart::Hart;
    use vm_core::isa::asm::assemble;
    use vm_core::mem::{GuestMemory, Prot};
    use vm_core::{GuestAddr, XReg};

    /// What becomes of a hot guest where a compilation is said to take more
    /// stack than any host has: no thread for it can start.
    fn run_without_threads(preference: Preference) -> AsyncExecutionContext {
        let mut config = JitConfig::background();
        config.threshold = 1;
        config.warm_up_insts = 0;
        let mut context = AsyncExecutionContext::new(config);
        Arc::get_mut(&mut context.inner)
            .unwrap()
            .compile_stack_bytes = 1 << 60;
        let text = GuestAddr(0x1_0000);
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.map(text, 4096, Prot::READ | Prot::WRITE).unwrap();
        let code = "a: addi a0, a0, -1\nbnez a0, a\nb: addi a1, a1, -1\nbnez a1, b\nebreak";
        memory.write_bytes(text, &assemble(code).unwrap()).unwrap();
        memory.protect(text, 4096, Prot::EXEC).unwrap();
        let mut hart = Hart::new(text);
        hart.set_x(XReg::A0, 10_000);
        hart.set_x(XReg::A1, 10_000);
        let mut engine = HybridExecutor::with_context(context.clone(), preference);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
        assert_eq!(exit, Exit::Breakpoint);
        assert_eq!(context.stats().regions_compiled, 0);
        context
    }

    #[test]
    fn a_background_thread_that_is_refused_is_counted_and_not_asked_for_again() {
        let context = run_without_threads(Preference::Automatic);
        assert_eq!(context.stats().compile_threads_refused, 1);
    }

    #[test]
    fn a_thread_for_a_region_that_is_refused_is_counted_for_each_region() {
        let context = run_without_threads(Preference::Jit);
        assert_eq!(context.stats().compile_threads_refused, 2);
    }
}
