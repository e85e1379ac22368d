//! Certificates as Secrets.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Pair, PkiError};

/// Key of the certificate.
pub const CERTIFICATE_KEY: &str = "tls.crt";
/// Key of the private key.
pub const PRIVATE_KEY_KEY: &str = "tls.key";
/// Key of the authority's certificate.
pub const CA_KEY: &str = "ca.crt";

/// A private key as PEM, which does not show itself when it is printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Take a PEM text.
    pub fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The PEM text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private key)")
    }
}

/// Read a pair from a Secret's data. `None` when a key is missing, empty or no text: then it counts
/// as absent.
pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Option<Pair> {
    Some(Pair {
        certificate: text(data, CERTIFICATE_KEY)?,
        key: PrivateKeyPem::new(text(data, PRIVATE_KEY_KEY)?),
        ca: text(data, CA_KEY)?,
    })
}

/// Read an authority from the data of the Secret called `name`, which exists.
///
/// # Errors
/// When certificate or key is missing: such a Secret is not taken for an absent one, since a new
/// authority would lock everyone out.
pub fn authority_from_secret(
    name: &str,
    data: &BTreeMap<String, ByteString>,
) -> Result<Pair, PkiError> {
    let missing = |key: &str| PkiError::Authority {
        secret: name.to_owned(),
        why: format!("it has no key {key}"),
    };
    let certificate = text(data, CERTIFICATE_KEY).ok_or_else(|| missing(CERTIFICATE_KEY))?;
    Ok(Pair {
        ca: certificate.clone(),
        certificate,
        key: text(data, PRIVATE_KEY_KEY)
            .map(PrivateKeyPem::new)
            .ok_or_else(|| missing(PRIVATE_KEY_KEY))?,
    })
}

/// A pair as a Secret of type `kubernetes.io/tls`: a leaf in the set's namespace, with the
/// authority's certificate and never its key; or an authority in the operator's namespace.
pub fn to_secret(metadata: ObjectMeta, pair: &Pair) -> Secret {
    let entry = |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        metadata,
        type_: Some("kubernetes.io/tls".into()),
        data: Some(BTreeMap::from([
            entry(CERTIFICATE_KEY, &pair.certificate),
            entry(PRIVATE_KEY_KEY, pair.key.expose()),
            entry(CA_KEY, &pair.ca),
        ])),
        ..Secret::default()
    }
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    let text = String::from_utf8(data.get(key)?.0.clone()).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn an_authority_survives_its_secret_and_a_damaged_one_is_not_taken_for_absent() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = super::super::issue_authority("shop", "db", now).unwrap();
        let mut data = to_secret(ObjectMeta::default(), &authority).data.unwrap();
        assert_eq!(from_secret(&data), Some(authority.clone()));
        assert_eq!(authority_from_secret("x", &data).unwrap(), authority);
        data.remove(PRIVATE_KEY_KEY);
        assert_eq!(from_secret(&data), None);
        let error = authority_from_secret("postgres.shop.db.ca", &data)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("postgres.shop.db.ca") && error.contains("tls.key"),
            "{error}"
        );
        assert!(!format!("{authority:?}").contains("PRIVATE KEY"));
    }
}
