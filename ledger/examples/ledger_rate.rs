//! Measures durable entries per second, and how memory grows.
//!
//! ```text
//! cargo run --release -p chancery-ledger --example ledger_rate -- [DIR] [ENTRIES] [GROUPS]
//! ```
//!
//! For each group size (1, 16, 64, 256, 1024, or a comma-separated list) and for sync on and off: one
//! caller enrols groups of 256-byte payload entries, one call after the other, so a group is a batch. The
//! last column is this process's resident memory. A line of `fdatasync` per second on the same directory
//! comes first: read the rates beside it, since disks differ and share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::canonical::CanonicalJson;
use chancery_format::{EventDraft, Timestamp};
use chancery_ledger::{Clock, Roll, RollOptions, SyncMode};

type Failure = Box<dyn std::error::Error>;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let ms = i64::try_from(since.as_millis()).unwrap_or(0);
        Timestamp::from_unix_ms(ms).unwrap_or_else(|_| unreachable!("this year has four digits"))
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let entries = arguments.next().map(|text| text.parse()).transpose()?.unwrap_or(100_000);
    let groups = arguments.next().unwrap_or_else(|| "1,16,64,256,1024".into());
    let groups = groups.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;

    println!("fdatasync of 4 KiB appended: {:.0}/s", sync_rate(&dir)?);
    println!(
        "{:>6} {:>5} {:>9} {:>10} {:>9} {:>9} {:>8}",
        "group", "sync", "entries", "entries/s", "p50 ms", "p99 ms", "RSS MiB"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    for group in groups {
        for sync in [SyncMode::On, SyncMode::OffForBenchmark] {
            // A group of one waits for every sync: fewer entries say as much.
            let entries = entries.min(group * 2_000).max(group);
            let line = runtime.block_on(measure(&dir, group, sync, entries))?;
            println!("{line}");
        }
    }
    Ok(())
}

async fn measure(dir: &Path, group: usize, sync: SyncMode, entries: usize) -> Result<String, Failure> {
    let place = dir.join(format!("ledger-rate-{}", std::process::id()));
    let on_fatal = Arc::new(|fatal: &chancery_ledger::Fatal| eprintln!("stopped: {fatal}"));
    let origin = "ledger.example/rate".parse()?;
    let mut options = RollOptions::new(&place, origin, "ledger-v1".parse()?, Arc::new(WallClock), on_fatal);
    options.sync = sync;
    options.limits.reserve_bytes = 0;
    let roll = Roll::create(options)?;
    let draft = entry()?;
    let mut took = Vec::with_capacity(entries / group + 1);
    let start = Instant::now();
    while took.len() * group < entries {
        let batch = vec![(draft.clone(), None); group];
        let before = Instant::now();
        for enrolled in roll.enrol_events(batch).await {
            enrolled?;
        }
        took.push(before.elapsed());
    }
    let (elapsed, count) = (start.elapsed(), took.len() * group);
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 100).map_or(0.0, |took| ms(*took));
    let line = format!(
        "{group:>6} {:>5} {count:>9} {:>10.0} {:>9.2} {:>9.2} {:>8.1}",
        if sync == SyncMode::On { "on" } else { "off" },
        count as f64 / elapsed.as_secs_f64(),
        at(50),
        at(99),
        resident_mib()?
    );
    roll.close().await;
    std::fs::remove_dir_all(&place)?;
    Ok(line)
}

fn entry() -> Result<EventDraft, Failure> {
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(248));
    Ok(EventDraft {
        event_type: "rate.measured".parse()?,
        actor: "spiffe://rate.example/service/writer".parse()?,
        stream: "rate".parse()?,
        payload: CanonicalJson::parse(payload.as_bytes())?,
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: None,
    })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What this disk does without a ledger.
fn sync_rate(dir: &Path) -> Result<f64, Failure> {
    let path = dir.join(format!("sync-rate-{}", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    std::fs::remove_file(&path)?;
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn resident_mib() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
