//! The table of targets, and the suites on small inputs: every workload ends
//! with a checked number or says what is missing.

#![allow(
    clippy::print_stdout,
    reason = "`cargo xtask test` reads what was skipped"
)]

use std::path::{Path, PathBuf};

use perf_bench::{BenchmarkId, BenchmarkResult, KpiTable, Unit};
use vm_benches::guests::Guests;
use vm_benches::{
    CrossArchBenchmark, JitBenchmark, KPI_TABLE, Lab, Measured, PerfBenchmark, ScheduleBenchmark,
    Suite, Workload, workloads,
};

fn lab() -> Lab {
    Lab {
        guests: Guests::load(Path::new("guests")).unwrap(),
        // Whole processes need the release build, which a test does not have.
        hartloom: None,
        scratch: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        is_quick: true,
        deadline: None,
        ended: Default::default(),
    }
}

/// Runs those workloads of a suite that take this process only.
#[track_caller]
fn check(workloads: &[Workload], ids: &[&str]) {
    let lab = lab();
    let table = KpiTable::parse(KPI_TABLE).unwrap();
    for id in ids {
        let workload = workloads
            .iter()
            .find(|workload| workload.id == *id)
            .unwrap();
        let id: BenchmarkId = id.parse().unwrap();
        match (workload.body)(&lab, BenchmarkResult::new(id)).unwrap() {
            Measured::Skipped(reason) => println!("skipped: {}: {reason}", workload.id),
            Measured::Done(result) => {
                assert!(result.status().is_pass(), "{result}");
                let measured: Vec<&str> = result.kpis().iter().map(|kpi| kpi.id()).collect();
                assert_eq!(measured, workload.kpis, "{result}");
                let (_, errors) = table.judge(&[result]);
                assert_eq!(errors, []);
            }
        }
    }
}

#[test]
fn test_schedule_benchmark() {
    check(
        ScheduleBenchmark::WORKLOADS,
        &[
            "schedule/idle",
            "schedule/yield",
            "schedule/spawn",
            "schedule/chained_spawn",
            "schedule/pingpong",
            "schedule/balance",
            "schedule/order",
            "schedule/stackful",
            "schedule/ring",
        ],
    );
}

#[test]
fn test_jit_benchmark() {
    check(
        JitBenchmark::WORKLOADS,
        &["jit/batch5", "jit/block_entry", "jit/cache_hit"],
    );
}

#[test]
fn test_cross_arch_benchmark() {
    check(CrossArchBenchmark::WORKLOADS, &["cross_arch/syscall"]);
}

#[test]
fn test_perf_benchmark() {
    check(PerfBenchmark::WORKLOADS, &["perf_bench/timer_pair"]);
}

#[test]
fn test_full_suite() {
    let table = KpiTable::parse(KPI_TABLE).unwrap();
    let mut ids = Vec::new();
    let mut rows = Vec::new();
    for workload in workloads() {
        let _: BenchmarkId = workload.id.parse().unwrap();
        ids.push(workload.id);
        for kpi in workload.kpis {
            assert!(
                table.row(kpi).is_some(),
                "{} measures {kpi}, which no row is",
                workload.id
            );
            rows.push(*kpi);
        }
    }
    let (n_ids, n_rows) = (ids.len(), rows.len());
    ids.sort_unstable();
    ids.dedup();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(
        (ids.len(), rows.len()),
        (n_ids, n_rows),
        "a name or a row serves twice"
    );
    // The suites that exist own every one of their rows.
    for row in table.rows() {
        if ["jit", "cross_arch"].contains(&row.suite.as_str()) {
            assert!(
                rows.contains(&row.id.as_str()),
                "nothing measures {}",
                row.id
            );
        }
    }
}

#[test]
fn the_kpi_table_is_complete_and_well_formed() {
    let table = KpiTable::parse(KPI_TABLE).unwrap();
    assert_eq!(table.rows().len(), 66);
    for row in table.rows() {
        let (prefix, name) = row.id.split_once('.').expect("suite.name");
        assert!(!prefix.is_empty() && !name.is_empty(), "{}", row.id);
        assert!(
            !row.metric.is_empty() && !row.suite.is_empty(),
            "{}",
            row.id
        );
        assert!(
            row.requirement.is_some() || row.bar.is_some(),
            "{} has no bound",
            row.id
        );
    }
    let row = table.row("jit.compile_us_per_block").unwrap();
    assert_eq!(
        (row.unit, row.requirement),
        (Unit::Microsecond, Some(100.0))
    );
}

#[test]
fn a_wrong_output_is_no_number() {
    let lab = lab();
    let guest = lab.guests.named("hello").unwrap();
    let mut engine = vm_runtime::build_engine(vm_runtime::EngineKind::ALL[0]);
    // The quick size's output is not that of a guest with other arguments.
    let mut other = guest.clone();
    other.elf = lab.guests.named("fib").unwrap().elf.clone();
    let error = vm_benches::in_process::run_guest(
        &lab,
        &other,
        vm_benches::guests::Size::Quick,
        &mut *engine,
    )
    .unwrap_err();
    assert!(error.to_string().contains("expected"), "{error}");
}
