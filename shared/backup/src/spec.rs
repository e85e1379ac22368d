//! Settings of a repository as the operator writes them, without secrets; and the secrets, which are files.

use std::num::NonZeroU64;
use std::path::Path;

use age::secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::crypto::{EncryptionSpec, Keyring, Protection};
use crate::store::{Limits, Place, S3, Settings};

/// File of an S3 access key's id.
pub const ACCESS_KEY_ID: &str = "accessKeyId";
/// File of its secret.
pub const SECRET_ACCESS_KEY: &str = "secretAccessKey";
/// File of the token of temporary credentials; it may be missing.
pub const SESSION_TOKEN: &str = "sessionToken";
/// File of a Google service account's key, as JSON.
pub const SERVICE_ACCOUNT: &str = "serviceAccount";
/// File of an access key of an Azure storage account.
pub const ACCESS_KEY: &str = "accessKey";
/// File with certificates (PEM) of the store's authority, where settings leave them to it.
pub const AUTHORITY: &str = "authority.crt";
/// File of the instance's keys: text of a [`Keyring`].
pub const INSTANCE_KEYS: &str = "instance.key";
/// File of an escrow identity (`AGE-SECRET-KEY-1…`), for a restore without the instance's keys.
pub const ESCROW_KEYS: &str = "escrow.key";

/// A repository: which store, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySpec {
    /// The store.
    pub place: PlaceSpec,
    /// What all keys begin with, without `/` at its ends.
    pub prefix: String,
    /// Certificates (PEM) of the store's authority. Where given, no other is trusted. An empty text: they are
    /// the file [`AUTHORITY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Bytes in a second, both ways together; none: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Requests with contents at a time; none: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Encryption; none: contents are compressed only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PlaceSpec {
    /// Amazon's S3, or what speaks its protocol. Files: [`ACCESS_KEY_ID`], [`SECRET_ACCESS_KEY`] and, if
    /// there is one, [`SESSION_TOKEN`].
    S3 {
        /// `https://…` where it is not Amazon's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// The region.
        region: String,
        /// The bucket.
        bucket: String,
        /// Whether the bucket's name is a part of the host name.
        #[serde(default)]
        virtual_hosted: bool,
    },
    /// Google Cloud Storage. File: [`SERVICE_ACCOUNT`].
    Gcs {
        /// The bucket.
        bucket: String,
    },
    /// Azure Blob Storage. File: [`ACCESS_KEY`].
    Azure {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
    },
    /// A volume that all instances mount.
    Volume {
        /// Which one, so that two are told apart.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        claim: String,
        /// Folder in it, without `/` at its ends, before the prefix; empty: its top.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        path: String,
    },
}

/// Why a repository cannot be opened with what is mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A key of a Secret is missing.
    #[error("the Secret of the store's credentials has no key `{0}`")]
    Missing(&'static str),
    /// The certificates of the store's authority are missing.
    #[error("the object with the certificates of the store's authority, or its key, is missing")]
    NoAuthority,
    /// A mounted file cannot be read.
    #[error("{file} cannot be read: {why}")]
    Unreadable {
        /// Which one.
        file: String,
        /// Why.
        why: String,
    },
    /// Another claim is mounted, or none.
    #[error(
        "the volume of the claim `{0}` is not mounted in this pod: a pod that is made anew has it"
    )]
    NotMounted(String),
    /// The keys are none. Their content is not repeated.
    #[error("the instance's keys: {0}")]
    Keys(String),
    /// They cannot be.
    #[error("{0}")]
    Settings(String),
}

