//! ELF files, good and hostile: what is accepted is loaded exactly, what is
//! refused says why, and nothing makes the loader panic or exceed a limit.

#[path = "elf/builder.rs"]
mod builder;

use std::path::Path;
use std::process::Command;

use builder::*;
use proptest::prelude::*;
use vm_core::GuestAddr;
use vm_core::elf::{
    DEFAULT_PIE_BASE, DEFAULT_STACK_BYTES, DEFAULT_STACK_TOP, ElfError, ElfImage, ElfKind,
    HWCAP_RV64GC, Ids, Loaded, MemoryRange, STACK_BYTES_MIN, StackParams, Symbols, auxv,
    build_stack, load as load_elf,
};
use vm_core::mem::{GuestMemory, MAP_HIGHEST, Prot};

fn rw() -> Prot {
    Prot::READ | Prot::WRITE
}

fn rx() -> Prot {
    Prot::READ | Prot::EXEC
}

fn memory() -> GuestMemory {
    GuestMemory::new(64 << 20).unwrap()
}

fn byte(memory: &GuestMemory, addr: u64) -> u8 {
    memory.load(GuestAddr(addr)).unwrap()
}

/// The file is refused, by `parse` or else by `load`, with a message that has
/// `expected` in it; refused files leave nothing mapped.
#[track_caller]
fn check_refused(file: &[u8], expected: &str) {
    let memory = memory();
    let refused = ElfImage::parse(file).and_then(|image| load_elf(&image, file, &memory, None));
    match refused {
        Ok(loaded) => panic!("accepted as {loaded:x?}, expected: {expected}"),
        Err(error) => assert!(
            error.to_string().contains(expected),
            "refused with: {error}\nexpected:     {expected}"
        ),
    }
    assert_eq!(memory.mapped_bytes(), 0);
}

/// Every byte of every page is what its segment says, or zero; every page has
/// what the last segment on it asks for.
#[track_caller]
fn check_loaded(image: &ElfImage, file: &[u8], memory: &GuestMemory, loaded: &Loaded) {
    let pages = image.pages();
    for page in (pages.start.0..pages.end.0).step_by(4096) {
        let moved = page.wrapping_add(loaded.bias);
        let owner = image
            .segments()
            .iter()
            .rev()
            .find(|s| s.pages().contains(&GuestAddr(page)));
        let prot = memory.prot(GuestAddr(moved));
        let Some(owner) = owner else {
            assert_eq!(prot, None, "{page:#x}");
            continue;
        };
        assert!(prot.unwrap().contains(owner.prot), "{page:#x}: {prot:?}");
        let mut expected = [0; 4096];
        for s in image.segments() {
            for i in 0..s.file_bytes {
                let addr = s.start.0 + i;
                if addr & !4095 == page {
                    expected[(addr - page) as usize] = file[(s.offset + i) as usize];
                }
            }
        }
        let mut actual = [0; 4096];
        memory.read_bytes(GuestAddr(moved), &mut actual).unwrap();
        assert!(actual == expected, "page {page:#x} differs");
    }
}

fn load_default(file: &[u8]) -> (ElfImage, GuestMemory, Loaded) {
    let image = ElfImage::parse(file).unwrap();
    let memory = memory();
    let loaded = load_elf(&image, file, &memory, None).unwrap();
    check_loaded(&image, file, &memory, &loaded);
    (image, memory, loaded)
}

// ---- good files ----

#[test]
fn a_fixed_program_goes_where_it_says() {
    let file = fixed();
    let (image, memory, loaded) = load_default(&file);
    assert_eq!(image.kind(), ElfKind::Fixed);
    assert_eq!(image.flags(), 5);
    assert!(!image.executable_stack());
    let range = |start, bytes| MemoryRange {
        start: GuestAddr(start),
        bytes,
    };
    assert_eq!(image.tls(), Some(range(0x1_1300, 0x30)));
    assert_eq!(image.relro(), Some(range(0x1_1300, 0x40)));
    assert_eq!(
        loaded,
        Loaded {
            entry: GuestAddr(0x1_0200),
            bias: 0,
            base: GuestAddr(0x1_0000),
            brk_start: GuestAddr(0x1_4000),
            program_headers: Some(GuestAddr(0x1_0040)),
            program_header_count: 5,
        }
    );
    assert_eq!(memory.prot(GuestAddr(0x1_0000)), Some(rx()));
    assert_eq!(memory.prot(GuestAddr(0x1_3000)), Some(rw()));
    assert_eq!(memory.mapped_bytes(), 4 * 4096);
    assert_eq!(byte(&memory, 0x1_137f), filler(0x37f));
    assert_eq!(byte(&memory, 0x1_1380), 0);
    // A wanted base is not for such programs.
    let other = self::memory();
    let base = Some(GuestAddr(0x50_0000));
    assert_eq!(load_elf(&image, &file, &other, base).unwrap(), loaded);
}

