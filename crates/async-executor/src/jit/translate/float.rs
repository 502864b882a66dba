//! F and D on the host's SSE unit. While generated code runs, the guest's
//! accrued flags *are* the sticky bits of MXCSR and its rounding mode is
//! MXCSR's, so an addition is an addition. What differs from RISC-V:
//!
//! - NaN results: the host's carry payloads or a sign. An arithmetic result is
//!   *inexact in its NaN bits* until it is looked at (stored, moved, given a
//!   sign, or alive at the end of a node), and made canonical there.
//! - `flt` and `fle` raise NV for quiet NaNs, the host's quiet comparison does
//!   not: the unordered case raises it by hand.
//! - Conversions to integers saturate otherwise, minima and maxima treat NaNs
//!   and zeros otherwise: the odd cases go through the interpreter.
//!
//! Single precision is NaN-boxed in 64 bits. A cached register has a
//! [`Form`]; crossing nodes it has the form of [`border_forms`].

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F64, I32, I64};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value};
use cranelift_frontend::FuncInstBuilder;
use vm_core::hart::layout;
use vm_core::isa::format::{FCmp, FLoad, FR, FR1, FR4, FRn, FStore, FToX, FToXn, XToF, XToFn};
use vm_core::isa::{Extension, Inst};
use vm_core::{FReg, XReg};

use super::super::abi;
use super::super::region::{NodeId, Region, reads_of, writes_of};
use super::Translator;

/// How a cached floating-point register is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All 64 bits, as F64.
    Double,
    /// An F32 that is properly boxed in the register.
    Single,
}

/// What is known of a floating-point register while it is cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct FState {
    form: Form,
    /// Its bits are the architecture's even if it is a NaN.
    exact: bool,
}

impl Default for FState {
    fn default() -> FState {
        FState::at_border(Form::Double)
    }
}

impl FState {
    pub(super) fn at_border(form: Form) -> FState {
        FState { form, exact: true }
    }
}

/// Copy, invert or xor the sign of the second operand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Copy,
    Invert,
    Xor,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Le,
    Lt,
    Eq,
}

/// Integer side of a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Int {
    I32,
    U32,
    I64,
    U64,
}

/// The form in which each register crosses nodes: single where the region
/// uses it in no other way. A double can hold what is no proper box.
pub(super) fn border_forms(region: &Region) -> [Form; 32] {
    let (mut single, mut double) = (0, 0);
    for located in region.nodes.iter().flat_map(|n| &n.insts) {
        let (reads, writes) = (reads_of(located.inst) >> 32, writes_of(located.inst) >> 32);
        match located.inst {
            Inst::FcvtDS(_) => (single, double) = (single | reads, double | writes),
            Inst::FcvtSD(_) => (single, double) = (single | writes, double | reads),
            inst if inst.op().row().extension == Extension::F => single |= reads | writes,
            _ => double |= reads | writes,
        }
    }
    std::array::from_fn(|i| {
        if (single & !double) >> i & 1 != 0 {
            Form::Single
        } else {
            Form::Double
        }
    })
}

type Ins<'short, 'long> = FuncInstBuilder<'short, 'long>;

impl<'a> Translator<'a> {
    fn f_bit(r: FReg) -> u64 {
        u64::from(r.bit()) << 32
    }

    fn is_cached(&self, r: FReg) -> bool {
        self.cached & Self::f_bit(r) != 0
    }

    fn var_value(&mut self, r: FReg) -> Value {
        let i = r.index();
        self.unread.remove(&(32 + i));
        match self.f[i].form {
            Form::Double => self.b.use_var(self.d[i]),
            Form::Single => self.b.use_var(self.s[i]),
        }
    }

    fn define(&mut self, r: FReg, form: Form, exact: bool, value: Value) {
        let i = r.index();
        let variable = match form {
            Form::Double => self.d[i],
            Form::Single => self.s[i],
        };
        self.b.def_var(variable, value);
        self.f[i] = FState { form, exact };
        self.cached |= Self::f_bit(r);
    }

