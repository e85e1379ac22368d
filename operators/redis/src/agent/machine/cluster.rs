//! The election, as the machine uses it. I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::cluster::{Cluster, kubernetes};
use mainstay_shared::agent::election::driver::{Config, Place, Setup, dns, spawn};
use mainstay_shared::agent::election::hard_stop::killer;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::past;
use mainstay_shared::agent::tell::set;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::{Engine as Seen, Room, Wanted};
use mainstay_shared::election::policy::{Durability, Policy, Timing};
use mainstay_shared::metadata::SetId;
use mainstay_shared::names::AGENT_PORT;

use super::super::monitor::Sight;
use super::super::observe::{self, Memory};
use super::super::past::Elected;
use super::super::sentinel::Known;
use super::super::sentinel::view::Set;
use super::{ELECTED, Machine};
use crate::settings::{PORT, PORT_NAME, Persistence, RedisConfig};

/// Most of its history, in bytes, that a candidate may miss of what a primary last published whose promise is
/// suspended, unless the resource says so.
const MAX_LAG: u64 = 16 << 20;
/// Part of a volume that is ample room.
const AMPLE: u64 = 4;

impl Machine {
    /// Take part, as soon as the set is known.
    pub(super) fn join(&mut self) {
        let Some((config, _)) = &self.mounts.config else {
            return;
        };
        if self.cluster.is_some() || config.engine.clustered {
            return;
        }
        let Ok(address) = self.place.me.address.parse::<IpAddr>() else {
            self.engine.last_error = Some(format!("{} is no address", self.place.me.address));
            return;
        };
        let (setup, asked) = tokio::sync::watch::channel(self.setup(config));
        let state = self.engine.state();
        let place = Place {
            namespace: config.namespace.clone(),
            set: config.set.clone(),
            instance: self.place.me.instance.clone(),
            pod_uid: self.place.me.pod_uid.clone(),
            nonce: self.place.me.nonce.clone(),
            address,
            labels: SetId {
                kind: "Redis".to_owned(),
                name: config.set.clone(),
                ..SetId::default()
            }
            .selector(),
            port_name: PORT_NAME.to_owned(),
            port: PORT,
        };
        let driver = spawn(Config {
            place,
            store: self.store.clone(),
            setup: asked,
            connect: Arc::new(|| Box::pin(kubernetes())),
            resolve: dns(&config.set, &config.namespace),
            tls: self.channels.client_tls.subscribe(),
            hard_stop: killer(self.engine.init().clone(), nix::unistd::getppid().as_raw()),
            run: self.place.run(),
            resume: matches!(state.engine, Engine::Running { .. }),
            agent_port: u16::try_from(AGENT_PORT).unwrap_or_default(),
        });
        match driver {
            Ok(driver) => {
                self.channels.door.send_replace(Some(driver.door.clone()));
                self.cluster = Some(Cluster { driver, setup });
            }
            Err(error) => self.engine.last_error = Some(error.to_string()),
        }
    }

    /// Tell the election what is mounted, and whether this instance could lead.
    pub(super) fn set_up(&mut self) {
        if let (Some(cluster), Some((config, _))) = (&self.cluster, &self.mounts.config) {
            set(&cluster.setup, self.setup(config));
        }
    }

    fn setup(&self, config: &RedisConfig) -> Setup {
        Setup {
            policy: Policy {
                // Where writes are refused without replicas, an election can do as much; else a primary goes on, and
                // what WAIT is worth is suspended meanwhile.
                durability: match config.engine.replicas {
                    Some(_) => Durability::Required,
                    None => Durability::Preferred,
                },
                // Nobody acknowledges, so nobody must be elsewhere.
                across_zones: false,
                max_lag: config.max_lag.unwrap_or(MAX_LAG),
                timing: Timing::DEFAULT,
            },
            members: config.members.iter().cloned().collect(),
            zone: self.mounts.zone.clone(),
            room: self.room(),
        }
    }

