//! Loads and stores: `base + zext32(register) + immediate`, no check. The
//! immediate lands in the space or in its guards; see `vm_core::mem`.

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, Value};
use vm_core::XReg;
use vm_core::isa::format::{Fence, Load, S};

use super::{Translator, abi};
use crate::interp::orders_stores_before_loads;

/// Bytes of an access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Byte,
    Half,
    Word,
    Double,
}

impl Translator<'_> {
    /// Host address of guest address `x`, the immediate left out.
    pub(super) fn host_address(&mut self, r: XReg) -> Value {
        let x = self.x(r);
        if let Some(&address) = self.addresses.get(&x) {
            return address;
        }
        let low = self.zext_word(x);
        let address = self.b.ins().iadd(self.base, low);
        self.addresses.insert(x, address);
        address
    }

    pub(super) fn load_x(&mut self, a: Load, width: Width, signed: bool) {
        let address = self.host_address(a.rs1);
        let (flags, imm) = (self.guest_flags, a.imm);
        let ins = self.b.ins();
        let value = match (width, signed) {
            (Width::Byte, true) => ins.sload8(I64, flags, address, imm),
            (Width::Byte, false) => ins.uload8(I64, flags, address, imm),
            (Width::Half, true) => ins.sload16(I64, flags, address, imm),
            (Width::Half, false) => ins.uload16(I64, flags, address, imm),
            (Width::Word, true) => ins.sload32(flags, address, imm),
            (Width::Word, false) => ins.uload32(flags, address, imm),
            (Width::Double, _) => ins.load(I64, flags, address, imm),
        };
        self.accessed();
        self.set_x(a.rd, value);
    }

    pub(super) fn store_x(&mut self, a: S, width: Width) {
        let address = self.host_address(a.rs1);
        let value = self.x(a.rs2);
        let (flags, imm) = (self.guest_flags, a.imm);
        let ins = self.b.ins();
        match width {
            Width::Byte => ins.istore8(flags, value, address, imm),
            Width::Half => ins.istore16(flags, value, address, imm),
            Width::Word => ins.istore32(flags, value, address, imm),
            Width::Double => ins.store(flags, value, address, imm),
        };
        self.accessed();
    }

    /// Behind a plain access: Cranelift may not change what happens to memory,
    /// since each access can fault. Without this it
    /// - folds a load that is used once into its user, whose pc a fault then
    ///   has (and a load and a store of one address into one operation, whose
    ///   faults are a store's);
    /// - drops a store that another overwrites, and one of what was just
    ///   loaded from there, though the page may forbid stores.
    ///
    /// It costs no host instruction.
    pub(super) fn accessed(&mut self) {
        self.b.ins().sequence_point();
    }

    /// The host orders all but a store before a later load. Cranelift may
    /// still move accesses over what is free on the host: a sequence point
    /// holds them.
    pub(super) fn fence(&mut self, a: Fence) {
        if orders_stores_before_loads(a.imm) {
            self.full_barrier();
        } else {
            self.b.ins().sequence_point();
        }
    }

    /// Orders everything before with everything after, for the harts that
    /// could see the difference.
    pub(super) fn full_barrier(&mut self) {
        if self.flavour.single_hart {
            self.b.ins().sequence_point();
            return;
        }
        // A locked operation on a line of our own is several times cheaper
        // than mfence on most hosts, and orders as much.
        let word = self
            .b
            .ins()
            .iadd_imm_s(self.hart, i64::from(abi::word(abi::SINK)));
        let zero = self.b.ins().iconst(I64, 0);
        self.b
            .ins()
            .atomic_rmw(I64, self.hart_flags, AtomicRmwOp::Xchg, word, zero);
    }
}