#[test]
fn a_position_independent_program_goes_where_it_is_told() {
    let file = pie();
    let (image, memory, loaded) = load_default(&file);
    assert_eq!(image.kind(), ElfKind::PositionIndependent);
    assert_eq!(loaded.base, DEFAULT_PIE_BASE);
    assert_eq!(loaded.bias, DEFAULT_PIE_BASE.0);
    assert_eq!(loaded.entry, GuestAddr(DEFAULT_PIE_BASE.0 + 0x1280));
    assert_eq!(loaded.brk_start, GuestAddr(DEFAULT_PIE_BASE.0 + 0x4000));
    assert_eq!(
        loaded.program_headers,
        Some(GuestAddr(DEFAULT_PIE_BASE.0 + 64))
    );
    assert_eq!(memory.prot(DEFAULT_PIE_BASE), Some(Prot::READ));

    // Rounded up to pages, or to what a segment asks for.
    let at = |file: &[u8], base| {
        let image = ElfImage::parse(file).unwrap();
        let memory = self::memory();
        let loaded = load_elf(&image, file, &memory, Some(GuestAddr(base)));
        loaded.map(|loaded| {
            check_loaded(&image, file, &memory, &loaded);
            loaded.base.0
        })
    };
    assert_eq!(at(&file, 0x8000_0001).unwrap(), 0x8000_1000);
    let aligned = with(file.clone(), ph(2, P_ALIGN), 0x20_0000_u64);
    assert_eq!(at(&aligned, 0x10_0000).unwrap(), 0x20_0000);
    assert_eq!(
        at(&file, MAP_HIGHEST.0 - 0x4000).unwrap(),
        MAP_HIGHEST.0 - 0x4000
    );
    for base in [
        0,
        0xf000,
        MAP_HIGHEST.0 - 0x3000,
        u64::MAX,
        u64::MAX - 0xfff,
    ] {
        let error = at(&file, base).unwrap_err();
        assert!(
            matches!(error, ElfError::BaseOutside { .. }),
            "{base:#x}: {error}"
        );
    }
    drop(image);
}

#[test]
fn a_pie_linked_above_the_base_moves_down_or_stays() {
    let headers = [load(R | X, 0x80_0000, 0, 0x300)];
    let file = elf(ET_DYN, 0x80_0200, &headers, 0x300);
    let (_, _, loaded) = load_default(&file);
    assert_eq!(loaded.base, DEFAULT_PIE_BASE);
    assert_eq!(loaded.entry, GuestAddr(DEFAULT_PIE_BASE.0 + 0x200));
    assert_eq!(
        loaded.program_headers,
        Some(GuestAddr(DEFAULT_PIE_BASE.0 + 64))
    );
}

/// The others are zero, and private anonymous memory where they are whole pages.
#[test]
fn pages_that_the_file_fills_are_told_from_others() {
    let headers = [
        load(R | X, 0x1_0000, 0, 0x200),
        Ph {
            memory_bytes: 0x5000,
            ..load(R | W, 0x1_2ff0, 0xff0, 0x20)
        },
        Ph {
            memory_bytes: 0x1000,
            ..load(R | W, 0x2_0000, 0, 0)
        },
    ];
    let file = elf(ET_EXEC, 0x1_0180, &headers, 0x1100);
    let (image, _, loaded) = load_default(&file);
    let pages: Vec<_> = loaded.pages_of_file(&image).collect();
    let page = |n: u64| GuestAddr(n << 12);
    assert_eq!(pages, [page(0x10)..page(0x11), page(0x12)..page(0x14)]);
}

#[test]
fn a_shared_page_has_the_bytes_of_both_and_the_rights_of_the_later() {
    let headers = [
        load(R | X, 0x1_0000, 0, 0x200),
        load(R | X, 0x1_1200, 0x200, 0x40),
        load(R, 0x1_1240, 0x240, 0x10),
        Ph {
            memory_bytes: 0x2000,
            ..load(R | W, 0x1_1280, 0x280, 0x40)
        },
    ];
    let file = elf(ET_EXEC, 0x1_0180, &headers, 0x300);
    let (_, memory, _) = load_default(&file);
    assert_eq!(memory.prot(GuestAddr(0x1_1000)), Some(rw()));
    for at in [0x200, 0x23f, 0x240, 0x24f, 0x280, 0x2bf] {
        assert_eq!(byte(&memory, 0x1_1000 + at), filler(at as usize), "{at:#x}");
    }
    assert_eq!(byte(&memory, 0x1_1250), 0); // between segments: not the file's
    assert_eq!(memory.mapped_bytes(), 4 * 4096);
    // An entry in a page that loses its permission could not run.
    check_refused(
        &with(file, 24, 0x1_1200_u64),
        "entry 0x11200 lies in no executable segment",
    );
}

