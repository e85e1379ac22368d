//! Labels, annotations and the names of derived objects, in one place.
//!
//! A set called `db` owns `db-1`, `db-2`, … (pod and, with `-data`, volume claim of each instance),
//! `db-rw`, `db-ro` and `db-peers` (Services), `db` (Lease, disruption budget, ServiceAccount,
//! Role), `db-config` (ConfigMap), `db-app` (the application's Secret), `db-access` (what the
//! agents need of it) and `db-N-tls` (certificate of an instance); with a pooler `db-pooler-rw` and
//! `db-pooler-ro` (Deployment, Service, disruption budget), `db-pooler-peers` (Service), `db-pooler`
//! (ConfigMap, network policy) and `db-pooler-tls`; with drills `db.drill` (network policy) and, while one goes on,
//! `db-drill-<time>` (ConfigMap, pod); and, while an application gets another password, `db.next` (Secret).

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// Who made an object; its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Kind of add-on in lower case, for example `postgres`.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Name of the set, that is of the custom resource.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Name of the instance, for example `db-1`.
pub const INSTANCE: &str = "mainstay.dev/instance";
/// Uid of the custom resource that an object without owner reference belongs to.
pub const SET_UID: &str = "mainstay.dev/set-uid";
/// `primary` or `replica`: for reading and for the replica Service, never a decision.
pub const ROLE: &str = "mainstay.dev/role";
/// Which part an object is whose end follows a rule of its own: without owner reference `data`, `ca`,
/// `credentials`, `certificate`, `lease`, `keys`; with one [`DRILL`].
pub const PART: &str = "mainstay.dev/part";
/// Label on a `Backup` that the schedule made, by which it may be deleted when it is not needed any more.
pub const SCHEDULED: &str = "mainstay.dev/scheduled";
/// Label on a data claim that no instance uses: uid of the `Restore` that set it aside. It is kept until that one says
/// otherwise, and nothing else is done with it.
pub const SET_ASIDE: &str = "mainstay.dev/set-aside";
/// Label of the Secret of a login: uid of the `Access` that it was made for.
pub const ACCESS_UID: &str = "mainstay.dev/access-uid";
/// Label of the Secret with a password that comes next: uid of the `Operation` that asks for it.
pub const OPERATION_UID: &str = "mainstay.dev/operation-uid";
/// A pod of the same namespace with `access.mainstay.dev/<set>: allow` may connect to the set.
pub const ACCESS_PREFIX: &str = "access.mainstay.dev/";
/// Value of [`MANAGED_BY`], field manager of server-side apply and name in events.
pub const MANAGER: &str = "mainstay";

/// Annotation on a pod: revision of the template it was made from, pinned at creation.
pub const REVISION: &str = "mainstay.dev/revision";
/// Annotation on a pod: the inputs that its revision stands for, as JSON, so that a difference can be
/// told in words.
pub const TEMPLATE: &str = "mainstay.dev/template";
/// Annotation on applied objects: hash of what was applied last, so that a settled pass writes nothing.
pub const APPLIED: &str = "mainstay.dev/applied";
/// Annotation on a pod: hash of the configuration its mounts should hold; touching it makes the
/// kubelet refresh them at once.
pub const CONFIG_HASH: &str = "mainstay.dev/config-hash";
/// Annotation on a pod: hash of the logins its mounts should hold, to the same end. It tells nothing of any password: what
/// checks them is hashed with random numbers that stand nowhere else.
pub const USERS_HASH: &str = "mainstay.dev/users-hash";
/// Annotation on a custom resource: `paused` stops every change that Mainstay would make to it.
pub const RECONCILE: &str = "mainstay.dev/reconcile";
/// Annotation on a data claim: identifier of the data it holds, so that it can be adopted.
pub const SYSTEM_IDENTIFIER: &str = "mainstay.dev/system-identifier";
/// Annotation on a data claim: role of its instance when last seen, so that it can be adopted.
pub const LAST_ROLE: &str = "mainstay.dev/last-role";
/// Annotation on the primary's data claim: epoch of the last acquisition that was seen, so that a
/// Lease that is made anew goes on from it.
pub const NOTED_EPOCH: &str = "mainstay.dev/epoch";
/// Annotation on a data claim: version of the engine that ran on it last, in full.
pub const RAN: &str = "mainstay.dev/ran";
/// Annotation on what belongs to a drill: when it was due.
pub const DRILL_DUE: &str = "mainstay.dev/drill-due";
/// Annotation on what belongs to a drill: the moment that it recovers; absent: the latest.
pub const DRILL_MOMENT: &str = "mainstay.dev/drill-moment";
/// Annotation on the ConfigMap of a drill: when its pod was made. So a pod that is gone is not taken for one
/// that is not made yet.
pub const DRILL_BEGUN: &str = "mainstay.dev/drill-begun";
/// Finalizer on a `Restore` while instances are between two states of their data.
pub const RESTORE_FINALIZER: &str = "mainstay.dev/restoring";
/// Finalizer that orders the end of a set.
pub const FINALIZER: &str = "mainstay.dev/ordered-end";

