//! The finalizer, and the end of a set in our order.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use mainstay_crds::common::backup::rules;
use mainstay_crds::common::{Deletion, KeptVolumes};
use serde_json::json;

use super::Pass;
use super::report::{PassError, Report};
use crate::apply::{ApplyError, Cause, Object, io};
use crate::backups::last::{Last, last, name};
use crate::conditions::reasons;
use crate::instances::Instance;
use crate::names;
use crate::operator::engine::{Engine, Leaving};
use crate::operator::{act, plan};
use crate::outcome::{Outcome, Wait};

/// What the API server puts on a resource whose dependents go before it.
const FOREGROUND: &str = "foregroundDeletion";
/// How a user gets on without the last backup.
const WITHOUT: &str = "to delete it without, write spec.deletion.finalBackup: false";

/// What becomes of a set that is being deleted.
pub(super) enum Leave {
    /// It is looked after as before, since its last backup is not there yet.
    Stays,
    /// It ends, and that becomes of its volumes.
    Ends(KeptVolumes),
}

impl<E: Engine> Pass<'_, E> {
    /// Whether a set that is being deleted ends. What it waits for is said; what is kept is, once it is there.
    ///
    /// Guarantee: where a last backup is asked for, volumes go only after the status has named a complete one. Where
    /// none can be made any more they are kept, whatever is asked for.
    pub(super) async fn leave(&self, report: &mut Report<E>) -> Leave {
        let Leaving { deletion, backups } = E::leaving(&self.root);
        let ours = self.root.finalizers().iter().any(|f| f == names::FINALIZER);
        let volumes = Deletion::volumes(deletion);
        let before = self.before.recovery.as_ref();
        let made = before.is_some_and(|r| r.final_backup.is_some());
        if !ours || made || !self.has_data(report) {
            return Leave::Ends(volumes);
        }
        let known = report.observed.backups.as_deref();
        let begun = self.root.meta().deletion_timestamp.as_ref();
        let begun = begun.map(|time| time.0);
        let keys = names::backup_keys(&self.set.name);
        let known = known.map(|all| last(&self.id, all, &keys, begun));
        // What was begun because it was asked for is not taken back by a change of something else, as of the
        // repository, on which the default depends.
        let is_begun = match &known {
            Some(known) => !matches!(known, Last::Missing(_)),
            None => before.is_some() && volumes == KeptVolumes::Delete,
        };
        let refused = deletion.and_then(|d| d.final_backup) == Some(false);
        let asked = Deletion::final_backup(deletion, backups);
        if refused || !(asked || is_begun) {
            if before.is_some_and(|r| r.kept.is_some()) {
                report.kept =
                    Some("no last backup was made: none is asked for any more".to_owned());
            }
            return Leave::Ends(volumes);
        }
        let without = |why: &str| {
            Some(format!(
                "no last backup was made, so volumes are kept: {why}"
            ))
        };
        if let Some(Last::Kept(words)) = &known {
            // What is destroyed on the strength of it is so in a later pass, which has read it.
            report.kept = Some(words.clone());
            report.final_backup = Some(name(&self.id));
            report.outcomes.look_after(Duration::ZERO);
            return Leave::Stays;
        }
        if self.root.finalizers().iter().any(|f| f == FOREGROUND) {
            report.kept =
                without("the resource is deleted in the foreground, which ends its pods first");
            return Leave::Ends(KeptVolumes::Retain);
        }
        if !backups {
            report.stall(reasons::INVALID, last_backup(rules::FINAL_BACKUP));
            return Leave::Stays;
        }
        match known {
            None => {
                let why = "it is not known yet which backups there are";
                report.progress(Outcome::Progressing(last_backup(why)));
            }
            Some(Last::Goes(_)) if self.is_paused() => {
                let why = format!("the annotation {} stops it", names::RECONCILE);
                report.progress(Outcome::Progressing(last_backup(&why)));
            }
            Some(Last::Kept(why) | Last::Goes(why)) => {
                report.progress(Outcome::Progressing(last_backup(&why)));
            }
            Some(Last::Failed(why)) => {
                let why = format!("{why}; to try again, delete that Backup");
                report.stall(reasons::BACKUP_FAILED, last_backup(&why));
            }
            Some(Last::Missing(backup)) => {
                let object = match Object::of(&*backup) {
                    Ok(object) => object,
                    Err(error) => {
                        report.failed(error);
                        return Leave::Stays;
                    }
                };
                match io::create(&self.context.client, &object).await {
                    Err(error) if matches!(error.cause, Cause::NamespaceGoing) => {
                        report.kept = without("the namespace is being deleted, and they with it");
                        return Leave::Ends(KeptVolumes::Retain);
                    }
                    Err(error) => report.failed(error),
                    Ok(_) => tracing::info!(set = %self.set, "its last backup is asked for"),
                }
                let why = format!("{} is asked for", backup.name_any());
                report.progress(Outcome::Progressing(last_backup(&why)));
            }
        }
        Leave::Stays
    }

    /// Whether there ever was data, as far as anything says.
    fn has_data(&self, report: &Report<E>) -> bool {
        let noted = |i: &Instance| {
            let claim = i.claim.as_ref();
            claim.is_some_and(|c| c.system_identifier.is_some())
        };
        let record = report.observed.record();
        self.before.system_identifier.is_some()
            || record.is_some_and(|r| r.system_identifier.is_some())
            || report.observed.instances.iter().any(noted)
            // Of what was set aside by a restore as well.
            || report.observed.aside.iter().any(noted)
    }

    /// The end of a set. Returns whether the resource is gone by this.
    pub(super) async fn end(&self, report: &mut Report<E>, volumes: KeptVolumes) -> bool {
        if !self.root.finalizers().iter().any(|f| f == names::FINALIZER) {
            return true;
        }
        let ending = plan::ending(&report.observed, volumes);
        for seen in &ending.delete {
            let deleted = io::delete(&self.context.client, seen).await;
            report.outcomes.request(deleted.map_err(PassError::from));
        }
        report.working = true;
        if ending.left.is_empty() {
            match self.finalizer(false).await {
                Ok(()) => {
                    tracing::info!(set = %self.set, "the set has ended");
                    return true;
                }
                Err(error) => report.failed(error),
            }
        }
        if let Some(first) = ending.left.first() {
            tracing::debug!(set = %self.set, left = ?ending.left, "the set is ending");
            report.progress(Outcome::Progressing(Wait {
                step: "end the set".to_owned(),
                predicate: "wait_until_nothing_of_it_is_left",
                reason: format!("{first} is still there"),
                after: None,
            }));
        }
        false
    }

    /// Add or remove our finalizer. The resource version keeps the patch from undoing what someone
    /// else did to the list meanwhile.
    pub(super) async fn finalizer(&self, wanted: bool) -> Result<(), ApplyError> {
        let mut all: Vec<&str> = self.root.finalizers().iter().map(String::as_str).collect();
        all.retain(|f| *f != names::FINALIZER);
        if wanted {
            all.push(names::FINALIZER);
        }
        let body = json!({"metadata": {
            "resourceVersion": self.root.resource_version(),
            "finalizers": all,
        }});
        let api: Api<E::Resource> =
            Api::namespaced(self.context.client.clone(), &self.set.namespace);
        match api
            .patch(&self.set.name, &PatchParams::default(), &Patch::Merge(body))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() && !wanted => Ok(()),
            Err(error) => Err(act::failed::<E::Resource>(
                "patch",
                &self.set,
                &self.set.name,
                error,
            )),
        }
    }

    /// Make sure that the resource ends only in our order.
    pub(super) async fn hold(&self) -> Result<(), ApplyError> {
        let held = self.root.finalizers().iter().any(|f| f == names::FINALIZER);
        if held {
            Ok(())
        } else {
            self.finalizer(true).await
        }
    }
}

fn last_backup(why: &str) -> Wait {
    Wait {
        step: "make the last backup".to_owned(),
        predicate: "wait_for_the_last_backup",
        reason: format!("{why}; {WITHOUT}"),
        after: None,
    }
}
