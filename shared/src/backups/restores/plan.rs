//! What is done next for a set's restores.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mainstay_crds::restore::{Before, Restore, RestorePhase, RestoreStatus};

use super::check::{Held, check};
use super::{Decision, Setting, Step, Told, active, phase};
use crate::backups::words::whole;
use crate::conditions::{self, Progress, reasons};
use crate::instances::{ClaimSeen, Instance};
use crate::names;

/// What is said of one, and what is done for it once that is said.
struct Verdict {
    status: RestoreStatus,
    step: Option<Step>,
}

/// What is done next: at most one step, and nothing for a restore of which something is to be said first.
pub fn decide(restores: &[Restore], setting: &Setting<'_>) -> Decision {
    let mut decision = Decision::default();
    for (number, restore) in restores.iter().enumerate() {
        let Some(verdict) = judge(restore, &restores[..number], restores, setting) else {
            continue;
        };
        if restore.status.as_ref() != Some(&verdict.status) {
            decision.says.push(Told {
                restore: restore.clone(),
                status: verdict.status,
            });
        } else if decision.step.is_none() {
            decision.step = verdict.step;
        }
    }
    decision
}

fn judge(
    restore: &Restore,
    before: &[Restore],
    all: &[Restore],
    setting: &Setting<'_>,
) -> Option<Verdict> {
    let phase = phase(restore);
    if phase.is_over() {
        let status = restore.status.clone()?;
        return released(restore, status);
    }
    if setting.paused && phase != RestorePhase::Pending {
        return None;
    }
    let one = One { restore, setting };
    Some(match phase {
        RestorePhase::Stopping | RestorePhase::Restoring if restore.spec.is_reverted() => {
            one.turn_back()
        }
        RestorePhase::Stopping => one.stopping(),
        RestorePhase::Restoring => one.restoring(),
        RestorePhase::Restored => one.restored(active(all).is_some()),
        RestorePhase::Reverting => one.reverting(),
        RestorePhase::Reverted => one.reverted(),
        _ => one.pending(before, all),
    })
}

/// Nothing is done any more, so nothing holds the object.
fn released(restore: &Restore, status: RestoreStatus) -> Option<Verdict> {
    is_held(restore).then(|| Verdict {
        status,
        step: Some(Step::Release(Box::new(restore.clone()))),
    })
}

fn is_held(restore: &Restore) -> bool {
    let all = restore.finalizers();
    all.iter().any(|f| f == names::RESTORE_FINALIZER)
}

/// Until when it has to have begun.
pub(super) fn deadline(restore: &Restore, now: Timestamp) -> Timestamp {
    let status = restore.status.as_ref();
    let seen = status.and_then(|s| s.started_at.as_ref());
    seen.map_or(now, |t| t.0) + SignedDuration::from_secs(restore.spec.timeout_seconds().into())
}

/// The status with another phase and message.
pub(super) fn status(
    restore: &Restore,
    now: Timestamp,
    phase: RestorePhase,
    message: String,
) -> RestoreStatus {
    let before = restore.status.clone().unwrap_or_default();
    let generation = restore.metadata.generation.unwrap_or_default();
    let mut conditions = before.conditions.clone();
    let message_of = message.as_str();
    let progress = match phase {
        RestorePhase::Pending => Progress::Reconciling {
            reason: reasons::WAITING,
            message: message_of,
        },
        phase if phase.is_active() => Progress::Reconciling {
            reason: reasons::PROGRESSING,
            message: message_of,
        },
        RestorePhase::Failed => Progress::Stalled {
            reason: reasons::FAILED,
            message: message_of,
        },
        _ => Progress::Settled,
    };
    conditions::set_progress(&mut conditions, &progress, generation, now);
    RestoreStatus {
        observed_generation: Some(generation),
        conditions,
        phase: Some(phase),
        started_at: before.started_at.clone().or_else(|| Some(whole(now))),
        finished_at: if phase.is_over() {
            before.finished_at.clone().or_else(|| Some(whole(now)))
        } else {
            before.finished_at.clone()
        },
        message: Some(message),
        ..before
    }
}

