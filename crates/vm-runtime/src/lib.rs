//! vm-runtime
