//! Assembly syntax of the operand formats, once for both directions.
//!
//! An [`Operand`] knows its bits in the 32-bit word: printing reads them out
//! of the word, parsing puts them in. A format is a list of operands, so a new
//! row of the table with a known format needs nothing here, and a new format
//! does not compile before it has its line below.

use std::fmt::{self, Write};

use super::format;
use super::inst::{Op, TABLE};
use super::table::for_each_inst;
use crate::csr;
use crate::reg::{FReg, XReg};

/// One operand as it is written, between two commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// An integer register in the field that starts at this bit.
    X(u32),
    /// A floating-point register, likewise.
    F(u32),
    /// Signed 12 bits.
    ImmI,
    /// The upper 20 bits, written without the 12 zeros below.
    Upper,
    /// `imm(rs1)` of loads and jumps.
    MemI,
    /// `imm(rs1)` of stores.
    MemS,
    /// `(rs1)` of atomics.
    Addr,
    /// A branch's distance in bytes, or a label.
    TargetB,
    /// A jump's distance in bytes, or a label.
    TargetJ,
    /// A shift amount below 64.
    Shamt6,
    /// A shift amount below 32.
    Shamt5,
    /// A control and status register, by name or number.
    Csr,
    /// Unsigned 5 bits in the place of `rs1`.
    Uimm5,
    /// Rounding mode; left out when dynamic.
    Rm,
    /// All operands of `fence` and `fence.i`: see [`fence_text`].
    Fence,
}

use Operand::*;

const RD: u32 = 7;
const RS1: u32 = 15;
const RS2: u32 = 20;
const RS3: u32 = 27;

/// The operands of a format, in the order of writing.
trait Syntax {
    const OPERANDS: &'static [Operand];
    /// The mnemonic takes `.aq`, `.rl` or `.aqrl`.
    const ORDERED: bool = false;
}

macro_rules! syntax {
    ($($Format:ident [$($operand:expr),*] $($ordered:ident)?;)*) => {
        $(impl Syntax for format::$Format {
            const OPERANDS: &'static [Operand] = &[$($operand),*];
            $(const $ordered: bool = true;)?
        })*
    };
}

syntax! {
    Nullary [];
    R       [X(RD), X(RS1), X(RS2)];
    R1      [X(RD), X(RS1)];
    I       [X(RD), X(RS1), ImmI];
    Jalr    [X(RD), MemI];
    Sh64    [X(RD), X(RS1), Shamt6];
    Sh32    [X(RD), X(RS1), Shamt5];
    Load    [X(RD), MemI];
    S       [X(RS2), MemS];
    B       [X(RS1), X(RS2), TargetB];
    U       [X(RD), Upper];
    J       [X(RD), TargetJ];
    Fence   [Fence];
    Csr     [X(RD), Csr, X(RS1)];
    Csri    [X(RD), Csr, Uimm5];
    Amo     [X(RD), X(RS2), Addr] ORDERED;
    Lr      [X(RD), Addr] ORDERED;
    FLoad   [F(RD), MemI];
    FStore  [F(RS2), MemS];
    FR      [F(RD), F(RS1), F(RS2), Rm];
    FR1     [F(RD), F(RS1), Rm];
    FR4     [F(RD), F(RS1), F(RS2), F(RS3), Rm];
    FRn     [F(RD), F(RS1), F(RS2)];
    FCmp    [X(RD), F(RS1), F(RS2)];
    FToX    [X(RD), F(RS1), Rm];
    FToXn   [X(RD), F(RS1)];
    XToF    [F(RD), X(RS1), Rm];
    XToFn   [F(RD), X(RS1)];
}

macro_rules! by_op {
    ($($method:ident $Variant:ident $mnemonic:literal $Format:ident $match:literal $mask:literal $ext:ident $semantics:literal;)*) => {
        // By `Op`, like `TABLE`.
        static OPERANDS: [(&[Operand], bool); TABLE.len()] = [
            $((<format::$Format as Syntax>::OPERANDS, <format::$Format as Syntax>::ORDERED),)*
        ];
    };
}
for_each_inst!(by_op);

