//! How much of the host stack a guest's calls may use.
//!
//! A guest call in compiled code is a host call, so guest recursion is host
//! recursion until a region finds rsp below a limit; then everything returns
//! to the run loop, which starts over with an empty stack.
//!
//! ```text
//!   end    of the thread's stack
//!    :     callers of Executor::run
//!   rsp    of the run
//!    :     frames of compiled regions, STACK_BYTES at most
//!   limit  below it no region that makes calls starts
//!    :     RESERVE_BYTES: what needs no permission to start
//!   start  of the thread's stack: a guard page
//! ```
//!
//! The operating system is asked for a thread's stack once. Where rsp lies
//! outside it, the thread is on a stack that somebody else made, a coroutine's
//! for instance, of which nothing is known but what
//! [`JitConfig::coroutine_stack_bytes`] says.
//!
//! - **S1** Attributes are read only after the call that fills them succeeded,
//!   and given back once.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

use crate::config::JitConfig;

/// Most host stack for guest calls. More would touch more memory, and starting
/// over costs nothing beside that many calls.
const STACK_BYTES: usize = 512 << 10;

/// Host stack below the limit: the deepest way from a region that may just
/// start leads over the interpreter, nested once, to a region that makes no
/// calls (see [`FRAME_BYTES_MAX`]) and to the helper for one instruction.
/// Measured, that takes 10 KiB and the frame, in all profiles of this
/// workspace; the rest is for signal handlers of whoever embeds us. (Without
/// any optimisation interpretation takes 470 KiB: see `interp::thread`, T1.)
const RESERVE_BYTES: usize = 32 << 10;

/// With less than this for guest calls it is not worth entering them; a run
/// loop that enters has room to come to the first region.
const ROOM_BYTES_MIN: usize = 16 << 10;

/// Largest frame of a region; what would need more is not compiled.
pub(crate) const FRAME_BYTES_MAX: u32 = 8 << 10;

/// The limit for compiled code that is entered from here on; `None` where there
/// is too little to run any.
#[inline]
pub(crate) fn limit(config: &JitConfig) -> Option<u64> {
    let rsp = here();
    let left = left_of_thread(rsp).unwrap_or(config.coroutine_stack_bytes);
    let room = left.saturating_sub(RESERVE_BYTES).min(STACK_BYTES);
    (room >= ROOM_BYTES_MIN).then(|| rsp.saturating_sub(room) as u64)
}

/// Whether this stack is known to have that much left.
pub(crate) fn has_left(bytes: usize) -> bool {
    left_of_thread(here()).is_some_and(|left| left >= bytes)
}

/// About where rsp is.
#[inline(always)]
pub(crate) fn here() -> usize {
    let here = 0_u8;
    (&raw const here).addr()
}

/// Start and length of a stack without its guard.
#[derive(Clone, Copy)]
struct Stack {
    start: usize,
    bytes: usize,
}

impl Stack {
    const NONE: Stack = Stack { start: 0, bytes: 0 };

    #[inline(always)]
    fn left(self, rsp: usize) -> Option<usize> {
        let left = rsp.wrapping_sub(self.start);
        (left < self.bytes).then_some(left)
    }
}

/// Bytes below `rsp` on this thread's own stack, `None` on another. Every run
/// that comes to compiled code asks, so the usual answer takes a few
/// instructions.
#[inline(always)]
fn left_of_thread(rsp: usize) -> Option<usize> {
    thread_local! {
        static OWN: Cell<Stack> = const { Cell::new(Stack::NONE) };
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }
    #[cold]
    fn ask_first(rsp: usize) -> Option<usize> {
        if !ASKED.replace(true) {
            OWN.set(ask().unwrap_or(Stack::NONE));
        }
        OWN.get().left(rsp)
    }
    OWN.get().left(rsp).or_else(|| ask_first(rsp))
}

/// What the system says of this thread's stack.
fn ask() -> Option<Stack> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: S1: it fills the attributes of the calling thread, which exists.
    let got = unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) };
    if got != 0 {
        return None;
    }
    let (mut start, mut bytes, mut guard) = (ptr::null_mut(), 0, 0);
    // SAFETY: S1: filled above; the others are locals.
    let failed = unsafe {
        let attributes = attributes.as_mut_ptr();
        let failed = libc::pthread_attr_getstack(attributes, &raw mut start, &raw mut bytes)
            | libc::pthread_attr_getguardsize(attributes, &raw mut guard);
        libc::pthread_attr_destroy(attributes);
        failed
    };
    // Some C libraries count the guard as a part of the stack.
    (failed == 0).then(|| Stack {
        start: start.addr() + guard,
        bytes: bytes.saturating_sub(guard),
    })
}
