//! What a backup consists of. Pure.
//!
//! A manifest is two lines. The first is the manifest itself as JSON; the second its seal: a HMAC of the
//! first line's bytes with a key of the instance where the repository is encrypted, their SHA-256 where
//! it is not. It is written last, once, and names every object with its size and its digest, so what it
//! names is whole or the backup is not.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::crypto::{Digest, Keyring, sha256};
use crate::hex::{hex, unhex};
use crate::ids::{BackupId, OwnerId};
use crate::layout::{self, Label};

/// The format that this release writes.
pub const FORMAT: u32 = 1;

/// The record that a backup was begun; written first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// Which one.
    pub id: BackupId,
    /// Whose.
    pub owner: OwnerId,
    /// When.
    pub at: Timestamp,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Which backup.
    pub id: BackupId,
    /// Whose.
    pub owner: OwnerId,
    /// The backup that this one holds only the changes since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<BackupId>,
    /// What made it, for example `engine 8.0`.
    pub source: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// When its last object was stored.
    pub ended: Timestamp,
    /// The moment whose state it restores to, without any log.
    pub consistent_at: Timestamp,
    /// Which of the log it needs; none where the engine ships none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogNeed>,
    /// The recipients of its objects; empty where it is not encrypted.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// What the engine keeps by itself, in its own format, and checks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeSnapshot>,
    /// The engine's own words, which nobody else reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// The log that a backup needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogNeed {
    /// The history in which it was made.
    pub history: Label,
    /// The first piece that it needs.
    pub from: Label,
    /// The last piece without which it does not restore at all.
    pub until: Label,
}

/// A snapshot in a repository of the engine's own, below our prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NativeSnapshot {
    /// Which repository: `native/<place>/`.
    pub place: Label,
    /// The engine's name for it.
    pub name: String,
}

/// A file as the engine gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Its name, the engine's.
    pub name: String,
    /// Its size.
    pub size: u64,
    /// Digest of its content.
    pub digest: Digest,
    /// The objects that hold it, one after the other.
    pub objects: Vec<ObjectEntry>,
}

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    /// Its key, below the instance's prefix.
    pub key: String,
    /// Its size as stored.
    pub size: u64,
    /// SHA-256 of it as stored, in hexadecimal digits.
    pub sha256: String,
    /// Its version, in a store that keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The second line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seal {
    algorithm: Algorithm,
    value: String,
}

/// What every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Algorithm {
    #[serde(rename = "sha256")]
    Sha256,
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

/// Why a manifest is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not two lines of JSON.
    #[error("the manifest is damaged: {why}")]
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// It is newer than this release.
    #[error(
        "the manifest has format {found}, and this release reads up to {FORMAT}: use the release that wrote it"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The seal does not fit.
    #[error(
        "the manifest was changed after it was sealed, or sealed with another instance's key: it is not used"
    )]
    Seal,
    /// It is sealed without a key, and the repository has one.
    #[error(
        "the manifest is sealed without a key in an encrypted repository: anybody could have written it, it is not used"
    )]
    Unkeyed,
    /// It is sealed with a key, and none is given.
    #[error(
        "the manifest is sealed with the instance's key, which is not at hand: give the keys, for example from escrow"
    )]
    NoKey,
    /// It speaks of another backup than the one it belongs to.
    #[error("the manifest belongs to another backup, {found}: it is not used")]
    Misplaced {
        /// Which one.
        found: BackupId,
    },
    /// An entry cannot be.
    #[error("the manifest's {what}: it is not used")]
    Entry {
        /// What cannot be.
        what: String,
    },
}

