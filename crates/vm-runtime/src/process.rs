//! A guest program in an address space of its own, and the loop that runs it.
//!
//! ```text
//!   Executor::run ──Exit──> Ecall      → the system call table
//!        ▲                  Trap       → SIGSEGV, SIGBUS, SIGILL: the end
//!        │                  Breakpoint → SIGTRAP: the end
//!        └── goes on        Preempted  → Outcome::Interrupted; run() continues
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use async_executor::{Budget, Executor, Exit};
use rustix::fs::{Mode, OFlags};
use vm_core::elf::{
    self, DEFAULT_STACK_TOP, ElfError, ElfImage, Ids, StackParams, Symbols,
};
use vm_core::addr::PAGE_BYTES;
use vm_core::hart::Hart;
use vm_core::isa::decode;
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap, XReg};

use crate::config::{ProcessConfig, Stdio};
use crate::error::{LoadError, PROGRAM_BYTES_MAX};
use crate::outcome::Outcome;
use crate::signal::Signal;
use crate::space::Space;
use crate::syscall::signal::Signals;
use crate::syscall::table::{self, NUMBER_COUNT};
use crate::syscall::{Effect, Limits, Waiting};
use crate::vfs::{FdTable, OpenFile};

/// Smallest stack that is worth starting a program with.
const STACK_BYTES_MIN: u64 = 64 << 10;

/// Longest short name of a process, without NUL.
const COMM_BYTES_MAX: usize = 15;

/// A guest program: memory, one hart, open files.
pub struct Process {
    pub(crate) memory: GuestMemory,
    pub(crate) hart: Hart,
    pub(crate) space: Space,
    pub(crate) files: FdTable,
    pub(crate) cwd: Option<Arc<OpenFile>>,
    pub(crate) signals: Signals,
    pub(crate) limits: Limits,
    pub(crate) ids: Ids,
    pub(crate) pid: i32,
    pub(crate) umask: u32,
    pub(crate) cmdline: Vec<u8>,
    comm: Vec<u8>,
    program: Program,
    bias: u64,
    pub(crate) strace: Option<Box<dyn io::Write + Send>>,
    /// Bulk data on its way between guest and host.
    pub(crate) bounce: Vec<u8>,
    /// A wait that was interrupted.
    pub(crate) waiting: Option<Waiting>,
    /// Calls by number; the last counts numbers out of range.
    pub(crate) counts: Box<[u64; NUMBER_COUNT + 1]>,
    pub(crate) unknown_calls: u64,
}

/// Where a program came from.
enum Program {
    File { path: PathBuf },
    Bytes { bytes: Vec<u8> },
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

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("pc", &self.hart.pc())
            .field("memory", &self.memory)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Loads the program at `path`. `args` begins with what the program sees
    /// as its own name, `env` holds `NAME=value` each.
    ///
    /// # Errors
    /// [`LoadError`]: no such file, no program of ours, too little memory.
    pub fn load(
        path: &Path,
        args: &[&[u8]],
        env: &[&[u8]],
        config: ProcessConfig,
    ) -> Result<Process, LoadError> {
        let bytes = read_program(path)?;
        // /proc/self/exe is absolute, whatever the program was called by.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let program = Program::File { path: absolute };
        Process::start(path, &bytes, program, args, env, config)
    }

    /// Loads a program from memory; `name` stands in messages and is what the
    /// program sees as the path it was started by.
    ///
    /// # Errors
    /// As [`load`](Process::load).
    pub fn from_bytes(
        name: &str,
        bytes: Vec<u8>,
        args: &[&[u8]],
        env: &[&[u8]],
        config: ProcessConfig,
    ) -> Result<Process, LoadError> {
        let program = Program::Bytes { bytes: Vec::new() };
        let mut process = Process::start(Path::new(name), &bytes, program, args, env, config)?;
        process.program = Program::Bytes { bytes };
        Ok(process)
    }

