//! Redis as a workload sees it: over verified TLS, as the application's own user.
//!
//! Each number has a key of its own, so that every lost write is seen. The transaction that writes it also asks
//! the dataset's mark under which epoch that is, and the server how far its history goes; then `WAIT` has it ask
//! its replicas. What too few of them confirmed is no promise, though it is there: it is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, ServerError, Value};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::binding::{Binding, BindingError};
use super::ledger::{Outcome, Term};
use super::sentinel;
use super::tls::{self, TlsError};
use super::writer::{Again, Attempt, Engine, Session, Shows};

/// Keys of ledgers begin so; the ledger's name and the number follow.
const LEDGER: &str = "mainstay:ledger:";
/// Keys with the newest number of a ledger begin so; the ledger's name follows.
const NEWEST: &str = "mainstay:newest:";
/// Function in the dataset that says under which epoch its primary was promoted.
const MARK: &str = "mainstay_mark";
/// So many keys are looked at between two answers.
const PIECE: usize = 1000;
/// So many tags are tried: of a hundredth of all slots one is found.
const TAGS: usize = 1000;

/// Why Redis could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The binding.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host is no name that a certificate can bear.
    #[error("the host {0:?} is no name of a server")]
    Name(String),
    /// No connection, or no trust.
    #[error("{host}: {source}")]
    Connection {
        /// The host that was connected to.
        host: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The server's answer.
    #[error("{host}: {source}")]
    Server {
        /// The host.
        host: String,
        /// What happened.
        source: ::redis::RedisError,
    },
    /// The server's answer cannot be understood.
    #[error("{host} says of itself what is not understood: {said}")]
    Self_ {
        /// The host.
        host: String,
        /// What it says.
        said: String,
    },
}

/// What makes a write an acknowledged one.
#[derive(Debug, Clone, Copy)]
pub struct Confirm {
    /// So many replicas must confirm it; zero: none is asked, and every write is only taken.
    pub replicas: u32,
    /// They are asked for each such number; others are only taken.
    pub every: u64,
    /// Longest time for their answers.
    pub within: Duration,
}

/// Begins what is said of a write that fewer replicas confirmed in time than were to.
pub const CONFIRMED_BY: &str = "confirmed by";

impl Confirm {
    /// Nobody is asked.
    pub const NOBODY: Self = Self {
        replicas: 0,
        every: 1,
        within: Duration::ZERO,
    };

    /// How many must confirm this number; none: nobody is asked.
    pub(super) fn of(&self, id: u64) -> Option<u32> {
        let asked = self.replicas > 0 && id.is_multiple_of(self.every.max(1));
        asked.then_some(self.replicas)
    }
}

/// The server behind a binding, for one ledger.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Folder of the binding; read again for each connection, so that renewals are followed.
    pub binding: PathBuf,
    /// Name of the ledger: keys of several do not meet.
    pub run: String,
    /// What makes a write an acknowledged one.
    pub confirm: Confirm,
    /// Each write has a connection of its own.
    pub fresh: bool,
    /// The primary is found as clients of a Sentinel do.
    pub sentinel: bool,
}

/// One server, reached at its address and not through a Service.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who connects, trusting whom.
    pub binding: Binding,
    /// The name that its certificate bears.
    pub host: String,
    /// Where it is.
    pub address: IpAddr,
    /// Name of the ledger.
    pub run: String,
    /// It is a member of a cluster: the ledger's name has a tag, by which all its keys are in one slot.
    pub clustered: bool,
}

/// An open connection.
pub struct Connection {
    asks: MultiplexedConnection,
    /// Where this one has begun it.
    _driver: Option<Driver>,
    host: String,
    run: String,
    confirm: Confirm,
    /// Which start of which server answers.
    server: String,
    /// The host is led to another server when that one is primary: who is refused looks anew.
    led: bool,
    /// It is used once.
    fresh: bool,
    /// The server is a member of a cluster.
    clustered: bool,
}

