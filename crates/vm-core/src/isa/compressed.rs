//! Compressed forms.
use super::Inst;
/// Expands.
#[must_use]
pub fn expand(_half: u16) -> Option<Inst> { None }
