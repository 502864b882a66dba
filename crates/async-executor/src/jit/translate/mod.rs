//! A [`Region`] becomes Cranelift IR: one method per row of the instruction
//! table, the families in files of their own, control flow in `control`.
//!
//! Inside a region a guest register is a Cranelift variable. The translator
//! knows at each point which of them are *cached* (the variable has the
//! value) and *dirty* (the hart's copy is older); [`Flow`] says what has to
//! hold at the borders of nodes. Floating-point registers additionally have a
//! form (see `float`).

mod atomic;
mod control;
mod float;
mod int;
mod mem;
mod muldiv;

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F64, I8, I64};
use cranelift_codegen::ir::{
    AbiParam, AliasRegion, AliasRegionData, AtomicRmwOp, Block, Function, InstBuilder,
    MemFlagsData, SigRef, Signature, SourceLoc, Value,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, Variable};
use vm_core::hart::layout;
use vm_core::isa::format::{
    Amo, B, Csr, Csri, FCmp, FLoad, FR, FR1, FR4, FRn, FStore, FToX, FToXn, Fence, I, J, Jalr,
    Kind, Load, Lr, Nullary, R, R1, Rm, S, Sh32, Sh64, U, XToF, XToFn,
};
use vm_core::isa::{Inst, Visitor};
use vm_core::{FReg, XReg};

use super::abi;
use super::region::{ALL_REGS, End, Flow, Located, NodeId, RegSet, Region, Target, writes_of};
use float::{FState, Form};

/// What differs between kinds of code for the same guest address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flavour {
    /// Count guest instructions against the hart's budget word.
    pub(crate) counting: bool,
    /// Every transfer out of the region returns to its caller.
    pub(crate) single: bool,
    /// All registers are in the hart at each memory access, so that a fault
    /// leaves them exact.
    pub(crate) exact_faults: bool,
    /// No other hart sees this memory: atomics need not be atomic.
    pub(crate) single_hart: bool,
    /// The host has fused multiply-add.
    pub(crate) fma: bool,
}

/// What a translation counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Translated {
    /// Guest instructions, inlined ones each time.
    pub(crate) insts: usize,
    /// Those of them that go through the interpreter.
    pub(crate) stepped: usize,
}

/// Whether `inst` goes through the interpreter, one instruction at a time.
fn is_stepped(inst: Inst, flavour: Flavour) -> bool {
    let dynamic = |rm: Rm| rm != Rm::Dyn;
    match inst {
        Inst::Csrrw(_)
        | Inst::Csrrs(_)
        | Inst::Csrrc(_)
        | Inst::Csrrwi(_)
        | Inst::Csrrsi(_)
        | Inst::Csrrci(_)
        | Inst::Clmul(_)
        | Inst::Clmulh(_)
        | Inst::Clmulr(_)
        | Inst::Xperm4(_)
        | Inst::Xperm8(_)
        | Inst::FclassS(_)
        | Inst::FclassD(_) => true,
        Inst::FaddS(a) | Inst::FsubS(a) | Inst::FmulS(a) | Inst::FdivS(a) => dynamic(a.rm),
        Inst::FaddD(a) | Inst::FsubD(a) | Inst::FmulD(a) | Inst::FdivD(a) => dynamic(a.rm),
        Inst::FsqrtS(a) | Inst::FsqrtD(a) | Inst::FcvtSD(a) => dynamic(a.rm),
        Inst::FmaddS(a) | Inst::FmsubS(a) | Inst::FnmaddS(a) | Inst::FnmsubS(a) => {
            dynamic(a.rm) || !flavour.fma
        }
        Inst::FmaddD(a) | Inst::FmsubD(a) | Inst::FnmaddD(a) | Inst::FnmsubD(a) => {
            dynamic(a.rm) || !flavour.fma
        }
        // Only truncation has a host instruction.
        Inst::FcvtWS(a) | Inst::FcvtWuS(a) | Inst::FcvtLS(a) | Inst::FcvtLuS(a) => a.rm != Rm::Rtz,
        Inst::FcvtWD(a) | Inst::FcvtWuD(a) | Inst::FcvtLD(a) | Inst::FcvtLuD(a) => a.rm != Rm::Rtz,
        // 32-bit integers are exact in double precision, whatever the mode.
        Inst::FcvtSW(a) | Inst::FcvtSWu(a) | Inst::FcvtSL(a) | Inst::FcvtSLu(a) => dynamic(a.rm),
        Inst::FcvtDL(a) | Inst::FcvtDLu(a) => dynamic(a.rm),
        _ => false,
    }
}