impl Manifest {
    /// The bytes to store.
    ///
    /// # Errors
    /// An entry cannot be: see [`Self::check`].
    pub fn seal(&self, keyring: Option<&Keyring>) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let line = |value: serde_json::Result<String>| {
            value.map_err(|error| ManifestError::Damaged {
                why: error.to_string(),
            })
        };
        let body = line(serde_json::to_string(self))?;
        let (algorithm, value) = match keyring {
            Some(ring) => (Algorithm::HmacSha256, hex(&mac(ring, body.as_bytes()))),
            None => (Algorithm::Sha256, hex(&sha256(body.as_bytes()))),
        };
        let seal = line(serde_json::to_string(&Seal { algorithm, value }))?;
        Ok(format!("{body}\n{seal}\n").into_bytes())
    }

    /// Reads what [`Self::seal`] made for backup `id`.
    ///
    /// `keyring`: of the instance, where its repository is encrypted.
    ///
    /// # Errors
    /// It is damaged, newer, changed, or another's.
    pub fn open(
        bytes: &[u8],
        id: &BackupId,
        keyring: Option<&Keyring>,
    ) -> Result<Self, ManifestError> {
        let damaged = |why: &str| ManifestError::Damaged {
            why: why.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let (body, rest) = text
            .split_once('\n')
            .ok_or_else(|| damaged("it has no seal"))?;
        let seal = rest
            .strip_suffix('\n')
            .ok_or_else(|| damaged("its end is missing"))?;
        let seal: Seal = serde_json::from_str(seal).map_err(|error| damaged(&error.to_string()))?;
        match (seal.algorithm, keyring) {
            (Algorithm::Sha256, None) => {
                if hex(&sha256(body.as_bytes())) != seal.value {
                    return Err(ManifestError::Seal);
                }
            }
            (Algorithm::HmacSha256, Some(ring)) => {
                let value = unhex(&seal.value).ok_or(ManifestError::Seal)?;
                authenticate(ring, body.as_bytes(), &value)?;
            }
            (Algorithm::Sha256, Some(_)) => return Err(ManifestError::Unkeyed),
            (Algorithm::HmacSha256, None) => return Err(ManifestError::NoKey),
        }
        // The format first: a newer one may lack what this release expects.
        let format: Format =
            serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
        if format.format > FORMAT {
            return Err(ManifestError::Newer {
                found: format.format,
            });
        }
        let manifest: Self =
            serde_json::from_str(body).map_err(|error| damaged(&error.to_string()))?;
        if manifest.id != *id {
            return Err(ManifestError::Misplaced { found: manifest.id });
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Every object of ours.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectEntry> {
        self.files.iter().flat_map(|file| &file.objects)
    }

    /// Bytes in the store.
    pub fn stored(&self) -> u64 {
        self.objects().map(|object| object.size).sum()
    }

    /// Bytes of its files.
    pub fn plain(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether all that it names may be: only objects of its own folder, each once, and no file name that
    /// leads out of the folder that it is restored to.
    ///
    /// # Errors
    /// [`ManifestError::Entry`].
    pub fn check(&self) -> Result<(), ManifestError> {
        let wrong = |what: String| Err(ManifestError::Entry { what });
        let own = layout::backup(&self.id);
        let mut keys = BTreeSet::new();
        for object in self.objects() {
            if !object.key.starts_with(&own) {
                return wrong(format!("object {} is not in its own folder", object.key));
            }
            if !keys.insert(&object.key) {
                return wrong(format!("object {} is named twice", object.key));
            }
            if unhex(&object.sha256).is_none_or(|bytes| bytes.len() != 32) {
                return wrong(format!("object {} has no SHA-256", object.key));
            }
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            if !is_inside(&file.name) {
                return wrong(format!("file name `{}` leads out of the folder", file.name));
            }
            if !names.insert(&file.name) {
                return wrong(format!("file `{}` is named twice", file.name));
            }
            if file.objects.is_empty() {
                return wrong(format!("file `{}` has no object", file.name));
            }
        }
        if self.parent.as_ref() == Some(&self.id) {
            return wrong("parent is the backup itself".to_owned());
        }
        Ok(())
    }
}

/// The recipients that a manifest names, without looking at its seal, for which keys are needed; none where it is not
/// understood. Only to tell who may open a backup: what is restored comes from [`Manifest::open`].
pub fn recipients_named(bytes: &[u8]) -> Vec<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        recipients: Vec<String>,
    }
    let body = bytes.split(|byte| *byte == b'\n').next();
    let named = body.and_then(|body| serde_json::from_slice::<Named>(body).ok());
    named.unwrap_or_default().recipients
}

/// Whether a relative path stays below where it begins.
pub fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\0', '\\', '\n'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn sealing(ring: &Keyring, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&ring.seal_key()).ok()?;
    mac.update(body);
    Some(mac)
}

fn mac(ring: &Keyring, body: &[u8]) -> Vec<u8> {
    sealing(ring, body).map_or_else(Vec::new, |mac| mac.finalize().into_bytes().to_vec())
}

