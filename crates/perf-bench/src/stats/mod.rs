//! Statistics: pure functions of numbers, no clock and no I/O.

pub mod summary;