#[test]
fn what_does_not_matter_is_not_refused() {
    let good: &[(&str, Vec<u8>)] = &[
        ("TSO and quad-float flags", with(fixed(), 48, 0x17_u32)),
        ("another OS ABI", with(fixed(), 7, 3_u8)),
        (
            "section headers beyond the file",
            with(fixed(), 40, u64::MAX),
        ),
        ("trailing bytes", [fixed(), vec![0; 99]].concat()),
        ("alignment 0", with(fixed(), ph(0, P_ALIGN), 0_u64)),
        (
            "alignment below a page",
            with(fixed(), ph(0, P_ALIGN), 8_u64),
        ),
        ("an empty segment anywhere", {
            let empty = Ph {
                align: 3,
                ..load(R, u64::MAX, u64::MAX, 0)
            };
            elf(
                ET_EXEC,
                0x1_0200,
                &[empty, load(R | X, 0x1_0000, 0, 0x300)],
                0x300,
            )
        }),
        ("only .bss, at an odd offset", {
            let bss = Ph {
                memory_bytes: 0x5000,
                ..load(R | W, 0x2_0123, u64::MAX, 0)
            };
            elf(
                ET_EXEC,
                0x1_0200,
                &[load(R | X, 0x1_0000, 0, 0x300), bss],
                0x300,
            )
        }),
        ("every segment shows the same bytes, headers included", {
            let copies: Vec<Ph> = (0..128)
                .map(|i| load(R | X, 0x1_0000 + i * 0x3000, 0, 0x2000))
                .collect();
            elf(ET_EXEC, 0x1_0000, &copies, 0x2000)
        }),
    ];
    for (what, file) in good {
        let image = ElfImage::parse(file).unwrap_or_else(|error| panic!("{what}: {error}"));
        let memory = memory();
        let loaded = load_elf(&image, file, &memory, None);
        let loaded = loaded.unwrap_or_else(|error| panic!("{what}: {error}"));
        check_loaded(&image, file, &memory, &loaded);
    }
}

#[test]
fn a_segment_without_permissions_is_mapped_without() {
    let headers = [load(R | X, 0x1_0000, 0, 0x300), load(0, 0x2_0000, 0, 0x300)];
    let file = elf(ET_EXEC, 0x1_0200, &headers, 0x300);
    let memory = memory();
    load_elf(&ElfImage::parse(&file).unwrap(), &file, &memory, None).unwrap();
    assert_eq!(memory.prot(GuestAddr(0x2_0000)), Some(Prot::NONE));
    assert!(memory.load::<u8>(GuestAddr(0x2_0000)).is_err());
}

#[test]
fn an_executable_stack_is_asked_for_explicitly() {
    let file = with(fixed(), ph(4, P_FLAGS), R | W | X);
    assert!(ElfImage::parse(&file).unwrap().executable_stack());
    let file = with(fixed(), ph(4, P_TYPE), 0_u32);
    assert!(!ElfImage::parse(&file).unwrap().executable_stack());
}

// ---- hostile files ----

#[test]
fn damaged_headers_are_named() {
    check_refused(b"", "the file is empty");
    check_refused(b"\x7fEL", "ends after 3 of the 64 bytes");
    check_refused(b"x", "it begins with 78 and not 7f");
    check_refused(b"#!/bin/sh\necho", "a script, not an ELF program");
    check_refused(b"MZ\x90\x00", "it begins with 4d 5a 90 00");
    check_refused(&fixed()[..63], "ends after 63 of the 64 bytes");
    check_refused(&with(fixed(), 4, 1_u8), "ELF class 1 and not 2 (64-bit)");
    check_refused(
        &with(fixed(), 5, 2_u8),
        "ELF data encoding 2 and not 1 (little-endian)",
    );
    check_refused(&with(fixed(), 6, 0_u8), "ELF version 0 and not 1");
    check_refused(&with(fixed(), 20, 0x100_u32), "ELF version 256 and not 1");
    check_refused(
        &with(fixed(), 18, 62_u16),
        "built for machine 62 (x86-64) and not 243 (RISC-V)",
    );
    check_refused(
        &with(fixed(), 18, 0xf3f3_u16),
        "built for machine 62451 and not 243",
    );
    for kind in [0, 1, 4, 0xfeff_u16] {
        check_refused(
            &with(fixed(), 16, kind),
            &format!("ELF type {kind} is neither 2"),
        );
    }
    check_refused(
        &with(fixed(), 48, 0xd_u32),
        "flags 0xd ask for the RV64E register set",
    );
}

#[test]
fn damaged_program_header_tables_are_named() {
    check_refused(
        &with(fixed(), 54, 32_u16),
        "program headers of 32 bytes and not 56",
    );
    check_refused(
        &with(fixed(), 54, 0_u16),
        "program headers of 0 bytes and not 56",
    );
    check_refused(
        &with(fixed(), 56, 0_u16),
        "no loadable segment has any bytes",
    );
    check_refused(
        &with(fixed(), 56, 129_u16),
        "129 program headers exceed the limit of 128",
    );
    check_refused(
        &with(fixed(), 56, 0xffff_u16),
        "65535 program headers exceed the limit of 128",
    );
    check_refused(
        &with(fixed(), 56, 128_u16),
        "program headers of 0x1c00 bytes at offset 0x40 reach beyond the file's 0x380 bytes",
    );
    for offset in [
        0x380,
        0x1000,
        u64::MAX,
        u64::MAX - 279,
        i64::MAX.cast_unsigned(),
        0x380 - 279,
    ] {
        check_refused(
            &with(fixed(), 32, offset),
            &format!("program headers of 0x118 bytes at offset {offset:#x} reach beyond"),
        );
    }
    let none = elf(
        ET_EXEC,
        0x1_0000,
        &[Ph {
            kind: PT_GNU_STACK,
            ..load(R, 0, 0, 0)
        }],
        0x200,
    );
    check_refused(&none, "no loadable segment has any bytes");
}

