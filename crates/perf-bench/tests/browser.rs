//! The page, loaded by a real browser: Debian's `chromium`, or a browser of that
//! family under another name. Without one the test says so and checks nothing.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Far beyond any loaded machine's need; a browser that hangs must not hang the
/// tests.
const PATIENCE: Duration = Duration::from_secs(120);

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("perf-bench-browser-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads a pipe to its end in the background.
fn drain(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// What the browser wrote: the page as it understood it, and its log. `None` if it
/// is not installed.
fn load(browser: &str, page: &str) -> Option<(String, String)> {
    let scratch = Scratch::new();
    let file = scratch.0.join("report.html");
    std::fs::write(&file, page).unwrap();
    let profile = format!("--user-data-dir={}", scratch.0.join("profile").display());
    let mut child = Command::new(browser)
        // A sandbox of its own needs rights that containers do not give.
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(profile)
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let dom = drain(child.stdout.take().unwrap());
    let log = drain(child.stderr.take().unwrap());
    let dom = dom.recv_timeout(PATIENCE);
    // Its helpers may outlive it for a moment and keep the log open.
    let _ = child.kill();
    child.wait().unwrap();
    let log = log.recv_timeout(PATIENCE).unwrap_or_default();
    Some((dom.expect("the browser ends"), log))
}

#[test]
fn a_browser_shows_every_chart_and_has_no_complaint() {
    let page = include_str!("golden/report.html");
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let Some((dom, log)) = browsers.iter().find_map(|browser| load(browser, page)) else {
        println!("skipped: none of {} is installed", browsers.join(", "));
        return;
    };
    for element in ["<svg", "<circle", "<path", "<details", "<figure", "<tr>"] {
        let (written, shown) = (page.matches(element).count(), dom.matches(element).count());
        assert_eq!(written, shown, "{element}");
    }
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
