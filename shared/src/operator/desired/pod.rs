//! The pod of an instance, as far as every engine's is alike.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Probe,
    Volume, VolumeMount,
};

use super::Template;
use super::parts::{
    container_security, environment, liveness, pod_security, port, probe, pull_secrets, readiness,
    resources,
};
use super::volumes::{bin, mount, named, scratch, secret, service_account};
use crate::agent::{api, paths};
use crate::instances::plan::role;
use crate::operator::validated::Common;
use crate::{names, placement};

/// Seconds beyond the orderly stop for the hard one, before the kubelet's own.
const MARGIN_SECONDS: i64 = 20;
/// Volumes that every pod has for as long as it lives.
pub const SCRATCH: [&str; 3] = ["bin", "run", "tmp"];

/// What differs from engine to engine.
#[derive(Clone, Debug)]
pub struct Shape {
    /// User and group of its processes.
    pub user: i64,
    /// Seconds for an orderly stop.
    pub stop_seconds: i64,
    /// Names of volumes that live and die with the pod.
    pub scratches: Vec<&'static str>,
    /// What is started before the engine, or beside it.
    pub first: Vec<Container>,
    /// The engine's container.
    pub engine: Container,
    /// The pod's volumes.
    pub volumes: Vec<Volume>,
}

/// The pod of `instance`.
pub fn pod(common: &Common, instance: &str, template: &Template<'_>, shape: Shape) -> Pod {
    let set = &common.set;
    let mut metadata = set.owned(instance);
    let role = role(instance == template.seat);
    metadata.labels.get_or_insert_default().extend([
        (names::INSTANCE.to_owned(), instance.to_owned()),
        (names::ROLE.to_owned(), role.to_owned()),
    ]);
    metadata.annotations = Some(BTreeMap::from([
        (names::REVISION.to_owned(), template.revision.hash.clone()),
        (names::TEMPLATE.to_owned(), template.revision.inputs.clone()),
        (
            names::CONFIG_HASH.to_owned(),
            template.config_hash.to_owned(),
        ),
        // Nothing in the pod's own folders is missed: let a node that is not needed go.
        (
            "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes".to_owned(),
            shape.scratches.join(","),
        ),
    ]));
    let place = placement::scheduling(set, common.placement.as_ref());
    Pod {
        metadata,
        spec: Some(PodSpec {
            // The DNS name that the instance's certificate bears.
            hostname: Some(instance.to_owned()),
            subdomain: Some(names::peer_service(&set.name)),
            service_account_name: Some(set.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Always".into()),
            termination_grace_period_seconds: Some(shape.stop_seconds + MARGIN_SECONDS),
            security_context: Some(pod_security(shape.user)),
            image_pull_secrets: pull_secrets(&common.image_pull_secrets),
            affinity: Some(place.affinity),
            topology_spread_constraints: Some(place.spread),
            tolerations: (!place.tolerations.is_empty()).then_some(place.tolerations),
            priority_class_name: place.priority_class,
            init_containers: Some(shape.first),
            containers: vec![shape.engine],
            volumes: Some(shape.volumes),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The container of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Its name.
    pub name: &'a str,
    /// Name of the port, as Services have it.
    pub port_name: &'a str,
    /// Port on which clients reach it.
    pub port: u16,
    /// Seconds for an orderly stop.
    pub stop_seconds: i64,
    /// Seconds that the first sign of life may take; the agent answers long before the engine runs.
    pub start_seconds: i32,
}

/// The engine's container: our program in the engine's image.
pub fn server(common: &Common, server: Server<'_>, mounts: Vec<VolumeMount>) -> Container {
    let program = format!("{}/{}", paths::BIN, paths::BINARY);
    Container {
        name: server.name.into(),
        image: Some(common.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![program]),
        args: Some(vec![
            "init".into(),
            "--stop".into(),
            server.stop_seconds.to_string(),
        ]),
        env: Some(environment()),
        ports: Some(vec![
            port(server.port_name, server.port.into()),
            port("agent", names::AGENT_PORT),
        ]),
        resources: Some(resources(common.cpu_milli, common.memory, common.memory)),
        security_context: Some(container_security()),
        readiness_probe: Some(readiness()),
        liveness_probe: Some(liveness()),
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(3),
            failure_threshold: Some(server.start_seconds),
            ..probe(api::LIVEZ)
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// The volumes of `instance`, with the engine's own.
pub fn volumes(set: &str, instance: &str, own: Vec<Volume>) -> Vec<Volume> {
    let mut all = vec![
        Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::data_claim(instance),
                read_only: None,
            }),
            ..named("data")
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: names::config_map(set),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("config")
        },
        secret("tls", names::certificate(instance)),
        secret("access", names::access_secret(set)),
        Volume {
            projected: Some(service_account()),
            ..named("service-account")
        },
        scratch("bin", None, None),
        // In memory: the agent's heart-beat must not wait for a disk.
        scratch("run", Some("Memory"), Some(16 << 20)),
    ];
    all.extend(own);
    all.push(scratch("tmp", None, None));
    all
}

/// The mounts of the engine's container, with the engine's own: the data at `data`.
pub fn mounts(data: &str, own: Vec<VolumeMount>) -> Vec<VolumeMount> {
    let mut all = vec![
        mount("data", data, false),
        mount("config", paths::CONFIG, true),
        mount("tls", paths::TLS, true),
        mount("access", paths::ACCESS, true),
        mount("service-account", paths::SERVICE_ACCOUNT, true),
        // Writable for the agent that is upgraded in place.
        bin(false),
        mount("run", paths::RUN, false),
    ];
    all.extend(own);
    all.push(mount("tmp", "/tmp", false));
    all
}
