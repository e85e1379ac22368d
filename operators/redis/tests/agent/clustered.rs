//! Agents whose engines are members of a cluster, and the step of the operator's pass that steers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use mainstay_crds::common::InstanceRole;
use mainstay_crds::redis::{ClusterStatus, Redis, RedisStatus, ShardStatus};
use mainstay_redis::engine::steer::{Helm, found_out, steer};
use mainstay_redis::settings::{CLUSTER_PASSWORD, CLUSTER_ROLE};
use mainstay_redis::validate::{Catalogue, Validated, validate};
use mainstay_shared::agent::api::Status;
use mainstay_shared::instances::{ClaimSeen, Instance, Known, Phase, PodSeen};
use mainstay_shared::operator::steer::{Rider, Steered, Steering};
use mainstay_shared::pki::client_config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::ClientConfig;
use serde_json::json;

use crate::clustered_backup::{Client, formed, formed_from, named};
use crate::pod::{LONG, Pod, Set};

/// What the operator knows and does, without its API server.
pub struct Operator {
    validated: Validated,
    status: RedisStatus,
    helm: Helm,
    tls: Arc<ClientConfig>,
    /// What agents said last, of those who are asked.
    told: BTreeMap<String, Status>,
    internal: BTreeMap<String, ByteString>,
}

impl Operator {
    pub fn new(set: &Set) -> Self {
        Self::of(set, &json!({}))
    }

    /// Of a set with more in its spec.
    pub fn of(set: &Set, more: &serde_json::Value) -> Self {
        let mut spec = json!({"version": "8.0", "mode": "Cluster", "shards": 3, "replicas": 1,
            "image": "redis:8.0.2", "storage": {"size": "1Gi"}});
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        let resource: Redis = serde_json::from_value(json!({
            "metadata": {"name": set.name, "namespace": set.namespace, "uid": "u", "generation": 1},
            "spec": spec,
        }))
        .unwrap();
        let password = ByteString(set.cluster_password().as_bytes().to_vec());
        Self {
            validated: validate(&resource, &Catalogue::default()).unwrap(),
            status: RedisStatus::default(),
            helm: Helm::default(),
            tls: Arc::new(client_config(set.ca(), None).unwrap()),
            told: BTreeMap::new(),
            internal: [(CLUSTER_PASSWORD.to_owned(), password)].into(),
        }
    }

    /// Agents are asked, as the operator does all the time.
    pub async fn hear(&mut self, set: &Set, pods: &[Pod]) {
        self.told.clear();
        for pod in pods {
            let status = set.agent(pod).status(None, Duration::ZERO).await;
            self.told.extend(status.ok().map(|s| (pod.name.clone(), s)));
        }
    }

    pub async fn pass(&mut self, pods: &[Pod], outdated: &BTreeSet<String>) -> Steered {
        let told = |pod: &Pod| self.told.get(&pod.name);
        let instance = |(n, pod): (usize, &Pod)| Instance {
            name: pod.name.clone(),
            ordinal: u32::try_from(n).unwrap() + 1,
            pod: Some(PodSeen {
                uid: told(pod).map_or_else(String::new, |s| s.pod_uid.clone()),
                phase: Phase::Running,
                ip: Some(pod.address.clone()),
                zone: Some(["a", "b", "c"][n % 3].to_owned()),
                ..PodSeen::default()
            }),
            claim: Some(ClaimSeen::default()),
            agent: match told(pod) {
                Some(status) => Known::Known(status.clone()),
                None => Known::Unreachable("not asked".into()),
            },
        };
        let instances: Vec<Instance> = pods.iter().enumerate().map(instance).collect();
        let rider = |instance| Rider {
            instance,
            leaving: false,
            outdated: outdated.contains(&instance.name),
            unusable: false,
        };
        let steering = Steering {
            set: &self.validated.common.set,
            validated: &self.validated,
            before: &self.status,
            riders: instances.iter().map(rider).collect(),
            tls: Arc::clone(&self.tls),
            internal: Some(&self.internal),
            may_disturb: true,
        };
        let steered = steer(&mut self.helm, steering).await;
        let mut status = RedisStatus::default();
        found_out(&mut status, &self.status, &self.helm);
        self.status = status;
        steered
    }

    pub fn cluster(&self) -> ClusterStatus {
        self.status.cluster.clone().unwrap()
    }

