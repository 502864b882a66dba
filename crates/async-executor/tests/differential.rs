//! Random code with random state: every engine ends where the interpreter
//! ends, in every register, flag and byte of memory.
//!
//! The generator makes small programs (straight blocks, forward branches,
//! counted loops, calls) and knows nothing of any engine; the oracle is the
//! interpreter. `HARTLOOM_SEED` replays one program, `HARTLOOM_BLOCKS` sets
//! how many blocks are tried.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU32;

use async_executor::{
    AsyncExecutionContext, Budget, Executor, Exit, HybridExecutor, HybridStats,
    InterpreterExecutor, JitConfig, JitExecutor, Preference,
};
use vm_core::hart::Hart;
use vm_core::isa::format::Kind;
use vm_core::isa::{Inst, Op, TABLE, decode};
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{FReg, GuestAddr, XReg};

const TEXT: GuestAddr = GuestAddr(0x1_0000);
const DATA: GuestAddr = GuestAddr(0x4_0000);
const DATA_BYTES: u64 = 0x2000;

/// xorshift64*: small, seeded, good enough to choose instructions.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A value at which integer code has its edges.
    fn integer(&mut self) -> u64 {
        match self.below(6) {
            0 => self.pick(&[
                0,
                1,
                u64::MAX,
                1 << 63,
                i64::MAX as u64,
                0xffff_ffff,
                0x8000_0000,
            ]),
            1 => self.next() as i32 as u64,
            2 => self.below(256),
            3 => 1 << self.below(64),
            _ => self.next(),
        }
    }

    /// Bits at which floating-point code has its edges, in both formats.
    fn float(&mut self) -> u64 {
        let boxed = |bits: u32| 0xffff_ffff_0000_0000 | u64::from(bits);
        match self.below(8) {
            0 => f64::to_bits(self.pick(&[0.0, -0.0, 1.0, -1.5, f64::INFINITY, f64::NEG_INFINITY])),
            1 => self.pick(&[
                0x7ff8_0000_0000_0000,
                0x7ff0_0000_0000_0001,
                0xfff8_0000_dead_beef,
            ]),
            2 => boxed(self.pick(&[0, 1, 0x7f80_0000, 0x7fc0_0000, 0x7f80_0001, 0xffc1_2345])),
            3 => boxed((f32::from(self.next() as i16) / 7.0).to_bits()),
            4 => (f64::from(self.next() as i32) / 3.0).to_bits(),
            5 => boxed(self.next() as u32),
            6 => self.pick(&[
                1,
                0x000f_ffff_ffff_ffff,
                0x0010_0000_0000_0000,
                0x7fef_ffff_ffff_ffff,
            ]),
            _ => self.next(),
        }
    }
}

/// Registers that programs keep for themselves: s0 points into data, s1
/// counts loops, ra and sp serve calls, gp points to code that is rewritten.
const RESERVED: [XReg; 5] = [XReg::Ra, XReg::Sp, XReg::S0, XReg::S1, XReg::Gp];

struct Program {
    words: Vec<u32>,
    /// How many of the accesses to memory do not go through s0.
    wild_percent: u64,
}

impl Program {
    fn new(wild_percent: u64) -> Program {
        let words = Vec::new();
        Program {
            words,
            wild_percent,
        }
    }

    fn random(rng: &mut Rng) -> Program {
        let mut p = Program::new(3);
        let shape = rng.below(4);
        let floats = rng.chance(50);
        match shape {
            0 => {
                let len = 1 + rng.below(24);
                p.block(rng, len, floats);
            }
            1 => {
                // A counted loop with a branch in it.
                let top = p.words.len();
                p.some(rng, 8, floats);
                p.skip(rng, floats);
                p.some(rng, 8, floats);
                p.push("addi s1, s1, -1");
                p.branch_back("bne s1, zero", top);
            }
            2 => {
                // A loop that calls a small function.
                let top = p.words.len();
                p.some(rng, 6, floats);
                let call = p.words.len();
                p.words.push(0);
                p.some(rng, 6, floats);
                p.push("addi s1, s1, -1");
                p.branch_back("bne s1, zero", top);
                p.push("ebreak");
                let callee = p.words.len();
                p.some(rng, 10, floats);
                p.skip(rng, floats);
                p.push("jalr zero, 0(ra)");
                let distance = (callee - call) * 4;
                p.words[call] = word(&format!("jal ra, {distance}"));
            }
            _ => {
                for _ in 0..=rng.below(4) {
                    p.some(rng, 6, floats);
                    p.skip(rng, floats);
                }
            }
        }
        p.push("ebreak");
        p
    }