/// Whether control may leave the region in the middle of a node here.
pub(crate) fn may_exit(inst: Inst, flavour: Flavour) -> bool {
    use vm_core::isa::Extension;
    is_stepped(inst, flavour)
        || inst.op().row().extension == Extension::A
        || (flavour.exact_faults && accesses_memory(inst))
}

fn accesses_memory(inst: Inst) -> bool {
    use vm_core::isa::Extension;
    let row = inst.op().row();
    row.extension == Extension::A
        || matches!(
            row.format,
            Kind::Load | Kind::S | Kind::FLoad | Kind::FStore
        )
}

/// Whether the order and the flags of host floating-point operations matter:
/// Cranelift's optimiser keeps neither.
pub(crate) fn has_float_arithmetic(region: &Region) -> bool {
    use vm_core::isa::Extension;
    region.nodes.iter().flat_map(|n| &n.insts).any(|l| {
        let row = l.inst.op().row();
        matches!(row.extension, Extension::F | Extension::D)
            && !matches!(row.format, Kind::FLoad | Kind::FStore)
    })
}

/// The signature of regions.
pub(crate) fn region_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([AbiParam::new(I64); 3]);
    signature.returns.push(AbiParam::new(I64));
    signature
}

/// Builds the IR of `region` into `builder`'s function.
pub(crate) fn translate(
    region: &Region,
    flow: &Flow,
    flavour: Flavour,
    builder: FunctionBuilder<'_>,
    frontend: cranelift_codegen::isa::TargetFrontendConfig,
) -> Translated {
    let mut t = Translator::new(region, flow, flavour, builder);
    t.prologue();
    for &id in &flow.order {
        t.node(id);
    }
    t.b.seal_all_blocks();
    let counts = t.counts;
    t.b.finalize(frontend);
    counts
}

struct Translator<'a> {
    b: FunctionBuilder<'a>,
    region: &'a Region,
    flow: &'a Flow,
    flavour: Flavour,
    counts: Translated,

    hart: Value,
    base: Value,
    hart_flags: MemFlagsData,
    guest_flags: MemFlagsData,
    engine_flags: MemFlagsData,
    region_sig: SigRef,
    step_sig: SigRef,

    x: Vec<Variable>,
    d: Vec<Variable>,
    s: Vec<Variable>,
    blocks: Vec<Block>,
    /// The form in which each floating-point register crosses nodes.
    border_forms: [Form; 32],

    // The point that is being translated.
    node: NodeId,
    at: Located,
    /// Instructions of the node before `at`.
    index: usize,
    cached: RegSet,
    dirty: RegSet,
    /// Written since all registers were in the hart.
    written: RegSet,
    f: [FState; 32],
    /// Host addresses already computed in this Cranelift block.
    addresses: HashMap<Value, Value>,
    /// Results that nothing has read, by register (integer, then floating
    /// point). Cranelift drops what nobody uses, and its flags with it.
    unread: HashMap<usize, Value>,
    /// Condition of the branch just translated.
    condition: Option<Value>,
    /// Where the indirect jump just translated goes.
    jump_target: Option<Value>,
}

/// What the translator knows of registers at a point.
struct Known {
    cached: RegSet,
    dirty: RegSet,
    written: RegSet,
    f: [FState; 32],
    unread: HashMap<usize, Value>,
}

