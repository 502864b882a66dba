//! What each instruction does: one line per row of the instruction table.
//!
//! [`Machine`] visits one instruction. It changes registers and memory, and
//! answers in [`Flow`] where control goes; moving pc, counting and linking
//! are the business of whoever drives it (`core`).

use vm_core::hart::HartState;
use vm_core::isa::float::{self, F32, F64, fast};
use vm_core::isa::format::{
    Amo, B, Csr, Csri, FCmp, FLoad, FR, FR1, FR4, FRn, FStore, FToX, FToXn, Fence, I, J, Jalr,
    Load, Lr, Nullary, R, R1, S, Sh32, Sh64, U, XToF, XToFn,
};
use vm_core::isa::Visitor;
use vm_core::mem::{GuestMemory, Scalar};
use vm_core::{Trap, XReg};

use super::system::CsrOp;
use super::{atomic, float as fp, int, mem, muldiv, system};
use crate::exit::Exit;

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    Next,
    /// To `Machine::target`, by a conditional branch.
    Branch,
    /// To `Machine::target`, by `jal`.
    Jump,
    /// To `Machine::target`, by `jalr`.
    Indirect,
    /// To the next instruction, which may have changed: `fence.i`.
    Refetch,
    /// Out, as `Machine::exit` says; nothing has changed.
    Leave,
    /// Out, because the encoding is illegal now; nothing has changed.
    Illegal,
}

/// One instruction's view of the hart.
pub(super) struct Machine<'a, Retired> {
    pub(super) state: &'a mut HartState,
    pub(super) memory: &'a GuestMemory,
    /// Address of the instruction.
    pub(super) pc: u64,
    /// Address of the next one.
    pub(super) next: u64,
    /// Instructions retired before this one; asked by the counters only.
    pub(super) retired: Retired,
    /// Where `Flow::Branch`, `Jump` and `Indirect` go.
    pub(super) target: u64,
    /// Why `Flow::Leave` leaves.
    pub(super) exit: Exit,
}

