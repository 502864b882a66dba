//! Text to instructions: a small assembler for tests, tools and examples.
//!
//! Instructions and their operands come from the table and
//! `isa::syntax`; this file adds what programs need around them:
//!
//! - labels (`loop:`, and `1:` with `1b`, `1f`) as targets of branches and
//!   jumps, and for `la`; comments from `#` or `//` to the end of the line;
//!   `;` between statements of one line;
//! - mnemonics with `c.`, which emit the 16-bit form and nothing else (no
//!   other mnemonic is ever shortened);
//! - `.byte`, `.half`, `.word`, `.dword` with numbers; `.zero` with a count of
//!   bytes; `.align n` to 2ⁿ bytes, filled with instructions that do nothing;
//! - the usual pseudo-instructions, listed in [`PSEUDO_INSTRUCTIONS`], and
//!   `li` with any 64-bit value and `la`.
//!
//! A rounding mode left out is the dynamic one for every instruction. (GNU as
//! takes `rne` for the conversions that are always exact.)
//!
//! Not here: sections, symbols of other files, relocations, macros.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use super::compressed::{COMPRESSED, CompressedRow, Slot};
use super::format;
use super::inst::{Inst, Op, TABLE};
use super::syntax::{self, Operand, Refusal};
use crate::reg::XReg;

/// Pseudo-instructions: name, count of operands, and what they stand for,
/// with `$0` and `$1` in the places of the operands.
pub const PSEUDO_INSTRUCTIONS: &[(&str, usize, &str)] = &[
    ("nop", 0, "addi zero, zero, 0"),
    ("mv", 2, "addi $0, $1, 0"),
    ("not", 2, "xori $0, $1, -1"),
    ("neg", 2, "sub $0, zero, $1"),
    ("negw", 2, "subw $0, zero, $1"),
    ("sext.w", 2, "addiw $0, $1, 0"),
    ("zext.b", 2, "andi $0, $1, 255"),
    ("zext.w", 2, "add.uw $0, $1, zero"),
    ("seqz", 2, "sltiu $0, $1, 1"),
    ("snez", 2, "sltu $0, zero, $1"),
    ("sltz", 2, "slt $0, $1, zero"),
    ("sgtz", 2, "slt $0, zero, $1"),
    ("beqz", 2, "beq $0, zero, $1"),
    ("bnez", 2, "bne $0, zero, $1"),
    ("blez", 2, "bge zero, $0, $1"),
    ("bgez", 2, "bge $0, zero, $1"),
    ("bltz", 2, "blt $0, zero, $1"),
    ("bgtz", 2, "blt zero, $0, $1"),
    ("bgt", 3, "blt $1, $0, $2"),
    ("ble", 3, "bge $1, $0, $2"),
    ("bgtu", 3, "bltu $1, $0, $2"),
    ("bleu", 3, "bgeu $1, $0, $2"),
    ("j", 1, "jal zero, $0"),
    ("jal", 1, "jal ra, $0"),
    ("jr", 1, "jalr zero, 0($0)"),
    ("jalr", 1, "jalr ra, 0($0)"),
    ("jalr", 3, "jalr $0, $2($1)"),
    ("ret", 0, "jalr zero, 0(ra)"),
    ("call", 1, "jal ra, $0"),
    ("tail", 1, "jal zero, $0"),
    ("fence", 0, "fence iorw, iorw"),
    ("fence.tso", 0, "fence zero, zero, -1997"),
    ("fmv.s", 2, "fsgnj.s $0, $1, $1"),
    ("fneg.s", 2, "fsgnjn.s $0, $1, $1"),
    ("fabs.s", 2, "fsgnjx.s $0, $1, $1"),
    ("fmv.d", 2, "fsgnj.d $0, $1, $1"),
    ("fneg.d", 2, "fsgnjn.d $0, $1, $1"),
    ("fabs.d", 2, "fsgnjx.d $0, $1, $1"),
    ("fgt.s", 3, "flt.s $0, $2, $1"),
    ("fge.s", 3, "fle.s $0, $2, $1"),
    ("fgt.d", 3, "flt.d $0, $2, $1"),
    ("fge.d", 3, "fle.d $0, $2, $1"),
    ("csrr", 2, "csrrs $0, $1, zero"),
    ("csrw", 2, "csrrw zero, $0, $1"),
    ("csrs", 2, "csrrs zero, $0, $1"),
    ("csrc", 2, "csrrc zero, $0, $1"),
    ("csrwi", 2, "csrrwi zero, $0, $1"),
    ("csrsi", 2, "csrrsi zero, $0, $1"),
    ("csrci", 2, "csrrci zero, $0, $1"),
    ("frflags", 1, "csrrs $0, fflags, zero"),
    ("fsflags", 1, "csrrw zero, fflags, $0"),
    ("fsflags", 2, "csrrw $0, fflags, $1"),
    ("fsflagsi", 1, "csrrwi zero, fflags, $0"),
    ("frrm", 1, "csrrs $0, frm, zero"),
    ("fsrm", 1, "csrrw zero, frm, $0"),
    ("fsrm", 2, "csrrw $0, frm, $1"),
    ("fsrmi", 1, "csrrwi zero, frm, $0"),
    ("frcsr", 1, "csrrs $0, fcsr, zero"),
    ("fscsr", 1, "csrrw zero, fcsr, $0"),
    ("fscsr", 2, "csrrw $0, fcsr, $1"),
    ("rdcycle", 1, "csrrs $0, cycle, zero"),
    ("rdtime", 1, "csrrs $0, time, zero"),
    ("rdinstret", 1, "csrrs $0, instret, zero"),
    ("unimp", 0, "csrrw zero, cycle, zero"),
];

