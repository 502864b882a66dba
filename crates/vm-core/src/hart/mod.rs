//! A hart: guest CPU state, as data. It does nothing by itself.

pub mod layout;

pub use layout::{HartState, NO_RESERVATION};

use crate::addr::GuestAddr;
use crate::reg::{FReg, XReg};

/// One hardware thread of the guest.
#[derive(Clone, Debug, Default)]
pub struct Hart {
    /// Registers, in the layout that generated code knows.
    pub state: HartState,
}

impl Hart {
    /// A hart about to execute at `pc`, all registers zero.
    #[must_use]
    pub fn new(pc: GuestAddr) -> Hart {
        let mut hart = Hart::default();
        hart.state.pc = pc.0;
        hart
    }

    /// Address of the next instruction.
    #[must_use]
    pub fn pc(&self) -> GuestAddr {
        GuestAddr(self.state.pc)
    }

    /// Continues at `pc`.
    pub fn set_pc(&mut self, pc: GuestAddr) {
        self.state.pc = pc.0;
    }

    /// Value of an integer register.
    #[must_use]
    pub fn x(&self, r: XReg) -> u64 {
        self.state.x[r.index()]
    }

    /// Sets an integer register; `x0` stays 0.
    pub fn set_x(&mut self, r: XReg, value: u64) {
        self.state.x[r.index()] = value;
        self.state.x[0] = 0;
    }

    /// Raw bits of a floating-point register; single precision is NaN-boxed.
    #[must_use]
    pub fn f(&self, r: FReg) -> u64 {
        self.state.f[r.index()]
    }

    /// Sets the raw bits of a floating-point register.
    pub fn set_f(&mut self, r: FReg, bits: u64) {
        self.state.f[r.index()] = bits;
    }
}
