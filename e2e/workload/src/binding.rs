//! A Secret in the form of servicebinding.io, mounted as files.

use std::path::{Path, PathBuf};

/// What an application learns from its binding.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    /// Host that takes writes; the served certificate bears it.
    pub host: String,
    /// Host that takes reads from replicas, when there are any.
    pub replica_host: Option<String>,
    /// Port of both.
    pub port: u16,
    /// Name of the database; empty for engines without.
    pub database: String,
    /// Login name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Certificates (PEM) of the authority that servers are verified against.
    pub ca: String,
    /// Where clients of a Sentinel ask, if that is there.
    pub sentinel: Option<Endpoint>,
}

/// An endpoint for clients of a Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Under which name the primary is asked for.
    pub master: String,
}

impl std::fmt::Debug for Binding {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}@{}:{}/{}",
            self.username, self.host, self.port, self.database
        )
    }
}

/// Why a binding cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// A key is missing.
    #[error("the binding has no key {key}: {path}: {source}", path = path.display())]
    Key {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A port is no number.
    #[error("the binding's port is {0:?}; it must be a number")]
    Port(String),
    /// Clients of a Sentinel are not answered.
    #[error("the binding has no sentinel-host; does the resource have spec.sentinel?")]
    NoSentinel,
}

impl Binding {
    /// Reads the files in `folder`, as they are now.
    ///
    /// # Errors
    /// A key is missing or makes no sense.
    pub fn read(folder: &Path) -> Result<Self, BindingError> {
        Self::of(|key| {
            let path = folder.join(key);
            let text = std::fs::read_to_string(&path);
            text.map_err(|source| BindingError::Key { key, path, source })
        })
    }

    /// From the values of its keys.
    ///
    /// # Errors
    /// A key is missing or makes no sense.
    pub fn of(
        key: impl Fn(&'static str) -> Result<String, BindingError>,
    ) -> Result<Self, BindingError> {
        let number = |port: String| port.trim().parse().map_err(|_| BindingError::Port(port));
        let sentinel = match key("sentinel-host") {
            Ok(host) => Some(Endpoint {
                host,
                port: number(key("sentinel-port")?)?,
                master: key("sentinel-master")?,
            }),
            Err(_) => None,
        };
        Ok(Self {
            host: key("host")?,
            replica_host: key("replica-host").ok(),
            port: number(key("port")?)?,
            database: key("database").unwrap_or_default(),
            username: key("username")?,
            password: key("password")?,
            ca: key("ca.crt")?,
            sentinel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |key: &str, value: &str| std::fs::write(folder.path().join(key), value).unwrap();
        for (key, value) in [
            ("host", "db-rw.shop.svc"),
            ("port", "5432"),
            ("username", "app"),
            ("password", "p"),
            ("ca.crt", "c"),
        ] {
            assert!(matches!(
                Binding::read(folder.path()),
                Err(BindingError::Key { .. })
            ));
            put(key, value);
        }
        let binding = Binding::read(folder.path()).unwrap();
        assert_eq!(
            (binding.host.as_str(), binding.port, binding.replica_host),
            ("db-rw.shop.svc", 5432, None)
        );
        assert_eq!(binding.sentinel, None);
        put("sentinel-host", "db-sentinel.shop.svc");
        assert!(matches!(
            Binding::read(folder.path()),
            Err(BindingError::Key { .. })
        ));
        put("sentinel-port", "26379");
        put("sentinel-master", "db");
        let endpoint = Binding::read(folder.path()).unwrap().sentinel.unwrap();
        assert_eq!(
            (&*endpoint.host, endpoint.port, &*endpoint.master),
            ("db-sentinel.shop.svc", 26379, "db")
        );
        put("port", "many");
        assert!(matches!(
            Binding::read(folder.path()),
            Err(BindingError::Port(_))
        ));
    }
}
