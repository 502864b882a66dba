//! Fences, and control and status registers.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::time::Instant;

use super::operands::Operands;
use vm_core::XReg;
use vm_core::csr::{self, Counters};
use vm_core::hart::HartState;

/// How a `csrr*` changes its register.
#[derive(Clone, Copy)]
pub(super) enum CsrOp {
    /// `csrrw`: the operand replaces it.
    Write,
    /// `csrrs`: bits of the operand are set.
    Set,
    /// `csrrc`: bits of the operand are cleared.
    Clear,
}

/// `fence`.
#[inline(always)]
pub(super) fn order(a: &Operands) {
    if orders_stores_before_loads(a.imm) {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// Whether a `fence` with this immediate keeps a store before a later load:
/// x86-64 keeps every other order that RVWMO can ask for by itself.
#[inline(always)]
pub(crate) fn orders_stores_before_loads(imm: i32) -> bool {
    const WRITES: i32 = 0b0101; // memory and device output
    const READS: i32 = 0b1010; // memory and device input
    // Mode 8 over rw, rw: all orders but this one. With other sets the mode is
    // reserved, and base implementations treat reserved modes as 0
    // (unprivileged specification, "Memory Ordering Instructions").
    const TSO: i32 = 0x833;
    let (before, after) = (imm >> 4 & 15, imm & 15);
    before & WRITES != 0 && after & READS != 0 && imm & 0xfff != TSO
}

/// `csrr*`: `operand` is the register's value or the immediate; `None` where
/// it is `x0` or 0 of a form that then does not write. An access that user
/// mode may not make answers `None`: an illegal instruction.
#[inline(never)]
pub(super) fn access(
    state: &mut HartState,
    op: CsrOp,
    rd: XReg,
    csr: u16,
    operand: Option<u64>,
    retired: u64,
) -> Option<()> {
    // A write that throws the old value away does not read, which matters to
    // registers with side effects; ours have none but the rule is kept.
    let old = if matches!(op, CsrOp::Write) && rd == XReg::Zero {
        0
    } else {
        csr::read(state, csr, || counters(retired))?
    };
    if let Some(operand) = operand {
        let new = match op {
            CsrOp::Write => operand,
            CsrOp::Set => old | operand,
            CsrOp::Clear => old & !operand,
        };
        csr::write(state, csr, new)?;
    }
    state.x[rd.index()] = old;
    state.x[0] = 0;
    Some(())
}

/// `cycle` and `time` count nanoseconds since the first hart asked, the same
/// for all harts.
fn counters(retired: u64) -> Counters {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let ns = ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64;
    Counters {
        cycle: ns,
        time: ns,
        instret: retired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_of_a_reserved_mode_is_an_ordinary_fence() {
        for (imm, expected) in [
            (0x033, true),  // rw, rw
            (0x0ff, true),  // iorw, iorw
            (0x012, true),  // w, r
            (0x021, false), // r, w
            (0x011, false), // w, w
            (0x832, true),  // mode of fence.tso over rw, r
            (0x833, false), // fence.tso
            (0x8ff, true),
            (0x812, true),
            (0x821, false),
            (0x133, true), // another reserved mode
        ] {
            // As decoded: sign-extended from 12 bits.
            let imm = imm << 20 >> 20;
            assert_eq!(orders_stores_before_loads(imm), expected, "{imm:#x}");
        }
    }
}
