//! What the executors promise beyond the corpus: caching, batches, switching,
//! sharing, flushing, faults, self-modifying code. The `test_*` names are the
//! requirement's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use async_executor::jit::dump::Dump;
use async_executor::{
    AsyncExecutionContext, Budget, Executor, Exit, HybridExecutor, InterpreterExecutor, JitConfig,
    JitExecutor, Preference,
};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{Cause, GuestAddr, Trap, XReg};

const TEXT: GuestAddr = GuestAddr(0x1_0000);
const DATA: GuestAddr = GuestAddr(0x4_0000);

static NEVER: AtomicU32 = AtomicU32::new(0);

fn memory(code: &str) -> GuestMemory {
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(TEXT, 0x4000, Prot::READ | Prot::WRITE).unwrap();
    memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
    memory.protect(TEXT, 0x4000, Prot::EXEC).unwrap();
    memory.map(DATA, 0x2000, Prot::READ | Prot::WRITE).unwrap();
    memory
}

fn eager() -> JitConfig {
    let mut config = JitConfig::foreground();
    config.threshold = 0;
    config
}

/// All engines, those that compile with several thresholds.
fn engines() -> Vec<Box<dyn Executor>> {
    let mut warm = JitConfig::foreground();
    warm.threshold = 5;
    let mut background = JitConfig::background();
    background.threshold = 2;
    background.warm_up_insts = 0;
    vec![
        Box::new(InterpreterExecutor::new()),
        Box::new(JitExecutor::new(eager())),
        Box::new(JitExecutor::new(warm)),
        Box::new(HybridExecutor::new(background)),
    ]
}

/// Code that another executor compiled before it changed is not run by one that
/// has followed the change, but not in that cache.
#[test]
fn a_cache_that_others_filled_is_held_against_memory_first() {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(TEXT, 0x1000, all).unwrap();
    let mut fence = TEXT.wrapping_offset(0x100);
    let write = |at, code: &str| {
        memory.write_bytes(at, &assemble(code).unwrap()).unwrap();
    };
    write(TEXT, "addi a0, zero, 1\nebreak");
    write(fence, "fence.i\nebreak");
    let context = AsyncExecutionContext::new(eager());
    let [mut one, mut other] = [(); 2].map(|()| JitExecutor::with_context(context.clone()));
    let execute = |engine: &mut JitExecutor| {
        let mut hart = Hart::new(TEXT);
        let _ = engine.execute(&mut hart, &memory);
        hart.x(XReg::A0)
    };
    assert_eq!(execute(&mut other), 1);
    write(TEXT, "addi a0, zero, 2\nebreak");
    // The second run begins with what the first one's fence asks for.
    for _ in 0..2 {
        let mut hart = Hart::new(fence);
        let exit = one.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!(exit, Exit::Breakpoint);
        fence = TEXT.wrapping_offset(0x104);
    }
    assert_eq!(execute(&mut one), 2);
}

/// What is over soon is interpreted to its end; what goes on is compiled, with
/// a budget or without, and gives the same.
#[test]
fn nothing_is_compiled_in_the_background_before_it_is_worth_it() {
    let memory = memory(SUM);
    let mut config = JitConfig::background();
    config.warm_up_insts = 30_000;
    let compiled = |hybrid: &HybridExecutor| hybrid.stats().jit.regions_compiled;

    let mut hybrid = HybridExecutor::new(config);
    assert_eq!(sum_of(9_000, &mut hybrid, &memory), 40_504_500);
    assert_eq!(compiled(&hybrid), 0);
    while compiled(&hybrid) == 0 {
        assert_eq!(sum_of(9_000, &mut hybrid, &memory), 40_504_500);
    }

    let mut hybrid = HybridExecutor::new(config);
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A1, 100_000);
    let mut n_runs = 0;
    while hybrid.run(&mut hart, &memory, Budget::Instructions(1_000), &NEVER) == Exit::BudgetSpent {
        n_runs += 1;
    }
    // Three instructions a round, and the last one is no round's.
    assert_eq!((n_runs, hart.x(XReg::A0)), (300, 5_000_050_000));
}

/// Whoever waits for the compiler does not wait for a warm-up as well, whatever
/// it was configured by; the threshold counts.
#[test]
fn what_is_hot_is_compiled_at_once_while_the_guest_waits() {
    let memory = memory(SUM);
    let context = || AsyncExecutionContext::new(JitConfig::background());
    let mut hybrid = HybridExecutor::with_context(context(), Preference::Jit);
    let mut jit = JitExecutor::with_context(context());
    assert_eq!(sum_of(100, &mut hybrid, &memory), 5050);
    assert_eq!(hybrid.stats().jit.regions_compiled, 0);
    assert_eq!(sum_of(1000, &mut hybrid, &memory), 500_500);
    assert_eq!(sum_of(1000, &mut jit, &memory), 500_500);
    for stats in [hybrid.stats(), jit.all_stats()] {
        assert!(stats.jit.code_entries > 0, "{stats:?}");
        assert!(stats.interp.insts < 3 * 600, "{stats:?}");
    }
}