    /// Passes until nothing is left to do.
    pub async fn settles(&mut self, pods: &[Pod]) {
        let begun = Instant::now();
        loop {
            let steered = self.pass(pods, &BTreeSet::new()).await;
            if steered.calm && !steered.works {
                return;
            }
            assert!(begun.elapsed() < LONG, "{:?}", steered.waits);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn members_form_a_cluster_and_who_ended_out_of_order_comes_back_as_a_replica() {
    let mut set = Set::new(6).await;
    set.config.engine.clustered = true;
    assert!(set.roles().iter().any(|r| r.name == CLUSTER_ROLE));
    let mut pods: Vec<Pod> = (1..=6).map(|n| set.pod(n.into(), n)).collect();
    for pod in &mut pods {
        let uid = format!("uid-{}", pod.name);
        set.start(pod, &uid);
    }
    let mut operator = Operator::new(&set);
    operator.settles(&pods).await;
    let formed = operator.cluster();
    assert!(formed.formed && formed.slots == 16384, "{formed:?}");
    assert_eq!(formed.shards.len(), 3);
    for pod in &pods {
        set.until(pod, "to serve", |s| s.ready).await;
    }

    // Killed, it is not started before its replica was elected: it may have lost what that one has.
    let first = &formed.shards[0];
    let lost = pods.iter().find(|p| p.name == first.primary).unwrap();
    kill(Pid::from_raw(lost.engine_pid()), Signal::SIGKILL).unwrap();
    let back = |s: &Status| s.ready && s.role == InstanceRole::Replica;
    set.until(lost, "to come back as a replica", back).await;
    // Then primaries are spread over zones again.
    operator.settles(&pods).await;
    let now = operator.cluster();
    let whole = |s: &ShardStatus| s.slots > 0 && s.replicas.len() == 1;
    assert!(
        now.shards.len() == 3 && now.shards.iter().all(whole),
        "{now:?}"
    );

    // A restart that is asked for is granted, and a primary hands over before.
    let asked = now.shards[1].primary.clone();
    let begun = Instant::now();
    loop {
        let steered = operator.pass(&pods, &[asked.clone()].into()).await;
        if steered.granted.as_ref() == Some(&asked) {
            break;
        }
        assert!(begun.elapsed() < LONG, "{:?}", steered.waits);
    }
    let now = operator.cluster();
    assert!(now.shards.iter().all(|s| s.primary != asked), "{now:?}");
    let pod = pods.iter().find(|p| p.name == asked).unwrap();
    let nonce = set.until(pod, "to be a replica", back).await.nonce;
    set.agent(pod).restart(&nonce, "a test").await.unwrap();
    set.until(pod, "to serve again", back).await;
    operator.settles(&pods).await;
    set.finish(pods);
}

#[tokio::test]
async fn a_primary_that_is_told_to_go_has_a_replica_take_over_by_itself() {
    let mut set = Set::new(6).await;
    let (mut pods, mut operator) = formed(&mut set).await;
    let shards = operator.cluster().shards;
    let leads = |s: &Status| s.ready && s.role == InstanceRole::Primary;
    let follows = |s: &Status| s.ready && s.role == InstanceRole::Replica;

    // Nobody else is there to ask for it.
    let place = pods.iter().position(|p| p.name == shards[0].primary);
    let going = &mut pods[place.unwrap()];
    assert!(going.terminate(), "it does not end");
    let log = going.log();
    assert!(
        log.contains("a replica was asked to take over, since the container ends"),
        "{log}"
    );
    let heir = named(&pods, &shards[0].replicas[0]);
    set.until(heir, "to lead", leads).await;
    let log = heir.log();
    assert!(
        log.contains("Manual failover user request accepted"),
        "{log}"
    );
    set.start(&mut pods[place.unwrap()], "uid-again");
    operator.settles(&pods).await;

    // Who yields is succeeded before others have noticed; its process is started after that.
    let shards = operator.cluster().shards;
    let lost = named(&pods, &shards[1].primary);
    let heir = named(&pods, &shards[1].replicas[0]);
    kill(Pid::from_raw(lost.engine_pid()), Signal::SIGKILL).unwrap();
    let status = set.until(lost, "to yield", |s| s.yields).await;
    operator.told.insert(lost.name.clone(), status);
    let begun = Instant::now();
    while !heir.log().contains("Forced failover user request accepted") {
        let steered = operator.pass(&pods, &BTreeSet::new()).await;
        assert!(begun.elapsed() < LONG, "{:?}", steered.waits);
    }
    operator.told.clear();
    set.until(heir, "to lead", leads).await;
    let back = set.until(lost, "to follow", follows).await;
    assert!(!back.yields);
    operator.settles(&pods).await;
    set.finish(pods);
}

#[tokio::test]
async fn members_of_two_clusters_that_get_each_others_addresses_stay_apart() {
    let mut one = Set::new(6).await;
    let mut two = one.beside("other", 6).await;
    let (mut ones, mut first) = formed(&mut one).await;
    let (mut twos, mut second) = formed_from(&mut two, 11).await;
    for (set, pods) in [(&one, &ones), (&two, &twos)] {
        let mut client = Client::of(set, pods).await;
        for n in 0..60 {
            client.ask(&["SET", &format!("key-{n}"), &set.name]).await;
        }
    }
    // A primary of each; others still look for it where it was.
    let place = |pods: &[Pod], operator: &Operator| {
        let primary = &operator.cluster().shards[0].primary;
        pods.iter().position(|p| p.name == *primary).unwrap()
    };
    let (a, b) = (place(&ones, &first), place(&twos, &second));
    assert!(ones[a].terminate() && twos[b].terminate());
    std::mem::swap(&mut ones[a].address, &mut twos[b].address);
    one.start(&mut ones[a], "uid-elsewhere");
    two.start(&mut twos[b], "uid-elsewhere");
    first.settles(&ones).await;
    second.settles(&twos).await;
    for (set, pods, operator) in [(&one, &ones, &first), (&two, &twos, &second)] {
        let now = operator.cluster();
        let whole = |s: &ShardStatus| s.slots > 0 && s.replicas.len() == 1;
        assert!(
            now.slots == 16384 && now.shards.len() == 3 && now.shards.iter().all(whole),
            "{now:?}"
        );
        let mut client = Client::of(set, pods).await;
        for n in 0..60 {
            let value = client.ask(&["GET", &format!("key-{n}")]).await;
            assert_eq!(value.as_ref(), Some(&set.name), "key-{n}");
        }
    }
    one.finish(ones);
    two.finish(twos);
}