/// The operands of `op` in the order of writing.
pub(super) fn operands(op: Op) -> &'static [Operand] {
    OPERANDS[op as usize].0
}

/// Whether the mnemonic of `op` takes an ordering suffix.
pub(super) fn is_ordered(op: Op) -> bool {
    OPERANDS[op as usize].1
}

/// Ordering suffixes by the two bits aq (2) and rl (1).
pub(super) const ORDERINGS: [&str; 4] = ["", ".rl", ".aq", ".aqrl"];
/// Where those two bits are.
pub(super) const ORDERING_BIT: u32 = 25;

/// Why the text of an operand is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is something else.
    Expected(&'static str),
    /// A number, outside its range or between its steps.
    Range {
        value: i128,
        min: i128,
        max: i128,
        step: i128,
        advice: &'static str,
    },
    /// No such label.
    Label(String),
}

/// Distance from here to a label, or `None` where there is no such label.
pub(super) type Resolve<'a> = &'a dyn Fn(&str) -> Option<i128>;

impl Operand {
    /// Writes the operand of `word` as text, a target from `pc` if given.
    pub(super) fn print(self, out: &mut dyn Write, word: u32, pc: Option<u64>) -> fmt::Result {
        let target = |out: &mut dyn Write, imm: i32| match pc {
            Some(pc) => write!(out, "{:#x}", pc.wrapping_add_signed(imm.into())),
            None => write!(out, "{imm}"),
        };
        let rs1 = XReg::from_bits(word >> RS1);
        match self {
            X(low) => write!(out, "{}", XReg::from_bits(word >> low)),
            F(low) => write!(out, "{}", FReg::from_bits(word >> low)),
            ImmI => write!(out, "{}", format::imm_i(word)),
            Upper => write!(out, "{:#x}", word >> 12),
            MemI => write!(out, "{}({rs1})", format::imm_i(word)),
            MemS => write!(out, "{}({rs1})", format::imm_s(word)),
            Addr => write!(out, "({rs1})"),
            TargetB => target(out, format::imm_b(word)),
            TargetJ => target(out, format::imm_j(word)),
            Shamt6 => write!(out, "{}", (word >> 20) & 63),
            Shamt5 => write!(out, "{}", (word >> 20) & 31),
            Csr => {
                let number = (word >> 20) as u16;
                match csr::NAMES.iter().find(|&&(_, n)| n == number) {
                    Some((name, _)) => out.write_str(name),
                    None => write!(out, "{number:#x}"),
                }
            }
            Uimm5 => write!(out, "{}", (word >> RS1) & 31),
            Rm => match rm_of(word) {
                Some(rm) => out.write_str(rm.name()),
                None => out.write_str("reserved"),
            },
            Fence => Ok(()),
        }
    }

    /// Whether the operand is left out of the text of `word`.
    pub(super) fn is_implied(self, word: u32) -> bool {
        match self {
            Rm => rm_of(word) == Some(format::Rm::Dyn),
            Fence => true,
            _ => false,
        }
    }

