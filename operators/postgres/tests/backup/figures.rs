//! Figures for docs/benchmarks.md. Not a test: it asserts nothing about time, and is run by hand.
//!
//! `MAINSTAY_FIGURES_MIB` says how large the database is (1024 by default).

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay_backup::api::ArchiveState;
use mainstay_postgres::backup::api::RestoreStep;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{BUCKET, Node, Where, World, command, programs};

/// Each is measured so often, ours and theirs in turn.
const ROUNDS: usize = 3;
/// Level of zstd, as repositories have it.
const LEVEL: i32 = 3;
/// Bytes that the baseline uploads as one object.
const OBJECT: usize = 16 << 20;
/// Uploads of the baseline at a time, as ours.
const UPLOADS: usize = 3;

/// Seconds of processor time of a process and of its children that have ended; of children alone with `own` false.
fn processor(pid: &str, own: bool) -> f64 {
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

/// The most memory of its own that a process has while something goes on, in bytes.
fn peak<T>(pid: u32, work: impl FnOnce() -> T) -> (T, u64) {
    let (most, ended) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let watching = std::thread::spawn({
        let (most, ended) = (Arc::clone(&most), Arc::clone(&ended));
        move || {
            while !ended.load(Ordering::Relaxed) {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
                let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
                most.fetch_max(kib.unwrap_or(0) << 10, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let done = work();
    ended.store(true, Ordering::Relaxed);
    watching.join().unwrap();
    (done, most.load(Ordering::Relaxed))
}

/// `pg_basebackup | zstd` with the same level and one thread, into the same store, several objects at a time.
fn baseline(world: &World, node: &Node, round: usize) {
    let server = world.server.as_ref().unwrap();
    let zstd = format!(
        "{}/pg_basebackup -h {} -U postgres -c fast -X none -F t -D - | zstd -q -c -{LEVEL} -T1",
        programs().display(),
        node.sockets()
    );
    let mut pipe = command("/bin/bash");
    let mut pipe = pipe
        .args(["-o", "pipefail", "-c", &zstd])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = pipe.stdout.take().unwrap();
    let mut uploads = Vec::new();
    for number in 0.. {
        let mut piece = Vec::with_capacity(OBJECT);
        out.by_ref()
            .take(OBJECT as u64)
            .read_to_end(&mut piece)
            .unwrap();
        if piece.is_empty() {
            break;
        }
        let file = world.folder.path().join(format!("piece-{number}"));
        fs::write(&file, piece).unwrap();
        let key = format!("/{BUCKET}/baseline/{round}/{number}");
        let args = server.store().request("PUT", &key, &[], Some(&file));
        let upload = Command::new("curl")
            .args(args)
            .stdout(Stdio::null())
            .spawn();
        uploads.push((upload.unwrap(), file));
        if uploads.len() == UPLOADS {
            ended(uploads.remove(0));
        }
    }
    uploads.into_iter().for_each(ended);
    assert!(pipe.wait().unwrap().success());
}

fn ended((mut upload, file): (std::process::Child, std::path::PathBuf)) {
    assert!(upload.wait().unwrap().success());
    fs::remove_file(file).unwrap();
}

fn megabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1000).unwrap()) / 1e3
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn fill(node: &Node, mib: u64) {
    // About 250 bytes a row, which compress to a third.
    let rows = mib * 4300;
    node.sql(&format!(
        "create table filling as select n, md5(n::text) || md5((n * 7)::text) as a, repeat('x', 120) as b
         from generate_series(1, {rows}) n"
    ));
    node.sql("vacuum filling");
    node.sql("checkpoint");
}

#[ignore = "figures, by hand: docs/benchmarks.md says how"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures() {
    let mib = std::env::var("MAINSTAY_FIGURES_MIB").map_or(1024, |v| v.parse().unwrap());
    for encrypted in [false, true] {
        let world = World::new(Where::S3, encrypted).await;
        let mut node = world.node("db-1");
        node.initialise_with(16);
        node.start(None);
        fill(&node, mib);
        node.start_sidecar();
        world.archived(&node);
        let sidecar = node.sidecar_pid();
        let (mut ours, mut theirs) = ((vec![], vec![]), (vec![], vec![]));
        let (mut bytes, mut stored, mut memory) = (0, 0, 0);
        for round in 0..ROUNDS {
            let (began, before) = (Instant::now(), processor(&sidecar.to_string(), true));
            let (made, most) = peak(sidecar, || world.back_up(&node, &round.to_string(), false));
            ours.0.push(began.elapsed().as_secs_f64());
            ours.1.push(processor(&sidecar.to_string(), true) - before);
            (bytes, stored) = (made.plain_bytes, made.stored_bytes);
            memory = memory.max(most);
            let (began, before) = (Instant::now(), processor("self", false));
            baseline(&world, &node, round);
            theirs.0.push(began.elapsed().as_secs_f64());
            theirs.1.push(processor("self", false) - before);
        }
        let mb = megabytes(bytes);
        let line = |what: &str, (took, cpu): &(Vec<f64>, Vec<f64>)| {
            println!(
                "{what}: {:.1} s, {:.0} MB/s, {:.1} s of processor for each GB",
                median(took),
                mb / median(took),
                median(cpu) / mb * 1e3
            );
        };
        println!(
            "encrypted: {encrypted}; {mb:.0} MB, {:.0} MB as stored",
            megabytes(stored)
        );
        line("ours", &ours);
        line("pg_basebackup | zstd, not encrypted", &theirs);
        println!(
            "ratio of speeds: {:.2}",
            median(&theirs.0) / median(&ours.0)
        );
        println!(
            "most memory of the backup container: {:.1} MB",
            megabytes(memory)
        );

        let mut took = Vec::new();
        for round in 0..ROUNDS {
            let new = world.node(&format!("restored-{round}"));
            let began = Instant::now();
            let report = world.restore(&new, Target::Latest);
            took.push(began.elapsed().as_secs_f64());
            assert_eq!(report.step, RestoreStep::Done, "{report:?}");
            fs::remove_dir_all(new.root.clone()).unwrap();
        }
        println!(
            "restore: {:.1} s, {:.0} MB/s",
            median(&took),
            mb / median(&took)
        );

        // Log that has piled up.
        node.stop_sidecar();
        let first = node.sql("select pg_walfile_name(pg_current_wal_lsn())");
        node.sql("create table more as select * from filling limit 2000000");
        let last = node.switch();
        let number = |name: &str| u64::from_str_radix(&name[16..], 16).unwrap();
        let began = Instant::now();
        node.start_sidecar();
        world.until(&node, "stored", |r| {
            r.archive.state == ArchiveState::Ok && r.archive.last_piece.as_deref() >= Some(&last)
        });
        let count = number(&last) - number(&first);
        println!(
            "log that has piled up: {count} segments of 16 MiB in {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
}
