//! Agents with real Redis and a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "helpers of tests say what they expect by unwrapping it"
)]

#[allow(dead_code, reason = "tests of another engine share a server")]
#[path = "../../../postgres/tests/agent/api.rs"]
mod api;
mod backup;
#[path = "../clients/mod.rs"]
mod clients;
mod clustered;
mod clustered_backup;
mod clustered_drill;
mod clustered_versions;
mod drill;
mod faults;
mod figures;
mod in_place;
mod languages;
mod logins;
#[allow(dead_code, reason = "figures of another engine need more of it")]
#[path = "../../../postgres/tests/backup/meter.rs"]
mod meter;
mod names;
mod pod;
#[path = "../../../postgres/tests/agent/processes.rs"]
mod processes;
mod sentinel;
mod servers;
mod versions;

use std::time::Duration;

use mainstay_e2e::tools::Server;
use mainstay_redis::resp::words;
use mainstay_redis::settings::{PROBE_ROLE, Persistence};
use mainstay_shared::agent::api::Phase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pod::{LONG, Set};

#[tokio::test]
async fn a_new_set_serves_and_outlives_its_agent() {
    let mut set = Set::new(1).await;
    let mut pods = set.all(1).await;
    let one = &pods[0];
    let status = set.until(one, "ready", |s| s.ready).await;
    assert_eq!(status.phase, Phase::Running);
    let hash = set.config.render().unwrap().1;
    assert_eq!(status.config_hash.as_deref(), Some(hash.as_str()));
    let record = set.record().await;
    assert_eq!(record.epoch, 1);
    assert_eq!(Some(set.identifier().await), status.system_identifier);
    wait_for("the endpoints", async || {
        set.endpoint().await.as_ref() == Some(&one.address)
    })
    .await;

    // Who is let in.
    let mut db = set.connect(one).await.unwrap();
    db.set("a", "1").await.unwrap();
    set.connect_as(one, PROBE_ROLE, "probe").await.unwrap();
    for (user, password) in [("app", "guess"), ("default", ""), ("mainstay_agent", "")] {
        let refused = set.connect_as(one, user, password).await;
        assert!(refused.is_err(), "{user}");
    }

    // The agent's death is nothing to the engine, nor to whoever writes meanwhile.
    let engine = one.engine_pid();
    kill(Pid::from_raw(one.agent_pid()), Signal::SIGKILL).unwrap();
    let again = set.until(one, "ready again", |s| s.ready && s.nonce != status.nonce);
    let served = async {
        loop {
            db.set("b", "2").await.expect("writes are taken");
        }
    };
    tokio::select! {
        _ = again => {}
        () = served => {}
    }
    assert_eq!(one.engine_pid(), engine);
    db.set("b", "2").await.unwrap();

    // What is live is set live, what is not waits for a restart.
    let parameters = &mut set.config.engine.parameters;
    parameters.insert("maxmemory-policy".into(), "allkeys-lru".into());
    parameters.insert("databases".into(), "4".into());
    let hash = set.mount(one);
    let status = set.agent(one).reload(&hash).await.unwrap();
    assert_eq!(status.pending_restart, ["databases"]);
    assert_eq!(one.engine_pid(), engine);

    // Both passwords are valid while one is changed; then only the new one.
    set.old_password = Some(std::mem::replace(
        &mut set.password,
        "second-password".into(),
    ));
    set.mount(one);
    wait_for("both passwords", async || set.connect(one).await.is_ok()).await;
    assert!(set.connect_as(one, "app", "first-password").await.is_ok());
    set.old_password = None;
    set.mount(one);
    wait_for("the old password to be refused", async || {
        set.connect_as(one, "app", "first-password").await.is_err()
    })
    .await;
    db.set("c", "3").await.expect("who is logged in stays so");

    // A restart keeps everything, also what was written in a transaction, and brings the rest into force.
    for command in ["MULTI", "SET d 4", "SET e 5", "EXEC"] {
        let command = command.split(' ').map(str::to_owned).collect();
        db.call(command).await.unwrap();
    }
    let nonce = set.until(one, "ready", |s| s.ready).await.nonce;
    let restarted = set.agent(one).restart(&nonce, "databases").await;
    let restarted = restarted.unwrap();
    assert_ne!(one.engine_pid(), engine);
    assert!(restarted.pending_restart.is_empty());
    set.until(one, "ready after the restart", |s| s.ready).await;
    let mut db = set.connect(one).await.unwrap();
    assert_eq!(db.size().await, 5);
    assert!(db.call(words(["SELECT", "5"])).await.is_err());

    // And so does the end of the container.
    let mut one = pods.remove(0);
    assert!(one.terminate());
    set.start(&mut one, "uid-again");
    set.until(&one, "ready in another pod", |s| s.ready).await;
    assert_eq!(set.connect(&one).await.unwrap().size().await, 5);
    set.finish(vec![one]);
}

