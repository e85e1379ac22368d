//! The application's Secret, the set's own passwords, and what the agents know of both.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mainstay_shared::access::{Binding, ENTROPY_BYTES, Password, encoded, entropy, roles_object};
use mainstay_shared::agent::config::Role;
use mainstay_shared::hex::hex;
use mainstay_shared::names;
use mainstay_shared::operator::desired::credentials::{Credentials, CredentialsError, Given};
use mainstay_shared::operator::logins::Login;
use sha2::{Digest, Sha256};

use super::{login, sentinel};
use crate::settings::{
    BACKUP_PASSWORD, BACKUP_ROLE, BACKUP_RULES, CLUSTER_PASSWORD, CLUSTER_ROLE, CLUSTER_RULES,
    PORT, PROBE_KEY, PROBE_ROLE, REPLICATION_PASSWORD, REPLICATION_ROLE, RULES,
};
use crate::validate::Validated;

/// The application's ACL user.
pub const USER: &str = "app";
/// Key, in the Secret of the set's own passwords, of [`PROBE_ROLE`]'s.
pub const PROBE_PASSWORD: &str = "probe";
/// Keys that stand in the Secrets of applications at times only.
pub const PASSING: [&str; 4] = [
    "replica-host",
    sentinel::KEYS[0],
    sentinel::KEYS[1],
    sentinel::KEYS[2],
];
/// Attribute of a role: until when the password before the last change is taken as well.
const FORMER_UNTIL: &str = "formerUntil";
/// For how long it is: applications read their Secret again meanwhile.
const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// Rules of the application's user: every key and channel, and every command that is not about the server itself. Of
/// the dangerous ones those that concern its own data, or only tell. Functions can be added and not taken away: one
/// library of them is the mark by which agents know how far a dataset goes.
pub const APPLICATION_RULES: &str = "~* &* +@all -@admin -@dangerous +flushall +flushdb +info +keys +role +sort +sort_ro \
     -function|delete -function|flush -function|restore";
/// Rules of a replica: what it follows with.
const REPLICATION_RULES: &str = "resetkeys resetchannels -@all +ping +psync +replconf";

/// Rules of a user that is not needed.
const OFF: &str = "off";

/// Rules of the operator's probe: whether it is a primary, and one key to write; of a cluster, one in each shard.
fn probe_rules(v: &Validated) -> String {
    let rules = format!("resetchannels ~{PROBE_KEY} -@all +ping +info +role +get +set");
    match v.shards {
        Some(_) => format!("~{PROBE_KEY}:* {rules} +cluster|slots"),
        None => rules,
    }
}

/// The Secrets, with what is given kept.
///
/// # Errors
/// When there are no random numbers.
pub fn credentials(v: &Validated, given: &Given<'_>) -> Result<Credentials, CredentialsError> {
    let own = |key: &str| -> Result<Password, CredentialsError> {
        let kept = given.internal.and_then(|data| data.get(key));
        match kept.and_then(|value| Password::from_bytes(&value.0)) {
            Some(password) => Ok(password),
            None => Ok(Password::from_entropy(&entropy::<ENTROPY_BYTES>()?)),
        }
    };
    let (replication, probe) = (own(REPLICATION_PASSWORD)?, own(PROBE_PASSWORD)?);
    // What a Secret was made with stays in it: a user that is not needed any more lets nobody in.
    let receives = match &v.backup {
        Some(_) => Some(BACKUP_RULES),
        None => given.roles.get(BACKUP_ROLE).map(|_| OFF),
    };
    let backup = receives.map(|_| own(BACKUP_PASSWORD)).transpose()?;
    let mut wanted = vec![
        (USER, given.password, APPLICATION_RULES.to_owned()),
        (REPLICATION_ROLE, &replication, REPLICATION_RULES.to_owned()),
        (PROBE_ROLE, &probe, probe_rules(v)),
    ];
    let cluster = v.shards.map(|_| own(CLUSTER_PASSWORD)).transpose()?;
    if let Some(password) = &cluster {
        wanted.push((CLUSTER_ROLE, password, CLUSTER_RULES.to_owned()));
    }
    let made = backup.as_ref().zip(receives);
    wanted.extend(made.map(|(password, rules)| (BACKUP_ROLE, password, rules.to_owned())));
    let of_the_set = wanted.into_iter().map(|(name, password, rules)| {
        role(name, password, rules, given.roles.get(name), given.now)
    });
    let mut roles: Vec<Role> = of_the_set.collect();
    for login in given.logins {
        let before = role_of(login, given);
        if login.is_wrong {
            roles.extend(before.cloned());
        } else if login.is_stored {
            roles.push(login_role(login, before, given.now));
        }
    }
    let ends = roles.iter().filter_map(former_until).min();
    let set = &v.common.set;
    let kept = |name: String| set.kept(name, "credentials");
    let mut secrets = vec![
        application_secret(v, given.password, given.ca),
        internal_secret(
            v,
            &replication,
            &probe,
            [
                (BACKUP_PASSWORD, backup.as_ref()),
                (CLUSTER_PASSWORD, cluster.as_ref()),
            ],
        ),
        roles_object(kept(names::access_secret(&set.name)), &roles)?,
    ];
    let of_logins = given.logins.iter().filter(|l| !l.is_wrong);
    secrets.extend(of_logins.map(|l| login::secret(v, l, given.ca)));
    Ok(Credentials { secrets, due: ends })
}

