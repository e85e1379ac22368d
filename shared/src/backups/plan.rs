//! `Backup` objects of a set: which one is next, who is asked to make it, and what came of it. Values only.
//!
//! One is made at a time, in the order in which the objects were made. Who is asked, and under which
//! name, stands in the status before anybody is asked. What fails is tried again with growing pauses, by
//! whoever is best then, until its time is over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mainstay_backup::api::{BackupEntry, Order, Outcome, Running};
use mainstay_crds::backup::{Attempt, Backup, BackupPhase, BackupStatus};

use super::setting::{self, Ask, Member, Setting};
use super::words::{signed, size, whole};
use crate::conditions::{self, Progress, reasons};
use crate::events::Happening;

/// First and longest pause before it is tried again.
const PAUSE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(30), SignedDuration::from_mins(30));
/// Who does not answer for so long is given up.
const SILENCE: SignedDuration = SignedDuration::from_mins(5);
/// Progress is written in steps of so many percent.
const STEP: i64 = 5;

/// What is to be said of an object, and asked for it once that is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The object, as it was seen.
    pub backup: Backup,
    /// What is to be said of it; none: that stands already.
    pub status: Option<BackupStatus>,
    /// What is to be asked, if that stands.
    pub asks: Vec<Ask>,
}

/// The objects of a set in the order in which they are done.
pub fn ordered(mut backups: Vec<Backup>) -> Vec<Backup> {
    backups.sort_by_key(|b| (b.creation_timestamp().map(|t| t.0), b.name_any()));
    backups
}

/// How far an object is.
pub fn phase(backup: &Backup) -> BackupPhase {
    let status = backup.status.as_ref();
    status.and_then(|s| s.phase).unwrap_or_default()
}

/// Whether nothing more is done for it.
pub fn is_over(backup: &Backup) -> bool {
    phase(backup).is_over()
}

fn before(backup: &Backup) -> BackupStatus {
    backup.status.clone().unwrap_or_default()
}

/// What is to be said and asked. `backups` are [`ordered`].
///
/// Guarantees: of what is over nothing is said again; nobody is asked to make a backup of which the
/// status does not say so; at most one backup is asked for at a time.
pub fn steps(backups: &[Backup], setting: &Setting<'_>) -> Vec<Step> {
    let mut ahead: Option<String> = None;
    let mut all = Vec::new();
    for backup in backups.iter().filter(|b| !is_over(b)) {
        let verdict = match &ahead {
            Some(other) if !backup.spec.is_cancelled() && phase(backup) != BackupPhase::Running => {
                Verdict::of(
                    backup,
                    BackupPhase::Pending,
                    format!("backup {other} comes first"),
                )
            }
            _ => judge(backup, setting),
        };
        if !verdict.phase.is_over() && ahead.is_none() {
            ahead = Some(backup.name_any());
        }
        let asks = verdict.asks.clone();
        let status = status(backup, setting, verdict);
        let said = backup.status.as_ref() == Some(&status);
        if !said || !asks.is_empty() {
            all.push(Step {
                backup: backup.clone(),
                status: (!said).then_some(status),
                asks,
            });
        }
    }
    all
}

/// Who is to give up what nobody waits for: a backup for an object that is gone (deleting it gives it up),
/// is over, or has turned to somebody else.
pub fn strays(backups: &[Backup], setting: &Setting<'_>) -> Vec<Ask> {
    let stray = |member: &Member<'_>| {
        let order = &member.report.ok()?.running.as_ref()?.order;
        let waited_for = backups.iter().any(|b| match phase(b) {
            BackupPhase::Running => before(b).attempt.is_some_and(|a| a.order == *order),
            // It has just been sealed.
            BackupPhase::Succeeded => setting::is_of(order, b),
            _ => false,
        });
        (!waited_for).then(|| cancel(*member, order))
    };
    setting.members.iter().filter_map(stray).collect()
}

