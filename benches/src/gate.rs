//! What `cargo xtask gate` measures: small bodies over the real crates, each in a
//! process of its own beside one of the other build.
//!
//! The parent writes lines, this process answers each with one line of JSON:
//!
//! ```text
//!  list            {"benchmarks":[{"id":…,"kind":…,"work":…}]}
//!  prepare ID      "ready"                inputs are made, the body ran once
//!  run N           {"ran":{"ns":…,"checksum":…}}
//!  counters        {"counters":[{"name":…,"value":…,"growth":…}]}
//!  quit            ends the process, as does the end of its input
//!  otherwise       {"error":…}            and the process ends
//! ```
//!
//! `work` changes with this file, in which all inputs are: two builds with
//! different ones do different work and cannot be compared.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use async_executor::{Budget, Executor as _, Exit, InterpreterExecutor, JitExecutor};
use perf_bench::gate::Kind;
use serde::Serialize;
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble_program;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};

/// A body: one call is one iteration and gives a checksum of what it computed,
/// which is the same every time.
type Body = Box<dyn FnMut() -> Result<u64>>;

/// A benchmark of the gate.
struct Gated {
    id: &'static str,
    kind: Kind,
    prepare: fn() -> Result<Body>,
    counters: fn() -> Result<Vec<Counter>>,
}

/// All of them. The first is the control's.
const GATED: &[Gated] = &[
    Gated {
        id: "control/sum",
        kind: Kind::Compute,
        prepare: sum,
        counters: no_counters,
    },
    Gated {
        id: "interp/loop",
        kind: Kind::Compute,
        prepare: interpret,
        counters: interpreted,
    },
    Gated {
        id: "jit/compile",
        kind: Kind::Compute,
        prepare: compile,
        counters: compiled,
    },
    Gated {
        id: "memory/chase",
        kind: Kind::MemoryBound,
        prepare: chase,
        counters: no_counters,
    },
];

/// One answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Benchmarks(Vec<Listed>),
    Ready,
    Ran { ns: u64, checksum: u64 },
    Counters(Vec<Counter>),
    Error(String),
}

#[derive(Debug, Serialize)]
struct Listed {
    id: &'static str,
    kind: Kind,
    work: u64,
}

/// A counter without noise.
#[derive(Debug, Serialize)]
struct Counter {
    name: &'static str,
    value: u64,
    /// The share by which it may grow; `None` if it counts the work itself and
    /// may not change.
    growth: Option<f64>,
}

impl Counter {
    const fn equal(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value,
            growth: None,
        }
    }
}

/// Answers requests until there are no more. A request that fails is answered with
/// its error, which is the last answer.
///
/// # Errors
/// If the parent is gone.
pub fn serve(requests: impl BufRead, mut answers: impl Write) -> Result<()> {
    let mut prepared = None;
    for request in requests.lines() {
        let request = request.context("cannot read requests")?;
        if request == "quit" {
            break;
        }
        let answer = answer(&request, &mut prepared);
        let is_last = answer.is_err();
        let answer = answer.unwrap_or_else(|error| Answer::Error(format!("{error:#}")));
        writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
        answers.flush()?;
        if is_last {
            break;
        }
    }
    Ok(())
}