/// A restore, and the set that it is of.
struct One<'a> {
    restore: &'a Restore,
    setting: &'a Setting<'a>,
}

impl<'a> One<'a> {
    fn say(&self, phase: RestorePhase, message: impl Into<String>) -> Verdict {
        Verdict {
            status: status(self.restore, self.setting.now, phase, message.into()),
            step: None,
        }
    }

    fn then(&self, phase: RestorePhase, message: impl Into<String>, step: Step) -> Verdict {
        Verdict {
            step: Some(step),
            ..self.say(phase, message)
        }
    }

    fn uid(&self) -> String {
        self.restore.uid().unwrap_or_default()
    }

    /// Instances whose volumes are those from before.
    fn was(&self, name: &str) -> bool {
        let from = self.restore.status.as_ref().and_then(|s| s.from.as_ref());
        from.is_some_and(|from| from.instances.iter().any(|i| i == name))
    }

    /// Claims that this restore has set aside.
    fn kept(&self) -> impl Iterator<Item = (&'a Instance, &'a ClaimSeen)> {
        let uid = self.uid();
        let all = self.setting.aside.iter();
        all.filter_map(|i| Some((i, i.claim.as_ref()?)))
            .filter(move |(_, claim)| claim.set_aside.as_ref() == Some(&uid))
    }

    fn serves(&self) -> bool {
        let mut all = self.setting.instances.iter();
        all.any(|i| i.name == self.setting.seat && i.serves())
    }

    fn pending(&self, before: &[Restore], all: &[Restore]) -> Verdict {
        use RestorePhase::{Cancelled, Failed, Pending, Stopping};
        let (spec, setting) = (&self.restore.spec, self.setting);
        if spec.is_cancelled() || self.restore.metadata.deletion_timestamp.is_some() {
            return self.say(Cancelled, "it was cancelled");
        }
        if spec.is_confirmed() || spec.is_reverted() {
            return self.say(
                Cancelled,
                "it was confirmed or reverted before anything was done: it is taken for the record of one that is over, and nothing is done",
            );
        }
        if setting.deleting {
            return self.say(Failed, format!("{} is being deleted", setting.set));
        }
        if !setting.possible {
            return self.say(
                Failed,
                format!(
                    "{} does not go back in place: make a new resource from its repository (bootstrap.recovery)",
                    setting.set
                ),
            );
        }
        if !setting.has_repository {
            return self.say(
                Failed,
                format!(
                    "{} has no spec.backup, so there is nothing to go back to; from another repository a new resource is made (bootstrap.recovery)",
                    setting.set
                ),
            );
        }
        let seen = self.restore.status.as_ref();
        let seen = seen.and_then(|s| s.started_at.as_ref());
        let asked = seen.map_or(whole(setting.now).0, |t| t.0);
        let known = check(spec, asked, setting.report, setting.logged);
        if let Err(Held::Refused(why)) = known {
            return self.say(Failed, why);
        }
        let held = self.held(before, all);
        let waits = match (held, known) {
            (Some(why), _) | (None, Err(Held::Waits(why) | Held::Refused(why))) => why,
            (None, Ok(known)) => {
                if !is_held(self.restore) {
                    let step = Step::Hold(Box::new(self.restore.clone()));
                    return self.then(Pending, "it begins", step);
                }
                let mut verdict = self.say(Stopping, "all instances are being stopped");
                let names = setting.instances.iter().filter(|i| i.claim.is_some());
                verdict.status.from = Some(Before {
                    primary: setting.seat.to_owned(),
                    instances: names.map(|i| i.name.clone()).collect(),
                    owner: known.owner,
                    stored_until: Some(Time(known.stored_until)),
                });
                verdict.status.first = Some(self.first());
                verdict.status.stopped_at = Some(whole(setting.now));
                self.raise(&mut verdict.status);
                return verdict;
            }
        };
        if setting.now >= deadline(self.restore, setting.now) {
            let message = format!("it has not begun in time, and nothing was done: {waits}");
            return self.say(Failed, message);
        }
        self.say(Pending, waits)
    }

