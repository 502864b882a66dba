//! SIGSEGV and SIGBUS that somebody sends are no faults of a guest. Each test
//! has a process of its own: handlers are the process's.

use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use async_executor::{Budget, Executor, Exit, HybridExecutor, JitConfig, JitExecutor};
use vm_core::GuestAddr;
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};

/// Set in the process that a test runs in.
const INSIDE: &str = "HARTLOOM_TEST_FOREIGN_SIGNALS";

/// Runs `test` in a process of its own: this test again.
fn in_own_process(name: &str, test: impl FnOnce()) -> Option<ExitStatus> {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return None;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "yes")
        .status();
    Some(status.unwrap())
}

fn own_id() -> libc::pid_t {
    std::process::id().try_into().unwrap()
}

static SEEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) {
    // SAFETY: the handler only counts.
    let before = unsafe { libc::signal(signal, handler) };
    assert_ne!(before, libc::SIG_ERR);
}

const LOOP: &str = "loop: ld a1, 0(a0)\naddi a2, a2, 1\nj loop";

fn endless_loop() -> (GuestMemory, Hart) {
    let text = GuestAddr(0x1_0000);
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(text, 4096, Prot::READ | Prot::WRITE).unwrap();
    memory.write_bytes(text, &assemble(LOOP).unwrap()).unwrap();
    memory.protect(text, 4096, Prot::READ | Prot::EXEC).unwrap();
    let mut hart = Hart::new(text);
    hart.set_x(vm_core::XReg::A0, text.0);
    (memory, hart)
}

/// The first word of a signal's operands: of a fault the address, of a sent
/// one the sender, or what the sender makes of it.
#[repr(C)]
struct Info {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    address: usize,
}

/// Sends a signal to a thread of this process that claims to be a fault at
/// `address`, in all but its code: the kernel checks the sender that others
/// than a timer's name there.
fn send_with_address(thread: libc::pid_t, signal: libc::c_int, address: usize) {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the beginning of every siginfo has this shape.
    unsafe {
        info.as_mut_ptr().cast::<Info>().write(Info {
            signal,
            errno: 0,
            code: libc::SI_TIMER,
            address,
        });
    }
    // SAFETY: the signal has a handler, and the structure is filled.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            std::process::id(),
            thread,
            signal,
            info.as_ptr(),
        )
    };
    assert_eq!(sent, 0);
}

#[test]
fn a_sent_signal_goes_to_the_earlier_handler_while_the_guest_runs_on() {
    let status = in_own_process(
        "a_sent_signal_goes_to_the_earlier_handler_while_the_guest_runs_on",
        || {
            set_handler(libc::SIGSEGV, count as *const () as usize);
            set_handler(libc::SIGBUS, count as *const () as usize);
            let mut config = JitConfig::foreground();
            config.threshold = 1;
            let engines: [Box<dyn Executor>; 2] = [
                Box::new(JitExecutor::new(config)),
                Box::new(HybridExecutor::new(config)),
            ];
            for mut engine in engines {
                let (memory, mut hart) = endless_loop();
                let (preempt, ended) = (AtomicU32::new(0), AtomicBool::new(false));
                // SAFETY: asks for this thread's number.
                let runner = unsafe { libc::gettid() };
                let address = memory.host_base().addr() + 0x2_0000;
                let exit = thread::scope(|scope| {
                    scope.spawn(|| {
                        let before = SEEN.load(Ordering::Relaxed);
                        // Most of them find it inside generated code.
                        while SEEN.load(Ordering::Relaxed) < before + 100
                            && !ended.load(Ordering::Relaxed)
                        {
                            send_with_address(runner, libc::SIGSEGV, address);
                            send_with_address(runner, libc::SIGBUS, address);
                            thread::yield_now();
                        }
                        preempt.store(1, Ordering::Relaxed);
                    });
                    let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &preempt);
                    ended.store(true, Ordering::Relaxed);
                    exit
                });
                assert_eq!(exit, Exit::Preempted);
            }
        },
    );
    assert!(status.is_none_or(|status| status.success()), "{status:?}");
}

#[test]
fn a_sent_signal_ends_the_process_where_nobody_handled_it() {
    let status = in_own_process(
        "a_sent_signal_ends_the_process_where_nobody_handled_it",
        || {
            set_handler(libc::SIGSEGV, libc::SIG_DFL);
            let _installed = JitExecutor::default();
            // SAFETY: ends the process.
            unsafe { libc::kill(own_id(), libc::SIGSEGV) };
        },
    );
    let signal = status.map(|status| status.signal());
    assert!(
        signal.is_none_or(|signal| signal == Some(libc::SIGSEGV)),
        "{signal:?}"
    );
}

#[test]
fn a_sent_signal_that_was_ignored_still_is() {
    let status = in_own_process("a_sent_signal_that_was_ignored_still_is", || {
        set_handler(libc::SIGBUS, libc::SIG_IGN);
        let _installed = JitExecutor::default();
        for _ in 0..3 {
            // SAFETY: the signal is ignored.
            unsafe { libc::kill(own_id(), libc::SIGBUS) };
        }
    });
    assert!(status.is_none_or(|status| status.success()), "{status:?}");
}
