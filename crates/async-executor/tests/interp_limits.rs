//! The interpreter where runs end: exact budgets, safepoints, traps, and code
//! that changes or goes away between runs.

use std::sync::atomic::{AtomicU32, Ordering};

use async_executor::{Budget, Executor, Exit, InterpreterExecutor};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble_program;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{Cause, GuestAddr, Trap, XReg};

const TEXT: GuestAddr = GuestAddr(0x1_0000);

struct Guest {
    memory: GuestMemory,
    hart: Hart,
    engine: InterpreterExecutor,
    preempt: AtomicU32,
    labels: Vec<(String, u32)>,
}

/// A guest about to run `text`, which may overwrite itself.
fn guest(text: &str) -> Guest {
    let program = assemble_program(text).unwrap();
    let memory = GuestMemory::new(1 << 20).unwrap();
    let bytes = (program.bytes.len() as u64).next_multiple_of(4096);
    memory.map(TEXT, bytes, Prot::READ | Prot::WRITE).unwrap();
    memory.write_bytes(TEXT, &program.bytes).unwrap();
    memory
        .protect(TEXT, bytes, Prot::WRITE | Prot::EXEC)
        .unwrap();
    Guest {
        memory,
        hart: Hart::new(TEXT),
        engine: InterpreterExecutor::new(),
        preempt: AtomicU32::new(0),
        labels: program.labels,
    }
}

impl Guest {
    fn run(&mut self, budget: Budget) -> Exit {
        self.engine
            .run(&mut self.hart, &self.memory, budget, &self.preempt)
    }

    fn a0(&self) -> u64 {
        self.hart.x(XReg::A0)
    }

    fn label(&self, name: &str) -> GuestAddr {
        let (_, offset) = self.labels.iter().find(|(label, _)| label == name).unwrap();
        GuestAddr(TEXT.0 + u64::from(*offset))
    }

    fn overwrite(&self, label: &str, text: &str) {
        let code = assemble_program(text).unwrap().bytes;
        self.memory.write_bytes(self.label(label), &code).unwrap();
    }
}

/// Loops, calls, indirect jumps and a straight line longer than a block.
fn busy_text() -> String {
    let straight = "addi a1, a1, 1\n".repeat(100);
    format!(
        "li   s1, 12
        outer:
            call work
            mv   a2, s1
        inner:
            addi a0, a0, 1
            addi a2, a2, -1
            bnez a2, inner
            andi t0, s1, 1
            beqz t0, even
            xor  a0, a0, s1
        even:
            {straight}
            addi s1, s1, -1
            bnez s1, outer
            ebreak
        work:
            la   t1, back
            add  a0, a0, a1
            jr   t1
        back:
            lbu  zero, 0(t1)
            ret"
    )
}

#[test]
fn a_budget_is_exact_at_every_count() {
    // One instruction at a time is what all other ways are measured against.
    let mut stepped = guest(&busy_text());
    let mut states = vec![(stepped.hart.pc(), stepped.hart.state.x)];
    while stepped.run(Budget::Instructions(1)) == Exit::BudgetSpent {
        states.push((stepped.hart.pc(), stepped.hart.state.x));
    }
    let total = states.len() - 1;
    assert!(
        total > 1500,
        "{total} instructions are too few to mean anything"
    );
    assert_eq!(stepped.engine.stats().insts, total as u64);

    let mut engine = InterpreterExecutor::new();
    let fresh = guest(&busy_text());
    for (n, state) in states.iter().enumerate() {
        let mut hart = Hart::new(TEXT);
        let budget = Budget::Instructions(n as u64);
        let exit = engine.run(&mut hart, &fresh.memory, budget, &fresh.preempt);
        assert_eq!(
            (exit, (hart.pc(), hart.state.x)),
            (Exit::BudgetSpent, *state),
            "after {n}"
        );
    }
    let mut hart = Hart::new(TEXT);
    let budget = Budget::Instructions(total as u64 + 1);
    assert_eq!(
        engine.run(&mut hart, &fresh.memory, budget, &fresh.preempt),
        Exit::Breakpoint
    );
}

#[test]
fn a_run_in_slices_ends_where_one_run_ends() {
    let mut whole = guest(&busy_text());
    assert_eq!(whole.run(Budget::Unlimited), Exit::Breakpoint);
    for slice in [2, 3, 7, 63, 64, 65, 100, 1000] {
        let mut sliced = guest(&busy_text());
        while sliced.run(Budget::Instructions(slice)) == Exit::BudgetSpent {}
        assert_eq!(
            sliced.hart.state.x, whole.hart.state.x,
            "in slices of {slice}"
        );
        assert_eq!(sliced.hart.pc(), whole.hart.pc());
        assert_eq!(sliced.engine.stats().insts, whole.engine.stats().insts);
    }
}

