//! What a cluster does with the objects in a [`FakeApi`]: nodes in zones, claims bound, pods placed
//! and run, and in each pod of a set an agent that behaves as its Lease says.
//!
//! Nothing happens by itself: [`FakeCluster::turn`] does one turn of everything, so that a test can
//! look between any two. It does not enforce affinity, resources, disruption budgets or network
//! policies. No probe reaches an engine, since there is none, unless [`FakeCluster::serve_sql`] is
//! asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerState, ContainerStateRunning, ContainerStatus, Node, PersistentVolumeClaim,
    Pod, PodCondition, Secret, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::ResourceExt;
use mainstay_crds::common::InstanceRole;
use mainstay_shared::access::existing_roles;
use mainstay_shared::agent::api::{Phase, Status, Volume};
use mainstay_shared::agent::config::Role;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::agent::lease::slice::{Target, pointed};
use mainstay_shared::agent::{config, paths};
use mainstay_shared::names;
use mainstay_shared::pki::{self, ClientAuth, server_config};
use serde_json::json;

use crate::agent::{FakeAgent, HandOver, Mount, Surroundings};
use crate::api::FakeApi;
use crate::engine::Engines;

/// Identifier of the data that the first agent of a set makes.
const SYSTEM_IDENTIFIER: &str = "7311000000000000001";

/// All that a turn goes by.
#[derive(PartialEq, Eq)]
struct Seen {
    objects: u64,
    /// By uid of the pod: what each says, and its certificate.
    agents: Vec<(String, u64, Option<usize>)>,
    answers_sql: bool,
    engine_version: String,
}

/// Nodes, volumes, and pods that run.
pub struct FakeCluster {
    api: FakeApi,
    nodes: Vec<String>,
    /// By uid of the pod.
    agents: BTreeMap<String, FakeAgent>,
    engines: Option<Engines>,
    /// By uid of the pod: the logins that its agent has in force.
    logins: BTreeMap<String, Vec<Role>>,
    /// Pods whose mounts are not renewed.
    held: BTreeSet<String>,
    /// How everything was when a turn changed nothing: neither will the next.
    rests: Option<Seen>,
    /// Version of the engine that agents report.
    pub engine_version: String,
}