    /// A loop with what ends runs, and what changes code, in it. Every access
    /// is to data: code that is overwritten without a `fence.i` may run as it
    /// was or as it is.
    fn eventful(rng: &mut Rng) -> Program {
        let mut p = Program::new(0);
        let floats = rng.chance(50);
        let mut calls = Vec::new();
        for _ in 0..2 + rng.below(6) {
            match rng.below(6) {
                0 => p.push("ecall"),
                1 => p.reservation(rng, floats),
                2 => p.rewritten(),
                3 => {
                    calls.push(p.words.len());
                    p.words.push(0);
                }
                4 => p.skip(rng, floats),
                _ => p.some(rng, 6, floats),
            }
        }
        p.push("addi s1, s1, -1");
        p.branch_back("bne s1, zero", 0);
        p.push("ebreak");
        for call in calls {
            let distance = (p.words.len() - call) * 4;
            p.words[call] = word(&format!("jal ra, {distance}"));
        }
        p.some(rng, 10, floats);
        p.push("jalr zero, 0(ra)");
        p
    }

    /// A sequence that succeeds, unless what stands in it stores there.
    fn reservation(&mut self, rng: &mut Rng, floats: bool) {
        let width = rng.pick(&["w", "d"]);
        self.push(&format!("lr.{width} t0, (s0)"));
        self.some(rng, 3, floats);
        self.push(&format!("sc.{width} t1, t0, (s0)"));
    }

    /// An instruction that adds 1 or 3, and is made to add the other every
    /// sixteenth time.
    fn rewritten(&mut self) {
        let at = self.words.len() * 4;
        for text in [
            "addi a0, a0, 1",
            "andi t0, s1, 15",
            "bne t0, zero, 24",
            &format!("lw t0, {at}(gp)"),
            "lui t1, 0x200",
            "xor t0, t0, t1",
            &format!("sw t0, {at}(gp)"),
            "fence.i",
        ] {
            self.push(text);
        }
    }

    fn push(&mut self, text: &str) {
        self.words.push(word(text));
    }

    fn branch_back(&mut self, branch: &str, to: usize) {
        let distance = (self.words.len() - to) as i64 * -4;
        self.push(&format!("{branch}, {distance}"));
    }

    /// A conditional branch over a few instructions.
    fn skip(&mut self, rng: &mut Rng, floats: bool) {
        let at = self.words.len();
        self.words.push(0);
        self.some(rng, 5, floats);
        let distance = (self.words.len() - at) * 4;
        let name = rng.pick(&["beq", "bne", "blt", "bge", "bltu", "bgeu"]);
        let (a, b) = (any_x(rng), any_x(rng));
        self.words[at] = word(&format!("{name} {a}, {b}, {distance}"));
    }

    /// One instruction up to `max`.
    fn some(&mut self, rng: &mut Rng, max: u64, floats: bool) {
        let len = 1 + rng.below(max);
        self.block(rng, len, floats);
    }

