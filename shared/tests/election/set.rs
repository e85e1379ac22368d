//! Three agents on loopback: real drivers, servers and certificates, the fake API server, engines
//! as values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::election::driver::{self, Config, Handle, Place, Setup};
use mainstay_shared::agent::program::Programs;
use mainstay_shared::agent::server::{Interface, serve};
use mainstay_shared::agent::state::Store;
use mainstay_shared::election::charter::Charter;
use mainstay_shared::election::member::Epoch;
use mainstay_shared::election::message::Room;
use mainstay_shared::election::policy::{Durability, Policy, Timing};
use mainstay_shared::names;
use mainstay_shared::pki::{
    ClientAuth, LeafSpec, Pair, Usage, client_config, issue_authority, issue_leaf, server_config,
};
use mainstay_testkit::api::{FakeApi, Fault, Rule};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::engine::Engines;

pub const SET: &str = "db";
pub const NAMESPACE: &str = "shop";

/// Shorter than the default, so that the tests are.
pub const TIMING: Timing = Timing {
    duration: Duration::from_secs(3),
    deadline: Duration::from_millis(2250),
    renew: Duration::from_millis(500),
    health: Duration::from_millis(2250),
    stagger: Duration::from_millis(150),
    patience: Duration::from_secs(3),
    stop: Duration::from_secs(3),
};

/// What has not come by then never comes: the machine may be busy, two candidates may meet.
const NEVER: Duration = Duration::from_secs(60);

/// An agent that runs.
pub struct Agent {
    pub handle: Arc<Handle>,
    setup: watch::Sender<Setup>,
    store: Store,
    engine: JoinHandle<()>,
    server: Server,
    serve: Box<dyn Fn() -> Server>,
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    /// While it is set the driver's thread stands still.
    pub frozen: Arc<AtomicBool>,
}

impl Agent {
    /// Nothing is written to its volume until what is returned is dropped.
    pub fn hang_volume(&self) -> std::sync::mpsc::Sender<()> {
        let (goes_on, waits) = std::sync::mpsc::channel();
        let store = self.store.clone();
        std::thread::spawn(move || {
            // Every write waits for the one before.
            let wait = |_: &mut _| {
                let _ = waits.recv();
            };
            store.update(wait).unwrap();
        });
        goes_on
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.engine.abort();
        self.server.stop();
    }
}

/// A server whose connections end with it, as those of a process do.
struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(
        at: SocketAddr,
        tls: watch::Receiver<Option<Arc<ServerConfig>>>,
        interface: Interface,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, tls, interface) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The set.
pub struct Set {
    pub api: FakeApi,
    pub engines: Engines,
    authority: Pair,
    port: u16,
    folder: PathBuf,
    setup: Setup,
    /// Zones of the instances' nodes.
    zones: BTreeMap<String, String>,
    agents: BTreeMap<String, Agent>,
    starts: AtomicU32,
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn telemetry() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have been first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_thread_ids(true)
        .with_writer(std::io::stderr)
        .try_init();
}

static SETS: AtomicU32 = AtomicU32::new(0);

fn address(name: &str) -> IpAddr {
    let ordinal = names::ordinal(SET, name).unwrap();
    IpAddr::from([127, 0, 0, u8::try_from(ordinal).unwrap()])
}

/// A port that is free on all the addresses.
fn port(members: &BTreeSet<String>) -> u16 {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.9:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let free = |n: &String| std::net::TcpListener::bind((address(n), port)).is_ok();
        if members.iter().all(free) {
            return port;
        }
    }
}

impl Set {
    /// As the operator makes it, with `db-1` as founder.
    pub fn new(durability: Durability, timing: Timing) -> Self {
        // RUST_LOG says what the agents do.
        telemetry();
        let api = FakeApi::new();
        let mut lease = Lease::default();
        lease.metadata.namespace = Some(NAMESPACE.into());
        lease.metadata.name = Some(SET.into());
        let seat = ("mainstay.dev/seat".to_owned(), "db-1".to_owned());
        lease.metadata.annotations = Some(BTreeMap::from([seat]));
        api.put(&lease);
        let mut slice = EndpointSlice::default();
        slice.metadata.namespace = Some(NAMESPACE.into());
        slice.metadata.name = Some(names::primary_service(SET));
        slice.address_type = "IPv4".into();
        api.put(&slice);
        let members: BTreeSet<String> = (1..=3).map(|n| names::instance(SET, n)).collect();
        let number = SETS.fetch_add(1, Ordering::Relaxed);
        // In memory, as the run folder of a pod is.
        let folder = format!("/dev/shm/mainstay-election-{}-{number}", std::process::id());
        Self {
            api,
            engines: Engines::default(),
            authority: issue_authority(NAMESPACE, SET, Timestamp::now()).unwrap(),
            port: port(&members),
            folder: folder.into(),
            setup: Setup {
                policy: Policy {
                    durability,
                    across_zones: true,
                    max_lag: 0,
                    timing,
                },
                members,
                zone: None,
                room: Room::default(),
            },
            zones: BTreeMap::new(),
            agents: BTreeMap::new(),
            starts: AtomicU32::new(0),
        }
    }

