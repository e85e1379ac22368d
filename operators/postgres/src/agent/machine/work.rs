//! The long tasks: make data, copy it, start and stop the engine. I/O.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::api::Phase;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::hand_over::MOST_BEHIND;
use mainstay_shared::agent::init::protocol::{Command, Engine, EngineSignal, Start};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::configuration::{Configuration, settings_file};
use super::super::data::{self, DataError};
use super::super::decide::Role;
use super::super::render::{Facts, conninfo, slot};
use super::super::sql;
use super::{CONNECT, Election, Machine, STOP, Wanted, Work};
use crate::settings::PORT;

/// What a task says when the election has ended: so does the process.
const ENDED: &str = "the election has ended";

impl Machine {
    pub(super) fn initialise(&mut self) {
        let (Some((config, _)), Some(cluster)) = (&self.mounts.config, &self.cluster) else {
            return;
        };
        let (place, engine) = (Arc::clone(&self.place), config.engine.clone());
        let renewed = cluster.driver.renewal();
        self.begin(Phase::Initialising, move |_| async move {
            renewed.await.ok_or(ENDED)?;
            let id = data::initialise(&place, engine.major, &engine.parameters)
                .await
                .map_err(|e| e.to_string())?;
            data::set_role(&place, Role::Replica).map_err(|e| e.to_string())?;
            tracing::info!(
                system_identifier = id,
                "the set's first data directory is made"
            );
            Ok(())
        });
    }

    /// Copy the primary's data.
    pub(super) fn copy(&mut self) {
        self.copy_anew(false);
    }

    /// Throw the data away and copy the primary's.
    pub(super) fn replace(&mut self) {
        self.copy_anew(true);
    }

    fn copy_anew(&mut self, remove: bool) {
        let (Some(source), Some((.., address)), Some(wanted), Some(cluster)) = (
            self.source(),
            self.leader(),
            self.identifier(),
            &self.cluster,
        ) else {
            return;
        };
        let place = Arc::clone(&self.place);
        let renewed = cluster.driver.renewal();
        self.fresh = None;
        self.parted = None;
        self.begin(Phase::Cloning, move |progress| async move {
            if remove {
                // Nothing is thrown away for a source that does not answer.
                let there = timeout(CONNECT, TcpStream::connect((address.as_str(), PORT))).await;
                match there {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(format!("the primary at {address}: {error}")),
                    Err(_) => return Err(format!("the primary at {address} does not answer")),
                }
            }
            // Another member from here on: what the one before promised and flushed is not its.
            renewed.await.ok_or(ENDED)?;
            if remove {
                tracing::warn!("the data is thrown away, to be copied from the primary");
                data::remove(&place).map_err(|e| format!("the data volume: {e}"))?;
            }
            let seeded = data::adopt(&place, &wanted).await;
            if seeded.map_err(|e| e.to_string())? {
                tracing::info!(
                    "the data that was brought back from the repository is taken in place of a copy"
                );
                return Ok(());
            }
            if let Some(why) = data::not_seeded(&place) {
                tracing::warn!(%why, "the data is copied from the primary");
                progress.send_replace(why);
            }
            let slot = slot(&place.me.instance);
            data::copy(&place, &source, &slot, &wanted, &progress)
                .await
                .map_err(|e: DataError| e.to_string())
        });
    }

    /// Take back what the primary's history does not hold; when that fails the data is replaced.
    pub(super) fn rewind(&mut self) {
        let (Some(source), Some((ballot, ..))) = (self.source(), self.leader()) else {
            return;
        };
        // Whose the history is that it will hold.
        if !matches!(self.claim(&ballot), Ok(true)) {
            return;
        }
        let place = Arc::clone(&self.place);
        self.parted = None;
        self.fresh = Some(ballot);
        self.begin(Phase::Cloning, move |progress| async move {
            data::unlock(&place).map_err(|e| format!("the lock file: {e}"))?;
            let settings = place.run().join("postgresql.conf");
            tracing::info!("the data is rewound to the primary's history");
            data::rewind(&place, &source, &settings, &progress)
                .await
                .map_err(|e| e.to_string())
        });
    }

