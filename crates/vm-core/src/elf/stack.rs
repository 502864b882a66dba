//! The stack as a program finds it at its first instruction.
//!
//! ```text
//!   top ─>  8 zero bytes
//!           path of the program, NUL            <─ AT_EXECFN
//!           environment strings, each with NUL  <─ envp[..]
//!           argument strings, each with NUL     <─ argv[..]
//!           16 random bytes                     <─ AT_RANDOM
//!           0 to 15 zero bytes
//!           auxv: (key, value) pairs, the last (AT_NULL, 0)
//!           0
//!           envp[n-1] .. envp[0]
//!           0
//!           argv[argc-1] .. argv[0]
//!   sp ──>  argc                                16-byte aligned
//!           ......                              the rest, untouched
//!   top - bytes
//!           unmapped: running past the end faults
//! ```
//!
//! All words have 8 bytes. The order is that of Linux
//! (`fs/binfmt_elf.c`, `create_elf_tables`), where programs that overwrite
//! their own title rely on arguments and environment being contiguous.

use super::error::StackError;
use super::load::Loaded;
use super::parse::PROGRAM_HEADER_BYTES;
use crate::addr::{GuestAddr, PAGE_BYTES};
use crate::error::MemoryError;
use crate::mem::{GuestMemory, MAP_HIGHEST, MAP_LOWEST, Prot};

/// Size of a stack unless somebody asks for another: 8 MiB, as on Linux.
pub const DEFAULT_STACK_BYTES: u64 = 8 << 20;

/// Where a stack ends unless somebody asks for another place: at the end of
/// what guests can map.
pub const DEFAULT_STACK_TOP: GuestAddr = MAP_HIGHEST;

/// Most bytes of arguments and environment, however large the stack: 6 MiB,
/// as on Linux.
pub const ARGUMENT_BYTES_MAX: u64 = 6 << 20;

/// Most bytes of one string with its NUL: 128 KiB, as on Linux.
pub const STRING_BYTES_MAX: u64 = 128 << 10;

/// The smallest stack: room for what every program finds there, and some to
/// run on.
pub const STACK_BYTES_MIN: u64 = 2 * PAGE_BYTES;

/// `AT_HWCAP` of RV64GC: a bit for each of A, C, D, F, I and M, counted from
/// `A`.
pub const HWCAP_RV64GC: u64 = {
    let letters = *b"IMAFDC";
    let mut bits = 0;
    let mut i = 0;
    while i < letters.len() {
        bits |= 1 << (letters[i] - b'A');
        i += 1;
    }
    bits
};

/// Keys of the auxiliary vector, as in Linux' `uapi/linux/auxvec.h`.
pub mod auxv {
    /// End of the vector.
    pub const AT_NULL: u64 = 0;
    /// Address of the program headers.
    pub const AT_PHDR: u64 = 3;
    /// Bytes of a program header.
    pub const AT_PHENT: u64 = 4;
    /// Count of program headers.
    pub const AT_PHNUM: u64 = 5;
    /// Bytes of a page.
    pub const AT_PAGESZ: u64 = 6;
    /// Base of the dynamic linker; 0 without one.
    pub const AT_BASE: u64 = 7;
    /// Always 0.
    pub const AT_FLAGS: u64 = 8;
    /// Address of the program's first instruction.
    pub const AT_ENTRY: u64 = 9;
    /// Real user.
    pub const AT_UID: u64 = 11;
    /// Effective user.
    pub const AT_EUID: u64 = 12;
    /// Real group.
    pub const AT_GID: u64 = 13;
    /// Effective group.
    pub const AT_EGID: u64 = 14;
    /// Extensions, a bit per letter.
    pub const AT_HWCAP: u64 = 16;
    /// Ticks per second of `times()`.
    pub const AT_CLKTCK: u64 = 17;
    /// 1 where the program has more rights than its caller.
    pub const AT_SECURE: u64 = 23;
    /// Address of 16 random bytes.
    pub const AT_RANDOM: u64 = 25;
    /// Address of the program's path.
    pub const AT_EXECFN: u64 = 31;
}

/// Users and groups that the program believes to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ids {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
}

/// What the stack is made of.
#[derive(Clone, Copy, Debug)]
pub struct StackParams<'a> {
    /// Its end, page-aligned; usually [`DEFAULT_STACK_TOP`].
    pub top: GuestAddr,
    /// Its size, whole pages, at least [`STACK_BYTES_MIN`]; usually [`DEFAULT_STACK_BYTES`]. All of it
    /// counts against the memory limit, but the host provides a page only
    /// when it is touched.
    pub bytes: u64,
    /// Whether code on it can run (`ElfImage::executable_stack`). Usually
    /// `false`.
    pub executable: bool,
    /// The program.
    pub loaded: &'a Loaded,
    /// Path it was started by, without NUL.
    pub exec_path: &'a [u8],
    /// Arguments from `argv[0]` on, without NULs. Where there are none, the
    /// program gets one empty argument, as on Linux.
    pub args: &'a [&'a [u8]],
    /// Environment, `NAME=value` each, without NULs.
    pub env: &'a [&'a [u8]],
    /// For `AT_RANDOM`: the guest's stack canaries and pointer guards come
    /// from these, so they should be unpredictable unless a run is to be
    /// repeatable.
    pub random: [u8; 16],
    /// Users and groups.
    pub ids: Ids,
}

