//! Drills: when one is due, what it recovers, what came of it, and whether recovery is proven. Values only.
//!
//! A drill is one ConfigMap and one pod of the same name, which its moment decides: so it is made once, by
//! whichever operator. The ConfigMap comes first, and has on it when the drill was due and what it recovers; then
//! that the pod was made. What came of it stands in the set's status before the pod is removed, and the
//! ConfigMap goes last: so an operator that starts anew goes on where the one before was.
//!
//! A moment that was missed is made up for once; a set that never had a drill has just missed its last moment.

mod condition;
pub mod demand;
mod judge;
pub mod pod;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_backup::api::{BackupEntry, OwnerState, Report};
use mainstay_crds::common::backup::drill::KEPT;
use mainstay_crds::common::backup::{DrillRecord, DrillResult, DrillTarget, RecoveryStatus};
use mainstay_crds::operation::Operation;
use sha2::{Digest, Sha256};

pub use self::condition::condition;
use self::judge::judge;
pub use self::judge::{PATIENCE, gone, refused};
use self::pod::PodSeen;
use super::cron::Cron;
use super::schedule::newest;
use super::words::whole;
use crate::events::Happening;
use crate::instances::{self, Instance};
use crate::metadata::SetId;
use crate::names;

/// Retention removes what is before the oldest backup that is needed, and that changes with each backup.
const EDGE: SignedDuration = SignedDuration::from_hours(24);
/// Kubernetes' word for a pod that no node has room for.
const UNSCHEDULABLE: &str = "Unschedulable";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// When drills are due.
    pub cron: &'a Cron,
    /// What they recover.
    pub target: DrillTarget,
    /// Whether the pod of one that failed stays until the next is due.
    pub keep: bool,
    /// Seconds that one may take.
    pub seconds: u32,
}

/// What can be recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// From here on every moment.
    earliest: Option<Timestamp>,
    /// To here.
    latest: Option<Timestamp>,
    /// Whether there is a log between backups. Without one what is recovered of a moment is the newest backup from
    /// before it.
    log: bool,
}

impl Ground {
    /// The first moment that can be recovered.
    pub fn earliest(self) -> Option<Timestamp> {
        self.earliest
    }

    /// The latest one.
    pub fn latest(self) -> Option<Timestamp> {
        self.latest
    }

    /// Up to which moment one can be drawn: without a log also one after the newest backup, for a loss then would cost what
    /// was written since.
    fn drawn(self, now: Timestamp) -> Self {
        if self.log {
            return self;
        }
        Self {
            latest: self.latest.map(|latest| latest.max(now)),
            ..self
        }
    }

    /// Without what retention may remove while a drill goes on that takes so many seconds.
    fn inside(self, seconds: u32) -> Self {
        let room = EDGE + SignedDuration::from_secs(seconds.into());
        let inner = self.earliest.and_then(|e| e.checked_add(room).ok());
        let fits = inner.is_some_and(|inner| self.latest.is_some_and(|latest| latest > inner));
        Self {
            earliest: if fits { inner } else { self.earliest },
            ..self
        }
    }
}

/// A drill that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drill {
    /// Name of its ConfigMap and pod.
    pub name: String,
    /// When it was due.
    pub due: Timestamp,
    /// The moment that it recovers; none: the latest.
    pub moment: Option<Timestamp>,
    /// Whether its ConfigMap is there.
    pub told: bool,
    /// When its pod was made, as the ConfigMap says.
    pub begun: Option<Timestamp>,
    /// Its pod.
    pub pod: Option<PodSeen>,
}

impl Setting<'_> {
    /// What is waited for while an instance is just being placed, or made anew: a drill would take its room.
    fn placing(&self) -> Option<String> {
        let moves = |pod: &instances::PodSeen| pod.node.is_none() || pod.deleting;
        let mut moving = self.instances.iter();
        let moving = moving.find(|i| i.pod.as_ref().is_some_and(moves))?;
        Some(format!("it waits until {} has its place", moving.name))
    }

    /// An instance for which no node has room, and what is said of it.
    fn crowded_out(&self) -> Option<(&str, &str)> {
        self.instances.iter().find_map(|instance| {
            let waiting = instance.pod.as_ref()?.waiting.as_ref()?;
            let crowded = waiting.reason == UNSCHEDULABLE;
            crowded.then_some((instance.name.as_str(), waiting.message.as_str()))
        })
    }
}

impl Drill {
    /// The moment that it is measured against.
    fn asked(&self) -> Option<Timestamp> {
        self.moment.or(self.begun)
    }
}

/// A set as it is, as far as its drills care.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// The set.
    pub set: &'a SetId,
    /// What is asked for; none: no drills.
    pub wish: Option<Wish<'a>>,
    /// Drills that are over, as the status has them.
    pub records: &'a [DrillRecord],
    /// Drills that were begun and are not removed.
    pub begun: &'a [Drill],
    /// What can be recovered, or why that is not known.
    pub ground: Result<Ground, &'a str>,
    /// Drills that somebody asks for, in their order.
    pub asked: &'a [Operation],
    /// The set's instances: what room there is is theirs first.
    pub instances: &'a [Instance],
    /// Whether the policy is there that keeps pods of drills apart.
    pub apart: bool,
    /// Whether nothing may be changed.
    pub paused: bool,
}

