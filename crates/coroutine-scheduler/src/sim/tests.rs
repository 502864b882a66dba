//! Oracles of the simulator: what theory says of each policy.

use std::time::Duration;

use super::*;
use crate::level::{LevelSet, Share};
use crate::policy::{
    BuiltIn, Facts, Fcfs, Interrupts, Levels, Mlfq, Place, Policy, Requeue, RoundRobin,
    SchedulingPolicy,
};
use crate::{Fairness, Priority};

const MS: u64 = 1_000_000;
const SLICE: Duration = Duration::from_millis(1);

fn one_vcpu() -> SimConfig {
    SimConfig {
        vcpu_count: 1,
        switch_ns: 0,
        ..SimConfig::default()
    }
}

fn every_policy(fairness: Fairness) -> [BuiltIn; 6] {
    SchedulingPolicy::ALL.map(|policy| BuiltIn::new(policy, SLICE, fairness))
}

fn run<P: Policy>(config: &SimConfig, policy: &P, workload: &Workload) -> SimReport {
    simulate(config, policy, workload).unwrap()
}

/// Runs and waits, over and over.
fn interactive(work_ns: u64, run_ns: u64, wait_ns: u64) -> Job {
    Job {
        burst: Some(Burst { run_ns, wait_ns }),
        ..Job::new(0, work_ns, Priority::Normal)
    }
}

#[test]
fn fcfs_waits_are_the_closed_form() {
    let config = SimConfig {
        switch_ns: 1_000,
        ..one_vcpu()
    };
    for seed in 0..20 {
        let workload = Generator::Poisson.generate(seed, 500, 1, 90);
        let report = run(&config, &Fcfs, &workload);
        let mut free_ns = 0;
        for (job, coroutine) in workload.jobs().iter().zip(&report.coroutines) {
            let start_ns = job.arrival_ns.max(free_ns);
            free_ns = start_ns + config.switch_ns + job.work_ns;
            assert_eq!(coroutine.waited_ns, start_ns - job.arrival_ns);
            assert_eq!(coroutine.end_ns, Some(free_ns));
        }
    }
}

#[test]
fn round_robin_waits_at_most_for_a_slice_of_everybody_else() {
    for n in [2, 7, 40] {
        let jobs = (0..n).map(|i| Job::new(i * 300_000, 10 * MS, Priority::Normal));
        let config = SimConfig {
            switch_ns: 5_000,
            ..one_vcpu()
        };
        let report = run(
            &config,
            &RoundRobin::new(SLICE),
            &Workload::new(jobs.collect()),
        );
        assert!(report.starvation_ns_max <= (n - 1) * (MS + config.switch_ns));
        assert_eq!(report.n_preemptions, 0);
    }
}

#[test]
fn strict_levels_are_never_inverted() {
    for (vcpu_count, seed) in [(1, 1), (1, 2), (2, 3), (5, 4)] {
        let config = SimConfig {
            vcpu_count,
            seed,
            ..SimConfig::default()
        };
        let workload = Generator::Poisson.generate(seed, 3_000, vcpu_count, 95);
        let strict = run(
            &config,
            &Levels::new(Interrupts::Never, SLICE, Fairness::Strict),
            &workload,
        );
        assert_eq!(strict.n_inversions, 0);
        let preemptive = run(
            &config,
            &Levels::new(Interrupts::Always, SLICE, Fairness::Strict),
            &workload,
        );
        assert_eq!(preemptive.n_inversions, 0);
        assert!(preemptive.n_preemptions > 0);
        // The other way round, the count does find some.
        let fcfs = run(&config, &Upside, &workload);
        assert!(fcfs.n_inversions > 0);
    }
}

/// Takes the least urgent level.
#[derive(Debug)]
struct Upside;

impl Policy for Upside {
    fn name(&self) -> &'static str {
        "upside-down"
    }

    fn slice(&self, _: Priority) -> Option<Duration> {
        None
    }

    fn pick(&self, ready: LevelSet, _: &mut Share, _: u64) -> Option<Priority> {
        Priority::ALL.into_iter().find(|level| ready.has(*level))
    }
}

