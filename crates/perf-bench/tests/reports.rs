//! Golden reports: one fixed report in every format.
//!
//! After an intended change, `UPDATE_EXPECT=1 cargo test -p perf-bench` rewrites
//! the files in `tests/golden`; their diff is what users of the formats will see.

use std::path::PathBuf;
use std::time::Duration;

use perf_bench::{
    BenchmarkResult, Context, Direction, Event, Format, Histogram, KpiTable, Metrics, Phase,
    Report, Sample, Unit,
};
use serde_json::Value;

const TABLE: &str = "\
id,suite,metric,unit,direction,requirement,bar,anchor
demo.compile_us,demo,\"compile time, per block\",us,lower,100,20,a peer 30
demo.hit_pct,demo,hits,%,higher,98,99.5,
demo.escapes,demo,escapes,count,lower,0,0,
demo.never,demo,not measured,M/s,higher,,1000,
demo.slow_ms,demo,misses its requirement,ms,lower,5,1,
";

fn wall(order: u32, phase: Phase, count: u64) -> Sample {
    Sample {
        process: 0,
        round: order,
        order,
        phase,
        event: Event::WallNs,
        count,
        iters: 8,
    }
}

/// A report with every case in it, and nothing of the machine that runs the test.
fn report() -> Report {
    let mut context = Context::unknown();
    context.fingerprint.arch = "riscv64".to_owned();
    context.fingerprint.cpu = "Example CPU, 3 GHz".to_owned();
    context.fingerprint.cores = Some(2);
    context.fingerprint.kernel = "Linux 6.1.0".to_owned();
    context.fingerprint.clock = "tsc".to_owned();
    context.fingerprint.virt = Some(true);
    context.rustc = "rustc 1.95.0".to_owned();
    context.profile = "release".to_owned();
    context.git.revision = "0123abc".to_owned();
    context.git.dirty = Some(true);
    context.load = Some(0.25);
    context.aslr = Some(true);
    context.seed = Some(42);

    let mut sampled = BenchmarkResult::new("demo/compile/n=18, \"cold\"".parse().unwrap());
    sampled.extend_samples([
        wall(0, Phase::Warmup, 999_999),
        wall(1, Phase::Measure, 80_000),
        wall(2, Phase::Measure, 88_000),
        wall(3, Phase::Measure, 84_000),
        wall(4, Phase::Measure, 120_000),
    ]);
    sampled.push_metrics(
        Metrics::from_samples("blocks", sampled.samples())
            .with("code size", 1536.0, Unit::Byte, Direction::Lower)
            .unwrap()
            .with("hit rate", 99.9, Unit::Percent, Direction::Higher)
            .unwrap(),
    );
    sampled.set_threads(2);
    let mut pauses = Histogram::new();
    for pause_ns in 1..=100 {
        pauses.record(pause_ns * 1000);
    }
    pauses.record(2_500_000);
    sampled.push_curve(pauses.curve("pauses", Unit::Nanosecond).unwrap());
    // Below the requirement, above the bar, and in another unit than the row.
    sampled
        .record_kpi("demo.compile_us", 30_250.0, Unit::Nanosecond)
        .unwrap();
    sampled
        .record_kpi("demo.hit_pct", 99.9, Unit::Percent)
        .unwrap();
    sampled
        .record_kpi("demo.escapes", 0.0, Unit::Count)
        .unwrap();
    sampled
        .record_kpi("demo.misspelt", 1.0, Unit::Count)
        .unwrap();
    sampled.warn("the clock was read through a system call");

    let mut unsampled = BenchmarkResult::new("demo/load".parse().unwrap());
    unsampled.push_metrics(Metrics::new("cold", Duration::from_millis(7), 1));
    unsampled.push_metrics(Metrics::new("idle", Duration::ZERO, 0));
    unsampled
        .record_kpi("demo.slow_ms", 7.0, Unit::Millisecond)
        .unwrap();

    let failed = BenchmarkResult::failed("demo/broken".parse().unwrap(), "panicked: no memory");
    let mut invalid = BenchmarkResult::new("demo/wrong".parse().unwrap());
    invalid
        .record_kpi("demo.never", 1e9, Unit::PerSecond)
        .unwrap();
    invalid.mark_invalid("checksum 0x1, expected 0x2");

    Report::new(
        context,
        vec![sampled, unsampled, failed, invalid],
        &KpiTable::parse(TABLE).unwrap(),
    )
}

#[track_caller]
fn check(format: Format) {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "tests",
        "golden",
        format.file_name(),
    ]
    .iter()
    .collect();
    let found = report().render(format);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{format} differs from {}; if that is intended, run with UPDATE_EXPECT=1\n{found}",
        path.display()
    );
}

#[test]
fn text_is_as_stored() {
    check(Format::Text);
}

#[test]
fn csv_summary_is_as_stored() {
    check(Format::Csv);
}

