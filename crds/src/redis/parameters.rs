//! What Redis' directives are, as far as a user may set them: facts of its servers, the same in Valkey but for what a
//! version lacks. And which of them a user cannot set.

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number.
    Integer {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// Bytes, with or without a unit.
    Bytes {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// One of these words.
    Words(&'static [&'static str]),
    /// Classes of key space events, a letter each.
    Events,
    /// Pairs of seconds and changes.
    Snapshots,
}

/// A directive that a user may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What a value must be.
    pub kind: Kind,
    /// Whether `CONFIG SET` changes it; else it takes a restart.
    pub live: bool,
}

/// Directives that Mainstay refuses, with what to write instead.
pub struct Refused {
    /// Their names, in lower case.
    pub names: &'static [&'static str],
    /// Why, and what to write instead.
    pub sentence: &'static str,
}

const MOST: i64 = i32::MAX as i64;
const MIB: i64 = 1 << 20;
const TIB: i64 = 1 << 40;

const fn live(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        live: true,
    }
}

const fn restart(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        live: false,
    }
}

const fn number(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const fn bytes(min: i64) -> Kind {
    Kind::Bytes { min, max: TIB }
}

/// Directives that a user may set, by name.
pub const KNOWN: &[Parameter] = &[
    live("active-expire-effort", number(1, 10)),
    live("activerehashing", Kind::Bool),
    live("aof-rewrite-incremental-fsync", Kind::Bool),
    live("appendfsync", Kind::Words(&["everysec", "always"])),
    live("auto-aof-rewrite-min-size", bytes(MIB)),
    live("auto-aof-rewrite-percentage", number(1, 1000)),
    // A primary that is silent for longer loses its Lease before it says that it is busy.
    live("busy-reply-threshold", number(1000, 2000)),
    live("client-query-buffer-limit", bytes(MIB)),
    restart("databases", number(1, 10_000)),
    live("dynamic-hz", Kind::Bool),
    live("hash-max-listpack-entries", number(0, MOST)),
    live("hash-max-listpack-value", bytes(0)),
    live("hll-sparse-max-bytes", bytes(0)),
    live("hz", number(1, 500)),
    restart("io-threads", number(1, 64)),
    live("latency-monitor-threshold", number(0, MOST)),
    live("latency-tracking", Kind::Bool),
    live("lazyfree-lazy-eviction", Kind::Bool),
    live("lazyfree-lazy-expire", Kind::Bool),
    live("lazyfree-lazy-server-del", Kind::Bool),
    live("lazyfree-lazy-user-del", Kind::Bool),
    live("lazyfree-lazy-user-flush", Kind::Bool),
    live("lfu-decay-time", number(0, MOST)),
    live("lfu-log-factor", number(0, MOST)),
    live("list-compress-depth", number(0, MOST)),
    live("list-max-listpack-size", number(-5, 65_535)),
    live("maxclients", number(20, 60_000)),
    live("maxmemory-eviction-tenacity", number(0, 100)),
    live("maxmemory-samples", number(1, 64)),
    live("notify-keyspace-events", Kind::Events),
    live("proto-max-bulk-len", bytes(MIB)),
    live("rdb-save-incremental-fsync", Kind::Bool),
    live("rdbcompression", Kind::Bool),
    live("repl-backlog-size", bytes(MIB)),
    live("save", Kind::Snapshots),
    live("set-max-intset-entries", number(0, MOST)),
    live("set-max-listpack-entries", number(0, MOST)),
    live("set-max-listpack-value", number(0, MOST)),
    live("slowlog-log-slower-than", number(-1, MOST)),
    live("slowlog-max-len", number(0, MOST)),
    live("stream-node-max-bytes", bytes(0)),
    live("stream-node-max-entries", number(0, MOST)),
    restart("tcp-backlog", number(16, 65_535)),
    live("tcp-keepalive", number(0, MOST)),
    live("timeout", number(0, MOST)),
    live("tracking-table-max-keys", number(0, MOST)),
    live("zset-max-listpack-entries", number(0, MOST)),
    live("zset-max-listpack-value", number(0, MOST)),
];

/// Directives that a version has not: it would not start with them.
#[derive(Clone, Copy, Debug)]
pub struct Lacking {
    /// Whose program.
    pub engine: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The directives.
    pub names: &'static [&'static str],
    /// What is wrong with them, and what to do.
    pub sentence: &'static str,
}

/// Of each version that lacks any of [`KNOWN`], which.
pub const LACKING: &[Lacking] = &[
    Lacking {
        engine: "Redis",
        version: "7.0",
        names: &["set-max-listpack-entries", "set-max-listpack-value"],
        sentence: "Redis 7.0 has neither set-max-listpack-entries nor set-max-listpack-value: remove them, or write a newer version",
    },
    Lacking {
        engine: "Valkey",
        version: "8.1",
        names: &["dynamic-hz"],
        sentence: "Valkey 8.1 has no dynamic-hz any more, it does by itself what that said: remove it",
    },
];

