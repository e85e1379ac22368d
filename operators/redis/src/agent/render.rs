//! The configuration and the ACL that Redis starts with; values only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use mainstay_shared::agent::config::Role;
use mainstay_shared::hex::hex;
use mainstay_shared::pki::{CA_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY};
use sha2::{Digest, Sha256};

use super::vitals::NOBODY;
use crate::settings::{PORT, Persistence, REPLICATION_ROLE, RULES, RedisSettings};
use crate::shards;

/// ACL user of the agent. It exists for one start of the engine.
pub const AGENT_ROLE: &str = "mainstay_agent";
/// So many replicas no primary has: every write is refused. The door is shut with it.
pub const SHUT: u64 = 65_535;
/// Seconds since a replica was heard of, after which it counts for no write, unless the resource says so.
const MAX_LAG: u32 = 10;

/// What the configuration depends on besides the settings.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Addresses to listen on.
    pub listen: String,
    /// As what it announces itself to a primary.
    pub announce: String,
    /// Folder of the dataset.
    pub data: PathBuf,
    /// Folder of certificate files.
    pub tls: PathBuf,
    /// Unix socket.
    pub socket: PathBuf,
    /// ACL file.
    pub acl: PathBuf,
    /// Password with which replicas log in to their primary.
    pub password: String,
    /// Address at which other members of a cluster find it.
    pub address: String,
}

/// Directives that can be changed while it runs, by name: the user's, persistence, and the bound on lag.
pub fn directives(settings: &RedisSettings) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    let (log, sync, save) = match settings.persistence {
        Persistence::Aof => ("yes", "everysec", Some("")),
        // As Redis has it by itself.
        Persistence::Rdb => ("no", "everysec", Some("3600 1 300 100 60 10000")),
        Persistence::None => ("no", "everysec", Some("")),
    };
    set("appendonly", log);
    set("appendfsync", sync);
    if let Some(save) = save {
        set("save", save);
    }
    let lag = settings.replicas.map_or(MAX_LAG, |r| r.max_lag_seconds);
    set("min-replicas-max-lag", &lag.to_string());
    // Before its silence costs a primary its Lease it says that a script holds everybody up.
    set("busy-reply-threshold", "2000");
    // A replica is followed by nobody's word but this agent's; a link that is dead is noticed in good time.
    set("repl-ping-replica-period", "2");
    set("repl-timeout", "15");
    for (name, value) in &settings.parameters {
        set(name, value);
    }
    all
}

/// What the door's setting is when clients may write.
pub fn open(settings: &RedisSettings) -> u64 {
    settings.replicas.map_or(0, |r| u64::from(r.count))
}

/// `redis.conf`.
///
/// Guarantee, the boot guard: an engine that starts with it takes no write, unless it is a member of a cluster, where it goes on
/// as what it was once it reaches most primaries ([`super::member`] says when it may start). It is a replica of nobody, before it has read a
/// byte of its dataset and until this agent says otherwise, so it refuses writes as a replica; and should anything else
/// make a primary of it, it asks for more replicas than there can be.
pub fn configuration(settings: &RedisSettings, facts: &Facts) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        let value = if value.is_empty() { "\"\"" } else { value };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} {value}");
    };
    for (name, value) in directives(settings) {
        set(&name, &value);
    }
    let file = |path: &Path| quoted(&path.display().to_string());
    set("port", "0");
    set("tls-port", &PORT.to_string());
    let listen = if facts.listen == "*" {
        "* -::*"
    } else {
        &facts.listen
    };
    set("bind", listen);
    set("protected-mode", "no");
    set("tls-replication", "yes");
    // Whoever shows a certificate shows one of this set's authority; clients need none.
    set("tls-auth-clients", "optional");
    set("tls-cert-file", &file(&facts.tls.join(CERTIFICATE_KEY)));
    set("tls-key-file", &file(&facts.tls.join(PRIVATE_KEY_KEY)));
    set("tls-ca-cert-file", &file(&facts.tls.join(CA_KEY)));
    set("unixsocket", &file(&facts.socket));
    set("unixsocketperm", "700");
    set("dir", &file(&facts.data));
    set("aclfile", &file(&facts.acl));
    set("daemonize", "no");
    set("logfile", "");
    set("masteruser", REPLICATION_ROLE);
    set("masterauth", &quoted(&facts.password));
    set("replica-read-only", "yes");
    if settings.clustered {
        for (name, value) in shards::directives::directives(&facts.announce, &facts.address) {
            set(name, &value);
        }
        // Clients are led to names, which certificates bear; addresses change.
        set("cluster-preferred-endpoint-type", "hostname");
        set("min-replicas-to-write", &open(settings).to_string());
    } else {
        set("replicaof", &format!("{} {}", NOBODY.0, NOBODY.1));
        set("replica-announce-ip", &facts.announce);
        set("min-replicas-to-write", &SHUT.to_string());
    }
    // A dataset that is received comes to the volume whole and synced before the old one is let go: what is broken off
    // leaves the replica what it had. From memory to memory it would have nothing meanwhile (`on-empty-db`
    // and the like), or two datasets in memory (`swapdb`).
    set("repl-diskless-load", "disabled");
    set("repl-diskless-sync", "yes");
    set("repl-diskless-sync-delay", "0");
    // With the backlog, Redis would throw its replication id away after an hour without replicas.
    set("repl-backlog-ttl", "0");
    text
}