#[test]
fn fair_levels_leave_low_an_eighth_of_normal() {
    let hog = |priority| Job::new(0, 10_000 * MS, priority);
    let workload = Workload::new(vec![hog(Priority::Low), hog(Priority::Normal)]);
    let config = SimConfig {
        until_ns: Some(900 * MS),
        ..one_vcpu()
    };
    let ran = |policy: &dyn Policy| {
        let report = simulate(&config, policy, &workload).unwrap();
        [report.coroutines[0].ran_ns, report.coroutines[1].ran_ns]
    };
    for policy in [
        &Levels::new(Interrupts::Never, SLICE, Fairness::Fair) as &dyn Policy,
        &Levels::new(Interrupts::RealTime, SLICE, Fairness::Fair),
        &Levels::new(Interrupts::Always, SLICE, Fairness::Fair),
    ] {
        assert_eq!(ran(policy), [100 * MS, 800 * MS], "{policy:?}");
    }
    assert_eq!(
        ran(&Levels::new(Interrupts::Never, SLICE, Fairness::Strict)),
        [0, 900 * MS]
    );
}

#[test]
fn only_realtime_interrupts_the_default() {
    // A hog, and one arrival in the middle of its slice.
    let arrival = |priority| {
        let jobs = vec![
            Job::new(0, 10 * MS, Priority::Normal),
            Job::new(MS / 2, 1_000, priority),
        ];
        let policy = Levels::new(Interrupts::RealTime, SLICE, Fairness::Fair);
        let report = run(&one_vcpu(), &policy, &Workload::new(jobs));
        (report.coroutines[1].waited_ns, report.n_preemptions)
    };
    assert_eq!(arrival(Priority::RealTime), (0, 1));
    assert_eq!(arrival(Priority::High), (MS / 2, 0));
}

#[test]
fn mlfq_sinks_a_hog_and_keeps_the_interactive_up() {
    // 4 ms is the allotment at Normal. The hog sinks, the editor, which uses
    // 50 µs every 5.4 ms, never does and always interrupts it.
    let jobs = vec![
        Job::new(0, 600 * MS, Priority::Normal),
        interactive(5 * MS, 50_000, 5_370_000),
    ];
    let mlfq = Mlfq::new(SLICE, Fairness::Strict);
    let report = run(&one_vcpu(), &mlfq, &Workload::new(jobs.clone()));
    // Only while the hog has not sunk yet, at the start and after each boost.
    let wait_of_editor = report.coroutines[1].wait_ns_max;
    assert!(wait_of_editor <= 4 * MS, "{wait_of_editor}");
    assert!(report.n_preemptions >= 80, "{}", report.n_preemptions);
    assert_eq!(report.response.p50_ns, 50_000, "as if it were alone");
    let turns = run(&one_vcpu(), &RoundRobin::new(SLICE), &Workload::new(jobs));
    assert!(turns.response.p50_ns > 200_000, "{:?}", turns.response);
}

#[test]
fn mlfq_is_not_fooled_by_a_yield_before_the_slice_ends() {
    // Both want everything; the gamer gives up the vCPU for 1 µs after 3.9 of
    // its 4 ms. It sinks all the same, and gets no more than its half.
    let mut gamer = interactive(10_000 * MS, 3_900_000, 1_000);
    gamer.priority = Priority::Normal;
    let honest = Job::new(0, 10_000 * MS, Priority::Normal);
    let config = SimConfig {
        until_ns: Some(2_000 * MS),
        ..one_vcpu()
    };
    let mlfq = Mlfq::new(SLICE, Fairness::Strict);
    let report = run(&config, &mlfq, &Workload::new(vec![gamer, honest]));
    let [gamer, honest] = [0, 1].map(|i| report.coroutines[i].ran_ns);
    assert!(gamer < honest * 11 / 10, "{gamer} {honest}");
}

#[test]
fn mlfq_boosts_who_sank() {
    // A hog that sinks within 12 ms, and from then on more work at Normal than
    // the vCPU can do.
    let mut jobs = vec![Job::new(0, 100 * MS, Priority::Normal)];
    jobs.extend((0..2_000).map(|i| Job::new(i * MS / 2, MS, Priority::Normal)));
    let workload = Workload::new(jobs);
    let config = SimConfig {
        until_ns: Some(600 * MS),
        ..one_vcpu()
    };
    let mlfq = Mlfq::new(SLICE, Fairness::Strict);
    let boosted = run(&config, &mlfq, &workload);
    let starved = run(&config, &NoBoost(mlfq), &workload);
    // Its first turn, and with boosts one for each of those it was in line for.
    assert_eq!(starved.coroutines[0].n_turns, 1);
    assert!(boosted.coroutines[0].n_turns > 1);
}

