//! Passwords.

use std::fmt;

/// Letters and digits that are not mistaken for one another. There are 32, so that five bits choose
/// one and none is more likely than another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Bytes of entropy that a password is made of: one for each character, five bits of it used.
pub const ENTROPY_BYTES: usize = 32;

/// Longest password that is taken from a Secret, in bytes.
const LONGEST: usize = 512;

/// A password, which does not show itself when it is printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password of 32 characters, 160 bits, from random bytes.
    pub fn from_entropy(entropy: &[u8; ENTROPY_BYTES]) -> Self {
        Self(
            entropy
                .iter()
                .filter_map(|b| ALPHABET.get(usize::from(b & 31)))
                .map(|b| char::from(*b))
                .collect(),
        )
    }

    /// A password that a Secret holds, or `None` when it cannot be one: empty, longer than 512
    /// bytes, no text, or with a control character (a line's end is easily pasted along).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let valid = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
        valid.then(|| Self(text.to_owned()))
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(password)")
    }
}

/// I/O: random bytes of the system.
///
/// # Errors
/// When the system gives none.
pub fn entropy<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_gives_a_character_and_each_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for byte in 0..=255_u8 {
            let password = Password::from_entropy(&[byte; ENTROPY_BYTES]);
            assert_eq!(password.expose().len(), 32);
            *counts.entry(password.expose().as_bytes()[0]).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 32);
        assert!(counts.values().all(|n| *n == 8));
    }

    #[test]
    fn what_cannot_be_a_password_is_not_taken_for_one() {
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", "secret\n", "a\0b", long.as_str()] {
            assert_eq!(Password::from_bytes(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Password::from_bytes(&[0xff]), None);
        let kept = Password::from_bytes("pässword".as_bytes()).unwrap();
        assert_eq!(kept.expose(), "pässword");
        assert_eq!(format!("{kept:?}"), "(password)");
    }

    #[test]
    fn entropy_is_not_the_same_twice() {
        assert_ne!(entropy::<ENTROPY_BYTES>().unwrap(), entropy().unwrap());
    }
}
