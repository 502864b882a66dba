//! What a guest program is given.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of guest memory unless told otherwise: 1 GiB. Pages cost when they
/// are touched.
pub const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;

/// Most bytes of guest memory that make sense: the guest's whole space.
pub const MEMORY_BYTES_MAX: u64 = vm_core::mem::SPACE_BYTES;

/// What a guest program is given. All fields have defaults.
pub struct ProcessConfig {
    /// Most bytes that may be mapped at a time, its code and stack included.
    /// Default: [`DEFAULT_MEMORY_BYTES`].
    pub memory_bytes_limit: u64,
    /// Size of the stack; a quarter of the memory where that is less. The
    /// guest finds the size it has as its `RLIMIT_STACK`. Default: 8 MiB, as on
    /// Linux.
    pub stack_bytes: u64,
    /// What file descriptors 0, 1 and 2 are. Default: those of this process.
    pub stdio: Stdio,
    /// Which of them the guest finds closed all the same. Default: none.
    pub closed_stdio: [bool; 3],
    /// Signals that the guest finds ignored, bit n-1 for signal n, as a program
    /// does whose parent ignored them. Default: none; this process' own say
    /// little, since Rust programs ignore `SIGPIPE`.
    pub ignored_signals: u64,
    /// The guest's file mode creation mask. The host's own is applied besides.
    /// Default: 0o022.
    pub umask: u32,
    /// Seed of the guest's stack canaries and pointer guards. Default: from
    /// the host's random source; a fixed value makes runs repeatable.
    pub random: Option<[u8; 16]>,
    /// Gets a line for every system call. Default: none. Costs a write each.
    pub strace: Option<Box<dyn io::Write + Send>>,
}

/// What a guest's first three file descriptors are.
#[derive(Debug, Default)]
pub enum Stdio {
    /// Those of this process. What is closed here is closed there; but a Rust
    /// program that was started with one of them closed has `/dev/null` in its
    /// place before `main` begins, and so has the guest: see
    /// [`closed_stdio`](ProcessConfig::closed_stdio).
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// These files: input, output, error.
    Files([OwnedFd; 3]),
}

impl Default for ProcessConfig {
    fn default() -> ProcessConfig {
        ProcessConfig {
            memory_bytes_limit: DEFAULT_MEMORY_BYTES,
            stack_bytes: vm_core::elf::DEFAULT_STACK_BYTES,
            stdio: Stdio::Inherit,
            closed_stdio: [false; 3],
            ignored_signals: 0,
            umask: 0o022,
            random: None,
            strace: None,
        }
    }
}

impl fmt::Debug for ProcessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessConfig")
            .field("memory_bytes_limit", &self.memory_bytes_limit)
            .field("stack_bytes", &self.stack_bytes)
            .field("stdio", &self.stdio)
            .field("closed_stdio", &self.closed_stdio)
            .field("ignored_signals", &self.ignored_signals)
            .field("umask", &self.umask)
            .field("random", &self.random.is_some())
            .field("strace", &self.strace.is_some())
            .finish()
    }
}
