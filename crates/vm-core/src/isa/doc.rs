//! The instruction tables as a page for people: docs/isa-table.md.

use std::fmt::Write;

use super::compressed::COMPRESSED;
use super::inst::TABLE;
use super::syntax;

/// The text of docs/isa-table.md.
#[must_use]
pub fn isa_table_markdown() -> String {
    let mut text = String::from(
        "# Instructions\n\n\
         Generated from `crates/vm-core/src/isa/table.rs` and `compressed.rs`; \
         `UPDATE_EXPECT=1 cargo test -p vm-core --test decode_table` writes it anew.\n\n\
         A word `w` is the instruction of a row when `w & mask == match`. `len` is the \
         instruction's length: 2 or 4. Operations are on 64-bit registers; `<s`, `>>s` are \
         signed, `<u`, `>>u` unsigned. `[rm]` left out is the dynamic rounding mode.\n",
    );
    let mut extension = None;
    // Writing to a string cannot fail.
    for row in TABLE {
        if extension != Some(row.extension) {
            extension = Some(row.extension);
            let _ = write!(
                text,
                "\n## {:?}\n\n| Instruction | Match | Mask | Format | What it does |\n|---|---|---|---|---|\n",
                row.extension
            );
        }
        let suffix = if syntax::is_ordered(row.op) {
            "[.aq][.rl]"
        } else {
            ""
        };
        let written = format!("{}{suffix} {}", row.mnemonic, syntax::describe(row.op));
        let _ = writeln!(
            text,
            "| `{}` | `{:#010x}` | `{:#010x}` | {:?} | `{}` |",
            written.trim_end(),
            row.matches,
            row.mask,
            row.format,
            row.semantics.replace('|', "\\|"),
        );
    }
    text.push_str(
        "\n## C\n\nThe first row that matches a half word is its form.\n\n\
         | Instruction | Match | Mask | Stands for |\n|---|---|---|---|\n",
    );
    for row in COMPRESSED {
        let _ = writeln!(
            text,
            "| `{}` | `{:#06x}` | `{:#06x}` | `{}` |",
            format!("{} {}", row.mnemonic, row.syntax).trim_end(),
            row.matches,
            row.mask,
            row.op.mnemonic(),
        );
    }
    text
}
