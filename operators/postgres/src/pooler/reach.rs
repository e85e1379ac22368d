//! Whether the Service leads to a server that lets clients in. I/O.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Side;
use crate::settings::{POOLER_ROLE, PORT};

/// Bound of one try. A Service that still leads to who is gone may not answer at all.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Where to, and as whom.
#[derive(Clone)]
pub struct Reach {
    /// Host name of the Service, as the server's certificate bears it.
    pub host: String,
    /// Whether it must take writes.
    pub side: Side,
    /// Trust in the set's authority, with the pooler's certificate.
    pub tls: Arc<ClientConfig>,
}

/// Return once a login through the Service has succeeded: it goes the way of PgBouncer's own, which
/// fails clients that come while its logins fail. PostgreSQL lets the role in only where it lets clients
/// in.
pub async fn reached(reach: Reach) {
    let mut last = String::new();
    loop {
        let why = match timeout(PATIENCE, ask(&reach)).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => "it leads to a replica".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if why != last {
            tracing::info!(host = reach.host, why, "not reached yet");
            last = why;
        }
        sleep(PAUSE).await;
    }
}

async fn ask(reach: &Reach) -> Result<bool, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(&reach.host)
        .port(PORT)
        .user(POOLER_ROLE)
        .dbname("postgres")
        .application_name("mainstay")
        .ssl_mode(SslMode::Require)
        .connect(MakeRustlsConnect::new(ClientConfig::clone(&reach.tls)))
        .await?;
    // It ends with the client.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection through the Service ended");
        }
    });
    let row = client.query_one("select pg_is_in_recovery()", &[]).await?;
    Ok(reach.side == Side::Replicas || !row.get::<_, bool>(0))
}
