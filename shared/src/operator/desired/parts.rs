//! What pods are put together from.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodSecurityContext, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_crds::common::quantity;

use super::volumes::bin;
use crate::agent::{api, paths};
use crate::names;

/// Puts the binary where the engine's image finds it.
pub fn install(image: &str) -> Container {
    Container {
        name: "install".into(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec!["install".into(), paths::BIN.into()]),
        resources: Some(resources(10, 32 << 20, 64 << 20)),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![bin(false)]),
        ..Container::default()
    }
}

/// What programs of ours know of their pod.
pub fn environment() -> Vec<EnvVar> {
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
pub fn probe(path: &str) -> Probe {
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

/// Readiness is what an application waits for at start and at a restart: asked often.
pub fn readiness() -> Probe {
    Probe {
        period_seconds: Some(2),
        timeout_seconds: Some(3),
        failure_threshold: Some(2),
        ..probe(api::READYZ)
    }
}

/// The watchdog in the pod is quicker and knows more; this is for when it fails as well.
pub fn liveness() -> Probe {
    Probe {
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..probe(api::LIVEZ)
    }
}

/// A port of a container.
pub fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

/// Processor time in thousandths of a processor, memory in bytes. Memory is limited, so that a neighbour never pays;
/// processor time is not.
pub fn resources(cpu_milli: i64, memory: i64, limit: i64) -> ResourceRequirements {
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

/// A pod whose processes are this user and group.
pub fn pod_security(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        fs_group: Some(user),
        // Else the kubelet walks all of the data at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(seccomp()),
        ..PodSecurityContext::default()
    }
}

/// A container that may do nothing but run, and writes to its volumes alone.
pub fn container_security() -> SecurityContext {
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

/// The runtime's own filter of system calls.
pub fn seccomp() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".into(),
        localhost_profile: None,
    }
}

/// Secrets with registry credentials, by their names.
pub fn pull_secrets(names: &[String]) -> Option<Vec<LocalObjectReference>> {
    let all: Vec<_> = names
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!all.is_empty()).then_some(all)
}