/// What a text assembles to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Instructions and data, in order.
    pub bytes: Vec<u8>,
    /// Labels and their offsets into `bytes`, in order of appearance.
    pub labels: Vec<(String, u32)>,
}

impl Program {
    /// The offset of a label; of several `1:` the first.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<u32> {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map(|&(_, offset)| offset)
    }
}

/// The only instruction of `text`. Of a 16-bit form (`c.addi a0, 1`) it is
/// the instruction that it stands for.
///
/// # Errors
/// [`AsmError`] for text that is not exactly one instruction. There are no
/// labels: branches and jumps take distances in bytes.
pub fn assemble_inst(text: &str) -> Result<Inst, AsmError> {
    let pass = Pass::run(text, Some(&[]))?;
    match pass.insts[..] {
        [inst] if !pass.has_data => Ok(inst),
        _ => Err(AsmError {
            line: 1,
            kind: Box::new(Kind::NotOne(pass.insts.len())),
        }),
    }
}

/// The bytes of a text of any number of lines, see the [module](self).
///
/// ```
/// use vm_core::isa::asm::assemble;
///
/// let code = assemble("
///     li   a0, 3
/// loop:
///     addi a0, a0, -1
///     bnez a0, loop     # twice
///     ebreak
/// ")?;
/// assert_eq!(code.len(), 16);
/// # Ok::<(), vm_core::isa::asm::AsmError>(())
/// ```
///
/// # Errors
/// [`AsmError`] with the number of the first line that is wrong.
pub fn assemble(text: &str) -> Result<Vec<u8>, AsmError> {
    Ok(assemble_program(text)?.bytes)
}

/// As [`assemble`], with the offsets of the labels.
///
/// # Errors
/// [`AsmError`] with the number of the first line that is wrong.
pub fn assemble_program(text: &str) -> Result<Program, AsmError> {
    // Lengths do not depend on the values of labels: the first pass finds
    // where they are, the second fills them in.
    let labels = Pass::run(text, None)?.labels;
    let pass = Pass::run(text, Some(&labels))?;
    Ok(Program {
        bytes: pass.bytes,
        labels: pass.labels,
    })
}

/// A text that does not assemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsmError {
    line: usize,
    // Boxed: the good case should not carry room for it.
    kind: Box<Kind>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Mnemonic(String),
    OperandCount {
        mnemonic: String,
        syntax: String,
        found: usize,
    },
    Operand {
        mnemonic: String,
        number: usize,
        text: String,
        refusal: Refusal,
    },
    NotCompressible {
        mnemonic: &'static str,
        inst: String,
    },
    LabelName(String),
    LabelTwice(String),
    DirectiveValue {
        directive: String,
        text: String,
        min: i128,
        max: i128,
    },
    Directive(String),
    NotOne(usize),
}

