//! Replicas that stream, and are waited for.

use std::time::{Duration, Instant};

use mainstay_crds::common::{Durability, Enforcement, InstanceRole};
use mainstay_shared::agent::api::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pod::Set;
use super::{show, wait_for};

#[tokio::test]
async fn replicas_copy_stream_and_are_waited_for() {
    let mut set = Set::with_own_server(3, Durability::Quorum).await;
    let (mut one, mut two, mut three) = set.three();
    for pod in [&two, &three] {
        let status = set.until(pod, "streaming", |s| s.ready).await;
        assert_eq!(status.role, InstanceRole::Replica);
    }
    let status = set
        .until(&one, "waiting for replicas", |s| {
            s.ready && s.synchronous == Some(true) && s.streaming.len() == 2
        })
        .await;
    assert_eq!(status.streaming, ["db-2", "db-3"]);
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("create table t (n int); insert into t values (1)")
        .await
        .unwrap();

    // An API server that does not answer, for longer than the Lease lasts, changes nothing.
    let epoch = set.record().await.epoch;
    set.api.freeze(true).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        client
            .batch_execute("insert into t values (0); delete from t where n = 0")
            .await
            .unwrap();
    }
    set.api.freeze(false).unwrap();
    let renewed = async || set.lease().await.spec.unwrap().renew_time;
    let before = renewed().await;
    wait_for("the renewal", async || renewed().await != before).await;
    assert_eq!(set.record().await.epoch, epoch);

    // One replica may be away; with none, commits wait, and go on when one is back.
    three.cut();
    client
        .batch_execute("insert into t values (2)")
        .await
        .unwrap();
    two.cut();
    let insert = client.batch_execute("insert into t values (3)");
    let waited = tokio::time::timeout(Duration::from_secs(3), insert).await;
    assert!(
        waited.is_err(),
        "a commit was acknowledged that no replica has"
    );
    set.start(&mut two, "uid-2b", true);
    set.until(&two, "streaming again", |s| s.ready).await;
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("insert into t values (4)")
        .await
        .unwrap();
    wait_for("the rows on the replica", async || {
        let Ok(replica) = set.connect(&two).await else {
            return false;
        };
        let rows = replica
            .query_one("select count(*) from t", &[])
            .await
            .unwrap();
        rows.get::<_, i64>(0) == 4
    })
    .await;

    set.start(&mut three, "uid-3b", true);
    set.until(&three, "streaming again", |s| s.ready).await;

    // Told to go, the primary hands over; at another address it comes back as a replica.
    assert!(one.terminate(), "{}", one.log());
    wait_for("another primary", async || {
        let record = set.record().await;
        record.epoch > epoch && record.seat != "db-1"
    })
    .await;
    one.address = set.address(101);
    set.start(&mut one, "uid-1b", true);
    set.until(&one, "streaming at another address", |s| {
        s.ready && s.role == InstanceRole::Replica
    })
    .await;
    let (two, mut three) = if set.record().await.seat == "db-2" {
        (two, three)
    } else {
        (three, two)
    };
    set.until(&two, "ready", |s| {
        s.ready && s.streaming.contains(&"db-1".to_owned())
    })
    .await;

    // A member that is gone loses its slot, so that its log is not kept.
    let gone = three.name.clone();
    three.cut();
    set.config.members.retain(|m| *m != gone);
    for pod in [&one, &two] {
        set.mount(pod);
    }
    wait_for("the slot dropped", async || {
        let Ok(client) = set.connect(&two).await else {
            return false;
        };
        let row = client
            .query_one("select count(*) from pg_replication_slots", &[])
            .await
            .unwrap();
        row.get::<_, i64>(0) == 1
    })
    .await;
}

