//! Guards below stacks, and the signal handler that tells an overflow.
//!
//! Whoever touches a guard gets SIGSEGV. The handler looks whether the address
//! lies in a guard of some slab, and whether the thread runs on the stack above
//! it: then the coroutine, its spawn site and the size of its stack go to
//! stderr, and the process aborts (its core dump shows the frames). Every other
//! fault goes to whoever handled the signal before.
//!
//! - **U1** The handler reads atomics, this thread's running stack and what that
//!   refers to, writes to its own stack and to stderr, and aborts: all of it
//!   async-signal-safe.
//! - **U2** What is mapped or marked here belongs to the caller, who says so.
//! - **U3** Nodes of the list of regions are never freed, so that the handler
//!   may follow it at any time. A node is free again when its `start` is 0.
//! - **U4** A thread's alternate stack stays mapped until the thread, in its
//!   end, has told the host to use it no more.

use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};

use crate::coroutine::stackful;

/// `MADV_GUARD_INSTALL` of Linux 6.13 (`mman-common.h`).
const GUARD_INSTALL: c_int = 102;

/// Makes a guard that is no mapping of its own.
///
/// # Safety
/// U2: a page range of a private anonymous mapping that nobody uses.
pub(crate) unsafe fn install(at: NonNull<c_void>, bytes: usize) -> Result<(), Errno> {
    // SAFETY: U2.
    match unsafe { libc::madvise(at.as_ptr(), bytes, GUARD_INSTALL) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Whether the host has such guards, and lets this process use them.
pub(crate) fn has_light_guards() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let bytes = rustix::param::page_size();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: U2: a new mapping.
        let page = unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::PRIVATE) };
        let Some(page) = page.ok().and_then(NonNull::new) else {
            return false;
        };
        // SAFETY: U2: made above.
        let is_there = unsafe { install(page, bytes) }.is_ok();
        // SAFETY: the same; it is not used after this.
        let _ = unsafe { mm::munmap(page.as_ptr(), bytes) };
        is_there
    })
}

/// How many guards that are mappings this process can have, leaving some for
/// everybody else.
pub(crate) fn mapped_guards_max() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let limit = limit.ok().and_then(|text| text.trim().parse().ok());
    let used = std::fs::read("/proc/self/maps").map_or(1000, |maps| {
        maps.iter().filter(|byte| **byte == b'\n').count()
    });
    mapped_guards(limit.unwrap_or(65_530), used)
}

/// Each takes two mappings: itself and its stack.
fn mapped_guards(limit: usize, used: usize) -> usize {
    let others = 256 + limit / 64;
    limit.saturating_sub(used + others) / 2
}

fn last_error() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}

/// Addresses of a slab, as the handler finds them.
#[derive(Debug)]
pub(crate) struct Region(&'static Node);

#[derive(Debug)]
struct Node {
    /// 0 where the node is free.
    start: AtomicUsize,
    bytes: AtomicUsize,
    slot_bytes: AtomicUsize,
    guard_bytes: AtomicUsize,
    next: AtomicPtr<Node>,
}

static REGIONS: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

fn regions() -> impl Iterator<Item = &'static Node> {
    let next = |node: &AtomicPtr<Node>| {
        // SAFETY: U3: null, or a node that is never freed.
        unsafe { node.load(Ordering::Acquire).as_ref() }
    };
    std::iter::successors(next(&REGIONS), move |node| next(&node.next))
}

impl Region {
    /// Lets the handler know of a slab; the first one installs the handler.
    pub(crate) fn register(
        start: usize,
        bytes: usize,
        slot_bytes: usize,
        guard_bytes: usize,
    ) -> Region {
        install_handler();
        /// Taken by a slab that has not said yet where it is.
        const TAKEN: usize = usize::MAX;
        let free = regions().find(|node| {
            let taken =
                (node.start).compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        });
        let node = free.unwrap_or_else(|| {
            let node = Box::leak(Box::new(Node {
                start: AtomicUsize::new(TAKEN),
                bytes: AtomicUsize::new(0),
                slot_bytes: AtomicUsize::new(1),
                guard_bytes: AtomicUsize::new(0),
                next: AtomicPtr::new(ptr::null_mut()),
            }));
            let _ = REGIONS.fetch_update(Ordering::AcqRel, Ordering::Acquire, |first| {
                node.next.store(first, Ordering::Relaxed);
                Some(node)
            });
            node
        });
        node.slot_bytes.store(slot_bytes, Ordering::Relaxed);
        node.guard_bytes.store(guard_bytes, Ordering::Relaxed);
        node.start.store(start, Ordering::Relaxed);
        // Last: while it is 0 the handler finds nothing here.
        node.bytes.store(bytes, Ordering::Release);
        Region(node)
    }

    /// The slab goes.
    pub(crate) fn forget(&self) {
        self.0.bytes.store(0, Ordering::Release);
        self.0.start.store(0, Ordering::Release);
    }
}

impl Node {
    fn has_guard_at(&self, address: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Acquire);
        let offset = address.wrapping_sub(self.start.load(Ordering::Relaxed));
        offset < bytes
            && offset % self.slot_bytes.load(Ordering::Relaxed)
                < self.guard_bytes.load(Ordering::Relaxed)
    }
}

