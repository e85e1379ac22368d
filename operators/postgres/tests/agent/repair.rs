//! How instances come back that are not simply behind.

use std::fs;
use std::time::{Duration, Instant};

use mainstay_crds::common::{Durability, InstanceRole, Rejoin};
use mainstay_postgres::agent::place::DATA;
use mainstay_postgres::agent::render::member;
use mainstay_shared::agent::api::{Phase, Status};
use mainstay_shared::agent::election::lease;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::pod::{LONG, Pod, Set};
use super::promise::hold;
use super::wait_for;

fn replica(s: &Status) -> bool {
    s.ready && s.role == InstanceRole::Replica
}

fn primary(s: &Status) -> bool {
    s.ready && s.role == InstanceRole::Primary
}

/// A set of two without a quorum, of which the second streams.
async fn two_instances(change: impl FnOnce(&mut Set)) -> (Set, Pod, Pod) {
    let mut set = Set::new(2, Durability::Async).await;
    change(&mut set);
    let (mut one, mut two) = (set.pod(1), set.pod(2));
    set.start(&mut one, "uid-1", true);
    set.start(&mut two, "uid-2", true);
    set.until(&two, "streaming", replica).await;
    set.until(&one, "leading", |s| primary(s) && s.streaming == ["db-2"])
        .await;
    // Only who is known to have the data may lead: the one that streams, not who it was before a copy that
    // failed.
    let name = "select application_name from pg_stat_replication";
    let probe = set.probe(&one).await.unwrap();
    let rows = probe.query(name, &[]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let streams = names.iter().find_map(|name| member(name)).unwrap();
    wait_for("both to be members", async || {
        let look = lease::read(&set.lease().await).unwrap();
        let charter = look.seen.charter;
        charter
            .is_some_and(|c| c.is_settled() && c.members.len() == 2 && c.members.contains(&streams))
    })
    .await;
    (set, one, two)
}

/// The primary is lost with a write that the other has not received.
async fn lose_with_a_write(set: &Set, primary: &mut Pod, other: &Pod) {
    let receiver = hold(other).await;
    let client = set.connect(primary).await.unwrap();
    let write = "create table if not exists parted (n int); insert into parted values (1)";
    client.batch_execute(write).await.unwrap();
    primary.cut();
    // It ends before it reads what had reached its socket already.
    kill(receiver, Signal::SIGTERM).unwrap();
    kill(receiver, Signal::SIGCONT).unwrap();
    set.until(other, "leading", self::primary).await;
}

#[tokio::test]
async fn data_that_has_parted_waits_for_a_person_where_that_is_asked_for() {
    let (mut set, one, two) = two_instances(|s| s.config.rejoin = Rejoin::Manual).await;
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("create table t (n int)")
        .await
        .unwrap();

    // After a planned hand-over nothing has parted, and nobody is asked.
    let status = set.until(&one, "leading", primary).await;
    wait_for("the hand-over", async || {
        let mut agent = set.agent(&one);
        agent.hand_over(&status.nonce, "db-2", "test").await.is_ok()
    })
    .await;
    set.until(&one, "following", replica).await;
    set.until(&two, "leading", |s| primary(s) && s.streaming == ["db-1"])
        .await;

    // A primary that is lost may hold what the other does not.
    let mut two = two;
    lose_with_a_write(&set, &mut two, &one).await;
    set.start(&mut two, "uid-2b", true);
    let stopped = |s: &Status| s.phase == Phase::Failed;
    let status = set.until(&two, "waiting for a person", stopped).await;
    assert!(
        status
            .last_error
            .is_some_and(|why| why.contains("spec.rejoin"))
    );
    sleep(Duration::from_secs(5)).await;
    set.until(&two, "still waiting", stopped).await;
    set.config.rejoin = Rejoin::Rewind;
    set.mount(&two);
    set.until(&two, "following", replica).await;
    assert!(two.log().contains("rewound"), "{}", two.log());
}

#[tokio::test]
async fn data_that_has_parted_is_copied_where_that_is_asked_for() {
    let (set, mut one, two) = two_instances(|s| s.config.rejoin = Rejoin::Reclone).await;
    lose_with_a_write(&set, &mut one, &two).await;
    set.start(&mut one, "uid-1b", true);
    let cloned = |s: &Status| replica(s) && one.log().contains("the data is thrown away");
    set.until(&one, "following", cloned).await;
    let log = one.log();
    assert!(log.contains("the data is thrown away"), "{log}");
    assert!(!log.contains("is rewound"), "{log}");
}

#[tokio::test]
async fn a_replica_whose_first_process_stands_still_is_started_anew() {
    let (set, one, two) = two_instances(|_| {}).await;
    let nonce = set.until(&two, "streaming", replica).await.nonce;
    let engine = two.engine_pid();
    kill(Pid::from_raw(engine), Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    set.until(&two, "streaming again", |s| replica(s) && s.nonce != nonce)
        .await;
    eprintln!("started anew after {:?}", begun.elapsed());
    assert_ne!(two.engine_pid(), engine);
    set.until(&one, "leading all the while", |s| {
        primary(s) && s.streaming == ["db-2"]
    })
    .await;
    assert_eq!(set.record().await.seat, "db-1");
}

#[tokio::test]
async fn rewound_data_that_can_never_get_whole_is_copied() {
    let (set, mut one, two) = two_instances(|s| {
        let small = [("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
        let small = small.map(|(name, value)| (name.to_owned(), value.to_owned()));
        s.config.engine.parameters.extend(small);
    })
    .await;
    lose_with_a_write(&set, &mut one, &two).await;
    let client = set.connect(&two).await.unwrap();
    client
        .batch_execute("create table t (n int, filler text)")
        .await
        .unwrap();
    let much = "insert into t select n, md5(n::text) from generate_series(1, 500000) n; truncate t";
    client.batch_execute(much).await.unwrap();

    // It is rewound, and stands still on its way to be whole while the primary drops its log.
    set.start(&mut one, "uid-1b", true);
    // Before that it recovers what it has itself.
    wait_for("the rewind", async || one.log().contains("is rewound")).await;
    let begun = Instant::now();
    let startup = loop {
        if let Some(pid) = one.engine_child("startup recovering") {
            break Pid::from_raw(pid);
        }
        assert!(begun.elapsed() < LONG, "it never recovers: {}", one.log());
        sleep(Duration::from_millis(1)).await;
    };
    kill(startup, Signal::SIGSTOP).unwrap();
    let lost = "select count(*) from pg_replication_slots where wal_status = 'lost'";
    // Log is dropped at checkpoints, which writes cause: so much of it is enough, however long that takes. On a
    // busy machine it has noticed, and begun a copy with a slot of its own, before this looks again.
    let noticed = || one.log().contains("no log any more");
    let mut dropped = false;
    for _ in 0..100 {
        client.batch_execute(much).await.unwrap();
        client
            .batch_execute("insert into t values (3)")
            .await
            .unwrap();
        let probe = set.probe(&two).await.unwrap();
        let slots = probe.query_one(lost, &[]).await.unwrap();
        dropped = noticed() || slots.get::<_, i64>(0) == 1;
        if dropped {
            break;
        }
    }
    assert!(dropped, "its log is not dropped");
    wait_for("it to notice", async || noticed()).await;
    // That one may have been ended already, for the copy.
    let _ = kill(startup, Signal::SIGCONT);
    set.until(&one, "following", replica).await;
    assert!(one.log().contains("the data is thrown away"));
    let client = set.connect(&one).await.unwrap();
    let row = client
        .query_one("select n from t limit 1", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 3);
}

#[tokio::test]
async fn rewound_data_that_lacks_a_file_which_the_primary_never_had_is_copied() {
    let (set, mut one, two) = two_instances(|_| {}).await;
    lose_with_a_write(&set, &mut one, &two).await;
    let client = set.connect(&two).await.unwrap();
    let much = "create table t as select n, md5(n::text) from generate_series(1, 500000) n";
    client.batch_execute(much).await.unwrap();
    // As if its own copy had begun in the file that it writes now: nothing before is there.
    let sql = "select pg_walfile_name(pg_current_wal_lsn())";
    let current: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let log = two.path(DATA).join("pgdata/pg_wal");
    for file in fs::read_dir(&log).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.len() == 24 && name[8..] < current[8..] {
            fs::remove_file(log.join(name)).unwrap();
        }
    }

    set.start(&mut one, "uid-1b", true);
    set.until(&one, "following", replica).await;
    let log = one.log();
    assert!(log.contains("is rewound"), "{log}");
    assert!(log.contains("no log any more"), "{log}");
    assert!(log.contains("the data is thrown away"), "{log}");
}
