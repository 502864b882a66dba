//! Register numbers as types: an index that cannot be out of range.
//!
//! Both files have 32 registers and one enum variant each, so that indexing
//! `[u64; 32]` needs no bounds check and a decoded instruction has room for
//! its tag beside them.

use std::fmt;

macro_rules! registers {
    ($(#[$doc:meta])* $Reg:ident $prefix:literal: $($variant:ident $name:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $Reg {
            $(#[doc = concat!("`", $name, "` in the standard calling convention.")] $variant,)*
        }

        impl $Reg {
            /// All registers, by number.
            pub const ALL: [$Reg; 32] = [$($Reg::$variant,)*];

            /// The register in the low five bits of `bits`.
            #[inline(always)]
            pub const fn from_bits(bits: u32) -> $Reg {
                Self::ALL[(bits & 31) as usize]
            }

            /// Its number, below 32.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Its bit in a set of registers.
            #[inline(always)]
            pub const fn bit(self) -> u32 {
                1 << self as u32
            }

            /// Its name in the standard calling convention.
            pub const fn abi_name(self) -> &'static str {
                const NAMES: [&str; 32] = [$($name,)*];
                NAMES[self as usize]
            }

            /// The register called `name`, by number or by convention.
            pub fn from_name(name: &str) -> Option<$Reg> {
                if let Some(digits) = name.strip_prefix($prefix)
                    && let Ok(number) = digits.parse::<u32>()
                    && number < 32
                    && (digits.len() == 1 || !digits.starts_with('0'))
                {
                    return Some($Reg::from_bits(number));
                }
                Self::ALL.into_iter().find(|r| r.abi_name() == name)
            }
        }

        impl fmt::Display for $Reg {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.abi_name())
            }
        }

        impl fmt::Debug for $Reg {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.abi_name())
            }
        }
    };
}

registers! {
    /// An integer register.
    XReg "x":
    Zero "zero",
    Ra "ra",
    Sp "sp",
    Gp "gp",
    Tp "tp",
    T0 "t0",
    T1 "t1",
    T2 "t2",
    S0 "s0",
    S1 "s1",
    A0 "a0",
    A1 "a1",
    A2 "a2",
    A3 "a3",
    A4 "a4",
    A5 "a5",
    A6 "a6",
    A7 "a7",
    S2 "s2",
    S3 "s3",
    S4 "s4",
    S5 "s5",
    S6 "s6",
    S7 "s7",
    S8 "s8",
    S9 "s9",
    S10 "s10",
    S11 "s11",
    T3 "t3",
    T4 "t4",
    T5 "t5",
    T6 "t6",
}

registers! {
    /// A floating-point register.
    FReg "f":
    Ft0 "ft0",
    Ft1 "ft1",
    Ft2 "ft2",
    Ft3 "ft3",
    Ft4 "ft4",
    Ft5 "ft5",
    Ft6 "ft6",
    Ft7 "ft7",
    Fs0 "fs0",
    Fs1 "fs1",
    Fa0 "fa0",
    Fa1 "fa1",
    Fa2 "fa2",
    Fa3 "fa3",
    Fa4 "fa4",
    Fa5 "fa5",
    Fa6 "fa6",
    Fa7 "fa7",
    Fs2 "fs2",
    Fs3 "fs3",
    Fs4 "fs4",
    Fs5 "fs5",
    Fs6 "fs6",
    Fs7 "fs7",
    Fs8 "fs8",
    Fs9 "fs9",
    Fs10 "fs10",
    Fs11 "fs11",
    Ft8 "ft8",
    Ft9 "ft9",
    Ft10 "ft10",
    Ft11 "ft11",
}

/// Registers that an instruction reads and writes, as sets of bits by number.
/// `x0` never appears among the integer registers: it is a constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegSets {
    /// Integer registers read.
    pub x_reads: u32,
    /// Integer registers written.
    pub x_writes: u32,
    /// Floating-point registers read.
    pub f_reads: u32,
    /// Floating-point registers written.
    pub f_writes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (i, r) in XReg::ALL.into_iter().enumerate() {
            assert_eq!(r.index(), i);
            assert_eq!(XReg::from_name(r.abi_name()), Some(r));
            assert_eq!(XReg::from_name(&format!("x{i}")), Some(r));
        }
        for (i, r) in FReg::ALL.into_iter().enumerate() {
            assert_eq!(FReg::from_name(r.abi_name()), Some(r));
            assert_eq!(FReg::from_name(&format!("f{i}")), Some(r));
        }
        assert_eq!(XReg::from_name("x32"), None);
        assert_eq!(XReg::from_name("x01"), None);
        assert_eq!(XReg::from_name(""), None);
    }
}
