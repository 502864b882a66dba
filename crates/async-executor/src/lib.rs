//! async-executor
