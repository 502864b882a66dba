//! What an `.rvt` file says.
//!
//! ```text
//! #! engines = ["interp", "jit"]   # engines it is for; default: all
//! #! text = "rwx"                  # text may be written; default: "rx"
//! #! qemu = false                  # QEMU is known to differ; say why below
//! # What this file is about.
//!
//! case: addw wraps                 # or a line ---
//! # Why this case.
//! pre:  a0 = 0x7fffffff, fa0 = 0x3ff0000000000000
//! pre:  mem 0x20000 = 01 02 ff
//!       addw a2, a0, a0
//!       ebreak
//! post: a2 = -2
//! post: exit = breakpoint @ +4
//! ```
//!
//! Registers not named before are 0; registers, flags and memory not named
//! after must be as before. `post: any = t0, mem 0x20000..0x21000` takes some
//! out of the comparison.
//!
//! | key | value |
//! |---|---|
//! | `a0`, `ft0`, ... | 64 bits, decimal (also negative) or hex |
//! | `fflags` | a number, or names: `NV DZ OF UF NX` |
//! | `frm`, `budget` | a number; a budget stands in `pre:` only |
//! | `mem ADDRESS` | bytes in hex |
//! | `exit` | `breakpoint`, `ecall`, `budget spent`, `preempted` or `trap NAME tval VALUE`, then `@ +OFFSET` into the text or `@ ADDRESS`; without it any breakpoint will do |
//!
//! The machine: text at 0x10000; data at 0x20000 to 0x22fff, the last page of
//! it read-only; nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use vm_core::{FReg, XReg};

pub(crate) struct File {
    path: PathBuf,
    /// Its path below `filetests/`.
    pub(crate) name: String,
    engines: Option<Vec<String>>,
    pub(crate) text_is_writable: bool,
    pub(crate) qemu: bool,
    pub(crate) cases: Vec<Case>,
    lines: Vec<String>,
}

pub(crate) struct Case {
    pub(crate) name: String,
    /// Number of its first line.
    line: usize,
    pub(crate) pre: Vec<Item>,
    /// Lines of assembly.
    pub(crate) code: Vec<String>,
    pub(crate) post: Vec<Item>,
    /// Indices of the lines that `post` came from.
    post_lines: Vec<usize>,
    /// Index behind its last line of assembly.
    code_end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    X(XReg, u64),
    F(FReg, u64),
    Fflags(u32),
    Frm(u32),
    Budget(u64),
    Mem(u64, Vec<u8>),
    Exit(String),
    Any(Vec<Any>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Any {
    X(XReg),
    F(FReg),
    Mem(std::ops::Range<u64>),
}

const FLAGS: [(&str, u32); 5] = [("NV", 16), ("DZ", 8), ("OF", 4), ("UF", 2), ("NX", 1)];

impl File {
    pub(crate) fn read(root: &Path, path: &Path) -> File {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let mut file = File {
            path: path.to_owned(),
            name,
            engines: None,
            text_is_writable: false,
            qemu: true,
            cases: Vec::new(),
            lines: text.lines().map(str::to_owned).collect(),
        };
        for (i, line) in text.lines().enumerate() {
            if let Err(why) = file.line(i, line) {
                panic!("{}:{}: {why}", file.name, i + 1);
            }
        }
        file
    }

    /// Whether it is for the engine of that name.
    pub(crate) fn wants(&self, engine: &str) -> bool {
        let family = engine.split(' ').next();
        self.engines
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| Some(name.as_str()) == family))
    }

    pub(crate) fn place(&self, case: &Case) -> String {
        format!("{}:{} ({})", self.name, case.line, case.name)
    }

    /// Writes the expectations of all cases back.
    pub(crate) fn save(&self) {
        let mut lines: Vec<Option<&str>> = self.lines.iter().map(|l| Some(l.as_str())).collect();
        let mut inserted: Vec<(usize, String)> = Vec::new();
        for case in &self.cases {
            for &i in &case.post_lines {
                lines[i] = None;
            }
            let at = case.post_lines.first().copied().unwrap_or(case.code_end);
            inserted.push((at, render("post:", &case.post)));
        }
        let mut text = String::new();
        let mut inserted = inserted.into_iter().peekable();
        for (i, line) in lines.into_iter().enumerate() {
            while let Some((_, new)) = inserted.next_if(|(at, _)| *at == i) {
                text += &new;
            }
            if let Some(line) = line {
                text += line;
                text.push('\n');
            }
        }
        inserted.for_each(|(_, new)| text += &new);
        std::fs::write(&self.path, text).unwrap();
    }

    fn line(&mut self, i: usize, line: &str) -> Result<(), String> {
        if let Some(header) = line.strip_prefix("#!") {
            return self.header(header);
        }
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("case:") {
            self.start(i, name.trim());
            return Ok(());
        }
        if trimmed == "---" {
            self.start(i, "");
            return Ok(());
        }
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(());
        }
        if self.cases.is_empty() {
            self.start(i, "");
        }
        let Some(case) = self.cases.last_mut() else {
            return Ok(());
        };
        if let Some(items) = trimmed.strip_prefix("pre:") {
            case.pre.extend(items_of(items)?);
        } else if let Some(items) = trimmed.strip_prefix("post:") {
            case.post.extend(items_of(items)?);
            case.post_lines.push(i);
        } else {
            case.code.push(line.to_owned());
            case.code_end = i + 1;
        }
        Ok(())
    }

    fn start(&mut self, i: usize, name: &str) {
        self.cases.push(Case {
            name: if name.is_empty() {
                "unnamed".to_owned()
            } else {
                name.to_owned()
            },
            line: i + 1,
            pre: Vec::new(),
            code: Vec::new(),
            post: Vec::new(),
            post_lines: Vec::new(),
            code_end: i + 1,
        });
    }

    fn header(&mut self, header: &str) -> Result<(), String> {
        let header = header.split('#').next().unwrap_or_default();
        let (key, value) = header
            .split_once('=')
            .ok_or("a header is `#! key = value`")?;
        match (key.trim(), value.trim()) {
            ("engines", list) => {
                let names = list.trim_matches(['[', ']']).split(',');
                let names = names.map(|name| name.trim().trim_matches('"').to_owned());
                self.engines = Some(names.collect());
            }
            ("text", "\"rwx\"") => self.text_is_writable = true,
            ("text", "\"rx\"") => self.text_is_writable = false,
            ("qemu", "false") => self.qemu = false,
            (key, value) => return Err(format!("no header `{key} = {value}`")),
        }
        Ok(())
    }
}

