//! Units, directions, and the one place where numbers become text for people.
//!
//! The table below is the only list of units: the enum, parsing, conversion and
//! formatting derive from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UnitError;

/// What a unit measures; values convert only within one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dimension {
    /// Time; base unit nanosecond.
    Time,
    /// A number of things.
    Amount,
    /// Memory or file size; base unit byte.
    Size,
    /// A dimensionless share or ratio; base unit ratio, so 1 is 100 %.
    Share,
    /// Events per second.
    Rate,
    /// Bytes per second.
    SizeRate,
}

macro_rules! units {
    ($($variant:ident, $symbol:literal, $dimension:ident, $factor:literal, $doc:literal;)*) => {
        /// The unit of a value. Serialised, parsed and displayed as its symbol.
        ///
        #[doc = "| Symbol | Meaning |"]
        #[doc = "|---|---|"]
        $(#[doc = concat!("| `", $symbol, "` | ", $doc, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        #[non_exhaustive]
        pub enum Unit {
            $(
                #[doc = concat!("`", $symbol, "`: ", $doc, ".")]
                $variant,
            )*
        }

        impl Unit {
            /// Every unit, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The symbol used in tables and files.
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$variant => $symbol),* }
            }

            /// What the unit measures.
            #[must_use]
            pub const fn dimension(self) -> Dimension {
                match self { $(Self::$variant => Dimension::$dimension),* }
            }

            /// How many of the dimension's base unit one of this unit is.
            const fn factor(self) -> f64 {
                match self { $(Self::$variant => $factor),* }
            }
        }
    };
}

units! {
    Nanosecond,     "ns",    Time,     1.0,       "nanoseconds";
    Microsecond,    "us",    Time,     1e3,       "microseconds";
    Millisecond,    "ms",    Time,     1e6,       "milliseconds";
    Second,         "s",     Time,     1e9,       "seconds";
    Count,          "count", Amount,   1.0,       "a number of things";
    Byte,           "B",     Size,     1.0,       "bytes";
    Kibibyte,       "KiB",   Size,     1024.0,    "1024 bytes";
    Mebibyte,       "MiB",   Size,     1048576.0, "1024 KiB";
    Percent,        "%",     Share,    0.01,      "hundredths";
    Ratio,          "ratio", Share,    1.0,       "a ratio of two like values";
    PerSecond,      "1/s",   Rate,     1.0,       "events per second";
    MegaPerSecond,  "M/s",   Rate,     1e6,       "million events per second";
    BytePerSecond,  "B/s",   SizeRate, 1.0,       "bytes per second";
}

impl Unit {
    /// `value` of this unit in `to`; `None` if the two measure different things.
    ///
    /// ```
    /// use perf_bench::Unit;
    ///
    /// assert_eq!(Unit::Microsecond.convert(1.5, Unit::Nanosecond), Some(1500.0));
    /// assert_eq!(Unit::Microsecond.convert(1.5, Unit::Byte), None);
    /// ```
    #[must_use]
    pub fn convert(self, value: f64, to: Self) -> Option<f64> {
        if self == to {
            // No rounding through the base unit.
            return Some(value);
        }
        if self.dimension() != to.dimension() {
            return None;
        }
        let (from, to) = (self.factor(), to.factor());
        // Dividing by a whole number rounds once; multiplying by its inverse, twice.
        Some(if from >= to {
            value * (from / to)
        } else {
            value / (to / from)
        })
    }

    /// A value of this unit, displayed for people.
    #[must_use]
    pub const fn of(self, value: f64) -> Quantity {
        Quantity { value, unit: self }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.symbol())
    }
}

impl FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        // Both code points of the micro sign are in use.
        let symbol = match text {
            "\u{b5}s" | "\u{3bc}s" => "us",
            other => other,
        };
        Self::ALL
            .iter()
            .copied()
            .find(|unit| unit.symbol() == symbol)
            .ok_or_else(|| UnitError::UnknownUnit {
                found: text.to_owned(),
            })
    }
}

impl From<Unit> for &'static str {
    fn from(unit: Unit) -> Self {
        unit.symbol()
    }
}

impl TryFrom<String> for Unit {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Lower values are better.
    Lower,
    /// Higher values are better.
    Higher,
}

impl Direction {
    /// Whether `value` is at least as good as `bound`.
    ///
    /// The bound itself is good enough: a bar of 0 failures or 100 % could not be
    /// met otherwise. NaN meets nothing.
    #[must_use]
    pub fn meets(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Lower => value <= bound,
            Self::Higher => value >= bound,
        }
    }

    /// `lower` or `higher`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Direction {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text {
            "lower" => Ok(Self::Lower),
            "higher" => Ok(Self::Higher),
            other => Err(UnitError::UnknownDirection {
                found: other.to_owned(),
            }),
        }
    }
}

/// A value with its unit, displayed with the prefix that suits its size.
///
/// ```
/// use perf_bench::Unit;
///
/// assert_eq!(Unit::Nanosecond.of(1234.0).to_string(), "1.234 us");
/// assert_eq!(Unit::PerSecond.of(2_500_000.0).to_string(), "2.500 M/s");
/// assert_eq!(Unit::Byte.of(1536.0).to_string(), "1.500 KiB");
/// assert_eq!(Unit::Percent.of(98.5).to_string(), "98.50 %");
/// assert_eq!(Unit::Ratio.of(1.35).to_string(), "1.350x");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity {
    /// The value, in `unit`.
    pub value: f64,
    /// The unit.
    pub unit: Unit,
}

