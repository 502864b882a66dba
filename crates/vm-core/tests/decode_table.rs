//! The instruction table against itself and against GNU objdump.
//!
//! Itself: words → `Inst` → word, and `Inst` → text → `Inst`, over all 16-bit
//! forms, a dense sample of every row and random words. Objdump: mnemonic and
//! operands of the same kinds of words, as an independent reading of the
//! manual; where the two differ on purpose, [`KNOWN_DIFFERENCES`] says why.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use vm_core::csr;
use vm_core::isa::asm::{assemble, assemble_inst};
use vm_core::isa::compressed::{COMPRESSED, compress, expand, row_of};
use vm_core::isa::disasm::disassemble_half;
use vm_core::isa::doc::isa_table_markdown;
use vm_core::isa::format::Kind;
use vm_core::isa::{Row, TABLE, decode};
use vm_core::{FReg, XReg};

const WORDS_PER_ROW: u32 = 10_000;
const RANDOM_WORDS: u32 = 1_000_000;

/// SplitMix64: every failure is reproducible, and no dependency is needed.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    /// A word with the opcode of some row and random bits above it: a near
    /// miss more often than not.
    fn word_like(&mut self) -> u32 {
        let row = &TABLE[self.word() as usize % TABLE.len()];
        (row.matches & 0x7f) | (self.word() & !0x7f)
    }

    /// A word of the row with random operands.
    fn word_of(&mut self, row: &Row) -> u32 {
        row.matches | (self.word() & !row.mask)
    }
}

/// Whether the table alone, read without the decoder, gives `w` a meaning.
/// Rounding modes 5 and 6 are all that the formats reserve.
fn is_of_table(w: u32) -> bool {
    TABLE.iter().any(|row| {
        let has_mode = matches!(
            row.format,
            Kind::FR | Kind::FR1 | Kind::FR4 | Kind::FToX | Kind::XToF
        );
        w & row.mask == row.matches && !(has_mode && matches!((w >> 12) & 7, 5 | 6))
    })
}

#[track_caller]
fn check_word(w: u32) {
    let Ok(decoded) = decode(w) else {
        assert!(
            !is_of_table(w),
            "{w:#010x} is in the table but does not decode"
        );
        return;
    };
    assert!(is_of_table(w), "{w:#010x} decodes but is not in the table");
    assert_eq!(decoded.len, 4);
    assert_eq!(decoded.inst.encode(), w, "{}", decoded.inst);
    let text = decoded.inst.to_string();
    let parsed = assemble_inst(&text).unwrap_or_else(|e| panic!("{w:#010x} `{text}`: {e}"));
    assert_eq!(parsed, decoded.inst, "{w:#010x} `{text}`");
}

#[test]
fn operands_of_every_row_survive_word_and_text() {
    thread::scope(|scope| {
        for (i, rows) in TABLE.chunks(24).enumerate() {
            scope.spawn(move || {
                let mut random = Random(i as u64);
                for row in rows {
                    for _ in 0..WORDS_PER_ROW {
                        let w = random.word_of(row);
                        check_word(w);
                        // The word is this row's and not only somebody's.
                        let found = decode(w).map(|decoded| decoded.inst.op());
                        assert!(found.is_err() || found == Ok(row.op), "{w:#010x}");
                    }
                }
            });
        }
    });
}

#[test]
fn random_words_are_refused_or_survive() {
    thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let mut random = Random(1000 + seed);
                for _ in 0..RANDOM_WORDS / 8 {
                    check_word(random.word() | 3);
                    check_word(random.word_like());
                }
            });
        }
    });
}

