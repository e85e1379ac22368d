//! Looking after a running engine: configuration, roles, slots, promotion. I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_shared::agent::api::Weakened;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::config::Role as Login;
use mainstay_shared::agent::init::protocol::{Command, Engine, EngineSignal};
use mainstay_shared::agent::pauses;
use mainstay_shared::election::member::Ballot;
use mainstay_shared::election::message::Wanted;
use tokio::time::timeout;

use super::super::configuration::Configuration;
use super::super::data;
use super::super::decide::Role;
use super::super::history::Parting;
use super::super::monitor::Sight;
use super::super::render::{Facts, application, standby_names};
use super::super::sql::Slots;
use super::super::{observe, sql};
use super::{CONNECT, Machine, TEND};
use crate::room::Writes;
use crate::settings::PostgresConfig;

/// What an engine was tended with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tended {
    pub(super) start: u64,
    pub(super) role: Role,
    pub(super) roles: Vec<Login>,
    pub(super) members: Vec<String>,
    pub(super) pooled: bool,
    pub(super) at: Duration,
    pub(super) ok: bool,
    /// Members had time to connect, and the slots of the others keep log.
    pub(super) slots: bool,
}

/// Every process of an engine that is well has loaded a configuration within this time.
const RELOAD: Duration = Duration::from_secs(1);

fn loaded_within(vitals: &sql::Vitals, time: Duration) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.is_ok_and(|now| now.as_secs_f64() < vitals.loaded_at + time.as_secs_f64())
}

impl Machine {
    /// Whether everything is there that others need of a primary.
    pub(super) fn is_tended(&self) -> bool {
        let tended = self.tended.as_ref();
        tended.is_some_and(|t| t.ok && t.role == Role::Primary)
    }

    /// What the configuration depends on now. A replica names its primary only when its data can
    /// follow it.
    pub(super) fn facts(&self) -> Facts {
        let me = &self.place.me.instance;
        let wanted = self.wanted();
        let primary = match &self.upstream {
            Some(ballot) => self.leader().filter(|(b, ..)| b == ballot),
            None => None,
        };
        let member = self.cluster.as_ref().map(|c| c.driver.me.borrow().clone());
        let (names, open, writes) = match &wanted {
            Wanted::Primary { group, .. } => {
                let names = self.throttled(&wanted);
                let names = names.unwrap_or_else(|| standby_names(group.as_ref()));
                (names, self.lets_in(&wanted), self.held.writes)
            }
            // Should it ever become primary with this, nothing is acknowledged.
            _ => (standby_names(None), true, Writes::Taken),
        };
        Facts {
            instance: me.clone(),
            user: self.place.user.clone(),
            listen: self.place.listen.clone(),
            root: self.place.root.clone(),
            run: self.place.run(),
            tls: self.place.tls(),
            sockets: self.place.sockets(),
            primary: primary.map(|(_, name, address)| (name, address)),
            application: member.as_ref().map_or_else(|| me.clone(), application),
            standby_names: names,
            open: open && writes != Writes::Closed,
            writes: writes == Writes::Taken,
            zeroed: self.fills_files(),
            // What it was started with stays until the next start, also through a promotion.
            floors: match self.started_as {
                Role::Replica => self.floors.clone(),
                Role::Primary => BTreeMap::new(),
            },
        }
    }

    /// Say whom to receive from. What its timeline is claimed by is durable before the first byte.
    pub(super) fn choose_upstream(&mut self) -> Result<(), String> {
        let wanted = self.wanted();
        let upstream = match &wanted {
            Wanted::Follow(ballot) => self.leader().map(|(b, ..)| b).filter(|b| b == ballot),
            // Left as it is.
            Wanted::Unchanged => return Ok(()),
            _ => None,
        };
        if upstream == self.upstream {
            return Ok(());
        }
        // A receiver confirms what was replayed before it has received anything: data whose end is
        // not known, or that has parted, would acknowledge what it does not hold.
        let may_receive = match &upstream {
            Some(ballot) => {
                self.end_is_known()
                    && self.parting(&wanted) == Parting::None
                    && self.claim(ballot)?
            }
            None => false,
        };
        if may_receive {
            self.set_upstream(upstream)
        } else {
            if self.upstream.is_some() {
                self.detached_since = boottime();
            }
            self.set_upstream(None)
        }
    }

    /// Whether the end of the log of what runs as a replica was seen, since it receives from nobody.
    fn end_is_known(&self) -> bool {
        match &*self.monitor.sight.borrow() {
            Sight::Up { at, vitals, .. } => {
                let detached = vitals.in_recovery && !vitals.attached;
                detached && vitals.at_end && *at > self.detached_since
            }
            _ => false,
        }
    }

