//! Digests of plain content: SHA-256, keyed where the repository is encrypted.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hex::{hex, unhex};

/// SHA-256 of bytes, as they are stored.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A digest of plain content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    /// The bytes.
    pub bytes: [u8; 32],
    /// Whether it was made with a key.
    pub keyed: bool,
}

const PLAIN: &str = "sha256:";
const KEYED: &str = "hmac-sha256:";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            if self.keyed { KEYED } else { PLAIN },
            hex(&self.bytes)
        )
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: `sha256:` or `hmac-sha256:` and 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (digits, keyed) = match (text.strip_prefix(PLAIN), text.strip_prefix(KEYED)) {
            (Some(digits), _) => (digits, false),
            (None, Some(digits)) => (digits, true),
            (None, None) => return Err(NotADigest),
        };
        let bytes = unhex(digits)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(NotADigest)?;
        Ok(Self { bytes, keyed })
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A digest that is being made.
#[derive(Clone)]
pub enum Digester {
    /// Without a key.
    Plain(Sha256),
    /// With one.
    Keyed(Box<Hmac<Sha256>>),
}

impl Digester {
    /// Begins; with a key, if there is one.
    pub fn new(key: Option<&[u8; 32]>) -> Self {
        // A HMAC takes keys of every length: the second arm is never without.
        match key.and_then(|key| Hmac::<Sha256>::new_from_slice(key).ok()) {
            Some(mac) => Self::Keyed(Box::new(mac)),
            None => Self::Plain(Sha256::new()),
        }
    }

    /// Adds content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(hash) => hash.update(bytes),
            Self::Keyed(mac) => mac.update(bytes),
        }
    }

    /// Ends.
    pub fn finish(self) -> Digest {
        match self {
            Self::Plain(hash) => Digest {
                bytes: hash.finalize().into(),
                keyed: false,
            },
            Self::Keyed(mac) => Digest {
                bytes: mac.finalize().into_bytes().into(),
                keyed: true,
            },
        }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Digester::Plain",
            Self::Keyed(_) => "Digester::Keyed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_other_programs_make_them() {
        let of = |key: Option<&[u8; 32]>, text: &str| {
            let mut digester = Digester::new(key);
            digester.update(text.as_bytes());
            digester.finish().to_string()
        };
        // `printf abc | sha256sum`
        assert_eq!(
            of(None, "abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // `printf abc | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…`
        assert_eq!(
            of(Some(&[7; 32]), "abc"),
            "hmac-sha256:127da4ced6a839b8f6118bc244684d2663e70cb5ff0adeefca89d7e74d5a0525"
        );
    }

    #[test]
    fn text_and_back() {
        for keyed in [false, true] {
            let digest = Digest {
                bytes: [3; 32],
                keyed,
            };
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
        for bad in ["", "sha256:", "md5:00", "sha256:zz"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
