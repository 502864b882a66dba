//! Programs that tests make up: shell scripts in the place of workers.

use std::path::Path;
use std::process::Command;

/// Writes a script that can be executed.
///
/// Another process writes it: while this one has a file open for writing, a
/// child that another test starts has it, too, until it executes its own
/// program, and so long the file cannot be executed (`ETXTBSY`).
pub(crate) fn write(path: &Path, script: &str) {
    let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let mut command = Command::new("sh");
    let written = command.args(["-c", write, "sh", script]).arg(path).status();
    assert!(written.unwrap().success(), "{}", path.display());
}
