//! The loop: observe, decide, act, report. I/O; what to do is decided in [`super::decide`].

mod cluster;
mod hand_over;
mod lag;
mod poolers;
mod served;
mod tend;
mod upstream;
mod volume;
mod work;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_crds::common::Rejoin;
use mainstay_shared::agent::api::{Phase, Status, Weakened};
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::cluster::Cluster;
use mainstay_shared::agent::election::door::Door;
use mainstay_shared::agent::init::client::InitClient;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::server::Order;
use mainstay_shared::agent::state::Store;
use mainstay_shared::agent::supervision::{OCCUPIED, Supervision};
use mainstay_shared::agent::task::{Task, finished};
use mainstay_shared::agent::tell;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::{Engine as Seen, Order as Election, Wanted};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::AgentError;
use super::configuration::Configuration;
use super::data;
use super::decide::{Data, Next, Observed, Role, next};
use super::history::Parting;
use super::monitor::{Monitor, monitor};
use super::mounts::Mounts;
use super::place::Place;
use super::render::held_back;
use super::report;
use super::throttle::Throttle;
use hand_over::Handing;
use served::Served;
use tend::Tended;
use upstream::Hunger;
use volume::Disk;
use writes::Held;

/// The loop turns at least this often.
const TICK: Duration = Duration::from_millis(500);
/// And this often while log that waits fills the volume.
const FILLING: Duration = Duration::from_millis(100);
/// Roles and slots are looked at this often without a reason.
const TEND: Duration = Duration::from_secs(30);
/// Members connect to a new primary within this time, as a rule.
const CONNECT: Duration = Duration::from_secs(5);
/// Floors are looked at this often while one of them holds a setting back.
const FLOORS: Duration = Duration::from_secs(1);
/// A replica whose first process has answered nobody for so long is killed.
const MUTE: Duration = Duration::from_secs(15);
/// How long a requested restart may take to stop the engine in order.
const STOP: Duration = Duration::from_mins(1);

/// Something long that goes on beside the loop, at most one at a time.
struct Work {
    phase: Phase,
    progress: watch::Receiver<String>,
    task: Task<Result<(), String>>,
}

/// The agent.
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Machine {
    place: Arc<Place>,
    engine: Supervision,
    store: Store,
    status: watch::Sender<Status>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// As which peers are talked to.
    client_tls: watch::Sender<Option<Arc<ClientConfig>>>,
    door: watch::Sender<Option<Door>>,
    turned: Arc<AtomicU64>,
    mounts: Mounts,
    monitor: Monitor,
    /// The election: it can be had only once the set is known.
    cluster: Option<Cluster>,
    data: Data,
    data_known: bool,
    /// The timeline that the data began with, once it was looked at.
    first: Option<u64>,
    floors: BTreeMap<String, u64>,
    floors_at: Duration,
    work: Option<Work>,
    tending: Option<Task<Result<Vec<Weakened>, String>>>,
    /// As seen when the primary was tended last.
    weakened: Vec<Weakened>,
    tended: Option<Tended>,
    /// Something short in the engine, asked for once: a promotion, new senders.
    asking: Option<Task<Result<(), String>>>,
    /// As what the engine was started; a replica, when that was before this process.
    started_as: Role,
    /// The start and the timeline of a promotion that was asked for.
    promoting: Option<(u64, u64)>,
    /// Sessions were told to wait for nobody since the start.
    nobody_waits: bool,
    /// What is asked for is a checkpoint.
    asking_checkpoint: bool,
    /// To whose history the data was rewound, until it is whole.
    fresh: Option<Ballot>,
    /// The start that was promoted, and for whom commits waited from then on.
    promoted_with: Option<(u64, String)>,
    /// Whom the configuration in place names to receive from.
    upstream: Option<Ballot>,
    /// Since when it receives, as time since boot; the process before is trusted to have let the first file pass.
    receiving_since: Option<Duration>,
    /// It receives nothing though it should.
    hunger: Hunger,
    /// What replicas lack of the primary's log, of the start of that number.
    throttle: (u64, Throttle),
    /// Whether writes are taken.
    held: Held,
    /// When it was decided to receive from nobody; a look from before tells nothing of it.
    detached_since: Duration,
    /// What the engine that runs has become.
    served: Option<Served>,
    /// Since when every session waits for the group, as its rendered names and a place in the log.
    in_force: Option<(String, u64)>,
    /// The ballot whose history the data was found to have parted from.
    parted: Option<(Ballot, Parting)>,
    /// The container ends, and whoever takes over was asked for.
    leaving: bool,
    /// When it was stopped last to be handed over.
    stood_down: Option<Duration>,
    /// A hand-over that somebody asked for.
    handing: Option<Handing>,
    /// Under which ballot, of the start of that number, poolers were told that clients may go on.
    told_poolers: Option<(Ballot, u64)>,
    telling: Option<Task<()>>,
    configuration: Configuration,
    disk: Disk,
}

