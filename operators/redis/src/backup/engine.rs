//! Asking the running engine, as the user that may receive its dataset, over TLS from within the pod. I/O.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::mounts::read_identity;
use mainstay_shared::agent::paths;
use mainstay_shared::backups::container::Ground;
use mainstay_shared::names::instance_host;
use mainstay_shared::pki::client_config;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::parts::Giver;
use crate::agent::mark::{LIBRARY, Mark};
use crate::agent::session::mark_in;
use crate::agent::vitals::Vitals;
use crate::resp::{Connection, RespError, words};
use crate::settings::{BACKUP_PASSWORD, BACKUP_ROLE, Flavour, INTERNAL, PORT, RedisConfig};

/// Longest wait for a connection, log-in included.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer: a fork holds a large engine up for a moment.
const ANSWER: Duration = Duration::from_secs(10);

/// Where the engine is, and as whom it is asked.
#[derive(Clone)]
pub struct Access {
    address: SocketAddr,
    host: ServerName<'static>,
    tls: Arc<ClientConfig>,
    password: String,
    /// It is a member of a cluster.
    pub clustered: bool,
}

impl Access {
    /// By what is mounted.
    ///
    /// # Errors
    /// Something is missing; a sentence.
    pub fn read(ground: &Ground) -> Result<Self, String> {
        let file = ground.mount(paths::CONFIG).join(paths::CONFIG_FILE);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", paths::CONFIG_FILE);
        let text = fs::read_to_string(&file).map_err(|e| wrong(&e))?;
        let config: RedisConfig = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        let host = instance_host(&ground.me.instance, &config.set, &config.namespace);
        let host = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let pair = read_identity(&ground.mount(paths::TLS))?;
        // It shows no certificate: a password says who it is.
        let tls = client_config(&pair.ca, None).map_err(|e| e.to_string())?;
        let secret = ground.mount(INTERNAL).join(BACKUP_PASSWORD);
        let password = fs::read_to_string(&secret);
        let password = password.map_err(|e| {
            format!("the password of {BACKUP_ROLE} cannot be read, which comes with the set's next change: {e}")
        })?;
        // Within a pod it listens everywhere.
        let ip = ground.listen.parse();
        let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Self {
            address: SocketAddr::new(ip, PORT),
            host,
            tls: Arc::new(tls),
            password: password.trim().to_owned(),
            clustered: config.engine.clustered,
        })
    }

    /// The same to another member of the cluster.
    ///
    /// # Errors
    /// Where it is cannot be understood; a sentence.
    pub fn at(&self, giver: &Giver) -> Result<Self, String> {
        let ip: IpAddr =
            giver.address.host.parse().map_err(|_| {
                format!("{} is at no address: {}", giver.name(), giver.address.host)
            })?;
        let host = ServerName::try_from(giver.host.clone()).map_err(|e| e.to_string())?;
        Ok(Self {
            address: SocketAddr::new(ip, giver.address.port),
            host,
            ..self.clone()
        })
    }

    /// A connection that is logged in.
    ///
    /// # Errors
    /// A sentence.
    pub async fn connect(&self) -> Result<Connection, String> {
        let connect = async {
            let (host, tls) = (self.host.clone(), Arc::clone(&self.tls));
            let mut connection = Connection::tls(self.address, host, tls).await?;
            connection.login(BACKUP_ROLE, &self.password).await?;
            Ok::<_, RespError>(connection)
        };
        match timeout(CONNECT, connect).await {
            Ok(done) => done.map_err(|e| e.to_string()),
            Err(_) => Err("Redis does not take a connection in time".to_owned()),
        }
    }
}

/// What the engine says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As its agent sees it.
    pub vitals: Vitals,
    /// Whose dataset it is, and how far it goes.
    pub mark: Mark,
    /// Whose program it is.
    pub flavour: Flavour,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// Bytes that were copied since a fork began, since they were written meanwhile.
    pub copied: u64,
}

impl Facts {
    /// Why no backup can be made of it now, if there is a reason.
    pub fn unfit(&self) -> Option<&'static str> {
        let Vitals {
            loading,
            is_primary,
            link_up,
            syncing,
            ..
        } = self.vitals;
        if loading {
            return Some("it reads its dataset");
        }
        if !is_primary && (!link_up || syncing) {
            return Some("it does not receive from a primary");
        }
        None
    }
}

/// Part of `maxmemory` that may be copied while a snapshot is sent: a third of it is left for that.
const COPIED: u64 = 4;

/// Within which an engine stays one that a backup is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    is_primary: bool,
    /// Bytes that may be copied; 0: any.
    copied: u64,
}

impl Bounds {
    /// Of an engine as it is when a backup begins.
    pub fn of(before: &Facts) -> Self {
        Self {
            is_primary: before.vitals.is_primary,
            copied: before.vitals.memory_limit / COPIED,
        }
    }