#[test]
fn damaged_segments_are_named() {
    let second = |at, value: u64| with(fixed(), ph(1, at), value);
    check_refused(
        &with(second(P_FILESZ, 0x3000), ph(1, P_MEMSZ), 0x2000_u64),
        "segment 1: file size 0x3000 exceeds memory size 0x2000; the ELF is damaged or hostile",
    );
    check_refused(
        &second(P_MEMSZ, 0),
        "segment 1: file size 0x80 exceeds memory size 0x0",
    );
    check_refused(
        &second(P_FILESZ, 0x81),
        "segment 1: 0x81 bytes at offset 0x300 reach beyond",
    );
    check_refused(
        &second(P_OFFSET, u64::MAX - 0xcff),
        "segment 1: 0x80 bytes at offset 0xff",
    );
    check_refused(
        &second(P_OFFSET, u64::MAX),
        "segment 1: 0x80 bytes at offset 0xff",
    );
    check_refused(
        &second(P_OFFSET, 0x2ff),
        "segment 1: address 0x11300 and file offset 0x2ff differ in their low 12 bits",
    );
    check_refused(
        &second(P_ALIGN, 3),
        "segment 1: alignment 0x3 is no power of two",
    );
    check_refused(
        &second(P_ALIGN, u64::MAX),
        "segment 1: alignment 0xffffffffffffffff is no",
    );
    check_refused(
        &second(P_VADDR, 0x300),
        "segment 1: 0x2000 bytes at 0x300 reach outside 0x10000..0xfff00000",
    );
    for addr in [
        MAP_HIGHEST.0 - 0x1d00,
        0xffff_f300,
        u64::MAX - 0xcff,
        1 << 63 | 0x300,
    ] {
        check_refused(
            &second(P_VADDR, addr),
            &format!("segment 1: 0x2000 bytes at {addr:#x} reach outside"),
        );
    }
    for bytes in [
        u64::MAX,
        u64::MAX - 0x1_1300,
        1 << 32,
        MAP_HIGHEST.0 - 0x1_12ff,
    ] {
        check_refused(
            &second(P_MEMSZ, bytes),
            &format!("segment 1: {bytes:#x} bytes at 0x11300 reach outside"),
        );
    }
    check_refused(
        &with(fixed(), ph(0, P_MEMSZ), 0x1301_u64),
        "segment 1: begins at 0x11300, before the segment in front of it ends at 0x11301",
    );
    check_refused(
        &with(second(P_VADDR, 0x1_0000), ph(1, P_OFFSET), 0_u64),
        "segment 1: begins at 0x10000, before the segment in front of it ends at 0x10300",
    );
    let swapped = [
        load(R | W, 0x2_0000, 0, 0x100),
        load(R | X, 0x1_0000, 0, 0x300),
    ];
    check_refused(
        &elf(ET_EXEC, 0x1_0000, &swapped, 0x300),
        "segment 1: at 0x10000 lies below the segment in front of it at 0x20000",
    );
    // A PIE may begin at 0 but not be larger than the space.
    check_refused(
        &with(pie(), ph(3, P_MEMSZ), MAP_HIGHEST.0),
        "segment 3: 0xfff00000 bytes at 0x2300 reach outside",
    );
    check_refused(
        &with(pie(), ph(2, P_ALIGN), 1_u64 << 63),
        "bytes of program at base 0x8",
    );
}

/// Its headers were run: they lie at 0, in a segment that may be executed.
#[test]
fn a_shared_library_has_no_entry() {
    check_refused(&with(pie(), 24, 0_u64), "a shared library is not a program");
}

#[test]
fn an_entry_is_even_and_executable() {
    for entry in [0x1_0300, 0x1_1300, 0xfffe, 0x1_0ffe, u64::MAX - 1] {
        check_refused(
            &with(fixed(), 24, entry),
            &format!("entry {entry:#x} lies in no executable segment"),
        );
    }
    check_refused(&with(fixed(), 24, 0x1_0201_u64), "entry 0x10201 is odd");
    check_refused(&with(fixed(), 24, 0_u64), "the entry is 0x0");
    check_refused(
        &with(fixed(), ph(0, P_FLAGS), R | W),
        "entry 0x10200 lies in no executable",
    );
}

#[test]
fn dynamic_programs_are_told_how_to_link() {
    let mut file = fixed();
    PT_INTERP.put(&mut file, ph(2, P_TYPE));
    file[0x300..0x310].copy_from_slice(b"/lib/ld-\x1b[2J.so\0");
    check_refused(
        &file,
        r"dynamically linked (wants /lib/ld-\x1b[2J.so), which is not supported",
    );
    check_refused(&file, "link it with -static");
    // A path outside the file, or one without end, is not looked for.
    check_refused(
        &with(file.clone(), ph(2, P_OFFSET), u64::MAX),
        "dynamically linked (wants )",
    );
    check_refused(
        &with(file, ph(2, P_FILESZ), u64::MAX),
        "dynamically linked (wants ",
    );
}

#[test]
fn every_truncation_of_what_is_needed_is_refused() {
    for whole in [fixed(), pie()] {
        ElfImage::parse(&whole).unwrap();
        for bytes in 0..whole.len() {
            assert!(ElfImage::parse(&whole[..bytes]).is_err(), "{bytes} bytes");
        }
        // Also when the file shrinks between parsing and loading.
        let image = ElfImage::parse(&whole).unwrap();
        let memory = memory();
        for bytes in 0..whole.len() {
            let error = load_elf(&image, &whole[..bytes], &memory, None).unwrap_err();
            assert!(
                matches!(error, ElfError::SegmentFileRange { .. }),
                "{bytes}: {error}"
            );
        }
        assert_eq!(memory.mapped_bytes(), 0);
    }
}

