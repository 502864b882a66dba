//! Where blocks begin and end, and why.
//!
//! A block begins where control arrives, and ends
//! - behind a branch or jump, because what comes next depends on it;
//! - behind `ecall` and `ebreak`, because the caller of the engine is next;
//! - behind `fence.i`, because the code after it may just have changed;
//! - at a page end, so that one page's permissions decide about a block (the
//!   last instruction may reach into the next page; nothing else does);
//! - before bytes that cannot be fetched or decoded, so that the trap comes
//!   when control arrives there and not earlier;
//! - after [`BLOCK_INSTS_MAX`] instructions, so that engines can bound what
//!   they do between two looks at their budget.

use vm_core::addr::PAGE_BYTES;
use vm_core::isa::{Decoded, Inst, decode};
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap};

/// Most instructions of a block.
pub(crate) const BLOCK_INSTS_MAX: usize = 64;

/// Why a block ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A conditional branch: control goes on behind it or elsewhere.
    Branch,
    /// A jump, `ecall`, `ebreak` or `fence.i`: what lies behind it is
    /// reached, if at all, by a new arrival.
    Leaves,
    /// Page end, length, or something that cannot be executed: control goes
    /// on behind the block.
    Runs,
}

/// Decodes the block at `start` into `insts`, whose old contents go.
///
/// # Errors
/// The trap of the first instruction, where it cannot be fetched or decoded.
pub(crate) fn discover(
    memory: &GuestMemory,
    start: GuestAddr,
    insts: &mut Vec<Decoded>,
) -> Result<End, Trap> {
    insts.clear();
    let mut pc = start;
    loop {
        let decoded = match fetch(memory, pc) {
            Ok(decoded) => decoded,
            Err(trap) if insts.is_empty() => return Err(trap),
            Err(_) => return Ok(End::Runs),
        };
        insts.push(decoded);
        if let Some(end) = end_of(decoded.inst) {
            return Ok(end);
        }
        pc = pc.wrapping_offset(i64::from(decoded.len));
        let same_page = pc.0 / PAGE_BYTES == start.0 / PAGE_BYTES;
        if !same_page || insts.len() == BLOCK_INSTS_MAX {
            return Ok(End::Runs);
        }
    }
}

/// The instruction at `pc`.
///
/// # Errors
/// An instruction page fault, or an illegal instruction with its bits.
pub(crate) fn fetch(memory: &GuestMemory, pc: GuestAddr) -> Result<Decoded, Trap> {
    let bits = memory.fetch(pc)?;
    decode(bits).map_err(|e| Trap {
        cause: Cause::IllegalInstruction,
        tval: u64::from(e.bits),
    })
}

/// How a block ends behind `inst`, `None` if it does not.
pub(crate) fn end_of(inst: Inst) -> Option<End> {
    match inst {
        Inst::Beq(_)
        | Inst::Bne(_)
        | Inst::Blt(_)
        | Inst::Bge(_)
        | Inst::Bltu(_)
        | Inst::Bgeu(_) => Some(End::Branch),
        Inst::Jal(_) | Inst::Jalr(_) | Inst::Ecall(_) | Inst::Ebreak(_) | Inst::FenceI(_) => {
            Some(End::Leaves)
        }
        _ => None,
    }
}