/// How often a command was called.
async fn calls(db: &mut pod::Db, command: &str) -> u64 {
    let stats = db.info("commandstats").await;
    let name = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|l| l.strip_prefix(&name));
    let count = line.and_then(|rest| rest.split(',').next()?.parse().ok());
    count.unwrap_or(0)
}

#[tokio::test]
async fn a_primary_writes_its_mark_once_for_a_look_and_rests_when_nobody_writes() {
    let set = Set::new(2).await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    set.until(&pods[1], "telling how far it is", |s| {
        s.lag_bytes == Some(0)
    })
    .await;
    for n in 0..100 {
        db.set(&format!("k{n}"), &"v".repeat(100)).await.unwrap();
    }
    assert_eq!(db.wait(1).await, 1);
    let mut inside = set.inside(&pods[0]).await.unwrap();
    // Once for what was written, and not for the mark itself.
    let (looks, marks) = (
        calls(&mut inside, "function|list").await,
        calls(&mut inside, "function|load").await,
    );
    wait_for("five looks", async || {
        calls(&mut inside, "function|list").await >= looks + 5
    })
    .await;
    let more = calls(&mut inside, "function|load").await - marks;
    assert!(more <= 2, "the mark was written {more} times");
    set.finish(pods);
}

#[tokio::test]
async fn replicas_follow_and_one_takes_over_on_request_with_everything() {
    replicas_follow_and_one_takes_over(Server::Redis7).await;
}

async fn replicas_follow_and_one_takes_over(server: Server) {
    let set = Set::of(server, 3).await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    for n in 0..100 {
        db.set(&format!("k{n}"), "v").await.unwrap();
    }
    assert_eq!(db.wait(2).await, 2);
    let mut replica = set.connect(&pods[1]).await.unwrap();
    assert_eq!(replica.size().await, 100);
    let refused = replica.set("x", "1").await.unwrap_err();
    assert_eq!(refused.code(), Some("READONLY"));

    // A write that waits through the hand-over is answered, by a refusal or by the one who took over.
    let status = set.until(&pods[0], "ready", |s| s.ready).await;
    let engine = pods[0].engine_pid();
    let second = pods[1].name.clone();
    let mut agent = set.agent(&pods[0]);
    agent
        .hand_over(&status.nonce, &second, "test")
        .await
        .unwrap();
    assert_eq!(set.leader(&pods, Some(0)).await, 1);
    let mut db = set.connect(&pods[1]).await.unwrap();
    assert_eq!(db.size().await, 100);
    db.set("after", "1").await.unwrap();
    set.until(&pods[0], "following", |s| s.ready).await;
    assert_eq!(db.wait(2).await, 2, "{}", pods[0].log());
    assert_eq!(pods[0].engine_pid(), engine, "it need not start anew");
    let log = pods[0].log();
    assert!(
        log.contains("accepted a Partial Resynchronization"),
        "{log}"
    );
    set.finish(pods);
}

/// As PID 1 tells it, without an agent that would ask.
#[tokio::test]
async fn an_engine_without_an_agent_hears_that_it_shall_end_and_writes_everything() {
    let mut set = Set::new(1).await;
    // What it has not written when it ends is lost.
    set.config.engine.persistence = Persistence::Rdb;
    let mut pods = set.all(1).await;
    let mut one = pods.remove(0);
    let mut db = set.connect(&one).await.unwrap();
    db.set("a", "1").await.unwrap();
    let agent = Pid::from_raw(one.agent_pid());
    kill(agent, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(one.init()), Signal::SIGTERM).unwrap();
    wait_for("PID 1 to hear it", async || {
        one.log().contains("the container is being stopped")
    })
    .await;
    kill(agent, Signal::SIGKILL).unwrap();
    assert!(one.terminate(), "{}", one.log());
    let log = one.log();
    assert!(log.contains("Received SIGTERM"), "{log}");
    assert!(log.contains("bye bye"), "{log}");
    set.start(&mut one, "uid-again");
    set.until(&one, "ready in another pod", |s| s.ready).await;
    let mut db = set.connect(&one).await.unwrap();
    assert_eq!(db.get("a").await.as_deref(), Some("1"));
    set.finish(vec![one]);
}

async fn wait_for(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait(what, Duration::from_millis(100), condition).await;
}

/// As [`wait_for`], for what shall be noticed at once.
async fn wait_closely(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait(what, Duration::from_millis(1), condition).await;
}

async fn wait(what: &str, pause: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < LONG, "{what}: not in time");
        tokio::time::sleep(pause).await;
    }
}
