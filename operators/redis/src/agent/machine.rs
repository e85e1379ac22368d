//! The loop: observe, decide, act, report. I/O; what to do is decided in [`super::decide`].

mod cluster;
mod hand_over;
mod tend;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_shared::agent::api::{Phase, Status, Volume};
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::cluster::Cluster;
use mainstay_shared::agent::election::door::Door;
use mainstay_shared::agent::init::client::InitClient;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::mounts::Mounts;
use mainstay_shared::agent::past;
use mainstay_shared::agent::server::Order;
use mainstay_shared::agent::state::Store;
use mainstay_shared::agent::supervision::{OCCUPIED, Supervision};
use mainstay_shared::agent::task::{Task, finished};
use mainstay_shared::agent::tell;
use mainstay_shared::election::group::Group;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::{Engine as Seen, Wanted};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::AgentError;
use super::decide::{Next, Observed, Role, Running, next};
use super::member;
use super::monitor::{Monitor, Sight};
use super::observe::{self, Memory};
use super::past::{Elected, Orderly};
use super::place::Place;
use super::report;
use super::sentinel::Known;
use super::session::Access;
use super::vitals::Vitals;
use crate::settings::RedisSettings;
use hand_over::Handing;
use tend::{Applied, Tended};

/// The loop turns at least this often.
const TICK: Duration = Duration::from_millis(500);
/// A replica that has answered nobody for so long is killed.
const MUTE: Duration = Duration::from_secs(15);
/// The volume is looked at so often.
const VOLUME: Duration = Duration::from_secs(2);
/// A container that ends waits so long for somebody to take over.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// What was asked of the engine, once it is done.
#[derive(Debug)]
enum Asked {
    /// It receives from nobody.
    Detached,
    /// It is to receive what it has not, and is another member from now on.
    Anew,
    /// It was told to receive, from this address.
    Follows(String),
    /// It was promoted.
    Promoted,
    /// The set's first data is made.
    Founded,
    /// Writers are held back and it is a replica; whoever takes over has everything, or not.
    HandedOver(bool),
    /// Writers go on.
    Resumed,
}

/// Where the machine tells what it knows.
pub struct Channels {
    /// The status.
    pub status: watch::Sender<Status>,
    /// As which the agent's server shows itself.
    pub tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// As which peers are talked to.
    pub client_tls: watch::Sender<Option<Arc<ClientConfig>>>,
    /// Where peers talk to the election.
    pub door: watch::Sender<Option<Door>>,
    /// When the loop turned last.
    pub turned: Arc<AtomicU64>,
    /// What clients of a Sentinel are answered from.
    pub known: watch::Sender<Known>,
    /// Why they are not answered, though they should be.
    pub trouble: watch::Receiver<Option<String>>,
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
    channels: Channels,
    access: Access,
    mounts: Mounts<RedisSettings>,
    monitor: Monitor,
    /// The election: it can be had only once the set is known.
    cluster: Option<Cluster>,
    /// The engine is being stopped.
    stopping: Option<Task<Result<Option<Orderly>, String>>>,
    /// Something short in the engine, one at a time.
    asking: Option<Task<Result<Asked, String>>>,
    /// Looking after the engine, beside that.
    tending: Option<Task<Result<Tended, String>>>,
    /// Something was refused: not before.
    tend_after: Duration,
    /// When the engine had last been looked after; a look from before tells of what it was.
    tended_at: Duration,
    /// What is in force, of the start of that number.
    applied: Option<(u64, Applied)>,
    /// Whom the engine was told to receive from, and where that is.
    upstream: Option<(Ballot, Option<String>)>,
    /// When the engine had done what it was last asked for; a look from before tells of what it was.
    asked_at: Duration,
    /// What is known of the memory of the start of that number.
    memory: (u64, Memory),
    /// No engine ran when this process began, and none had been stopped in order.
    anew: bool,
    /// How far the dataset went that was stopped in order.
    orderly: Option<Orderly>,
    /// The start of which the election was last told how far its dataset goes.
    told: Option<u64>,
    /// For which ballot which start was elected.
    elected: Option<Elected>,
    /// The set's first data is being made.
    founding: bool,
    /// It is being promoted, as the start of that number, under that epoch.
    promoting: Option<(u64, u64)>,
    /// The group asked for, and the end of the history when it was.
    group: Option<(Group, u64)>,
    /// Since when writers are held back.
    held_back: Option<Duration>,
    /// Since when the container ends, and whoever takes over was asked for.
    leaving: Option<Duration>,
    handing: Option<Handing>,
    volume: Option<Volume>,
    volume_at: Option<Duration>,
    /// Since when the engine of a member of a cluster is known not to run.
    down_since: Option<Duration>,
    /// And is not started, so that a replica can take over.
    yields: bool,
    /// A replica is asked to take over, since the container ends.
    parting: Option<Task<Result<String, String>>>,
}

