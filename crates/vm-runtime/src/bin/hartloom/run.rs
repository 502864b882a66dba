//! `hartloom run`: a program from start to exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use vm_runtime::{EngineKind, Outcome, Process, ProcessConfig, ProcessStats, build_engine_with};

use crate::flags::{RunArgs, StatsFormat};
use crate::inherited;
use crate::knobs;

/// Runs a program; gives the exit status that hartloom is to end with.
pub(crate) fn run(args: RunArgs) -> Result<u8> {
    let begun = Instant::now();
    let mut jit_config = knobs::config(args.engine)?;
    jit_config.count_host_insts = args.stats.is_some();
    let interrupts = match args.stats {
        // Without anything to say at the end, a signal may end us as it ends
        // a native program.
        None => None,
        Some(_) => Some(Interrupts::catch().context("cannot set up signal handling")?),
    };
    let idle = AtomicU32::new(0);
    let preempt = interrupts.as_ref().map_or(&idle, |i| &*i.preempt);

    make_room_for_files();
    let environment = environment(&args);
    let environment: Vec<&[u8]> = environment.iter().map(|v| v.as_bytes()).collect();
    let command: Vec<&[u8]> = args.command.iter().map(|arg| arg.as_bytes()).collect();
    let config = ProcessConfig {
        memory_bytes_limit: args.memory.0,
        // The guest has our mask; its own calls decide from here on.
        umask: rustix::process::umask(Mode::empty()).bits(),
        closed_stdio: inherited::closed_stdio(),
        ignored_signals: inherited::ignored_signals(),
        strace: args
            .strace
            .then(|| Box::new(io::stderr()) as Box<dyn io::Write + Send>),
        ..ProcessConfig::default()
    };
    // clap asks for one operand at least.
    let program = args
        .command
        .first()
        .map_or(OsStr::new(""), OsString::as_os_str);
    let mut process = Process::load(Path::new(program), &command, &environment, config)?;
    let mut engine = build_engine_with(args.engine, jit_config);
    // Interpreting instead would be many times slower, without a word.
    engine.prepare(process.memory())?;
    let loaded = begun.elapsed();

    let outcome = process.run(&mut *engine, preempt);
    let ran = begun.elapsed() - loaded;
    if outcome.deserves_message() {
        // The status says it too; nobody may be there to read.
        let _ = writeln!(io::stderr(), "hartloom: {}: {outcome}", program.display());
    }
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
        let _ = io::stderr().write_all(text.as_bytes());
    }
    if outcome == Outcome::Interrupted
        && let Some(interrupts) = interrupts
    {
        interrupts.end_as_by_default();
    }
    Ok(outcome.exit_status())
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

/// Ctrl-C and SIGTERM, turned into the preempt word so that the run ends in
/// an orderly way. The second one ends hartloom at once.
struct Interrupts {
    preempt: Arc<AtomicU32>,
    caught: Arc<AtomicUsize>,
}

impl Interrupts {
    fn catch() -> io::Result<Interrupts> {
        let preempt = Arc::new(AtomicU32::new(0));
        let caught = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let (mut reader, writer) = UnixStream::pair()?;
        // What our parent had us ignore, as shells do for background jobs,
        // stays ignored.
        let ignored = inherited::ignored_signals();
        let wanted = [SIGINT, SIGTERM]
            .into_iter()
            .filter(|s| ignored >> (s - 1) & 1 == 0);
        for signal in wanted {
            // In this order: the first signal finds `again` not yet set.
            flag::register_conditional_default(signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&caught), signal.unsigned_abs() as usize)?;
            low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        let word = Arc::clone(&preempt);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                // A byte is a signal. The stream only ends where all of them
                // are ignored.
                if reader.read_exact(&mut [0]).is_ok() {
                    word.store(1, Ordering::Release);
                }
            })?;
        Ok(Interrupts { preempt, caught })
    }

    /// Dies by the signal that was caught, so that shells see that.
    fn end_as_by_default(&self) {
        let signal = i32::try_from(self.caught.load(Ordering::Acquire)).unwrap_or(SIGINT);
        // Where it comes back, the exit status says it in another way.
        let _ = low_level::emulate_default_handler(signal);
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
