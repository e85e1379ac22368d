//! Wiring (I/O): what is watched, what causes a pass, how many run at once, what happens on errors.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::controller::{Config as Control, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{Config as Watch, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use mainstay_crds::operation::{Action, Operation};
use mainstay_crds::restore::Restore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::agent::program::Own;
use crate::apply::io;
use crate::backups::{plan as backups, restores};
use crate::events::Events;
use crate::names;
use crate::operations::{self, ordered};
use crate::operator::engine::Engine;
use crate::operator::keys;
use crate::operator::logins::{self, Stage};
use crate::operator::observe::kinds;
use crate::operator::pass::{self, Context};
use crate::operator::talk::Talk;
use crate::telemetry::metrics::Metrics;
use crate::watch::{Cache, Kind, SetKey, feed};

/// Passes that run at once, each for another set.
const CONCURRENCY: u16 = 8;
/// What happens within this time causes one pass.
const DEBOUNCE: Duration = Duration::from_millis(15);

/// What the operator is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings<E: Engine> {
    /// Its namespace: authorities are kept there.
    pub namespace: String,
    /// Its own image: data pods take their agent from it.
    pub image: String,
    /// Image of each version.
    pub catalogue: E::Catalogue,
    /// Its own program, which agents are upgraded to.
    pub program: Own,
}

/// How the custom resource is addressed.
fn resource<E: Engine>() -> ApiResource {
    ApiResource::erase::<E::Resource>(&())
}

/// Look after every resource of the engine's kind until `stop` completes and the passes that run by then have ended, or
/// until the future is dropped, which ends every task of it.
///
/// Guarantees: no pass before everything was listed once, so nothing is taken for absent that is
/// merely not known yet; never two passes for one set at once; an object that cannot be read
/// disturbs no other.
pub async fn run<E: Engine>(
    client: Client,
    settings: Settings<E>,
    events: Events,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Send,
) {
    let cache = Arc::new(Cache::default());
    let (wake, woken) = mpsc::unbounded_channel();
    let context = Arc::new(Context::new(
        client.clone(),
        settings,
        Arc::clone(&cache),
        Talk::new(wake.clone()),
        events,
        metrics,
    ));
    let writer = Writer::new(resource::<E>());
    let store = writer.as_reader();
    let (ready, listed) = oneshot::channel();
    let (destroy, asked) = mpsc::unbounded_channel();
    // Tasks end with this future: a set of tasks aborts them when it is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(
        Arc::clone(&context),
        writer,
        store.clone(),
        wake,
        destroy,
        ready,
    ));
    tasks.spawn(keys::run(Arc::clone(&context), asked));
    let mut stop = pin!(stop.fuse());
    tokio::select! {
        listed = listed => if listed.is_err() { return; },
        () = &mut stop => return,
    }
    let requests = stream::unfold(woken, |mut woken| async move {
        let set: SetKey = woken.recv().await?;
        Some((Ok::<_, Infallible>(request::<E>(&set)), woken))
    });
    // No new pass begins after the wish to stop; those that run go on.
    let requests = requests.take_until(stop);
    let control = Control::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    applier(
        |object, context| Box::pin(pass::pass::<E>(object, context)),
        |_, error: &Infallible, _| match *error {},
        context,
        store,
        requests,
        control,
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

fn request<E: Engine>(set: &SetKey) -> ReconcileRequest<DynamicObject> {
    ReconcileRequest {
        obj_ref: ObjectRef::new_with(&set.name, resource::<E>()).within(&set.namespace),
        reason: ReconcileReason::Unknown,
    }
}

/// News from the watches.
enum News {
    /// These sets changed.
    Sets(Vec<SetKey>),
    /// Something that concerns every set.
    Everyone,
    /// The custom resources were listed.
    Listed,
}

/// News of all watches; they feed the caches.
fn all_news<E: Engine>(
    context: &Context<E>,
    writer: Writer<DynamicObject>,
) -> SelectAll<BoxStream<'static, News>> {
    let mut news: SelectAll<BoxStream<'static, News>> = SelectAll::new();
    let kinds = E::all_kinds();
    for kind in &kinds {
        let namespace = context.settings.namespace.clone();
        let set_of = move |object: &DynamicObject| kinds::set_of(object, E::APP, &namespace);
        let cache = Arc::clone(&context.cache);
        let stream = feed(
            &context.client,
            kind,
            kinds::children(kind, E::APP),
            cache,
            set_of,
        );
        news.push(stream.map(News::Sets).boxed());
    }
    let done_to = |kind: Kind| {
        let (cache, which) = (Arc::clone(&context.cache), kinds::done_to(E::KIND));
        feed(&context.client, &kind, which, cache, target_of::<E>)
    };
    // Waited for: while one goes on nothing else makes or disturbs instances.
    let restores = done_to(kinds::restores());
    news.push(restores.map(News::Sets).boxed());
    // Waited for as well: a login that is not known yet would be taken for one that nobody wants any more.
    if E::LOGINS {
        let logins = done_to(kinds::accesses());
        news.push(logins.map(News::Sets).boxed());
    }
    // Not waited for: what is not known yet of operations is not done yet, and nothing else.
    let operations = done_to(kinds::operations());
    news.push(operations.map(News::Sets).boxed());
    // Neither are these; but what is due by itself is not decided before they were listed.
    let cache = Arc::clone(&context.cache);
    let mut listed = false;
    let backups = done_to(kinds::backups());
    let backups = backups.map(move |sets| {
        let before = std::mem::replace(&mut listed, cache.is_ready(&[kinds::BACKUP]));
        if listed && !before {
            News::Everyone
        } else {
            News::Sets(sets)
        }
    });
    news.push(backups.boxed());
    news.push(
        context
            .nodes
            .feed(&context.client)
            .map(|()| News::Everyone)
            .boxed(),
    );
    news.push(
        context
            .servers
            .feed(&context.client)
            .map(|()| News::Everyone)
            .boxed(),
    );
    news.push(roots::<E>(&context.client, writer).boxed());
    news
}

