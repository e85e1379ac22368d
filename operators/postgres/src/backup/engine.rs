//! Asking PostgreSQL, over its Unix socket. I/O.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{Client, Row};

use super::coverage::Sample;
use super::wal::{Lsn, SegmentSize};
use crate::agent::place::Place;
use crate::agent::sql;

/// What PostgreSQL says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// It is a replica.
    pub in_recovery: bool,
    /// The timeline that it writes, or receives.
    pub timeline: u32,
    /// System identifier.
    pub system_identifier: String,
    /// Size of segments.
    pub size: SegmentSize,
    /// Version, for example `17.12`.
    pub version: String,
    /// Major version.
    pub major: u32,
    /// Whether it keeps what increments need.
    pub summarizes: bool,
}

/// A connection that is made again when it broke.
pub struct Engine {
    place: Arc<Place>,
    client: Option<Client>,
}

impl Engine {
    /// None yet.
    pub fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            client: None,
        }
    }

    async fn row(&mut self, query: &str) -> Result<Row, String> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = None;
        }
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(
                sql::connect(&self.place, "postgres")
                    .await
                    .map_err(|e| e.to_string())?,
            ),
        };
        match client.query_one(query, &[]).await {
            Ok(row) => Ok(row),
            Err(error) => {
                self.client = None;
                Err(match error.as_db_error() {
                    Some(db) => format!("PostgreSQL refused: {}", db.message()),
                    None => format!("PostgreSQL did not answer: {error}"),
                })
            }
        }
    }

    /// What it is now.
    ///
    /// # Errors
    /// A sentence.
    pub async fn facts(&mut self) -> Result<Facts, String> {
        // A segment that is being written belongs to the timeline of its name, before any checkpoint tells it.
        let query = "
            select pg_is_in_recovery(),
                case when pg_is_in_recovery()
                    then coalesce((select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint()))::int8
                    else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 end,
                (select system_identifier::text from pg_control_system()),
                (select bytes_per_wal_segment::int8 from pg_control_init()),
                current_setting('server_version'),
                current_setting('server_version_num')::int4,
                coalesce(current_setting('summarize_wal', true), 'off') = 'on'";
        let row = self.row(query).await?;
        let wrong = |what: &str| format!("PostgreSQL's {what} is not understood");
        let number: i32 = row.get(5);
        let version: String = row.get(4);
        Ok(Facts {
            in_recovery: row.get(0),
            timeline: u32::try_from(row.get::<_, i64>(1)).map_err(|_| wrong("timeline"))?,
            system_identifier: row.get(2),
            size: u64::try_from(row.get::<_, i64>(3))
                .ok()
                .and_then(SegmentSize::new)
                .ok_or_else(|| wrong("segment size"))?,
            version: version
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
            major: u32::try_from(number / 10_000).unwrap_or_default(),
            summarizes: row.get(6),
        })
    }

    /// Commits something that changes nothing, so that a recovery finds a commit after every moment.
    ///
    /// # Errors
    /// A sentence.
    pub async fn heartbeat(&mut self) -> Result<Sample, String> {
        let query = "select (extract(epoch from now()) * 1000000)::int8, pg_logical_emit_message(true, 'mainstay', '')::text";
        let begun: i64 = self.row(query).await?.get(0);
        let lsn: String = self
            .row("select pg_current_wal_insert_lsn()::text")
            .await?
            .get(0);
        Ok(Sample {
            at: Timestamp::from_microsecond(begun).map_err(|e| e.to_string())?,
            lsn: lsn.parse::<Lsn>().map_err(|e| e.to_string())?,
        })
    }

    /// Bytes of all databases, about.
    pub async fn bytes(&mut self) -> Option<u64> {
        let query = "select sum(pg_database_size(oid))::int8 from pg_database";
        let row = self.row(query).await.ok()?;
        u64::try_from(row.get::<_, i64>(0)).ok()
    }
}
