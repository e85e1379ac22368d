//! An instance's keys: what opens its backups, and what its digests and seals are made with.

use std::fmt::Write as _;

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519::Identity;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::hex::{hex, unhex};

/// Why a text is not a keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A line is none of an identity file. It is not repeated: it may be a part of a key.
    #[error("line {line} of the instance's keys is neither a comment nor an age identity")]
    Line {
        /// Which one.
        line: usize,
    },
    /// There is no identity.
    #[error("the instance's keys hold no age identity")]
    NoIdentity,
    /// The key of digests is missing.
    #[error(
        "the instance's keys lack the line `# digest-key: …`: they are not ours, or were edited"
    )]
    NoDigestKey,
}

/// The keys of an instance. Its text is an identity file of the `age` command, and is what the
/// instance's Secret holds.
///
/// Rotation adds an identity, to which everything is encrypted from then on; the older ones stay, to
/// read what is there. The key of digests never changes, for a piece of the log must be recognised
/// whatever it was encrypted to.
#[derive(Clone)]
pub struct Keyring {
    digest_key: [u8; 32],
    /// Never empty; the last one is encrypted to.
    identities: Vec<Identity>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring(generation {})", self.generation())
    }
}

const DIGEST_KEY: &str = "# digest-key: ";

impl Keyring {
    /// New keys. `random`: for digests.
    pub fn generate(random: [u8; 32]) -> Self {
        Self {
            digest_key: random,
            identities: vec![Identity::generate()],
        }
    }

    /// With one more identity.
    #[must_use]
    pub fn rotated(&self) -> Self {
        let mut next = self.clone();
        next.identities.push(Identity::generate());
        next
    }

    /// How many identities there are: each rotation adds one.
    pub fn generation(&self) -> u32 {
        u32::try_from(self.identities.len()).unwrap_or(u32::MAX)
    }

    /// What new objects are encrypted to.
    pub fn recipient(&self) -> Option<age::x25519::Recipient> {
        self.identities.last().map(Identity::to_public)
    }

    /// The identities, for reading.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The key of digests of content.
    pub fn digest_key(&self) -> [u8; 32] {
        self.digest_key
    }

    /// The key of manifests' seals: derived, so that no digest of content is ever a seal.
    pub fn seal_key(&self) -> [u8; 32] {
        Hmac::<Sha256>::new_from_slice(&self.digest_key).map_or([0; 32], |mut mac| {
            mac.update(b"mainstay manifest seal");
            mac.finalize().into_bytes().into()
        })
    }

    /// As an identity file.
    pub fn to_text(&self) -> SecretString {
        let mut text = String::from(
            "# Keys of a Mainstay backup repository: `age --decrypt --identity THIS-FILE`.\n",
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{DIGEST_KEY}{}", hex(&self.digest_key));
        for identity in &self.identities {
            let _ = writeln!(text, "{}", identity.to_string().expose_secret());
        }
        text.into()
    }

    /// From an identity file that [`Self::to_text`] made.
    ///
    /// # Errors
    /// It is none, or was edited.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut digest_key = None;
        let mut identities = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if let Some(key) = line.strip_prefix(DIGEST_KEY.trim_end()) {
                digest_key = unhex(key.trim()).and_then(|bytes| bytes.try_into().ok());
            } else if !line.is_empty() && !line.starts_with('#') {
                identities.push(
                    line.parse()
                        .map_err(|_| KeyringError::Line { line: number })?,
                );
            }
        }
        if identities.is_empty() {
            return Err(KeyringError::NoIdentity);
        }
        Ok(Self {
            digest_key: digest_key.ok_or(KeyringError::NoDigestKey)?,
            identities,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_keeps_what_opens_old_objects() {
        let first = Keyring::generate([9; 32]);
        let second = first.rotated();
        let read = Keyring::parse(second.to_text().expose_secret()).unwrap();
        assert_eq!(
            (read.generation(), read.digest_key()),
            (2, first.digest_key())
        );
        let public = |ring: &Keyring| ring.recipient().unwrap().to_string();
        assert_eq!(public(&read), public(&second));
        assert_ne!(public(&first), public(&second));
        assert_eq!(
            read.identities()[0].to_public().to_string(),
            public(&first),
            "the first identity is still there"
        );
    }

    #[test]
    fn the_seal_key_is_another() {
        let ring = Keyring::generate([9; 32]);
        assert!(ring.seal_key() != ring.digest_key() && ring.seal_key() != [0; 32]);
    }

    #[test]
    fn errors_repeat_no_key() {
        let ring = Keyring::generate([9; 32]).to_text();
        let text = ring.expose_secret();
        let damaged = text.replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1X");
        let error = Keyring::parse(&damaged).unwrap_err();
        assert_eq!(error, KeyringError::Line { line: 3 });
        assert!(!error.to_string().contains("SECRET"));
        let identity = text.lines().last().unwrap();
        assert_eq!(
            Keyring::parse(identity).unwrap_err(),
            KeyringError::NoDigestKey
        );
        assert_eq!(
            Keyring::parse("# nothing\n").unwrap_err(),
            KeyringError::NoIdentity
        );
    }

    #[test]
    fn nothing_secret_is_shown_for_debugging() {
        assert_eq!(
            format!("{:?}", Keyring::generate([1; 32])),
            "Keyring(generation 1)"
        );
    }
}
