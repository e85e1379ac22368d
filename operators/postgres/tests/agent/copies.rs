//! Data of replicas that come late: a copy, or what was brought back.

use std::os::unix::fs::MetadataExt as _;

use mainstay_crds::common::{Durability, InstanceRole};
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::client::ClientError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pod::{Pod, Set};
use super::wait_for;

#[tokio::test]
async fn a_primary_hands_over_on_request_and_who_was_away_too_long_is_copied() {
    let mut set = Set::new(3, Durability::Quorum).await;
    let small = [("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
    let small = small.map(|(name, value)| (name.to_owned(), value.to_owned()));
    set.config.engine.parameters.extend(small);
    set.config.engine.max_slot_wal_keep_mib = 32;
    let (one, mut two, three) = set.three();
    set.until(&two, "streaming", |s| s.ready).await;
    set.until(&three, "streaming", |s| s.ready).await;
    let whole = |s: &Status| s.ready && s.streaming.len() == 2;
    let status = set.until(&one, "waiting for replicas", whole).await;
    let client = set.connect(&one).await.unwrap();
    let table = "create table t (n int, filler text); insert into t values (1)";
    client.batch_execute(table).await.unwrap();

    // Another agent beside a replica's engine leaves it attached.
    let receiver = async |pod: &Pod| -> Option<i32> {
        let client = set.probe(pod).await.unwrap();
        let pid = "select pid from pg_stat_wal_receiver";
        let row = client.query_opt(pid, &[]).await.unwrap();
        row.map(|row| row.get(0))
    };
    // It is renewed whenever commits begin to wait for somebody: for the last time when they do for both.
    let both = |s: &Status| s.acknowledging.as_ref().is_some_and(|a| a.of.len() == 2);
    set.until(&one, "waiting for both", both).await;
    wait_for("the receiver", async || receiver(&two).await.is_some()).await;
    let before = receiver(&two).await;
    let nonce = set.until(&two, "ready", |s| s.ready).await.nonce;
    kill(Pid::from_raw(two.agent_pid()), Signal::SIGKILL).unwrap();
    set.until(&two, "ready again", |s| s.ready && s.nonce != nonce)
        .await;
    assert_eq!(receiver(&two).await, before, "it was detached");

    // Who does not stream cannot take over, and an old decision counts no more.
    let mut agent = set.agent(&one);
    let refused = agent.hand_over(&status.nonce, "db-4", "test").await;
    assert!(
        matches!(&refused, Err(ClientError::Refused(code, why)) if *code == 503 && why.contains("db-4")),
        "{refused:?}"
    );
    let outdated = agent.hand_over("another", "db-3", "test").await;
    assert!(
        matches!(&outdated, Err(ClientError::Refused(code, _)) if *code == 409),
        "{outdated:?}"
    );
    // The other's was renewed too, perhaps just now.
    set.until(&one, "streaming to both", whole).await;
    let epoch = set.record().await.epoch;
    agent
        .hand_over(&status.nonce, "db-3", "test")
        .await
        .unwrap();
    let record = set.record().await;
    assert_eq!(record.seat, "db-3");
    assert!(record.epoch > epoch);
    let replica = |s: &Status| s.ready && s.role == InstanceRole::Replica;
    let former = set.until(&one, "following", replica).await;
    let again = agent.hand_over(&former.nonce, "db-2", "test").await;
    assert!(
        matches!(&again, Err(ClientError::Refused(code, _)) if *code == 503),
        "{again:?}"
    );
    set.until(&three, "leading", whole).await;

    // Longer away than log is kept.
    two.cut();
    let client = set.connect(&three).await.unwrap();
    let much = "insert into t select n, md5(n::text) from generate_series(1, 500000) n; truncate t";
    for _ in 0..3 {
        client.batch_execute(much).await.unwrap();
    }
    client
        .batch_execute("insert into t values (3)")
        .await
        .unwrap();
    set.start(&mut two, "uid-2b", true);
    let copied = |pod: &Pod| pod.log().contains("no log any more");
    // Until it is stopped to be copied, the old data may be asked.
    let shown = async || -> Option<i32> {
        let client = set.connect(&two).await.ok()?;
        let row = client.query_one("select n from t", &[]).await.ok()?;
        Some(row.get(0))
    };
    wait_for("the copy", async || shown().await == Some(3)).await;
    set.until(&two, "streaming a copy", |s| replica(s) && copied(&two))
        .await;
    assert!(!copied(&one) && !copied(&three));
}

#[tokio::test]
async fn what_was_brought_back_is_taken_in_place_of_a_copy_and_nothing_else_is() {
    let set = Set::new(2, Durability::Async).await;
    let (mut one, mut two) = (set.pod(1), set.pod(2));
    set.start(&mut one, "uid-1", true);
    set.start(&mut two, "uid-2", true);
    set.until(&two, "streaming", |s| s.ready).await;
    let client = set.connect(&one).await.unwrap();
    let table = "create table t (n int); insert into t values (1)";
    client.batch_execute(table).await.unwrap();
    let volume = two.path("/var/lib/postgresql/data");
    let taken = |pod: &Pod| pod.log().matches("in place of a copy").count();
    let lost = |two: &Pod| {
        std::fs::remove_dir_all(volume.join("mainstay")).unwrap();
        assert_eq!(taken(two), 0);
    };

    // Its volume is lost, and there is what came from the repository: data of a while ago.
    two.cut();
    lost(&two);
    std::fs::rename(volume.join("pgdata"), volume.join("pgdata.seeded")).unwrap();
    std::fs::remove_file(volume.join("pgdata.seeded/standby.signal")).unwrap();
    client
        .batch_execute("insert into t values (2)")
        .await
        .unwrap();
    set.start(&mut two, "uid-2b", true);
    let follows = |s: &Status| s.ready && s.role == InstanceRole::Replica;
    set.until(&two, "following with it", follows).await;
    assert_eq!(taken(&two), 1, "{}", two.log());
    assert!(!volume.join("pgdata.seeded").exists());
    let there = async || -> Option<i64> {
        let client = set.connect(&two).await.ok()?;
        let row = client.query_one("select count(*) from t", &[]).await.ok()?;
        Some(row.get(0))
    };
    wait_for("what was written meanwhile", async || {
        there().await == Some(2)
    })
    .await;

    // And what is no data of this set is not taken.
    two.cut();
    std::fs::remove_dir_all(volume.join("mainstay")).unwrap();
    std::fs::remove_dir_all(volume.join("pgdata")).unwrap();
    let foreign = volume.join("pgdata.seeded");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("PG_VERSION"), "17").unwrap();
    let of = std::fs::metadata(&volume).unwrap();
    for path in [&foreign, &foreign.join("PG_VERSION")] {
        std::os::unix::fs::chown(path, Some(of.uid()), Some(of.gid())).unwrap();
    }
    set.start(&mut two, "uid-2c", true);
    set.until(&two, "following with a copy", follows).await;
    assert_eq!(taken(&two), 1, "{}", two.log());
    assert!(!volume.join("pgdata.seeded").exists());
}
