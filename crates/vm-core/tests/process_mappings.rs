//! What all guests of a process together cost it in mappings. Alone in its
//! process: others would use up the same bound.

use vm_core::GuestAddr;
use vm_core::error::MemoryError;
use vm_core::mem::{GuestMemory, PROCESS_RUNS_MAX, Prot, RUNS_MAX};

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
                Err(MemoryError::Runs { limit }) => {
                    refused = Some(limit);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(refused, Some(PROCESS_RUNS_MAX), "the third gets no more");
    assert!((PROCESS_RUNS_MAX - 40..=PROCESS_RUNS_MAX).contains(&total));
    let [first, _, third] = &spaces[..] else {
        unreachable!("three were made")
    };
    let split = |n: u64| third.protect(GuestAddr(AT.0 + n * PAGE), PAGE, Prot::READ);
    assert!(split(501).is_err());
    first.unmap(AT, n_pages * PAGE).unwrap();
    split(501).unwrap();
    drop(spaces);
    let memory = GuestMemory::new(1 << 30).unwrap();
    memory.map(AT, PAGE, rw).unwrap();
}
