//! One measured value and the coordinates it was measured at.
//!
//! Samples are kept raw, not averaged at the source: whoever doubts a summary can
//! recompute it, and order and process show drift that a mean would hide.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a sample counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
#[non_exhaustive]
pub enum Event {
    /// `wall_ns`: elapsed time in nanoseconds.
    WallNs,
    /// `cpu_ns`: CPU time in nanoseconds.
    CpuNs,
    /// Any other name: an exact counter, such as `instructions`.
    Counter(String),
}

impl Event {
    /// The name used in files.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::WallNs => "wall_ns",
            Self::CpuNs => "cpu_ns",
            Self::Counter(name) => name,
        }
    }

    /// The unit of a count.
    #[must_use]
    pub const fn unit(&self) -> crate::Unit {
        match self {
            Self::WallNs | Self::CpuNs => crate::Unit::Nanosecond,
            Self::Counter(_) => crate::Unit::Count,
        }
    }
}

impl From<String> for Event {
    fn from(name: String) -> Self {
        match name.as_str() {
            "wall_ns" => Self::WallNs,
            "cpu_ns" => Self::CpuNs,
            _ => Self::Counter(name),
        }
    }
}

impl From<Event> for String {
    fn from(event: Event) -> Self {
        match event {
            Event::Counter(name) => name,
            named => named.name().to_owned(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a sample counts towards the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Taken while caches, branch predictors and the iteration count settled.
    Warmup,
    /// Part of the result.
    Measure,
}

impl Phase {
    /// `warmup` or `measure`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Measure => "measure",
        }
    }
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the process that measured; 0 if there is only one.
    pub process: u32,
    /// Index of the round within its phase.
    pub round: u32,
    /// Position in the order of measurement, over all phases.
    pub order: u32,
    /// Whether the sample counts.
    pub phase: Phase,
    /// What was counted.
    pub event: Event,
    /// How much of it, over all iterations.
    pub count: u64,
    /// Iterations of the body the count covers.
    pub iters: u64,
}

impl Sample {
    /// Count per iteration; `None` without iterations.
    #[must_use]
    pub fn per_iter(&self) -> Option<f64> {
        (self.iters > 0).then(|| self.count as f64 / self.iters as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_parse_back() {
        for event in [
            Event::WallNs,
            Event::CpuNs,
            Event::Counter("instructions".to_owned()),
        ] {
            assert_eq!(Event::from(String::from(event.clone())), event);
        }
    }

    #[test]
    fn no_iterations_means_no_value() {
        let mut sample = Sample {
            process: 0,
            round: 0,
            order: 0,
            phase: Phase::Measure,
            event: Event::WallNs,
            count: 10,
            iters: 4,
        };
        assert_eq!(sample.per_iter(), Some(2.5));
        sample.iters = 0;
        assert_eq!(sample.per_iter(), None);
    }
}
