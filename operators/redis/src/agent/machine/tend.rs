//! Looking after a running engine: directives, users, certificate, door, mark. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::config::{Role as Login, users_hash};
use mainstay_shared::agent::open::is_open;
use mainstay_shared::agent::past;
use mainstay_shared::agent::pauses;
use mainstay_shared::election::message::Wanted;
use mainstay_shared::pki::{CA_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY, facts};
use serde::{Deserialize, Serialize};

use super::super::decide::Role;
use super::super::mark::Mark;
use super::super::render::{self, SHUT};
use super::super::session::{Session, SessionError};
use super::{APPLIED, Machine};
use crate::settings::RedisSettings;

/// A mark of so many bytes ago is written anew: more than the mark itself takes.
const MARK_AFTER: u64 = 1024;
/// While clients are not let in, replicas are asked so long for what they have.
const ASK: Duration = Duration::from_millis(100);

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Applied {
    /// Hash of the configuration.
    pub(super) hash: String,
    directives: BTreeMap<String, String>,
    users: BTreeMap<String, String>,
    /// Check value of the password with which it logs in to its primary.
    replication: Option<String>,
    /// Certificate that is served.
    certificate: Option<String>,
    /// Its serial number.
    pub(super) serial: Option<String>,
    /// Directives that wait for a restart.
    pub(super) pending: Vec<String>,
}

/// What came of it: what is in force now, and what was refused.
#[derive(Debug)]
pub(super) struct Tended {
    start: u64,
    applied: Applied,
    refused: Option<String>,
    /// Time since boot when the engine had done it.
    at: Duration,
}

fn users(roles: &[Login]) -> BTreeMap<String, String> {
    roles
        .iter()
        .map(|r| (r.name.clone(), render::rules(r)))
        .collect()
}

impl Machine {
    /// What an engine is started with is in force.
    pub(super) fn started_with(
        &mut self,
        start: u64,
        settings: &RedisSettings,
        hash: String,
        roles: &[Login],
    ) {
        let certificate = self.mounts.identity.as_ref().map(|p| p.certificate.clone());
        let applied = Applied {
            hash,
            directives: render::directives(settings),
            users: users(roles),
            replication: self.replication().map(|p| render::check(&p)),
            serial: certificate
                .as_deref()
                .and_then(|c| Some(facts(c).ok()?.serial)),
            certificate,
            pending: Vec::new(),
        };
        self.applied = Some((start, applied));
        self.keep_applied();
    }

    /// Hash of the users that are mounted, once they are in force.
    pub(super) fn known_users(&self, applied: &Applied) -> Option<String> {
        let roles = self.mounts.roles.as_ref()?;
        users_hash(roles).filter(|_| applied.users == users(roles))
    }

    /// The password with which it logs in to its primary. It changes apart from the rest.
    fn replication(&self) -> Option<String> {
        self.place.replication_password().ok()
    }

    /// For the next process beside the same engine. It holds check values of passwords, and stays in memory.
    fn keep_applied(&self) {
        if let Err(error) = past::note(&self.place.run().join(APPLIED), &self.applied) {
            tracing::warn!(%error, "what is in force could not be kept in memory");
        }
    }

