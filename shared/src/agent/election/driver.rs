//! The driver of the machine: its interface, and how it is started.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};

use super::disk;
use super::door::Door;
use super::run::{Beginning, Inbox, Loop, Told, mint};
use super::wire::Introduction;
use crate::agent::state::Store;
use crate::election::charter::Charter;
use crate::election::member::{Ballot, Member, Moment};
use crate::election::message::{Engine, Order, Room, Wanted};
use crate::election::policy::{Policy, TimingError};
use crate::names;

/// Makes a client of the API server. Called on the driver's own thread, again after a failure.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Client, String>> + Send + Sync>;
/// Addresses of an instance's agent, by the instance's name. It may take its time: it is bounded.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Vec<SocketAddr>> + Send + Sync>;
/// Kill every process of the engine, without waiting for anything.
pub type HardStop = Arc<dyn Fn() + Send + Sync>;

/// Who and where this agent is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Namespace of the set.
    pub namespace: String,
    /// Name of the set, hence of the Lease.
    pub set: String,
    /// Name of the instance.
    pub instance: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Start nonce of the agent: never used twice.
    pub nonce: String,
    /// Address of the pod.
    pub address: IpAddr,
    /// Labels of a Lease that has to be made anew.
    pub labels: BTreeMap<String, String>,
    /// Name of the engine's port, as in the Service.
    pub port_name: String,
    /// The engine's port.
    pub port: u16,
}

/// What a driver needs.
#[derive(Clone)]
pub struct Config {
    /// Who and where this agent is.
    pub place: Place,
    /// The agent's durable state. It has a generation: one is minted when it has none.
    pub store: Store,
    /// What is asked of the set, as it changes.
    pub setup: watch::Receiver<Setup>,
    /// Client of the API server.
    pub connect: Connect,
    /// Where peers are: [`dns`].
    pub resolve: Resolve,
    /// The port on which agents listen: [`names::AGENT_PORT`].
    pub agent_port: u16,
    /// How this instance shows itself to its peers: its own certificate, the set's authority.
    pub tls: watch::Receiver<Option<Arc<ClientConfig>>>,
    /// Called, on the driver's thread, when the engine must be gone.
    pub hard_stop: HardStop,
    /// Folder in memory, which lives as long as the pod, for the term of this agent: the next
    /// process in the same container goes on with it.
    pub run: PathBuf,
    /// Whether an engine that was started before this process runs.
    pub resume: bool,
}

/// What is asked of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Durability, zones, bound of loss, times.
    pub policy: Policy,
    /// Names of all instances, this one too.
    pub members: BTreeSet<String>,
    /// Zone of this instance's node. Peers tell theirs.
    pub zone: Option<String>,
    /// Room on this instance's volume.
    pub room: Room,
}

/// Who holds the Lease, or held it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Under which ballot.
    pub ballot: Ballot,
    /// Address of its pod, when known.
    pub address: Option<IpAddr>,
}

/// The driver's other end. When it is dropped the driver ends without a word to anybody, as if the
/// process had died: keep it as long as there may be an engine.
#[derive(Debug)]
pub struct Handle {
    /// How the engine should be.
    pub wanted: watch::Receiver<Wanted>,
    /// What is waited for, in a sentence that continues "waiting for".
    pub wait: watch::Receiver<Option<String>>,
    /// The latest charter heard of.
    pub charter: watch::Receiver<Option<Charter>>,
    /// Who leads by that charter.
    pub leader: watch::Receiver<Option<Leader>>,
    /// Identifier of the set's data, once the Lease says it.
    pub set: watch::Receiver<Option<String>>,
    /// The ballot under which this process holds the Lease.
    pub held: watch::Receiver<Option<Ballot>>,
    /// Who this agent is now.
    pub me: watch::Receiver<Member>,
    /// Whether the primary's endpoints lead to this pod, as seen while it is primary and from then on
    /// until they lead elsewhere.
    pub leads_here: watch::Receiver<bool>,
    /// Since when the API server has answered whatever it was asked; none while it does not.
    pub reach: watch::Receiver<Option<Moment>>,
    /// Whether that matters goes in here: then it is asked again and again.
    pub asks: watch::Sender<bool>,
    /// What is seen of the engine goes in here.
    pub engine: watch::Sender<Engine>,
    /// Identifier of the own data goes in here: the first holder writes it into the Lease.
    pub identifier: watch::Sender<Option<String>>,
    /// What a person or the operator asks for goes in here.
    pub orders: mpsc::Sender<Order>,
    /// For the agent's server.
    pub door: Door,
    renewals: mpsc::Sender<oneshot::Sender<Member>>,
    turned: Arc<AtomicU64>,
}

impl Handle {
    /// When the driver's loop turned last, as time since boot. At rest it turns at least every
    /// quarter of [`crate::election::policy::Timing::renew`].
    pub fn turned(&self) -> Duration {
        Duration::from_millis(self.turned.load(Ordering::Relaxed))
    }

    /// Become a new member, durably: data of which the driver was ever told (`Detached`, `Following`,
    /// `Primary`) is about to be thrown away. Says as whom; none when it holds the Lease, or ends.
    ///
    /// What the engine is afterwards is `Engine::Unknown` until it is told. It waits for the disk.
    pub async fn renew(&self) -> Option<Member> {
        self.renewal().await
    }

