//! Drills of a real set's backups: what is whole passes, and whatever is not is told.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_backup::drill::{CHECKS, DrillReport};
use mainstay_backup::manifest::Manifest;
use mainstay_redis::backup::drill::{MARK, START};
use mainstay_redis::backup::settings::{
    DRILL_FILE, DrillCheck, DrillSettings, TERMINATION_MESSAGE,
};
use mainstay_redis::backup::shards::Dataset;
use mainstay_redis::settings::{DATA, Persistence};
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::restoring::RestoreStep;

use crate::backup::{Vault, back_up, fill};
use crate::pod::{Pod, Set};
use crate::processes::replace;

/// A repository with a backup of [`fill`]'s keys, of a set that is gone.
async fn repository() -> (Set, Vault, Manifest) {
    let set = Set::new(1).await;
    let vault = Vault::new().await;
    let pods = set.all(1).await;
    fill(&mut set.connect(&pods[0]).await.unwrap()).await;
    let beside = vault.beside(&set, &pods[0]);
    back_up(&set, &pods[0], "only").await;
    let manifest = vault.backups(&pods[0]).await.remove(0);
    beside.end();
    set.finish(pods);
    (set, vault, manifest)
}

/// The pod of a drill, in which the backup was restored.
async fn restored(
    first: &Set,
    vault: &Vault,
    name: &str,
    number: u8,
    kept: Persistence,
) -> (Set, Pod) {
    let mut set = first.beside(name, 1).await;
    set.config.engine.persistence = kept;
    let pod = set.pod(1, number);
    let report = vault.restore(&set, &pod);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", pod.log());
    (set, pod)
}

/// Looks at what was restored; the last words.
fn drill(set: &Set, pod: &Pod, checks: &[DrillCheck]) -> DrillReport {
    drill_as(set, pod, checks, false)
}

/// The same, of a cluster where every shard was restored.
pub fn drill_as(set: &Set, pod: &Pod, checks: &[DrillCheck], every_shard: bool) -> DrillReport {
    let settings = DrillSettings {
        resource: "shop/db".into(),
        flavour: set.config.engine.flavour,
        persistence: set.config.engine.persistence,
        databases: None,
        every_shard,
        question_seconds: 2,
        checks: checks.to_vec(),
    };
    let text = serde_json::to_string(&settings).unwrap();
    replace(&pod.path(paths::CONFIG).join(DRILL_FILE), &text);
    pod.give();
    let status = set.command(pod, "drill").status().unwrap();
    let text = fs::read_to_string(pod.path(TERMINATION_MESSAGE)).unwrap();
    let report: DrillReport = serde_json::from_str(&text).unwrap();
    assert_eq!(status.success(), report.passed, "{report:?}\n{}", pod.log());
    let left = pod.path(DATA).join("redis.drill");
    assert!(!left.exists(), "what is left of a drill");
    report
}

pub fn keys(database: Option<u32>, at_least: u64, at_most: Option<u64>) -> DrillCheck {
    DrillCheck::Keys {
        database,
        at_least: Some(at_least),
        at_most,
    }
}

pub fn key(database: u32, name: &str, kind: Option<&str>, value: Option<&str>) -> DrillCheck {
    DrillCheck::Key {
        database,
        name: name.into(),
        kind: kind.map(str::to_owned),
        value: value.map(str::to_owned),
    }
}

pub fn command(words: &[&str], expect: Option<&str>) -> DrillCheck {
    DrillCheck::Command {
        database: 0,
        words: words.iter().map(|w| (*w).to_owned()).collect(),
        expect: expect.map(str::to_owned),
    }
}

pub fn names(report: &DrillReport) -> Vec<&str> {
    report.failed.iter().map(|f| f.what.as_str()).collect()
}

