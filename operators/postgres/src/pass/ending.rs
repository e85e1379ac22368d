//! The finalizer, and the end of a set in our order.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use mainstay_crds::common::Deletion;
use mainstay_crds::postgres::Postgres;
use mainstay_shared::apply::{ApplyError, io};
use mainstay_shared::names;
use mainstay_shared::outcome::{Outcome, Wait};
use serde_json::json;

use super::Pass;
use super::report::{PassError, Report};
use crate::{act, plan};

impl Pass<'_> {
    /// The end of a set. Returns whether the resource is gone by this.
    pub(super) async fn end(&self, report: &mut Report) -> bool {
        if !self.root.finalizers().iter().any(|f| f == names::FINALIZER) {
            return true;
        }
        let kept = Deletion::volumes(self.root.spec.deletion.as_ref());
        let ending = plan::ending(&report.observed, kept);
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
        let api: Api<Postgres> = Api::namespaced(self.context.client.clone(), &self.set.namespace);
        match api
            .patch(&self.set.name, &PatchParams::default(), &Patch::Merge(body))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() && !wanted => Ok(()),
            Err(error) => Err(act::failed::<Postgres>(
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
