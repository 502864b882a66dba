//! System calls made directly: what they answer, and what they leave behind.

mod common;

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::abi::{
    AT_FDCWD, EAGAIN, EBADF, EEXIST, EFAULT, EINVAL, EISDIR, EMFILE, ENODEV, ENOENT, ENOMEM,
    ENOSYS, ENOTTY, EPIPE, ERANGE, ESPIPE, ETIMEDOUT, PAGE, nr,
};
use common::{Answer, DATA, DATA_BYTES, Guest, TEXT, TempDir};
use vm_core::GuestAddr;
use vm_core::mem::Prot;
use vm_runtime::{Outcome, ProcessConfig, Stdio};

const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_DIRECTORY: u64 = 0o200_000;
const O_CLOEXEC: u64 = 0o2_000_000;
const O_NONBLOCK: u64 = 0o4000;

fn open(g: &mut Guest, path: &str, flags: u64) -> i64 {
    let path = g.put_str(0xf000, path);
    // A mode that is not wanted must not matter.
    g.call(nr::OPENAT, &[AT_FDCWD, path, flags, 0o644])
}

/// Both ends of a fresh pipe.
fn pipe(g: &mut Guest, flags: u64) -> (u64, u64) {
    assert_eq!(g.call(nr::PIPE2, &[DATA, flags]), 0);
    (g.get_u32(DATA).into(), g.get_u32(DATA + 4).into())
}

#[test]
fn files_are_written_read_and_described_as_on_riscv() {
    let dir = TempDir::new("files");
    let g = &mut Guest::new();
    let path = dir.path("a");
    let fd = open(g, &path, O_RDWR | O_CREAT | O_CLOEXEC) as u64;
    assert_eq!(fd, 3);
    let text = g.put(0, b"0123456789");
    assert_eq!(g.call(nr::WRITE, &[fd, text, 10]), 10);
    assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
    assert_eq!(g.call(nr::LSEEK, &[fd, -3_i64 as u64, 2]), 7);
    assert_eq!(g.call(nr::READ, &[fd, DATA + 100, 100]), 3);
    assert_eq!(&g.get::<3>(DATA + 100), b"789");
    assert_eq!(g.call(nr::READ, &[fd, DATA + 100, 100]), 0);
    assert_eq!(g.call(nr::PREAD64, &[fd, DATA + 100, 4, 2]), 4);
    assert_eq!(&g.get::<4>(DATA + 100), b"2345");
    assert_eq!(g.call(nr::PREAD64, &[fd, DATA, 4, u64::MAX]), EINVAL);
    assert_eq!(g.call(nr::LSEEK, &[fd, -1_i64 as u64, 0]), EINVAL);
    assert_eq!(g.call(nr::FTRUNCATE, &[fd, 4]), 0);

    // struct stat of asm-generic: mode at 16, links at 20, size at 48.
    assert_eq!(g.call(nr::FSTAT, &[fd, DATA + 512]), 0);
    assert_eq!(g.get_u32(DATA + 512 + 16), 0o100_644);
    assert_eq!(g.get_u32(DATA + 512 + 20), 1);
    assert_eq!(g.get_u64(DATA + 512 + 48), 4);
    let by_fd: [u8; 128] = g.get(DATA + 512);
    let name = g.put_str(0xf000, &path);
    assert_eq!(g.call(nr::NEWFSTATAT, &[AT_FDCWD, name, DATA + 1024, 0]), 0);
    assert_eq!(g.get::<128>(DATA + 1024), by_fd);
    assert_eq!(
        g.call(nr::STATX, &[AT_FDCWD, name, 0, 0x7ff, DATA + 2048]),
        0
    );
    assert_eq!(g.get_u64(DATA + 2048 + 40), 4);
    assert_eq!(g.call(nr::FACCESSAT, &[AT_FDCWD, name, 4]), 0);
    assert_eq!(g.call(nr::FACCESSAT, &[AT_FDCWD, name, 8]), EINVAL);

    assert_eq!(g.call(nr::FCNTL, &[fd, 1]), 1, "O_CLOEXEC");
    assert_eq!(g.call(nr::FCNTL, &[fd, 2, 0]), 0);
    assert_eq!(g.call(nr::FCNTL, &[fd, 1]), 0);
    assert_eq!(g.call(nr::FCNTL, &[fd, 3]) & 3, 2, "O_RDWR");
    assert_eq!(g.call(nr::CLOSE, &[fd]), 0);
    assert_eq!(g.call(nr::CLOSE, &[fd]), EBADF);
    assert_eq!(g.call(nr::READ, &[fd, DATA, 1]), EBADF);
    let read_only = open(g, &path, 0) as u64;
    assert_eq!(g.call(nr::WRITE, &[read_only, DATA, 1]), EBADF);
    let name = g.put_str(0xf000, &path);
    assert_eq!(g.call(nr::UNLINKAT, &[AT_FDCWD, name, 0]), 0);
    assert_eq!(open(g, &path, 0), ENOENT);
}

#[test]
fn directories_are_listed_left_and_entered() {
    let dir = TempDir::new("dirs");
    let g = &mut Guest::new();
    let old_host_cwd = std::env::current_dir().unwrap();
    let path = g.put_str(0, dir.0.to_str().unwrap());
    assert_eq!(g.call(nr::CHDIR, &[path]), 0);
    let sub = g.put_str(0, "sub");
    assert_eq!(g.call(nr::UMASK, &[0o027]), 0o022);
    assert_eq!(g.call(nr::MKDIRAT, &[AT_FDCWD, sub, 0o777]), 0);
    assert_eq!(g.call(nr::MKDIRAT, &[AT_FDCWD, sub, 0o777]), EEXIST);
    let mode = std::os::unix::fs::MetadataExt::mode(&dir.0.join("sub").metadata().unwrap());
    assert_eq!(mode & 0o027, 0);
    for i in 0..40 {
        std::fs::write(dir.0.join(format!("a-file-with-a-long-name-{i:02}")), "").unwrap();
    }
    assert_eq!(
        std::env::current_dir().unwrap(),
        old_host_cwd,
        "the host stays"
    );
    assert_eq!(g.call(nr::GETCWD, &[DATA, 3]), ERANGE);
    let bytes = g.call(nr::GETCWD, &[DATA, 4096]);
    assert_eq!(
        bytes as usize,
        dir.0.canonicalize().unwrap().as_os_str().len() + 1
    );

    let fd = open(g, ".", O_DIRECTORY) as u64;
    assert_eq!(g.call(nr::READ, &[fd, DATA, 10]), EISDIR);
    let mut names = Vec::new();
    loop {
        // A small buffer: several calls, whole entries only.
        let got = g.call(nr::GETDENTS64, &[fd, DATA, 256]) as u64;
        assert!(got <= 256);
        if got == 0 {
            break;
        }
        let mut at = 0;
        while at < got {
            let record: [u8; 2] = g.get(DATA + at + 16);
            let name = g
                .process
                .memory()
                .read_c_string(GuestAddr(DATA + at + 19), 256);
            names.push(String::from_utf8(name.unwrap().unwrap()).unwrap());
            if names.last().unwrap() == "sub" {
                assert_eq!(g.get::<1>(DATA + at + 18), [4]);
            }
            at += u64::from(u16::from_le_bytes(record));
        }
    }
    names.sort();
    assert_eq!(names.len(), 43);
    assert_eq!(names[..2], [".", ".."]);
    assert_eq!(g.call(nr::GETDENTS64, &[0, DATA, 256]), -20, "ENOTDIR");
    let sub = g.put_str(0, "sub");
    assert_eq!(g.call(nr::UNLINKAT, &[AT_FDCWD, sub, 0]), EISDIR);
    assert_eq!(g.call(nr::UNLINKAT, &[AT_FDCWD, sub, 0x200]), 0);
    assert_eq!(g.call(nr::UNLINKAT, &[AT_FDCWD, sub, 0x400]), EINVAL);
}

