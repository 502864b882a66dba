//! What the table expands to: [`Op`], [`Inst`] and the [`Visitor`] that makes
//! an engine exhaustive.

use super::format::{self, Format};
use super::table::for_each_inst;
use crate::reg::RegSets;

/// The part of the ISA that an instruction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extension {
    /// The base integer ISA.
    I,
    /// Multiplication and division.
    M,
    /// Atomics.
    A,
    /// Single precision.
    F,
    /// Double precision.
    D,
    /// Control and status registers.
    Zicsr,
    /// Instruction-fetch fence.
    Zifencei,
    /// Address generation.
    Zba,
    /// Basic bit manipulation.
    Zbb,
    /// Carry-less multiplication.
    Zbc,
    /// Single-bit instructions.
    Zbs,
    /// Crossbar permutations.
    Zbkx,
    /// Integer conditional operations.
    Zicond,
}

/// A row of the instruction table, operands aside.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which instruction.
    pub op: Op,
    /// Its name in assembly.
    pub mnemonic: &'static str,
    /// Its operand format.
    pub format: format::Kind,
    /// Bits that a word of this instruction has where `mask` is set.
    pub matches: u32,
    /// Bits that tell this instruction from others.
    pub mask: u32,
    /// Part of the ISA.
    pub extension: Extension,
    /// What it does, in symbols.
    pub semantics: &'static str,
}

macro_rules! expand {
    ($($method:ident $Variant:ident $mnemonic:literal $Format:ident $match:literal $mask:literal $ext:ident $semantics:literal;)*) => {
        /// An instruction without its operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Op {
            $(#[doc = concat!("`", $mnemonic, "`: `", $semantics, "`")] $Variant,)*
        }

        /// A decoded instruction; a compressed one stands as the 32-bit
        /// instruction that it abbreviates.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Inst {
            $(#[doc = concat!("`", $mnemonic, "`: `", $semantics, "`")] $Variant(format::$Format),)*
        }

        /// One method per row of the table: whoever implements it handles
        /// every instruction, and a new row does not compile until they do.
        pub trait Visitor {
            /// What handling one instruction gives.
            type Output;
            $(
                #[doc = concat!("`", $mnemonic, "`: `", $semantics, "`")]
                fn $method(&mut self, a: format::$Format) -> Self::Output;
            )*
        }

        /// The table as data, by [`Op`].
        pub static TABLE: &[Row] = &[
            $(Row {
                op: Op::$Variant,
                mnemonic: $mnemonic,
                format: <format::$Format as Format>::KIND,
                matches: $match,
                mask: $mask,
                extension: Extension::$ext,
                semantics: $semantics,
            },)*
        ];

        impl Inst {
            /// Calls the visitor's method for this instruction.
            #[inline(always)]
            pub fn visit<V: Visitor>(self, visitor: &mut V) -> V::Output {
                match self {
                    $(Inst::$Variant(a) => visitor.$method(a),)*
                }
            }

            /// The instruction without its operands.
            #[inline]
            pub const fn op(self) -> Op {
                match self {
                    $(Inst::$Variant(_) => Op::$Variant,)*
                }
            }

            /// The 32-bit word. Immediates out of range are cut to their
            /// field; the assembler refuses them before.
            pub fn encode(self) -> u32 {
                match self {
                    $(Inst::$Variant(a) => $match | a.insert(),)*
                }
            }

            /// Registers that it reads and writes.
            pub fn regs(self) -> RegSets {
                match self {
                    $(Inst::$Variant(a) => a.regs(),)*
                }
            }

            /// `op` with the operands of word `w`, or `None` where its format
            /// reserves them.
            pub(super) fn with_operands(op: Op, w: u32) -> Option<Inst> {
                Some(match op {
                    $(Op::$Variant => Inst::$Variant(format::$Format::extract(w)?),)*
                })
            }
        }
    };
}
for_each_inst!(expand);

impl Op {
    /// Its row of the table.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Its name in assembly.
    pub fn mnemonic(self) -> &'static str {
        self.row().mnemonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_instruction_stays_small() {
        // Interpreters keep one beside its length in a 16-byte record.
        assert!(size_of::<Inst>() <= 8);
    }

    #[test]
    fn rows_are_told_apart_by_their_masks() {
        for (i, a) in TABLE.iter().enumerate() {
            assert_eq!(
                a.matches & !a.mask,
                0,
                "{} matches bits outside its mask",
                a.mnemonic
            );
            assert_eq!(a.matches & 3, 3, "{} is not a 32-bit encoding", a.mnemonic);
            for b in &TABLE[i + 1..] {
                let both = a.mask & b.mask;
                assert_ne!(
                    a.matches & both,
                    b.matches & both,
                    "{} and {}",
                    a.mnemonic,
                    b.mnemonic
                );
            }
        }
    }
}