#[test]
fn all_16_bit_forms_survive_word_and_text() {
    for half in (0..=u16::MAX).filter(|half| half & 3 != 3) {
        // What follows in memory must not matter.
        let decoded = decode(0xffff_0000 | u32::from(half));
        let Some(inst) = expand(half) else {
            assert!(decoded.is_err(), "{half:#06x}");
            assert_eq!(disassemble_half(half), None);
            continue;
        };
        assert_eq!(
            decoded.map(|d| (d.inst, d.len)),
            Ok((inst, 2)),
            "{half:#06x}"
        );
        let canonical = compress(inst).unwrap_or_else(|| panic!("{half:#06x} {inst}"));
        assert_eq!(expand(canonical), Some(inst), "{half:#06x} {inst}");

        // The instruction it stands for.
        let text = inst.to_string();
        let long = assemble_inst(&text).unwrap_or_else(|e| panic!("{half:#06x} `{text}`: {e}"));
        assert_eq!(long, inst, "{half:#06x} `{text}`");
        assert_eq!(
            decode(long.encode()).map(|d| d.inst),
            Ok(inst),
            "{half:#06x} `{text}`"
        );

        // The form itself, under its own name.
        let text = disassemble_half(half).unwrap();
        let bytes = assemble(&text).unwrap_or_else(|e| panic!("{half:#06x} `{text}`: {e}"));
        assert_eq!(bytes, half.to_le_bytes(), "{half:#06x} `{text}`");
    }
}

#[test]
fn every_row_has_words() {
    let mut random = Random(7);
    for row in TABLE {
        let found = (0..1000).any(|_| decode(random.word_of(row)).is_ok());
        assert!(found, "no word decodes as {}", row.mnemonic);
    }
    for row in COMPRESSED {
        let found = (0..=u16::MAX)
            .any(|half| row_of(half).is_some_and(|found| found.mnemonic == row.mnemonic));
        assert!(found, "no half word is {}", row.mnemonic);
    }
}

#[test]
fn the_page_about_instructions_is_up_to_date() {
    let page = Path::new("../../docs/isa-table.md");
    let text = isa_table_markdown();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(page, text).unwrap();
        return;
    }
    let found = fs::read_to_string(page).unwrap_or_default();
    assert!(
        found == text,
        "docs/isa-table.md is not what the tables say: run the test with UPDATE_EXPECT=1"
    );
}

// -- Objdump ---------------------------------------------------------------

/// A difference between objdump 2.40 and us that is meant to be.
struct Difference {
    /// Whether it is this one: the encoding, our text and objdump's, both
    /// normalised; empty for an encoding that is refused.
    applies: fn(bits: u32, ours: &str, theirs: &str) -> bool,
    reason: &'static str,
}

const KNOWN_DIFFERENCES: &[Difference] = &[
    Difference {
        applies: |bits, ours, theirs| {
            let row = TABLE.iter().find(|row| bits & row.mask == row.matches);
            let is_new = row.is_some_and(|row| format!("{:?}", row.extension) == "Zicond");
            is_new && !ours.is_empty() && theirs.is_empty()
        },
        reason: "binutils 2.40 is older than Zicond",
    },
    Difference {
        applies: |_, ours, theirs| {
            let name = theirs.split(' ').next().unwrap_or_default();
            let privileged = [
                "uret",
                "sret",
                "hret",
                "mret",
                "dret",
                "wfi",
                "sfence.vma",
                "sfence.vm",
            ];
            let hypervisor = ["hfence", "hlv", "hlvx", "hsv"];
            ours.is_empty()
                && (privileged.contains(&name)
                    || hypervisor.contains(&name.split('.').next().unwrap_or_default()))
        },
        reason: "privileged instructions are illegal in the user mode that we run",
    },
    Difference {
        applies: |bits, ours, theirs| {
            matches!(bits & 0x707f, 0x000f | 0x100f)
                && ours.starts_with("fence")
                && theirs.is_empty()
        },
        reason: "the manual has implementations ignore the reserved fields of fences; objdump wants zeros",
    },
    Difference {
        applies: |bits, ours, theirs| {
            let exact = ["fcvt.d.w ", "fcvt.d.wu ", "fcvt.d.s "];
            exact.iter().any(|name| ours.starts_with(name))
                && ((theirs.is_empty() && (bits >> 12) & 7 != 0)
                    || (ours.strip_suffix(",rne") == Some(theirs)))
        },
        reason: "objdump wants mode rne in conversions that are always exact, and hides it",
    },
    Difference {
        applies: |bits, ours, theirs| {
            matches!((bits >> 12) & 7, 5 | 6) && ours.is_empty() && theirs.ends_with(",unknown")
        },
        reason: "rounding modes 5 and 6 are reserved: objdump prints them as unknown",
    },
    Difference {
        applies: |_, ours, theirs| ours == "c.nop" && theirs == "c.addi x0,0",
        reason: "with no-aliases objdump counts c.nop among the aliases",
    },
    Difference {
        applies: |bits, ours, theirs| {
            let (name, reg) = theirs.split_once(' ').unwrap_or_default();
            let base = name.strip_suffix("64").unwrap_or_default();
            bits & 0x107c == 0 && !base.is_empty() && ours == format!("{base} {reg},0")
        },
        reason: "a shift by 0 is a HINT on RV64, which objdump calls by its RV128 name",
    },
    Difference {
        applies: |bits, ours, theirs| {
            bits == 0x6101 && ours.is_empty() && theirs == "c.addi16sp x2,0"
        },
        reason: "c.addi16sp with 0 is reserved; objdump does not mind",
    },
    Difference {
        applies: |bits, ours, theirs| bits == 0 && ours.is_empty() && theirs == "c.unimp",
        reason: "c.unimp is a name for the half word that is defined to be illegal",
    },
];