    fn set_f(&mut self, r: FReg, form: Form, exact: bool, value: Value) {
        self.before_overwrite(Self::f_bit(r));
        self.define(r, form, exact, value);
        self.dirty |= Self::f_bit(r);
        // Results of arithmetic have to happen for their flags.
        self.unread.insert(32 + r.index(), value);
    }

    /// Puts a register into a variable of `form`.
    pub(super) fn cache_f(&mut self, r: FReg, form: Form) {
        if self.is_cached(r) && self.f[r.index()].form == form {
            return;
        }
        if form == Form::Single {
            // Unboxing may lose bits: what is dirty goes home first.
            self.flush(Self::f_bit(r));
        }
        let value = match form {
            Form::Double => self.load_double(r),
            Form::Single => self.load_single(r),
        };
        self.define(r, form, true, value);
    }

    /// For node `to`, which takes `set` for dirty although it is not: a single
    /// that is no proper box must not be written back, so such a register
    /// sends control to the interpreter instead, which goes on there.
    pub(super) fn guard_boxes(&mut self, set: u64, to: NodeId) {
        for r in FReg::ALL {
            if set & Self::f_bit(r) != 0 && self.border_forms[r.index()] == Form::Single {
                let high = self.load_hart(I32, layout::F + 8 * r.index() as i32 + 4);
                let odd = self.b.ins().icmp_imm_s(IntCC::NotEqual, high, -1);
                let (leave, go_on) = (self.cold_block(), self.b.create_block());
                self.b.ins().brif(odd, leave, &[], go_on, &[]);
                self.switch_to(leave);
                self.leave_before(to, 0);
                self.switch_to(go_on);
            }
        }
    }

    /// All 64 bits of a register, exact, from wherever they are.
    fn load_double(&mut self, r: FReg) -> Value {
        let offset = layout::F + 8 * r.index() as i32;
        if !self.is_cached(r) {
            return self.load_hart(F64, offset);
        }
        match self.f[r.index()].form {
            Form::Double => self.exact(r),
            // A clean register's home may hold what is no proper box.
            Form::Single if self.dirty & Self::f_bit(r) == 0 => self.load_hart(F64, offset),
            Form::Single => {
                let value = self.exact(r);
                let bits = self.b.ins().bitcast(I32, MemFlagsData::new(), value);
                let low = self.b.ins().uextend(I64, bits);
                let boxed = self
                    .b
                    .ins()
                    .bor_imm_s(low, 0xffff_ffff_0000_0000_u64.cast_signed());
                self.b.ins().bitcast(F64, MemFlagsData::new(), boxed)
            }
        }
    }

    /// A register as single precision: canonical NaN if it is not boxed.
    fn load_single(&mut self, r: FReg) -> Value {
        if self.is_cached(r) && self.f[r.index()].form == Form::Single {
            return self.exact(r);
        }
        let bits = if self.is_cached(r) {
            let double = self.exact(r);
            self.b.ins().bitcast(I64, MemFlagsData::new(), double)
        } else {
            self.load_hart(I64, layout::F + 8 * r.index() as i32)
        };
        let high = self.b.ins().ushr_imm_u(bits, 32);
        let boxed = self.b.ins().icmp_imm_u(IntCC::Equal, high, 0xffff_ffff);
        let low = self.b.ins().ireduce(I32, bits);
        let canonical = self.b.ins().iconst(I32, 0x7fc0_0000);
        let unboxed = self.b.ins().select(boxed, low, canonical);
        self.b.ins().bitcast(F32, MemFlagsData::new(), unboxed)
    }

    /// The value of a cached register in its form, NaN made canonical.
    fn exact(&mut self, r: FReg) -> Value {
        let i = r.index();
        let value = self.var_value(r);
        if self.f[i].exact {
            return value;
        }
        let value = self.canonical(value);
        let form = self.f[i].form;
        self.define(r, form, true, value);
        value
    }