    /// The same, for a task that outlives the borrow.
    pub fn renewal(&self) -> impl Future<Output = Option<Member>> + Send + use<> + 'static {
        let (engine, renewals) = (self.engine.clone(), self.renewals.clone());
        async move {
            engine.send_replace(Engine::Unknown);
            let (done, member) = oneshot::channel();
            renewals.send(done).await.ok()?;
            member.await.ok()
        }
    }
}

/// The driver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No thread.
    #[error("no thread for the election: {0}")]
    Thread(std::io::Error),
    /// The volume.
    #[error("the agent's state on the data volume: {0}")]
    State(std::io::Error),
    /// The times.
    #[error("the times of the election: {0}")]
    Timing(#[from] TimingError),
}

/// Messages that wait for the driver.
const MESSAGES: usize = 64;
/// Names that are looked up at a time, each on a thread of its own.
const LOOKUPS: usize = 8;

/// Addresses by the DNS names of the set's headless Service.
pub fn dns(set: &str, namespace: &str) -> Resolve {
    let (set, namespace) = (set.to_owned(), namespace.to_owned());
    Arc::new(move |instance| {
        let host = names::instance_host(&instance, &set, &namespace);
        Box::pin(async move {
            let port = u16::try_from(names::AGENT_PORT).unwrap_or_default();
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            found.map(Iterator::collect).unwrap_or_default()
        })
    })
}

/// Start the driver on a thread of its own.
///
/// It reads the store, and waits for the disk only where there is no generation yet.
///
/// # Errors
/// When there is no thread, the times do not fit together, or a generation cannot be made durable.
pub fn spawn(config: Config) -> Result<Handle, SpawnError> {
    let first = config.setup.borrow().clone();
    first.policy.timing.check()?;
    if config.store.get().generation.is_none() {
        let generation = mint().map_err(|e| SpawnError::State(std::io::Error::other(e)))?;
        let minted = config.store.update(|m| m.generation = Some(generation));
        minted.map_err(SpawnError::State)?;
    }
    let generation = config.store.get().generation.unwrap_or_default();
    let me = Member::new(config.place.instance.as_str(), generation);
    let introduction = Introduction::new(me.clone(), config.place.address);
    let (tell_wanted, wanted) = watch::channel(Wanted::Unchanged);
    let (tell_wait, wait) = watch::channel(None);
    let (tell_charter, charter) = watch::channel(config.store.get().election.charter);
    let (tell_leader, leader) = watch::channel(None);
    let (tell_set, set) = watch::channel(None);
    let (tell_held, held) = watch::channel(None);
    let (tell_me, told_me) = watch::channel(me.clone());
    let (tell_leads, leads_here) = watch::channel(false);
    let (tell_reach, reach) = watch::channel(None);
    let (asks, asked) = watch::channel(false);
    let (introduce, introduced) = watch::channel(introduction);
    let (tell_names, names) = watch::channel(first.members);
    let (engine, engine_seen) = watch::channel(Engine::Unknown);
    let (identifier, own_data) = watch::channel(None);
    let (orders, ordered) = mpsc::channel(8);
    let (renewals, renewed) = mpsc::channel(1);
    let (messages, arrived) = mpsc::channel(MESSAGES);
    let (callers, called) = mpsc::channel(MESSAGES);
    let (results, returned) = mpsc::unbounded_channel();
    let (disk_done, disk) = mpsc::unbounded_channel();
    let (news, heard) = mpsc::unbounded_channel();
    let turned = Arc::new(AtomicU64::new(0));
    let jobs = disk::start(config.store.clone(), disk_done).map_err(SpawnError::Thread)?;
    let inbox = Inbox {
        setup: config.setup.clone(),
        engine: engine_seen,
        identifier: own_data,
        asks: asked,
        orders: ordered,
        renewals: renewed,
        messages: arrived,
        callers: called,
        results: returned,
        disk,
        news: heard,
        lease: None,
    };
    let beginning = Beginning {
        config,
        me,
        told: Told {
            wanted: tell_wanted,
            wait: tell_wait,
            charter: tell_charter,
            leader: tell_leader,
            set: tell_set,
            held: tell_held,
            me: tell_me,
            leads_here: tell_leads,
            reach: tell_reach,
            introduction: introduce,
            names: tell_names,
            turned: Arc::clone(&turned),
        },
        jobs,
        results,
        news,
    };
    begin(beginning, inbox).map_err(SpawnError::Thread)?;
    Ok(Handle {
        wanted,
        wait,
        charter,
        leader,
        set,
        held,
        me: told_me,
        leads_here,
        reach,
        asks,
        engine,
        identifier,
        orders,
        door: Door {
            messages,
            callers,
            introduction: introduced,
            names,
        },
        renewals,
        turned,
    })
}

/// The loop, on a thread of its own.
fn begin(beginning: Beginning, mut inbox: Inbox) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()?;
    let thread = std::thread::Builder::new().name("election".into());
    let turn = move || {
        let started = Loop::new(beginning, &mut inbox);
        runtime.block_on(started.run(inbox));
        // A name that is being looked up holds nobody up.
        runtime.shutdown_background();
    };
    thread.spawn(turn).map(drop)
}
