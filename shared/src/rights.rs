//! The rights of a set's agents: their Lease and their EndpointSlice, by name, and nothing else.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::metadata::SetId;
use crate::names;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The account of a set's pods. Its token is not mounted by default, but projected where it is used.
pub fn service_account(set: &SetId) -> ServiceAccount {
    ServiceAccount {
        metadata: set.owned(&set.name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// What agents may do: watch and renew the set's Lease, watch and write its EndpointSlice. `list`
/// and `watch` of one name are granted for requests that select it by `metadata.name`.
pub fn role(set: &SetId) -> Role {
    let rule = |group: &str, resource: &str, name: String| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![name]),
        verbs: ["get", "list", "watch", "update"]
            .map(str::to_owned)
            .to_vec(),
        non_resource_urls: None,
    };
    Role {
        metadata: set.owned(&set.name),
        rules: Some(vec![
            rule("coordination.k8s.io", "leases", set.name.clone()),
            rule(
                "discovery.k8s.io",
                "endpointslices",
                names::primary_service(&set.name),
            ),
        ]),
    }
}

/// Gives the role to the account.
pub fn role_binding(set: &SetId) -> RoleBinding {
    RoleBinding {
        metadata: set.owned(&set.name),
        role_ref: RoleRef {
            api_group: RBAC.to_owned(),
            kind: "Role".to_owned(),
            name: set.name.clone(),
        },
        subjects: Some(vec![Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: set.name.clone(),
            namespace: Some(set.namespace.clone()),
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::db;

    #[test]
    fn every_right_is_bound_to_one_name() {
        for rule in role(&db()).rules.unwrap() {
            assert_eq!(rule.resource_names.unwrap().len(), 1);
            assert!(
                !rule
                    .verbs
                    .iter()
                    .any(|v| v == "create" || v == "delete" || v == "*")
            );
        }
    }
}
