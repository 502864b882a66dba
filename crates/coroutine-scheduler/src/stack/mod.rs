//! Stacks for coroutines that have one: address space, guards, reuse.
//!
//! A scheduler reserves one slab of address space, the first time that it needs
//! a stack, and cuts it into equal slots:
//!
//! ```text
//!        slot 0             slot 1             slot 2
//!   ┌───────┬──────────┬───────┬──────────┬───────┬──────────┬─ ...
//!   │ guard │  stack   │ guard │  stack   │ guard │  stack   │
//!   └───────┴──────────┴───────┴──────────┴───────┴──────────┴─ ...
//!           limit <─── base (stacks grow down)
//! ```
//!
//! What is reserved costs nothing; a stack costs the pages that it has touched.
//! Guards are marks in the page table where Linux has them (from 6.13 on), so
//! a slab of a million stacks is one or two mappings; else they are mappings of
//! their own, of which a process may have some 65,000.
//!
//! `slab` has the addresses, `guard` tells overflows from other faults, `pool`
//! says which slot is whose.

pub(crate) mod pool;

#[allow(unsafe_code, reason = "guards and the signal handler: rules U1 to U4")]
pub(crate) mod guard;
#[allow(unsafe_code, reason = "the mapping and its slots: rules A1 to A3")]
pub(crate) mod slab;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

pub(crate) use pool::{Permit, StackPool};
pub(crate) use slab::{Base, Slot};

/// How the stacks of a scheduler are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// Usable bytes of each stack, at least; rounded up to pages. Default
    /// 64 KiB. Untouched ones cost address space, and 1/512 of it for page
    /// tables. (A panic with its backtrace fits into 16 KiB.)
    pub stack_bytes: usize,
    /// Stackful coroutines alive at once, over all vCPUs. Default 1,048,576.
    /// With mapped guards fewer can be had, as the error then says.
    pub stacks_max: usize,
    /// Unused stacks that each vCPU keeps with their memory, for the next
    /// coroutine. Default 256. Beyond that, memory goes back at once.
    pub idle_stacks_max: usize,
    /// Unused stacks that no coroutine needed for this long give their memory
    /// back (it may take twice as long). Default 1 s.
    pub idle_time: Duration,
    /// How overflows are caught. Default [`Guards::Auto`].
    pub guards: Guards,
}

/// How the guard below each stack is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guards {
    /// As marks in the page table where the host has them, else mapped.
    #[default]
    Auto,
    /// As mappings of their own, on every host. Each stack then takes two of
    /// the `vm.max_map_count` that a process may have.
    Mapped,
}

impl Default for StackConfig {
    fn default() -> StackConfig {
        StackConfig {
            stack_bytes: 64 << 10,
            stacks_max: 1 << 20,
            idle_stacks_max: 256,
            idle_time: Duration::from_secs(1),
            guards: Guards::Auto,
        }
    }
}

impl StackConfig {
    /// The first field that cannot be honoured: its name, its value, and what
    /// would do.
    pub(crate) fn first_bad_field(&self) -> Option<(&'static str, String, &'static str)> {
        let sizes = (16 << 10)..=(1 << 30);
        if !sizes.contains(&self.stack_bytes) {
            let value = self.stack_bytes.to_string();
            return Some(("stacks.stack_bytes", value, "16 KiB to 1 GiB"));
        }
        if !(1..=1 << 24).contains(&self.stacks_max) {
            let value = self.stacks_max.to_string();
            return Some(("stacks.stacks_max", value, "1 to 16,777,216"));
        }
        if self.idle_time.is_zero() {
            return Some(("stacks.idle_time", "0".to_owned(), "above 0"));
        }
        None
    }
}

/// Why there was no stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackError {
    /// As many are in use as may be.
    InUse {
        /// `stacks_max`.
        limit: usize,
    },
    /// As many are in use as the host can have guards for.
    Mappings {
        /// How many that is.
        limit: usize,
    },
    /// The host refused the address space.
    Reserve {
        /// How much.
        bytes: usize,
        /// Its error number.
        errno: i32,
    },
    /// The host refused memory or a guard within the address space.
    Refused {
        /// Its error number.
        errno: i32,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::InUse { limit } => {
                write!(f, "{limit} stacks are in use, which is stacks_max")
            }
            Self::Mappings { limit } => write!(
                f,
                "{limit} stacks are in use, and the host has no more mappings for their guards; \
                 raise vm.max_map_count, or use Linux 6.13 or later"
            ),
            Self::Reserve { bytes, errno } => write!(
                f,
                "the host refused {bytes:#x} bytes of address space for stacks ({}); \
                 lower stacks_max or stack_bytes, or raise the limit (RLIMIT_AS)",
                io::Error::from_raw_os_error(errno)
            ),
            Self::Refused { errno } => write!(
                f,
                "the host refused a stack ({}); let a filter allow mprotect and madvise, \
                 and look at the memory limits",
                io::Error::from_raw_os_error(errno)
            ),
        }
    }
}

