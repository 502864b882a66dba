//! What each instruction does: one line per row of the instruction table.
//!
//! [`Machine`] executes one instruction. It changes registers and memory, and
//! answers in [`Flow`] where control goes; moving on, counting and linking are
//! the business of whoever drives it (`thread`).

use vm_core::hart::HartState;
use vm_core::mem::{GuestMemory, Scalar};
use vm_core::{Trap, XReg};

use super::cache::Chunk;
use super::operands::Operands;
use super::system::CsrOp;
use super::thread::{At, Run};
use super::{atomic, int, mem, system};
use crate::exit::Exit;

/// Where control goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    Next,
    /// To this address, by a conditional branch.
    Branch(u64),
    /// To this address, by `jal`.
    Jump(u64),
    /// To this address, by `jalr`.
    Indirect(u64),
    /// To the next instruction, which may have changed: `fence.i`.
    Refetch,
    /// Out, for the reason in `Run::exit`; nothing has changed.
    Leave,
    /// Out, because the encoding is illegal now; nothing has changed.
    Illegal,
    /// Nowhere yet: the access needs `Machine::execute_slowly`.
    Slow,
}

/// One instruction's view of the hart.
pub(super) struct Machine<'a, 'r, const SLOW: bool> {
    pub(super) state: &'a mut HartState,
    pub(super) run: &'a Run<'r>,
    pub(super) memory: &'a GuestMemory,
    /// Where it stands: for its address, which few instructions ask for.
    pub(super) chunk: &'a Chunk,
    pub(super) at: At,
}

impl<const SLOW: bool> Machine<'_, '_, SLOW> {
    /// Address of the instruction.
    #[inline(always)]
    pub(super) fn pc(&self) -> u64 {
        self.chunk.pc(self.at.i())
    }

    /// Address behind it.
    #[inline(always)]
    fn next(&self) -> u64 {
        self.chunk.next(self.at.i())
    }

    #[inline(always)]
    pub(super) fn x(&self, r: XReg) -> u64 {
        self.state.x[r.index()]
    }

    /// Sets a register. Who decodes keeps `x0` at 0, by replacing instructions
    /// whose only effect is its change and repairing it after others.
    #[inline(always)]
    pub(super) fn set(&mut self, rd: XReg, value: u64) -> Flow {
        self.state.x[rd.index()] = value;
        Flow::Next
    }