/// Directives that a user cannot set, by reason.
pub const REFUSED: &[Refused] = &[
    Refused {
        names: &[
            "bind",
            "bind-source-addr",
            "port",
            "protected-mode",
            "unixsocket",
            "unixsocketperm",
        ],
        sentence: "Mainstay decides where Redis listens; remove it, and write network.clients for who may connect",
    },
    Refused {
        names: &[
            "tls-auth-clients",
            "tls-ca-cert-dir",
            "tls-ca-cert-file",
            "tls-cert-file",
            "tls-ciphers",
            "tls-ciphersuites",
            "tls-client-cert-file",
            "tls-client-key-file",
            "tls-cluster",
            "tls-dh-params-file",
            "tls-key-file",
            "tls-port",
            "tls-prefer-server-ciphers",
            "tls-protocols",
            "tls-replication",
            "tls-session-cache-size",
            "tls-session-cache-timeout",
            "tls-session-caching",
        ],
        sentence: "every connection is TLS with certificates that Mainstay renews; remove it, and write tls for their duration",
    },
    Refused {
        names: &[
            "aclfile",
            "appenddirname",
            "appendfilename",
            "dbfilename",
            "dir",
            "include",
            "loadmodule",
            "logfile",
            "pidfile",
        ],
        sentence: "Mainstay keeps Redis' files where its pods expect them; remove it",
    },
    Refused {
        names: &["maxmemory"],
        sentence: "it follows from resources.memory, with room for what a fork copies; remove it, and write resources.memory",
    },
    Refused {
        names: &["maxmemory-policy"],
        sentence: "it is a field of its own; remove it, and write maxmemoryPolicy",
    },
    Refused {
        names: &[
            "min-replicas-max-lag",
            "min-replicas-to-write",
            "min-slaves-max-lag",
            "min-slaves-to-write",
        ],
        sentence: "it follows from durability; remove it, and write durability: bounded and bounded",
    },
    Refused {
        names: &[
            "aof-load-truncated",
            "aof-use-rdb-preamble",
            "appendonly",
            "no-appendfsync-on-rewrite",
            "rdb-del-sync-files",
            "rdbchecksum",
            "sanitize-dump-payload",
            "stop-writes-on-bgsave-error",
        ],
        sentence: "Mainstay decides what is on the volume, so that no write that is there is lost; remove it, and write persistence",
    },
    Refused {
        names: &[
            "masterauth",
            "masteruser",
            "primaryauth",
            "primaryuser",
            "repl-backlog-ttl",
            "repl-disable-tcp-nodelay",
            "repl-diskless-load",
            "repl-diskless-sync",
            "repl-diskless-sync-delay",
            "repl-diskless-sync-max-replicas",
            "repl-ping-replica-period",
            "repl-timeout",
            "replica-announce-ip",
            "replica-announce-port",
            "replica-announced",
            "replica-ignore-maxmemory",
            "replica-lazy-flush",
            "replica-priority",
            "replica-read-only",
            "replica-serve-stale-data",
            "replicaof",
            "slaveof",
        ],
        sentence: "who follows whom, and how, is decided by Mainstay's agents; remove it",
    },
    Refused {
        names: &[
            "acl-pubsub-default",
            "enable-debug-command",
            "enable-module-command",
            "enable-protected-configs",
            "rename-command",
            "requirepass",
            "user",
        ],
        sentence: "users and what they may do are Mainstay's; remove it, and use the Secret of the application",
    },
    Refused {
        names: &[
            "cluster-announce-hostname",
            "cluster-announce-ip",
            "cluster-config-file",
            "cluster-enabled",
            "cluster-node-timeout",
            "cluster-require-full-coverage",
        ],
        sentence: "Redis Cluster is not offered yet; remove it",
    },
    Refused {
        names: &[
            "crash-log-enabled",
            "crash-memcheck-enabled",
            "daemonize",
            "loglevel",
            "oom-score-adj",
            "oom-score-adj-values",
            "set-proc-title",
            "shutdown-on-sigint",
            "shutdown-on-sigterm",
            "shutdown-timeout",
            "supervised",
            "syslog-enabled",
            "syslog-facility",
            "syslog-ident",
        ],
        sentence: "how the process runs, stops and logs is decided by Mainstay's agents; remove it",
    },
];

/// What is known of a directive that a user may set. Names are compared as they are: in lower case.
pub fn find(name: &str) -> Option<&'static Parameter> {
    let at = KNOWN.binary_search_by(|p| p.name.cmp(name)).ok()?;
    KNOWN.get(at)
}

/// Why a directive is refused; in any spelling.
pub fn refused(name: &str) -> Option<&'static str> {
    let group = REFUSED.iter().find(|group| {
        let mut names = group.names.iter();
        names.any(|n| n.eq_ignore_ascii_case(name))
    });
    group.map(|group| group.sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_found() {
        assert!(KNOWN.is_sorted_by(|a, b| a.name < b.name));
        for group in REFUSED {
            assert!(group.names.is_sorted(), "{:?}", group.names);
            for name in group.names {
                assert_eq!(find(name), None, "{name}");
                assert_eq!(refused(&name.to_uppercase()), Some(group.sentence));
            }
        }
        assert!(find("hz").is_some_and(|p| p.live));
        assert!(find("databases").is_some_and(|p| !p.live));
        assert_eq!(refused("hz"), None);
    }
}
