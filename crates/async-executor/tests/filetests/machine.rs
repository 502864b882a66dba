//! Runs a case and compares where it ended with where it should have.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU32;

use async_executor::{Budget, Executor, Exit};
use vm_core::hart::Hart;
use vm_core::isa::asm::assemble;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{FReg, GuestAddr, XReg};

use super::format::{Any, Case, File, Item, flag_names, plain};

pub(crate) const TEXT: GuestAddr = GuestAddr(0x1_0000);
pub(crate) const DATA: GuestAddr = GuestAddr(0x2_0000);
pub(crate) const DATA_BYTES: u64 = 0x3000;
const READ_ONLY: GuestAddr = GuestAddr(0x2_2000);
const PAGE: u64 = 0x1000;

/// All that a case can see and change.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) x: [u64; 32],
    pub(crate) f: [u64; 32],
    pub(crate) fflags: u32,
    pub(crate) frm: u32,
    pub(crate) text: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Why and where it ended, as files write it.
    pub(crate) exit: String,
    pub(crate) pc: u64,
    pub(crate) budget: Budget,
}

impl State {
    /// The state that a case begins with.
    ///
    /// # Errors
    /// Where its code does not assemble.
    pub(crate) fn before(case: &Case) -> Result<State, String> {
        let code = assemble(&case.code.join("\n")).map_err(|e| e.to_string())?;
        let text_bytes = code
            .len()
            .next_multiple_of(PAGE as usize)
            .max(PAGE as usize);
        let mut state = State {
            x: [0; 32],
            f: [0; 32],
            fflags: 0,
            frm: 0,
            text: code,
            data: vec![0; DATA_BYTES as usize],
            exit: String::new(),
            pc: TEXT.0,
            budget: Budget::Unlimited,
        };
        state.text.resize(text_bytes, 0);
        case.pre.iter().for_each(|item| state.apply(item));
        Ok(state)
    }

