//! What the operator is tried in.

use std::iter;

use super::sidecar::Sidecars;
use super::*;

/// After how many writes operators crash, one after the other and again from the first ([`World::crash_after_each`]),
/// in tests of a whole procedure. The first two together crash at every write that there is. None crashes at each first write: a new
/// operator may have to say that it does not know yet, before it does anything.
pub const STRIDES: [&[usize]; 4] = [&[1, 2], &[2, 1], &[3, 1], &[5]];

/// An API server, a cluster of agents that answer, and an operator.
pub struct World {
    pub api: FakeApi,
    pub cluster: FakeCluster,
    operator: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
    pub metrics: Arc<Metrics>,
    /// The catalogue's image of poolers.
    pub pooler: Option<&'static str>,
    /// Containers that make backups.
    pub sidecars: Sidecars,
    /// After how many writes operators crash, in turn; nothing: never again.
    strides: Box<dyn Iterator<Item = usize>>,
    /// Whether a crash is to come that the world sees to.
    crashing: bool,
    /// So often it has crashed.
    pub crashes: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

impl World {
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
            operator: None,
            metrics: Arc::default(),
            pooler: None,
            sidecars: Sidecars::default(),
            strides: Box::new(iter::empty()),
            crashing: false,
            crashes: 0,
        }
    }

    /// One turn of the cluster and of what runs in it.
    pub async fn turn(&mut self) {
        if self.cluster.turn().await {
            self.sidecars.turn(&self.api, &self.cluster).await;
        }
        if self.crashing && self.api.has_crashed() {
            self.crashes += 1;
            self.kill();
            self.api.restart();
            self.start();
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
    pub fn start(&mut self) {
        self.start_version("0.1.0", "17.12");
    }

    /// Start an operator of this version, whose catalogue has this version of PostgreSQL.
    pub fn start_version(&mut self, operator: &str, postgres: &str) {
        self.kill();
        let client = self.api.client_as("operator");
        let mut catalogue = Catalogue::from_iter([(17, format!("postgres:{postgres}"))]);
        if let Some(image) = self.pooler {
            catalogue = catalogue.with_pooler(image);
        }
        let settings = Settings {
            namespace: "mainstay-system".into(),
            image: format!("mainstay/postgres-operator:{operator}"),
            catalogue,
            program: Own::at(Path::new(PROGRAM)).unwrap(),
        };
        let (events, _) = Events::new(client.clone(), "test");
        let metrics = Arc::clone(&self.metrics);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(drop);
        let run = tokio::spawn(operator::run(client, settings, events, metrics, stopped));
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

    pub fn kill(&mut self) {
        if let Some((operator, _)) = self.operator.take() {
            operator.abort();
        }
    }

    pub fn create(&self, instances: i32) {
        let mut pg = fixtures::postgres("shop", "db", instances);
        pg.metadata.generation = Some(1);
        self.api.put(&pg);
    }

    pub fn change(&self, change: impl FnOnce(&mut Postgres)) {
        let changed = self.api.edit::<Postgres>(SHOP, "db", |pg| {
            change(pg);
            pg.metadata.generation = pg.metadata.generation.map(|g| g + 1);
        });
        assert!(changed);
    }

    pub fn status(&self) -> PostgresStatus {
        let pg = self.api.get::<Postgres>(SHOP, "db");
        pg.and_then(|pg| pg.status).unwrap_or_default()
    }

    /// Whether everything that is asked for runs. Nobody serves SQL here, so the condition `Ready`
    /// is not part of it.
    pub fn is_settled(&self) -> bool {
        let Some(pg) = self.api.get::<Postgres>(SHOP, "db") else {
            return false;
        };
        let status = pg.status.clone().unwrap_or_default();
        let wanted = usize::try_from(pg.spec.instances()).unwrap();
        status.observed_generation == pg.metadata.generation
            && status.instances.len() == wanted
            && status.instances.iter().all(|i| i.ready)
            && status.pending_changes.is_empty()
            && self.claims().len() == wanted
    }

    /// Why no progress is possible without a person: reason and sentence.
    pub fn stalled(&self) -> Option<(String, String)> {
        let status = self.status();
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

    pub fn claims(&self) -> Vec<String> {
        self.api
            .list::<PersistentVolumeClaim>()
            .iter()
            .map(ResourceExt::name_any)
            .collect()
    }

    pub fn pod_uids(&self) -> Vec<String> {
        self.api
            .list::<Pod>()
            .iter()
            .filter_map(ResourceExt::uid)
            .collect()
    }

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
