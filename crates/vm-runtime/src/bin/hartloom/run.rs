//! `hartloom run`: a program from start to exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vm_runtime::{
    Engine, EngineKind, Outcome, Printable, Process, ProcessConfig, ProcessStats, Signal,
    build_engine_with,
};

use crate::flags::{RunArgs, STATUS_OWN_ERROR, StatsFormat};
use crate::inherited;
use crate::knobs;
use crate::outside::{self, Interrupts};

/// Runs a program; gives the exit status that hartloom is to end with.
pub(crate) fn run(args: RunArgs) -> Result<u8> {
    let begun = Instant::now();
    // clap asks for one operand at least.
    let program = args
        .command
        .first()
        .map_or(OsStr::new(""), OsString::as_os_str);
    let name = Printable(program);
    if (args.strace || args.stats.is_some()) && inherited::is_unwritable(io::stderr()) {
        bail!("{name}: --strace and --stats need standard error, which is not open for writing");
    }
    let mut jit_config = knobs::config(args.engine)?;
    jit_config.count_host_insts = args.stats.is_some();
    let interrupts = match args.stats {
        // Without anything to say at the end, a signal may end us as it ends
        // a native program.
        None => None,
        Some(_) => Some(Interrupts::catch().with_context(|| {
            format!("{name}: cannot watch for Ctrl-C, which --stats does; run without it")
        })?),
    };
    outside::watch_pipe().with_context(|| format!("{name}: cannot watch for SIGPIPE"))?;
    outside::ignore_file_sizes().with_context(|| format!("{name}: cannot ignore SIGXFSZ"))?;

    make_room_for_files();
    let environment = environment(&args);
    let environment: Vec<&[u8]> = environment.iter().map(|v| v.as_bytes()).collect();
    let command: Vec<&[u8]> = args.command.iter().map(|arg| arg.as_bytes()).collect();
    let lost = Arc::new(OnceLock::new());
    let trace = || Traced {
        lost: Arc::clone(&lost),
    };
    let config = ProcessConfig {
        memory_bytes_limit: args.memory.0,
        // The guest has our mask; its own calls decide from here on.
        umask: rustix::process::umask(Mode::empty()).bits(),
        closed_stdio: inherited::closed_stdio(),
        ignored_signals: inherited::ignored_signals(),
        strace: args
            .strace
            .then(|| Box::new(trace()) as Box<dyn io::Write + Send>),
        ..ProcessConfig::default()
    };
    let mut process = Process::load(Path::new(program), &command, &environment, config)?;
    let mut engine = build_engine_with(args.engine, jit_config);
    // Interpreting instead would be many times slower, without a word.
    engine
        .prepare(process.memory())
        .with_context(|| name.to_string())?;
    let loaded = begun.elapsed();

    let outcome = run_to_the_end(&mut process, &mut *engine, interrupts.as_ref());
    let ran = begun.elapsed() - loaded;
    if outcome.deserves_message() {
        // The status says it too; nobody may be there to read.
        let _ = writeln!(io::stderr(), "hartloom: {name}: {outcome}");
    }
    let mut told = Ok(());
    if let Some(format) = args.stats {
        let stats = Stats {
            engine: args.engine,
            outcome: &outcome,
            load: loaded,
            run: ran,
            process: process.stats(),
            counters: engine.counters(),
        };
        let text = match format {
            StatsFormat::Text => stats.text(),
            StatsFormat::Json => stats.json(),
        };
        told = io::stderr().write_all(text.as_bytes());
    }
    if outcome == Outcome::Interrupted
        && let Some(interrupts) = interrupts
    {
        interrupts.end_as_by_default();
    }
    let status = outcome.exit_status();
    let lost = told.as_ref().err().or(lost.get());
    // Whoever closes the pipe has seen enough.
    match lost.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        None => Ok(status),
        Some(error) => {
            let message = format!(
                "hartloom: {name}: what --strace and --stats say cannot be written to standard error: \
                 {error}; the program {outcome}"
            );
            let _ = writeln!(io::stderr(), "{message}");
            // It may be all that is left to tell how the program ended.
            Ok(if status == 0 {
                STATUS_OWN_ERROR
            } else {
                status
            })
        }
    }
}

