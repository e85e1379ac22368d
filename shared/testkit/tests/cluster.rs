//! The cluster and its agents, seen as an operator sees them: through the API and the agents' client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests say what they expect

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use mainstay_crds::common::InstanceRole;
use mainstay_shared::agent::client::{AgentClient, ClientError};
use mainstay_shared::agent::config;
use mainstay_shared::agent::election::record::Record;
use mainstay_shared::{names, pki};
use mainstay_testkit::api::FakeApi;
use mainstay_testkit::cluster::FakeCluster;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

struct Set {
    api: FakeApi,
    cluster: FakeCluster,
    authority: pki::Pair,
}

impl Set {
    fn new() -> Self {
        let api = FakeApi::new();
        let cluster = FakeCluster::new(&api, &["a", "b", "c"]);
        let authority = pki::issue_authority("shop", "db", Timestamp::now()).unwrap();
        let record = Record {
            seat: "db-1".into(),
            ..Record::default()
        };
        api.put::<Lease>(&from(json!({"metadata":
            {"namespace": "shop", "name": "db", "annotations": record.to_annotations()}})));
        api.put::<ConfigMap>(&from(
            json!({"metadata": {"namespace": "shop", "name": "db-config"},
            "data": {"set.json": "{}"}}),
        ));
        Self {
            api,
            cluster,
            authority,
        }
    }

    fn add(&self, instance: &str) {
        let leaf = pki::LeafSpec {
            common_name: instance.to_owned(),
            dns_names: vec![names::instance_host(instance, "db", "shop")],
            addresses: vec![],
            usage: pki::Usage::ServerAndClient,
            hours: 24,
        };
        let pair = pki::issue_leaf(&self.authority, &leaf, Timestamp::now()).unwrap();
        let meta = ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(names::certificate(instance)),
            ..ObjectMeta::default()
        };
        self.api.put::<Secret>(&pki::to_secret(meta, &pair));
        self.api.put::<PersistentVolumeClaim>(&from(json!({
            "metadata": {"namespace": "shop", "name": names::data_claim(instance)},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})));
        self.add_pod(instance);
    }

    fn add_pod(&self, instance: &str) {
        self.api.put::<Pod>(&from(json!({
            "metadata": {"namespace": "shop", "name": instance,
                "labels": {names::APP_INSTANCE: "db", names::INSTANCE: instance}},
            "spec": {"containers": [{"name": "postgres", "image": "postgres:17"}]}})));
    }

    fn client(&self, instance: &str, common_name: &str) -> AgentClient {
        let leaf = pki::LeafSpec {
            common_name: common_name.to_owned(),
            dns_names: vec![],
            addresses: vec![],
            usage: pki::Usage::Client,
            hours: 1,
        };
        let pair = pki::issue_leaf(&self.authority, &leaf, Timestamp::now()).unwrap();
        let tls = pki::client_config(&self.authority.certificate, Some(&pair)).unwrap();
        let pod = self.pod(instance);
        let ip = pod.status.unwrap().pod_ip.unwrap().parse().unwrap();
        let address = SocketAddr::new(ip, u16::try_from(names::AGENT_PORT).unwrap());
        let host = names::instance_host(instance, "db", "shop");
        AgentClient::new(address, &host, Arc::new(tls)).unwrap()
    }

    fn pod(&self, name: &str) -> Pod {
        self.api.get(Some("shop"), name).unwrap()
    }
}

