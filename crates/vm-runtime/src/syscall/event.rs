//! Waiting for files.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::time::clock_gettime;

use super::time::{guest_timespec, read_timespec, time_left};
use super::uptr::{UserPtr, half};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::vfs::fd::FD_COUNT_MAX;

/// Bytes of a `struct pollfd`.
const ENTRY_BYTES: u64 = 8;

pub(super) fn ppoll(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [entries, count, timeout, ..] = *call.args;
    if count > u64::from(p.limits.open_files()) {
        return Err(Errno::INVAL);
    }
    let until = end_of_wait(p, call, UserPtr(timeout))?;
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

    let Some(ready) = wait(p, call, &wanted, until)? else {
        return Ok(Next::Interrupted);
    };
    for (i, flags) in ready.iter().enumerate() {
        let at = UserPtr(entries).at(i as u64 * ENTRY_BYTES + 6);
        at.store::<u16>(&p.memory, *flags)?;
    }
    Ok(Next::Done(
        ready.iter().filter(|flags| **flags != 0).count() as u64,
    ))
}

/// Three sets of descriptors, a bit each: to read, to write, exceptional.
pub(super) fn pselect6(p: &mut Kernel, call: &Call<'_>) -> Reply {
    /// What makes a descriptor belong to each set.
    const EVENTS: [PollFlags; 3] = [
        PollFlags::IN
            .union(PollFlags::RDNORM)
            .union(PollFlags::RDBAND)
            .union(PollFlags::HUP)
            .union(PollFlags::ERR),
        PollFlags::OUT
            .union(PollFlags::WRNORM)
            .union(PollFlags::WRBAND)
            .union(PollFlags::ERR),
        PollFlags::PRI,
    ];
    let [count, read, write, except, timeout, ..] = *call.args;
    let sets = [read, write, except].map(UserPtr);
    let count = u64::try_from(count as i32).map_err(|_| Errno::INVAL)?;
    // As Linux does: there are no descriptors beyond.
    let count = count.min(FD_COUNT_MAX.into());
    let word_count = count.div_ceil(64);
    let until = end_of_wait(p, call, UserPtr(timeout))?;

    let mut wanted = Vec::new();
    for index in 0..word_count {
        let mut bits = [0_u64; 3];
        for (bits, set) in bits.iter_mut().zip(sets) {
            if !set.is_null() {
                *bits = set.at(index * 8).load(&p.memory)?;
            }
        }
        for bit in 0..(count - index * 64).min(64) {
            let mut events = PollFlags::empty();
            for (bits, of_set) in bits.iter().zip(EVENTS) {
                if bits >> bit & 1 != 0 {
                    events |= of_set;
                }
            }
            if !events.is_empty() {
                let fd = index * 64 + bit;
                p.files.get(fd)?;
                wanted.push((fd as i32, events));
            }
        }
    }
    let Some(ready) = wait(p, call, &wanted, until)? else {
        return Ok(Next::Interrupted);
    };

    let mut found = 0;
    for (set, of_set) in sets.into_iter().zip(EVENTS) {
        let mut words = vec![0_u64; word_count as usize];
        for (&(fd, events), &flags) in wanted.iter().zip(&ready) {
            let (fd, flags) = (fd as usize, PollFlags::from_bits_retain(flags));
            // An error wakes every set that the descriptor is in, and no other.
            if events.contains(of_set) && flags.intersects(of_set) {
                words[fd / 64] |= 1 << (fd % 64);
                found += 1;
            }
        }
        if !set.is_null() {
            let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            set.write(&p.memory, &bytes)?;
        }
    }
    if let Some(until) = until {
        let left = time_left(until, clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        // Linux does not mind where it cannot say how much was left.
        let _ = UserPtr(timeout).write(&p.memory, &guest_timespec(left).0);
    }
    Ok(Next::Done(found))
}

/// When a wait with this timeout ends; never, where the guest gave none.
fn end_of_wait(
    p: &mut Kernel,
    call: &Call<'_>,
    timeout: UserPtr,
) -> Result<Option<Timespec>, Errno> {
    if timeout.is_null() {
        return Ok(None);
    }
    let duration = read_timespec(timeout, &p.memory)?;
    Ok(Some(p.deadline(call, duration)))
}

/// Waits until something holds of an entry or the time has come, and says what
/// holds of each; `None` where the run is to end first.
fn wait(
    p: &mut Kernel,
    call: &Call<'_>,
    wanted: &[(i32, PollFlags)],
    until: Option<Timespec>,
) -> Result<Option<Vec<u16>>, Errno> {
    loop {
        // A wait that is over still looks once.
        let slice = p.slice_until(until);
        let preempted = call.is_preempted();
        let patience = slice.filter(|_| !preempted).unwrap_or_default();
        let ready = look(p, wanted, &patience)?;
        if ready.iter().any(|flags| *flags != 0) || slice.is_none() {
            return Ok(Some(ready));
        }
        if preempted {
            p.keep_waiting(call, until);
            return Ok(None);
        }
    }
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