#[test]
fn buffers_that_are_partly_bad_count_as_far_as_they_are_good() {
    let g = &mut Guest::new();
    let end = DATA + DATA_BYTES;
    let (reader, writer) = pipe(g, O_CLOEXEC);
    g.put(DATA_BYTES - 5, b"hello");
    assert_eq!(g.call(nr::WRITE, &[writer, end - 5, 100]), 5);
    assert_eq!(g.call(nr::WRITE, &[writer, end, 100]), EFAULT);
    assert_eq!(g.call(nr::WRITE, &[writer, 0, 0]), 0);
    // A bad buffer takes nothing out of the pipe.
    assert_eq!(g.call(nr::READ, &[reader, end, 100]), EFAULT);
    assert_eq!(
        g.call(nr::READ, &[reader, TEXT, 100]),
        EFAULT,
        "text is not writable"
    );
    assert_eq!(g.call(nr::READ, &[reader, end - 2, 1 << 37]), 2);
    assert_eq!(&g.get::<2>(end - 2), b"he");
    assert_eq!(g.call(nr::READ, &[reader, DATA, 100]), 3);
    assert_eq!(&g.get::<3>(DATA), b"llo");
    assert_eq!(g.call(nr::LSEEK, &[reader, 0, 1]), ESPIPE);
    assert_eq!(g.call(nr::PIPE2, &[end, 0]), EFAULT);
    assert_eq!(g.call(nr::PIPE2, &[DATA, 1]), EINVAL);
}

/// Linux looks at the addresses alone before it moves anything: what no
/// program could have is EFAULT, more than it moves at a time is cut.
#[test]
fn counts_beyond_the_address_space_move_nothing() {
    let dir = TempDir::new("counts");
    std::fs::write(dir.0.join("f"), "abc").unwrap();
    let g = &mut Guest::new();
    let fd = open(g, &dir.path("f"), O_RDWR) as u64;
    let write_only = open(g, &dir.path("f"), 1) as u64;
    for count in [u64::MAX, 1 << 63, 1 << 38, (1 << 38) - DATA + 1] {
        for number in [nr::READ, nr::WRITE, nr::PREAD64, nr::PWRITE64] {
            let answer = g.call(number, &[fd, DATA, count, 0]);
            assert_eq!(answer, EFAULT, "call {number} of {count:#x}");
        }
        // The descriptor is asked first.
        assert_eq!(g.call(nr::READ, &[write_only, DATA, count]), EBADF);
        let sent = g.call(nr::SENDFILE, &[fd, fd, 0, count]);
        assert_eq!(sent == EINVAL, count >> 63 != 0, "{sent} for {count:#x}");
    }
    let count = (1 << 38) - DATA;
    assert_eq!(g.call(nr::LSEEK, &[fd, 0, 0]), 0);
    assert_eq!(g.call(nr::READ, &[fd, DATA, count]), 3, "cut");
    let vector = |g: &Guest, entries: &[u64]| {
        let words = entries.iter().copied().flat_map(u64::to_le_bytes);
        g.put(1000, &words.collect::<Vec<u8>>())
    };
    let v = vector(g, &[DATA, 1, DATA, 1 << 40]);
    assert_eq!(g.call(nr::WRITEV, &[fd, v, 2]), EFAULT);
    let v = vector(g, &[DATA, 1, u64::MAX, 0]);
    assert_eq!(g.call(nr::WRITEV, &[fd, v, 2]), EFAULT);
    let v = vector(g, &[DATA, 1, DATA, u64::MAX]);
    assert_eq!(g.call(nr::WRITEV, &[fd, v, 2]), EINVAL);
    assert_eq!(g.call(nr::WRITEV, &[99, v, u64::MAX]), EBADF);
    assert_eq!(std::fs::read(dir.0.join("f")).unwrap(), b"abc");
    assert_eq!(g.call(nr::GETRANDOM, &[(1 << 38) - 8, 9, 0]), EFAULT);
}

#[test]
fn files_opened_past_the_page_cache_take_whole_blocks() {
    const O_DIRECT: u64 = 0o40_000;
    let dir = TempDir::new("direct");
    let g = &mut Guest::new();
    let fd = open(g, &dir.path("f"), O_RDWR | O_CREAT | O_DIRECT);
    if fd == EINVAL {
        println!("skipped: the file system has no O_DIRECT");
        return;
    }
    let fd = fd as u64;
    // Once with a small buffer of ours and once with one that had to grow.
    for bytes in [PAGE, 8 * PAGE] {
        g.put(0, &vec![b'x'; bytes as usize]);
        assert_eq!(g.call(nr::PWRITE64, &[fd, DATA, bytes, 0]), bytes as i64);
        g.put(0, &vec![0; bytes as usize]);
        assert_eq!(g.call(nr::PREAD64, &[fd, DATA, bytes, 0]), bytes as i64);
        assert_eq!(g.get::<1>(DATA + bytes - 1), [b'x']);
    }
}

#[test]
fn positions_and_seals_are_the_hosts() {
    const ENXIO: i64 = -6;
    const ADD_SEALS: u64 = 1033;
    const GET_SEALS: u64 = 1034;
    let dir = TempDir::new("seek");
    std::fs::write(dir.0.join("f"), "abc").unwrap();
    let g = &mut Guest::new();
    let fd = open(g, &dir.path("f"), O_RDWR) as u64;
    for (offset, whence, expected) in [
        (-1, 3, ENXIO),
        (-1, 4, ENXIO),
        (5, 3, ENXIO),
        (1, 3, 1),
        (1, 4, 3),
        (-1, 0, EINVAL),
        (-4, 2, EINVAL),
        (0, 5, EINVAL),
    ] {
        let answer = g.call(nr::LSEEK, &[fd, offset as u64, whence]);
        assert_eq!(answer, expected, "{offset} from {whence}");
    }
    let (reader, _) = pipe(g, 0);
    assert_eq!(g.call(nr::LSEEK, &[reader, u64::MAX, 3]), ESPIPE);

    assert_eq!(g.call(nr::FCNTL, &[fd, GET_SEALS]), EINVAL, "a disk's file");
    let name = g.put_str(0xf000, "sealed");
    let memory = g.call(nr::MEMFD_CREATE, &[name, 2]) as u64;
    assert_eq!(g.call(nr::WRITE, &[memory, DATA, 8]), 8);
    assert_eq!(g.call(nr::FCNTL, &[memory, GET_SEALS]), 0);
    assert_eq!(g.call(nr::FCNTL, &[memory, ADD_SEALS, 2 | 8]), 0);
    assert_eq!(g.call(nr::FCNTL, &[memory, GET_SEALS]), 2 | 8);
    assert_eq!(g.call(nr::WRITE, &[memory, DATA, 1]), -1, "EPERM");
    assert_eq!(g.call(nr::FCNTL, &[memory, ADD_SEALS, 1 << 20]), EINVAL);
}

#[test]
fn vectors_gather_and_scatter() {
    let g = &mut Guest::new();
    let (reader, writer) = pipe(g, 0);
    g.put(100, b"ab");
    g.put(200, b"cdef");
    let vector = |g: &Guest, entries: &[(u64, u64)]| {
        let words = entries
            .iter()
            .flat_map(|e| [e.0, e.1])
            .flat_map(u64::to_le_bytes);
        g.put(1000, &words.collect::<Vec<u8>>())
    };
    let v = vector(g, &[(DATA + 100, 2), (0, 0), (DATA + 200, 4)]);
    assert_eq!(g.call(nr::WRITEV, &[writer, v, 3]), 6);
    let v = vector(g, &[(DATA + 300, 5), (DATA + 400, 5)]);
    assert_eq!(g.call(nr::READV, &[reader, v, 2]), 6);
    assert_eq!(&g.get::<5>(DATA + 300), b"abcde");
    assert_eq!(&g.get::<1>(DATA + 400), b"f");
    // Overlapping targets are the guest's own affair.
    assert_eq!(g.call(nr::WRITE, &[writer, DATA + 200, 4]), 4);
    let v = vector(g, &[(DATA + 300, 3), (DATA + 301, 3)]);
    assert_eq!(g.call(nr::READV, &[reader, v, 2]), 4);
    assert_eq!(&g.get::<2>(DATA + 300), b"cf");
    assert_eq!(g.call(nr::WRITEV, &[writer, v, 1025]), EINVAL);
    assert_eq!(g.call(nr::WRITEV, &[writer, v, u64::MAX]), EINVAL);
    assert_eq!(g.call(nr::WRITEV, &[writer, 8, 1]), EFAULT);
    let v = vector(g, &[(DATA, u64::MAX)]);
    assert_eq!(g.call(nr::WRITEV, &[writer, v, 1]), EINVAL);
}

