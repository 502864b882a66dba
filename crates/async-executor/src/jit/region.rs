//! Which blocks are compiled together, and where guest registers live at
//! their borders.
//!
//! A region starts at one guest address and follows the blocks that the
//! interpreter has executed (its decoded blocks are the profile): a function
//! and its small callees, roughly. An inlined callee gets a [`Context`] of its
//! own, so that one guest block can stand in a region several times.
//!
//! ```text
//!   entry ─> [node]──branch──>[node]<──┐      edges to nodes keep registers
//!               │                └─────┘      in host registers
//!               └─side exit─> cold: flush, jump to the slot of its target
//! ```
//!
//! [`Flow`] then answers, per node and register, by three small data-flow
//! problems on one 64-bit set (32 integer, 32 floating-point registers):
//!
//! - *live*: read in the region before it is written, calls ending the path;
//! - *needed*: like live, but every exit reads all registers, and so does a
//!   way that never ends. A register that is not needed is not stored: it is
//!   *stale* in the hart until it is overwritten, which is then certain to
//!   happen, on every way and before the same node comes again. Who leaves the
//!   region before that (at a poll) says which registers are stale, and the
//!   interpreter goes on until they are not;
//! - *dirty* (may differ from the hart's copy) and *cached* (surely in a host
//!   register) at the node's start.

use std::collections::HashMap;

use vm_core::addr::PAGE_BYTES;
use vm_core::isa::{Inst, decode};
use vm_core::mem::GuestMemory;
use vm_core::{GuestAddr, XReg};

use crate::block::{BLOCK_INSTS_MAX, end_of};

/// Bits of integer registers, then of floating-point registers.
pub(crate) type RegSet = u64;
/// Every register that can be cached; `x0` is a constant.
pub(crate) const ALL_REGS: RegSet = !1;

/// Index of a node.
pub(crate) type NodeId = usize;

/// One instruction of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) pc: u64,
    pub(crate) inst: Inst,
    /// Its encoding, as fetched.
    pub(crate) bits: u32,
    pub(crate) len: u8,
}

impl Located {
    pub(crate) fn next_pc(&self) -> u64 {
        self.pc + u64::from(self.len)
    }
}

/// Where an edge leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a node of this region.
    Node(NodeId),
    /// Out of it, to this guest address.
    Outside(u64),
}

/// How a node ends. Its last instruction is the one that decides, except for
/// [`End::Goto`] into the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Falls through, jumps, or enters an inlined callee.
    Goto(Target),
    /// A conditional branch.
    Branch {
        /// Where it goes if the condition holds.
        taken: Target,
        /// Where it goes on otherwise.
        fall: Target,
    },
    /// A host call for a guest call; afterwards the callee should be back at
    /// the address of `cont`.
    Call {
        /// The callee, `None` where a register says it.
        callee: Option<u64>,
        /// The return address.
        ret_pc: u64,
        /// What follows the call.
        cont: Target,
    },
    /// A guest return.
    Return,
    /// A jump to where a register says.
    Jump,
    /// The interpreter goes on at this address: an environment call, a
    /// breakpoint, a fence.i or what cannot be decoded.
    Interpret(u64),
}

/// A copy of a callee inside its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// The context that called.
    pub(crate) parent: usize,
    /// Its return address.
    pub(crate) ret_pc: u64,
    /// What follows in the caller.
    pub(crate) cont: Target,
    /// Address of the callee.
    callee: u64,
    depth: usize,
}

/// Straight-line code of a region.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Index of its context; 0 is the region's own.
    pub(crate) context: usize,
    pub(crate) pc: u64,
    pub(crate) insts: Vec<Located>,
    pub(crate) end: End,
}

/// Blocks to be compiled as one function. Node 0 is the entry.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) entry: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) contexts: Vec<Context>,
    pub(crate) inst_count: usize,
}

