//! The loop of a pooler: mounts, orders, and PgBouncer's console. I/O; a pause is [`super::state`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::task::{Task, finished};
use mainstay_shared::pki::{ClientAuth, Pair, client_config, server_config};
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::config::{PoolerConfig, Side};
use super::console::{Console, ConsoleError, Row};
use super::mounts::Mounts;
use super::reach::{Reach, reached};
use super::render::{Folders, host, render};
use super::server::Order;
use super::state::{Next, Pause, Phase};
use crate::agent::mounts::place_file;

/// Mounts are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// A login to a server that is cut short counts as failed, and clients would be told so: for so long it
/// is waited for one that is under way.
const LOGINS: Duration = Duration::from_millis(200);

/// Where a pooler keeps its files.
#[derive(Clone, Debug)]
pub struct Place {
    /// Folder of the console's socket.
    pub run: PathBuf,
    /// Folder of the certificate.
    pub tls: PathBuf,
    /// Addresses to listen on.
    pub listen: String,
    /// Where it leads to.
    pub side: Side,
}

impl Place {
    /// PgBouncer's configuration file.
    pub fn file(&self) -> PathBuf {
        self.run.join("pgbouncer.ini")
    }
}

/// The loop's state.
pub struct Keeper {
    place: Place,
    console: Console,
    mounts: Mounts,
    /// What is rendered.
    rendered: Option<(String, Pair)>,
    client_tls: Option<Arc<ClientConfig>>,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    pause: Pause,
    phase: watch::Sender<Phase>,
    /// What is in force is not what is rendered.
    reload: bool,
    pausing: Option<Task<Result<Vec<Row>, ConsoleError>>>,
    trying: Option<Task<()>>,
}

impl Keeper {
    /// A pooler that has not looked yet.
    pub fn new(
        place: Place,
        console: Console,
        mounts: Mounts,
        tls: watch::Sender<Option<Arc<ServerConfig>>>,
        phase: watch::Sender<Phase>,
    ) -> Self {
        Self {
            place,
            console,
            mounts,
            rendered: None,
            client_tls: None,
            tls,
            pause: Pause::default(),
            phase,
            reload: false,
            pausing: None,
            trying: None,
        }
    }

    /// Look at what is mounted, and render it. Says of which set it is.
    pub fn look(&mut self) -> Result<String, String> {
        self.mounts.refresh()?;
        let (Some(config), Some(identity)) = (&self.mounts.config, &self.mounts.identity) else {
            return Err("the configuration to be mounted".to_owned());
        };
        let set = config.set.clone();
        let text = self.text(config);
        if self.rendered.as_ref() == Some(&(text.clone(), identity.clone())) {
            return Ok(set);
        }
        let server = server_config(identity, ClientAuth::Optional).map_err(|e| e.to_string())?;
        let client = client_config(&identity.ca, Some(identity)).map_err(|e| e.to_string())?;
        place_file(&self.place.file(), &text, 0o600).map_err(|e| e.to_string())?;
        self.rendered = Some((text, identity.clone()));
        self.client_tls = Some(Arc::new(client));
        self.tls.send_replace(Some(Arc::new(server)));
        self.reload = true;
        Ok(set)
    }

    fn text(&self, config: &PoolerConfig) -> String {
        let folders = Folders {
            run: &self.place.run,
            tls: &self.place.tls,
        };
        render(config, self.place.side, &self.place.listen, folders)
    }

    /// Run until the process ends.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut starts: watch::Receiver<u64>,
    ) {
        // Whatever was started by now read what is rendered.
        self.reload = false;
        loop {
            let now = boottime();
            let mut rest = TICK;
            match self.pause.next(now) {
                Next::Rest => {}
                Next::RestUntil(until) => rest = rest.min(until.saturating_sub(now)),
                Next::Try(until) => {
                    rest = rest.min(until.saturating_sub(now));
                    if self.trying.is_none() {
                        self.trying = self
                            .reach()
                            .map(|reach| -> Task<()> { Box::pin(reached(reach)) });
                    }
                }
                Next::Resume => {
                    tracing::warn!("nobody serves: clients are told so");
                    self.resume().await;
                }
            }
            self.tell();
            tokio::select! {
                () = sleep(rest) => self.tick().await,
                Some(order) = orders.recv() => self.order(order),
                done = finished(self.pausing.as_mut()) => self.paused(done),
                () = finished(self.trying.as_mut()) => {
                    self.trying = None;
                    self.resume().await;
                }
                changed = starts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // A new process holds nobody back.
                    self.open();
                }
            }
        }
    }

    fn tell(&self) {
        let phase = self.pause.phase();
        self.phase
            .send_if_modified(|old| std::mem::replace(old, phase) != phase);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Pause(limit) => {
                self.trying = None;
                if self.pause.ask(boottime(), limit) {
                    tracing::info!(?limit, "clients are held back for a hand-over");
                    self.pausing = Some(Box::pin(pause(self.console.clone())));
                }
            }
            Order::Resume => self.pause.tell(),
        }
    }

    fn paused(&mut self, done: Result<Vec<Row>, ConsoleError>) {
        self.pausing = None;
        match done {
            Ok(_) => {
                tracing::info!("no transaction runs any more");
                self.pause.closed();
            }
            Err(error) => tracing::warn!(%error, "clients are not held back"),
        }
    }

    fn reach(&self) -> Option<Reach> {
        Some(Reach {
            host: host(self.mounts.config.as_ref()?, self.place.side),
            side: self.place.side,
            tls: self.client_tls.clone()?,
        })
    }

    /// Let clients go on.
    async fn resume(&mut self) {
        self.pausing = None;
        match self.console.ask("RESUME").await {
            Ok(_) => {
                tracing::info!("clients go on");
                self.open();
            }
            // It is not paused.
            Err(ConsoleError::Refused(..)) => self.open(),
            Err(error) => {
                tracing::warn!(%error, "clients do not go on yet");
                sleep(TICK).await;
            }
        }
    }

    fn open(&mut self) {
        self.pausing = None;
        self.trying = None;
        self.pause.opened();
    }

    async fn tick(&mut self) {
        if let Err(why) = self.look() {
            tracing::warn!(
                why,
                "what is mounted cannot be used: the one before stays in force"
            );
        }
        if self.reload && self.pause.phase() == Phase::Open {
            // What changes is closed when it is free; a login under way would be cut short.
            no_logins(&self.console).await;
            match self.console.ask("RELOAD").await {
                Ok(_) => {
                    tracing::info!("PgBouncer has read its configuration and certificate");
                    self.reload = false;
                }
                Err(error) => tracing::warn!(%error, "PgBouncer has not read its configuration"),
            }
        }
    }
}

/// Hold new transactions back, and return when those that run have ended.
async fn pause(console: Console) -> Result<Vec<Row>, ConsoleError> {
    no_logins(&console).await;
    console.wait("PAUSE").await
}

/// Wait for a moment in which no server is being logged in to.
async fn no_logins(console: &Console) {
    let begun = boottime();
    while boottime().saturating_sub(begun) < LOGINS {
        let Ok(pools) = console.ask("SHOW POOLS").await else {
            return;
        };
        if pools
            .iter()
            .all(|row| row.get("sv_login").is_none_or(|n| n == "0"))
        {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}
