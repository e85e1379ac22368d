//! A stateful API server as a tower service: `kube::Client::new(service, namespace)`.

mod apply;
mod body;
mod defaults;
mod faults;
mod patch;
mod request;
mod rules;
mod selector;
mod serve;
mod status;
mod store;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body as KubeBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch as signal;

use body::Body;
pub use faults::{Fault, Rule};
use faults::{Faults, Verdict};
pub use patch::merge;
pub use request::Verb;
use request::{Asked, Parsed};
pub use store::Id;
use store::Store;

/// One request as it was made, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Name of the client, see [`FakeApi::client_as`].
    pub client: String,
    /// What was asked for.
    pub verb: Verb,
    /// API group; empty for the core one.
    pub group: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Namespace, if one was named.
    pub namespace: Option<String>,
    /// Name, if one was named.
    pub name: Option<String>,
    /// Subresource, for example `status`.
    pub subresource: Option<String>,
    /// HTTP status of the answer; none if none was given.
    pub code: Option<u16>,
}

impl Recorded {
    /// Whether it is a request that could change something.
    pub fn is_write(&self) -> bool {
        self.verb.is_write()
    }
}

struct Inner {
    store: Store,
    faults: Faults,
    record: Vec<Recorded>,
}

/// The API server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    inner: Arc<Mutex<Inner>>,
    /// Number of events that watches may see; changes wake them.
    visible: Arc<signal::Sender<Visible>>,
}

/// What watches follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Visible {
    /// Events up to this index are shown.
    events: usize,
    /// Streams that began under another number end.
    cut: u64,
}

impl Default for FakeApi {
    fn default() -> Self {
        let inner = Inner {
            store: Store::default(),
            faults: Faults::default(),
            record: vec![],
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            visible: Arc::new(signal::Sender::default()),
        }
    }
}

impl FakeApi {
    /// An empty server.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client called `test`, with `default` as default namespace.
    pub fn client(&self) -> Client {
        self.client_as("test")
    }

    /// A client with a name, by which the record tells whose request it was.
    pub fn client_as(&self, name: &str) -> Client {
        Client::new(
            Service {
                api: self.clone(),
                client: name.into(),
            },
            "default",
        )
    }

    /// Put an object there as it is, status and all, as if by someone else. Uid, resource version,
    /// generation and creation time are given unless it has them. Not recorded, not subject to faults.
    ///
    /// # Panics
    /// When it has no kind, version or name.
    pub fn put<K>(&self, object: &K) -> Value
    where
        K: kube::Resource<DynamicType = ()> + Serialize,
    {
        let mut value = serde_json::to_value(object).expect("an object is JSON");
        value["apiVersion"] = K::api_version(&()).into();
        value["kind"] = K::kind(&()).into();
        let meta = object.meta();
        let id = Id {
            group: K::group(&()).into(),
            resource: K::plural(&()).into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().expect("the object has no name"),
        };
        let stored = self.change(|inner| inner.store.put_raw(&id, value));
        Value::clone(&stored)
    }

