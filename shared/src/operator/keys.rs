//! Destroying keys of sets that were deleted (I/O): one step after the other of what
//! [`crate::backups::destroy`] decides. No pass does it, for there is no set any more.
//!
//! What is decided on is asked of the API server each time: nothing of it may be old.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use mainstay_backup::crypto::Keyring;
use mainstay_backup::shred::ShredSettings;
use mainstay_backup::spec::INSTANCE_KEYS;
use mainstay_backup::spec::PlaceSpec;
use mainstay_crds::operation::{Action, Operation};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::apply::inventory::Seen;
use crate::apply::io;
use crate::apply::{ApplyError, Object};
use crate::backups::destroy::{self, SecretSeen, Setting, Step, Target};
use crate::backups::drill::pod::seen;
use crate::names;
use crate::operations::{self, Told, ordered};
use crate::operator::act::failed;
use crate::operator::desired::shred;
use crate::operator::engine::Engine;
use crate::operator::observe::kinds::{OPERATION, POD};
use crate::operator::pass::Context;
use crate::watch::SetKey;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
enum KeysError {
    #[error(transparent)]
    Request(Box<ApplyError>),
    #[error("an object cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<ApplyError> for KeysError {
    fn from(error: ApplyError) -> Self {
        Self::Request(Box::new(error))
    }
}

/// When it is tried again after an error.
const AGAIN: Duration = Duration::from_secs(5);
/// A watch may be late with what was just written.
const SOON: Duration = Duration::from_millis(200);

/// Look after what is asked for of the sets that `woken` tells, one after the other, until nobody tells any more.
pub async fn run<E: Engine>(context: Arc<Context<E>>, mut woken: mpsc::UnboundedReceiver<SetKey>) {
    let mut due: HashMap<SetKey, Instant> = HashMap::new();
    loop {
        let next = due.iter().min_by_key(|(_, at)| **at);
        let next = next.map(|(set, at)| (set.clone(), *at));
        let set = tokio::select! {
            set = woken.recv() => match set {
                Some(set) => set,
                None => return,
            },
            set = wait(next) => set,
        };
        due.remove(&set);
        let again = match look(&context, &set).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%set, %error, "keys of backups are not destroyed yet");
                Some(AGAIN)
            }
        };
        if let Some(after) = again {
            due.insert(set, Instant::now() + after);
        }
    }
}

async fn wait(next: Option<(SetKey, Instant)>) -> SetKey {
    match next {
        Some((set, at)) => {
            sleep_until(at).await;
            set
        }
        None => std::future::pending().await,
    }
}

/// One step for each operation of a set. When to look again.
async fn look<E: Engine>(
    context: &Context<E>,
    set: &SetKey,
) -> Result<Option<Duration>, KeysError> {
    let all = ordered(context.cache.typed::<Operation>(set, OPERATION));
    let pods = context.cache.typed::<Pod>(set, POD);
    let pods: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    // Of what is over a pod may be left; else nobody is asked anything.
    let is_open = |o: &&Operation| {
        let phase = o.status.as_ref().and_then(|s| s.phase).unwrap_or_default();
        !phase.is_over() || pods.contains(&shred::name(o))
    };
    let mut again = None;
    let asked = all.iter().filter(|o| o.spec.action == Action::DestroyKeys);
    for operation in asked.filter(is_open) {
        let after = step(context, set, operation).await?;
        again = again.into_iter().chain(after).min();
    }
    Ok(again)
}

