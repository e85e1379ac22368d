//! Settings of rustls for agents and their clients, made of PEM texts.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Pair;

/// Whether a server wants to know who its client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a certificate is refused in the handshake.
    Required,
    /// A client may come without a certificate, and then has the rights of nobody; one that it
    /// shows must be of the authority.
    Optional,
}

/// TLS cannot be set up with these certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text holds no certificate or key.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The parts do not fit together.
    #[error("TLS cannot be set up with this certificate: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot be used to verify clients.
    #[error("clients cannot be verified with this authority: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A server that shows `pair` and verifies clients against its `ca`. TLS 1.3 only: both ends are
/// ours, or the kubelet.
///
/// # Errors
/// When a text cannot be read or key and certificate do not match.
pub fn server_config(pair: &Pair, clients: ClientAuth) -> Result<ServerConfig, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&pair.ca)?), provider());
    let verifier = match clients {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let (chain, key) = identity(pair)?;
    Ok(ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?)
}

/// A client that verifies servers against `ca` (PEM) and, if given, shows a certificate.
///
/// # Errors
/// When a text cannot be read or key and certificate do not match.
pub fn client_config(ca: &str, identity_pair: Option<&Pair>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    Ok(match identity_pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = identity(pair)?;
            builder.with_client_auth_cert(chain, key)?
        }
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("authority's certificate", ca)? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn identity(
    pair: &Pair,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes()).map_err(|e| {
        TlsError::Unreadable {
            what: "private key",
            why: e.to_string(),
        }
    })?;
    Ok((certificates("certificate", &pair.certificate)?, key))
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { what, why };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(e.to_string()))?;
    if all.is_empty() {
        return Err(unreadable("it holds no PEM certificate".into()));
    }
    Ok(all)
}