#[tokio::test]
async fn what_the_election_asks_for_holds_while_the_newest_configuration_is_refused() {
    let mut set = Set::new(3, Durability::Quorum).await;
    let (one, two, three) = set.three();
    set.until(&two, "streaming", |s| s.ready).await;
    set.until(&three, "streaming", |s| s.ready).await;
    let whole = |s: &Status| s.ready && s.streaming.len() == 2;
    set.until(&one, "waiting for replicas", whole).await;
    set.config
        .engine
        .parameters
        .insert("work_mem".into(), "32 potatoes".into());
    let complains = |s: &Status| {
        let error = s.last_error.as_deref();
        error.is_some_and(|e| e.contains("work_mem"))
    };
    for pod in [&one, &two, &three] {
        set.mount(pod);
        set.until(pod, "complaining", complains).await;
    }
    // An agent that starts anew has never seen another configuration.
    let nonce = set.until(&two, "ready", |s| s.ready).await.nonce;
    kill(Pid::from_raw(two.agent_pid()), Signal::SIGKILL).unwrap();
    set.until(&two, "ready again", |s| s.ready && s.nonce != nonce)
        .await;
    let status = set.until(&one, "streaming to both", whole).await;
    set.agent(&one)
        .hand_over(&status.nonce, "db-3", "test")
        .await
        .unwrap();
    // Who acknowledges, and whom to follow, is put in place all the same.
    set.until(&three, "leading both", whole).await;
    let client = set.connect(&three).await.unwrap();
    let table = "create table t (n int); insert into t values (1)";
    client.batch_execute(table).await.unwrap();
    set.until(&one, "following", |s| {
        s.ready && s.role == InstanceRole::Replica
    })
    .await;
    // And what is mended is taken.
    set.config
        .engine
        .parameters
        .insert("work_mem".into(), "5MB".into());
    for pod in [&one, &two, &three] {
        let hash = set.mount(pod);
        set.agent(pod).reload(&hash).await.unwrap();
        set.until(pod, "content", |s| s.last_error.is_none()).await;
    }
    let client = set.connect(&three).await.unwrap();
    assert_eq!(show(&client, "work_mem").await, "5MB");
}

#[tokio::test]
async fn a_preferred_quorum_is_suspended_without_replicas_and_kept_again_with_them() {
    let mut set = Set::new(2, Durability::Quorum).await;
    set.config.enforcement = Enforcement::Preferred;
    let (mut one, mut two) = (set.pod(1), set.pod(2));
    set.start(&mut one, "uid-1", true);
    set.start(&mut two, "uid-2", true);
    set.until(&two, "streaming", |s| s.ready).await;
    let kept = |s: &Status| s.ready && s.synchronous == Some(true) && s.streaming.len() == 1;
    set.until(&one, "waiting for the replica", kept).await;
    let client = set.connect(&one).await.unwrap();
    let table = "create table t (n int); insert into t values (1)";
    client.batch_execute(table).await.unwrap();

    // Writes wait for a while, then go on alone, and the status says so.
    two.cut();
    let insert = client.batch_execute("insert into t values (2)");
    let waited = tokio::time::timeout(Duration::from_secs(5), insert).await;
    assert!(waited.is_err(), "acknowledged before anything was recorded");
    set.until(&one, "going on alone", |s| {
        s.ready && s.synchronous == Some(false)
    })
    .await;
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("insert into t values (3)")
        .await
        .unwrap();

    // Back again, it is waited for again, and can take over with everything.
    set.start(&mut two, "uid-2b", true);
    let status = set.until(&one, "waiting for the replica again", kept).await;
    client
        .batch_execute("insert into t values (4)")
        .await
        .unwrap();
    // Not before it is settled for whom commits wait.
    wait_for("the hand-over", async || {
        let mut agent = set.agent(&one);
        agent.hand_over(&status.nonce, "db-2", "test").await.is_ok()
    })
    .await;
    set.until(&two, "leading", |s| {
        s.ready && s.role == InstanceRole::Primary
    })
    .await;
    let client = set.connect(&two).await.unwrap();
    let rows = client
        .query_one("select count(*) from t where n in (1, 3, 4)", &[])
        .await
        .unwrap();
    assert_eq!(rows.get::<_, i64>(0), 3);
}
