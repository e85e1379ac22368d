//! The example manifests, applied as they are (I/O).

use std::error::Error;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use mainstay_crds::postgres::Postgres;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::NAMESPACE;

/// Field manager of the demo.
const MANAGER: &str = "mainstay-demo";

/// Makes the namespace, under the strictest pod security standard.
pub async fn namespace(client: &Client) -> Result<(), Box<dyn Error>> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    });
    let api: Api<Namespace> = Api::all(client.clone());
    let parameters = PatchParams::apply(MANAGER);
    api.patch(NAMESPACE, &parameters, &Patch::Apply(&namespace))
        .await?;
    Ok(())
}

/// Applies examples/postgres.yaml and says what that did.
pub async fn postgres(client: &Client) -> Result<&'static str, Box<dyn Error>> {
    apply::<Postgres>(client, &read("postgres.yaml")?).await
}

/// Applies examples/application.yaml, with the image that the nodes hold.
pub async fn application(client: &Client, image: &str) -> Result<&'static str, Box<dyn Error>> {
    let mut manifest = read("application.yaml")?;
    let place = manifest
        .pointer_mut("/spec/template/spec/containers/0/image")
        .ok_or("examples/application.yaml has no container")?;
    *place = json!(image);
    apply::<Deployment>(client, &manifest).await
}

fn read(name: &str) -> Result<Value, Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = package
        .parent()
        .unwrap_or(package)
        .join("examples")
        .join(name);
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(serde_saphyr::from_str(&text)?)
}

async fn apply<K>(client: &Client, manifest: &Value) -> Result<&'static str, Box<dyn Error>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let name = manifest.pointer("/metadata/name").and_then(Value::as_str);
    let name = name.ok_or("an example has no name")?;
    let before = api.get_opt(name).await?;
    let parameters = PatchParams::apply(MANAGER);
    let after = api
        .patch(name, &parameters, &Patch::Apply(manifest))
        .await?;
    Ok(match before {
        None => "applied",
        Some(before) if before.meta().generation == after.meta().generation => "unchanged:",
        Some(_) => "changed as in",
    })
}

/// Whether a manifest's resource is there.
pub async fn is_there(client: &Client) -> Result<bool, kube::Error> {
    let api: Api<Postgres> = Api::namespaced(client.clone(), NAMESPACE);
    match api.get_opt(super::SET).await {
        Ok(found) => Ok(found.is_some_and(|p| !p.name_any().is_empty())),
        // No such kind: no such resource.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_what_their_kinds_allow() {
        let postgres: Postgres = serde_json::from_value(read("postgres.yaml").unwrap()).unwrap();
        assert_eq!(postgres.name_any(), super::super::SET);
        assert_eq!(postgres.spec.instances(), 3);
        let application: Deployment =
            serde_json::from_value(read("application.yaml").unwrap()).unwrap();
        let labels = application
            .spec
            .unwrap()
            .template
            .metadata
            .unwrap()
            .labels
            .unwrap();
        assert_eq!(labels["access.mainstay.dev/db"], "allow");
    }
}