/// Bounds of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Guest instructions of a region, inlined ones included, after which no
    /// further block comes in.
    pub(crate) insts: usize,
    /// Guest instructions of a callee that may be inlined.
    pub(crate) inline_insts: usize,
    /// How deep callees nest.
    pub(crate) inline_depth: usize,
    /// How often one callee may nest in itself.
    pub(crate) inline_recursion: usize,
    /// Nodes end where a page does. The profile has that in it already.
    pub(crate) one_page: bool,
}

impl Limits {
    /// Most instructions of a region. Blocks come in while there is room for
    /// one more, and are filled later: to cut those short at `insts` already
    /// would leave loops half in their regions.
    fn insts_in_all(&self) -> usize {
        self.insts.saturating_mul(2)
    }
}

/// Displacement of a conditional branch.
fn branch_offset(inst: Inst) -> Option<i32> {
    match inst {
        Inst::Beq(a)
        | Inst::Bne(a)
        | Inst::Blt(a)
        | Inst::Bge(a)
        | Inst::Bltu(a)
        | Inst::Bgeu(a) => Some(a.imm),
        _ => None,
    }
}

fn at(pc: u64, memory: &GuestMemory) -> Option<Located> {
    let bits = memory.fetch(GuestAddr(pc)).ok()?;
    let decoded = decode(bits).ok()?;
    Some(Located {
        pc,
        inst: decoded.inst,
        bits,
        len: decoded.len,
    })
}

struct Builder<'a> {
    memory: &'a GuestMemory,
    executed: &'a dyn Fn(u64) -> bool,
    limits: Limits,
    region: Region,
    ids: HashMap<(usize, u64), NodeId>,
    work: Vec<NodeId>,
}

impl Region {
    /// The region at `entry`. Blocks for which `executed` says no become side
    /// exits. `None` where not even one instruction can be compiled.
    pub(crate) fn discover(
        entry: u64,
        memory: &GuestMemory,
        executed: &dyn Fn(u64) -> bool,
        limits: Limits,
    ) -> Option<Region> {
        let root = Context {
            parent: 0,
            ret_pc: 0,
            cont: Target::Outside(0),
            callee: entry,
            depth: 0,
        };
        let mut builder = Builder {
            memory,
            executed,
            limits,
            region: Region {
                entry,
                nodes: Vec::new(),
                contexts: vec![root],
                inst_count: 0,
            },
            ids: HashMap::new(),
            work: Vec::new(),
        };
        builder.node(0, entry);
        let mut next = 0;
        while next < builder.work.len() {
            let id = builder.work[next];
            next += 1;
            builder.fill(id);
        }
        let region = builder.region;
        (!region.nodes[0].insts.is_empty()).then_some(region)
    }

    /// The one block at `entry`, all of whose ends leave it.
    pub(crate) fn single(entry: u64, memory: &GuestMemory) -> Option<Region> {
        let limits = Limits {
            insts: BLOCK_INSTS_MAX,
            inline_insts: 0,
            inline_depth: 0,
            inline_recursion: 0,
            one_page: true,
        };
        let mut region = Region::discover(entry, memory, &|_| false, limits)?;
        region.nodes.truncate(1);
        // Every way out leaves, that to the block itself too.
        let out = |target: &mut Target, pc: u64| {
            if let Target::Node(_) = target {
                *target = Target::Outside(pc);
            }
        };
        match &mut region.nodes[0].end {
            End::Goto(target) => out(target, entry),
            End::Branch { taken, fall } => {
                out(taken, entry);
                out(fall, entry);
            }
            End::Call { cont, ret_pc, .. } => out(cont, *ret_pc),
            End::Return | End::Jump | End::Interpret(_) => {}
        }
        region.inst_count = region.nodes[0].insts.len();
        Some(region)
    }

