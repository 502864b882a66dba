//! THE table of system calls: number, name, arguments, handler, class.
//!
//! The dispatcher ([`HANDLERS`]), `--strace`, `hartloom syscalls`,
//! docs/syscalls.md and the sandbox's filter read it, so a new row is all that
//! a new call needs besides its handler.

use std::fmt::Write as _;

use rustix::io::Errno;

use super::{
    Call, Handler, Reply, descriptor, event, futex, lock, memory, path, process, signal, stat,
    terminal, time, transfer,
};
use crate::kernel::Kernel;

/// Numbers below this are looked up by index.
pub(crate) const NUMBER_COUNT: usize = 512;

/// Index of everything else.
pub(crate) const UNKNOWN: usize = NUMBER_COUNT;

/// What an argument is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arg {
    /// A file descriptor.
    Fd,
    /// A directory's descriptor, or `AT_FDCWD`.
    DirFd,
    /// A path, NUL-terminated.
    Path,
    /// An address.
    Pointer,
    /// A length in bytes, or a count.
    Length,
    /// A set of bits.
    Flags,
    /// Permissions of a file, octal.
    Mode,
    /// A position in a file.
    Offset,
    /// A signal number.
    Signal,
    /// Any other integer, signed.
    Int,
}

/// What a call touches: what a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// Works on descriptors that are open already.
    Descriptor,
    /// Looks at the file system by path.
    FileRead,
    /// May change the file system by path.
    FileWrite,
    /// The address space.
    Memory,
    /// The process itself: identity, limits, ending.
    Process,
    /// Signals to itself, and what they do.
    Signal,
    /// Clocks and sleeping.
    Time,
    /// Waiting between threads.
    Sync,
    /// Facts about the system.
    System,
}

impl Class {
    /// What it is called in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Descriptor => "descriptor",
            Class::FileRead => "file-read",
            Class::FileWrite => "file-write",
            Class::Memory => "memory",
            Class::Process => "process",
            Class::Signal => "signal",
            Class::Time => "time",
            Class::Sync => "sync",
            Class::System => "system",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct SyscallRow {
    /// Number in the asm-generic table.
    pub number: u16,
    /// Name, as in `syscall(2)`.
    pub name: &'static str,
    /// What its arguments are.
    pub args: &'static [Arg],
    /// What it touches.
    pub class: Class,
    /// What differs from Linux; empty where nothing is known to.
    pub note: &'static str,
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for SyscallRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}{:?}", self.number, self.name, self.args)
    }
}

const fn row(
    number: u16,
    name: &'static str,
    args: &'static [Arg],
    handler: Handler,
    class: Class,
    note: &'static str,
) -> SyscallRow {
    SyscallRow {
        number,
        name,
        args,
        class,
        note,
        handler,
    }
}

use Arg::{DirFd, Fd, Flags, Int, Length, Mode, Offset, Path, Pointer};
use Class::{Descriptor, FileRead, FileWrite, Memory, Sync, System, Time};

