//! The table of targets, and the judgement of a measured value.
//!
//! A row has two bounds, either of which may be absent: the *requirement*, which
//! must be met, and our own *bar*, which is usually stricter.
//!
//! ```text
//!  no value ─────────────────────────> missing
//!  misses the requirement ───────────> fail
//!  meets it (or none), misses the bar > below-bar
//!  meets both (or there are none) ───> pass
//! ```

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{KpiMeasureError, KpiTableError};
use crate::result::BenchmarkResult;
use crate::units::{Direction, Unit};

/// The columns of the table's CSV text, in this order.
pub const COLUMNS: [&str; 8] = [
    "id",
    "suite",
    "metric",
    "unit",
    "direction",
    "requirement",
    "bar",
    "anchor",
];

/// How a value stands against its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Meets requirement and bar, as far as there are any.
    Pass,
    /// Meets the requirement, or there is none; misses our bar.
    BelowBar,
    /// Misses the requirement.
    Fail,
    /// Was not measured.
    Missing,
}

impl Verdict {
    /// `pass`, `below-bar`, `fail` or `missing`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::BelowBar => "below-bar",
            Self::Fail => "fail",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One row: what is measured, and the bounds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KpiRow {
    /// Unique name.
    pub id: String,
    /// The suite that measures it.
    pub suite: String,
    /// What it means, in words.
    pub metric: String,
    /// Unit of value, requirement and bar.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// What must be met.
    pub requirement: Option<f64>,
    /// What we want to meet.
    pub bar: Option<f64>,
    /// What the bar is compared with, in words; may be empty.
    pub anchor: String,
}

impl KpiRow {
    /// Judges a value in the row's unit. A bound that is just reached is met. NaN
    /// and infinities are no measurement, hence `Missing`.
    #[must_use]
    pub fn judge(&self, value: Option<f64>) -> Verdict {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return Verdict::Missing;
        };
        let misses = |bound: Option<f64>| bound.is_some_and(|b| !self.direction.meets(value, b));
        if misses(self.requirement) {
            Verdict::Fail
        } else if misses(self.bar) {
            Verdict::BelowBar
        } else {
            Verdict::Pass
        }
    }

    /// The row's line in a report.
    #[must_use]
    pub fn entry(&self, value: Option<f64>) -> KpiEntry {
        KpiEntry {
            id: self.id.clone(),
            value: value.filter(|value| value.is_finite()),
            unit: self.unit,
            direction: Some(self.direction),
            requirement: self.requirement,
            bar: self.bar,
            verdict: self.judge(value),
            reason: None,
        }
    }
}

/// A row of the table in a report, measured or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KpiEntry {
    /// Id of the row.
    pub id: String,
    /// The value in `unit`; `None` if it was not measured.
    pub value: Option<f64>,
    /// Unit of the three numbers.
    pub unit: Unit,
    /// Which way is better; `None` in documents of earlier versions.
    pub direction: Option<Direction>,
    /// What must be met.
    pub requirement: Option<f64>,
    /// What we want to meet.
    pub bar: Option<f64>,
    /// How the value stands.
    pub verdict: Verdict,
    /// Why there is no value, if whoever ran the benchmarks has said so.
    pub reason: Option<String>,
}

/// How many entries have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KpiCounts {
    /// Entries that pass.
    pub pass: usize,
    /// Entries that meet the requirement but not our bar.
    pub below_bar: usize,
    /// Entries that miss the requirement.
    pub fail: usize,
    /// Entries without a value.
    pub missing: usize,
}

impl KpiCounts {
    /// Counts `entries`.
    #[must_use]
    pub fn of(entries: &[KpiEntry]) -> Self {
        let mut counts = Self::default();
        for entry in entries {
            match entry.verdict {
                Verdict::Pass => counts.pass += 1,
                Verdict::BelowBar => counts.below_bar += 1,
                Verdict::Fail => counts.fail += 1,
                Verdict::Missing => counts.missing += 1,
            }
        }
        counts
    }
}

impl fmt::Display for KpiCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pass, {} below-bar, {} fail, {} missing",
            self.pass, self.below_bar, self.fail, self.missing
        )
    }
}

/// The rows, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KpiTable {
    rows: Vec<KpiRow>,
}

