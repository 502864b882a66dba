//! What happened, event by event, and its hash.

use crate::CoroutineId;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in virtual nanoseconds.
    pub at_ns: u64,
    /// To which coroutine: its number in the workload, from 0.
    pub coroutine: u32,
    /// On which vCPU.
    pub vcpu: u16,
    /// What.
    pub what: What,
}

impl Event {
    /// The coroutine's number as an id.
    #[must_use]
    pub const fn id(&self) -> CoroutineId {
        CoroutineId::new(self.coroutine as u64)
    }
}

/// What can happen to a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// It arrives and is queued.
    Arrived,
    /// It gets the vCPU.
    Started,
    /// It loses the vCPU: its slice is over.
    SliceSpent,
    /// It loses the vCPU to something more urgent.
    Preempted,
    /// It gives up the vCPU for a moment.
    Yielded,
    /// It gives up the vCPU and waits.
    Waits,
    /// Its wait is over and it is queued.
    Woken,
    /// It was queued elsewhere and is now here.
    Moved,
    /// It is done.
    Ended,
}

impl What {
    /// Whether a vCPU is free after it.
    #[must_use]
    pub const fn ends_turn(self) -> bool {
        matches!(
            self,
            Self::SliceSpent | Self::Preempted | Self::Yielded | Self::Waits | Self::Ended
        )
    }
}

/// Events in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 64-bit FNV-1a (Fowler, Noll, Vo) over all events: equal traces have equal
    /// hashes, and other traces most likely another.
    pub hash: u64,
    /// How many events there were.
    pub n_events: u64,
    /// The events, if [`keeps_trace`](super::SimConfig::keeps_trace) was set;
    /// else none.
    pub events: Vec<Event>,
    keeps: bool,
}

impl Trace {
    pub(super) fn new(keeps: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            n_events: 0,
            events: Vec::new(),
            keeps,
        }
    }

    pub(super) fn record(&mut self, event: Event) {
        let Event {
            at_ns,
            coroutine,
            vcpu,
            what,
        } = event;
        self.absorb(&at_ns.to_le_bytes());
        self.absorb(&coroutine.to_le_bytes());
        self.absorb(&vcpu.to_le_bytes());
        self.absorb(&[what as u8]);
        self.n_events += 1;
        if self.keeps {
            self.events.push(event);
        }
    }

    fn absorb(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        let hash = |text: &str| {
            let mut trace = Trace::new(false);
            trace.absorb(text.as_bytes());
            trace.hash
        };
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }
}
