//! Writes small ELF files, good ones and any that a test then damages.

/// `p_type` and `p_flags` values that tests use.
pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_INTERP: u32 = 3;
pub(crate) const PT_PHDR: u32 = 6;
pub(crate) const PT_TLS: u32 = 7;
pub(crate) const PT_GNU_STACK: u32 = 0x6474_e551;
pub(crate) const PT_GNU_RELRO: u32 = 0x6474_e552;
pub(crate) const X: u32 = 1;
pub(crate) const W: u32 = 2;
pub(crate) const R: u32 = 4;

pub(crate) const ET_EXEC: u16 = 2;
pub(crate) const ET_DYN: u16 = 3;

/// A program header.
#[derive(Clone, Copy)]
pub(crate) struct Ph {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) addr: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) align: u64,
}

/// A `PT_LOAD` with as many bytes in memory as in the file.
pub(crate) fn load(flags: u32, addr: u64, offset: u64, bytes: u64) -> Ph {
    Ph {
        kind: PT_LOAD,
        flags,
        offset,
        addr,
        file_bytes: bytes,
        memory_bytes: bytes,
        align: 0x1000,
    }
}

/// A file of `file_bytes` with these program headers behind its own header;
/// the rest holds [`filler`], so that a wrong offset shows.
pub(crate) fn elf(kind: u16, entry: u64, headers: &[Ph], file_bytes: usize) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [kind, 243] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [entry, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(5_u32.to_le_bytes()); // RVC, double-float ABI
    for half in [64, 56, headers.len() as u16, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for h in headers {
        file.extend(h.kind.to_le_bytes());
        file.extend(h.flags.to_le_bytes());
        for word in [
            h.offset,
            h.addr,
            h.addr,
            h.file_bytes,
            h.memory_bytes,
            h.align,
        ] {
            file.extend(word.to_le_bytes());
        }
    }
    for at in file.len()..file_bytes {
        file.push(filler(at));
    }
    file
}

/// The byte at offset `at` of a file, behind its headers; never 0.
pub(crate) fn filler(at: usize) -> u8 {
    (at % 251) as u8 + 1
}

/// Code with the headers in one page, data with .bss in the pages after it.
pub(crate) fn fixed() -> Vec<u8> {
    let headers = [
        load(R | X, 0x1_0000, 0, 0x300),
        Ph {
            memory_bytes: 0x2000,
            ..load(R | W, 0x1_1300, 0x300, 0x80)
        },
        Ph {
            kind: PT_TLS,
            memory_bytes: 0x30,
            align: 8,
            ..load(R, 0x1_1300, 0x300, 0x10)
        },
        Ph {
            kind: PT_GNU_RELRO,
            align: 1,
            ..load(R, 0x1_1300, 0x300, 0x40)
        },
        Ph {
            kind: PT_GNU_STACK,
            align: 16,
            ..load(R | W, 0, 0, 0)
        },
    ];
    elf(ET_EXEC, 0x1_0200, &headers, 0x380)
}

/// As [`fixed`], position-independent.
pub(crate) fn pie() -> Vec<u8> {
    let headers = [
        Ph {
            kind: PT_PHDR,
            align: 8,
            ..load(R, 64, 64, 4 * 56)
        },
        load(R, 0, 0, 0x200),
        load(R | X, 0x1200, 0x200, 0x100),
        Ph {
            memory_bytes: 0x1234,
            ..load(R | W, 0x2300, 0x300, 0x80)
        },
    ];
    elf(ET_DYN, 0x1280, &headers, 0x380)
}

/// Offset in the file of field `at` of program header `index`.
pub(crate) fn ph(index: usize, at: usize) -> usize {
    64 + 56 * index + at
}

pub(crate) const P_TYPE: usize = 0;
pub(crate) const P_FLAGS: usize = 4;
pub(crate) const P_OFFSET: usize = 8;
pub(crate) const P_VADDR: usize = 16;
pub(crate) const P_FILESZ: usize = 32;
pub(crate) const P_MEMSZ: usize = 40;
pub(crate) const P_ALIGN: usize = 48;

/// Writes a 16-, 32- or 64-bit field, chosen by the value's type.
pub(crate) trait Field {
    fn put(self, file: &mut [u8], at: usize);
}

macro_rules! fields {
    ($($Int:ty)*) => {$(
        impl Field for $Int {
            fn put(self, file: &mut [u8], at: usize) {
                file[at..at + size_of::<$Int>()].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
fields! { u8 u16 u32 u64 }

/// `file` with one field changed.
pub(crate) fn with(mut file: Vec<u8>, at: usize, value: impl Field) -> Vec<u8> {
    value.put(&mut file, at);
    file
}