/// What moves a connection's bytes, as long as that is there.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects over TLS, with the certificate verified as the host's, and logs in.
async fn connect(
    binding: &Binding,
    host: &str,
    address: Option<IpAddr>,
) -> Result<Connection, RedisError> {
    let tls = Arc::new(tls::trusting(&binding.ca)?);
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| RedisError::Name(host.to_owned()))?;
    let reach = async {
        let tcp = match address {
            Some(address) => TcpStream::connect((address, binding.port)).await?,
            None => TcpStream::connect((host, binding.port)).await?,
        };
        tcp.set_nodelay(true)?;
        TlsConnector::from(tls).connect(name, tcp).await
    };
    let stream = reach.await.map_err(|source| RedisError::Connection {
        host: host.to_owned(),
        source,
    })?;
    let login = RedisConnectionInfo::default()
        .set_username(&binding.username)
        .set_password(&binding.password)
        .set_skip_set_lib_name();
    // Whoever asks has limits of his own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let refused = |source| RedisError::Server {
        host: host.to_owned(),
        source,
    };
    let connection = MultiplexedConnection::new_with_config(&login, stream, config).await;
    let (asks, driver) = connection.map_err(refused)?;
    let driver = Driver(tokio::spawn(driver));
    Ok(Connection {
        led: address.is_none(),
        ..introduced(asks, Some(driver), host).await?
    })
}

/// Connects to the primary that clients of a Sentinel are told of.
async fn find(binding: &Binding) -> Result<Connection, RedisError> {
    let endpoint = binding.sentinel.as_ref().ok_or(BindingError::NoSentinel)?;
    let found = sentinel::connect(binding, endpoint).await;
    let asks = found.map_err(|source| RedisError::Server {
        host: endpoint.host.clone(),
        source,
    })?;
    introduced(asks, None, &endpoint.host).await
}

/// A connection, once the server has said which one it is.
async fn introduced(
    mut asks: MultiplexedConnection,
    driver: Option<Driver>,
    host: &str,
) -> Result<Connection, RedisError> {
    let mut who = ::redis::pipe();
    who.cmd("INFO").arg("server").cmd("CLIENT").arg("INFO");
    let said: Result<(String, String), _> = who.query_async(&mut asks).await;
    let (info, client) = said.map_err(|source| RedisError::Server {
        host: host.to_owned(),
        source,
    })?;
    let server = server(&info, &client).ok_or_else(|| RedisError::Self_ {
        host: host.to_owned(),
        said: format!("{info}\n{client}"),
    })?;
    Ok(Connection {
        asks,
        _driver: driver,
        host: host.to_owned(),
        run: String::new(),
        confirm: Confirm::NOBODY,
        server,
        led: true,
        fresh: false,
        clustered: false,
    })
}

/// Which start of which server it is, by what it says of itself and of the connection.
fn server(info: &str, client: &str) -> Option<String> {
    let start = info.lines().find_map(|l| l.strip_prefix("run_id:"))?;
    let here = client
        .split_whitespace()
        .find_map(|w| w.strip_prefix("laddr="))?;
    let (address, _) = here.rsplit_once(':')?;
    Some(format!("{address}@{}", start.trim().get(..12)?))
}

impl Redis {
    /// Connects to the primary, or to another host of the set.
    ///
    /// # Errors
    /// The binding, TLS or the server does not allow it.
    pub async fn connect_to(&self, host: Option<&str>) -> Result<Connection, RedisError> {
        let binding = Binding::read(&self.binding)?;
        let connection = connect(&binding, host.unwrap_or(&binding.host), None).await?;
        Ok(self.own(connection))
    }

    /// Connects to the primary that clients of a Sentinel are told of.
    async fn found(&self) -> Result<Connection, RedisError> {
        let binding = Binding::read(&self.binding)?;
        Ok(self.own(find(&binding).await?))
    }

    fn own(&self, connection: Connection) -> Connection {
        Connection {
            run: self.run.clone(),
            confirm: self.confirm,
            fresh: self.fresh,
            ..connection
        }
    }