    #[inline(always)]
    pub(super) fn r(&mut self, a: &Operands, op: impl FnOnce(u64, u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1), self.x(a.rs2)))
    }

    #[inline(always)]
    pub(super) fn rw(&mut self, a: &Operands, op: impl FnOnce(u32, u32) -> u32) -> Flow {
        self.r(a, |x, y| int::word(x, y, op))
    }

    #[inline(always)]
    pub(super) fn r1(&mut self, a: &Operands, op: impl FnOnce(u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1)))
    }

    #[inline(always)]
    pub(super) fn i(&mut self, a: &Operands, op: impl FnOnce(u64, u64) -> u64) -> Flow {
        self.set(a.rd, op(self.x(a.rs1), immediate(a.imm)))
    }

    #[inline(always)]
    pub(super) fn iw(&mut self, a: &Operands, op: impl FnOnce(u32, u32) -> u32) -> Flow {
        self.i(a, |x, y| int::word(x, y, op))
    }

    #[inline(always)]
    pub(super) fn branch(
        &mut self,
        a: &Operands,
        condition: impl FnOnce(u64, u64) -> bool,
    ) -> Flow {
        if condition(self.x(a.rs1), self.x(a.rs2)) {
            Flow::Branch(self.pc().wrapping_add(immediate(a.imm)))
        } else {
            Flow::Next
        }
    }

    #[inline(always)]
    pub(super) fn jump(&mut self, a: &Operands) -> Flow {
        self.link(a.rd);
        Flow::Jump(self.pc().wrapping_add(immediate(a.imm)))
    }

    #[inline(always)]
    pub(super) fn jump_to_register(&mut self, a: &Operands) -> Flow {
        let target = self.x(a.rs1).wrapping_add(immediate(a.imm)) & !1;
        self.link(a.rd);
        Flow::Indirect(target)
    }

    #[inline(always)]
    fn link(&mut self, rd: XReg) {
        self.state.x[rd.index()] = self.next();
        self.state.x[0] = 0; // jumps without a link are too many to be told apart
    }

    #[inline(always)]
    pub(super) fn load<T: Scalar>(&mut self, a: &Operands, extend: impl FnOnce(T) -> u64) -> Flow {
        let addr = mem::address(self.x(a.rs1), a.imm);
        if SLOW {
            return match self.memory.load::<T>(addr) {
                Ok(value) => self.set(a.rd, extend(value)),
                Err(trap) => self.trap(trap),
            };
        }
        match mem::load_fast::<T>(self.memory, addr) {
            Some(value) => self.set(a.rd, extend(value)),
            None => Flow::Slow,
        }
    }

    #[inline(always)]
    pub(super) fn store<T: Scalar>(&mut self, a: &Operands) -> Flow {
        self.store_value::<T>(a, self.x(a.rs2))
    }

    #[inline(always)]
    fn store_value<T: Scalar>(&mut self, a: &Operands, value: u64) -> Flow {
        let addr = mem::address(self.x(a.rs1), a.imm);
        if SLOW {
            let stored = self.memory.store(addr, T::from_u64(value));
            return self.done(stored);
        }
        if mem::store_fast(self.memory, addr, T::from_u64(value)) {
            Flow::Next
        } else {
            Flow::Slow
        }
    }

    #[inline(always)]
    pub(super) fn fload<T: Scalar>(&mut self, a: &Operands, fill: impl FnOnce(T) -> u64) -> Flow {
        let addr = mem::address(self.x(a.rs1), a.imm);
        if SLOW {
            return match self.memory.load::<T>(addr) {
                Ok(value) => self.fset(a, fill(value)),
                Err(trap) => self.trap(trap),
            };
        }
        match mem::load_fast::<T>(self.memory, addr) {
            Some(value) => self.fset(a, fill(value)),
            None => Flow::Slow,
        }
    }

    #[inline(always)]
    pub(super) fn fstore<T: Scalar>(&mut self, a: &Operands) -> Flow {
        self.store_value::<T>(a, self.state.f[a.rs2.index()])
    }

    #[inline(always)]
    pub(super) fn fset(&mut self, a: &Operands, bits: u64) -> Flow {
        self.state.f[a.rd.index()] = bits;
        Flow::Next
    }

    #[inline(always)]
    pub(super) fn atomic(
        &mut self,
        a: &Operands,
        op: impl FnOnce(&mut HartState, &GuestMemory, &Operands) -> Result<(), Trap>,
    ) -> Flow {
        let done = op(self.state, self.memory, a);
        self.done(done)
    }

    #[inline(always)]
    pub(super) fn amo<T: atomic::Width>(
        &mut self,
        a: &Operands,
        update: impl Fn(T, T) -> T,
    ) -> Flow {
        let done = atomic::amo(self.state, self.memory, a, update);
        self.done(done)
    }

    #[inline(always)]
    pub(super) fn csr(&mut self, op: CsrOp, a: &Operands) -> Flow {
        let writes = matches!(op, CsrOp::Write) || a.rs1 != XReg::Zero;
        self.csr_access(op, a, writes.then_some(self.x(a.rs1)))
    }

    /// The immediate stands in the place of `rs1`.
    #[inline(always)]
    pub(super) fn csri(&mut self, op: CsrOp, a: &Operands) -> Flow {
        let writes = matches!(op, CsrOp::Write) || a.rs1 != XReg::Zero;
        self.csr_access(op, a, writes.then_some(a.rs1 as u64))
    }

    #[inline(always)]
    fn csr_access(&mut self, op: CsrOp, a: &Operands, operand: Option<u64>) -> Flow {
        let retired = self.run.retired(self.at);
        legal(system::access(
            self.state,
            op,
            a.rd,
            a.imm as u16,
            operand,
            retired,
        ))
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
    pub(super) fn leave(&mut self, exit: Exit) -> Flow {
        self.run.exit.set(exit);
        Flow::Leave
    }
}

#[inline(always)]
pub(super) const fn legal(result: Option<()>) -> Flow {
    match result {
        Some(()) => Flow::Next,
        None => Flow::Illegal,
    }
}