#[test]
fn the_memory_limit_holds_and_nothing_stays_mapped() {
    let huge = with(fixed(), ph(1, P_MEMSZ), 0xffe0_0000_u64);
    check_refused(&huge, "exceed the memory limit of 67108864");
    let image = ElfImage::parse(&fixed()).unwrap();
    for pages in 0..4 {
        let small = GuestMemory::new(pages * 4096).unwrap();
        let error = load_elf(&image, &fixed(), &small, None).unwrap_err();
        assert!(matches!(error, ElfError::Memory(_)), "{error}");
        assert_eq!(small.mapped_bytes(), 0);
    }
    let exact = GuestMemory::new(4 * 4096).unwrap();
    load_elf(&image, &fixed(), &exact, None).unwrap();

    let taken = memory();
    taken.map(GuestAddr(0x1_3000), 4096, Prot::READ).unwrap();
    let error = load_elf(&image, &fixed(), &taken, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0x3000 bytes at 0x11000 are mapped already; load into an empty address space"
    );
    assert_eq!(taken.mapped_bytes(), 4096);
}

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives a good sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Damages `file` in one of the ways that find bugs in loaders.
fn mutate(file: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u64; 14] = [
        0,
        1,
        0xfff,
        0x1000,
        0x1001,
        0x1_0000,
        0x1_1000,
        0x7fff_ffff,
        0xfff0_0000,
        0xffff_ffff,
        1 << 32,
        i64::MAX as u64,
        u64::MAX - 0xfff,
        u64::MAX,
    ];
    for _ in 0..=random.below(3) {
        let headers = 64 + 56 * usize::from(file[56].clamp(1, 8));
        match random.below(8) {
            // A byte anywhere, most often in the headers; rarely in the first
            // 24, where it only ends the test early.
            0..=2 => {
                let at = random.below(file.len());
                file[at] = random.next() as u8;
            }
            3 => {
                let at = 24 + random.below(headers - 24);
                file[at] ^= 1 << random.below(8);
            }
            // A field of a program header: a value at which sums overflow, or
            // the value beside it, or a little more or less.
            field => {
                let at = ph(random.below((headers - 64) / 56), 8 * random.below(7));
                let old = file[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
                let new = match field {
                    4 => INTERESTING[random.below(INTERESTING.len())],
                    5 => INTERESTING[random.below(INTERESTING.len())].wrapping_sub(old),
                    6 => old.wrapping_add(0x1000 << random.below(24)),
                    _ => old
                        .wrapping_add(random.next() % 0x2001)
                        .wrapping_sub(0x1000),
                };
                new.put(file, at);
            }
        }
    }
    if random.below(16) == 0 {
        file.truncate(random.below(file.len() + 1));
    }
}

#[test]
fn mutated_files_never_panic_and_never_exceed_the_limit() {
    const FILES: usize = 120_000;
    const LIMIT_BYTES: u64 = 16 * 4096;
    let seeds = [fixed(), pie(), with_symbols()];
    let mut random = Random(0x5eed);
    let memory = GuestMemory::new(LIMIT_BYTES).unwrap();
    let (mut parsed, mut loads) = (0, 0);
    for round in 0..FILES {
        let mut file = seeds[round % seeds.len()].clone();
        mutate(&mut file, &mut random);
        for symbol in Symbols::parse(&file, random.next()).iter().take(4) {
            assert!(!symbol.name.is_empty());
        }
        let Ok(image) = ElfImage::parse(&file) else {
            continue;
        };
        parsed += 1;
        assert!(!image.to_string().is_empty());
        match load_elf(&image, &file, &memory, None) {
            Ok(loaded) => {
                loads += 1;
                assert!(memory.mapped_bytes() <= LIMIT_BYTES);
                assert!(memory.prot(loaded.entry).unwrap().contains(Prot::EXEC));
                assert!(loaded.brk_start.is_aligned(4096) && loaded.brk_start <= MAP_HIGHEST);
                assert!(memory.prot(loaded.brk_start).is_none());
                let readable = image.segments().iter().all(|s| s.prot != Prot::NONE);
                if readable && loads % 8 == 0 {
                    check_loaded(&image, &file, &memory, &loaded);
                }
                // Nothing is mapped outside the program's own range.
                let bytes = loaded.brk_start.0 - loaded.base.0;
                memory.unmap(loaded.base, bytes).unwrap();
                assert_eq!(memory.mapped_bytes(), 0);
            }
            Err(_) => assert_eq!(memory.mapped_bytes(), 0),
        }
    }
    // Damage so heavy that nothing is loaded would test nothing.
    assert!(
        parsed > FILES / 10 && loads > FILES / 20,
        "{parsed} parsed, {loads} loaded"
    );
}

// ---- symbols ----

