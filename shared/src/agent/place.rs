//! Who an agent is, by its environment. Reads the environment, nothing else.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::paths;

/// The environment is not that of a data pod.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A variable is missing.
    #[error("environment variable {0} is not set: the operator sets it from the downward API")]
    Missing(&'static str),
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

impl Me {
    /// From the environment.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn from_environment() -> Result<Self, PlaceError> {
        let variable = |name: &'static str| {
            env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or(PlaceError::Missing(name))
        };
        Ok(Self {
            instance: variable("POD_NAME")?,
            pod_uid: variable("POD_UID")?,
            nonce: nonce().map_err(PlaceError::Random)?,
            address: variable("POD_IP")?,
            node: variable("NODE_NAME").ok(),
        })
    }
}

/// Addresses to listen on: `*`, but for runs outside a container.
pub fn listen() -> String {
    env::var("MAINSTAY_LISTEN").unwrap_or_else(|_| "*".to_owned())
}

/// Where one of our own servers listens, on the addresses that [`listen`] said.
pub fn address(listen: &str, port: i32) -> SocketAddr {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = listen.parse().unwrap_or(any);
    SocketAddr::new(ip, u16::try_from(port).unwrap_or_default())
}

/// Folder under which all paths are taken.
pub fn root() -> PathBuf {
    env::var_os(paths::ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// 16 random hexadecimal digits.
///
/// # Errors
/// When the system has no random numbers.
pub fn nonce() -> Result<String, getrandom::Error> {
    Ok(format!("{:016x}", getrandom::u64()?))
}

/// 32 hexadecimal digits: what nobody guesses.
///
/// # Errors
/// When the system has no random numbers.
pub fn long_nonce() -> Result<String, getrandom::Error> {
    Ok(format!("{}{}", nonce()?, nonce()?))
}
