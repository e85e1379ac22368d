//! Operations on a set: which one is next, what it does, and what came of it. Values only. Drills
//! ([`crate::backups`]) and changes of passwords ([`crate::operator::rotations`]) are elsewhere: they disturb nobody, so nobody
//! waits for them.
//!
//! One goes on at a time, in the order in which they were made. What was when it began stands in
//! its status before anything is done, so that an operator that starts anew sees what came of it:
//! the epoch tells whether anybody has led since.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mainstay_crds::operation::{Action, Beginning, Operation, OperationPhase, OperationStatus};

use crate::conditions::{self, Progress, reasons};
use crate::events::Happening;
use crate::instances::Instance;
use crate::metadata::whole;
use crate::rollout::{Candidate, Change, Choice};

/// The set as it is.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// Name of the set.
    pub set: &'a str,
    /// Name of the instance that is primary, by the Lease.
    pub seat: &'a str,
    /// Epoch of the Lease.
    pub epoch: u64,
    /// Names of the members.
    pub members: &'a [String],
    /// All instances that are seen.
    pub instances: &'a [Instance],
    /// An instance was told to do something and is not finished with it.
    pub under_order: bool,
    /// Why the primary refused the last hand-over, if it did.
    pub refusal: Option<&'a str>,
}

impl Setting<'_> {
    fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name)
    }
}

/// The operations of a set in the order in which they are done.
pub fn ordered(mut operations: Vec<Operation>) -> Vec<Operation> {
    operations.sort_by_key(|o| (o.creation_timestamp().map(|t| t.0), o.name_any()));
    operations
}

/// The operation that goes on, or is next.
pub fn current(operations: &[Operation]) -> Option<&Operation> {
    operations.iter().find(|o| !is_over(o))
}

fn phase(operation: &Operation) -> OperationPhase {
    let status = operation.status.as_ref();
    status.and_then(|s| s.phase).unwrap_or_default()
}

/// Whether nothing more comes of it.
pub(crate) fn is_over(operation: &Operation) -> bool {
    phase(operation).is_over()
}

fn began(operation: &Operation) -> Option<&Beginning> {
    operation.status.as_ref()?.from.as_ref()
}

/// Until when it may take.
pub(crate) fn deadline(operation: &Operation, now: Timestamp) -> Timestamp {
    let status = operation.status.as_ref();
    let seen = status.and_then(|s| s.started_at.as_ref());
    let begun = seen.map_or(now, |t| t.0);
    begun + SignedDuration::from_secs(operation.spec.timeout_seconds().into())
}

fn is_late(operation: &Operation, setting: &Setting<'_>) -> bool {
    setting.now >= deadline(operation, setting.now)
}

/// The step that the current operation asks for; none when it waits, or has nothing left to do.
pub fn proposed(operations: &[Operation], setting: &Setting<'_>) -> Option<Candidate> {
    let operation = current(operations)?;
    let taken_over = began(operation).is_some_and(|from| led_since(from, setting));
    let to = operation.spec.to.as_deref();
    let pointless = to
        .is_some_and(|to| to == setting.seat || !setting.members.iter().any(|member| member == to));
    let late = is_late(operation, setting);
    if taken_over || pointless || late || operation.spec.is_cancelled() {
        return None;
    }
    setting.instance(setting.seat)?.agent()?;
    Some(asked(operation, setting))
}

/// What the operation asks for.
fn asked(operation: &Operation, setting: &Setting<'_>) -> Candidate {
    Candidate {
        instance: setting.seat.to_owned(),
        change: Change::HandOver {
            to: operation.spec.to.clone(),
        },
        why: why(operation),
    }
}

/// The reason that the step of an operation bears, by which it is known again.
fn why(operation: &Operation) -> String {
    format!("operation {}", operation.name_any())
}

fn led_since(from: &Beginning, setting: &Setting<'_>) -> bool {
    u64::try_from(from.epoch).is_ok_and(|epoch| setting.epoch > epoch)
}

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The operation, as it was seen.
    pub operation: Operation,
    /// What is to be said of it.
    pub status: OperationStatus,
}

/// What is to be said of operations that is not said yet, given what was chosen to be done.
///
/// Guarantees: what is over is never written again; a hand-over that was chosen is `Running`, with
/// what was before it.
pub fn told(operations: &[Operation], setting: &Setting<'_>, choice: &Choice) -> Vec<Told> {
    in_turn(operations, setting.now, |operation| {
        status(operation, setting.now, judge(operation, setting, choice))
    })
}

