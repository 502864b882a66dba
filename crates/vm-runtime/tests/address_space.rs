//! Memory calls at their edges: gaps, limits, shared files, and that an error
//! loses nothing.

mod common;

use common::abi::nr::{MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, OPENAT, WRITE};
use common::abi::{EACCES, EINVAL, ENOMEM, PAGE};
use common::{DATA, Guest, TempDir};
use vm_core::GuestAddr;
use vm_core::mem::{Prot, RUNS_MAX};
use vm_runtime::{ProcessConfig, Stdio};

const READ_ONLY: u64 = 1;
const READ_WRITE: u64 = 3;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANON: u64 = 0x22;
const MAYMOVE: u64 = 1;
const DONTNEED: u64 = 4;

fn map(g: &mut Guest, n_pages: u64, prot: u64) -> u64 {
    let at = g.call(MMAP, &[0, n_pages * PAGE, prot, ANON, u64::MAX, 0]);
    u64::try_from(at).unwrap()
}

fn prot(g: &Guest, at: u64) -> Option<Prot> {
    g.process.memory().prot(GuestAddr(at))
}

fn store(g: &Guest, at: u64, value: u64) {
    g.process.memory().store(GuestAddr(at), value).unwrap();
}

#[test]
fn what_is_before_a_gap_changes_and_the_gap_is_reported() {
    let g = &mut Guest::new();
    let a = map(g, 8, READ_WRITE);
    assert_eq!(g.call(MUNMAP, &[a + 4 * PAGE, PAGE]), 0);
    for page in [0, 3, 5] {
        store(g, a + page * PAGE, 7);
    }
    // Advice goes on behind the gap, and protection does not.
    assert_eq!(g.call(MADVISE, &[a, 8 * PAGE, DONTNEED]), ENOMEM);
    for page in [0, 3, 5] {
        assert_eq!(g.get_u64(a + page * PAGE), 0, "page {page}");
    }
    assert_eq!(g.call(MPROTECT, &[a, 8 * PAGE, READ_ONLY]), ENOMEM);
    assert_eq!(prot(g, a + 3 * PAGE), Some(Prot::READ));
    assert_eq!(prot(g, a + 5 * PAGE), Some(Prot::READ | Prot::WRITE));
    assert_eq!(g.call(MPROTECT, &[a + 4 * PAGE, PAGE, 1]), ENOMEM);
    assert_eq!(g.call(MADVISE, &[a, 1 << 40, DONTNEED]), ENOMEM);
    assert_eq!(g.call(MADVISE, &[a, u64::MAX << 12, DONTNEED]), EINVAL);
}

#[test]
fn where_nothing_can_be_mapped_there_is_nothing_to_unmap() {
    let g = &mut Guest::new();
    for start in [0, PAGE, 0xf000, 0xfff0_0000, 1 << 32, 1 << 37] {
        assert_eq!(g.call(MUNMAP, &[start, PAGE]), 0, "{start:#x}");
    }
    let a = map(g, 1, READ_WRITE);
    assert_eq!(g.call(MUNMAP, &[1 << 38, PAGE]), EINVAL);
    assert_eq!(g.call(MUNMAP, &[a, 1 << 38]), EINVAL);
    assert!(prot(g, a).is_some());
    assert_eq!(g.call(MUNMAP, &[0x8000_0000, (1 << 38) - 0x8000_0000]), 0);
    assert!(prot(g, a).is_none(), "the part that there is");
}

#[test]
fn mmap_ignores_bits_of_protection_that_it_does_not_know() {
    let g = &mut Guest::new();
    let a = map(g, 1, READ_ONLY | 0xffff_fff8);
    assert_eq!(prot(g, a), Some(Prot::READ));
    assert_eq!(g.call(MPROTECT, &[a, PAGE, READ_WRITE | 8]), 0, "PROT_SEM");
    assert_eq!(g.call(MPROTECT, &[a, PAGE, READ_WRITE | 0x100]), EINVAL);
    assert_eq!(g.call(MPROTECT, &[a, PAGE, 0x0100_0000]), EINVAL);
}