async fn step<E: Engine>(
    context: &Context<E>,
    set: &SetKey,
    operation: &Operation,
) -> Result<Option<Duration>, KeysError> {
    let client = &context.client;
    let pod = named::<E, Pod>(context, set, &shred::name(operation)).await?;
    let pod = pod.filter(|pod| {
        let owners = pod.owner_references();
        owners
            .iter()
            .any(|o| Some(&o.uid) == operation.uid().as_ref())
    });
    let name = names::backup_keys(&set.name);
    let secret = named::<E, Secret>(context, set, &name).await?;
    let of_secret = secret.as_ref().map(|secret| SecretSeen {
        uid: secret.uid().unwrap_or_default(),
        recipients: recipients(secret),
    });
    let repository = E::store(operation);
    let unseen =
        |place: &PlaceSpec| matches!(place, PlaceSpec::Gcs { .. } | PlaceSpec::Azure { .. });
    let setting = Setting {
        now: Timestamp::now(),
        target: target(context, set).await?,
        name: &name,
        secret: of_secret,
        pod: pod.as_ref().map(seen),
        place: repository
            .as_ref()
            .map(|store| store.place.clone())
            .map_err(Clone::clone),
        veiled: repository
            .as_ref()
            .is_ok_and(|store| unseen(&store.spec.place)),
        volumes: volumes(context, set).await?,
    };
    match destroy::next(operation, &setting) {
        Step::Rest => Ok(None),
        Step::Say(told) => say(context, &told).await.map(|()| Some(SOON)),
        Step::Wait(told, after) => {
            if let Some(told) = told {
                say(context, &told).await?;
            }
            Ok(Some(after))
        }
        Step::MakePod => {
            let Ok(store) = repository else {
                return Ok(None);
            };
            let keys = operation.status.as_ref().and_then(|s| s.keys.as_ref());
            let asked = operation.spec.destroy_keys.as_ref();
            let settings = ShredSettings {
                repository: store.spec.clone(),
                recipients: keys.map(|k| k.recipients.clone()).unwrap_or_default(),
                others_stay: asked.and_then(|a| a.escrow_stays).unwrap_or(false),
            };
            // Before the pod: it is never without.
            let policy = Object::of(&shred::policy(operation, &store.access))?;
            io::create(client, &policy).await?;
            let image = &context.settings.image;
            let Some(pod) = E::shred_pod(operation, &settings, &store, image)? else {
                return Ok(None);
            };
            io::create(client, &Object::of(&pod)?).await?;
            Ok(Some(AGAIN))
        }
        Step::RemovePod => remove(context, pod.as_ref()).await.map(|()| Some(AGAIN)),
        Step::DeleteSecret(uid) => {
            // It is the one that was looked at: its version is a precondition.
            remove(
                context,
                secret.filter(|s| s.uid().as_ref() == Some(&uid)).as_ref(),
            )
            .await?;
            tracing::warn!(%set, secret = name, "the keys of backups are destroyed");
            Ok(Some(SOON))
        }
    }
}

async fn remove<E: Engine, K>(context: &Context<E>, object: Option<&K>) -> Result<(), KeysError>
where
    K: Resource<DynamicType = ()> + serde::Serialize,
{
    let object = object.map(Object::of).transpose()?;
    if let Some(seen) = object.as_ref().and_then(Seen::of) {
        io::delete(&context.client, &seen).await?;
    }
    Ok(())
}

/// One that has changed since it was seen, or is gone, is looked at anew.
async fn say<E: Engine>(context: &Context<E>, told: &Told) -> Result<(), KeysError> {
    match io::write_status_as_seen(&context.client, &told.operation, &told.status).await {
        Ok(()) => {
            if let Some(happening) = operations::happening(told) {
                let object = told.operation.object_ref(&());
                context.events.report(&object, happening);
            }
            Ok(())
        }
        Err(error) if error.cause.is_overtaken() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An object by its name, as it is now.
async fn named<E: Engine, K>(
    context: &Context<E>,
    set: &SetKey,
    name: &str,
) -> Result<Option<K>, KeysError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(list::<E, K>(context, set, &by_name, name).await?.pop())
}

async fn list<E: Engine, K>(
    context: &Context<E>,
    set: &SetKey,
    by: &ListParams,
    name: &str,
) -> Result<Vec<K>, KeysError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &set.namespace);
    let found = api.list(by).await;
    Ok(found
        .map_err(|error| failed::<K>("list", set, name, error))?
        .items)
}

async fn target<E: Engine>(context: &Context<E>, set: &SetKey) -> Result<Target, KeysError> {
    let root = named::<E, E::Resource>(context, set, &set.name).await?;
    Ok(match root {
        None => Target::Gone,
        Some(root) if root.meta().deletion_timestamp.is_some() => Target::Going,
        Some(_) => Target::There,
    })
}

/// Claims of the set's data.
async fn volumes<E: Engine>(context: &Context<E>, set: &SetKey) -> Result<Vec<String>, KeysError> {
    let labels = format!(
        "{}={},{}={}",
        names::APP_NAME,
        E::APP,
        names::APP_INSTANCE,
        set.name
    );
    let of_set = ListParams::default().labels(&labels);
    let claims = list::<E, PersistentVolumeClaim>(context, set, &of_set, &set.name).await?;
    let mut claims: Vec<String> = claims.iter().map(ResourceExt::name_any).collect();
    claims.sort_unstable();
    Ok(claims)
}

/// The public parts of the keys in a Secret.
fn recipients(secret: &Secret) -> Result<Vec<String>, String> {
    let text = secret
        .data
        .as_ref()
        .and_then(|data| data.get(INSTANCE_KEYS));
    let text = text.ok_or_else(|| format!("it has no key {INSTANCE_KEYS}"))?;
    let text = std::str::from_utf8(&text.0).map_err(|_| "it holds no text".to_owned())?;
    let ring = Keyring::parse(text).map_err(|error| error.to_string())?;
    let public = ring.identities().iter().map(|i| i.to_public().to_string());
    Ok(public.collect())
}
