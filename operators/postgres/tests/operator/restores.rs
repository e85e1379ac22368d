//! Back in time in place, and back again: what is stopped, made, kept and deleted, also by an operator that ends at any
//! write.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use mainstay_crds::restore::{Restore, RestorePhase, RestoreStatus};
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::names;
use mainstay_testkit::api::Verb;
use mainstay_testkit::world::{PATIENCE, SHOP, STRIDES};
use serde_json::json;

use super::going_back::{self, KIND, LOGGED, PLURAL, World, backed_up_of};

fn ask(world: &World, name: &str, spec: &serde_json::Value) {
    for sidecar in world.beside.sidecars.all() {
        // Everything up to now is stored.
        sidecar
            .say(|report| report.latest = Some(jiff::Timestamp::now() + Duration::from_mins(10)));
    }
    let mut whole = json!({"target": {"kind": KIND, "name": "db"}});
    mainstay_testkit::api::merge(&mut whole, spec);
    let restore: Restore = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "Restore",
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": whole,
    }))
    .unwrap();
    world.api.put(&restore);
}

fn tell(world: &World, name: &str, change: impl FnOnce(&mut Restore)) {
    let told = world.api.edit::<Restore>(SHOP, name, |restore| {
        change(restore);
        restore.metadata.generation = restore.metadata.generation.map(|g| g + 1);
    });
    assert!(told);
}

fn said(world: &World, name: &str) -> RestoreStatus {
    let restore: Option<Restore> = world.api.get(SHOP, name);
    restore.and_then(|r| r.status).unwrap_or_default()
}

fn is(world: &World, name: &str, phase: RestorePhase) -> bool {
    said(world, name).phase == Some(phase)
}

async fn until_phase(world: &mut World, name: &str, phase: RestorePhase) -> RestoreStatus {
    let what = format!("{name} to be {phase:?}");
    world.until(&what, |w| is(w, name, phase)).await;
    said(world, name)
}

/// Names of instances that run and serve.
fn serving(world: &World) -> Vec<String> {
    let status = world.status();
    let ready = status.instances.iter().filter(|i| i.ready);
    ready.map(|i| i.name.clone()).collect()
}

async fn until_serving(world: &mut World, names: &[&str]) {
    world
        .until(&format!("{names:?} to serve"), |w| serving(w) == names)
        .await;
}

/// Claims by name with their uids.
fn uids(world: &World) -> BTreeSet<(String, String)> {
    let all = world.api.list::<PersistentVolumeClaim>();
    all.iter()
        .map(|c| (c.name_any(), c.uid().unwrap()))
        .collect()
}

fn record(world: &World) -> Option<Record> {
    let lease: Lease = world.api.get(SHOP, "db")?;
    Record::from_annotations(lease.annotations()).ok()
}

/// What holds in every moment: the volumes from before are there until somebody says that they are not needed, the
/// two sides never run together, and nothing empty is made.
fn safe(world: &World, before: &BTreeSet<(String, String)>) {
    let restore: Option<Restore> = world.api.get(SHOP, "back");
    let confirmed = restore.is_some_and(|r| r.spec.is_confirmed());
    let now = uids(world);
    assert!(confirmed || before.is_subset(&now), "{now:?}");
    let pods: Vec<Pod> = world.api.list();
    let is_old = |pod: &Pod| {
        let claim = names::data_claim(&pod.name_any());
        before.iter().any(|(name, _)| *name == claim)
    };
    let old = pods.iter().filter(|pod| is_old(pod)).count();
    assert!(old == 0 || old == pods.len(), "two sides at once");
    for pod in pods.iter().filter(|pod| !is_old(pod)) {
        let first = pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap();
        let restores = first.iter().any(|c| c.name == names::RESTORE);
        let has_data = record(world).is_some_and(|r| r.system_identifier.is_some());
        assert!(restores || has_data, "{} would be empty", pod.name_any());
    }
}

