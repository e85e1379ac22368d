//! The connection by which an engine is looked at again and again: what it is asked is prepared once. I/O.

use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use super::{PATIENCE, SqlError, connect, refused};
use crate::agent::place::Place;

/// What a running PostgreSQL says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Vitals {
    /// It is a replica.
    pub in_recovery: bool,
    /// Latest timeline of which it has log of its own: that of the last file of it, which is there
    /// before the first record in it is acknowledged.
    pub timeline: u64,
    /// Position in the log: written, or replayed.
    pub position: u64,
    /// Bytes not replayed yet of what the primary said it has.
    pub lag: Option<u64>,
    /// On a replica: it streams.
    pub receiving: bool,
    /// Version, for example `17.12`.
    pub version: String,
    /// System identifier.
    pub system_identifier: String,
    /// When the configuration was loaded, in seconds since 1970.
    pub loaded_at: f64,
    /// On a replica: its settings name somebody to receive from, or it has a receiver that is not
    /// idle.
    pub attached: bool,
    /// On a replica: who would start a receiver heeds the settings as loaded now. Its process rereads
    /// them before each record, and after each pause of its search for more log, so it does if it is
    /// seen in such a pause, or has moved twice since a look that found the same settings.
    pub heeds: bool,
    /// On a replica: up to where it has received and flushed since its start.
    pub received: Option<u64>,
    /// On a replica: it has read its own log to the end and looks for more.
    pub at_end: bool,
    /// Highest timeline of which there is a history file, or that it is on.
    pub newest_timeline: u64,
    /// On a primary: `synchronous_standby_names` in force for this session.
    pub standby_names: String,
    /// On a primary: who streams, with what it has flushed, by application name.
    pub flushed: Vec<(String, u64)>,
    /// On a primary: to whom is sent without counting them among whom commits wait for, by the
    /// configuration that the sender has loaded; also who has not confirmed anything yet.
    pub uncounted: Vec<String>,
    /// The roles are there by which members receive and rewind.
    pub roles: bool,
    /// On a primary: when the oldest of the processes that send to replicas began, in seconds since
    /// 1970.
    pub oldest_sender: Option<f64>,
}

/// What the process that replays waits for between looks at its settings; the first at the end of
/// the log.
const PAUSES: [&str; 3] = [
    "RecoveryRetrieveRetryInterval",
    "RecoveryApplyDelay",
    "RecoveryPause",
];

