//! A guest program in an address space of its own, and the loop that runs it.
//!
//! ```text
//!   Executor::run ──Exit──> Ecall      → the system call table
//!        ▲                  Trap       → SIGSEGV, SIGBUS, SIGILL: the end
//!        │                  Breakpoint → SIGTRAP: the end
//!        └── goes on        Preempted  → Outcome::Interrupted; run() continues
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use async_executor::{Budget, Executor, Exit};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vm_core::addr::PAGE_BYTES;
use vm_core::elf::{self, DEFAULT_STACK_TOP, ElfError, ElfImage, Ids, StackParams, Symbols};
use vm_core::hart::Hart;
use vm_core::isa::decode;
use vm_core::mem::GuestMemory;
use vm_core::{Cause, GuestAddr, Trap, XReg};

use crate::config::{ProcessConfig, Stdio};
use crate::error::LoadError;
use crate::kernel::{Kernel, ProcessStats};
use crate::outcome::Outcome;
use crate::program::{Program, read_program};
use crate::signal::Signal;
use crate::space::{Backing, Space};
use crate::syscall::signal::Signals;
use crate::syscall::table::NUMBER_COUNT;
use crate::syscall::{Bounce, Effect, Limits};
use crate::vfs::{FdTable, OpenFile};

/// Smallest stack that is worth starting a program with.
const STACK_BYTES_MIN: u64 = 64 << 10;