impl AsmError {
    /// The line that is wrong, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &*self.kind {
            Kind::Mnemonic(name) => write!(
                f,
                "`{name}` is no instruction of RV64GC, Zba, Zbb, Zbc, Zbs, Zbkx or Zicond and no pseudo-instruction known here"
            ),
            Kind::OperandCount {
                mnemonic,
                syntax,
                found,
            } => {
                write!(
                    f,
                    "{found} operands: write `{}`",
                    format!("{mnemonic} {syntax}").trim_end()
                )
            }
            Kind::Operand {
                mnemonic,
                number,
                text,
                refusal,
            } => {
                write!(f, "operand {number} of `{mnemonic}`: ")?;
                match refusal {
                    Refusal::Expected(what) => write!(f, "expected {what}, found `{text}`"),
                    Refusal::Label(name) => write!(f, "there is no label `{name}`"),
                    Refusal::Range {
                        value,
                        min,
                        max,
                        step,
                        advice,
                    } => {
                        write!(f, "{value} is not in {min}..={max}")?;
                        if *step != 1 {
                            write!(f, " in steps of {step}")?;
                        }
                        if !advice.is_empty() {
                            write!(f, "; {advice}")?;
                        }
                        Ok(())
                    }
                }
            }
            Kind::NotCompressible { mnemonic, inst } => {
                write!(f, "`{mnemonic}` cannot hold these operands: write `{inst}`")
            }
            Kind::LabelName(name) => write!(
                f,
                "`{name}` cannot name a label: use letters, digits, `_` and `.`"
            ),
            Kind::LabelTwice(name) => {
                write!(
                    f,
                    "label `{name}` stands on an earlier line too; rename one"
                )
            }
            Kind::DirectiveValue {
                directive,
                text,
                min,
                max,
            } => {
                write!(
                    f,
                    "`{directive}` takes numbers in {min}..={max}, found `{text}`"
                )
            }
            Kind::Directive(name) => write!(
                f,
                "`{name}` is no directive: there are .byte, .half, .word, .dword, .zero and .align"
            ),
            Kind::NotOne(found) => {
                write!(
                    f,
                    "expected one instruction and no data, found {found} instructions"
                )
            }
        }
    }
}

impl std::error::Error for AsmError {}

/// A mnemonic of the tables, the ordering suffix aside.
#[derive(Clone, Copy)]
enum Mnemonic {
    Full(Op),
    Half(&'static CompressedRow),
}

static MNEMONICS: LazyLock<HashMap<&'static str, Mnemonic>> = LazyLock::new(|| {
    let full = TABLE
        .iter()
        .map(|row| (row.mnemonic, Mnemonic::Full(row.op)));
    let half = COMPRESSED
        .iter()
        .map(|row| (row.mnemonic, Mnemonic::Half(row)));
    full.chain(half).collect()
});

/// One reading of the text.
struct Pass<'a> {
    /// All labels of the text; none in the first reading, which takes every
    /// name for one that stands right here.
    known: Option<&'a [(String, u32)]>,
    bytes: Vec<u8>,
    /// Labels seen so far.
    labels: Vec<(String, u32)>,
    /// Instructions seen so far, 16-bit forms expanded.
    insts: Vec<Inst>,
    has_data: bool,
}

type Step = Result<(), Box<Kind>>;

