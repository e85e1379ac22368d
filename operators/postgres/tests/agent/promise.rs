//! What an acknowledgement is worth: zones, a bound where commits do not wait, settings that weaken it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay_crds::common::{Durability, InstanceRole};
use mainstay_shared::agent::api::{Acknowledging, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use super::pod::{Pod, Set};
use super::{one_instance, wait_for};

#[tokio::test]
async fn only_a_replica_in_another_zone_acknowledges() {
    let mut set = Set::new(3, Durability::Quorum).await;
    set.zones = [("db-1", "a"), ("db-2", "a"), ("db-3", "b")]
        .map(|(pod, zone)| (format!("node-of-{pod}"), zone.to_owned()))
        .into();
    let (mut one, mut two, mut three) = set.three();
    let only = Acknowledging {
        needed: 1,
        of: vec!["db-3".into()],
    };
    let whole =
        |s: &Status| s.ready && s.streaming.len() == 2 && s.acknowledging.as_ref() == Some(&only);
    let status = set.until(&one, "waiting for the other zone", whole).await;
    assert_eq!(status.zone.as_deref(), Some("a"));
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("create table t (n int); insert into t values (1)")
        .await
        .unwrap();

    // Nobody of the primary's own zone counts, whoever streams.
    three.cut();
    let insert = client.batch_execute("insert into t values (2)");
    let waited = timeout(Duration::from_secs(3), insert).await;
    assert!(waited.is_err(), "a commit that no other zone has");
    set.start(&mut three, "uid-3b", true);
    set.until(&three, "streaming again", |s| s.ready).await;
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("insert into t values (3)")
        .await
        .unwrap();

    // The zone of the primary is lost: the other has it all, and one of the lost is enough to go on.
    let epoch = set.record().await.epoch;
    one.cut();
    two.cut();
    wait_for("the other zone to lead", async || {
        let record = set.record().await;
        record.epoch > epoch && record.seat == "db-3"
    })
    .await;
    set.start(&mut two, "uid-2b", true);
    set.until(&three, "leading", |s| {
        s.ready && s.role == InstanceRole::Primary
    })
    .await;
    let client = set.connect(&three).await.unwrap();
    let rows = "select count(*) from t where n in (1, 3)";
    let rows = client.query_one(rows, &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 2);
}

/// What a client knows of its own writes.
#[derive(Default)]
struct Written {
    /// End of the log when the last of them was acknowledged.
    end: AtomicU64,
    rows: AtomicU64,
}

/// Write rows of 64 KiB as fast as they are acknowledged, until the connection ends.
async fn write(client: tokio_postgres::Client, written: Arc<Written>) {
    loop {
        let n = i64::try_from(written.rows.load(Ordering::SeqCst)).unwrap();
        let insert = "insert into t select $1, string_agg(md5(random()::text), '') from generate_series(1, 2048)";
        if client.execute(insert, &[&n]).await.is_err() {
            return;
        }
        let end = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";
        let Ok(row) = client.query_one(end, &[]).await else {
            return;
        };
        written
            .end
            .store(row.get::<_, i64>(0).cast_unsigned(), Ordering::SeqCst);
        written.rows.fetch_add(1, Ordering::SeqCst);
    }
}

/// Wait until nothing was acknowledged for a while.
async fn blocked(written: &Written) {
    let (mut rows, mut since) = (written.rows.load(Ordering::SeqCst), Instant::now());
    let begun = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert!(
            begun.elapsed() < super::pod::LONG,
            "writes are never held back"
        );
        sleep(Duration::from_millis(50)).await;
        let now = written.rows.load(Ordering::SeqCst);
        if now != rows {
            (rows, since) = (now, Instant::now());
        }
    }
}