/// Common name of the operator's client certificate for agents.
pub const OPERATOR_COMMON_NAME: &str = "operator.mainstay";
/// Common name of the client certificate of the operator's probe of an engine.
pub const PROBE_COMMON_NAME: &str = "probe.mainstay";
/// Common name of the poolers' certificate: by it PostgreSQL lets them look up who may log in.
pub const POOLER_COMMON_NAME: &str = "pooler.mainstay";
/// Which of several parts of an add-on a pod belongs to.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Port of the agents' HTTPS interface.
pub const AGENT_PORT: i32 = 8443;
/// Port of the HTTPS interface of the container that makes backups.
pub const BACKUP_PORT: i32 = 9632;

/// Longest name a custom resource may have: the longest derived name (`<name>-NN-data`, and the
/// label values made of it) stays within 63 characters.
pub const MAX_SET_NAME: usize = mainstay_crds::common::rules::MAX_NAME;

/// Name of instance `ordinal` (from 1).
pub fn instance(set: &str, ordinal: u32) -> String {
    format!("{set}-{ordinal}")
}

/// Ordinal of the instance called `name` in `set`, if it is one.
pub fn ordinal(set: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(set)?.strip_prefix('-')?;
    let canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    canonical.then(|| digits.parse().ok()).flatten()
}

/// Name of the data volume claim of an instance.
pub fn data_claim(instance: &str) -> String {
    format!("{instance}-data")
}

/// Name of the Secret with an instance's certificate.
pub fn certificate(instance: &str) -> String {
    format!("{instance}-tls")
}

/// Name of the Service, and of its EndpointSlice, that leads to the primary.
pub fn primary_service(set: &str) -> String {
    format!("{set}-rw")
}

/// Name of the Service that leads to the replicas.
pub fn replica_service(set: &str) -> String {
    format!("{set}-ro")
}

/// Name of the headless Service that gives each instance a DNS name.
pub fn peer_service(set: &str) -> String {
    format!("{set}-peers")
}

/// Name of what belongs to all poolers of a set: ConfigMap, network policy, part of the certificate's.
pub fn pooler(set: &str) -> String {
    format!("{set}-pooler")
}

/// Name of the Service and Deployment of the pooler that leads to the primary.
pub fn primary_pooler(set: &str) -> String {
    format!("{set}-pooler-rw")
}

/// Name of the Service and Deployment of the pooler that leads to replicas.
pub fn replica_pooler(set: &str) -> String {
    format!("{set}-pooler-ro")
}

/// Name of the headless Service with the addresses of all pods of poolers. They all show one
/// certificate, which bears [`pooler_host`].
pub fn pooler_peers(set: &str) -> String {
    format!("{set}-pooler-peers")
}

