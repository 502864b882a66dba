//! A run beside one that was stored: how values moved, without a verdict.
//!
//! More than half of all alarms from wall times of two separate runs are false
//! (55.8 % with criterion), so nothing fails here; [`gate`](crate::gate) is what
//! measures both sides side by side.

use crate::error::OtherMachine;
use crate::fingerprint::Fingerprint;
use crate::report::Report;
use crate::units::{Direction, Unit};

/// One value, then and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// A row of the KPI table, or a benchmark and its median time.
    pub id: String,
    /// Unit of both.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// In the stored run.
    pub before: f64,
    /// In this one.
    pub now: f64,
}

impl Moved {
    /// Now over then; `None` if one is 0, which has no ratio.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.before != 0.0 && self.now != 0.0).then(|| self.now / self.before)
    }

    /// `better`, `worse` or `same`, by direction alone: noise is not weighed.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let rises = self.direction == Direction::Higher;
        match self.now.partial_cmp(&self.before) {
            Some(std::cmp::Ordering::Greater) if rises => "better",
            Some(std::cmp::Ordering::Less) if !rises => "better",
            Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Less) => "worse",
            _ => "same",
        }
    }
}

/// Whether a stored run can be compared with one on this machine.
///
/// # Errors
/// If CPU, architecture or number of CPUs differ: the numbers would be of the
/// machines, not of the code.
pub fn same_machine(stored: &Fingerprint, here: &Fingerprint) -> Result<(), OtherMachine> {
    let cores = |machine: &Fingerprint| machine.cores.map_or("?".to_owned(), |n| n.to_string());
    let differing = [
        ("CPU", stored.cpu.clone(), here.cpu.clone()),
        ("architecture", stored.arch.clone(), here.arch.clone()),
        ("number of CPUs", cores(stored), cores(here)),
    ];
    match differing.into_iter().find(|(_, a, b)| a != b) {
        Some((what, stored, here)) => Err(OtherMachine { what, stored, here }),
        None => Ok(()),
    }
}

/// What both runs have: rows of the KPI table, then medians of benchmarks.
///
/// # Errors
/// As [`same_machine`].
pub fn moved(stored: &Report, now: &Report) -> Result<Vec<Moved>, OtherMachine> {
    same_machine(&stored.context.fingerprint, &now.context.fingerprint)?;
    let then = values(stored);
    Ok(values(now)
        .into_iter()
        .filter_map(|value| {
            let same = |other: &&Value| (&other.id, other.unit) == (&value.id, value.unit);
            Some(Moved {
                before: then.iter().find(same)?.value,
                id: value.id,
                unit: value.unit,
                direction: value.direction,
                now: value.value,
            })
        })
        .collect())
}

struct Value {
    id: String,
    unit: Unit,
    direction: Direction,
    value: f64,
}

fn values(report: &Report) -> Vec<Value> {
    let rows = report.kpis.iter().filter_map(|row| {
        Some(Value {
            id: row.id.clone(),
            unit: row.unit,
            direction: row.direction?,
            value: row.value?,
        })
    });
    let passed = report.benchmarks.iter().filter(|b| b.status().is_pass());
    let medians = passed.filter_map(|result| {
        Some(Value {
            id: result.id().to_string(),
            unit: result.primary_event()?.unit(),
            direction: Direction::Lower,
            value: result.summary()?.median,
        })
    });
    rows.chain(medians).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Context;
    use crate::kpi::KpiTable;
    use crate::result::BenchmarkResult;

    const TABLE: &str = "id,suite,metric,unit,direction,requirement,bar,anchor\n\
        s.ns,s,m,ns,lower,,,\n\
        s.rate,s,m,1/s,higher,,,\n\
        s.never,s,m,ns,lower,,,\n";

    fn report(ns: f64, rate: f64) -> Report {
        let mut result = BenchmarkResult::new("s/a".parse().unwrap());
        result.record_kpi("s.ns", ns, Unit::Nanosecond).unwrap();
        result.record_kpi("s.rate", rate, Unit::PerSecond).unwrap();
        let table = KpiTable::parse(TABLE).unwrap();
        Report::new(Context::unknown(), vec![result], &table)
    }

    #[test]
    fn rows_of_both_runs_move_by_their_direction() {
        let moved = moved(&report(10.0, 5.0), &report(12.0, 6.0)).unwrap();
        let seen: Vec<_> = moved
            .iter()
            .map(|m| (m.id.as_str(), m.ratio(), m.word()))
            .collect();
        assert_eq!(
            seen,
            [
                ("s.ns", Some(1.2), "worse"),
                ("s.rate", Some(1.2), "better")
            ]
        );
        let same = super::moved(&report(0.0, 5.0), &report(0.0, 5.0)).unwrap();
        assert_eq!((same[0].ratio(), same[0].word()), (None, "same"));
    }

    #[test]
    fn another_machine_is_refused_with_what_differs() {
        let (here, mut there) = (report(1.0, 1.0), report(1.0, 1.0));
        there.context.fingerprint.cpu = "Other CPU".to_owned();
        let error = moved(&there, &here).unwrap_err().to_string();
        assert!(
            error.contains("CPU") && error.contains("Other CPU"),
            "{error}"
        );
        let mut there = report(1.0, 1.0);
        there.context.fingerprint.cores = Some(64);
        let error = moved(&there, &here).unwrap_err().to_string();
        assert!(error.contains("64"), "{error}");
    }
}
