//! What must survive, and what must never spread: the failure modes of other operators.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_e2e::tools::Server;
use mainstay_redis::agent::observe::GRACE;
use mainstay_redis::resp::words;
use mainstay_redis::settings::{DATA, Persistence, ReplicasToWrite};
use mainstay_shared::agent::paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pod::{Db, LONG, Pod, Set};
use super::{wait_closely, wait_for};

/// Write so many keys, each acknowledged by `replicas`.
pub async fn write(db: &mut Db, prefix: &str, count: u32, replicas: u32) {
    for n in 0..count {
        db.set(&format!("{prefix}{n}"), "v").await.unwrap();
        assert!(db.wait(replicas).await >= i64::from(replicas));
    }
}

pub async fn all_are_there(db: &mut Db, prefix: &str, count: u32) {
    for n in 0..count {
        assert_eq!(
            db.get(&format!("{prefix}{n}")).await.as_deref(),
            Some("v"),
            "{prefix}{n}"
        );
    }
}

#[tokio::test]
async fn what_one_replica_acknowledged_survives_the_loss_of_the_primary_and_of_its_volume() {
    what_one_replica_acknowledged_survives(Server::Redis7).await;
}

pub async fn what_one_replica_acknowledged_survives(server: Server) {
    let set = Set::of(server, 3).await;
    let mut pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 1).await;

    // The node loses power, and the pod comes back at once with an empty volume.
    pods[0].cut();
    fs::remove_dir_all(pods[0].path(DATA)).unwrap();
    fs::create_dir_all(pods[0].path(DATA)).unwrap();
    set.mount(&pods[0]);
    set.start(&mut pods[0], "uid-new");
    let leader = set.leader(&pods, None).await;
    assert_ne!(leader, 0, "nothing leads");
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    write(&mut db, "b", 20, 2).await;
    set.until(&pods[0], "following", |s| s.ready).await;
    let mut replica = set.connect(&pods[0]).await.unwrap();
    all_are_there(&mut replica, "b", 20).await;
    assert_eq!(replica.size().await, 70);

    // What came back counts: it is enough, when the next one is lost.
    set.voted_by(2).await;
    write(&mut db, "c", 20, 2).await;
    pods[leader].cut();
    let next = set.leader(&pods, Some(leader)).await;
    let mut db = set.connect(&pods[next]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    all_are_there(&mut db, "c", 20).await;
}

#[tokio::test]
async fn an_engine_that_ends_and_starts_at_once_with_less_does_not_lead() {
    // Without a volume's help: what it has after the start is nothing.
    let mut set = Set::new(3).await;
    set.config.engine.persistence = Persistence::None;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 1).await;
    kill(Pid::from_raw(pods[0].engine_pid()), Signal::SIGKILL).unwrap();
    let leader = set.leader(&pods, Some(0)).await;
    let log = pods[0].log();
    assert!(log.contains("its term is given up"), "{log}");
    assert!(
        !log.contains("the engine is stopped hard"),
        "its time ran out: {log}"
    );
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    set.until(&pods[0], "following", |s| s.ready).await;
    assert_eq!(set.connect(&pods[0]).await.unwrap().size().await, 50);

    // A replica that ends is whole again, and costs nobody anything.
    let other = (0..3).find(|n| *n != leader && *n != 0).unwrap();
    kill(Pid::from_raw(pods[other].engine_pid()), Signal::SIGKILL).unwrap();
    set.until(&pods[other], "gone", |s| !s.ready).await;
    set.until(&pods[other], "following again", |s| s.ready)
        .await;
    assert_eq!(set.leader(&pods, None).await, leader);
    // Of what a file had on its volume it goes on in the primary's log: it streams before it has applied that.
    let mut db = set.connect(&pods[other]).await.unwrap();
    wait_for("the same keys", async || db.size().await == 50).await;
    set.finish(pods);
}

