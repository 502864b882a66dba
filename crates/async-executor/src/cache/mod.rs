//! The code cache of one address space: compiled regions, where they are, and
//! what they were compiled from.
//!
//! Lookups read a slot and take no lock. What changes the cache (publishing,
//! validating) takes the one lock here; code that was published stays
//! executable until the cache goes, so a reader that loaded a slot before it
//! was reset may still enter the old code. That is what a hart without
//! `fence.i` may do, too.
//!
//! Code memory is reclaimed with the cache as a whole:
//!
//! ```text
//!   in use ── no room for a region ──> retired ── last run leaves ──> gone
//!             (context: a new cache     no slot is set, none will be;
//!              for the next run)        runs leave at the next transfer
//! ```
//!
//! No hart has to be waited for, and none is stopped: a run that is still in
//! code of a retired cache holds it, comes to an empty slot, leaves all its
//! frames, and goes on with the new cache (`Tiered::run`).

#[allow(
    unsafe_code,
    reason = "executable memory and the slot table: rules A1 to A3"
)]
pub(crate) mod arena;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use vm_core::GuestAddr;
use vm_core::mem::{GuestMemory, Prot};

use crate::error::EngineError;
use crate::jit::compile::Compiled;
use crate::jit::region::{End, Region, Target};
use crate::jit::translate::Flavour;
use arena::Arena;

/// Regions of one flavour for one address space.
pub(crate) struct CodeCache {
    pub(crate) arena: Arena,
    pub(crate) flavour: Flavour,
    /// Moves on when code becomes invalid: what was discovered before is not
    /// published after.
    generation: AtomicU64,
    /// Only ever set, under the lock of the index.
    retired: AtomicBool,
    index: Mutex<Index>,
}

/// What is placed and what is asked for. Between two holders of the lock:
///
/// - the slot of a pc is set if and only if `by_entry` has it, and then names
///   the offset of that region, which is alive; all other regions are not;
/// - a pc is in `pending` from the [`Wanted::Compile`] that names it until its
///   region is published, refused or taken back, or the generation moves on;
/// - `side_exits` names parents that are alive only.
#[derive(Default)]
struct Index {
    /// By offset, ascending: the arena only grows.
    regions: Vec<Placed>,
    /// The region of an entry, as a place in `regions`.
    by_entry: HashMap<u64, usize>,
    /// Entries that are being compiled or wait for it.
    pending: HashSet<u64>,
    /// Entries that cannot be compiled, until code changes.
    refused: HashSet<u64>,
    /// Where a region leaves to code that had not been executed when it was
    /// compiled, and that region's entry.
    side_exits: HashMap<u64, u64>,
    /// How often an entry was wanted again for a side exit, over all
    /// generations: code that keeps changing is not worth more.
    recompiles: HashMap<u64, u32>,
}

struct Placed {
    entry: u64,
    offset: u32,
    bytes: u32,
    /// Kept as long as the code, which a hart may still run after it was
    /// unlinked. The arena bounds both.
    locations: Vec<(u32, u64)>,
    /// Guest code it was made from: start and bytes of each node. Empty once
    /// no slot names it.
    source: Vec<(u64, Vec<u8>)>,
    alive: bool,
}

impl Placed {
    fn bury(&mut self) {
        self.alive = false;
        self.source = Vec::new();
    }
}

/// What to compile when an address is hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The region at this entry (maybe another than asked for: the region
    /// that leaves to the hot address).
    Compile(u64),
    /// Nothing: it is in the queue, or refused.
    Nothing,
}

/// What became of a compiled region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Transfers to its entry find it.
    Yes,
    /// Code changed while it was compiled, or the cache was retired.
    Outdated,
    /// There is no room left.
    Full,
    /// There never is room for so much.
    TooLarge,
}

/// How often a region is compiled again for a hot side exit.
const RECOMPILES_MAX: u32 = 6;

impl CodeCache {
    pub(crate) fn new(flavour: Flavour, limit_bytes: usize) -> Result<CodeCache, EngineError> {
        let arena = Arena::new(limit_bytes).map_err(|source| EngineError {
            what: "address space for compiled code (8.2 GiB reserved, little of it used)",
            source,
        })?;
        Ok(CodeCache {
            arena,
            flavour,
            generation: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            index: Mutex::default(),
        })
    }