/// Maps the stack and writes what a program expects there. Gives its stack
/// pointer, a multiple of 16.
///
/// # Errors
/// [`StackError::TooLong`] when the strings and the pointers to them exceed a
/// quarter of the stack (or [`ARGUMENT_BYTES_MAX`]),
/// [`StackError::StringTooLong`], [`StackError::Nul`],
/// [`StackError::TooSmall`], [`StackError::InUse`], and
/// [`StackError::Memory`] for a bad place or beyond the memory limit. Nothing
/// is mapped then.
pub fn build_stack(
    memory: &GuestMemory,
    params: &StackParams<'_>,
) -> Result<GuestAddr, StackError> {
    let args: &[&[u8]] = if params.args.is_empty() {
        &[b""]
    } else {
        params.args
    };
    let all = [
        ("program path", std::slice::from_ref(&params.exec_path)),
        ("argument", args),
        ("environment string", params.env),
    ];
    if params.bytes < STACK_BYTES_MIN {
        return Err(StackError::TooSmall {
            bytes: params.bytes,
            needed_bytes: STACK_BYTES_MIN,
        });
    }
    let mut string_bytes = 0_u64;
    for (what, strings) in all {
        for (index, string) in strings.iter().enumerate() {
            let bytes = string.len() as u64 + 1;
            if bytes > STRING_BYTES_MAX {
                return Err(StackError::StringTooLong { what, index, bytes });
            }
            if string.contains(&0) {
                return Err(StackError::Nul { what, index });
            }
            string_bytes = string_bytes.saturating_add(bytes);
        }
    }
    let pointer_bytes = 8 * (args.len() as u64 + params.env.len() as u64);
    let bytes = string_bytes.saturating_add(pointer_bytes);
    let limit_bytes = (params.bytes / 4).min(ARGUMENT_BYTES_MAX);
    if bytes > limit_bytes {
        return Err(StackError::TooLong { bytes, limit_bytes });
    }

    let outside = |start| MemoryError::OutOfSpace {
        start,
        bytes: params.bytes,
    };
    let start = params.top.0.checked_sub(params.bytes).map(GuestAddr);
    let start = start
        .filter(|_| params.top <= MAP_HIGHEST)
        .ok_or(outside(params.top))?;

    // Strings and pointers fill at most a quarter of the stack, everything
    // else less than a page: with STACK_BYTES_MIN nothing here goes below
    // `start`.
    let end = params.top.0 - 8;
    let random = end - string_bytes - 16;
    let words = words(params, args, random, end);
    let sp = (random - 8 * words.len() as u64) & !15;

    let mut contents = Vec::new();
    contents.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    contents.resize(contents.len() + (random - sp) as usize - 8 * words.len(), 0);
    contents.extend_from_slice(&params.random);
    for string in args.iter().chain(params.env).chain([&params.exec_path]) {
        contents.extend_from_slice(string);
        contents.push(0);
    }

    // A bad range is not free either; `map` says what is wrong with it.
    let whole_pages = start.is_aligned(PAGE_BYTES) && params.bytes.is_multiple_of(PAGE_BYTES);
    if whole_pages && start >= MAP_LOWEST && !memory.is_free(start, params.bytes) {
        return Err(StackError::InUse {
            start,
            bytes: params.bytes,
        });
    }
    let prot = Prot::READ | Prot::WRITE;
    let prot = if params.executable {
        prot | Prot::EXEC
    } else {
        prot
    };
    memory.map(start, params.bytes, prot)?;
    if let Err(fault) = memory.write_bytes(GuestAddr(sp), &contents) {
        // The first error is the one to report.
        let _ = memory.unmap(start, params.bytes);
        return Err(StackError::Disturbed(fault));
    }
    Ok(GuestAddr(sp))
}

/// Everything from argc to the end of the auxiliary vector.
fn words(params: &StackParams<'_>, args: &[&[u8]], random: u64, end: u64) -> Vec<u64> {
    let Loaded {
        entry,
        program_headers,
        program_header_count,
        ..
    } = *params.loaded;
    let Ids {
        uid,
        euid,
        gid,
        egid,
    } = params.ids;
    let exec_path = end - (params.exec_path.len() as u64 + 1);
    let auxv = [
        (auxv::AT_HWCAP, HWCAP_RV64GC),
        (auxv::AT_PAGESZ, PAGE_BYTES),
        (auxv::AT_CLKTCK, 100),
        (auxv::AT_PHDR, program_headers.map_or(0, |addr| addr.0)),
        (auxv::AT_PHENT, u64::from(PROGRAM_HEADER_BYTES)),
        (auxv::AT_PHNUM, u64::from(program_header_count)),
        (auxv::AT_BASE, 0),
        (auxv::AT_FLAGS, 0),
        (auxv::AT_ENTRY, entry.0),
        (auxv::AT_UID, u64::from(uid)),
        (auxv::AT_EUID, u64::from(euid)),
        (auxv::AT_GID, u64::from(gid)),
        (auxv::AT_EGID, u64::from(egid)),
        (auxv::AT_SECURE, u64::from(uid != euid || gid != egid)),
        (auxv::AT_RANDOM, random),
        (auxv::AT_EXECFN, exec_path),
        (auxv::AT_NULL, 0),
    ];
    let mut addr = random + 16;
    let mut address = |string: &&[u8]| {
        let here = addr;
        addr += string.len() as u64 + 1;
        here
    };
    let mut words = vec![args.len() as u64];
    words.extend(args.iter().map(&mut address));
    words.push(0);
    words.extend(params.env.iter().map(&mut address));
    words.push(0);
    words.extend(auxv.into_iter().flat_map(|(key, value)| [key, value]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hwcap_is_what_linux_reports_on_rv64gc() {
        assert_eq!(HWCAP_RV64GC, 0x112d);
    }
}
