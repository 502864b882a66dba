//! The Linux that one guest program sees: everything but its hart.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use vm_core::GuestAddr;
use vm_core::elf::{Ids, Symbols};
use vm_core::mem::GuestMemory;

use crate::outcome::Outcome;
use crate::program::Program;
use crate::signal::Signal;
use crate::space::Space;
use crate::syscall::signal::Signals;
use crate::syscall::table::{self, NUMBER_COUNT};
use crate::syscall::{Bounce, Limits, Waiting};
use crate::vfs::{FdTable, OpenFile};

/// Longest short name of a process, without NUL.
const COMM_BYTES_MAX: usize = 15;

/// What system calls work on.
pub(crate) struct Kernel {
    pub(crate) memory: GuestMemory,
    pub(crate) space: Space,
    pub(crate) files: FdTable,
    /// The working directory, where the guest left the host process'.
    pub(crate) cwd: Option<Arc<OpenFile>>,
    pub(crate) signals: Signals,
    pub(crate) limits: Limits,
    pub(crate) ids: Ids,
    pub(crate) pid: i32,
    pub(crate) umask: u32,
    /// Arguments, each with its NUL.
    pub(crate) cmdline: Vec<u8>,
    pub(crate) comm: Vec<u8>,
    pub(crate) program: Program,
    /// What was added to the addresses in the program's file.
    pub(crate) bias: u64,
    pub(crate) strace: Option<Box<dyn io::Write + Send>>,
    /// Bulk data on its way between guest and host.
    pub(crate) bounce: Bounce,
    /// A wait that was interrupted.
    pub(crate) waiting: Option<Waiting>,
    /// Calls by number; the last counts numbers out of range.
    pub(crate) counts: Box<[u64; NUMBER_COUNT + 1]>,
    pub(crate) unknown_calls: u64,
}

/// What a process counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// System calls made.
    pub syscalls: u64,
    /// Those of them that no row of the table knows.
    pub syscalls_unknown: u64,
    /// Names and counts of the calls that were made, most frequent first.
    /// Numbers without a row have their number for a name.
    pub syscalls_by_name: Vec<(String, u64)>,
    /// Bytes of guest memory mapped now.
    pub mapped_bytes: u64,
}

impl Kernel {
    /// What was counted so far.
    pub(crate) fn stats(&self) -> ProcessStats {
        let mut by_name: Vec<(String, u64)> = self
            .counts
            .iter()
            .enumerate()
            .filter(|&(_, &count)| count > 0)
            .map(|(number, &count)| (call_name(number), count))
            .collect();
        by_name.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ProcessStats {
            syscalls: self.counts.iter().sum(),
            syscalls_unknown: self.unknown_calls,
            syscalls_by_name: by_name,
            mapped_bytes: self.memory.mapped_bytes(),
        }
    }

    /// Functions of the program.
    pub(crate) fn symbols(&self) -> Symbols {
        self.program.symbols(self.bias)
    }

    /// The file the program came from; `ENOENT` where it came from memory.
    pub(crate) fn program_path(&self) -> Result<&[u8], Errno> {
        self.program.path().ok_or(Errno::NOENT)
    }

    /// Changes the short name, cut where it is too long.
    pub(crate) fn set_comm(&mut self, name: &[u8]) {
        self.comm = name[..name.len().min(COMM_BYTES_MAX)].to_vec();
    }

    /// The end of a program whose own instruction at `pc` raised a signal.
    pub(crate) fn fault(&self, signal: Signal, pc: GuestAddr, why: String) -> Outcome {
        Outcome::Signalled {
            signal,
            pc,
            why,
            handler: self.signals.handler(signal),
        }
    }

    /// An address with the function it is in: `0x10452 <main+0x12>`.
    pub(crate) fn place(&self, addr: GuestAddr) -> String {
        match self.symbols().at(addr) {
            Some(symbol) => format!("{addr} <{}+{:#x}>", symbol.name, addr.0 - symbol.start.0),
            None => addr.to_string(),
        }
    }
}

fn call_name(number: usize) -> String {
    if number == table::UNKNOWN {
        return "out of range".to_owned();
    }
    table::find(number as u64).map_or_else(|| number.to_string(), |row| row.name.to_owned())
}