    fn block(&mut self, rng: &mut Rng, len: u64, floats: bool) {
        for _ in 0..len {
            let w = random_inst(rng, floats, self.wild_percent);
            self.words.push(w);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn listing(&self) -> String {
        let mut out = String::new();
        for (i, w) in self.words.iter().enumerate() {
            let text = decode(*w).map_or_else(|e| e.to_string(), |d| d.inst.to_string());
            let _ = writeln!(out, "  {:#x}  {text}", TEXT.0 + 4 * i as u64);
        }
        out
    }
}

fn word(text: &str) -> u32 {
    vm_core::isa::asm::assemble_inst(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .encode()
}

fn any_x(rng: &mut Rng) -> XReg {
    XReg::from_bits(rng.next() as u32 >> 7)
}

fn free_x(rng: &mut Rng) -> XReg {
    loop {
        let r = any_x(rng);
        if !RESERVED.contains(&r) {
            return r;
        }
    }
}

/// A random row with random operands that stays inside the program: no
/// control flow, memory through s0 (mostly), a destination that is free.
fn random_inst(rng: &mut Rng, floats: bool, wild_percent: u64) -> u32 {
    use vm_core::isa::Extension;
    loop {
        let row = &TABLE[rng.below(TABLE.len() as u64) as usize];
        if matches!(row.extension, Extension::F | Extension::D) && !floats {
            continue;
        }
        let mut w = (rng.next() as u32 & !row.mask) | row.matches;
        match row.format {
            Kind::B | Kind::J | Kind::Jalr | Kind::Nullary | Kind::Fence if row.op != Op::Fence => {
                continue;
            }
            Kind::Csr | Kind::Csri => {
                // Flags and mode; counters differ between runs.
                let csr = rng.pick(&[1, 1, 2, 3]);
                w = w & 0x000f_ffff | csr << 20;
                if csr != 1 && rng.chance(70) {
                    // Mostly only read the mode: csrrs rd, csr, zero.
                    w = w & !(31 << 15) & !(7 << 12) | 2 << 12;
                }
            }
            Kind::Load | Kind::S | Kind::FLoad | Kind::FStore if rng.chance(100 - wild_percent) => {
                w = w & !(31 << 15) | (XReg::S0 as u32) << 15;
            }
            // Aligned for every width.
            Kind::Lr | Kind::Amo => w = w & !(31 << 15) | (XReg::S0 as u32) << 15,
            _ => {}
        }
        let Ok(decoded) = decode(w) else { continue };
        let regs = decoded.inst.regs();
        if RESERVED.iter().any(|r| regs.x_writes & r.bit() != 0) {
            w = w & !(31 << 7) | (free_x(rng) as u32) << 7;
        }
        // Static modes are rare in real code, and all go one way.
        if has_rounding_field(decoded.inst) && rng.chance(80) {
            let rm = if row.format == Kind::FToX { 1 } else { 7 };
            w = w & !(7 << 12) | rm << 12;
        }
        return w;
    }
}

fn has_rounding_field(inst: Inst) -> bool {
    matches!(
        inst.op().row().format,
        Kind::FR | Kind::FR1 | Kind::FR4 | Kind::FToX | Kind::XToF
    )
}

struct Setup {
    hart: Hart,
    data: Vec<u8>,
    program: Program,
}

fn setup(seed: u64) -> Setup {
    setup_of(&mut Rng::new(seed), Program::random)
}

fn setup_of(rng: &mut Rng, program: fn(&mut Rng) -> Program) -> Setup {
    for _ in 0..8 {
        rng.next();
    }
    let program = program(rng);
    let mut hart = Hart::new(TEXT);
    for r in XReg::ALL {
        let value = rng.integer();
        hart.set_x(r, value);
    }
    for r in FReg::ALL {
        let bits = rng.float();
        hart.set_f(r, bits);
    }
    hart.set_x(XReg::S0, DATA.0 + DATA_BYTES / 2);
    hart.set_x(XReg::S1, 1 + rng.below(60));
    hart.state.frm = rng.pick(&[0, 0, 0, 1, 2, 3, 4]);
    hart.state.fflags = rng.below(32) as u32;
    let data = (0..DATA_BYTES).map(|_| rng.next() as u8).collect();
    Setup {
        hart,
        data,
        program,
    }
}

struct End {
    exit: Exit,
    pc: u64,
    x: [u64; 32],
    f: [u64; 32],
    fcsr: (u32, u32),
    data: Vec<u8>,
}

impl End {
    fn of(exit: Exit, hart: &Hart, data: Vec<u8>) -> End {
        let s = &hart.state;
        End {
            exit,
            pc: s.pc,
            x: s.x,
            f: s.f,
            fcsr: (s.fflags, s.frm),
            data,
        }
    }
}

fn run(setup: &Setup, engine: &mut dyn Executor, budget: Budget) -> End {
    let memory = loaded(setup);
    let mut hart = setup.hart.clone();
    let exit = engine.run(&mut hart, &memory, budget, &AtomicU32::new(0));
    End::of(exit, &hart, data_of(&memory))
}

fn data_of(memory: &GuestMemory) -> Vec<u8> {
    let mut data = vec![0; DATA_BYTES as usize];
    memory.read_bytes(DATA, &mut data).unwrap();
    data
}

/// What differs, in words; `None` if nothing does. After a fault in compiled
/// code that keeps no exact registers, only exit, pc and memory count; fault
/// addresses agree modulo 2³², where such code wraps.
fn difference(expected: &End, got: &End, exact_faults: bool) -> Option<String> {
    let mut out = String::new();
    let same_fault = match (expected.exit, got.exit) {
        (Exit::Trap(a), Exit::Trap(b)) => a.cause == b.cause && a.tval as u32 == b.tval as u32,
        _ => false,
    };
    if expected.pc != got.pc || (expected.exit != got.exit && !same_fault) {
        let (e, g) = (expected, got);
        let _ = writeln!(
            out,
            "exit: {} @ {:#x}, not {} @ {:#x}",
            g.exit, g.pc, e.exit, e.pc
        );
    }
    if let Some(at) = (0..expected.data.len()).find(|&i| expected.data[i] != got.data[i]) {
        let _ = writeln!(
            out,
            "memory at s0 {:+#x}",
            at as i64 - DATA_BYTES as i64 / 2
        );
    }
    if same_fault && !exact_faults {
        return (!out.is_empty()).then_some(out);
    }
    for r in XReg::ALL {
        let (e, g) = (expected.x[r.index()], got.x[r.index()]);
        if e != g {
            let _ = writeln!(out, "{r}: {g:#x}, not {e:#x}");
        }
    }
    for r in FReg::ALL {
        let (e, g) = (expected.f[r.index()], got.f[r.index()]);
        if e != g {
            let _ = writeln!(out, "{r}: {g:#x}, not {e:#x}");
        }
    }
    if expected.fcsr != got.fcsr {
        let _ = writeln!(out, "fflags, frm: {:?}, not {:?}", got.fcsr, expected.fcsr);
    }
    (!out.is_empty()).then_some(out)
}

/// An engine and whether its registers are exact after a fault.
type Candidate = (&'static str, Box<dyn Executor>, bool);

fn candidates(seed: u64) -> Vec<Candidate> {
    // Thresholds 0 and small ones find what large ones hide.
    let mut config = JitConfig::foreground();
    config.threshold = [0, 1, 2, 20][seed as usize % 4];
    let mut exact = config;
    exact.exact_faults = true;
    let mut alone = config;
    alone.single_hart = true;
    vec![
        ("jit", Box::new(JitExecutor::new(config)), false),
        (
            "jit for a single hart",
            Box::new(JitExecutor::new(alone)),
            false,
        ),
        (
            "jit with exact faults",
            Box::new(JitExecutor::new(exact)),
            true,
        ),
    ]
}

/// Compares all engines on the program of `seed`; gives its blocks.
fn check(seed: u64) -> usize {
    let setup = setup(seed);
    let expected = run(&setup, &mut InterpreterExecutor::new(), Budget::Unlimited);
    for (name, mut engine, exact_faults) in candidates(seed) {
        let got = run(&setup, &mut *engine, Budget::Unlimited);
        if let Some(difference) = difference(&expected, &got, exact_faults) {
            panic!(
                "seed {seed}: {name} differs from the interpreter\n{difference}frm {}, s1 {}\n{}\
                 replay: HARTLOOM_SEED={seed} cargo test -p async-executor --test differential",
                setup.hart.state.frm,
                setup.hart.x(XReg::S1),
                setup.program.listing()
            );
        }
    }
    blocks_of(&setup.program)
}

fn blocks_of(program: &Program) -> usize {
    let ends = |w: &&u32| {
        decode(**w).is_ok_and(|d| {
            matches!(
                d.inst.op().row().format,
                Kind::B | Kind::J | Kind::Jalr | Kind::Nullary
            )
        })
    };
    program.words.iter().filter(ends).count()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn compiled_code_agrees_with_the_interpreter_on_random_programs() {
    if let Some(seed) = number("HARTLOOM_SEED") {
        check(seed);
        return;
    }
    let wanted = number("HARTLOOM_BLOCKS").unwrap_or(100_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let first = number("HARTLOOM_FIRST_SEED").unwrap_or(1);
    let blocks: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                scope.spawn(move || {
                    let mut blocks = 0;
                    let mut seed = first + t;
                    while (blocks as u64) < wanted / threads {
                        blocks += check(seed);
                        seed += threads;
                    }
                    blocks
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .sum()
    });
    println!("differential: {blocks} blocks agreed");
}

/// Every budget ends at the same instruction on every engine.
#[test]
fn budgets_end_runs_at_the_same_instruction() {
    for seed in 1..60 {
        let setup = setup(seed);
        let mut config = JitConfig::foreground();
        config.threshold = seed as u32 % 3;
        for n in [0, 1, 2, 3, 5, 17, 64, 100, 257, 1000] {
            let budget = Budget::Instructions(n);
            let expected = run(&setup, &mut InterpreterExecutor::new(), budget);
            let got = run(&setup, &mut JitExecutor::new(config), budget);
            if let Some(difference) = difference(&expected, &got, false) {
                panic!(
                    "seed {seed}, budget {n}:\n{difference}{}",
                    setup.program.listing()
                );
            }
        }
    }
}

/// The background compiler may come at any time; the result is the same.
#[test]
fn hybrid_runs_agree_whenever_code_arrives() {
    for seed in 1..400 {
        let setup = setup(seed);
        let expected = run(&setup, &mut InterpreterExecutor::new(), Budget::Unlimited);
        let mut config = JitConfig::background();
        config.threshold = 1;
        config.warm_up_insts = 0;
        let got = run(&setup, &mut HybridExecutor::new(config), Budget::Unlimited);
        if let Some(difference) = difference(&expected, &got, false) {
            panic!("seed {seed}:\n{difference}{}", setup.program.listing());
        }
    }
}

/// Runs the program of `seed` twice in slices of random budgets, compared one by
/// one; gives how many, and what the engine did.
fn check_slices(seed: u64, preference: Preference) -> (usize, HybridStats) {
    let mut rng = Rng::new(seed);
    let mut setup = setup_of(&mut rng, Program::eventful);
    setup.hart.set_x(XReg::Gp, TEXT.0);
    setup.hart.set_x(XReg::S1, 1 + rng.below(300));
    let mut config = JitConfig::background();
    config.threshold = rng.pick(&[0, 2, 20]);
    config.warm_up_insts = rng.below(9000);
    let context = AsyncExecutionContext::new(config);
    let mut engine = HybridExecutor::with_context(context, preference);
    let mut interp = InterpreterExecutor::new();
    let memories = [(); 2].map(|()| loaded(&setup));
    for memory in &memories {
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        memory.protect(TEXT, 0x1000, all).unwrap();
    }
    let mut n_slices = 0;
    for _ in 0..2 {
        let mut harts = [(); 2].map(|()| setup.hart.clone());
        loop {
            let budget = match rng.below(20) {
                0 => Budget::Unlimited,
                _ => Budget::Instructions(rng.below(150)),
            };
            let engines: [&mut dyn Executor; 2] = [&mut interp, &mut engine];
            let mut ends = Vec::new();
            for ((engine, hart), memory) in engines.into_iter().zip(&mut harts).zip(&memories) {
                let exit = engine.run(hart, memory, budget, &AtomicU32::new(0));
                let is_end = !matches!(exit, Exit::BudgetSpent | Exit::Ecall);
                let data = if is_end { data_of(memory) } else { Vec::new() };
                ends.push(End::of(exit, hart, data));
            }
            if let Some(difference) = difference(&ends[0], &ends[1], false) {
                panic!(
                    "seed {seed}, {preference:?}, {config:?}, slice {n_slices}, {budget:?}:\n\
                     {difference}{}",
                    setup.program.listing()
                );
            }
            n_slices += 1;
            match ends[0].exit {
                Exit::BudgetSpent => {}
                Exit::Ecall => {
                    for hart in &mut harts {
                        hart.set_pc(hart.pc().wrapping_offset(4));
                        hart.set_x(XReg::A0, n_slices as u64);
                    }
                }
                _ => break,
            }
        }
    }
    (n_slices, engine.stats())
}

/// Whether a slice ends in a warm-up, with it, or in compiled code; at calls of
/// the environment, between a reservation and its store, or where code changes.
#[test]
fn slices_of_any_budget_end_where_the_interpreters_do() {
    let (mut n_slices, mut n_entries, mut n_dropped) = (0, 0, 0);
    for seed in 1..=100 {
        let (n, _) = check_slices(seed, Preference::Automatic);
        n_slices += n;
        let (n, stats) = check_slices(seed, Preference::Jit);
        n_slices += n;
        n_entries += stats.jit.code_entries;
        n_dropped += stats.jit.regions_invalidated;
    }
    println!("{n_slices} slices agreed");
    assert!(n_slices > 10_000, "only {n_slices} slices");
    assert!(n_entries > 10_000, "only {n_entries} entries");
    assert!(n_dropped > 100, "only {n_dropped} regions dropped");
}

/// All of a state that a run can change, but memory.
fn registers(hart: &Hart) -> (u64, [u64; 32], [u64; 32], u32, u32) {
    let s = &hart.state;
    (s.pc, s.x, s.f, s.fflags, s.frm)
}

fn loaded(setup: &Setup) -> GuestMemory {
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(TEXT, 0x1000, Prot::READ | Prot::WRITE).unwrap();
    memory.write_bytes(TEXT, &setup.program.bytes()).unwrap();
    memory.protect(TEXT, 0x1000, Prot::EXEC).unwrap();
    memory
        .map(DATA, DATA_BYTES, Prot::READ | Prot::WRITE)
        .unwrap();
    memory.write_bytes(DATA, &setup.data).unwrap();
    memory
}

/// Every state that a preempted run stops in is one that the interpreter goes
/// through, in the same order; the preempt word is set at every safepoint.
/// Gives how often runs were preempted.
fn check_preemption(seed: u64, setup: &Setup) -> usize {
    let memory = loaded(setup);
    let mut hart = setup.hart.clone();
    let mut interp = InterpreterExecutor::new();
    let one = Budget::Instructions(1);
    let mut states = vec![registers(&hart)];
    while states.len() < 3000
        && interp.run(&mut hart, &memory, one, &AtomicU32::new(0)) == Exit::BudgetSpent
    {
        states.push(registers(&hart));
    }

    let memory = loaded(setup);
    let mut hart = setup.hart.clone();
    let mut config = JitConfig::foreground();
    config.threshold = seed as u32 % 2;
    let mut jit = JitExecutor::new(config);
    let (mut at, mut preemptions) = (0, 0);
    loop {
        let exit = jit.run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(1));
        let now = registers(&hart);
        let Some(further) = states[at..].iter().position(|state| *state == now) else {
            // A fault need not have all registers; a long program may go on.
            if matches!(exit, Exit::Trap(_)) || states.len() >= 3000 {
                return preemptions;
            }
            let same_pc = states[at..].iter().find(|state| state.0 == now.0);
            panic!(
                "seed {seed}: {exit} after {preemptions} preemptions\n{now:x?}\nis not a state of the \
                 interpreter; the next with that pc is\n{same_pc:x?}\n{}",
                setup.program.listing()
            );
        };
        at += further;
        if exit != Exit::Preempted {
            return preemptions;
        }
        preemptions += 1;
    }
}

#[test]
fn preempted_runs_stop_in_states_of_the_interpreter() {
    let mut preemptions = 0;
    for seed in 1..600 {
        preemptions += check_preemption(seed, &setup(seed));
    }
    assert!(preemptions > 1000, "only {preemptions} preemptions");
}

/// Loops of several blocks with registers that are dead at the back edge.
#[test]
fn registers_dead_in_a_loop_are_exact_when_it_is_preempted() {
    let loops: [&[&str]; 5] = [
        // Written again on every way, and the only exit reads them.
        &[
            "addi t0, s1, 5",
            "beq s1, zero, 16",
            "add a2, a2, t0",
            "addi s1, s1, -1",
            "jal zero, -16",
            "ebreak",
        ],
        // Written on one of two ways, and before the exit.
        &[
            "beq s1, zero, 28",
            "andi t1, s1, 1",
            "beq t1, zero, 12",
            "slli t0, s1, 2",
            "add a2, a2, t0",
            "addi s1, s1, -1",
            "jal zero, -24",
            "addi t0, zero, 1",
            "ebreak",
        ],
        // Written in the outer of two loops.
        &[
            "addi t0, s1, 7",
            "beq s1, zero, 36",
            "add a2, a2, t0",
            "addi t2, zero, 3",
            "addi t2, t2, -1",
            "bne t2, zero, -4",
            "addi s1, s1, -1",
            "jal zero, -28",
            "ebreak",
            "ebreak",
            "ebreak",
        ],
        // In an inlined callee.
        &[
            "beq s1, zero, 16",
            "jal ra, 16",
            "addi s1, s1, -1",
            "jal zero, -12",
            "ebreak",
            "addi t0, s1, 9",
            "add a2, a2, t0",
            "addi t0, zero, 1",
            "beq a2, zero, 8",
            "addi t0, s1, 2",
            "jalr zero, 0(ra)",
        ],
        // Floating point, as single precision.
        &[
            "fcvt.s.w ft0, s1",
            "fadd.s fa0, fa0, ft0",
            "beq s1, zero, 20",
            "fmul.s ft1, ft0, ft0",
            "fadd.s fa1, fa1, ft1",
            "addi s1, s1, -1",
            "jal zero, -24",
            "ebreak",
        ],
    ];
    for (i, texts) in loops.iter().enumerate() {
        let mut program = Program::new(0);
        texts.iter().for_each(|text| program.push(text));
        let mut setup = setup(1);
        setup.program = program;
        setup.hart.state.frm = 0;
        setup.hart.set_x(XReg::S1, 20);
        for threshold in 0..2 {
            let preemptions = check_preemption(threshold, &setup);
            assert!(preemptions >= 10, "loop {i}: {preemptions} preemptions");
        }
    }
}