    /// Offset of the code for `pc`, 0 if there is none.
    #[inline(always)]
    pub(crate) fn lookup(&self, pc: u64) -> u32 {
        if pc >> 32 != 0 {
            return 0;
        }
        self.arena.slot(pc).load(Ordering::Acquire)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Decides what a hot address asks for, and remembers that it is wanted.
    pub(crate) fn want(&self, pc: u64) -> Wanted {
        let mut index = self.index.lock();
        let mut wanted = pc;
        if let Some(parent) = index.side_exits.remove(&pc) {
            let count = index.recompiles.entry(parent).or_insert(0);
            if *count < RECOMPILES_MAX {
                *count += 1;
                wanted = parent;
            }
        }
        if index.refused.contains(&wanted) || !index.pending.insert(wanted) {
            return Wanted::Nothing;
        }
        Wanted::Compile(wanted)
    }

    /// Takes back [`CodeCache::want`]: the queue had no room.
    pub(crate) fn unwant(&self, entry: u64) {
        self.index.lock().pending.remove(&entry);
    }

    /// Never asks for `entry` again (until code changes).
    pub(crate) fn refuse(&self, entry: u64) {
        let mut index = self.index.lock();
        index.pending.remove(&entry);
        index.refused.insert(entry);
    }

    /// Places a compiled region and lets transfers to its entry find it.
    pub(crate) fn publish(
        &self,
        region: &Region,
        compiled: Compiled,
        generation: u64,
    ) -> Published {
        let mut index = self.index.lock();
        // Validation holds the lock too: what it would drop is not published.
        if self.generation() != generation || self.is_retired() {
            return Published::Outdated;
        }
        index.pending.remove(&region.entry);
        if compiled.code.len() > self.arena.region_bytes_max() {
            index.refused.insert(region.entry);
            return Published::TooLarge;
        }
        let bytes = compiled.code.len() as u32;
        let Ok(offset) = self.arena.append(&compiled.code) else {
            return Published::Full;
        };
        let source = region.nodes.iter().map(source_of).collect();
        for node in &region.nodes {
            let mut exit = |target| {
                if let Target::Outside(pc) = target {
                    index.side_exits.insert(pc, region.entry);
                }
            };
            match node.end {
                End::Goto(target) => exit(target),
                End::Branch { taken, fall } => {
                    exit(taken);
                    exit(fall);
                }
                _ => {}
            }
        }
        let place = index.regions.len();
        if let Some(old) = index.by_entry.insert(region.entry, place) {
            index.regions[old].bury();
        }
        let entry = region.entry;
        let locations = compiled.locations;
        index.regions.push(Placed {
            entry,
            offset,
            bytes,
            locations,
            source,
            alive: true,
        });
        self.arena.publish(entry, offset);
        Published::Yes
    }

    /// The guest instruction whose code a host pc belongs to.
    pub(crate) fn guest_pc(&self, host_pc: usize) -> Option<u64> {
        let offset = self.arena.offset_of(host_pc)?;
        let index = self.index.lock();
        let after = index.regions.partition_point(|r| r.offset <= offset);
        let region = index.regions[..after].last()?;
        let within = offset - region.offset;
        if within >= region.bytes {
            return None;
        }
        let after = region.locations.partition_point(|l| l.0 <= within);
        region.locations[..after].last().map(|l| l.1)
    }

    /// Unlinks regions whose guest code is not what it was, or is not
    /// executable any more. Gives how many.
    pub(crate) fn validate(&self, memory: &GuestMemory) -> usize {
        let mut index = self.index.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        index.refused.clear();
        index.pending.clear();
        let mut dropped = 0;
        let Index {
            regions,
            by_entry,
            side_exits,
            ..
        } = &mut *index;
        for region in regions.iter_mut().filter(|r| r.alive) {
            let is_current = region.source.iter().all(|(start, bytes)| {
                let start = GuestAddr(*start);
                let mut now = vec![0; bytes.len()];
                memory.allows(start, bytes.len() as u64, Prot::EXEC)
                    && memory.read_bytes(start, &mut now).is_ok()
                    && now == *bytes
            });
            if !is_current {
                self.arena.publish(region.entry, 0);
                region.bury();
                by_entry.remove(&region.entry);
                let entry = region.entry;
                side_exits.retain(|_, parent| *parent != entry);
                dropped += 1;
            }
        }
        dropped
    }

    /// Forgets all regions: no transfer finds them any more.
    pub(crate) fn unlink_all(&self) {
        self.unlink(&mut self.index.lock());
    }

    /// Forgets all regions and takes no others.
    pub(crate) fn retire(&self) {
        let mut index = self.index.lock();
        self.retired.store(true, Ordering::Relaxed);
        self.unlink(&mut index);
    }

    /// Whether there is another cache to go on with.
    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    fn unlink(&self, index: &mut Index) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for region in &mut index.regions {
            if region.alive {
                self.arena.publish(region.entry, 0);
                region.bury();
            }
        }
        index.by_entry.clear();
        index.pending.clear();
        index.refused.clear();
        index.side_exits.clear();
        index.recompiles.clear();
    }
}