    /// The operand's bits in a word, from its text.
    pub(super) fn parse(self, text: &str, resolve: Resolve<'_>) -> Result<u32, Refusal> {
        let ranged = |min: i128, max: i128| -> Result<i32, Refusal> {
            in_range(
                number(text).ok_or(Refusal::Expected("a number"))?,
                min,
                max,
                1,
                "",
            )
        };
        let target = |bits: u32, advice| -> Result<i32, Refusal> {
            let distance = match number(text) {
                Some(distance) => distance,
                None if !is_name(text) => {
                    return Err(Refusal::Expected("a label or a distance in bytes"));
                }
                None => resolve(text).ok_or_else(|| Refusal::Label(text.to_owned()))?,
            };
            in_range(
                distance,
                -(1 << (bits - 1)),
                (1 << (bits - 1)) - 2,
                2,
                advice,
            )
        };
        let mem = || -> Result<(i32, u32), Refusal> {
            let (imm, base) = split_mem(text).ok_or(Refusal::Expected("offset(register)"))?;
            let imm = match imm {
                "" => 0,
                _ => number(imm).ok_or(Refusal::Expected("a number before the bracket"))?,
            };
            let advice = "add the offset to the base register first";
            Ok((in_range(imm, -2048, 2047, 1, advice)?, x_reg(base)? << RS1))
        };
        Ok(match self {
            X(low) => x_reg(text)? << low,
            F(low) => {
                let reg = FReg::from_name(text);
                (reg.ok_or(Refusal::Expected("a floating-point register"))? as u32) << low
            }
            ImmI => {
                let value = number(text).ok_or(Refusal::Expected("a number"))?;
                let advice = "load it into a register with li";
                format::put_imm_i(in_range(value, -2048, 2047, 1, advice)?)
            }
            Upper => ranged(0, 0xf_ffff)?.cast_unsigned() << 12,
            MemI => {
                let (imm, base) = mem()?;
                format::put_imm_i(imm) | base
            }
            MemS => {
                let (imm, base) = mem()?;
                format::put_imm_s(imm) | base
            }
            Addr => match split_mem(text) {
                Some(("" | "0", base)) => x_reg(base)? << RS1,
                _ => return Err(Refusal::Expected("(register)")),
            },
            TargetB => format::put_imm_b(target(13, "branch around a j to it")?),
            TargetJ => format::put_imm_j(target(21, "load its address with la and use jr")?),
            Shamt6 => ranged(0, 63)?.cast_unsigned() << 20,
            Shamt5 => ranged(0, 31)?.cast_unsigned() << 20,
            Csr => match csr::NAMES.iter().find(|(name, _)| *name == text) {
                Some(&(_, number)) => u32::from(number) << 20,
                None if number(text).is_some() => ranged(0, 0xfff)?.cast_unsigned() << 20,
                None => {
                    return Err(Refusal::Expected(
                        "fflags, frm, fcsr, cycle, time, instret or a number",
                    ));
                }
            },
            Uimm5 => ranged(0, 31)?.cast_unsigned() << RS1,
            Rm => {
                let rm = (0..8)
                    .filter_map(format::Rm::from_bits)
                    .find(|rm| rm.name() == text)
                    .ok_or(Refusal::Expected("rne, rtz, rdn, rup, rmm or dyn"))?;
                format::put_rm(rm)
            }
            Fence => return Err(Refusal::Expected("sets of i, o, r and w")),
        })
    }

    /// What stands for the operand where syntax is described.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            X(RD) => "rd",
            X(RS1) => "rs1",
            X(_) => "rs2",
            F(RD) => "fd",
            F(RS1) => "fs1",
            F(RS2) => "fs2",
            F(_) => "fs3",
            ImmI | Upper => "imm",
            MemI | MemS => "imm(rs1)",
            Addr => "(rs1)",
            TargetB | TargetJ => "target",
            Shamt6 | Shamt5 => "shamt",
            Csr => "csr",
            Uimm5 => "uimm",
            Rm => "[rm]",
            Fence => "[pred, succ]",
        }
    }

    /// The register fields of the word that the operand fills, by lowest bit.
    pub(super) fn fills(self, low: u32) -> bool {
        match self {
            X(at) | F(at) => at == low,
            MemI | MemS | Addr => low == RS1,
            _ => false,
        }
    }
}

/// The operand of `op` that a compressed form's syntax calls `name`.
pub(super) fn operand_called(op: Op, name: &str) -> Operand {
    let find = |wanted: fn(Operand) -> bool| {
        operands(op)
            .iter()
            .copied()
            .find(|&operand| wanted(operand))
    };
    match name {
        "rd" => find(|o| matches!(o, X(RD) | F(RD))),
        // A jump's rs1 stands inside `imm(rs1)` and is a register of its own here.
        "rs1" => Some(X(RS1)),
        "rs2" => find(|o| matches!(o, X(RS2) | F(RS2))),
        "imm" => find(|o| matches!(o, ImmI | Upper | TargetB | TargetJ | Shamt6)),
        _ => find(|o| matches!(o, MemI | MemS)),
    }
    .expect("a compressed form names operands of its instruction")
}

fn rm_of(word: u32) -> Option<format::Rm> {
    format::Rm::from_bits(word >> 12)
}

