//! Paths: which file a call acts on, and that it is never one of the host
//! process.

mod common;

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use common::abi::nr::{
    CHDIR, DUP3, FACCESSAT, FACCESSAT2, FCHMODAT, FCHMODAT2, FCHOWNAT, FSTAT, LINKAT, MKDIRAT,
    MKNODAT, NEWFSTATAT, OPENAT, READLINKAT, RENAMEAT2, STATFS, STATX, SYMLINKAT, TRUNCATE,
    UNLINKAT, UTIMENSAT, WRITE,
};
use common::abi::{AT_FDCWD, EACCES, EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM};
use common::{Answer, DATA, Guest, TempDir};

const NOFOLLOW: u64 = 0x100;
const SYMLINK_FOLLOW: u64 = 0x400;
const EMPTY_PATH: u64 = 0x1000;

const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_NOFOLLOW: u64 = 0o400_000;
const O_PATH: u64 = 0o10_000_000;
const O_TMPFILE: u64 = 0o20_200_000;

/// A guest in a directory of its own.
fn guest_in(dir: &TempDir) -> Guest {
    let mut g = Guest::new();
    let path = g.put_str(0, dir.0.to_str().unwrap());
    assert_eq!(g.call(CHDIR, &[path]), 0);
    g
}

/// Makes a call whose first arguments are the working directory and a path.
#[track_caller]
fn at(g: &mut Guest, number: u64, path: &str, rest: &[u64]) -> i64 {
    let path = g.put_str(0xf000, path);
    g.call(number, &[&[AT_FDCWD, path], rest].concat())
}