#[test]
fn every_kind_of_safepoint_sees_the_preempt_word() {
    let kinds = [
        ("a backward branch", "1: addi a0, a0, 1\n bnez a0, 1b"),
        ("a branch to itself", "1: beqz zero, 1b"),
        ("a backward jump", "1: addi a0, a0, 1\n j 1b"),
        ("a jump to itself", "j 0"),
        ("an indirect jump", "la a1, 1f\n1: addi a0, a0, 1\n jr a1"),
        ("calls and returns", "1: call 2f\n j 1b\n2: ret"),
        ("recursion without end", "1: addi a0, a0, 1\n jal ra, 1b"),
        ("16-bit forms", "1: c.addi a0, 1\n c.j 1b"),
    ];
    for (kind, text) in kinds {
        let mut guest = guest(text);
        guest.preempt.store(1, Ordering::Relaxed);
        // Bounded by a budget, so that a miss is a failure and not a hang.
        let exit = guest.run(Budget::Instructions(100_000));
        assert_eq!(exit, Exit::Preempted, "{kind}");
        // And the guest goes on where it was.
        guest.preempt.store(0, Ordering::Relaxed);
        assert_eq!(
            guest.run(Budget::Instructions(1000)),
            Exit::BudgetSpent,
            "{kind}"
        );
    }
}

#[test]
fn a_preempted_guest_ends_as_if_it_had_not_been() {
    let mut whole = guest(&busy_text());
    assert_eq!(whole.run(Budget::Unlimited), Exit::Breakpoint);
    let mut preempted = guest(&busy_text());
    preempted.preempt.store(1, Ordering::Relaxed);
    let mut n_stops = 0;
    loop {
        match preempted.run(Budget::Unlimited) {
            Exit::Preempted => n_stops += 1,
            exit => break assert_eq!(exit, Exit::Breakpoint),
        }
    }
    assert!(n_stops > 50, "{n_stops} stops");
    assert_eq!(preempted.hart.state.x, whole.hart.state.x);
    assert_eq!(preempted.engine.stats().insts, whole.engine.stats().insts);
}

#[test]
fn another_thread_stops_an_endless_loop() {
    // The loop counts in memory, where the other thread sees that it runs.
    let mut guest = guest("1: addi a0, a0, 1\n sd a0, 2047(a1)\n j 1b");
    guest.hart.set_x(XReg::A1, TEXT.0 + 1);
    let counter = GuestAddr(TEXT.0 + 2048);
    let (preempt, memory) = (&guest.preempt, &guest.memory);
    let exit = std::thread::scope(|scope| {
        scope.spawn(|| {
            while memory.load::<u64>(counter).unwrap() < 100_000 {
                std::thread::yield_now();
            }
            preempt.store(1, Ordering::Relaxed);
        });
        guest
            .engine
            .run(&mut guest.hart, memory, Budget::Unlimited, preempt)
    });
    assert_eq!(exit, Exit::Preempted);
    assert!(guest.a0() >= 100_000);
}

#[test]
fn execute_runs_one_block() {
    let mut guest = guest("addi a0, a0, 1\n bnez zero, 1f\n addi a0, a0, 2\n1: ecall");
    let step = |guest: &mut Guest| guest.engine.execute(&mut guest.hart, &guest.memory);
    assert_eq!(step(&mut guest), Exit::BudgetSpent);
    assert_eq!((guest.hart.pc().0 - TEXT.0, guest.a0()), (8, 1));
    assert_eq!(step(&mut guest), Exit::Ecall);
    assert_eq!((guest.hart.pc().0 - TEXT.0, guest.a0()), (12, 3));
    assert_eq!(step(&mut guest), Exit::Ecall);
    guest.hart.set_pc(GuestAddr(0x9_0000));
    let trap = Trap {
        cause: Cause::InstructionPageFault,
        tval: 0x9_0000,
    };
    assert_eq!(step(&mut guest), Exit::Trap(trap));
}

#[test]
fn execute_stops_before_what_cannot_be_fetched() {
    let mut guest = guest("addi a0, a0, 1\n .word 0xffffffff");
    assert_eq!(
        guest.engine.execute(&mut guest.hart, &guest.memory),
        Exit::BudgetSpent
    );
    assert_eq!(guest.a0(), 1);
    let trap = Trap {
        cause: Cause::IllegalInstruction,
        tval: 0xffff_ffff,
    };
    assert_eq!(
        guest.engine.execute(&mut guest.hart, &guest.memory),
        Exit::Trap(trap)
    );
}

