//! Golden reports: one fixed report in every format.
//!
//! After an intended change, `UPDATE_EXPECT=1 cargo test -p perf-bench` rewrites
//! the files in `tests/golden`; their diff is what users of the formats will see.

use std::path::Path;
use std::time::Duration;

use perf_bench::alloc::Allocations;
use perf_bench::gate::{
    BenchmarkEvidence, Calibration, Detection, Evidence, GateReport, Instructions, Kind, Pair,
    Rate, Rules, Stage, Step, Target, decide,
};
use perf_bench::report::criterion;
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
    sampled.set_allocations(
        Allocations {
            count: 12,
            bytes: 768,
        },
        8,
    );
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
    let stopped = BenchmarkResult::interrupted("demo/stopped".parse().unwrap(), "Ctrl-C");
    let mut invalid = BenchmarkResult::new("demo/wrong".parse().unwrap());
    invalid
        .record_kpi("demo.never", 1e9, Unit::PerSecond)
        .unwrap();
    invalid.mark_invalid("checksum 0x1, expected 0x2");

    let mut report = Report::new(
        context,
        vec![sampled, unsampled, failed, stopped, invalid],
        &KpiTable::parse(TABLE).unwrap(),
    );
    report.gate = Some(compared());
    for kpi in &mut report.kpis {
        if kpi.id == "demo.never" {
            kpi.reason = Some("demo/wrong is invalid".to_owned());
        }
    }
    report
}

/// A gate with every verdict in it, over times without random numbers.
fn compared() -> GateReport {
    /// Change over base in thousandths, by stage.
    type Thousandths = fn(Stage) -> i32;
    let cases: [(&str, Thousandths, u64); 6] = [
        ("demo/compile/n=18, \"cold\"", |_| 1120, 1000),
        ("demo/faster", |_| 900, 990),
        ("demo/same", |_| 1001, 1000),
        ("demo/same_but_more", |_| 1001, 1020),
        (
            "demo/layout",
            |stage| if stage == Stage::Relayout { 1000 } else { 1060 },
            1000,
        ),
        ("demo/wrong", |_| 1000, 1000),
    ];
    let pair = |index: usize, thousandths: i32| {
        // 17 and 7 are prime to 40: neighbours differ, and so do the sides.
        let base = 1_000_000 + 500 * (index * 17 % 40);
        let change = 1_000_000 + 500 * (index * 7 % 40);
        Pair {
            base_ns: base as f64 / 100.0,
            change_ns: change as f64 * f64::from(thousandths) / 100_000.0,
        }
    };
    let mut evidence = Evidence::default();
    for (id, _, change) in cases {
        let mut benchmark = BenchmarkEvidence::new(id.parse().unwrap(), Kind::Compute);
        benchmark.instructions = Some(Instructions {
            base: vec![100_000],
            change: vec![change * 100],
            limit: 0.005,
        });
        evidence.benchmarks.push(benchmark);
    }
    evidence.benchmarks[5].invalid = Some("checksum 0x1, expected 0x2".to_owned());
    loop {
        let requests = match decide(&evidence, &Rules::default()) {
            Step::Measure(requests) => requests,
            Step::Done(mut report) => {
                let rate = |hits, trials| Rate { hits, trials };
                report.reproduce = Some("bench gate --seed 42 && echo \"fine\"".to_owned());
                report.calibration = vec![Calibration {
                    id: "demo/same".to_owned(),
                    kind: Some(Kind::Compute),
                    screen_alarms: rate(1, 400),
                    confirmed_alarms: rate(0, 400),
                    detection: vec![Detection {
                        effect: 0.05,
                        found: rate(99, 100),
                    }],
                    seconds: 1.5,
                }];
                return report;
            }
        };
        for request in requests {
            let (pairs, thousandths) = match request.target {
                Target::Control => (&mut evidence.control, 1000),
                Target::Benchmark(index, stage) => (
                    evidence.benchmarks[index].pairs_mut(stage),
                    cases[index].1(stage),
                ),
            };
            for index in pairs.len()..request.pairs {
                pairs.push(pair(index, thousandths));
            }
        }
    }
}

