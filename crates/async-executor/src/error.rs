//! Errors of this crate. Guest faults are not among them: those are
//! [`Exit`](crate::Exit)s.

use std::fmt;
use std::sync::Arc;

/// Code could not be generated. The guest goes on in the interpreter.
#[derive(Clone, Debug)]
pub struct CompileError {
    entry: Option<u64>,
    reason: Arc<str>,
}

impl CompileError {
    pub(crate) fn new(entry: Option<u64>, reason: impl Into<Arc<str>>) -> CompileError {
        CompileError {
            entry,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => {
                write!(
                    f,
                    "the region at {entry:#x} cannot be compiled: {}",
                    self.reason
                )
            }
            None => write!(f, "no code can be generated on this host: {}", self.reason),
        }
    }
}

impl std::error::Error for CompileError {}

/// An engine could not be set up.
#[derive(Debug)]
pub struct EngineError {
    pub(crate) what: &'static str,
    pub(crate) source: std::io::Error,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustix::io::Errno;
        let EngineError { what, source } = self;
        let limit = match Errno::from_io_error(source) {
            Some(Errno::FBIG) => "the limit of file sizes (ulimit -f)",
            Some(Errno::MFILE) => "the limit of open files (ulimit -n)",
            _ => "the limits of address space and data (ulimit -v, -d)",
        };
        write!(
            f,
            "the host refused {what}: {source}; raise {limit}, or use the interpreter"
        )
    }
}

// What the host said is part of the message.
impl std::error::Error for EngineError {}