/// The role that a login has. One of another resource of the same name, which may be gone, is none of its.
fn role_of<'a>(login: &Login, given: &'a Given<'_>) -> Option<&'a Role> {
    let attributes = login::attributes(login);
    let same = |role: &&Role| {
        let mut all = attributes.iter();
        all.all(|(key, value)| role.attributes.get(key) == Some(value))
    };
    given.roles.get(&login.name()).filter(same)
}

/// The role of a login that asks for what can be.
fn login_role(login: &Login, before: Option<&Role>, now: Timestamp) -> Role {
    let grants = login.access.spec.redis.clone().unwrap_or_default();
    let rules = login::rules(&grants);
    let mut role = role(&login.name(), &login.password, rules, before, now);
    role.attributes.extend(login::attributes(login));
    role
}

/// The application's Secret: the only object with its password. `ca` is the authority's certificate.
///
/// Hosts are written without the cluster's domain, which is not the same everywhere.
fn application_secret(v: &Validated, password: &Password, ca: &str) -> Secret {
    let set = &v.common.set;
    let metadata = set.kept(names::application_secret(&set.name), "credentials");
    binding(v, USER, password, ca).to_secret(metadata)
}

/// How a login connects.
pub(super) fn binding(v: &Validated, user: &str, password: &Password, ca: &str) -> Binding {
    let set = &v.common.set;
    let host = |service: String| format!("{service}.{}.svc", set.namespace);
    let primary = host(names::primary_service(&set.name));
    let secret = encoded(password.expose());
    let uri = format!("rediss://{user}:{secret}@{primary}:{PORT}");
    let mut more = BTreeMap::from([("uri".to_owned(), uri)]);
    if v.sentinel {
        more.extend(sentinel::keys(set));
    }
    Binding {
        engine: "redis".into(),
        // Of a cluster the one leads to all, who tell where else to go.
        replica_host: (v.common.instances > 1 && v.shards.is_none())
            .then(|| host(names::replica_service(&set.name))),
        host: primary,
        port: PORT,
        username: user.into(),
        password: password.clone(),
        ca: ca.to_owned(),
        more,
    }
}

