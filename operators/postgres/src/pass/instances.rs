//! What a pass has to know of instances before it plans.

use mainstay_crds::postgres::PostgresStatus;
use mainstay_shared::conditions::reasons;
use mainstay_shared::instances::Instance;
use mainstay_shared::outcome::Wait;
use mainstay_shared::rollout::Expectations;

use super::report::Report;
use super::{LOOK, Pass};
use crate::desired::revision::revision;
use crate::observe::{Observed, classes};
use crate::validate::Validated;

impl Pass<'_> {
    /// Own writes that the caches do not show yet.
    pub(super) fn unseen(
        &self,
        observed: &Observed,
        expectations: &mut Expectations,
    ) -> Option<String> {
        let pods: Vec<(&str, &str, bool)> = observed
            .instances
            .iter()
            .filter_map(|i| {
                i.pod
                    .as_ref()
                    .map(|p| (i.name.as_str(), p.uid.as_str(), p.deleting))
            })
            .collect();
        expectations.settle(&pods, self.now);
        let restarting = |i: &&Instance| self.context.talk.is_restarting(&self.set, i);
        expectations.unmet().or_else(|| {
            let instance = observed.instances.iter().find(restarting)?;
            Some(format!("the restart of {} is not finished", instance.name))
        })
    }

    /// While a volume is not there, find out whether its class is.
    pub(super) async fn check_class(
        &self,
        report: &mut Report,
        validated: &Validated,
        members: &[String],
    ) {
        let provided = |name: &String| {
            let instance = report.observed.instance(name);
            instance
                .and_then(|i| i.claim.as_ref())
                .is_some_and(|c| c.bound)
        };
        if members.iter().all(provided) {
            return;
        }
        let class = validated.storage_class.as_deref();
        if let Some(missing) = classes::missing(&self.context.client, class).await {
            let wait = Wait {
                step: "provide the volumes".to_owned(),
                predicate: "wait_for_the_storage_class",
                reason: missing,
                after: Some(LOOK),
            };
            report.stall(reasons::NO_VOLUME, wait);
        }
    }
}

/// An image from the catalogue is pinned by the pods that run it: a change of the catalogue rolls
/// nothing. Without any pod, what the status shows of the same revision counts.
pub(super) fn pin_image(validated: &mut Validated, observed: &Observed, before: &PostgresStatus) {
    if validated.image_is_named {
        return;
    }
    let hash = revision(validated).hash;
    let of_pods = observed
        .instances
        .iter()
        .filter_map(|i| i.pod.as_ref())
        .filter(|p| p.revision.as_ref() == Some(&hash))
        .find_map(|p| p.image.clone());
    let of_status = || {
        let same = before
            .instances
            .iter()
            .any(|i| i.revision.as_ref() == Some(&hash));
        before.image.clone().filter(|_| same)
    };
    if let Some(image) = of_pods.or_else(of_status) {
        validated.image = image;
    }
}