fn open(g: &mut Guest, path: &str, flags: u64) -> u64 {
    let fd = at(g, OPENAT, path, &[flags, 0o644]);
    u64::try_from(fd).unwrap_or_else(|_| panic!("{path}: {fd}"))
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// `st_ino` of what a `stat` call left at DATA.
fn inode(g: &Guest) -> u64 {
    g.get_u64(DATA + 8)
}

/// The host process has a file open under a number that is another file's for
/// the guest: what the guest says is about its own.
#[test]
fn a_descriptors_path_is_the_guests_own_for_every_call() {
    let dir = TempDir::new("paths-own");
    let host_file = std::fs::File::create(dir.0.join("host")).unwrap();
    // High, so that the guest's own files do not come to be there.
    let high = rustix::io::fcntl_dupfd_cloexec(&host_file, 500).unwrap();
    let number = high.as_raw_fd();
    let before = host_file.metadata().unwrap();
    let g = &mut guest_in(&dir);
    let mine = open(g, "mine", O_RDWR | O_CREAT);
    let own = dir.0.join("mine");
    assert_eq!(g.call(WRITE, &[mine, DATA, 100]), 100);
    assert_eq!(g.call(DUP3, &[mine, number as u64, 0]), i64::from(number));
    let path = &format!("/proc/self/fd/{number}");

    assert_eq!(at(g, FCHMODAT, path, &[0o600]), 0);
    assert_eq!(mode_of(&own), 0o600);
    assert_eq!(at(g, FCHMODAT2, path, &[0o640, 0]), 0);
    assert_eq!(mode_of(&own), 0o640);
    let times = g.put(0x800, &[5_u64, 0, 6, 0].map(u64::to_le_bytes).concat());
    assert_eq!(at(g, UTIMENSAT, path, &[times, 0]), 0);
    assert_eq!(own.metadata().unwrap().mtime(), 6);
    let keep = u64::from(u32::MAX);
    assert_eq!(at(g, FCHOWNAT, path, &[keep, keep, 0]), 0);
    let absolute = g.put_str(0xf000, path);
    assert_eq!(g.call(TRUNCATE, &[absolute, 7]), 0);
    assert_eq!(own.metadata().unwrap().len(), 7);
    assert_eq!(at(g, NEWFSTATAT, path, &[DATA, 0]), 0);
    assert_eq!(inode(g), own.metadata().unwrap().ino());
    assert_eq!(at(g, NEWFSTATAT, path, &[DATA, NOFOLLOW]), 0);
    assert_eq!(g.get_u32(DATA + 16) & 0o170_000, 0o120_000, "a link");
    assert_eq!(at(g, STATX, path, &[0, 0x7ff, DATA]), 0);
    assert_eq!(g.get_u64(DATA + 40), 7);
    assert_eq!(at(g, FACCESSAT, path, &[2]), 0);
    let absolute = g.put_str(0xf000, path);
    assert_eq!(g.call(STATFS, &[absolute, DATA]), 0);

    // A number that only the host has.
    let hosts = rustix::io::fcntl_dupfd_cloexec(&host_file, 500).unwrap();
    let path = &format!("/proc/self/fd/{}", hosts.as_raw_fd());
    for (number, rest) in [
        (FCHMODAT, vec![0o600]),
        (FCHMODAT2, vec![0o600, 0]),
        (UTIMENSAT, vec![0, 0]),
        (FCHOWNAT, vec![keep, keep, 0]),
        (NEWFSTATAT, vec![DATA, 0]),
        (NEWFSTATAT, vec![DATA, NOFOLLOW]),
        (STATX, vec![0, 0x7ff, DATA]),
        (FACCESSAT, vec![0]),
        (FACCESSAT2, vec![0, 0]),
        (READLINKAT, vec![DATA, 100]),
        (OPENAT, vec![0, 0]),
    ] {
        assert_eq!(at(g, number, path, &rest), ENOENT, "call {number}");
    }
    let after = host_file.metadata().unwrap();
    assert_eq!(
        (after.mode(), after.mtime()),
        (before.mode(), before.mtime())
    );
}

/// However a path leads to a file that only the host process has open, no
/// call acts on it.
#[test]
fn magic_links_of_the_host_process_are_never_followed() {
    let dir = TempDir::new("paths-magic");
    let file = std::fs::File::create(dir.0.join("host")).unwrap();
    file.set_len(10).unwrap();
    std::fs::create_dir(dir.0.join("inner")).unwrap();
    let inner = std::fs::File::open(dir.0.join("inner")).unwrap();
    let before = file.metadata().unwrap();
    let g = &mut guest_in(&dir);
    let times = g.put(0x800, &[5_u64, 0, 6, 0].map(u64::to_le_bytes).concat());
    let keep = u64::from(u32::MAX);
    let spelled = format!("/proc/./self/fd/{}", file.as_raw_fd());
    symlink(
        format!("/proc/self/fd/{}", file.as_raw_fd()),
        dir.0.join("link"),
    )
    .unwrap();
    for path in [&spelled[..], "link"] {
        for (number, rest) in [
            (FCHMODAT, vec![0o600]),
            (FCHMODAT2, vec![0o600, 0]),
            (UTIMENSAT, vec![times, 0]),
            (FCHOWNAT, vec![keep, keep, 0]),
            (NEWFSTATAT, vec![DATA, 0]),
            (FACCESSAT, vec![0]),
            (OPENAT, vec![O_RDWR, 0]),
        ] {
            let answer = at(g, number, path, &rest);
            assert!(answer < 0, "call {number} on {path}: {answer}");
        }
        let path = g.put_str(0xf000, path);
        assert!(g.call(TRUNCATE, &[path, 0]) < 0);
        let new = g.put_str(0xe000, "stolen");
        let linked = g.call(LINKAT, &[AT_FDCWD, path, AT_FDCWD, new, SYMLINK_FOLLOW]);
        assert!(linked < 0, "{linked}");
    }
    // Nor through one in the middle.
    let spelled = format!("/proc/./self/fd/{}", inner.as_raw_fd());
    symlink(
        format!("/proc/self/fd/{}", inner.as_raw_fd()),
        dir.0.join("way"),
    )
    .unwrap();
    let target = g.put_str(0xe000, "x");
    for path in [format!("{spelled}/x"), "way/x".to_owned()] {
        assert!(at(g, MKDIRAT, &path, &[0o755]) < 0);
        assert!(at(g, MKNODAT, &path, &[0o644, 0]) < 0);
        assert!(at(g, OPENAT, &path, &[O_RDWR | O_CREAT, 0o644]) < 0);
        let path = g.put_str(0xf000, &path);
        assert!(g.call(SYMLINKAT, &[target, AT_FDCWD, path]) < 0);
        let host = g.put_str(0xd000, "host");
        assert!(g.call(LINKAT, &[AT_FDCWD, host, AT_FDCWD, path, 0]) < 0);
        assert!(g.call(RENAMEAT2, &[AT_FDCWD, host, AT_FDCWD, path, 0]) < 0);
    }
    assert_eq!(std::fs::read_dir(dir.0.join("inner")).unwrap().count(), 0);
    let after = file.metadata().unwrap();
    assert_eq!((after.mode(), after.len()), (before.mode(), before.len()));
    assert_eq!(
        (after.mtime(), after.nlink()),
        (before.mtime(), before.nlink())
    );
}

#[test]
fn files_without_a_name_get_one_by_their_descriptor() {
    let dir = TempDir::new("paths-tmpfile");
    let g = &mut guest_in(&dir);
    let opened = at(g, OPENAT, ".", &[O_TMPFILE | O_RDWR, 0o600]);
    if opened == -95 {
        println!("skipped: the file system has no O_TMPFILE");
        return;
    }
    let text = g.put(0, b"hi");
    assert_eq!(g.call(WRITE, &[opened as u64, text, 2]), 2);
    let path = g.put_str(0x100, &format!("/proc/self/fd/{opened}"));
    let name = g.put_str(0x200, "linked");
    let args = [AT_FDCWD, path, AT_FDCWD, name, SYMLINK_FOLLOW];
    assert_eq!(g.call(LINKAT, &args), 0);
    assert_eq!(std::fs::read(dir.0.join("linked")).unwrap(), b"hi");
    assert_eq!(g.call(LINKAT, &args), EEXIST);
}

/// How C libraries change the mode of a file that must not be a link, with
/// and without `fchmodat2`.
#[test]
fn modes_change_without_following_links() {
    let dir = TempDir::new("paths-lchmod");
    std::fs::write(dir.0.join("victim"), "").unwrap();
    symlink("victim", dir.0.join("link")).unwrap();
    let g = &mut guest_in(&dir);
    let held = open(g, "victim", O_PATH | O_NOFOLLOW);
    assert_eq!(
        at(g, FCHMODAT, &format!("/proc/self/fd/{held}"), &[0o600]),
        0
    );
    assert_eq!(mode_of(&dir.0.join("victim")), 0o600);
    assert_eq!(at(g, FCHMODAT2, "victim", &[0o640, NOFOLLOW]), 0);
    assert_eq!(mode_of(&dir.0.join("victim")), 0o640);
    let empty = g.put_str(0, "");
    assert_eq!(g.call(FCHMODAT2, &[held, empty, 0o644, EMPTY_PATH]), 0);
    assert_eq!(mode_of(&dir.0.join("victim")), 0o644);
    assert_eq!(at(g, FCHMODAT2, "victim", &[0o640, 1]), EINVAL);
    // A link has no mode of its own, or one that nobody looks at.
    at(g, FCHMODAT2, "link", &[0o600, NOFOLLOW]);
    assert_eq!(mode_of(&dir.0.join("victim")), 0o644);
    assert_eq!(at(g, FCHMODAT, "link", &[0o600]), 0, "followed");
    assert_eq!(mode_of(&dir.0.join("victim")), 0o600);
}

#[test]
fn links_and_trailing_slashes_mean_what_they_do_on_linux() {
    let dir = TempDir::new("paths-links");
    std::fs::write(dir.0.join("file"), "text").unwrap();
    std::fs::create_dir(dir.0.join("sub")).unwrap();
    symlink("file", dir.0.join("to-file")).unwrap();
    symlink("sub", dir.0.join("to-sub")).unwrap();
    symlink("nowhere", dir.0.join("dangling")).unwrap();
    let g = &mut guest_in(&dir);
    let times = g.put(0x800, &[5_u64, 0, 6, 0].map(u64::to_le_bytes).concat());
    assert_eq!(at(g, UTIMENSAT, "to-file", &[times, NOFOLLOW]), 0);
    let link = dir.0.join("to-file").symlink_metadata().unwrap();
    assert_eq!(link.mtime(), 6);
    assert_ne!(dir.0.join("file").metadata().unwrap().mtime(), 6);
    assert_eq!(at(g, FACCESSAT, "dangling", &[0]), ENOENT);
    assert_eq!(at(g, FACCESSAT2, "dangling", &[0, NOFOLLOW]), 0);
    assert_eq!(at(g, READLINKAT, "dangling", &[DATA, 100]), 7);
    assert_eq!(at(g, READLINKAT, "file", &[DATA, 100]), EINVAL);
    assert_eq!(at(g, READLINKAT, "to-sub/", &[DATA, 100]), EINVAL);
    assert_eq!(at(g, NEWFSTATAT, "file/", &[DATA, 0]), ENOTDIR);
    assert_eq!(at(g, NEWFSTATAT, "to-sub/", &[DATA, NOFOLLOW]), 0);
    assert_eq!(g.get_u32(DATA + 16) & 0o170_000, 0o040_000);
    assert_eq!(at(g, NEWFSTATAT, "", &[DATA, 0]), ENOENT);
    assert_eq!(at(g, NEWFSTATAT, "", &[DATA, EMPTY_PATH]), 0);
    assert_eq!(inode(g), dir.0.metadata().unwrap().ino());
    let fd = open(g, "file", 0);
    assert_eq!(g.call(FSTAT, &[fd, DATA]), 0);
    assert_eq!(inode(g), dir.0.join("file").metadata().unwrap().ino());
    // Beside O_PATH, other flags are nothing: creating, writing, large files.
    let path_only = open(g, "to-file", 0o10_100_102);
    assert_eq!(g.call(FSTAT, &[path_only, DATA]), 0);
    assert_eq!(inode(g), dir.0.join("file").metadata().unwrap().ino());

    assert_eq!(at(g, MKDIRAT, "sub/a///", &[0o755]), 0);
    assert_eq!(at(g, MKDIRAT, "/", &[0o755]), EEXIST);
    assert_eq!(at(g, UNLINKAT, "sub//a/", &[0x200]), 0);
    assert_eq!(at(g, UNLINKAT, "sub/a", &[0x200]), ENOENT);
    assert_eq!(at(g, MKDIRAT, "file/x", &[0o755]), ENOTDIR);
    assert_eq!(at(g, MKDIRAT, "", &[0o755]), ENOENT);
    let (old, new) = (g.put_str(0xe000, "to-file"), g.put_str(0xf000, "sub/b"));
    assert_eq!(g.call(LINKAT, &[AT_FDCWD, old, AT_FDCWD, new, 0]), 0);
    assert!(dir.0.join("sub/b").is_symlink(), "the link itself");
    let new = g.put_str(0xf000, "sub/c");
    assert_eq!(
        g.call(LINKAT, &[AT_FDCWD, old, AT_FDCWD, new, SYMLINK_FOLLOW]),
        0
    );
    assert!(!dir.0.join("sub/c").is_symlink(), "what it leads to");
    let sub = g.put_str(0xe000, "sub");
    let linked = g.call(LINKAT, &[AT_FDCWD, sub, AT_FDCWD, new, SYMLINK_FOLLOW]);
    assert!([EPERM, EEXIST].contains(&linked), "{linked}");
    let (old, new) = (g.put_str(0xe000, "sub/c"), g.put_str(0xf000, "./d"));
    assert_eq!(g.call(RENAMEAT2, &[AT_FDCWD, old, AT_FDCWD, new, 0]), 0);
    assert_eq!(std::fs::read(dir.0.join("d")).unwrap(), b"text");

    // The working directory by its descriptor's path.
    let held = open(g, "sub", O_PATH);
    let path = g.put_str(0xf000, &format!("/proc/self/fd/{held}"));
    assert_eq!(g.call(CHDIR, &[path]), 0);
    assert_eq!(at(g, FACCESSAT2, "b", &[0, NOFOLLOW]), 0);
    let file = g.put_str(0xf000, "../file");
    assert_eq!(g.attempt(CHDIR, &[file]), Answer::Returned(ENOTDIR));
}

/// Detours of spelling, `..` and the working directory lead into the host
/// process' directory as well as `/proc/self` does.
#[test]
fn no_spelling_shows_what_the_host_process_is() {
    let dir = TempDir::new("paths-spelling");
    symlink("/proc/self", dir.0.join("proc")).unwrap();
    let g = &mut guest_in(&dir);
    let program = at(g, READLINKAT, "/proc/self/exe", &[DATA, 100]);
    for path in ["//proc/self/exe", "/proc/./self/exe", "/./proc//self/./exe"] {
        assert_eq!(at(g, READLINKAT, path, &[DATA, 100]), program, "{path}");
    }
    for path in [
        "/proc/self/../self/exe",
        "/proc/self/task/../exe",
        "proc/exe",
        "proc/environ",
        "proc/cwd",
    ] {
        assert_eq!(at(g, READLINKAT, path, &[DATA, 100]), ENOENT, "{path}");
        assert_eq!(at(g, NEWFSTATAT, path, &[DATA, NOFOLLOW]), ENOENT, "{path}");
        // ELOOP: the host stops at the link and does not come to the file.
        for (number, rest) in [(NEWFSTATAT, [DATA, 0]), (OPENAT, [0, 0])] {
            let answer = at(g, number, path, &rest);
            assert!([ENOENT, ELOOP].contains(&answer), "{path}: {answer}");
        }
    }
    for path in [
        "/proc/./self",
        "/proc/self/.",
        "proc",
        "proc/task",
        "proc/.",
    ] {
        let absolute = g.put_str(0xf000, path);
        assert_eq!(g.call(CHDIR, &[absolute]), ENOENT, "{path}");
        assert_eq!(at(g, OPENAT, path, &[O_PATH, 0]), ENOENT, "{path}");
    }
    // What is of no process is there.
    assert_eq!(at(g, NEWFSTATAT, "/proc//meminfo", &[DATA, 0]), 0);
}

#[test]
fn links_of_the_kernel_are_links_to_open() {
    const O_EXCL: u64 = 0o200;
    const O_DIRECTORY: u64 = 0o200_000;
    let dir = TempDir::new("paths-flags");
    let g = &mut guest_in(&dir);
    let file = open(g, "f", O_RDWR | O_CREAT);
    let own = &format!("/dev/fd/{file}");
    assert_eq!(at(g, OPENAT, own, &[O_NOFOLLOW, 0]), ELOOP);
    assert_eq!(at(g, OPENAT, own, &[O_CREAT | O_EXCL, 0o600]), EEXIST);
    assert_eq!(at(g, OPENAT, own, &[O_DIRECTORY, 0]), ENOTDIR);
    assert_eq!(at(g, OPENAT, own, &[O_DIRECTORY | O_NOFOLLOW, 0]), ENOTDIR);
    for other in ["/dev/fd/+0", "/dev/fd/00", "/dev/fd/", "/dev/fd/0x0"] {
        assert_eq!(at(g, OPENAT, other, &[0, 0]), ENOENT, "{other}");
    }
    assert_eq!(at(g, NEWFSTATAT, "/proc/self/exe", &[DATA, NOFOLLOW]), 0);
    assert_eq!(g.get_u32(DATA + 16) & 0o170_000, 0o120_000, "a link");
    assert_eq!(at(g, OPENAT, "/proc/self/exe", &[O_NOFOLLOW, 0]), ELOOP);
    assert_eq!(at(g, OPENAT, "/proc/self/maps", &[O_DIRECTORY, 0]), ENOTDIR);
    assert_eq!(at(g, OPENAT, "/proc/self/maps", &[O_RDWR, 0]), EACCES);
    let here = open(g, ".", O_DIRECTORY);
    open(g, &format!("/dev/fd/{here}"), O_DIRECTORY);
    open(g, own, O_CREAT);
}
