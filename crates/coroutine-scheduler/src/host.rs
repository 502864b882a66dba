//! What the host says of a thread: to tell one that does not answer from one
//! that the host does not let run.
//!
//! - **H1** `clock_gettime` writes one `timespec` to the place it is given.

use rustix::fs::{Mode, OFlags};

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
        crate::watchdog::end_if_it_hangs();
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
        drop(end);
        waits.join().unwrap();
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        assert_eq!(state(b"7 (a) R (b) S 1 2"), Some(b'S'));
        assert_eq!(state(b"7 (vcpu-0) R 1"), Some(b'R'));
        assert_eq!(state(b"7 (vcpu-0)"), None);
        assert_eq!(state(b""), None);
    }
}