    /// `value`, or the canonical NaN if it is one.
    fn canonical(&mut self, value: Value) -> Value {
        let ty = self.b.func.dfg.value_type(value);
        let unordered = self.b.ins().fcmp(FloatCC::Unordered, value, value);
        let (is_nan, done) = (self.cold_block(), self.b.create_block());
        let result = self.b.append_block_param(done, ty);
        self.b
            .ins()
            .brif(unordered, is_nan, &[], done, &[value.into()]);
        self.b.switch_to_block(is_nan);
        let nan = if ty == F64 {
            self.b.ins().f64const(f64::from_bits(0x7ff8_0000_0000_0000))
        } else {
            self.b.ins().f32const(f32::from_bits(0x7fc0_0000))
        };
        self.b.ins().jump(done, &[nan.into()]);
        // The addresses known before are still: no call lies between.
        self.b.switch_to_block(done);
        result
    }

    /// An operand of arithmetic, whose NaN bits do not matter.
    fn operand(&mut self, r: FReg, form: Form) -> Value {
        self.cache_f(r, form);
        self.var_value(r)
    }

    /// An operand whose bits matter.
    fn exact_operand(&mut self, r: FReg, form: Form) -> Value {
        self.cache_f(r, form);
        self.exact(r)
    }

    /// Makes cached registers of `set` fit to cross nodes.
    pub(super) fn settle(&mut self, set: u64) {
        for r in FReg::ALL {
            if set & Self::f_bit(r) != 0 && self.is_cached(r) {
                self.cache_f(r, self.border_forms[r.index()]);
                self.exact(r);
            }
        }
    }

    /// Loads a register for a node that expects it cached.
    pub(super) fn load_for_border(&mut self, r: FReg) {
        self.cache_f(r, self.border_forms[r.index()]);
    }

    /// Stores a cached register to the hart.
    pub(super) fn store_f(&mut self, r: FReg) {
        let offset = layout::F + 8 * r.index() as i32;
        let value = self.exact(r);
        self.store_hart(value, offset);
        if self.f[r.index()].form == Form::Single {
            let ones = self.b.ins().iconst(I32, -1);
            self.store_hart(ones, offset + 4);
        }
    }

    // Instructions.

    pub(super) fn load_f(&mut self, a: FLoad, form: Form) {
        let address = self.host_address(a.rs1);
        let flags = self.guest_flags;
        let ty = type_of(form);
        let value = self.b.ins().load(ty, flags, address, a.imm);
        self.accessed();
        self.set_f(a.rd, form, true, value);
    }

    pub(super) fn store_to_guest(&mut self, a: FStore, form: Form) {
        let address = self.host_address(a.rs1);
        let flags = self.guest_flags;
        if form == Form::Single {
            let word = self.low_half(a.rs2);
            self.b.ins().store(flags, word, address, a.imm);
        } else {
            let value = self.exact_operand(a.rs2, form);
            self.b.ins().store(flags, value, address, a.imm);
        }
        self.accessed();
    }

    /// The low half as it is, boxed or not.
    fn low_half(&mut self, r: FReg) -> Value {
        if !self.is_cached(r) {
            return self.load_hart(I32, layout::F + 8 * r.index() as i32);
        }
        match self.f[r.index()].form {
            // What a clean register was made from need not be a proper box.
            Form::Single if self.dirty & Self::f_bit(r) == 0 => {
                self.load_hart(I32, layout::F + 8 * r.index() as i32)
            }
            Form::Single => {
                let value = self.exact(r);
                self.b.ins().bitcast(I32, MemFlagsData::new(), value)
            }
            Form::Double => {
                let bits = self.bits(r);
                self.b.ins().ireduce(I32, bits)
            }
        }
    }

    /// All 64 bits as an integer.
    fn bits(&mut self, r: FReg) -> Value {
        let value = self.exact_operand(r, Form::Double);
        self.b.ins().bitcast(I64, MemFlagsData::new(), value)
    }