#[test]
fn standard_files_are_the_ones_given() {
    let (input, mut feed) = std::io::pipe().unwrap();
    let (mut drain, output) = std::io::pipe().unwrap();
    let error = output.try_clone().unwrap();
    let stdio = Stdio::Files([input.into(), output.into(), error.into()]);
    let g = &mut Guest::with(ProcessConfig {
        stdio,
        ..Default::default()
    });
    feed.write_all(b"in").unwrap();
    assert_eq!(g.call(nr::READ, &[0, DATA, 10]), 2);
    assert_eq!(g.call(nr::WRITE, &[1, DATA, 2]), 2);
    assert_eq!(g.call(nr::WRITE, &[0, DATA, 2]), EBADF, "the reading end");
    // Whether /dev/stdin is there depends on the guest's descriptor 0.
    let name = g.put_str(0xf000, "/dev/stdin");
    assert_eq!(g.call(nr::FACCESSAT, &[AT_FDCWD, name, 0]), 0);
    assert_eq!(g.call(nr::DUP, &[0]), 3);
    assert_eq!(g.call(nr::CLOSE, &[0]), 0);
    assert_eq!(g.call(nr::FACCESSAT, &[AT_FDCWD, name, 0]), ENOENT);
    assert_eq!(g.call(nr::DUP, &[3]), 0);
    assert_eq!(g.call(nr::CLOSE, &[3]), 0);
    assert_eq!(g.call(nr::DUP3, &[1, 10, O_CLOEXEC]), 10);
    assert_eq!(g.call(nr::DUP3, &[1, 1, 0]), EINVAL);
    assert_eq!(g.call(nr::DUP3, &[1, 5000, 0]), EBADF);
    assert_eq!(g.call(nr::CLOSE, &[1]), 0);
    assert_eq!(g.call(nr::WRITE, &[10, DATA, 1]), 1);
    assert_eq!(g.call(nr::DUP, &[10]), 1);
    assert_eq!(g.call(nr::FCNTL, &[10, 0, 7]), 7);
    let mut got = [0; 3];
    drain.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ini");
    assert_eq!(g.call(nr::IOCTL, &[0, 0x5401, DATA]), ENOTTY);
    assert_eq!(g.call(nr::IOCTL, &[99, 0x5401, DATA]), EBADF);
    assert_eq!(g.call(nr::IOCTL, &[0, 0x541b, DATA]), 0);
    assert_eq!(g.get_u32(DATA), 0);
}

/// `struct flock` of a range from the beginning of the file.
fn range_lock(kind: u16, bytes: u64) -> Vec<u8> {
    let mut record = vec![0; 32];
    record[..2].copy_from_slice(&kind.to_le_bytes());
    record[16..24].copy_from_slice(&bytes.to_le_bytes());
    record
}

/// SQLite opens no database without these.
#[test]
fn locks_are_seen_by_other_open_files_and_wait_for_them() {
    const SETLK: u64 = 6;
    const OFD_GETLK: u64 = 36;
    const OFD_SETLK: u64 = 37;
    const OFD_SETLKW: u64 = 38;
    let dir = TempDir::new("locks");
    let g = &mut Guest::new();
    let path = dir.path("a");
    let (a, b) = (
        open(g, &path, O_RDWR | O_CREAT) as u64,
        open(g, &path, O_RDWR) as u64,
    );
    let exclusive = g.put(0, &range_lock(1, 100));
    let release = g.put(64, &range_lock(2, 100));
    assert_eq!(g.call(nr::FCNTL, &[a, SETLK, exclusive]), 0);
    // A process does not lock itself out, nor does it lock what it closed.
    assert_eq!(g.call(nr::FCNTL, &[b, SETLK, exclusive]), 0);
    assert_eq!(g.call(nr::FCNTL, &[a, SETLK, release]), 0);

    assert_eq!(g.call(nr::FCNTL, &[a, OFD_SETLK, exclusive]), 0);
    assert_eq!(g.call(nr::FCNTL, &[b, OFD_SETLK, exclusive]), EAGAIN);
    let asked = g.put(128, &range_lock(1, 0));
    assert_eq!(g.call(nr::FCNTL, &[b, OFD_GETLK, asked]), 0);
    let found: [u8; 32] = g.get(asked);
    assert_eq!(found[..2], [1, 0], "a write lock");
    assert_eq!(found[16], 100, "of 100 bytes");
    assert_eq!(found[24..28], [0xff; 4], "of no process in particular");
    g.preempt.store(1, Ordering::Relaxed);
    let wait = [b, OFD_SETLKW, exclusive];
    assert_eq!(g.attempt(nr::FCNTL, &wait), Answer::Interrupted);
    g.preempt.store(0, Ordering::Relaxed);
    assert_eq!(g.call(nr::FCNTL, &[a, OFD_SETLK, release]), 0);
    assert_eq!(g.call(nr::FCNTL, &wait), 0);
    assert_eq!(g.call(nr::FCNTL, &[a, SETLK, DATA + DATA_BYTES]), EFAULT);
    let nonsense = g.put(192, &range_lock(77, 1));
    assert_eq!(g.call(nr::FCNTL, &[a, SETLK, nonsense]), EINVAL);
    assert_eq!(g.call(nr::FCNTL, &[99, SETLK, exclusive]), EBADF);

    assert_eq!(g.call(nr::FLOCK, &[a, 2]), 0);
    assert_eq!(g.call(nr::FLOCK, &[b, 2 | 4]), EAGAIN);
    g.preempt.store(1, Ordering::Relaxed);
    assert_eq!(g.attempt(nr::FLOCK, &[b, 1]), Answer::Interrupted);
    g.preempt.store(0, Ordering::Relaxed);
    assert_eq!(g.call(nr::FLOCK, &[a, 8]), 0);
    assert_eq!(g.call(nr::FLOCK, &[b, 1]), 0);
    assert_eq!(g.call(nr::FLOCK, &[b, 3]), EINVAL);
    assert_eq!(g.call(nr::FLOCK, &[99, 1]), EBADF);
}

