//! What is mounted in a pooler's pod. I/O.

use std::path::PathBuf;

use mainstay_shared::agent::paths;
use mainstay_shared::pki::Pair;

use super::config::PoolerConfig;
use crate::agent::mounts::{Fingerprint, fingerprint, read_identity, text};

/// Configuration and certificate. What can no longer be read keeps its last readable content.
#[derive(Clone, Debug)]
pub struct Mounts {
    folders: [PathBuf; 2],
    seen: Fingerprint,
    /// The configuration.
    pub config: Option<PoolerConfig>,
    /// The certificate.
    pub identity: Option<Pair>,
}

impl Mounts {
    /// Of these folders: configuration, certificate.
    pub fn new(config: PathBuf, tls: PathBuf) -> Self {
        Self {
            folders: [config, tls],
            seen: Fingerprint::default(),
            config: None,
            identity: None,
        }
    }

    /// Read again what has changed.
    ///
    /// # Errors
    /// A sentence: what cannot be read. It is tried again when it changes.
    pub fn refresh(&mut self) -> Result<(), String> {
        let now: Fingerprint = self.folders.iter().flat_map(|f| fingerprint(f)).collect();
        if now == self.seen {
            return Ok(());
        }
        self.seen = now;
        let [config, tls] = &self.folders;
        let text = text(&config.join(paths::CONFIG_FILE))?;
        let read = serde_json::from_str(&text);
        self.config =
            Some(read.map_err(|e| format!("{} cannot be understood: {e}", paths::CONFIG_FILE))?);
        self.identity = Some(read_identity(tls)?);
        Ok(())
    }
}
