//! What is mounted. I/O.

use mainstay_shared::agent::mounts;
pub use mainstay_shared::agent::mounts::{
    Fingerprint, fingerprint, place_file, place_identity, read_identity, text,
};

use crate::settings::PostgresSettings;

/// What is mounted, read as a whole.
pub type Mounts = mounts::Mounts<PostgresSettings>;
