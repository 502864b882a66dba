//! Names of functions, for dumps and profiles. Nothing depends on them, so
//! damage yields fewer names and never an error.

use std::ops::Range;

use super::{le16, le32, le64, slice};
use crate::addr::GuestAddr;

/// Most symbols that are looked at.
pub const SYMBOL_COUNT_MAX: usize = 1 << 20;

/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 1024;

const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SHT_SYMTAB: u32 = 2;
const SHF_EXECINSTR: u64 = 4;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its first instruction, bias added.
    pub start: GuestAddr,
    /// Its size; 0 where the file does not say, as for labels in assembly.
    pub bytes: u64,
    /// Its name as in the file (mangled), unprintable characters replaced.
    pub name: String,
}

/// The functions of a program, by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    entries: Vec<Entry>,
    /// The file's string table, once; a file cannot make us hold more.
    names: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Entry {
    start: u64,
    bytes: u64,
    name: Range<u32>,
    global: bool,
}

impl Symbols {
    /// Reads the symbol table of an ELF file that is loaded with `bias`
    /// (`Loaded::bias`). Empty for a stripped or damaged file; at most
    /// [`SYMBOL_COUNT_MAX`] symbols are looked at, and memory stays
    /// proportional to the file.
    #[must_use]
    pub fn parse(file: &[u8], bias: u64) -> Symbols {
        Symbols::try_parse(file, bias).unwrap_or_default()
    }

    fn try_parse(file: &[u8], bias: u64) -> Option<Symbols> {
        let header = file.first_chunk::<64>()?;
        if usize::from(le16(header, 58)) != SECTION_HEADER_BYTES {
            return None;
        }
        // e_shnum has 16 bits: at most 4 MiB of headers.
        let bytes = u64::from(le16(header, 60)) * SECTION_HEADER_BYTES as u64;
        let sections = slice(file, le64(header, 40), bytes)?;
        let (sections, _) = sections.as_chunks::<SECTION_HEADER_BYTES>();
        let contents = |s: &[u8; SECTION_HEADER_BYTES]| slice(file, le64(s, 24), le64(s, 32));

        let table = sections.iter().find(|s| le32(s, 4) == SHT_SYMTAB)?;
        let names = contents(sections.get(usize::try_from(le32(table, 40)).ok()?)?)?;
        let (table, _) = contents(table)?.as_chunks::<SYMBOL_BYTES>();
        let mut entries: Vec<Entry> = table
            .iter()
            .take(SYMBOL_COUNT_MAX)
            .filter_map(|symbol| {
                let section = sections.get(usize::from(le16(symbol, 6)))?;
                let executable = le64(section, 8) & SHF_EXECINSTR != 0;
                let name = name_at(names, le32(symbol, 0))?;
                match symbol[4] & 15 {
                    STT_FUNC | STT_GNU_IFUNC => {}
                    // Labels of assembly, but not `$x` and `.L`, which mark
                    // kinds of contents and places inside functions.
                    STT_NOTYPE if executable => {
                        if matches!(names.get(name.start as usize), Some(b'$' | b'.')) {
                            return None;
                        }
                    }
                    _ => return None,
                }
                Some(Entry {
                    start: le64(symbol, 8).wrapping_add(bias),
                    bytes: le64(symbol, 16),
                    name,
                    global: symbol[4] >> 4 != 0,
                })
            })
            .collect();
        // Of several names for one place, a sized and global one first.
        entries.sort_by_key(|e| (e.start, e.bytes == 0, !e.global));
        entries.dedup_by_key(|e| e.start);
        entries.shrink_to_fit();
        Some(Symbols {
            entries,
            names: names.into(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The function that contains `addr`; for one of unknown size, up to the
    /// next.
    #[must_use]
    pub fn at(&self, addr: GuestAddr) -> Option<Symbol> {
        let next = self.entries.partition_point(|e| e.start <= addr.0);
        let entry = self.entries.get(next.checked_sub(1)?)?;
        (entry.bytes == 0 || addr.0 - entry.start < entry.bytes).then(|| self.symbol(entry))
    }

    /// The function called `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Symbol> {
        let entry = self
            .entries
            .iter()
            .find(|e| self.name_bytes(e) == name.as_bytes())?;
        Some(self.symbol(entry))
    }

    /// All functions, by ascending address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol> {
        self.entries.iter().map(|e| self.symbol(e))
    }

    fn name_bytes(&self, entry: &Entry) -> &[u8] {
        let Range { start, end } = entry.name;
        self.names
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    fn symbol(&self, entry: &Entry) -> Symbol {
        // Names go to terminals and come from a stranger.
        let printable = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        let name = String::from_utf8_lossy(self.name_bytes(entry));
        Symbol {
            start: GuestAddr(entry.start),
            bytes: entry.bytes,
            name: name.chars().map(printable).collect(),
        }
    }
}

/// The non-empty name that begins at `offset` of a string table.
fn name_at(names: &[u8], offset: u32) -> Option<Range<u32>> {
    let rest = names.get(usize::try_from(offset).ok()?..)?;
    let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
    let bytes = rest
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(rest.len());
    let bytes = u32::try_from(bytes).ok().filter(|&bytes| bytes > 0)?;
    Some(offset..offset.checked_add(bytes)?)
}