#[inline(always)]
pub(super) const fn immediate(imm: i32) -> u64 {
    (imm as i64).cast_unsigned()
}

/// Calls `$callback!` with a line per instruction: `Variant(Format) =>
/// meaning`, in which `m` is the machine and `a` the operands.
#[rustfmt::skip] // a table
macro_rules! meanings {
    ($callback:ident) => {
        $callback! { m a:
            // RV64I
            Lui(U) => m.set(a.rd, immediate(a.imm));
            Auipc(U) => m.set(a.rd, m.pc().wrapping_add(immediate(a.imm)));
            Jal(J) => m.jump(a);
            Jalr(Jalr) => m.jump_to_register(a);
            Beq(B) => m.branch(a, |x, y| x == y);
            Bne(B) => m.branch(a, |x, y| x != y);
            Blt(B) => m.branch(a, |x, y| x.cast_signed() < y.cast_signed());
            Bge(B) => m.branch(a, |x, y| x.cast_signed() >= y.cast_signed());
            Bltu(B) => m.branch(a, |x, y| x < y);
            Bgeu(B) => m.branch(a, |x, y| x >= y);
            Lb(Load) => m.load(a, mem::sext8);
            Lh(Load) => m.load(a, mem::sext16);
            Lw(Load) => m.load(a, mem::sext32);
            Ld(Load) => m.load::<u64>(a, u64::from);
            Lbu(Load) => m.load::<u8>(a, u64::from);
            Lhu(Load) => m.load::<u16>(a, u64::from);
            Lwu(Load) => m.load::<u32>(a, u64::from);
            Sb(S) => m.store::<u8>(a);
            Sh(S) => m.store::<u16>(a);
            Sw(S) => m.store::<u32>(a);
            Sd(S) => m.store::<u64>(a);
            Addi(I) => m.i(a, u64::wrapping_add);
            Slti(I) => m.i(a, int::slt);
            Sltiu(I) => m.i(a, int::sltu);
            Xori(I) => m.i(a, |x, y| x ^ y);
            Ori(I) => m.i(a, |x, y| x | y);
            Andi(I) => m.i(a, |x, y| x & y);
            Slli(Sh64) => m.i(a, int::sll);
            Srli(Sh64) => m.i(a, int::srl);
            Srai(Sh64) => m.i(a, int::sra);
            Add(R) => m.r(a, u64::wrapping_add);
            Sub(R) => m.r(a, u64::wrapping_sub);
            Sll(R) => m.r(a, int::sll);
            Slt(R) => m.r(a, int::slt);
            Sltu(R) => m.r(a, int::sltu);
            Xor(R) => m.r(a, |x, y| x ^ y);
            Srl(R) => m.r(a, int::srl);
            Sra(R) => m.r(a, int::sra);
            Or(R) => m.r(a, |x, y| x | y);
            And(R) => m.r(a, |x, y| x & y);
            Addiw(I) => m.iw(a, u32::wrapping_add);
            Slliw(Sh32) => m.iw(a, u32::wrapping_shl);
            Srliw(Sh32) => m.iw(a, u32::wrapping_shr);
            Sraiw(Sh32) => m.iw(a, int::sraw);
            Addw(R) => m.rw(a, u32::wrapping_add);
            Subw(R) => m.rw(a, u32::wrapping_sub);
            Sllw(R) => m.rw(a, u32::wrapping_shl);
            Srlw(R) => m.rw(a, u32::wrapping_shr);
            Sraw(R) => m.rw(a, int::sraw);
            Fence(Fence) => { system::order(a); Flow::Next };
            Ecall(Nullary) => m.leave(Exit::Ecall);
            Ebreak(Nullary) => m.leave(Exit::Breakpoint);
            // Zifencei
            FenceI(Fence) => Flow::Refetch;
            // Zicsr
            Csrrw(Csr) => m.csr(CsrOp::Write, a);
            Csrrs(Csr) => m.csr(CsrOp::Set, a);
            Csrrc(Csr) => m.csr(CsrOp::Clear, a);
            Csrrwi(Csri) => m.csri(CsrOp::Write, a);
            Csrrsi(Csri) => m.csri(CsrOp::Set, a);
            Csrrci(Csri) => m.csri(CsrOp::Clear, a);
            // M
            Mul(R) => m.r(a, u64::wrapping_mul);
            Mulh(R) => m.r(a, muldiv::mulh);
            Mulhsu(R) => m.r(a, muldiv::mulhsu);
            Mulhu(R) => m.r(a, muldiv::mulhu);
            Div(R) => m.r(a, muldiv::div);
            Divu(R) => m.r(a, muldiv::divu);
            Rem(R) => m.r(a, muldiv::rem);
            Remu(R) => m.r(a, muldiv::remu);
            Mulw(R) => m.rw(a, u32::wrapping_mul);
            Divw(R) => m.rw(a, muldiv::divw);
            Divuw(R) => m.rw(a, muldiv::divuw);
            Remw(R) => m.rw(a, muldiv::remw);
            Remuw(R) => m.rw(a, muldiv::remuw);
            // A
            LrW(Lr) => m.atomic(a, atomic::lr::<u32>);
            ScW(Amo) => m.atomic(a, atomic::sc::<u32>);
            AmoswapW(Amo) => m.amo(a, |_, y: u32| y);
            AmoaddW(Amo) => m.amo(a, u32::wrapping_add);
            AmoxorW(Amo) => m.amo(a, |x: u32, y| x ^ y);
            AmoandW(Amo) => m.amo(a, |x: u32, y| x & y);
            AmoorW(Amo) => m.amo(a, |x: u32, y| x | y);
            AmominW(Amo) => m.amo(a, <u32 as atomic::Width>::signed_min);
            AmomaxW(Amo) => m.amo(a, <u32 as atomic::Width>::signed_max);
            AmominuW(Amo) => m.amo(a, <u32 as Ord>::min);
            AmomaxuW(Amo) => m.amo(a, <u32 as Ord>::max);
            LrD(Lr) => m.atomic(a, atomic::lr::<u64>);
            ScD(Amo) => m.atomic(a, atomic::sc::<u64>);
            AmoswapD(Amo) => m.amo(a, |_, y: u64| y);
            AmoaddD(Amo) => m.amo(a, u64::wrapping_add);
            AmoxorD(Amo) => m.amo(a, |x: u64, y| x ^ y);
            AmoandD(Amo) => m.amo(a, |x: u64, y| x & y);
            AmoorD(Amo) => m.amo(a, |x: u64, y| x | y);
            AmominD(Amo) => m.amo(a, <u64 as atomic::Width>::signed_min);
            AmomaxD(Amo) => m.amo(a, <u64 as atomic::Width>::signed_max);
            AmominuD(Amo) => m.amo(a, <u64 as Ord>::min);
            AmomaxuD(Amo) => m.amo(a, <u64 as Ord>::max);
            // F
            Flw(FLoad) => m.fload(a, float::box_f32);
            Fsw(FStore) => m.fstore::<u32>(a);
            FmaddS(FR4) => legal(fp::fused::<F32, false, false>(m.state, a));
            FmsubS(FR4) => legal(fp::fused::<F32, false, true>(m.state, a));
            FnmsubS(FR4) => legal(fp::fused::<F32, true, false>(m.state, a));
            FnmaddS(FR4) => legal(fp::fused::<F32, true, true>(m.state, a));
            FaddS(FR) => legal(fp::binary::<F32>(m.state, a, fast::add::<F32>));
            FsubS(FR) => legal(fp::binary::<F32>(m.state, a, fast::sub::<F32>));
            FmulS(FR) => legal(fp::binary::<F32>(m.state, a, fast::mul::<F32>));
            FdivS(FR) => legal(fp::binary::<F32>(m.state, a, fast::div::<F32>));
            FsqrtS(FR1) => legal(fp::sqrt::<F32>(m.state, a));
            FsgnjS(FRn) => { fp::sign::<F32>(m.state, a, float::sgnj::<F32>); Flow::Next };
            FsgnjnS(FRn) => { fp::sign::<F32>(m.state, a, float::sgnjn::<F32>); Flow::Next };
            FsgnjxS(FRn) => { fp::sign::<F32>(m.state, a, float::sgnjx::<F32>); Flow::Next };
            FminS(FRn) => { fp::select::<F32>(m.state, a, float::min::<F32>); Flow::Next };
            FmaxS(FRn) => { fp::select::<F32>(m.state, a, float::max::<F32>); Flow::Next };
            FleS(FCmp) => { fp::compare::<F32>(m.state, a, float::le::<F32>); Flow::Next };
            FltS(FCmp) => { fp::compare::<F32>(m.state, a, float::lt::<F32>); Flow::Next };
            FeqS(FCmp) => { fp::compare::<F32>(m.state, a, float::eq::<F32>); Flow::Next };
            FcvtWS(FToX) => legal(fp::to_int::<F32, i32>(m.state, a));
            FcvtSW(XToF) => legal(fp::from_int::<F32, i32>(m.state, a));
            FcvtWuS(FToX) => legal(fp::to_int::<F32, u32>(m.state, a));
            FcvtSWu(XToF) => legal(fp::from_int::<F32, u32>(m.state, a));
            FcvtLS(FToX) => legal(fp::to_int::<F32, i64>(m.state, a));
            FcvtSL(XToF) => legal(fp::from_int::<F32, i64>(m.state, a));
            FcvtLuS(FToX) => legal(fp::to_int::<F32, u64>(m.state, a));
            FcvtSLu(XToF) => legal(fp::from_int::<F32, u64>(m.state, a));
            FmvXW(FToXn) => m.set(a.rd, int::sext32(m.state.f[a.rs1.index()]));
            FclassS(FToXn) => m.set(a.rd, fp::classify::<F32>(m.state.f[a.rs1.index()]));
            FmvWX(XToFn) => m.fset(a, float::box_f32(m.x(a.rs1) as u32));
            // D
            Fld(FLoad) => m.fload::<u64>(a, u64::from);
            Fsd(FStore) => m.fstore::<u64>(a);
            FmaddD(FR4) => legal(fp::fused::<F64, false, false>(m.state, a));
            FmsubD(FR4) => legal(fp::fused::<F64, false, true>(m.state, a));
            FnmsubD(FR4) => legal(fp::fused::<F64, true, false>(m.state, a));
            FnmaddD(FR4) => legal(fp::fused::<F64, true, true>(m.state, a));
            FaddD(FR) => legal(fp::binary::<F64>(m.state, a, fast::add::<F64>));
            FsubD(FR) => legal(fp::binary::<F64>(m.state, a, fast::sub::<F64>));
            FmulD(FR) => legal(fp::binary::<F64>(m.state, a, fast::mul::<F64>));
            FdivD(FR) => legal(fp::binary::<F64>(m.state, a, fast::div::<F64>));
            FsqrtD(FR1) => legal(fp::sqrt::<F64>(m.state, a));
            FsgnjD(FRn) => { fp::sign::<F64>(m.state, a, float::sgnj::<F64>); Flow::Next };
            FsgnjnD(FRn) => { fp::sign::<F64>(m.state, a, float::sgnjn::<F64>); Flow::Next };
            FsgnjxD(FRn) => { fp::sign::<F64>(m.state, a, float::sgnjx::<F64>); Flow::Next };
            FminD(FRn) => { fp::select::<F64>(m.state, a, float::min::<F64>); Flow::Next };
            FmaxD(FRn) => { fp::select::<F64>(m.state, a, float::max::<F64>); Flow::Next };
            FleD(FCmp) => { fp::compare::<F64>(m.state, a, float::le::<F64>); Flow::Next };
            FltD(FCmp) => { fp::compare::<F64>(m.state, a, float::lt::<F64>); Flow::Next };
            FeqD(FCmp) => { fp::compare::<F64>(m.state, a, float::eq::<F64>); Flow::Next };
            FcvtWD(FToX) => legal(fp::to_int::<F64, i32>(m.state, a));
            FcvtDW(XToF) => legal(fp::from_int::<F64, i32>(m.state, a));
            FcvtWuD(FToX) => legal(fp::to_int::<F64, u32>(m.state, a));
            FcvtDWu(XToF) => legal(fp::from_int::<F64, u32>(m.state, a));
            FcvtLD(FToX) => legal(fp::to_int::<F64, i64>(m.state, a));
            FcvtDL(XToF) => legal(fp::from_int::<F64, i64>(m.state, a));
            FcvtLuD(FToX) => legal(fp::to_int::<F64, u64>(m.state, a));
            FcvtDLu(XToF) => legal(fp::from_int::<F64, u64>(m.state, a));
            FcvtSD(FR1) => legal(fp::narrow(m.state, a));
            FcvtDS(FR1) => legal(fp::widen(m.state, a));
            FmvXD(FToXn) => m.set(a.rd, m.state.f[a.rs1.index()]);
            FclassD(FToXn) => m.set(a.rd, fp::classify::<F64>(m.state.f[a.rs1.index()]));
            FmvDX(XToFn) => m.fset(a, m.x(a.rs1));
            // Zba
            AddUw(R) => m.r(a, |x, y| int::zext32(x).wrapping_add(y));
            Sh1add(R) => m.r(a, int::shadd::<1>);
            Sh2add(R) => m.r(a, int::shadd::<2>);
            Sh3add(R) => m.r(a, int::shadd::<3>);
            Sh1addUw(R) => m.r(a, |x, y| int::shadd::<1>(int::zext32(x), y));
            Sh2addUw(R) => m.r(a, |x, y| int::shadd::<2>(int::zext32(x), y));
            Sh3addUw(R) => m.r(a, |x, y| int::shadd::<3>(int::zext32(x), y));
            SlliUw(Sh64) => m.i(a, |x, y| int::sll(int::zext32(x), y));
            // Zbb
            Andn(R) => m.r(a, |x, y| x & !y);
            Orn(R) => m.r(a, |x, y| x | !y);
            Xnor(R) => m.r(a, |x, y| !(x ^ y));
            Clz(R1) => m.r1(a, |x| u64::from(x.leading_zeros()));
            Ctz(R1) => m.r1(a, |x| u64::from(x.trailing_zeros()));
            Cpop(R1) => m.r1(a, |x| u64::from(x.count_ones()));
            Clzw(R1) => m.r1(a, |x| u64::from((x as u32).leading_zeros()));
            Ctzw(R1) => m.r1(a, |x| u64::from((x as u32).trailing_zeros()));
            Cpopw(R1) => m.r1(a, |x| u64::from((x as u32).count_ones()));
            Max(R) => m.r(a, int::max);
            Maxu(R) => m.r(a, <u64 as Ord>::max);
            Min(R) => m.r(a, int::min);
            Minu(R) => m.r(a, <u64 as Ord>::min);
            SextB(R1) => m.r1(a, |x| mem::sext8(x as u8));
            SextH(R1) => m.r1(a, |x| mem::sext16(x as u16));
            ZextH(R1) => m.r1(a, |x| u64::from(x as u16));
            Rol(R) => m.r(a, int::rol);
            Ror(R) => m.r(a, int::ror);
            Rori(Sh64) => m.i(a, int::ror);
            Rolw(R) => m.rw(a, |x, y| x.rotate_left(y & 31));
            Rorw(R) => m.rw(a, |x, y| x.rotate_right(y & 31));
            Roriw(Sh32) => m.iw(a, |x, y| x.rotate_right(y & 31));
            OrcB(R1) => m.r1(a, int::orc_b);
            Rev8(R1) => m.r1(a, u64::swap_bytes);
            // Zbc
            Clmul(R) => m.r(a, muldiv::clmul);
            Clmulh(R) => m.r(a, muldiv::clmulh);
            Clmulr(R) => m.r(a, muldiv::clmulr);

            // Zbkx
            Xperm4(R) => m.r(a, int::xperm4);
            Xperm8(R) => m.r(a, int::xperm8);
            // Zbs
            Bclr(R) => m.r(a, |x, y| x & !int::bit(y));
            Bclri(Sh64) => m.i(a, |x, y| x & !int::bit(y));
            Bext(R) => m.r(a, int::bext);
            Bexti(Sh64) => m.i(a, int::bext);
            Binv(R) => m.r(a, |x, y| x ^ int::bit(y));
            Binvi(Sh64) => m.i(a, |x, y| x ^ int::bit(y));
            Bset(R) => m.r(a, |x, y| x | int::bit(y));
            Bseti(Sh64) => m.i(a, |x, y| x | int::bit(y));
            // Zicond
            CzeroEqz(R) => m.r(a, int::czero_eqz);
            CzeroNez(R) => m.r(a, int::czero_nez);
        }
    };
}
pub(super) use meanings;
