//! What is said about a set: values in, a status out. Nothing here reads a clock or an object.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mainstay_crds::common::{
    Acknowledged, CertificateStatus, Durability, Endpoints, Enforcement, InstanceRole,
    InstanceStatus, Outlives, RecoveryStatus, SecretRef, Survives, WaitingFor, Weakened,
};

use super::engine::Answer;
use crate::agent::api;
use crate::backups::drill;
use crate::conditions::{self, Progress, State, reasons};
use crate::events::Happening;
use crate::instances::plan::{Trouble, TroubleKind};
use crate::instances::{Instance, Known};
use crate::metadata::whole;
use crate::names;
use crate::outcome::Wait;
use crate::placement::{Promise, Running, outlives};
use crate::rollout::Candidate;

/// A pod that does not start is a person's matter only when it lasts: images take time to arrive,
/// and volumes to be provided.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// Most entries of lists that grow with trouble.
const MOST: usize = 16;

/// Something that keeps a pass from doing what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// See [`reasons`].
    pub reason: &'static str,
    /// A sentence that says what to do.
    pub message: String,
    /// Whether trying again does not help until a person acts.
    pub stalled: bool,
}

/// Backups as they were found.
#[derive(Clone, Copy, Debug)]
pub enum Backups<'a> {
    /// They were not looked at: what was said stands.
    NotSeen,
    /// None are asked for.
    NotAsked,
    /// They were.
    Seen {
        /// What can be recovered.
        recovery: &'a RecoveryStatus,
        /// The condition `BackupHealthy`.
        healthy: (State, &'static str, &'a str),
        /// The condition `RecoveryProven`; none where no drills are asked for.
        proven: Option<(State, &'static str, &'a str)>,
    },
}

/// What the status of every add-on says, whatever its engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetStatus {
    /// Generation of the spec that it speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions: see [`conditions`].
    pub conditions: Vec<Condition>,
    /// Where clients connect.
    pub endpoints: Option<Endpoints>,
    /// The Secret that an application mounts to connect.
    pub secret_ref: Option<SecretRef>,
    /// Full version that the primary runs.
    pub version: Option<String>,
    /// Image in use.
    pub image: Option<String>,
    /// Name of the primary instance.
    pub primary: Option<String>,
    /// Ready instances and wanted ones, for example `3/3`.
    pub ready: Option<String>,
    /// Identifier of its data. A set that has one is never initialised again.
    pub system_identifier: Option<String>,
    /// What an acknowledged write survives right now, as configured in the running primary.
    pub durability: Option<Durability>,
    /// What becomes of a write that is acknowledged now.
    pub acknowledged: Option<Acknowledged>,
    /// Where what is acknowledged is worth less than `durability` says.
    pub weakened: Vec<Weakened>,
    /// Each instance.
    pub instances: Vec<InstanceStatus>,
    /// What can be lost right now with the set going on.
    pub survives: Option<Survives>,
    /// What can be recovered, where there are backups.
    pub recovery: Option<RecoveryStatus>,
    /// Certificates as served.
    pub certificates: Vec<CertificateStatus>,
    /// Changes that are asked for and not made yet, in words.
    pub pending_changes: Vec<String>,
    /// What waits, and for what.
    pub waiting_for: Vec<WaitingFor>,
    /// The first of them in a few words.
    pub waiting: Option<String>,
}