/// Feed the caches, and wake the sets that something happened to. Tells through `ready` when
/// everything has been listed once.
async fn watch<E: Engine>(
    context: Arc<Context<E>>,
    writer: Writer<DynamicObject>,
    store: Store<DynamicObject>,
    wake: mpsc::UnboundedSender<SetKey>,
    destroy: mpsc::UnboundedSender<SetKey>,
    ready: oneshot::Sender<()>,
) {
    let mut news = all_news(&context, writer);
    let mut names: Vec<&'static str> = E::all_kinds().iter().map(|kind| kind.name).collect();
    names.push(kinds::RESTORE);
    if E::LOGINS {
        names.push(kinds::ACCESS);
    }
    let mut ready = Some(ready);
    let mut roots_listed = false;
    let is_there = |set: &SetKey| store.get(&request::<E>(set).obj_ref).is_some();
    while let Some(item) = news.next().await {
        roots_listed |= matches!(item, News::Listed);
        let mut sets = match item {
            News::Sets(sets) => sets,
            News::Everyone => store.state().iter().map(|o| key(o)).collect(),
            News::Listed => Vec::new(),
        };
        if ready.is_some() {
            let listed = context.cache.is_ready(&names)
                && context.nodes.is_ready()
                && context.servers.is_ready()
                && roots_listed;
            if !listed {
                continue;
            }
            // Every set is looked at once, whatever happened before; so is what is asked of none.
            sets = store.state().iter().map(|o| key(o)).collect();
            sets.extend(
                context
                    .cache
                    .sets()
                    .into_iter()
                    .filter(|set| !is_there(set)),
            );
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
        }
        for set in sets {
            if !is_there(&set) {
                context.forget(&set);
                tokio::spawn(without_target(Arc::clone(&context), set.clone()));
            }
            // They fail only when the operator ends.
            let _ = destroy.send(set.clone());
            let _ = wake.send(set);
        }
    }
}

/// Say something of an object that is about a set which is not there. That it could not be said is told, and no more.
async fn say<E, K, S>(context: &Context<E>, set: &SetKey, what: &str, object: &K, status: &S)
where
    E: Engine,
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
    S: Serialize,
{
    let said = io::write_status_as_seen(&context.client, object, status).await;
    if let Err(error) = said {
        tracing::warn!(%set, %error, "{what}");
    }
}

