//! perf-bench
