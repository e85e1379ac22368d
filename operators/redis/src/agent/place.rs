//! Where this agent runs: environment and folders. Reads the environment, nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mainstay_shared::agent::paths::{self, under};
use mainstay_shared::agent::place::{self, Me, PlaceError, address, listen};

use crate::settings::{DATA, Flavour, INTERNAL, REPLICATION_PASSWORD};

/// This agent's place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the instance.
    pub me: Me,
    /// Addresses to listen on.
    pub listen: String,
    /// Folder under which all others are; `/` in a container.
    pub root: PathBuf,
}

impl Place {
    /// From the environment.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn from_environment() -> Result<Self, PlaceError> {
        Ok(Self {
            me: Me::from_environment()?,
            listen: listen(),
            root: place::root(),
        })
    }

    /// Where one of our own servers listens.
    pub fn address(&self, port: i32) -> SocketAddr {
        address(&self.listen, port)
    }

    /// The data volume.
    pub fn volume(&self) -> PathBuf {
        under(&self.root, DATA)
    }

    /// The engine's folder on it.
    pub fn data(&self) -> PathBuf {
        self.volume().join("redis")
    }

    /// The agent's durable state.
    pub fn state(&self) -> PathBuf {
        self.volume().join(paths::STATE)
    }

    /// What an engine that was stopped in order had; see [`super::past::Orderly`].
    pub fn orderly(&self) -> PathBuf {
        self.state().join("orderly.json")
    }

    /// That an engine in a cluster was stopped in order, and wrote all that it had.
    pub fn stopped(&self) -> PathBuf {
        self.state().join("stopped.json")
    }

    /// What an engine in a cluster notes of it.
    pub fn nodes(&self) -> PathBuf {
        self.data().join("nodes.conf")
    }

    /// Rendered configuration, and other things in memory.
    pub fn run(&self) -> PathBuf {
        under(&self.root, paths::RUN)
    }

    /// Copies of the certificate files, with narrower rights.
    pub fn tls(&self) -> PathBuf {
        self.run().join("tls")
    }

    /// The engine's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("redis.sock")
    }

    /// A mount.
    pub fn mount(&self, path: &str) -> PathBuf {
        under(&self.root, path)
    }

    /// The password with which replicas log in.
    ///
    /// # Errors
    /// A sentence.
    pub fn replication_password(&self) -> Result<String, String> {
        let file = self.mount(INTERNAL).join(REPLICATION_PASSWORD);
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|e| format!("{} cannot be read: {e}", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// The server's program, in `PATH`.
///
/// # Errors
/// The image has none; a sentence.
pub fn server(flavour: Flavour) -> Result<PathBuf, String> {
    let name = match flavour {
        Flavour::Redis => "redis-server",
        Flavour::Valkey => "valkey-server",
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program: &PathBuf| Path::is_file(program));
    found.ok_or_else(|| format!("no {name} in PATH: the image must hold it"))
}
