//! Guest exceptions as data. A trap is an ordinary result, never an error of
//! ours.

use std::fmt;

/// Why a hart trapped. Numbers: The RISC-V Instruction Set Manual, Volume II,
/// "Machine Cause Register".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Cause {
    /// A reserved, unsupported or currently forbidden encoding.
    IllegalInstruction = 2,
    /// A load-reserved from an address that is not a multiple of its width.
    LoadMisaligned = 4,
    /// A store-conditional or AMO whose address is not a multiple of its width.
    StoreMisaligned = 6,
    /// A fetch from a page that is not mapped executable.
    InstructionPageFault = 12,
    /// A load from a page that is not mapped readable.
    LoadPageFault = 13,
    /// A store or AMO to a page that is not mapped writable.
    StorePageFault = 15,
}

impl Cause {
    /// What it is called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::IllegalInstruction => "illegal instruction",
            Cause::LoadMisaligned => "misaligned load-reserved",
            Cause::StoreMisaligned => "misaligned store-conditional or AMO",
            Cause::InstructionPageFault => "instruction page fault",
            Cause::LoadPageFault => "load page fault",
            Cause::StorePageFault => "store page fault",
        }
    }
}

/// A guest exception: what happened, and the value that goes with it. The
/// hart's pc is the instruction that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trap {
    /// What happened.
    pub cause: Cause,
    /// The faulting address, or the bits of an illegal instruction.
    pub tval: u64,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.cause {
            Cause::IllegalInstruction => "bits",
            _ => "address",
        };
        write!(f, "{} ({what} {:#x})", self.cause.name(), self.tval)
    }
}