/// Everything that a status is made of.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct View<'a> {
    /// Name of the set.
    pub set: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Port on which clients reach the engine.
    pub port: u16,
    /// What is done about what is acknowledged for less: see [`super::engine::Engine::STRENGTHEN`].
    pub strengthen: &'a str,
    /// Generation of the spec that this pass worked on.
    pub generation: i64,
    /// The status before.
    pub before: &'a SetStatus,
    /// Now.
    pub now: Timestamp,
    /// Whether the resource is being deleted.
    pub deleting: bool,
    /// Whether the user has stopped all changes.
    pub paused: bool,
    /// Names of the members.
    pub members: &'a [String],
    /// All instances that are seen.
    pub instances: &'a [Instance],
    /// Name of the instance that may be primary.
    pub seat: &'a str,
    /// Several instances take writes, and none is the primary: `seat` is any of them.
    pub self_led: bool,
    /// Identifier of the set's data.
    pub system_identifier: Option<&'a str>,
    /// Image in use.
    pub image: Option<&'a str>,
    /// What the probe through the Service found; none before the first.
    pub probe: Option<&'a Known<Answer>>,
    /// Where a quorum is asked for: what happens while it is not to be had.
    pub enforcement: Option<Enforcement>,
    /// Certificates as served.
    pub certificates: Vec<CertificateStatus>,
    /// How long a certificate lives, in hours.
    pub certificate_hours: i64,
    /// What can be lost.
    pub survives: Survives,
    /// What becomes of a write; none while the primary does not say.
    pub acknowledged: Option<Acknowledged>,
    /// What was chosen to be disturbed in this pass.
    pub chosen: Option<&'a Candidate>,
    /// What waits, in the order of the steps.
    pub waits: &'a [&'a Wait],
    /// Changes that are asked for and not made yet, in words.
    pub pending: Vec<String>,
    /// Its backups.
    pub backups: Backups<'a>,
    /// Whether this pass changed anything, or what was begun goes on.
    pub working: bool,
    /// What is wrong with instances.
    pub troubles: &'a [Trouble],
    /// What kept the pass from doing what it should, the most important first.
    pub obstacles: &'a [Obstacle],
}

impl View<'_> {
    fn member(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name)
    }

    fn serving(&self) -> usize {
        let serves = |name: &&String| self.member(name).is_some_and(Instance::serves);
        self.members.iter().filter(serves).count()
    }
}

/// The status of a set.
///
/// Guarantee: the same view gives the same bytes, and nothing in it moves while a set is settled,
/// so it is written only when something happened.
pub fn status(view: &View<'_>) -> SetStatus {
    let seat = view.member(view.seat).and_then(Instance::agent);
    let waiting_for = waiting_for(view);
    let mut status = SetStatus {
        observed_generation: Some(view.generation),
        conditions: view.before.conditions.clone(),
        endpoints: Some(endpoints(view)),
        secret_ref: Some(SecretRef {
            name: names::application_secret(view.set),
        }),
        version: version(view, seat),
        image: view.image.map(str::to_owned),
        primary: seat
            .filter(|s| s.role == InstanceRole::Primary && !view.self_led)
            .map(|s| s.instance.clone()),
        ready: Some(format!("{}/{}", view.serving(), view.members.len())),
        system_identifier: view
            .system_identifier
            .map(str::to_owned)
            .or_else(|| view.before.system_identifier.clone()),
        durability: seat.and_then(|s| s.synchronous).map(|waits| {
            if waits {
                Durability::Quorum
            } else {
                Durability::Async
            }
        }),
        acknowledged: view.acknowledged.clone(),
        weakened: weakened(seat),
        instances: view
            .instances
            .iter()
            .filter_map(|i| instance(view, i))
            .collect(),
        survives: Some(view.survives.clone()),
        recovery: recovery(view),
        certificates: view.certificates.clone(),
        pending_changes: view.pending.iter().take(MOST).cloned().collect(),
        waiting: waiting_for
            .first()
            .map(|w| format!("{}: {}", w.step, w.reason)),
        waiting_for,
    };
    status.instances.sort_by(|a, b| a.name.cmp(&b.name));
    set_conditions(view, &mut status);
    status
}

/// What can be recovered; while that is not looked at, as it was.
fn recovery(view: &View<'_>) -> Option<RecoveryStatus> {
    match view.backups {
        Backups::Seen { recovery, .. } => Some(recovery.clone()),
        Backups::NotAsked => None,
        Backups::NotSeen => view.before.recovery.clone(),
    }
}

