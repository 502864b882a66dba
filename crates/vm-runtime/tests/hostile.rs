//! System calls with garbage: nothing a guest passes makes us panic, wait for
//! ever, or allocate what it asks for.

mod common;

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;

use common::{Answer, DATA, DATA_BYTES, Guest, TempDir, Watchdog};
use vm_runtime::{ProcessConfig, Stdio};

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// What guests pass: plausible values more often than noise.
    fn argument(&mut self) -> u64 {
        match self.below(13) {
            0 => 0,
            1 => self.below(8),
            2 => self.below(256),
            3 => DATA + self.below(DATA_BYTES),
            4 => (DATA + self.below(DATA_BYTES)) & !4095,
            5 => DATA + DATA_BYTES - self.below(16),
            6 => self.below(32) << 12,
            7 => u64::MAX - self.below(4096),
            8 => 1 << self.below(64),
            9 => (1_u64 << 63) - self.below(3),
            10 => -100_i64 as u64,
            11 => self.next() & !4095,
            _ => self.next(),
        }
    }
}

/// Calls that end the guest when they succeed: exit, exit_group, kills, and
/// a return from a signal that never came.
const ENDING: [u64; 6] = [93, 94, 129, 130, 131, 139];

/// Calls that reach beyond the cage: `fallocate` takes as much of the disk as
/// there is, `sync` waits for all disks, `setpriority` slows this process.
const HARMFUL: [u64; 3] = [47, 81, 140];

/// The calls to make.
fn numbers() -> impl Iterator<Item = u64> {
    (0..500).filter(|n| !ENDING.contains(n) && !HARMFUL.contains(n))
}

/// A guest that cannot harm the host: in an empty directory, its memory full
/// of short relative paths, its standard files of no name. `/dev/null` for
/// those would do harm: root's `fchmod(0, 0)` takes it away from everybody.
fn caged(dir: &TempDir, seed: &mut Random) -> Guest {
    let (stdin, stdout) = std::io::pipe().unwrap();
    // Neither pipe nor file, and nobody can write to it.
    let stderr = UnixDatagram::unbound().unwrap();
    let files: [OwnedFd; 3] = [stdin.into(), stdout.into(), stderr.into()];
    let mut g = Guest::with(ProcessConfig {
        stdio: Stdio::Files(files),
        ..ProcessConfig::default()
    });
    let path = g.put_str(0, dir.0.to_str().unwrap());
    assert_eq!(g.call(49, &[path]), 0, "chdir");
    let bytes: Vec<u8> = (0..DATA_BYTES)
        .map(|_| match seed.below(4) {
            0 => 0,
            _ => b'a' + seed.below(3) as u8,
        })
        .collect();
    g.put(0, &bytes);
    g
}

/// What garbage must not change for the rest of the machine.
fn mode_of_dev_null() -> u32 {
    std::fs::metadata("/dev/null").unwrap().permissions().mode()
}

#[test]
fn garbage_in_every_call_is_answered() {
    let dir = TempDir::new("hostile");
    let before = mode_of_dev_null();
    let mut random = Random(0x5eed_1234_5678_9abc);
    let watchdog = Watchdog::start();
    let mut g = caged(&dir, &mut random);
    // Nothing may wait: a wait answers that it was interrupted.
    g.preempt.store(1, Ordering::Relaxed);
    for round in 0..60 {
        for number in numbers() {
            let args: Vec<u64> = (0..6).map(|_| random.argument()).collect();
            // A guest may unmap its own data, end by its own signal mask, or
            // wait where nobody can wake it: then the next takes over.
            watchdog.about_to(format!("call {number} with {args:x?} in round {round}"));
            let ended = matches!(g.attempt(number, &args), Answer::Ended(_));
            if ended
                || !g.process.memory().allows(
                    vm_core::GuestAddr(DATA),
                    DATA_BYTES,
                    vm_core::mem::Prot::READ,
                )
            {
                g = caged(&dir, &mut random);
                g.preempt.store(1, Ordering::Relaxed);
            }
        }
    }
    assert_eq!(mode_of_dev_null(), before);
}

#[test]
fn huge_lengths_everywhere_are_answered() {
    let dir = TempDir::new("huge");
    let before = mode_of_dev_null();
    let mut random = Random(7);
    let watchdog = Watchdog::start();
    let sizes = [
        u64::MAX,
        u64::MAX - 4095,
        u64::MAX << 13,
        1 << 63,
        i64::MAX as u64,
        1 << 47,
        1 << 32,
        u64::from(u32::MAX),
    ];
    for number in numbers() {
        let mut g = caged(&dir, &mut random);
        g.preempt.store(1, Ordering::Relaxed);
        for size in sizes {
            for place in 0..6 {
                for rest in [0, 3, DATA, DATA + DATA_BYTES - 8] {
                    let mut args = [rest; 6];
                    args[place] = size;
                    watchdog.about_to(format!("call {number} with {args:x?}"));
                    if let Answer::Ended(_) = g.attempt(number, &args) {
                        g = caged(&dir, &mut random);
                        g.preempt.store(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
    assert_eq!(mode_of_dev_null(), before);
}

#[test]
fn opening_for_ever_ends_at_the_limit() {
    let mut g = Guest::new();
    let mut opened = 3;
    while g.call(23, &[0]) >= 0 {
        opened += 1;
        assert!(opened <= 4096);
    }
    assert_eq!(opened, 1024);
}

/// Linux has a directory in `/proc` for every thread, with the same memory
/// behind each: through one of them a guest could write host code.
#[test]
fn no_thread_of_the_host_process_can_be_opened() {
    let mut g = Guest::new();
    let mut n_threads = 0;
    for entry in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = entry.unwrap().file_name().into_string().unwrap();
        n_threads += 1;
        // Under the process's own number some files are the guest's.
        let is_own = thread == std::process::id().to_string();
        let never = ["mem", "environ", "task", "root/etc/passwd"].iter();
        let own = ["maps", "fd/0"].iter().filter(|_| !is_own);
        for file in never.chain(own) {
            let path = g.put_str(0, &format!("/proc/{thread}/{file}"));
            for flags in [0, 2] {
                let fd = g.call(56, &[-100_i64 as u64, path, flags]);
                assert!(fd < 0, "/proc/{thread}/{file} with flags {flags} gave {fd}");
            }
        }
    }
    assert!(n_threads > 1, "the test runner has threads");
}
