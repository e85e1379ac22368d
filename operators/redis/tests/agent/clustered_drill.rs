//! Drills of a cluster's backups: one engine after the other reads a shard, and each is asked what it has.

use std::fs;
use std::path::PathBuf;

use mainstay_backup::api::Outcome;
use mainstay_backup::manifest::Manifest;
use mainstay_redis::backup::drill::ways::NO_KEY;
use mainstay_redis::backup::drill::{MARK, SLOTS, START};
use mainstay_redis::backup::settings::DrillCheck;
use mainstay_redis::settings::{DATA, Persistence};
use mainstay_shared::backups::container::restoring::RestoreStep;

use crate::backup::{Vault, back_up, noise};
use crate::clustered_backup::{Client, formed};
use crate::drill::{command, dataset_in, drill_as, empty, key, keys, names, spoil};
use crate::pod::{Pod, Set};

const KEYS: u64 = 300;

/// A repository with a backup of a cluster of three shards that is gone.
async fn repository() -> (Set, Vault, Manifest) {
    let mut set = Set::new(6).await;
    let vault = Vault::new().await;
    let (pods, _) = formed(&mut set).await;
    let mut client = Client::of(&set, &pods).await;
    for n in 0..KEYS {
        client
            .ask(&["SET", &format!("key-{n}"), &noise(n, 512)])
            .await;
    }
    client.ask(&["SET", "version", "42"]).await;
    client.ask(&["HSET", "{order}:1", "state", "paid"]).await;
    client.ask(&["SET", "{order}:2", "open"]).await;
    let beside = vault.beside(&set, &pods[0]);
    let made = back_up(&set, &pods[0], "only").await;
    assert!(matches!(made, Outcome::Done { .. }), "{made:?}");
    let manifest = vault.backups(&pods[0]).await.remove(0);
    beside.end();
    set.finish(pods);
    (set, vault, manifest)
}

/// The pod of a drill, in which the whole backup was restored.
async fn restored(first: &Set, vault: &Vault, number: u8, kept: Persistence) -> (Set, Pod) {
    let mut set = first.beside(&format!("tried-{number}"), 1).await;
    set.config.engine.persistence = kept;
    let pod = set.pod(1, number);
    let report = vault.restore_as(&set, &pod, |r| r.every_shard = true);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", pod.log());
    assert_eq!(report.total_bytes, Some(report.bytes));
    let reached = report.reached.unwrap();
    assert_eq!(reached.keys, KEYS + 3);
    (set, pod)
}

fn folder(pod: &Pod, shard: usize) -> PathBuf {
    pod.path(DATA).join(format!("redis/shard-{shard}"))
}

fn good() -> Vec<DrillCheck> {
    let both = "return redis.call('GET', KEYS[1]) .. redis.call('HGET', KEYS[2], 'state')";
    vec![
        keys(None, KEYS + 3, Some(KEYS + 3)),
        keys(Some(0), KEYS + 3, None),
        key(0, "key-0", None, Some(&noise(0, 512))),
        key(0, "key-1", Some("string"), None),
        key(0, "key-2", None, None),
        key(0, "version", None, Some("42")),
        command(&["HGET", "{order}:1", "state"], Some("paid")),
        command(&["exists", "{order}:1", "{order}:2"], Some("2")),
        command(
            &["EVAL_RO", both, "2", "{order}:2", "{order}:1"],
            Some("openpaid"),
        ),
        command(&["OBJECT", "ENCODING", "version"], Some("int")),
    ]
}

