//! What must hold of every object that an operator makes.

use serde_json::{Value, json};

/// What the pod security standard `restricted` refuses in a pod, and a root file system that can
/// be written.
pub fn unrestricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let spec = &pod["spec"];
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        check(spec[host] != true, host);
    }
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in spec["volumes"].as_array().unwrap() {
        let kinds = volume.as_object().unwrap().keys();
        check(
            kinds
                .filter(|k| *k != "name")
                .all(|k| allowed.contains(&k.as_str())),
            "kind of a volume",
        );
    }
    let context = &spec["securityContext"];
    check(context["runAsUser"] != 0, "runs as root");
    check(context["sysctls"].is_null(), "sysctls");
    let both = ["initContainers", "containers"];
    for container in both.iter().flat_map(|k| spec[*k].as_array().unwrap()) {
        let own = &container["securityContext"];
        let name = container["name"].as_str().unwrap();
        let either = |key: &str| {
            if own[key].is_null() {
                &context[key]
            } else {
                &own[key]
            }
        };
        check(own["privileged"] != true, name);
        check(own["allowPrivilegeEscalation"] == false, name);
        check(own["capabilities"]["drop"] == json!(["ALL"]), name);
        check(own["capabilities"]["add"].is_null(), name);
        check(own["readOnlyRootFilesystem"] == true, name);
        check(*either("runAsNonRoot") == true, name);
        check(either("seccompProfile")["type"] == "RuntimeDefault", name);
        for port in container["ports"].as_array().into_iter().flatten() {
            check(port["hostPort"].is_null(), name);
        }
        let requests = &container["resources"]["requests"];
        check(
            requests["cpu"].is_string() && requests["memory"].is_string(),
            name,
        );
        check(container["resources"]["limits"]["memory"].is_string(), name);
        let image = container["image"].as_str().unwrap();
        check(!image.ends_with(":latest"), name);
    }
    found
}

/// Whether a text may be a DNS label, which most names are.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
