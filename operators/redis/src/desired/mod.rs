//! From a resource as it is meant to the objects that make it so. Pure: values in, objects out.
//!
//! Pods and claims are made one by one as the planner says; the Secrets depend on what they hold
//! already; everything else is applied as a whole.

pub mod backup;
pub mod config_map;
pub mod credentials;
pub mod drill;
pub mod login;
pub mod memory;
pub mod pod;
pub mod revision;
pub mod sentinel;
#[cfg(test)]
pub(crate) mod tests;

use mainstay_shared::apply::Object;
use mainstay_shared::network::Flows;
use mainstay_shared::operator::desired::drill::policy;
use mainstay_shared::operator::desired::{DesiredError, Objects, Surroundings, of_every_set};
use mainstay_shared::traffic::EnginePort;

use crate::settings::{BUS_PORT, PORT, PORT_NAME, SENTINEL_PORT};
use crate::validate::Validated;

/// The engine's port in Services.
const ENGINE_PORT: EnginePort = EnginePort {
    name: PORT_NAME,
    number: PORT,
};

/// The objects of a set.
///
/// # Errors
/// When no API server's address is known; then nothing is to be applied or pruned in this pass.
pub fn objects(v: &Validated, around: &Surroundings<'_>) -> Result<Objects, DesiredError> {
    let stores = backup::stores(v);
    let flows = Flows {
        engine_port: PORT,
        client_ports: if v.sentinel { &[SENTINEL_PORT] } else { &[] },
        peer_ports: if v.shards.is_some() { &[BUS_PORT] } else { &[] },
        operator_namespace: around.operator_namespace,
        api_servers: around.api_servers,
        clients: &v.common.clients,
        poolers: false,
        backups: v.backup.is_some(),
        stores: &stores,
    };
    let config_map = config_map::config_map(v, around.members, around.zones)?;
    let mut objects = of_every_set(&v.common, &flows, ENGINE_PORT, config_map)?;
    let store = v.backup.as_ref().and_then(|b| b.access.port);
    if let Some(policy) = policy(&v.common, store, around.drilling) {
        objects.apply.push(Object::of(&policy)?);
    }
    if v.sentinel {
        objects
            .apply
            .push(Object::of(&sentinel::service(&v.common.set))?);
    }
    Ok(objects)
}
