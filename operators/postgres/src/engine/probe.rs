//! The round trip that `Ready` speaks of (I/O).
//!
//! It takes the way of an application: to the address of the Service, with a verified certificate,
//! and it commits something, so that what a commit waits for is waited for as well. It costs no
//! request to the API server.

use std::time::Duration;

use mainstay_shared::operator::engine::{Answer, Target};
use rustls::ClientConfig;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::settings::{PORT, PROBE_ROLE};

/// A healthy primary answers in milliseconds; a commit may wait for a replica that just reconnects.
const PATIENCE: Duration = Duration::from_secs(5);

/// No answer, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection: refused, reset, or a certificate that is not right.
    #[error("no connection to {host}: {source}")]
    Connect {
        /// Host name.
        host: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A statement failed.
    #[error("{host} refused the probe's statement: {source}")]
    Statement {
        /// Host name.
        host: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// The Service leads to a server that takes no writes.
    #[error("{0} leads to a replica")]
    ReadOnly(String),
    /// Nothing came back in time.
    #[error("{0} did not confirm a commit within {PATIENCE:?}")]
    Slow(String),
}

/// One round trip: connect, look, commit, close.
///
/// # Errors
/// See [`ProbeError`]; each is a sentence for the condition `Ready`.
pub async fn round_trip(target: &Target) -> Result<Answer, ProbeError> {
    tokio::time::timeout(PATIENCE, talk(target))
        .await
        .unwrap_or_else(|_| Err(ProbeError::Slow(target.host.clone())))
}

async fn talk(target: &Target) -> Result<Answer, ProbeError> {
    let host = &target.host;
    let tls = MakeRustlsConnect::new(ClientConfig::clone(&target.tls));
    let (client, connection) = tokio_postgres::Config::new()
        .hostaddr(target.address)
        .host(host)
        .port(PORT)
        .user(PROBE_ROLE)
        .dbname("postgres")
        .application_name(PROBE_ROLE)
        .ssl_mode(SslMode::Require)
        .connect(tls)
        .await
        .map_err(|source| ProbeError::Connect {
            host: host.clone(),
            source,
        })?;
    let statement = |source| ProbeError::Statement {
        host: host.clone(),
        source,
    };
    let work = async {
        let row = client
            .query_one(
                "select current_setting('server_version'), pg_is_in_recovery()",
                &[],
            )
            .await
            .map_err(statement)?;
        if row.get::<_, bool>(1) {
            return Err(ProbeError::ReadOnly(host.clone()));
        }
        // A few bytes of log that mean nothing to anybody, committed as any write would be.
        client
            .query_one(
                "select pg_logical_emit_message(true, 'mainstay.probe', '')::text",
                &[],
            )
            .await
            .map_err(statement)?;
        // Debian's packages append themselves: `17.6 (Debian 17.6-1)`.
        let version: String = row.get(0);
        Ok(Answer {
            version: version.split(' ').next().unwrap_or_default().to_owned(),
        })
    };
    tokio::select! {
        answer = work => answer,
        ended = connection => match ended {
            Err(source) => Err(ProbeError::Connect { host: host.clone(), source }),
            Ok(()) => Err(ProbeError::Slow(host.clone())),
        },
    }
}
