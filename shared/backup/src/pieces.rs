//! Pieces of an engine's log, which it ships between backups. Pure.
//!
//! An engine numbers its log in pieces of its own naming; names sort as the log goes. A *history* is one
//! unbroken run of it: whoever takes over, or goes back in time, begins a history of its own, and says
//! once where it parted from which other ([`Origin`]). So two writers never use one key, and what a
//! stale one still ships harms nobody.
//!
//! A piece's key has the digest of its content: the same content again is the same key, which makes
//! shipping twice harmless; another content under the same name is seen ([`judge`]) and kept beside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex::{hex, is_hex};
use crate::layout::{Coding, Label};

/// What a piece is. The engine says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PieceKind {
    /// A piece that is full: recovery replays it.
    Whole,
    /// The beginning of a piece, as far as a history got that was left: stored, never used by itself.
    Partial,
    /// A small file of the engine about how histories descend from each other.
    Lineage,
}

impl PieceKind {
    /// The kind that a key's ending names. [`Self::Whole`] has none.
    pub fn from_suffix(text: &str) -> Option<Self> {
        match text {
            "partial" => Some(Self::Partial),
            "lineage" => Some(Self::Lineage),
            _ => None,
        }
    }
}

impl fmt::Display for PieceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Lineage => "lineage",
        })
    }
}

/// Digest of a piece's plain content. Where the repository is encrypted it is keyed, so that nobody
/// without the key can tell whether a piece has a content that he guesses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceDigest {
    text: String,
    keyed: bool,
}

impl PieceDigest {
    /// The first half of a SHA-256, or of a HMAC of it.
    pub fn new(bytes: [u8; 32], keyed: bool) -> Self {
        Self {
            text: hex(&bytes[..16]),
            keyed,
        }
    }

    /// Whether it is keyed. Digests of different kinds say nothing about each other.
    pub fn keyed(&self) -> bool {
        self.keyed
    }
}

impl fmt::Display for PieceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.keyed { 'k' } else { 'p' }, self.text)
    }
}

/// A text that is not a piece's digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the digest of a piece: `k` or `p` and 32 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for PieceDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let keyed = match text.as_bytes().first() {
            Some(b'k') => true,
            Some(b'p') => false,
            _ => return Err(NotADigest),
        };
        let text = &text[1..];
        if text.len() != 32 || !is_hex(text) {
            return Err(NotADigest);
        }
        Ok(Self {
            text: text.to_owned(),
            keyed,
        })
    }
}

/// What tells one piece's object from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceKey {
    /// The history.
    pub history: Label,
    /// The piece, by the engine's name for it.
    pub piece: Label,
    /// Digest of its content.
    pub digest: PieceDigest,
    /// What it is.
    pub kind: PieceKind,
    /// How it is stored.
    pub coding: Coding,
}

/// Where a history comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The history that it parted from; none for the first.
    pub parent: Option<Parent>,
}

/// A point in another history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The other history.
    pub history: Label,
    /// The piece of it within which they part: the last one that both may need.
    pub at: Label,
}

/// What is to be done with a piece, given those of the same name that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing of this name: store it.
    New,
    /// Its content is there: nothing to do.
    There,
    /// There is one whose digest is of the other kind: only its content tells.
    Compare(PieceKey),
    /// Another content has this name: two writers, or a log that was written twice. Both are kept, and
    /// shipping must stop until a person has looked.
    Diverged(PieceKey),
}

/// Judges a piece that is to be stored. `there`: pieces of the same history and name.
pub fn judge(new: &PieceKey, there: &[PieceKey]) -> Judgement {
    let same_kind: Vec<&PieceKey> = there
        .iter()
        .filter(|old| old.kind == new.kind && old.history == new.history && old.piece == new.piece)
        .collect();
    if same_kind.iter().any(|old| old.digest == new.digest) {
        return Judgement::There;
    }
    // A piece that was left part of the way may have been left twice, further the second time.
    if new.kind == PieceKind::Partial {
        return Judgement::New;
    }
    let comparable = same_kind
        .iter()
        .find(|old| old.digest.keyed() == new.digest.keyed());
    match (comparable, same_kind.first()) {
        (Some(old), _) => Judgement::Diverged((*old).clone()),
        (None, Some(old)) => Judgement::Compare((*old).clone()),
        (None, None) => Judgement::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(content: u8, keyed: bool, kind: PieceKind) -> PieceKey {
        PieceKey {
            history: "1".parse().unwrap(),
            piece: "a".parse().unwrap(),
            digest: PieceDigest::new([content; 32], keyed),
            kind,
            coding: Coding::Zstd,
        }
    }

    #[test]
    fn the_same_content_is_there_whatever_else_is() {
        let new = key(1, true, PieceKind::Whole);
        assert_eq!(judge(&new, &[]), Judgement::New);
        let all = [
            key(2, true, PieceKind::Whole),
            new.clone(),
            key(3, false, PieceKind::Whole),
        ];
        assert_eq!(judge(&new, &all), Judgement::There);
    }

    #[test]
    fn another_content_is_a_divergence_only_where_digests_can_be_compared() {
        let new = key(1, true, PieceKind::Whole);
        let other = key(2, true, PieceKind::Whole);
        assert_eq!(
            judge(&new, std::slice::from_ref(&other)),
            Judgement::Diverged(other)
        );
        let plain = key(2, false, PieceKind::Whole);
        assert_eq!(
            judge(&new, std::slice::from_ref(&plain)),
            Judgement::Compare(plain)
        );
        assert_eq!(
            judge(&new, &[key(2, true, PieceKind::Lineage)]),
            Judgement::New
        );
    }

    #[test]
    fn partial_pieces_may_differ() {
        let there = [
            key(2, true, PieceKind::Partial),
            key(2, true, PieceKind::Whole),
        ];
        assert_eq!(
            judge(&key(1, true, PieceKind::Partial), &there),
            Judgement::New
        );
    }
}
