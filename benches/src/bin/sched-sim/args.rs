//! The flags of `cargo xtask sim`. This file is part of two programs: xtask
//! shows the help and refuses wrong usage before it builds anything, and
//! sched-sim, to which it hands the flags on, acts on them.

use std::path::PathBuf;

/// What to simulate, and what to tell of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask sim                                      docs/scheduler/mixed.csv, every policy
  cargo xtask sim --vcpus 1 --svg policies.svg         and a picture: who ran when
  cargo xtask sim --generate bimodal --vcpus 4 --slice-us 50 --policies fcfs,mlfq
  cargo xtask sim --workload my.csv --fairness strict --json
  cargo xtask sim --generate skewed --no-stealing      everything born on vCPU 0 stays there

The policies are the code that the live scheduler runs; clock and machine are simulated, so
times compare policies and predict no machine. Same seed, same trace: the table has its hash.
A workload file is CSV with the columns arrival_us, work_us, priority (low, normal,
high, real-time), and as needed deadline_us, burst_us and wait_us, name.")]
pub(crate) struct Args {
    /// Reads what arrives from this CSV file.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub(crate) workload: Option<PathBuf>,
    /// Makes a workload: poisson, bimodal or skewed.
    #[arg(long, value_name = "NAME")]
    pub(crate) generate: Option<String>,
    /// Coroutines to generate.
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "generate",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) count: u32,
    /// Generated load, in percent of what the vCPUs can do.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, requires = "generate",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) load: u32,
    /// Seed of the generator and of the simulation.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Simulated vCPUs.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) vcpus: u16,
    /// Policies to compare, with commas between; all six by default.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) policies: Vec<String>,
    /// How levels share a vCPU.
    #[arg(long, default_value = "fair", value_parser = ["fair", "strict"])]
    pub(crate) fairness: String,
    /// Time slice in microseconds.
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) slice_us: u64,
    /// Cost of a switch in nanoseconds.
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub(crate) switch_ns: u64,
    /// Where coroutines are born. By default least-loaded; first for skewed.
    #[arg(long, value_parser = ["least-loaded", "round-robin", "first"])]
    pub(crate) placement: Option<String>,
    /// Leaves coroutines where they were born.
    #[arg(long)]
    pub(crate) no_stealing: bool,
    /// Ends the simulation at this virtual time in milliseconds.
    #[arg(long, value_name = "N")]
    pub(crate) until_ms: Option<u32>,
    /// Writes a picture: lanes of each vCPU and the response times.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Tells of each coroutine: start, end, response, waits.
    #[arg(long)]
    pub(crate) each: bool,
    /// Prints one JSON document instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}
