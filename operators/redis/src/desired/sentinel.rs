//! What an endpoint for clients of a Sentinel adds to a set. What it answers is the agents' (`agent::sentinel`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use mainstay_shared::metadata::SetId;
use mainstay_shared::traffic::{EnginePort, agents_service};

use crate::settings::{SENTINEL_PORT, SENTINEL_PORT_NAME};

/// Keys of an application's Secret by which it is found: host, port, and under which name the primary is asked for.
pub const KEYS: [&str; 3] = ["sentinel-host", "sentinel-master", "sentinel-port"];

/// Name of its Service.
pub fn name(set: &str) -> String {
    format!("{set}-sentinel")
}

/// Its Service. Any agent answers, whatever its engine does: by readiness it would lead nowhere just when clients look for
/// the next primary.
pub fn service(set: &SetId) -> Service {
    let port = EnginePort {
        name: SENTINEL_PORT_NAME,
        number: SENTINEL_PORT,
    };
    agents_service(set, name(&set.name), port)
}

/// What an application must know to use it.
pub fn keys(set: &SetId) -> BTreeMap<String, String> {
    let values = [
        format!("{}.{}.svc", name(&set.name), set.namespace),
        set.name.clone(),
        SENTINEL_PORT.to_string(),
    ];
    KEYS.iter().map(|k| (*k).to_owned()).zip(values).collect()
}
