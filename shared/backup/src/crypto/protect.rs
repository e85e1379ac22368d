//! Whether a repository is encrypted, and to whom.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Digester, Keyring};
use crate::layout::Coding;

/// What a resource asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EncryptionSpec {
    /// Escrow recipients (`age1…`), whose identities are kept outside the cluster.
    pub recipients: Vec<String>,
    /// Encrypt without any: then only the instance's Secret opens its backups.
    pub i_accept_key_loss: bool,
}

/// Why it cannot be encrypted as asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// Nobody outside the cluster could open a backup.
    #[error(
        "no escrow recipient is given, so who loses the cluster loses every backup with it: \
         name at least one in `recipients`, or set `iAcceptKeyLoss: true`"
    )]
    NoEscrow,
    /// It is not a recipient.
    #[error(
        "recipients[{index}], `{text}`, is not an age recipient: `age-keygen -y KEYFILE` prints one, it begins with `age1`"
    )]
    NotARecipient {
        /// Which one.
        index: usize,
        /// What it is.
        text: String,
    },
    /// It is the secret itself.
    #[error(
        "recipients[{index}] is a secret key, which must not be here: \
         make a new one, and give what `age-keygen -y KEYFILE` prints"
    )]
    SecretKey {
        /// Which one.
        index: usize,
    },
    /// Two are the same.
    #[error("recipients[{index}] is given twice")]
    Twice {
        /// The second one.
        index: usize,
    },
}

/// Who can open what is encrypted to it.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Recipient {
    /// For encrypting.
    pub fn as_age(&self) -> &dyn age::Recipient {
        &self.0
    }
}

impl EncryptionSpec {
    /// The escrow recipients.
    ///
    /// # Errors
    /// There are none and that is not accepted, or one is not a recipient.
    pub fn escrow(&self) -> Result<Vec<Recipient>, EncryptionError> {
        if self.recipients.is_empty() && !self.i_accept_key_loss {
            return Err(EncryptionError::NoEscrow);
        }
        let mut escrow: Vec<Recipient> = Vec::new();
        for (index, text) in self.recipients.iter().enumerate() {
            let text = text.trim();
            if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
                return Err(EncryptionError::SecretKey { index });
            }
            let recipient =
                text.parse()
                    .map(Recipient)
                    .map_err(|_| EncryptionError::NotARecipient {
                        index,
                        text: text.to_owned(),
                    })?;
            if escrow
                .iter()
                .any(|known| known.to_string() == recipient.to_string())
            {
                return Err(EncryptionError::Twice { index });
            }
            escrow.push(recipient);
        }
        Ok(escrow)
    }
}

/// How a repository's contents are protected.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Compressed only.
    Plain,
    /// Encrypted.
    Encrypted(Arc<Encrypted>),
}

/// What encrypting and opening needs.
#[derive(Debug)]
pub struct Encrypted {
    keyring: Keyring,
    escrow: Vec<Recipient>,
}

impl Encrypted {
    /// The instance's keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The escrow recipients.
    pub fn escrow(&self) -> &[Recipient] {
        &self.escrow
    }

    /// Everybody who can open new objects.
    pub fn recipients(&self) -> Vec<Recipient> {
        let own = self.keyring.recipient().map(Recipient);
        own.into_iter().chain(self.escrow.iter().cloned()).collect()
    }
}

impl Protection {
    /// Encrypted as asked for.
    ///
    /// # Errors
    /// As [`EncryptionSpec::escrow`].
    pub fn encrypted(keyring: Keyring, spec: &EncryptionSpec) -> Result<Self, EncryptionError> {
        let escrow = spec.escrow()?;
        Ok(Self::Encrypted(Arc::new(Encrypted { keyring, escrow })))
    }

    /// Opens what an instance with these keys wrote; for reading only.
    pub fn opening(keyring: Keyring) -> Self {
        Self::Encrypted(Arc::new(Encrypted {
            keyring,
            escrow: Vec::new(),
        }))
    }

    /// How objects are stored.
    pub fn coding(&self) -> Coding {
        match self {
            Self::Plain => Coding::Zstd,
            Self::Encrypted(_) => Coding::ZstdAge,
        }
    }

    /// The keys, where it is encrypted.
    pub fn keyring(&self) -> Option<&Keyring> {
        match self {
            Self::Plain => None,
            Self::Encrypted(encrypted) => Some(&encrypted.keyring),
        }
    }

    /// Begins a digest of plain content.
    pub fn digester(&self) -> Digester {
        Digester::new(self.keyring().map(Keyring::digest_key).as_ref())
    }

    /// Begins a digest to compare with one that is known, which has a key or none; none if it has one that is not here.
    pub fn digester_like(&self, keyed: bool) -> Option<Digester> {
        if keyed && !self.keyed() {
            return None;
        }
        let key = self.keyring().map(Keyring::digest_key);
        Some(Digester::new(key.as_ref().filter(|_| keyed)))
    }

    /// Whether digests have a key.
    pub fn keyed(&self) -> bool {
        self.keyring().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret as _;

    fn spec(recipients: &[&str], i_accept_key_loss: bool) -> EncryptionSpec {
        EncryptionSpec {
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            i_accept_key_loss,
        }
    }

    #[test]
    fn without_escrow_only_on_explicit_word() {
        assert_eq!(
            spec(&[], false).escrow().unwrap_err(),
            EncryptionError::NoEscrow
        );
        assert!(spec(&[], true).escrow().unwrap().is_empty());
        let ring = || Keyring::generate([0; 32]);
        assert!(Protection::encrypted(ring(), &spec(&[], false)).is_err());
        assert!(
            Protection::encrypted(ring(), &spec(&[], true))
                .unwrap()
                .keyed()
        );
    }

    #[test]
    fn recipients_are_checked_one_by_one() {
        let secret = age::x25519::Identity::generate();
        let public = secret.to_public().to_string();
        let of = |texts: &[&str]| spec(texts, false).escrow().unwrap_err();
        assert!(matches!(
            of(&[&public, "age1nonsense"]),
            EncryptionError::NotARecipient { index: 1, .. }
        ));
        assert_eq!(of(&[&public, &public]), EncryptionError::Twice { index: 1 });
        let error = of(&[secret.to_string().expose_secret()]);
        assert_eq!(error, EncryptionError::SecretKey { index: 0 });
        assert!(!error.to_string().contains("AGE-SECRET"));
        assert_eq!(
            spec(&[&public], false).escrow().unwrap()[0].to_string(),
            public
        );
    }

    #[test]
    fn new_objects_are_for_the_newest_key_and_escrow() {
        let ring = Keyring::generate([0; 32]).rotated();
        let newest = ring.recipient().unwrap().to_string();
        let escrow = age::x25519::Identity::generate().to_public().to_string();
        let Protection::Encrypted(encrypted) =
            Protection::encrypted(ring, &spec(&[&escrow], false)).unwrap()
        else {
            panic!("not encrypted");
        };
        let names: Vec<String> = encrypted
            .recipients()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, [newest, escrow]);
    }
}