/// [`fixed`] with four symbols: a function, a label, a mapping symbol and one
/// whose name lies outside the string table.
fn with_symbols() -> Vec<u8> {
    let mut file = fixed();
    let names = b"\0main\0start\0$x\0";
    let names_at = file.len() as u64;
    file.extend_from_slice(names);
    let table_at = file.len() as u64;
    let symbols = [
        (1, 0x12, 0x1_0200, 0x20),
        (6, 0x10, 0x1_0220, 0),
        (12, 0, 0x1_0220, 0),
        (99, 2, 0, 0),
    ];
    for (name, info, value, bytes) in symbols {
        file.extend(u32::to_le_bytes(name));
        file.extend([info, 0, 1, 0]);
        file.extend(u64::to_le_bytes(value));
        file.extend(u64::to_le_bytes(bytes));
    }
    let sections_at = file.len() as u64;
    let symbol_bytes = sections_at - table_at;
    // name and type; flags, addr, offset, size; link and info; align, entsize
    for (kind, flags, offset, bytes, link) in [
        (0_u64, 0, 0, 0, 0),
        (1, 4, 0x200, 0x100, 0), // .text
        (2, 0, table_at, symbol_bytes, 3_u64),
        (3, 0, names_at, names.len() as u64, 0),
    ] {
        for word in [kind << 32, flags, 0, offset, bytes, link, 1, 0] {
            file.extend(word.to_le_bytes());
        }
    }
    let file = with(file, 40, sections_at);
    with(file, 60, 4_u16)
}

#[test]
fn functions_are_found_by_address_and_name() {
    let file = with_symbols();
    let symbols = Symbols::parse(&file, 0x1000);
    let names: Vec<_> = symbols.iter().map(|s| (s.name, s.start.0)).collect();
    assert_eq!(
        names,
        [
            ("main".to_owned(), 0x1_1200),
            ("start".to_owned(), 0x1_1220)
        ]
    );
    let at = |addr| symbols.at(GuestAddr(addr)).map(|s| s.name);
    assert_eq!(at(0x1_11ff), None);
    assert_eq!(at(0x1_1200).as_deref(), Some("main"));
    assert_eq!(at(0x1_121f).as_deref(), Some("main"));
    assert_eq!(at(0x1_1999).as_deref(), Some("start")); // no size: up to the next
    assert_eq!(symbols.named("main").unwrap().bytes, 0x20);
    assert!(symbols.named("$x").is_none());
    assert!(Symbols::parse(&fixed(), 0).is_empty());
    for bytes in 0..file.len() {
        assert!(
            Symbols::parse(&file[..bytes], 0).is_empty(),
            "{bytes} bytes"
        );
    }
}

// ---- the stack ----

const RANDOM: [u8; 16] = *b"sixteen  random!";

fn params<'a>(loaded: &'a Loaded, args: &'a [&'a [u8]], env: &'a [&'a [u8]]) -> StackParams<'a> {
    StackParams {
        top: DEFAULT_STACK_TOP,
        bytes: DEFAULT_STACK_BYTES,
        executable: false,
        loaded,
        exec_path: b"/bin/guest",
        args,
        env,
        random: RANDOM,
        ids: Ids {
            uid: 1000,
            euid: 1000,
            gid: 100,
            egid: 101,
        },
    }
}

fn loaded() -> Loaded {
    Loaded {
        entry: GuestAddr(0x1_0200),
        bias: 0,
        base: GuestAddr(0x1_0000),
        brk_start: GuestAddr(0x1_4000),
        program_headers: Some(GuestAddr(0x1_0040)),
        program_header_count: 5,
    }
}

/// What a program finds: argv, envp, auxv.
type Found = (Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<(u64, u64)>);

/// Reads a stack as libc does.
fn read_stack(memory: &GuestMemory, sp: GuestAddr) -> Found {
    let mut at = sp;
    let mut word = || {
        let value: u64 = memory.load(at).unwrap();
        at = GuestAddr(at.0 + 8);
        value
    };
    let string = |addr| {
        memory
            .read_c_string(GuestAddr(addr), 1 << 20)
            .unwrap()
            .unwrap()
    };
    let argc = word();
    let args = (0..argc).map(|_| string(word())).collect();
    assert_eq!(word(), 0);
    let mut env = Vec::new();
    loop {
        match word() {
            0 => break,
            addr => env.push(string(addr)),
        }
    }
    let mut aux = Vec::new();
    loop {
        match (word(), word()) {
            (auxv::AT_NULL, value) => {
                assert_eq!(value, 0);
                return (args, env, aux);
            }
            pair => aux.push(pair),
        }
    }
}

