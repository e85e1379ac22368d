//! What an operator is tried in: an API server, a cluster of agents that answer, and the operator, which may crash.
//! It looks after one resource, `db` in namespace `shop`.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::object::HasStatus;
use kube::{Resource, ResourceExt};
use mainstay_shared::conditions;
use mainstay_shared::events::Events;
use mainstay_shared::operator::engine::Engine;
use mainstay_shared::operator::run::{Settings, run};
use mainstay_shared::operator::status::SetStatus;
use mainstay_shared::telemetry::metrics::Metrics;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::FakeApi;
use crate::cluster::FakeCluster;

/// Namespace of the resource.
pub const SHOP: Option<&str> = Some("shop");
/// Its name.
pub const NAME: &str = "db";
/// Nothing in such tests takes long by itself; but a machine may be busy, and after failures in a row the
/// operator pauses for up to a minute each time.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// After how many writes operators crash, one after the other and again from the first, in tests of a whole
/// procedure. The first two together crash at every write that there is. None crashes at each first write: a new
/// operator may have to say that it does not know yet, before it does anything.
pub const STRIDES: [&[usize]; 4] = [&[1, 2], &[2, 1], &[3, 1], &[5]];

/// What else runs in the cluster of an engine's tests.
pub trait Beside: Default {
    /// One turn of it.
    fn turn(&mut self, api: &FakeApi, cluster: &FakeCluster) -> impl Future<Output = ()>;
}

impl Beside for () {
    async fn turn(&mut self, _api: &FakeApi, _cluster: &FakeCluster) {}
}

/// An API server, a cluster of agents that answer, and an operator.
pub struct World<E: Engine, B = ()> {
    /// The API server.
    pub api: FakeApi,
    /// Nodes and agents.
    pub cluster: FakeCluster,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
    /// What else runs there.
    pub beside: B,
    /// So often operators have crashed.
    pub crashes: usize,
    operator: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
    /// As it was started last.
    settings: Option<Settings<E>>,
    /// After how many writes operators crash, in turn; nothing: never again.
    strides: Box<dyn Iterator<Item = usize> + Send>,
    /// Whether a crash is to come that the world sees to.
    crashing: bool,
}

impl<E: Engine, B> Drop for World<E, B> {
    fn drop(&mut self) {
        end(&mut self.operator);
    }
}

fn end(operator: &mut Option<(JoinHandle<()>, oneshot::Sender<()>)>) {
    if let Some((operator, _)) = operator.take() {
        operator.abort();
    }
}