    /// All agents run.
    pub fn started(durability: Durability, timing: Timing) -> Self {
        let mut set = Self::new(durability, timing);
        for name in ["db-1", "db-2", "db-3"] {
            set.start(name, false);
        }
        set
    }

    /// The same in these zones: `db-1` in the first.
    pub fn in_zones(durability: Durability, timing: Timing, zones: [&str; 3]) -> Self {
        let mut set = Self::new(durability, timing);
        for (name, zone) in ["db-1", "db-2", "db-3"].into_iter().zip(zones) {
            set.zones.insert(name.into(), zone.into());
            set.start(name, false);
        }
        set
    }

    /// Say how much room an instance has.
    pub fn tell_room(&mut self, name: &str, room: Room) {
        self.agents[name].setup.send_modify(|s| s.room = room);
    }

    /// The zone of an instance's node becomes known to its agent, or is another.
    pub fn tell_zone(&mut self, name: &str, zone: &str) {
        self.zones.insert(name.into(), zone.into());
        self.agents[name]
            .setup
            .send_modify(|s| s.zone = Some(zone.into()));
    }

    /// For whom commits wait, by what the primary has agreed on.
    pub fn voters(&self, primary: &str) -> Vec<String> {
        let charter = self.agent(primary).handle.charter.borrow().clone();
        let group = charter.and_then(|c| c.last().cloned());
        let voters = group.iter().flat_map(|g| &g.voters);
        voters.map(|m| m.name.to_string()).collect()
    }

    pub fn agent(&self, name: &str) -> &Agent {
        &self.agents[name]
    }

    fn pair(&self, name: &str) -> Pair {
        let spec = LeafSpec {
            common_name: name.into(),
            dns_names: vec![names::instance_host(name, SET, NAMESPACE)],
            addresses: vec![],
            usage: Usage::ServerAndClient,
            hours: 1,
        };
        issue_leaf(&self.authority, &spec, Timestamp::now()).unwrap()
    }

    /// Start an agent; its engine is as it is.
    pub fn start(&mut self, name: &str, resume: bool) {
        let frozen = Arc::new(AtomicBool::new(false));
        let run = self.folder.join(format!("{name}-run"));
        std::fs::create_dir_all(&run).unwrap();
        let pair = self.pair(name);
        let client = client_config(&self.authority.certificate, Some(&pair)).unwrap();
        let (engines, api, named) = (self.engines.clone(), self.api.clone(), name.to_owned());
        let (port, still) = (self.port, Arc::clone(&frozen));
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let shown = watch::Sender::new(Some(Arc::new(client)));
        let store = Store::open(&self.folder.join(name)).unwrap();
        let setup = watch::Sender::new(Setup {
            zone: self.zones.get(name).cloned(),
            ..self.setup.clone()
        });
        let config = Config {
            place: Place {
                namespace: NAMESPACE.into(),
                set: SET.into(),
                instance: name.into(),
                pod_uid: format!("pod-of-{name}"),
                nonce: format!("{start:x}"),
                address: address(name),
                labels: BTreeMap::new(),
                port_name: "postgres".into(),
                port: 5432,
            },
            store: store.clone(),
            setup: setup.subscribe(),
            connect: Arc::new(move || {
                let client = api.client_as(&named);
                Box::pin(async move { Ok(client) })
            }),
            resolve: Arc::new(move |peer| {
                while still.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let found = SocketAddr::new(address(&peer), port);
                Box::pin(async move { vec![found] })
            }),
            agent_port: port,
            tls: shown.subscribe(),
            hard_stop: {
                let (engines, name) = (engines.clone(), name.to_owned());
                Arc::new(move || engines.hard_stop(&name))
            },
            run,
            resume,
        };
        let handle = Arc::new(driver::spawn(config).unwrap());
        let server = server_config(&pair, ClientAuth::Optional).unwrap();
        let tls = watch::Sender::new(Some(Arc::new(server))).subscribe();
        let interface = Interface {
            status: watch::Sender::new(Status::default()).subscribe(),
            orders: mpsc::channel(1).0,
            alive: Arc::new(|| true),
            metrics: std::sync::Arc::new(|_| String::new()),
            election: watch::Sender::new(Some(handle.door.clone())).subscribe(),
            programs: Programs::new(self.folder.clone()),
        };
        let at = SocketAddr::new(address(name), port);
        let deadline = self.setup.policy.timing.deadline;
        let engine = run_engine(name.to_owned(), Arc::clone(&handle), engines, deadline);
        let serve = move || Server::start(at, tls.clone(), interface.clone());
        let agent = Agent {
            handle,
            setup,
            store,
            engine: tokio::spawn(engine),
            server: serve(),
            serve: Box::new(serve),
            tls: shown,
            frozen,
        };
        self.agents.insert(name.to_owned(), agent);
    }

