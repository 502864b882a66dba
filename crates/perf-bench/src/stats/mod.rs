//! Statistics: pure functions of numbers, no clock and no I/O.
//!
//! [`summary`] condenses samples and has the quantiles; [`distribution`] is
//! Student's t and the normal curve; [`trimmed`] estimates a location that a noisy
//! neighbour does not move, with its error; [`sequential`] decides from growing
//! data without paying for the peeking; [`bootstrap`] gives intervals where no
//! formula is known; [`multiple`] corrects for many tests; [`proportion`] is for
//! rates that were counted; [`changepoint`] finds steps in a long series. What SciPy has,
//! is checked against it.
//!
//! What these functions refuse (no samples, a NaN, a level outside 0 to 1) is a
//! mistake in the calling code and panics; what may come from a measurement is
//! refused before, where samples are recorded.

pub mod summary;

pub mod distribution;
pub mod trimmed;

pub mod bootstrap;
pub mod changepoint;
pub mod multiple;
pub mod proportion;
pub mod sequential;

pub mod rng;

/// An interval that holds the estimated quantity at some confidence.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end, not below `lo`.
    pub hi: f64,
}

impl Interval {
    /// Whether `value` lies in it, the ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }
}

/// Ascending copy of samples.
///
/// # Panics
/// If one is NaN: no order would be right.
fn ascending(samples: &[f64]) -> Vec<f64> {
    assert!(
        samples.iter().all(|sample| !sample.is_nan()),
        "a sample is NaN"
    );
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}
