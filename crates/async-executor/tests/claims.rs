//! What docs/ARCHITECTURE.md and SECURITY.md claim of engines, on every one.

use std::sync::atomic::AtomicU32;

use async_executor::{
    Budget, Executor, Exit, HybridExecutor, InterpreterExecutor, JitConfig, JitExecutor,
};
use vm_core::hart::Hart;
use vm_core::isa::TABLE;
use vm_core::isa::asm::assemble;
use vm_core::isa::format::Kind;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{Cause, GuestAddr, XReg};

const TEXT: GuestAddr = GuestAddr(0x1_0000);
const TEXT_BYTES: u64 = 0x1000;
const DATA: GuestAddr = GuestAddr(0x4_0000);
const DATA_BYTES: u64 = 0x2000;

/// All engines by name, compiling at once where they compile.
fn engines() -> Vec<(&'static str, Box<dyn Executor>)> {
    let mut config = JitConfig::foreground();
    config.threshold = 0;
    let mut alone = config;
    alone.single_hart = true;
    let mut exact = config;
    exact.exact_faults = true;
    vec![
        ("interp", Box::new(InterpreterExecutor::new())),
        ("jit", Box::new(JitExecutor::new(config))),
        ("jit for a single hart", Box::new(JitExecutor::new(alone))),
        ("jit with exact faults", Box::new(JitExecutor::new(exact))),
        ("hybrid", Box::new(HybridExecutor::new(config))),
    ]
}

/// A guest with that text, and data that is all of one byte.
fn guest(text: &[u8], fill: u8) -> GuestMemory {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let data = Prot::READ | Prot::WRITE;
    memory.map(TEXT, TEXT_BYTES, data).unwrap();
    memory.write_bytes(TEXT, text).unwrap();
    let code = Prot::READ | Prot::EXEC;
    memory.protect(TEXT, TEXT_BYTES, code).unwrap();
    memory.map(DATA, DATA_BYTES, data).unwrap();
    let bytes = vec![fill; DATA_BYTES as usize];
    memory.write_bytes(DATA, &bytes).unwrap();
    memory
}

fn data(memory: &GuestMemory) -> Vec<u8> {
    let mut bytes = vec![0; DATA_BYTES as usize];
    memory.read_bytes(DATA, &mut bytes).unwrap();
    bytes
}

fn run(engine: &mut dyn Executor, hart: &mut Hart, memory: &GuestMemory, budget: u64) -> Exit {
    let budget = Budget::Instructions(budget);
    engine.run(hart, memory, budget, &AtomicU32::new(0))
}

#[test]
fn whatever_the_address_a_guest_accesses_its_own_space_or_traps() {
    let wild = [
        0,
        0x7ff,
        DATA.0 + DATA_BYTES - 1,
        0xffff_f7ff,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + DATA.0,
        (1 << 32) - 0x800 + DATA.0,
        1 << 47,
        (1 << 47) + DATA.0 + 8,
        i64::MAX.cast_unsigned(),
        1 << 63,
        (1 << 63) + DATA.0,
        u64::MAX - 0x7ff,
        u64::MAX,
    ];
    let accesses = [
        "lb a1, {}(a0)",
        "lh a1, {}(a0)",
        "lw a1, {}(a0)",
        "ld a1, {}(a0)",
        "sb a2, {}(a0)",
        "sh a2, {}(a0)",
        "sw a2, {}(a0)",
        "sd a2, {}(a0)",
        "flw fa1, {}(a0)",
        "fld fa1, {}(a0)",
        "fsw fa2, {}(a0)",
        "fsd fa2, {}(a0)",
    ];
    let mut texts = Vec::new();
    for access in accesses {
        for offset in ["0", "2047", "-2048"] {
            texts.push(access.replace("{}", offset));
        }
    }
    for atomic in [
        "lr.w a1, (a0)",
        "lr.d a1, (a0)",
        "sc.w a1, a2, (a0)",
        "sc.d a1, a2, (a0)",
        "amoadd.w a1, a2, (a0)",
        "amoswap.d a1, a2, (a0)",
        "amomaxu.d a1, a2, (a0)",
        "lr.d a1, (a0)\nsc.d a1, a2, (a0)",
    ] {
        texts.push(atomic.to_owned());
    }
    for text in &texts {
        let code = assemble(&format!("{text}\nebreak")).unwrap();
        let other = guest(&code, 0x22);
        let memory = guest(&code, 0x11);
        for (name, mut engine) in engines() {
            for address in wild {
                let place = format!("{text} at {address:#x} on {name}");
                let mut hart = Hart::new(TEXT);
                hart.set_x(XReg::A0, address);
                hart.set_x(XReg::A2, 0x3333_3333_3333_3333);
                match run(&mut *engine, &mut hart, &memory, 100) {
                    Exit::Breakpoint => {}
                    Exit::Trap(trap) => assert!(
                        matches!(
                            trap.cause,
                            Cause::LoadPageFault
                                | Cause::StorePageFault
                                | Cause::LoadMisaligned
                                | Cause::StoreMisaligned
                        ),
                        "{place}: {trap}"
                    ),
                    exit => panic!("{place}: {exit}"),
                }
            }
        }
        assert!(data(&other).iter().all(|&byte| byte == 0x22), "{text}");
        // Its text is its own, but may not be written either.
        let mut bytes = vec![0; code.len()];
        memory.read_bytes(TEXT, &mut bytes).unwrap();
        assert_eq!(bytes, code, "{text}");
    }
}