#[test]
fn files_are_copied_filled_and_cut() {
    let dir = TempDir::new("copies");
    let g = &mut Guest::new();
    let (path, other) = (dir.path("a"), dir.path("b"));
    let fd = open(g, &path, O_RDWR | O_CREAT) as u64;
    let read_only = open(g, &path, 0) as u64;
    let copy = open(g, &other, O_RDWR | O_CREAT) as u64;
    let text = g.put(0, b"0123456789");
    let vector = g.put(64, &[text, 4, text + 8, 2].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::PWRITEV, &[fd, vector, 2, 3]), 6);
    assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\x00012389");
    let target = g.put(
        64,
        &[DATA + 200, 3, DATA + 300, 9]
            .map(u64::to_le_bytes)
            .concat(),
    );
    assert_eq!(g.call(nr::PREADV, &[fd, target, 2, 2]), 7);
    assert_eq!(
        (g.get(DATA + 200), g.get(DATA + 300)),
        (*b"\x0001", *b"2389")
    );
    assert_eq!(g.call(nr::PREADV, &[fd, target, 2, 1 << 63]), EINVAL);
    assert_eq!(g.call(nr::PWRITEV, &[read_only, vector, 2, 0]), EBADF);

    // From an offset that moves on, the file's own staying where it is.
    let at = g.put(400, &3_u64.to_le_bytes());
    assert_eq!(g.call(nr::SENDFILE, &[copy, fd, at, 100]), 6);
    assert_eq!(g.get_u64(at), 9);
    assert_eq!(g.call(nr::SENDFILE, &[copy, fd, at, 100]), 0);
    assert_eq!(g.call(nr::LSEEK, &[fd, 0, 1]), 0);
    assert_eq!(std::fs::read(&other).unwrap(), b"012389");
    assert_eq!(g.call(nr::SENDFILE, &[read_only, fd, 0, 1]), EBADF);
    assert_eq!(
        g.call(nr::SENDFILE, &[copy, fd, DATA + DATA_BYTES, 1]),
        EFAULT
    );
    let (reader, writer) = pipe(g, 0);
    assert_eq!(g.call(nr::SENDFILE, &[writer, fd, 0, 5]), 5);
    assert_eq!(g.call(nr::READ, &[reader, DATA + 600, 10]), 5);
    assert_eq!(g.get(DATA + 600), *b"\0\0\x0001");

    let at = g.put(400, &6_u64.to_le_bytes());
    let copied = g.call(nr::COPY_FILE_RANGE, &[fd, at, copy, 0, 3, 0]);
    assert_eq!((copied, g.get_u64(at)), (3, 9));
    assert_eq!(std::fs::read(&other).unwrap(), b"012389389");
    assert_eq!(g.call(nr::COPY_FILE_RANGE, &[fd, 0, copy, 0, 3, 1]), EINVAL);
    assert_eq!(
        g.call(nr::COPY_FILE_RANGE, &[fd, 0, read_only, 0, 3, 0]),
        EBADF
    );

    assert_eq!(g.call(nr::FALLOCATE, &[fd, 0, 0, 5000]), 0);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 5000);
    assert_eq!(g.call(nr::FALLOCATE, &[fd, 0, 0, 0]), EINVAL);
    assert_eq!(g.call(nr::FALLOCATE, &[read_only, 0, 0, 1]), EBADF);
    let name = g.put_str(0xf000, &path);
    assert_eq!(g.call(nr::TRUNCATE, &[name, 7]), 0);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 7);
    assert_eq!(g.call(nr::TRUNCATE, &[name, u64::MAX]), EINVAL);
    let directory = g.put_str(0xf000, dir.0.to_str().unwrap());
    assert_eq!(g.call(nr::TRUNCATE, &[directory, 0]), EISDIR);

    let name = g.put_str(0xf000, "scratch");
    let memory = g.call(nr::MEMFD_CREATE, &[name, 1]) as u64;
    assert_eq!(g.call(nr::FCNTL, &[memory, 1]), 1, "close on exec");
    assert_eq!(g.call(nr::WRITE, &[memory, text, 10]), 10);
    assert_eq!(g.call(nr::MEMFD_CREATE, &[name, 1 << 20]), EINVAL);
    let long = g.put_str(0xf000, &"x".repeat(250));
    assert_eq!(g.call(nr::MEMFD_CREATE, &[long, 0]), EINVAL);
}

#[test]
fn owners_times_kinds_and_file_systems() {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    const OMIT: u64 = (1 << 30) - 2;
    let dir = TempDir::new("owners");
    let g = &mut Guest::new();
    let path = dir.path("a");
    let fd = open(g, &path, O_RDWR | O_CREAT) as u64;
    let name = g.put_str(0xf000, &path);
    let times = g.put(0, &[1000_u64, 5, 2000, 6].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::UTIMENSAT, &[AT_FDCWD, name, times, 0]), 0);
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.atime(), found.atime_nsec()), (1000, 5));
    assert_eq!((found.mtime(), found.mtime_nsec()), (2000, 6));
    let times = g.put(0, &[0_u64, OMIT, 3000, 0].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::UTIMENSAT, &[fd, 0, times, 0]), 0, "futimens");
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.atime(), found.mtime()), (1000, 3000));
    assert_eq!(g.call(nr::UTIMENSAT, &[AT_FDCWD, name, 0, 0]), 0, "now");
    assert!(std::fs::metadata(&path).unwrap().mtime() > 1_000_000_000);
    assert_eq!(g.call(nr::UTIMENSAT, &[AT_FDCWD, 0, times, 0]), EFAULT);
    assert_eq!(g.call(nr::UTIMENSAT, &[AT_FDCWD, name, times, 1]), EINVAL);
    let bad = g.put(0, &[0_u64, 1 << 30, 0, 0].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::UTIMENSAT, &[AT_FDCWD, name, bad, 0]), EINVAL);

    let (uid, gid) = (found.uid().into(), found.gid().into());
    assert_eq!(g.call(nr::FCHOWN, &[fd, uid, gid]), 0);
    let keep = u64::from(u32::MAX);
    assert_eq!(g.call(nr::FCHOWNAT, &[AT_FDCWD, name, keep, keep, 0]), 0);
    assert_eq!(
        g.call(nr::FCHOWNAT, &[AT_FDCWD, name, keep, keep, 1]),
        EINVAL
    );
    let missing = g.put_str(0xe000, &dir.path("missing"));
    assert_eq!(
        g.call(nr::FCHOWNAT, &[AT_FDCWD, missing, keep, keep, 0]),
        ENOENT
    );

    let fifo = g.put_str(0xe000, &dir.path("fifo"));
    assert_eq!(g.call(nr::MKNODAT, &[AT_FDCWD, fifo, 0o010_600, 0]), 0);
    assert!(
        dir.0
            .join("fifo")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(
        g.call(nr::TRUNCATE, &[fifo, 0]),
        EINVAL,
        "and does not wait"
    );
    let device = g.put_str(0xe000, &dir.path("device"));
    assert_eq!(
        g.call(nr::MKNODAT, &[AT_FDCWD, device, 0o020_600, 0x103]),
        -1,
        "EPERM"
    );
    assert_eq!(
        g.call(nr::MKNODAT, &[AT_FDCWD, device, 0o040_600, 0]),
        EINVAL
    );
    assert_eq!(
        g.call(nr::MKNODAT, &[AT_FDCWD, device, 0o644, 0]),
        0,
        "a file"
    );

    assert_eq!(g.call(nr::STATFS, &[name, DATA]), 0);
    assert_eq!(g.call(nr::FSTATFS, &[fd, DATA + 200]), 0);
    assert_eq!(g.get_u64(DATA), g.get_u64(DATA + 200), "the same type");
    assert!(g.get_u64(DATA + 8) >= 512, "bytes of a block");
    assert!(g.get_u64(DATA + 64) >= 14, "bytes of a name");
    assert_eq!(g.call(nr::STATFS, &[missing, DATA + DATA_BYTES]), EFAULT);
    // Rights of a descriptor, which only faccessat2 asks for.
    let empty = g.put_str(0xe000, "");
    assert_eq!(g.call(nr::FACCESSAT2, &[fd, empty, 4, 0x1000]), 0);
    assert_eq!(g.call(nr::FACCESSAT2, &[AT_FDCWD, name, 4, 0x100]), 0);
    assert_eq!(g.call(nr::FACCESSAT2, &[AT_FDCWD, name, 4, 1]), EINVAL);
}

#[test]
fn select_says_which_descriptors_are_ready() {
    let g = &mut Guest::new();
    let (reader, writer) = pipe(g, 0);
    let set = |fds: &[u64]| fds.iter().fold(0_u64, |set, fd| set | 1 << fd);
    let put = |g: &Guest, read: u64, write: u64| {
        g.put(0, &[read, write, 0].map(u64::to_le_bytes).concat());
    };
    let now = g.put(100, &[0_u64; 2].map(u64::to_le_bytes).concat());
    let day = g.put(200, &[86_400_u64, 0].map(u64::to_le_bytes).concat());
    put(g, set(&[reader]), set(&[writer]));
    let all = [writer + 1, DATA, DATA + 8, DATA + 16, now, 0];
    assert_eq!(g.call(nr::PSELECT6, &all), 1);
    assert_eq!((g.get_u64(DATA), g.get_u64(DATA + 8)), (0, set(&[writer])));
    assert_eq!(g.call(nr::WRITE, &[writer, DATA, 1]), 1);
    put(g, set(&[reader]), set(&[writer]));
    let until = [writer + 1, DATA, DATA + 8, 0, day, 0];
    assert_eq!(g.call(nr::PSELECT6, &until), 2);
    assert_eq!(
        (g.get_u64(DATA), g.get_u64(DATA + 8)),
        (set(&[reader]), set(&[writer]))
    );
    let left = g.get_u64(day);
    assert!((1..86_400).contains(&left), "{left} s of a day are left");
    // Descriptors from the count on are not looked at.
    put(g, set(&[40]), 0);
    assert_eq!(g.call(nr::PSELECT6, &[writer, DATA, 0, 0, now, 0]), 0);
    put(g, set(&[40]), 0);
    assert_eq!(g.call(nr::PSELECT6, &[64, DATA, 0, 0, now, 0]), EBADF);
    assert_eq!(
        g.call(nr::PSELECT6, &[u64::MAX, DATA, 0, 0, now, 0]),
        EINVAL
    );
    assert_eq!(
        g.call(nr::PSELECT6, &[1, DATA + DATA_BYTES, 0, 0, now, 0]),
        EFAULT
    );
    assert_eq!(g.call(nr::READ, &[reader, DATA, 1]), 1);
    put(g, set(&[reader]), 0);
    g.preempt.store(1, Ordering::Relaxed);
    let for_ever = [reader + 1, DATA, 0, 0, 0, 0];
    assert_eq!(g.attempt(nr::PSELECT6, &for_ever), Answer::Interrupted);
    assert_eq!(g.get_u64(DATA), set(&[reader]), "to be asked again");
}

