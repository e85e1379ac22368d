//! The poolers: Deployments of PgBouncer with our program around it, and what belongs to them.

pub mod certificate;
mod deployment;

#[cfg(test)]
pub(super) use deployment::deployment as deployment_of;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mainstay_shared::agent::paths;
use mainstay_shared::apply::Object;
use mainstay_shared::names;
use mainstay_shared::network::{self, Flows};
use serde_json::Value;

use super::{DesiredError, Surroundings};
use crate::engine::DEPLOYMENT;
use crate::pooler::config::{PoolerConfig, Side};
use crate::settings::{PORT, PORT_NAME};
use crate::validate::{Pooler, Validated};

/// Name of the Deployment and Service of a side.
pub fn name(set: &str, side: Side) -> String {
    match side {
        Side::Primary => names::primary_pooler(set),
        Side::Replicas => names::replica_pooler(set),
    }
}

/// Whether an object of that name is a pooler's: the set is looked after without it, too.
pub fn is_of_pooler(set: &str, name: &str) -> bool {
    name.strip_prefix(&names::pooler(set))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The sides that are wanted.
pub fn sides(pooler: &Pooler) -> impl Iterator<Item = Side> {
    let replicas = pooler.replicas.then_some(Side::Replicas);
    std::iter::once(Side::Primary).chain(replicas)
}

/// Labels of the pods of a side.
pub fn selector(v: &Validated, side: Side) -> BTreeMap<String, String> {
    let mut labels = v.common.set.pooler_selector();
    labels.insert(names::COMPONENT.to_owned(), side.word().to_owned());
    labels
}

/// Everything but the certificate.
pub fn objects(
    v: &Validated,
    pooler: &Pooler,
    flows: &Flows<'_>,
    around: &Surroundings<'_>,
) -> Result<Vec<Object>, DesiredError> {
    let mut all = vec![Object::of(&config_map(v, pooler)?)?, Object::of(&peers(v))?];
    if let Some(policy) = network::pooler_policy(&v.common.set, flows) {
        all.push(Object::of(&policy)?);
    }
    for side in sides(pooler) {
        let live = around.live.iter().find(|o| {
            o.resource.kind == DEPLOYMENT && o.meta("name") == Some(&name(&v.common.set.name, side))
        });
        let deployment = deployment::deployment(v, pooler, side, around.operator_image, live);
        all.push(Object::of(&deployment)?);
        all.push(Object::of(&service(v, side))?);
        if pooler.instances > 1 {
            all.push(Object::of(&budget(v, pooler, side))?);
        }
    }
    Ok(all)
}

/// What the pods must know.
pub fn config(v: &Validated, pooler: &Pooler) -> PoolerConfig {
    PoolerConfig {
        set: v.common.set.name.clone(),
        namespace: v.common.set.namespace.clone(),
        mode: pooler.mode,
        pool_size: pooler.pool_size,
        max_connections: pooler.max_connections,
        pause_seconds: pooler.settings().pause_seconds,
    }
}

fn config_map(v: &Validated, pooler: &Pooler) -> Result<ConfigMap, serde_json::Error> {
    let text = serde_json::to_string_pretty(&config(v, pooler))?;
    Ok(ConfigMap {
        metadata: v.common.set.owned(names::pooler(&v.common.set.name)),
        data: Some(BTreeMap::from([(paths::CONFIG_FILE.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

fn service(v: &Validated, side: Side) -> Service {
    Service {
        metadata: v.common.set.owned(name(&v.common.set.name, side)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            ports: Some(vec![port(PORT_NAME, PORT.into())]),
            selector: Some(selector(v, side)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Addresses of all pods, also of those that are not ready: they may have clients all the same.
fn peers(v: &Validated) -> Service {
    Service {
        metadata: v.common.set.owned(names::pooler_peers(&v.common.set.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![port("agent", names::AGENT_PORT)]),
            selector: Some(v.common.set.pooler_selector()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

fn budget(v: &Validated, pooler: &Pooler, side: Side) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: v.common.set.owned(name(&v.common.set.name, side)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(pooler.instances - 1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector(v, side)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// How many pods of a live Deployment of the newest template are ready.
pub fn ready(live: &Object) -> i64 {
    let number = |path: &str| live.value.pointer(path).and_then(Value::as_i64);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return 0;
    }
    let ready = number("/status/readyReplicas").unwrap_or_default();
    ready.min(number("/status/updatedReplicas").unwrap_or_default())
}
