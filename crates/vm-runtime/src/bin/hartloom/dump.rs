//! `hartloom dump`: the instructions of a program, as a hart would meet them.

use std::io::{self, BufWriter, Write};
use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use async_executor::jit::dump::Dump;
use vm_core::GuestAddr;
use vm_core::addr::PAGE_BYTES;
use vm_core::elf::Symbols;
use vm_core::isa::decode;
use vm_core::isa::disasm::disassemble_at;
use vm_core::mem::{GuestMemory, MAP_HIGHEST, MAP_LOWEST, Prot};
use vm_runtime::{EngineKind, Printable, Process, ProcessConfig, Stdio};

use crate::flags::DumpArgs;
use crate::knobs;

/// Instructions shown from `--addr` on, unless `--count` says otherwise.
const COUNT_DEFAULT: u64 = 16;

/// Prints what `args` select: a function, some instructions, or all.
pub(crate) fn dump(args: &DumpArgs) -> Result<()> {
    let config = ProcessConfig {
        stdio: Stdio::Null,
        ..ProcessConfig::default()
    };
    // Loaded as for running: what is shown is what a hart would fetch.
    let program = Printable(args.program.as_os_str());
    let process = Process::load(&args.program, &[b"dump"], &[], config)?;
    let symbols = process.symbols();
    let memory = process.memory();
    let everything = args.count.unwrap_or(u64::MAX);
    let mut out = BufWriter::new(io::stdout().lock());

    let shown = if let Some(name) = &args.function {
        let Some(function) = symbols.named(name) else {
            let hint = if symbols.is_empty() {
                let start = executable_ranges(memory)
                    .first()
                    .map_or(MAP_LOWEST, |r| r.start);
                format!(
                    "the program is stripped, so no function has a name; `hartloom dump {program}` shows all \
                     instructions, `--addr {start}` those from an address on"
                )
            } else {
                format!("`hartloom dump {program} | grep '>:$'` lists the names")
            };
            bail!("{program}: no function is called {name:?}; {hint}");
        };
        // A label of assembly has no size: up to the next one.
        let end = match function.bytes {
            0 => symbols
                .iter()
                .map(|s| s.start)
                .find(|&start| start > function.start),
            bytes => function.start.checked_add(bytes),
        };
        let range = function.start..end.unwrap_or(MAP_HIGHEST);
        let shown = instructions(&mut out, memory, &symbols, range.clone(), everything)?;
        compiled(&mut out, memory, range, args)?;
        shown
    } else if let Some(addr) = args.addr {
        let start = GuestAddr(addr.value);
        if !start.is_aligned(2) {
            bail!("{program}: --addr {start} is odd; instructions begin at even addresses");
        }
        if memory.fetch(start).is_err() {
            let is_code = |addr: &GuestAddr| memory.fetch(*addr).is_ok();
            let hint = match addr.as_printed.map(GuestAddr).filter(is_code) {
                Some(meant) => format!("; {} is decimal, did you mean {meant}?", addr.value),
                None => {
                    format!("; `hartloom dump {program}` shows all that is")
                }
            };
            bail!("{program}: nothing is executable at {start}{hint}");
        }
        let count = args.count.unwrap_or(COUNT_DEFAULT);
        let shown = instructions(&mut out, memory, &symbols, start..MAP_HIGHEST, count)?;
        let end = start.checked_add(count.saturating_mul(4));
        compiled(&mut out, memory, start..end.unwrap_or(MAP_HIGHEST), args)?;
        shown
    } else if args.clif || args.host {
        bail!("{program}: --clif and --host show one function; name it with --function or --addr");
    } else {
        let mut left = everything;
        for range in executable_ranges(memory) {
            left -= instructions(&mut out, memory, &symbols, range, left)?;
        }
        everything - left
    };
    out.flush()?;
    if shown == 0 {
        bail!("{program}: nothing of it is executable; link it with a text segment");
    }
    Ok(())
}

/// Prints what the JIT makes of the code in `range`, as far as asked for.
fn compiled(
    out: &mut impl Write,
    memory: &GuestMemory,
    range: Range<GuestAddr>,
    args: &DumpArgs,
) -> Result<()> {
    if !args.clif && !args.host {
        return Ok(());
    }
    let bytes = range.end.0 - range.start.0;
    let config = knobs::config(EngineKind::Jit)?;
    let program = Printable(args.program.as_os_str());
    let dump = Dump::of_function(memory, range.start, bytes, &config)
        .with_context(|| program.to_string())?;
    let Some(dump) = dump else {
        bail!(
            "{program}: no code that can be compiled at {}; name the start of a function",
            range.start
        );
    };
    writeln!(out, "\nregion:\n{}", dump.guest)?;
    if args.clif {
        writeln!(out, "clif:\n{}", dump.clif)?;
    }
    if args.host {
        writeln!(out, "host:\n{}", dump.host)?;
    }
    Ok(())
}

/// Prints up to `count` instructions of a range, up to the first page that is
/// not executable; says how many.
fn instructions(
    out: &mut impl Write,
    memory: &GuestMemory,
    symbols: &Symbols,
    range: Range<GuestAddr>,
    count: u64,
) -> io::Result<u64> {
    let mut addr = range.start;
    let mut shown = 0;
    while shown < count && addr < range.end {
        let Ok(bits) = memory.fetch(addr) else { break };
        if let Some(symbol) = symbols.at(addr)
            && symbol.start == addr
        {
            writeln!(out, "{:016x} <{}>:", addr.0, symbol.name)?;
        }
        let (len, text) = match decode(bits) {
            Ok(decoded) => (decoded.len, disassemble_at(decoded.inst, addr.0)),
            Err(error) => (error.len, format!("no instruction: {error}")),
        };
        let digits = usize::from(len) * 2;
        let bits = if len == 2 { bits & 0xffff } else { bits };
        writeln!(
            out,
            "{:8x}:  {:<10} {text}",
            addr.0,
            format!("{bits:0digits$x}")
        )?;
        addr = addr.wrapping_offset(len.into());
        shown += 1;
    }
    Ok(shown)
}

/// Runs of executable pages.
fn executable_ranges(memory: &GuestMemory) -> Vec<Range<GuestAddr>> {
    let mut ranges: Vec<Range<GuestAddr>> = Vec::new();
    for page in (MAP_LOWEST.0..MAP_HIGHEST.0).step_by(PAGE_BYTES as usize) {
        let executable = memory
            .prot(GuestAddr(page))
            .is_some_and(|p| p.contains(Prot::EXEC));
        match ranges.last_mut() {
            _ if !executable => {}
            Some(last) if last.end.0 == page => last.end = GuestAddr(page + PAGE_BYTES),
            _ => ranges.push(GuestAddr(page)..GuestAddr(page + PAGE_BYTES)),
        }
    }
    ranges
}
