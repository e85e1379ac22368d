//! Drills: begun when one is due, told of, removed; failed, skipped, kept, and gone on with by another operator.
//! What runs in their pods the test says itself.

use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mainstay_backup::drill::{DrillReport, FailedCheck};
use mainstay_crds::common::backup::{DrillRecord, DrillResult};
use mainstay_testkit::drills::{self, container, ended, good, running};

use super::backups::{asked, complete};
use super::*;

/// A set of one with drills, with its first backup made, and the pod of its first drill.
async fn drilling(drill: &serde_json::Value) -> (World, Pod) {
    let mut world = World::new();
    world.start();
    create(&world, drill);
    complete(&mut world).await;
    let pod = pod(&mut world).await;
    (world, pod)
}

fn create(world: &World, drill: &serde_json::Value) {
    let mut backup = asked();
    backup["drill"] = drill.clone();
    let mut pg = fixtures::postgres("shop", "db", 1);
    pg.metadata.generation = Some(1);
    pg.spec.backup = Some(serde_json::from_value(backup).unwrap());
    world.api.put(&pg);
}

fn pods(world: &World) -> Vec<Pod> {
    drills::pods(&world.api)
}

fn maps(world: &World) -> Vec<ConfigMap> {
    drills::maps(&world.api)
}

/// Wait for the pod of a drill, and that it was written down that it was made.
async fn pod(world: &mut World) -> Pod {
    world
        .until("the pod of a drill", |w| drills::is_begun(&w.api))
        .await;
    pods(world).remove(0)
}

/// What the kubelet says of a pod.
fn say(world: &World, pod: &Pod, change: impl FnOnce(&mut PodStatus)) {
    drills::say(&world.api, pod, change);
}

/// It was restored, and this is what was found.
fn tell(world: &World, pod: &Pod, report: &DrillReport) {
    drills::tell(&world.api, pod, report);
}

fn bad() -> DrillReport {
    DrillReport {
        passed: false,
        message: "1 of 4 checks does not hold".into(),
        failed: vec![FailedCheck {
            what: "select count(*) > 0 from orders".into(),
            found: "f".into(),
        }],
        ..good()
    }
}

fn records(world: &World) -> Vec<DrillRecord> {
    world.status().recovery.unwrap_or_default().drills
}