    pub(super) fn arith(
        &mut self,
        a: FR,
        form: Form,
        op: impl for<'s> FnOnce(Ins<'s, 'a>, Value, Value) -> Value,
    ) {
        let (x, y) = (self.operand(a.rs1, form), self.operand(a.rs2, form));
        let value = op(self.b.ins(), x, y);
        self.set_f(a.rd, form, false, value);
    }

    pub(super) fn sqrt(&mut self, a: FR1, form: Form) {
        let x = self.operand(a.rs1, form);
        let value = self.b.ins().sqrt(x);
        self.set_f(a.rd, form, false, value);
    }

    /// `negate_product` and `negate_addend` of `x * y + z`. RISC-V raises NV
    /// for infinity times zero whatever the addend; the host does not when
    /// that is a quiet NaN, so a NaN addend goes through the interpreter.
    pub(super) fn fused(&mut self, a: FR4, form: Form, negate_product: bool, negate_addend: bool) {
        let x = self.operand(a.rs1, form);
        let y = self.operand(a.rs2, form);
        let z = self.operand(a.rs3, form);
        let unordered = self.b.ins().fcmp(FloatCC::Unordered, z, z);
        let value = self.unless(
            unordered,
            type_of(form),
            |t| {
                let x = if negate_product { t.b.ins().fneg(x) } else { x };
                let z = if negate_addend { t.b.ins().fneg(z) } else { z };
                t.b.ins().fma(x, y, z)
            },
            |t| t.interpret_to_f(&[a.rs1, a.rs2, a.rs3], a.rd, form),
        );
        self.set_f(a.rd, form, false, value);
    }

