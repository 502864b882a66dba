//! Instructions as text: one canonical syntax, no pseudo-instructions.
//!
//! `Display` of [`Inst`] and [`assemble_inst`](super::asm::assemble_inst) are
//! inverse to each other: every instruction that can be printed parses back
//! to itself. Registers have their names of the calling convention, branch and
//! jump targets are distances in bytes, a dynamic rounding mode is left out.

use std::fmt::{self, Write};

use super::compressed;
use super::inst::{Inst, Op};
use super::syntax;

impl fmt::Display for Inst {
    /// `addi a0, a0, 1`, `lw a0, 8(sp)`, `beq a0, a1, -16`,
    /// `amoadd.w.aqrl a0, a1, (a2)`, `fadd.d fa0, fa1, fa2, rtz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(*self, f, None)
    }
}

/// The text of `inst` at address `pc`: as `Display` prints it, but with the
/// targets of branches and jumps as absolute addresses.
///
/// ```
/// use vm_core::isa::{asm::assemble_inst, disasm::disassemble_at};
///
/// let inst = assemble_inst("beq a0, a1, -16").unwrap();
/// assert_eq!(inst.to_string(), "beq a0, a1, -16");
/// assert_eq!(disassemble_at(inst, 0x10020), "beq a0, a1, 0x10010");
/// ```
#[must_use]
pub fn disassemble_at(inst: Inst, pc: u64) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = print(inst, &mut text, Some(pc));
    text
}

/// The text of a 16-bit form under its own name, `c.addi a0, 1`, targets as
/// distances; `None` where the half word is no instruction.
#[must_use]
pub fn disassemble_half(half: u16) -> Option<String> {
    let row = compressed::row_of(half)?;
    let word = compressed::expand(half)?.encode();
    let mut text = row.mnemonic.to_owned();
    let mut separator = " ";
    for name in row.operand_names() {
        text.push_str(separator);
        separator = ", ";
        // Writing to a string cannot fail.
        let _ = syntax::operand_called(row.op, name).print(&mut text, word, None);
    }
    Some(text)
}

fn print(inst: Inst, out: &mut dyn Write, pc: Option<u64>) -> fmt::Result {
    let op = inst.op();
    let word = inst.encode();
    out.write_str(op.mnemonic())?;
    if syntax::is_ordered(op) {
        let ordering = (word >> syntax::ORDERING_BIT) & 3;
        out.write_str(syntax::ORDERINGS[ordering as usize])?;
    }
    if matches!(op, Op::Fence | Op::FenceI) {
        return out.write_str(&syntax::fence_text(op, word));
    }
    let mut separator = " ";
    for operand in syntax::operands(op)
        .iter()
        .filter(|operand| !operand.is_implied(word))
    {
        out.write_str(separator)?;
        separator = ", ";
        operand.print(out, word, pc)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn check(word: u32, expected: &str) {
        let inst = decode(word).unwrap().inst;
        assert_eq!(inst.to_string(), expected);
    }

    #[test]
    fn operands_print_as_people_write_them() {
        check(0x0015_0513, "addi a0, a0, 1");
        check(0x0081_2503, "lw a0, 8(sp)");
        check(0xfe11_2e23, "sw ra, -4(sp)");
        check(0x00b5_0863, "beq a0, a1, 16");
        check(0xfeb5_08e3, "beq a0, a1, -16");
        check(0x1234_5537, "lui a0, 0x12345");
        check(0x0000_80e7, "jalr ra, 0(ra)");
        check(0x06b6_252f, "amoadd.w.aqrl a0, a1, (a2)");
        check(0x1406_352f, "lr.d.aq a0, (a2)");
        check(0x02c5_f553, "fadd.d fa0, fa1, fa2");
        check(0x02c5_8553, "fadd.d fa0, fa1, fa2, rne");
        check(0x0030_2573, "csrrs a0, fcsr, zero");
        check(0x3400_d073, "csrrwi zero, 0x340, 1");
        check(0x0330_000f, "fence rw, rw");
        check(0x0ff0_000f, "fence iorw, iorw");
        check(0x0010_000f, "fence 0, w");
        check(0x8330_000f, "fence.tso");
        check(0x0330_050f, "fence a0, zero, 51");
        check(0x0000_100f, "fence.i");
        check(0x0000_0073, "ecall");
        check(0x6980_5013 | 0x0200_0000, "rev8 zero, zero");
    }

    #[test]
    fn compressed_forms_print_under_their_names() {
        assert_eq!(disassemble_half(0x0505).as_deref(), Some("c.addi a0, 1"));
        assert_eq!(disassemble_half(0x852e).as_deref(), Some("c.mv a0, a1"));
        assert_eq!(disassemble_half(0x8082).as_deref(), Some("c.jr ra"));
        assert_eq!(disassemble_half(0x0001).as_deref(), Some("c.nop"));
        assert_eq!(
            disassemble_half(0x0808).as_deref(),
            Some("c.addi4spn a0, sp, 16")
        );
        assert_eq!(disassemble_half(0), None);
    }
}
