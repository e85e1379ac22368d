//! PostgreSQL's configuration files as text; values only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use mainstay_shared::agent::paths::{self, under};
use mainstay_shared::election::group::Group;
use mainstay_shared::election::member::Member;
use mainstay_shared::names;

use crate::backup::settings as backup;
use crate::settings::{
    ArchiveSettings, POOLER_ROLE, PORT, PROBE_ROLE, PostgresConfig, REPLICATION_ROLE, is_managed,
};

/// What the files depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the instance.
    pub instance: String,
    /// Name of the operating system's user.
    pub user: String,
    /// Addresses to listen on.
    pub listen: String,
    /// Folder under which all others are; `/` in a container.
    pub root: PathBuf,
    /// Folder of the rendered files.
    pub run: PathBuf,
    /// Folder of the certificate files.
    pub tls: PathBuf,
    /// Folder of the Unix socket.
    pub sockets: PathBuf,
    /// Whom to follow: instance and address.
    pub primary: Option<(String, String)>,
    /// By which name it streams: that of its member of the set.
    pub application: String,
    /// For whom commits wait, as [`standby_names`] gives it.
    pub standby_names: String,
    /// Clients are let in.
    pub open: bool,
    /// Writes are taken: the volume is not nearly full of log that waits for the store.
    pub writes: bool,
    /// New files of the log are filled with zeros before they are used, unless the user has decided.
    pub zeroed: bool,
    /// On a replica: the least values of settings with which its data can be opened. They come
    /// from the primary's log, so that it does not matter who is restarted first when one of
    /// these settings gets lower.
    pub floors: BTreeMap<String, u64>,
}

/// The files, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `postgresql.conf`.
    pub settings: String,
    /// `pg_hba.conf`.
    pub access: String,
    /// `pg_ident.conf`.
    pub identities: String,
}

/// Render the files.
pub fn render(config: &PostgresConfig, facts: &Facts) -> Files {
    Files {
        settings: settings(config, facts),
        access: access(config, facts.open),
        identities: identities(config, facts),
    }
}

/// Name of the slot of an instance: slot names know no hyphen or dot.
pub fn slot(instance: &str) -> String {
    instance
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// By which name a member streams, and is waited for.
pub fn application(member: &Member) -> String {
    format!("{}.{}", member.name, member.generation)
}

/// The member that streams by that name.
pub fn member(application: &str) -> Option<Member> {
    let (name, generation) = application.rsplit_once('.')?;
    Some(Member::new(name, generation))
}

/// `synchronous_standby_names` for a group. Without a group nothing may be acknowledged: commits
/// wait for somebody who is never there.
pub fn standby_names(group: Option<&Group>) -> String {
    let Some(group) = group else {
        return "ANY 1 (\"nobody.\")".to_owned();
    };
    if group.acks == 0 {
        return String::new();
    }
    let voters: Vec<String> = group
        .voters
        .iter()
        .map(|m| format!("\"{}\"", application(m)))
        .collect();
    format!("ANY {} ({})", group.acks, voters.join(","))
}

/// `synchronous_standby_names` for whichever of these members has a commit first.
pub fn any_of<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let quoted = members
        .into_iter()
        .map(|m| format!("\"{}\"", application(m)));
    format!("ANY 1 ({})", quoted.collect::<Vec<_>>().join(","))
}

