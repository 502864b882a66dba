//! What the engines counted. Units are in the names; everything only grows,
//! so that a difference of two snapshots describes what lies between them.

/// Counts of an interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterpStats {
    /// Guest instructions retired.
    pub insts: u64,
    /// Blocks entered.
    pub blocks: u64,
    /// Blocks decoded.
    pub blocks_decoded: u64,
    /// Decoded blocks dropped because their bytes or permissions changed.
    pub blocks_invalidated: u64,
}