    /// The numbers of this ledger that the primary has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn present(&self) -> Result<BTreeSet<u64>, RedisError> {
        let mut rows = self.connect_to(None).await?.rows().await?;
        Ok(rows.remove(&self.run).unwrap_or_default())
    }
}

impl Engine for Redis {
    type Session = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let connection = if self.sentinel {
            self.found().await
        } else {
            self.connect_to(None).await
        };
        connection.map_err(|e| e.to_string())
    }
}

impl Engine for Member {
    type Session = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let address = Some(self.address);
        let connection = connect(&self.binding, &self.host, address).await;
        let connection = connection.map_err(|e| e.to_string())?;
        let mut connection = Connection {
            run: self.run.clone(),
            clustered: self.clustered,
            ..connection
        };
        if self.clustered {
            // Started anew, it is who it was, under the same epoch.
            let who = connection.ask(::redis::cmd("CLUSTER").arg("MYID")).await;
            connection.server = who.map_err(|e| e.to_string())?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// All numbers of all ledgers. A number that is there all the while is among them.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses.
    pub async fn rows(&mut self) -> Result<BTreeMap<String, BTreeSet<u64>>, RedisError> {
        let mut rows: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("{LEDGER}*"))
                .arg("COUNT")
                .arg(PIECE);
            let (next, keys): (u64, Vec<String>) = self.ask(&scan).await?;
            for (run, id) in keys.iter().filter_map(|key| number(key)) {
                rows.entry(run.to_owned()).or_default().insert(id);
            }
            if next == 0 {
                return Ok(rows);
            }
            cursor = next;
        }
    }

    /// A tag of which all keys are this member's.
    ///
    /// # Errors
    /// The server cannot be asked, or no tag is.
    pub async fn tag(&mut self) -> Result<String, RedisError> {
        for tag in (0..TAGS).map(|n| format!("t{n}")) {
            let mut get = ::redis::cmd("GET");
            get.arg(format!("{{{tag}}}"));
            match self.ask::<Option<String>>(&get).await {
                Ok(_) => return Ok(tag),
                Err(RedisError::Server { source, .. }) if source.code() == Some("MOVED") => {}
                Err(error) => return Err(error),
            }
        }
        Err(RedisError::Self_ {
            host: self.host.clone(),
            said: format!("none of {TAGS} keys is its own"),
        })
    }

    /// One command.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses.
    pub async fn ask<T: FromRedisValue>(
        &mut self,
        command: &::redis::Cmd,
    ) -> Result<T, RedisError> {
        let answer = command.query_async(&mut self.asks).await;
        answer.map_err(|source| RedisError::Server {
            host: self.host.clone(),
            source,
        })
    }
}

/// The ledger and the number that a key is for.
fn number(key: &str) -> Option<(&str, u64)> {
    let (run, id) = key.strip_prefix(LEDGER)?.rsplit_once(':')?;
    Some((run, id.parse().ok()?))
}

impl Session for Connection {
    /// Writes it in any case, however often it is tried: what is there already is written once more, and
    /// replicas are asked for that.
    async fn write(&mut self, id: u64, _: Again) -> Attempt {
        let asked = self.confirm.of(id);
        let mut write = ::redis::pipe();
        write.cmd("MULTI");
        let key = format!("{LEDGER}{}:{id}", self.run);
        write.cmd("SET").arg(key).arg(id);
        let newest = format!("{NEWEST}{}", self.run);
        write.cmd("SET").arg(newest).arg(id);
        // Under which epoch it is primary.
        if self.clustered {
            write.cmd("CLUSTER").arg("INFO");
        } else {
            write.cmd("FCALL_RO").arg(MARK).arg(0);
        }
        write.cmd("ROLE");
        write.cmd("EXEC");
        if let Some(replicas) = asked {
            let within = u64::try_from(self.confirm.within.as_millis()).unwrap_or(u64::MAX);
            write.cmd("WAIT").arg(replicas).arg(within);
        }
        let answers = self.asks.send_packed_commands(&write, 0, write.len()).await;
        let attempt = judge(answers, asked, &self.server);
        let refused = attempt.outcome == Outcome::Failed;
        Attempt {
            usable: attempt.usable && !self.fresh && !(self.led && refused),
            ..attempt
        }
    }
}