    /// Redis that cannot write its append-only file takes no write.
    fn room(&self) -> Room {
        let log_ok = self.vitals().is_none_or(|(_, v)| v.log_ok);
        match self.volume {
            _ if !log_ok => Room::Short,
            Some(v) if v.free.saturating_mul(AMPLE) >= v.size => Room::Ample,
            _ => Room::Enough,
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        let cluster = self.cluster.as_ref();
        cluster.map_or(Wanted::Unchanged, Cluster::wanted)
    }

    /// Since when the API server answers, without which nobody is elected.
    pub(super) fn reached(&self) -> Option<Duration> {
        *self.cluster.as_ref()?.driver.reach.borrow()
    }

    /// What the election waits for, in words.
    pub(super) fn because(&self) -> String {
        let wait = self.cluster.as_ref().and_then(Cluster::because);
        wait.unwrap_or_else(|| "the election of a primary".to_owned())
    }

    pub(super) fn identifier(&self) -> Option<String> {
        self.cluster.as_ref()?.identifier()
    }

    /// Whom to follow, and where it is: instance and address.
    pub(super) fn leader(&self) -> Option<(Ballot, String, String)> {
        self.cluster.as_ref()?.leader(&self.place.me.instance)
    }

    /// Whom the engine receives from. None as well when that one is elsewhere by now.
    pub(super) fn upstream(&self, leader: Option<&(Ballot, String, String)>) -> Option<&Ballot> {
        let (ballot, told) = self.upstream.as_ref()?;
        let moved = match (told, leader) {
            (Some(told), Some((leads, _, address))) => leads == ballot && address != told,
            _ => false,
        };
        (!moved).then_some(ballot)
    }

    /// For which ballot the engine was promoted: the charter's, when that is this member's, and the dataset says so.
    pub(super) fn promoted(&self) -> Option<Ballot> {
        let charter = self.store.get().election.charter?;
        let me = self.cluster.as_ref()?.driver.me.borrow().clone();
        let (_, vitals) = self.vitals()?;
        let epoch = vitals.mark.as_ref()?.epoch;
        let ours = charter.ballot.holder.member == me && epoch == charter.ballot.epoch.0;
        (vitals.is_primary && ours).then_some(charter.ballot)
    }

    /// The epoch of the term for which the engine was promoted, unless it is to be anything else by now.
    pub(super) fn term(&self) -> Option<u64> {
        let ours = self.promoted()?;
        let stays = match &self.wanted() {
            // Beside an engine that went on while the agent was started anew.
            Wanted::Unchanged => true,
            Wanted::Primary { ballot, .. } => *ballot == ours,
            _ => false,
        };
        stays.then_some(ours.epoch.0)
    }

    /// What clients of a Sentinel are answered from.
    pub(super) fn known(&self) -> Known {
        let config = self.mounts.config.as_ref().map(|(config, _)| config);
        let Some(config) = config.filter(|c| c.engine.sentinel) else {
            return Known::default();
        };
        let leader = self
            .cluster
            .as_ref()
            .map(|c| c.driver.leader.borrow().clone());
        Known {
            set: Some(Arc::new(Set {
                name: config.set.clone(),
                namespace: config.namespace.clone(),
                me: self.place.me.instance.clone(),
                members: config.members.clone(),
                version: config.engine.version.clone(),
            })),
            roles: self.mounts.roles.clone().unwrap_or_default(),
            leader: leader.flatten(),
        }
    }

    /// Whether the charter names this member.
    pub(super) fn is_named(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| {
            let me = cluster.driver.me.borrow().clone();
            observe::is_named(&me, cluster.charter().as_ref())
        })
    }

    /// Whether nobody else can have any of the set's data.
    pub(super) fn is_alone(&self) -> bool {
        let (Some(cluster), Some((config, _))) = (&self.cluster, &self.mounts.config) else {
            return false;
        };
        let me = &self.place.me.instance;
        observe::is_alone(me, &config.members, cluster.charter().as_ref())
    }

    /// Note which start was elected.
    pub(super) fn track(&mut self, wanted: &Wanted, start: Option<u64>) {
        let Wanted::Primary { ballot, .. } = wanted else {
            return;
        };
        if self.elected.as_ref().is_some_and(|e| e.ballot == *ballot) {
            return;
        }
        let elected = Elected {
            ballot: ballot.clone(),
            // What was elected is what could say what it has; another one may run by the time that this is heard.
            start: self.told.or(start),
        };
        // For the next process; without it, that one takes what runs for the one that was elected.
        if let Err(error) = past::note(&self.place.run().join(ELECTED), &elected) {
            tracing::warn!(%error, "which start was elected could not be kept in memory");
        }
        self.elected = Some(elected);
    }