// A constant, so that the dispatch array can be computed from it.
#[rustfmt::skip]
const ROWS: &[SyscallRow] = &[
    row(17, "getcwd", &[Pointer, Length], path::getcwd, FileRead, ""),
    row(23, "dup", &[Fd], descriptor::dup, Descriptor, ""),
    row(24, "dup3", &[Fd, Fd, Flags], descriptor::dup3, Descriptor, ""),
    row(25, "fcntl", &[Fd, Int, Pointer], descriptor::fcntl, Descriptor, "descriptors, flags, pipe sizes, seals and locks, which wait without EDEADLK"),
    row(29, "ioctl", &[Fd, Flags, Pointer], terminal::ioctl, Descriptor, "terminal settings and size, FIONREAD, FIONBIO; others are ENOTTY"),
    row(32, "flock", &[Fd, Int], lock::flock, Descriptor, "waits without EDEADLK"),
    row(33, "mknodat", &[DirFd, Path, Mode, Int], path::mknodat, FileWrite, "regular files and FIFOs; others are EPERM"),
    row(34, "mkdirat", &[DirFd, Path, Mode], path::mkdirat, FileWrite, ""),
    row(35, "unlinkat", &[DirFd, Path, Flags], path::unlinkat, FileWrite, ""),
    row(36, "symlinkat", &[Path, DirFd, Path], path::symlinkat, FileWrite, ""),
    row(37, "linkat", &[DirFd, Path, DirFd, Path, Flags], path::linkat, FileWrite, ""),
    row(43, "statfs", &[Path, Pointer], stat::statfs, FileRead, "the file system has no id"),
    row(44, "fstatfs", &[Fd, Pointer], stat::fstatfs, Descriptor, "the file system has no id"),
    row(45, "truncate", &[Path, Length], path::truncate, FileWrite, ""),
    row(46, "ftruncate", &[Fd, Length], descriptor::ftruncate, Descriptor, ""),
    row(47, "fallocate", &[Fd, Flags, Offset, Length], descriptor::fallocate, Descriptor, ""),
    row(48, "faccessat", &[DirFd, Path, Mode], path::faccessat, FileRead, ""),
    row(49, "chdir", &[Path], path::chdir, FileRead, "the host process stays where it is"),
    row(50, "fchdir", &[Fd], path::fchdir, Descriptor, "the host process stays where it is"),
    row(52, "fchmod", &[Fd, Mode], descriptor::fchmod, Descriptor, ""),
    row(53, "fchmodat", &[DirFd, Path, Mode], path::fchmodat, FileWrite, ""),
    row(54, "fchownat", &[DirFd, Path, Int, Int, Flags], path::fchownat, FileWrite, ""),
    row(55, "fchown", &[Fd, Int, Int], descriptor::fchown, Descriptor, ""),
    row(56, "openat", &[DirFd, Path, Flags, Mode], path::openat, FileWrite, "of /proc/self: exe, fd/N, maps, cmdline and comm only; fd/N is shared, not opened anew; links to fd/N, and O_PATH|O_NOFOLLOW of either, are ELOOP; of other paths in /proc, those with a component of digits are ENOENT; without the host's openat2 (Linux 5.6) every other path is ENOSYS, here and in all calls that take one"),
    row(57, "close", &[Fd], descriptor::close, Descriptor, ""),
    row(59, "pipe2", &[Pointer, Flags], descriptor::pipe2, Descriptor, ""),
    row(61, "getdents64", &[Fd, Pointer, Length], descriptor::getdents64, Descriptor, ""),
    row(62, "lseek", &[Fd, Offset, Int], descriptor::lseek, Descriptor, ""),
    row(63, "read", &[Fd, Pointer, Length], transfer::read, Descriptor, "O_DIRECT asks nothing of the buffer's address"),
    row(64, "write", &[Fd, Pointer, Length], transfer::write, Descriptor, ""),
    row(65, "readv", &[Fd, Pointer, Length], transfer::readv, Descriptor, ""),
    row(66, "writev", &[Fd, Pointer, Length], transfer::writev, Descriptor, ""),
    row(67, "pread64", &[Fd, Pointer, Length, Offset], transfer::pread64, Descriptor, ""),
    row(68, "pwrite64", &[Fd, Pointer, Length, Offset], transfer::pwrite64, Descriptor, ""),
    row(69, "preadv", &[Fd, Pointer, Length, Offset], transfer::preadv, Descriptor, ""),
    row(70, "pwritev", &[Fd, Pointer, Length, Offset], transfer::pwritev, Descriptor, ""),
    row(71, "sendfile", &[Fd, Fd, Pointer, Length], transfer::sendfile, Descriptor, ""),
    row(72, "pselect6", &[Int, Pointer, Pointer, Pointer, Pointer, Pointer], event::pselect6, Descriptor, "the signal mask is ignored"),
    row(73, "ppoll", &[Pointer, Length, Pointer, Pointer, Length], event::ppoll, Descriptor, "the signal mask is ignored"),
    row(78, "readlinkat", &[DirFd, Path, Pointer, Length], path::readlinkat, FileRead, ""),
    row(79, "newfstatat", &[DirFd, Path, Pointer, Flags], stat::newfstatat, FileRead, ""),
    row(80, "fstat", &[Fd, Pointer], stat::fstat, Descriptor, ""),
    row(81, "sync", &[], descriptor::sync, FileWrite, ""),
    row(82, "fsync", &[Fd], descriptor::fsync, Descriptor, ""),
    row(83, "fdatasync", &[Fd], descriptor::fdatasync, Descriptor, ""),
    row(88, "utimensat", &[DirFd, Path, Pointer, Flags], path::utimensat, FileWrite, ""),
    row(93, "exit", &[Int], process::exit, Class::Process, ""),
    row(94, "exit_group", &[Int], process::exit, Class::Process, ""),
    row(96, "set_tid_address", &[Pointer], process::set_tid_address, Class::Process, "the address is not used: one thread"),
    row(98, "futex", &[Pointer, Int, Int, Pointer, Pointer, Int], futex::futex, Sync, "wait, wake, requeue; a wait that no other thread can end ends the program with a message and status 125"),
    row(99, "set_robust_list", &[Pointer, Length], process::set_robust_list, Sync, "the list is not used: one thread"),
    row(101, "nanosleep", &[Pointer, Pointer], time::nanosleep, Time, ""),
    row(102, "getitimer", &[Int, Pointer], not_offered, Time, "not yet: ENOSYS, like the handlers that it is for"),
    row(103, "setitimer", &[Int, Pointer, Pointer], not_offered, Time, "not yet: ENOSYS, and so alarm() does nothing"),
    row(107, "timer_create", &[Int, Pointer, Pointer], not_offered, Time, "not yet: ENOSYS"),
    row(113, "clock_gettime", &[Int, Pointer], time::clock_gettime, Time, "alarm clocks and devices are EINVAL; processor time is that of the host process, all of it the user's"),
    row(114, "clock_getres", &[Int, Pointer], time::clock_getres, Time, "alarm clocks and devices are EINVAL"),
    row(115, "clock_nanosleep", &[Int, Flags, Pointer, Pointer], time::clock_nanosleep, Time, "processor clocks are EINVAL"),
    row(120, "sched_getscheduler", &[Int], process::sched_getscheduler, Class::Process, "always SCHED_OTHER"),
    row(121, "sched_getparam", &[Int, Pointer], process::sched_getparam, Class::Process, "always 0"),
    row(122, "sched_setaffinity", &[Int, Length, Pointer], process::sched_setaffinity, Class::Process, "one CPU"),
    row(123, "sched_getaffinity", &[Int, Length, Pointer], process::sched_getaffinity, Class::Process, "one CPU"),
    row(124, "sched_yield", &[], process::sched_yield, Class::Process, ""),
    row(125, "sched_get_priority_max", &[Int], process::sched_get_priority_max, Class::Process, ""),
    row(126, "sched_get_priority_min", &[Int], process::sched_get_priority_min, Class::Process, ""),
    row(129, "kill", &[Int, Arg::Signal], signal::kill, Class::Signal, "to itself only"),
    row(130, "tkill", &[Int, Arg::Signal], signal::tkill, Class::Signal, "to itself only"),
    row(131, "tgkill", &[Int, Int, Arg::Signal], signal::tgkill, Class::Signal, "to itself only"),
    row(132, "sigaltstack", &[Pointer, Pointer], signal::sigaltstack, Class::Signal, ""),
    row(133, "rt_sigsuspend", &[Pointer, Length], not_offered, Class::Signal, "not yet: ENOSYS, and so pause() returns at once"),
    row(134, "rt_sigaction", &[Arg::Signal, Pointer, Pointer, Length], signal::rt_sigaction, Class::Signal, "handlers are kept but not run yet: such a signal ends the program with a message; signals from outside are those of the host process"),
    row(135, "rt_sigprocmask", &[Int, Pointer, Pointer, Length], signal::rt_sigprocmask, Class::Signal, ""),
    row(136, "rt_sigpending", &[Pointer, Length], signal::rt_sigpending, Class::Signal, ""),
    row(137, "rt_sigtimedwait", &[Pointer, Pointer, Pointer, Length], not_offered, Class::Signal, "not yet: ENOSYS"),
    row(139, "rt_sigreturn", &[], signal::rt_sigreturn, Class::Signal, "ends the program: no handler was called"),
    row(140, "setpriority", &[Int, Int, Int], process::setpriority, Class::Process, "its own only; that of the host process"),
    row(141, "getpriority", &[Int, Int], process::getpriority, Class::Process, "its own only; that of the host process"),
    row(148, "getresuid", &[Pointer, Pointer, Pointer], process::getresuid, Class::Process, ""),
    row(150, "getresgid", &[Pointer, Pointer, Pointer], process::getresgid, Class::Process, ""),
    row(153, "times", &[Pointer], time::times, Time, "all processor time counts as the user's"),
    row(155, "getpgid", &[Int], process::getpgid, Class::Process, "its own only"),
    row(156, "getsid", &[Int], process::getsid, Class::Process, "its own only"),
    row(158, "getgroups", &[Length, Pointer], process::getgroups, Class::Process, ""),
    row(160, "uname", &[Pointer], process::uname, System, ""),
    row(163, "getrlimit", &[Int, Pointer], process::getrlimit, Class::Process, ""),
    row(164, "setrlimit", &[Int, Pointer], process::setrlimit, Class::Process, "kept; only RLIMIT_NOFILE has an effect"),
    row(165, "getrusage", &[Int, Pointer], time::getrusage, Time, "processor time and mapped memory only"),
    row(166, "umask", &[Mode], process::umask, Class::Process, "the host process' mask applies besides"),
    row(167, "prctl", &[Int, Pointer, Int, Int, Int], process::prctl, Class::Process, "name and dumpable"),
    row(168, "getcpu", &[Pointer, Pointer], process::getcpu, System, "always 0"),
    row(169, "gettimeofday", &[Pointer, Pointer], time::gettimeofday, Time, ""),
    row(172, "getpid", &[], process::getpid, Class::Process, ""),
    row(173, "getppid", &[], process::getppid, Class::Process, ""),
    row(174, "getuid", &[], process::getuid, Class::Process, ""),
    row(175, "geteuid", &[], process::geteuid, Class::Process, ""),
    row(176, "getgid", &[], process::getgid, Class::Process, ""),
    row(177, "getegid", &[], process::getegid, Class::Process, ""),
    row(178, "gettid", &[], process::getpid, Class::Process, ""),
    row(179, "sysinfo", &[Pointer], process::sysinfo, System, "memory is the guest's limit"),
    row(214, "brk", &[Pointer], memory::brk, Memory, ""),
    row(215, "munmap", &[Pointer, Length], memory::munmap, Memory, ""),
    row(216, "mremap", &[Pointer, Length, Length, Flags, Pointer], memory::mremap, Memory, "pages must be mapped alike; a mapping of a file, or shared, does not grow (ENODEV); MREMAP_DONTUNMAP is EINVAL"),
    row(220, "clone", &[Flags, Pointer, Pointer, Pointer, Pointer], not_offered, Class::Process, "not yet: ENOSYS"),
    row(221, "execve", &[Path, Pointer, Pointer], not_offered, Class::Process, "not yet: ENOSYS"),
    row(222, "mmap", &[Pointer, Length, Flags, Flags, Fd, Offset], memory::mmap, Memory, "files are read at once; shared writable files are ENODEV; ENOMEM beyond 16384 runs of pages with the same protection (32768 of all guests of a process), for all calls that split them"),
    row(223, "fadvise64", &[Fd, Offset, Length, Int], descriptor::fadvise64, Descriptor, "advice is not taken or checked"),
    row(226, "mprotect", &[Pointer, Length, Flags], memory::mprotect, Memory, "writable or executable implies readable; a shared file that becomes writable is EACCES"),
    row(227, "msync", &[Pointer, Length, Flags], memory::msync, Memory, "nothing to write back"),
    row(228, "mlock", &[Pointer, Length], memory::mlock, Memory, "nothing to lock"),
    row(229, "munlock", &[Pointer, Length], memory::mlock, Memory, "nothing to lock"),
    row(230, "mlockall", &[Flags], memory::mlockall, Memory, "nothing to lock"),
    row(231, "munlockall", &[], memory::munlockall, Memory, "nothing to lock"),
    row(232, "mincore", &[Pointer, Length, Pointer], memory::mincore, Memory, "all mapped pages count as present"),
    row(233, "madvise", &[Pointer, Length, Int], memory::madvise, Memory, "MADV_DONTNEED zeroes private anonymous pages and keeps others, also a file's that were written to; MADV_FREE does it at once"),
    row(258, "riscv_hwprobe", &[Pointer, Length, Length, Pointer, Flags], not_offered, System, "ENOSYS; AT_HWCAP says what there is"),
    row(259, "riscv_flush_icache", &[Pointer, Pointer, Flags], memory::riscv_flush_icache, Memory, ""),
    row(260, "wait4", &[Int, Pointer, Flags, Pointer], process::wait4, Class::Process, "there are no children: ECHILD"),
    row(261, "prlimit64", &[Int, Int, Pointer, Pointer], process::prlimit64, Class::Process, "its own; only RLIMIT_NOFILE has an effect, RLIMIT_STACK is the size that the stack has"),
    row(276, "renameat2", &[DirFd, Path, DirFd, Path, Flags], path::renameat2, FileWrite, ""),
    row(278, "getrandom", &[Pointer, Length, Flags], process::getrandom, System, ""),
    row(279, "memfd_create", &[Path, Flags], descriptor::memfd_create, Descriptor, "without huge pages"),
    row(283, "membarrier", &[Int, Flags, Int], not_offered, Sync, "ENOSYS; one thread"),
    row(285, "copy_file_range", &[Fd, Pointer, Fd, Pointer, Length, Flags], transfer::copy_file_range, Descriptor, ""),
    row(291, "statx", &[DirFd, Path, Flags, Flags, Pointer], stat::statx, FileRead, ""),
    row(293, "rseq", &[Pointer, Length, Flags, Int], not_offered, Sync, "ENOSYS, which C libraries accept"),
    row(435, "clone3", &[Pointer, Length], not_offered, Class::Process, "not yet: ENOSYS"),
    row(439, "faccessat2", &[DirFd, Path, Mode, Flags], path::faccessat2, FileRead, ""),
    row(452, "fchmodat2", &[DirFd, Path, Mode, Flags], path::fchmodat2, FileWrite, ""),
];

