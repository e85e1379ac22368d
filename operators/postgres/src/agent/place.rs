//! Where this agent runs: environment and folders. Reads the environment, nothing else.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use mainstay_shared::agent::paths::{self, under};

/// Mount of the data volume.
pub const DATA: &str = "/var/lib/postgresql/data";
/// Folder of PostgreSQL's Unix socket.
pub const SOCKETS: &str = "/var/run/postgresql";

/// The environment is not that of a data pod.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A variable is missing.
    #[error("environment variable {0} is not set: the operator sets it from the downward API")]
    Missing(&'static str),
    /// No PostgreSQL.
    #[error("no initdb in PATH or under /usr/lib/postgresql: the image must hold PostgreSQL")]
    NoPostgres,
    /// No name for the user id.
    #[error(
        "user id {0} has no name in /etc/passwd, which peer authentication needs: use an image made for PostgreSQL"
    )]
    NoUser(u32),
    /// No random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Who this agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Name of the instance.
    pub instance: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Start nonce of the agent.
    pub nonce: String,
    /// Address of the pod.
    pub address: String,
    /// Its node.
    pub node: Option<String>,
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
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ip = self.listen.parse().unwrap_or(any);
        SocketAddr::new(ip, u16::try_from(port).unwrap_or_default())
    }

    /// From the environment.
    pub fn from_environment() -> Result<Self, PlaceError> {
        let variable = |name: &'static str| {
            env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or(PlaceError::Missing(name))
        };
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .ok_or(PlaceError::NoUser(uid.as_raw()))?;
        Ok(Self {
            me: Me {
                instance: variable("POD_NAME")?,
                pod_uid: variable("POD_UID")?,
                nonce: nonce().map_err(PlaceError::Random)?,
                address: variable("POD_IP")?,
                node: variable("NODE_NAME").ok(),
            },
            user: user.name,
            listen: env::var("MAINSTAY_LISTEN").unwrap_or_else(|_| "*".to_owned()),
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

/// Folder under which all paths are taken.
pub fn root() -> PathBuf {
    env::var_os(paths::ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// 16 random hexadecimal digits.
pub fn nonce() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
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
