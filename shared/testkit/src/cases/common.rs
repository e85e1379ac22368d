//! What is bad in every kind. The good resource has a volume of 20Gi in the class `fast`.

use mainstay_crds::common::sentences;
use serde_json::{Value, json};

use super::{By, Case, case, maintenance, spec};

/// Every such case.
pub(crate) fn cases() -> Vec<Case> {
    [
        of_metadata(),
        of_sizes(),
        of_changes(),
        of_surroundings(),
        maintenance::cases(),
    ]
    .concat()
}

/// Names, images, pull secrets and pauses.
fn of_metadata() -> Vec<Case> {
    use By::{Both, Operator, Schema};
    let name = |what, name: &str| {
        case(
            what,
            Both,
            "",
            sentences::NAME,
            json!({ "metadata": { "name": name } }),
        )
    };
    let image = |what, image: &str| {
        spec(
            what,
            Both,
            "spec.image",
            sentences::IMAGE,
            json!({ "image": image }),
        )
    };
    vec![
        name(
            "a name too long for what is derived from it",
            &"a".repeat(51),
        ),
        name("a name with a dot", "db.shop"),
        name("a name that begins with a digit", "1db"),
        image("latest image", "engine:latest"),
        image("an image without tag", "engine"),
        image(
            "an image without tag at a port",
            "registry.example.com:5000/engine",
        ),
        image("no image", ""),
        image("an image with a space", "engine: 17"),
        spec(
            "a pull secret twice",
            Schema,
            "spec.imagePullSecrets[1]",
            "Duplicate value: \"login\"",
            json!({ "imagePullSecrets": ["login", "login"] }),
        ),
        spec(
            "a pull secret that is no name",
            Both,
            "spec.imagePullSecrets",
            sentences::PULL_SECRETS,
            json!({ "imagePullSecrets": ["My Login"] }),
        ),
        case(
            "a pause that is none",
            Operator,
            "metadata.annotations[mainstay.dev/reconcile]",
            "write paused, or remove the annotation; \"pause\" means nothing",
            json!({ "metadata": { "annotations": { "mainstay.dev/reconcile": "pause" } } }),
        ),
        spec(
            "instances as text",
            Schema,
            "spec.instances",
            "must be of type integer",
            json!({ "instances": "3" }),
        ),
        spec(
            "a version left out",
            Schema,
            "spec.version",
            "Required value",
            json!({ "version": null }),
        ),
    ]
}

fn of_sizes() -> Vec<Case> {
    use By::{Both, Schema};
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
        memory("memory that no engine starts in", json!("64Mi")),
        memory("memory of a number", json!(2)),
        memory("memory of more than there is", json!("1Pi")),
        cpu("no processor time", json!("0")),
        cpu("negative processor time", json!("-1")),
        cpu("processor time in memory's unit", json!("2Gi")),
        cpu("processor time in words", json!("two")),
    ]
}

fn of_changes() -> Vec<Case> {
    use By::Change;
    vec![
        spec(
            "shrinking storage",
            Change,
            "spec.storage.size",
            sentences::STORAGE_SHRINKS,
            json!({ "storage": { "size": "10Gi" } }),
        ),
        spec(
            "storage that shrinks by its unit",
            Change,
            "spec.storage.size",
            sentences::STORAGE_SHRINKS,
            json!({ "storage": { "size": "20G" } }),
        ),
        spec(
            "another storage class",
            Change,
            "spec.storage",
            sentences::STORAGE_CLASS_CHANGES,
            json!({ "storage": { "class": "slow" } }),
        ),
        spec(
            "a storage class left out",
            Change,
            "spec.storage",
            sentences::STORAGE_CLASS_CHANGES,
            json!({ "storage": { "class": null } }),
        ),
    ]
}

fn of_surroundings() -> Vec<Case> {
    use By::{Both, Operator, Schema};
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