    /// Why it does not begin yet, whatever can be recovered.
    fn held(&self, before: &[Restore], all: &[Restore]) -> Option<String> {
        let setting = self.setting;
        if setting.paused {
            return Some("changes are stopped".to_owned());
        }
        let other = active(all).or_else(|| {
            let mut first = before.iter();
            first.find(|r| phase(r) == RestorePhase::Pending)
        });
        if let Some(other) = other {
            return Some(format!("restore {} comes first", other.name_any()));
        }
        let aside = setting
            .aside
            .first()
            .and_then(|i| Some((i, i.claim.as_ref()?)));
        if let Some((instance, claim)) = aside {
            let by = all.iter().find(|r| r.uid() == claim.set_aside);
            let claim = names::data_claim(&instance.name);
            return Some(match by {
                Some(by) => format!(
                    "volumes are kept by restore {}: write confirm: true or revert: true there first",
                    by.name_any()
                ),
                None => format!(
                    "the claim {claim} is set aside by a restore that is gone: delete it, or take its label {} away",
                    names::SET_ASIDE
                ),
            });
        }
        if let Some(busy) = setting.busy {
            return Some(busy.to_owned());
        }
        match setting.lease {
            Err(why) => Some(why.to_owned()),
            Ok(Some(lease)) if lease.initialised => None,
            Ok(_) => Some("it waits until the set has data".to_owned()),
        }
    }

    /// The lowest number that no instance has.
    fn first(&self) -> String {
        let all = self.setting.instances.iter().chain(self.setting.aside);
        let taken: BTreeSet<u32> = all.map(|i| i.ordinal).collect();
        let mut free = 1;
        while taken.contains(&free) {
            free += 1;
        }
        names::instance(self.setting.set, free)
    }

    /// Epoch and history go up only.
    fn raise(&self, status: &mut RestoreStatus) {
        if let Ok(Some(lease)) = self.setting.lease {
            let up = |old: Option<i64>, new: u64| {
                let new = i64::try_from(new).unwrap_or(i64::MAX);
                Some(old.map_or(new, |old| old.max(new)))
            };
            status.epoch = up(status.epoch, lease.epoch);
            status.timeline = up(status.timeline, lease.timeline);
        }
    }

    /// The next pod that goes: the primary last, when the others are gone, so that nobody takes over.
    fn stop(&self) -> Option<Step> {
        let all = self.setting.instances.iter().chain(self.setting.aside);
        let running: Vec<_> = all.filter_map(|i| Some((i, i.pod.as_ref()?))).collect();
        let mut standing = running.iter().filter(|(_, pod)| !pod.deleting);
        let other = standing.clone().find(|(i, _)| i.name != self.setting.seat);
        let last = || standing.next().filter(|_| running.len() == 1);
        let (instance, pod) = other.or_else(last)?;
        Some(Step::DeletePod {
            instance: instance.name.clone(),
            uid: pod.uid.clone(),
        })
    }

    fn label(instance: &Instance, claim: &ClaimSeen, aside: Option<String>) -> Step {
        Step::Label {
            instance: instance.name.clone(),
            uid: claim.uid.clone(),
            resource_version: claim.resource_version.clone(),
            aside,
        }
    }

