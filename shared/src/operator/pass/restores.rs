//! Going back in time in place (I/O): one step of what [`crate::backups::restores`] decides in each pass.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use mainstay_crds::restore::{Restore, RestorePhase};
use serde_json::json;

use super::report::{PassError, Report};
use super::{LOOK, Pass};
use crate::apply::inventory::Seen;
use crate::apply::{ApplyError, Object, io};
use crate::backups::restores::{self, Lease, Setting, Stance, Step, Told};
use crate::conditions::reasons;
use crate::names;
use crate::operator::act::failed;
use crate::operator::engine::Engine;
use crate::operator::observe::Observed;
use crate::operator::observe::kinds::{CLAIM, ENDPOINT_SLICE, POD};
use crate::operator::validated::Validated;
use crate::outcome::{Outcome, Wait};

/// Whether the set has volumes that were set aside, no data, and nobody who says what its data is to be: then
/// nothing is made, for it would be empty.
pub(super) fn is_forsaken<E: Engine>(report: &mut Report<E>) -> bool {
    let observed = &report.observed;
    let usual = matches!(restores::stance(&observed.restores), Stance::Usual);
    let noted = observed
        .instances
        .iter()
        .filter_map(|i| i.claim.as_ref())
        .any(|c| c.system_identifier.is_some());
    let has_data = noted
        || observed
            .record()
            .is_some_and(|r| r.system_identifier.is_some());
    let Some(first) = observed.aside.first().filter(|_| usual && !has_data) else {
        return false;
    };
    let reason = format!(
        "its volumes were set aside by a restore whose object is gone, and nothing is made in their place: take the label {} away from {} and the others to use them again",
        names::SET_ASIDE,
        names::data_claim(&first.name)
    );
    report.stall(reasons::FAILED, wait(reason));
    true
}

