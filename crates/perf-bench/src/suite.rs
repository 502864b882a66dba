//! Runs several benchmarks, one after the other, and goes on when one breaks.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::SuiteError;
use crate::fingerprint::Context;
use crate::kpi::KpiTable;
use crate::report::{self, Report};
use crate::result::{BenchmarkId, BenchmarkResult, Status};

/// Any error a benchmark may fail with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Something that can be measured. Closures serve through
/// [`BenchmarkSuite::add`]; implement this where a benchmark has state of its own.
pub trait Benchmark {
    /// Its name, the same at every call.
    fn id(&self) -> BenchmarkId;

    /// Measures once. `result` is empty and bears the right id: fill and return it.
    ///
    /// # Errors
    /// Whatever keeps it from measuring. The suite records it as failed and runs
    /// the others. A wrong *answer* is no error but
    /// [`BenchmarkResult::mark_invalid`].
    fn run(&mut self, result: BenchmarkResult) -> Result<BenchmarkResult, BoxError>;
}

/// A closure under a name.
struct Named<F> {
    id: BenchmarkId,
    body: F,
}

impl<F, E> Benchmark for Named<F>
where
    F: FnMut(BenchmarkResult) -> Result<BenchmarkResult, E>,
    E: Into<BoxError>,
{
    fn id(&self) -> BenchmarkId {
        self.id.clone()
    }

    fn run(&mut self, result: BenchmarkResult) -> Result<BenchmarkResult, BoxError> {
        (self.body)(result).map_err(Into::into)
    }
}

/// What a running suite tells its caller.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A benchmark is about to run.
    Started {
        /// Its index among those selected.
        index: usize,
        /// How many are selected.
        total: usize,
        /// Its name.
        id: &'a BenchmarkId,
    },
    /// A benchmark has ended.
    Finished {
        /// Its index among those selected.
        index: usize,
        /// How many are selected.
        total: usize,
        /// What it yielded.
        result: &'a BenchmarkResult,
    },
}

/// Benchmarks to run together.
///
/// ```
/// use perf_bench::{BenchmarkSuite, BoxError};
///
/// let mut suite = BenchmarkSuite::new("demo");
/// suite.add("demo/good", |result| Ok::<_, BoxError>(result))?;
/// suite.add("demo/bad", |_| Err::<_, BoxError>("no such device".into()))?;
/// let run = suite.run();
/// assert_eq!((run.total(), run.passed(), run.failed()), (2, 1, 1));
/// # Ok::<(), perf_bench::SuiteError>(())
/// ```
pub struct BenchmarkSuite<'a> {
    name: String,
    benchmarks: Vec<(BenchmarkId, Box<dyn Benchmark + 'a>)>,
}