/// Not only instructions, and not only sensible ones.
fn random_text(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    };
    let mut text = Vec::new();
    while text.len() < 512 {
        let row = &TABLE[next() as usize % TABLE.len()];
        let operands = next() as u32;
        let word = match row.format {
            _ if next() % 50 == 0 => operands,
            // Counters differ between runs; flags and modes do not.
            Kind::Csr | Kind::Csri => {
                let csr = 1 + next() as u32 % 3;
                row.matches | operands & !row.mask & 0x000f_ffff | csr << 20
            }
            // Near, so that something is there.
            Kind::J => row.matches | operands & 0x0fe0_0f80,
            Kind::B => row.matches | operands & 0x01ff_8f00 & !row.mask,
            Kind::Load | Kind::S | Kind::FLoad | Kind::FStore | Kind::Amo | Kind::Lr => {
                let base = (XReg::A0 as u32) << 15;
                row.matches | operands & !row.mask & !(31 << 15) | base
            }
            _ => row.matches | operands & !row.mask,
        };
        if next() % 8 == 0 {
            text.extend_from_slice(&(next() as u16 & !3 | (next() as u16 % 3)).to_le_bytes());
        } else {
            text.extend_from_slice(&word.to_le_bytes());
        }
    }
    text
}

#[test]
fn random_bytes_as_code_end_in_an_exit_that_all_engines_agree_on() {
    let (mut ended, mut trapped) = (0, 0);
    for seed in 0..400 {
        let text = random_text(seed);
        let mut expected = None;
        for (name, mut engine) in engines() {
            let memory = guest(&text, 0);
            let mut hart = Hart::new(TEXT);
            for r in XReg::ALL {
                hart.set_x(r, DATA.0 + 0x800 + 8 * r as u64);
            }
            let exit = run(&mut *engine, &mut hart, &memory, 2000);
            if expected.is_none() {
                match exit {
                    // Addresses beyond the space wrap in compiled code.
                    Exit::Trap(trap) if trap.tval >> 32 != 0 => break,
                    Exit::Trap(_) => trapped += 1,
                    _ => ended += 1,
                }
            }
            let found = (exit, hart.pc(), data(&memory));
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(expected.0, found.0, "seed {seed} on {name}");
            assert_eq!(expected.1, found.1, "seed {seed} on {name}: {exit}");
            assert!(expected.2 == found.2, "seed {seed} on {name}: memory");
        }
    }
    // Neither all nonsense nor all sense.
    assert!(ended >= 20 && trapped >= 100, "{ended} {trapped}");
}

#[test]
fn no_page_is_writable_and_executable_through_one_mapping() {
    let text = assemble("loop: addi a0, a0, 1\nbne a0, a1, loop\nebreak").unwrap();
    let (mut views, all) = (Vec::new(), engines());
    for (name, mut engine) in all {
        let memory = guest(&text, 0);
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 100_000);
        assert_eq!(
            run(&mut *engine, &mut hart, &memory, 1 << 20),
            Exit::Breakpoint
        );
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for line in maps.lines() {
            let permissions = line.split_whitespace().nth(1).unwrap();
            let both = permissions.contains('w') && permissions.contains('x');
            assert!(!both, "{name}: {line}");
            if line.contains("hartloom-code") {
                views.push(permissions.to_owned());
            }
        }
    }
    // Both views of code memory were there to be seen.
    assert!(views.contains(&"r-xs".to_owned()), "{views:?}");
    assert!(views.contains(&"rw-s".to_owned()), "{views:?}");
}

#[test]
fn what_is_not_translated_is_interpreted_and_counted() {
    // Carry-less products, classes and rounding modes of the instruction.
    let code = "
        loop: clmul a2, a0, a3
        fclass.d a4, fa0
        fadd.d fa1, fa1, fa0, rup
        addi a0, a0, 1
        bne a0, a1, loop
        ebreak";
    let text = assemble(code).unwrap();
    let end = |engine: &mut dyn Executor| {
        let memory = guest(&text, 0);
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 2_000_000);
        hart.set_x(XReg::A3, 0x1234_5677);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
        assert_eq!(exit, Exit::Breakpoint);
        (hart.x(XReg::A2), hart.x(XReg::A4))
    };
    let expected = end(&mut InterpreterExecutor::new());
    let mut config = JitConfig::foreground();
    config.threshold = 0;
    let mut jit = JitExecutor::new(config);
    assert_eq!(end(&mut jit), expected);
    let mut hybrid = HybridExecutor::new(config);
    assert_eq!(end(&mut hybrid), expected);
    for stats in [jit.stats(), hybrid.stats().jit] {
        let interpreted = stats.insts_interpreted_from_code;
        assert!(stats.insts_not_translated >= 3, "{stats:?}");
        assert!(
            interpreted > 0 && interpreted.is_multiple_of(3),
            "{stats:?}"
        );
    }
    let stepped = jit.stats().insts_interpreted_from_code;
    assert!(stepped >= 3 * 1_999_000, "{stepped}");
}