fn endpoints(view: &View<'_>) -> Endpoints {
    let address = |service: String| format!("{service}.{}.svc:{}", view.namespace, view.port);
    Endpoints {
        primary: address(names::primary_service(view.set)),
        replicas: (view.members.len() > 1 && !view.self_led)
            .then(|| address(names::replica_service(view.set))),
    }
}

fn version(view: &View<'_>, seat: Option<&api::Status>) -> Option<String> {
    let probed = view
        .probe
        .and_then(Known::known)
        .map(|answer| answer.version.clone());
    probed
        .or_else(|| seat.and_then(|s| s.engine_version.clone()))
        .or_else(|| view.before.version.clone())
}

fn instance(view: &View<'_>, i: &Instance) -> Option<InstanceStatus> {
    // A claim alone, of an instance that left, is no instance any more.
    let member = view.members.contains(&i.name);
    if i.pod.is_none() && !member {
        return None;
    }
    let pod = i.pod.as_ref();
    let agent = i.agent();
    Some(InstanceStatus {
        name: i.name.clone(),
        node: pod.and_then(|p| p.node.clone()),
        zone: pod.and_then(|p| p.zone.clone()),
        role: agent.map_or(InstanceRole::Unknown, |s| s.role),
        ready: i.serves(),
        state: i.unwell().map(|words| shorten(&words)),
        lag_mi_b: agent
            .filter(|s| s.role == InstanceRole::Replica)
            .and_then(|s| s.lag_bytes)
            .and_then(|bytes| i64::try_from(bytes >> 20).ok()),
        version: agent.and_then(|s| s.engine_version.clone()),
        revision: pod.and_then(|p| p.revision.clone()),
        agent: agent.and_then(|s| Some(s.program.as_ref()?.sha256.get(..12)?.to_owned())),
    })
}

fn weakened(seat: Option<&api::Status>) -> Vec<Weakened> {
    let told = seat.map_or(&[][..], |s| &s.weakened);
    let all = told.iter().take(MOST).cloned();
    all.map(|w| Weakened {
        role: w.role,
        database: w.database,
        setting: w.setting,
        value: shorten(&w.value),
    })
    .collect()
}

/// Whose commits wait for less, in words.
fn whose(weakened: &Weakened) -> String {
    let whose = match (&weakened.role, &weakened.database) {
        (Some(role), Some(database)) => format!("Role {role} in database {database}"),
        (Some(role), None) => format!("Role {role}"),
        (None, Some(database)) => format!("Database {database}"),
        (None, None) => "Every role".to_owned(),
    };
    format!("{whose} has {} = {}", weakened.setting, weakened.value)
}

/// Members that are not there yet, or do not serve yet.
pub fn starting(members: &[String], instances: &[Instance]) -> Vec<Wait> {
    let wait = |name: &String| {
        let reason = match instances.iter().find(|i| i.name == *name) {
            None => format!("{name} is not there yet"),
            Some(instance) => instance.unwell()?,
        };
        Some(Wait {
            step: format!("start {name}"),
            predicate: "wait_until_it_serves",
            reason,
            after: None,
        })
    };
    members.iter().filter_map(wait).collect()
}

/// Commits do not wait for replicas yet, though they shall.
pub fn alone(seat: &Instance) -> Option<Wait> {
    let status = seat.agent().filter(|s| s.synchronous == Some(false))?;
    Some(Wait {
        step: "keep durability quorum".to_owned(),
        predicate: "wait_until_commits_wait",
        reason: format!("{} does not wait for its replicas yet", status.instance),
        after: None,
    })
}