/// What is done next. One thing at a time: what it changes is news, and then the next is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the ConfigMap of a drill.
    Start(Start),
    /// Make the pod of this one.
    MakePod(Drill),
    /// Write down that the pod of this one was made.
    Note(String),
    /// Find out whether the pod of this one is gone, which the caches say and may be late to say.
    Look(Drill),
    /// Write down what came of one.
    Record(DrillRecord),
    /// Remove this one: its pod, and once that is gone its ConfigMap.
    Remove(String),
    /// Nothing: in a sentence how far it is, or what is waited for.
    Wait(String),
    /// Nothing.
    Rest,
}

impl Decision {
    /// In a sentence how far it is, or what is waited for.
    pub fn waits(&self) -> Option<String> {
        match self {
            Self::Wait(why) => Some(why.clone()),
            Self::Start(Start { name, .. })
            | Self::MakePod(Drill { name, .. })
            | Self::Look(Drill { name, .. })
            | Self::Note(name) => Some(format!("{name} {}", PodSeen::default().doing())),
            // On a node that does not answer that takes its time.
            Self::Remove(name) => Some(format!("{name} is over, and is removed")),
            Self::Record(_) | Self::Rest => None,
        }
    }
}

/// A drill that is to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// When it was due.
    pub due: Timestamp,
    /// The moment that it recovers; none: the latest.
    pub moment: Option<Timestamp>,
}

/// What a report says can be recovered.
///
/// # Errors
/// That is not known, or nothing can be: in a sentence what is waited for.
pub fn ground(report: Option<&Report>) -> Result<Ground, String> {
    let report = report.ok_or("it waits until the primary's backup container answers")?;
    if report.catalogue_at.is_none() || report.ownership.state != OwnerState::Ours {
        return Err("it waits until it is known what the repository holds".to_owned());
    }
    if newest(report).is_none() {
        return Err("it waits for the first backup".to_owned());
    }
    // From the last gap on: from the first backup that was begun after it.
    let mut earliest = report.earliest;
    for gap in &report.gaps {
        let place = |b: &BackupEntry| b.history.clone().zip(b.log_from.clone());
        let end = (gap.history.clone(), gap.before.clone());
        let whole = report.catalogue.iter().filter(|b| b.broken.is_none());
        let after = whole.filter(|b| place(b).is_some_and(|place| place >= end));
        let Some(first) = after.map(|b| b.consistent_at).min() else {
            return Err("it waits for a backup after the last gap of the log".to_owned());
        };
        earliest = earliest.map(|e| e.max(first));
    }
    Ok(Ground {
        earliest,
        latest: report.latest,
        log: report.catalogue.iter().any(|b| b.log_from.is_some()),
    })
}

/// What is done next.
///
/// Guarantees: a drill is begun only while no other is there; none is removed, while drills are asked for, before
/// the status has what came of it; of what the status has nothing is begun or written again.
pub fn decide(setting: &Setting<'_>) -> Decision {
    let mut begun: Vec<&Drill> = setting.begun.iter().collect();
    begun.sort_by_key(|d| (d.told, d.due));
    let first = begun.first();
    if setting.paused {
        return match (first, setting.wish) {
            (Some(drill), Some(_)) => {
                Decision::Wait(format!("{}: changes are stopped", drill.name))
            }
            _ => Decision::Rest,
        };
    }
    match (first, setting.wish) {
        (None, None) => Decision::Rest,
        // Nobody asks for it any more; or nobody could say what it was for.
        (Some(drill), None) => Decision::Remove(drill.name.clone()),
        (Some(drill), Some(_)) if !drill.told => Decision::Remove(drill.name.clone()),
        (Some(drill), Some(wish)) => go_on(drill, &wish, setting),
        (None, Some(wish)) => begin(&wish, setting),
    }
}

fn go_on(drill: &Drill, wish: &Wish<'_>, setting: &Setting<'_>) -> Decision {
    let over = setting.records.iter().find(|r| r.due.0 == drill.due);
    if let Some(record) = over {
        let next = wish.cron.last(setting.now);
        let there = drill.pod.as_ref().is_some_and(|p| !p.deleting);
        let failed = record.result == DrillResult::Failed;
        let wanted = next.is_some_and(|next| next > drill.due) || demand::first(setting).is_some();
        if wish.keep && failed && there && !wanted {
            return Decision::Wait(format!(
                "the pod {} of the drill that failed is kept until the next one is due, or until somebody deletes it",
                drill.name
            ));
        }
        return Decision::Remove(drill.name.clone());
    }
    match (&drill.pod, drill.begun) {
        (None, None) => match may_take_room(setting) {
            Ok(()) => Decision::MakePod(drill.clone()),
            Err(why) => Decision::Wait(format!("{}: {why}", drill.name)),
        },
        (None, Some(_)) => Decision::Look(drill.clone()),
        (Some(_), None) => Decision::Note(drill.name.clone()),
        (Some(pod), Some(begun)) => match judge(drill, pod, begun, wish.seconds, setting.now) {
            Some(record) => Decision::Record(record),
            None => match setting.crowded_out() {
                Some((who, why)) => {
                    Decision::Record(judge::gives_way(drill, who, why, setting.now))
                }
                None => Decision::Wait(format!("{} {}", drill.name, pod.doing())),
            },
        },
    }
}