/// A program that calls its environment from a function is entered once per
/// call, whatever it returns to, and not interpreted once all is compiled.
#[test]
fn a_call_of_the_environment_costs_one_entry_and_no_interpretation() {
    let memory = memory(
        "loop: jal ra, call\naddi a0, a0, 1\nj loop\n\
         call: addi a1, a1, 1\necall\naddi a1, a1, 1\nret",
    );
    let mut jit = JitExecutor::new(eager());
    let mut hart = Hart::new(TEXT);
    let mut counts = Vec::new();
    for n in 0..200_u64 {
        let exit = jit.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!(exit, Exit::Ecall);
        assert_eq!(hart.pc(), TEXT.wrapping_offset(16));
        assert_eq!((hart.x(XReg::A0), hart.x(XReg::A1)), (n, 2 * n + 1));
        hart.state.pc += 4;
        if n >= 100 {
            counts.push((jit.stats().code_entries, jit.interp_stats().insts));
        }
    }
    let (first, last) = (counts[0], counts[counts.len() - 1]);
    assert_eq!(last.0 - first.0, counts.len() as u64 - 1, "entries");
    assert_eq!(last.1, first.1, "interpreted instructions");
}

const SUM: &str = "loop: add a0, a0, a1\naddi a1, a1, -1\nbnez a1, loop\nebreak";

fn sum_of(n: u64, engine: &mut dyn Executor, memory: &GuestMemory) -> u64 {
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A1, n);
    let exit = engine.run(&mut hart, memory, Budget::Unlimited, &NEVER);
    assert_eq!(exit, Exit::Breakpoint);
    hart.x(XReg::A0)
}

#[test]
fn test_jit_single_execution() {
    let memory = memory("addi a0, a0, 5\nslli a0, a0, 2\nj next\nnext: ebreak");
    let mut jit = JitExecutor::new(eager());
    let mut hart = Hart::new(TEXT);
    assert_eq!(jit.execute(&mut hart, &memory), Exit::BudgetSpent);
    assert_eq!((hart.x(XReg::A0), hart.pc()), (20, GuestAddr(TEXT.0 + 12)));
    assert_eq!(jit.stats().regions_compiled, 1);
    assert_eq!(jit.execute(&mut hart, &memory), Exit::Breakpoint);
}

#[test]
fn test_jit_caching_benefit() {
    let memory = memory("addi a0, a0, 1\nj top\ntop: ebreak");
    let mut jit = JitExecutor::new(eager());
    for n in 1..=100 {
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A0, n);
        assert_eq!(jit.execute(&mut hart, &memory), Exit::BudgetSpent);
        assert_eq!(hart.x(XReg::A0), n + 1);
    }
    // Compiled once, entered a hundred times.
    assert_eq!(jit.stats().regions_compiled, 1);
    assert_eq!(jit.stats().code_entries, 100);
}

#[test]
fn test_jit_batch() {
    let memory = memory("j a\na: j b\nb: addi a0, a0, 1\nj c\nc: j d\nd: ebreak");
    let mut jit = JitExecutor::new(eager());
    let blocks = [0, 4, 8, 16].map(|offset| GuestAddr(TEXT.0 + offset));
    assert_eq!(jit.batch(&memory, &blocks), 4);
    assert_eq!(jit.batch(&memory, &blocks), 0, "all are compiled already");
    assert!(blocks.iter().all(|&pc| jit.is_compiled(&memory, pc)));
    // What is no code is left out.
    assert_eq!(
        jit.batch(&memory, &[GuestAddr(0), DATA, GuestAddr(u64::MAX)]),
        0
    );
}

#[test]
fn a_block_that_jumps_to_itself_is_executed_once() {
    let memory = memory("again: addi a0, a0, 1\nbnez a0, again\nebreak");
    for mut engine in engines() {
        let mut hart = Hart::new(TEXT);
        for n in 1..4 {
            assert_eq!(engine.execute(&mut hart, &memory), Exit::BudgetSpent);
            assert_eq!((hart.x(XReg::A0), hart.pc()), (n, TEXT));
        }
    }
}

#[test]
fn test_interpreter_execution() {
    let memory = memory(SUM);
    let mut interp = InterpreterExecutor::new();
    assert_eq!(sum_of(100, &mut interp, &memory), 5050);
    assert_eq!(interp.stats().insts, 300);
}

#[test]
fn test_hybrid_jit_path() {
    let memory = memory(SUM);
    let mut config = JitConfig::background();
    config.threshold = 1;
    config.warm_up_insts = 0;
    let context = AsyncExecutionContext::new(config);
    let mut hybrid = HybridExecutor::with_context(context, Preference::Automatic);
    // The compiler has its own time; the guest runs until its code is used.
    while hybrid.stats().jit.code_entries == 0 {
        assert_eq!(sum_of(100_000, &mut hybrid, &memory), 5_000_050_000);
    }
    assert!(hybrid.stats().jit.regions_compiled > 0);
    assert!(hybrid.stats().interp.insts > 0, "it was interpreted first");
}

#[test]
fn test_hybrid_interpreter_path() {
    let memory = memory(SUM);
    let mut config = JitConfig::background();
    config.threshold = 1_000_000;
    config.warm_up_insts = 0;
    let mut cold = HybridExecutor::new(config);
    assert_eq!(sum_of(100, &mut cold, &memory), 5050);
    let context = AsyncExecutionContext::new(eager());
    let mut never = HybridExecutor::with_context(context, Preference::Interpreter);
    assert_eq!(sum_of(100_000, &mut never, &memory), 5_000_050_000);
    for stats in [cold.stats(), never.stats()] {
        assert_eq!(stats.jit.regions_compiled, 0);
        assert!(stats.interp.insts >= 300);
    }
}

