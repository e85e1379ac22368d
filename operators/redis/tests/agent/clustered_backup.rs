//! Backups of a cluster, and clusters that are made from them, with agents, real engines and a real object store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_backup::api::{Outcome, OwnerState};
use mainstay_backup::ids::OwnerId;
use mainstay_redis::backup::restore::RestoreReport;
use mainstay_redis::backup::settings::FoundedCluster;
use mainstay_redis::backup::shards::{Dataset, covered};
use mainstay_redis::settings::CLUSTER_ROLE;
use mainstay_shared::backups::container::restoring::RestoreStep;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::backup::{Vault, back_up, ended, noise, take, until};
use crate::clustered::Operator;
use crate::pod::{Db, Pod, Set};
use crate::wait_for;

/// Keys that are written once, and how long they are: what a slow store takes some seconds for.
const KEYS: u64 = 600;
const LONG_VALUE: usize = 4096;

/// Somebody who knows all members, and asks one after the other.
pub struct Client(Vec<Db>);

impl Client {
    pub async fn of(set: &Set, pods: &[Pod]) -> Self {
        let mut all = Vec::new();
        for pod in pods {
            all.push(set.connect(pod).await.unwrap());
        }
        Self(all)
    }

    pub async fn ask(&mut self, command: &[&str]) -> Option<String> {
        let words: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
        for db in &mut self.0 {
            match db.call(words.clone()).await {
                Ok(value) => return value.text(),
                Err(error) if error.code() == Some("MOVED") => {}
                Err(error) => panic!("{command:?}: {error}"),
            }
        }
        panic!("{command:?}: nobody has that slot");
    }
}

/// What was acknowledged last of each key.
type Confirmed = Arc<Mutex<BTreeMap<String, u64>>>;

