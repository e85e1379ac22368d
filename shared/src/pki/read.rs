//! Reads what a certificate says.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate or key cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The text is no PEM certificate, or its content is damaged.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The text is no PEM private key of a kind that is supported.
    #[error("the private key cannot be read")]
    Key,
    /// It could not be made.
    #[error("the certificate cannot be made: {0}")]
    Issue(rcgen::Error),
    /// The clock, or the duration asked for, is out of range.
    #[error("the certificate's time is out of range: check the clock and the duration")]
    Time,
    /// An authority that exists cannot be used, and is not replaced: every member trusts it.
    #[error(
        "the authority in Secret {secret} cannot be used ({why}): restore the Secret, or delete it to have a new authority made (clients then need the new ca.crt)"
    )]
    Authority {
        /// Name of the Secret, in the operator's namespace.
        secret: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Common name; empty when it has none.
    pub common_name: String,
    /// DNS names, sorted.
    pub dns_names: Vec<String>,
    /// Addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// Serial number in lower-case hexadecimal, without leading zeros.
    pub serial: String,
    /// First moment at which it is valid.
    pub not_before: Timestamp,
    /// Last moment at which it is valid.
    pub not_after: Timestamp,
    /// Its public key, as DER of a `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

/// What the first certificate of a PEM text says.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn facts(pem: &str) -> Result<Facts, PkiError> {
    facts_of_der(&der(pem)?)
}

/// What a certificate in DER, for example one that a peer has shown, says.
///
/// # Errors
/// When it is damaged.
pub fn facts_of_der(der: &[u8]) -> Result<Facts, PkiError> {
    let certificate = parse(der)?;
    let time = |t: i64| Timestamp::from_second(t).map_err(|_| PkiError::Time);
    let mut dns_names = Vec::new();
    let mut addresses = Vec::new();
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| PkiError::Certificate(e.to_string()))?;
    for name in names.iter().flat_map(|n| &n.value.general_names) {
        match name {
            GeneralName::DNSName(dns) => dns_names.push((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    dns_names.sort_unstable();
    addresses.sort_unstable();
    let validity = certificate.validity();
    Ok(Facts {
        common_name: certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|n| n.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        dns_names,
        addresses,
        serial: hexadecimal(certificate.raw_serial()),
        not_before: time(validity.not_before.timestamp())?,
        not_after: time(validity.not_after.timestamp())?,
        public_key: certificate.public_key().raw.to_vec(),
    })
}

/// Whether the certificate `pem` was signed with the key of `ca`.
pub(super) fn is_issued_by(pem: &str, ca: &str) -> Result<bool, PkiError> {
    let (leaf, ca) = (der(pem)?, der(ca)?);
    let (leaf, ca) = (parse(&leaf)?, parse(&ca)?);
    Ok(leaf.verify_signature(Some(ca.public_key())).is_ok())
}

fn der(pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Certificate(e.to_string()))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| PkiError::Certificate(e.to_string()))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn hexadecimal(serial: &[u8]) -> String {
    let digits = x509_parser::der_parser::num_bigint::BigUint::from_bytes_be(serial);
    format!("{digits:x}")
}