#[derive(Debug)]
struct NoBoost(Mlfq);

impl Policy for NoBoost {
    fn name(&self) -> &'static str {
        "mlfq without boost"
    }

    fn level(&self, facts: &Facts) -> Priority {
        self.0.level(facts)
    }

    fn requeue(&self, facts: &Facts, why: Requeue) -> Place {
        self.0.requeue(facts, why)
    }

    fn slice(&self, level: Priority) -> Option<Duration> {
        self.0.slice(level)
    }

    fn pick(&self, ready: LevelSet, share: &mut Share, now_ns: u64) -> Option<Priority> {
        self.0.pick(ready, share, now_ns)
    }
}

/// A workload with everything: bursts, yields, deadlines, all priorities.
fn mixed(seed: u64) -> Workload {
    let jobs = Generator::Poisson
        .generate(seed, 400, 3, 90)
        .jobs()
        .to_vec();
    let jobs = (0..).zip(jobs).map(|(index, job): (u64, Job)| {
        let run_ns = 20_000 + index * 100;
        Job {
            deadline_ns: (index % 3 == 0).then_some(300_000),
            burst: match index % 4 {
                0 => Some(Burst { run_ns, wait_ns: 0 }),
                1 => Some(Burst {
                    run_ns,
                    wait_ns: 70_000,
                }),
                _ => None,
            },
            ..job
        }
    });
    Workload::new(jobs.collect())
}

/// Replays a trace: every turn has a start and an end, nobody is in two
/// places, nothing happens backwards.
#[track_caller]
fn check_trace(report: &SimReport) {
    let mut running = vec![None; report.vcpu_count];
    let mut last_ns = 0;
    for event in &report.trace.events {
        assert!(event.at_ns >= last_ns);
        last_ns = event.at_ns;
        let here = &mut running[usize::from(event.vcpu)];
        if event.what == What::Started {
            assert_eq!(*here, None);
            *here = Some(event.coroutine);
            let places = running.iter().filter(|id| **id == Some(event.coroutine));
            assert_eq!(places.count(), 1, "{event:?}");
        } else if event.what.ends_turn() {
            assert_eq!(*here, Some(event.coroutine), "{event:?}");
            *here = None;
        }
    }
    assert_eq!(report.trace.events.len() as u64, report.trace.n_events);
}

#[test]
fn no_policy_loses_work_or_time() {
    for (vcpu_count, seed) in [(1, 1), (2, 2), (4, 3)] {
        for (fairness, stealing) in [
            (Fairness::Fair, true),
            (Fairness::Strict, true),
            (Fairness::Fair, false),
        ] {
            let config = SimConfig {
                seed,
                vcpu_count,
                stealing,
                keeps_trace: true,
                ..SimConfig::default()
            };
            let workload = mixed(seed);
            for policy in every_policy(fairness) {
                let report = run(&config, &policy, &workload);
                check_trace(&report);
                for (job, coroutine) in workload.jobs().iter().zip(&report.coroutines) {
                    assert_eq!(coroutine.ran_ns, job.work_ns, "{policy:?}");
                    let response_ns = coroutine.response_ns.unwrap();
                    let switches_ns = response_ns - coroutine.ran_ns - coroutine.waited_ns;
                    assert!(switches_ns <= coroutine.n_turns * config.switch_ns);
                }
                assert!(stealing || report.n_migrations == 0);
                let n_requests = |job: &Job| match job.burst {
                    Some(burst) => job.work_ns.div_ceil(burst.run_ns) as usize,
                    None => 1,
                };
                let expected: usize = workload.jobs().iter().map(n_requests).sum();
                assert_eq!(report.response.count, expected);
            }
        }
    }
}

#[test]
fn a_seed_is_a_trace() {
    let hash = |seed, policy| {
        let config = SimConfig {
            seed,
            vcpu_count: 4,
            placement: Placement::First,
            ..SimConfig::default()
        };
        run(&config, &policy, &mixed(9)).trace.hash
    };
    for policy in every_policy(Fairness::Fair) {
        assert_eq!(hash(1, policy), hash(1, policy), "{policy:?}");
        assert_ne!(hash(1, policy), hash(2, policy), "{policy:?}");
    }
    // From whichever machine.
    let config = SimConfig::default();
    let workload = Generator::Bimodal.generate(1, 2_000, 2, 80);
    let report = run(
        &config,
        &Levels::new(Interrupts::RealTime, SLICE, Fairness::Fair),
        &workload,
    );
    assert_eq!(report.trace.hash, 0xee0b_d4ee_1172_e50e);
}