/// What is to be said of objects whose target is not there, and is not said yet: they wait until it is,
/// and their time does not begin before.
pub fn without_target(backups: &[Backup], now: Timestamp) -> Vec<Step> {
    let mut all = Vec::new();
    for backup in backups.iter().filter(|b| !is_over(b)) {
        let target = &backup.spec.target;
        let verdict = if backup.spec.is_cancelled() {
            Verdict::of(backup, BackupPhase::Cancelled, "it was cancelled".into())
        } else {
            let message = format!(
                "there is no {} called {} in this namespace: it waits until there is one",
                target.kind, target.name
            );
            Verdict::of(backup, BackupPhase::Pending, message)
        };
        let status = written(backup, now, verdict, false);
        if backup.status.as_ref() != Some(&status) {
            all.push(Step {
                backup: backup.clone(),
                status: Some(status),
                asks: Vec::new(),
            });
        }
    }
    all
}

/// When to look again although nothing happens.
pub fn due(backups: &[Backup], setting: &Setting<'_>) -> Option<Timestamp> {
    let waiting = backups.iter().filter(|b| !is_over(b) && setting.wanted());
    let times = waiting.flat_map(|backup| {
        let status = before(backup);
        let silent = status.attempt.and_then(|a| a.silent_since);
        [
            status.next_attempt_at.map(|t| t.0),
            silent.map(|t| t.0 + SILENCE),
            Some(deadline(backup, setting.now)),
        ]
    });
    times.flatten().filter(|t| *t > setting.now).min()
}

/// What happened to a backup, for an event.
pub fn happening(step: &Step) -> Option<Happening> {
    let status = step.status.as_ref()?;
    let (was, is) = (phase(&step.backup), status.phase.unwrap_or_default());
    let again = was == BackupPhase::Running && is == BackupPhase::Pending;
    if was == is {
        return None;
    }
    let reason = match is {
        BackupPhase::Pending if again => "AttemptFailed",
        BackupPhase::Pending => return None,
        BackupPhase::Running => "Started",
        BackupPhase::Succeeded => "Succeeded",
        BackupPhase::Failed => "Failed",
        BackupPhase::Cancelled => "Cancelled",
        BackupPhase::Expired => "Expired",
    };
    Some(Happening {
        warning: again || is == BackupPhase::Failed,
        reason,
        action: "Backup",
        note: status.message.clone().unwrap_or_default(),
    })
}

/// What an object comes to.
#[derive(Clone, Debug)]
struct Verdict {
    phase: BackupPhase,
    message: String,
    attempts: Option<i32>,
    next: Option<Time>,
    attempt: Option<Attempt>,
    running: Option<Running>,
    made: Option<BackupEntry>,
    asks: Vec<Ask>,
}

impl Verdict {
    /// With everything else as it was.
    fn of(backup: &Backup, phase: BackupPhase, message: String) -> Self {
        let before = before(backup);
        Self {
            phase,
            message,
            attempts: before.attempts,
            next: before.next_attempt_at,
            attempt: before.attempt,
            running: None,
            made: None,
            asks: Vec::new(),
        }
    }

    fn asking(mut self, ask: Option<Ask>) -> Self {
        self.asks.extend(ask);
        self
    }
}

/// Until when it may take.
fn deadline(backup: &Backup, now: Timestamp) -> Timestamp {
    let seen = backup.status.as_ref().and_then(|s| s.started_at.as_ref());
    let seconds = SignedDuration::from_secs(backup.spec.timeout_seconds().into());
    let begun = seen.map_or(now, |t| t.0);
    begun.checked_add(seconds).unwrap_or(Timestamp::MAX)
}

/// What the container that was asked does.
enum Answer<'a> {
    /// Its pod is not there any more.
    Gone,
    /// It does not answer.
    Silent,
    /// It is done with it.
    Ended(&'a Outcome),
    /// It makes it.
    Makes(&'a Running),
    /// It makes another one.
    Busy,
    /// It makes none.
    Idle,
}

fn answer<'a>(member: Option<Member<'a>>, order: &str) -> Answer<'a> {
    let Some(member) = member else {
        return Answer::Gone;
    };
    let Ok(report) = member.report else {
        return Answer::Silent;
    };
    let mut results = report.results.iter().rev();
    if let Some(result) = results.find(|r| r.order == order) {
        return Answer::Ended(&result.outcome);
    }
    match &report.running {
        Some(running) if running.order == order => Answer::Makes(running),
        Some(_) => Answer::Busy,
        None => Answer::Idle,
    }
}