#[test]
fn csv_metrics_are_as_stored() {
    check(Format::CsvMetrics);
}

#[test]
fn csv_samples_are_as_stored() {
    check(Format::CsvRaw);
}

#[test]
fn json_is_as_stored() {
    check(Format::Json);
}

#[test]
fn the_last_line_of_the_text_counts_the_verdicts() {
    for width in [0, 40, 80, 200] {
        let text = report().to_text(width);
        assert_eq!(
            text.lines().last(),
            Some("KPIs: 2 pass, 1 below-bar, 1 fail, 1 missing")
        );
    }
}

#[test]
fn every_kpi_row_is_reported_under_its_id() {
    let report = report();
    let ids: Vec<_> = report.kpis.iter().map(|kpi| kpi.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "demo.compile_us",
            "demo.hit_pct",
            "demo.escapes",
            "demo.never",
            "demo.slow_ms"
        ]
    );
}

#[test]
fn a_stored_report_renders_like_a_fresh_one() {
    let fresh = report();
    let stored = Report::from_json(&fresh.to_json()).unwrap();
    assert_eq!(stored, fresh);
    for &format in Format::ALL {
        assert_eq!(stored.render(format), fresh.render(format), "{format}");
    }
}

#[test]
fn a_damaged_percentile_curve_is_refused() {
    let mut document: Value = serde_json::from_str(&report().to_json()).unwrap();
    let points = document
        .pointer_mut("/benchmarks/0/percentiles/0/points")
        .unwrap();
    points.as_array_mut().unwrap().pop();
    let error = Report::from_json(&document.to_string()).unwrap_err();
    assert!(error.to_string().contains("pauses"), "{error}");
}

#[test]
fn an_empty_report_renders_in_every_format() {
    let report = Report::new(Context::unknown(), Vec::new(), &KpiTable::empty());
    for &format in Format::ALL {
        assert!(!report.render(format).is_empty(), "{format}");
    }
    assert_eq!(Report::from_json(&report.to_json()), Ok(report));
}

#[test]
fn json_keeps_its_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../schema/vm-bench.v1.schema.json")).unwrap();
    let document: Value = serde_json::from_str(&report().to_json()).unwrap();
    let violations = violations(&schema, &schema, &document, "$");
    assert!(violations.is_empty(), "{}", violations.join("\n"));

    // The check can fail: without a required key, with a wrong type or word.
    for (pointer, bad) in [
        ("/schema", Value::from("vm-bench.v9")),
        ("/kpis/0", Value::from(1)),
        ("/kpis/0/verdict", Value::from("fine")),
        ("/kpis/0/unit", Value::from("parsec")),
        ("/benchmarks/0/summary/median", Value::Null),
        ("/context/git", serde_json::json!({ "dirty": false })),
    ] {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap() = bad;
        assert!(
            !self::violations(&schema, &schema, &broken, "$").is_empty(),
            "{pointer}"
        );
    }
}

#[test]
fn the_schema_lists_the_units_of_the_code() {
    let schema: Value =
        serde_json::from_str(include_str!("../schema/vm-bench.v1.schema.json")).unwrap();
    let units: Vec<_> = Unit::ALL.iter().map(|unit| unit.symbol()).collect();
    assert_eq!(schema["$defs"]["unit"]["enum"], serde_json::json!(units));
}

/// The part of JSON Schema the committed schema uses; other keywords are refused,
/// so that none is silently ignored. Keys the schema does not list are violations
/// here, although readers must accept them: ours should all be documented.
fn violations(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = root.pointer(target).unwrap();
                found.extend(violations(root, target, value, at));
            }
            "anyOf" => {
                let fits = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|option| violations(root, option, value, at).is_empty());
                if !fits {
                    found.push(format!("{at}: {value} fits no alternative"));
                }
            }
            "const" => {
                if value != rule {
                    found.push(format!("{at}: {value} is not {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    found.push(format!("{at}: {value} is not one of {rule}"));
                }
            }
            "type" => {
                let types = match rule {
                    Value::Array(types) => types.clone(),
                    one => vec![one.clone()],
                };
                if !types
                    .iter()
                    .any(|name| is_type(value, name.as_str().unwrap()))
                {
                    found.push(format!("{at}: {value} is no {rule}"));
                }
            }
            "required" => {
                for key in rule.as_array().unwrap() {
                    if value.get(key.as_str().unwrap()).is_none() {
                        found.push(format!("{at}: {key} is missing"));
                    }
                }
            }
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{key}");
                    match rule.get(key) {
                        Some(rule) => found.extend(violations(root, rule, value, &at)),
                        None => found.push(format!("{at} is not in the schema")),
                    }
                }
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    let at = format!("{at}[{index}]");
                    found.extend(violations(root, rule, value, &at));
                }
            }
            other => panic!("the check does not know the keyword {other}"),
        }
    }
    found
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the check does not know the type {other}"),
    }
}
