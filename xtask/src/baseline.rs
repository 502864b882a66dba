//! `cargo xtask bench --save` and `--baseline`: runs kept under a name, in
//! target/bench/baselines/.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use perf_bench::baseline::{moved, same_machine};
use perf_bench::report::text;
use perf_bench::{Fingerprint, Report};

use crate::workspace::{Workspace, read_text, write_file};

/// A stored run that can be compared with.
#[derive(Debug)]
pub(crate) struct Baseline {
    name: String,
    report: Report,
}

/// Accepts what is a file name on any system.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('.') || !text.chars().all(is_plain) {
        return Err("a name has letters, digits, `-`, `_`, and dots behind them".to_owned());
    }
    Ok(text.to_owned())
}

fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("bench/baselines")
}

/// Quick runs have small guests: they are kept apart.
fn path(workspace: &Workspace, name: &str, is_quick: bool) -> PathBuf {
    let kind = if is_quick { "quick" } else { "full" };
    directory(workspace).join(format!("{name}.{kind}.json"))
}

/// Keeps a run; gives where.
pub(crate) fn save(
    workspace: &Workspace,
    name: &str,
    is_quick: bool,
    report: &Report,
) -> Result<PathBuf> {
    let directory = directory(workspace);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let path = path(workspace, name, is_quick);
    write_file(&path, &report.to_json())?;
    Ok(path)
}

impl Baseline {
    /// Reads one and refuses it if it is of another machine, before anything is
    /// measured.
    pub(crate) fn load(workspace: &Workspace, name: &str, is_quick: bool) -> Result<Self> {
        let path = path(workspace, name, is_quick);
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let flag = if is_quick { " --quick" } else { "" };
                bail!(
                    "there is no baseline {name:?} of {} runs; `cargo xtask bench{flag} --save {name}` \
                     keeps one{}",
                    if is_quick { "quick" } else { "full" },
                    known(workspace)
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let report = Report::from_json(&text).with_context(|| {
            format!(
                "{} is damaged; remove it, or keep another with --save {name}",
                path.display()
            )
        })?;
        same_machine(&report.context.fingerprint, &Fingerprint::detect())
            .with_context(|| format!("baseline {name:?} cannot be used"))?;
        Ok(Self {
            name: name.to_owned(),
            report,
        })
    }

    /// The run beside it, as text. No verdict: see `perf_bench::baseline`.
    pub(crate) fn compare(&self, now: &Report, width: usize) -> Result<String> {
        let moved = moved(&self.report, now)?;
        let context = &self.report.context;
        let mut out = format!(
            "beside baseline {}, revision {}; two runs differ by what else the machine did: \
             `cargo xtask gate` judges\n",
            self.name, context.git.revision
        );
        if moved.is_empty() {
            out.push_str("they have no value in common\n");
        } else {
            out.push_str(&text::moved(&moved, width));
        }
        Ok(out)
    }
}

/// The names there are, as the end of a sentence.
fn known(workspace: &Workspace) -> String {
    let entries = std::fs::read_dir(directory(workspace));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".json")?.to_owned())
        })
        .collect();
    names.sort();
    match names.is_empty() {
        true => String::new(),
        false => format!("; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_bench::{BenchmarkResult, BuildInfo, Context, KpiTable, Unit};

    const TABLE: &str = "id,suite,metric,unit,direction,requirement,bar,anchor\n\
        s.ns,s,m,ns,lower,,,\n";

    fn report(ns: f64) -> Report {
        let mut result = BenchmarkResult::new("s/a".parse().unwrap());
        result.record_kpi("s.ns", ns, Unit::Nanosecond).unwrap();
        let context = Context::detect(BuildInfo::default());
        Report::new(context, vec![result], &KpiTable::parse(TABLE).unwrap())
    }

    fn scratch(name: &str) -> Workspace {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Workspace::at(dir)
    }

    #[track_caller]
    fn refused(workspace: &Workspace, name: &str, part: &str) {
        let error = Baseline::load(workspace, name, true).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_saved_run_stands_beside_the_next() {
        let workspace = scratch("baseline");
        save(&workspace, "a", true, &report(10.0)).unwrap();
        let baseline = Baseline::load(&workspace, "a", true).unwrap();
        let text = baseline.compare(&report(15.0), 100).unwrap();
        assert!(text.contains("1.500  worse"), "{text}");
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }

    #[test]
    fn what_cannot_be_compared_is_refused_before_the_run() {
        let workspace = scratch("no-baseline");
        refused(&workspace, "a", "no baseline \"a\" of quick runs");
        save(&workspace, "full", false, &report(1.0)).unwrap();
        refused(&workspace, "full", "there are full.full");

        let mut other = report(1.0);
        other.context.fingerprint.cpu = "Another CPU".to_owned();
        let place = save(&workspace, "b", true, &other).unwrap();
        refused(&workspace, "b", "another machine (CPU \"Another CPU\"");

        for text in [&b""[..], b"{", b"[]", b"{\"schema\":\"x\"}", b"\xff\xfe"] {
            std::fs::write(&place, text).unwrap();
            refused(&workspace, "b", "b.quick.json is damaged; remove it");
        }
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }

    #[test]
    fn names_are_file_names() {
        for name in ["", ".", "..", "a/b", "a b", ".hidden", "ü"] {
            assert!(parse_name(name).is_err(), "{name}");
        }
        assert_eq!(parse_name("v1.2-rc_3"), Ok("v1.2-rc_3".to_owned()));
    }
}