static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once per process.
fn install_handler() {
    PREVIOUS.get_or_init(|| {
        // SAFETY: plain data, for which zeros are valid.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        let mut previous = action;
        // SAFETY: U1; both structures live during the call. SIGSEGV can be
        // handled, so it does not fail.
        unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut previous) };
        previous
    });
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's structure, valid during the handler.
    let info_here = unsafe { &*info };
    // SAFETY: SIGSEGV's has an address.
    let address = unsafe { info_here.si_addr() }.addr();
    if regions().any(|region| region.has_guard_at(address)) {
        tell_overflow(address);
    }
    // SAFETY: U1: not ours; arguments as the kernel gave them.
    unsafe { pass_on(signal, info, context) };
}

/// Says whose stack is too small and aborts, if the running coroutine's is.
fn tell_overflow(address: usize) {
    let mut text = Text::default();
    let is_told = stackful::with_running(|running| {
        if !running.stack.contains(&address) {
            return false;
        }
        let kib = running.usable_bytes >> 10;
        let _ = match running.name {
            Some(name) => write!(text, "\ncoroutine \"{name}\" ({})", running.id),
            None => write!(text, "\ncoroutine {}", running.id),
        };
        let _ = writeln!(
            text,
            ", spawned at {}, has overflowed its stack of {kib} KiB\n\
             note: recurse less, or raise stacks.stack_bytes; the process aborts",
            running.spawned_at
        );
        true
    });
    if is_told == Some(true) {
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        std::process::abort();
    }
    // A wild pointer, or code that left its stack unseen: the fault is reported
    // by whoever is next, with this to explain it.
    let _ = writeln!(
        text,
        "\na thread touched the guard of a coroutine's stack at {address:#x}, \
         and does not run on that stack"
    );
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

/// Text without an allocation; what does not fit is cut off.
struct Text {
    bytes: [u8; 640],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; 640],
            len: 0,
        }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let n = room.len().min(text.len());
        room[..n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Does with the signal what would have happened without this handler.
///
/// # Safety
/// Called from the handler with the kernel's arguments.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    type Plain = extern "C" fn(c_int);
    type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    let previous = PREVIOUS.get();
    match previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction) {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: restores the default; the faulting instruction is
            // executed again and the process ends as it would have.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        handler if previous.is_some_and(|p| p.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: with SA_SIGINFO it is a function of this type.
            let handler = unsafe { std::mem::transmute::<usize, WithInfo>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO it is a function of this type.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(handler) };
            handler(signal);
        }
    }
}

/// An alternate stack for signals that this module made for its thread.
#[derive(Debug)]
pub(crate) struct SignalStack {
    start: NonNull<c_void>,
    bytes: usize,
}

impl SignalStack {
    /// Gives this thread one if it has none: threads that the standard library
    /// made have one, those of a foreign host may not. `None` if none is needed
    /// or to be had; then overflows end the process without words.
    pub(crate) fn if_needed() -> Option<SignalStack> {
        // SAFETY: plain data, for which zeros are valid.
        let mut present: libc::stack_t = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: asks only.
        unsafe { libc::sigaltstack(ptr::null(), &raw mut present) };
        if present.ss_flags & libc::SS_DISABLE == 0 {
            return None;
        }
        let page = rustix::param::page_size();
        let bytes = 64 << 10;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: U2: a new mapping.
        let start =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::PRIVATE) };
        let start = start.ok().and_then(NonNull::new)?;
        // SAFETY: U2: the lowest page of it becomes its guard.
        let _ = unsafe { mm::mprotect(start.as_ptr(), page, MprotectFlags::empty()) };
        let stack = libc::stack_t {
            ss_sp: start.as_ptr(),
            ss_flags: 0,
            ss_size: bytes,
        };
        // SAFETY: U4.
        unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
        Some(SignalStack { start, bytes })
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        let none = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: self.bytes,
        };
        // SAFETY: U4: dropped by its own thread, in no handler.
        unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) };
        // SAFETY: U2, U4: nobody uses it any more.
        let _ = unsafe { mm::munmap(self.start.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_found_and_stacks_are_not() {
        let start = 0x7000_0000_0000;
        let region = Region::register(start, 0x3000, 0x1000, 0x100);
        let is_guard = |offset: usize| regions().any(|r| r.has_guard_at(start + offset));
        assert!(is_guard(0) && is_guard(0xff) && is_guard(0x1000) && is_guard(0x20ff));
        assert!(!is_guard(0x100) && !is_guard(0xfff) && !is_guard(0x3000));
        region.forget();
        assert!(!is_guard(0));
        let other = Region::register(start + 0x10_0000, 0x3000, 0x1000, 0x100);
        assert!(!is_guard(0) && is_guard(0x10_0000));
        other.forget();
    }

    #[test]
    fn mapped_guards_leave_room_for_others() {
        assert_eq!(mapped_guards(65_530, 100), (65_530 - 100 - 256 - 1023) / 2);
        assert_eq!(mapped_guards(100, 1000), 0);
    }

    #[test]
    fn long_text_is_cut() {
        let mut text = Text::default();
        for _ in 0..100 {
            text.write_str("0123456789").unwrap();
        }
        assert_eq!(text.as_bytes().len(), 640);
    }
}
