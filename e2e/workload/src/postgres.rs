//! PostgreSQL as a workload sees it: over verified TLS, with the application's own rights.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::binding::{Binding, BindingError};
use super::ledger::{Outcome, Term};
use super::tls::{self, TlsError};
use super::writer::{Again, Attempt, Engine, Session, Shows};

/// Why PostgreSQL could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The binding.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection, or the server's answer.
    #[error("{host}: {}", chain(.source))]
    Server {
        /// The host that was connected to.
        host: String,
        /// What happened.
        source: tokio_postgres::Error,
    },
    /// The server does not have what was just written.
    #[error("{host} does not have the row that was written, after {waited:?}")]
    NotThere {
        /// The host.
        host: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The binding names no replicas.
    #[error("the binding has no replica-host: the database has no replicas")]
    NoReplicas,
}

/// Which of the binding's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// The one that takes writes.
    Primary,
    /// Any that only reads.
    Replica,
}

/// The table with the rows of every ledger.
const TABLE: &str = "create table if not exists mainstay_ledger (
    run text not null, id bigint not null, written timestamptz not null default clock_timestamp(),
    primary key (run, id))";

/// The database behind a binding, for one ledger.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Folder of the binding; read again for each connection, so that renewals are followed.
    pub binding: PathBuf,
    /// Name of the ledger: rows of several do not meet.
    pub run: String,
}

/// One server, reached at its address and not through a Service. Its table is there already.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who connects, to which database, trusting whom.
    pub binding: Binding,
    /// The name that its certificate bears.
    pub host: String,
    /// Where it is.
    pub address: IpAddr,
    /// Name of the ledger.
    pub run: String,
}

/// An open connection.
pub struct Connection {
    /// Asks.
    pub client: Client,
    /// The host it was made to.
    pub host: String,
    run: String,
    /// Set when the server warns, which it does before it acknowledges.
    warned: Arc<AtomicBool>,
    /// It has refused a write since it only replays another's history: it is asked before the next one,
    /// so that its log is not full of refusals.
    replays: bool,
    /// What was written last, prepared.
    prepared: Option<(Again, Statement)>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects over TLS; the certificate must be the authority's and bear the host's name.
async fn connect(
    binding: &Binding,
    host: &str,
    address: Option<IpAddr>,
    run: &str,
) -> Result<Connection, PostgresError> {
    let failed = |source| PostgresError::Server {
        host: host.to_owned(),
        source,
    };
    let mut config = Config::new();
    config
        .host(host)
        .port(binding.port)
        .dbname(&binding.database)
        .user(&binding.username)
        .password(&binding.password)
        .application_name("mainstay-workload")
        .ssl_mode(SslMode::Require);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    let tls = MakeRustlsConnect::new(tls::trusting(&binding.ca)?);
    let (client, mut connection) = config.connect(tls).await.map_err(failed)?;
    let warned = Arc::new(AtomicBool::new(false));
    let warns = warned.clone();
    let driver = tokio::spawn(async move {
        let mut messages =
            futures::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message
                && notice.parsed_severity() == Some(Severity::Warning)
            {
                warns.store(true, Ordering::SeqCst);
            }
        }
    });
    Ok(Connection {
        client,
        host: host.to_owned(),
        run: run.to_owned(),
        warned,
        replays: false,
        prepared: None,
        driver,
    })
}

impl Postgres {
    /// Connects over TLS; the certificate must be the authority's and bear the host's name.
    ///
    /// # Errors
    /// The binding, TLS or the server does not allow it.
    pub async fn connect_to(&self, side: Side) -> Result<Connection, PostgresError> {
        let binding = Binding::read(&self.binding)?;
        let host = match side {
            Side::Primary => binding.host.clone(),
            Side::Replica => {
                let host = binding.replica_host.clone();
                host.ok_or(PostgresError::NoReplicas)?
            }
        };
        connect(&binding, &host, None, &self.run).await
    }

    /// The numbers of this ledger that a server has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn present(&self, side: Side) -> Result<BTreeSet<u64>, PostgresError> {
        let connection = self.connect_to(side).await?;
        let query = "select id from mainstay_ledger where run = $1";
        let rows = connection.client.query(query, &[&self.run]).await;
        let rows = rows.map_err(|source| PostgresError::Server {
            host: connection.host.clone(),
            source,
        })?;
        Ok(rows
            .iter()
            .filter_map(|row| u64::try_from(row.get::<_, i64>(0)).ok())
            .collect())
    }
}

