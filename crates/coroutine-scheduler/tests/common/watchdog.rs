//! No test hangs for ever.

use std::io::Write;
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

/// A lost wake would keep a test, and whoever runs it, waiting for ever: ten
/// minutes after the first call the process aborts.
pub(crate) fn end_if_it_hangs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let watch = || {
            let end = Instant::now() + Duration::from_secs(600);
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            let _ = std::io::stderr().write_all(b"\na test hangs: aborted after ten minutes\n");
            std::process::abort();
        };
        thread::spawn(watch);
    });
}