impl<E: Engine, B: Beside> World<E, B> {
    /// Three zones with a node each, and nothing in them.
    #[allow(clippy::new_without_default, reason = "a world is made, not assumed")]
    pub fn new() -> Self {
        let api = FakeApi::new();
        let cluster = FakeCluster::new(&api, &["a", "b", "c"]);
        api.put::<EndpointSlice>(
            &serde_json::from_value(json!({
                "metadata": {"name": "kubernetes", "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"]}],
                "ports": [{"port": 6443}],
            }))
            .unwrap(),
        );
        Self {
            api,
            cluster,
            metrics: Arc::default(),
            beside: B::default(),
            crashes: 0,
            operator: None,
            settings: None,
            strides: Box::new(iter::empty()),
            crashing: false,
        }
    }

    /// One turn of the cluster and of what runs in it.
    pub async fn turn(&mut self) {
        if self.cluster.turn().await {
            self.beside.turn(&self.api, &self.cluster).await;
        }
        if self.crashing && self.api.has_crashed() {
            self.crashes += 1;
            self.kill();
            self.api.restart();
            if let Some(settings) = self.settings.clone() {
                self.start_with(settings);
            }
            self.crash_next();
        }
    }

    /// From now on operators crash after so many writes, in turn: the last has effect, its answer is lost, and
    /// with the next turn an operator starts that remembers nothing.
    pub fn crash_after_each(&mut self, strides: &'static [usize]) {
        self.strides = Box::new(strides.iter().copied().cycle());
        self.crash_next();
    }

    /// The operator crashes as with [`Self::crash_after_each`], but once.
    pub fn crash_once_after(&mut self, writes: usize) {
        self.strides = Box::new(iter::once(writes));
        self.crash_next();
    }

    fn crash_next(&mut self) {
        let next = self.strides.next();
        self.crashing = next.is_some();
        if let Some(writes) = next {
            self.api.crash_at_write(writes);
        }
    }

    /// No crash any more.
    pub fn crash_no_more(&mut self) {
        self.crashing = false;
        self.api.calm();
    }

    /// There were as many crashes as there have to be where operators make more than so many writes and crash after
    /// `strides` of them: at least one.
    pub fn crashed_enough(&self, writes: usize, strides: &[usize]) {
        let longest = strides.iter().copied().max().unwrap_or(1);
        assert!(
            self.crashes > writes / longest,
            "only {} crashes after {strides:?}",
            self.crashes
        );
    }

    /// Start an operator, as after a crash: nothing is remembered.
    pub fn start_with(&mut self, settings: Settings<E>) {
        self.kill();
        let client = self.api.client_as("operator");
        let (events, _) = Events::new(client.clone(), "test");
        let metrics = Arc::clone(&self.metrics);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(drop);
        self.settings = Some(settings.clone());
        let run = tokio::spawn(run::<E>(client, settings, events, metrics, stopped));
        self.operator = Some((run, stop));
    }

    /// Ask the operator to stop, and wait until it has.
    pub async fn stop(&mut self) {
        let (operator, stop) = self.operator.take().unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, operator)
            .await
            .expect("it stops by itself")
            .unwrap();
    }

    /// The operator is gone.
    pub fn kill(&mut self) {
        end(&mut self.operator);
    }

    /// The user changes the resource.
    pub fn change(&self, change: impl FnOnce(&mut E::Resource)) {
        let changed = self.api.edit::<E::Resource>(SHOP, NAME, |resource| {
            change(resource);
            let meta = resource.meta_mut();
            meta.generation = meta.generation.map(|g| g + 1);
        });
        assert!(changed);
    }

    fn resource(&self) -> Option<E::Resource> {
        self.api.get(SHOP, NAME)
    }

    /// What is said of the resource.
    pub fn status(&self) -> E::Status {
        let resource = self.resource();
        let status = resource.as_ref().and_then(|r| r.status());
        status.cloned().unwrap_or_default()
    }

    fn common(&self) -> SetStatus {
        E::common_status(&self.status())
    }

    /// Whether everything that is asked for runs. No probe reaches an engine here, so the condition `Ready`
    /// is not part of it.
    pub fn is_settled(&self) -> bool {
        let Some(resource) = self.resource() else {
            return false;
        };
        let spec = serde_json::to_value(&resource).unwrap();
        let wanted = spec["spec"]["instances"].as_u64().unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap();
        let status = self.common();
        status.observed_generation == resource.meta().generation
            && status.instances.len() == wanted
            && status.instances.iter().all(|i| i.ready)
            && status.pending_changes.is_empty()
            && self.claims().len() == wanted
    }

    /// Why no progress is possible without a person: reason and sentence.
    pub fn stalled(&self) -> Option<(String, String)> {
        let status = self.common();
        let stalled = conditions::find(&status.conditions, conditions::STALLED)?;
        (stalled.status == "True").then(|| (stalled.reason.clone(), stalled.message.clone()))
    }

    /// Value of a metric; none before it first moved.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.text().unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    /// Names of claims.
    pub fn claims(&self) -> Vec<String> {
        self.api
            .list::<PersistentVolumeClaim>()
            .iter()
            .map(ResourceExt::name_any)
            .collect()
    }

    /// Uids of pods.
    pub fn pod_uids(&self) -> Vec<String> {
        self.api
            .list::<Pod>()
            .iter()
            .filter_map(ResourceExt::uid)
            .collect()
    }

    /// Turns until something holds.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(
                begin.elapsed() < PATIENCE,
                "waiting for {what}: {:#?}\n{:#?}",
                self.status(),
                self.api.writes().iter().rev().take(10).collect::<Vec<_>>()
            );
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Until everything runs, and nothing is asked of the API server any more.
    pub async fn settled(&mut self) {
        self.until("the set to settle", Self::is_settled).await;
        self.quiet().await;
    }

    /// Until no request was made for a while: longer than a status waits that only passes.
    pub async fn quiet(&mut self) {
        let begin = Instant::now();
        let mut last = (self.api.count(), Instant::now());
        while last.1.elapsed() < Duration::from_millis(700) {
            assert!(
                begin.elapsed() < PATIENCE,
                "it never rests: {:#?}",
                self.api.requests().iter().rev().take(8).collect::<Vec<_>>()
            );
            self.turn().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.api.count();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
    }

    /// A settled set causes no request. Says how many there were until then.
    pub async fn rests(&mut self) -> usize {
        self.quiet().await;
        let before = self.api.count();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(
            &self.api.requests()[before..],
            [],
            "a settled set causes no request"
        );
        before
    }
}
