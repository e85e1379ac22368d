//! Issues authorities and leaves.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use super::{Pair, PkiError, PrivateKeyPem, facts};

/// Hours by which a certificate begins in the past, so that a clock which is behind accepts it.
pub const BACKDATED_HOURS: i64 = 24;

/// Hours that an authority is valid: ten years.
const AUTHORITY_HOURS: i64 = 10 * 365 * 24;

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To show who a client is.
    Client,
    /// To serve.
    Server,
    /// Both: a member of a set serves, and is a client of the other members.
    ServerAndClient,
}

/// What a leaf should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafSpec {
    /// Common name: who the client is, to agents and engines. At most 64 characters.
    pub common_name: String,
    /// DNS names under which it is dialled.
    pub dns_names: Vec<String>,
    /// Addresses under which it is dialled.
    pub addresses: Vec<IpAddr>,
    /// What it is used for.
    pub usage: Usage,
    /// Hours from now that it is valid, at least 1.
    pub hours: i64,
}

/// Make a set's authority, valid for ten years from `now`.
///
/// # Errors
/// When the system gives no random numbers or the time cannot be written in a certificate.
pub fn issue_authority(namespace: &str, set: &str, now: Timestamp) -> Result<Pair, PkiError> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "mainstay.dev");
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, namespace);
    params.distinguished_name.push(DnType::CommonName, set);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now, after(now, AUTHORITY_HOURS)?)?;
    let certificate = params.self_signed(&key).map_err(PkiError::Issue)?.pem();
    Ok(Pair {
        ca: certificate.clone(),
        certificate,
        key: PrivateKeyPem::new(key.serialize_pem()),
    })
}

/// Make a leaf of `authority`, valid from [`BACKDATED_HOURS`] before `now`, never longer than its
/// authority.
///
/// # Errors
/// When the authority cannot be read, or a name cannot be written in a certificate.
pub fn issue_leaf(authority: &Pair, spec: &LeafSpec, now: Timestamp) -> Result<Pair, PkiError> {
    let authority_key = KeyPair::from_pem(authority.key.expose()).map_err(|_| PkiError::Key)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, &authority_key)
        .map_err(|e| PkiError::Certificate(e.to_string()))?;
    let ends = facts(&authority.certificate)?.not_after;

    let key = new_key()?;
    let mut params = CertificateParams::new(spec.dns_names.clone()).map_err(PkiError::Issue)?;
    params
        .subject_alt_names
        .extend(spec.addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, spec.common_name.as_str());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match spec.usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::ServerAndClient => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    validity(&mut params, now, after(now, spec.hours)?.min(ends))?;
    let certificate = params
        .signed_by(&key, &issuer)
        .map_err(PkiError::Issue)?
        .pem();
    Ok(Pair {
        certificate,
        key: PrivateKeyPem::new(key.serialize_pem()),
        ca: authority.certificate.clone(),
    })
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::Issue)
}

fn after(now: Timestamp, hours: i64) -> Result<Timestamp, PkiError> {
    now.checked_add(SignedDuration::from_hours(hours))
        .map_err(|_| PkiError::Time)
}

/// rcgen speaks the `time` crate's type, which its epoch and std's duration lead to.
fn validity(
    params: &mut CertificateParams,
    now: Timestamp,
    ends: Timestamp,
) -> Result<(), PkiError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |t: Timestamp| {
        u64::try_from(t.as_second())
            .map(std::time::Duration::from_secs)
            .map_err(|_| PkiError::Time)
    };
    params.not_before = epoch + since_epoch(after(now, -BACKDATED_HOURS)?)?;
    params.not_after = epoch + since_epoch(ends)?;
    Ok(())
}