/// All system calls that are known, by number.
#[must_use]
pub fn syscall_table() -> &'static [SyscallRow] {
    ROWS
}

/// Handlers by number; the last one answers numbers that are out of range.
pub(crate) static HANDLERS: [Handler; NUMBER_COUNT + 1] = {
    let mut handlers = [unknown as Handler; NUMBER_COUNT + 1];
    let mut i = 0;
    while i < ROWS.len() {
        handlers[ROWS[i].number as usize] = ROWS[i].handler;
        i += 1;
    }
    handlers
};

/// The row of a number.
pub(crate) fn find(number: u64) -> Option<&'static SyscallRow> {
    let by_number = |row: &SyscallRow| u64::from(row.number).cmp(&number);
    ROWS.binary_search_by(by_number).ok().map(|i| &ROWS[i])
}

/// Answers calls that no row knows.
fn unknown(kernel: &mut Kernel, _: &Call<'_>) -> Reply {
    kernel.unknown_calls += 1;
    Err(Errno::NOSYS)
}

/// Answers calls that are known and left out on purpose.
fn not_offered(_: &mut Kernel, _: &Call<'_>) -> Reply {
    Err(Errno::NOSYS)
}

/// The table as a page of documentation (docs/syscalls.md).
#[must_use]
pub fn syscall_table_markdown() -> String {
    let mut page = String::from(
        "# System calls\n\n\
         <!-- Generated from crates/vm-runtime/src/syscall/table.rs; do not edit. -->\n\n\
         What programs can ask for. Any other number is answered `ENOSYS`, counted by\n\
         `hartloom run --stats` and shown by `--strace`. *Class* is what a policy\n\
         decides about; an empty *Differs* means that nothing is known to.\n\n\
         | Number | Name | Class | Differs from Linux |\n\
         |---:|---|---|---|\n",
    );
    for row in ROWS {
        let (number, name, class, note) = (row.number, row.name, row.class.name(), row.note);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {number} | `{name}` | {class} | {note} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_fit_the_dispatch_array() {
        for pair in ROWS.windows(2) {
            assert!(
                pair[0].number < pair[1].number,
                "{:?} before {:?}",
                pair[0],
                pair[1]
            );
        }
        assert!(
            ROWS.iter()
                .all(|row| usize::from(row.number) < NUMBER_COUNT)
        );
        assert!(ROWS.iter().all(|row| row.args.len() <= 6));
        assert_eq!(find(64).map(|row| row.name), Some("write"));
        assert!(find(63 + (1 << 32)).is_none());
    }

    #[test]
    fn the_page_lists_every_row() {
        let page = syscall_table_markdown();
        for row in ROWS {
            assert!(page.contains(&format!("| {} | `{}` |", row.number, row.name)));
        }
    }
}
