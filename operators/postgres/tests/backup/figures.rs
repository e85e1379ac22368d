//! Figures for docs/benchmarks.md: `cargo xtask bench backups`. Not a test: it asserts nothing about time.
//!
//! `MAINSTAY_FIGURES_MIB` says how large the database is (1024 by default), `MAINSTAY_FIGURES_ROUNDS` how often what is
//! compared is measured (3), ours and theirs in turn.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mainstay_backup::api::ArchiveState;
use mainstay_postgres::backup::api::RestoreStep;
use mainstay_postgres::backup::settings::Target;

use crate::kit::{BUCKET, Node, Where, World, command, major, programs};
use crate::meter::{Peak, Rounds, megabytes, number, peak, processor};

/// Level of zstd, as repositories have it.
const LEVEL: i32 = 3;
/// Bytes that the baseline uploads as one object.
const OBJECT: usize = 16 << 20;
/// Uploads of the baseline at a time, as ours.
const UPLOADS: usize = 3;
/// Databases up to so many MiB leave log that piles up, to be stored at once; of a larger one it is stored while it is written.
const PILES_UP: u64 = 2048;
/// How long it is written without a pause to see what could be recovered meanwhile.
const LOAD: Duration = Duration::from_secs(20);

/// Processor time of the programs that this process has started and waited for.
fn children() -> f64 {
    processor("self", false)
}

/// The programs that everybody has, with the same level and one thread, into the same store, several objects at a time.
struct Baseline<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Baseline<'a> {
    fn new(world: &'a World) -> Self {
        let folder = world.folder.path().join("baseline");
        fs::create_dir(&folder).unwrap();
        Self { world, folder }
    }

    /// A filter that seals, or opens.
    fn age(&self, arguments: &str) -> String {
        match self.world.identity() {
            None => "cat".to_owned(),
            Some(text) => {
                let file = self.folder.join("identity");
                fs::write(&file, text).unwrap();
                format!("age {arguments} {}", file.display())
            }
        }
    }

    fn shell(script: &str) -> Command {
        let mut shell = command("/bin/bash");
        // It reads the identity, and writes where nobody else does.
        shell.uid(0).gid(0).args(["-o", "pipefail", "-ec", script]);
        shell
    }

    fn curl(&self, method: &str, round: usize, number: usize, body: Option<&PathBuf>) -> Command {
        let store = self.world.server.as_ref().unwrap().store();
        let key = format!("/{BUCKET}/baseline/{round}/{number}");
        let mut curl = Command::new("curl");
        let args = store.request(method, &key, &[], body.map(PathBuf::as_path));
        // Of an answer only what it carries.
        curl.args(args.iter().filter(|arg| *arg != "--include"));
        curl.arg("--fail").stdin(Stdio::null());
        curl
    }

    /// Makes a backup; how many objects it has.
    fn back_up(&self, node: &Node, round: usize) -> usize {
        let mut pipe = Self::shell(&format!(
            "{}/pg_basebackup -h {} -U postgres -c fast -X none -F t -D - | zstd -q -c -{LEVEL} -T1 | {}",
            programs().display(),
            node.sockets(),
            self.age("--encrypt --identity")
        ));
        let mut pipe = pipe.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = pipe.stdout.take().unwrap();
        let (mut uploads, mut count) = (Vec::new(), 0);
        loop {
            let mut piece = Vec::with_capacity(OBJECT);
            out.by_ref()
                .take(OBJECT as u64)
                .read_to_end(&mut piece)
                .unwrap();
            if piece.is_empty() {
                break;
            }
            let file = self.folder.join(format!("piece-{count}"));
            fs::write(&file, piece).unwrap();
            let mut upload = self.curl("PUT", round, count, Some(&file));
            uploads.push((upload.stdout(Stdio::null()).spawn().unwrap(), file));
            count += 1;
            if uploads.len() == UPLOADS {
                ended(uploads.remove(0));
            }
        }
        uploads.into_iter().for_each(ended);
        assert!(pipe.wait().unwrap().success());
        count
    }

    /// Brings the files of a backup back, and nothing more: they are not checked, and no log is replayed.
    fn restore(&self, round: usize, count: usize) {
        let to = self.folder.join("restored");
        fs::create_dir(&to).unwrap();
        let script = format!(
            "{} | zstd -q -d -c | tar -x -C {}",
            self.age("--decrypt --identity"),
            to.display()
        );
        let mut pipe = Self::shell(&script).stdin(Stdio::piped()).spawn().unwrap();
        let mut into = pipe.stdin.take().unwrap();
        for number in 0..count {
            let mut curl = self.curl("GET", round, number, None);
            let mut curl = curl.stdout(Stdio::piped()).spawn().unwrap();
            std::io::copy(curl.stdout.as_mut().unwrap(), &mut into).unwrap();
            assert!(curl.wait().unwrap().success());
        }
        drop(into);
        assert!(pipe.wait().unwrap().success());
        fs::remove_dir_all(to).unwrap();
    }
}

