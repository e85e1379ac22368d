//! What is done to the engine: start, stop, follow, promote. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::client::AgentClient;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::election::wire::{Introduction, MEMBER};
use mainstay_shared::agent::init::protocol::{Command, Engine, EngineSignal, Start};
use mainstay_shared::agent::mounts::{place_file, place_identity};
use mainstay_shared::agent::past;
use mainstay_shared::agent::place::long_nonce;
use mainstay_shared::agent::state::ClaimError;
use mainstay_shared::election::message::Wanted;
use mainstay_shared::names::{AGENT_PORT, instance_host};
use tokio::time::timeout;

use super::super::decide::Data;
use super::super::leader;
use super::super::mark::Mark;
use super::super::observe::{self, Memory};
use super::super::past::Orderly;
use super::super::place::server;
use super::super::render::{self, Facts};
use super::super::session::{Limits, Session};
use super::super::vitals::announce;
use super::{Asked, Machine};
use crate::settings::{PORT, Persistence, RedisConfig};
use crate::version::Server;

/// How long a stop may take: a snapshot is written.
const STOP: Duration = Duration::from_mins(1);
/// What of a pod's grace is left for the hard end.
const HARD: Duration = Duration::from_secs(3);
/// Bound of the question who a leader is.
const WHO: Duration = Duration::from_secs(2);
/// What a task says when the election has ended: so does the process.
const ENDED: &str = "the election has ended";

impl Machine {
    /// What refuses writes, as it is configured, with such a door.
    pub(super) fn limits(&self, door: u64) -> Limits {
        let config = self.mounts.config.as_ref();
        let parameter = |name: &str, otherwise: &str| {
            let set = config.and_then(|(c, _)| c.engine.parameters.get(name).cloned());
            set.unwrap_or_else(|| otherwise.to_owned())
        };
        Limits {
            door,
            memory: parameter("maxmemory", "0"),
            on_error: parameter("stop-writes-on-bgsave-error", "yes"),
        }
    }

    /// Make the set's first data.
    pub(super) fn found(&mut self) {
        let (access, limits) = (self.access.clone(), self.limits(render::SHUT));
        self.founding = true;
        self.asking = Some(Box::pin(async move {
            let set = long_nonce().map_err(|e| e.to_string())?;
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            tracing::info!(set, "the set's first dataset is made");
            let mark = Mark {
                set,
                ..Mark::default()
            };
            let done = session.found(mark, limits).await;
            done.map(|()| Asked::Founded).map_err(|e| e.to_string())
        }));
    }

    /// Become primary for the ballot that is wanted.
    pub(super) fn promote(&mut self) {
        let Wanted::Primary {
            ballot, timeline, ..
        } = self.wanted()
        else {
            return;
        };
        let starts = self.engine.starts();
        let own = self.vitals().and_then(|(_, v)| Some(v.mark?.set));
        let Some(set) = self.identifier().or(own) else {
            // Its data has no name: that of a set which keeps none, after all was lost.
            self.engine.fail("it is not known which set's data this is");
            return;
        };
        self.promoting = Some((starts, ballot.epoch.0));
        self.tending = None;
        let (access, limits) = (self.access.clone(), self.limits(render::SHUT));
        let mark = Mark {
            set,
            epoch: ballot.epoch.0,
            timeline,
            ..Mark::default()
        };
        tracing::info!(epoch = mark.epoch, timeline, "Redis is promoted");
        self.asking = Some(Box::pin(async move {
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            let done = session.promote(mark, limits).await;
            done.map(|()| Asked::Promoted).map_err(|e| e.to_string())
        }));
    }

    /// Receive from nobody.
    pub(super) fn detach(&mut self) {
        self.upstream = None;
        let access = self.access.clone();
        self.asking = Some(Box::pin(async move {
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            let done = session.detach().await;
            done.map(|()| Asked::Detached).map_err(|e| e.to_string())
        }));
    }