    fn start(
        path: &Path,
        bytes: &[u8],
        program: Program,
        args: &[&[u8]],
        env: &[&[u8]],
        config: ProcessConfig,
    ) -> Result<Process, LoadError> {
        let refuse = |source: ElfError| LoadError::Elf { path: path.to_owned(), source };
        let image = ElfImage::parse(bytes).map_err(refuse)?;
        let memory = GuestMemory::new(config.memory_bytes_limit)?;
        let loaded = elf::load(&image, bytes, &memory, None).map_err(refuse)?;
        let ids = Ids {
            uid: rustix::process::getuid().as_raw(),
            euid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
        };
        let stack_bytes = config
            .stack_bytes
            .min(config.memory_bytes_limit / 4)
            .max(STACK_BYTES_MIN)
            .next_multiple_of(PAGE_BYTES);
        let params = StackParams {
            top: DEFAULT_STACK_TOP,
            bytes: stack_bytes,
            executable: image.executable_stack(),
            loaded: &loaded,
            exec_path: path.as_os_str().as_bytes(),
            args,
            env,
            random: match config.random {
                Some(random) => random,
                None => random_bytes()?,
            },
            ids,
        };
        let sp = elf::build_stack(&memory, &params)?;
        let mut hart = Hart::new(loaded.entry);
        hart.set_x(XReg::Sp, sp.0);
        let stack = GuestAddr(DEFAULT_STACK_TOP.0 - stack_bytes)..DEFAULT_STACK_TOP;
        let limits = Limits::new(stack_bytes);
        let mut files = FdTable::new(limits.open_files());
        open_stdio(&mut files, config.stdio).map_err(LoadError::Stdio)?;
        let mut cmdline = Vec::new();
        for arg in args {
            cmdline.extend_from_slice(arg);
            cmdline.push(0);
        }
        let mut process = Process {
            memory,
            hart,
            space: Space::new(loaded.base..loaded.brk_start, stack),
            files,
            cwd: None,
            signals: Signals::default(),
            limits,
            ids,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            umask: config.umask & 0o777,
            cmdline,
            comm: Vec::new(),
            program,
            bias: loaded.bias,
            strace: config.strace,
            bounce: Vec::new(),
            waiting: None,
            counts: Box::new([0; NUMBER_COUNT + 1]),
            unknown_calls: 0,
        };
        process.set_comm(path.file_name().unwrap_or_default().as_bytes());
        Ok(process)
    }