#[test]
fn what_there_is_one_of_is_answered() {
    let g = &mut Guest::new();
    let mask = g.put(0, &1_u64.to_le_bytes());
    assert_eq!(g.call(nr::SCHED_SETAFFINITY, &[0, 8, mask]), 0);
    let other = g.put(8, &2_u64.to_le_bytes());
    assert_eq!(g.call(nr::SCHED_SETAFFINITY, &[0, 8, other]), EINVAL);
    assert_eq!(g.call(nr::SCHED_GET_PRIORITY_MAX, &[1]), 99);
    assert_eq!(g.call(nr::SCHED_GET_PRIORITY_MAX, &[77]), EINVAL);
    let nice = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(g.call(nr::GETPRIORITY, &[0, 0]), i64::from(20 - nice));
    assert_eq!(g.call(nr::GETPRIORITY, &[1, 0]), EINVAL);
    let groups = rustix::process::getgroups().unwrap();
    assert_eq!(g.call(nr::GETGROUPS, &[0, 0]), groups.len() as i64);
    assert_eq!(g.call(nr::GETGROUPS, &[u64::MAX, 0]), EINVAL);
    assert_eq!(g.call(nr::GETGROUPS, &[1000, DATA]), groups.len() as i64);
    if let Some(first) = groups.first() {
        assert_eq!(g.get_u32(DATA), first.as_raw());
    }

    assert_eq!(g.call(nr::MLOCK, &[DATA + 100, 5000]), 0);
    assert_eq!(g.call(nr::MLOCK, &[DATA, DATA_BYTES + 1]), ENOMEM);
    assert_eq!(g.call(nr::MLOCK, &[DATA, u64::MAX]), ENOMEM);
    assert_eq!(g.call(nr::MINCORE, &[DATA, 3 * PAGE, DATA]), 0);
    assert_eq!(g.get(DATA), [1, 1, 1]);
    assert_eq!(g.call(nr::MINCORE, &[DATA + 1, PAGE, DATA]), EINVAL);
    assert_eq!(g.call(nr::MINCORE, &[DATA, DATA_BYTES + 1, DATA]), ENOMEM);
    assert_eq!(
        g.call(nr::MINCORE, &[DATA, PAGE, DATA + DATA_BYTES]),
        EFAULT
    );
}

#[test]
fn a_guest_cannot_reach_files_of_the_host_process() {
    let g = &mut Guest::new();
    let secret = tempfile_with(b"secret");
    let host_fd = std::os::fd::AsRawFd::as_raw_fd(&secret);
    assert_eq!(g.call(nr::READ, &[host_fd as u64 + 1000, DATA, 6]), EBADF);
    let pid = std::process::id();
    for path in [
        format!("/proc/self/fd/{host_fd}"),
        format!("/proc/{pid}/fd/{host_fd}"),
        format!("/proc/thread-self/fd/{host_fd}"),
        format!("/dev/fd/{host_fd}"),
        "/proc/self/mem".to_owned(),
        format!("/proc/{pid}/mem"),
        "/proc/self/environ".to_owned(),
        // Spelled otherwise: found out after opening.
        format!("/proc//{pid}/mem"),
        "/proc/./self/mem".to_owned(),
        format!("/proc/self/../{pid}/maps"),
        format!("/proc/./self/task/{pid}/mem"),
    ] {
        let fd = open(g, &path, 0);
        assert!([ENOENT, EBADF].contains(&fd), "{path}: {fd}");
    }
    // A magic link under another name is not followed.
    assert!(open(g, &format!("/proc/./self/fd/{host_fd}"), 0) < 0);
    // Its own are there.
    assert!(open(g, "/proc/self/fd/0", 0) >= 3);
    assert!(open(g, "/dev/stdout", 1) >= 3);
    let maps = open(g, "/proc/self/maps", 0) as u64;
    let got = g.call(nr::READ, &[maps, DATA, 4096]) as usize;
    let text = String::from_utf8_lossy(&g.get::<4096>(DATA)[..got]).into_owned();
    assert!(text.starts_with("00010000-00011000 r-xp"), "{text}");
    assert!(text.contains("rw-p") && text.contains("[stack]"), "{text}");
    assert_eq!(g.call(nr::WRITE, &[maps, DATA, 1]), EBADF);
    let exe = g.put_str(0, "/proc/self/exe");
    assert_eq!(
        g.call(nr::READLINKAT, &[AT_FDCWD, exe, DATA, 100]),
        ENOENT,
        "from memory"
    );
}

fn tempfile_with(contents: &[u8]) -> std::fs::File {
    let dir = TempDir::new("secret");
    std::fs::write(dir.0.join("x"), contents).unwrap();
    std::fs::File::open(dir.0.join("x")).unwrap()
}

#[test]
fn the_heap_grows_and_shrinks_within_the_limit() {
    let stdio = Stdio::Null;
    let limit = 4 << 20;
    let g = &mut Guest::with(ProcessConfig {
        memory_bytes_limit: limit,
        stdio,
        ..Default::default()
    });
    let start = g.call(nr::BRK, &[0]) as u64;
    assert_eq!(g.call(nr::BRK, &[start + 5000]) as u64, start + 5000);
    g.process
        .memory()
        .store(GuestAddr(start + 8191), 7_u8)
        .unwrap();
    assert_eq!(g.call(nr::BRK, &[start + 100]) as u64, start + 100);
    assert_eq!(g.call(nr::BRK, &[start + 5000]) as u64, start + 5000);
    assert_eq!(
        g.process.memory().load::<u8>(GuestAddr(start + 4096)),
        Ok(0),
        "fresh again"
    );
    for beyond in [start - 1, start + limit, u64::MAX, 1 << 32, 1 << 63] {
        assert_eq!(
            g.call(nr::BRK, &[beyond]) as u64,
            start + 5000,
            "{beyond:#x}"
        );
    }
}

const ANON: u64 = 0x22; // MAP_PRIVATE | MAP_ANONYMOUS
const FIXED: u64 = 0x10;
const NOREPLACE: u64 = 0x10_0000;
const NO_FD: u64 = u64::MAX;

fn map(g: &mut Guest, addr: u64, bytes: u64, prot: u64, flags: u64) -> i64 {
    g.call(nr::MMAP, &[addr, bytes, prot, flags, NO_FD, 0])
}