impl FakeCluster {
    /// A cluster with one node in each zone and a default storage class that can grow.
    pub fn new(api: &FakeApi, zones: &[&str]) -> Self {
        let mut nodes = vec![];
        for (index, zone) in zones.iter().enumerate() {
            let name = format!("node-{}", index + 1);
            let labels =
                json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
            api.put::<Node>(&object(
                json!({"metadata": {"name": name, "labels": labels}}),
            ));
            nodes.push(name);
        }
        api.put::<StorageClass>(&object(json!({
            "metadata": {"name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "test", "allowVolumeExpansion": true,
        })));
        Self {
            api: api.clone(),
            nodes,
            agents: BTreeMap::new(),
            engines: None,
            logins: BTreeMap::new(),
            held: BTreeSet::new(),
            rests: None,
            engine_version: "17.12".to_owned(),
        }
    }

    /// One turn: end pods that are being deleted, collect garbage, bind and grow claims, place and
    /// run pods, have agents look at their Lease and configuration. Says whether there was anything to look at: as long as
    /// all is as it was when a turn changed nothing, there is not.
    ///
    /// # Panics
    /// When no loopback address can be had for an agent, or a certificate cannot be used.
    pub async fn turn(&mut self) -> bool {
        let before = self.seen();
        if self.rests.as_ref() == Some(&before) {
            return false;
        }
        self.api.collect_garbage();
        self.end();
        self.bind();
        for pod in self.api.list::<Pod>() {
            self.run(pod).await;
        }
        self.converge();
        self.answer_sql();
        self.rests = Some(self.seen()).filter(|after| *after == before);
        true
    }

    fn seen(&self) -> Seen {
        let agent = |(uid, agent): (&String, &FakeAgent)| {
            let certificate = agent.certificate().map(|tls| Arc::as_ptr(&tls).addr());
            (uid.clone(), agent.status().sequence, certificate)
        };
        Seen {
            objects: self.api.version(),
            agents: self.agents.iter().map(agent).collect(),
            answers_sql: self.engines.is_some(),
            engine_version: self.engine_version.clone(),
        }
    }

    /// From now on something answers the operator's round trips at PostgreSQL's port of each ready
    /// pod, and at the address of the Service that leads to a primary. Only one program on a
    /// machine can ask for it at a time.
    pub fn serve_sql(&mut self) {
        self.engines.get_or_insert_default();
    }

    /// The agent in a pod, if it runs.
    pub fn agent(&self, namespace: &str, pod: &str) -> Option<&FakeAgent> {
        let pod = self.api.get::<Pod>(Some(namespace), pod)?;
        self.agents.get(&pod.uid()?)
    }

    /// From now on the logins that a pod mounts are not renewed, or are again.
    pub fn hold_mounts(&mut self, pod: &str, held: bool) {
        if held {
            self.held.insert(pod.to_owned());
        } else {
            self.held.remove(pod);
        }
        self.rests = None;
    }

    /// The logins that the agent in a pod has in force.
    pub fn logins(&self, namespace: &str, pod: &str) -> Vec<Role> {
        let pod: Option<Pod> = self.api.get(Some(namespace), pod);
        let known = pod.and_then(|p| self.logins.get(&p.uid()?));
        known.cloned().unwrap_or_default()
    }

    /// How many agents run.
    pub fn running(&self) -> usize {
        self.agents.len()
    }

    /// A node is gone for good, and its pods with it, as seen once they are evicted.
    pub fn lose_node(&mut self, node: &str) {
        self.nodes.retain(|name| name != node);
        self.api.destroy::<Node>(None, node);
        for pod in self.api.list::<Pod>() {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node) {
                self.stop(&pod);
                self.api
                    .destroy::<Pod>(pod.namespace().as_deref(), &pod.name_any());
            }
        }
    }

    fn end(&mut self) {
        for pod in self.api.list::<Pod>() {
            if pod.metadata.deletion_timestamp.is_some() {
                self.stop(&pod);
            }
        }
        self.api.end_deleted_pods();
        let there: Vec<String> = self
            .api
            .list::<Pod>()
            .iter()
            .filter_map(ResourceExt::uid)
            .collect();
        self.agents.retain(|uid, _| there.contains(uid));
    }

    /// An agent that ends lets its Lease go.
    fn stop(&mut self, pod: &Pod) {
        let Some(agent) = pod.uid().and_then(|uid| self.agents.remove(&uid)) else {
            return;
        };
        let Some(set) = pod.labels().get(names::APP_INSTANCE) else {
            return;
        };
        let me = holder(&agent.status());
        self.api
            .edit::<Lease>(pod.namespace().as_deref(), set, |lease| {
                if let Some(spec) = lease
                    .spec
                    .as_mut()
                    .filter(|s| s.holder_identity.as_ref() == Some(&me))
                {
                    spec.holder_identity = None;
                }
            });
    }

    fn bind(&self) {
        for claim in self.api.list::<PersistentVolumeClaim>() {
            let namespace = claim.namespace();
            self.api.edit::<PersistentVolumeClaim>(
                namespace.as_deref(),
                &claim.name_any(),
                |claim| {
                    let uid = claim.metadata.uid.clone().unwrap_or_default();
                    let Some(spec) = claim.spec.as_mut() else {
                        return;
                    };
                    spec.volume_name.get_or_insert_with(|| format!("pv-{uid}"));
                    spec.storage_class_name
                        .get_or_insert_with(|| "standard".to_owned());
                    let asked = spec.resources.as_ref().and_then(|r| r.requests.clone());
                    let status = claim.status.get_or_insert_default();
                    status.phase = Some("Bound".to_owned());
                    status.capacity = asked;
                },
            );
        }
    }

