//! The Deployment of one side.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, PodSecurityContext, PodSpec, PodTemplateSpec,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_shared::agent::config::hash;
use mainstay_shared::agent::paths;
use mainstay_shared::apply::Object;
use mainstay_shared::names;
use mainstay_shared::operator::desired::parts::{
    container_security, environment, install, liveness, port, pull_secrets, readiness, resources,
    seccomp,
};
use mainstay_shared::operator::desired::volumes::{bin, mount, named, scratch, secret};
use mainstay_shared::placement::ZONE;
use serde_json::{Value, json};

use super::super::pod::USER;
use super::{name, selector};
use crate::pooler::GRACE_SECONDS;
use crate::pooler::config::Side;
use crate::settings::{PORT, PORT_NAME};
use crate::validate::{Pooler, Validated};

/// Name of the container.
const CONTAINER: &str = "pgbouncer";

/// The Deployment of a side.
///
/// A new pod costs its clients their connections. So images are changed only together with what the
/// user changes: else those of `live` stay, also when the operator or its catalogue has newer ones.
pub fn deployment(
    v: &Validated,
    pooler: &Pooler,
    side: Side,
    operator_image: &str,
    live: Option<&Object>,
) -> Deployment {
    let revision = revision(v, pooler);
    let pinned = |path: &str| {
        let live = live.filter(|o| annotation(o) == Some(&revision))?;
        live.value.pointer(path)?.as_str().map(str::to_owned)
    };
    let image = pinned("/spec/template/spec/containers/0/image")
        .filter(|_| !pooler.image_is_named)
        .unwrap_or_else(|| pooler.image.clone());
    let agent = pinned("/spec/template/spec/initContainers/0/image")
        .unwrap_or_else(|| operator_image.to_owned());
    let labels = selector(v, side);
    Deployment {
        metadata: v.common.set.owned(name(&v.common.set.name, side)),
        spec: Some(DeploymentSpec {
            replicas: Some(pooler.instances),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some(labels.clone()),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels.clone()),
                    annotations: Some(BTreeMap::from([(names::REVISION.to_owned(), revision)])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(v, pooler, side, image, &agent, &labels)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// What of the resource is in a pod. Sizes of pools and the like are read again by pods that run.
fn revision(v: &Validated, pooler: &Pooler) -> String {
    let image = pooler.image_is_named.then_some(&pooler.image);
    let inputs = json!([
        image,
        pooler.cpu_milli,
        pooler.memory,
        v.common.image_pull_secrets,
        v.common
            .placement
            .as_ref()
            .and_then(|p| p.priority_class.as_ref()),
    ]);
    hash(&inputs.to_string())
}

fn annotation(live: &Object) -> Option<&String> {
    let notes = live.value.pointer("/spec/template/metadata/annotations")?;
    match notes.get(names::REVISION)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn pod(
    v: &Validated,
    pooler: &Pooler,
    side: Side,
    image: String,
    agent: &str,
    labels: &BTreeMap<String, String>,
) -> PodSpec {
    let spread = |key: &str| TopologySpreadConstraint {
        label_selector: Some(LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        }),
        // Those of a template that is being replaced do not count.
        match_label_keys: Some(vec!["pod-template-hash".into()]),
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        ..TopologySpreadConstraint::default()
    };
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(seccomp()),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: pull_secrets(&v.common.image_pull_secrets),
        topology_spread_constraints: Some(vec![spread(ZONE), spread("kubernetes.io/hostname")]),
        priority_class_name: v
            .common
            .placement
            .as_ref()
            .and_then(|p| p.priority_class.clone()),
        init_containers: Some(vec![install(agent)]),
        containers: vec![container(pooler, side, image)],
        volumes: Some(volumes(v)),
        ..PodSpec::default()
    }
}

fn container(pooler: &Pooler, side: Side, image: String) -> Container {
    Container {
        name: CONTAINER.into(),
        image: Some(image),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec![format!("{}/{}", paths::BIN, paths::BINARY)]),
        args: Some(vec![
            "pooler".into(),
            "--side".into(),
            side.word().to_owned(),
        ]),
        env: Some(environment()),
        ports: Some(vec![
            port(PORT_NAME, PORT.into()),
            port("agent", names::AGENT_PORT),
        ]),
        resources: Some(resources(pooler.cpu_milli, pooler.memory, pooler.memory)),
        security_context: Some(container_security()),
        readiness_probe: Some(readiness()),
        liveness_probe: Some(liveness()),
        volume_mounts: Some(vec![
            mount("config", paths::CONFIG, true),
            mount("tls", paths::TLS, true),
            bin(true),
            mount("run", paths::RUN, false),
        ]),
        ..Container::default()
    }
}

fn volumes(v: &Validated) -> Vec<Volume> {
    let pooler = names::pooler(&v.common.set.name);
    vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: pooler.clone(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("config")
        },
        secret("tls", names::certificate(&pooler)),
        scratch("bin", None, None),
        // In memory: the socket of the console, and the rendered configuration.
        scratch("run", Some("Memory"), Some(4 << 20)),
    ]
}
