//! `cargo xtask report`: a stored run, rendered again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use perf_bench::report::criterion;
use perf_bench::{Format, Report};

use crate::workspace::{Outcome, Workspace, output_width, print_text, read_text, tell, write_file};

/// As many runs are named to who asks for one that is not there.
const RUNS_NAMED: usize = 5;

/// Reads a run's report.json and prints it in any format. RUN is the name of a
/// directory in target/bench/, or the path of one or of its report.json, such as
/// an artifact of continuous integration.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask report                       the latest whole run, as tables
  cargo xtask report --format csv          one row per benchmark
  cargo xtask report 20260730-142501       a run by name
  cargo xtask report ci/report.json        a file from elsewhere
  cargo xtask report --criterion target/shown
                                           what `critcmp --target-dir target/shown new` reads")]
pub(crate) struct Args {
    /// Name or path of the run.
    #[arg(default_value = "latest")]
    run: String,
    /// text, csv, json, markdown, html, junit or another; a wrong name lists them all.
    #[arg(long, default_value = "text", value_parser = parse_format)]
    format: Format,
    /// Writes the tree of criterion's files to DIR/criterion, in the place of printing.
    #[arg(long, value_name = "DIR", conflicts_with = "format")]
    criterion: Option<PathBuf>,
}

fn parse_format(text: &str) -> Result<Format, perf_bench::ReportError> {
    text.parse()
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let report = read(&workspace.target().join("bench"), &args.run)?;
    if let Some(dir) = &args.criterion {
        tell("drawing the intervals that criterion's files have");
        write_criterion(&report, &dir.join("criterion"))?;
        return Ok(Outcome::Fine);
    }
    print_text(&match args.format {
        Format::Text => report.to_text(output_width()),
        format => report.render(format),
    })?;
    Ok(Outcome::Fine)
}

fn write_criterion(report: &Report, root: &Path) -> Result<()> {
    let files = criterion::files(report);
    if files.is_empty() {
        bail!("no benchmark of this run passed with samples of wall time, which criterion's are");
    }
    for file in &files {
        let path = root.join(&file.path);
        let dir = path.parent().unwrap_or(root);
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        write_file(&path, &file.content)?;
    }
    tell(format_args!(
        "{} files written to {}",
        files.len(),
        root.display()
    ));
    Ok(())
}

/// The report of a run by its name in `dir`, or by a path.
fn read(dir: &Path, run: &str) -> Result<Report> {
    let candidates = [dir.join(run), PathBuf::from(run)].map(|path| match path.is_dir() {
        true => path.join(Format::Json.file_name()),
        false => path,
    });
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let runs = finished_runs(dir);
        let remedy = match runs.is_empty() {
            true => "`cargo xtask bench` makes one".to_owned(),
            false => format!("finished runs: {}", runs.join(", ")),
        };
        bail!(
            "there is no finished run {run:?}: neither {} nor {} is there; {remedy}",
            candidates[0].display(),
            candidates[1].display()
        );
    };
    let text = read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    Report::from_json(&text).with_context(|| path.display().to_string())
}

/// Names of the runs in `dir` that have a report, the newest first.
fn finished_runs(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join(Format::Json.file_name()).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(RUNS_NAMED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `critcmp --target-dir` finds them.
    #[test]
    fn the_criterion_tree_is_written_and_an_empty_one_refused() {
        use perf_bench::{BenchmarkResult, Context, Event, KpiTable, Phase, Sample};
        let dir = std::env::temp_dir().join(format!("xtask-criterion-{}", std::process::id()));
        let mut result = BenchmarkResult::new("a/b".parse().unwrap());
        result.extend_samples([1, 2, 3].map(|number| Sample {
            process: 0,
            round: number,
            order: number,
            phase: Phase::Measure,
            event: Event::WallNs,
            count: u64::from(number),
            iters: 1,
        }));
        let mut report = Report::new(Context::unknown(), vec![result], &KpiTable::empty());
        write_criterion(&report, &dir).unwrap();
        for file in ["estimates.json", "benchmark.json", "sample.json"] {
            assert!(dir.join("a/b/new").join(file).exists(), "{file}");
        }
        report.benchmarks.clear();
        let told = write_criterion(&report, &dir).unwrap_err().to_string();
        assert!(told.contains("no benchmark"), "{told}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_run_that_is_missing_or_damaged_is_named_with_what_to_do() {
        let dir = std::env::temp_dir().join(format!("xtask-report-{}", std::process::id()));
        let error = |run: &str| format!("{:#}", read(&dir, run).unwrap_err());
        std::fs::create_dir_all(dir.join("begun")).unwrap();
        let told = error("absent");
        assert!(
            told.contains("\"absent\"") && told.contains("`cargo xtask bench`"),
            "{told}"
        );
        std::fs::create_dir_all(dir.join("damaged")).unwrap();
        for text in [&b""[..], b"{", b"\xff\xfe", b"{}", b"[]"] {
            std::fs::write(dir.join("damaged/report.json"), text).unwrap();
            let told = error("damaged");
            assert!(told.contains("damaged/report.json: "), "{told}");
        }
        for run in ["absent", "begun"] {
            let told = error(run);
            assert!(told.ends_with("finished runs: damaged"), "{told}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