#[test]
fn test_context_flush() {
    let memory = memory(SUM);
    let context = AsyncExecutionContext::new(eager());
    let mut jit = JitExecutor::with_context(context.clone());
    assert_eq!(sum_of(1000, &mut jit, &memory), 500_500);
    assert!(jit.is_compiled(&memory, TEXT));
    context.flush();
    assert!(!jit.is_compiled(&memory, TEXT));
    let before = context.stats().regions_compiled;
    assert_eq!(sum_of(1000, &mut jit, &memory), 500_500);
    assert!(context.stats().regions_compiled > before);
}

#[test]
fn test_multiple_executor_types() {
    let memory = memory(SUM);
    for mut engine in engines() {
        assert_eq!(sum_of(1000, &mut *engine, &memory), 500_500);
    }
}

#[test]
fn executors_on_several_threads_share_code() {
    let memory = memory(SUM);
    let context = AsyncExecutionContext::new(eager());
    // The first compiles; what it compiled lives as long as it does.
    let mut first = JitExecutor::with_context(context.clone());
    assert_eq!(sum_of(1000, &mut first, &memory), 500_500);
    let compiled = context.stats().regions_compiled;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut jit = JitExecutor::with_context(context.clone());
                for _ in 0..50 {
                    assert_eq!(sum_of(1000, &mut jit, &memory), 500_500);
                }
            });
        }
    });
    assert_eq!(context.stats().regions_compiled, compiled);
}

#[test]
fn one_executor_serves_several_memories() {
    let (one, other) = (memory(SUM), memory("addi a0, a1, 7\nebreak"));
    for mut engine in engines() {
        for _ in 0..3 {
            assert_eq!(sum_of(1000, &mut *engine, &one), 500_500);
            assert_eq!(sum_of(1000, &mut *engine, &other), 1007);
        }
    }
}

#[test]
fn a_run_ends_when_the_preempt_word_is_raised_elsewhere() {
    let endless = [
        "loop: j loop",
        "loop: addi a0, a0, 1\nj loop",
        "loop: jal ra, callee\nj loop\ncallee: ret",
        "la t0, loop\nloop: jr t0",
        // Recursion without end, on a stack that does not grow.
        "f: jal ra, f",
    ];
    for code in endless {
        let memory = memory(code);
        for mut engine in engines() {
            let preempt = AtomicU32::new(0);
            let mut hart = Hart::new(TEXT);
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::yield_now();
                    preempt.store(1, Ordering::Relaxed);
                });
                let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &preempt);
                assert_eq!(exit, Exit::Preempted, "{code}");
            });
        }
    }
}

#[test]
fn a_register_that_an_endless_loop_no_longer_writes_is_exact_when_it_is_preempted() {
    // t0 is written fifty thousand times and then never again. No exit and no
    // later instruction reads it.
    let code = "
        loop: beqz a1, again
        addi a1, a1, -1
        andi t1, a1, 1
        beqz t1, again
        addi t0, a1, 7
        xor a2, a2, t0
        again: sd a1, 0(a5)
        j loop";
    for mut engine in engines() {
        let memory = memory(code);
        memory.write_bytes(DATA, &[1]).unwrap();
        let preempt = AtomicU32::new(0);
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 100_000);
        hart.set_x(XReg::A5, DATA.0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut word = [1; 8];
                while word != [0; 8] {
                    memory.read_bytes(DATA, &mut word).unwrap();
                    thread::yield_now();
                }
                preempt.store(1, Ordering::Relaxed);
            });
            let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &preempt);
            assert_eq!(exit, Exit::Preempted);
        });
        assert_eq!((hart.x(XReg::A1), hart.x(XReg::T0)), (0, 8));
    }
}

#[test]
fn a_fault_in_compiled_code_has_its_pc_and_address() {
    // A loop that walks off the end of its data.
    let code = "loop: ld a0, 0(a1)\nadd a2, a2, a0\naddi a1, a1, 8\nj loop";
    let memory = memory(code);
    let end = DATA.0 + 0x2000;
    for mut engine in engines() {
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, DATA.0);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!(
            exit,
            Exit::Trap(Trap {
                cause: Cause::LoadPageFault,
                tval: end
            })
        );
        assert_eq!(hart.pc(), TEXT);
    }
    let mut config = eager();
    config.exact_faults = true;
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A1, DATA.0);
    let exit = JitExecutor::new(config).run(&mut hart, &memory, Budget::Unlimited, &NEVER);
    assert_eq!(
        exit,
        Exit::Trap(Trap {
            cause: Cause::LoadPageFault,
            tval: end
        })
    );
    assert_eq!(hart.x(XReg::A1), end, "registers are exact on request");
}

