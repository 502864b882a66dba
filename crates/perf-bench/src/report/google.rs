//! Google Benchmark's JSON, version 1: one row per measured sample, then the
//! aggregates, as its `compare.py` reads them.
//!
//! That tool needs a CPU time in every row. Where none was sampled the wall time
//! stands in, and the row's label says so. It also fails on rows without times, so
//! results that did not pass are named in the context instead.

use serde_json::{Map, Value, json};

use crate::fingerprint::Context;
use crate::report::Report;
use crate::result::BenchmarkResult;
use crate::sample::{Event, Phase, Sample};
use crate::stats::summary::Summary;

/// The document of a report.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut rows = Vec::new();
    let mut not_passed = Vec::new();
    for (index, result) in report.benchmarks.iter().enumerate() {
        match result.status().reason() {
            None => push_rows(&mut rows, index, result),
            Some(reason) => not_passed.push(format!(
                "{} ({}): {reason}",
                result.id(),
                result.status().name()
            )),
        }
    }
    let mut context = context(&report.context);
    context["not_passed"] = json!(not_passed);
    let document = json!({ "context": context, "benchmarks": rows });
    let mut text = serde_json::to_string_pretty(&document).expect("keys are strings");
    text.push('\n');
    text
}

fn context(context: &Context) -> Value {
    let machine = &context.fingerprint;
    let load: Vec<f64> = context.load.into_iter().collect();
    let debug = matches!(context.profile.as_str(), "dev" | "debug" | "test");
    let mut out = json!({
        "library_build_type": if debug { "debug" } else { "release" },
        "load_avg": load,
        "json_schema_version": 1,
        // Further keys are free text.
        "cpu": machine.cpu,
        "kernel": machine.kernel,
        "profile": context.profile,
        "revision": context.git.revision,
        "rustc": context.rustc,
    });
    if let Some(cores) = machine.cores {
        out["num_cpus"] = json!(cores);
    }
    out
}

fn push_rows(rows: &mut Vec<Value>, index: usize, result: &BenchmarkResult) {
    let name = result.id().to_string();
    let wall = measured(result, &Event::WallNs);
    let cpu = measured(result, &Event::CpuNs);
    let row = |name: &str, run_type: &str| {
        let mut row = Map::new();
        row.insert("name".to_owned(), json!(name));
        row.insert("family_index".to_owned(), json!(index));
        row.insert("per_family_instance_index".to_owned(), json!(0));
        row.insert("run_name".to_owned(), json!(result.id().to_string()));
        row.insert("run_type".to_owned(), json!(run_type));
        row.insert("repetitions".to_owned(), json!(wall.len()));
        row.insert("threads".to_owned(), json!(result.threads()));
        row
    };
    // CPU times serve if there is one for each wall time.
    let paired = cpu.len() == wall.len();
    let note_cpu = |row: &mut Map<String, Value>| {
        if !paired {
            let note = "cpu_time repeats real_time: CPU time was not measured";
            row.insert("label".to_owned(), json!(note));
        }
    };
    for (repetition, sample) in wall.iter().enumerate() {
        let cpu_sample = if paired { cpu[repetition] } else { *sample };
        let mut row = row(&name, "iteration");
        row.insert("repetition_index".to_owned(), json!(repetition));
        row.insert("iterations".to_owned(), json!(sample.iters));
        row.insert("real_time".to_owned(), json!(sample.per_iter()));
        row.insert("cpu_time".to_owned(), json!(cpu_sample.per_iter()));
        row.insert("time_unit".to_owned(), json!("ns"));
        note_cpu(&mut row);
        rows.push(Value::Object(row));
    }

    let (Some(wall_summary), Some(cpu_summary)) =
        (summary(&wall), summary(if paired { &cpu } else { &wall }))
    else {
        return;
    };
    type Aggregate = (&'static str, &'static str, fn(&Summary) -> Option<f64>);
    let aggregates: [Aggregate; 4] = [
        ("mean", "time", |s| Some(s.mean)),
        ("median", "time", |s| Some(s.median)),
        ("stddev", "time", |s| s.std_dev),
        ("cv", "percentage", |s| {
            s.std_dev.filter(|_| s.mean > 0.0).map(|sd| sd / s.mean)
        }),
    ];
    for (aggregate, unit, value) in aggregates {
        let (Some(real), Some(cpu)) = (value(&wall_summary), value(&cpu_summary)) else {
            continue;
        };
        let mut row = row(&format!("{name}_{aggregate}"), "aggregate");
        row.insert("aggregate_name".to_owned(), json!(aggregate));
        row.insert("aggregate_unit".to_owned(), json!(unit));
        // By convention, the number of repetitions.
        row.insert("iterations".to_owned(), json!(wall.len()));
        row.insert("real_time".to_owned(), json!(real));
        row.insert("cpu_time".to_owned(), json!(cpu));
        row.insert("time_unit".to_owned(), json!("ns"));
        if aggregate == "mean" {
            if let Some(rate) = result.throughput() {
                row.insert("items_per_second".to_owned(), json!(rate));
            }
            for metrics in result.metrics() {
                for custom in metrics.customs() {
                    let counter = format!("{}: {}", metrics.name(), custom.name());
                    row.insert(counter, json!(custom.value()));
                }
            }
        }
        note_cpu(&mut row);
        rows.push(Value::Object(row));
    }
}

fn measured<'a>(result: &'a BenchmarkResult, event: &Event) -> Vec<&'a Sample> {
    let wanted = |s: &&Sample| s.phase == Phase::Measure && s.event == *event && s.iters > 0;
    result.samples().iter().filter(wanted).collect()
}

fn summary(samples: &[&Sample]) -> Option<Summary> {
    let values: Vec<f64> = samples.iter().filter_map(|s| s.per_iter()).collect();
    Summary::of(&values).ok()
}