impl<Retired: Fn() -> u64> Machine<'_, Retired> {
    #[inline(always)]
    fn x(&self, r: XReg) -> u64 {
        self.state.x[r.index()]
    }

    /// Sets a register. Drivers keep `x0` at 0: they replace instructions
    /// whose only effect is its change, and repair it after others.
    #[inline(always)]
    fn set(&mut self, rd: XReg, value: u64) -> Flow {
        self.state.x[rd.index()] = value;
        Flow::Next
    }

    #[inline(always)]
    fn r(&mut self, a: R, op: impl FnOnce(u64, u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1), self.x(a.rs2)))
    }

    #[inline(always)]
    fn rw(&mut self, a: R, op: impl FnOnce(u32, u32) -> u32) -> Flow {
        self.r(a, |x, y| int::word(x, y, op))
    }

    #[inline(always)]
    fn r1(&mut self, a: R1, op: impl FnOnce(u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1)))
    }

    #[inline(always)]
    fn i(&mut self, a: I, op: impl FnOnce(u64, u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1), immediate(a.imm)))
    }

    #[inline(always)]
    fn sh64(&mut self, a: Sh64, op: impl FnOnce(u64, u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1), u64::from(a.shamt)))
    }

    #[inline(always)]
    fn sh32(&mut self, a: Sh32, op: impl FnOnce(u32, u32) -> u32) -> Flow {
        self.set(a.rd, int::word(self.x(a.rs1), u64::from(a.shamt), op))
    }

    #[inline(always)]
    fn branch(&mut self, a: B, condition: impl FnOnce(u64, u64) -> bool) -> Flow {
        if condition(self.x(a.rs1), self.x(a.rs2)) {
            self.target = self.pc.wrapping_add(immediate(a.imm));
            Flow::Branch
        } else {
            Flow::Next
        }
    }

    #[inline(always)]
    fn link(&mut self, rd: XReg, target: u64) {
        self.target = target;
        self.state.x[rd.index()] = self.next;
        self.state.x[0] = 0; // jumps without a link are too many to be told apart
    }

    #[inline(always)]
    fn load<T: Scalar>(&mut self, a: Load, extend: impl FnOnce(T) -> u64) -> Flow {
        match mem::load(self.memory, mem::address(self.x(a.rs1), a.imm), extend) {
            Ok(value) => self.set(a.rd, value),
            Err(trap) => self.trap(trap),
        }
    }

    #[inline(always)]
    fn store<T: Scalar>(&mut self, a: S) -> Flow {
        let addr = mem::address(self.x(a.rs1), a.imm);
        let stored = mem::store::<T>(self.memory, addr, self.x(a.rs2));
        self.done(stored)
    }

    #[inline(always)]
    fn fload<T: Scalar>(&mut self, a: FLoad, fill: impl FnOnce(T) -> u64) -> Flow {
        match mem::load(self.memory, mem::address(self.x(a.rs1), a.imm), fill) {
            Ok(bits) => self.fset(a.rd, bits),
            Err(trap) => self.trap(trap),
        }
    }

    #[inline(always)]
    fn fstore<T: Scalar>(&mut self, a: FStore) -> Flow {
        let addr = mem::address(self.x(a.rs1), a.imm);
        let stored = mem::store::<T>(self.memory, addr, self.state.f[a.rs2.index()]);
        self.done(stored)
    }

    #[inline(always)]
    fn fset(&mut self, rd: vm_core::FReg, bits: u64) -> Flow {
        self.state.f[rd.index()] = bits;
        Flow::Next
    }

    #[inline(always)]
    fn amo<T: atomic::Width>(&mut self, a: Amo, update: impl Fn(T, T) -> T) -> Flow {
        let done = atomic::amo(self.state, self.memory, a, update);
        self.done(done)
    }

    #[inline(always)]
    fn csr(&mut self, op: CsrOp, a: Csr) -> Flow {
        let writes = matches!(op, CsrOp::Write) || a.rs1 != XReg::Zero;
        let operand = writes.then_some(self.x(a.rs1));
        legal(system::access(self.state, op, a.rd, a.csr, operand, (self.retired)()))
    }

    #[inline(always)]
    fn csri(&mut self, op: CsrOp, a: Csri) -> Flow {
        let writes = matches!(op, CsrOp::Write) || a.uimm != 0;
        let operand = writes.then_some(u64::from(a.uimm));
        legal(system::access(self.state, op, a.rd, a.csr, operand, (self.retired)()))
    }

    #[inline(always)]
    fn done(&mut self, result: Result<(), Trap>) -> Flow {
        match result {
            Ok(()) => Flow::Next,
            Err(trap) => self.trap(trap),
        }
    }

    #[inline(always)]
    fn trap(&mut self, trap: Trap) -> Flow {
        self.leave(Exit::Trap(trap))
    }

    #[inline(always)]
    fn leave(&mut self, exit: Exit) -> Flow {
        self.exit = exit;
        Flow::Leave
    }
}

#[inline(always)]
const fn legal(result: Option<()>) -> Flow {
    match result {
        Some(()) => Flow::Next,
        None => Flow::Illegal,
    }
}

#[inline(always)]
const fn immediate(imm: i32) -> u64 {
    (imm as i64).cast_unsigned()
}

/// `method(Format) => meaning;` with `m` the machine and `a` the operands.
macro_rules! meanings {
    ($m:ident $a:ident: $($method:ident($Format:ident) => $meaning:expr;)*) => {$(
        #[inline(always)]
        fn $method(&mut $m, $a: $Format) -> Flow {
            $meaning
        }
    )*};
}

