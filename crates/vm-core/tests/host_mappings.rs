//! What guest memory costs the host in mappings, and that what fails changes
//! nothing.

use vm_core::GuestAddr;
use vm_core::error::MemoryError;
use vm_core::mem::{GuestMemory, Prot, RUNS_MAX};

const PAGE: u64 = 4096;
const AT: GuestAddr = GuestAddr(0x100_0000);

fn rw() -> Prot {
    Prot::READ | Prot::WRITE
}

fn page(n: u64) -> GuestAddr {
    GuestAddr(AT.0 + n * PAGE)
}

/// The host's mappings that lie in the reservation.
fn host_mappings(memory: &GuestMemory) -> usize {
    let range = memory.host_range();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = |line: &str| {
        let (start, _) = line.split_once('-').unwrap();
        usize::from_str_radix(start, 16).unwrap()
    };
    maps.lines()
        .filter(|line| range.contains(&start(line)))
        .count()
}

#[test]
fn alternating_permissions_end_at_a_limit_that_the_host_can_bear() {
    let memory = GuestMemory::new(1 << 30).unwrap();
    let n_pages = 4 * RUNS_MAX as u64;
    memory.map(AT, n_pages * PAGE, rw()).unwrap();
    memory.store(page(n_pages - 1), 7_u64).unwrap();
    let mut done = 0;
    let refused = loop {
        match memory.protect(page(done), PAGE, Prot::READ) {
            Ok(()) => done += 2,
            Err(error) => break error,
        }
        assert!(done < n_pages, "never refused");
    };
    assert!(matches!(refused, MemoryError::Runs { .. }), "{refused}");
    assert!(done as usize >= RUNS_MAX - 4, "{done} pages");
    assert!(host_mappings(&memory) <= RUNS_MAX + 2);
    // Every other way to split a run is refused, and changes nothing.
    let inner = page(n_pages - 2);
    assert!(memory.protect(inner, PAGE, Prot::NONE).is_err());
    assert!(memory.unmap(inner, PAGE).is_err());
    assert!(memory.map(inner, PAGE, Prot::READ).is_err());
    assert!(memory.map(page(n_pages + 9), PAGE, rw()).is_err());
    assert!(memory.remap(inner, PAGE, page(n_pages + 9), PAGE).is_err());
    assert_eq!(memory.prot(inner), Some(rw()));
    assert_eq!(memory.prot(page(n_pages + 9)), None);
    assert_eq!(memory.load(page(n_pages - 1)), Ok(7_u64));
    assert_eq!(memory.mapped_bytes(), n_pages * PAGE);
    // What makes runs fewer is not.
    memory.protect(AT, n_pages * PAGE, rw()).unwrap();
    assert!(host_mappings(&memory) < 10);
    memory.protect(inner, PAGE, Prot::NONE).unwrap();
}

/// Linux does not merge mappings that were written to before they met, unless
/// they are kin.
#[test]
fn pages_touched_apart_are_one_mapping_when_they_meet() {
    let memory = GuestMemory::new(1 << 30).unwrap();
    let n_pages = 4000;
    for round in 0..3 {
        let start = round * 2 * n_pages;
        memory.map(page(start), n_pages * PAGE, Prot::NONE).unwrap();
        for n in (0..n_pages).step_by(2) {
            memory.protect(page(start + n), PAGE, rw()).unwrap();
            memory.store(page(start + n), 1_u8).unwrap();
        }
        assert!(host_mappings(&memory) > n_pages as usize / 2);
        memory.protect(page(start), n_pages * PAGE, rw()).unwrap();
        assert!(host_mappings(&memory) < 20, "{}", host_mappings(&memory));
        // And what is mapped anew is no stranger either.
        memory.unmap(page(start + 1000), 2000 * PAGE).unwrap();
        for n in (1000..3000).step_by(2) {
            memory.map(page(start + n), PAGE, rw()).unwrap();
            memory.store(page(start + n), 1_u8).unwrap();
        }
        for n in (1001..3000).step_by(2) {
            memory.map(page(start + n), PAGE, rw()).unwrap();
        }
        assert!(host_mappings(&memory) < 20, "{}", host_mappings(&memory));
    }
}