fn judge(backup: &Backup, setting: &Setting<'_>) -> Verdict {
    use BackupPhase::{Failed, Running, Succeeded};
    let say = |phase, message: String| Verdict::of(backup, phase, message);
    if let Some(entry) = setting.made_for(backup) {
        let mut verdict = say(Succeeded, "it is in the repository".to_owned());
        verdict.made = Some(entry.clone());
        return verdict;
    }
    let over = given_up(backup, setting);
    let attempt = before(backup).attempt.filter(|_| phase(backup) == Running);
    let Some(attempt) = attempt else {
        return over.unwrap_or_else(|| begin(backup, setting));
    };
    let (who, order) = (&attempt.instance, &attempt.order);
    let mut members = setting.members.iter();
    let member = members.find(|m| m.name == *who && m.pod_uid == attempt.pod_uid);
    let member = member.copied();
    let refresh = member.map(|m| Ask::of(m, "refresh", order, Order::Refresh));
    let give_up = member.map(|m| cancel(m, order));
    let mut verdict = match (answer(member, order), over) {
        (Answer::Silent, over) => return silent(backup, setting, &attempt, over),
        (Answer::Ended(Outcome::Done { .. }), None) => {
            let message = format!("{who} has stored it, and the catalogue does not show it yet");
            say(Running, message).asking(refresh)
        }
        (Answer::Ended(_) | Answer::Gone | Answer::Busy, Some(over)) => over,
        (Answer::Idle, Some(over)) => over.asking(give_up),
        (Answer::Makes(running), Some(_)) => {
            let mut verdict = say(Running, format!("{who} is told to give it up"));
            verdict.running = Some(running.clone());
            verdict.asking(give_up)
        }
        (Answer::Ended(Outcome::Cancelled), None) => {
            again(backup, setting, &format!("it was given up in {who}"))
        }
        (Answer::Ended(Outcome::Failed { why, retryable }), None) => {
            if *retryable {
                again(backup, setting, why)
            } else {
                say(Failed, why.clone())
            }
        }
        (Answer::Gone, None) => again(backup, setting, &format!("the pod of {who} is gone")),
        (Answer::Makes(running), None) => {
            let mut verdict = say(Running, format!("{who}: {}", running.step));
            verdict.running = Some(running.clone());
            verdict
        }
        (Answer::Busy, None) => say(Running, format!("{who} makes another backup first")),
        (Answer::Idle, None) => {
            let message = match setting.refusals.get(order) {
                Some(why) => format!("{who} does not begin: {why}"),
                None => format!("{who} is asked to make it"),
            };
            let take = member.map(|m| take(backup, setting, m, order));
            say(Running, message).asking(take)
        }
    };
    if let Some(attempt) = &mut verdict.attempt {
        attempt.silent_since = None;
    }
    verdict
}

/// Nothing is heard of who was asked.
fn silent(
    backup: &Backup,
    setting: &Setting<'_>,
    attempt: &Attempt,
    over: Option<Verdict>,
) -> Verdict {
    let who = &attempt.instance;
    let since = attempt.silent_since.clone();
    let since = since.unwrap_or_else(|| whole(setting.now));
    if setting.now.duration_since(since.0) >= SILENCE {
        let why = format!("{who} does not answer any more");
        return over.unwrap_or_else(|| again(backup, setting, &why));
    }
    if let Some(over) = over.filter(|over| over.phase == BackupPhase::Cancelled) {
        // Should it go on there, it is told to give it up as soon as it answers.
        return over;
    }
    let message = format!("{who} does not answer");
    let mut verdict = Verdict::of(backup, BackupPhase::Running, message);
    if let Some(attempt) = &mut verdict.attempt {
        attempt.silent_since = Some(since);
    }
    verdict
}

