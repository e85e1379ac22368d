//! A set goes from Redis 7.0 to 8.0, with the pods made anew as the operator does.

use std::fs;
use std::path::Path;

use mainstay_e2e::tools::Server;
use mainstay_redis::settings::{DATA, Persistence, ReplicasToWrite};
use mainstay_shared::agent::api::Status;

use super::faults::{all_are_there, write};
use super::pod::{Pod, Set, programs};
use super::wait_for;

/// A set of three of Redis 7.0 that has some data, a folder with the programs of 7.0, and one with those of 8.0.
async fn three(replicas: Option<ReplicasToWrite>) -> (Set, Vec<Pod>, [tempfile::TempDir; 2]) {
    let mut set = Set::of(Server::Redis7, 3).await;
    set.config.engine.replicas = replicas;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 1).await;
    set.config.engine.version = Server::Redis8.version().into();
    for pod in &pods {
        set.mount(pod);
    }
    let both = [
        programs(Server::Redis7).await,
        programs(Server::Redis8).await,
    ];
    (set, pods, both)
}

/// Another pod on the same volume, with the server of that folder.
fn anew(set: &Set, pod: &mut Pod, programs: &Path) {
    assert!(pod.terminate(), "{}", pod.log());
    set.mount(pod);
    let uid = format!("uid-of-{}-anew", pod.name);
    set.start_with(pod, &uid, programs);
}

/// Whether it stands aside, since it would not read what that one writes.
fn stands_aside(status: &Status, primary: &Pod) -> bool {
    let why = status.last_error.as_deref().unwrap_or_default();
    let said = format!("{} runs Redis 8.0", primary.name);
    !status.ready && why.contains(&said) && why.contains("does not read")
}

async fn hand_over(set: &Set, from: &Pod, to: &Pod) {
    let nonce = set.until(from, "ready", |s| s.ready).await.nonce;
    let mut agent = set.agent(from);
    // Who has just begun to follow may not be known to stream yet: an operator asks again, too.
    wait_for("the hand-over to begin", async || {
        match agent.hand_over(&nonce, &to.name, "test").await {
            Ok(_) => true,
            Err(refused) if refused.to_string().contains("does not stream") => false,
            Err(refused) => panic!("{refused}"),
        }
    })
    .await;
}

#[tokio::test]
async fn replicas_go_first_then_the_primary_hands_over_and_nothing_is_lost() {
    let bound = ReplicasToWrite {
        count: 1,
        max_lag_seconds: 10,
    };
    let (set, mut pods, [_, newer]) = three(Some(bound)).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    for (n, prefix) in [(2, "b"), (1, "c")] {
        anew(&set, &mut pods[n], newer.path());
        let runs = |s: &Status| {
            let version = s.engine_version.as_deref().unwrap_or_default();
            s.ready && version.starts_with("8.0.")
        };
        set.until(&pods[n], "following with 8.0", runs).await;
        set.voted_by(2).await;
        write(&mut db, prefix, 20, 2).await;
    }

    hand_over(&set, &pods[0], &pods[1]).await;
    assert_eq!(set.leader(&pods, Some(0)).await, 1);
    let mut db = set.connect(&pods[1]).await.unwrap();
    for (prefix, count) in [("a", 50), ("b", 20), ("c", 20)] {
        all_are_there(&mut db, prefix, count).await;
    }
    write(&mut db, "d", 20, 1).await;
    // The former primary does not follow one that it does not understand, and keeps what it has.
    set.until(&pods[0], "standing aside", |s| stands_aside(s, &pods[1]))
        .await;
    let mut former = set.inside(&pods[0]).await.unwrap();
    assert_eq!(former.size().await, 90);

    anew(&set, &mut pods[0], newer.path());
    set.until(&pods[0], "following", |s| s.ready).await;
    set.voted_by(2).await;
    write(&mut db, "e", 20, 2).await;
    let mut former = set.connect(&pods[0]).await.unwrap();
    assert_eq!(former.size().await, 130);
    // And it can lead again.
    hand_over(&set, &pods[1], &pods[0]).await;
    assert_eq!(set.leader(&pods, Some(1)).await, 0);
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "f", 5, 2).await;
    set.finish(pods);
}

#[tokio::test]
async fn who_is_older_than_a_primary_elected_half_way_waits_to_be_made_anew_with_what_it_has() {
    let (set, mut pods, [_, newer]) = three(None).await;
    anew(&set, &mut pods[2], newer.path());
    set.until(&pods[2], "following", |s| s.ready).await;
    set.voted_by(2).await;
    // As when the primary is lost, but for who is elected.
    hand_over(&set, &pods[0], &pods[2]).await;
    assert_eq!(set.leader(&pods, Some(0)).await, 2);
    let mut db = set.connect(&pods[2]).await.unwrap();
    db.set("b", "v").await.unwrap();
    for n in [0, 1] {
        set.until(&pods[n], "standing aside", |s| stands_aside(s, &pods[2]))
            .await;
        let mut old = set.inside(&pods[n]).await.unwrap();
        assert_eq!(old.size().await, 50, "it has what it had");
    }
    for n in [1, 0] {
        anew(&set, &mut pods[n], newer.path());
        set.until(&pods[n], "following", |s| s.ready).await;
    }
    set.voted_by(2).await;
    write(&mut db, "c", 5, 2).await;
    all_are_there(&mut db, "a", 50).await;
    set.finish(pods);
}

#[tokio::test]
async fn before_the_hand_over_a_replica_goes_back_with_a_new_volume() {
    let (mut set, mut pods, [older, newer]) = three(None).await;
    anew(&set, &mut pods[2], newer.path());
    set.until(&pods[2], "following", |s| s.ready).await;
    set.voted_by(2).await;
    set.config.engine.version = Server::Redis7.version().into();
    // On its own volume it does not start: why a new one is needed.
    anew(&set, &mut pods[2], older.path());
    let ended = |s: &Status| {
        let why = s.last_error.as_deref().unwrap_or_default();
        why.contains("ended by itself")
    };
    set.until(&pods[2], "unable to read its volume", ended)
        .await;
    assert!(
        pods[2].log().contains("Can't handle RDB format version"),
        "{}",
        pods[2].log()
    );
    pods[2].cut();
    fs::remove_dir_all(pods[2].path(DATA)).unwrap();
    fs::create_dir_all(pods[2].path(DATA)).unwrap();
    set.mount(&pods[2]);
    set.start_with(&mut pods[2], "uid-with-a-new-volume", older.path());
    set.until(&pods[2], "following", |s| s.ready).await;
    set.voted_by(2).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "b", 5, 2).await;
    set.finish(pods);
}

#[tokio::test]
async fn a_single_instance_goes_on_with_what_the_older_version_wrote() {
    let newer = programs(Server::Redis8).await;
    for persistence in [Persistence::Aof, Persistence::Rdb] {
        let mut set = Set::of(Server::Redis7, 1).await;
        set.config.engine.persistence = persistence;
        let mut pods = set.all(1).await;
        let mut db = set.connect(&pods[0]).await.unwrap();
        write(&mut db, "a", 20, 0).await;
        set.config.engine.version = Server::Redis8.version().into();
        anew(&set, &mut pods[0], newer.path());
        let status = set.until(&pods[0], "ready", |s| s.ready).await;
        let version = status.engine_version.unwrap();
        assert!(version.starts_with("8.0."), "{version}");
        let mut db = set.connect(&pods[0]).await.unwrap();
        all_are_there(&mut db, "a", 20).await;
        db.set("b", "v").await.unwrap();
        set.finish(pods);
    }
}
