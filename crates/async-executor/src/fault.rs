//! Host faults in generated code become guest traps.
//!
//! Generated code accesses guest memory without a check; what the guest may
//! not touch, the host's page protection refuses with SIGSEGV (or SIGBUS).
//! The handler does three things: it recognises a fault of ours (the thread is
//! inside generated code, the pc in its arena, the address in its guest space
//! or guards), notes pc and address in the hart, and makes the thread go on
//! at the end of [`enter`](crate::enter::enter). All else goes to whoever
//! handled the signal before; so does the same signal where a process sent it,
//! whatever address it says.
//!
//! - **F1** The handler only reads its thread's [`Frame`], writes engine
//!   words of the hart that is running on this thread, and the context.
//! - **F2** `Frame` is set around every entry and reset after it, so the
//!   pointers in it are valid whenever generated code runs.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;

use vm_core::hart::HartState;

use crate::jit::abi;

/// What the handler needs to know of the code this thread is running.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) hart: *mut HartState,
    /// Host addresses of the arena.
    pub(crate) code: Range<usize>,
    /// Host addresses of the guest's space and its guards.
    pub(crate) memory: Range<usize>,
    /// Host address of guest address 0.
    pub(crate) base: usize,
}

thread_local! {
    static FRAME: Cell<*const Frame> = const { Cell::new(ptr::null()) };
}

/// Announces `frame` while `body` runs.
pub(crate) fn with_frame<R>(frame: &Frame, body: impl FnOnce() -> R) -> R {
    let outer = FRAME.replace(frame);
    let result = body();
    FRAME.set(outer);
    result
}

static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Installs the handler, once per process.
pub(crate) fn install() {
    PREVIOUS.get_or_init(|| {
        SIGNALS.map(|signal| {
            // SAFETY: F1: the handler is async-signal-safe; the structures are
            // plain data that sigaction fills.
            unsafe {
                let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
                action.sa_sigaction = on_fault as *const () as usize;
                // One at a time: sent ones could nest until the alternate
                // stack is full.
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&raw mut action.sa_mask);
                for signal in SIGNALS {
                    libc::sigaddset(&raw mut action.sa_mask, signal);
                }
                let mut previous: libc::sigaction = MaybeUninit::zeroed().assume_init();
                let installed = libc::sigaction(signal, &raw const action, &raw mut previous);
                assert_eq!(installed, 0, "sigaction on a standard signal cannot fail");
                previous
            }
        })
    });
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: F1: the kernel's structure. Codes above 0 are the kernel's own;
    // what a process sends has others, and no fault's address.
    let is_sent = unsafe { (*info).si_code <= 0 };
    let frame = FRAME.get();
    if !frame.is_null() && !is_sent {
        // SAFETY: F1, F2: the frame is valid while set, info and context are
        // the kernel's, and the hart is this thread's.
        let handled = unsafe { leave_generated_code(&*frame, info, context) };
        if handled {
            return;
        }
    }
    // SAFETY: F1: not ours; arguments as the kernel gave them.
    unsafe { pass_on(signal, info, context, is_sent) };
}

/// Redirects the thread out of generated code if the fault is the guest's.
///
/// # Safety
/// F1 and F2; `info` and `context` are what the kernel passed.
unsafe fn leave_generated_code(
    frame: &Frame,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) -> bool {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel's structures, valid during the handler.
    let (registers, address) =
        unsafe { (&mut (*context).uc_mcontext.gregs, (*info).si_addr().addr()) };
    let pc = registers[libc::REG_RIP as usize] as usize;
    if !frame.code.contains(&pc) || !frame.memory.contains(&address) {
        return false;
    }
    // SAFETY: F2: the hart outlives the entry that set the frame.
    let words = unsafe { &mut (*frame.hart).engine };
    words[abi::FAULT_PC] = pc as u64;
    words[abi::FAULT_ADDR] = address.wrapping_sub(frame.base) as u64;
    // Bit 1 of the page-fault error code: a write (Intel SDM, vol. 3, 4.7).
    words[abi::FAULT_WRITE] = registers[libc::REG_ERR as usize] as u64 >> 1 & 1;
    registers[libc::REG_RSP as usize] = words[abi::UNWIND].cast_signed();
    registers[libc::REG_R12 as usize] = frame.hart.expose_provenance() as i64;
    registers[libc::REG_RAX as usize] = 1;
    registers[libc::REG_RIP as usize] = crate::enter::resume_address() as i64;
    true
}

/// Does with the signal what would have happened without this handler.
///
/// # Safety
/// Called from the handler with the kernel's arguments.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, is_sent: bool) {
    let index = usize::from(signal != SIGNALS[0]);
    let Some(previous) = PREVIOUS.get().map(|all| &all[index]) else {
        return;
    };
    match previous.sa_sigaction {
        // Faults cannot be ignored.
        libc::SIG_IGN if is_sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: restores the default. The faulting instruction is
            // executed again and the process ends as it would have; where
            // there is none, the signal has to come again, after the handler.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if is_sent {
                    libc::raise(signal);
                }
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: with SA_SIGINFO it is a function of this type.
            let handler = unsafe {
                std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                    handler,
                )
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO it is a function of this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}
