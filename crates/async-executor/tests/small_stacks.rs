//! Guest recursion is host recursion, on whatever stack the host runs: a
//! thread's small one, or one that somebody else made, as for a coroutine.

#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one switch to another stack and back"
)]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::thread;

use async_executor::{
    Budget, Executor, Exit, HybridExecutor, InterpreterExecutor, JitConfig, JitExecutor,
};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};

const TEXT: GuestAddr = GuestAddr(0x1_0000);
const END: GuestAddr = GuestAddr(0x1_0800);
const STACK: GuestAddr = GuestAddr(0x100_0000);
const STACK_BYTES: u64 = 16 << 20;
const DEPTH: u64 = 200_000;

/// f(n) = n == 0 ? 0 : 1 + g(n - 1), with g the same: one of the two is often
/// cold, so that interpreter and compiled code call each other.
const RECURSION: &str = "
    f: beqz a0, done
    addi sp, sp, -16
    sd ra, 0(sp)
    addi a0, a0, -1
    andi t0, a0, 7
    bnez t0, near
    frcsr t1
    fadd.d fa0, fa0, fa1
    fcvt.l.d t2, fa0
    jal ra, g
    j back
    near: jal ra, f
    back: addi a0, a0, 1
    ld ra, 0(sp)
    addi sp, sp, 16
    done: ret
    g: beqz a0, done
    addi sp, sp, -16
    sd ra, 0(sp)
    addi a0, a0, -1
    jal ra, f
    addi a0, a0, 1
    ld ra, 0(sp)
    addi sp, sp, 16
    ret";

fn eager() -> JitConfig {
    let mut config = JitConfig::foreground();
    config.threshold = 0;
    config
}

fn recurse(engine: &mut dyn Executor) {
    let memory = GuestMemory::new(32 << 20).unwrap();
    memory.map(TEXT, 0x1000, Prot::READ | Prot::WRITE).unwrap();
    let code = assemble(RECURSION).unwrap();
    memory.write_bytes(TEXT, &code).unwrap();
    let end = assemble("ebreak").unwrap();
    memory.write_bytes(END, &end).unwrap();
    memory.protect(TEXT, 0x1000, Prot::EXEC).unwrap();
    let data = Prot::READ | Prot::WRITE;
    memory.map(STACK, STACK_BYTES, data).unwrap();
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A0, DEPTH);
    hart.set_x(XReg::Sp, STACK.0 + STACK_BYTES);
    hart.set_x(XReg::Ra, END.0);
    let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
    assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, DEPTH));
}

/// Those that compile, at several thresholds, with `config` as they start.
fn engines(config: JitConfig) -> Vec<Box<dyn Executor>> {
    let mut engines: Vec<Box<dyn Executor>> = vec![Box::new(InterpreterExecutor::new())];
    for threshold in [0, 5, 1000] {
        let config = {
            let mut config = config;
            config.threshold = threshold;
            config
        };
        engines.push(Box::new(JitExecutor::new(config)));
        engines.push(Box::new(HybridExecutor::new(config)));
    }
    engines
}

/// The bytes of a stack of its own that `body` used, of `bytes`.
fn on_own_stack(bytes: usize, body: impl FnOnce()) -> usize {
    const PAGE: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let all = bytes + PAGE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let mapping = unsafe { libc::mmap(ptr::null_mut(), all, protection, flags, -1, 0) };
    assert_ne!(mapping, libc::MAP_FAILED);
    // SAFETY: its lowest page becomes the guard.
    let guarded = unsafe { libc::mprotect(mapping, PAGE, libc::PROT_NONE) };
    assert_eq!(guarded, 0);

    let mut body = Some(body);
    let mut call = || body.take().expect("entered once")();
    let call: &mut dyn FnMut() = &mut call;
    let entry = NonNull::from(&call).cast::<()>();
    ENTRY.set(Some(entry));
    let mut back = MaybeUninit::<libc::ucontext_t>::zeroed();
    let mut there = MaybeUninit::<libc::ucontext_t>::zeroed();
    // SAFETY: both contexts are filled by getcontext and live until the switch
    // back; the stack is the writable part of the mapping.
    unsafe {
        assert_eq!(libc::getcontext(there.as_mut_ptr()), 0);
        let there = &mut *there.as_mut_ptr();
        there.uc_stack.ss_sp = mapping.byte_add(PAGE);
        there.uc_stack.ss_size = bytes;
        there.uc_link = back.as_mut_ptr();
        libc::makecontext(there, on_entry, 0);
        assert_eq!(libc::swapcontext(back.as_mut_ptr(), there), 0);
    }
    // SAFETY: initialised by the kernel, and nobody runs on it any more.
    let stack = unsafe { std::slice::from_raw_parts(mapping.cast::<u8>().add(PAGE), bytes) };
    let untouched = stack.iter().take_while(|&&byte| byte == 0).count();
    // SAFETY: `stack` is not used again.
    unsafe { libc::munmap(mapping, all) };
    bytes - untouched
}

thread_local! {
    static ENTRY: Cell<Option<NonNull<()>>> = const { Cell::new(None) };
}

extern "C" fn on_entry() {
    let entry = ENTRY.take().expect("set before the switch");
    // SAFETY: it points to the reference in `on_own_stack`, which waits.
    let call = unsafe { &mut **entry.cast::<&mut dyn FnMut()>().as_ptr() };
    call();
}

#[test]
fn deep_recursion_comes_back_on_a_thread_with_a_small_stack() {
    for kib in [64, 128, 256, 512, 1024] {
        let run = move || {
            for mut engine in engines(eager()) {
                recurse(&mut *engine);
            }
            // Compiled all the same.
            let mut jit = JitExecutor::new(eager());
            recurse(&mut jit);
            assert!(jit.stats().code_entries > 0, "{kib} KiB");
        };
        let thread = thread::Builder::new().stack_size(kib << 10);
        thread.spawn(run).unwrap().join().unwrap();
    }
}

#[test]
fn a_run_on_a_coroutines_stack_takes_no_more_than_it_may() {
    // More than the frames of this test, above the run, take.
    const TEST_BYTES: usize = 4 << 10;
    for kib in [16, 48, 64, 256] {
        let mut config = eager();
        config.coroutine_stack_bytes = kib << 10;
        for mut engine in engines(config) {
            let bytes = on_own_stack(1 << 20, || recurse(&mut *engine));
            assert!(bytes <= (kib << 10) + TEST_BYTES, "{bytes} of {kib} KiB");
        }
        let mut jit = JitExecutor::new(config);
        on_own_stack((kib << 10) + TEST_BYTES, || recurse(&mut jit));
        assert_eq!(jit.stats().code_entries > 0, kib >= 48, "{kib} KiB");
    }
}