    /// Successors inside the region; `true` with those that are reached with
    /// all registers in the hart.
    pub(crate) fn successors(&self, id: NodeId) -> Vec<(NodeId, bool)> {
        let node = &self.nodes[id];
        let to = |target: Target| match target {
            Target::Node(to) => Some((to, false)),
            Target::Outside(_) => self.after_leaving(node.context),
        };
        match node.end {
            End::Goto(target) => to(target).into_iter().collect(),
            End::Branch { taken, fall } => to(taken).into_iter().chain(to(fall)).collect(),
            End::Call {
                cont: Target::Node(cont),
                ..
            } => vec![(cont, true)],
            End::Return if node.context != 0 => {
                let context = &self.contexts[node.context];
                match context.cont {
                    Target::Node(cont) => vec![(cont, false)],
                    Target::Outside(_) => self.after_leaving(context.parent).into_iter().collect(),
                }
            }
            End::Call { .. } | End::Jump => self.after_leaving(node.context).into_iter().collect(),
            End::Return | End::Interpret(_) => Vec::new(),
        }
    }

    /// The way out of an inlined callee is a host call, and goes on behind
    /// the guest's call like any other.
    fn after_leaving(&self, context: usize) -> Option<(NodeId, bool)> {
        match self.contexts[context].cont {
            Target::Node(cont) if context != 0 => Some((cont, true)),
            _ => None,
        }
    }
}