/// What is to be said of operations of which one goes on at a time, and is not said yet: `judge` says it of the one whose turn
/// it is, and of what is cancelled.
pub(crate) fn in_turn(
    operations: &[Operation],
    now: Timestamp,
    judge: impl Fn(&Operation) -> OperationStatus,
) -> Vec<Told> {
    let mut ahead: Option<String> = None;
    let mut all = Vec::new();
    for operation in operations.iter().filter(|o| !is_over(o)) {
        let status = match &ahead {
            Some(other) if !operation.spec.is_cancelled() => {
                let message = format!("operation {other} comes first");
                written(operation, now, OperationPhase::Pending, message)
            }
            _ => judge(operation),
        };
        let is_over = status.phase.is_some_and(OperationPhase::is_over);
        if !is_over && ahead.is_none() {
            ahead = Some(operation.name_any());
        }
        if operation.status.as_ref() != Some(&status) {
            all.push(Told {
                operation: operation.clone(),
                status,
            });
        }
    }
    all
}

/// What is to be said of operations whose target is not there, and is not said yet: they wait until it
/// is, and their time does not begin before.
pub fn without_target(operations: &[Operation], now: Timestamp) -> Vec<Told> {
    let mut all = Vec::new();
    for operation in operations.iter().filter(|o| !is_over(o)) {
        let target = &operation.spec.target;
        let (phase, message) = if operation.spec.is_cancelled() {
            (OperationPhase::Cancelled, "it was cancelled".to_owned())
        } else {
            let message = format!(
                "there is no {} called {} in this namespace: it waits until there is one",
                target.kind, target.name
            );
            (OperationPhase::Pending, message)
        };
        let mut status = status(
            operation,
            now,
            Verdict {
                phase,
                message,
                from: began(operation).cloned(),
            },
        );
        status.started_at = operation.status.as_ref().and_then(|s| s.started_at.clone());
        if operation.status.as_ref() != Some(&status) {
            all.push(Told {
                operation: operation.clone(),
                status,
            });
        }
    }
    all
}

/// What is to be said of operations on a set that leads itself, and is not said yet: nobody there has a seat to give away.
pub fn refused(operations: &[Operation], now: Timestamp) -> Vec<Told> {
    let switchovers = operations
        .iter()
        .filter(|o| !is_over(o) && o.spec.action == Action::Switchover);
    let told = switchovers.map(|operation| {
        let message = "the instances of this set agree by themselves on who takes writes: there is no primary to hand over from";
        let verdict = Verdict {
            phase: OperationPhase::Failed,
            message: message.to_owned(),
            from: None,
        };
        Told {
            operation: operation.clone(),
            status: status(operation, now, verdict),
        }
    });
    told.collect()
}

/// What happened to an operation, for an event: that it has begun or is over.
pub fn happening(told: &Told) -> Option<Happening> {
    let phase = told.status.phase.unwrap_or_default();
    if phase == self::phase(&told.operation) {
        return None;
    }
    let reason = match phase {
        OperationPhase::Pending => return None,
        OperationPhase::Running => "Started",
        OperationPhase::Succeeded => "Succeeded",
        OperationPhase::Failed => "Failed",
        OperationPhase::Cancelled => "Cancelled",
    };
    Some(Happening {
        warning: phase == OperationPhase::Failed,
        reason,
        action: match told.operation.spec.action {
            Action::Switchover => "Switchover",
            Action::Drill => "Drill",
            Action::DestroyKeys => "DestroyKeys",
            Action::RotatePassword => "RotatePassword",
        },
        note: told.status.message.clone().unwrap_or_default(),
    })
}

/// When the current operation is to be looked at again although nothing happens.
pub fn due(operations: &[Operation], setting: &Setting<'_>) -> Option<Timestamp> {
    current(operations).map(|operation| deadline(operation, setting.now))
}

struct Verdict {
    phase: OperationPhase,
    message: String,
    from: Option<Beginning>,
}

fn judge(operation: &Operation, setting: &Setting<'_>, choice: &Choice) -> Verdict {
    let from = began(operation).cloned();
    let say = |phase, message: String| Verdict {
        phase,
        message,
        from: from.clone(),
    };
    let seat = setting.seat;
    let phase = phase(operation);
    if let Some(from) = from.as_ref().filter(|from| led_since(from, setting)) {
        let (phase, message) = led(operation, from, setting);
        return say(phase, message);
    }
    if let Some((phase, message)) = pointless(operation, setting) {
        return say(phase, message);
    }
    let cancelled = operation.spec.is_cancelled();
    if setting.under_order && phase == OperationPhase::Running {
        let message = if cancelled {
            format!("{seat} has begun to hand over: what comes of it is waited for")
        } else {
            format!("{seat} hands over")
        };
        return say(phase, message);
    }
    if cancelled {
        return say(OperationPhase::Cancelled, "it was cancelled".to_owned());
    }
    let waits = waits(operation, setting, choice);
    if is_late(operation, setting) {
        // Nothing is asked for any more, so nothing is refused: what it waited for until now counts.
        let said = operation.status.as_ref().and_then(|s| s.message.clone());
        let why = waits
            .or(said)
            .unwrap_or_else(|| format!("{seat} has not handed over"));
        let seconds = operation.spec.timeout_seconds();
        return say(
            OperationPhase::Failed,
            format!("given up after {seconds} s: {why}"),
        );
    }
    match choice.step.as_ref().filter(|s| s.why == why(operation)) {
        Some(step) => Verdict {
            phase: OperationPhase::Running,
            message: step.step(),
            from: Some(Beginning {
                primary: seat.to_owned(),
                epoch: i64::try_from(setting.epoch).unwrap_or(i64::MAX),
            }),
        },
        None => say(phase, waits.unwrap_or_else(|| "it is next".to_owned())),
    }
}

