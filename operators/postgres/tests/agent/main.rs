//! Agents with real PostgreSQL and a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

mod api;
mod full;
mod pod;
mod processes;
mod promise;
mod repair;
#[path = "../common/volume.rs"]
mod volume;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mainstay_crds::common::{Durability, Enforcement, InstanceRole};
use mainstay_shared::agent::api::{Phase, Status};
use mainstay_shared::agent::client::ClientError;
use mainstay_shared::agent::program::{Own, sha256_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod::{PROGRAM, Pod, Set, anonymous_kib};

/// A set of one instance that is ready.
async fn one_instance() -> (Set, Pod, Status) {
    let set = Set::new(1, Durability::Async).await;
    let mut one = set.pod(1);
    set.start(&mut one, "uid-1", true);
    let status = set.until(&one, "ready", |s| s.ready).await;
    (set, one, status)
}

#[tokio::test]
async fn a_new_set_serves_under_epoch_one() {
    let (set, one, status) = one_instance().await;
    assert_eq!(
        (status.phase, status.role),
        (Phase::Running, InstanceRole::Primary)
    );
    let hash = set.config.render().unwrap().1;
    assert_eq!(status.config_hash.as_deref(), Some(hash.as_str()));

    // Who may talk to it.
    match set
        .stranger(&one)
        .status(None, std::time::Duration::ZERO)
        .await
    {
        Err(ClientError::Refused(code, _)) => assert_eq!(code, 403),
        other => panic!("{other:?}"),
    }
    let client = set.connect(&one).await.unwrap();
    client
        .batch_execute("create table t (n int); insert into t values (1)")
        .await
        .unwrap();
    let probe = set.probe(&one).await.unwrap();
    assert!(
        !probe
            .query_one("select pg_is_in_recovery()", &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );
    for role in ["mainstay_probe", "mainstay_replication", "postgres"] {
        assert!(set.impostor(&one, role).await.is_err(), "{role}");
    }

    // The Lease is held under epoch 1, and the endpoints lead here.
    wait_for("the endpoints", async || {
        set.slice()
            .await
            .endpoints
            .first()
            .is_some_and(|e| e.addresses[0] == one.address)
    })
    .await;
    let record = set.record().await;
    assert!(record.epoch >= 1);
    assert_eq!(record.system_identifier, status.system_identifier);

    // The agent's death is nothing to the engine.
    let (agent, engine) = (one.agent_pid(), one.engine_pid());
    println!(
        "RssAnon: init {} KiB, agent {} KiB",
        anonymous_kib(one.init()),
        anonymous_kib(agent)
    );
    kill(Pid::from_raw(agent), Signal::SIGKILL).unwrap();
    set.until(&one, "ready again", |s| s.ready && s.nonce != status.nonce)
        .await;
    assert_eq!(one.engine_pid(), engine);
    client.query_one("select n from t", &[]).await.unwrap();

    set.finish(one).await;
}

#[tokio::test]
async fn another_agent_takes_over_beside_the_engine_and_one_that_does_not_work_is_given_up() {
    let (set, one, _) = one_instance().await;
    let client = set.connect(&one).await.unwrap();
    let engine = one.engine_pid();
    let status = set
        .until(&one, "known by its program", |s| s.program.is_some())
        .await;
    let own = status.program.unwrap();
    assert_eq!(own, Own::at(Path::new(PROGRAM)).unwrap().program);

    // One that ends at once.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("ends");
    std::fs::write(&bad, "#!/bin/sh\nexit 7\n").unwrap();
    let sha256 = sha256_of(&bad).unwrap();
    let mut agent = set.agent(&one);
    let wrong = agent.upgrade("another", &bad, &sha256, "test").await;
    assert!(
        matches!(wrong, Err(ClientError::Refused(code, _)) if code == 409),
        "{wrong:?}"
    );
    let back = given_up(&set, &one, &status.nonce, &bad).await;
    assert!(back.given_up.unwrap().why.contains("exit code 7"));

    // One that works, and differs in what no program minds.
    let next = folder.path().join("next");
    let mut bytes = std::fs::read(PROGRAM).unwrap();
    bytes.extend(b"next");
    std::fs::write(&next, bytes).unwrap();
    let sha256 = sha256_of(&next).unwrap();
    let mut agent = set.agent(&one);
    let wrong = agent.upgrade(&back.nonce, &next, &own.sha256, "test").await;
    assert!(
        matches!(wrong, Err(ClientError::Refused(code, _)) if code == 400),
        "{wrong:?}"
    );
    agent
        .upgrade(&back.nonce, &next, &sha256, "test")
        .await
        .unwrap();
    let after = set
        .until(&one, "upgraded", |s| {
            s.ready && s.program.as_ref().is_some_and(|p| p.sha256 == sha256)
        })
        .await;
    assert_eq!(after.given_up, None);

    // While it is new, its end is a reason to go back.
    kill(Pid::from_raw(one.agent_pid()), Signal::SIGKILL).unwrap();
    let back = set
        .until(&one, "back", |s| s.ready && s.given_up.is_some())
        .await;
    assert_eq!(back.given_up.as_ref().unwrap().sha256, sha256);

    // Through all of that the engine was the same, and so was the connection.
    assert_eq!(one.engine_pid(), engine);
    client.query_one("select 1", &[]).await.unwrap();

    // One that says nothing. A primary's term may end before that is noticed.
    let hangs = folder.path().join("hangs");
    std::fs::write(&hangs, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    let back = given_up(&set, &one, &back.nonce, &hangs).await;
    assert!(back.given_up.unwrap().why.contains("did not say within"));
    set.finish(one).await;
}

/// Have an agent go on as a program that does not work, and see it come back.
async fn given_up(set: &Set, pod: &Pod, nonce: &str, program: &Path) -> Status {
    let sha256 = sha256_of(program).unwrap();
    let mut agent = set.agent(pod);
    agent
        .upgrade(nonce, program, &sha256, "test")
        .await
        .unwrap();
    set.until(pod, "back", |s| {
        let given_up = s.given_up.as_ref();
        s.ready && s.nonce != nonce && given_up.is_some_and(|g| g.sha256 == sha256)
    })
    .await
}

#[tokio::test]
async fn parameters_passwords_and_certificates_change_in_place() {
    let (mut set, one, _) = one_instance().await;
    let client = set.connect(&one).await.unwrap();

    // Parameters: one that is live, one that needs a restart.
    set.config
        .engine
        .parameters
        .insert("work_mem".into(), "7MB".into());
    let hash = set.mount(&one);
    let status = set.agent(&one).reload(&hash).await.unwrap();
    assert_eq!(status.config_hash.as_deref(), Some(hash.as_str()));
    assert_eq!(status.pending_restart, [""; 0]);
    assert_eq!(show(&client, "work_mem").await, "7MB");
    set.config
        .engine
        .parameters
        .insert("max_connections".into(), "50".into());
    let hash = set.mount(&one);
    set.agent(&one).reload(&hash).await.unwrap();
    let status = set
        .until(&one, "pending", |s| {
            s.pending_restart == ["max_connections"]
        })
        .await;
    let wrong = set.agent(&one).restart("another", "test").await;
    assert!(
        matches!(wrong, Err(ClientError::Refused(code, _)) if code == 409),
        "{wrong:?}"
    );
    let restarted = set
        .agent(&one)
        .restart(&status.nonce, "max_connections")
        .await
        .unwrap();
    assert_ne!(restarted.nonce, status.nonce);
    let again = set.agent(&one).restart(&status.nonce, "twice").await;
    assert!(
        matches!(again, Err(ClientError::Refused(code, _)) if code == 409),
        "{again:?}"
    );
    set.until(&one, "ready without pending", |s| {
        s.ready && s.pending_restart.is_empty()
    })
    .await;
    let client = set.connect(&one).await.unwrap();
    assert_eq!(show(&client, "max_connections").await, "50");

    // A value that PostgreSQL refuses: the status says so, and nothing is restarted for it.
    set.config
        .engine
        .parameters
        .insert("shared_buffers".into(), "32 potatoes".into());
    set.mount(&one);
    let status = set
        .until(&one, "complaining", |s| {
            s.last_error
                .as_deref()
                .is_some_and(|e| e.contains("shared_buffers"))
        })
        .await;
    let refused = set.agent(&one).restart(&status.nonce, "test").await;
    assert!(
        matches!(&refused, Err(ClientError::Refused(_, why)) if why.contains("shared_buffers")),
        "{refused:?}"
    );
    assert!(set.connect(&one).await.is_ok());
    set.config
        .engine
        .parameters
        .insert("shared_buffers".into(), "32MB".into());
    let hash = set.mount(&one);
    let status = set.agent(&one).reload(&hash).await.unwrap();

    // A new password, a new certificate.
    set.set_password("second-password");
    set.mount(&one);
    wait_for("the new password", async || set.connect(&one).await.is_ok()).await;
    set.renew(&one);
    set.until(&one, "serving another certificate", |s| {
        s.ready
            && s.certificate_serial.is_some()
            && s.certificate_serial != status.certificate_serial
    })
    .await;

    set.finish(one).await;
}

#[tokio::test]
async fn data_on_disk_goes_on_after_every_end() {
    let (set, mut one, status) = one_instance().await;
    let client = set.connect(&one).await.unwrap();
    let table = "create table t (n int); insert into t values (1)";
    client.batch_execute(table).await.unwrap();

    // The engine's death is mended in place.
    let engine = one.engine_pid();
    kill(Pid::from_raw(engine), Signal::SIGKILL).unwrap();
    set.until(&one, "ready with another engine", |s| {
        s.ready && s.nonce != status.nonce
    })
    .await;
    assert_ne!(one.engine_pid(), engine);

    // One whose first process stands still serves nobody new, though sessions go on: it is ended.
    let (engine, client) = (one.engine_pid(), set.connect(&one).await.unwrap());
    let nonce = set.until(&one, "ready", |s| s.ready).await.nonce;
    kill(Pid::from_raw(engine), Signal::SIGSTOP).unwrap();
    client.query_one("select n from t", &[]).await.unwrap();
    set.until(&one, "ready with another engine", |s| {
        s.ready && s.nonce != nonce
    })
    .await;
    assert_ne!(one.engine_pid(), engine);

    // An orderly stop lets go of the Lease, and a pod of the same name goes on with the data as
    // soon as the API server says that it may.
    assert!(one.terminate(), "{}", one.log());
    assert_eq!(set.lease().await.spec.unwrap().holder_identity, None);
    set.start(&mut one, "uid-2", false);
    set.until(&one, "waiting for the API server", |s| {
        let waits = s.message.as_deref();
        !s.ready && waits.is_some_and(|m| m.contains("API server"))
    })
    .await;
    one.cut();
    set.start(&mut one, "uid-3", true);
    set.until(&one, "ready after a power cut", |s| s.ready)
        .await;
    wait_for("the next epoch", async || set.record().await.epoch > 1).await;
    let n: i32 = set
        .connect(&one)
        .await
        .unwrap()
        .query_one("select n from t", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(n, 1);
    set.finish(one).await;
}

#[tokio::test]
async fn a_frozen_agent_costs_the_engine() {
    let (set, one, before) = one_instance().await;
    let (agent, engine) = (one.agent_pid(), one.engine_pid());
    kill(Pid::from_raw(agent), Signal::SIGSTOP).unwrap();
    wait_for("another agent", async || {
        one.child("\0agent").is_some_and(|pid| pid != agent)
    })
    .await;
    let after = set.until(&one, "ready again", |s| s.ready).await;
    assert_ne!(one.engine_pid(), engine);
    assert_ne!(after.nonce, before.nonce);
}

#[tokio::test]
async fn a_frozen_watchdog_costs_the_engine_too() {
    let (set, one, _) = one_instance().await;
    let (agent, engine) = (one.agent_pid(), one.engine_pid());
    kill(Pid::from_raw(one.init()), Signal::SIGSTOP).unwrap();
    wait_for("the engine's end", async || {
        // Nobody reaps it while PID 1 is frozen: what has ended has no command line any more.
        one.child("config_file=").is_none()
    })
    .await;
    assert_eq!(one.agent_pid(), agent);
    kill(Pid::from_raw(one.init()), Signal::SIGCONT).unwrap();
    // The status may still be that of before.
    wait_for("another engine", async || {
        one.child("config_file=").is_some_and(|pid| pid != engine)
    })
    .await;
    set.until(&one, "ready again", |s| s.ready).await;
    set.finish(one).await;
}

#[tokio::test]
async fn replicas_copy_stream_and_are_waited_for() {
    let mut set = Set::new(3, Durability::Quorum).await;
    let (mut one, mut two, mut three) = (set.pod(1), set.pod(2), set.pod(3));
    for (pod, uid) in [
        (&mut one, "uid-1"),
        (&mut two, "uid-2"),
        (&mut three, "uid-3"),
    ] {
        set.start(pod, uid, true);
    }
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
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(8) {
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
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3), insert).await;
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
    one.address = "10.99.0.101".into();
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
async fn a_primary_hands_over_on_request_and_who_was_away_too_long_is_copied() {
    let mut set = Set::new(3, Durability::Quorum).await;
    let small = [("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
    let small = small.map(|(name, value)| (name.to_owned(), value.to_owned()));
    set.config.engine.parameters.extend(small);
    set.config.engine.max_slot_wal_keep_mib = 32;
    let (mut one, mut two, mut three) = (set.pod(1), set.pod(2), set.pod(3));
    for (pod, uid) in [
        (&mut one, "uid-1"),
        (&mut two, "uid-2"),
        (&mut three, "uid-3"),
    ] {
        set.start(pod, uid, true);
    }
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
async fn what_the_election_asks_for_holds_while_the_newest_configuration_is_refused() {
    let mut set = Set::new(3, Durability::Quorum).await;
    let (mut one, mut two, mut three) = (set.pod(1), set.pod(2), set.pod(3));
    for (pod, uid) in [
        (&mut one, "uid-1"),
        (&mut two, "uid-2"),
        (&mut three, "uid-3"),
    ] {
        set.start(pod, uid, true);
    }
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
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), insert).await;
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

async fn show(client: &tokio_postgres::Client, name: &str) -> String {
    client
        .query_one(&format!("show {name}"), &[])
        .await
        .unwrap()
        .get(0)
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < pod::LONG, "{what}: not in time");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