#[tokio::test]
async fn who_is_alone_leads_again_when_its_engine_is_back() {
    let set = Set::new(1).await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 0).await;
    let engine = pods[0].engine_pid();
    kill(Pid::from_raw(engine), Signal::SIGKILL).unwrap();
    wait_for("writes to be taken again", async || {
        match set.connect(&pods[0]).await {
            Ok(mut db) => db.set("after", "1").await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
    assert_ne!(pods[0].engine_pid(), engine);
    let mut db = set.connect(&pods[0]).await.unwrap();
    all_are_there(&mut db, "a", 20).await;
    assert_eq!(set.record().await.epoch, 2, "it was elected once more");
    set.finish(pods);
}

#[tokio::test]
async fn who_has_the_data_before_anybody_votes_leads_when_the_primary_has_lost_it() {
    let mut set = Set::new(2).await;
    set.config.engine.persistence = Persistence::None;
    let mut pods = vec![set.pod(1, 1), set.pod(2, 2)];
    set.start(&mut pods[0], "uid-1");
    set.until(&pods[0], "leading", |s| s.ready).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 0).await;

    // As soon as the replica has it the primary's memory is gone.
    set.start(&mut pods[1], "uid-2");
    let mut inside = None;
    wait_closely("the replica to have the data", async || {
        if inside.is_none() {
            inside = set.inside(&pods[1]).await.ok();
        }
        let Some(db) = &mut inside else { return false };
        let size = db.call(words(["DBSIZE"])).await.ok();
        size.and_then(|s| s.integer()) == Some(50)
    })
    .await;
    let named = set.charter().await.everybody();
    kill(Pid::from_raw(pods[0].engine_pid()), Signal::SIGKILL).unwrap();
    assert!(
        named.iter().any(|m| m.name.as_str() == pods[1].name),
        "nobody will ask it: {named:?}"
    );
    set.leader(&pods, Some(0)).await;
    let mut db = set.connect(&pods[1]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    set.until(&pods[0], "following", |s| s.ready).await;
    assert_eq!(set.connect(&pods[0]).await.unwrap().size().await, 50);
    set.finish(pods);
}

#[tokio::test]
async fn a_primary_that_ends_while_the_api_server_is_away_is_followed_by_one_that_has_everything() {
    let set = Set::with_own_server(3).await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 1).await;
    set.api.freeze(true).unwrap();
    kill(Pid::from_raw(pods[0].engine_pid()), Signal::SIGKILL).unwrap();
    tokio::time::sleep(GRACE + Duration::from_secs(5)).await;
    set.api.freeze(false).unwrap();
    // It has been silent for long enough, had others been able to lead, and the Lease bears its name still.
    let leader = set.leader(&pods, Some(0)).await;
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    set.until(&pods[0], "following", |s| s.ready).await;
    set.finish(pods);
}

#[tokio::test]
async fn an_engine_that_ends_between_election_and_promotion_costs_its_term_and_no_more() {
    let set = Set::new(2).await;
    let mut pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 1).await;
    let mut inside = set.inside(&pods[1]).await.unwrap();
    pods[0].cut();
    wait_closely("the replica to receive from nobody", async || {
        inside
            .info("replication")
            .await
            .contains("master_host:127.0.0.1")
    })
    .await;

    // Its agent does a little at a time from here on, until it is elected and has not promoted Redis yet.
    let agent = Pid::from_raw(pods[1].agent_pid());
    let elected = async || {
        let charter = set.charter().await;
        charter.ballot.holder.member.name.as_str() == pods[1].name
    };
    let begun = Instant::now();
    loop {
        kill(agent, Signal::SIGSTOP).unwrap();
        if elected().await {
            break;
        }
        assert!(begun.elapsed() < LONG, "it is not elected");
        kill(agent, Signal::SIGCONT).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let info = inside.info("replication").await;
    assert!(
        info.contains("role:slave"),
        "it is promoted already: {info}"
    );
    kill(Pid::from_raw(pods[1].engine_pid()), Signal::SIGKILL).unwrap();
    kill(agent, Signal::SIGCONT).unwrap();

    let leader = set.leader(&pods[1..], None).await + 1;
    let log = pods[leader].log();
    assert!(log.contains("its term is given up"), "{log}");
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 20).await;
    db.set("after", "1").await.unwrap();
    set.finish(pods);
}