fn answer(request: &str, prepared: &mut Option<(&'static Gated, Body)>) -> Result<Answer> {
    let (verb, operand) = request.split_once(' ').unwrap_or((request, ""));
    Ok(match verb {
        "list" => Answer::Benchmarks(
            GATED
                .iter()
                .map(|gated| Listed {
                    id: gated.id,
                    kind: gated.kind,
                    work: work(),
                })
                .collect(),
        ),
        "prepare" => {
            let gated = GATED
                .iter()
                .find(|gated| gated.id == operand)
                .with_context(|| format!("there is no benchmark {operand:?}"))?;
            let mut body = (gated.prepare)()?;
            body().context(gated.id)?;
            *prepared = Some((gated, body));
            Answer::Ready
        }
        "run" => {
            let (gated, body) = prepared.as_mut().context("`prepare` comes first")?;
            let iters: u64 = operand
                .parse()
                .with_context(|| format!("{operand:?} is no number of iterations"))?;
            ensure!(iters > 0, "0 iterations take no time");
            let start = Instant::now();
            let checksum = gate_iterations(body, iters).context(gated.id)?;
            let ns = u64::try_from(start.elapsed().as_nanos())?;
            Answer::Ran { ns, checksum }
        }
        "counters" => {
            let (gated, _) = prepared.as_ref().context("`prepare` comes first")?;
            Answer::Counters((gated.counters)().context(gated.id)?)
        }
        _ => bail!("{request:?} is no request"),
    })
}

/// What is timed. Callgrind finds it by its name and counts inside it only.
#[inline(never)]
fn gate_iterations(body: &mut Body, iters: u64) -> Result<u64> {
    let first = body()?;
    for _ in 1..iters {
        let checksum = body()?;
        ensure!(
            checksum == first,
            "computed {checksum} and {first} from the same input"
        );
    }
    Ok(first)
}

/// FNV-1a of this file.
fn work() -> u64 {
    include_bytes!("gate.rs")
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

fn no_counters() -> Result<Vec<Counter>> {
    Ok(Vec::new())
}

/// Pure arithmetic: says how the machine treats two processes of the same code.
fn sum() -> Result<Body> {
    Ok(Box::new(|| {
        let mut word = black_box(1_u64);
        for _ in 0..10_000 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
        }
        Ok(word)
    }))
}

const CODE: GuestAddr = GuestAddr(0x1_0000);
const DATA: GuestAddr = GuestAddr(0x2_0000);

/// Memory with this code at [`CODE`] and a writable page at [`DATA`]; offsets of
/// the code's labels.
fn place(text: &str) -> Result<(GuestMemory, Vec<(String, u32)>)> {
    let program = assemble_program(text)?;
    let memory = GuestMemory::new(1 << 20)?;
    memory.map(CODE, 4096, Prot::READ | Prot::WRITE)?;
    memory.map(DATA, 4096, Prot::READ | Prot::WRITE)?;
    memory
        .write_bytes(CODE, &program.bytes)
        .map_err(|fault| anyhow!("cannot place the code: {fault:?}"))?;
    memory.protect(CODE, 4096, Prot::READ | Prot::EXEC)?;
    Ok((memory, program.labels))
}

/// Arithmetic, memory accesses, calls and branches: what guest code is made of.
const LOOP: &str = "\
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
    jalr zero, 0(ra)
";

/// A run of [`LOOP`]: what is in a0 at its end.
fn run_loop(memory: &GuestMemory, interpreter: &mut InterpreterExecutor) -> Result<u64> {
    memory.zero(DATA, 4096)?;
    let mut hart = Hart::new(CODE);
    let preempt = AtomicU32::new(0);
    let exit = interpreter.run(&mut hart, memory, Budget::Unlimited, &preempt);
    ensure!(exit == Exit::Breakpoint, "the guest ended with {exit:?}");
    Ok(hart.x(XReg::A0))
}

fn interpret() -> Result<Body> {
    let (memory, _) = place(LOOP)?;
    let mut interpreter = InterpreterExecutor::new();
    Ok(Box::new(move || run_loop(&memory, &mut interpreter)))
}

fn interpreted() -> Result<Vec<Counter>> {
    let (memory, _) = place(LOOP)?;
    let mut interpreter = InterpreterExecutor::new();
    run_loop(&memory, &mut interpreter)?;
    let stats = interpreter.stats();
    Ok(vec![Counter::equal("guest_insts", stats.insts)])
}

/// A fresh executor compiles every labelled block of [`LOOP`]. Compilers spend their
/// time in allocated graphs, so this is the body that allocates.
fn compile_loop(memory: &GuestMemory, blocks: &[GuestAddr]) -> Result<JitExecutor> {
    let mut executor = JitExecutor::default();
    let n_compiled = executor.batch(memory, blocks);
    ensure!(n_compiled > 0, "nothing was compiled");
    Ok(executor)
}

fn labelled_blocks() -> Result<(GuestMemory, Vec<GuestAddr>)> {
    let (memory, labels) = place(LOOP)?;
    let blocks = labels
        .iter()
        .map(|(_, offset)| GuestAddr(CODE.0 + u64::from(*offset)));
    Ok((memory, blocks.collect()))
}

fn compile() -> Result<Body> {
    let (memory, blocks) = labelled_blocks()?;
    Ok(Box::new(move || {
        Ok(compile_loop(&memory, &blocks)?.stats().insts_compiled)
    }))
}

fn compiled() -> Result<Vec<Counter>> {
    let (memory, blocks) = labelled_blocks()?;
    let stats = compile_loop(&memory, &blocks)?.stats();
    let size = |name, value| Counter {
        name,
        value,
        growth: Some(0.01),
    };
    Ok(vec![
        Counter::equal("insts_compiled", stats.insts_compiled),
        size("host_insts", stats.host_insts),
        size("code_bytes", stats.code_bytes),
    ])
}

/// Follows pointers through 32 MiB of guest memory, more than caches hold: each
/// load waits for the one before.
fn chase() -> Result<Body> {
    const WORDS: u64 = 4 << 20;
    const STEPS: u64 = 500;
    // A full cycle modulo a power of two (Hull and Dobell 1962).
    const FACTOR: u64 = 2_862_933_555_777_941_757;
    let follow = |index: u64| index.wrapping_mul(FACTOR).wrapping_add(1);
    let memory = GuestMemory::new(64 << 20)?;
    memory.map(CODE, WORDS * 8, Prot::READ | Prot::WRITE)?;
    let slot = |index: u64| GuestAddr(CODE.0 + index * 8);
    let fault = |fault| anyhow!("cannot reach the ring: {fault:?}");
    for index in 0..WORDS {
        memory
            .store(slot(index), follow(index) % WORDS)
            .map_err(fault)?;
    }
    // All steps at once: index * factor + offset.
    let (factor, offset) = (0..STEPS).fold((1_u64, 0_u64), |(factor, offset), _| {
        (factor.wrapping_mul(FACTOR), follow(offset))
    });
    // Where the last iteration stopped, so that none finds its lines warm.
    let mut start = 0_u64;
    Ok(Box::new(move || {
        let expected = start.wrapping_mul(factor).wrapping_add(offset) % WORDS;
        let mut index = start;
        for _ in 0..STEPS {
            index = memory.load(slot(index)).map_err(fault)?;
        }
        ensure!(
            index == expected,
            "{STEPS} steps from {start} led to {index} instead of {expected}"
        );
        start = index;
        Ok(STEPS)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(requests: &str) -> Vec<serde_json::Value> {
        let mut written = Vec::new();
        serve(requests.as_bytes(), &mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_body_repeats_and_its_counters_do() {
        for gated in GATED {
            let requests = format!("prepare {}\nrun 2\nrun 3\ncounters\ncounters\n", gated.id);
            let answers = answers(&requests);
            assert_eq!(answers[0], "ready", "{}", gated.id);
            assert!(answers[1]["ran"]["ns"].as_u64().unwrap() > 0);
            assert_eq!(
                answers[1]["ran"]["checksum"], answers[2]["ran"]["checksum"],
                "{}",
                gated.id
            );
            assert_eq!(answers[3], answers[4], "{}", gated.id);
        }
    }

    #[test]
    fn the_interpreter_computes_what_rust_does() {
        let mut data = [0_u64; 64];
        let mut a0 = 0_u64;
        for a1 in (1..=500_u64).rev() {
            let cell = &mut data[(a1 & 63) as usize];
            *cell = cell.wrapping_add(a1);
            a0 ^= *cell;
            a0 = a0.wrapping_add(a0 << 5).wrapping_sub(a1);
        }
        let answers = answers("prepare interp/loop\nrun 1\n");
        assert_eq!(answers[1]["ran"]["checksum"].as_u64(), Some(a0));
    }

    #[test]
    fn a_wrong_request_is_named_and_the_last() {
        for (requests, part) in [
            ("prepare no/such\nlist\n", "no/such"),
            ("run 1\nlist\n", "prepare"),
            ("prepare control/sum\nrun x\n", "\"x\""),
            ("frobnicate\nlist\n", "frobnicate"),
        ] {
            let answers = answers(requests);
            let last = answers.last().unwrap();
            assert!(last["error"].as_str().unwrap().contains(part), "{last}");
        }
    }

    #[test]
    fn the_list_is_read_by_the_gate() {
        let answers = answers("list\nquit\nlist\n");
        assert_eq!(answers.len(), 1);
        let listed = answers[0]["benchmarks"].as_array().unwrap();
        assert_eq!(listed.len(), GATED.len());
        assert_eq!(listed[0]["id"], "control/sum");
        assert_eq!(listed[3]["kind"], "memory-bound");
    }
}
