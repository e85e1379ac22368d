//! The application's Secret, and what the agents know of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use mainstay_shared::access::{Binding, Password, encoded, roles_object};
use mainstay_shared::agent::config::Role;
use mainstay_shared::names;

use super::scram;
use crate::settings::PORT;
use crate::validate::Validated;

/// Attribute of a role: database that it owns.
pub const DATABASE: &str = "database";

/// The application's Secret: the only object with a password. `ca` is the authority's certificate.
///
/// Hosts are written without the cluster's domain, which is not the same everywhere.
pub fn application_secret(v: &Validated, password: &Password, ca: &str) -> Secret {
    let host = |service: String| format!("{service}.{}.svc", v.common.set.namespace);
    let primary = host(names::primary_service(&v.common.set.name));
    let place = format!("{primary}:{PORT}/{}", v.database);
    let login = format!("{}:{}", encoded(&v.owner), encoded(password.expose()));
    let mut more = BTreeMap::from([
        ("database".into(), v.database.clone()),
        ("sslmode".into(), "verify-full".into()),
        (
            "uri".into(),
            format!("postgresql://{login}@{place}?sslmode=verify-full"),
        ),
        (
            "jdbc-uri".into(),
            format!("jdbc:postgresql://{place}?sslmode=verify-full"),
        ),
    ]);
    if let Some(pooler) = &v.pooler {
        let primary = host(names::primary_pooler(&v.common.set.name));
        let place = format!("{primary}:{PORT}/{}", v.database);
        more.extend([
            ("pooler-host".into(), primary),
            (
                "pooler-uri".into(),
                format!("postgresql://{login}@{place}?sslmode=verify-full"),
            ),
            (
                "pooler-jdbc-uri".into(),
                format!("jdbc:postgresql://{place}?sslmode=verify-full"),
            ),
        ]);
        if pooler.replicas {
            let replicas = host(names::replica_pooler(&v.common.set.name));
            more.insert("pooler-replica-host".into(), replicas);
        }
    }
    let binding = Binding {
        engine: "postgresql".into(),
        replica_host: (v.common.instances > 1)
            .then(|| host(names::replica_service(&v.common.set.name))),
        host: primary,
        port: PORT,
        username: v.owner.clone(),
        password: password.clone(),
        ca: ca.to_owned(),
        more,
    };
    binding.to_secret(
        v.common
            .set
            .kept(names::application_secret(&v.common.set.name), "credentials"),
    )
}

/// Keys that stand in the application's Secret at times only.
pub const PASSING: [&str; 5] = [
    "pooler-host",
    "pooler-jdbc-uri",
    "pooler-replica-host",
    "pooler-uri",
    "replica-host",
];

/// The agents' Secret. A verifier in `existing` that still checks `password` is kept; else, also
/// when somebody edited the application's Secret, a new one is made with `salt`.
///
/// # Errors
/// When a role cannot be written as JSON, which it always can.
pub fn access_secret(
    v: &Validated,
    password: &Password,
    existing: &BTreeMap<String, Role>,
    salt: &[u8; scram::SALT_BYTES],
) -> Result<Secret, serde_json::Error> {
    let kept = existing
        .get(&v.owner)
        .map(|role| role.verifier.as_str())
        .filter(|verifier| scram::checks(verifier, password));
    let role = Role {
        name: v.owner.clone(),
        verifier: kept.map_or_else(|| scram::verifier(password, salt), str::to_owned),
        attributes: BTreeMap::from([(DATABASE.into(), v.database.clone())]),
    };
    roles_object(
        v.common
            .set
            .kept(names::access_secret(&v.common.set.name), "credentials"),
        &[role],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::db;
    use k8s_openapi::ByteString;
    use mainstay_shared::access::{ENTROPY_BYTES, existing_roles};
    use mainstay_shared::apply::Object;
    use mainstay_shared::operator::desired::credentials::stale_keys;

    fn text(secret: &Secret, key: &str) -> String {
        String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
    }

    #[test]
    fn the_uri_takes_any_password() {
        let password = Password::from_bytes("p@ss:wörd/%".as_bytes()).unwrap();
        let secret = application_secret(&db(), &password, "PEM");
        assert_eq!(
            text(&secret, "uri"),
            "postgresql://app:p%40ss%3Aw%C3%B6rd%2F%25@db-rw.shop.svc:5432/app?sslmode=verify-full"
        );
        assert_eq!(text(&secret, "password"), "p@ss:wörd/%");
        assert_eq!(text(&secret, "replica-host"), "db-ro.shop.svc");
    }

    #[test]
    fn only_keys_of_ours_that_come_and_go_are_taken_back() {
        let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let of = |v: &Validated| application_secret(v, &password, "PEM");
        let mut live = of(&crate::desired::tests::pooled()).data.unwrap();
        live.insert("mine".into(), ByteString(vec![]));
        let wanted = Object::of(&of(&db())).unwrap();
        assert_eq!(
            stale_keys(&wanted, &live, &PASSING),
            [
                "pooler-host",
                "pooler-jdbc-uri",
                "pooler-replica-host",
                "pooler-uri"
            ]
        );
        assert_eq!(
            stale_keys(&wanted, &of(&db()).data.unwrap(), &PASSING),
            [] as [&str; 0]
        );
    }

    #[test]
    fn a_verifier_is_kept_until_the_password_changes() {
        let secret_of = |password: &Password, existing: &BTreeMap<_, _>, salt| {
            let secret = access_secret(&db(), password, existing, &[salt; 16]).unwrap();
            existing_roles(&secret.data.unwrap())
        };
        let first = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let made = secret_of(&first, &BTreeMap::new(), 1);
        assert_eq!(secret_of(&first, &made, 2), made);
        let edited = Password::from_entropy(&[2; ENTROPY_BYTES]);
        let followed = secret_of(&edited, &made, 2);
        assert_ne!(followed, made);
        assert!(scram::checks(&followed["app"].verifier, &edited));
    }
}
