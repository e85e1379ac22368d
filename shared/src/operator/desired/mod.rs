//! From a resource as it is meant to the objects that make it so, as far as every add-on does it alike. Pure: values
//! in, objects out.
//!
//! Pods and claims are made one by one as the planner says; the Secrets depend on what they hold
//! already; everything else is applied as a whole.

pub mod backup;
pub mod backup_keys;
pub mod certificate;
pub mod claim;
pub mod credentials;
pub mod drill;
pub mod parts;
pub mod pod;
pub mod revision;
pub mod shred;
pub mod store;
pub mod volumes;
pub mod zones;

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::ConfigMap;

use self::revision::Revision;
use crate::agent::config::Zones;
use crate::apply::Object;
use crate::network::{self, Flows};
use crate::operator::validated::Common;
use crate::traffic::{self, EnginePort};
use crate::{placement, rights};

/// What the objects depend on besides the resource.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// Namespace of the operator.
    pub operator_namespace: &'a str,
    /// Addresses and ports of the API servers, as the EndpointSlice `kubernetes` has them.
    pub api_servers: &'a BTreeSet<(IpAddr, u16)>,
    /// Names of the instances that belong to the set.
    pub members: &'a [String],
    /// Zones of their nodes.
    pub zones: &'a Zones,
    /// The operator's own image.
    pub operator_image: &'a str,
    /// Whether a drill is there that may still have its pod.
    pub drilling: bool,
    /// What is there already.
    pub live: &'a [Object],
}

/// The objects of a set, without pods, claims, Lease and Secrets.
#[derive(Clone, Debug)]
pub struct Objects {
    /// To apply in every pass, if they differ.
    pub apply: Vec<Object>,
    /// To create when absent, and to leave alone from then on.
    pub once: Vec<Object>,
    /// Hash of the configuration, for the pods' annotation and the agents.
    pub config_hash: String,
}

/// The objects that every engine's sets have: policy, rights, configuration, Services and budget.
///
/// # Errors
/// When no API server's address is known; then nothing is to be applied or pruned in this pass.
pub fn of_every_set(
    common: &Common,
    flows: &Flows<'_>,
    port: EnginePort,
    (config_map, config_hash): (ConfigMap, String),
) -> Result<Objects, DesiredError> {
    let set = &common.set;
    let policy = network::policy(set, flows);
    let (Some(policy), Some((address, _))) = (policy, flows.api_servers.first()) else {
        return Err(DesiredError::ApiServersUnknown);
    };
    let mut apply = vec![
        Object::of(&policy)?,
        Object::of(&rights::service_account(set))?,
        Object::of(&rights::role(set))?,
        Object::of(&rights::role_binding(set))?,
        Object::of(&config_map)?,
        Object::of(&traffic::peer_service(set, port))?,
    ];
    if common.self_led {
        apply.push(Object::of(&traffic::members_service(set, port))?);
    } else {
        apply.push(Object::of(&traffic::primary_service(set, port))?);
        apply.push(Object::of(&traffic::replica_service(set, port))?);
    }
    if let Some(budget) = placement::disruption_budget(set, common.instances) {
        apply.push(Object::of(&budget)?);
    }
    if common.self_led {
        return Ok(Objects {
            apply,
            once: Vec::new(),
            config_hash,
        });
    }
    // The primary family of the cluster's Services is that of the API server's own.
    let slice = traffic::primary_slice(set, port, *address);
    Ok(Objects {
        apply,
        once: vec![Object::of(&slice)?],
        config_hash,
    })
}

/// The objects cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// Without an API server's address the network policy would cut the agents off.
    #[error(
        "the addresses of the API server are not known yet: the EndpointSlice kubernetes in namespace default has none"
    )]
    ApiServersUnknown,
    /// An object cannot be written as JSON.
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a pod is made from, besides the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    /// The operator's own image, which holds the agent.
    pub operator_image: &'a str,
    /// Name of the instance that may be primary.
    pub seat: &'a str,
    /// Revision of the resource.
    pub revision: &'a Revision,
    /// Hash of the configuration as applied.
    pub config_hash: &'a str,
    /// Identifier of the set's data, if it has some: then no set is made from a repository any more, and replicas may be.
    pub identifier: Option<&'a str>,
}
