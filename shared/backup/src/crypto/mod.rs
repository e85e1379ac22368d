//! Keys, digests and seals.
//!
//! Contents are encrypted to the instance's own key and to escrow recipients, in the `age` format. An
//! instance's keys are one [`Keyring`], whose text is an identity file as the `age` command takes it.

mod digest;
mod keyring;
mod protect;

pub use age::secrecy::ExposeSecret;
pub use digest::{Digest, Digester, sha256};
pub use keyring::{Keyring, KeyringError};
pub use protect::{Encrypted, EncryptionError, EncryptionSpec, Protection, Recipient};