    /// The agent's process is gone, its engine runs on.
    pub async fn end_agent(&mut self, name: &str) {
        let agent = self.agents.remove(name).unwrap();
        let turned = agent.handle.held.clone();
        drop(agent);
        // Its thread ends when the last handle is gone.
        let gone = async {
            while turned.has_changed().is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(NEVER, gone).await.unwrap();
    }

    /// The node of an agent reaches neither the API server nor other nodes, nor they it.
    pub fn cut(&mut self, name: &str) {
        self.api
            .add_rule(Rule::new(Fault::Unreachable).client(name));
        self.api.cut_watches();
        self.cut_from_peers(name);
    }

    /// The node of an agent reaches no other node, nor they it; the API server it does.
    pub fn cut_from_peers(&mut self, name: &str) {
        self.engines.cut(name, true);
        for (other, agent) in &mut self.agents {
            agent.server.stop();
            if other == name {
                agent.tls.send_replace(None);
            } else {
                agent.server = (agent.serve)();
            }
        }
    }

    /// It reaches everybody again.
    pub fn heal(&mut self, name: &str) {
        self.engines.cut(name, false);
        self.api.calm();
        let client = client_config(&self.authority.certificate, Some(&self.pair(name))).unwrap();
        let agent = self.agents.get_mut(name).unwrap();
        agent.tls.send_replace(Some(Arc::new(client)));
        agent.server = (agent.serve)();
    }

    /// The pod is gone.
    pub async fn crash(&mut self, name: &str) {
        self.engines.kill(name);
        self.end_agent(name).await;
        self.engines.kill(name);
    }

    /// Wait for something that can be seen; it says how long that took.
    pub async fn until(&self, what: &str, seen: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !seen(self) {
            if began.elapsed() > NEVER {
                let waits: Vec<_> = self
                    .agents
                    .iter()
                    .map(|(n, a)| {
                        let wanted = a.handle.wanted.borrow().clone();
                        let promise = a.store.get().election.promise;
                        (n, a.handle.wait.borrow().clone(), wanted, promise)
                    })
                    .collect();
                let asked = self.api.requests();
                let last = asked.iter().rev().take(12).collect::<Vec<_>>();
                panic!("not within {NEVER:?}: {what}; {waits:#?} {last:#?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Wait until somebody leads, the others stream, and writes are acknowledged.
    pub async fn settled(&self) -> (String, Epoch) {
        let others = self.agents.len() - 1;
        self.until("a settled set", |set| {
            set.engines.open().is_some_and(|(name, epoch)| {
                let charter = set.agent(&name).handle.charter.borrow().clone();
                let agreed = |c: Charter| c.is_settled() && c.members.len() == others + 1;
                set.engines.followers(epoch) == others && charter.is_some_and(agreed)
            })
        })
        .await;
        let before = self.engines.acknowledged();
        self.until("acknowledged writes", |set| {
            set.engines.acknowledged() > before + 3
        })
        .await;
        self.engines.open().unwrap()
    }

    /// Wait for another primary than that one to let clients in.
    pub async fn next_primary(&self, before: Epoch) -> (String, Epoch, Duration) {
        let took = self
            .until("another primary", |set| {
                set.engines.open().is_some_and(|(_, e)| e > before)
            })
            .await;
        let (name, epoch) = self.engines.open().unwrap();
        (name, epoch, took)
    }

    /// Where the primary Service leads to.
    pub fn endpoint(&self) -> Option<String> {
        let slice: EndpointSlice = self
            .api
            .get(Some(NAMESPACE), &names::primary_service(SET))
            .unwrap();
        slice.endpoints.first()?.hostname.clone()
    }
}

/// The engine's agent, and PID 1: an engine whose driver stands still is stopped.
async fn run_engine(name: String, handle: Arc<Handle>, engines: Engines, deadline: Duration) {
    let mut wanted = handle.wanted.clone();
    loop {
        let now = wanted.borrow_and_update().clone();
        let member = handle.me.borrow().clone();
        if boottime().saturating_sub(handle.turned()) > deadline {
            engines.kill(&name);
        } else {
            let seen = engines.turn(&name, &member, &now);
            handle.engine.send_replace(seen);
        }
        // A turn is a round trip to replicas and back, too.
        let _ = timeout(Duration::from_millis(20), wanted.changed()).await;
    }
}
