//! A volume that log fills which the store does not take.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mainstay_crds::common::Durability;
use mainstay_postgres::agent::place::DATA;
use mainstay_postgres::backup::settings::{
    BACKUP_FILE, PlaceSpec, REPOSITORY, RUN, RepositorySpec, SECRETS, Settings,
};
use mainstay_postgres::settings::ArchiveSettings;
use mainstay_shared::agent::paths;
use nix::unistd::User;
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

use super::pod::{LONG, PROGRAM, Pod, Set};
use super::volume::{Volume, allow, folders};
use super::wait_for;

/// The volume, of which a part has to stay free: a twentieth, and six files at least.
const SIZE: u64 = 512 << 20;
/// A file of the log: without room for the next one the server ends.
const SEGMENT: u64 = 16 << 20;

/// The container beside the engine, as a process.
struct Sidecar(Child);

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User that everything of a pod belongs to.
fn owner() -> (u32, u32) {
    let user = User::from_name("postgres").unwrap().unwrap();
    (user.uid.as_raw(), user.gid.as_raw())
}

/// A store that takes what comes, or nothing.
fn takes(pod: &Pod, writing: bool) {
    for folder in folders(&pod.path(REPOSITORY)) {
        allow(&folder, writing);
    }
}

fn archived(pod: &Pod) -> usize {
    let log = pod.path(REPOSITORY).join("backups/shop/db/log");
    let all = if log.exists() { folders(&log) } else { vec![] };
    let files = all.iter().flat_map(|f| fs::read_dir(f).unwrap());
    files
        .filter(|f| f.as_ref().unwrap().path().is_file())
        .count()
}

/// What the container `backup` and `archive_command` find.
fn sidecar(set: &Set, pod: &Pod) -> Sidecar {
    let (uid, gid) = owner();
    let volume = format!("{REPOSITORY}/backups");
    for folder in [SECRETS, REPOSITORY, &volume, RUN] {
        fs::create_dir_all(pod.path(folder)).unwrap();
        chown(pod.path(folder), Some(uid), Some(gid)).unwrap();
    }
    let settings = Settings {
        resource: "shop/db".into(),
        repository: RepositorySpec {
            place: PlaceSpec::Volume {
                claim: "backups".into(),
                path: String::new(),
            },
            prefix: "shop/db".into(),
            authority: None,
            bytes_per_second: None,
            concurrency: None,
            encryption: None,
        },
        immutable: false,
        adopt: None,
        break_archive: false,
    };
    let file = pod.path(paths::CONFIG).join(BACKUP_FILE);
    fs::write(&file, serde_json::to_string(&settings).unwrap()).unwrap();
    chown(&file, Some(uid), Some(gid)).unwrap();
    set.mount(pod);
    let log = fs::File::create(pod.root.join("backup.log")).unwrap();
    let mut run = Command::new(&*PROGRAM);
    run.arg("backup")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env(paths::ROOT, &pod.root)
        .env("MAINSTAY_LISTEN", &pod.address)
        .env("POD_NAME", &pod.name)
        .env("POD_UID", "uid-1")
        .env("POD_IP", &pod.address)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .uid(uid)
        .gid(gid);
    Sidecar(run.spawn().unwrap())
}

/// One instance on a small volume, whose log is archived.
async fn archiving() -> (Set, Pod, Volume, Sidecar) {
    let mut set = Set::new(1, Durability::Async).await;
    set.config.engine.archive = Some(ArchiveSettings::default());
    let more = [("max_wal_size", "96MB"), ("min_wal_size", "32MB")];
    let more = more.map(|(k, v)| (k.to_owned(), v.to_owned()));
    set.config.engine.parameters.extend(more);
    let mut one = set.pod(1);
    let volume = Volume::new(one.path(DATA), SIZE);
    symlink(&*PROGRAM, one.path(paths::BIN).join(paths::BINARY)).unwrap();
    let beside = sidecar(&set, &one);
    set.start(&mut one, "uid-1", true);
    set.until(&one, "ready", |s| s.ready).await;
    let client = set.connect(&one).await.unwrap();
    let table = "create table ledger (n bigint primary key)";
    client.batch_execute(table).await.unwrap();
    (set, one, volume, beside)
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    next: AtomicU64,
    rows: AtomicU64,
    over: AtomicBool,
}

