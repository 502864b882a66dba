//! Waiting for files.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::time::read_timespec;
use super::uptr::{UserPtr, half};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;

/// Bytes of a `struct pollfd`.
const ENTRY_BYTES: u64 = 8;

pub(super) fn ppoll(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [entries, count, timeout, ..] = *call.args;
    if count > u64::from(p.limits.open_files()) {
        return Err(Errno::INVAL);
    }
    let timeout = UserPtr(timeout);
    let until = match timeout.is_null() {
        true => None,
        false => {
            let duration = read_timespec(timeout, &p.memory)?;
            Some(p.deadline(call, duration))
        }
    };
    // Bounded by the limit of descriptors, a few thousand.
    let mut wanted = Vec::with_capacity(count as usize);
    for i in 0..count {
        let entry = UserPtr(entries).at(i * ENTRY_BYTES).read::<8>(&p.memory)?;
        let events = (half(&entry, 4) & 0xffff) as u16;
        wanted.push((
            half(&entry, 0).cast_signed(),
            PollFlags::from_bits_retain(events),
        ));
    }

    let ready = loop {
        // A wait that is over still looks once.
        let slice = p.slice_until(until);
        let preempted = call.is_preempted();
        let patience = slice.filter(|_| !preempted).unwrap_or_default();
        let ready = look(p, &wanted, &patience)?;
        if ready.iter().any(|flags| *flags != 0) || slice.is_none() {
            break ready;
        }
        if preempted {
            p.keep_waiting(call, until);
            return Ok(Next::Interrupted);
        }
    };
    for (i, flags) in ready.iter().enumerate() {
        let at = UserPtr(entries).at(i as u64 * ENTRY_BYTES + 6);
        at.store::<u16>(&p.memory, *flags)?;
    }
    Ok(Next::Done(
        ready.iter().filter(|flags| **flags != 0).count() as u64,
    ))
}

/// What holds for each entry after at most `patience`.
fn look(p: &Kernel, wanted: &[(i32, PollFlags)], patience: &Timespec) -> Result<Vec<u16>, Errno> {
    let mut ready = vec![0; wanted.len()];
    let mut asked = Vec::with_capacity(wanted.len());
    let mut places = Vec::with_capacity(wanted.len());
    let mut bad = false;
    for (i, &(fd, events)) in wanted.iter().enumerate() {
        let Ok(fd) = u64::try_from(fd) else { continue }; // negative: ignored
        match p.files.get(fd) {
            Ok(file) => {
                asked.push(PollFd::new(&**file, events));
                places.push(i);
            }
            Err(_) => {
                ready[i] = PollFlags::NVAL.bits();
                bad = true;
            }
        }
    }
    let patience = if bad { &Timespec::default() } else { patience };
    match poll(&mut asked, Some(patience)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(ready),
        Err(errno) => return Err(errno),
    }
    for (entry, place) in asked.iter().zip(places) {
        ready[place] = entry.revents().bits();
    }
    Ok(ready)
}
