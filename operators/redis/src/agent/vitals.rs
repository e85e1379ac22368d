//! What the running engine says of itself; values only.

use std::collections::BTreeMap;

use mainstay_shared::election::member::Member;

use super::mark::Mark;

/// The address that an engine receives from while it shall receive from nobody: nobody listens there.
pub const NOBODY: (&str, u16) = ("127.0.0.1", 1);

/// What the engine says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Vitals {
    /// Full version, for example `8.0.2`.
    pub version: String,
    /// It has no primary.
    pub is_primary: bool,
    /// Whom it is told to receive from.
    pub upstream: Option<(String, u16)>,
    /// The link to that one stands, and its dataset was received.
    pub link_up: bool,
    /// A whole dataset is on its way.
    pub syncing: bool,
    /// Seconds since the primary was heard of.
    pub heard: Option<u64>,
    /// Seconds since the link to it broke; none while it stands, or where there was none.
    pub apart: Option<u64>,
    /// Bytes that were received from it and are not carried out yet.
    pub lag: Option<u64>,
    /// A dataset is being read into memory.
    pub loading: bool,
    /// Replication id.
    pub replid: String,
    /// Replication offset.
    pub offset: u64,
    /// Who receives from it.
    pub replicas: Vec<Replica>,
    /// Keys in all databases.
    pub keys: u64,
    /// The dataset's mark.
    pub mark: Option<Mark>,
    /// Somebody has removed it since it was seen.
    pub mark_lost: bool,
    /// Replicas without which writes are refused.
    pub min_replicas: u64,
    /// Bytes of memory used.
    pub memory: u64,
    /// And the limit; 0 for none.
    pub memory_limit: u64,
    /// The last snapshot could be written, or the append-only file be rewritten.
    pub snapshot_ok: bool,
    /// The append-only file could be written; else every write is refused.
    pub log_ok: bool,
    /// Keys that were evicted for want of memory.
    pub evicted: u64,
    /// Clients.
    pub clients: u64,
    /// Of a member of a cluster: what the cluster is to this one.
    pub cluster: Option<Clustered>,
}

/// A cluster, as one of its members sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clustered {
    /// It answers for keys.
    pub ok: bool,
    /// Slots whose owner answers.
    pub slots: u64,
}

impl Clustered {
    /// From what `CLUSTER INFO` says.
    pub fn read(said: &str) -> Self {
        let fields = said.lines().filter_map(|l| l.trim_end().split_once(':'));
        fields.fold(Self::default(), |found, field| match field {
            ("cluster_state", state) => Self {
                ok: state == "ok",
                ..found
            },
            ("cluster_slots_ok", slots) => Self {
                slots: slots.parse().unwrap_or(0),
                ..found
            },
            _ => found,
        })
    }
}

/// One that receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// As what it announced itself.
    pub announced: String,
    /// It has the dataset and gets writes.
    pub online: bool,
    /// What it has acknowledged.
    pub offset: u64,
    /// Seconds since it was heard of.
    pub lag: Option<u64>,
}

/// As what a member announces itself to its primary: Redis takes any text for an address.
pub fn announce(member: &Member) -> String {
    format!("{}.{}", member.name, member.generation)
}

/// The member that announced itself so.
pub fn member(announced: &str) -> Option<Member> {
    let (name, generation) = announced.rsplit_once('.')?;
    // An address is nobody.
    let named = !generation.is_empty() && name.chars().any(|c| c.is_ascii_alphabetic());
    named.then(|| Member::new(name, generation))
}

