//! The process itself: who it is, what it may use, how it ends; and the few
//! facts about the system that programs ask for.

use rustix::io::Errno;
use rustix::process as host;
use rustix::rand::GetRandomFlags;

use super::uptr::{Cursor, Record, TRANSFER_BYTES_MAX, UserPtr, UserSlice, word};
use super::{Call, Next, Reply};
use crate::kernel::Kernel;
use crate::outcome::Outcome;

pub(super) fn exit(_: &mut Kernel, call: &Call<'_>) -> Reply {
    Ok(Next::End(Outcome::Exited(call.args[0] as i32)))
}

pub(super) fn set_tid_address(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(own_id(p.pid))
}

pub(super) fn set_robust_list(_: &mut Kernel, call: &Call<'_>) -> Reply {
    const HEAD_BYTES: u64 = 24;
    if call.args[1] == HEAD_BYTES {
        Ok(Next::Done(0))
    } else {
        Err(Errno::INVAL)
    }
}

// ---- identity ------------------------------------------------------------

fn own_id(id: i32) -> Next {
    Next::Done(u64::from(id.unsigned_abs()))
}

pub(super) fn getpid(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(own_id(p.pid))
}

pub(super) fn getppid(_: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(own_id(
        host::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
    ))
}

pub(super) fn getuid(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(Next::Done(p.ids.uid.into()))
}

pub(super) fn geteuid(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(Next::Done(p.ids.euid.into()))
}

pub(super) fn getgid(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(Next::Done(p.ids.gid.into()))
}

pub(super) fn getegid(p: &mut Kernel, _: &Call<'_>) -> Reply {
    Ok(Next::Done(p.ids.egid.into()))
}

pub(super) fn getresuid(p: &mut Kernel, call: &Call<'_>) -> Reply {
    three_ids(p, call, [p.ids.uid, p.ids.euid, p.ids.euid])
}

pub(super) fn getresgid(p: &mut Kernel, call: &Call<'_>) -> Reply {
    three_ids(p, call, [p.ids.gid, p.ids.egid, p.ids.egid])
}

fn three_ids(p: &Kernel, call: &Call<'_>, ids: [u32; 3]) -> Reply {
    for (&at, id) in call.args.iter().zip(ids) {
        UserPtr(at).store::<u32>(&p.memory, id)?;
    }
    Ok(Next::Done(0))
}

pub(super) fn getgroups(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [count, list, ..] = *call.args;
    let count = usize::try_from(count as i32).map_err(|_| Errno::INVAL)?;
    let groups = host::getgroups()?;
    if count != 0 {
        if count < groups.len() {
            return Err(Errno::INVAL);
        }
        let ids = groups.iter().flat_map(|group| group.as_raw().to_le_bytes());
        UserPtr(list).write(&p.memory, &ids.collect::<Vec<u8>>())?;
    }
    Ok(Next::Done(groups.len() as u64))
}

fn only_self(p: &Kernel, pid: u64) -> Result<(), Errno> {
    let pid = pid as i32;
    if pid == 0 || pid == p.pid {
        Ok(())
    } else {
        Err(Errno::SRCH)
    }
}

/// 0 where the group's leader is outside of this process's pid namespace.
pub(super) fn getpgid(p: &mut Kernel, call: &Call<'_>) -> Reply {
    only_self(p, call.args[0])?;
    Ok(own_id(nix::unistd::getpgrp().as_raw()))
}

pub(super) fn getsid(p: &mut Kernel, call: &Call<'_>) -> Reply {
    only_self(p, call.args[0])?;
    match nix::unistd::getsid(None) {
        Ok(id) => Ok(own_id(id.as_raw())),
        Err(error) => Err(Errno::from_raw_os_error(error as i32)),
    }
}

pub(super) fn wait4(_: &mut Kernel, _: &Call<'_>) -> Reply {
    Err(Errno::CHILD)
}

// ---- scheduling ----------------------------------------------------------

pub(super) fn sched_yield(_: &mut Kernel, _: &Call<'_>) -> Reply {
    rustix::thread::sched_yield();
    Ok(Next::Done(0))
}

pub(super) fn sched_getaffinity(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [pid, bytes, mask, ..] = *call.args;
    if bytes < 8 || bytes % 8 != 0 {
        return Err(Errno::INVAL);
    }
    only_self(p, pid)?;
    UserPtr(mask).store::<u64>(&p.memory, 1)?;
    Ok(Next::Done(8))
}

/// Affinity has no effect: there is one CPU, and the mask must have it.
pub(super) fn sched_setaffinity(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [pid, bytes, mask, ..] = *call.args;
    only_self(p, pid)?;
    let first = match bytes {
        0 => 0,
        _ => UserPtr(mask).load::<u8>(&p.memory)?,
    };
    if first & 1 == 0 {
        return Err(Errno::INVAL);
    }
    Ok(Next::Done(0))
}

