//! Guest code: interpreted, compiled, and run once compiled.

use std::sync::atomic::AtomicU32;

use anyhow::{Result, anyhow, ensure};
use async_executor::{Budget, Executor, Exit, InterpreterExecutor, JitExecutor};
use perf_bench::gate::Kind;
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble_program;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};

use super::{Body, Counter, Gated};

const WORK: &[&[u8]] = &[include_bytes!("engines.rs")];

pub(super) const GATED: &[Gated] = &[
    Gated {
        id: "interp/loop",
        kind: Kind::Compute,
        work: WORK,
        prepare: || run_on(InterpreterExecutor::new(), &LOOP),
        counters: || interpreted(&LOOP),
    },
    Gated {
        id: "interp/trees",
        kind: Kind::Compute,
        work: WORK,
        prepare: || run_on(InterpreterExecutor::new(), &TREES),
        counters: || interpreted(&TREES),
    },
    Gated {
        id: "jit/loop",
        kind: Kind::Compute,
        work: WORK,
        prepare: || run_on(JitExecutor::default(), &LOOP),
        counters: || compiled(&LOOP),
    },
    Gated {
        id: "jit/trees",
        kind: Kind::Compute,
        work: WORK,
        prepare: || run_on(JitExecutor::default(), &TREES),
        counters: || compiled(&TREES),
    },
    Gated {
        id: "jit/compile",
        kind: Kind::Compute,
        work: WORK,
        prepare: compile,
        counters: || compiled(&LOOP),
    },
];

/// Guest code that ends with a breakpoint, and what is in a0 then.
struct Program {
    text: &'static str,
    a0: u64,
}

/// Arithmetic, memory accesses, calls and branches: what guest code is made of.
const LOOP: Program = Program {
    text: "\
    li   a0, 0
    li   a1, 500
    li   a2, 0x20000
again:
    andi a3, a1, 63
    slli a3, a3, 3
    add  a3, a3, a2
    ld   a4, 0(a3)
    add  a4, a4, a1
    sd   a4, 0(a3)
    jal  ra, mix
    addi a1, a1, -1
    bnez a1, again
    ebreak
mix:
    xor  a0, a0, a4
    slli a5, a0, 5
    add  a0, a0, a5
    sub  a0, a0, a1
    ret
",
    a0: in_rust(),
};

/// What [`LOOP`] computes, over memory that is zero at first.
const fn in_rust() -> u64 {
    let mut data = [0_u64; 64];
    let (mut a0, mut a1) = (0_u64, 500_u64);
    while a1 > 0 {
        let index = (a1 & 63) as usize;
        data[index] = data[index].wrapping_add(a1);
        a0 ^= data[index];
        a0 = a0.wrapping_add(a0 << 5).wrapping_sub(a1);
        a1 -= 1;
    }
    a0
}

/// Allocates a complete binary tree of depth 8 node by node, then adds it up:
/// recursion, stores, loads that wait for loads. A node is left, right and its
/// height; the heights of a tree of height h add up to 2^(h+1) - h - 2.
const TREES: Program = Program {
    text: "\
    li   s1, 0x20000
    li   sp, 0x2ff00
    li   a0, 8
    jal  ra, build
    jal  ra, total
    ebreak
build:
    addi sp, sp, -32
    sd   ra, 0(sp)
    sd   s0, 8(sp)
    sd   s2, 16(sp)
    mv   s0, s1
    addi s1, s1, 24
    sd   zero, 0(s0)
    sd   zero, 8(s0)
    sd   a0, 16(s0)
    beqz a0, built
    addi s2, a0, -1
    mv   a0, s2
    jal  ra, build
    sd   a0, 0(s0)
    mv   a0, s2
    jal  ra, build
    sd   a0, 8(s0)
built:
    mv   a0, s0
    ld   ra, 0(sp)
    ld   s0, 8(sp)
    ld   s2, 16(sp)
    addi sp, sp, 32
    ret
total:
    beqz a0, nothing
    addi sp, sp, -32
    sd   ra, 0(sp)
    sd   s0, 8(sp)
    sd   s2, 16(sp)
    mv   s0, a0
    ld   a0, 0(s0)
    jal  ra, total
    mv   s2, a0
    ld   a0, 8(s0)
    jal  ra, total
    add  a0, a0, s2
    ld   a1, 16(s0)
    add  a0, a0, a1
    ld   ra, 0(sp)
    ld   s0, 8(sp)
    ld   s2, 16(sp)
    addi sp, sp, 32
nothing:
    ret
",
    a0: (1 << 9) - 8 - 2,
};