impl Builder<'_> {
    fn node(&mut self, context: usize, pc: u64) -> NodeId {
        if let Some(&id) = self.ids.get(&(context, pc)) {
            return id;
        }
        let id = self.region.nodes.len();
        self.region.nodes.push(Node {
            context,
            pc,
            insts: Vec::new(),
            end: End::Interpret(pc),
        });
        self.ids.insert((context, pc), id);
        self.work.push(id);
        id
    }

    /// A node if the block was executed and there is room, else a way out.
    fn target(&mut self, context: usize, pc: u64) -> Target {
        if self.ids.contains_key(&(context, pc)) || (self.has_room() && (self.executed)(pc)) {
            Target::Node(self.node(context, pc))
        } else {
            Target::Outside(pc)
        }
    }

    /// Whether a further block may come in.
    fn has_room(&self) -> bool {
        self.region.inst_count < self.limits.insts
    }

    fn fill(&mut self, id: NodeId) {
        let Node {
            context, pc: start, ..
        } = self.region.nodes[id];
        let mut insts = Vec::new();
        let mut pc = start;
        let end = loop {
            if pc != start && (self.ids.contains_key(&(context, pc)) || (self.executed)(pc)) {
                break End::Goto(self.target(context, pc));
            }
            let page_ends = self.limits.one_page && pc / PAGE_BYTES != start / PAGE_BYTES;
            if insts.len() >= BLOCK_INSTS_MAX || page_ends {
                break End::Goto(self.target(context, pc));
            }
            if self.region.inst_count >= self.limits.insts_in_all() {
                break End::Goto(Target::Outside(pc));
            }
            let Some(located) = at(pc, self.memory) else {
                break End::Interpret(pc);
            };
            if matches!(
                located.inst,
                Inst::Ecall(_) | Inst::Ebreak(_) | Inst::FenceI(_)
            ) {
                break End::Interpret(pc);
            }
            insts.push(located);
            self.region.inst_count += 1;
            if end_of(located.inst).is_some() {
                break self.end_of(context, located);
            }
            pc = located.next_pc();
        };
        let node = &mut self.region.nodes[id];
        node.insts = insts;
        node.end = end;
    }

    fn end_of(&mut self, context: usize, last: Located) -> End {
        let Located { pc, inst, .. } = last;
        if let Some(offset) = branch_offset(inst) {
            // The way back first: a loop's body belongs to it.
            let taken_pc = pc.wrapping_add_signed(offset.into());
            let taken = self.target(context, taken_pc);
            let fall = self.target(context, last.next_pc());
            return End::Branch { taken, fall };
        }
        match inst {
            Inst::Jal(a) => {
                let callee = pc.wrapping_add_signed(a.imm.into());
                if a.rd != XReg::Ra {
                    return End::Goto(self.target(context, callee));
                }
                let ret_pc = last.next_pc();
                if self.should_inline(context, callee) {
                    let cont = self.continuation(context, ret_pc);
                    let depth = self.region.contexts[context].depth + 1;
                    let inlined = self.region.contexts.len();
                    self.region.contexts.push(Context {
                        parent: context,
                        ret_pc,
                        cont,
                        callee,
                        depth,
                    });
                    return End::Goto(Target::Node(self.node(inlined, callee)));
                }
                End::Call {
                    callee: Some(callee),
                    ret_pc,
                    cont: self.continuation(context, ret_pc),
                }
            }
            Inst::Jalr(a) if a.rd == XReg::Ra => {
                let ret_pc = last.next_pc();
                End::Call {
                    callee: None,
                    ret_pc,
                    cont: self.continuation(context, ret_pc),
                }
            }
            Inst::Jalr(a) if a.rd == XReg::Zero && a.rs1 == XReg::Ra && a.imm == 0 => End::Return,
            _ => End::Jump,
        }
    }

    /// Code after a call belongs to the region whether it was reached or not.
    fn continuation(&mut self, context: usize, ret_pc: u64) -> Target {
        if self.has_room() {
            Target::Node(self.node(context, ret_pc))
        } else {
            self.target(context, ret_pc)
        }
    }

    fn should_inline(&self, context: usize, callee: u64) -> bool {
        if !(self.executed)(callee)
            || self.region.contexts[context].depth >= self.limits.inline_depth
        {
            return false;
        }
        let mut nested = 0;
        let mut up = context;
        loop {
            nested += usize::from(self.region.contexts[up].callee == callee);
            if up == 0 {
                break;
            }
            up = self.region.contexts[up].parent;
        }
        if nested > self.limits.inline_recursion {
            return false;
        }
        self.size_of(callee).is_some_and(|size| {
            size <= self.limits.inline_insts && self.region.inst_count + size <= self.limits.insts
        })
    }

    /// Executed instructions of the function at `entry`, callees left out;
    /// `None` beyond what can be inlined.
    fn size_of(&self, entry: u64) -> Option<usize> {
        let mut seen = vec![entry];
        let mut next = 0;
        let mut size = 0;
        while next < seen.len() {
            let start = seen[next];
            next += 1;
            let mut pc = start;
            loop {
                if pc != start && (self.executed)(pc) {
                    if !seen.contains(&pc) {
                        seen.push(pc);
                    }
                    break;
                }
                let located = at(pc, self.memory)?;
                size += 1;
                if size > self.limits.inline_insts {
                    return None;
                }
                let mut reach = |pc| {
                    if (self.executed)(pc) && !seen.contains(&pc) {
                        seen.push(pc);
                    }
                };
                if let Some(offset) = branch_offset(located.inst) {
                    reach(pc.wrapping_add_signed(offset.into()));
                    reach(located.next_pc());
                    break;
                }
                match located.inst {
                    Inst::Jal(a) if a.rd == XReg::Ra => reach(located.next_pc()),
                    Inst::Jal(a) => reach(pc.wrapping_add_signed(a.imm.into())),
                    Inst::Jalr(a) if a.rd == XReg::Ra => reach(located.next_pc()),
                    inst if end_of(inst).is_none() => {
                        pc = located.next_pc();
                        continue;
                    }
                    _ => {}
                }
                break;
            }
        }
        Some(size)
    }
}

/// Registers of one instruction as sets.
pub(crate) fn reads_of(inst: Inst) -> RegSet {
    let regs = inst.regs();
    RegSet::from(regs.x_reads) | RegSet::from(regs.f_reads) << 32
}

/// Registers that one instruction writes.
pub(crate) fn writes_of(inst: Inst) -> RegSet {
    let regs = inst.regs();
    RegSet::from(regs.x_writes) | RegSet::from(regs.f_writes) << 32
}

/// Answers of the data-flow problems, by node.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Read in the region before written.
    pub(crate) live: Vec<RegSet>,
    /// Read or left to an exit before written.
    pub(crate) needed: Vec<RegSet>,
    /// May differ from the hart's copy at the start.
    pub(crate) dirty: Vec<RegSet>,
    /// Written before the start, since all registers were in the hart.
    pub(crate) written: Vec<RegSet>,
    /// In host registers at the start.
    pub(crate) cached: Vec<RegSet>,
    /// Nodes in reverse postorder.
    pub(crate) order: Vec<NodeId>,
    /// Position of each node in `order`; `usize::MAX` if unreachable.
    pub(crate) position: Vec<usize>,
}

