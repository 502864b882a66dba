//! What the JIT makes of a region, for people and tests: guest code, CLIF and
//! host code, one below the other.

use std::fmt::{self, Write as _};

use iced_x86::{Decoder, DecoderOptions, Formatter as _, GasFormatter};
use vm_core::GuestAddr;
use vm_core::isa::disasm::disassemble_at;
use vm_core::mem::GuestMemory;

use super::compile::{Compiled, Compiler};
use super::region::{End, Region, Target};
use super::translate::Flavour;
use crate::config::JitConfig;
use crate::context::Kind;
use crate::error::CompileError;

/// A region in its three forms.
#[derive(Clone, Debug)]
pub struct Dump {
    /// Guest instructions, node by node, and where each node leads.
    pub guest: String,
    /// Cranelift IR before optimisation.
    pub clif: String,
    /// Host instructions with offsets.
    pub host: String,
}

impl Dump {
    /// What would be compiled for the function at `entry` whose code takes
    /// `bytes`, if all of it had been executed. `None` where there is no code.
    ///
    /// # Errors
    /// When Cranelift refuses the region.
    pub fn of_function(
        memory: &GuestMemory,
        entry: GuestAddr,
        bytes: u64,
        config: &JitConfig,
    ) -> Result<Option<Dump>, CompileError> {
        let function = entry.0..entry.0.saturating_add(bytes);
        let executed = |pc| function.contains(&pc);
        let Some(region) = Region::discover(entry.0, memory, &executed, config.limits()) else {
            return Ok(None);
        };
        let flavour = config.flavour(Kind::Free);
        let compiled = Compiler::default().compile(&region, flavour)?;
        Ok(Some(Dump::of(&region, flavour, &compiled)))
    }

    /// Of a region just compiled.
    pub(crate) fn of(region: &Region, flavour: Flavour, compiled: &Compiled) -> Dump {
        let clif = match Compiler::clif(region, flavour) {
            Ok(clif) => clif,
            Err(e) => format!("; {e}\n"),
        };
        Dump {
            guest: guest_listing(region),
            clif,
            host: host_listing(&compiled.code),
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "== guest\n{}\n== clif\n{}\n== host\n{}",
            self.guest, self.clif, self.host
        )
    }
}

fn guest_listing(region: &Region) -> String {
    let mut out = String::new();
    for (id, node) in region.nodes.iter().enumerate() {
        let _ = writeln!(out, "node {id} (context {}):", node.context);
        for located in &node.insts {
            let text = disassemble_at(located.inst, located.pc);
            let _ = writeln!(out, "  {:#10x}  {text}", located.pc);
        }
        let _ = writeln!(out, "  -> {}", end_text(node.end));
    }
    out
}

fn end_text(end: End) -> String {
    let target = |t: Target| match t {
        Target::Node(id) => format!("node {id}"),
        Target::Outside(pc) => format!("out to {pc:#x}"),
    };
    match end {
        End::Goto(t) => target(t),
        End::Branch { taken, fall } => format!("{} or {}", target(taken), target(fall)),
        End::Call {
            callee: Some(pc),
            cont,
            ..
        } => format!("call {pc:#x}, then {}", target(cont)),
        End::Call {
            callee: None, cont, ..
        } => format!("call register, then {}", target(cont)),
        End::Return => "return".to_owned(),
        End::Jump => "jump to register".to_owned(),
        End::Interpret(pc) => format!("interpret from {pc:#x}"),
    }
}

fn host_listing(code: &[u8]) -> String {
    let mut formatter = GasFormatter::new();
    let mut out = String::new();
    let mut text = String::new();
    for instruction in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        text.clear();
        formatter.format(&instruction, &mut text);
        let _ = writeln!(out, "  {:6x}  {text}", instruction.ip());
    }
    out
}