/// Whether a pod may be made now: nothing runs that is not kept apart, and no instance looks for a place.
fn may_take_room(setting: &Setting<'_>) -> Result<(), String> {
    if !setting.apart {
        return Err("it waits for the network policy that keeps it apart".to_owned());
    }
    setting.placing().map_or(Ok(()), Err)
}

fn begin(wish: &Wish<'_>, setting: &Setting<'_>) -> Decision {
    let newest = setting.records.iter().map(|r| r.due.0).max();
    let due = wish.cron.last(setting.now);
    let due = due.filter(|due| newest.is_none_or(|newest| newest < *due));
    // What somebody waits for comes first.
    let Some(due) = demand::first(setting).or(due) else {
        return Decision::Rest;
    };
    let ground = match setting.ground {
        Ok(ground) => ground,
        Err(why) => return Decision::Wait(format!("a drill was due at {due}: {why}")),
    };
    if let Some(why) = setting.placing() {
        return Decision::Wait(format!("a drill was due at {due}: {why}"));
    }
    let moment = match wish.target {
        DrillTarget::Latest => None,
        DrillTarget::Random => {
            let ground = ground.drawn(setting.now).inside(wish.seconds);
            random(&setting.set.uid, due, ground)
        }
    };
    if wish.target == DrillTarget::Random && moment.is_none() {
        let why = "it waits until it is known which moments can be recovered";
        return Decision::Wait(format!("a drill was due at {due}: {why}"));
    }
    Decision::Start(Start {
        name: names::drill(&setting.set.name, due),
        due,
        moment,
    })
}

/// A moment of those that can be recovered: each is as likely, and the same drill has the same.
fn random(uid: &str, due: Timestamp, ground: Ground) -> Option<Timestamp> {
    let (earliest, latest) = (ground.earliest?, ground.latest?);
    if latest <= earliest {
        return None;
    }
    let digest = Sha256::digest(format!("{uid} {due}").as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    // In whole microseconds, which is as fine as databases keep times, and never before the first.
    let (from, to) = (earliest.as_microsecond() + 1, latest.as_microsecond());
    let span = u128::try_from(to.checked_sub(from)?).ok()?;
    let offset = (u128::from(u64::from_be_bytes(number)) * (span + 1)) >> 64;
    let moment = from.checked_add(i64::try_from(offset).ok()?)?;
    Timestamp::from_microsecond(moment).ok()
}

/// When the next one is due.
pub fn next(cron: &Cron, now: Timestamp) -> Option<Time> {
    cron.next(now).map(whole)
}

/// When to look again although nothing happens.
pub fn due(setting: &Setting<'_>) -> Option<Timestamp> {
    let asked = demand::wake(setting).filter(|t| *t > setting.now).min();
    let Some(wish) = setting.wish else {
        return asked;
    };
    let proven = condition::until(&wish, setting.records);
    let patience = setting.begun.iter().filter_map(|drill| {
        let pod = drill.pod.as_ref()?;
        judge::until(pod, drill.begun?, wish.seconds)
    });
    let times = [wish.cron.next(setting.now), proven];
    let times = times.into_iter().flatten().chain(patience).chain(asked);
    times.filter(|t| *t > setting.now).min()
}

/// Write down what came of one.
pub fn record(recovery: &mut RecoveryStatus, record: DrillRecord) {
    recovery.drills.retain(|known| known.due != record.due);
    recovery.drills.insert(0, record);
    recovery.drills.sort_by(|a, b| b.due.cmp(&a.due));
    recovery.drills.truncate(KEPT);
}

/// That one was begun.
pub fn started(start: &Start) -> Happening {
    let what = match start.moment {
        Some(moment) => format!("the moment {moment}"),
        None => "the latest moment".to_owned(),
    };
    Happening {
        warning: false,
        reason: "DrillStarted",
        action: "Drill",
        note: format!("{} recovers {what}.", start.name),
    }
}

/// What came of drills that a status before did not have.
pub fn happenings(before: &[DrillRecord], now: &[DrillRecord]) -> Vec<Happening> {
    let known = |due: &Time| before.iter().any(|b| b.due == *due);
    let new = now.iter().filter(|record| !known(&record.due));
    new.map(|record| {
        let (warning, reason) = match record.result {
            DrillResult::Passed => (false, "DrillPassed"),
            DrillResult::Failed => (true, "DrillFailed"),
            DrillResult::Skipped => (true, "DrillSkipped"),
        };
        Happening {
            warning,
            reason,
            action: "Drill",
            note: record.message.clone(),
        }
    })
    .collect()
}

/// A time between two, never negative.
fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<i64> {
    let span: SignedDuration = to?.duration_since(from?);
    Some(span.as_secs().max(0))
}

#[cfg(test)]
mod tests;