#[test]
fn stores_to_read_only_pages_and_jumps_to_nowhere_trap() {
    let cases = [
        (
            "loop: sd a0, 0(a1)\nj loop",
            TEXT.0,
            Cause::StorePageFault,
            TEXT.0,
        ),
        ("loop: sb a0, 0(a1)\nj loop", 8, Cause::StorePageFault, 8),
        (
            "loop: lw a0, -4(a1)\nj loop",
            0,
            Cause::LoadPageFault,
            4_u64.wrapping_neg(),
        ),
        ("jr a1", 0x9_0000, Cause::InstructionPageFault, 0x9_0000),
        ("jr a1", 1 << 40, Cause::InstructionPageFault, 1 << 40),
        ("jr a1", DATA.0, Cause::InstructionPageFault, DATA.0),
        ("jalr a1", 0x9_0000, Cause::InstructionPageFault, 0x9_0000),
    ];
    for (code, a1, cause, tval) in cases {
        let memory = memory(code);
        for mut engine in engines() {
            let mut hart = Hart::new(TEXT);
            hart.set_x(XReg::A1, a1);
            let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
            assert_eq!(exit, Exit::Trap(Trap { cause, tval }), "{code}");
        }
    }
}

#[test]
fn jumps_below_address_zero_have_no_slot() {
    // What follows the call is compiled although it is never reached.
    let unreached = "
        loop: jal ra, g
        jal zero, -0x20000
        addi a1, a1, -1
        bnez a1, loop
        ebreak
        g: addi ra, ra, 4
        ret";
    let reached = [
        "addi a0, a0, 1\njal zero, -0x20000",
        "addi a0, a0, 1\njal ra, -0x20000",
    ];
    for mut engine in engines() {
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 1000);
        let exit = engine.run(&mut hart, &memory(unreached), Budget::Unlimited, &NEVER);
        assert_eq!(exit, Exit::Breakpoint);
        for code in reached {
            let mut hart = Hart::new(TEXT);
            let exit = engine.run(&mut hart, &memory(code), Budget::Unlimited, &NEVER);
            let tval = (TEXT.0 + 4).wrapping_sub(0x20000);
            let fault = Trap {
                cause: Cause::InstructionPageFault,
                tval,
            };
            assert_eq!(exit, Exit::Trap(fault), "{code}");
        }
    }
}

#[test]
fn a_cold_callee_that_rewrites_code_reaches_its_compiled_caller() {
    // g returns 1 until p, called once, has patched it to return 2.
    let code = "
        loop: jalr ra, 0(s2)
        add s0, s0, a0
        addi a1, a1, -1
        bne a1, a2, skip
        jalr ra, 0(s3)
        skip: bnez a1, loop
        ebreak
        g: addi a0, zero, 1
        ret
        p: sw t0, 0(t1)
        fence.i
        ret";
    for mut engine in engines() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        memory.map(TEXT, 0x1000, all).unwrap();
        memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
        let mut hart = Hart::new(TEXT);
        let patched = assemble("addi a0, zero, 2").unwrap();
        let patched = u32::from_le_bytes(patched[..4].try_into().unwrap());
        hart.set_x(XReg::A1, 1000);
        hart.set_x(XReg::A2, 500);
        hart.set_x(XReg::S2, TEXT.0 + 7 * 4);
        hart.set_x(XReg::S3, TEXT.0 + 9 * 4);
        hart.set_x(XReg::T0, u64::from(patched));
        hart.set_x(XReg::T1, TEXT.0 + 7 * 4);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!((exit, hart.x(XReg::S0)), (Exit::Breakpoint, 500 + 2 * 500));
    }
}

#[test]
fn deep_recursion_comes_back() {
    // f(n) = n == 0 ? 0 : 1 + f(n - 1), deeper than any host stack is long.
    let code = "
        f: beqz a0, done
        addi sp, sp, -8
        sw ra, 0(sp)
        addi a0, a0, -1
        jal ra, f
        addi a0, a0, 1
        lw ra, 0(sp)
        addi sp, sp, 8
        done: ret";
    let depth = 300_000_u64;
    for mut engine in engines() {
        let memory = GuestMemory::new(16 << 20).unwrap();
        memory.map(TEXT, 0x1000, Prot::READ | Prot::WRITE).unwrap();
        memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
        let end = assemble("ebreak").unwrap();
        memory.write_bytes(GuestAddr(TEXT.0 + 0x800), &end).unwrap();
        memory.protect(TEXT, 0x1000, Prot::EXEC).unwrap();
        let stack = GuestAddr(0x100_0000);
        memory
            .map(stack, 8 << 20, Prot::READ | Prot::WRITE)
            .unwrap();
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A0, depth);
        hart.set_x(XReg::Sp, stack.0 + (8 << 20));
        hart.set_x(XReg::Ra, TEXT.0 + 0x800);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, depth));
    }
}

#[test]
fn code_that_was_rewritten_runs_after_fence_i() {
    // Patches the immediate of its own `addi a0, a0, 1` to 2 after 100 rounds.
    let code = "
        loop: addi a0, a0, 1
        addi a1, a1, -1
        bne a1, a2, skip
        sw a3, 0(a4)
        fence.i
        skip: bnez a1, loop
        ebreak";
    for mut engine in engines() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory
            .map(TEXT, 0x1000, Prot::READ | Prot::WRITE | Prot::EXEC)
            .unwrap();
        memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 1000);
        hart.set_x(XReg::A2, 900);
        let patched = assemble("addi a0, a0, 2").unwrap();
        hart.set_x(
            XReg::A3,
            u64::from(u32::from_le_bytes(patched[..4].try_into().unwrap())),
        );
        hart.set_x(XReg::A4, TEXT.0);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, 100 + 2 * 900));
    }
}