async fn number(set: &Set, pod: &Pod, sql: &str) -> i64 {
    let client = set.connect(pod).await.unwrap();
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// The process by which a replica receives stands still.
pub async fn hold(replica: &Pod) -> Pid {
    wait_for("a receiver", async || {
        replica.engine_child("walreceiver").is_some()
    })
    .await;
    let pid = Pid::from_raw(replica.engine_child("walreceiver").unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    pid
}

#[tokio::test]
async fn a_primary_waits_when_its_replicas_lack_more_than_may_be_lost() {
    const LIMIT: u64 = 32 << 20;
    let mut set = Set::new(2, Durability::Async).await;
    set.config.max_lag = Some(LIMIT);
    let (mut one, mut two) = (set.pod(1), set.pod(2));
    set.start(&mut one, "uid-1", true);
    set.start(&mut two, "uid-2", true);
    set.until(&two, "streaming", |s| s.ready).await;
    let free = |s: &Status| {
        s.ready
            && s.streaming == ["db-2"]
            && s.throttling == Some(false)
            && s.synchronous == Some(false)
    };
    set.until(&one, "not waiting", free).await;
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("create table t (n bigint, filler text); alter table t alter filler set storage external")
        .await
        .unwrap();

    let receiver = hold(&two).await;
    let written = Arc::new(Written::default());
    let writer = tokio::spawn(write(
        set.connect(&one).await.unwrap(),
        Arc::clone(&written),
    ));
    blocked(&written).await;
    set.until(&one, "holding writes back", |s| {
        s.throttling == Some(true) && s.synchronous == Some(false)
    })
    .await;
    let has = "select (pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint";
    let has = number(&set, &two, has).await.cast_unsigned();
    let end = written.end.load(Ordering::SeqCst);
    let lacks = end.saturating_sub(has);
    eprintln!(
        "held back with {} KiB of {} KiB missing",
        lacks >> 10,
        LIMIT >> 10
    );
    assert!(
        lacks <= LIMIT,
        "{lacks} bytes were acknowledged that the replica lacks"
    );
    assert!(lacks > LIMIT / 8, "they were not written at once: {lacks}");

    // They go on when the replica does, and at last wait for nobody.
    let rows = written.rows.load(Ordering::SeqCst);
    kill(receiver, Signal::SIGCONT).unwrap();
    wait_for("more rows", async || {
        written.rows.load(Ordering::SeqCst) > rows + 200
    })
    .await;
    writer.abort();
    set.until(&one, "not waiting again", free).await;
    wait_for("nobody is waited for", async || {
        let client = set.probe(&one).await.unwrap();
        super::show(&client, "synchronous_standby_names")
            .await
            .is_empty()
    })
    .await;

    // Held back once more, and then the primary is lost: no more than that is.
    set.until(&two, "streaming", |s| s.ready).await;
    let receiver = hold(&two).await;
    let first = written.rows.load(Ordering::SeqCst);
    let writer = tokio::spawn(write(
        set.connect(&one).await.unwrap(),
        Arc::clone(&written),
    ));
    blocked(&written).await;
    writer.abort();
    let acknowledged = i64::try_from(written.rows.load(Ordering::SeqCst)).unwrap();
    assert!(acknowledged > i64::try_from(first).unwrap());
    one.cut();
    kill(receiver, Signal::SIGCONT).unwrap();
    set.until(&two, "leading", |s| {
        s.ready && s.role == InstanceRole::Primary
    })
    .await;
    let kept = "select count(*) from t";
    // With no replica at all nothing is acknowledged, but reading it is.
    let kept = number(&set, &two, kept).await;
    let lost = acknowledged.saturating_sub(kept).max(0).cast_unsigned();
    eprintln!("lost with the primary: {lost} of {acknowledged} rows of 64 KiB");
    assert!(lost << 16 <= LIMIT);
    set.until(&two, "holding writes back", |s| s.throttling == Some(true))
        .await;
    set.start(&mut one, "uid-1b", true);
    set.until(&two, "not waiting", |s| {
        s.ready && s.streaming == ["db-1"] && s.throttling == Some(false)
    })
    .await;
}

#[tokio::test]
async fn roles_and_databases_whose_commits_wait_for_less_are_told() {
    let (set, one, status) = one_instance().await;
    assert!(status.weakened.is_empty());
    let client = set.connect(&one).await.unwrap();
    let weaken = "alter role app set synchronous_commit = 'OFF'; \
                  alter role app in database app set synchronous_commit = local; \
                  alter database app set synchronous_commit = remote_apply";
    client.batch_execute(weaken).await.unwrap();
    let status = set
        .until(&one, "telling it", |s| !s.weakened.is_empty())
        .await;
    let [only] = &status.weakened[..] else {
        panic!(
            "where commits wait for nobody, local is no less: {:?}",
            status.weakened
        );
    };
    assert_eq!(
        (only.role.as_deref(), only.database.as_deref()),
        (Some("app"), None)
    );
    assert_eq!(
        (only.setting.as_str(), only.value.as_str()),
        ("synchronous_commit", "off")
    );
    client
        .batch_execute("alter role app reset synchronous_commit")
        .await
        .unwrap();
    set.until(&one, "telling that it is gone", |s| s.weakened.is_empty())
        .await;
}
