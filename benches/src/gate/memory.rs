//! Arithmetic without memory, and memory without much arithmetic.

use std::hint::black_box;

use anyhow::{Result, anyhow, ensure};
use perf_bench::gate::Kind;
use vm_core::GuestAddr;
use vm_core::mem::{GuestMemory, Prot};

use super::{Body, Gated, no_counters};

const WORK: &[&[u8]] = &[include_bytes!("memory.rs")];

pub(super) const GATED: &[Gated] = &[
    Gated {
        id: "control/sum",
        kind: Kind::Compute,
        work: WORK,
        prepare: sum,
        counters: no_counters,
    },
    Gated {
        id: "memory/chase",
        kind: Kind::Compute,
        work: WORK,
        prepare: || chase(32 << 10),
        counters: no_counters,
    },
    Gated {
        id: "memory/far",
        kind: Kind::MemoryBound,
        work: WORK,
        prepare: || chase(512 << 10),
        counters: no_counters,
    },
];

/// Pure arithmetic: says how the machine treats two processes of the same code.
fn sum() -> Result<Body> {
    Ok(Box::new(|| {
        let mut word = black_box(1_u64);
        for _ in 0..10_000 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
        }
        Ok(word)
    }))
}

const RING: GuestAddr = GuestAddr(0x1_0000);

/// Follows pointers through as many words of guest memory: each load waits for the
/// one before. 256 KiB are in a CPU's own cache, where a longer way to memory shows;
/// 4 MiB in the one it shares. More than that is in no cache, and says more about the
/// host's pages (8 to 12 % between processes of the same code) than about ours.
fn chase(words: u64) -> Result<Body> {
    const STEPS: u64 = 500;
    // A full cycle modulo a power of two (Hull and Dobell 1962).
    const FACTOR: u64 = 2_862_933_555_777_941_757;
    let follow = |index: u64| index.wrapping_mul(FACTOR).wrapping_add(1);
    let memory = GuestMemory::new(64 << 20)?;
    memory.map(RING, words * 8, Prot::READ | Prot::WRITE)?;
    let slot = |index: u64| GuestAddr(RING.0 + index * 8);
    let fault = |fault| anyhow!("cannot reach the ring: {fault:?}");
    for index in 0..words {
        memory
            .store(slot(index), follow(index) % words)
            .map_err(fault)?;
    }
    // All steps at once: index * factor + offset.
    let (factor, offset) = (0..STEPS).fold((1_u64, 0_u64), |(factor, offset), _| {
        (factor.wrapping_mul(FACTOR), follow(offset))
    });
    // Where the last iteration stopped, so that none finds its lines warm.
    let mut start = 0_u64;
    Ok(Box::new(move || {
        let expected = start.wrapping_mul(factor).wrapping_add(offset) % words;
        let mut index = start;
        for _ in 0..STEPS {
            index = memory.load(slot(index)).map_err(fault)?;
        }
        ensure!(
            index == expected,
            "{STEPS} steps from {start} led to {index} instead of {expected}"
        );
        start = index;
        Ok(STEPS)
    }))
}
