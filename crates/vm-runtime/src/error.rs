//! Why a program could not be started. How it *ended* is an
//! [`Outcome`](crate::Outcome), never an error.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use vm_core::elf::{ElfError, StackError};
use vm_core::error::MemoryError;

/// Largest program file that is read.
pub const PROGRAM_BYTES_MAX: u64 = 1 << 30;

/// Why a program could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// No such file.
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// It is there, but no regular file.
    NotAFile {
        /// What was asked for.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// It could not be read.
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// Larger than [`PROGRAM_BYTES_MAX`].
    TooLarge {
        /// What was asked for.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no program that can run here.
    Elf {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        source: ElfError,
    },
    /// Its stack, arguments or environment could not be set up.
    Stack {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        source: StackError,
    },
    /// Its address space could not be made.
    Memory {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        source: MemoryError,
    },
    /// Standard input, output or error could not be handed to it.
    Stdio {
        /// What was asked for.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The host gave no random bytes.
    Random {
        /// What was asked for.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

impl LoadError {
    /// The exit status that shells use for this: 127 where there is no
    /// program, 126 where it cannot run, 125 when the fault is not its own.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            LoadError::NotFound { .. } => 127,
            LoadError::Elf {
                source: ElfError::Memory(_),
                ..
            } => 125,
            LoadError::NotAFile { .. }
            | LoadError::Unreadable { .. }
            | LoadError::TooLarge { .. }
            | LoadError::Elf { .. } => 126,
            LoadError::Stack { .. }
            | LoadError::Memory { .. }
            | LoadError::Stdio { .. }
            | LoadError::Random { .. } => 125,
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            LoadError::NotFound { path }
            | LoadError::NotAFile { path, .. }
            | LoadError::Unreadable { path, .. }
            | LoadError::TooLarge { path, .. }
            | LoadError::Elf { path, .. }
            | LoadError::Stack { path, .. }
            | LoadError::Memory { path, .. }
            | LoadError::Stdio { path, .. }
            | LoadError::Random { path, .. } => path,
        }
    }
}

/// The program, what is wrong with it, what to do.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Printable(self.path().as_os_str()))?;
        match self {
            LoadError::NotFound { .. } => f.write_str(
                "no such file; programs are not searched in PATH, so give the path of one",
            ),
            LoadError::NotAFile { found, .. } => {
                write!(
                    f,
                    "a {found}, not a program; give the path of a program file"
                )
            }
            LoadError::Unreadable { source, .. } => {
                let remedy = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "the user who runs it must be able to read it and to search the directories on the way"
                    }
                    io::ErrorKind::NotADirectory => {
                        "what stands in front of a / must be a directory"
                    }
                    _ => "check the path and the file system it leads to",
                };
                write!(f, "{source}; {remedy}")
            }
            LoadError::TooLarge { bytes, .. } => write!(
                f,
                "{bytes} bytes exceed the limit of {PROGRAM_BYTES_MAX} for a program; strip it"
            ),
            LoadError::Elf { source, .. } => write!(f, "{source}"),
            LoadError::Stack {
                source: source @ StackError::TooLong { .. },
                ..
            } => write!(
                f,
                "{source}; the stack is at most a quarter of the memory limit (hartloom: --memory)"
            ),
            LoadError::Stack { source, .. } => write!(f, "{source}"),
            LoadError::Memory { source, .. } => write!(f, "{source}"),
            LoadError::Random { source, .. } => write!(
                f,
                "the host gives no random bytes: {source}; the program must be allowed getrandom"
            ),
            LoadError::Stdio { source, .. } => write!(
                f,
                "standard input, output and error cannot be opened: {source}; raise the limit of open files (ulimit -n)"
            ),
        }
    }
}

// Without a source: the messages have those of the errors below in them.
impl std::error::Error for LoadError {}

/// A name as it can stand in a message: control characters, what turns the
/// direction of text, bytes that are no UTF-8, and backslashes are escaped as
/// Rust escapes them, so that a name neither ends a line nor commands a
/// terminal. An empty one is `""`.
///
/// ```
/// use std::ffi::OsStr;
/// use vm_runtime::Printable;
///
/// assert_eq!(Printable(OsStr::new("a b/\u{e9}")).to_string(), "a b/\u{e9}");
/// assert_eq!(Printable(OsStr::new("a\nb\x1b[31m")).to_string(), r"a\nb\u{1b}[31m");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a OsStr);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\"\"");
        }
        for chunk in self.0.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\u{61c}'
                    | '\u{200e}'
                    | '\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}' => {
                        write!(f, "{}", c.escape_unicode())?;
                    }
                    c if c == '\\' || c.is_control() => write!(f, "{}", c.escape_default())?,
                    c => f.write_char(c)?,
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_what_commands_a_terminal() {
        let shown = |name: &[u8]| Printable(OsStr::from_bytes(name)).to_string();
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown("dir/é 名'\"".as_bytes()), "dir/é 名'\"");
        assert_eq!(shown(b"a\r\n\t\x07\x7f"), r"a\r\n\t\u{7}\u{7f}");
        assert_eq!(shown(b"\x1b]0;x\xc2\x9b"), r"\u{1b}]0;x\u{9b}");
        assert_eq!(shown(b"\xff\xfea\xc3"), r"\xff\xfea\xc3");
        assert_eq!(shown(r"a\nb".as_bytes()), r"a\\nb");
        assert_eq!(shown("\u{202e}fle".as_bytes()), r"\u{202e}fle");
    }
}