/// Too few of those stream for whom commits wait: writes wait as well.
pub fn unacknowledged(seat: &Instance) -> Option<Wait> {
    let status = seat.agent()?;
    let now = status.acknowledging.as_ref()?;
    let there = |name: &&String| status.streaming.contains(name);
    let have = now.of.iter().filter(there).count();
    let needed = usize::try_from(now.needed).unwrap_or(usize::MAX);
    (have < needed).then(|| Wait {
        step: "acknowledge writes".to_owned(),
        predicate: "wait_until_enough_replicas_acknowledge",
        reason: format!(
            "{needed} of {} must have a write before it is acknowledged, and {have} of them stream",
            now.of.join(", ")
        ),
        after: None,
    })
}

/// Commits wait for a replica though they need not else, since all replicas lack too much.
pub fn throttled(seat: &Instance) -> Option<Wait> {
    let status = seat.agent().filter(|s| s.throttling == Some(true))?;
    Some(Wait {
        step: "acknowledge writes at once".to_owned(),
        predicate: "wait_until_a_replica_lacks_less",
        reason: format!(
            "every replica lacks much of what {} has written, and no more than async.maxLagBytes may be lost",
            status.instance
        ),
        after: None,
    })
}

/// Writes are refused, since log that is not stored has nearly filled the volume.
pub fn refusing(seat: &Instance) -> Option<Wait> {
    let why = seat.agent()?.refuses_writes.as_ref()?;
    Some(Wait {
        step: "take writes".to_owned(),
        predicate: "wait_until_the_log_is_stored",
        reason: format!("{}: {why}", seat.name),
        after: None,
    })
}

/// Commits wait for replicas, but not for one in another zone, though they shall and there is one.
pub fn near(seat: &Instance, running: &[Running], promise: Promise<'_>) -> Option<Wait> {
    let now = promise.now.filter(|now| now.needed > 0)?;
    let zones: BTreeSet<&String> = running.iter().filter_map(|r| r.zone.as_ref()).collect();
    let asked = promise.across_zones && zones.len() > 1;
    (asked && outlives(running, promise) != Outlives::Zone).then(|| Wait {
        step: "keep writes in two zones".to_owned(),
        predicate: "wait_for_a_replica_in_another_zone",
        reason: format!(
            "{} waits for {} of {}, which need not be in another zone",
            seat.name,
            now.needed,
            now.of.join(", ")
        ),
        after: None,
    })
}

fn waiting_for(view: &View<'_>) -> Vec<WaitingFor> {
    let entry = |wait: &&Wait| {
        let same = |w: &&WaitingFor| w.step == wait.step && w.predicate == wait.predicate;
        let before = view.before.waiting_for.iter().find(same);
        WaitingFor {
            step: wait.step.clone(),
            predicate: wait.predicate.to_owned(),
            reason: shorten(&wait.reason),
            since: before.map_or_else(|| whole(view.now), |w| w.since.clone()),
        }
    };
    view.waits.iter().take(MOST).map(entry).collect()
}

/// Sentences of others have no bound; ours in a status do.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 512;
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let cut = text
        .char_indices()
        .map(|(i, _)| i)
        .take_while(|i| *i <= LONGEST)
        .last();
    format!("{}…", &text[..cut.unwrap_or_default()])
}

fn set_conditions(view: &View<'_>, status: &mut SetStatus) {
    let mut set = |kind: &str, (state, reason, message): (State, &str, String)| {
        conditions::set(
            &mut status.conditions,
            kind,
            state,
            reason,
            &shorten(&message),
            view.generation,
            view.now,
        );
    };
    let ready = ready(view);
    let serves = ready.0 == State::True;
    set(conditions::READY, ready);
    set(conditions::DEGRADED, degraded(view, serves));
    set(conditions::STORAGE_HEALTHY, storage(view));
    set(conditions::CERTIFICATES_VALID, certificates(view));
    match view.backups {
        Backups::Seen {
            healthy, proven, ..
        } => {
            let (state, reason, message) = healthy;
            set(
                conditions::BACKUP_HEALTHY,
                (state, reason, message.to_owned()),
            );
            match proven {
                Some((state, reason, message)) => set(
                    conditions::RECOVERY_PROVEN,
                    (state, reason, message.to_owned()),
                ),
                None => status
                    .conditions
                    .retain(|c| c.type_ != conditions::RECOVERY_PROVEN),
            }
        }
        Backups::NotAsked => status.conditions.retain(|c| {
            ![conditions::BACKUP_HEALTHY, conditions::RECOVERY_PROVEN].contains(&c.type_.as_str())
        }),
        Backups::NotSeen => {}
    }
    let stuck = stalled(view);
    let waiting = status.waiting.clone();
    let going = reconciling(view, serves, waiting.as_deref());
    let progress = match (&stuck, &going) {
        (Some((reason, message)), _) => Progress::Stalled { reason, message },
        (None, Some((reason, message))) => Progress::Reconciling { reason, message },
        (None, None) => Progress::Settled,
    };
    conditions::set_progress(&mut status.conditions, &progress, view.generation, view.now);
}

