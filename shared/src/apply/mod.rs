//! Server-side apply, only where it is needed, and pruning of what is not wanted any more.
//!
//! Everything here is pure but [`io`]. An object is applied when what we want of it changed since
//! it was applied last (a hash in the annotation [`APPLIED`]), or when a field that we want does
//! not stand in it any more (someone changed it). A settled pass thus writes nothing, and drift is
//! repaired.

mod compare;
mod error;
pub mod inventory;
pub mod io;
pub mod quantity;

use std::fmt;

use base64::Engine as _;
use kube::Resource;
use kube::core::{ApiResource, DynamicObject};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::names::APPLIED;
pub use error::{ApplyError, Cause};

/// Any object, with what is needed to address its kind. Desired and live ones alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The kind.
    pub resource: ApiResource,
    /// The object as JSON.
    pub value: Value,
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// API group; empty for the core one.
    pub group: String,
    /// Kind, for example `Service`.
    pub kind: String,
    /// Namespace; none for objects of the whole cluster.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl Object {
    /// Take a typed object.
    ///
    /// # Errors
    /// When the type cannot be written as JSON, which no Kubernetes type does.
    pub fn of<K>(object: &K) -> Result<Self, serde_json::Error>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Ok(Self {
            resource: ApiResource::erase::<K>(&()),
            value: serde_json::to_value(object)?,
        })
    }

    /// Take an object of a kind that is known at run time only.
    ///
    /// # Errors
    /// See [`Object::of`].
    pub fn dynamic(
        resource: ApiResource,
        object: &DynamicObject,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            resource,
            value: serde_json::to_value(object)?,
        })
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> Key {
        Key {
            group: self.resource.group.clone(),
            kind: self.resource.kind.clone(),
            namespace: self.meta("namespace").map(str::to_owned),
            name: self.meta("name").unwrap_or_default().to_owned(),
        }
    }

    /// A text field of the metadata, for example `uid`.
    pub fn meta(&self, field: &str) -> Option<&str> {
        self.value.pointer("/metadata")?.get(field)?.as_str()
    }

    /// Value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    /// Value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value
            .pointer("/metadata/annotations")?
            .get(key)?
            .as_str()
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.meta("deletionTimestamp").is_some()
    }

    /// What is sent: kind and version set; status, nulls and what only the API server sets left
    /// out; text of Secrets as data, since `stringData` has no owner under server-side apply; and
    /// the annotation with the hash of all that.
    #[must_use]
    pub fn sealed(&self) -> Self {
        let mut value = self.value.clone();
        value["apiVersion"] = self.resource.api_version.clone().into();
        value["kind"] = self.resource.kind.clone().into();
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
        }
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "creationTimestamp",
                "generation",
                "managedFields",
                "resourceVersion",
                "selfLink",
                "uid",
            ] {
                meta.remove(field);
            }
            if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(APPLIED);
            }
        }
        if self.resource.kind == "Secret" {
            encode_text(&mut value);
        }
        drop_nulls(&mut value);
        // An object read back hashes like the one that was applied, with annotations or without.
        if value["metadata"]["annotations"].is_null() {
            value["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
        }
        let hash = hash(&value);
        value["metadata"]["annotations"][APPLIED] = hash.into();
        Self {
            resource: self.resource.clone(),
            value,
        }
    }
}

/// Why an object is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not exist.
    Absent,
    /// What we want of it is not what was applied last.
    Changed,
    /// This field was changed by someone else.
    Drifted(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it did not exist"),
            Self::Changed => f.write_str("what is wanted of it changed"),
            Self::Drifted(path) => write!(f, "someone else changed {path}"),
        }
    }
}

/// Whether `desired` must be applied, and why. Both as typed or as read; `desired` need not be
/// [sealed](Object::sealed).
///
/// An object that is being deleted is not applied to: that would change nothing. It is made anew
/// once it is gone, and the watch brings that pass about.
pub fn needs_apply(desired: &Object, live: Option<&Object>) -> Option<Why> {
    let Some(live) = live else {
        return Some(Why::Absent);
    };
    if live.is_terminating() {
        return None;
    }
    let sealed = desired.sealed();
    if live.annotation(APPLIED) != sealed.annotation(APPLIED) {
        return Some(Why::Changed);
    }
    compare::first_difference(&sealed.resource.kind, &sealed.value, &live.value).map(Why::Drifted)
}

/// Which of the desired objects must be applied, sealed, in their order.
pub fn plan(desired: &[Object], live: &[Object]) -> Vec<(Object, Why)> {
    let live: std::collections::BTreeMap<Key, &Object> =
        live.iter().map(|object| (object.key(), object)).collect();
    desired
        .iter()
        .filter_map(|object| {
            let why = needs_apply(object, live.get(&object.key()).copied())?;
            Some((object.sealed(), why))
        })
        .collect()
}

fn encode_text(secret: &mut Value) {
    let Some(text) = secret
        .as_object_mut()
        .and_then(|map| map.remove("stringData"))
    else {
        return;
    };
    for (key, value) in text.as_object().into_iter().flatten() {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        secret["data"][key] = encoded.into();
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// 32 hexadecimal digits of SHA-256 over a form that does not depend on the order of keys.
fn hash(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    hex(&hasher.finalize()[..16])
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            hasher.update(b"{");
            for (key, value) in entries {
                feed(hasher, &Value::from(key.as_str()));
                feed(hasher, value);
            }
            hasher.update(b"}");
        }
        Value::Array(list) => {
            hasher.update(b"[");
            for element in list {
                feed(hasher, element);
            }
            hasher.update(b"]");
        }
        // Quoted and escaped, hence never mistaken for one of the marks.
        scalar => {
            hasher.update(scalar.to_string().as_bytes());
            hasher.update(b",");
        }
    }
}

#[cfg(test)]
mod tests;
