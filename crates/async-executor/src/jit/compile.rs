//! Regions to host code: one Cranelift context per thread that compiles.

use std::sync::OnceLock;
use std::time::Instant;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::region::{Flow, Region};
use super::translate::{self, Flavour, has_float_arithmetic, lowest_pc, may_exit};
use crate::error::CompileError;
use crate::stack::FRAME_BYTES_MAX;

/// A region as host code, not yet placed: it holds no address of itself.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) code: Vec<u8>,
    /// Start of the host code of a guest instruction that accesses memory, and
    /// its address; ascending.
    pub(crate) locations: Vec<(u32, u64)>,
    pub(crate) insts: usize,
    pub(crate) blocks: usize,
    pub(crate) stepped: usize,
    /// Time that Cranelift and what prepares for it took.
    pub(crate) compile_ns: u64,
}

/// Three target descriptions. Cranelift's optimiser moves, folds and drops
/// floating-point operations without regard to their flags, so code that has
/// them is compiled without it. Single blocks have no loops whose speed would
/// pay for either the optimiser or the better register allocator.
struct Targets {
    optimising: OwnedTargetIsa,
    faithful: OwnedTargetIsa,
    quick: OwnedTargetIsa,
}

fn targets() -> Result<&'static Targets, CompileError> {
    static TARGETS: OnceLock<Result<Targets, CompileError>> = OnceLock::new();
    let build = || {
        Ok(Targets {
            optimising: target("speed", "backtracking")?,
            faithful: target("none", "backtracking")?,
            quick: target("none", "single_pass")?,
        })
    };
    TARGETS.get_or_init(build).as_ref().map_err(Clone::clone)
}

fn target(opt_level: &str, regalloc_algorithm: &str) -> Result<OwnedTargetIsa, CompileError> {
    let unusable = |e: &dyn std::fmt::Display| CompileError::new(None, e.to_string());
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", opt_level),
        ("regalloc_algorithm", regalloc_algorithm),
        // Tail calls ask for it.
        ("preserve_frame_pointers", "true"),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        (
            "enable_verifier",
            if cfg!(debug_assertions) {
                "true"
            } else {
                "false"
            },
        ),
    ] {
        flags.set(name, value).map_err(|e| unusable(&e))?;
    }
    let mut builder = isa::lookup_by_name("x86_64-unknown-linux-gnu").map_err(|e| unusable(&e))?;
    for (present, name) in host_features() {
        if present {
            builder.enable(name).map_err(|e| unusable(&e))?;
        }
    }
    builder
        .finish(settings::Flags::new(flags))
        .map_err(|e| unusable(&e))
}

fn host_features() -> [(bool, &'static str); 11] {
    use std::arch::is_x86_feature_detected as has;
    [
        (has!("sse3"), "has_sse3"),
        (has!("ssse3"), "has_ssse3"),
        (has!("sse4.1"), "has_sse41"),
        (has!("sse4.2"), "has_sse42"),
        (has!("popcnt"), "has_popcnt"),
        (has!("lzcnt"), "has_lzcnt"),
        (has!("bmi1"), "has_bmi1"),
        (has!("bmi2"), "has_bmi2"),
        (has!("avx"), "has_avx"),
        (has!("avx2"), "has_avx2"),
        (has!("fma"), "has_fma"),
    ]
}

/// Instructions in `code`; constants at its end count as what they look like.
pub(crate) fn count_host_insts(code: &[u8]) -> u64 {
    iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE)
        .into_iter()
        .count() as u64
}

/// Whether fused multiply-add is one host instruction.
pub(crate) fn host_has_fma() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx") && has!("fma")
}

/// What a thread needs to compile; reused from region to region.
#[derive(Default)]
pub(crate) struct Compiler {
    context: Option<Box<Context>>,
    builder: FunctionBuilderContext,
    control: ControlPlane,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").finish_non_exhaustive()
    }
}

impl Compiler {
    /// Compiles a region.
    ///
    /// # Errors
    /// When Cranelift refuses; the interpreter then keeps these blocks.
    pub(crate) fn compile(
        &mut self,
        region: &Region,
        flavour: Flavour,
    ) -> Result<Compiled, CompileError> {
        let started = Instant::now();
        let failed = |what: String| CompileError::new(Some(region.entry), what);
        let targets = targets()?;
        let target = if flavour.single {
            &targets.quick
        } else if has_float_arithmetic(region) {
            &targets.faithful
        } else {
            &targets.optimising
        };
        let flow = Flow::solve(region, &|inst| may_exit(inst, flavour), flavour.counting);
        let context = self.context.get_or_insert_with(|| Box::new(Context::new()));
        context.clear();
        let builder = FunctionBuilder::new(&mut context.func, &mut self.builder);
        let frontend = target.frontend_config();
        let counts = translate::translate(region, &flow, flavour, builder, frontend);
        let compiled = context
            .compile(target.as_ref(), &mut self.control)
            .map_err(|e| failed(e.inner.to_string()))?;
        let buffer = &compiled.buffer;
        if !buffer.relocs().is_empty() {
            return Err(failed("generated code refers to an address".to_owned()));
        }
        let lowest = lowest_pc(region);
        let frame_bytes = buffer.frame_layout().map_or(0, |f| f.frame_to_fp_offset);
        if frame_bytes > FRAME_BYTES_MAX {
            return Err(failed(format!(
                "it would need {frame_bytes} bytes of stack"
            )));
        }
        let mut locations: Vec<(u32, u64)> = buffer
            .get_srclocs_sorted()
            .iter()
            .filter(|l| !l.loc.is_default())
            .map(|l| (l.start, lowest + u64::from(l.loc.bits())))
            .collect();
        locations.dedup_by_key(|l| l.1);
        let compile_ns = started.elapsed().as_nanos() as u64;
        Ok(Compiled {
            code: buffer.data().to_vec(),
            locations,
            insts: counts.insts,
            blocks: region.nodes.len(),
            stepped: counts.stepped,
            compile_ns,
        })
    }

    /// The IR of a region as text, before optimisation.
    pub(crate) fn clif(region: &Region, flavour: Flavour) -> Result<String, CompileError> {
        let targets = targets()?;
        let flow = Flow::solve(region, &|inst| may_exit(inst, flavour), flavour.counting);
        let mut function = Function::new();
        let mut context = FunctionBuilderContext::new();
        let builder = FunctionBuilder::new(&mut function, &mut context);
        translate::translate(
            region,
            &flow,
            flavour,
            builder,
            targets.optimising.frontend_config(),
        );
        Ok(function.display().to_string())
    }
}