/// `name operand,operand` with registers by number, numbers in decimal and
/// targets as distances from `pc`.
fn normalise(text: &str, pc: Option<u64>, csr_number: impl Fn(&str) -> Option<u16>) -> String {
    let text = text.split(['<', '#']).next().unwrap_or_default().trim();
    let (name, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_jump = matches!(name, "jal" | "c.j" | "c.beqz" | "c.bnez")
        || TABLE
            .iter()
            .any(|row| row.mnemonic == name && row.format == Kind::B);
    let mut out = name.to_owned();
    let operands: Vec<&str> = operands
        .split(',')
        .map(str::trim)
        .filter(|o| !o.is_empty())
        .collect();
    for (i, operand) in operands.iter().enumerate() {
        out.push(if i == 0 { ' ' } else { ',' });
        let (head, tail) = match operand.split_once('(') {
            Some((head, base)) => (head, Some(base.trim_end_matches(')'))),
            None => (*operand, None),
        };
        let is_target = is_jump && i + 1 == operands.len();
        let value = match head.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None => head.parse().ok(),
        };
        let normal = |word: &str| match (XReg::from_name(word), FReg::from_name(word)) {
            (Some(x), _) => format!("x{}", x.index()),
            (_, Some(f)) => format!("f{}", f.index()),
            _ => csr_number(word).map_or(word.to_owned(), |number| number.to_string()),
        };
        match (value, pc) {
            (Some(target), Some(pc)) if is_target => {
                out += &target.wrapping_sub(pc.cast_signed()).to_string();
            }
            (Some(value), _) => out += &value.to_string(),
            (None, _) => out += &normal(head),
        }
        if let Some(base) = tail {
            out += &format!("({})", normal(base));
        }
    }
    // An empty set of a fence.
    if name == "fence" {
        out.replace("unknown", "0")
    } else {
        out
    }
}

