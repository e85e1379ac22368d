//! The pod of an instance.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, Pod, PodSecurityContext, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_crds::common::quantity;
use mainstay_shared::agent::{api, paths};
use mainstay_shared::instances::plan::role;
use mainstay_shared::operator::desired::Template;
use mainstay_shared::{names, placement};

use super::backup;
use crate::engine::CONTAINER;
use crate::settings::{PORT, PORT_NAME};
use crate::validate::Validated;

pub(in crate::desired) mod volumes;

/// User and group of the official images.
pub(super) const USER: i64 = 999;
/// Seconds for an orderly stop: its checkpoint may have to write all of the cache.
const STOP_SECONDS: i64 = 280;
/// Seconds beyond that for the hard stop, before the kubelet's own.
const MARGIN_SECONDS: i64 = 20;
/// Seconds that the first sign of life may take; the agent answers long before the engine runs.
const START_SECONDS: i32 = 120;

/// The pod of `instance`.
pub fn pod(v: &Validated, instance: &str, template: &Template<'_>) -> Pod {
    let mut metadata = v.set.owned(instance);
    let role = role(instance == template.seat);
    metadata.labels.get_or_insert_default().extend([
        (names::INSTANCE.to_owned(), instance.to_owned()),
        (names::ROLE.to_owned(), role.to_owned()),
    ]);
    let restored = v.recovery.as_ref();
    let restored = restored.filter(|_| instance == template.seat && template.identifier.is_none());
    let seed = v.backup.as_ref().filter(|b| b.seed);
    let beside = backup::Beside {
        backup: v.backup.as_ref(),
        restored,
        seeded: seed.and(template.identifier),
    };
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
            volumes::scratches(&beside).join(","),
        ),
    ]));
    let place = placement::scheduling(&v.set, v.placement.as_ref());
    Pod {
        metadata,
        spec: Some(PodSpec {
            // The DNS name that the instance's certificate bears.
            hostname: Some(instance.to_owned()),
            subdomain: Some(names::peer_service(&v.set.name)),
            service_account_name: Some(v.set.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Always".into()),
            termination_grace_period_seconds: Some(STOP_SECONDS + MARGIN_SECONDS),
            security_context: Some(pod_security()),
            image_pull_secrets: pull_secrets(v),
            affinity: Some(place.affinity),
            topology_spread_constraints: Some(place.spread),
            tolerations: (!place.tolerations.is_empty()).then_some(place.tolerations),
            priority_class_name: place.priority_class,
            init_containers: Some(first(v, template, &beside)),
            containers: vec![engine(v)],
            volumes: Some(volumes::volumes(v, instance, &beside)),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// What is started before the engine: the program, the data where it comes from a repository, and what
/// makes backups, which goes on beside the engine.
fn first(v: &Validated, template: &Template<'_>, beside: &backup::Beside<'_>) -> Vec<Container> {
    let mut all = vec![install(template.operator_image)];
    if beside.restored.is_some() {
        all.push(backup::restore(v));
    }
    if let Some(identifier) = beside.seeded {
        all.push(backup::seed(v, identifier));
    }
    if beside.backup.is_some() {
        all.push(backup::sidecar(v));
    }
    all
}

/// Puts the binary where the engine's image finds it.
pub(super) fn install(image: &str) -> Container {
    Container {
        name: "install".into(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["install".into(), paths::BIN.into()]),
        resources: Some(resources(10, 32 << 20, 64 << 20)),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![volumes::bin(false)]),
        ..Container::default()
    }
}

fn engine(v: &Validated) -> Container {
    let program = format!("{}/{}", paths::BIN, paths::BINARY);
    Container {
        name: CONTAINER.into(),
        image: Some(v.image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![program]),
        args: Some(vec![
            "init".into(),
            "--stop".into(),
            STOP_SECONDS.to_string(),
        ]),
        env: Some(environment()),
        ports: Some(vec![
            port(PORT_NAME, PORT.into()),
            port("agent", names::AGENT_PORT),
        ]),
        resources: Some(resources(v.cpu_milli, v.memory, v.memory)),
        security_context: Some(container_security()),
        // Readiness is what an application waits for at start and at a restart: asked often.
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(3),
            failure_threshold: Some(2),
            ..probe(api::READYZ)
        }),
        // The watchdog in the pod is quicker and knows more; this is for when it fails as well.
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(6),
            ..probe(api::LIVEZ)
        }),
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(3),
            failure_threshold: Some(START_SECONDS),
            ..probe(api::LIVEZ)
        }),
        volume_mounts: Some(volumes::mounts(v.backup.is_some())),
        ..Container::default()
    }
}

pub(super) fn environment() -> Vec<EnvVar> {
    [
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_UID", "metadata.uid"),
        ("POD_IP", "status.podIP"),
        ("NODE_NAME", "spec.nodeName"),
    ]
    .map(|(name, path)| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: path.into(),
            }),
            ..EnvVarSource::default()
        }),
    })
    .to_vec()
}

/// The kubelet does not verify the certificate, and shows none: these two paths tell no secret.
pub(super) fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(names::AGENT_PORT),
            scheme: Some("HTTPS".into()),
            ..HTTPGetAction::default()
        }),
        success_threshold: Some(1),
        ..Probe::default()
    }
}

pub(super) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// Memory is limited, so that a neighbour never pays; processor time is not.
pub(super) fn resources(cpu_milli: i64, memory: i64, limit: i64) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(format!("{cpu_milli}m"))),
            ("memory".to_owned(), quantity::of_bytes(memory)),
        ])),
        limits: Some(BTreeMap::from([(
            "memory".to_owned(),
            quantity::of_bytes(limit),
        )])),
        claims: None,
    }
}

pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Else the kubelet walks all of the data at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(seccomp()),
        ..PodSecurityContext::default()
    }
}

pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

pub(super) fn seccomp() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".into(),
        localhost_profile: None,
    }
}

pub(super) fn pull_secrets(v: &Validated) -> Option<Vec<LocalObjectReference>> {
    let all: Vec<_> = v
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!all.is_empty()).then_some(all)
}