    /// Receive from the primary, when it is who it should be.
    pub(super) fn follow(&mut self) {
        let (Some((ballot, name, address)), Some((config, _)), Some(cluster)) =
            (self.leader(), &self.mounts.config, &self.cluster)
        else {
            return;
        };
        let Some(charter) = cluster.charter().filter(|c| c.ballot == ballot) else {
            return;
        };
        let Some(tls) = self.channels.client_tls.borrow().clone() else {
            return;
        };
        let host = instance_host(&name, &config.set, &config.namespace);
        let member = ballot.holder.member.clone();
        let (access, place, store) = (
            self.access.clone(),
            Arc::clone(&self.place),
            self.store.clone(),
        );
        let (me, renewal) = (cluster.driver.me.clone(), cluster.driver.renewal());
        // Nothing is in memory that was there before: what this member acknowledged and promised is another's.
        let empty = self
            .vitals()
            .is_some_and(|(_, v)| observe::data(&v) == Data::Empty);
        let lost = empty && !self.store.get().promotions.is_empty();
        let own = self.server(config);
        self.upstream = Some((ballot.clone(), None));
        self.asking = Some(Box::pin(async move {
            let port = u16::try_from(AGENT_PORT).unwrap_or_default();
            let ip: IpAddr = address
                .parse()
                .map_err(|_| format!("{address} is no address"))?;
            // An address may have become another set's: whoever is there shows by a certificate who it is. Redis itself
            // asks for one of this set's authority, and not for a name.
            let mut agent = AgentClient::new((ip, port).into(), &host, Arc::clone(&tls))
                .map_err(|e| e.to_string())?;
            let there: Introduction = agent
                .get(MEMBER, WHO)
                .await
                .map_err(|e| format!("who is at {address}: {e}"))?;
            if there.member != member {
                return Err(format!(
                    "at {address} is {}, not the primary {member}",
                    there.member
                ));
            }
            // Redis would ask for the dataset first, and be without one when it cannot read what comes.
            let password = place.replication_password()?;
            let theirs = leader::server((ip, PORT).into(), &host, tls, &password).await?;
            if let Some(why) = own.and_then(|own| own.cannot_follow(&theirs, &name)) {
                return Err(why);
            }
            let claim = async || {
                let store = store.clone();
                let claim = move || store.claimed(charter.timeline, charter.ballot.epoch.0);
                let claimed = tokio::task::spawn_blocking(claim).await;
                claimed.map_err(|e| e.to_string())
            };
            let anew = match claim().await? {
                Ok(()) => lost.then(|| "the dataset is gone".to_owned()),
                Err(ClaimError::Parted(why)) => Some(why.to_string()),
                Err(ClaimError::Io(error)) => {
                    return Err(format!("the agent's state on the data volume: {error}"));
                }
            };
            if let Some(why) = anew {
                tracing::warn!(%why, "the primary's data comes in place of what is in memory, as that of a new member");
                renewal.await.ok_or(ENDED)?;
                // It receives nothing before the charter names it.
                return Ok(Asked::Anew);
            }
            let name = announce(&me.borrow());
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            let done = session.follow((&address, PORT), &name, &password).await;
            done.map(|()| Asked::Follows(address))
                .map_err(|e| e.to_string())
        }));
    }

    /// The server that runs here, once it has said its version.
    fn server(&self, config: &RedisConfig) -> Option<Server> {
        let (_, vitals) = self.vitals()?;
        let said = (!vitals.version.is_empty()).then_some(vitals.version)?;
        Some(Server {
            flavour: config.engine.flavour,
            version: said,
        })
    }

    pub(super) fn asked(&mut self, done: Result<Asked, String>) {
        self.asking = None;
        self.founding = false;
        self.asked_at = boottime();
        self.monitor.look.notify_one();
        match done {
            Ok(Asked::Detached | Asked::Anew | Asked::Founded) => {
                self.upstream = None;
                if matches!(done, Ok(Asked::Founded)) {
                    self.memory.1 = Memory::Whole;
                }
            }
            Ok(Asked::Follows(address)) => {
                if let Some((_, told)) = &mut self.upstream {
                    *told = Some(address);
                }
            }
            Ok(Asked::HandedOver(whole)) => {
                self.upstream = None;
                if !whole {
                    tracing::warn!("nobody who takes over has said in time that it has everything");
                }
            }
            Ok(Asked::Promoted | Asked::Resumed) => {}
            Err(why) => {
                // Whatever it was told, it is told anew: from nobody first.
                self.upstream = None;
                self.engine.fail(&why);
            }
        }
    }

