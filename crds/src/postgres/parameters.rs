//! What PostgreSQL's parameters are: facts of its servers, and which of them a user cannot set.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// When a change of a parameter takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// Never: it is fixed when PostgreSQL is built or the data is made.
    Internal,
    /// When PostgreSQL is started again.
    Restart,
    /// When PostgreSQL reads its configuration again.
    Reload,
    /// The same, but only connections made after it see it.
    Connection,
}

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `on` or `off`.
    Bool,
    /// A whole number, with a unit where the parameter has one; bounds in that unit.
    Integer {
        unit: &'static str,
        min: i64,
        max: i64,
    },
    /// A number, with a unit where the parameter has one; bounds in that unit.
    Real {
        unit: &'static str,
        min: f64,
        max: f64,
    },
    /// One of these words, separated by commas.
    Enum(&'static str),
    /// A text.
    Text,
}

/// A parameter in a range of major versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name as PostgreSQL lists it.
    pub name: &'static str,
    /// Major versions that have it in this form.
    pub majors: RangeInclusive<u32>,
    /// When a change takes effect.
    pub context: Context,
    /// What a value must be.
    pub kind: Kind,
}

/// Parameters that Mainstay refuses, with what to write instead.
pub struct Refused {
    /// Their names, in lower case.
    pub names: &'static [&'static str],
    /// Why, and what to write instead.
    pub sentence: &'static str,
}

/// Parameters that a user cannot set, by reason.
pub const REFUSED: &[Refused] = &[
    Refused {
        names: &[
            "bonjour",
            "bonjour_name",
            "listen_addresses",
            "port",
            "unix_socket_directories",
            "unix_socket_group",
            "unix_socket_permissions",
        ],
        sentence: "Mainstay decides where PostgreSQL listens; remove it, and write network.clients for who may connect",
    },
    Refused {
        names: &[
            "ssl",
            "ssl_ca_file",
            "ssl_cert_file",
            "ssl_crl_dir",
            "ssl_crl_file",
            "ssl_dh_params_file",
            "ssl_key_file",
            "ssl_passphrase_command",
            "ssl_passphrase_command_supports_reload",
        ],
        sentence: "every connection is TLS with certificates that Mainstay renews; remove it, and write tls for their duration",
    },
    Refused {
        names: &[
            "config_file",
            "data_directory",
            "event_source",
            "external_pid_file",
            "hba_file",
            "ident_file",
        ],
        sentence: "Mainstay keeps PostgreSQL's files where its pods expect them; remove it",
    },
    Refused {
        names: &[
            "log_destination",
            "log_directory",
            "log_file_mode",
            "log_filename",
            "log_rotation_age",
            "log_rotation_size",
            "log_truncate_on_rotation",
            "logging_collector",
            "syslog_facility",
            "syslog_ident",
        ],
        sentence: "the log goes to the container's output, where kubectl logs reads it; remove it",
    },
    Refused {
        names: &[
            "archive_cleanup_command",
            "cluster_name",
            "hot_standby",
            "max_slot_wal_keep_size",
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
            "sync_replication_slots",
            "synchronized_standby_slots",
            "wal_level",
            "wal_log_hints",
            "wal_receiver_create_temp_slot",
            "wal_retrieve_retry_interval",
        ],
        sentence: "Mainstay manages replication and recovery; remove it",
    },
    Refused {
        names: &[
            "archive_command",
            "archive_library",
            "archive_mode",
            "archive_timeout",
        ],
        sentence: "Mainstay manages the archive of the log; remove it",
    },
    Refused {
        names: &["synchronous_standby_names"],
        sentence: "Mainstay chooses which replicas a commit waits for; remove it, and write durability: quorum or async",
    },
    Refused {
        names: &[
            "data_sync_retry",
            "fsync",
            "full_page_writes",
            "ignore_checksum_failure",
            "ignore_invalid_pages",
            "ignore_system_indexes",
            "zero_damaged_pages",
        ],
        sentence: "Mainstay keeps the value that loses no acknowledged write and hides no damage; remove it",
    },
    Refused {
        names: &[
            "allow_alter_system",
            "allow_in_place_tablespaces",
            "allow_system_table_mods",
            "db_user_namespace",
            "password_encryption",
        ],
        sentence: "Mainstay keeps logins, catalogues and configuration safe; remove it",
    },
    Refused {
        names: &[
            "default_transaction_read_only",
            "role",
            "seed",
            "session_authorization",
            "session_replication_role",
            "transaction_deferrable",
            "transaction_isolation",
            "transaction_read_only",
        ],
        sentence: "it would hold for Mainstay's own sessions too; remove it, and set it in the application's session or \
                   with ALTER ROLE … SET",
    },
];

/// What is said of a parameter that cannot be changed in a built server.
pub const INTERNAL: &str =
    "its value is fixed when PostgreSQL is built or its data is made; remove it";

