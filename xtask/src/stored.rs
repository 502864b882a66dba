//! Rows of the KPI table that other verbs measure, since they take longer than a
//! benchmark: `bench` reads what they left.

use anyhow::Result;
use perf_bench::gate::{Kind, Rate};
use perf_bench::{BenchmarkResult, Unit};

use crate::coverage::Coverage;
use crate::gate::calibrate;
use crate::worker::Planned;
use crate::workspace::Workspace;

/// A verb's rows.
pub(crate) struct Stored {
    id: &'static str,
    kpis: &'static [&'static str],
    read: fn(&Workspace, BenchmarkResult) -> Result<Read>,
}

/// The result, or why there is none.
pub(crate) type Read = Result<BenchmarkResult, String>;

pub(crate) const STORED: &[Stored] = &[
    Stored {
        id: "gate/calibration",
        kpis: &["bench.gate_false_positive_pct", "bench.gate_detects_5pct"],
        read: calibration,
    },
    Stored {
        id: "quality/coverage",
        kpis: &["quality.coverage_pct"],
        read: coverage,
    },
];

impl Stored {
    /// As part of a plan.
    pub(crate) fn planned(&self, filter: Option<&str>) -> Planned {
        let mut names = std::iter::once(&self.id).chain(self.kpis);
        Planned {
            id: self.id.to_owned(),
            kpis: self.kpis.iter().map(|&kpi| kpi.to_owned()).collect(),
            selected: filter.is_none_or(|filter| names.any(|name| name.contains(filter))),
        }
    }

    /// What the verb left.
    pub(crate) fn read(&self, workspace: &Workspace) -> Result<Read> {
        (self.read)(workspace, BenchmarkResult::new(self.id.parse()?))
    }
}

fn calibration(workspace: &Workspace, mut result: BenchmarkResult) -> Result<Read> {
    let mut notes = Vec::new();
    let known = calibrate::load(workspace, &mut notes)?;
    let rows = known.rows.iter();
    // Of all benchmarks together: those that are advisory are gates like others.
    let sum = |rates: &mut dyn Iterator<Item = Rate>| rates.reduce(|a, b| a + b);
    let Some(alarms) = sum(&mut rows.clone().map(|row| row.screen_alarms)) else {
        return Ok(Err(notes.join("; ")));
    };
    // What the row is about; code with threads has a margin of 5 % itself, and memory
    // is the host's.
    let of_5 = rows
        .filter(|row| row.kind.is_none_or(|kind| kind == Kind::Compute))
        .flat_map(|row| &row.detection)
        .filter(|d| d.effect == 0.05);
    let percent = |rate: Rate| 100.0 * rate.share();
    result.record_kpi(
        "bench.gate_false_positive_pct",
        percent(alarms),
        Unit::Percent,
    )?;
    if let Some(found) = sum(&mut of_5.map(|detection| detection.found)) {
        result.record_kpi("bench.gate_detects_5pct", percent(found), Unit::Percent)?;
    }
    result.warn(format!(
        "{} gates of equal code, measured by `cargo xtask gate --calibrate`, latest {}",
        alarms.trials, known.origin
    ));
    Ok(Ok(result))
}

fn coverage(workspace: &Workspace, mut result: BenchmarkResult) -> Result<Read> {
    let Some(coverage) = Coverage::load(workspace)? else {
        return Ok(Err("`cargo xtask coverage` measures it".to_owned()));
    };
    result.record_kpi("quality.coverage_pct", coverage.percent(), Unit::Percent)?;
    result.warn(format!(
        "measured by `cargo xtask coverage`, {}",
        coverage.origin()
    ));
    Ok(Ok(result))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::calibrate::PROCEDURE;
    use perf_bench::Fingerprint;

    /// Value of each row that the one of this id yields, or its reason.
    fn read(workspace: &Workspace, id: &str) -> Result<Vec<f64>, String> {
        let stored = STORED.iter().find(|stored| stored.id == id).unwrap();
        let result = stored
            .read(workspace)
            .map_err(|error| error.to_string())??;
        let values: Vec<f64> = result.kpis().iter().map(|kpi| kpi.value()).collect();
        assert_eq!(values.len(), stored.kpis.len());
        Ok(values)
    }

    #[test]
    fn rows_come_from_what_other_verbs_left_or_say_which_verb() {
        let dir = std::env::temp_dir().join(format!("xtask-stored-{}", std::process::id()));
        let workspace = Workspace::at(dir);
        let reason = |id| read(&workspace, id).unwrap_err();
        assert!(reason("gate/calibration").contains("gate --calibrate"));
        assert!(reason("quality/coverage").contains("xtask coverage"));

        let write = |name: &str, text: &str| {
            let path = workspace.target().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let row = |id: &str, kind: &str, alarms: u64, found: u64| {
            format!(
                r#"{{"id":"{id}","kind":"{kind}","screen_alarms":{{"hits":{alarms},"trials":100}},
                "confirmed_alarms":{{"hits":0,"trials":100}},"seconds":1,
                "detection":[{{"effect":0.05,"found":{{"hits":{found},"trials":100}}}},
                {{"effect":0.02,"found":{{"hits":1,"trials":100}}}}]}}"#
            )
        };
        let cpu = serde_json::to_string(&Fingerprint::detect().cpu).unwrap();
        let rows = [
            row("a/b", "compute", 1, 98),
            row("a/c", "compute", 0, 96),
            row("a/d", "threaded", 2, 50),
        ]
        .join(",");
        write(
            "gate/calibration.json",
            &format!(
                r#"{{"procedure":{PROCEDURE},"cpu":{cpu},"time":"now","revision":"abc","rows":[{rows}]}}"#
            ),
        );
        assert_eq!(read(&workspace, "gate/calibration"), Ok(vec![1.0, 97.0]));
        write(
            "coverage/coverage.json",
            r#"{"time":"now","revision":"abc","crates":{"vm-core":{"covered":9,"count":10}}}"#,
        );
        assert_eq!(read(&workspace, "quality/coverage"), Ok(vec![90.0]));

        write("gate/calibration.json", "{");
        assert!(
            read(&workspace, "gate/calibration")
                .unwrap_err()
                .contains("damaged")
        );
        std::fs::remove_dir_all(workspace.root()).unwrap();
    }
}