impl Vitals {
    /// From what `INFO` says, and what else was asked. None when it is no answer of `INFO`.
    pub fn read(info: &str, mark: Option<Mark>, min_replicas: u64) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let text = |key: &str| fields.get(key).copied();
        let number = |key: &str| text(key).and_then(|v| v.parse::<u64>().ok());
        let ok = |key: &str| text(key).is_none_or(|v| v == "ok");
        let is_primary = text("role")? == "master";
        let upstream = text("master_host")
            .zip(number("master_port").and_then(|p| u16::try_from(p).ok()))
            .map(|(host, port)| (host.to_owned(), port));
        let replicas = (0..number("connected_slaves").unwrap_or(0))
            .filter_map(|n| replica(text(&format!("slave{n}"))?))
            .collect();
        let keys = fields
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix("db")
                    .is_some_and(|n| n.parse::<u32>().is_ok())
            })
            .filter_map(|(_, value)| {
                value
                    .strip_prefix("keys=")?
                    .split(',')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum();
        Some(Self {
            version: version(info).unwrap_or_default(),
            is_primary,
            upstream,
            link_up: text("master_link_status") == Some("up"),
            syncing: number("master_sync_in_progress") == Some(1),
            heard: number("master_last_io_seconds_ago"),
            apart: number("master_link_down_since_seconds"),
            lag: number("slave_read_repl_offset")
                .zip(number("slave_repl_offset"))
                .map(|(received, done)| received.saturating_sub(done)),
            loading: number("loading") == Some(1) || number("async_loading") == Some(1),
            replid: text("master_replid").unwrap_or_default().to_owned(),
            offset: number("master_repl_offset").unwrap_or(0),
            replicas,
            keys,
            mark,
            mark_lost: false,
            min_replicas,
            memory: number("used_memory").unwrap_or(0),
            memory_limit: number("maxmemory").unwrap_or(0),
            snapshot_ok: ok("rdb_last_bgsave_status") && ok("aof_last_bgrewrite_status"),
            log_ok: ok("aof_last_write_status"),
            evicted: number("evicted_keys").unwrap_or(0),
            clients: number("connected_clients").unwrap_or(0),
            cluster: None,
        })
    }

    /// Whether it receives from nobody, and is told so.
    pub fn is_detached(&self) -> bool {
        let nobody = |(host, port): &(String, u16)| host == NOBODY.0 && *port == NOBODY.1;
        !self.is_primary && self.upstream.as_ref().is_some_and(nobody) && !self.syncing
    }

    /// Members that have what they acknowledged, of those that receive all writes.
    pub fn flushed(&self) -> BTreeMap<Member, u64> {
        let online = self.replicas.iter().filter(|r| r.online && r.offset > 0);
        online
            .filter_map(|r| Some((member(&r.announced)?, r.offset)))
            .collect()
    }
}

/// The server's version by what `INFO` says. Valkey calls itself 7.2 of Redis as well, and has a line of its own.
pub fn version(info: &str) -> Option<String> {
    let line = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
    };
    let found = line("valkey_version").or_else(|| line("redis_version"))?;
    Some(found.trim().to_owned())
}

/// `ip=…,port=…,state=online,offset=…,lag=…`
fn replica(line: &str) -> Option<Replica> {
    let fields: BTreeMap<&str, &str> = line.split(',').filter_map(|f| f.split_once('=')).collect();
    Some(Replica {
        announced: (*fields.get("ip")?).to_owned(),
        online: fields.get("state") == Some(&"online"),
        offset: fields
            .get("offset")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0),
        lag: fields.get("lag").and_then(|v| v.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: &str = "# Server\r\nredis_version:7.0.15\r\n# Replication\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:1\r\n\
        master_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:45\r\nslave_repl_offset:42\r\nmaster_replid:abc\r\nmaster_repl_offset:42\r\n\
        loading:0\r\naof_last_write_status:ok\r\ndb0:keys=5,expires=0\r\ndb3:keys=2,expires=0\r\n";
    const PRIMARY: &str = "redis_version:7.2.4\r\nvalkey_version:8.1.0\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=db-2.aa,port=6379,state=online,offset=90,lag=0\r\n\
        slave1:ip=db-3.bb,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
        slave2:ip=10.0.0.7,port=6379,state=online,offset=90,lag=1\r\n\
        master_replid:abc\r\nmaster_repl_offset:100\r\naof_last_write_status:err\r\nrdb_last_bgsave_status:err\r\n";

    #[test]
    fn a_replica_of_nobody_is_detached() {
        let vitals = Vitals::read(REPLICA, None, 0).unwrap();
        assert!(vitals.is_detached() && !vitals.link_up && vitals.log_ok && vitals.snapshot_ok);
        assert_eq!((vitals.keys, vitals.offset, vitals.heard), (7, 42, None));
        assert_eq!(vitals.lag, Some(3));
        let elsewhere = REPLICA.replace("127.0.0.1", "10.0.0.9");
        assert!(!Vitals::read(&elsewhere, None, 0).unwrap().is_detached());
        let syncing = REPLICA.replace("in_progress:0", "in_progress:1");
        assert!(!Vitals::read(&syncing, None, 0).unwrap().is_detached());
    }

    #[test]
    fn only_members_that_receive_all_writes_count() {
        let vitals = Vitals::read(PRIMARY, None, 0).unwrap();
        assert!(
            vitals.is_primary && !vitals.is_detached() && !vitals.log_ok && !vitals.snapshot_ok
        );
        assert_eq!(vitals.version, "8.1.0");
        assert_eq!(
            vitals.flushed(),
            BTreeMap::from([(Member::new("db-2", "aa"), 90)])
        );
        assert_eq!(Vitals::read("-LOADING", None, 0), None);
    }

    #[test]
    fn members_are_announced_and_understood() {
        let it = Member::new("cache-1", "0123abcd");
        assert_eq!(member(&announce(&it)), Some(it));
        assert_eq!(member("10.0.0.7"), None);
        assert_eq!(member(""), None);
    }
}
