//! A child process, timed: wall, user and system time, and what it printed.
//!
//! - **W1** `wait4` is called for the pid of a child that has ended and that
//!   nobody has waited for: so it returns at once, and no other process can have
//!   the pid. The status and usage it writes are plain integers on our stack.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// What a child needed and did.
#[derive(Clone, Debug)]
pub struct Finished {
    /// From before it was spawned until it had ended.
    pub wall: Duration,
    /// CPU time in user mode, all its threads.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// `Some(status)`, or `None` if a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

impl Finished {
    /// User and system time.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// Most output that is kept; more is an error.
const STDOUT_BYTES_MAX: u64 = 16 << 20;

/// Runs `command` to its end, at most for `limit`, with no input; standard error
/// goes nowhere.
///
/// # Errors
/// If it cannot be run, prints without end, or is still running after `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        bail!("child with pid {} cannot be waited for", child.id());
    };
    let Some(stdout) = child.stdout.take() else {
        bail!("{command:?} has no standard output");
    };

    let (ended, has_ended) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let is_late = has_ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            // It has not been waited for yet, so the pid is its own.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        is_late
    });
    let mut output = Vec::new();
    let read = stdout.take(STDOUT_BYTES_MAX + 1).read_to_end(&mut output);
    let is_too_long = output.len() as u64 > STDOUT_BYTES_MAX;
    if is_too_long {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    // Leaves it to be waited for again, so that the watchdog cannot hit another.
    let waited = loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    let wall = start.elapsed();
    drop(ended);
    let is_late = watchdog.join().unwrap_or(false);
    waited.with_context(|| format!("cannot wait for {command:?}"))?;
    let (status, usage) = reap(pid).with_context(|| format!("cannot wait for {command:?}"))?;
    read.with_context(|| format!("cannot read the output of {command:?}"))?;
    ensure!(
        !is_too_long,
        "{command:?} printed more than {STDOUT_BYTES_MAX} bytes"
    );
    ensure!(!is_late, "{command:?} was still running after {limit:?}");
    Ok(Finished {
        wall,
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        status: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        stdout: output,
    })
}

fn reap(pid: Pid) -> std::io::Result<(i32, libc::rusage)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let raw = pid.as_raw_nonzero().get();
    // SAFETY: W1.
    let waited = unsafe { libc::wait4(raw, &raw mut status, 0, usage.as_mut_ptr()) };
    if waited != raw {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: W1: integers only, for which zeros are a value.
    Ok((status, unsafe { usage.assume_init() }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_status_and_times_arrive() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exit 7";
        let finished = run(&mut shell(script), Duration::from_secs(60)).unwrap();
        assert_eq!(finished.stdout, b"done\n");
        assert_eq!(finished.status, Some(7));
        assert!(finished.cpu() > Duration::ZERO);
        assert!(finished.wall > Duration::ZERO);
    }

    #[test]
    fn what_hangs_is_ended() {
        let error = run(&mut shell("exec sleep 600"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("still running"), "{error}");
    }

    #[test]
    fn a_signal_is_no_status() {
        let finished = run(&mut shell("kill -9 $$"), Duration::from_secs(60)).unwrap();
        assert_eq!(finished.status, None);
    }

    #[test]
    fn output_without_end_is_refused() {
        let error = run(&mut shell("exec yes"), Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("printed more"), "{error}");
    }
}
