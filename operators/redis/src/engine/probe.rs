//! The round trip that `Ready` speaks of (I/O).
//!
//! It takes the way of an application: to the address of the Service, with a verified certificate, and it writes
//! something, so that what a write needs is there. It costs no request to the API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use mainstay_shared::access::Password;
use mainstay_shared::operator::engine::{Answer, Target};
use rustls::pki_types::ServerName;

use super::slots::{Part, owned, parts};
use crate::agent::vitals::version;
use crate::backup::shards::SLOTS;
use crate::resp::{Connection, RespError, Value, words};
use crate::settings::{PORT, PROBE_KEY, PROBE_ROLE};

/// A healthy primary answers in milliseconds; writers are held back for a while at a hand-over.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds that the probe's key stays when nobody probes any more.
const KEPT_SECONDS: &str = "3600";

/// No answer, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection: refused, reset, or a certificate that is not right.
    #[error("no connection to {host}: {source}")]
    Connect {
        /// Host name.
        host: String,
        /// Why.
        source: RespError,
    },
    /// A command failed.
    #[error("{host} refused the probe's command: {source}")]
    Command {
        /// Host name.
        host: String,
        /// Why.
        source: RespError,
    },
    /// The Service leads to a server that is no primary.
    #[error("{0} leads to a replica")]
    ReadOnly(String),
    /// The answer is not what Redis answers.
    #[error("{0} does not say which version it runs")]
    Version(String),
    /// Who owns which slots is not understood.
    #[error("{0} does not say who owns which slots")]
    Slots(String),
    /// Slots without an owner.
    #[error("{0} of 16384 slots have no owner: the cluster is not formed, or a part of it is lost")]
    Unowned(usize),
    /// A host of which there is no certificate.
    #[error("{0} is no name that a certificate can bear")]
    Name(String),
    /// The probe's password is not made yet.
    #[error("the probe of {0} has no password yet: its Secret is made with the set")]
    NoPassword(String),
    /// Nothing came back in time.
    #[error("{0} did not take a write within {PATIENCE:?}")]
    Slow(String),
}

/// One round trip: connect, log in, look, write, close.
///
/// # Errors
/// See [`ProbeError`]; each is a sentence for the condition `Ready`.
pub async fn round_trip(target: &Target) -> Result<Answer, ProbeError> {
    tokio::time::timeout(PATIENCE, talk(target))
        .await
        .unwrap_or_else(|_| Err(ProbeError::Slow(target.host.clone())))
}

async fn talk(target: &Target) -> Result<Answer, ProbeError> {
    let host = target.host.as_str();
    let password = target.password.as_ref();
    let password = password.ok_or_else(|| ProbeError::NoPassword(host.to_owned()))?;
    let unconnected = |source| ProbeError::Connect {
        host: host.to_owned(),
        source,
    };
    let refused = |source| ProbeError::Command {
        host: host.to_owned(),
        source,
    };
    let address = SocketAddr::new(target.address, PORT);
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| ProbeError::Name(host.to_owned()))?;
    let connection = Connection::tls(address, name, Arc::clone(&target.tls)).await;
    let mut connection = connection.map_err(unconnected)?;
    let login = connection.login(PROBE_ROLE, password.expose()).await;
    login.map_err(refused)?;
    let info = connection.call(words(["INFO", "server"])).await;
    let info = info.map_err(refused)?.text().unwrap_or_default();
    let version = version(&info).ok_or_else(|| ProbeError::Version(host.to_owned()))?;
    if info.lines().any(|l| l.trim_end() == "redis_mode:cluster") {
        let slots = connection.call(words(["CLUSTER", "SLOTS"])).await;
        return every_shard(target, password, &slots.map_err(refused)?)
            .await
            .map(|()| Answer { version });
    }
    let role = connection.call(words(["ROLE"])).await.map_err(refused)?;
    let role = role.items().first().and_then(Value::text);
    if role.as_deref() != Some("master") {
        return Err(ProbeError::ReadOnly(host.to_owned()));
    }
    let written = words(["SET", PROBE_KEY, "1", "EX", KEPT_SECONDS]);
    connection.call(written).await.map_err(refused)?;
    Ok(Answer { version })
}

/// Of a cluster: every slot has an owner, and each owner takes a write, where clients are led.
async fn every_shard(
    target: &Target,
    password: &Password,
    slots: &Value,
) -> Result<(), ProbeError> {
    let host = target.host.as_str();
    let unclear = || ProbeError::Slots(host.to_owned());
    let parts = parts(slots).ok_or_else(unclear)?;
    let owned = owned(slots);
    if owned != usize::from(SLOTS) {
        return Err(ProbeError::Unowned(
            usize::from(SLOTS).saturating_sub(owned),
        ));
    }
    let writes = parts
        .into_iter()
        .map(|part| write_to(target, password, part));
    try_join_all(writes).await.map(drop)
}

async fn write_to(target: &Target, password: &Password, part: Part) -> Result<(), ProbeError> {
    let host = part.host.clone();
    let key = part.key().ok_or_else(|| ProbeError::Slots(host.clone()))?;
    let name = ServerName::try_from(host.clone()).map_err(|_| ProbeError::Name(host.clone()))?;
    let address = SocketAddr::new(part.address, PORT);
    let connection = Connection::tls(address, name, Arc::clone(&target.tls)).await;
    let mut connection = connection.map_err(|source| ProbeError::Connect {
        host: host.clone(),
        source,
    })?;
    let refused = |source| ProbeError::Command {
        host: host.clone(),
        source,
    };
    let login = connection.login(PROBE_ROLE, password.expose()).await;
    login.map_err(refused)?;
    let written = words(["SET", &key, "1", "EX", KEPT_SECONDS]);
    connection.call(written).await.map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_says_its_own_version() {
        let redis = "# Server\r\nredis_version:8.0.2\r\nredis_mode:standalone\r\n";
        assert_eq!(version(redis).as_deref(), Some("8.0.2"));
        let valkey =
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n";
        assert_eq!(version(valkey).as_deref(), Some("8.1.1"));
        assert_eq!(version("# Server\r\n"), None);
    }
}
