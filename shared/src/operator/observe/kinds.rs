//! The kinds of children, and to which set an object belongs.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::Config as Watch;
use mainstay_crds::access::Access;
use mainstay_crds::backup::Backup;
use mainstay_crds::operation::Operation;
use mainstay_crds::restore::Restore;

use crate::metadata::drill_app;
use crate::names;
use crate::traffic::{SLICE_MANAGED_BY, SLICE_MANAGER};
use crate::watch::{Kind, SetKey};

/// Kind of pods.
pub const POD: &str = "Pod";
/// Kind of volume claims.
pub const CLAIM: &str = "PersistentVolumeClaim";
/// Kind of the objects with files.
pub const CONFIG_MAP: &str = "ConfigMap";
/// Kind of network policies.
pub const NETWORK_POLICY: &str = "NetworkPolicy";
/// Kind of Leases.
pub const LEASE: &str = "Lease";
/// Kind of Secrets.
pub const SECRET: &str = "Secret";
/// Kind of Services.
pub const SERVICE: &str = "Service";
/// Kind of the objects by which clients are led.
pub const ENDPOINT_SLICE: &str = "EndpointSlice";
/// Kind of restores in place.
pub const RESTORE: &str = "Restore";
/// Kind of operations.
pub const OPERATION: &str = "Operation";
/// Kind of logins.
pub const ACCESS: &str = "Access";
/// Kind of backups.
pub const BACKUP: &str = "Backup";

/// Every kind that sets have children of; all are watched, so that what is changed or deleted by
/// somebody else is put right. `more`: those that only sets of one engine have.
pub fn all(more: &[Kind]) -> Vec<Kind> {
    let mut all = vec![
        Kind::of::<Pod>(POD),
        Kind::of::<PersistentVolumeClaim>(CLAIM),
        Kind::of::<Secret>(SECRET),
        Kind::of::<Service>(SERVICE),
        Kind::of::<ConfigMap>(CONFIG_MAP),
        Kind::of::<EndpointSlice>(ENDPOINT_SLICE),
        Kind::of::<PodDisruptionBudget>("PodDisruptionBudget"),
        Kind::of::<NetworkPolicy>(NETWORK_POLICY),
        Kind::of::<Lease>(LEASE),
        Kind::of::<ServiceAccount>("ServiceAccount"),
        Kind::of::<Role>("Role"),
        Kind::of::<RoleBinding>("RoleBinding"),
    ];
    all.extend_from_slice(more);
    all
}

/// Which objects of a kind are children of sets of the add-on `app`: of pods those of instances and of drills.
pub fn children(kind: &Kind, app: &str) -> Watch {
    let app = match kind.name {
        POD => format!("{} in ({app},{})", names::APP_NAME, drill_app(app)),
        _ => format!("{}={app}", names::APP_NAME),
    };
    Watch::default().labels(&format!("{}={},{app}", names::MANAGED_BY, names::MANAGER))
}

/// Operations, which users make.
pub fn operations() -> Kind {
    Kind::of::<Operation>(OPERATION)
}

/// Logins, which users ask for.
pub fn accesses() -> Kind {
    Kind::of::<Access>(ACCESS)
}

/// Backups, which users and the schedule make.
pub fn backups() -> Kind {
    Kind::of::<Backup>(BACKUP)
}

/// Restores in place, which users make.
pub fn restores() -> Kind {
    Kind::of::<Restore>(RESTORE)
}

/// Which of them are done to resources of this kind.
pub fn done_to(kind: &str) -> Watch {
    Watch::default().fields(&format!("spec.target.kind={kind}"))
}

/// The set of this kind that an operation is done to, or a backup made of.
pub fn target_of(object: &DynamicObject, kind: &str) -> Option<SetKey> {
    let target = object.data.get("spec")?.get("target")?;
    (target.get("kind")?.as_str()? == kind).then_some(())?;
    Some(SetKey {
        namespace: object.namespace()?,
        name: target.get("name")?.as_str()?.to_owned(),
    })
}

/// The set of the add-on `app` that a child belongs to. Authorities live in the operator's namespace: their name tells
/// namespace and set.
pub fn set_of(object: &DynamicObject, app: &str, operator_namespace: &str) -> Option<SetKey> {
    let namespace = object.namespace()?;
    // Kubernetes copies the labels of a Service to the slices that it makes for it: those are its.
    let maker = object.labels().get(SLICE_MANAGED_BY);
    if maker.is_some_and(|maker| maker != SLICE_MANAGER) {
        return None;
    }
    let name = object.labels().get(names::APP_INSTANCE)?;
    let is_authority = object
        .labels()
        .get(names::PART)
        .is_some_and(|part| part == "ca");
    if is_authority && namespace == operator_namespace {
        let own = object.name_any();
        let rest = own
            .strip_prefix(app)?
            .strip_prefix('.')?
            .strip_suffix(".ca")?;
        let (namespace, set) = rest.split_once('.')?;
        return Some(SetKey {
            namespace: namespace.to_owned(),
            name: set.to_owned(),
        });
    }
    Some(SetKey {
        namespace,
        name: name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;

    use super::*;

    const APP: &str = "addon";

    fn secret(namespace: &str, name: &str, part: &str) -> DynamicObject {
        let mut object =
            DynamicObject::new(name, &ApiResource::erase::<Secret>(&())).within(namespace);
        object
            .labels_mut()
            .insert(names::APP_INSTANCE.into(), "db".into());
        object.labels_mut().insert(names::PART.into(), part.into());
        object
    }

    #[test]
    fn the_slices_that_kubernetes_makes_are_not_ours() {
        let mut slice = secret("shop", "db-ro-x7k2p", "");
        slice.labels_mut().insert(
            SLICE_MANAGED_BY.into(),
            "endpointslice-controller.k8s.io".into(),
        );
        assert_eq!(set_of(&slice, APP, "ops"), None);
    }

    #[test]
    fn an_authority_belongs_to_the_set_in_its_name() {
        let name = names::authority_secret(APP, "shop", "db");
        let shop = Some(SetKey {
            namespace: "shop".into(),
            name: "db".into(),
        });
        assert_eq!(set_of(&secret("ops", &name, "ca"), APP, "ops"), shop);
        assert_eq!(
            set_of(&secret("shop", "db-1-tls", "certificate"), APP, "ops"),
            shop
        );
    }
}