impl KpiTable {
    /// A table without rows, for reports that judge nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the table from CSV text whose first line names the [`COLUMNS`].
    ///
    /// # Errors
    /// With the line number: other columns, a row of another length, an empty or
    /// repeated id, an unknown unit or direction, a bound that is no finite number.
    pub fn parse(text: &str) -> Result<Self, KpiTableError> {
        let csv_error = |error: csv::Error| KpiTableError::Csv {
            message: error.to_string(),
        };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(csv_error)?;
        if !header.iter().eq(COLUMNS) {
            return Err(KpiTableError::Header {
                found: header.iter().collect::<Vec<_>>().join(","),
            });
        }

        let mut rows = Vec::new();
        let mut line_of_id: HashMap<String, u64> = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(csv_error)?;
            let line = record.position().map_or(0, csv::Position::line);
            let row = parse_row(&record, line)?;
            if let Some(first_line) = line_of_id.insert(row.id.clone(), line) {
                return Err(KpiTableError::DuplicateId {
                    line,
                    first_line,
                    id: row.id,
                });
            }
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// The rows, in the order of the file.
    #[must_use]
    pub fn rows(&self) -> &[KpiRow] {
        &self.rows
    }

    /// The row of that id.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&KpiRow> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// Judges every row with what `results` measured, converted to its unit.
    ///
    /// Only results that passed lend values: a benchmark that computed the wrong
    /// thing was fast at something else. Values without a place come back as
    /// errors beside the entries instead of spoiling them.
    #[must_use]
    pub fn judge(&self, results: &[BenchmarkResult]) -> (Vec<KpiEntry>, Vec<KpiMeasureError>) {
        let mut values: HashMap<&str, f64> = HashMap::new();
        let mut errors = Vec::new();
        for result in results.iter().filter(|result| result.status().is_pass()) {
            for kpi in result.kpis() {
                let id = kpi.id().to_owned();
                let benchmark = result.id().to_string();
                let Some(row) = self.row(&id) else {
                    errors.push(KpiMeasureError::UnknownId { id, benchmark });
                    continue;
                };
                let Some(value) = kpi.unit().convert(kpi.value(), row.unit) else {
                    errors.push(KpiMeasureError::Unit {
                        id,
                        benchmark,
                        found: kpi.unit(),
                        expected: row.unit,
                    });
                    continue;
                };
                if values.contains_key(row.id.as_str()) {
                    errors.push(KpiMeasureError::Duplicate { id, benchmark });
                    continue;
                }
                values.insert(&row.id, value);
            }
        }
        let entries = self
            .rows
            .iter()
            .map(|row| row.entry(values.get(row.id.as_str()).copied()))
            .collect();
        (entries, errors)
    }
}

fn parse_row(record: &csv::StringRecord, line: u64) -> Result<KpiRow, KpiTableError> {
    // The reader has checked that every record is as long as the header.
    let field = |index: usize| record.get(index).unwrap_or_default();
    let number = |index: usize| -> Result<Option<f64>, KpiTableError> {
        let text = field(index);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(KpiTableError::Number {
                line,
                column: COLUMNS[index],
                found: text.to_owned(),
            }),
        }
    };
    let unit_error = |error| KpiTableError::Unit { line, error };