    /// Make durable which epoch claims the charter's timeline; false when the charter is not that
    /// ballot's.
    pub(super) fn claim(&mut self, ballot: &Ballot) -> Result<bool, String> {
        let Some(charter) = self.charter().filter(|c| c.ballot == *ballot) else {
            return Ok(false);
        };
        let claimed = self.store.claimed(charter.timeline, ballot.epoch.0);
        claimed.map_err(|e| {
            let why = format!("the agent's state on the data volume: {e}");
            self.engine.last_error = Some(why.clone());
            why
        })?;
        Ok(true)
    }

    /// Put the newest configuration in place; true when something changed.
    pub(super) async fn configure(&mut self) -> Result<bool, String> {
        let Some(config) = self.mounts.config.clone() else {
            return Ok(false);
        };
        let state = self.engine.state().engine;
        let runs = matches!(state, Engine::Running { .. });
        if !runs {
            self.note_receiving(false);
        }
        if runs && self.wanted() == Wanted::Unchanged && Configuration::exists(&self.place) {
            // Beside an engine of the process before nothing is changed before the election says how
            // it should be: it might lose its primary, or those who acknowledge.
            return Ok(false);
        }
        self.choose_upstream()?;
        self.note_open();
        let facts = self.facts();
        let identity = self.mounts.identity.as_ref();
        self.configuration
            .place(&self.place, &config, &facts, identity)
            .await
    }

    /// Look after the running engine.
    pub(super) async fn tend(&mut self, role: Role) {
        let sight = self.monitor.sight.borrow().clone();
        let Sight::Up {
            at,
            vitals,
            settings_of,
            ..
        } = sight
        else {
            self.feel_hunger();
            return;
        };
        self.note_receiving(vitals.in_recovery && vitals.receiving);
        self.engine.answered(at);
        if self.fresh.is_some() && at > self.detached_since {
            match data::settle(&self.place) {
                Ok(()) => self.fresh = None,
                Err(error) => self.engine.last_error = Some(format!("the data volume: {error}")),
            }
        }
        let starts = self.engine.starts();
        let Some((config, _)) = self.mounts.config.clone() else {
            return;
        };
        if !vitals.in_recovery && role == Role::Primary {
            self.look_at_lag(starts, &vitals);
            self.refuse_writers();
        }
        self.reload(vitals.loaded_at, settings_of).await;
        self.feel_hunger();
        let follows = matches!(self.wanted(), Wanted::Follow(_));
        if follows && self.upstream.is_none() {
            self.monitor.look.notify_one();
        }
        // A former primary that starts in place still keeps log for its replicas.
        if vitals.in_recovery == (role == Role::Replica) && (role == Role::Primary || follows) {
            self.tend_role(starts, role, config);
        }
        if !vitals.in_recovery && role == Role::Primary {
            self.apply_group(starts, &vitals);
        }
    }

    /// See to it that every session waits for the group, and note since when.
    fn apply_group(&mut self, starts: u64, vitals: &sql::Vitals) {
        self.has_recovered(starts, vitals.position);
        let Wanted::Primary {
            group: Some(group), ..
        } = self.wanted()
        else {
            return;
        };
        let names = standby_names(Some(&group));
        match &self.in_force {
            Some((same, _)) if *same == names => return,
            // Back to it, it would be another time.
            Some(_) => {
                self.in_force = None;
                self.promoted_with = None;
            }
            None => {}
        }
        // Else the engine may have run with another group before.
        let promoted = self.promoted_with.as_ref();
        let first = promoted.is_some_and(|(start, with)| *start == starts && *with == names);
        let known = observe::is_in_force(vitals, &group, first);
        if known && !names.is_empty() && self.nobody_waits {
            // Whether sessions wait at all is told to them by the process that makes checkpoints, when
            // it has read the configuration: it has before the next one.
            if self.asking.is_none() {
                let place = Arc::clone(&self.place);
                self.asking_checkpoint = true;
                self.asking = Some(Box::pin(async move {
                    sql::checkpoint(&place).await.map_err(|e| e.to_string())
                }));
            }
            return;
        }
        if known {
            self.nobody_waits = names.is_empty();
            self.in_force = Some((names, vitals.position));
        } else if first && loaded_within(vitals, RELOAD) {
            // Its senders are about to load it, too.
            self.monitor.look.notify_one();
        } else if vitals.standby_names == names && self.asking.is_none() {
            // Loaded, and some process that sends to a replica may still know the one before.
            let (place, at) = (Arc::clone(&self.place), vitals.loaded_at);
            self.asking = Some(Box::pin(async move {
                sql::renew_senders(&place, at)
                    .await
                    .map_err(|e| e.to_string())
            }));
        }
    }

