//! svg
/// x
#[must_use]
pub fn comparison_svg() -> String { String::new() }
