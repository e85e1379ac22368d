//! SQL of our own, through the Unix socket only. I/O.

use std::time::Duration;

use mainstay_crds::common::Durability;
use mainstay_shared::agent::api::Weakened;
use mainstay_shared::agent::config::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::place::Place;
use super::render::slot;

mod lookup;
mod session;

pub use session::{Session, Vitals};

use crate::settings::{PORT, PROBE_ROLE, PostgresConfig, REPLICATION_ROLE, SSL_REQUEST};

/// Longest time for a connection or a statement.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most settings of roles and databases that are told.
const MOST_TOLD: usize = 16;

/// PostgreSQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// It takes no connections yet (or not any more).
    #[error("PostgreSQL is starting, recovering or stopping")]
    NotYet,
    /// It is not there.
    #[error("PostgreSQL does not take connections: {0}")]
    Connect(String),
    /// It refused a statement. The statement is not shown: it may hold a verifier.
    #[error("PostgreSQL refused to {what}: {why}")]
    Refused {
        /// What it was asked to do.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// It did not answer.
    #[error("PostgreSQL did not answer within {PATIENCE:?}")]
    Timeout,
    /// Its first process, which lets others in, did not.
    #[error("PostgreSQL's first process did not answer within {PATIENCE:?}")]
    Mute,
}

fn refused(what: &'static str) -> impl Fn(tokio_postgres::Error) -> SqlError {
    move |e| SqlError::Refused {
        what,
        why: message(&e),
    }
}

fn message(e: &tokio_postgres::Error) -> String {
    e.as_db_error()
        .map_or_else(|| e.to_string(), |db| db.message().to_owned())
}

/// A connection as `postgres` to a database. Nothing of it waits for a replica or is logged.
pub async fn connect(place: &Place, database: &str) -> Result<Client, SqlError> {
    let mut config = Config::new();
    config
        .host_path(place.sockets())
        .port(PORT)
        .user("postgres")
        .dbname(database)
        .application_name("mainstay")
        .connect_timeout(PATIENCE)
        .options(
            "-c synchronous_commit=local -c default_transaction_read_only=off -c statement_timeout=5s -c lock_timeout=3s \
             -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
             -c search_path=pg_catalog,pg_temp",
        );
    let (client, connection) = timeout(PATIENCE, config.connect(NoTls))
        .await
        .map_err(|_| SqlError::Timeout)?
        .map_err(|e| match e.code() {
            Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => SqlError::NotYet,
            _ => SqlError::Connect(message(&e)),
        })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "own connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// Whether somebody new is answered: sessions that are there go on for as long as they like when the
/// first process, which lets others in, stands still.
pub async fn answers(place: &Place) -> Result<(), SqlError> {
    // Over a socket of files the answer is no.
    let socket = place.sockets().join(format!(".s.PGSQL.{PORT}"));
    let ask = async {
        let mut stream = UnixStream::connect(&socket).await?;
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    let answered = timeout(PATIENCE, ask).await;
    answered
        .map_err(|_| SqlError::Mute)?
        .map(|_| ())
        .map_err(|e| SqlError::Connect(e.to_string()))
}

/// End the processes that send to replicas and began before `at` (seconds since 1970): those that
/// replace them know the configuration that was loaded then.
pub async fn renew_senders(place: &Place, at: f64) -> Result<(), SqlError> {
    let client = connect(place, "postgres").await?;
    client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_replication
             where state <> 'backup' and application_name not like 'copy for %'
             and extract(epoch from backend_start)::float8 <= $1",
            &[&at],
        )
        .await
        .map(|_| ())
        .map_err(refused("renew its senders"))
}

/// End the sessions of others that write, but for those that only wait for their commit to be acknowledged; with
/// `all` those of every client. Says how many.
pub async fn end_writers(place: &Place, all: bool) -> Result<u64, SqlError> {
    let client = connect(place, "postgres").await?;
    let ours = [
        "postgres",
        PROBE_ROLE,
        REPLICATION_ROLE,
        crate::settings::POOLER_ROLE,
    ];
    client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where usename <> all($1)
             and ((backend_xid is not null and wait_event is distinct from 'SyncRep')
                  or ($2 and backend_type = 'client backend'))",
            &[&&ours[..], &all],
        )
        .await
        .map_err(refused("end who writes"))
}