impl Error for StackError {}

/// The stacks of a scheduler, made when it needs the first one.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    pool: OnceLock<StackPool>,
    making: Mutex<()>,
}

impl Stacks {
    /// Makes them if there are none yet.
    #[inline]
    pub(crate) fn get_or_make(
        &self,
        config: &StackConfig,
        n_vcpus: usize,
    ) -> Result<&StackPool, StackError> {
        match self.pool.get() {
            Some(pool) => Ok(pool),
            None => self.make(config, n_vcpus),
        }
    }

    #[cold]
    fn make(&self, config: &StackConfig, n_vcpus: usize) -> Result<&StackPool, StackError> {
        let _one_at_a_time = self.making.lock();
        if self.pool.get().is_none() {
            let pool = StackPool::new(config, n_vcpus)?;
            let _ = self.pool.set(pool);
        }
        self.pool.get().ok_or(StackError::InUse { limit: 0 })
    }

    /// Takes the memory of all unused stacks; gives how many had some.
    pub(crate) fn trim(&self) -> usize {
        self.pool.get().map_or(0, StackPool::trim)
    }

    /// The same for those that were not needed for long, if it is time.
    pub(crate) fn trim_by_time(&self, now_ns: u64) {
        if let Some(pool) = self.pool.get() {
            pool.trim_by_time(now_ns);
        }
    }

    /// When it will be time, if there is something to do then.
    pub(crate) fn trim_after(&self) -> Option<Duration> {
        self.pool.get()?.trim_after()
    }

    pub(crate) fn stats(&self) -> StackStats {
        self.pool
            .get()
            .map_or_else(StackStats::default, StackPool::stats)
    }
}

/// The stacks of a scheduler, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackStats {
    /// Bytes of a stack that can be used; 0 before the first one.
    pub stack_bytes: usize,
    /// Whether guards are marks in the page table, which cost no mapping.
    pub has_light_guards: bool,
    /// Stackful coroutines alive, started or not.
    pub coroutines: usize,
    /// Stacks made so far; the most that were ever in use or kept.
    pub made: usize,
    /// Stacks in use.
    pub in_use: usize,
    /// Unused ones that keep their memory.
    pub idle: usize,
    /// Times that a coroutine got a stack.
    pub taken: u64,
    /// Of these, times that it was one with memory, used before.
    pub reused: u64,
    /// Times that a stack gave its memory back.
    pub trimmed: u64,
    /// Stacks given up, since their coroutine was dropped on a thread that is
    /// not theirs.
    pub lost: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let text = |error: StackError| error.to_string();
        assert!(text(StackError::InUse { limit: 7 }).contains("stacks_max"));
        assert!(text(StackError::Mappings { limit: 7 }).contains("vm.max_map_count"));
        let refused = StackError::Reserve {
            bytes: 1 << 40,
            errno: libc::ENOMEM,
        };
        assert!(text(refused).contains("RLIMIT_AS"), "{refused}");
        assert!(text(StackError::Refused { errno: libc::EPERM }).contains("filter"));
    }

    #[test]
    fn impossible_values_are_named() {
        assert_eq!(StackConfig::default().first_bad_field(), None);
        let name = |config: StackConfig| config.first_bad_field().map(|(name, ..)| name);
        let with = StackConfig::default;
        let bad = StackConfig {
            stack_bytes: 100,
            ..with()
        };
        assert_eq!(name(bad), Some("stacks.stack_bytes"));
        let bad = StackConfig {
            stacks_max: 0,
            ..with()
        };
        assert_eq!(name(bad), Some("stacks.stacks_max"));
        let bad = StackConfig {
            idle_time: Duration::ZERO,
            ..with()
        };
        assert_eq!(name(bad), Some("stacks.idle_time"));
    }
}
