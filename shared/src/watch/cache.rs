//! Objects by the set they belong to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::trim::trim;

/// A set, that is a custom resource: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetKey {
    /// Namespace of the custom resource.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for SetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Kind, namespace and name of a child.
type ChildKey = (&'static str, String, String);

struct Child {
    resource_version: Box<str>,
    /// The rest as JSON text.
    text: Box<str>,
}

#[derive(Default)]
struct Inner {
    sets: HashMap<SetKey, BTreeMap<ChildKey, Child>>,
    /// Kinds that are being listed anew, and what was listed so far.
    listing: HashMap<&'static str, HashSet<(SetKey, ChildKey)>>,
    /// Kinds that have been listed once.
    listed: HashSet<&'static str>,
}

/// Objects by set. Cheap to read for one set; safe to share.
#[derive(Default)]
pub struct Cache(Mutex<Inner>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock; if one did, the map is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take in an object. Returns whether anything changed that somebody may act on.
    pub fn put(&self, kind: &'static str, set: SetKey, mut object: Value) -> bool {
        trim(kind, &mut object);
        let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
        let take = |field: &str| {
            let value = meta.as_ref()?.get(field)?;
            value.as_str().map(str::to_owned)
        };
        let (Some(name), version) = (take("name"), take("resourceVersion").unwrap_or_default())
        else {
            return false;
        };
        let namespace = take("namespace").unwrap_or_default();
        if let Some(meta) = meta {
            meta.remove("resourceVersion");
        }
        let key = (kind, namespace, name);
        let child = Child {
            resource_version: version.into(),
            text: object.to_string().into(),
        };
        let mut inner = self.lock();
        if let Some(listing) = inner.listing.get_mut(kind) {
            listing.insert((set.clone(), key.clone()));
        }
        let children = inner.sets.entry(set).or_default();
        let same = children.get(&key).is_some_and(|old| old.text == child.text);
        children.insert(key, child);
        !same
    }

    /// Forget an object. Returns whether it was known.
    pub fn remove(&self, kind: &'static str, set: &SetKey, namespace: &str, name: &str) -> bool {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut inner = self.lock();
        let Some(children) = inner.sets.get_mut(set) else {
            return false;
        };
        let known = children.remove(&key).is_some();
        if children.is_empty() {
            inner.sets.remove(set);
        }
        known
    }

    /// A kind is about to be listed anew.
    pub fn begin(&self, kind: &'static str) {
        self.lock().listing.insert(kind, HashSet::new());
    }

    /// A kind was listed: what was not among it is gone. Returns the sets that lost something.
    pub fn finish(&self, kind: &'static str) -> HashSet<SetKey> {
        let mut inner = self.lock();
        inner.listed.insert(kind);
        let Some(listed) = inner.listing.remove(kind) else {
            return HashSet::new();
        };
        let mut touched = HashSet::new();
        for (set, children) in &mut inner.sets {
            let before = children.len();
            children.retain(|key, _| key.0 != kind || listed.contains(&(set.clone(), key.clone())));
            if children.len() < before {
                touched.insert(set.clone());
            }
        }
        inner.sets.retain(|_, children| !children.is_empty());
        touched
    }

    /// Whether each of `kinds` has been listed at least once. Before that, nothing may be decided:
    /// what is not listed yet looks as if it were absent.
    pub fn is_ready(&self, kinds: &[&'static str]) -> bool {
        let inner = self.lock();
        kinds.iter().all(|kind| inner.listed.contains(kind))
    }

    /// Every child of a set of one kind, as JSON.
    pub fn children(&self, set: &SetKey, kind: &str) -> Vec<Value> {
        let inner = self.lock();
        let Some(children) = inner.sets.get(set) else {
            return Vec::new();
        };
        let of_kind = children.iter().filter(|(key, _)| key.0 == kind);
        of_kind.filter_map(|(_, child)| read(child)).collect()
    }

    /// Every child of a set of one kind. One that cannot be read as `K` is left out: the API server
    /// only stores valid objects of its own kinds.
    pub fn typed<K: DeserializeOwned>(&self, set: &SetKey, kind: &str) -> Vec<K> {
        let values = self.children(set, kind).into_iter();
        values
            .filter_map(|value| serde_json::from_value(value).ok())
            .collect()
    }

    /// Every set of which a child is known.
    pub fn sets(&self) -> Vec<SetKey> {
        self.lock().sets.keys().cloned().collect()
    }
}

fn read(child: &Child) -> Option<Value> {
    let mut value: Value = serde_json::from_str(&child.text).ok()?;
    let meta = value.get_mut("metadata")?.as_object_mut()?;
    meta.insert(
        "resourceVersion".to_owned(),
        Value::from(&*child.resource_version),
    );
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn db() -> SetKey {
        SetKey {
            namespace: "shop".into(),
            name: "db".into(),
        }
    }

    fn pod(name: &str, version: &str, phase: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": version},
            "status": {"phase": phase}})
    }

    #[test]
    fn a_new_resource_version_alone_is_no_change_but_is_kept() {
        let cache = Cache::default();
        assert!(cache.put("Pod", db(), pod("db-1", "1", "Running")));
        assert!(!cache.put("Pod", db(), pod("db-1", "2", "Running")));
        assert_eq!(
            cache.children(&db(), "Pod")[0]["metadata"]["resourceVersion"],
            "2"
        );
        assert!(cache.put("Pod", db(), pod("db-1", "3", "Failed")));
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let cache = Cache::default();
        cache.begin("Pod");
        assert!(!cache.is_ready(&["Pod"]));
        cache.put("Pod", db(), pod("db-1", "1", "Running"));
        cache.put("Pod", db(), pod("db-2", "1", "Running"));
        cache.put("Service", db(), pod("db-rw", "1", ""));
        assert!(cache.finish("Pod").is_empty());
        assert!(cache.is_ready(&["Pod"]));
        cache.begin("Pod");
        cache.put("Pod", db(), pod("db-2", "1", "Running"));
        assert_eq!(cache.finish("Pod"), HashSet::from([db()]));
        assert_eq!(cache.children(&db(), "Pod").len(), 1);
        assert_eq!(cache.children(&db(), "Service").len(), 1);
    }

    #[test]
    fn a_removed_object_was_known_once() {
        let cache = Cache::default();
        cache.put("Pod", db(), pod("db-1", "1", "Running"));
        assert!(cache.remove("Pod", &db(), "shop", "db-1"));
        assert!(!cache.remove("Pod", &db(), "shop", "db-1"));
        assert!(cache.sets().is_empty());
    }
}
