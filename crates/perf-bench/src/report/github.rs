//! Input of github-action-benchmark: two files, since one of its charts has one
//! direction.
//!
//! The action refuses an empty list; leave the step out where there is nothing of
//! a direction.

use serde::Serialize;

use crate::report::Report;
use crate::sample::Event;
use crate::units::{Direction, Unit};

#[derive(Serialize)]
struct Entry {
    name: String,
    unit: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<String>,
}

impl Entry {
    fn new(name: String, unit: Unit, value: f64) -> Self {
        Self {
            name,
            unit: unit.symbol().to_owned(),
            value,
            range: None,
            extra: None,
        }
    }
}

/// For the tool `customSmallerIsBetter`: times, and values of which less is better.
#[must_use]
pub fn smaller_is_better(report: &Report) -> String {
    write(report, Direction::Lower)
}

/// For the tool `customBiggerIsBetter`: rates, and values of which more is better.
#[must_use]
pub fn bigger_is_better(report: &Report) -> String {
    write(report, Direction::Higher)
}

fn write(report: &Report, direction: Direction) -> String {
    let mut entries = Vec::new();
    for result in report.benchmarks.iter().filter(|r| r.status().is_pass()) {
        let id = result.id().to_string();
        match direction {
            Direction::Lower => {
                if let Some(summary) = result.summary() {
                    let unit = result.primary_event().map_or(Unit::Count, Event::unit);
                    let mut entry = Entry::new(id.clone(), unit, summary.median);
                    entry.unit.push_str("/iter");
                    entry.range = Some(format!("\u{b1} {}", summary.mad));
                    entry.extra = Some(format!(
                        "median and MAD of {} samples\n{} threads",
                        summary.n,
                        result.threads()
                    ));
                    entries.push(entry);
                }
            }
            Direction::Higher => {
                if let Some(rate) = result.throughput() {
                    let name = format!("{id} throughput");
                    entries.push(Entry::new(name, Unit::PerSecond, rate));
                }
            }
        }
        for metrics in result.metrics() {
            let customs = metrics.customs().iter();
            entries.extend(customs.filter(|c| c.direction() == direction).map(|c| {
                let name = format!("{id} {}: {}", metrics.name(), c.name());
                Entry::new(name, c.unit(), c.value())
            }));
        }
    }
    for kpi in &report.kpis {
        if let (Some(value), true) = (kpi.value, kpi.direction == Some(direction)) {
            let mut entry = Entry::new(format!("KPI {}", kpi.id), kpi.unit, value);
            entry.extra = Some(format!("verdict: {}", kpi.verdict));
            entries.push(entry);
        }
    }
    let mut text = serde_json::to_string_pretty(&entries).expect("structs of strings");
    text.push('\n');
    text
}
