//! The auditor's report of a whole ledger: how large it is, how long a real browser takes to show it, how it prints.
//!
//! Chromium (`$CHROMIUM`, or where its package has it) is asked over its DevTools protocol through a pipe, and the page
//! itself tells when it had loaded and when it first painted. Ends the browser it started, at the latest after a minute.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_tests::rig::binary;
use serde_json::{Value, json};

use crate::table::{Table, median};
use crate::verification::used_by;

/// Times the report is opened, each in a tab of its own.
const OPENED: usize = 5;
/// Longest that all of it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the page knows of itself; a number is 0 until it is known.
const TIMES: &str = "JSON.stringify([performance.getEntriesByType('navigation')[0].loadEventEnd, \
    (performance.getEntriesByName('first-contentful-paint')[0] ?? {startTime: 0}).startTime])";

/// Has the report written, opened and printed.
pub(crate) fn shown(archive: &Path, signers: &Path, folder: &Path, table: &mut Table) {
    let report = folder.join("report.html");
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("ledger").arg(archive).arg("--signers").arg(signers).arg("--report").arg(&report);
    let output = used_by(&mut command).output;
    assert!(output.ends_with("VALID\n") && !output.ends_with("NOT VALID\n"), "{output}");
    let bytes = std::fs::metadata(&report).unwrap().len() as f64;
    table.add("report, size", bytes / 1e6, "MB");
    table.ratio("report's size ÷ 5 MB", bytes / 5e6, "≤ 1");

    let mut browser = Browser::start(folder);
    let url = format!("file://{}", report.canonicalize().unwrap().display());
    // The first tab of a new browser pays for the browser as well.
    table.add("report, opened first in a new browser", browser.open(&url), "ms");
    let times = (0..OPENED).map(|_| browser.open(&url)).collect();
    let opened = median(times);
    table.add("report, opened: loaded and painted", opened, "ms");
    table.ratio("report's opening ÷ 2 s", opened / 2e3, "≤ 1");
    let pages = browser.printed(&url);
    assert!(pages > 0, "nothing was printed");
    table.add("report, printed", pages as f64, "pages");
}

/// A browser that nobody sees.
struct Browser {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
    asked: u64,
    began: Instant,
    /// Its watchman goes with it.
    still: Option<SyncSender<()>>,
}

impl Browser {
    fn start(folder: &Path) -> Self {
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        // It reads from descriptor 3 and writes to 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2", &program]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.arg("--remote-debugging-pipe");
        command.arg(format!("--user-data-dir={}", folder.join("browser").display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (asks, tells) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let pid = rustix::process::Pid::from_child(&child);
        let (still, watched) = sync_channel::<()>(0);
        // A browser that falls silent ends, and with it whoever waits for its words.
        std::thread::spawn(move || {
            if watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        Self { child, asks, tells, asked: 0, began: Instant::now(), still: Some(still) }
    }

    /// One message; they end with a zero byte.
    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.tells.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser ended after {:?}", self.began.elapsed());
        serde_json::from_slice(&message).unwrap()
    }

    fn call(&mut self, tab: &str, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut ask = json!({ "id": self.asked, "method": method, "params": params });
        if !tab.is_empty() {
            ask["sessionId"] = json!(tab);
        }
        self.asks.write_all(format!("{ask}\0").as_bytes()).unwrap();
        loop {
            let told = self.read();
            if told["id"] == self.asked {
                assert!(told["error"].is_null(), "{method}: {told}");
                return told["result"].clone();
            }
        }
    }

    /// A new tab with nothing in it: its target and its session.
    fn tab(&mut self) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let target = text(&self.call("", "Target.createTarget", json!({ "url": "about:blank" }))["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&self.call("", "Target.attachToTarget", attach)["sessionId"]);
        (target, session)
    }

    /// Milliseconds from asking for a page until it had loaded and painted, as the page has it.
    fn open(&mut self, url: &str) -> f64 {
        let (target, tab) = self.tab();
        self.call(&tab, "Page.navigate", json!({ "url": url }));
        let times = loop {
            let told = self.call(&tab, "Runtime.evaluate", json!({ "expression": TIMES }));
            let times: Value =
                serde_json::from_str(told["result"]["value"].as_str().unwrap_or("[]")).unwrap();
            let times = [times[0].as_f64().unwrap_or(0.0), times[1].as_f64().unwrap_or(0.0)];
            if times[0] > 0.0 && times[1] > 0.0 {
                break times;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.call("", "Target.closeTarget", json!({ "targetId": target }));
        times[0].max(times[1])
    }

    /// Pages of paper.
    fn printed(&mut self, url: &str) -> usize {
        let (_, tab) = self.tab();
        self.call(&tab, "Page.enable", json!({}));
        self.call(&tab, "Page.navigate", json!({ "url": url }));
        while self.read()["method"] != "Page.loadEventFired" {}
        let paper = json!({ "printBackground": true, "preferCSSPageSize": true });
        let paper = self.call(&tab, "Page.printToPDF", paper);
        let pdf = STANDARD.decode(paper["data"].as_str().unwrap()).unwrap();
        assert!(pdf.starts_with(b"%PDF-"));
        // One object a page; the tree of pages is of type Pages.
        let kinds = pdf.windows(12).filter(|window| window.starts_with(b"/Type /Page"));
        kinds.filter(|window| !window.ends_with(b"s")).count()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.still = None;
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
