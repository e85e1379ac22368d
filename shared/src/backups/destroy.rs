//! Destroying the keys of a set that was deleted (`kind: Operation`, action `DestroyKeys`). Values only.
//!
//! What is destroyed is written down first. Then a pod removes the copies in the repository, which looks whether they are
//! these keys' at all; and the Secret goes last, since without it nobody could look any more. Each step is seen in the
//! cluster or stands in the status, so an operator that starts anew goes on where the one before was.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_backup::shred::ShredReport;
use mainstay_crds::operation::{
    Copies, DestroyedKeys, KeptCopy, Operation, OperationPhase, OperationStatus,
};

use super::drill::pod::{Phase, PodSeen};
use super::words::whole;
use crate::operations::{self, Told, is_over};

/// Name of the container that removes copies.
pub const CONTAINER: &str = "destroy-keys";
/// Most volumes that a status names.
const VOLUMES: usize = 32;
/// Between what is done and why it failed.
const FAILED: &str = ", which failed: ";
/// How soon is looked again at what no watch tells.
const LOOK: Duration = Duration::from_secs(5);

/// The set whose keys are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// There is none of that name.
    Gone,
    /// It is being deleted.
    Going,
    /// It is there.
    There,
}

/// The Secret with the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSeen {
    /// Its uid.
    pub uid: String,
    /// Public parts of the keys in it, or why there are none.
    pub recipients: Result<Vec<String>, String>,
}

/// What was found in the cluster, not in a cache.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// Now.
    pub now: Timestamp,
    /// The set.
    pub target: Target,
    /// Name of the Secret.
    pub name: &'a str,
    /// The Secret, if it is there.
    pub secret: Option<SecretSeen>,
    /// The pod that removes copies, if it is there.
    pub pod: Option<PodSeen>,
    /// Where the backups are, for people; or what is wrong with that.
    pub place: Result<String, String>,
    /// Whether the store keeps versions that nobody can see there.
    pub veiled: bool,
    /// Claims of volumes of the set that are still there.
    pub volumes: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing is left to do.
    Rest,
    /// Write this, and look again.
    Say(Box<Told>),
    /// Make the pod that removes copies.
    MakePod,
    /// Remove that pod.
    RemovePod,
    /// Delete the Secret with this uid, as it was seen.
    DeleteSecret(String),
    /// Write this if it is not said yet, and look again after a while.
    Wait(Option<Box<Told>>, Duration),
}

/// What is to be done next.
///
/// Guarantees: the Secret is deleted only after a pod has told that no copy is left which can be removed, while no set of
/// that name is there, and as long as it holds the keys that were written down; of what is over nothing is said again.
pub fn next(operation: &Operation, setting: &Setting<'_>) -> Step {
    if is_over(operation) {
        return match &setting.pod {
            Some(pod) if !pod.deleting => Step::RemovePod,
            _ => Step::Rest,
        };
    }
    let case = Case { operation, setting };
    case.next()
}

struct Case<'a> {
    operation: &'a Operation,
    setting: &'a Setting<'a>,
}