impl<'a> Translator<'a> {
    fn new(
        region: &'a Region,
        flow: &'a Flow,
        flavour: Flavour,
        mut b: FunctionBuilder<'a>,
    ) -> Translator<'a> {
        b.func.signature = region_signature();
        let region_sig = b.import_signature(region_signature());
        let mut step = Signature::new(CallConv::SystemV);
        step.params.extend([AbiParam::new(I64); 2]);
        step.returns.push(AbiParam::new(I64));
        let step_sig = b.import_signature(step);
        let hart_region = alias_region(b.func, 0, "hart");
        let guest_region = alias_region(b.func, 1, "guest memory");
        let trusted = MemFlagsData::trusted();
        let hart_flags = trusted.with_alias_region(Some(hart_region));
        let engine_flags = trusted
            .with_readonly()
            .with_can_move()
            .with_alias_region(Some(hart_region));
        let guest_flags = MemFlagsData::new().with_alias_region(Some(guest_region));
        let x = (0..32).map(|_| b.declare_var(I64)).collect();
        let d = (0..32).map(|_| b.declare_var(F64)).collect();
        let s = (0..32).map(|_| b.declare_var(F32)).collect();
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        let blocks = region.nodes.iter().map(|_| b.create_block()).collect();
        Translator {
            region,
            flow,
            flavour,
            counts: Translated::default(),
            hart: params[0],
            base: params[1],
            hart_flags,
            guest_flags,
            engine_flags,
            region_sig,
            step_sig,
            x,
            d,
            s,
            blocks,
            border_forms: float::border_forms(region),
            node: 0,
            at: region.nodes[0].insts[0],
            index: region.nodes[0].insts.len(),
            cached: 0,
            dirty: 0,
            written: 0,
            f: [FState::default(); 32],
            addresses: HashMap::new(),
            unread: HashMap::new(),
            condition: None,
            jump_target: None,
            b,
        }
    }

    fn node(&mut self, id: NodeId) {
        self.node = id;
        self.switch_to(self.blocks[id]);
        self.cached = self.flow.cached[id];
        self.dirty = self.flow.dirty[id];
        self.written = self.flow.written[id];
        for r in FReg::ALL {
            self.f[r.index()] = FState::at_border(self.border_forms[r.index()]);
        }
        self.unread.clear();
        let node = &self.region.nodes[id];
        if self.flavour.counting {
            self.count(node.pc, node.insts.len());
        }
        for (index, &located) in node.insts.iter().enumerate() {
            self.index = index;
            self.inst(located);
        }
        self.index = node.insts.len();
        self.end(node.end);
    }

    fn inst(&mut self, located: Located) {
        self.at = located;
        self.counts.insts += 1;
        // Locations outlive the region: only what can fault gets one.
        self.b.set_srcloc(if accesses_memory(located.inst) {
            SourceLoc::new((located.pc - self.lowest_pc()) as u32)
        } else {
            SourceLoc::default()
        });
        if is_stepped(located.inst, self.flavour) {
            self.step();
        } else {
            if self.flavour.exact_faults && may_exit(located.inst, self.flavour) {
                self.flush(ALL_REGS);
            }
            located.inst.visit(self);
        }
        self.written |= writes_of(located.inst);
    }

    /// What is known of registers here, for [`Translator::restore`] after code
    /// that only one of several ways runs.
    fn known(&self) -> Known {
        Known {
            cached: self.cached,
            dirty: self.dirty,
            written: self.written,
            f: self.f,
            unread: self.unread.clone(),
        }
    }

    fn restore(&mut self, known: Known) {
        Known {
            cached: self.cached,
            dirty: self.dirty,
            written: self.written,
            f: self.f,
            unread: self.unread,
        } = known;
    }

    fn lowest_pc(&self) -> u64 {
        lowest_pc(self.region)
    }

    fn switch_to(&mut self, block: Block) {
        self.b.switch_to_block(block);
        self.addresses.clear();
    }

    // Registers.

    fn x(&mut self, r: XReg) -> Value {
        if r == XReg::Zero {
            return self.b.ins().iconst(I64, 0);
        }
        if self.cached & u64::from(r.bit()) == 0 {
            let value = self.load_hart(I64, layout::X + 8 * r.index() as i32);
            self.b.def_var(self.x[r.index()], value);
            self.cached |= u64::from(r.bit());
        }
        self.unread.remove(&r.index());
        self.b.use_var(self.x[r.index()])
    }

    fn set_x(&mut self, r: XReg, value: Value) {
        if r == XReg::Zero {
            return;
        }
        self.before_overwrite(u64::from(r.bit()));
        self.b.def_var(self.x[r.index()], value);
        self.cached |= u64::from(r.bit());
        self.dirty |= u64::from(r.bit());
    }

    /// Sets a register to a result whose computation raises flags.
    fn set_x_for_flags(&mut self, r: XReg, value: Value) {
        self.set_x(r, value);
        self.unread.insert(r.index(), value);
        if r == XReg::Zero {
            self.before_overwrite(1);
        }
    }

    /// Stores results that nothing has read and nothing will, for their flags.
    fn before_overwrite(&mut self, set: RegSet) {
        for i in 0..64 {
            if set >> i & 1 != 0
                && let Some(value) = self.unread.remove(&i)
            {
                self.store_hart(value, abi::word(abi::SINK));
            }
        }
    }

    fn load_hart(&mut self, ty: cranelift_codegen::ir::Type, offset: i32) -> Value {
        self.b.ins().load(ty, self.hart_flags, self.hart, offset)
    }

    fn store_hart(&mut self, value: Value, offset: i32) {
        self.b
            .ins()
            .store(self.hart_flags, value, self.hart, offset);
    }

    /// An engine word that does not change while generated code runs.
    fn engine(&mut self, index: usize) -> Value {
        self.b
            .ins()
            .load(I64, self.engine_flags, self.hart, abi::word(index))
    }

    /// Stores the dirty registers of `set`; they stay cached.
    fn flush(&mut self, set: RegSet) {
        let stored = self.dirty & set;
        self.store(stored);
        self.dirty &= !stored;
    }

    /// Stores registers without changing what is known of them: for ways out.
    fn store(&mut self, set: RegSet) {
        for r in XReg::ALL {
            if set & u64::from(r.bit()) != 0 {
                self.unread.remove(&r.index());
                let value = self.b.use_var(self.x[r.index()]);
                self.store_hart(value, layout::X + 8 * r.index() as i32);
            }
        }
        for r in FReg::ALL {
            if set & u64::from(r.bit()) << 32 != 0 {
                self.store_f(r);
            }
        }
    }

    /// Runs the current instruction in the interpreter.
    fn step(&mut self) {
        self.counts.stepped += 1;
        self.flush(ALL_REGS);
        self.call_step();
        let written = writes_of(self.at.inst);
        self.cached &= !written;
        self.dirty &= !written;
    }

    /// The call itself; leaves the region when an exit is pending.
    fn call_step(&mut self) {
        let code = self.engine(abi::STEP);
        let pc = self.iconst(self.at.pc);
        let call = self
            .b
            .ins()
            .call_indirect(self.step_sig, code, &[self.hart, pc]);
        let status = self.b.inst_results(call)[0];
        let (leave, go_on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(status, leave, &[], go_on, &[]);
        self.switch_to(leave);
        self.refund(self.index + 1);
        self.store_all();
        self.b.ins().return_(&[status]);
        self.switch_to(go_on);
    }

    // Small helpers.

    fn iconst(&mut self, value: u64) -> Value {
        self.b.ins().iconst(I64, value.cast_signed())
    }

    fn cold_block(&mut self) -> Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    /// 0 or 1 from a comparison's result.
    fn bool_to_x(&mut self, condition: Value) -> Value {
        debug_assert_eq!(self.b.func.dfg.value_type(condition), I8);
        self.b.ins().uextend(I64, condition)
    }

    fn icmp_x(&mut self, cc: IntCC, a: XReg, b: XReg) -> Value {
        let (a, b) = (self.x(a), self.x(b));
        self.b.ins().icmp(cc, a, b)
    }
}