impl Machine {
    /// At the start of the process.
    pub fn new(
        place: Arc<Place>,
        init: InitClient,
        store: Store,
        channels: Channels,
        access: Access,
        monitor: Monitor,
    ) -> Self {
        let elected = past::read(&place.run().join(ELECTED));
        let applied = past::read(&place.run().join(APPLIED));
        let engine = Supervision::new(init, "Redis", place.me.nonce.clone());
        let runs = matches!(engine.state().engine, Engine::Running { .. });
        let anew = !runs && !place.orderly().exists();
        Self {
            place,
            engine,
            store,
            channels,
            access,
            mounts: Mounts::default(),
            monitor,
            cluster: None,
            stopping: None,
            asking: None,
            tending: None,
            tend_after: Duration::ZERO,
            tended_at: Duration::ZERO,
            applied,
            upstream: None,
            asked_at: Duration::ZERO,
            memory: (0, Memory::LostAt(boottime())),
            anew,
            orderly: None,
            told: None,
            elected,
            founding: false,
            promoting: None,
            group: None,
            held_back: None,
            leaving: None,
            handing: None,
            volume: None,
            volume_at: None,
            down_since: None,
            yields: false,
            parting: None,
        }
    }

    /// Run until the container ends.
    ///
    /// # Errors
    /// PID 1 is gone, or the folder in memory cannot be written.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), AgentError> {
        let mut heard = self.engine.init().heard();
        let mut sight = self.monitor.sight.clone();
        loop {
            // PID 1 hears only of an agent that can still stop the engine in time.
            if self.cluster.as_ref().is_none_or(Cluster::turns) {
                let now = boottime().as_secs();
                self.channels.turned.store(now, Ordering::Relaxed);
            }
            self.look().await?;
            let next = self.decide();
            let state = heard.borrow_and_update().state.clone();
            if next == Next::End {
                self.observe();
                let within = state.stop_within;
                if let Some(cluster) = &mut self.cluster {
                    cluster.release(&self.place.me.instance, within).await;
                }
                return Ok(());
            }
            self.act(&next).await;
            self.observe();
            self.let_writers_go_on();
            self.answer_hand_over();
            self.tell(&next, &state.engine);
            self.engine.say_works().await;
            let election = async {
                match &mut self.cluster {
                    Some(cluster) => tokio::select! {
                        changed = cluster.driver.wanted.changed() => changed.is_ok(),
                        changed = cluster.driver.leader.changed() => changed.is_ok(),
                        changed = cluster.driver.held.changed() => changed.is_ok(),
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(TICK) => {}
                changed = heard.changed() => if changed.is_err() {
                    return Err(AgentError::Init(std::io::ErrorKind::BrokenPipe.into()));
                },
                _ = sight.changed() => {}
                // What it shall be has changed, so soon will what it is.
                _ = election => self.monitor.look.notify_one(),
                Some(order) = orders.recv() => self.order(order),
                done = finished(self.stopping.as_mut()) => self.stopped(done),
                done = finished(self.asking.as_mut()) => self.asked(done),
                done = finished(self.tending.as_mut()) => self.tended(done),
                done = finished(self.parting.as_mut()) => self.parted(done),
                () = self.engine.identify() => {}
            }
        }
    }

    /// Observe what is not told by itself: mounts, volume, the start that runs.
    async fn look(&mut self) -> Result<(), AgentError> {
        if self
            .mounts
            .refresh(&self.place.root, self.place.me.node.as_deref())
        {
            self.remount()?;
        }
        self.join();
        self.look_at_volume().await;
        let state = self.engine.state();
        if matches!(state.engine, Engine::Running { .. }) && self.memory.0 != state.starts {
            let kept = self.orderly.take().map(|o| o.position);
            let memory = Memory::at_start(kept, self.is_alone(), boottime());
            self.memory = (state.starts, memory);
        }
        self.learn();
        Ok(())
    }

    /// What the last look tells of the engine's memory.
    fn learn(&mut self) {
        let Some((_, vitals)) = self.vitals() else {
            return;
        };
        let epoch = vitals.mark.as_ref().map(|m| m.epoch);
        let follows = self.upstream.as_ref().is_some_and(|(ballot, _)| {
            !vitals.is_detached() && vitals.link_up && epoch == Some(ballot.epoch.0)
        });
        if follows || self.promoted().is_some() {
            self.memory.1 = Memory::Whole;
        }
    }

    async fn look_at_volume(&mut self) {
        let now = boottime();
        if self
            .volume_at
            .is_some_and(|at| now.saturating_sub(at) <= VOLUME)
        {
            return;
        }
        self.volume_at = Some(now);
        let folder = self.place.volume();
        // In a thread: a volume that hangs must not stop the loop.
        let look = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder));
        if let Ok(Ok(Ok(v))) = timeout(VOLUME, look).await {
            self.volume = Some(Volume {
                size: v.f_blocks * v.f_frsize,
                free: v.f_bavail * v.f_frsize,
            });
        }
        self.set_up();
    }

    fn remount(&mut self) -> Result<(), AgentError> {
        let shown = self
            .mounts
            .show_identity(
                &self.place.tls(),
                &self.channels.tls,
                &self.channels.client_tls,
            )
            .map_err(AgentError::Run)?;
        if shown.is_some() {
            self.engine.last_error = shown;
        }
        self.set_up();
        Ok(())
    }

    /// The last look at the engine that runs, and when it began.
    fn vitals(&self) -> Option<(Duration, Vitals)> {
        match &*self.monitor.sight.borrow() {
            Sight::Up { at, vitals, .. } => Some((*at, (**vitals).clone())),
            _ => None,
        }
    }

    /// Whether it says that it runs a script, and nothing else.
    fn is_busy(&self) -> bool {
        matches!(
            &*self.monitor.sight.borrow(),
            Sight::Up { busy: Some(_), .. }
        )
    }

    fn decide(&mut self) -> Next {
        let state = self.engine.state();
        let running = matches!(state.engine, Engine::Running { .. });
        let now = boottime();
        if let Some(how) = self.engine.notice() {
            let wanted = state.stop_within.is_some() || self.stopping.is_some();
            self.ended(&how, wanted, now);
        }
        let start = running.then_some(state.starts);
        self.monitor
            .wanted
            .send_if_modified(|w| std::mem::replace(w, start) != start);
        let starting = self.engine.is_starting(now);
        let wanted = self.wanted();
        self.engine.pauses.wish(&wanted);
        self.track(&wanted, start);
        let promoted = self.promoted();
        let looked = self
            .vitals()
            .filter(|(at, _)| running && *at > self.asked_at);
        let sees = looked.as_ref().map(|(_, v)| Running {
            role: if v.is_primary { Role::Primary } else { Role::Replica },
            detached: v.is_detached(),
            data: observe::data(v),
            promoted: matches!(&wanted, Wanted::Primary { ballot, .. } if promoted.as_ref() == Some(ballot)),
        });
        let leader = self.leader();
        let ending = state.stop_within.is_some();
        let ended = self.elected_has_ended(&wanted, start);
        // One whose engine has ended has nothing to hand over.
        if ending && !ended {
            self.leave(now);
        }
        let held = self
            .cluster
            .as_ref()
            .is_some_and(|c| c.driver.held.borrow().is_some());
        let because = self.because();
        let mute = self
            .monitor
            .mute
            .borrow()
            .is_some_and(|since| now.saturating_sub(since) > MUTE);
        let guard = self.guard(running, now);
        next(&Observed {
            wanted: &wanted,
            because: &because,
            missing: self.mounts.missing().or(guard),
            identifier: self.identifier().as_deref(),
            reachable: match (&wanted, &leader) {
                (Wanted::Follow(ballot), Some((leads, ..))) => ballot == leads,
                _ => false,
            },
            named: self.is_named(),
            engine: &state.engine,
            // There is no Lease that lapses: a primary that answers nobody is ended as well.
            running: sees.as_ref().filter(|_| !(mute && self.is_clustered())),
            upstream: self.upstream(leader.as_ref()),
            settled: matches!(self.seen(), Seen::Detached { .. }),
            ended,
            promoting: match &wanted {
                Wanted::Primary { ballot, .. } => {
                    self.promoting == Some((state.starts, ballot.epoch.0))
                }
                _ => false,
            },
            founding: self.founding,
            hard_stopping: state.hard_stopping,
            clean: self.engine.is_clean(),
            ending,
            leaving: (held || self.is_followed())
                && self.leaving.is_some_and(|at| now < at + TAKEN_OVER),
            restart: self.engine.is_restart_wanted(),
            mute,
            busy: self.stopping.is_some() || self.asking.is_some() || (starting && !running),
            pausing: self.engine.pauses.is_on(now),
        })
    }

    /// Whether the engine is a member of a cluster, which elects by itself.
    fn is_clustered(&self) -> bool {
        let config = self.mounts.config.as_ref();
        config.is_some_and(|(c, _)| c.engine.clustered)
    }

    /// Whether it is a primary of a cluster that a replica could take over from, as the agent and the operator ask it to.
    fn is_followed(&self) -> bool {
        let followed = |v: &Vitals| v.is_primary && v.replicas.iter().any(|r| r.online);
        self.is_clustered() && self.vitals().is_some_and(|(_, v)| followed(&v))
    }

    /// What the start of a member of a cluster waits for.
    fn guard(&mut self, running: bool, now: Duration) -> Option<&'static str> {
        self.yields = false;
        if running || !self.is_clustered() {
            self.down_since = None;
            return None;
        }
        let down = now.saturating_sub(*self.down_since.get_or_insert(now));
        let nodes = std::fs::read_to_string(self.place.nodes()).unwrap_or_default();
        let seen = matches!(self.engine.state().engine, Engine::Exited { .. });
        let waits = member::waits(&nodes, self.place.stopped().exists(), down, seen)?;
        // That it was stopped in order is noted in a moment.
        self.yields = waits.yields && self.stopping.is_none();
        Some(waits.why)
    }

    /// The engine has ended.
    fn ended(&mut self, how: &str, wanted: bool, now: Duration) {
        self.asking = None;
        self.founding = false;
        self.tending = None;
        self.upstream = None;
        self.promoting = None;
        self.group = None;
        self.held_back = None;
        self.engine.ended(how, wanted, now);
    }

    async fn act(&mut self, next: &Next) {
        match next {
            Next::Wait(_) | Next::Fail(_) | Next::End => {}
            Next::Found => self.found(),
            Next::Promote => self.promote(),
            Next::Follow => self.follow(),
            Next::Detach => self.detach(),
            Next::HandOver => self.yield_to_others(),
            Next::Halt => {
                tracing::error!("Redis can write and must not: it is killed");
                self.engine.kill().await;
            }
            Next::Revive => {
                tracing::error!("Redis answers nobody any more: it is killed and started anew");
                self.engine.kill().await;
            }
            Next::Clean => self.engine.sweep().await,
            Next::Start => {
                if let Err(why) = self.start().await {
                    self.engine.fail(&why);
                }
            }
            Next::Tend(role) => self.tend(*role),
            Next::Stop => self.stop(),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Look => self.monitor.look.notify_one(),
            Order::Restart(asked, answer) => {
                let refusal = self.is_occupied().then(|| OCCUPIED.to_owned());
                self.engine.restart(&asked, answer, refusal);
            }
            Order::HandOver(wish, answer) => self.hand_over(&wish, answer),
            Order::Upgrade(wish, program, answer) => {
                let occupied = self.is_occupied();
                self.engine.make_room(&wish, program, answer, occupied);
            }
        }
    }

    /// Whether something is done that must not be disturbed.
    fn is_occupied(&self) -> bool {
        self.stopping.is_some()
            || self.asking.is_some()
            || self.handing.is_some()
            || self.engine.is_restarting()
            || self.leaving.is_some()
    }

    fn tell(&mut self, next: &Next, engine: &Engine) {
        let starts = self.engine.starts();
        let applied = self.applied.as_ref().filter(|(start, _)| *start == starts);
        let applied = applied.map(|(_, applied)| applied);
        let settings = self.mounts.config.as_ref().map(|(c, _)| &c.engine);
        let new = report::status(&report::Facts {
            now: boottime(),
            instance: &self.place.me.instance,
            pod_uid: &self.place.me.pod_uid,
            program: self.engine.program(),
            given_up: self.engine.given_up(),
            nonce: self.engine.nonce(),
            engine,
            next,
            task: self.stopping.is_some().then_some(Phase::Stopping),
            yields: self.yields,
            sight: &self.monitor.sight.borrow(),
            open: matches!(self.wanted(), Wanted::Primary { open: true, .. }),
            term: self.term(),
            replicas: settings.and_then(|s| s.replicas),
            waits: match self.wanted() {
                _ if self.is_clustered() => None,
                Wanted::Follow(_) => None,
                _ => Some(self.because()),
            },
            zone: self.mounts.zone.as_ref(),
            members: self.mounts.config.as_ref().map_or(&[], |(c, _)| &c.members),
            config_hash: applied.map(|a| a.hash.clone()),
            users_hash: applied.and_then(|a| self.known_users(a)),
            pending_restart: applied.map(|a| a.pending.clone()).unwrap_or_default(),
            certificate_serial: applied.and_then(|a| a.serial.clone()),
            volume: self.volume,
            last_error: self
                .engine
                .last_error
                .clone()
                .or_else(|| self.mounts.wrong.clone())
                .or_else(|| self.channels.trouble.borrow().clone()),
        });
        tell::status(&self.channels.status, new);
        tell::set(&self.channels.known, self.known());
    }
}

/// File in memory with [`Elected`].
const ELECTED: &str = "elected.json";
/// File in memory with what is in force, and of which start.
const APPLIED: &str = "applied.json";