/// Wait until it is told what came of the only drill.
async fn told(world: &mut World) -> DrillRecord {
    world
        .until("the drill to be told of", |w| !records(w).is_empty())
        .await;
    let all = records(world);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

async fn removed(world: &mut World) {
    world
        .until("the drill to be removed", |w| {
            let says = w.status().recovery.and_then(|r| r.drill);
            pods(w).is_empty() && maps(w).is_empty() && says.is_none()
        })
        .await;
}

fn proven(world: &World) -> Option<(String, String)> {
    let status = world.status();
    let found = conditions::find(&status.conditions, conditions::RECOVERY_PROVEN)?;
    Some((found.status.clone(), found.reason.clone()))
}

fn is(state: &str, reason: &str) -> (String, String) {
    (state.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn a_drill_is_begun_with_the_first_backup_told_of_and_removed() {
    let mut world = World::new();
    world.start();
    create(
        &world,
        &json!({"target": "Random", "checks": [{"sql": "select true"}]}),
    );
    world
        .until("it to say what it waits for", |w| {
            let waits = w.status().recovery.and_then(|r| r.drill);
            waits.is_some_and(|w| w.contains("first backup"))
        })
        .await;
    assert!(pods(&world).is_empty() && maps(&world).is_empty());
    assert!(world.api.get::<NetworkPolicy>(SHOP, "db.drill").is_some());
    complete(&mut world).await;
    // The newest moment that is known is later than the backup.
    world.beside.sidecars.of("db-1").unwrap().say(|report| {
        report.latest = Some(jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1));
    });
    let drill = pod(&mut world).await;
    let map = maps(&world).remove(0);
    assert_eq!(map.name_any(), drill.name_any());
    assert!(drill.name_any().starts_with("db-drill-2"));
    let moment = &map.annotations()[names::DRILL_MOMENT];
    assert!(map.data.as_ref().unwrap()["restore.json"].contains(moment));
    assert_eq!(proven(&world), Some(is("Unknown", reasons::NO_DRILL)));

    say(&world, &drill, |status| {
        status.phase = Some("Pending".into());
        status.init_container_statuses = Some(vec![container("restore", running())]);
    });
    world
        .until("it to say how far it is", |w| {
            let says = w.status().recovery.and_then(|r| r.drill);
            says.is_some_and(|s| s.contains("restores a backup"))
        })
        .await;
    world.rests().await;

    tell(&world, &drill, &good());
    let record = told(&mut world).await;
    assert_eq!(record.result, DrillResult::Passed);
    assert_eq!(record.recovery_seconds, Some(15));
    assert_eq!(record.target.unwrap().0.to_string()[..16], moment[..16]);
    assert!(record.recovery_point_seconds.is_some());
    removed(&mut world).await;
    assert_eq!(proven(&world), Some(is("True", reasons::PROVEN)));
    let recovery = world.status().recovery.unwrap();
    assert!(recovery.next_drill.is_some() && recovery.drill.is_none());
    let of = r#"{namespace="shop",name="db"}"#;
    let metric = |name: &str| world.metric(&format!("mainstay_{name}{of}"));
    assert_eq!(metric("recovery_proven"), Some(1.0));
    assert_eq!(metric("drill_last_result"), Some(1.0));
    assert_eq!(metric("drill_recovery_seconds"), Some(15.0));
    assert!(metric("drill_last_passed_timestamp_seconds").is_some());
    world.rests().await;
    assert!(pods(&world).is_empty(), "until it is due again");
}

#[tokio::test]
async fn no_pod_is_made_that_is_not_kept_apart() {
    let mut world = World::new();
    let away = Rule::new(Fault::Code(500)).client("operator");
    world
        .api
        .add_rule(away.resource("networkpolicies").name("db.drill"));
    world.start();
    create(&world, &json!({}));
    complete(&mut world).await;
    world
        .until("the drill to begin", |w| !maps(w).is_empty())
        .await;
    for _ in 0..200 {
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(pods(&world).is_empty());
    }
    world.api.calm();
    // Another operator, which does not wait as long as this one after so many failures.
    world.start();
    pod(&mut world).await;
}

#[tokio::test]
async fn what_failed_is_said_and_makes_nothing_unready() {
    let (mut world, drill) = drilling(&json!({})).await;
    tell(&world, &drill, &bad());
    let record = told(&mut world).await;
    assert_eq!(record.result, DrillResult::Failed);
    assert_eq!(record.failed, ["select count(*) > 0 from orders: f"]);
    removed(&mut world).await;
    assert_eq!(proven(&world), Some(is("False", reasons::DRILL_FAILED)));
    world.settled().await;
    assert_eq!(world.stalled(), None);
    let of = r#"{namespace="shop",name="db"}"#;
    let result = world.metric(&format!("mainstay_drill_last_result{of}"));
    assert_eq!(result, Some(0.0));
}

#[tokio::test]
async fn a_restore_that_fails_is_a_drill_that_failed() {
    let (mut world, drill) = drilling(&json!({})).await;
    let words = json!({"step": "Failed", "message": "an object of the repository is damaged"});
    say(&world, &drill, |status| {
        status.phase = Some("Failed".into());
        status.init_container_statuses =
            Some(vec![container("restore", ended(1, &words.to_string()))]);
    });
    let record = told(&mut world).await;
    assert_eq!(record.result, DrillResult::Failed);
    assert_eq!(record.message, "an object of the repository is damaged");
    removed(&mut world).await;
}

#[tokio::test]
async fn one_that_takes_too_long_has_failed_and_one_that_was_evicted_is_skipped() {
    for (reason, result, words) in [
        ("DeadlineExceeded", DrillResult::Failed, "longer than 600 s"),
        ("Evicted", DrillResult::Skipped, "low on memory"),
    ] {
        let (mut world, drill) = drilling(&json!({"timeoutSeconds": 600})).await;
        let spec = drill.spec.as_ref().unwrap();
        assert_eq!(spec.active_deadline_seconds, Some(600));
        say(&world, &drill, |status| {
            status.phase = Some("Failed".into());
            status.reason = Some(reason.into());
            status.message = Some("the node was low on memory".into());
            // It had begun.
            status.init_container_statuses = Some(vec![container("restore", ended(137, ""))]);
        });
        let record = told(&mut world).await;
        assert_eq!(record.result, result);
        assert!(record.message.contains(words), "{}", record.message);
        removed(&mut world).await;
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_or_refused_is_skipped_until_it_is_due_again() {
    let (mut world, drill) = drilling(&json!({})).await;
    world.api.destroy::<Pod>(SHOP, &drill.name_any());
    let record = told(&mut world).await;
    assert_eq!(record.result, DrillResult::Skipped);
    assert!(record.message.contains("is gone"), "{}", record.message);
    removed(&mut world).await;
    assert_eq!(proven(&world), Some(is("Unknown", reasons::NO_DRILL)));
    world.quiet().await;
    assert!(pods(&world).is_empty() && maps(&world).is_empty());

    let mut world = World::new();
    world.start();
    create(&world, &json!({}));
    world
        .until("the set's own pod", |w| w.beside.sidecars.maker().is_some())
        .await;
    let refusal =
        "exceeded quota: memory, requested: limits.memory=1Gi, limited: limits.memory=1Gi";
    world.api.add_rule(
        Rule::new(Fault::Forbid(refusal))
            .verb(Verb::Create)
            .resource("pods"),
    );
    complete(&mut world).await;
    let record = told(&mut world).await;
    assert_eq!(record.result, DrillResult::Skipped);
    assert!(
        record.message.starts_with("no room: "),
        "{}",
        record.message
    );
    assert!(record.message.contains("exceeded quota: memory"));
    removed(&mut world).await;
    assert_eq!(world.stalled(), None);
}

#[tokio::test]
async fn the_pod_of_a_failed_one_stays_until_somebody_deletes_it() {
    let (mut world, drill) = drilling(&json!({"keepOnFailure": true})).await;
    tell(&world, &drill, &bad());
    told(&mut world).await;
    world
        .until("it to be said that it stays", |w| {
            let says = w.status().recovery.and_then(|r| r.drill);
            says.is_some_and(|s| s.contains("is kept"))
        })
        .await;
    world.rests().await;
    assert_eq!(pods(&world).len(), 1);
    // Another operator keeps it as well.
    world.start();
    world.quiet().await;
    assert_eq!((pods(&world).len(), records(&world).len()), (1, 1));
    world.api.destroy::<Pod>(SHOP, &drill.name_any());
    removed(&mut world).await;
    assert_eq!(records(&world).len(), 1);
}

/// The first backup of a set and its first drill, with operators that crash: it is one drill, that passes.
async fn drilled(what: &str, crash: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.start();
    create(&world, &json!({}));
    world
        .until("the first backup", |w| w.beside.sidecars.maker().is_some())
        .await;
    world.quiet().await;
    crash(&mut world);
    complete(&mut world).await;
    let mut uids: Vec<String> = Vec::new();
    let begin = Instant::now();
    while records(&world).is_empty() || !maps(&world).is_empty() || world.api.has_crashed() {
        assert!(begin.elapsed() < PATIENCE, "not done, {what}");
        for pod in pods(&world) {
            uids.extend(pod.uid().filter(|uid| !uids.contains(uid)));
            let over = pod.status.as_ref().and_then(|s| s.phase.clone());
            if over.as_deref() != Some("Succeeded") {
                tell(&world, &pod, &good());
            }
        }
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.crash_no_more();
    world.quiet().await;
    assert_eq!(uids.len(), 1, "{what}");
    assert_eq!(records(&world).len(), 1, "{what}");
    assert_eq!(records(&world)[0].result, DrillResult::Passed);
    assert!(pods(&world).is_empty() && maps(&world).is_empty());
    world
}

#[tokio::test]
async fn a_crash_at_any_write_makes_one_drill() {
    for strides in STRIDES {
        let crash = |world: &mut World| world.crash_after_each(strides);
        let world = drilled(&format!("with crashes after {strides:?}"), crash).await;
        world.crashed_enough(3, strides);
    }
}

#[tokio::test]
async fn a_single_crash_at_each_write_makes_one_drill() {
    let mut tried = 0;
    loop {
        let next = tried + 1;
        let crash = |world: &mut World| world.crash_once_after(next);
        let world = drilled(&format!("with one crash at write {next}"), crash).await;
        if world.crashes == 0 {
            break;
        }
        tried = next;
    }
    assert!(tried >= 5, "only {tried} writes were tried");
}

#[tokio::test]
async fn one_on_demand_keeps_no_switchover_waiting() {
    let (mut world, first) = drilling(&json!({})).await;
    tell(&world, &first, &good());
    told(&mut world).await;
    removed(&mut world).await;
    let ask = |world: &World, name: &str, action: &str| {
        let operation: Operation = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
            "metadata": {"name": name, "namespace": "shop", "generation": 1},
            "spec": {"target": {"kind": "Postgres", "name": "db"}, "action": action},
        }))
        .unwrap();
        world.api.put(&operation);
    };
    let said = |w: &World, name: &str| {
        let operation: Option<Operation> = w.api.get(SHOP, name);
        operation.and_then(|o| o.status).unwrap_or_default()
    };
    ask(&world, "now", "Drill");
    let second = pod(&mut world).await;
    assert_ne!(second.uid(), first.uid());
    world
        .until("it to be said that it goes on", |w| {
            said(w, "now").phase == Some(OperationPhase::Running)
        })
        .await;
    ask(&world, "move", "Switchover");
    world
        .until("the other to be looked at", |w| {
            let message = said(w, "move").message;
            message.is_some_and(|m| !m.contains("comes first"))
        })
        .await;
    tell(&world, &second, &bad());
    world
        .until("it to be over", |w| {
            said(w, "now").phase == Some(OperationPhase::Failed)
        })
        .await;
    let message = said(&world, "now").message.unwrap();
    assert!(message.contains("1 of 4 checks"), "{message}");
    removed(&mut world).await;
    let all = records(&world);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].result, DrillResult::Failed);
}

#[tokio::test]
async fn without_the_block_nothing_of_it_is_left() {
    let (mut world, _) = drilling(&json!({})).await;
    world.change(|pg| pg.spec.backup.as_mut().unwrap().drill = None);
    removed(&mut world).await;
    world
        .until("nothing to be said of drills", |w| {
            let recovery = w.status().recovery.unwrap_or_default();
            proven(w).is_none() && recovery.drill.is_none() && recovery.next_drill.is_none()
        })
        .await;
    world
        .until("the policy to go", |w| {
            w.api.get::<NetworkPolicy>(SHOP, "db.drill").is_none()
        })
        .await;
    let of = r#"mainstay_recovery_proven{namespace="shop",name="db"}"#;
    assert_eq!(world.metric(of), None);
    world.settled().await;
    world.rests().await;
}

#[tokio::test]
async fn it_goes_with_the_set() {
    let (mut world, _) = drilling(&json!({})).await;
    delete(&world).await;
    world
        .until("the resource to be gone", |w| {
            w.api.get::<Postgres>(SHOP, "db").is_none()
        })
        .await;
    removed(&mut world).await;
}