    pub(super) async fn start(&mut self) -> Result<(), String> {
        let (Some((config, hash)), Some(roles)) =
            (self.mounts.config.clone(), self.mounts.roles.clone())
        else {
            return Ok(());
        };
        let place = Arc::clone(&self.place);
        let io = |e: std::io::Error| format!("the configuration files: {e}");
        let data = place.data();
        if !data.exists() {
            let made = fs::DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(&data);
            made.map_err(|e| format!("the data volume: {e}"))?;
        }
        if let Some(pair) = &self.mounts.identity {
            place_identity(&place.tls(), pair).map_err(io)?;
        }
        let clustered = config.engine.clustered;
        let me = if clustered {
            let host = instance_host(&place.me.instance, &config.set, &config.namespace);
            Some(host)
        } else {
            let cluster = self.cluster.as_ref();
            cluster.map(|c| announce(&c.driver.me.borrow()))
        };
        let acl = place.run().join("users.acl");
        let facts = Facts {
            listen: place.listen.clone(),
            announce: me.unwrap_or_else(|| place.me.instance.clone()),
            data: data.clone(),
            tls: place.tls(),
            socket: place.socket(),
            acl: acl.clone(),
            password: place.replication_password()?,
            address: place.me.address.clone(),
        };
        place_file(&acl, &render::acl(&roles, &self.access.password), 0o600).map_err(io)?;
        let file = place.run().join("redis.conf");
        let text = render::configuration(&config.engine, &facts);
        place_file(&file, &text, 0o600).map_err(io)?;
        // From here on it is no more than what was there.
        self.orderly = past::read(&place.orderly());
        for noted in [place.orderly(), place.stopped()] {
            past::forget(&noted).map_err(|e| format!("the data volume: {e}"))?;
        }
        let starts = self.engine.starts();
        self.started_with(starts + 1, &config.engine, hash, &roles);
        let program = server(config.engine.flavour)?;
        let start = Start {
            argv: vec![program.display().to_string(), file.display().to_string()],
            env: BTreeMap::from([
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
                ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
            ]),
            cwd: data.display().to_string(),
            stop: EngineSignal::Terminate,
        };
        if clustered {
            tracing::info!("Redis is started, as a member of a cluster");
        } else {
            tracing::info!("Redis is started, as a replica of nobody");
        }
        self.upstream = None;
        self.asked_at = boottime();
        self.engine.start(start).await
    }

    /// Stop in order: nobody writes any more, it is known how far the dataset goes, and it is on the volume.
    pub(super) fn stop(&mut self) {
        let state = self.engine.state();
        let bound = state
            .stop_within
            .map_or(STOP, |ms| Duration::from_millis(ms).saturating_sub(HARD));
        let keeps = self
            .mounts
            .config
            .as_ref()
            .is_some_and(|(c, _)| c.engine.persistence != Persistence::None);
        let (memory, reached, access, init) = (
            self.memory.1,
            self.reached(),
            self.access.clone(),
            self.engine.init().clone(),
        );
        self.upstream = None;
        self.tending = None;
        // Of a cluster a primary waits by itself for what its replicas lack.
        let clustered = self.is_clustered();
        let stopped = self.place.stopped();
        self.stopping = Some(Box::pin(async move {
            let end = if clustered {
                None
            } else {
                match timeout(bound / 4, quiet(&access, bound)).await {
                    Ok(Ok(vitals)) => observe::position(&vitals, memory, reached, boottime())
                        .filter(|_| vitals.mark.is_some()),
                    _ => None,
                }
            };
            // Asked before it is told by a signal: it says if it refuses, and why.
            if let Ok(Err(error)) = timeout(bound / 2, end_in_order(&access)).await {
                tracing::warn!(%error, "Redis does not shut down");
            }
            let steps = [
                (Command::Signal(EngineSignal::Terminate), bound / 4),
                (Command::HardStop, Duration::from_secs(5)),
            ];
            for (command, bound) in steps {
                init.send(command).await.map_err(|e| e.to_string())?;
                let mut heard = init.heard();
                let gone = heard.wait_for(|h| !matches!(h.state.engine, Engine::Running { .. }));
                if let Ok(Ok(heard)) = timeout(bound, gone).await {
                    let clean = matches!(heard.state.engine, Engine::Exited { clean: true, .. });
                    if clustered && clean && keeps {
                        past::keep(&stopped, &true).map_err(|e| format!("the data volume: {e}"))?;
                    }
                    return Ok(end
                        .filter(|_| clean && keeps)
                        .map(|position| Orderly { position }));
                }
            }
            Err("Redis could not be stopped".to_owned())
        }));
    }

    pub(super) fn stopped(&mut self, done: Result<Option<Orderly>, String>) {
        self.stopping = None;
        match done {
            Ok(None) => {}
            Ok(Some(orderly)) => {
                if let Err(error) = past::keep(&self.place.orderly(), &orderly) {
                    self.engine.fail(&format!("the data volume: {error}"));
                }
            }
            Err(why) => self.engine.stop_failed(&why),
        }
    }
}

async fn end_in_order(access: &super::Access) -> Result<(), super::super::session::SessionError> {
    Session::begin(access).await?.shut_down().await
}

/// Nobody writes any more, here or from elsewhere; then it says how far it goes.
async fn quiet(
    access: &super::Access,
    bound: Duration,
) -> Result<super::Vitals, super::super::session::SessionError> {
    let mut session = Session::begin(access).await?;
    session.quiet(bound).await
}
