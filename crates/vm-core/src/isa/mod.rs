//! The RV64GC instruction set with Zba, Zbb, Zbc, Zbs, Zbkx and Zicond.
//!
//! ```text
//! table ── format ──> inst (Op, Inst, Visitor)
//!   bits ──decode, compressed──> Inst ──encode──> bits
//!                                 Inst ──disasm──> text ──asm──> Inst
//! ```

pub(crate) mod table;
pub mod format;
mod inst;
mod decode;
pub mod compressed;
pub mod disasm;
mod syntax;
pub mod asm;
pub mod doc;
pub mod float;

pub use decode::{Decoded, decode};
pub use inst::{Extension, Inst, Op, Row, TABLE, Visitor};