fn source_of(node: &crate::jit::region::Node) -> (u64, Vec<u8>) {
    let mut bytes = Vec::new();
    for located in &node.insts {
        bytes.extend_from_slice(&located.bits.to_le_bytes()[..usize::from(located.len)]);
    }
    (node.pc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::JitConfig;
    use crate::context::Kind;
    use crate::jit::compile::Compiler;
    use vm_core::isa::asm::assemble;

    /// A guest that keeps rewriting its code leaves a dead region each time.
    #[test]
    fn dead_regions_keep_no_copy_of_their_guest_code() {
        let text = GuestAddr(0x1_0000);
        let memory = GuestMemory::new(1 << 20).unwrap();
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        memory.map(text, 0x1000, all).unwrap();
        let cache = CodeCache::new(JitConfig::foreground().flavour(Kind::Free), 1 << 20).unwrap();
        let mut compiler = Compiler::default();
        let limits = JitConfig::foreground().limits();
        let mut publish = |code: &str| {
            let bytes = assemble(code).unwrap();
            memory.write_bytes(text, &bytes).unwrap();
            let region = Region::discover(text.0, &memory, &|_| false, limits).unwrap();
            let compiled = compiler.compile(&region, cache.flavour).unwrap();
            let published = cache.publish(&region, compiled, cache.generation());
            assert_eq!(published, Published::Yes);
        };
        let sources = || -> Vec<bool> {
            let index = cache.index.lock();
            index.regions.iter().map(|r| !r.source.is_empty()).collect()
        };
        publish("ld a0, 0(a1)\nebreak");
        publish("ld a0, 8(a1)\nebreak");
        assert_eq!(sources(), [false, true], "replaced");
        memory.write_bytes(text, &[0; 4]).unwrap();
        assert_eq!(cache.validate(&memory), 1);
        assert_eq!(sources(), [false, false], "rewritten");
        publish("ld a0, 0(a1)\nebreak");
        cache.unlink_all();
        assert_eq!(sources(), [false; 3], "forgotten");
        // A hart may be inside any of them: they still say where they fault.
        for region in &cache.index.lock().regions {
            assert_eq!(region.locations.len(), 1);
        }
    }

    #[test]
    fn only_what_can_fault_has_a_location() {
        let text = GuestAddr(0x1_0000);
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.map(text, 0x1000, Prot::READ | Prot::WRITE).unwrap();
        let code =
            "addi a1, a1, 8\nld a0, 0(a1)\nadd a2, a2, a0\nxor a3, a3, a2\nsd a3, 8(a1)\nebreak";
        memory.write_bytes(text, &assemble(code).unwrap()).unwrap();
        memory.protect(text, 0x1000, Prot::EXEC).unwrap();
        let config = JitConfig::foreground();
        let region = Region::discover(text.0, &memory, &|_| false, config.limits()).unwrap();
        let flavour = config.flavour(Kind::Free);
        let compiled = Compiler::default().compile(&region, flavour).unwrap();
        let pcs: Vec<u64> = compiled.locations.iter().map(|l| l.1).collect();
        assert_eq!(pcs, [text.0 + 4, text.0 + 16]);
    }
}
