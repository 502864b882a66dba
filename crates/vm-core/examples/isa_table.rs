//! Prints docs/isa-table.md: `cargo xtask codegen` calls this.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(vm_core::isa::doc::isa_table_markdown().as_bytes())
}
