//! Integer instructions of I, Zba, Zbb, Zbs and Zicond.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use cranelift_frontend::FuncInstBuilder;
use vm_core::XReg;
use vm_core::isa::format::{I, R, R1, Sh32, Sh64};

use super::Translator;

pub(super) const HALF: Type = I16;

type Ins<'short, 'long> = FuncInstBuilder<'short, 'long>;

/// What a Zbs instruction does with its bit.
#[derive(Clone, Copy)]
pub(super) enum Bit {
    Clear,
    Extract,
    Invert,
    Set,
}

impl<'a> Translator<'a> {
    pub(super) fn binary(
        &mut self,
        a: R,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, Value) -> Value,
    ) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let value = op(self.b.ins(), x, y);
        self.set_x(a.rd, value);
    }

    pub(super) fn binary_word(
        &mut self,
        a: R,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, Value) -> Value,
    ) {
        let (x, y) = (self.word(a.rs1), self.word(a.rs2));
        let value = op(self.b.ins(), x, y);
        self.set_word(a.rd, value);
    }

    pub(super) fn unary(&mut self, a: R1, op: impl for<'s> FnOnce(Ins<'s, 'a>, Value) -> Value) {
        let x = self.x(a.rs1);
        let value = op(self.b.ins(), x);
        self.set_x(a.rd, value);
    }

    /// On the low word; the result is small and not negative.
    pub(super) fn unary_word(
        &mut self,
        a: R1,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value) -> Value,
    ) {
        let x = self.word(a.rs1);
        let value = op(self.b.ins(), x);
        self.set_word(a.rd, value);
    }

    pub(super) fn with_imm(
        &mut self,
        a: I,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, Value) -> Value,
    ) {
        let x = self.x(a.rs1);
        let imm = self.b.ins().iconst(I64, i64::from(a.imm));
        let value = op(self.b.ins(), x, imm);
        self.set_x(a.rd, value);
    }

    /// `addi` is also the move and the small constant.
    pub(super) fn addi(&mut self, a: I) {
        let imm = i64::from(a.imm);
        let value = match (a.rs1, imm) {
            (XReg::Zero, _) => self.b.ins().iconst(I64, imm),
            (_, 0) => self.x(a.rs1),
            _ => {
                let x = self.x(a.rs1);
                let imm = self.b.ins().iconst(I64, imm);
                self.b.ins().iadd(x, imm)
            }
        };
        self.set_x(a.rd, value);
    }

    pub(super) fn addiw(&mut self, a: I) {
        let x = self.word(a.rs1);
        let value = if a.imm == 0 {
            x
        } else {
            let imm = self.b.ins().iconst(I32, i64::from(a.imm));
            self.b.ins().iadd(x, imm)
        };
        self.set_word(a.rd, value);
    }

    pub(super) fn compare(&mut self, cc: IntCC, a: R) {
        let condition = self.icmp_x(cc, a.rs1, a.rs2);
        let value = self.bool_to_x(condition);
        self.set_x(a.rd, value);
    }

    pub(super) fn compare_imm(&mut self, cc: IntCC, a: I) {
        let x = self.x(a.rs1);
        let imm = self.b.ins().iconst(I64, i64::from(a.imm));
        let condition = self.b.ins().icmp(cc, x, imm);
        let value = self.bool_to_x(condition);
        self.set_x(a.rd, value);
    }

    pub(super) fn shift_imm(
        &mut self,
        a: Sh64,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, i64) -> Value,
    ) {
        let x = self.x(a.rs1);
        let value = op(self.b.ins(), x, i64::from(a.shamt));
        self.set_x(a.rd, value);
    }

    pub(super) fn shift_imm_word(
        &mut self,
        a: Sh32,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, i64) -> Value,
    ) {
        let x = self.word(a.rs1);
        let value = op(self.b.ins(), x, i64::from(a.shamt));
        self.set_word(a.rd, value);
    }

    pub(super) fn shift_add(&mut self, a: R, shift: i64, word: bool) {
        let x = self.x(a.rs1);
        let x = if word { self.zext_word(x) } else { x };
        let x = if shift == 0 {
            x
        } else {
            self.b.ins().ishl_imm_u(x, shift)
        };
        let y = self.x(a.rs2);
        let value = self.b.ins().iadd(x, y);
        self.set_x(a.rd, value);
    }

    pub(super) fn slli_uw(&mut self, a: Sh64) {
        let x = self.x(a.rs1);
        let x = self.zext_word(x);
        let value = self.b.ins().ishl_imm_u(x, i64::from(a.shamt));
        self.set_x(a.rd, value);
    }

    pub(super) fn extend(&mut self, a: R1, from: Type, signed: bool) {
        let x = self.x(a.rs1);
        let low = self.b.ins().ireduce(from, x);
        let value = if signed {
            self.b.ins().sextend(I64, low)
        } else {
            self.b.ins().uextend(I64, low)
        };
        self.set_x(a.rd, value);
    }

    /// Bytes that are not 0 become 0xff: bit 7 of `((x & 0x7f) + 0x7f) | x`
    /// says so for each, without carries between bytes.
    pub(super) fn orc_b(&mut self, a: R1) {
        let x = self.x(a.rs1);
        let low = self.b.ins().iconst(I64, 0x7f7f_7f7f_7f7f_7f7f);
        let high = self
            .b
            .ins()
            .iconst(I64, 0x8080_8080_8080_8080_u64.cast_signed());
        let masked = self.b.ins().band(x, low);
        let sum = self.b.ins().iadd(masked, low);
        let any = self.b.ins().bor(sum, x);
        let bits = self.b.ins().band(any, high);
        let ones = self.b.ins().ushr_imm_u(bits, 7);
        // 0x01 per such byte: times 0xff.
        let shifted = self.b.ins().ishl_imm_u(ones, 8);
        let value = self.b.ins().isub(shifted, ones);
        self.set_x(a.rd, value);
    }

    pub(super) fn single_bit(&mut self, a: R, what: Bit) {
        let (x, n) = (self.x(a.rs1), self.x(a.rs2));
        let value = self.bit_of(x, n, what);
        self.set_x(a.rd, value);
    }

    pub(super) fn single_bit_imm(&mut self, a: Sh64, what: Bit) {
        let x = self.x(a.rs1);
        let n = self.b.ins().iconst(I64, i64::from(a.shamt));
        let value = self.bit_of(x, n, what);
        self.set_x(a.rd, value);
    }

    fn bit_of(&mut self, x: Value, n: Value, what: Bit) -> Value {
        let one = self.b.ins().iconst(I64, 1);
        if let Bit::Extract = what {
            let shifted = self.b.ins().ushr(x, n);
            return self.b.ins().band(shifted, one);
        }
        let bit = self.b.ins().ishl(one, n);
        match what {
            Bit::Clear => self.b.ins().band_not(x, bit),
            Bit::Invert => self.b.ins().bxor(x, bit),
            Bit::Set | Bit::Extract => self.b.ins().bor(x, bit),
        }
    }

    pub(super) fn conditional_zero(&mut self, a: R, zero_if: IntCC) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let zero = self.b.ins().iconst(I64, 0);
        let condition = self.b.ins().icmp(zero_if, y, zero);
        let value = self.b.ins().select(condition, zero, x);
        self.set_x(a.rd, value);
    }

    /// The low word of a register.
    pub(super) fn word(&mut self, r: XReg) -> Value {
        let x = self.x(r);
        self.b.ins().ireduce(I32, x)
    }

    /// Sets a register to a sign-extended word.
    pub(super) fn set_word(&mut self, r: XReg, word: Value) {
        debug_assert_ne!(self.b.func.dfg.value_type(word), I8);
        let value = self.b.ins().sextend(I64, word);
        self.set_x(r, value);
    }

    pub(super) fn zext_word(&mut self, x: Value) -> Value {
        let low = self.b.ins().ireduce(I32, x);
        self.b.ins().uextend(I64, low)
    }
}