/// `SCHED_OTHER`, the only policy here.
const SCHED_OTHER: u64 = 0;

pub(super) fn sched_getscheduler(p: &mut Kernel, call: &Call<'_>) -> Reply {
    only_self(p, call.args[0])?;
    Ok(Next::Done(SCHED_OTHER))
}

pub(super) fn sched_getparam(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [pid, param, ..] = *call.args;
    only_self(p, pid)?;
    UserPtr(param).store::<u32>(&p.memory, 0)?;
    Ok(Next::Done(0))
}

pub(super) fn sched_get_priority_max(_: &mut Kernel, call: &Call<'_>) -> Reply {
    priority_bound(call, 99)
}

pub(super) fn sched_get_priority_min(_: &mut Kernel, call: &Call<'_>) -> Reply {
    priority_bound(call, 1)
}

fn priority_bound(call: &Call<'_>, of_real_time: u64) -> Reply {
    // FIFO and RR have priorities; OTHER, BATCH, IDLE and DEADLINE have none.
    match call.args[0] as i32 {
        1 | 2 => Ok(Next::Done(of_real_time)),
        0 | 3 | 5 | 6 => Ok(Next::Done(0)),
        _ => Err(Errno::INVAL),
    }
}

/// `PRIO_PROCESS`, the only kind of priority here.
const PRIO_PROCESS: u64 = 0;

/// The kernel answers 20 less the nice value, so that it is never negative.
pub(super) fn getpriority(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [which, who, ..] = *call.args;
    if which != PRIO_PROCESS {
        return Err(Errno::INVAL);
    }
    only_self(p, who)?;
    let nice = host::getpriority_process(None)?;
    Ok(Next::Done((20 - nice).unsigned_abs().into()))
}

pub(super) fn setpriority(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [which, who, nice, ..] = *call.args;
    if which != PRIO_PROCESS {
        return Err(Errno::INVAL);
    }
    only_self(p, who)?;
    host::setpriority_process(None, nice as i32)?;
    Ok(Next::Done(0))
}

pub(super) fn getcpu(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [cpu, node, ..] = *call.args;
    UserPtr(cpu).write_unless_null(&p.memory, &[0; 4])?;
    UserPtr(node).write_unless_null(&p.memory, &[0; 4])?;
    Ok(Next::Done(0))
}

// ---- limits --------------------------------------------------------------

/// `RLIM_INFINITY`.
const INFINITY: u64 = u64::MAX;
const RLIMIT_STACK: usize = 3;
const RLIMIT_CORE: usize = 4;
const RLIMIT_NOFILE: usize = 7;
const RLIMIT_COUNT: usize = 16;

/// The guest's resource limits, soft and hard.
#[derive(Debug)]
pub(crate) struct Limits([(u64, u64); RLIMIT_COUNT]);

impl Limits {
    pub(crate) fn new(stack_bytes: u64) -> Limits {
        let mut limits = [(INFINITY, INFINITY); RLIMIT_COUNT];
        limits[RLIMIT_STACK] = (stack_bytes, stack_bytes);
        limits[RLIMIT_CORE] = (0, 0);
        limits[RLIMIT_NOFILE] = (1024, crate::vfs::fd::FD_COUNT_MAX.into());
        Limits(limits)
    }

    /// Descriptor numbers stay below this.
    pub(crate) fn open_files(&self) -> u32 {
        u32::try_from(self.0[RLIMIT_NOFILE].0).unwrap_or(u32::MAX)
    }
}

fn limit_index(resource: u64) -> Result<usize, Errno> {
    let index = resource as u32 as usize;
    if index < RLIMIT_COUNT {
        Ok(index)
    } else {
        Err(Errno::INVAL)
    }
}

fn set_limit(p: &mut Kernel, index: usize, new: UserPtr) -> Result<(), Errno> {
    let raw = new.read::<16>(&p.memory)?;
    let (soft, hard) = (word(&raw, 0), word(&raw, 8));
    if soft > hard {
        return Err(Errno::INVAL);
    }
    if hard > p.limits.0[index].1 {
        return Err(Errno::PERM);
    }
    p.limits.0[index] = (soft, hard);
    if index == RLIMIT_NOFILE {
        p.files.set_limit(soft);
    }
    Ok(())
}

fn get_limit(p: &Kernel, index: usize) -> Record<16> {
    let (soft, hard) = p.limits.0[index];
    Record::new().u64(0, soft).u64(8, hard)
}

pub(super) fn prlimit64(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [pid, resource, new, old, ..] = *call.args;
    only_self(p, pid)?;
    let index = limit_index(resource)?;
    let had = get_limit(p, index);
    if new != 0 {
        set_limit(p, index, UserPtr(new))?;
    }
    UserPtr(old).write_unless_null(&p.memory, &had.0)?;
    Ok(Next::Done(0))
}