/// Writes all the time, until it is told to end.
fn writer(mut client: Client) -> (Confirmed, Arc<AtomicBool>, JoinHandle<()>) {
    let (confirmed, end) = (Confirmed::default(), Arc::new(AtomicBool::new(false)));
    let (told, ended) = (Arc::clone(&confirmed), Arc::clone(&end));
    let task = tokio::spawn(async move {
        for version in 1.. {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("written-{}", version % 300);
            client.ask(&["SET", &key, &version.to_string()]).await;
            told.lock().unwrap().insert(key, version);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (confirmed, end, task)
}

/// Members of a cluster that is formed.
pub async fn formed(set: &mut Set) -> (Vec<Pod>, Operator) {
    formed_from(set, 1).await
}

/// The same at addresses from this number on.
pub async fn formed_from(set: &mut Set, first: u8) -> (Vec<Pod>, Operator) {
    set.config.engine.clustered = true;
    let pod = |n: u8| set.pod(n.into(), first + n - 1);
    let mut pods: Vec<Pod> = (1..=6).map(pod).collect();
    for pod in &mut pods {
        let uid = format!("uid-{}", pod.name);
        set.start(pod, &uid);
    }
    let mut operator = Operator::new(set);
    operator.settles(&pods).await;
    (pods, operator)
}

/// Asks a member as the operator does.
async fn tell(set: &Set, pod: &Pod, command: &[&str]) -> String {
    let password = set.cluster_password();
    let mut db = set.connect_as(pod, CLUSTER_ROLE, &password).await.unwrap();
    let words = command.iter().map(|w| (*w).to_owned()).collect();
    db.call(words).await.unwrap().text().unwrap()
}

pub fn named<'a>(pods: &'a [Pod], name: &str) -> &'a Pod {
    pods.iter().find(|p| p.name == name).unwrap()
}

fn founded(set: &Set, shards: usize) -> FoundedCluster {
    FoundedCluster {
        set: set.name.clone(),
        uid: "u".into(),
        shards,
        made: None,
    }
}

fn restore(vault: &Vault, set: &Set, pod: &Pod, shards: usize) -> RestoreReport {
    vault.restore_as(set, pod, |r| r.cluster = Some(founded(set, shards)))
}

fn is_given_up(outcome: &Outcome, why: &str) {
    let Outcome::Failed {
        retryable: true,
        why: said,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert!(said.contains(why), "{said}");
}

#[tokio::test]
async fn a_cluster_is_backed_up_while_it_is_written_to_and_made_anew_elsewhere() {
    let mut set = Set::new(6).await;
    let mut vault = Vault::new().await;
    // So slow that it is in the middle of it for long.
    vault.bytes_per_second = Some(64 << 10);
    let (pods, operator) = formed(&mut set).await;
    let shards = operator.cluster().shards;
    let mut client = Client::of(&set, &pods).await;
    for n in 0..KEYS {
        let value = noise(n, LONG_VALUE);
        client.ask(&["SET", &format!("key-{n}"), &value]).await;
    }
    client.ask(&["HSET", "{tag}.hash", "field", "value"]).await;

    let beside = pods
        .iter()
        .find(|p| p.name == shards[1].replicas[0])
        .unwrap();
    let container = vault.beside(&set, beside);
    let told = until(&set, beside, "ours", |r| {
        r.ownership.state == OwnerState::Ours
    })
    .await;
    let status = set
        .until(beside, "to bear a mark", |s| s.system_identifier.is_some())
        .await;
    let identifier = status.system_identifier.unwrap();
    assert_eq!(told.ownership.owner, Some(OwnerId::of(&identifier)));

    // A slot begins to move while shards are taken: it is given up, and made when that is over.
    let (one, two) = (&shards[0].primary, &shards[1].primary);
    let (source, target) = (named(&pods, one), named(&pods, two));
    let nodes = tell(&set, target, &["CLUSTER", "NODES"]).await;
    let me = nodes.lines().find(|l| l.contains("myself")).unwrap();
    let id = me.split(' ').next().unwrap().to_owned();
    let slots = tell(&set, source, &["CLUSTER", "NODES"]).await;
    let mine = slots.lines().find(|l| l.contains("myself")).unwrap();
    let slot = mine
        .split(' ')
        .nth(8)
        .unwrap()
        .split('-')
        .next()
        .unwrap()
        .to_owned();
    take(&set, beside, "moving").await;
    until(&set, beside, "receiving", |r| {
        r.running.as_ref().is_some_and(|r| r.plain_bytes > 0)
    })
    .await;
    tell(
        &set,
        source,
        &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id],
    )
    .await;
    let outcome = ended(&set, beside, "moving").await;
    is_given_up(&outcome, &format!("slot {slot} is on its way from {one}"));
    is_given_up(&back_up(&set, beside, "still").await, "on its way");
    assert!(vault.backups(beside).await.is_empty());
    tell(&set, source, &["CLUSTER", "SETSLOT", &slot, "STABLE"]).await;
    vault.bytes_per_second = Some(400 << 10);
    vault.mount_again(&set, beside).await;

    // Everything that was acknowledged before it was asked for is in it.
    let (confirmed, end, writing) = writer(Client::of(&set, &pods).await);
    wait_for("fifty keys to be confirmed", async || {
        confirmed.lock().unwrap().len() > 50
    })
    .await;
    let before = confirmed.lock().unwrap().clone();
    let made = back_up(&set, beside, "whole").await;
    assert!(
        matches!(made, Outcome::Done { .. }),
        "{made:?}\n{}",
        beside.log()
    );
    end.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    assert!(confirmed.lock().unwrap().values().max() > before.values().max());
    let [manifest] = &vault.backups(beside).await[..] else {
        panic!("one backup");
    };
    let dataset = Dataset::of(manifest).unwrap();
    assert_eq!(
        (dataset.set.as_str(), dataset.shards.len()),
        (identifier.as_str(), 3)
    );
    assert_eq!(covered(&dataset.shards), Ok(()));
    let moments: Vec<_> = dataset.shards.iter().map(|s| s.moment.unwrap()).collect();
    assert_eq!(Some(&manifest.consistent_at), moments.iter().min());
    let from: BTreeSet<&str> = dataset.shards.iter().map(|s| s.from.as_str()).collect();
    let replicas: BTreeSet<&str> = shards.iter().map(|s| s.replicas[0].as_str()).collect();
    assert_eq!(from, replicas);
    // One shard less is no dataset.
    let mut lacking = manifest.clone();
    lacking.details.insert(
        "shards".into(),
        serde_json::to_string(&dataset.shards[1..]).unwrap(),
    );
    assert!(Dataset::of(&lacking).unwrap_err().contains("incomplete"));
    container.end();
    set.finish(pods);

    // The repository is all there is. What does not fit is refused before anything is made.
    vault.bytes_per_second = None;
    let mut copy = set.beside("copy", 6).await;
    copy.config.engine.clustered = true;
    let mut pods: Vec<Pod> = (1..=6).map(|n| copy.pod(n.into(), 20 + n)).collect();
    let refused = restore(&vault, &copy, &pods[0], 4);
    assert_eq!(refused.step, RestoreStep::Failed);
    assert!(refused.message.contains("shards: 3"), "{}", refused.message);
    let refused = vault.restore(&copy, &pods[0]);
    assert!(
        refused.message.contains("mode: Cluster"),
        "{}",
        refused.message
    );
    let early = vault.restore_as(&copy, &pods[0], |r| {
        let made = Some("2026-01-01T00:00:00Z".parse().unwrap());
        r.cluster = Some(FoundedCluster {
            made,
            ..founded(&copy, 3)
        });
    });
    assert!(
        early.message.contains("after this resource was made"),
        "{}",
        early.message
    );

    // Two of three shards are there, and everybody else: nobody is made acquainted.
    let mut keys = 0;
    for pod in &pods[..2] {
        let report = restore(&vault, &copy, pod, 3);
        assert_eq!(report.step, RestoreStep::Done, "{report:?}\n{}", pod.log());
        keys += report.reached.unwrap().keys;
    }
    for n in [0, 1, 3, 4, 5] {
        let uid = format!("uid-{}", pods[n].name);
        copy.start(&mut pods[n], &uid);
    }
    for n in [0, 1, 3, 4, 5] {
        copy.until(&pods[n], "to run", |s| s.engine_version.is_some())
            .await;
    }
    let bootstrap = json!({"bootstrap": {"recovery": {
        "repository": {"volume": {"claimName": "old"}, "prefix": "shop/db"}, "keys": "old-keys",
    }}});
    let mut operator = Operator::of(&copy, &bootstrap);
    for _ in 0..3 {
        let steered = operator.pass(&pods, &BTreeSet::new()).await;
        assert!(!steered.works, "{steered:?}");
        let waits = |why: &str| steered.waits.iter().any(|w| w.reason.contains(why));
        assert!(waits("copy-3 does not answer yet"), "{:?}", steered.waits);
    }
    assert!(!operator.cluster().formed);
    let alone = tell(&copy, &pods[0], &["CLUSTER", "NODES"]).await;
    assert_eq!(alone.trim().lines().count(), 1, "{alone}");

    let report = restore(&vault, &copy, &pods[2], 3);
    assert_eq!(report.step, RestoreStep::Done, "{report:?}");
    keys += report.reached.unwrap().keys;
    let owner = report.owner.clone();
    copy.start(&mut pods[2], "uid-copy-3");
    operator.settles(&pods).await;
    let now = operator.cluster();
    assert!(
        now.formed && now.slots == 16384 && now.shards.len() == 3,
        "{now:?}"
    );
    assert!(now.shards.iter().all(|s| s.replicas.len() == 1), "{now:?}");
    assert!(keys >= KEYS, "{keys}");
    for pod in &pods {
        let ready = copy.until(pod, "to serve", |s| s.ready).await;
        let bears = ready.system_identifier.unwrap();
        assert_ne!(bears, identifier, "it is another set");
        assert_eq!(Some(OwnerId::of(&bears)), owner);
    }
    let mut client = Client::of(&copy, &pods).await;
    for n in 0..KEYS {
        let held = client.ask(&["GET", &format!("key-{n}")]).await;
        assert_eq!(held, Some(noise(n, LONG_VALUE)), "key-{n}");
    }
    let held = client.ask(&["HGET", "{tag}.hash", "field"]).await;
    assert_eq!(held.as_deref(), Some("value"));
    for (key, version) in &before {
        let held = client
            .ask(&["GET", key])
            .await
            .and_then(|v| v.parse::<u64>().ok());
        assert!(held >= Some(*version), "{key}: {held:?} after {version}");
    }
    client.ask(&["SET", "after", "1"]).await;

    // It is a cluster like any other: who restarts comes back with its data.
    let primary = now.shards[2].primary.clone();
    let pod = pods.iter_mut().find(|p| p.name == primary).unwrap();
    assert!(pod.terminate(), "{}", pod.log());
    copy.start(pod, "uid-again");
    operator.settles(&pods).await;
    let mut client = Client::of(&copy, &pods).await;
    assert_eq!(client.ask(&["GET", "after"]).await.as_deref(), Some("1"));
    copy.finish(pods);
}