impl Engine for Postgres {
    type Session = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let connection = self
            .connect_to(Side::Primary)
            .await
            .map_err(|error| error.to_string())?;
        connection
            .client
            .batch_execute(TABLE)
            .await
            .map_err(|error| chain(&error))?;
        Ok(connection)
    }
}

impl Engine for Member {
    type Session = Connection;

    async fn connect(&self) -> Result<Connection, String> {
        let address = Some(self.address);
        let connection = connect(&self.binding, &self.host, address, &self.run).await;
        connection.map_err(|error| error.to_string())
    }
}

/// The server, as it was started; the newest row that it shows.
const NEWEST: &str = "select current_setting('cluster_name') || '@' || host(inet_server_addr())
        || ' since ' || pg_postmaster_start_time(),
    coalesce((select max(id) from mainstay_ledger where run = $1), 0)";

impl Shows for Connection {
    async fn newest(&mut self, run: &str) -> Option<(String, i64)> {
        let row = self.client.query_one(NEWEST, &[&run]).await.ok()?;
        Some((row.get(0), row.get(1)))
    }
}

/// Whether a server only replays another's history.
const REPLAYS: &str = "select pg_is_in_recovery()";

/// The statement that writes a row and tells who does.
///
/// The term is the timeline: each promotion begins a new one, and what is written to the log bears it.
/// It is the server's own, read in the transaction that writes. The address tells its pod from another
/// one that bears the same name; an engine that is started again in its pod may go on in the same term.
fn statement(again: Again) -> String {
    let there = match again {
        Again::No => "",
        Again::IfMissing => " on conflict do nothing",
        Again::InAnyCase => " on conflict (run, id) do update set written = excluded.written",
    };
    format!(
        "with written as (insert into mainstay_ledger (run, id) values ($1, $2){there} returning 1)
         select (select count(*) from written),
                ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint,
                (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint,
                replace(current_setting('cluster_name'), ' ', '_') || '@' || host(inet_server_addr())"
    )
}

fn term(row: &Row) -> Option<Term> {
    Some(Term {
        epoch: row.get::<_, i64>(1).try_into().ok()?,
        position: row.get::<_, i64>(2).try_into().ok()?,
        server: row.get(3),
    })
}

impl Connection {
    async fn insert(&mut self, id: i64, again: Again) -> Result<Row, tokio_postgres::Error> {
        if self
            .prepared
            .as_ref()
            .is_none_or(|(for_, _)| *for_ != again)
        {
            let prepared = self.client.prepare(&statement(again)).await?;
            self.prepared = Some((again, prepared));
        }
        match &self.prepared {
            Some((_, statement)) => {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&self.run, &id];
                self.client.query_one(statement, &values).await
            }
            None => {
                self.client
                    .query_one(&statement(again), &[&self.run, &id])
                    .await
            }
        }
    }
}

impl Session for Connection {
    async fn write(&mut self, id: u64, again: Again) -> Attempt {
        let Ok(number) = i64::try_from(id) else {
            return Attempt {
                outcome: Outcome::Failed,
                alone: false,
                term: None,
                detail: "number too large".into(),
                usable: true,
            };
        };
        self.warned.store(false, Ordering::SeqCst);
        if self.replays
            && self
                .client
                .query_one(REPLAYS, &[])
                .await
                .is_ok_and(|r| r.get(0))
        {
            return Attempt {
                outcome: Outcome::Failed,
                alone: false,
                term: None,
                detail: "it replays another's history".into(),
                usable: true,
            };
        }
        let done = self.insert(number, again).await;
        let refusal = done.as_ref().err().and_then(tokio_postgres::Error::code);
        self.replays = refusal == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
        let answer = done.as_ref().map(term);
        judge(
            answer,
            self.warned.load(Ordering::SeqCst),
            self.client.is_closed(),
        )
    }
}