    let id = field(0).to_owned();
    if id.is_empty() {
        return Err(KpiTableError::EmptyId { line });
    }
    Ok(KpiRow {
        id,
        suite: field(1).to_owned(),
        metric: field(2).to_owned(),
        unit: field(3).parse().map_err(unit_error)?,
        direction: field(4).parse().map_err(unit_error)?,
        requirement: number(5)?,
        bar: number(6)?,
        anchor: field(7).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "id,suite,metric,unit,direction,requirement,bar,anchor\n";

    fn table(rows: &str) -> KpiTable {
        KpiTable::parse(&format!("{HEADER}{rows}")).unwrap()
    }

    #[track_caller]
    fn refuses(rows: &str, expected: &str) {
        let error = KpiTable::parse(&format!("{HEADER}{rows}")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn rows_keep_order_and_empty_cells_are_absent() {
        let table = table(
            "a,jit,\"time, cold\",us,lower,100,20,peer 30\n\
             b,gc,pause,ms,lower,,,\n",
        );
        let ids: Vec<_> = table.rows().iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(table.row("a").unwrap().metric, "time, cold");
        assert_eq!(table.row("a").unwrap().requirement, Some(100.0));
        assert_eq!(table.row("b").unwrap().requirement, None);
        assert_eq!(table.row("b").unwrap().bar, None);
        assert_eq!(table.row("c"), None);
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        refuses("a,s,m,us,lower,,,\nb,s,m,furlong,lower,,,\n", "line 3");
        refuses("b,s,m,furlong,lower,,,\n", "unknown unit \"furlong\"");
        refuses("a,s,m,us,down,,,\n", "line 2: unknown direction \"down\"");
        refuses(
            "a,s,m,us,lower,,,\nb,s,m,us,lower,,,\na,s,m,us,lower,,,\n",
            "line 4: id a is taken by line 2",
        );
        refuses("a,s,m,us,lower,NaN,,\n", "requirement \"NaN\"");
        refuses("a,s,m,us,lower,,ten,\n", "bar \"ten\"");
        refuses(",s,m,us,lower,,,\n", "line 2: the id is empty");
        refuses("a,s,m,us,lower\n", "line: 2");
    }

    #[test]
    fn other_columns_are_refused() {
        let error = KpiTable::parse("id,suite,unit\n").unwrap_err();
        assert!(matches!(error, KpiTableError::Header { .. }), "{error}");
    }

    #[track_caller]
    fn judged(bounds: &str, direction: &str, value: Option<f64>, expected: Verdict) {
        let table = table(&format!("a,s,m,us,{direction},{bounds},\n"));
        assert_eq!(table.rows()[0].judge(value), expected);
    }

    #[test]
    fn verdicts() {
        use Verdict::{BelowBar, Fail, Missing, Pass};
        judged("100,20", "lower", None, Missing);
        judged("100,20", "lower", Some(f64::NAN), Missing);
        judged("100,20", "lower", Some(100.1), Fail);
        judged("100,20", "lower", Some(100.0), BelowBar);
        judged("100,20", "lower", Some(20.0), Pass);
        judged(",20", "lower", Some(1e9), BelowBar);
        judged("100,", "lower", Some(99.0), Pass);
        judged(",", "lower", Some(99.0), Pass);
        judged("98,99.5", "higher", Some(97.9), Fail);
        judged("98,99.5", "higher", Some(98.0), BelowBar);
        judged("98,99.5", "higher", Some(99.5), Pass);
        // A bar laxer than the requirement does not soften it.
        judged("10,20", "lower", Some(15.0), Fail);
    }

    #[test]
    fn values_are_converted_and_misplaced_ones_reported() {
        let table = table("a,s,m,us,lower,,20,\nb,s,m,ns,lower,,20,\n");
        let mut result = BenchmarkResult::new("g/f".parse().unwrap());
        result.record_kpi("a", 1500.0, Unit::Nanosecond).unwrap();
        result.record_kpi("b", 3.0, Unit::Byte).unwrap();
        result.record_kpi("zz", 3.0, Unit::Byte).unwrap();
        let mut again = BenchmarkResult::new("g/again".parse().unwrap());
        again.record_kpi("a", 9.0, Unit::Microsecond).unwrap();

        let (entries, errors) = table.judge(&[result, again]);
        assert_eq!(entries[0].value, Some(1.5));
        assert_eq!(entries[1].verdict, Verdict::Missing);
        assert!(matches!(errors[0], KpiMeasureError::Unit { .. }));
        assert!(matches!(errors[1], KpiMeasureError::UnknownId { .. }));
        assert!(matches!(errors[2], KpiMeasureError::Duplicate { .. }));
    }

    #[test]
    fn results_that_did_not_pass_lend_no_value() {
        let table = table("a,s,m,us,lower,,20,\n");
        let mut result = BenchmarkResult::new("g/f".parse().unwrap());
        result.record_kpi("a", 1.0, Unit::Microsecond).unwrap();
        result.mark_invalid("wrong checksum");
        let (entries, errors) = table.judge(&[result]);
        assert_eq!(entries[0].verdict, Verdict::Missing);
        assert!(errors.is_empty());
    }
}
