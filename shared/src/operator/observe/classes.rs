//! Whether volumes of a class can be provided at all (I/O: one read, only while a volume is missing).

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Annotation of the class that claims without one get.
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// What to do about a class that does not exist; none when it does, or when that cannot be told:
/// then the volume itself says so later.
pub async fn missing(client: &Client, class: Option<&str>) -> Option<String> {
    let api: Api<StorageClass> = Api::all(client.clone());
    if let Some(name) = class {
        return matches!(api.get_opt(name).await, Ok(None)).then(|| format!(
            "There is no StorageClass {name}: create it, or delete this resource and name another in storage.class."
        ));
    }
    let all = api.list(&ListParams::default()).await.ok()?;
    let default = |c: &StorageClass| c.annotations().get(IS_DEFAULT).is_some_and(|v| v == "true");
    (!all.iter().any(default)).then(|| {
        "The cluster has no default StorageClass: mark one as default, or delete this resource and name one in storage.class.".to_owned()
    })
}