fn ready(view: &View<'_>) -> (State, &'static str, String) {
    if view.deleting {
        return (
            State::False,
            reasons::DELETING,
            "It is being deleted.".to_owned(),
        );
    }
    let unwell = match view.member(view.seat) {
        None => Some(format!("{} is not there yet", view.seat)),
        Some(instance) => instance.unwell(),
    };
    // The probe's commit says nothing of it: what it writes is no data.
    if let Some(wait) = view.member(view.seat).and_then(refusing) {
        return (State::False, reasons::WRITES_REFUSED, wait.reason);
    }
    match (view.probe, unwell) {
        (Some(Known::Known(_)), None) => {
            let words = if view.self_led {
                "A write to each part of the data was confirmed."
            } else {
                "A commit through the primary's Service was confirmed."
            };
            (State::True, reasons::SERVING, words.to_owned())
        }
        (_, Some(why)) if view.system_identifier.is_none() && !view.self_led => {
            (State::False, reasons::CREATING, why)
        }
        (_, Some(why)) => (State::False, reasons::NOT_SERVING, why),
        (Some(Known::Unreachable(why)), None) => (State::False, reasons::NOT_SERVING, why.clone()),
        (None, None) => (
            State::Unknown,
            reasons::UNKNOWN,
            "The primary's Service has not been tried yet.".to_owned(),
        ),
    }
}

fn degraded(view: &View<'_>, serves: bool) -> (State, &'static str, String) {
    let (serving, wanted) = (view.serving(), view.members.len());
    let seat = view.member(view.seat).filter(|i| i.serves());
    if seat.and_then(alone).is_some() && view.enforcement == Some(Enforcement::Preferred) {
        let message = "Too few replicas can acknowledge, and the quorum is only preferred: what is written now is \
                       lost if the primary is lost before one of them is back.";
        return (
            State::True,
            reasons::DURABILITY_SUSPENDED,
            message.to_owned(),
        );
    }
    if serves && serving < wanted {
        let message = format!("{serving} of {wanted} instances serve.");
        return (State::True, reasons::INSTANCES_MISSING, message);
    }
    let told = weakened(view.member(view.seat).and_then(Instance::agent));
    if let Some(first) = told.first() {
        let more = match told.len() {
            1 => String::new(),
            n => format!(", and {} more (status.weakened)", n - 1),
        };
        let message = format!(
            "{}{more}: what is acknowledged there may be lost with the primary. {}.",
            whose(first),
            view.strengthen
        );
        return (State::True, reasons::ACKNOWLEDGEMENT_WEAKENED, message);
    }
    (State::False, reasons::ALL_READY, String::new())
}

