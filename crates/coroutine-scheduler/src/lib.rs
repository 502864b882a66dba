//! coroutine-scheduler
