//! A guest without instructions: system calls made directly, one at a time.
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub(crate) mod abi;

use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use async_executor::{Budget, Executor, Exit};
use vm_core::hart::Hart;
use vm_core::mem::{GuestMemory, Prot};
use vm_core::{GuestAddr, XReg};
use vm_runtime::{Outcome, Process, ProcessConfig, Stdio};

/// Start of 64 KiB that the guest may read and write.
pub(crate) const DATA: u64 = 0x100_0000;
/// Their length.
pub(crate) const DATA_BYTES: u64 = 64 << 10;
/// Where the program of [`tiny_elf`] lies.
pub(crate) const TEXT: u64 = 0x1_0000;

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Returned(i64),
    Interrupted,
    Ended(Outcome),
}

/// A process whose hart does nothing but make the calls it is told to.
pub(crate) struct Guest {
    pub(crate) process: Process,
    pub(crate) preempt: AtomicU32,
    flushes: u32,
}

/// Comes to an `ecall` once, then gives up.
struct OneCall {
    made: bool,
    flushes: u32,
}

impl Executor for OneCall {
    fn run(&mut self, _: &mut Hart, _: &GuestMemory, _: Budget, _: &AtomicU32) -> Exit {
        if std::mem::replace(&mut self.made, true) {
            Exit::Preempted
        } else {
            Exit::Ecall
        }
    }

    fn execute(&mut self, hart: &mut Hart, memory: &GuestMemory) -> Exit {
        self.run(hart, memory, Budget::Unlimited, &AtomicU32::new(0))
    }

    fn flush(&mut self) {
        self.flushes += 1;
    }
}

impl Guest {
    pub(crate) fn new() -> Guest {
        Guest::with(ProcessConfig {
            stdio: Stdio::Null,
            ..Default::default()
        })
    }

    pub(crate) fn with(config: ProcessConfig) -> Guest {
        let process = Process::from_bytes("tiny", tiny_elf(), &[b"tiny"], &[], config).unwrap();
        let data = GuestAddr(DATA);
        process
            .memory()
            .map(data, DATA_BYTES, Prot::READ | Prot::WRITE)
            .unwrap();
        Guest {
            process,
            preempt: AtomicU32::new(0),
            flushes: 0,
        }
    }

    /// Makes a call, whatever becomes of it.
    pub(crate) fn attempt(&mut self, number: u64, args: &[u64]) -> Answer {
        let hart = self.process.hart_mut();
        let pc = hart.pc();
        let arg_regs = [XReg::A0, XReg::A1, XReg::A2, XReg::A3, XReg::A4, XReg::A5];
        for (i, reg) in arg_regs.into_iter().enumerate() {
            hart.set_x(reg, args.get(i).copied().unwrap_or(0));
        }
        hart.set_x(XReg::A7, number);
        let mut executor = OneCall {
            made: false,
            flushes: 0,
        };
        let outcome = self.process.run(&mut executor, &self.preempt);
        self.flushes += executor.flushes;
        if outcome != Outcome::Interrupted {
            return Answer::Ended(outcome);
        }
        let hart = self.process.hart_mut();
        if hart.pc() == pc {
            return Answer::Interrupted;
        }
        assert_eq!(hart.pc().0, pc.0 + 4, "a call is 4 bytes long");
        Answer::Returned(hart.x(XReg::A0) as i64)
    }

    /// Makes a call that returns.
    #[track_caller]
    pub(crate) fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        match self.attempt(number, args) {
            Answer::Returned(value) => value,
            other => panic!("call {number} with {args:x?}: {other:?}"),
        }
    }

    /// How often the engine was told to forget its code.
    pub(crate) fn flushes(&self) -> u32 {
        self.flushes
    }

    /// Puts bytes at an offset of the data area; gives their address.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> u64 {
        self.process
            .memory()
            .write_bytes(GuestAddr(DATA + offset), bytes)
            .unwrap();
        DATA + offset
    }

    /// Puts a NUL-terminated string.
    pub(crate) fn put_str(&self, offset: u64, text: &str) -> u64 {
        self.put(offset, &[text.as_bytes(), b"\0"].concat())
    }

    pub(crate) fn get<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.process
            .memory()
            .read_bytes(GuestAddr(addr), &mut bytes)
            .unwrap();
        bytes
    }

    pub(crate) fn get_u64(&self, addr: u64) -> u64 {
        u64::from_le_bytes(self.get(addr))
    }

    pub(crate) fn get_u32(&self, addr: u64) -> u32 {
        u32::from_le_bytes(self.get(addr))
    }
}

/// An RV64 program of one page: `ecall` at its entry.
pub(crate) fn tiny_elf() -> Vec<u8> {
    let file = elf_of("ecall");
    assert_eq!(file.len(), 124);
    file
}

/// An RV64 program of one page that begins with the code.
pub(crate) fn elf_of(code: &str) -> Vec<u8> {
    let code = vm_core::isa::asm::assemble(code).unwrap();
    let bytes = 120 + code.len() as u64;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 243] {
        file.extend_from_slice(&half.to_le_bytes()); // ET_EXEC, EM_RISCV
    }
    file.extend_from_slice(&1_u32.to_le_bytes());
    for word in [TEXT + 120, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes()); // entry, phoff, shoff
    }
    file.extend_from_slice(&5_u32.to_le_bytes()); // RVC, double float
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    // PT_LOAD, read and execute, the whole file.
    for half in [1_u32, 5] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    for word in [0, TEXT, TEXT, bytes, bytes, 4096] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&code);
    file
}

/// A directory that goes away with its owner.
pub(crate) struct TempDir(pub(crate) std::path::PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("hartloom-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends the whole test process where a test does not come back from what it
/// was about to do. How fast it is does not matter: the time is one that only
/// waiting for ever exceeds.
pub(crate) struct Watchdog(Sender<String>);

impl Watchdog {
    pub(crate) fn start() -> Watchdog {
        const PATIENCE: Duration = Duration::from_secs(600);
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut doing = "nothing yet".to_owned();
            loop {
                match receive.recv_timeout(PATIENCE) {
                    Ok(next) => doing = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        // Past the test harness, which captures what is
                        // printed and would not show it after an abort.
                        let text = format!("no answer for {PATIENCE:?}: {doing}\n");
                        let _ = rustix::io::write(std::io::stderr(), text.as_bytes());
                        std::process::abort();
                    }
                }
            }
        });
        Watchdog(send)
    }

    /// Says what may hang.
    pub(crate) fn about_to(&self, what: String) {
        // The other end only goes away with the process.
        let _ = self.0.send(what);
    }
}