#[tokio::test]
async fn a_backup_that_is_whole_passes_and_what_does_not_hold_is_told() {
    let (first, vault, manifest) = repository().await;
    let good = [
        keys(None, 308, Some(308)),
        keys(Some(3), 1, None),
        key(0, "hash", None, None),
        key(0, "stream", Some("stream"), None),
        key(0, "key:299", None, Some("299")),
        key(3, "elsewhere", Some("string"), Some("3")),
        command(&["HGET", "hash", "b"], Some("2")),
        command(&["LRANGE", "list", "0", "-1"], Some("x\ny\nz")),
        command(&["exists", "key:1"], None),
        command(
            &["EVAL_RO", "return redis.call('DBSIZE')", "0"],
            Some("307"),
        ),
    ];
    for (number, kept) in [(31, Persistence::Aof), (32, Persistence::Rdb)] {
        let (set, pod) = restored(&first, &vault, &format!("tried-{number}"), number, kept).await;
        let report = drill(&set, &pod, &good);
        assert!(report.passed, "{report:?}\n{}", pod.log());
        // The start, the mark, and those.
        assert_eq!((report.checks, &report.failed[..]), (12, &[][..]));
        let (begun, answered) = (report.begun.unwrap(), report.answered.unwrap());
        assert!(begun < answered && answered < report.ended.unwrap());
        assert!(
            report.key.as_ref().unwrap().starts_with("age1"),
            "{report:?}"
        );
        assert!(report.backup.is_some() && report.bytes > 0);
        let dataset = Dataset::of(&manifest).unwrap();
        assert_eq!(report.history, Some(dataset.timeline.to_string()));
        assert_eq!(report.position, Some(dataset.shards[0].offset.to_string()));
        // The newest write is as old as the backup.
        assert_eq!(report.last_commit, Some(manifest.consistent_at));
        assert!(manifest.consistent_at < begun);

        // It can be looked at once more, and what does not hold is told of each.
        let bad = [
            keys(None, 309, None),
            key(0, "nobody", None, None),
            key(0, "hash", Some("list"), None),
            key(0, "key:1", None, Some("2")),
            command(&["HGET", "hash", "b"], Some("3")),
            command(&["SET", "key:1", "x"], Some("OK")),
            command(&["EVAL_RO", "return redis.call('DEL', 'key:1')", "0"], None),
            command(&["EVAL_RO", "while true do end", "0"], None),
            command(&["FLUSHALL"], Some("OK")),
        ];
        let all: Vec<DrillCheck> = bad.iter().chain(&good).cloned().collect();
        let report = drill(&set, &pod, &all);
        assert!(!report.passed);
        assert_eq!(report.failed.len(), CHECKS, "{report:?}");
        let found = |n: usize| report.failed[n].found.as_str();
        assert_eq!(found(0), "308, where at least 309 were expected");
        assert_eq!(found(1), "there is no such key");
        assert_eq!(found(2), "it is a hash, where a list was expected");
        assert_eq!(found(3), "`1`, where `2` was expected");
        assert_eq!(found(4), "`2`, where `3` was expected");
        assert!(found(5).contains("NOPERM"), "{report:?}");
        assert!(!found(6).starts_with("`1`"), "{report:?}");
        assert_eq!(found(7), "it takes too long");
        // Everything else holds as before: nothing was written, and a script that hangs holds nobody up.
        assert!(
            report.message.ends_with("8 more of 21 checks do not hold"),
            "{}",
            report.message
        );
        set.finish(vec![pod]);
    }
}

/// The file with the dataset on a pod's volume.
fn dataset(pod: &Pod, kept: Persistence) -> PathBuf {
    dataset_in(&pod.path(DATA).join("redis"), kept)
}

/// The same in an engine's folder.
pub fn dataset_in(data: &Path, kept: Persistence) -> PathBuf {
    if kept == Persistence::Rdb {
        return data.join("dump.rdb");
    }
    let files = fs::read_dir(data.join("appendonlydir")).unwrap();
    let mut files = files.map(|f| f.unwrap().path());
    let is_base = |f: &PathBuf| f.to_string_lossy().ends_with(".base.rdb");
    files.find(is_base).unwrap()
}

/// Takes out all that is in an engine's folder.
pub fn empty(data: &Path) {
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

pub fn spoil(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_backup_fails_with_a_sentence() {
    let (first, vault, manifest) = repository().await;
    // A file that is another than was written, after the restore has checked it.
    for (number, kept) in [(33, Persistence::Aof), (34, Persistence::Rdb)] {
        let (set, pod) = restored(&first, &vault, &format!("spoilt-{number}"), number, kept).await;
        spoil(&dataset(&pod, kept));
        let report = drill(&set, &pod, &[keys(None, 1, None)]);
        assert!(report.answered.is_none());
        assert_eq!(names(&report), [START], "{report:?}");
        assert!(report.message.contains("Redis ended"), "{}", report.message);
        // Nothing there at all: a Redis that starts empty is no proof, without any check either.
        empty(&pod.path(DATA).join("redis"));
        let report = drill(&set, &pod, &[]);
        assert_eq!(names(&report), [MARK], "{report:?}");
        assert!(report.message.contains("no mark"), "{}", report.message);
        set.finish(vec![pod]);
    }

    // An object of the repository that was changed: nothing is restored, and the drill says why.
    let key = vault.spoil(&manifest);
    let set = first.beside("damaged", 1).await;
    let pod = set.pod(1, 35);
    let report = vault.restore(&set, &pod);
    assert_eq!(report.step, RestoreStep::Failed);
    assert!(report.message.contains(&key), "{}", report.message);
    let report = drill(&set, &pod, &[]);
    assert!(!report.passed && report.checks == 0);
    assert!(
        report.message.starts_with("nothing was restored: ") && report.message.contains(&key),
        "{}",
        report.message
    );
}