#[test]
fn code_that_the_host_changes_is_seen_after_fence_i() {
    let mut guest = guest("again: addi a0, a0, 1\n fence.i\n ecall\n j again");
    assert_eq!(guest.run(Budget::Unlimited), Exit::Ecall);
    guest.overwrite("again", "addi a0, a0, 16");
    // No mapping changed and no fence.i came yet: the old code may still run.
    guest.hart.set_pc(GuestAddr(TEXT.0 + 4));
    assert_eq!(guest.run(Budget::Unlimited), Exit::Ecall);
    guest.hart.set_pc(TEXT);
    assert_eq!(guest.run(Budget::Unlimited), Exit::Ecall);
    assert_eq!(guest.a0(), 17);
    assert!(guest.engine.stats().blocks_invalidated > 0);
}

#[test]
fn code_that_is_remapped_is_seen_by_the_next_run() {
    let mut guest = guest("addi a0, a0, 1\n ebreak");
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    guest
        .memory
        .protect(TEXT, 4096, Prot::READ | Prot::WRITE)
        .unwrap();
    guest.hart.set_pc(TEXT);
    let trap = Trap {
        cause: Cause::InstructionPageFault,
        tval: TEXT.0,
    };
    assert_eq!(
        guest.run(Budget::Unlimited),
        Exit::Trap(trap),
        "no longer executable"
    );

    guest.memory.store(TEXT, 0x0205_0513_u32).unwrap(); // addi a0, a0, 32
    guest.memory.protect(TEXT, 4096, Prot::EXEC).unwrap();
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    assert_eq!(guest.a0(), 33);

    guest.memory.unmap(TEXT, 4096).unwrap();
    guest.hart.set_pc(TEXT);
    assert_eq!(guest.run(Budget::Unlimited), Exit::Trap(trap), "unmapped");
}

#[test]
fn unchanged_blocks_survive_changes_elsewhere() {
    let mut guest = guest("1: addi a0, a0, 1\n slti t0, a0, 10\n bnez t0, 1b\n ebreak");
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    let decoded = guest.engine.stats().blocks_decoded;
    guest
        .memory
        .map(GuestAddr(0x8_0000), 4096, Prot::EXEC)
        .unwrap();
    guest.hart = Hart::new(TEXT);
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    assert_eq!(
        (guest.a0(), guest.engine.stats().blocks_decoded),
        (10, decoded)
    );
    guest.engine.flush();
    guest.hart = Hart::new(TEXT);
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    assert_eq!(
        (guest.a0(), guest.engine.stats().blocks_decoded),
        (10, 2 * decoded)
    );
}

#[test]
fn more_code_than_the_cache_holds_still_runs() {
    // Two passes over 1.3 MB of blocks of two instructions.
    const N_BLOCKS: u64 = 160_000;
    let memory = GuestMemory::new(4 << 20).unwrap();
    let bytes = (N_BLOCKS * 8 + 64).next_multiple_of(4096);
    memory.map(TEXT, bytes, Prot::READ | Prot::WRITE).unwrap();
    for i in 0..N_BLOCKS {
        let at = TEXT.0 + 8 * i;
        memory.store(GuestAddr(at), 0x0015_0513_u32).unwrap(); // addi a0, a0, 1
        memory.store(GuestAddr(at + 4), 0x0040_006f_u32).unwrap(); // j 4
    }
    memory
        .store(GuestAddr(TEXT.0 + 8 * N_BLOCKS), 0x0010_0073_u32)
        .unwrap(); // ebreak
    memory.protect(TEXT, bytes, Prot::EXEC).unwrap();
    let mut engine = InterpreterExecutor::new();
    for _ in 0..2 {
        let mut hart = Hart::new(TEXT);
        let exit = engine.run(&mut hart, &memory, Budget::Unlimited, &AtomicU32::new(0));
        assert_eq!((exit, hart.x(XReg::A0)), (Exit::Breakpoint, N_BLOCKS));
    }
    assert!(
        engine.stats().blocks_decoded > N_BLOCKS,
        "the cache was meant to overflow"
    );
}

#[test]
fn an_odd_pc_of_the_caller_is_even_to_the_guest() {
    // Jumps clear bit 0; only a caller can set an odd pc.
    let mut guest = guest("la a1, 1f\n addi a1, a1, 1\n jalr ra, 0(a1)\n1: ebreak");
    assert_eq!(guest.run(Budget::Unlimited), Exit::Breakpoint);
    assert!(guest.hart.pc().is_aligned(2));
}

#[test]
fn stats_count_what_retired() {
    let mut guest = guest("1: addi a0, a0, 1\n slti t0, a0, 5\n bnez t0, 1b\n ecall");
    assert_eq!(guest.run(Budget::Unlimited), Exit::Ecall);
    let stats = guest.engine.stats();
    assert_eq!(stats.insts, 15, "an ecall does not retire here");
    assert!(stats.blocks >= 5 && stats.blocks_decoded >= 2, "{stats:?}");
}
