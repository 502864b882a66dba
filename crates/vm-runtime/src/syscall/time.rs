//! Clocks, sleeping, and processor time.

use rustix::io::Errno;
use rustix::thread::{ClockId, NanosleepRelativeResult, clock_nanosleep_relative};
use rustix::time::{Timespec, clock_getres as host_getres, clock_gettime as host_gettime};
use vm_core::GuestAddr;
use vm_core::mem::GuestMemory;

use super::uptr::{Record, UserPtr, word};
use super::{Call, Next, Reply, transfer};
use crate::kernel::Kernel;

const NANOS: i64 = 1_000_000_000;
/// Ticks per second of `times`, which C libraries have built in.
const TICKS: i64 = 100;

/// A wait that was interrupted: made again by the same call, it ends when it
/// would have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pc: GuestAddr,
    until: Timespec,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Its time has come.
    Elapsed,
    /// The run is to end first.
    Interrupted,
}

/// A time as the guest wrote it.
pub(super) fn read_timespec(at: UserPtr, memory: &GuestMemory) -> Result<Timespec, Errno> {
    let raw = at.read::<16>(memory)?;
    let time = Timespec {
        tv_sec: word(&raw, 0).cast_signed(),
        tv_nsec: word(&raw, 8).cast_signed(),
    };
    if time.tv_sec < 0 || !(0..NANOS).contains(&time.tv_nsec) {
        return Err(Errno::INVAL);
    }
    Ok(time)
}

pub(super) fn guest_timespec(time: Timespec) -> Record<16> {
    Record::new().i64(0, time.tv_sec).i64(8, time.tv_nsec)
}

fn guest_timeval(time: Timespec) -> Record<16> {
    Record::new()
        .i64(0, time.tv_sec)
        .i64(8, time.tv_nsec / 1000)
}

pub(super) fn add(a: Timespec, b: Timespec) -> Timespec {
    let nanos = a.tv_nsec + b.tv_nsec;
    Timespec {
        tv_sec: a
            .tv_sec
            .saturating_add(b.tv_sec)
            .saturating_add(nanos / NANOS),
        tv_nsec: nanos % NANOS,
    }
}

/// `a - b`, `None` where that is not positive.
pub(super) fn time_left(a: Timespec, b: Timespec) -> Option<Timespec> {
    let mut left = Timespec {
        tv_sec: a.tv_sec - b.tv_sec,
        tv_nsec: a.tv_nsec - b.tv_nsec,
    };
    if left.tv_nsec < 0 {
        left.tv_sec -= 1;
        left.tv_nsec += NANOS;
    }
    (left.tv_sec > 0 || left.tv_sec == 0 && left.tv_nsec > 0).then_some(left)
}

/// The earlier of both, for waits that look at the preempt word now and then.
fn shorter(a: Timespec, b: Timespec) -> Timespec {
    if time_left(a, b).is_some() { b } else { a }
}

impl Kernel {
    /// When a wait of `duration` that this call begins, or began before it
    /// was interrupted, ends on the monotonic clock.
    pub(super) fn deadline(&mut self, call: &Call<'_>, duration: Timespec) -> Timespec {
        match self.waiting.take() {
            Some(waiting) if waiting.pc == call.pc => waiting.until,
            _ => add(host_gettime(ClockId::Monotonic), duration),
        }
    }

    /// Waits until `clock` shows `until`.
    pub(super) fn wait_until(
        &mut self,
        call: &Call<'_>,
        clock: ClockId,
        until: Timespec,
    ) -> Waited {
        while let Some(left) = time_left(until, host_gettime(clock)) {
            if call.is_preempted() {
                self.waiting = Some(Waiting { pc: call.pc, until });
                return Waited::Interrupted;
            }
            match clock_nanosleep_relative(ClockId::Monotonic, &shorter(left, transfer::PATIENCE)) {
                NanosleepRelativeResult::Ok | NanosleepRelativeResult::Interrupted(_) => {}
                // The host cannot sleep: let others run and look again.
                NanosleepRelativeResult::Err(_) => rustix::thread::sched_yield(),
            }
        }
        Waited::Elapsed
    }

    /// As much of `until` as one host call may wait; `None` when it has come.
    pub(super) fn slice_until(&self, until: Option<Timespec>) -> Option<Timespec> {
        match until {
            None => Some(transfer::PATIENCE),
            Some(until) => time_left(until, host_gettime(ClockId::Monotonic))
                .map(|left| shorter(left, transfer::PATIENCE)),
        }
    }