/// Columns are read from left to right. The timeline comes after the position: read before, a replica that
/// meanwhile receives its first record of a new timeline would be seen beyond where the one before was left, as
/// data that has parted.
const VITALS: &str = "
select pg_is_in_recovery() as in_recovery,
       (select status = 'streaming' from pg_stat_wal_receiver) as receiving,
       (select latest_end_lsn - '0/0'::pg_lsn from pg_stat_wal_receiver)::bigint as primary_position,
       array(select application_name from pg_stat_replication where state = 'streaming' and flush_lsn is not null order by application_name) as streaming,
       array(select (flush_lsn - '0/0'::pg_lsn)::bigint from pg_stat_replication where state = 'streaming' and flush_lsn is not null order by application_name) as flushed,
       array(select application_name from pg_stat_replication where state <> 'backup' and application_name not like 'copy for %' and sync_state = 'async') as uncounted,
       exists (select from pg_roles where rolname = 'mainstay_replication' and has_function_privilege(oid, 'pg_read_binary_file(text, bigint, bigint, boolean)', 'execute')) as roles,
       (select extract(epoch from min(backend_start))::float8 from pg_stat_replication where state <> 'backup' and application_name not like 'copy for %') as oldest_sender,
       current_setting('synchronous_standby_names') as standby_names,
       pg_is_in_recovery() and (current_setting('primary_conninfo') <> '' or exists (select from pg_stat_wal_receiver where status <> 'waiting')) as attached,
       (pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint as received,
       (select wait_event from pg_stat_activity where backend_type = 'startup') as recovery,
       greatest((select max(('x' || left(name, 8))::bit(32)::bigint) from pg_ls_waldir() where name ~ '^[0-9A-F]{8}\\.history$'), 1) as newest_timeline,
       split_part(current_setting('server_version'), ' ', 1) as version,
       (select system_identifier from pg_control_system())::text as system_identifier,
       extract(epoch from pg_conf_load_time())::float8 as loaded_at,
       (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end
           - '0/0'::pg_lsn)::bigint as position,
       coalesce((select max(('x' || left(name, 8))::bit(32)::bigint) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'), 0) as timeline";

const PENDING: &str = "select name from pg_settings where pending_restart order by name";

const ERRORS: &str = "
select coalesce(f.name, '') as name, f.error from pg_file_settings f
  left join pg_settings s on s.name = f.name
 where f.error is not null and not coalesce(s.pending_restart, false) order by f.seqno limit 1";

/// A connection with the prepared questions.
pub struct Session {
    client: Client,
    vitals: Statement,
    pending: Statement,
    errors: Statement,
}

impl Session {
    /// # Errors
    /// It is not reached, or refuses.
    pub async fn begin(place: &Place) -> Result<Self, SqlError> {
        let client = connect(place, "postgres").await?;
        in_time(async {
            let what = refused("describe itself");
            Ok(Self {
                vitals: client.prepare(VITALS).await.map_err(&what)?,
                pending: client.prepare(PENDING).await.map_err(&what)?,
                errors: client.prepare(ERRORS).await.map_err(&what)?,
                client,
            })
        })
        .await
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ask it. On a primary this includes a small durable write, since a disk that takes no writes is
    /// not healthy; it never waits for a replica.
    pub async fn vitals(&self, write: bool) -> Result<Vitals, SqlError> {
        in_time(async {
            let row = self
                .client
                .query_one(&self.vitals, &[])
                .await
                .map_err(refused("describe itself"))?;
            let in_recovery: bool = row.get("in_recovery");
            let position = row.get::<_, Option<i64>>("position").unwrap_or(0);
            let recovery: Option<&str> = row.get("recovery");
            let ahead = row
                .get::<_, Option<i64>>("primary_position")
                .map(|p| p - position);
            if write && !in_recovery {
                self.client
                    .batch_execute("select pg_logical_emit_message(true, 'mainstay', '')")
                    .await
                    .map_err(refused("write"))?;
            }
            Ok(Vitals {
                in_recovery,
                timeline: bytes(&row, "timeline").unwrap_or(0),
                position: u64::try_from(position).unwrap_or(0),
                lag: ahead
                    .map(|l| u64::try_from(l).unwrap_or(0))
                    .filter(|_| in_recovery),
                receiving: row.get::<_, Option<bool>>("receiving").unwrap_or(false),
                version: row.get("version"),
                system_identifier: row.get("system_identifier"),
                loaded_at: row.get("loaded_at"),
                attached: row.get("attached"),
                received: bytes(&row, "received"),
                heeds: recovery.is_some_and(|event| PAUSES.contains(&event)),
                at_end: recovery == Some(PAUSES[0]),
                newest_timeline: bytes(&row, "newest_timeline").unwrap_or(0),
                standby_names: row.get("standby_names"),
                flushed: {
                    let names: Vec<String> = row.get("streaming");
                    let ends: Vec<Option<i64>> = row.get("flushed");
                    let end = |e: Option<i64>| u64::try_from(e.unwrap_or(0)).unwrap_or(0);
                    names.into_iter().zip(ends.into_iter().map(end)).collect()
                },
                uncounted: row.get("uncounted"),
                roles: row.get("roles"),
                oldest_sender: row.get("oldest_sender"),
            })
        })
        .await
    }

    /// Have a replica become primary. Returns at once; it is seen in the vitals.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn promote(&self) -> Result<(), SqlError> {
        // Who came in before would write before the door is open.
        self.end_clients().await?;
        self.told("select pg_promote(wait => false)", "be promoted")
            .await
    }

    /// End the sessions of clients.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn end_clients(&self) -> Result<(), SqlError> {
        let clients = "select pg_terminate_backend(pid) from pg_stat_activity
                       where backend_type = 'client backend' and usename <> 'postgres'";
        self.told(clients, "end the sessions of clients").await
    }

    /// Have it do what a statement says.
    async fn told(&self, sql: &str, what: &'static str) -> Result<(), SqlError> {
        in_time(async {
            let done = self.client.execute(sql, &[]).await;
            done.map(|_| ()).map_err(refused(what))
        })
        .await
    }

    /// Settings that wait for a restart, and what is wrong with the configuration.
    pub async fn settings(&self) -> Result<(Vec<String>, Option<String>), SqlError> {
        in_time(async {
            let pending = self
                .client
                .query(&self.pending, &[])
                .await
                .map_err(refused("tell its settings"))?;
            let errors = self
                .client
                .query(&self.errors, &[])
                .await
                .map_err(refused("check its configuration"))?;
            let error = errors.first().map(|row| {
                format!(
                    "parameter {}: {}",
                    row.get::<_, String>("name"),
                    row.get::<_, String>("error")
                )
            });
            Ok((pending.iter().map(|row| row.get("name")).collect(), error))
        })
        .await
    }
}

/// What an engine that hangs does not hold up for ever.
async fn in_time<T>(asked: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    let answer = timeout(PATIENCE, asked).await;
    answer.map_err(|_| SqlError::Timeout)?
}

fn bytes(row: &tokio_postgres::Row, column: &str) -> Option<u64> {
    row.get::<_, Option<i64>>(column)
        .and_then(|n| u64::try_from(n).ok())
}
