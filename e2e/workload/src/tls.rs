//! TLS as an application does it: who shows no certificate of the binding's authority is nobody.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's certificate.
    #[error("ca.crt of the binding: {0}")]
    Authority(String),
    /// TLS itself.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Trusts the authority with this certificate (PEM), and nobody else.
///
/// # Errors
/// It is none.
pub fn trusting(ca: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsError::Authority(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authority(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsError::Authority("it holds no certificate".into()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_without_a_certificate_is_refused() {
        assert!(matches!(trusting("").err(), Some(TlsError::Authority(_))));
        assert!(matches!(
            trusting("-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n").err(),
            Some(TlsError::Authority(_))
        ));
    }
}
