//! What gates measured, kept in target/gate/history.jsonl, and where it changed.
//! Never part of a verdict.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use perf_bench::gate::Evidence;
use perf_bench::history::{HistoryEntry, parse, series};
use perf_bench::{Context, GitState};

use crate::workspace::{Workspace, read_text};

fn path(workspace: &Workspace) -> PathBuf {
    workspace.target().join("gate/history.jsonl")
}

/// Adds a gate's benchmarks; says so, or why not.
pub(super) fn keep(
    workspace: &Workspace,
    evidence: &Evidence,
    time: &str,
    context: &Context,
) -> Result<String> {
    let GitState { revision, dirty } = &context.git;
    if *dirty != Some(false) {
        return Ok(
            "not kept in the history: the tree has changes that are in no commit".to_owned(),
        );
    }
    let cpu = &context.fingerprint.cpu;
    let entries = evidence.benchmarks.iter();
    let lines: String = entries
        .filter_map(|benchmark| HistoryEntry::of(benchmark, time, revision, cpu))
        .map(|entry| entry.to_line())
        .collect();
    let path = path(workspace);
    append(&path, &lines).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(format!("kept in {}", path.display()))
}

/// In one piece: two gates at once do not mix their lines.
fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(lines.as_bytes())
}

/// A line per series, and one per change.
pub(super) fn show(workspace: &Workspace, filter: Option<&str>) -> Result<String> {
    let path = path(workspace);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "there is no {}: gates of a tree without changes write it",
            path.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let entries = parse(&text).with_context(|| path.display().to_string())?;
    let mut out = String::new();
    for series in series(&entries) {
        if filter.is_some_and(|text| !series.id.contains(text)) {
            continue;
        }
        out.push_str(&format!(
            "{} {}: {} values, latest {}, on {}\n",
            series.id, series.quantity, series.n, series.latest, series.cpu
        ));
        for change in &series.changes {
            out.push_str(&format!("    {change}\n"));
        }
    }
    if out.is_empty() {
        bail!(
            "the history has nothing called {:?}",
            filter.unwrap_or_default()
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_bench::BuildInfo;
    use perf_bench::gate::{BenchmarkEvidence, Kind, Pair};

    fn evidence(ns: f64) -> Evidence {
        let mut benchmark = BenchmarkEvidence::new("s/a".parse().unwrap(), Kind::Compute);
        benchmark.screen = vec![
            Pair {
                base_ns: 1.0,
                change_ns: ns
            };
            3
        ];
        Evidence {
            benchmarks: vec![benchmark],
            ..Evidence::default()
        }
    }

    #[test]
    fn gates_add_up_to_a_history_that_shows_where_it_changed() {
        let dir = std::env::temp_dir().join(format!("xtask-history-{}", std::process::id()));
        let workspace = Workspace::at(dir);
        std::fs::create_dir_all(path(&workspace).parent().unwrap()).unwrap();
        let error = show(&workspace, None).unwrap_err().to_string();
        assert!(error.contains("there is no"), "{error}");

        let mut context = Context::detect(BuildInfo::default());
        context.git.dirty = Some(true);
        let said = keep(&workspace, &evidence(10.0), "t", &context).unwrap();
        assert!(said.contains("not kept"), "{said}");
        context.git.dirty = Some(false);
        for index in 0..12 {
            context.git.revision = format!("commit-{index}");
            let ns = if index < 6 { 10.0 } else { 12.0 };
            keep(&workspace, &evidence(ns), &format!("t{index}"), &context).unwrap();
        }
        let text = show(&workspace, Some("s/")).unwrap();
        assert!(text.contains("s/a ns: 12 values, latest 12"), "{text}");
        assert!(text.contains("at commit-6 (t6)"), "{text}");
        let error = show(&workspace, Some("zzz")).unwrap_err().to_string();
        assert!(error.contains("zzz"), "{error}");

        append(&path(&workspace), "half a li").unwrap();
        let error = format!("{:#}", show(&workspace, None).unwrap_err());
        assert!(error.contains("line 13 is damaged"), "{error}");
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
