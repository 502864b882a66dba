//! The guest programs of the benchmarks: their manifest, building, checking.
//!
//! `benches/guests/manifest.json` is the one table. People write names,
//! sources, flags and arguments in it; [`rebuild`] fills in hashes and
//! compiler versions; [`check`] says whether what is committed still agrees.
//! Both take the workspace root. Not here: timing the guests.
//!
//! Expected output comes from running the same source natively, so it does not
//! depend on any RISC-V engine. qemu-riscv64, where installed, is the second
//! opinion on the ELF.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::workspace::{Interrupt, output_of, tell, version_of};

/// Where the guests live, from the workspace root.
const GUESTS_DIR: &str = "benches/guests";
/// Format tag of the manifest; changes when a reader has to.
const FORMAT: &str = "hartloom-guests.v1";
/// Debian's package with the default cross compiler.
const CROSS_PACKAGE: &str = "gcc-riscv64-linux-gnu";
/// User-mode emulator that gives the second opinion.
const QEMU: &str = "qemu-riscv64";
/// Set to 1, lets [`rebuild`] replace expected output that differs.
const UPDATE_VARIABLE: &str = "UPDATE_EXPECT";

/// `manifest.json`. Paths in it start at `benches/guests`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: String,
    /// Compiler flags of both builds, before their own.
    pub(crate) common_flags: Vec<String>,
    /// How `bin/*.elf` are made.
    pub(crate) cross: Cross,
    /// How the native column and the expected output are made.
    pub(crate) native: Native,
    /// Every file of the shared runtime.
    pub(crate) runtime: Vec<Hashed>,
    /// The programs, in the order reports list them.
    pub(crate) guests: Vec<Guest>,
}

/// The RISC-V build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cross {
    /// Command name.
    pub(crate) compiler: String,
    /// First line of the compiler's `--version`, for the committed ELFs.
    pub(crate) version: String,
    /// First line of its linker's `--version`.
    pub(crate) linker: String,
    /// Flags after the common ones; each guest adds its `-march`.
    pub(crate) flags: Vec<String>,
    /// Runtime files passed to the compiler.
    pub(crate) runtime: Vec<String>,
}

/// The host build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Native {
    /// Command name.
    pub(crate) compiler: String,
    /// Flags after the common ones.
    pub(crate) flags: Vec<String>,
    /// Runtime files passed to the compiler.
    pub(crate) runtime: Vec<String>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guest {
    /// Unique; also the ELF's name.
    pub(crate) name: String,
    /// Which mean of a report it counts towards.
    pub(crate) class: Class,
    /// What it stresses, in a line; the source's header says when to ignore it.
    pub(crate) stresses: String,
    /// Value of `-march`.
    pub(crate) march: String,
    /// C files without the runtime.
    pub(crate) sources: Vec<Hashed>,
    /// The committed program.
    pub(crate) elf: Hashed,
    /// 10 to 30 ms native, less for start-up guests; also the default without arguments.
    pub(crate) quick: Run,
    /// 0.5 to 1 s native, less for `hello`.
    pub(crate) full: Run,
}

/// What a guest's time is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Integer instructions and control flow.
    Int,
    /// Floating point.
    Fp,
    /// Loads and stores, caches, TLBs.
    Memory,
    /// Outside steady guest code: loading, translation, system calls.
    Startup,
}

/// Arguments after the program's name, and the output they must give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// `argv[1..]`.
    pub(crate) args: Vec<String>,
    /// Standard output, byte for byte. Guests may share a file.
    pub(crate) expected: Hashed,
}

/// A committed file and what it contained when the manifest was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hashed {
    /// From `benches/guests`.
    pub(crate) path: String,
    /// Lower-case hex.
    pub(crate) sha256: String,
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Files whose hash was compared.
    pub(crate) n_files: usize,
    /// One sentence each; empty means all is well.
    pub(crate) problems: Vec<String>,
    /// Whether the ELFs could be built again.
    pub(crate) rebuild: Reproduction,
}

/// Outcome of building the ELFs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reproduction {
    /// All were built; those that differ are among the problems.
    Compared {
        /// How many came out identical.
        n_identical: usize,
    },
    /// Not attempted.
    Skipped {
        /// A sentence for the reader.
        why: String,
    },
}

impl Report {
    /// True if nothing disagrees. A skipped rebuild is not a disagreement.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        write!(
            f,
            "guests: {} files hashed, {} problems; ",
            self.n_files,
            self.problems.len()
        )?;
        match &self.rebuild {
            Reproduction::Compared { n_identical } => {
                write!(f, "{n_identical} ELFs rebuilt byte-identically")
            }
            Reproduction::Skipped { why } => write!(f, "rebuild skipped: {why}"),
        }
    }
}