    /// Look after the running engine.
    #[allow(
        clippy::too_many_lines,
        reason = "what is to be set, and the setting of it"
    )]
    pub(super) fn tend(&mut self, role: Role) {
        let Some((at, vitals)) = self.vitals() else {
            return;
        };
        // It is told that again and again, and takes nothing.
        if self.is_busy() {
            return;
        }
        self.engine.answered(at);
        let starts = self.engine.starts();
        let (Some((config, hash)), Some(roles)) =
            (self.mounts.config.clone(), self.mounts.roles.clone())
        else {
            return;
        };
        let pausing = boottime() < self.tend_after;
        let busy = self.tending.is_some() || self.asking.is_some();
        let clustered = config.engine.clustered;
        if busy || pausing || (self.wanted() == Wanted::Unchanged && !clustered) {
            return;
        }
        let applied = match &self.applied {
            Some((start, applied)) if *start == starts => applied.clone(),
            // Of a process before that kept nothing: all is set anew.
            _ => Applied::default(),
        };
        let identity = self
            .mounts
            .identity
            .clone()
            .filter(|p| Some(&p.certificate) != applied.certificate.as_ref());
        let known = applied.replication.as_ref();
        let login = self
            .replication()
            .filter(|p| Some(&render::check(p)) != known);
        let changed = login.is_some()
            || applied.hash != hash
            || applied.users != users(&roles)
            || identity.is_some();
        let promoted = self.promoted().filter(|_| role == Role::Primary);
        let open_for = promoted.as_ref().filter(|_| vitals.min_replicas != SHUT);
        let open = promoted.is_some() && is_open(&self.wanted(), open_for);
        let door = if open || clustered {
            render::open(&config.engine)
        } else {
            SHUT
        };
        // A look from before the last time tells of what has been seen to since.
        let fresh = at > self.tended_at;
        let turned = fresh && vitals.min_replicas != door;
        let promoted = promoted.is_some();
        let mark = vitals.mark.clone().filter(|_| promoted);
        let mark = mark.map(|mark| Mark {
            replid: vitals.replid.clone(),
            offset: vitals.offset,
            ..mark
        });
        let moved = |mark: &Mark| {
            let before = vitals.mark.as_ref();
            vitals.mark_lost
                || before
                    .is_none_or(|b| b.replid != mark.replid || mark.offset > b.offset + MARK_AFTER)
        };
        // Whoever has come and not said yet what it has: the door may wait for that.
        let silent = |m: &Mark| {
            vitals
                .replicas
                .iter()
                .any(|r| r.online && r.offset < m.base)
        };
        let shut = promoted && !open && mark.as_ref().is_some_and(silent);
        let write = mark.filter(|m| fresh && (shut || moved(m)));
        if !changed && !turned && write.is_none() {
            return;
        }
        let (access, tls) = (self.access.clone(), self.place.tls());
        let (members, limits) = (config.members.len(), self.limits(door));
        let look = std::sync::Arc::clone(&self.monitor.look);
        self.tending = Some(Box::pin(async move {
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            if turned {
                let door = door.to_string();
                let set = session
                    .set(&[("min-replicas-to-write", door.as_str())])
                    .await;
                set.map_err(|e| e.to_string())?;
                look.notify_one();
            }
            let mut tended = Tended {
                start: starts,
                applied,
                refused: None,
                at: boottime(),
            };
            if changed {
                if let Some(password) = login {
                    let set = session.set(&[("masterauth", password.as_str())]).await;
                    set.map_err(|e| e.to_string())?;
                    tended.applied.replication = Some(render::check(&password));
                }
                if let Some(pair) = identity {
                    let file = |key: &str| tls.join(key).display().to_string();
                    let (certificate, key, ca) =
                        (file(CERTIFICATE_KEY), file(PRIVATE_KEY_KEY), file(CA_KEY));
                    let files = [
                        ("tls-cert-file", certificate.as_str()),
                        ("tls-key-file", key.as_str()),
                        ("tls-ca-cert-file", ca.as_str()),
                    ];
                    match session.set(&files).await {
                        Ok(()) => {
                            tended.applied.serial = facts(&pair.certificate).ok().map(|f| f.serial);
                            tended.applied.certificate = Some(pair.certificate);
                        }
                        Err(error) => tended.refused = Some(format!("the certificate: {error}")),
                    }
                }
                apply(
                    &mut session,
                    &mut tended,
                    &config.engine,
                    hash,
                    users(&roles),
                )
                .await;
            }
            if let Some(mark) = write {
                let written = if shut {
                    let ask = (members.saturating_sub(1), ASK);
                    session.write_and_ask(&mark, &limits, ask).await
                } else {
                    session.write(&mark, &limits).await
                };
                if let Err(error) = written {
                    tended.refused = Some(format!("the dataset's mark: {error}"));
                }
            }
            tended.at = boottime();
            if shut || turned {
                look.notify_one();
            }
            Ok(tended)
        }));
    }

    pub(super) fn tended(&mut self, done: Result<Tended, String>) {
        self.tending = None;
        if !matches!(&done, Ok(tended) if tended.refused.is_none()) {
            self.tend_after = boottime() + pauses::MIN;
        }
        match done {
            Ok(tended) => {
                self.tended_at = tended.at;
                self.engine.last_error.clone_from(&tended.refused);
                if let Some(why) = &tended.refused {
                    tracing::warn!(%why, "Redis refused");
                }
                let now = Some((tended.start, tended.applied));
                if now != self.applied {
                    self.applied = now;
                    self.keep_applied();
                }
            }
            Err(why) => {
                tracing::warn!(%why, "looking after Redis");
                self.engine.last_error = Some(why);
            }
        }
    }
}

/// Bring directives and users into force. What Redis takes only at a start waits for one; what it refuses is told.
async fn apply(
    session: &mut Session,
    tended: &mut Tended,
    settings: &RedisSettings,
    hash: String,
    users: BTreeMap<String, String>,
) {
    let wanted = render::directives(settings);
    let mut pending: BTreeSet<String> = tended.applied.pending.iter().cloned().collect();
    for (name, value) in &wanted {
        if tended.applied.directives.get(name) == Some(value) {
            pending.remove(name);
            continue;
        }
        match session.set(&[(name.as_str(), value.as_str())]).await {
            Ok(()) => {
                tended
                    .applied
                    .directives
                    .insert(name.clone(), value.clone());
                pending.remove(name);
            }
            Err(error) if waits_for_a_start(&error) => {
                pending.insert(name.clone());
            }
            Err(error) => tended.refused = Some(format!("{name} {value}: {error}")),
        }
    }
    // What is not set any more has Redis' own value again at the next start.
    let gone = tended
        .applied
        .directives
        .keys()
        .filter(|name| !wanted.contains_key(*name));
    pending.extend(gone.cloned());
    pending
        .retain(|name| wanted.contains_key(name) || tended.applied.directives.contains_key(name));
    tended.applied.pending = pending.into_iter().collect();
    let changed: Vec<_> = users
        .iter()
        .filter(|(name, rules)| tended.applied.users.get(*name) != Some(rules))
        .map(|(name, rules)| (name.clone(), rules.clone()))
        .collect();
    let before = tended.applied.users.keys();
    let gone: Vec<_> = before
        .filter(|name| !users.contains_key(*name))
        .cloned()
        .collect();
    match session.users(&changed, &gone).await {
        Ok(()) => {
            tended.applied.users = users;
            if tended.refused.is_none() {
                tended.applied.hash = hash;
            }
        }
        Err(error) => tended.refused = Some(format!("the users: {error}")),
    }
}

fn waits_for_a_start(error: &SessionError) -> bool {
    let text = error.to_string();
    text.contains("immutable") || text.contains("Unknown option")
}