#[test]
fn anonymous_mappings_come_where_they_may_and_go() {
    let g = &mut Guest::new();
    let a = map(g, 0, 1, 3, ANON) as u64;
    assert_eq!(a % PAGE, 0);
    assert_eq!(g.process.memory().load::<u64>(GuestAddr(a + 8)), Ok(0));
    assert_eq!(
        map(g, 0x200_0123, PAGE, 3, ANON),
        0x200_0000,
        "a hint is rounded"
    );
    let other = map(g, 0x200_0000, PAGE, 3, ANON);
    assert_ne!(other, 0x200_0000, "a hint in use is not taken");
    assert_eq!(map(g, 0x200_0000, PAGE, 3, ANON | NOREPLACE), EEXIST);
    g.process
        .memory()
        .store(GuestAddr(0x200_0000), 1_u8)
        .unwrap();
    assert_eq!(map(g, 0x200_0000, 2 * PAGE, 1, ANON | FIXED), 0x200_0000);
    assert_eq!(
        g.process.memory().load::<u8>(GuestAddr(0x200_0000)),
        Ok(0),
        "replaced"
    );
    assert!(
        g.process
            .memory()
            .store(GuestAddr(0x200_0000), 1_u8)
            .is_err()
    );
    assert_eq!(g.call(nr::MPROTECT, &[0x200_0000, PAGE, 3]), 0);
    assert_eq!(g.call(nr::MPROTECT, &[0x200_0000, 8 * PAGE, 3]), ENOMEM);
    assert_eq!(g.call(nr::MPROTECT, &[0x200_0001, PAGE, 3]), EINVAL);
    assert_eq!(g.call(nr::MPROTECT, &[0x200_0000, PAGE, 16]), EINVAL);
    assert_eq!(g.call(nr::MUNMAP, &[0x200_0000, 2 * PAGE]), 0);
    assert_eq!(
        g.call(nr::MUNMAP, &[0x200_0000, 2 * PAGE]),
        0,
        "nothing there is fine"
    );
    assert_eq!(g.call(nr::MUNMAP, &[0x200_0001, PAGE]), EINVAL);
    assert_eq!(g.call(nr::MUNMAP, &[0x200_0000, 0]), EINVAL);
    assert_eq!(g.call(nr::MUNMAP, &[0x200_0000, u64::MAX]), EINVAL);

    assert_eq!(map(g, 0, 0, 3, ANON), EINVAL);
    assert_eq!(map(g, 0, u64::MAX, 3, ANON), ENOMEM);
    assert_eq!(map(g, 0, 1 << 40, 3, ANON), ENOMEM);
    assert_eq!(map(g, 0, 2 << 30, 3, ANON), ENOMEM, "beyond the limit");
    assert_eq!(
        map(g, 0, PAGE, 3, 0x20),
        EINVAL,
        "neither private nor shared"
    );
    assert_eq!(map(g, 1, PAGE, 3, ANON | FIXED), EINVAL);
    assert_eq!(map(g, 0, PAGE, 3, ANON | FIXED), ENOMEM, "null page");
    assert_eq!(map(g, 1 << 40, PAGE, 3, ANON | FIXED), ENOMEM);
    assert_eq!(map(g, u64::MAX - 4095, PAGE, 3, ANON | FIXED), ENOMEM);
    assert_eq!(map(g, u64::MAX - 4095, PAGE, 3, ANON | NOREPLACE), ENOMEM);
    // A gap stays below the stack.
    let top = map(g, 0, PAGE, 0, ANON) as u64;
    let below = g.process.memory().is_free(GuestAddr(top + PAGE), 64 * PAGE);
    assert!(below || top < a, "mappings stay clear of the stack");
}

#[test]
fn files_are_mapped_privately() {
    let dir = TempDir::new("mmap");
    let path = dir.path("m");
    std::fs::write(&path, [b'x'; 5000]).unwrap();
    let g = &mut Guest::new();
    let fd = open(g, &path, O_RDWR) as u64;
    let at = g.call(nr::MMAP, &[0, 3 * PAGE, 3, 2, fd, 0]) as u64;
    assert_eq!(&g.get::<3>(at + 4998), b"xx\0");
    g.process.memory().store(GuestAddr(at), b'y').unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[0], b'x', "private");
    // Dropping pages of a file must not turn them into zeros.
    assert_eq!(g.call(nr::MADVISE, &[at, PAGE, 4]), 0);
    assert_ne!(g.get::<1>(at + 1), [0]);
    assert_eq!(
        g.call(nr::MREMAP, &[at, 3 * PAGE, 4 * PAGE, 1]),
        ENODEV,
        "more of the file, and no zeros"
    );
    assert_eq!(
        g.call(nr::MREMAP, &[at, 3 * PAGE, 2 * PAGE, 0]) as u64,
        at,
        "less of it"
    );
    assert_eq!(
        g.call(nr::MMAP, &[0, PAGE, 1, 2, fd, PAGE]) as u64 % PAGE,
        0
    );
    assert_eq!(g.call(nr::MMAP, &[0, PAGE, 1, 2, fd, 1]), EINVAL);
    assert_eq!(
        g.call(nr::MMAP, &[0, PAGE, 3, 1, fd, 0]),
        ENODEV,
        "shared, writable"
    );
    assert_eq!(g.call(nr::MMAP, &[0, PAGE, 1, 2, 77, 0]), EBADF);
    let (reader, writer) = pipe(g, 0);
    assert_eq!(g.call(nr::MMAP, &[0, PAGE, 1, 2, reader, 0]), ENODEV);
    assert_eq!(g.call(nr::MMAP, &[0, PAGE, 1, 2, writer, 0]), -13, "EACCES");
}

#[test]
fn mappings_are_moved_with_their_contents() {
    let stdio = Stdio::Null;
    let memory_bytes_limit = 8 << 20;
    let g = &mut Guest::with(ProcessConfig {
        memory_bytes_limit,
        stdio,
        ..Default::default()
    });
    let bytes = 2 << 20;
    let a = map(g, 0, bytes, 3, ANON) as u64;
    let fence = map(g, a + bytes, PAGE, 0, ANON | FIXED);
    assert!(fence > 0 || fence == ENOMEM);
    for at in (0..bytes).step_by(4096) {
        g.process.memory().store(GuestAddr(a + at), at).unwrap();
    }
    assert_eq!(
        g.call(nr::MREMAP, &[a, bytes, 3 << 20, 0]),
        ENOMEM,
        "may not move"
    );
    // Twice the size fits the limit only because pieces move.
    let b = g.call(nr::MREMAP, &[a, bytes, 4 << 20, 1]) as u64;
    assert!(b < 1 << 32 && b != a, "{b:#x}");
    for at in (0..bytes).step_by(4096) {
        assert_eq!(g.get_u64(b + at), at);
    }
    assert_eq!(g.get_u64(b + bytes), 0);
    assert!(g.process.memory().prot(GuestAddr(a)).is_none());
    assert_eq!(g.call(nr::MREMAP, &[b, 4 << 20, PAGE, 0]) as u64, b);
    assert!(g.process.memory().prot(GuestAddr(b + PAGE)).is_none());
    assert_eq!(g.call(nr::MPROTECT, &[b, PAGE, 0]), 0);
    let c = g.call(nr::MREMAP, &[b, PAGE, 2 * PAGE, 3, 0x300_0000]) as u64;
    assert_eq!(c, 0x300_0000);
    assert_eq!(g.process.memory().prot(GuestAddr(c)), Some(Prot::NONE));
    assert_eq!(g.call(nr::MREMAP, &[c, 2 * PAGE, 64 << 20, 1]), ENOMEM);
    assert_eq!(
        g.process.memory().prot(GuestAddr(c)),
        Some(Prot::NONE),
        "still there"
    );
    assert_eq!(
        g.call(nr::MREMAP, &[c, 2 * PAGE, PAGE, 3, c + PAGE]),
        EINVAL,
        "overlap"
    );
    assert_eq!(g.call(nr::MREMAP, &[c + PAGE * 100, PAGE, PAGE, 0]), EFAULT);
    assert_eq!(g.call(nr::MREMAP, &[c, 0, PAGE, 0]), EINVAL);
    assert_eq!(g.call(nr::MREMAP, &[c, PAGE, u64::MAX, 1]), ENOMEM);
    assert_eq!(g.call(nr::MREMAP, &[c, u64::MAX, PAGE, 1]), EINVAL);
}

