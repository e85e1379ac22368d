//! The pod of an instance.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use mainstay_shared::agent::{api, paths};
use mainstay_shared::instances::plan::role;
use mainstay_shared::operator::desired::Template;
use mainstay_shared::operator::desired::parts::{
    container_security, environment, install, pod_security, port, probe, pull_secrets, resources,
};
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
    let mut metadata = v.common.set.owned(instance);
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
    let place = placement::scheduling(&v.common.set, v.common.placement.as_ref());
    Pod {
        metadata,
        spec: Some(PodSpec {
            // The DNS name that the instance's certificate bears.
            hostname: Some(instance.to_owned()),
            subdomain: Some(names::peer_service(&v.common.set.name)),
            service_account_name: Some(v.common.set.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Always".into()),
            termination_grace_period_seconds: Some(STOP_SECONDS + MARGIN_SECONDS),
            security_context: Some(pod_security(USER)),
            image_pull_secrets: pull_secrets(&v.common.image_pull_secrets),
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

fn engine(v: &Validated) -> Container {
    let program = format!("{}/{}", paths::BIN, paths::BINARY);
    Container {
        name: CONTAINER.into(),
        image: Some(v.common.image.clone()),
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
        resources: Some(resources(
            v.common.cpu_milli,
            v.common.memory,
            v.common.memory,
        )),
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