fn x_reg(text: &str) -> Result<u32, Refusal> {
    let reg = XReg::from_name(text).or((text == "fp").then_some(XReg::S0));
    Ok(reg.ok_or(Refusal::Expected("an integer register"))? as u32)
}

fn in_range(
    value: i128,
    min: i128,
    max: i128,
    step: i128,
    advice: &'static str,
) -> Result<i32, Refusal> {
    if (min..=max).contains(&value) && value % step == 0 {
        Ok(value as i32)
    } else {
        Err(Refusal::Range {
            value,
            min,
            max,
            step,
            advice,
        })
    }
}

// `8(sp)` → ("8", "sp").
fn split_mem(text: &str) -> Option<(&str, &str)> {
    let (imm, base) = text.strip_suffix(')')?.split_once('(')?;
    Some((imm.trim(), base.trim()))
}

/// A number with optional sign: decimal, `0x` or `0b`; `_` separates digits.
pub(super) fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match (digits.strip_prefix("0x"), digits.strip_prefix("0b")) {
        (Some(hex), _) => (16, hex),
        (_, Some(binary)) => (2, binary),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    Some(if negative { -value } else { value })
}

/// Whether `text` can name a label: letters, digits, `_` and `.`.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
}

/// The operands of `fence` and `fence.i` as text, the mnemonic's suffix and
/// separators included.
///
/// `fence rw, rw`; sets are `iorw` or `0`. Words with bits in the fields that
/// the base ISA ignores are written `fence rd, rs1, imm`, so that nothing is
/// lost; of these only `fence.tso` has a name.
pub(super) fn fence_text(op: Op, word: u32) -> String {
    let imm = format::imm_i(word);
    let registers = word & 0x000f_8f80;
    let has_sets = op == Op::Fence;
    if registers == 0 && has_sets && imm == FENCE_TSO {
        ".tso".to_owned()
    } else if registers == 0 && has_sets && (0..256).contains(&imm) {
        let set = |bits: i32| match bits & 15 {
            0 => "0".to_owned(),
            bits => {
                let letters = "iorw".chars().enumerate();
                letters
                    .filter(|(i, _)| bits & (8 >> i) != 0)
                    .map(|(_, letter)| letter)
                    .collect()
            }
        };
        format!(" {}, {}", set(imm >> 4), set(imm))
    } else if registers == 0 && !has_sets && imm == 0 {
        String::new()
    } else {
        format!(
            " {}, {}, {imm}",
            XReg::from_bits(word >> RD),
            XReg::from_bits(word >> RS1)
        )
    }
}

/// The immediate of `fence.tso`: mode 8 over `rw, rw`.
const FENCE_TSO: i32 = 0x833 - 0x1000;

/// The operand bits of `fence` and `fence.i`; the error has the index of the
/// operand that is wrong.
pub(super) fn parse_fence(op: Op, texts: &[&str]) -> Result<u32, (usize, Refusal)> {
    let set = |index: usize| -> Result<u32, (usize, Refusal)> {
        let mut bits = 0;
        for letter in texts[index].chars().filter(|_| texts[index] != "0") {
            let bit = "wroi".find(letter).map(|i| 1 << i).unwrap_or_default();
            if bit == 0 || bits & bit != 0 {
                return Err((index, Refusal::Expected("a set of i, o, r and w, or 0")));
            }
            bits |= bit;
        }
        Ok(bits)
    };
    match texts {
        [] if op == Op::FenceI => Ok(0),
        [_, _] if op == Op::Fence => Ok((set(0)? << 24) | (set(1)? << 20)),
        [rd, rs1, imm] => {
            let none: Resolve<'_> = &|_| None;
            Ok(X(RD).parse(rd, none).map_err(|e| (0, e))?
                | X(RS1).parse(rs1, none).map_err(|e| (1, e))?
                | ImmI.parse(imm, none).map_err(|e| (2, e))?)
        }
        _ => Err((texts.len(), Refusal::Expected("a set of i, o, r and w"))),
    }
}

/// The syntax of `op` as it is described to people: `rd, imm(rs1)`.
pub(super) fn describe(op: Op) -> String {
    let names: Vec<_> = operands(op)
        .iter()
        .map(|operand| operand.placeholder())
        .collect();
    names.join(", ")
}