#[test]
fn anonymous_pages_are_zero_after_dontneed() {
    let g = &mut Guest::new();
    let a = map(g, 0, 2 * PAGE, 3, ANON) as u64;
    g.process.memory().store(GuestAddr(a), 1_u8).unwrap();
    assert_eq!(g.call(nr::MPROTECT, &[a, PAGE, 1]), 0);
    assert_eq!(g.call(nr::MADVISE, &[a, 2 * PAGE, 4]), 0);
    assert_eq!(g.get::<1>(a), [0]);
    assert_eq!(
        g.process.memory().prot(GuestAddr(a)),
        Some(Prot::READ),
        "stays protected"
    );
    assert_eq!(g.call(nr::MADVISE, &[a, PAGE, 99]), EINVAL);
    assert_eq!(g.call(nr::MADVISE, &[a + 1, PAGE, 4]), EINVAL);
    assert_eq!(g.call(nr::MADVISE, &[0x8000_0000, PAGE, 4]), ENOMEM);
}

#[test]
fn shared_pages_keep_their_contents_when_they_are_not_needed() {
    const SHARED: u64 = 1;
    let g = &mut Guest::new();
    let a = map(g, 0, 3 * PAGE, 3, ANON) as u64;
    let shared = a + PAGE;
    let flags = ANON & !2 | SHARED | FIXED;
    assert_eq!(map(g, shared, PAGE, 3, flags) as u64, shared);
    for page in 0..3 {
        g.process
            .memory()
            .store(GuestAddr(a + page * PAGE), 7_u8)
            .unwrap();
    }
    // MADV_FREE stops at what it cannot free, MADV_DONTNEED goes on.
    assert_eq!(g.call(nr::MADVISE, &[a, 3 * PAGE, 8]), EINVAL);
    let first = |g: &Guest| [0, 1, 2].map(|page| g.get::<1>(a + page * PAGE)[0]);
    assert_eq!(first(g), [0, 7, 7]);
    assert_eq!(g.call(nr::MADVISE, &[a, 3 * PAGE, 4]), 0);
    assert_eq!(first(g), [0, 7, 0]);
    assert_eq!(g.call(nr::MREMAP, &[shared, PAGE, 2 * PAGE, 1]), ENODEV);
    // Private memory in its place is as any other.
    assert_eq!(map(g, shared, PAGE, 3, ANON | FIXED) as u64, shared);
    g.process.memory().store(GuestAddr(shared), 7_u8).unwrap();
    assert_eq!(g.call(nr::MADVISE, &[a, 3 * PAGE, 8]), 0);
    assert_eq!(first(g), [0, 0, 0]);
}

fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Ended(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn signals_to_itself_do_what_was_set() {
    let ended = |number: u64, args: &[u64]| {
        let mut g = Guest::new();
        outcome(g.attempt(number, args)).exit_status()
    };
    let pid = u64::from(std::process::id());
    assert_eq!(ended(nr::EXIT_GROUP, &[42]), 42);
    assert_eq!(ended(nr::EXIT_GROUP, &[256]), 0);
    assert_eq!(ended(nr::TGKILL, &[pid, pid, 6]), 134);
    assert_eq!(ended(nr::KILL, &[0, 15]), 143);
    assert_eq!(ended(nr::KILL, &[pid, 9]), 137);

    let g = &mut Guest::new();
    assert_eq!(g.call(nr::KILL, &[pid, 0]), 0);
    assert_eq!(g.call(nr::KILL, &[1, 9]), -3, "nobody else is there");
    assert_eq!(g.call(nr::KILL, &[pid, 65]), EINVAL);
    assert_eq!(g.call(nr::KILL, &[pid, 17]), 0, "SIGCHLD is ignored");
    let ignore = g.put(0, &[1_u64, 0, 0].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::SIGACTION, &[15, ignore, DATA + 100, 8]), 0);
    assert_eq!(g.get_u64(DATA + 100), 0);
    assert_eq!(g.call(nr::KILL, &[pid, 15]), 0, "ignored");
    assert_eq!(g.call(nr::SIGACTION, &[9, ignore, 0, 8]), EINVAL);
    assert_eq!(g.call(nr::SIGACTION, &[15, ignore, 0, 16]), EINVAL);
    // Blocked, it waits; unblocked, it comes.
    let set = g.put(0, &(1_u64 << 9).to_le_bytes());
    assert_eq!(g.call(nr::SIGPROCMASK, &[0, set, 0, 8]), 0);
    assert_eq!(g.call(nr::KILL, &[pid, 10]), 0);
    let end = outcome(g.attempt(nr::SIGPROCMASK, &[1, set, 0, 8]));
    assert_eq!(end.exit_status(), 138);
}

#[test]
fn calls_that_are_not_there_yet_say_so_in_the_table() {
    let g = &mut Guest::new();
    for (number, name) in [
        (102, "getitimer"),
        (103, "setitimer"),
        (107, "timer_create"),
    ] {
        assert_eq!(g.call(number, &[0, DATA, DATA]), ENOSYS, "{name}");
        let row = vm_runtime::syscall_table()
            .iter()
            .find(|row| row.name == name);
        assert!(row.unwrap().note.starts_with("not yet"), "{name}");
    }
    assert_eq!(g.process.stats().syscalls_unknown, 0);
}

#[test]
fn a_pipe_without_readers_ends_the_writer_unless_ignored() {
    let g = &mut Guest::new();
    let (reader, writer) = pipe(g, 0);
    assert_eq!(g.call(nr::CLOSE, &[reader]), 0);
    let end = outcome(g.attempt(nr::WRITE, &[writer, DATA, 1]));
    assert_eq!(end.exit_status(), 141);
    assert!(!end.deserves_message());
    let ignore = g.put(0, &[1_u64, 0, 0].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::SIGACTION, &[13, ignore, 0, 8]), 0);
    assert_eq!(g.call(nr::WRITE, &[writer, DATA, 1]), EPIPE);
}

