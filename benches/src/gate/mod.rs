//! What `cargo xtask gate` measures: small bodies over the real crates, each in a
//! process of its own beside one of the other build.
//!
//! The parent writes lines, this process answers each with one line of JSON:
//!
//! ```text
//!  list            {"benchmarks":[{"id":…,"kind":…,"work":…}]}
//!  prepare ID      "ready"                inputs are made, the body ran once
//!  run N           {"ran":{"ns":…,"checksum":…}}  N iterations after some that warm up
//!  instructions N  {"instructions":{"counted":…}} or {"…":{"refused":…}}, of as many
//!  counters        {"counters":[{"name":…,"value":…,"growth":…}]}
//!  quit            ends the process, as does the end of its input
//!  otherwise       {"error":…}            and the process ends
//! ```
//!
//! `work` changes with the files in which a benchmark and its inputs are: two builds
//! with different ones do different work and cannot be compared.

mod engines;
mod hardware;
mod memory;
mod programs;
mod scheduler;

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use perf_bench::alloc::count_allocations;
use perf_bench::gate::Kind;
use serde::Serialize;

/// A body: one call is one iteration and gives a checksum of what it computed,
/// which is the same every time.
type Body = Box<dyn FnMut() -> Result<u64>>;

/// A benchmark of the gate.
struct Gated {
    id: &'static str,
    kind: Kind,
    /// What it does, as bytes: its source and inputs.
    work: &'static [&'static [u8]],
    prepare: fn() -> Result<Body>,
    counters: fn() -> Result<Vec<Counter>>,
}

impl Gated {
    /// FNV-1a.
    fn work(&self) -> u64 {
        let bytes = self.work.iter().copied().flatten();
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// What is exact about it: its own counters, and what one iteration allocates.
    /// Of several threads, which of them allocates is not.
    fn counters(&self, body: &mut Body) -> Result<Vec<Counter>> {
        let mut counters = (self.counters)()?;
        if self.kind != Kind::Threaded {
            let (ran, counted) = count_allocations(body);
            ran?;
            if let Some(counted) = counted {
                counters.push(Counter::size("allocations", counted.count));
                counters.push(Counter::size("allocated_bytes", counted.bytes));
            }
        }
        Ok(counters)
    }
}

/// All of them. The first is the control's.
fn gated() -> impl Iterator<Item = &'static Gated> {
    [
        memory::GATED,
        engines::GATED,
        programs::GATED,
        scheduler::GATED,
    ]
    .into_iter()
    .flatten()
}

/// One answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Benchmarks(Vec<Listed>),
    Ready,
    Ran { ns: u64, checksum: u64 },
    Instructions(Instructions),
    Counters(Vec<Counter>),
    Error(String),
}

/// What the CPU counted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Instructions {
    Counted(u64),
    /// Why this host does not count them.
    Refused(String),
}

#[derive(Debug, Serialize)]
struct Listed {
    id: &'static str,
    kind: Kind,
    work: u64,
}

/// A counter without noise.
#[derive(Debug, Serialize)]
struct Counter {
    name: &'static str,
    value: u64,
    /// The share by which it may grow; `None` if it counts the work itself and
    /// may not change.
    growth: Option<f64>,
}

impl Counter {
    const fn equal(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value,
            growth: None,
        }
    }

    /// Something that should be small.
    const fn size(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value,
            growth: Some(0.01),
        }
    }
}

/// Answers requests until there are no more. A request that fails is answered with
/// its error, which is the last answer. A parent that is gone ends them, too, whether
/// it is missed in reading or in writing.
///
/// # Errors
/// If requests cannot be read or answers not be written.
pub fn serve(requests: impl BufRead, mut answers: impl Write) -> Result<()> {
    let mut prepared = None;
    for request in requests.lines() {
        let request = request.context("cannot read requests")?;
        if request == "quit" {
            break;
        }
        let answer = answer(&request, &mut prepared);
        let is_last = answer.is_err();
        let answer = answer.unwrap_or_else(|error| Answer::Error(format!("{error:#}")));
        let line = serde_json::to_string(&answer)? + "\n";
        let sent = answers.write_all(line.as_bytes());
        match sent.and_then(|()| answers.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            sent => sent.context("cannot write answers")?,
        }
        if is_last {
            break;
        }
    }
    Ok(())
}