/// Runs a program on until it ends, or Ctrl-C comes where that is watched for.
fn run_to_the_end(
    process: &mut Process,
    engine: &mut dyn Engine,
    interrupts: Option<&Interrupts>,
) -> Outcome {
    loop {
        let outcome = process.run(&mut *engine, &outside::PREEMPT);
        if outcome != Outcome::Interrupted {
            return outcome;
        }
        // In this order: what comes after a look sets the word again.
        outside::PREEMPT.swap(0, Ordering::AcqRel);
        if interrupts.is_some_and(Interrupts::came) {
            return outcome;
        }
        if outside::pipe_came()
            && let Some(outcome) = process.signal(Signal::PIPE)
        {
            return outcome;
        }
    }
}

/// Lets this process have as many files open as it may: the guest's limit is
/// its own, and its files stand beside ours.
fn make_room_for_files() {
    let had = getrlimit(Resource::Nofile);
    let current = had.maximum;
    // Where the host refuses, the guest gets EMFILE early.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..had });
}

/// The guest's environment: ours, unless cleared, and what `--env` sets.
fn environment(args: &RunArgs) -> Vec<OsString> {
    let name_of = |v: &OsStr| {
        v.as_bytes()
            .split(|&b| b == b'=')
            .next()
            .map(<[u8]>::to_vec)
    };
    let set: Vec<_> = args.env.iter().map(|v| name_of(v)).collect();
    let inherited = std::env::vars_os()
        .filter(|(name, _)| !args.env_clear && !set.contains(&Some(name.as_bytes().to_vec())));
    let joined = inherited.map(|(name, value)| {
        OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
    });
    joined.chain(args.env.iter().cloned()).collect()
}

/// Standard error for `--strace`. The first error is kept for the end, since
/// the guest goes on without.
struct Traced {
    lost: Arc<OnceLock<io::Error>>,
}

impl io::Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::Interrupted
        {
            let kept = error.raw_os_error().map(io::Error::from_raw_os_error);
            let _ = self.lost.set(kept.unwrap_or(error.kind().into()));
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `--stats` shows.
struct Stats<'a> {
    engine: EngineKind,
    outcome: &'a Outcome,
    load: Duration,
    run: Duration,
    process: ProcessStats,
    counters: Vec<(&'static str, u64)>,
}

impl Stats<'_> {
    fn text(&self) -> String {
        let mut lines = vec![
            format!("engine           {}", self.engine.name()),
            format!("outcome          {}", self.outcome),
            format!("load             {:.3} ms", self.load.as_secs_f64() * 1e3),
            format!("run              {:.3} ms", self.run.as_secs_f64() * 1e3),
            format!("mapped           {} KiB", self.process.mapped_bytes / 1024),
            format!("system calls     {}", self.process.syscalls),
            format!("  unknown        {}", self.process.syscalls_unknown),
        ];
        let by_name = &self.process.syscalls_by_name;
        lines.extend(
            by_name
                .iter()
                .map(|(name, count)| format!("  {name:<14} {count}")),
        );
        lines.extend(
            self.counters
                .iter()
                .map(|(name, value)| format!("{name:<25} {value}")),
        );
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self) -> String {
        let by_name: serde_json::Map<_, _> = self
            .process
            .syscalls_by_name
            .iter()
            .map(|(name, count)| (name.clone(), (*count).into()))
            .collect();
        let counters: serde_json::Map<_, _> = self
            .counters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let line = serde_json::json!({
            "format": "hartloom-run-stats.v1",
            "engine": self.engine.name(),
            "outcome": self.outcome.to_string(),
            "exit_status": self.outcome.exit_status(),
            "load_ns": nanos(self.load),
            "run_ns": nanos(self.run),
            "mapped_bytes": self.process.mapped_bytes,
            "syscalls": self.process.syscalls,
            "syscalls_unknown": self.process.syscalls_unknown,
            "syscalls_by_name": by_name,
            "engine_counters": counters,
        });
        format!("{line}\n")
    }
}
