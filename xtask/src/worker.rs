//! The measured process, seen from outside: spawned, listened to, ended.
//!
//! `vm-bench-worker` writes one JSON object per line. It leads a process group
//! of its own: Ctrl-C reaches only us, what has been measured is kept, and
//! ending the group also ends the guests the worker has spawned.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use crate::workspace::Interrupt;

/// One line of the worker. Written by benches/src/protocol.rs.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// First: everything that could run, whether selected or not.
    Plan { benchmarks: Vec<Planned> },
    /// The filter selects none of these.
    NothingSelected { names: Vec<String> },
    /// A benchmark is about to run.
    Started {
        index: usize,
        total: usize,
        id: String,
    },
    /// A benchmark has ended; the report has it as its only one.
    Finished { report: Value },
    /// A benchmark lacks something of this machine.
    Skipped { id: String, reason: String },
    /// Something readers of the numbers should know.
    Note { text: String },
    /// `compare`: one program under every contestant.
    Row { row: Value },
}

/// A benchmark the worker has.
#[derive(Debug, Deserialize)]
pub(crate) struct Planned {
    /// Its name.
    pub(crate) id: String,
    /// The KPI rows it measures.
    pub(crate) kpis: Vec<String>,
    /// Whether it is to run.
    pub(crate) selected: bool,
}

/// Why the worker is no longer there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Done,
    /// It crashed or gave up; the text says how.
    Broke(String),
    /// Ctrl-C.
    Interrupted,
    /// Out of time.
    OutOfTime,
}

/// Runs the worker until it ends, its time is over or Ctrl-C comes, handing
/// over every event as it arrives. `is_late` says when time is over; it is asked
/// several times a second.
pub(crate) fn run(
    program: &Path,
    args: &[String],
    is_late: impl Fn() -> bool,
    interrupt: &Interrupt,
    mut on_event: impl FnMut(Event) -> Result<()>,
) -> Result<End> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut group = Group(child);
    let lines = lines_of(&mut group.0)?;

    loop {
        if interrupt.is_set() {
            return Ok(End::Interrupted);
        }
        if is_late() {
            return Ok(End::OutOfTime);
        }
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                let line = line.context("cannot read from the worker")?;
                let event = serde_json::from_str(&line)
                    .with_context(|| format!("the worker wrote {line:?}, which is no event"))?;
                on_event(event)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            // End of its output: it is ending.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = group.0.wait().context("cannot wait for the worker")?;
    Ok(if status.success() {
        End::Done
    } else {
        End::Broke(describe(status))
    })
}

pub(crate) fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the worker was ended by signal {signal}"),
        None => format!("the worker gave up ({status}); its message is above"),
    }
}

/// Lines as they come, so that waiting for the next can have a time limit.
pub(crate) fn lines_of(child: &mut Child) -> Result<Receiver<std::io::Result<String>>> {
    let Some(stdout) = child.stdout.take() else {
        bail!("the worker has no standard output");
    };
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    Ok(receive)
}

/// Ends the whole process group when it is dropped.
pub(crate) struct Group(pub(crate) Child);

impl Group {
    /// Of the group and of the process that leads it.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Both fail only if it has gone in the meantime.
        let _ = killpg(self.id(), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// What ends a worker from outside.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Cut {
        Never,
        /// Time is over once this many events have come.
        LateAfter(usize),
        CtrlC,
    }

    /// A fake worker is a shell script. One that is not ended comes back by
    /// itself at last, and is told by how it ended: no test looks at a clock.
    #[track_caller]
    fn check(script: &str, cut: Cut) -> (End, usize) {
        let interrupt = Interrupt::of(Arc::new(AtomicBool::new(cut == Cut::CtrlC)));
        let n_events = Cell::new(0);
        let is_late = || matches!(cut, Cut::LateAfter(count) if n_events.get() >= count);
        let args = ["-c".to_owned(), script.to_owned()];
        let end = run(Path::new("/bin/sh"), &args, is_late, &interrupt, |_| {
            n_events.set(n_events.get() + 1);
            Ok(())
        });
        (end.unwrap(), n_events.get())
    }

    #[test]
    fn a_worker_that_ends_well_is_heard_to_the_end() {
        let script = r#"echo '{"event":"note","text":"a"}'; echo '{"event":"note","text":"b"}'"#;
        assert_eq!(check(script, Cut::Never), (End::Done, 2));
    }

    #[test]
    fn a_worker_that_crashes_keeps_what_it_said() {
        let script = r#"echo '{"event":"note","text":"a"}'; kill -SEGV $$"#;
        let (end, n_events) = check(script, Cut::Never);
        assert_eq!(n_events, 1);
        assert!(matches!(end, End::Broke(text) if text.contains("signal 11")));
    }

    #[test]
    fn a_hung_worker_meets_the_deadline() {
        let script = r#"echo '{"event":"note","text":"a"}'; sleep 600 & wait"#;
        assert_eq!(check(script, Cut::LateAfter(1)), (End::OutOfTime, 1));
    }

    #[test]
    fn ctrl_c_ends_the_worker_too() {
        assert_eq!(check("sleep 600", Cut::CtrlC), (End::Interrupted, 0));
    }

    #[test]
    fn garbage_is_an_error_that_shows_it() {
        let flag = Interrupt::of(Arc::default());
        let args = ["-c".to_owned(), "echo hello; sleep 600".to_owned()];
        let error = run(Path::new("/bin/sh"), &args, || false, &flag, |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("hello"), "{error:#}");
    }
}