    /// Stops all, changes claims over as `claims` says, and takes the Lease away. None once all of it is done.
    fn change_over(
        &self,
        phase: RestorePhase,
        claims: impl FnOnce() -> Option<(Step, &'static str)>,
    ) -> Option<Verdict> {
        let setting = self.setting;
        let message = self.message();
        if let Some(step) = self.stop() {
            return Some(self.then(phase, message, step));
        }
        let all = setting.instances.iter().chain(setting.aside);
        let there = all.filter(|i| i.pod.is_some()).map(|i| i.name.as_str());
        let there: Vec<&str> = there.collect();
        if !there.is_empty() || !setting.stopped {
            let message = match &there[..] {
                [] => "all instances are being stopped".to_owned(),
                some => format!(
                    "all instances are being stopped: {} still is there",
                    some.join(", ")
                ),
            };
            return Some(self.say(phase, message));
        }
        if let Some((step, message)) = claims() {
            return Some(self.then(phase, message, step));
        }
        match setting.lease {
            Err(why) => Some(self.say(phase, why)),
            Ok(None) => None,
            Ok(Some(_)) => {
                let message = "the Lease of before is being deleted";
                let mut verdict = self.then(phase, message, Step::DeleteLease);
                self.raise(&mut verdict.status);
                Some(verdict)
            }
        }
    }

    /// What was said last, so that nothing is written for each step.
    fn message(&self) -> String {
        let said = self.restore.status.as_ref();
        said.and_then(|s| s.message.clone()).unwrap_or_default()
    }

    fn stopping(&self) -> Verdict {
        let uid = self.uid();
        let claims = || {
            let all = self.setting.instances.iter();
            let mut all = all.filter_map(|i| Some((i, i.claim.as_ref()?)));
            let (instance, claim) = all.find(|(_, claim)| !claim.deleting)?;
            let step = Self::label(instance, claim, Some(uid));
            Some((step, "the volumes from before are being set aside"))
        };
        self.change_over(RestorePhase::Stopping, claims)
            .unwrap_or_else(|| self.say(RestorePhase::Restoring, "the first volume is being made"))
    }

    fn restoring(&self) -> Verdict {
        let setting = self.setting;
        let status = self.restore.status.as_ref();
        let first = status.and_then(|s| s.first.as_deref()).unwrap_or_default();
        let seen = setting.instances.iter().find(|i| i.name == first);
        let pod = seen.and_then(|i| i.pod.as_ref());
        let led = matches!(setting.lease, Ok(Some(lease)) if lease.initialised);
        if led && self.serves() {
            let reached = pod.and_then(|p| p.restored.clone());
            let what = reached
                .clone()
                .unwrap_or_else(|| "it is restored".to_owned());
            let mut verdict = self.say(
                RestorePhase::Restored,
                format!(
                    "{what}; the volumes from before are kept: confirm: true deletes them, revert: true goes back to them"
                ),
            );
            verdict.status.reached = reached;
            verdict.status.restored_at = Some(whole(setting.now));
            self.raise(&mut verdict.status);
            return verdict;
        }
        let unwell = seen.and_then(Instance::unwell);
        let message = unwell.unwrap_or_else(|| "the first volume is being made".to_owned());
        let mut verdict = self.say(
            RestorePhase::Restoring,
            format!("{message}; revert: true goes back to the volumes from before"),
        );
        if let Some(waiting) = pod.and_then(|p| p.waiting.as_ref()) {
            let generation = self.restore.metadata.generation.unwrap_or_default();
            let stalled = Progress::Stalled {
                reason: reasons::FAILED,
                message: &waiting.message,
            };
            let conditions = &mut verdict.status.conditions;
            conditions::set_progress(conditions, &stalled, generation, setting.now);
        }
        verdict
    }

    fn restored(&self, another: bool) -> Verdict {
        let (spec, phase) = (&self.restore.spec, RestorePhase::Restored);
        let message = self.message();
        if spec.is_reverted() && self.leads_back() {
            if another {
                return self.say(phase, "another restore goes on");
            }
            if let Some(busy) = self.setting.busy {
                return self.say(phase, busy);
            }
            return self.turn_back();
        }
        if spec.is_confirmed() {
            return match self.forget(Self::was) {
                Some(verdict) => verdict,
                None => self.say(
                    RestorePhase::Confirmed,
                    "the volumes from before are deleted",
                ),
            };
        }
        if spec.is_reverted() {
            return self.say(
                phase,
                "the volumes from before are gone: nothing leads back to them",
            );
        }
        if is_held(self.restore) {
            let step = Step::Release(Box::new(self.restore.clone()));
            return self.then(phase, message, step);
        }
        self.say(phase, message)
    }

    /// Whether the volumes from before are there: all of them, or after somebody took one away that of the primary.
    fn leads_back(&self) -> bool {
        let Some(from) = self.restore.status.as_ref().and_then(|s| s.from.as_ref()) else {
            return false;
        };
        let there = |name: &String| {
            let mut kept = self.kept();
            kept.any(|(i, claim)| i.name == *name && !claim.deleting && !claim.lost)
        };
        let all = from.instances.iter().all(there);
        all || (there(&from.primary) && !self.restore.spec.is_confirmed())
    }

    /// Deletes what is kept and `goes`, while the set serves without it. None once nothing of it is left.
    fn forget(&self, goes: impl Fn(&Self, &str) -> bool) -> Option<Verdict> {
        let phase = phase(self.restore);
        let left: Vec<_> = self.kept().filter(|(i, _)| goes(self, &i.name)).collect();
        if left.is_empty() {
            return None;
        }
        if !self.serves() {
            let message = format!(
                "the volumes that are kept are deleted once {} serves",
                self.setting.seat
            );
            return Some(self.say(phase, message));
        }
        let message = "the volumes that are kept are being deleted";
        let next = left.iter().find(|(_, claim)| !claim.deleting);
        Some(match next {
            Some((instance, claim)) => self.then(phase, message, delete(instance, claim)),
            None => self.say(phase, message),
        })
    }

    /// Back to the volumes from before.
    fn turn_back(&self) -> Verdict {
        if !is_held(self.restore) {
            let step = Step::Hold(Box::new(self.restore.clone()));
            return self.then(phase(self.restore), self.message(), step);
        }
        let mut verdict = self.say(RestorePhase::Reverting, "all instances are being stopped");
        self.raise(&mut verdict.status);
        verdict
    }

    fn reverting(&self) -> Verdict {
        let uid = self.uid();
        let message = "the volumes from before are being put in place";
        let claims = || {
            let used = self.setting.instances.iter();
            let mut used = used.filter_map(|i| Some((i, i.claim.as_ref()?)));
            let restored = used.find(|(i, claim)| !self.was(&i.name) && !claim.deleting);
            if let Some((instance, claim)) = restored {
                return Some((Self::label(instance, claim, Some(uid)), message));
            }
            let (instance, claim) = self.kept().find(|(i, _)| self.was(&i.name))?;
            Some((Self::label(instance, claim, None), message))
        };
        self.change_over(RestorePhase::Reverting, claims)
            .unwrap_or_else(|| {
                self.say(
                    RestorePhase::Reverted,
                    "the volumes from before are in use again; the restored ones are kept: confirm: true deletes them",
                )
            })
    }

    fn reverted(&self) -> Verdict {
        let phase = RestorePhase::Reverted;
        if is_held(self.restore) {
            let step = Step::Release(Box::new(self.restore.clone()));
            return self.then(phase, self.message(), step);
        }
        if !self.restore.spec.is_confirmed() {
            return self.say(phase, self.message());
        }
        self.forget(|one, name| !one.was(name)).unwrap_or_else(|| {
            let mut verdict = self.say(
                phase,
                "the volumes from before are in use again, and the restored ones are deleted",
            );
            let finished = &mut verdict.status.finished_at;
            *finished = finished.take().or_else(|| Some(whole(self.setting.now)));
            verdict
        })
    }
}

fn delete(instance: &Instance, claim: &ClaimSeen) -> Step {
    Step::DeleteClaim {
        instance: instance.name.clone(),
        uid: claim.uid.clone(),
    }
}
