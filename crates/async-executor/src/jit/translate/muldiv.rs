//! M: the host traps where RISC-V gives a value, so divisors are made
//! harmless first and the defined results put in afterwards.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{InstBuilder, Type};
use vm_core::isa::format::R;

use super::Translator;

pub(super) const WORD: Type = I32;

/// Quotient or remainder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Div,
    Rem,
}

impl Translator<'_> {
    /// High half of signed times unsigned: unsigned high half, less `y` when
    /// `x` is negative.
    pub(super) fn mulhsu(&mut self, a: R) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let high = self.b.ins().umulhi(x, y);
        let sign = self.b.ins().sshr_imm_u(x, 63);
        let excess = self.b.ins().band(sign, y);
        let value = self.b.ins().isub(high, excess);
        self.set_x(a.rd, value);
    }

    pub(super) fn divide(&mut self, a: R, kind: Kind, signed: bool, ty: Type) {
        let (x, y) = if ty == I64 {
            (self.x(a.rs1), self.x(a.rs2))
        } else {
            (self.word(a.rs1), self.word(a.rs2))
        };
        let zero = self.b.ins().iconst(ty, 0);
        let one = self.b.ins().iconst(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, y, zero);
        let mut unsafe_divisor = by_zero;
        if signed {
            // The least number by -1: as by 1, quotient and remainder alike.
            let least = if ty == I64 {
                i64::MIN
            } else {
                i64::from(i32::MIN)
            };
            let least = self.b.ins().iconst(ty, least);
            let minus_one = self.b.ins().iconst(ty, -1);
            let is_least = self.b.ins().icmp(IntCC::Equal, x, least);
            let by_minus_one = self.b.ins().icmp(IntCC::Equal, y, minus_one);
            let overflows = self.b.ins().band(is_least, by_minus_one);
            unsafe_divisor = self.b.ins().bor(by_zero, overflows);
        }
        let divisor = self.b.ins().select(unsafe_divisor, one, y);
        let result = match (kind, signed) {
            (Kind::Div, true) => self.b.ins().sdiv(x, divisor),
            (Kind::Div, false) => self.b.ins().udiv(x, divisor),
            (Kind::Rem, true) => self.b.ins().srem(x, divisor),
            (Kind::Rem, false) => self.b.ins().urem(x, divisor),
        };
        let when_zero = match kind {
            Kind::Div => self.b.ins().iconst(ty, -1),
            Kind::Rem => x,
        };
        let value = self.b.ins().select(by_zero, when_zero, result);
        if ty == I64 {
            self.set_x(a.rd, value);
        } else {
            self.set_word(a.rd, value);
        }
    }
}