/// End the processes that send to who lacks more than so many bytes of the log, or has not told what
/// it has; never to who has most: that one takes over. Says how many.
pub async fn end_laggards(place: &Place, most: u64) -> Result<u64, SqlError> {
    let client = connect(place, "postgres").await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    client
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_replication
             where not pg_is_in_recovery()
             and coalesce((pg_current_wal_lsn() - flush_lsn)::bigint > $1, true)
             and flush_lsn is distinct from (select max(flush_lsn) from pg_stat_replication)",
            &[&most],
        )
        .await
        .map_err(refused("leave behind who lacks much"))
}

/// A checkpoint before a stop, so that the stop itself is short. Bounded by the caller.
pub async fn checkpoint(place: &Place) -> Result<(), SqlError> {
    let client = connect(place, "postgres").await?;
    let checkpoint = "set statement_timeout = 0; checkpoint";
    client
        .batch_execute(checkpoint)
        .await
        .map_err(refused("make a checkpoint"))
}

/// On a primary: roles, the application's database and the replicas' slots as they should be.
/// Repeated, it changes nothing.
pub async fn tend(
    place: &Place,
    config: &PostgresConfig,
    roles: &[Role],
    slots: Slots,
) -> Result<Vec<Weakened>, SqlError> {
    let client = connect(place, "postgres").await?;
    ensure_role(&client, REPLICATION_ROLE, "LOGIN REPLICATION").await?;
    ensure_rewinding(&client).await?;
    ensure_role(&client, PROBE_ROLE, "LOGIN CONNECTION LIMIT 10").await?;
    if config.engine.pooler.is_some() {
        lookup::ensure(&client).await?;
    } else {
        lookup::remove(&client).await?;
    }
    for role in roles {
        ensure_role(&client, &role.name, "LOGIN").await?;
        ensure_verifier(&client, role).await?;
    }
    ensure_database(&client, &config.engine.database, &config.engine.owner).await?;
    ensure_slots(&client, config, &place.me.instance, slots).await?;
    weakened(&client, config.durability).await
}

/// Settings of roles and databases by which an acknowledgement is worth less than what is asked of the
/// set. The server's own cannot be: the resource refuses that.
async fn weakened(client: &Client, durability: Durability) -> Result<Vec<Weakened>, SqlError> {
    let found = client
        .query(
            "select role.rolname::text as role, database.datname::text as database, lower(split_part(entry, '=', 2)) as value
             from pg_db_role_setting as stored
             cross join lateral unnest(stored.setconfig) as entry
             left join pg_roles as role on role.oid = stored.setrole
             left join pg_database as database on database.oid = stored.setdatabase
             where lower(split_part(entry, '=', 1)) = 'synchronous_commit'
             order by 1 nulls first, 2 nulls first limit 256",
            &[],
        )
        .await
        .map_err(refused("tell settings of roles and databases"))?;
    let all = found.iter().map(|row| Weakened {
        role: row.get("role"),
        database: row.get("database"),
        setting: "synchronous_commit".to_owned(),
        value: row.get("value"),
    });
    Ok(all
        .filter(|w| weakens(&w.value, durability))
        .take(MOST_TOLD)
        .collect())
}

/// Whether that value of `synchronous_commit` waits for less than it should. PostgreSQL takes the usual
/// words for on and off.
fn weakens(value: &str, durability: Durability) -> bool {
    let enough: &[&str] = match durability {
        Durability::Quorum => &["on", "remote_apply", "true", "yes", "1"],
        Durability::Async => &[
            "on",
            "remote_apply",
            "true",
            "yes",
            "1",
            "local",
            "remote_write",
        ],
    };
    !enough.contains(&value)
}

/// On a replica: the slots that the others need at once should it be promoted. They keep no log.
/// Repeated, it changes nothing.
pub async fn tend_replica(place: &Place, config: &PostgresConfig) -> Result<(), SqlError> {
    let client = connect(place, "postgres").await?;
    ensure_slots(&client, config, &place.me.instance, Slots::Empty).await
}

async fn ensure_role(client: &Client, name: &str, options: &str) -> Result<(), SqlError> {
    let what = refused("make a role");
    let there = client
        .query_opt("select 1 from pg_roles where rolname = $1", &[&name])
        .await;
    if there.map_err(&what)?.is_some() {
        return Ok(());
    }
    let statement = format!("create role {} {options}", identifier(name));
    client.batch_execute(&statement).await.map_err(what)
}

/// What `pg_rewind` reads of its source.
async fn ensure_rewinding(client: &Client) -> Result<(), SqlError> {
    let what = refused("let replicas rewind");
    let read = "pg_read_binary_file(text, bigint, bigint, boolean)";
    let granted = client
        .query_one(
            "select has_function_privilege($1, $2, 'execute')",
            &[&REPLICATION_ROLE, &read],
        )
        .await
        .map_err(&what)?;
    if granted.get(0) {
        return Ok(());
    }
    let grant = format!(
        "grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
         pg_read_binary_file(text), {read} to {REPLICATION_ROLE}"
    );
    client.batch_execute(&grant).await.map_err(what)
}

