//! How urgent a coroutine is.

use std::fmt;

/// How urgent a coroutine is; a later variant is more urgent.
///
/// | Work | Priority |
/// |---|---|
/// | compiling code that somebody waits for | `High` |
/// | guest threads | `Normal` |
/// | I/O, the ring checker, compiling ahead of need | `Low` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// When nothing else is ready.
    Low = 0,
    /// Ordinary work. Some documents call it Medium.
    #[default]
    Normal = 1,
    /// Before ordinary work.
    High = 2,
    /// Before everything.
    RealTime = 3,
}

impl Priority {
    /// Every priority, least urgent first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::RealTime];

    /// 0 for `Low` to 3 for `RealTime`.
    #[must_use]
    pub const fn level(self) -> usize {
        self as usize
    }

    /// `low`, `normal`, `high` or `real-time`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::RealTime => "real-time",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_order_agree() {
        assert!(Priority::ALL.is_sorted());
        for (level, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority.level(), level);
        }
        assert_eq!(Priority::default(), Priority::Normal);
    }
}