#[tokio::test]
async fn a_backup_of_a_cluster_is_looked_at_shard_by_shard() {
    let (first, vault, manifest) = repository().await;
    for (number, kept) in [(41, Persistence::Aof), (42, Persistence::Rdb)] {
        let (set, pod) = restored(&first, &vault, number, kept).await;
        let drill = |checks: &[DrillCheck]| drill_as(&set, &pod, checks, true);
        let good = good();
        let report = drill(&good);
        assert!(report.passed, "{report:?}\n{}", pod.log());
        // Start, mark and slots of each shard, and those.
        assert_eq!(report.checks, 19);
        let (begun, answered) = (report.begun.unwrap(), report.answered.unwrap());
        assert!(begun < answered && answered < report.ended.unwrap());
        assert_eq!(report.backup.as_ref(), Some(&manifest.id));
        assert_eq!(
            report.bytes,
            manifest.files.iter().map(|f| f.size).sum::<u64>()
        );
        assert_eq!(report.last_commit, Some(manifest.consistent_at));
        // Each shard has its own.
        assert_eq!((report.position, report.history), (None, None));

        // What does not hold is told of each, whichever shard was asked.
        let bad = [
            keys(None, KEYS + 4, None),
            key(0, "nobody", None, None),
            key(0, "version", None, Some("43")),
            command(&["HGET", "{order}:1", "state"], Some("open")),
            command(&["MGET", "key-0", "key-1", "key-2"], None),
            command(&["EVAL_RO", "return redis.call('DBSIZE')", "0"], None),
            command(&["DBSIZE"], None),
            command(&["GET", "a", "b"], None),
        ];
        let all: Vec<DrillCheck> = bad.iter().chain(&good).cloned().collect();
        let report = drill(&all);
        let found: Vec<&str> = report.failed.iter().map(|f| f.found.as_str()).collect();
        let sentences = [
            "303, where at least 304 were expected",
            "there is no such key",
            "`42`, where `43` was expected",
            "`paid`, where `open` was expected",
            "CROSSSLOT",
            NO_KEY,
            NO_KEY,
            "number of arguments",
        ];
        assert_eq!(found.len(), sentences.len(), "{report:?}");
        for (found, sentence) in found.iter().zip(sentences) {
            assert!(found.contains(sentence), "{found}: {sentence}");
        }
        assert!(
            report.message.ends_with("7 more of 27 checks do not hold"),
            "{}",
            report.message
        );
        assert!(drill(&good).passed, "nothing was written");

        // Two that have each other's data: what is there is sound, and no cluster would come of it.
        let swap = |from: usize, to: &str| fs::rename(folder(&pod, from), pod.path(DATA).join(to));
        swap(0, "aside").unwrap();
        swap(2, "redis/shard-0").unwrap();
        fs::rename(pod.path(DATA).join("aside"), folder(&pod, 2)).unwrap();
        let report = drill(&[keys(None, KEYS, None), key(0, "version", None, None)]);
        let slots = |n: u8| format!("{SLOTS} (shard {n} of 3)");
        assert!(
            names(&report).starts_with(&[slots(1).as_str(), slots(3).as_str()]),
            "{report:?}"
        );

        // One that is damaged: the others are looked at all the same, and of what is not known nothing is said.
        spoil(&dataset_in(&folder(&pod, 1), kept));
        let report = drill(&[keys(None, KEYS, None)]);
        let start = format!("{START} (shard 2 of 3)");
        assert_eq!(names(&report), [&slots(1), &start, &slots(3)], "{report:?}");
        assert!(report.failed[1].found.contains("Redis ended"), "{report:?}");
        assert!(report.answered.is_none());

        // One that is not there: an engine that starts empty is no proof.
        empty(&folder(&pod, 1));
        let report = drill(&[]);
        assert!(
            names(&report).contains(&&*format!("{MARK} (shard 2 of 3)")),
            "{report:?}"
        );
        // None at all.
        fs::write(pod.path(DATA).join("redis/shards.json"), "[]").unwrap();
        let report = drill(&[]);
        assert!(
            !report.passed && report.message.contains("shards.json"),
            "{report:?}"
        );
        set.finish(vec![pod]);
    }

    // An object of one shard in the repository: nothing is restored, and it is said which.
    let object = vault.spoil_file(&manifest, 1);
    let set = first.beside("damaged", 1).await;
    let pod = set.pod(1, 43);
    let report = vault.restore_as(&set, &pod, |r| r.every_shard = true);
    assert_eq!(report.step, RestoreStep::Failed);
    let says = |text: &str| report.message.contains(text);
    assert!(
        says(&object) && says("(shard 2 of 3)"),
        "{}",
        report.message
    );
    let report = drill_as(&set, &pod, &[], true);
    assert!(
        report.message.starts_with("nothing was restored: "),
        "{}",
        report.message
    );
}
