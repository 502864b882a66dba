//! What can go wrong: one type per family of operations, each keeping its
//! operands and saying what to do next.

use std::error::Error;
use std::fmt;

use crate::units::Unit;

/// A word that is no unit or direction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnitError {
    /// Not the symbol of a unit.
    UnknownUnit {
        /// The word found.
        found: String,
    },
    /// Neither `lower` nor `higher`.
    UnknownDirection {
        /// The word found.
        found: String,
    },
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUnit { found } => {
                let known: Vec<_> = Unit::ALL.iter().map(|unit| unit.symbol()).collect();
                write!(f, "unknown unit {found:?}; use one of {}", known.join(", "))
            }
            Self::UnknownDirection { found } => {
                write!(f, "unknown direction {found:?}; use lower or higher")
            }
        }
    }
}

impl Error for UnitError {}

/// A benchmark name that cannot serve as an id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// Not of the form `group/function` or `group/function/params`.
    Shape {
        /// The text found.
        found: String,
    },
    /// A part that is empty or has a slash or control character in it.
    Part {
        /// The offending part.
        found: String,
    },
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { found } => write!(
                f,
                "benchmark id {found:?} is not group/function or group/function/params"
            ),
            Self::Part { found } => write!(
                f,
                "{found:?} cannot be part of a benchmark id; use text without slashes and control characters"
            ),
        }
    }
}

impl Error for IdError {}

/// A value that cannot be recorded as a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricError {
    /// NaN or infinite.
    NotFinite {
        /// Name of the metric or id of the KPI.
        name: String,
        /// The value found.
        value: f64,
    },
    /// The name is taken.
    Duplicate {
        /// The name given twice.
        name: String,
    },
}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { name, value } => write!(
                f,
                "metric {name:?} is {value}; check for a division by zero, and record nothing where nothing was measured"
            ),
            Self::Duplicate { name } => write!(
                f,
                "metric {name:?} is recorded already; give each metric its own name"
            ),
        }
    }
}

impl Error for MetricError {}

/// Samples that cannot be summarised.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SummaryError {
    /// No samples.
    Empty,
    /// A sample that is NaN, infinite or beyond ±1e150.
    OutOfRange {
        /// Position in the input.
        index: usize,
        /// The sample found.
        value: f64,
    },
}

impl fmt::Display for SummaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "no samples to summarise; measure at least one"),
            Self::OutOfRange { index, value } => write!(
                f,
                "sample {index} is {value}, not a number within 1e150 of zero; drop the sample where it is taken"
            ),
        }
    }
}

impl Error for SummaryError {}

/// A suite that cannot be built or run as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuiteError {
    /// Two benchmarks of one id.
    Duplicate {
        /// The id given twice.
        id: String,
    },
    /// The id is malformed.
    Id(IdError),
    /// A filter that no benchmark matches: a green run of nothing would mislead.
    NothingSelected {
        /// The filter given.
        filter: String,
        /// Ids it could have matched.
        available: Vec<String>,
    },
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { id } => write!(
                f,
                "benchmark {id} is registered already; give it other parameters or another name"
            ),
            Self::Id(error) => error.fmt(f),
            Self::NothingSelected { filter, available } => write!(
                f,
                "no benchmark has {filter:?} in its id; there are: {}",
                available.join(", ")
            ),
        }
    }
}

impl Error for SuiteError {}

impl From<IdError> for SuiteError {
    fn from(error: IdError) -> Self {
        Self::Id(error)
    }
}

/// A KPI table that cannot be read. Lines count from 1, the header included.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KpiTableError {
    /// The first line does not name the expected columns in their order.
    Header {
        /// The columns found.
        found: String,
    },
    /// Not well-formed CSV, or a row of the wrong length.
    Csv {
        /// The parser's own message, with its line.
        message: String,
    },
    /// An empty id.
    EmptyId {
        /// Line of the row.
        line: u64,
    },
    /// Two rows of one id.
    DuplicateId {
        /// Line of the second row.
        line: u64,
        /// Line of the first row.
        first_line: u64,
        /// The id.
        id: String,
    },
    /// An unknown unit or direction.
    Unit {
        /// Line of the row.
        line: u64,
        /// What is wrong with it.
        error: UnitError,
    },
    /// A requirement or bar that is no finite number.
    Number {
        /// Line of the row.
        line: u64,
        /// The column: `requirement` or `bar`.
        column: &'static str,
        /// The text found.
        found: String,
    },
}

