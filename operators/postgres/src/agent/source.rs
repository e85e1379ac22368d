//! Asking the primary over SQL, as a replica. I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::settings::{PORT, REPLICATION_ROLE};

/// Bound of the question.
const PATIENCE: Duration = Duration::from_secs(5);

/// How to reach the primary.
#[derive(Clone)]
pub struct Source {
    /// Address of its pod.
    pub address: IpAddr,
    /// Host name that its certificate bears.
    pub host: String,
    /// Trust in the set's authority, with the own certificate.
    pub tls: Arc<ClientConfig>,
}

/// Whether the primary has no file of the log that follows `position` (in bytes), and writes a later one:
/// then nobody who ends there can follow it as it is.
///
/// # Errors
/// What PostgreSQL said; a sentence.
pub async fn lacks_log_after(source: &Source, position: u64) -> Result<bool, String> {
    let asked = timeout(PATIENCE, ask(source, position)).await;
    asked
        .map_err(|_| format!("{} did not answer in time", source.host))?
        .map_err(|e| format!("{}: {e}", source.host))
}

async fn ask(source: &Source, position: u64) -> Result<bool, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .hostaddr(source.address)
        .host(&source.host)
        .port(PORT)
        .user(REPLICATION_ROLE)
        .dbname("postgres")
        .application_name("mainstay")
        .ssl_mode(SslMode::Require)
        .connect(MakeRustlsConnect::new(ClientConfig::clone(&source.tls)))
        .await?;
    // The next byte: a place between two files belongs to the second.
    let lacks = "
        with place as (select '0/0'::pg_lsn + ($1::bigint + 1)::numeric as next)
        select not pg_is_in_recovery()
           and right(pg_walfile_name(pg_current_wal_lsn()), 16) > right(pg_walfile_name(next), 16)
           and not exists (select from pg_ls_dir('pg_wal', false, false) as file
                           where file ~ '^[0-9A-F]{24}$' and right(file, 16) = right(pg_walfile_name(next), 16))
        from place";
    let position = i64::try_from(position).unwrap_or(i64::MAX - 1);
    // It ends with the client.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the primary ended");
        }
    });
    let row = client.query_one(lacks, &[&position]).await?;
    Ok(row.get(0))
}