#[test]
fn waits_end_by_time_or_by_the_preempt_word() {
    let g = &mut Guest::new();
    let (reader, writer) = pipe(g, 0);
    let millisecond = g.put(0, &[0_u64, 1_000_000].map(u64::to_le_bytes).concat());
    let day = g.put(16, &[86_400_u64, 0].map(u64::to_le_bytes).concat());
    let bad = g.put(32, &[0_u64, 1_000_000_000].map(u64::to_le_bytes).concat());
    let entry = g.put(
        64,
        &[(reader as u32).to_le_bytes(), 1_u32.to_le_bytes()].concat(),
    );
    let word = g.put(80, &5_u32.to_le_bytes());

    let begun = monotonic_ns(g);
    assert_eq!(g.call(nr::NANOSLEEP, &[millisecond, 0]), 0);
    assert_eq!(
        g.call(nr::CLOCK_NANOSLEEP, &[1, 1, millisecond, 0]),
        0,
        "long ago"
    );
    assert_eq!(g.call(nr::PPOLL, &[entry, 1, millisecond, 0, 0]), 0);
    assert_eq!(g.call(nr::FUTEX, &[word, 0, 5, millisecond]), ETIMEDOUT);
    // Three of them last a millisecond each, or longer: by the guest's clock,
    // which a sleep may not beat.
    assert!(monotonic_ns(g) - begun >= 3_000_000);
    assert_eq!(g.call(nr::NANOSLEEP, &[bad, 0]), EINVAL);
    assert_eq!(g.call(nr::FUTEX, &[word, 0, 6, 0]), EAGAIN);
    assert_eq!(g.call(nr::FUTEX, &[word + 1, 0, 6, 0]), EINVAL);
    assert_eq!(g.call(nr::FUTEX, &[word, 1, 1]), 0, "nobody to wake");
    let end = outcome(g.attempt(nr::FUTEX, &[word, 128, 5, 0]));
    assert!(matches!(end, Outcome::Deadlocked { .. }), "{end:?}");

    g.preempt.store(1, Ordering::Relaxed);
    for (number, args) in [
        (nr::READ, [reader, DATA, 1, 0]),
        (nr::NANOSLEEP, [day, 0, 0, 0]),
        (nr::CLOCK_NANOSLEEP, [0, 0, day, 0]),
        (nr::PPOLL, [entry, 1, day, 0]),
        (nr::PPOLL, [entry, 1, 0, 0]),
        (nr::FUTEX, [word, 0, 5, day]),
    ] {
        assert_eq!(g.attempt(number, &args), Answer::Interrupted, "{number}");
    }
    // What is there is taken even so.
    assert_eq!(g.call(nr::WRITE, &[writer, DATA, 3]), 3);
    assert_eq!(g.call(nr::PPOLL, &[entry, 1, day, 0, 0]), 1);
    assert_eq!(g.get::<2>(entry + 6), [1, 0]);
    assert_eq!(g.call(nr::READ, &[reader, DATA, 100]), 3);

    // A full pipe does not hold the writer either.
    let mut written = 0;
    loop {
        match g.attempt(nr::WRITE, &[writer, DATA, DATA_BYTES]) {
            Answer::Returned(bytes) if bytes > 0 => written += bytes,
            Answer::Interrupted => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(written >= 4096);
}

/// CLOCK_MONOTONIC as the guest reads it.
fn monotonic_ns(g: &mut Guest) -> u64 {
    let at = DATA + 0xe000;
    assert_eq!(g.call(nr::CLOCK_GETTIME, &[1, at]), 0);
    g.get_u64(at) * 1_000_000_000 + g.get_u64(at + 8)
}

#[test]
fn an_interrupted_sleep_ends_when_it_would_have() {
    const NAP_NS: u64 = 20_000_000;
    let g = &mut Guest::new();
    let nap = g.put(0, &[0, NAP_NS].map(u64::to_le_bytes).concat());
    g.preempt.store(1, Ordering::Relaxed);
    // A machine that stands still for the whole nap may let it end at once.
    let interrupted = (0..100).any(|_| g.attempt(nr::NANOSLEEP, &[nap, 0]) == Answer::Interrupted);
    assert!(interrupted);
    // Elsewhere, time goes by: the call made again has nothing left to wait
    // for, so that it needs no time. One that began anew would be interrupted.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_nanos(NAP_NS) {
        std::thread::yield_now();
    }
    assert_eq!(g.call(nr::NANOSLEEP, &[nap, 0]), 0);
}

#[test]
fn nonblocking_pipes_answer_at_once() {
    let g = &mut Guest::new();
    let (reader, _writer) = pipe(g, O_NONBLOCK);
    assert_eq!(g.call(nr::READ, &[reader, DATA, 1]), EAGAIN);
    assert_eq!(g.call(nr::FCNTL, &[reader, 4, 0]), 0);
    g.preempt.store(1, Ordering::Relaxed);
    assert_eq!(g.attempt(nr::READ, &[reader, DATA, 1]), Answer::Interrupted);
}

#[test]
fn limits_and_names_are_kept() {
    let g = &mut Guest::new();
    assert_eq!(g.call(nr::PRLIMIT64, &[0, 7, 0, DATA]), 0);
    assert_eq!(g.get_u64(DATA), 1024);
    let four = g.put(16, &[4_u64, 4096].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::PRLIMIT64, &[0, 7, four, 0]), 0);
    assert_eq!(g.call(nr::DUP, &[0]), 3);
    assert_eq!(g.call(nr::DUP, &[0]), EMFILE);
    let more = g.put(16, &[4_u64, 1 << 20].map(u64::to_le_bytes).concat());
    assert_eq!(g.call(nr::PRLIMIT64, &[0, 7, more, 0]), -1, "EPERM");
    assert_eq!(g.call(nr::PRLIMIT64, &[0, 16, 0, DATA]), EINVAL);
    assert_eq!(g.call(nr::PRLIMIT64, &[1, 7, 0, DATA]), -3);
    let name = g.put_str(0, "a-name-that-is-too-long");
    assert_eq!(g.call(nr::PRCTL, &[15, name]), 0);
    assert_eq!(g.call(nr::PRCTL, &[16, DATA + 100]), 0);
    assert_eq!(&g.get::<16>(DATA + 100), b"a-name-that-is-\0");
    assert_eq!(g.call(nr::UNAME, &[DATA]), 0);
    assert_eq!(&g.get::<8>(DATA + 4 * 65), b"riscv64\0");
    assert_eq!(g.call(nr::GETPID, &[]), i64::from(std::process::id()));
}

#[test]
fn clocks_random_bytes_and_code() {
    let g = &mut Guest::new();
    assert_eq!(g.call(nr::CLOCK_GETTIME, &[1, DATA]), 0);
    let first = (g.get_u64(DATA), g.get_u64(DATA + 8));
    assert_eq!(g.call(nr::CLOCK_GETTIME, &[1, DATA]), 0);
    assert!((g.get_u64(DATA), g.get_u64(DATA + 8)) >= first);
    assert_eq!(g.call(nr::CLOCK_GETTIME, &[77, DATA]), EINVAL);
    assert_eq!(g.call(nr::CLOCK_GETTIME, &[1, 3]), EFAULT);
    assert_eq!(g.call(nr::GETRANDOM, &[DATA, 1000, 0]), 1000);
    assert_ne!(g.get::<32>(DATA + 900), [0; 32]);
    assert_eq!(
        g.call(nr::GETRANDOM, &[DATA + DATA_BYTES - 10, 1000, 0]),
        10
    );
    assert_eq!(g.call(nr::GETRANDOM, &[0, 1000, 0]), EFAULT);
    assert_eq!(g.call(nr::GETRANDOM, &[DATA, 10, 8]), EINVAL);
    assert_eq!(g.flushes(), 0);
    assert_eq!(g.call(nr::FLUSH_ICACHE, &[0, u64::MAX, 1]), 0);
    assert_eq!(g.flushes(), 1);
    assert_eq!(g.call(nr::FLUSH_ICACHE, &[0, 0, 2]), EINVAL);
    for offered_not in [
        220,
        221,
        258,
        283,
        293,
        435,
        499,
        511,
        512,
        1 << 40,
        u64::MAX,
    ] {
        assert_eq!(g.call(offered_not, &[0; 6]), ENOSYS, "{offered_not}");
    }
    let stats = g.process.stats();
    assert_eq!(stats.syscalls_unknown, 5);
    assert_eq!(stats.syscalls_by_name[0], ("clock_gettime".to_owned(), 4));
}

#[test]
fn processor_time_has_clocks_by_number_and_by_id() {
    let g = &mut Guest::new();
    let pid = i64::from(std::process::id());
    // ~id << 3, with 2 for what the scheduler counts and 4 for a thread.
    let of = |id: i64, bits: i64| (!id << 3 | bits) as u64;
    let mut last = 0;
    for clock in [2, of(0, 2), of(pid, 2), of(pid, 0), of(0, 1)] {
        assert_eq!(g.call(nr::CLOCK_GETTIME, &[clock, DATA]), 0, "{clock:#x}");
        let now = g.get_u64(DATA) * 1_000_000_000 + g.get_u64(DATA + 8);
        assert!(now >= last && now > 0, "one clock by several names");
        last = now;
        assert_eq!(g.call(nr::CLOCK_GETRES, &[clock, DATA]), 0);
    }
    for clock in [3, of(0, 6), of(pid, 6)] {
        assert_eq!(g.call(nr::CLOCK_GETTIME, &[clock, DATA]), 0, "{clock:#x}");
    }
    for clock in [of(1, 2), of(0, 3), of(pid, 3), u64::from(u32::MAX)] {
        let answer = g.call(nr::CLOCK_GETTIME, &[clock, DATA]);
        assert_eq!(answer, EINVAL, "{clock:#x}");
    }
}

/// In a pid namespace of its own a process can belong to a session and a group
/// whose leaders are outside; containers start programs that way.
#[test]
fn a_leader_outside_the_pid_namespace_has_the_id_0() {
    const INSIDE: &str = "HARTLOOM_TEST_INSIDE_NAMESPACE";
    const NAME: &str = "a_leader_outside_the_pid_namespace_has_the_id_0";
    if std::env::var_os(INSIDE).is_some() {
        let mut g = Guest::new();
        assert_eq!(g.call(155, &[0]), 0, "getpgid");
        assert_eq!(g.call(156, &[0]), 0, "getsid");
        return;
    }
    let unshare = |program: &std::path::Path| {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--pid", "--fork"])
            .arg(program)
            .env(INSIDE, "1");
        command
    };
    if !unshare("true".as_ref())
        .output()
        .is_ok_and(|o| o.status.success())
    {
        println!("skipped: ids across pid namespaces: unshare is missing or not allowed");
        return;
    }
    let output = unshare(&std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
