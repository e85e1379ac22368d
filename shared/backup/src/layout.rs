//! Where everything of a repository is, below the instance's prefix. Pure.
//!
//! ```text
//! owner/00000001.json                                  who may write here; the highest number counts
//! keys/<recipient>-<escrow>.age                        the instance's keys, encrypted to escrow
//! backups/<backup id>/begun.json                       written first: whose it is
//! backups/<backup id>/data/000001.zst.age              objects of files, in the manifest's order
//! backups/<backup id>/manifest.json                    written last: only with it is it a backup
//! log/<history>/origin.json                            where a history parts from its parent
//! log/<history>/<piece>-<digest>[.<kind>].zst.age      a piece of the log
//! native/<place>/…                                     what an engine keeps by itself, in its own format
//! probe/<random>                                       left by the test whether writing once holds
//! ```

use std::fmt;
use std::str::FromStr;

use crate::ids::BackupId;
use crate::pieces::{PieceKey, PieceKind};

/// Digits of numbers in keys, so that they sort.
const DIGITS: usize = 8;

/// How an object's bytes came to be, told by the end of its key, so that a person sees which programs
/// undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// Compressed.
    Zstd,
    /// Compressed, then encrypted.
    ZstdAge,
}

impl Coding {
    /// The end of keys.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::ZstdAge => ".zst.age",
        }
    }

    /// A key without this end, and which it was.
    pub fn strip(key: &str) -> Option<(&str, Self)> {
        [Self::ZstdAge, Self::Zstd]
            .into_iter()
            .find_map(|coding| Some((key.strip_suffix(coding.suffix())?, coding)))
    }
}

/// Longest label: keys stay below 1024 bytes, and file names below 255.
const LONGEST: usize = 120;

/// A word of a caller in a key: a history, or a piece of its log.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// A text that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be part of a key: use 1 to {LONGEST} letters, digits, `_` and `-`")]
pub struct NotALabel {
    text: String,
}