/// Largest prefix last; the factor is relative to the dimension's base unit.
type Prefixes = &'static [(f64, &'static str)];

const TIME: Prefixes = &[(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")];
const SIZE: Prefixes = &[
    (1.0, "B"),
    (1024.0, "KiB"),
    (1_048_576.0, "MiB"),
    (1_073_741_824.0, "GiB"),
];
const RATE: Prefixes = &[(1.0, "/s"), (1e3, "K/s"), (1e6, "M/s"), (1e9, "G/s")];
const SIZE_RATE: Prefixes = &[
    (1.0, "B/s"),
    (1024.0, "KiB/s"),
    (1_048_576.0, "MiB/s"),
    (1_073_741_824.0, "GiB/s"),
];

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = match self.unit.dimension() {
            Dimension::Time => TIME,
            Dimension::Size => SIZE,
            Dimension::Rate => RATE,
            Dimension::SizeRate => SIZE_RATE,
            Dimension::Amount => return f.pad(&format_number(self.value)),
            Dimension::Share => {
                let number = format_number(self.value);
                return match self.unit {
                    Unit::Percent => f.pad(&format!("{number} %")),
                    _ => f.pad(&format!("{number}x")),
                };
            }
        };
        let base = self.value * self.unit.factor();
        let (factor, symbol) = prefixes
            .iter()
            .rev()
            .find(|(factor, _)| base.abs() >= *factor)
            .unwrap_or(&prefixes[0]);
        f.pad(&format!("{} {symbol}", format_number(base / factor)))
    }
}

/// Whole numbers in full, others with four significant digits; an exponent only
/// where plain digits would mislead (below 0.0001, from 1e15 on).
pub(crate) fn format_number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        // Negative zero is a rounding artefact, not news.
        "0".to_owned()
    } else if !(1e-4..1e15).contains(&magnitude) {
        format!("{value:.3e}")
    } else if value.fract() == 0.0 || magnitude >= 1000.0 {
        format!("{value:.0}")
    } else if magnitude >= 100.0 {
        format!("{value:.1}")
    } else if magnitude >= 10.0 {
        format!("{value:.2}")
    } else if magnitude >= 1.0 {
        format!("{value:.3}")
    } else if magnitude >= 0.1 {
        format!("{value:.4}")
    } else if magnitude >= 0.01 {
        format!("{value:.5}")
    } else if magnitude >= 0.001 {
        format!("{value:.6}")
    } else {
        format!("{value:.7}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_parses_back() {
        for &unit in Unit::ALL {
            assert_eq!(unit.to_string().parse(), Ok(unit));
        }
        assert_eq!("\u{b5}s".parse(), Ok(Unit::Microsecond));
        assert_eq!("\u{3bc}s".parse(), Ok(Unit::Microsecond));
    }

    #[test]
    fn unknown_words_are_refused_with_the_choices() {
        let unit = "parsec".parse::<Unit>().unwrap_err().to_string();
        assert!(unit.contains("parsec") && unit.contains("M/s"), "{unit}");
        let direction = "up".parse::<Direction>().unwrap_err().to_string();
        assert!(direction.contains("lower"), "{direction}");
    }

    #[test]
    fn conversion_stays_within_a_dimension() {
        for &from in Unit::ALL {
            for &to in Unit::ALL {
                let converted = from.convert(12.0, to);
                assert_eq!(converted.is_some(), from.dimension() == to.dimension());
            }
        }
        assert_eq!(Unit::Second.convert(2.0, Unit::Millisecond), Some(2000.0));
        assert_eq!(
            Unit::Nanosecond.convert(250.0, Unit::Microsecond),
            Some(0.25)
        );
        assert_eq!(Unit::Ratio.convert(0.5, Unit::Percent), Some(50.0));
        assert_eq!(Unit::MegaPerSecond.convert(3.0, Unit::PerSecond), Some(3e6));
    }

    #[track_caller]
    fn check(value: f64, unit: Unit, expected: &str) {
        assert_eq!(unit.of(value).to_string(), expected);
    }

    #[test]
    fn quantities_read_well_at_every_size() {
        check(0.0, Unit::Nanosecond, "0 ns");
        check(0.25, Unit::Nanosecond, "0.2500 ns");
        check(999.0, Unit::Nanosecond, "999 ns");
        check(2.5, Unit::Second, "2.500 s");
        check(0.02, Unit::Second, "20 ms");
        check(-1500.0, Unit::Nanosecond, "-1.500 us");
        check(300.0, Unit::MegaPerSecond, "300 M/s");
        check(950.0, Unit::PerSecond, "950 /s");
        check(3.0, Unit::Mebibyte, "3 MiB");
        check(1048576.0, Unit::BytePerSecond, "1 MiB/s");
        check(1_000_000.0, Unit::Count, "1000000");
        check(0.000_012_34, Unit::Ratio, "1.234e-5x");
    }

    #[test]
    fn the_bound_itself_is_good_enough() {
        assert!(Direction::Lower.meets(0.0, 0.0));
        assert!(Direction::Higher.meets(100.0, 100.0));
        assert!(!Direction::Lower.meets(0.1, 0.0));
        assert!(!Direction::Higher.meets(f64::NAN, 0.0));
        assert!(!Direction::Lower.meets(f64::NAN, 0.0));
    }
}
