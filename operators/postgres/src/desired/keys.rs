//! The pod that removes copies of keys from a repository. It belongs to the operation and goes with it.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec};
use mainstay_backup::shred::ShredSettings;
use mainstay_crds::operation::Operation;
use mainstay_shared::backups::destroy::CONTAINER;
use mainstay_shared::operator::desired::parts::{container_security, pod_security, resources};
use mainstay_shared::operator::desired::shred::of_pod;
use mainstay_shared::operator::desired::volumes::mount;

use super::backup::{repository, repository_mount, store_secrets};
use super::pod::USER;
use crate::backup::settings::{MEMORY_MIB, REPOSITORY, SECRETS, SHRED};
use crate::engine::APP;
use crate::validate::backup::Access;

/// Volume with the store's credentials.
const CREDENTIALS: &str = "store";
/// Volume with the repository, where it is on one.
const VOLUME: &str = "repository";

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
    let mut volumes = vec![store_secrets(CREDENTIALS, access)];
    volumes.extend(repository(VOLUME, access));
    let mut mounts = vec![mount(CREDENTIALS, SECRETS, true)];
    let claim = access.claim.as_ref();
    mounts.extend(claim.map(|claim| repository_mount(VOLUME, REPOSITORY, claim, false)));
    let (request, limit) = MEMORY_MIB;
    let mib = |n: u32| i64::from(n) << 20;
    let container = Container {
        name: CONTAINER.into(),
        image: Some(operator_image.to_owned()),
        image_pull_policy: Some("IfNotPresent".into()),
        args: Some(vec![CONTAINER.into()]),
        env: Some(vec![EnvVar {
            name: SHRED.into(),
            value: Some(serde_json::to_string(settings)?),
            value_from: None,
        }]),
        resources: Some(resources(50, mib(request), mib(limit))),
        security_context: Some(container_security()),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    Ok(Pod {
        metadata: of_pod(operation, APP),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".into()),
            active_deadline_seconds: Some(operation.spec.timeout_seconds().into()),
            termination_grace_period_seconds: Some(15),
            security_context: Some(pod_security(USER)),
            containers: vec![container],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        status: None,
    })
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
