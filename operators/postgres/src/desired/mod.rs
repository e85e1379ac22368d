//! From a resource as it is meant to the objects that make it so. Pure: values in, objects out.
//!
//! Pods and claims are made one by one as the planner says; the Secrets depend on what they hold
//! already; everything else is applied as a whole.

pub mod backup;
pub mod config_map;
pub mod credentials;
pub mod drill;
pub mod keys;
pub mod parameters;
pub mod pod;
pub mod pooler;
pub mod revision;
pub mod scram;
#[cfg(test)]
pub(crate) mod tests;

use mainstay_shared::apply::Object;
use mainstay_shared::network::{self, Flows};
use mainstay_shared::operator::desired::{DesiredError, Objects, Surroundings};
use mainstay_shared::traffic::EnginePort;
use mainstay_shared::{placement, rights, traffic};

use crate::settings::{PORT, PORT_NAME};
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
    let set = &v.common.set;
    let stores = backup::stores(v);
    let flows = Flows {
        engine_port: PORT,
        operator_namespace: around.operator_namespace,
        api_servers: around.api_servers,
        clients: &v.common.clients,
        poolers: v.pooler.is_some(),
        backups: v.backup.is_some(),
        stores: &stores,
    };
    let policy = network::policy(set, &flows);
    let (Some(policy), Some((address, _))) = (policy, around.api_servers.first()) else {
        return Err(DesiredError::ApiServersUnknown);
    };
    let (config_map, config_hash) = config_map::config_map(v, around.members, around.zones)?;
    let mut apply = vec![
        Object::of(&policy)?,
        Object::of(&rights::service_account(set))?,
        Object::of(&rights::role(set))?,
        Object::of(&rights::role_binding(set))?,
        Object::of(&config_map)?,
        Object::of(&traffic::primary_service(set, ENGINE_PORT))?,
        Object::of(&traffic::replica_service(set, ENGINE_PORT))?,
        Object::of(&traffic::peer_service(set, ENGINE_PORT))?,
    ];
    if let Some(budget) = placement::disruption_budget(set, v.common.instances) {
        apply.push(Object::of(&budget)?);
    }
    if let Some(wanted) = &v.pooler {
        apply.extend(pooler::objects(v, wanted, &flows, around)?);
    }
    let drills = v.backup.as_ref().is_some_and(|b| b.drill.is_some());
    if drills || around.drilling {
        // It is there before the first pod and goes after the last.
        apply.push(Object::of(&drill::policy(v))?);
    }
    // The primary family of the cluster's Services is that of the API server's own.
    let slice = traffic::primary_slice(set, ENGINE_PORT, *address);
    Ok(Objects {
        apply,
        once: vec![Object::of(&slice)?],
        config_hash,
    })
}
