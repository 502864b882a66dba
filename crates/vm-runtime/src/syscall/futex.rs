//! Waiting on a word of memory, as far as one thread needs it.
//!
//! With one thread, nobody waits and nobody can wake: a wake finds no waiters,
//! a wait ends by its timeout, and one without a timeout would hang for ever.
//! That last is an outcome of its own, which says so.

use rustix::io::Errno;
use rustix::thread::ClockId;

use super::time::{Waited, read_timespec};
use super::uptr::UserPtr;
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::outcome::Outcome;

pub(super) fn futex(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const WAIT: u32 = 0;
    const WAKE: u32 = 1;
    const REQUEUE: u32 = 3;
    const CMP_REQUEUE: u32 = 4;
    const WAIT_BITSET: u32 = 9;
    const WAKE_BITSET: u32 = 10;
    const COMMAND: u32 = !(128 | CLOCK_REALTIME);
    const CLOCK_REALTIME: u32 = 256;

    let [word, operation, value, timeout, _, value3] = *call.args;
    let word = UserPtr(word);
    let operation = operation as u32;
    match operation & COMMAND {
        WAKE | WAKE_BITSET | REQUEUE => {
            word.load_atomic::<u32>(&p.memory)?;
            Ok(Next::Done(0))
        }
        CMP_REQUEUE => {
            if word.load_atomic::<u32>(&p.memory)? != value3 as u32 {
                return Err(Errno::AGAIN);
            }
            Ok(Next::Done(0))
        }
        command @ (WAIT | WAIT_BITSET) => {
            if command == WAIT_BITSET && value3 as u32 == 0 {
                return Err(Errno::INVAL);
            }
            let timeout = UserPtr(timeout);
            let timeout = match timeout.is_null() {
                true => None,
                false => Some(read_timespec(timeout, &p.memory)?),
            };
            if word.load_atomic::<u32>(&p.memory)? != value as u32 {
                return Err(Errno::AGAIN);
            }
            let Some(timeout) = timeout else {
                let why = format!(
                    "the only thread waits on the futex at {:#x} without a timeout: there is no other to wake it, and no signal handler would be run",
                    word.0
                );
                return Ok(Next::End(Outcome::Deadlocked { pc: call.pc, why }));
            };
            // The timeout of FUTEX_WAIT is a duration, that of
            // FUTEX_WAIT_BITSET a point in time.
            let (clock, until) = match command {
                WAIT => (ClockId::Monotonic, p.deadline(call, timeout)),
                _ if operation & CLOCK_REALTIME != 0 => (ClockId::Realtime, timeout),
                _ => (ClockId::Monotonic, timeout),
            };
            match p.wait_until(call, clock, until) {
                Waited::Elapsed => Err(Errno::TIMEDOUT),
                Waited::Interrupted => Ok(Next::Interrupted),
            }
        }
        // Priority inheritance and the rest need threads.
        _ => Err(Errno::NOSYS),
    }
}