#[track_caller]
fn check(format: Format) {
    compare(&report().render(format), format.file_name());
}

#[track_caller]
fn compare(found: &str, golden: &str) {
    let path = Path::new("tests/golden").join(golden);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{golden} differs from {}; if that is intended, run with UPDATE_EXPECT=1\n{found}",
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
fn google_benchmark_is_as_stored() {
    check(Format::GoogleBenchmark);
}

#[test]
fn github_action_benchmark_is_as_stored() {
    check(Format::GithubSmaller);
    check(Format::GithubBigger);
}

#[test]
fn junit_is_as_stored() {
    check(Format::Junit);
}

#[test]
fn markdown_is_as_stored() {
    check(Format::Markdown);
}

#[test]
fn the_criterion_tree_is_as_stored() {
    let tree = criterion::files(&report());
    let text: String = tree
        .iter()
        .map(|file| format!("{}\n{}\n", file.path, file.content))
        .collect();
    compare(&text, "criterion.txt");
}

#[test]
fn html_is_as_stored() {
    check(Format::Html);
}

/// Self-contained, without script, and well-formed: whatever the names are.
#[test]
fn the_page_is_well_formed_and_loads_nothing() {
    let hostile = "demo/<script>alert(1)<!--/\"'&]]>";
    let mut result = BenchmarkResult::new("a/b".parse().unwrap());
    result.mark_invalid("</pre><script>");
    result.warn(hostile.replace('/', "|"));
    result.extend_samples([
        wall(0, Phase::Measure, 0),
        wall(1, Phase::Measure, u64::MAX),
    ]);
    let mut empty = Histogram::new();
    empty.record(0);
    result.push_curve(empty.curve("zero", Unit::Count).unwrap());
    empty.record(u64::MAX);
    result.push_curve(empty.curve("all", Unit::Nanosecond).unwrap());
    let mut hostile_report = report();
    hostile_report.benchmarks.push(result);
    for kpi in &mut hostile_report.kpis {
        kpi.id = hostile.to_owned();
    }
    for comparison in &mut hostile_report.gate.as_mut().unwrap().comparisons {
        comparison.id = hostile.to_owned();
        comparison.reason = hostile.to_owned();
    }
    let empty = Report::new(Context::unknown(), Vec::new(), &KpiTable::empty());
    for report in [report(), hostile_report, empty] {
        for format in [Format::Html, Format::Junit] {
            let page = report.render(format);
            assert_well_formed(&page);
            for word in [
                "<script", "://", "NaN", "inf ", "src=", "href=", "@import", "url(",
            ] {
                assert!(!page.contains(word), "{format} has {word}");
            }
        }
    }
}

/// Every element closed, in order; every attribute quoted.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(begin) = rest.find('<') {
        assert!(
            !rest[..begin].contains('>'),
            "a stray > in {}",
            &rest[..begin]
        );
        rest = &rest[begin + 1..];
        let end = rest.find('>').expect("a tag that does not end");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['!', '?']) {
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        if tag == "style" {
            rest = &rest[rest.find("</style>").unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_has_every_chart_and_suits_phones_and_dark_mode() {
    let page = report().render(Format::Html);
    for text in [
        "name=\"viewport\"",
        "prefers-color-scheme: dark",
        "with 99 % interval; right is slower",
        "Density of the times of either side",
        "Ratio of every pair",
        "Run order",
        "pauses: median",
        "class=\"bar\"",
        "Error rates of this gate",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Every comparison with pairs has two charts, one chart has them all, the
    // sampled benchmark has two.
    let figures = page.matches("<figure").count();
    assert_eq!(figures, 2 * 5 + 1 + 2);
    let dots = page.matches("<title>pair ").count();
    let pairs: usize = report()
        .comparisons()
        .iter()
        .map(|c| c.pairs().count())
        .sum();
    assert_eq!(dots, pairs);
    for kpi in report().kpis {
        assert!(page.contains(&kpi.id), "{}", kpi.id);
    }
}

/// What `critcmp` and criterion itself demand of a tree.
#[test]
fn the_criterion_tree_has_criterions_shape() {
    let tree = criterion::files(&report());
    let read = |path: &str| -> Value {
        let file = tree.iter().find(|file| file.path == path);
        let file = file.unwrap_or_else(|| panic!("{path} is missing"));
        serde_json::from_str(&file.content).unwrap()
    };
    let estimate = |estimate: &Value| {
        let interval = &estimate["confidence_interval"];
        assert_eq!(interval["confidence_level"], 0.95);
        let [lo, point, hi] = [
            &interval["lower_bound"],
            &estimate["point_estimate"],
            &interval["upper_bound"],
        ]
        .map(|number| number.as_f64().unwrap());
        assert!(lo <= point && point <= hi, "{lo} {point} {hi}");
        assert!(estimate["standard_error"].is_f64());
    };
    let directory = "demo/compile/n=18, _cold_";
    for side in ["base", "new"] {
        let estimates = read(&format!("{directory}/{side}/estimates.json"));
        for key in ["mean", "median", "median_abs_dev", "std_dev"] {
            estimate(&estimates[key]);
        }
        assert!(estimates["slope"].is_null());
        let names = read(&format!("{directory}/{side}/benchmark.json"));
        assert_eq!(names["full_id"], "demo/compile/n=18, \"cold\"");
        assert_eq!(names["directory_name"], directory);
        let sample = read(&format!("{directory}/{side}/sample.json"));
        let count = |key: &str| sample[key].as_array().unwrap().len();
        assert!(count("iters") > 0 && count("iters") == count("times"));
    }
    let change = read(&format!("{directory}/change/estimates.json"));
    estimate(&change["mean"]);
    let change = change["median"]["point_estimate"].as_f64().unwrap();
    assert!((change - 0.12).abs() < 0.01, "{change}");

    let mut paths: Vec<&str> = tree.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), tree.len());
}

/// What Google Benchmark's `compare.py` reads.
#[test]
fn google_benchmark_rows_are_comparable() {
    let document: Value = serde_json::from_str(&report().render(Format::GoogleBenchmark)).unwrap();
    let rows = document["benchmarks"].as_array().unwrap();
    let of = |name: &str| rows.iter().filter(|row| row["name"] == name).count();
    assert_eq!(of("demo/compile/n=18, \"cold\""), 4);
    for row in rows {
        let name = row["name"].as_str().unwrap();
        // It fails on rows without a time.
        for key in ["real_time", "cpu_time"] {
            assert!(row[key].is_f64(), "{name}: {key}");
        }
        assert_eq!(row["time_unit"], "ns");
        if row["run_type"] == "aggregate" {
            let aggregate = row["aggregate_name"].as_str().unwrap();
            let expected = format!("{}_{aggregate}", row["run_name"].as_str().unwrap());
            assert_eq!(name, expected);
        }
    }
    let not_passed = document["context"]["not_passed"].as_array().unwrap();
    assert_eq!(not_passed[0], "demo/broken (fail): panicked: no memory");
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
fn a_damaged_comparison_is_refused() {
    let document: Value = serde_json::from_str(&report().to_json()).unwrap();
    for (pointer, bad, named) in [
        ("/gate/comparisons/1/screen/0/base_ns", 0, "demo/faster"),
        ("/gate/comparisons/1/screen/0/change_ns", -1, "demo/faster"),
        ("/gate/calibration/0/confirmed_alarms/trials", 0, "0 of 0"),
        (
            "/gate/calibration/0/detection/0/found/hits",
            101,
            "101 of 100",
        ),
    ] {
        let mut damaged = document.clone();
        *damaged.pointer_mut(pointer).unwrap() = Value::from(bad);
        let error = Report::from_json(&damaged.to_string()).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
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
