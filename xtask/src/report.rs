//! `cargo xtask report`: a stored run, rendered again.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use perf_bench::{Format, Report};

use crate::workspace::{Outcome, Workspace, output_width, print_text};

/// Reads a run's report.json and prints it in any format. RUN is the name of a
/// directory in target/bench/, or the path of one or of its report.json, such as
/// an artifact of continuous integration.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask report                       the latest whole run, as tables
  cargo xtask report --format csv          one row per benchmark
  cargo xtask report 20260730-142501       a run by name
  cargo xtask report ci/report.json        a file from elsewhere")]
pub(crate) struct Args {
    /// Name or path of the run.
    #[arg(default_value = "latest")]
    run: String,
    /// text, csv, json, markdown, html, junit or another; a wrong name lists them all.
    #[arg(long, default_value = "text", value_parser = parse_format)]
    format: Format,
}

fn parse_format(text: &str) -> Result<Format, perf_bench::ReportError> {
    text.parse()
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let stored = workspace.target().join("bench").join(&args.run);
    let given = PathBuf::from(&args.run);
    let Some(mut path) = [&stored, &given]
        .into_iter()
        .find(|path| path.exists())
        .cloned()
    else {
        bail!(
            "there is no run {:?}: neither {} nor such a path; `cargo xtask bench` makes one",
            args.run,
            stored.display()
        );
    };
    if path.is_dir() {
        path.push(Format::Json.file_name());
    }
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let report = Report::from_json(&text).with_context(|| path.display().to_string())?;
    print_text(&match args.format {
        Format::Text => report.to_text(output_width()),
        format => report.render(format),
    })?;
    Ok(Outcome::Fine)
}