fn ended((mut upload, file): (Child, PathBuf)) {
    assert!(upload.wait().unwrap().success());
    fs::remove_file(file).unwrap();
}

pub fn fill(node: &Node, mib: u64) {
    // About 220 bytes a row, which compress to a third.
    let rows = mib * 4300;
    node.sql(&format!(
        "create table filling as select n, md5(n::text) || md5((n * 7)::text) as a, repeat('x', 120) as b
         from generate_series(1, {rows}) n"
    ));
    node.sql("vacuum filling");
    node.sql("checkpoint");
}

/// The number of a segment of 16 MiB.
fn segment(name: &str) -> u64 {
    let number = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
    number(&name[8..16]) * 256 + number(&name[16..24])
}

/// Log that has piled up: from when the first piece is stored.
fn piled_up(world: &World, node: &mut Node) {
    let last = node.switch();
    node.start_sidecar();
    let sidecar = node.sidecar_pid();
    let ((first, begun), _) = peak(sidecar, || {
        let report = world.until(node, "begun", |r| r.archive.last_piece.is_some());
        (report.archive.last_piece.unwrap(), Instant::now())
    });
    let ((), memory) = peak(sidecar, || {
        world.until(node, "stored", |r| {
            r.archive.state == ArchiveState::Ok && r.archive.last_piece.as_ref() >= Some(&last)
        });
    });
    let (count, took) = (
        segment(&last) - segment(&first),
        begun.elapsed().as_secs_f64(),
    );
    println!(
        "  log that has piled up: {count} segments of 16 MiB in {took:.1} s, {:.1} in a second; memory {memory}",
        f64::from(u32::try_from(count).unwrap()) / took
    );
}

/// Somebody writes without a pause: how old the newest moment is that can be recovered.
fn under_load(world: &World, node: &Node) {
    let from = segment(&node.sql("select pg_walfile_name(pg_current_wal_lsn())"));
    let mut ages = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            node.sql(&format!(
                "do $$ declare ends timestamptz := clock_timestamp() + interval '{} s'; begin
                 create table if not exists load (n serial primary key, filling text);
                 while clock_timestamp() < ends loop
                     insert into load (filling) select repeat(md5(random()::text), 30) from generate_series(1, 20);
                     commit;
                 end loop; end $$",
                LOAD.as_secs()
            ));
        });
        while !writing.is_finished() {
            std::thread::sleep(Duration::from_millis(200));
            let report = world.report(node).unwrap();
            let newest = report.latest.or(report.earliest).unwrap();
            ages.push(Timestamp::now().duration_since(newest).as_secs_f64());
        }
        writing.join().unwrap();
    });
    let written = segment(&node.sql("select pg_walfile_name(pg_current_wal_lsn())")) - from;
    // What was before the load is not of it.
    let mut ages = ages.split_off(ages.len() / 4);
    ages.sort_by(f64::total_cmp);
    println!(
        "  recovery point while {written} segments are written in {} s: {:.1} / {:.1} / {:.1} s (n={})",
        LOAD.as_secs(),
        ages[0],
        ages[(ages.len() - 1) / 2],
        ages[ages.len() - 1],
        ages.len()
    );
}

