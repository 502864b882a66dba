//! Control flow: how nodes begin and end, and every way out of a region.
//!
//! ```text
//!   way out              emits
//!   side exit, jump      flush; tail jump through the target's slot
//!   the same, inlined    flush; call through the slot; go on behind the call
//!   guest call           flush; call through the slot; compare what came back
//!   guest return         flush; return ra
//!   to the interpreter   flush; return pc | 1
//! ```

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{Block, InstBuilder, Value};
use vm_core::isa::format::Jalr;
use vm_core::{FReg, XReg};

use super::{ALL_REGS, End, NodeId, RegSet, Target, Translator, abi};
use crate::cache::arena::ARENA_BYTES;

impl Translator<'_> {
    /// From the function's entry to node 0.
    pub(super) fn prologue(&mut self) {
        self.all_in_the_hart();
        if self.makes_host_calls() {
            // Guest recursion is host recursion: leave before the stack ends.
            let rsp = self.b.ins().get_stack_pointer(I64);
            let limit = self.engine(abi::STACK_LIMIT);
            let too_deep = self.b.ins().icmp(IntCC::UnsignedLessThan, rsp, limit);
            let (leave, go_on) = (self.cold_block(), self.b.create_block());
            self.b.ins().brif(too_deep, leave, &[], go_on, &[]);
            self.switch_to(leave);
            let entry = self.iconst(self.region.entry);
            self.b.ins().return_(&[entry]);
            self.switch_to(go_on);
        }
        self.enter_node(0);
    }

    fn all_in_the_hart(&mut self) {
        self.cached = 0;
        self.dirty = 0;
        self.written = 0;
    }

    fn makes_host_calls(&self) -> bool {
        self.region
            .nodes
            .iter()
            .any(|node| matches!(node.end, End::Call { .. }) || node.context != 0)
    }

    /// Counting flavour: takes the node's instructions off the budget, or
    /// leaves the rest of it to the interpreter.
    pub(super) fn count(&mut self, pc: u64, insts: usize) {
        if insts == 0 {
            return;
        }
        let left = self.load_hart(I64, abi::word(abi::BUDGET));
        let rest = self.b.ins().iadd_imm_s(left, -(insts as i64));
        let spent = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, rest, 0);
        let (leave, go_on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(spent, leave, &[], go_on, &[]);
        self.switch_to(leave);
        self.store_all();
        let pc = self.iconst(pc | 1);
        self.b.ins().return_(&[pc]);
        self.switch_to(go_on);
        self.store_hart(rest, abi::word(abi::BUDGET));
    }

    /// Counting flavour: gives back what a node took for instructions that it
    /// has not executed when it is left after `executed` of them.
    pub(super) fn refund(&mut self, executed: usize) {
        let left = self.region.nodes[self.node].insts.len() - executed;
        if self.flavour.counting && left > 0 {
            let rest = self.load_hart(I64, abi::word(abi::BUDGET));
            let rest = self.b.ins().iadd_imm_s(rest, left as i64);
            self.store_hart(rest, abi::word(abi::BUDGET));
        }
    }

    pub(super) fn end(&mut self, end: End) {
        match end {
            End::Goto(target) => {
                self.settle_for(&[target]);
                self.go(target);
            }
            End::Branch { taken, fall } => {
                let condition = self.condition.take().expect("a branch was just translated");
                self.settle_for(&[taken, fall]);
                let taken_block = self.edge_block(taken);
                let fall_block = self.edge_block(fall);
                self.b
                    .ins()
                    .brif(condition, taken_block.block, &[], fall_block.block, &[]);
                self.fill_edge(taken_block, taken);
                self.fill_edge(fall_block, fall);
            }
            End::Call {
                callee,
                ret_pc,
                cont,
            } => self.guest_call(callee, ret_pc, cont),
            End::Return => self.guest_return(),
            End::Jump => {
                let target = self.jump_target.take().expect("a jump was just translated");
                self.flush(ALL_REGS);
                self.poll_flushed(None, Some(target));
                self.refuse_high(target);
                self.transfer(target, None);
            }
            End::Interpret(pc) => self.leave_to_interpreter(pc),
        }
    }

    /// `jalr`: where it goes, and its link.
    pub(super) fn indirect(&mut self, a: Jalr) {
        let x = self.x(a.rs1);
        let sum = if a.imm == 0 {
            x
        } else {
            self.b.ins().iadd_imm_s(x, i64::from(a.imm))
        };
        let target = self.b.ins().band_imm_s(sum, -2);
        self.jump_target = Some(target);
        let link = self.iconst(self.at.next_pc());
        self.set_x(a.rd, link);
    }

    // Edges inside the region.

    /// Before the end of a node: brings registers into the state in which
    /// they cross to any of `targets`, and stores what dies here.
    fn settle_for(&mut self, targets: &[Target]) {
        let (mut live, mut needed, mut cached, mut leaves) = (0, 0, 0, false);
        for &target in targets {
            match target {
                Target::Node(id) => {
                    live |= self.flow.live[id];
                    needed |= self.flow.needed[id];
                    cached |= self.flow.cached[id];
                }
                Target::Outside(_) => leaves = true,
            }
        }
        self.flush(!live & needed);
        if !leaves {
            let dropped = !(live | needed);
            self.before_overwrite(dropped);
            self.dirty &= !dropped;
        }
        self.settle(cached);
    }

    /// An edge gets a block of its own only if something happens on it.
    fn edge_block(&mut self, target: Target) -> Edge {
        match target {
            Target::Node(id) => {
                let missing = self.flow.cached[id] & !self.cached;
                let dying = self.dirty & !self.flow.live[id] & self.flow.needed[id];
                let dirtied = (self.flow.dirty[id] & !self.dirty) >> 32;
                if missing == 0 && dirtied == 0 && dying == 0 && !self.polls(id) {
                    Edge {
                        block: self.blocks[id],
                        is_own: false,
                    }
                } else {
                    Edge {
                        block: self.b.create_block(),
                        is_own: true,
                    }
                }
            }
            Target::Outside(_) => Edge {
                block: self.cold_block(),
                is_own: true,
            },
        }
    }

    fn fill_edge(&mut self, edge: Edge, target: Target) {
        if edge.is_own {
            let known = self.known();
            self.switch_to(edge.block);
            self.go(target);
            self.restore(known);
        }
    }

    fn go(&mut self, target: Target) {
        match target {
            Target::Node(id) => {
                if self.polls(id) {
                    self.poll(id);
                }
                self.enter_node(id);
            }
            Target::Outside(pc) => self.leave(pc),
        }
    }

    fn polls(&self, to: NodeId) -> bool {
        self.flow.is_back_edge(self.node, to)
    }

    /// Jumps to a node, giving it the registers that it expects.
    fn enter_node(&mut self, id: NodeId) {
        self.flush(!self.flow.live[id] & self.flow.needed[id]);
        let missing = self.flow.cached[id] & !self.cached;
        self.load(missing);
        self.guard_boxes(self.flow.dirty[id] & !self.dirty, id);
        self.b.ins().jump(self.blocks[id], &[]);
    }

    fn load(&mut self, set: RegSet) {
        for r in XReg::ALL {
            if set & u64::from(r.bit()) != 0 {
                self.x(r);
            }
        }
        for r in FReg::ALL {
            if set & u64::from(r.bit()) << 32 != 0 {
                self.load_for_border(r);
            }
        }
    }

    // Safepoints.

    /// On the way to node `to`: leaves with Preempted if the preempt word is
    /// set. The load is atomic so that it is not merged with one before the
    /// loop.
    fn poll(&mut self, to: NodeId) {
        if self.flavour.single {
            return;
        }
        let known = self.known();
        let go_on = self.b.create_block();
        let leave = self.branch_if_preempted(go_on);
        self.switch_to(leave);
        self.leave_before(to, abi::POLLED);
        self.restore(known);
        self.switch_to(go_on);
    }

    /// The same where everything is in the hart already and the address may
    /// be a value.
    fn poll_flushed(&mut self, pc: Option<u64>, target: Option<Value>) {
        if self.flavour.single {
            return;
        }
        let go_on = self.b.create_block();
        let leave = self.branch_if_preempted(go_on);
        self.switch_to(leave);
        let polled = self.iconst(abi::POLLED);
        self.store_hart(polled, abi::word(abi::STALE));
        let pc = match (pc, target) {
            (Some(pc), _) => self.iconst(pc | 1),
            (None, Some(target)) => self.b.ins().bor_imm_u(target, 1),
            (None, None) => unreachable!("a poll has an address to go on at"),
        };
        self.b.ins().return_(&[pc]);
        self.switch_to(go_on);
    }

    /// Before a jump to another region, everything flushed. A cycle through
    /// several regions has no back edge in any of them, but it cannot lead
    /// from each to one with a higher entry.
    fn poll_outside(&mut self, pc: u64) {
        let node = &self.region.nodes[self.node];
        let last_pc = node.insts.last().map_or(node.pc, |last| last.pc);
        if pc <= last_pc.max(self.region.entry) {
            self.poll_flushed(Some(pc), None);
        }
    }

    fn branch_if_preempted(&mut self, go_on: Block) -> Block {
        let word = self.engine(abi::PREEMPT);
        let flags = self.hart_flags.with_alias_region(None);
        let preempt = self.b.ins().atomic_load(I32, flags, word);
        let leave = self.cold_block();
        self.b.ins().brif(preempt, leave, &[], go_on, &[]);
        leave
    }

    /// Stores what is dirty on a way out; the way on knows what it knew.
    pub(super) fn store_all(&mut self) {
        let known = self.known();
        self.store(self.dirty);
        self.restore(known);
    }

    // Ways out.

    /// The interpreter goes on at `pc`, all host frames gone.
    pub(super) fn leave_to_interpreter(&mut self, pc: u64) {
        self.refund(self.index);
        self.store_all();
        let pc = self.iconst(pc | 1);
        self.b.ins().return_(&[pc]);
    }

    /// The interpreter goes on at node `to`, told which registers have older
    /// values in the hart and why.
    pub(super) fn leave_before(&mut self, to: NodeId, why: u64) {
        let stale = self.written & !self.dirty & !self.flow.needed[to];
        let word = self.iconst(stale | why);
        self.store_hart(word, abi::word(abi::STALE));
        self.leave_to_interpreter(self.region.nodes[to].pc);
    }

    /// A side exit or jump to a known address.
    fn leave(&mut self, pc: u64) {
        self.flush(ALL_REGS);
        if pc >> 32 != 0 {
            // Only the guest's space has slots; the interpreter faults there.
            let pc = self.iconst(pc | 1);
            self.b.ins().return_(&[pc]);
            return;
        }
        if self.flavour.single {
            let pc = self.iconst(pc);
            self.b.ins().return_(&[pc]);
            return;
        }
        self.poll_outside(pc);
        let target = self.iconst(pc);
        self.transfer(target, Some(pc));
    }

    /// A guest call as a host call; goes on at `cont`.
    fn guest_call(&mut self, callee: Option<u64>, ret_pc: u64, cont: Target) {
        let target = match callee {
            Some(pc) => self.iconst(pc),
            None => self.jump_target.take().expect("a jump was just translated"),
        };
        self.flush(ALL_REGS);
        if self.flavour.single {
            self.b.ins().return_(&[target]);
            return;
        }
        match callee {
            Some(pc) if pc >> 32 != 0 => {
                let pc = self.iconst(pc | 1);
                self.b.ins().return_(&[pc]);
                return;
            }
            Some(_) => {}
            None => self.refuse_high(target),
        }
        let back = self.call_slot(target, callee);
        self.go_on_at(back, ret_pc, cont);
    }

    /// Continues at `cont` if `back` is `ret_pc`, else returns it further.
    fn go_on_at(&mut self, back: Value, ret_pc: u64, cont: Target) {
        let arrived = self
            .b
            .ins()
            .icmp_imm_s(IntCC::Equal, back, ret_pc.cast_signed());
        let (go_on, elsewhere) = (self.b.create_block(), self.cold_block());
        self.b.ins().brif(arrived, go_on, &[], elsewhere, &[]);
        self.switch_to(elsewhere);
        self.b.ins().return_(&[back]);
        self.switch_to(go_on);
        self.all_in_the_hart();
        match cont {
            Target::Node(id) => {
                if self.polls(id) {
                    self.poll_flushed(Some(ret_pc), None);
                }
                self.enter_node(id);
            }
            Target::Outside(pc) => self.tail_or_call(pc),
        }
    }

    fn guest_return(&mut self) {
        let target = self
            .jump_target
            .take()
            .expect("a return was just translated");
        let node = &self.region.nodes[self.node];
        if node.context == 0 {
            self.flush(ALL_REGS);
            self.b.ins().return_(&[target]);
            return;
        }
        // Inlined: the way back is a jump, usually to where the call was.
        let context = self.region.contexts[node.context];
        let arrived = self
            .b
            .ins()
            .icmp_imm_s(IntCC::Equal, target, context.ret_pc.cast_signed());
        let (go_on, elsewhere) = (self.b.create_block(), self.cold_block());
        match context.cont {
            Target::Node(id) => self.settle(self.flow.cached[id]),
            Target::Outside(_) => {}
        }
        self.b.ins().brif(arrived, go_on, &[], elsewhere, &[]);
        let known = self.known();
        self.switch_to(elsewhere);
        self.flush(ALL_REGS);
        self.b.ins().return_(&[target]);
        self.restore(known);
        self.switch_to(go_on);
        match context.cont {
            Target::Node(id) => {
                if self.polls(id) {
                    self.poll(id);
                }
                self.enter_node(id);
            }
            Target::Outside(pc) => {
                self.flush(ALL_REGS);
                self.tail_or_call_from(context.parent, pc);
            }
        }
    }

    /// Goes to `target`, which is `pc` if known, for good: out of the region,
    /// or out of an inlined callee and then on in its caller.
    fn transfer(&mut self, target: Value, pc: Option<u64>) {
        if self.flavour.single {
            self.b.ins().return_(&[target]);
            return;
        }
        let context = self.region.nodes[self.node].context;
        self.transfer_from(context, target, pc);
    }

    fn tail_or_call(&mut self, pc: u64) {
        self.tail_or_call_from(self.region.nodes[self.node].context, pc);
    }

    fn tail_or_call_from(&mut self, context: usize, pc: u64) {
        self.poll_outside(pc);
        let target = self.iconst(pc);
        self.transfer_from(context, target, Some(pc));
    }

    fn transfer_from(&mut self, context: usize, target: Value, pc: Option<u64>) {
        if context == 0 {
            let code = self.slot_entry(target, pc);
            let args = [self.hart, self.base, target];
            self.b
                .ins()
                .return_call_indirect(self.region_sig, code, &args);
            return;
        }
        let back = self.call_slot(target, pc);
        let context = self.region.contexts[context];
        match context.cont {
            Target::Node(_) => self.go_on_at(back, context.ret_pc, context.cont),
            Target::Outside(_) => {
                self.b.ins().return_(&[back]);
            }
        }
    }

    fn call_slot(&mut self, target: Value, pc: Option<u64>) -> Value {
        let code = self.slot_entry(target, pc);
        let args = [self.hart, self.base, target];
        let call = self.b.ins().call_indirect(self.region_sig, code, &args);
        self.b.inst_results(call)[0]
    }

    /// Code for a guest address: the arena ends where the slots begin.
    fn slot_entry(&mut self, target: Value, pc: Option<u64>) -> Value {
        debug_assert!(pc.is_none_or(|pc| pc >> 32 == 0), "no slot there");
        let slots = self.engine(abi::SLOTS);
        // Slots change while code runs, so this load is not readonly.
        let flags = self.hart_flags.with_alias_region(None);
        let offset = match pc.and_then(|pc| i32::try_from(pc * 2).ok()) {
            Some(displacement) => self.b.ins().uload32(flags, slots, displacement),
            None => {
                let doubled = self.b.ins().ishl_imm_u(target, 1);
                let slot = self.b.ins().iadd(slots, doubled);
                self.b.ins().uload32(flags, slot, 0)
            }
        };
        let end = self.b.ins().iadd(slots, offset);
        self.b.ins().iadd_imm_s(end, -(ARENA_BYTES as i64))
    }

    /// Addresses beyond the guest's space have no slot: the interpreter
    /// faults there.
    fn refuse_high(&mut self, target: Value) {
        let high = self.b.ins().ushr_imm_u(target, 32);
        let (leave, go_on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(high, leave, &[], go_on, &[]);
        self.switch_to(leave);
        let pc = self.b.ins().bor_imm_u(target, 1);
        self.b.ins().return_(&[pc]);
        self.switch_to(go_on);
    }
}

/// Where a branch goes: to a node, or to code on the way there.
struct Edge {
    block: Block,
    is_own: bool,
}
