//! Bad networks, placements, certificates, deletions and secrets.

use mainstay_crds::common::sentences;
use serde_json::{Value, json};

use super::By::{Both, Operator, Schema};
use super::{Case, spec};

/// What a set cannot be given around it.
pub fn cases() -> Vec<Case> {
    let client = |what, client: Value| {
        spec(
            what,
            Both,
            "spec.network.clients[0]",
            sentences::CLIENT_SELECTS,
            json!({ "network": { "clients": [client] } }),
        )
    };
    let labels = |what, field, patch: Value| spec(what, Both, field, sentences::LABELS, patch);
    let key = |what, key: &str| {
        spec(
            what,
            Both,
            "spec.placement.dedicatedNodes.key",
            sentences::DEDICATED_KEY,
            json!({ "placement": { "dedicatedNodes": { "key": key, "value": "x" } } }),
        )
    };
    let hours = |what, n: i32| {
        spec(
            what,
            Both,
            "spec.tls.certificateHours",
            sentences::CERTIFICATE_HOURS,
            json!({ "tls": { "certificateHours": n } }),
        )
    };
    vec![
        client("a client chosen by nothing", json!({})),
        client(
            "a client chosen by no label",
            json!({ "podLabels": {}, "namespaceLabels": {} }),
        ),
        labels(
            "a client's label with a space",
            "spec.network.clients[0].podLabels",
            json!({ "network": { "clients": [{ "podLabels": { "a b": "c" } }] } }),
        ),
        labels(
            "a node label with a bad value",
            "spec.placement.nodeLabels",
            json!({ "placement": { "nodeLabels": { "disk": "-ssd-" } } }),
        ),
        key(
            "dedicated nodes with a taint in one text",
            "dedicated=db:NoSchedule",
        ),
        key("dedicated nodes with two slashes", "a/b/c"),
        spec(
            "dedicated nodes with a bad value",
            Both,
            "spec.placement.dedicatedNodes.value",
            sentences::DEDICATED_VALUE,
            json!({ "placement": { "dedicatedNodes": { "key": "db", "value": "a b" } } }),
        ),
        spec(
            "another requirement",
            Schema,
            "spec.placement.zones",
            "supported values: \"Required\", \"Preferred\"",
            json!({ "placement": { "zones": "Always" } }),
        ),
        spec(
            "no name of a priority class",
            Both,
            "spec.placement.priorityClass",
            sentences::PRIORITY_CLASS,
            json!({ "placement": { "priorityClass": "Very High" } }),
        ),
        spec(
            "no name of a storage class",
            Both,
            "spec.storage.class",
            sentences::STORAGE_CLASS,
            json!({ "storage": { "class": "" } }),
        ),
        hours("certificates that end at once", 0),
        hours("certificates for ten years", 87_600),
        spec(
            "a misspelt field",
            Schema,
            "",
            "unknown field \"spec.instancse\"",
            json!({ "instancse": 3 }),
        ),
        spec(
            "the same pull secret twice, as the operator says it",
            Operator,
            "spec.imagePullSecrets",
            "login is there twice: write it once",
            json!({ "imagePullSecrets": ["login", "login"] }),
        ),
    ]
}