impl<E: Engine> Pass<'_, E> {
    /// One step of what is decided. `busy`: what goes on in instances and is waited for.
    pub(super) async fn look_after_restores(
        &self,
        report: &mut Report<E>,
        validated: &Validated<E>,
        seat: &str,
        busy: Option<&str>,
    ) {
        if report.observed.restores.is_empty() {
            return;
        }
        let stopped = self.is_stopped(report).await;
        let (decision, waits, due) = {
            let observed = &report.observed;
            let setting = Setting {
                now: self.now,
                set: &self.set.name,
                seat,
                lease: Ok(observed.lease.as_ref().map(|lease| Lease {
                    epoch: observed.record().map_or(0, |r| r.epoch),
                    timeline: lease.timeline,
                    initialised: observed
                        .record()
                        .is_some_and(|r| r.system_identifier.is_some()),
                })),
                instances: &observed.instances,
                aside: &observed.aside,
                report: report.primary_backup.as_ref(),
                // A set that leads itself has no first instance to begin with.
                possible: E::IN_PLACE && !validated.common.self_led,
                logged: E::LOGGED,
                has_repository: validated.common.backup.is_some(),
                stopped,
                busy,
                deleting: self.is_deleting(),
                paused: self.is_paused(),
            };
            let all = &observed.restores;
            let decision = restores::decide(all, &setting);
            let active = restores::active(all).and_then(|r| r.status.as_ref()?.message.clone());
            (decision, active, restores::due(all, &setting))
        };
        if let Some(due) = due.filter(|due| *due > self.now) {
            report.look_at(due, self.now);
        }
        if let Some(reason) = waits {
            report.outcomes.look_after(LOOK);
            report.progress(Outcome::Progressing(wait(reason)));
        }
        for told in decision.says {
            if let Err(error) = self.say_of_restore(&told).await {
                report.failed(error);
            }
        }
        if let Some(step) = decision.step
            && let Err(error) = self.step_of_restore(report, &step).await
        {
            report.failed(error);
        }
    }

    /// Say something of a restore. One that has changed since it was seen, or is gone, is looked at anew.
    async fn say_of_restore(&self, told: &Told) -> Result<(), ApplyError> {
        let (restore, status) = (&told.restore, &told.status);
        match io::write_status_as_seen(&self.context.client, restore, status).await {
            Ok(()) => {
                if let Some(happening) = restores::happening(told) {
                    tracing::info!(set = %self.set, restore = restore.name_any(), phase = ?status.phase, "a restore in place");
                    self.context
                        .events
                        .report(&restore.object_ref(&()), happening);
                }
                Ok(())
            }
            Err(error) if error.cause.is_overtaken() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn step_of_restore(&self, report: &Report<E>, step: &Step) -> Result<(), PassError> {
        let observed = &report.observed;
        match step {
            Step::Hold(restore) => hold(self, restore, true).await?,
            Step::Release(restore) => hold(self, restore, false).await?,
            Step::DeletePod { instance, uid } => {
                tracing::info!(set = %self.set, instance, "deleting the pod, to go back in time");
                self.delete_seen(observed, POD, instance, uid).await?;
            }
            Step::DeleteClaim { instance, uid } => {
                tracing::info!(set = %self.set, instance, "deleting the claim that was set aside");
                let claim = names::data_claim(instance);
                self.delete_seen(observed, CLAIM, &claim, uid).await?;
            }
            Step::Label {
                instance,
                uid,
                resource_version,
                aside,
            } => {
                let body = json!({"metadata": {
                    "uid": uid,
                    "resourceVersion": resource_version,
                    "labels": {names::SET_ASIDE: aside},
                }});
                let claim = names::data_claim(instance);
                tracing::info!(set = %self.set, claim, aside = aside.is_some(), "changing a claim over");
                self.patch::<PersistentVolumeClaim>(&claim, &body).await?;
            }
            Step::DeleteLease => {
                let slice = names::primary_service(&self.set.name);
                let slice = observed
                    .live
                    .iter()
                    .find(|o| {
                        o.resource.kind == ENDPOINT_SLICE && o.meta("name") == Some(slice.as_str())
                    })
                    .and_then(Seen::of);
                // Nobody is led to where nobody is, nor to who comes there next.
                if let Some(slice) = slice {
                    io::delete(&self.context.client, &slice).await?;
                }
                if let Some(lease) = observed.lease.as_ref().and_then(|l| l.seen.as_ref()) {
                    io::delete(&self.context.client, lease).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the API server has no pod of the set any more; asked only when it matters.
    async fn is_stopped(&self, report: &mut Report<E>) -> bool {
        let observed = &report.observed;
        let stops = restores::active(&observed.restores)
            .is_some_and(|r| restores::phase(r) != RestorePhase::Restoring);
        let seen = |o: &Object| {
            let name = o.meta("name").unwrap_or_default();
            o.resource.kind == POD && names::ordinal(&self.set.name, name).is_some()
        };
        if !stops || observed.volumes_and_pods.iter().any(seen) {
            return false;
        }
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        let labels = self.id.selector();
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let of_set = ListParams::default().labels(&labels.join(","));
        match pods.list(&of_set).await {
            Ok(list) => list.items.is_empty(),
            Err(error) => {
                report.failed(failed::<Pod>("list", &self.set, &self.set.name, error));
                false
            }
        }
    }

    async fn delete_seen(
        &self,
        observed: &Observed,
        kind: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), ApplyError> {
        let object = observed.volumes_and_pods.iter().find(|o| {
            o.resource.kind == kind && o.meta("name") == Some(name) && o.meta("uid") == Some(uid)
        });
        if let Some(seen) = object.and_then(Seen::of) {
            io::delete(&self.context.client, &seen).await?;
        }
        Ok(())
    }

    /// Merge a few fields into an object. One that is gone meanwhile, or changed, is looked at anew.
    async fn patch<K>(&self, name: &str, body: &serde_json::Value) -> Result<(), ApplyError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<K> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        match api.patch(name, &parameters, &Patch::Merge(body)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(failed::<K>("patch", &self.set, name, error)),
        }
    }
}

async fn hold<E: Engine>(
    pass: &Pass<'_, E>,
    restore: &Restore,
    wanted: bool,
) -> Result<(), ApplyError> {
    let body = finalizers(restore, wanted);
    pass.patch::<Restore>(&restore.name_any(), &body).await
}

/// The patch by which a restore is kept from going, or let go. The resource version keeps it from undoing what somebody
/// else did to the list.
pub(crate) fn finalizers(restore: &Restore, wanted: bool) -> serde_json::Value {
    let mut all: Vec<&str> = restore.finalizers().iter().map(String::as_str).collect();
    all.retain(|f| *f != names::RESTORE_FINALIZER);
    if wanted {
        all.push(names::RESTORE_FINALIZER);
    }
    json!({"metadata": {
        "uid": restore.uid(),
        "resourceVersion": restore.resource_version(),
        "finalizers": all,
    }})
}

/// Ordinals of claims that are set aside.
pub(super) fn taken(observed: &Observed) -> BTreeSet<u32> {
    observed.aside.iter().map(|i| i.ordinal).collect()
}

fn wait(reason: String) -> Wait {
    Wait {
        step: "go back in time in place".to_owned(),
        predicate: "wait_for_the_restore",
        reason,
        after: None,
    }
}