async fn ensure_verifier(client: &Client, role: &Role) -> Result<(), SqlError> {
    let what = refused("set a role's verifier");
    if !role.verifier.starts_with("SCRAM-SHA-256$") {
        // PostgreSQL would take it for a clear password, and hash it.
        return Err(SqlError::Refused {
            what: "set a role's verifier",
            why: format!(
                "the access Secret holds no SCRAM-SHA-256 verifier for {}",
                role.name
            ),
        });
    }
    let same = client
        .query_opt(
            "select 1 from pg_authid where rolname = $1 and rolpassword = $2",
            &[&role.name, &role.verifier],
        )
        .await;
    if same.map_err(&what)?.is_some() {
        return Ok(());
    }
    let statement = format!(
        "alter role {} password {}",
        identifier(&role.name),
        literal(&role.verifier)
    );
    client.batch_execute(&statement).await.map_err(what)
}

async fn ensure_database(client: &Client, name: &str, owner: &str) -> Result<(), SqlError> {
    let what = refused("make the application's database");
    let there = client
        .query_opt("select 1 from pg_database where datname = $1", &[&name])
        .await;
    if there.map_err(&what)?.is_some() {
        return Ok(());
    }
    // Copying the template may wait for the disk for longer than other statements.
    client
        .batch_execute("set statement_timeout = '60s'")
        .await
        .map_err(&what)?;
    let statement = format!(
        "create database {} owner {}",
        identifier(name),
        identifier(owner)
    );
    client.batch_execute(&statement).await.map_err(what)
}

/// What the slots of the other members are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// They keep no log: a replica's, or its volume would fill for members that receive from
    /// somebody else.
    Empty,
    /// Those that are made keep log from now on; those that are there are left for their members to
    /// connect to.
    Ready,
    /// All keep log.
    Keeping,
}

/// One slot for each other member.
async fn ensure_slots(
    client: &Client,
    config: &PostgresConfig,
    me: &str,
    slots: Slots,
) -> Result<(), SqlError> {
    let what = refused("keep the replicas' slots");
    let wanted: Vec<String> = config
        .members
        .iter()
        .filter(|m| *m != me)
        .map(|m| slot(m))
        .collect();
    let rows = client
        .query(
            "select slot_name::text as name, active, restart_lsn is not null as keeps,
                    coalesce(wal_status, '') = 'lost' as lost
             from pg_replication_slots where slot_type = 'physical' and not temporary",
            &[],
        )
        .await
        .map_err(&what)?;
    let ours = |name: &str| {
        let prefix = format!("{}_", slot(&config.set));
        name.strip_prefix(&prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut kept = Vec::new();
    for row in &rows {
        let name: String = row.get("name");
        let (active, lost): (bool, bool) = (row.get("active"), row.get("lost"));
        let keeps: bool = row.get("keeps");
        let wrong = if wanted.contains(&name) {
            lost || match slots {
                Slots::Empty => keeps,
                Slots::Ready => false,
                Slots::Keeping => !keeps,
            }
        } else {
            ours(&name)
        };
        if !wrong || active {
            kept.push(name);
            continue;
        }
        let dropped = client
            .execute("select pg_drop_replication_slot($1)", &[&name])
            .await;
        match dropped {
            Ok(_) => {}
            // Its member has connected meanwhile.
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => kept.push(name),
            Err(error) => return Err(what(error)),
        }
    }
    for name in wanted.iter().filter(|w| !kept.contains(w)) {
        // On a primary, what a replica misses between its copy and its stream is kept.
        client
            .execute(
                "select pg_create_physical_replication_slot($1, $2)",
                &[name, &(slots != Slots::Empty)],
            )
            .await
            .map_err(&what)?;
    }
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    // standard_conforming_strings is on: a backslash is a backslash.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_acknowledgement_is_worth_depends_on_what_is_asked() {
        for (value, quorum, asynchronous) in [
            ("on", false, false),
            ("remote_apply", false, false),
            ("remote_write", true, false),
            ("local", true, false),
            ("off", true, true),
            ("0", true, true),
        ] {
            assert_eq!(weakens(value, Durability::Quorum), quorum, "{value}");
            assert_eq!(weakens(value, Durability::Async), asynchronous, "{value}");
        }
    }

    #[test]
    fn quotes_end_nothing() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b"), "'a''b'");
    }
}