fn items_of(text: &str) -> Result<Vec<Item>, String> {
    let text = text.split('#').next().unwrap_or_default();
    let (key, value) = text.split_once('=').ok_or("expected `key = value`")?;
    let (key, value) = (key.trim(), value.trim());
    if let Some(address) = key.strip_prefix("mem ") {
        let bytes = value
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16));
        let bytes = bytes
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{value}: {e}"))?;
        return Ok(vec![Item::Mem(number(address)?, bytes)]);
    }
    match key {
        "exit" => Ok(vec![Item::Exit(value.to_owned())]),
        "any" => {
            let any = value.split(',').map(|what| any_of(what.trim()));
            Ok(vec![Item::Any(any.collect::<Result<_, _>>()?)])
        }
        _ => text.split(',').map(item_of).collect(),
    }
}

fn item_of(text: &str) -> Result<Item, String> {
    let (key, value) = text.split_once('=').ok_or("expected `key = value`")?;
    let (key, value) = (key.trim(), value.trim());
    Ok(match key {
        "fflags" => Item::Fflags(flags(value)?),
        "frm" => Item::Frm(number(value)? as u32),
        "budget" => Item::Budget(number(value)?),
        name => match (XReg::from_name(name), FReg::from_name(name)) {
            (Some(r), _) => Item::X(r, number(value)?),
            (_, Some(r)) => Item::F(r, number(value)?),
            _ => return Err(format!("`{name}` is neither a register nor another key")),
        },
    })
}

fn any_of(text: &str) -> Result<Any, String> {
    if let Some(range) = text.strip_prefix("mem ") {
        let (from, to) = range.split_once("..").ok_or("expected `mem FROM..TO`")?;
        return Ok(Any::Mem(number(from)?..number(to)?));
    }
    match (XReg::from_name(text), FReg::from_name(text)) {
        (Some(r), _) => Ok(Any::X(r)),
        (_, Some(r)) => Ok(Any::F(r)),
        _ => Err(format!("`{text}` is no register")),
    }
}

fn flags(text: &str) -> Result<u32, String> {
    if let Ok(value) = number(text) {
        return Ok(value as u32);
    }
    text.split_whitespace().try_fold(0, |all, name| {
        let flag = FLAGS.iter().find(|(flag, _)| *flag == name);
        flag.map(|(_, bit)| all | bit)
            .ok_or(format!("`{name}` is no flag"))
    })
}

fn number(text: &str) -> Result<u64, String> {
    let text = text.trim().replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.as_str()),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let value = value.map_err(|e| format!("`{text}`: {e}"))?;
    Ok(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Lines that say `items`.
fn render(tag: &str, items: &[Item]) -> String {
    let (mut text, mut line) = (String::new(), String::new());
    for item in items {
        let (said, alone) = match item {
            Item::X(r, value) => (format!("{r} = {}", plain(*value)), false),
            Item::F(r, bits) => (format!("{r} = {}", plain(*bits)), false),
            Item::Fflags(bits) => (format!("fflags = {}", flag_names(*bits)), false),
            Item::Frm(mode) => (format!("frm = {mode}"), false),
            Item::Budget(n) => (format!("budget = {n}"), false),
            Item::Mem(address, bytes) => {
                let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
                (format!("mem {address:#x} = {}", bytes.join(" ")), true)
            }
            Item::Exit(exit) => (format!("exit = {exit}"), true),
            Item::Any(any) => {
                let any: Vec<String> = any.iter().map(Any::to_string).collect();
                (format!("any = {}", any.join(", ")), true)
            }
        };
        if (alone || line.len() + said.len() > 84) && !line.is_empty() {
            let _ = writeln!(text, "{tag} {line}");
            line.clear();
        }
        if alone {
            let _ = writeln!(text, "{tag} {said}");
        } else {
            line += if line.is_empty() { "" } else { ", " };
            line += &said;
        }
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{tag} {line}");
    }
    text
}

impl std::fmt::Display for Any {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Any::X(r) => write!(f, "{r}"),
            Any::F(r) => write!(f, "{r}"),
            Any::Mem(range) => write!(f, "mem {:#x}..{:#x}", range.start, range.end),
        }
    }
}

pub(crate) fn plain(value: u64) -> String {
    if value < 10 {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}

pub(crate) fn flag_names(bits: u32) -> String {
    let names: Vec<&str> = FLAGS
        .iter()
        .filter(|(_, bit)| bits & bit != 0)
        .map(|(name, _)| *name)
        .collect();
    if names.is_empty() {
        "0".to_owned()
    } else {
        names.join(" ")
    }
}
