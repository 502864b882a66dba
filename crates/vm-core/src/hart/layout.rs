//! The contract with generated code, drawn and tested.

/// Value of [`HartState::reservation_addr`] when nothing is reserved: no
/// aligned address equals it.
pub const NO_RESERVATION: u64 = u64::MAX;

/// Words at the end of [`HartState`] that belong to the engine running the
/// hart; they mean nothing between runs.
pub const ENGINE_WORD_COUNT: usize = 16;

/// What generated code sees behind its hart pointer.
///
/// ```text
///   0x000  x: [u64; 32]           x[0] reads 0
///   0x100  f: [u64; 32]           raw bits; single precision NaN-boxed
///   0x200  pc: u64                exact between runs only
///   0x208  fflags: u32            accrued: NX 1, UF 2, OF 4, DZ 8, NV 16
///   0x20c  frm: u32               dynamic rounding mode, 0..=7
///   0x210  reservation_addr: u64  of the last LR, or NO_RESERVATION
///   0x218  reservation_value: u64 what that LR read, zero-extended
///   0x220  reservation_bytes: u64 its width: 4 or 8
///   0x228  engine: [u64; 16]      scratch of the engine that runs the hart
///   0x2a8  instret: u64           retired instructions, as far as counted
///   0x2b0  end
/// ```
#[derive(Clone, Debug)]
#[repr(C)]
pub struct HartState {
    /// Integer registers.
    pub x: [u64; 32],
    /// Floating-point registers.
    pub f: [u64; 32],
    /// Address of the next instruction.
    pub pc: u64,
    /// Accrued exception flags.
    pub fflags: u32,
    /// Dynamic rounding mode.
    pub frm: u32,
    /// Address of the reservation.
    pub reservation_addr: u64,
    /// Value that the reserving load read.
    pub reservation_value: u64,
    /// Width of the reserving load in bytes.
    pub reservation_bytes: u64,
    /// Belongs to the engine while it runs the hart.
    pub engine: [u64; ENGINE_WORD_COUNT],
    /// What `instret` reads: instructions that engines retired and counted. It
    /// goes with the hart from engine to engine, and never back.
    pub instret: u64,
}

/// Offset of `x`.
pub const X: i32 = 0x000;
/// Offset of `f`.
pub const F: i32 = 0x100;
/// Offset of `pc`.
pub const PC: i32 = 0x200;
/// Offset of `fflags`.
pub const FFLAGS: i32 = 0x208;
/// Offset of `frm`.
pub const FRM: i32 = 0x20c;
/// Offset of `reservation_addr`.
pub const RESERVATION_ADDR: i32 = 0x210;
/// Offset of `reservation_value`.
pub const RESERVATION_VALUE: i32 = 0x218;
/// Offset of `reservation_bytes`.
pub const RESERVATION_BYTES: i32 = 0x220;
/// Offset of `engine`.
pub const ENGINE: i32 = 0x228;
/// Offset of `instret`.
pub const INSTRET: i32 = 0x2a8;

impl Default for HartState {
    fn default() -> HartState {
        HartState {
            x: [0; 32],
            f: [0; 32],
            pc: 0,
            fflags: 0,
            frm: 0,
            reservation_addr: NO_RESERVATION,
            reservation_value: 0,
            reservation_bytes: 0,
            engine: [0; ENGINE_WORD_COUNT],
            instret: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test] // a new field: one line in the drawing, one here
    fn hart_state_is_as_drawn() {
        let drawn = [
            (offset_of!(HartState, x), X),
            (offset_of!(HartState, f), F),
            (offset_of!(HartState, pc), PC),
            (offset_of!(HartState, fflags), FFLAGS),
            (offset_of!(HartState, frm), FRM),
            (offset_of!(HartState, reservation_addr), RESERVATION_ADDR),
            (offset_of!(HartState, reservation_value), RESERVATION_VALUE),
            (offset_of!(HartState, reservation_bytes), RESERVATION_BYTES),
            (offset_of!(HartState, engine), ENGINE),
            (offset_of!(HartState, instret), INSTRET),
        ];
        for (actual, named) in drawn {
            assert_eq!(actual, usize::try_from(named).unwrap());
        }
        assert_eq!(size_of::<HartState>(), 0x2b0);
    }
}