#[test]
fn a_program_finds_what_linux_would_give_it() {
    let memory = memory();
    let loaded = loaded();
    let params = params(&loaded, &[b"guest", b"-v", b""], &[b"HOME=/", b"A="]);
    let sp = build_stack(&memory, &params).unwrap();
    assert!(sp.is_aligned(16));
    let (args, env, aux) = read_stack(&memory, sp);
    assert_eq!(args, [&b"guest"[..], b"-v", b""]);
    assert_eq!(env, [&b"HOME=/"[..], b"A="]);
    let value = |key| aux.iter().find(|pair| pair.0 == key).unwrap().1;
    for (key, expected) in [
        (auxv::AT_PHDR, 0x1_0040),
        (auxv::AT_PHENT, 56),
        (auxv::AT_PHNUM, 5),
        (auxv::AT_PAGESZ, 4096),
        (auxv::AT_BASE, 0),
        (auxv::AT_FLAGS, 0),
        (auxv::AT_ENTRY, 0x1_0200),
        (auxv::AT_UID, 1000),
        (auxv::AT_EUID, 1000),
        (auxv::AT_GID, 100),
        (auxv::AT_EGID, 101),
        (auxv::AT_SECURE, 1),
        (auxv::AT_HWCAP, HWCAP_RV64GC),
        (auxv::AT_CLKTCK, 100),
    ] {
        assert_eq!(value(key), expected, "key {key}");
    }
    let mut random = [0; 16];
    memory
        .read_bytes(GuestAddr(value(auxv::AT_RANDOM)), &mut random)
        .unwrap();
    assert_eq!(random, RANDOM);
    let path = memory
        .read_c_string(GuestAddr(value(auxv::AT_EXECFN)), 99)
        .unwrap();
    assert_eq!(path.as_deref(), Some(&b"/bin/guest"[..]));

    // Arguments and environment are contiguous, the path is above them.
    let first: u64 = memory.load(GuestAddr(sp.0 + 8)).unwrap();
    let mut strings = [0; 28];
    memory.read_bytes(GuestAddr(first), &mut strings).unwrap();
    assert_eq!(&strings, b"guest\0-v\0\0HOME=/\0A=\0/bin/gue");

    // The stack is 8 MiB, writable, not executable; below it is nothing.
    let lowest = GuestAddr(DEFAULT_STACK_TOP.0 - DEFAULT_STACK_BYTES);
    assert!(memory.allows(lowest, DEFAULT_STACK_BYTES, rw()));
    assert!(!memory.prot(lowest).unwrap().contains(Prot::EXEC));
    assert_eq!(memory.prot(GuestAddr(lowest.0 - 1)), None);
    assert_eq!(memory.mapped_bytes(), DEFAULT_STACK_BYTES);
}

#[test]
fn a_program_without_arguments_gets_an_empty_one() {
    let memory = memory();
    let loaded = Loaded {
        program_headers: None,
        ..loaded()
    };
    let params = StackParams {
        executable: true,
        ..params(&loaded, &[], &[])
    };
    let sp = build_stack(&memory, &params).unwrap();
    let (args, env, aux) = read_stack(&memory, sp);
    assert_eq!((args, env), (vec![vec![]], vec![]));
    assert!(aux.contains(&(auxv::AT_PHDR, 0)));
    assert!(memory.prot(sp).unwrap().contains(Prot::EXEC));
}

#[test]
fn stacks_that_cannot_be_are_refused_with_nothing_mapped() {
    let long = vec![b'a'; 100_000];
    let longest = vec![b'a'; (128 << 10) - 1];
    let too_long = vec![b'a'; 128 << 10];
    let loaded = loaded();
    let many = vec![&long[..]; 21];
    let more = vec![&longest[..]; 64];
    let pointers: Vec<&[u8]> = vec![b""; 233_017];
    let ok: [&[u8]; 1] = [b"guest"];
    let check = |params: StackParams<'_>, expected: &str| {
        let memory = memory();
        let error = build_stack(&memory, &params).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "refused with: {error}\nexpected:     {expected}"
        );
        assert_eq!(memory.mapped_bytes(), 0);
    };
    check(
        params(&loaded, &many, &[]),
        "take 2100200 bytes, more than the 2097152 that a stack",
    );
    check(
        params(&loaded, &ok, &pointers),
        "take 2097178 bytes, more than the 2097152",
    );
    let large = StackParams {
        bytes: 32 << 20,
        ..params(&loaded, &ok, &more)
    };
    check(large, "more than the 6291456 that");
    check(
        params(&loaded, &[b"a", &too_long], &[]),
        "argument 1 takes 131073 bytes, more than the 131072",
    );
    check(
        params(&loaded, &ok, &[b"A=\0"]),
        "environment string 0 has a NUL byte inside",
    );
    check(
        StackParams {
            exec_path: b"\0",
            ..params(&loaded, &ok, &[])
        },
        "program path 0 has a NUL",
    );
    for bytes in [0, 16, 4096, STACK_BYTES_MIN - 1] {
        check(
            StackParams {
                bytes,
                ..params(&loaded, &ok, &[])
            },
            "give it at least 0x2000",
        );
    }
    check(
        StackParams {
            bytes: 0x2001,
            ..params(&loaded, &ok, &[])
        },
        "not whole pages",
    );
    for top in [
        0,
        16,
        0x2000,
        0x1_1000,
        MAP_HIGHEST.0 + 0x1000,
        u64::MAX,
        !0xfff,
    ] {
        let at = StackParams {
            top: GuestAddr(top),
            bytes: 0x2000,
            ..params(&loaded, &ok, &[])
        };
        check(at, "reach outside");
    }
    check(
        StackParams {
            top: GuestAddr(0x5_0008),
            ..params(&loaded, &ok, &[])
        },
        "reach outside",
    );
    let unaligned = StackParams {
        top: GuestAddr(0x5_0008),
        bytes: 0x2000,
        ..params(&loaded, &ok, &[])
    };
    check(unaligned, "not whole pages");
    check(
        StackParams {
            bytes: 65 << 20,
            ..params(&loaded, &ok, &[])
        },
        "exceed the memory limit",
    );

    let memory = memory();
    memory.map(GuestAddr(0x5_0000), 4096, rw()).unwrap();
    let taken = StackParams {
        top: GuestAddr(0x5_2000),
        bytes: 0x3000,
        ..params(&loaded, &ok, &[])
    };
    let error = build_stack(&memory, &taken).unwrap_err().to_string();
    assert!(
        error.contains("0x3000 bytes at 0x4f000 are mapped already"),
        "{error}"
    );
    assert_eq!(memory.mapped_bytes(), 4096);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the strings, a program reads back what it was given, or the
    /// stack is refused for their length alone; also on the smallest stack.
    #[test]
    fn strings_come_back_as_given(
        args in prop::collection::vec(prop::collection::vec(1_u8.., 0..40), 1..40),
        env in prop::collection::vec(prop::collection::vec(1_u8.., 0..40), 0..40),
        pages in 2_u64..6,
    ) {
        let memory = memory();
        let loaded = loaded();
        let arg_slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let env_slices: Vec<&[u8]> = env.iter().map(Vec::as_slice).collect();
        let params = StackParams { bytes: pages * 4096, ..params(&loaded, &arg_slices, &env_slices) };
        let string_bytes: usize = args.iter().chain(&env).map(|s| s.len() + 1 + 8).sum();
        match build_stack(&memory, &params) {
            Ok(sp) => {
                prop_assert!(sp.is_aligned(16));
                prop_assert!(string_bytes + 11 <= pages as usize * 1024);
                let (found_args, found_env, _) = read_stack(&memory, sp);
                prop_assert_eq!((found_args, found_env), (args, env));
            }
            Err(error) => {
                prop_assert!(string_bytes + 11 > pages as usize * 1024, "{}", error);
            }
        }
    }
}