impl Case<'_> {
    fn record(&self) -> Option<&DestroyedKeys> {
        self.operation.status.as_ref()?.keys.as_ref()
    }

    fn status(&self, phase: OperationPhase, message: String) -> OperationStatus {
        operations::written(self.operation, self.setting.now, phase, message)
    }

    fn say(&self, phase: OperationPhase, message: impl Into<String>) -> Step {
        self.told(self.status(phase, message.into()))
    }

    fn told(&self, status: OperationStatus) -> Step {
        Step::Say(Box::new(Told {
            operation: self.operation.clone(),
            status,
        }))
    }

    fn wait(&self, phase: OperationPhase, message: impl Into<String>) -> Step {
        let status = self.status(phase, message.into());
        let new = self.operation.status.as_ref() != Some(&status);
        let told = new.then(|| {
            Box::new(Told {
                operation: self.operation.clone(),
                status,
            })
        });
        Step::Wait(told, LOOK)
    }

    /// It has failed. What is gone by then is said.
    fn failed(&self, why: &str) -> Step {
        let gone = match self.record().and_then(|r| r.copies.as_ref()) {
            None => "the Secret is as it was".to_owned(),
            Some(copies) => format!(
                "{} copies for escrow were removed, and the Secret is as it was",
                copies.removed
            ),
        };
        self.say(OperationPhase::Failed, format!("{why}; {gone}"))
    }

    fn is_late(&self) -> bool {
        let status = self.operation.status.as_ref();
        let Some(began) = status.and_then(|s| s.started_at.as_ref()) else {
            return false;
        };
        let seconds = SignedDuration::from_secs(self.operation.spec.timeout_seconds().into());
        self.setting.now >= began.0 + seconds
    }

    fn next(&self) -> Step {
        let Setting { name, target, .. } = *self.setting;
        let set = &self.operation.spec.target.name;
        let secret = self.setting.secret.as_ref();
        // Once the Secret is gone there is no way back, so nothing else counts.
        if let Some(record) = self.record().filter(|r| r.copies.is_some())
            && secret.is_none_or(|s| s.uid != record.secret_uid)
        {
            return self.done(record);
        }
        match target {
            Target::Gone => {}
            Target::There if self.record().is_none() => {
                return self.failed(&format!(
                    "{set} is there, and its backups are made with these keys: delete it first"
                ));
            }
            Target::There => {
                return self.failed(&format!(
                    "a new {set} was made meanwhile, which uses these keys"
                ));
            }
            Target::Going => {
                return self.patiently(&format!(
                    "{set} is being deleted: it waits until it is gone"
                ));
            }
        }
        let confirmed = self.operation.spec.destroy_keys.as_ref();
        if confirmed.is_none_or(|asked| asked.confirm != *set) {
            return self.failed("destroyKeys.confirm does not have the name of the target");
        }
        let place = match &self.setting.place {
            Ok(place) => place,
            Err(why) => return self.failed(why),
        };
        let Some(record) = self.record() else {
            return self.begun(place);
        };
        if let Some(secret) = secret
            && (secret.uid != record.secret_uid
                || secret.recipients.as_ref() != Ok(&record.recipients))
        {
            return self.failed(&format!(
                "the Secret {name} holds other keys by now than when this began"
            ));
        }
        if self.operation.spec.is_cancelled() && self.setting.pod.is_none() {
            return self.cancelled(record);
        }
        if record.copies.is_some() {
            return Step::DeleteSecret(record.secret_uid.clone());
        }
        self.copies(record)
    }

    fn patiently(&self, why: &str) -> Step {
        if self.operation.spec.is_cancelled() {
            return self.say(OperationPhase::Cancelled, "it was cancelled");
        }
        if self.is_late() {
            let seconds = self.operation.spec.timeout_seconds();
            return self.failed(&format!("given up after {seconds} s: {why}"));
        }
        self.wait(OperationPhase::Pending, why)
    }

    fn cancelled(&self, record: &DestroyedKeys) -> Step {
        let message = match &record.copies {
            None => "it was cancelled before anything was destroyed".to_owned(),
            Some(copies) => format!(
                "it was cancelled: {} copies for escrow were removed, and the Secret {} still opens the backups",
                copies.removed, self.setting.name
            ),
        };
        self.say(OperationPhase::Cancelled, message)
    }

    /// Writes down what is to be destroyed.
    fn begun(&self, place: &str) -> Step {
        if self.operation.spec.is_cancelled() {
            return self.say(OperationPhase::Cancelled, "it was cancelled");
        }
        let name = self.setting.name;
        let Some(secret) = &self.setting.secret else {
            return self.say(
                OperationPhase::Failed,
                format!("there is no Secret {name}: the keys are not in this cluster, and nothing was done"),
            );
        };
        let recipients = match &secret.recipients {
            Ok(recipients) => recipients.clone(),
            Err(why) => return self.failed(&format!("the Secret {name}: {why}")),
        };
        let message = format!("the copies of the keys in {place} are removed");
        let mut status = self.status(OperationPhase::Running, message);
        status.keys = Some(DestroyedKeys {
            secret: name.to_owned(),
            secret_uid: secret.uid.clone(),
            recipients,
            repository: place.to_owned(),
            ..DestroyedKeys::default()
        });
        self.told(status)
    }

    /// The pod, and what came of it.
    fn copies(&self, record: &DestroyedKeys) -> Step {
        let doing = format!(
            "the copies of the keys in {} are removed",
            record.repository
        );
        let Some(pod) = &self.setting.pod else {
            if self.is_late() {
                let status = self.operation.status.as_ref();
                let why = status.and_then(|s| s.message.clone()).unwrap_or(doing);
                let seconds = self.operation.spec.timeout_seconds();
                return self.failed(&format!("given up after {seconds} s: {why}"));
            }
            return Step::MakePod;
        };
        let words = pod.ended.get(CONTAINER).and_then(|e| e.words.as_deref());
        let report = words.and_then(|w| serde_json::from_str::<ShredReport>(w).ok());
        match (report, pod.phase) {
            (Some(report), _) if report.done => {
                let mut status = self.status(OperationPhase::Running, self.deleting());
                status.keys = Some(DestroyedKeys {
                    copies: Some(copies(&report, self.setting.now)),
                    ..record.clone()
                });
                self.told(status)
            }
            (Some(report), _) if !report.passes => self.failed(&report.message),
            (report, Phase::Succeeded | Phase::Failed) => {
                let why = report.map(|r| r.message).or_else(|| {
                    let (word, sentence) = pod.reason.clone()?;
                    Some(format!("{word}: {sentence}"))
                });
                let why = why.unwrap_or_else(|| "its pod ended without a word".to_owned());
                self.again(pod, &format!("{doing}{FAILED}{why}"))
            }
            (_, Phase::Going) => {
                let waiting = pod.waiting.as_deref().filter(|_| pod.running.is_empty());
                // Why the one before failed stays said.
                let status = self.operation.status.as_ref();
                let before = status.and_then(|s| s.message.clone());
                let before = before.filter(|said| said.starts_with(&format!("{doing}{FAILED}")));
                let doing = match waiting {
                    Some(why) => format!("{doing}: {why}"),
                    None => before.unwrap_or(doing),
                };
                if self.is_late() && pod.running.is_empty() {
                    return self.again(pod, &doing);
                }
                self.wait(OperationPhase::Running, doing)
            }
        }
    }

    /// A pod that came to nothing goes, and its reason is said before.
    fn again(&self, pod: &PodSeen, why: &str) -> Step {
        let said = self
            .operation
            .status
            .as_ref()
            .and_then(|s| s.message.as_deref());
        if said != Some(why) {
            return self.say(OperationPhase::Running, why);
        }
        if pod.deleting {
            return Step::Wait(None, LOOK);
        }
        Step::RemovePod
    }

    fn deleting(&self) -> String {
        format!("the Secret {} is deleted", self.setting.name)
    }

    fn done(&self, record: &DestroyedKeys) -> Step {
        let mut record = record.clone();
        record.secret_gone_at = Some(whole(self.setting.now));
        record.volumes = self.setting.volumes.iter().take(VOLUMES).cloned().collect();
        let message = self.outcome(&record);
        let mut status = self.status(OperationPhase::Succeeded, message);
        status.keys = Some(record);
        self.told(status)
    }

    /// In sentences what is destroyed, and what is not.
    fn outcome(&self, record: &DestroyedKeys) -> String {
        let copies = record.copies.clone().unwrap_or_default();
        let mut all = vec![format!(
            "the Secret {} is gone, and {} copies of its keys in {}",
            record.secret, copies.removed, record.repository
        )];
        if copies.others.is_empty() && copies.kept.is_empty() {
            let backups = copies.backups;
            all.push(format!(
                "no key that is known here opens its {backups} backups any more"
            ));
        }
        if !copies.others.is_empty() {
            all.push(format!(
                "whoever holds the key of {} still reads what was encrypted to it",
                copies.others.join(", ")
            ));
        }
        if let Some(first) = copies.kept.first() {
            let until = first.until.as_ref().map(|t| t.0.to_string());
            let until = until.map_or("for as long as it lasts".to_owned(), |t| {
                format!("until {t}")
            });
            all.push(format!(
                "{} copies are kept by a lock of the bucket ({} {until}), which an escrow key opens",
                copies.kept.len(),
                first.key
            ));
        }
        if self.setting.veiled && copies.removed > 0 {
            all.push(
                "whether the store keeps older versions of the copies cannot be seen".to_owned(),
            );
        }
        if !record.volumes.is_empty() {
            all.push(format!(
                "the data itself is still on {}",
                record.volumes.join(", ")
            ));
        }
        all.push(
            "a copy of that Secret elsewhere, as in a backup of the cluster, would open them"
                .to_owned(),
        );
        all.join("; ")
    }
}

fn copies(report: &ShredReport, now: Timestamp) -> Copies {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let mut others = report.others.clone();
    if report.unnamed {
        others.push("escrow recipients that no backup names".to_owned());
    }
    let kept = report.kept.iter().map(|copy| KeptCopy {
        key: copy.key.clone(),
        until: copy.until.map(|t| Time(whole(t).0)),
    });
    Copies {
        at: Some(whole(now)),
        removed: number(report.removed),
        kept: kept.collect(),
        backups: number(report.backups),
        others,
    }
}

#[cfg(test)]
#[path = "destroy_tests.rs"]
mod tests;