impl Manifest {
    /// Reads and validates `benches/guests/manifest.json` below `root`.
    ///
    /// # Errors
    /// A missing or malformed file, another format, a name used twice.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = root.join(GUESTS_DIR).join("manifest.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a guest manifest", path.display()))?;
        ensure!(
            manifest.format == FORMAT,
            "{}: format is {:?}, this xtask reads {FORMAT:?}",
            path.display(),
            manifest.format,
        );
        let mut names = BTreeSet::new();
        for guest in &manifest.guests {
            ensure!(
                names.insert(&guest.name),
                "{}: guest {:?} appears twice",
                path.display(),
                guest.name
            );
        }
        Ok(manifest)
    }

    fn save(&self, root: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let path = root.join(GUESTS_DIR).join("manifest.json");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn files(&self) -> impl Iterator<Item = &Hashed> {
        self.runtime
            .iter()
            .chain(self.guests.iter().flat_map(Guest::files))
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut Hashed> {
        self.runtime
            .iter_mut()
            .chain(self.guests.iter_mut().flat_map(Guest::files_mut))
    }
}

impl Guest {
    fn files(&self) -> impl Iterator<Item = &Hashed> {
        self.sources
            .iter()
            .chain([&self.elf, &self.quick.expected, &self.full.expected])
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut Hashed> {
        self.sources.iter_mut().chain([
            &mut self.elf,
            &mut self.quick.expected,
            &mut self.full.expected,
        ])
    }
}

/// Builds every ELF, verifies every output, then writes `bin/` and the
/// manifest's generated fields. Nothing is replaced if a step fails.
///
/// Expected output that does not exist yet is created from the native run; with
/// `UPDATE_EXPECT=1` in the environment it is also replaced where it differs.
/// Progress goes to standard error. Takes about four minutes with QEMU, half a minute without.
///
/// # Errors
/// No cross compiler, an interruption, a build failure, output that differs from what is
/// expected, or expected output missing while there is no host compiler.
pub(crate) fn rebuild(root: &Path, interrupt: &Interrupt) -> Result<()> {
    let mut manifest = Manifest::load(root)?;
    let scratch = Scratch::make()?;
    let Some(toolchain) = Toolchain::find(&manifest.cross)? else {
        bail!(
            "{} is not installed; on Debian and Ubuntu: apt-get install {CROSS_PACKAGE}",
            manifest.cross.compiler,
        );
    };
    let has_native = version_of(&manifest.native.compiler)?.is_some();
    if !has_native {
        say(&format!(
            "{} is not installed: native runs skipped",
            manifest.native.compiler
        ));
    }
    let has_qemu = version_of(QEMU)?.is_some();
    if !has_qemu {
        say(&format!("{QEMU} is not installed: ELF runs skipped"));
    }
    let may_update = std::env::var_os(UPDATE_VARIABLE).is_some_and(|value| value == "1");

    // Outputs settled by a native run: a later guest that shares the file must match.
    let mut outputs = Vec::<(PathBuf, Vec<u8>)>::new();
    for guest in &manifest.guests {
        ensure!(!interrupt.is_set(), "interrupted");
        let elf = scratch.join(format!("{}.elf", guest.name));
        build_elf(root, &manifest, guest, &elf)?;
        let native = scratch.join(&guest.name);
        if has_native {
            build_native(root, &manifest, guest, &native)?;
            let quick = output_of(Command::new(&native).args(&guest.quick.args))?;
            ensure!(
                output_of(&mut Command::new(&native))? == quick,
                "{}: output without arguments differs from the quick size's; QUICK in the source and \
                 the manifest's quick.args must agree",
                guest.name,
            );
        }
        for run in [&guest.quick, &guest.full] {
            let path = root.join(GUESTS_DIR).join(&run.expected.path);
            let known = match outputs.iter().find(|(settled, _)| *settled == path) {
                Some((_, output)) => Some(output.clone()),
                None => read_if_present(&path)?,
            };
            let mut expected = known;
            if has_native {
                let output = output_of(Command::new(&native).args(&run.args))?;
                match &expected {
                    Some(text) if *text != output && !may_update => bail!(
                        "{} {}: native output differs from {}\n--- expected\n{}--- native\n{}\
                         If the change is meant: {UPDATE_VARIABLE}=1 cargo xtask guests",
                        guest.name,
                        run.args.join(" "),
                        run.expected.path,
                        String::from_utf8_lossy(text),
                        String::from_utf8_lossy(&output),
                    ),
                    _ => expected = Some(output),
                }
            }
            let Some(expected) = expected else {
                bail!(
                    "{} does not exist and {} is not installed to make it",
                    run.expected.path,
                    manifest.native.compiler,
                );
            };
            if has_qemu {
                let output = output_of(Command::new(QEMU).arg(&elf).args(&run.args))?;
                ensure!(
                    output == expected,
                    "{} {}: {QEMU} differs from {}\n--- expected\n{}--- {QEMU}\n{}",
                    guest.name,
                    run.args.join(" "),
                    run.expected.path,
                    String::from_utf8_lossy(&expected),
                    String::from_utf8_lossy(&output),
                );
            }
            outputs.push((path, expected));
        }
        say(&format!("{}: built and verified", guest.name));
    }

    // Everything agreed; only now touch the tree.
    for guest in &manifest.guests {
        let (built, to) = (
            scratch.join(format!("{}.elf", guest.name)),
            root.join(GUESTS_DIR).join(&guest.elf.path),
        );
        // Copies the permissions too: QEMU refuses a program it may not execute.
        fs::copy(&built, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    for (path, output) in &outputs {
        write_if_changed(path, output)?;
    }
    for file in manifest.files_mut() {
        file.sha256 = sha256_of(&root.join(GUESTS_DIR).join(&file.path))?;
    }
    manifest.cross.version = toolchain.compiler;
    manifest.cross.linker = toolchain.linker;
    manifest.save(root)
}

/// Compares the committed files with the manifest and, where the recorded
/// cross compiler is installed, the ELFs with a fresh build.
///
/// # Errors
/// An unreadable manifest, or a compiler that fails. A disagreement is not an
/// error but a problem in the report.
pub(crate) fn check(root: &Path) -> Result<Report> {
    let manifest = Manifest::load(root)?;
    let (n_files, mut problems) = check_hashes(root, &manifest)?;
    let rebuild = match Toolchain::find(&manifest.cross)? {
        None => Reproduction::Skipped {
            why: format!(
                "{} is not installed (Debian package {CROSS_PACKAGE})",
                manifest.cross.compiler
            ),
        },
        // Another release generates other code: a difference would mean nothing.
        Some(found)
            if found.compiler != manifest.cross.version
                || found.linker != manifest.cross.linker =>
        {
            Reproduction::Skipped {
                why: format!(
                    "installed are {:?} and {:?}, the ELFs come from {:?} and {:?}",
                    found.compiler, found.linker, manifest.cross.version, manifest.cross.linker,
                ),
            }
        }
        Some(_) => {
            let scratch = Scratch::make()?;
            let mut n_identical = 0;
            for guest in &manifest.guests {
                let elf = scratch.join(format!("{}.elf", guest.name));
                build_elf(root, &manifest, guest, &elf)?;
                if read_if_present(&root.join(GUESTS_DIR).join(&guest.elf.path))?
                    == Some(fs::read(&elf)?)
                {
                    n_identical += 1;
                } else {
                    problems.push(format!(
                        "{}: building it again gives other bytes; run `cargo xtask guests`",
                        guest.elf.path,
                    ));
                }
            }
            Reproduction::Compared { n_identical }
        }
    };
    Ok(Report {
        n_files,
        problems,
        rebuild,
    })
}

/// Hashes of all files named in the manifest, and files it does not name.
fn check_hashes(root: &Path, manifest: &Manifest) -> Result<(usize, Vec<String>)> {
    let mut problems = Vec::new();
    let mut named = BTreeSet::new();
    let files: BTreeSet<&Hashed> = manifest.files().collect();
    for file in &files {
        named.insert(file.path.clone());
        match read_if_present(&root.join(GUESTS_DIR).join(&file.path))? {
            None => problems.push(format!("{}: named in the manifest, but missing", file.path)),
            Some(bytes) => {
                let found = sha256(&bytes);
                if found != file.sha256 {
                    problems.push(format!(
                        "{}: sha256 is {found}, the manifest says {}",
                        file.path, file.sha256
                    ));
                }
            }
        }
    }
    for guest in &manifest.guests {
        let path = root.join(GUESTS_DIR).join(&guest.elf.path);
        if fs::metadata(&path).is_ok_and(|elf| elf.permissions().mode() & 0o111 == 0) {
            problems.push(format!(
                "{}: not executable; QEMU and Linux refuse to run it",
                guest.elf.path
            ));
        }
    }
    for dir in ["src", "rt", "bin", "expected"] {
        let path = root.join(GUESTS_DIR).join(dir);
        for entry in
            fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?
        {
            let name = format!("{dir}/{}", entry?.file_name().to_string_lossy());
            if !named.contains(&name) {
                problems.push(format!("{name}: not named in the manifest"));
            }
        }
    }
    problems.sort();
    Ok((files.len(), problems))
}

/// Versions of what is installed.
struct Toolchain {
    compiler: String,
    linker: String,
}

impl Toolchain {
    /// `None` if the compiler is not installed.
    fn find(cross: &Cross) -> Result<Option<Self>> {
        let Some(compiler) = version_of(&cross.compiler)? else {
            return Ok(None);
        };
        let linker = output_of(Command::new(&cross.compiler).arg("-print-prog-name=ld"))?;
        let linker = String::from_utf8_lossy(&linker).trim().to_owned();
        let Some(linker) = version_of(&linker)? else {
            bail!(
                "{} names the linker {linker:?}, which does not run",
                cross.compiler
            );
        };
        Ok(Some(Self { compiler, linker }))
    }
}

fn build_elf(root: &Path, manifest: &Manifest, guest: &Guest, to: &Path) -> Result<()> {
    let cross = &manifest.cross;
    let mut command = Command::new(&cross.compiler);
    command
        .args(&manifest.common_flags)
        .arg(format!("-march={}", guest.march))
        .args(&cross.flags);
    compile(command, root, guest, &cross.runtime, to)
}

fn build_native(root: &Path, manifest: &Manifest, guest: &Guest, to: &Path) -> Result<()> {
    let native = &manifest.native;
    let mut command = Command::new(&native.compiler);
    command.args(&manifest.common_flags).args(&native.flags);
    compile(command, root, guest, &native.runtime, to)
}

/// Runs in the guests' directory with relative source paths, so that no path of
/// this machine can enter the result.
fn compile(
    mut command: Command,
    root: &Path,
    guest: &Guest,
    runtime: &[String],
    to: &Path,
) -> Result<()> {
    command
        .current_dir(root.join(GUESTS_DIR))
        .args(guest.sources.iter().map(|source| &source.path))
        .args(runtime)
        .arg("-o")
        .arg(to);
    // Search paths from the environment would make builds differ by machine.
    for variable in ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH"] {
        command.env_remove(variable);
    }
    output_of(&mut command).with_context(|| format!("guest {} does not build", guest.name))?;
    Ok(())
}

/// A directory for what is built, absolute because compilers run elsewhere. Each
/// has its own and removes it, so that two checks at a time do not overwrite each
/// other's files, and none needs a target directory that can be written.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only the number matters.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hartloom-guests-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}; set TMPDIR", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", dir.display()))?;
        Ok(Scratch(dir))
    }

    fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is only in the way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Leaves the modification time alone where nothing changes.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if read_if_present(path)?.as_deref() != Some(bytes) {
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn sha256_of(path: &Path) -> Result<String> {
    Ok(sha256(&fs::read(path).with_context(|| {
        format!("cannot read {}", path.display())
    })?))
}

fn sha256(bytes: &[u8]) -> String {
    let hash = hmac_sha256::Hash::hash(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn say(line: &str) {
    tell(format_args!("guests: {line}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    fn root() -> PathBuf {
        Workspace::find().unwrap().root().to_owned()
    }

    /// Two checks at a time shared one, and one of them saw half a file.
    #[test]
    fn scratch_directories_are_apart_and_go_away() {
        let (one, other) = (Scratch::make().unwrap(), Scratch::make().unwrap());
        assert_ne!(one.0, other.0);
        let path = one.join("x.elf");
        fs::write(&path, "x").unwrap();
        drop(one);
        assert!(!path.exists());
    }

    /// Ctrl-C ended the process where it stood, and left the scratch directory.
    #[test]
    fn an_interrupted_rebuild_is_an_error_and_replaces_nothing() {
        let set = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let error = rebuild(&root(), &Interrupt::of(set))
            .unwrap_err()
            .to_string();
        // Without the compiler it does not come that far.
        let known = ["interrupted", "is not installed"];
        assert!(known.iter().any(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn committed_files_match_the_manifest() {
        let manifest = Manifest::load(&root()).unwrap();
        let (n_files, problems) = check_hashes(&root(), &manifest).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert!(n_files > manifest.guests.len());
    }

    #[test]
    fn a_wrong_hash_and_a_missing_file_are_problems() {
        let mut manifest = Manifest::load(&root()).unwrap();
        manifest.guests[0].elf.sha256 = "00".to_owned();
        manifest.guests[1].elf.path = "bin/absent.elf".to_owned();
        let (_, problems) = check_hashes(&root(), &manifest).unwrap();
        assert_eq!(
            problems.len(),
            3,
            "wrong, missing, and no longer named: {problems:?}"
        );
    }

    #[test]
    fn the_manifest_is_written_as_it_is_read() {
        let manifest = Manifest::load(&root()).unwrap();
        let text = fs::read_to_string(root().join(GUESTS_DIR).join("manifest.json")).unwrap();
        assert_eq!(
            serde_json::to_string_pretty(&manifest).unwrap() + "\n",
            text
        );
    }
}