/// Source locations of instructions count from here.
pub(crate) fn lowest_pc(region: &Region) -> u64 {
    region
        .nodes
        .iter()
        .map(|n| n.pc)
        .min()
        .unwrap_or(region.entry)
}

fn alias_region(func: &mut Function, user_id: u32, description: &'static str) -> AliasRegion {
    func.dfg.alias_regions.insert(AliasRegionData {
        user_id,
        description: description.into(),
    })
}

/// Methods whose family function takes the operands as they are.
macro_rules! families {
    ($($method:ident($Format:ty) => |$t:ident, $a:ident| $body:expr;)*) => {
        impl Visitor for Translator<'_> {
            type Output = ();
            $(
                fn $method(&mut self, $a: $Format) {
                    let $t = self;
                    $body;
                }
            )*
        }
    };
}

families! {
    // RV64I
    lui(U) => |t, a| { let v = t.b.ins().iconst(I64, i64::from(a.imm)); t.set_x(a.rd, v) };
    auipc(U) => |t, a| { let v = t.iconst(t.at.pc.wrapping_add_signed(a.imm.into())); t.set_x(a.rd, v) };
    jal(J) => |t, a| { let v = t.iconst(t.at.next_pc()); t.set_x(a.rd, v) };
    jalr(Jalr) => |t, a| t.indirect(a);
    beq(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::Equal, a.rs1, a.rs2));
    bne(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::NotEqual, a.rs1, a.rs2));
    blt(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::SignedLessThan, a.rs1, a.rs2));
    bge(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::SignedGreaterThanOrEqual, a.rs1, a.rs2));
    bltu(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::UnsignedLessThan, a.rs1, a.rs2));
    bgeu(B) => |t, a| t.condition = Some(t.icmp_x(IntCC::UnsignedGreaterThanOrEqual, a.rs1, a.rs2));
    lb(Load) => |t, a| t.load_x(a, mem::Width::Byte, true);
    lh(Load) => |t, a| t.load_x(a, mem::Width::Half, true);
    lw(Load) => |t, a| t.load_x(a, mem::Width::Word, true);
    ld(Load) => |t, a| t.load_x(a, mem::Width::Double, false);
    lbu(Load) => |t, a| t.load_x(a, mem::Width::Byte, false);
    lhu(Load) => |t, a| t.load_x(a, mem::Width::Half, false);
    lwu(Load) => |t, a| t.load_x(a, mem::Width::Word, false);
    sb(S) => |t, a| t.store_x(a, mem::Width::Byte);
    sh(S) => |t, a| t.store_x(a, mem::Width::Half);
    sw(S) => |t, a| t.store_x(a, mem::Width::Word);
    sd(S) => |t, a| t.store_x(a, mem::Width::Double);
    addi(I) => |t, a| t.addi(a);
    slti(I) => |t, a| t.compare_imm(IntCC::SignedLessThan, a);
    sltiu(I) => |t, a| t.compare_imm(IntCC::UnsignedLessThan, a);
    xori(I) => |t, a| t.with_imm(a, |i, x, y| i.bxor(x, y));
    ori(I) => |t, a| t.with_imm(a, |i, x, y| i.bor(x, y));
    andi(I) => |t, a| t.with_imm(a, |i, x, y| i.band(x, y));
    slli(Sh64) => |t, a| t.shift_imm(a, |i, x, n| i.ishl_imm_u(x, n));
    srli(Sh64) => |t, a| t.shift_imm(a, |i, x, n| i.ushr_imm_u(x, n));
    srai(Sh64) => |t, a| t.shift_imm(a, |i, x, n| i.sshr_imm_u(x, n));
    add(R) => |t, a| t.binary(a, |i, x, y| i.iadd(x, y));
    sub(R) => |t, a| t.binary(a, |i, x, y| i.isub(x, y));
    sll(R) => |t, a| t.binary(a, |i, x, y| i.ishl(x, y));
    slt(R) => |t, a| t.compare(IntCC::SignedLessThan, a);
    sltu(R) => |t, a| t.compare(IntCC::UnsignedLessThan, a);
    xor(R) => |t, a| t.binary(a, |i, x, y| i.bxor(x, y));
    srl(R) => |t, a| t.binary(a, |i, x, y| i.ushr(x, y));
    sra(R) => |t, a| t.binary(a, |i, x, y| i.sshr(x, y));
    or(R) => |t, a| t.binary(a, |i, x, y| i.bor(x, y));
    and(R) => |t, a| t.binary(a, |i, x, y| i.band(x, y));
    addiw(I) => |t, a| t.addiw(a);
    slliw(Sh32) => |t, a| t.shift_imm_word(a, |i, x, n| i.ishl_imm_u(x, n));
    srliw(Sh32) => |t, a| t.shift_imm_word(a, |i, x, n| i.ushr_imm_u(x, n));
    sraiw(Sh32) => |t, a| t.shift_imm_word(a, |i, x, n| i.sshr_imm_u(x, n));
    addw(R) => |t, a| t.binary_word(a, |i, x, y| i.iadd(x, y));
    subw(R) => |t, a| t.binary_word(a, |i, x, y| i.isub(x, y));
    sllw(R) => |t, a| t.binary_word(a, |i, x, y| i.ishl(x, y));
    srlw(R) => |t, a| t.binary_word(a, |i, x, y| i.ushr(x, y));
    sraw(R) => |t, a| t.binary_word(a, |i, x, y| i.sshr(x, y));
    fence(Fence) => |t, a| t.fence(a);
    ecall(Nullary) => |t, _a| t.never_inside();
    ebreak(Nullary) => |t, _a| t.never_inside();
    fence_i(Fence) => |t, _a| t.never_inside();
    csrrw(Csr) => |t, _a| t.never_inside();
    csrrs(Csr) => |t, _a| t.never_inside();
    csrrc(Csr) => |t, _a| t.never_inside();
    csrrwi(Csri) => |t, _a| t.never_inside();
    csrrsi(Csri) => |t, _a| t.never_inside();
    csrrci(Csri) => |t, _a| t.never_inside();

    // M
    mul(R) => |t, a| t.binary(a, |i, x, y| i.imul(x, y));
    mulh(R) => |t, a| t.binary(a, |i, x, y| i.smulhi(x, y));
    mulhsu(R) => |t, a| t.mulhsu(a);
    mulhu(R) => |t, a| t.binary(a, |i, x, y| i.umulhi(x, y));
    div(R) => |t, a| t.divide(a, muldiv::Kind::Div, true, I64);
    divu(R) => |t, a| t.divide(a, muldiv::Kind::Div, false, I64);
    rem(R) => |t, a| t.divide(a, muldiv::Kind::Rem, true, I64);
    remu(R) => |t, a| t.divide(a, muldiv::Kind::Rem, false, I64);
    mulw(R) => |t, a| t.binary_word(a, |i, x, y| i.imul(x, y));
    divw(R) => |t, a| t.divide(a, muldiv::Kind::Div, true, muldiv::WORD);
    divuw(R) => |t, a| t.divide(a, muldiv::Kind::Div, false, muldiv::WORD);
    remw(R) => |t, a| t.divide(a, muldiv::Kind::Rem, true, muldiv::WORD);
    remuw(R) => |t, a| t.divide(a, muldiv::Kind::Rem, false, muldiv::WORD);

    // A
    lr_w(Lr) => |t, a| t.load_reserved(a, atomic::WORD);
    sc_w(Amo) => |t, a| t.store_conditional(a, atomic::WORD);
    amoswap_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Xchg);
    amoadd_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Add);
    amoxor_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Xor);
    amoand_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::And);
    amoor_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Or);
    amomin_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Smin);
    amomax_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Smax);
    amominu_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Umin);
    amomaxu_w(Amo) => |t, a| t.amo(a, atomic::WORD, AtomicRmwOp::Umax);
    lr_d(Lr) => |t, a| t.load_reserved(a, I64);
    sc_d(Amo) => |t, a| t.store_conditional(a, I64);
    amoswap_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Xchg);
    amoadd_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Add);
    amoxor_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Xor);
    amoand_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::And);
    amoor_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Or);
    amomin_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Smin);
    amomax_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Smax);
    amominu_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Umin);
    amomaxu_d(Amo) => |t, a| t.amo(a, I64, AtomicRmwOp::Umax);

    // F
    flw(FLoad) => |t, a| t.load_f(a, Form::Single);
    fsw(FStore) => |t, a| t.store_to_guest(a, Form::Single);
    fmadd_s(FR4) => |t, a| t.fused(a, Form::Single, false, false);
    fmsub_s(FR4) => |t, a| t.fused(a, Form::Single, false, true);
    fnmsub_s(FR4) => |t, a| t.fused(a, Form::Single, true, false);
    fnmadd_s(FR4) => |t, a| t.fused(a, Form::Single, true, true);
    fadd_s(FR) => |t, a| t.arith(a, Form::Single, |i, x, y| i.fadd(x, y));
    fsub_s(FR) => |t, a| t.arith(a, Form::Single, |i, x, y| i.fsub(x, y));
    fmul_s(FR) => |t, a| t.arith(a, Form::Single, |i, x, y| i.fmul(x, y));
    fdiv_s(FR) => |t, a| t.arith(a, Form::Single, |i, x, y| i.fdiv(x, y));
    fsqrt_s(FR1) => |t, a| t.sqrt(a, Form::Single);
    fsgnj_s(FRn) => |t, a| t.sign(a, Form::Single, float::Sign::Copy);
    fsgnjn_s(FRn) => |t, a| t.sign(a, Form::Single, float::Sign::Invert);
    fsgnjx_s(FRn) => |t, a| t.sign(a, Form::Single, float::Sign::Xor);
    fmin_s(FRn) => |t, a| t.min_max(a, Form::Single, true);
    fmax_s(FRn) => |t, a| t.min_max(a, Form::Single, false);
    fle_s(FCmp) => |t, a| t.fcompare(a, Form::Single, float::Compare::Le);
    flt_s(FCmp) => |t, a| t.fcompare(a, Form::Single, float::Compare::Lt);
    feq_s(FCmp) => |t, a| t.fcompare(a, Form::Single, float::Compare::Eq);
    fcvt_w_s(FToX) => |t, a| t.convert_to_int(a, Form::Single, float::Int::I32);
    fcvt_s_w(XToF) => |t, a| t.convert_from_int(a, Form::Single, float::Int::I32);
    fcvt_wu_s(FToX) => |t, a| t.convert_to_int(a, Form::Single, float::Int::U32);
    fcvt_s_wu(XToF) => |t, a| t.convert_from_int(a, Form::Single, float::Int::U32);
    fcvt_l_s(FToX) => |t, a| t.convert_to_int(a, Form::Single, float::Int::I64);
    fcvt_s_l(XToF) => |t, a| t.convert_from_int(a, Form::Single, float::Int::I64);
    fcvt_lu_s(FToX) => |t, a| t.convert_to_int(a, Form::Single, float::Int::U64);
    fcvt_s_lu(XToF) => |t, a| t.convert_from_int(a, Form::Single, float::Int::U64);
    fmv_x_w(FToXn) => |t, a| t.move_to_x(a, Form::Single);
    fclass_s(FToXn) => |t, _a| t.never_inside();
    fmv_w_x(XToFn) => |t, a| t.move_from_x(a, Form::Single);

    // D
    fld(FLoad) => |t, a| t.load_f(a, Form::Double);
    fsd(FStore) => |t, a| t.store_to_guest(a, Form::Double);
    fmadd_d(FR4) => |t, a| t.fused(a, Form::Double, false, false);
    fmsub_d(FR4) => |t, a| t.fused(a, Form::Double, false, true);
    fnmsub_d(FR4) => |t, a| t.fused(a, Form::Double, true, false);
    fnmadd_d(FR4) => |t, a| t.fused(a, Form::Double, true, true);
    fadd_d(FR) => |t, a| t.arith(a, Form::Double, |i, x, y| i.fadd(x, y));
    fsub_d(FR) => |t, a| t.arith(a, Form::Double, |i, x, y| i.fsub(x, y));
    fmul_d(FR) => |t, a| t.arith(a, Form::Double, |i, x, y| i.fmul(x, y));
    fdiv_d(FR) => |t, a| t.arith(a, Form::Double, |i, x, y| i.fdiv(x, y));
    fsqrt_d(FR1) => |t, a| t.sqrt(a, Form::Double);
    fsgnj_d(FRn) => |t, a| t.sign(a, Form::Double, float::Sign::Copy);
    fsgnjn_d(FRn) => |t, a| t.sign(a, Form::Double, float::Sign::Invert);
    fsgnjx_d(FRn) => |t, a| t.sign(a, Form::Double, float::Sign::Xor);
    fmin_d(FRn) => |t, a| t.min_max(a, Form::Double, true);
    fmax_d(FRn) => |t, a| t.min_max(a, Form::Double, false);
    fle_d(FCmp) => |t, a| t.fcompare(a, Form::Double, float::Compare::Le);
    flt_d(FCmp) => |t, a| t.fcompare(a, Form::Double, float::Compare::Lt);
    feq_d(FCmp) => |t, a| t.fcompare(a, Form::Double, float::Compare::Eq);
    fcvt_w_d(FToX) => |t, a| t.convert_to_int(a, Form::Double, float::Int::I32);
    fcvt_d_w(XToF) => |t, a| t.convert_from_int(a, Form::Double, float::Int::I32);
    fcvt_wu_d(FToX) => |t, a| t.convert_to_int(a, Form::Double, float::Int::U32);
    fcvt_d_wu(XToF) => |t, a| t.convert_from_int(a, Form::Double, float::Int::U32);
    fcvt_l_d(FToX) => |t, a| t.convert_to_int(a, Form::Double, float::Int::I64);
    fcvt_d_l(XToF) => |t, a| t.convert_from_int(a, Form::Double, float::Int::I64);
    fcvt_lu_d(FToX) => |t, a| t.convert_to_int(a, Form::Double, float::Int::U64);
    fcvt_d_lu(XToF) => |t, a| t.convert_from_int(a, Form::Double, float::Int::U64);
    fcvt_s_d(FR1) => |t, a| t.narrow(a);
    fcvt_d_s(FR1) => |t, a| t.widen(a);
    fmv_x_d(FToXn) => |t, a| t.move_to_x(a, Form::Double);
    fclass_d(FToXn) => |t, _a| t.never_inside();
    fmv_d_x(XToFn) => |t, a| t.move_from_x(a, Form::Double);

    // Zba
    add_uw(R) => |t, a| t.shift_add(a, 0, true);
    sh1add(R) => |t, a| t.shift_add(a, 1, false);
    sh2add(R) => |t, a| t.shift_add(a, 2, false);
    sh3add(R) => |t, a| t.shift_add(a, 3, false);
    sh1add_uw(R) => |t, a| t.shift_add(a, 1, true);
    sh2add_uw(R) => |t, a| t.shift_add(a, 2, true);
    sh3add_uw(R) => |t, a| t.shift_add(a, 3, true);
    slli_uw(Sh64) => |t, a| t.slli_uw(a);

    // Zbb
    andn(R) => |t, a| t.binary(a, |i, x, y| i.band_not(x, y));
    orn(R) => |t, a| t.binary(a, |i, x, y| i.bor_not(x, y));
    xnor(R) => |t, a| t.binary(a, |i, x, y| i.bxor_not(x, y));
    clz(R1) => |t, a| t.unary(a, |i, x| i.clz(x));
    ctz(R1) => |t, a| t.unary(a, |i, x| i.ctz(x));
    cpop(R1) => |t, a| t.unary(a, |i, x| i.popcnt(x));
    clzw(R1) => |t, a| t.unary_word(a, |i, x| i.clz(x));
    ctzw(R1) => |t, a| t.unary_word(a, |i, x| i.ctz(x));
    cpopw(R1) => |t, a| t.unary_word(a, |i, x| i.popcnt(x));
    max(R) => |t, a| t.binary(a, |i, x, y| i.smax(x, y));
    maxu(R) => |t, a| t.binary(a, |i, x, y| i.umax(x, y));
    min(R) => |t, a| t.binary(a, |i, x, y| i.smin(x, y));
    minu(R) => |t, a| t.binary(a, |i, x, y| i.umin(x, y));
    sext_b(R1) => |t, a| t.extend(a, I8, true);
    sext_h(R1) => |t, a| t.extend(a, int::HALF, true);
    zext_h(R1) => |t, a| t.extend(a, int::HALF, false);
    rol(R) => |t, a| t.binary(a, |i, x, y| i.rotl(x, y));
    ror(R) => |t, a| t.binary(a, |i, x, y| i.rotr(x, y));
    rori(Sh64) => |t, a| t.shift_imm(a, |i, x, n| i.rotr_imm_u(x, n));
    rolw(R) => |t, a| t.binary_word(a, |i, x, y| i.rotl(x, y));
    rorw(R) => |t, a| t.binary_word(a, |i, x, y| i.rotr(x, y));
    roriw(Sh32) => |t, a| t.shift_imm_word(a, |i, x, n| i.rotr_imm_u(x, n));
    orc_b(R1) => |t, a| t.orc_b(a);
    rev8(R1) => |t, a| t.unary(a, |i, x| i.bswap(x));

    // Zbc
    clmul(R) => |t, _a| t.never_inside();
    clmulh(R) => |t, _a| t.never_inside();
    clmulr(R) => |t, _a| t.never_inside();

    // Zbs
    bclr(R) => |t, a| t.single_bit(a, int::Bit::Clear);
    bclri(Sh64) => |t, a| t.single_bit_imm(a, int::Bit::Clear);
    bext(R) => |t, a| t.single_bit(a, int::Bit::Extract);
    bexti(Sh64) => |t, a| t.single_bit_imm(a, int::Bit::Extract);
    binv(R) => |t, a| t.single_bit(a, int::Bit::Invert);
    binvi(Sh64) => |t, a| t.single_bit_imm(a, int::Bit::Invert);
    bset(R) => |t, a| t.single_bit(a, int::Bit::Set);
    bseti(Sh64) => |t, a| t.single_bit_imm(a, int::Bit::Set);

    // Zbkx
    xperm4(R) => |t, _a| t.never_inside();
    xperm8(R) => |t, _a| t.never_inside();

    // Zicond
    czero_eqz(R) => |t, a| t.conditional_zero(a, IntCC::Equal);
    czero_nez(R) => |t, a| t.conditional_zero(a, IntCC::NotEqual);
}

impl Translator<'_> {
    /// Instructions that `is_stepped` or region discovery keep away.
    fn never_inside(&mut self) {
        unreachable!("{} is not translated", self.at.inst.op().mnemonic());
    }
}
