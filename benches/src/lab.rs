//! What a workload is given, and how it may end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use perf_bench::{BenchmarkResult, Sampler};

use crate::guests::{Guests, Size};
use crate::in_process::EndedRuns;

/// One benchmark: real work, measured and checked.
#[derive(Debug)]
pub struct Workload {
    /// `group/function`.
    pub id: &'static str,
    /// The rows of the KPI table it measures.
    pub kpis: &'static [&'static str],
    /// Measures.
    pub body: fn(&Lab, BenchmarkResult) -> Result<Measured>,
}

/// Workloads that belong together.
pub trait Suite {
    /// The workloads, in the order they run.
    const WORKLOADS: &'static [Workload];
}

/// How a workload ended that could do its work.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per benchmark, moved twice: a box would only add a word to every `Done`"
)]
pub enum Measured {
    /// With a result, which may be invalid.
    Done(BenchmarkResult),
    /// This machine lacks something; the text says what.
    Skipped(String),
}

/// What a workload is given.
#[derive(Debug)]
pub struct Lab {
    /// The guest programs.
    pub guests: Guests,
    /// The command `hartloom`, release build.
    pub hartloom: Option<PathBuf>,
    /// Where native builds of guests are kept.
    pub scratch: PathBuf,
    /// Whether small inputs and few rounds are asked for.
    pub is_quick: bool,
    /// When the whole run has to be over.
    pub deadline: Option<Instant>,
    /// Guests that have run in this process, so that counters of one run serve
    /// several workloads.
    pub ended: EndedRuns,
}

impl Lab {
    /// The size of guests to run.
    #[must_use]
    pub fn size(&self) -> Size {
        if self.is_quick {
            Size::Quick
        } else {
            Size::Full
        }
    }

    /// Sampling for short functions.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        if self.is_quick {
            Sampler::quick()
        } else {
            Sampler::default()
        }
    }

    /// Rounds of something that takes seconds.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        if self.is_quick { 2 } else { 3 }
    }

    /// Whether the run is over its time.
    #[must_use]
    pub fn is_out_of_time(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Until when a workload may go on that wants `share` of a quick run.
    #[must_use]
    pub fn deadline_of(&self, share: Duration) -> Option<Instant> {
        if !self.is_quick {
            return self.deadline;
        }
        let own = Instant::now() + share;
        Some(self.deadline.map_or(own, |deadline| deadline.min(own)))
    }

    /// The command `hartloom`.
    ///
    /// # Errors
    /// If there is none.
    pub fn hartloom(&self) -> Result<&PathBuf> {
        match &self.hartloom {
            Some(path) if path.is_file() => Ok(path),
            Some(path) => bail!("there is no {}; build it with --release", path.display()),
            None => bail!("no hartloom given; pass --hartloom target/release/hartloom"),
        }
    }
}