const CODE: GuestAddr = GuestAddr(0x1_0000);
const DATA: GuestAddr = GuestAddr(0x2_0000);
const DATA_BYTES: u64 = 64 << 10;

/// Memory with this code at [`CODE`] and writable pages at [`DATA`]; the addresses
/// of the code's labels.
fn place(program: &Program) -> Result<(GuestMemory, Vec<GuestAddr>)> {
    let program = assemble_program(program.text)?;
    let memory = GuestMemory::new(1 << 20)?;
    memory.map(CODE, 4096, Prot::READ | Prot::WRITE)?;
    memory.map(DATA, DATA_BYTES, Prot::READ | Prot::WRITE)?;
    memory
        .write_bytes(CODE, &program.bytes)
        .map_err(|fault| anyhow!("cannot place the code: {fault:?}"))?;
    memory.protect(CODE, 4096, Prot::READ | Prot::EXEC)?;
    let labels = program.labels.iter();
    let labels = labels.map(|(_, offset)| GuestAddr(CODE.0 + u64::from(*offset)));
    Ok((memory, labels.collect()))
}

/// A run from the beginning.
fn run(program: &Program, memory: &GuestMemory, executor: &mut impl Executor) -> Result<u64> {
    // As much as LOOP reads before it writes.
    memory.zero(DATA, 4096)?;
    let mut hart = Hart::new(CODE);
    let preempt = AtomicU32::new(0);
    let exit = executor.run(&mut hart, memory, Budget::Unlimited, &preempt);
    ensure!(exit == Exit::Breakpoint, "the guest ended with {exit:?}");
    let (found, expected) = (hart.x(XReg::A0), program.a0);
    ensure!(
        found == expected,
        "the guest computed {found:#x} instead of {expected:#x}"
    );
    Ok(found)
}

fn run_on(mut executor: impl Executor + 'static, program: &'static Program) -> Result<Body> {
    let (memory, _) = place(program)?;
    Ok(Box::new(move || run(program, &memory, &mut executor)))
}

fn interpreted(program: &Program) -> Result<Vec<Counter>> {
    let (memory, _) = place(program)?;
    let mut interpreter = InterpreterExecutor::new();
    run(program, &memory, &mut interpreter)?;
    let stats = interpreter.stats();
    Ok(vec![Counter::equal("guest_insts", stats.insts)])
}

/// Compiles every labelled block; gives how many instructions.
fn compile_labels(
    executor: &mut JitExecutor,
    memory: &GuestMemory,
    labels: &[GuestAddr],
) -> Result<u64> {
    let before = executor.stats().insts_compiled;
    let n_compiled = executor.batch(memory, labels);
    ensure!(n_compiled > 0, "nothing was compiled");
    Ok(executor.stats().insts_compiled - before)
}

/// Compilers spend their time in allocated graphs, so this is the body that
/// allocates. One executor forgets its code each time: a new one has the host map
/// memory, which takes longer than the compiler and is never twice the same.
fn compile() -> Result<Body> {
    let (memory, labels) = place(&LOOP)?;
    let mut executor = JitExecutor::default();
    Ok(Box::new(move || {
        executor.flush();
        compile_labels(&mut executor, &memory, &labels)
    }))
}

fn compiled(program: &Program) -> Result<Vec<Counter>> {
    let (memory, labels) = place(program)?;
    let mut executor = JitExecutor::default();
    compile_labels(&mut executor, &memory, &labels)?;
    let stats = executor.stats();
    Ok(vec![
        Counter::equal("insts_compiled", stats.insts_compiled),
        Counter::size("host_insts", stats.host_insts),
        Counter::size("code_bytes", stats.code_bytes),
    ])
}