/// Writes rows and much log with each, until it is refused; again and again with `anyway`. Says how it was.
async fn write(set: &Set, pod: &Pod, ledger: &Ledger, anyway: bool) -> Option<SqlState> {
    let bytes = if anyway { 32_768 } else { 262_144 };
    loop {
        let Ok(client) = set.connect(pod).await else {
            // Nobody is let in.
            sleep(Duration::from_millis(50)).await;
            if ledger.over.load(Ordering::SeqCst) || !anyway {
                return None;
            }
            continue;
        };
        if anyway {
            let asks = "set default_transaction_read_only = off";
            let _ = client.batch_execute(asks).await;
        }
        loop {
            if ledger.over.load(Ordering::SeqCst) {
                return None;
            }
            let n = ledger.next.fetch_add(1, Ordering::SeqCst);
            let row = "with row as (insert into ledger values ($1) returning n)
                       select pg_logical_emit_message(true, 'filler', repeat('x', $2))::text from row";
            let n = i64::try_from(n).unwrap();
            match client.query(row, &[&n, &bytes]).await {
                Ok(_) => {
                    ledger.rows.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) if anyway => {
                    eprintln!("a session that writes anyway: {error}");
                    break;
                }
                Err(error) => return error.code().cloned(),
            }
        }
    }
}

/// Waits until a new session is told that writes are refused.
async fn until_told(set: &Set, pod: &Pod) {
    wait_for("a new session to be told", async || {
        let client = set.connect(pod).await.unwrap();
        let refused = client.batch_execute("insert into ledger values (-2)").await;
        let code = refused.err().and_then(|e| e.code().cloned());
        code == Some(SqlState::READ_ONLY_SQL_TRANSACTION)
    })
    .await;
}

/// Waits until writes are taken again.
async fn until_taking(set: &Set, pod: &Pod) {
    set.until(pod, "taking writes", |s| {
        s.ready && s.refuses_writes.is_none()
    })
    .await;
}

async fn rows(set: &Set, pod: &Pod) -> u64 {
    let client = set.connect(pod).await.unwrap();
    let count = "select count(*) from ledger";
    let row = client.query_one(count, &[]).await.unwrap();
    row.get::<_, i64>(0).cast_unsigned()
}

#[tokio::test]
async fn writes_are_refused_before_the_volume_is_full_and_taken_again_when_the_store_is_back() {
    let (set, one, volume, _beside) = archiving().await;
    let engine = one.engine_pid();
    wait_for("the store to take the log", async || archived(&one) > 0).await;
    takes(&one, false);

    // Who writes as applications do, and who has begun before.
    let before = set.connect(&one).await.unwrap();
    before
        .batch_execute("begin; insert into ledger values (-1)")
        .await
        .unwrap();
    let ledger = Arc::new(Ledger::default());
    let ended = write(&set, &one, &ledger, false).await;
    eprintln!(
        "after {} rows: {ended:?} with {} MiB free",
        ledger.rows.load(Ordering::SeqCst),
        volume.free() >> 20
    );
    let status = set
        .until(&one, "refusing writes", |s| s.refuses_writes.is_some())
        .await;
    assert!(status.ready, "it can be read: {status:?}");
    let why = status.refuses_writes.unwrap();
    assert!(why.contains("refuses writes") && why.contains("storage.size"));
    // Either it was told, or its session was ended in the middle.
    let told = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::ADMIN_SHUTDOWN,
    ];
    assert!(
        ended.as_ref().is_none_or(|code| told.contains(code)),
        "{ended:?}"
    );
    until_told(&set, &one).await;
    wait_for("who had begun to be ended", async || before.is_closed()).await;
    let rows_then = rows(&set, &one).await;
    assert!(
        rows_then >= ledger.rows.load(Ordering::SeqCst),
        "none is lost"
    );

    // Whoever asks for writes all the same fills it no further than that the server goes on.
    let anyway: Vec<_> = (0..4).map(|_| write(&set, &one, &ledger, true)).collect();
    let watch = async {
        let (begun, mut least) = (Instant::now(), u64::MAX);
        while begun.elapsed() < Duration::from_secs(20) {
            least = least.min(volume.free());
            sleep(Duration::from_millis(20)).await;
        }
        ledger.over.store(true, Ordering::SeqCst);
        least
    };
    let (least, _) = tokio::join!(watch, futures::future::join_all(anyway));
    eprintln!(
        "with {} rows in all, {} MiB stayed free",
        ledger.rows.load(Ordering::SeqCst),
        least >> 20
    );
    assert!(least > SEGMENT, "{least} bytes were left");
    assert_eq!(one.engine_pid(), engine, "it went on");

    // The store is back: nobody does anything else.
    takes(&one, true);
    until_taking(&set, &one).await;
    let acknowledged = ledger.rows.load(Ordering::SeqCst);
    let there = rows(&set, &one).await;
    assert!(there >= acknowledged, "{acknowledged} were acknowledged");
    let after = set.connect(&one).await.unwrap();
    wait_for("writes", async || {
        let row = "insert into ledger values (-3) on conflict do nothing";
        after.batch_execute(row).await.is_ok()
    })
    .await;
    assert_eq!(one.engine_pid(), engine, "it never ended");
    drop(volume);
}

