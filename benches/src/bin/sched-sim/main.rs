//! Compares scheduling policies on a simulated machine; started by
//! `cargo xtask sim`.
//!
//! The simulator, the tables and the picture are `coroutine_scheduler::sim`.
//! Here are its flags, its files and its JSON.

mod args;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use coroutine_scheduler::Fairness;
use coroutine_scheduler::policy::{BuiltIn, SchedulingPolicy};
use coroutine_scheduler::sim::{
    Generator, Placement, SimConfig, SimReport, Spread, Workload, comparison_svg, comparison_table,
    coroutine_table, simulate,
};
use serde_json::{Value, json};

use args::Args;

/// What runs if nothing else is asked for.
const MIXED: &str = include_str!("../../../../docs/scheduler/mixed.csv");

#[derive(Parser)]
#[command(
    name = "cargo xtask sim",
    bin_name = "cargo xtask sim",
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    vm_benches::exit_code(run(&Cli::parse().args))
}

fn run(args: &Args) -> Result<()> {
    let comparison = Comparison::of(args)?;
    if let Some(path) = &args.svg {
        std::fs::write(path, comparison.picture(args))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let out = match args.json {
        true => format!("{:#}\n", comparison.document(args)),
        false => comparison.tables(args),
    };
    match io::stdout().lock().write_all(out.as_bytes()) {
        // Whoever closes the pipe early has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// A workload, a machine, and what each policy made of them.
struct Comparison {
    title: String,
    workload: Workload,
    config: SimConfig,
    reports: Vec<SimReport>,
}

impl Comparison {
    fn of(args: &Args) -> Result<Self> {
        let (title, workload, born) = workload_of(args)?;
        let config = SimConfig {
            seed: args.seed,
            vcpu_count: usize::from(args.vcpus),
            switch_ns: args.switch_ns,
            stealing: !args.no_stealing,
            placement: placement_of(args)?.unwrap_or(born),
            until_ns: args.until_ms.map(|ms| u64::from(ms) * 1_000_000),
            keeps_trace: args.svg.is_some(),
        };
        let time_slice = Duration::from_micros(args.slice_us);
        let mut reports = Vec::new();
        for policy in policies_of(args)? {
            let policy = BuiltIn::new(policy, time_slice, fairness_of(args));
            reports.push(simulate(&config, &policy, &workload)?);
        }
        Ok(Self {
            title,
            workload,
            config,
            reports,
        })
    }

    /// In a line.
    fn machine(&self, args: &Args) -> String {
        let config = &self.config;
        let n = config.vcpu_count;
        format!(
            "{n} vCPU{}, slice {} µs, switch {} ns, {} levels, {}, born {}, seed {}",
            if n == 1 { "" } else { "s" },
            args.slice_us,
            config.switch_ns,
            args.fairness,
            if config.stealing {
                "stealing"
            } else {
                "no stealing"
            },
            config.placement,
            config.seed,
        )
    }

    fn picture(&self, args: &Args) -> String {
        let title = format!("{}, {}", self.title, self.machine(args));
        comparison_svg(&title, &self.workload, &self.reports)
    }

    fn tables(&self, args: &Args) -> String {
        let n_jobs = self.workload.jobs().len();
        let (title, machine) = (&self.title, self.machine(args));
        let mut out = format!("{title}: {n_jobs} coroutines, {machine}\n\n");
        out.push_str(&comparison_table(&self.reports));
        if args.each {
            for report in &self.reports {
                let table = coroutine_table(report);
                out.push_str(&format!("\n{}\n\n{table}", report.policy));
            }
        }
        out
    }

    /// Hashes are text: a JSON number loses digits beyond 2^53.
    fn document(&self, args: &Args) -> Value {
        let config = &self.config;
        let policies = self.reports.iter().map(|report| policy(args, report));
        json!({
            "schema": "hartloom-sim-1",
            "simulated": true,
            "workload": self.title,
            "coroutines": self.workload.jobs().len(),
            "seed": config.seed,
            "vcpus": config.vcpu_count,
            "slice_ns": args.slice_us * 1_000,
            "switch_ns": config.switch_ns,
            "fairness": args.fairness,
            "stealing": config.stealing,
            "placement": config.placement.name(),
            "until_ns": config.until_ns,
            "policies": policies.collect::<Vec<_>>(),
        })
    }
}

/// What to call it, what it is, and where it is born.
fn workload_of(args: &Args) -> Result<(String, Workload, Placement)> {
    if let Some(name) = &args.generate {
        let generator: Generator = name.parse()?;
        let vcpus = usize::from(args.vcpus);
        let workload = generator.generate(args.seed, args.count, vcpus, args.load);
        let title = match generator {
            Generator::Skewed => name.clone(),
            _ => format!("{name} at {} % load", args.load),
        };
        return Ok((title, workload, generator.placement()));
    }
    let (title, text) = match &args.workload {
        None => ("mixed.csv".to_owned(), MIXED.to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or(path.as_os_str());
            (name.display().to_string(), text)
        }
    };
    let workload = Workload::from_csv(&text).with_context(|| title.clone())?;
    if workload.jobs().is_empty() {
        bail!("{title} has a header and nothing below it");
    }
    Ok((title, workload, Placement::default()))
}

fn policies_of(args: &Args) -> Result<Vec<SchedulingPolicy>> {
    if args.policies.is_empty() {
        return Ok(SchedulingPolicy::ALL.to_vec());
    }
    let policies = args.policies.iter().map(|name| name.parse());
    Ok(policies.collect::<Result<_, _>>()?)
}

fn placement_of(args: &Args) -> Result<Option<Placement>> {
    let Some(name) = &args.placement else {
        return Ok(None);
    };
    let found = Placement::ALL.into_iter().find(|p| p.name() == name);
    found
        .with_context(|| format!("no placement is called {name}"))
        .map(Some)
}

fn fairness_of(args: &Args) -> Fairness {
    match args.fairness.as_str() {
        "strict" => Fairness::Strict,
        _ => Fairness::Fair,
    }
}

fn policy(args: &Args, report: &SimReport) -> Value {
    let by_priority: serde_json::Map<String, Value> = coroutine_scheduler::Priority::ALL
        .into_iter()
        .map(|priority| (priority, &report.response_of[priority.level()]))
        .filter(|(_, responses)| responses.count > 0)
        .map(|(priority, responses)| (priority.name().to_owned(), spread(responses)))
        .collect();
    let mut value = json!({
        "policy": report.policy,
        "end_ns": report.end_ns,
        "response": spread(&report.response),
        "response_by_priority": by_priority,
        "fairness_jain": report.fairness,
        "throughput_per_s": report.throughput,
        "utilisation": report.utilisation,
        "imbalance": report.imbalance,
        "imbalance_variance": report.imbalance_variance,
        "starvation_ns_max": report.starvation_ns_max,
        "deadline_misses": report.deadline_misses,
        "switches": report.n_switches,
        "preemptions": report.n_preemptions,
        "migrations": report.n_migrations,
        "inversions": report.n_inversions,
        "events": report.trace.n_events,
        "trace_hash": format!("{:016x}", report.trace.hash),
    });
    if args.each {
        let each = report.coroutines.iter().map(|coroutine| {
            json!({
                "id": coroutine.id.get(),
                "name": coroutine.name,
                "priority": coroutine.priority.name(),
                "arrival_ns": coroutine.arrival_ns,
                "start_ns": coroutine.start_ns,
                "end_ns": coroutine.end_ns,
                "response_ns": coroutine.response_ns,
                "waited_ns": coroutine.waited_ns,
                "wait_ns_max": coroutine.wait_ns_max,
                "turns": coroutine.n_turns,
                "migrations": coroutine.n_migrations,
                "missed_deadline": coroutine.missed_deadline,
            })
        });
        value["each"] = each.collect();
    }
    value
}

fn spread(spread: &Spread) -> Value {
    json!({
        "count": spread.count,
        "mean_ns": spread.mean_ns,
        "p50_ns": spread.p50_ns,
        "p99_ns": spread.p99_ns,
        "max_ns": spread.max_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn args(words: &str) -> Args {
        let words = std::iter::once("sim").chain(words.split_whitespace());
        Cli::try_parse_from(words).unwrap().args
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
        for placement in Placement::ALL {
            let args = args(&format!("--placement {placement}"));
            assert_eq!(placement_of(&args).unwrap(), Some(placement));
        }
        assert!(policies_of(&args("--policies fcfs,cfs")).is_err());
        assert_eq!(policies_of(&args("")).unwrap(), SchedulingPolicy::ALL);
        assert!(workload_of(&args("--generate pareto")).is_err());
    }

    /// The committed workload is there to show differences.
    #[test]
    fn the_mixed_workload_tells_policies_apart() {
        let args = args("--vcpus 1 --each");
        let comparison = Comparison::of(&args).unwrap();
        let [fcfs, turns, levels, mlfq, _, preemptive] = &comparison.reports[..] else {
            panic!("six policies");
        };
        let urgent = |report: &SimReport| report.response_of[3].p99_ns;
        assert!(urgent(turns) * 3 < urgent(fcfs), "turns help the urgent");
        assert!(urgent(levels) * 2 < urgent(turns), "levels help more");
        assert!(urgent(preemptive) < 300_000, "no slice to wait for");
        let median = |report: &SimReport| report.response.p50_ns;
        assert!(median(mlfq) * 2 < median(levels), "the editor stays up");

        let value = comparison.document(&args);
        assert_eq!(value["policies"][3]["policy"], "mlfq");
        let each = value["policies"][0]["each"].as_array().unwrap();
        assert_eq!(each.len(), comparison.workload.jobs().len());
        assert!(comparison.tables(&args).contains("editor"));
    }

    #[test]
    fn the_committed_picture_is_what_the_command_makes() {
        let args = args("--vcpus 1 --svg policies.svg");
        let picture = Comparison::of(&args).unwrap().picture(&args);
        let committed = include_str!("../../../../docs/scheduler/policies.svg");
        assert!(
            picture == committed,
            "run cargo xtask sim --vcpus 1 --svg docs/scheduler/policies.svg"
        );
    }
}