    async fn run(&mut self, pod: Pod) {
        let (Some(uid), Some(namespace)) = (pod.uid(), pod.namespace()) else {
            return;
        };
        // What becomes of others than instances a test says itself.
        let instance = pod.labels().contains_key(names::INSTANCE);
        if !instance || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let Some(node) = placed.or_else(|| self.place(&pod)) else {
            return;
        };
        if !self.agents.contains_key(&uid)
            && let Some(agent) = self.begin(&pod, &namespace).await
        {
            self.agents.insert(uid.clone(), agent);
        }
        let agent = self.agents.get(&uid);
        let ready = agent.is_some_and(|agent| agent.status().ready);
        let address = agent.map(|agent| agent.ip().to_string());
        self.api
            .edit::<Pod>(Some(&namespace), &pod.name_any(), |pod| {
                pod.spec.get_or_insert_default().node_name = Some(node);
                show(pod, address, ready);
            });
    }

    /// A node: that of the volume, else the one with the fewest pods of the set.
    fn place(&self, pod: &Pod) -> Option<String> {
        let claims: Vec<PersistentVolumeClaim> = self.api.list();
        let key = "volume.kubernetes.io/selected-node";
        let claim = claims.iter().find(|claim| {
            claim.namespace() == pod.namespace()
                && claim.name_any() == names::data_claim(&pod.name_any())
        });
        if let Some(node) = claim.and_then(|claim| claim.annotations().get(key)) {
            return self.nodes.contains(node).then(|| node.clone());
        }
        let set = pod.labels().get(names::APP_INSTANCE);
        let pods: Vec<Pod> = self.api.list();
        let load = |node: &String| {
            let there = |pod: &&Pod| {
                pod.labels().get(names::APP_INSTANCE) == set
                    && pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(node)
            };
            pods.iter().filter(there).count()
        };
        let node = self.nodes.iter().min_by_key(|node| load(node))?.clone();
        if let Some(claim) = claim {
            let namespace = claim.namespace();
            self.api.edit::<PersistentVolumeClaim>(
                namespace.as_deref(),
                &claim.name_any(),
                |claim| {
                    claim.annotations_mut().insert(key.to_owned(), node.clone());
                },
            );
        }
        Some(node)
    }

    /// Start the agent of a pod; none while its mounts are not there.
    async fn begin(&self, pod: &Pod, namespace: &str) -> Option<FakeAgent> {
        let instance = pod.labels().get(names::INSTANCE)?;
        let set = pod.labels().get(names::APP_INSTANCE)?;
        let secret = self
            .api
            .get::<Secret>(Some(namespace), &names::certificate(instance))?;
        let pair = pki::from_secret(&secret.data?)?;
        let tls = server_config(&pair, ClientAuth::Optional).expect("a certificate that serves");
        let serial = pki::facts(&pair.certificate)
            .expect("a certificate that can be read")
            .serial;
        let (api, at, name) = (
            self.api.clone(),
            namespace.to_owned(),
            names::config_map(set),
        );
        let mount: Mount = Arc::new(move || {
            let map = api.get::<ConfigMap>(Some(&at), &name)?;
            map.data?
                .get(paths::CONFIG_FILE)
                .map(|text| config::hash(text))
        });
        let uid = pod.uid()?;
        let status = Status {
            sequence: 1,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            nonce: format!("{uid}.0"),
            pod_uid: uid,
            instance: instance.clone(),
            phase: Phase::Waiting,
            message: Some("waits for the Lease".to_owned()),
            config_hash: Some(mount()?),
            certificate_serial: Some(serial),
            volume: Some(Volume {
                size: 1 << 30,
                free: 7 << 27,
            }),
            ..Status::default()
        };
        let (api, at, lease) = (self.api.clone(), namespace.to_owned(), set.clone());
        let hand_over: HandOver = Arc::new(move |to| {
            api.edit::<Lease>(Some(&at), &lease, |lease| {
                let Ok(record) = Record::from_annotations(lease.annotations()) else {
                    return;
                };
                let next = Record {
                    seat: to.to_owned(),
                    address: None,
                    ..record
                };
                lease.annotations_mut().extend(next.to_annotations());
                lease.spec.get_or_insert_default().holder_identity = None;
            });
        });
        let around = Surroundings { mount, hand_over };
        Some(
            FakeAgent::start(Arc::new(tls), status, around)
                .await
                .expect("a loopback address"),
        )
    }