/// How to reach the primary: as a replica's `primary_conninfo`, and for `pg_basebackup`.
pub fn conninfo(config: &PostgresConfig, facts: &Facts, instance: &str, address: &str) -> String {
    let file = |name: &str| facts.tls.join(name).display().to_string();
    let pairs = [
        (
            "host",
            names::instance_host(instance, &config.set, &config.namespace),
        ),
        ("hostaddr", address.to_owned()),
        ("port", PORT.to_string()),
        ("user", REPLICATION_ROLE.to_owned()),
        ("application_name", facts.application.clone()),
        ("sslmode", "verify-full".to_owned()),
        ("sslcert", file("tls.crt")),
        ("sslkey", file("tls.key")),
        ("sslrootcert", file("ca.crt")),
        ("connect_timeout", "5".to_owned()),
        ("keepalives_idle", "5".to_owned()),
        ("keepalives_interval", "3".to_owned()),
        ("keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "10000".to_owned()),
    ];
    let quote = |v: &str| v.replace('\\', "\\\\").replace('\'', "\\'");
    let quoted = pairs.iter().map(|(k, v)| format!("{k}='{}'", quote(v)));
    quoted.collect::<Vec<_>>().join(" ")
}

/// Settings that are asked lower than the floors allow: they come into force when the engine is
/// started as a primary.
pub fn held_back(config: &PostgresConfig, floors: &BTreeMap<String, u64>) -> Vec<String> {
    let asked = |name: &str| -> Option<u64> {
        let parameters = &config.engine.parameters;
        parameters.get(name)?.trim().parse().ok()
    };
    let lower = floors
        .iter()
        .filter(|(name, floor)| asked(name).is_some_and(|a| a < **floor));
    lower.map(|(name, _)| name.clone()).collect()
}

/// What holds unless the user says otherwise.
fn defaults() -> [(&'static str, &'static str); 14] {
    [
        ("checkpoint_completion_target", "0.9"),
        ("log_checkpoints", "on"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("log_timezone", "UTC"),
        ("max_replication_slots", "20"),
        ("max_wal_senders", "20"),
        // After a crash one call syncs the volume, instead of one for each file.
        ("recovery_init_sync_method", "syncfs"),
        ("ssl_min_protocol_version", "TLSv1.2"),
        ("tcp_keepalives_count", "3"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "3"),
        ("timezone", "UTC"),
        ("wal_receiver_timeout", "10s"),
        ("wal_sender_timeout", "10s"),
    ]
}

fn settings(config: &PostgresConfig, facts: &Facts) -> String {
    let mut all: BTreeMap<String, String> =
        defaults().map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    for (name, value) in &config.engine.parameters {
        if !is_managed(name) {
            all.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    for (name, floor) in &facts.floors {
        let asked = all.get(name).and_then(|v| v.trim().parse().ok());
        let value = asked.map_or(*floor, |asked: u64| asked.max(*floor));
        all.insert(name.clone(), value.to_string());
    }
    let in_run = |name: &str| facts.run.join(name).display().to_string();
    let in_tls = |name: &str| facts.tls.join(name).display().to_string();
    let mut managed: Vec<(&str, String)> = vec![
        ("cluster_name", facts.instance.clone()),
        ("fsync", "on".to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("hba_file", in_run("pg_hba.conf")),
        ("hot_standby", "on".to_owned()),
        ("ident_file", in_run("pg_ident.conf")),
        ("listen_addresses", facts.listen.clone()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        (
            "max_slot_wal_keep_size",
            format!("{}MB", config.engine.max_slot_wal_keep_mib),
        ),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("port", PORT.to_string()),
        ("primary_slot_name", slot(&facts.instance)),
        ("recovery_target_timeline", "latest".to_owned()),
        // The agent starts it again: until enough members have what was recovered, nobody is let in.
        ("restart_after_crash", "off".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_ca_file", in_tls("ca.crt")),
        ("ssl_cert_file", in_tls("tls.crt")),
        ("ssl_key_file", in_tls("tls.key")),
        ("synchronous_standby_names", facts.standby_names.clone()),
        (
            "unix_socket_directories",
            facts.sockets.display().to_string(),
        ),
        ("unix_socket_permissions", "0700".to_owned()),
        ("wal_level", "replica".to_owned()),
        ("wal_log_hints", "on".to_owned()),
        ("wal_retrieve_retry_interval", "500ms".to_owned()),
    ];
    if config.engine.major >= 17 {
        // What is in the data directory would silently win over the resource.
        managed.push(("allow_alter_system", "off".to_owned()));
    }
    if let Some(archive) = &config.engine.archive {
        managed.extend(archived(*archive, config.engine.major, &facts.root));
    } else if !ARCHIVING.iter().any(|name| all.contains_key(*name)) {
        // `archive_mode` stays on until a restart: with nothing to run, the log would pile up until then.
        managed.push(("archive_command", "true".to_owned()));
    }
    if !facts.zeroed && !all.contains_key(ZEROED) {
        managed.push((ZEROED, "off".to_owned()));
    }
    if !facts.writes {
        managed.extend(REFUSING.map(|(name, value)| (name, value.to_owned())));
    }
    let conninfo = match &facts.primary {
        Some((instance, address)) => conninfo(config, facts, instance, address),
        None => String::new(),
    };
    managed.push(("primary_conninfo", conninfo));
    all.extend(managed.into_iter().map(|(k, v)| (k.to_owned(), v)));
    let mut text =
        "# Rendered by Mainstay; changes belong in the resource's parameters.\n".to_owned();
    for (name, value) in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = '{}'", quoted(&value));
    }
    text
}

/// Whether a new file of the log is written with zeros, and synced, before it is used.
const ZEROED: &str = "wal_init_zero";

/// What holds while writes are refused: nothing is written but by who asks for it by name, and a file of the log
/// that hardly anything is in is not ended.
const REFUSING: [(&str, &str); 3] = [
    ("archive_timeout", "0"),
    ("autovacuum", "off"),
    ("default_transaction_read_only", "on"),
];

/// Where the user has set one of these, how the log is archived is the user's.
const ARCHIVING: [&str; 3] = ["archive_mode", "archive_command", "archive_library"];

/// The log is archived by the backup container, on replicas too: so whoever is promoted has what its
/// predecessor had not stored.
fn archived(archive: ArchiveSettings, major: u32, root: &Path) -> Vec<(&'static str, String)> {
    let program = under(root, paths::BIN).join(paths::BINARY);
    let socket = under(root, backup::SOCKET);
    let (program, socket) = (in_command(&program), in_command(&socket));
    let command = format!("{program} push --socket {socket} %p");
    let mut all = vec![
        ("archive_mode", "always".to_owned()),
        ("archive_command", command),
        ("archive_library", String::new()),
        ("archive_timeout", format!("{}s", archive.timeout_seconds)),
    ];
    if major >= 17 {
        all.push(("summarize_wal", "on".to_owned()));
        all.push((
            "wal_summary_keep_time",
            format!("{}d", archive.summary_days),
        ));
    }
    all
}

/// A path in a command that PostgreSQL runs, where a percent sign stands for something else.
pub fn in_command(path: &Path) -> String {
    format!("\"{}\"", path.display()).replace('%', "%%")
}

/// Inside single quotes of `postgresql.conf`. A line break cannot be written there at all.
pub fn quoted(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace(['\n', '\r'], " ")
}

fn access(config: &PostgresConfig, open: bool) -> String {
    let pooled = config.engine.pooler.is_some();
    let mut ours = format!("{REPLICATION_ROLE},{PROBE_ROLE},postgres");
    // Where clients are not let in, their poolers must not think so.
    let lookups = if pooled && open {
        format!("hostssl postgres     {POOLER_ROLE}       all  cert map=pooler\n")
    } else {
        String::new()
    };
    if pooled {
        ours.push(',');
        ours.push_str(POOLER_ROLE);
    }
    // For `pg_basebackup` in the backup container.
    let copies = if config.engine.archive.is_some() {
        "local   replication  postgres             peer map=agent\n"
    } else {
        ""
    };
    let mut text = format!(
        "# Rendered by Mainstay.\n\
         local   all          postgres             peer map=agent\n\
         {copies}\
         local   all          all                  scram-sha-256\n\
         hostssl replication  {REPLICATION_ROLE}  all  cert map=instances\n\
         hostssl postgres     {REPLICATION_ROLE}  all  cert map=instances\n\
         hostssl all          {PROBE_ROLE}        all  cert map=probe\n\
         {lookups}\
         host    all,replication  {ours}  all  reject\n"
    );
    if !open {
        // What was recovered may not be on enough disks yet.
        text.push_str("host    all  all  all  reject\n");
        return text;
    }
    for rule in &config.engine.host_rules {
        text.push_str(&rule.replace(['\n', '\r'], " "));
        text.push('\n');
    }
    text.push_str("hostssl all  all  all  scram-sha-256\n");
    text
}

fn identities(config: &PostgresConfig, facts: &Facts) -> String {
    let mut text = format!(
        "# Rendered by Mainstay.\nagent  \"{}\"  postgres\n",
        facts.user
    );
    for member in &config.members {
        let _ = writeln!(text, "instances  \"{member}\"  {REPLICATION_ROLE}");
    }
    let _ = writeln!(
        text,
        "probe  \"{}\"  {PROBE_ROLE}",
        names::PROBE_COMMON_NAME
    );
    if config.engine.pooler.is_some() {
        let _ = writeln!(
            text,
            "pooler  \"{}\"  {POOLER_ROLE}",
            names::POOLER_COMMON_NAME
        );
    }
    text
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