impl<'a> BenchmarkSuite<'a> {
    /// A suite without benchmarks.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            benchmarks: Vec::new(),
        }
    }

    /// Registers a benchmark.
    ///
    /// # Errors
    /// If one of that id is registered.
    pub fn register(&mut self, benchmark: impl Benchmark + 'a) -> Result<(), SuiteError> {
        let id = benchmark.id();
        if self.benchmarks.iter().any(|(known, _)| *known == id) {
            return Err(SuiteError::Duplicate { id: id.to_string() });
        }
        self.benchmarks.push((id, Box::new(benchmark)));
        Ok(())
    }

    /// Registers a closure under `id` (`group/function` or
    /// `group/function/params`). It is handed an empty result to fill and return.
    ///
    /// # Errors
    /// If the id is malformed or taken.
    pub fn add<F, E>(&mut self, id: &str, body: F) -> Result<(), SuiteError>
    where
        F: FnMut(BenchmarkResult) -> Result<BenchmarkResult, E> + 'a,
        E: Into<BoxError> + 'a,
    {
        let id = id.parse()?;
        self.register(Named { id, body })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the registered benchmarks, in the order they run.
    pub fn ids(&self) -> impl Iterator<Item = &BenchmarkId> {
        self.benchmarks.iter().map(|(id, _)| id)
    }

    /// Runs every benchmark.
    pub fn run(&mut self) -> SuiteRun {
        self.run_where(|_| true, &mut |_| {})
    }

    /// Runs the benchmarks whose id contains `filter` (all, if there is none) and
    /// tells `progress` about each.
    ///
    /// # Errors
    /// If there is a filter and no benchmark matches it.
    pub fn run_with(
        &mut self,
        filter: Option<&str>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<SuiteRun, SuiteError> {
        let Some(filter) = filter else {
            return Ok(self.run_where(|_| true, progress));
        };
        let selected = |id: &BenchmarkId| id.to_string().contains(filter);
        if !self.ids().any(selected) {
            return Err(SuiteError::NothingSelected {
                filter: filter.to_owned(),
                available: self.ids().map(ToString::to_string).collect(),
            });
        }
        Ok(self.run_where(selected, progress))
    }

    fn run_where(
        &mut self,
        selected: impl Fn(&BenchmarkId) -> bool,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> SuiteRun {
        let total = self.ids().filter(|id| selected(id)).count();
        let filtered_out = self.benchmarks.len() - total;
        let mut results = Vec::with_capacity(total);
        let chosen = self.benchmarks.iter_mut().filter(|(id, _)| selected(id));
        for (index, (id, benchmark)) in chosen.enumerate() {
            progress(Progress::Started { index, total, id });
            let result = run_one(id, benchmark.as_mut());
            progress(Progress::Finished {
                index,
                total,
                result: &result,
            });
            results.push(result);
        }
        SuiteRun {
            name: self.name.clone(),
            results,
            filtered_out,
        }
    }
}

impl fmt::Debug for BenchmarkSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BenchmarkSuite")
            .field("name", &self.name)
            .field("benchmarks", &self.ids().collect::<Vec<_>>())
            .finish()
    }
}

/// Every way a benchmark can end becomes a result.
fn run_one(id: &BenchmarkId, benchmark: &mut dyn Benchmark) -> BenchmarkResult {
    let blank = BenchmarkResult::new(id.clone());
    // Unwind safety: a benchmark that panicked runs no more in this run, and
    // nothing else sees its state.
    match catch_unwind(AssertUnwindSafe(|| benchmark.run(blank))) {
        Ok(Ok(result)) if result.id() == id => result,
        Ok(Ok(other)) => BenchmarkResult::failed(
            id.clone(),
            format!(
                "returned the result of {}; fill the result it was given",
                other.id()
            ),
        ),
        Ok(Err(error)) => BenchmarkResult::failed(id.clone(), with_causes(error.as_ref())),
        Err(payload) => {
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a payload that is not text");
            BenchmarkResult::failed(id.clone(), format!("panicked: {message}"))
        }
    }
}

/// `error: its cause: the cause of that`.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat their cause in their own message.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What a suite yielded.
#[derive(Clone, Debug, PartialEq)]
pub struct SuiteRun {
    name: String,
    results: Vec<BenchmarkResult>,
    filtered_out: usize,
}

impl SuiteRun {
    /// Name of the suite.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The results, in the order the benchmarks ran.
    #[must_use]
    pub fn results(&self) -> &[BenchmarkResult] {
        &self.results
    }

    /// The results, to combine runs of several suites in one report.
    #[must_use]
    pub fn into_results(self) -> Vec<BenchmarkResult> {
        self.results
    }

    /// Benchmarks that ran: passed, failed, interrupted and invalid ones.
    #[must_use]
    pub fn total(&self) -> usize {
        self.results.len()
    }