#[test]
fn code_that_was_mapped_anew_is_decoded_anew() {
    for mut engine in engines() {
        let memory = memory(SUM);
        assert_eq!(sum_of(1000, &mut *engine, &memory), 500_500);
        memory.map(TEXT, 0x1000, Prot::READ | Prot::WRITE).unwrap();
        memory
            .write_bytes(TEXT, &assemble("addi a0, a1, 1\nebreak").unwrap())
            .unwrap();
        memory.protect(TEXT, 0x1000, Prot::EXEC).unwrap();
        assert_eq!(sum_of(1000, &mut *engine, &memory), 1001);
        // And without permission it does not run at all.
        memory.protect(TEXT, 0x1000, Prot::READ).unwrap();
        let mut hart = Hart::new(TEXT);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        let fault = Trap {
            cause: Cause::InstructionPageFault,
            tval: TEXT.0,
        };
        assert_eq!(exit, Exit::Trap(fault));
    }
}

/// The second copy of what a large guest runs.
const SECOND: GuestAddr = GuestAddr(TEXT.0 + 0x8000);

/// More code than the smallest cache holds, run A1 times: functions that call
/// each other 300 deep, so that compiled frames wait below when it is full. All
/// that is there twice.
fn large_guest() -> GuestMemory {
    const FUNCTIONS: usize = 300;
    let mut code = String::from("again: jal ra, f0\naddi a1, a1, -1\nbnez a1, again\nebreak\n");
    for i in 0..FUNCTIONS {
        let callee = if i + 1 < FUNCTIONS { i + 1 } else { i };
        code.push_str(&format!(
            "f{i}: addi sp, sp, -8
            sd ra, 0(sp)
            addi a0, a0, {i}
            li t0, {last}
            li t1, {i}
            beq t0, t1, g{i}
            jal ra, f{callee}
            xor a3, a3, a0
            g{i}: ld ra, 0(sp)
            addi sp, sp, 8
            ret\n",
            last = FUNCTIONS - 1
        ));
    }
    // Afterwards: a loop that is worth compiling.
    code.push_str("loop: addi a0, a0, 1\nbne a0, a1, loop\nebreak");
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(TEXT, 0x10000, Prot::READ | Prot::WRITE).unwrap();
    for start in [TEXT, SECOND] {
        memory
            .write_bytes(start, &assemble(&code).unwrap())
            .unwrap();
    }
    memory.protect(TEXT, 0x10000, Prot::EXEC).unwrap();
    memory.map(DATA, 0xa000, Prot::READ | Prot::WRITE).unwrap();
    memory
}

/// What a large guest computes, run in slices of `budget`.
fn end_of_large_guest(
    memory: &GuestMemory,
    engine: &mut dyn Executor,
    rounds: u64,
    budget: Budget,
) -> u64 {
    end_of_copy(memory, engine, rounds, budget, TEXT, 0)
}

/// The same for the copy at `start`, on one of five stacks.
fn end_of_copy(
    memory: &GuestMemory,
    engine: &mut dyn Executor,
    rounds: u64,
    budget: Budget,
    start: GuestAddr,
    stack: u64,
) -> u64 {
    let mut hart = Hart::new(start);
    hart.set_x(XReg::A1, rounds);
    hart.set_x(XReg::Sp, DATA.0 + 0x2000 * (stack + 1));
    loop {
        match engine.run(&mut hart, memory, budget, &NEVER) {
            Exit::Breakpoint => return hart.x(XReg::A0) ^ hart.x(XReg::A3) << 32,
            Exit::BudgetSpent => {}
            other => panic!("{other}"),
        }
    }
}

fn tiny_cache() -> JitConfig {
    let mut config = eager();
    config.code_bytes_max = 0;
    config.region_insts_max = 8;
    config.inline_insts_max = 0;
    config
}

/// A batch that does not fit is compiled to its end: what came last stays.
#[test]
fn a_batch_goes_on_where_code_memory_is_full() {
    let memory = large_guest();
    let mut jit = JitExecutor::new(tiny_cache());
    // Every address behind the `ebreak` is a block of its own.
    let pcs: Vec<GuestAddr> = (4..3000).map(|n| GuestAddr(TEXT.0 + 4 * n)).collect();
    assert_eq!(jit.batch(&memory, &pcs), pcs.len());
    assert!(jit.stats().caches_retired > 0);
    assert!(jit.is_compiled(&memory, pcs[pcs.len() - 1]));
    assert!(!jit.is_compiled(&memory, pcs[0]));
}

#[test]
fn a_full_code_cache_is_emptied_and_filled_again() {
    let memory = large_guest();
    let rounds = 8;
    let mut interp = InterpreterExecutor::new();
    let expected = end_of_large_guest(&memory, &mut interp, rounds, Budget::Unlimited);
    for budget in [Budget::Unlimited, Budget::Instructions(997)] {
        let mut jit = JitExecutor::new(tiny_cache());
        let end = end_of_large_guest(&memory, &mut jit, rounds, budget);
        assert_eq!(end, expected, "{budget:?}");
        let retired = jit.stats().caches_retired;
        assert!(retired >= 3, "{retired}");
        assert!(jit.stats().code_bytes > retired * (56 << 10));

        // And still it compiles.
        let before = jit.interp_stats().insts;
        let text = assemble("addi a0, a0, 1\nbne a0, a1, -4").unwrap();
        let mut bytes = vec![0; 0x8000];
        memory.read_bytes(TEXT, &mut bytes).unwrap();
        let at = bytes.windows(8).position(|bytes| bytes == text).unwrap();
        let mut hart = Hart::new(GuestAddr(TEXT.0 + at as u64));
        hart.set_x(XReg::A1, 1_000_000);
        let exit = jit.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, 1_000_000));
        let interpreted = jit.interp_stats().insts - before;
        assert!(interpreted < 10_000, "{interpreted}");
    }
}

