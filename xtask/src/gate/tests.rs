//! Gates over fake workers: shell scripts that answer as told.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use perf_bench::gate::{Pair, Verdict};

use super::measure::Layout;
use super::*;
use crate::scripts;

/// What a worker does where another is fine.
#[derive(Clone, Copy, Debug)]
struct Fake {
    /// Nanoseconds per iteration.
    ns: u64,
    checksum: u64,
    insts: u64,
    work: u64,
    /// Instructions by the CPU; without it, a host that does not count them.
    cpu_count: Option<u64>,
    /// In place of an answer to `run`.
    run: Option<&'static str>,
}

const FINE: Fake = Fake {
    ns: 1000,
    checksum: 7,
    insts: 100,
    work: 1,
    cpu_count: None,
    run: None,
};

impl Fake {
    fn script(&self) -> String {
        let Self {
            ns,
            checksum,
            insts,
            work,
            ..
        } = self;
        let answer =
            format!(r#"echo "{{\"ran\":{{\"ns\":$(($n * {ns})),\"checksum\":{checksum}}}}}""#);
        // The control is always fine: what is tried is the benchmark.
        let run = match self.run {
            None => answer.clone(),
            Some(run) => format!(r#"if [ "$id" = {CONTROL} ]; then {answer}; else {run}; fi"#),
        };
        let listed = |id: &str| format!(r#"{{"id":"{id}","kind":"compute","work":{work}}}"#);
        let list = format!("{},{}", listed(CONTROL), listed("a/b"));
        let count = match self.cpu_count {
            Some(count) => format!(r#"{{"counted":{count}}}"#),
            None => r#"{"refused":"no counter"}"#.to_owned(),
        };
        let counter = format!(r#"{{"name":"insts","value":{insts},"growth":null}}"#);
        format!(
            "#!/bin/sh\nwhile read -r verb n; do case $verb in\n\
             list) echo '{{\"benchmarks\":[{list}]}}' ;;\n\
             prepare) id=$n; echo '\"ready\"' ;;\n\
             run) {run} ;;\n\
             instructions) echo '{{\"instructions\":{count}}}' ;;\n\
             counters) echo '{{\"counters\":[{counter}]}}' ;;\n\
             quit) exit 0 ;;\n\
             esac; done\n"
        )
    }
}

/// Two scripts, with every layout the same.
struct Scripts([PathBuf; 2]);

impl Workers for Scripts {
    fn worker(&mut self, side: Side, _: Layout) -> Result<PathBuf> {
        Ok(self.0[usize::from(side == Side::Change)].clone())
    }

    fn has_layouts(&self) -> bool {
        true
    }
}

impl Scripts {
    fn write(name: &str, fakes: [Fake; 2]) -> Self {
        let dir = std::env::temp_dir().join(format!("xtask-gate-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut index = 0;
        Self(fakes.map(|fake| {
            index += 1;
            let path = dir.join(format!("worker-{index}"));
            scripts::write(&path, &fake.script());
            path
        }))
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0[0].parent().unwrap());
    }
}

fn settings(patience: Duration) -> Settings {
    Settings {
        layouts: 2,
        rounds: 2,
        sample_ns: 20_000,
        patience,
        seed: 1,
        inject: 0.0,
    }
}

/// Long enough for a machine under load; only a worker that hangs waits for it.
const PATIENT: Duration = Duration::from_secs(60);

fn gate(name: &str, base: Fake, change: Fake, settings: Settings) -> GateReport {
    let interrupt = Interrupt::of(Arc::default());
    let mut scripts = Scripts::write(name, [base, change]);
    let mut bench = Bench::new(&mut scripts, settings, &interrupt);
    let mut notes = Vec::new();
    let benchmarks = select(&mut bench, None, &mut notes).unwrap().unwrap();
    let mut evidence = Evidence {
        benchmarks,
        ..Evidence::default()
    };
    judge(
        &mut bench,
        &mut evidence,
        None,
        &Rules::default(),
        &mut notes,
    )
    .unwrap()
    .unwrap()
}

#[track_caller]
fn check(name: &str, base: Fake, change: Fake, verdict: Verdict, code: u8, reason: &str) {
    let patience = match change.run.or(base.run) {
        Some(HANG) => Duration::from_secs(1),
        _ => PATIENT,
    };
    let report = gate(name, base, change, settings(patience));
    let [comparison] = &report.comparisons[..] else {
        panic!("{:?}", report.comparisons);
    };
    assert_eq!(
        (comparison.verdict, report.exit_code()),
        (verdict, code),
        "{}",
        comparison.reason
    );
    assert!(comparison.reason.contains(reason), "{}", comparison.reason);
}

/// Ends when its input does, as the gate goes.
const HANG: &str = "read -r never";

#[test]
fn the_same_code_is_unchanged() {
    check("same", FINE, FINE, Verdict::Unchanged, 0, "");
}

#[test]
fn a_slow_worker_is_a_regression() {
    let slow = Fake { ns: 1100, ..FINE };
    check("slow", FINE, slow, Verdict::Regressed, 1, "confirmed");
    check("fast", slow, FINE, Verdict::Improved, 0, "faster");
}

#[test]
fn a_worker_that_hangs_crashes_or_talks_nonsense_is_invalid_with_the_reason() {
    for (name, run, reason) in [
        ("hung", HANG, "change: gave no answer within 1 s"),
        (
            "crash",
            "kill -SEGV $$",
            "change: the worker was ended by signal 11",
        ),
        ("status", "exit 3", "exit status: 3"),
        ("early", "exit 0", "ended before it answered"),
        (
            "garbled",
            "echo hello",
            "with \"hello\", which is no answer",
        ),
        (
            "error",
            r#"echo '{"error":"no memory"}'"#,
            "change: no memory",
        ),
        ("other", r#"echo '"ready"'"#, "answered \"run\" with Ready"),
        (
            "nothing",
            r#"echo '{"ran":{"ns":0,"checksum":7}}'"#,
            "which is no time",
        ),
    ] {
        let bad = Fake {
            run: Some(run),
            ..FINE
        };
        check(name, FINE, bad, Verdict::Invalid, 2, reason);
    }
    let bad = Fake {
        run: Some("exit 3"),
        ..FINE
    };
    check(
        "base",
        bad,
        FINE,
        Verdict::Invalid,
        2,
        "base: the worker gave up",
    );
}

#[test]
fn a_wrong_result_is_never_a_number() {
    let wrong = Fake {
        checksum: 8,
        ns: 900,
        ..FINE
    };
    let reason = "base computed 7, change computed 8";
    check("wrong", FINE, wrong, Verdict::Invalid, 2, reason);
}

#[test]
fn other_work_cannot_be_compared() {
    let more = Fake { insts: 101, ..FINE };
    check(
        "insts",
        FINE,
        more,
        Verdict::Invalid,
        2,
        "insts was 100, is 101",
    );
    let other = Fake { work: 2, ..FINE };
    check(
        "work",
        FINE,
        other,
        Verdict::Invalid,
        2,
        "not the same on both sides",
    );
}

#[test]
fn a_control_that_cannot_be_measured_spoils_wall_time() {
    let interrupt = Interrupt::of(Arc::default());
    let mut scripts = Scripts::write("control", [FINE, FINE]);
    let broken = FINE
        .script()
        .replace("run) ", "run) [ $id = control/sum ] && exit 1; ");
    fs::write(&scripts.0[1], broken).unwrap();
    let mut bench = Bench::new(&mut scripts, settings(PATIENT), &interrupt);
    let mut notes = Vec::new();
    let benchmarks = select(&mut bench, None, &mut notes).unwrap().unwrap();
    let mut evidence = Evidence {
        benchmarks,
        ..Evidence::default()
    };
    let report = judge(
        &mut bench,
        &mut evidence,
        None,
        &Rules::default(),
        &mut notes,
    )
    .unwrap()
    .unwrap();
    assert!(report.control.as_ref().unwrap().contaminated);
    assert_eq!(report.exit_code(), 2);
}

#[test]
fn injected_work_is_found_and_ctrl_c_ends_a_gate() {
    let injected = Settings {
        inject: 0.1,
        ..settings(PATIENT)
    };
    let report = gate("inject", FINE, FINE, injected);
    assert_eq!(report.exit_code(), 1, "{:?}", report.comparisons);

    let interrupt = Interrupt::of(Arc::new(true.into()));
    let mut scripts = Scripts::write("interrupt", [FINE, FINE]);
    let mut bench = Bench::new(&mut scripts, settings(PATIENT), &interrupt);
    let selected = select(&mut bench, None, &mut Vec::new()).unwrap();
    assert!(selected.is_none());
}

/// A linker that Ctrl-C ends, as it ends all of the group.
struct Interrupted(Scripts, Arc<std::sync::atomic::AtomicBool>);

impl Workers for Interrupted {
    fn worker(&mut self, side: Side, layout: Layout) -> Result<PathBuf> {
        if layout == Layout::Plain {
            return self.0.worker(side, layout);
        }
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        bail!("cargo ended with signal: 2 (SIGINT)");
    }

    fn has_layouts(&self) -> bool {
        true
    }
}

/// It was an error of the build, and what had been judged was lost.
#[test]
fn ctrl_c_while_a_layout_links_is_no_build_that_fails() {
    let flag = Arc::default();
    let interrupt = Interrupt::of(Arc::clone(&flag));
    let mut workers = Interrupted(Scripts::write("linking", [FINE, FINE]), flag);
    let mut bench = Bench::new(&mut workers, settings(PATIENT), &interrupt);
    let benchmarks = select(&mut bench, None, &mut Vec::new()).unwrap().unwrap();
    let mut evidence = Evidence {
        benchmarks,
        ..Evidence::default()
    };
    let rules = Rules::default();
    let judged = judge(&mut bench, &mut evidence, None, &rules, &mut Vec::new());
    assert_eq!(judged.unwrap(), None);
}

#[test]
fn what_was_judged_before_ctrl_c_is_kept_and_the_rest_marked() {
    let pairs = |ratio: f64, n: usize| {
        let pair = |index: usize| Pair {
            base_ns: 100.0 + (index % 3) as f64,
            change_ns: (100.0 + (index * 2 % 3) as f64) * ratio,
        };
        (0..n).map(pair).collect::<Vec<_>>()
    };
    let benchmark = |id: &str, ratio, n| {
        let mut evidence = BenchmarkEvidence::new(id.parse().unwrap(), Kind::Compute);
        evidence.screen = pairs(ratio, n);
        evidence
    };
    let mut evidence = Evidence {
        control: pairs(1.0, 10),
        benchmarks: vec![benchmark("a/done", 1.0, 10), benchmark("a/half", 1.0, 4)],
    };
    let rules = Rules::default();
    let report = Bench::judged_so_far(&mut evidence, &rules).unwrap();
    let seen: Vec<_> = report.comparisons.iter().map(|c| c.verdict).collect();
    assert_eq!(seen, [Verdict::Unchanged, Verdict::Invalid]);
    assert!(report.comparisons[1].reason.contains("interrupted"));
    evidence.benchmarks.remove(0);
    assert_eq!(Bench::judged_so_far(&mut evidence, &rules), None);
}

#[test]
fn a_gate_repeats_what_its_seed_drew() {
    let report = |seed| {
        let settings = Settings {
            seed,
            ..settings(PATIENT)
        };
        gate(&format!("seed-{seed}"), FINE, FINE, settings)
    };
    assert_eq!(report(5), report(5));
}

#[test]
fn calibration_counts_alarms_and_what_is_found() {
    let interrupt = Interrupt::of(Arc::default());
    let mut scripts = Scripts::write("calibrate", [FINE, FINE]);
    let mut bench = Bench::new(&mut scripts, settings(PATIENT), &interrupt);
    let benchmarks = select(&mut bench, None, &mut Vec::new()).unwrap().unwrap();
    let mut trials = Vec::new();
    let plan = calibrate::Plan {
        same: 3,
        injected: 2,
        effects: &[0.1],
    };
    let left = calibrate::measure(&mut bench, &benchmarks, plan, |rows| {
        trials.push(rows.to_vec());
        Ok(())
    });
    assert_eq!(left.unwrap(), None);
    let counts: Vec<_> = trials
        .iter()
        .map(|rows| {
            (
                rows[0].confirmed_alarms.trials,
                rows[0].detection[0].found.trials,
            )
        })
        .collect();
    assert_eq!(counts, [(1, 1), (2, 2), (3, 2)]);
    let [row] = &trials[2][..] else {
        panic!("one benchmark")
    };
    assert_eq!((row.screen_alarms.hits, row.confirmed_alarms.hits), (0, 0));
    assert_eq!(
        (row.detection[0].found.hits, row.detection[0].found.trials),
        (2, 2)
    );
    let table = text::calibration(std::slice::from_ref(row), 100);
    assert!(table.contains("+10 %: 100.00 % ["), "{table}");
}

#[test]
fn an_interrupted_calibration_says_what_is_left_of_it() {
    let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let interrupt = Interrupt::of(Arc::clone(&flag));
    let mut scripts = Scripts::write("rest", [FINE, FINE]);
    let mut bench = Bench::new(&mut scripts, settings(PATIENT), &interrupt);
    let benchmarks = select(&mut bench, None, &mut Vec::new()).unwrap().unwrap();
    let plan = calibrate::Plan {
        same: 4,
        injected: 2,
        effects: &[0.05, 0.1],
    };
    let left = calibrate::measure(&mut bench, &benchmarks, plan, |_| {
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    let left = left.unwrap().unwrap();
    assert_eq!((left.same, left.injected), (3, 1));
    let args = parse("--calibrate --quick a/").unwrap();
    assert_eq!(
        rest(&args, &left, true),
        "cargo xtask gate --calibrate --aa 3 --injected 1 --inject 0.05,0.1 --add --quick a/"
    );
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }
    Only::try_parse_from(format!("gate {line}").split_whitespace()).map(|only| only.args)
}

fn listed(id: &str) -> Listed {
    Listed {
        id: id.to_owned(),
        kind: Kind::Compute,
        work: 1,
    }
}

#[test]
fn a_new_benchmark_is_left_out_and_a_filter_that_selects_none_names_near_ones() {
    let change = [listed(CONTROL), listed("a/old"), listed("a/new")];
    let mut notes = Vec::new();
    let picked = pick(&change, &change[..2], Some("a/"), &mut notes).unwrap();
    assert_eq!(picked.len(), 1);
    assert!(notes[0].contains("a/new"), "{notes:?}");
    let error = pick(&change, &change, Some("odl"), &mut notes).unwrap_err();
    assert!(error.to_string().contains("near names: a/old"), "{error}");
    let error = pick(&change, &change[..1], None, &mut notes).unwrap_err();
    assert!(error.to_string().contains("--base"), "{error}");
}

#[test]
fn operands_are_checked() {
    for (line, part) in [
        ("--inject 0.05", "--calibrate"),
        ("--calibrate --inject 2", "0.01 to 1"),
        ("--calibrate --inject x", "0.01 to 1"),
        ("--calibrate --aa 0", "1..=100000"),
        ("--calibrate --base main", "--base"),
        ("--seed x", "invalid"),
    ] {
        let error = parse(line).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
    }
    let args = parse("--seed 9 --quick a/ --strict").unwrap();
    assert_eq!(args.settings().seed, 9);
    assert_eq!(
        reproduce(&args, "abc", 9),
        "cargo xtask gate --base abc --seed 9 --quick --strict a/"
    );
    assert!(parse("--calibrate --aa 5 --inject 0.02,0.05").is_ok());
}

/// As where there is no valgrind: what the CPU counts is enough.
#[test]
fn instructions_of_the_cpu_are_compared_and_a_host_without_is_no_fault() {
    let with = |count| Fake {
        cpu_count: Some(count),
        ..FINE
    };
    let report = gate("cpu-count", with(1000), with(1500), settings(PATIENT));
    assert_eq!(report.comparisons[0].ir_delta, Some(0.5));
    assert_eq!(report.exit_code(), 0, "they warn");
    let report = gate("no-cpu-count", with(1000), FINE, settings(PATIENT));
    assert_eq!(report.comparisons[0].ir_delta, None);
    assert_eq!(report.exit_code(), 0);
}