#[tokio::test]
async fn all_at_once_come_back_with_what_was_on_their_volumes() {
    let set = Set::new(3).await;
    let mut pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 50, 2).await;
    let identifier = set.identifier().await;
    for pod in &mut pods {
        pod.cut();
    }
    for (n, pod) in pods.iter_mut().enumerate() {
        set.start(pod, &format!("uid-second-{n}"));
    }
    let leader = set.leader(&pods, None).await;
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 50).await;
    assert_eq!(
        set.record().await.system_identifier,
        Some(identifier),
        "the same data"
    );
    set.voted_by(2).await;
    set.finish(pods);
}

#[tokio::test]
async fn a_frozen_engine_loses_its_lease_and_never_writes_again() {
    let set = Set::new(3).await;
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 1).await;
    let engine = Pid::from_raw(pods[0].engine_pid());
    kill(engine, Signal::SIGSTOP).unwrap();
    let leader = set.leader(&pods, Some(0)).await;
    // By now its own agent has killed it, frozen as it was.
    wait_for("the frozen engine to be gone", async || {
        pods[0].child("redis-server") != Some(engine.as_raw())
    })
    .await;
    assert!(db.set("late", "1").await.is_err());
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 20).await;
    set.until(&pods[0], "following", |s| s.ready).await;
    assert_eq!(db.get("late").await, None);
    set.finish(pods);
}

/// Whatever this pod's processes send leads nowhere.
fn isolate(pod: &Pod, yes: bool) {
    let user = pod.owner.unwrap().0;
    let what = if yes { "add" } else { "del" };
    let range = format!("{user}-{user}");
    let done = Command::new("ip")
        .args(["rule", what, "pref", "0", "uidrange", &range, "prohibit"])
        .status()
        .unwrap();
    assert!(done.success());
    // The table of local addresses comes first otherwise.
    let done = Command::new("ip")
        .args(["route", "flush", "cache"])
        .status()
        .unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn an_isolated_primary_stops_before_another_leads() {
    let set = Set::with_own_server(3).await;
    // The table of local addresses is looked at after the rules of the test.
    for arguments in [
        "rule add pref 100 lookup local",
        "rule del pref 0 lookup local",
    ] {
        let moved = Command::new("ip")
            .args(arguments.split(' '))
            .status()
            .unwrap();
        assert!(moved.success(), "{arguments}");
    }
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 1).await;
    // No name service tells here where they are: who leads does.
    wait_for("the replicas to know one another", async || {
        let met = |pod: &Pod, other: &Pod| {
            let other = format!("\"peer\":\"{}/", other.name);
            let log = pod.log();
            log.lines()
                .any(|l| l.contains("introduced itself") && l.contains(&other))
        };
        met(&pods[1], &pods[2]) && met(&pods[2], &pods[1])
    })
    .await;
    let epoch = set.record().await.epoch;
    let mut inside = set.inside(&pods[0]).await.unwrap();
    inside.set("inside", "1").await.unwrap();
    isolate(&pods[0], true);
    // A client beside the cut-off primary writes as long as it is let.
    let mut written = 0_u64;
    while inside.set("alone", &written.to_string()).await.is_ok() {
        written += 1;
        // The Lease says who holds it; while its first holder can write it is nobody else's.
        assert_eq!(set.record().await.epoch, epoch, "two can write");
    }
    assert!(written > 0, "it was cut off at once, and nothing was shown");
    let leader = set.leader(&pods[1..], None).await + 1;
    let mut db = set.connect(&pods[leader]).await.unwrap();
    all_are_there(&mut db, "a", 20).await;
    db.set("after", "1").await.unwrap();
    isolate(&pods[0], false);
    set.until(&pods[0], "following", |s| s.ready).await;
    let mut back = set.connect(&pods[0]).await.unwrap();
    assert_eq!(back.get("after").await.as_deref(), Some("1"));
    assert_eq!(back.get("alone").await, db.get("alone").await);
    set.finish(pods);
}

