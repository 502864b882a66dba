//! Who ran when: the last runs of each vCPU, for people and trace viewers.
//!
//! Each vCPU has a ring of records that it overwrites, oldest first. A reader
//! may come across a record that is being overwritten; the number in it, written
//! first as odd and last as even, tells, and the record is left out.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::Priority;
use crate::clock;
use crate::coroutine::CoroutineId;

/// One run of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Who ran.
    pub id: CoroutineId,
    /// On which vCPU.
    pub vcpu: usize,
    /// At which level.
    pub level: Priority,
    /// When the run began, from the start of the scheduler: by the CPU's counter,
    /// not the clock of [`now`](crate::now()), whose zero and rate are others.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// Ring of one vCPU.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    records: Box<[Record]>,
    n_written: AtomicU64,
}

#[derive(Debug, Default)]
struct Record {
    /// Odd while it is written, else twice the count of records before it.
    number: AtomicU64,
    id: AtomicU64,
    start_ticks: AtomicU64,
    /// Duration in ticks, and the level in the two low bits.
    length: AtomicU64,
}

impl Ring {
    pub(crate) fn new(n_records: usize) -> Ring {
        Ring {
            records: (0..n_records).map(|_| Record::default()).collect(),
            n_written: AtomicU64::new(0),
        }
    }

    /// For the vCPU alone. Free where tracing is off.
    #[inline]
    pub(crate) fn record(&self, id: CoroutineId, level: Priority, start_ticks: u64, ran: u64) {
        if !self.records.is_empty() {
            self.write(id, level, start_ticks, ran);
        }
    }

    fn write(&self, id: CoroutineId, level: Priority, start_ticks: u64, ran: u64) {
        let n = self.n_written.load(Ordering::Relaxed);
        let record = &self.records[(n % self.records.len() as u64) as usize];
        record.number.store(2 * n + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        record.id.store(id.get(), Ordering::Relaxed);
        record.start_ticks.store(start_ticks, Ordering::Relaxed);
        let length = ran << 2 | level.level() as u64;
        record.length.store(length, Ordering::Relaxed);
        record.number.store(2 * n + 2, Ordering::Release);
        self.n_written.store(n + 1, Ordering::Release);
    }

    /// What is in it, oldest first.
    pub(crate) fn read(&self, vcpu: usize, zero_ticks: u64) -> Vec<RunRecord> {
        let end = self.n_written.load(Ordering::Acquire);
        let capacity = self.records.len() as u64;
        let first = end.saturating_sub(capacity);
        let mut out = Vec::new();
        for n in first..end {
            let record = &self.records[(n % capacity) as usize];
            let before = record.number.load(Ordering::Acquire);
            let id = record.id.load(Ordering::Relaxed);
            let start = record.start_ticks.load(Ordering::Relaxed);
            let length = record.length.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let after = record.number.load(Ordering::Relaxed);
            if before == after && before == 2 * n + 2 {
                let since = start.saturating_sub(zero_ticks);
                out.push(RunRecord {
                    id: CoroutineId(id),
                    vcpu,
                    level: Priority::ALL[(length & 3) as usize],
                    start: Duration::from_nanos(clock::ticks_to_ns(since)),
                    duration: Duration::from_nanos(clock::ticks_to_ns(length >> 2)),
                });
            }
        }
        out
    }
}

/// Writes runs as a Chrome trace (the "Trace Event Format", complete events),
/// which `chrome://tracing` and Perfetto read. `name_of` gives a coroutine's
/// name, if it has one.
#[must_use]
pub fn chrome_trace(
    records: &[RunRecord],
    mut name_of: impl FnMut(CoroutineId) -> Option<String>,
) -> String {
    let mut out = String::from("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
    let mut vcpus = VcpuSet::default();
    for record in records {
        if vcpus.insert(record.vcpu) {
            let _ = writeln!(
                out,
                "{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":{0},\
                 \"args\":{{\"name\":\"vCPU {0}\"}}}},",
                record.vcpu
            );
        }
        let name = name_of(record.id).unwrap_or_else(|| format!("coroutine {}", record.id));
        let _ = writeln!(
            out,
            "{{\"name\":{},\"cat\":\"{}\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{:.3},\
             \"dur\":{:.3},\"args\":{{\"id\":{}}}}},",
            json_string(&name),
            record.level,
            record.vcpu,
            record.start.as_secs_f64() * 1e6,
            record.duration.as_secs_f64() * 1e6,
            record.id
        );
    }
    // The format allows no comma behind the last one.
    let end = out.trim_end_matches([',', '\n']).len();
    out.truncate(end);
    out.push_str("\n]}\n");
    out
}

/// Sixty-four bits say which vCPUs have been named.
#[derive(Default)]
struct VcpuSet(u64);

impl VcpuSet {
    fn insert(&mut self, vcpu: usize) -> bool {
        let bit = 1 << (vcpu % 64);
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_last_ones() {
        let ring = Ring::new(4);
        for n in 1..=10 {
            ring.record(CoroutineId(n), Priority::High, n * 100, 7);
        }
        let ids: Vec<u64> = ring.read(3, 0).iter().map(|r| r.id.get()).collect();
        assert_eq!(ids, [7, 8, 9, 10]);
        assert_eq!(ring.read(3, 0)[0].level, Priority::High);
        let off = Ring::new(0);
        off.record(CoroutineId(1), Priority::Low, 0, 0);
        assert!(off.read(0, 0).is_empty());
    }

    #[test]
    fn names_are_escaped() {
        let record = RunRecord {
            id: CoroutineId(5),
            vcpu: 0,
            level: Priority::Low,
            start: Duration::from_micros(3),
            duration: Duration::from_nanos(1500),
        };
        let text = chrome_trace(&[record, record], |_| Some("a \"b\"\n\\".to_owned()));
        assert!(text.contains(r#""name":"a \"b\"\u000a\\""#), "{text}");
        assert!(text.contains("\"ts\":3.000,\"dur\":1.500"), "{text}");
        assert!(!text.contains("},\n]"), "{text}");
        assert_eq!(text.matches("thread_name").count(), 1);
    }
}