/// Say of operations on a set that is not there, of backups and of restores, that they wait for it, or that nothing comes of them. One that has
/// changed meanwhile is news again.
async fn without_target<E: Engine>(context: Arc<Context<E>>, set: SetKey) {
    let mut operations: Vec<Operation> = ordered(context.cache.typed(&set, kinds::OPERATION));
    // Keys are destroyed when the set is gone.
    operations.retain(|o| o.spec.action != Action::DestroyKeys);
    for told in operations::without_target(&operations, Timestamp::now()) {
        say(
            &context,
            &set,
            "an operation's status",
            &told.operation,
            &told.status,
        )
        .await;
    }
    let waiting = backups::ordered(context.cache.typed(&set, kinds::BACKUP));
    for step in backups::without_target(&waiting, Timestamp::now()) {
        let Some(status) = &step.status else { continue };
        say(&context, &set, "a backup's status", &step.backup, status).await;
    }
    for access in logins::ordered(context.cache.typed(&set, kinds::ACCESS)) {
        let Some(told) = logins::told(&access, &Stage::NoTarget, Timestamp::now()) else {
            continue;
        };
        say(
            &context,
            &set,
            "a login's status",
            &told.access,
            &told.status,
        )
        .await;
    }
    let all = restores::ordered(context.cache.typed(&set, kinds::RESTORE));
    for told in restores::without_target(&all, Timestamp::now()) {
        say(
            &context,
            &set,
            "a restore's status",
            &told.restore,
            &told.status,
        )
        .await;
    }
    // With the set gone nothing is between two states of it.
    let goes = |r: &&Restore| {
        let held = r.finalizers().iter().any(|f| f == names::RESTORE_FINALIZER);
        held && r.metadata.deletion_timestamp.is_some()
    };
    let api: Api<Restore> = Api::namespaced(context.client.clone(), &set.namespace);
    for restore in all.iter().filter(goes) {
        let body = Patch::Merge(pass::restores::finalizers(restore, false));
        let name = restore.name_any();
        if let Err(error) = api.patch(&name, &PatchParams::default(), &body).await {
            tracing::warn!(%set, %error, "a restore that is deleted");
        }
    }
}

fn target_of<E: Engine>(object: &DynamicObject) -> Option<SetKey> {
    kinds::target_of(object, E::KIND)
}

/// Namespace and name of a custom resource.
fn key(object: &DynamicObject) -> SetKey {
    SetKey {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// Watch the custom resources. Yields a set when something changed that a pass acts on: a write of
/// the status is none.
fn roots<E: Engine>(
    client: &Client,
    writer: Writer<DynamicObject>,
) -> impl futures::Stream<Item = News> + Send + use<E> + 'static {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource::<E>());
    let mut seen: BTreeMap<SetKey, String> = BTreeMap::new();
    let stream = watcher(api, Watch::default())
        .backoff(DefaultBackoff::default())
        .modify(|object| {
            object.metadata.managed_fields = None;
            if let Some(notes) = &mut object.metadata.annotations {
                notes.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        });
    reflector(writer, stream).filter_map(move |event| {
        let news = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let set = key(&object);
                let now = concern(&object);
                let changed = seen.insert(set.clone(), now.clone()) != Some(now);
                changed.then(|| News::Sets(vec![set]))
            }
            Ok(Event::Delete(object)) => {
                let set = key(&object);
                seen.remove(&set);
                Some(News::Sets(vec![set]))
            }
            Ok(Event::Init) => None,
            Ok(Event::InitDone) => Some(News::Listed),
            Err(error) => {
                tracing::warn!(%error, "the watch of custom resources is interrupted");
                None
            }
        };
        std::future::ready(news)
    })
}

/// What of a custom resource a pass acts on.
fn concern(object: &DynamicObject) -> String {
    let meta = &object.metadata;
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        meta.uid, meta.generation, meta.deletion_timestamp, meta.annotations, meta.finalizers
    )
}