/// How often the shared code is compiled depends on how soon the background
/// thread comes to it: four of the executors leave it to that one or wait for
/// each other. The fifth runs the second copy, which nobody else asks for, so
/// each round of it fills more than a cache, whatever the others do.
#[test]
fn a_code_cache_that_several_executors_share_is_emptied_under_all_of_them() {
    let memory = large_guest();
    let mut interp = InterpreterExecutor::new();
    let rounds = 6;
    let expected = end_of_large_guest(&memory, &mut interp, rounds, Budget::Unlimited);
    let context = AsyncExecutionContext::new(tiny_cache());
    let run = |stack| {
        let preference = [Preference::Jit, Preference::Automatic][stack as usize % 2];
        let start = if stack == 4 { SECOND } else { TEXT };
        let mut engine = HybridExecutor::with_context(context.clone(), preference);
        for _ in 0..200 {
            let budget = Budget::Unlimited;
            let end = end_of_copy(&memory, &mut engine, rounds, budget, start, stack);
            assert_eq!(end, expected, "{preference:?}");
            if engine.stats().jit.caches_retired >= 3 {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for stack in 0..5 {
            scope.spawn(move || run(stack));
        }
    });
    assert!(context.stats().caches_retired >= 3);
}

#[test]
fn a_guest_that_keeps_rewriting_its_code_keeps_running_compiled_code() {
    // The loop at `body` is rewritten before each of A2 rounds.
    let code = "
        outer: sw t2, 0(s2)
        xor t2, t2, s4
        fence.i
        li a1, 50
        body: addi a0, a0, 1
        addi a1, a1, -1
        bnez a1, body
        addi a2, a2, -1
        bnez a2, outer
        ebreak";
    let memory = memory(code);
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.protect(TEXT, 0x4000, all).unwrap();
    let word = |text: &str| {
        let bytes = assemble(text).unwrap();
        u64::from(u32::from_le_bytes(bytes.try_into().unwrap()))
    };
    let (one, three) = (word("addi a0, a0, 1"), word("addi a0, a0, 3"));
    let rounds = 2000;
    let mut jit = JitExecutor::new(tiny_cache());
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A2, rounds);
    hart.set_x(XReg::S2, TEXT.0 + 16);
    hart.set_x(XReg::T2, one);
    hart.set_x(XReg::S4, one ^ three);
    let exit = jit.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
    assert_eq!(
        (exit, hart.x(XReg::A0)),
        (Exit::Breakpoint, 2 * 50 * rounds)
    );
    assert!(jit.stats().caches_retired >= 2, "{:?}", jit.stats());
}

#[test]
fn the_interpreter_takes_over_while_the_rounding_mode_has_no_host_counterpart() {
    // frm = RMM in the middle of a hot loop, and back.
    let code = "
        loop: fadd.d fa0, fa0, fa1
        addi a1, a1, -1
        bne a1, a2, skip
        csrrwi a3, frm, 4
        skip: bnez a1, loop
        csrrwi a3, frm, 0
        ebreak";
    let mut ends = Vec::new();
    for mut engine in engines() {
        let memory = memory(code);
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 1000);
        hart.set_x(XReg::A2, 500);
        hart.set_f(vm_core::FReg::Fa0, 1.0_f64.to_bits());
        hart.set_f(vm_core::FReg::Fa1, 2.0_f64.powi(-53).to_bits());
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        assert_eq!(exit, Exit::Breakpoint);
        ends.push((
            hart.f(vm_core::FReg::Fa0),
            hart.state.fflags,
            hart.x(XReg::A3),
        ));
    }
    // Ties away from zero do not lose what ties to even do.
    assert!(f64::from_bits(ends[0].0) > 1.0);
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:x?}");
}

/// Runs `code` on `engine` from a0 = `a0`; gives how it ended and where.
fn end_of(code: &str, a0: u64, engine: &mut dyn Executor) -> (Exit, u64, [u64; 32]) {
    let memory = memory(code);
    let mut hart = Hart::new(TEXT);
    hart.set_x(XReg::A0, a0);
    hart.set_x(XReg::A5, DATA.0);
    hart.set_x(XReg::A6, 3);
    let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
    (exit, hart.pc().0, hart.state.x)
}

/// Compiled code faults where the interpreter faults. With registers exact on
/// request, those agree as well.
fn check_faults(a0: u64, cases: &[&str]) {
    for code in cases {
        let expected = end_of(code, a0, &mut InterpreterExecutor::new());
        assert!(matches!(expected.0, Exit::Trap(_)), "{code}: {expected:x?}");
        for mut engine in engines() {
            let got = end_of(code, a0, &mut *engine);
            assert_eq!((got.0, got.1), (expected.0, expected.1), "{code}");
        }
        let mut exact = eager();
        exact.exact_faults = true;
        let got = end_of(code, a0, &mut JitExecutor::new(exact));
        assert_eq!(got, expected, "exact faults: {code}");
    }
}