/// What becomes of one that is given up, by a person or since its time is over.
fn given_up(backup: &Backup, setting: &Setting<'_>) -> Option<Verdict> {
    if backup.spec.is_cancelled() {
        let message = "it was cancelled".to_owned();
        return Some(Verdict::of(backup, BackupPhase::Cancelled, message));
    }
    if !setting.wanted() || setting.now < deadline(backup, setting.now) {
        return None;
    }
    let seconds = backup.spec.timeout_seconds();
    let last = before(backup).message.unwrap_or_default();
    let message = format!("given up after {seconds} s: {last}");
    Some(Verdict::of(backup, BackupPhase::Failed, message))
}

/// Choose who makes it, if it is time.
fn begin(backup: &Backup, setting: &Setting<'_>) -> Verdict {
    let pending = |message| Verdict::of(backup, BackupPhase::Pending, message);
    let before = before(backup);
    let (kind, name) = setting.set;
    if !setting.wanted() {
        return pending(format!(
            "the {kind} {name} has no spec.backup: it waits until it has"
        ));
    }
    if before
        .next_attempt_at
        .as_ref()
        .is_some_and(|t| t.0 > setting.now)
    {
        return pending(before.message.unwrap_or_default());
    }
    let find = |name: &&str| {
        let mut members = setting.members.iter();
        members.find(|m| m.name == *name && m.report.is_ok())
    };
    let Some(member) = setting.candidates.iter().find_map(find) else {
        return pending(setting.unsuitable.to_owned());
    };
    let number = before.attempts.unwrap_or(0).saturating_add(1);
    let order = setting::order(backup, number);
    Verdict {
        phase: BackupPhase::Running,
        message: format!("{} is asked to make it", member.name),
        attempts: Some(number),
        next: None,
        attempt: Some(Attempt {
            order: order.clone(),
            instance: member.name.to_owned(),
            pod_uid: member.pod_uid.to_owned(),
            silent_since: None,
        }),
        running: None,
        made: None,
        asks: vec![take(backup, setting, *member, &order)],
    }
}

/// The attempt has failed; there will be another one, after a pause.
fn again(backup: &Backup, setting: &Setting<'_>, why: &str) -> Verdict {
    let number = before(backup).attempts.unwrap_or(1).max(1);
    let doublings = u32::try_from(number - 1).unwrap_or(0).min(10);
    let pause = (PAUSE.0 * 2_i32.saturating_pow(doublings)).min(PAUSE.1);
    let next = setting.now.checked_add(pause).unwrap_or(setting.now);
    let deadline = deadline(backup, setting.now);
    if next >= deadline {
        return Verdict::of(backup, BackupPhase::Failed, why.to_owned());
    }
    let next = whole(next);
    let message = format!(
        "attempt {number} failed: {why}; the next one begins at {}",
        next.0
    );
    let mut verdict = Verdict::of(backup, BackupPhase::Pending, message);
    verdict.next = Some(next);
    verdict
}

fn take(backup: &Backup, setting: &Setting<'_>, member: Member<'_>, order: &str) -> Ask {
    let take = Order::Take {
        order: order.to_owned(),
        incremental: backup.spec.is_incremental(),
        chain: backup.spec.is_incremental().then_some(setting.chain.max(1)),
    };
    Ask::of(member, &format!("take {order}"), "", take)
}

fn cancel(member: Member<'_>, order: &str) -> Ask {
    let cancel = Order::Cancel {
        order: order.to_owned(),
    };
    Ask::of(member, &format!("cancel {order}"), "", cancel)
}

fn status(backup: &Backup, setting: &Setting<'_>, verdict: Verdict) -> BackupStatus {
    let mut status = written(backup, setting.now, verdict, setting.wanted());
    if status.backup_id.is_some() {
        status.repository = setting.repository.map(str::to_owned);
    }
    status
}

