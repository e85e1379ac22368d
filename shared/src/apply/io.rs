//! I/O: carries out what the rest of this module decided. No decision is made here.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inventory::Seen;
use super::{ApplyError, Cause, Key, Object, Why, plan};
use crate::names::MANAGER;

/// What was written, and what failed.
#[derive(Debug, Default)]
pub struct Report {
    /// Objects that were applied, and why each.
    pub applied: Vec<(Key, Why)>,
    /// What failed; the objects after a failed one were tried all the same.
    pub errors: Vec<ApplyError>,
}

/// Apply those of the desired objects that need it. `live` is what was observed of them.
///
/// Guarantee: if every desired field stands as applied last, there is no request at all.
pub async fn apply_all(client: &Client, desired: &[Object], live: &[Object]) -> Report {
    let mut report = Report::default();
    for (object, why) in plan(desired, live) {
        let key = object.key();
        match apply(client, &object).await {
            Ok(()) => {
                tracing::info!(object = %key, %why, "applied");
                report.applied.push((key, why));
            }
            Err(error) => report.errors.push(error),
        }
    }
    report
}

/// Apply one [sealed](Object::sealed) object, without looking whether it needs it.
pub async fn apply(client: &Client, object: &Object) -> Result<(), ApplyError> {
    let key = object.key();
    api(client, object)
        .patch(
            &key.name,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&object.value),
        )
        .await
        .map(drop)
        .map_err(|error| failed("apply", key, error))
}

/// What a create came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    Made,
    /// One of that name was there already and was left as it is.
    Exists,
}

/// Make an object that must never be written over, for example a Secret with a password.
pub async fn create(client: &Client, object: &Object) -> Result<Created, ApplyError> {
    let key = object.key();
    let sealed: DynamicObject =
        serde_json::from_value(object.sealed().value).map_err(|error| ApplyError {
            verb: "create",
            key: key.clone(),
            cause: Cause::Encode(error),
        })?;
    let parameters = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api(client, object).create(&parameters, &sealed).await {
        Ok(_) => Ok(Created::Made),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Created::Exists),
        Err(error) => Err(failed("create", key, error)),
    }
}

/// What a delete came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It goes: at once, or when its finalizers and grace period allow.
    Going,
    /// It was gone already.
    Gone,
    /// It is not what was seen any more, so it was left alone; look again and decide anew.
    Changed,
}

/// Delete an object as it was seen, or nothing.
pub async fn delete(client: &Client, seen: &Seen) -> Result<Deleted, ApplyError> {
    let parameters = DeleteParams::background().preconditions(Preconditions {
        uid: Some(seen.uid.clone()),
        resource_version: Some(seen.resource_version.clone()),
    });
    let object = Object {
        resource: seen.resource.clone(),
        value: serde_json::json!({"metadata": {"namespace": seen.key.namespace, "name": seen.key.name}}),
    };
    match api(client, &object)
        .delete(&seen.key.name, &parameters)
        .await
    {
        Ok(_) => {
            tracing::info!(object = %seen.key, uid = seen.uid, "deleted");
            Ok(Deleted::Going)
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Deleted::Gone),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Deleted::Changed),
        Err(error) => Err(failed("delete", seen.key.clone(), error)),
    }
}

/// Write the status of an object, whole, under a field manager of its own. The caller compares
/// with what it read and calls this only when there is a difference.
pub async fn write_status<K, S>(client: &Client, object: &K, status: &S) -> Result<(), ApplyError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize,
{
    status_of(client, object, status, None).await
}

/// The same, but only if the object is still as it was seen: a conflict otherwise. For a status that
/// was made from the one before, which a cache may show too late.
pub async fn write_status_as_seen<K, S>(
    client: &Client,
    object: &K,
    status: &S,
) -> Result<(), ApplyError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize,
{
    let version = object.meta().resource_version.as_deref();
    status_of(client, object, status, version).await
}

async fn status_of<K, S>(
    client: &Client,
    object: &K,
    status: &S,
    version: Option<&str>,
) -> Result<(), ApplyError>
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize,
{
    let address = Object {
        resource: kube::core::ApiResource::erase::<K>(&()),
        value: serde_json::json!({
            "metadata": {"namespace": object.meta().namespace, "name": object.meta().name},
        }),
    };
    let key = address.key();
    let mut body = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The uid keeps the status of a deleted resource off a new one of the same name.
        "metadata": {"name": key.name, "uid": object.meta().uid},
        "status": status,
    });
    if let Some(version) = version {
        body["metadata"]["resourceVersion"] = version.into();
    }
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    api(client, &address)
        .patch_status(&key.name, &parameters, &Patch::Apply(&body))
        .await
        .map(drop)
        .map_err(|error| failed("write the status of", key, error))
}

/// Field manager of status writes.
const STATUS_MANAGER: &str = "mainstay-status";

/// The object of the same kind and name as it is in the cluster, whoever made it. For what the caches do not hold.
///
/// # Errors
/// See [`ApplyError`].
pub async fn get(client: &Client, object: &Object) -> Result<Option<DynamicObject>, ApplyError> {
    let key = object.key();
    let found = api(client, object).get_opt(&key.name).await;
    found.map_err(|error| failed("get", key, error))
}

fn api(client: &Client, object: &Object) -> Api<DynamicObject> {
    match object.meta("namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &object.resource),
        None => Api::all_with(client.clone(), &object.resource),
    }
}

fn failed(verb: &'static str, key: Key, error: kube::Error) -> ApplyError {
    let cause = Cause::of(verb, &key, error);
    ApplyError { verb, key, cause }
}