    /// Each agent does what its Lease says.
    fn converge(&mut self) {
        for pod in self.api.list::<Pod>() {
            let (Some(uid), Some(namespace)) = (pod.uid(), pod.namespace()) else {
                continue;
            };
            let (Some(agent), Some(set)) =
                (self.agents.get(&uid), pod.labels().get(names::APP_INSTANCE))
            else {
                continue;
            };
            let Some(lease) = self.api.get::<Lease>(Some(&namespace), set) else {
                continue;
            };
            let Ok(record) = Record::from_annotations(lease.annotations()) else {
                continue;
            };
            if !self.held.contains(&pod.name_any()) || !self.logins.contains_key(&uid) {
                let roles = self.users(&namespace, set);
                let known = config::users_hash(&roles);
                agent.set(|status| status.users_hash = known);
                self.logins.insert(uid, roles);
            }
            if record.seat == agent.status().instance {
                self.lead(agent, &namespace, set, &record);
            } else if record.address.is_some() {
                self.follow(agent, &record);
            }
        }
    }

    /// What agents know of users: what is mounted, at once.
    fn users(&self, namespace: &str, set: &str) -> Vec<Role> {
        let name = names::access_secret(set);
        let secret: Option<Secret> = self.api.get(Some(namespace), &name);
        let data = secret.and_then(|s| s.data).unwrap_or_default();
        existing_roles(&data).into_values().collect()
    }

    fn lead(&self, agent: &FakeAgent, namespace: &str, set: &str, record: &Record) {
        let me = holder(&agent.status());
        let mut next = record.clone();
        next.address = Some(agent.ip().to_string());
        next.system_identifier
            .get_or_insert_with(|| SYSTEM_IDENTIFIER.to_owned());
        self.api.edit::<Lease>(Some(namespace), set, |lease| {
            let now = Timestamp::now();
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() != Some(&me) {
                spec.holder_identity = Some(me);
                spec.acquire_time = Some(MicroTime(now));
                spec.renew_time = Some(MicroTime(now));
                next.epoch += 1;
            }
            lease.annotations_mut().extend(next.to_annotations());
        });
        let target = Target {
            address: agent.ip(),
            instance: agent.status().instance,
            port_name: "postgres".to_owned(),
            port: 5432,
            epoch: next.epoch,
        };
        self.api
            .edit::<EndpointSlice>(Some(namespace), &names::primary_service(set), |slice| {
                if let Some(wanted) = pointed(slice, &target) {
                    *slice = wanted;
                }
            });
        let mut streaming: Vec<String> = self
            .agents
            .values()
            .map(FakeAgent::status)
            .filter(|s| s.ready && s.role == InstanceRole::Replica)
            .filter(|s| names::ordinal(set, &s.instance).is_some())
            .map(|s| s.instance)
            .collect();
        streaming.sort();
        self.serve(agent, &next, InstanceRole::Primary, |status| {
            status.synchronous = Some(streaming.len() >= 2);
            status.streaming = streaming;
        });
    }

