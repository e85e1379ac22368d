//! The loop: observe, decide, act, report. I/O; what to do is decided in [`super::decide`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use mainstay_shared::agent::api::{Phase, Status, Volume};
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::init::client::InitClient;
use mainstay_shared::agent::init::protocol::{Command, Engine, EngineSignal, Start};
use mainstay_shared::agent::lease::follow::Seen;
use mainstay_shared::agent::lease::keep::{Keeper, Subject, keep, record_of, watch_lease};
use mainstay_shared::agent::lease::rule::Claim;
use mainstay_shared::agent::server::{Order, Refusal};
use mainstay_shared::agent::state::Store;
use mainstay_shared::election::record::Record;
use mainstay_shared::pki::{ClientAuth, server_config};
use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::AgentError;
use super::configuration::{Configuration, settings_file};
use super::data::{self, DataError};
use super::decide::{Data, Next, Observed, Role, next};
use super::monitor::{Monitor, Sight, monitor};
use super::mounts::{Mounts, place_identity};
use super::place::{Place, nonce};
use super::render::{Facts, conninfo, slot, synchronous};
use super::report::{self, differs};
use super::sql;
use crate::settings::{PORT, PORT_NAME};

/// The loop turns at least this often.
const TICK: Duration = Duration::from_millis(500);
/// Pauses after failures.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Roles and slots are looked at this often without a reason.
const TEND: Duration = Duration::from_secs(30);
/// How long a requested restart may take to stop the engine in order.
const STOP: Duration = Duration::from_mins(1);

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Something long that goes on beside the loop, at most one at a time.
struct Work {
    phase: Phase,
    progress: watch::Receiver<String>,
    task: Task<Result<(), String>>,
}

/// What goes on in the keeper: it can be had only once the set is known.
struct Cluster {
    lease: watch::Receiver<Option<Seen<Lease>>>,
    keeper: Keeper,
}

/// The agent.
pub struct Machine {
    place: Arc<Place>,
    init: InitClient,
    store: Store,
    status: watch::Sender<Status>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    turned: Arc<AtomicU64>,
    mounts: Mounts,
    monitor: Monitor,
    cluster: Option<Cluster>,
    data: Data,
    data_known: bool,
    floors: BTreeMap<String, u64>,
    work: Option<Work>,
    tending: Option<Task<Result<(), String>>>,
    tended: Option<Tended>,
    /// Engine starts for which no process is left.
    clean_for: Option<u64>,
    /// A hard stop was asked for when so many were over.
    asked_clean: Option<u64>,
    /// Start that was asked for and not confirmed yet.
    asked_start: Option<(u64, Duration)>,
    restart: Option<(u64, oneshot::Sender<Result<(), Refusal>>)>,
    restart_wanted: bool,
    failures: u32,
    pause_until: Duration,
    started_ok_since: Option<Duration>,
    configuration: Configuration,
    last_error: Option<String>,
    volume: Option<Volume>,
    volume_at: Duration,
    ended_seen: u64,
}

/// What a primary was tended with.
#[derive(Clone, Debug, PartialEq)]
struct Tended {
    start: u64,
    roles: Vec<mainstay_shared::agent::config::Role>,
    members: Vec<String>,
    at: Duration,
    ok: bool,
}

impl Machine {
    /// At the start of the process.
    pub fn new(
        place: Arc<Place>,
        init: InitClient,
        store: Store,
        status: watch::Sender<Status>,
        tls: watch::Sender<Option<Arc<ServerConfig>>>,
        turned: Arc<AtomicU64>,
    ) -> Self {
        let monitor = monitor(Arc::clone(&place));
        Self {
            place,
            init,
            store,
            status,
            tls,
            turned,
            mounts: Mounts::default(),
            monitor,
            cluster: None,
            data: Data::None,
            data_known: false,
            floors: BTreeMap::new(),
            work: None,
            tending: None,
            tended: None,
            clean_for: None,
            asked_clean: None,
            asked_start: None,
            restart: None,
            restart_wanted: false,
            failures: 0,
            pause_until: Duration::ZERO,
            started_ok_since: None,
            configuration: Configuration::default(),
            last_error: None,
            volume: None,
            volume_at: Duration::ZERO,
            ended_seen: 0,
        }
    }

