//! The seam to tiering drivers, which only this crate can touch.

use std::sync::atomic::AtomicU32;

use vm_core::hart::Hart;
use vm_core::isa::asm::assemble_program;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};

use super::thread::Events;
use super::tier::NoTier;
use super::{Control, InterpCore, Stop, Tier};
use crate::exit::Exit;

const TEXT: GuestAddr = GuestAddr(0x1_0000);

struct Guest {
    core: InterpCore,
    memory: GuestMemory,
    hart: Hart,
    labels: Vec<(String, u32)>,
}

fn guest(text: &str) -> Guest {
    let program = assemble_program(text).unwrap();
    let memory = GuestMemory::new(1 << 20).unwrap();
    memory.map(TEXT, 4096, Prot::READ | Prot::WRITE).unwrap();
    memory.write_bytes(TEXT, &program.bytes).unwrap();
    memory.protect(TEXT, 4096, Prot::EXEC).unwrap();
    let (core, hart) = (InterpCore::new(), Hart::new(TEXT));
    Guest {
        core,
        memory,
        hart,
        labels: program.labels,
    }
}

impl Guest {
    fn label(&self, name: &str) -> u64 {
        let (_, offset) = self.labels.iter().find(|(label, _)| label == name).unwrap();
        TEXT.0 + u64::from(*offset)
    }

    fn run(&mut self, control: &mut Control<'_>, tier: &mut impl Tier) -> Stop {
        self.core
            .run(&mut self.hart.state, &self.memory, control, tier)
    }
}

fn control(preempt: &AtomicU32) -> Control<'_> {
    Control {
        budget: u64::MAX,
        preempt,
        nested: false,
        depth: 0,
    }
}

/// Notes what it is asked and takes over at the `takes`-th question.
struct Asked {
    threshold: u32,
    takes: usize,
    /// The pc of each question and the value of `a0`'s loop counter then.
    at: Vec<u64>,
}

impl Tier for Asked {
    fn threshold(&self) -> u32 {
        self.threshold
    }
    fn hot(&mut self, pc: u64, core: &InterpCore) -> bool {
        assert!(core.was_executed(pc), "hot before it was decoded");
        self.at.push(pc);
        self.at.len() == self.takes
    }
}

const LOOP: &str = "entry: li a1, 100000\n head: addi a0, a0, 1\n bne a0, a1, head\n ebreak";

#[test]
fn a_loop_is_handed_over_when_it_has_seen_that_many_events() {
    let mut guest = guest(LOOP);
    let mut tier = Asked {
        threshold: 50,
        takes: 1,
        at: Vec::new(),
    };
    let preempt = AtomicU32::new(0);
    assert_eq!(guest.run(&mut control(&preempt), &mut tier), Stop::Handover);
    assert_eq!((guest.hart.pc().0, tier.at.len()), (guest.label("head"), 1));
    // The first arrival was no event: control ran into the loop.
    assert_eq!(guest.hart.x(XReg::A0), 50);
    // Whoever declines is asked again later, and not each time.
    tier.takes = 4;
    assert_eq!(guest.run(&mut control(&preempt), &mut tier), Stop::Handover);
    let asked_every = (guest.hart.x(XReg::A0) - 50) / 2;
    assert!(
        (20..=40).contains(&asked_every),
        "asked after {asked_every} events"
    );
}

#[test]
fn a_threshold_of_zero_hands_over_before_anything_ran() {
    let mut guest = guest(LOOP);
    let mut tier = Asked {
        threshold: 0,
        takes: 1,
        at: Vec::new(),
    };
    let stop = guest.run(&mut control(&AtomicU32::new(0)), &mut tier);
    assert_eq!(
        (stop, guest.hart.pc().0),
        (Stop::Handover, guest.label("entry"))
    );
    assert_eq!(guest.core.stats().insts, 0);
}