/// Writes to such a mapping would be lost without a word.
#[test]
fn shared_files_do_not_become_writable() {
    let dir = TempDir::new("shared");
    std::fs::write(dir.0.join("f"), [b'x'; 4 * PAGE as usize]).unwrap();
    let g = &mut Guest::new();
    let path = g.put_str(0, &dir.path("f"));
    let fd = g.call(OPENAT, &[0, path, 2, 0]) as u64;
    let file = |g: &mut Guest, at: u64, kind: u64| {
        g.call(MMAP, &[at, 4 * PAGE, READ_ONLY, kind, fd, 0]) as u64
    };
    let a = file(g, 0, SHARED);
    assert_eq!(g.call(MPROTECT, &[a, PAGE, READ_WRITE]), EACCES);
    assert_eq!(g.call(MPROTECT, &[a, 4 * PAGE, 0]), 0);
    assert_eq!(g.call(MPROTECT, &[a, 4 * PAGE, READ_ONLY]), 0);
    // It is so still when cut, moved, and moved elsewhere in part.
    assert_eq!(g.call(MUNMAP, &[a + PAGE, PAGE]), 0);
    assert_eq!(g.call(MPROTECT, &[a + 2 * PAGE, PAGE, READ_WRITE]), EACCES);
    let to = 0x300_0000;
    let moved = g.call(MREMAP, &[a + 2 * PAGE, 2 * PAGE, 2 * PAGE, 3, to]);
    assert_eq!(moved as u64, to);
    assert_eq!(g.get::<1>(to + PAGE), [b'x']);
    assert_eq!(g.call(MPROTECT, &[to + PAGE, PAGE, READ_WRITE]), EACCES);
    // Where something else takes its place, it is not.
    assert_eq!(file(g, to, PRIVATE | FIXED), to);
    assert_eq!(g.call(MPROTECT, &[to, 2 * PAGE, READ_WRITE]), 0);
    let anon = [a, PAGE, READ_ONLY, ANON | FIXED, u64::MAX, 0];
    assert_eq!(g.call(MMAP, &anon) as u64, a);
    assert_eq!(g.call(MPROTECT, &[a, PAGE, READ_WRITE]), 0);
    // Pages before it change.
    let b = map(g, 2, READ_ONLY);
    assert_eq!(file(g, b + PAGE, SHARED | FIXED), b + PAGE);
    assert_eq!(g.call(MPROTECT, &[b, 2 * PAGE, READ_WRITE]), EACCES);
    assert_eq!(prot(g, b), Some(Prot::READ | Prot::WRITE));
}

/// The host gives a process 65,530 mappings, and aborts where an allocator
/// gets none.
#[test]
fn alternating_protection_ends_in_enomem_and_not_in_the_hosts_end() {
    let g = &mut Guest::new();
    let n_pages = 3 * RUNS_MAX as u64;
    let a = map(g, n_pages, READ_WRITE);
    let refused = (0..n_pages)
        .step_by(2)
        .find(|page| g.call(MPROTECT, &[a + page * PAGE, PAGE, READ_ONLY]) != 0);
    let refused = refused.expect("it ends somewhere");
    let at = a + refused * PAGE;
    assert_eq!(g.call(MPROTECT, &[at, PAGE, READ_ONLY]), ENOMEM);
    assert_eq!(prot(g, at), Some(Prot::READ | Prot::WRITE));
    let host = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(host.lines().count() < 30_000, "{}", host.lines().count());
    // Files count as well.
    let dir = TempDir::new("runs");
    std::fs::write(dir.0.join("f"), [b'x'; PAGE as usize]).unwrap();
    let path = g.put_str(0, &dir.path("f"));
    let fd = g.call(OPENAT, &[0, path, 0, 0]) as u64;
    let inner = a + (n_pages - 2) * PAGE;
    store(g, inner, 5);
    let file = [inner, PAGE, READ_ONLY, PRIVATE | FIXED, fd, 0];
    assert_eq!(g.call(MMAP, &file), ENOMEM);
    assert_eq!(g.call(MUNMAP, &[inner, PAGE]), ENOMEM);
    assert_eq!(g.get_u64(inner), 5);
    // One protection for all, and there is room again.
    assert_eq!(g.call(MPROTECT, &[a, n_pages * PAGE, READ_WRITE]), 0);
    assert_eq!(g.call(MMAP, &file) as u64, inner);
}

#[test]
fn a_move_that_does_not_fit_loses_nothing_at_either_end() {
    let g = &mut Guest::with(ProcessConfig {
        memory_bytes_limit: 2 << 20,
        stdio: Stdio::Null,
        ..Default::default()
    });
    let (a, to) = (map(g, 8, READ_WRITE), 0x300_0000);
    let taken = [to, PAGE, READ_WRITE, ANON | FIXED, u64::MAX, 0];
    assert_eq!(g.call(MMAP, &taken) as u64, to);
    store(g, a + 7 * PAGE, 77);
    store(g, to, 99);
    let text = g.put(0, b"never");
    for new in [4 << 20, 1 << 30] {
        assert_eq!(g.call(MREMAP, &[a, 8 * PAGE, new, MAYMOVE]), ENOMEM);
        assert_eq!(g.call(MREMAP, &[a, 8 * PAGE, new, 3, to]), ENOMEM);
        let replaced = [a, new, READ_ONLY, ANON | FIXED, u64::MAX, 0];
        assert_eq!(g.call(MMAP, &replaced), ENOMEM);
    }
    assert_eq!(g.call(MREMAP, &[a, 8 * PAGE, PAGE, 3, 0x1000]), ENOMEM);
    assert_eq!(g.get_u64(a + 7 * PAGE), 77);
    assert_eq!(g.get_u64(to), 99);
    assert_eq!(g.call(MREMAP, &[a, 8 * PAGE, 9 * PAGE, 3, to]) as u64, to);
    assert_eq!(g.get_u64(to + 7 * PAGE), 77);
    assert_eq!(g.call(WRITE, &[1, text, 5]), 5);
    assert_eq!(g.get::<5>(DATA), *b"never");
}
