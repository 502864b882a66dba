//! A: read-modify-writes are the host's, which are full barriers. A
//! store-conditional is a compare-and-swap with what its load-reserved read:
//! it also succeeds after the value changed and changed back, as in other
//! user-mode emulators; compilers' loops do not depend on the difference.
//!
//! Where the hart is alone with its memory ([`JitConfig::single_hart`]) both
//! are a plain load and a plain store: nobody can come between.
//!
//! [`JitConfig::single_hart`]: crate::JitConfig::single_hart

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, Type, Value};
use vm_core::XReg;
use vm_core::hart::{NO_RESERVATION, layout};
use vm_core::isa::format::{Amo, Lr};

use super::Translator;

pub(super) const WORD: Type = I32;

/// `rl`: memory accesses before come first.
const RELEASE: u8 = 1;

impl Translator<'_> {
    /// Host address of a naturally aligned access; a misaligned one leaves
    /// the region before touching memory, and the interpreter traps.
    fn aligned_address(&mut self, r: XReg, ty: Type) -> Value {
        let x = self.x(r);
        let low = self.b.ins().band_imm_u(x, i64::from(ty.bytes()) - 1);
        let (misaligned, go_on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(low, misaligned, &[], go_on, &[]);
        self.switch_to(misaligned);
        self.leave_to_interpreter(self.at.pc);
        self.switch_to(go_on);
        self.host_address(r)
    }

    pub(super) fn amo(&mut self, a: Amo, ty: Type, op: AtomicRmwOp) {
        let address = self.aligned_address(a.rs1, ty);
        let operand = self.narrow_to(a.rs2, ty);
        let flags = self.guest_flags;
        let old = if self.flavour.single_hart {
            let old = self.b.ins().load(ty, flags, address, 0);
            self.accessed();
            let new = self.combine(op, old, operand);
            self.b.ins().store(flags, new, address, 0);
            self.accessed();
            old
        } else {
            self.b.ins().atomic_rmw(ty, flags, op, address, operand)
        };
        self.set_widened(a.rd, old, ty);
    }

    /// What a read-modify-write stores.
    fn combine(&mut self, op: AtomicRmwOp, old: Value, operand: Value) -> Value {
        let ins = self.b.ins();
        match op {
            AtomicRmwOp::Add => ins.iadd(old, operand),
            AtomicRmwOp::Sub => ins.isub(old, operand),
            AtomicRmwOp::And => ins.band(old, operand),
            AtomicRmwOp::Nand => {
                let both = ins.band(old, operand);
                self.b.ins().bnot(both)
            }
            AtomicRmwOp::Or => ins.bor(old, operand),
            AtomicRmwOp::Xor => ins.bxor(old, operand),
            AtomicRmwOp::Xchg => operand,
            AtomicRmwOp::Umin => ins.umin(old, operand),
            AtomicRmwOp::Umax => ins.umax(old, operand),
            AtomicRmwOp::Smin => ins.smin(old, operand),
            AtomicRmwOp::Smax => ins.smax(old, operand),
        }
    }

    pub(super) fn load_reserved(&mut self, a: Lr, ty: Type) {
        let address = self.aligned_address(a.rs1, ty);
        if a.ordering & RELEASE != 0 {
            // The one order that host loads do not keep: a store before them.
            self.full_barrier();
        }
        let flags = self.guest_flags;
        let value = if self.flavour.single_hart {
            let value = self.b.ins().load(ty, flags, address, 0);
            self.accessed();
            value
        } else {
            self.b.ins().atomic_load(ty, flags, address)
        };
        let zero_extended = if ty == I64 {
            value
        } else {
            self.b.ins().uextend(I64, value)
        };
        let guest_address = self.x(a.rs1);
        let bytes = self.iconst(u64::from(ty.bytes()));
        self.store_hart(guest_address, layout::RESERVATION_ADDR);
        self.store_hart(zero_extended, layout::RESERVATION_VALUE);
        self.store_hart(bytes, layout::RESERVATION_BYTES);
        self.set_widened(a.rd, value, ty);
    }

    pub(super) fn store_conditional(&mut self, a: Amo, ty: Type) {
        let address = self.aligned_address(a.rs1, ty);
        let guest_address = self.x(a.rs1);
        let reserved = self.load_hart(I64, layout::RESERVATION_ADDR);
        let bytes = self.load_hart(I64, layout::RESERVATION_BYTES);
        let expected = self.load_hart(I64, layout::RESERVATION_VALUE);
        let none = self.iconst(NO_RESERVATION);
        let same_address = self.b.ins().icmp(IntCC::Equal, guest_address, reserved);
        let same_bytes = self
            .b
            .ins()
            .icmp_imm_u(IntCC::Equal, bytes, i64::from(ty.bytes()));
        let may_store = self.b.ins().band(same_address, same_bytes);
        let (attempt, fail, done) = (
            self.b.create_block(),
            self.cold_block(),
            self.b.create_block(),
        );
        let failed = self.b.append_block_param(done, I64);
        let new = self.narrow_to(a.rs2, ty);
        self.b.ins().brif(may_store, attempt, &[], fail, &[]);

        // Rare, and then the interpreter's: without a reservation nothing is
        // accessed; where memory changed, it fails or traps as a store.
        self.switch_to(fail);
        self.leave_to_interpreter(self.at.pc);

        self.switch_to(attempt);
        let expected = if ty == I64 {
            expected
        } else {
            self.b.ins().ireduce(ty, expected)
        };
        let flags = self.guest_flags;
        let failed_here = if self.flavour.single_hart {
            let found = self.b.ins().load(ty, flags, address, 0);
            self.accessed();
            let same = self.b.ins().icmp(IntCC::Equal, found, expected);
            let store = self.b.create_block();
            self.b.ins().brif(same, store, &[], fail, &[]);
            self.switch_to(store);
            self.b.ins().store(flags, new, address, 0);
            self.accessed();
            self.iconst(0)
        } else {
            let found = self.b.ins().atomic_cas(flags, address, expected, new);
            let differs = self.b.ins().icmp(IntCC::NotEqual, found, expected);
            self.bool_to_x(differs)
        };
        self.store_hart(none, layout::RESERVATION_ADDR);
        self.b.ins().jump(done, &[failed_here.into()]);

        self.switch_to(done);
        self.set_x(a.rd, failed);
    }

    fn narrow_to(&mut self, r: XReg, ty: Type) -> Value {
        if ty == I64 { self.x(r) } else { self.word(r) }
    }

    fn set_widened(&mut self, r: XReg, value: Value, ty: Type) {
        if ty == I64 {
            self.set_x(r, value)
        } else {
            self.set_word(r, value)
        }
    }
}
