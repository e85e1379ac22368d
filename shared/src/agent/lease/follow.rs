//! Watch one object by its name. I/O.

use std::fmt::Debug;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::agent::clock::boottime;

/// An object as last seen.
#[derive(Clone, Debug)]
pub struct Seen<K> {
    /// The object; none when there is none.
    pub object: Option<K>,
    /// Time since boot at which this version of it was first seen.
    pub since: Duration,
}

/// Longest time without an answer to a list.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause after a failure, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Watch the object `name` for the life of the process. None until the API server has answered
/// for the first time; what was seen stays while it is away.
///
/// It needs the rights `list` and `watch` for that name only.
pub fn follow<K>(api: Api<K>, name: String) -> watch::Receiver<Option<Seen<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (told, seen) = watch::channel(None);
    tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        while !told.is_closed() {
            match once(&api, &name, &told).await {
                Ok(()) => pause = PAUSE_MIN,
                Err(error) => {
                    tracing::warn!(object = %name, %error, "the watch is interrupted");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    });
    seen
}

async fn once<K>(
    api: &Api<K>,
    name: &str,
    told: &watch::Sender<Option<Seen<K>>>,
) -> Result<(), String>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let fields = format!("metadata.name={name}");
    let list = timeout(ANSWER, api.list(&ListParams::default().fields(&fields)))
        .await
        .map_err(|_| "the API server does not answer".to_owned())?
        .map_err(|e| e.to_string())?;
    let version = list.metadata.resource_version.unwrap_or_default();
    tell(told, list.items.into_iter().next());
    let params = WatchParams::default().fields(&fields).timeout(240);
    let events = api
        .watch(&params, &version)
        .await
        .map_err(|e| e.to_string())?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await.map_err(|e| e.to_string())? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => tell(told, Some(object)),
            WatchEvent::Deleted(_) => tell(told, None),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(status.message),
        }
    }
    Ok(())
}

/// A version that is seen again, for example after the watch began anew, keeps its time.
fn tell<K: Resource>(told: &watch::Sender<Option<Seen<K>>>, object: Option<K>) {
    told.send_if_modified(|last| {
        let version = |o: &Option<K>| o.as_ref().and_then(ResourceExt::resource_version);
        if let Some(last) = last
            && version(&last.object) == version(&object)
        {
            return false;
        }
        *last = Some(Seen {
            object,
            since: boottime(),
        });
        true
    });
}
