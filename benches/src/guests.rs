//! The guest programs: what `benches/guests/manifest.json` says, as far as
//! running needs it. `xtask guests` writes and checks that file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The manifest, and where it lies.
#[derive(Clone, Debug, Deserialize)]
pub struct Guests {
    format: String,
    common_flags: Vec<String>,
    native: Native,
    runtime: Vec<Hashed>,
    guests: Vec<Guest>,
    #[serde(skip)]
    dir: PathBuf,
}

/// How the host build of a guest is made.
#[derive(Clone, Debug, Deserialize)]
pub struct Native {
    /// Command name.
    pub compiler: String,
    /// Flags after the common ones.
    pub flags: Vec<String>,
    /// Runtime files to compile with it.
    pub runtime: Vec<String>,
}

/// A file and its hash.
#[derive(Clone, Debug, Deserialize)]
pub struct Hashed {
    /// From the manifest's directory.
    pub path: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// One program.
#[derive(Clone, Debug, Deserialize)]
pub struct Guest {
    /// Unique.
    pub name: String,
    /// Which mean it counts towards.
    pub class: Class,
    /// Value of `-march`.
    pub march: String,
    /// C files without the runtime.
    pub sources: Vec<Hashed>,
    /// The program.
    pub elf: Hashed,
    quick: Run,
    full: Run,
}

/// What a guest's time is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Integer instructions and control flow.
    Int,
    /// Floating point.
    Fp,
    /// Loads and stores.
    Memory,
    /// Loading, translation, system calls.
    Startup,
}

impl Class {
    /// As in the manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Fp => "fp",
            Self::Memory => "memory",
            Self::Startup => "startup",
        }
    }
}

/// How much work a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// 10 to 30 ms natively.
    Quick,
    /// 0.5 to 1 s natively.
    Full,
}

impl Size {
    /// As in the manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    args: Vec<String>,
    expected: Hashed,
}

impl Guests {
    /// Reads `dir/manifest.json`.
    ///
    /// # Errors
    /// If it cannot be read or is of another format.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("manifest.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut guests: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a guest manifest", path.display()))?;
        ensure!(
            guests.format == "hartloom-guests.v1",
            "{}: unknown format {:?}",
            path.display(),
            guests.format
        );
        guests.dir = dir
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", dir.display()))?;
        Ok(guests)
    }

    /// The programs, in the order of the manifest.
    pub fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.guests.iter()
    }

    /// The program of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(&self, name: &str) -> Result<&Guest> {
        self.iter()
            .find(|guest| guest.name == name)
            .with_context(|| format!("the manifest has no guest {name:?}"))
    }

    /// Where a program's ELF lies.
    #[must_use]
    pub fn elf(&self, guest: &Guest) -> PathBuf {
        self.dir.join(&guest.elf.path)
    }

    /// What it must print.
    ///
    /// # Errors
    /// If that file cannot be read.
    pub fn expected(&self, guest: &Guest, size: Size) -> Result<Vec<u8>> {
        let path = self.dir.join(&guest.run(size).expected.path);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The directory of the manifest.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How host builds are made.
    #[must_use]
    pub fn native(&self) -> &Native {
        &self.native
    }

    /// Flags of every build.
    #[must_use]
    pub fn common_flags(&self) -> &[String] {
        &self.common_flags
    }

    /// Files of the runtime, with their hashes.
    #[must_use]
    pub fn runtime(&self) -> &[Hashed] {
        &self.runtime
    }
}

impl Guest {
    /// `argv[1..]`.
    #[must_use]
    pub fn args(&self, size: Size) -> &[String] {
        &self.run(size).args
    }

    fn run(&self, size: Size) -> &Run {
        match size {
            Size::Quick => &self.quick,
            Size::Full => &self.full,
        }
    }
}