    /// Why the backup is given up, if there is a reason.
    pub fn left_by(&self, now: &Facts) -> Option<String> {
        if now.vitals.is_primary != self.is_primary {
            return Some("the primary changed while the dataset was read".to_owned());
        }
        (self.copied > 0 && now.copied > self.copied).then(|| {
            format!(
                "{} MiB were written while the dataset was read, which needs the memory that is left: a faster store, or \
                 a quieter hour, would help",
                now.copied >> 20
            )
        })
    }
}

/// Asks.
///
/// # Errors
/// No answer, or a dataset without a mark; a sentence.
pub async fn facts(connection: &mut Connection) -> Result<Facts, String> {
    let asked = [
        words(["INFO"]),
        words(["FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE"]),
    ];
    let answers = timeout(ANSWER, connection.pipeline(&asked)).await;
    let answers = answers.map_err(|_| "Redis does not answer in time".to_owned())?;
    let answers = answers.map_err(|e| e.to_string())?;
    let [info, library] = answers.as_slice() else {
        return Err("Redis has not answered everything".to_owned());
    };
    let info = info.clone().accepted().map_err(|e| e.to_string())?;
    let info = info.text().unwrap_or_default();
    let mark = mark_in(library);
    let vitals = Vitals::read(&info, mark.clone(), 0);
    let vitals = vitals.ok_or_else(|| "Redis does not say what it is".to_owned())?;
    let mark = mark.ok_or_else(|| {
        "the dataset does not say whose it is: that is so until a primary leads for the first time, or a cluster is formed".to_owned()
    })?;
    Ok(Facts {
        vitals,
        mark,
        flavour: flavour(&info),
        keys: keys(&info),
        copied: number(&info, "current_cow_size").unwrap_or(0),
    })
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// A number that `INFO` says.
pub fn number(info: &str, name: &str) -> Option<u64> {
    field(info, name)?.parse().ok()
}

/// Whose program it is.
pub fn flavour(info: &str) -> Flavour {
    if field(info, "valkey_version").is_some() {
        Flavour::Valkey
    } else {
        Flavour::Redis
    }
}

/// Keys by database.
pub fn keys(info: &str) -> BTreeMap<u32, u64> {
    let one = |line: &str| {
        let (database, rest) = line.trim().strip_prefix("db")?.split_once(":keys=")?;
        Some((
            database.parse().ok()?,
            rest.split(',').next()?.parse().ok()?,
        ))
    };
    info.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "redis_version:7.0.15\r\nrole:slave\r\nmaster_link_status:up\r\nloading:0\r\ncurrent_cow_size:4096\r\n\
        db0:keys=5,expires=1,avg_ttl=0\r\ndb12:keys=2,expires=0\r\ndbx:keys=9\r\n";

    fn facts_of(info: &str) -> Facts {
        Facts {
            vitals: Vitals::read(info, None, 0).unwrap(),
            mark: Mark::default(),
            flavour: flavour(info),
            keys: keys(info),
            copied: number(info, "current_cow_size").unwrap_or(0),
        }
    }

    #[test]
    fn what_it_says_is_understood() {
        let facts = facts_of(INFO);
        assert_eq!(facts.keys, BTreeMap::from([(0, 5), (12, 2)]));
        assert_eq!((facts.copied, facts.flavour), (4096, Flavour::Redis));
        assert_eq!(facts.unfit(), None);
        assert_eq!(flavour("valkey_version:8.1.0\r\n"), Flavour::Valkey);
    }

    #[test]
    fn no_backup_takes_the_memory_that_is_left_for_a_fork() {
        let with = |copied: u64| {
            let copied = format!("current_cow_size:{copied}\r\nmaxmemory:400\r\n");
            facts_of(&INFO.replace("current_cow_size:4096\r\n", &copied))
        };
        let bounds = Bounds::of(&with(0));
        assert_eq!(bounds.left_by(&with(100)), None);
        let why = bounds.left_by(&with(101)).unwrap();
        assert!(why.contains("memory"), "{why}");
        let unlimited = Bounds::of(&facts_of(INFO));
        assert_eq!(unlimited.left_by(&with(1 << 40)), None);
        let other = facts_of(&INFO.replace("role:slave", "role:master"));
        assert!(bounds.left_by(&other).is_some());
    }

    #[test]
    fn a_dataset_that_may_be_old_or_half_is_not_taken() {
        let unfit = |from: &str, to: &str| facts_of(&INFO.replace(from, to)).unfit();
        assert!(unfit("link_status:up", "link_status:down").is_some());
        assert!(unfit("loading:0", "loading:1").is_some());
        assert!(unfit("role:slave", "role:slave\r\nmaster_sync_in_progress:1").is_some());
        let alone = INFO
            .replace("role:slave", "role:master")
            .replace("master_link_status:up\r\n", "");
        assert_eq!(facts_of(&alone).unfit(), None);
    }
}