/// What is said of the user `default`: nobody is it, but who reads the append-only file is, and has to be allowed what
/// others were. Else all that was written in transactions is left out, without an end of the start.
const DEFAULT_USER: &str = "user default off ~* &* +@all\n";

/// The ACL file: nobody is `default`; those of the set, and this agent's own.
pub fn acl(roles: &[Role], agent_password: &str) -> String {
    let mut text = DEFAULT_USER.to_owned();
    let mut line = |name: &str, rules: &str| {
        let _ = writeln!(text, "user {name} {rules}");
    };
    for role in roles {
        line(&role.name, &rules(role));
    }
    line(
        AGENT_ROLE,
        &format!("on #{} ~* &* +@all", check(agent_password)),
    );
    text
}

/// Rules of a user, as `ACL SETUSER` and the file take them.
pub fn rules(role: &Role) -> String {
    let more = role.attributes.get(RULES).map_or("", String::as_str);
    // Each word of the check value is one password; both are valid while one is changed.
    let hashes = role.verifier.split_whitespace().map(|hash| {
        if hash.starts_with('#') {
            hash.to_owned()
        } else {
            format!("#{hash}")
        }
    });
    let hashes: Vec<String> = hashes.collect();
    format!("on {} {more}", hashes.join(" "))
        .trim_end()
        .to_owned()
}

/// What the ACL keeps to check a password.
pub fn check(password: &str) -> String {
    hex(&Sha256::digest(password.as_bytes()))
}

fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ReplicasToWrite;

    fn facts() -> Facts {
        Facts {
            listen: "*".into(),
            announce: "db-1.aa".into(),
            data: "/data/redis".into(),
            tls: "/run/tls".into(),
            socket: "/run/redis.sock".into(),
            acl: "/run/users.acl".into(),
            password: "a\"b".into(),
            address: "10.0.0.7".into(),
        }
    }

    #[test]
    fn whatever_is_set_it_starts_as_a_replica_of_nobody_that_takes_no_write() {
        let mut settings = RedisSettings {
            replicas: Some(ReplicasToWrite {
                count: 1,
                max_lag_seconds: 3,
            }),
            ..RedisSettings::default()
        };
        // The last line of a name counts.
        settings.parameters = [
            ("min-replicas-to-write", "0"),
            ("replicaof", "10.0.0.1 6379"),
            ("port", "6379"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let text = configuration(&settings, &facts());
        let last = |name: &str| {
            let lines = text.lines().filter_map(|l| l.split_once(' '));
            lines
                .filter(|(n, _)| *n == name)
                .map(|(_, v)| v.to_owned())
                .next_back()
        };
        assert_eq!(last("replicaof").as_deref(), Some("127.0.0.1 1"));
        assert_eq!(last("min-replicas-to-write").as_deref(), Some("65535"));
        assert_eq!(last("port").as_deref(), Some("0"));
        assert_eq!(last("min-replicas-max-lag").as_deref(), Some("3"));
        assert_eq!(last("save").as_deref(), Some("\"\""));
        assert_eq!(last("masterauth").as_deref(), Some("\"a\\\"b\""));
        assert_eq!(open(&settings), 1);
    }

    #[test]
    fn a_member_of_a_cluster_announces_its_name_and_follows_whom_the_cluster_says() {
        let settings = RedisSettings {
            clustered: true,
            ..RedisSettings::default()
        };
        let mut facts = facts();
        facts.announce = "db-1.db-peers.shop.svc".into();
        let text = configuration(&settings, &facts);
        for line in [
            "cluster-enabled yes",
            "tls-cluster yes",
            "cluster-announce-ip 10.0.0.7",
            "cluster-announce-hostname db-1.db-peers.shop.svc",
            "cluster-preferred-endpoint-type hostname",
            "min-replicas-to-write 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("replicaof"), "{text}");
    }

    #[test]
    fn two_passwords_are_valid_while_one_is_changed_and_default_never() {
        let role = Role {
            name: "app".into(),
            verifier: "#aa bb".into(),
            attributes: [(RULES.to_owned(), "~app:* +@read".to_owned())].into(),
        };
        let text = acl(&[role], "secret");
        assert!(
            text.contains("user app on #aa #bb ~app:* +@read\n"),
            "{text}"
        );
        assert!(text.starts_with(DEFAULT_USER));
        assert!(!text.contains("secret"));
    }
}
