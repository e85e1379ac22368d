//! What processes use while something goes on.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked. Looking takes a few milliseconds.
const LOOK: Duration = Duration::from_millis(100);

/// What the command that measures says, if it does.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap())
}

/// Decimal ones, as figures have them.
pub fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap()) / 1e3
}

/// Seconds of processor time of a process and of its children that have ended; of those children alone with `own` false.
pub fn processor(pid: &str, own: bool) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    // utime, stime, cutime, cstime: fields 14 to 17, in hundredths.
    let fields: Vec<f64> = after
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|f| f.parse().unwrap())
        .collect();
    let from = if own { 0 } else { 2 };
    fields[from..].iter().sum::<f64>() / 100.0
}

/// Memory of its own that a process has, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib: Option<u64> = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) << 10
}

/// Processes that descend from one. Not every kernel tells it of a process, so all are looked at.
fn descendants(of: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let parents: Vec<(u32, u32)> = processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            let after = stat.rsplit_once(") ")?.1;
            Some((pid, after.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut all = vec![of];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        all.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    all.split_off(1)
}

/// The most memory that a process had at a time, alone and with the programs it had started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    pub own: u64,
    pub all: u64,
}

impl Peak {
    pub fn larger(self, other: Self) -> Self {
        Self {
            own: self.own.max(other.own),
            all: self.all.max(other.all),
        }
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| f64::from(u32::try_from(bytes >> 10).unwrap()) / 1024.0;
        let (own, all) = (mib(self.own), mib(self.all));
        write!(f, "{own:.1} MiB, {all:.1} MiB with what it starts")
    }
}

/// The most memory that a process has while something goes on.
pub fn peak<T>(pid: u32, work: impl FnOnce() -> T) -> (T, Peak) {
    let most = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let ended = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let (most, ended) = (Arc::clone(&most), Arc::clone(&ended));
        move || {
            while !ended.load(Ordering::Relaxed) {
                let own = memory(pid);
                let others: u64 = descendants(pid).into_iter().map(memory).sum();
                most.0.fetch_max(own, Ordering::Relaxed);
                most.1.fetch_max(own + others, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        }
    });
    let done = work();
    ended.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    let peak = Peak {
        own: most.0.load(Ordering::Relaxed),
        all: most.1.load(Ordering::Relaxed),
    };
    (done, peak)
}

/// How long something took, and how much of a processor; of several rounds.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    pub seconds: Vec<f64>,
    pub processor: Vec<f64>,
}

impl Rounds {
    /// Times one round. `used`: seconds of processor time so far.
    pub fn time<T>(&mut self, used: impl Fn() -> f64, work: impl FnOnce() -> T) -> T {
        let (begun, before) = (Instant::now(), used());
        let done = work();
        self.seconds.push(begun.elapsed().as_secs_f64());
        self.processor.push(used() - before);
        done
    }

    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// In a line; `megabytes` were done in each round.
    pub fn line(&self, what: &str, megabytes: f64) {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
        println!(
            "  {what}: {first:.1} / {:.1} / {last:.1} s (n={}), {:.0} MB/s, {:.1} s of processor for each GB",
            self.median(),
            sorted.len(),
            megabytes / self.median(),
            median(&self.processor) / megabytes * 1e3
        );
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}
