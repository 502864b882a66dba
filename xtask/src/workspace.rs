//! The tree this program works on, how it calls cargo, and how it ends.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How a verb ended that ran at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Fine,
    /// A test, benchmark or check failed.
    Failed,
    /// A gate could not tell.
    Unclear,
    /// Wrong usage, a build error, files that cannot be written.
    Unusable,
    /// Ctrl-C; what was there by then is kept.
    Interrupted,
}

impl Outcome {
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Unclear => 2,
            Self::Unusable => 3,
            Self::Interrupted => 130,
        })
    }
}

impl From<bool> for Outcome {
    /// True is fine.
    fn from(is_fine: bool) -> Self {
        if is_fine { Self::Fine } else { Self::Failed }
    }
}

/// Root and target directory.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// Asks cargo, which knows about `CARGO_TARGET_DIR` and configuration files.
    ///
    /// The tree is the one `cargo xtask` runs from, and without cargo that of the
    /// current directory. Never the one this program was built in: a checkout
    /// that is moved or copied takes its target directory along.
    pub(crate) fn find() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--format-version=1", "--no-deps"]);
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command
                .arg("--manifest-path")
                .arg(Path::new(&package).join("Cargo.toml"));
        }
        let output = output_of(&mut command).map_err(|error| {
            let is_missing = error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
            error.context(if is_missing {
                "cargo is not in PATH: install Rust, or run `cargo xtask`"
            } else {
                "no workspace found: run `cargo xtask` inside a checkout"
            })
        })?;
        let metadata: Value =
            serde_json::from_slice(&output).context("cargo metadata gave no JSON")?;
        let path = |key: &str| -> Result<PathBuf> {
            let text = metadata[key]
                .as_str()
                .with_context(|| format!("cargo metadata has no {key}"))?;
            Ok(PathBuf::from(text))
        };
        let root = path("workspace_root")?;
        let packages = metadata["packages"].as_array();
        let is_ours = |package: &Value| package["name"] == env!("CARGO_PKG_NAME");
        ensure!(
            packages.is_some_and(|packages| packages.iter().any(is_ours)),
            "{} is another workspace: run `cargo xtask` inside a checkout of this one",
            root.display()
        );
        Ok(Self {
            root,
            target: path("target_directory")?,
            metadata,
        })
    }

    /// An empty one: for tests.
    #[cfg(test)]
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self {
            target: dir.join("target"),
            root: dir,
            metadata: Value::Null,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where results go: `target/`, unless cargo is told otherwise.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Output of `cargo metadata --no-deps`.
    pub(crate) fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// A cargo command in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// Builds a binary in release mode and gives its path.
    pub(crate) fn build_release(&self, package: &str, bin: &str) -> Result<PathBuf> {
        let mut command = self.cargo();
        command.args(["build", "--release", "--package", package, "--bin", bin]);
        let status = command
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot run {command:?}"))?;
        if !status.success() {
            bail!("{bin} does not build (cargo's messages are above)");
        }
        Ok(self.target.join("release").join(bin))
    }
}

/// The cargo that started us, or the one on the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Standard output of a command that must succeed.
pub(crate) fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(output.stdout)
}

/// First line of `program --version`, `None` if there is no such program.
pub(crate) fn version_of(program: &str) -> Result<Option<String>> {
    let mut command = Command::new(program);
    command.arg("--version").env("LC_ALL", "C");
    match command.output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot run {command:?}")),
    }
}

/// Prints a text that may be long. Whoever closes the pipe early (`| head`) has
/// seen enough, which is no error.
pub(crate) fn print_text(text: &str) -> Result<()> {
    printed(io::stdout().lock().write_all(text.as_bytes()))
}

/// What became of printing, by the rule of [`print_text`].
pub(crate) fn printed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// As [`print_text`], a line: where `println!` would panic on a full disk.
pub(crate) fn print_line(line: impl Display) -> Result<()> {
    print_text(&format!("{line}\n"))
}

/// Says something on standard error. Where that cannot be written, nobody is
/// there to be told.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Columns of the terminal behind standard output; 100 where there is none.
pub(crate) fn output_width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns >= 40)
        .unwrap_or(perf_bench::report::text::DEFAULT_WIDTH)
}

/// Set by Ctrl-C and by a polite request to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on, signals set the flag instead of ending this process, which a
    /// second one does at once.
    pub(crate) fn watch() -> Result<Self> {
        /// One Ctrl-C may arrive twice: `timeout` and others signal a process and
        /// then its group. What comes this soon is no second one.
        const ECHO: Duration = Duration::from_secs(1);
        let flag = Arc::new(AtomicBool::new(false));
        let watched = [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ];
        // In the handler: the thread may come later than a child's end by the signal.
        for signal in watched {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot watch for Ctrl-C")?;
        }
        let mut signals =
            signal_hook::iterator::Signals::new(watched).context("cannot watch for Ctrl-C")?;
        std::thread::spawn(move || {
            let mut first: Option<Instant> = None;
            for _ in signals.forever() {
                if first.get_or_insert_with(Instant::now).elapsed() > ECHO {
                    signal_hook::low_level::exit(130);
                }
            }
        });
        Ok(Self(flag))
    }

    /// A flag that something else sets: for tests.
    #[cfg(test)]
    pub(crate) fn of(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: the flag publishes nothing but itself.
        self.0.load(Ordering::Relaxed)
    }
}

