//! Guests built for the host, from the same sources: what "native" means.
//!
//! Builds are kept by a key over sources, flags and compiler, so that the next
//! run need not compile again and a changed source never runs old code.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::guests::Guest;
use crate::lab::Lab;

/// A host compiler that answers, and its version.
#[derive(Clone, Debug)]
pub struct Compiler {
    name: String,
    version: String,
}

impl Compiler {
    /// The manifest's host compiler, if it is installed.
    #[must_use]
    pub fn find(lab: &Lab) -> Option<Self> {
        let name = lab.guests.native().compiler.clone();
        let version = version_of(&name)?;
        Some(Self { name, version })
    }

    /// The first line of its `--version`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Builds a guest, unless that has been done.
    ///
    /// # Errors
    /// If it does not build or there is no place for it.
    pub fn build(&self, lab: &Lab, guest: &Guest) -> Result<PathBuf> {
        let guests = &lab.guests;
        let native = guests.native();
        let mut key = DefaultHasher::new();
        (
            &self.name,
            &self.version,
            guests.common_flags(),
            &native.flags,
        )
            .hash(&mut key);
        for file in guest.sources.iter().chain(guests.runtime()) {
            (&file.path, &file.sha256).hash(&mut key);
        }
        let program = lab
            .scratch
            .join(format!("{}-{:016x}", guest.name, key.finish()));
        if program.is_file() {
            return Ok(program);
        }
        std::fs::create_dir_all(&lab.scratch)
            .with_context(|| format!("cannot create {}", lab.scratch.display()))?;
        // Under its name only when it is whole.
        let partial = lab
            .scratch
            .join(format!("{}-{}.partial", guest.name, std::process::id()));
        let mut command = Command::new(&self.name);
        command
            .current_dir(guests.dir())
            .args(guests.common_flags())
            .args(&native.flags)
            .args(guest.sources.iter().map(|source| &source.path))
            .args(&native.runtime)
            .arg("-o")
            .arg(&partial);
        let output = command
            .output()
            .with_context(|| format!("cannot run {command:?}"))?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::rename(&partial, &program)
            .with_context(|| format!("cannot write {}", program.display()))?;
        Ok(program)
    }
}

/// The first line of `program --version`, if it is installed.
#[must_use]
pub fn version_of(program: &str) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}
