//! The Lease, which says who may be primary.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DynamicObject;

use super::report::{PassError, Report};
use super::{LOOK, Pass};
use crate::apply::{Object, io};
use crate::conditions::reasons;
use crate::names;
use crate::operator::engine::Engine;
use crate::outcome::{Outcome, Wait};

impl<E: Engine> Pass<'_, E> {
    /// Whether no set of another kind has this name in the namespace: both would want the same Services, pods and
    /// claims. Whoever has the Lease was first; it is looked for only while this set has none.
    async fn name_is_free(&self, report: &mut Report<E>) -> bool {
        if self.is_deleting() {
            return true;
        }
        let found = match self.lease_of_anybody().await {
            Ok(found) => found,
            Err(error) => {
                report.failed(error);
                return false;
            }
        };
        let labels = found.and_then(|lease| lease.metadata.labels);
        let labels = labels.unwrap_or_default();
        let ours = labels.get(names::MANAGED_BY).map(String::as_str) == Some(names::MANAGER);
        let Some(other) = labels
            .get(names::APP_NAME)
            .filter(|app| ours && *app != E::APP)
        else {
            return true;
        };
        let wait = Wait {
            step: "begin the set".to_owned(),
            predicate: "wait_until_the_name_is_free",
            reason: format!(
                "a set of kind {other} has the name {} in this namespace already, and pods, Services and volumes would have the \
                 same names: make this resource under another name",
                self.set.name
            ),
            after: Some(LOOK),
        };
        report.stall(reasons::NAME_TAKEN, wait);
        false
    }

    async fn lease_of_anybody(&self) -> Result<Option<DynamicObject>, PassError> {
        let lease = Object::of(&Lease {
            metadata: self.id.kept(&self.set.name, "lease"),
            spec: None,
        })?;
        Ok(io::get(&self.context.client, &lease).await?)
    }

    /// Whether the Lease can be decided on. One that an earlier set of this name left behind, with
    /// none of its data left, is deleted; the watch then brings the next pass about.
    pub(super) async fn lease_is_usable(&self, report: &mut Report<E>) -> bool {
        let Some(lease) = &report.observed.lease else {
            return self.name_is_free(report).await;
        };
        let record = match &lease.record {
            Ok(record) => record,
            Err(error) => {
                let wait = Wait {
                    step: "find out who may be primary".to_owned(),
                    predicate: "wait_for_a_readable_lease",
                    reason: error.to_string(),
                    after: None,
                };
                report.stall(reasons::FAILED, wait);
                return false;
            }
        };
        let is_left_behind = record.system_identifier.is_some()
            && self.before.system_identifier.is_none()
            && report.observed.instances.is_empty();
        if !is_left_behind || self.is_paused() {
            return true;
        }
        tracing::info!(set = %self.set, "deleting the Lease of an earlier set without data");
        if let Some(seen) = &lease.seen {
            let deleted = io::delete(&self.context.client, seen).await;
            report.outcomes.request(deleted.map_err(PassError::from));
        }
        report.working = true;
        report.progress(Outcome::Progressing(Wait {
            step: "delete the Lease of an earlier set without data".to_owned(),
            predicate: "wait_for_the_cache_to_catch_up",
            reason: format!("the Lease {} is still there", self.set.name),
            after: Some(LOOK),
        }));
        false
    }
}