// ---- what a real toolchain writes ----

const GCC: &str = "riscv64-linux-gnu-gcc";

/// Compiles `source`; `None`, with a note, where the toolchain is not there or
/// lacks the libraries.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn compile(name: &str, source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("elf_corpus");
    std::fs::create_dir_all(&dir).unwrap();
    let (from, to) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&from, source).unwrap();
    match Command::new(GCC)
        .args(flags)
        .arg("-o")
        .args([&to, &from])
        .output()
    {
        Ok(done) if done.status.success() => Some(std::fs::read(to).unwrap()),
        Ok(done) => {
            let message = String::from_utf8_lossy(&done.stderr).into_owned();
            eprintln!("skipped: an ELF of {GCC} {flags:?}, which does not link here: {message}");
            None
        }
        Err(error) => {
            eprintln!("skipped: ELFs of {GCC}, which does not run here: {error}");
            None
        }
    }
}

const HELLO: &str = r#"
#include <stdio.h>
static char big[100000];
static __thread int x = 3;
int main(int argc, char **argv) { printf("%d %s %p\n", x, argv[0], big); return 0; }
"#;

const BARE: &str = r"
static int value = 7;
int *pointer = &value;
void _start(void) { for (;;) { ++*pointer; } }
";

#[test]
fn static_programs_of_gcc_load() {
    let Some(file) = compile("hello-static", HELLO, &["-O1", "-static"]) else {
        return;
    };
    let (image, memory, loaded) = load_default(&file);
    assert_eq!(image.kind(), ElfKind::Fixed);
    assert!(image.tls().is_some() && !image.executable_stack());
    let headers = loaded.program_headers.unwrap();
    let mut table = vec![0; 56 * usize::from(loaded.program_header_count)];
    memory.read_bytes(headers, &mut table).unwrap();
    assert_eq!(table, file[64..64 + table.len()]);
    let symbols = Symbols::parse(&file, loaded.bias);
    let main = symbols.named("main").unwrap();
    assert_eq!(symbols.at(GuestAddr(main.start.0 + 2)), Some(main));
    assert_eq!(symbols.named("_start").unwrap().start, loaded.entry);
    // Cut off anywhere before the end of the last segment, it is refused;
    // sections behind that are not needed.
    let needed = image
        .segments()
        .iter()
        .map(|s| s.offset + s.file_bytes)
        .max()
        .unwrap() as usize;
    for bytes in (0..needed).step_by(997).chain([needed - 1]) {
        assert!(ElfImage::parse(&file[..bytes]).is_err(), "{bytes} bytes");
    }
    assert!(ElfImage::parse(&file[..needed]).is_ok());
}

#[test]
fn static_pies_of_gcc_load() {
    // GCC 12 names an interpreter for RISC-V even with -static-pie.
    let flags = [
        "-O1",
        "-static-pie",
        "-Wl,--no-dynamic-linker",
        "-fPIE",
        "-nostdlib",
        "-ffreestanding",
    ];
    let Some(file) = compile("bare-pie", BARE, &flags) else {
        return;
    };
    let (image, _, loaded) = load_default(&file);
    assert_eq!(image.kind(), ElfKind::PositionIndependent);
    assert_eq!(loaded.base, DEFAULT_PIE_BASE);
    let start = Symbols::parse(&file, loaded.bias).named("_start").unwrap();
    assert_eq!(start.start, loaded.entry);
}

#[test]
fn dynamic_programs_of_gcc_are_refused() {
    if let Some(file) = compile("hello-dynamic", HELLO, &["-O1"]) {
        check_refused(
            &file,
            "dynamically linked (wants /lib/ld-linux-riscv64-lp64d.so.1)",
        );
    }
    if let Some(file) = compile("object", BARE, &["-O1", "-c"]) {
        check_refused(&file, "ELF type 1 is neither 2");
    }
}