/// What the chart's role of the operator has not and the operator has asked for.
fn beyond_its_rights(world: &World) -> BTreeSet<String> {
    const ROLE: &str = include_str!("../../../../helm/mainstay/templates/rbac.yaml");
    let list = |line: &str| -> Option<Vec<String>> {
        let (_, items) = line.trim().split_once(": [")?;
        let items = items.trim_end_matches(']').split(',');
        Some(items.map(|i| i.trim().to_owned()).collect())
    };
    // As the chart renders them for this engine.
    let role = ROLE.replace("{{ $plural }}", PLURAL).replace(
        "{{ if eq $engine \"postgres\" }}create, {{ end }}",
        going_back::CREATES,
    );
    let mut granted = BTreeSet::new();
    let mut resources = Vec::new();
    for line in role.lines() {
        if line.trim().starts_with("resources:") {
            resources = list(line).unwrap();
        } else if line.trim().starts_with("verbs:") {
            for verb in list(line).unwrap() {
                granted.extend(resources.iter().map(|r| format!("{verb} {r}")));
            }
        }
    }
    assert!(granted.len() > 50, "{granted:?}");
    let asked = world.api.requests().into_iter();
    let asked = asked.filter(|r| r.client == "operator").map(|r| {
        let verb = match r.verb {
            Verb::Apply => "patch".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let below = r.subresource.map(|s| format!("/{s}")).unwrap_or_default();
        format!("{verb} {}{below}", r.resource)
    });
    asked.filter(|asked| !granted.contains(asked)).collect()
}

#[tokio::test]
async fn a_set_goes_back_in_place_and_back_again() {
    let mut world = backed_up_of(3).await;
    let before = uids(&world);
    let epoch = record(&world).unwrap().epoch;
    let moment = going_back::moment(&world).await;
    ask(&world, "back", &json!({"moment": moment}));
    world
        .until("the first pod to be made", |w| {
            safe(w, &before);
            w.api.get::<Pod>(SHOP, "db-4").is_some()
        })
        .await;
    let deleted: Vec<String> = world
        .api
        .writes()
        .into_iter()
        .filter(|w| w.resource == "pods" && w.client == "operator" && w.verb == Verb::Delete)
        .filter_map(|w| w.name)
        .collect();
    assert_eq!(
        deleted.last().map(String::as_str),
        Some("db-1"),
        "the primary goes last"
    );
    let files: ConfigMap = world.api.get(SHOP, "db-config").unwrap();
    let told: serde_json::Value =
        serde_json::from_str(&files.data.unwrap()["restore.json"]).unwrap();
    going_back::is_told(&told, &moment);
    assert_eq!(told["owner"], "00112233445566778899aabbccddeeff");
    let status = until_phase(&mut world, "back", RestorePhase::Restored).await;
    let from = status.from.unwrap();
    assert_eq!(from.instances, ["db-1", "db-2", "db-3"]);
    until_serving(&mut world, &["db-4", "db-5", "db-6"]).await;
    world.rests().await;
    safe(&world, &before);
    assert!(record(&world).unwrap().epoch > epoch);
    let restore: Restore = world.api.get(SHOP, "back").unwrap();
    assert!(restore.finalizers().is_empty(), "nothing holds it any more");
    let files: ConfigMap = world.api.get(SHOP, "db-config").unwrap();
    let files = files.data.unwrap();
    assert!(!files.contains_key("restore.json"));
    let password = |w: &World| w.api.get::<Secret>(SHOP, "db-app").unwrap().data;
    let secret = password(&world);

    let restored = record(&world).unwrap().epoch;
    tell(&world, "back", |r| r.spec.revert = Some(true));
    until_phase(&mut world, "back", RestorePhase::Reverted).await;
    until_serving(&mut world, &["db-1", "db-2", "db-3"]).await;
    world.rests().await;
    safe(&world, &before);
    assert!(
        record(&world).unwrap().epoch > restored,
        "epochs never go back"
    );
    assert_eq!(password(&world), secret);
    assert_eq!(uids(&world).len(), 6, "the restored volumes are kept");
    tell(&world, "back", |r| r.spec.confirm = Some(true));
    world.until("them to be gone", |w| uids(w) == before).await;
    world.rests().await;
    assert_eq!(beyond_its_rights(&world), BTreeSet::new());
}

#[tokio::test]
async fn what_cannot_be_recovered_stops_nothing() {
    let mut world = backed_up_of(1).await;
    let pods = world.pod_uids();
    ask(
        &world,
        "long-ago",
        &json!({"moment": {"time": "2020-01-01T00:00:00Z"}}),
    );
    let status = until_phase(&mut world, "long-ago", RestorePhase::Failed).await;
    assert!(status.message.unwrap().contains("status.recovery.earliest"));
    ask(&world, "nobody", &json!({"target": {"name": "other"}}));
    let status = until_phase(&mut world, "nobody", RestorePhase::Failed).await;
    let message = status.message.unwrap();
    assert!(
        message.contains(&format!("no {KIND} called other")),
        "{message}"
    );
    if !LOGGED {
        return;
    }
    ask(&world, "later", &json!({}));
    for sidecar in world.beside.sidecars.all() {
        sidecar.say(|report| report.latest = Some(jiff::Timestamp::UNIX_EPOCH));
    }
    world
        .until("it to wait, or to have begun", |w| {
            said(w, "later").message.is_some()
        })
        .await;
    if is(&world, "later", RestorePhase::Pending) {
        tell(&world, "later", |r| r.spec.cancel = Some(true));
        until_phase(&mut world, "later", RestorePhase::Cancelled).await;
        world.quiet().await;
        assert_eq!(world.pod_uids(), pods);
    }
}

#[tokio::test]
async fn while_the_object_is_gone_by_force_nothing_empty_is_made() {
    let mut world = backed_up_of(1).await;
    let before = uids(&world);
    ask(&world, "back", &json!({}));
    world
        .until("the volumes to be set aside", |w| {
            is(w, "back", RestorePhase::Restoring)
        })
        .await;
    world.kill();
    // Somebody takes the finalizer away, and the first instance with its volume as well.
    world.api.destroy::<Restore>(SHOP, "back");
    for (name, _) in uids(&world).difference(&before) {
        world.api.destroy::<PersistentVolumeClaim>(SHOP, name);
    }
    for pod in world.api.list::<Pod>() {
        world.api.destroy::<Pod>(SHOP, &pod.name_any());
    }
    world.api.destroy::<Lease>(SHOP, "db");
    going_back::start(&mut world);
    world
        .until("it to be said", |w| {
            w.stalled()
                .is_some_and(|(_, why)| why.contains(names::SET_ASIDE))
        })
        .await;
    world.quiet().await;
    assert_eq!(world.pod_uids().len(), 0);
    assert_eq!(uids(&world), before);
    world
        .api
        .edit::<PersistentVolumeClaim>(SHOP, "db-1-data", |claim| {
            claim.labels_mut().remove(names::SET_ASIDE);
        });
    until_serving(&mut world, &["db-1"]).await;
    assert_eq!(uids(&world), before);
}

/// A set is stopped to go back, and its repository is asked for no more. Then it is asked for again, or the set is turned
/// back.
async fn without_its_repository(again: bool) {
    let mut world = backed_up_of(1).await;
    let before = uids(&world);
    ask(&world, "back", &json!({}));
    until_phase(&mut world, "back", RestorePhase::Stopping).await;
    let mut asked = None;
    world.change(|set| asked = set.spec.backup.take());
    world
        .until("it to be said", |w| {
            w.stalled()
                .is_some_and(|(_, why)| why.contains("revert: true"))
        })
        .await;
    world.quiet().await;
    assert!(is(&world, "back", RestorePhase::Restoring));
    assert_eq!(world.pod_uids().len(), 0);
    assert_eq!(uids(&world), before, "nothing empty is made");
    if again {
        world.change(|set| set.spec.backup = asked);
        until_phase(&mut world, "back", RestorePhase::Restored).await;
        until_serving(&mut world, &["db-2"]).await;
        safe(&world, &before);
    } else {
        tell(&world, "back", |r| r.spec.revert = Some(true));
        until_phase(&mut world, "back", RestorePhase::Reverted).await;
        until_serving(&mut world, &["db-1"]).await;
        assert_eq!(uids(&world), before);
    }
}

#[tokio::test]
async fn without_its_repository_a_set_makes_nothing_and_can_be_turned_back() {
    without_its_repository(false).await;
}

#[tokio::test]
async fn a_repository_that_is_asked_for_again_is_gone_back_to() {
    without_its_repository(true).await;
}

/// There and back again, and what is kept let go.
async fn there_and_back(world: &mut World, before: &BTreeSet<(String, String)>) {
    let begin = Instant::now();
    loop {
        safe(world, before);
        let phase = said(world, "back").phase.unwrap_or_default();
        let restore: Restore = world.api.get(SHOP, "back").unwrap();
        if phase == RestorePhase::Restored && !restore.spec.is_reverted() {
            tell(world, "back", |r| r.spec.revert = Some(true));
        }
        if phase == RestorePhase::Reverted && !restore.spec.is_confirmed() {
            tell(world, "back", |r| r.spec.confirm = Some(true));
        }
        let done = phase == RestorePhase::Reverted && uids(world) == *before;
        if done && serving(world) == ["db-1"] {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{:?}", said(world, "back"));
        world.turn().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn crashing_after_each(strides: &'static [usize]) {
    let mut world = backed_up_of(1).await;
    let before = uids(&world);
    ask(&world, "back", &json!({}));
    world.crash_after_each(strides);
    there_and_back(&mut world, &before).await;
    world.crashed_enough(25, strides);
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_volume_and_goes_on() {
    futures::future::join_all(STRIDES.map(crashing_after_each)).await;
}
