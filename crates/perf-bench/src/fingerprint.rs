//! Where a run happened: two runs compare only if these agree.
//!
//! Read from `/proc` and `/sys`; what is not there is "unknown" or absent, never
//! an error. What only the build knows (compiler, revision) comes from the caller.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Stands where nothing could be found out.
pub const UNKNOWN: &str = "unknown";

/// The revision that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// Commit hash.
    pub revision: String,
    /// Whether the tree had changes that are not in the commit; `None` if unknown.
    pub dirty: Option<bool>,
}

/// What the caller knows about the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Output of `rustc --version`.
    pub rustc: String,
    /// Cargo profile.
    pub profile: String,
    /// The revision that was built.
    pub git: GitState,
}

impl Default for BuildInfo {
    /// Everything unknown.
    fn default() -> Self {
        Self {
            rustc: UNKNOWN.to_owned(),
            profile: UNKNOWN.to_owned(),
            git: GitState {
                revision: UNKNOWN.to_owned(),
                dirty: None,
            },
        }
    }
}

/// The machine and its system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fingerprint {
    /// Instruction set this code was compiled for.
    pub arch: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs this process may use, which in a container are fewer than there are.
    pub cores: Option<u32>,
    /// System and its release.
    pub kernel: String,
    /// What the kernel's clock reads; anything but a CPU register is slow.
    pub clock: String,
    /// Whether a hypervisor is underneath; `None` if that cannot be told.
    pub virt: Option<bool>,
}

impl Fingerprint {
    /// Reads this machine.
    #[must_use]
    pub fn detect() -> Self {
        let cores = std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u32::try_from(cores.get()).ok());
        Self::read(Path::new("/"), cores)
    }

    fn unknown() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            cpu: UNKNOWN.to_owned(),
            cores: None,
            kernel: UNKNOWN.to_owned(),
            clock: UNKNOWN.to_owned(),
            virt: None,
        }
    }

    /// Reads the files below `root`, which tests replace.
    fn read(root: &Path, cores: Option<u32>) -> Self {
        let cpuinfo = text(root, "proc/cpuinfo").unwrap_or_default();
        let release = text(root, "proc/sys/kernel/osrelease");
        let system = text(root, "proc/sys/kernel/ostype");
        Self {
            cpu: cpu_model(&cpuinfo).unwrap_or(UNKNOWN).to_owned(),
            cores,
            kernel: match (system, release) {
                (Some(system), Some(release)) => format!("{system} {release}"),
                (None, Some(release)) => release,
                (_, None) => UNKNOWN.to_owned(),
            },
            clock: text(
                root,
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
            )
            .unwrap_or_else(|| UNKNOWN.to_owned()),
            virt: virtualised(&cpuinfo, root),
            ..Self::unknown()
        }
    }
}

/// Circumstances of one run: the fingerprint, and what may differ between runs on
/// the same machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Context {
    /// The machine and its system.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
    /// Output of `rustc --version`.
    pub rustc: String,
    /// Cargo profile.
    pub profile: String,
    /// The revision that was built.
    pub git: GitState,
    /// Which code layout was linked; `default` unless the caller shuffles.
    pub layout: String,
    /// Load average of the minute before the run.
    pub load: Option<f64>,
    /// Whether addresses are randomised.
    pub aslr: Option<bool>,
    /// Seed of whatever the run randomises.
    pub seed: Option<u64>,
}

impl Context {
    /// Reads this machine; the layout is `default` and there is no seed.
    #[must_use]
    pub fn detect(build: BuildInfo) -> Self {
        let mut context = Self::of(Fingerprint::detect(), build);
        context.read_run_state(Path::new("/"));
        context
    }

    /// Nothing known but the architecture: for tests and examples, whose output
    /// must not depend on the machine.
    #[must_use]
    pub fn unknown() -> Self {
        Self::of(Fingerprint::unknown(), BuildInfo::default())
    }

