//! What all guests of a process together cost it in mappings. Alone in its
//! process: others would use up the same bound.

use vm_core::GuestAddr;
use vm_core::error::MemoryError;
use vm_core::mem::{GuestMemory, PROCESS_RUNS_MAX, Prot, RUNS_GRANTED, RUNS_MAX};

const PAGE: u64 = 4096;
const AT: GuestAddr = GuestAddr(0x100_0000);

#[test]
fn address_spaces_share_what_the_host_has_of_mappings() {
    let rw = Prot::READ | Prot::WRITE;
    let spaces: Vec<GuestMemory> = (0..3).map(|_| GuestMemory::new(1 << 30).unwrap()).collect();
    let n_pages = 2 * RUNS_MAX as u64;
    let (mut refused, mut total) = (None, 0);
    for memory in &spaces {
        memory.map(AT, n_pages * PAGE, rw).unwrap();
    }
    for memory in &spaces {
        for n in (0..n_pages).step_by(2) {
            match memory.protect(GuestAddr(AT.0 + n * PAGE), PAGE, Prot::READ) {
                Ok(()) => total += 2,
                Err(error @ MemoryError::Runs { limit }) => {
                    refused = Some((limit, error.to_string()));
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    let (limit, message) = refused.unwrap();
    assert_eq!(limit, PROCESS_RUNS_MAX, "the third gets no more");
    assert!(
        message.starts_with("all guests of the process"),
        "{message}"
    );
    let most = PROCESS_RUNS_MAX + 3 * RUNS_GRANTED;
    assert!((most - 40..=most).contains(&total), "{total}");
    let [first, _, third] = &spaces[..] else {
        unreachable!("three were made")
    };
    let split = |n: u64| third.protect(GuestAddr(AT.0 + n * PAGE), PAGE, Prot::READ);
    assert!(split(1001).is_err());
    // Whoever comes later has what everybody is granted.
    let late = GuestMemory::new(1 << 30).unwrap();
    late.map(AT, n_pages * PAGE, rw).unwrap();
    let runs = (0..n_pages)
        .step_by(2)
        .take_while(|n| {
            let at = GuestAddr(AT.0 + n * PAGE);
            late.protect(at, PAGE, Prot::READ).is_ok()
        })
        .count();
    assert!(
        (RUNS_GRANTED / 2 - 4..RUNS_GRANTED).contains(&runs),
        "{runs}"
    );
    first.unmap(AT, n_pages * PAGE).unwrap();
    split(1001).unwrap();
    drop(spaces);
    let memory = GuestMemory::new(1 << 30).unwrap();
    memory.map(AT, PAGE, rw).unwrap();
}
