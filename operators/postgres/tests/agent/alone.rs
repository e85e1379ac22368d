//! An instance by itself.

use std::time::Duration;

use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::api::Phase;
use mainstay_shared::agent::client::ClientError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pod::anonymous_kib;
use super::{one_instance, show, wait_for};

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
    match set.stranger(&one).status(None, Duration::ZERO).await {
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
    assert_eq!(Some(set.identifier().await), status.system_identifier);

    // The agent's death is nothing to the engine, nor to whoever connects meanwhile.
    let (agent, engine) = (one.agent_pid(), one.engine_pid());
    println!(
        "RssAnon: init {} KiB, agent {} KiB",
        anonymous_kib(one.init()),
        anonymous_kib(agent)
    );
    kill(Pid::from_raw(agent), Signal::SIGKILL).unwrap();
    let again = set.until(&one, "ready again", |s| s.ready && s.nonce != status.nonce);
    let served = async {
        loop {
            set.connect(&one).await.expect("new connections are taken");
        }
    };
    tokio::select! {
        _ = again => {}
        () = served => {}
    }
    assert_eq!(one.engine_pid(), engine);
    client.query_one("select n from t", &[]).await.unwrap();

    set.finish(one);
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

    set.finish(one);
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
    set.finish(one);
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
    set.finish(one);
}