/// DNS name by which agents verify poolers.
pub fn pooler_host(set: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", pooler_peers(set))
}

/// Name of the container that brings data back from a repository, before the engine starts.
pub const RESTORE: &str = "restore";
/// Name of the container beside the engine that makes backups.
pub const BACKUP: &str = "backup";

/// Name of the container that looks at restored data, and of the part of a set that drills are.
pub const DRILL: &str = "drill";

/// Name of the pod and the ConfigMap of a drill that was due at `due`, of at most 63 characters.
pub fn drill(set: &str, due: Timestamp) -> String {
    /// What is left beside `-drill-` and the time.
    const ROOM: usize = 63 - 7 - 12;
    let time = due.strftime("%Y%m%d%H%M");
    if set.len() <= ROOM {
        return format!("{set}-drill-{time}");
    }
    let digest = hex(&Sha256::digest(set.as_bytes())[..4]);
    let begin: String = set.chars().take(ROOM - 1 - digest.len()).collect();
    format!("{begin}-{digest}-drill-{time}")
}

/// Name of the network policy of a set's drills. With a point, so that no set is called so: each has a policy of its
/// own name.
pub fn drill_policy(set: &str) -> String {
    format!("{set}.drill")
}

/// Name of the Secret with the keys of a set's backups. It is never owned, and stays.
pub fn backup_keys(set: &str) -> String {
    format!("{set}-backup-keys")
}

/// Name of the ConfigMap with the agents' configuration.
pub fn config_map(set: &str) -> String {
    format!("{set}-config")
}

/// Name of the application's Secret.
pub fn application_secret(set: &str) -> String {
    format!("{set}-app")
}

/// Name of the Secret with what the agents must know of credentials: verifiers, no passwords.
pub fn access_secret(set: &str) -> String {
    format!("{set}-access")
}

/// Name of the Secret with passwords of the set's own users, where an engine needs any: for nobody else.
pub fn internal_secret(set: &str) -> String {
    format!("{set}-internal")
}

/// Name of the Secret with the password that an application gets next, while that goes on: for the operator alone. With a
/// point, so that neither a set nor a login is called so.
pub fn coming_secret(set: &str) -> String {
    format!("{set}.next")
}

/// Name of the Secret, in the operator's namespace, with a set's certificate authority. It is
/// derived from namespace and name, not from the uid, so that a resource made anew adopts it.
pub fn authority_secret(kind: &str, namespace: &str, set: &str) -> String {
    format!("{kind}.{namespace}.{set}.ca")
}

/// DNS name of an instance, valid in the whole cluster, as its certificate bears it.
pub fn instance_host(instance: &str, set: &str, namespace: &str) -> String {
    format!("{instance}.{}.{namespace}.svc", peer_service(set))
}

/// Label key by which a pod of the same namespace is let in.
pub fn access_label(set: &str) -> String {
    format!("{ACCESS_PREFIX}{set}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_read_back_from_names() {
        assert_eq!(ordinal("db", &instance("db", 12)), Some(12));
        assert_eq!(ordinal("db", "db-01"), None);
        assert_eq!(ordinal("db", "db-x"), None);
        assert_eq!(ordinal("db", "other-1"), None);
    }

    #[test]
    fn the_longest_name_fits_a_label() {
        let set = "x".repeat(MAX_SET_NAME);
        assert!(data_claim(&instance(&set, 99)).len() <= 63);
        assert!(pooler_peers(&set).len() <= 63);
        let due = "2026-03-01T03:30:00Z".parse().unwrap();
        assert_eq!(drill("db", due), "db-drill-202603010330");
        assert_eq!(drill(&set, due).len(), 63);
        assert_ne!(drill(&set, due), drill(&format!("{}y", &set[1..]), due));
        assert_eq!(ordinal("db-drill", &drill("db", due)), None);
    }
}
