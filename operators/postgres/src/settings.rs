//! The engine's part of the set's configuration: written by the operator, read by the agents.

use std::collections::BTreeMap;

use mainstay_shared::agent::config::SetConfig;
use serde::{Deserialize, Serialize};

/// Role with which replicas stream: no password, a client certificate of an instance.
pub const REPLICATION_ROLE: &str = "mainstay_replication";
/// Role of the operator's SQL probe: no password, a client certificate.
pub const PROBE_ROLE: &str = "mainstay_probe";
/// Role with which poolers look up who may log in: no password, a client certificate.
pub const POOLER_ROLE: &str = "mainstay_pooler";
/// Function, in the database `postgres`, by which poolers look up what checks a password.
pub const LOOKUP: &str = "mainstay.lookup";
/// Port of PostgreSQL.
pub const PORT: u16 = 5432;
/// What a client sends that asks for TLS: length 8, then the code. PostgreSQL answers with one byte.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// Name of that port, the same in Services and in the EndpointSlice that the primary writes:
/// Kubernetes matches them by it.
pub const PORT_NAME: &str = "postgresql";

/// Configuration of a set of PostgreSQL instances, as mounted.
pub type PostgresConfig = SetConfig<PostgresSettings>;

/// What the agents must know of PostgreSQL.
///
/// Guarantee: values are final. What depends on the size of the instance is computed by the
/// operator, so that a change of it is a change of the hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSettings {
    /// Major version that the image holds.
    pub major: u32,
    /// Settings by PostgreSQL's own names, as in `postgresql.conf` without quotes: the user's, and
    /// those derived from memory. What [`is_managed`] names is ignored here.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The application's database, made with the set.
    pub database: String,
    /// Role that owns it; its verifier is in the access Secret.
    pub owner: String,
    /// Most log that a slot of an absent replica may hold back, in MiB. It should be well below
    /// the volume's size.
    pub max_slot_wal_keep_mib: u32,
    /// Lines for `pg_hba.conf` after the managed ones, for example a `hostssl` line with another
    /// method. Each is one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_rules: Vec<String>,
    /// The poolers in front of it, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<PoolerSettings>,
    /// How the log is archived, where there are backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSettings>,
}

/// How the log is archived: by the container that makes backups, which PostgreSQL asks through `push`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveSettings {
    /// For how long a piece of the log may stay unfinished, in seconds: so much can be lost with the volumes.
    pub timeout_seconds: u32,
    /// For how many days what increments need is kept (from version 17 on): longer than from one to the next.
    pub summary_days: u32,
    /// A primary refuses writes rather than that log which waits for the store fills its volume.
    #[serde(default)]
    pub stop_writes: bool,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            timeout_seconds: 60,
            summary_days: 10,
            stop_writes: true,
        }
    }
}

/// What the agents must know of poolers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolerSettings {
    /// For how long a planned hand-over waits for transactions that run, in seconds. 0: it only has new
    /// ones held back.
    pub pause_seconds: u32,
}

/// Settings that the agents render themselves; in `parameters` they have no effect, and the
/// resource refuses them.
pub const MANAGED: &[&str] = &[
    "allow_alter_system",
    "archive_cleanup_command",
    "bonjour",
    "bonjour_name",
    "cluster_name",
    "config_file",
    "data_directory",
    "event_source",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "log_destination",
    "log_directory",
    "log_file_mode",
    "log_filename",
    "logging_collector",
    "max_slot_wal_keep_size",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restart_after_crash",
    "restore_command",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "ssl_key_file",
    "ssl_passphrase_command",
    "ssl_passphrase_command_supports_reload",
    "synchronous_standby_names",
    "syslog_facility",
    "syslog_ident",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
    "wal_log_hints",
    "wal_retrieve_retry_interval",
];

/// Whether the agents render the setting themselves. Names of settings are compared without case.
pub fn is_managed(name: &str) -> bool {
    MANAGED.iter().any(|m| m.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_names_are_sorted_and_compared_without_case() {
        assert!(MANAGED.is_sorted());
        assert!(is_managed("Port"));
        assert!(!is_managed("work_mem"));
    }

    #[test]
    fn settings_are_read_from_what_is_mounted() {
        let text = r#"{"set":"db","namespace":"shop","members":["db-1"],"durability":"async","engine":
            {"major":17,"parameters":{"work_mem":"4MB"},"database":"app","owner":"app","maxSlotWalKeepMib":512}}"#;
        let config: PostgresConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.engine.parameters["work_mem"], "4MB");
        assert_eq!(config.engine.max_slot_wal_keep_mib, 512);
    }
}
