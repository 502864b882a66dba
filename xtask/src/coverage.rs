//! `cargo xtask coverage`: which share of the product's lines the tests run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::build_info;
use crate::workspace::{Outcome, Workspace, output_of, print_text, tell, time_stamp, write_file};

/// Builds everything with counters (in a target directory of its own), runs every
/// test, and prints the share of lines that ran, by product crate. Fails below the
/// requirement's 80 %. The result is kept in target/coverage/coverage.json, from
/// where `cargo xtask bench` fills the row quality.coverage_pct.
///
/// Needs cargo-llvm-cov and rustup's llvm-tools; says so where they are missing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask coverage            every test; a build and some minutes
  cargo xtask coverage --html     also a page per source file
  cargo xtask coverage --stored   the latest result again")]
pub(crate) struct Args {
    /// Also writes target/coverage/html/, with every line.
    #[arg(long)]
    html: bool,
    /// Prints the latest result and measures nothing.
    #[arg(long, conflicts_with = "html")]
    stored: bool,
}

/// The crates whose lines count; tools and benchmarks do not.
const PRODUCT: &[&str] = &[
    "vm-core",
    "async-executor",
    "coroutine-scheduler",
    "vm-runtime",
    "perf-bench",
];

/// The requirement's figure, in percent.
const REQUIRED: f64 = 80.0;

/// Lines that ran, of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lines {
    covered: u64,
    count: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        match self.count {
            0 => 0.0,
            count => 100.0 * self.covered as f64 / count as f64,
        }
    }
}

/// What is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Coverage {
    time: String,
    revision: String,
    crates: BTreeMap<String, Lines>,
}

impl Coverage {
    fn total(&self) -> Lines {
        self.crates
            .values()
            .fold(Lines::default(), |sum, lines| Lines {
                covered: sum.covered + lines.covered,
                count: sum.count + lines.count,
            })
    }

    pub(crate) fn percent(&self) -> f64 {
        self.total().percent()
    }

    /// When and of what, as words.
    pub(crate) fn origin(&self) -> String {
        format!("{} at {}", self.time, self.revision)
    }

    fn to_text(&self) -> String {
        let row = |name: &str, lines: Lines| {
            format!(
                "{name:<22} {:>7} of {:>7} lines  {:>6.2} %\n",
                lines.covered,
                lines.count,
                lines.percent()
            )
        };
        let crates = self.crates.iter();
        let mut text: String = crates.map(|(name, lines)| row(name, *lines)).collect();
        text.push_str(&row("together", self.total()));
        text
    }