#[rustfmt::skip] // a table
impl<Retired: Fn() -> u64> Visitor for Machine<'_, Retired> {
    type Output = Flow;

    meanings! { self a:
        // RV64I
        lui(U) => self.set(a.rd, immediate(a.imm));
        auipc(U) => self.set(a.rd, self.pc.wrapping_add(immediate(a.imm)));
        jal(J) => { self.link(a.rd, self.pc.wrapping_add(immediate(a.imm))); Flow::Jump };
        jalr(Jalr) => { self.link(a.rd, self.x(a.rs1).wrapping_add(immediate(a.imm)) & !1); Flow::Indirect };
        beq(B) => self.branch(a, |x, y| x == y);
        bne(B) => self.branch(a, |x, y| x != y);
        blt(B) => self.branch(a, |x, y| x.cast_signed() < y.cast_signed());
        bge(B) => self.branch(a, |x, y| x.cast_signed() >= y.cast_signed());
        bltu(B) => self.branch(a, |x, y| x < y);
        bgeu(B) => self.branch(a, |x, y| x >= y);
        lb(Load) => self.load(a, mem::sext8);
        lh(Load) => self.load(a, mem::sext16);
        lw(Load) => self.load(a, mem::sext32);
        ld(Load) => self.load::<u64>(a, u64::from);
        lbu(Load) => self.load::<u8>(a, u64::from);
        lhu(Load) => self.load::<u16>(a, u64::from);
        lwu(Load) => self.load::<u32>(a, u64::from);
        sb(S) => self.store::<u8>(a);
        sh(S) => self.store::<u16>(a);
        sw(S) => self.store::<u32>(a);
        sd(S) => self.store::<u64>(a);
        addi(I) => self.i(a, u64::wrapping_add);
        slti(I) => self.i(a, int::slt);
        sltiu(I) => self.i(a, int::sltu);
        xori(I) => self.i(a, |x, y| x ^ y);
        ori(I) => self.i(a, |x, y| x | y);
        andi(I) => self.i(a, |x, y| x & y);
        slli(Sh64) => self.sh64(a, int::sll);
        srli(Sh64) => self.sh64(a, int::srl);
        srai(Sh64) => self.sh64(a, int::sra);
        add(R) => self.r(a, u64::wrapping_add);
        sub(R) => self.r(a, u64::wrapping_sub);
        sll(R) => self.r(a, int::sll);
        slt(R) => self.r(a, int::slt);
        sltu(R) => self.r(a, int::sltu);
        xor(R) => self.r(a, |x, y| x ^ y);
        srl(R) => self.r(a, int::srl);
        sra(R) => self.r(a, int::sra);
        or(R) => self.r(a, |x, y| x | y);
        and(R) => self.r(a, |x, y| x & y);
        addiw(I) => self.i(a, |x, y| int::word(x, y, u32::wrapping_add));
        slliw(Sh32) => self.sh32(a, u32::wrapping_shl);
        srliw(Sh32) => self.sh32(a, u32::wrapping_shr);
        sraiw(Sh32) => self.sh32(a, int::sraw);
        addw(R) => self.rw(a, u32::wrapping_add);
        subw(R) => self.rw(a, u32::wrapping_sub);
        sllw(R) => self.rw(a, u32::wrapping_shl);
        srlw(R) => self.rw(a, u32::wrapping_shr);
        sraw(R) => self.rw(a, int::sraw);
        fence(Fence) => { system::order(a); Flow::Next };
        ecall(Nullary) => { let Nullary {} = a; self.leave(Exit::Ecall) };
        ebreak(Nullary) => { let Nullary {} = a; self.leave(Exit::Breakpoint) };
        // Zifencei
        fence_i(Fence) => { let _ = a; Flow::Refetch };
        // Zicsr
        csrrw(Csr) => self.csr(CsrOp::Write, a);
        csrrs(Csr) => self.csr(CsrOp::Set, a);
        csrrc(Csr) => self.csr(CsrOp::Clear, a);
        csrrwi(Csri) => self.csri(CsrOp::Write, a);
        csrrsi(Csri) => self.csri(CsrOp::Set, a);
        csrrci(Csri) => self.csri(CsrOp::Clear, a);
        // M
        mul(R) => self.r(a, u64::wrapping_mul);
        mulh(R) => self.r(a, muldiv::mulh);
        mulhsu(R) => self.r(a, muldiv::mulhsu);
        mulhu(R) => self.r(a, muldiv::mulhu);
        div(R) => self.r(a, muldiv::div);
        divu(R) => self.r(a, muldiv::divu);
        rem(R) => self.r(a, muldiv::rem);
        remu(R) => self.r(a, muldiv::remu);
        mulw(R) => self.rw(a, u32::wrapping_mul);
        divw(R) => self.rw(a, muldiv::divw);
        divuw(R) => self.rw(a, muldiv::divuw);
        remw(R) => self.rw(a, muldiv::remw);
        remuw(R) => self.rw(a, muldiv::remuw);
        // A
        lr_w(Lr) => { let done = atomic::lr::<u32>(self.state, self.memory, a); self.done(done) };
        sc_w(Amo) => { let done = atomic::sc::<u32>(self.state, self.memory, a); self.done(done) };
        amoswap_w(Amo) => self.amo(a, |_, y: u32| y);
        amoadd_w(Amo) => self.amo(a, u32::wrapping_add);
        amoxor_w(Amo) => self.amo(a, |x: u32, y| x ^ y);
        amoand_w(Amo) => self.amo(a, |x: u32, y| x & y);
        amoor_w(Amo) => self.amo(a, |x: u32, y| x | y);
        amomin_w(Amo) => self.amo(a, <u32 as atomic::Width>::signed_min);
        amomax_w(Amo) => self.amo(a, <u32 as atomic::Width>::signed_max);
        amominu_w(Amo) => self.amo(a, <u32 as Ord>::min);
        amomaxu_w(Amo) => self.amo(a, <u32 as Ord>::max);
        lr_d(Lr) => { let done = atomic::lr::<u64>(self.state, self.memory, a); self.done(done) };
        sc_d(Amo) => { let done = atomic::sc::<u64>(self.state, self.memory, a); self.done(done) };
        amoswap_d(Amo) => self.amo(a, |_, y: u64| y);
        amoadd_d(Amo) => self.amo(a, u64::wrapping_add);
        amoxor_d(Amo) => self.amo(a, |x: u64, y| x ^ y);
        amoand_d(Amo) => self.amo(a, |x: u64, y| x & y);
        amoor_d(Amo) => self.amo(a, |x: u64, y| x | y);
        amomin_d(Amo) => self.amo(a, <u64 as atomic::Width>::signed_min);
        amomax_d(Amo) => self.amo(a, <u64 as atomic::Width>::signed_max);
        amominu_d(Amo) => self.amo(a, <u64 as Ord>::min);
        amomaxu_d(Amo) => self.amo(a, <u64 as Ord>::max);
        // F
        flw(FLoad) => self.fload(a, float::box_f32);
        fsw(FStore) => self.fstore::<u32>(a);
        fmadd_s(FR4) => legal(fp::fused::<F32, false, false>(self.state, a));
        fmsub_s(FR4) => legal(fp::fused::<F32, false, true>(self.state, a));
        fnmsub_s(FR4) => legal(fp::fused::<F32, true, false>(self.state, a));
        fnmadd_s(FR4) => legal(fp::fused::<F32, true, true>(self.state, a));
        fadd_s(FR) => legal(fp::binary::<F32>(self.state, a, fast::add::<F32>));
        fsub_s(FR) => legal(fp::binary::<F32>(self.state, a, fast::sub::<F32>));
        fmul_s(FR) => legal(fp::binary::<F32>(self.state, a, fast::mul::<F32>));
        fdiv_s(FR) => legal(fp::binary::<F32>(self.state, a, fast::div::<F32>));
        fsqrt_s(FR1) => legal(fp::sqrt::<F32>(self.state, a));
        fsgnj_s(FRn) => { fp::sign::<F32>(self.state, a, float::sgnj::<F32>); Flow::Next };
        fsgnjn_s(FRn) => { fp::sign::<F32>(self.state, a, float::sgnjn::<F32>); Flow::Next };
        fsgnjx_s(FRn) => { fp::sign::<F32>(self.state, a, float::sgnjx::<F32>); Flow::Next };
        fmin_s(FRn) => { fp::select::<F32>(self.state, a, float::min::<F32>); Flow::Next };
        fmax_s(FRn) => { fp::select::<F32>(self.state, a, float::max::<F32>); Flow::Next };
        fle_s(FCmp) => { fp::compare::<F32>(self.state, a, float::le::<F32>); Flow::Next };
        flt_s(FCmp) => { fp::compare::<F32>(self.state, a, float::lt::<F32>); Flow::Next };
        feq_s(FCmp) => { fp::compare::<F32>(self.state, a, float::eq::<F32>); Flow::Next };
        fcvt_w_s(FToX) => legal(fp::to_int::<F32, i32>(self.state, a));
        fcvt_s_w(XToF) => legal(fp::from_int::<F32, i32>(self.state, a));
        fcvt_wu_s(FToX) => legal(fp::to_int::<F32, u32>(self.state, a));
        fcvt_s_wu(XToF) => legal(fp::from_int::<F32, u32>(self.state, a));
        fcvt_l_s(FToX) => legal(fp::to_int::<F32, i64>(self.state, a));
        fcvt_s_l(XToF) => legal(fp::from_int::<F32, i64>(self.state, a));
        fcvt_lu_s(FToX) => legal(fp::to_int::<F32, u64>(self.state, a));
        fcvt_s_lu(XToF) => legal(fp::from_int::<F32, u64>(self.state, a));
        fmv_x_w(FToXn) => self.set(a.rd, int::sext32(self.state.f[a.rs1.index()]));
        fclass_s(FToXn) => self.set(a.rd, fp::classify::<F32>(self.state.f[a.rs1.index()]));
        fmv_w_x(XToFn) => self.fset(a.rd, float::box_f32(self.x(a.rs1) as u32));
        // D
        fld(FLoad) => self.fload::<u64>(a, u64::from);
        fsd(FStore) => self.fstore::<u64>(a);
        fmadd_d(FR4) => legal(fp::fused::<F64, false, false>(self.state, a));
        fmsub_d(FR4) => legal(fp::fused::<F64, false, true>(self.state, a));
        fnmsub_d(FR4) => legal(fp::fused::<F64, true, false>(self.state, a));
        fnmadd_d(FR4) => legal(fp::fused::<F64, true, true>(self.state, a));
        fadd_d(FR) => legal(fp::binary::<F64>(self.state, a, fast::add::<F64>));
        fsub_d(FR) => legal(fp::binary::<F64>(self.state, a, fast::sub::<F64>));
        fmul_d(FR) => legal(fp::binary::<F64>(self.state, a, fast::mul::<F64>));
        fdiv_d(FR) => legal(fp::binary::<F64>(self.state, a, fast::div::<F64>));
        fsqrt_d(FR1) => legal(fp::sqrt::<F64>(self.state, a));
        fsgnj_d(FRn) => { fp::sign::<F64>(self.state, a, float::sgnj::<F64>); Flow::Next };
        fsgnjn_d(FRn) => { fp::sign::<F64>(self.state, a, float::sgnjn::<F64>); Flow::Next };
        fsgnjx_d(FRn) => { fp::sign::<F64>(self.state, a, float::sgnjx::<F64>); Flow::Next };
        fmin_d(FRn) => { fp::select::<F64>(self.state, a, float::min::<F64>); Flow::Next };
        fmax_d(FRn) => { fp::select::<F64>(self.state, a, float::max::<F64>); Flow::Next };
        fle_d(FCmp) => { fp::compare::<F64>(self.state, a, float::le::<F64>); Flow::Next };
        flt_d(FCmp) => { fp::compare::<F64>(self.state, a, float::lt::<F64>); Flow::Next };
        feq_d(FCmp) => { fp::compare::<F64>(self.state, a, float::eq::<F64>); Flow::Next };
        fcvt_w_d(FToX) => legal(fp::to_int::<F64, i32>(self.state, a));
        fcvt_d_w(XToF) => legal(fp::from_int::<F64, i32>(self.state, a));
        fcvt_wu_d(FToX) => legal(fp::to_int::<F64, u32>(self.state, a));
        fcvt_d_wu(XToF) => legal(fp::from_int::<F64, u32>(self.state, a));
        fcvt_l_d(FToX) => legal(fp::to_int::<F64, i64>(self.state, a));
        fcvt_d_l(XToF) => legal(fp::from_int::<F64, i64>(self.state, a));
        fcvt_lu_d(FToX) => legal(fp::to_int::<F64, u64>(self.state, a));
        fcvt_d_lu(XToF) => legal(fp::from_int::<F64, u64>(self.state, a));
        fcvt_s_d(FR1) => legal(fp::narrow(self.state, a));
        fcvt_d_s(FR1) => legal(fp::widen(self.state, a));
        fmv_x_d(FToXn) => self.set(a.rd, self.state.f[a.rs1.index()]);
        fclass_d(FToXn) => self.set(a.rd, fp::classify::<F64>(self.state.f[a.rs1.index()]));
        fmv_d_x(XToFn) => self.fset(a.rd, self.x(a.rs1));
        // Zba
        add_uw(R) => self.r(a, |x, y| int::zext32(x).wrapping_add(y));
        sh1add(R) => self.r(a, int::shadd::<1>);
        sh2add(R) => self.r(a, int::shadd::<2>);
        sh3add(R) => self.r(a, int::shadd::<3>);
        sh1add_uw(R) => self.r(a, |x, y| int::shadd::<1>(int::zext32(x), y));
        sh2add_uw(R) => self.r(a, |x, y| int::shadd::<2>(int::zext32(x), y));
        sh3add_uw(R) => self.r(a, |x, y| int::shadd::<3>(int::zext32(x), y));
        slli_uw(Sh64) => self.sh64(a, |x, y| int::sll(int::zext32(x), y));
        // Zbb
        andn(R) => self.r(a, |x, y| x & !y);
        orn(R) => self.r(a, |x, y| x | !y);
        xnor(R) => self.r(a, |x, y| !(x ^ y));
        clz(R1) => self.r1(a, |x| u64::from(x.leading_zeros()));
        ctz(R1) => self.r1(a, |x| u64::from(x.trailing_zeros()));
        cpop(R1) => self.r1(a, |x| u64::from(x.count_ones()));
        clzw(R1) => self.r1(a, |x| u64::from((x as u32).leading_zeros()));
        ctzw(R1) => self.r1(a, |x| u64::from((x as u32).trailing_zeros()));
        cpopw(R1) => self.r1(a, |x| u64::from((x as u32).count_ones()));
        max(R) => self.r(a, int::max);
        maxu(R) => self.r(a, <u64 as Ord>::max);
        min(R) => self.r(a, int::min);
        minu(R) => self.r(a, <u64 as Ord>::min);
        sext_b(R1) => self.r1(a, |x| mem::sext8(x as u8));
        sext_h(R1) => self.r1(a, |x| mem::sext16(x as u16));
        zext_h(R1) => self.r1(a, |x| u64::from(x as u16));
        rol(R) => self.r(a, int::rol);
        ror(R) => self.r(a, int::ror);
        rori(Sh64) => self.sh64(a, int::ror);
        rolw(R) => self.rw(a, |x, y| x.rotate_left(y & 31));
        rorw(R) => self.rw(a, |x, y| x.rotate_right(y & 31));
        roriw(Sh32) => self.sh32(a, |x, y| x.rotate_right(y & 31));
        orc_b(R1) => self.r1(a, int::orc_b);
        rev8(R1) => self.r1(a, u64::swap_bytes);
        // Zbc
        clmul(R) => self.r(a, muldiv::clmul);
        clmulh(R) => self.r(a, muldiv::clmulh);
        clmulr(R) => self.r(a, muldiv::clmulr);
        // Zbs
        bclr(R) => self.r(a, |x, y| x & !int::bit(y));
        bclri(Sh64) => self.sh64(a, |x, y| x & !int::bit(y));
        bext(R) => self.r(a, int::bext);
        bexti(Sh64) => self.sh64(a, int::bext);
        binv(R) => self.r(a, |x, y| x ^ int::bit(y));
        binvi(Sh64) => self.sh64(a, |x, y| x ^ int::bit(y));
        bset(R) => self.r(a, |x, y| x | int::bit(y));
        bseti(Sh64) => self.sh64(a, |x, y| x | int::bit(y));
        // Zicond
        czero_eqz(R) => self.r(a, int::czero_eqz);
        czero_nez(R) => self.r(a, int::czero_nez);
    }
}