fn storage(view: &View<'_>) -> (State, &'static str, String) {
    let mut unknown = false;
    for instance in view.instances {
        let Some(volume) = instance
            .agent()
            .and_then(|s| s.volume)
            .filter(|v| v.size > 0)
        else {
            unknown = true;
            continue;
        };
        if volume.free.saturating_mul(10) < volume.size {
            let message = format!(
                "Less than a tenth of the volume of {} is free: raise storage.size.",
                instance.name
            );
            return (State::False, reasons::VOLUME_FULL, message);
        }
    }
    if let Some(trouble) = view.troubles.iter().find(|t| t.kind == TroubleKind::Resize) {
        return (State::False, reasons::NO_VOLUME, trouble.sentence.clone());
    }
    if unknown || view.instances.is_empty() {
        let message = "Not every instance tells how full its volume is.".to_owned();
        return (State::Unknown, reasons::UNKNOWN, message);
    }
    (State::True, reasons::VOLUMES_OK, String::new())
}

fn certificates(view: &View<'_>) -> (State, &'static str, String) {
    // It is renewed when a third of its life is left: at a sixth, something is in the way.
    let margin = SignedDuration::from_mins(view.certificate_hours.saturating_mul(10));
    let soon = view.now.checked_add(margin).unwrap_or(view.now);
    if let Some(late) = view.certificates.iter().find(|c| c.not_after.0 < soon) {
        let message = format!(
            "The certificate that {} serves ends at {} and was not renewed in time.",
            late.name, late.not_after.0
        );
        return (State::False, reasons::CERTIFICATE_EXPIRING, message);
    }
    if view.certificates.len() < view.members.len() {
        let message = "Not every instance's certificate has been seen yet.".to_owned();
        return (State::Unknown, reasons::UNKNOWN, message);
    }
    (State::True, reasons::CERTIFICATES_OK, String::new())
}

fn stalled(view: &View<'_>) -> Option<(&'static str, String)> {
    if view.deleting {
        return None;
    }
    if let Some(obstacle) = view.obstacles.iter().find(|o| o.stalled) {
        return Some((obstacle.reason, obstacle.message.clone()));
    }
    let trouble = view.troubles.iter().find(|t| is_stuck(t, view.now))?;
    let reason = match trouble.kind {
        TroubleKind::PrimaryVolumeLost
        | TroubleKind::PrimaryVolumeLeaving
        | TroubleKind::Resize => reasons::NO_VOLUME,
        TroubleKind::Unschedulable => reasons::UNSCHEDULABLE,
        TroubleKind::NotStarting | TroubleKind::Failed => reasons::FAILED,
        TroubleKind::AgentGivenUp => reasons::AGENT_GIVEN_UP,
    };
    Some((reason, trouble.sentence.clone()))
}

/// Whether a trouble is a person's matter by now.
pub fn is_stuck(trouble: &Trouble, now: Timestamp) -> bool {
    match trouble.kind {
        TroubleKind::Unschedulable | TroubleKind::NotStarting => trouble
            .since
            .is_some_and(|since| now.duration_since(since) >= STARTS_WITHIN),
        TroubleKind::Resize => false,
        _ => true,
    }
}

/// When a trouble that is not a person's matter yet becomes one.
pub fn stuck_at(trouble: &Trouble) -> Option<Timestamp> {
    let lasting = matches!(
        trouble.kind,
        TroubleKind::Unschedulable | TroubleKind::NotStarting
    );
    trouble
        .since
        .filter(|_| lasting)?
        .checked_add(STARTS_WITHIN)
        .ok()
}