    /// Whether what was elected for the term that goes on is not what runs.
    pub(super) fn elected_has_ended(&self, wanted: &Wanted, start: Option<u64>) -> bool {
        let Some(elected) = &self.elected else {
            return false;
        };
        let wanted = matches!(wanted, Wanted::Primary { ballot, .. } if *ballot == elected.ballot);
        let cluster = self.cluster.as_ref();
        let held = |c: &Cluster| c.driver.held.borrow().as_ref() == Some(&elected.ballot);
        let goes_on = wanted || cluster.is_some_and(held);
        goes_on && (start.is_none() || elected.start != start)
    }

    /// Whether whatever led under this pod's name has ended with its memory: no engine ran when this process began, and it
    /// has not stood with what it has started since.
    fn began_anew(&self) -> bool {
        let exited = matches!(self.engine.state().engine, Engine::Exited { .. });
        let clean = !exited || self.engine.is_clean();
        let lost = matches!(self.memory.1, Memory::LostAt(_));
        self.anew && clean && lost && self.told.is_none()
    }

    /// What the election is told of the engine.
    pub(super) fn seen(&self) -> Seen {
        let state = self.engine.state();
        let promoted = self.promoted();
        let running = matches!(state.engine, Engine::Running { .. });
        // What runs in its place has started as a replica of nobody, and stays one while the term goes on.
        let ended = self.elected_has_ended(&self.wanted(), running.then_some(state.starts));
        let ended = ended && (running || self.engine.is_clean());
        let set_exists = self.identifier().is_some()
            || self
                .cluster
                .as_ref()
                .is_some_and(|c| c.driver.charter.borrow().is_some());
        let settings = self.mounts.config.as_ref().map(|(c, _)| &c.engine);
        let seen = observe::engine(&observe::Facts {
            now: mainstay_shared::agent::clock::boottime(),
            running: running
                && self.memory.0 == state.starts
                && *self.monitor.wanted.borrow() == Some(state.starts),
            sight: &self.monitor.sight.borrow(),
            upstream: self.upstream.as_ref().map(|(ballot, _)| ballot),
            asked_at: self.asked_at,
            memory: self.memory.1,
            reached: self.reached(),
            memory_only: settings.is_some_and(|s| s.persistence == Persistence::None),
            set_exists,
            used: self.mounts.timelines,
            promoted: promoted.as_ref(),
            ended,
            group: self.group.as_ref().map(|(group, since)| (group, *since)),
        });
        match seen {
            Seen::Unknown if self.began_anew() => Seen::Ended,
            seen => seen,
        }
    }

    /// Tell it.
    pub(super) fn observe(&mut self) {
        let group = match self.wanted() {
            Wanted::Primary { group, .. } => group,
            _ => None,
        };
        // Nobody waits for anybody in Redis, so a group is in force when it is asked for.
        if self.group.as_ref().map(|(g, _)| g) != group.as_ref() {
            // While a script runs it is not known how far it is.
            let end = self.vitals().filter(|_| !self.is_busy());
            let end = end.map(|(_, v)| v.offset);
            self.group = group.zip(end);
        }
        let seen = self.seen();
        // What is on its way is not there; a primary is one until it is told otherwise.
        let seen = match seen {
            Seen::Detached { .. } if self.asking.is_some() || self.stopping.is_some() => {
                Seen::Unknown
            }
            seen => seen,
        };
        if matches!(seen, Seen::Detached { .. }) {
            self.told = Some(self.engine.starts());
        }
        let identifier = match &*self.monitor.sight.borrow() {
            Sight::Up { vitals, .. } => vitals.mark.as_ref().map(|m| m.set.clone()),
            _ => None,
        };
        let Some(cluster) = &self.cluster else { return };
        let held = cluster.driver.held.borrow().is_some();
        if held && seen == Seen::Ended && *cluster.driver.engine.borrow() != Seen::Ended {
            tracing::warn!("Redis, as it was elected, has ended: its term is given up");
        }
        if identifier.is_some() {
            set(&cluster.driver.identifier, identifier);
        }
        set(
            &cluster.driver.asks,
            matches!(self.memory.1, Memory::LostAt(_)),
        );
        set(&cluster.driver.engine, seen);
    }
}
