//! What the host says of a thread, to tell one that does not answer from one
//! that the host does not let run; and what is asked of it for one.
//!
//! - **H1** `clock_gettime` writes one `timespec` to the place it is given.
//! - **H2** `sched_getattr` writes a `sched_attr` of the size it is given to the
//!   place it is given, `sched_setattr` reads one; neither touches other memory.
//! - **H3** `sched_setscheduler` reads one `sched_param`.

use rustix::fs::{Mode, OFlags};
use rustix::process::{getpriority_process, setpriority_process};

use crate::stall::Doing;

/// Processor time that a thread of this process has used, in nanoseconds; also
/// while it runs. `None` if there is no such thread.
pub(crate) fn thread_cpu_ns(thread: i32) -> Option<u64> {
    /// `CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED` of `posix-timers.h`: the kernel's
    /// name of a thread's clock, as `pthread_getcpuclockid` makes it, without
    /// the `pthread_t` of a thread that may have ended.
    const PER_THREAD_SCHED: libc::clockid_t = 4 | 2;
    if thread <= 0 {
        return None;
    }
    let clock = (!thread << 3) | PER_THREAD_SCHED;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: H1.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if outcome != 0 {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let rest = u64::try_from(time.tv_nsec).ok()?;
    Some(seconds * 1_000_000_000 + rest)
}

/// The kernel's name of the thread that calls.
const THIS_THREAD: libc::pid_t = 0;

/// How `size` of `sched_attr` is given to the kernel.
const ATTR_BYTES: u32 = size_of::<libc::sched_attr>() as u32;

/// The attributes of this thread; `None` where the host does not tell.
fn own_attributes() -> Option<libc::sched_attr> {
    attributes(THIS_THREAD)
}

/// Those of a thread of this process.
fn attributes(thread: libc::pid_t) -> Option<libc::sched_attr> {
    let mut attr = libc::sched_attr {
        size: ATTR_BYTES,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    const NO_FLAGS: u32 = 0;
    // SAFETY: H2.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            thread,
            &raw mut attr,
            ATTR_BYTES,
            NO_FLAGS,
        )
    };
    (outcome == 0).then_some(attr)
}

/// Asks for turns of so many nanoseconds on this thread, 100 µs at least: one
/// that wakes for short work then goes before others whose turn has not ended,
/// and gets no larger share. Linux knows that from 6.12 on; whether the host
/// took it. Threads that this one makes do not inherit it.
pub(crate) fn ask_for_short_turns(ns: u64) -> bool {
    let Some(mut attr) = own_attributes() else {
        return false;
    };
    // Who runs the process as real-time or idle means its threads, too. And a
    // negative niceness would not be inherited either.
    if attr.sched_policy != libc::SCHED_OTHER.cast_unsigned() || attr.sched_nice < 0 {
        return false;
    }
    attr.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
    attr.sched_runtime = ns;
    const NO_FLAGS: u32 = 0;
    // SAFETY: H2.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            THIS_THREAD,
            &raw const attr,
            NO_FLAGS,
        )
    };
    outcome == 0
}

/// How a thread competes with others for processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    is_idle: bool,
    niceness: i32,
}

impl Standing {
    /// This thread's; `None` where the host does not tell.
    pub(crate) fn own() -> Option<Standing> {
        let idle = libc::SCHED_IDLE.cast_unsigned();
        Some(Standing {
            // Where it cannot be read it is not changed either.
            is_idle: own_attributes().is_some_and(|attr| attr.sched_policy == idle),
            niceness: getpriority_process(None).ok()?,
        })
    }

    /// Makes it this thread's, which `now` has another one; whether it is.
    pub(crate) fn restore(self, now: Standing) -> bool {
        let is_awake = self.is_idle || !now.is_idle || set_class(THIS_THREAD, libc::SCHED_OTHER);
        let is_as_nice =
            || now.niceness == self.niceness || setpriority_process(None, self.niceness).is_ok();
        is_awake && is_as_nice()
    }
}

/// Lets a thread of this process run only while nothing else wants to; `false`
/// if it is of another class than the ordinary one, or the host refuses.
pub(crate) fn make_idle(thread: i32) -> bool {
    let other = libc::SCHED_OTHER.cast_unsigned();
    thread > 0
        && attributes(thread).is_some_and(|attr| attr.sched_policy == other)
        && set_class(thread, libc::SCHED_IDLE)
}

/// By the system call: `sched_setscheduler` of a C library may mean processes.
fn set_class(thread: libc::pid_t, class: libc::c_int) -> bool {
    const PRIORITY: libc::c_int = 0;
    let param = PRIORITY;
    // SAFETY: H3: one `int` is all there is in Linux's `sched_param`.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            thread,
            class,
            &raw const param,
        )
    };
    outcome == 0
}