impl Machine {
    /// At the start of the process.
    pub fn new(
        place: Arc<Place>,
        init: InitClient,
        store: Store,
        status: watch::Sender<Status>,
        tls: watch::Sender<Option<Arc<ServerConfig>>>,
        door: watch::Sender<Option<Door>>,
        turned: Arc<AtomicU64>,
    ) -> Self {
        let monitor = monitor(Arc::clone(&place));
        let engine = Supervision::new(init, "PostgreSQL", place.me.nonce.clone());
        Self {
            place,
            engine,
            store,
            status,
            tls,
            client_tls: watch::channel(None).0,
            door,
            turned,
            mounts: Mounts::default(),
            monitor,
            cluster: None,
            data: Data::None,
            data_known: false,
            first: None,
            floors: BTreeMap::new(),
            floors_at: Duration::ZERO,
            work: None,
            tending: None,
            weakened: Vec::new(),
            tended: None,
            asking: None,
            started_as: Role::Replica,
            promoting: None,
            nobody_waits: false,
            asking_checkpoint: false,
            fresh: None,
            promoted_with: None,
            upstream: None,
            receiving_since: Some(Duration::ZERO),
            hunger: Hunger::default(),
            throttle: (0, Throttle::default()),
            held: Held::default(),
            detached_since: Duration::ZERO,
            served: None,
            in_force: None,
            parted: None,
            leaving: false,
            stood_down: None,
            handing: None,
            told_poolers: None,
            telling: None,
            configuration: Configuration::default(),
            disk: Disk::default(),
        }
    }

