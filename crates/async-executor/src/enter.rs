//! The one place that enters generated code, and the code by which generated
//! code comes back. Everything here is about registers at that border; the
//! convention is drawn in [`abi`](crate::jit::abi).
//!
//! - **E1** `enter` gets code of an arena that the caller keeps alive, a hart
//!   whose engine words are set, and the base of the memory that the code was
//!   compiled for.
//! - **E2** Generated code keeps no Rust value alive and owns nothing: leaving
//!   its frames by restoring rsp drops nothing.
//! - **E3** The rounding mode and the masks in MXCSR are the guest's inside
//!   generated code only; every way out stores MXCSR and sees to it that they
//!   are the default, every way in loads it again. Its flags mean nothing
//!   outside: Rust neither reads them nor depends on them.

use std::arch::naked_asm;

use vm_core::hart::HartState;

use crate::cache::arena::ARENA_BYTES;
use crate::jit::abi;

/// MXCSR as Rust expects it: nearest, all exceptions masked, no flags.
pub(crate) const MXCSR_DEFAULT: u32 = 0x1f80;

/// The flags of exceptions that have happened, in MXCSR.
const MXCSR_FLAGS_MASK: u32 = 0x3f;

static DEFAULT: u32 = MXCSR_DEFAULT;

/// Code for offset 0 of an arena: `jmp [rdi + COLD]`.
pub(crate) fn cold_entry_code() -> [u8; 6] {
    let [a, b, c, d] = abi::word(abi::COLD).to_le_bytes();
    [0xff, 0xa7, a, b, c, d]
}

/// Runs generated code from `code` until it returns to its caller; gives what
/// it left in rax. After a fault in it, that is 1.
///
/// With `goes_on`, a guest return to an address that has code is followed at
/// once while the preempt word is zero, as code does with its own transfers.
/// For harts whose frames below are of no interest: a program spends its life
/// in functions that were entered after some call of the environment, and
/// coming out here for each return is dear.
///
/// # Safety
/// E1.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn enter(
    code: *const u8,
    hart: *mut HartState,
    base: *mut u8,
    pc: u64,
    goes_on: bool,
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
        "mov r13, rdx",
        "movzx r14d, r8b",
        "ldmxcsr [rsi + {mxcsr}]",
        "mov rax, rdi",
        "mov rdx, rcx",
        "3:",
        "mov rdi, r12",
        "mov rsi, r13",
        "call rax",
        // Even, below 4 GiB, not preempted, a slot that is set: on to it.
        "lea rcx, [r14 - 1]", // all ones where it does not go on
        "or rcx, rax",
        "shr rcx, 32",
        "jnz hartloom_left_generated_code",
        "test al, 1",
        "jnz hartloom_left_generated_code",
        "mov rcx, [r12 + {preempt}]",
        "cmp dword ptr [rcx], 0",
        "jne hartloom_left_generated_code",
        "mov rcx, [r12 + {slots}]",
        "mov esi, [rcx + 2 * rax]",
        "test esi, esi",
        "jz hartloom_left_generated_code",
        "mov rdx, rax",
        "lea rax, [rcx + rsi - {arena}]",
        "jmp 3b",
        // The fault handler goes on at this symbol, with rsp from UNWIND, the
        // hart in r12 and 1 in rax.
        ".globl hartloom_left_generated_code",
        "hartloom_left_generated_code:",
        "stmxcsr [r12 + {mxcsr}]",
        // Loading is slow, and most guests round to nearest, as Rust does.
        "mov ecx, [r12 + {mxcsr}]",
        "and ecx, {not_flags}",
        "cmp ecx, {default_value}",
        "je 2f",
        "ldmxcsr [rip + {default}]",
        "2:",
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
        preempt = const abi::word(abi::PREEMPT),
        slots = const abi::word(abi::SLOTS),
        arena = const ARENA_BYTES,
        not_flags = const !MXCSR_FLAGS_MASK,
        default_value = const MXCSR_DEFAULT,
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
#[inline]
pub(crate) fn mxcsr_of(fflags: u32, frm: u32) -> Option<u32> {
    // RISC-V: nearest, zero, down, up. MXCSR: nearest, down, up, zero.
    let rounding = *[0, 3, 1, 2].get(frm as usize)?;
    Some(MXCSR_DEFAULT | rounding << 13 | u32::from(MXCSR_FLAGS[fflags as usize % 32]))
}

/// `fflags` for an MXCSR.
#[inline]
pub(crate) fn fflags_of(mxcsr: u32) -> u32 {
    u32::from(FFLAGS[mxcsr as usize % 64])
}

/// Bits of MXCSR, by bit of `fflags`: NX, UF, OF, DZ, NV.
const MXCSR_BITS: [u8; 5] = [1 << 5, 1 << 4, 1 << 3, 1 << 2, 1];

const MXCSR_FLAGS: [u8; 32] = {
    let mut table = [0; 32];
    let mut fflags = 0;
    while fflags < 32 {
        let mut bit = 0;
        while bit < 5 {
            if fflags >> bit & 1 == 1 {
                table[fflags] |= MXCSR_BITS[bit];
            }
            bit += 1;
        }
        fflags += 1;
    }
    table
};

/// The inverse; MXCSR's flag of denormal operands has no counterpart.
const FFLAGS: [u8; 64] = {
    let mut table = [0; 64];
    let mut mxcsr = 0;
    while mxcsr < 64 {
        let mut bit = 0;
        while bit < 5 {
            if mxcsr & MXCSR_BITS[bit] as usize != 0 {
                table[mxcsr] |= 1 << bit;
            }
            bit += 1;
        }
        mxcsr += 1;
    }
    table
};

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