    /// The latest; `None` if there is none.
    pub(crate) fn load(workspace: &Workspace) -> Result<Option<Self>> {
        let path = path(workspace);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged: remove it, or measure again", path.display())
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

fn path(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target().join("coverage/coverage.json")
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let coverage = match args.stored {
        true => match Coverage::load(workspace)? {
            Some(coverage) => coverage,
            None => bail!("nothing was measured yet: `cargo xtask coverage` does"),
        },
        false => match measure(workspace, args.html)? {
            Some(coverage) => coverage,
            None => {
                tell("tests failed, so what they cover says nothing");
                return Ok(Outcome::Failed);
            }
        },
    };
    print_text(&coverage.to_text())?;
    let percent = coverage.percent();
    if percent < REQUIRED {
        tell(format_args!(
            "{percent:.2} % of lines ran, fewer than the {REQUIRED} % required"
        ));
    }
    Ok(Outcome::from(percent >= REQUIRED))
}

/// `None` if a test failed.
fn measure(workspace: &Workspace, html: bool) -> Result<Option<Coverage>> {
    let version = workspace.cargo().args(["llvm-cov", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        bail!(
            "cargo-llvm-cov is not installed: `cargo install --locked cargo-llvm-cov` and `rustup \
             component add llvm-tools`"
        );
    }
    // Not among the other builds: flags of their own mean a build of their own.
    let target = workspace.target().join("coverage/build");
    let llvm_cov = |args: &[&str]| {
        let mut command = workspace.cargo();
        command
            .arg("llvm-cov")
            .args(args)
            .env("CARGO_TARGET_DIR", &target)
            .env_remove("CARGO_LLVM_COV")
            .stdin(Stdio::null());
        command
    };
    let mut tests = llvm_cov(&["--no-report", "--no-fail-fast", "--workspace"]);
    let status = tests
        .status()
        .with_context(|| format!("cannot run {tests:?}"))?;
    if !status.success() {
        return Ok(None);
    }
    if html {
        let place = workspace.target().join("coverage");
        let mut command = llvm_cov(&["report", "--html", "--output-dir"]);
        output_of(command.arg(&place))?;
        tell(format_args!("written to {}/html", place.display()));
    }
    let report = output_of(&mut llvm_cov(&["report", "--json", "--summary-only"]))?;
    let report = serde_json::from_slice(&report).context("cargo-llvm-cov gave no JSON")?;
    let coverage = Coverage {
        time: time_stamp(),
        revision: build_info(workspace).git.revision,
        crates: by_crate(&report, workspace.root())?,
    };
    let mut text = serde_json::to_string_pretty(&coverage)?;
    text.push('\n');
    write_file(&path(workspace), &text)?;
    Ok(Some(coverage))
}

/// Sums the files of each product crate.
fn by_crate(report: &Value, root: &Path) -> Result<BTreeMap<String, Lines>> {
    let files = report["data"][0]["files"]
        .as_array()
        .context("cargo-llvm-cov's JSON has no data[0].files")?;
    let mut crates: BTreeMap<String, Lines> = BTreeMap::new();
    for file in files {
        let name = file["filename"].as_str().unwrap_or_default();
        let Ok(inside) = Path::new(name).strip_prefix(root.join("crates")) else {
            continue;
        };
        let Some(krate) = inside.iter().next().and_then(|part| part.to_str()) else {
            continue;
        };
        // Tests run themselves, which says nothing of the product.
        let is_product = inside.iter().nth(1).is_some_and(|part| part == "src");
        if !is_product || !PRODUCT.contains(&krate) {
            continue;
        }
        let lines = &file["summary"]["lines"];
        let number = |key: &str| -> Result<u64> {
            lines[key]
                .as_u64()
                .with_context(|| format!("{name}: no summary.lines.{key}"))
        };
        let sum = crates.entry(krate.to_owned()).or_default();
        sum.covered += number("covered")?;
        sum.count += number("count")?;
    }
    for krate in PRODUCT {
        if !crates.contains_key(*krate) {
            bail!("cargo-llvm-cov says nothing of {krate}");
        }
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(path: &str, covered: u64, count: u64) -> Value {
        json!({"filename": format!("/w/{path}"),
               "summary": {"lines": {"count": count, "covered": covered, "percent": 0.0}}})
    }

    fn report(extra: Value) -> Value {
        let mut files: Vec<Value> = PRODUCT
            .iter()
            .map(|krate| file(&format!("crates/{krate}/src/lib.rs"), 70, 100))
            .collect();
        files.push(extra);
        json!({"data": [{"files": files}]})
    }

    fn percent(extra: Value) -> f64 {
        let crates = by_crate(&report(extra), Path::new("/w")).unwrap();
        let (time, revision) = ("now".to_owned(), "abc".to_owned());
        Coverage {
            time,
            revision,
            crates,
        }
        .percent()
    }

    #[test]
    fn only_lines_of_the_product_count() {
        assert_eq!(percent(file("crates/vm-core/src/isa/a.rs", 500, 500)), 85.0);
        for other in [
            "crates/vm-core/tests/t.rs",
            "xtask/src/main.rs",
            "benches/src/lib.rs",
            "crates/unknown/src/lib.rs",
        ] {
            assert_eq!(percent(file(other, 500, 500)), 70.0, "{other}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = |report: &Value| by_crate(report, Path::new("/w")).unwrap_err().to_string();
        assert!(error(&json!({})).contains("data[0].files"));
        assert!(error(&json!({"data": [{"files": []}]})).contains("vm-core"));
        let bad = json!({"filename": "/w/crates/vm-core/src/b.rs"});
        assert!(error(&report(bad)).contains("b.rs: no summary.lines.covered"));
    }

    #[test]
    fn a_result_is_read_back_and_a_damaged_one_named() {
        let dir = std::env::temp_dir().join(format!("xtask-coverage-{}", std::process::id()));
        let workspace = Workspace::at(dir);
        assert_eq!(Coverage::load(&workspace).unwrap(), None);
        std::fs::create_dir_all(path(&workspace).parent().unwrap()).unwrap();
        for text in ["", "{", "{\"time\":1}"] {
            std::fs::write(path(&workspace), text).unwrap();
            let error = format!("{:#}", Coverage::load(&workspace).unwrap_err());
            assert!(error.contains("coverage.json is damaged"), "{error}");
        }
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
