//! The revision of a pod's template: what of the resource is in a pod and changes only with it.

use mainstay_shared::operator::desired::revision::{Revision, inputs, of_repository};

use crate::settings::Flavour;
use crate::validate::Validated;

/// The revision of a resource.
///
/// Guarantee: the same resource has the same revision in every release of the operator. A field
/// that a later release adds must be left out while it is not set.
pub fn revision(v: &Validated) -> Revision {
    let engine = match v.flavour {
        Flavour::Redis => "Redis",
        Flavour::Valkey => "Valkey",
    };
    let mut inputs = inputs(&v.common, format!("{engine} {}", v.version));
    if let Some(backup) = &v.backup {
        of_repository(&mut inputs, &backup.access);
    }
    Revision::of(&inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::cache;

    #[test]
    fn a_revision_never_changes_for_the_same_resource() {
        let revision = revision(&cache());
        assert_eq!(
            revision.inputs,
            r#"{"cpu":"250m","image":"redis:8.0.2","memory":"512Mi","version":"Redis 8.0"}"#
        );
        // A constant on purpose: another value here means that upgrading restarts every pod.
        assert_eq!(revision.hash, "3daece7d2e144753");
    }

    #[test]
    fn what_a_pod_does_not_hold_does_not_count() {
        let mut v = cache();
        v.common.instances = 5;
        v.common.storage *= 2;
        v.parameters.insert("hz".into(), "20".into());
        v.policy = "allkeys-lru".into();
        assert_eq!(revision(&v), revision(&cache()));
        v.common.memory *= 2;
        assert_ne!(revision(&v), revision(&cache()));
    }
}