    /// Run until the container ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), AgentError> {
        let mut heard = self.init.heard();
        let mut sight = self.monitor.sight.clone();
        loop {
            self.turned.store(boottime().as_secs(), Ordering::Relaxed);
            self.look().await?;
            let next = self.decide();
            let state = heard.borrow_and_update().state.clone();
            if next == Next::End {
                self.release().await;
                return Ok(());
            }
            self.act(&next).await;
            self.claim(&state.engine);
            self.tell(&next, &state.engine);
            let lease_changed = async {
                match &mut self.cluster {
                    Some(cluster) => cluster.lease.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(TICK) => {}
                changed = heard.changed() => if changed.is_err() {
                    return Err(AgentError::Init(std::io::ErrorKind::BrokenPipe.into()));
                },
                _ = sight.changed() => {}
                _ = lease_changed => {}
                Some(order) = orders.recv() => self.order(order),
                done = finished(self.work.as_mut().map(|w| &mut w.task)) => self.worked(done),
                done = finished(self.tending.as_mut()) => self.tending_done(done),
            }
        }
    }

    /// Observe what is not told by itself: mounts, volume, the set's record.
    async fn look(&mut self) -> Result<(), AgentError> {
        if self.mounts.refresh(&self.place) {
            self.remount()?;
        }
        self.join().await;
        // A hard stop kills the program that looks as well: look once it is over.
        let sweeping = self.asked_clean.is_some() || self.init.heard().borrow().state.hard_stopping;
        if !self.data_known && self.work.is_none() && !sweeping {
            (self.data, self.floors) = data::inspect(&self.place).await;
            self.data_known = true;
        }
        let now = boottime();
        if now.saturating_sub(self.volume_at) > Duration::from_secs(10) {
            self.volume_at = now;
            let folder = self.place.volume();
            // In a thread: a volume that hangs must not stop the loop.
            let look = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder));
            if let Ok(Ok(Ok(v))) = timeout(Duration::from_secs(2), look).await {
                self.volume = Some(Volume {
                    size: v.f_blocks * v.f_frsize,
                    free: v.f_bavail * v.f_frsize,
                });
            }
        }
        let record = self
            .cluster
            .as_ref()
            .and_then(|c| record_of(c.lease.borrow().as_ref()?));
        if let Some(record) = record {
            let store = self.store.clone();
            if store.get().record.as_ref() != Some(&record) {
                // A volume that takes no writes shows in the engine; the record is still used.
                let _ = store.update(|m| m.record = Some(record));
            }
        }
        Ok(())
    }

    fn remount(&mut self) -> Result<(), AgentError> {
        if let Some(pair) = &self.mounts.identity {
            place_identity(&self.place.tls(), pair).map_err(AgentError::Run)?;
            match server_config(pair, ClientAuth::Optional) {
                Ok(config) => {
                    self.tls.send_replace(Some(Arc::new(config)));
                }
                Err(error) => self.last_error = Some(format!("the mounted certificate: {error}")),
            }
        }
        Ok(())
    }

    /// Begin to watch the set's Lease, as soon as the set and the API server's address are known.
    async fn join(&mut self) {
        if self.cluster.is_none()
            && let Some((config, _)) = &self.mounts.config
        {
            let client = match client().await {
                Ok(client) => client,
                Err(error) => {
                    // What is on disk runs without.
                    self.last_error = Some(error.to_string());
                    return;
                }
            };
            let lease = watch_lease(client.clone(), &config.namespace, &config.set);
            let subject = Subject {
                namespace: config.namespace.clone(),
                set: config.set.clone(),
                me: self.place.me.clone(),
                port_name: PORT_NAME.to_owned(),
                port: PORT,
            };
            let store = self.store.clone();
            let durable = move |epoch| store.update(|m| m.epoch = epoch);
            let keeper = keep(client, subject, lease.clone(), durable);
            self.cluster = Some(Cluster { lease, keeper });
        }
    }

    fn record(&self) -> Option<Record> {
        self.store.get().record
    }

    fn decide(&mut self) -> Next {
        let state = self.init.heard().borrow().state.clone();
        let running = matches!(state.engine, Engine::Running { .. });
        let now = boottime();
        match &state.engine {
            Engine::Absent => self.clean_for = Some(state.starts),
            Engine::Exited { .. } if self.asked_clean.is_some_and(|n| state.hard_stops > n) => {
                self.clean_for = Some(state.starts);
                self.asked_clean = None;
            }
            _ => {}
        }
        if let Engine::Exited { how, .. } = &state.engine
            && self.ended_seen < state.starts.max(1)
        {
            self.ended_seen = state.starts.max(1);
            let wanted = state.stop_within.is_some()
                || self
                    .work
                    .as_ref()
                    .is_some_and(|w| w.phase == Phase::Stopping);
            self.ended(how, wanted, now);
        }
        self.monitor
            .wanted
            .send_if_modified(|w| std::mem::replace(w, running) != running);
        let record = self.record();
        let current = self.cluster.as_ref().is_some_and(|c| {
            c.lease
                .borrow()
                .as_ref()
                .is_some_and(|seen| record_of(seen).is_some())
        });
        let starting = self.asked_start.is_some_and(|(starts, since)| {
            state.starts == starts && now.saturating_sub(since) < Duration::from_secs(5)
        });
        next(&Observed {
            me: &self.place.me.instance,
            missing: self.mounts.missing(),
            record: record.as_ref(),
            current,
            data: &self.data,
            engine: &state.engine,
            hard_stopping: state.hard_stopping,
            clean: self.clean_for == Some(state.starts),
            ending: state.stop_within.is_some(),
            restart: self.restart_wanted,
            busy: self.work.is_some() || (starting && !running) || !self.data_known,
            pausing: now < self.pause_until,
        })
    }

    /// The engine's first process has ended.
    fn ended(&mut self, how: &str, wanted: bool, now: Duration) {
        self.data_known = false;
        self.tended = None;
        self.configuration.ended();
        let settled = self
            .started_ok_since
            .take()
            .is_some_and(|s| now.saturating_sub(s) > PAUSE_MAX);
        if std::mem::take(&mut self.restart_wanted) || wanted {
            return;
        }
        if settled {
            self.failures = 0;
        }
        tracing::warn!(how, "PostgreSQL ended by itself");
        self.fail(&format!(
            "PostgreSQL ended by itself ({how}); see its log. It is started again"
        ));
    }

    /// A step failed: the next try comes after a growing pause; the first at once.
    fn fail(&mut self, why: &str) {
        tracing::warn!(%why, "a step failed");
        self.last_error = Some(why.to_owned());
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1)));
        if self.failures > 0 {
            self.pause_until = boottime() + pause.min(PAUSE_MAX);
        }
        self.failures = self.failures.saturating_add(1);
    }

    async fn act(&mut self, next: &Next) {
        match next {
            Next::Wait(_) | Next::Fail(_) | Next::End => {}
            Next::Initialise => self.initialise(),
            Next::Clone => self.copy(),
            Next::Clean => {
                if self.asked_clean.is_none() {
                    self.asked_clean = Some(self.init.heard().borrow().state.hard_stops);
                    // A lost connection ends this process elsewhere.
                    let _ = self.init.send(Command::HardStop).await;
                }
            }
            Next::Start(role) => {
                if let Err(why) = self.start(*role).await {
                    self.fail(&why);
                }
            }
            Next::Tend(role) => self.tend(*role).await,
            Next::Stop => self.stop(),
        }
    }

    fn initialise(&mut self) {
        let Some((config, _)) = &self.mounts.config else {
            return;
        };
        let (place, store, major) = (
            Arc::clone(&self.place),
            self.store.clone(),
            config.engine.major,
        );
        self.begin(Phase::Initialising, move |_| async move {
            mint(&store)?;
            let id = data::initialise(&place, major)
                .await
                .map_err(|e| e.to_string())?;
            tracing::info!(
                system_identifier = id,
                "the set's first data directory is made"
            );
            Ok(())
        });
    }

    fn copy(&mut self) {
        let (Some((config, _)), Some(record)) = (&self.mounts.config, self.record()) else {
            return;
        };
        let (Some(wanted), Some(address)) = (record.system_identifier, record.address) else {
            return;
        };
        let conninfo = conninfo(config, &self.facts(), &record.seat, &address);
        let (place, store) = (Arc::clone(&self.place), self.store.clone());
        self.begin(Phase::Cloning, move |progress| async move {
            let slot = slot(&place.me.instance);
            mint(&store)?;
            data::copy(&place, &conninfo, &slot, &wanted, &progress)
                .await
                .map_err(|e: DataError| e.to_string())
        });
    }

    /// Stop in order: checkpoint while clients are still served, then a fast stop, then harder.
    fn stop(&mut self) {
        let state = self.init.heard().borrow().state.clone();
        // The last seconds of a pod's grace are for the hard end.
        let bound = state.stop_within.map_or(STOP, |ms| {
            Duration::from_millis(ms).saturating_sub(Duration::from_secs(3))
        });
        let (place, init) = (Arc::clone(&self.place), self.init.clone());
        self.begin(Phase::Stopping, move |_| async move {
            let begun = boottime();
            if timeout(bound / 2, sql::checkpoint(&place)).await.is_err() {
                tracing::warn!("no checkpoint before the stop: it took too long");
            }
            let left = bound.saturating_sub(boottime().saturating_sub(begun));
            let steps = [
                (Command::Signal(EngineSignal::Interrupt), left),
                (Command::Signal(EngineSignal::Quit), Duration::from_secs(5)),
                (Command::HardStop, Duration::from_secs(5)),
            ];
            for (command, bound) in steps {
                init.send(command).await.map_err(|e| e.to_string())?;
                let mut heard = init.heard();
                let gone = heard.wait_for(|h| !matches!(h.state.engine, Engine::Running { .. }));
                if timeout(bound, gone).await.is_ok() {
                    return Ok(());
                }
            }
            Err("PostgreSQL could not be stopped".to_owned())
        });
    }

    fn begin<F, W>(&mut self, phase: Phase, work: F)
    where
        F: FnOnce(watch::Sender<String>) -> W,
        W: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (tell, progress) = watch::channel(String::new());
        let task = tokio::spawn(work(tell));
        let abort = AbortOnDrop(task.abort_handle());
        let task = Box::pin(async move {
            let _abort = abort;
            task.await.unwrap_or_else(|e| Err(e.to_string()))
        });
        self.work = Some(Work {
            phase,
            progress,
            task,
        });
    }

    fn worked(&mut self, done: Result<(), String>) {
        let phase = self.work.take().map(|w| w.phase);
        self.data_known = false;
        match done {
            Ok(()) if phase != Some(Phase::Stopping) => {
                self.failures = 0;
                self.last_error = None;
            }
            Ok(()) => {}
            Err(why) => {
                if phase == Some(Phase::Stopping) {
                    self.restart_wanted = false;
                    if let Some((_, answer)) = self.restart.take() {
                        let _ = answer.send(Err(Refusal::Impossible(why.clone())));
                    }
                }
                self.fail(&why);
            }
        }
    }

    async fn start(&mut self, role: Role) -> Result<(), String> {
        data::unlock(&self.place).map_err(|e| format!("the lock file: {e}"))?;
        if let Err(why) = self.configure().await
            && !Configuration::exists(&self.place)
        {
            return Err(why);
        }
        let place = &self.place;
        let text = |path: std::path::PathBuf| path.display().to_string();
        let start = Start {
            argv: vec![
                text(place.program("postgres")),
                "-D".to_owned(),
                text(place.data()),
                "-c".to_owned(),
                format!("config_file={}", settings_file(&place.run())),
            ],
            env: BTreeMap::from([
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
                (
                    "PATH".to_owned(),
                    format!("{}:/usr/bin:/bin", place.programs.display()),
                ),
            ]),
            cwd: text(place.volume()),
            stop: EngineSignal::Interrupt,
        };
        let starts = self.init.heard().borrow().state.starts;
        tracing::info!(?role, "PostgreSQL is started");
        self.init
            .send(Command::Start(start))
            .await
            .map_err(|e| e.to_string())?;
        self.asked_start = Some((starts, boottime()));
        self.configuration.started();
        Ok(())
    }

    fn facts(&self) -> Facts {
        let record = self.record();
        let me = &self.place.me.instance;
        let primary = record
            .filter(|r| r.seat != *me)
            .and_then(|r| Some((r.seat, r.address?)));
        Facts {
            instance: me.clone(),
            user: self.place.user.clone(),
            listen: self.place.listen.clone(),
            run: self.place.run(),
            tls: self.place.tls(),
            sockets: self.place.sockets(),
            primary,
            synchronous: self.store.get().synchronous,
            floors: self.floors.clone(),
        }
    }

    /// Put the newest configuration in place; true when something changed.
    async fn configure(&mut self) -> Result<bool, String> {
        let Some(config) = self.mounts.config.clone() else {
            return Ok(false);
        };
        let facts = self.facts();
        let identity = self.mounts.identity.as_ref();
        self.configuration
            .place(&self.place, &config, &facts, identity)
            .await
    }

    /// Look after the running engine.
    async fn tend(&mut self, role: Role) {
        let sight = self.monitor.sight.borrow().clone();
        let Sight::Up { at, vitals, .. } = sight else {
            return;
        };
        if self.started_ok_since.is_none() {
            self.started_ok_since = Some(at);
            self.last_error = None;
        }
        if boottime().saturating_sub(self.started_ok_since.unwrap_or(at)) > PAUSE_MAX {
            self.failures = 0;
        }
        let starts = self.init.heard().borrow().state.starts;
        if let Some((before, answer)) = self.restart.take() {
            if starts > before {
                let _ = answer.send(Ok(()));
            } else {
                self.restart = Some((before, answer));
            }
        }
        let Some((config, _)) = self.mounts.config.clone() else {
            return;
        };
        let memory = self.store.get();
        let streams = vitals.streaming.iter().any(|s| config.members.contains(s));
        let wanted = synchronous(config.durability, memory.synchronous, streams);
        if role == Role::Primary && wanted != memory.synchronous {
            // Remembered before it is in force: after a crash in between commits wait, rather than not.
            if let Err(error) = self.store.update(|m| m.synchronous = wanted) {
                self.last_error = Some(format!("the agent's state on the data volume: {error}"));
                return;
            }
            tracing::info!(wanted, "whether commits wait for a replica");
        }
        self.reload(vitals.loaded_at).await;
        if !vitals.in_recovery && role == Role::Primary {
            self.tend_primary(starts, config);
        }
    }

    async fn reload(&mut self, loaded_at: f64) {
        // A refusal is told by the configuration itself.
        if let Ok(true) = self.configure().await {
            let told = Command::Signal(EngineSignal::Hangup);
            if self.init.send(told).await.is_ok() {
                tracing::info!("PostgreSQL is told to read its configuration");
                self.configuration.told(loaded_at);
                self.monitor.look.notify_one();
            }
        }
        if self.configuration.seen(loaded_at) {
            // What waits for a restart is known only now.
            self.monitor.look.notify_one();
        }
    }

    fn tend_primary(&mut self, starts: u64, config: crate::settings::PostgresConfig) {
        let Some(roles) = self.mounts.roles.clone() else {
            return;
        };
        let now = boottime();
        let due = match &self.tended {
            None => true,
            Some(t) => {
                let pause = if t.ok { TEND } else { PAUSE_MIN };
                t.start != starts
                    || (t.ok && (t.roles != roles || t.members != config.members))
                    || now.saturating_sub(t.at) > pause
            }
        };
        if !due || self.tending.is_some() {
            return;
        }
        let ok = self
            .tended
            .as_ref()
            .is_some_and(|t| t.ok && t.start == starts);
        self.tended = Some(Tended {
            start: starts,
            roles: roles.clone(),
            members: config.members.clone(),
            at: now,
            ok,
        });
        let place = Arc::clone(&self.place);
        self.tending = Some(Box::pin(async move {
            sql::tend(&place, &config, &roles)
                .await
                .map_err(|e| e.to_string())
        }));
    }

    fn tending_done(&mut self, done: Result<(), String>) {
        self.tending = None;
        let Some(tended) = &mut self.tended else {
            return;
        };
        match done {
            Ok(()) => {
                tended.ok = true;
                self.last_error = None;
            }
            Err(why) => {
                tracing::warn!(%why, "roles, database and slots");
                tended.at = boottime();
                self.last_error = Some(why);
            }
        }
    }

    /// Tell the keeper of the Lease whether this is the primary.
    fn claim(&self, engine: &Engine) {
        let Some(cluster) = &self.cluster else { return };
        let running = matches!(engine, Engine::Running { .. });
        let tended = self.tended.as_ref().is_some_and(|t| t.ok);
        let claim = match &*self.monitor.sight.borrow() {
            // A new set is announced when replicas can be made of it: roles and slots are there.
            Sight::Up { vitals, .. }
                if !tended
                    && !vitals.in_recovery
                    && self.record().is_none_or(|r| r.system_identifier.is_none()) =>
            {
                None
            }
            Sight::Up { at, vitals, .. } if running && !vitals.in_recovery => Some(Claim {
                system_identifier: vitals.system_identifier.clone(),
                healthy_at: *at,
                epoch: self.store.get().epoch,
                open: tended,
            }),
            _ => None,
        };
        cluster
            .keeper
            .claim
            .send_if_modified(|current| match (&claim, &*current) {
                // Not seen for a moment, or between two starts: the claim ages, and with it the Lease.
                (None, Some(_)) => false,
                (new, old) if new == old => false,
                _ => {
                    *current = claim;
                    true
                }
            });
    }

    /// The engine has stopped in order: let the next holder in without waiting for the expiry.
    async fn release(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.keeper.claim.send_replace(None);
        let gone = cluster.keeper.held.wait_for(Option::is_none);
        let _ = timeout(Duration::from_secs(2), gone).await;
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Look => self.monitor.look.notify_one(),
            Order::Restart(restart, answer) => {
                let starts = self.init.heard().borrow().state.starts;
                let refusal = if restart.nonce != self.nonce(starts) {
                    Some(Refusal::Outdated)
                } else if self.restart.is_some() || self.work.is_some() {
                    Some(Refusal::Impossible(
                        "something else is being done just now".to_owned(),
                    ))
                } else {
                    // What runs is not stopped for a configuration that would not take effect.
                    let refusal = self.configuration.refusal();
                    refusal.map(|why| Refusal::Impossible(why.clone()))
                };
                if let Some(refusal) = refusal {
                    let _ = answer.send(Err(refusal));
                    return;
                }
                tracing::info!(
                    reason = restart.reason,
                    "a restart of PostgreSQL was asked for"
                );
                self.restart_wanted = true;
                self.restart = Some((starts, answer));
            }
        }
    }

    /// It changes with every start of agent or engine.
    fn nonce(&self, starts: u64) -> String {
        format!("{}.{starts}", self.place.me.nonce)
    }

    fn tell(&mut self, next: &Next, engine: &Engine) {
        let starts = self.init.heard().borrow().state.starts;
        let mut new = report::status(&report::Facts {
            now: boottime(),
            instance: &self.place.me.instance,
            pod_uid: &self.place.me.pod_uid,
            nonce: self.nonce(starts),
            data: &self.data,
            engine,
            next,
            task: self
                .work
                .as_ref()
                .map(|w| (w.phase, w.progress.borrow().clone())),
            sight: &self.monitor.sight.borrow(),
            tended: self.tended.as_ref().is_some_and(|t| t.ok),
            config_hash: self.configuration.in_force().cloned(),
            certificate_serial: self.configuration.serial().cloned(),
            volume: self.volume,
            last_error: self
                .last_error
                .clone()
                .or_else(|| self.configuration.refusal().cloned())
                .or_else(|| self.mounts.wrong.clone()),
        });
        self.status.send_if_modified(|old| {
            let news = differs(old, &new);
            new.sequence = old.sequence + u64::from(news);
            let changed = new != *old;
            *old = new;
            changed
        });
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn finished<T>(task: Option<&mut Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

fn mint(store: &Store) -> Result<(), String> {
    let generation = nonce().map_err(|e| format!("no random numbers: {e}"))?;
    store
        .update(|m| {
            m.generation = Some(generation);
            m.synchronous = false;
        })
        .map_err(|e| format!("the agent's state on the data volume: {e}"))
}

/// In a pod from its service account; where `KUBECONFIG` is set, from there.
async fn client() -> Result<kube::Client, AgentError> {
    let failed = |e: &dyn std::fmt::Display| AgentError::Kubernetes(e.to_string());
    let config = if std::env::var_os("KUBECONFIG").is_some() {
        kube::Config::from_kubeconfig(&kube::config::KubeConfigOptions::default())
            .await
            .map_err(|e| failed(&e))?
    } else {
        kube::Config::incluster().map_err(|e| failed(&e))?
    };
    kube::Client::try_from(config).map_err(|e| failed(&e))
}
