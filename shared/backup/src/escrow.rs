//! Getting an instance's keys back with an escrow identity.

use std::io::Read as _;

use crate::crypto::Keyring;
use crate::layout;
use crate::store::{Store, StoreError};

/// Most bytes of an object with keys.
const KEYS: usize = 64 << 10;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no identity. It is not repeated.
    #[error("the escrow key is no age identity (`AGE-SECRET-KEY-1…`)")]
    NoIdentity,
    /// Nothing is kept.
    #[error("no keys are kept in this repository")]
    None,
    /// It opens none of those that are kept.
    #[error("the escrow key opens none of the keys that are kept in this repository: {0}")]
    NotOurs(String),
}

/// The newest keys that are kept in a repository and that an identity file opens.
///
/// # Errors
/// There are none.
pub async fn keys(store: &Store, identities: &str) -> Result<Keyring, EscrowError> {
    let identities: Vec<age::x25519::Identity> = identities
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.parse().map_err(|_| EscrowError::NoIdentity))
        .collect::<Result<_, _>>()?;
    if identities.is_empty() {
        return Err(EscrowError::NoIdentity);
    }
    let mut found = store.list(layout::KEYS).await?;
    found.sort_by_key(|object| std::cmp::Reverse(object.modified));
    let mut why = None;
    for object in &found {
        let (bytes, _) = store.read(&object.key, None, KEYS).await?;
        match open(&bytes, &identities) {
            Ok(keyring) => return Ok(keyring),
            Err(error) => why = Some(format!("{}: {error}", object.key)),
        }
    }
    Err(why.map_or(EscrowError::None, EscrowError::NotOurs))
}

fn open(bytes: &[u8], identities: &[age::x25519::Identity]) -> Result<Keyring, String> {
    let decryptor = age::Decryptor::new(bytes).map_err(|e| e.to_string())?;
    let known = identities
        .iter()
        .map(|identity| identity as &dyn age::Identity);
    let mut plain = decryptor.decrypt(known).map_err(|e| e.to_string())?;
    let mut text = String::new();
    plain.read_to_string(&mut text).map_err(|e| e.to_string())?;
    Keyring::parse(&text).map_err(|e| e.to_string())
}
