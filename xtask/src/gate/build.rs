//! The two builds and their layouts.
//!
//! ```text
//!  target/gate-build/base/      the base's tree, a git worktree
//!                    cargo-base/ cargo-change/   where cargo builds
//!                    workers/   SIDE-LAYOUT, copied from there
//! ```
//!
//! Not one directory of cargo's for both: packages at the same place in their
//! workspaces are the same to cargo, which then takes the base's files for the
//! change's if they are newer than its sources.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::measure::{Layout, Side, Workers};
use crate::workspace::{Workspace, cannot_create, output_of, tell};

const PROFILE: &str = "gate";
const BIN: &str = "vm-bench-worker";

/// Builds workers when they are asked for.
pub(super) struct Builds<'a> {
    workspace: &'a Workspace,
    /// `target/gate-build`.
    place: PathBuf,
    /// The base's tree; `None` if the change is both sides.
    base: Option<PathBuf>,
    has_layouts: bool,
    built: HashMap<(Side, Layout), PathBuf>,
}

impl<'a> Builds<'a> {
    /// Checks the base out, builds both sides and tries whether the linker shuffles
    /// sections. Without a base, the change is both sides.
    pub(super) fn start(workspace: &'a Workspace, base: Option<&str>) -> Result<Self> {
        let place = workspace.target().join("gate-build");
        let workers = place.join("workers");
        std::fs::create_dir_all(&workers).with_context(|| cannot_create(&workers))?;
        let base = base
            .map(|revision| check_out(workspace, &place.join("base"), revision))
            .transpose()?;
        let mut builds = Self {
            workspace,
            place,
            base,
            has_layouts: true,
            built: HashMap::new(),
        };
        for side in [Side::Base, Side::Change] {
            builds.worker(side, Layout::Plain)?;
        }
        // What fails now and did not without the flag fails because of it.
        builds.has_layouts = builds.worker(Side::Change, Layout::Seed(1)).is_ok();
        Ok(builds)
    }

    /// Whether both sides depend on the same crates.
    pub(super) fn has_same_lockfile(&self) -> bool {
        let read = |side| std::fs::read(self.root(side).join("Cargo.lock")).ok();
        read(Side::Base) == read(Side::Change)
    }

    fn root(&self, side: Side) -> &Path {
        match (side, &self.base) {
            (Side::Base, Some(base)) => base,
            _ => self.workspace.root(),
        }
    }

    /// Where cargo builds that side.
    fn target(&self, side: Side) -> PathBuf {
        self.place.join(match (side, &self.base) {
            (Side::Base, Some(_)) => "cargo-base",
            _ => "cargo-change",
        })
    }

    fn build(&self, side: Side, layout: Layout) -> Result<PathBuf> {
        let mut command = self.workspace.cargo();
        command
            .current_dir(self.root(side))
            .args(["rustc", "--profile", PROFILE, "--package", "vm-benches"])
            .args(["--bin", BIN, "--target-dir"])
            .arg(self.target(side))
            .stdin(Stdio::null());
        let name = match layout {
            Layout::Plain => {
                tell(format_args!("building the {}", side.name()));
                let status = command
                    .status()
                    .with_context(|| format!("cannot run {command:?}"))?;
                if !status.success() {
                    bail!(
                        "the {} does not build (cargo's messages are above){}",
                        side.name(),
                        match side {
                            Side::Base => "; give another revision with --base",
                            Side::Change => "",
                        }
                    );
                }
                "plain".to_owned()
            }
            Layout::Seed(seed) => {
                // As an argument of the last crate: in RUSTFLAGS it would rebuild
                // every dependency.
                let flag = format!("link-arg=-Wl,--shuffle-sections=*={seed}");
                command.args(["--quiet", "--", "-C", &flag]);
                output_of(&mut command)?;
                seed.to_string()
            }
        };
        let made = self.target(side).join(PROFILE).join(BIN);
        let kept = self
            .place
            .join("workers")
            .join(format!("{}-{name}", side.name()));
        // A new file: one that still runs cannot be written.
        let _ = std::fs::remove_file(&kept);
        std::fs::copy(&made, &kept)
            .with_context(|| format!("cannot copy {} to {}", made.display(), kept.display()))?;
        Ok(kept)
    }
}

impl Workers for Builds<'_> {
    fn worker(&mut self, side: Side, layout: Layout) -> Result<PathBuf> {
        // Without a base both sides are the same files: linking them twice would
        // give the same.
        let side = if self.base.is_some() {
            side
        } else {
            Side::Change
        };
        if let Some(path) = self.built.get(&(side, layout)) {
            return Ok(path.clone());
        }
        let path = self.build(side, layout)?;
        self.built.insert((side, layout), path.clone());
        Ok(path)
    }

    fn has_layouts(&self) -> bool {
        self.has_layouts
    }
}

fn git(workspace: &Workspace, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(workspace.root()).args(args);
    let output = output_of(&mut command)?;
    Ok(String::from_utf8_lossy(&output).trim().to_owned())
}

/// The commit that `revision` means; without one, where this branch left `main`.
pub(super) fn find_base(workspace: &Workspace, revision: Option<&str>) -> Result<String> {
    if let Some(revision) = revision {
        let commit = format!("{revision}^{{commit}}");
        return git(workspace, &["rev-parse", "--verify", "--quiet", &commit])
            .with_context(|| format!("there is no revision {revision:?} to compare with"));
    }
    ["main", "origin/main"]
        .iter()
        .find_map(|main| git(workspace, &["merge-base", "HEAD", main]).ok())
        .context("no branch `main` to compare with: give a revision with --base")
}

/// The base's tree, in a worktree that is kept so that the next gate rebuilds
/// little.
fn check_out(workspace: &Workspace, place: &Path, revision: &str) -> Result<PathBuf> {
    let path = place.display().to_string();
    let is_there = place.join(".git").exists()
        && git(
            workspace,
            &[
                "-C", &path, "checkout", "--quiet", "--detach", "--force", revision,
            ],
        )
        .is_ok();
    if !is_there {
        // What a removed target directory left behind.
        let _ = git(workspace, &["worktree", "prune"]);
        git(
            workspace,
            &[
                "worktree", "add", "--quiet", "--detach", "--force", &path, revision,
            ],
        )
        .with_context(|| format!("cannot check {revision} out; remove {path} and try again"))?;
    }
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They did, and the change's worker was the base's.
    #[test]
    fn the_sides_never_share_cargos_directory() {
        let workspace = Workspace::find().unwrap();
        let builds = |base: Option<&str>| Builds {
            workspace: &workspace,
            place: PathBuf::from("place"),
            base: base.map(PathBuf::from),
            has_layouts: true,
            built: HashMap::new(),
        };
        let two = builds(Some("tree"));
        assert_ne!(two.target(Side::Base), two.target(Side::Change));
        assert_eq!(two.root(Side::Base), Path::new("tree"));
        assert_eq!(two.root(Side::Change), workspace.root());
        let same = builds(None);
        assert_eq!(same.target(Side::Base), same.target(Side::Change));
        assert_eq!(same.root(Side::Base), same.root(Side::Change));
    }
}
