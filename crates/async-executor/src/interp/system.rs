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

/// `fence`. x86-64 keeps every order that RVWMO can ask for except that of a
/// store before a later load (design/execution.md §5.6).
#[inline(always)]
pub(super) fn order(a: &Operands) {
    const WRITES: i32 = 0b0101; // memory and device output
    const READS: i32 = 0b1010; // memory and device input
    const TSO: i32 = 8; // fence.tso leaves stores before loads unordered
    let (mode, before, after) = (a.imm >> 8 & 15, a.imm >> 4 & 15, a.imm & 15);
    if before & WRITES != 0 && after & READS != 0 && mode != TSO {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
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