#[tokio::test]
async fn sets_whose_addresses_are_swapped_never_mix() {
    let set = Set::new(2).await;
    let other = set.beside("other", 2).await;
    let mut pods = set.all(1).await;
    let mut others = other.all(11).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 1).await;
    let mut db = other.connect(&others[0]).await.unwrap();
    write(&mut db, "z", 30, 1).await;

    // Each primary comes back where the other set's was, while the replicas believe to know where theirs is.
    pods[0].cut();
    others[0].cut();
    std::mem::swap(&mut pods[0].address, &mut others[0].address);
    set.start(&mut pods[0], "uid-swapped");
    other.start(&mut others[0], "uid-swapped");
    for (set, pods, prefix, count, foreign) in [
        (&set, &pods, "a", 20, "z0"),
        (&other, &others, "z", 30, "a0"),
    ] {
        let leader = set.leader(pods, None).await;
        set.until(&pods[leader], "leading the other", |s| {
            s.streaming.len() == 1
        })
        .await;
        for pod in pods {
            set.until(pod, "serving", |s| s.ready).await;
            let mut db = set.connect(pod).await.unwrap();
            all_are_there(&mut db, prefix, count).await;
            assert_eq!(db.get(foreign).await, None, "the other set's data");
        }
    }
    set.finish(pods);
    other.finish(others);
}

#[tokio::test]
async fn a_bounded_primary_takes_no_write_without_its_replica() {
    let mut set = Set::new(2).await;
    set.config.engine.replicas = Some(ReplicasToWrite {
        count: 1,
        max_lag_seconds: 2,
    });
    let mut pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    db.set("a", "1").await.unwrap();
    pods[1].cut();
    wait_for("writes to be refused", async || {
        db.set("b", "1")
            .await
            .is_err_and(|e| e.code() == Some("NOREPLICAS"))
    })
    .await;
    let status = set.until(&pods[0], "refusing", |s| !s.ready).await;
    assert!(status.refuses_writes.unwrap().contains("1 replicas"));
    set.start(&mut pods[1], "uid-second");
    set.until(&pods[0], "ready again", |s| s.ready).await;
    db.set("b", "2").await.unwrap();
    set.finish(pods);
}

#[tokio::test]
async fn a_mark_that_somebody_removes_costs_nobody_anything() {
    let mut set = Set::new(2).await;
    // The product's application may not: as if somebody with more rights did it.
    set.rules = "~* &* +@all -@admin";
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    db.set("a", "1").await.unwrap();
    let nonce = set.until(&pods[0], "ready", |s| s.ready).await.nonce;
    let flush = words(["FUNCTION", "FLUSH"]);
    let list = words(["FUNCTION", "LIST"]);
    db.call(flush).await.unwrap();
    wait_for("the mark to be back", async || {
        !db.call(list.clone()).await.unwrap().items().is_empty()
    })
    .await;
    assert_eq!(set.until(&pods[0], "ready", |s| s.ready).await.nonce, nonce);
    assert_eq!(set.record().await.epoch, 1);
    assert!(pods[0].path(paths::RUN).join("elected.json").exists());
    set.finish(pods);
}

#[tokio::test]
async fn a_script_that_never_ends_is_ended_and_costs_nobody_the_lease() {
    let mut set = Set::new(2).await;
    set.rules = "~* &* +@all -@admin";
    let pods = set.all(1).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    write(&mut db, "a", 20, 1).await;
    let mut other = set.connect(&pods[0]).await.unwrap();
    let script = words(["EVAL", "while true do end", "0"]);
    let ended = other.call_for(script, LONG);
    let told = async {
        wait_for("Redis to say that it is busy", async || {
            let refused = db.set("b", "1").await;
            refused.is_err_and(|e| e.code() == Some("BUSY"))
        })
        .await;
    };
    let (ended, ()) = tokio::join!(ended, told);
    let why = ended.unwrap_err().to_string();
    assert!(why.contains("killed"), "{why}");
    db.set("b", "2").await.unwrap();
    all_are_there(&mut db, "a", 20).await;
    assert_eq!(set.record().await.epoch, 1, "nobody else was elected");
    set.finish(pods);
}