impl Flow {
    /// Solves them. `exits` says which instructions may leave the region in
    /// the middle of a node, so that all registers must be storable there;
    /// `exits_at_start`, that every node may be left where it begins.
    pub(crate) fn solve(
        region: &Region,
        exits: &dyn Fn(Inst) -> bool,
        exits_at_start: bool,
    ) -> Flow {
        let n = region.nodes.len();
        let successors: Vec<_> = (0..n).map(|id| region.successors(id)).collect();
        let (order, position) = reverse_postorder(&successors);

        let mut uses = vec![0; n];
        let mut writes = vec![0; n];
        for (id, node) in region.nodes.iter().enumerate() {
            for located in &node.insts {
                uses[id] |= reads_of(located.inst) & !writes[id];
                writes[id] |= writes_of(located.inst);
            }
        }

        // Backward: live, the least solution, and needed, the greatest. In the
        // least, a register would not be needed where a loop without end
        // leaves it alone, and the interpreter might never come to its write.
        let mut live = vec![0; n];
        let mut needed = vec![ALL_REGS; n];
        until_stable(|| {
            let mut changed = false;
            for &id in order.iter().rev() {
                let mut live_out = 0;
                for &(to, stored) in &successors[id] {
                    live_out |= if stored { 0 } else { live[to] };
                }
                let mut needed_now = needed_at_end(region, id, &needed);
                for located in region.nodes[id].insts.iter().rev() {
                    needed_now = needed_now & !writes_of(located.inst) | reads_of(located.inst);
                    if exits(located.inst) {
                        needed_now = ALL_REGS;
                    }
                }
                if exits_at_start {
                    needed_now = ALL_REGS;
                }
                changed |= set(&mut live[id], uses[id] | live_out & !writes[id]);
                changed |= set(&mut needed[id], needed_now);
            }
            changed
        });

        // Forward: dirty grows, cached shrinks.
        let mut predecessors = vec![Vec::new(); n];
        for &id in &order {
            for &(to, stored) in &successors[id] {
                predecessors[to].push((id, stored));
            }
        }
        let mut dirty = vec![0; n];
        let mut written = vec![0; n];
        until_stable(|| {
            let mut changed = false;
            for &id in &order {
                let (mut all_dirty, mut all_written) = (0, 0);
                for &(from, stored) in &predecessors[id] {
                    if !stored {
                        all_dirty |= dirty[from] | writes[from];
                        all_written |= written[from] | writes[from];
                    }
                }
                changed |= set(&mut dirty[id], all_dirty & live[id]);
                changed |= set(&mut written[id], all_written);
            }
            changed
        });
        let used_in_loop = used_in_loops(&order, &position, &predecessors, &uses, &writes);
        let mut cached = live.clone();
        until_stable(|| {
            let mut changed = false;
            for &id in &order {
                let mut all = if id == 0 { 0 } else { ALL_REGS };
                for &(from, stored) in &predecessors[id] {
                    all &= if stored {
                        0
                    } else {
                        cached[from] | uses[from] | writes[from]
                    };
                }
                changed |= set(
                    &mut cached[id],
                    live[id] & (all | dirty[id] | used_in_loop[id]),
                );
            }
            changed
        });
        Flow {
            live,
            needed,
            dirty,
            written,
            cached,
            order,
            position,
        }
    }

    /// Whether the edge goes back, in the sense that every cycle has one.
    pub(crate) fn is_back_edge(&self, from: NodeId, to: NodeId) -> bool {
        self.position[to] <= self.position[from]
    }
}

fn set(place: &mut RegSet, value: RegSet) -> bool {
    std::mem::replace(place, value) != value
}

