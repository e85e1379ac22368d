//! Which store, and how it is reached.

use std::path::PathBuf;

use age::secrecy::SecretString;

use super::Limits;

/// Which store.
#[derive(Debug, Clone)]
pub enum Place {
    /// Amazon's S3, or what speaks its protocol.
    S3(S3),
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// The key file of a service account, as JSON.
        service_account: SecretString,
    },
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
        /// An access key of the account.
        access_key: SecretString,
    },
    /// A folder, for example of a volume.
    Path(PathBuf),
}

/// A bucket of S3.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `https://…` where it is not Amazon's.
    pub endpoint: Option<String>,
    /// The region; where there are none, servers take `us-east-1`.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Whether the bucket's name is a part of the host name.
    pub virtual_hosted: bool,
    /// Access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: SecretString,
    /// For temporary credentials.
    pub session_token: Option<SecretString>,
}

/// A store, and an instance's part of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which one.
    pub place: Place,
    /// What all keys begin with, without `/` at its ends.
    pub prefix: String,
    /// Certificates of the store's authority. Where given, no other is trusted.
    pub authority: Option<String>,
    /// How much of the network.
    pub limits: Limits,
}

/// Longest prefix: keys have to stay below 1024 bytes.
const LONGEST_PREFIX: usize = 400;
/// Longest one in a folder, where it has the folders before it as well.
const LONGEST_PATH: usize = 601;

impl Settings {
    /// What cannot be, in a sentence.
    pub fn problem(&self) -> Option<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.chars().all(allowed);
        let longest = match self.place {
            Place::Path(_) => LONGEST_PATH,
            _ => LONGEST_PREFIX,
        };
        if self.prefix.len() > longest || !self.prefix.split('/').all(segment) {
            return Some(format!(
                "prefix `{}` cannot be: use words of letters, digits, `.`, `_` and `-` with `/` between them, up to {longest} characters",
                self.prefix
            ));
        }
        match &self.place {
            Place::S3(s3) => s3.endpoint.as_deref().and_then(|endpoint| {
                let host = endpoint.strip_prefix("https://");
                host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '@', ' '])).then(|| {
                    format!("endpoint `{endpoint}` cannot be: write `https://`, the host, and `:port` if it is not 443")
                })
            }),
            Place::Path(path) if !path.is_absolute() => {
                Some(format!("path `{}` must begin with `/`", path.display()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(endpoint: &str, prefix: &str) -> Settings {
        Settings {
            place: Place::S3(S3 {
                endpoint: Some(endpoint.into()),
                region: "us-east-1".into(),
                bucket: "b".into(),
                virtual_hosted: false,
                access_key_id: "id".into(),
                secret_access_key: "very secret".to_owned().into(),
                session_token: None,
            }),
            prefix: prefix.into(),
            authority: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn settings_that_cannot_be() {
        assert_eq!(s3("https://store.example:9000", "shop/db").problem(), None);
        for endpoint in [
            "http://store.example",
            "store.example",
            "https://",
            "https://user@host",
            "https://host/path",
        ] {
            let problem = s3(endpoint, "shop/db").problem().unwrap();
            assert!(problem.contains(endpoint), "{problem}");
        }
        for prefix in [
            "",
            "/shop",
            "shop/",
            "shop//db",
            "../x",
            "a b",
            &"a".repeat(401),
        ] {
            assert!(s3("https://h", prefix).problem().is_some(), "{prefix}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", s3("https://h", "p")).contains("very secret"));
    }
}