#[test]
fn calls_and_indirect_jumps_are_events_and_forward_branches_are_not() {
    let text = "
        entry:
            li   a1, 1000
            la   a2, indirect
        head:
            call callee
            jr   a2
            ebreak
        indirect:
            bnez a1, forward
            nop
        forward:
            addi a1, a1, -1
            j    on
            nop
        on: bnez a1, head
            ebreak
        callee:
            ret";
    let mut guest = guest(text);
    let mut tier = Asked {
        threshold: 10,
        takes: 0,
        at: Vec::new(),
    };
    let stop = guest.run(&mut control(&AtomicU32::new(0)), &mut tier);
    assert_eq!(stop, Stop::Exit(Exit::Breakpoint));
    for (label, is_hot) in [
        ("entry", false),
        ("head", true),
        ("callee", true),
        ("indirect", true),
        ("forward", false),
        ("on", false),
    ] {
        assert_eq!(tier.at.contains(&guest.label(label)), is_hot, "{label}");
        assert!(guest.core.was_executed(guest.label(label)), "{label}");
    }
}

#[test]
fn a_nested_run_ends_at_its_own_return() {
    let text = "
        outer:
            mv   s0, ra
            call inner
            call inner
            addi a0, a0, 10
            mv   ra, s0
            ret
        inner:
            addi a0, a0, 1
            ret";
    // Unlimited, and with budgets so small that it runs carefully.
    for budget in [u64::MAX, 12] {
        let mut guest = guest(text);
        guest.hart.set_x(XReg::Ra, 0x5_0000);
        let preempt = AtomicU32::new(0);
        let mut control = Control {
            budget,
            nested: true,
            ..control(&preempt)
        };
        assert_eq!(guest.run(&mut control, &mut NoTier), Stop::Returned);
        assert_eq!((guest.hart.pc().0, guest.hart.x(XReg::A0)), (0x5_0000, 12));
        assert_eq!((control.depth, budget - control.budget), (0, 10));
    }
}

#[test]
fn depth_counts_calls_that_have_not_returned() {
    let mut guest = guest("call a\n a: call b\n b: call c\n c: ecall\n ret\n ebreak");
    let preempt = AtomicU32::new(0);
    let mut control = control(&preempt);
    assert_eq!(
        guest.run(&mut control, &mut NoTier),
        Stop::Exit(Exit::Ecall)
    );
    assert_eq!(control.depth, 3);
    guest.hart.state.pc += 4;
    guest.hart.set_x(XReg::Ra, guest.hart.pc().0 + 4);
    assert_eq!(
        guest.run(&mut control, &mut NoTier),
        Stop::Exit(Exit::Breakpoint)
    );
    assert_eq!(control.depth, 2);
}

#[test]
fn a_step_is_one_instruction_wherever_it_stands() {
    let mut guest = guest("addi a0, a0, 1\n lw zero, 0(a1)\n j 8\n nop\n addi zero, a0, 1\n ecall");
    guest.hart.set_x(XReg::A1, TEXT.0);
    let mut pcs = Vec::new();
    let exit = loop {
        pcs.push(guest.hart.pc().0 - TEXT.0);
        if let Some(exit) = guest.core.step(&mut guest.hart.state, &guest.memory) {
            break exit;
        }
    };
    assert_eq!((exit, pcs), (Exit::Ecall, vec![0, 4, 8, 16, 20]));
    assert_eq!((guest.hart.x(XReg::A0), guest.hart.x(XReg::Zero)), (1, 0));
    assert_eq!(guest.core.stats().insts, 4);
}

#[test]
fn a_small_cache_forgets_and_goes_on() {
    // 300 blocks of two instructions and their ends, a chunk of room, twice.
    let body: String = (0..300)
        .map(|_| "addi a0, a0, 1\n beqz a0, done\n")
        .collect();
    let text = format!("again: {body} xori a1, a1, 1\n bnez a1, again\n done: ebreak");
    let mut guest = guest(&text);
    guest.core = InterpCore::with(1024, Events::Ignored);
    let stop = guest.run(&mut control(&AtomicU32::new(0)), &mut NoTier);
    assert_eq!(
        (stop, guest.hart.x(XReg::A0)),
        (Stop::Exit(Exit::Breakpoint), 600)
    );
}
