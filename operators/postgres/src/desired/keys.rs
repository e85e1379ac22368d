//! The pod that removes copies of keys from a repository. It belongs to the operation and goes with it.

use k8s_openapi::api::core::v1::Pod;
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::operation::Operation;
use mainstay_shared::operator::desired::shred;

use super::pod::USER;
use crate::engine::APP;
use crate::validate::backup::Access;

/// The pod. No key is in it.
///
/// # Errors
/// When its settings cannot be written as JSON, which they always can.
pub fn pod(
    operation: &Operation,
    settings: &ShredSettings,
    access: &Access,
    operator_image: &str,
) -> Result<Pod, serde_json::Error> {
    shred::pod(operation, settings, access, operator_image, (APP, USER))
}

#[cfg(test)]
mod tests {
    use mainstay_shared::operator::desired::shred::policy;
    use mainstay_shared::operator::desired::store::Store;
    use serde_json::json;

    use super::*;
    use mainstay_shared::operator::validated::repository::store;

    fn operation(repository: &serde_json::Value) -> Operation {
        serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "Operation",
            "metadata": {"name": "shred", "namespace": "shop", "uid": "op-1"},
            "spec": {
                "target": {"kind": "Postgres", "name": "db"}, "action": "DestroyKeys",
                "destroyKeys": {"confirm": "db", "repository": repository},
            },
        }))
        .unwrap()
    }

    #[test]
    fn it_has_the_stores_credentials_and_no_key() {
        let operation = operation(&json!({
            "s3": {"bucket": "backups"}, "credentials": "store", "prefix": "shop/db",
        }));
        let Store {
            spec,
            access,
            place,
        } = store(&operation).unwrap();
        assert_eq!(place, "s3://backups/shop/db");
        let settings = ShredSettings {
            repository: spec,
            recipients: vec!["age1own".into()],
            others_stay: false,
        };
        let pod = pod(&operation, &settings, &access, "operator:1").unwrap();
        let text = serde_json::to_value(&pod).unwrap();
        let sources = &text["spec"]["volumes"][0]["projected"]["sources"];
        assert_eq!(sources.as_array().unwrap().len(), 1, "{sources}");
        assert_eq!(sources[0]["secret"]["name"], "store");
        let items = sources[0]["secret"]["items"].as_array().unwrap().len();
        assert_eq!(items, 3, "not the whole Secret");
        assert_eq!(text["metadata"]["ownerReferences"][0]["uid"], "op-1");
        let security = &text["spec"]["containers"][0]["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        let policy = serde_json::to_value(policy(&operation, &access)).unwrap();
        let selected = policy["spec"]["podSelector"]["matchLabels"]
            .as_object()
            .unwrap();
        for (name, value) in selected {
            assert_eq!(&text["metadata"]["labels"][name], value);
        }
        assert_eq!(policy["spec"]["ingress"], serde_json::Value::Null);
    }

    #[test]
    fn a_volume_is_mounted_for_writing() {
        let operation = operation(&json!({"volume": {"claimName": "backups"}}));
        let Store {
            spec,
            access,
            place,
        } = store(&operation).unwrap();
        assert_eq!(
            (place.as_str(), spec.prefix.as_str()),
            ("volume://backups/shop/db", "shop/db")
        );
        let settings = ShredSettings {
            repository: spec,
            recipients: Vec::new(),
            others_stay: false,
        };
        let pod = pod(&operation, &settings, &access, "operator:1").unwrap();
        let text = serde_json::to_value(&pod).unwrap();
        let mounts = &text["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(mounts[1]["mountPath"], "/mainstay/repository/backups");
        assert_ne!(mounts[1]["readOnly"], true);
    }
}