    /// `usual` where `odd` is false, else `fallback`, in a cold block.
    fn unless(
        &mut self,
        odd: Value,
        ty: Type,
        usual: impl FnOnce(&mut Self) -> Value,
        fallback: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let (cold, hot, done) = (
            self.cold_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(done, ty);
        self.b.ins().brif(odd, cold, &[], hot, &[]);
        self.b.switch_to_block(cold);
        let value = fallback(self);
        self.b.ins().jump(done, &[value.into()]);
        self.b.switch_to_block(hot);
        let value = usual(self);
        self.b.ins().jump(done, &[value.into()]);
        self.b.switch_to_block(done);
        result
    }

    /// Interprets the current instruction with `sources` brought to the hart,
    /// which changes nothing of what is cached; gives the result in `form`.
    fn interpret_to_f(&mut self, sources: &[FReg], rd: FReg, form: Form) -> Value {
        self.interpret_in_passing(sources);
        // Results are boxed properly.
        self.load_hart(type_of(form), layout::F + 8 * rd.index() as i32)
    }

    fn interpret_to_x(&mut self, sources: &[FReg], rd: XReg) -> Value {
        self.interpret_in_passing(sources);
        self.load_hart(I64, layout::X + 8 * rd.index() as i32)
    }

    fn interpret_in_passing(&mut self, sources: &[FReg]) {
        let known = self.known();
        for &r in sources {
            if self.dirty & Self::f_bit(r) != 0 {
                // A value of this block only: the variable stays as it is.
                let value = self.var_value(r);
                let value = if self.f[r.index()].exact {
                    value
                } else {
                    self.canonical(value)
                };
                let offset = layout::F + 8 * r.index() as i32;
                self.store_hart(value, offset);
                if self.f[r.index()].form == Form::Single {
                    let ones = self.b.ins().iconst(I32, -1);
                    self.store_hart(ones, offset + 4);
                }
            }
        }
        // These instructions do not trap. But the interpreter fetches anew, and
        // may find code that another hart has changed or unmapped.
        self.call_step();
        self.restore(known);
    }

    pub(super) fn sign(&mut self, a: FRn, form: Form, sign: Sign) {
        if a.rs1 == a.rs2 {
            // fmv, fneg, fabs. Moving keeps what is known of NaN bits.
            if sign == Sign::Copy {
                let value = self.operand(a.rs1, form);
                let exact = self.f[a.rs1.index()].exact;
                self.set_f(a.rd, form, exact, value);
                return; // the copy is unread again, which is right
            }
            let x = self.exact_operand(a.rs1, form);
            let value = match sign {
                Sign::Invert => self.b.ins().fneg(x),
                Sign::Xor | Sign::Copy => self.b.ins().fabs(x),
            };
            self.set_f(a.rd, form, true, value);
            return;
        }
        let (int, mask) = match form {
            Form::Double => (I64, i64::MIN),
            Form::Single => (I32, i64::from(i32::MIN)),
        };
        let x = self.exact_operand(a.rs1, form);
        let y = self.exact_operand(a.rs2, form);
        let x = self.b.ins().bitcast(int, MemFlagsData::new(), x);
        let y = self.b.ins().bitcast(int, MemFlagsData::new(), y);
        let mask = self.b.ins().iconst(int, mask);
        let bits = match sign {
            Sign::Xor => {
                let flip = self.b.ins().band(y, mask);
                self.b.ins().bxor(x, flip)
            }
            Sign::Copy | Sign::Invert => {
                let y = if sign == Sign::Invert {
                    self.b.ins().bnot(y)
                } else {
                    y
                };
                let magnitude = self.b.ins().band_not(x, mask);
                let sign = self.b.ins().band(y, mask);
                self.b.ins().bor(magnitude, sign)
            }
        };
        let value = self
            .b
            .ins()
            .bitcast(type_of(form), MemFlagsData::new(), bits);
        self.set_f(a.rd, form, true, value);
    }

    /// Different ordered operands are the usual case; equal ones (zeros of
    /// either sign) and NaNs go through the interpreter.
    pub(super) fn min_max(&mut self, a: FRn, form: Form, min: bool) {
        let (x, y) = (self.operand(a.rs1, form), self.operand(a.rs2, form));
        let odd = self.b.ins().fcmp(FloatCC::UnorderedOrEqual, x, y);
        let value = self.unless(
            odd,
            type_of(form),
            |t| {
                let less = t.b.ins().fcmp(FloatCC::LessThan, x, y);
                let (first, second) = if min { (x, y) } else { (y, x) };
                t.b.ins().select(less, first, second)
            },
            |t| t.interpret_to_f(&[a.rs1, a.rs2], a.rd, form),
        );
        self.set_f(a.rd, form, true, value);
    }

    pub(super) fn fcompare(&mut self, a: FCmp, form: Form, compare: Compare) {
        let (x, y) = (self.operand(a.rs1, form), self.operand(a.rs2, form));
        let cc = match compare {
            Compare::Le => FloatCC::LessThanOrEqual,
            Compare::Lt => FloatCC::LessThan,
            Compare::Eq => FloatCC::Equal,
        };
        let condition = self.b.ins().fcmp(cc, x, y);
        if compare == Compare::Eq {
            let value = self.bool_to_x(condition);
            self.set_x_for_flags(a.rd, value);
        } else {
            let unordered = self.b.ins().fcmp(FloatCC::Unordered, x, y);
            let (invalid, go_on) = (self.cold_block(), self.b.create_block());
            self.b.ins().brif(unordered, invalid, &[], go_on, &[]);
            self.b.switch_to_block(invalid);
            // The root of -1 raises NV; storing it keeps it.
            let minus_one = self.b.ins().f64const(-1.0);
            let nan = self.b.ins().sqrt(minus_one);
            self.store_hart(nan, abi::word(abi::SINK));
            self.b.ins().jump(go_on, &[]);
            self.b.switch_to_block(go_on);
            let value = self.bool_to_x(condition);
            self.set_x(a.rd, value);
        }
    }

    /// Truncation. In range the host's conversion has RISC-V's result and
    /// flags; everything else, zero operands of unsigned conversions below
    /// zero included, goes through the interpreter.
    pub(super) fn convert_to_int(&mut self, a: FToX, form: Form, int: Int) {
        let x = self.operand(a.rs1, form);
        // Bounds exclude what would not fit after truncation; they are exact
        // in both formats except where noted.
        let (low, high) = match int {
            // In single precision the next value below -2³¹ is far off.
            Int::I32 => (-2_147_483_648.0, 2_147_483_648.0),
            Int::U32 => (0.0, 4_294_967_296.0),
            Int::I64 => (-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0),
            // The host's signed conversion covers the lower half.
            Int::U64 => (0.0, 9_223_372_036_854_775_808.0),
        };
        let (low, high) = (self.float_const(form, low), self.float_const(form, high));
        let fits_below = self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, low);
        let fits_above = self.b.ins().fcmp(FloatCC::LessThan, x, high);
        let fits = self.b.ins().band(fits_below, fits_above);
        let odd = self.b.ins().bxor_imm_u(fits, 1);
        let value = self.unless(
            odd,
            I64,
            |t| match int {
                Int::I32 => {
                    let word = t.b.ins().fcvt_to_sint_sat(I32, x);
                    t.b.ins().sextend(I64, word)
                }
                Int::U32 => {
                    let wide = t.b.ins().fcvt_to_sint_sat(I64, x);
                    let word = t.b.ins().ireduce(I32, wide);
                    t.b.ins().sextend(I64, word)
                }
                Int::I64 | Int::U64 => t.b.ins().fcvt_to_sint_sat(I64, x),
            },
            |t| t.interpret_to_x(&[a.rs1], a.rd),
        );
        self.set_x_for_flags(a.rd, value);
    }

