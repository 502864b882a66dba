//! One value, several renderings.
//!
//! A [`Report`] holds everything a run found out. Renderers only read it, so that
//! a stored report ([`Report::from_json`]) renders like a fresh one.

pub mod csv;
pub mod json;
pub mod text;

pub mod criterion;
pub mod github;
pub mod google;
pub mod html;
pub mod junit;
pub mod markdown;

mod markup;

use std::fmt;
use std::str::FromStr;

use crate::error::ReportError;
use crate::fingerprint::Context;
use crate::gate::{Comparison, GateReport};
use crate::kpi::{KpiCounts, KpiEntry, KpiTable};
use crate::result::BenchmarkResult;

/// Everything a run found out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Where and how the run happened.
    pub context: Context,
    /// The results, in the order they were measured.
    pub benchmarks: Vec<BenchmarkResult>,
    /// Every row of the KPI table, measured or not.
    pub kpis: Vec<KpiEntry>,
    /// Comparison with another build, if there was one.
    pub gate: Option<GateReport>,
    /// What readers of the whole report should know, such as values that have no
    /// place in the table.
    pub warnings: Vec<String>,
}

impl Report {
    /// Judges `benchmarks` against `table` and keeps everything.
    #[must_use]
    pub fn new(context: Context, benchmarks: Vec<BenchmarkResult>, table: &KpiTable) -> Self {
        let (kpis, errors) = table.judge(&benchmarks);
        Self {
            context,
            benchmarks,
            kpis,
            gate: None,
            warnings: errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// The comparisons with another build; none if there was no gate.
    #[must_use]
    pub fn comparisons(&self) -> &[Comparison] {
        self.gate.as_ref().map_or(&[], |gate| &gate.comparisons)
    }

    /// How many KPI rows have which verdict.
    #[must_use]
    pub fn kpi_counts(&self) -> KpiCounts {
        KpiCounts::of(&self.kpis)
    }

    /// Tables for people, aimed at `width` columns.
    #[must_use]
    pub fn to_text(&self, width: usize) -> String {
        text::report(self, width)
    }

    /// The `vm-bench.v1` document.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// Reads a `vm-bench.v1` document.
    ///
    /// # Errors
    /// If the text is not JSON of that shape and schema.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        json::read(text)
    }

    /// Renders as `format`; text for [`text::DEFAULT_WIDTH`] columns.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.to_text(text::DEFAULT_WIDTH),
            Format::Csv => csv::summary(self),
            Format::CsvMetrics => csv::metrics(&self.benchmarks),
            Format::CsvRaw => csv::samples(self),
            Format::Json => self.to_json(),
            Format::GoogleBenchmark => google::write(self),
            Format::GithubSmaller => github::smaller_is_better(self),
            Format::GithubBigger => github::bigger_is_better(self),
            Format::Junit => junit::write(self),
            Format::Markdown => markdown::write(self),
            Format::Html => html::write(self),
        }
    }
}

/// A rendering of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Tables for people.
    Text,
    /// CSV, one row per benchmark.
    Csv,
    /// CSV, one row per metric.
    CsvMetrics,
    /// CSV, one row per raw sample.
    CsvRaw,
    /// The `vm-bench.v1` document, from which all others can be made again.
    Json,
    /// Google Benchmark's JSON, version 1, for its `compare.py`.
    GoogleBenchmark,
    /// `customSmallerIsBetter` of github-action-benchmark.
    GithubSmaller,
    /// `customBiggerIsBetter` of github-action-benchmark.
    GithubBigger,
    /// JUnit XML, for the test view of a CI system.
    Junit,
    /// Markdown, for a comment or job summary.
    Markdown,
    /// One self-contained page with charts.
    Html,
}

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[
        Self::Text,
        Self::Csv,
        Self::CsvMetrics,
        Self::CsvRaw,
        Self::Json,
        Self::GoogleBenchmark,
        Self::GithubSmaller,
        Self::GithubBigger,
        Self::Junit,
        Self::Markdown,
        Self::Html,
    ];

    /// The name for command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Csv => "csv",
            Self::CsvMetrics => "csv-metrics",
            Self::CsvRaw => "csv-raw",
            Self::Json => "json",
            Self::GoogleBenchmark => "google-benchmark",
            Self::GithubSmaller => "github-smaller",
            Self::GithubBigger => "github-bigger",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }

    /// The customary file name in the directory of a run.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Text => "report.txt",
            Self::Csv => "summary.csv",
            Self::CsvMetrics => "metrics.csv",
            Self::CsvRaw => "samples.csv",
            Self::Json => "report.json",
            Self::GoogleBenchmark => "google-benchmark.json",
            Self::GithubSmaller => "github-smaller.json",
            Self::GithubBigger => "github-bigger.json",
            Self::Junit => "junit.xml",
            Self::Markdown => "report.md",
            Self::Html => "report.html",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = ReportError;

    fn from_str(text: &str) -> Result<Self, ReportError> {
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.name() == text)
            .ok_or_else(|| ReportError::UnknownFormat {
                found: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_names_parse_back() {
        for &format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("csv-raw"), "{error}");
    }
}
