//! Why a program could not be started. How it *ended* is an
//! [`Outcome`](crate::Outcome), never an error.

use std::fmt;
use std::io;
use std::path::PathBuf;

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
    Stack(StackError),
    /// Its address space could not be made.
    Memory(MemoryError),
    /// Standard input, output or error could not be handed to it.
    Stdio(io::Error),
    /// The host gave no random bytes.
    Random(io::Error),
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
            LoadError::Stack(_)
            | LoadError::Memory(_)
            | LoadError::Stdio(_)
            | LoadError::Random(_) => 125,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotFound { path } => {
                // An empty name would leave nothing to see in front of the colon.
                let path = match path.as_os_str().is_empty() {
                    true => "\"\"".into(),
                    false => path.to_string_lossy(),
                };
                write!(f, "{path}: no such file; programs are not searched in PATH")
            }
            LoadError::NotAFile { path, found } => {
                write!(f, "{}: a {found}, not a program", path.display())
            }
            LoadError::Unreadable { path, source } => {
                let hint = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "; the user who runs it must be able to read it"
                    }
                    _ => "",
                };
                write!(f, "{}: {source}{hint}", path.display())
            }
            LoadError::TooLarge { path, bytes } => write!(
                f,
                "{}: {bytes} bytes exceed the limit of {PROGRAM_BYTES_MAX} for a program",
                path.display()
            ),
            LoadError::Elf { path, source } => write!(f, "{}: {source}", path.display()),
            LoadError::Stack(source @ StackError::TooLong { .. }) => write!(
                f,
                "{source}; the stack is at most a quarter of the memory limit (hartloom: --memory)"
            ),
            LoadError::Stack(source) => write!(f, "{source}"),
            LoadError::Memory(source) => write!(f, "{source}"),
            LoadError::Random(source) => write!(f, "the host gives no random bytes: {source}"),
            LoadError::Stdio(source) => {
                write!(
                    f,
                    "standard input, output and error cannot be opened: {source}"
                )
            }
        }
    }
}

// Without a source: the messages have those of the errors below in them.
impl std::error::Error for LoadError {}

impl From<MemoryError> for LoadError {
    fn from(source: MemoryError) -> LoadError {
        LoadError::Memory(source)
    }
}

impl From<StackError> for LoadError {
    fn from(source: StackError) -> LoadError {
        LoadError::Stack(source)
    }
}
