//! What the API server fills in, for the kinds that operators apply: so that a test of "nothing is
//! written twice" meets the differences that the real one makes.

use serde_json::{Value, json};

/// Fill in what was left out, and leave out what is empty.
pub fn fill(object: &mut Value, serial: u64) {
    match object["kind"].as_str().unwrap_or_default() {
        "Service" => service(object, serial),
        "NetworkPolicy" => {
            for direction in ["ingress", "egress"] {
                let rules = object["spec"]
                    .get_mut(direction)
                    .and_then(Value::as_array_mut);
                for port in rules
                    .into_iter()
                    .flatten()
                    .filter_map(|r| r.get_mut("ports"))
                {
                    protocols(port);
                }
            }
        }
        "Pod" => {
            let spec = &mut object["spec"];
            absent(spec, "restartPolicy", "Always".into());
            absent(spec, "dnsPolicy", "ClusterFirst".into());
            absent(spec, "schedulerName", "default-scheduler".into());
            absent(spec, "terminationGracePeriodSeconds", 30.into());
            let added = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300}]);
            absent(spec, "tolerations", added);
        }
        "PersistentVolumeClaim" => absent(&mut object["spec"], "volumeMode", "Filesystem".into()),
        "Secret" => {
            absent(object, "type", "Opaque".into());
        }
        "EndpointSlice" => {
            if let Some(ports) = object.get_mut("ports") {
                protocols(ports);
            }
        }
        _ => {}
    }
    drop_empty(object);
}

fn service(object: &mut Value, serial: u64) {
    let spec = &mut object["spec"];
    absent(spec, "type", "ClusterIP".into());
    absent(spec, "sessionAffinity", "None".into());
    absent(spec, "internalTrafficPolicy", "Cluster".into());
    // On loopback, so that what a program sends there never leaves the machine.
    absent(
        spec,
        "clusterIP",
        format!("127.0.{}.{}", serial / 250 % 250 + 1, serial % 250 + 1).into(),
    );
    let address = spec["clusterIP"].clone();
    absent(spec, "clusterIPs", json!([address]));
    if let Some(ports) = spec.get_mut("ports") {
        protocols(ports);
        for port in ports.as_array_mut().into_iter().flatten() {
            let number = port["port"].clone();
            absent(port, "targetPort", number);
        }
    }
}

fn protocols(ports: &mut Value) {
    for port in ports.as_array_mut().into_iter().flatten() {
        absent(port, "protocol", "TCP".into());
    }
}

fn absent(map: &mut Value, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map[key] = value;
    }
}

/// Null, and empty lists of built-in kinds, are not stored. Empty maps may have a meaning
/// (`podSelector: {}`) and stay, but for those of the metadata.
fn drop_empty(object: &mut Value) {
    let custom = object["apiVersion"].as_str().is_some_and(|version| {
        version
            .split_once('/')
            .is_some_and(|(group, _)| group.contains('.') && !group.ends_with(".k8s.io"))
    });
    drop_nulls(object, !custom);
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
}

fn drop_nulls(value: &mut Value, lists: bool) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(|value| drop_nulls(value, lists));
            let kept =
                |v: &Value| !v.is_null() && (!lists || v.as_array().is_none_or(|l| !l.is_empty()));
            map.retain(|_, value| kept(value));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| drop_nulls(value, lists)),
        _ => {}
    }
}