/// A host operation can have a memory operand: a load that is used once could
/// become part of its user and fault there.
#[test]
fn a_load_that_is_used_once_faults_at_its_own_pc() {
    let unmapped = DATA.0 + 0x2000;
    check_faults(
        unmapped,
        &[
            "add a2, a2, a6\nld a1, 0(a0)\nadd a1, a1, a2\nebreak",
            "add a3, a3, a6\nld a1, 0(a0)\naddi a2, a6, 1\nxor a1, a3, a1\nebreak",
            "add a2, a2, a6\nlw a1, 0(a0)\nli a6, 0\nadd a1, a1, a2\nebreak",
            "add a2, a2, a6\nld a1, 0(a0)\nmul a1, a1, a2\nebreak",
            "ld a1, 8(a0)\nld a1, 0(a1)\nebreak",
            "lbu a1, 0(a0)\nslli a1, a1, 3\nadd a1, a1, a5\nld a1, 0(a1)\nebreak",
            "fadd.d fa1, fa1, fa1\nfld fa0, 0(a0)\nfadd.d fa0, fa0, fa1\nebreak",
            "fadd.s fa1, fa1, fa1\nflw fa0, 0(a0)\nfmul.s fa0, fa1, fa0\nebreak",
            "add a6, a6, a6\nld a1, 0(a0)\nbeq a1, a6, out\nli a1, 1\nout: li a1, 0\nebreak",
            // One operation on memory could stand for all three, and its
            // faults are those of a store.
            "add a6, a6, a6\nld a1, 0(a0)\nadd a1, a1, a6\nsd a1, 0(a0)\nli a1, 0\nebreak",
            "add a6, a6, a6\nld a1, 0(a0)\nxor a1, a6, a1\nsd a1, 0(a0)\nli a1, 0\nebreak",
        ],
    );
}

/// A store that changes nothing, or that another overwrites, still faults.
#[test]
fn stores_that_need_not_happen_still_fault_at_their_own_pc() {
    let read_only = TEXT.0;
    check_faults(
        read_only,
        &[
            "ld a1, 0(a0)\nsd a1, 0(a0)\nebreak",
            "lw a1, 0(a0)\nsw a1, 0(a0)\nli a1, 0\nebreak",
            "ld a1, 0(a0)\naddi a2, a2, 1\nsd a1, 0(a0)\nebreak",
            "ld a1, 0(a0)\nadd a1, a1, a6\nsd a1, 0(a0)\nli a1, 0\nebreak",
            "sd a1, 0(a0)\nsd a2, 0(a0)\nebreak",
            "sd a1, 0(a0)\naddi a2, a2, 1\nsd a2, 0(a0)\nebreak",
            "sd a1, 0(a0)\nbeqz a3, next\naddi a2, a2, 1\nnext: sd a2, 0(a0)\nebreak",
            "fld fa0, 0(a0)\nfsd fa0, 0(a0)\nebreak",
        ],
    );
}

/// A load whose value is thrown away, or known from before, still faults.
#[test]
fn loads_that_nobody_reads_still_fault() {
    check_faults(
        DATA.0 + 0x2000,
        &[
            "ld a1, 0(a0)\nli a1, 0\nebreak",
            "ld zero, 0(a0)\nebreak",
            "fld fa0, 0(a0)\nfmv.d.x fa0, zero\nebreak",
            "lw a1, 0(a0)\nlw a1, 0(a0)\nli a1, 0\nebreak",
        ],
    );
}

/// What `code` becomes, as host code.
fn host_code(code: &str) -> String {
    let memory = memory(code);
    let bytes = assemble(code).unwrap().len() as u64;
    Dump::of_function(&memory, TEXT, bytes, &eager())
        .unwrap()
        .unwrap()
        .host
}

/// The host orders all but a store before a later load, of memory or of a
/// device.
#[test]
fn a_fence_costs_a_barrier_where_stores_stay_before_loads_only() {
    for (fence, barriers) in [
        ("fence rw, rw", 1),
        ("fence w, r", 1),
        ("fence o, i", 1),
        ("fence.tso", 0),
        ("fence r, rw", 0),
        ("fence rw, w", 0),
    ] {
        let host = host_code(&format!("sd a1, 0(a0)\n{fence}\nld a2, 8(a0)\nebreak"));
        let found = host.matches("xchg").count();
        assert_eq!(found, barriers, "{fence}:\n{host}");
    }
}

/// A litmus test shows a missing barrier now and then; the code shows it
/// always.
#[test]
fn a_releasing_load_reserved_keeps_stores_before_it() {
    for (lr, barriers) in [
        ("lr.w", 0),
        ("lr.w.aq", 0),
        ("lr.d.rl", 1),
        ("lr.w.aqrl", 1),
    ] {
        let host = host_code(&format!("sw a2, 0(a0)\n{lr} a1, (a0)\nebreak"));
        assert_eq!(host.matches("xchg").count(), barriers, "{lr}:\n{host}");
    }
}

