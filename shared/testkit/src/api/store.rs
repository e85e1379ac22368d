//! The objects, their history, and the rules of changing them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::{self, Applied};
use super::request::{Asked, Parsed, PatchKind, Query, Target};
use super::rules::{
    check_immutable, check_patched, check_place, check_preconditions, differs_beyond_metadata,
    encode_text, finalizers, has_generation, nulls,
};
use super::status::Refusal;
use super::{defaults, patch};

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// API group; empty for the core one.
    pub group: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Namespace; none for objects of the whole cluster.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// A change that watches tell.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: Id,
    pub version: u64,
    pub before: Option<Arc<Value>>,
    pub after: Option<Arc<Value>>,
}

/// An answer with an object.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub value: Arc<Value>,
}

impl Answer {
    fn ok(value: impl Into<Arc<Value>>) -> Self {
        Self {
            code: 200,
            value: value.into(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Store {
    /// Shared with the history, with answers and with watches: copied only to be changed.
    objects: BTreeMap<Id, Arc<Value>>,
    applied: BTreeMap<Id, Applied>,
    history: Vec<Change>,
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    serial: u64,
}

impl Store {
    pub fn get(&self, id: &Id) -> Option<&Arc<Value>> {
        self.objects.get(id)
    }

    pub fn of_resource<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
    ) -> impl Iterator<Item = (&'a Id, &'a Arc<Value>)> {
        self.objects
            .iter()
            .filter(move |(id, _)| id.group == group && id.resource == resource)
    }

    pub fn event_count(&self) -> usize {
        self.history.len()
    }

    pub fn events(&self, from: usize, to: usize) -> &[Change] {
        &self.history[from.min(to)..to]
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn compact(&mut self) {
        self.compacted = self.version;
    }

    /// Objects of a collection, in the order of namespace and name.
    pub fn select<'a>(
        &'a self,
        target: &'a Target,
        query: &'a Query,
    ) -> impl Iterator<Item = &'a Arc<Value>> {
        self.of_resource(&target.group, &target.resource)
            .filter(|(id, _)| target.namespace.is_none() || id.namespace == target.namespace)
            .map(|(_, value)| value)
            .filter(|value| {
                query.labels.matches_labels(value) && query.fields.matches_fields(value)
            })
    }

    pub fn perform(&mut self, parsed: Parsed) -> Result<Answer, Refusal> {
        let target = parsed.target;
        let id = Id {
            group: target.group.clone(),
            resource: target.resource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone().unwrap_or_default(),
        };
        let status = match target.subresource.as_deref() {
            None => false,
            Some("status") => true,
            Some(other) => {
                return Err(Refusal::new(
                    404,
                    "NotFound",
                    format!("subresource {other} is not there"),
                ));
            }
        };
        match parsed.asked {
            Asked::Get => {
                let live = self.get(&id).ok_or_else(|| Refusal::not_found(&id))?;
                Ok(Answer::ok(Arc::clone(live)))
            }
            Asked::List(query) => {
                let items = self.select(&target, &query).map(|v| Value::clone(v));
                let items = Value::Array(items.collect());
                let version = match target.group.as_str() {
                    "" => target.version.clone(),
                    group => format!("{group}/{}", target.version),
                };
                let mut value = json!({"apiVersion": version, "kind": "List",
                    "metadata": {"resourceVersion": self.version.to_string()}});
                value["items"] = items;
                Ok(Answer::ok(value))
            }
            Asked::Create(object) => self.create(id, object),
            Asked::Update(object) => self.update(&id, object, status),
            Asked::Patch(PatchKind::Apply { manager, force }, object) => {
                self.apply(id, object, status, &manager, force)
            }
            Asked::Patch(kind, patch) => self.patch(&id, &kind, &patch, status),
            Asked::Delete(options) => self.delete(&id, &options),
            Asked::DeleteCollection(query) => {
                let names: Vec<Id> = self
                    .select(&target, &query)
                    .filter_map(|value| {
                        let meta = &value["metadata"];
                        Some(Id {
                            namespace: meta["namespace"].as_str().map(str::to_owned),
                            name: meta["name"].as_str()?.to_owned(),
                            ..id.clone()
                        })
                    })
                    .collect();
                for id in names {
                    self.delete(&id, &Value::Null)?;
                }
                Ok(success())
            }
            Asked::Watch(_) => Err(Refusal::bad("a watch is a stream")),
        }
    }

    fn create(&mut self, mut id: Id, mut object: Value) -> Result<Answer, Refusal> {
        check_place(&id, &object)?;
        if !object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "", message));
        }
        let meta = &mut object["metadata"];
        if meta["name"].as_str().unwrap_or_default().is_empty() {
            let prefix = meta["generateName"].as_str().unwrap_or_default().to_owned();
            if prefix.is_empty() {
                return Err(Refusal::invalid("name or generateName is required"));
            }
            meta["name"] = format!("{prefix}{:05x}", self.serial + 0xa_0000).into();
        }
        id.name = text(&meta["name"]);
        if self.objects.contains_key(&id) {
            return Err(Refusal::exists(&id));
        }
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
        ] {
            if let Some(map) = meta.as_object_mut() {
                map.remove(field);
            }
        }
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        encode_text(&mut object);
        Ok(Answer {
            code: 201,
            value: self.insert(&id, object),
        })
    }

    fn update(&mut self, id: &Id, object: Value, status: bool) -> Result<Answer, Refusal> {
        check_place(id, &object)?;
        let live = self.objects.get(id);
        check_preconditions(id, live.map(|l| &**l), &object["metadata"])?;
        let Some(live) = live.cloned() else {
            // Leases may be made by an update; nothing else that operators use.
            if id.resource == "leases" && !status {
                return self.create(id.clone(), object);
            }
            return Err(Refusal::not_found(id));
        };
        self.store(id, &live, object, status)
    }

    fn patch(
        &mut self,
        id: &Id,
        kind: &PatchKind,
        change: &Value,
        status: bool,
    ) -> Result<Answer, Refusal> {
        let live = self
            .objects
            .get(id)
            .cloned()
            .ok_or_else(|| Refusal::not_found(id))?;
        if let Some(meta) = change.get("metadata") {
            check_patched(id, Some(&live), meta)?;
        }
        let mut object = Value::clone(&live);
        match kind {
            PatchKind::Json => patch::json(&mut object, change)?,
            PatchKind::Strategic => {
                apply::apply(&mut object, None, change, &[]);
                patch::merge(&mut object, &nulls(change));
            }
            _ => patch::merge(&mut object, change),
        }
        self.store(id, &live, object, status)
    }

    fn apply(
        &mut self,
        id: Id,
        mut now: Value,
        status: bool,
        manager: &str,
        force: bool,
    ) -> Result<Answer, Refusal> {
        check_place(&id, &now)?;
        let meta = now["metadata"].clone();
        if meta
            .get("managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(Refusal::bad("metadata.managedFields must be nil"));
        }
        check_patched(&id, self.objects.get(&id).map(|l| &**l), &meta)?;
        if let Some(meta) = now["metadata"].as_object_mut() {
            meta.remove("uid");
            meta.remove("resourceVersion");
        }
        encode_text(&mut now);
        let part = if status { "status" } else { "" };
        let manager = format!("{manager}/{part}");
        let Some(live) = self.objects.get(&id).cloned() else {
            if status {
                return Err(Refusal::not_found(&id));
            }
            let answer = self.create(id.clone(), now.clone())?;
            self.applied.entry(id).or_default().insert(manager, now);
            return Ok(answer);
        };
        let applied = self.applied.entry(id.clone()).or_default();
        let clashing = apply::conflicts(applied, &manager, &now);
        if let (false, Some(other)) = (force, clashing.first()) {
            let message = format!("Apply failed with 1 conflict: conflict with {other:?}");
            return Err(Refusal::new(409, "Conflict", message));
        }
        for (_, theirs) in applied.iter_mut().filter(|(name, _)| **name != manager) {
            apply::disown(theirs, &now);
        }
        let mut object = Value::clone(&live);
        let others: Vec<&Value> = applied
            .iter()
            .filter(|(name, _)| **name != manager)
            .map(|(_, value)| value)
            .collect();
        apply::apply(&mut object, applied.get(&manager), &now, &others);
        let answer = self.store(&id, &live, object, status)?;
        self.applied.entry(id).or_default().insert(manager, now);
        Ok(answer)
    }

    /// Store a changed object: one part of it only, and only if it is a change.
    fn store(
        &mut self,
        id: &Id,
        live: &Arc<Value>,
        mut object: Value,
        status: bool,
    ) -> Result<Answer, Refusal> {
        let mut next;
        if status {
            next = Value::clone(live);
            next["status"] = object["status"].take();
        } else {
            object["status"] = live["status"].clone();
            encode_text(&mut object);
            next = object;
            let fixed = [
                "uid",
                "name",
                "namespace",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generation",
                "resourceVersion",
            ];
            for field in fixed {
                next["metadata"][field] = live["metadata"][field].clone();
            }
            next["apiVersion"] = live["apiVersion"].clone();
            next["kind"] = live["kind"].clone();
            check_immutable(id, live, &next)?;
            let old = finalizers(live);
            let terminating = !live["metadata"]["deletionTimestamp"].is_null();
            if terminating && finalizers(&next).iter().any(|f| !old.contains(f)) {
                return Err(Refusal::invalid(
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
                ));
            }
        }
        defaults::fill(&mut next, self.serial);
        if next == **live {
            return Ok(Answer::ok(Arc::clone(live)));
        }
        if !status && has_generation(id) && differs_beyond_metadata(live, &next) {
            next["metadata"]["generation"] =
                (live["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
        }
        let done = !next["metadata"]["deletionTimestamp"].is_null() && finalizers(&next).is_empty();
        if done && id.resource != "pods" {
            self.version += 1;
            next["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.remove(id);
            return Ok(Answer::ok(next));
        }
        Ok(Answer::ok(self.write(id, next)))
    }

    fn delete(&mut self, id: &Id, options: &Value) -> Result<Answer, Refusal> {
        let live = self
            .objects
            .get(id)
            .cloned()
            .ok_or_else(|| Refusal::not_found(id))?;
        if let Some(preconditions) = options.get("preconditions") {
            check_preconditions(id, Some(&live), preconditions)?;
        }
        let graceful = id.resource == "pods"
            && live["spec"]["nodeName"].is_string()
            && options["gracePeriodSeconds"] != 0;
        if finalizers(&live).is_empty() && !graceful {
            self.remove(id);
            return Ok(success());
        }
        if !live["metadata"]["deletionTimestamp"].is_null() {
            return Ok(Answer::ok(live));
        }
        let mut next = Value::clone(&live);
        next["metadata"]["deletionTimestamp"] = now();
        let grace = if graceful {
            next["spec"]["terminationGracePeriodSeconds"].clone()
        } else {
            0.into()
        };
        next["metadata"]["deletionGracePeriodSeconds"] = grace;
        if has_generation(id) {
            next["metadata"]["generation"] =
                (next["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
        }
        Ok(Answer::ok(self.write(id, next)))
    }

    /// Put an object there as it is.
    pub fn put_raw(&mut self, id: &Id, object: Value) -> Arc<Value> {
        if self.objects.contains_key(id) {
            return self.replace_raw(id, object);
        }
        self.insert(id, object)
    }

    /// Replace an object, status and all.
    pub fn replace_raw(&mut self, id: &Id, mut object: Value) -> Arc<Value> {
        let live = self.objects.get(id).cloned().unwrap_or_default();
        for field in ["uid", "creationTimestamp", "generation"] {
            object["metadata"][field] = live["metadata"][field].clone();
        }
        defaults::fill(&mut object, self.serial);
        if has_generation(id) && differs_beyond_metadata(&live, &object) {
            object["metadata"]["generation"] =
                (live["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
        }
        if object == *live {
            live
        } else {
            self.write(id, object)
        }
    }

    pub fn remove(&mut self, id: &Id) -> Option<Arc<Value>> {
        let before = self.objects.remove(id)?;
        self.applied.remove(id);
        self.version += 1;
        self.history.push(Change {
            id: id.clone(),
            version: self.version,
            before: Some(Arc::clone(&before)),
            after: None,
        });
        Some(before)
    }

    pub fn collect_garbage(&mut self) -> usize {
        let mut count = 0;
        loop {
            let uids: BTreeSet<String> = self
                .objects
                .values()
                .filter_map(|v| v["metadata"]["uid"].as_str().map(str::to_owned))
                .collect();
            let orphaned = |value: &Value| {
                let owners = value["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    !owners.is_empty()
                        && owners
                            .iter()
                            .all(|o| o["uid"].as_str().is_none_or(|uid| !uids.contains(uid)))
                }) && value["metadata"]["deletionTimestamp"].is_null()
            };
            let found: Vec<Id> = self
                .objects
                .iter()
                .filter(|(_, v)| orphaned(v))
                .map(|(id, _)| id.clone())
                .collect();
            if found.is_empty() {
                return count;
            }
            count += found.len();
            for id in found {
                // It exists: nobody else has the store.
                let _ = self.delete(&id, &Value::Null);
            }
        }
    }

    pub fn end_deleted_pods(&mut self) -> Vec<String> {
        let ended: Vec<Id> = self
            .of_resource("", "pods")
            .filter(|(_, v)| {
                !v["metadata"]["deletionTimestamp"].is_null() && finalizers(v).is_empty()
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &ended {
            self.remove(id);
        }
        ended.into_iter().map(|id| id.name).collect()
    }

    fn insert(&mut self, id: &Id, mut object: Value) -> Arc<Value> {
        self.serial += 1;
        let serial = self.serial;
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = format!("00000000-0000-4000-8000-{serial:012x}").into();
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = now();
        }
        if has_generation(id) && meta["generation"].is_null() {
            meta["generation"] = 1.into();
        }
        if let Some(namespace) = &id.namespace {
            meta["namespace"] = namespace.as_str().into();
        }
        defaults::fill(&mut object, serial);
        self.write(id, object)
    }

    fn write(&mut self, id: &Id, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        let before = self.objects.insert(id.clone(), Arc::clone(&object));
        self.history.push(Change {
            id: id.clone(),
            version: self.version,
            before,
            after: Some(Arc::clone(&object)),
        });
        object
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn success() -> Answer {
    Answer::ok(json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}))
}

fn now() -> Value {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
        .into()
}