#[test]
fn pages_are_fresh_whenever_they_are_mapped() {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let fill = || {
        memory.store(page(0), u64::MAX).unwrap();
        memory.store(page(1), u64::MAX).unwrap();
    };
    memory.map(AT, 2 * PAGE, rw()).unwrap();
    fill();
    memory.map(AT, 2 * PAGE, rw()).unwrap();
    assert_eq!(memory.load(page(1)), Ok(0_u64), "replaced");
    fill();
    memory.protect(AT, PAGE, Prot::NONE).unwrap();
    memory.unmap(AT, 2 * PAGE).unwrap();
    memory.map(AT, 2 * PAGE, Prot::READ).unwrap();
    assert_eq!(memory.load(page(0)), Ok(0_u64), "unmapped");
    memory.protect(AT, 2 * PAGE, rw()).unwrap();
    fill();
    memory.protect(AT, PAGE, Prot::READ).unwrap();
    memory.unmap(page(1), PAGE).unwrap();
    memory.zero(AT, 2 * PAGE).unwrap();
    assert_eq!(memory.load(page(0)), Ok(0_u64));
    assert_eq!(memory.prot(page(0)), Some(Prot::READ));
    assert_eq!(memory.prot(page(1)), None, "a gap stays one");
}

#[test]
fn what_moves_keeps_contents_and_permissions() {
    let n = 200;
    // Room for the larger size, and not for both.
    let memory = GuestMemory::new(400 * PAGE).unwrap();
    let to = page(1000);
    memory.map(AT, n * PAGE, rw()).unwrap();
    for i in 0..n {
        if i % 3 == 0 {
            memory.store(page(i), i + 1).unwrap();
        }
    }
    memory.protect(AT, n * PAGE, Prot::NONE).unwrap();
    memory.map(to, 10 * PAGE, rw()).unwrap();
    memory.store(to, 99_u64).unwrap();
    let beyond = memory.remap(AT, n * PAGE, to, 500 * PAGE).unwrap_err();
    assert!(matches!(beyond, MemoryError::Limit { .. }), "{beyond}");
    assert_eq!(memory.load(to), Ok(99_u64), "nothing has changed");
    memory.protect(page(7), PAGE, Prot::READ).unwrap();
    assert!(memory.remap(AT, n * PAGE, to, PAGE).is_err(), "two kinds");
    memory.protect(page(7), PAGE, Prot::NONE).unwrap();
    memory.remap(AT, n * PAGE, to, 300 * PAGE).unwrap();
    assert_eq!(memory.mapped_bytes(), 300 * PAGE);
    assert!(memory.is_free(AT, n * PAGE));
    assert_eq!(memory.uniform_prot(to, 300 * PAGE), Some(Prot::NONE));
    memory.protect(to, 300 * PAGE, Prot::READ).unwrap();
    for i in 0..300 {
        let expected = if i < n && i % 3 == 0 { i + 1 } else { 0 };
        let at = GuestAddr(to.0 + i * PAGE);
        assert_eq!(memory.load(at), Ok(expected), "page {i}");
    }
    // Cut, to where it came from, which is fresh.
    memory.remap(to, 300 * PAGE, AT, 5 * PAGE).unwrap();
    assert_eq!(memory.load(page(3)), Ok(4_u64));
    assert_eq!(memory.prot(page(3)), Some(Prot::READ));
    assert_eq!(memory.mapped_bytes(), 5 * PAGE);
    assert_eq!(memory.mapped_prefix(page(2), 9 * PAGE), 3 * PAGE);
    memory.map(to, 300 * PAGE, rw()).unwrap();
    assert_eq!(memory.load(GuestAddr(to.0 + 9 * PAGE)), Ok(0_u64));
}

/// Whoever embeds guests may have locked its memory (`mlockall`); what is
/// locked cannot be dropped.
#[test]
fn locked_pages_are_given_back_like_others() {
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(AT, 4 * PAGE, rw()).unwrap();
    let lock = || {
        for n in 0..4 {
            memory.store(page(n), u64::MAX).unwrap();
        }
        let host = memory.host_base().wrapping_add(AT.0 as usize);
        // SAFETY: these pages are mapped, and locking changes no contents.
        let locked = unsafe { rustix::mm::mlock(host.cast(), 4 * PAGE as usize) };
        locked.expect("a limit of locked memory below 16 KiB");
    };
    lock();
    memory.zero(AT, PAGE).unwrap();
    assert_eq!(memory.load(page(0)), Ok(0_u64));
    assert_eq!(memory.load(page(1)), Ok(u64::MAX));
    lock();
    memory.unmap(AT, 2 * PAGE).unwrap();
    memory.map(AT, 2 * PAGE, rw()).unwrap();
    assert_eq!(memory.load(page(1)), Ok(0_u64));
    lock();
    memory.remap(AT, 2 * PAGE, page(9), 2 * PAGE).unwrap();
    assert_eq!(memory.load(page(9)), Ok(u64::MAX));
    memory.map(AT, PAGE, rw()).unwrap();
    assert_eq!(memory.load(page(0)), Ok(0_u64));
}