/// Whether a thread of this process, by its name, has done what
/// [`ask_for_short_turns`] does, on whatever kernel; `None` if there is none.
#[cfg(test)]
pub(crate) fn has_asked_for_short_turns(name: &str) -> Option<bool> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let thread = threads.flatten().find(|thread| {
        let its_name = std::fs::read_to_string(thread.path().join("comm"));
        its_name.is_ok_and(|its_name| its_name.trim_end() == name)
    })?;
    let number = thread.file_name().to_str()?.parse().ok()?;
    let flags = attributes(number)?.sched_flags;
    Some(flags & libc::SCHED_FLAG_RESET_ON_FORK as u64 != 0)
}

/// What a thread of this process does.
pub(crate) fn doing(thread: i32) -> Doing {
    let path = format!("/proc/self/task/{thread}/syscall");
    let Ok(file) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return Doing::Unknown;
    };
    // The number comes first; the rest, arguments and addresses, is no use here.
    let mut bytes = [0; 32];
    let n_bytes = rustix::io::read(file, &mut bytes).unwrap_or(0);
    doing_by(&bytes[..n_bytes])
}

/// By `/proc/PID/syscall`: `running`, or a number; -1 for a thread that stopped
/// outside of a system call, in a page fault for instance.
fn doing_by(syscall: &[u8]) -> Doing {
    let text = str::from_utf8(syscall).unwrap_or_default();
    match text.split_ascii_whitespace().next() {
        Some("running" | "-1") => Doing::Computing,
        Some(number) => number.parse().map_or(Doing::Unknown, Doing::SystemCall),
        None => Doing::Unknown,
    }
}

/// Whether a thread of this process runs or would if the host let it, and does
/// not sleep in a system call. `None` where /proc does not say.
pub(crate) fn is_runnable(thread: i32) -> Option<bool> {
    let path = format!("/proc/self/task/{thread}/stat");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = [0; 128];
    let n_bytes = rustix::io::read(file, &mut bytes).ok()?;
    state(&bytes[..n_bytes]).map(|state| state == b'R')
}

/// The third field of `/proc/PID/stat`, behind a name that may hold anything.
fn state(stat: &[u8]) -> Option<u8> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_change_neither_class_nor_niceness_and_are_not_inherited() {
        std::thread::spawn(|| {
            let before = own_attributes().unwrap();
            let is_taken = ask_for_short_turns(100_000);
            let after = own_attributes().unwrap();
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            // Before 6.12 it is ignored, and reported as 0.
            assert!(!is_taken || [0, 100_000].contains(&after.sched_runtime));
            let child = std::thread::spawn(|| own_attributes().unwrap());
            assert_eq!(child.join().unwrap().sched_runtime, before.sched_runtime);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_becomes_idle_and_keeps_its_niceness() {
        std::thread::spawn(|| {
            let before = Standing::own().unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            assert!(make_idle(thread));
            assert!(!make_idle(thread), "it is of another class by now");
            let idle = Standing::own().unwrap();
            assert_eq!((idle.is_idle, idle.niceness), (true, before.niceness));
            // As the host likes; but it says the truth.
            let is_restored = before.restore(idle);
            assert_eq!(is_restored, Standing::own() == Some(before));
            assert!(!make_idle(0) && !make_idle(1 << 23), "nobody's");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_threads_time_goes_on_while_it_runs() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let start = thread_cpu_ns(own).unwrap();
        while thread_cpu_ns(own).unwrap() < start + 1_000_000 {}
        assert_eq!(is_runnable(own), Some(true));
        assert_eq!(thread_cpu_ns(0), None);
        assert_eq!(thread_cpu_ns(1 << 23), None, "beyond PID_MAX_LIMIT");
        assert_eq!(is_runnable(1 << 23), None);
    }

    #[test]
    fn a_thread_that_waits_is_not_runnable() {
        crate::common::watchdog::end_if_it_hangs();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let waits = std::thread::spawn(move || {
            let own = rustix::thread::gettid().as_raw_nonzero().get();
            sender.send(own).unwrap();
            let _ = ended.recv();
        });
        let thread = receiver.recv().unwrap();
        while is_runnable(thread) != Some(false) {
            std::thread::yield_now();
        }
        // Unless the host's kernel does not tell.
        let futex = Doing::SystemCall(libc::SYS_futex as u32);
        assert!([futex, Doing::Unknown].contains(&doing(thread)));
        drop(end);
        waits.join().unwrap();
    }

    #[test]
    fn what_a_thread_does_is_read_as_the_kernel_writes_it() {
        let check = |text: &str, doing| assert_eq!(doing_by(text.as_bytes()), doing, "{text}");
        check("running\n", Doing::Computing);
        check("-1 0x7ffd 0x7f00\n", Doing::Computing);
        check("202 0x7f 0x189 0x0 0x0 0x0 0xff", Doing::SystemCall(202));
        check("", Doing::Unknown);
        check("?", Doing::Unknown);
        assert_eq!(doing(1 << 23), Doing::Unknown);
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        assert_eq!(state(b"7 (a) R (b) S 1 2"), Some(b'S'));
        assert_eq!(state(b"7 (vcpu-0) R 1"), Some(b'R'));
        assert_eq!(state(b"7 (vcpu-0)"), None);
        assert_eq!(state(b""), None);
    }
}