/// The set's own passwords.
fn internal_secret(
    v: &Validated,
    replication: &Password,
    probe: &Password,
    others: [(&str, Option<&Password>); 2],
) -> Secret {
    let set = &v.common.set;
    let text = |password: &Password| ByteString(password.expose().as_bytes().to_vec());
    let mut data = BTreeMap::from([
        (REPLICATION_PASSWORD.to_owned(), text(replication)),
        (PROBE_PASSWORD.to_owned(), text(probe)),
    ]);
    let others = others.into_iter();
    data.extend(others.filter_map(|(key, password)| Some((key.to_owned(), text(password?)))));
    Secret {
        metadata: set.kept(names::internal_secret(&set.name), "credentials"),
        type_: Some("Opaque".into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// A role with this password, and for a while with the one before it.
fn role(
    name: &str,
    password: &Password,
    rules: String,
    before: Option<&Role>,
    now: Timestamp,
) -> Role {
    let current = verifier(password);
    let mut hashes = before.map_or_else(Vec::new, |role| {
        role.verifier
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    });
    let mut until = before.and_then(former_until);
    if hashes.first() != Some(&current) {
        // The one before the former is let go.
        hashes.retain(|hash| *hash != current);
        hashes.insert(0, current);
        until = (hashes.len() > 1).then(|| now + OVERLAP);
    }
    let until = until.filter(|until| *until > now && hashes.len() > 1);
    hashes.truncate(if until.is_some() { 2 } else { 1 });
    let mut attributes = BTreeMap::from([(RULES.to_owned(), rules)]);
    attributes.extend(until.map(|until| (FORMER_UNTIL.to_owned(), until.to_string())));
    Role {
        name: name.to_owned(),
        verifier: hashes.join(" "),
        attributes,
    }
}

fn former_until(role: &Role) -> Option<Timestamp> {
    role.attributes.get(FORMER_UNTIL)?.parse().ok()
}

/// What the ACL keeps to check a password.
fn verifier(password: &Password) -> String {
    format!("#{}", hex(&Sha256::digest(password.expose().as_bytes())))
}

#[cfg(test)]
mod tests {
    use mainstay_shared::access::existing_roles;
    use mainstay_shared::apply::Object;
    use mainstay_shared::operator::desired::credentials::stale_keys;

    use super::*;
    use crate::agent::render::rules;
    use crate::desired::tests::{backed_up, cache};

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_hours(hours)
    }

    /// Data by names of Secrets.
    fn made(
        password: &Password,
        before: &BTreeMap<String, BTreeMap<String, ByteString>>,
        now: Timestamp,
    ) -> (
        BTreeMap<String, BTreeMap<String, ByteString>>,
        Option<Timestamp>,
    ) {
        made_of(&cache(), password, before, now)
    }

    fn made_of(
        v: &Validated,
        password: &Password,
        before: &BTreeMap<String, BTreeMap<String, ByteString>>,
        now: Timestamp,
    ) -> (
        BTreeMap<String, BTreeMap<String, ByteString>>,
        Option<Timestamp>,
    ) {
        let roles = before.get("cache-access").map(existing_roles);
        let given = Given {
            password,
            ca: "PEM",
            roles: &roles.unwrap_or_default(),
            internal: before.get("cache-internal"),
            logins: &[],
            now,
        };
        let credentials = credentials(v, &given).unwrap();
        let secrets = credentials.secrets.into_iter();
        let data = secrets.map(|s| (s.metadata.name.unwrap(), s.data.unwrap()));
        (data.collect(), credentials.due)
    }

    fn roles(data: &BTreeMap<String, BTreeMap<String, ByteString>>) -> BTreeMap<String, Role> {
        existing_roles(&data["cache-access"])
    }

    #[test]
    fn what_is_there_is_kept() {
        let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let (first, due) = made(&password, &BTreeMap::new(), at(0));
        assert_eq!(due, None);
        assert_eq!(made(&password, &first, at(5)), (first.clone(), None));
        let all = roles(&first);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["app", PROBE_ROLE, REPLICATION_ROLE]);
        let probe = &first["cache-internal"][PROBE_PASSWORD];
        let probe = Password::from_bytes(&probe.0).unwrap();
        assert_eq!(all[PROBE_ROLE].verifier, verifier(&probe));
    }

    #[test]
    fn who_makes_backups_is_let_in_as_long_as_there_are_any() {
        let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let (before, _) = made(&password, &BTreeMap::new(), at(0));
        assert!(!roles(&before).contains_key(BACKUP_ROLE));
        let (with, _) = made_of(&backed_up(false), &password, &before, at(0));
        let own = with["cache-internal"][BACKUP_PASSWORD].clone();
        let role = roles(&with)[BACKUP_ROLE].clone();
        let own_password = Password::from_bytes(&own.0).unwrap();
        assert_eq!(role.verifier, verifier(&own_password));
        assert_eq!(rules(&role), format!("on {} {BACKUP_RULES}", role.verifier));
        let (without, _) = made(&password, &with, at(0));
        assert!(rules(&roles(&without)[BACKUP_ROLE]).ends_with(" off"));
        // Once more it is the same.
        let (again, _) = made_of(&backed_up(false), &password, &without, at(0));
        assert_eq!(again["cache-internal"][BACKUP_PASSWORD], own);
    }

    #[test]
    fn the_agents_secret_holds_no_password() {
        let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let (data, _) = made(&password, &BTreeMap::new(), at(0));
        let text: String = data["cache-access"]
            .values()
            .map(|v| String::from_utf8_lossy(&v.0).into_owned())
            .collect();
        assert!(!text.contains(password.expose()));
        for own in data["cache-internal"].values() {
            assert!(!text.contains(&*String::from_utf8_lossy(&own.0)));
        }
    }

    #[test]
    fn a_former_password_is_taken_for_an_hour_and_never_more_than_one() {
        let [first, second, third] = [1, 2, 3].map(|n| Password::from_entropy(&[n; ENTROPY_BYTES]));
        let verifiers = |of: &[&Password]| {
            let all: Vec<String> = of.iter().map(|p| verifier(p)).collect();
            all.join(" ")
        };
        let (data, _) = made(&first, &BTreeMap::new(), at(0));
        let (data, due) = made(&second, &data, at(1));
        assert_eq!(roles(&data)["app"].verifier, verifiers(&[&second, &first]));
        assert_eq!(due, Some(at(2)));
        // Nothing changes meanwhile, and another change lets the first go.
        assert_eq!(made(&second, &data, at(1)), (data.clone(), due));
        let (again, due) = made(&third, &data, at(1));
        assert_eq!(roles(&again)["app"].verifier, verifiers(&[&third, &second]));
        assert_eq!(due, Some(at(2)));
        let (back, _) = made(&first, &data, at(1));
        assert_eq!(roles(&back)["app"].verifier, verifiers(&[&first, &second]));
        let (after, due) = made(&second, &data, at(2));
        assert_eq!(roles(&after)["app"].verifier, verifiers(&[&second]));
        assert_eq!(due, None);
    }

    #[test]
    fn the_uri_takes_any_password() {
        let password = Password::from_bytes("p@ss:wörd/%".as_bytes()).unwrap();
        let secret = application_secret(&cache(), &password, "PEM");
        let data = secret.data.unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert_eq!(
            text("uri"),
            "rediss://app:p%40ss%3Aw%C3%B6rd%2F%25@cache-rw.shop.svc:6379"
        );
        assert_eq!(text("replica-host"), "cache-ro.shop.svc");
        assert_eq!(
            (text("port"), text("type")),
            ("6379".into(), "redis".into())
        );
    }

    #[test]
    fn how_a_sentinel_is_asked_stands_in_the_secret_while_there_is_one() {
        let password = Password::from_entropy(&[1; ENTROPY_BYTES]);
        let mut v = cache();
        v.sentinel = true;
        let with = application_secret(&v, &password, "PEM").data.unwrap();
        let text = |key: &str| String::from_utf8(with[key].0.clone()).unwrap();
        assert_eq!(text("sentinel-host"), "cache-sentinel.shop.svc");
        assert_eq!(text("sentinel-port"), "26379");
        assert_eq!(text("sentinel-master"), "cache");
        // The rest stays: whoever does not know of it notices nothing.
        assert_eq!(text("host"), "cache-rw.shop.svc");
        let without = Object::of(&application_secret(&cache(), &password, "PEM")).unwrap();
        assert_eq!(stale_keys(&without, &with, &PASSING), sentinel::KEYS);
    }
}