    /// Run until the container ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), AgentError> {
        let mut heard = self.engine.init().heard();
        let mut sight = self.monitor.sight.clone();
        loop {
            // PID 1 hears only of an agent that can still stop the engine in time.
            if self.election_turns() {
                self.turned.store(boottime().as_secs(), Ordering::Relaxed);
            }
            self.look().await?;
            let next = self.decide();
            let state = heard.borrow_and_update().state.clone();
            if next == Next::End {
                self.observe(&state.engine);
                self.release().await;
                return Ok(());
            }
            self.act(&next).await;
            self.observe(&state.engine);
            self.answer_hand_over();
            self.tell_poolers();
            self.tell(&next, &state.engine);
            self.engine.say_works().await;
            let tick = if self.is_filling() { FILLING } else { TICK };
            let election = async {
                match &mut self.cluster {
                    Some(cluster) => tokio::select! {
                        changed = cluster.driver.wanted.changed() => changed.is_ok(),
                        changed = cluster.driver.leader.changed() => changed.is_ok(),
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(tick) => {}
                changed = heard.changed() => if changed.is_err() {
                    return Err(AgentError::Init(std::io::ErrorKind::BrokenPipe.into()));
                },
                _ = sight.changed() => {}
                // What it shall be has changed, so soon will what it is.
                _ = election => self.monitor.look.notify_one(),
                Some(order) = orders.recv() => self.order(order),
                done = finished(self.work.as_mut().map(|w| &mut w.task)) => self.worked(done),
                done = finished(self.tending.as_mut()) => self.tending_done(done),
                done = finished(self.asking.as_mut()) => self.asked(done),
                lacks = finished(self.hunger.asking.as_mut()) => self.answered(lacks),
                ended = finished(self.held.ending.as_mut()) => self.writers_ended(ended),
                gone = finished(self.held.checkpoint.as_mut()) => self.log_has_gone(gone),
                () = self.engine.identify() => {}
                () = finished(self.telling.as_mut()) => self.telling = None,
                made = finished(self.handing.as_mut().and_then(|h| h.checkpoint.as_mut())) => {
                    self.checkpointed(made);
                }
            }
        }
    }

    /// Observe what is not told by itself: mounts, volume, the set's record.
    async fn look(&mut self) -> Result<(), AgentError> {
        let node = self.place.me.node.as_deref();
        if self.mounts.refresh(&self.place.root, node) {
            self.remount()?;
            self.floors_at = Duration::ZERO;
            // What is looked for there depends on it.
            self.disk.forget();
        }
        self.join();
        // A hard stop kills the program that looks as well: look once it is over.
        if !self.data_known
            && self.work.is_none()
            && !self.engine.is_sweeping()
            && let Some(found) = data::inspect(&self.place, self.fresh.is_some()).await
        {
            (self.data, self.floors) = found;
            self.data_known = true;
        }
        if self.first.is_none() && self.work.is_none() {
            self.first = data::began(&self.place);
        }
        self.look_at_floors().await;
        self.look_at_volume().await;
        self.judge_writes();
        Ok(())
    }

    /// What the data of a running engine that was started as a replica needs at least: when the
    /// configuration has changed, and again and again while that holds a setting back.
    async fn look_at_floors(&mut self) {
        let now = boottime();
        let held_back = !self.held_back().is_empty();
        let due = self.floors_at == Duration::ZERO
            || (held_back && now.saturating_sub(self.floors_at) > FLOORS);
        let state = self.engine.state().engine;
        let running = matches!(state, Engine::Running { .. });
        if !due || !running || self.started_as == Role::Primary || self.work.is_some() {
            return;
        }
        self.floors_at = now;
        // A volume that hangs must not stop the loop.
        if let Ok(Some(floors)) = timeout(Duration::from_secs(2), data::floors(&self.place)).await {
            self.floors = floors;
        }
    }

    /// Settings that are asked lower than the data of an engine that was started as a replica allows.
    fn held_back(&self) -> Vec<String> {
        match (&self.mounts.config, self.started_as) {
            (Some((config, _)), Role::Replica) => held_back(config, &self.floors),
            _ => Vec::new(),
        }
    }

    fn remount(&mut self) -> Result<(), AgentError> {
        let shown = self
            .mounts
            .show_identity(&self.place.tls(), &self.tls, &self.client_tls)
            .map_err(AgentError::Run)?;
        if shown.is_some() {
            self.engine.last_error = shown;
        }
        self.set_up();
        Ok(())
    }

    fn decide(&mut self) -> Next {
        let state = self.engine.state();
        let running = matches!(state.engine, Engine::Running { .. });
        let now = boottime();
        if let Some(how) = self.engine.notice() {
            let wanted = state.stop_within.is_some()
                || self
                    .work
                    .as_ref()
                    .is_some_and(|w| w.phase == Phase::Stopping);
            self.ended(&how, wanted, now);
        }
        self.monitor
            .wanted
            .send_if_modified(|w| std::mem::replace(w, running) != running);
        let starting = self.engine.is_starting(now);
        let wanted = self.wanted();
        self.engine.pauses.wish(&wanted);
        let because = self.because();
        let identifier = self.identifier();
        let parting = self.parting(&wanted);
        let role = self.role(running);
        let promoted = self.promoted();
        next(&Observed {
            wanted: &wanted,
            because: &because,
            missing: self.mounts.missing(),
            identifier: identifier.as_deref(),
            reachable: self.leader().is_some(),
            parting,
            rejoin: self
                .mounts
                .config
                .as_ref()
                .map_or(Rejoin::Manual, |(c, _)| c.rejoin),
            data: &self.data,
            known: self.data_known,
            engine: &state.engine,
            role,
            promoted: promoted.as_ref(),
            promoting: match &wanted {
                Wanted::Primary { timeline, .. } => {
                    self.promoting == Some((state.starts, *timeline))
                }
                _ => false,
            },
            detached: matches!(self.seen(&state.engine), Seen::Detached { .. }),
            stood_down: self.has_stood_down(now),
            hard_stopping: state.hard_stopping,
            clean: self.engine.is_clean(),
            ending: state.stop_within.is_some(),
            restart: self.engine.is_restart_wanted(),
            mute: self
                .monitor
                .mute
                .borrow()
                .is_some_and(|since| now.saturating_sub(since) > MUTE),
            busy: self.work.is_some() || (starting && !running) || !self.data_known,
            pausing: self.engine.pauses.is_on(now),
        })
    }

    /// The engine's first process has ended.
    fn ended(&mut self, how: &str, wanted: bool, now: Duration) {
        self.data_known = false;
        self.stood_down = (self.wanted() == Wanted::Stopped).then_some(now);
        self.promoting = None;
        self.tended = None;
        self.served = None;
        self.in_force = None;
        self.nobody_waits = false;
        self.asking_checkpoint = false;
        self.asking = None;
        self.configuration.ended();
        self.held = Held::default();
        self.disk.forget();
        self.engine.ended(how, wanted, now);
    }

    async fn act(&mut self, next: &Next) {
        match next {
            Next::Wait(_) | Next::Fail(_) | Next::End => {}
            Next::Initialise => self.initialise(),
            Next::Clone => self.copy(),
            Next::Rewind => self.rewind(),
            Next::Replace => self.replace(),
            Next::Promote => self.promote().await,
            Next::Halt => {
                tracing::error!("PostgreSQL can write and must not: it is killed");
                self.engine.kill().await;
            }
            Next::Revive => {
                tracing::error!(
                    "PostgreSQL answers nobody any more: it is killed and started anew"
                );
                self.engine.kill().await;
            }
            Next::Clean => self.engine.sweep().await,
            Next::Start(role) => {
                if let Err(why) = self.start(*role).await {
                    self.engine.fail(&why);
                }
            }
            Next::Tend(role) => self.tend(*role).await,
            Next::Stop => self.stop(),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Look => self.monitor.look.notify_one(),
            Order::Restart(asked, answer) => {
                let refusal = if self.is_occupied() {
                    Some(OCCUPIED.to_owned())
                } else {
                    // What runs is not stopped for a configuration that would not take effect.
                    self.configuration.refusal().cloned()
                };
                self.engine.restart(&asked, answer, refusal);
            }
            Order::HandOver(wish, answer) => self.hand_over(&wish, answer),
            Order::Upgrade(wish, program, answer) => {
                let occupied = self.is_occupied() || self.leaving;
                self.engine.make_room(&wish, program, answer, occupied);
            }
        }
    }

    /// Whether something is done that must not be disturbed.
    fn is_occupied(&self) -> bool {
        self.work.is_some() || self.handing.is_some() || self.engine.is_restarting()
    }

    fn tell(&mut self, next: &Next, engine: &Engine) {
        let new = report::status(&report::Facts {
            now: boottime(),
            instance: &self.place.me.instance,
            pod_uid: &self.place.me.pod_uid,
            program: self.engine.program(),
            given_up: self.engine.given_up(),
            nonce: self.engine.nonce(),
            data: &self.data,
            engine,
            next,
            task: self
                .work
                .as_ref()
                .map(|w| (w.phase, w.progress.borrow().clone())),
            sight: &self.monitor.sight.borrow(),
            open: self.is_open() && self.configuration.is_open(),
            waits: match self.wanted() {
                Wanted::Follow(_) => None,
                _ => Some(self.because()),
            },
            held_back: self.held_back(),
            acknowledging: self.acknowledging(),
            throttling: self.is_throttling(),
            refuses_writes: self.refuses_writes(),
            weakened: &self.weakened,
            zone: self.mounts.zone.as_ref(),
            members: self.mounts.config.as_ref().map_or(&[], |(c, _)| &c.members),
            config_hash: self.configuration.in_force().cloned(),
            certificate_serial: self.configuration.serial().cloned(),
            volume: self.disk.volume,
            last_error: self
                .engine
                .last_error
                .clone()
                .or_else(|| self.configuration.refusal().cloned())
                .or_else(|| self.mounts.wrong.clone()),
        });
        tell::status(&self.status, new);
    }
}