pub(super) fn getrlimit(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [resource, limit, ..] = *call.args;
    let had = get_limit(p, limit_index(resource)?);
    UserPtr(limit).write(&p.memory, &had.0)?;
    Ok(Next::Done(0))
}

pub(super) fn setrlimit(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let [resource, limit, ..] = *call.args;
    set_limit(p, limit_index(resource)?, UserPtr(limit))?;
    Ok(Next::Done(0))
}

pub(super) fn umask(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let had = std::mem::replace(&mut p.umask, call.args[0] as u32 & 0o777);
    Ok(Next::Done(had.into()))
}

pub(super) fn prctl(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const SET_NAME: u32 = 15;
    const GET_NAME: u32 = 16;
    const GET_DUMPABLE: u32 = 3;
    const SET_DUMPABLE: u32 = 4;

    let [option, arg, ..] = *call.args;
    let value = match option as u32 {
        SET_NAME => {
            // At most 15 bytes and a NUL; what is longer is cut.
            let name = p.memory.read_c_string(vm_core::GuestAddr(arg), 15);
            let name = match name.map_err(|_| Errno::FAULT)? {
                Some(name) => name,
                None => UserPtr(arg).read::<15>(&p.memory)?.to_vec(),
            };
            p.set_comm(&name);
            0
        }
        GET_NAME => {
            let name = Record::<16>::new().bytes(0, &p.comm);
            UserPtr(arg).write(&p.memory, &name.0)?;
            0
        }
        GET_DUMPABLE => 1,
        SET_DUMPABLE if arg <= 1 => 0,
        _ => return Err(Errno::INVAL),
    };
    Ok(Next::Done(value))
}

// ---- the system ----------------------------------------------------------

pub(super) fn uname(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const FIELD_BYTES: usize = 65;
    let host = rustix::system::uname();
    let fields: [&[u8]; 6] = [
        b"Linux",
        host.nodename().to_bytes(),
        b"6.1.0",
        b"#1 SMP hartloom",
        b"riscv64",
        b"(none)",
    ];
    let mut record = Record::<{ 6 * FIELD_BYTES }>::new();
    for (i, field) in fields.into_iter().enumerate() {
        let fits = field.len().min(FIELD_BYTES - 1);
        record = record.bytes(i * FIELD_BYTES, &field[..fits]);
    }
    UserPtr(call.args[0]).write(&p.memory, &record.0)?;
    Ok(Next::Done(0))
}

pub(super) fn sysinfo(p: &mut Kernel, call: &Call<'_>) -> Reply {
    let host = rustix::system::sysinfo();
    let (limit, mapped) = (p.memory.limit_bytes(), p.memory.mapped_bytes());
    let record = Record::<112>::new()
        .i64(0, host.uptime)
        .u64(8, host.loads[0])
        .u64(16, host.loads[1])
        .u64(24, host.loads[2])
        .u64(32, limit)
        .u64(40, limit.saturating_sub(mapped))
        .u16(80, 1)
        .u32(104, 1);
    UserPtr(call.args[0]).write(&p.memory, &record.0)?;
    Ok(Next::Done(0))
}

pub(super) fn getrandom(p: &mut Kernel, call: &Call<'_>) -> Reply {
    const KNOWN: u32 = 7;
    const PIECE_BYTES: u64 = 256;
    // As large as one host call gives; C libraries ask again for the rest.
    const BYTES_MAX: u64 = 1 << 20;

    let [buffer, bytes, flags, ..] = *call.args;
    let flags = flags as u32;
    if flags & !KNOWN != 0 || flags & 6 == 6 {
        return Err(Errno::INVAL);
    }
    let host_flags = GetRandomFlags::from_bits_retain(flags);
    let whole = UserSlice::new(buffer, bytes.min(TRANSFER_BYTES_MAX));
    if !whole.is_in_user_space() {
        return Err(Errno::FAULT);
    }
    let slices = [UserSlice::new(buffer, bytes.min(BYTES_MAX))];
    let mut cursor = Cursor::new(&slices);
    let mut done = 0;
    while done < slices[0].bytes {
        let mut piece = [0; PIECE_BYTES as usize];
        let want = cursor.writable(&p.memory, PIECE_BYTES.min(slices[0].bytes - done));
        if want == 0 {
            return if done > 0 {
                Ok(Next::Done(done))
            } else {
                Err(Errno::FAULT)
            };
        }
        match rustix::rand::getrandom(&mut piece[..want as usize], host_flags) {
            Ok(got) => {
                cursor.copy_in(&p.memory, &piece[..got]);
                done += got as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => {
                return if done > 0 {
                    Ok(Next::Done(done))
                } else {
                    Err(errno)
                };
            }
        }
    }
    Ok(Next::Done(done))
}
