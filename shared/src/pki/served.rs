//! I/O: reads the certificate that a server really serves, by a verified handshake.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{PkiError, facts_of_der};

/// A certificate as served, after it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Serial number in lower-case hexadecimal.
    pub serial: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The certificate could not be read from the server.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// The name to verify is no DNS name or address.
    #[error("{0:?} is neither a DNS name nor an address")]
    Name(String),
    /// The handshake failed; verification is part of it.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[from] std::io::Error),
    /// The server showed none.
    #[error("the server showed no certificate")]
    None,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] PkiError),
}

/// Shake hands over `stream`, verify the server as `host`, and read what it serves.
///
/// Assumption: an engine's own preamble (PostgreSQL's `SSLRequest`) has been exchanged already, and
/// the caller bounds the time that this takes.
///
/// # Errors
/// When the server cannot be verified; then nothing of its certificate is reported.
pub async fn served<S>(
    stream: S,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<Served, ServedError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| ServedError::Name(host.to_owned()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let facts = facts_of_der(shown.and_then(|c| c.first()).ok_or(ServedError::None)?)?;
    Ok(Served {
        serial: facts.serial,
        not_after: facts.not_after,
    })
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::pki::{
        ClientAuth, LeafSpec, Pair, Usage, client_config, facts, issue_authority, issue_leaf,
        server_config,
    };

    const HOST: &str = "db-1.db-peers.shop.svc";

    fn leaf(authority: &Pair, name: &str, usage: Usage) -> Pair {
        let spec = LeafSpec {
            common_name: name.into(),
            dns_names: vec![format!("{name}.db-peers.shop.svc")],
            addresses: vec![],
            usage,
            hours: 24,
        };
        issue_leaf(authority, &spec, Timestamp::now()).unwrap()
    }

    /// What the client sees, and the common name that the server sees.
    async fn shake(
        server: ServerConfig,
        client: ClientConfig,
    ) -> (Result<Served, ServedError>, Option<String>) {
        let (mut near, far) = tokio::io::duplex(16 * 1024);
        let accept = async {
            let stream = TlsAcceptor::from(Arc::new(server)).accept(far).await.ok()?;
            let shown = stream.get_ref().1.peer_certificates()?.first()?.clone();
            Some(facts_of_der(&shown).unwrap().common_name)
        };
        tokio::join!(served(&mut near, HOST, Arc::new(client)), accept)
    }

    #[tokio::test]
    async fn what_is_served_is_read_and_both_ends_know_each_other() {
        let authority = issue_authority("shop", "db", Timestamp::now()).unwrap();
        let member = leaf(&authority, "db-1", Usage::ServerAndClient);
        let operator = leaf(&authority, "operator.mainstay", Usage::Client);
        let (seen, peer) = shake(
            server_config(&member, ClientAuth::Optional).unwrap(),
            client_config(&authority.certificate, Some(&operator)).unwrap(),
        )
        .await;
        let expected = facts(&member.certificate).unwrap();
        let seen = seen.unwrap();
        assert_eq!(
            (seen.serial, seen.not_after),
            (expected.serial, expected.not_after)
        );
        assert_eq!(peer.as_deref(), Some("operator.mainstay"));
    }

    #[tokio::test]
    async fn a_probe_without_a_certificate_is_let_in_where_it_is_optional() {
        let authority = issue_authority("shop", "db", Timestamp::now()).unwrap();
        let member = leaf(&authority, "db-1", Usage::ServerAndClient);
        let (seen, peer) = shake(
            server_config(&member, ClientAuth::Optional).unwrap(),
            client_config(&authority.certificate, None).unwrap(),
        )
        .await;
        assert!(seen.is_ok());
        assert_eq!(peer, None);
    }

    #[tokio::test]
    async fn other_names_authorities_and_usages_are_refused() {
        let authority = issue_authority("shop", "db", Timestamp::now()).unwrap();
        let other = issue_authority("shop", "db", Timestamp::now()).unwrap();
        let server = |pair: &Pair| server_config(pair, ClientAuth::Required).unwrap();
        let member = leaf(&authority, "db-1", Usage::ServerAndClient);
        let operator = leaf(&authority, "operator.mainstay", Usage::Client);
        let client = || client_config(&authority.certificate, Some(&operator)).unwrap();
        let neighbour = leaf(&authority, "db-2", Usage::ServerAndClient);
        for wrong in [
            &leaf(&other, "db-1", Usage::ServerAndClient),
            &neighbour,
            &operator,
        ] {
            assert!(matches!(
                shake(server(wrong), client()).await.0,
                Err(ServedError::Handshake(_))
            ));
        }
        let stranger = leaf(&other, "operator.mainstay", Usage::Client);
        let config = client_config(&authority.certificate, Some(&stranger)).unwrap();
        assert_eq!(shake(server(&member), config).await.1, None);
    }
}
