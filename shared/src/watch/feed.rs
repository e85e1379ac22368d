//! Feeding the cache from watches (I/O).

use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::watcher::{DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cache::{Cache, SetKey};

/// A kind of child that is watched.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name, for example `Pod`.
    pub name: &'static str,
    /// How it is addressed.
    pub resource: ApiResource,
}

impl Kind {
    /// The kind of a typed object.
    pub fn of<K: kube::Resource<DynamicType = ()>>(name: &'static str) -> Self {
        Self {
            name,
            resource: ApiResource::erase::<K>(&()),
        }
    }
}

/// Watch objects, and yield what `take` makes of each event. Interruptions are logged by `what` is
/// watched, and the watch is begun anew with growing pauses.
pub fn events<K, T, F>(
    api: Api<K>,
    config: watcher::Config,
    what: &'static str,
    mut take: F,
) -> impl Stream<Item = T> + Send + use<K, T, F> + 'static
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
    F: FnMut(Event<K>) -> Option<T> + Send + 'static,
{
    watcher(api, config)
        .backoff(DefaultBackoff::default())
        .filter_map(move |event| {
            let taken = match event {
                Ok(event) => take(event),
                Err(error) => {
                    tracing::warn!(what, %error, "the watch is interrupted");
                    None
                }
            };
            std::future::ready(taken)
        })
}

/// Watch one kind in all namespaces as `config` selects, and put what is seen into the cache. The
/// stream yields the sets for which something changed that somebody may act on; a delete always is.
/// It also yields, maybe nothing, when the kind was listed: [`Cache::is_ready`] may be asked then.
///
/// `set_of` tells the set that an object belongs to. For interruptions see [`events`].
pub fn feed<F>(
    client: &Client,
    kind: &Kind,
    config: watcher::Config,
    cache: Arc<Cache>,
    set_of: F,
) -> impl Stream<Item = Vec<SetKey>> + Send + use<F> + 'static
where
    F: Fn(&DynamicObject) -> Option<SetKey> + Send + 'static,
{
    let name = kind.name;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource);
    events(api, config, name, move |event| {
        let listed = matches!(event, Event::InitDone);
        let touched = take(name, &cache, &set_of, event);
        (listed || !touched.is_empty()).then_some(touched)
    })
}

fn take(
    kind: &'static str,
    cache: &Cache,
    set_of: &impl Fn(&DynamicObject) -> Option<SetKey>,
    event: Event<DynamicObject>,
) -> Vec<SetKey> {
    match event {
        Event::Init => {
            cache.begin(kind);
            Vec::new()
        }
        Event::InitDone => cache.finish(kind).into_iter().collect(),
        Event::Apply(object) | Event::InitApply(object) => {
            let Some(set) = set_of(&object) else {
                return Vec::new();
            };
            let changed = cache.put(kind, set.clone(), value(object));
            if changed { vec![set] } else { Vec::new() }
        }
        Event::Delete(object) => {
            let Some(set) = set_of(&object) else {
                return Vec::new();
            };
            let namespace = object.namespace().unwrap_or_default();
            cache.remove(kind, &set, &namespace, &object.name_any());
            vec![set]
        }
    }
}

fn value(object: DynamicObject) -> Value {
    // A dynamic object came from JSON and always goes back to it.
    serde_json::to_value(object).unwrap_or_default()
}