    /// Runs the program until it ends, or until `preempt` is not zero: then
    /// the answer is [`Outcome::Interrupted`], and running again goes on.
    ///
    /// Whatever the guest does, this neither panics nor fails: what it does
    /// wrong becomes an outcome.
    pub fn run(&mut self, executor: &mut dyn Executor, preempt: &AtomicU32) -> Outcome {
        loop {
            match executor.run(&mut self.hart, &self.memory, Budget::Unlimited, preempt) {
                Exit::Ecall => match self.syscall(preempt) {
                    Effect::Continue => {}
                    Effect::FlushCode => executor.flush(),
                    Effect::Interrupted => return Outcome::Interrupted,
                    Effect::End(outcome) => return outcome,
                },
                Exit::BudgetSpent => {}
                Exit::Preempted => return Outcome::Interrupted,
                Exit::Breakpoint => {
                    let why = format!("breakpoint at {}", self.place(self.hart.pc()));
                    return self.fault(Signal::TRAP, why);
                }
                Exit::Trap(trap) => return self.trapped(trap),
            }
        }
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The hart. Changing it between runs changes what the guest does next.
    pub fn hart_mut(&mut self) -> &mut Hart {
        &mut self.hart
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> ProcessStats {
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

    /// Functions of the program, read from its file each time. Empty where it
    /// is stripped or gone.
    #[must_use]
    pub fn symbols(&self) -> Symbols {
        match &self.program {
            Program::File { path } => {
                read_program(path).map(|bytes| Symbols::parse(&bytes, self.bias)).unwrap_or_default()
            }
            Program::Bytes { bytes } => Symbols::parse(bytes, self.bias),
        }
    }

    /// The file the program came from.
    pub(crate) fn program_path(&self) -> Option<&[u8]> {
        match &self.program {
            Program::File { path } => Some(path.as_os_str().as_bytes()),
            Program::Bytes { .. } => None,
        }
    }

    pub(crate) fn comm(&self) -> &[u8] {
        &self.comm
    }

    pub(crate) fn set_comm(&mut self, name: &[u8]) {
        self.comm = name[..name.len().min(COMM_BYTES_MAX)].to_vec();
    }

    #[cold]
    fn trapped(&self, trap: Trap) -> Outcome {
        let pc = self.hart.pc();
        let signal = match trap.cause {
            Cause::IllegalInstruction => Signal::ILL,
            Cause::LoadMisaligned | Cause::StoreMisaligned => Signal::BUS,
            _ => Signal::SEGV,
        };
        let mut why = format!("{trap} at {}", self.place(pc));
        if let Ok(decoded) = self.memory.fetch(pc).map_err(drop).and_then(|w| decode(w).map_err(drop))
        {
            why = format!("{why}: {}", decoded.inst);
        }
        let sp = GuestAddr(self.hart.x(XReg::Sp));
        if signal == Signal::SEGV && self.space.is_below_stack(GuestAddr(trap.tval), sp) {
            let bytes = self.space.stack.end.0 - self.space.stack.start.0;
            why = format!("{why}; this looks like stack overflow: sp is {sp}, and the stack of {bytes} bytes ends at {}", self.space.stack.start);
        }
        self.fault(signal, why)
    }

    fn fault(&self, signal: Signal, mut why: String) -> Outcome {
        if let Some(handler) = self.signals.handler(signal) {
            why = format!("{why}; the program's handler at {handler:#x} cannot be called yet");
        }
        Outcome::Signalled { signal, pc: self.hart.pc(), why }
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

/// Reads a program file, a regular one of bounded size: a device would not
/// end, a directory has no bytes.
pub(crate) fn read_program(path: &Path) -> Result<Vec<u8>, LoadError> {
    let path = || path.to_owned();
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadError::NotFound { path: path() },
        _ => LoadError::Unreadable { path: path(), source },
    };
    // Looked at before it is opened: opening a FIFO would wait for a writer.
    let kind = std::fs::metadata(path()).map_err(unreadable)?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "directory" } else { "special file" };
        return Err(LoadError::NotAFile { path: path(), found });
    }
    let file = File::open(path()).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > PROGRAM_BYTES_MAX {
        return Err(LoadError::TooLarge { path: path(), bytes });
    }
    let mut contents = Vec::with_capacity(bytes as usize);
    file.take(PROGRAM_BYTES_MAX).read_to_end(&mut contents).map_err(unreadable)?;
    Ok(contents)
}

fn random_bytes() -> Result<[u8; 16], LoadError> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| LoadError::Random(errno.into()))?;
    Ok(bytes)
}

/// Makes descriptors 0, 1 and 2. The host's are duplicated, so that a guest
/// closing its own leaves them open.
fn open_stdio(files: &mut FdTable, stdio: Stdio) -> io::Result<()> {
    let fds: [Option<OwnedFd>; 3] = match stdio {
        Stdio::Inherit => {
            let duplicate = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().ok();
            [duplicate(&io::stdin()), duplicate(&io::stdout()), duplicate(&io::stderr())]
        }
        Stdio::Null => {
            let null = || {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open(c"/dev/null", flags, Mode::empty()).map(Some)
            };
            [null()?, null()?, null()?]
        }
        Stdio::Files(fds) => fds.map(Some),
    };
    for (number, fd) in (0..).zip(fds) {
        if let Some(fd) = fd {
            files.insert_at(number, Arc::new(OpenFile::new(fd)?), false)?;
        }
    }
    Ok(())
}
