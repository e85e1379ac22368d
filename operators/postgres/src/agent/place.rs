//! Where this agent runs: environment and folders. Reads the environment, nothing else.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mainstay_shared::agent::paths::{self, under};
use mainstay_shared::agent::place::{self, address, listen};
pub use mainstay_shared::agent::place::{Me, nonce, root};

/// Mount of the data volume.
pub const DATA: &str = "/var/lib/postgresql/data";
/// Folder of PostgreSQL's Unix socket.
pub const SOCKETS: &str = "/var/run/postgresql";

/// The environment is not that of a data pod.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Whoever it is.
    #[error(transparent)]
    Me(#[from] place::PlaceError),
    /// No PostgreSQL.
    #[error("no initdb in PATH or under /usr/lib/postgresql: the image must hold PostgreSQL")]
    NoPostgres,
    /// No name for the user id.
    #[error(
        "user id {0} has no name in /etc/passwd, which peer authentication needs: use an image made for PostgreSQL"
    )]
    NoUser(u32),
}

/// This agent's place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the instance.
    pub me: Me,
    /// Name of the operating system's user.
    pub user: String,
    /// Addresses to listen on.
    pub listen: String,
    /// Folder of PostgreSQL's programs.
    pub programs: PathBuf,
    /// Folder under which all others are; `/` in a container.
    pub root: PathBuf,
}

impl Place {
    /// Where one of our own servers listens.
    pub fn address(&self, port: i32) -> SocketAddr {
        address(&self.listen, port)
    }

    /// From the environment.
    pub fn from_environment() -> Result<Self, PlaceError> {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .ok_or(PlaceError::NoUser(uid.as_raw()))?;
        Ok(Self {
            me: Me::from_environment()?,
            user: user.name,
            listen: listen(),
            programs: programs().ok_or(PlaceError::NoPostgres)?,
            root: root(),
        })
    }

    /// One of PostgreSQL's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The data volume.
    pub fn volume(&self) -> PathBuf {
        under(&self.root, DATA)
    }

    /// PostgreSQL's data directory.
    pub fn data(&self) -> PathBuf {
        self.volume().join("pgdata")
    }

    /// An unfinished data directory.
    pub fn unfinished(&self) -> PathBuf {
        self.volume().join("pgdata.new")
    }

    /// A whole data directory for a replica, brought back from the repository; no data until the agent takes it.
    pub fn seeded(&self) -> PathBuf {
        self.volume().join("pgdata.seeded")
    }

    /// There while the data directory is being rewound.
    pub fn rewinding(&self) -> PathBuf {
        self.volume().join("pgdata.rewinding")
    }

    /// The agent's durable state.
    pub fn state(&self) -> PathBuf {
        self.volume().join(paths::STATE)
    }

    /// Rendered configuration.
    pub fn run(&self) -> PathBuf {
        under(&self.root, paths::RUN)
    }

    /// Copies of the certificate files, with the rights that PostgreSQL demands.
    pub fn tls(&self) -> PathBuf {
        self.run().join("tls")
    }

    /// PostgreSQL's socket.
    pub fn sockets(&self) -> PathBuf {
        under(&self.root, SOCKETS)
    }

    /// A mount.
    pub fn mount(&self, path: &str) -> PathBuf {
        under(&self.root, path)
    }
}

/// The newest PostgreSQL of the image: in `PATH`, else where Debian puts it.
fn programs() -> Option<PathBuf> {
    let holds = |folder: &Path| folder.join("initdb").is_file();
    let in_path =
        env::var_os("PATH").and_then(|path| env::split_paths(&path).find(|folder| holds(folder)));
    in_path.or_else(|| {
        let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .flatten()
            .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
            .filter(|(_, folder)| holds(folder))
            .collect();
        found.sort();
        found.pop().map(|(_, folder)| folder)
    })
}