fn authenticate(ring: &Keyring, body: &[u8], value: &[u8]) -> Result<(), ManifestError> {
    sealing(ring, body)
        .and_then(|mac| mac.verify_slice(value).ok())
        .ok_or(ManifestError::Seal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> BackupId {
        BackupId::new(Timestamp::UNIX_EPOCH, [n; 8])
    }

    fn object(n: u32) -> ObjectEntry {
        ObjectEntry {
            key: layout::data(&id(1), n, layout::Coding::Zstd),
            size: 7,
            sha256: hex(&[n.to_le_bytes()[0]; 32]),
            version: None,
        }
    }

    pub(crate) fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            id: id(1),
            owner: OwnerId::new([2; 16]),
            parent: None,
            source: "test 1".into(),
            begun: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            consistent_at: Timestamp::UNIX_EPOCH,
            log: None,
            recipients: Vec::new(),
            files: vec![FileEntry {
                name: "a/b".into(),
                size: 3,
                digest: Digest {
                    bytes: [1; 32],
                    keyed: false,
                },
                objects: vec![object(1), object(2)],
            }],
            native: None,
            details: BTreeMap::new(),
        }
    }

    #[test]
    fn sealed_and_opened_with_and_without_a_key() {
        let ring = Keyring::generate([5; 32]);
        for keyring in [None, Some(&ring)] {
            let bytes = manifest().seal(keyring).unwrap();
            assert_eq!(Manifest::open(&bytes, &id(1), keyring).unwrap(), manifest());
        }
        let keyed = manifest().seal(Some(&ring)).unwrap();
        let plain = manifest().seal(None).unwrap();
        assert_eq!(
            Manifest::open(&keyed, &id(1), None),
            Err(ManifestError::NoKey)
        );
        assert_eq!(
            Manifest::open(&plain, &id(1), Some(&ring)),
            Err(ManifestError::Unkeyed)
        );
        let other = Keyring::generate([6; 32]);
        assert_eq!(
            Manifest::open(&keyed, &id(1), Some(&other)),
            Err(ManifestError::Seal)
        );
        assert!(matches!(
            Manifest::open(&plain, &id(2), None),
            Err(ManifestError::Misplaced { .. })
        ));
    }

    #[test]
    fn a_newer_format_is_said_and_unknown_fields_are_passed_over() {
        let reseal = |body: String| {
            let seal = hex(&sha256(body.as_bytes()));
            format!("{body}\n{{\"algorithm\":\"sha256\",\"value\":\"{seal}\"}}\n").into_bytes()
        };
        let newer = reseal(r#"{"format":2,"shape":"other"}"#.to_owned());
        assert_eq!(
            Manifest::open(&newer, &id(1), None),
            Err(ManifestError::Newer { found: 2 })
        );
        let mut value = serde_json::to_value(manifest()).unwrap();
        value["later"] = 1.into();
        assert_eq!(
            Manifest::open(&reseal(value.to_string()), &id(1), None),
            Ok(manifest())
        );
    }

    #[test]
    fn entries_that_cannot_be() {
        let of = |change: fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            manifest.seal(None).unwrap_err().to_string()
        };
        assert!(
            of(|m| m.files[0].objects[0].key = "backups/other/data/1".into())
                .contains("own folder")
        );
        assert!(of(|m| m.files[0].objects[1] = m.files[0].objects[0].clone()).contains("twice"));
        assert!(of(|m| m.files[0].name = "../etc/passwd".into()).contains("leads out"));
        assert!(of(|m| m.files[0].objects.clear()).contains("no object"));
        assert!(of(|m| m.files[0].objects[0].sha256 = "00".into()).contains("SHA-256"));
        assert!(of(|m| m.parent = Some(m.id.clone())).contains("parent"));
    }

    proptest! {
        #[test]
        fn any_change_of_any_byte_is_seen(at in any::<prop::sample::Index>(), flip in 1_u8..=255, keyed in any::<bool>()) {
            let ring = Keyring::generate([5; 32]);
            let keyring = keyed.then_some(&ring);
            let mut bytes = manifest().seal(keyring).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            // A change within the seal's JSON that keeps its meaning does not exist: it has no blanks.
            prop_assert!(Manifest::open(&bytes, &id(1), keyring).is_err(), "byte {}", at);
        }

        #[test]
        fn any_shorter_one_is_seen(keep in any::<prop::sample::Index>()) {
            let bytes = manifest().seal(None).unwrap();
            let keep = keep.index(bytes.len());
            prop_assert!(Manifest::open(&bytes[..keep], &id(1), None).is_err());
        }
    }
}