impl RepositorySpec {
    /// The settings, with credentials from the files of `secrets`; in `volume` a volume is mounted, under the name of
    /// its claim.
    ///
    /// # Errors
    /// A file is missing, or something cannot be.
    pub fn settings(&self, secrets: &Path, volume: &Path) -> Result<Settings, SpecError> {
        let needed = |name: &'static str| read(secrets, name)?.ok_or(SpecError::Missing(name));
        let place = match &self.place {
            PlaceSpec::S3 {
                endpoint,
                region,
                bucket,
                virtual_hosted,
            } => Place::S3(S3 {
                endpoint: endpoint.clone(),
                region: region.clone(),
                bucket: bucket.clone(),
                virtual_hosted: *virtual_hosted,
                access_key_id: needed(ACCESS_KEY_ID)?.trim().to_owned(),
                secret_access_key: secret(&needed(SECRET_ACCESS_KEY)?),
                session_token: read(secrets, SESSION_TOKEN)?.as_deref().map(secret),
            }),
            PlaceSpec::Gcs { bucket } => Place::Gcs {
                bucket: bucket.clone(),
                service_account: secret(&needed(SERVICE_ACCOUNT)?),
            },
            PlaceSpec::Azure { account, container } => Place::Azure {
                account: account.clone(),
                container: container.clone(),
                access_key: secret(&needed(ACCESS_KEY)?),
            },
            // Where another claim is mounted still, there is no such folder.
            PlaceSpec::Volume { claim, .. } => {
                let folder = volume.join(claim);
                if !folder.is_dir() {
                    return Err(SpecError::NotMounted(claim.clone()));
                }
                Place::Path(folder)
            }
        };
        // Without the file nothing is trusted, rather than everybody.
        let authority = match self.authority.as_deref() {
            Some("") => Some(read(secrets, AUTHORITY)?.ok_or(SpecError::NoAuthority)?),
            given => given.map(str::to_owned),
        };
        let defaults = Limits::default();
        let settings = Settings {
            place,
            // A part of every name, so that the folder is made with the first of them.
            prefix: match &self.place {
                PlaceSpec::Volume { path, .. } if !path.is_empty() => {
                    format!("{path}/{}", self.prefix)
                }
                _ => self.prefix.clone(),
            },
            authority,
            limits: Limits {
                bytes_per_second: self.bytes_per_second.and_then(NonZeroU64::new),
                concurrency: self
                    .concurrency
                    .and_then(|n| usize::try_from(n).ok())
                    .unwrap_or(defaults.concurrency),
            },
        };
        match settings.problem() {
            Some(problem) => Err(SpecError::Settings(problem)),
            None => Ok(settings),
        }
    }

    /// How contents are protected, with the keys from the files of `secrets`.
    ///
    /// # Errors
    /// It is encrypted and the keys are missing, or something cannot be.
    pub fn protection(&self, secrets: &Path) -> Result<Protection, SpecError> {
        let Some(spec) = &self.encryption else {
            return Ok(Protection::Plain);
        };
        let text = read(secrets, INSTANCE_KEYS)?
            .ok_or_else(|| SpecError::Keys(format!("the Secret has no key `{INSTANCE_KEYS}`")))?;
        let keyring = Keyring::parse(&text).map_err(|e| SpecError::Keys(e.to_string()))?;
        Protection::encrypted(keyring, spec).map_err(|e| SpecError::Settings(e.to_string()))
    }
}

fn secret(text: &str) -> SecretString {
    text.trim().to_owned().into()
}