fn backups(world: &World, node: &Node, baseline: &Baseline<'_>, rounds: usize) -> (f64, usize) {
    let sidecar = node.sidecar_pid();
    let (mut ours, mut theirs, mut memory) =
        (Rounds::default(), Rounds::default(), Peak::default());
    let (mut bytes, mut stored, mut objects) = (0, 0, 0);
    for round in 0..rounds {
        let used = || processor(&sidecar.to_string(), true);
        let (made, most) = ours.time(used, || {
            peak(sidecar, || world.back_up(node, &round.to_string(), false))
        });
        (bytes, stored) = (made.plain_bytes, made.stored_bytes);
        memory = memory.larger(most);
        objects = theirs.time(children, || baseline.back_up(node, round));
    }
    let mb = megabytes(bytes);
    println!(
        "  a backup of {mb:.0} MB, {:.0} MB as stored",
        megabytes(stored)
    );
    ours.line("ours", mb);
    theirs.line("theirs", mb);
    println!("  ratio of speeds: {:.2}", theirs.median() / ours.median());
    println!("  memory of the backup container: {memory}");
    (mb, objects)
}

fn restores(world: &World, baseline: &Baseline<'_>, mb: f64, objects: usize, rounds: usize) {
    let (mut ours, mut theirs, mut memory) =
        (Rounds::default(), Rounds::default(), Peak::default());
    let mut bringing = Vec::new();
    for round in 0..rounds {
        let new = world.node(&format!("restored-{round}"));
        let ((report, fetched), most) = ours.time(children, || {
            let restore = world.begin_restore(&new, Target::Latest, None);
            let (begun, pid) = (Instant::now(), restore.id());
            peak(pid, || {
                std::thread::scope(|scope| {
                    let fetched = scope.spawn(|| {
                        new.until_said("\"Checking\"");
                        begun.elapsed().as_secs_f64()
                    });
                    (World::end_restore(&new, restore), fetched.join().unwrap())
                })
            })
        });
        assert_eq!(report.step, RestoreStep::Done, "{report:?}");
        memory = memory.larger(most);
        bringing.push(fetched);
        fs::remove_dir_all(new.root.clone()).unwrap();
        theirs.time(children, || baseline.restore(rounds - 1, objects));
    }
    ours.line("ours: restored, checked, recovered", mb);
    theirs.line("theirs: the files, unchecked", mb);
    let bringing = crate::meter::median(&bringing);
    println!(
        "  of ours until the files are there: {bringing:.1} s, {:.0} MB/s",
        mb / bringing
    );
    println!(
        "  ratio of the files alone: {:.2}",
        theirs.median() / bringing
    );
    println!("  memory of the restore: {memory} (PostgreSQL among them)");
}

#[ignore = "figures: cargo xtask bench backups"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures() {
    let mib = number("MAINSTAY_FIGURES_MIB", 1024);
    let rounds = usize::try_from(number("MAINSTAY_FIGURES_ROUNDS", 3)).unwrap();
    for encrypted in [false, true] {
        println!("PostgreSQL {}, {mib} MiB, encrypted: {encrypted}", major());
        let world = World::new(Where::S3, encrypted).await;
        let mut node = world.node("db-1");
        node.initialise_with(16);
        node.start(None);
        if mib > PILES_UP {
            node.start_sidecar();
        }
        fill(&node, mib);
        if mib > PILES_UP {
            world.archived(&node);
        } else {
            piled_up(&world, &mut node);
        }
        let baseline = Baseline::new(&world);
        let (mb, objects) = backups(&world, &node, &baseline, rounds);
        restores(&world, &baseline, mb, objects, rounds);
        under_load(&world, &node);
    }
}