/// `20260730-142501`, the name of a run; sorts by time.
pub(crate) fn time_stamp() -> String {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    utc_stamp(seconds)
}

/// Civil date from days, after Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
fn utc_stamp(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let second_of_day = unix_seconds % 86_400;
    let (hour, minute, second) = (
        second_of_day / 3_600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Makes `parent/name` (or `name-2`, …) and gives its path.
pub(crate) fn make_run_dir(parent: &Path, name: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(parent).with_context(|| cannot_create(parent))?;
    for attempt in 1..1000 {
        let dir = match attempt {
            1 => parent.join(name),
            _ => parent.join(format!("{name}-{attempt}")),
        };
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| cannot_create(&dir));
            }
        }
    }
    bail!("{} is full of runs named {name}", parent.display())
}

/// Text of a file. What is no text is refused by who parses it, as damaged.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What to do about a directory that could not be made.
pub(crate) fn cannot_create(dir: &Path) -> String {
    // The nearest thing on the way that is there, a dangling link too.
    let nearest = dir.ancestors().find(|path| path.symlink_metadata().is_ok());
    let advice = match nearest.filter(|path| !path.is_dir()) {
        Some(path) => format!("move {} away, which is no directory,", path.display()),
        None => "make it writable".to_owned(),
    };
    format!(
        "cannot create {}; {advice} or set CARGO_TARGET_DIR",
        dir.display()
    )
}

/// Writes a file whole or not at all: a reader never sees half a report.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    written.with_context(|| {
        // Half a file would only be in the way; failing to remove it changes nothing.
        let _ = std::fs::remove_file(&partial);
        format!("cannot write {}", path.display())
    })
}

/// Ends a run whose files are written: points `parent/latest` at it if it was a
/// whole one, and says where it is. Whoever reads `latest` expects everything, so
/// a run that was filtered or interrupted is reached by its name only.
pub(crate) fn file_run(run: &Path, is_whole: bool) -> Result<String> {
    let place = run.display();
    if is_whole {
        link_latest(run)?;
        return Ok(format!("written to {place} (latest points there)"));
    }
    Ok(format!(
        "written to {place} (latest stays as it was: this run lacks benchmarks)"
    ))
}

/// Points `parent/latest` at `run`.
fn link_latest(run: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (run.parent(), run.file_name()) else {
        bail!("{} is no directory of a run", run.display());
    };
    let (latest, fresh) = (parent.join("latest"), parent.join("latest.partial"));
    let linked = std::fs::remove_file(&fresh)
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| std::os::unix::fs::symlink(name, &fresh))
        .and_then(|()| std::fs::rename(&fresh, &latest));
    linked.with_context(|| format!("cannot point {} at {}", latest.display(), run.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_civil_dates() {
        assert_eq!(utc_stamp(0), "19700101-000000");
        assert_eq!(utc_stamp(951_827_696), "20000229-123456");
        assert_eq!(utc_stamp(1_798_761_599), "20261231-235959");
    }

    #[test]
    fn what_is_in_the_way_of_a_run_is_named() {
        let parent = std::env::temp_dir().join(format!("xtask-way-{}", std::process::id()));
        std::fs::create_dir_all(&parent).unwrap();
        let (file, dangling) = (parent.join("file"), parent.join("dangling"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        for (dir, culprit) in [
            (file.clone(), &file),
            (file.join("bench"), &file),
            (dangling.clone(), &dangling),
        ] {
            let error = format!("{:#}", make_run_dir(&dir, "run").unwrap_err());
            let expected = format!("move {} away", culprit.display());
            assert!(error.contains(&expected), "{error}");
        }
        std::fs::remove_dir_all(&parent).unwrap();
    }

    /// A filtered run took the place of one of everything, and readers of targets
    /// found most of them missing.
    #[test]
    fn latest_stays_where_a_run_lacks_something() {
        let parent = std::env::temp_dir().join(format!("xtask-part-{}", std::process::id()));
        let (whole, part) = (
            make_run_dir(&parent, "whole").unwrap(),
            make_run_dir(&parent, "part").unwrap(),
        );
        assert!(file_run(&whole, true).unwrap().contains("points there"));
        assert!(file_run(&part, false).unwrap().contains("stays"));
        assert_eq!(parent.join("latest").canonicalize().unwrap(), whole);
        std::fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn latest_follows_the_newest_run() {
        let parent = std::env::temp_dir().join(format!("xtask-latest-{}", std::process::id()));
        let first = make_run_dir(&parent, "run").unwrap();
        let second = make_run_dir(&parent, "run").unwrap();
        assert_ne!(first, second);
        for run in [&first, &second] {
            link_latest(run).unwrap();
            write_file(&run.join("report.txt"), &run.display().to_string()).unwrap();
            let seen = std::fs::read_to_string(parent.join("latest/report.txt")).unwrap();
            assert_eq!(seen, run.display().to_string());
        }
        std::fs::remove_dir_all(&parent).unwrap();
    }
}
