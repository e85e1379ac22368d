//! What is mounted: configuration, certificate, logins. I/O.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::config::{self, Role, SetConfig, Zones};
use super::paths::{self, under};
use super::state::absent;
use crate::pki::{
    CA_KEY, CERTIFICATE_KEY, ClientAuth, PRIVATE_KEY_KEY, Pair, PrivateKeyPem, client_config,
    server_config,
};

/// What is mounted, read as a whole. `E` is the engine's part of the configuration.
#[derive(Clone, Debug)]
pub struct Mounts<E> {
    /// The set's configuration and its hash.
    pub config: Option<(SetConfig<E>, String)>,
    /// Zone of the node, once it is told.
    pub zone: Option<String>,
    /// Highest number of a history that volumes have which were set aside; 0 where there are none.
    pub timelines: u64,
    /// The instance's certificate.
    pub identity: Option<Pair>,
    /// The logins.
    pub roles: Option<Vec<Role>>,
    /// What is wrong or missing, in a sentence.
    pub wrong: Option<String>,
    fingerprint: Fingerprint,
}

impl<E> Default for Mounts<E> {
    fn default() -> Self {
        Self {
            config: None,
            zone: None,
            timelines: 0,
            identity: None,
            roles: None,
            wrong: None,
            fingerprint: Fingerprint::new(),
        }
    }
}

impl<E: DeserializeOwned> Mounts<E> {
    /// Read again if something under `root` changed; true then. What can no longer be read keeps its last
    /// readable content: a half-made change must not stop what runs. `node` is where the pod is.
    pub fn refresh(&mut self, root: &Path, node: Option<&str>) -> bool {
        let folders = [paths::CONFIG, paths::TLS, paths::ACCESS].map(|f| under(root, f));
        let fingerprint: Vec<_> = folders.iter().flat_map(|f| fingerprint(f)).collect();
        if fingerprint == self.fingerprint {
            return false;
        }
        self.fingerprint = fingerprint;
        self.wrong = None;
        let [config, tls, access] = &folders;
        match read_config(config) {
            Ok(read) => self.config = Some(read),
            Err(why) => self.wrong = Some(why),
        }
        match read_zone(config, node) {
            Ok(read) => self.zone = read,
            Err(why) => self.wrong = Some(why),
        }
        match read_timelines(config) {
            Ok(read) => self.timelines = read,
            Err(why) => self.wrong = Some(why),
        }
        match read_identity(tls) {
            Ok(read) => self.identity = Some(read),
            Err(why) => self.wrong = Some(why),
        }
        match read_roles(access) {
            Ok(read) => self.roles = Some(read),
            Err(why) => self.wrong = Some(why),
        }
        true
    }
}

impl<E> Mounts<E> {
    /// Put the certificate where the engine reads it, and have the agent's server and its clients show it. What is wrong
    /// with it, in a sentence.
    ///
    /// # Errors
    /// The folder, which is in memory, cannot be written.
    pub fn show_identity(
        &self,
        folder: &Path,
        server: &watch::Sender<Option<Arc<ServerConfig>>>,
        client: &watch::Sender<Option<Arc<ClientConfig>>>,
    ) -> std::io::Result<Option<String>> {
        let Some(pair) = &self.identity else {
            return Ok(None);
        };
        place_identity(folder, pair)?;
        if let Ok(config) = client_config(&pair.ca, Some(pair)) {
            client.send_replace(Some(Arc::new(config)));
        }
        Ok(match server_config(pair, ClientAuth::Optional) {
            Ok(config) => {
                server.send_replace(Some(Arc::new(config)));
                None
            }
            Err(error) => Some(format!("the mounted certificate: {error}")),
        })
    }

    /// What is missing before an engine can run.
    pub fn missing(&self) -> Option<&str> {
        let whole = self.config.is_some() && self.identity.is_some() && self.roles.is_some();
        (!whole).then(|| {
            self.wrong
                .as_deref()
                .unwrap_or("the configuration to be mounted")
        })
    }
}

/// Name, inode and time of files.
pub type Fingerprint = Vec<(String, u64, i64, i64)>;

/// Of each file in a folder, through the link that the kubelet swaps.
pub fn fingerprint(folder: &Path) -> Fingerprint {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all: Vec<_> = entries
        .flatten()
        .filter(|e| !e.file_name().to_string_lossy().starts_with(".."))
        .filter_map(|e| {
            let meta = fs::metadata(e.path()).ok()?;
            let name = e.path().display().to_string();
            Some((name, meta.ino(), meta.mtime(), meta.mtime_nsec()))
        })
        .collect();
    all.sort();
    all
}

/// The text of a file.
pub fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

fn read_config<E: DeserializeOwned>(folder: &Path) -> Result<(SetConfig<E>, String), String> {
    let text = text(&folder.join(paths::CONFIG_FILE))?;
    let parsed = serde_json::from_str(&text)
        .map_err(|e| format!("{} cannot be understood: {e}", paths::CONFIG_FILE))?;
    Ok((parsed, config::hash(&text)))
}

/// Of a set whose operator tells no zones there is no file.
fn read_zone(folder: &Path, node: Option<&str>) -> Result<Option<String>, String> {
    let file = folder.join(paths::ZONES_FILE);
    let (Some(node), true) = (node, file.exists()) else {
        return Ok(None);
    };
    let mut zones: Zones = serde_json::from_str(&text(&file)?)
        .map_err(|e| format!("{} cannot be understood: {e}", paths::ZONES_FILE))?;
    Ok(zones.remove(node))
}

/// Of a set that never went back in place there is no file.
fn read_timelines(folder: &Path) -> Result<u64, String> {
    let file = folder.join(paths::TIMELINES_FILE);
    if !file.exists() {
        return Ok(0);
    }
    let number = text(&file)?.trim().parse();
    number.map_err(|e| format!("{} cannot be understood: {e}", paths::TIMELINES_FILE))
}

/// A certificate with its key and authority.
pub fn read_identity(folder: &Path) -> Result<Pair, String> {
    Ok(Pair {
        certificate: text(&folder.join(CERTIFICATE_KEY))?,
        key: PrivateKeyPem::new(text(&folder.join(PRIVATE_KEY_KEY))?),
        ca: text(&folder.join(CA_KEY))?,
    })
}

fn read_roles(folder: &Path) -> Result<Vec<Role>, String> {
    let mut roles = Vec::new();
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // The content is a credential's check value: not shown in the error.
        let role = serde_json::from_str(&text(&entry.path())?)
            .map_err(|e| format!("role {} cannot be understood: {e}", entry.path().display()))?;
        roles.push(role);
    }
    roles.sort_by(|a: &Role, b: &Role| a.name.cmp(&b.name));
    Ok(roles)
}

/// Write a file with these rights by way of a rename.
pub fn place_file(path: &Path, content: &str, mode: u32) -> std::io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    absent(fs::remove_file(&temporary))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content.as_bytes())?;
    fs::rename(&temporary, path)
}

/// Copies that nobody else can read: a mounted key is readable for the group, which engines take only from
/// root's files, if at all.
pub fn place_identity(folder: &Path, pair: &Pair) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    place_file(&folder.join(CA_KEY), &pair.ca, 0o600)?;
    place_file(&folder.join(PRIVATE_KEY_KEY), pair.key.expose(), 0o600)?;
    place_file(&folder.join(CERTIFICATE_KEY), &pair.certificate, 0o600)
}