/// What the answer to a write says about it.
///
/// A server that stops waiting for its replicas says so in a warning and then acknowledges, or ends the
/// connection: such a write is on one server only and may be lost. A server that goes down ends
/// connections with a FATAL error also where the write has happened. Only an ordinary error means that
/// it has not.
fn judge(
    answer: Result<Option<Term>, &tokio_postgres::Error>,
    warned: bool,
    closed: bool,
) -> Attempt {
    match answer {
        Ok(_) if warned => Attempt {
            outcome: Outcome::Unknown,
            alone: true,
            term: None,
            detail: "acknowledged with a warning".into(),
            usable: true,
        },
        Ok(term) => Attempt {
            outcome: Outcome::Acknowledged,
            alone: false,
            term,
            detail: String::new(),
            usable: true,
        },
        Err(error) => {
            let refused = error
                .as_db_error()
                .is_some_and(|error| error.parsed_severity() == Some(Severity::Error));
            let outcome = if refused {
                Outcome::Failed
            } else {
                Outcome::Unknown
            };
            Attempt {
                outcome,
                alone: warned && !refused,
                term: None,
                detail: chain(error),
                usable: refused && !closed,
            }
        }
    }
}

/// What `check` saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The host that took the row.
    pub host: String,
    /// Version of the server.
    pub server: String,
    /// Version of TLS, as the server sees the connection.
    pub tls: String,
    /// The row that was written and read.
    pub row: String,
    /// The host of the replicas and the address of the one that has the row, when asked for.
    pub replica: Option<(String, String)>,
}

/// Writes a row and reads it back; on a replica too, when asked for, where it may take `patience`.
///
/// # Errors
/// Any step fails.
pub async fn check(
    binding: &Path,
    replica: bool,
    patience: Duration,
) -> Result<Checked, PostgresError> {
    let postgres = Postgres {
        binding: binding.to_owned(),
        run: "check".into(),
    };
    let primary = postgres.connect_to(Side::Primary).await?;
    let failed = |source| PostgresError::Server {
        host: primary.host.clone(),
        source,
    };
    let table = "create table if not exists mainstay_check (id bigint generated always as identity primary key, note text, written timestamptz not null default clock_timestamp())";
    primary.client.batch_execute(table).await.map_err(failed)?;
    let insert =
        "insert into mainstay_check (note) values ('written by an application') returning id";
    let id: i64 = primary
        .client
        .query_one(insert, &[])
        .await
        .map_err(failed)?
        .get(0);
    let select = "select id || ': ' || note || ' at ' || written from mainstay_check where id = $1";
    let row: String = primary
        .client
        .query_one(select, &[&id])
        .await
        .map_err(failed)?
        .get(0);
    let about = "select current_setting('server_version'), coalesce((select version from pg_stat_ssl where pid = pg_backend_pid()), 'none')";
    let about = primary.client.query_one(about, &[]).await.map_err(failed)?;
    let mut checked = Checked {
        host: primary.host.clone(),
        server: about.get(0),
        tls: about.get(1),
        row,
        replica: None,
    };
    if replica {
        checked.replica = Some(read_on_replica(&postgres, id, patience).await?);
    }
    Ok(checked)
}

async fn read_on_replica(
    postgres: &Postgres,
    id: i64,
    patience: Duration,
) -> Result<(String, String), PostgresError> {
    let replica = postgres.connect_to(Side::Replica).await?;
    let failed = |source| PostgresError::Server {
        host: replica.host.clone(),
        source,
    };
    let query =
        "select host(inet_server_addr()) from mainstay_check where id = $1 and pg_is_in_recovery()";
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < patience {
        // The table itself may be on its way.
        match replica.client.query_opt(query, &[&id]).await {
            Ok(Some(row)) => return Ok((replica.host.clone(), row.get(0))),
            Err(error) if error.code() != Some(&SqlState::UNDEFINED_TABLE) => {
                return Err(failed(error));
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Err(PostgresError::NotThere {
        host: replica.host.clone(),
        waited: patience,
    })
}

/// An error with its causes: those of this client hide what happened in their sources.
fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_takes_the_promise_back() {
        assert_eq!(judge(Ok(None), false, false).outcome, Outcome::Acknowledged);
        let warned = judge(Ok(None), true, false);
        assert_eq!((warned.outcome, warned.usable), (Outcome::Unknown, true));
        assert!(warned.alone, "a retry that finds the row is no promise");
    }

    #[tokio::test]
    async fn a_broken_connection_leaves_the_outcome_unknown() {
        // The only error that can be had without a server: of a connection that breaks.
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let error = Config::new()
            .user("u")
            .connect_raw(near, tokio_postgres::NoTls)
            .await
            .map(drop)
            .unwrap_err();
        let broken = judge(Err(&error), false, true);
        assert!(!broken.alone && judge(Err(&error), true, true).alone);
        assert_eq!((broken.outcome, broken.usable), (Outcome::Unknown, false));
        assert!(!broken.detail.is_empty());
    }
}