fn reconciling(
    view: &View<'_>,
    serves: bool,
    waiting: Option<&str>,
) -> Option<(&'static str, String)> {
    if view.deleting {
        let hinders = view.obstacles.first().map(|o| o.message.as_str());
        let message = match hinders.or(waiting) {
            Some(why) => format!("It is being deleted, once that is done: {why}"),
            None => "It is being deleted.".to_owned(),
        };
        return Some((reasons::DELETING, message));
    }
    if view.paused {
        // What is asked for is not being worked on: that is what the annotation is for.
        return view.pending.first().map(|first| {
            let message = format!(
                "Changes are stopped by the annotation {}: paused. First pending: {first}",
                names::RECONCILE
            );
            (reasons::PAUSED, message)
        });
    }
    if let Some(obstacle) = view.obstacles.first() {
        return Some((obstacle.reason, obstacle.message.clone()));
    }
    if let Some(chosen) = view.chosen {
        return Some((
            reasons::PROGRESSING,
            format!("{}: {}", chosen.step(), chosen.why),
        ));
    }
    if let Some(waiting) = waiting {
        return Some((reasons::WAITING, waiting.to_owned()));
    }
    if let Some(first) = view.pending.first() {
        return Some((reasons::PROGRESSING, first.clone()));
    }
    if view.working || !serves {
        return Some((
            reasons::PROGRESSING,
            "What is asked for is being made.".to_owned(),
        ));
    }
    None
}

/// What is worth an event: transitions, never a state that lasts.
pub fn happenings(before: &SetStatus, now: &SetStatus) -> Vec<Happening> {
    let mut found = Vec::new();
    let mut tell = |warning, reason: &'static str, action, note: String| {
        found.push(Happening {
            warning,
            reason,
            action,
            note,
        });
    };
    let turned = |kind: &str| {
        let was = conditions::is_true(&before.conditions, kind);
        let is = conditions::is_true(&now.conditions, kind);
        let words = conditions::find(&now.conditions, kind).map(|c| c.message.clone());
        (was != is).then(|| (is, words.unwrap_or_default()))
    };
    match turned(conditions::READY) {
        Some((true, words)) => tell(false, "Ready", "Probe", words),
        Some((false, words)) => tell(true, "NotReady", "Probe", words),
        None => {}
    }
    match turned(conditions::STALLED) {
        Some((true, words)) => tell(true, "Stalled", "Reconcile", words),
        Some((false, _)) => tell(
            false,
            "Resumed",
            "Reconcile",
            "It goes on again.".to_owned(),
        ),
        None => {}
    }
    match turned(conditions::BACKUP_HEALTHY) {
        Some((true, words)) => tell(false, "BackupHealthy", "Backup", words),
        // One that is gone was not asked for any more.
        Some((false, words)) if !words.is_empty() => {
            tell(true, "BackupUnhealthy", "Backup", words);
        }
        _ => {}
    }
    let gap = |of: &SetStatus| {
        let condition = conditions::find(&of.conditions, conditions::BACKUP_HEALTHY)?;
        (condition.reason == reasons::ARCHIVE_GAP).then(|| condition.message.clone())
    };
    if let (None, Some(words)) = (gap(before), gap(now))
        && !conditions::is_true(&before.conditions, conditions::BACKUP_HEALTHY)
    {
        tell(true, reasons::ARCHIVE_GAP, "Backup", words);
    }
    let kept = |of: &SetStatus| of.recovery.as_ref().and_then(|r| r.kept.clone());
    if let (None, Some(words)) = (kept(before), kept(now)) {
        let recovery = now.recovery.as_ref();
        let none = recovery.is_none_or(|r| r.final_backup.is_none());
        tell(none, "LastBackup", "Delete", words);
    }
    let drills = |of: &SetStatus| of.recovery.clone().unwrap_or_default().drills;
    for h in drill::happenings(&drills(before), &drills(now)) {
        tell(h.warning, h.reason, h.action, h.note);
    }
    if let Some((true, words)) = turned(conditions::DEGRADED) {
        tell(true, "Degraded", "Observe", words);
    }
    let new = now.weakened.iter().filter(|w| !before.weakened.contains(w));
    for weakened in new {
        let note = format!("{}: its commits wait for less.", whose(weakened));
        tell(true, reasons::ACKNOWLEDGEMENT_WEAKENED, "Observe", note);
    }
    if let (Some(old), Some(new)) = (&before.primary, &now.primary)
        && old != new
    {
        tell(
            false,
            "PrimaryChanged",
            "Observe",
            format!("The primary is {new}, it was {old}."),
        );
    }
    found
}