    fn apply(&mut self, item: &Item) {
        match item {
            Item::X(r, value) => self.x[r.index()] = *value,
            Item::F(r, bits) => self.f[r.index()] = *bits,
            Item::Fflags(bits) => self.fflags = *bits,
            Item::Frm(mode) => self.frm = *mode,
            Item::Budget(n) => self.budget = Budget::Instructions(*n),
            Item::Mem(address, bytes) => {
                let offset = (address - DATA.0) as usize;
                self.data[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Item::Exit(exit) => self.exit.clone_from(exit),
            Item::Any(_) => {}
        }
    }

    /// Takes what is excluded from comparison from `other`.
    fn forgive(&mut self, any: &Any, other: &State) {
        match any {
            Any::X(r) => self.x[r.index()] = other.x[r.index()],
            Any::F(r) => self.f[r.index()] = other.f[r.index()],
            Any::Mem(range) => {
                for address in range.clone() {
                    if let Some(i) = offset(address, DATA, self.data.len()) {
                        self.data[i] = other.data[i];
                    }
                    if let Some(i) = offset(address, TEXT, self.text.len()) {
                        self.text[i] = other.text[i];
                    }
                }
            }
        }
    }
}

fn offset(address: u64, start: GuestAddr, len: usize) -> Option<usize> {
    let offset = usize::try_from(address.checked_sub(start.0)?).ok()?;
    (offset < len).then_some(offset)
}

/// Runs a case on an engine. Gives the state it ended in.
///
/// # Errors
/// Where its code does not assemble.
pub(crate) fn run(file: &File, case: &Case, engine: &mut dyn Executor) -> Result<State, String> {
    let mut state = State::before(case)?;
    let memory = GuestMemory::new(1 << 20).unwrap();
    let text_bytes = state.text.len() as u64;
    memory
        .map(TEXT, text_bytes, Prot::READ | Prot::WRITE)
        .unwrap();
    memory.write_bytes(TEXT, &state.text).unwrap();
    let text_prot = if file.text_is_writable {
        Prot::WRITE | Prot::EXEC
    } else {
        Prot::READ | Prot::EXEC
    };
    memory.protect(TEXT, text_bytes, text_prot).unwrap();
    memory
        .map(DATA, DATA_BYTES, Prot::READ | Prot::WRITE)
        .unwrap();
    memory.write_bytes(DATA, &state.data).unwrap();
    memory.protect(READ_ONLY, PAGE, Prot::READ).unwrap();

    let mut hart = Hart::new(TEXT);
    hart.state.x = state.x;
    hart.state.f = state.f;
    hart.state.fflags = state.fflags;
    hart.state.frm = state.frm;
    let exit = engine.run(&mut hart, &memory, state.budget, &AtomicU32::new(0));

    state.x = hart.state.x;
    state.f = hart.state.f;
    state.fflags = hart.state.fflags;
    state.frm = hart.state.frm;
    state.pc = hart.pc().0;
    memory.read_bytes(TEXT, &mut state.text).unwrap();
    memory.read_bytes(DATA, &mut state.data).unwrap();
    let why = match exit {
        Exit::Trap(trap) => format!("trap {} tval {:#x}", trap.cause.name(), trap.tval),
        other => other.to_string(),
    };
    state.exit = match offset(state.pc, TEXT, state.text.len()) {
        Some(offset) => format!("{why} @ +{offset}"),
        None => format!("{why} @ {:#x}", state.pc),
    };
    Ok(state)
}

/// The state that a case should end in; what it leaves open is as in `found`.
fn expected(case: &Case, found: &State) -> State {
    let mut state = State::before(case).unwrap_or_else(|_| found.clone());
    case.post.iter().for_each(|item| state.apply(item));
    for item in &case.post {
        if let Item::Any(any) = item {
            any.iter().for_each(|any| state.forgive(any, found));
        }
    }
    if state.exit.is_empty() && found.exit.starts_with("breakpoint") {
        state.exit.clone_from(&found.exit);
    }
    state
}

/// How `found` differs from what the case expects, a line each.
pub(crate) fn differences(_: &File, case: &Case, found: &State) -> String {
    let expected = expected(case, found);
    let mut text = String::new();
    let mut line = |what: &str, expected: String, found: String| {
        if expected != found {
            let _ = writeln!(text, "  {what:7} expected {expected:20} found {found}");
        }
    };
    for r in XReg::ALL {
        let i = r.index();
        line(r.abi_name(), plain(expected.x[i]), plain(found.x[i]));
    }
    for r in FReg::ALL {
        let i = r.index();
        line(r.abi_name(), plain(expected.f[i]), plain(found.f[i]));
    }
    line(
        "fflags",
        flag_names(expected.fflags),
        flag_names(found.fflags),
    );
    line("frm", expected.frm.to_string(), found.frm.to_string());
    for (start, expected, found) in [
        (TEXT, &expected.text, &found.text),
        (DATA, &expected.data, &found.data),
    ] {
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            line(
                &format!("{:#x}", start.0 + i as u64),
                format!("{e:02x}"),
                format!("{f:02x}"),
            );
        }
    }
    let exit = if expected.exit.is_empty() {
        "breakpoint".to_owned()
    } else {
        expected.exit
    };
    line("exit", exit, found.exit.clone());
    text
}

/// What the case would have to expect of `found`.
pub(crate) fn expectations(_: &File, case: &Case, found: &State) -> Vec<Item> {
    let any: Vec<Item> = case
        .post
        .iter()
        .filter(|item| matches!(item, Item::Any(_)))
        .cloned()
        .collect();
    let Ok(before) = State::before(case) else {
        return case.post.clone();
    };
    let mut end = found.clone();
    for item in &any {
        if let Item::Any(any) = item {
            any.iter().for_each(|any| end.forgive(any, &before));
        }
    }
    let mut items = Vec::new();
    for r in XReg::ALL
        .into_iter()
        .filter(|r| end.x[r.index()] != before.x[r.index()])
    {
        items.push(Item::X(r, end.x[r.index()]));
    }
    for r in FReg::ALL
        .into_iter()
        .filter(|r| end.f[r.index()] != before.f[r.index()])
    {
        items.push(Item::F(r, end.f[r.index()]));
    }
    if end.fflags != before.fflags {
        items.push(Item::Fflags(end.fflags));
    }
    if end.frm != before.frm {
        items.push(Item::Frm(end.frm));
    }
    let rows = before.data.chunks(16).zip(end.data.chunks(16)).enumerate();
    for (i, (_, row)) in rows.filter(|(_, (before, end))| before != end) {
        items.push(Item::Mem(DATA.0 + 16 * i as u64, row.to_vec()));
    }
    items.extend(any);
    items.push(Item::Exit(end.exit));
    items
}