/// Runs a program of binutils; `None` if it is not installed.
fn binutils(tool: &str, args: &[&str], dir: &Path) -> Option<String> {
    let program = format!("riscv64-linux-gnu-{tool}");
    let output = match Command::new(&program).args(args).current_dir(dir).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        result => result.unwrap_or_else(|e| panic!("{program}: {e}")),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// What objdump says of each encoding: text, or nothing if it is data to it.
/// Its version before that; `None` if binutils is not installed.
fn objdump(code: &[u8]) -> Option<(String, Vec<(u64, String)>)> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let version = binutils("objdump", &["--version"], dir)?;
    fs::write(dir.join("words.bin"), code).unwrap();
    fs::write(dir.join("words.s"), ".text\n.incbin \"words.bin\"\n").unwrap();
    // Objdump takes the extensions from the object's attributes, and the
    // bytes for code once the symbol that marks them as data is gone.
    let arch = "-march=rv64gc_zicsr_zifencei_zba_zbb_zbc_zbs_zbkx";
    binutils("as", &[arch, "words.s", "-o", "words.o"], dir)?;
    binutils("strip", &["-s", "words.o"], dir)?;
    let listing = binutils(
        "objdump",
        &["-d", "-z", "-M", "no-aliases,numeric", "words.o"],
        dir,
    )?;
    let lines = listing.lines().filter_map(|line| {
        let (pc, rest) = line.split_once(":\t")?;
        let pc = u64::from_str_radix(pc.trim(), 16).ok()?;
        let (_, text) = rest.split_once('\t')?;
        let is_data = text.starts_with(".2byte") || text.starts_with(".4byte");
        Some((
            pc,
            if is_data {
                String::new()
            } else {
                text.replace('\t', " ")
            },
        ))
    });
    Some((version, lines.collect()))
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
fn objdump_reads_the_same() {
    let mut random = Random(42);
    let mut code = Vec::new();
    // 48-bit and longer encodings would shift all that follows in the listing.
    let words: Vec<u32> = TABLE
        .iter()
        .flat_map(|row| [row; 150])
        .map(|row| random.word_of(row))
        .chain((0..20_000).map({
            let mut random = Random(43);
            move |i| {
                if i % 4 == 0 {
                    random.word() | 3
                } else {
                    random.word_like()
                }
            }
        }))
        // The privileged instructions among them hide between ecall and ebreak.
        .chain((0..4096).map(|imm| imm << 20 | 0x73))
        .filter(|w| w & 31 != 31)
        .collect();
    assert!(words.len() >= 20_000);
    for w in &words {
        code.extend(w.to_le_bytes());
    }
    let halves: Vec<u16> = (0..=u16::MAX).filter(|half| half & 3 != 3).collect();
    for half in &halves {
        code.extend(half.to_le_bytes());
    }
    let Some((version, listing)) = objdump(&code) else {
        eprintln!("skipped: disassembly with riscv64-linux-gnu-objdump, which is not installed");
        return;
    };
    assert_eq!(
        listing.len(),
        words.len() + halves.len(),
        "the listing is out of step"
    );

    let mut csr_names: Vec<(String, u16)> = Vec::new();
    let mut differences = Vec::new();
    let mut known = [0; KNOWN_DIFFERENCES.len()];
    let mut same = 0;
    let encodings = words
        .iter()
        .copied()
        .chain(halves.iter().map(|&half| u32::from(half)));
    for ((pc, theirs), bits) in listing.iter().zip(encodings) {
        let ours = match bits & 3 {
            3 => decode(bits)
                .map(|decoded| decoded.inst.to_string())
                .unwrap_or_default(),
            _ => disassemble_half(bits as u16).unwrap_or_default(),
        };
        // Objdump knows more names of CSRs: a name must always be the same
        // number and no number have two.
        let is_csr = bits & 0x7f == 0x73 && bits & 0x3000 != 0;
        let number = (bits >> 20) as u16;
        let name = theirs.split(',').nth(1).unwrap_or_default();
        if is_csr && !name.is_empty() && !name.starts_with("0x") {
            match csr_names.iter().find(|(n, i)| n == name || *i == number) {
                Some(pair) => assert_eq!(*pair, (name.to_owned(), number)),
                None => csr_names.push((name.to_owned(), number)),
            }
        }
        let theirs = normalise(theirs, Some(*pc), |name| {
            let pair = csr_names.iter().find(|(n, _)| is_csr && n == name);
            pair.map(|&(_, number)| number)
        });
        let ours = normalise(&ours, None, |name| {
            let pair = csr::NAMES.iter().find(|(n, _)| is_csr && *n == name);
            pair.map(|&(_, number)| number)
        });
        if ours == theirs {
            same += 1;
        } else if let Some(i) = KNOWN_DIFFERENCES
            .iter()
            .position(|d| (d.applies)(bits, &ours, &theirs))
        {
            known[i] += 1;
        } else {
            differences.push(format!("{bits:#010x}: ours `{ours}`, objdump `{theirs}`"));
        }
    }
    for (difference, count) in KNOWN_DIFFERENCES.iter().zip(known) {
        eprintln!("{count} times: {}", difference.reason);
        // Other versions may agree with us where this one does not.
        let is_stale = count == 0 && version.contains(" 2.40");
        assert!(
            !is_stale,
            "is no difference any more: {}",
            difference.reason
        );
    }
    eprintln!(
        "compared: disassembly of {} encodings with riscv64-linux-gnu-objdump",
        listing.len()
    );
    eprintln!("{same} read the same");
    assert!(
        differences.is_empty(),
        "{} differences from objdump, the first:\n{}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}