#[test]
fn a_kept_trace_changes_nothing() {
    let config = SimConfig::default();
    let kept = SimConfig {
        keeps_trace: true,
        ..config.clone()
    };
    let (with, without) = (run(&kept, &Fcfs, &mixed(1)), run(&config, &Fcfs, &mixed(1)));
    assert_eq!(with.trace.hash, without.trace.hash);
    assert_eq!(without.trace.events, []);
}

#[test]
fn stealing_evens_a_skewed_birth() {
    let workload = Generator::Skewed.generate(1, 2_000, 4, 100);
    let imbalance = |stealing, placement| {
        let config = SimConfig {
            vcpu_count: 4,
            stealing,
            placement,
            ..SimConfig::default()
        };
        let policy = Levels::new(Interrupts::RealTime, SLICE, Fairness::Fair);
        let report = run(&config, &policy, &workload);
        (report.imbalance * 100.0).round() as u32
    };
    assert!(imbalance(true, Placement::First) <= 5);
    assert_eq!(imbalance(false, Placement::First), 300);
    assert!(imbalance(false, Placement::RoundRobin) <= 10);
}

#[test]
fn equal_shares_are_fair() {
    assert_eq!(jain_index(&[0.25; 7]), 1.0);
    assert_eq!(jain_index(&[1.0, 0.0, 0.0, 0.0]), 0.25);
    assert_eq!(jain_index(&[]), 1.0);
    // Five hogs take turns, and leave together.
    let jobs = vec![Job::new(0, 50 * MS, Priority::Normal); 5];
    let config = SimConfig {
        until_ns: Some(100 * MS),
        ..one_vcpu()
    };
    let workload = Workload::new(jobs);
    let turns = run(&config, &RoundRobin::new(SLICE), &workload);
    assert!((turns.fairness - 1.0).abs() < 1e-12);
    assert!(run(&config, &Fcfs, &workload).fairness < 0.5);
}

#[test]
fn deadlines_count_from_the_arrival() {
    let job = |arrival_ns, deadline_ns| Job {
        deadline_ns: Some(deadline_ns),
        ..Job::new(arrival_ns, 2 * MS, Priority::Normal)
    };
    // Ends are at 2, 4 and 6 ms; the last is cut at 5 ms, past its deadline.
    let jobs = vec![
        job(0, 2 * MS),
        job(MS, 2 * MS),
        job(MS, 3 * MS),
        job(MS, 90 * MS),
    ];
    let config = SimConfig {
        until_ns: Some(5 * MS),
        ..one_vcpu()
    };
    let report = run(&config, &Fcfs, &Workload::new(jobs));
    let missed: Vec<bool> = report
        .coroutines
        .iter()
        .map(|c| c.missed_deadline)
        .collect();
    assert_eq!(missed, [false, true, true, false]);
    assert_eq!(report.deadline_misses, 2);
    assert_eq!(report.end_ns, 5 * MS);
    assert_eq!(report.starvation_ns_max, 4 * MS, "the fourth never ran");
    assert_eq!(report.utilisation, [1.0]);
}

#[test]
fn what_cannot_be_simulated_is_refused_by_name() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut SimConfig), job: Job, field: &str) {
        let mut config = SimConfig::default();
        change(&mut config);
        let error = simulate(&config, &Fcfs, &Workload::new(vec![job])).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
    let job = || Job::new(0, 1, Priority::Normal);
    check(|c| c.vcpu_count = 0, job(), "vcpu_count");
    check(|c| c.vcpu_count = 65, job(), "vcpu_count");
    check(|c| c.switch_ns = u64::MAX, job(), "switch_ns");
    check(|_| (), Job::new(0, 0, Priority::Low), "workload");
    check(|_| (), Job::new(0, u64::MAX, Priority::Low), "workload");
    check(|_| (), interactive(u64::MAX, 1, u64::MAX), "workload");
    let nothing = run(&SimConfig::default(), &Fcfs, &Workload::default());
    assert_eq!((nothing.end_ns, nothing.fairness), (0, 1.0));
}
