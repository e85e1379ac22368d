//! The election, as the machine uses it. I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_crds::common::{Durability, Enforcement};
use mainstay_shared::agent::api::{Acknowledging, Phase};
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::cluster::{Cluster, kubernetes};
use mainstay_shared::agent::election::driver::{Config, Place, Setup, dns, spawn};
use mainstay_shared::agent::election::hard_stop::killer;
use mainstay_shared::agent::init::protocol::Engine;
use mainstay_shared::agent::tell::set;
use mainstay_shared::election::charter::Charter;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::{Engine as Seen, Room, Wanted};
use mainstay_shared::election::policy::{self, Policy, Timing};
use mainstay_shared::metadata::SetId;

use super::super::decide::{Data, Role};
use super::super::history::{Parting, Past, parting};
use super::super::monitor::Sight;
use super::super::{data, observe, render};
use super::Machine;
use crate::settings::{PORT, PORT_NAME, PostgresConfig};

/// Who was stopped to be handed over waits so long for whom to follow before it is started.
const STOOD_DOWN: Duration = Duration::from_secs(5);
/// Most log, in bytes, that a candidate may miss of what an `async` primary last published, unless the
/// resource says so.
const MAX_LAG: u64 = 16 << 20;

impl Machine {
    /// Take part, as soon as the set is known and it is known whether there is data.
    pub(super) fn join(&mut self) {
        let Some((config, _)) = &self.mounts.config else {
            return;
        };
        if self.cluster.is_some() || !self.data_known {
            return;
        }
        let Ok(address) = self.place.me.address.parse::<IpAddr>() else {
            self.engine.last_error = Some(format!("{} is no address", self.place.me.address));
            return;
        };
        let (setup, asked) = tokio::sync::watch::channel(self.setup(config));
        let running = matches!(self.engine.state().engine, Engine::Running { .. });
        let place = Place {
            namespace: config.namespace.clone(),
            set: config.set.clone(),
            instance: self.place.me.instance.clone(),
            pod_uid: self.place.me.pod_uid.clone(),
            nonce: self.place.me.nonce.clone(),
            address,
            labels: SetId {
                kind: "Postgres".to_owned(),
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
            tls: self.client_tls.subscribe(),
            hard_stop: killer(self.engine.init().clone(), nix::unistd::getppid().as_raw()),
            run: self.place.run(),
            resume: running,
            agent_port: u16::try_from(mainstay_shared::names::AGENT_PORT).unwrap_or_default(),
        });
        if running {
            self.resume_upstream();
            self.resume_served();
        }
        match driver {
            Ok(driver) => {
                self.door.send_replace(Some(driver.door.clone()));
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

    fn setup(&self, config: &PostgresConfig) -> Setup {
        setup(config, self.mounts.zone.clone(), self.disk.room())
    }

    pub(super) fn wanted(&self) -> Wanted {
        let cluster = self.cluster.as_ref();
        cluster.map_or(Wanted::Unchanged, Cluster::wanted)
    }

    /// What the election waits for, in words.
    pub(super) fn because(&self) -> String {
        let wait = self.cluster.as_ref().and_then(Cluster::because);
        wait.unwrap_or_else(|| "the election of a primary".to_owned())
    }

    pub(super) fn charter(&self) -> Option<Charter> {
        self.cluster.as_ref()?.charter()
    }

    pub(super) fn identifier(&self) -> Option<String> {
        self.cluster.as_ref()?.identifier()
    }

    /// Whom to follow, and where it is: instance and address.
    pub(super) fn leader(&self) -> Option<(Ballot, String, String)> {
        self.cluster.as_ref()?.leader(&self.place.me.instance)
    }

    /// What the running engine is; what the stopped one was.
    pub(super) fn role(&self, running: bool) -> Role {
        match &*self.monitor.sight.borrow() {
            Sight::Up { vitals, .. } if running && vitals.in_recovery => Role::Replica,
            Sight::Up { .. } if running => Role::Primary,
            _ => match self.data {
                Data::Present { role, .. } => role,
                _ => Role::Replica,
            },
        }
    }

    /// Latest timeline of the data.
    fn timeline(&self) -> Option<u64> {
        match (&*self.monitor.sight.borrow(), &self.data) {
            (Sight::Up { vitals, .. }, _) => Some(vitals.timeline),
            (_, Data::Present { timeline, .. }) => Some(*timeline),
            _ => None,
        }
    }

    /// For which ballot the data was promoted last: the charter's, when its timeline is the data's
    /// last and was claimed by this member.
    pub(super) fn promoted(&self) -> Option<Ballot> {
        let charter = self.store.get().election.charter?;
        let ours = charter.ballot.holder.member.name.as_str() == self.place.me.instance;
        (ours && self.timeline() == Some(charter.timeline)).then_some(charter.ballot)
    }

    /// What the data needs before it can follow as wanted.
    pub(super) fn parting(&mut self, wanted: &Wanted) -> Parting {
        let Wanted::Follow(ballot) = wanted else {
            return Parting::None;
        };
        // What is being rewound or copied is not any more as it was looked at. Remembered now, it would
        // be rewound once more when that is done: recovered by itself first, and so parted for good.
        if self
            .work
            .as_ref()
            .is_some_and(|w| w.phase == Phase::Cloning)
        {
            return Parting::None;
        }
        let Some(charter) = self.charter().filter(|c| c.ballot == *ballot) else {
            return Parting::None;
        };
        let past = match (&*self.monitor.sight.borrow(), &self.data) {
            (Sight::Up { vitals, .. }, _) => Past {
                timeline: vitals.timeline,
                // A torn last record is no part of a history.
                end: Some(vitals.position),
                was_primary: !vitals.in_recovery,
            },
            (
                _,
                Data::Present {
                    timeline,
                    end,
                    role,
                    ..
                },
            ) => Past {
                timeline: *timeline,
                end: *end,
                was_primary: *role == Role::Primary,
            },
            _ => return Parting::None,
        };
        let ancestors = if past.timeline == charter.timeline {
            Vec::new()
        } else {
            data::ancestors(&self.place, charter.timeline)
        };
        let promotions = self.store.get().promotions;
        let now = parting(past, &promotions, &charter, &ancestors);
        if now != Parting::None {
            // Stopped, it no longer tells where its log ends: it is remembered for this ballot.
            self.parted = Some((ballot.clone(), now));
        }
        match &self.parted {
            Some((other, before)) if other == ballot => *before,
            _ => now,
        }
    }

    /// Whether it was stopped a moment ago to be handed over.
    pub(super) fn has_stood_down(&self, now: Duration) -> bool {
        self.stood_down
            .is_some_and(|at| now.saturating_sub(at) < STOOD_DOWN)
    }

    /// What the election is told of the engine.
    pub(super) fn seen(&self, engine: &Engine) -> Seen {
        let running = matches!(engine, Engine::Running { .. });
        let promoted = self.promoted();
        let group = match self.wanted() {
            Wanted::Primary { group, .. } => group,
            _ => None,
        };
        let in_force = group.as_ref().and_then(|group| {
            let (names, since) = self.in_force.as_ref()?;
            (*names == render::standby_names(Some(group))).then_some((group, *since))
        });
        observe::engine(&observe::Facts {
            running,
            data: if self.data_known || running {
                &self.data
            } else {
                // Not looked at since it ended: nothing is known.
                &UNKNOWN
            },
            sight: &self.monitor.sight.borrow(),
            detached_since: self.detached_since,
            loading: self.configuration.is_loading(),
            upstream: self.upstream.as_ref(),
            promotions: &self.store.get().promotions,
            first: self.first.unwrap_or(1),
            used: self.mounts.timelines,
            promoted: promoted.as_ref(),
            tended: self.is_tended(),
            recovered: self.served().map(|s| s.recovered),
            in_force,
            handing_over: self.leaving
                || match self.wanted() {
                    Wanted::Stopped => true,
                    Wanted::Detached => self.has_stood_down(boottime()),
                    _ => false,
                },
        })
    }

    /// Tell it.
    pub(super) fn observe(&mut self, engine: &Engine) {
        let runs = matches!(engine, Engine::Running { .. });
        // It takes writes soon, or reads its log: what was seen before holds no more.
        let changes = (runs && self.promoting.is_some()) || self.engine.is_starting(boottime());
        // What is on its way is not there; a primary is one until it is told otherwise.
        let seen = match self.seen(engine) {
            Seen::Following(_) | Seen::Detached { .. } if self.work.is_some() => Seen::Unknown,
            Seen::Detached { .. } if changes => Seen::Unknown,
            seen => seen,
        };
        let identifier = match &self.data {
            Data::Present { identifier, .. } => Some(identifier.clone()),
            _ => None,
        };
        let Some(cluster) = &self.cluster else { return };
        set(&cluster.driver.identifier, identifier);
        set(&cluster.driver.engine, seen);
    }

    /// Who acknowledges, once every session waits for it.
    pub(super) fn acknowledging(&self) -> Option<Acknowledging> {
        let Wanted::Primary {
            group: Some(group), ..
        } = self.wanted()
        else {
            return None;
        };
        let (names, _) = self.in_force.as_ref()?;
        (*names == render::standby_names(Some(&group))).then(|| Acknowledging {
            needed: u32::try_from(group.acks).unwrap_or(u32::MAX),
            of: group.voters.iter().map(|m| m.name.to_string()).collect(),
        })
    }

    /// Whether clients are let in.
    pub(super) fn is_open(&self) -> bool {
        match self.wanted() {
            Wanted::Primary { open, .. } => open,
            _ => false,
        }
    }

    /// The engine has stopped.
    pub(super) async fn release(&mut self) {
        let within = self.engine.state().stop_within;
        if let Some(cluster) = &mut self.cluster {
            cluster.release(&self.place.me.instance, within).await;
        }
    }

    /// Whether the election's loop turns.
    pub(super) fn election_turns(&self) -> bool {
        self.cluster.as_ref().is_none_or(Cluster::turns)
    }
}

static UNKNOWN: Data = Data::Unusable(String::new());

fn setup(config: &PostgresConfig, zone: Option<String>, room: Room) -> Setup {
    Setup {
        policy: Policy {
            durability: match (config.durability, config.enforcement) {
                (Durability::Quorum, Enforcement::Required) => policy::Durability::Required,
                (Durability::Quorum, Enforcement::Preferred) => policy::Durability::Preferred,
                (Durability::Async, _) => policy::Durability::Async,
            },
            across_zones: config.across_zones,
            max_lag: config.max_lag.unwrap_or(MAX_LAG),
            timing: Timing::DEFAULT,
        },
        members: config.members.iter().cloned().collect(),
        zone,
        room,
    }
}
