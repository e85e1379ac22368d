//! Commands against an API server that keeps objects: what is made, and what is printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests say what they expect by unwrapping it"
)]

use clap::Parser as _;
use kubectl_mainstay::{Arguments, Scene, run};
use mainstay_crds::backup::{Backup, BackupPhase};
use mainstay_crds::operation::{Action, Operation};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::redis::Redis;
use mainstay_crds::restore::{Restore, RestorePhase};
use mainstay_testkit::api::{FakeApi, Fault, Rule, Verb};
use serde_json::{Value, json};

const NAMESPACE: &str = "shop";

fn api() -> FakeApi {
    let api = FakeApi::new();
    let pg: Postgres = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Postgres",
        "metadata": {"name": "db", "namespace": NAMESPACE},
        "spec": {
            "version": "17", "storage": {"size": "1Gi"},
            "backup": {
                "repository": {"s3": {"bucket": "b"}, "credentials": "store"},
                "encryption": {"iAcceptKeyLoss": true},
                "drill": {},
            },
        },
        "status": {
            "ready": "1/1", "primary": "db-1",
            "conditions": [{
                "type": "RecoveryProven", "status": "True", "reason": "Passed", "message": "the last drill passed",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "recovery": {"drills": [
                {"due": "2026-01-01T12:00:00Z", "result": "Passed", "message": "all holds", "recoverySeconds": 30},
            ]},
        },
    }))
    .unwrap();
    api.put(&pg);
    api
}

async fn asked(api: &FakeApi, words: &str) -> anyhow::Result<String> {
    let all = ["kubectl-mainstay"].into_iter().chain(words.split(' '));
    let arguments = Arguments::try_parse_from(all)?;
    let scene = Scene {
        client: api.client(),
        namespace: NAMESPACE.into(),
        bars: false,
    };
    let mut out = Vec::new();
    run(&arguments, &scene, &mut out).await?;
    Ok(String::from_utf8(out)?)
}

#[tokio::test]
async fn sets_and_drills_are_listed() {
    let api = api();
    let text = asked(&api, "status").await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAME"), "{text}");
    assert!(
        lines[1].starts_with("db ") && lines[1].contains("True"),
        "{text}"
    );
    let all: Value = serde_json::from_str(&asked(&api, "status -o json").await.unwrap()).unwrap();
    assert_eq!(all[0]["status"]["primary"], "db-1");
    let text = asked(&api, "drills db").await.unwrap();
    assert!(
        text.contains("RecoveryProven: True (the last drill passed)"),
        "{text}"
    );
    assert!(
        text.contains("2026-01-01T12:00:00Z") && text.contains("30s"),
        "{text}"
    );
    assert!(asked(&api, "status nobody").await.is_err());
}

#[tokio::test]
async fn sets_of_every_kind_are_told_together() {
    let api = api();
    let redis: Redis = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"name": "cache", "namespace": NAMESPACE},
        "spec": {"version": "8.0", "storage": {"size": "1Gi"}},
        "status": {"ready": "3/3", "primary": "cache-2"},
    }))
    .unwrap();
    api.put(&redis);
    let text = asked(&api, "status").await.unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1][..4], ["cache", "Redis", "-", "cache-2"], "{text}");
    assert_eq!(lines[2][..2], ["db", "Postgres"], "{text}");
    let text = asked(&api, "status cache").await.unwrap();
    assert!(
        text.starts_with("cache: Redis -, 3/3 instances ready, primary cache-2\n"),
        "{text}"
    );
    let all: Value = serde_json::from_str(&asked(&api, "status -o json").await.unwrap()).unwrap();
    assert_eq!(
        (&all[0]["kind"], &all[1]["kind"]),
        (&json!("Redis"), &json!("Postgres"))
    );
    let error = asked(&api, "status nobody").await.unwrap_err();
    assert!(
        error.to_string().contains("no set called nobody"),
        "{error:#}"
    );

    // An add-on that is not installed hides nobody.
    api.add_rule(
        Rule::new(Fault::Code(404))
            .verb(Verb::List)
            .resource("redises"),
    );
    let text = asked(&api, "status").await.unwrap();
    assert!(text.contains("db ") && !text.contains("cache"), "{text}");
    // One that may not be read is no empty list.
    api.add_rule(
        Rule::new(Fault::Code(403))
            .verb(Verb::List)
            .resource("postgreses"),
    );
    assert!(asked(&api, "status").await.is_err());
}