impl fmt::Display for KpiTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { found } => write!(
                f,
                "KPI table, line 1: columns are {found}, expected {}",
                crate::kpi::COLUMNS.join(",")
            ),
            Self::Csv { message } => write!(f, "KPI table: {message}"),
            Self::EmptyId { line } => {
                write!(f, "KPI table, line {line}: the id is empty; name the row")
            }
            Self::DuplicateId {
                line,
                first_line,
                id,
            } => write!(
                f,
                "KPI table, line {line}: id {id} is taken by line {first_line}; rename one of them"
            ),
            Self::Unit { line, error } => write!(f, "KPI table, line {line}: {error}"),
            Self::Number {
                line,
                column,
                found,
            } => write!(
                f,
                "KPI table, line {line}: {column} {found:?} is not a finite number; leave it empty if there is none"
            ),
        }
    }
}

impl Error for KpiTableError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unit { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A measured value that has no place in the KPI table. It becomes a warning of
/// the report, so that one wrong id does not cost a whole run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KpiMeasureError {
    /// The table has no such row.
    UnknownId {
        /// The id measured.
        id: String,
        /// The benchmark that measured it.
        benchmark: String,
    },
    /// An earlier benchmark of the run measured the same row.
    Duplicate {
        /// The id measured.
        id: String,
        /// The benchmark whose value is dropped.
        benchmark: String,
    },
    /// The unit does not convert to that of the row.
    Unit {
        /// The id measured.
        id: String,
        /// The benchmark that measured it.
        benchmark: String,
        /// The unit it gave.
        found: Unit,
        /// The unit of the row.
        expected: Unit,
    },
}

impl fmt::Display for KpiMeasureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownId { id, benchmark } => write!(
                f,
                "{benchmark} measured KPI {id}, which the table does not have; add a row or correct the id"
            ),
            Self::Duplicate { id, benchmark } => write!(
                f,
                "{benchmark} measured KPI {id} a second time; the first value counts, let one benchmark own the row"
            ),
            Self::Unit {
                id,
                benchmark,
                found,
                expected,
            } => write!(
                f,
                "{benchmark} gave KPI {id} in {found}, which does not convert to {expected}; record it in {expected}"
            ),
        }
    }
}

impl Error for KpiMeasureError {}

/// A stored report that cannot be read, or a format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReportError {
    /// Not JSON, or not the shape of a report.
    Malformed {
        /// The parser's message, with line and column.
        message: String,
    },
    /// Another version of the format.
    Schema {
        /// The schema it names, empty if none.
        found: String,
    },
    /// Not the name of a format.
    UnknownFormat {
        /// The name found.
        found: String,
    },
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message } => write!(
                f,
                "not a benchmark report: {message}; pass the report.json of a run"
            ),
            Self::Schema { found } => write!(
                f,
                "report has schema {found:?}, expected {:?}; read it with the version that wrote it",
                crate::report::json::SCHEMA
            ),
            Self::UnknownFormat { found } => {
                let known: Vec<_> = crate::report::Format::ALL
                    .iter()
                    .map(|format| format.name())
                    .collect();
                write!(
                    f,
                    "unknown report format {found:?}; use one of {}",
                    known.join(", ")
                )
            }
        }
    }
}

impl Error for ReportError {}

/// A line of a history that is no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, message } = self;
        write!(f, "line {line} is damaged: {message}; remove that line")
    }
}

impl Error for HistoryError {}

/// A stored run is of another machine than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherMachine {
    /// What differs.
    pub what: &'static str,
    /// What it was.
    pub stored: String,
    /// What it is here.
    pub here: String,
}

impl fmt::Display for OtherMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, stored, here } = self;
        write!(
            f,
            "it was measured on another machine ({what} {stored:?}, here {here:?}), whose times \
             say nothing here; save one on this machine"
        )
    }
}

impl Error for OtherMachine {}