/// A guest program: a hart, and the Linux it sees.
pub struct Process {
    hart: Hart,
    kernel: Kernel,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("pc", &self.hart.pc())
            .field("memory", &self.kernel.memory)
            .field("space", &self.kernel.space)
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
        let program = Program::File(absolute);
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
        let program = Program::Bytes(Vec::new());
        let mut process = Process::start(Path::new(name), &bytes, program, args, env, config)?;
        process.kernel.program = Program::Bytes(bytes);
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
        let path_of = || path.to_owned();
        let refuse = |source: ElfError| LoadError::Elf {
            path: path_of(),
            source,
        };
        let image = ElfImage::parse(bytes).map_err(refuse)?;
        let memory =
            GuestMemory::new(config.memory_bytes_limit).map_err(|source| LoadError::Memory {
                path: path_of(),
                source,
            })?;
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
                None => random_bytes().map_err(|source| LoadError::Random {
                    path: path_of(),
                    source,
                })?,
            },
            ids,
        };
        let sp = elf::build_stack(&memory, &params).map_err(|source| LoadError::Stack {
            path: path_of(),
            source,
        })?;
        let mut hart = Hart::new(loaded.entry);
        hart.set_x(XReg::Sp, sp.0);
        let stack = GuestAddr(DEFAULT_STACK_TOP.0 - stack_bytes)..DEFAULT_STACK_TOP;
        let limits = Limits::new(stack_bytes);
        let mut files = FdTable::new(limits.open_files());
        open_stdio(&mut files, config.stdio, config.closed_stdio).map_err(|source| {
            LoadError::Stdio {
                path: path_of(),
                source,
            }
        })?;
        let mut cmdline = Vec::new();
        for arg in args {
            cmdline.extend_from_slice(arg);
            cmdline.push(0);
        }
        let mut kernel = Kernel {
            memory,
            space: Space::new(loaded.base..loaded.brk_start, stack),
            files,
            cwd: None,
            signals: Signals::new(config.ignored_signals),
            limits,
            ids,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            umask: config.umask & 0o777,
            cmdline,
            comm: Vec::new(),
            program,
            bias: loaded.bias,
            strace: config.strace,
            bounce: Bounce::default(),
            waiting: None,
            counts: Box::new([0; NUMBER_COUNT + 1]),
            unknown_calls: 0,
        };
        for pages in loaded.pages_of_file(&image) {
            let pages = pages.start.0..pages.end.0;
            kernel.space.note(pages, Some(Backing::PrivateFile));
        }
        kernel.set_comm(path.file_name().unwrap_or_default().as_bytes());
        Ok(Process { hart, kernel })
    }

    /// Runs the program until it ends, or until `preempt` is not zero: then
    /// the answer is [`Outcome::Interrupted`], and running again goes on.
    ///
    /// Whatever the guest does, this neither panics nor fails: what it does
    /// wrong becomes an outcome.
    pub fn run(&mut self, executor: &mut dyn Executor, preempt: &AtomicU32) -> Outcome {
        let Process { hart, kernel } = self;
        loop {
            match executor.run(hart, &kernel.memory, Budget::Unlimited, preempt) {
                Exit::Ecall => match kernel.syscall(hart, preempt) {
                    Effect::Continue => {}
                    Effect::FlushCode => executor.flush(),
                    Effect::Interrupted => return Outcome::Interrupted,
                    Effect::End(outcome) => return outcome,
                },
                Exit::BudgetSpent => {}
                Exit::Preempted => return Outcome::Interrupted,
                Exit::Breakpoint => {
                    let why = format!("breakpoint at {}", kernel.place(hart.pc()));
                    return kernel.fault(Signal::TRAP, hart.pc(), why);
                }
                Exit::Trap(trap) => return self.trapped(trap),
            }
        }
    }

    /// Sends the program a signal, between two runs. `None` where it lives on:
    /// it ignores the signal, or blocks it and finds it pending.
    pub fn signal(&mut self, signal: Signal) -> Option<Outcome> {
        let Process { hart, kernel } = self;
        let why = || "sent from outside".to_owned();
        let acts = kernel.signals.arrives(signal);
        acts.then(|| kernel.fault(signal, hart.pc(), why()))
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.kernel.memory
    }

    /// The hart. Changing it between runs changes what the guest does next.
    pub fn hart_mut(&mut self) -> &mut Hart {
        &mut self.hart
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> ProcessStats {
        self.kernel.stats()
    }

    /// Functions of the program, read from its file each time. Empty where it
    /// is stripped or gone.
    #[must_use]
    pub fn symbols(&self) -> Symbols {
        self.kernel.symbols()
    }

    #[cold]
    fn trapped(&self, trap: Trap) -> Outcome {
        let kernel = &self.kernel;
        let pc = self.hart.pc();
        let signal = match trap.cause {
            Cause::IllegalInstruction => Signal::ILL,
            Cause::LoadMisaligned | Cause::StoreMisaligned => Signal::BUS,
            _ => Signal::SEGV,
        };
        let mut why = format!("{trap} at {}", kernel.place(pc));
        if let Ok(decoded) = kernel
            .memory
            .fetch(pc)
            .map_err(drop)
            .and_then(|w| decode(w).map_err(drop))
        {
            why = format!("{why}: {}", decoded.inst);
        }
        let stack = &kernel.space.stack;
        let is_free = |addr: GuestAddr| kernel.memory.prot(addr).is_none();
        // A mapped sp is that of this stack, or of one that the guest made.
        let sp = Some(GuestAddr(self.hart.x(XReg::Sp))).filter(|&sp| is_free(sp));
        let addr = GuestAddr(trap.tval);
        if signal == Signal::SEGV
            && is_free(addr)
            && kernel.space.is_below_stack(addr, sp.unwrap_or(stack.end))
        {
            let bytes = stack.end.0 - stack.start.0;
            let cut = match bytes < elf::DEFAULT_STACK_BYTES {
                true => ", and is that small because the memory limit is (hartloom: --memory)",
                false => "",
            };
            why = format!(
                "{why}; this looks like stack overflow: the stack of {bytes} bytes ends at {}{cut}",
                stack.start
            );
        }
        kernel.fault(signal, pc, why)
    }
}

fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Makes descriptors 0, 1 and 2. The host's are duplicated, so that a guest
/// closing its own leaves them open.
fn open_stdio(files: &mut FdTable, stdio: Stdio, closed: [bool; 3]) -> io::Result<()> {
    let fds: [Option<OwnedFd>; 3] = match stdio {
        Stdio::Inherit => {
            let duplicate = |fd: &dyn AsFd| match fd.as_fd().try_clone_to_owned() {
                Ok(fd) => Ok(Some(fd)),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::BADF) => Ok(None),
                // Going on would lose what the guest writes.
                Err(error) => Err(error),
            };
            [
                duplicate(&io::stdin())?,
                duplicate(&io::stdout())?,
                duplicate(&io::stderr())?,
            ]
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
    for (number, (fd, closed)) in (0..).zip(fds.into_iter().zip(closed)) {
        if let Some(fd) = fd.filter(|_| !closed) {
            files.insert_at(number, Arc::new(OpenFile::new(fd)?), false)?;
        }
    }
    Ok(())
}