    /// Benchmarks that passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(|status| matches!(status, Status::Pass))
    }

    /// Benchmarks that failed: an error, a panic, or marked so.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|status| matches!(status, Status::Fail { .. }))
    }

    /// Benchmarks whose numbers mean nothing.
    #[must_use]
    pub fn invalid(&self) -> usize {
        self.count(|status| matches!(status, Status::Invalid { .. }))
    }

    /// Benchmarks the filter left out.
    #[must_use]
    pub fn filtered_out(&self) -> usize {
        self.filtered_out
    }

    fn count(&self, is: impl Fn(&Status) -> bool) -> usize {
        self.results.iter().filter(|r| is(r.status())).count()
    }

    /// A report of this run, its KPI rows judged against `table`.
    #[must_use]
    pub fn into_report(self, context: Context, table: &KpiTable) -> Report {
        Report::new(context, self.results, table)
    }
}

/// The table of results, what went wrong, and the totals.
impl fmt::Display for SuiteRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "suite {}", self.name)?;
        f.write_str(&report::text::results(
            &self.results,
            report::text::DEFAULT_WIDTH,
        ))?;
        writeln!(
            f,
            "total {}, passed {}, failed {}, invalid {}, filtered out {}",
            self.total(),
            self.passed(),
            self.failed(),
            self.invalid(),
            self.filtered_out
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(result: BenchmarkResult) -> Result<BenchmarkResult, BoxError> {
        Ok(result)
    }

    #[test]
    fn the_filter_selects_by_substring_and_counts_the_rest() {
        let mut suite = BenchmarkSuite::new("s");
        for id in ["jit/cold", "jit/warm", "gc/minor"] {
            suite.add(id, fine).unwrap();
        }
        let run = suite.run_with(Some("jit/"), &mut |_| {}).unwrap();
        assert_eq!((run.total(), run.filtered_out()), (2, 1));
    }

    #[test]
    fn a_filter_that_matches_nothing_is_an_error() {
        let mut suite = BenchmarkSuite::new("s");
        suite.add("jit/cold", fine).unwrap();
        let error = suite.run_with(Some("git"), &mut |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no benchmark has \"git\" in its id; there are: jit/cold"
        );
    }

    #[test]
    fn ids_serve_once() {
        let mut suite = BenchmarkSuite::new("s");
        suite.add("a/b", fine).unwrap();
        assert_eq!(
            suite.add("a/b", fine),
            Err(SuiteError::Duplicate {
                id: "a/b".to_owned()
            })
        );
        assert!(matches!(suite.add("a", fine), Err(SuiteError::Id(_))));
    }

    #[test]
    fn progress_brackets_every_benchmark() {
        let mut suite = BenchmarkSuite::new("s");
        suite.add("a/one", fine).unwrap();
        suite
            .add("a/two", |_| Err::<BenchmarkResult, _>("broken"))
            .unwrap();
        let mut seen = Vec::new();
        suite
            .run_with(None, &mut |progress| {
                seen.push(match progress {
                    Progress::Started { index, total, id } => {
                        format!("{index}/{total} {id}")
                    }
                    Progress::Finished { index, result, .. } => {
                        format!("{index} {}", result.status().name())
                    }
                });
            })
            .unwrap();
        assert_eq!(seen, ["0/2 a/one", "0 pass", "1/2 a/two", "1 fail"]);
    }

    #[test]
    fn a_foreign_result_is_refused() {
        let mut suite = BenchmarkSuite::new("s");
        suite
            .add("a/mine", |_| {
                fine(BenchmarkResult::new("a/other".parse().unwrap()))
            })
            .unwrap();
        let run = suite.run();
        let reason = run.results()[0].status().reason().unwrap();
        assert!(reason.contains("a/other"), "{reason}");
    }

    #[test]
    fn benchmarks_may_borrow() {
        let mut calls = 0;
        {
            let mut suite = BenchmarkSuite::new("s");
            suite
                .add("a/b", |result| {
                    calls += 1;
                    fine(result)
                })
                .unwrap();
            suite.run();
            suite.run();
        }
        assert_eq!(calls, 2);
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bad seed")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(
            with_causes(&error),
            "bad seed: invalid digit found in string"
        );
    }
}
