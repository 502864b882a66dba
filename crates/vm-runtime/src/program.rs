//! The file that a guest program comes from.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use vm_core::elf::Symbols;

use crate::error::{LoadError, PROGRAM_BYTES_MAX};

/// Where a program came from.
#[derive(Debug)]
pub(crate) enum Program {
    /// A file of the host, by its absolute path.
    File(PathBuf),
    /// Memory of the host process.
    Bytes(Vec<u8>),
}

impl Program {
    /// What `/proc/self/exe` points to.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        match self {
            Program::File(path) => Some(path.as_os_str().as_bytes()),
            Program::Bytes(_) => None,
        }
    }

    /// Its functions, loaded with `bias`. Read again each time: few runs want
    /// them, and keeping the file would cost all runs.
    pub(crate) fn symbols(&self, bias: u64) -> Symbols {
        match self {
            Program::File(path) => read_program(path)
                .map(|bytes| Symbols::parse(&bytes, bias))
                .unwrap_or_default(),
            Program::Bytes(bytes) => Symbols::parse(bytes, bias),
        }
    }
}

/// Reads a program file, a regular one of bounded size: a device would not
/// end, a directory has no bytes.
pub(crate) fn read_program(path: &Path) -> Result<Vec<u8>, LoadError> {
    let path = || path.to_owned();
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadError::NotFound { path: path() },
        _ => LoadError::Unreadable {
            path: path(),
            source,
        },
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let kind = std::fs::metadata(path()).map_err(unreadable)?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "directory"
        } else {
            "special file"
        };
        return Err(LoadError::NotAFile {
            path: path(),
            found,
        });
    }
    let file = File::open(path()).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > PROGRAM_BYTES_MAX {
        return Err(LoadError::TooLarge {
            path: path(),
            bytes,
        });
    }
    let mut contents = Vec::with_capacity(bytes as usize);
    file.take(PROGRAM_BYTES_MAX)
        .read_to_end(&mut contents)
        .map_err(unreadable)?;
    Ok(contents)
}