/// Where `execute` stops, call by call, is the same whether blocks are
/// compiled or interpreted.
#[test]
fn execute_ends_blocks_at_the_same_places_on_every_engine() {
    let long = format!("{}ebreak", "addi a0, a0, 1\n".repeat(150));
    let across_a_page = format!(
        "j start\n.zero 4070\nstart: {}ebreak",
        "c.addi a0, 1\naddi a0, a0, 2\n".repeat(12)
    );
    // Code hands the sc back, in the middle of a block as long as can be.
    let handed_back = format!(
        "{}sc.w a1, a0, (a5)\n{}ebreak",
        "addi a0, a0, 1\n".repeat(20),
        "addi a0, a0, 1\n".repeat(80)
    );
    let no_code = "addi a0, a0, 1\n.word 0\nebreak".to_owned();
    for code in [long, across_a_page, handed_back, no_code] {
        let memory = memory(&code);
        let ends = |engine: &mut dyn Executor| {
            let mut hart = Hart::new(TEXT);
            hart.set_x(XReg::A5, DATA.0);
            let mut ends = Vec::new();
            loop {
                let exit = engine.execute(&mut hart, &memory);
                ends.push((exit, hart.pc().0, hart.x(XReg::A0)));
                if exit != Exit::BudgetSpent {
                    return ends;
                }
            }
        };
        let expected = ends(&mut InterpreterExecutor::new());
        assert!(expected.len() > 1, "{expected:x?}");
        for mut engine in engines() {
            assert_eq!(ends(&mut *engine), expected, "{code}");
        }
    }
}

/// Code that was rewritten without `fence.i` may run as it was or as it is,
/// but not as neither: a trap has the pc and the registers of its instruction.
#[test]
fn an_instruction_handed_to_the_interpreter_traps_where_it_stands() {
    // After 500 rounds the fmin, whose NaN the interpreter takes care of, is
    // overwritten by what is no instruction.
    let code = "
        loop: fadd.d fa1, fa1, fa3
        addi s0, s0, 1
        bne a1, a2, skip
        fmv.d.x fa0, a3
        sw zero, 0(a4)
        skip: fmin.d fa2, fa0, fa1
        addi s1, s1, 1
        addi a1, a1, -1
        bnez a1, loop
        ebreak";
    for mut engine in engines() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        memory.map(TEXT, 0x1000, all).unwrap();
        memory.write_bytes(TEXT, &assemble(code).unwrap()).unwrap();
        let mut hart = Hart::new(TEXT);
        hart.set_x(XReg::A1, 1000);
        hart.set_x(XReg::A2, 500);
        hart.set_x(XReg::A3, u64::MAX);
        hart.set_x(XReg::A4, TEXT.0 + 20);
        hart.set_f(vm_core::FReg::Fa3, 1.0_f64.to_bits());
        hart.set_f(vm_core::FReg::Fa0, 1.0_f64.to_bits());
        hart.set_f(vm_core::FReg::Fa1, 2.0_f64.to_bits());
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
        let (begun, ended) = (hart.x(XReg::S0), hart.x(XReg::S1));
        match exit {
            Exit::Breakpoint => {
                assert_eq!((begun, ended), (1000, 1000));
                assert_eq!(hart.f(vm_core::FReg::Fa2), 1002.0_f64.to_bits());
            }
            Exit::Trap(_) => assert_eq!((hart.pc().0, begun), (TEXT.0 + 20, ended + 1)),
            other => panic!("{other}"),
        }
    }
}

/// A cycle through several regions need not have a back edge in any of them.
#[test]
fn a_cycle_of_small_regions_can_be_preempted() {
    // c jumps back to b, inside c's region; b and d leave forwards.
    let code = "
        j c
        b: addi a0, a0, 1
        j d
        d: addi a1, a1, 1
        addi a1, a1, 1
        addi a1, a1, 1
        j c
        c: addi a2, a2, 1
        j b";
    let memory = memory(code);
    for insts in 1..10 {
        let mut config = eager();
        config.region_insts_max = insts;
        let mut jit = JitExecutor::new(config);
        let preempt = AtomicU32::new(0);
        let mut hart = Hart::new(TEXT);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::yield_now();
                preempt.store(1, Ordering::Relaxed);
            });
            let exit = jit.run(&mut hart, &memory, Budget::Unlimited, &preempt);
            assert_eq!(exit, Exit::Preempted);
        });
    }
}

/// It is the hart's, not the executor's.
#[test]
fn instret_never_goes_back_when_a_hart_changes_its_executor() {
    let code = "
        li a1, 100000
        loop: addi a1, a1, -1
        bnez a1, loop
        rdinstret a2
        ecall
        rdinstret a3
        ebreak";
    let memory = memory(code);
    for mut first in engines() {
        for mut second in engines() {
            let mut hart = Hart::new(TEXT);
            let exit = first.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
            assert_eq!(exit, Exit::Ecall);
            hart.set_pc(GuestAddr(hart.pc().0 + 4));
            let exit = second.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
            assert_eq!(exit, Exit::Breakpoint);
            assert!(hart.x(XReg::A3) > hart.x(XReg::A2), "{:?}", hart.state.x);
        }
    }
    let (mut first, mut second) = (InterpreterExecutor::new(), InterpreterExecutor::new());
    let mut hart = Hart::new(TEXT);
    let exit = first.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
    assert_eq!(exit, Exit::Ecall);
    hart.set_pc(GuestAddr(hart.pc().0 + 4));
    let exit = second.run(&mut hart, &memory, Budget::Unlimited, &NEVER);
    assert_eq!(exit, Exit::Breakpoint);
    assert_eq!(
        hart.x(XReg::A3) - hart.x(XReg::A2),
        1,
        "an ecall does not retire"
    );
}
