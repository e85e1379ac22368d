//! The agents' Secret: one role per key, with what checks a password and never the password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::agent::config::Role;

/// Roles as a Secret, keyed by role name.
///
/// Assumption: role names are letters, digits, `_`, `-` and `.`, which the resource's rules see to.
///
/// # Errors
/// When a role cannot be written as JSON, which a plain data type always can.
pub fn roles_object(metadata: ObjectMeta, roles: &[Role]) -> Result<Secret, serde_json::Error> {
    let data = roles
        .iter()
        .map(|role| Ok((role.name.clone(), ByteString(serde_json::to_vec(role)?))))
        .collect::<Result<_, serde_json::Error>>()?;
    Ok(Secret {
        metadata,
        type_: Some("Opaque".into()),
        data: Some(data),
        ..Secret::default()
    })
}

/// The roles of such a Secret by name; what cannot be read is left out, so that it is made anew.
pub fn existing_roles(data: &BTreeMap<String, ByteString>) -> BTreeMap<String, Role> {
    data.values()
        .filter_map(|value| serde_json::from_slice::<Role>(&value.0).ok())
        .map(|role| (role.name.clone(), role))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_survive_their_secret_and_damaged_ones_are_left_out() {
        let role = Role {
            name: "app".into(),
            verifier: "SCRAM-SHA-256$…".into(),
            attributes: BTreeMap::from([("database".into(), "app".into())]),
        };
        let secret = roles_object(ObjectMeta::default(), std::slice::from_ref(&role)).unwrap();
        let mut data = secret.data.unwrap();
        data.insert("torn".into(), ByteString(b"{".to_vec()));
        assert_eq!(
            existing_roles(&data),
            BTreeMap::from([("app".into(), role)])
        );
    }
}
