//! Bad sizes.

use mainstay_crds::common::sentences;
use serde_json::{Value, json};

use super::By::{Both, Schema};
use super::{Case, spec};

/// Sizes that are none.
pub fn cases() -> Vec<Case> {
    let storage = |what, size: Value| {
        spec(
            what,
            Both,
            "spec.storage.size",
            sentences::STORAGE_SIZE,
            json!({ "storage": { "size": size } }),
        )
    };
    let memory = |what, size: Value| {
        spec(
            what,
            Both,
            "spec.resources.memory",
            sentences::MEMORY,
            json!({ "resources": { "memory": size } }),
        )
    };
    let cpu = |what, time: Value| {
        spec(
            what,
            Both,
            "spec.resources.cpu",
            sentences::CPU,
            json!({ "resources": { "cpu": time } }),
        )
    };
    vec![
        storage("storage of nothing", json!("0")),
        storage("storage below nothing", json!("-20Gi")),
        storage("storage of a page", json!("1Ki")),
        storage("storage without unit", json!(20)),
        storage("storage in no unit of Kubernetes", json!("20GB")),
        storage("storage in words", json!("much")),
        storage("storage of more than there is", json!("1Ei")),
        spec(
            "storage left out",
            Schema,
            "spec.storage.size",
            "Required value",
            json!({ "storage": { "size": null } }),
        ),
        memory("memory of millibytes", json!("512m")),
        memory("memory that PostgreSQL cannot start in", json!("64Mi")),
        memory("memory of a number", json!(2)),
        memory("memory of more than there is", json!("1Pi")),
        cpu("no processor time", json!("0")),
        cpu("negative processor time", json!("-1")),
        cpu("processor time in memory's unit", json!("2Gi")),
        cpu("processor time in words", json!("two")),
    ]
}