/// Somebody has led since it began: what came of it.
fn led(operation: &Operation, from: &Beginning, setting: &Setting<'_>) -> (OperationPhase, String) {
    let Setting { seat, epoch, .. } = *setting;
    let former = &from.primary;
    if seat == former {
        return (
            OperationPhase::Failed,
            format!("nobody took over in time: {seat} is primary again, under epoch {epoch}"),
        );
    }
    if let Some(to) = operation.spec.to.as_ref().filter(|to| *to != seat) {
        return (
            OperationPhase::Failed,
            format!("{seat} took over instead of {to}, under epoch {epoch}"),
        );
    }
    let unwell = match setting.instance(seat) {
        Some(instance) => instance.unwell(),
        None => Some(format!("{seat} is not there")),
    };
    match unwell {
        None => (
            OperationPhase::Succeeded,
            format!("{seat} took over from {former}, under epoch {epoch}"),
        ),
        Some(why) if is_late(operation, setting) => (
            OperationPhase::Failed,
            format!("{seat} took over, and does not serve in time: {why}"),
        ),
        Some(why) => (OperationPhase::Running, format!("{seat} takes over: {why}")),
    }
}

/// What is so already, or can never be.
fn pointless(operation: &Operation, setting: &Setting<'_>) -> Option<(OperationPhase, String)> {
    let to = operation.spec.to.as_deref()?;
    let Setting {
        seat, set, members, ..
    } = *setting;
    if to == seat && phase(operation) == OperationPhase::Pending {
        let message = format!("{to} is the primary already");
        return Some((OperationPhase::Succeeded, message));
    }
    if members.iter().any(|member| member == to) {
        return None;
    }
    let message = format!(
        "{to} is no instance of {set}, which has {}",
        members.join(", ")
    );
    Some((OperationPhase::Failed, message))
}

/// What the operation's step waits for.
fn waits(operation: &Operation, setting: &Setting<'_>, choice: &Choice) -> Option<String> {
    let step = asked(operation, setting).step();
    let held_back = choice.refused.iter().find(|wait| wait.step == step);
    match (held_back, setting.refusal) {
        (Some(wait), _) => Some(wait.reason.clone()),
        (None, Some(why)) => Some(why.to_owned()),
        (None, None) => {
            let seat = setting.instance(setting.seat);
            seat.map_or_else(
                || Some(format!("the primary {} is not there", setting.seat)),
                Instance::unwell,
            )
        }
    }
}

/// The status of an operation without a hand-over.
pub(crate) fn written(
    operation: &Operation,
    now: Timestamp,
    phase: OperationPhase,
    message: String,
) -> OperationStatus {
    let from = None;
    status(
        operation,
        now,
        Verdict {
            phase,
            message,
            from,
        },
    )
}

fn status(operation: &Operation, now: Timestamp, verdict: Verdict) -> OperationStatus {
    let before = operation.status.clone().unwrap_or_default();
    let generation = operation.metadata.generation.unwrap_or_default();
    let mut conditions = before.conditions;
    let progress = match verdict.phase {
        OperationPhase::Pending => Progress::Reconciling {
            reason: reasons::WAITING,
            message: &verdict.message,
        },
        OperationPhase::Running => Progress::Reconciling {
            reason: reasons::PROGRESSING,
            message: &verdict.message,
        },
        OperationPhase::Failed => Progress::Stalled {
            reason: reasons::FAILED,
            message: &verdict.message,
        },
        OperationPhase::Succeeded | OperationPhase::Cancelled => Progress::Settled,
    };
    conditions::set_progress(&mut conditions, &progress, generation, now);
    OperationStatus {
        observed_generation: Some(generation),
        conditions,
        phase: Some(verdict.phase),
        started_at: before.started_at.or_else(|| Some(whole(now))),
        finished_at: verdict.phase.is_over().then(|| whole(now)),
        message: Some(verdict.message),
        from: verdict.from,
        keys: before.keys,
        rotation: before.rotation,
    }
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