    fn answer_sql(&mut self) {
        let Some(engines) = &mut self.engines else {
            return;
        };
        let mut wanted = BTreeMap::new();
        for pod in self.api.list::<Pod>() {
            let agent = pod.uid().and_then(|uid| self.agents.get(&uid));
            let Some((agent, tls)) = agent.and_then(|a| Some((a, a.certificate()?))) else {
                continue;
            };
            let status = agent.status();
            if !status.ready {
                continue;
            }
            wanted.insert(agent.ip(), Arc::clone(&tls));
            let set = pod.labels().get(names::APP_INSTANCE);
            if let (InstanceRole::Primary, Some(set)) = (status.role, set) {
                let service: Option<Service> = self
                    .api
                    .get(pod.namespace().as_deref(), &names::primary_service(set));
                let address = service.and_then(|s| s.spec?.cluster_ip?.parse().ok());
                wanted.extend(address.map(|address| (address, tls)));
            }
        }
        engines
            .keep(&wanted, &self.engine_version)
            .expect("PostgreSQL's port on loopback");
    }

    fn follow(&self, agent: &FakeAgent, record: &Record) {
        self.serve(agent, record, InstanceRole::Replica, |status| {
            status.lag_bytes = Some(0);
        });
    }

    /// What the image of its pod holds, by a tag of three numbers; else what all have.
    fn version(&self, agent: &FakeAgent) -> String {
        let uid = agent.status().pod_uid;
        let pods = self.api.list::<Pod>();
        let pod = pods
            .iter()
            .find(|pod| pod.metadata.uid.as_ref() == Some(&uid));
        let containers = pod.and_then(|pod| Some(&pod.spec.as_ref()?.containers));
        let told = containers.into_iter().flatten().find_map(|container| {
            let tag = container.image.as_ref()?.rsplit_once(':')?.1;
            let numbers = tag.split('.').all(|n| n.parse::<u32>().is_ok());
            (numbers && tag.split('.').count() == 3).then(|| tag.to_owned())
        });
        told.unwrap_or_else(|| self.engine_version.clone())
    }

    fn serve(
        &self,
        agent: &FakeAgent,
        record: &Record,
        role: InstanceRole,
        more: impl FnOnce(&mut Status),
    ) {
        let version = self.version(agent);
        agent.set(|status| {
            status.phase = Phase::Running;
            status.message = None;
            status.role = role;
            status.ready = true;
            status.engine_version = Some(version);
            status
                .system_identifier
                .clone_from(&record.system_identifier);
            status.timeline = Some(1);
            more(status);
        });
    }
}

/// As an agent names itself in the Lease.
fn holder(status: &Status) -> String {
    format!("{}/{}/{}", status.instance, status.pod_uid, status.nonce)
}

/// What the kubelet tells of a pod.
fn show(pod: &mut Pod, address: Option<String>, ready: bool) {
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.clone())
        .unwrap_or_default();
    let running = address.is_some();
    let now = Time(Timestamp::now());
    let status = pod.status.get_or_insert_default();
    status.phase = Some(if running { "Running" } else { "Pending" }.to_owned());
    status.pod_ip = address;
    status.start_time.get_or_insert(now.clone());
    let mut conditions = status.conditions.take().unwrap_or_default();
    for (type_, holds) in [("PodScheduled", true), ("Ready", ready)] {
        let value = if holds { "True" } else { "False" };
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(condition) if condition.status == value => {}
            found => {
                let condition = PodCondition {
                    type_: type_.to_owned(),
                    status: value.to_owned(),
                    last_transition_time: Some(now.clone()),
                    ..PodCondition::default()
                };
                match found {
                    Some(slot) => *slot = condition,
                    None => conditions.push(condition),
                }
            }
        }
    }
    status.conditions = Some(conditions);
    let started = status.start_time.clone();
    let one = |container: k8s_openapi::api::core::v1::Container| ContainerStatus {
        name: container.name,
        image: container.image.clone().unwrap_or_default(),
        image_id: container.image.unwrap_or_default(),
        ready,
        started: Some(running),
        state: running.then(|| ContainerState {
            running: Some(ContainerStateRunning {
                started_at: started.clone(),
            }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    };
    status.container_statuses = Some(containers.into_iter().map(one).collect());
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("an object of the kind")
}