/// Where the transaction's answer is.
const EXEC: usize = 5;
/// Where the replicas' is.
const WAIT: usize = 6;

/// What the answers to a write say about it.
///
/// A refused transaction is not there. One that was carried out is, and is promised when enough replicas have
/// confirmed it. Nobody knows what became of one that nobody answered.
fn judge(
    answers: Result<Vec<Value>, ::redis::RedisError>,
    asked: Option<u32>,
    server: &str,
) -> Attempt {
    let attempt = |outcome, detail: String| Attempt {
        outcome,
        alone: false,
        term: None,
        detail,
        usable: true,
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            return Attempt {
                usable: false,
                ..attempt(Outcome::Unknown, error.to_string())
            };
        }
    };
    let done = match answers.get(EXEC) {
        Some(Value::Array(done)) => done,
        Some(Value::ServerError(abort)) => {
            // Why is said where the command was to be queued.
            let why = answers.iter().find_map(refusal).unwrap_or(abort);
            // Without a transaction the write itself may have been carried out.
            let begun = answers.first().and_then(refusal).is_none();
            let outcome = if begun || answers.get(1).and_then(refusal).is_some() {
                Outcome::Failed
            } else {
                Outcome::Unknown
            };
            return attempt(outcome, said(why));
        }
        other => return attempt(Outcome::Unknown, format!("EXEC was answered {other:?}")),
    };
    if let Some(why) = done.first().and_then(refusal) {
        return attempt(Outcome::Failed, said(why));
    }
    let term = term(done, server);
    match (asked, answers.get(WAIT)) {
        (None, _) => Attempt {
            term,
            ..attempt(Outcome::Taken, String::new())
        },
        (Some(asked), Some(Value::Int(replicas))) if *replicas >= i64::from(asked) => Attempt {
            term,
            ..attempt(Outcome::Acknowledged, format!("by {replicas}"))
        },
        (Some(_), answer) => {
            let how = match answer {
                Some(Value::Int(replicas)) => format!("{CONFIRMED_BY} {replicas}"),
                Some(Value::ServerError(why)) => said(why),
                other => format!("WAIT was answered {other:?}"),
            };
            Attempt {
                alone: true,
                ..attempt(Outcome::Unknown, how)
            }
        }
    }
}

