//! The engine's part of the set's configuration, and what else a pod hands to its agent: written by the operator,
//! read by the agents.
//!
//! What a pod has:
//! * the set's ConfigMap at [`mainstay_shared::agent::paths::CONFIG`], with [`RedisConfig`];
//! * the access Secret at [`mainstay_shared::agent::paths::ACCESS`]: one [`mainstay_shared::agent::config::Role`] per ACL
//!   user. Its `verifier` is what the ACL wants: `#` and the SHA-256 of a password in hexadecimal digits, or two of
//!   them with a space between while a password is changed. Its attribute [`RULES`] has the user's rules. These are all
//!   users there are, besides the agent's own, which it makes for itself; there is no `default`;
//! * the password with which replicas log in to their primary as [`REPLICATION_ROLE`], in clear, for Redis takes
//!   nothing else: the file [`REPLICATION_PASSWORD`] in [`INTERNAL`];
//! * certificate, key and authority at [`mainstay_shared::agent::paths::TLS`];
//! * its volume at [`DATA`].

use std::collections::BTreeMap;

use mainstay_shared::agent::config::SetConfig;
use serde::{Deserialize, Serialize};

/// Port of clients and replicas: TLS only.
pub const PORT: u16 = 6379;
/// Name of that port, the same in Services and in the EndpointSlice that the primary writes:
/// Kubernetes matches them by it.
pub const PORT_NAME: &str = "redis";
/// Port on which members of a cluster talk to each other: 10000 above the other.
pub const BUS_PORT: u16 = 16_379;
/// Port on which agents answer clients of a Sentinel: TLS only.
pub const SENTINEL_PORT: u16 = 26_379;
/// Name of that port in its Service.
pub const SENTINEL_PORT_NAME: &str = "sentinel";
/// Mount of the data volume.
pub const DATA: &str = "/data";
/// ACL user with which replicas log in to their primary.
pub const REPLICATION_ROLE: &str = "mainstay_replication";
/// ACL user of the operator's probe.
pub const PROBE_ROLE: &str = "mainstay_probe";
/// ACL user of the container that makes backups: it may receive the dataset, and ask what the engine is.
pub const BACKUP_ROLE: &str = "mainstay_backup";
/// File in [`INTERNAL`] of the backup container alone, and key of its Secret: the password of [`BACKUP_ROLE`].
pub const BACKUP_PASSWORD: &str = "backup";
/// Rules of [`BACKUP_ROLE`]: no key is read or written by a command.
pub const BACKUP_RULES: &str =
    "resetkeys resetchannels -@all +ping +info +psync +replconf +function|list";
/// And in a cluster: it finds out who has which slots.
pub const BACKUP_RULES_OF_CLUSTERS: &str =
    "resetkeys resetchannels -@all +ping +info +psync +replconf +function|list +cluster|nodes";
/// The only key that [`PROBE_ROLE`] may write.
pub const PROBE_KEY: &str = "mainstay:probe";
/// ACL user with which members of a cluster are asked what they see, and told what to do; and by which one gives keys to
/// another.
pub const CLUSTER_ROLE: &str = "mainstay_cluster";
/// Rules of [`CLUSTER_ROLE`]: keys are moved, and neither read nor written otherwise; and the mark of the set is put into datasets.
pub const CLUSTER_RULES: &str = "~* resetchannels -@all +ping +info +role +cluster +select +migrate +restore-asking +function|list +function|load";
/// Key, in the Secret of the set's own passwords, of [`CLUSTER_ROLE`]'s. No pod has it.
pub const CLUSTER_PASSWORD: &str = "cluster";
/// Attribute of a role: its ACL rules besides passwords and `on`, as `ACL SETUSER` takes them, with a space between
/// two. For example `~* &* +@all -@admin`.
/// With `off` in it nobody is let in.
pub const RULES: &str = "rules";
/// Folder where the set's own passwords are mounted, as far as pods need them.
pub const INTERNAL: &str = "/mainstay/internal";
/// File there, and key of its Secret: the password of [`REPLICATION_ROLE`].
pub const REPLICATION_PASSWORD: &str = "replication";

/// Configuration of a set of Redis instances, as mounted. `durability` in it is always `async`: nobody acknowledges;
/// what bounds a loss is [`RedisSettings::replicas`].
pub type RedisConfig = SetConfig<RedisSettings>;

/// What the agents must know of Redis.
///
/// Guarantee: values are final. What depends on the size of the instance is computed by the
/// operator, so that a change of it is a change of the hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedisSettings {
    /// Whose program the image holds.
    #[serde(default)]
    pub flavour: Flavour,
    /// Version that the image holds, for example `8.0`.
    pub version: String,
    /// Directives by Redis' own names in lower case, as in `redis.conf` without quotes: the user's, and those derived
    /// from memory (`maxmemory`, `maxmemory-policy`). What the agents render themselves is not among them.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What is on the volume.
    #[serde(default)]
    pub persistence: Persistence,
    /// Replicas without which a primary takes no write; none: it takes them always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicasToWrite>,
    /// Agents answer clients of a Sentinel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sentinel: bool,
    /// The engine is a member of a cluster, which elects by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clustered: bool,
}

/// Whose program it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// `redis-server`.
    #[default]
    Redis,
    /// `valkey-server`.
    Valkey,
}

/// What is on the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    /// Every write: once in a second, or as `appendfsync` in the parameters says.
    #[default]
    Aof,
    /// A snapshot now and then.
    Rdb,
    /// Nothing: a dataset lives in memory only.
    None,
}

/// `min-replicas-to-write` and `min-replicas-max-lag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasToWrite {
    /// How many, at least 1.
    pub count: u32,
    /// Seconds since one was heard of, after which it does not count.
    pub max_lag_seconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_what_is_mounted() {
        let text = r#"{"set":"cache","namespace":"shop","members":["cache-1"],"durability":"async","engine":
            {"flavour":"valkey","version":"8.0","parameters":{"maxmemory":"268435456"},"persistence":"rdb",
             "replicas":{"count":1,"maxLagSeconds":10},"sentinel":true}}"#;
        let config: RedisConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.engine.flavour, Flavour::Valkey);
        assert_eq!(config.engine.parameters["maxmemory"], "268435456");
        assert_eq!(config.engine.persistence, Persistence::Rdb);
        assert_eq!(config.engine.replicas.map(|r| r.count), Some(1));
        assert!(config.engine.sentinel);
    }
}