impl<'a> Pass<'a> {
    fn run(text: &str, known: Option<&'a [(String, u32)]>) -> Result<Self, AsmError> {
        let mut pass = Pass {
            known,
            bytes: Vec::new(),
            labels: Vec::new(),
            insts: Vec::new(),
            has_data: false,
        };
        for (i, line) in text.lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default();
            let code = code.split("//").next().unwrap_or_default();
            for statement in code.split(';') {
                pass.labelled(statement)
                    .map_err(|kind| AsmError { line: i + 1, kind })?;
            }
        }
        Ok(pass)
    }

    fn here(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn labelled(&mut self, mut text: &str) -> Step {
        while let Some((name, rest)) = text.split_once(':') {
            let name = name.trim();
            if !syntax::is_name(name) {
                return Err(Kind::LabelName(name.to_owned()).into());
            }
            let is_local = is_local(name);
            if !is_local && self.labels.iter().any(|(label, _)| label == name) {
                return Err(Kind::LabelTwice(name.to_owned()).into());
            }
            self.labels.push((name.to_owned(), self.here()));
            text = rest;
        }
        match text.trim() {
            "" => Ok(()),
            statement => self.statement(statement),
        }
    }

    fn statement(&mut self, text: &str) -> Step {
        let (mnemonic, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let operands: Vec<&str> = match rest.trim() {
            "" => Vec::new(),
            rest => rest.split(',').map(str::trim).collect(),
        };
        if mnemonic.starts_with('.') {
            return self.directive(mnemonic, &operands);
        }
        if let Some(result) = self.instruction(mnemonic, &operands) {
            return result;
        }
        if let Some(meaning) = meaning_of(mnemonic, operands.len()) {
            let mut meaning = meaning.to_owned();
            for (i, operand) in operands.iter().enumerate() {
                meaning = meaning.replace(&format!("${i}"), operand);
            }
            return self.statement(&meaning);
        }
        let syntax = match (mnemonic, &operands[..]) {
            ("li", [rd, value]) => return self.li(rd, value),
            ("la" | "lla", [rd, label]) => return self.la(mnemonic, rd, label),
            ("li", _) => "rd, number".to_owned(),
            ("la" | "lla", _) => "rd, label".to_owned(),
            _ => match (
                MNEMONICS.get(mnemonic),
                (0..4).find(|&n| meaning_of(mnemonic, n).is_some()),
            ) {
                (Some(Mnemonic::Full(op)), _) => syntax::describe(*op),
                (Some(Mnemonic::Half(row)), _) => row.syntax.to_owned(),
                (None, Some(count)) => vec!["operand"; count].join(", "),
                (None, None) => return Err(Kind::Mnemonic(mnemonic.to_owned()).into()),
            },
        };
        let (mnemonic, found) = (mnemonic.to_owned(), operands.len());
        Err(Kind::OperandCount {
            mnemonic,
            syntax,
            found,
        }
        .into())
    }

    /// An instruction of the tables; `None` if `mnemonic` is none of them or
    /// takes another count of operands.
    fn instruction(&mut self, mnemonic: &str, texts: &[&str]) -> Option<Step> {
        let (found, ordering) = match MNEMONICS.get(mnemonic) {
            Some(&found) => (found, 0),
            None => {
                let suffixes = (1..4)
                    .rev()
                    .map(|bits| (bits, syntax::ORDERINGS[bits as usize]));
                suffixes.into_iter().find_map(|(bits, suffix)| {
                    let found = *MNEMONICS.get(mnemonic.strip_suffix(suffix)?)?;
                    matches!(found, Mnemonic::Full(op) if syntax::is_ordered(op))
                        .then_some((found, bits))
                })?
            }
        };
        match found {
            Mnemonic::Full(op) => self.full(mnemonic, op, ordering, texts),
            Mnemonic::Half(row) => self.half(row, texts),
        }
    }

    fn full(&mut self, mnemonic: &str, op: Op, ordering: u32, texts: &[&str]) -> Option<Step> {
        let operands = syntax::operands(op);
        let word = if operands == [Operand::Fence] {
            if meaning_of(mnemonic, texts.len()).is_some() {
                return None;
            }
            syntax::parse_fence(op, texts).map_err(|(i, refusal)| {
                refused(
                    mnemonic,
                    i,
                    texts.get(i).copied().unwrap_or_default(),
                    refusal,
                )
            })
        } else {
            let (operands, implied) = match operands.split_last() {
                Some((Operand::Rm, before)) if texts.len() == before.len() => {
                    (before, format::put_rm(format::Rm::Dyn))
                }
                _ => (operands, 0),
            };
            if texts.len() != operands.len() {
                return None;
            }
            let bits = self.operands(mnemonic, operands, texts);
            bits.map(|bits| bits | implied | (ordering << syntax::ORDERING_BIT))
        };
        Some(word.map(|word| self.emit(inst_of(op, word), None)))
    }

    fn half(&mut self, row: &'static CompressedRow, texts: &[&str]) -> Option<Step> {
        let operands: Vec<Operand> = row
            .operand_names()
            .map(|name| syntax::operand_called(row.op, name))
            .collect();
        if texts.len() != operands.len() {
            return None;
        }
        let mut word = match self.operands(row.mnemonic, &operands, texts) {
            Ok(word) => word,
            Err(kind) => return Some(Err(kind)),
        };
        // Registers that the syntax leaves out are fixed, or the same field
        // of the half word as one that it names.
        let fields = [(7, row.rd), (15, row.rs1), (20, row.rs2)];
        let is_named = |low: u32| operands.iter().any(|operand| operand.fills(low));
        for (low, slot) in fields.into_iter().filter(|&(low, _)| !is_named(low)) {
            let number = match slot {
                Slot::No => 0,
                Slot::Is(number) => u32::from(number),
                Slot::Full(_) | Slot::Short(_) => fields
                    .into_iter()
                    .find(|&(other, same)| same == slot && is_named(other))
                    .map_or(0, |(other, _)| (word >> other) & 31),
            };
            word |= number << low;
        }
        let inst = inst_of(row.op, word);
        Some(match row.compress(inst) {
            Some(half) => {
                self.emit(inst, Some(half));
                Ok(())
            }
            None => {
                let (mnemonic, inst) = (row.mnemonic, inst.to_string());
                Err(Kind::NotCompressible { mnemonic, inst }.into())
            }
        })
    }

    /// The bits of all operands in the 32-bit word.
    fn operands(
        &self,
        mnemonic: &str,
        operands: &[Operand],
        texts: &[&str],
    ) -> Result<u32, Box<Kind>> {
        let mut word = 0;
        for (i, (operand, text)) in operands.iter().zip(texts).enumerate() {
            let bits = operand.parse(text, &|label| self.distance(label));
            word |= bits.map_err(|refusal| refused(mnemonic, i, text, refusal))?;
        }
        Ok(word)
    }

    /// From here to a label.
    fn distance(&self, label: &str) -> Option<i128> {
        let Some(known) = self.known else {
            return Some(0);
        };
        let seen = self.labels.len();
        let (before, after) = known.split_at(seen.min(known.len()));
        let found = match (label.strip_suffix('b'), label.strip_suffix('f')) {
            (Some(name), _) if is_local(name) => before.iter().rev().find(|(l, _)| l == name),
            (_, Some(name)) if is_local(name) => after.iter().find(|(l, _)| l == name),
            _ => known.iter().find(|(l, _)| l == label),
        };
        found.map(|&(_, offset)| i128::from(offset) - i128::from(self.here()))
    }

    fn emit(&mut self, inst: Inst, half: Option<u16>) {
        match half {
            Some(half) => self.bytes.extend(half.to_le_bytes()),
            None => self.bytes.extend(inst.encode().to_le_bytes()),
        }
        self.insts.push(inst);
    }

    fn li(&mut self, rd: &str, text: &str) -> Step {
        let reg = self.operands("li", &[Operand::X(0)], &[rd])?;
        let (min, max) = (i128::from(i64::MIN), i128::from(u64::MAX));
        let refusal = match syntax::number(text) {
            Some(value) if (min..=max).contains(&value) => {
                self.load_value(XReg::from_bits(reg), value as i64);
                return Ok(());
            }
            Some(value) => Refusal::Range {
                value,
                min,
                max,
                step: 1,
                advice: "",
            },
            None => Refusal::Expected("a number"),
        };
        Err(refused("li", 1, text, refusal))
    }

    // The shape that compilers use: 32 bits by lui and addiw, more by loading
    // the upper part first, shifting it into place and adding 12 bits.
    fn load_value(&mut self, rd: XReg, value: i64) {
        let low = ((value << 52) >> 52) as i32;
        let high = value.wrapping_add(0x800) >> 12;
        if i32::try_from(value).is_ok() {
            let upper = (high as i32) << 12;
            if upper == 0 {
                self.emit(
                    Inst::Addi(format::I {
                        rd,
                        rs1: XReg::Zero,
                        imm: low,
                    }),
                    None,
                );
                return;
            }
            self.emit(Inst::Lui(format::U { rd, imm: upper }), None);
            if low != 0 {
                self.emit(
                    Inst::Addiw(format::I {
                        rd,
                        rs1: rd,
                        imm: low,
                    }),
                    None,
                );
            }
            return;
        }
        let zeros = high.trailing_zeros();
        self.load_value(rd, high >> zeros);
        let shamt = (12 + zeros) as u8;
        self.emit(Inst::Slli(format::Sh64 { rd, rs1: rd, shamt }), None);
        if low != 0 {
            self.emit(
                Inst::Addi(format::I {
                    rd,
                    rs1: rd,
                    imm: low,
                }),
                None,
            );
        }
    }

    fn la(&mut self, mnemonic: &str, rd: &str, label: &str) -> Step {
        let reg = self.operands(mnemonic, &[Operand::X(0)], &[rd])?;
        let Some(distance) = self.distance(label) else {
            return Err(refused(
                mnemonic,
                1,
                label,
                Refusal::Label(label.to_owned()),
            ));
        };
        // Programs are far smaller than 2 GiB.
        let distance = distance as i32;
        let rd = XReg::from_bits(reg);
        let low = (distance << 20) >> 20;
        let upper = distance.wrapping_sub(low);
        self.emit(Inst::Auipc(format::U { rd, imm: upper }), None);
        self.emit(
            Inst::Addi(format::I {
                rd,
                rs1: rd,
                imm: low,
            }),
            None,
        );
        Ok(())
    }

    fn directive(&mut self, name: &str, operands: &[&str]) -> Step {
        let value = |text: &str, min: i128, max: i128| -> Result<i128, Box<Kind>> {
            match syntax::number(text) {
                Some(value) if (min..=max).contains(&value) => Ok(value),
                _ => {
                    let (directive, text) = (name.to_owned(), text.to_owned());
                    Err(Kind::DirectiveValue {
                        directive,
                        text,
                        min,
                        max,
                    }
                    .into())
                }
            }
        };
        let bytes = match name {
            ".byte" => 1,
            ".half" => 2,
            ".word" => 4,
            ".dword" => 8,
            ".zero" | ".align" => 0,
            _ => return Err(Kind::Directive(name.to_owned()).into()),
        };
        self.has_data = true;
        match (name, operands) {
            (".zero", [count]) => {
                let count = value(count, 0, ZERO_BYTES_MAX)?;
                self.bytes.resize(self.bytes.len() + count as usize, 0);
            }
            (".align", [exponent]) => {
                let align = 1_usize << value(exponent, 0, 16)?;
                if align > 1 && !self.bytes.len().is_multiple_of(2) {
                    self.bytes.push(0);
                }
                if align > 2 && !self.bytes.len().is_multiple_of(4) {
                    self.bytes.extend([0x01, 0x00]); // c.nop
                }
                while !self.bytes.len().is_multiple_of(align) {
                    self.bytes.extend([0x13, 0x00, 0x00, 0x00]); // addi zero, zero, 0
                }
            }
            (".zero" | ".align", _) => {
                return Err(Kind::OperandCount {
                    mnemonic: name.to_owned(),
                    syntax: "number".to_owned(),
                    found: operands.len(),
                }
                .into());
            }
            _ => {
                let bits = bytes * 8;
                for text in operands {
                    let value = value(text, -(1 << (bits - 1)), (1 << bits) - 1)?;
                    self.bytes.extend(&value.to_le_bytes()[..bytes]);
                }
            }
        }
        Ok(())
    }
}

/// `.zero` of more is a typing error.
const ZERO_BYTES_MAX: i128 = 1 << 24;

// `1:` may stand more than once and is called `1b` and `1f`.
fn is_local(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

fn refused(mnemonic: &str, index: usize, text: &str, refusal: Refusal) -> Box<Kind> {
    let (mnemonic, text) = (mnemonic.to_owned(), text.to_owned());
    Box::new(Kind::Operand {
        mnemonic,
        number: index + 1,
        text,
        refusal,
    })
}

/// What a pseudo-instruction with so many operands stands for.
fn meaning_of(mnemonic: &str, operand_count: usize) -> Option<&'static str> {
    let is = |(name, count, _): &&(&str, usize, _)| *name == mnemonic && *count == operand_count;
    PSEUDO_INSTRUCTIONS
        .iter()
        .find(is)
        .map(|&(.., meaning)| meaning)
}

fn inst_of(op: Op, word: u32) -> Inst {
    Inst::with_operands(op, word).expect("the syntax has no reserved operands")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::decode;

    /// The text assembles to these instructions, printed canonically.
    fn check(text: &str, expected: &[&str]) {
        let bytes = assemble(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let mut at = 0;
        let mut found = Vec::new();
        while at < bytes.len() {
            let mut bits = [0; 4];
            let end = bytes.len().min(at + 4);
            bits[..end - at].copy_from_slice(&bytes[at..end]);
            let decoded = decode(u32::from_le_bytes(bits)).unwrap();
            found.push(decoded.inst.to_string());
            at += usize::from(decoded.len);
        }
        assert_eq!(found, expected, "{text}");
    }

    fn check_error(text: &str, expected: &str) {
        assert_eq!(assemble(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn labels_become_distances() {
        check(
            "start: addi x10, x10, 1 # comment\n beq a0, fp, start; j end\n nop\nend: ebreak",
            &[
                "addi a0, a0, 1",
                "beq a0, s0, -4",
                "jal zero, 8",
                "addi zero, zero, 0",
                "ebreak",
            ],
        );
        check(
            "1: j 1f\n1: j 1b\nj 1b",
            &["jal zero, 4", "jal zero, 0", "jal zero, -4"],
        );
        let program = assemble_program("a: .zero 6\nb:\nc: .word 1").unwrap();
        assert_eq!(
            program.labels,
            [("a".into(), 0), ("b".into(), 6), ("c".into(), 6)]
        );
        assert_eq!(program.label("c"), Some(6));
    }

    #[test]
    fn addresses_of_labels_are_relative() {
        check(
            "la a0, x\nx: nop",
            &["auipc a0, 0x0", "addi a0, a0, 8", "addi zero, zero, 0"],
        );
    }

    #[test]
    fn compressed_mnemonics_emit_two_bytes() {
        let bytes = assemble("c.addi a0, 1\nc.nop\nc.mv a0, a1\nc.lwsp a0, 8(sp)\nc.j 0").unwrap();
        assert_eq!(
            bytes,
            [0x05, 0x05, 0x01, 0x00, 0x2e, 0x85, 0x22, 0x45, 0x01, 0xa0]
        );
        check("x: c.beqz a0, x", &["beq a0, zero, 0"]);
        check_error(
            "c.addi a0, 99",
            "line 1: `c.addi` cannot hold these operands: write `addi a0, a0, 99`",
        );
        check_error(
            "c.lw a7, 0(a0)",
            "line 1: `c.lw` cannot hold these operands: write `lw a7, 0(a0)`",
        );
    }

    #[test]
    fn li_loads_any_value() {
        check("li a0, -1", &["addi a0, zero, -1"]);
        check(
            "li a0, 0x12345678",
            &["lui a0, 0x12345", "addiw a0, a0, 1656"],
        );
        check(
            "li a0, 0x80000000",
            &["addi a0, zero, 1", "slli a0, a0, 31"],
        );
        check(
            "li a0, 0x7fffffff",
            &["lui a0, 0x80000", "addiw a0, a0, -1"],
        );
        // What the instructions compute, for values around every power of two.
        let mut values = vec![0x0123_4567_89ab_cdef, 0xdead_beef_cafe_f00d];
        for bit in 0..64 {
            for delta in [-2049, -2048, -1, 0, 1, 2047, 2048] {
                values.push((1_u64 << bit).wrapping_add_signed(delta));
                values.push((1_u64 << bit).wrapping_neg().wrapping_add_signed(delta));
            }
        }
        for value in values {
            let pass = Pass::run(&format!("li a0, {value}"), None).unwrap();
            assert!(pass.insts.len() <= 8);
            let mut a0 = 0_i64;
            for inst in pass.insts {
                a0 = match inst {
                    Inst::Lui(a) => i64::from(a.imm),
                    Inst::Addi(format::I {
                        rs1: XReg::Zero,
                        imm,
                        ..
                    }) => i64::from(imm),
                    Inst::Addi(a) => a0.wrapping_add(a.imm.into()),
                    Inst::Addiw(a) => i64::from((a0 as i32).wrapping_add(a.imm)),
                    Inst::Slli(a) => a0 << a.shamt,
                    other => panic!("{other}"),
                };
            }
            assert_eq!(a0.cast_unsigned(), value, "{value:#x}");
        }
    }

    #[test]
    fn pseudo_instructions_mean_what_the_manual_says() {
        for &(name, count, meaning) in PSEUDO_INSTRUCTIONS {
            // Operands that fit anywhere: registers where the meaning has a
            // register, else 0.
            let found = [
                ["a0", "a1", "a2"],
                ["a0", "a1", "8"],
                ["a0", "8", "8"],
                ["8", "8", "8"],
            ]
            .into_iter()
            .chain([
                ["fa0", "fa1", "fa2"],
                ["a0", "fa1", "fa2"],
                ["frm", "a1", "8"],
            ])
            .chain([["a0", "frm", "8"], ["frm", "8", "8"]])
            .find_map(|operands| {
                let text = format!("{name} {}", operands[..count].join(", "));
                let inst = assemble_inst(&text).ok()?;
                let mut meaning = meaning.to_owned();
                for (i, operand) in operands.iter().enumerate() {
                    meaning = meaning.replace(&format!("${i}"), operand);
                }
                assert_eq!(Ok(inst), assemble_inst(&meaning), "{text}");
                Some(text)
            });
            assert!(found.is_some(), "{name}");
        }
        check("fneg.d fa0, fa1", &["fsgnjn.d fa0, fa1, fa1"]);
        check("fsflags a0, a1", &["csrrw a0, fflags, a1"]);
        check("fence", &["fence iorw, iorw"]);
        check("jalr a0", &["jalr ra, 0(a0)"]);
        check("lr.w.aq a0, 0(a1)", &["lr.w.aq a0, (a1)"]);
    }

    #[test]
    fn data_directives_lay_out_bytes() {
        let bytes = assemble(".byte 1, -1\n.half 0x1234\n.word 0xdeadbeef\n.dword -2").unwrap();
        assert_eq!(bytes[..8], [1, 0xff, 0x34, 0x12, 0xef, 0xbe, 0xad, 0xde]);
        assert_eq!(bytes[8..], (-2_i64).to_le_bytes());
        let bytes = assemble("c.nop\n.byte 7\n.align 3\n.dword 5").unwrap();
        assert_eq!(bytes, [1, 0, 7, 0, 0x13, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn errors_name_line_operand_and_range() {
        check_error(
            "nop\naddi a0, a0, 5000",
            "line 2: operand 3 of `addi`: 5000 is not in -2048..=2047; load it into a register with li",
        );
        check_error(
            "addi a0, a0",
            "line 1: 2 operands: write `addi rd, rs1, imm`",
        );
        check_error("ebreak a0", "line 1: 1 operands: write `ebreak`");
        check_error(
            "add a0, a0, fa0",
            "line 1: operand 3 of `add`: expected an integer register, found `fa0`",
        );
        check_error(
            "j nowhere",
            "line 1: operand 2 of `jal`: there is no label `nowhere`",
        );
        check_error(
            "beq a0, a1, 3",
            "line 1: operand 3 of `beq`: 3 is not in -4096..=4094 in steps of 2; branch around a j to it",
        );
        check_error(
            "x: x: nop",
            "line 1: label `x` stands on an earlier line too; rename one",
        );
        check_error(
            ".byte 256",
            "line 1: `.byte` takes numbers in -128..=255, found `256`",
        );
        check_error(
            "fence.x",
            "line 1: `fence.x` is no instruction of RV64GC, Zba, Zbb, Zbc, Zbs, Zbkx or Zicond and no pseudo-instruction known here",
        );
        check_error(
            "addi.aq a0, a0, 1",
            "line 1: `addi.aq` is no instruction of RV64GC, Zba, Zbb, Zbc, Zbs, Zbkx or Zicond and no pseudo-instruction known here",
        );
        assert_eq!(assemble_inst("nop; nop").unwrap_err().line(), 1);
    }
}