fn until_stable(mut round: impl FnMut() -> bool) {
    while round() {}
}

/// Registers needed when the last instruction of a node has run.
fn needed_at_end(region: &Region, id: NodeId, needed: &[RegSet]) -> RegSet {
    let to = |target: Target| match target {
        Target::Node(to) => needed[to],
        Target::Outside(_) => ALL_REGS,
    };
    match region.nodes[id].end {
        End::Goto(target) => to(target),
        End::Branch { taken, fall } => to(taken) | to(fall),
        _ => ALL_REGS,
    }
}

fn reverse_postorder(successors: &[Vec<(NodeId, bool)>]) -> (Vec<NodeId>, Vec<usize>) {
    let mut order = Vec::new();
    let mut visited = vec![false; successors.len()];
    // Depth first without recursion: node and how many successors are done.
    let mut stack = vec![(0, 0)];
    visited[0] = true;
    while let Some((id, done)) = stack.last_mut() {
        if let Some(&(to, _)) = successors[*id].get(*done) {
            *done += 1;
            if !visited[to] {
                visited[to] = true;
                stack.push((to, 0));
            }
        } else {
            order.push(*id);
            stack.pop();
        }
    }
    order.reverse();
    let mut position = vec![usize::MAX; successors.len()];
    for (at, &id) in order.iter().enumerate() {
        position[id] = at;
    }
    (order, position)
}

/// For each loop header, the registers that its loop reads or writes.
fn used_in_loops(
    order: &[NodeId],
    position: &[usize],
    predecessors: &[Vec<(NodeId, bool)>],
    uses: &[RegSet],
    writes: &[RegSet],
) -> Vec<RegSet> {
    let mut out = vec![0; uses.len()];
    for &header in order {
        let mut body = vec![false; uses.len()];
        let mut work: Vec<_> = predecessors[header]
            .iter()
            .filter(|&&(from, stored)| !stored && position[from] >= position[header])
            .map(|&(from, _)| from)
            .collect();
        if work.is_empty() {
            continue;
        }
        body[header] = true;
        while let Some(id) = work.pop() {
            if !body[id] && position[id] >= position[header] {
                body[id] = true;
                work.extend(predecessors[id].iter().map(|&(from, _)| from));
            }
        }
        for id in (0..body.len()).filter(|&id| body[id]) {
            out[header] |= uses[id] | writes[id];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_core::isa::asm::assemble;
    use vm_core::mem::Prot;

    #[test]
    fn a_region_is_not_larger_than_its_limit() {
        // Branches that queue two nodes each, long before those are filled.
        let mut code = String::new();
        for i in 0..30 {
            let near = "addi a1, a1, 1\n".repeat(10);
            code.push_str(&format!("beqz a0, far{i}\n{near}"));
        }
        for i in 0..30 {
            let far = "addi a2, a2, 1\n".repeat(10);
            code.push_str(&format!("far{i}: {far}"));
        }
        code.push_str("ebreak");
        let bytes = assemble(&code).unwrap();
        let text = GuestAddr(0x1_0000);
        let memory = GuestMemory::new(1 << 20).unwrap();
        memory.map(text, 0x4000, Prot::READ | Prot::WRITE).unwrap();
        memory.write_bytes(text, &bytes).unwrap();
        memory.protect(text, 0x4000, Prot::EXEC).unwrap();
        let starts_block = |pc: u64| match pc - text.0 {
            near @ 0..1320 => matches!(near % 44, 0 | 4),
            far => (far - 1320) % 40 == 0,
        };
        for insts in [1, 2, 10, 100, 400] {
            let limits = Limits {
                insts,
                inline_insts: 0,
                inline_depth: 0,
                inline_recursion: 0,
                one_page: false,
            };
            let region = Region::discover(text.0, &memory, &starts_block, limits).unwrap();
            let found: usize = region.nodes.iter().map(|node| node.insts.len()).sum();
            assert_eq!(found, region.inst_count);
            assert!((insts..=2 * insts).contains(&found), "{found} for {insts}");
        }
    }
}