    /// Read an object as it stands.
    ///
    /// # Panics
    /// When it cannot be read as a `K`.
    pub fn get<K>(&self, namespace: Option<&str>, name: &str) -> Option<K>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let id = id_of::<K>(namespace, name);
        let value = self.lock().store.get(&id).cloned()?;
        Some(K::deserialize(&*value).expect("the stored object is of the kind"))
    }

    /// All objects of a kind, of all namespaces, by namespace and name.
    ///
    /// # Panics
    /// When one cannot be read as a `K`.
    pub fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    {
        let (group, resource) = (K::group(&()), K::plural(&()));
        let inner = self.lock();
        let of_kind = inner.store.of_resource(&group, &resource);
        let read = |value: &Value| K::deserialize(value);
        of_kind
            .map(|(_, v)| read(v).expect("the stored object is of the kind"))
            .collect()
    }

    /// Change an object in place as someone else would, status and all; not recorded.
    /// Returns whether it exists.
    ///
    /// # Panics
    /// When it cannot be read as, or written from, a `K`.
    pub fn edit<K>(&self, namespace: Option<&str>, name: &str, change: impl FnOnce(&mut K)) -> bool
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Serialize,
    {
        let id = id_of::<K>(namespace, name);
        self.change(|inner| {
            let Some(value) = inner.store.get(&id).cloned() else {
                return false;
            };
            let mut object: K = K::deserialize(&*value).expect("the stored object is of the kind");
            change(&mut object);
            let value = serde_json::to_value(&object).expect("an object is JSON");
            inner.store.replace_raw(&id, value);
            true
        })
    }

    /// Remove an object at once, finalizers or not, as a lost etcd would. Returns whether it was there.
    pub fn destroy<K: kube::Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> bool {
        let id = id_of::<K>(namespace, name);
        self.change(|inner| inner.store.remove(&id).is_some())
    }

    /// Delete, in the background, everything whose owners are all gone. Returns how many.
    pub fn collect_garbage(&self) -> usize {
        self.change(|inner| inner.store.collect_garbage())
    }

    /// What a node does to pods that are being deleted: end them. Returns their names.
    pub fn end_deleted_pods(&self) -> Vec<String> {
        self.change(|inner| inner.store.end_deleted_pods())
    }

    /// Changes with every change of an object.
    pub fn version(&self) -> u64 {
        self.lock().store.version()
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.lock().record.len()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().record.clone()
    }

    /// Every request so far that could change something.
    pub fn writes(&self) -> Vec<Recorded> {
        self.lock()
            .record
            .iter()
            .filter(|r| r.is_write())
            .cloned()
            .collect()
    }

    /// Forget the requests so far.
    pub fn forget_requests(&self) {
        self.lock().record.clear();
    }

    /// Have requests that match suffer. Rules are tried in the order they were added.
    pub fn add_rule(&self, rule: Rule) {
        self.lock().faults.rules.push(rule);
    }

    /// Have one in `odds` requests suffer a fault drawn from a reproducible source: conflict (writes
    /// only), 500, 429, or a lost answer.
    pub fn chaos(&self, seed: u64, odds: u64) {
        self.lock().faults.chaos = Some(faults::Chaos::new(seed, odds));
    }

    /// No faults any more; a crash is over, too.
    pub fn calm(&self) {
        self.lock().faults = Faults::default();
    }

    /// The clients crash at their `n`th write from now (from 1): it has effect, its answer is lost,
    /// and every further request fails until [`FakeApi::restart`].
    pub fn crash_at_write(&self, n: usize) {
        self.lock().faults.crash_in = Some(n);
    }

    /// Whether the crash has come.
    pub fn has_crashed(&self) -> bool {
        self.lock().faults.crashed
    }

    /// Clients get answers again. Watches of before have ended.
    pub fn restart(&self) {
        {
            let faults = &mut self.lock().faults;
            (faults.crashed, faults.crash_in) = (false, None);
        }
        self.cut_watches();
    }

    /// Watches lag behind by `events` events from now on; 0 lets them catch up.
    pub fn lag_watches(&self, events: usize) {
        self.change(|inner| inner.faults.lag = events);
    }

    /// End every watch that runs.
    pub fn cut_watches(&self) {
        self.visible.send_modify(|visible| visible.cut += 1);
    }

    /// Forget past events: a watch from before gets 410 and must list again.
    pub fn compact(&self) {
        self.lock().store.compact();
        self.cut_watches();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let events = inner.store.event_count().saturating_sub(inner.faults.lag);
        drop(inner);
        self.visible.send_if_modified(|visible| {
            let more = events > visible.events;
            visible.events = visible.events.max(events);
            more
        });
        result
    }

    async fn answer(
        &self,
        client: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Body>, Gone> {
        let parsed = match request::parse(&request) {
            Ok(parsed) => parsed,
            Err(status) => return Ok(status.response()),
        };
        let verdict = self.lock().faults.judge(client, &parsed);
        if let Verdict::Hang = verdict {
            self.record(client, &parsed, None);
            return std::future::pending().await;
        }
        if let Verdict::Late(time) = verdict {
            tokio::time::sleep(time).await;
        }
        let response = match &verdict {
            Verdict::Refuse(status) => status.clone().response(),
            Verdict::Unreachable => {
                self.record(client, &parsed, None);
                return Err(Gone);
            }
            _ => self.perform(parsed.clone()),
        };
        if let Verdict::LateAnswer(time) = verdict {
            tokio::time::sleep(time).await;
        }
        let lost = matches!(verdict, Verdict::LoseAnswer);
        self.record(client, &parsed, (!lost).then(|| response.status().as_u16()));
        if lost { Err(Gone) } else { Ok(response) }
    }

    fn perform(&self, parsed: Parsed) -> Response<Body> {
        if let Asked::Watch(query) = parsed.asked {
            return watch::stream(self.clone(), &parsed.target, &query, parsed.metadata_only);
        }
        let metadata_only = parsed.metadata_only;
        match self.change(|inner| inner.store.perform(parsed)) {
            Ok(answer) if metadata_only => {
                body::json(answer.code, &body::only_metadata(&answer.value))
            }
            Ok(answer) => body::json(answer.code, &answer.value),
            Err(status) => status.response(),
        }
    }

    fn record(&self, client: &str, parsed: &Parsed, code: Option<u16>) {
        let target = &parsed.target;
        let name = target.name.clone();
        self.lock().record.push(Recorded {
            client: client.to_owned(),
            verb: parsed.verb(),
            group: target.group.clone(),
            resource: target.resource.clone(),
            namespace: target.namespace.clone(),
            name,
            subresource: target.subresource.clone(),
            code,
        });
    }
}

fn id_of<K: kube::Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> Id {
    Id {
        group: K::group(&()).into(),
        resource: K::plural(&()).into(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

/// The connection broke: no answer came.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection broke")
    }
}

impl std::error::Error for Gone {}

/// What a client talks to.
#[derive(Clone)]
struct Service {
    api: FakeApi,
    client: Arc<str>,
}

impl tower::Service<Request<KubeBody>> for Service {
    type Response = Response<Body>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, tower::BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<KubeBody>) -> Self::Future {
        let Self { api, client } = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            api.answer(&client, Request::from_parts(head, bytes.to_vec()))
                .await
                .map_err(Into::into)
        })
    }
}