fn answer(request: &str, prepared: &mut Option<(&'static Gated, Body)>) -> Result<Answer> {
    let (verb, operand) = request.split_once(' ').unwrap_or((request, ""));
    Ok(match verb {
        "list" => Answer::Benchmarks(
            gated()
                .map(|gated| Listed {
                    id: gated.id,
                    kind: gated.kind,
                    work: gated.work(),
                })
                .collect(),
        ),
        "prepare" => {
            let gated = gated()
                .find(|gated| gated.id == operand)
                .with_context(|| format!("there is no benchmark {operand:?}"))?;
            let mut body = (gated.prepare)()?;
            body().context(gated.id)?;
            *prepared = Some((gated, body));
            Answer::Ready
        }
        "run" => {
            let (gated, body) = prepared.as_mut().context("`prepare` comes first")?;
            let iters = warm_up(gated, body, operand)?;
            let start = Instant::now();
            let checksum = gate_iterations(body, iters).context(gated.id)?;
            let ns = u64::try_from(start.elapsed().as_nanos())?;
            Answer::Ran { ns, checksum }
        }
        "instructions" => {
            let (gated, body) = prepared.as_mut().context("`prepare` comes first")?;
            let iters = warm_up(gated, body, operand)?;
            let counted = hardware::instructions_of(|| gate_iterations(body, iters));
            Answer::Instructions(match counted {
                Ok(count) => Instructions::Counted(count),
                Err(error) => Instructions::Refused(format!("{error:#}")),
            })
        }
        "counters" => {
            let (gated, body) = prepared.as_mut().context("`prepare` comes first")?;
            Answer::Counters(gated.counters(body).context(gated.id)?)
        }
        _ => bail!("{request:?} is no request"),
    })
}

/// Gives how many iterations are wanted, after those that warm up: the other
/// process has just used the same caches and predictors.
fn warm_up(gated: &Gated, body: &mut Body, operand: &str) -> Result<u64> {
    let iters: u64 = operand
        .parse()
        .with_context(|| format!("{operand:?} is no number of iterations"))?;
    ensure!(iters > 0, "0 iterations take no time");
    gate_iterations(body, iters.div_ceil(WARM_UP_SHARE)).context(gated.id)?;
    Ok(iters)
}

/// Iterations before those that are timed: one for so many of them. Without,
/// compiled code and allocation spread four times as much over processes.
const WARM_UP_SHARE: u64 = 8;

/// What is timed. Callgrind finds it by its name and counts inside it only.
#[inline(never)]
fn gate_iterations(body: &mut Body, iters: u64) -> Result<u64> {
    let first = body()?;
    for _ in 1..iters {
        let checksum = body()?;
        ensure!(
            checksum == first,
            "computed {checksum} and {first} from the same input"
        );
    }
    Ok(first)
}

fn no_counters() -> Result<Vec<Counter>> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn answers(requests: &str) -> Vec<serde_json::Value> {
        let mut written = Vec::new();
        serve(requests.as_bytes(), &mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Its parent was ended by a second Ctrl-C, and it wrote "Broken pipe".
    #[test]
    fn a_parent_that_is_gone_is_the_end_and_no_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        serve(&b"list\nlist\n"[..], writer).unwrap();
    }

    #[test]
    fn every_body_repeats_and_its_counters_do() {
        for gated in gated() {
            let requests = format!("prepare {}\nrun 2\nrun 3\ncounters\n", gated.id);
            let again = answers(&requests);
            let answers = answers(&requests);
            assert_eq!(answers[0], "ready", "{}", gated.id);
            assert!(answers[1]["ran"]["ns"].as_u64().unwrap() > 0);
            assert_eq!(
                answers[1]["ran"]["checksum"], answers[2]["ran"]["checksum"],
                "{}",
                gated.id
            );
            assert_eq!(answers[3], again[3], "{}", gated.id);
        }
    }

    #[test]
    fn instructions_are_counted_or_it_is_said_why_not() {
        let answers = answers("prepare control/sum\ninstructions 20\nrun 2\n");
        let instructions = &answers[1]["instructions"];
        match instructions["counted"].as_u64() {
            Some(count) => assert!(count > 20, "{count}"),
            None => assert!(
                instructions["refused"]
                    .as_str()
                    .unwrap()
                    .contains("counter")
            ),
        }
        assert!(answers[2]["ran"].is_object(), "it goes on");
    }

    /// Sums need no heap; the compiler lives on it.
    #[test]
    fn allocations_are_counted_where_one_thread_makes_them() {
        let allocations = |id: &str| {
            let answers = answers(&format!("prepare {id}\ncounters\n"));
            let counters = answers[1]["counters"].as_array().unwrap().clone();
            let counter = counters.iter().find(|c| c["name"] == "allocations")?;
            counter["value"].as_u64()
        };
        assert_eq!(allocations("control/sum"), Some(0));
        assert!(allocations("jit/compile").unwrap() > 100);
        assert!(allocations("sched/spawn").is_some());
        assert_eq!(allocations("sched/pool"), None);
    }

    #[test]
    fn a_wrong_request_is_named_and_the_last() {
        for (requests, part) in [
            ("prepare no/such\nlist\n", "no/such"),
            ("run 1\nlist\n", "prepare"),
            ("prepare control/sum\nrun x\n", "\"x\""),
            ("frobnicate\nlist\n", "frobnicate"),
        ] {
            let answers = answers(requests);
            let last = answers.last().unwrap();
            assert!(last["error"].as_str().unwrap().contains(part), "{last}");
        }
    }

    #[test]
    fn the_list_is_read_by_the_gate() {
        let answers = answers("list\nquit\nlist\n");
        assert_eq!(answers.len(), 1);
        let listed = answers[0]["benchmarks"].as_array().unwrap();
        assert_eq!(listed.len(), gated().count());
        assert_eq!(listed[0]["id"], "control/sum");
        let kinds: Vec<_> = listed.iter().filter_map(|l| l["kind"].as_str()).collect();
        assert!(kinds.contains(&"memory-bound") && kinds.contains(&"threaded"));
        let names: BTreeSet<_> = listed.iter().map(|l| l["id"].as_str()).collect();
        assert_eq!(names.len(), listed.len(), "an id twice");
    }
}