/// The text of a mounted file; none if there is none.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(folder: &Path, name: &str) -> Result<Option<String>, SpecError> {
    match std::fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SpecError::Unreadable {
            file: name.to_owned(),
            why: e.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret as _;

    fn spec(place: PlaceSpec) -> RepositorySpec {
        RepositorySpec {
            place,
            prefix: "shop/db".into(),
            authority: None,
            bytes_per_second: None,
            concurrency: None,
            encryption: None,
        }
    }

    fn s3() -> PlaceSpec {
        PlaceSpec::S3 {
            endpoint: None,
            region: "us-east-1".into(),
            bucket: "b".into(),
            virtual_hosted: false,
        }
    }

    fn volume() -> PlaceSpec {
        PlaceSpec::Volume {
            claim: String::new(),
            path: String::new(),
        }
    }

    #[test]
    fn a_folder_of_a_volume_is_part_of_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let backups = folder.path().join("backups");
        std::fs::create_dir(&backups).unwrap();
        let settings = |path: &str| {
            let mut spec = spec(volume());
            spec.place = PlaceSpec::Volume {
                claim: "backups".into(),
                path: path.into(),
            };
            spec.settings(Path::new("/none"), folder.path())
        };
        let of = |path| settings(path).unwrap();
        assert!(matches!(of("").place, Place::Path(at) if at == backups));
        assert_eq!(of("").prefix, "shop/db");
        assert_eq!(of("postgres/a").prefix, "postgres/a/shop/db");
        assert!(settings("..").is_err() && settings("a//b").is_err());
    }

    #[test]
    fn who_has_another_claim_finds_no_repository() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("old")).unwrap();
        let of = |claim: &str| {
            let mut spec = spec(volume());
            spec.place = PlaceSpec::Volume {
                claim: claim.into(),
                path: String::new(),
            };
            spec.settings(Path::new("/none"), folder.path())
        };
        assert!(of("old").is_ok());
        assert_eq!(of("new").unwrap_err(), SpecError::NotMounted("new".into()));
    }

    #[test]
    fn credentials_are_files_and_one_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let volume = Path::new("/repository");
        std::fs::write(folder.path().join(ACCESS_KEY_ID), "id\n").unwrap();
        let missing = spec(s3()).settings(folder.path(), volume).unwrap_err();
        assert_eq!(missing, SpecError::Missing(SECRET_ACCESS_KEY));
        std::fs::write(folder.path().join(SECRET_ACCESS_KEY), "word\n").unwrap();
        let settings = spec(s3()).settings(folder.path(), volume).unwrap();
        let Place::S3(s3) = settings.place else {
            panic!("{settings:?}");
        };
        assert_eq!(
            (
                s3.access_key_id.as_str(),
                s3.secret_access_key.expose_secret()
            ),
            ("id", "word")
        );
        assert!(s3.session_token.is_none());
    }

    #[test]
    fn an_authority_that_is_left_to_a_file_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(s3());
        for name in [ACCESS_KEY_ID, SECRET_ACCESS_KEY] {
            std::fs::write(folder.path().join(name), "word").unwrap();
        }
        let volume = Path::new("/repository");
        spec.authority = Some(String::new());
        let missing = spec.settings(folder.path(), volume).unwrap_err();
        assert_eq!(missing, SpecError::NoAuthority);
        std::fs::write(folder.path().join(AUTHORITY), "PEM").unwrap();
        let settings = spec.settings(folder.path(), volume).unwrap();
        assert_eq!(settings.authority.as_deref(), Some("PEM"));
    }

    #[test]
    fn encryption_needs_the_instances_keys() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(volume());
        assert!(matches!(
            spec.protection(folder.path()),
            Ok(Protection::Plain)
        ));
        spec.encryption = Some(EncryptionSpec {
            recipients: vec![],
            i_accept_key_loss: true,
        });
        let error = spec.protection(folder.path()).unwrap_err().to_string();
        assert!(error.contains(INSTANCE_KEYS), "{error}");
        let ring = Keyring::generate([7; 32]);
        std::fs::write(
            folder.path().join(INSTANCE_KEYS),
            ring.to_text().expose_secret(),
        )
        .unwrap();
        assert!(spec.protection(folder.path()).unwrap().keyed());
    }

    #[test]
    fn as_written() {
        let text = serde_json::to_string(&spec(volume())).unwrap();
        assert_eq!(text, r#"{"place":{"volume":{}},"prefix":"shop/db"}"#);
        assert_eq!(
            serde_json::from_str::<RepositorySpec>(&text).unwrap(),
            spec(volume())
        );
    }
}