#[tokio::test]
async fn writes_are_refused_while_the_newest_configuration_is() {
    let (mut set, one, volume, _beside) = archiving().await;
    wait_for("the store to take the log", async || archived(&one) > 0).await;
    let wrong = ("work_mem".to_owned(), "32 potatoes".to_owned());
    set.config.engine.parameters.extend([wrong]);
    set.mount(&one);
    set.until(&one, "complaining", |s| {
        let error = s.last_error.as_deref();
        error.is_some_and(|e| e.contains("work_mem"))
    })
    .await;
    takes(&one, false);
    let ledger = Arc::new(Ledger::default());
    write(&set, &one, &ledger, false).await;
    set.until(&one, "refusing writes", |s| s.refuses_writes.is_some())
        .await;
    until_told(&set, &one).await;
    takes(&one, true);
    until_taking(&set, &one).await;
    let client = set.connect(&one).await.unwrap();
    wait_for("writes", async || {
        let row = "insert into ledger values (-3) on conflict do nothing";
        client.batch_execute(row).await.is_ok()
    })
    .await;
    drop(volume);
}

#[tokio::test]
async fn writes_are_taken_again_when_the_volume_has_grown() {
    let (set, one, volume, _beside) = archiving().await;
    wait_for("the store to take the log", async || archived(&one) > 0).await;
    takes(&one, false);
    let ledger = Arc::new(Ledger::default());
    write(&set, &one, &ledger, false).await;
    set.until(&one, "refusing writes", |s| s.refuses_writes.is_some())
        .await;
    // An agent that starts anew beside it decides the same, and opens nothing before it has.
    let (engine, agent) = (one.engine_pid(), one.agent_pid());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(agent),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let (killed, mut asked) = (Instant::now(), 0);
    while killed.elapsed() < Duration::from_secs(8) {
        if let Ok(client) = set.connect(&one).await {
            let holds = "select current_setting('default_transaction_read_only')";
            if let Ok(row) = client.query_one(holds, &[]).await {
                assert_eq!(row.get::<_, &str>(0), "on", "after {:?}", killed.elapsed());
                asked += 1;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(asked > 20, "{asked} answers");
    assert_ne!(one.agent_pid(), agent);
    assert_eq!(one.engine_pid(), engine);
    set.until(&one, "refusing writes again", |s| {
        s.refuses_writes.is_some()
    })
    .await;
    volume.resize(2 * SIZE);
    until_taking(&set, &one).await;
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        let client = set.connect(&one).await.unwrap();
        if client
            .batch_execute("insert into ledger values (-1)")
            .await
            .is_ok()
        {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let acknowledged = ledger.rows.load(Ordering::SeqCst);
    assert!(rows(&set, &one).await > acknowledged);
    drop(volume);
}