fn refusal(value: &Value) -> Option<&ServerError> {
    match value {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

fn said(error: &ServerError) -> String {
    let details = error.details().unwrap_or_default();
    format!("{} {details}", error.code()).trim_end().to_owned()
}

/// Under which epoch a server is primary: its dataset's mark, or what a member of a cluster says of itself.
fn epoch(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Int(number) => return u64::try_from(*number).ok(),
        Value::BulkString(text) => String::from_utf8_lossy(text),
        Value::VerbatimString { text, .. } => text.into(),
        _ => return None,
    };
    let own = text
        .lines()
        .find_map(|l| l.strip_prefix("cluster_my_epoch:"));
    own?.trim().parse().ok()
}

/// Who carried a transaction out, by the answers to its commands; none where the dataset's mark is missing.
fn term(done: &[Value], server: &str) -> Option<Term> {
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Value::Array(role) = done.get(3)? else {
        return None;
    };
    Some(Term {
        epoch: epoch(done.get(2)?)?,
        position: number(role.get(1)?)?,
        server: server.to_owned(),
    })
}

impl Shows for Connection {
    async fn newest(&mut self, run: &str) -> Option<(String, i64)> {
        let mut get = ::redis::cmd("GET");
        get.arg(format!("{NEWEST}{run}"));
        let newest: Option<i64> = self.ask(&get).await.ok()?;
        Some((self.server.clone(), newest.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Value {
        let value = ::redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        value.unwrap()
    }

    fn done(first: Value, wait: Option<Value>) -> Vec<Value> {
        let queued = || Value::SimpleString("QUEUED".into());
        let role = Value::Array(vec![
            Value::BulkString(b"master".to_vec()),
            Value::Int(4711),
            Value::Array(vec![]),
        ]);
        let exec = Value::Array(vec![first, Value::Okay, Value::Int(7), role]);
        let mut all = vec![Value::Okay, queued(), queued(), queued(), queued(), exec];
        all.extend(wait);
        all
    }

    #[test]
    fn only_what_enough_replicas_confirmed_is_acknowledged() {
        let of = |asked, wait| judge(Ok(done(Value::Okay, wait)), asked, "here@s");
        let sure = of(Some(1), Some(Value::Int(2)));
        assert_eq!(
            (sure.outcome, &*sure.detail),
            (Outcome::Acknowledged, "by 2")
        );
        let term = Term {
            epoch: 7,
            position: 4711,
            server: "here@s".into(),
        };
        assert_eq!(sure.term, Some(term));
        let unsure = of(Some(2), Some(Value::Int(1)));
        assert_eq!((unsure.outcome, unsure.alone), (Outcome::Unknown, true));
        let gone = of(Some(1), Some(refused("UNBLOCKED force unblock")));
        assert_eq!((gone.outcome, gone.alone), (Outcome::Unknown, true));
        assert!(gone.detail.starts_with("UNBLOCKED"), "{}", gone.detail);
        assert_eq!(of(None, None).outcome, Outcome::Taken);
    }

    #[test]
    fn a_member_of_a_cluster_says_its_epoch_itself() {
        let said = "cluster_state:ok\r\ncluster_current_epoch:9\r\ncluster_my_epoch:7\r\n";
        assert_eq!(epoch(&Value::BulkString(said.into())), Some(7));
        assert_eq!(epoch(&Value::Int(5)), Some(5));
        assert_eq!(epoch(&Value::Okay), None);
    }

    #[test]
    fn what_is_refused_is_not_there_and_what_nobody_answers_is_unknown() {
        let mut all = done(Value::Okay, Some(Value::Int(0)));
        all[1] = refused("READONLY You can't write against a read only replica.");
        all[EXEC] = refused("EXECABORT Transaction discarded because of previous errors.");
        let refusal = judge(Ok(all), Some(1), "s");
        assert_eq!((refusal.outcome, refusal.usable), (Outcome::Failed, true));
        assert!(refusal.detail.contains("READONLY"), "{}", refusal.detail);
        // Carried out, but for what matters.
        let full = done(refused("OOM command not allowed"), Some(Value::Int(1)));
        assert_eq!(judge(Ok(full), Some(1), "s").outcome, Outcome::Failed);
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let broken = judge(Err(error.into()), Some(1), "s");
        assert_eq!((broken.outcome, broken.usable), (Outcome::Unknown, false));
    }

    #[test]
    fn replicas_are_asked_for_as_many_numbers_as_was_said() {
        let half = Confirm {
            replicas: 1,
            every: 2,
            within: Duration::ZERO,
        };
        let asked: Vec<u64> = (1..=5).filter(|id| half.of(*id).is_some()).collect();
        assert_eq!(asked, [2, 4]);
        assert_eq!(Confirm::NOBODY.of(2), None);
    }

    #[test]
    fn a_server_is_known_by_its_address_and_start() {
        let info = "# Server\r\nredis_version:8.0.2\r\nrun_id:0123456789abcdef\r\n";
        let client = "id=3 addr=10.0.0.9:4000 laddr=10.0.0.7:6379 fd=8";
        assert_eq!(
            server(info, client).as_deref(),
            Some("10.0.0.7@0123456789ab")
        );
        assert_eq!(server("", client), None);
        assert_eq!(number("mainstay:ledger:db-1-2:17"), Some(("db-1-2", 17)));
        assert_eq!(number("mainstay:newest:db-1-2"), None);
    }
}
