//! Sets of every kind, as far as all kinds say the same. Reads them.

use anyhow::{Result, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, ObjectMeta};
use kube::core::object::HasStatus;
use kube::{Resource, ResourceExt as _};
use mainstay_crds::common::backup::Backups;
use mainstay_crds::common::{InstanceStatus, RecoveryStatus, Survives, WaitingFor};
use mainstay_crds::postgres::Postgres;
use mainstay_crds::redis::{Bound, ClusterStatus, Redis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Scene;

/// There is nothing of that name, or no such kind.
const NOT_FOUND: u16 = 404;

/// What the status of any kind says. The names are the same in all of them; what a kind does not say is not there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said {
    pub conditions: Vec<Condition>,
    pub version: Option<String>,
    pub primary: Option<String>,
    pub ready: Option<String>,
    pub bound: Option<Bound>,
    pub cluster: Option<ClusterStatus>,
    pub instances: Vec<InstanceStatus>,
    pub survives: Option<Survives>,
    pub recovery: Option<RecoveryStatus>,
    pub pending_changes: Vec<String>,
    pub waiting_for: Vec<WaitingFor>,
    pub waiting: Option<String>,
}

/// A set.
#[derive(Clone, Debug)]
pub struct Set {
    /// Kind of its resource.
    pub kind: String,
    /// What runs, as people call it.
    pub engine: String,
    /// Its name.
    pub name: String,
    /// Its backups, where it has some.
    pub backups: Option<Backups>,
    /// What its status says.
    pub said: Said,
    /// The status as it is.
    pub status: Value,
}

/// A kind of sets.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Serialize>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
{
    /// What runs, as people call it.
    fn engine(&self) -> String;

    /// Its backups, where it has some.
    fn backups(&self) -> Option<&Backups>;
}

impl Kind for Postgres {
    fn engine(&self) -> String {
        "PostgreSQL".to_owned()
    }

    fn backups(&self) -> Option<&Backups> {
        self.spec.backup.as_ref()
    }
}

impl Kind for Redis {
    fn engine(&self) -> String {
        self.spec
            .engine
            .clone()
            .unwrap_or_else(|| "Redis".to_owned())
    }

    fn backups(&self) -> Option<&Backups> {
        self.spec.backup.as_ref()
    }
}

impl Set {
    /// What a resource says.
    ///
    /// # Errors
    /// Its status is none of this release's.
    pub fn of<K: Kind>(object: &K) -> Result<Self> {
        let status = match object.status() {
            Some(status) => serde_json::to_value(status)?,
            None => Value::Object(serde_json::Map::new()),
        };
        Ok(Self {
            kind: K::kind(&()).into_owned(),
            engine: object.engine(),
            name: object.name_any(),
            backups: object.backups().cloned(),
            said: serde_json::from_value(status.clone())?,
            status,
        })
    }
}

/// Metadata of an object about a set, whose name says what it is for and has 50 characters at most.
pub fn generated(set: &str, what: &str) -> ObjectMeta {
    /// What the API server appends.
    const RANDOM: usize = 5;
    let room = 50 - RANDOM - what.len() - 2;
    let short: String = set.chars().take(room).collect();
    ObjectMeta {
        generate_name: Some(format!("{short}-{what}-")),
        ..ObjectMeta::default()
    }
}

/// All sets of the namespace, by name.
///
/// # Errors
/// They cannot be listed.
pub async fn all(scene: &Scene) -> Result<Vec<Set>> {
    let mut all = list::<Postgres>(scene).await?;
    all.extend(list::<Redis>(scene).await?);
    all.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
    Ok(all)
}

/// Those of that name: one, unless two of different kinds have it, of which one waits.
///
/// # Errors
/// There is none, or it cannot be read.
pub async fn named(scene: &Scene, name: &str) -> Result<Vec<Set>> {
    let mut all = Vec::new();
    all.extend(get::<Postgres>(scene, name).await?);
    all.extend(get::<Redis>(scene, name).await?);
    if all.is_empty() {
        bail!(
            "there is no set called {name} in namespace {}",
            scene.namespace
        );
    }
    Ok(all)
}

/// The one of that name, of whichever kind.
///
/// # Errors
/// There is none, or two; or it cannot be read.
pub async fn one(scene: &Scene, name: &str) -> Result<Set> {
    let mut all = named(scene, name).await?.into_iter();
    match (all.next(), all.next()) {
        (Some(set), None) => Ok(set),
        (Some(one), Some(other)) => bail!(
            "there are a {} and a {} called {name}: write the resource, which names the kind",
            one.kind,
            other.kind
        ),
        (None, _) => bail!("there is no set called {name}"),
    }
}

async fn list<K: Kind>(scene: &Scene) -> Result<Vec<Set>> {
    match scene.api::<K>().list(&ListParams::default()).await {
        Ok(found) => found.items.iter().map(Set::of).collect(),
        // An add-on that is not installed has no sets. Then the API server gives no reason besides the code.
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

async fn get<K: Kind>(scene: &Scene, name: &str) -> Result<Option<Set>> {
    match scene.api::<K>().get(name).await {
        Ok(found) => Ok(Some(Set::of(&found)?)),
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(None),
        Err(error) => Err(error.into()),
    }
}