#[tokio::test]
async fn a_backup_is_asked_for_and_followed() {
    let api = api();
    let ended = tokio::spawn({
        let api = api.clone();
        async move {
            loop {
                let made: Vec<Backup> = api.list();
                if let Some(one) = made.first() {
                    let name = one.metadata.name.clone().unwrap();
                    api.edit(Some(NAMESPACE), &name, |b: &mut Backup| {
                        let status = b.status.get_or_insert_default();
                        status.phase = Some(BackupPhase::Succeeded);
                        status.backup_id = Some("b1".into());
                    });
                    return name;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
    let text = asked(&api, "backup db --incremental").await.unwrap();
    let name = ended.await.unwrap();
    assert!(
        text.starts_with(&format!("{name}: ")) && text.contains("b1"),
        "{text}"
    );
    let made: Backup = api.get(Some(NAMESPACE), &name).unwrap();
    assert_eq!(
        (made.spec.target.name.as_str(), made.spec.incremental),
        ("db", Some(true))
    );
    let text = asked(&api, "backups").await.unwrap();
    assert!(text.contains(&name) && text.contains("Succeeded"), "{text}");
}

#[tokio::test]
async fn who_may_not_watch_is_told_so() {
    let api = api();
    api.add_rule(
        Rule::new(Fault::Code(403))
            .verb(Verb::Watch)
            .resource("backups"),
    );
    api.add_rule(
        Rule::new(Fault::Code(403))
            .verb(Verb::List)
            .resource("backups"),
    );
    let error = asked(&api, "backup db").await.unwrap_err();
    assert!(
        error.to_string().contains("may not be watched"),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_drill_is_asked_for() {
    let api = api();
    let text = asked(&api, "drill db --no-wait").await.unwrap();
    let made: Vec<Operation> = api.list();
    let [one] = &made[..] else {
        panic!("{made:?}");
    };
    assert_eq!(
        (one.spec.action, one.spec.target.name.as_str()),
        (Action::Drill, "db")
    );
    let name = one.metadata.name.as_deref().unwrap();
    assert!(
        name.starts_with("db-drill-") && text.starts_with(name),
        "{text}"
    );
}

#[tokio::test]
async fn a_restore_makes_a_set_or_prints_it() {
    let api = api();
    let text = asked(&api, "restore db --to latest --as db2 --dry-run")
        .await
        .unwrap();
    let printed: Postgres = serde_saphyr::from_str(&text).unwrap();
    assert!(api.get::<Postgres>(Some(NAMESPACE), "db2").is_none());
    let text = asked(&api, "restore db --to latest --as db2 --no-wait")
        .await
        .unwrap();
    assert!(text.contains("no backups yet"), "{text}");
    let made: Postgres = api.get(Some(NAMESPACE), "db2").unwrap();
    assert_eq!(made.spec, printed.spec);
    let again = asked(&api, "restore db --to latest --as db2")
        .await
        .unwrap_err();
    assert!(again.to_string().contains("--as"), "{again}");
}

/// A Redis with backups and drills.
fn cache() -> Redis {
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Redis",
        "metadata": {"name": "cache", "namespace": NAMESPACE},
        "spec": {
            "version": "8.0", "storage": {"size": "1Gi"},
            "backup": {
                "repository": {"s3": {"bucket": "b"}, "credentials": "store"},
                "encryption": {"iAcceptKeyLoss": true},
                "drill": {},
            },
        },
        "status": {"recovery": {"drills": [
            {"due": "2026-01-01T12:00:00Z", "result": "Failed", "message": "key a: there is no such key"},
        ]}},
    }))
    .unwrap()
}

#[tokio::test]
async fn backups_and_drills_are_those_of_every_kind() {
    let api = api();
    api.put(&cache());
    asked(&api, "drill cache --no-wait").await.unwrap();
    let made: Vec<Operation> = api.list();
    assert_eq!(made[0].spec.target.kind, "Redis");
    asked(&api, "backup cache --no-wait").await.unwrap();
    let made: Vec<Backup> = api.list();
    assert_eq!(made[0].spec.target.kind, "Redis");
    let text = asked(&api, "drills cache").await.unwrap();
    assert!(text.contains("there is no such key"), "{text}");
    // Which of two is meant cannot be known.
    let mut twin = cache();
    twin.metadata.name = Some("db".into());
    api.put(&twin);
    let error = asked(&api, "drill db --no-wait").await.unwrap_err();
    assert!(
        error.to_string().contains("a Postgres and a Redis"),
        "{error}"
    );
}

#[tokio::test]
async fn another_password_is_asked_for_where_it_can_be() {
    let api = api();
    api.put(&cache());
    let words = "rotate-password cache --access orders --timeout 60 --no-wait";
    let text = asked(&api, words).await.unwrap();
    asked(&api, "rotate-password cache --no-wait")
        .await
        .unwrap();
    let error = asked(&api, "rotate-password db").await.unwrap_err();
    assert!(
        error.to_string().contains("one password at a time"),
        "{error}"
    );
    let made: Vec<Operation> = api.list();
    assert_eq!(made.len(), 2);
    let of = |access: bool| {
        let mut all = made.iter();
        all.find(|o| o.spec.rotate_password.is_some() == access)
            .unwrap()
    };
    let (whole, one) = (of(false), of(true));
    assert_eq!(whole.spec.action, Action::RotatePassword);
    assert_eq!(one.spec.timeout_seconds, Some(60));
    let asked = one.spec.rotate_password.clone().unwrap();
    assert_eq!(asked.access.as_deref(), Some("orders"));
    let name = one.metadata.name.as_deref().unwrap();
    assert!(
        name.starts_with("cache-password-") && text.starts_with(name),
        "{text}"
    );
}

/// Says how far a restore is, once somebody has asked for it.
async fn says(api: &FakeApi, phase: RestorePhase, asked: impl Fn(&Restore) -> bool) -> Restore {
    loop {
        let all: Vec<Restore> = api.list();
        if let Some(one) = all.into_iter().find(|r| asked(r)) {
            let name = one.metadata.name.clone().unwrap();
            api.edit(Some(NAMESPACE), &name, |r: &mut Restore| {
                let status = r.status.get_or_insert_default();
                status.phase = Some(phase);
                status.message = Some(format!("it is {phase:?}"));
            });
            return one;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_set_goes_back_in_place_and_that_is_confirmed_or_taken_back() {
    let api = api();
    let to = "restore db --to 2026-01-02T03:04:05Z --in-place";
    let text = asked(&api, &format!("{to} --dry-run --name back"))
        .await
        .unwrap();
    let printed: Restore = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(printed.metadata.name.as_deref(), Some("back"));
    assert!(api.list::<Restore>().is_empty(), "it is printed only");
    for last in ["--confirm", "--revert"] {
        let none = asked(&api, &format!("restore db {last}"))
            .await
            .unwrap_err();
        assert!(none.to_string().contains("no restore in place"), "{none}");
    }

    let begin = format!("{to} --timeout 60");
    let (text, made) = tokio::join!(
        asked(&api, &begin),
        says(&api, RestorePhase::Restored, |_| true)
    );
    let name = made.metadata.name.clone().unwrap();
    assert!(name.starts_with("db-restore-2"), "{name}");
    assert_eq!(text.unwrap(), format!("{name}: it is Restored\n"));
    assert_eq!(
        (made.spec.target.kind.as_str(), made.spec.timeout_seconds),
        ("Postgres", Some(60))
    );
    assert_eq!(made.spec.moment, printed.spec.moment);
    assert_eq!(
        made.spec.moment.unwrap().time.as_deref(),
        Some("2026-01-02T03:04:05Z")
    );

    // Another one has to wait until it is known what becomes of the volumes.
    let error = asked(&api, to).await.unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    let (text, said) = tokio::join!(
        asked(&api, "restore db --revert -o json"),
        says(&api, RestorePhase::Reverted, |r| r.spec.is_reverted())
    );
    let text: Value = serde_json::from_str(&text.unwrap()).unwrap();
    assert_eq!(text["status"]["phase"], "Reverted");
    assert_eq!(said.spec.confirm, None);
    let error = asked(&api, "restore db --revert").await.unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    let confirm = format!("restore db --confirm --name {name}");
    let (text, _) = tokio::join!(
        asked(&api, &confirm),
        says(&api, RestorePhase::Confirmed, |r| r.spec.is_confirmed())
    );
    assert!(text.unwrap().contains("Confirmed"));
}

#[tokio::test]
async fn what_cannot_go_back_in_place_is_told_before_anything_is_made() {
    let api = api();
    api.put(&cache());
    let refused = async |words: &str| asked(&api, words).await.unwrap_err().to_string();
    let redis = refused("restore cache --to lsn:1/A0 --in-place").await;
    assert!(redis.contains("no log"), "{redis}");
    let text = asked(&api, "restore cache --to latest --in-place --dry-run").await;
    let printed: Restore = serde_saphyr::from_str(&text.unwrap()).unwrap();
    assert_eq!(printed.spec.target.kind, "Redis");
    let later = refused("restore db --to 2999-01-01T00:00:00Z --in-place").await;
    assert!(later.contains("not come yet"), "{later}");
    api.edit(Some(NAMESPACE), "db", |pg: &mut Postgres| {
        pg.spec.backup = None;
    });
    let without = refused("restore db --to latest --in-place").await;
    assert!(without.contains("no backups"), "{without}");
    assert!(
        refused("restore nobody --to latest --in-place")
            .await
            .contains("no set")
    );
    // One thing at a time.
    for words in [
        "restore db --to latest",
        "restore db --in-place",
        "restore db --to latest --as db2 --in-place",
        "restore db --to latest --confirm",
        "restore db --confirm --revert",
        "restore db --to latest --in-place --instances 3",
        "restore db --to latest --as db2 --timeout 60",
    ] {
        assert!(asked(&api, words).await.is_err(), "{words}");
    }
    assert!(api.list::<Restore>().is_empty());
}

#[tokio::test]
async fn a_restore_that_comes_to_nothing_says_why() {
    let api = api();
    let (text, _) = tokio::join!(
        asked(&api, "restore db --to latest --in-place"),
        says(&api, RestorePhase::Failed, |_| true)
    );
    let error = text.unwrap_err().to_string();
    assert_eq!(error, "nothing was done: it is Failed");
    // That one is over, and no other is in the way.
    let text = asked(
        &api,
        "restore db --to latest --in-place --name again --no-wait",
    )
    .await;
    assert_eq!(text.unwrap(), "again: asked for\n");
}
