//! Hosts without room for compiled code. In processes of their own, since
//! these take the address space from themselves.

use std::process::Command;
use std::sync::atomic::AtomicU32;

use async_executor::{AsyncExecutionContext, Budget, Executor, Exit, JitConfig, JitExecutor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};

const CHILD: &str = "REFUSED_CACHES_CHILD";
const TEXT: GuestAddr = GuestAddr(0x1_0000);

/// Leaves 1 GiB of address space: enough for all but a cache.
fn leave_little() {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    limit(Some(pages * rustix::param::page_size() as u64 + (1 << 30)));
}

fn limit(current: Option<u64>) {
    let maximum = getrlimit(Resource::As).maximum;
    let current = current.or(maximum);
    setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
}

/// A sum of a1 numbers, one instruction before the loop.
fn memory() -> GuestMemory {
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(TEXT, 0x1000, Prot::READ | Prot::WRITE).unwrap();
    let code = "li a0, 0\nloop: add a0, a0, a1\naddi a1, a1, -1\nbnez a1, loop\nebreak";
    memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
    memory.protect(TEXT, 0x1000, Prot::EXEC).unwrap();
    memory
}

fn engine() -> JitExecutor {
    let mut config = JitConfig::foreground();
    config.threshold = 0;
    JitExecutor::with_context(AsyncExecutionContext::new(config))
}

/// Sums up; gives how many instructions of that were interpreted.
fn interpreted(engine: &mut JitExecutor, memory: &GuestMemory, budget: Budget) -> u64 {
    let before = engine.interp_stats().insts;
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A1, 1000);
    let exit = engine.run(&mut hart, memory, budget, &AtomicU32::new(0));
    assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, 500_500));
    engine.interp_stats().insts - before
}

const ALL: u64 = 3001;
const COUNTED: Budget = Budget::Instructions(1 << 20);

/// Runs the test `name` in a process of its own.
fn in_a_child(name: &str, test: fn()) {
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "")
        .output()
        .unwrap();
    let [stdout, stderr] = [child.stdout, child.stderr].map(|b| String::from_utf8(b).unwrap());
    assert!(child.status.success(), "{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn a_cache_in_use_stays_in_use_where_the_host_refuses_another() {
    in_a_child(
        "a_cache_in_use_stays_in_use_where_the_host_refuses_another",
        || {
            let memory = memory();
            let mut jit = engine();
            interpreted(&mut jit, &memory, Budget::Unlimited);
            assert!(jit.is_compiled(&memory, TEXT));
            leave_little();
            for _ in 0..3 {
                // Single blocks have no cache, and then runs with a budget.
                assert_eq!(jit.batch(&memory, &[TEXT]), 0);
                let mut hart = Hart::new(TEXT);
                assert_eq!(jit.execute(&mut hart, &memory), Exit::BudgetSpent);
                assert_eq!(interpreted(&mut jit, &memory, COUNTED), ALL);
                // What there was is there, and runs.
                assert!(jit.is_compiled(&memory, TEXT));
                let insts = interpreted(&mut jit, &memory, Budget::Unlimited);
                assert!(insts < 10, "{insts}");
                jit.prepare(&memory).unwrap();
                assert_eq!(jit.stats().caches_refused, 2, "once for each kind");
            }
        },
    );
}

#[test]
fn a_refused_cache_is_asked_for_again_by_prepare_and_for_another_memory() {
    in_a_child(
        "a_refused_cache_is_asked_for_again_by_prepare_and_for_another_memory",
        || {
            let (one, other) = (memory(), memory());
            let refused = |jit: &JitExecutor| jit.stats().caches_refused;
            let (mut prepared, mut other_memory) = (engine(), engine());
            leave_little();
            let error = prepared.prepare(&one).unwrap_err().to_string();
            assert!(error.contains("address space for compiled code"), "{error}");
            for jit in [&mut prepared, &mut other_memory] {
                for _ in 0..3 {
                    assert_eq!(interpreted(jit, &one, Budget::Unlimited), ALL);
                }
                assert_eq!(refused(jit), 1, "asked once, and counted");
                assert!(!jit.is_compiled(&one, TEXT));
                assert_eq!(refused(jit), 2, "of single blocks too");
            }
            assert_eq!(
                interpreted(&mut other_memory, &other, Budget::Unlimited),
                ALL
            );
            assert_eq!(refused(&other_memory), 3);

            limit(None);
            assert_eq!(interpreted(&mut prepared, &one, Budget::Unlimited), ALL);
            prepared.prepare(&one).unwrap();
            interpreted(&mut other_memory, &one, Budget::Unlimited);
            for jit in [&mut prepared, &mut other_memory] {
                interpreted(jit, &one, Budget::Unlimited);
                assert!(interpreted(jit, &one, Budget::Unlimited) < 10);
            }
            assert_eq!((refused(&prepared), refused(&other_memory)), (2, 3));
        },
    );
}