static CATALOGUE: LazyLock<Vec<Parameter>> = LazyLock::new(|| {
    include_str!("parameters.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(parse)
        .collect()
});

fn parse(line: &'static str) -> Option<Parameter> {
    let mut columns = line.split('\t');
    let name = columns.next()?;
    let (first, last) = columns.next()?.split_once('-')?;
    let context = match columns.next()? {
        "internal" => Context::Internal,
        "postmaster" => Context::Restart,
        "backend" | "superuser-backend" => Context::Connection,
        _ => Context::Reload,
    };
    let kind = columns.next()?;
    let unit = columns.next().unwrap_or_default();
    let (min, max) = (columns.next(), columns.next());
    let kind = match kind {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer {
            unit,
            min: number(min).unwrap_or(i64::MIN),
            max: number(max).unwrap_or(i64::MAX),
        },
        "real" => Kind::Real {
            unit,
            min: number(min).unwrap_or(f64::MIN),
            max: number(max).unwrap_or(f64::MAX),
        },
        "enum" => Kind::Enum(columns.next().unwrap_or_default()),
        _ => Kind::Text,
    };
    Some(Parameter {
        name,
        majors: first.parse().ok()?..=last.parse().ok()?,
        context,
        kind,
    })
}

fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

/// Every parameter of every major; one that changed between majors is listed more than once.
pub fn all() -> &'static [Parameter] {
    &CATALOGUE
}

/// The parameter called `name` in `major`. Names are compared as PostgreSQL does, without case.
pub fn find(major: u32, name: &str) -> Option<&'static Parameter> {
    all()
        .iter()
        .find(|p| p.majors.contains(&major) && p.name.eq_ignore_ascii_case(name))
}

/// Whether a resource may name the parameter so: as PostgreSQL lists it or all in lower case, so
/// that no parameter is given twice under two spellings by accident.
pub fn is_spelled(parameter: &Parameter, name: &str) -> bool {
    parameter.name == name || parameter.name.to_ascii_lowercase() == name
}

/// Whether `name` is the form of an extension's parameter, for example `auto_explain.log_analyze`.
pub fn is_extension(name: &str) -> bool {
    let part = |part: &str| {
        part.bytes().enumerate().all(|(i, b)| {
            b.is_ascii_alphabetic() || b == b'_' || (i > 0 && (b.is_ascii_digit() || b == b'$'))
        }) && !part.is_empty()
    };
    name.contains('.') && name.split('.').all(part)
}

/// Why a user cannot set the parameter, and what to write instead.
pub fn refused(name: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|group| group.names.contains(&name))
        .map(|group| group.sentence)
        .or_else(|| internal().any(|n| n == name).then_some(INTERNAL))
}

/// Names of parameters that no user can change, and that no other group names.
pub fn internal() -> impl Iterator<Item = &'static str> {
    all()
        .iter()
        .filter(|p| p.context == Context::Internal)
        .map(|p| p.name)
        .filter(|name| !REFUSED.iter().any(|group| group.names.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_catalogue_is_read() {
        let lines = include_str!("parameters.tsv")
            .lines()
            .filter(|l| !l.starts_with('#'));
        assert_eq!(all().len(), lines.count());
        for major in 15..=18 {
            let count = all().iter().filter(|p| p.majors.contains(&major)).count();
            assert!(count > 350, "{major}: {count}");
        }
    }

    #[test]
    fn facts_of_servers_are_found_again() {
        let shared = find(17, "shared_buffers").unwrap();
        assert_eq!(shared.context, Context::Restart);
        assert_eq!(
            shared.kind,
            Kind::Integer {
                unit: "8kB",
                min: 16,
                max: 1_073_741_823
            }
        );
        assert_eq!(find(17, "work_mem").unwrap().context, Context::Reload);
        assert_eq!(find(17, "timezone").unwrap().name, "TimeZone");
        assert_eq!(find(17, "io_method"), None);
        assert!(find(18, "io_method").is_some());
        assert_eq!(
            find(17, "autovacuum_max_workers").unwrap().context,
            Context::Restart
        );
        assert_eq!(
            find(18, "autovacuum_max_workers").unwrap().context,
            Context::Reload
        );
    }

    #[test]
    fn what_is_refused_exists_in_some_major() {
        for name in REFUSED.iter().flat_map(|group| group.names) {
            let known = (15..=18).any(|major| find(major, name).is_some());
            assert!(
                known || ["bonjour", "role", "seed", "session_authorization"].contains(name),
                "{name}"
            );
        }
    }

    #[test]
    fn names_of_extensions_have_a_dot_between_identifiers() {
        assert!(is_extension("auto_explain.log_analyze"));
        assert!(is_extension("a.b.c1$"));
        for name in ["plain", ".x", "x.", "a..b", "a.b c", "a.1", "a.b\nc"] {
            assert!(!is_extension(name), "{name}");
        }
    }
}