    fn of(fingerprint: Fingerprint, build: BuildInfo) -> Self {
        Self {
            fingerprint,
            rustc: build.rustc,
            profile: build.profile,
            git: build.git,
            layout: "default".to_owned(),
            load: None,
            aslr: None,
            seed: None,
        }
    }

    fn read_run_state(&mut self, root: &Path) {
        self.load = text(root, "proc/loadavg")
            .and_then(|line| line.split(' ').next()?.parse().ok())
            .filter(|load: &f64| load.is_finite());
        self.aslr = text(root, "proc/sys/kernel/randomize_va_space").map(|level| level != "0");
    }
}

/// Content of a file without surrounding white space; `None` if it cannot be read
/// or is empty.
fn text(root: &Path, path: &str) -> Option<String> {
    let content = fs::read_to_string(root.join(path)).ok()?;
    let trimmed = content.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// The key differs by architecture: x86 and s390 say `model name`, RISC-V `uarch`,
/// MIPS `cpu model`, POWER `cpu`, older ARM kernels `Processor`.
fn cpu_model(cpuinfo: &str) -> Option<&str> {
    ["model name", "uarch", "cpu model", "cpu", "Processor"]
        .iter()
        .find_map(|wanted| {
            cpuinfo.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                let value = value.trim();
                (key.trim() == *wanted && !value.is_empty()).then_some(value)
            })
        })
}

/// On x86 the CPU itself says so in a flag every hypervisor sets. Elsewhere the
/// kernel's node for a hypervisor is proof, but its absence is not.
fn virtualised(cpuinfo: &str, root: &Path) -> Option<bool> {
    let flags = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "flags").then_some(value)
    });
    match flags {
        Some(flags) => Some(flags.split_whitespace().any(|flag| flag == "hypervisor")),
        None => text(root, "sys/hypervisor/type").map(|_| true),
    }
}

// The fake roots are directories under the system's temporary one, removed by
// `Drop`, since the crate has no other need for a temporary-file dependency.
#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct FakeRoot(PathBuf);

    impl FakeRoot {
        fn new(files: &[(&str, &str)]) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let index = COUNT.fetch_add(1, Ordering::Relaxed);
            let root = std::env::temp_dir().join(format!(
                "perf-bench-fingerprint-{}-{index}",
                std::process::id()
            ));
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for FakeRoot {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_virtual_x86_machine() {
        let root = FakeRoot::new(&[
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Example CPU @ 3 GHz\nflags\t\t: fpu sse hypervisor\n",
            ),
            ("proc/sys/kernel/ostype", "Linux\n"),
            ("proc/sys/kernel/osrelease", "6.1.0\n"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc\n",
            ),
            ("proc/loadavg", "0.25 0.10 0.05 1/100 4242\n"),
            ("proc/sys/kernel/randomize_va_space", "2\n"),
        ]);
        let found = Fingerprint::read(&root.0, Some(2));
        assert_eq!(found.cpu, "Example CPU @ 3 GHz");
        assert_eq!(found.kernel, "Linux 6.1.0");
        assert_eq!(found.clock, "tsc");
        assert_eq!((found.virt, found.cores), (Some(true), Some(2)));

        let mut context = Context::unknown();
        context.read_run_state(&root.0);
        assert_eq!((context.load, context.aslr), (Some(0.25), Some(true)));
    }

    #[test]
    fn a_riscv_board_says_less() {
        let root = FakeRoot::new(&[(
            "proc/cpuinfo",
            "processor\t: 0\nhart\t: 1\nuarch\t: sifive,u74-mc\n",
        )]);
        let found = Fingerprint::read(&root.0, None);
        assert_eq!(found.cpu, "sifive,u74-mc");
        assert_eq!(found.virt, None);
    }

    #[test]
    fn nothing_there_is_unknown_and_no_error() {
        let root = FakeRoot::new(&[]);
        let found = Fingerprint::read(&root.0, None);
        assert_eq!(found, Fingerprint::unknown());
        let mut context = Context::unknown();
        context.read_run_state(&root.0);
        assert_eq!(context, Context::unknown());
    }
}