    fn float_const(&mut self, form: Form, value: f64) -> Value {
        match form {
            Form::Double => self.b.ins().f64const(value),
            #[allow(clippy::cast_possible_truncation, reason = "powers of two are exact")]
            Form::Single => self.b.ins().f32const(value as f32),
        }
    }

    pub(super) fn convert_from_int(&mut self, a: XToF, form: Form, int: Int) {
        let ty = type_of(form);
        let x = self.x(a.rs1);
        let value = match int {
            Int::I32 => {
                let word = self.b.ins().ireduce(I32, x);
                self.b.ins().fcvt_from_sint(ty, word)
            }
            Int::U32 => {
                let wide = self.zext_word(x);
                self.b.ins().fcvt_from_sint(ty, wide)
            }
            Int::I64 => self.b.ins().fcvt_from_sint(ty, x),
            Int::U64 => self.b.ins().fcvt_from_uint(ty, x),
        };
        self.set_f(a.rd, form, true, value);
    }

    pub(super) fn narrow(&mut self, a: FR1) {
        let x = self.operand(a.rs1, Form::Double);
        let value = self.b.ins().fdemote(F32, x);
        self.set_f(a.rd, Form::Single, false, value);
    }

    pub(super) fn widen(&mut self, a: FR1) {
        let x = self.operand(a.rs1, Form::Single);
        let value = self.b.ins().fpromote(F64, x);
        self.set_f(a.rd, Form::Double, false, value);
    }

    pub(super) fn move_to_x(&mut self, a: FToXn, form: Form) {
        if form == Form::Double {
            let value = self.bits(a.rs1);
            self.set_x(a.rd, value);
            return;
        }
        let word = self.low_half(a.rs1);
        self.set_word(a.rd, word);
    }

    pub(super) fn move_from_x(&mut self, a: XToFn, form: Form) {
        let x = self.x(a.rs1);
        let value = match form {
            Form::Double => self.b.ins().bitcast(F64, MemFlagsData::new(), x),
            Form::Single => {
                let word = self.b.ins().ireduce(I32, x);
                self.b.ins().bitcast(F32, MemFlagsData::new(), word)
            }
        };
        self.set_f(a.rd, form, true, value);
    }
}

fn type_of(form: Form) -> Type {
    match form {
        Form::Double => F64,
        Form::Single => F32,
    }
}