impl Label {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(NotALabel {
                text: text.to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Label {
    type Error = NotALabel;

    fn try_from(text: String) -> Result<Self, NotALabel> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

/// Folder of the ownership records.
pub const OWNER: &str = "owner/";
/// Folder of the identities that are kept for escrow.
pub const KEYS: &str = "keys/";
/// Folder of backups.
pub const BACKUPS: &str = "backups/";
/// Folder of logs.
pub const LOG: &str = "log/";

/// Key of an ownership record.
pub fn owner(number: u32) -> String {
    format!("{OWNER}{number:0DIGITS$}.json")
}

/// Number of an ownership record.
pub fn owner_number(key: &str) -> Option<u32> {
    number(key.strip_prefix(OWNER)?.strip_suffix(".json")?)
}

/// Key of the keys that `recipient` is the newest of, for these escrow recipients: other keys, or other
/// escrow, are another key.
pub fn keys(recipient: &str, escrow: &[String]) -> String {
    let mut sorted = escrow.to_vec();
    sorted.sort_unstable();
    let digest = crate::hex::hex(&crate::crypto::sha256(sorted.join("\n").as_bytes())[..4]);
    format!("{KEYS}{recipient}-{digest}.age")
}

/// Folder of a backup.
pub fn backup(id: &BackupId) -> String {
    format!("{BACKUPS}{id}/")
}

/// Key of the record that a backup was begun.
pub fn begun(id: &BackupId) -> String {
    format!("{BACKUPS}{id}/begun.json")
}

/// Key of a backup's manifest.
pub fn manifest(id: &BackupId) -> String {
    format!("{BACKUPS}{id}/manifest.json")
}

/// Key of a backup's data object; counted from 1.
pub fn data(id: &BackupId, object: u32, coding: Coding) -> String {
    format!("{BACKUPS}{id}/data/{object:06}{}", coding.suffix())
}

/// Folder that an engine keeps by itself.
pub fn native(place: &Label) -> String {
    format!("native/{place}/")
}

/// Which backup a key belongs to, and the rest of the key.
pub fn backup_of(key: &str) -> Option<(BackupId, &str)> {
    let (id, rest) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    Some((id.parse().ok()?, rest))
}

/// Folder of a history's log.
pub fn history(history: &Label) -> String {
    format!("{LOG}{history}/")
}

/// Key of the record of where a history comes from.
pub fn origin(history: &Label) -> String {
    format!("{LOG}{history}/origin.json")
}

/// The history of an origin's key.
pub fn origin_of(key: &str) -> Option<Label> {
    key.strip_prefix(LOG)?
        .strip_suffix("/origin.json")?
        .parse()
        .ok()
}

/// Key of a piece.
pub fn piece(key: &PieceKey) -> String {
    let kind = match key.kind {
        PieceKind::Whole => String::new(),
        kind => format!(".{kind}"),
    };
    format!(
        "{LOG}{}/{}-{}{kind}{}",
        key.history,
        key.piece,
        key.digest,
        key.coding.suffix()
    )
}

/// What the keys of one piece, of whatever content, begin with.
pub fn piece_prefix(history: &Label, piece: &Label) -> String {
    format!("{LOG}{history}/{piece}-")
}

/// The piece that a key stands for.
pub fn piece_of(key: &str) -> Option<PieceKey> {
    let (history, name) = key.strip_prefix(LOG)?.split_once('/')?;
    let (name, coding) = Coding::strip(name)?;
    let (name, kind) = match name.split_once('.') {
        Some((name, kind)) => (name, PieceKind::from_suffix(kind)?),
        None => (name, PieceKind::Whole),
    };
    let (piece, digest) = name.rsplit_once('-')?;
    Some(PieceKey {
        history: history.parse().ok()?,
        piece: piece.parse().ok()?,
        digest: digest.parse().ok()?,
        kind,
        coding,
    })
}

/// Key of a probe of the store.
pub fn probe(random: [u8; 8]) -> String {
    format!("probe/{}", crate::hex::hex(&random))
}

fn number(text: &str) -> Option<u32> {
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PieceDigest;
    use proptest::prelude::*;

    fn label() -> impl Strategy<Value = Label> {
        "[A-Za-z0-9_-]{1,40}".prop_map(|text| text.parse().unwrap())
    }

    prop_compose! {
        fn piece_key()(
            history in label(), piece in label(), bytes in any::<[u8; 32]>(), keyed in any::<bool>(),
            kind in prop::sample::select(vec![PieceKind::Whole, PieceKind::Partial, PieceKind::Lineage]),
            encrypted in any::<bool>(),
        ) -> PieceKey {
            let coding = if encrypted { Coding::ZstdAge } else { Coding::Zstd };
            PieceKey { history, piece, digest: PieceDigest::new(bytes, keyed), kind, coding }
        }
    }

    proptest! {
        #[test]
        fn a_piece_is_found_by_its_key(key in piece_key()) {
            let text = piece(&key);
            prop_assert!(text.starts_with(&piece_prefix(&key.history, &key.piece)));
            prop_assert_eq!(piece_of(&text), Some(key));
        }

        #[test]
        fn numbers_sort_as_keys(a in any::<u16>(), b in any::<u16>()) {
            let (a, b) = (u32::from(a), u32::from(b));
            prop_assert_eq!(a.cmp(&b), owner(a).cmp(&owner(b)));
            prop_assert_eq!(owner_number(&owner(a)), Some(a));
        }

        #[test]
        fn any_text_is_a_key_or_none(text in ".{0,60}") {
            // Nothing panics, and nothing foreign is taken for ours.
            for key in [text.clone(), format!("log/{text}"), format!("backups/{text}"), format!("owner/{text}")] {
                if let Some(found) = piece_of(&key) {
                    prop_assert_eq!(piece(&found), key.clone());
                }
                if let Some(number) = owner_number(&key) {
                    prop_assert_eq!(owner(number), key.clone());
                }
                let _ = (backup_of(&key), origin_of(&key));
            }
        }
    }

    #[test]
    fn keys_as_documented() {
        let id: BackupId = "20260102t030405z-0011223344556677".parse().unwrap();
        assert_eq!(owner(1), "owner/00000001.json");
        assert_eq!(
            data(&id, 1, Coding::ZstdAge),
            format!("backups/{id}/data/000001.zst.age")
        );
        assert_eq!(backup_of(&manifest(&id)), Some((id, "manifest.json")));
        assert_eq!(origin_of("log/2-ab/origin.json").unwrap().as_str(), "2-ab");
        assert_eq!(owner_number("owner/1.json"), None);
    }

    #[test]
    fn keys_are_kept_once_for_each_set_of_escrow() {
        let of = |escrow: &[&str]| {
            keys(
                "age1x",
                &escrow
                    .iter()
                    .map(|&text| text.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["a"]), of(&["a", "b"]));
        assert!(of(&["a"]).starts_with("keys/age1x-"));
    }

    #[test]
    fn labels_stay_in_their_folder() {
        for bad in ["", "..", "a/b", "a.b", "é", &"a".repeat(121)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }
}
