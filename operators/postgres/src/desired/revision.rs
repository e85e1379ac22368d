//! The revision of a pod's template: what of the resource is in a pod and changes only with it.
//!
//! The operator's own image, and how it shapes a pod, are not in it: upgrading the operator
//! restarts no data pod.

use mainstay_shared::operator::desired::revision::{Revision, inputs, of_repository};

use crate::validate::Validated;

/// The revision of a resource.
///
/// Guarantee: the same resource has the same revision in every release of the operator. A field
/// that a later release adds must be left out while it is not set.
pub fn revision(v: &Validated) -> Revision {
    let mut inputs = inputs(&v.common, v.major.to_string());
    if let Some(backup) = &v.backup {
        of_repository(&mut inputs, &backup.access);
    }
    Revision::of(&inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::db;
    use mainstay_shared::instances::template::first_difference;

    #[test]
    fn a_revision_never_changes_for_the_same_resource() {
        let revision = revision(&db());
        assert_eq!(
            revision.inputs,
            r#"{"cpu":"250m","image":"postgres:17.12","memory":"512Mi","version":"17"}"#
        );
        // A constant on purpose: another value here means that upgrading restarts every pod.
        assert_eq!(revision.hash, "d25f89aa86764095");
    }

    #[test]
    fn another_image_in_the_catalogue_rolls_nothing() {
        let mut v = db();
        v.common.image_is_named = false;
        let before = revision(&v);
        v.common.image = "postgres:17.13".into();
        assert_eq!(revision(&v), before);
    }

    #[test]
    fn what_a_pod_does_not_hold_does_not_count() {
        let mut v = db();
        v.common.instances = 5;
        v.common.storage *= 2;
        v.parameters.insert("work_mem".into(), "8MB".into());
        v.common.certificate_hours = 1;
        v.common.placement = Some(mainstay_crds::common::Placement::default());
        assert_eq!(revision(&v), revision(&db()));
    }

    #[test]
    fn a_difference_is_told_in_words() {
        let old = revision(&db()).inputs;
        let mut v = db();
        v.common.memory *= 2;
        assert_eq!(
            first_difference(&old, &revision(&v).inputs).as_deref(),
            Some("memory: 512Mi → 1Gi")
        );
        v = db();
        v.common.placement = Some(mainstay_crds::common::Placement {
            priority_class: Some("high".into()),
            ..Default::default()
        });
        assert_eq!(
            first_difference(&old, &revision(&v).inputs).as_deref(),
            Some("placement.priorityClass: not set → high")
        );
    }
}