#[tokio::test]
async fn a_set_comes_up_as_its_lease_says_and_obeys_the_operator_only() {
    let mut set = Set::new();
    for instance in ["db-1", "db-2", "db-3"] {
        set.add(instance);
    }
    for _ in 0..4 {
        set.cluster.turn().await;
    }
    let nodes: std::collections::BTreeSet<_> = ["db-1", "db-2", "db-3"]
        .map(|name| set.pod(name).spec.unwrap().node_name)
        .into();
    assert_eq!(nodes.len(), 3, "one instance a node");
    let mut operator = set.client("db-1", names::OPERATOR_COMMON_NAME);
    let status = operator.status(None, Duration::ZERO).await.unwrap();
    assert!(status.ready);
    assert_eq!(status.role, InstanceRole::Primary);
    assert_eq!(status.streaming, ["db-2", "db-3"]);
    assert_eq!(status.config_hash, Some(config::hash("{}")));
    let lease: Lease = set.api.get(Some("shop"), "db").unwrap();
    let record = Record::from_annotations(lease.annotations()).unwrap();
    assert_eq!(record.epoch, 1);
    assert_eq!(record.system_identifier, status.system_identifier);
    let claim: PersistentVolumeClaim = set.api.get(Some("shop"), "db-1-data").unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));
    let mut other = set.client("db-2", "db-1");
    assert!(other.status(None, Duration::ZERO).await.unwrap().ready);
    let refused = other.reload(&config::hash("{}")).await;
    assert!(
        matches!(refused, Err(ClientError::Refused(code, _)) if code == 403),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_settled_cluster_changes_nothing_by_another_turn() {
    let mut set = Set::new();
    set.add("db-1");
    set.add("db-2");
    for _ in 0..4 {
        set.cluster.turn().await;
    }
    let before = set.pod("db-1").resource_version();
    let lease = set.api.get::<Lease>(Some("shop"), "db");
    let sequence = set.cluster.agent("shop", "db-1").unwrap().status().sequence;
    for _ in 0..3 {
        set.cluster.turn().await;
    }
    assert_eq!(set.pod("db-1").resource_version(), before);
    assert_eq!(set.api.get::<Lease>(Some("shop"), "db"), lease);
    assert_eq!(
        set.cluster.agent("shop", "db-1").unwrap().status().sequence,
        sequence
    );
}

#[tokio::test]
async fn a_reload_and_a_restart_do_what_a_real_agent_does() {
    let mut set = Set::new();
    set.add("db-1");
    set.cluster.turn().await;
    set.cluster.turn().await;
    let mut operator = set.client("db-1", names::OPERATOR_COMMON_NAME);
    set.api.edit::<ConfigMap>(Some("shop"), "db-config", |map| {
        map.data
            .get_or_insert_default()
            .insert("set.json".into(), "{\"x\":1}".into());
    });
    let hash = config::hash("{\"x\":1}");
    assert_eq!(
        operator.reload(&hash).await.unwrap().config_hash,
        Some(hash)
    );
    let agent = set.cluster.agent("shop", "db-1").unwrap();
    agent.set(|status| status.pending_restart = vec!["shared_buffers".into()]);
    let nonce = agent.status().nonce;
    let after = operator.restart(&nonce, "parameters").await.unwrap();
    assert!(after.pending_restart.is_empty());
    let again = operator.restart(&nonce, "parameters").await;
    assert!(
        matches!(again, Err(ClientError::Refused(code, _)) if code == 409),
        "{again:?}"
    );
    assert_eq!(agent.restarts(), 1);
    agent.refuse_restarts(Some("not now"));
    let refused = operator.restart(&agent.status().nonce, "parameters").await;
    assert!(matches!(refused, Err(ClientError::Refused(_, why)) if why.contains("not now")));
}

#[tokio::test]
async fn a_pod_that_is_deleted_ends_and_a_new_one_goes_to_its_volumes_node() {
    let mut set = Set::new();
    set.add("db-1");
    set.cluster.turn().await;
    set.cluster.turn().await;
    let node = set.pod("db-1").spec.unwrap().node_name;
    let pods: Api<Pod> = Api::namespaced(set.api.client(), "shop");
    pods.delete("db-1", &DeleteParams::default()).await.unwrap();
    assert!(set.pod("db-1").metadata.deletion_timestamp.is_some());
    set.cluster.turn().await;
    assert_eq!(set.api.get::<Pod>(Some("shop"), "db-1"), None);
    assert_eq!(set.cluster.running(), 0);
    let lease: Lease = set.api.get(Some("shop"), "db").unwrap();
    assert_eq!(
        lease.spec.unwrap().holder_identity,
        None,
        "it let the Lease go"
    );
    set.add_pod("db-1");
    set.cluster.turn().await;
    set.cluster.turn().await;
    assert_eq!(set.pod("db-1").spec.unwrap().node_name, node);
    let lease: Lease = set.api.get(Some("shop"), "db").unwrap();
    assert_eq!(
        Record::from_annotations(lease.annotations()).unwrap().epoch,
        2
    );
}