    /// How to reach the primary.
    fn source(&self) -> Option<String> {
        let (config, _) = self.mounts.config.as_ref()?;
        let (_, name, address) = self.leader()?;
        // Not by the member's name: a copy under way counts for no acknowledgement.
        let facts = Facts {
            application: format!("copy for {}", self.place.me.instance),
            ..self.facts()
        };
        Some(conninfo(config, &facts, &name, &address))
    }

    /// Stop in order: checkpoint while clients are still served, then a fast stop, then harder.
    pub(super) fn stop(&mut self) {
        let state = self.engine.state();
        let ending = state.stop_within.is_some();
        // The last seconds of a pod's grace are for the hard end.
        let bound = state.stop_within.map_or(STOP, |ms| {
            Duration::from_millis(ms).saturating_sub(Duration::from_secs(3))
        });
        let orders = self
            .cluster
            .as_ref()
            .filter(|_| ending)
            .map(|c| c.driver.orders.clone());
        self.leaving |= ending;
        let poolers = self.poolers_to_pause();
        let checkpoint = self.wanted() != Wanted::Stopped;
        let (place, init) = (Arc::clone(&self.place), self.engine.init().clone());
        self.begin(Phase::Stopping, move |_| async move {
            let begun = boottime();
            if checkpoint && timeout(bound / 2, sql::checkpoint(&place)).await.is_err() {
                tracing::warn!("no checkpoint before the stop: it took too long");
            }
            if let Some(poolers) = poolers {
                poolers.pause().await;
            }
            if let Some(orders) = orders {
                // The container ends: somebody else shall take over. It is refused where nobody can.
                let _ = orders.send(Election::HandOver(None)).await;
            }
            // A fast stop waits for everybody to whom log is sent: not for who lacks much of it.
            let ended = timeout(CONNECT, sql::end_laggards(&place, MOST_BEHIND)).await;
            tracing::debug!(?ended, "replicas that lack much");
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

    pub(super) fn begin<F, W>(&mut self, phase: Phase, work: F)
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

    pub(super) fn worked(&mut self, done: Result<(), String>) {
        let phase = self.work.take().map(|w| w.phase);
        self.data_known = false;
        self.first = None;
        match done {
            Ok(()) if phase != Some(Phase::Stopping) => {
                self.engine.pauses.forgive();
                self.engine.last_error = None;
            }
            Ok(()) => {}
            Err(why) => {
                if phase == Some(Phase::Cloning) {
                    self.fresh = None;
                }
                if phase == Some(Phase::Stopping) {
                    self.engine.stop_failed(&why);
                } else {
                    self.engine.fail(&why);
                }
            }
        }
    }

    pub(super) async fn start(&mut self, role: Role) -> Result<(), String> {
        data::unlock(&self.place).map_err(|e| format!("the lock file: {e}"))?;
        data::set_role(&self.place, role).map_err(|e| format!("the data directory: {e}"))?;
        self.data_known = false;
        self.started_as = role;
        // Whom to receive from is decided when it runs and the end of its log is known.
        self.set_upstream(None)?;
        self.forget_served()?;
        self.detached_since = boottime();
        if let Some(fresh) = self.fresh.clone() {
            // Only from that primary it can receive what it lacks; it holds nothing of its own.
            if self.wanted() != Wanted::Follow(fresh.clone()) {
                self.fresh = None;
                return Err("the data was rewound to a primary that is none any more".to_owned());
            }
            self.set_upstream(Some(fresh))?;
        }
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
        tracing::info!(?role, "PostgreSQL is started");
        self.engine.start(start).await?;
        self.configuration.started();
        Ok(())
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