    /// Promote, on the timeline that was claimed, with commits that wait for the group.
    pub(super) async fn promote(&mut self) {
        let Wanted::Primary {
            timeline, group, ..
        } = self.wanted()
        else {
            return;
        };
        let sight = self.monitor.sight.borrow().clone();
        let Sight::Up {
            vitals,
            settings_of,
            ..
        } = sight
        else {
            return;
        };
        self.reload(vitals.loaded_at, settings_of).await;
        let this = (self.engine.starts(), timeline);
        if self.promoting == Some(this) {
            return;
        }
        // A load that is on its way is not waited for: until then commits wait for nobody who is there, which
        // acknowledges nothing, and the group counts as in force only when it is loaded.
        let names = standby_names(group.as_ref());
        let loaded = &vitals.standby_names;
        let ready =
            *loaded == names || (*loaded == standby_names(None) && self.configuration.is_loading());
        if !ready || self.asking.is_some() {
            self.monitor.look.notify_one();
            return;
        }
        let place = Arc::clone(&self.place);
        self.promoting = Some(this);
        self.promoted_with = Some((this.0, names));
        tracing::info!(timeline, "PostgreSQL is promoted");
        let monitor = self.monitor.clone();
        self.asking = Some(Box::pin(async move {
            data::reserve_timelines(&place, timeline).map_err(|e| format!("history files: {e}"))?;
            monitor.promote().await.map_err(|e| e.to_string())
        }));
    }

    pub(super) fn asked(&mut self, done: Result<(), String>) {
        self.asking = None;
        if std::mem::take(&mut self.asking_checkpoint) && done.is_ok() {
            self.nobody_waits = false;
        }
        if let Err(why) = done {
            tracing::warn!(%why, "asked of PostgreSQL");
            self.promoting = None;
            self.engine.last_error = Some(why);
        }
        self.monitor.look.notify_one();
    }

    /// Have the newest configuration loaded. `loaded_at` and `settings_of` are of the last look.
    pub(super) async fn reload(&mut self, loaded_at: f64, settings_of: f64) {
        // A refusal is told by the configuration itself.
        if let Ok(true) = self.configure().await {
            let told = Command::Signal(EngineSignal::Hangup);
            if self.engine.init().send(told).await.is_ok() {
                tracing::info!("PostgreSQL is told to read its configuration");
                self.configuration.told(loaded_at);
                self.monitor.look.notify_one();
            }
        }
        self.configuration.seen(loaded_at, settings_of);
    }

    fn tend_role(&mut self, starts: u64, role: Role, config: PostgresConfig) {
        let Some(roles) = self.mounts.roles.clone() else {
            return;
        };
        let pooled = config.engine.pooler.is_some();
        let now = boottime();
        let due = match &self.tended {
            None => true,
            Some(t) => {
                let pause = match (t.ok, t.slots) {
                    (false, _) => pauses::MIN,
                    (true, false) => CONNECT,
                    (true, true) => TEND,
                };
                t.start != starts
                    || t.role != role
                    || (t.ok
                        && (t.roles != roles || t.members != config.members || t.pooled != pooled))
                    || now.saturating_sub(t.at) > pause
            }
        };
        if !due || self.tending.is_some() {
            return;
        }
        let ok = self
            .tended
            .as_ref()
            .is_some_and(|t| t.ok && t.start == starts && t.role == role);
        self.tended = Some(Tended {
            start: starts,
            role,
            roles: roles.clone(),
            members: config.members.clone(),
            pooled,
            at: now,
            ok,
            slots: ok,
        });
        let slots = if ok { Slots::Keeping } else { Slots::Ready };
        let first_pass = !ok;
        let place = Arc::clone(&self.place);
        self.tending = Some(Box::pin(async move {
            let done = match role {
                Role::Primary => {
                    if first_pass && config.engine.major < 16 {
                        // Before that checkpoint pg_rewind takes the timeline of before for this one.
                        let made = timeout(pauses::MAX, sql::checkpoint(&place)).await;
                        tracing::debug!(made = made.is_ok(), "checkpoint after the promotion");
                    }
                    sql::tend(&place, &config, &roles, slots).await
                }
                Role::Replica => {
                    let done = sql::tend_replica(&place, &config).await;
                    done.map(|()| Vec::new())
                }
            };
            done.map_err(|e| e.to_string())
        }));
    }

    pub(super) fn tending_done(&mut self, done: Result<Vec<Weakened>, String>) {
        self.tending = None;
        let Some(tended) = &mut self.tended else {
            return;
        };
        match done {
            Ok(weakened) => {
                tended.ok = true;
                self.weakened = weakened;
                self.engine.last_error = None;
            }
            Err(why) => {
                tracing::warn!(%why, "roles, database and slots");
                tended.at = boottime();
                self.engine.last_error = Some(why);
            }
        }
    }
}
