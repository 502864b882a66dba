//! Control and status registers that user mode can reach.

use crate::hart::HartState;

/// Accrued exception flags.
pub const FFLAGS: u16 = 0x001;
/// Dynamic rounding mode.
pub const FRM: u16 = 0x002;
/// Both of the above in one register.
pub const FCSR: u16 = 0x003;
/// Cycle counter, read-only.
pub const CYCLE: u16 = 0xc00;
/// Wall-clock counter, read-only.
pub const TIME: u16 = 0xc01;
/// Retired-instruction counter, read-only.
pub const INSTRET: u16 = 0xc02;

/// Values of the read-only counters, which whoever runs the hart knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// `cycle`.
    pub cycle: u64,
    /// `time`.
    pub time: u64,
    /// `instret`.
    pub instret: u64,
}

/// Names for assembler and disassembler.
pub const NAMES: &[(&str, u16)] = &[
    ("fflags", FFLAGS),
    ("frm", FRM),
    ("fcsr", FCSR),
    ("cycle", CYCLE),
    ("time", TIME),
    ("instret", INSTRET),
];

/// The value of `csr`, or `None` where user mode has no such register: the
/// access is an illegal instruction.
pub fn read(state: &HartState, csr: u16, counters: impl FnOnce() -> Counters) -> Option<u64> {
    Some(match csr {
        FFLAGS => u64::from(state.fflags),
        FRM => u64::from(state.frm),
        FCSR => u64::from(state.fflags | state.frm << 5),
        CYCLE => counters().cycle,
        TIME => counters().time,
        INSTRET => counters().instret,
        _ => return None,
    })
}

/// Writes `csr`; `None` where there is no such register or it is read-only.
/// Fields are WARL: bits beyond them are dropped.
pub fn write(state: &mut HartState, csr: u16, value: u64) -> Option<()> {
    let value = (value & 0xff) as u32;
    match csr {
        FFLAGS => state.fflags = value & 31,
        FRM => state.frm = value & 7,
        FCSR => {
            state.fflags = value & 31;
            state.frm = value >> 5;
        }
        _ => return None,
    }
    Some(())
}
