//! The application's Secret, the set's own passwords, and what the agents know of both.

use std::collections::BTreeMap;
use std::iter;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mainstay_shared::access::{Binding, ENTROPY_BYTES, Password, encoded, entropy, roles_object};
use mainstay_shared::agent::config::Role;
use mainstay_shared::hex::hex;
use mainstay_shared::names;
use mainstay_shared::operator::desired::credentials::{
    Credentials, CredentialsError, Given, OVERLAP,
};
use mainstay_shared::operator::logins::Login;
use sha2::{Digest, Sha256};

use super::{login, sentinel};
use crate::settings::{
    BACKUP_PASSWORD, BACKUP_ROLE, BACKUP_RULES, BACKUP_RULES_OF_CLUSTERS, CLUSTER_PASSWORD,
    CLUSTER_ROLE, CLUSTER_RULES, PORT, PROBE_KEY, PROBE_ROLE, REPLICATION_PASSWORD,
    REPLICATION_ROLE, RULES,
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
/// Attribute of a role: until when each of its former passwords is taken as well.
const FORMER_UNTIL: &str = "formerUntil";
/// Attribute of a role: what checks the password that comes next.
const COMING: &str = "coming";
/// So many former ones are taken at most.
const FORMER: usize = 3;

/// Rules of the application's user: every key and channel, and every command that is not about the server itself. Of
/// the dangerous ones those that concern its own data, or only tell. Functions can be added and not taken away: one
/// library of them is the mark by which agents know how far a dataset goes.
pub const APPLICATION_RULES: &str = "~* &* +@all -@admin -@dangerous +flushall +flushdb +info +keys +role +sort +sort_ro \
     -function|delete -function|flush -function|restore";
/// Rules of [`REPLICATION_ROLE`]: what a replica follows with.
pub const REPLICATION_RULES: &str = "resetkeys resetchannels -@all +ping +psync +replconf";
/// And in a cluster: a primary whose container ends asks a replica to take over.
pub const REPLICATION_RULES_OF_CLUSTERS: &str =
    "resetkeys resetchannels -@all +ping +psync +replconf +cluster|failover";

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
        Some(_) if v.shards.is_some() => Some(BACKUP_RULES_OF_CLUSTERS),
        Some(_) => Some(BACKUP_RULES),
        None => given.roles.get(BACKUP_ROLE).map(|_| OFF),
    };
    let backup = receives.map(|_| own(BACKUP_PASSWORD)).transpose()?;
    let replicates = match v.shards {
        Some(_) => REPLICATION_RULES_OF_CLUSTERS,
        None => REPLICATION_RULES,
    };
    let mut wanted = vec![
        (REPLICATION_ROLE, &replication, replicates.to_owned()),
        (PROBE_ROLE, &probe, probe_rules(v)),
    ];
    let cluster = v.shards.map(|_| own(CLUSTER_PASSWORD)).transpose()?;
    if let Some(password) = &cluster {
        wanted.push((CLUSTER_ROLE, password, CLUSTER_RULES.to_owned()));
    }
    let made = backup.as_ref().zip(receives);
    wanted.extend(made.map(|(password, rules)| (BACKUP_ROLE, password, rules.to_owned())));
    let of_the_set = wanted.into_iter().map(|(name, password, rules)| {
        let before = given.roles.get(name);
        role(name, password, None, rules, before, given.now)
    });
    let own = role(
        USER,
        given.password,
        given.coming_of(None),
        APPLICATION_RULES.to_owned(),
        given.roles.get(USER),
        given.now,
    );
    let mut roles: Vec<Role> = iter::once(own).chain(of_the_set).collect();
    for login in given.logins {
        let before = role_of(login, given);
        if login.is_wrong {
            roles.extend(before.cloned());
        } else if login.is_stored {
            roles.push(login_role(login, before, given));
        }
    }
    let ends = roles.iter().flat_map(formers).map(|(_, until)| until);
    let due = ends.min();
    let set = &v.common.set;
    let kept = |name: String| set.kept(name, "credentials");
    let mut secrets = vec![
        application_secret(v, given.shown(None, given.password), given.ca),
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
    secrets.extend(of_logins.map(|l| {
        let password = given.shown(Some(&l.name()), &l.password);
        login::secret(v, l, password, given.ca)
    }));
    let announced = given.coming.is_some_and(|coming| {
        let name = coming.access.unwrap_or(USER);
        let check = verifier(coming.password);
        let knows = |role: &Role| role.verifier.split_whitespace().any(|word| word == check);
        roles.iter().any(|role| role.name == name && knows(role))
    });
    Ok(Credentials {
        secrets,
        due,
        announced,
    })
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
fn login_role(login: &Login, before: Option<&Role>, given: &Given<'_>) -> Role {
    let grants = login.access.spec.redis.clone().unwrap_or_default();
    let (name, rules) = (login.name(), login::rules(&grants));
    let coming = given.coming_of(Some(&name));
    let mut role = role(&name, &login.password, coming, rules, before, given.now);
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

/// A role with this password, with the one that comes next, and for a while with those before it.
///
/// What checks them stands in this order: the present one, the next one, former ones from the youngest. A password that was
/// told before it was changed leaves former ones their time. One that somebody wrote into the Secret leaves only the one
/// before: what nobody shall use any more is gone with the second edit.
fn role(
    name: &str,
    password: &Password,
    coming: Option<&Password>,
    rules: String,
    before: Option<&Role>,
    now: Timestamp,
) -> Role {
    let current = verifier(password);
    let next = coming.map(verifier).filter(|check| *check != current);
    let mut former: Vec<(String, Timestamp)> = before.map(formers).unwrap_or_default();
    let last = before.and_then(|role| role.verifier.split_whitespace().next());
    if let Some(last) = last.filter(|last| *last != current) {
        let told = before.and_then(|role| role.attributes.get(COMING));
        if told != Some(&current) {
            former.clear();
        }
        former.insert(0, (last.to_owned(), now + OVERLAP));
    }
    former
        .retain(|(check, until)| *until > now && *check != current && Some(check) != next.as_ref());
    former.truncate(FORMER);
    let mut attributes = BTreeMap::from([(RULES.to_owned(), rules)]);
    attributes.extend(next.clone().map(|check| (COMING.to_owned(), check)));
    let (checks, ends): (Vec<_>, Vec<_>) = former.into_iter().unzip();
    if !ends.is_empty() {
        let ends: Vec<String> = ends.iter().map(Timestamp::to_string).collect();
        attributes.insert(FORMER_UNTIL.to_owned(), ends.join(" "));
    }
    let all = iter::once(current).chain(next).chain(checks);
    Role {
        name: name.to_owned(),
        verifier: all.collect::<Vec<_>>().join(" "),
        attributes,
    }
}

/// What checks former passwords of a role, and until when they are taken; from the youngest.
fn formers(role: &Role) -> Vec<(String, Timestamp)> {
    let coming = role.attributes.get(COMING).map(String::as_str);
    let checks = role.verifier.split_whitespace().skip(1);
    let checks = checks.filter(|check| Some(*check) != coming);
    let ends = role.attributes.get(FORMER_UNTIL);
    let ends = ends.into_iter().flat_map(|all| all.split_whitespace());
    // One whose end cannot be read is let go.
    let both = checks
        .zip(ends)
        .map(|(check, end)| (check.to_owned(), end.parse()));
    both.filter_map(|(check, end)| Some((check, end.ok()?)))
        .collect()
}

/// What the ACL keeps to check a password.
fn verifier(password: &Password) -> String {
    format!("#{}", hex(&Sha256::digest(password.expose().as_bytes())))
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