/// The status; `counts` says whether its time has begun.
fn written(backup: &Backup, now: Timestamp, verdict: Verdict, counts: bool) -> BackupStatus {
    let before = before(backup);
    let generation = backup.metadata.generation.unwrap_or_default();
    let over = verdict.phase.is_over();
    let mut conditions = before.conditions.clone();
    let message = &verdict.message;
    let progress = match verdict.phase {
        BackupPhase::Pending => Progress::Reconciling {
            reason: reasons::WAITING,
            message,
        },
        BackupPhase::Running => Progress::Reconciling {
            reason: reasons::PROGRESSING,
            message,
        },
        BackupPhase::Failed => Progress::Stalled {
            reason: reasons::FAILED,
            message,
        },
        _ => Progress::Settled,
    };
    conditions::set_progress(&mut conditions, &progress, generation, now);
    let begins = || counts.then(|| whole(now));
    let mut status = BackupStatus {
        observed_generation: Some(generation),
        conditions,
        phase: Some(verdict.phase),
        started_at: before.started_at.clone().or_else(begins),
        finished_at: over.then(|| whole(now)),
        attempts: verdict.attempts,
        next_attempt_at: verdict.next.filter(|_| !over),
        instance: verdict.attempt.as_ref().map(|a| a.instance.clone()),
        attempt: verdict.attempt,
        message: Some(verdict.message),
        ..BackupStatus::default()
    };
    if let Some(running) = &verdict.running {
        show(&before, running, &mut status);
    } else if verdict.phase == BackupPhase::Running && status.attempt == before.attempt {
        keep(&before, &mut status);
    }
    if let Some(made) = &verdict.made {
        complete(made, &mut status);
    }
    status
}

/// Figures as they were written last.
fn keep(before: &BackupStatus, status: &mut BackupStatus) {
    status.progress.clone_from(&before.progress);
    status.bytes = before.bytes;
    status.total_bytes = before.total_bytes;
    status.bytes_per_second = before.bytes_per_second;
    status.kind.clone_from(&before.kind);
}

/// Figures of a backup that is being made, written only when they have changed much.
fn show(before: &BackupStatus, running: &Running, status: &mut BackupStatus) {
    let (bytes, total) = (running.plain_bytes, running.total_bytes.filter(|t| *t > 0));
    let percent = total.map(|t| {
        let hundredth = u128::from(bytes) * 100 / u128::from(t);
        i64::try_from(hundredth.min(99)).unwrap_or(99)
    });
    let same_attempt = status.attempt == before.attempt;
    let told = before.progress.as_deref().filter(|_| same_attempt);
    let stands = match (told.and_then(|p| p.strip_suffix('%')), percent) {
        (Some(told), Some(now)) => told
            .parse::<i64>()
            .is_ok_and(|told| told / STEP == now / STEP),
        (None, None) => {
            let told_bytes = before.bytes.filter(|_| told.is_some()).unwrap_or(-1);
            told_bytes >= 0 && signed(bytes) <= told_bytes + told_bytes / 4
        }
        _ => false,
    };
    if stands {
        return keep(before, status);
    }
    status.progress = Some(percent.map_or_else(|| size(bytes), |p| format!("{p}%")));
    status.bytes = Some(signed(bytes));
    status.total_bytes = total.map(signed);
    status.bytes_per_second = Some(signed(running.rate));
    status.kind = Some(kind(running.incremental));
}

fn kind(incremental: bool) -> String {
    let kind = if incremental { "Incremental" } else { "Full" };
    kind.to_owned()
}

/// Figures of a backup that is there.
fn complete(made: &BackupEntry, status: &mut BackupStatus) {
    status.progress = Some("100%".to_owned());
    status.bytes = Some(signed(made.plain_bytes));
    status.total_bytes = status.bytes;
    status.kind = Some(kind(made.parent.is_some()));
    status.backup_id = Some(made.id.to_string());
    status.parent = made.parent.as_ref().map(ToString::to_string);
    status.begun = Some(whole(made.begun));
    status.ended = Some(whole(made.ended));
    status.consistent_at = made.log_from.is_none().then(|| whole(made.consistent_at));
    status.stored_bytes = Some(signed(made.stored_bytes));
    status.size = Some(size(made.stored_bytes));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