    /// Keeps the deadline of an interrupted wait for the call made again.
    pub(super) fn keep_waiting(&mut self, call: &Call<'_>, until: Option<Timespec>) {
        self.waiting = until.map(|until| Waiting { pc: call.pc, until });
    }
}

/// The clock of a number. Alarm clocks need hardware, and reading one that is
/// not there cannot fail in the way the host call is wrapped.
fn clock_id(p: &Kernel, clock: u64) -> Result<ClockId, Errno> {
    let clock = clock as i32;
    if clock < 0 {
        return own_cpu_clock(p, clock).ok_or(Errno::INVAL);
    }
    match ClockId::try_from(clock) {
        Err(_) | Ok(ClockId::RealtimeAlarm | ClockId::BoottimeAlarm) => Err(Errno::INVAL),
        Ok(clock) => Ok(clock),
    }
}

/// The clock of a process (`clock_getcpuclockid`) or thread: what is no number
/// is the inverse of an id, 0 for the caller, before three bits. All processor
/// time counts as the user's.
fn own_cpu_clock(p: &Kernel, clock: i32) -> Option<ClockId> {
    /// The id is that of a thread.
    const OF_THREAD: i32 = 4;
    /// An open device instead of a processor clock.
    const DEVICE: i32 = 3;

    let id = !(clock >> 3);
    if clock & 3 == DEVICE || (id != 0 && id != p.pid) {
        return None;
    }
    Some(match clock & OF_THREAD {
        0 => ClockId::ProcessCPUTime,
        _ => ClockId::ThreadCPUTime,
    })
}

pub(super) fn clock_gettime(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [clock, time, ..] = *call.args;
    let now = host_gettime(clock_id(p, clock)?);
    UserPtr(time).write(&p.memory, &guest_timespec(now).0)?;
    Ok(Next::Done(0))
}

pub(super) fn clock_getres(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [clock, resolution, ..] = *call.args;
    let resolution_of = host_getres(clock_id(p, clock)?);
    UserPtr(resolution).write_unless_null(&p.memory, &guest_timespec(resolution_of).0)?;
    Ok(Next::Done(0))
}

pub(super) fn gettimeofday(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [time, zone, ..] = *call.args;
    let now = host_gettime(ClockId::Realtime);
    UserPtr(time).write_unless_null(&p.memory, &guest_timeval(now).0)?;
    UserPtr(zone).write_unless_null(&p.memory, &[0; 8])?;
    Ok(Next::Done(0))
}

pub(super) fn nanosleep(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let duration = read_timespec(UserPtr(call.args[0]), &p.memory)?;
    let until = p.deadline(call, duration);
    Ok(slept(p.wait_until(call, ClockId::Monotonic, until)))
}

pub(super) fn clock_nanosleep(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const TIMER_ABSTIME: u64 = 1;
    let [clock, flags, request, ..] = *call.args;
    let clock = clock_id(p, clock)?;
    if !matches!(
        clock,
        ClockId::Realtime | ClockId::Monotonic | ClockId::Boottime
    ) {
        return Err(Errno::INVAL);
    }
    let request = read_timespec(UserPtr(request), &p.memory)?;
    if flags & TIMER_ABSTIME != 0 {
        return Ok(slept(p.wait_until(call, clock, request)));
    }
    let until = p.deadline(call, request);
    Ok(slept(p.wait_until(call, ClockId::Monotonic, until)))
}

fn slept(waited: Waited) -> Next {
    match waited {
        Waited::Elapsed => Next::Done(0),
        Waited::Interrupted => Next::Interrupted,
    }
}

pub(super) fn times(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let ticks = |t: Timespec| t.tv_sec * TICKS + t.tv_nsec / (NANOS / TICKS);
    let used = ticks(host_gettime(ClockId::ProcessCPUTime));
    let record = Record::<32>::new().i64(0, used);
    UserPtr(call.args[0]).write_unless_null(&p.memory, &record.0)?;
    Ok(Next::Done(
        ticks(host_gettime(ClockId::Monotonic)).cast_unsigned(),
    ))
}

pub(super) fn getrusage(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [who, usage, ..] = *call.args;
    let mut record = Record::<144>::new();
    match who as i32 {
        -1 => {} // of children, which there are none
        who @ (0 | 1) => {
            let clock = if who == 0 {
                ClockId::ProcessCPUTime
            } else {
                ClockId::ThreadCPUTime
            };
            record = record
                .bytes(0, &guest_timeval(host_gettime(clock)).0)
                .u64(32, p.memory.mapped_bytes() / 1024);
        }
        _ => return Err(Errno::INVAL),
    }
    UserPtr(usage).write(&p.memory, &record.0)?;
    Ok(Next::Done(0))
}
