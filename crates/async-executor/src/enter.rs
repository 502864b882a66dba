//! The one place that enters generated code, and the code by which generated
//! code comes back. Everything here is about registers at that border; the
//! convention is drawn in [`abi`](crate::jit::abi).
//!
//! - **E1** `enter` gets code of an arena that the caller keeps alive, a hart
//!   whose engine words are set, and the base of the memory that the code was
//!   compiled for.
//! - **E2** Generated code keeps no Rust value alive and owns nothing: leaving
//!   its frames by restoring rsp drops nothing.
//! - **E3** MXCSR is the guest's inside generated code only; every way out
//!   stores it and loads the default, every way in loads it again.

use std::arch::naked_asm;

use vm_core::hart::HartState;

use crate::jit::abi;

/// MXCSR as Rust expects it: nearest, all exceptions masked, no flags.
pub(crate) const MXCSR_DEFAULT: u32 = 0x1f80;

static DEFAULT: u32 = MXCSR_DEFAULT;

/// Code for offset 0 of an arena: `jmp [rdi + COLD]`.
pub(crate) fn cold_entry_code() -> [u8; 6] {
    let [a, b, c, d] = abi::word(abi::COLD).to_le_bytes();
    [0xff, 0xa7, a, b, c, d]
}

/// Runs generated code from `code` until it returns to its caller; gives what
/// it left in rax. After a fault in it, that is 1.
///
/// # Safety
/// E1.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(
    code: *const u8,
    hart: *mut HartState,
    base: *mut u8,
    pc: u64,
) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push [rsi + {unwind}]", // entries nest
        "mov [rsi + {unwind}], rsp",
        "mov r12, rsi",
        "ldmxcsr [rsi + {mxcsr}]",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "call rax",
        // The fault handler goes on at this symbol, with rsp from UNWIND, the
        // hart in r12 and 1 in rax.
        ".globl hartloom_left_generated_code",
        "hartloom_left_generated_code:",
        "stmxcsr [r12 + {mxcsr}]",
        "ldmxcsr [rip + {default}]",
        "pop [r12 + {unwind}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        unwind = const abi::word(abi::UNWIND),
        mxcsr = const abi::word(abi::MXCSR),
        default = sym DEFAULT,
    )
}

unsafe extern "C" {
    /// Where `enter` goes on after generated code; not a function to call.
    #[link_name = "hartloom_left_generated_code"]
    fn left_generated_code();
}

/// Address at which the fault handler resumes.
pub(crate) fn resume_address() -> usize {
    left_generated_code as *const () as usize
}

/// From generated code to a Rust function of (hart, pc), whose answer goes to
/// the frame below. `$arrange` puts the pc into rsi.
macro_rules! way_to_rust {
    ($(#[$doc:meta])* $name:ident: $arrange:literal, $rust:path) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "sysv64" fn $name() {
            naked_asm!(
                "push rbx",
                "mov rbx, rdi",
                "stmxcsr [rdi + {mxcsr}]",
                "ldmxcsr [rip + {default}]",
                $arrange,
                "call {rust}",
                "ldmxcsr [rbx + {mxcsr}]",
                "pop rbx",
                "ret",
                mxcsr = const abi::word(abi::MXCSR),
                default = sym DEFAULT,
                rust = sym $rust,
            )
        }
    };
}

way_to_rust! {
    /// What engine word COLD points to: interprets on from the pc in rdx, where
    /// regions expect it.
    cold: "mov rsi, rdx", crate::executor::interpret_from
}

way_to_rust! {
    /// What engine word STEP points to: interprets the instruction at rsi.
    /// Gives 0, or an odd word when an exit is pending.
    step: "", crate::executor::interpret_one
}

/// MXCSR for a guest's `fflags` and `frm`; rounding to the nearest with ties
/// away has no counterpart, nor have the reserved modes.
pub(crate) fn mxcsr_of(fflags: u32, frm: u32) -> Option<u32> {
    // RISC-V: nearest, zero, down, up. MXCSR: nearest, down, up, zero.
    let rounding = match frm {
        0 => 0,
        1 => 3,
        2 => 1,
        3 => 2,
        _ => return None,
    };
    let flags = (fflags >> 4 & 1) // NV
        | (fflags >> 3 & 1) << 2 // DZ
        | (fflags >> 2 & 1) << 3 // OF
        | (fflags >> 1 & 1) << 4 // UF
        | (fflags & 1) << 5; // NX
    Some(MXCSR_DEFAULT | rounding << 13 | flags)
}

/// `fflags` for an MXCSR.
pub(crate) fn fflags_of(mxcsr: u32) -> u32 {
    (mxcsr & 1) << 4
        | (mxcsr >> 2 & 1) << 3
        | (mxcsr >> 3 & 1) << 2
        | (mxcsr >> 4 & 1) << 1
        | (mxcsr >> 5 & 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_survive_the_way_through_mxcsr() {
        for fflags in 0..32 {
            for frm in 0..4 {
                assert_eq!(fflags_of(mxcsr_of(fflags, frm).unwrap()), fflags);
            }
        }
        assert_eq!(mxcsr_of(0, 4), None);
    }
}
