//! The tests the requirement documents name. They touch the public API only and
//! never look at how long anything took.

use std::time::Duration;

use perf_bench::{
    BenchmarkResult, BenchmarkSuite, BoxError, Clock as _, Context, Direction, KpiTable,
    ManualClock, Metrics, MonotonicClock, Timer, Unit, Verdict,
};

#[test]
fn test_timer() {
    let clock = ManualClock::new();
    let mut timer = Timer::with_clock(&clock);
    assert_eq!(timer.elapsed_ns(), 0);

    timer.start();
    clock.advance(Duration::from_nanos(1_500_000_001));
    assert_eq!(timer.elapsed_ns(), 1_500_000_001); // to the nanosecond
    assert_eq!(timer.stop(), Duration::from_nanos(1_500_000_001));
    assert!((timer.elapsed_us() - 1_500_000.001).abs() < 1e-6);
    assert!((timer.elapsed_ms() - 1_500.000_001).abs() < 1e-9);
    assert!((timer.elapsed_s() - 1.500_000_001).abs() < 1e-12);

    clock.advance(Duration::from_secs(9)); // stopped: does not count
    assert_eq!(timer.elapsed_s(), 1.500_000_001);

    timer.restart();
    clock.advance(Duration::from_nanos(3));
    assert_eq!(timer.stop(), Duration::from_nanos(3));

    // The real clock: what is measured takes at least as long as its body sees
    // the same clock move.
    let clock = MonotonicClock;
    let (inside, elapsed) = Timer::measure(|| {
        let begun = clock.mark();
        loop {
            let inside = clock.between(begun, clock.mark());
            if !inside.is_zero() {
                return inside;
            }
        }
    });
    assert!(elapsed >= inside, "{elapsed:?} around {inside:?}");
}

#[test]
fn test_metrics() {
    let metrics = Metrics::new("compile", Duration::from_millis(250), 1000)
        .with("hit rate", 99.5, Unit::Percent, Direction::Higher)
        .unwrap();
    assert_eq!(metrics.name(), "compile");
    assert_eq!(metrics.elapsed(), Duration::from_millis(250));
    assert_eq!(metrics.operations(), 1000);
    assert_eq!(metrics.throughput(), Some(4000.0));
    assert_eq!(metrics.latency_ns(), Some(250_000.0));
    let custom = metrics.custom("hit rate").unwrap();
    assert_eq!((custom.value(), custom.unit()), (99.5, Unit::Percent));

    let nothing = Metrics::new("nothing", Duration::ZERO, 0);
    assert_eq!((nothing.throughput(), nothing.latency_ns()), (None, None));
}

#[test]
fn test_benchmark_result() {
    let mut result = BenchmarkResult::new("jit/compile/opt".parse().unwrap());
    result.push_metrics(Metrics::new("cold", Duration::from_micros(60), 3));
    result.push_metrics(
        Metrics::new("warm", Duration::from_nanos(12), 3)
            .with("hit rate", 100.0, Unit::Percent, Direction::Higher)
            .unwrap(),
    );
    assert!(result.status().is_pass());
    assert_eq!(result.metrics().len(), 2);
    assert_eq!(
        result.to_string(),
        "\
jit/compile/opt: pass
  cold: 3 operations in 60 us, 50 K/s, 20 us each
  warm: 3 operations in 12 ns, 250 M/s, 4 ns each
    hit rate: 100 % (higher is better)
"
    );
    assert_eq!(
        result.to_csv(),
        "\
group,function,params,metrics,name,value,unit,direction,status
jit,compile,opt,cold,elapsed,60000,ns,lower,pass
jit,compile,opt,cold,operations,3,count,,pass
jit,compile,opt,cold,throughput,50000,1/s,higher,pass
jit,compile,opt,cold,latency,20000,ns,lower,pass
jit,compile,opt,warm,elapsed,12,ns,lower,pass
jit,compile,opt,warm,operations,3,count,,pass
jit,compile,opt,warm,throughput,250000000,1/s,higher,pass
jit,compile,opt,warm,latency,4,ns,lower,pass
jit,compile,opt,warm,hit rate,100,%,higher,pass
"
    );
    result.print().unwrap();

    result.mark_failed("the guest did not exit");
    assert!(!result.status().is_pass());
    assert_eq!(result.status().reason(), Some("the guest did not exit"));
}

#[test]
fn test_benchmark_suite() {
    let mut suite = BenchmarkSuite::new("everything");
    suite
        .add("demo/good", |mut result| {
            result.push_metrics(Metrics::new("m", Duration::from_micros(1), 10));
            result.record_kpi("good.ns", 100.0, Unit::Nanosecond)?;
            Ok::<_, BoxError>(result)
        })
        .unwrap();
    suite
        .add("demo/error", |_| -> Result<BenchmarkResult, BoxError> {
            Err("no such device".into())
        })
        .unwrap();
    suite
        .add("demo/panic", |_| -> Result<BenchmarkResult, BoxError> {
            panic!("index {} out of bounds", 7)
        })
        .unwrap();
    suite
        .add("demo/wrong", |mut result| {
            result.mark_invalid("checksum 0x1, expected 0x2");
            Ok::<_, BoxError>(result)
        })
        .unwrap();
    suite.add("demo/last", Ok::<_, BoxError>).unwrap();

    let run = suite.run();
    assert_eq!(run.total(), 5);
    assert_eq!((run.passed(), run.failed(), run.invalid()), (2, 2, 1));
    let reasons: Vec<_> = run
        .results()
        .iter()
        .filter_map(|result| result.status().reason())
        .collect();
    assert_eq!(
        reasons,
        [
            "no such device",
            "panicked: index 7 out of bounds",
            "checksum 0x1, expected 0x2"
        ]
    );
    let text = run.to_string();
    assert!(
        text.ends_with("total 5, passed 2, failed 2, invalid 1, filtered out 0\n"),
        "{text}"
    );

    let table = KpiTable::parse(
        "id,suite,metric,unit,direction,requirement,bar,anchor\n\
         good.ns,demo,what good takes,ns,lower,1000,50,\n",
    )
    .unwrap();
    let report = run.into_report(Context::unknown(), &table);
    assert_eq!(report.kpis[0].verdict, Verdict::BelowBar);
    assert!(report.warnings.is_empty());
}
